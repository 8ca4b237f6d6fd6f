# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The verdict of a comparison: does a PLM pay, and which arm to serve, by the rules that `rules_in_words` states."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .analysis import Analysis, Difference
from .results import PLM_ARMS, ROLES
from .rules import METRICS, Metric
from .segments import ALL
from .wording import METRIC_NAMES, change, listed, why_not_significant, with_margin

Kind = Literal[
    "plm_pays",
    "plm_pays_unserved",
    "plm_pays_on_segments",
    "plm_does_not_pay",
    "better_auc_worse_log_loss",
    "better_log_loss_worse_auc",
    "nothing_pays",
    "no_plm_arm",
    "no_arm_without_plm",
    "undecided",
]
_MAX_SEGMENTS_IN_WORDS = 3
# A margin of AUC that hides what vectors of titles add on films that training has not seen: 0.03 (docs/results.md).
_WIDE_MARGIN = 0.03


@dataclass(frozen=True)
class Verdict:
    """What a comparison concludes.

    Args:
        kind: `plm_pays`: an arm that serves a PLM beats all arms without one. `plm_pays_unserved`: the arm to serve
            only trains with a PLM. `plm_pays_on_segments`: an arm with a PLM wins on some segments only.
            `plm_does_not_pay`: none wins. `better_auc_worse_log_loss` and `better_log_loss_worse_auc`: one metric
            gains, the other loses. `nothing_pays`: no arm ranks better than the constant. `no_plm_arm` and
            `no_arm_without_plm`: one side was not run. `undecided`: the test rows allow no verdict.
        serve: Arm to serve; `None` if undecided.
        reference: Best arm without a PLM at training or serving; `None` if none was run.
        sentences: The verdict in words.
        notes: What limits it.
        table: Compact table of the arms for a terminal.
    """

    kind: Kind
    serve: str | None
    reference: str | None
    sentences: list[str]
    notes: list[str]
    table: str = ""

    @property
    def text(self) -> str:
        """The verdict in one paragraph, followed by one line per note."""
        return "\n".join([" ".join(self.sentences), *self.notes])


def judge(analysis: Analysis) -> Verdict:
    """Apply the rules of `rules_in_words`."""
    everything = analysis.segments[ALL]
    if everything.reason is not None:
        return Verdict(
            "undecided",
            None,
            analysis.reference,
            [f"No verdict: too little can be learned from the {everything.rows:,} test rows ({everything.reason})."],
            _notes(analysis, None),
        )
    kind, serve, sentences = _decision(analysis)
    sentences.append(f"Serve {serve}{_only_on_segments(analysis, kind)}.")
    sentences += _cheaper(analysis, serve) + _higher_on_test_rows(analysis, serve) + _against_backbone(analysis)
    return Verdict(kind, serve, analysis.reference, sentences, _notes(analysis, serve))


def _decision(analysis: Analysis) -> tuple[Kind, str, list[str]]:
    reference, plm_arms = analysis.reference, analysis.plm_arms
    if reference is None:
        serve = analysis.best(plm_arms) or plm_arms[-1]
        return "no_arm_without_plm", serve, ["No arm without a PLM was run, so whether a PLM pays is unknown."]
    versus_constant = analysis.against_constant
    if versus_constant and not any(gain.significant and gain.gain > 0 for gain in versus_constant.values()):
        closest = max(versus_constant.values(), key=lambda gain: gain.gain)
        words = (
            f"Nothing pays: no arm ranks the test rows ({len(analysis.comparison.labels):,}) better than a constant"
        )
        return "nothing_pays", "constant", [f"{words}; {closest.arm} comes closest (AUC {_number_of(closest)})."]
    plain = analysis.cheapest([arm for arm in analysis.plain_arms if _as_good(analysis, arm, reference)])
    if not plm_arms:
        return "no_plm_arm", plain, ["No arm with a PLM was run, so whether a PLM pays is unknown."]

    gains = {arm: [metric for metric in METRICS if _pays(analysis, arm, metric)] for arm in plm_arms}
    losses = {arm: [metric for metric in METRICS if _against(analysis, arm, metric, "harms")] for arm in plm_arms}
    paying = [arm for arm in plm_arms if gains[arm] and not losses[arm]]
    if paying:
        top = _largest_gain(analysis, paying, gains)
        serve = analysis.cheapest([arm for arm in paying if _as_good(analysis, arm, top)])
        if analysis.costs[serve].plm == "serving":
            kind: Kind = "plm_pays"
            words = "A PLM pays"
        else:
            kind = "plm_pays_unserved"
            words = "A PLM pays without being served"
        sentence = (
            f"{words}: on {_rows(analysis, ALL)}, {serve} {_changes(analysis, serve)}, {_best_without(reference)}."
        )
        return kind, serve, [sentence, *_segment_sentences(analysis, serve)]
    mixed = [arm for arm in plm_arms if gains[arm]]
    if mixed:
        arm = _largest_gain(analysis, mixed, gains)
        metric = gains[arm][0]
        sentence = f"On {_rows(analysis, ALL)}, {arm} {_changes(analysis, arm)}, {_best_without(reference)}."
        if metric == "auc":
            return "better_auc_worse_log_loss", plain, [sentence, f"Only where ranking alone matters, {arm} pays."]
        return "better_log_loss_worse_auc", plain, [sentence, f"Only where probabilities alone matter, {arm} pays."]
    on_segments = _segment_sentences(analysis, None)
    if on_segments:
        return "plm_pays_on_segments", plain, [*on_segments, _no_gain(analysis, brief=True)]
    return "plm_does_not_pay", plain, ["No arm with a PLM pays.", _no_gain(analysis, brief=False)]


