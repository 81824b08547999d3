"""The forgetting budget, probes, trackers and the arithmetic of a step, each computed a second time by hand."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch

from configs.base import load_tokenizer, load_weights
from configs.errors import DataError, GateError, RecipeError
from configs.items import read_items
from configs.load import load_task
from configs.store import HOUSE
from tests.training_jobs import (
    checkpoint_of,
    crashed_at,
    equal,
    farthest,
    made,
    make_job,
    metrics_of,
    opened,
    steps_kept,
    weights_of,
)
from training.budget import Budget
from training.probes import probes
from training.train import train

if TYPE_CHECKING:
    from pathlib import Path

    from configs.job import Job


def curve(*losses: tuple[float, float]) -> list[dict[str, Any]]:
    """Looks every ten steps, each (sector, general)."""
    return [{"step": 10 * n, "losses": {"sector": s, "general": g}} for n, (s, g) in enumerate(losses)]


def test_the_best_look_has_the_lowest_sector_loss_among_those_whose_general_loss_rose_by_at_most_the_budget():
    """General 2.0 at first and 5 % of budget: 2.1 is within, 2.11 is not; the base itself is never the best."""
    looks = curve((3.0, 2.0), (2.5, 2.05), (2.2, 2.1), (2.0, 2.11), (2.3, 2.0))
    assert [Budget(0.05).best(looks[:n]) for n in range(1, 6)] == [None, 10, 20, 20, 20]
    assert Budget(0.06).best(looks) == 30
    assert Budget(None).best(looks) is None


def test_two_looks_in_a_row_beyond_the_budget_end_the_run_and_a_loss_that_is_no_number_is_beyond():
    beyond, within, nan = (1.0, 2.2), (1.0, 2.0), (1.0, float("nan"))
    base = (3.0, 2.0)
    for looks, spent in [
        ((base, beyond), False),
        ((base, beyond, within), False),
        ((base, beyond, within, beyond), False),
        ((base, within, beyond, beyond), True),
        ((base, nan, nan), True),
    ]:
        assert Budget(0.05).is_spent(curve(*looks)) == spent
    with pytest.raises(GateError, match=r"rose by 10\.0 % at the least, above the budget of 5\.0 %"):
        Budget(0.05).refuse(curve(base, (1.0, 2.4), beyond))


# ---------------------------------------------------------------- on a corpus that prepare made

CONSTANT = ("train.warmup=0", "train.final=1", "train.learning_rate=3e-3", "train.validate_every=2")
"""The same learning rate at every step, so that fewer steps are the beginning of more."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tiny_base) -> Path:
    """A prepared corpus, and in `able` a run that learnt plain text, which can then be forgotten."""
    folder = tmp_path_factory.mktemp("budget")
    made(folder, tiny_base)
    able = opened(folder, "train.phases=[{objective: text, epochs: 15}]", "train.learning_rate=2e-2")
    train(able)
    able.folder.run.rename(folder / "able")
    return folder


@pytest.fixture
def at(corpus, tmp_path):
    """Open the recipe with other settings in a run folder of its own."""

    def opener(name: str, *sets: str) -> Job:
        job = opened(corpus, *sets, runs=str(tmp_path / name))
        job.folder.root.mkdir(parents=True, exist_ok=True)
        if not job.folder.corpus.exists():
            job.folder.corpus.symlink_to(corpus / "runs" / "t" / "corpus")
        return job

    return opener


@pytest.fixture
def forgetful(corpus):
    """The settings of a run that starts where text was learnt and learns short answers with nothing of it beside them."""
    phase = "train.phases=[{objective: answers, sources: [liked], epochs: 20}]"
    return lambda *sets: (*CONSTANT, f"train.start={corpus / 'able'}", phase, *sets)


