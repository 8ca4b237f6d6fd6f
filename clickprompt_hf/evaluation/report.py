# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The test report: intervals, calibration, AUC by group and by frequency, and the comparison with a baseline.

To add a metric, write a subclass of `OfflineMetric` here, `GroupedAUC` for example, and call it in `click_report`: its
results then appear in `all_results.json`. A line in `_METRICS` of model_card.py shows it in the model card too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
from scipy import stats
from transformers.utils import logging

from ..columns_clickprompt import PROBABILITY_COLUMN
from ..configuration_clickprompt import ClickPromptConfig
from ..data.columnar import ColumnarDataset
from ..data.delong import compare_aucs, delong_error, p_value, placements
from ..processing_clickprompt import ClickPromptProcessor
from ..schema_clickprompt import TIME_PARTS
from ..whole_files import whole_file
from .metrics import ClickMetric, OfflineMetric, click_probabilities

logger = logging.get_logger(__name__)

_PREDICTIONS: dict = {"predictions": datasets.Value("float64"), "references": datasets.Value("int8")}
_TAIL_SHARE = 0.1
_TWO_SIDED_95 = float(stats.norm.ppf(0.975))
# files whose names begin with an underscore are not pushed to the Hub
SCORES_FILE = "_test_scores.parquet"
# model outputs that the test does not gather; it needs the CTR logit to compare it with the fused one
IGNORED_IN_TEST = ["text_logits", "prompts"]
_CLICK = "click"


class GroupedAUC(OfflineMetric):
    """AUC within groups, averaged by their rows (GAUC, Zhou et al. 2018, Eq. 7): how well rows are ranked per user.

    `compute(predictions=..., references=..., groups=...)`: probabilities, clicks 0 or 1, group numbers. Returns
    `gauc`, over the groups that have both classes (NaN without any), and `gauc_rows`, the share of rows in them.
    """

    features = datasets.Features({**_PREDICTIONS, "groups": datasets.Value("int64")})

    def _compute(self, predictions, references, groups) -> dict[str, float]:
        rows = pd.DataFrame({"group": groups, "click": references, "score": predictions})
        rows["rank"] = rows.groupby("group")["score"].rank()
        rows["click_rank"] = rows["rank"] * rows["click"]
        sums = rows.groupby("group").agg(
            size=("click", "size"), clicks=("click", "sum"), click_ranks=("click_rank", "sum")
        )
        both = sums[(sums["clicks"] > 0) & (sums["clicks"] < sums["size"])]
        if both.empty:
            return {"gauc": float("nan"), "gauc_rows": 0.0}
        # Mann-Whitney's statistic, with average ranks for tied scores
        auc = (both["click_ranks"] - both["clicks"] * (both["clicks"] + 1) / 2) / (
            both["clicks"] * (both["size"] - both["clicks"])
        )
        return {
            "gauc": float(np.average(auc, weights=both["size"])),
            "gauc_rows": float(both["size"].sum() / len(rows)),
        }


class CalibrationError(OfflineMetric):
    """Distance of click probabilities from click rates, over ten bins of equal size.

    `compute(predictions=..., references=...)` returns `calibration_error`, the mean over the bins of
    |mean probability - click rate|, weighted by rows, and `predicted_to_observed`, expected over observed clicks (NaN
    without clicks).
    """

    features = datasets.Features(_PREDICTIONS)
    num_bins = 10

    def _compute(self, predictions, references) -> dict[str, float]:
        return calibration_metrics(predictions, references, self.num_bins)


def calibration_metrics(probabilities, clicks, num_bins: int = CalibrationError.num_bins) -> dict[str, float]:
    """Compute what `CalibrationError` returns, from probabilities (N,) and clicks (N,)."""
    bins = calibration_bins(probabilities, clicks, num_bins)
    gaps = (bins["mean_probability"] - bins["click_rate"]).abs()
    observed = np.sum(clicks)
    return {
        "calibration_error": float(np.average(gaps, weights=bins["rows"])),
        "predicted_to_observed": float(np.sum(probabilities) / observed) if observed else float("nan"),
    }


