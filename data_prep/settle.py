"""Between the passes: what is decided over all documents, on columns of numbers alone.

Every document gets a verdict: kept, or left out for the first reason that holds, in the order of the functions below. A
change of thresholds comes here without reading anything again.

    D documents, in corpus order; R runs of test items
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from configs.progress import say, track
from configs.store import crash_point
from data_prep.exclude import TEXT
from data_prep.leaks import (
    Leaks,
    SourceLeaks,
    coverage,
    judge,
    occurrences,
    passage_of,
    tell_source,
    tell_tasks,
    without,
)
from data_prep.ledger import EXCLUDED
from data_prep.near import Overlap, near_duplicates
from data_prep.passages import boilerplate
from data_prep.quality import RULES, thresholds_of, verdicts
from data_prep.split import beyond_limits, held_out
from data_prep.tokenise import Verdicts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from configs.recipe import Recipe
    from data_prep.decontaminate import LeakIndex
    from data_prep.library import Library

SHOWN = 5
"""Ids that are printed."""
ORPHAN = "made from a duplicate"
"""The reason for exercises whose text another text stands in for: they have no side of the split to go to."""
COLUMNS = ("id", "parent", "digest", "digest2", "key", "place", "characters", "is_text", "source")


class Touched(NamedTuple):
    """Which test items the documents share passages with, as the corpus' record has it."""

    touched: dict[str, tuple[str, ...]]
    coverage: dict[str, dict[str, float]]
    checked: dict[str, int]


class Settled(NamedTuple):
    """What becomes of every document."""

    shards: list[Verdicts]
    touched: Touched


class _Judge:
    """Verdicts in the making: a document keeps the first reason that it is given."""

    def __init__(self, count: int) -> None:
        self.reasons = [""]
        self.reason_D = np.zeros(count, np.int16)
        self.leak_D = np.zeros(count, np.int16)

    @property
    def alive(self) -> np.ndarray:
        """bool [D]: the documents that are still in."""
        return np.asarray(self.reason_D == 0)

    def code(self, reason: str) -> int:
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason)

    def drop(self, reason: str, which_D: np.ndarray) -> None:
        self.reason_D[which_D & self.alive] = self.code(reason)

    def has(self, *reasons: str) -> np.ndarray:
        """bool [D]: the documents that are out for one of these."""
        return np.isin(self.reason_D, [self.code(reason) for reason in reasons])


def settle(recipe: Recipe, library: Library, index: LeakIndex | None) -> Settled:
    """Decide over all documents: exclusions, quality, duplicates, leaks, limits, boilerplate, split."""
    columns, prepare = library.columns(*COLUMNS), recipe.prepare
    found = _Judge(library.count)
    found.drop(EXCLUDED, _excluded(recipe, columns))
    _drop_poor(found, recipe, library)
    found.drop("duplicate", _later_copies(columns, found.alive))
    if prepare.near_duplicates is not None:
        # The records of a conversational source share their instructions: only equal ones are duplicates.
        prose_D = found.alive & columns["is_text"]
        near_D = near_duplicates(library.signatures, prose_D, prepare.near_duplicates, Overlap(library.content))
        found.drop("near-duplicate", near_D >= 0)
    found.drop(ORPHAN, _orphans(columns, found))
    if prepare.decontaminate != "drop":  # documents that leak stay and count, unless they are dropped
        _limit(found, recipe, columns)
    leaks, touched = _leaks(found, library, index)
    _settle_leaks(found, leaks, recipe, library, index)
    _limit(found, recipe, columns)
    cuts: list[np.ndarray] = [np.empty((0, 2), np.uint64)] * len(library.folders)
    if prepare.repeated_passages is not None:
        cuts = boilerplate(library.passages(), found.alive & columns["is_text"], prepare.repeated_passages)
    general_D = np.array([source.channel == "general" for source in recipe.corpora])[columns["source"]]
    held_D = held_out(columns["key"], columns["place"], general_D, found.alive, prepare.validation)
    crash_point("prepare.settled")
    shards = []
    for shard, (own, passages) in enumerate(zip(leaks, cuts, strict=True)):
        part = library.slice_of(shard)
        verdicts_D = (found.reason_D[part], held_D[part], passages, own.spans, found.leak_D[part])
        shards.append(Verdicts(found.reasons, *verdicts_D))
    return Settled(shards, touched)


def _limit(found: _Judge, recipe: Recipe, columns: dict[str, np.ndarray]) -> None:
    beyond_D = beyond_limits(recipe.corpora, columns["source"], columns["parent"], found.alive, recipe.seed)
    found.drop("over max_documents", beyond_D)


def _excluded(recipe: Recipe, columns: dict[str, np.ndarray]) -> np.ndarray:
    """The documents that are asked for by their ids, and what was made from them."""
    wanted = {name: int(name, 16) for name in recipe.prepare.exclude if not name.startswith(TEXT)}
    numbers = np.array(list(wanted.values()), np.uint64)
    there = np.isin(numbers, columns["parent"]) | np.isin(numbers, columns["id"])
    if missing := [name for name, is_there in zip(wanted, there.tolist(), strict=True) if not is_there]:
        say(
            f"  prepare.exclude: {len(missing):,} of {len(wanted):,} ids are of no document here: {', '.join(missing[:SHOWN])}"
        )
    return np.isin(columns["parent"], numbers) | np.isin(columns["id"], numbers)


