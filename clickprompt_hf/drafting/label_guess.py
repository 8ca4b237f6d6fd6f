# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Guess which column of an unknown table is the label, and which of its values means a click."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..labels_clickprompt import labels_of
from ..schema_clickprompt import check_positive
from ..values_clickprompt import meaning_of, number_of, percent
from .column_profile import ColumnProfile
from .missing_words import means_missing

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
    *("ja", "oui", "sí", "si", "sim", "malignant", "present", "abnormal"),
    *("good", "hired", "accepted", "accept", "approved", "admitted", "success", "successful", "won", "win", "passed"),
    *("pass", "like", "liked", "recommended", "satisfied", "subscribed", "bought", "purchased", "converted"),
    *("churned", "attrited", "exited", "fraud", "fraudulent", "spam", "died", "dead", "deceased", "sick"),
    *("canceled", "cancelled"),
}
_WORDS_FOR_NO = {
    *("no", "n", "f", "false", "negative", "neg", "not clicked", "paid", "fully paid", "none"),
    *("benign", "absent", "normal"),
    *("nein", "nee", "non", "não"),
    *("bad", "rejected", "reject", "declined", "denied", "refused", "failure", "failed", "fail", "lost", "loss"),
    *("dislike", "disliked", "dissatisfied", "neutral or dissatisfied", "stayed", "retained", "existing", "active"),
    *("legit", "legitimate", "genuine", "ham", "alive", "survived", "healthy"),
}
# In columns with these names, the bad outcome is the one to predict.
_RISK_WORDS = {"risk", "default", "defaulted", "fraud", "delinquent", "delinquency", "credit", "loan", "churn"}
# A column with more values is not a label, whatever its name.
_MOST_LABELS, _MOST_SPELLINGS = 10, 50
_LIMIT = re.compile(r"(<=|>=|<|>|≤|≥)\s*(.*\d.*)")
_NEGATION = re.compile(r"(not|non|no|un)[ _-]?(.+)")


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

    @property
    def is_larger_number(self) -> bool:
        """Whether `positive` is the larger of two numbers."""
        numbers = [number_of(spellings[0]) for spellings in _classes(self.profile)]
        return len(numbers) == 2 and self.positive is not None and number_of(self.positive) == max(numbers)

    @property
    def doubts(self) -> list[str]:
        """Sentences on what a person should check."""
        classes, doubts = _classes(self.profile), []
        if alike := [", ".join(map(repr, spellings)) for spellings in classes if len(spellings) > 1]:
            doubts.append(f"each of these is read as one value: {'; '.join(alike)}")
        known = {value for spellings in classes for value in spellings}
        others = [value for value in self.profile.values if value not in known]
        if others and self.positive is not None:
            shown = [
                f"{value!r} ({percent(self.profile.share(self.profile.values.index(value)))})" for value in others
            ]
            doubts.append(f"no click: {', '.join(shown)}; remove these rows if their label is unknown")
        return doubts


def guess_labels(profiles: Sequence[ColumnProfile]) -> list[LabelGuess]:
    """Guess the label: all columns with two values, the likeliest label first."""
    guesses = []
    for index, profile in enumerate(profiles):
        if profile.kind != "categorical" or profile.reason_left_out:
            continue
        classes = _classes(profile)
        if len(classes) != 2:
            continue
        words = [spellings[0].lower() for spellings in classes]
        positive = None
        if not _is_binary(profile):
            positive = _guess_positive(profile)
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
    classes = _classes(profile)
    if len(classes) == 1 and len(classes[0]) > 1:
        alike = " and ".join(map(repr, classes[0][:3]))
        raise ValueError(
            f"`label` must have two values that are read as different labels, but {alike} in {label!r} are read as "
            "the same label: rename one."
        )
    if len(classes) < 2:
        raise ValueError(
            f"`label` must have at least two values, but {label!r} has {len(classes)}"
            f"{': ' if classes else ''}{', '.join(map(repr, profile.values[:10]))}."
        )
    if positive is not None:
        check_positive(positive)
    if positive is not None or not _is_binary(profile):
        if positive is None and len(classes) == 2:
            positive = _guess_positive(profile)
        elif positive is not None:
            wanted = _class_of(positive)
            positive = next((value for value in profile.values if _class_of(value) == wanted), positive)
        if positive not in profile.values:
            more = ", ..." if len(profile.values) > 10 else ""
            raise ValueError(
                f"`positive` must be the value of {label!r} that means a click, got {positive!r}; the values are "
                f"{', '.join(map(repr, profile.values[:10]))}{more}."
            )
    return LabelGuess(profile, positive, _clicks(profile, positive), likelihood=1)


