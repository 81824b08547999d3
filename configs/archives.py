"""Opening files: plain, compressed or packed, always as a stream with a budget, never extracted to disk.

zip, tar, gzip and zstd are read member by member. A path that climbs out (`../`), a link, a nested archive or a bomb is
refused; nothing here writes a file or runs code.
"""

from __future__ import annotations

import gzip
import io
import re
import sys
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from configs.errors import DataError, UnsafeArtefactError
from configs.job import COMPRESSED, natural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from configs.spans import Span

FREE_BYTES = 256 * 2**20
"""Any file may unpack to this much."""
RATIO = 200
"""Beyond that, bytes out per byte in. Text packs 3 to 30 times; DEFLATE's ceiling, which bombs reach, is 1032."""
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib")
"""Endings of files that run code when opened the usual way."""
PROGRAMS = (".py", ".pyc", ".sh", ".exe", ".dll", ".so", ".bat", ".ps1", ".jar")
"""Endings of programs: a "loading script" is none of our business."""
PACKED = re.compile(r"\.(zip|tar|tgz|tar\.(gz|zst|bz2|xz))$")
"""Names of archives."""
HEAD_BYTES = 2**20
"""How much of a file is looked at to tell its form and its encoding."""
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, OSError)


class Member(NamedTuple):
    """One file to read: a plain one, or one inside an archive."""

    where: str
    """`notes.json`, `a.zip!b.json`."""
    name: str
    """Its name without `.gz` or `.zst`; the ending tells the form."""
    stream: IO[bytes]
    head: bytes
    """The first `HEAD_BYTES` of the file, also where `stream` is a part from its middle."""
    path: Path | None = None
    """Where it lies, if it is a plain file."""
    part: Span | None = None
    """Which part of it is asked for."""

    @property
    def first(self) -> int:
        """Number of the first line or row."""
        return 1 if self.part is None else self.part.line

    @property
    def begins(self) -> bool:
        """True unless this is a later part of a file whose first part counts for it."""
        return self.part is None or self.part.start == 0


class _Budget:
    """Bytes that one file on disk may still unpack to, shared by all its members."""

    def __init__(self, packed: int, label: str) -> None:
        self.left, self.label = FREE_BYTES + RATIO * packed, label

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise UnsafeArtefactError(
                f"unpacks to more than {RATIO} times its size: looks like a decompression bomb",
                where=self.label,
                hint="If it is meant, unpack it yourself and name the unpacked file.",
            )


def check_packed(content: bytes, where: str) -> None:
    """Refuse a zip in memory (an xlsx is one) whose members would unpack to a bomb; zipfile never reads more than declared.

    Raises:
        DataError: it is no zip.
        UnsafeArtefactError: a bomb.
    """
    with _damage(where), zipfile.ZipFile(io.BytesIO(content)) as archive:
        _Budget(len(content), where).spend(sum(info.file_size for info in archive.infolist()))


class _Stream(io.RawIOBase):
    """A raw stream of at most `left` bytes: spends the budget, turns damage into our error, comes short only at the end."""

    def __init__(self, inner: Any, budget: _Budget, where: str, left: int = sys.maxsize) -> None:
        super().__init__()
        self.inner, self.budget, self.where, self.left = inner, budget, where, left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size, wanted = 0, min(len(buffer), self.left)
        while size < wanted:
            with _damage(self.where):
                chunk = self.inner.read(wanted - size)
            if not chunk:
                break
            self.budget.spend(len(chunk))
            buffer[size : size + len(chunk)] = chunk
            size += len(chunk)
        self.left -= size
        return size


@contextmanager
def _damage(where: str) -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        cut = isinstance(error, EOFError) or "runcated" in str(error) or "unexpected end" in str(error)
        reason = "looks cut off" if cut else "is damaged, or not what its ending says"
        raise DataError(f"the file {reason} ({error})", where=where, hint="Fetch it again.") from error


