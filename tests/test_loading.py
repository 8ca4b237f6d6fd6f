"""Checkpoints load without the package; damaged or foreign ones are refused."""

import ast
import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_data import tiny_gpt2_tokenizer, tiny_roberta_tokenizer, tiny_rows, tiny_schema
from tiny_models import tiny_ctr_config, tiny_text_config
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoProcessor,
    pipeline,
)
from transformers.dynamic_module_utils import get_relative_import_files, get_relative_imports

import clickprompt_hf
from clickprompt_hf import (
    ClickPromptConfig,
    ClickPromptForCTR,
    ClickPromptForPACLM,
    ClickPromptForPAMLM,
    ClickPromptModel,
    ClickPromptPipeline,
    ClickPromptProcessor,
    CTRBackbone,
    register_backbone,
)
from clickprompt_hf.modeling_ctr import BACKBONES

PACKAGE = Path(clickprompt_hf.__file__).parent
SHIPPING = sorted({path.name for path in PACKAGE.glob("[!_]*_*.py")} - {"public_names.py"})
SCRIPT = Path(__file__).parent / "without_package.py"
ROWS = {name: values for name, values in tiny_rows(7, seed=3).items() if name != "click"}


def tiny_processor(tokenizer=None) -> ClickPromptProcessor:
    return ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer, max_text_length=30)


def tiny_model(model_class, processor, family="roberta", backbone="dcnv2", **options):
    text_config = None
    if processor.reads_text:
        positions = {"gpt2": "n_positions"}.get(family, "max_position_embeddings")
        text_config = tiny_text_config(family, vocab_size=len(processor.tokenizer), **{positions: 130})
    torch.manual_seed(0)
    config = ClickPromptConfig(
        text_config=text_config,
        ctr_config=tiny_ctr_config(backbone, field_sizes=processor.field_sizes, max_values=processor.max_values),
        prompt_length=3,
        fusion="sum" if processor.reads_text else "ctr",
        **options,
    )
    return model_class(config).eval()


def save(folder: Path, model_class, processor, **options):
    model = tiny_model(model_class, processor, **options)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model


def batch_of(processor) -> dict[str, torch.Tensor]:
    return dict(processor(ROWS, return_tensors="pt"))


