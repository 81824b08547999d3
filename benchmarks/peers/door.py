"""A counter and a clock at a model's door; run by both sides of the benchmark of scoring."""

from __future__ import annotations

import time
from typing import Any


class Door:
    """Counts the tokens that go in, padding included, and the CPU seconds until they are through."""

    def __init__(self) -> None:
        self.tokens, self.seconds, self.begin = 0, 0.0, 0.0

    def enter(self, _: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Before a forward pass."""
        self.tokens += (args[0] if args else named["input_ids"]).numel()
        self.begin = time.process_time()

    def leave(self, *_: Any) -> None:
        """After it."""
        self.seconds += time.process_time() - self.begin
