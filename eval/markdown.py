"""The report as Markdown, in English or Chinese, for a repository or a review."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.sentences import cost, headline, pooled, remarks
from eval.wording import ENGLISH
from eval.words import (
    LIKELIHOOD,
    NAMES,
    baselines,
    calibration,
    ends,
    interval,
    items,
    noise,
    p_value,
    seen_from,
    shown,
    signed,
    span,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.records import Apart, Difference, Scorecard
    from eval.report import Report
    from eval.wording import Wording

METHODS = {"score": "Tango", "wilson": "Wilson", "bootstrap": "bootstrap"}
"""How an interval was made."""
HOW = (
    "Differences are tuned minus base, paired item by item. 95 % intervals by Tango's score method for independent right or "
    "wrong answers, else by bootstrap over clusters; p by exact McNemar or a swap test, after Holm's correction."
)
BY_CHANCE = "These intervals are not corrected for the number of subjects: one in twenty leaves out the truth."
SEEN = "Seen from: the smallest true difference that is found with 80 % power; in brackets, as foreseen from n alone."


def markdown(report: Report, tell: Wording = ENGLISH) -> str:
    """The whole report."""
    comparison = report.comparison
    rows = (*comparison.differences, *comparison.general)
    parts = [f"# {tell('{name}: tuned against base', name=comparison.name)}", headline(comparison, tell)]
    parts += [pooled(it, tell) for it in comparison.pooled]
    parts += [cost(comparison, tell), *_listed(f"## {tell('What to know')}", remarks(rows, tell))]
    parts += [f"## {tell('Sector tasks')}", _table(comparison.differences, tell)]
    parts += [f"## {tell('General ability')}", _table(comparison.general, tell)]
    parts.append(tell(" ").join([tell(HOW), tell(SEEN), tell("Accuracies in percent.")]))
    parts += _parts(tell("Clean and touched"), [(row, row.parts) for row in rows], tell)
    subjects = _parts(tell("By subject"), [(row, row.subjects) for row in rows], tell)
    parts += [*subjects, tell(BY_CHANCE)] if subjects else []
    parts += [f"## {tell('Each model by itself')}", _scores(report.cards, tell)]
    return "\n\n".join(parts) + "\n"


def _listed(title: str, sentences: Sequence[str]) -> list[str]:
    return [title, "\n".join(f"- {sentence}" for sentence in sentences)] if sentences else []


def _table(rows: Sequence[Difference], tell: Wording) -> str:
    head = [tell("task"), tell("metric"), tell("base"), tell("tuned"), tell("difference"), tell("95 % interval")]
    head += [tell("by"), "p", "n", tell("seen from"), tell("plain baselines"), tell("verdict")]
    lines = []
    for row in rows:
        metric = row.metric
        values = [shown(metric, row.base), shown(metric, row.tuned), signed(metric, row.difference)]
        values += [
            interval(row, tell),
            tell(METHODS[row.method]),
            p_value(row.p_holm),
            items(row, tell),
            seen_from(row),
        ]
        lines.append([row.task, tell(NAMES.get(metric, metric)), *values, baselines(row, tell), verdict(row, tell)])
    return _grid(head, "llrrrrlrrrll", lines)


def _parts(title: str, rows: Sequence[tuple[Difference, Sequence[Apart]]], tell: Wording) -> list[str]:
    """Every task beside its parts; nothing where no task has any."""
    lines = []
    for row, parts in rows:
        named: list[tuple[str, Difference | Apart]] = [(tell("all items"), row)]
        named += [(tell(part.name), part) for part in parts]
        for name, it in named if parts else ():
            values = [shown(row.metric, it.base), shown(row.metric, it.tuned), signed(row.metric, it.difference)]
            lines.append([row.task, name, *values, ends(row.metric, it, tell), f"{it.n:,}"])
    head = [tell("task"), tell("items"), tell("base"), tell("tuned"), tell("difference"), tell("95 % interval"), "n"]
    return [f"## {title}", _grid(head, "llrrrrr", lines)] if lines else []


def _scores(cards: Sequence[Scorecard], tell: Wording) -> str:
    """The value of each model with its own interval, its calibration and its noise."""
    lines = [
        [
            score.task,
            tell(card.model),
            shown(score.metric, score.value),
            span(shown(score.metric, score.low), shown(score.metric, score.high), tell),
            tell(METHODS[score.interval]),
            f"{score.n:,}",
            f"{100 * score.invalid:.1f} %" if score.metric not in LIKELIHOOD else "–",
            calibration(score, tell) or "–",
            noise(score, tell) or "–",
        ]
        for task in dict.fromkeys(score.task for card in cards for score in card.scores)
        for card in cards
        for score in card.scores
        if score.task == task
    ]
    head = [tell("task"), tell("model"), tell("value"), tell("95 % interval"), tell("by"), "n", tell("unreadable")]
    return _grid([*head, tell("calibration"), tell("other batch shape")], "llrrlrrll", lines)


def _grid(head: Sequence[str], aligned: str, lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; `aligned` has l or r for each column."""
    rule = "|".join("--:" if side == "r" else "---" for side in aligned)
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (head, *lines)]
    return "\n".join([rows[0], f"|{rule}|", *rows[1:]])