def members(path: Path, label: str, inside: str = "", part: Span | None = None) -> Iterator[Member]:
    """Open a file and yield its content: itself, or each file of the archive that matches the glob `inside`.

    Members of a zip come as people count, `2.txt` before `10.txt`; a tar is a stream, and gives them as they lie in it.
    Hidden members and macOS' `__MACOSX` folders are passed over. A stream is valid until the next member is asked for.

    Raises:
        DataError: the file is missing, damaged, cut off, locked by a password, or no member matches.
        UnsafeArtefactError: a bomb, a link, a path that leaves the archive, a pickle or a program.
    """
    if not path.is_file():
        raise DataError("no such file", where=label)
    budget, name = _Budget(path.stat().st_size, label), path.name.lower()
    if not PACKED.search(name):
        with path.open("rb") as file:
            member = _opened(label, path.name, file, budget, packed=False)
            yield member if name.endswith(COMPRESSED) else _plain(member, path, file, part)
        return
    matched = False
    for inner, stream in _zip(path, label) if name.endswith(".zip") else _tar(path, label):
        if _wanted(inner, inside):
            matched = True
            yield _opened(f"{label}!{inner}", inner, stream, budget, packed=True)
    if not matched:
        raise DataError("no file in the archive matches", where=f"{label}!{inside or '*'}")


def _plain(member: Member, path: Path, file: IO[bytes], part: Span | None) -> Member:
    """A plain file, or its bytes from `start` to `stop` (where these count row groups, `path` is read instead)."""
    stream: Any = member.stream
    if part is not None and (part.start or part.stop < path.stat().st_size):
        file.seek(part.start)
        stream = io.BufferedReader(
            _Stream(file, _Budget(part.stop, member.where), member.where, part.stop - part.start)
        )
    return member._replace(stream=stream, path=path, part=part)


def _wanted(inner: str, inside: str) -> bool:
    """`*` stands for anything, `/` included: `*.json` selects in every folder of the archive."""
    parts = PurePosixPath(inner).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and (not inside or fnmatchcase(inner, inside) or fnmatchcase(inner, f"*/{inside}"))


def _opened(where: str, name: str, stream: Any, budget: _Budget, *, packed: bool) -> Member:
    """Unwrap one layer of gzip or zstd; refuse pickles and archives inside of archives."""
    lower = name.lower()
    if lower.endswith(COMPRESSED):
        source = _Stream(stream, budget, where) if packed else stream
        stream, packed = (gzip.GzipFile(fileobj=source) if lower.endswith(".gz") else _zstd(source)), True
        lower = lower.rsplit(".", 1)[0]
    if lower.endswith(PICKLES):
        raise UnsafeArtefactError(
            "may be a pickle, which runs code when opened", where=where, hint="Convert it to JSON Lines or parquet."
        )
    if lower.endswith(PROGRAMS):
        raise UnsafeArtefactError(
            "is a program, not a data set; nothing is run here",
            where=where,
            hint="Name the data with a glob: folder/*.jsonl.",
        )
    if lower.endswith((".zip", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz")):
        raise DataError("an archive in a form that is not read here", where=where, hint="Unpack it first.")
    raw: Any = _Stream(stream, budget, where) if packed else stream
    buffered = io.BufferedReader(raw, HEAD_BYTES)
    return Member(where, name[: len(lower)], buffered, buffered.peek(HEAD_BYTES)[:HEAD_BYTES])


def _zstd(stream: Any) -> Any:
    """pyarrow's reader, because zstandard's takes a truncated file for a complete one."""
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")


def _zip(path: Path, label: str) -> Iterator[tuple[str, Any]]:
    with _damage(label):
        archive = zipfile.ZipFile(path)
    with archive:
        for info in sorted(archive.infolist(), key=lambda info: natural(info.filename)):
            _check_path(info.filename, label, link=(info.external_attr >> 28) == 0xA)
            if info.is_dir():
                continue
            if info.flag_bits & 0x1:
                raise DataError("locked by a password", where=f"{label}!{info.filename}")
            with _damage(label), archive.open(info) as stream:
                yield info.filename, stream


def _tar(path: Path, label: str) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file, _damage(label):
        zstd = path.name.lower().endswith(".zst")
        with tarfile.open(fileobj=_zstd(file) if zstd else file, mode="r|" if zstd else "r|*") as archive:
            for info in archive:
                _check_path(info.name, label, link=not (info.isfile() or info.isdir()))
                if info.isfile():
                    yield info.name, archive.extractfile(info)


def _check_path(inner: str, label: str, *, link: bool) -> None:
    parts = PurePosixPath(inner.replace("\\", "/")).parts
    if ".." in parts or inner.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", inner):
        raise UnsafeArtefactError("the archive holds a path that leaves it", where=f"{label}!{inner}")
    if link:
        raise UnsafeArtefactError("the archive holds a link or a device", where=f"{label}!{inner}")
