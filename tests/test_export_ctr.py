"""Export of the CTR part alone: a checkpoint, an ONNX model that serves without torch, a torch program."""

import copy
import errno
import json
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny_data import TITLES, tiny_roberta_tokenizer, tiny_rows, tiny_schema
from tiny_models import BACKBONES, tiny_config, tiny_ctr_config, tiny_text_config
from transformers import AutoModelForSequenceClassification, AutoProcessor

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptForPAMLM, ClickPromptProcessor
from clickprompt_hf.export import export_ctr as module
from clickprompt_hf.export.ctr_program import ClickProbability, random_ids, torch_export, write_onnx
from clickprompt_hf.export.export_ctr import export_ctr
from clickprompt_hf.export.scorer import Scorer
from clickprompt_hf.runs import convert
from clickprompt_hf.runs.export import main

ROW = {"user": 1, "price": 2.0, "tags": "new", "title": "Up"}
PROCESSOR = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tiny_roberta_tokenizer(), max_text_length=30)


def save_checkpoint(folder, model_class=ClickPromptForCTR, backbone="dcnv2", **options):
    """A click model on the vocabularies of `PROCESSOR`, with a PLM, and that processor."""
    torch.manual_seed(0)
    sizes = {"field_sizes": PROCESSOR.field_sizes, "max_values": PROCESSOR.max_values}
    ctr_options = options.pop("ctr_options", {})
    model = model_class(
        ClickPromptConfig(
            text_config=tiny_text_config(vocab_size=len(tiny_roberta_tokenizer())),
            ctr_config=tiny_ctr_config(backbone, **sizes, **ctr_options),
            prompt_length=3,
            **options,
        )
    ).eval()
    model.save_pretrained(folder)
    PROCESSOR.save_pretrained(folder)
    return model


def awkward_rows(num_rows=400):
    """Columns of values of every kind and type, some missing, some unseen."""
    draw = np.random.default_rng(3)
    users = [1, 2.0, "3", " 4 ", b"5", np.int64(6), np.float32(7), "7.0", None, math.nan, "", "unseen", True, "\ud83e"]
    prices = [0, 0.5, "7", 12.25, np.float64(3.5), "1e1", -1e300, math.inf, None, math.nan, "many", " ", 10**30]
    tags = ["new", "old|rare", ["new", "old"], ("rare",), [], "", None, "zzz|new|old", " new | ", ["", "rare"], 3]
    titles = [*TITLES, *(f"  {title} " for title in TITLES), None, "<NA>", "never seen"]
    values = {"user": users, "price": prices, "tags": tags, "title": titles}
    return {name: [cells[i] for i in draw.integers(len(cells), size=num_rows)] for name, cells in values.items()}


SERVE = """
import pickle, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "clickprompt_hf"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
folder, rows, results = sys.argv[1:]
sys.path.insert(0, folder)
from scorer import Scorer

scorer = Scorer()
with open(rows, "rb") as file:
    columns = pickle.load(file)
as_list = [dict(zip(columns, row)) for row in zip(*columns.values())]
served = {
    "ids": scorer.encoder.encode(columns),
    "columns": scorer.score(columns),
    "rows": scorer.score(as_list),
    "one": scorer.score(as_list[0]),
    "none": scorer.score([]),
}
with open(results, "wb") as file:
    pickle.dump(served, file)
"""


