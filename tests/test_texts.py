"""Likeness of texts by hand and against rouge_score and sacrebleu."""

from __future__ import annotations

import random

import numpy as np
import pytest

from eval.score import chrf
from eval.texts import char_f1, longest_common, rouge_l, same_text, shared_runs, token_f1

WORDS = ["rate", "Bank", "the", "rose", "fell", "in", "March", "3.5", "loan,", "a", "利率", "下调"]


def sentences(n, seed, words=WORDS):
    draw = random.Random(seed)
    return [" ".join(draw.choice(words) for _ in range(draw.randint(1, 9))) for _ in range(n)]


def test_token_f1_by_hand():
    """Words the: none; "rate rose" against "rate fell": one of two shared, 2*1/4. 下调利率 and 利率: 2 of 4 and 2 of 2."""
    assert token_f1("the rate rose", "rate fell") == pytest.approx(0.5)
    assert token_f1("下调利率", "利率") == pytest.approx(2 * 2 / 6)
    assert token_f1("", "") == 1
    assert token_f1("yes", "") == 0


def test_char_f1_counts_characters_without_spaces_and_marks():
    """下调 利率。 and 利率上调: three of four characters each, 2*3/8; A4纸 and A3 纸: two of three."""
    assert char_f1("下调 利率。", "利率上调") == pytest.approx(0.75)
    assert char_f1("Ａ4纸", "A3 纸") == pytest.approx(2 / 3)
    assert char_f1("", "利") == 0


def test_rouge_l_by_hand():
    """police ... killed the gunman, Lin 2004: against "police kill the gunman" 3 of 4 words in order, 2*3/8."""
    assert rouge_l("police killed the gunman", "police kill the gunman") == pytest.approx(0.75)
    assert rouge_l("the gunman kill police", "police kill the gunman") == pytest.approx(0.5)
    assert rouge_l("央行下调利率", "利率下调") == pytest.approx(2 * 2 / 10)
    assert rouge_l("", "x") == 0


def test_rouge_l_is_that_of_rouge_score_on_200_random_english_pairs():
    Scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer
    english = [word for word in WORDS if word.isascii()]
    scorer = Scorer(["rougeL"])
    for given, gold in zip(sentences(200, 1, english), sentences(200, 2, english), strict=True):
        assert rouge_l(given, gold) == pytest.approx(scorer.score(gold, given)["rougeL"].fmeasure)


def test_the_longest_common_subsequence_of_long_texts_is_that_of_the_textbook():
    draw = random.Random(3)
    one, other = ([draw.choice("abcd") for _ in range(150)] for _ in range(2))
    row = [0] * 151
    for mine in one:
        last = row
        row = [0]
        for at, theirs in enumerate(other):
            row.append(last[at] + 1 if mine == theirs else max(last[at + 1], row[at]))
    assert longest_common(one, other) == row[-1]


def test_chrf_by_hand():
    """ab against abc. Runs of 1: given 2, gold 3, shared 2; runs of 2: 1, 2, 1; runs of 3: 0, 1, 0; longer ones: none.

    Precision 1; recall (2/3 + 1/2) / 2 = 7/12; F with recall twice: 5 * 7/12 / (4 + 7/12) = 7/11.
    """
    counts = shared_runs("ab", "abc")
    assert counts == [2, 3, 2, 1, 2, 1, 0, 1, 0, *[0] * 9]
    assert float(chrf(np.array(counts, float))) == pytest.approx(7 / 11)


def test_chrf_is_sacrebleus_over_a_corpus_and_by_sentence():
    Chrf = pytest.importorskip("sacrebleu.metrics").CHRF
    given, gold = sentences(200, 4), sentences(200, 5)
    given[0] = ""
    counts_ND = np.array([shared_runs(ours, theirs) for ours, theirs in zip(given, gold, strict=True)], float)
    assert float(chrf(counts_ND.sum(axis=0))) == pytest.approx(Chrf().corpus_score(given, [gold]).score / 100)
    one_by_one = [Chrf().sentence_score(ours, [theirs]).score / 100 for ours, theirs in zip(given, gold, strict=True)]
    assert chrf(counts_ND).tolist() == pytest.approx(one_by_one)


def test_without_options_width_case_and_the_full_stop_are_forgiven():
    assert same_text("Ｙｅｓ.", "yes", {})
    assert not same_text("yes, sir", "yes sir", {})


def test_with_options_texts_are_compared_as_lm_evaluation_harness_does():
    theirs_of = pytest.importorskip("lm_eval.api.metrics").exact_match_hf_evaluate
    wishes = [
        {"ignore_case": True},
        {"ignore_punctuation": True},
        {"ignore_case": True, "ignore_punctuation": True},
        {"ignore_numbers": True},
        {"regexes_to_ignore": [",", r"\$", r"\.$"]},
        {"regexes_to_ignore": ["the "], "ignore_case": True},
    ]
    pairs = [
        ("Yes", "yes"),
        ("yes.", "yes"),
        ("$1,200", "1200"),
        ("the rate", "rate"),
        ("The Rate", "rate"),
        ("a1", "a2"),
    ]
    for wish in wishes:
        for given, gold in pairs:
            theirs = theirs_of([given], [gold], **wish)["exact_match"]
            assert same_text(given, gold, wish) == bool(theirs), (wish, given, gold)
