"""Adding ids to a trained checkpoint: vocabularies and tables grow, existing rows stay."""

import datasets
import numpy as np
import pytest
import torch
from tiny_data import tiny_rows, tiny_schema
from tiny_models import BACKBONES, FIELD_SIZES, tiny_batch, tiny_config, tiny_ctr_config

from clickprompt_hf import (
    ClickPromptConfig,
    ClickPromptForCTR,
    ClickPromptForPAMLM,
    ClickPromptProcessor,
    FieldSchema,
    Schema,
)

SCHEMA = Schema((FieldSchema("user"), FieldSchema("tags", kind="multi_valued")), label="click")
TRAIN = {"user": [7, 7, 3], "tags": ["a|b", "a", "c"]}
NEW_SIZES = [9, 5, 14]


def build(backbone="dcnv2", model_class=ClickPromptForCTR, **options):
    torch.manual_seed(0)
    model = model_class(tiny_config(backbone=backbone, **options)).eval()
    for parameter in model.parameters():
        # out-of-vocabulary rows start at zero, which would hide mistakes
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def logits(model, batch):
    with torch.no_grad():
        return model(**batch).logits


def test_known_values_keep_their_ids_and_new_ones_follow():
    processor = ClickPromptProcessor.fit(TRAIN, SCHEMA)
    before, fingerprint = processor(TRAIN)["feature_ids"], processor.fingerprint
    rows = {"user": [3, 9, 8, 8, None], "tags": ["d", "e|a", "e", "", "d|e"]}
    assert processor({"user": 8, "tags": "e"})["feature_ids"] == [[0, 0, -1, -1, -1, -1]]
    # the most frequent new value first
    assert processor.extend(rows) == processor.field_sizes == [6, 7]
    assert processor.vocabularies == [["7", "3", "8", "", "9"], ["a", "b", "c", "e", "d", ""]]
    assert processor(TRAIN)["feature_ids"] == before
    assert processor({"user": 8, "tags": "e"})["feature_ids"] == [[3, 4, -1, -1, -1, -1]]
    assert processor.fingerprint != fingerprint
    # extending again adds nothing
    assert processor.extend(datasets.Dataset.from_dict(rows)) == [6, 7]


