"""A task as it is asked: what its batches would cost without sharing, and examples that are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.prompts import Branch
from configs.recipe import Evaluate
from configs.store import HOUSE
from eval.ask import Batch, ask

if TYPE_CHECKING:
    import pytest


def test_read_whole_each_answer_costs_its_context_and_all_of_its_tokens_but_the_last() -> None:
    """Five tokens with answers of two and three: 5 + 1 and 5 + 2. Seven with a text to be written after them: 7."""
    chosen = Batch([], [Branch([3] * 5, [[4] * 2, [4] * 3])], 0, 0)
    written = Batch([], [Branch([3] * 7, [])], 0, 0)
    assert (chosen.whole, written.whole) == (13, 7)


def test_worked_examples_that_are_not_there_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Its split has some for every question; general pairs has no split to take the three from, and passages need none."""
    wish = Evaluate(tasks=("finance_topics",), shots=3, limit=8)
    for name, told in (
        ("finance_topics", "8 items, 3 worked examples"),
        ("general_pairs", "8 items, 0 of 3 worked examples"),
        ("general_text", "8 items, 0 worked examples"),
    ):
        ask(name, (HOUSE,), wish, 17)
        assert told in capsys.readouterr().err
