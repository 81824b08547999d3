"""Leaks, the search: which texts share a run of words or Chinese characters with a test item of the recipe's tasks.

The runs of `ngram` units of every item become one sorted table of hashes. Before it stand two bitmaps, one of how the runs
begin and one of the whole runs: most texts touch nothing, and are done with after one look per unit into the first. The
table is a folder of plain arrays that every worker maps into its memory; what a worker finds is an array again.
data_prep/leaks.py judges it. Brown et al. 2020 (GPT-3), appendix C, has the 13 words.

    I forms of items, V units of them all, P places (one for each run of each form), O places with evidence,
    R distinct runs, D texts, H hits
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from configs.items import read_items
from configs.load import load_task
from data_prep.units import BASE, rolling, texts_of, units_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from configs.items import Item
    from configs.job import Job
    from data_prep.units import Units

UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Kana and Han, as inside of a regular expression's brackets: they touch one another without being one word."""
INSIDE = re.compile(f"(?<=[^\\W_{UNSPACED}])(?:[^\\w\\s]|_)+(?=[^\\W_{UNSPACED}])")
"""Marks inside a word or number: `0.08`, `Finland-based`."""
SHORT_WORDS, SHORT_CHARACTERS = 5, 8
"""An item shorter than the n-gram counts as a whole if it has this many words, or Chinese characters."""
COMMON_CLUSTERS, COMMON_PART = 10, 0.01
"""A run in more clusters of a task than both of these (GPT-3's 10; 1 %) is its prompt, not its content."""
SPARSE = 16
"""Bits of a bitmap per hash: at most one look in sixteen passes by chance."""
CHUNK = 1 << 17
"""Units that are hashed at once: what about fits into the processor's cache."""


class Benchmark(NamedTuple):
    """The test items of one task."""

    task: str
    items: list[Item]


