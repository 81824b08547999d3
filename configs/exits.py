"""The way out: signals that stop cleanly, and every exception as one of ours with its exit code."""

from __future__ import annotations

import errno
import io
import os
import shlex
import signal
import sys
import tempfile
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from configs.errors import MemoryExhaustedError, RecipeError, SectorLMError, StoppedError, StorageError
from configs.spread import CALLED
from configs.store import refusal, storage_error

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Refusals of the machine that only writing meets."""
REFUSALS = (*NO_SPACE, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE)
"""What the machine's refusals are; any other OSError that comes this far is our bug."""
NO_MEMORY = ("can't allocate memory", "out of memory", "not enough memory", "cublas_status_alloc_failed")
"""How torch's RuntimeErrors say that there is no memory left."""


def get_ready() -> list[int]:
    """Set this process up for a command; returns the list in which a received signal will stand.

    Streams write `?` where a terminal knows no such character, and a closed one leads nowhere; libraries keep their bars
    and warnings to themselves (SECTORLM_DEBUG lets them speak); children find our packages through the installation, not
    the folder they start in.
    """
    _open_closed_streams()
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    if not os.environ.get("SECTORLM_DEBUG"):
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    return _watch_signals()


def _open_closed_streams() -> None:
    """Point closed streams at /dev/null, lest a file that we open takes their number and receives what they are sent."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - stays open


def _watch_signals() -> list[int]:
    """From here on SIGTERM stops like Ctrl-C, and a second signal of either kind leaves at once."""
    received: list[int] = []

    def stop(number: int, _frame: Any) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return received


def understood(error: BaseException, stopped: list[int]) -> SectorLMError:
    """Any exception as one of ours: typer's usage errors, signals, a full disk, no memory, and our own bugs.

    The traceback of a bug goes to a file, and to the terminal too if SECTORLM_DEBUG is set.
    """
    again = f"The same command goes on: sectorlm {os.environ.get(CALLED) or shlex.join(sys.argv[1:])}"
    if isinstance(error, SectorLMError):
        if isinstance(error, StoppedError):
            error.hint = again
        return error
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        number = stopped[0] if stopped else signal.SIGINT
        return StoppedError(f"stopped by {signal.Signals(number).name}", signal_number=number, hint=again)
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        return RecipeError(error.format_message(), hint="See `sectorlm --help`, or --help behind the verb.")
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _names(error, NO_MEMORY)):
        hint = "Lower train.micro_batch_tokens or evaluate.batch_tokens, or choose a smaller base."
        return MemoryExhaustedError("out of memory", hint=hint)
    refused = refusal(error)
    if refused is not None and refused.errno in REFUSALS:
        return _refused(refused)
    if os.environ.get("SECTORLM_DEBUG"):
        traceback.print_exception(error)
    hint = "Please report it; set SECTORLM_DEBUG=1 to see the details."
    with (
        suppress(OSError),
        tempfile.NamedTemporaryFile("w", prefix="sectorlm-bug-", suffix=".txt", delete=False, encoding="utf-8") as file,
    ):
        traceback.print_exception(error, file=file)
        hint = f"Please report it with {file.name}, which holds the details."
    first = (str(error).strip().splitlines() or [""])[0]
    return SectorLMError(f"this is our bug: {type(error).__name__}: {first}", hint=hint)


def _names(error: BaseException, words: tuple[str, ...]) -> bool:
    return any(word in str(error).lower() for word in words)


def _refused(error: OSError) -> StorageError:
    """A refusal of the machine that met no one better informed."""
    where = str(error.filename or "")
    if error.errno in NO_SPACE and where:
        return storage_error(error, Path(where))
    return StorageError((error.strerror or str(error)).lower(), where=where)
