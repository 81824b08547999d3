"""What a comparison says: in one sentence, as a table on a terminal, as Markdown, and as one self-contained HTML page."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from configs.errors import SectorLMError
from configs.records import Corpus, Run, Scorecard
from configs.sample import packed_rows
from eval.answers import Line, read_answers
from eval.page import html
from eval.words import (
    LIKELIHOOD,
    NAMES,
    baselines,
    calibration,
    cost,
    ends,
    headline,
    interval,
    items,
    noise,
    p_value,
    pooled,
    remarks,
    seen_from,
    shown,
    signed,
    verdict,
)

__all__ = ["Report", "difference_table", "gather", "html", "markdown"]

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from configs.records import Apart, Comparison, Difference
    from configs.sample import Piece
    from configs.store import RunFolder

ROWS_SHOWN = 4
"""Training rows on the page."""
METHODS = {"score": "Tango", "wilson": "Wilson", "bootstrap": "bootstrap"}
"""How an interval was made."""
HOW = (
    "Differences are tuned minus base, paired item by item. 95 % intervals by Tango's score method for independent right or "
    "wrong answers, else by bootstrap over clusters; p by exact McNemar or a swap test, after Holm's correction."
)
BY_CHANCE = "These intervals are not corrected for the number of subjects: one in twenty leaves out the truth."
SEEN = "Seen from: the smallest true difference that is found with 80 % power; in brackets, as foreseen from n alone."


@dataclass(frozen=True)
class Report:
    """All that a report tells about."""

    comparison: Comparison
    cards: tuple[Scorecard, Scorecard]
    """Base and tuned."""
    answers: tuple[dict[str, list[Line]], dict[str, list[Line]]]
    """Theirs, by task."""
    corpus: Corpus | None
    run: Run | None
    metrics: list[dict[str, Any]]
    """The lines of the run's metrics.jsonl."""
    packed: dict[int, list[Piece]] = field(default_factory=dict)
    """Some training rows as pieces of text, by number."""


def gather(comparison: Comparison, folder: RunFolder) -> Report:
    """Read what the report of a comparison needs from its run folder."""
    places = [folder.scorecards / which for which in ("base", "tuned")]
    base, tuned = (Scorecard.read(place / "scorecard.json") for place in places)
    before, after = (read_answers(place / "answers.jsonl") for place in places)
    metrics = folder.run / "metrics.jsonl"
    lines = metrics.read_text("utf-8").splitlines() if metrics.is_file() else []
    return Report(
        comparison,
        (base, tuned),
        (before, after),
        Corpus.read_if_there(folder.corpus / "corpus.json"),
        Run.read_if_there(folder.run / "run.json"),
        [json.loads(line) for line in lines],
        _packed(folder),
    )


def _packed(folder: RunFolder) -> dict[int, list[Piece]]:
    """Training rows to look at; none where the corpus or its tokenizer lies elsewhere by now."""
    with suppress(SectorLMError):
        return packed_rows(folder.corpus, ROWS_SHOWN)
    return {}


