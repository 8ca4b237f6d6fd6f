"""Metrics of the test report, compared with values computed by hand or by scikit-learn."""

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, roc_auc_score
from tiny_data import tiny_schema, tiny_splits
from tiny_models import tiny_config

from clickprompt_hf import ClickPromptConfig, ClickPromptProcessor, FieldSchema, Schema
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.data.shared_rows import count_shared_rows
from clickprompt_hf.data.streaming.prepare import StreamedTable
from clickprompt_hf.data.streaming.table_stream import TableStream
from clickprompt_hf.data.table_pieces import write_piece
from clickprompt_hf.evaluation.report import (
    CalibrationError,
    ClickIntervals,
    GroupedAUC,
    PairedAUC,
    auc_by_frequency,
    calibration_bins,
    click_report,
    field_column,
    frequency_groups,
    probabilities_by_model,
)
from clickprompt_hf.labels_clickprompt import check_labels
from clickprompt_hf.runs import compare_scores


def test_grouped_auc_weights_groups_by_rows_and_skips_those_of_one_class():
    # group 0: 1 of 2 pairs right, AUC 0.5, 3 rows; group 1: AUC 1, 2 rows; group 2 has clicks only
    groups = [0, 0, 0, 1, 1, 2]
    clicks = [1, 0, 0, 1, 0, 1]
    scores = [0.5, 0.2, 0.8, 0.4, 0.1, 0.9]
    result = GroupedAUC().compute(predictions=scores, references=clicks, groups=groups)
    assert result == pytest.approx({"gauc": (3 * 0.5 + 2 * 1.0) / 5, "gauc_rows": 5 / 6})
    # tied scores count half
    tied = GroupedAUC().compute(predictions=[0.5, 0.5], references=[1, 0], groups=[7, 7])
    assert tied["gauc"] == 0.5
    assert np.isnan(GroupedAUC().compute(predictions=[0.5], references=[1], groups=[0])["gauc"])


def test_grouped_auc_of_one_group_is_the_auc():
    draw = np.random.default_rng(0)
    scores, clicks = draw.random(200).round(1), draw.integers(2, size=200)
    result = GroupedAUC().compute(predictions=scores, references=clicks, groups=np.zeros(200, dtype=int))
    assert result["gauc"] == pytest.approx(roc_auc_score(clicks, scores))


def test_calibration_error_by_hand():
    # ten bins of one row: eight rows are off by 0.2 and two by 0.9
    scores = np.array([0.2] * 4 + [0.8] * 4 + [0.9, 0.1])
    clicks = np.array([0] * 4 + [1] * 4 + [0, 1])
    result = CalibrationError().compute(predictions=scores, references=clicks)
    assert result["calibration_error"] == pytest.approx((8 * 0.2 + 2 * 0.9) / 10)
    assert result["predicted_to_observed"] == pytest.approx(5.0 / 5)


def test_the_interval_of_paired_aucs_agrees_with_the_bootstrap():
    draw = np.random.default_rng(0)
    clicks = draw.integers(2, size=1500)
    shared = clicks + draw.normal(0, 1.5, 1500)
    first, second = shared + draw.normal(0, 0.5, 1500), shared + draw.normal(0, 1.0, 1500)
    result = PairedAUC().compute(predictions=first, baseline_predictions=second, references=clicks)
    assert result["auc"] == pytest.approx(roc_auc_score(clicks, first))
    assert result["baseline_auc"] == pytest.approx(roc_auc_score(clicks, second))
    assert result["rela_impr"] == pytest.approx((result["auc"] - 0.5) / (result["baseline_auc"] - 0.5) - 1)
    rows = [draw.integers(1500, size=1500) for _ in range(400)]
    drawn = [roc_auc_score(clicks[r], first[r]) - roc_auc_score(clicks[r], second[r]) for r in rows]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert result["auc_difference_low"] == pytest.approx(low, abs=0.004)
    assert result["auc_difference_high"] == pytest.approx(high, abs=0.004)
    assert result["p_value"] < 0.05
    same = PairedAUC().compute(predictions=first, baseline_predictions=first, references=clicks)
    assert (same["auc_difference"], same["p_value"]) == (0.0, 1.0)


