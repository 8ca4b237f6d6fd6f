# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""How fast an arm scores: the fastest of a few repeats, because other work on the machine slows some of them."""

import time
from collections.abc import Callable
from typing import TypeVar

# Longer measurements vary less, and are not worth a repeat.
SECONDS_TO_REPEAT = 2
MOST_REPEATS = 5

Result = TypeVar("Result")


def fastest_of_repeats(
    work: Callable[[], Result], before: Callable[[], object] = lambda: None
) -> tuple[Result, float]:
    """Time some work: once if it takes long, otherwise repeatedly, for two seconds or five repeats.

    Args:
        work: The work; each repeat returns the same.
        before: Called before each repeat, outside of the measurement.

    Returns:
        Its result, and the seconds of the fastest repeat.
    """
    measured: list[float] = []
    while True:
        before()
        start = time.perf_counter()
        result = work()
        measured.append(time.perf_counter() - start)
        if sum(measured) >= SECONDS_TO_REPEAT or len(measured) == MOST_REPEATS:
            return result, min(measured)