def _found(analysis: Analysis, arm: str, metric: Metric, segment: str = ALL) -> Difference | None:
    """Difference between an arm and the reference."""
    return analysis.differences.get((arm, analysis.reference or "", metric, segment))


def _against(analysis: Analysis, arm: str, metric: Metric, effect: Literal["pays", "harms"]) -> bool:
    difference = _found(analysis, arm, metric)
    return difference is not None and bool(getattr(difference, effect))


def _pays(analysis: Analysis, arm: str, metric: Metric) -> bool:
    """Whether an arm gains usefully over the reference and is better than every other arm without a PLM."""
    return _against(analysis, arm, metric, "pays") and _beats_all_without_plm(analysis, arm, metric, ALL)


def _beats_all_without_plm(analysis: Analysis, arm: str, metric: Metric, segment: str) -> bool:
    sign = 1 if metric == "auc" else -1
    figure = sign * analysis.estimate(arm, metric, segment).value
    return all(figure > sign * analysis.estimate(other, metric, segment).value for other in analysis.plain_arms)


def _largest_gain(analysis: Analysis, arms: Sequence[str], gains: dict[str, list[Metric]]) -> str:
    """The arm with the largest gain in AUC, if any arm gains there, else in log loss."""
    by_auc = [arm for arm in arms if "auc" in gains[arm]]
    metric: Metric = "auc" if by_auc else "log_loss"

    def gain(arm: str) -> float:
        difference = _found(analysis, arm, metric)
        return difference.gain if difference is not None else float("-inf")

    return max(by_auc or arms, key=gain)


def _as_good(analysis: Analysis, arm: str, best: str) -> bool:
    """Whether an arm is within one standard error of another, in AUC and in log loss."""
    if arm == best:
        return True
    for metric in METRICS:
        difference = analysis.difference(arm, best, metric)
        # an unknown error is no excuse for a loss
        if difference is None or not (difference.gain >= 0 or difference.gain >= -difference.estimate.standard_error):
            return False
    return True


def _segment_gains(analysis: Analysis) -> list[Difference]:
    """Per segment, the largest useful gain in AUC of an arm with a PLM, or in log loss if none gains AUC."""
    best: dict[str, Difference] = {}
    for metric in METRICS:
        of_metric: dict[str, Difference] = {}
        for difference in analysis.differences.values():
            arm, segment = difference.arm, difference.segment
            if (
                arm in PLM_ARMS
                and (difference.reference, difference.metric) == (analysis.reference, metric)
                and difference.pays
                and segment != ALL
                and (segment not in of_metric or difference.gain > of_metric[segment].gain)
                and _beats_all_without_plm(analysis, arm, metric, segment)
            ):
                of_metric[segment] = difference
        best = {**of_metric, **best}
    return sorted(best.values(), key=lambda difference: -difference.gain)


