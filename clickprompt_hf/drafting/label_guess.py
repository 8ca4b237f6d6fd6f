# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Guess which column of an unknown table is the label, and which of its values means a click."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..schema_clickprompt import check_positive
from ..values_clickprompt import labels_of
from .column_profile import ColumnProfile

_BINARY_LABELS = ("0", "1", "false", "true")
_LABEL_WORDS = {
    *("label", "target", "y", "outcome", "response", "responded", "click", "clicked", "clicks"),
    *("default", "defaulted"),
    *("churn", "churned", "converted", "conversion", "purchase", "purchased", "bought", "subscribed", "approved"),
    *("returned", "cancelled", "canceled", "show", "noshow", "fraud", "readmitted", "survived", "won", "success"),
    *("like", "liked", "hired", "accepted", "admitted", "attrition", "exited", "recommended", "income", "verdict"),
    *("sentiment", "satisfaction", "class", "died", "seen", "relevant"),
}
_GRADED_LABEL_WORDS = {*_LABEL_WORDS, "rating", "ratings", "score", "stars", "status"}
_WORDS_FOR_YES = {
    *("yes", "y", "t", "true", "positive", "pos", "clicked", "default", "defaulted", "charged off"),
    *("ja", "oui", "sí", "si", "sim"),
    *("good", "hired", "accepted", "accept", "approved", "admitted", "success", "successful", "won", "win", "passed"),
    *(
        "pass",
        "like",
        "liked",
        "recommended",
        "satisfied",
        "subscribed",
        "bought",
        "purchased",
        "converted",
        "churned",
    ),
    *(
        "attrited",
        "exited",
        "fraud",
        "fraudulent",
        "spam",
        "died",
        "dead",
        "deceased",
        "sick",
        "canceled",
        "cancelled",
    ),
}
_WORDS_FOR_NO = {
    *("no", "n", "f", "false", "negative", "neg", "not clicked", "paid", "fully paid", "none"),
    *("nein", "nee", "non", "não"),
    *("bad", "rejected", "reject", "declined", "denied", "refused", "failure", "failed", "fail", "lost", "loss"),
    *("dislike", "disliked", "dissatisfied", "neutral or dissatisfied", "stayed", "retained", "existing", "active"),
    *("legit", "legitimate", "genuine", "ham", "alive", "survived", "healthy"),
}
# In columns of these names, what is bad is what is predicted.
_RISK_WORDS = {"risk", "default", "defaulted", "fraud", "delinquent", "delinquency", "credit", "loan", "churn"}
# More values are no label, whatever the column is called.
_MOST_LABELS = 10
_LIMIT = re.compile(r"(<=|>=|<|>|≤|≥)\s*(.*\d.*)")
_NEGATION = re.compile(r"(not|non|no|un)[ _-]?(.+)")
_NUMBER = re.compile(r"-?[\d.]+")


@dataclass
class LabelGuess:
    """A column that may be the label.

    Args:
        profile: The column.
        positive: Value for `Schema.positive`; `None` if the values are 0 and 1, or false and true.
        clicks: (N,) 1, 0, or NaN if unknown.
        likelihood: Ranks guesses; 0 if the column only has the right number of values.
    """

    profile: ColumnProfile
    positive: str | None
    clicks: np.ndarray
    likelihood: int


def guess_labels(profiles: Sequence[ColumnProfile]) -> list[LabelGuess]:
    """Guess the label: all columns with two values, the likeliest label first."""
    guesses = []
    for index, profile in enumerate(profiles):
        if len(profile.values) != 2 or profile.kind != "categorical" or profile.reason_left_out:
            continue
        words = [value.lower() for value in profile.values]
        positive = None
        if not _is_binary(profile):
            positive = _guess_positive(profile)
            if positive is None:
                continue
        named = bool(profile.words & _LABEL_WORDS)
        typical = any(word in (*_BINARY_LABELS, *_WORDS_FOR_YES) for word in words) or _opposites(words) is not None
        is_last = index == len(profiles) - 1
        likelihood = 1 + typical + 4 * named + is_last if typical or named else 0
        guesses.append(LabelGuess(profile, positive, _clicks(profile, positive), likelihood))
    return sorted(guesses, key=lambda guess: -guess.likelihood)


