"""What protects a run: leaps of the loss, the row that made them, and what is remembered of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import torch

from tests.training_jobs import equal, make_job, metrics_of, rows_with, stop_at, weights_of, with_weights
from training.checkpoint import State
from training.guard import REMEMBERED, Guard, is_spike
from training.train import train

if TYPE_CHECKING:
    from pathlib import Path

    from configs.job import Job

CONSTANT = {"epochs": 3.0, "batch_tokens": 32, "warmup": 0.0, "final": 1.0, "learning_rate": 1e-3}
"""24 steps of one row with the same learning rate, so that fewer steps are the beginning of more."""


def test_a_loss_is_a_spike_6_deviations_and_a_tenth_above_the_median_of_the_last():
    """Losses 1.9, 2.0 and 2.1 in turn: median 2.0, median deviation 0.1, six deviations 6 x 1.4826 x 0.1 = 0.89."""
    before = [1.9, 2.0, 2.1, 2.0, 1.9, 2.1] * 3
    assert [is_spike(loss, before) for loss in (2.88, 2.90)] == [False, True]
    assert [is_spike(loss, [2.0] * 16) for loss in (2.19, 2.21)] == [False, True]  # hardly any deviation: a tenth
    assert not is_spike(100.0, [2.0] * 15)  # too few to know


def test_skipped_spikes_are_remembered_so_that_a_new_level_is_learnt_from_once_it_is_half_of_the_memory():
    guard, state = Guard("skip"), State(recent=[2.0] * REMEMBERED)
    verdicts = [guard.judge(4.0, 1.0, state) for _ in range(REMEMBERED)]
    assert verdicts.index("apply") == REMEMBERED // 2
    assert [guard.applies("spike"), Guard("report").applies("spike")] == [False, True]


def test_one_step_without_a_number_is_let_be_and_every_third_in_a_row_sets_back():
    guard, state = Guard("report"), State()
    nan, inf = float("nan"), float("inf")
    steps = [(nan, 1.0), (2.0, inf), (2.0, 1.0), (nan, nan), (inf, 1.0), (2.0, nan), (nan, 1.0), (nan, 1.0), (nan, 1.0)]
    assert [guard.judge(*step, state) for step in steps] == [
        "not finite", "not finite", "apply", "not finite", "not finite", "rewind", "not finite", "not finite", "rewind",
    ]  # fmt: skip
    assert (state.in_a_row, state.recent) == (6, [2.0])


def leaping(folder: Path, base: Path, token: int) -> Path:
    """A base whose loss is some 60 nats where `token` is read: its direction alone makes one token all but certain."""

    def change(model) -> None:
        embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        embedding[:, 0] = 0.0
        embedding[token] = 0.0
        embedding[token, 0] = 1000.0
        head[:, 0] = 0.0
        head[319, 0] = 10.0  # no document has token 319

    return with_weights(base, folder, change)


@pytest.fixture(scope="module")
def leap(tmp_path_factory, tiny_base):
    """A base, and the row of eight on which its loss leaps: fourth in the third epoch, step 20 of 24."""
    folder = tmp_path_factory.mktemp("leap")
    look = make_job(folder / "look", tiny_base)
    token = next(token for token in range(3, 300) if rows_with(look, token) == [3])
    return leaping(folder / "base", tiny_base, token)


def events_of(job: Job) -> list[tuple[int, str, list[int]]]:
    return [(line["step"], line["event"], line["rows"]) for line in metrics_of(job) if line.get("event") == "spike"]


def test_a_leap_of_the_loss_is_reported_with_its_row_also_when_the_run_was_stopped_before_it(tmp_path, leap, capsys):
    """Row 3 comes first in the first epoch, third in the second (step 11, when 10 losses are too few), fourth
    in the third."""
    job = make_job(tmp_path, leap, **CONSTANT)
    stop_at(job, step=17)
    run = train(job)
    assert (run.spikes, run.skipped_steps, events_of(job)) == (1, 0, [(20, "spike", [3])])
    [told] = re.findall(
        r"step 20: loss spike, loss (\S+), gradient norm \S+: applied \(rows 3\)", capsys.readouterr().err
    )
    assert float(told) > 6


def test_with_on_spike_skip_the_weights_are_those_without_that_step(tmp_path, leap):
    skipped = make_job(tmp_path / "a", leap, **CONSTANT, max_steps=20, on_spike="skip")
    run = train(skipped)
    assert (run.spikes, run.skipped_steps) == (1, 1)
    before = make_job(tmp_path / "b", leap, **CONSTANT, max_steps=19)
    train(before)
    assert equal(weights_of(skipped), weights_of(before))
    reported = make_job(tmp_path / "c", leap, **CONSTANT, max_steps=20)
    train(reported)
    assert not equal(weights_of(reported), weights_of(before))


def test_a_new_phase_with_other_losses_has_no_spikes_and_is_learnt(tmp_path, tiny_base):
    """What is remembered of a phase says nothing about the next: else every step of it would be skipped."""
    import training.loop as page

    seen = []
    original = page.gradients

    def noted(loop, at, meter):
        if at.begins:
            seen.append((at.stretch.number, list(loop.state.recent)))
        return original(loop, at, meter)

    phases = [{"objective": "text", "epochs": 2.0}, {"objective": "text", "epochs": 1.0}]
    job = make_job(tmp_path, tiny_base, **CONSTANT | {"phases": phases, "on_spike": "skip"})
    page.gradients = noted
    try:
        run = train(job)
    finally:
        page.gradients = original
    assert seen == [(0, []), (1, [])]
    assert (run.steps, run.skipped_steps) == (15, 0)  # 10 documents of one source in 5 rows, seen three times
    assert all(bool(torch.isfinite(value).all()) for value in weights_of(job).values())
