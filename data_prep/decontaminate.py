"""Leaks: documents that share a run of words or Chinese characters with a test item of the recipe's tasks.

Texts become units (a word, or one Chinese character) after NFKC, case folding and dropping punctuation. Runs of `ngram`
units of every item are hashed into a sorted table; documents are scanned in large blocks with numpy, so that the time
does not depend on the number of items. Brown et al. 2020 (GPT-3), appendix C, has the 13 words and the rule for
boilerplate: runs that occur everywhere are no evidence.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from configs.items import read_items
from configs.load import load_task
from configs.progress import say
from data_prep.clean import visible_length
from data_prep.dedup import content_digest
from data_prep.ledger import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from configs.items import Item
    from configs.job import Job
    from configs.recipe import Prepare
    from data_prep.documents import Document
    from data_prep.ledger import Ledger

CHINESE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Kana and Han, as inside of a regular expression's brackets."""
UNIT = re.compile(f"[{CHINESE}]|[^\\W_{CHINESE}]+")
ASCII_UNITS = bytes(code if chr(code).isalnum() else 32 for code in range(128)) + b" " * 128
"""Table that keeps ASCII letters and digits and makes everything else a space."""
SENTENCE = re.compile("(?<=[.!?。！？\n])")
"""Where a text may be cut: after a mark that no unit holds."""
SHORT_WORDS, SHORT_CHARACTERS = 5, 8
"""An item shorter than the n-gram counts as a whole if it has this many words, or Chinese characters."""
COMMON_CLUSTERS, COMMON_PART = 10, 0.01
"""A run in more clusters of a task than both of these (GPT-3's 10; 1 %) is its prompt, not its content."""
MUCH = 0.1
"""Part of a source's text beyond which the way to lose less of it is told."""
BLOCK = 1 << 22
"""Characters that are scanned at once."""
FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Odd multiplier of the rolling polynomial hash, modulo 2**64 (Knuth, TAOCP 3, section 6.4)."""


class Benchmark(NamedTuple):
    """The test items of one task."""

    task: str
    items: list[Item]


@dataclass
class Leaks:
    """What was found: which tasks each document touches, and which items were touched."""

    by_document: dict[str, list[str]] = field(default_factory=dict)
    """Document id to the tasks it leaks, sorted."""
    runs: dict[str, set[int]] = field(default_factory=dict)
    """Document id to the units that belong to a shared run, by their number."""
    touched: dict[str, tuple[str, ...]] = field(default_factory=dict)
    checked: dict[str, int] = field(default_factory=dict)

    def tell(self, documents: Sequence[Document], prepare: Prepare) -> None:
        """Print how much of each source leaks, before any of it is left out, with a passage to judge it by."""
        for source in dict.fromkeys(document.source for document in documents):
            own = [document for document in documents if document.source == source]
            leaking = [document for document in own if document.id in self.by_document]
            if not leaking:
                continue
            part, whole = (sum(len(document.content) for document in some) for some in (leaking, own))
            tasks = Counter(task for document in leaking for task in self.by_document[document.id])
            named = ", ".join(f"{task} {count:,}" for task, count in tasks.most_common())
            first = min(self.runs[leaking[0].id])
            passage = " ".join(units_of(leaking[0].content)[first : first + prepare.ngram])
            say(
                f"  {source}: {len(leaking):,} of {len(own):,} documents, {part / whole:.1%} of its text, share a passage "
                f"with test items ({named}): {self._done(leaking, prepare)}"
            )
            say(f'    {leaking[0].where}: "{passage}"')
            if prepare.decontaminate == "drop" and part > MUCH * whole and not leaking[0].messages:
                say("    `prepare: {decontaminate: cut}` takes out only the sentences that leak")

    def _done(self, leaking: Sequence[Document], prepare: Prepare) -> str:
        """What becomes of documents that leak, in words."""
        if prepare.decontaminate == "report":
            return "kept, as the recipe says"
        whole = sum(len(document.content) for document in leaking)
        if prepare.decontaminate == "drop" or leaking[0].messages:
            return f"left out, {whole:,} characters"
        kept = sum(len(without(document.text, self.runs[document.id])) for document in leaking)
        return f"the sentences are cut out, {whole - kept:,} of {whole:,} characters"

    def settle(self, documents: Iterable[Document], prepare: Prepare, ledger: Ledger) -> Iterator[Verdict]:
        """Do with the documents that leak what the recipe says, naming the first of their tasks."""
        for document in documents:
            if document.id not in self.by_document or prepare.decontaminate == "report":
                yield Verdict(document)
                continue
            task = self.by_document[document.id][0]
            rest = without(document.text, self.runs[document.id]) if prepare.decontaminate == "cut" else ""
            if visible_length(rest) < prepare.min_chars:
                yield Verdict(document, f"leak:{task}")
                continue
            ledger.accounts[document.source].mended[f"leak:{task} cut out"] += 1
            cut = replace(document, text=rest)
            yield Verdict(replace(cut, digest=content_digest(cut)))


def read_benchmarks(job: Job) -> list[Benchmark]:
    """Every item of the test split of every task that the recipe evaluates, whatever its `limit`."""
    names = dict.fromkeys((*job.recipe.evaluate.tasks, *job.recipe.evaluate.general))
    benchmarks = []
    for name in names:
        task, roots = load_task(name, job.roots)
        items, _ = read_items(task, task.test_split, roots)
        benchmarks.append(Benchmark(task.task, items))
    return benchmarks


def find_leaks(documents: Sequence[Document], benchmarks: Sequence[Benchmark], ngram: int) -> Leaks:
    """Compare all documents with all items; nothing stops early, so that `touched` is complete."""
    index = _Index(benchmarks, ngram)
    found = Leaks(checked=index.checked)
    touched: dict[str, set[str]] = {benchmark.task: set() for benchmark in benchmarks}
    leaked: dict[str, set[str]] = {}
    for first, texts in _blocks(documents):
        for match in index.matches(texts):
            identity = documents[first + match.text].id
            found.runs.setdefault(identity, set()).update(range(match.place, match.place + match.length))
            for task, item in match.items:
                touched[task].add(item)
                leaked.setdefault(identity, set()).add(task)
    found.by_document = {identity: sorted(tasks) for identity, tasks in leaked.items()}
    found.touched = {task: tuple(sorted(items)) for task, items in touched.items()}
    return found


def without(text: str, units: set[int]) -> str:
    """The text without the sentences that hold one of these units.

    >>> without("Rates rose. Nobody knew why. Rates fell.", {3})
    'Rates rose. Rates fell.'
    """
    kept, number = [], 0
    for sentence in SENTENCE.split(text):
        size = len(units_of(sentence))
        if units.isdisjoint(range(number, number + size)):
            kept.append(sentence)
        number += size
    return "".join(kept)


def units_of(text: str) -> list[str]:
    """Words and single Chinese characters, normalised.

    >>> units_of("The Fed's 利率, 2%")
    ['the', 'fed', 's', '利', '率', '2']
    """
    if text.isascii():
        return text.casefold().encode().translate(ASCII_UNITS).decode().split()
    return UNIT.findall(unicodedata.normalize("NFKC", text).casefold())


def _blocks(documents: Sequence[Document]) -> Iterator[tuple[int, list[str]]]:
    first, texts, size = 0, [], 0
    for position, document in enumerate(documents):
        texts.append(document.content)
        size += len(texts[-1])
        if size >= BLOCK:
            yield first, texts
            first, texts, size = position + 1, [], 0
    if texts:
        yield first, texts


class _Match(NamedTuple):
    """A shared run: position of the text, number of its first unit, its length, and whose it is."""

    text: int
    place: int
    length: int
    items: list[tuple[str, str]]
    """(task, item digest)."""


class _Table(NamedTuple):
    """Runs of one length: sorted hashes H, and for each the slice `starts[i]:starts[i + 1]` of `entries`."""

    hashes: np.ndarray
    starts: np.ndarray
    entries: np.ndarray


class _Index:
    """The runs of all items, by length."""

    def __init__(self, benchmarks: Sequence[Benchmark], ngram: int) -> None:
        self.entries: list[tuple[str, str]] = []
        """(task, item digest) by number."""
        self.checked = {benchmark.task: 0 for benchmark in benchmarks}
        self.values: dict[str, int] = {}
        """64 random bits of every unit that some item holds; 0 stands for all others."""
        runs: dict[int, list[tuple[np.ndarray, int]]] = {}
        for benchmark in benchmarks:
            found = [(item, *self._runs(item, ngram)) for item in benchmark.items]
            common = _common([(hashes, item.cluster) for item, length, hashes in found if length == ngram])
            for item, length, hashes in found:
                own = hashes[~np.isin(hashes, common)] if length == ngram else hashes
                if len(own):
                    runs.setdefault(length, []).append((own, len(self.entries)))
                    self.entries.append((benchmark.task, item.digest))
                    self.checked[benchmark.task] += 1
        self.tables = {length: _table(found) for length, found in sorted(runs.items())}

    def _runs(self, item: Item, ngram: int) -> tuple[int, np.ndarray]:
        """The length of an item's runs and their hashes; none if it is too short to tell."""
        units = units_of(item.passage())
        length = min(len(units), ngram)
        characters = sum(unit[0] >= "\u3040" for unit in units)
        if length < ngram and characters < SHORT_CHARACTERS and len(units) - characters < SHORT_WORDS:
            return 0, np.empty(0, np.uint64)
        for unit in units:
            if unit not in self.values:
                self.values[unit] = int.from_bytes(blake2b(unit.encode(), digest_size=8).digest()) or 1
        return length, np.unique(_rolling(self._hashes(units), length))

    def _hashes(self, units: list[str]) -> np.ndarray:
        get = self.values.get
        return np.fromiter((get(unit, 0) for unit in units), np.uint64, len(units))

    def matches(self, texts: list[str]) -> Iterator[_Match]:
        """Every place of the texts where a run of an item stands."""
        parts = [self._hashes([*units_of(text), ""]) for text in texts]  # the empty unit keeps texts apart
        ends = np.cumsum([len(part) for part in parts])
        values = np.concatenate(parts)
        reach = _reach(values)
        hashes, done = np.zeros(len(values), np.uint64), 0
        for length, table in self.tables.items():
            for step in range(done, length):
                hashes = hashes[: len(values) - step] * FACTOR + values[step:]
            done = length
            places = np.flatnonzero(reach[: len(hashes)] >= length)
            slots = np.searchsorted(table.hashes, hashes[places])
            slots[slots == len(table.hashes)] = 0
            same = table.hashes[slots] == hashes[places]
            for place, slot in zip(places[same].tolist(), slots[same].tolist(), strict=True):
                text = int(np.searchsorted(ends, place, side="right"))
                entries = table.entries[table.starts[slot] : table.starts[slot + 1]].tolist()
                start = place - int(ends[text - 1] if text else 0)
                yield _Match(text, start, length, [self.entries[entry] for entry in entries])


