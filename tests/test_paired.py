"""What a comparison says beside the difference itself: what could be seen, by subject, clean and touched, above the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from configs.check import check_recipe
from configs.records import Calibration, Noise, Scorecard
from configs.store import HOUSE, RunFolder
from eval.compare import compare, compare_scorecards
from eval.paired import Paired, foreseen_note, foreseen_of
from eval.sentences import apart, remarks
from eval.words import measurable, verdict
from tests.test_compare import choice, corpus, job, pair, passages
from tests.test_report import row

if TYPE_CHECKING:
    from pathlib import Path

    from configs.records import Difference


def with_scores(folders: tuple[Path, Path], base: dict[str, object], tuned: dict[str, object]) -> None:
    """Write more into the first score of both scorecards."""
    for folder, more in zip(folders, (base, tuned), strict=True):
        card = Scorecard.read(folder / "scorecard.json")
        scores = (card.scores[0].model_copy(update=more), *card.scores[1:])
        card.model_copy(update={"scores": scores}).write(folder / "scorecard.json")


# ---------------------------------------------------------------- what could be seen


def test_of_97_items_only_a_difference_above_14_points_can_be_seen():
    """2.80 sqrt(0.25 / 97) = 0.142, where a quarter of the answers change."""
    singles = [str(number) for number in range(97)]
    assert foreseen_of("acc", singles, ["yes"] * 97) == pytest.approx(0.1422, abs=1e-4)


def test_ten_prompts_of_each_sentence_show_no_more_than_the_sentences():
    """Worst case: ten prompts change together. 970 items in 97 clusters; and clusters of 1 and 3 items count as 1.6."""
    sentences = [str(number // 10) for number in range(970)]
    assert foreseen_of("token_f1", sentences, ["x"] * 970) == pytest.approx(0.1422, abs=1e-4)
    uneven = foreseen_of("acc", ["a", "b", "b", "b"], ["x"] * 4)
    assert uneven == pytest.approx(2.8016 * (0.25 / 1.6) ** 0.5, abs=1e-3)


def test_a_rare_class_makes_macro_f1_harder_to_see():
    """90 and 10 items: the variance is that of 2² / (1/90 + 1/10) = 36 items; with 50 and 50 that of all 100."""
    singles = [str(number) for number in range(100)]
    even, rare = (foreseen_of("macro_f1", singles, ["a"] * n + ["b"] * (100 - n)) for n in (50, 90))
    assert (even, rare) == pytest.approx((2.8016 * (0.25 / 100) ** 0.5, 2.8016 * (0.25 / 36) ** 0.5), abs=1e-4)


@pytest.mark.parametrize("metric", ["bits_per_byte", "mcc"])
def test_what_bits_and_correlations_could_show_is_not_guessed_beforehand(metric):
    assert foreseen_of(metric, ["a", "b"], ["x", "y"]) is None


def test_sectorlm_check_says_it_before_any_compute():
    """The quickstart's 200 items: 2.80 sqrt(0.25 / 200) = 0.099."""
    notes = check_recipe(HOUSE / "configs/recipes/quickstart-finance.yaml", foresee=foreseen_note).notes
    assert any(
        note.endswith("finance_topics: 200 items: only a difference above 9.9 points could be seen") for note in notes
    )


def test_evaluate_limit_is_counted_before_any_compute():
    """2.80 sqrt(0.25 / 31) = 0.252 is more than a fifth of the scale."""
    notes = check_recipe(
        HOUSE / "configs/recipes/quickstart-finance.yaml", ["evaluate.limit=31"], foresee=foreseen_note
    ).notes
    assert any(
        "finance_topics: not measurable with n = 31: only a difference above 25 points" in note for note in notes
    )


def test_evaluate_says_it_before_the_first_answer(finished):
    lines = (finished / "stderr.txt").read_text("utf-8").splitlines()
    assert any("only a difference above" in line and "could be seen" in line for line in lines)


def test_nothing_found_in_31_items_is_not_measurable_and_says_what_would_have_been(tmp_path):
    """10 gained and 6 lost of 31: +12.9 points, and below 35 points nothing could be found."""
    lines = {"tiny": choice("tiny", "-" * 10 + "+" * 21)}, {"tiny": choice("tiny", "+" * 10 + "-" * 6 + "+" * 15)}
    [found] = compare_scorecards(*pair(tmp_path, *lines))
    assert (found.gained, found.lost, found.n) == (10, 6, 31)
    assert found.foreseen == pytest.approx(0.2516, abs=1e-4)
    assert found.detectable == pytest.approx(0.352, abs=0.01)
    assert verdict(found) == "not measurable with n = 31"
    [told] = remarks([found])
    assert told.startswith("tiny: not measurable with n = 31: only a difference above 35.")


