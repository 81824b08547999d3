"""Which rows a step sees, as pure arithmetic: no generator to save, so a run resumes exactly.

The order of epoch e is a permutation drawn from (seed, "rows", e); step s takes the next `rows_per_step` rows of it. A
micro-batch is one packed row without padding: the segments of its rows side by side.
"""

# T tokens of a micro-batch, S supervised positions of it

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from configs.errors import DataError
from configs.store import hashed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from configs.records import Corpus
    from configs.tuning import Train


TENSORS = ("tokens_T", "positions_T", "bounds", "scored_S", "target_S")


@dataclass(frozen=True)
class Batch:
    """A packed micro-batch: documents side by side, positions counted from each document's start."""

    tokens_T: torch.Tensor
    positions_T: torch.Tensor
    bounds: torch.Tensor
    """int32 [documents + 1]: where each document starts, and the end."""
    scored_S: torch.Tensor
    """Positions whose hidden state predicts a supervised token."""
    target_S: torch.Tensor
    """Those tokens."""
    rows: tuple[int, ...] = ()
    longest: int = 0
    """Tokens of the longest document; kept beside `bounds`, which may lie on a GPU that one must not wait for."""

    def unlearnt(self) -> Batch:
        """The same tokens with nothing to learn from them."""
        nothing = self.target_S[:0]
        return replace(self, scored_S=nothing, target_S=nothing)

    def documents(self) -> torch.Tensor:
        """The number of the document that each supervised position belongs to, int64 [S]."""
        return torch.searchsorted(self.bounds, self.scored_S.to(self.bounds.dtype), right=True) - 1

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        there = {name: getattr(self, name).to(device, non_blocking=True) for name in TENSORS}
        return replace(self, **there)


class Rows:
    """The packed rows of a corpus, memory-mapped; `only` gives those of some sources."""

    def __init__(self, folder: Path, corpus: Corpus) -> None:
        self.folder, self.sequence_length = folder, corpus.sequence_length
        self.tokens = np.memmap(folder / "tokens.bin", dtype=corpus.token_dtype, mode="r")
        self.supervised = np.memmap(folder / "supervised.bin", dtype=np.uint8, mode="r")
        segments = np.load(folder / "segments.npy")
        if len(self.tokens) != corpus.tokens or len(self.supervised) != corpus.tokens:
            raise DataError("tokens.bin does not hold the number of tokens that corpus.json states", where=str(folder))
        self.validation = range(corpus.rows_train, corpus.rows_train + corpus.rows_validation)
        self._hold(segments, corpus.rows_train, self.validation.stop)

    def _hold(self, segments: np.ndarray, train: int, rows: int) -> None:
        """Take `segments` as the rows: the first `train` of `rows` are for training."""
        self.segments, self.train = segments, train
        # Segments are stored in the order of their rows, so a row is a slice of them.
        self.first = np.searchsorted(segments[:, 0], np.arange(rows + 1))
        self.length = np.add.reduceat(segments[:, 2], self.first[:-1]) if len(segments) else np.zeros(0, int)

    def only(self, sources: tuple[int, ...]) -> Rows:
        """The training segments of these sources, in rows of their own; there is no validation.

        Rows that lost segments to other sources are joined while they fit, so that steps stay as large as they were.
        """
        own = self.segments[(self.segments[:, 0] < self.train) & np.isin(self.segments[:, 3], sources)].copy()
        own[:, 0] = _joined(own[:, 0], own[:, 2], self.sequence_length)
        view = copy.copy(self)
        view.validation = range(0)
        count = int(own[-1, 0]) + 1 if len(own) else 0
        view._hold(own, count, count)
        return view

    def part(self, share: float, seed: int) -> Rows:
        """This part of the training rows, at least one, by the smallest hashes of (seed, "pilot", row); no validation.

        They keep their order, and a smaller part lies in a larger one.
        """
        numbers = np.array([hashed(seed, "pilot", row) for row in range(self.train)], np.uint64)
        chosen = np.sort(np.argsort(numbers, kind="stable")[: max(1, round(share * self.train))])
        own = self.segments[np.isin(self.segments[:, 0], chosen)].copy()
        own[:, 0] = np.searchsorted(chosen, own[:, 0])
        view = copy.copy(self)
        view.validation = range(0)
        view._hold(own, len(chosen), len(chosen))
        return view

    def channels(self, corpus: Corpus) -> dict[str, list[int]]:
        """The validation rows of each channel."""
        rows: dict[str, list[int]] = {}
        for row in self.validation:
            source = int(self.segments[self.first[row], 3])
            rows.setdefault(corpus.sources[source].channel, []).append(row)
        return rows

    def pieces(self, rows: list[int]) -> np.ndarray:
        """The segments of `rows`, int64 [S, 4] = (row, start, length, source)."""
        return np.concatenate([self.segments[self.first[row] : self.first[row + 1]] for row in rows])

    def supervised_targets(self, rows: list[int]) -> int:
        """Number of supervised targets in `rows`: supervised tokens that are not the first of their segment."""
        return sum(
            int(self.supervised[start + 1 : start + length].sum()) for _, start, length, _ in self.pieces(rows).tolist()
        )

    def batch(self, rows: list[int]) -> Batch:
        """Pack the segments of `rows` into one row without padding."""
        documents = [
            (self.tokens[start : start + length], self.supervised[start : start + length])
            for _, start, length, _ in self.pieces(rows).tolist()
        ]
        return packed(documents, rows)

    def micro_batches(self, rows: list[int], most_tokens: int) -> list[list[int]]:
        """Split `rows` in their order so that no part has more than `most_tokens` tokens; a single longer row stands alone."""
        parts: list[list[int]] = []
        filled = 0
        for row in rows:
            size = int(self.length[row])
            if parts and filled + size <= most_tokens:
                parts[-1].append(row)
                filled += size
            else:
                parts.append([row])
                filled = size
        return parts