def put_into_hub_cache(folder: Path, hf_home: Path, repo_id: str) -> None:
    """Copies `folder` into the layout of huggingface_hub's download cache."""
    repo = hf_home / "hub" / f"models--{repo_id.replace('/', '--')}"
    commit = "0123456789" * 4
    snapshot = repo / "snapshots" / commit
    for part in (repo / "refs", repo / "blobs", snapshot):
        part.mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    for path in folder.iterdir():
        blob = repo / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copyfile(path, blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A folder of checkpoints, and their outputs in a process without the package."""
    folder = tmp_path_factory.mktemp("checkpoints")
    tokenizer = copy.deepcopy(tiny_gpt2_tokenizer())
    tokenizer.pad_token = tokenizer.eos_token
    with_text, decoders, without_text = (tiny_processor(t) for t in (tiny_roberta_tokenizer(), tokenizer, None))
    made = {
        "ctr": (save(folder / "ctr", ClickPromptForCTR, with_text), with_text),
        "pamlm": (save(folder / "pamlm", ClickPromptForPAMLM, with_text), with_text),
        "paclm": (save(folder / "paclm", ClickPromptForPACLM, decoders, family="gpt2"), decoders),
        "alone": (save(folder / "alone", ClickPromptForCTR, without_text, backbone="fgcnn"), without_text),
    }

    @register_backbone("mine")
    class Mine(CTRBackbone):
        interaction_size = 16

        def interact(self, embeddings, feature_ids):
            return embeddings.flatten(1)

    save(folder / "mine", ClickPromptForCTR, without_text, backbone="mine")
    del BACKBONES["mine"]
    put_into_hub_cache(folder / "ctr", folder / "home", "org/name")
    inputs: dict = {
        name: {key: values.tolist() for key, values in batch_of(processor).items()}
        for name, (_, processor) in made.items()
    }
    inputs["rows"] = [dict(zip(ROWS, row)) for row in zip(*ROWS.values())]
    (folder / "inputs.json").write_text(json.dumps(inputs))
    subprocess.run(
        [sys.executable, "-I", str(SCRIPT), str(folder)],
        env={**os.environ, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        cwd=folder,
        check=True,
        timeout=300,
    )
    return folder, made, json.loads((folder / "outputs.json").read_text())


def test_outputs_without_the_package_are_those_with_it(checkpoints):
    _, made, outputs = checkpoints
    assert outputs["imported"] == []
    for name, (model, processor) in made.items():
        with torch.no_grad():
            expected = model(**batch_of(processor))
        torch.testing.assert_close(torch.tensor(outputs[name]), expected.logits)
    model, processor = made["ctr"]
    with torch.no_grad():
        trunk, logits = model.clickprompt(**batch_of(processor)), model(**batch_of(processor)).logits
    torch.testing.assert_close(torch.tensor(outputs["trunk"]), trunk.last_hidden_state)
    for loaded in ("hub", "reloaded"):
        torch.testing.assert_close(torch.tensor(outputs[loaded]), logits)
    assert outputs["finetuned"] == "ClickPromptForCTR"


def test_the_pipeline_needs_no_package(checkpoints):
    _, made, outputs = checkpoints
    for name, model_name in (("name", "ctr"), ("ctr", "ctr"), ("again/ctr", "ctr"), ("alone", "alone")):
        model, processor = made[model_name]
        with torch.no_grad():
            expected = model(**batch_of(processor)).logits.sigmoid().squeeze(-1)
        found = [row["click_probability"] for row in outputs["scores"][name]]
        torch.testing.assert_close(torch.tensor(found), expected)


def test_what_is_saved_without_the_package_keeps_all_code(checkpoints):
    folder, _, _ = checkpoints
    model_code = PACKAGE / "modeling_clickprompt.py"
    of_the_model = sorted({model_code.name, *(Path(file).name for file in get_relative_import_files(model_code))})
    for name, code in (
        *((name, SHIPPING) for name in ("ctr", "alone", "pamlm", "paclm", "pipeline")),
        *(("config", ["configuration_clickprompt.py"]), ("hub", of_the_model)),
    ):
        again = folder / "again" / name
        assert sorted(path.name for path in again.glob("*.py")) == code
        for file in code:
            assert (again / file).read_bytes() == (PACKAGE / file).read_bytes()
        config = json.loads((again / "config.json").read_text())
        assert config["auto_map"] == json.loads((folder / "ctr" / "config.json").read_text())["auto_map"]
        assert "--" not in json.dumps([config["auto_map"], config["custom_pipelines"]])
    # with the package, it loads like any other
    model = AutoModelForSequenceClassification.from_pretrained(folder / "again" / "pipeline")
    assert type(model) is ClickPromptForCTR


def test_the_error_names_a_backbone_that_cannot_ship(checkpoints):
    folder, _, outputs = checkpoints
    assert "got 'mine'" in outputs["own backbone"]
    assert "Import the module that registers your own backbone first" in outputs["own backbone"]
    with pytest.raises(ValueError, match="got 'mine'"):
        AutoModelForSequenceClassification.from_pretrained(folder / "mine")


def test_extending_without_the_package_names_it(checkpoints):
    assert "needs the clickprompt_hf package, which is not installed" in checkpoints[2]["extending"]


def test_a_saved_folder_holds_data_code_and_safetensors(checkpoints):
    folder, _, _ = checkpoints
    expected = {
        *("config.json", "model.safetensors", "processor_config.json", "feature_vocabularies.txt"),
        *SHIPPING,
    }
    assert {path.name for path in (folder / "alone").iterdir()} == expected
    assert {path.name for path in (folder / "ctr").iterdir()} == {*expected, "tokenizer.json", "tokenizer_config.json"}


def test_with_the_package_no_trust_in_remote_code_is_needed(checkpoints, monkeypatch):
    folder, _, _ = checkpoints
    monkeypatch.setattr("builtins.input", lambda *args: pytest.fail("asked for trust"))
    assert type(AutoConfig.from_pretrained(folder / "ctr")) is ClickPromptConfig
    assert type(AutoProcessor.from_pretrained(folder / "ctr")) is ClickPromptProcessor
    for auto_class, name, model_class in (
        (AutoModel, "ctr", ClickPromptModel),
        (AutoModelForSequenceClassification, "pamlm", ClickPromptForCTR),
        (AutoModelForMaskedLM, "pamlm", ClickPromptForPAMLM),
        (AutoModelForCausalLM, "paclm", ClickPromptForPACLM),
    ):
        assert type(auto_class.from_pretrained(folder / name)) is model_class
    for options in ({}, {"pipeline_class": ClickPromptPipeline}, {"trust_remote_code": True}):
        assert type(pipeline("ctr-prediction", model=str(folder / "ctr"), **options)) is ClickPromptPipeline


@pytest.mark.parametrize("name", SHIPPING)
def test_shipping_files_import_what_every_machine_has(name):
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    siblings = {node.module for node in imports if isinstance(node, ast.ImportFrom) and node.level}
    assert {f"{module}.py" for module in siblings} <= set(SHIPPING)
    # the way transformers finds them: line by line, in docstrings too
    assert set(get_relative_imports(PACKAGE / name)) == siblings
    others = {
        full_name.partition(".")[0]
        for node in imports
        for full_name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module])
        if not (isinstance(node, ast.ImportFrom) and node.level)
    }
    # transformers requires safetensors
    assert others <= {"numpy", "safetensors", "torch", "transformers"} | sys.stdlib_module_names


@pytest.fixture
def checkpoint(tmp_path):
    tokenizer = copy.deepcopy(tiny_roberta_tokenizer())
    # a tokenizer that has padded a batch also writes its padding token into tokenizer.json
    tokenizer.backend_tokenizer.no_padding()
    save(tmp_path / "ctr", ClickPromptForCTR, tiny_processor(tokenizer))
    return tmp_path / "ctr"


def load_all(folder: Path) -> None:
    pipeline("ctr-prediction", model=str(folder))


def test_later_versions_are_refused(checkpoint):
    for name in ("config.json", "processor_config.json"):
        path = checkpoint / name
        text = path.read_text()
        for version in (3, "new"):
            path.write_text(json.dumps({**json.loads(text), "checkpoint_version": version}))
            with pytest.raises(
                ValueError, match=rf"`checkpoint_version` in {name} must be at most 2, got {version!r}: .* a later"
            ):
                load_all(checkpoint)
        path.write_text(text)
    load_all(checkpoint)


@pytest.mark.parametrize(
    ("name", "missing", "truncated"),
    [
        ("config.json", "Should have a `model_type` key in its config.json", "config.json' is not a valid JSON file"),
        ("model.safetensors", "no file named model.safetensors", "safetensors file is damaged or truncated"),
        ("processor_config.json", "its processor_config.json is missing", "_config.json' is not a valid JSON file"),
        ("feature_vocabularies.txt", "does not appear to have a file named feature_voc", "must be the whole file"),
        ("tokenizer.json", "tokenizer.json or .* is missing or damaged", "tokenizer.json or .* is missing or damaged"),
        ("tokenizer_config.json", "tokenizer_config.json is missing", "tokenizer_config.json is missing or damaged"),
    ],
)
def test_damaged_checkpoints_are_refused(name, missing, truncated, checkpoint):
    path = checkpoint / name
    content = path.read_bytes()
    path.unlink()
    for message, part in ((missing, None), (truncated, content[: len(content) // 2]), (truncated, b"")):
        if part is not None:
            path.write_bytes(part)
        with pytest.raises((OSError, ValueError), match=rf"(?s){checkpoint}.*{message}|{message}.*{checkpoint}"):
            load_all(checkpoint)


def test_processor_and_model_must_belong_together(tmp_path):
    with_text, without_text = tiny_processor(tiny_roberta_tokenizer()), tiny_processor()
    model, alone = tiny_model(ClickPromptForCTR, with_text), tiny_model(ClickPromptForCTR, without_text)
    # a model without a PLM needs no text
    with_text.check_model(alone.config)
    other = ClickPromptProcessor(without_text.schema, [["x"], *without_text.vocabularies[1:]], without_text.boundaries)
    swapped = ClickPromptProcessor(
        without_text.schema, [without_text.vocabularies[0][::-1], *without_text.vocabularies[1:]], other.boundaries
    )
    alone.config.training_data = {"processor_fingerprint": without_text.fingerprint}
    without_text.check_model(alone.config)
    for processor, config, message in (
        (without_text, model.config, "the model reads text, the processor does not"),
        (other, alone.config, r"the processor has field sizes \[2, 6, 5, 8\], the model \[9, 6, 5, 8\]"),
        (swapped, alone.config, f"processor with fingerprint {without_text.fingerprint}, this one has"),
    ):
        with pytest.raises(ValueError, match=message):
            processor.check_model(config)
    model.config.text_config.vocab_size = 10
    with pytest.raises(ValueError, match=r"the tokenizer has \d+ tokens, the PLM 10"):
        with_text.check_model(model.config)
    model.config.ctr_config.max_values = None
    with pytest.raises(ValueError, match=r"`max_values` \[1, 1, 2, 1\], the model \[1, 1, 1, 1\]"):
        with_text.check_model(model.config)