def _segment_sentences(analysis: Analysis, serve: str | None) -> list[str]:
    """Where arms with a PLM gain, or, given the arm to serve, where that one loses."""
    if serve is not None:
        harms = [
            difference
            for difference in analysis.differences.values()
            if (difference.arm, difference.reference) == (serve, analysis.reference)
            and difference.segment != ALL
            and difference.harms
        ]
        segments = list(dict.fromkeys(harm.segment for harm in harms))[:_MAX_SEGMENTS_IN_WORDS]
        return [
            f"On {_rows(analysis, segment)}, however, it "
            f"{' and '.join(change(harm) for harm in harms if harm.segment == segment)}."
            for segment in segments
        ]
    gains = _segment_gains(analysis)
    sentences = [
        f"On {_rows(analysis, gain.segment)}, {gain.arm} {change(gain, gain.reference)}."
        for gain in gains[:_MAX_SEGMENTS_IN_WORDS]
    ]
    if more := len(gains) - _MAX_SEGMENTS_IN_WORDS:
        sentences += [f"The table of segments has {more} more."] if more > 0 else []
    return sentences


def _no_gain(analysis: Analysis, brief: bool) -> str:
    """That an arm with a PLM gains nothing on all rows."""
    arm = analysis.best(analysis.plm_arms) or analysis.plm_arms[-1]
    if brief:
        arm = _segment_gains(analysis)[0].arm
    found = [difference for metric in METRICS if (difference := _found(analysis, arm, metric)) is not None]
    if not found:
        return f"{arm} and {analysis.reference} have no seed in common, so they cannot be compared."
    numbers = listed([f"{METRIC_NAMES[difference.metric]} by {_number_of(difference)}" for difference in found])
    better = [difference for difference in found if difference.significant and difference.gain > 0]
    worse = [difference for difference in found if difference.significant and difference.gain < 0]
    if worse:
        reason = f"worse in {listed([METRIC_NAMES[difference.metric] for difference in worse])}"
    elif any(difference.gain < analysis.rules.smallest_gain(difference.metric) for difference in better):
        reason = "significant, but less than the smallest useful gain"
    elif better:
        reason = "no better than another arm without a PLM"
    elif apart := [one for one in found if one.estimate.low > 0 or one.estimate.high < 0]:
        reasons = [f"{METRIC_NAMES[one.metric]}: {why_not_significant(one)}" for one in apart]
        reason = f"not significant ({'; '.join(reasons)})"
    else:
        reason = "nothing beyond chance"
    if brief:
        return f"On {_rows(analysis, ALL)}, {arm} gains nothing useful: it changes {numbers}, {reason}."
    return (
        f"The best of them by validation AUC is {arm}. Compared with {analysis.reference}, the best arm without one, "
        f"it changes {numbers} on {_rows(analysis, ALL)}: {reason}."
    )


def _only_on_segments(analysis: Analysis, kind: Kind) -> str:
    if kind != "plm_pays_on_segments":
        return ""
    gains = _segment_gains(analysis)[:_MAX_SEGMENTS_IN_WORDS]
    arms = dict.fromkeys(gain.arm for gain in gains)
    parts = [
        f"{arm} for {listed([analysis.segments[gain.segment].words for gain in gains if gain.arm == arm])}"
        for arm in arms
    ]
    return f", or {listed(parts)} alone if they matter enough"


def _cheaper(analysis: Analysis, serve: str) -> list[str]:
    """That the arm to serve is a cheaper one within one standard error of the reference."""
    reference = analysis.reference
    if reference in (None, serve) or serve == "constant" or serve in analysis.plm_arms:
        return []
    difference = analysis.difference(serve, reference or "", "auc")
    size = f" (AUC {_number_of(difference)})" if difference is not None else ""
    return [f"{serve} is cheaper than {reference}, the best arm without a PLM, and within one standard error{size}."]


def _higher_on_test_rows(analysis: Analysis, serve: str) -> list[str]:
    """That another arm without a PLM ranks the test rows better than the one to serve, which they did not choose."""
    if serve == "constant" or serve in analysis.plm_arms:
        return []
    best = max(analysis.plain_arms, key=lambda arm: analysis.estimate(arm, "auc").value)
    difference = None if best in (serve, analysis.reference) else analysis.difference(best, serve, "auc")
    if difference is None or difference.gain <= 0:
        return []
    return [
        f"{best} has a higher AUC on the test rows ({_number_of(difference)}), but validation rows and cost decide "
        "which arm without a PLM to serve."
    ]


