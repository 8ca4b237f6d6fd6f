"""`clickprompt compare` on tiny tables: arms, rows, resuming, refusals."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from own_tables import shop
from tiny_data import tiny_roberta_tokenizer
from transformers import AutoModelForSequenceClassification, RobertaModel, T5Config

from clickprompt_hf import ClickPromptConfig, ClickPromptProcessor, Schema
from clickprompt_hf.comparison.results import load_run
from clickprompt_hf.comparison.speed import MOST_REPEATS
from clickprompt_hf.data.columnar import ColumnarDataset
from clickprompt_hf.presets import table_preset
from clickprompt_hf.runs import compare, comparison_folder, predict
from clickprompt_hf.runs.arguments import DataArguments, ModelArguments
from clickprompt_hf.runs.arms import arm as every_arm
from clickprompt_hf.runs.arms import baseline_arm, importance, neural_arm, pamlm
from clickprompt_hf.runs.arms.neural_arm import TextVectorArm
from clickprompt_hf.runs.comparison_folder import (
    COMPARISON_FILE,
    claim_comparison,
    flags_of,
    rows_sha256,
    versions_in_use,
)
from clickprompt_hf.runs.plms import scratch_text_config
from clickprompt_hf.runs.preparation import PreparedData
from clickprompt_hf.runs.tuning import Parameter, Trial, suggest, tune
from clickprompt_hf.scoring import score_table
from clickprompt_hf.text_encoder_clickprompt import TextEncoder

SCHEMA = {
    "fields": [
        {"column": "user_id", "in_text": False},
        {"column": "product_id", "in_text": False},
        {"column": "price", "kind": "numeric"},
        {"column": "title", "kind": "text"},
        {"column": "tags", "kind": "multi_valued", "max_values": 3},
    ],
    "label": "clicked",
    "time": "ts",
}
SMALL = ["--embedding_size", "4", "--dnn_hidden_sizes", "8", "--num_cross_layers", "1", "--num_train_epochs", "1"]
SMALL += ["--pamlm_epochs", "0.2", "--per_device_train_batch_size", "64"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    shop(400).to_parquet(folder / "shop.parquet")
    (folder / "schema.yaml").write_text(yaml.safe_dump(SCHEMA))
    return ["--data_path", str(folder / "shop.parquet"), "--schema", str(folder / "schema.yaml")]


@pytest.fixture(scope="module")
def finished(table, tmp_path_factory):
    """Every arm, with a tiny PLM."""
    folder = tmp_path_factory.mktemp("finished") / "out"
    names = ["constant", "best_column", "logistic_regression", "gradient_boosting", "gradient_boosting_text"]
    names += ["backbone", "backbone_plm", "clickprompt", "clickprompt_pamlm", "clickprompt_pamlm_without_plm"]
    arguments = [*table, "--output_dir", str(folder), "--plm_name_or_path", "scratch-tiny", *SMALL]
    arguments += ["--trials", "1", "--seeds", "1", "--arms", *names]
    compare.main(arguments)
    return folder, arguments, names


def runs_in(folder):
    return {path.parent.name: load_run(path) for path in sorted(folder.glob("arms/*/seed-42.npz"))}


def test_every_arm_is_tested_on_the_same_rows(finished):
    folder, _, names = finished
    runs = runs_in(folder)
    assert runs.keys() == {*names}
    assert {len(run.probabilities) for run in runs.values()} == {40}
    with_plm = {"backbone_plm", "clickprompt", "clickprompt_pamlm"}
    assert {name for name, run in runs.items() if run.uses_plm_at_serving} == with_plm
    # the PLM is what costs
    small, large = runs["backbone"].megabytes, runs["clickprompt"].megabytes
    assert large > small + 1
    assert runs["clickprompt_pamlm_without_plm"].megabytes < small + 0.1
    assert (folder / "results.json").is_file()


def test_models_of_the_first_seed_are_kept_and_score_as_reported(finished):
    folder, _, _ = finished
    model = AutoModelForSequenceClassification.from_pretrained(folder / "arms" / "clickprompt" / "model")
    processor = ClickPromptProcessor.from_pretrained(folder / "arms" / "clickprompt" / "model")
    rows = pq.read_table(folder / "rows" / "test.parquet")
    expected = runs_in(folder)["clickprompt"].probabilities
    assert score_table(rows, processor, model, 64) == pytest.approx(expected, abs=1e-5)


def test_both_arms_after_pamlm_share_one_run(finished):
    folder, _, _ = finished
    assert [path.name for path in (folder / "pamlm").iterdir()] == ["seed-42"]
    seconds = json.loads((folder / "pamlm" / "seed-42" / "seconds.json").read_text())["train_seconds"]
    for arm in ("clickprompt_pamlm", "clickprompt_pamlm_without_plm"):
        assert runs_in(folder)[arm].train_seconds > seconds


def test_reports_name_the_settings_of_their_arms_alone(tmp_path):
    schema = SimpleNamespace(fields=[SimpleNamespace(name="Title")], fields_in_text=[0])
    model_args = {"fresh_backbone": "dcnv2", "plm_name_or_path": str(tmp_path / "minilm" / "model")}
    bench = SimpleNamespace(
        tables={"test": [1] * 1200},
        model_args=SimpleNamespace(**model_args, prompt_depth=None, pooling="mean"),
        training_args=SimpleNamespace(bf16=True, plm_learning_rate=1e-4),
        data=SimpleNamespace(processor=SimpleNamespace(schema=schema)),
        **{"num_trials": 1, "metric": "auc", "seeds": [42], "pamlm_epochs": 3},
    )
    of_plm = ["number of last layers with prompts", "pooling", "learning rate of the PLM"]
    for arms_of, expected in (
        ({}, []),
        ({"with_plm": True}, of_plm),
        ({"with_plm": False, "starts_from_pamlm": True}, [*of_plm, "PA-MLM epochs"]),
    ):
        made = [SimpleNamespace(**{"with_plm": False, "starts_from_pamlm": False, **arms_of})]
        found = compare.settings_of(bench, DataArguments(), made)
        assert (found["split"], found["PLM"]) == ("random", "minilm/model")
        assert (found["rows"], found["metric of tuning and early stopping"]) == ({"test": "1,200"}, "AUC")
        assert list(found)[list(found).index("text") + 1 :] == expected
    found = compare.settings_of(bench, DataArguments(split="user"), made, "item_id", 3)
    assert found["split"] == "user, by item_id"
    assert found["processes at a time"] == "3; they slow each other down, so costs are rough"


def test_a_finished_comparison_trains_nothing_again(finished):
    folder, arguments, names = finished
    before = {path: path.stat().st_mtime_ns for path in folder.glob("arms/*/*.npz")}
    assert len(before) == len(names)
    compare.main(arguments)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("arms/*/*.npz")} == before


def test_another_comparison_in_the_same_folder_is_refused(finished, table, tmp_path):
    folder, arguments, _ = finished
    with pytest.raises(ValueError, match=r"--metric \(left out, now log_loss\)"):
        compare.main([*arguments, "--metric", "log_loss"])
    shop(500).to_parquet(tmp_path / "other.parquet")
    other = [str(tmp_path / "other.parquet") if word == table[1] else word for word in arguments]
    with pytest.raises(ValueError, match="differs in the train rows, the validation rows, the test rows"):
        compare.main(other)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    into = [str(tmp_path / "full") if word == str(folder) else word for word in arguments]
    with pytest.raises(FileExistsError, match="holds other files"):
        compare.main(into)


@pytest.mark.parametrize(("arm", "has_prompts"), [("backbone_text_vectors", False), ("clickprompt_pamlm", True)])
def test_late_prompts_are_announced_if_an_arm_has_prompts(arm, has_prompts):
    said = []
    bench = SimpleNamespace(
        tables={"train": [1, 2]},
        clicks={"train": np.array([0, 1])},
        data=SimpleNamespace(processor=SimpleNamespace(schema=SimpleNamespace(fields=[]))),
        **{"num_trials": 1, "metric": "auc", "num_seeds": 1, "seeds": [42], "say": said.append},
    )
    compare.introduce(bench, ["backbone", arm], {}, late=True)
    assert any("Prompts enter" in line for line in said) == has_prompts
    assert said[1].endswith("No tuning, early stopping by AUC on validation rows; 1 seed, from 42.")


@pytest.mark.parametrize("with_plm", [True, False])
def test_arms_with_a_plm_announce_that_they_measure_importance(with_plm, tmp_path, monkeypatch):
    said = []
    bench = SimpleNamespace(
        tables={"test": pa.table({"title": ["a", "b"]})},
        clicks={"test": np.array([0, 1])},
        data=SimpleNamespace(processor=SimpleNamespace(schema=SimpleNamespace(fields=[]))),
        **{"say": said.append, "arm_folder": lambda name: tmp_path},
    )
    monkeypatch.setattr(every_arm, "importance_rows", lambda bench: 2)
    arm = every_arm.Arm("backbone_text_vectors", bench)
    arm.uses_plm_at_serving = with_plm
    arm._save_importance(lambda table: np.zeros(2), seed=0)
    assert (tmp_path / "importance.json").is_file()
    expected = ["backbone_text_vectors: measuring how much each field matters on 2 test rows."]
    assert said == (expected if with_plm else [])


def test_a_sku_is_an_item():
    arguments = SimpleNamespace(user_field=None, item_field=None)
    schema = Schema.from_dict({**SCHEMA, "fields": ["shop", "sku", "customer_id"]})
    assert compare.role_fields(schema, arguments) == {"user": 2, "item": 1}


@pytest.mark.parametrize(
    ("user", "item"),
    [
        ("Benutzer-ID", "Artikelnummer"),
        ("NutzerID", "Produkt"),
        ("Kundennummer", "Film"),
        ("id_utilisateur", "id_produit"),
        ("Abonné", "livre"),
        ("id_usuario", "Artículo"),
        ("userid", "newsId"),
    ],
)
def test_users_and_items_are_found_in_other_languages(user, item):
    arguments = SimpleNamespace(user_field=None, item_field=None)
    # a word within another one names no column
    schema = Schema.from_dict({**SCHEMA, "fields": ["Kundenservice", "Filmothek", item, user]})
    assert compare.role_fields(schema, arguments) == {"user": 3, "item": 2}


def test_a_missing_item_column_is_announced_with_what_it_costs():
    said = []
    # numbers and parts of times are neither users nor items
    parts = [{"column": "at", "kind": part, "name": part} for part in ("hour", "weekday")]
    others = [{"column": "title", "kind": "text"}, "price", {"column": "age", "kind": "numeric"}, *parts]
    schema = Schema.from_dict({**SCHEMA, "fields": ["buyer", *others]})
    bench = SimpleNamespace(
        tables={"train": [1, 2]},
        clicks={"train": np.array([0, 1])},
        data=SimpleNamespace(processor=SimpleNamespace(schema=schema)),
        **{"num_trials": 1, "metric": "auc", "num_seeds": 1, "seeds": [42], "say": said.append},
    )
    compare.introduce(bench, ["backbone"], {"user": 0}, late=False)
    assert said[-2:] == [
        "The user is buyer. Change it with --user_field.",
        "No item column was found, so the report will have no results for unseen, rare and frequent items. If the "
        "table has one, name it with --item_field, one of buyer, price; with none, this message goes away.",
    ]
    compare.introduce(bench, ["backbone"], {}, late=False)
    assert "No item or user column was found, " in said[-1]
    assert "unseen, rare and frequent items and users. If the table has one, name it with --item_field or" in said[-1]
    said.clear()
    compare.introduce(bench, ["backbone"], {}, late=False, declined=["item"])
    assert "results for unseen, rare and frequent users" in said[-1]
    assert not any("--item_field" in line for line in said)


def bench_of_texts(fields, lengths, **model_args):
    schema = Schema.from_dict({"fields": fields, "label": "clicked"})
    splits = {"test": SimpleNamespace(text_lengths=lambda: np.asarray(lengths))}
    processor = SimpleNamespace(schema=schema, tokenizer=tiny_roberta_tokenizer())
    return SimpleNamespace(
        clicks={"test": np.arange(len(lengths)) % 2},
        data=SimpleNamespace(processor=processor, splits=splits),
        model_args=ModelArguments(**model_args),
        training_args=SimpleNamespace(device=SimpleNamespace(type="cpu")),
    )


# of the two layers: projections of attention, feed-forward network, two normalizations; and that of the embeddings
PARAMETERS = 2 * (4 * (128 * 128 + 128) + 2 * 128 * 512 + 512 + 128 + 4 * 128) + 2 * 128
A_TEXT = {"column": "title", "kind": "text"}


@pytest.mark.parametrize(
    ("in_text", "depth", "passes"),
    [
        # the rows as they are, and two permutations of each column
        (["user", "title", "genre"], None, 7),
        # half of the layers run anew for the permutations of the two columns that are not in the text
        (["title"], 1, 1 + 6 / 2),
        (["title", "genre"], 1, 5 + 2 / 2),
    ],
)
def test_importance_is_measured_on_as_many_rows_as_the_plm_can_read(in_text, depth, passes, monkeypatch):
    fields = [{"column": name, "in_text": name in in_text} for name in ("user", "title", "genre")]
    lengths = [10, 30] * 1500
    bench = bench_of_texts(fields, lengths, plm_name_or_path="scratch-tiny", prompt_depth=depth)
    of_row = 2 * PARAMETERS * 20 * passes
    for affordable, expected in ((250.5, 250), (2500, 2000), (199.5, 0)):
        monkeypatch.setattr(importance, "_MOST_FLOP", affordable * of_row)
        assert importance.importance_rows(bench) == expected
    # texts are read up to 512 tokens
    monkeypatch.setattr(importance, "_MOST_FLOP", 300.5 * of_row * 512 / 20)
    assert importance.importance_rows(bench_of_texts(fields, [700] * 3000, **vars(bench.model_args))) == 300
    # a comparison without a PLM has no such cost
    monkeypatch.setattr(importance, "_MOST_FLOP", 0)
    assert importance.importance_rows(bench_of_texts(fields, lengths)) == 2000
    assert importance.importance_rows(bench_of_texts(fields, lengths[:150])) == 150


def test_the_cost_of_t5_excludes_its_table_of_tokens_once():
    # two modules share the table, so that small models had a negative number of parameters
    config = T5Config(vocab_size=100, d_model=8, d_kv=4, num_heads=2, d_ff=16, num_layers=2)
    attention, feed_forward, norm = 4 * 8 * 8, 2 * 8 * 16, 8
    assert importance._num_layer_parameters(config) == 2 * (attention + feed_forward + 2 * norm) + norm


def test_reports_say_on_how_many_rows_importance_was_measured(monkeypatch):
    bench = bench_of_texts([A_TEXT, "user"], [20] * 3000, plm_name_or_path="scratch-tiny")
    assert importance.importance_note(bench, {"a": 2000}) == "Measured on 2,000 of the 3,000 test rows, evenly spaced."
    assert "on 250 of the 3,000 test rows, evenly spaced. The PLM must read permuted" in importance.importance_note(
        bench, {"a": 250, "b": 250}
    )
    assert "of 3,000: 2,000 for a; 250 for b." in importance.importance_note(bench, {"a": 2000, "b": 250})
    assert importance.importance_note(bench, {}) == ""
    monkeypatch.setattr(importance, "_MOST_FLOP", 0)
    assert "fewer than 200 test rows would be affordable" in importance.importance_note(bench, {})
    assert importance.importance_note(bench_of_texts(["user"], [20] * 150), {"a": 150}) == ""


def test_importance_that_is_too_expensive_is_not_measured_and_the_report_says_so(table, tmp_path, monkeypatch):
    arguments = [*table, "--plm_name_or_path", "scratch-tiny", "--trials", "1", "--seeds", "1"]
    arguments += ["--arms", "logistic_regression", "--output_dir"]
    compare.main([*arguments, str(tmp_path / "cheap")])
    path = tmp_path / "cheap" / "arms" / "logistic_regression" / "importance.json"
    measured = json.loads(path.read_text())
    assert measured["rows"] == 40
    assert measured["drops"].keys() == {"user_id", "product_id", "price", "title", "tags"}
    assert "evenly spaced" not in (tmp_path / "cheap" / "report.md").read_text()
    # as an earlier version wrote it
    path.write_text(json.dumps(measured["drops"]))
    compare.main([*arguments, str(tmp_path / "cheap")])
    assert "Drop in test AUC" in (tmp_path / "cheap" / "report.md").read_text()
    monkeypatch.setattr(importance, "_MOST_FLOP", 0)
    compare.main([*arguments, str(tmp_path / "expensive")])
    assert not list((tmp_path / "expensive").glob("arms/*/importance.json"))
    assert "Not measured: the PLM would have to read" in (tmp_path / "expensive" / "report.md").read_text()


def test_a_pretrained_plm_gets_late_prompts_and_gives_text_vectors(table, tmp_path, capsys):
    tokenizer = tiny_roberta_tokenizer()
    config = scratch_text_config("scratch-tiny", tokenizer)
    config.num_hidden_layers = 3
    RobertaModel(config).save_pretrained(tmp_path / "plm")
    tokenizer.save_pretrained(tmp_path / "plm")
    arguments = [*table, *SMALL, "--plm_name_or_path", str(tmp_path / "plm"), "--trials", "1", "--seeds", "1"]
    arguments += ["--text_fields", "title", "--arms", "backbone", "backbone_text_vectors", "clickprompt"]
    arguments += ["--text_vector_dir", str(tmp_path / "vectors")]
    compare.main([*arguments, "--output_dir", str(tmp_path / "out")])
    assert "Prompts enter the PLM's last 2 layers" in capsys.readouterr().out
    assert list((tmp_path / "vectors").glob("*/*.npy"))
    runs = runs_in(tmp_path / "out")
    kept = {name: ClickPromptConfig.from_pretrained(tmp_path / "out" / "arms" / name / "model") for name in runs}
    assert kept["clickprompt"].num_lower_layers == 1
    assert kept["clickprompt"].pooling == "mean"
    assert kept["backbone"].ctr_config.vector_sizes == []
    assert kept["backbone_text_vectors"].ctr_config.vector_sizes == [config.hidden_size]
    assert runs["backbone_text_vectors"].uses_plm_at_serving
    assert runs["backbone_text_vectors"].megabytes > runs["backbone"].megabytes + 1

    # the model that is kept reads the original file, from which the vectors are made again
    folder = tmp_path / "out" / "arms" / "backbone_text_vectors" / "model"
    shutil.move(folder, tmp_path / "served")
    shutil.rmtree(tmp_path / "plm")
    test = pq.read_table(tmp_path / "out" / "rows" / "test.parquet")
    pq.write_table(test.drop_columns(["clicked"]), tmp_path / "raw.parquet")
    output = ["--output", str(tmp_path / "scores.parquet")]
    predict.main(["--model", str(tmp_path / "served"), "--input", str(tmp_path / "raw.parquet"), *output])
    found = pq.read_table(tmp_path / "scores.parquet").column("click_probability").to_numpy()
    assert found == pytest.approx(runs["backbone_text_vectors"].probabilities, abs=1e-5)
    processor = ClickPromptProcessor.from_pretrained(tmp_path / "served")
    assert processor.texts_of_vectors(test)[0] == f"title is {test.column('title')[0]}."


@pytest.mark.parametrize(("epochs", "cached"), [("3", False), ("4", True)])
def test_pamlm_caches_states_only_where_that_pays(epochs, cached, table, tmp_path, monkeypatch, caplog):
    """Eight variants of 80 titles, to be read twice each, against 360 rows in each epoch."""
    tokenizer = tiny_roberta_tokenizer()
    config = scratch_text_config("scratch-tiny", tokenizer)
    config.num_hidden_layers = 3
    RobertaModel(config).save_pretrained(tmp_path / "plm")
    tokenizer.save_pretrained(tmp_path / "plm")
    seen = []
    monkeypatch.setattr(pamlm, "ClickPromptTrainer", lambda model, args, **of: seen.append((args, of)) or 1 / 0)
    arguments = [*table, *SMALL, "--plm_name_or_path", str(tmp_path / "plm"), "--trials", "1", "--seeds", "1"]
    arguments += ["--text_fields", "title", "--arms", "clickprompt_pamlm", "--pamlm_epochs", epochs, "--output_dir"]
    with pytest.raises(ZeroDivisionError):
        compare.main([*arguments, str(tmp_path / "out")])
    ((args, others),) = seen
    assert len(others["train_dataset"]) == 360
    assert (args.cache_text_states, args.freeze_lower_layers) == ((True, None) if cached else (False, True))
    # the cache is used if it is asked for
    with pytest.raises(ZeroDivisionError):
        compare.main([*arguments, str(tmp_path / "asked"), "--prompt_depth", "2", "--cache_text_states"])
    assert seen[1][0].cache_text_states


def test_models_without_a_plm_get_the_training_settings_of_the_table(table, tmp_path, caplog, monkeypatch):
    seen = []
    monkeypatch.setattr(compare, "introduce", lambda bench, *_: seen.append(bench) or 1 / 0)
    arguments = [*table, "--plm_name_or_path", "scratch-tiny", "--arms", "backbone", "--output_dir"]
    with pytest.raises(ZeroDivisionError):
        compare.main([*arguments, str(tmp_path / "a"), "--learning_rate", "0.002"])
    (bench,), preset = seen, table_preset(320, 4, 100)
    assert bench.model_args.embedding_size == preset.sizes["embedding_size"]
    assert bench.alone_args.num_train_epochs == preset.training["num_train_epochs"]
    assert bench.alone_args.early_stopping_patience == preset.training["early_stopping_patience"]
    assert bench.training_args.num_train_epochs == 10
    assert bench.alone_args.learning_rate == 0.002
    assert bench.training_args.plm_learning_rate == 1e-4
    # 80 batches of 4 rows per epoch
    with pytest.raises(ZeroDivisionError):
        compare.main([*arguments, str(tmp_path / "b"), "--per_device_train_batch_size", "4"])
    for args in (seen[1].training_args, seen[1].alone_args):
        assert (args.eval_strategy, args.save_strategy, args.eval_steps, args.save_steps) == ("steps", "steps", 40, 40)
    shown, _ = [record.message for record in caplog.records if record.message.startswith("Defaults for")]
    assert "; to train without a PLM: --num_train_epochs 15" in shown


def test_texts_as_vectors_and_shared_rows_are_named(table, tmp_path, caplog, monkeypatch):
    rows = shop(200)
    pd.concat([rows] * 3).to_parquet(tmp_path / "thrice.parquet")
    fields = [{**field, **({"as": "vector"} if field["column"] == "title" else {})} for field in SCHEMA["fields"]]
    fields += [{"column": "ts", "kind": "text", "in_text": False}]
    fields += [{"name": "Text", "kind": "text", "as": "vector", "columns": ["title", "ts"]}]
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump({**SCHEMA, "fields": fields}))
    seen = []
    monkeypatch.setattr(compare, "introduce", lambda bench, *_: seen.append(bench) or 1 / 0)
    arguments = ["--data_path", str(tmp_path / "thrice.parquet"), "--schema", str(tmp_path / "schema.yaml")]
    with pytest.raises(ZeroDivisionError):
        compare.main([*arguments, "--arms", "backbone", "--output_dir", str(tmp_path / "out")])
    assert seen[0].data.processor.vector_sizes == []
    shown = " ".join(record.message for record in caplog.records)
    assert "`as: vector` of ['title', 'Text'] is ignored" in shown
    assert "Text" not in seen[0].data.processor.schema.keys
    assert "of the 60 test rows" in shown
    assert "equal a training row in all fields" in shown


def test_new_values_of_the_column_that_rows_are_split_by_are_expected(tmp_path, monkeypatch, recwarn):
    rows = shop(400)
    # each buyer has one product, so all buyers of the test rows are new too
    rows.assign(buyer=rows["product_id"] + 1000).to_parquet(tmp_path / "shop.parquet")
    schema = {**SCHEMA, "fields": [*SCHEMA["fields"], "buyer"]}
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(schema))
    monkeypatch.setattr(compare, "introduce", lambda *_: 1 / 0)
    arguments = ["--data_path", str(tmp_path / "shop.parquet"), "--schema", str(tmp_path / "schema.yaml")]
    arguments += ["--split", "user", "--split_column", "product_id", "--arms", "backbone"]
    with pytest.raises(ZeroDivisionError):
        compare.main([*arguments, "--output_dir", str(tmp_path / "out")])
    shown = [str(warning.message) for warning in recwarn]
    assert any("values in column 'buyer' of the test split are unknown" in message for message in shown)
    assert not any("'product_id'" in message for message in shown)


def test_the_speed_of_text_vectors_is_that_of_new_texts(tmp_path, monkeypatch):
    tokenizer = tiny_roberta_tokenizer()
    RobertaModel(scratch_text_config("scratch-tiny", tokenizer)).save_pretrained(tmp_path / "plm")
    tokenizer.save_pretrained(tmp_path / "plm")
    rows = pa.table({"title": ["red shoes", "blue hat"]})
    clicks = np.asarray([0, 1])
    bench = SimpleNamespace(
        tables={"validation": rows, "test": rows},
        clicks={"validation": clicks, "test": clicks},
        model_args=SimpleNamespace(plm_name_or_path=str(tmp_path / "plm")),
        training_args=SimpleNamespace(bf16=False),
        seeds=[1],
    )
    arm, read = TextVectorArm("backbone_text_vectors", bench), []
    arm.data = SimpleNamespace(processor=SimpleNamespace(text_encoder=TextEncoder(tmp_path / "plm")))
    compute = TextEncoder.compute
    monkeypatch.setattr(
        TextEncoder, "compute", lambda self, texts, *of: read.append(len(texts)) or compute(self, texts)
    )

    def score(given):
        arm.data.processor.text_encoder.encode(given["title"].to_pylist())
        return np.asarray([0.2, 0.8])

    arm._run_of(2, score, 1.0, 1.0, {})
    # those of the validation rows, and those of the test rows at each repeat
    assert read == [2] * (1 + MOST_REPEATS)


def test_several_processes_train_the_same_models_as_one(table, tmp_path, capfd):
    arguments = [*table, *SMALL, "--plm_name_or_path", "scratch-tiny", "--seeds", "2", "--trials", "1"]
    arguments += ["--arms", "best_column", "backbone", "clickprompt_pamlm_without_plm", "--output_dir"]
    verdicts = {jobs: compare.main([*arguments, str(tmp_path / jobs), "--jobs", jobs]) for jobs in ("1", "2")}
    one, two = (
        {path.relative_to(tmp_path / jobs): load_run(path) for path in (tmp_path / jobs).glob("arms/*/seed-*.npz")}
        for jobs in verdicts
    )
    assert len(one) == 5
    assert two.keys() == one.keys()
    for path, run in one.items():
        assert two[path].probabilities == pytest.approx(run.probabilities, abs=1e-7)
        assert two[path].hyperparameters == run.hyperparameters
    assert capfd.readouterr().out.count("backbone, seed 43: test AUC") == 2


def test_a_task_that_fails_ends_a_comparison_of_several_processes(table, tmp_path):
    arguments = [*table, *SMALL, "--seeds", "2", "--trials", "2", "--output_dir", str(tmp_path), "--arms"]
    compare.main([*arguments, "constant"])
    trials = tmp_path / "arms" / "backbone" / "trials"
    trials.mkdir(parents=True)
    (trials / "trial-1.json").write_text("{")
    with pytest.raises(json.JSONDecodeError):
        compare.main([*arguments, "constant", "backbone", "--jobs", "2"])
    assert not list(trials.parent.glob("seed-*"))


def test_an_interrupted_comparison_ends_as_if_it_had_not_been(table, tmp_path, monkeypatch):
    arguments = [*table, *SMALL, "--num_train_epochs", "2", "--arms", "gradient_boosting", "backbone"]
    arguments += ["--trials", "2", "--seeds", "2", "--output_dir"]

    def interrupted(module, name, after):
        """Run with a function of an arm's module that interrupts its call number `after`."""
        calls, function = [], getattr(module, name)

        def interrupting(*args, **kwargs):
            calls.append(args)
            if len(calls) == after:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupting)
            with pytest.raises(KeyboardInterrupt):
                compare.main([*arguments, str(tmp_path / "part")])

    compare.main([*arguments, str(tmp_path / "whole")])
    # within the tuning of the first arm, after the training of a model, and before its results are kept
    interrupted(baseline_arm, "suggest", 2)
    interrupted(neural_arm, "calibrate", 1)
    assert list((tmp_path / "part").glob("arms/backbone/_seed-42/checkpoint-*"))
    interrupted(every_arm, "save_run", 2)
    compare.main([*arguments, str(tmp_path / "part")])
    whole, part = (
        {path.relative_to(tmp_path / name): load_run(path) for path in (tmp_path / name).glob("arms/*/seed-*.npz")}
        for name in ("whole", "part")
    )
    assert len(whole) == 4
    assert part.keys() == whole.keys()
    for path, run in whole.items():
        assert part[path].probabilities == pytest.approx(run.probabilities, abs=1e-7)
        assert part[path].hyperparameters == run.hyperparameters
    assert not list((tmp_path / "part").glob("arms/*/_*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arms", "backbone", "xgboost"], "`--arms` must be among .*got .'xgboost'"),
        (["--arms", "backbone", "clickprompt"], "`--arms` clickprompt need a PLM"),
        (["--scores", "a.csv"], "compare-scores"),
        (
            ["--vector_fields", "title"],
            "`--vector_fields` must be left out, got title: .* backbone_text_vectors reads",
        ),
        (["--text_encoder", "MODEL"], "`--text_encoder` must be left out, got MODEL: .* --plm_name_or_path"),
        (["--trials", "0"], "`trials` must be at least 1"),
        (["--user_field", "nobody"], "`--user_field` must be one of"),
        (["--max_train_rows", "8"], "at least 5 rows of each class"),
    ],
)
def test_mistakes_are_named_before_training(arguments, message, table, tmp_path):
    given = [*table, "--output_dir", str(tmp_path / "out"), *SMALL, *arguments]
    with pytest.raises(ValueError, match=message):
        compare.main(given)
    assert not (tmp_path / "out" / "arms").exists()


