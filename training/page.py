"""The run page: run.html beside metrics.jsonl, the curves of a run while it goes on and after it.

One file that opens from disk: no network, light and dark, on paper too. It is whole without its script, which only shows
the values at the pointer. All numbers are those of metrics.jsonl and run.json.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import SectorLMError
from configs.figures import Frame, Level, Mark, Series, drawn, short
from configs.frame import template
from configs.load import load_recipe
from configs.records import Run, flat
from configs.store import write_atomic
from training.curves import Curves, number, read_curves
from training.step_figures import figure, losses, pace

SIGNS = {
    "not finite": "×",
    "spike": "▲",
    "rewind": "←",
    "micro-batch halved": "½",
    "resumed": "→",
    "early stop": "■",
    "phase": "|",
}
"""Event to the sign that stands for it on the curves and in the table."""
LISTED = 200
"""Events in the table; all of them are marked on the curves."""
KNOWN = ("sector", "general")
"""Channels with a colour of their own."""
COLOURS = 6
"""Colours of sources and probes, in the order of their names."""
SHARE = 0.02
"""Part of the time that `refresh_page` may cost."""

_written: dict[Path, tuple[float, float]] = {}
"""When each page was written last, and how long that took, in seconds of the monotonic clock."""


def write_page(folder: Path, title: str) -> Path:
    """Write `folder`/run.html from metrics.jsonl, and from run.json once it is there.

    Raises:
        StorageError: the disk is full or read-only.
    """
    started = time.monotonic()
    curves = read_curves(folder / "metrics.jsonl")
    run = None
    with suppress(SectorLMError):
        run = Run.read_if_there(folder / "run.json")
    marks = _marks(curves)
    page = template(Path(__file__).with_name("run.html")).render(
        title=title,
        state=_state(curves, run),
        told=_told(curves),
        facts=_facts(curves, run),
        held=[it for it in (_held(curves, marks), *_others(curves, marks), _budget(curves, marks)) if it],
        losses=losses(curves, marks),
        pace=pace(curves, marks),
        events=_events(curves),
        left_out=max(0, len(curves.events) - LISTED),
        table=_table(curves),
        settings=run.settings if run else _asked(folder),
        inputs=run.inputs if run else {},
        files=run.files if run else {},
        run=run,
        short=short,
    )
    path = folder / "run.html"
    write_atomic(path, page)
    now = time.monotonic()
    _written[folder] = (now, now - started)
    return path


def refresh_page(folder: Path, title: str) -> Path:
    """Write the page again unless that would cost more than SHARE of the time; for calls during a run.

    Raises:
        StorageError: the disk is full or read-only.
    """
    last, cost = _written.get(folder, (0.0, 0.0))
    if (folder / "run.html").is_file() and time.monotonic() - last < cost / SHARE:
        return folder / "run.html"
    return write_page(folder, title)


# ---------------------------------------------------------------- words


def _state(curves: Curves, run: Run | None) -> str:
    if run is not None:
        stopped = any(event["event"] == "early stop" for event in curves.events)
        return "stopped early" if stopped else "finished"
    return "as of its last look" if curves.steps else "before its first step"


def _told(curves: Curves) -> str:
    """How the held-out loss of each channel moved from the base on, in a sentence each."""
    parts: list[str] = []
    for name, points in _in_order(curves.held_out("validation")):
        (_, before), (_, after) = points[0], points[-1]
        moved = "fell" if after < before else "rose" if after > before else "stayed"
        level = f"from {before:.3f} to {after:.3f}" if after != before else f"at {after:.3f}"
        parts.append(f"on {name} text it {moved} {level}" if parts else f"{name} text {moved} {level}")
    return f"Held-out loss of {'; '.join(parts)} nats per token." if parts else ""


def _in_order(found: dict[str, list[tuple[float, float]]]) -> list[tuple[str, list[tuple[float, float]]]]:
    """The sector, then general text, then others by name."""
    return sorted(found.items(), key=lambda it: (KNOWN.index(it[0]) if it[0] in KNOWN else len(KNOWN), it[0]))


def _facts(curves: Curves, run: Run | None) -> dict[str, str]:
    """The figures at the top of the page."""
    last = curves.steps[-1] if curves.steps else {}
    facts = {}
    if curves.steps:
        facts = {"step": f"{last['step']:,}"}
        if np.isfinite(tokens := number(last.get("tokens"))):
            facts["tokens"] = short(tokens)
        speeds = curves.column("tokens_per_second")
        if np.isfinite(speeds).any():
            facts["tokens per second"] = f"{np.nanmedian(speeds):,.0f}"
        memory = curves.column("memory_bytes")
        if np.isfinite(memory).any():
            facts["memory"] = f"{np.nanmax(memory) / 1e9:,.2f} GB"
    if run is not None:
        facts |= {"base": run.base, "method": run.method, "epochs": f"{run.epochs:.3g}"}
        facts["trained parameters"] = f"{short(run.trainable_parameters)} of {short(run.total_parameters)}"
        facts["peak memory"] = f"{run.peak_memory_bytes / 1e9:,.2f} GB"
        facts.pop("memory", None)
    counts = {kind: sum(event["event"] == kind for event in curves.events) for kind in SIGNS}
    return facts | {kind: str(count) for kind, count in counts.items() if count and kind != "phase"}


def _asked(folder: Path) -> dict[str, Any]:
    """The recipe's settings of training, while there is no record yet."""
    with suppress(SectorLMError):
        recipe = load_recipe(folder.parent / "recipe.yaml")
        return flat(recipe.train, "train") | {"seed": recipe.seed}
    return {}


