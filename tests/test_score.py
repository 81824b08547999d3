"""Metrics against scikit-learn and by hand; an answer that cannot be read is never right and never a class."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from eval.reading import best_choice, read_answer
from eval.score import STATISTICS, Answers, classes_of, item_values, sums_of
from eval.texts import token_f1

GOLD = ["a", "a", "b", "b", "b", "c", "a", "c"]
GIVEN = ["a", "b", "b", "b", "c", "c", "a", "a"]


def answers(gold, given, clusters=None):
    names = tuple(clusters or map(str, range(len(gold))))
    return Answers(names, tuple(gold), tuple(given), tuple(given), (), ())


def value(metric, gold, given, classes=("a", "b", "c")):
    sums_CD, _ = sums_of(metric, answers(gold, given), classes)
    return float(STATISTICS[metric](sums_CD.sum(axis=0)))


def test_macro_f1_and_matthews_are_scikit_learns():
    assert value("macro_f1", GOLD, GIVEN) == pytest.approx(f1_score(GOLD, GIVEN, average="macro"))
    assert value("mcc", GOLD, GIVEN) == pytest.approx(matthews_corrcoef(GOLD, GIVEN))


def test_an_invalid_answer_counts_against_its_class_and_for_no_other():
    """Class a has 3 golds, 2 found, 1 invalid: precision 1, recall 2/3, F1 0.8; b is perfect: (0.8 + 1) / 2."""
    gold, given = ["a", "a", "a", "b"], ["a", "a", None, "b"]
    assert value("macro_f1", gold, given, ("a", "b")) == pytest.approx(0.9)
    with_word = [answer or "invalid" for answer in given]
    assert value("mcc", gold, given, ("a", "b")) == pytest.approx(matthews_corrcoef(gold, with_word))


def test_only_empty_answers_score_zero_where_the_majority_class_would_score_0_6():
    gold = ["a"] * 6 + ["b"] * 4
    assert value("acc", gold, ["a"] * 10) == 0.6
    for metric in ("acc", "macro_f1", "mcc", "exact_match", "token_f1"):
        assert value(metric, gold, [read_answer("", ["a", "b"])] * 10) == 0


def test_sums_by_cluster_add_up_and_keep_their_names():
    sums_CD, names = sums_of("acc", answers(["a", "a", "b"], ["a", "b", "b"], ["y", "x", "y"]), ("a", "b"))
    assert names == ["x", "y"]
    assert sums_CD.tolist() == [[0, 1], [2, 2]]


def test_a_model_that_gives_every_byte_one_in_256_needs_8_bits():
    columns = Answers(
        ("1", "2"), ("", ""), (None, None), (None, None), (10 * math.log(256), 90 * math.log(256)), (10, 90)
    )
    sums_CD, _ = sums_of("bits_per_byte", columns, ())
    assert float(STATISTICS["bits_per_byte"](sums_CD.sum(axis=0))) == pytest.approx(8)


def test_per_byte_a_long_answer_may_win_over_a_short_one():
    """-6 nats on 12 bytes is -0.5 a byte, -2 nats on 2 bytes is -1; three bytes for each Chinese character."""
    assert best_choice([-2, -6], ["no", "of course it"]) == "no"
    assert best_choice([-2, -6], ["no", "of course it"], per_byte=True) == "of course it"
    assert best_choice([-2, -2], ["利率", "rate"], per_byte=True) == "利率"


def test_a_tie_goes_to_the_first_choice_and_nothing_to_none():
    assert best_choice([-1, -1], ["a", "b"]) == "a"
    assert best_choice([], ["a", "b"]) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("positive", "positive"),
        (" Positive.\n", "positive"),
        ("The answer is negative", "negative"),
        ("nonpositive", None),
        ("positive, not negative", None),
        ("", None),
        ("？？", None),
        ("答案是正面。", "正面"),
    ],
)
def test_a_generated_text_answers_the_one_choice_that_it_names(text, found):
    assert read_answer(text, ["positive", "negative", "正面"]) == found


def test_token_f1_by_hand():
    """Words the: none; "rate rose" against "rate fell": one of two shared, 2*1/4. 下调利率 and 利率: 2 of 4 and 2 of 2."""
    assert token_f1("the rate rose", "rate fell") == pytest.approx(0.5)
    assert token_f1("下调利率", "利率") == pytest.approx(2 * 2 / 6)
    assert token_f1("", "") == 1
    assert token_f1("yes", "") == 0


def test_exact_match_forgives_width_case_and_the_full_stop():
    assert item_values("exact_match", answers(["yes", "3.5", "利率"], ["Ｙｅｓ.", "3.6", "利率。"])) == [1, 0, 1]


def test_classes_are_the_shared_choices_or_else_the_golds():
    shared = [{"choices": ["a", "b", "c"], "target": "a"}, {"choices": ["a", "b", "c"], "target": "b"}]
    own = [{"choices": ["a", "b"], "target": "a"}, {"choices": ["c", "d"], "target": "d"}]
    assert classes_of(shared) == ("a", "b", "c")
    assert classes_of(own) == ("a", "d")


def test_many_resamples_at_once_give_what_each_gives_alone():
    """[R, D] in, [R] out, for every metric over a confusion matrix."""
    sums_CD, _ = sums_of("macro_f1", answers(GOLD, GIVEN), ("a", "b", "c"))
    weights_RC = np.random.default_rng(0).integers(0, 3, (5, len(GOLD))).astype(float)
    for metric in ("macro_f1", "mcc"):
        together = STATISTICS[metric](weights_RC @ sums_CD)
        alone = [float(STATISTICS[metric](row @ sums_CD)) for row in weights_RC]
        assert together.tolist() == pytest.approx(alone)
