"""Texts that the backbone reads as vectors: from raw rows to scores, to checkpoints and to exported folders."""

import copy
import errno
import json
import os
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from scores_without_package import scores_without_package
from tiny_data import TITLES, tiny_roberta_tokenizer
from tiny_models import tiny_ctr_config, tiny_text_config
from transformers import AutoModel

from clickprompt_hf import (
    ClickPromptConfig,
    ClickPromptForCTR,
    ClickPromptPipeline,
    ClickPromptProcessor,
    FieldSchema,
    Schema,
)
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.data.text_vectors import text_vectors
from clickprompt_hf.evaluation.model_card import _schema_table
from clickprompt_hf.export.export_ctr import export_ctr
from clickprompt_hf.export.scorer import Scorer
from clickprompt_hf.inspection import unknown_fields, what_if
from clickprompt_hf.runs import finetune, predict
from clickprompt_hf.scoring import score_table
from clickprompt_hf.text_encoder_clickprompt import TextEncoder
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments
from clickprompt_hf.training.checkpoints import newest_whole_checkpoint

SCHEMA = Schema(
    (FieldSchema("user"), FieldSchema("title", kind="text", as_vector=True), FieldSchema("v", kind="vector")),
    label="click",
)


def rows(num_rows=20, seed=0) -> dict[str, list]:
    draw = np.random.default_rng(seed)
    vectors = draw.normal(3, 2, (num_rows, 2)).round(3).tolist()
    return {
        "user": draw.integers(1, 6, num_rows).tolist(),
        "title": [None if i % 7 == 3 else TITLES[t] for i, t in enumerate(draw.integers(0, 6, num_rows))],
        "v": [None if i % 5 == 2 else vector for i, vector in enumerate(vectors)],
        "click": [i % 2 for i in range(num_rows)],
    }


