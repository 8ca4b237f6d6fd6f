"""Export of a checkpoint with its PLM to ONNX, in fp32 and int8, and its scorer."""

import logging
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from test_export_ctr import PROCESSOR, awkward_rows, save_checkpoint
from tiny_data import TITLES, tiny_rows, tiny_schema
from tiny_models import FAMILIES, tiny_config, tiny_ctr_config, tiny_text_config
from tiny_tokenizers import CONTROL, KINDS, tokenizer_of

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptPipeline, ClickPromptProcessor
from clickprompt_hf.cluster.table_scorer import TableScorer
from clickprompt_hf.export import export_plm as module
from clickprompt_hf.export import text_tokenizer
from clickprompt_hf.export.ctr_program import torch_export, write_onnx
from clickprompt_hf.export.export_engines import PLMExportEngine, load_export
from clickprompt_hf.export.export_plm import (
    EXPORTED_FAMILIES,
    export_plm,
    largest_difference,
    quantize,
    write_model,
    write_tokenizer_settings,
)
from clickprompt_hf.export.plm_program import fused_export, input_names, random_batch
from clickprompt_hf.export.plm_scorer import PLMScorer
from clickprompt_hf.export.text_tokenizer import SETTINGS_FILE, TextTokenizer
from clickprompt_hf.runs import export as command

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A checkpoint with a PLM, the scorer of its export, and the largest difference that the export found."""
    folder = tmp_path_factory.mktemp("exported")
    save_checkpoint(folder / "whole")
    difference = export_plm(folder / "whole", folder / "onnx")
    return folder, difference


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("bert", {"num_hidden_layers": 2, "prompt_depth": 1}),
        ("t5", {"num_hidden_layers": 1, "fusion": "weighted"}),
        ("gpt2", {"num_hidden_layers": 1, "fusion": "text", "prompt_strategy": "shallow"}),
        # grouped heads
        ("llama", {"num_hidden_layers": 1}),
    ],
)
def test_programs_score_batches_and_texts_of_any_size(family, options, tmp_path):
    torch.manual_seed(0)
    # exporting takes seconds per layer
    text_config = tiny_text_config(family, num_hidden_layers=options.pop("num_hidden_layers"))
    config = ClickPromptConfig(text_config=text_config, ctr_config=tiny_ctr_config("fm"), prompt_length=2, **options)
    model = ClickPromptForCTR(config).eval()
    model.set_attn_implementation("sdpa")
    write_model(model, tmp_path / "model.onnx", "hash")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    taken = [entry.name for entry in session.get_inputs()]
    for rows, length in ((1, 4), (5, 9), (33, 20)):
        ids, tokens, mask, *vectors = random_batch(model, rows, seed=rows)
        tokens, mask = tokens[:, :length], mask[:, :length]
        inputs = dict(zip(input_names(model), (ids, tokens, mask, *vectors)))
        with torch.no_grad():
            expected = model(**inputs).logits.sigmoid().squeeze(-1).numpy()
        (found,) = session.run(None, {name: inputs[name].numpy() for name in taken})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.005


def test_an_exported_folder_scores_raw_rows(exported):
    folder, difference = exported
    assert difference < 1e-5
    scorer, rows = PLMScorer(folder / "onnx", num_threads=1, batch_size=16), awkward_rows(50)
    model = ClickPromptForCTR.from_pretrained(folder / "whole")
    expected = [score["click_probability"] for score in ClickPromptPipeline(model, PROCESSOR)(rows)]
    np.testing.assert_allclose(scorer.score(rows), expected, rtol=0, atol=1e-5)
    assert np.std(expected) > 0.01
    # no weights besides those of the program
    assert not (folder / "onnx" / "model.safetensors").exists()
    engine = load_export(folder / "onnx", num_threads=1)
    assert isinstance(engine, PLMExportEngine)
    assert engine.trained_values == PROCESSOR.trained_values
    found = engine.score(engine.read([dict(zip(rows, cells)) for cells in zip(*rows.values())], None))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    table = pa.table({"user": [1, 2], "price": [2.0, 7.0], "tags": ["new", "old|rare"], "title": ["Up", None]})
    found = TableScorer(folder / "onnx").score(table)
    np.testing.assert_allclose(found, scorer.score(table), rtol=0, atol=1e-6)


# As serve does it, on a machine without torch.
SERVE = """
import pickle, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
folder, rows, results = sys.argv[1:]
# as the command does, for which the package does not load torch
import clickprompt_command
from clickprompt_hf.unknown_values_clickprompt import UnknownValues
from clickprompt_hf.runs.serve import load_engine