class LeakIndex(NamedTuple):
    """The runs of all items: form i has the places `starts_I[i]` to `starts_I[i + 1]`, one for each of its runs.

    An item has one form, and where marks stand inside of its words another one without them: copies lose such marks.
    """

    tasks: tuple[str, ...]
    digests: tuple[str, ...]
    """Digest of each form's item."""
    task_I: np.ndarray
    """int32: number of its item's task."""
    length_I: np.ndarray
    """int32: units in each of its runs: the n-gram, fewer for a short item that counts as a whole, 0 if it is too short."""
    starts_I: np.ndarray
    """int64 [I + 1]."""
    own_V: np.ndarray
    """int64 [V + 1]: how many of the units before are the items' own, and not their task's prompt."""
    units_I: np.ndarray
    """int64 [I + 1]: where the form's units begin in `own_V`."""
    hash_R: np.ndarray
    """uint64, sorted."""
    number_R: np.ndarray
    """int32: number of the run with this hash; runs are numbered as they first appear, so that an item's follow one another."""
    first_R: np.ndarray
    """int64 [R + 1]: run r stands at the places `place_O[first_R[r] : first_R[r + 1]]`."""
    place_O: np.ndarray
    """int64."""
    whole: np.ndarray
    """Bitmap of the hashes: bool, a power of two long, whether there is one with these first bits."""
    begin: np.ndarray
    """Bitmap of the hashes of the runs' first units, as many as the shortest run has."""

    def save(self, folder: Path) -> None:
        """Write the index as plain arrays; the same items give the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        names = {"tasks": self.tasks, "digests": self.digests}
        (folder / "index.json").write_text(json.dumps(names), "utf-8")
        for name, value in self._asdict().items():
            if name not in names:
                np.save(folder / f"{name}.npy", value, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> LeakIndex:
        """Map an index into memory; workers on one machine share the pages."""
        names = json.loads((folder / "index.json").read_text("utf-8"))
        arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in cls._fields if name not in names]
        return cls(tuple(names["tasks"]), tuple(names["digests"]), *arrays)

    def forms_at(self, places: np.ndarray) -> np.ndarray:
        """Numbers of the forms that have these places."""
        forms: np.ndarray = np.searchsorted(self.starts_I, places, side="right") - 1
        return forms

    def lengths_of(self, runs: np.ndarray) -> np.ndarray:
        """Units in each of these runs."""
        lengths: np.ndarray = self.length_I[self.forms_at(self.place_O[self.first_R[runs]])]
        return lengths

    def checked(self) -> dict[str, int]:
        """Task to the number of its items that are long enough to be told apart from common speech."""
        forms = np.unique(self.forms_at(self.place_O)).tolist()
        items = {(int(self.task_I[form]), self.digests[form]) for form in forms}
        return {task: sum(number == own for own, _ in items) for number, task in enumerate(self.tasks)}


def read_benchmarks(job: Job) -> list[Benchmark]:
    """Every item of the test split of every task that the recipe evaluates, whatever its `limit`."""
    names = dict.fromkeys((*job.recipe.evaluate.tasks, *job.recipe.evaluate.general))
    benchmarks = []
    for name in names:
        task, roots = load_task(name, job.roots)
        items, _ = read_items(task, task.test_split, roots)
        benchmarks.append(Benchmark(task.task, items))
    return benchmarks


def index_of(benchmarks: Sequence[Benchmark], ngram: int) -> LeakIndex:
    """Take the items of all tasks apart into runs of `ngram` units."""
    task_I, items, passages = _forms(benchmarks)
    units = units_of(texts_of(passages))
    length_I = _lengths(units, ngram)
    runs_I = np.where(length_I > 0, np.diff(units.starts) - length_I + 1, 0)
    first_P, length_P = ranges(units.starts[:-1], runs_I), np.repeat(length_I, runs_I)
    hash_P = np.zeros(len(first_P), np.uint64)
    for length in np.unique(length_P).tolist():
        hash_P[length_P == length] = rolling(units.values_U, length)[first_P[length_P == length]]
    known: dict[str, int] = {}  # an array of texts would be as wide as the longest, which may be a whole passage
    clusters = np.array([known.setdefault(item.cluster, len(known)) for item in items], np.int64)
    common_P = np.zeros(len(first_P), bool)
    for task in range(len(benchmarks)):
        some_P = (np.repeat(task_I, runs_I) == task) & (length_P == ngram)
        common_P[some_P] = _common(hash_P[some_P], np.repeat(clusters, runs_I)[some_P])
    own_V = np.ones(len(units.values_U), bool)
    own_V[ranges(first_P[common_P], np.full(common_P.sum(), ngram))] = False
    place_O = np.flatnonzero(~common_P)
    hash_R, first, inverse = np.unique(hash_P[place_O], return_index=True, return_inverse=True)
    number_R = np.argsort(np.argsort(first))
    run_O = number_R[inverse]
    return LeakIndex(
        tasks=tuple(benchmark.task for benchmark in benchmarks),
        digests=tuple(item.digest for item in items),
        task_I=task_I,
        length_I=length_I.astype(np.int32),
        starts_I=np.concatenate([[0], np.cumsum(runs_I)]),
        own_V=np.concatenate([[0], np.cumsum(own_V)]),
        units_I=units.starts,
        hash_R=hash_R,
        number_R=number_R.astype(np.int32),
        first_R=np.concatenate([[0], np.cumsum(np.bincount(run_O, minlength=len(hash_R)))]),
        place_O=place_O[np.argsort(run_O, kind="stable")],
        whole=_bitmap(hash_R),
        begin=_bitmap(rolling(units.values_U, int(length_P.min(initial=ngram)))[first_P[place_O]]),
    )


def find_leaks(units: Units, index: LeakIndex) -> np.ndarray:
    """Every run of an item in D texts: int32 [H, 4] = (text, first unit, units, first run), sorted.

    A hit is a stretch of a text that follows an item from run to run: `units` of them from `first unit` on hold the runs
    numbered `first run`, `first run` + 1 and so on. Stretches of several items overlap; nothing stops at the first one.
    """
    lengths = [length for length in np.unique(index.length_I).tolist() if length]
    found = []
    for begin in range(0, len(units.values_U) if lengths else 0, CHUNK):
        values = units.values_U[begin : begin + CHUNK + lengths[-1] - 1]
        hashes = rolling(values, lengths[0])[:CHUNK]
        places = np.flatnonzero(_among(hashes, index.begin))
        hashes = hashes[places]
        for length in range(lengths[0], lengths[-1] + 1):
            if length > lengths[0]:
                inside = places + length <= len(values)
                places = places[inside]
                hashes = hashes[inside] * np.uint64(BASE) + values[places + length - 1]
            if length in lengths:
                same, run_N = _lookup(hashes, index)
                found.append((places[same] + begin, run_N, np.full(len(run_N), length)))
    if not found:
        return np.empty((0, 4), np.int32)
    return _stretches(units.starts, *(np.concatenate(column) for column in zip(*found, strict=True)))


def ranges(firsts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The numbers from each of `firsts` on, as many as `counts` says, one after the other.

    >>> ranges(np.array([5, 0, 8]), np.array([2, 0, 3])).tolist()
    [5, 6, 8, 9, 10]
    """
    ends = np.cumsum(counts)
    return np.repeat(firsts - ends + counts, counts) + np.arange(ends[-1] if len(ends) else 0)


