"""Fields of vectors: how cells are read, what the backbones make of them, and every way that rows take to a score."""

import copy
import json
import math
from dataclasses import replace

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from threads import in_threads
from tiny_data import TITLES, tiny_roberta_tokenizer
from tiny_models import BACKBONES, tiny_ctr_config, tiny_text_config
from transformers import pipeline

from clickprompt_hf import (
    ClickPromptConfig,
    ClickPromptForCTR,
    ClickPromptForPAMLM,
    ClickPromptPipeline,
    ClickPromptProcessor,
    CTRBackbone,
    CTRConfig,
    FieldSchema,
    Schema,
    register_backbone,
)
from clickprompt_hf.data.collators import ClickPromptCollator, ClickPromptMLMCollator
from clickprompt_hf.data.columnar import ColumnarDataset, load_prepared, prepare_splits
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.distinct_rows import with_distinct_features
from clickprompt_hf.drafting.schema_draft import draft_schema_of
from clickprompt_hf.layers_ctr import FeatureEmbedding, FirstOrder, VectorProjection
from clickprompt_hf.modeling_ctr import BACKBONES as REGISTERED
from clickprompt_hf.modeling_ctr import build_backbone
from clickprompt_hf.scoring import score_table
from clickprompt_hf.vectors_clickprompt import UnreadableVector, VectorScale, read_vectors

FIELD = FieldSchema("v", kind="vector")
SIZES = [3, 2]


def rows(num_rows=24, seed=0, **options) -> dict[str, list]:
    """Columns: two fields of vectors, one of them often missing, beside ids and a title."""
    draw = np.random.default_rng(seed)
    first, second = draw.normal(5, 2, (num_rows, 3)), draw.normal(-1, 100, (num_rows, 2))
    return {
        "user": draw.integers(1, 6, num_rows).tolist(),
        "image": [[float(x) for x in vector] for vector in first],
        "title": [None if i % 7 == 3 else TITLES[t] for i, t in enumerate(draw.integers(0, 6, num_rows))],
        "audio": [None if i % 5 == 2 else [float(x) for x in vector] for i, vector in enumerate(second)],
        "click": [i % 2 for i in range(num_rows)],
        **options,
    }


def schema(**title) -> Schema:
    return Schema(
        (
            FieldSchema("user"),
            FieldSchema("image", kind="vector"),
            FieldSchema("title", **title),
            FieldSchema("audio", kind="vector"),
        ),
        label="click",
    )


def fit(tokenizer=None, train=None, **options) -> ClickPromptProcessor:
    return ClickPromptProcessor.fit(train or rows(60), schema(), tokenizer, max_text_length=30, **options)


def build(processor, model_class=ClickPromptForCTR, backbone="dcnv2", **options):
    torch.manual_seed(0)
    reads_text = processor.reads_text
    return model_class(
        ClickPromptConfig(
            text_config=tiny_text_config(vocab_size=len(processor.tokenizer)) if reads_text else None,
            ctr_config=tiny_ctr_config(
                backbone,
                field_sizes=processor.field_sizes,
                max_values=processor.max_values,
                vector_sizes=processor.vector_sizes,
            ),
            prompt_length=3,
            **{"fusion": "sum" if reads_text else "ctr", **options},
        )
    ).eval()


# --- cells


@pytest.mark.parametrize(
    "cell",
    [
        [0.5, -2, 3e2],
        (0.5, -2, 300),
        np.array([0.5, -2, 300], dtype=np.float32),
        torch.tensor([0.5, -2, 300]),
        pl.Series([0.5, -2.0, 300.0]),
        pd.Series([0.5, -2.0, 300.0], index=[7, 8, 9]),
        pa.array([0.5, -2.0, 300.0]),
        ["0.5", "-2", "3e2"],
        "[0.5, -2, 3e2]",
        " [0.5,-2,300] ",
        "(0.5, -2, 300)",
        "{0.5,-2,300}",
        "[ 0.5 -2.\n 300. ]",
        "array([0.5, -2. , 300.], dtype=float32)",
        "[np.float64(0.5), np.float64(-2.0), np.float64(300.0)]",
        "0.5|-2|300",
        "0.5; -2; 300;",
        "0.5 -2 300",
        b"[0.5, -2, 300]",
    ],
)
def test_a_vector_is_read_however_it_is_written(cell):
    vectors, size = read_vectors([cell], FIELD)
    assert size == 3
    assert vectors.tolist() == [[0.5, -2.0, 300.0]]


