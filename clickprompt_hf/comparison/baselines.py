# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What a practitioner tries first: click rates, logistic regression and gradient boosting, on raw rows.

All of them read ids through the fitted processor, so that they see the same values as the models do. Gradient boosting
needs LightGBM (extra `compare`).

Shapes: N rows, C columns of ids, M numeric fields and entries of vectors.
"""

import pickle
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from scipy.special import logit
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from ..cells_clickprompt import without_missing_words
from ..data.arrow_cells import distinct_cells
from ..data.vector_columns import encode_vector_column
from ..processing_clickprompt import ClickPromptProcessor
from ..schema_clickprompt import TIME_PARTS
from ..training.calibration import Calibration, fit_calibration
from ..training.metrics import auc_and_log_loss, click_probabilities
from ..values_clickprompt import number_of

# Rows of the prior in smoothed click rates.
SMOOTHING = 20.0
_FOLDS = 5
# Words start with a letter: the digits of ids and codes are categories already.
_WORDS = r"(?u)\b[^\W\d]\w+\b"
_MOST_WORDS, _TEXT_COMPONENTS = 50_000, 32
# Number of values of a multi-valued field, the most frequent ones, that gradient boosting sees as columns.
_MOST_INDICATORS = 32
# A field with more values is target-encoded instead of given as native categories, which would overfit.
MOST_NATIVE_VALUES = 100
_MOST_ROUNDS, _PATIENCE = 2_000, 50


class RawRows:
    """Reads the ids, numbers and words of raw rows.

    Args:
        processor: Fitted on the training rows.
    """

    def __init__(self, processor: ClickPromptProcessor):
        self.processor = processor
        schema = processor.schema
        self.fields_with_ids = [f for f, field in enumerate(schema.fields) if field.num_columns]
        self.numeric_fields = [f for f, field in enumerate(schema.fields) if field.kind == "numeric"]
        self.vector_fields = [f for f, field in enumerate(schema.fields) if field.kind == "vector"]
        without_words = ("numeric", *TIME_PARTS)
        self.fields_with_words = [f for f in schema.fields_in_text if schema.fields[f].kind not in without_words]

    def ids(self, table: pa.Table) -> list[np.ndarray]:
        """Per field with ids: (N, columns of the field) int32; 0 for values without an id, -1 for empty slots."""
        found = []
        for f in self.fields_with_ids:
            cells, indices = distinct_cells([table.column(self.processor.schema.fields[f].column)])
            rows = np.bincount(indices, minlength=len(cells))
            found.append(self.processor.encode_values(f, cells, rows).astype(np.int32)[indices])
        return found

    def numbers(self, table: pa.Table) -> np.ndarray:
        """Values of the numeric fields, then the entries of vectors, (N, M) float64; NaN if missing."""
        columns = []
        for f in self.numeric_fields:
            field = self.processor.schema.fields[f]
            cells, indices = distinct_cells([table.column(field.column)])
            values = np.asarray([number_of(cell) for cell in without_missing_words(cells, field)], dtype=np.float64)
            columns.append(np.where(np.isfinite(values), values, np.nan)[indices, None])
        for f in self.vector_fields:
            vectors, indices = encode_vector_column([table], self.processor, f)
            columns.append(vectors[indices].astype(np.float64))
        return np.concatenate(columns, axis=1) if columns else np.zeros((len(table), 0))

    def texts(self, table: pa.Table, exclude: Sequence[int] = ()) -> list[str]:
        """The values of each row's fields in the text, without numbers, times and the names of fields.

        Args:
            table: Raw rows.
            exclude: Indices of fields to leave out.
        """
        parts = []
        for f in self.fields_with_words:
            if f in exclude:
                continue
            cells, indices = distinct_cells([table.column(self.processor.schema.fields[f].column)])
            before, after = self.processor.affixes(f)
            clauses = self.processor.render_values(f, cells)
            words = np.asarray([clause[len(before) : len(clause) - len(after)] for clause in clauses], dtype=object)
            parts.append(words[indices])
        return [" ".join(row) for row in zip(*parts)] if parts else [""] * len(table)


class Baseline(ABC):
    """A model of raw rows. `fit_features`, then `fit`; then `predict` gives click probabilities.

    Args:
        processor: Fitted on the training rows.
        seed: Seed of whatever is drawn.
    """

    def __init__(self, processor: ClickPromptProcessor, seed: int = 0):
        self.rows = RawRows(processor)
        self.seed = seed
        self.model: Any = None
        self.calibration = Calibration()

    @abstractmethod
    def fit_features(self, table: pa.Table, clicks: np.ndarray) -> Any:
        """Fit what turns raw rows into features, and return those of the training rows.

        Args:
            table: Raw training rows.
            clicks: (N,) 0 or 1.
        """

    @abstractmethod
    def features(self, table: pa.Table) -> Any:
        """The features of raw rows."""

    @abstractmethod
    def fit(
        self,
        features: Any,
        clicks: np.ndarray,
        validation: tuple[Any, np.ndarray],
        metric: str,
        **hyperparameters: Any,
    ) -> None:
        """Fit the model.

        Args:
            features: Those of the training rows, from `fit_features`.
            clicks: (N,) 0 or 1.
            validation: Features and clicks of the validation rows, for early stopping and choices.
            metric: `"auc"` or `"log_loss"`, which decides on validation rows.
            hyperparameters: Those of the model.
        """

    @abstractmethod
    def predict_features(self, features: Any) -> np.ndarray:
        """Click probabilities (N,) of rows given as features."""

    def calibrate(self, features: Any, clicks: np.ndarray) -> None:
        """Fit the scale and the shift of the logits of validation rows, as for the models of this package."""
        self.calibration = fit_calibration(_logits(self.predict_features(features)), clicks)

    def predict(self, table: pa.Table) -> np.ndarray:
        """Calibrated click probabilities (N,) of raw rows."""
        probabilities = self.predict_features(self.features(table))
        if self.calibration == Calibration():
            return probabilities
        return click_probabilities(_logits(probabilities), self.calibration.scale, self.calibration.shift)

    @property
    def megabytes(self) -> float:
        """Size of the pickled model, with what reads its rows."""
        return len(pickle.dumps(self)) / 1e6

    @property
    def chosen(self) -> dict[str, Any]:
        """What fitting chose, by name, as JSON values."""
        return {}


def _logits(probabilities: np.ndarray) -> np.ndarray:
    smallest = np.finfo(np.float64).eps
    return logit(np.clip(probabilities, smallest, 1 - smallest))


class _Rates(Baseline):
    """A baseline of click rates, which are not calibrated."""

    def fit_features(self, table, clicks):
        return self.features(table)

    def calibrate(self, features, clicks):
        pass


class ConstantRate(_Rates):
    """The click rate of the training rows."""

    def features(self, table):
        return np.zeros((len(table), 0))

    def fit(self, features, clicks, validation, metric, **hyperparameters):
        self.model = float(np.mean(clicks))

    def predict_features(self, features):
        return np.full(len(features), self.model)


class BestColumn(_Rates):
    """Smoothed click rates by the values of one field, the one that is best on validation rows.

    A numeric field's values are its buckets. Rows with several values have the mean of their rates; rows with none,
    or with values that training rows lack, have the click rate of all training rows.
    """

    def features(self, table):
        return self.rows.ids(table)

    def fit(self, features, clicks, validation, metric, **hyperparameters):
        losses = []
        rates = []
        for position, ids in enumerate(features):
            rates.append(smoothed_rates(ids, clicks, self.rows.processor.field_sizes[position]))
            scores = _rates_of(validation[0][position], rates[-1])
            losses.append(loss_of(metric, validation[1], scores))
        best = int(np.argmin(losses))
        self.model = (best, rates[best])

    def predict_features(self, features):
        best, rates = self.model
        return _rates_of(features[best], rates)

    @property
    def chosen(self):
        field = self.rows.processor.schema.fields[self.rows.fields_with_ids[self.model[0]]]
        return {"column": field.key}


def smoothed_rates(ids: np.ndarray, clicks: np.ndarray, size: int, smoothing: float = SMOOTHING) -> np.ndarray:
    """Click rate per id: (clicks + smoothing * overall rate) / (rows + smoothing).

    Args:
        ids: (N, columns of the field); -1 for empty slots.
        clicks: (N,) 0 or 1.
        size: Number of ids of the field.
        smoothing: Rows of the prior, above 0.

    Returns:
        (size,), in [0, 1]; the overall rate for id 0 and ids without rows.
    """
    rate = float(np.mean(clicks))
    rows, columns = np.nonzero(ids > 0)
    found = ids[rows, columns]
    counts = np.bincount(found, minlength=size)
    sums = np.bincount(found, weights=np.asarray(clicks, dtype=np.float64)[rows], minlength=size)
    return (sums + smoothing * rate) / (counts + smoothing)


def _rates_of(ids: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Mean rate of each row's ids, (N,)."""
    is_value = ids >= 0
    sums = np.where(is_value, rates[np.maximum(ids, 0)], 0).sum(axis=1)
    counts = is_value.sum(axis=1)
    # id 0 has the overall rate
    return np.where(counts > 0, sums / np.maximum(counts, 1), rates[0])


