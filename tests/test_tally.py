"""From answers to a score: intervals, the invalid part, and calibration by hand and against scikit-learn."""

from __future__ import annotations

import math
import random

import pytest
from sklearn.metrics import brier_score_loss

from configs.task import Task
from eval.tally import calibration, tally

ABOUT = {"sector": "finance", "language": ["en"], "licence": "CC0-1.0", "source": "test"}


def task(**keys):
    base = {
        "task": "t",
        "dataset_path": "json",
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{a}}",
        "metric_list": [{"metric": "number_match"}, {"metric": "exact_match"}],
        "metadata": ABOUT,
    }
    return Task.model_validate(base | keys, strict=False)


def line(n, answer, target, **more):
    return {"cluster": str(n), "answer": answer, "target": target, "choices": [], "truncated": False, **more}


def asked(likely, target, choices=("a", "b")):
    answer = choices[likely.index(max(likely))]
    return line(target, answer, target, choices=list(choices), norm=answer, loglikelihoods=likely)


def test_of_four_answers_one_is_right_and_two_cannot_be_read():
    lines = [line(n, answer, "12") for n, answer in enumerate(["12.0", "13", "a dozen", None])]
    score = tally(task(), lines, {})
    assert (score.value, score.invalid, score.interval, score.calibration) == (0.25, 0.5, "wilson", None)
    assert score.metrics == {"number_match": 0.25, "exact_match": 0}


def test_clusters_or_values_between_0_and_1_take_the_bootstrap():
    same_cluster = [line(0, "12", "12"), line(0, "13", "12"), line(1, "12", "12")]
    assert tally(task(), same_cluster, {}, resamples=100).interval == "bootstrap"
    found = tally(
        task(metric_list=[{"metric": "rouge_l"}]), [line(0, "a b", "a c"), line(1, "a", "a")], {}, resamples=100
    )
    assert (found.value, found.interval) == (0.75, "bootstrap")


def test_calibration_by_hand():
    """Two choices at odds of 3 to 1: confidence 0.75, right once and wrong once; one at 19 to 1, right.

    Bins: 0.75 with accuracy 0.5 (2 items), 0.95 with accuracy 1 (1 item): ECE = 2/3 * 0.25 + 1/3 * 0.05.
    Brier: 2 * 0.25^2 = 0.125, 2 * 0.75^2 = 1.125, 2 * 0.05^2 = 0.005; their mean.
    """
    lines = [
        asked([math.log(3), 0.0], "a"),
        asked([math.log(3), 0.0], "b"),
        asked([math.log(19) - 700, -700.0], "a"),
        line(9, None, "a", loglikelihoods=[]),
    ]
    found = calibration(lines)
    assert found is not None
    assert found.ece == pytest.approx(2 / 3 * 0.25 + 1 / 3 * 0.05)
    assert found.brier == pytest.approx((0.125 + 1.125 + 0.005) / 3)
    assert [(each.n, each.right) for each in found.bins] == [(2, 0.5), (1, 1.0)]
    assert [each.confidence for each in found.bins] == pytest.approx([0.75, 0.95])


def test_a_model_without_an_opinion_on_four_choices_has_confidence_a_quarter():
    """Brier: 3 * 0.25^2 + 0.75^2 = 0.75; right for the first choice only, in half of the items: ECE = 0.25."""
    found = calibration([asked([-1.0] * 4, target, "wxyz") for target in "wwxy"])
    assert found is not None
    assert (found.brier, found.ece) == (pytest.approx(0.75), pytest.approx(0.25))


def test_brier_and_ece_are_scikit_learns_and_the_textbooks_on_300_random_items():
    draw, choices = random.Random(0), ("a", "b", "c")
    lines = [asked([draw.gauss(0, 2) for _ in choices], draw.choice(choices), choices) for _ in range(300)]
    found = calibration(lines)
    odds = [[math.exp(value) for value in each["loglikelihoods"]] for each in lines]
    sure = [[one / sum(row) for one in row] for row in odds]
    theirs = brier_score_loss([each["target"] for each in lines], sure, labels=list(choices), scale_by_half=False)
    assert found is not None
    assert found.brier == pytest.approx(theirs)
    ece = 0.0
    for low in range(10):
        mine = [
            (max(row), each) for row, each in zip(sure, lines, strict=True) if low / 10 < max(row) <= (low + 1) / 10
        ]
        ece += abs(sum(top - (each["answer"] == each["target"]) for top, each in mine)) / len(lines)
    assert found.ece == pytest.approx(ece)


def test_only_multiple_choice_is_calibrated():
    keys = {"output_type": "multiple_choice", "doc_to_choice": ["a", "b"], "metric_list": [{"metric": "acc"}]}
    assert tally(task(**keys), [asked([0.0, -1.0], "a")], {}).calibration is not None
    assert calibration([line(0, None, "a", loglikelihoods=[])]) is None