def _drop_poor(found: _Judge, recipe: Recipe, library: Library) -> None:
    """By the rules of quality.py, shard by shard: their statistics need not all be in memory."""
    for shard, source in enumerate(library.sources):
        part = library.slice_of(shard)
        if part.start == part.stop:
            continue
        codes = verdicts(library.statistics(shard), thresholds_of(recipe.prepare, recipe.corpora[source]))
        reasons = np.array([0, *(found.code(rule.name) for rule in RULES)], np.int16)[codes]
        found.reason_D[part] = np.where(found.reason_D[part] == 0, reasons, found.reason_D[part])


def _later_copies(columns: dict[str, np.ndarray], alive_D: np.ndarray) -> np.ndarray:
    """The documents after the first with their content."""
    alive = np.flatnonzero(alive_D)
    order = np.lexsort((alive, columns["digest2"][alive], columns["digest"][alive]))
    first, second = columns["digest"][alive][order], columns["digest2"][alive][order]
    same = np.zeros(len(order), bool)
    same[1:] = (first[1:] == first[:-1]) & (second[1:] == second[:-1])
    later_D = np.zeros(len(alive_D), bool)
    later_D[alive[order[same]]] = True
    return later_D


def _orphans(columns: dict[str, np.ndarray], found: _Judge) -> np.ndarray:
    """Exercises whose text is out as a copy: their group is not that of the text that stays, nor need be its side."""
    copies_D = found.has("duplicate", "near-duplicate")
    gone = np.setdiff1d(columns["id"][copies_D], columns["id"][found.alive])
    return np.asarray(np.isin(columns["parent"], gone) & (columns["id"] != columns["parent"]))


# ---------------------------------------------------------------- leaks


def _leaks(found: _Judge, library: Library, index: LeakIndex | None) -> tuple[list[Leaks], Touched]:
    """What the documents that are still in share with test items; texts are numbered within their shards."""
    if index is None:
        return [_nothing() for _ in library.folders], Touched({}, {}, {})
    hits = []
    for shard in range(len(library.folders)):
        own, alive = library.flat(shard, "leaks", np.int32, 4), found.alive[library.slice_of(shard)]
        hits.append(own[alive[own[:, 0]]])
    often_R = sum((occurrences(own, index) for own in hits), np.zeros(len(index.hash_R), np.int64))
    leaks = [judge(own, often_R, index) for own in hits]
    parts = coverage([own.places for own in leaks], index)
    for line in tell_tasks(parts, index.checked()):
        say(line)
    return leaks, Touched({task: tuple(sorted(items)) for task, items in parts.items()}, parts, index.checked())


def _nothing() -> Leaks:
    return Leaks(np.empty((0, 2), np.int32), np.empty((0, 3), np.int32), np.empty(0, np.int64))


def _settle_leaks(found: _Judge, leaks: list[Leaks], recipe: Recipe, library: Library, index: LeakIndex | None) -> None:
    """Do with the documents that leak what the recipe says, naming the first of their tasks."""
    if index is None:
        return
    how, leak_D = recipe.prepare.decontaminate, found.leak_D
    for shard, own in enumerate(leaks):
        start = library.slice_of(shard).start
        for text, task in own.tasks[::-1].tolist():  # the first task comes last, and stays
            leak_D[start + text] = found.code(f"leak:{index.tasks[task]}")
    for line in _told(found, leaks, recipe, library, index):
        say(line)
    if how in ("drop", "cut"):
        whole_D = (leak_D > 0) & (library.columns("is_text")["is_text"] == 0 if how == "cut" else True)
        for code in np.unique(leak_D[whole_D]).tolist():
            found.drop(found.reasons[code], whole_D & (leak_D == code))


def _told(found: _Judge, leaks: list[Leaks], recipe: Recipe, library: Library, index: LeakIndex) -> Iterator[str]:
    """What is told of each source that leaks."""
    columns = library.columns("source", "characters", "is_text")
    for place, source in enumerate(recipe.corpora):
        own_D = found.alive & (columns["source"] == place)
        leaking = np.flatnonzero(own_D & (found.leak_D > 0))
        if not len(leaking):
            continue
        shard, start = library.shard_of(int(leaking[0]))
        tasks = Counter(
            index.tasks[task]
            for number in range(len(leaks))
            if library.sources[number] == place
            for task in leaks[number].tasks[:, 1].tolist()
        )
        spans = leaks[shard].spans
        first, units = spans[spans[:, 0] == leaking[0] - start][0, 1:].tolist()
        characters = int(columns["characters"][leaking].sum())
        conversations = not columns["is_text"][leaking].any()
        lost = characters
        if recipe.prepare.decontaminate == "cut" and not conversations:
            lost -= _left(leaking, leaks, library)
        yield from tell_source(
            SourceLeaks(
                source.name,
                int(own_D.sum()),
                len(leaking),
                int(columns["characters"][own_D].sum()),
                characters,
                lost,
                dict(tasks),
                library.where(int(leaking[0])),
                passage_of(library.content(int(leaking[0])), first, units),
                conversations,
            ),
            recipe.prepare.decontaminate,
        )


def _left(leaking: np.ndarray, leaks: list[Leaks], library: Library) -> int:
    """Characters that are left when the sentences that leak are cut out."""
    left = 0
    with track("cutting", len(leaking), "documents") as bar:
        for number in leaking.tolist():
            shard, start = library.shard_of(number)
            own = leaks[shard].spans
            spans = own[own[:, 0] == number - start][:, 1:].tolist()
            left += len(without(library.content(number), [(first, units) for first, units in spans]))
            bar.advance()
    return left