def _rolling(values: np.ndarray, length: int) -> np.ndarray:
    """Hashes of all runs of `length` values: sum of value * FACTOR**(length - 1 - place), modulo 2**64."""
    hashes = np.zeros(len(values), np.uint64)
    for step in range(length):
        hashes = hashes[: len(values) - step] * FACTOR + values[step:]
    return hashes


def _reach(values: np.ndarray) -> np.ndarray:
    """At each place, how many values from there on are not 0."""
    places = np.arange(len(values))
    zeros = np.where(values == 0, places, len(values))
    return np.minimum.accumulate(zeros[::-1])[::-1] - places


def _common(found: list[tuple[np.ndarray, str]]) -> np.ndarray:
    """Hashes of the runs that stand in so many clusters that they must be the task's prompt."""
    clusters: dict[str, list[np.ndarray]] = {}
    for hashes, cluster in found:
        clusters.setdefault(cluster, []).append(hashes)
    if not clusters:
        return np.empty(0, np.uint64)
    distinct = np.concatenate([np.unique(np.concatenate(parts)) for parts in clusters.values()])
    hashes, counts = np.unique(distinct, return_counts=True)
    limit = max(COMMON_CLUSTERS, COMMON_PART * len(clusters))
    return hashes[counts > limit]


def _table(found: list[tuple[np.ndarray, int]]) -> _Table:
    hashes = np.concatenate([own for own, _ in found])
    entries = np.concatenate([np.full(len(own), entry, np.int64) for own, entry in found])
    order = np.argsort(hashes, kind="stable")
    unique, first = np.unique(hashes[order], return_index=True)
    return _Table(unique, np.append(first, len(hashes)), entries[order])
