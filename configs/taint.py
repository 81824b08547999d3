"""Runs that learnt from documents which must be forgotten: found before their corpus is replaced, and marked.

runs/NAME/run/tainted.json      beside run.json, until a new run takes the folder's place
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from configs.progress import say
from configs.record import BY_HAND
from configs.records import Corpus
from configs.sample import corpus_folder
from configs.store import canonical_json, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

MARK = "tainted.json"
PLACES = ("*/run", "*/sweep/*/run", "*/pilot/*/run", "*/worth/*/run")
"""Where runs lie below the runs folder: one by itself, and those of a sweep, a pilot or a valuation."""
SHOWN = 5
"""Ids or requests that are printed of one run."""


def runs_that_saw(target: Path) -> list[Path]:
    """The run folders (`runs/NAME/run`) beside this corpus that were trained on it, by the digest of its record.

    A run names its corpus by content, so runs of other names count where their corpus is the same.

    Raises:
        DataError: there is no corpus.
    """
    folder = corpus_folder(target)
    digest = Corpus.read(folder / "corpus.json").content()
    return [path.parent for path, seen in _runs(folder.resolve().parent.parent) if seen == digest]


def tainted_runs(
    folder: Path, removed: Callable[[str], bool] | set[str] | frozenset[str]
) -> dict[Path, tuple[str, ...]]:
    """Every run beside this corpus that was trained on a removed document, with the ids of those.

    Each run is judged by the corpus that its record names, whichever run folder holds that. Documents held out for
    validation were never learnt. Call it before a corpus is replaced; a run whose corpus is gone is named in a line.
    """
    if not removed:
        return {}
    gone = removed.__contains__ if isinstance(removed, set | frozenset) else removed
    root = folder.resolve().parent.parent
    runs = list(_runs(root))
    learnt: dict[str, tuple[str, ...]] = {}
    for path in sorted(root.glob("*/corpus/corpus.json")):
        digest = Corpus.read(path).content()
        if digest not in learnt and any(seen == digest for _, seen in runs):
            learnt[digest] = tuple(_learnt(path.parent, gone))
    for path, seen in runs:
        if seen not in learnt:
            say(f"  {path.parent}: its corpus is no longer here, so whether it saw removed documents is not known")
    return {path.parent: found for path, seen in runs if (found := learnt.get(seen, ()))}


def mark_tainted(found: Mapping[Path, Sequence[str]], requests: Iterable[str]) -> None:
    """Write tainted.json beside each run's record: the removal requests, and the documents that it was trained on.

    What an earlier request found stays in it.

    Raises:
        StorageError: the disk is full or read-only.
    """
    for run, documents in found.items():
        before = taint_of(run) or {"requests": [], "documents": []}
        record = {
            "requests": sorted({*before["requests"], *requests}),
            "documents": sorted({*before["documents"], *documents}),
        }
        write_atomic(run / MARK, canonical_json(record) + b"\n")


def taint_of(run: Path) -> dict[str, Any] | None:
    """What tainted.json says of a run folder: `requests` and `documents`; None where the run is clean.

    Raises:
        DataError: the file is damaged.
    """
    path = run / MARK
    if not path.is_file():
        return None
    try:
        told = json.loads(path.read_bytes())
        return {"requests": list(told["requests"]), "documents": list(told["documents"])}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("not a mark of SectorLM", where=str(path), hint=BY_HAND) from error


def runs_tainted_by(target: Path, documents: Iterable[str]) -> list[Path]:
    """The run folders beside this corpus whose mark names one of these documents."""
    wanted = set(documents)
    found = []
    root = corpus_folder(target).resolve().parent.parent
    for path in sorted(it for place in PLACES for it in root.glob(f"{place}/{MARK}")):
        try:
            taint = taint_of(path.parent)
        except DataError as error:
            say(f"  {error.where}: {error.message}: whether its run saw these documents is not known")
            continue
        if taint and wanted.intersection(taint["documents"]):
            found.append(path.parent)
    return found


def taint_told(taint: Mapping[str, Sequence[str]]) -> str:
    """The mark of a run in words, without its remedy.

    >>> taint_told({"requests": ["text:Jane Doe"], "documents": ["a" * 16]})
    'learnt from 1 document that must be forgotten (text:Jane Doe)'
    """
    count = len(taint["documents"])
    what = "1 document" if count == 1 else f"{count:,} documents"
    return f"learnt from {what} that must be forgotten ({_short(taint['requests'])})"


def _short(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def tell_tainted(found: Mapping[Path, Sequence[str]]) -> None:
    """Print which runs learnt what is now removed, and what to do about it."""
    for run, documents in found.items():
        say(f"  tainted: {run} was trained on {_short(documents)}, which the recipe now excludes")
    if found:
        say("  train these runs again; no release should be made from them (tainted.json beside run.json says why)")


def _runs(root: Path) -> Iterable[tuple[Path, str]]:
    """Each run record below the runs folder, and the digest of the corpus that it was made from."""
    for path in sorted(it for place in PLACES for it in root.glob(f"{place}/run.json")):
        try:
            yield path, str(json.loads(path.read_bytes())["inputs"]["corpus"])
        except (ValueError, KeyError, TypeError):
            say(f"  {path} cannot be read: whether its run saw these documents is not known")


def _learnt(folder: Path, gone: Callable[[str], bool]) -> Iterable[str]:
    """Ids of training documents that are gone, batch by batch."""
    import pyarrow.parquet as pq

    table = pq.ParquetFile(folder / "documents.parquet")
    for batch in table.iter_batches(columns=["id", "split"]):
        columns = batch.to_pydict()
        pairs = zip(columns["id"], columns["split"], strict=True)
        yield from (identity for identity, split in pairs if split == "train" and gone(identity))
