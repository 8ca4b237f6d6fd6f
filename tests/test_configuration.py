"""Configurations: round trips, presets, and what they refuse."""

import copy
import dataclasses
import json
import math
import re
from typing import get_args

import pytest
import torch
from tiny_models import BACKBONES, FAMILIES, tiny_config, tiny_ctr_config, tiny_text_config
from transformers import AutoConfig, RobertaConfig

from clickprompt_hf import ClickPromptConfig, CTRConfig
from clickprompt_hf.modeling_ctr import backbone_class
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
        # the type first, then the range
        ({"prompt_length": 2.5}, r"`prompt_length` must be an integer, got 2\.5"),
        ({"prompt_dropout": "0.1"}, r"`prompt_dropout` must be a number, got '0\.1'"),
        ({"fusion_alpha": None}, "`fusion_alpha` must be a number, got None"),
        ({"learn_fusion_alpha": "yes"}, "`learn_fusion_alpha` must be True or False, got 'yes'"),
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
        ({"max_values": [1]}, r"`max_values` must have one entry per field \(3\), got 1"),
        ({"dnn_dropout": "much"}, "`dnn_dropout` must be a number, got 'much'"),
        ({"embedding_size": 4.0}, r"`embedding_size` must be an integer, got 4\.0"),
        ({"dnn_hidden_sizes": 8}, "`dnn_hidden_sizes` must be a list of integers, got 8"),
        ({"first_order": 1}, "`first_order` must be True or False, got 1"),
        ({"feed_forward_size": "4"}, "`feed_forward_size` must be an integer or None, got '4'"),
        ({"bilinear_kind": "some"}, r"`bilinear_kind` must be one of \('all', 'each', 'interaction'\), got 'some'"),
    ],
)
def test_impossible_backbones_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_ctr_config(**options)


def test_options_name_fields_and_values_that_exist():
    """Commands derive their flags and the warnings about unused ones from this metadata."""
    for config in (CTRConfig, ClickPromptConfig):
        types = {field.name: field.type for field in dataclasses.fields(config)}
        for field in dataclasses.fields(config):
            for name, values in field.metadata.get("needs", {}).items():
                assert set(values) <= set(BACKBONES if name == "backbone" else get_args(types[name])), field.name


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_backbone_reads_the_options_that_say_they_need_it(backbone):
    read = set()

    class Watched(CTRConfig):
        model_type = "watched"

        def __getattribute__(self, name):
            read.add(name)
            return super().__getattribute__(name)

    config = Watched(**tiny_ctr_config(backbone).to_dict())
    read.clear()
    with torch.device("meta"):
        backbone_class(backbone)(config).make_head()
    options = {
        field.name: field.metadata["needs"] for field in dataclasses.fields(CTRConfig) if "needs" in field.metadata
    }
    needing = {name for name, needs in options.items() if needs and backbone in needs["backbone"]}
    assert {name for name in read & options.keys() if options[name]} == needing


def test_a_default_configuration_is_valid():
    assert isinstance(ClickPromptConfig().text_config, RobertaConfig)


WRONG_VALUES = (
    *("", "x", None, True, False, 0, -1, 1, 2.5, 1e30, 10**12, math.nan, math.inf, -math.inf, b"x", 1j, object()),
    *([], [None], ["a"], [1.5], [-1], [10**12], [True], [[1]], {}, {"a": 1}, (1,)),
)


def declared(config_class):
    return [field.name for field in dataclasses.fields(config_class) if "range" in field.metadata]


def build_with(config_class, name, value):
    if config_class is CTRConfig:
        return CTRConfig(**{"field_sizes": [3, 4], name: value})
    parts = {"text_config": tiny_text_config(), "ctr_config": tiny_ctr_config()}
    return ClickPromptConfig(**{**parts, name: value})