def difference_table(rows: Sequence[Difference]) -> Table:
    """The differences as a table for a terminal of 80 columns or more, with what must be known about them below it."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="tuned against base", title_justify="left", caption_justify="left")
    table.caption = Text("\n".join([f"{HOW} {SEEN}", *remarks(rows)]))
    table.add_column("task\nmetric", overflow="fold")
    for name in ("base to tuned\nitems", "difference\n95 % interval", "p\nseen from"):
        table.add_column(name, justify="right", no_wrap=name.startswith("diff"))
    table.add_column("verdict\nplain baselines", overflow="fold", min_width=len("distinguishable"))
    before = None
    for row in rows:
        if before is not None and (row.sector == "general") != (before == "general"):
            table.add_section()
        before = row.sector
        style = {"better": "green", "worse": "red"}.get(verdict(row), "")
        told = (
            (row.task, NAMES[row.metric].split(",")[0]),
            (f"{shown(row.metric, row.base)} to {shown(row.metric, row.tuned)}", items(row)),
            (signed(row.metric, row.difference), interval(row)),
            (p_value(row.p_holm), seen_from(row)),
        )
        cells = [Text.assemble(above, "\n", (below, "dim")) for above, below in told]
        table.add_row(*cells, Text.assemble((verdict(row), style), "\n", (baselines(row), "dim")))
    return table


def markdown(report: Report) -> str:
    """The report as Markdown, for a repository or a review."""
    comparison = report.comparison
    rows = (*comparison.differences, *comparison.general)
    parts = [f"# {comparison.name}: tuned against base", headline(comparison), *map(pooled, comparison.pooled)]
    parts += [cost(comparison), *_listed("## What to know", remarks(rows))]
    parts += ["## Sector tasks", _markdown_table(comparison.differences)]
    parts += ["## General ability", _markdown_table(comparison.general), f"{HOW} {SEEN} Accuracies in percent."]
    parts += _parts("## Clean and touched", [(row, row.parts) for row in rows])
    parts += _parts("## By subject", [(row, row.subjects) for row in rows], BY_CHANCE)
    parts += ["## Each model by itself", _scores(report.cards)]
    return "\n\n".join(parts) + "\n"


def _listed(title: str, sentences: Sequence[str]) -> list[str]:
    return [title, "\n".join(f"- {sentence}" for sentence in sentences)] if sentences else []


def _markdown_table(rows: Sequence[Difference]) -> str:
    head = ("task", "metric", "base", "tuned", "difference", "95 % interval", "by", "p", "n", "seen from")
    lines = []
    for row in rows:
        metric = row.metric
        values = [shown(metric, row.base), shown(metric, row.tuned), signed(metric, row.difference), interval(row)]
        values += [METHODS[row.method], p_value(row.p_holm), items(row), seen_from(row)]
        lines.append([row.task, NAMES[metric], *values, baselines(row), verdict(row)])
    return _grid([*head, "plain baselines", "verdict"], "llrrrrlrrrll", lines)


def _parts(title: str, rows: Sequence[tuple[Difference, Sequence[Apart]]], below: str = "") -> list[str]:
    """Every task beside its parts; nothing where no task has any."""
    lines = []
    for row, parts in rows:
        named: list[tuple[str, Difference | Apart]] = [("all", row), *((part.name, part) for part in parts)]
        for name, it in named if parts else ():
            values = [shown(row.metric, it.base), shown(row.metric, it.tuned), signed(row.metric, it.difference)]
            lines.append([row.task, name, *values, ends(row.metric, it), f"{it.n:,}"])
    head = ["task", "items", "base", "tuned", "difference", "95 % interval", "n"]
    return [title, _grid(head, "llrrrrr", lines), *([below] if below else [])] if lines else []


def _scores(cards: Sequence[Scorecard]) -> str:
    """The value of each model with its own interval, its calibration and its noise."""
    lines = [
        [
            score.task,
            card.model,
            shown(score.metric, score.value),
            f"{shown(score.metric, score.low)} to {shown(score.metric, score.high)}",
            METHODS[score.interval],
            f"{score.n:,}",
            f"{100 * score.invalid:.1f} %" if score.metric not in LIKELIHOOD else "–",
            calibration(score) or "–",
            noise(score) or "–",
        ]
        for task in dict.fromkeys(score.task for card in cards for score in card.scores)
        for card in cards
        for score in card.scores
        if score.task == task
    ]
    head = ["task", "model", "value", "95 % interval", "by", "n", "unreadable", "calibration", "other batch shape"]
    return _grid(head, "llrrlrrll", lines)


def _grid(head: Sequence[str], aligned: str, lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; `aligned` has l or r for each column."""
    rule = "|".join("--:" if side == "r" else "---" for side in aligned)
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (head, *lines)]
    return "\n".join([rows[0], f"|{rule}|", *rows[1:]])
