# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What every source gives."""

from dataclasses import dataclass

import datasets
import pyarrow as pa

from ...schema_clickprompt import Schema


@dataclass
class SourceTable:
    """Raw rows with plain typed columns, no features yet. Strings may be dictionary-encoded, which splits undo.

    Args:
        rows: All rows in one table, or the splits that the source itself defines.
        schema: What the columns mean.
    """

    rows: pa.Table | datasets.DatasetDict
    schema: Schema