@pytest.mark.parametrize("cell", [None, float("nan"), "", "  ", [], "[]", np.array([]), pd.NA, "unknown"])
def test_missing_vectors_are_nan(cell):
    field = replace(FIELD, missing=("unknown",))
    assert np.isnan(read_vectors([cell, [1.0, 2.0]], field, 2)[0]).tolist() == [[True, True], [False, False]]
    assert read_vectors([cell], field)[0].shape == (1, 0)


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ([1.0, float("nan")], "entry 1 is not a finite number"),
        ("[Infinity, 1]", "entry 0 is not a finite number"),
        ([1.0, None], "entry 1 is not a finite number"),
        ("[1, 2, ...]", "entry 2 is not a finite number"),
        (["a", 2], "entry 0 is not a finite number"),
        ([[1.0], [2.0]], r"it has the shape \(2, 1\)"),
        ("[[1], [2]]", r"it has the shape \(2, 1\)"),
        ([[1.0], [2.0, 3.0]], "it is not a list of numbers"),
        ({"a": 1.0}, "it is not a list of numbers"),
        ({1.0, 2.0}, "it is not a list of numbers"),
        ("Up", "it is not a list of numbers"),
        # decimal commas do not make two numbers of one
        ("0,5; 1,5", "it is not a list of numbers"),
        ("[0,5|1,5]", "it is not a list of numbers"),
        ("0,5 1,5", "entry 1 is not a finite number"),
        ("1.0||2.0", "entry 1 is not a finite number"),
        (7.0, "it is not a list of numbers"),
        ([1.0, 2.0, 3.0], "it has 3 numbers, others have 2"),
    ],
)
def test_cells_that_are_not_vectors_are_named(cell, problem):
    with pytest.raises(UnreadableVector, match=rf"Column 'v' must hold vectors .*{problem}") as caught:
        read_vectors([[1.0, 2.0], cell], FIELD)
    assert caught.value.index == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": {4: [1.0]}}, r"Column 'image' .* got \[1.0\] in row 4 of the training rows: it has 1 numbers"),
        ({"audio": {5: [1.0, math.inf]}}, "in row 5 of the training rows: entry 1 is"),
        (
            {"audio": dict.fromkeys(range(60))},
            "Column 'audio' must hold vectors, but it is empty in all training rows",
        ),
    ],
)
@pytest.mark.parametrize("container", [dict, pa.table, pl.DataFrame])
def test_training_rows_with_wrong_vectors_are_refused(change, message, container):
    train = rows(60)
    for name, cells in change.items():
        train[name] = [cells.get(row, cell) for row, cell in enumerate(train[name])]
    with pytest.raises(ValueError, match=message):
        ClickPromptProcessor.fit(container(train), schema())


def test_rows_to_score_with_wrong_vectors_are_refused():
    processor = fit()
    wrong = {**rows(4), "audio": [None, [1.0, 2.0], [1.0, 2.0, 3.0], None]}
    for given in (wrong, [dict(zip(wrong, row)) for row in zip(*wrong.values())]):
        with pytest.raises(ValueError, match=r"Column 'audio' .* in row 12: it has 3 numbers, others have 2"):
            processor(given, row_offset=10)
    model = build(processor)
    with pytest.raises(ValueError, match=r"Column 'audio' .* in row 12: it has 3 numbers"):
        score_table(pa.table(wrong), processor, model, 2, row_offset=10)
    for number in (1e300, -1e20):
        far = {**rows(2), "audio": [None, [0.0, number]]}
        with pytest.raises(ValueError, match="in row 1: entry 1 is more than 1,000,000,000 standard deviations from"):
            processor(far)


# --- the scale


