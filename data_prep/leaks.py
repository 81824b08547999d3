"""Leaks, the judgement: which of the shared runs are evidence, which items they touch, what is cut and what is told.

A run that stands again and again in the documents is a name or a stock phrase, and no evidence: "common cultural phrases,
legal boilerplate" (Brown et al. 2020, GPT-3, appendix C). But a text that holds most of an item leaks it, however often.

    H hits, N runs of the hits, T touches: (text, place of an item's run), R distinct runs
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from data_prep.decontaminate import UNSPACED, ranges
from data_prep.units import texts_of, units_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from data_prep.decontaminate import LeakIndex

OFTEN = 10
"""A run that stands more often than this is boilerplate. GPT-3 counts documents; in sources of few long ones, such as a
collection of laws, a phrase comes a hundred times in five of them."""
WHOLE = 0.8
"""Part of an item's units from which on it counts as found in whole ("dirty" in Touvron et al. 2023, Llama 2, appendix A.6)."""
BLOCK = 1 << 16
"""Units in hits that are judged at once, which bounds the memory."""
MUCH = 0.1
"""Part of a source's text beyond which the way to lose less of it is told."""
SENTENCE = re.compile("(?<=[.!?。！？\n])")
"""Where a text may be cut: after a mark that no unit holds."""
PIECE = re.compile(f"[{UNSPACED}]|[^\\s{UNSPACED}]+|\\s+")
"""What a passage is shown in: characters, and words with the marks that touch them."""


class Leaks(NamedTuple):
    """What the hits of some texts come to."""

    tasks: np.ndarray
    """int32 [L, 2] = (text, number of the task that it leaks), sorted."""
    spans: np.ndarray
    """int32 [S, 3] = (text, first unit, units): what the text shares, sorted; no two touch."""
    places: np.ndarray
    """int64, sorted: places of the items' runs that were found."""


class SourceLeaks(NamedTuple):
    """What is told of one source."""

    source: str
    documents: int
    leaking: int
    """Documents that leak."""
    characters: int
    """Of the whole source."""
    characters_leaking: int
    """Of the documents that leak."""
    characters_lost: int
    """Left out or cut out of them; 0 where all is kept."""
    tasks: dict[str, int]
    """Task to the number of documents that leak it."""
    where: str
    """File and line of the first one."""
    passage: str
    """What it shares."""
    conversations: bool = False


def occurrences(hits: np.ndarray, index: LeakIndex) -> np.ndarray:
    """How often each run stands in the texts, by its number: int64 [R]; add up the shards."""
    often_R = np.zeros(len(index.hash_R), np.int64)
    for some in _blocks(hits):
        often_R += np.bincount(_runs(some, index)[2], minlength=len(often_R))
    return often_R


def judge(hits: np.ndarray, often_R: np.ndarray, index: LeakIndex) -> Leaks:
    """Tell leaks from boilerplate.

    Args:
        hits: those of `find_leaks`, without the texts that are out already.
        often_R: `occurrences` in the whole corpus.
        index: the items.
    """
    found = [_judged(some, often_R, index) for some in _blocks(hits)]
    tasks, spans, places = zip(*found, strict=True)
    return Leaks(np.concatenate(tasks), np.concatenate(spans), np.unique(np.concatenate(places)))


def coverage(places: Iterable[np.ndarray], index: LeakIndex) -> dict[str, dict[str, float]]:
    """Task to its touched items, by digest, each with the part of its units that the documents share, all together.

    Args:
        places: `Leaks.places` of every shard.
        index: the items.
    """
    place_T = np.unique(np.concatenate([np.empty(0, np.int64), *places]))
    form_T, part_T = index.forms_at(place_T), _parts(np.zeros_like(place_T), place_T, index)
    found: dict[str, dict[str, float]] = {task: {} for task in index.tasks}
    for form, part in sorted(set(zip(form_T.tolist(), part_T.tolist(), strict=True))):
        parts, digest = found[index.tasks[index.task_I[form]]], index.digests[form]
        parts[digest] = max(parts.get(digest, 0.0), round(part, 4))
    return {task: dict(sorted(parts.items())) for task, parts in found.items()}


