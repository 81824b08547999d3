"""Answers that are sets: several letters, and spans with types."""

from __future__ import annotations

import csv

import pytest

from eval.spans import letters_of, lists_spans, shared_spans, spans_of
from tests.conftest import SHARED, needs_shared


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("ABD", "ABD"),
        ("A、B、D", "ABD"),
        ("A,B and D", "ABD"),
        ("D B A", "ABD"),
        ("(A)(C)", "AC"),
        ("ＡＢＤ", "ABD"),
        ("答案：ABD", "ABD"),
        ("正确答案为 AC。解析：B 错在……", "AC"),
        ("选B和C", "BC"),
        ("The answer is A and C.", "AC"),
        ("A. because of this", "A"),
        ("a, b", "AB"),
        ("AB\nQuestion: C", "AB"),
    ],
)
def test_letters_are_read_however_they_are_listed(text, letters):
    assert letters_of(text) == frozenset(letters)


@pytest.mark.parametrize("text", ["", "A cat", "BAD idea", "I think B", "A or B", "AA", "none", "甲乙", "ab"])
def test_what_may_be_a_word_or_a_guess_is_invalid(text):
    assert letters_of(text) is None


@needs_shared
def test_every_gold_of_the_multiple_answer_exams_of_disc_law_is_read():
    counted = 0
    for name in ("cpa", "nje", "pae", "ungee"):
        content = (SHARED / f"urban/disc-law-eval/mcq_mult_{name}.csv").read_text("utf-8-sig")
        for row in csv.DictReader(content.splitlines(keepends=True)):
            assert letters_of(row["output"]) == frozenset(row["output"].strip())
            counted += 1
    assert counted == 120 + 463 + 276 + 87


def test_spans_are_pieces_with_a_type_before_the_first_colon():
    assert spans_of("ORG: ABC Bank; LOC：Berlin \n time: 10:30") == {
        ("org", "abc bank"),
        ("loc", "berlin"),
        ("time", "10:30"),
    }
    assert spans_of("pump; valve; pump.") == {("", "pump"), ("", "valve")}
    assert spans_of("none") == spans_of("无。") == spans_of("") == frozenset()


def test_two_of_three_given_spans_are_among_the_four_right_ones():
    gold = "org: A; org: B; loc: C; per: D"
    assert shared_spans("org: a; loc: C; loc: B", gold) == [2, 3, 4]


def test_a_list_without_any_type_is_no_answer_where_types_are_asked_for():
    assert lists_spans("org: A; nonsense", "org: A")
    assert not lists_spans("There are no organisations here", "org: A")
    assert lists_spans("none", "org: A")
    assert lists_spans("pump", "pump; valve")