def test_one_class_is_refused(table, tmp_path):
    shop(100).assign(clicked=1).to_parquet(tmp_path / "ones.parquet")
    with pytest.raises(ValueError, match="must have both classes"):
        compare.main(["--data_path", str(tmp_path / "ones.parquet"), *table[2:], "--output_dir", str(tmp_path / "o")])


def test_fewer_validation_rows_are_those_that_finetuning_draws(table):
    # the seed does not change a split by time
    data = DataArguments(data_path=[table[1]], schema=table[3], split="time", split_fractions=[0.5, 0.4, 0.1])
    whole = compare.read_rows(data)[0]["validation"]
    drawn = {}
    for seed in (42, 43):
        drawn[seed] = compare.read_rows(replace(data, max_eval_rows=30, split_seed=seed))[0]["validation"]
        rows = np.arange(len(whole))
        encoded = ColumnarDataset(rows[:, None], whole["clicked"].to_numpy(), rows)
        record = {"max_eval_rows": 30, "split_seed": seed}
        expected = PreparedData({}, None, record).evaluated(encoded)  # type: ignore[arg-type]
        assert len(expected) == 30
        assert drawn[seed].equals(whole.take(expected.row_ids))
    assert not drawn[42].equals(drawn[43])


def test_tables_beside_a_schema_are_joined_wherever_the_command_runs(tmp_path, monkeypatch):
    rows = shop(400)
    of_items = rows[["title"]].drop_duplicates().assign(item=lambda of: [f"i{n}" for n in range(len(of))])
    log = rows.merge(of_items, on="title")
    (tmp_path / "data").mkdir()
    log.drop(columns="title").to_parquet(tmp_path / "data" / "log.parquet")
    of_items.to_parquet(tmp_path / "data" / "items.parquet")
    fields = [{"column": "item"}, *SCHEMA["fields"]]
    schema = {**SCHEMA, "fields": fields, "tables": [{"file": "items.parquet", "key": "item"}]}
    (tmp_path / "data" / "schema.yaml").write_text(yaml.safe_dump(schema))
    monkeypatch.chdir(tmp_path)
    arguments = ["--data_path", "data/log.parquet", "--schema", "data/schema.yaml", *SMALL, "--output_dir", "out"]
    compare.main([*arguments, "--trials", "1", "--seeds", "1", "--arms", "constant", "backbone"])
    # the model that is kept scores rows of the log
    kept = tmp_path / "out" / "arms" / "backbone" / "model"
    processor = ClickPromptProcessor.from_pretrained(kept)
    assert not Path(processor.schema.tables[0].file).is_absolute()
    rows = pq.read_table(tmp_path / "out" / "rows" / "test.parquet").drop_columns("title")
    scored = score_table(rows, processor, AutoModelForSequenceClassification.from_pretrained(kept), 64)
    assert scored == pytest.approx(runs_in(tmp_path / "out")["backbone"].probabilities, abs=1e-5)


