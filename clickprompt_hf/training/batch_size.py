# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The default number of rows per training batch."""

# With a PLM, or if nothing is known about the rows.
DEFAULT_BATCH_SIZE = 64
_LARGEST, _STEPS_PER_EPOCH = 1024, 128


class UnsetBatchSize(int):
    """A batch size that was not set. `dataclasses.replace` and `to_dict` pass it on unchanged."""


def default_batch_size(num_rows: int, has_plm: bool) -> int:
    """Rows per training batch and device, if none are given.

    With a PLM, 64: larger batches need more memory. Without one, the largest power of two, from 64 to 1024, that
    leaves at least 128 batches per epoch: 64 up to 16,383 rows, 128 from 16,384, and 1024, as published, from 131,072.

    Args:
        num_rows: Number of training rows.
        has_plm: Whether the model reads text.
    """
    if has_plm:
        return DEFAULT_BATCH_SIZE
    size = DEFAULT_BATCH_SIZE
    while size < _LARGEST and 2 * size * _STEPS_PER_EPOCH <= num_rows:
        size *= 2
    return size