def _forms(benchmarks: Sequence[Benchmark]) -> tuple[np.ndarray, list[Item], list[str]]:
    """The number of the task, the item and the passage of each form."""
    forms = []
    for task, benchmark in enumerate(benchmarks):
        for item in benchmark.items:
            passage = unicodedata.normalize("NFC", item.passage())
            forms += [(task, item, form) for form in dict.fromkeys((passage, INSIDE.sub("", passage)))]
    return (
        np.array([task for task, _, _ in forms], np.int32),
        [item for _, item, _ in forms],
        [form for _, _, form in forms],
    )


def _lengths(units: Units, ngram: int) -> np.ndarray:
    """Units in the runs of each text; 0 if it is too short to tell."""
    size_I = np.diff(units.starts)
    characters_I = np.diff(np.concatenate([[0], np.cumsum(units.single_U)])[units.starts])
    tells_I = (size_I >= ngram) | (characters_I >= SHORT_CHARACTERS) | (size_I - characters_I >= SHORT_WORDS)
    return np.where(tells_I, np.minimum(size_I, ngram), 0)


def _common(hash_P: np.ndarray, cluster_P: np.ndarray) -> np.ndarray:
    """Where a run stands in so many clusters that it must be the task's prompt: bool [P]."""
    order = np.lexsort((cluster_P, hash_P))
    hashes, clusters = hash_P[order], cluster_P[order]
    fresh = np.ones(len(order), bool)
    fresh[1:] = (hashes[1:] != hashes[:-1]) | (clusters[1:] != clusters[:-1])
    found, counts = np.unique(hashes[fresh], return_counts=True)
    limit = max(COMMON_CLUSTERS, COMMON_PART * len(np.unique(cluster_P)))
    return np.isin(hash_P, found[counts > limit])


def _bitmap(hashes: np.ndarray) -> np.ndarray:
    bits = max(SPARSE * len(hashes) - 1, 1).bit_length()
    bitmap = np.zeros(1 << bits, bool)
    bitmap[hashes >> np.uint64(64 - bits)] = True
    return bitmap


def _among(hashes: np.ndarray, bitmap: np.ndarray) -> np.ndarray:
    """Which hashes may be among those of a bitmap; the others are not."""
    among: np.ndarray = bitmap[hashes >> np.uint64(65 - len(bitmap).bit_length())]
    return among


def _lookup(hashes: np.ndarray, index: LeakIndex) -> tuple[np.ndarray, np.ndarray]:
    """Which of the hashes are runs, and the numbers of the runs."""
    likely = np.flatnonzero(_among(hashes, index.whole))
    slots = np.searchsorted(index.hash_R, hashes[likely])
    slots[slots == len(index.hash_R)] = 0
    same = index.hash_R[slots] == hashes[likely]
    return likely[same], index.number_R[slots[same]]


def _stretches(starts: np.ndarray, place_N: np.ndarray, run_N: np.ndarray, length_N: np.ndarray) -> np.ndarray:
    """Runs that follow one another in text and item alike as one hit; those that reach into the next text are none."""
    text_N = np.searchsorted(starts, place_N, side="right") - 1
    inside = place_N + length_N <= starts[text_N + 1]
    order = np.flatnonzero(inside)[np.lexsort((run_N[inside], place_N[inside], length_N[inside]))]
    text_N, place_N, run_N, length_N = text_N[order], place_N[order], run_N[order], length_N[order]
    begins = np.ones(len(order), bool)
    begins[1:] = np.diff(text_N) | (np.diff(place_N) != 1) | (np.diff(run_N) != 1) | np.diff(length_N)
    first = np.flatnonzero(begins)
    count = np.diff(np.append(first, len(order)))
    hits = np.stack(
        [text_N[first], place_N[first] - starts[text_N[first]], length_N[first] + count - 1, run_N[first]], 1
    )
    return hits[np.lexsort(hits.T[::-1])].astype(np.int32)
