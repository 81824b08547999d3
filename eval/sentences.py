"""What a comparison says in sentences, in English or Chinese: its headline, what tuning cost, what must be known of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from eval.wording import ENGLISH
from eval.words import (
    FEW,
    MUCH,
    PLAUSIBLE,
    VERDICTS,
    ends,
    interval,
    kind,
    measurable,
    shown,
    signed,
    span,
    verdict,
    with_unit,
    within_noise,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.records import Apart, Comparison, Difference, Panel, Pooled
    from eval.wording import Wording

_JUDGED = (
    r"(?P<task>.+): (?P<verdict>not inferior|inferior|undecided), (?P<worst>.+) at worst, (?P<allowed>.+) accepted"
)
REASONS = (
    (
        r"(?P<task>.+): undecided, (?P<n>.+) independent items are too few",
        "{task}: undecided, {n} independent items are too few",
    ),
    (_JUDGED.replace(".+) accepted", "[^;]+) accepted"), "{task}: {verdict}, {worst} at worst, {allowed} accepted"),
    (
        _JUDGED + "; with nothing lost, about (?P<n>.+) independent items would decide it",
        "{task}: {verdict}, {worst} at worst, {allowed} accepted; with nothing lost, about {n} independent items would decide it",
    ),
    (
        r"(?P<n>\d+) tasks by (?P<kind>.+) taken together: (?P<verdict>not inferior|inferior|undecided), (?P<worst>.+) at worst",
        "{n} tasks by {kind} taken together: {verdict}, {worst} at worst",
    ),
)
"""How the panel says why, as a pattern and as a sentence to translate."""


def beforehand(task: str, n: int, clusters: int, foreseen: float) -> str:
    """What so many items can show, before any model is asked.

    >>> beforehand("fpb", 97, 97, 0.1422)
    'fpb: 97 items: only a difference above 14 points could be seen'
    >>> beforehand("tiny", 31, 31, 0.2516)
    'tiny: not measurable with n = 31: only a difference above 25 points could be seen'
    """
    items = f"{n:,} items" if n == clusters else f"{n:,} items in {clusters:,} clusters"
    what = items if foreseen <= PLAUSIBLE else f"not measurable with n = {clusters:,}"
    points = f"{100 * foreseen:.0f}" if foreseen >= 0.1 else f"{100 * foreseen:.1f}"
    return f"{task}: {what}: only a difference above {points} points could be seen"


def remarks(rows: Sequence[Difference], tell: Wording = ENGLISH) -> list[str]:
    """What a reader must know before quoting a difference, one sentence for each finding."""
    return [tell("{task}: {told}", task=_name(row), told=told) for row in rows for told in _remarks(row, tell)]


def _remarks(row: Difference, tell: Wording) -> list[str]:
    told, metric = [], row.metric
    if row.verdict == VERDICTS[-1] and not measurable(row) and row.detectable is not None:
        least = with_unit(metric, shown(metric, row.detectable), tell)
        told.append(
            tell("{verdict}: only a difference above {least} could be seen.", verdict=verdict(row, tell), least=least)
        )
    if row.clusters < FEW and row.method == "bootstrap":
        told.append(tell("{n} independent items are few: its interval may be too narrow.", n=row.clusters))
    if within_noise(row) and row.noise:
        told.append(
            tell(
                "the difference is not above what another shape of the batches may change by itself, {noise}.",
                noise=with_unit(metric, shown(metric, row.noise), tell),
            )
        )
    if row.parts:
        told.append(tell("{parts}.", parts=tell(", ").join(apart(metric, part, tell) for part in row.parts)))
    if row.ece is not None and row.ece[1] - row.ece[0] > MUCH:
        told.append(
            tell(
                "the tuned model knows less well when it is right: its expected calibration error rose from {base} to {tuned}.",
                base=f"{row.ece[0]:.3f}",
                tuned=f"{row.ece[1]:.3f}",
            )
        )
    return told


def apart(metric: str, part: Apart, tell: Wording = ENGLISH) -> str:
    """The difference on a part of the items: `clean +3.1 points (+1.0 to +5.2; 40.0 to 43.1, n = 180)`."""
    return tell(
        "{part} {difference} ({interval}; {values}, n = {n})",
        part=tell(part.name),
        difference=with_unit(metric, signed(metric, part.difference), tell),
        interval=ends(metric, part, tell),
        values=span(shown(metric, part.base), shown(metric, part.tuned), tell),
        n=f"{part.n:,}",
    )


def pooled(it: Pooled, tell: Wording = ENGLISH) -> str:
    """Tasks taken together, in a sentence."""
    metric, name = it.metric, tell.name(it.name)
    return tell(
        "{name}, {count} tasks taken together by {kind}: {values}, {difference} (95 % interval {interval}, {n} items).",
        name=name[:1].upper() + name[1:],
        count=_count(it.tasks, tell),
        kind=kind(metric, tell),
        values=span(shown(metric, it.base), shown(metric, it.tuned), tell),
        difference=with_unit(metric, signed(metric, it.difference), tell),
        interval=span(signed(metric, it.low), signed(metric, it.high), tell),
        n=f"{it.n:,}",
    )


def general(panel: Panel | None, tell: Wording = ENGLISH) -> str:
    """The verdict on the general panel, with its reasons; empty where there is none."""
    if panel is None:
        return ""
    return tell(
        "{verdict} (95 % intervals against the margin): {reasons}.",
        verdict=panel_verdict(panel.verdict, tell),
        reasons=tell("; ").join(reason(it, tell) for it in panel.reasons),
    )


def reason(text: str, tell: Wording = ENGLISH) -> str:
    """The reason of a panel's verdict in another language; the record has it in English (eval/panel.py).

    What is in none of the known forms stays as it is.
    """
    for pattern, form in REASONS:
        if tell.lang != "en" and (found := re.fullmatch(pattern, text)):
            values = {name: value or "" for name, value in found.groupdict().items()}
            values |= {name: tell(values.get(name, "")) for name in ("verdict", "kind")}
            values |= {name: values[name].replace("% bits", tell("% bits")) for name in ("worst",) if name in values}
            return tell(form, **values)
    return text


def panel_verdict(found: str, tell: Wording = ENGLISH) -> str:
    """Whether the tuned model is not inferior in general ability, without a full stop."""
    return {
        "not inferior": tell("The tuned model is not inferior to its base in general ability"),
        "inferior": tell("The tuned model is inferior to its base in general ability"),
        "undecided": tell("Whether the tuned model is inferior to its base in general ability is undecided"),
    }[found]


def headline(comparison: Comparison, tell: Wording = ENGLISH) -> str:
    """The comparison in a sentence."""
    rows, sector = comparison.differences, tell.name(comparison.sector)
    many = _count(len(rows), tell)
    if len(rows) == 1:
        subject = tell("On one {sector} task", sector=sector)
    else:
        subject = tell("On {count} {sector} tasks", count=many, sector=sector)
    told = _verdicts(rows, tell)
    changed = [row for row in rows if row.verdict != VERDICTS[-1]] or (rows if len(rows) == 1 else ())
    if not changed:
        return tell("{subject} the tuned model is {told}.", subject=subject, told=told)
    clearest = max(changed, key=_relative)
    metric = clearest.metric
    change = tell(
        "{task}, {metric} from {base} to {tuned} ({difference}, 95 % interval {interval})",
        task=_name(clearest),
        metric=kind(metric, tell),
        base=shown(metric, clearest.base),
        tuned=shown(metric, clearest.tuned),
        difference=with_unit(metric, signed(metric, clearest.difference), tell),
        interval=interval(clearest, tell),
    )
    if len(rows) == 1:
        return tell("{subject} the tuned model is {told}: {change}.", subject=subject, told=told, change=change)
    return tell(
        "{subject} the tuned model is {told}; the clearest change is {change}.",
        subject=subject,
        told=told,
        change=change,
    )


def _verdicts(rows: Sequence[Difference], tell: Wording) -> str:
    """What became of all tasks, in the words that follow `is`."""
    found = {verdict: [row for row in rows if row.verdict == verdict] for verdict in VERDICTS}
    there = {verdict: some for verdict, some in found.items() if some}
    if len(there) != 1:
        parts = [
            tell("{verdict} on {count}", verdict=tell(verdict), count=_count(len(some), tell))
            for verdict, some in there.items()
        ]
        return tell("{parts} and {last}", parts=tell(", ").join(parts[:-1]), last=parts[-1])
    [verdict] = there
    told = tell("not distinguishable from its base") if verdict == VERDICTS[-1] else tell(verdict)
    if len(rows) == 1:
        return told
    if len(rows) == 2:
        return tell("{verdict} on both", verdict=told)
    return tell("{verdict} on all {count}", verdict=told, count=_count(len(rows), tell))


def cost(comparison: Comparison, tell: Wording = ENGLISH) -> str:
    """What tuning cost in general ability, in a sentence."""
    parts = []
    for row in comparison.general:
        values = span(shown(row.metric, row.base), shown(row.metric, row.tuned), tell)
        if row.base and not row.higher_is_better:
            percent = f"{100 * row.difference / row.base:+.1f}".replace("-", "−")
            values += tell(" ({percent} %)", percent=percent)
        parts.append(tell("{task} {became}, {values}", task=_name(row), became=_became(row, tell), values=values))
    if not parts:
        return tell("General ability was not measured.")
    told = tell("General ability: {parts}.", parts=tell("; ").join(parts))
    return f"{told}{tell(' ')}{general(comparison.panel, tell)}".rstrip()


def _became(row: Difference, tell: Wording) -> str:
    """What a general ability did."""
    if row.verdict == VERDICTS[-1]:
        return tell("did not change measurably")
    if row.higher_is_better:
        return tell("rose") if row.verdict == "better" else tell("fell")
    return tell("improved") if row.verdict == "better" else tell("worsened")


def _name(row: Difference) -> str:
    return row.task.replace("_", " ")


def _relative(row: Difference) -> float:
    """How many times the half-width of its interval a difference is."""
    return abs(row.difference) / max((row.high - row.low) / 2, 1e-12)


def _count(number: int, tell: Wording) -> str:
    words = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return words[number] if number < len(words) and tell.lang == "en" else str(number)