def test_test_rows_without_a_user_are_counted_as_such(tmp_path, monkeypatch):
    rows = shop(400)
    # blank cells, and a word that the schema names
    rows.loc[::4, "user_id"] = None
    rows.loc[1::4, "user_id"] = "guest"
    rows.to_parquet(tmp_path / "shop.parquet")
    fields = [
        {**field, **({"missing": ["guest"]} if field["column"] == "user_id" else {})} for field in SCHEMA["fields"]
    ]
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump({**SCHEMA, "fields": fields}))
    seen = []
    monkeypatch.setattr(compare, "introduce", lambda bench, *_: seen.append(bench) or 1 / 0)
    arguments = ["--data_path", str(tmp_path / "shop.parquet"), "--schema", str(tmp_path / "schema.yaml")]
    with pytest.raises(ZeroDivisionError):
        compare.main([*arguments, "--arms", "backbone", "--output_dir", str(tmp_path / "out")])
    tables = seen[0].tables
    counts = compare.counts_in_training(seen[0].data, 0, tables["test"])
    train = tables["train"]["user_id"].to_pylist()
    expected = [-1 if user in (None, "guest") else train.count(user) for user in tables["test"]["user_id"].to_pylist()]
    assert counts.tolist() == expected
    assert -1 in expected
    assert max(expected) > 0


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        ({"dataset": "csv", "data_path": ["data/films.csv"]}, "films.csv"),
        ({"data_path": ["a/b.parquet", "c.parquet"]}, "b.parquet c.parquet"),
        ({"dataset": "ml-1m", "data_path": ["ml-1m.zip"]}, "ml-1m"),
        ({"train_file": ["day/train.csv"]}, "train.csv"),
        ({"dataset": "synthetic"}, "synthetic"),
    ],
)
def test_reports_are_named_after_the_dataset_or_its_files(arguments, title):
    assert compare.title_of(DataArguments(**arguments)) == title


