"""Metrics against scikit-learn and by hand; an answer that cannot be read is never right and never a class."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from configs.task import FITS, Metric
from eval.reading import best_choice, read_answer
from eval.score import COUNTS, LOWER_IS_BETTER, STATISTICS, Answers, classes_of, item_values, right, sums_of, unreadable

GOLD = ["a", "a", "b", "b", "b", "c", "a", "c"]
GIVEN = ["a", "b", "b", "b", "c", "c", "a", "a"]


def answers(gold, given, clusters=None, **more):
    names = tuple(clusters or map(str, range(len(gold))))
    return Answers(names, tuple(gold), tuple(given), tuple(given), (), (), **more)


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


TEXTS = [metric for metric in STATISTICS if metric in COUNTS]


@pytest.mark.parametrize("metric", TEXTS)
def test_a_right_answer_is_one_and_an_invalid_one_is_zero_in_every_metric_of_texts(metric):
    gold = "AB" if metric == "letters_match" else "12"
    found = answers([gold, gold], [gold, None])
    assert item_values(metric, found) == [1, 0]
    assert unreadable(metric, found) == [False, True]


@pytest.mark.parametrize("metric", TEXTS)
def test_nothing_said_where_nothing_was_to_be_said_is_still_no_answer(metric):
    assert item_values(metric, answers(["none"], [None])) == [0]


def test_each_metric_knows_what_it_cannot_read():
    """Of three answers to 12: a number, a word; letters; spans without the types that the gold has."""
    given = ["12", "twelve or so", None]
    assert unreadable("number_match", answers(["12"] * 3, given)) == [False, True, True]
    assert unreadable("exact_match", answers(["12"] * 3, given)) == [False, False, True]
    assert unreadable("letters_match", answers(["AB"] * 3, ["A, B", "perhaps A", None])) == [False, True, True]
    assert unreadable("span_f1", answers(["org: A"] * 3, ["org: B", "B", None])) == [False, True, True]
    assert unreadable("number_match", answers(["yes"], ["no"])) == [False]


def test_numbers_count_within_the_tolerance_that_the_task_sets():
    """1,010 is 1 % above 1,000: wrong by the default of 0.1 %, right by 2 %; yes and no are compared as texts."""
    gold, given = ["1000", "1000", "yes", "yes"], ["1,010", "$1,000.5", "Yes.", "12"]
    assert item_values("number_match", answers(gold, given)) == [0, 1, 1, 0]
    options = {"number_match": {"tolerance": 0.02}}
    assert item_values("number_match", answers(gold, given, options=options)) == [1, 1, 1, 0]


def test_options_travel_with_the_lines_of_answers():
    line = {"cluster": "1", "target": "1000", "answer": "1,010", "choices": []}
    assert right("number_match", [line]) == [False]
    assert right("number_match", [line | {"options": {"number_match": {"tolerance": 0.02}}}]) == [True]


def test_the_best_of_several_right_answers_counts():
    """Given "interest rate": the same as the second; of "the rate" it has one of two words, 2/3."""
    found = answers(["the rate"], ["interest rate"], accepted=(("the rate", "interest rate"),))
    assert item_values("exact_match", found) == [1]
    assert item_values("token_f1", answers(["the rate"], ["interest rate"])) == [pytest.approx(2 / 3)]
    assert item_values("token_f1", found) == [1]
    assert item_values("rouge_l", answers(["x"], ["y"], accepted=(("x", "z"),))) == [0]


def test_span_f1_is_over_all_spans_of_all_items():
    """3 of 4 given are right, 5 were to be found, an unreadable answer gives none: 2 * 3 / (4 + 5)."""
    gold = ["org: A; loc: B", "org: C", "none", "per: D; per: E"]
    given = ["org: A; loc: B", "org: C; org: X", "none", "I do not know"]
    assert value("span_f1", gold, given, ()) == pytest.approx(2 * 3 / 9)
    assert item_values("span_f1", answers(gold, given)) == [1, pytest.approx(2 / 3), 1, 0]


def test_perplexity_is_that_of_lm_evaluation_harness():
    """4 bytes and 2 words at 1 nat each byte: e a byte, e^2 a word, 1 / ln 2 bits a byte."""
    found = Answers(("1",), ("",), (None,), (None,), (4.0,), (4,), words=(2,))
    values = {
        metric: float(STATISTICS[metric](sums_of(metric, found, ())[0].sum(axis=0)))
        for metric in ("byte_perplexity", "word_perplexity", "bits_per_byte")
    }
    assert values == pytest.approx(
        {"byte_perplexity": math.e, "word_perplexity": math.e**2, "bits_per_byte": 1 / math.log(2)}
    )
    assert right("word_perplexity", [{"cluster": "1", "target": "", "choices": [], "nats": 4.0}]) == [False]


def test_every_metric_that_a_task_may_name_has_its_statistic_and_its_output_type():
    from typing import get_args

    names = set(get_args(Metric.model_fields["metric"].annotation))
    assert names == set(STATISTICS) == set().union(*FITS.values())
    assert FITS["loglikelihood_rolling"] == LOWER_IS_BETTER
    assert set(COUNTS) == FITS["generate_until"] - {"acc", "macro_f1", "mcc"}
