"""`sectorlm report`: a run's comparison as a page or as Markdown, or many scorecards as a leaderboard, from what is on disk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from configs.errors import DataError, RecipeError
from configs.progress import say
from configs.records import Comparison, Scorecard
from configs.store import RunFolder, verify_files, write_atomic
from eval.answers import read_answers
from eval.leaderboard import Row, leaderboard
from eval.page import html
from eval.report import gather, markdown
from eval.wording import wording

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from eval.report import Report

OURS = '<meta name="generator" content="SectorLM">'
"""What a page of ours holds: only such a file is replaced without being told to."""


class Rendered(NamedTuple):
    """What was written, and about what."""

    path: Path
    kind: str
    """`comparison` or `leaderboard`."""
    rows: list[str]
    """The run, or the models of the leaderboard."""


def render(
    targets: Sequence[Path], out: Path, *, lang: str = "en", baseline: str = "", force: bool = False
) -> Rendered:
    """Write the page of one run's comparison, or a leaderboard of all scorecards in several folders.

    A name that ends in `.md` gets the comparison as Markdown.

    Raises:
        RecipeError: no such language or baseline, or `out` holds something else.
        DataError: a record is missing or damaged, or the comparison was made from other scorecards.
        StorageError: the page cannot be written.
    """
    wording(lang)  # a mistyped language is told before anything is read
    _refuse(out, force=force)
    if len(targets) == 1 and (root := _compared(targets[0])) is not None:
        if baseline:
            raise RecipeError("the page of a comparison has one baseline, its base", where="--baseline")
        found = _report(root)
        text = markdown(found, wording(lang)) if out.suffix == ".md" else html(found, lang)
        write_atomic(out, text)
        return Rendered(out, "comparison", [found.comparison.name])
    if out.suffix == ".md":
        raise RecipeError("a leaderboard is a page", where=str(out), hint="Give --out a name that ends in .html.")
    rows = board(targets)
    write_atomic(out, leaderboard(rows, baseline, lang))
    return Rendered(out, "leaderboard", [row.name for row in rows])


def _refuse(out: Path, *, force: bool) -> None:
    if out.suffix not in (".html", ".md"):
        raise RecipeError(f"{out.name}: a report ends in .html or .md", where="--out")
    if force or not out.is_file():
        return
    if OURS not in out.read_text("utf-8", errors="replace")[:4000]:
        raise RecipeError("holds something that is no report of ours", where=str(out), hint="Replace it with --force.")


def _compared(target: Path) -> Path | None:
    """The run folder whose comparison a target names: itself, its report folder, or the record in it."""
    for root in (target, target.parent, target.parent.parent):
        place = RunFolder(root).report / "comparison.json"
        if place.is_file() and target in (root, place.parent, place):
            return root
    return None


def _report(root: Path) -> Report:
    """What the page tells, after a look whether the comparison was made from the scorecards that are there now."""
    folder = RunFolder(root)
    comparison = Comparison.read(folder.report / "comparison.json")
    for which in ("base", "tuned"):
        card = Scorecard.read(folder.scorecards / which / "scorecard.json")
        verify_files(folder.scorecards / which, card.files)
        if comparison.inputs.get(f"scorecard {which}", card.content()) != card.content():
            hint = "Run `sectorlm compare` again: the scorecards are newer than the comparison."
            raise DataError(f"made from another scorecard of the {which} model", where=str(folder.report), hint=hint)
    return gather(comparison, folder)


# ---------------------------------------------------------------- many scorecards


def board(targets: Sequence[Path]) -> list[Row]:
    """The rows of a leaderboard: one for each model, however many runs have scored it alike.

    Raises:
        DataError: a target holds no scorecard, or its answers are damaged.
    """
    rows: dict[tuple[str, str], Row] = {}
    for target in targets:
        found = list(_cards(target))
        if not found:
            hint = "Give run folders, scorecard folders, or a folder of runs."
            raise DataError("there is no scorecard", where=str(target), hint=hint)
        for place in found:
            card = Scorecard.read(place / "scorecard.json")
            verify_files(place, card.files)
            same = (card.model_digest, card.files.get("answers.jsonl", str(place)))
            if same in rows:
                say(f"  {place}: the same model with the same answers as {rows[same].name}")
                continue
            rows[same] = Row(_name(place, card), card, read_answers(place / "answers.jsonl"))
    return _distinct(list(rows.values()))


def _cards(target: Path) -> Iterator[Path]:
    """The scorecard folders at a target: itself, those of a run, or those of all runs below it."""
    if (target / "scorecard.json").is_file():
        yield target
    elif target.name == "scorecard.json" and target.is_file():
        yield target.parent
    else:
        runs = [target] if (target / "scorecards").is_dir() else sorted(target.glob("*/"))
        for run in runs:
            yield from sorted(path.parent for path in run.glob("scorecards/*/scorecard.json"))
            if run != target and (run / "scorecard.json").is_file():
                yield run


def _name(place: Path, card: Scorecard) -> str:
    """The run and which of its models; a scorecard of its own by the name of its model."""
    return f"{card.name}/{card.model}" if card.model in ("base", "tuned") else card.model or place.name


def _distinct(rows: list[Row]) -> list[Row]:
    """Rows whose names tell them apart: a second of a name gets the beginning of its model's digest."""
    names = [row.name for row in rows]
    found: list[Row] = []
    for place, row in enumerate(rows):
        again = names.count(row.name) > 1
        name = f"{row.name} ({row.card.model_digest[:8]})" if again else row.name
        if name in [other.name for other in found]:
            name = f"{name} {place + 1}"
        found.append(replace(row, name=name))
    return found
