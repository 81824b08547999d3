"""The answers of both models side by side: every item for the page's script, and some of each kind for who has none.

What became of an item is told by whether it was right before and after; of a passage by its bits per byte.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.store import hashed
from eval.score import BY_CLASS, RIGHT_OR_WRONG, columns, item_values, right, unreadable
from eval.shell import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.records import Corpus, Difference
    from eval.answers import Line

    Sides = tuple[dict[str, list[Line]], dict[str, list[Line]]]

OUTCOMES = ("gained", "lost", "both right", "both wrong", "easier", "harder")
"""What became of an item; the last two of a passage."""
MARKS = ("unreadable answer", "truncated", "touched")
"""What else an item can be: bit 0, 1, 2."""
SHOWN = 3
"""How many items of each kind stand on the page without a script."""


class Given(NamedTuple):
    """What one model gave to an item."""

    line: Line
    right: bool = False
    part: float | None = None
    """How far it is right, 0 to 1, where the metric tells more than right or wrong."""
    invalid: bool = False


Pair = tuple[Given, Given]
"""What base and tuned gave."""


def everything(read: Sequence[tuple[Difference, list[Pair]]], corpus: Corpus | None) -> dict[str, Any]:
    """All items of all tasks, in the order of the tasks, as the page's script reads them.

    Choices that items share stand once. A side has its answer (`a`), whether it is right (`ok`), how far it is right
    (`part`), the probability of the right choice (`p`), the bits per byte of a passage (`bits`), and `bad` where it could
    not be read.
    """
    choices: dict[tuple[str, ...], int] = {}
    items = []
    for place, (row, found) in enumerate(read):
        touched = frozenset(corpus.touched.get(row.task, ()) if corpus else ())
        for pair in found:
            line = pair[0].line
            item: dict[str, Any] = {
                "t": place,
                "row": line["row"],
                "id": line["item"][:12],
                "q": line["question"],
                "b": _side(pair[0], row.metric),
                "u": _side(pair[1], row.metric),
                "o": OUTCOMES.index(outcome(pair)),
            }
            if line["choices"]:
                item["c"] = choices.setdefault(tuple(line["choices"]), len(choices))
            optional = {"g": _gold(line), "s": line.get("subject", ""), "m": _marks(pair, touched)}
            items.append(item | {key: value for key, value in optional.items() if value})
    tasks = [row.task for row, _ in read]
    return {"tasks": tasks, "choices": list(choices), "items": items, "outcomes": OUTCOMES, "marks": MARKS}


def pairs(row: Difference, answers: Sides) -> list[Pair]:
    """Both models' answers to each item of a task, in the order of its rows."""
    before, after = ({line["item"]: line for line in side.get(row.task, ())} for side in answers)
    shared = sorted(before.keys() & after.keys(), key=lambda item: (after[item]["row"], item))
    base, tuned = (_given([side[item] for item in shared], row.metric) for side in (before, after))
    return list(zip(base, tuned, strict=True))


def _given(lines: Sequence[Line], metric: str) -> list[Given]:
    if not lines or "nats" in lines[0]:
        return [Given(line) for line in lines]
    answers, graded = columns(lines), metric not in RIGHT_OR_WRONG | BY_CLASS
    parts = item_values(metric, answers) if graded else [None] * len(lines)
    return [Given(*each) for each in zip(lines, right(metric, lines), parts, unreadable(metric, answers), strict=True)]


def outcome(pair: Pair) -> str:
    """What became of an item."""
    before, after = pair
    if "nats" in before.line:
        return "easier" if after.line["nats"] < before.line["nats"] else "harder"
    if before.right == after.right:
        return "both right" if after.right else "both wrong"
    return "gained" if after.right else "lost"


def samples(row: Difference, read: Sequence[Pair]) -> dict[str, Any]:
    """Items of a task to read without a script: some of each kind, chosen by hash."""
    groups: dict[str, list[dict[str, Any]]] = {kind: [] for kind in OUTCOMES}
    for pair in sorted(read, key=lambda pair: hashed(0, "sample", pair[0].line["item"])):
        groups[outcome(pair)].append(_sample(pair, row.metric))
    there = {kind: some for kind, some in groups.items() if some}
    return {
        "row": row,
        "counts": [(len(some), kind) for kind, some in there.items()],
        "groups": [(kind, some[:SHOWN]) for kind, some in there.items()],
    }


def _sample(pair: Pair, metric: str) -> dict[str, Any]:
    sides = [(who, _side(given, metric)) for who, given in zip(("base", "tuned"), pair, strict=True)]
    return {"question": pair[0].line["question"], "target": _gold(pair[0].line), "sides": sides}


def _gold(line: Line) -> str:
    """The right answer, or all of them."""
    return " / ".join(line.get("accepted") or [line["target"]])


def _side(given: Given, metric: str) -> dict[str, Any]:
    """One model's answer: short keys, since a page may hold 100,000 of them."""
    line = given.line
    if "nats" in line:
        return {"bits": number(line["nats"] / max(line["bytes"], 1) / math.log(2), 3)}
    answer = line.get("norm" if metric == "acc_norm" else "answer")
    text = line.get("text", answer) or ""
    side: dict[str, Any] = {"a": text, "ok": int(given.right)}
    if given.invalid:
        side["bad"] = 1
    elif "text" in line and answer != text:
        side["as"] = answer
    optional = {"p": _probability(line), "part": number(given.part, 3)}
    return side | {key: value for key, value in optional.items() if value is not None}


def _probability(line: Line) -> float | None:
    """The part of the choices' probability that the right one has: softmax of their log-likelihoods."""
    likely, choices = line.get("loglikelihoods"), line["choices"]
    if not likely or len(likely) != len(choices) or line["target"] not in choices:
        return None
    highest = max(likely)
    weights = [math.exp(value - highest) for value in likely]
    return number(weights[choices.index(line["target"])] / sum(weights), 3)


def _marks(pair: Pair, touched: frozenset[str]) -> int:
    unreadable_ = any(given.invalid for given in pair)
    cut = any(given.line["truncated"] for given in pair)
    return unreadable_ | cut << 1 | (pair[0].line["item"] in touched) << 2
