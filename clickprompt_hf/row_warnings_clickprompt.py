# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Shares warnings about rows among the batches of a call or of a task.

Ships with checkpoints and with exported folders that serve without torch: imports only numpy and the standard library.
"""

from .encoding_clickprompt import FeatureEncoder
from .unknown_values_clickprompt import UnknownValues
from .unread_cells_clickprompt import UnreadCells


class RowWarnings:
    """Counts lost keys and unread cells of several batches, and warns once about each of them.

    Unknown values are counted too, but `warn` leaves them out: the first batches of a sorted table may well hold new
    ones alone.

    Args:
        encoder: Encoder of the rows.

    Attributes:
        unknown: Counts unknown values and, as its `lost_keys`, keys that joined tables lack.
        unread: Counts unread cells, per field.
    """

    def __init__(self, encoder: FeatureEncoder):
        self.unknown = UnknownValues(encoder)
        self.unread = [UnreadCells(field) for field in encoder.schema.fields]

    def warn(self) -> None:
        """Warn about what has not been warned about."""
        self.unknown.warn_of_lost_keys()
        for of_field in self.unread:
            of_field.warn()
