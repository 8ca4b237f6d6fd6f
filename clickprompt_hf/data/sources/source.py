# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What every source returns."""

from dataclasses import dataclass

import pyarrow as pa

from ...schema_clickprompt import Schema

SPLIT_NAMES = ("train", "validation", "test")


@dataclass
class SourceTable:
    """Raw rows with plain typed columns, and what the columns mean.

    Args:
        table: All rows in one table, or the splits `train`, `validation` and `test` if the source has its own. Strings
            may be dictionary-encoded.
        schema: What the columns mean.
    """

    table: pa.Table | dict[str, pa.Table]
    schema: Schema
