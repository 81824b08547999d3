"""Sweeps: every combination once, what is finished kept, what failed told, and each run the same as one trained alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file

from configs.errors import DataError, DivergedError, RecipeError, StoppedError, StorageError
from configs.load import load_recipe
from configs.records import Corpus
from configs.store import HOUSE
from configs.taint import runs_that_saw
from configs.trials import MOST, Sweep, label
from configs.vocabulary import base_of
from tests.training_jobs import make_job, weights_of
from training.members import Outcome
from training.sweep import caution, ordered, sweep, table_rows
from training.train import train

if TYPE_CHECKING:
    from pathlib import Path

    from configs.job import Job

FOUR = {"train.learning_rate": [1e-2, 1e-3], "train.rank": [2, 4]}


def sweep_job(root: Path, base: Path, values: dict[str, Any], **settings: Any) -> Job:
    """The recipe and the corpus of training_jobs.py, whose held-out rows are one of the sector and one of general text."""
    job = make_job(root, base, **settings)
    record = Corpus.read(job.folder.corpus / "corpus.json")
    sources = tuple(it.model_copy(update={"tokens_validation": 6}) for it in record.sources)
    record.model_copy(update={"sources": sources}).write(job.folder.corpus / "corpus.json")
    recipe = job.recipe.model_copy(update={"sweep": Sweep.model_validate_json(json.dumps(values))})
    return type(job)(recipe, job.roots, job.folder)


def alone(job: Job, _sets: list[str]) -> Any:
    return train(job)


def test_two_rates_and_two_ranks_are_four_runs_on_one_corpus_sorted_by_sector_loss(tmp_path, tiny_base):
    job = sweep_job(tmp_path, tiny_base, FOUR)
    found = sweep(job, alone)
    assert {one.name for one in found.outcomes} == {
        "learning_rate=0.01,rank=2",
        "learning_rate=0.01,rank=4",
        "learning_rate=0.001,rank=2",
        "learning_rate=0.001,rank=4",
    }
    losses = [one.sector for one in found.outcomes]
    assert losses == sorted(losses)
    assert len({one.base_sector for one in found.outcomes}) == 1  # all begin from the same base
    for one in found.outcomes:
        assert one.rise == pytest.approx(one.general / one.base_general - 1)
        assert one.steps == 12
    folder = job.folder.root / "sweep" / found.best.name
    assert (folder / "corpus").resolve() == job.folder.corpus.resolve()  # shared, not copied
    assert json.loads((job.folder.root / "sweep" / "sweep.json").read_text())["best"] == found.best.name


def test_a_run_of_a_sweep_is_bit_for_bit_the_run_of_its_settings_alone_and_can_take_its_place(tmp_path, tiny_base):
    found = sweep(sweep_job(tmp_path / "a", tiny_base, FOUR), alone)
    one = next(it for it in found.outcomes if it.name == "learning_rate=0.001,rank=4")
    job = sweep_job(tmp_path / "b", tiny_base, FOUR, learning_rate=1e-3, rank=4)
    train(job)
    folder = tmp_path / "a" / "runs" / "t" / "sweep" / one.name
    there = load_file(folder / "run" / "adapter" / "adapter_model.safetensors")
    assert all((there[name] == value).all() for name, value in weights_of(job).items())
    (folder / "run").rename(tmp_path / "b" / "runs" / "t" / "moved")
    job.folder.run.rename(tmp_path / "old")
    (tmp_path / "b" / "runs" / "t" / "moved").rename(job.folder.run)
    before = (job.folder.run / "run.json").read_bytes()
    train(job)  # unchanged, kept
    assert (job.folder.run / "run.json").read_bytes() == before


def test_what_is_finished_is_kept_and_a_value_more_trains_one_run_more(tmp_path, tiny_base):
    trained = []

    def counted(job: Job, sets: list[str]) -> Any:
        before = (job.folder.run / "run.json").is_file()
        record = train(job)
        trained.append((sets, before))
        return record

    sweep(sweep_job(tmp_path, tiny_base, {"train.rank": [2, 4]}), counted)
    assert trained == [(["train.rank=2"], False), (["train.rank=4"], False)]
    trained.clear()
    sweep(sweep_job(tmp_path, tiny_base, {"train.rank": [2, 4, 8]}), counted)
    assert trained == [(["train.rank=2"], True), (["train.rank=4"], True), (["train.rank=8"], False)]


def test_a_stopped_sweep_tells_what_it_has_and_goes_on_with_the_run_that_was_stopped(tmp_path, tiny_base):
    job = sweep_job(tmp_path, tiny_base, {"train.rank": [2, 4, 8]})

    def stopped(one: Job, _sets: list[str]) -> Any:
        if one.recipe.train.rank == 4 and not (one.folder.run / "metrics.jsonl").exists():
            import threading

            def ask() -> None:
                while not (one.folder.run / "metrics.jsonl").exists():
                    time.sleep(0.002)
                os.kill(os.getpid(), signal.SIGTERM)

            threading.Thread(target=ask).start()
        return train(one)

    with pytest.raises(StoppedError):
        sweep(job, stopped)
    told = json.loads((job.folder.root / "sweep" / "sweep.json").read_text())
    states = {one["name"]: one["state"] for one in told["runs"]}
    assert (states["rank=2"], states["rank=8"]) == ("finished", "not begun")
    assert states["rank=4"] != "finished"
    found = sweep(job, stopped)
    assert [one.state for one in found.outcomes] == ["finished"] * 3


def test_a_run_that_fails_is_told_with_its_reason_and_is_not_repeated_unless_its_recipe_changes(tmp_path, tiny_base):
    calls = []

    def some(job: Job, _sets: list[str]) -> Any:
        calls.append(job.recipe.train.rank)
        if job.recipe.train.rank == 4:
            raise DivergedError("the loss left the real numbers at step 3")
        return train(job)

    job = sweep_job(tmp_path, tiny_base, {"train.rank": [4, 2]})
    found = sweep(job, some)
    assert [(one.name, one.state) for one in found.outcomes] == [("rank=2", "finished"), ("rank=4", "failed")]
    assert found.outcomes[1].reason == "DivergedError: the loss left the real numbers at step 3"
    assert table_rows(found)[1]["why"] == found.outcomes[1].reason
    page = found.page.read_text("utf-8")
    assert "the loss left the real numbers at step 3" in page
    assert calls == [4, 2]
    sweep(job, some)
    assert calls == [4, 2, 2]  # the failure stands, the finished one is looked at again and kept
    sweep(sweep_job(tmp_path, tiny_base, {"train.rank": [4, 2]}, epochs=1.0), some)
    assert calls == [4, 2, 2, 4, 2]


def test_a_full_disk_ends_the_sweep_and_a_sweep_of_failures_raises_the_last_one(tmp_path, tiny_base):
    def full(_job: Job, _sets: list[str]) -> Any:
        raise StorageError("the disk is full")

    def bad(_job: Job, _sets: list[str]) -> Any:
        raise RecipeError("no such layer")

    job = sweep_job(tmp_path, tiny_base, {"train.rank": [2, 4]})
    with pytest.raises(StorageError):
        sweep(job, full)
    with pytest.raises(RecipeError, match="no such layer"):
        sweep(job, bad)


def test_without_held_out_text_of_the_sector_nothing_is_trained(tmp_path, tiny_base):
    job = sweep_job(tmp_path, tiny_base, {"train.rank": [2, 4]})
    record = Corpus.read(job.folder.corpus / "corpus.json")
    sources = tuple(it.model_copy(update={"tokens_validation": 0}) for it in record.sources)
    record.model_copy(update={"sources": sources}).write(job.folder.corpus / "corpus.json")
    with pytest.raises(DataError, match="no held-out text of the sector"):
        sweep(job, alone)


def test_all_runs_of_a_sweep_share_the_base_with_the_new_tokens_as_they_share_the_corpus(tmp_path, tiny_base, capsys):
    job = sweep_job(tmp_path, tiny_base, {"train.rank": [2, 4]}, new_tokens=["sukuk"], max_steps=1)
    base = base_of(job)
    found = sweep(job, alone)
    assert [one.state for one in found.outcomes] == ["finished"] * 2
    for one in found.outcomes:
        assert (job.folder.root / "sweep" / one.name / "base").resolve() == base
    assert capsys.readouterr().err.count("extending the base") == 1


def test_a_removal_request_finds_the_runs_of_a_sweep_too(tmp_path, tiny_base):
    job = sweep_job(tmp_path, tiny_base, {"train.rank": [2]})
    sweep(job, alone)
    assert [path.parent.name for path in runs_that_saw(job.folder.corpus)] == ["rank=2"]


def test_the_best_of_two_says_that_it_is_the_best_of_two_and_by_how_much():
    pair = [Outcome("a", {}, "finished", sector=2.5), Outcome("b", {}, "finished", sector=2.25)]
    assert "best of 2 runs" in caution(pair)
    assert "0.2500 nats" in caution(pair)
    assert caution(pair[:1]) == ""
    late = Outcome("c", {}, "unfinished", sector=1.0)
    assert [it.name for it in ordered([late, *pair])] == ["b", "a", "c"]  # what has not ended is not the best


# ---------------------------------------------------------------- in the recipe

TOP = """name: t
sector: finance
base: assets/base
corpora: [{name: a, path: a.txt, licence: CC0-1.0, text: "{{ text }}"}]
evaluate: {tasks: [finance_topics]}
train: {method: full}
"""


def refused(folder: Path, block: str) -> str:
    (folder / "r.yaml").write_text(TOP + block)
    with pytest.raises(RecipeError) as caught:
        load_recipe(folder / "r.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ("sweep:\n  train.learning_rat: [1e-4]", "r.yaml:8 sweep.train.learning_rat: no setting that a sweep can vary"),
        ("sweep:\n  train.learning_rat: [1e-4]", "Did you mean train.learning_rate?"),
        ("sweep: {sampl: 3}", "Did you mean sample?"),
        ("sweep: {prepare.ngram: [5, 8]}", "those are the keys below train. and seed."),
        ("sweep: {train: {rank: [8]}}", "Write whole keys"),
        ("sweep: {train.rank: 8}", "expected a list, got 8"),
        ("sweep: {train.rank: []}", "needs at least 1"),
        ("sweep: {train.rank: [8, 8]}", "train.rank has the value 8 twice"),
        ("sweep: {train.clip: [1.0, 0]}", "clip=0: clip: must be more than 0, got 0"),
        ("sweep: {seed: [1, 1.5]}", "got 1.5"),
        ("sweep: {sample: 3}", "nothing varies"),
        ("sweep: {train.new_tokens: [[repo], [sukuk]]}", "no setting that a sweep can vary"),
        ("sweep: {train.dora: [false, true]}", "dora=true: dora is about adapters"),
        ("pilot: {parts: [0.5, 0.1]}", "the parts must rise"),
        ("pilot: {parts: [0.5, 1.5]}", "each part must be more than 0 and less than 1, got [0.5, 1.5]"),
    ],
)
def test_a_wrong_sweep_or_pilot_is_refused_before_anything_is_trained(tmp_path, block, told):
    assert told in refused(tmp_path, block)


def test_a_sample_of_5_out_of_24_is_the_same_5_every_time_and_others_with_another_seed():
    wanted = Sweep.model_validate_json(
        '{"train.rank": [1, 2, 4, 8], "train.alpha": [8, 16, 32], "train.dropout": [0.0, 0.1], "sample": 5}'
    )
    chosen = wanted.combinations(17)
    assert len(chosen) == 5
    assert chosen == wanted.combinations(17)
    assert chosen != wanted.combinations(18)
    whole = wanted.model_copy(update={"sample": None}).combinations(17)
    assert len(whole) == 24
    assert [it for it in whole if it in chosen] == chosen


def test_more_than_1000_combinations_need_a_sample(tmp_path):
    block = f"sweep: {{seed: {list(range(MOST + 1))}}}"
    assert "1,001 combinations, at most 1,000" in refused(tmp_path, block)


def test_a_name_with_odd_characters_or_of_great_length_ends_in_a_hash():
    assert label({"train.start": "runs/a b/run"}).startswith("start=runs-a-b-run-")
    names = {label({"train.targets": tuple(f"layer_{n}_{'x' * 30}" for n in range(last))}) for last in (8, 9)}
    assert len(names) == 2
    assert max(map(len, names)) <= 120


def test_the_front_door_sweeps_keeps_each_recipe_and_prints_json(finished, tmp_path):
    import shutil

    shutil.copytree(finished, tmp_path / "f")
    words = ["sweep", "story.yaml", "--json", "--set", "sweep={train.rank: [2, 3]}", "--set", "train.max_steps=2"]
    done = subprocess.run(
        [sys.executable, str(HOUSE / "sectorlm.py"), *words],
        cwd=tmp_path / "f",
        env=os.environ | {"PYTHONPATH": str(HOUSE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {(one["settings"]["train.rank"], one["steps"]) for one in told["runs"]} == {(2, 2), (3, 2)}
    folder = tmp_path / "f" / "runs" / "story" / "sweep" / "rank=3"
    assert load_recipe(folder / "recipe.yaml").train.rank == 3
    page = (tmp_path / "f" / "runs" / "story" / "sweep" / "sweep.html").read_text("utf-8")
    assert page.count("<svg") == 3
    assert "http" not in page.replace("http://www.w3.org", "")
