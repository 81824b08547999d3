"""Many scorecards as one table: a row for each model, a column for each task, values with their intervals.

Values are ranked together only where the models were asked the same: the items of a task are compared by their hashes, and
the metric by its name. Differences to another row are paired item by item, by the method of the report.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.errors import RecipeError, did_you_mean
from configs.store import digest_json
from eval.forms import form_of
from eval.paired import Paired
from eval.score import counted_by_item
from eval.shell import embedded, page
from eval.stats import Interval
from eval.wording import wording
from eval.words import LIKELIHOOD, NAMES, shown, signed, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from configs.records import Score, Scorecard
    from eval.answers import Line
    from eval.wording import Wording

MOST_BASELINES = 8
"""Rows up to which every row can be the baseline of the page; of more, only the one asked for."""
RESAMPLES = 2000
"""Of a bootstrap here: as many pairs of rows are compared as a report has one."""
LEAST = 0.05
"""Part of a task's items from which on their language counts as one of the task's."""
HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]")
"""Chinese characters (Unicode 16, blocks of unified ideographs)."""


@dataclass(frozen=True)
class Row:
    """One model: what it is called, its scorecard, and its answers by task."""

    name: str
    card: Scorecard
    answers: dict[str, list[Line]]


@dataclass(frozen=True)
class Cell:
    """One model on one task."""

    score: Score
    asked: str
    """What was asked and how it was counted: digest of metric and items. Values of one digest may be ranked together."""
    put: str
    """How it was put: digest of the task file, worked examples and chat form."""
    by_item: bool = True
    """Whether it can be paired: a metric of another library may be known as one value only."""


def leaderboard(rows: Sequence[Row], baseline: str = "", lang: str = "en") -> str:
    """The page over all rows; differences are to the row named `baseline`, at first to the first one.

    Raises:
        RecipeError: no row is called like this, or there is no such language.
    """
    tell = wording(lang)
    first = _place(rows, baseline)
    tasks = list(dict.fromkeys(score.task for row in rows for score in row.card.scores))
    cells = [{task: cell(row, task) for task in tasks} for row in rows]
    columns_ = [_column(task, rows, [found[task] for found in cells], tell) for task in tasks]
    against = range(len(rows)) if len(rows) <= MOST_BASELINES else [first]
    apart = _differences(rows, cells, tasks, against)
    told = {base: _told(apart, base, tell, rows, tasks) for base in against}
    values = [[_value(found[task], _reference(first, task, cells), tell) for task in tasks] for found in cells]
    return page(
        "leaderboard.html",
        ("said.js", "table.js", "board.js"),
        tell,
        rows=[_about(row) for row in rows],
        columns=columns_,
        values=values,
        told=told[first],
        first=first,
        against=list(against),
        sectors={column["sector"]: column["sector_name"] for column in columns_},
        languages=sorted({language for column in columns_ for language in column["languages"]}),
        notes=_notes(rows, tasks, cells, tell),
        board=embedded(_board(cells, tasks, told)),
    )


def cell(row: Row, task: str) -> Cell | None:
    """A model's score on a task with what it was asked; None where it was not."""
    score = next((score for score in row.card.scores if score.task == task), None)
    if score is None:
        return None
    lines = row.answers.get(task, ())
    items = sorted(line["item"] for line in lines)
    put = digest_json(list(form_of(row.card, task).values()))
    return Cell(score, digest_json([score.metric, items]), put, counted_by_item(score.metric, lines))


def languages(lines: Sequence[Line]) -> list[str]:
    """The languages that a task's items are in, by their script: zh, en, or both.

    An item is Chinese when a quarter of its letters are Han.
    """
    counted = Counter("zh" if _han(str(line["question"])) >= 0.25 else "en" for line in lines)
    return sorted(name for name, count in counted.items() if count >= LEAST * len(lines))


def _han(text: str) -> float:
    letters = sum(letter.isalpha() for letter in text)
    return len(HAN.findall(text)) / letters if letters else 0.0


def _place(rows: Sequence[Row], baseline: str) -> int:
    names = [row.name for row in rows]
    if not baseline:
        return 0
    if baseline not in names:
        hint = did_you_mean(baseline, names) or f"Rows: {', '.join(names)}."
        raise RecipeError(f"no row is called {baseline!r}", where="--baseline", hint=hint)
    return names.index(baseline)


def _reference(first: int, task: str, cells: Sequence[dict[str, Cell | None]]) -> str:
    """The question that a column ranks: the baseline's, else the one that most rows were asked."""
    own = cells[first][task]
    if own is not None:
        return own.asked
    asked = Counter(found.asked for row in cells if (found := row[task]) is not None)
    return asked.most_common(1)[0][0]


# ---------------------------------------------------------------- differences


def difference(base: Row, other: Row, task: str) -> Interval:
    """Other minus base on a task's items, paired; the method is the report's."""
    before, after = (sorted(row.answers[task], key=lambda line: str(line["item"])) for row in (base, other))
    metric = next(score.metric for score in other.card.scores if score.task == task)
    settings = other.card.settings
    draws = int(settings.get("seed", 0)), min(RESAMPLES, int(settings.get("evaluate.resamples", RESAMPLES)))
    return Paired(task, metric, (before, after), draws).measured().interval


