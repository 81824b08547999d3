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
from eval.words import NAMES, baselines, cost, headline, interval, items, p_value, shown, signed

__all__ = ["Report", "difference_table", "gather", "html", "markdown"]

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from configs.records import Comparison, Difference
    from configs.sample import Piece
    from configs.store import RunFolder

ROWS_SHOWN = 4
"""Training rows on the page."""


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
    """The differences as a table for a terminal."""
    from rich.table import Table

    table = Table(title="tuned against base", title_justify="left", caption_justify="left")
    table.caption = "95 % intervals are paired, by cluster; p after Holm's correction."
    for name in ("task", "metric"):
        table.add_column(name)
    for name in ("base", "tuned", "difference", "95 % interval", "p", "n"):
        table.add_column(name, justify="right", no_wrap=name != "n")
    for name in ("plain baselines", "verdict"):
        table.add_column(name)
    before = None
    for row in rows:
        if before is not None and (row.sector == "general") != (before == "general"):
            table.add_section()
        before = row.sector
        style = {"better": "green", "worse": "red"}.get(row.verdict, "")
        values = (shown(row.metric, row.base), shown(row.metric, row.tuned), signed(row.metric, row.difference))
        table.add_row(
            row.task,
            NAMES[row.metric].split(",")[0],
            *values,
            interval(row),
            p_value(row.p_holm),
            items(row),
            baselines(row),
            f"[{style}]{row.verdict}[/]" if style else row.verdict,
        )
    return table


def markdown(report: Report) -> str:
    """The report as Markdown, for a repository or a review."""
    comparison = report.comparison
    parts = [f"# {comparison.name}: tuned against base", headline(comparison), cost(comparison)]
    parts += ["## Sector tasks", _markdown_table(comparison.differences)]
    parts += ["## General ability", _markdown_table(comparison.general)]
    parts.append(
        "Differences are tuned minus base, paired item by item; 95 % intervals by Tango's score method for independent right "
        "or wrong answers, else by bootstrap over clusters; p by exact McNemar or a swap test, after Holm's correction. "
        "Accuracies in percent."
    )
    return "\n\n".join(parts) + "\n"


def _markdown_table(rows: Sequence[Difference]) -> str:
    lines = [
        "| task | metric | base | tuned | difference | 95 % interval | p | n | plain baselines | verdict |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|---|",
    ]
    for row in rows:
        metric = row.metric
        values = [shown(metric, row.base), shown(metric, row.tuned), signed(metric, row.difference), interval(row)]
        cells = [row.task, NAMES[metric], *values, p_value(row.p_holm), items(row), baselines(row), row.verdict]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