@pytest.fixture(scope="module")
def plm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plm")
    tokenizer = copy.deepcopy(tiny_roberta_tokenizer())
    torch.manual_seed(0)
    AutoModel.from_config(tiny_text_config(vocab_size=len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def fitted(plm):
    """A click model without a PLM, and its processor."""
    processor = ClickPromptProcessor.fit(rows(60), SCHEMA, text_encoder=plm)
    torch.manual_seed(0)
    sizes = {"field_sizes": processor.field_sizes, "vector_sizes": processor.vector_sizes}
    config = ClickPromptConfig(ctr_config=tiny_ctr_config("deepfm", **sizes), fusion="ctr")
    return ClickPromptForCTR(config).eval(), processor


def test_texts_become_standardized_vectors(fitted, plm):
    _, processor = fitted
    # in the spelling of vocabularies, which collapses white space
    train = [" ".join(title.split()) for title in rows(60)["title"] if title]
    vectors = text_vectors(train, plm)
    assert processor.vector_sizes == [16, 2]
    assert processor.vectors["text_encoder"] == TextEncoder(plm).fingerprint
    titles = [TITLES[2], "never seen", None, f"  {TITLES[2]} "]
    given = {"user": [1] * 4, "title": titles, "v": [None] * 4}
    found = processor(given, return_tensors="np")["feature_vectors"]
    expected = (text_vectors([TITLES[2], "never seen"], plm) - vectors.mean(axis=0)) / vectors.std(axis=0)
    np.testing.assert_allclose(found[:2, :16], expected, rtol=1e-3, atol=1e-3)
    assert np.isnan(found[2, :16]).all()
    np.testing.assert_allclose(found[3, :16], found[0, :16], atol=1e-5)
    # vectors may stand for their texts
    given["title"] = [vector.tolist() for vector in text_vectors(titles[:2], plm)] + [None, titles[0]]
    np.testing.assert_allclose(processor(given, return_tensors="np")["feature_vectors"], found, rtol=1e-3, atol=1e-3)


def test_texts_that_are_vectors_need_an_encoder(plm):
    with pytest.raises(ValueError, match=r"the PLM that turns the fields \['title'\] into vectors, got none"):
        ClickPromptProcessor.fit(rows(), SCHEMA)
    with pytest.raises(ValueError, match="in row 0 of the training rows: training rows must hold texts"):
        ClickPromptProcessor.fit({**rows(), "title": [[1.0, 2.0]] * 20}, SCHEMA, text_encoder=plm)


def test_a_checkpoint_reads_raw_rows_without_the_package(fitted, tmp_path):
    model, processor = fitted
    score = ClickPromptPipeline(model, processor, device="cpu")
    table = {name: cells for name, cells in rows(8, seed=2).items() if name != "click"}
    given = [dict(zip(table, row)) for row in zip(*table.values())]
    expected = [row["click_probability"] for row in score(given)]
    np.testing.assert_allclose(score_table(pa.table(table), processor, model, 3), expected, atol=1e-6)
    score.save_pretrained(tmp_path / "ctr")
    names = {path.name for path in (tmp_path / "ctr" / "text_encoder").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    found = scores_without_package(tmp_path / "ctr", given, tmp_path / "home")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    loaded = ClickPromptProcessor.from_pretrained(tmp_path / "ctr")
    assert loaded.fingerprint == processor.fingerprint
    # a prepared dataset needs no encoder
    prepare_splits({"train": pa.table(rows(8, seed=2))}, loaded, tmp_path / "data")
    splits, prepared = load_prepared(tmp_path / "data")
    assert prepared.text_encoder._parts is None
    (batch,) = splits["train"].__getitems__(list(range(8)))
    np.testing.assert_allclose(
        batch["feature_vectors"], processor(table, return_tensors="np")["feature_vectors"], atol=1e-5
    )
    other = AutoModel.from_config(tiny_text_config(vocab_size=len(tiny_roberta_tokenizer())))
    other.save_pretrained(tmp_path / "ctr" / "text_encoder")
    with pytest.raises(ValueError, match="text_encoder must hold the text encoder that training used"):
        ClickPromptProcessor.from_pretrained(tmp_path / "ctr")(table)


def test_inspection_and_card_know_vectors(fitted):
    model, processor = fitted
    row = {"user": 99, "title": "Up", "v": [1.0, 2.0]}
    assert unknown_fields(processor, row) == ["user"]
    first, second = what_if(model, processor, row, "title", ["Up", "M*A*S*H"])
    assert abs(first - second) > 1e-6
    kinds = {entry["column"]: entry["kind"] for entry in _schema_table(processor)}
    assert (kinds["title"], kinds["v"]) == ("free text, also a vector of 16 numbers", "a vector of 2 numbers")


def test_an_exported_folder_asks_for_the_vectors(fitted, plm, tmp_path):
    pytest.importorskip("onnxscript")
    model, processor = fitted
    model.save_pretrained(tmp_path / "ctr")
    processor.save_pretrained(tmp_path / "ctr")
    # compares the ONNX model with the checkpoint, with missing vectors too
    export_ctr(tmp_path / "ctr", tmp_path / "out")
    scorer = Scorer(tmp_path / "out")
    table = {name: cells for name, cells in rows(8, seed=2).items() if name != "click"}
    with pytest.raises(
        ValueError,
        match=r"Column 'title' must hold vectors of its texts, .* got .It.s: a {gift}.\. Reading the text needs",
    ):
        scorer.score({"user": [1], "title": ["It's: a {gift}"], "v": [None]})
    vectors = text_vectors([" ".join((title or "").split()) for title in table["title"]], plm).tolist()
    given = {**table, "title": [vector if title else None for title, vector in zip(table["title"], vectors)]}
    expected = [row["click_probability"] for row in ClickPromptPipeline(model, processor, device="cpu")(table)]
    np.testing.assert_allclose(scorer.score(given), expected, atol=1e-5)
    ids = scorer.encoder.encode(given)
    with pytest.raises(ValueError, match=r"`feature_vectors` must have shape \(8, 18\), got \(\)"):
        scorer.score_ids(ids)


def test_the_commands_share_vectors(plm, tmp_path, monkeypatch):
    table = rows(80)
    lines = [json.dumps(dict(zip(table, row))) for row in zip(*table.values())]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA.to_dict()))
    arguments = [
        *("--data_path", str(tmp_path / "rows.jsonl"), "--schema", str(tmp_path / "schema.json"), "--ctr_only"),
        *("--backbone", "dcn", "--embedding_size", "4", "--dnn_hidden_sizes", "8", "--num_train_epochs", "1"),
        *("--output_dir", str(tmp_path / "out"), "--report_to", "none", "--report_plots", "False"),
    ]
    with pytest.raises(ValueError, match=r"`--text_encoder` must name .* \['title'\] into vectors, got none"):
        finetune.main(arguments)
    cache = tmp_path / "cache"
    metrics = finetune.main([*arguments, "--text_encoder", plm, "--text_vector_dir", str(cache)])
    assert 0 <= metrics["test_auc"] <= 1
    assert list(cache.rglob("*.npy"))
    processor = ClickPromptProcessor.from_pretrained(tmp_path / "out")
    assert processor.vector_sizes == [16, 2]
    model = ClickPromptForCTR.from_pretrained(tmp_path / "out")
    found = ClickPromptPipeline(model, processor, device="cpu")(rows(5))
    assert len({row["click_probability"] for row in found}) > 1
    card = (tmp_path / "out" / "README.md").read_text()
    assert "a vector of 2 numbers" in card

    scored = ["--model", str(tmp_path / "out"), "--input", str(tmp_path / "rows.jsonl"), "--output"]
    predict.main([*scored, str(tmp_path / "computed.csv")])
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"user": 1, "title": "New", "v": [1, 2]}))
    computed, batches = [], TextEncoder.batches
    monkeypatch.setattr(
        TextEncoder, "batches", lambda self, texts, bar: computed.extend(texts) or batches(self, texts, bar)
    )
    for name in ("read.csv", "again.csv"):
        predict.main([*scored, str(tmp_path / name), "--text_vector_dir", str(cache)])
    # once, as it is kept too
    assert computed == ["New"]
    expected, *found = (
        pd.read_csv(tmp_path / f"{name}.csv")["click_probability"] for name in ("computed", "read", "again")
    )
    for scores in found:
        np.testing.assert_allclose(scores[:-1], expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"`text_vector_dir` must be a folder, got .*rows\.jsonl, which is a file"):
        predict.main([*scored, str(tmp_path / "x.csv"), "--text_vector_dir", str(tmp_path / "rows.jsonl")])