def test_the_exported_folder_serves_without_torch_and_the_package(tmp_path):
    model = save_checkpoint(tmp_path / "whole")
    export_ctr(tmp_path / "whole", tmp_path / "ctr")

    rows = awkward_rows()
    (tmp_path / "rows").write_bytes(pickle.dumps(rows))
    command = [sys.executable, "-c", SERVE, tmp_path / "ctr", tmp_path / "rows", tmp_path / "results"]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=60, env={"PYTHONPATH": ""})
    served = pickle.loads((tmp_path / "results").read_bytes())

    ids = PROCESSOR(rows)["feature_ids"]
    np.testing.assert_array_equal(served["ids"], ids)
    # empty slots, unseen, missing and known values all occur
    assert set(np.unique(ids)) >= {-1, 0, 1, 2, 3}
    with torch.no_grad():
        batch = PROCESSOR(rows, return_tensors="pt")
        expected = model(**batch).ctr_logits.sigmoid().squeeze(-1).numpy()
    assert expected.std() > 0.01
    np.testing.assert_allclose(served["columns"], expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(served["rows"], expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(served["one"], expected[:1], rtol=0, atol=1e-5)
    assert served["none"].shape == (0,)


def test_the_exported_folder_is_a_checkpoint(tmp_path):
    model = save_checkpoint(tmp_path / "whole")
    export_ctr(tmp_path / "whole", tmp_path / "new" / "ctr")

    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "new" / "ctr")
    processor = AutoProcessor.from_pretrained(tmp_path / "new" / "ctr")
    assert isinstance(loaded, ClickPromptForCTR)
    assert not loaded.config.use_plm
    assert not processor.reads_text
    assert {name.split(".")[1] for name in loaded.state_dict()} == {"ctr", "output"}
    rows = tiny_rows(20, seed=9)
    with torch.no_grad():
        expected = model(**PROCESSOR(rows, return_tensors="pt")).ctr_logits
        torch.testing.assert_close(loaded(**processor(rows, return_tensors="pt")).logits, expected)
    # the partial folder is gone
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["ctr"]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_scores_the_same_in_every_format(backbone, tmp_path):
    torch.manual_seed(0)
    max_values = [1, 1, 2] if backbone in ("fm", "dcnv2") else None
    ctr_config = tiny_ctr_config(backbone, max_values=max_values)
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr_config, fusion="ctr"))
    with torch.no_grad():
        # fresh batch norms and biases would hide mistakes
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) / 10)
    exported = torch_export(model)
    write_onnx(exported, tmp_path / "model.onnx", "hash")
    torch.export.save(exported, tmp_path / "model.pt2")

    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert session.get_modelmeta().custom_metadata_map["fingerprint"] == "hash"
    program = torch.export.load(tmp_path / "model.pt2").module()
    for rows in (1, 2, 33):
        ids = random_ids(model, rows, seed=rows)
        with torch.no_grad():
            expected = model(ids).logits.sigmoid().squeeze(-1)
            torch.testing.assert_close(program(ids), expected, rtol=0, atol=1e-5)
        (served,) = session.run(["probability"], {"feature_ids": ids.numpy()})
        np.testing.assert_allclose(served, expected.numpy(), rtol=0, atol=1e-5)
    # the last batch
    assert expected.std() > 0.01


def test_command_line(tmp_path, capsys):
    save_checkpoint(tmp_path / "whole", backbone="fm")
    main([str(tmp_path / "whole"), str(tmp_path / "ctr"), "--torch_program"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("model.onnx", "model.pt2", "model.safetensors"))
    code = list((tmp_path / "ctr").glob("*.py"))
    size = sum(path.stat().st_size for path in code)
    assert printed.splitlines()[-1].strip() == f"{size:,} {tmp_path / 'ctr' / '*.py'}: {len(code)} modules"
    assert printed.count(".py") == 1
    ids = PROCESSOR.encode(tiny_rows(5))
    program = torch.export.load(tmp_path / "ctr" / "model.pt2").module()
    with torch.no_grad():
        probabilities = program(torch.from_numpy(ids)).numpy()
    np.testing.assert_allclose(probabilities, Scorer(tmp_path / "ctr").score_ids(ids), rtol=0, atol=1e-5)


def test_a_checkpoint_in_half_precision_is_exported_in_single(tmp_path):
    save_checkpoint(tmp_path / "whole", backbone="fm").half().save_pretrained(tmp_path / "whole")
    model, _ = module.load_ctr(str(tmp_path / "whole"))
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ({"fusion": "text"}, "must have a CTR logit, but .* has fusion='text'"),
        (
            {"model_class": ClickPromptForPAMLM},
            r"finetuned for clicks, but .* is one of \['ClickPromptForPAMLM'\]\. Finetune .* `without_plm`",
        ),
    ],
)
def test_checkpoints_without_a_trained_ctr_logit_are_refused(checkpoint, message, tmp_path):
    save_checkpoint(tmp_path / "whole", **checkpoint)
    with pytest.raises(ValueError, match=message):
        export_ctr(tmp_path / "whole", tmp_path / "ctr")
    assert not (tmp_path / "ctr").exists()