def test_vectors_are_standardized_by_the_training_rows():
    train = {
        "user": ["a", "b", "c", "d"],
        "v": [[1.0, 7.0, 0.0], [3.0, 7.0, 0.0], None, [5.0, 7.0, 3e-3]],
        "click": [0, 1, 0, 1],
    }
    columns = Schema((FieldSchema("user"), FIELD), label="click")
    processor = ClickPromptProcessor.fit(train, columns)
    assert processor.vector_sizes == [3]
    # mean 3 and variance (4 + 0 + 4) / 3; a constant; mean 1e-3 and variance (1 + 1 + 4) / 3 * 1e-6
    scale = processor.vectors["scales"]["v"]
    np.testing.assert_allclose(scale["mean"], [3, 7, 1e-3])
    np.testing.assert_allclose(scale["std"], [math.sqrt(8 / 3), 0, math.sqrt(2) * 1e-3])
    found = processor({"user": ["a", "a"], "v": [[1.0, 8.0, 2e-3], None]}, return_tensors="pt")["feature_vectors"]
    expected = torch.tensor([[-2 / math.sqrt(8 / 3), 0.0, 1 / math.sqrt(2)], [math.nan] * 3])
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert found.dtype == torch.float32


def test_entries_with_nothing_but_rounding_errors_are_constants():
    # the root of the mean square of all entries is 1
    mean, std = np.array([1.0, -1.0, 1.0, 1e-7, 2e-32]), np.array([0.5, 1e-5, 2e-5, 3e-9, 1e-32])
    mean *= math.sqrt(5 / (3 + 0.25))
    std *= math.sqrt(5 / (3 + 0.25))
    scale = VectorScale.of_moments(mean, std**2, of_states=True)
    assert (scale.std > 0).tolist() == [True, False, True, False, False]
    vectors = mean + std * np.array([[1.0], [-2.0], [math.nan]])
    found = scale.standardized(vectors)
    np.testing.assert_allclose(found[:2], [[1, 0, 1, 0, 0], [-2, 0, -2, 0, 0]], rtol=1e-6)
    assert np.isnan(found[2]).all()
    # of columns of vectors, entries of any scale are kept, unless they are constant themselves
    scale = VectorScale.of_moments(mean, np.array([0.5, 1e-5, 5e-7, 3e-9, 1e-32]) ** 2)
    assert (scale.std > 0).tolist() == [True, True, False, True, True]
    assert VectorScale.from_dict(scale.to_dict()).std.tolist() == scale.std.tolist()


def test_scales_of_earlier_versions_have_a_deviation_of_1_for_constants():
    scale = VectorScale.from_dict({"mean": [7.0, 2.0], "std": [1.0, 4.0]})
    assert scale.standardized(np.array([[8.0, 4.0]])).tolist() == [[1.0, 0.5]]


def test_blocks_have_the_moments_of_the_whole_column(monkeypatch):
    monkeypatch.setattr("clickprompt_hf.data.vector_columns._ROWS_PER_BLOCK", 7)
    vectors = np.asarray(rows(60)["image"])
    for container in (dict, pa.table):
        scale = ClickPromptProcessor.fit(container(rows(60)), schema()).vectors["scales"]["image"]
        np.testing.assert_allclose(scale["mean"], vectors.mean(axis=0))
        np.testing.assert_allclose(scale["std"], vectors.std(axis=0))


def containers(tmp_path):
    """The same rows in every container."""
    given = rows(60)
    texts = {**given, "image": [str(v) for v in given["image"]], "audio": [json.dumps(v) for v in given["audio"]]}
    pd.DataFrame({**texts, "audio": [v.replace("null", "") for v in texts["audio"]]}).to_csv(
        tmp_path / "rows.csv", index=False
    )
    fixed = pa.table(given).set_column(1, "image", pa.array(given["image"], pa.list_(pa.float64(), 3)))
    pq.write_table(fixed, tmp_path / "rows.parquet")
    pd.DataFrame(given).to_json(tmp_path / "rows.jsonl", orient="records", lines=True, double_precision=15)
    yield "dict", given
    yield "arrow", pa.table(given)
    yield "fixed", fixed
    yield "pandas", pd.DataFrame({**given, "image": list(np.asarray(given["image"]))})
    yield "polars", pl.DataFrame(given)
    yield "polars array", pl.DataFrame(given).with_columns(pl.col("image").cast(pl.Array(pl.Float64, 3)))
    yield "datasets", datasets.Dataset.from_dict(given)
    yield "rows", [dict(zip(given, row)) for row in zip(*given.values())]
    yield "csv", pd.read_csv(tmp_path / "rows.csv")
    yield "parquet", pq.read_table(tmp_path / "rows.parquet")
    yield "jsonl", pd.read_json(tmp_path / "rows.jsonl", lines=True, precise_float=True)


