"""Training under attack, one test or more for each fault: what is damaged is named, and the run ends like an unbroken one."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from configs.base import PICKLES
from configs.errors import DataError, DivergedError, MemoryExhaustedError, RecipeError, StorageError
from configs.records import Run
from configs.store import RunFolder
from tests.recipes import sectorlm
from tests.training_jobs import (
    checkpoint_of,
    crashed_at,
    ended,
    equal,
    losses_of,
    made,
    make_job,
    metrics_of,
    poisoned,
    rewrite_state,
    rows_with,
    started,
    steps_kept,
    stop_at,
    weights_of,
    when,
)
from training.model import PackedModel
from training.train import train

if TYPE_CHECKING:
    from configs.job import Job

ORDER = [3, 2, 4, 5, 0, 1, 7, 6]
"""Rows of the first epoch with the recipe's seed, 17."""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, tiny_base):
    """The adapter that 12 undisturbed steps give."""
    job = make_job(tmp_path_factory.mktemp("unbroken"), tiny_base)
    train(job)
    return weights_of(job)


@pytest.fixture
def stopped(tmp_path, tiny_base):
    """A run that was stopped after step 7 of 12, with checkpoints of steps 6 and 7."""
    job = make_job(tmp_path, tiny_base)
    stop_at(job, step=7)
    assert steps_kept(job) == ["step-000006", "step-000007"]
    return job