def calibration_bins(probabilities, clicks, num_bins: int = CalibrationError.num_bins) -> pd.DataFrame:
    """Sort rows by probability and split them into bins of equal size.

    Rows of equal probability all get their mean click rate, so that their order does not matter if a bin ends between
    them.

    Args:
        probabilities: (N,) click probabilities.
        clicks: (N,) 0 or 1.
        num_bins: At least 1. With fewer rows than bins, each row is a bin.

    Returns:
        One row per bin: `rows`, `mean_probability`, `click_rate` and `clicks`, the number of clicks, which may be
        fractional.
    """
    probabilities, clicks = np.asarray(probabilities, dtype=np.float64), np.asarray(clicks, dtype=np.float64)
    _, group = np.unique(probabilities, return_inverse=True)
    clicks = (np.bincount(group, weights=clicks) / np.bincount(group))[group]
    bins = np.array_split(np.argsort(probabilities, kind="stable"), min(num_bins, len(probabilities)))
    return pd.DataFrame(
        {
            "rows": [len(rows) for rows in bins],
            "mean_probability": [probabilities[rows].mean() for rows in bins],
            "click_rate": [clicks[rows].mean() for rows in bins],
            "clicks": [clicks[rows].sum() for rows in bins],
        }
    )


class ClickIntervals(OfflineMetric):
    """95 % intervals of AUC (DeLong et al. 1988) and of log loss (normal approximation of the mean).

    `compute(predictions=..., references=...)` returns `auc_low` and `auc_high`, clipped to [0, 1], NaN with fewer than
    two rows per class or if scores separate the classes or are all equal, and `log_loss_low` and `log_loss_high`, NaN
    with fewer than two rows. They cover the sampling of rows, not the variation between training seeds.
    """

    features = datasets.Features(_PREDICTIONS)

    def _compute(self, predictions, references) -> dict[str, float]:
        scores, clicked = np.asarray(predictions, dtype=np.float64), np.asarray(references) == 1
        low = high = loss_error = float("nan")
        if min(clicked.sum(), (~clicked).sum()) > 1:
            clicked_placements, other_placements = placements(scores, clicked)
            error = delong_error(clicked_placements, other_placements)
            # 0, and meaningless, if scores separate the classes or are all equal
            error = error or float("nan")
            low, high = np.clip(clicked_placements.mean() + np.array([-1, 1]) * _TWO_SIDED_95 * error, 0, 1).tolist()
        losses = row_log_losses(scores, clicked)
        if len(losses) > 1:
            loss_error = _TWO_SIDED_95 * losses.std(ddof=1) / np.sqrt(len(losses))
        return {
            "auc_low": low,
            "auc_high": high,
            "log_loss_low": float(losses.mean() - loss_error),
            "log_loss_high": float(losses.mean() + loss_error),
        }


class PairedAUC(OfflineMetric):
    """AUC of two models on the same rows, their difference and its 95 % interval (DeLong et al. 1988).

    `compute(predictions=..., baseline_predictions=..., references=...)` returns `auc`, `baseline_auc`,
    `auc_difference`, `auc_difference_low`, `auc_difference_high`, `p_value` (two-sided test of no difference) and
    `rela_impr`, the relative improvement (auc - 0.5) / (baseline_auc - 0.5) - 1 (Yan et al. 2014).
    """

    features = datasets.Features({**_PREDICTIONS, "baseline_predictions": datasets.Value("float64")})

    def _compute(self, predictions, baseline_predictions, references) -> dict[str, float]:
        clicked = np.asarray(references) == 1
        if clicked.all() or not clicked.any():
            raise ValueError("`references` must contain both classes to compare AUCs, got one.")
        auc, baseline, error = compare_aucs(predictions, baseline_predictions, clicked)
        difference = auc - baseline
        return {
            "auc": auc,
            "baseline_auc": baseline,
            "auc_difference": difference,
            "auc_difference_low": float(difference - _TWO_SIDED_95 * error),
            "auc_difference_high": float(difference + _TWO_SIDED_95 * error),
            "p_value": p_value(difference, error),
            "rela_impr": (auc - 0.5) / (baseline - 0.5) - 1 if baseline != 0.5 else float("nan"),
        }


def row_log_losses(probabilities: np.ndarray, clicked: np.ndarray) -> np.ndarray:
    """Log loss (N,) of each row, in nats; probabilities of 0 and 1 are clipped as scikit-learn's log_loss does."""
    return -np.log(np.where(clicked, probabilities, 1 - probabilities).clip(np.finfo(np.float64).eps))


