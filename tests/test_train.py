"""The training loop: packed equals separate, micro-batches do not matter, and a killed run ends as an unbroken one."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from configs.base import load_weights
from configs.errors import DataError, RecipeError
from configs.records import Run
from configs.store import HOUSE
from tests.training_jobs import (
    checkpoint_of,
    crashed_at,
    equal,
    make_job,
    metrics_of,
    poisoned,
    rewrite_state,
    rows_with,
    stop_at,
    weights_of,
    with_weights,
    write_corpus,
)
from training.attention import register
from training.batches import Rows, Schedule
from training.model import PackedModel
from training.optimizer import learning_rate
from training.train import train


def test_packed_loss_equals_the_loss_of_each_document_alone_to_1e_5(tmp_path, tiny_base):
    record = write_corpus(tmp_path / "corpus")
    rows = Rows(tmp_path / "corpus", record)
    model = PackedModel(load_weights(tiny_base, dtype=torch.float32, attention=register()), torch.float32).eval()
    plain = load_weights(tiny_base, dtype=torch.float32, attention="eager")
    packed = float(model(rows.batch([0, 3, 7]).to(torch.device("cpu"))).detach())
    alone = 0.0
    for row, start, length, _ in rows.segments:
        if row in (0, 3, 7):
            ids = torch.from_numpy(rows.tokens[start : start + length].astype(np.int64))[None]
            wanted = torch.from_numpy(rows.supervised[start + 1 : start + length].astype(bool))
            with torch.inference_mode():
                logits = plain(ids, use_cache=False).logits[0, :-1]
            alone += float(cross_entropy(logits[wanted], ids[0, 1:][wanted], reduction="sum"))
    assert packed == pytest.approx(alone, rel=1e-5)


def test_a_batch_shape_met_first_in_validation_can_be_trained_on_afterwards(tmp_path, tiny_base):
    record = write_corpus(tmp_path / "corpus")
    rows = Rows(tmp_path / "corpus", record)
    model = PackedModel(load_weights(tiny_base, dtype=torch.float32, attention=register()), torch.float32)
    batch = rows.batch([1, 6])  # documents of 3 and 14 tokens: a shape that no other test packs
    with torch.inference_mode():
        model(batch)
    model(batch).backward()
    assert model.causal.get_input_embeddings().weight.grad is not None


def test_8_rows_3_epochs_2_rows_a_step_are_12_steps_that_see_each_row_3_times():
    schedule = Schedule(rows=8, rows_per_step=2, epochs=3.0, seed=17)
    seen = [row for step in range(schedule.steps) for row in schedule.at(step)]
    assert schedule.steps == 12
    assert [seen.count(row) for row in range(8)] == [3] * 8
    assert sorted(seen[:8]) == list(range(8))  # each epoch is a permutation


def test_the_learning_rate_rises_for_3_of_100_steps_and_ends_at_a_tenth():
    rates = [learning_rate(step, 100, 2e-4, 0.03, 0.1) for step in range(100)]
    assert max(rates) == rates[2] == rates[3] == 2e-4
    assert rates[0] == pytest.approx(2e-4 / 3)
    assert rates[99] == pytest.approx(2e-5, rel=0.02)


def test_the_loss_falls_and_a_second_call_keeps_the_run(tmp_path, tiny_base, capsys):
    job = make_job(tmp_path, tiny_base)
    run = train(job)
    assert run.steps == 12
    assert run.loss_last < run.loss_first - 0.1
    assert [point.step for point in run.curve] == [0, 4, 8, 12]
    assert set(run.curve[0].losses) == {"sector", "general"}
    assert len((job.folder.run / "metrics.jsonl").read_text().splitlines()) == 12 + 4
    before = (job.folder.run / "run.json").read_bytes()
    assert train(job) == run
    assert (job.folder.run / "run.json").read_bytes() == before
    assert "unchanged, kept" in capsys.readouterr().err


def test_a_changed_rank_trains_again_and_says_so(tmp_path, tiny_base, capsys):
    train(make_job(tmp_path, tiny_base, max_steps=1))
    train(make_job(tmp_path, tiny_base, max_steps=1, rank=4))
    assert "train again: train.rank 16 -> 4" in capsys.readouterr().err


def test_micro_batches_of_32_and_of_64_tokens_give_the_same_weights_to_1e_5(tmp_path, tiny_base):
    one = make_job(tmp_path / "one", tiny_base, learning_rate=1e-3)
    two = make_job(tmp_path / "two", tiny_base, learning_rate=1e-3, micro_batch_tokens=32)
    train(one), train(two)
    for name, value in weights_of(one).items():
        torch.testing.assert_close(weights_of(two)[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "point",
    [
        "train.step:5",
        "train.checkpoint:2",
        "store.before_rename:2",
        "store.between_renames:3",
        "train.before_save",
        "train.before_record",
    ],
)
def test_a_run_killed_at_any_point_ends_bit_for_bit_like_an_unbroken_one(tmp_path, tiny_base, point, unbroken):
    """With dropout, two micro-batches a step, and 12 steps over 3 epochs of 8 rows."""
    killed = make_job(tmp_path, tiny_base, **KILLED)
    crashed_at(point, lambda: train(killed))
    assert not (killed.folder.run / "run.json").exists()
    resumed = train(killed)
    assert (resumed.steps, resumed.segments) == (12, 2)
    assert equal(weights_of(killed), weights_of(unbroken))
    assert [line["step"] for line in metrics_of(killed) if "loss" in line] == list(range(1, 13))


KILLED = {"dropout": 0.1, "micro_batch_tokens": 32}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, tiny_base):
    job = make_job(tmp_path_factory.mktemp("unbroken"), tiny_base, **KILLED)
    train(job)
    return job


def test_a_damaged_checkpoint_is_moved_aside_and_the_one_before_is_used(tmp_path, tiny_base, capsys):
    job = make_job(tmp_path, tiny_base)
    stop_at(job, step=6)
    weights = job.folder.run / "checkpoints" / "step-000006" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert train(job).steps == 12
    said = capsys.readouterr().err
    assert "checkpoint step-000006 is damaged" in said
    assert "resuming at step 3 of 12" in said


def test_sigterm_writes_a_checkpoint_and_the_same_command_resumes(tmp_path, tiny_base, capsys):
    job = make_job(tmp_path, tiny_base, checkpoint_every=100)
    stop_at(job, step=5)
    run = train(job)
    assert "resuming at step 5 of 12" in capsys.readouterr().err
    assert (run.steps, run.segments) == (12, 2)


def test_a_second_sigterm_leaves_at_once_with_143(tmp_path):
    code = (
        "import os, signal; from training.guard import Guard\n"
        "with Guard('report').watching():\n"
        "    for _ in range(3): os.kill(os.getpid(), signal.SIGTERM); print('still here', flush=True)"
    )
    left = subprocess.run([sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True, check=False)
    assert (left.returncode, left.stdout) == (143, "still here\n")


def test_an_unfinished_run_of_another_recipe_is_refused_with_the_difference(tmp_path, tiny_base):
    stop_at(make_job(tmp_path, tiny_base), step=3)
    with pytest.raises(RecipeError, match=r"train.learning_rate: 0.01 -> 0.02"):
        train(make_job(tmp_path, tiny_base, learning_rate=2e-2))


def test_a_flipped_byte_in_the_corpus_is_found_before_training(tmp_path, tiny_base):
    job = make_job(tmp_path, tiny_base)
    path = job.folder.corpus / "tokens.bin"
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="bytes differ"):
        train(job)


def test_a_base_whose_weights_give_nan_is_refused_before_the_first_step(tmp_path, tiny_base):
    broken = with_weights(tiny_base, tmp_path / "broken", lambda it: it.model.norm.weight[0].fill_(float("nan")))
    job = make_job(tmp_path, broken)
    with pytest.raises(DataError, match="not finite"):
        train(job)
    assert not (job.folder.run / "run.json").exists()


def test_a_row_that_gives_nan_is_named_and_its_step_alone_is_not_applied(tmp_path, tiny_base, capsys):
    """One row of eight holds the poisoned token: with one row a step and one epoch that is one step of eight."""
    job = make_job(tmp_path, tiny_base)
    token = next(it for it in range(3, 300) if len(rows_with(job, it)) == 1)
    base = poisoned(tiny_base, tmp_path / "poisoned", token)
    run = train(make_job(tmp_path, base, epochs=1.0, batch_tokens=32))
    [row] = rows_with(job, token)
    assert (run.steps, run.skipped_steps) == (8, 1)
    assert f"not applied (rows {row})" in capsys.readouterr().err
    lines = [json.loads(line) for line in (job.folder.run / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines if "loss" in line].count(None) == 1
    assert [line["rows"] for line in lines if line.get("event") == "not finite"] == [[row]]


def test_8_rows_seen_1_time_in_steps_of_3_are_one_epoch_not_nine_eighths(tmp_path, tiny_base):
    run = train(make_job(tmp_path, tiny_base, epochs=1.0, batch_tokens=96, micro_batch_tokens=96))
    assert (run.steps, run.epochs) == (3, 1.0)


def test_a_run_whose_weights_were_damaged_is_trained_again_to_the_same_weights(tmp_path, tiny_base, capsys):
    job = make_job(tmp_path, tiny_base, max_steps=2)
    digest = train(job).weights_digest
    (job.folder.run / "adapter" / "adapter_model.safetensors").unlink()
    assert train(job).weights_digest == digest
    assert "train again: " in (said := capsys.readouterr().err)
    assert "adapter_model.safetensors: file is missing" in said


def test_metrics_hold_each_look_once_although_the_run_was_stopped_between_look_and_checkpoint(tmp_path, tiny_base):
    """Looks at 0, 4, 8, 12; a checkpoint at 3 only; killed in step 5, so that the look at 4 is taken twice."""
    job = make_job(tmp_path, tiny_base)
    stop_at(job, step=3)
    metrics = job.folder.run / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 4, "loss": 1.0}\n{"step": 4, "validation": {}}\n{"step": 5, "lo')
    train(job)
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == [0, 4, 8, 12]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 13))


def test_other_packages_than_before_a_stop_are_named(tmp_path, tiny_base, capsys):
    job = make_job(tmp_path, tiny_base)
    stop_at(job, step=3)
    rewrite_state(checkpoint_of(job, 3), lambda it: it["state"]["made"][-1]["packages"].update(torch="1.0"))
    train(job)
    assert "other packages than before the stop, so numbers may differ: torch 1.0 -> " in capsys.readouterr().err


@pytest.mark.parametrize("method", ["full", "scratch"])
def test_the_same_loop_tunes_all_weights_and_trains_from_scratch(tmp_path, tiny_base, method):
    run = train(make_job(tmp_path, tiny_base, method=method))
    assert run.trainable_parameters == run.total_parameters
    assert run.loss_last < run.loss_first
    assert load_weights(tmp_path / "runs" / "t" / "run" / "model", dtype=torch.float32).config.hidden_size == 32


def test_run_json_vouches_for_every_file_it_names(tmp_path, tiny_base):
    job = make_job(tmp_path, tiny_base, max_steps=1)
    train(job)
    run = Run.read(job.folder.run / "run.json")
    assert set(run.files) == {"adapter/adapter_config.json", "adapter/adapter_model.safetensors", "metrics.jsonl"}
