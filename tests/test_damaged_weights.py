"""Checkpoints whose weights are not whole or not right are refused in every way of loading, by file and tensor."""

import json
import logging
import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_loading import ROWS, save, tiny_processor
from tiny_data import tiny_roberta_tokenizer
from tiny_models import tiny_batch, tiny_config, tiny_ctr_config, tiny_text_config
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    pipeline,
)

from clickprompt_hf import (
    ClickPromptConfig,
    ClickPromptForCTR,
    ClickPromptForPAMLM,
    ClickPromptModel,
    ClickPromptPipeline,
    ClickPromptProcessor,
)
from clickprompt_hf.export.export_ctr import load_ctr
from clickprompt_hf.loading_clickprompt import FreshHeadsWarning, find_weights, fingerprints
from clickprompt_hf.plm_loading import load_pretrained
from clickprompt_hf.runs import model_building
from clickprompt_hf.runs.arguments import ModelArguments
from clickprompt_hf.runs.model_building import load_checkpoint
from clickprompt_hf.runs.predict import load_model
from clickprompt_hf.scoring.table_scoring import score_table
from clickprompt_hf.training import ClickPromptTrainingArguments

WEIGHTS = "model.safetensors"
EMBEDDING, LAYER = "clickprompt.ctr.embedding.table.weight", "clickprompt.plm.encoder.layer.1."
SHORT = EMBEDDING.removeprefix("clickprompt.")
WAYS = {
    "class": ClickPromptForCTR.from_pretrained,
    "auto": AutoModelForSequenceClassification.from_pretrained,
    "remote": lambda folder: AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True),
    "trunk": AutoModel.from_pretrained,
    "pipeline": lambda folder: pipeline("ctr-prediction", model=str(folder)),
    "predict": lambda folder: load_model(str(folder)),
    "export": lambda folder: load_ctr(str(folder)),
}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_length": 4}, r"other options .*: `prompt_length` 4 instead of 3\. Leave them out"),
        (
            {"ctr_config": tiny_ctr_config(embedding_size=5)},
            r"`ctr_config.embedding_size` 5 instead of ",
        ),
        ({"text_config": tiny_text_config(num_hidden_layers=1)}, r"`text_config.num_hidden_layers` 1 instead of 2"),
    ],
)
@pytest.mark.parametrize("as_config", [False, True])
def test_options_that_contradict_the_checkpoint_are_named(options, message, as_config, tmp_path):
    ClickPromptForCTR(tiny_config()).save_pretrained(tmp_path)
    whole = {"text_config": tiny_text_config(), "ctr_config": tiny_ctr_config(), "prompt_length": 3}
    whole["initializer_range"] = 0.2
    given = {"config": ClickPromptConfig(**{**whole, **options})} if as_config else options
    with pytest.raises(ValueError, match=message) as refused:
        ClickPromptForCTR.from_pretrained(tmp_path, **given)
    assert "damaged" not in str(refused.value)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A click checkpoint, one for pretraining, and one that differs from the first in its text head only."""
    folder = tmp_path_factory.mktemp("saved")
    processor = tiny_processor(tiny_roberta_tokenizer())
    save(folder / "ctr", ClickPromptForCTR, processor)
    save(folder / "pamlm", ClickPromptForPAMLM, processor)
    other = ClickPromptForCTR.from_pretrained(folder / "ctr")
    with torch.no_grad():
        other.text_head.output.bias.add_(1)
    other.save_pretrained(folder / "other")
    return folder


@pytest.fixture
def checkpoint(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved / "ctr", tmp_path / "ctr"))


@pytest.fixture
def reports():
    """What transformers logs while models are loaded."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def edit_weights(folder: Path, edit) -> None:
    weights = load_file(folder / WEIGHTS)
    edit(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def edit_config(folder: Path, **values) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name, value in values.items():
        part, _, key = name.partition("__")
        if key:
            config[part][key] = value
        elif value is None:
            del config[name]
        else:
            config[name] = value
    path.write_text(json.dumps(config))


def without(*starts: str):
    def edit(weights):
        for key in [key for key in weights if key.startswith(starts)]:
            del weights[key]

    return edit


def with_nan(key: str, value: float = float("nan")):
    def edit(weights):
        weights[key].view(-1)[-1] = value

    return edit


def replaced(key: str, change):
    def edit(weights):
        weights[key] = change(weights[key])

    return edit


DAMAGES = {
    "no text head": (without("text_head."), r"lacks \['text_head.dense.bias"),
    "no CTR head": (without("ctr_head."), r"lacks \['ctr_head.output.bias"),
    "no embedding": (without(EMBEDDING), rf"lacks \['\S*{SHORT}"),
    "no layer": (without(LAYER), r"lacks \['\S*layer.1.attention\S+ .* and 10 more"),
    "no prompts": (without("clickprompt.prompt_encoder."), r"lacks \['\S*prompt_encoder\."),
    "NaN in the PLM": (
        with_nan(f"{LAYER}output.dense.weight"),
        r"NaN or infinity is in \S*layer.1.output.dense.weight",
    ),
    "NaN in an embedding": (with_nan(EMBEDDING), rf"NaN or infinity is in \S*{SHORT}"),
    "infinity": (with_nan(EMBEDDING, float("-inf")), rf"NaN or infinity is in \S*{SHORT}"),
    "integers": (replaced(EMBEDDING, lambda table: (table * 100).long()), rf"types, but does not: \S*{SHORT} \(I64\)"),
    "another shape": (
        replaced(EMBEDDING, lambda table: table[:-1].clone()),
        rf"shapes \[.\S*{SHORT} \[\d+, 4\] instead of",
    ),
    "one number": (with_nan(EMBEDDING, 0.25), "those of ctr differ"),
}


@pytest.mark.parametrize("has_fingerprints", [True, False])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights_are_refused(damage, has_fingerprints, checkpoint):
    edit, message = DAMAGES[damage]
    edit_weights(checkpoint, edit)
    if not has_fingerprints:
        # as in checkpoints of earlier versions
        edit_config(checkpoint, weights_fingerprints=None)
        if damage == "one number":
            ClickPromptForCTR.from_pretrained(checkpoint)
            return
    for way, load in WAYS.items():
        # the trunk has no heads, the exported part has no PLM
        if (way == "trunk" and "head" in message) or (
            way == "export" and re.search("text_head|layer|prompt", message)
        ):
            continue
        with pytest.raises(ValueError, match=rf"{re.escape(str(checkpoint / WEIGHTS))} must hold .*{message}"):
            load(checkpoint)


CONFIGS = {
    "fewer layers": ({"text_config__num_hidden_layers": 1}, rf"{WEIGHTS} must hold .* also has \['{LAYER}"),
    "more layers": (
        {"text_config__num_hidden_layers": 3},
        rf"{WEIGHTS} must hold .* lacks \['clickprompt\.plm\.\S+layer\.2",
    ),
    "wider": ({"ctr_config__embedding_size": 8}, rf"{WEIGHTS} must hold .* has the shapes \['clickprompt\.ctr"),
    "zero eps": ({"text_config__layer_norm_eps": 0.0}, "`layer_norm_eps` in `text_config` must be above 0, got 0.0"),
    "negative eps": ({"text_config__layer_norm_eps": -1.0}, "`layer_norm_eps` in `text_config` must be above 0"),
    "NaN eps": ({"text_config__layer_norm_eps": float("nan")}, "`layer_norm_eps` in `text_config` must be finite"),
    "eps as text": ({"text_config__layer_norm_eps": "small"}, "(?s)`text_config` must be .*'layer_norm_eps'"),
    "no layers": (
        {"text_config__num_hidden_layers": 0},
        "`num_hidden_layers` in `text_config` must be a number from 1",
    ),
    "dropout": (
        {"text_config__hidden_dropout_prob": 2.0},
        r"`hidden_dropout_prob` in `text_config` must be in \[0, 1\]",
    ),
    "activation": ({"text_config__hidden_act": "swash"}, "`hidden_act` in `text_config` must be one of"),
    "padding": ({"text_config__pad_token_id": 10**6}, "`pad_token_id` in `text_config` must be below `vocab_size`"),
    "type": ({"dtype": "float33"}, "`dtype` must be one of"),
    "fingerprints": ({"weights_fingerprints": "abc"}, "`weights_fingerprints` in config.json must be a mapping"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_that_do_not_fit_the_weights_are_refused(name, checkpoint):
    changes, message = CONFIGS[name]
    edit_config(checkpoint, **changes)
    for load in (WAYS["class"], WAYS["auto"], WAYS["pipeline"]):
        with pytest.raises(ValueError, match=message):
            load(checkpoint)


@pytest.mark.parametrize("file", ["config.json", WEIGHTS])
def test_files_of_another_checkpoint_of_the_same_sizes_are_refused(file, saved, checkpoint):
    shutil.copyfile(saved / "other" / file, checkpoint / file)
    for way, load in WAYS.items():
        if way in ("trunk", "export"):
            # the parts that these load are the same in both
            load(checkpoint)
            continue
        with pytest.raises(ValueError, match=rf"{WEIGHTS} must hold the weights that config.json .* text_head differ"):
            load(checkpoint)


def test_a_pretraining_checkpoint_starts_finetuning_with_a_warning_but_does_not_score(saved, tmp_path):
    with pytest.warns(UserWarning, match=r"pamlm/model\.safetensors was saved without ctr_head\.\S+, .* initialized"):
        model = ClickPromptForCTR.from_pretrained(saved / "pamlm")
    assert model.fresh_weights == tuple(
        sorted(key for key in model.state_dict() if key.startswith(("ctr_head", "text_head")))
    )
    processor = tiny_processor(tiny_roberta_tokenizer())
    with pytest.raises(ValueError, match="must be finetuned for clicks"):
        ClickPromptPipeline(model, processor)
    # a loss of the record of its class does not make it a click model
    edited = Path(shutil.copytree(saved / "pamlm", tmp_path / "edited"))
    edit_config(edited, architectures=None, weights_fingerprints=None)
    with (
        pytest.warns(UserWarning, match="randomly initialized"),
        pytest.raises(ValueError, match=r"was saved without ctr_head"),
    ):
        pipeline("ctr-prediction", model=str(edited))
    # the CTR part alone, and after training and saving
    with pytest.warns(UserWarning, match=r"without ctr_head\.output\.bias, ctr_head\.output\.weight, which"):
        ClickPromptForCTR.from_pretrained(saved / "pamlm", use_plm=False)
    model.save_pretrained(tmp_path / "trained")
    assert model.fresh_weights == ()
    ClickPromptPipeline(model, processor)(ROWS)


@pytest.mark.parametrize("use_plm", [True, False])
def test_finetuning_expects_the_heads_that_pretraining_never_has(use_plm, saved, tmp_path, reports):
    folder = Path(shutil.copytree(saved / "pamlm", tmp_path / "pamlm"))
    edit_config(folder, training_data={"dataset": "csv"})

    def load(folder, **options):
        config, _ = load_checkpoint(str(folder), ModelArguments(**options), use_plm)
        return model_building.load_model(ClickPromptForCTR, str(folder), config, args)

    args = ClickPromptTrainingArguments(str(tmp_path / "out"), report_to="none")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(folder, fusion="weighted" if use_plm else None).fresh_weights
    # users of the library learn of them, once
    with pytest.warns(FreshHeadsWarning, match="was saved without ctr_head"):
        ClickPromptForCTR.from_pretrained(folder)
    assert reports == []
    if use_plm:
        # a finetuned checkpoint has heads; another fusion adds a weight
        finetuned = Path(shutil.copytree(saved / "ctr", tmp_path / "ctr"))
        edit_config(finetuned, training_data={"dataset": "csv"})
        with pytest.warns(UserWarning, match=r"was saved without fusion\.alpha") as told:
            load(finetuned, fusion="weighted")
        assert [warning.category for warning in told] == [UserWarning]
    edit_config(folder, weights_fingerprints=None)
    edit_weights(folder, without(EMBEDDING))
    with pytest.raises(ValueError, match=rf"lacks \['{EMBEDDING}"):
        load(folder)


def test_the_library_reports_fresh_heads_once_and_as_missing(saved, reports):
    with pytest.warns(FreshHeadsWarning) as told:
        model, info = ClickPromptForCTR.from_pretrained(saved / "pamlm", output_loading_info=True)
    assert len(told) == 1
    assert reports == []
    assert info["missing_keys"] == set(model.fresh_weights)


def test_a_plm_is_loaded_without_a_report_unless_its_layers_have_surplus_weights(tmp_path, reports):
    from transformers import RobertaForMaskedLM

    RobertaForMaskedLM(tiny_text_config()).save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ClickPromptForCTR.from_plm_pretrained(tmp_path, tiny_ctr_config())
        ClickPromptForPAMLM.from_plm_pretrained(tmp_path, tiny_ctr_config())
    assert reports == []
    edit_config(tmp_path, num_hidden_layers=1)
    surplus = r"weights that RobertaModel with its configuration does not use: .*encoder\.layer\.1\.attention"
    with pytest.warns(UserWarning, match=surplus):
        ClickPromptForCTR.from_plm_pretrained(tmp_path, tiny_ctr_config())
    # shapes that do not fit are shown by transformers' report, which its error refers to
    edit_config(tmp_path, intermediate_size=20)
    with pytest.raises(RuntimeError, match="details look at the above report"):
        load_pretrained(AutoModel, tmp_path)
    assert len(reports) == 1
    assert "MISMATCH" in reports[0]


def test_missing_and_surplus_weights_that_are_accepted(saved, checkpoint):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for load in (
            lambda: AutoModel.from_pretrained(checkpoint),
            lambda: ClickPromptModel.from_pretrained(saved / "pamlm"),
            lambda: ClickPromptForCTR.from_pretrained(checkpoint, use_plm=False),
            lambda: ClickPromptForCTR.from_pretrained(checkpoint, fusion="text"),
            lambda: ClickPromptForCTR.from_pretrained(checkpoint, dtype=torch.bfloat16),
        ):
            assert load().fresh_weights == ()
    with pytest.warns(UserWarning, match="without lm_head"):
        AutoModelForMaskedLM.from_pretrained(checkpoint)
    with pytest.warns(UserWarning, match=r"without fusion\.alpha, which are now randomly initialized"):
        assert ClickPromptForCTR.from_pretrained(checkpoint, fusion="weighted").fresh_weights == ("fusion.alpha",)
    edit_config(checkpoint, weights_fingerprints=None)
    edit_weights(checkpoint, DAMAGES["another shape"][0])
    with pytest.warns(UserWarning, match=rf"without {EMBEDDING}"):
        model = ClickPromptForCTR.from_pretrained(checkpoint, ignore_mismatched_sizes=True)
    assert EMBEDDING in model.fresh_weights


def test_finetuning_refuses_a_damaged_pretraining_checkpoint(saved, tmp_path):
    folder = Path(shutil.copytree(saved / "pamlm", tmp_path / "pamlm"))
    edit_config(folder, training_data={"dataset": "csv"}, weights_fingerprints=None)
    edit_weights(folder, without(LAYER))
    config, _ = load_checkpoint(str(folder), ModelArguments(), use_plm=True)
    with pytest.raises(ValueError, match=rf"lacks \['{LAYER}"):
        ClickPromptForCTR.from_pretrained(folder, config=config)


def test_a_damaged_plm_is_refused(tmp_path):
    from transformers import RobertaForMaskedLM

    RobertaForMaskedLM(tiny_text_config()).save_pretrained(tmp_path)
    build = ClickPromptForCTR.from_plm_pretrained
    build(tmp_path, tiny_ctr_config())
    edit_weights(tmp_path, without("roberta.encoder.layer.1."))
    with pytest.raises(
        ValueError, match=rf"{tmp_path} must hold all weights of RobertaModel, but lacks encoder\.layer\.1"
    ):
        build(tmp_path, tiny_ctr_config())
    with pytest.raises(ValueError, match=r"lacks encoder\.layer\.1"):
        ClickPromptForPAMLM.from_plm_pretrained(tmp_path, tiny_ctr_config())
    RobertaForMaskedLM(tiny_text_config()).save_pretrained(tmp_path)
    edit_weights(tmp_path, with_nan("roberta.encoder.layer.0.output.dense.bias"))
    with pytest.raises(ValueError, match=rf"{tmp_path} must hold finite .* encoder\.layer\.0\.output\.dense\.bias"):
        build(tmp_path, tiny_ctr_config())


def test_fingerprints_survive_what_does_not_change_the_weights(checkpoint):
    model = ClickPromptForCTR.from_pretrained(checkpoint)
    recorded = json.loads((checkpoint / "config.json").read_text())["weights_fingerprints"]
    assert set(recorded) == {"ctr", "plm", "prompt_encoder", "ctr_head", "text_head"}
    # other metadata and order of the same tensors
    edit_weights(checkpoint, lambda weights: weights.update(reversed(list(weights.items()))))
    ClickPromptForCTR.from_pretrained(checkpoint)
    # shards, other types, and saved again from what was loaded
    for options in ({"max_shard_size": "10KB"}, {}):
        folder = checkpoint.with_name("again")
        model.save_pretrained(folder, **options)
        assert json.loads((folder / "config.json").read_text())["weights_fingerprints"] == recorded
        assert len(find_weights(folder)) > 3 if options else len(find_weights(folder)) == 1
        ClickPromptForCTR.from_pretrained(folder)
        shutil.rmtree(folder)
    ClickPromptForCTR.from_pretrained(checkpoint).half().save_pretrained(checkpoint)
    assert ClickPromptForCTR.from_pretrained(checkpoint).dtype == torch.float16
    assert fingerprints(find_weights(checkpoint)) != recorded
    # a configuration saved elsewhere makes no claim about weights
    ClickPromptConfig.from_pretrained(checkpoint).save_pretrained(checkpoint.with_name("config"))
    assert "weights_fingerprints" not in (checkpoint.with_name("config") / "config.json").read_text()


def test_weights_changed_on_purpose_are_accepted_as_the_error_says(checkpoint):
    edit_weights(checkpoint, with_nan(EMBEDDING, 0.25))
    with pytest.raises(ValueError, match="on purpose, remove `weights_fingerprints` from config.json"):
        ClickPromptForCTR.from_pretrained(checkpoint)
    edit_config(checkpoint, weights_fingerprints=None)
    ClickPromptForCTR.from_pretrained(checkpoint)


def test_parts_that_are_not_loaded_are_not_read(checkpoint):
    edit_weights(checkpoint, with_nan(f"{LAYER}output.dense.weight"))
    ClickPromptForCTR.from_pretrained(checkpoint, use_plm=False)


def test_large_weights_are_hashed_in_blocks(checkpoint, monkeypatch):
    whole = fingerprints(find_weights(checkpoint))
    for name, value in (("_MOST_BYTES_HASHED", 1024), ("_BLOCK_BYTES", 64), ("_BYTES_OF_BLOCKS", 4096)):
        monkeypatch.setattr(f"clickprompt_hf.loading_clickprompt.{name}", value)
    blocks = fingerprints(find_weights(checkpoint))
    assert blocks.keys() == whole.keys()
    assert blocks["plm"] != whole["plm"]
    # the first and the last bytes of a tensor always count
    for position in (0, -1):

        def edit(weights, position=position):
            weights[EMBEDDING].view(-1)[position] += 1

        edit_weights(checkpoint, edit)
        changed = fingerprints(find_weights(checkpoint))
        assert changed["ctr"] != blocks["ctr"]
        assert changed["plm"] == blocks["plm"]
        blocks = changed


@pytest.mark.parametrize(
    "name", ["../other/model.safetensors", "/etc/model.safetensors", "a/../../b", r"..\b", r"C:\b"]
)
def test_an_index_must_stay_in_its_folder(name, checkpoint):
    ClickPromptForCTR.from_pretrained(checkpoint).save_pretrained(checkpoint, max_shard_size="10KB")
    index = checkpoint / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"][EMBEDDING] = name
    index.write_text(json.dumps(content))
    for load in WAYS.values():
        with pytest.raises(
            ValueError, match=rf"index\.json must name files in its own folder, got {re.escape(repr(name))}"
        ):
            load(checkpoint)


def test_missing_and_damaged_shards_are_refused(checkpoint):
    ClickPromptForCTR.from_pretrained(checkpoint).save_pretrained(checkpoint, max_shard_size="10KB")
    index = checkpoint / "model.safetensors.index.json"
    shard = checkpoint / json.loads(index.read_text())["weight_map"][EMBEDDING]
    content, text = shard.read_bytes(), index.read_text()
    for damage, path in (
        (content[:-20], shard),
        (b"", shard),
        (None, shard),
        (b"{", index),
        (b"[1]", index),
        (b"{}", index),
    ):
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage)
        with pytest.raises((OSError, ValueError), match=re.escape(path.name)):
            WAYS["pipeline"](checkpoint)
        shard.write_bytes(content)
        index.write_text(text)
    WAYS["pipeline"](checkpoint)


def test_scores_that_are_not_numbers_are_refused(checkpoint):
    import pyarrow as pa

    score = pipeline("ctr-prediction", model=str(checkpoint))
    # finite, as loading checks, but their products are not
    with torch.no_grad():
        score.model.text_head.output.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match=rf"The click logits of {checkpoint} must be finite, got nan"):
        score(ROWS)
    with pytest.raises(ValueError, match=rf"The probabilities of {checkpoint} must be numbers, got NaN"):
        score_table(pa.table(ROWS), score.processor, score.model, batch_size=4)


def test_an_adapter_loads_on_its_checkpoint(tmp_path):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    ClickPromptForCTR(tiny_config()).save_pretrained(tmp_path / "base")
    base = ClickPromptForCTR.from_pretrained(tmp_path / "base")
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["query"], init_lora_weights=False)).eval()
    batch = tiny_batch()
    expected = adapted(**batch).logits
    adapted.save_pretrained(tmp_path / "adapter")
    loaded = ClickPromptForCTR.from_pretrained(tmp_path / "adapter").eval()
    torch.testing.assert_close(loaded(**batch).logits, expected)


