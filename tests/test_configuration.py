"""Configurations: round trips, presets, and what they refuse."""

import pytest
from tiny_models import tiny_config, tiny_ctr_config, tiny_text_config
from transformers import AutoConfig, RobertaConfig

from clickprompt_hf import ClickPromptConfig, CTRConfig
from clickprompt_hf.presets import ctr_preset


@pytest.mark.parametrize("family", ["roberta", "bert"])
def test_round_trip_keeps_the_sub_configurations(family, tmp_path):
    config = tiny_config(family, fusion="weighted", fusion_alpha=0.25, training_data={"split_seed": 7})
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, ClickPromptConfig)
    assert isinstance(loaded.ctr_config, CTRConfig)
    assert loaded.text_config.model_type == family
    assert (loaded.fusion, loaded.fusion_alpha, loaded.training_data) == ("weighted", 0.25, {"split_seed": 7})
    for loaded_part, part in ((loaded.ctr_config, config.ctr_config), (loaded.text_config, config.text_config)):
        assert {**loaded_part.to_dict(), "dtype": None} == {**part.to_dict(), "dtype": None}


def test_ctr_config_round_trip(tmp_path):
    tiny_ctr_config("deepfm", max_values=[1, 2, 1]).save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, CTRConfig)
    assert (loaded.backbone, loaded.max_values, loaded.num_columns) == ("deepfm", [1, 2, 1], 4)


def test_without_a_plm_there_is_no_text_config(tmp_path):
    ClickPromptConfig(ctr_config=tiny_ctr_config(), text_config=tiny_text_config(), fusion="ctr").save_pretrained(
        tmp_path
    )
    loaded = ClickPromptConfig.from_pretrained(tmp_path)
    assert loaded.text_config is None
    assert not loaded.use_plm
    with pytest.raises(ValueError, match="use_plm=True"):
        ClickPromptConfig.from_pretrained(tmp_path, use_plm=True)


def test_positions_left_for_text():
    # RoBERTa's positions start after the padding id: 40 - 2 - 3 prompts
    assert tiny_config("roberta").max_text_length == 35
    assert tiny_config("bert").max_text_length == 37
    assert tiny_config("bert", prompt_strategy="none").max_text_length == 40


def test_published_presets():
    config = ctr_preset("dcnv2", "goodreads", field_sizes=[3, 4], num_cross_layers=2)
    assert (config.embedding_size, config.dnn_hidden_sizes, config.num_cross_layers) == (16, [512] * 6, 2)
    assert ctr_preset("deepfm", "bookcrossing").first_order is False
    for names, message in ((("nothing", "ml-1m"), "backbone"), (("fm", "nowhere"), "dataset")):
        with pytest.raises(ValueError, match=message):
            ctr_preset(*names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_length": 0}, "`prompt_length` must be at least 1, got 0"),
        ({"prompt_length": 38}, "`prompt_length` must leave at least one of the PLM's 38 positions"),
        ({"fusion": "product"}, "`fusion` must be one of .*'product'"),
        ({"fusion_alpha": 1.5}, r"`fusion_alpha` must be in \[0, 1\], got 1.5"),
        ({"pooling": "max"}, "`pooling` must be one of"),
        ({"prompt_strategy": "deep"}, "`prompt_strategy` must be one of"),
        ({"prompt_encoder": "mlp"}, "`prompt_encoder` must be one of"),
    ],
)
def test_impossible_models_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ClickPromptConfig(**{"text_config": tiny_text_config(), "ctr_config": tiny_ctr_config(), **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding_size": 0}, "`embedding_size` must be at least 1, got 0"),
        ({"field_sizes": [3, 0]}, "`field_sizes` must hold numbers of at least 1"),
        ({"dnn_dropout": 1.0}, r"`dnn_dropout` must be in \[0, 1\)"),
        ({"max_values": [1]}, r"`max_values` must have one entry a field \(3\), got 1"),
    ],
)
def test_impossible_backbones_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_ctr_config(**options)


def test_a_default_configuration_is_valid():
    assert isinstance(ClickPromptConfig().text_config, RobertaConfig)