def test_checkpoints_of_a_run_share_the_files_of_the_text_encoder(plm, tmp_path, monkeypatch):
    saved, save = [], TextEncoder.save_pretrained
    monkeypatch.setattr(
        TextEncoder, "save_pretrained", lambda self, folder: saved.append(folder) or save(self, folder)
    )
    processor = ClickPromptProcessor.fit(rows(40), SCHEMA, text_encoder=plm)
    prepare_splits({"train": pa.table(rows(40))}, processor, tmp_path / "data")
    splits, processor = load_prepared(tmp_path / "data")
    sizes = {"field_sizes": processor.field_sizes, "vector_sizes": processor.vector_sizes}
    config = ClickPromptConfig(ctr_config=tiny_ctr_config("dnn", **sizes), fusion="ctr")

    def weights_of_checkpoints(folder):
        options = {"num_train_epochs": 3, "save_strategy": "epoch", "eval_strategy": "no", "report_to": "none"}
        options |= {"save_total_limit": 3, "load_best_model_at_end": False}
        arguments = ClickPromptTrainingArguments(str(folder), **options)
        saved.clear()
        trainer = ClickPromptTrainer(
            ClickPromptForCTR(config), arguments, train_dataset=splits["train"], processing_class=processor
        )
        trainer.train()
        return trainer, sorted(folder.glob("checkpoint-*/text_encoder/model.safetensors"))

    trainer, weights = weights_of_checkpoints(tmp_path / "out")
    assert len(weights) == 3
    assert len({path.stat().st_ino for path in weights}) == 1
    assert len(saved) == 1
    # a checkpoint without the others is whole, and so is the model
    shutil.rmtree(weights[0].parents[1])
    assert newest_whole_checkpoint(tmp_path / "out") == weights[2].parents[1]
    trainer.save_model()
    assert (tmp_path / "out" / "text_encoder" / "model.safetensors").stat().st_nlink == 1
    table = {name: cells for name, cells in rows(8).items() if name != "click"}
    expected = processor(table)["feature_vectors"]
    for folder in (weights[2].parents[1], tmp_path / "out"):
        found = ClickPromptProcessor.from_pretrained(folder)(table)["feature_vectors"]
        np.testing.assert_array_equal(found, expected)

    def cannot_link(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", cannot_link)
    _, weights = weights_of_checkpoints(tmp_path / "copied")
    assert len({path.stat().st_ino for path in weights}) == len(saved) == 3


def test_a_folder_with_another_or_a_damaged_text_encoder_gets_a_new_one(fitted, plm, tmp_path):
    _, processor = fitted
    processor.save_pretrained(tmp_path)
    weights = tmp_path / "text_encoder" / "model.safetensors"
    encoder = processor.text_encoder
    before = weights.stat().st_ino
    processor.save_pretrained(tmp_path)
    assert weights.stat().st_ino == before
    weights.write_bytes(weights.read_bytes()[:-1])
    assert not encoder.is_saved_in(weights.parent)
    processor.save_pretrained(tmp_path)
    assert encoder.is_saved_in(weights.parent)
    other = AutoModel.from_config(tiny_text_config(vocab_size=len(tiny_roberta_tokenizer())))
    other.save_pretrained(tmp_path / "other")
    tiny_roberta_tokenizer().save_pretrained(tmp_path / "other")
    assert not TextEncoder(tmp_path / "other").is_saved_in(weights.parent)
    assert not encoder.is_saved_in(tmp_path / "other")