def test_the_weights_kept_are_those_of_the_best_look_within_the_budget_and_a_killed_run_keeps_them_too(at, forgetful):
    """The general loss rises from look to look. With a budget between the rises at steps 8 and 10 the looks at 10 and 12
    are beyond it and end the run, and the best is the one of those at 2, 4, 6 and 8 with the lowest sector loss."""
    free = train(at("free", *forgetful("train.max_steps=12")))
    losses = {point.step: point.losses for point in free.curve}
    rises = {step: it["general"] / losses[0]["general"] - 1 for step, it in losses.items()}
    assert max(rises[step] for step in (2, 4, 6, 8)) < min(rises[10], rises[12])
    best = min((2, 4, 6, 8), key=lambda step: losses[step]["sector"])
    limit = f"train.max_general_loss_increase={(rises[8] + rises[10]) / 2}"
    job = at("budget", *forgetful(limit, "train.checkpoint_every=3"))
    run = train(job)
    assert (run.best_step, run.steps, run.stopped_early) == (best, 12, True)
    assert [point.step for point in run.curve] == [0, 2, 4, 6, 8, 10, 12]
    assert [line["event"] for line in metrics_of(job) if "event" in line] == ["early stop"]
    alone = at("alone", *forgetful(f"train.max_steps={best}"))
    train(alone)
    assert equal(weights_of(job), weights_of(alone))
    killed = at("killed", *forgetful(limit, "train.checkpoint_every=3"))
    crashed_at("train.step:5", lambda: train(killed))
    crashed_at("train.before_save", lambda: train(killed))
    assert train(killed).best_step == best
    assert equal(weights_of(killed), weights_of(job))


def test_a_run_that_never_keeps_its_budget_stops_after_two_looks_and_is_refused_with_10(at, forgetful):
    """1e-9 of budget and a learning rate of 0.3: the looks at steps 2 and 4 are beyond it, and there is no third."""
    job = at("r", *forgetful("train.max_general_loss_increase=1e-9", "train.learning_rate=3e-1"))
    with pytest.raises(GateError, match=r"above the budget of 0\.0 %") as refused:
        train(job)
    assert refused.value.code == 10
    looks = [line["step"] for line in metrics_of(job) if "validation" in line]
    assert looks == [0, 2, 4]
    assert [line["event"] for line in metrics_of(job) if "event" in line] == ["early stop"]
    assert not (job.folder.run / "run.json").exists()


def test_best_weights_live_as_long_as_a_checkpoint_counts_on_them_and_damaged_ones_are_found_at_the_resume(at, capsys):
    """Looks every 2 steps, checkpoints every 3, the budget so wide that each better look is the best."""
    wide = ("train.epochs=2", "train.max_general_loss_increase=1000", "train.checkpoint_every=3")
    job = at("r", *CONSTANT, *wide)
    crashed_at("train.step:11", lambda: train(job))
    kept = steps_kept(job)
    assert [name for name in kept if name.startswith("step")] == ["step-000006", "step-000009"]
    for step in (6, 9):
        state = json.loads((checkpoint_of(job, step) / "state.json").read_text())["state"]
        best = max(point["step"] for point in state["curve"] if point.get("best"))
        assert f"best-{best:06d}" in kept
    assert best == 8 and "best-000006" not in kept  # the checkpoint of step 6 was written before the look at 6
    weights = job.folder.run / "checkpoints" / "best-000008" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    run = train(job)
    said = capsys.readouterr().err
    assert "best weights best-000008 are damaged (" in said
    assert "resuming at step 9" in said  # the whole checkpoint is gone on with
    sector = {point.step: point.losses["sector"] for point in run.curve if point.step == 4 or point.step > 9}
    assert run.best_step == min(sector, key=sector.get)  # those whose weights were kept


def test_where_the_best_was_lost_and_no_later_look_is_within_the_budget_the_remedy_is_told(at, forgetful):
    """As above the looks at 10 and 12 are beyond the budget and end the run; it is killed before it saves."""
    free = train(at("free", *forgetful("train.max_steps=12")))
    rises = {point.step: point.losses["general"] / free.curve[0].losses["general"] - 1 for point in free.curve}
    limit = f"train.max_general_loss_increase={(rises[8] + rises[10]) / 2}"
    job = at("lost", *forgetful(limit, "train.checkpoint_every=3"))
    crashed_at("train.before_save", lambda: train(job))
    for path in (job.folder.run / "checkpoints").glob("best-*"):
        (path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="best weights were damaged, and no later look was within") as refused:
        train(job)
    assert "Delete the folder checkpoints" in refused.value.hint
    shutil.rmtree(job.folder.run / "checkpoints")
    assert train(job).best_step is not None


