"""A made-up comparison in which every part of the page has something to show; its numbers can be counted on the fingers."""

from __future__ import annotations

import time
from typing import Any

from configs.records import (
    Apart,
    Bin,
    Calibration,
    Comparison,
    Difference,
    Noise,
    Panel,
    Pooled,
    Score,
    Scorecard,
    made_by,
)
from configs.store import digest_bytes
from eval.report import Report

EVIL = '</script><script>alert(1)</script><!-- & 利率 \u2028 "quoted" {{ 1 }}'
MOODS = ("good", "bad")


def item(task: str, row: int, marks: str, subject: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """Both models' lines of an item; `marks` has a sign for base and tuned: + right, - wrong, ? cannot be read."""
    sides = []
    for mark in marks:
        given = {"+": "good", "-": "bad", "?": None}[mark]
        likely = {"+": [-1.0, -2.0], "-": [-2.0, -1.0], "?": []}[mark]
        sides.append(
            {
                "task": task,
                "row": row,
                "item": digest_bytes(f"{task} {row}".encode()),
                "cluster": str(row),
                "subject": subject,
                "question": f"Question {row} of {task}?",
                "choices": list(MOODS),
                "target": "good",
                "answer": given,
                "norm": given,
                "loglikelihoods": likely,
                "truncated": row == 3,
                "prompt": f"p{row}",
                "batch": "b",
                "batch_tokens": 1,
            }
        )
    return sides[0], sides[1]


def passage(task: str, row: int, nats: tuple[float, float]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both models' lines of a passage of 100 bytes."""
    lines = item(task, row, "??")
    own = [{"nats": value, "bytes": 100, "choices": [], "target": ""} for value in nats]
    base, tuned = ({k: v for k, v in line.items() if k not in ("answer", "norm", "loglikelihoods")} for line in lines)
    return base | own[0], tuned | own[1]


def difference(**keys: Any) -> Difference:
    base = {
        "task": "moods", "metric": "acc", "sector": "finance", "base": 0.25, "tuned": 0.625, "difference": 0.375,
        "low": 0.2, "high": 0.55, "p": 1e-4, "p_holm": 2e-4, "n": 8, "clusters": 8,
    }  # fmt: skip
    return Difference(**(base | keys))


def calibration(error: float) -> Calibration:
    bins = tuple(
        Bin(n=20 - index, confidence=0.55 + 0.1 * index, right=0.55 + 0.1 * index - error) for index in range(5)
    )
    return Calibration(ece=error, brier=0.2 + error, bins=bins)


def card(which: str, scores: tuple[Score, ...], **keys: Any) -> Scorecard:
    base: dict[str, Any] = {
        "name": "made-up", "settings": {"evaluate.resamples": 200, "seed": 17, "evaluate.general": ["general_pairs"]},
        "inputs": {}, "files": {}, "made": made_by("eval", time.monotonic()), "model": which,
        "model_digest": digest_bytes(which.encode()), "engine": "float32 on cpu", "scores": scores, "tokens": 12_000,
        "seconds": 3.5,
    }  # fmt: skip
    return Scorecard(**(base | keys))


def score(task: str, value: float, **keys: Any) -> Score:
    base = {
        "task": task,
        "metric": "acc",
        "value": value,
        "low": value - 0.1,
        "high": value + 0.1,
        "n": 8,
        "clusters": 8,
    }
    return Score(**(base | {"sector": "finance"} | keys))


def report() -> Report:
    """Three tasks: `moods` with subjects, touched items, noise and calibration, `other` unchanged, two general ones."""
    parts = (
        Apart(name="clean", n=7, base=0.2857, tuned=0.5714, difference=0.2857, low=0.05, high=0.5),
        Apart(name="touched", n=1, base=0.0, tuned=1.0, difference=1.0, low=0.1, high=1.0),
    )
    subjects = (
        Apart(name="banking", n=4, base=0.25, tuned=0.75, difference=0.5, low=0.1, high=0.8),
        Apart(name="<b>tax</b> 税", n=4, base=0.25, tuned=0.5, difference=0.25, low=-0.2, high=0.6),
    )
    rows = (
        difference(parts=parts, subjects=subjects, noise=0.03, foreseen=0.2, detectable=0.25, gained=4, lost=1,
                   clean=0.2857, clean_n=7, baselines={"majority": 0.5, "tfidf": 0.6}),
        difference(task="other", base=0.5, tuned=0.45, difference=-0.05, low=-0.15, high=0.05, p=0.6, p_holm=0.6,
                   clean=-0.05, clean_n=8),
    )  # fmt: skip
    general = (
        difference(task="general_pairs", sector="general", base=0.7, tuned=0.6, difference=-0.1, low=-0.18, high=-0.02, p=0.01,
                   p_holm=0.02, lost=1),
        difference(task="general_text", metric="bits_per_byte", sector="general", base=1.8, tuned=1.89, difference=0.09,
                   low=0.07, high=0.11, higher_is_better=False),
    )  # fmt: skip
    pooled = (
        Pooled(
            name="finance",
            metric="acc",
            tasks=2,
            n=16,
            base=0.375,
            tuned=0.5375,
            difference=0.1625,
            low=0.05,
            high=0.28,
        ),
    )
    panel = Panel(
        verdict="inferior",
        margin=0.02,
        margin_text=0.02,
        reasons=("general pairs: inferior, −18.0 at worst, −2.0 accepted",),
    )
    comparison = Comparison(
        name="made-up", settings={}, inputs={}, files={}, made=made_by("eval", time.monotonic()), sector="finance",
        differences=rows, general=general, pooled=pooled, panel=panel,
    )  # fmt: skip
    marks = ["-+", "-+", "-+", "-+", "+-", "++", "--", "-?"]
    pairs = [item("moods", row, mark, "banking" if row < 4 else "<b>tax</b> 税") for row, mark in enumerate(marks)]
    pairs[2][0]["question"] = pairs[2][1]["question"] = EVIL
    pairs[7][1]["text"] = "an unreadable text"
    pairs += [item("other", row, "++") for row in range(8)]
    pairs += [item("general_pairs", row, "+-" if row == 0 else "++") for row in range(8)]
    pairs += [passage("general_text", row, (100.0, 120.0 - 15 * row)) for row in range(3)]
    sides: tuple[dict[str, list[Any]], dict[str, list[Any]]] = ({}, {})
    for pair in pairs:
        for side, line in zip(sides, pair, strict=True):
            side.setdefault(line["task"], []).append(line)
    noise = Noise(items=8, changed=1, difference=0.03, largest=2e-6)
    cards = (
        card("base", (score("moods", 0.25, calibration=calibration(0.2), noise=noise),)),
        card("tuned", (score("moods", 0.625, calibration=calibration(0.05), noise=noise, invalid=0.125, truncated=1),)),
    )
    return Report(comparison, cards, sides, None, None, [])