class OneHotLogisticRegression(Baseline):
    """Logistic regression on one-hot ids, standardized numbers and the TF-IDF of the text.

    A numeric field has one-hot buckets and its value, clipped to three standard deviations; 0 if missing. Entries of
    vectors are numbers without buckets.
    """

    def fit_features(self, table, clicks):
        numbers = self.rows.numbers(table)
        known = np.isfinite(numbers)
        counts = np.maximum(known.sum(axis=0), 1)
        self.mean = np.where(known, numbers, 0).sum(axis=0) / counts
        squares = np.where(known, (np.nan_to_num(numbers) - self.mean) ** 2, 0).sum(axis=0) / counts
        self.deviation = np.where(squares > 0, np.sqrt(squares), 1.0)
        texts = self.rows.texts(table)
        self.words = fit_words(texts)
        return self._matrix(table, numbers, texts)

    def features(self, table):
        return self._matrix(table, self.rows.numbers(table), self.rows.texts(table) if self.words is not None else [])

    def _matrix(self, table: pa.Table, numbers: np.ndarray, texts: list[str]) -> sp.csr_matrix:
        standardized = np.clip((numbers - self.mean) / self.deviation, -3, 3)
        parts = [one_hot(ids, size) for ids, size in zip(self.rows.ids(table), self.rows.processor.field_sizes)]
        parts.append(sp.csr_matrix(np.nan_to_num(standardized)))
        if self.words is not None:
            parts.append(self.words.transform(texts))
        return sp.hstack(parts, format="csr")

    def fit(self, features, clicks, validation, metric, C: float = 1.0, **hyperparameters):
        self.model = LogisticRegression(C=C, max_iter=500)
        self.model.fit(features, clicks)

    def predict_features(self, features):
        return self.model.predict_proba(features)[:, 1]


