# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""How good click probabilities are beyond one AUC: by group, by frequency, calibrated, and beside another model's."""

from pathlib import Path

import datasets
import numpy as np
import pandas as pd
from scipy import stats

from ..data.columnar import ColumnarDataset
from ..processing_clickprompt import ClickPromptProcessor
from .metrics import ClickMetric, OfflineMetric

_PREDICTIONS: dict = {"predictions": datasets.Value("float64"), "references": datasets.Value("int8")}
_TAIL_SHARE = 0.1
# the underscore keeps it from being pushed to the Hub
SCORES_FILE = "_test_scores.parquet"
_CLICK, _PROBABILITY = "click", "click_probability"


class GroupedAUC(OfflineMetric):
    """AUC within groups, weighed by their rows (GAUC, Zhou et al. 2018, Eq. 7): a user's ranking, not all users'.

    `compute(predictions=..., references=..., groups=...)`: probabilities, clicks 0 or 1, group numbers. Gives `gauc`,
    over the groups that have both classes, and `gauc_rows`, the share of rows in those. NaN where no group has both.
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
        # Mann-Whitney's statistic, by average ranks where scores are tied
        auc = (both["click_ranks"] - both["clicks"] * (both["clicks"] + 1) / 2) / (
            both["clicks"] * (both["size"] - both["clicks"])
        )
        return {
            "gauc": float(np.average(auc, weights=both["size"])),
            "gauc_rows": float(both["size"].sum() / len(rows)),
        }


class CalibrationError(OfflineMetric):
    """How far click probabilities are from click rates, over ten bins of equally many rows.

    `compute(predictions=..., references=...)` gives `calibration_error`, the mean over the bins of |mean probability -
    click rate|, weighed by rows, and `predicted_to_observed`, the expected clicks over those that happened.
    """

    features = datasets.Features(_PREDICTIONS)
    num_bins = 10

    def _compute(self, predictions, references) -> dict[str, float]:
        scores, clicks = np.asarray(predictions), np.asarray(references, dtype=np.float64)
        bins = np.array_split(np.argsort(scores, kind="stable"), min(self.num_bins, len(scores)))
        gaps = [abs(scores[rows].mean() - clicks[rows].mean()) * len(rows) for rows in bins]
        observed = clicks.sum()
        return {
            "calibration_error": float(sum(gaps) / len(scores)),
            "predicted_to_observed": float(scores.sum() / observed) if observed else float("nan"),
        }


class PairedAUC(OfflineMetric):
    """AUC of two models on the same rows, their difference and its 95 % interval (DeLong et al. 1988).

    `compute(predictions=..., baseline_predictions=..., references=...)` gives `auc`, `baseline_auc`, `auc_difference`,
    `auc_difference_low`, `auc_difference_high`, `p_value` (two-sided, of no difference) and `rela_impr`, the relative
    improvement (auc - 0.5) / (baseline_auc - 0.5) - 1 (Yan et al. 2014).
    """

    features = datasets.Features({**_PREDICTIONS, "baseline_predictions": datasets.Value("float64")})

    def _compute(self, predictions, baseline_predictions, references) -> dict[str, float]:
        clicked = np.asarray(references) == 1
        if clicked.all() or not clicked.any():
            raise ValueError("`references` must hold both classes to compare AUCs, got one.")
        parts = [_placements(np.asarray(scores), clicked) for scores in (predictions, baseline_predictions)]
        auc, baseline = (float(of_clicks.mean()) for of_clicks, _ in parts)
        # the difference's placements, so that what both models share cancels
        of_clicks, of_others = (first - second for first, second in zip(*parts))
        error = np.sqrt(of_clicks.var(ddof=1) / len(of_clicks) + of_others.var(ddof=1) / len(of_others))
        difference = auc - baseline
        return {
            "auc": auc,
            "baseline_auc": baseline,
            "auc_difference": difference,
            "auc_difference_low": float(difference - stats.norm.ppf(0.975) * error),
            "auc_difference_high": float(difference + stats.norm.ppf(0.975) * error),
            "p_value": float(2 * stats.norm.sf(abs(difference) / error)) if error else 1.0,
            "rela_impr": (auc - 0.5) / (baseline - 0.5) - 1 if baseline != 0.5 else float("nan"),
        }


def _placements(scores: np.ndarray, clicked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of others that each clicked row beats, and the share of clicked rows that beats each other."""
    ranks = stats.rankdata(scores)
    of_clicks = (ranks[clicked] - stats.rankdata(scores[clicked])) / (~clicked).sum()
    of_others = 1 - (ranks[~clicked] - stats.rankdata(scores[~clicked])) / clicked.sum()
    return of_clicks, of_others


