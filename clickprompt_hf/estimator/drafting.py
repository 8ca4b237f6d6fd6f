# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The schema of an estimator's features, drafted from them or given."""

from collections.abc import Collection

import numpy as np
import pyarrow as pa

from ..drafting.bucket_choice import choose_buckets
from ..drafting.column_checks import (
    leave_out_row_ids,
    propose_ids_only,
    rank_alone,
    unite_buckets,
    unite_families,
)
from ..drafting.label_guess import affirmative
from ..drafting.schema_draft import MAX_ROWS, draw_rows, fields_of, profile_columns
from ..labels_clickprompt import labels_of
from ..schema_clickprompt import FieldSchema, Schema
from ..values_clickprompt import canonical
from ..warnings_clickprompt import warn_at_caller


def drafted_schema(
    table: pa.Table, clicks: np.ndarray, label: str, text_fields: Collection[str] = (), has_names: bool = True
) -> Schema:
    """Draft the schema of features.

    Columns are read as `clickprompt draft-schema` reads them, but a column that is passed is meant to be used: columns
    that predict the label almost perfectly are fields too, and a warning names them. Only columns that cannot say
    anything are left out: empty and constant ones, and with a warning that gives the reason, ids that no two rows
    share and cells that cannot be fields.

    Args:
        table: (N, C) training rows, at least one. Of more than 100,000, as many are drawn at random with a fixed seed.
        clicks: (N,) 0 or 1.
        label: Name of the label in the schema; no column has it.
        text_fields: Columns that are wanted in the text, whatever they say; empty ones are left out all the same.
        has_names: Whether the names of the columns mean anything: columns of like names are then fields of one kind.

    Raises:
        ValueError: If no column can be a field with ids.
    """
    if len(table) > MAX_ROWS:
        drawn = draw_rows(len(table))
        table, clicks = table.take(pa.array(drawn)), clicks[drawn]
    profiles = profile_columns(table)
    if has_names:
        unite_families(profiles)
    likely_leaks: list[str] = []
    for profile in profiles:
        if profile.kind != "numeric":
            leave_out_row_ids(profile, len(table))
        if not profile.reason_left_out:
            rank_alone(profile, clicks.astype(np.float64))
            if profile.reason_left_out:
                likely_leaks.append(profile.name)
                profile.reason_left_out = ""
        choose_buckets(profile, clicks.astype(np.float64))
        if profile.name in text_fields:
            # the schema leaves out those without values
            profile.reason_left_out = ""
    if has_names:
        unite_buckets(profiles)
    used = [profile for profile in profiles if not profile.reason_left_out and fields_of(profile)]
    propose_ids_only(used)
    # free text goes last, because texts are truncated at the end
    used.sort(key=lambda profile: profile.kind == "text")
    fields = [FieldSchema(**field) for profile in used for field in fields_of(profile)]
    if not any(field.num_columns for field in fields):
        left_out = {profile.name: profile.reason_left_out for profile in profiles if profile.reason_left_out}
        raise ValueError(
            "`X` must have a column that can be a field with ids. Free text: "
            f"{[field.column for field in fields]}; left out: {left_out}. To use them anyway, pass a `schema`."
        )
    lost = [f"{p.name!r} ({p.reason_left_out})" for p in profiles if p.reason_left_out and len(p.values) > 1]
    if lost:
        warn_at_caller(f"Columns left out: {'; '.join(lost)}. To use them anyway, pass a `schema`.")
    if likely_leaks:
        warn_at_caller(
            f"Columns {likely_leaks} predict the label almost perfectly on their own. Make sure that their values are "
            "known before the outcome."
        )
    return Schema(tuple(fields), label=label)


def positive_class(classes: np.ndarray, positive: str | None = None) -> tuple[str | None, int]:
    """Tell which of two classes means a click.

    It is the one that the schema names, or 1 or true, or else the word that affirms, such as `Ja` beside `Nein`, or
    the last one, which the schema then names.

    Args:
        classes: (2,) the labels, in order.
        positive: `Schema.positive`.

    Returns:
        The `positive` for the schema, and the index of the class.

    Raises:
        ValueError: If neither class is `positive`, or both are read as the same label, such as `Yes` and `yes`.
    """
    clicks = labels_of(classes.tolist(), positive)
    if sorted(clicks.tolist()) == [0, 1]:
        return positive, int(clicks.argmax())
    if positive is not None:
        raise ValueError(f"One class of `y` must be the schema's `positive`, {positive!r}, got {classes.tolist()}.")
    words = [canonical(label).lower() if isinstance(label, str) else "" for label in classes.tolist()]
    index = affirmative(words) if all(words) else None
    index = 1 if index is None else index
    word = canonical(classes[index]) or None
    if word is not None and labels_of(classes.tolist(), word).tolist() == [1, 1]:
        one, other = classes.tolist()
        raise ValueError(
            f"`y` must have two classes that are read as different labels, but {one!r} and {other!r} are read as the "
            "same label: rename one."
        )
    return word, index
