"""Training and validation, chosen by hash: stable when documents are added, and no group on both sides."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from configs import store
from data_prep.ledger import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from configs.recipe import Source
    from data_prep.documents import Document

ENOUGH = 5
"""A channel with fewer documents may stay without validation."""


def hashed(seed: int, purpose: str, name: str) -> float:
    """The random number in [0, 1) that belongs to (seed, purpose, name)."""
    return store.hashed(seed, purpose, name) / 2**64


def limited(documents: Sequence[Document], sources: Sequence[Source], seed: int) -> Iterator[Verdict]:
    """Where a source has `max_documents`, those with the smallest hash of (seed, source, id) stay."""
    beyond: set[str] = set()
    for source in sources:
        if source.max_documents is not None:
            ids = [document.id for document in documents if document.source == source.name]
            ids.sort(key=lambda name: hashed(seed, f"limit {source.name}", name))
            beyond.update(ids[source.max_documents :])
    for document in documents:
        yield Verdict(document, "over max_documents" if document.id in beyond else "")


def split(documents: Sequence[Document], sources: Sequence[Source], part: float, seed: int) -> set[str]:
    """The keys (group, else digest of the content) whose documents are held out: about `part` of all keys.

    A channel with at least five documents and two keys gets at least one key held out, its smallest by hash; its largest
    always trains.
    """
    channels = {source.name: source.channel for source in sources}
    by_channel: dict[str, Counter[str]] = {}
    for document in documents:
        by_channel.setdefault(channels[document.source], Counter())[key_of(document)] += 1
    place = {key: hashed(seed, "validation", key) for keys in by_channel.values() for key in keys}
    held = {key for key in place if place[key] < part}
    held -= {max(keys, key=place.__getitem__) for keys in by_channel.values()}
    for keys in by_channel.values():
        if keys.total() >= ENOUGH and len(keys) > 1 and held.isdisjoint(keys):
            held.add(min(keys, key=place.__getitem__))
    return held


def key_of(document: Document) -> str:
    """What must stay on one side: the group if there is one, else the content."""
    return f"group {document.group}" if document.group else document.digest
