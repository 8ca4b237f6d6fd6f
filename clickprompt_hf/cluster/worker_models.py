# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Models that a worker process has loaded."""

from functools import lru_cache

from ..processing_clickprompt import ClickPromptProcessor
from .table_scorer import TableScorer


# jobs with several models alternate between a few
@lru_cache(maxsize=4)
def scorer_of_process(model: str, num_threads: int, batch_size: int | None) -> TableScorer:
    """The scorer of a model, loaded by the first task of this process that needs it."""
    return TableScorer(model, num_threads, batch_size)


@lru_cache(maxsize=1)
def processor_of_process(folder: str) -> ClickPromptProcessor:
    """The processor in a folder, loaded by the first task of this process that needs it."""
    return ClickPromptProcessor.from_pretrained(folder)
