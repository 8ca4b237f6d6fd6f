"""Texts assembled from tables equal tokenized texts."""

import copy

import numpy as np
import pytest
from tiny_data import (
    tiny_bert_tokenizer,
    tiny_roberta_tokenizer,
    tiny_rows,
    tiny_schema,
    tiny_t5_tokenizer,
    whole_text_tokenizer,
)

from clickprompt_hf import ClickPromptProcessor
from clickprompt_hf.data import token_tables
from clickprompt_hf.data.token_tables import TokenTables
from clickprompt_hf.processing_clickprompt import plain_backend


def build(tokenizer, max_text_length=None, num_rows=200):
    rows = tiny_rows(num_rows)
    processor = ClickPromptProcessor.fit(rows, tiny_schema(), tokenizer)
    clauses, clause_ids = [], []
    for f, column in enumerate(processor.schema.columns):
        distinct, inverse = np.unique(processor.render_values(f, rows[column]), return_inverse=True)
        clauses.append(distinct.tolist())
        clause_ids.append(inverse)
    affixes = [processor.affixes(f) for f in range(4)]
    tables, ids = TokenTables.build(clauses, np.stack(clause_ids, axis=1), affixes, tokenizer, max_text_length)
    return tables, ids, processor.render(rows)


@pytest.mark.parametrize("truncation_side", ["right", "left"])
@pytest.mark.parametrize("max_text_length", [None, 12, 3])
@pytest.mark.parametrize(
    "make_tokenizer", [tiny_roberta_tokenizer, tiny_bert_tokenizer, tiny_t5_tokenizer, whole_text_tokenizer]
)
def test_assembled_rows_equal_tokenized_rows(make_tokenizer, max_text_length, truncation_side, tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(token_tables.logger, "warning_once", warnings.append)
    tokenizer = copy.deepcopy(make_tokenizer())
    tokenizer.truncation_side = truncation_side
    tables, ids, texts = build(tokenizer, max_text_length)
    # The last token alone is the same in a clause and in a text.
    falls_back = make_tokenizer is whole_text_tokenizer and (truncation_side, max_text_length) != ("left", 3)
    assert ids.shape == (200, 1 if falls_back else 4)
    assert len(warnings) == falls_back
    limit = {} if max_text_length is None else {"truncation": True, "max_length": max_text_length}
    tables.save(tmp_path)
    for assembled in (tables, TokenTables.load(tmp_path)):
        for rows in (np.arange(200), np.array([5]), np.array([7, 7, 0])):
            expected = tokenizer(
                [texts[row] for row in rows], padding=True, padding_side="right", return_tensors="np", **limit
            )
            input_ids, attention_mask = assembled.assemble(ids[rows])
            np.testing.assert_array_equal(input_ids, expected["input_ids"])
            np.testing.assert_array_equal(attention_mask, expected["attention_mask"])


def test_clauses_are_tokenized_in_parts(monkeypatch):
    class Recording:
        """The backend of a tokenizer that records how many texts each call gets."""

        def __init__(self, tokenizer):
            self.backend = plain_backend(tokenizer)
            self.encode = self.backend.encode

        def encode_batch(self, texts, **options):
            sizes.append(len(texts))
            return self.backend.encode_batch(texts, **options)

    sizes = []
    monkeypatch.setattr(token_tables, "plain_backend", Recording)
    whole, _, _ = build(tiny_roberta_tokenizer())
    monkeypatch.setattr(token_tables, "_TEXTS_PER_CALL", 7)
    parts, _, _ = build(tiny_roberta_tokenizer())
    assert sizes == [60, *[7] * 8, 4]
    for name in ("tokens", "value_fields", "offsets"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize("tokenizer", [tiny_roberta_tokenizer, whole_text_tokenizer])
def test_the_tokenizer_is_left_as_it_was(tokenizer):
    owned = tokenizer()
    backend = owned.backend_tokenizer
    backend.enable_truncation(7)
    backend.enable_padding(length=9)
    before = backend.truncation, backend.padding
    build(owned, max_text_length=12)
    assert owned.backend_tokenizer is backend
    assert (backend.truncation, backend.padding) == before


def test_lengths_are_counted_before_truncation():
    tables, ids, texts = build(tiny_roberta_tokenizer(), max_text_length=5)
    assert tables.lengths(ids).tolist() == [len(tiny_roberta_tokenizer()(text)["input_ids"]) for text in texts]


@pytest.mark.parametrize("max_text_length", [None, 9])
@pytest.mark.parametrize("tokenizer", [tiny_roberta_tokenizer, tiny_bert_tokenizer])
def test_value_fields_mark_values_and_never_the_template(tokenizer, max_text_length):
    tables, ids, _ = build(tokenizer(), max_text_length)
    rows = tiny_rows(200)
    input_ids, _ = tables.assemble(ids)
    fields = tables.assemble_value_fields(ids)
    assert fields.shape == input_ids.shape
    for row in range(0, 200, 7):
        shown = [tokenizer().decode(input_ids[row][fields[row] == number]).strip() for number in (0, 1, 4)]
        assert shown[1] == str(rows["user"][row])
        if max_text_length is None:
            assert shown[0].lower().count(" is") == 4
            title = rows["title"][row] or "unknown"
            if title == "Up":
                assert shown[2].lower() == "up"
