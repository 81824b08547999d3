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
from eval.markdown import HOW, SEEN, markdown
from eval.page import html
from eval.sentences import remarks
from eval.words import baselines, interval, items, kind, p_value, seen_from, shown, signed, verdict

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
            (row.task, kind(row.metric)),
            (f"{shown(row.metric, row.base)} to {shown(row.metric, row.tuned)}", items(row)),
            (signed(row.metric, row.difference), interval(row)),
            (p_value(row.p_holm), seen_from(row)),
        )
        cells = [Text.assemble(above, "\n", (below, "dim")) for above, below in told]
        table.add_row(*cells, Text.assemble((verdict(row), style), "\n", (baselines(row), "dim")))
    return table