def frequency_groups(train_ids: np.ndarray, test_ids: np.ndarray, field_size: int) -> dict[str, np.ndarray]:
    """Test rows by how often their value occurs in training.

    Args:
        train_ids: Training rows' ids of one field.
        test_ids: Test rows' ids of it, 0 for the unseen.
        field_size: Number of ids.

    Returns:
        Masks over the test rows: `head`, the tenth of the values that is most frequent, `tail`, the tenth that is
        least, `middle`, the others, and `unseen`. Ties go by id.
    """
    counts = np.bincount(train_ids, minlength=field_size)
    counts[0] = 0
    seen = np.flatnonzero(counts)
    by_frequency = seen[np.argsort(counts[seen], kind="stable")]
    tenth = max(1, round(len(seen) * _TAIL_SHARE)) if len(seen) >= 3 else 0
    kind = np.full(field_size, "unseen", dtype=object)
    kind[seen] = "middle"
    kind[by_frequency[:tenth]] = "tail"
    kind[by_frequency[len(seen) - tenth :]] = "head"
    return {name: kind[test_ids] == name for name in ("head", "middle", "tail", "unseen")}


def click_report(
    probabilities: np.ndarray,
    train: ColumnarDataset,
    test: ColumnarDataset,
    processor: ClickPromptProcessor,
    gauc_field: str | None = None,
    frequency_fields: list[str] | None = None,
    baseline_dir: str | None = None,
) -> dict[str, float]:
    """Calibration, GAUC, AUC by frequency and the gain over a baseline on test rows, under flat names.

    Args:
        probabilities: (N,) of the test rows.
        train: Encoded training rows.
        test: Encoded test rows.
        processor: Knows the fields.
        gauc_field: Column whose values are the groups of GAUC.
        frequency_fields: Columns by whose frequency in training AUC is taken apart: `auc_<column>_<group>` and
            `rows_<column>_<group>`.
        baseline_dir: Folder of another run's scores of the same rows, for `PairedAUC`.

    Raises:
        ValueError: If a column is no field, or not one id a row, or the baseline's rows are others.
        FileNotFoundError: If the baseline has no scores.
    """
    clicks = np.asarray(test.labels)
    report = CalibrationError().compute(predictions=probabilities, references=clicks)
    if gauc_field is not None:
        field_column(processor, gauc_field)
        if test.value_ids is None:
            raise ValueError("`gauc_field` needs rows that know their raw values, as `prepare_splits` makes them.")
        groups = test.value_ids[:, processor.schema.keys.index(gauc_field)]
        report.update(GroupedAUC().compute(predictions=probabilities, references=clicks, groups=groups))
    for name in frequency_fields or ():
        column = field_column(processor, name)
        size = len(processor.vocabularies[processor.schema.keys.index(name)]) + 1
        for group, rows in frequency_groups(train.feature_ids[:, column], test.feature_ids[:, column], size).items():
            report[f"rows_{name}_{group}"] = int(rows.sum())
            if rows.any():
                metrics = ClickMetric().compute(predictions=probabilities[rows], references=clicks[rows])
                report[f"auc_{name}_{group}"] = metrics["auc"]
    if baseline_dir is not None:
        baseline = load_baseline_probabilities(baseline_dir, test)
        paired = PairedAUC().compute(predictions=probabilities, baseline_predictions=baseline, references=clicks)
        report.update({name: value for name, value in paired.items() if name != "auc"})
    return report


def save_test_scores(folder: str | Path, test: ColumnarDataset, probabilities: np.ndarray) -> None:
    """Writes clicks and click probabilities of the test rows, in their order, for later runs to compare with."""
    scores = pd.DataFrame({_CLICK: np.asarray(test.labels), _PROBABILITY: probabilities})
    scores.to_parquet(Path(folder) / SCORES_FILE, index=False)


def load_baseline_probabilities(folder: str | Path, test: ColumnarDataset) -> np.ndarray:
    """(N,) click probabilities that another run gave the test rows.

    Raises:
        FileNotFoundError: If the folder holds none.
        ValueError: If that run's test rows have other clicks, so that they are other rows.
    """
    path = Path(folder) / SCORES_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"`baseline_dir` must hold the {SCORES_FILE} of a finished run, but {folder} has none."
        )
    scores = pd.read_parquet(path)
    if not np.array_equal(scores[_CLICK], np.asarray(test.labels)):
        raise ValueError(f"`baseline_dir` must hold scores of the same test rows, but {folder} was tested on others.")
    return scores[_PROBABILITY].to_numpy()


def field_column(processor: ClickPromptProcessor, name: str) -> int:
    """The column of `feature_ids` that holds the field named `name`.

    Raises:
        ValueError: If there is no such field, or it owns several columns or none.
    """
    keys, fields = processor.schema.keys, processor.schema.fields
    if name not in keys:
        raise ValueError(f"A field to evaluate by must be one of {keys}, got {name!r}.")
    place = keys.index(name)
    if fields[place].kind in ("multi_valued", "text"):
        raise ValueError(
            f"A field to evaluate by must have one value a row, but {name!r} is of kind {fields[place].kind!r}."
        )
    return sum(member.num_columns for member in fields[:place])
