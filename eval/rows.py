"""The rows of a report's tables: differences by task and sector, by subject, on clean and touched items, and their noise."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from eval.forest import Beside, axis, forest
from eval.score import LOWER_IS_BETTER
from eval.words import NAMES, OUT_OF_HUNDRED, baseline, ends, interval, kind, p_value, shown, signed, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markupsafe import Markup

    from configs.records import Apart, Comparison, Difference, Pooled, Scorecard
    from eval.wording import Wording


def tables(comparison: Comparison, tell: Wording) -> list[dict[str, Any]]:
    """A table for each sector and one for the general panel, each with its pooled rows and an axis for each unit."""
    everything = (*comparison.differences, *comparison.general)
    ordered = sorted(comparison.differences, key=lambda row: (row.sector != comparison.sector, row.sector))
    groups = [(sector, list(rows)) for sector, rows in groupby(ordered, key=lambda row: row.sector)]
    found = []
    for sector, rows in groups:
        title = tell("General tasks") if sector == "general" else tell("{sector} tasks", sector=_title(sector, tell))
        pooled = [pool for pool in comparison.pooled if pool.name == sector != "general"]
        found.append(_table(f"tasks-{sector}", title, (rows, pooled), everything, (comparison, tell)))
    general = [pool for pool in comparison.pooled if pool.name == "general"]
    if comparison.general:
        rows = list(comparison.general)
        found.append(_table("general", tell("General ability"), (rows, general), everything, (comparison, tell)))
    return found


def _title(sector: str, tell: Wording) -> str:
    name = tell.name(sector)
    return name[:1].upper() + name[1:]


def _table(
    anchor: str,
    title: str,
    rows: tuple[Sequence[Difference], Sequence[Pooled]],
    everything: Sequence[Difference],
    about: tuple[Comparison, Wording],
) -> dict[str, Any]:
    comparison, tell = about
    margins = anchor == "general" and comparison.panel is not None
    entries = [_entry(row, everything, _margin(row, comparison) if margins else None, tell) for row in rows[0]]
    units = list({_unit(row.metric): row for row in rows[0]}.values())
    return {
        "id": anchor,
        "title": title,
        "entries": entries,
        "pooled": [_pooled(pool, _scale(pool.metric, everything), tell) for pool in rows[1]],
        "axes": [{"unit": unit(row.metric, tell), "figure": _axis(row, everything)} for row in units],
        "margins": margins,
    }


def _entry(row: Difference, everything: Sequence[Difference], margin: float | None, tell: Wording) -> dict[str, Any]:
    scale, sign = _scale(row.metric, everything), 1 if row.higher_is_better else -1
    apart = interval(row, tell)
    label = tell(
        "{task}: difference {difference}, 95 % interval {interval}",
        task=row.task, difference=signed(row.metric, row.difference), interval=apart,
    )  # fmt: skip
    figure = forest(_placed(row, sign), scale, row.verdict, label, Beside(row.noise, margin))
    return {
        "row": row,
        "forest": figure,
        "interval": apart,
        "told": _told(row, tell),
        "verdict": tell("undecided") if verdict(row) == "not distinguishable" else verdict(row, tell),
        "metric": tell(NAMES.get(row.metric, row.metric)),
        "baselines": [(baseline(name, tell), value) for name, value in row.baselines.items()],
        "worth": sign * row.difference,
    }


def _told(row: Difference, tell: Wording) -> str:
    """What stands in small print under a row's interval."""
    told = [f"p {p_value(row.p_holm)}"]
    if row.noise is not None:
        told.append(tell("noise {value}", value=shown(row.metric, row.noise)))
    if row.detectable is not None:
        told.append(tell("could show {value}", value=shown(row.metric, row.detectable)))
    if row.foreseen is not None:
        told.append(tell("foreseen {value}", value=shown(row.metric, row.foreseen)))
    if row.clean is not None and row.clean_n is not None and row.clean_n < row.n:
        told.append(
            tell("{value} on the {count} untouched", value=signed(row.metric, row.clean), count=f"{row.clean_n:,}")
        )
    return " · ".join(told)