def frequency_groups(
    train_ids: np.ndarray, test_ids: np.ndarray, field_size: int, missing_id: int = 0
) -> dict[str, np.ndarray]:
    """Group test rows by how often their value occurs in training.

    Args:
        train_ids: One field's ids in the training rows.
        test_ids: Its ids in the test rows, 0 for unseen values.
        field_size: Number of ids of the field.
        missing_id: Id of rows without a value; 0 if the training rows have none.

    Returns:
        Masks over the test rows: `head` for the most frequent tenth of the values, `tail` for the least frequent
        tenth, `middle` for the values between, `unseen`, and, with a `missing_id`, `missing`. Equally frequent values
        are ordered by id.
    """
    counts = np.bincount(train_ids, minlength=field_size)
    counts[[0, missing_id]] = 0
    seen = np.flatnonzero(counts)
    by_frequency = seen[np.argsort(counts[seen], kind="stable")]
    tenth = max(1, round(len(seen) * _TAIL_SHARE)) if len(seen) >= 3 else 0
    kind = np.full(field_size, "unseen", dtype=object)
    kind[seen] = "middle"
    kind[by_frequency[:tenth]] = "tail"
    kind[by_frequency[len(seen) - tenth :]] = "head"
    groups = ["head", "middle", "tail", "unseen"]
    if missing_id:
        kind[missing_id] = "missing"
        groups.append("missing")
    return {name: kind[test_ids] == name for name in groups}


def auc_by_frequency(
    probabilities: Mapping[str, np.ndarray],
    train: ColumnarDataset,
    test: ColumnarDataset,
    processor: ClickPromptProcessor,
    field: str,
) -> pd.DataFrame:
    """Compute the AUC of one or more models on test rows, by how often a field's value occurs in training.

    Args:
        probabilities: (N,) click probabilities of the test rows by model.
        train: Encoded training rows.
        test: Encoded test rows.
        processor: Processor that encoded them.
        field: Key of the field, see `FieldSchema.key`.

    Returns:
        One row per group and model: `group` (see `frequency_groups`), `model`, `rows`, `auc`, and `auc_low` and
        `auc_high`, DeLong's 95 % interval; NaN if a group lacks a class.

    Raises:
        ValueError: If the field does not exist or is multi-valued or free text.
    """
    column, clicks = field_column(processor, field), np.asarray(test.labels)
    size = len(processor.vocabularies[processor.schema.keys.index(field)]) + 1
    missing_id = missing_id_of(processor, field)
    groups = frequency_groups(train.feature_ids[:, column], test.feature_ids[:, column], size, missing_id)
    table = []
    for group, rows in groups.items():
        for model, scores in probabilities.items():
            metrics = dict.fromkeys(("auc", "auc_low", "auc_high"), float("nan"))
            if rows.any():
                given = {"predictions": scores[rows], "references": clicks[rows]}
                metrics = {**ClickMetric().compute(**given), **ClickIntervals().compute(**given)}
            auc = {name: metrics[name] for name in ("auc", "auc_low", "auc_high")}
            table.append({"group": group, "model": model, "rows": int(rows.sum()), **auc})
    return pd.DataFrame(table)


def click_report(
    probabilities: np.ndarray,
    train: ColumnarDataset,
    test: ColumnarDataset,
    processor: ClickPromptProcessor,
    gauc_field: str | None = None,
    frequency_fields: list[str] | None = None,
    baseline_dir: str | None = None,
) -> dict[str, float]:
    """Compute all test metrics beyond AUC and log loss, as one flat dictionary.

    Args:
        probabilities: (N,) click probabilities of the test rows.
        train: Encoded training rows.
        test: Encoded test rows.
        processor: Processor that encoded them.
        gauc_field: Field whose values are the groups of GAUC, which leaves out rows without a value; `None` for no
            GAUC.
        frequency_fields: Fields to report AUC by frequency for, as `auc_<field>_<group>` and `rows_<field>_<group>`.
        baseline_dir: Output folder of a run on the same test rows, to compare with by `PairedAUC`.

    Raises:
        ValueError: If a field does not exist or has several values per row, or the baseline was tested on other rows.
        FileNotFoundError: If the baseline has no scores.
    """
    clicks = np.asarray(test.labels)
    given = {"predictions": probabilities, "references": clicks}
    report = {**ClickIntervals().compute(**given), **CalibrationError().compute(**given)}
    for name in frequency_fields or ():
        field_column(processor, name, "frequency_fields")
    if gauc_field is not None:
        column_of_groups = field_column(processor, gauc_field, "gauc_field")
        if test.value_ids is None:
            raise ValueError("`gauc_field` needs rows with raw value ids, as `prepare_splits` writes them.")
        index = processor.schema.keys.index(gauc_field)
        if processor.schema.fields[index].kind in TIME_PARTS:
            # the raw values are whole times
            groups = test.feature_ids[:, column_of_groups]
        else:
            groups = test.value_ids[:, index]
        ids, missing_id = test.feature_ids[:, column_of_groups], missing_id_of(processor, gauc_field)
        # rows without a user do not belong to a single user
        known = np.flatnonzero((groups >= 0) & (ids != missing_id if missing_id else True))
        grouped = {"predictions": probabilities[known], "references": clicks[known], "groups": groups[known]}
        report.update(GroupedAUC().compute(**grouped))
    for name in frequency_fields or ():
        for row in auc_by_frequency({"": probabilities}, train, test, processor, name).itertuples():
            report[f"rows_{name}_{row.group}"] = row.rows
            if row.rows:
                report[f"auc_{name}_{row.group}"] = row.auc
    if baseline_dir is not None:
        baseline = load_baseline_probabilities(baseline_dir, test)
        paired = PairedAUC().compute(predictions=probabilities, baseline_predictions=baseline, references=clicks)
        report.update({name: value for name, value in paired.items() if name != "auc"})
    return report


