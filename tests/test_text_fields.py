"""Fields out of the text: what the PLM reads, that ids stay the same, and `--text_fields` through the commands."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from movielens_files import ml_1m_files, write_zip
from tiny_data import tiny_bert_tokenizer, tiny_roberta_tokenizer, tiny_rows, tiny_schema, whole_text_tokenizer
from transformers import AutoProcessor

from clickprompt_hf import ClickPromptConfig, ClickPromptProcessor, FieldSchema, Schema
from clickprompt_hf.data.collators import ClickPromptMLMCollator
from clickprompt_hf.data.columnar import encode_tables, load_prepared, prepare_splits
from clickprompt_hf.data.schema_file import load_schema
from clickprompt_hf.data.text_counts import TextCounts, count_texts
from clickprompt_hf.runs import finetune as run_ctr
from clickprompt_hf.runs import predict
from clickprompt_hf.runs import pretrain as run_pamlm
from clickprompt_hf.runs.arguments import DataArguments, ModelArguments, TrainingParser
from clickprompt_hf.runs.model_building import load_checkpoint
from clickprompt_hf.runs.preparation import PreparedData, prepare_data
from clickprompt_hf.runs.text_fields import choose_text_fields, show_texts
from clickprompt_hf.training import ClickPromptTrainingArguments

FIELDS = (
    FieldSchema("user", "User ID", in_text=False),
    FieldSchema("at", "Hour", "hour", in_text=False),
    FieldSchema("title", "Title"),
    FieldSchema("tags", "Tags", "multi_valued", max_values=2, in_text=False),
    FieldSchema("price", "Price", "numeric", num_buckets=2),
    FieldSchema("note", "Note", "text"),
)
SCHEMA = Schema(FIELDS, label="click")
ROWS = {
    "user": [1, 2, 1, 3],
    "at": ["2024-01-31 14:05:00", "2024-01-31 02:05:00", None, "2024-01-31 14:05:00"],
    "title": ["Up", "Seven Samurai, The", None, "Up"],
    "tags": ["new|old", "", "old", "rare"],
    "price": [2.5, 1, 7, 2.5],
    "note": ["good", "bad", "", "good"],
    "click": [0, 1, 0, 1],
}
TEXTS = [
    "Title is Up. Price is 2.5. Note is good.",
    "Title is Seven Samurai, The. Price is 1. Note is bad.",
    "Title is unknown. Price is 7. Note is unknown.",
    "Title is Up. Price is 2.5. Note is good.",
]
SIZES = ["--embedding_size", "4", "--dnn_hidden_sizes", "8", "8", "--num_cross_layers", "2", "--prompt_length", "2"]
QUICK = ["--report_to", "none", "--disable_tqdm", "True", "--num_train_epochs", "1", "--report_plots", "false"]
BATCHES = ["--per_device_train_batch_size", "32", "--per_device_eval_batch_size", "64"]


def all_in_text(schema: Schema) -> Schema:
    return replace(schema, fields=tuple(replace(field, in_text=True) for field in schema.fields))


def test_the_text_has_the_other_fields_and_ids_stay_the_same():
    processor = ClickPromptProcessor.fit(ROWS, SCHEMA, tiny_bert_tokenizer())
    assert processor.render(ROWS) == TEXTS
    assert SCHEMA.text_keys == ["title", "price", "note"]
    whole = ClickPromptProcessor.fit(ROWS, all_in_text(SCHEMA), tiny_bert_tokenizer())
    assert whole.render(ROWS)[1] == (
        "User ID is 2. Hour is 2. Title is Seven Samurai, The. Tags is unknown. Price is 1. Note is bad."
    )
    assert whole.vocabularies == processor.vocabularies
    assert whole.boundaries == processor.boundaries
    found, expected = processor(ROWS), whole(ROWS)
    assert found["feature_ids"] == expected["feature_ids"]
    tokens = tiny_bert_tokenizer()(TEXTS)
    assert found["input_ids"] == tokens["input_ids"] != expected["input_ids"]
    # clauses of single values are those of any field
    assert processor.render_values(0, [7]) == ["User ID is 7."]
    assert processor.read_columns == whole.read_columns


def test_a_custom_template_and_a_limit_hold_for_the_fields_in_the_text():
    schema = replace(SCHEMA, template="{value} ({name})")
    processor = ClickPromptProcessor.fit(ROWS, schema, tiny_bert_tokenizer(), max_text_length=7)
    assert processor.render(ROWS)[0] == "Up (Title) 2.5 (Price) good (Note)"
    (ids,) = processor({name: values[:1] for name, values in ROWS.items()})["input_ids"]
    assert len(ids) == 7
    assert (
        ids == tiny_bert_tokenizer()("Up (Title) 2.5 (Price) good (Note)", truncation=True, max_length=7)["input_ids"]
    )


def test_a_schema_without_any_text_serves_models_without_a_plm_only():
    schema = Schema((FieldSchema("user", in_text=False), FieldSchema("title", in_text=False)), label="click")
    processor = ClickPromptProcessor.fit(ROWS, schema)
    assert processor.render(ROWS) == [""] * 4
    assert processor.render({"user": 1, "title": "Up"}) == [""]
    assert processor(ROWS)["feature_ids"] == [[1, 1], [2, 3], [1, 2], [3, 1]]
    message = r"`in_text` .* must be true for at least one .*: \['user', 'title'\]"
    with pytest.raises(ValueError, match=message):
        ClickPromptProcessor.fit(ROWS, schema, tiny_bert_tokenizer())
    with pytest.raises(ValueError, match=message):
        processor.tokenizer = tiny_bert_tokenizer()
    assert not processor.reads_text


def test_processors_are_saved_and_loaded_with_their_choice(tmp_path):
    processor = ClickPromptProcessor.fit(ROWS, SCHEMA, tiny_bert_tokenizer())
    processor.save_pretrained(tmp_path / "own")
    loaded = AutoProcessor.from_pretrained(tmp_path / "own")
    assert loaded.schema == SCHEMA
    assert loaded.render(ROWS) == TEXTS
    assert loaded.fingerprint == processor.fingerprint
    whole = ClickPromptProcessor.fit(ROWS, all_in_text(SCHEMA), tiny_bert_tokenizer())
    assert whole.fingerprint != processor.fingerprint
    # as versions without `in_text` saved it
    whole.save_pretrained(tmp_path / "whole")
    assert "in_text" not in (tmp_path / "whole" / "processor_config.json").read_text()


@pytest.mark.parametrize("tokenizer", [tiny_roberta_tokenizer, whole_text_tokenizer])
def test_prepared_rows_have_the_tokens_of_their_text_and_number_its_fields(tokenizer, tmp_path):
    processor = ClickPromptProcessor.fit(ROWS, SCHEMA, tokenizer())
    table = pa.table(ROWS)
    prepare_splits(dict.fromkeys(("train", "validation", "test"), table), processor, tmp_path / "data")
    encoded, _ = load_prepared(tmp_path / "data")
    train = replace(encoded["train"], with_value_fields=True)
    (batch,) = train.__getitems__(range(4))
    expected = processor(ROWS, return_tensors="np", padding=True)
    for name in ("input_ids", "attention_mask", "feature_ids"):
        np.testing.assert_array_equal(batch[name], expected[name])
    assert train.text_ids.tolist() == [0, 1, 2, 0]
    assert train.value_ids.shape == (4, 6)
    # title, price and note are the first, second and third field of the text
    assert batch["value_fields"].max() == 3
    if tokenizer is tiny_roberta_tokenizer:
        for number, values in enumerate((["Up", "Seven Samurai, The"], ["2.5", "1"], ["good", "bad"]), start=1):
            for row, value in enumerate(values):
                of_value = batch["input_ids"][row][batch["value_fields"][row] == number]
                assert processor.decode(of_value).strip() == value


def test_fields_of_short_texts_are_masked_whole():
    """Even if most fields are out of the text, and a text has fewer tokens than the schema has fields."""
    fields = [FieldSchema(f"id_{f}", in_text=False) for f in range(12)]
    schema = Schema((*fields, FieldSchema("title", "")), label="click", template="{value}{name}")
    schema = replace(schema, fields=(*fields, FieldSchema("title", "T")))
    rows = {**{f"id_{f}": [1] * 40 for f in range(12)}, "title": ["Up", "Noir"] * 20, "click": [0, 1] * 20}
    processor = ClickPromptProcessor.fit(rows, schema, tiny_bert_tokenizer())
    arrays, tables, _ = encode_tables([pa.table(rows)], processor, with_text=True, with_value_fields=True)
    input_ids, attention_mask = tables.assemble(arrays["clause_ids"])
    assert input_ids.shape[1] < 12
    batch = {
        **{"feature_ids": arrays["feature_ids"].astype(np.int64), "labels": np.zeros(40, dtype=np.int64)},
        **{"row_ids": np.arange(40), "epoch": 0, "input_ids": input_ids, "attention_mask": attention_mask},
        "value_fields": tables.assemble_value_fields(arrays["clause_ids"]),
    }
    labels = ClickPromptMLMCollator(processor, 0.5, masking="field")([batch])["labels"].numpy()
    chosen, of_title = labels != -100, batch["value_fields"] == 1
    assert {tuple(row[title]) for row, title in zip(chosen, of_title)} >= {(True,) * int(of_title[0].sum())}
    assert not chosen[~of_title].any()
    assert 0 < chosen.any(axis=1).sum() < 40


def test_text_counts(tmp_path, capsys):
    processor = ClickPromptProcessor.fit(ROWS, SCHEMA, tiny_bert_tokenizer(), max_text_length=20)
    first = pa.table({name: values[:1] for name, values in ROWS.items()})
    prepare_splits({"train": pa.table(ROWS), "validation": first, "test": first}, processor, tmp_path / "data")
    encoded, loaded = load_prepared(tmp_path / "data")
    lengths = [len(ids) for ids in processor(ROWS)["input_ids"]]
    assert max(lengths) == 20 > min(lengths)
    assert count_texts(encoded["train"]) == TextCounts(4, 3, pytest.approx(np.mean(lengths)), 20)
    # numbers of texts are those of all splits
    assert count_texts(encoded["train"].slice(1, 3)).distinct_texts == 2
    assert count_texts(encoded["train"].slice(0, 0)) == TextCounts(0, 0, 0.0, 0)
    show_texts(encoded, loaded.schema)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "The PLM reads Title, Price, Note."
    assert shown[1] == f"  train: 4 rows, 3 distinct texts, {np.mean(lengths):.1f} tokens per row, at most 20"
    with pytest.raises(ValueError, match="`split` must have text and `text_ids`"):
        count_texts(replace(encoded["test"], text_ids=None))
    assert str(TextCounts(591_209, 3_619, 16.96, 38)) == (
        "591,209 rows, 3,619 distinct texts, 17.0 tokens per row, at most 38"
    )


def test_schema_files_take_fields_out_of_the_text(tmp_path):
    path = tmp_path / "schema.yaml"
    path.write_text("fields: [{column: user, in_text: false}, title]\nlabel: click\n")
    schema = load_schema(path)
    assert schema.fields == (FieldSchema("user", in_text=False), FieldSchema("title"))
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema
    assert schema.to_dict()["fields"][0]["in_text"] is False
    for wrong, message in (
        ("{column: user, in_text: 0}", "`in_text` of field 'user' must be true or false, got 0"),
        ("{column: user, in_text: 'no'}", "`in_text` of field 'user' must be true or false, got 'no'"),
        (
            "{column: note, kind: text, in_text: false}",
            "`in_text` of field 'note' must be true, got false: a field of",
        ),
    ):
        path.write_text(f"fields: [{wrong}, title]\nlabel: click\n")
        with pytest.raises(ValueError, match=rf"schema\.yaml does not hold a valid schema: {message}"):
            load_schema(path)


def test_fields_of_the_text_are_chosen_by_column_or_key(caplog):
    times = tuple(FieldSchema("sold_at", kind=kind) for kind in ("hour", "weekday"))
    schema = Schema((*FIELDS, *times), label="click")
    # the order is the schema's; a column stands for all parts of its time
    assert schema.with_text_fields(["sold_at", "title"]).text_keys == ["title", "sold_at.hour", "sold_at.weekday"]
    chosen = choose_text_fields(schema, ["sold_at.weekday", "user", "note"], None)
    assert chosen.text_keys == ["user", "note", "sold_at.weekday"]
    assert chosen.keys == schema.keys
    assert not caplog.records
    # nothing would read a note that is out of the text
    chosen = choose_text_fields(schema, ["title"], None)
    assert chosen.keys == [key for key in schema.keys if key != "note"]
    assert choose_text_fields(schema, None, None) is schema
    assert choose_text_fields(all_in_text(schema), None, ["title"]).text_keys == ["title"]
    assert choose_text_fields(schema, ["title"], ["title"]).text_keys == ["title"]
    with pytest.raises(
        ValueError, match="`--text_fields` must be title, as in the checkpoint's training, .* got user"
    ):
        choose_text_fields(schema, ["user"], ["title"])
    with pytest.raises(ValueError, match=r"`text_fields` must be among .* \['user', .*'note', .*\], got \['titel'\]"):
        schema.with_text_fields(["title", "titel"])
    for nothing in ([], "title"):
        with pytest.raises(ValueError, match="`text_fields` must be a list of fields of the schema"):
            schema.with_text_fields(nothing)


@pytest.fixture(scope="module")
def movies(tmp_path_factory):
    return write_zip(tmp_path_factory.mktemp("movies") / "ml-1m.zip", "ml-1m", ml_1m_files(200))


@pytest.fixture(scope="module")
def pretrained(movies, tmp_path_factory):
    """The folder of a PA-MLM run on the title and genre of MovieLens."""
    folder = tmp_path_factory.mktemp("runs") / "pamlm"
    run_pamlm.main(
        [
            *("--dataset", "ml-1m", "--data_path", str(movies), "--text_fields", "genre", "title"),
            *("--plm_name_or_path", "scratch-tiny", "--masking", "field", *SIZES, *QUICK, *BATCHES),
            *("--output_dir", str(folder)),
        ]
    )
    return folder


def test_the_choice_is_kept_from_pretraining_to_scores(pretrained, movies, tmp_path, capsys):
    out = tmp_path / "out"
    start = ["--model_name_or_path", str(pretrained), "--data_path", str(movies)]
    run_ctr.main([*start, *QUICK, *BATCHES, "--output_dir", str(out)])
    shown = capsys.readouterr().out
    assert "The PLM reads Title, Film genre." in shown
    assert "  train: 160 rows, 2 distinct texts, " in shown
    processor = ClickPromptProcessor.from_pretrained(out)
    assert processor.schema.text_keys == ["title", "genre"]
    assert len(processor.schema.fields) == 8
    row = {
        **{"user_id": 1, "gender": "female", "age": "25-34", "job": "artist", "zipcode": "02139", "movie_id": 20},
        **{"title": "Robots: The Return (2001)", "genre": "Sci-Fi"},
    }
    assert processor.render([row]) == ["Title is Robots: The Return (2001). Film genre is Sci-Fi."]
    assert ClickPromptConfig.from_pretrained(out).training_data["text_fields"] == ["title", "genre"]

    # ids are still read from all columns
    pd.DataFrame([row]).to_csv(tmp_path / "new.csv", index=False)
    arguments = ["--model", str(out), "--input", str(tmp_path / "new.csv"), "--output", str(tmp_path / "scores.csv")]
    predict.main(arguments)
    assert pd.read_csv(tmp_path / "scores.csv")["click_probability"].between(0, 1).all()
    pd.DataFrame([row]).drop(columns="user_id").to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(ValueError, match="missing .'user_id'."):
        predict.main(arguments)
    with pytest.raises(ValueError, match="`--text_fields` must be title genre, as in the checkpoint's training"):
        run_ctr.main([*start, "--text_fields", "title", *QUICK, "--output_dir", str(tmp_path / "other")])
    assert not (tmp_path / "other").exists()


def prepared(arguments: list[str], folder: Path, start: str | None = None, **options) -> PreparedData:
    """The data of a run with these arguments, which may start from the checkpoint in `start`."""
    parser = TrainingParser("pretrain", "", (ModelArguments, DataArguments, ClickPromptTrainingArguments))
    model_args, data_args, training_args = parser.parse([*arguments, *QUICK[:4], "--output_dir", str(folder)])
    if start is not None:
        extend = options.get("extend_vocabulary", False)
        checkpoint, processor = load_checkpoint(start, model_args, not options.pop("without_plm", False), extend)
        options |= {"checkpoint": checkpoint, "processor": processor}
    return prepare_data(data_args, training_args, model_args, **options)


def test_every_start_from_a_checkpoint_keeps_the_choice(pretrained, movies, tmp_path):
    data = ["--data_path", str(movies)]
    chosen = ["--text_fields", "title", "genre"]
    for given in ([], chosen):
        found = prepared([*data, *given], tmp_path, str(pretrained))
        assert found.processor.schema.text_keys == ["title", "genre"]
        assert found.training_data["text_fields"] == ["title", "genre"]
        # of new rows
        new = prepared([*data, *given, "--dataset", "ml-1m"], tmp_path, str(pretrained), extend_vocabulary=True)
        assert new.processor.schema == found.processor.schema
        # of the same training, resumed
        resume = [*data, *given, "--plm_name_or_path", "scratch-tiny", "--resume_from_checkpoint", "true"]
        resumed = prepared(resume, pretrained)
        assert resumed.processor.fingerprint == found.processor.fingerprint
        assert resumed.training_data == found.training_data
        # and without the PLM
        alone = prepared([*data, *given], tmp_path, str(pretrained), without_plm=True)
        assert alone.processor.schema == found.processor.schema
    refused = pytest.raises(ValueError, match="`--text_fields` must be title genre, as in the checkpoint's training")
    with refused:
        prepared(
            [*data, "--text_fields", "title", "--dataset", "ml-1m"], tmp_path, str(pretrained), extend_vocabulary=True
        )
    with refused:
        prepared([*resume, "--text_fields", "title"], pretrained)


@pytest.fixture
def table(tmp_path):
    """A folder with a CSV file and its schema, in which a note is free text."""
    pd.DataFrame({**tiny_rows(100), "note": ["a b", "c"] * 50}).to_csv(tmp_path / "rows.csv", index=False)
    schema = replace(tiny_schema(), fields=(*tiny_schema().fields, FieldSchema("note", "Note", "text")))
    write_schema(tmp_path / "schema.yaml", schema)
    return tmp_path


def write_schema(path: Path, schema: Schema) -> None:
    path.write_text(yaml.safe_dump(json.loads(json.dumps(schema.to_dict()))))


def data_of(table):
    return ["--dataset", "csv", "--data_path", str(table / "rows.csv"), "--schema", str(table / "schema.yaml")]


def test_a_checkpoint_takes_the_schema_file_that_it_was_trained_with(table, caplog):
    chosen = ["--text_fields", "title"]
    first = prepared([*data_of(table), *chosen, "--plm_name_or_path", "scratch-tiny"], table / "out")
    assert "--text_fields leaves out note, so the model ignores them" in caplog.text
    saved = first.processor.schema
    assert saved.keys == ["user", "price", "tags", "title"]
    assert saved.text_keys == ["title"]
    start = {"processor": first.processor, "checkpoint": ClickPromptConfig(training_data=first.training_data)}
    for given in ([], chosen):
        assert prepared([*data_of(table), *given], table / "out", **start).processor.schema == saved
    # a file may be the checkpoint's itself
    write_schema(table / "schema.yaml", saved)
    assert prepared(data_of(table), table / "out", **start).training_data == first.training_data
    # what a file says of the text does not count beside the choice
    others = [replace(field, in_text=field.column in ("title", "user")) for field in tiny_schema().fields]
    write_schema(table / "schema.yaml", replace(tiny_schema(), fields=tuple(others)))
    assert prepared(data_of(table), table / "out", **start).training_data == first.training_data
    # without one, it does
    unchosen = {**first.training_data, "text_fields": None}
    fields_changed = (others, {**start, "checkpoint": ClickPromptConfig(training_data=unchosen)})
    # a file without the fields of the checkpoint's text is another
    fields_missing = (tiny_schema().fields[:3], start)
    for fields, options in (fields_changed, fields_missing):
        write_schema(table / "schema.yaml", replace(tiny_schema(), fields=tuple(fields)))
        with pytest.raises(ValueError, match=r"`--schema` must be left out or be the checkpoint's schema"):
            prepared(data_of(table), table / "out", **options)


def test_without_a_plm_the_choice_has_no_effect(table, caplog):
    found = prepared([*data_of(table), "--text_fields", "title"], table / "out")
    assert found.processor.schema == load_schema(table / "schema.yaml")
    assert found.training_data["text_fields"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--text_fields", "titel"],
            r"`text_fields` must be among the fields of the schema, \['user', .*'note'\], got",
        ),
        (["--text_fields", "click"], r"`text_fields` must be among the fields of the schema"),
        ([], r"`in_text` of the schema's fields must be true for at least one of them"),
    ],
)
def test_wrong_choices_stop_before_training(options, message, table):
    if not options:
        fields = tuple(replace(field, in_text=False) for field in tiny_schema().fields)
        write_schema(table / "schema.yaml", replace(tiny_schema(), fields=fields))
    with pytest.raises(ValueError, match=message):
        prepared([*data_of(table), "--plm_name_or_path", "scratch-tiny", *options], table / "out")
    assert not (table / "out").exists()
