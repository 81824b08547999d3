"""What a verb found, and the only place that prints it: for a person, or as JSON for a script.

Nothing heavy is imported here: the front door needs this page for `--help` too.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typer import Typer

GLOBAL = ("--json", "--quiet")
"""Switches that may stand anywhere on the line."""
KEYBOARD_INTERRUPT = 130
"""What typer makes of a KeyboardInterrupt."""


class Answer(NamedTuple):
    """What a verb found: plain data for `--json`, and texts and rich tables for a person."""

    data: Any
    shown: Sequence[Any]


def lead(app: Typer, words: Sequence[str]) -> int:
    """Run one command line from beginning to end, errors included; returns the exit code."""
    from configs.exits import get_ready, understood
    from configs.spread import rank

    stopped = get_ready()
    words = [word for word in GLOBAL if word in words] + [word for word in words if word not in GLOBAL]
    try:
        return answered(app, words)
    except SystemExit as done:  # shell completion leaves like this
        return done.code if isinstance(done.code, int) else 0
    except BaseException as error:
        found = understood(error, stopped)
        number = rank()
        with suppress(OSError, ValueError):
            if number and found.code > 128:
                pass  # the main process says it for all
            elif "--json" in words and not number:
                put(_json(found.as_json()))
            else:
                print(f"sectorlm{f' (process {number})' if number else ''}: {found}", file=sys.stderr, flush=True)
        return found.code


def answered(app: Typer, words: Sequence[str]) -> int:
    """Run the verb and print what it found; typer's own exits (help, version, completion) come back as a number."""
    answer = app(args=list(words), prog_name="sectorlm", standalone_mode=False)
    if answer == KEYBOARD_INTERRUPT:
        raise KeyboardInterrupt
    if isinstance(answer, Answer):
        if "--json" in words:
            put(_json(answer.data))
        else:
            from configs.view import drawn

            put("\n".join(it if isinstance(it, str) else drawn(it) for it in answer.shown))
    return answer if isinstance(answer, int) else 0


def put(text: str) -> None:
    """Print on stdout; where the reader of our pipe has left there is nothing more to say, and nothing to flush."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _json(data: Any) -> str:
    """JSON on one line; where stdout cannot show every character, escapes stand for them instead of `?`.

    What JSON has no form for, dates and bytes of a data file and NaN, is text.
    """
    data = json.loads(json.dumps(data, default=str), parse_constant=str)
    return json.dumps(data, ensure_ascii=not (sys.stdout.encoding or "").lower().startswith("utf"))
