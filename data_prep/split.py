"""Training and validation, chosen by hash: stable when documents are added, and no group on both sides.

D documents; key uint64 [D], what must stay on one side; place uint64 [D], the key's random number
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from configs.store import hashed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.recipe import Source

ENOUGH = 5
"""A channel with fewer documents may stay without validation."""


def beyond_limits(
    sources: Sequence[Source], source_D: np.ndarray, parent_D: np.ndarray, alive_D: np.ndarray, seed: int
) -> np.ndarray:
    """Where a source has `max_documents`, those with the smallest random number stay; true for the others.

    `parent_D` are the ids of the texts that documents were made from: a text and its exercises are drawn together.
    """
    beyond_D = np.zeros(len(alive_D), bool)
    for place, source in enumerate(sources):
        if source.max_documents is not None:
            own = np.flatnonzero(alive_D & (source_D == place))
            parents, of = np.unique(parent_D[own], return_inverse=True)
            draws = [hashed(seed, f"limit {source.name}", f"{parent:016x}") for parent in parents.tolist()]
            draws_P = np.array(draws, np.uint64)
            if len(draws) > source.max_documents:
                beyond_D[own] = (draws_P >= np.sort(draws_P)[source.max_documents])[of]
    return beyond_D


def held_out(
    key_D: np.ndarray, place_D: np.ndarray, channel_D: np.ndarray, alive_D: np.ndarray, part: float
) -> np.ndarray:
    """Documents whose keys are held out: about `part` of all keys; bool [D].

    A channel with at least five documents and two keys gets at least one key held out, its smallest by random number;
    its largest always trains.
    """
    alive = np.flatnonzero(alive_D)
    keys, first = np.unique(key_D[alive], return_index=True)
    place = place_D[alive][first]
    held = place < np.uint64(min(int(part * 2**64), 2**64 - 1))
    members = []
    for channel in np.unique(channel_D[alive]).tolist():
        own = np.searchsorted(keys, key_D[alive[channel_D[alive] == channel]])
        members.append(own)
        held[own[np.argmax(place[own])]] = False
    for own in members:
        if len(own) >= ENOUGH and len(np.unique(own)) > 1 and not held[own].any():
            held[own[np.argmin(place[own])]] = True
    held_D = np.zeros(len(alive_D), bool)
    held_D[alive] = held[np.searchsorted(keys, key_D[alive])]
    return held_D
