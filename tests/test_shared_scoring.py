"""Scoring computes texts and ids that rows share once, and the scores stay those of the plain path."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from threads import in_threads
from tiny_data import rows_of_lengths, tiny_roberta_tokenizer, tiny_rows, tiny_schema
from tiny_models import tiny_ctr_config, tiny_text_config

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptPipeline, ClickPromptProcessor
from clickprompt_hf.configuration_clickprompt import SPLIT_FAMILIES
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.data.text_states import TextStates
from clickprompt_hf.data.text_variants import DistinctTexts
from clickprompt_hf.inspection import what_if
from clickprompt_hf.recent_texts import RecentTexts
from clickprompt_hf.runs import predict
from clickprompt_hf.scoring import StoredTexts, score_file, score_table

FAMILIES = [family for family in SPLIT_FAMILIES if family not in ("xlm-roberta", "camembert")]
LAYERS = {"gpt2": "n_layer", "distilbert": "n_layers"}
POSITIONS = {"gpt2": "n_positions"}


def checkpoint(family="bert", num_layers=3, max_text_length=30, **options):
    """A processor and a model with random weights, whose upper two layers have prompts."""
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tiny_roberta_tokenizer(), 1, max_text_length)
    sizes = {LAYERS.get(family, "num_hidden_layers"): num_layers, POSITIONS.get(family, "max_position_embeddings"): 60}
    options = {"prompt_depth": 2, "prompt_length": 2, "pooling": "mean", "initializer_range": 0.2} | options
    torch.manual_seed(0)
    config = ClickPromptConfig(
        text_config=tiny_text_config(family, vocab_size=len(processor.tokenizer), **sizes),
        ctr_config=tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values),
        **options,
    )
    return processor, ClickPromptForCTR(config).eval()


@pytest.fixture(scope="module")
def late():
    return checkpoint(pooling="cls")


def rows(num_rows=61, seed=5):
    """Rows whose texts are short or truncated, and repeat."""
    columns = rows_of_lengths(1 + num_rows // 3, seed)
    return {name: [*values * 4][:num_rows] for name, values in columns.items() if name != "click"}


@torch.no_grad()
def plain_probabilities(columns, processor, model):
    """All rows in one batch, without anything shared."""
    return model(**processor(columns, return_tensors="pt")).logits.sigmoid().squeeze(-1).numpy()


def probabilities(scores):
    return [row["click_probability"] for row in scores]


def count_texts(model, monkeypatch):
    """Numbers of texts that the lower layers read, one per call."""
    counts = []
    encode = model.encode_text

    def counted(input_ids, attention_mask):
        counts.append(len(input_ids))
        return encode(input_ids, attention_mask)

    monkeypatch.setattr(model, "encode_text", counted)
    return counts


@pytest.mark.parametrize(
    ("family", "strategy"), [*((family, "layerwise") for family in FAMILIES), ("bert", "none"), ("llama", "none")]
)
def test_states_do_not_change_scores(family, strategy):
    processor, model = checkpoint(family, prompt_strategy=strategy)
    expected = plain_probabilities(rows(), processor, model)
    assert np.ptp(expected) > 0.05
    table, recent = pa.table(rows()), RecentTexts()
    score = ClickPromptPipeline(model, processor, device="cpu")
    for batch_size in (200, 9):
        scores = score_table(table, processor, model, batch_size, recent_texts=recent)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(probabilities(score(rows(), batch_size)), expected, rtol=0, atol=1e-6)
    one = {name: values[3] for name, values in rows().items()}
    assert score(one)["click_probability"] == pytest.approx(expected[3], abs=1e-6)
    assert len(recent) == len(score.recent_texts) == 21


@pytest.mark.parametrize("pooling", ["cls", "mean_last_two", "mean_first_last"])
@pytest.mark.parametrize("num_layers", [3, 4])
def test_every_pooling_gives_the_same_scores(pooling, num_layers):
    processor, model = checkpoint(pooling=pooling, num_layers=num_layers)
    scores = score_table(pa.table(rows()), processor, model, 16)
    np.testing.assert_allclose(scores, plain_probabilities(rows(), processor, model), rtol=0, atol=1e-6)


def test_in_bf16_states_are_those_of_bf16(late):
    processor, model = late
    table, recent = pa.table(rows()), RecentTexts()
    expected = score_table(table, processor, model, 7, bf16=True, recent_texts=RecentTexts(0))
    for _ in range(2):
        scores = score_table(table, processor, model, 7, bf16=True, recent_texts=recent)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=5e-3)
    expected = plain_probabilities(rows(), processor, model)
    scores = score_table(table, processor, model, 7, recent_texts=recent)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


def test_each_text_is_read_once(late, monkeypatch, tmp_path):
    processor, model = late
    texts_read = count_texts(model, monkeypatch)
    num_texts = len(set(map(tuple, processor(rows())["input_ids"])))
    table = pa.table(rows())
    score_table(table, processor, model, 7)
    assert sum(texts_read) == num_texts < 61
    texts_read.clear()
    score = ClickPromptPipeline(model, processor, device="cpu")
    score(rows(), batch_size=7)
    score(rows())
    assert sum(texts_read) == num_texts
    texts_read.clear()
    # the pieces of a file share the states
    pd.DataFrame(rows()).to_csv(tmp_path / "rows.csv", index=False)
    score_file(tmp_path / "rows.csv", tmp_path / "scores.csv", processor, model, 8, piece_rows=16)
    assert sum(texts_read) == num_texts
    found = pd.read_csv(tmp_path / "scores.csv")["click_probability"]
    np.testing.assert_allclose(found, plain_probabilities(rows(), processor, model), rtol=0, atol=1e-6)


def test_a_model_that_has_learned_reads_its_texts_again(late):
    processor, model = checkpoint(pooling="cls")
    score = ClickPromptPipeline(model, processor, device="cpu")
    before = probabilities(score(rows()))
    with torch.no_grad():
        model.clickprompt.plm.get_input_embeddings().weight.mul_(1.5)
    after = probabilities(score(rows()))
    np.testing.assert_allclose(after, plain_probabilities(rows(), processor, model), rtol=0, atol=1e-6)
    assert np.abs(np.subtract(after, before)).max() > 1e-3
    # another model of the same class
    score.model = late[1]
    expected = plain_probabilities(rows(), *late)
    np.testing.assert_allclose(probabilities(score(rows())), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("megabytes", [0, 0.005, 256])
def test_threads_share_the_states_of_a_pipeline(megabytes, late):
    processor, model = late
    score = ClickPromptPipeline(model, processor, text_state_memory=megabytes, device="cpu")
    kinds = [rows(2 + n % 5 * 3, seed=n) for n in range(9)]
    expected = [plain_probabilities(columns, processor, model) for columns in kinds] * 6
    calls = kinds * 6
    for shared, alone in zip(in_threads(lambda columns: probabilities(score(columns)), calls), expected, strict=True):
        np.testing.assert_allclose(shared, alone, rtol=0, atol=1e-6)
    assert score.recent_texts.num_bytes <= megabytes * 1e6


def count_ids(model, monkeypatch):
    """Numbers of rows of ids that the backbone reads, one per call."""
    counts = []
    forward = model.clickprompt.ctr.forward

    def counted(feature_ids):
        counts.append(len(feature_ids))
        return forward(feature_ids)

    monkeypatch.setattr(model.clickprompt.ctr, "forward", counted)
    return counts


@pytest.mark.parametrize(
    "options",
    [
        {"fusion": "ctr"},
        {"prompt_depth": None},
        {"prompt_depth": None, "prompt_strategy": "shallow"},
        {"prompt_encoder": "paper"},
        {"pooling": "mean_first_last", "prompt_depth": None},
    ],
)
def test_equal_ids_go_through_the_backbone_once(options, monkeypatch):
    processor, model = checkpoint(**options)
    # one user and many titles that training did not have
    columns = rows() | {"user": [3] * 61, "price": [2.5] * 61, "tags": ["new"] * 61}
    expected = plain_probabilities(columns, processor, model)
    ids_read = count_ids(model, monkeypatch)
    scores = score_table(pa.table(columns), processor, model, 16)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    assert len(ids_read) == 4
    assert sum(ids_read) < 20
    ids_read.clear()
    scores = ClickPromptPipeline(model, processor, device="cpu", return_logits=True)(columns)
    np.testing.assert_allclose(probabilities(scores), expected, rtol=0, atol=1e-6)
    assert sum(ids_read) < 20
    # most rows differ
    ids_read.clear()
    distinct = {name: values[:40] for name, values in tiny_rows(300).items()}
    np.testing.assert_allclose(
        score_table(pa.table(distinct), processor, model, 40),
        plain_probabilities(distinct, processor, model),
        rtol=0,
        atol=1e-6,
    )
    assert 40 in ids_read


def test_what_if_reads_the_same_text_once(late, monkeypatch):
    processor, model = late
    row = {name: values[0] for name, values in rows().items()}
    expected = what_if(model, processor, row, "title", ["Up", "Noir", "Up"])
    texts_read, recent = count_texts(model, monkeypatch), RecentTexts()
    for _ in range(2):
        found = what_if(model, processor, row, "title", ["Up", "Noir", "Up"], recent)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert texts_read == [2]


def test_predict_keeps_states_within_the_given_memory(late, tmp_path, monkeypatch, caplog):
    processor, model = late
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    pd.DataFrame(rows()).to_csv(tmp_path / "rows.csv", index=False)
    arguments = ["--model", str(tmp_path / "model"), "--input", str(tmp_path / "rows.csv"), "--batch_size", "8"]
    given = []
    init = RecentTexts.__init__

    def watched(self, megabytes=256):
        given.append(megabytes)
        init(self, megabytes)

    monkeypatch.setattr(RecentTexts, "__init__", watched)
    for name, memory in {"default": [], "none": ["--text_state_memory", "0"]}.items():
        predict.main([*arguments, "--output", str(tmp_path / f"{name}.csv"), *memory])
    assert given == [256, 0]
    with_states, without = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("default", "none"))
    np.testing.assert_allclose(with_states["click_probability"], without["click_probability"], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="`text_state_memory` must be at least 0, got -1.0"):
        predict.main([*arguments, "--output", str(tmp_path / "x.csv"), "--text_state_memory", "-1"])
    assert "has no effect" not in caplog.text
    full = checkpoint(prompt_depth=None)[1]
    full.save_pretrained(tmp_path / "model")
    predict.main([*arguments, "--output", str(tmp_path / "full.csv"), "--text_state_memory", "10"])
    assert "--text_state_memory has no effect" in caplog.text


def texts_in(folder):
    return [DistinctTexts.of(split) for split in load_prepared(folder)[0].values()]


def test_predict_reads_the_states_that_training_has_left(tmp_path, monkeypatch, caplog):
    # in a model of its own: the states of a file belong to weights
    processor, model = checkpoint(pooling="cls")
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    splits = {"train": pa.table(rows(40) | {"click": [0, 1] * 20})}
    prepare_splits(splits, processor, tmp_path / "prepared")
    states = TextStates.build(model, texts_in(tmp_path / "prepared"), tmp_path / "states")
    columns = {name: [*values[:20], *tiny_rows(20, 9)[name]] for name, values in rows(40).items()}
    pd.DataFrame(columns).to_csv(tmp_path / "rows.csv", index=False)
    expected = plain_probabilities(columns, processor, model)
    computed = []
    read = RecentTexts.read

    def watched(self, model, input_ids, attention_mask):
        computed.append(len(input_ids))
        return read(self, model, input_ids, attention_mask)

    monkeypatch.setattr(RecentTexts, "read", watched)
    arguments = ["--model", str(tmp_path / "model"), "--input", str(tmp_path / "rows.csv"), "--batch_size", "8"]

    def predict_with(*others):
        computed.clear()
        predict.main([*arguments, "--output", str(tmp_path / "scores.csv"), *others])
        return pd.read_csv(tmp_path / "scores.csv")["click_probability"], sum(computed)

    scores, num_computed = predict_with("--text_state_dir", str(tmp_path / "states"))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    new_texts = set(map(tuple, processor(columns)["input_ids"][20:]))
    assert num_computed == len(new_texts)
    assert "they are computed" not in caplog.text
    assert len(TextStates(states.folder)) == len(states)
    # of another type
    scores, num_computed = predict_with("--text_state_dir", str(tmp_path / "states"), "--text_state_dtype", "bf16")
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    assert num_computed > len(new_texts)
    assert "has no bf16 states of this model's lower layers; computing them" in caplog.text
    TextStates.build(model, texts_in(tmp_path / "prepared"), tmp_path / "states", "bf16")
    scores, num_computed = predict_with("--text_state_dir", str(tmp_path / "states"), "--text_state_dtype", "bf16")
    np.testing.assert_allclose(scores, expected, rtol=0, atol=0.02)
    assert num_computed == len(new_texts)
    with pytest.raises(ValueError, match="`text_state_memory` must be above 0 with `text_state_dir`, got 0"):
        predict_with("--text_state_dir", str(tmp_path / "states"), "--text_state_memory", "0")
    with pytest.raises(ValueError, match="`text_state_dir` must be a folder of cached states, got .*nowhere"):
        predict_with("--text_state_dir", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="`text_state_dir` needs a model with layers below the prompts"):
        StoredTexts(checkpoint(prompt_depth=None)[1], tmp_path / "states")
