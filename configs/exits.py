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
from pathlib import Path
from typing import Any

from configs.errors import MemoryExhaustedError, RecipeError, SectorLMError, StoppedError
from configs.store import storage_error

REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""What the machine's refusals are; any other OSError that comes this far is our bug."""


def get_ready() -> list[int]:
    """Set this process up for a command; returns the list in which a received signal will stand.

    Streams write `?` where a terminal knows no such character; libraries keep their bars and warnings to themselves
    (SECTORLM_DEBUG lets them speak); children find our packages through the installation, not the folder they start in.
    """
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    if not os.environ.get("SECTORLM_DEBUG"):
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    return _watch_signals()


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
    if isinstance(error, SectorLMError):
        return error
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        again = f"The same command goes on: sectorlm {shlex.join(sys.argv[1:])}"
        number = stopped[0] if stopped else signal.SIGINT
        return StoppedError(f"stopped by {signal.Signals(number).name}", signal_number=number, hint=again)
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        return RecipeError(error.format_message(), hint="See `sectorlm --help`, or --help behind the verb.")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        hint = "Lower train.micro_batch_tokens or evaluate.batch_tokens, or choose a smaller base."
        return MemoryExhaustedError("out of memory", hint=hint)
    if isinstance(error, OSError) and error.errno in REFUSALS:
        return storage_error(error, Path(error.filename or "."))
    if os.environ.get("SECTORLM_DEBUG"):
        traceback.print_exception(error)
    with tempfile.NamedTemporaryFile(
        "w", prefix="sectorlm-bug-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        traceback.print_exception(error, file=file)
    first = (str(error).strip().splitlines() or [""])[0]
    hint = f"Please report it with {file.name}, which holds the details."
    return SectorLMError(f"this is our bug: {type(error).__name__}: {first}", hint=hint)
