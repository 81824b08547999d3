"""The plan counts what can be counted by hand on the tiny base: Llama, 2 layers, width 32, 4 heads of 8, 2 key-value heads."""

from __future__ import annotations

import json
import os

import pytest
import torch

from configs.errors import RecipeError
from configs.job import Job
from configs.progress import track
from configs.recipe import Recipe
from configs.records import Corpus
from configs.store import HOUSE, RunFolder
from configs.tuning import Train
from tests.training_jobs import PHASES, made, opened
from tests.training_jobs import make_job as training_job
from training.advice import _of_serving
from training.checkpoint import State
from training.fit import load_of, useful_of
from training.legs import counted
from training.memory import memory_of
from training.meter import Meter, Taken
from training.model import build
from training.plan import Asked, plan
from training.rates import GPUS, Machine, Useful, machine_of
from training.shape import Shape
from training.train import train

EMBEDDING = 320 * 32
LAYER = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64 + 2 * 32  # q, k and v, o, gate/up/down, two norms
LORA = 4 * ((32 + 32) * 2 + (32 + 16) * 2 + (32 + 64) * 3)  # rank 4 on q and o, k and v, gate/up/down


def make_job(root, base, **train):
    (root / "a.txt").write_text("word " * 7000, "utf-8")  # 35,000 bytes: 10,000 tokens at 3.5 bytes each
    tree = {
        "name": "p",
        "sector": "finance",
        "base": str(base),
        "corpora": [{"name": "a", "path": "a.txt", "licence": "CC0-1.0", "text": "{{text}}"}],
        "prepare": {"sequence_length": 100},
        "train": {"rank": 4, "epochs": 2, "batch_tokens": 1000, "micro_batch_tokens": 500} | train,
        "evaluate": {"tasks": ["finance_topics"]},
    }
    return Job(Recipe.model_validate_json(json.dumps(tree)), (root, HOUSE), RunFolder(root / "runs" / "p"))


def test_parameters_and_steps_are_those_counted_by_hand(tmp_path, tiny_base):
    told = plan(make_job(tmp_path, tiny_base))
    assert told["training"]["total_parameters"] == EMBEDDING + 2 * LAYER + 32
    assert told["training"]["trainable_parameters"] == 2 * LORA
    source = told["data"].pop("sources")["a"]
    assert told["data"] == {"tokens": 10_000, "documents": None, "estimated": True}
    assert source == {
        "channel": "sector",
        "documents": None,
        "tokens": 10_000,
        "repeats": None,
        "epochs": 2.0,
        "tokens_seen": 20_000,
    }
    assert told["training"]["steps"] == 20  # 100 rows x 2 epochs / 10 rows a step
    assert told["training"]["tokens"] == 20_000


def test_lora_with_more_text_than_twice_its_parameters_is_warned_about(tmp_path, tiny_base):
    # 2 x 2 x 1,824 = 7,296 is below 20,000 tokens; a rank of 64 has 16 times the parameters
    assert any("raise train.rank" in line for line in plan(make_job(tmp_path, tiny_base))["warnings"])
    assert not any("raise train.rank" in line for line in plan(make_job(tmp_path, tiny_base, rank=64))["warnings"])


def test_a_lora_learning_rate_of_full_tuning_is_warned_about(tmp_path, tiny_base):
    assert any("ten times" in line for line in plan(make_job(tmp_path, tiny_base, learning_rate=2e-5))["warnings"])


def test_few_steps_are_warned_about_with_what_gives_more_of_them(tmp_path, tiny_base):
    """100 rows x 2 epochs / 10 rows a step are 20 steps, 1 epoch 10; a limit of 5 ends them earlier, one of 50 does not."""
    for settings, told in (
        ({"max_steps": 5}, ["5 steps are few: raise train.max_steps"]),
        ({"epochs": 1}, ["10 steps are few: lower train.batch_tokens"]),
        ({"epochs": 1, "max_steps": 50}, ["10 steps are few: lower train.batch_tokens"]),
        ({}, []),
    ):
        lines = plan(make_job(tmp_path, tiny_base, **settings))["warnings"]
        assert [line for line in lines if "steps are few" in line] == told


def test_a_disk_with_less_room_than_the_run_may_take_is_warned_about(tmp_path, tiny_base, monkeypatch):
    """3 checkpoints of 3 numbers for each of 2 x 1,824 parameters, twice the weights, and 3 bytes for a token."""
    disk = plan(make_job(tmp_path, tiny_base))["disk_gb"]
    assert disk["checkpoints"] == round(3 * 3 * 4 * 2 * LORA / 1e9, 3)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 0}))
    monkeypatch.setattr("training.plan._disk", lambda *_: {"total": 1.2})
    assert any("1.20 GB needed in" in line for line in plan(make_job(tmp_path, tiny_base))["warnings"])


