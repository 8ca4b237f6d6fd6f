# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Numbers of a comparison in words."""

import math
from collections.abc import Sequence

from .analysis import Difference
from .statistics import Estimate

METRIC_NAMES: dict[str, str] = {"auc": "AUC", "log_loss": "log loss"}
UNKNOWN = "–"


def number(value: float, decimals: int, signed: bool = False) -> str:
    """A number with a true minus sign; a dash if it is unknown."""
    if not math.isfinite(value):
        return UNKNOWN
    text = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
    if not float(text):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def with_margin(estimate: Estimate, signed: bool = True, magnitude: bool = False) -> str:
    """A value ± half of its 95 % interval, with as many decimals as the interval allows: "+0.031 ± 0.006".

    Args:
        estimate: The value.
        signed: Whether to show a plus sign.
        magnitude: Whether to drop the sign altogether, for words such as "loses".
    """
    value = abs(estimate.value) if magnitude else estimate.value
    signed = signed and not magnitude
    if not math.isfinite(estimate.margin):
        return f"{number(value, 4, signed)} ± unknown"
    decimals = margin_decimals(estimate.margin)
    return f"{number(value, decimals, signed)} ± {number(estimate.margin, decimals)}"


def margin_decimals(margin: float) -> int:
    """Decimals that show one digit of a margin, or two if the first is 1; from 3 to 6."""
    if margin <= 0:
        return 4
    exponent = math.floor(math.log10(margin))
    first_is_1 = margin < 2 * 10.0**exponent
    return min(max(-exponent + first_is_1, 3), 6)


def change(difference: Difference, to: str | None = None) -> str:
    """What an arm does to a metric: "adds 0.031 ± 0.006 AUC to backbone"."""
    size = with_margin(difference.estimate, magnitude=True)
    if difference.metric == "auc":
        verb, preposition = ("adds", "to") if difference.gain >= 0 else ("loses", "against")
        return f"{verb} {size} AUC" + (f" {preposition} {to}" if to else "")
    verb = "lowers" if difference.gain >= 0 else "raises"
    return f"{verb} {f'the log loss of {to}' if to else 'log loss'} by {size}"


def why_not_significant(difference: Difference) -> str:
    """Why a difference is not significant: "its interval includes zero", or what adjusting for other tests makes of p.

    Args:
        difference: Not significant.
    """
    estimate = difference.estimate
    if not math.isfinite(estimate.margin):
        return "its error is unknown"
    if estimate.low <= 0 <= estimate.high:
        return "its interval includes zero"
    if difference.adjusted_p is None:
        return "it is not tested"
    level, adjusted = f"{difference.rules.level:g}", f"{difference.adjusted_p:.2g}"
    if float(adjusted) <= float(level):
        # rounded too far to show that it is above
        adjusted = f"{difference.adjusted_p:.4g}"
    tests = f"{difference.num_tests} tests" if difference.num_tests > 1 else "one test"
    return f"adjusted for {tests}, its p-value is {adjusted}, above {level}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Words as "a, b and c"."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def duration(seconds: float) -> str:
    """Time to train in minutes, with the precision that its size deserves."""
    minutes = seconds / 60
    return number(minutes, 2 if minutes < 1 else 1 if minutes < 100 else 0) if minutes else "0"


def speed(rows_per_second: float) -> str:
    """Rows per second, to three digits, with separators of thousands."""
    if not math.isfinite(rows_per_second):
        return UNKNOWN
    if rows_per_second < 10:
        return f"{rows_per_second:.3g}"
    digits = 2 - math.floor(math.log10(rows_per_second))
    return f"{round(rows_per_second, min(digits, 0)):,.0f}"


def size(megabytes: float) -> str:
    """Size of a model in MB, with the precision that its size deserves."""
    return number(megabytes, 2 if megabytes < 1 else 1 if megabytes < 100 else 0)