def test_intervals_agree_with_the_bootstrap():
    draw = np.random.default_rng(0)
    scores = draw.beta(2, 5, 1200)
    clicks = (draw.random(1200) < scores).astype(int)
    result = ClickIntervals().compute(predictions=scores, references=clicks)
    rows = [draw.integers(1200, size=1200) for _ in range(400)]
    for name, metric in (("auc", roc_auc_score), ("log_loss", log_loss)):
        low, high = np.quantile([metric(clicks[r], scores[r]) for r in rows], [0.025, 0.975])
        assert result[f"{name}_low"] == pytest.approx(low, abs=0.006)
        assert result[f"{name}_high"] == pytest.approx(high, abs=0.006)


def test_intervals_by_hand_and_undefined_ones():
    # placements of the clicks 1/2, 1 and 1, of the others 1 and 2/3: variances 1/12 and 1/18
    result = ClickIntervals().compute(predictions=[0.3, 0.8, 0.9, 0.1, 0.4], references=[1, 1, 1, 0, 0])
    error = 1.959964 * np.sqrt(1 / 36 + 1 / 36)
    assert (result["auc_low"], result["auc_high"]) == pytest.approx((5 / 6 - error, 1.0))
    losses = -np.log([0.3, 0.8, 0.9, 0.9, 0.6])
    half = 1.959964 * losses.std(ddof=1) / np.sqrt(5)
    assert result["log_loss_low"] == pytest.approx(losses.mean() - half)
    assert result["log_loss_high"] == pytest.approx(losses.mean() + half)
    # separated classes, equal scores, a single click: DeLong's error is meaningless
    for scores, clicks in (
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]),
        ([0.5] * 4, [0, 1, 0, 1]),
        ([0.1, 0.2, 0.3], [0, 1, 0]),
    ):
        result = ClickIntervals().compute(predictions=scores, references=clicks)
        assert np.isnan([result["auc_low"], result["auc_high"]]).all()
        assert np.isfinite(result["log_loss_high"])


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_calibration_does_not_depend_on_the_order_of_equal_probabilities(order):
    # right on average, in a file that is sorted by its clicks
    clicks = np.repeat([0, 1], 50)[order]
    result = CalibrationError().compute(predictions=np.full(100, 0.5), references=clicks)
    assert result["calibration_error"] == 0
    # two probabilities, each off by 0.1, with bins that end between equal ones
    scores = np.repeat([0.3, 0.6], [25, 75])[order]
    clicks = np.concatenate([np.repeat([0, 1], [20, 5]), np.repeat([1, 0], [38, 37])])[order]
    gap = (25 * 0.1 + 75 * (0.6 - 38 / 75)) / 100
    found = calibration_bins(scores, clicks)
    assert np.average((found["mean_probability"] - found["click_rate"]).abs(), weights=found["rows"]) == pytest.approx(
        gap
    )
    assert found["clicks"].sum() == pytest.approx(43)


def test_calibration_bins():
    bins = calibration_bins([0.9, 0.1, 0.2, 0.8], [1, 0, 1, 1], num_bins=2)
    assert bins.to_dict("list") == {
        "rows": [2, 2],
        "mean_probability": [pytest.approx(0.15), pytest.approx(0.85)],
        "click_rate": [0.5, 1.0],
        "clicks": [1, 2],
    }
    assert calibration_bins([0.4], [1])["rows"].tolist() == [1]


def test_probabilities_by_model():
    logits, of_ids = np.array([[0.0]]), np.array([[np.log(3)]])
    config = tiny_config()
    both = probabilities_by_model((logits, of_ids), config, baseline=np.array([0.2]))
    assert {name: values.tolist() for name, values in both.items()} == {
        "with the PLM (fused logit)": [0.5],
        "id side alone (CTR logit)": [pytest.approx(0.75)],
        "baseline run": [0.2],
    }
    # without a PLM, both logits are the same
    assert list(probabilities_by_model((logits, logits), ClickPromptConfig(fusion="ctr"), baseline=None)) == [
        "this model"
    ]
    assert list(probabilities_by_model(logits, config, baseline=None)) == ["with the PLM (fused logit)"]


