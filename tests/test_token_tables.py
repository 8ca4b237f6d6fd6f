"""Texts assembled from tables equal tokenized texts."""

import copy

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_data import (
    tiny_bert_tokenizer,
    tiny_roberta_tokenizer,
    tiny_rows,
    tiny_schema,
    tiny_t5_tokenizer,
    whole_text_tokenizer,
)
from tiny_tokenizers import CONTROL, KINDS, tokenizer_of
from tokenizers import AddedToken

from clickprompt_hf import ClickPromptProcessor, FieldSchema, Schema
from clickprompt_hf.data import token_tables
from clickprompt_hf.data.collators import ClickPromptMLMCollator
from clickprompt_hf.data.columnar import encode_tables
from clickprompt_hf.data.token_tables import TokenTables
from clickprompt_hf.tokenization_clickprompt import control_tokens, plain_backend, tokenize


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


TITLES = st.lists(
    st.sampled_from([*CONTROL, "Up", "is", " ", "  ", "\u2581", "Noir", "\u00b4", "\u200b", "zyz", "ZYZ", "7", "."]),
    max_size=6,
).map("".join)
# Values within the text, at its end, and at its start.
TEMPLATES = ("{name} is {value}.", "{name}: {value}", "{value} ({name})")


def rows_of_titles(titles):
    return {"user": [*range(len(titles))], "title": titles, "click": [0] * len(titles)}


def processor_of(tokenizer, titles, template=TEMPLATES[0], max_text_length=None):
    fields = (FieldSchema("title", "Title"), FieldSchema("user", "User"))
    schema = Schema(fields, label="click", template=template)
    return ClickPromptProcessor.fit(rows_of_titles(titles), schema, tokenizer, max_text_length=max_text_length)


def assembled_texts(processor, rows):
    arrays, tables, _ = encode_tables([pa.table(rows)], processor, with_text=True, with_value_fields=True)
    input_ids, attention_mask = tables.assemble(arrays["clause_ids"])
    return [row[: mask.sum()].tolist() for row, mask in zip(input_ids, attention_mask)]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(derandomize=True, deadline=None, max_examples=25)
def test_text_is_never_a_control_token_and_has_the_same_tokens_on_every_way(kind, data):
    tokenizer = tokenizer_of(kind, truncation_side=data.draw(st.sampled_from(["left", "right"])))
    tokenizer.padding_side = data.draw(st.sampled_from(["left", "right"]))
    if data.draw(st.booleans()):
        tokenizer.add_tokens([AddedToken("zyz", lstrip=data.draw(st.booleans()), rstrip=data.draw(st.booleans()))])
    titles = data.draw(st.lists(TITLES, min_size=1, max_size=8))
    limit = data.draw(st.sampled_from([None, 2, 3, 5, 9, 40]))
    processor = processor_of(tokenizer, titles, data.draw(st.sampled_from(TEMPLATES)), limit)
    rows = rows_of_titles(titles)
    found = processor(rows)["input_ids"]
    assert assembled_texts(processor, rows) == found
    batch = processor(rows, return_tensors="pt")
    assert [row[mask == 1].tolist() for row, mask in zip(batch["input_ids"], batch["attention_mask"])] == found
    whole = [len(text) for text in processor_of(tokenizer, titles, processor.schema.template)(rows)["input_ids"]]
    assert [len(text) for text in found] == [length if limit is None else min(length, limit) for length in whole]

    before, after = token_tables.special_tokens_around(processor.tokenizer)
    control = processor.tokenizer.convert_tokens_to_ids(sorted(control_tokens(processor.tokenizer)))
    control = {*control} - {processor.tokenizer.unk_token_id}
    for text in found:
        assert (text[: len(before)], text[len(text) - len(after) :]) == (before, after)
        assert not control.intersection(text[len(before) : len(text) - len(after)])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