# ---------------------------------------------------------------- damaged checkpoints


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def another_step(path: Path) -> None:
    path.write_text(path.read_text().replace('"step": 7,', '"step": 8,', 1))


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("weights.safetensors", cut, "bytes differ from the sha256"),
        ("weights.safetensors", flip, "bytes differ from the sha256"),
        ("optimizer.safetensors", flip, "bytes differ from the sha256"),
        ("optimizer.safetensors", Path.unlink, "file is missing"),
        ("state.json", cut, "Unterminated string|Expecting"),
        ("state.json", another_step, "bytes differ from its own sha256"),
        ("state.json", Path.unlink, "No such file"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_leads_to_the_same_weights(
    stopped, unbroken, capsys, file, damage, reason
):
    damage(checkpoint_of(stopped, 7) / file)
    assert train(stopped).steps == 12
    said = capsys.readouterr().err
    [line] = [line for line in said.splitlines() if "checkpoint step-000007 is damaged" in line]
    assert any(word in line for word in reason.split("|")), line
    assert ("--weights-only would go on from them" in line) == (file == "optimizer.safetensors")
    assert "resuming at step 6 of 12" in said
    assert equal(weights_of(stopped), unbroken)


def test_weights_only_goes_on_from_a_checkpoint_that_lost_its_optimiser_also_after_it_was_moved_aside(stopped, capsys):
    shutil.rmtree(checkpoint_of(stopped, 6))
    (checkpoint_of(stopped, 7) / "optimizer.safetensors").unlink()
    moved = checkpoint_of(stopped, 7).with_name("damaged-step-000007")
    shutil.copytree(checkpoint_of(stopped, 7), moved)
    assert train(stopped, weights_only=True).steps == 12
    said = capsys.readouterr().err
    assert "going on from the weights of step-000007 alone: the optimiser begins anew" in said
    assert "resuming at step 7 of 12" in said


def test_lines_of_metrics_that_a_power_cut_damaged_are_left_out_and_the_run_goes_on(stopped, unbroken):
    path = stopped.folder.run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    assert '"step": 3' in lines[3]
    lines[3] = "\0" * 40
    path.write_text("\n".join([*lines, "[1]", "{}", '{"step": 7, "lo']))
    assert train(stopped).steps == 12
    assert equal(weights_of(stopped), unbroken)
    assert [line["step"] for line in metrics_of(stopped) if "loss" in line] == [1, 2, *range(4, 13)]


def test_with_no_checkpoint_left_the_run_begins_anew_and_says_so(stopped, unbroken, capsys):
    for step in (6, 7):
        cut(checkpoint_of(stopped, step) / "weights.safetensors")
    assert train(stopped).segments == 1
    assert "no good checkpoint is left: the run begins anew" in capsys.readouterr().err
    assert equal(weights_of(stopped), unbroken)


def test_a_folder_that_a_person_copied_beside_the_checkpoints_disturbs_nobody(stopped, unbroken):
    shutil.copytree(checkpoint_of(stopped, 6), checkpoint_of(stopped, 6).with_name("step-000006 (copy)"))
    train(stopped)
    assert equal(weights_of(stopped), unbroken)


class Trap:
    """Leaves a file behind when a pickle of it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_pickles_beside_or_instead_of_weights_are_never_opened_and_none_is_written(stopped, unbroken, tmp_path):
    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    for name in ("training_args.bin", "optimizer.pt", "pytorch_model.bin", "scheduler.pkl"):
        (checkpoint_of(stopped, 6) / name).write_bytes(trap)
    (checkpoint_of(stopped, 7) / "weights.safetensors").write_bytes(trap)
    train(stopped)
    assert not (tmp_path / "sprung").exists()
    assert not [path for kind in PICKLES for path in stopped.folder.run.rglob(kind)]
    assert equal(weights_of(stopped), unbroken)


@pytest.mark.parametrize("file", ["tokens.bin", "supervised.bin", "segments.npy"])
def test_a_cut_or_changed_file_of_the_corpus_is_named_before_training(tmp_path, tiny_base, file):
    job = make_job(tmp_path, tiny_base)
    whole = (job.folder.corpus / file).read_bytes()
    for damage in (cut, flip, Path.unlink):
        damage(job.folder.corpus / file)
        with pytest.raises(DataError) as refused:
            train(job)
        assert (refused.value.code, Path(refused.value.where).name) == (3, file)
        (job.folder.corpus / file).write_bytes(whole)
    assert not job.folder.run.exists()


# ---------------------------------------------------------------- the disk


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_on_a_disk_that_fills_up_the_last_checkpoint_is_kept_and_with_space_the_run_ends_like_an_unbroken_one(
    tmp_path, tiny_base, unbroken
):
    """A checkpoint has 75 kB of weights, twice that of moments, and a state: the second does not fit into 400 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", disk], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        job = make_job(disk, tiny_base)
        with pytest.raises(StorageError, match=r"a checkpoint of 0.2 MB needs 0.\d+ MB more than the 0.\d+ MB") as full:
            train(job)
        assert (full.value.code, full.value.where) == (5, str(job.folder.run / "checkpoints"))
        assert steps_kept(job) == ["step-000003"]
        subprocess.run(["mount", "-o", "remount,size=5m", disk], check=True)
        assert (train(job).segments, equal(weights_of(job), unbroken)) == (2, True)
        shutil.rmtree(job.folder.run)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(StorageError, match="no permission to write"):
            train(job)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)  # the corpus is still mapped


