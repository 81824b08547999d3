"""The verbs of evaluation beside its two stages: any model on any task, the report, what a corpus is worth.

The front door's own page is `sectorlm.py`; this one is a part of it, and as light: nothing is imported before a verb needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import typer

VERBS: tuple[Callable[..., object], ...] = ()


def of_evaluation(app: typer.Typer) -> None:
    """Add the verbs of evaluation."""
    for verb in VERBS:
        app.command()(verb)