def test_looks_whose_weights_were_lost_are_never_the_best():
    looks = curve((3.0, 2.0), (2.5, 2.05), (2.2, 2.0), (2.3, 2.0))
    looks[2]["lost"] = True
    assert Budget(0.05).best(looks) == 30
    looks[1]["lost"] = looks[3]["lost"] = True
    assert Budget(0.05).best(looks) is None
    with pytest.raises(DataError, match="no later look"):
        Budget(0.05).refuse(looks)


def test_a_budget_without_general_text_is_refused_with_the_remedy(tmp_path, tiny_base):
    with pytest.raises(RecipeError, match=r"no held-out text of the \w+ channel to measure forgetting on") as refused:
        train(make_job(tmp_path, tiny_base, max_general_loss_increase=0.05))
    assert "Add a source with `channel: general`" in refused.value.hint


# ---------------------------------------------------------------- probes


def test_a_probe_is_the_accuracy_that_plain_transformers_gives_on_the_same_8_items(at):
    """For each item the choice with the highest summed log-probability, one forward pass of the base for each choice."""
    job = at("r", "train.probes=[finance_topics]", "train.probe_items=8", "train.max_steps=1", "train.validate_every=1")
    run = train(job)
    task, roots = load_task("finance_topics", (HOUSE,))
    items, _ = read_items(task, "train", roots, limit=8, seed=job.recipe.seed)
    base = next(root / job.recipe.base for root in job.roots if (root / job.recipe.base).is_dir())
    model, tokenizer = load_weights(base, dtype=torch.float32, attention="eager"), load_tokenizer(base)
    right = 0
    for item in items:
        scores = []
        for choice in item.choices:
            asked = tokenizer(item.text)["input_ids"]
            ids = torch.tensor([tokenizer(f"{item.text} {choice}")["input_ids"]])
            assert ids[0, : len(asked)].tolist() == asked
            with torch.inference_mode():
                logp = torch.log_softmax(model(ids, use_cache=False).logits[0], -1)
            scores.append(float(logp[range(len(asked) - 1, ids.shape[1] - 1), ids[0, len(asked) :]].sum()))
        right += scores.index(max(scores)) == item.gold
    assert len(items) == 8
    assert [set(point.probes) for point in run.curve] == [{"finance_topics"}] * 2
    assert run.curve[0].probes["finance_topics"] == right / 8
    looks = [line["probes"] for line in metrics_of(job) if "validation" in line]
    assert looks == [point.probes for point in run.curve]


def test_a_probe_none_of_whose_items_fits_a_row_is_refused_by_its_name(at, tmp_path):
    """Contexts lose their beginning to fit; an answer of 40 words cannot be cut to 32 tokens."""
    content = (HOUSE / "configs/tasks/finance_topics.yaml").read_text().replace("../../", f"{HOUSE}/")
    content = content.replace("[banking,", f"[{'bank ' * 40}, banking,").replace("task: finance_topics", "task: long")
    (tmp_path / "long.yaml").write_text(content)
    asked = f"train.probes=['{tmp_path}/long.yaml']"
    with pytest.raises(RecipeError, match=r"none of the 8 items of .*long\.yaml fits 32 tokens"):
        probes(at("r", asked, "train.probe_items=8", "prepare.sequence_length=32"))
    [probe] = probes(at("r", asked, "train.probe_items=8", "prepare.sequence_length=192"))
    assert sum(map(len, probe.gold)) == 8


def test_a_task_without_a_split_apart_from_its_test_is_no_probe(at, tmp_path):
    for name, split, told in (
        ("none", "", "is no multiple-choice task with a fewshot_split"),
        ("same", "fewshot_split: test", "fewshot_split is the test_split"),
    ):
        content = (HOUSE / "configs/tasks/finance_topics.yaml").read_text().replace("../../", f"{HOUSE}/")
        content = content.replace("fewshot_split: train", split).replace("task: finance_topics", f"task: {name}")
        (tmp_path / f"{name}.yaml").write_text(content)
        with pytest.raises(RecipeError, match=told):
            train(at(name, f"train.probes=['{tmp_path / name}.yaml']", "train.max_steps=1"))


# ---------------------------------------------------------------- trackers