def test_whichever_call_to_the_disk_fails_the_same_command_goes_on_to_the_same_weights(
    tmp_path, tiny_base, monkeypatch
):
    """Two steps with a checkpoint after each: the n-th call fails for n = 1, 3, 5, ... until none does."""
    job = make_job(tmp_path / "a", tiny_base, max_steps=2, checkpoint_every=1)
    train(job)
    expected, job = weights_of(job), make_job(tmp_path / "b", tiny_base, max_steps=2, checkpoint_every=1)
    calls, failing = 0, 1

    def full(operation: str, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("configs.store._fault", full)
    while True:
        calls = 0
        try:
            train(job)
            break
        except StorageError as error:
            assert "the disk is full while writing" in str(error)
            assert not list(job.folder.run.rglob(".*.staging"))
            failing += 2
    assert failing > 15
    assert equal(weights_of(job), expected)


# ---------------------------------------------------------------- losses that are no numbers, and losses that leap


def tokens_of(base: Path, folder: Path, rows: list[int]) -> list[int]:
    """For each of the rows a token of it that none but they have, and none that a base is tried with before training."""
    job = make_job(folder, base)
    tried = {place * 7919 % 317 + 3 for place in range(19)}
    holders = {token: rows_with(job, token) for token in range(3, 300) if token not in tried}
    return [next(token for token, found in holders.items() if row in found and {*found} <= {*rows}) for row in rows]


def one_row_a_step(folder: Path, base: Path, **more) -> Job:
    return make_job(folder, base, **({"epochs": 1.0, "batch_tokens": 32, "warmup": 0.0, "final": 1.0} | more))


def test_three_steps_without_a_number_set_the_weights_back_and_the_data_goes_on(tmp_path, tiny_base, capsys):
    """Steps 5, 6 and 7 of 8 give NaN. The checkpoint of step 3 is the last one: that of step 6 would be of weights that
    led there. The weights of step 3 then take step 8, also in a run that is killed in between."""
    base = poisoned(tiny_base, tmp_path / "poisoned", *tokens_of(tiny_base, tmp_path / "look", ORDER[4:7]))
    job = one_row_a_step(tmp_path / "a", base)
    run = train(job)
    assert (run.steps, run.skipped_steps, run.rewinds) == (8, 3, 1)
    assert "step 7: weights set back to those of step 3; the data goes on" in capsys.readouterr().err
    events = [(line["step"], line["event"]) for line in metrics_of(job) if "event" in line]
    assert events == [(5, "not finite"), (6, "not finite"), (7, "not finite"), (7, "rewind")]
    assert [line["loss"] is None for line in metrics_of(job) if "loss" in line] == [False] * 4 + [True] * 3 + [False]
    killed = one_row_a_step(tmp_path / "b", base)
    crashed_at("train.step:8", lambda: train(killed))
    train(killed)
    assert equal(weights_of(killed), weights_of(job))
    assert [line for line in metrics_of(killed) if line.get("event") == "rewind"]


def test_when_two_rewinds_do_not_help_the_run_stops_with_7_and_keeps_its_last_good_checkpoint(tmp_path, tiny_base):
    """Only row 2 is good: second in the first epoch, seventh in the second (5, 6, 3, 0, 1, 4, 2, 7). Steps 3 to 11 give NaN:
    after three the weights are set back, after six again, and nine are the end."""
    bad = [row for row in range(8) if row != 2]
    base = poisoned(tiny_base, tmp_path / "poisoned", *tokens_of(tiny_base, tmp_path / "look", bad))
    job = one_row_a_step(tmp_path / "a", base, epochs=3.0, checkpoint_every=2)
    with pytest.raises(
        DivergedError, match=r"9 steps in a row had no finite loss .* \(the last was step 11, rows 3\)"
    ) as end:
        train(job)
    assert end.value.code == 7
    assert "The last good checkpoint is kept" in end.value.hint
    assert steps_kept(job) == ["step-000002"]
    assert all(bool(torch.isfinite(value).all()) for value in load_weights_of(job, 2).values())
    assert not (job.folder.run / "run.json").exists()


def load_weights_of(job: Job, step: int) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(checkpoint_of(job, step) / "weights.safetensors")


# ---------------------------------------------------------------- memory


class Hungry:
    """While it is open, a pass with gradients over more than `most` tokens asks the real allocator for 2^50 bytes."""

    def __init__(self, most: int) -> None:
        self.most, self.refused = most, 0

    def __enter__(self):
        self.hook = torch.nn.modules.module.register_module_forward_pre_hook(self.eat)
        return self

    def __exit__(self, *_):
        self.hook.remove()

    def eat(self, module, args):
        if isinstance(module, PackedModel) and torch.is_grad_enabled() and len(args[0].tokens_T) > self.most:
            self.refused += 1
            torch.empty(2**50, dtype=torch.uint8)


def test_where_memory_runs_out_the_micro_batch_is_halved_and_the_losses_stay_the_same_to_1e_6(
    tmp_path, tiny_base, capsys
):
    """Two rows a step, 64 tokens at the most, of which 40 fit: rows one by one, from the first step on and after a stop."""
    free = make_job(tmp_path / "free", tiny_base, learning_rate=1e-3)
    train(free)
    job = make_job(tmp_path / "tight", tiny_base, learning_rate=1e-3)
    with Hungry(40) as hungry:
        stop_at(job, step=5)
        assert hungry.refused == 1
        train(job)
        assert hungry.refused == 1  # the smaller size survived the stop
    assert losses_of(job) == pytest.approx(losses_of(free), rel=1e-6)
    said = capsys.readouterr().err
    assert said.count("out of memory: micro-batches of 32 tokens instead of 64, same step") == 1
    assert [line["event"] for line in metrics_of(job) if "event" in line] == ["micro-batch halved", "resumed"]


def test_a_single_row_that_does_not_fit_is_code_8_with_three_ways_out(tmp_path, tiny_base):
    job = make_job(tmp_path, tiny_base)
    with Hungry(10), pytest.raises(MemoryExhaustedError, match="a micro-batch of 30 tokens does not fit") as end:
        train(job)
    assert end.value.code == 8
    for way in ("train.checkpoint_activations: on", "halve train.micro_batch_tokens", "a smaller base"):
        assert way in end.value.hint


def test_the_ways_out_of_memory_may_be_taken_at_a_stop(tmp_path, tiny_base, capsys):
    stop_at(make_job(tmp_path, tiny_base), step=3)
    job = make_job(tmp_path, tiny_base, micro_batch_tokens=32, checkpoint_activations="on", validate_every=6)
    run = train(job)
    said = capsys.readouterr().err
    assert "changed since the stop, which may be: " in said
    for change in ("train.micro_batch_tokens 64 -> 32", "train.checkpoint_activations auto -> on"):
        assert change in said
    assert "train.validate_every 4 -> 6" in said
    assert (run.steps, [point.step for point in run.curve]) == (12, [0, 6, 12])


# ---------------------------------------------------------------- what changed since the stop


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"learning_rate": 2e-2}, "train.learning_rate: 0.01 -> 0.02"),
        ({"epochs": 2.0}, "train.epochs: 3.0 -> 2.0"),
        ({"rank": 8}, "train.rank: 16 -> 8"),
        ({"batch_tokens": 96}, "train.batch_tokens: 64 -> 96"),
    ],
)
def test_what_is_learnt_may_not_change_at_a_stop(tmp_path, tiny_base, change, told):
    stop_at(make_job(tmp_path, tiny_base), step=3)
    with pytest.raises(RecipeError) as refused:
        train(make_job(tmp_path, tiny_base, **change))
    assert (refused.value.code, told in str(refused.value)) == (2, True)
    assert steps_kept(make_job(tmp_path, tiny_base)) == ["step-000003"]


