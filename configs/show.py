"""What `sectorlm show` shows: a recipe with its defaults marked, a record, packed rows, or where a text is in a corpus."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from configs.view import Found


class Asked(NamedTuple):
    """The options of `show`."""

    trace: bool = False
    sample: int = 0
    rows: str = ""
    find: str = ""


def is_data(target: Path) -> bool:
    """Whether this is a file of rows, not a recipe or a record."""
    from configs.view import RECORDS

    return target.is_file() and target.suffix not in (".yaml", ".yml") and target.name not in RECORDS


def show(
    target: Path, asked: Asked, sets: Sequence[str], views: Callable[[list[Found]], list[Any]]
) -> tuple[Any, list[Any]]:
    """Plain data and texts or tables for a person; `views` draws records.

    Raises:
        SectorLMError: there is nothing at `target`, or it is damaged.
    """
    if target.suffix in (".yaml", ".yml"):
        from configs.emit import resolved_yaml
        from configs.load import load_recipe

        return load_recipe(target, sets).model_dump(mode="json"), [resolved_yaml(target, sets).rstrip()]
    if asked.trace:
        from configs.lineage import trace, trace_view

        step = trace(target)
        return step.as_json(), [trace_view(step)]
    if asked.find:
        return _found(target, asked.find)
    if asked.sample or asked.rows:
        from configs.sample import packed_rows, row_numbers, row_view

        packed = packed_rows(target, asked.sample, row_numbers(asked.rows))
        pieces = {str(row): [piece._asdict() for piece in it] for row, it in packed.items()}
        colour = sys.stdout.isatty()
        return pieces, [row_view(row, it, colour=colour) for row, it in packed.items()]
    from configs.view import records_at

    records = records_at(target)
    return {str(it.path): it.record.model_dump(mode="json") for it in records}, views(records)


def _found(target: Path, wanted: str) -> tuple[Any, list[Any]]:
    """Where a text or a document is in a corpus or why it is not there, and which runs saw it."""
    from configs.find import find_in_corpus, find_view, left_out
    from configs.taint import runs_tainted_by, runs_that_saw

    hits = find_in_corpus(target, wanted)
    gone = [] if hits else left_out(target, wanted)
    runs = runs_that_saw(target)
    tainted = runs_tainted_by(target, {*(hit.document for hit in hits), *(it.document for it in gone)})
    found = {
        "documents": [hit._asdict() for hit in hits],
        "left_out": [it._asdict() for it in gone],
        "runs": [str(run) for run in runs],
        "tainted": [str(run) for run in tainted],
    }
    return found, list(find_view(hits, runs, gone, tainted))