def test_all_containers_give_the_same_vectors(tmp_path):
    expected = fit()
    inputs = expected(rows(60), return_tensors="np")
    for name, given in containers(tmp_path):
        processor = ClickPromptProcessor.fit(given, schema())
        for field, scale in expected.vectors["scales"].items():
            for moment, numbers in scale.items():
                np.testing.assert_allclose(processor.vectors["scales"][field][moment], numbers, err_msg=name)
        if name != "datasets":
            found = expected(given, return_tensors="np")["feature_vectors"]
            np.testing.assert_allclose(found, inputs["feature_vectors"], rtol=1e-5, err_msg=name)


def test_files_of_all_formats_give_the_same_splits(tmp_path):
    list(containers(tmp_path))
    found = []
    for name in ("rows.csv", "rows.parquet", "rows.jsonl"):
        splits, _ = load_splits(name.partition(".")[2], tmp_path / name, schema())
        processor = ClickPromptProcessor.fit(splits["train"], schema())
        prepare_splits(splits, processor, tmp_path / f"of_{name}")
        (batch,) = load_prepared(tmp_path / f"of_{name}")[0]["train"].__getitems__(range(40))
        found.append(batch["feature_vectors"])
    assert np.isnan(found[0]).any()
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-5)


# --- the schema


def test_schemas_spell_vectors_as_files_do():
    given = {
        "fields": ["user", {"column": "v", "kind": "vector"}, {"column": "t", "kind": "text", "as": "vector"}],
        "label": "click",
    }
    read = Schema.from_dict(given)
    assert [field.is_vector for field in read.fields] == [False, True, True]
    assert read.fields_in_text == [0, 2]
    assert read.vector_fields == [1, 2]
    written = read.to_dict()
    assert Schema.from_dict(written) == read
    assert written["fields"][2]["as"] == "vector"
    assert "as" not in written["fields"][0]
    assert [field.key for field in read.with_text_fields(["user"]).fields] == ["user", "v", "t"]
    with pytest.raises(ValueError, match=r"got fields of kind 'vector': \['v'\]"):
        read.with_text_fields(["v"])
    with pytest.raises(ValueError, match="`as` of field 't' must be 'vector', got 'ids'"):
        Schema.from_dict({**given, "fields": [{"column": "t", "as": "ids"}]})
    with pytest.raises(
        ValueError, match="of field 't' must be left out unless its kind is 'text', got kind 'categorical'"
    ):
        Schema.from_dict({**given, "fields": [{"column": "t", "as": "vector"}]})
    with pytest.raises(ValueError, match="must include one with ids, but all are of kind 'text' or 'vector'"):
        Schema((FIELD,), label="click")


# --- the layers


def test_a_projection_is_linear_and_has_a_vector_for_missing_ones():
    layer = VectorProjection(4, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2, 3, 4], [0, -1, 0, 1]]))
        layer.bias.copy_(torch.tensor([0.5, -0.5]))
        layer.missing.copy_(torch.tensor([7.0, 8.0]))
    vectors = torch.tensor([[1.0, 1, 1, 1], [math.nan] * 4, [2.0, 0, 0, 4]])
    # W x / sqrt(4) + b
    found = layer(vectors)
    torch.testing.assert_close(found, torch.tensor([[5.5, -0.5], [7.0, 8.0], [9.5, 1.5]]))
    found.sum().backward()
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[1.5, 0.5, 0.5, 2.5]] * 2))
    torch.testing.assert_close(layer.bias.grad, torch.full((2,), 2.0))
    torch.testing.assert_close(layer.missing.grad, torch.full((2,), 1.0))