def test_a_checkpoint_whose_head_is_missing_is_refused(tmp_path):
    save_checkpoint(tmp_path / "whole", model_class=ClickPromptForPAMLM)
    config = tmp_path / "whole" / "config.json"
    config.write_text(config.read_text().replace("ClickPromptForPAMLM", "ClickPromptForCTR"))
    with pytest.raises(ValueError, match=r"finetuned for clicks, but .* lacks \['ctr_head.output"):
        export_ctr(tmp_path / "whole", tmp_path / "ctr")


def test_a_model_without_ctr_logit_has_no_program():
    with pytest.raises(ValueError, match="`fusion` must have a CTR logit to export, got 'text'"):
        torch_export(ClickPromptForCTR(tiny_config(fusion="text")))


def test_a_ctr_logit_from_a_fused_model_triggers_a_warning(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(module.logger, "warning", warnings.append)
    save_checkpoint(tmp_path / "with_plm")
    save_checkpoint(tmp_path / "without", fusion="ctr")
    module.load_ctr(str(tmp_path / "without"))
    assert not warnings
    module.load_ctr(str(tmp_path / "with_plm"))
    assert "part of a fused logit (fusion='sum')" in warnings[0]


def test_the_processor_of_another_model_is_refused(tmp_path):
    save_checkpoint(tmp_path / "whole")
    ClickPromptProcessor.fit(tiny_rows(8), tiny_schema()).save_pretrained(tmp_path / "whole")
    with pytest.raises(ValueError, match="Processor and model do not belong together: the processor has field"):
        export_ctr(tmp_path / "whole", tmp_path / "ctr")


def test_an_onnx_model_with_other_scores_is_not_written(tmp_path, monkeypatch):
    def another_program(model):
        with torch.no_grad():
            model.ctr_head.output.bias += 0.001
        program = torch_export(copy.deepcopy(model))
        with torch.no_grad():
            model.ctr_head.output.bias -= 0.001
        return program

    save_checkpoint(tmp_path / "whole")
    monkeypatch.setattr(module, "torch_export", another_program)
    with pytest.raises(RuntimeError, match="within 1e-05, but they differ by 0.000"):
        export_ctr(tmp_path / "whole", tmp_path / "ctr")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_a_folder_in_use_and_missing_packages_are_refused(tmp_path, monkeypatch):
    (tmp_path / "ctr").mkdir()
    (tmp_path / "ctr" / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="`folder` must be new or empty"):
        export_ctr(tmp_path / "whole", tmp_path / "ctr")
    with pytest.raises(FileExistsError, match="`folder` must be new or empty"):
        export_ctr(tmp_path / "whole", tmp_path / "ctr" / "notes.txt")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ImportError, match=r"needs onnxscript: pip install 'clickprompt_hf\[onnx\]'"):
        export_ctr(tmp_path / "whole", tmp_path / "new")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    save_checkpoint(folder / "whole", backbone="fm")
    export_ctr(folder / "whole", folder / "ctr")
    return folder / "ctr"


def test_large_batches_are_scored_in_blocks(exported, monkeypatch):
    scorer = Scorer(exported, num_threads=1)
    ids = PROCESSOR.encode(tiny_rows(50))
    whole = scorer.score_ids(ids)
    monkeypatch.setattr("clickprompt_hf.export.scorer._ROWS_PER_BLOCK", 16)
    np.testing.assert_array_equal(scorer.score_ids(ids), whole)