def _pooled(pool: Pooled, scale: float, tell: Wording) -> dict[str, Any]:
    sign = -1 if pool.metric in LOWER_IS_BETTER else 1
    value, low, high = _placed(pool, sign)
    style = "better" if low > 0 else "worse" if high < 0 else "not distinguishable"
    apart = ends(pool.metric, pool, tell)
    label = tell(
        "{count} tasks together: difference {difference}, 95 % interval {interval}",
        count=pool.tasks, difference=signed(pool.metric, pool.difference), interval=apart,
    )  # fmt: skip
    figure = forest((value, low, high), scale, style, label, Beside(pooled=True))
    return {"row": pool, "forest": figure, "interval": apart, "metric": tell(NAMES.get(pool.metric, pool.metric))}


# ---------------------------------------------------------------- parts of a task


def parts(rows: Iterable[Difference], kind: str, tell: Wording) -> list[dict[str, Any]]:
    """The parts of each task that has some, on one scale a task: its `subjects`, or `parts`, all items before them."""
    found = []
    for row in rows:
        apart: tuple[Apart, ...] = getattr(row, kind)
        if apart:
            everything: list[tuple[str, Apart | Difference]] = [(tell("all items"), row)]
            everything += [(_part(one.name, kind, tell), one) for one in apart]
            scale = max(max(abs(one.low), abs(one.high)) for _, one in everything)
            entries = [_apart(name, one, row, scale, tell) for name, one in everything]
            found.append({"row": row, "entries": entries, "axis": _axis_at(row, scale), "unit": unit(row.metric, tell)})
    return found


def _part(name: str, kind: str, tell: Wording) -> str:
    return tell(name) if kind == "parts" else name.replace("_", " ") or tell("none named")


def _apart(name: str, one: Apart | Difference, row: Difference, scale: float, tell: Wording) -> dict[str, Any]:
    apart, sign = ends(row.metric, one, tell), 1 if row.higher_is_better else -1
    label = tell(
        "{task}: difference {difference}, 95 % interval {interval}",
        task=f"{row.task}, {name}", difference=signed(row.metric, one.difference), interval=apart,
    )  # fmt: skip
    figure = forest(_placed(one, sign), scale, row.verdict if one is row else "part", label)
    return {"name": name, "one": one, "whole": one is row, "forest": figure, "interval": apart}


def noise(rows: Iterable[Difference], cards: tuple[Scorecard, Scorecard]) -> list[dict[str, Any]]:
    """Effect and noise floor of each task that was asked twice."""
    sides = [{score.task: score.noise for score in card.scores} for card in cards]
    found = [{"row": row, "base": sides[0].get(row.task), "tuned": sides[1].get(row.task)} for row in rows]
    return [entry for entry in found if entry["base"] or entry["tuned"]]


# ---------------------------------------------------------------- scales


def unit(metric: str, tell: Wording) -> str:
    """What a metric's difference is counted in."""
    return tell("points") if metric in OUT_OF_HUNDRED else kind(metric, tell)


def _unit(metric: str) -> str:
    return "points" if metric in OUT_OF_HUNDRED else metric


def _placed(row: Difference | Pooled | Apart, sign: int) -> tuple[float, float, float]:
    low, high = sorted((sign * row.low, sign * row.high))
    return sign * row.difference, low, high


def _scale(metric: str, everything: Sequence[Difference]) -> float:
    """The largest end of an interval among the rows of the same unit."""
    alike = [other for other in everything if _unit(other.metric) == _unit(metric)]
    return max((max(abs(other.low), abs(other.high)) for other in alike), default=0.0)


def _axis(row: Difference, everything: Sequence[Difference]) -> Markup:
    return _axis_at(row, _scale(row.metric, everything))


def _axis_at(row: Difference, scale: float) -> Markup:
    factor = 100 if row.metric in OUT_OF_HUNDRED else 1
    digits = 0 if scale * factor >= 4 else 1 if factor == 100 else 2 if scale >= 0.04 else 3
    return axis(scale, 1 if row.higher_is_better else -1, digits, factor)


def _margin(row: Difference, comparison: Comparison) -> float | None:
    """The loss of this row that the panel still accepts, in the row's own unit."""
    panel = comparison.panel
    if panel is None:
        return None
    return panel.margin if row.higher_is_better else panel.margin_text * row.base
