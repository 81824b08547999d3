"""What protects a run: steps that are not finite are not applied, spikes are named, and a request to stop is honoured."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import statistics
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal

from configs.errors import StoppedError
from configs.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from training.checkpoint import State

PATIENCE = 3
"""Non-finite steps in a row before the weights are set back; one alone is a bad batch, three are a bad run."""
REWINDS = 2
"""Times that a run is set back; what is not mended then is not mended by a third."""
REMEMBERED = 64
"""Losses that a new one is compared with."""
FEWEST = 16
"""Losses before a spike is looked for: those of the first steps fall too fast."""
DEVIATIONS = 6.0
"""Median absolute deviations, scaled to a normal distribution's standard deviation (Hampel 1974), that make a spike."""
LEAST_RISE = 0.1
"""A spike is also this much above the median, as a part of it: losses that hardly vary have tiny deviations."""
RELEASE_EVERY = 64
"""Steps between two calls of `release_memory`."""


def release_memory(step: int) -> None:
    """Every few steps, give freed pages back to the system, so that a long run on a CPU does not grow.

    Packed batches all differ in size and leave holes in glibc's heap. Measured on the embedded base over 130 steps of the
    quickstart: every 4 steps 44 CPU seconds and 1.21 GB at the peak, every 16 36 and 1.21, every 64 29 and 1.23, never 29 and
    1.27. Does nothing where the C library has no malloc_trim.
    """
    if step and step % RELEASE_EVERY == 0:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def is_spike(loss: float, before: Sequence[float]) -> bool:
    """Whether a loss stands far above the last ones, by their median and median absolute deviation.

    >>> is_spike(3.0, [2.0, 2.1] * 8), is_spike(2.2, [2.0, 2.1] * 8), is_spike(9.0, [2.0] * 15)
    (True, False, False)
    """
    if len(before) < FEWEST:
        return False
    middle = statistics.median(before)
    spread = 1.4826 * statistics.median(abs(other - middle) for other in before)
    return loss > middle + max(DEVIATIONS * spread, LEAST_RISE * abs(middle))


Verdict = Literal["apply", "not finite", "spike", "rewind"]


class Guard:
    """Judges each step before it is applied, and remembers a request to stop."""

    def __init__(self, on_spike: str, *, alone: bool = True) -> None:
        self.on_spike, self.alone = on_spike, alone
        self.asked_by = 0

    def judge(self, loss: float, grad_norm: float, state: State) -> Verdict:
        """What becomes of a step: only `apply` moves the weights, and `spike` where spikes are only reported.

        `state.in_a_row` and `state.recent` are brought up to date: they survive a stop, so that a resumed run judges alike.
        A spike is remembered even if it is not applied: medians bear it, and losses that stay high are the new level once
        they are half of what is remembered, so that a run is never skipped to its end.
        """
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            state.in_a_row += 1
            return "rewind" if state.in_a_row % PATIENCE == 0 else "not finite"
        state.in_a_row = 0
        spike = is_spike(loss, state.recent)
        state.recent = [*state.recent, loss][-REMEMBERED:]
        return "spike" if spike else "apply"

    def applies(self, verdict: Verdict) -> bool:
        """Whether a step with this verdict moves the weights."""
        return verdict == "apply" or (verdict == "spike" and self.on_spike == "report")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note SIGINT and SIGTERM in `asked_by`, for the loop to honour; a second one leaves at once, like kill -9."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, _frame: Any) -> None:
        if self.asked_by and self.alone:  # a launcher sends its own after the terminal's; it kills if it must
            os._exit(128 + number)
        self.asked_by = number
        say(f"  stopping after this step{' (once more to stop at once)' if self.alone else ''}")

    def stop(self, step: int, number: int) -> StoppedError:
        """The error that ends a run interrupted by a signal, after its checkpoint was written."""
        return StoppedError(
            f"stopped by {signal.Signals(number).name} after step {step}; the checkpoint is complete",
            signal_number=number,
            hint="Do the same again to resume.",
        )


def shown(rows: Sequence[int]) -> str:
    """Some row numbers for a message."""
    return ", ".join(map(str, rows[:8])) + (" ..." if len(rows) > 8 else "")