def test_another_base_at_a_stop_is_refused_with_both_fingerprints(tmp_path, tiny_base):
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    stop_at(make_job(tmp_path, base), step=3)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    with pytest.raises(RecipeError, match=rf"base {base}: [0-9a-f]{{64}} -> [0-9a-f]{{64}}"):
        train(make_job(tmp_path, base))


def test_packages_are_recorded_for_each_part_of_a_run(tmp_path, tiny_base, capsys):
    job = make_job(tmp_path, tiny_base)
    stop_at(job, step=3)
    rewrite_state(checkpoint_of(job, 3), lambda it: it["state"]["made"][-1]["packages"].update(peft="0.1"))
    run = train(job)
    assert "so numbers may differ: peft 0.1 -> " in capsys.readouterr().err
    assert [part["step"] for part in run.made_in] == [0, 3]
    assert [part["packages"]["peft"] == "0.1" for part in run.made_in] == [True, False]


def test_a_clock_that_jumps_back_a_day_at_every_glance_makes_no_duration_negative(tmp_path, tiny_base, monkeypatch):
    jumps = iter(range(0, 10**9, 86_400))
    monkeypatch.setattr(time, "time", lambda: 2e9 - next(jumps))
    run = train(make_job(tmp_path, tiny_base, max_steps=2))
    assert 0 < run.seconds_training < run.made.seconds < 600
    assert Run.read(tmp_path / "runs" / "t" / "run" / "run.json") == run