def test_flags_and_rows_are_recognized():
    assert flags_of(["--arms", "a", "b", "--bf16", "--trials=3"]) == {"arms": "a b", "bf16": "true", "trials": "3"}
    rows = pa.table({"a": [1, 2, 3]})
    assert rows_sha256(rows) == rows_sha256(pa.concat_tables([rows.slice(0, 1), rows.slice(1)]))
    assert rows_sha256(rows) != rows_sha256(pa.table({"a": [1, 3, 2]}))


def test_folders_of_caches_may_change_when_a_comparison_continues(tmp_path):
    for name in ("text_state_dir", "text_vector_dir"):
        assert not claim_comparison(tmp_path / name, ["--trials", "2"], {}, overwrite=False)
        assert claim_comparison(tmp_path / name, ["--trials", "2", f"--{name}", "cache"], {}, overwrite=False)


def test_a_comparison_that_other_versions_began_continues_with_a_warning(tmp_path, caplog, monkeypatch):
    assert not claim_comparison(tmp_path, [], {}, overwrite=False)
    recorded = json.loads((tmp_path / COMPARISON_FILE).read_text())
    assert recorded["versions"] == versions_in_use()
    assert recorded["versions"].keys() >= {"clickprompt_hf", "torch", "transformers", "lightgbm"}
    assert claim_comparison(tmp_path, [], {}, overwrite=False)
    assert caplog.records == []
    now = {name: version for name, version in versions_in_use().items() if name != "lightgbm"}
    monkeypatch.setattr(comparison_folder, "versions_in_use", lambda: {**now, "torch": "9.9"})
    assert claim_comparison(tmp_path, [], {}, overwrite=False)
    (shown,) = [record.getMessage() for record in caplog.records]
    was = recorded["versions"]
    assert f"(lightgbm {was['lightgbm']}, now absent; torch {was['torch']}, now 9.9)" in shown
    assert "--overwrite_output_dir" in shown
    del recorded["versions"]
    (tmp_path / COMPARISON_FILE).write_text(json.dumps(recorded))
    assert claim_comparison(tmp_path, [], {}, overwrite=False)
    assert "did not record its versions" in caplog.records[-1].getMessage()


