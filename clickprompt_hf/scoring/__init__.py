# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Click probabilities of tables, in memory or in files."""

from ..columns_clickprompt import PROBABILITY_COLUMN as COLUMN
from .file_scoring import checkpoint_digest, score_file
from .finished_pieces import FinishedPieces
from .stored_texts import StoredTexts
from .table_scoring import score_table

__all__ = ["COLUMN", "FinishedPieces", "StoredTexts", "checkpoint_digest", "score_file", "score_table"]
