"""How numbers and findings read: values in percent or bits, signed differences, and the comparison in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from configs.records import Comparison, Difference

NAMES = {
    "acc": "accuracy",
    "acc_norm": "accuracy per byte",
    "macro_f1": "macro F1",
    "mcc": "Matthews correlation",
    "exact_match": "exact match",
    "token_f1": "token F1",
    "bits_per_byte": "bits per byte, lower is better",
}
OUT_OF_HUNDRED = frozenset({"acc", "acc_norm", "macro_f1", "exact_match", "token_f1"})
"""Metrics that are shown in percent, and their differences in points."""

VERDICTS = ("better", "worse", "not distinguishable")


def shown(metric: str, value: float) -> str:
    """A value as a reader wants it: percent, or three decimals.

    >>> shown("acc", 0.125), shown("bits_per_byte", 1.8512)
    ('12.5', '1.851')
    """
    return f"{100 * value:.1f}" if metric in OUT_OF_HUNDRED else f"{value:.3f}"


def signed(metric: str, value: float) -> str:
    """A difference with its sign, in points or in the metric's own unit.

    >>> signed("acc", -0.031)
    '−3.1'
    """
    text = shown(metric, abs(value))
    return text if float(text) == 0 else ("−" if value < 0 else "+") + text


def interval(row: Difference) -> str:
    """The 95 % interval of a difference; words where it has no width because the two models answered alike."""
    if row.low == row.high == 0:
        return "no answer changed" if row.metric != "bits_per_byte" else "no change"
    return f"{signed(row.metric, row.low)} to {signed(row.metric, row.high)}"


def baselines(row: Difference) -> str:
    """The plain baselines of a task in one line."""
    names = {"majority": "majority", "random": "random", "tfidf": "TF-IDF"}
    return " · ".join(f"{names.get(name, name)} {shown(row.metric, value)}" for name, value in row.baselines.items())


def items(row: Difference) -> str:
    """How many items, and how many independent observations where these are fewer."""
    return f"{row.n:,}" if row.n == row.clusters else f"{row.n:,} in {row.clusters:,} clusters"


def p_value(p: float) -> str:
    """A p-value with the digits that mean something."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def headline(comparison: Comparison) -> str:
    """The comparison in a sentence."""
    rows = comparison.differences
    found = {verdict: [row for row in rows if row.verdict == verdict] for verdict in VERDICTS}
    there = {verdict: some for verdict, some in found.items() if some}
    subject = f"On {_count(len(rows))} {comparison.sector.replace('_', ' ')} task{'s' if len(rows) != 1 else ''}"
    if len(there) == 1:
        [verdict] = there
        everywhere = {1: "", 2: " on both"}.get(len(rows), f" on all {_count(len(rows))}")
        told = f"{verdict}{' from its base' if verdict == VERDICTS[-1] else ''}{everywhere}"
    else:
        *parts, last = (f"{verdict} on {_count(len(some))}" for verdict, some in there.items())
        told = f"{', '.join(parts)} and {last}"
    changed = [row for row in rows if row.verdict != VERDICTS[-1]] or (rows if len(rows) == 1 else [])
    if not changed:
        return f"{subject} the tuned model is {told}."
    clearest = max(changed, key=_relative)
    unit = " points" if clearest.metric in OUT_OF_HUNDRED else ""
    return (
        f"{subject} the tuned model is {told}{':' if len(rows) == 1 else '; the clearest change is'} "
        f"{clearest.task.replace('_', ' ')}, {NAMES[clearest.metric].partition(',')[0]} from "
        f"{shown(clearest.metric, clearest.base)} to {shown(clearest.metric, clearest.tuned)} "
        f"({signed(clearest.metric, clearest.difference)}{unit}, 95 % interval {interval(clearest)})."
    )


def cost(comparison: Comparison) -> str:
    """What tuning cost in general ability, in a sentence."""
    told = {"better": "rose", "worse": "fell", "not distinguishable": "did not change measurably"}
    parts = []
    for row in comparison.general:
        name, verb = row.task.replace("_", " "), told[row.verdict]
        if not row.higher_is_better and row.verdict != "not distinguishable":
            verb = "improved" if row.verdict == "better" else "worsened"
        relative = f" ({100 * row.difference / row.base:+.1f} %)" if row.base and not row.higher_is_better else ""
        values = f"{shown(row.metric, row.base)} to {shown(row.metric, row.tuned)}{relative}"
        parts.append(f"{name} {verb}, {values.replace('-', '−')}")
    return f"General ability: {'; '.join(parts)}." if parts else "General ability was not measured."


def _relative(row: Difference) -> float:
    """How many times the half-width of its interval a difference is."""
    return abs(row.difference) / max((row.high - row.low) / 2, 1e-12)


def _count(number: int) -> str:
    words = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return words[number] if number < len(words) else str(number)