def test_texts_without_control_tokens_have_the_tokens_of_the_tokenizer(kind, side):
    tokenizer = tokenizer_of(kind, truncation_side=side)
    rows = rows_of_titles(
        ["Up", "Seven Samurai, The", "It's: a {gift}", "Caf\u00e9 Noir", "<x> [y] </z>", "<b>bold</b>"]
    )
    for limit in (None, 4, 11):
        processor = processor_of(tokenizer, rows["title"], max_text_length=limit)
        truncation = {} if limit is None else {"truncation": True, "max_length": limit}
        own = copy.deepcopy(tokenizer)(processor.render(rows), **truncation)["input_ids"]
        assert processor(rows)["input_ids"] == own == assembled_texts(processor, rows)


@pytest.mark.parametrize("kind", ["byte-level BPE", "byte-level BPE with a prefix space", "WordPiece", "Llama"])
def test_control_tokens_in_texts_are_split_as_transformers_splits_them(kind):
    tokenizer = tokenizer_of(kind)
    titles = [f"a {token}b" for token in CONTROL]
    texts = processor_of(tokenizer, titles).render(rows_of_titles(titles))
    assert tokenize(tokenizer, texts) == copy.deepcopy(tokenizer)(texts, split_special_tokens=True)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_a_user_added_stay_tokens(kind):
    tokenizer = tokenizer_of(kind)
    tokenizer.add_tokens(["zyzzyva"])
    added = tokenizer.convert_tokens_to_ids("zyzzyva")
    titles = ["zyzzyva", "a zyzzyva", "zyzzyva </s> [MASK]"]
    processor = processor_of(tokenizer, titles)
    assert [text.count(added) for text in processor(rows_of_titles(titles))["input_ids"]] == [1, 1, 1]


def test_one_doubtful_clause_among_many_rows_is_found():
    tokenizer = tokenizer_of("byte-level BPE")
    # takes the space between two clauses
    tokenizer.add_tokens([AddedToken("zyz.", rstrip=True)])
    titles = [*["Up"] * 1000, "zyz", *["Up"] * 1000]
    processor = processor_of(tokenizer, titles)
    rows = rows_of_titles(titles)
    assert assembled_texts(processor, rows) == processor(rows)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_limits_that_leave_no_room_for_special_tokens_are_refused(kind):
    tokenizer = tokenizer_of(kind)
    fewest = max(1, sum(map(len, token_tables.special_tokens_around(tokenizer))))
    rows = rows_of_titles(["Up", "Seven Samurai"])
    for limit in range(-1, fewest):
        with pytest.raises(ValueError, match="max_text_length"):
            processor_of(tokenizer, rows["title"], max_text_length=limit)(rows)
    for limit in range(fewest, fewest + 3):
        processor = processor_of(tokenizer, rows["title"], max_text_length=limit)
        assert {len(text) for text in processor(rows)["input_ids"]} == {limit}
        assert assembled_texts(processor, rows) == processor(rows)["input_ids"]


def test_control_tokens_in_texts_are_masked_like_other_text():
    titles = ["<mask> </s>", "Up <pad>"]
    processor = processor_of(tokenizer_of("byte-level BPE"), titles)
    encoded = processor(rows_of_titles(titles))
    features = [dict(zip(encoded, row)) for row in zip(*encoded.values())]
    labels = ClickPromptMLMCollator(processor, mlm_probability=1 - 1e-9)(features)["labels"]
    for row, text in zip(labels.tolist(), encoded["input_ids"]):
        assert row[: len(text)] == [-100, *text[1:-1], -100]


def test_field_masking_needs_to_know_the_characters_of_a_token():
    processor = processor_of(tokenizer_of("in Python"), ["Up"])
    ClickPromptMLMCollator(processor)
    with pytest.raises(ValueError, match="`masking='field'` needs a fast tokenizer, but CharacterTokenizer"):
        ClickPromptMLMCollator(processor, masking="field")