def test_hours_and_cost_follow_from_flops_a_peak_and_a_price(tmp_path, tiny_base):
    """Two H100 at 40 % of 989.4 TFLOPS each, 3 dollars an hour."""
    told = plan(make_job(tmp_path, tiny_base), Asked(Machine(GPUS["h100"], 2, 3.0)))["time"]
    assert told["hours"] == pytest.approx(told["flops"] / (2 * 0.4 * 989.4e12) / 3600, rel=1e-3)
    assert told["usd_per_gpu_hour"] == 3.0 and told["price_is"] == "yours"
    assert "indication" in plan(make_job(tmp_path, tiny_base), Asked(machine_of("h100")))["time"]["price_is"]


def test_flops_are_those_counted_by_hand(tmp_path, tiny_base):
    """Full tuning: 6 for each weight of layers and head and token; 6 L for each of 32 units of head width and 2 layers."""
    told = plan(make_job(tmp_path, tiny_base, method="full", learning_rate=1e-5), Asked(machine_of("l4")))
    weights = 2 * (LAYER - 2 * 32) + EMBEDDING
    assert told["time"]["flops"] == pytest.approx(20_000 * (6 * weights + 6 * 100 * 32 * 2), rel=1e-3)


def test_an_unknown_card_is_refused_with_the_nearest_name():
    with pytest.raises(RecipeError) as told:
        machine_of("h1000")
    assert "Did you mean h100?" in told.value.hint


def test_a_card_without_bfloat16_is_warned_about(tmp_path, tiny_base):
    told = plan(make_job(tmp_path, tiny_base), Asked(machine_of("t4")))
    assert any("T4 has no bfloat16" in line for line in told["warnings"])
    assert told["training"]["precision"] == "float32"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rank": 16}, []),
        ({"rank": 17}, ["an adapter of rank 17 needs --max-lora-rank 32, or set publish.merged: true"]),
        (
            {"rank": 48, "init": "olora"},
            ["an adapter of rank 96 (twice train.rank: init is olora) needs --max-lora-rank 128"],
        ),
        ({"rank": 300, "init": "pissa"}, ["no adapters of rank 600 (twice train.rank: init is pissa)"]),
        ({"dora": True, "new_tokens": ["sukuk"]}, ["no DoRA adapters", "no adapters with new tokens"]),
        ({"method": "full"}, []),
    ],
)
def test_what_vllm_cannot_serve_as_an_adapter_is_told_before_it_is_trained(settings, told):
    found = _of_serving(Train.model_validate_json(json.dumps(settings)), merged=False)
    assert len(found) == len(told)
    assert all("to serve with vLLM" in line and part in line for line, part in zip(found, told, strict=True))


def test_the_plan_of_phases_with_pairs_is_the_run_that_follows(tmp_path, tiny_base):
    """Text, answers, then preference pairs: steps, passes and tokens of the plan are those of the record of training."""
    made(tmp_path / "phases", tiny_base)
    job = opened(tmp_path / "phases", PHASES)
    planned, run = plan(job)["training"], train(job)
    assert (planned["steps"], planned["tokens"]) == (run.steps, run.tokens)
    assert planned["epochs"] == run.epochs


def test_the_probe_goes_through_every_phase_and_finds_the_memory_of_pairs(tmp_path, tiny_base):
    """The fullest micro-batch is one of pairs where there are no others: the reference is among the tensors."""
    made(tmp_path / "phases", tiny_base)
    told = plan(opened(tmp_path / "phases", PHASES), Asked(probe=True))["probe"]["compared"]
    assert 0.85 < told["tensors, GB"]["ratio"] < 1.15
    pairs = opened(tmp_path / "phases", "train.phases=[{objective: preference}]")
    told = plan(pairs, Asked(probe=True))["probe"]["compared"]
    assert 0.85 < told["tensors, GB"]["ratio"] < 1.15


def test_a_reference_that_is_asked_is_time_and_memory_and_a_file(tmp_path, tiny_base):
    """The last phase over 24 pairs goes forward through its reference; a copy of the factors stays in memory and on disk."""
    made(tmp_path / "phases", tiny_base)
    answers, pairs = (
        opened(tmp_path / "phases", f"train.phases=[{{objective: {it}, sources: [liked]}}]")
        for it in ("answers", "preference")
    )
    one, two = (plan(job) for job in (answers, pairs))
    assert two["training"]["tokens"] > 1.8 * one["training"]["tokens"]
    assert two["time"]["flops"] > 1.4 * 1.8 * one["time"]["flops"]
    assert memory_of_reference(answers) == 0 and memory_of_reference(pairs) == 4 * 2 * LORA


