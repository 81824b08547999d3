"""Numbers in answers: what is read, what is not, and when two are the same."""

from __future__ import annotations

import gzip
import json
import random
import time

import pytest

from eval.amounts import Number, read_number, same_number
from tests.conftest import SHARED, needs_shared


@pytest.mark.parametrize(
    ("text", "value", "percent"),
    [
        ("12.5", 12.5, False),
        ("$1,496.5 million", 1_496_500_000, False),
        ("$(12.6) million", -12_600_000, False),
        ("(12.5%)", -0.125, True),
        ("−3.2", -3.2, False),
        ("-$5", -5, False),
        ("USD 5 bn", 5e9, False),
        ("$5m", 5e6, False),
        ("5 m", 5, False),
        ("5kg", 5, False),
        ("1.5e-3", 0.0015, False),
        (r"1.2 \times 10^{3}", 1200, False),
        ("1.5×10³", 1500, False),
        (r"\boxed{42}", 42, False),
        ("-22.22 percent", -0.2222, True),
        ("１２．５％", 0.125, True),
        ("3,500万", 35_000_000, False),
        ("约3.5亿元", 350_000_000, False),
        ("三千五百万元", 35_000_000, False),
        ("一亿二千万", 120_000_000, False),
        ("百分之十二点五", 0.125, True),
        ("12个百分点", 0.12, True),
        ("二〇二四", 2024, False),
        ("负二", -2, False),
    ],
)
def test_a_number_is_read_as_a_person_reads_it(text, value, percent):
    found = read_number(text)
    assert found is not None
    assert (found.value, found.percent) == (pytest.approx(value), percent)


@pytest.mark.parametrize(
    "text", ["", "yes", "covid-19", "一般", "12,34", "1.234.567", "3/4", "2018-2019", "2019/05/01"]
)
def test_what_is_no_number_or_not_for_certain_which_is_not_read(text):
    assert read_number(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The answer is 12.5 million in 2019.", 12_500_000),
        ("120 / 10 = 12", 12),
        ("答案是 7，不是 9", 7),
        ("12.5 million in 2019", 12_500_000),
        ("In 2019 it was 10, then it rose to 12.", 12),
        ("the margin (2019) was 5%", 0.05),
    ],
)
def test_of_several_numbers_the_marked_one_counts_then_the_first_word_then_the_last(text, value):
    found = read_number(text)
    assert found is not None
    assert found.value == pytest.approx(value)


def test_whatever_a_model_writes_is_read_without_an_error_and_in_linear_time():
    """A degenerate model repeats itself: 20,000 pieces take milliseconds, not the square of that."""
    draw, pieces = (
        random.Random(1),
        [*"0123456789.,%$()-+eE×10^{}\\ Aab一十百千万亿点负％１²½①\n=", "answer is ", "百分之"],
    )
    texts = ["".join(draw.choices(pieces, k=draw.randint(0, 40))) for _ in range(2000)]
    texts += [one * 20_000 for one in ("1", "1,", "万", "(", " ", "9 ", "1e")]
    started = time.process_time()
    for text in ["1e99999", f"A{' ' * 20_000}x", *texts]:
        read_number(text)
    assert time.process_time() - started < 5


def same(given, gold, tolerance=0.001):
    ours, theirs = read_number(given), read_number(gold)
    assert ours is not None
    assert theirs is not None
    return same_number(ours, theirs, tolerance)


def test_the_tolerance_is_a_part_of_the_gold():
    """0.1 % of 2,000 is 2."""
    assert same("2,002", "2,000")
    assert not same("2,003", "2,000")
    assert same("2,003", "2,000", 0.002)
    assert same("0", "0")
    assert not same("0.001", "0")


def test_a_percentage_is_the_fraction_or_the_bare_figure_where_only_one_side_says_percent():
    for given, gold in [("12.5%", "0.125"), ("0.125", "12.5%"), ("12.5", "12.5 percent"), ("12.5%", "12.5")]:
        assert same(given, gold), (given, gold)
    assert not same("12.5", "0.125")
    assert not same("1250%", "12.5%")


def test_thousand_and_million_are_never_forgiven_as_in_tat_qa():
    assert same("12,500 thousand", "12.5 million")
    assert not same("12.5", "12.5 million")


def test_what_the_rule_of_tat_qas_script_calls_equal_is_equal_here_for_figures_of_four_digits():
    """Its rule: both rounded to two decimals, times the scale, equal in four decimals; here 0.1 % of the gold."""
    scales = {"": 1.0, "thousand": 1e3, "million": 1e6, "billion": 1e9, "percent": 0.01}
    draw = random.Random(0)
    for _ in range(500):
        scale, gold = draw.choice(list(scales)), round(draw.uniform(10, 9999), 2)
        given = gold + draw.choice([0, 0.004, -0.004, 0.2 * gold, -2 * gold])
        theirs = round(given, 2) == gold
        assert same(f"{given} {scale}", f"{gold:,.2f} {scale}") == theirs, (given, gold, scale)
        assert read_number(f"{gold:,.2f} {scale}") == Number(pytest.approx(gold * scales[scale]), scale == "percent")


@needs_shared
def test_every_computed_answer_of_tat_qa_is_read_as_its_figure_times_its_scale():
    scales = {"": 1, "thousand": 1e3, "million": 1e6, "billion": 1e9, "percent": 0.01}
    counted = 0
    for name in ("dev", "test_gold"):
        with gzip.open(SHARED / f"finance/tat-qa/tatqa_dataset_{name}.json.gz", "rt", encoding="utf-8") as file:
            pages = json.load(file)
        for question in (question for page in pages for question in page["questions"]):
            if question["answer_type"] in ("arithmetic", "count"):
                found = read_number(f"{question['answer']} {question['scale']}")
                assert found is not None
                assert found.value == pytest.approx(float(question["answer"]) * scales[question["scale"]])
                counted += 1
    assert counted == 1489