def named_label(profiles: Sequence[ColumnProfile], label: str, positive: str | None) -> LabelGuess:
    """Make a given column the label.

    Args:
        profiles: All columns of the table.
        label: Name of the label column.
        positive: Its value that means a click; `None` to guess it.

    Raises:
        ValueError: If there is no such column or value, or `positive` cannot be guessed.
    """
    profile = next((profile for profile in profiles if profile.name == label), None)
    if profile is None:
        raise ValueError(f"`label` must be one of the columns {[p.name for p in profiles]}, got {label!r}.")
    if len(profile.values) < 2:
        raise ValueError(f"`label` must have at least two values, but {label!r} has {len(profile.values)}.")
    if positive is not None:
        check_positive(positive)
    if positive is not None or not _is_binary(profile):
        if positive is None and len(profile.values) == 2:
            positive = _guess_positive(profile)
        if positive not in profile.values:
            more = ", ..." if len(profile.values) > 10 else ""
            raise ValueError(
                f"`positive` must be the value of {label!r} that means a click, got {positive!r}; the values are "
                f"{', '.join(map(repr, profile.values[:10]))}{more}."
            )
    return LabelGuess(profile, positive, _clicks(profile, positive), likelihood=1)


def is_named_label(profile: ColumnProfile) -> bool:
    """Whether a column is the label by its name."""
    return bool(profile.words & _LABEL_WORDS)


def may_be_graded_label(profile: ColumnProfile) -> bool:
    """Whether a column may hold grades, such as stars, from which a label can be derived."""
    return len(profile.values) > 2 and bool(profile.words & _GRADED_LABEL_WORDS) and "marital" not in profile.words


def question_named(profile: ColumnProfile) -> str | None:
    """What to do about a column that is the label by its name, but has a few values more than two; else `None`."""
    if not 2 < len(profile.values) <= _MOST_LABELS or not profile.words & _LABEL_WORDS:
        return None
    alike: dict[str, list[str]] = {}
    for value in profile.values:
        alike.setdefault(value.lower(), []).append(value)
    shown = "; ".join(", ".join(map(repr, values)) for values in alike.values() if len(values) > 1)
    if len(alike) == 2:
        return f"Write these alike: {shown}"
    return f"{f'Write these alike: {shown}. ' if shown else ''}Keep two of its values, or make a column of 0 and 1"


def _is_binary(profile: ColumnProfile) -> bool:
    """Whether all values are labels without a word for a click: 0 and 1, or false and true."""
    return bool(np.isfinite(labels_of(profile.values)).all())


def _clicks(profile: ColumnProfile, positive: str | None) -> np.ndarray:
    """(N,) 1, 0, or NaN if unknown."""
    return np.append(labels_of(profile.values, positive), np.nan)[profile.value_ids]


def _opposites(words: Sequence[str]) -> int | None:
    """The index of the value above a limit, as of `<=50K` and `>50K`, or of the one that is not negated, if any."""
    for high, low in ((0, 1), (1, 0)):
        limits = _LIMIT.fullmatch(words[high]), _LIMIT.fullmatch(words[low])
        if all(limits) and limits[0][2] == limits[1][2] and limits[0][1] in (">", ">=", "≥"):  # type: ignore[index]
            return high
        negation = _NEGATION.fullmatch(words[low])
        if negation and negation[2] == words[high]:
            return high
    return None


def _guess_positive(profile: ColumnProfile) -> str | None:
    """Guess which of two values means a click: 1, or a word for yes, or else the rarer value.

    Returns:
        The value; `None` if it would be a number other than 1.
    """
    words = [value.lower() for value in profile.values]
    if {*words} == {"good", "bad"} and profile.words & _RISK_WORDS:
        return profile.values[words.index("bad")]
    if (index := _opposites(words)) is not None:
        return profile.values[index]
    yes = [value for value, word in zip(profile.values, words) if word in _WORDS_FOR_YES]
    not_no = [value for value, word in zip(profile.values, words) if word not in _WORDS_FOR_NO]
    likely = (yes or not_no or profile.values)[-1]
    if "1" in profile.values:
        likely = "1"
    return None if _NUMBER.fullmatch(likely) and likely != "1" else likely