def _joined(rows: np.ndarray, lengths: np.ndarray, most: int) -> np.ndarray:
    """New row numbers: neighbouring rows become one as long as its length stays within `most`.

    >>> _joined(np.array([0, 0, 4, 7]), np.array([3, 2, 4, 5]), 10).tolist()
    [0, 0, 0, 1]
    """
    found, first = np.unique(rows, return_index=True)
    sizes = np.add.reduceat(lengths, first) if len(rows) else np.zeros(0, int)
    new, number, filled = np.zeros(len(found), np.int64), 0, 0
    for place, size in enumerate(sizes.tolist()):
        if filled and filled + size > most:
            number, filled = number + 1, 0
        filled += size
        new[place] = number
    return new[np.searchsorted(found, rows)]


def packed(documents: Sequence[tuple[np.ndarray, np.ndarray]], rows: Sequence[int] = ()) -> Batch:
    """Documents, each its tokens and which of them are supervised, side by side; their first tokens are context only."""
    tokens = np.concatenate([own for own, _ in documents]).astype(np.int64)
    wanted = np.concatenate([learnt for _, learnt in documents]).astype(bool)
    lengths = np.array([len(own) for own, _ in documents])
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    wanted[bounds[:-1]] = False
    target = np.flatnonzero(wanted)
    return Batch(
        torch.from_numpy(tokens),
        torch.from_numpy(np.arange(len(tokens)) - np.repeat(bounds[:-1], lengths)),
        torch.from_numpy(bounds.astype(np.int32)),
        torch.from_numpy(target - 1),
        torch.from_numpy(tokens[target]),
        rows=tuple(rows),
        longest=int(lengths.max()),
    )


@dataclass(frozen=True)
class Schedule:
    """Rows by step, for a number of training rows, rows per step and epochs."""

    rows: int
    rows_per_step: int
    epochs: float
    seed: int
    max_steps: int | None = None

    @property
    def steps(self) -> int:
        """Number of optimiser steps."""
        steps = math.ceil(round(self.rows * self.epochs) / self.rows_per_step)
        return max(1, min(steps, self.max_steps or steps))

    def seen(self, step: int) -> int:
        """Rows that were seen before a step, repeats counted."""
        return min(step * self.rows_per_step, round(self.rows * self.epochs))

    def at(self, step: int) -> list[int]:
        """Rows of a step, counted from 0; the last step of the run may have fewer."""
        places = range(self.seen(step), self.seen(step + 1))
        return [int(_permutation(self.rows, self.seed, place // self.rows)[place % self.rows]) for place in places]


def epochs_of(train: Train, corpus: Corpus) -> float:
    """Passes over the rows: as asked for, or 3 / 2 / 1 below 10k / below 50k / above documents (design, defaults)."""
    if train.epochs is not None:
        return train.epochs
    return 3.0 if corpus.documents < 10_000 else 2.0 if corpus.documents < 50_000 else 1.0


_kept: dict[tuple[int, int, int], np.ndarray] = {}


def _permutation(rows: int, seed: int, epoch: int) -> np.ndarray:
    key = (rows, seed, epoch)
    if key not in _kept:
        while len(_kept) >= 2:  # a step touches two epochs at the most
            _kept.pop(next(iter(_kept)))
        _kept[key] = np.random.default_rng(derived_seed(seed, "rows", epoch)).permutation(rows)
    return _kept[key]


def derived_seed(seed: int, purpose: str, item: object) -> int:
    """A 63-bit seed for one purpose and item, independent of everything drawn before."""
    return hashed(seed, purpose, item) >> 1
