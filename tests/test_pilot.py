"""Training on parts of the rows, and what it says about the whole."""

from __future__ import annotations

import json

import numpy as np
import pytest

from configs.trials import Pilot
from tests.test_sweep import sweep_job
from tests.test_train import write_corpus
from training.batches import Rows
from training.pilot import pilot, told
from training.power import predicted
from training.train import train


def test_half_of_8_rows_are_4_whole_rows_of_the_corpus_and_a_quarter_lies_in_them(tmp_path):
    rows = Rows(tmp_path / "corpus", write_corpus(tmp_path / "corpus"))
    half, quarter = rows.part(0.5, 17), rows.part(0.25, 17)
    assert (half.train, quarter.train) == (4, 2)
    assert len(half.validation) == 0

    def starts(view: Rows) -> list[tuple[int, ...]]:
        return [tuple(view.pieces([row])[:, 1].tolist()) for row in range(view.train)]

    whole = starts(rows)
    assert [it for it in whole if it in starts(half)] == starts(half)
    assert set(starts(quarter)) < set(starts(half))
    assert np.array_equal(half.length, [int(rows.length[whole.index(it)]) for it in starts(half)])


def test_another_seed_chooses_other_rows_and_the_smallest_part_is_one_row(tmp_path):
    rows = Rows(tmp_path / "corpus", write_corpus(tmp_path / "corpus"))
    chosen = {tuple(rows.part(0.5, seed).segments[:, 1].tolist()) for seed in range(8)}
    assert len(chosen) > 1
    assert rows.part(0.001, 17).train == 1
    assert np.array_equal(rows.part(1.0, 17).segments, rows.segments[rows.segments[:, 0] < 8])


def test_a_law_that_ends_at_2_is_found_again_from_three_parts_and_the_interval_holds_it():
    def law(tokens: float) -> float:
        return 2 + 2 * (1 + tokens / 1000) ** -0.5

    points = [(tokens, law(tokens)) for tokens in (500, 1000, 2500)]
    [whole] = predicted(law(0), points, [law(500)] * 3, [10_000])
    assert whole.low < law(10_000) < whole.high
    assert whole.value == pytest.approx(law(10_000), abs=0.03)  # 2.603


def test_of_60_noisy_laws_about_nine_tenths_lie_in_their_interval():
    random = np.random.default_rng(5)
    inside = 0
    for _ in range(60):
        exponent, scale, end = random.uniform(0.2, 1.2), 1000 * 10 ** random.uniform(-1, 1), random.uniform(1, 3)

        def measured(tokens: float, e: float = end, s: float = scale, b: float = exponent) -> float:
            noise = 0.01 * random.standard_normal() * (500 / tokens) ** 0.5
            return e + (4 - e) * (1 + tokens / s) ** -b + noise

        points = [(tokens, measured(tokens)) for tokens in (500, 1000, 2500)]
        [whole] = predicted(4.0, points, [measured(500) for _ in range(3)], [10_000])
        inside += whole.low < measured(10_000) < whole.high
    assert 48 <= inside <= 60  # 54 are expected, with a standard deviation of 2.3


def test_more_noise_between_seeds_is_a_wider_interval_and_a_loss_may_also_rise():
    points = [(500, 3.1), (1000, 3.2), (2500, 3.4)]
    [sure] = predicted(3.0, points, [3.1, 3.101, 3.099], [10_000])
    [unsure] = predicted(3.0, points, [3.1, 3.2, 3.0], [10_000])
    assert sure.high - sure.low < unsure.high - unsure.low
    assert sure.value > 3.4


PILOT = {"parts": [0.25, 0.5], "seeds": 2}


def pilot_job(root, base, **settings):
    job = sweep_job(root, base, {"train.rank": [2]}, **settings)
    recipe = job.recipe.model_copy(update={"pilot": Pilot.model_validate_json(json.dumps(PILOT)), "sweep": None})
    return type(job)(recipe, job.roots, job.folder)


def alone(job, _sets):
    return train(job)


def test_a_quarter_and_a_half_of_12_steps_are_3_and_6_steps_each_with_its_own_decay(tmp_path, tiny_base):
    job = pilot_job(tmp_path, tiny_base, max_general_loss_increase=0.0)  # a budget would end the parts early
    found = pilot(job, alone)
    assert {part: [one.steps for one in runs] for part, runs in found.outcomes.items()} == {0.25: [3, 3], 0.5: [6]}
    for name, steps in (("part=0.25", 3), ("part=0.25,seed=1", 3), ("part=0.5", 6)):
        lines = (job.folder.root / "pilot" / name / "run" / "metrics.jsonl").read_text().splitlines()
        rates = [json.loads(line)["learning_rate"] for line in lines if '"loss"' in line]
        assert len(rates) == steps
        assert rates[-1] < 0.6 * max(rates)  # of 3 steps the last has 55 % of the peak, of 6 fewer
    assert set(found.predictions) == {"sector", "general"}
    assert list(found.predictions["sector"]) == [1.0]
    assert found.measured == {}
    assert any("has 3 steps" in it for it in found.warnings)


def test_the_whole_run_that_is_there_is_what_the_prediction_is_compared_with(tmp_path, tiny_base):
    job = pilot_job(tmp_path, tiny_base)
    run = train(job)
    found = pilot(job, alone)
    assert found.tokens == run.tokens
    assert found.measured == {name: run.curve[-1].losses[name] for name in ("sector", "general")}
    off = found.as_json()["off_by"]["sector"]
    assert off == pytest.approx(found.predictions["sector"][1.0].value - run.curve[-1].losses["sector"])
    assert any("The whole run is there: sector loss" in line for line in told(found))
    other = pilot_job(tmp_path, tiny_base, learning_rate=5e-3)  # not the run that was piloted
    assert pilot(other, alone).measured == {}


def test_max_steps_is_parted_like_the_rows(tmp_path, tiny_base):
    found = pilot(pilot_job(tmp_path, tiny_base, max_steps=8), alone)
    assert [runs[0].steps for runs in found.outcomes.values()] == [2, 4]