def without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text without the sentences that hold one of these spans of (first unit, units).

    >>> without("Rates rose. Nobody knew why. Rates fell.", [(3, 1)])
    'Rates rose. Rates fell.'
    """
    sentences = SENTENCE.split(text)
    starts = units_of(texts_of(sentences)).starts
    keep = np.ones(len(sentences), bool)
    for first, units in spans:
        keep[np.searchsorted(starts, first, side="right") - 1 : np.searchsorted(starts, first + units)] = False
    return "".join(sentence for sentence, kept in zip(sentences, keep.tolist(), strict=True) if kept)


def passage_of(text: str, first: int, units: int) -> str:
    """The passage of a text that holds the units from number `first` on, as it is written there, on one line.

    >>> passage_of("The Fed's 利率, 2%\\n higher", 2, 4)
    "Fed's 利率, 2%"
    """
    pieces = PIECE.findall(text)
    starts = units_of(texts_of(pieces)).starts
    begin = int(np.searchsorted(starts, first, side="right")) - 1
    return " ".join("".join(pieces[begin : int(np.searchsorted(starts, first + units))]).split())


def tell_source(found: SourceLeaks, decontaminate: str) -> list[str]:
    """How much of a source leaks, what was done, and a passage to judge it by, in lines to print."""
    if not found.leaking:
        return []
    named = ", ".join(
        f"{task} {count:,}" for task, count in sorted(found.tasks.items(), key=lambda pair: (-pair[1], pair[0]))
    )
    done = f"left out, {found.characters_lost:,} characters"
    if decontaminate == "report":
        done = "kept, as the recipe says"
    elif decontaminate == "cut" and not found.conversations:
        done = f"the sentences are cut out, {found.characters_lost:,} of {found.characters_leaking:,} characters"
    part = found.characters_leaking / max(found.characters, 1)
    lines = [
        f"  {found.source}: {found.leaking:,} of {found.documents:,} documents, {part:.1%} of its text, share a passage "
        f"with test items ({named}): {done}",
        f'    {found.where}: "{found.passage}"',
    ]
    if decontaminate == "drop" and part > MUCH and not found.conversations:
        lines.append("    `prepare: {decontaminate: cut}` takes out only the sentences that leak")
    return lines


def tell_tasks(touched: dict[str, dict[str, float]], checked: dict[str, int]) -> list[str]:
    """How many items of each task were found in the documents, in lines to print.

    >>> tell_tasks({"t": {"a": 1.0, "b": 0.3}, "u": {}}, {"t": 9, "u": 5})
    ['  t: 2 of 9 test items found in the documents, 1 of them in whole']
    """
    return [
        f"  {task}: {len(parts):,} of {checked[task]:,} test items found in the documents, "
        f"{sum(part >= WHOLE for part in parts.values()):,} of them in whole"
        for task, parts in touched.items()
        if parts
    ]


def _blocks(hits: np.ndarray) -> list[np.ndarray]:
    """The hits in parts of about BLOCK units, those of one text together."""
    firsts = np.flatnonzero(np.diff(hits[:, 0], prepend=-1))
    before = np.cumsum(hits[:, 2], dtype=np.int64)[firsts] - hits[firsts, 2]
    return np.split(hits, firsts[1:][np.diff(before // BLOCK) > 0])


def _judged(hits: np.ndarray, often_R: np.ndarray, index: LeakIndex) -> Leaks:
    text_N, unit_N, run_N = _runs(hits, index)
    pairs, pair_N = np.unique(text_N * len(index.hash_R) + run_N, return_inverse=True)
    text_E, run_E = np.divmod(pairs, len(index.hash_R))
    places_E = index.first_R[run_E + 1] - index.first_R[run_E]
    pair_T = np.repeat(np.arange(len(pairs)), places_E)
    text_T, place_T = text_E[pair_T], index.place_O[ranges(index.first_R[run_E], places_E)]
    part_T = _parts(text_T, place_T, index)
    leaks_T = (part_T >= WHOLE) | (often_R[run_E] <= OFTEN)[pair_T]
    leaks_N = np.isin(pair_N, pair_T[leaks_T])
    tasks_T = np.stack([text_T, index.task_I[index.forms_at(place_T)]], 1)
    return Leaks(
        np.unique(tasks_T[leaks_T], axis=0).astype(np.int32),
        _spans(text_N[leaks_N], unit_N[leaks_N], index.lengths_of(run_N[leaks_N])),
        np.unique(place_T[leaks_T]),
    )


def _runs(hits: np.ndarray, index: LeakIndex) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Text, first unit and number of every run of the hits: int64 [N]."""
    text_H, unit_H, units_H, run_H = hits.astype(np.int64).T
    runs_H = units_H - index.lengths_of(run_H) + 1
    return np.repeat(text_H, runs_H), ranges(unit_H, runs_H), ranges(run_H, runs_H)


def _parts(text_T: np.ndarray, place_T: np.ndarray, index: LeakIndex) -> np.ndarray:
    """For each touch, the part of the form's own units that its text holds: float [T]."""
    order = np.lexsort((place_T, text_T))
    text, place = text_T[order], place_T[order]
    form = index.forms_at(place)
    first = index.units_I[form] + place - index.starts_I[form]
    end = first + index.length_I[form]
    again = np.zeros(len(order), bool)
    again[1:] = (text[1:] == text[:-1]) & (form[1:] == form[:-1])
    first[again] = np.maximum(first[again], end[np.flatnonzero(again) - 1])
    heads = np.flatnonzero(~again)
    covered = np.add.reduceat(index.own_V[end] - index.own_V[first], heads) if len(heads) else heads
    own = index.own_V[index.units_I[form[heads] + 1]] - index.own_V[index.units_I[form[heads]]]
    parts = np.where(own > 0, covered / np.maximum(own, 1), 1.0)
    part_T = np.empty(len(order))
    part_T[order] = np.repeat(parts, np.diff(np.append(heads, len(order))))
    return part_T


def _spans(text_N: np.ndarray, unit_N: np.ndarray, length_N: np.ndarray) -> np.ndarray:
    """Stretches that overlap or touch as one: int32 [S, 3] = (text, first unit, units)."""
    order = np.lexsort((unit_N, text_N))
    far = int((unit_N + length_N).max(initial=0)) + 1  # a number line on which no text touches the next
    first = text_N[order] * far + unit_N[order]
    ends = np.maximum.accumulate(first + length_N[order])
    begins = np.ones(len(order), bool)
    begins[1:] = first[1:] > ends[:-1]
    heads = np.flatnonzero(begins)
    last = ends[np.append(heads, len(order))[1:] - 1]
    return np.stack([first[heads] // far, first[heads] % far, last - first[heads]], 1).astype(np.int32)
