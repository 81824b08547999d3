"""Training and validation, chosen by hash: stable when documents are added, and no group on both sides."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from data_prep.read import Document

ENOUGH = 5
"""A channel with fewer documents may stay without validation."""


def hashed(seed: int, purpose: str, name: str) -> float:
    """The random number in [0, 1) that belongs to (seed, purpose, name)."""
    return int.from_bytes(sha256(f"{seed}:{purpose}:{name}".encode()).digest()[:8]) / 2**64


def choose(documents: Sequence[Document], limits: Mapping[str, int | None], seed: int) -> set[str]:
    """The ids of the documents that stay where a source has a limit: those with the smallest hash of (seed, source, id)."""
    chosen = {document.id for document in documents if limits[document.source] is None}
    for source, limit in limits.items():
        if limit is not None:
            ids = [document.id for document in documents if document.source == source]
            chosen |= set(sorted(ids, key=lambda name: hashed(seed, f"limit {source}", name))[:limit])
    return chosen


def split(documents: Sequence[Document], channels: Mapping[str, str], part: float, seed: int) -> set[str]:
    """The keys (group, else digest of the content) whose documents are held out; about `part` of all keys.

    A channel with at least five documents and two keys gets at least one key held out: its smallest by hash.
    """
    by_channel: dict[str, dict[str, int]] = {}
    for document in documents:
        keys = by_channel.setdefault(channels[document.source], {})
        keys[key_of(document)] = keys.get(key_of(document), 0) + 1
    place = {key: hashed(seed, "validation", key) for keys in by_channel.values() for key in keys}
    held = {key for key in place if place[key] < part}
    held -= {max(keys, key=place.__getitem__) for keys in by_channel.values()}  # something is always left to learn
    for keys in by_channel.values():
        if sum(keys.values()) >= ENOUGH and len(keys) > 1 and held.isdisjoint(keys):
            held.add(min(keys, key=place.__getitem__))
    return held


def key_of(document: Document) -> str:
    """What must stay on one side: the group if there is one, else the content."""
    return f"group {document.group}" if document.group else document.digest
