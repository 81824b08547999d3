"""The seam to the disk: whichever call fails and wherever the process dies, a folder or file is the old or the new one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from configs import store
from configs.errors import DataError, LockedError, StorageError
from configs.store import (
    HOUSE,
    RunFolder,
    files_of,
    refusal,
    remove_folder,
    staged,
    storage_error,
    verify_files,
    write_atomic,
)

if TYPE_CHECKING:
    from pathlib import Path


def fail_at(monkeypatch: pytest.MonkeyPatch, nth: int, number: int = errno.ENOSPC) -> list[str]:
    """Make the n-th disk operation from now on fail, once; returns the list of operations as they are asked for."""
    seen: list[str] = []

    def fault(operation: str, path: Path) -> None:
        seen.append(operation)
        if len(seen) == nth:
            raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(store, "_fault", fault)
    return seen


def read(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


OLD, NEW = {"a.txt": "old", "b/c.txt": "old too"}, {"a.txt": "new", "b/d.txt": "new too"}


def fill(folder: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize("before", [{}, OLD], ids=["nothing there", "old folder there"])
def test_a_staged_folder_is_old_or_new_whichever_of_its_disk_calls_fails(tmp_path, monkeypatch, before) -> None:
    """Fail at call 1, 2, 3 ... until it succeeds; only a failed last fsync or clean-up leaves the new one, whole."""
    target = tmp_path / "corpus"
    results = []
    for nth in range(1, 30):
        if before:
            with staged(target) as staging:
                fill(staging, before)
        seen = fail_at(monkeypatch, nth)
        try:
            with staged(target) as staging:
                fill(staging, NEW)
        except StorageError as error:
            assert "the disk is full" in error.message
            results.append(read(target) if target.exists() else {})
            assert not [path.name for path in tmp_path.iterdir() if path.name.endswith(".staging")]
        monkeypatch.setattr(store, "_fault", None)
        if len(seen) < nth:
            break
        remove_folder(target)
    assert read(target) == NEW
    assert (
        len(results) == nth - 1 >= 7
    )  # make, 4 fsyncs below and 1 of the folder, rename, fsync of the parent, clean-up
    assert [it for it in results if it not in (before, NEW)] == []
    assert results.index(NEW) >= len(results) - 2


def test_a_file_is_old_or_new_whichever_of_its_four_disk_calls_fails(tmp_path, monkeypatch) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")
    found = []
    for nth in (1, 2, 3, 4):
        fail_at(monkeypatch, nth)
        with pytest.raises(StorageError):
            write_atomic(path, "new")
        found.append((path.read_text(), [it.name for it in tmp_path.iterdir()]))
    assert found == [("old", ["run.json"])] * 3 + [("new", ["run.json"])]
    assert len(fail_at(monkeypatch, 5)) == 0
    write_atomic(path, "newer")
    assert path.read_text() == "newer"


CRASHING = """
import sys
from pathlib import Path
from configs.store import RunFolder
from configs.store import staged
folder = RunFolder(Path(sys.argv[1]))
with folder.lock(), staged(folder.corpus) as staging:
    (staging / "a.txt").write_text("new")
"""


@pytest.mark.parametrize(("point", "text"), [("store.before_rename", "old"), ("store.between_renames", "new")])
def test_killed_around_the_rename_the_next_to_hold_the_lock_finds_one_whole_folder(tmp_path, point, text) -> None:
    """Before the first rename the old one stands; between the two the new one is whole already, and is put in place."""
    folder = RunFolder(tmp_path / "runs" / "t")
    fill(folder.corpus, {"a.txt": "old"})
    command = [sys.executable, "-c", CRASHING, str(folder.root)]
    died = subprocess.run(command, cwd=HOUSE, env=os.environ | {"SECTORLM_CRASH_AT": point}, check=False)
    assert died.returncode == 137
    with folder.lock():
        assert read(folder.corpus) == {"a.txt": text}
        assert sorted(path.name for path in folder.root.iterdir()) == [".lock", "corpus"]


def test_leavings_of_a_stopped_process_are_gone_once_the_lock_is_held(tmp_path) -> None:
    folder = RunFolder(tmp_path / "t")
    fill(
        folder.root, {".report.staging/x": "1", "run/.step-000003.removed/x": "2", "run/.run.json.part": "3", "a": "4"}
    )
    with folder.lock():
        assert read(folder.root).keys() == {".lock", "a"}


def test_an_error_within_leaves_the_old_folder_and_no_staging(tmp_path) -> None:
    target = tmp_path / "release"
    fill(target, OLD)
    with pytest.raises(ZeroDivisionError), staged(target) as staging:
        fill(staging, NEW)
        raise ZeroDivisionError
    assert (read(target), [path.name for path in tmp_path.iterdir()]) == (OLD, ["release"])


def test_a_full_disk_is_understood_from_whoever_tells_it(tmp_path) -> None:
    """The system by number 28, safetensors in words, numpy by what it could write."""
    told = [
        OSError(errno.ENOSPC, "No space left on device"),
        refusal(RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")),
        OSError("100000 requested and 8192 written"),
    ]
    assert [storage_error(error, tmp_path / "x").message for error in told] == ["the disk is full while writing x"] * 3
    assert refusal(RuntimeError("something else")) is None


def test_a_second_process_is_told_who_holds_the_folder_and_never_a_dead_one(tmp_path) -> None:
    folder = RunFolder(tmp_path / "t")
    with folder.lock():
        line = (folder.root / ".lock").read_text()
        with pytest.raises(LockedError, match=rf"in use by pid {os.getpid()} on \S+ since 2"), folder.lock():
            pass
        dead = subprocess.Popen(["true"])
        dead.wait()
        (folder.root / ".lock").write_text(line.replace(f"pid {os.getpid()}", f"pid {dead.pid}"))
        with pytest.raises(LockedError, match="in use by another process"), folder.lock():
            pass
    with folder.lock():
        assert (folder.root / ".lock").read_text().startswith(f"pid {os.getpid()} on ")


def test_a_missing_and_a_changed_file_are_named(tmp_path) -> None:
    fill(tmp_path, OLD)
    files = files_of(tmp_path)
    verify_files(tmp_path, files)
    (tmp_path / "b" / "c.txt").write_text("old tou")
    with pytest.raises(DataError, match=r"c\.txt: bytes differ"):
        verify_files(tmp_path, files)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError, match=r"a\.txt: file is missing"):
        verify_files(tmp_path, files)