def memory_of_reference(job):
    record = Corpus.read(job.folder.corpus / "corpus.json")
    load = load_of(job.recipe.train, counted(job, record, 1)[1], torch.float32, "cpu", 1)
    return memory_of(Shape.of(job), load).reference


def test_phases_are_guessed_from_the_sizes_of_their_sources(tmp_path, tiny_base):
    """10,000 tokens are 100 rows: 2 passes are 20 steps; half of the rows, once, with at most 3 steps, are 3."""
    job = make_job(
        tmp_path, tiny_base, phases=[{"objective": "text"}, {"objective": "all", "epochs": 1, "max_steps": 3}]
    )
    assert plan(job)["training"]["steps"] == 20 + 3
    assert plan(make_job(tmp_path, tiny_base, part=0.5))["training"]["steps"] == 10
    assert plan(job)["data"]["sources"]["a"]["epochs"] == 2.3  # 30 of 100 rows in the second phase


def test_a_steps_rows_are_shared_by_the_processes(tmp_path, tiny_base):
    """Of 10 rows of 100 tokens each of four processes has 3 at the most, in one micro-batch of up to 5."""
    assert "500 tokens" in plan(make_job(tmp_path, tiny_base), Asked(machine_of("l4")))["memory_gb"]["basis"]
    assert "300 tokens" in plan(make_job(tmp_path, tiny_base), Asked(machine_of("l4", 4)))["memory_gb"]["basis"]


def test_the_disk_holds_the_base_with_new_tokens_the_best_weights_and_doubled_factors(tmp_path, tiny_base):
    """Sizes for 512 of width 32: a factor of rank 512 for each of 7 layers' sides is 4 bytes x 2 x 128 x 1,824 numbers."""
    plain, more = (
        plan(make_job(tmp_path, tiny_base, rank=512, **it))["disk_gb"]
        for it in ({}, {"init": "olora", "max_general_loss_increase": 0.1, "new_tokens": ["sukuk"]})
    )
    factors = 4 * 2 * 128 * LORA / 1e9
    assert plain["weights"] == pytest.approx(factors, abs=1e-3) and plain["best"] == plain["base"] == 0
    assert more["weights"] == pytest.approx(2 * factors, abs=1e-3)
    assert more["best"] == pytest.approx(3 * factors, abs=1e-3)


def test_activations_are_recomputed_where_they_do_not_fit_in_plan_and_training_alike(
    tmp_path, tiny_base, monkeypatch, capsys
):
    """A machine without a free page: this process has its own memory and no more."""
    job, cpu = training_job(tmp_path, tiny_base), torch.device("cpu")
    assert not build(job, cpu)[0].causal.is_gradient_checkpointing
    assert "recomputed" not in plan(job)["memory_gb"]["basis"]
    pages = os.sysconf
    monkeypatch.setattr("os.sysconf", lambda name: 0 if name == "SC_AVPHYS_PAGES" else pages(name))
    assert build(job, cpu)[0].causal.is_gradient_checkpointing
    assert "activations are recomputed: " in capsys.readouterr().err
    assert "activations recomputed" in plan(job)["memory_gb"]["basis"]
    off = training_job(tmp_path, tiny_base, checkpoint_activations="off")
    assert not build(off, cpu)[0].causal.is_gradient_checkpointing


def test_utilisation_is_useful_flops_a_second_over_the_peak_of_all_cards(tmp_path, tiny_base):
    """1e9 FLOPs a token, 2,000 tokens in half a second: 4e12 of 2 x 5e12 a second."""
    job = training_job(tmp_path, tiny_base)
    record = Corpus.read(job.folder.corpus / "corpus.json")
    stretch = counted(job, record, 1)[0].stretches[0]
    with track("train", 2, "steps") as bar:
        meter = Meter(tmp_path / "metrics.jsonl", "t", State(), bar)
        meter.step(State(step=1), stretch, Taken(3.0, 1e-4, 1.0, 2000, 0.5))
        meter.useful = Useful((1e9,), 2 * 5e12)
        meter.step(State(step=2), stretch, Taken(3.0, 1e-4, 1.0, 2000, 0.5))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [line.get("mfu") for line in lines] == [None, 0.4]
    assert useful_of(job, record, torch.device("cpu"), 1) is None


def test_a_probe_names_no_other_machine_and_needs_a_corpus(tmp_path, tiny_base):
    with pytest.raises(RecipeError, match="names another"):
        plan(make_job(tmp_path, tiny_base), Asked(machine_of("h100"), probe=True))