def test_fresh_projections_have_the_scale_of_embeddings():
    torch.manual_seed(0)
    config = CTRConfig(field_sizes=[3], vector_sizes=[3, 300], embedding_size=64, dnn_hidden_sizes=[4])
    embedding = ClickPromptForCTR(ClickPromptConfig(ctr_config=config, fusion="ctr")).clickprompt.ctr.embedding
    for projection, vectors in zip(embedding.projections, torch.randn(1000, 303).split([3, 300], dim=1)):
        assert 0.018 < projection(vectors).std() < 0.022
        assert projection.bias.abs().max() == projection.missing.abs().max() == 0


def test_vectors_come_after_ids_and_add_to_the_first_order():
    embedding = FeatureEmbedding([3, 2], 1, vector_sizes=[2, 1])
    first_order = FirstOrder([3, 2], vector_sizes=[2, 1])
    first_order.weight.load_state_dict(embedding.state_dict())
    with torch.no_grad():
        for layer in (embedding, first_order.weight):
            layer.table.weight.copy_(torch.arange(5.0).unsqueeze(1))
            layer.projections[0].weight.copy_(torch.tensor([[2.0, 4.0]]))
            layer.projections[1].weight.fill_(3.0)
    ids, vectors = torch.tensor([[2, 1]]), torch.tensor([[1.0, 1.0, 5.0]])
    expected = torch.tensor([[[2.0], [4.0], [6 / math.sqrt(2)], [15.0]]])
    torch.testing.assert_close(embedding(ids, vectors), expected)
    torch.testing.assert_close(first_order(ids, vectors), expected.sum(dim=1))
    for wrong in (None, vectors[:, :2]):
        with pytest.raises(ValueError, match=r"`feature_vectors` must have shape \(batch, 3\)"):
            embedding(ids, wrong)


# --- the backbones


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_reads_vectors(backbone, tmp_path):
    torch.manual_seed(0)
    config = ClickPromptConfig(ctr_config=tiny_ctr_config(backbone, vector_sizes=SIZES), fusion="ctr")
    assert config.ctr_config.num_fields == 5
    model = ClickPromptForCTR(config).eval()
    ids = torch.tensor([[1, 2, 3]] * 4)
    vectors = torch.randn(4, 5)
    vectors[1] = vectors[0]
    vectors[2, :3] = math.nan
    vectors[3, 3:] = math.nan
    logits = model(ids, feature_vectors=vectors).logits
    assert (
        model.clickprompt(ids, feature_vectors=vectors).interaction.shape[1] == model.clickprompt.ctr.interaction_size
    )
    torch.testing.assert_close(logits[0], logits[1])
    assert len({round(logit, 6) for logit in logits.flatten().tolist()}) == 3
    logits.sum().backward()
    for name, parameter in model.named_parameters():
        if "projections" in name:
            assert parameter.grad.isfinite().all()
            # batch norm of FGCNN aside, every parameter of a field counts
            assert parameter.grad.abs().sum() > 0, name
    tables = [name for name, _ in model.named_parameters() if name.endswith("projections.0.weight")]
    # FGCNN has two tables; FM's and DeepFM's linear term is one more
    assert len(tables) == {"fgcnn": 2, "fm": 2, "deepfm": 2}.get(backbone, 1)
    model.save_pretrained(tmp_path)
    loaded = ClickPromptForCTR.from_pretrained(tmp_path)
    assert loaded.config.ctr_config.vector_sizes == SIZES
    torch.testing.assert_close(loaded(ids, feature_vectors=vectors).logits, logits)


def test_wrong_inputs_are_named():
    with_vectors = ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(vector_sizes=SIZES), fusion="ctr"))
    without = ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(), fusion="ctr"))
    ids, vectors = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 5)
    for model, given, message in (
        (with_vectors, None, r"must be given: the model has vectors of the sizes \[3, 2\]"),
        (without, vectors, "must be left out: the model has none"),
        (with_vectors, vectors[:1], r"must be floating-point numbers \(2, 5\), .* got torch.float32 \(1, 5\)"),
        (with_vectors, vectors.long(), r"must be floating-point numbers \(2, 5\), .* got torch.int64"),
    ):
        with pytest.raises(ValueError, match=f"`feature_vectors` {message}"):
            model(ids, feature_vectors=given)
    with pytest.raises(ValueError, match="`vector_sizes` must hold numbers of at least 1, got 0"):
        CTRConfig(vector_sizes=[0])


