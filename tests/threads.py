"""Many threads that use one object at once."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def in_threads(function: Callable[[Any], Any], arguments: Sequence) -> list:
    """Results of `function` for all arguments, from 16 threads that start together."""
    barrier = threading.Barrier(16)

    def work(number):
        barrier.wait()
        return [(index, function(arguments[index])) for index in range(number, len(arguments), 16)]

    with ThreadPoolExecutor(16) as pool:
        results = [result for part in pool.map(work, range(16)) for result in part]
    return [result for _, result in sorted(results, key=lambda result: result[0])]