SPACE = {"rate": Parameter(0.1, 1e-3, 1.0, log=True), "size": Parameter(8, choices=(8, 16))}


def search(folder, num_trials, fail_at=None, seen=None):
    """Tune with an objective that is known; `fail_at` is the number of the trial that is interrupted."""
    import optuna

    seen = [] if seen is None else seen

    def run_trial(**study):
        def objective(trial):
            if len(seen) == fail_at:
                raise KeyboardInterrupt
            chosen = suggest(SPACE, trial)
            seen.append(chosen)
            return abs(np.log10(chosen["rate"]) + 2)

        optuna.create_study(**study).optimize(objective, n_trials=1)

    reported = []
    best = tune(SPACE, run_trial, num_trials, False, 7, folder, lambda number, trial: reported.append(trial))
    return best, seen, reported


def test_tuning_starts_with_the_defaults_and_keeps_the_best(tmp_path):
    best, seen, reported = search(tmp_path / "a", 6)
    assert seen[0] == {"rate": 0.1, "size": 8}
    assert len(seen) == 6 == len(reported)
    assert len({chosen["rate"] for chosen in seen}) == 6
    assert best == min(reported, key=lambda trial: trial.value).hyperparameters
    assert search(tmp_path / "b", 1)[0] == {"rate": 0.1, "size": 8}