def test_large_weights_go_into_a_second_file(tmp_path, monkeypatch):
    monkeypatch.setattr("clickprompt_hf.export.ctr_program._LARGEST_SINGLE_FILE", 0)
    model = save_checkpoint(tmp_path / "whole", backbone="fm")
    export_ctr(tmp_path / "whole", tmp_path / "ctr")
    assert (tmp_path / "ctr" / "model.onnx.data").stat().st_size > 0
    with torch.no_grad():
        expected = ClickProbability(model)(torch.from_numpy(PROCESSOR.encode(tiny_rows(5)))).numpy()
    np.testing.assert_allclose(Scorer(tmp_path / "ctr").score(tiny_rows(5)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.score([{"user": 1}]), ValueError, r"missing \['price', 'tags', 'title'\], given \['user'\]"),
        (lambda s: s.score([ROW, {**ROW, "user": ["a"]}]), ValueError, "'user' .* one value per row, got .* in row 1"),
        (lambda s: s.score([ROW, {"usr": 1}]), ValueError, r"Row 1 must have .* missing \['user', "),
        (lambda s: s.score("abc"), TypeError, "got str"),
        (lambda s: s.score_ids(np.zeros((2, 4), np.int64)), ValueError, r"shape \(batch, 5\), got \(2, 4\)"),
        (lambda s: s.score_ids(np.full((1, 5), 99)), IndexError, r"feature_ids\[0, 0\]` must be in \[0, 9\), got 99"),
        # only multi-valued fields have empty slots
        (lambda s: s.score_ids(np.full((1, 5), -1)), IndexError, r"feature_ids\[0, 0\]` must be .* got -1"),
    ],
)
def test_wrong_input_is_refused(call, error, message, exported):
    with pytest.raises(error, match=message):
        call(Scorer(exported))


def test_files_that_were_not_written_together_are_refused(exported, tmp_path):
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    ClickPromptProcessor.fit(tiny_rows(8), tiny_schema()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"model\.onnx must be the file written with processor_config\.json"):
        Scorer(tmp_path)
    config = json.loads((exported / "processor_config.json").read_text())
    (tmp_path / "processor_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"feature_vocabularies\.txt must be the whole file that was saved with"):
        Scorer(tmp_path)
    (tmp_path / "model.onnx").unlink()
    for name in ("processor_config.json", "feature_vocabularies.txt"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    with pytest.raises(FileNotFoundError, match=r"must hold model\.onnx"):
        Scorer(tmp_path)


@pytest.mark.parametrize("step", ["write_onnx", "write_serving_code"])
def test_a_folder_that_cannot_be_written_is_named(step, tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "ctr")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=rf"{tmp_path}/file/out cannot be written: Not a directory"):
        export_ctr(tmp_path / "ctr", tmp_path / "file" / "out")

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, step, full)
    with pytest.raises(OSError, match=rf"{tmp_path}/out/\S+ cannot be written: No space left on device"):
        export_ctr(tmp_path / "ctr", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ctr", "file"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("original.json", b"{", r"original\.json must be a JSON file"),
        ("original.json", b"[1]", r"original\.json must hold a mapping, got \[1\]"),
        ("weights.bin", b"\x80\x04cut off", r"weights\.bin must hold complete weights"),
        ("weights.bin", b"", r"weights\.bin must hold complete weights"),
        ("weights.safetensors", b"\x00" * 9, r"weights\.safetensors must hold complete weights"),
    ],
)
def test_damaged_originals_are_named(file, content, message, tmp_path):
    keys = {"config": {}, "model_args": {}, "plm_config": {}, "task": "ctr", "field_sizes": [2]}
    (tmp_path / "original.json").write_text(json.dumps(keys))
    (tmp_path / "weights.bin").write_bytes(b"")
    (tmp_path / file).write_bytes(content)
    weights = tmp_path / (file if file.startswith("weights") else "weights.bin")
    with pytest.raises(ValueError, match=message):
        convert.main([str(weights), str(tmp_path / "original.json"), str(tmp_path / "out")])
