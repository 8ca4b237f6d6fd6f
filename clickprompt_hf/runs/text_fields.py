# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Which fields of a table the PLM reads, and how much text that is."""

from collections.abc import Mapping, Sequence

from transformers.utils import logging

from ..data.columnar import ColumnarDataset
from ..data.text_counts import count_texts
from ..schema_clickprompt import Schema

logger = logging.get_logger(__name__)


def choose_text_fields(
    schema: Schema, given: Sequence[str] | None, saved: Sequence[str] | None, owner: str = "the checkpoint"
) -> Schema:
    """Put the chosen fields into the text, and no others.

    Args:
        schema: What the columns of the data mean.
        given: Columns or keys of fields, `--text_fields`; `None` if it is not given.
        saved: Keys of the fields in the text of the checkpoint that training starts from or resumes; `None` without
            one, or if its schema decides.
        owner: What the saved ones belong to, as the message calls it.

    Raises:
        ValueError: If a given field is unknown, or the given ones are not the checkpoint's.
    """
    chosen = schema
    if given is not None:
        chosen = schema.with_text_fields(given)
        if saved is not None and chosen.text_keys != list(saved):
            raise ValueError(
                f"`--text_fields` must be {' '.join(saved)}, as in {owner}'s training, or left out; got "
                f"{' '.join(given)}."
            )
        if dropped := [key for key in schema.keys if key not in chosen.keys]:
            logger.warning(
                f"--text_fields leaves out {', '.join(dropped)}, so the model ignores them: fields of kind text "
                "have no ids."
            )
    # a schema without these fields is another dataset's, which the check against the checkpoint's rows refuses
    if saved and chosen.text_keys != list(saved) and {*saved} <= {*schema.keys}:
        chosen = schema.with_text_fields(saved)
    return chosen


def choose_vector_fields(
    schema: Schema, given: Sequence[str] | None, saved: Sequence[str] | None, owner: str = "the checkpoint"
) -> Schema:
    """Add the vector of the chosen fields' text.

    Args:
        schema: What the columns of the data mean.
        given: Columns or keys of fields, `--vector_fields`; `None` if it is not given.
        saved: Keys of the fields of the vector that the checkpoint reads, from which training starts or resumes; empty
            if it reads none, and `None` without a checkpoint.
        owner: What the saved ones belong to, as the message calls it.

    Raises:
        ValueError: If a given field is unknown or has no text, or the given ones are not the checkpoint's.
    """
    if given is not None:
        found = tuple(schema.fields[f].key for f in schema.fields_named(given, "`--vector_fields`"))
        if saved is not None and found != tuple(saved):
            expected = f"{' '.join(saved)}, as in {owner}'s training, or left out" if saved else "left out"
            why = "" if saved else f": {owner} reads no vector of several fields' text"
            raise ValueError(f"`--vector_fields` must be {expected}, got {' '.join(given)}{why}.")
        return schema if found == schema.text_vector_fields else schema.with_vector_fields(given)
    # a schema without these fields is another dataset's, which the check against the checkpoint's rows refuses
    if saved and not schema.text_vector_fields and {*saved} <= {*schema.keys}:
        return schema.with_vector_fields(saved)
    return schema


def is_schema_of(
    given: Schema,
    saved: Schema,
    text_fields: Sequence[str] | None,
    recorded: Sequence[str] | None = None,
    vector_fields: Sequence[str] | None = None,
) -> bool:
    """Whether a schema file is a checkpoint's, except that `--text_fields` may have chosen the fields in the text.

    Args:
        given: Content of the file. The field of `--vector_fields` need not be in it.
        saved: The checkpoint's schema.
        text_fields: As `given` of `choose_text_fields`.
        recorded: Keys of the fields that it chose in the checkpoint's training, whatever the file said; `None` if it
            was not given.
        vector_fields: As `given` of `choose_vector_fields`.

    Raises:
        ValueError: If a given field is unknown, or those of `--vector_fields` are not the checkpoint's.
    """
    given = choose_vector_fields(given, vector_fields, saved.text_vector_fields)
    if text_fields is not None:
        given = given.with_text_fields(text_fields)
    elif recorded is not None or all(field.in_text for field in given.fields):
        chosen = saved.text_keys if recorded is None else recorded
        if chosen and {*chosen} <= {*given.keys}:
            given = given.with_text_fields(chosen)
    return given == saved


def show_texts(splits: Mapping[str, ColumnarDataset], schema: Schema) -> None:
    """Print which fields the PLM reads, and per split its rows, distinct texts and tokens."""
    names = ", ".join(schema.fields[f].name for f in schema.fields_in_text)
    print(f"The PLM reads {names}.")
    for name, split in splits.items():
        print(f"  {name}: {count_texts(split)}")
