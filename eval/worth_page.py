"""A valuation in words: the headline, the table of its tasks, and how it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eval.words import NAMES, OUT_OF_HUNDRED, p_value, shown, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.worth import Arm, Effect, Valuation

HOW = (
    "Difference: trained with the corpus minus trained with general text in its place, each the mean over the seeds. Every "
    "run answers the same items. The 95 % interval is over items and seeds together: the variance of a paired bootstrap over "
    "clusters of items plus the variance between seeds of each side, as a Student interval with Satterthwaite's degrees of "
    "freedom. Beside it stand the interval over items alone, these runs given, and over seeds alone, these items given. p after "
    "Holm's correction. Accuracies in percent."
)


def told(record: Valuation) -> str:
    """What the corpus is worth, in a sentence."""
    seeds = f"{len(record.arms_with)} seed{'s' if len(record.arms_with) != 1 else ''}"
    parts = [f"{_name(one)} {_change(one)}" for one in record.effects]
    return (
        f"With this corpus instead of as many tokens of general text ({seeds} each): {'; '.join(parts)}. "
        f"General ability: {'; '.join(f'{_name(one)} {_change(one)}' for one in record.general) or 'not measured'}."
    )


def worth_rows(effects: Sequence[Effect]) -> list[dict[str, Any]]:
    """One row for each task, for a terminal or a page."""
    rows = []
    for one in effects:
        spread = "one seed" if one.low_seeds is None else _span(one, one.low_seeds, one.high_seeds or 0.0)
        rows.append(
            {
                "task": _name(one),
                "base": shown(one.metric, one.base),
                "without": shown(one.metric, one.without_corpus),
                "with": shown(one.metric, one.with_corpus),
                "difference": signed(one.metric, one.difference),
                "95 % interval": _span(one, one.low, one.high),
                "over items": _span(one, one.low_items, one.high_items),
                "over seeds": spread,
                "p": p_value(one.p_holm),
                "n": f"{one.n:,}" if one.n == one.clusters else f"{one.n:,} in {one.clusters:,}",
                "verdict": one.verdict,
            }
        )
    return rows


def worth_markdown(record: Valuation) -> str:
    """The page: what it is worth, the tables, the runs, what limits it, and how it was made."""
    seeds = ", ".join(str(arm.seed) for arm in record.arms_with)
    parts = [
        f"# {record.name}: what the corpus is worth",
        told(record),
        "## Sector tasks",
        _table(worth_rows(record.effects)),
        "## General ability",
        _table(worth_rows(record.general)) if record.general else "Not measured.",
        "## Under each seed",
        _table(_seed_rows(record)),
        "## The runs",
        f"Base {record.base}; seeds {seeds}.",
        _table([_run_row(arm) for arm in (*record.arms_with, *record.arms_without)]),
        *record.notes,
        "## How",
        HOW,
    ]
    return "\n\n".join(parts) + "\n"


def _seed_rows(record: Valuation) -> list[dict[str, Any]]:
    rows = []
    for one in (*record.effects, *record.general):
        sides = (("with", one.seeds_with), ("without", one.seeds_without))
        values = {name: " ".join(shown(one.metric, value) for value in some) for name, some in sides}
        rows.append({"task": _name(one)} | values)
    return rows


def _run_row(arm: Arm) -> dict[str, Any]:
    return {"run": arm.name, "steps": f"{arm.steps:,}", "tokens": f"{arm.tokens:,}", "passes": f"{arm.passes:.1f}"}


def _name(one: Effect) -> str:
    return f"{one.task.replace('_', ' ')}, {NAMES.get(one.metric, one.metric).partition(',')[0]}"


def _change(one: Effect) -> str:
    unit = " points" if one.metric in OUT_OF_HUNDRED else ""
    return f"{signed(one.metric, one.difference)}{unit} ({_span(one, one.low, one.high)}, {one.verdict})"


def _span(one: Effect, low: float, high: float) -> str:
    return f"{signed(one.metric, low)} to {signed(one.metric, high)}"


def _table(rows: list[dict[str, Any]]) -> str:
    """Rows with the same keys as a Markdown table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(map(str, row.values())) + " |" for row in rows]
    return "\n".join(lines)
