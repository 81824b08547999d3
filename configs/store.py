"""The one seam between SectorLM and the disk: hashes, atomic writes, record last, the run-folder lock.

Every commit of state follows one order, so that a stop at any instant leaves the old state or the new one:
stage in a sibling folder -> record with sha256 last -> fsync files -> move the old to trash -> rename -> fsync the parent.
What a stop left in between has a hidden name (.NAME.staging, .NAME.trash, .NAME.removed, .NAME.part); whoever locks the
run folder next finishes it. Every step passes through `_disk`, where a test makes the n-th call fail, and the environment
variable SECTORLM_CRASH_AT=POINT[:N] stops the process hard the N-th time a named point is passed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import time
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from configs.errors import DataError, LockedError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOUSE = Path(__file__).resolve().parent.parent
"""The folder that holds the stages and `assets/`: paths like `assets/base` are found here from anywhere."""

_fault: Callable[[str, Path], None] | None = None
"""A test's hook: called as (operation, path) before each disk operation, raises to make it fail."""

_passed: dict[str, int] = {}


def crash_point(name: str) -> None:
    """Stop this process hard (no clean-up, like kill -9) if SECTORLM_CRASH_AT names this point.

    `SECTORLM_CRASH_AT=train.step:7` stops the seventh time `train.step` is passed. Tests use it; nobody else should.
    """
    wanted, _, nth = os.environ.get("SECTORLM_CRASH_AT", "").partition(":")
    if wanted != name:
        return
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] >= int(nth or 1):
        os._exit(137)


@contextmanager
def _disk(operation: str, path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into ours, and let tests make the n-th call fail."""
    try:
        if _fault is not None:
            _fault(operation, path)
        yield
    except OSError as error:
        raise storage_error(error, path) from error


def refusal(error: BaseException) -> OSError | None:
    """The operating system's refusal in an exception; safetensors and tokenizers only tell it: `(os error 28)`."""
    if isinstance(error, OSError):
        return error
    told = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(told[1]), os.strerror(int(told[1]))) if told else None


def storage_error(error: OSError, path: Path) -> StorageError:
    """Our error for a refusal of the operating system while writing at `path`."""
    folder = path if path.is_dir() else path.parent
    cut_short = error.errno is None and re.search(r"\d+ requested and \d+ written", str(error))  # numpy, on a full disk
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or cut_short:
        return StorageError(
            f"the disk is full while writing {path.name}",
            where=str(folder),
            hint="Free some space there and run the same command again: finished work is kept.",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StorageError(
            f"no permission to write {path.name}",
            where=str(folder),
            hint="Choose another place with --runs DIR, or change the permissions.",
        )
    return StorageError(f"{error.strerror or error} ({path.name})", where=str(folder))


# ---------------------------------------------------------------- hashes


def digest_bytes(data: bytes) -> str:
    """sha256 in hexadecimal (FIPS 180-4)."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes, read in bounded memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_once(path: Path) -> str:
    """The same of a file that is an input, read once in a process while its size and its time stay the same."""
    state = path.stat()
    return _digest_of(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _digest_of(path: Path, _size: int, _changed: int) -> str:
    return digest_file(path)


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_json(value: Any) -> str:
    """sha256 of a JSON value, independent of key order."""
    return digest_bytes(canonical_json(value))


def digest_folder(folder: Path, patterns: tuple[str, ...] = ("*",)) -> str:
    """sha256 over the names and contents of the files directly in `folder` that match `patterns`."""
    names = sorted({path.name for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return digest_json({name: digest_file(folder / name) for name in names})


def hashed(seed: int, purpose: str, name: object) -> int:
    """The random number that belongs to (seed, purpose, name): 64 bits of its sha256."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{purpose}:{name}".encode()).digest()[:8])


# ---------------------------------------------------------------- atomic writes