def test_rare_new_values_stay_out_of_vocabulary():
    processor = ClickPromptProcessor.fit(TRAIN, SCHEMA)
    assert processor.extend({"user": [1, 1, 2], "tags": ["a", "x", "x"]}, min_count=2) == [4, 5]
    for rows, options, message in (
        (TRAIN, {"min_count": 0}, "`min_count` must be at least 1"),
        ({"user": [1]}, {}, r"missing \['tags'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            processor.extend(rows, **options)


def test_buckets_of_numeric_fields_stay():
    rows = tiny_rows()
    processor = ClickPromptProcessor.fit({**rows, "price": [float(n) for n in range(60)]}, tiny_schema())
    sizes, boundaries = processor.field_sizes, [list(inner) for inner in processor.boundaries]
    new_sizes = processor.extend({**rows, "price": [1000.0 + n for n in range(59)] + [None]})
    assert processor.boundaries == boundaries
    # the missing value is new; numbers are not
    assert new_sizes == [sizes[0], sizes[1] + 1, *sizes[2:]]


def test_extended_processors_are_saved(tmp_path):
    processor = ClickPromptProcessor.fit(TRAIN, SCHEMA)
    processor.extend({"user": [8], "tags": ["e"]})
    processor.save_pretrained(tmp_path)
    assert ClickPromptProcessor.from_pretrained(tmp_path).vocabularies == [["7", "3", "8"], ["a", "b", "c", "e"]]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_old_ids_score_as_before_and_new_ones_as_unseen(backbone, tmp_path):
    model, batch = build(backbone), tiny_batch()
    before = logits(model, batch)
    new, unseen = ({**batch, "feature_ids": batch["feature_ids"].clone()} for _ in range(2))
    new["feature_ids"][:, 0], new["feature_ids"][:, 2] = 8, 13
    unseen["feature_ids"][:, [0, 2]] = 0
    of_unseen = logits(model, unseen)

    model.resize_feature_embeddings(NEW_SIZES)
    torch.testing.assert_close(logits(model, batch), before)
    torch.testing.assert_close(logits(model, new), of_unseen)
    assert model.config.ctr_config.field_sizes == NEW_SIZES
    with pytest.raises(IndexError, match=r"must be in \[0, 9\), got 9"):
        model(**{**batch, "feature_ids": batch["feature_ids"] * 0 + torch.tensor([9, 0, 0])})

    model.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(ClickPromptForCTR.from_pretrained(tmp_path), new), of_unseen)


@pytest.mark.parametrize("backbone", ["deepfm", "fgcnn", "lr"])
def test_new_rows_train_apart_from_old_ones(backbone):
    model, batch = build(backbone), tiny_batch()
    frozen = model.clickprompt.ctr.embedding.table.weight.requires_grad_(backbone != "lr")
    model.resize_feature_embeddings(NEW_SIZES)
    assert model.clickprompt.ctr.embedding.table.weight.requires_grad == frozen.requires_grad
    tables = [module for module in model.modules() if hasattr(module, "field_offsets")]
    assert len(tables) == {"deepfm": 2, "fgcnn": 2, "lr": 1}[backbone]
    before = [table.table.weight.detach().clone() for table in tables]
    batch["feature_ids"][:, 0] = 8
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(**batch, labels=torch.tensor([0, 1, 0, 1, 1])).loss.backward()
    optimizer.step()
    for table, rows in zip(tables, before):
        assert table.table.weight.shape[0] == table.table.num_embeddings == sum(NEW_SIZES)
        moved = (table.table.weight != rows).any(dim=1)
        if backbone == "lr":
            assert not moved.any()
        else:
            # in the first field, only the new row moves, not the one it was copied from
            assert moved[: NEW_SIZES[0]].tolist() == [False] * 8 + [True]


def test_pretraining_models_and_models_without_a_plm_grow_too():
    model = build(model_class=ClickPromptForPAMLM)
    before = logits(model, tiny_batch())
    model.resize_feature_embeddings(NEW_SIZES)
    torch.testing.assert_close(logits(model, tiny_batch()), before)

    config = ClickPromptConfig(ctr_config=tiny_ctr_config("fm", max_values=[1, 2, 1]), fusion="ctr")
    alone = ClickPromptForCTR(config).eval()
    ids = torch.tensor([[3, 4, -1, 10], [0, 0, 4, 1]])
    before = logits(alone, {"feature_ids": ids})
    alone.resize_feature_embeddings(NEW_SIZES)
    torch.testing.assert_close(logits(alone, {"feature_ids": ids}), before)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([9, 5], r"`field_sizes` must have one entry per field \(3\), got 2"),
        ([9, 4, 14], r"`field_sizes\[1\]` must be an integer of at least 5, the field's current size, got 4"),
    ],
)
def test_tables_do_not_shrink(sizes, message):
    for model in (build(), build("fgcnn"), build(fusion="text", prompt_strategy="none")):
        with pytest.raises(ValueError, match=message):
            model.resize_feature_embeddings(sizes)
        assert model.config.ctr_config.field_sizes == FIELD_SIZES
    assert build("fgcnn").clickprompt.ctr.embedding.field_sizes == FIELD_SIZES


@pytest.mark.parametrize(
    ("field_sizes", "message"),
    [
        (20, r"`field_sizes` must have one entry per field \(3\), got 20"),
        ("abc", r"`field_sizes` must have one entry per field \(3\), got 'abc'"),
        ([7, 5], r"`field_sizes` must have one entry per field \(3\), got 2"),
        ([7, 5.5, 11], r"`field_sizes\[1\]` must be an integer of at least 5, .* got 5.5"),
        ([7, 5, "11"], r"`field_sizes\[2\]` must be an integer of at least 11, .* got '11'"),
    ],
)
def test_sizes_of_another_type_are_refused(field_sizes, message):
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(), fusion="ctr"))
    with pytest.raises(ValueError, match=message):
        model.resize_feature_embeddings(field_sizes)


def test_sizes_of_numpy_are_saved_as_integers(tmp_path):
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(), fusion="ctr"))
    model.resize_feature_embeddings(np.array([8, 5, 12]))
    model.save_pretrained(tmp_path)
    assert ClickPromptForCTR.from_pretrained(tmp_path).config.ctr_config.field_sizes == [8, 5, 12]


def test_a_resized_model_belongs_to_the_extended_processor():
    schema = Schema.from_dict({"fields": ["user", "item"], "label": "click"})
    processor = ClickPromptProcessor.fit({"user": [1, 2], "item": ["a", "b"]}, schema)
    config = ClickPromptConfig(
        ctr_config=tiny_ctr_config(field_sizes=processor.field_sizes),
        fusion="ctr",
        training_data={"dataset": "csv", "processor_fingerprint": processor.fingerprint},
    )
    model = ClickPromptForCTR(config)
    processor.check_model(model.config)
    model.resize_feature_embeddings(processor.extend({"user": [3], "item": ["c"]}))
    processor.check_model(model.config)
    assert model.config.training_data == {"dataset": "csv"}