def probabilities_by_model(
    predictions: Any, config: ClickPromptConfig, baseline: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Convert test predictions to click probabilities (N,) by model, the run's own model first.

    Args:
        predictions: Logits (N, 1), or a tuple of these and the CTR logits, as `trainer.predict` returns them with
            `ignore_keys=IGNORED_IN_TEST`.
        config: Configuration of the model, whose calibration applies to its own logits.
        baseline: (N,) click probabilities of another run, to be included.
    """
    logits, *others = predictions if isinstance(predictions, tuple) else (predictions,)
    name = "with the PLM (fused logit)" if config.use_plm else "this model"
    by_model = {name: click_probabilities(logits, config.calibration_scale, config.calibration_shift)}
    if config.use_plm and others:
        by_model["id side alone (CTR logit)"] = click_probabilities(others[0])
    if baseline is not None:
        by_model["baseline run"] = baseline
    return by_model


def save_test_scores(folder: str | Path, test: ColumnarDataset, probabilities: np.ndarray) -> None:
    """Write clicks and click probabilities of the test rows, in order, so that later runs can compare with them."""
    scores = pd.DataFrame({_CLICK: np.asarray(test.labels), PROBABILITY_COLUMN: probabilities})
    with whole_file(Path(folder) / SCORES_FILE) as partial:
        scores.to_parquet(partial, index=False)


def load_baseline_probabilities(folder: str | Path, test: ColumnarDataset) -> np.ndarray:
    """Load the click probabilities (N,) that another run predicted for the test rows.

    Raises:
        FileNotFoundError: If the folder holds no scores.
        ValueError: If that run's test rows have different clicks, so they are different rows.
    """
    path = Path(folder) / SCORES_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"`baseline_dir` must hold the {SCORES_FILE} of a finished run, but {folder} does not."
        )
    scores = pd.read_parquet(path)
    if not np.array_equal(scores[_CLICK], np.asarray(test.labels)):
        raise ValueError(
            f"`baseline_dir` must hold scores of the same test rows, but {folder} was tested on different rows."
        )
    return scores[PROBABILITY_COLUMN].to_numpy()


def warn_of_other_training_rows(baseline_dir: str | Path, training_data: Mapping[str, Any]) -> None:
    """Warn if the baseline was trained on a different number of rows, which then affects the comparison as well.

    Args:
        baseline_dir: Output folder of the baseline, with its model's `config.json`.
        training_data: Record of this run's data, see `ClickPromptConfig.training_data`.
    """
    path = Path(baseline_dir) / "config.json"
    recorded = json.loads(path.read_text(encoding="utf-8")).get("training_data") if path.is_file() else None
    if recorded is not None and recorded["num_rows"]["train"] != training_data["num_rows"]["train"]:
        logger.warning(
            f"`baseline_dir` {baseline_dir} was trained on {recorded['num_rows']['train']:,} rows and this run on "
            f"{training_data['num_rows']['train']:,}: the models are not the only difference."
        )


def missing_id_of(processor: ClickPromptProcessor, name: str) -> int:
    """Feature id of rows that lack a field's value; 0 if no training row does."""
    return processor.indexes[processor.schema.keys.index(name)].ids.get("", 0)


def field_column(processor: ClickPromptProcessor, name: str, argument: str = "field") -> int:
    """Find the column of `feature_ids` that holds a field.

    Args:
        processor: Processor of the rows.
        name: Key of the field.
        argument: The argument that named it, for messages.

    Raises:
        ValueError: If the field does not exist, is multi-valued, is free text or is a vector.
    """
    keys, fields = processor.schema.keys, processor.schema.fields
    if name not in keys:
        raise ValueError(f"`{argument}` must be among the fields of the schema, {keys}, got {name!r}.")
    index = keys.index(name)
    if fields[index].kind in ("multi_valued", "text", "vector"):
        raise ValueError(
            f"`{argument}` must be fields with one id per row, but {name!r} is of kind {fields[index].kind!r}."
        )
    return sum(field.num_columns for field in fields[:index])