def test_frequency_groups():
    # id i of 1 to 20 occurs in i training rows, id 21 in none; 0 is for unseen values
    train = np.repeat(np.arange(1, 21), np.arange(1, 21))
    # values too rare to have an id share id 0
    train = np.concatenate([train, np.zeros(50, dtype=int)])
    test = np.array([0, 1, 2, 3, 18, 19, 20, 21])
    groups = frequency_groups(train, test, field_size=22)
    assert {name: test[rows].tolist() for name, rows in groups.items()} == {
        "head": [19, 20],
        "middle": [3, 18],
        "tail": [1, 2],
        "unseen": [0, 21],
    }


def test_rows_without_a_value_are_a_frequency_group_of_their_own():
    # id 1 is that of missing values and the most frequent one; ids 2 to 4 occur in as many training rows
    train, test = np.repeat([1, 2, 3, 4], [9, 2, 3, 4]), np.array([0, 1, 1, 2, 3, 4])
    groups = frequency_groups(train, test, field_size=5, missing_id=1)
    assert {name: test[rows].tolist() for name, rows in groups.items()} == {
        "head": [4],
        "middle": [3],
        "tail": [2],
        "unseen": [0],
        "missing": [1, 1],
    }


def test_rows_without_a_user_are_not_one_user(tmp_path):
    users = ["a", "a", "b", "b", None, None, None, None]
    rows = pa.table({"user": pa.array(users), "click": [0, 1] * 4})
    processor = ClickPromptProcessor.fit(rows, Schema((FieldSchema("user"),), label="click"))
    prepare_splits({"train": rows, "test": rows}, processor, tmp_path / "prepared")
    data, _ = load_prepared(tmp_path / "prepared")
    # a and b are ranked right, rows without a user wrong
    scores = np.array([0.1, 0.9, 0.1, 0.9, 0.9, 0.1, 0.9, 0.1])
    report = click_report(scores, data["train"], data["test"], processor, "user", ["user"])
    assert report["gauc"] == 1
    assert (report["rows_user_missing"], report["auc_user_missing"]) == (4, 0)
    # two values are too few for a head and a tail
    assert (report["rows_user_head"], report["rows_user_middle"]) == (0, 4)


def test_a_user_in_two_spellings_is_one_group(tmp_path):
    """Files with gaps in their ids have 7.0, others 7."""
    train = pa.table({"user": ["7", "8", "9"], "click": [0, 1, 0]})
    test = pa.table({"user": ["7", "7.0", "8", "007", "10", "11"], "click": [0, 1, 1, 1, 0, 1]})
    processor = ClickPromptProcessor.fit(train, Schema((FieldSchema("user"),), label="click"))
    prepare_splits({"train": train, "test": test}, processor, tmp_path / "prepared")
    data, _ = load_prepared(tmp_path / "prepared")
    values = data["test"].value_ids[:, 0].tolist()
    assert values[0] == values[1] == values[3]
    # unknown values stay different
    assert len({*values}) == 4
    # of user 7, the row without a click has the highest score; no other user has both classes
    report = click_report(np.array([0.9, 0.1, 0.5, 0.2, 0.9, 0.1]), data["train"], data["test"], processor, "user")
    assert (report["gauc"], report["gauc_rows"]) == (0, 0.5)


def prepare_streamed(splits, processor, folder):
    files = {name: [folder.with_name(f"{name}.parquet")] for name in splits}
    for name, rows in splits.items():
        pq.write_table(rows, files[name][0])
    with StreamedTable(TableStream(files, processor.schema), processor.schema, folder.with_name("spill")) as rows:
        rows.split("random", 1)
        rows.write(processor, folder)