def _events(curves: Curves) -> list[dict[str, Any]]:
    """The rows of the table of events."""
    return [
        {
            "sign": SIGNS.get(event["event"], "•"),
            "kind": event["event"],
            "step": event["step"],
            "message": event.get("message", ""),
            "rows": ", ".join(map(str, rows)) if isinstance(rows := event.get("rows"), list) else "",
        }
        for event in curves.events[:LISTED]
    ]


def _table(curves: Curves) -> dict[str, Any]:
    """All looks as a table: one row each, one column for each number that any of them has."""
    parts = {part: curves.held_out(part) for part in ("validation", "sources", "probes")}
    columns = [(part, name) for part, found in parts.items() for name in sorted(found)]
    values = {key: dict(parts[key[0]][key[1]]) for key in columns}
    rows = [
        {
            "step": look["step"],
            "tokens": look.get("tokens"),
            "best": bool(look.get("best")),
            "cells": [values[key].get(float(look["step"])) for key in columns],
        }
        for look in curves.looks
    ]
    return {"columns": [name for _, name in columns], "rows": rows}


# ---------------------------------------------------------------- figures


def _marks(curves: Curves) -> list[Mark]:
    """Every event on the axis of steps; where a phase begins that no event tells of, the step that names it."""
    marks = []
    for event in curves.events:
        kind = str(event["event"])
        told = f"step {event['step']:,}: {event.get('message') or kind}"
        sign = str(event.get("phase") or SIGNS.get(kind, "•"))
        marks.append(Mark(event["step"], sign, kind.replace(" ", "-"), told))
    before = None
    for line in curves.steps if not any(mark.style == "phase" for mark in marks) else ():
        phase = line.get("phase")
        if before is not None and phase != before:
            marks.append(Mark(line["step"], str(phase), "phase", f"step {line['step']:,}: {phase}"))
        before = phase
    return marks


def _best(curves: Curves) -> list[Mark]:
    """The last look that was the best so far."""
    best = [look["step"] for look in curves.looks if look.get("best")][-1:]
    return [Mark(step, "best", "best", f"best checkpoint: step {step:,}") for step in best]


def _held(curves: Curves, marks: list[Mark]) -> dict[str, Any] | None:
    """Held-out loss of each channel, with the base's own as a level."""
    series, levels = [], []
    for place, (name, points) in enumerate(_in_order(curves.held_out("validation"))):
        style = name if name in KNOWN else f"c{place % COLOURS}"
        series.append(Series(name, style, points, dots=True))
        if points[0][0] == 0:
            levels.append(Level(points[0][1], style, f"{name}, base: {points[0][1]:.4f}"))
    frame = Frame("steps", "nats per token", [*marks, *_best(curves)], levels, live=True)
    hint = "Dotted: the base, before the first step." if levels else ""
    return figure("Held-out loss", drawn(series, frame), hint)


def _others(curves: Curves, marks: list[Mark]) -> list[dict[str, Any] | None]:
    """Held-out loss of each source, and the scores of quick probes, where there are any."""
    figures = []
    for part, title, unit in (
        ("sources", "Held-out loss by source", "nats per token"),
        ("probes", "Quick probes", "score"),
    ):
        found = sorted(curves.held_out(part).items())
        series = [Series(name, f"c{at % COLOURS}", points, dots=True) for at, (name, points) in enumerate(found)]
        figures.append(figure(title, drawn(series, Frame("steps", unit, marks, live=True)), ""))
    return figures


def _budget(curves: Curves, marks: list[Mark]) -> dict[str, Any] | None:
    """What general text has lost, against what it may lose."""
    found = curves.held_out("budget")
    if "spent" not in found:
        return None
    limit = found["limit"][-1][1] if "limit" in found else None
    levels = [Level(limit, "limit", f"limit: {limit:g}", shaded=True)] if limit is not None else []
    most = max(y for _, y in found["spent"])
    roof = Series("", "hidden", [(0.0, max(1.25 * limit, most))], dots=False) if limit is not None else None
    series = [Series("spent", "general", found["spent"], dots=True), *([roof] if roof else [])]
    svg = drawn(series, Frame("steps", "rise of general loss", [*marks, *_best(curves)], levels, live=True))
    return figure("Forgetting budget", svg, f"Shaded: beyond the limit of {limit:g}." if levels else "")
