"""The unit of work: a shard is some files of one source, or a part of a large one, and has a folder for what is made of it.

    runs/NAME/shards/read/00003/       texts.arrow  columns.arrow  signatures.bin ...  shard.json
    runs/NAME/shards/leaks/            the index of all test items
    runs/NAME/shards/tokens/00003/     tokens.bin  supervised.bin  documents.arrow  pieces.bin  shard.json

Shards depend on the recipe and its files, never on the number of workers. `shard.json` is written last: it names what
the shard was made from (`key`) and vouches for its files, so a shard whose key and files are right is never done again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.errors import DataError
from configs.hub import HUB
from configs.job import find_files
from configs.read import digest_files, labels_of
from configs.spans import Span, spans_of
from configs.store import canonical_json, digest_json, files_of, remove_folder, verify_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from configs.recipe import Source

SHARD_BYTES = 16 << 20
"""Bytes of files in a shard: small enough that workers finish together, large enough that starting one costs little."""
PAGE = "shard.json"


class Shard(NamedTuple):
    """Some files of one path of one source."""

    number: int
    source: str
    path: str
    """The path as the recipe has it: `archive.zip!inner/*.json` or `hf:org/name` say more than the files."""
    spans: tuple[Span, ...]
    labels: tuple[str, ...]
    """How records name each span's file."""
    digests: tuple[str, ...]
    """sha256 of each span's file."""

    @property
    def size(self) -> int:
        """Bytes, or 1 for a data set of the hub."""
        return sum(max(span.size, 1) for span in self.spans) or 1

    def identity(self) -> list[Any]:
        """What it is, wherever it lies."""
        parts = zip(self.labels, self.digests, self.spans, strict=True)
        return [self.source, self.path, [[label, digest, *span[1:]] for label, digest, span in parts]]


def source_files(source: Source, roots: tuple[Path, ...]) -> list[Path]:
    """The local files of a source, in the order they are read.

    Raises:
        DataError: a path matches nothing.
        UnsafeArtefactError: a file lies outside of the roots.
    """
    return [file for path in source.paths if not path.startswith(HUB) for file in find_files(path, roots)]


def plan_shards(sources: Sequence[Source], roots: tuple[Path, ...]) -> list[Shard]:
    """Cut all sources into shards, in the recipe's order.

    Raises:
        DataError: a path matches nothing.
        UnsafeArtefactError: a file lies outside of the roots.
    """
    shards: list[Shard] = []
    for source in sources:
        found = [(path, [] if path.startswith(HUB) else find_files(path, roots)) for path in source.paths]
        known = _labels(found)
        for path, files in found:
            for spans, labels, digests in _groups(source, path, files, known):
                shards.append(Shard(len(shards), source.name, path, spans, labels, digests))
    return shards


_Group = tuple[tuple[Span, ...], tuple[str, ...], tuple[str, ...]]


def _labels(found: Sequence[tuple[str, Sequence[Path]]]) -> dict[Path, str]:
    """Short names of a source's files, path by path; with the recipe's path where two paths would have the same."""
    labels = {file: label for _, files in found for file, label in labels_of(files).items()}
    if len(set(labels.values())) == len(labels):
        return labels
    return {file: f"{path}: {label}" for path, files in found for file, label in labels_of(files).items()}


def _groups(source: Source, path: str, files: Sequence[Path], labels: Mapping[Path, str]) -> Iterator[_Group]:
    """Spans of consecutive files that make up about SHARD_BYTES, with their labels and digests."""
    if path.startswith(HUB):
        yield (), (), ()
        return
    digests = _digests(files)
    group: list[Span] = []
    size = 0
    for file in files:
        for span in spans_of(file, source.format, source.encoding, SHARD_BYTES):
            if group and size + span.size > SHARD_BYTES:
                yield _grouped(group, labels, digests)
                group, size = [], 0
            group.append(span)
            size += span.size
    if group:
        yield _grouped(group, labels, digests)


def _digests(files: Sequence[Path]) -> dict[Path, str]:
    return {file: next(iter(digest_files([file], ()).values())) for file in files}


def _grouped(group: Sequence[Span], labels: Mapping[Path, str], digests: Mapping[Path, str]) -> _Group:
    return tuple(group), tuple(labels[span.path] for span in group), tuple(digests[span.path] for span in group)


# ---------------------------------------------------------------- folders


def folder_of(root: Path, state: str, shard: Shard) -> Path:
    """Where `state` (`read` or `tokens`) of a shard lies."""
    return root / state / f"{shard.number:05d}"


def remove_beyond(root: Path, shards: int) -> None:
    """Remove what an earlier plan of more shards left; call it where no other process works on shards.

    Raises:
        StorageError: a folder cannot be removed.
    """
    for folder in sorted(root.glob("*/[0-9]*")):
        if folder.name.isdecimal() and int(folder.name) >= shards:
            remove_folder(folder)


def key_of_work(shard: Shard, settings: Sequence[Any]) -> str:
    """What a shard's files depend on, as one digest."""
    return digest_json([shard.identity(), *settings])


def is_complete(folder: Path, key: str) -> bool:
    """Whether the shard's files were made from this and are whole."""
    try:
        page = page_of(folder)
        verify_files(folder, page["files"])
    except (DataError, KeyError, TypeError, OSError):
        return False
    return bool(page["key"] == key)


def page_of(folder: Path) -> dict[str, Any]:
    """What shard.json says: key, files, and the counts of the work.

    Raises:
        DataError: there is none, or it is damaged.
    """
    try:
        return dict(json.loads((folder / PAGE).read_bytes()))
    except (OSError, ValueError) as error:
        raise DataError("the shard is not complete", where=str(folder), hint="Run the same command again.") from error


def sign(staging: Path, key: str, counts: Mapping[str, Any]) -> None:
    """Write shard.json, the last file of a shard."""
    page = {"key": key, "files": files_of(staging), **counts}
    (staging / PAGE).write_bytes(canonical_json(page))