@pytest.mark.parametrize("way", [prepare_splits, prepare_streamed])
@pytest.mark.parametrize("words", [(), ("?",)])
def test_rows_without_a_user_are_no_user_even_if_training_has_none(way, words, tmp_path):
    train = pa.table({"user": ["7", "8", "9"], "click": [0, 1, 0]})
    test = pa.table({"user": ["7", "7", None, " ", "?", "NA", "10", "11"], "click": [0, 1, 0, 1, 1, 0, 1, 0]})
    processor = ClickPromptProcessor.fit(train, Schema((FieldSchema("user", missing=words),), label="click"))
    way({"train": train, "validation": train, "test": test}, processor, tmp_path / "prepared")
    data, _ = load_prepared(tmp_path / "prepared")
    users = data["test"].value_ids[:, 0].tolist()
    assert [user < 0 for user in users] == [False, False, True, True, bool(words), True, False, False]
    scores = np.array([0.1, 0.9, 0.9, 0.1, 0.1, 0.9, 0.5, 0.5])
    report = click_report(scores, data["train"], data["test"], processor, "user")
    # only user 7 has both classes
    assert (report["gauc"], report["gauc_rows"]) == (1, 2 / (4 if words else 5))
    assert count_shared_rows(data["train"], data["test"]).shared == 2


def test_report_of_encoded_rows(tmp_path):
    splits = tiny_splits()
    processor = ClickPromptProcessor.fit(splits["train"], tiny_schema())
    prepare_splits(splits, processor, tmp_path / "prepared")
    data, _ = load_prepared(tmp_path / "prepared")
    probabilities = np.linspace(0.1, 0.9, 20)
    report = click_report(probabilities, data["train"], data["test"], processor, "user", ["title"])
    # each user is a group, including those not in the training rows
    users = splits["test"]["user"].to_pylist()
    expected = GroupedAUC().compute(
        predictions=probabilities, references=splits["test"]["click"].to_pylist(), groups=users
    )
    assert report["gauc"] == pytest.approx(expected["gauc"])
    assert sum(report[f"rows_title_{name}"] for name in ("head", "middle", "tail", "unseen", "missing")) == 20
    table = auc_by_frequency(
        {"a": probabilities, "b": 1 - probabilities}, data["train"], data["test"], processor, "title"
    )
    for row in table[table["rows"] > 0].itertuples():
        expected = report[f"auc_title_{row.group}"]
        assert row.auc == pytest.approx(expected if row.model == "a" else 1 - expected, nan_ok=True)
    assert table["rows"].sum() == 40
    # after user, price and the two columns of tags
    assert field_column(processor, "title") == 4
    with pytest.raises(ValueError, match=r"`field` must be among the fields of the schema, \['user', .*got 'item'"):
        field_column(processor, "item")
    of_report = (probabilities, data["train"], data["test"], processor)
    for argument, given in (("gauc_field", "item"), ("frequency_fields", ["title", "item"])):
        with pytest.raises(ValueError, match=rf"^`{argument}` must be among the fields .* got 'item'"):
            click_report(*of_report, **{argument: given})
    with pytest.raises(ValueError, match="'tags' is of kind 'multi_valued'"):
        field_column(processor, "tags")


def test_free_text_and_parts_of_times_among_the_fields():
    kinds = {"note": "text", "at": "hour", "user": "categorical"}
    schema = Schema(tuple(FieldSchema(column, kind=kind) for column, kind in kinds.items()), label="click")
    rows = {"note": ["a", "b"], "at": ["2024-01-31 14:05", None], "user": [1, 2]}
    processor = ClickPromptProcessor.fit(rows, schema)
    assert [field_column(processor, name) for name in ("at.hour", "user")] == [0, 1]
    with pytest.raises(ValueError, match="'note' is of kind 'text'"):
        field_column(processor, "note")


