"""Records on a terminal: any record as tables of its figures, and run folders as a list."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.errors import DataError
from configs.records import Comparison, Corpus, Record, Release, Run, Scorecard
from configs.stages import STAGES
from configs.taint import taint_of, taint_told
from configs.worth import Valuation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import RenderableType
    from rich.table import Table

    from configs.records import SourceLedger

RECORDS: dict[str, type[Record]] = {
    "corpus.json": Corpus,
    "run.json": Run,
    "scorecard.json": Scorecard,
    "comparison.json": Comparison,
    "release.json": Release,
    "worth.json": Valuation,
}
"""File name to the record that it holds."""
MOST_COLUMNS = 9
"""Tables with more columns are turned on their side."""
HASH = re.compile("[0-9a-f]{64}")
HEAD = {"format", "settings", "inputs", "files", "made", "made_in"}
"""The common head of all records, shown apart."""


class Found(NamedTuple):
    """A record and its file."""

    path: Path
    record: Record


def records_at(path: Path) -> list[Found]:
    """The record in a file, or those in a stage folder or a run folder, in working order.

    Raises:
        DataError: there is none.
    """
    if path.is_file():
        return [Found(path, record_class(path).read(path))]
    places = [path / name for name in RECORDS]
    places += [path / "scorecards" / "base" / "scorecard.json", *(path / place for place in STAGES.values())]
    places += [path / model / "scorecard.json" for model in ("base", "tuned")]
    found = [Found(place, record_class(place).read(place)) for place in places if place.is_file()]
    if not found:
        hint = "Give a recipe, a run folder, or one of its records."
        raise DataError("nothing to show: no recipe and no record", where=str(path), hint=hint)
    return found


def record_class(path: Path) -> type[Record]:
    """The kind of record that a file name stands for.

    Raises:
        DataError: no record is called like this.
    """
    if path.name not in RECORDS:
        raise DataError("not a record of SectorLM", where=str(path), hint=f"Records: {', '.join(RECORDS)}.")
    return RECORDS[path.name]


def record_view(found: Found) -> RenderableType:
    """One record: its single figures, and a table for each list of parts."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    record = found.record
    values = {key: value for key, value in record.model_dump(mode="json").items() if key not in HEAD}
    single = Table(
        box=None, show_header=False, title=f"{type(found.record).__name__}  {found.path}", title_justify="left"
    )
    tables: list[RenderableType] = []
    for key, value in values.items():
        if key == "sources" and isinstance(record, Corpus):
            tables.append(source_table(record.sources))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            tables.append(table(key, value))
        else:
            single.add_row(key, cell(value))
    made = record.made
    single.add_row("made", f"{made.finished} in {made.seconds:,.1f} s by sectorlm {made.sectorlm}")
    single.add_row("inputs", f"{len(record.inputs)}; `show --trace` lists them")
    if isinstance(record, Run) and (taint := taint_of(found.path.parent)):
        single.add_row("tainted", f"[red]{escape(taint_told(taint))}: train again[/]")
    return Group(single, *tables)


def source_table(sources: Sequence[SourceLedger]) -> Table:
    """What became of each source, one row each, within 120 columns; `--json` has the other figures."""
    from rich.box import SIMPLE_HEAD

    shown = table("sources", [_source_row(it) for it in sources], wide=True)
    shown.box, shown.padding, shown.show_edge, shown.caption_justify = SIMPLE_HEAD, 0, False, "left"
    for column in shown.columns:
        column.no_wrap = column.header != "name"  # no figure is ever broken
    shown.caption = "left out: refused or dropped, without what was not selected; all other figures: --json"
    return shown


def _source_row(source: SourceLedger) -> dict[str, Any]:
    selected_away = source.dropped.get("not selected", 0)
    languages = sorted(source.languages, key=lambda name: (-source.languages[name], name))
    return {
        "name": source.name,
        "licence": source.licence,
        "rows": source.rows,
        "documents": source.documents,
        "left\nout": sum(source.refused.values()) + sum(source.dropped.values()) - selected_away,
        "tokens": source.tokens,
        "super-\nvised": f"{100 * source.supervised / max(source.tokens, 1):.0f} %",
        "lost\ntokens": source.truncated + source.lost,
        "repeats": source.repeats,
        "personal": sum(source.personal.values()),
        "languages": languages[:2],
    }