def test_tensorboard_gets_the_losses_of_metrics_jsonl(tmp_path, tiny_base):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    job = make_job(tmp_path, tiny_base, trackers=["tensorboard"], max_steps=3, validate_every=3)
    train(job)
    for folder in {path.parent for path in (job.folder.run / "trackers").rglob("events.*")}:
        found = EventAccumulator(str(folder))
        found.Reload()
        if "loss" in found.Tags()["scalars"]:  # the settings have a folder of their own
            break
    lines = metrics_of(job)
    assert [it.step for it in found.Scalars("loss")] == [1, 2, 3]
    assert [it.value for it in found.Scalars("loss")] == pytest.approx([it["loss"] for it in lines if "loss" in it])
    assert [it.step for it in found.Scalars("validation/sector")] == [0, 3]


class Broken:
    """A tracker that takes the first line, then fails."""

    name, requires_logging_directory = "broken", False
    lines = 0
    ended = False

    def __init__(self, run: str) -> None: ...

    def store_init_configuration(self, values: dict[str, Any]) -> None: ...

    def log(self, values: dict[str, Any], step: int) -> None:
        Broken.lines += 1
        if Broken.lines > 1:
            raise ConnectionError("the server is gone")

    def finish(self) -> None:
        Broken.ended = True


def test_a_tracker_that_cannot_be_opened_and_one_that_breaks_are_named_once_and_the_run_goes_on(
    tmp_path, tiny_base, monkeypatch, capsys
):
    import accelerate.tracking

    monkeypatch.setattr(accelerate.tracking, "WandBTracker", Broken)
    for name in ("mlflow", "mlflow.tracking"):
        monkeypatch.setitem(sys.modules, name, None)  # not installed
    plain = make_job(tmp_path / "plain", tiny_base, max_steps=4)
    train(plain)
    job = make_job(tmp_path / "tracked", tiny_base, max_steps=4, trackers=["mlflow", "wandb"])
    assert train(job).steps == 4
    said = capsys.readouterr().err
    assert (said.count("mlflow is left out"), said.count("wandb is left out (the server is gone)")) == (1, 1)
    assert "metrics.jsonl has everything" in said
    assert (Broken.lines, Broken.ended) == (2, False)
    assert equal(weights_of(job), weights_of(plain))


def test_a_tracker_is_told_of_the_end_also_when_the_run_breaks_off(tmp_path, tiny_base, monkeypatch):
    import accelerate.tracking

    from tests.training_jobs import stop_at

    class Patient(Broken):
        def log(self, values: dict[str, Any], step: int) -> None: ...

    Broken.ended = False
    monkeypatch.setattr(accelerate.tracking, "WandBTracker", Patient)
    stop_at(make_job(tmp_path, tiny_base, trackers=["wandb"]), step=3)
    assert Broken.ended


# ---------------------------------------------------------------- the arithmetic of a step


def test_micro_batches_of_one_row_and_of_four_give_the_same_weights_to_1e_5_since_tokens_have_equal_weight(
    tmp_path, tiny_base
):
    """Rows have 3 to 30 tokens: were each micro-batch averaged for itself, short rows would count ten times as much."""
    settings = {"batch_tokens": 128, "learning_rate": 1e-3}
    one = make_job(tmp_path / "one", tiny_base, **settings, micro_batch_tokens=32)
    four = make_job(tmp_path / "four", tiny_base, **settings, micro_batch_tokens=128)
    train(one), train(four)
    assert farthest(weights_of(one), weights_of(four)) < 1e-5


def test_lora_plus_16_makes_the_first_step_of_b_16_times_as_long_and_leaves_that_of_a(tmp_path, tiny_base):
    """AdamW's first step is rate x sign(gradient), whatever the gradient's size: B goes from 0 to 1e-4, or to 16e-4."""
    steps = {}
    for ratio in (1, 16):
        job = make_job(
            tmp_path / str(ratio), tiny_base, learning_rate=1e-4, warmup=0.0, final=1.0, max_steps=1, lora_plus=ratio
        )
        train(job)
        steps[ratio] = weights_of(job)
    for name, value in steps[1].items():
        if "lora_B" in name:
            moved = value.abs() > 0.99e-4  # a gradient beside AdamW's epsilon makes a shorter step
            assert moved.float().mean() > 0.9
            torch.testing.assert_close(steps[16][name], 16 * value, rtol=1e-6, atol=0)
        else:
            assert torch.equal(steps[16][name], value)  # B was 0, so A has no gradient yet
