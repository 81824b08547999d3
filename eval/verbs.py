"""The verbs of evaluation beside its two stages: any model on any task, the report, what a corpus is worth.

The front door's own page is `sectorlm.py`; this one is a part of it, and as light: nothing is imported before a verb needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs import options as opt
from configs.answer import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    import typer


def report(
    targets: opt.Reported,
    *,
    out: opt.Page = opt.REPORT,
    lang: opt.Lang = "en",
    baseline: opt.Baseline = "",
    force: opt.Force = False,
) -> Answer:
    """Write one page to look at: a run's comparison with all its answers, or a leaderboard of many scorecards.

    Example: sectorlm report runs/finance --lang zh
    """
    from eval.render import render

    found = render(targets, out, lang=lang, baseline=baseline, force=force)
    told = f"{found.kind} of {', '.join(found.rows)}"
    return Answer({"file": str(found.path), "kind": found.kind, "rows": found.rows}, [told, f"wrote {found.path}"])


VERBS: tuple[Callable[..., object], ...] = (report,)


def of_evaluation(app: typer.Typer) -> None:
    """Add the verbs of evaluation."""
    for verb in VERBS:
        app.command()(verb)
