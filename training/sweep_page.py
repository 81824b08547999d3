"""The page of a sweep: the curves of all runs laid over one another, and the table of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.figures import Frame, Level, Series, drawn, thinned
from configs.frame import template
from configs.store import write_atomic
from configs.trials import shown
from training.curves import Curves, number, read_curves, smoothed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from configs.records import Corpus
    from training.members import Outcome

COLOURED = 6
"""The best so many runs have a colour and a name in the figures; the others are thin lines."""
EDGE = 16
"""Room on the right of a figure: runs that end alike would lie on one another there, so a line above names them."""
CHANNELS = {"sector": "Held-out loss of the sector", "general": "Held-out loss of general text"}


def write_page(
    path: Path,
    title: str,
    outcomes: Sequence[Outcome],
    folders: Mapping[str, Path],
    caution: str,
    corpus: Corpus,
) -> None:
    """Write the page of runs in the order of the table; `folders` has the run folder of each.

    Raises:
        StorageError: the disk is full or read-only.
    """
    curves = [read_curves(folders[one.name] / "metrics.jsonl") for one in outcomes]
    held = dict.fromkeys((it.channel for it in corpus.sources), 0)
    for source in corpus.sources:
        held[source.channel] += source.tokens_validation
    page = template(Path(__file__).with_name("sweep.html")).render(
        title=title,
        told=_told(outcomes),
        caution=caution,
        figures=[it for it in (*(_held(name, outcomes, curves) for name in CHANNELS), _loss(curves)) if it],
        keys=list(outcomes[0].settings) if outcomes else [],
        rows=[_row(place, one) for place, one in enumerate(outcomes)],
        failed=[one for one in outcomes if one.state == "failed"],
        held=held,
        coloured=COLOURED,
    )
    write_atomic(path, page)


def _told(outcomes: Sequence[Outcome]) -> str:
    """The best run in a sentence."""
    best = outcomes[0] if outcomes else None
    if best is None or best.state != "finished" or best.sector is None:
        return ""
    settings = ", ".join(f"{key.removeprefix('train.')} {shown(value)}" for key, value in best.settings.items())
    rise = "" if best.rise is None else f", while general loss moved by {100 * best.rise:+.1f} %"
    start = "" if best.base_sector is None else f" from the base's {best.base_sector:.3f}"
    return f"Lowest held-out loss of the sector: {best.sector:.3f}{start}{rise}, with {settings}."


def _row(place: int, one: Outcome) -> dict[str, Any]:
    return {
        "number": place + 1,
        "style": _style(place),
        "settings": [shown(value) for value in one.settings.values()],
        "one": one,
        "state": "stopped early" if one.state == "finished" and one.stopped_early else one.state,
    }


def _style(place: int) -> str:
    return f"c{place}" if place < COLOURED else "rest"


def _laid_over(lines: list[list[tuple[float, float]]], levels: Sequence[Level] = (), *, dots: bool) -> Markup:
    """A curve for each run, the best on top; what lies above all that have a colour is drawn at the upper edge."""
    series = [
        Series(f"run {place + 1}", _style(place), points, dots=dots and place < COLOURED)
        for place, points in enumerate(lines)
    ]
    most = max((y for points in lines[:COLOURED] for _, y in points), default=None)
    if most is not None:
        most = max(most, *(level.y for level in levels), 0.0)
    return drawn(series[::-1], Frame("tokens", "nats per token", levels=levels, most=most, right=EDGE))


def _held(channel: str, outcomes: Sequence[Outcome], curves: Sequence[Curves]) -> dict[str, Any] | None:
    """Held-out loss over tokens, with the base's as a level."""
    lines = []
    for one in curves:
        looks = [(number(it.get("tokens")), it.get("validation")) for it in one.looks]
        points = [(at, number(losses.get(channel))) for at, losses in looks if isinstance(losses, dict)]
        lines.append([point for point in points if np.isfinite(point).all()])
    bases = [it.base_sector if channel == "sector" else it.base_general for it in outcomes]
    base = next((it for it in bases if it is not None), None)
    levels = [] if base is None else [Level(base, channel, f"base: {base:.4f}")]
    svg = _laid_over(lines, levels, dots=True)
    return {"title": CHANNELS[channel], "svg": svg, "hint": "Dotted: the base."} if svg else None


def _loss(curves: Sequence[Curves]) -> dict[str, Any] | None:
    """The training loss of each run, as a moving mean."""
    lines = [thinned(one.column("tokens"), smoothed(one.column("loss"))) if one.steps else [] for one in curves]
    svg = _laid_over(lines, dots=False)
    hint = "Moving means. Runs of different batches or phases do not see the same rows at the same place."
    return {"title": "Training loss", "svg": svg, "hint": hint} if svg else None