def one_hot(ids: np.ndarray, size: int) -> sp.csr_matrix:
    """(N, columns of the field) ids to (N, size) ones; -1 is an empty slot."""
    rows, columns = np.nonzero(ids >= 0)
    return sp.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, ids[rows, columns])), shape=(len(ids), size))


def fit_words(texts: list[str]) -> TfidfVectorizer | None:
    """Fit TF-IDF on texts; `None` if they have no words that occur twice."""
    words = TfidfVectorizer(
        token_pattern=_WORDS,
        min_df=2,
        max_features=_MOST_WORDS,
        ngram_range=(1, 2),
        sublinear_tf=True,
        dtype=np.float32,
    )
    try:
        return words.fit(texts)
    except ValueError as error:
        # scikit-learn reports texts without words in no other way
        if "vocabulary" in str(error) or "no terms remain" in str(error).lower():
            return None
        raise


class GradientBoosting(Baseline):
    """LightGBM with native categories, numbers and entries of vectors; it stops early on validation rows.

    Multi-valued fields become indicators of their most frequent values.

    Args:
        processor, seed: As in `Baseline`.
        with_text: Whether it also gets target-encoded ids and the text's TF-IDF, reduced by SVD, without the words of
            native categories. Fields of more than `MOST_NATIVE_VALUES` values are then target-encoded only.
    """

    def __init__(self, processor: ClickPromptProcessor, seed: int = 0, with_text: bool = False):
        super().__init__(processor, seed)
        self.with_text = with_text
        self.words: TfidfVectorizer | None = None

    def fit_features(self, table, clicks):
        ids = self.rows.ids(table)
        if not self.with_text:
            return self._matrix(table, ids, None, None)
        single = self._single_ids(ids)
        encoded = None
        if single.shape[1]:
            sizes = [self.rows.processor.field_sizes[position] for position in self._categorical]
            encoded = cross_fitted_rates(single, clicks, sizes, self.seed)
            self.rates = [smoothed_rates(single[:, [field]], clicks, size) for field, size in enumerate(sizes)]
        texts = self._texts(table)
        self.words = fit_words(texts)
        reduced = None
        if self.words is not None:
            matrix = self.words.transform(texts)
            components = min(_TEXT_COMPONENTS, min(matrix.shape) - 1)
            self.words = self.words if components > 0 else None
            if components > 0:
                self.svd = TruncatedSVD(components, random_state=self.seed)
                reduced = self.svd.fit_transform(matrix)
        return self._matrix(table, ids, encoded, reduced)

    def features(self, table):
        ids = self.rows.ids(table)
        encoded = reduced = None
        if self.with_text:
            single = self._single_ids(ids)
            if single.shape[1]:
                encoded = np.stack([rates[column] for rates, column in zip(self.rates, single.T)], axis=1)
            if self.words is not None:
                reduced = self.svd.transform(self.words.transform(self._texts(table)))
        return self._matrix(table, ids, encoded, reduced)

    @property
    def _categorical(self) -> list[int]:
        """Positions, among the fields with ids, of those with one category per row."""
        fields = self.rows.processor.schema.fields
        kinds = [fields[f].kind for f in self.rows.fields_with_ids]
        return [position for position, kind in enumerate(kinds) if kind not in ("numeric", "multi_valued")]

    @property
    def _native(self) -> list[int]:
        sizes = self.rows.processor.field_sizes
        return [p for p in self._categorical if not self.with_text or sizes[p] - 1 <= MOST_NATIVE_VALUES]

    def _texts(self, table: pa.Table) -> list[str]:
        # the words of a native category say nothing new
        return self.rows.texts(table, exclude=[self.rows.fields_with_ids[position] for position in self._native])

    def _single_ids(self, ids: list[np.ndarray]) -> np.ndarray:
        """Ids to target-encode, (N, number of categorical fields)."""
        columns = [ids[position] for position in self._categorical]
        return np.concatenate(columns, axis=1) if columns else np.zeros((len(ids[0]), 0), dtype=np.int64)

    def _matrix(
        self, table: pa.Table, ids: list[np.ndarray], encoded: np.ndarray | None, reduced: np.ndarray | None
    ) -> np.ndarray:
        """(N, features) float32, native categories first."""
        fields = self.rows.processor.schema.fields
        parts = [np.where(ids[p] > 0, ids[p], np.nan) for p in self._native]
        parts.append(self.rows.numbers(table))
        for position, f in enumerate(self.rows.fields_with_ids):
            if fields[f].kind == "multi_valued":
                size = min(self.rows.processor.field_sizes[position], 1 + _MOST_INDICATORS)
                # ids are in the order of frequency
                frequent = np.where(ids[position] < size, ids[position], -1)
                parts.append(one_hot(frequent, size).toarray()[:, 1:])
        parts += [part for part in (encoded, reduced) if part is not None]
        return np.concatenate([np.asarray(part, dtype=np.float32) for part in parts], axis=1)

    def fit(self, features, clicks, validation, metric, **hyperparameters):
        import lightgbm

        categories = list(range(len(self._native)))
        parameters = {
            **{"objective": "binary", "metric": "auc" if metric == "auc" else "binary_logloss", "verbosity": -1},
            **{"seed": self.seed, "deterministic": True, "bagging_freq": 1},
            **hyperparameters,
        }
        train = lightgbm.Dataset(features, clicks, categorical_feature=categories)
        valid = lightgbm.Dataset(validation[0], validation[1], categorical_feature=categories, reference=train)
        stop = lightgbm.early_stopping(_PATIENCE, verbose=False)
        self.model = lightgbm.train(parameters, train, _MOST_ROUNDS, valid_sets=[valid], callbacks=[stop])

    def predict_features(self, features):
        return np.asarray(self.model.predict(features, num_iteration=self.model.best_iteration))

    @property
    def chosen(self):
        return {"rounds": int(self.model.best_iteration)}


def cross_fitted_rates(ids: np.ndarray, clicks: np.ndarray, sizes: list[int], seed: int) -> np.ndarray:
    """Encode the ids of training rows by the smoothed click rates of other rows, so that no row sees its own label.

    Args:
        ids: (N, fields), one id per field and row.
        clicks: (N,) 0 or 1, at least two of each.
        sizes: Number of ids per field.
        seed: Seed of the five folds; a row is encoded by the rates of the other four.

    Returns:
        (N, fields), in [0, 1].
    """
    folds = min(_FOLDS, int(np.bincount(np.asarray(clicks, dtype=np.int64), minlength=2).min()))
    encoded = np.empty(ids.shape)
    for others, rows in StratifiedKFold(folds, shuffle=True, random_state=seed).split(ids, clicks):
        for field, size in enumerate(sizes):
            rates = smoothed_rates(ids[others, field : field + 1], clicks[others], size)
            encoded[rows, field] = rates[ids[rows, field]]
    return encoded


def loss_of(metric: str, clicks: np.ndarray, probabilities: np.ndarray) -> float:
    """What choices on validation rows minimize: the log loss in nats, or 1 - AUC."""
    found = auc_and_log_loss(probabilities, clicks)[metric]
    return 1 - found if metric == "auc" else found