PROCESSOR_VALUES = ("x", None, True, 0, -1, 1.5, [], [None], [["a"]], [[2, 1]], [[1], [2]], {}, {"fields": "x"})


@pytest.mark.parametrize("name", ["schema", "boundaries", "fingerprint", "reads_text", "max_text_length"])
def test_every_value_of_a_processor_is_right_or_refused_by_name(name, checkpoint):
    path = checkpoint / "processor_config.json"
    content = json.loads(path.read_text())
    for value in PROCESSOR_VALUES:
        path.write_text(json.dumps({**content, name: value}))
        if (name, value) in (("reads_text", True), ("max_text_length", None)):
            ClickPromptProcessor.from_pretrained(checkpoint)
        elif (name, value) == ("fingerprint", "x"):
            with pytest.raises(ValueError, match=r"processor_config\.json, whose fingerprint is x"):
                ClickPromptProcessor.from_pretrained(checkpoint)
        else:
            with pytest.raises(ValueError, match=rf"`{name}` in processor_config\.json must "):
                ClickPromptProcessor.from_pretrained(checkpoint)


def test_files_that_are_not_processors_are_named(checkpoint):
    path = checkpoint / "processor_config.json"
    content = json.loads(path.read_text())
    for damaged in ([1], "x", 5, None, {}, {**content, "schema": {**content["schema"], "label": 5}}):
        path.write_text(json.dumps(damaged))
        with pytest.raises((OSError, ValueError), match=r"processor_config\.json"):
            ClickPromptProcessor.from_pretrained(checkpoint)


def test_tensors_are_loaded_instead_of_those_in_the_files(tmp_path):
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(), fusion="ctr"))
    model.save_pretrained(tmp_path)
    others = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="`config` must be given with `state_dict`, got None"):
        ClickPromptForCTR.from_pretrained(tmp_path, state_dict=others)
    loaded = ClickPromptForCTR.from_pretrained(tmp_path, state_dict=others, config=model.config).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in others.items())
