"""Several processes learn what one learns: gradients summed or weights parted, stopped together, resumed in any number."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from configs.records import Run
from configs.store import HOUSE
from tests.test_training_faults import Hungry
from tests.training_jobs import (
    PHASES,
    equal,
    farthest,
    losses_of,
    made,
    make_job,
    metrics_of,
    opened,
    steps_kept,
    together,
    weights_of,
    when,
)
from training.train import train

if TYPE_CHECKING:
    from configs.job import Job

SETTINGS = {"learning_rate": 1e-3, "batch_tokens": 96, "micro_batch_tokens": 32, "epochs": 3.0}
"""Steps of three rows, one by one; 24 rows in all, so that the last of 8 steps has three, too."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny_base) -> Job:
    """The run of one process."""
    job = make_job(tmp_path_factory.mktemp("alone"), tiny_base, **SETTINGS)
    train(job)
    return job


def run_of(job: Job) -> Run:
    return Run.read(job.folder.run / "run.json")


def same(job: Job, other: Job) -> None:
    """Losses and weights equal to 1e-5, held-out losses too."""
    assert losses_of(job) == pytest.approx(losses_of(other), abs=1e-5)
    assert farthest(weights_of(job), weights_of(other)) < 1e-5
    for one, two in zip(run_of(job).curve, run_of(other).curve, strict=True):
        assert one.losses == pytest.approx(two.losses, abs=1e-5)
        assert one.sources == pytest.approx(two.sources, abs=1e-5)


@pytest.mark.parametrize(("count", "parallel"), [(2, "ddp"), (2, "fsdp"), (3, "ddp")])
def test_several_processes_give_the_losses_and_weights_of_one_to_1e_5(tmp_path, tiny_base, alone, count, parallel):
    job = make_job(tmp_path, tiny_base, parallel=parallel, **SETTINGS)
    assert together(count, lambda: train(job)) == [0] * count
    same(job, alone)
    assert (run_of(job).processes, run_of(job).tokens) == (count, run_of(alone).tokens)


def test_a_last_step_with_fewer_rows_than_processes_is_learnt_like_any_other(tmp_path, tiny_base):
    """8 rows in steps of 7: the second step has one row, and the second process none."""
    settings = SETTINGS | {"batch_tokens": 224, "epochs": 1.0}
    one = make_job(tmp_path / "one", tiny_base, **settings)
    train(one)
    for parallel in ("ddp", "fsdp"):
        job = make_job(tmp_path / parallel, tiny_base, parallel=parallel, **settings)
        assert together(2, lambda job=job: train(job)) == [0, 0]
        assert len(losses_of(job)) == 2
        same(job, one)


@pytest.mark.parametrize(("parallel", "then"), [("ddp", 1), ("ddp", 3), ("fsdp", 1), ("fsdp", 2)])
def test_a_signal_to_one_stops_all_at_the_same_step_and_any_number_goes_on(tmp_path, tiny_base, alone, parallel, then):
    """SIGTERM reaches process 0 alone in step 4; both leave with 143 and one checkpoint is there."""
    job = make_job(tmp_path, tiny_base, parallel=parallel, checkpoint_every=100, **SETTINGS)

    def told() -> None:
        when(4, lambda: os.kill(os.getpid(), signal.SIGTERM), lambda: train(job))

    assert together(2, told, lambda: train(job)) == [143, 143]
    assert steps_kept(job) == ["step-000004"]
    after = make_job(tmp_path, tiny_base, parallel="auto" if then == 1 else parallel, checkpoint_every=100, **SETTINGS)
    if then == 1:
        train(after)
    else:
        assert together(then, lambda: train(after)) == [0] * then
    assert run_of(after).segments == 2
    same(after, alone)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_resumed_in_the_same_number_two_processes_end_bit_for_bit_like_unbroken_ones(tmp_path, tiny_base, parallel):
    """With dropout; the process that writes is killed with its checkpoint half written, and takes the other with it."""
    settings = SETTINGS | {"dropout": 0.1, "parallel": parallel, "checkpoint_every": 2}
    whole = make_job(tmp_path / "whole", tiny_base, **settings)
    assert together(2, lambda: train(whole)) == [0, 0]
    job = make_job(tmp_path / "killed", tiny_base, **settings)

    def dies() -> None:
        os.environ["SECTORLM_CRASH_AT"] = "train.checkpoint:2"
        train(job)

    assert together(2, dies, lambda: train(job)) == [137, 5]  # 5: another process of this run has ended
    assert steps_kept(job)[-1] == "step-000002"
    assert together(2, lambda: train(job)) == [0, 0]
    assert equal(weights_of(job), weights_of(whole))


def test_memory_that_runs_out_in_one_process_halves_the_micro_batch_of_both(tmp_path, tiny_base, alone):
    """The first has two rows of each step, the second one: only the first ever asks for more than 40 tokens at once."""
    job = make_job(tmp_path, tiny_base, **SETTINGS | {"micro_batch_tokens": 64})

    def tight() -> None:
        with Hungry(40):
            train(job)

    assert together(2, tight, lambda: train(job)) == [0, 0]
    assert [line["event"] for line in metrics_of(job) if "event" in line] == ["micro-batch halved"]
    same(job, alone)


