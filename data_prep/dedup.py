"""Exact duplicates over all sources, on normalised content; the first one in the recipe's order stays."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING

from configs.store import digest_bytes
from data_prep.ledger import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from data_prep.documents import Document


def normal_form(text: str) -> str:
    """The form in which two texts count as the same: NFKC, case folded, white space collapsed (UAX 15, UAX 44).

    >>> normal_form("Ｒate  rises\\n") == normal_form("rate RISES")
    True
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def content_digest(document: Document) -> str:
    """Digest of the normalised content."""
    return digest_bytes(normal_form(document.content).encode())


def drop_duplicates(documents: Iterable[Document]) -> Iterator[Verdict]:
    """Judge each document after the first of its content a duplicate; sets the documents' digest."""
    seen: set[str] = set()
    for document in documents:
        digest = content_digest(document)
        yield Verdict(replace(document, digest=digest), "duplicate" if digest in seen else "")
        seen.add(digest)