def test_an_interrupted_search_continues_as_if_it_had_not_been(tmp_path):
    whole = search(tmp_path / "whole", 6)[1]
    seen = []
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "part", 6, fail_at=3, seen=seen)
    _, _, reported = search(tmp_path / "part", 6, seen=seen)
    assert seen == whole
    assert [trial.hyperparameters for trial in reported] == whole


def test_diverged_trials_are_never_the_best(tmp_path):
    (tmp_path / "trials").mkdir()
    for number, value in ((1, None), (2, 0.5), (3, 0.4)):
        trial = Trial({"rate": 0.1 / number, "size": 8}, value, 1.0)
        (tmp_path / "trials" / f"trial-{number}.json").write_text(json.dumps(vars(trial)))
    best = tune(SPACE, None, 3, False, 7, tmp_path / "trials", lambda *of: None)
    assert best["rate"] == pytest.approx(0.1 / 3)
    for number in (2, 3):
        trial = Trial({"rate": 0.1 / number, "size": 8}, None, 1.0)
        (tmp_path / "trials" / f"trial-{number}.json").write_text(json.dumps(vars(trial)))
    with pytest.raises(ValueError, match="diverged in all 3 trials"):
        tune(SPACE, None, 3, False, 7, tmp_path / "trials", lambda *of: None)


def test_messages_that_each_seed_would_repeat_are_shown_once(caplog):
    noisy = logging.getLogger("clickprompt_hf.training.trainer")
    with compare.each_message_once():
        for size in (64, 64, 128):
            noisy.warning(f"Training batches have {size} rows.")
    noisy.warning("Training batches have 64 rows.")
    assert [record.getMessage().split()[3] for record in caplog.records] == ["64", "128", "64"]
