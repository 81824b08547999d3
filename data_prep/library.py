"""All shards of the first pass, read together: columns as arrays, and the text of any document when it is asked for."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from configs.chat import Message
from data_prep.documents import content_of
from data_prep.near import Signatures
from data_prep.shards import page_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

OPEN_FILES, OPEN_BATCHES = 4, 64
"""Files of texts that are kept open, and batches of them that are kept unpacked, some 130,000 characters each."""


class Library:
    """Documents of all shards, numbered in corpus order."""

    def __init__(self, folders: Sequence[Path], sources: Sequence[int]) -> None:
        self.folders, self.sources = folders, sources
        """`sources`: for each shard the place of its source in the recipe."""
        self.pages = [page_of(folder) for folder in folders]
        counts = [table_at(folder, "columns").num_rows if self._has(folder) else 0 for folder in folders]
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.count = int(self.starts[-1])
        self._texts = lru_cache(maxsize=OPEN_FILES)(self._open_texts)
        self._batch = lru_cache(maxsize=OPEN_BATCHES)(self._read_batch)

    @staticmethod
    def _has(folder: Path) -> bool:
        return (folder / "columns.arrow").is_file()

    def slice_of(self, shard: int) -> slice:
        """The numbers of a shard's documents."""
        return slice(int(self.starts[shard]), int(self.starts[shard + 1]))

    def columns(self, *names: str) -> dict[str, np.ndarray]:
        """Columns over all documents; `source` is the place of the source in the recipe."""
        found: dict[str, np.ndarray] = {}
        for name in names:
            if name == "source":
                found[name] = np.repeat(np.array(self.sources, np.int64), np.diff(self.starts))
                continue
            parts = [column_of(table_at(folder, "columns"), name) for folder in self.folders if self._has(folder)]
            found[name] = np.concatenate(parts) if parts else np.empty(0)
        return found

    def statistics(self, shard: int) -> dict[str, np.ndarray]:
        """All columns of one shard."""
        if not self._has(self.folders[shard]):
            return {}
        table = table_at(self.folders[shard], "columns")
        return {name: column_of(table, name) for name in table.column_names}

    def flat(self, shard: int, name: str, kind: Any, width: int = 1) -> np.ndarray:
        """A flat file of a shard, memory-mapped: [rows, width], or [rows] for a width of 1."""
        path = self.folders[shard] / f"{name}.bin"
        if not path.is_file() or not path.stat().st_size:
            return np.empty((0, width) if width > 1 else 0, kind)
        data = np.memmap(path, kind, mode="r")
        return data.reshape(-1, width) if width > 1 else data

    def shard_of(self, number: int) -> tuple[int, int]:
        """The shard that holds a document, and the number of its first."""
        shard = int(np.searchsorted(self.starts, number, side="right")) - 1
        return shard, int(self.starts[shard])

    @property
    def signatures(self) -> Signatures:
        """The MinHash signatures of all documents."""
        return Signatures([folder / "signatures.bin" for folder in self.folders])

    def passages(self) -> list[Callable[[], tuple[np.ndarray, np.ndarray]]]:
        """For each shard what opens the hashes of its passages, uint64 [P], and how many each document has, int32 [D]."""
        return [partial(self._passages, shard) for shard in range(len(self.folders))]

    def _passages(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        counts = self.statistics(shard).get("passages", np.empty(0, np.int32))
        return self.flat(shard, "passages", np.uint64), counts

    def where(self, number: int) -> str:
        """File and line of a document."""
        return str(self._line(number)["where"])

    def content(self, number: int) -> str:
        """All text of a document, the turns of a conversation one below the other."""
        line = self._line(number)
        return content_of(line["text"], turns_of(line["turns"]))

    def _line(self, number: int) -> dict[str, str]:
        shard, start = self.shard_of(number)
        batch, row = self._place(shard, number - start)
        table = self._batch(shard, batch)
        return {name: table.column(name)[row].as_py() for name in ("where", "text", "turns")}

    def _place(self, shard: int, row: int) -> tuple[int, int]:
        ends = self._ends(shard)
        batch = int(np.searchsorted(ends, row, side="right"))
        return batch, row - (int(ends[batch - 1]) if batch else 0)

    @lru_cache(maxsize=256)  # noqa: B019 - a library lives as long as its stage
    def _ends(self, shard: int) -> np.ndarray:
        with pa.memory_map(str(self.folders[shard] / "texts.arrow")) as file:
            reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=[0]))
            return np.cumsum([reader.get_batch(place).num_rows for place in range(reader.num_record_batches)])

    def _open_texts(self, shard: int) -> pa.ipc.RecordBatchFileReader:
        return pa.ipc.open_file(pa.memory_map(str(self.folders[shard] / "texts.arrow")))

    def _read_batch(self, shard: int, batch: int) -> pa.RecordBatch:
        return self._texts(shard).get_batch(batch)


def text_batches(folder: Path) -> Iterator[dict[str, list[str]]]:
    """The texts of a shard, batch by batch."""
    for batch in _record_batches(folder):
        yield batch.to_pydict()


def lines_of(folder: Path, numbers: np.ndarray) -> Iterator[dict[str, str]]:
    """The lines of a shard's documents with these numbers, which ascend."""
    start = 0
    for batch in _record_batches(folder):
        own = numbers[np.searchsorted(numbers, start) : np.searchsorted(numbers, start + batch.num_rows)] - start
        if len(own):
            yield from batch.take(pa.array(own)).to_pylist()
        start += batch.num_rows


def _record_batches(folder: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(folder / "texts.arrow")) as file:
        reader = pa.ipc.open_file(file)
        for place in range(reader.num_record_batches):
            yield reader.get_batch(place)


def turns_of(stored: str) -> tuple[Message, ...]:
    """A conversation as texts.arrow has it."""
    import json

    return tuple(Message(*turn) for turn in json.loads(stored)) if stored else ()


def table_at(folder: Path, name: str) -> pa.Table:
    """An Arrow file of a shard, memory-mapped."""
    with pa.memory_map(str(folder / f"{name}.arrow")) as file:
        return pa.ipc.open_file(file).read_all()


def column_of(table: pa.Table, name: str) -> np.ndarray:
    """A column of a table as one array."""
    return np.asarray(table.column(name).combine_chunks().to_numpy(zero_copy_only=False))