# ---------------------------------------------------------------- through the front door


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, tiny_base) -> Path:
    """A folder with r.yaml, prepared, whose base has a chat template of its own."""
    folder = tmp_path_factory.mktemp("prepared")
    shutil.copytree(tiny_base, folder / "base")
    (folder / "base" / "chat_template.jinja").write_text("{% for it in messages %}{{ it.content }}{% endfor %}")
    made(folder, folder / "base")
    return folder


def test_a_second_training_in_the_run_folder_is_refused_with_9_and_the_name_of_the_first(prepared, monkeypatch):
    monkeypatch.chdir(prepared)
    with RunFolder(prepared / "runs" / "t").lock():
        told = sectorlm("train", "r.yaml")
    assert (told.code, f"run folder in use by pid {os.getpid()}" in told.err) == (9, True), told.err


def test_runs_that_cannot_be_written_are_code_5_before_any_work(prepared, monkeypatch):
    monkeypatch.chdir(prepared)
    told = sectorlm("train", "r.yaml", "--runs", "/proc/none")
    assert (told.code, told.err.startswith("sectorlm: /proc/none/t: ")) == (5, True), told.err


def test_a_changed_chat_template_is_refused_until_the_corpus_is_made_again(prepared, monkeypatch):
    monkeypatch.chdir(prepared)
    template = prepared / "base" / "chat_template.jinja"
    before = template.read_text()
    template.write_text(before + "\n")
    told = sectorlm("train", "r.yaml")
    template.write_text(before)
    assert told.code == 3
    assert "the corpus was made with another tokenizer or chat template (" in told.err
    assert "Run `sectorlm prepare` again" in told.err


def test_fsdp_with_one_process_is_code_5_and_never_something_else_in_its_place(prepared, monkeypatch):
    monkeypatch.chdir(prepared)
    told = sectorlm("train", "r.yaml", "--set", "train.parallel=fsdp")
    assert (told.code, "one process has nothing to part its weights with" in told.err) == (5, True), told.err
    assert not (prepared / "runs/t/run/run.json").exists()


def test_with_all_streams_closed_in_an_ascii_locale_the_training_is_done_and_resumes(prepared, monkeypatch):
    monkeypatch.chdir(prepared)
    words = ["sectorlm", "train", "r.yaml", "--set", "train.max_steps=3", "--set", "train.checkpoint_every=1"]

    def streamless() -> None:
        import sys

        from sectorlm import main

        for stream in range(3):
            os.close(stream)
        sys.argv = words
        try:
            main()
        except SystemExit as left:
            os._exit(int(left.code or 0))

    quiet = {"LC_ALL": "C", "PYTHONUTF8": "0"}
    assert ended(started(streamless, SECTORLM_CRASH_AT="train.step:2", **quiet)) == 137
    assert ended(started(streamless, **quiet)) == 0
    assert (
        Run.read(prepared / "runs/t/run/run.json").segments,
        (prepared / "runs/t/.lock").read_text().count("\n"),
    ) == (2, 1)


def test_sigint_is_130_and_a_signal_during_the_last_look_leaves_a_checkpoint_too(tmp_path, tiny_base):
    job = make_job(tmp_path, tiny_base, checkpoint_every=100)
    pid = started(lambda: when(12, lambda: os.kill(os.getpid(), signal.SIGINT), lambda: train(job)))
    assert ended(pid) == 130
    assert steps_kept(job) == ["step-000012"]
    assert train(job).segments == 2


@pytest.mark.slow
def test_killed_five_times_at_random_moments_a_run_of_three_phases_ends_with_the_weights_of_an_undisturbed_one(
    tmp_path,
):
    from benchmarks.kills import measured

    found = measured(tmp_path, kills=5, seed=1)
    assert (found.moments.total(), found.failed, found.equal) == (5, [], True)