def test_what_is_found_is_told_however_few_the_items():
    """20 of 20 gained is better, though 20 items could not have shown a plausible gain."""
    found = row(detectable=0.4)
    assert not measurable(found)
    assert verdict(found) == "better"


def test_bits_are_measurable_against_their_base():
    """A fifth of 1.8 bits is 0.36."""
    nothing = {"metric": "bits_per_byte", "base": 1.8, "p_holm": 0.5, "higher_is_better": False}
    assert [measurable(row(detectable=seen, **nothing)) for seen in (0.35, 0.37)] == [True, False]


# ---------------------------------------------------------------- parts of a task


def test_the_interval_says_how_it_was_made(tmp_path):
    marks = {"m": "-" * 30, "c": "-" * 30}
    base = {task: choice(task, some) for task, some in marks.items()}
    tuned = {task: choice(task, "+" * 5 + some[5:]) for task, some in marks.items()}
    for side in (base, tuned):
        for place, line in enumerate(side["c"]):
            line["cluster"] = str(place // 3)
    found = compare_scorecards(*pair(tmp_path, base, tuned))
    assert [(it.task, it.method) for it in found] == [("m", "score"), ("c", "bootstrap")]


def test_subjects_stand_by_themselves_with_their_own_intervals(tmp_path):
    """Law: 0 to 3 of 4 right. Tax: 2 and 2 of 4. Over both +3/8."""
    base, tuned = choice("m", "----++--"), choice("m", "+++-++--")
    for side in (base, tuned):
        for place, line in enumerate(side):
            line["subject"] = "law" if place < 4 else "tax"
    [found] = compare_scorecards(*pair(tmp_path, {"m": base}, {"m": tuned}))
    law, tax = found.subjects
    assert (law.name, law.n, law.base, law.tuned, law.difference) == ("law", 4, 0.0, 0.75, 0.75)
    assert (tax.name, tax.n, tax.base, tax.tuned, tax.difference) == ("tax", 4, 0.5, 0.5, 0.0)
    assert law.low < 0.75 < law.high
    assert (tax.low, tax.high) == pytest.approx((-0.4899, 0.4899), abs=1e-4)  # z² / (4 + z²)
    assert found.difference == pytest.approx(3 / 8)


def test_a_task_of_one_subject_is_not_broken_down(tmp_path):
    base, tuned = choice("m", "----"), choice("m", "+---")
    for line in (*base, *tuned):
        line["subject"] = "law"
    [found] = compare_scorecards(*pair(tmp_path, {"m": base}, {"m": tuned}))
    assert found.subjects == ()


def test_clean_and_touched_items_stand_side_by_side(tmp_path):
    """Gained: both touched items, and one of the four clean ones: a gain of 50 points is one of 25 where nothing leaked."""
    base, tuned = choice("m", "------"), choice("m", "+++---")
    pair(tmp_path, {"m": base}, {"m": tuned})
    corpus(RunFolder(tmp_path).corpus, {"m": (base[0]["item"], base[1]["item"])}, {"m": 6})
    [found] = compare(job(tmp_path)).differences
    clean, touched = found.parts
    assert (clean.name, clean.n, clean.base, clean.tuned, clean.difference) == ("clean", 4, 0.0, 0.25, 0.25)
    assert (touched.name, touched.n, touched.base, touched.tuned, touched.difference) == ("touched", 2, 0.0, 1.0, 1.0)
    assert (found.clean, found.clean_n) == (0.25, 4)
    report = (RunFolder(tmp_path).report / "report.md").read_text("utf-8")
    assert "| m | touched | 0.0 | 100.0 | +100.0 |" in report
    assert apart("acc", clean).startswith("clean +25.0 points (")


@pytest.mark.parametrize(("touched", "clean", "left"), [((), 0.5, 6), (range(6), None, 0)])
def test_all_clean_or_all_touched_needs_no_parts(tmp_path, touched, clean, left):
    base, tuned = choice("m", "------"), choice("m", "+++---")
    pair(tmp_path, {"m": base}, {"m": tuned})
    corpus(RunFolder(tmp_path).corpus, {"m": tuple(base[place]["item"] for place in touched)}, {"m": 6})
    [found] = compare(job(tmp_path)).differences
    assert (found.parts, found.clean, found.clean_n) == ((), clean, left)


def test_the_parts_of_a_confusion_matrix_keep_the_classes_of_the_whole():
    """Macro-F1 over good and bad; the clean items are all gold good: F1 of good 1 and 0 of bad, which one answer said."""
    lines = [
        choice("m", "++-+")[place] | {"answer": answer} for place, answer in enumerate(("good", "good", "bad", "good"))
    ]
    found = Paired("m", "macro_f1", (lines, lines), (17, 1000)).part("clean", np.array([0, 1, 2]))
    assert found.base == pytest.approx(0.8 / 2)  # 2 * 2 / (2 + 3) = 0.8, and 0


# ---------------------------------------------------------------- noise and calibration


def noisy(tmp_path: Path, base: Noise | None, tuned: Noise | None) -> Difference:
    folders = pair(tmp_path, {"m": choice("m", "+-" * 50)}, {"m": choice("m", "++" + "+-" * 49)})
    with_scores(folders, {"noise": base}, {"noise": tuned})
    [found] = compare_scorecards(*folders)
    return found


def test_the_larger_noise_of_the_two_models_stands_beside_the_effect(tmp_path):
    """One answer of 100 gained, +1 point; another batch shape changed the tuned model by 2 points."""
    quiet = Noise(items=100, changed=0, difference=0.0, largest=1e-6)
    loud = Noise(items=100, changed=2, difference=-0.02, largest=0.1)
    found = noisy(tmp_path, quiet, loud)
    assert found.noise == pytest.approx(1.96 * 2**0.5 / 100, abs=1e-4)  # two changes, either way: more than the 2 seen
    assert "not above what another shape of the batches may change by itself, 2.8 points." in " ".join(remarks([found]))
    assert verdict(row(noise=0.7)) == "better, within noise"


def test_noise_of_a_part_of_the_items_is_carried_to_all_of_them(tmp_path):
    """1 of 25 items changed, which is 4 points there; of 100 items some 4 would, a net 1.96 sqrt(1 / 2500) = 3.9 points."""
    found = noisy(tmp_path, None, Noise(items=25, changed=1, difference=0.04, largest=0.1))
    assert found.noise == pytest.approx(0.0392, abs=1e-4)


def test_without_a_measurement_no_noise_is_claimed(tmp_path):
    assert noisy(tmp_path, None, None).noise is None


def test_noise_of_bits_is_what_was_measured(tmp_path):
    folders = pair(tmp_path, {"t": passages("t", [100.0] * 30)}, {"t": passages("t", [100.01] * 30)})
    with_scores(folders, {}, {"noise": Noise(items=10, changed=0, difference=-0.002, largest=0.01)})
    [found] = compare_scorecards(*folders)
    assert found.noise == 0.002
    assert verdict(found) == "worse, within noise"


def test_a_model_that_became_surer_than_right_is_told(tmp_path):
    folders = pair(tmp_path, {"m": choice("m", "+-" * 20)}, {"m": choice("m", "++" * 20)})
    sure = [{"calibration": Calibration(ece=ece, brier=0.3)} for ece in (0.05, 0.15)]
    with_scores(folders, *sure)
    [found] = compare_scorecards(*folders)
    assert found.ece == (0.05, 0.15)
    assert "calibration error rose from 0.050 to 0.150" in " ".join(remarks([found]))
    assert not remarks([row(ece=(0.05, 0.09))])


def test_an_evaluate_block_that_is_no_block_is_a_problem_and_no_crash(tmp_path):
    recipe = (HOUSE / "configs/recipes/quickstart-finance.yaml").read_text("utf-8")
    start = recipe.index("evaluate:")
    (tmp_path / "r.yaml").write_text(recipe[:start] + "evaluate: 3\n", "utf-8")
    found = check_recipe(tmp_path / "r.yaml", foresee=foreseen_note)
    assert any("evaluate" in str(problem) for problem in found.problems)


def test_the_rise_that_the_gate_sees_is_the_one_that_the_panel_judges(tmp_path):
    """101, 105 and 109 nats against 100: 5 % more, by the gate as the difference over the base, by the panel as a ratio."""
    sides = passages("t", [100.0] * 30), passages("t", [101.0, 105.0, 109.0] * 10)
    pair_of_both = Paired("t", "bits_per_byte", sides, (17, 1000))
    whole, rise = pair_of_both.measured(), pair_of_both.relative()
    assert rise.value == pytest.approx(0.05)
    assert whole.interval.value / whole.base == pytest.approx(rise.value)
    assert 0.03 < rise.low < 0.05 < rise.high < 0.07
