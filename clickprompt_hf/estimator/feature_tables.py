# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Features in any container that scikit-learn's users have, as an Arrow table."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import validate_data

from ..columns_clickprompt import cells_of, check_different, columns_of
from ..data.arrow_cells import decoded_table
from ..values_clickprompt import canonical, is_column, spellings


def checked_table(estimator: BaseEstimator, X: Any, reset: bool) -> pa.Table:
    """Convert features to a table and check them against those of the estimator's fit, as scikit-learn does.

    Args:
        estimator: Gets `n_features_in_` and, if the columns have names, `feature_names_in_`.
        X: Features (N, C); see `ClickPromptClassifier.fit`.
        reset: Whether these are the features to fit on.

    Returns:
        (N, C), with the names of the columns, or `x0`, `x1`, ... if they have none.

    Raises:
        ValueError: If there are no rows or no columns, names repeat, are partly not strings or differ from those of
            the fit, or columns differ in length.
        TypeError: If `X` has an unsupported type.
    """
    columns = _columns_by_name(X)
    if columns is None:
        array = validate_data(estimator, X, dtype=None, ensure_all_finite="allow-nan", reset=reset)
        return _table([array[:, index] for index in range(array.shape[1])], None)
    names, cells = columns
    check_different(names, "`X`")
    # validates names and their number; rows are of no use to it
    validate_data(estimator, pd.DataFrame(columns=names), skip_check_array=True, reset=reset)
    lengths = {len(column) for column in cells}
    if len(lengths) > 1:
        raise ValueError(f"The columns of `X` must have one length, got {dict(zip(names, map(len, cells)))}.")
    if not cells or lengths == {0}:
        what = "feature(s)" if not cells else "sample(s)"
        raise ValueError(
            f"`X` must have at least one row and one column: found 0 {what} (shape=({max(lengths, default=0)}, "
            f"{len(cells)})) while a minimum of 1 is required."
        )
    return _table(cells, [str(name) for name in names] if all(isinstance(name, str) for name in names) else None)


def _columns_by_name(X: Any) -> tuple[list[Any], list[Any]] | None:
    """Names and columns of a table; `None` for an array, whose columns have no names."""
    if issparse(X):
        # some are mappings; scikit-learn refuses all of them
        return None
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        # a data frame of pandas, whose columns may have any names, also repeated ones
        return list(X.columns), [X.iloc[:, index] for index in range(X.shape[1])]
    if hasattr(X, "with_format") and hasattr(X, "column_names"):
        # datasets.Dataset
        X = X.with_format("arrow")[:]
    if hasattr(X, "__arrow_c_stream__") and hasattr(X, "columns"):
        # a table or record batch of Arrow, a data frame of polars
        table = pa.table(X)
        return table.column_names, table.columns
    if isinstance(X, Mapping):
        for name, values in X.items():
            if not is_column(values):
                raise TypeError(f"`X` must map each column to its values, but maps {name!r} to {values!r:.80}.")
        return list(X), list(X.values())
    if isinstance(X, Sequence) and not isinstance(X, str) and len(X) and all(isinstance(row, Mapping) for row in X):
        rows = columns_of(X)
        return list(rows), list(rows.values())
    if hasattr(X, "collect") and hasattr(X, "columns"):
        raise TypeError("`X` must hold its rows, got a lazy frame: collect it first.")
    return None


def _table(columns: Sequence[Any], names: Sequence[str] | None) -> pa.Table:
    given = [f"x{index}" for index in range(len(columns))] if names is None else list(names)
    return decoded_table(pa.table([_arrow_column(column) for column in columns], names=given))


def _arrow_column(values: Any) -> pa.ChunkedArray:
    """A column of Arrow; cells of several types, or of one that Arrow lacks, become strings. NaN is missing."""
    if isinstance(values, pa.ChunkedArray):
        return values
    if isinstance(values, pd.Series) and isinstance(values.dtype, pd.SparseDtype):
        values = values.to_numpy()
    if not hasattr(values, "dtype") or values.dtype.kind == "O":
        values = _told_apart(values)
    try:
        column = pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        column = None
    if column is None or isinstance(column.type, pa.BaseExtensionType):
        column = pa.array([text or None for text in spellings(values)], pa.string())
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def _told_apart(values: Any) -> Any:
    """Replace cells of which Arrow would lose something or make something else.

    Sets become sorted lists, as their order differs between processes, and mappings become JSON, as Arrow gives each
    the keys of all. Days beside times, and times with nanoseconds, become strings.
    """
    kinds = set(map(type, values))
    if any(issubclass(kind, (set, frozenset)) for kind in kinds):
        return [sorted(cell, key=canonical) if isinstance(cell, (set, frozenset)) else cell for cell in values]
    if any(issubclass(kind, Mapping) for kind in kinds):
        return [_written(cell) if isinstance(cell, Mapping) else cell for cell in values]
    times = [kind for kind in kinds if issubclass(kind, date) and kind is not type(pd.NaT)]
    has_days = any(not issubclass(kind, datetime) for kind in times)
    if (has_days and len(times) > 1) or any(getattr(cell, "nanosecond", 0) for cell in (values if times else ())):
        return [canonical(cell) or None if isinstance(cell, date) else cell for cell in values]
    return values


def _written(cell: Mapping) -> str:
    return json.dumps({canonical(key): value for key, value in cell.items()}, default=canonical, ensure_ascii=False)


def checked_classes(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Check the labels; return the two classes in order, and each row's index into them (N,).

    Raises:
        ValueError: If labels are missing, continuous, of several columns, or not of two classes.
    """
    if y is None:
        raise ValueError("ClickPromptClassifier requires y to be passed, but the target y is None")
    if hasattr(y, "to_pylist"):
        # Arrow's own conversion to numpy refuses strings, truth values and missing labels.
        y = cells_of(y)
    labels = column_or_1d(np.asarray(y) if hasattr(y, "__array__") else y, warn=True)
    if labels.dtype.kind in "fc":
        assert_all_finite(labels, input_name="y")
    elif labels.dtype.kind not in "biuf" and pd.isna(labels).any():
        raise ValueError(f"`y` must have a label in each row, but {int(pd.isna(labels).sum())} are missing.")
    if labels.dtype.kind == "O" and len({type(label) for label in labels}) == 1:
        # objects that are all of one type, such as integers of pandas' nullable types
        labels = np.asarray(labels.tolist()) if not isinstance(labels[0], str) else labels
    check_classification_targets(labels)
    target = type_of_target(labels, input_name="y")
    classes, indices = np.unique(labels, return_inverse=True)
    if target != "binary" or len(classes) > 2:
        raise ValueError(f"Only binary classification is supported. The type of the target is {target}.")
    if len(classes) < 2:
        raise ValueError(f"`y` must have two classes, got 1 class: {classes[0]!r}.")
    return classes, indices