def table(title: str, rows: list[dict[str, Any]], *, wide: bool = False) -> Table:
    """Rows with the same keys as a table; columns that hold nothing are left out.

    It lies on its side where that fits better, unless `wide`.
    """
    from rich.table import Table

    filled = [key for key in rows[0] if any(row[key] not in (None, "", 0, [], {}) for row in rows)]
    shown = Table(title=title, title_justify="left")
    if not wide and len(filled) > MOST_COLUMNS > len(rows):
        for name in ("", *(str(row[filled[0]]) for row in rows)):
            shown.add_column(name, overflow="fold")
        for key in filled[1:]:
            shown.add_row(key, *(cell(row[key]) for row in rows))
        return shown
    for key in filled:
        numeric = all(isinstance(row[key], int | float) for row in rows)
        shown.add_column(key, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(cell(row[key]) for key in filled))
    return shown


def cell(value: Any) -> str:
    """A value as people read it: 12,345 tokens, 0.8123, en zh, the first twelve characters of a hash."""
    from rich.markup import escape  # a [word] in a value is no colour

    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, dict):
        if value and all(isinstance(inner, dict) for inner in value.values()):
            return ", ".join(f"{key}: {len(inner)} entries" for key, inner in value.items())
        return ", ".join(f"{key}: {cell(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list):
        return f"{len(value)} entries" if len(value) > MOST_COLUMNS else " ".join(map(cell, value)) or "none"
    return value[:12] if HASH.fullmatch(str(value)) else escape(str(value))


def figures(sections: dict[str, Any]) -> RenderableType:
    """Sections of figures, as `plan` gives them: rows as a table, a block as two columns, sentences as lines."""
    from rich.console import Group
    from rich.table import Table

    shown: list[RenderableType] = []
    for title, section in sections.items():
        block: dict[str, Any] = section if isinstance(section, dict) else dict.fromkeys(section, "")
        grid = Table(box=None, show_header=False, title=title, title_justify="left")
        rows: list[RenderableType] = []
        for key, value in block.items():
            if isinstance(value, dict) and value and all(isinstance(inner, dict) for inner in value.values()):
                rows.append(table(key, [{"name": name, **inner} for name, inner in value.items()]))
            else:
                grid.add_row(str(key), cell(value))
        shown += [grid, *rows] if block else []
    return Group(*shown)


def drawn(thing: RenderableType) -> str:
    """Something of rich as text: as wide as the terminal, or 160 columns elsewhere."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    with console.capture() as captured:
        console.print(thing)
    return captured.get().rstrip("\n")


def run_rows(runs: Path) -> list[dict[str, Any]]:
    """One row per run folder below `runs`: name, sector, stage reached, differences on sector tasks, date."""
    folders = sorted(path for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
    return [row for folder in folders if (row := _run_row(folder))]


def _run_row(folder: Path) -> dict[str, Any] | None:
    done = [stage for stage, place in STAGES.items() if (folder / place).is_file()]
    if not done and not (folder / "recipe.yaml").is_file():
        return None
    with suppress(DataError):
        return _run_figures(folder, done)
    return {"name": folder.name, "sector": "", "stage": "damaged", "differences": {}, "tainted": "", "finished": ""}


def _run_figures(folder: Path, done: list[str]) -> dict[str, Any]:
    last = record_class(folder / STAGES[done[-1]]).read(folder / STAGES[done[-1]]) if done else None
    corpus = Corpus.read_if_there(folder / STAGES["prepare"])
    comparison = Comparison.read_if_there(folder / STAGES["compare"])
    differences = comparison.differences if comparison else ()
    taint = taint_of(folder / "run")
    return {
        "name": folder.name,
        "sector": corpus.sector if corpus else "",
        "stage": done[-1] if done else "none",
        "differences": {it.task: f"{it.difference:+.3f} ({it.low:+.3f} to {it.high:+.3f})" for it in differences},
        "tainted": f"{taint_told(taint)}: train again" if taint else "",
        "finished": last.made.finished if last else "",
    }