engine = load_engine(folder)
with open(rows, "rb") as file:
    columns = pickle.load(file)
as_list = [dict(zip(columns, row)) for row in zip(*columns.values())]
inputs = engine.read(as_list, UnknownValues(engine.encoder))
with open(results, "wb") as file:
    pickle.dump((inputs, engine.score(inputs)), file)
"""


def test_it_is_served_without_torch(exported, tmp_path):
    folder, rows = exported[0] / "onnx", awkward_rows(200)
    (tmp_path / "rows").write_bytes(pickle.dumps(rows))
    command_line = [sys.executable, "-c", SERVE, folder, tmp_path / "rows", tmp_path / "results"]
    root = str(Path(module.__file__).parents[2])
    subprocess.run(command_line, check=True, cwd=tmp_path, timeout=60, env={"PYTHONPATH": root})
    inputs, scores = pickle.loads((tmp_path / "results").read_bytes())

    expected = PROCESSOR(rows, return_tensors="np")
    assert set(inputs) == {"feature_ids", "input_ids", "attention_mask"}
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, expected[name])
    # some texts are truncated
    assert inputs["attention_mask"].sum(axis=1).max() == PROCESSOR.max_text_length
    np.testing.assert_allclose(scores, PLMScorer(folder).score_inputs(dict(expected)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "in Python"])
def test_texts_have_the_tokens_of_the_processor(kind, tmp_path):
    titles = [*TITLES, *CONTROL, *(f"Up{token} it {token}" for token in CONTROL), "", None, "«Ünïcödé» \t 日本"]
    rows = {**tiny_rows(len(titles)), "title": titles}
    for side, limit in (("right", None), ("right", 12), ("left", 12)):
        tokenizer = tokenizer_of(kind, truncation_side=side)
        processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer, max_text_length=limit)
        folder = tmp_path / f"{side}-{limit}"
        processor.save_pretrained(folder)
        write_tokenizer_settings(processor, folder)
        read = TextTokenizer(folder)
        found, expected = read(processor.render(rows)), processor(rows, return_tensors="np")
        for name, array in found.items():
            assert array.dtype == np.int64
            np.testing.assert_array_equal(array, expected[name])
        assert (found["attention_mask"].sum(axis=1).max() == 12) == (limit == 12)
        assert read([])["input_ids"].shape == (0, 0)


def test_other_tokens_without_transformers_are_noticed(tmp_path, monkeypatch):
    PROCESSOR.save_pretrained(tmp_path)
    monkeypatch.setattr(text_tokenizer, "without_control_tokens", lambda backend, control: backend)
    with pytest.raises(RuntimeError, match=r"tokenizer\.json must tokenize texts like the processor"):
        write_tokenizer_settings(PROCESSOR, tmp_path)


def test_a_tokenizer_in_python_needs_transformers(exported, tmp_path, monkeypatch):
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer_of("in Python"))
    write_tokenizer_settings(processor, tmp_path)
    assert not list(tmp_path.iterdir())
    # as its export would look
    shutil.copytree(exported[0] / "onnx", tmp_path / "onnx")
    (tmp_path / "onnx" / SETTINGS_FILE).unlink()
    rows = tiny_rows(8)
    np.testing.assert_array_equal(
        PLMScorer(tmp_path / "onnx").score(rows), PLMScorer(exported[0] / "onnx").score(rows)
    )
    monkeypatch.setitem(sys.modules, "clickprompt_hf.processing_clickprompt", None)
    with pytest.raises(ImportError, match="needs torch and transformers, as it has no text_tokens.json"):
        load_export(tmp_path / "onnx")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.json", "{", "but one of them is damaged"),
        ("text_tokens.json", "{}", "but one of them is damaged: KeyError"),
        ("tokenizer.json", None, "tokenizer.json"),
    ],
)
def test_a_damaged_tokenizer_is_named(file, content, message, exported, tmp_path):
    for name in ("tokenizer.json", "text_tokens.json"):
        shutil.copy(exported[0] / "onnx" / name, tmp_path)
    (tmp_path / file).unlink() if content is None else (tmp_path / file).write_text(content)
    with pytest.raises(OSError, match=message):
        TextTokenizer(tmp_path)


def test_files_that_were_not_written_together_are_refused(exported, tmp_path):
    for path in (exported[0] / "onnx").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    ClickPromptProcessor.fit(tiny_rows(8), PROCESSOR.schema, PROCESSOR.tokenizer).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"model\.onnx must be the file written with processor_config\.json"):
        PLMScorer(tmp_path)
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(FileNotFoundError, match=r"must hold model\.onnx"):
        PLMScorer(tmp_path)


def test_weights_of_8_bits_are_smaller_and_almost_as_exact(exported, tmp_path):
    folder, _ = exported
    exact, small = folder / "onnx" / "model.onnx", tmp_path / "model.onnx"
    quantize(exact, small)
    metadata = onnxruntime.InferenceSession(small).get_modelmeta().custom_metadata_map
    assert metadata["fingerprint"] == PROCESSOR.fingerprint
    assert small.stat().st_size < exact.stat().st_size
    model = ClickPromptForCTR.from_pretrained(folder / "whole").eval()
    assert 1e-5 < largest_difference(model, small) < 0.05


def test_the_command_writes_int8_and_large_weights_into_a_second_file(exported, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("clickprompt_hf.export.ctr_program._LARGEST_SINGLE_FILE", 0)
    folder, _ = exported
    command.main([str(folder / "whole"), str(tmp_path / "small"), "--with_plm", "--int8"])
    assert "probabilities differ from the checkpoint's by at most 0.0" in capsys.readouterr().out
    assert (tmp_path / "small" / "model.onnx.data").stat().st_size > 0
    assert not (tmp_path / "small" / "fp32").exists()
    rows = tiny_rows(40, seed=3)
    small, exact = (PLMScorer(path).score(rows) for path in (tmp_path / "small", folder / "onnx"))
    assert 1e-5 < np.abs(small - exact).max() < 0.05


def test_all_families_are_known_to_export():
    assert set(EXPORTED_FAMILIES) == set(FAMILIES)


def test_nothing_is_said_that_users_cannot_act_on(tmp_path, caplog, capfd):
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    notes = ["torchvision is not installed. Skipping torchvision::nms", "an operator is missing"]
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config("lr"), fusion="ctr")).eval()
    program = torch_export(model)

    def said():
        return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_onnx(program, tmp_path / "model.onnx", "hash")
    assert said() == []
    assert capfd.readouterr() == ("", "")
    # outside of an export, nothing is hidden
    for note in notes:
        registration.warning(note)
    assert said() == notes


def test_mistakes(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="`model` must have a PLM"):
        fused_export(ClickPromptForCTR(tiny_config(fusion="ctr")))
    save_checkpoint(tmp_path / "alone", fusion="ctr")
    with pytest.raises(ValueError, match="`checkpoint` must have a PLM, but .* has none"):
        export_plm(tmp_path / "alone", tmp_path / "new")
    with pytest.raises(ValueError, match="`int8` needs --with_plm"):
        command.main([str(tmp_path / "alone"), str(tmp_path / "new"), "--int8"])
    with pytest.raises(ValueError, match="`torch_program` must be left out"):
        command.main([str(tmp_path / "alone"), str(tmp_path / "new"), "--with_plm", "--torch_program"])
    save_checkpoint(tmp_path / "whole")
    monkeypatch.setattr(module, "fused_export", lambda model: 1 / 0)
    with pytest.raises(
        ValueError, match="a PLM that ONNX supports, such as one of bert, .*, but 'roberta' fails: division by zero"
    ):
        export_plm(tmp_path / "whole", tmp_path / "new")
    monkeypatch.setattr(module, "fused_export", lambda model: None)
    monkeypatch.setattr(module, "write_onnx", lambda *arguments: None)
    monkeypatch.setattr(module, "largest_difference", lambda model, path: float("nan"))
    with pytest.raises(RuntimeError, match="within 1e-05, but they differ by nan"):
        export_plm(tmp_path / "whole", tmp_path / "new")
    assert not (tmp_path / "new").exists()