def test_custom_backbones_need_not_accept_vectors():
    @register_backbone("mine")
    class Mine(CTRBackbone):
        def __init__(self, config):
            super().__init__(config)
            self.interaction_size = self.flat_size

        def interact(self, embeddings, feature_ids):
            return embeddings.flatten(1)

    try:
        backbone = build_backbone(tiny_ctr_config("mine", vector_sizes=SIZES))
        assert backbone(torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 5)).shape == (2, 20)
    finally:
        del REGISTERED["mine"]


# --- rows to scores


@pytest.fixture(scope="module")
def with_text():
    processor = fit(tiny_roberta_tokenizer())
    return build(processor), processor


def test_all_ways_to_score_agree(with_text, tmp_path):
    model, processor = with_text
    table = rows(24, seed=3)
    inputs = processor(table, return_tensors="pt", padding=True)
    assert inputs["feature_vectors"].isnan().any(dim=1).sum() == 5
    with torch.no_grad():
        labels = inputs.pop("labels")
        expected = model(**inputs).logits.squeeze(-1).sigmoid().numpy()
    assert labels.shape == (24,)
    score = ClickPromptPipeline(model, processor, device="cpu")
    assert "image" not in processor.render(table)[0]
    for given in (table, pa.table(table), pd.DataFrame(table), pl.DataFrame(table)):
        found = [row["click_probability"] for row in score(given, batch_size=5)]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(score_table(pa.table(table), processor, model, 7), expected, atol=1e-6)
    row = {name: cells[2] for name, cells in table.items()}
    np.testing.assert_allclose(score(row)["click_probability"], expected[2], atol=1e-6)
    prepare_splits({"train": pa.table(table)}, processor, tmp_path / "data")
    splits, loaded = load_prepared(tmp_path / "data")
    assert loaded.fingerprint == processor.fingerprint
    batch = ClickPromptCollator(loaded)(splits["train"].__getitems__(list(range(24))))
    torch.testing.assert_close(batch["feature_vectors"], inputs["feature_vectors"], equal_nan=True)
    mapped = datasets.Dataset.from_dict(table).map(processor, batched=True, remove_columns=list(table))
    for features in (list(mapped), [mapped[:]], list(mapped.with_format("torch"))):
        stacked = ClickPromptCollator(processor)(features)["feature_vectors"]
        torch.testing.assert_close(stacked, inputs["feature_vectors"], equal_nan=True)
    with pytest.raises(
        ValueError, match=r"`feature_vectors` must be 5 numbers, .* row 0 of the batch has shape \(4,\)"
    ):
        ClickPromptCollator(processor)([{**mapped[0], "feature_vectors": [1.0] * 4}])


def test_vectors_that_are_all_missing_are_named(with_text):
    model, processor = with_text
    table = rows() | {"audio": [None] * 24}
    expected = "All 24 vectors in column 'audio' are missing; training rows had some"
    for score in (
        lambda: processor(table),
        lambda: score_table(pa.table(table), processor, model, 7),
        lambda: ClickPromptPipeline(model, processor, device="cpu")(table),
    ):
        with pytest.warns(UserWarning, match=expected) as shown:
            score()
        assert len([warning for warning in shown if "vectors" in str(warning.message)]) == 1


def test_rows_that_differ_in_vectors_alone_share_no_prompts(with_text):
    model, processor = with_text
    table = rows(8) | {"user": [1] * 8, "title": ["Up"] * 8}
    table["image"], table["audio"] = [[[1.0, 2.0, 3.0], [1.0, 2.0, 4.0]][i % 2] for i in range(8)], [None] * 8
    inputs = dict(processor(table, return_tensors="pt"))
    shared = with_distinct_features(model, inputs)
    assert (shared["feature_ids"].shape, shared["feature_vectors"].shape) == ((2, 2), (2, 5))
    rows_of = shared["feature_rows"]
    torch.testing.assert_close(shared["feature_vectors"][rows_of], inputs["feature_vectors"], equal_nan=True)
    with torch.no_grad():
        expected, found = model(**inputs).logits, model(**shared).logits
    torch.testing.assert_close(found, expected)
    assert (expected[0] - expected[1]).abs() > 1e-4
    table["image"] = rows(8)["image"]
    inputs = dict(processor(table, return_tensors="pt"))
    assert with_distinct_features(model, inputs) is inputs