@pytest.mark.parametrize("config_class", [CTRConfig, ClickPromptConfig])
def test_every_value_is_right_or_refused_by_name(config_class, tmp_path):
    """Whether it is given in Python or stands in `config.json`."""
    refused = 0
    for name in declared(config_class):
        for value in WRONG_VALUES:
            try:
                config = build_with(config_class, name, value)
            except ValueError as error:
                if not re.search(rf"`{name}`.* must .*, got ", str(error)):
                    pytest.fail(f"{name}={value!r}: {error}")
                refused += 1
            else:
                # what is accepted can be saved and read again
                assert config_class.from_dict(json.loads(config.to_json_string(use_diff=False))).to_dict()
    assert refused > 15 * len(declared(config_class))


def test_values_in_a_file_are_refused_by_name(tmp_path):
    tiny_config().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    for part, name, value in (
        *((None, name, value) for name in declared(ClickPromptConfig) for value in ([[1]], 1e30, {"a": [1]}, [None])),
        *(("ctr_config", name, value) for name in declared(CTRConfig) for value in ([[1]], 1e30, {}, [None], False)),
        *(("text_config", name, value) for name in NUMBERS_OF_PLM for value in ("x", -1, math.nan, [1], {}, 10**12)),
        *((part, "dtype", value) for part in (None, "text_config", "ctr_config") for value in ("float33", 5, "int64")),
        *((part, "id2label", value) for part in (None, "text_config", "ctr_config") for value in ("x", 5, [1])),
        *((None, name, value) for name in ("architectures", "return_dict") for value in ("x", 5, {}, [5])),
        *((None, name, value) for name in ("text_config", "ctr_config") for value in ("x", 5, [1], True)),
    ):
        if name in ("backbone", "training_data", "first_order") or (part is None and name == "tie_word_embeddings"):
            continue
        changed = copy.deepcopy(content)
        (changed if part is None else changed[part])[name] = value
        path.write_text(json.dumps(changed))
        if isinstance(value, bool) and build_is_fine(path.parent):
            continue
        if name in ("text_config", "ctr_config") and isinstance(value, dict):
            continue
        with pytest.raises(ValueError, match=rf"['`]{name}['`]"):
            ClickPromptConfig.from_pretrained(tmp_path)


NUMBERS_OF_PLM = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
NUMBERS_OF_PLM += ("layer_norm_eps", "hidden_dropout_prob", "initializer_range")


def build_is_fine(folder) -> bool:
    try:
        ClickPromptConfig.from_pretrained(folder)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("content", ["", "[1]", "5", '"x"', "null", "{", "{}", '{"model_type": 5}'])
def test_files_that_are_not_configurations_are_named(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises((OSError, ValueError), match=rf"{tmp_path}|config\.json"):
        ClickPromptConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_numbers_of_every_family_of_plms_are_checked(family):
    good = tiny_text_config(family).to_dict()
    ClickPromptConfig(text_config=good, ctr_config=tiny_ctr_config())
    checked = 0
    for name, value in good.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            continue
        wrong = [math.nan, math.inf] if isinstance(value, float) else []
        wrong += [0.0, -1e-5] if re.search("eps", name) else []
        wrong += [-0.1, 1.5] if "dropout" in name or "pdrop" in name else []
        for number in wrong:
            with pytest.raises(ValueError, match=rf"(?s)`text_config` must be .*{number}"):
                ClickPromptConfig(text_config={**good, name: number}, ctr_config=tiny_ctr_config())
            checked += 1
    assert checked >= 4


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("max_text_length", "The limit of texts is an argument of ClickPromptProcessor"),
        ("causal", ""),
        ("hidden_size", ""),
    ],
)
def test_what_follows_from_other_settings_cannot_be_given(name, advice):
    with pytest.raises(ValueError, match=f"`{name}` follows from other settings and must be left out.*{advice}"):
        ClickPromptConfig(ctr_config=tiny_ctr_config(), fusion="ctr", **{name: 40})