def test_with_fsdp_every_parameter_is_a_part_and_the_record_counts_the_whole(tmp_path, tiny_base, alone):
    """After a look and a step each process holds half of the base's weights, give or take the padding of small ones."""
    from torch.distributed.tensor import DTensor

    from training import loop

    job = make_job(tmp_path, tiny_base, parallel="fsdp", **SETTINGS)

    def parted() -> None:
        class Seen(loop.Loop):
            def keep(self, **more):
                values = list(self.model.parameters())
                assert all(isinstance(value, DTensor) for value in values)
                own = sum(value.to_local().numel() for value in values)
                assert 0.45 < own / sum(value.numel() for value in values) < 0.55
                super().keep(**more)

        import training.train as page

        page.Loop = Seen
        train(job)

    assert together(2, parted) == [0, 0]
    assert run_of(job).total_parameters == run_of(alone).total_parameters
    assert run_of(job).trainable_parameters == run_of(alone).trainable_parameters


def test_phases_with_preference_end_alike_in_one_process_in_two_and_in_two_with_parted_weights(tmp_path, tiny_base):
    """Text, answers, then preference, whose reference is put in the place of the weights and taken out again in every step."""
    made(tmp_path, tiny_base)
    sets = [PHASES, "train.max_steps=2", "train.batch_tokens=192", "train.learning_rate=1e-3"]
    runs = {}
    for name, count, parallel in (("one", 1, "auto"), ("two", 2, "ddp"), ("parted", 2, "fsdp")):
        runs[name] = job = opened(tmp_path, *sets, f"train.parallel={parallel}", runs=name)
        job.folder.root.mkdir(parents=True)
        job.folder.corpus.symlink_to(tmp_path / "runs" / "t" / "corpus")
        assert together(count, lambda job=job: train(job)) == [0] * count
    assert len(losses_of(runs["one"])) == 6
    same(runs["two"], runs["one"])
    same(runs["parted"], runs["one"])


# ---------------------------------------------------------------- by the command line


def command(folder: Path, *words: str) -> subprocess.Popen[str]:
    line = [sys.executable, str(HOUSE / "sectorlm.py"), "train", "r.yaml", "--processes", "2", *words]
    environment = os.environ | {"PYTHONPATH": str(HOUSE), "OMP_NUM_THREADS": "1"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(line, cwd=folder, env=environment, text=True, start_new_session=True, **streams)


def wait_for_step(job: Job, step: int, running: subprocess.Popen[str]) -> None:
    for _ in range(3000):
        path = job.folder.run / "metrics.jsonl"
        if path.exists() and f'"step": {step},' in path.read_text():
            return
        assert running.poll() is None, running.communicate()
        time.sleep(0.05)
    raise AssertionError(f"step {step} never came")


def workers_of(folder: Path) -> list[int]:
    """The living processes that train in a folder, by their rank."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            own = process.joinpath("cwd").readlink() == folder and process.joinpath("environ").read_bytes().split(b"\0")
            ranks = [int(word[5:]) for word in own or () if word.startswith(b"RANK=")]
            if ranks and process.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found[ranks[0]] = int(process.name)
        except OSError:  # it has ended
            continue
    return [found[rank] for rank in sorted(found)]


@pytest.mark.slow
def test_by_the_command_line_two_processes_are_stopped_killed_and_resumed_to_the_weights_of_an_unbroken_run(
    tmp_path, tiny_base
):
    """SIGTERM to the command at step 3: 143. SIGKILL to the second process at step 6: 137, and nobody is left. SIGKILL to
    the command itself at step 9: its processes write a checkpoint and leave. Then the end. A folder `configs` where the
    command stands is not taken for ours."""
    made(tmp_path, tiny_base)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("raise SystemExit(77)")
    sets = ["--set", "train.epochs=4", "--set", "train.batch_tokens=192", "--set", "train.checkpoint_every=1"]
    job = opened(tmp_path)
    whole = opened(tmp_path, *[word for word in sets if word != "--set"], runs="whole")
    whole.folder.root.mkdir(parents=True)
    whole.folder.corpus.symlink_to(tmp_path / "runs" / "t" / "corpus")
    assert together(2, lambda: train(whole)) == [0, 0]

    running = command(tmp_path, *sets)
    wait_for_step(job, 3, running)
    os.kill(running.pid, signal.SIGTERM)
    out, err = running.communicate(timeout=120)
    assert (running.returncode, out) == (143, ""), err
    assert err.count("stopped by SIGTERM after step") == 1
    assert f"sectorlm train r.yaml --processes 2 {' '.join(sets)}" in err
    assert not [line for line in err.splitlines() if "torch" in line or "Traceback" in line], err

    running = command(tmp_path, *sets)
    wait_for_step(job, 6, running)
    os.kill(workers_of(tmp_path)[1], signal.SIGKILL)
    out, err = running.communicate(timeout=120)
    assert (running.returncode, workers_of(tmp_path)) == (137, []), err
    assert "process 1 was ended by signal 9; the same command resumes" in err
    assert "this is our bug" not in err

    running = command(tmp_path, *sets)
    wait_for_step(job, 9, running)
    running.kill()
    running.communicate(timeout=120)
    for _ in range(1200):
        time.sleep(0.05 if workers_of(tmp_path) else 0)
    assert workers_of(tmp_path) == []

    running = command(tmp_path, *sets, "--json")
    out, err = running.communicate(timeout=240)
    assert (running.returncode, err) == (0, "")
    assert '"processes": 2' in out
    assert run_of(job).segments == 4
    assert equal(weights_of(job), weights_of(whole))