def test_splits_store_each_vector_once(tmp_path):
    table = rows(60)
    table["image"] = [table["image"][row % 4] for row in range(60)]
    processor = ClickPromptProcessor.fit(table, schema())
    prepare_splits(
        {"train": pa.table(rows(60) | table).slice(0, 40), "test": pa.table(table).slice(40)},
        processor,
        tmp_path / "d",
    )
    splits, _ = load_prepared(tmp_path / "d")
    train, test = splits["train"], splits["test"]
    assert [table.shape for table in train.vectors.tables] == [(4, 3), (49, 2)]
    assert all(isinstance(table, np.memmap) for table in train.vectors.tables)
    whole = ColumnarDataset.concatenate([train, test])
    expected = processor(table, return_tensors="np")["feature_vectors"]
    for part, numbers in ((whole, expected), (train.slice(3, 9).without_text(), expected[3:9])):
        (batch,) = part.__getitems__(list(range(len(part))))
        np.testing.assert_array_equal(batch["feature_vectors"], numbers)
    apart = ColumnarDataset.concatenate([test, train])
    np.testing.assert_array_equal(apart[0]["feature_vectors"], expected[40])


def test_pretraining_reads_vectors(with_text, tmp_path):
    _, processor = with_text
    prepare_splits({"train": pa.table(rows(24))}, processor, tmp_path / "data")
    train = load_prepared(tmp_path / "data")[0]["train"]
    batch = ClickPromptMLMCollator(processor, mlm_probability=0.5)(train.__getitems__(list(range(24))))
    model = build(processor, ClickPromptForPAMLM)
    loss = model(**batch).loss
    loss.backward()
    assert model.clickprompt.ctr.embedding.projections[0].weight.grad.abs().sum() > 0


def test_checkpoints_keep_the_scale_and_threads_share_a_processor(with_text, tmp_path):
    model, processor = with_text
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = ClickPromptProcessor.from_pretrained(tmp_path)
    assert loaded.fingerprint == processor.fingerprint
    assert loaded.vectors == processor.vectors
    score, again = pipeline("ctr-prediction", str(tmp_path)), ClickPromptPipeline(model, processor, device="cpu")
    tables = [rows(9, seed=seed) for seed in range(16)]
    for shared, table in zip(in_threads(score, tables), tables, strict=True):
        probabilities = [[row["click_probability"] for row in answer] for answer in (shared, again(table))]
        np.testing.assert_allclose(*probabilities, rtol=0, atol=1e-6)
    config = json.loads((tmp_path / "processor_config.json").read_text())
    changed = copy.deepcopy(config)
    changed["vectors"]["scales"]["image"]["std"][0] *= 2
    for wrong, message in (
        (changed, "must be the whole file that was saved with processor_config.json"),
        ({**config, "vectors": {"scales": {}}}, "`vectors` must have the scale of the field 'image'"),
        ({**config, "vectors": 3}, "`vectors` in processor_config.json must be a mapping"),
    ):
        (tmp_path / "processor_config.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=message):
            ClickPromptProcessor.from_pretrained(tmp_path)
    other = ClickPromptProcessor.fit(rows(60) | {"image": [[1.0]] * 60}, schema(), tiny_roberta_tokenizer())
    with pytest.raises(ValueError, match=r"the processor has `vector_sizes` \[1, 2\], the model \[3, 2\]"):
        other.check_model(model.config)


@pytest.mark.parametrize("written", [list, str])
def test_drafts_recognise_vectors(written):
    draw = np.random.default_rng(0)
    vectors = [[round(float(x), 3) for x in vector] for vector in draw.normal(0, 1, (40, 8))]
    table = pa.table(
        {
            "user": [f"u{n % 7}" for n in range(40)],
            "embedding": [None if n == 3 else written(vector) for n, vector in enumerate(vectors)],
            "short": [written(vector[:3]) for vector in vectors],
            "click": [n % 2 for n in range(40)],
        }
    )
    kinds = {field.column: field.kind for field in draft_schema_of(table, "click").fields}
    assert kinds["embedding"] == "vector"
    assert kinds["short"] == "vector"