def _against_backbone(analysis: Analysis) -> list[str]:
    """How the reference and the best arm with a PLM compare with the backbone, unless it is the reference."""
    reference = analysis.reference
    if "backbone" not in analysis.arms or reference in (None, "backbone"):
        return []
    sentences = []
    plm_arm = analysis.best(analysis.plm_arms)
    for arm in filter(None, (reference, plm_arm)):
        found = [analysis.differences.get((arm, "backbone", metric, ALL)) for metric in METRICS]
        numbers = [
            f"{METRIC_NAMES[difference.metric]} {_number_of(difference)}"
            + ("" if difference.significant else f", not significant ({why_not_significant(difference)})")
            for difference in found
            if difference is not None
        ]
        if numbers:
            sentences.append(f"{arm} against backbone: {'; '.join(numbers)}.")
    return sentences


def _notes(analysis: Analysis, serve: str | None) -> list[str]:
    notes = []
    seeds = analysis.seeds
    if len(seeds) > 1:
        notes.append("± is half of the 95 % interval, over test rows and seeds.")
    else:
        notes.append("± is half of the 95 % interval, over test rows alone.")
        if seeds:
            notes.append(
                f"There is one seed ({seeds[0]}), so the spread over seeds is unknown: another seed may differ."
            )
    for arm, missing in analysis.missing_seeds.items():
        words = "seed" if len(missing) == 1 else "seeds"
        notes.append(
            f"{arm} has no run with {words} {listed([str(seed) for seed in missing])}; its differences use the seeds "
            "in common."
        )
    if unknown := [role for role in ROLES if role not in analysis.comparison.train_counts]:
        notes.append(
            f"No {listed(unknown, 'or')} column is known, so there are no results for unseen, rare and frequent "
            f"{listed([f'{role}s' for role in unknown])}."
        )
    notes += _unclear_on_new_items(analysis)
    if analysis.missing_arms:
        notes.append(f"Not run: {', '.join(analysis.missing_arms)}.")
    if analysis.plain_arms and not analysis.validation_is_known:
        notes.append("No arm without a PLM has a validation AUC, so the best of them was chosen by test AUC.")
    if serve not in (None, "constant") and "constant" in analysis.arms:
        loss = analysis.difference(serve or "", "constant", "log_loss")
        if loss is not None and loss.estimate.low > 0:
            notes.append(
                f"The probabilities of {serve} are worse than a constant's (log loss {_number_of(loss)}): use them "
                "for ranking only, or calibrate them."
            )
    return notes


def _unclear_on_new_items(analysis: Analysis) -> list[str]:
    """That the test rows do not show what a PLM adds for new items, where text helps most."""
    arm, segment = analysis.best(analysis.plm_arms), analysis.segments.get("item_unseen")
    if arm is None or segment is None:
        return []
    if not segment.rows:
        return ["All items of the test rows are in the training rows, so what a PLM adds for new items is unknown."]
    found = f"The {segment.rows:,} test rows of unseen items do not show what a PLM adds for new items"
    if segment.reason is not None:
        return [f"{found}."]
    difference = _found(analysis, arm, "auc", segment.name)
    if difference is None or difference.significant or difference.estimate.margin <= _WIDE_MARGIN:
        return []
    return [f"{found}: {arm} changes AUC there by {_number_of(difference)}, compared with {difference.reference}."]


def _rows(analysis: Analysis, segment: str) -> str:
    found = analysis.segments[segment]
    return f"{found.words} ({found.rows:,})"


def _changes(analysis: Analysis, arm: str) -> str:
    """What an arm does to both metrics, compared with the reference."""
    words = []
    for metric in METRICS:
        difference = _found(analysis, arm, metric)
        if difference is not None:
            words.append(
                change(difference)
                if difference.significant
                else f"does not significantly change {METRIC_NAMES[metric]} ({_number_of(difference)})"
            )
    return listed(words)


def _best_without(reference: str) -> str:
    return f"compared with {reference}, the best arm without a PLM"


def _number_of(difference: Difference) -> str:
    return with_margin(difference.estimate)
