# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Ranges of arguments that are numbers, for training arguments and commands."""

import numbers
from dataclasses import dataclass
from typing import Any

# numpy's generators take no larger seed
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class NumberRange:
    """The numbers that an argument may be.

    Args:
        least: Smallest number; itself excluded if `above` is `True`.
        most: Largest number; itself excluded if `below` is `True`.
        whole: Whether it must be an integer.
        above: Whether the number must be above `least`.
        below: Whether the number must be below `most`.
        also: Further values, such as -1 for "no limit".
    """

    least: float = 0
    most: float = 1e12
    whole: bool = False
    above: bool = False
    below: bool = False
    also: tuple[Any, ...] = ()

    def check(self, name: str, value: Any) -> None:
        """Raise a ValueError that names the argument, its range and its value, unless the value is in the range."""
        is_number = isinstance(value, numbers.Integral if self.whole else numbers.Real) and not isinstance(value, bool)
        if is_number and self._holds(value):
            return
        if any(value is other or (is_number and value == other) for other in self.also):
            return
        if not is_number:
            expected = "an integer" if self.whole else "a number"
        elif value > self.most or (self.below and value == self.most):
            expected = f"{'below' if self.below else 'at most'} {self.most}"
        else:
            expected = f"{'above' if self.above else 'at least'} {self.least}"
        others = "".join(f", or {other}" for other in self.also if other is not None)
        raise ValueError(f"`{name}` must be {expected}{others}, got {value!r}.")

    def _holds(self, number: Any) -> bool:
        from_least = number > self.least if self.above else number >= self.least
        return from_least and (number < self.most if self.below else number <= self.most)


def check_numbers(arguments: Any, ranges: dict[str, NumberRange]) -> None:
    """Raise a ValueError for the first attribute of `arguments` that is out of its range in `ranges`."""
    for name, number_range in ranges.items():
        number_range.check(name, getattr(arguments, name))
