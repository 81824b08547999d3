"""The answers of both models side by side: every item for the page's script, and some of each kind for who has none.

What became of an item is told by whether it was both right; of a passage by its bits per byte.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from configs.store import hashed
from eval.score import right
from eval.shell import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.records import Corpus, Difference
    from eval.answers import Line

    Sides = tuple[dict[str, list[Line]], dict[str, list[Line]]]
    Pair = tuple[Line, Line, bool, bool]
    """An item's lines, and whether base and tuned are right."""

OUTCOMES = ("gained", "lost", "both right", "both wrong", "easier", "harder")
"""What became of an item; the last two of a passage."""
MARKS = ("unreadable answer", "truncated", "touched")
"""What else an item can be: bit 0, 1, 2."""
SHOWN = 3
"""How many items of each kind stand on the page without a script."""


def everything(read: Sequence[tuple[Difference, list[Pair]]], corpus: Corpus | None) -> dict[str, Any]:
    """All items of all tasks, in the order of the tasks, as the page's script reads them.

    Choices that items share stand once. A side has its answer (`a`), whether it is right (`ok`), a figure of its own
    (`n`: the probability of the right choice, or bits per byte), and `bad` where it could not be read.
    """
    choices: dict[tuple[str, ...], int] = {}
    items = []
    for place, (row, found) in enumerate(read):
        touched = frozenset(corpus.touched.get(row.task, ()) if corpus else ())
        for pair in found:
            before, after = pair[:2]
            item: dict[str, Any] = {
                "t": place,
                "row": before["row"],
                "id": before["item"][:12],
                "q": before["question"],
                "b": _side(before, pair[2], row.metric),
                "u": _side(after, pair[3], row.metric),
                "o": OUTCOMES.index(outcome(pair)),
            }
            if before["choices"]:
                item["c"] = choices.setdefault(tuple(before["choices"]), len(choices))
            optional = {"g": before["target"], "s": before.get("subject", ""), "m": _marks(before, after, touched)}
            items.append(item | {key: value for key, value in optional.items() if value})
    tasks = [{"name": row.task, "passages": int(bool(found) and "nats" in found[0][0])} for row, found in read]
    return {"tasks": tasks, "choices": list(choices), "items": items, "outcomes": OUTCOMES, "marks": MARKS}


def pairs(row: Difference, answers: Sides) -> list[Pair]:
    """Both models' lines of each item of a task, in the order of its rows."""
    before, after = ({line["item"]: line for line in side.get(row.task, ())} for side in answers)
    shared = sorted(before.keys() & after.keys(), key=lambda item: (after[item]["row"], item))
    base, tuned = [before[item] for item in shared], [after[item] for item in shared]
    if base and "nats" in base[0]:
        return [(b, a, False, False) for b, a in zip(base, tuned, strict=True)]
    return list(zip(base, tuned, right(row.metric, base), right(row.metric, tuned), strict=True))


def outcome(pair: Pair) -> str:
    """What became of an item."""
    before, after, was, now = pair
    if "nats" in before:
        return "easier" if after["nats"] < before["nats"] else "harder"
    return ("both right" if was else "both wrong") if was == now else "gained" if now else "lost"


def samples(row: Difference, read: Sequence[Pair]) -> dict[str, Any]:
    """Items of a task to read without a script: some of each kind, chosen by hash."""
    groups: dict[str, list[dict[str, Any]]] = {kind: [] for kind in OUTCOMES}
    for pair in sorted(read, key=lambda pair: hashed(0, "sample", pair[0]["item"])):
        groups[outcome(pair)].append(_sample(pair, row.metric))
    there = {kind: some for kind, some in groups.items() if some}
    return {
        "row": row,
        "counts": [(len(some), kind) for kind, some in there.items()],
        "groups": [(kind, some[:SHOWN]) for kind, some in there.items()],
    }


def _sample(pair: Pair, metric: str) -> dict[str, Any]:
    before, after, was, now = pair
    sides = [("base", _side(before, was, metric)), ("tuned", _side(after, now, metric))]
    return {"question": before["question"], "target": before["target"], "sides": sides}


def _side(line: Line, good: bool, metric: str) -> dict[str, Any]:
    """One model's answer: short keys, since a page may hold 100,000 of them."""
    if "nats" in line:
        return {"n": number(line["nats"] / max(line["bytes"], 1) / math.log(2), 3)}
    given = line.get("norm" if metric == "acc_norm" else "answer")
    text = line.get("text", given) or ""
    side: dict[str, Any] = {"a": text, "ok": int(good)}
    if given is None:
        side["bad"] = 1
    elif "text" in line and given != text:
        side["as"] = given
    likely = _probability(line)
    return side if likely is None else side | {"n": likely}


def _probability(line: Line) -> float | None:
    """The part of the choices' probability that the right one has: softmax of their log-likelihoods."""
    likely, choices = line.get("loglikelihoods"), line["choices"]
    if not likely or len(likely) != len(choices) or line["target"] not in choices:
        return None
    highest = max(likely)
    weights = [math.exp(value - highest) for value in likely]
    return number(weights[choices.index(line["target"])] / sum(weights), 3)


def _marks(before: Line, after: Line, touched: frozenset[str]) -> int:
    unreadable = "nats" not in before and (before.get("answer") is None or after.get("answer") is None)
    cut = bool(before["truncated"] or after["truncated"])
    return int(unreadable) | cut << 1 | (before["item"] in touched) << 2