def _fsync(path: Path) -> None:
    with _disk("fsync", path):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data`, or leave it untouched: no reader ever sees a part of it.

    Raises:
        StorageError: the disk is full, read-only or not there.
    """
    with _replacing(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def written_whole(path: Path) -> Iterator[TextIO]:
    """A text file to write line by line that takes its name only when it is complete.

    Raises:
        StorageError: the disk is full, read-only or not there.
    """
    with _replacing(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        yield file


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write, which takes its place on leaving without an error."""
    part = _hidden(path, f"{socket.gethostname()}-{os.getpid()}.part")  # the parts of an array job write the same names
    try:
        with _disk("write", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
        _fsync(part)
        with _disk("rename", path):
            part.replace(path)
        _fsync(path.parent)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A fresh sibling folder to fill; on leaving without an error it becomes `target` in one rename.

    What stood at `target` before is moved aside first and removed last. An error removes the staging folder
    and leaves `target` as it was; after a failure of the very last step it is already the new one, whole.

    Raises:
        StorageError: the disk is full, read-only or not there.
    """
    staging, trash = _hidden(target, "staging"), _hidden(target, "trash")
    _settle(target)
    with _disk("remove", staging):
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir(parents=True)
    try:
        try:
            yield staging
        except Exception as error:
            found = refusal(error)
            if found is None:
                raise
            raise storage_error(found, target) from error
        for path in (*sorted(staging.rglob("*")), staging):
            _fsync(path)
        crash_point("store.before_rename")
        if target.exists():
            with _disk("rename", target):
                target.rename(trash)
        crash_point("store.between_renames")
        with _disk("rename", staging):
            staging.rename(target)
        _fsync(target.parent)
    except BaseException:
        with suppress(OSError):  # where the old cannot be put back, the new stays for `tidy`
            if trash.exists() and not target.exists():
                trash.rename(target)
            shutil.rmtree(staging, ignore_errors=True)
        raise
    with _disk("remove", trash):
        shutil.rmtree(trash, ignore_errors=True)


def _hidden(path: Path, state: str) -> Path:
    return path.with_name(f".{path.name}.{state}")


def _settle(target: Path) -> None:
    """After a stop between the two renames of `staged`: the new folder, which is whole by then, or else the old one."""
    staging, trash = _hidden(target, "staging"), _hidden(target, "trash")
    if not trash.exists():
        return
    with _disk("rename", target):
        if not target.exists():
            (staging if staging.exists() else trash).rename(target)
        shutil.rmtree(trash, ignore_errors=True)


def tidy(root: Path) -> None:
    """Finish below `root` what a stopped process left half-done, and remove its leavings; call it holding the lock.

    Raises:
        StorageError: the folder cannot be written.
    """
    for trash in sorted(root.rglob(".*.trash")):
        _settle(trash.with_name(trash.name.removeprefix(".").removesuffix(".trash")))
    for left in sorted(path for state in ("staging", "removed", "part") for path in root.rglob(f".*.{state}")):
        with _disk("remove", left):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder so that no reader meets half of it: it loses its name first."""
    if folder.exists():
        removed = _hidden(folder, "removed")
        with _disk("remove", folder):
            shutil.rmtree(removed, ignore_errors=True)
            folder.rename(removed)
            shutil.rmtree(removed, ignore_errors=True)


def files_of(folder: Path, prefix: str = "") -> dict[str, str]:
    """sha256 of every file below `folder` by its path in the record's folder: what a record vouches for."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {(Path(prefix) / path.relative_to(folder)).as_posix(): digest_file(path) for path in paths}


def verify_files(folder: Path, files: dict[str, str]) -> None:
    """Compare a folder with what its record vouches for.

    Raises:
        DataError: a file is missing or its bytes changed; the message names the first one.
    """
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise DataError("file is missing", where=str(path), hint="Run the stage again; it makes it anew.")
        if digest_file(path) != expected:
            raise DataError(
                "bytes differ from the sha256 in the record",
                where=str(path),
                hint="The file was changed or damaged after it was written. Delete its folder and run the stage again.",
            )


# ---------------------------------------------------------------- run folders


class RunFolder:
    """Where the records of one recipe live: `runs/NAME/`, the five stage folders in it, and the base if it is extended."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root / "base"
        self.corpus = root / "corpus"
        self.run = root / "run"
        self.scorecards = root / "scorecards"
        self.report = root / "report"
        self.release = root / "release"
        self.shards = root / "shards"

    @contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[None]:
        """Hold this run folder alone; the kernel lets go of it when the process dies, however it dies.

        With `shared` the parts of one array job hold it together, and nobody else.

        Raises:
            LockedError: another living process holds it; the message names pid, host and since when.
            StorageError: the folder cannot be written.
        """
        import fcntl  # POSIX only, and only a run needs it

        path = self.root / ".lock"
        with _disk("write", path):
            self.root.mkdir(parents=True, exist_ok=True)
            handle = path.open("a+", encoding="utf-8")
        with handle:
            try:
                fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LockedError(
                    f"run folder in use by {_holder(handle)}",
                    where=str(self.root),
                    hint="Wait for it, or give this run another name: --set name=OTHER.",
                ) from error
            except OSError as error:  # a file system without locks
                raise storage_error(error, path) from error
            since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
            with _disk("write", path):
                handle.truncate(0)
                handle.write(f"pid {os.getpid()} on {socket.gethostname()} since {since}\n")
                handle.flush()
            if not shared:  # what looks left over may be another part's work
                tidy(self.root)
            yield


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Let one process at a time work on `folder`; the others wait.

    Raises:
        StorageError: the folder's parent cannot be written.
    """
    import fcntl

    path = folder.with_name(f".{folder.name}.lock")
    with _disk("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a", encoding="utf-8")
    with handle:
        with _disk("lock", path):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _holder(handle: TextIO) -> str:
    """Who holds a lock, as its file says: the line of a dead process is old, and the new one is about to be written."""
    for _ in range(20):
        handle.seek(0)
        told = re.match(r"pid (\d+) on (\S+) since .+", handle.read())
        if told and (told[2] != socket.gethostname() or _lives(int(told[1]))):
            return told[0]
        time.sleep(0.05)
    return "another process"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, and alive
        return True
    return True