Apart = dict[tuple[int, int, str], Interval]
"""Baseline, row and task to the difference."""


def _differences(
    rows: Sequence[Row], cells: Sequence[dict[str, Cell | None]], tasks: Sequence[str], against: Iterable[int]
) -> Apart:
    """The differences of all rows to each baseline, where both were asked the same; turned round where known already."""
    found: Apart = {}
    for base in against:
        for other in range(len(rows)):
            for task in tasks:
                ours, theirs = cells[base][task], cells[other][task]
                if base == other or ours is None or theirs is None or ours.asked != theirs.asked:
                    continue
                if not (ours.by_item and theirs.by_item):
                    continue
                known = found.get((other, base, task))
                found[base, other, task] = (
                    Interval(-known.value, -known.high, -known.low)
                    if known
                    else difference(rows[base], rows[other], task)
                )
    return found


# ---------------------------------------------------------------- what the page shows


def _column(task: str, rows: Sequence[Row], cells: Sequence[Cell | None], tell: Wording) -> dict[str, Any]:
    score = next(found.score for found in cells if found is not None)
    lines = next(row.answers.get(task, []) for row, found in zip(rows, cells, strict=True) if found is not None)
    return {
        "task": task,
        "metric": tell(NAMES.get(score.metric, score.metric)),
        "sector": score.sector,
        "sector_name": tell.name(score.sector),
        "languages": languages(lines),
        "order": "descending" if score.higher_is_better else "ascending",
    }


def _value(found: Cell | None, reference: str, tell: Wording) -> dict[str, Any]:
    """A cell as the page shows it before any script ran."""
    if found is None:
        return {}
    score = found.score
    return {
        "value": score.value,
        "shown": shown(score.metric, score.value),
        "interval": span(shown(score.metric, score.low), shown(score.metric, score.high), tell),
        "n": score.n,
        "other": found.asked != reference,
    }


def _verdict(score: Score, apart: Interval) -> str:
    if apart.low <= 0 <= apart.high:
        return ""
    return "better" if (apart.value > 0) == score.higher_is_better else "worse"


def _shown(score: Score, apart: Interval, tell: Wording) -> list[str]:
    """A difference as the page says it: value, interval, verdict."""
    metric = score.metric
    same = apart.low == apart.high == 0
    unchanged = tell("no change") if metric in LIKELIHOOD else tell("no answer changed")
    told = unchanged if same else span(signed(metric, apart.low), signed(metric, apart.high), tell)
    return [signed(metric, apart.value), told, _verdict(score, apart)]


def _told(apart: Apart, first: int, tell: Wording, rows: Sequence[Row], tasks: Sequence[str]) -> list[list[list[str]]]:
    """The differences to the first baseline, row by row and task by task; an empty list where there is none."""
    scores = {score.task: score for row in rows for score in row.card.scores}
    return [
        [
            _shown(scores[task], apart[first, other, task], tell) if (first, other, task) in apart else []
            for task in tasks
        ]
        for other in range(len(rows))
    ]


def _about(row: Row) -> dict[str, Any]:
    card = row.card
    return {
        "name": row.name,
        "engine": card.engine,
        "digest": card.model_digest[:12],
        "finished": card.made.finished[:10],
        "tokens": card.tokens,
        "seconds": card.seconds,
    }


def _board(cells: Sequence[dict[str, Cell | None]], tasks: Sequence[str], told: dict[int, Any]) -> dict[str, Any]:
    """What the script needs: which question each cell answers, and the differences to every possible baseline."""
    asked: list[list[int | None]] = []
    for task in tasks:
        known: dict[str, int] = {}
        found = [row[task] for row in cells]
        asked.append([None if one is None else known.setdefault(one.asked, len(known)) for one in found])
    return {"asked": asked, "apart": told}


def _notes(
    rows: Sequence[Row], tasks: Sequence[str], cells: Sequence[dict[str, Cell | None]], tell: Wording
) -> list[str]:
    """Which values must not be ranked together, and which only with care."""
    notes = []
    for task in tasks:
        there = [(row.name, one) for row, found in zip(rows, cells, strict=True) if (one := found[task]) is not None]
        groups: dict[str, list[str]] = {}
        for name, one in there:
            groups.setdefault(one.asked, []).append(name)
        if len(groups) > 1:
            told = "; ".join(", ".join(names) for names in groups.values())
            notes.append(
                tell(
                    "{task}: these rows were asked other items or counted otherwise: {told}.",
                    task=task.replace("_", " "),
                    told=told,
                )
            )
        if len({one.put for _, one in there}) > 1:
            notes.append(
                tell(
                    "{task}: not all rows were asked in the same form (task file, worked examples, chat).",
                    task=task.replace("_", " "),
                )
            )
    return notes