def is_named_label(profile: ColumnProfile) -> bool:
    """Whether a column is named like a label."""
    return bool(profile.words & _LABEL_WORDS)


def may_be_graded_label(profile: ColumnProfile) -> bool:
    """Whether a column may hold grades, such as stars, from which a label can be derived."""
    return len(profile.values) > 2 and bool(profile.words & _GRADED_LABEL_WORDS) and "marital" not in profile.words


def question_named(profile: ColumnProfile) -> str | None:
    """What to do about a column that is named like a label, but has one value, or more than two; else `None`."""
    if len(profile.values) == 1 and profile.missing and profile.words & _LABEL_WORDS:
        return f"If its empty cells mean no click, write a word into them, {percent(profile.missing)} of the rows"
    if not 2 < len(_classes(profile)) <= _MOST_LABELS or not profile.words & _LABEL_WORDS:
        return None
    return (
        "Keep two of its values, make a column of 0 and 1, or name its value for a click with `label` and `positive`"
    )


def _class_of(value: str) -> str:
    """What a value of a label is read as: spellings of one number or truth value, and words in any case, are one."""
    number = labels_of([value])[0]
    if np.isfinite(number):
        return str(int(number))
    return (meaning_of(value) or value).casefold()


def _classes(profile: ColumnProfile) -> list[list[str]]:
    """The spellings of each value of a label, most frequent first.

    Words for missing values, such as `NA`, are left out if there are two values without them.
    """
    spellings: dict[str, list[str]] = {}
    rows: Counter[str] = Counter()
    for value, count in zip(profile.values[:_MOST_SPELLINGS], profile.counts.tolist()):
        spellings.setdefault(key := _class_of(value), []).append(value)
        rows[key] += count
    known = [key for key in spellings if not means_missing(key)]
    return [spellings[key] for key in sorted(known if len(known) >= 2 else spellings, key=lambda key: -rows[key])]


def _is_binary(profile: ColumnProfile) -> bool:
    """Whether the values are labels without a word for a click: 0 and 1, or false and true."""
    first = [spellings[0] for spellings in _classes(profile)]
    return sorted(labels_of(first).tolist()) == [0, 1]


def _clicks(profile: ColumnProfile, positive: str | None) -> np.ndarray:
    """(N,) 1, 0, or NaN if unknown."""
    return np.append(labels_of(profile.values, positive), np.nan)[profile.value_ids]


def _opposites(words: Sequence[str]) -> int | None:
    """The index of the value above a limit, as in `<=50K` and `>50K`, or of the one that is not negated, if any."""
    for high, low in ((0, 1), (1, 0)):
        limits = _LIMIT.fullmatch(words[high]), _LIMIT.fullmatch(words[low])
        if all(limits) and limits[0][2] == limits[1][2] and limits[0][1] in (">", ">=", "≥"):  # type: ignore[index]
            return high
        negation = _NEGATION.fullmatch(words[low])
        if negation and negation[2] == words[high]:
            return high
    return None


def affirmative(words: Sequence[str]) -> int | None:
    """The index of the one of two values that affirms, such as `ja` beside `nein`; `None` if none or both may.

    Args:
        words: The values in lower case.
    """
    if (index := _opposites(words)) is not None:
        return index
    yes = [w for w, word in enumerate(words) if word in _WORDS_FOR_YES]
    not_no = [w for w, word in enumerate(words) if word not in _WORDS_FOR_NO]
    return next((found[0] for found in (yes, not_no) if len(found) == 1), None)


def _guess_positive(profile: ColumnProfile) -> str:
    """Guess which of two values means a click: the larger number, or a word for yes, or else the rarer value."""
    values = [spellings[0] for spellings in _classes(profile)]
    words = [value.lower() for value in values]
    numbers = [number_of(value) for value in values]
    if np.isfinite(numbers).all():
        return values[int(np.argmax(numbers))]
    if {*words} == {"good", "bad"} and profile.words & _RISK_WORDS:
        return values[words.index("bad")]
    if _opposites(words) is None and "1" in values:
        return "1"
    index = affirmative(words)
    return values[-1 if index is None else index]