def test_the_compare_scores_command(tmp_path, capsys):
    rows = pd.DataFrame({"click": [0, 1, 0, 1, 1, 0], "user": range(6)})
    rows.assign(click_probability=[0.1, 0.9, 0.2, 0.8, 0.7, 0.3]).to_csv(tmp_path / "a.csv", index=False)
    rows.assign(click_probability=[0.1, 0.9, 0.8, 0.2, 0.7, 0.3]).to_parquet(tmp_path / "b.parquet")
    files = ["--scores", str(tmp_path / "a.csv"), "--baseline", str(tmp_path / "b.parquet"), "--label", "click"]
    result = compare_scores.main(files)
    # the baseline has 6 of 9 pairs right
    assert result["auc_difference"] == pytest.approx(1 - 6 / 9)
    assert "auc_difference_low" in capsys.readouterr().out
    for ending in ("csv.gz", "CSV", "tsv.zst"):
        delimiter = "\t" if "tsv" in ending else ","
        table = pa.Table.from_pandas(rows.assign(click_probability=[0.1, 0.9, 0.8, 0.2, 0.7, 0.3]))
        write_piece(table, tmp_path / "rows", "csv")
        text = (tmp_path / "rows").read_text().replace(",", delimiter)
        content = f"click{delimiter}user{delimiter}click_probability\n{text}".encode()
        packed = {"csv.gz": gzip.compress(content), "tsv.zst": pa.compress(content, "zstd", asbytes=True)}
        (tmp_path / f"b.{ending}").write_bytes(packed.get(ending, content))
        assert compare_scores.main([*files, "--baseline", str(tmp_path / f"b.{ending}")]) == result
    rows.assign(click_probability=0.5, user=1).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="same rows in the same order"):
        compare_scores.main(files)


def test_compare_scores_reads_words_and_names_what_is_wrong(tmp_path):
    rows = pd.DataFrame({"paid": ["yes", "no", "no", "yes"], "same": 1, "click_probability": [0.9, 0.3, 0.1, 0.2]})
    rows.to_csv(tmp_path / "a.csv", index=False)
    files = ["--scores", str(tmp_path / "a.csv"), "--baseline", str(tmp_path / "a.csv"), "--label"]
    assert compare_scores.main([*files, "paid", "--positive", "yes"])["auc"] == 0.75
    with pytest.raises(ValueError, match=r"'paid' must be 0 or 1, got 'yes' in row 0 of .*a\.csv.* with --positive"):
        compare_scores.main([*files, "paid"])
    with pytest.raises(ValueError, match=r"--label must be a column with both classes, but 'same' has only one$"):
        compare_scores.main([*files, "same"])
    with pytest.raises(ValueError, match="'paid' has only one with --positive yess"):
        compare_scores.main([*files, "paid", "--positive", "yess"])
    with pytest.raises(FileNotFoundError, match=r"--baseline must be a file, but there is no .*b\.csv"):
        compare_scores.main([*files, "paid", "--baseline", str(tmp_path / "b.csv")])
    with pytest.raises(ValueError, match=r"--label must be one of the columns of .*a\.csv, \['paid', .*\], got 'pay'"):
        compare_scores.main([*files, "pay"])
    rows.drop(columns="click_probability").to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(
        ValueError, match=r"--baseline must have the column 'click_probability', .*b\.csv has \['paid'"
    ):
        compare_scores.main([*files, "paid", "--baseline", str(tmp_path / "b.csv")])


@pytest.mark.parametrize(
    ("click", "other", "positive"),
    [
        (1, -1, "1"),
        ("1.0", "-1.0", "1"),
        (1, 2, "1"),
        ("Yes", "No", "Yes"),
        ("clicked", "NA", "clicked"),
        ("None", "yes", "None"),
        ("true", "false", "true"),
        (True, False, None),
        ("1.0", "0.0", None),
        ("TRUE", "false", None),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_compare_scores_reads_labels_as_the_schema_does(click, other, positive, ending, tmp_path):
    rows = pd.DataFrame({"label": [click, other, other, click], "click_probability": [0.9, 0.3, 0.1, 0.2]})
    path, baseline = tmp_path / f"a.{ending}", tmp_path / "b.csv"
    rows.to_csv(path, index=False) if ending == "csv" else rows.to_parquet(path)
    rows.to_csv(baseline, index=False)
    words = [] if positive is None else ["--positive", positive]
    arguments = ["--scores", str(path), "--baseline", str(baseline), "--label", "label", *words]
    # of four pairs, the click with 0.2 is below the 0.3 of no click
    assert compare_scores.main(arguments)["auc"] == 0.75
    assert check_labels(rows["label"].tolist(), "label", positive).tolist() == [1, 0, 0, 1]
