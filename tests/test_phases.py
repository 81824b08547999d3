"""Objectives one after another, preference pairs, and the kinds of adapters, on a corpus that prepare made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn.functional import logsigmoid

from configs.base import load_tokenizer, load_weights
from configs.errors import DataError, RecipeError
from configs.progress import Track
from configs.records import Corpus
from data_prep.prepare import prepare
from tests.recipes import lines, prose
from tests.training_jobs import PHASES, RECIPE, crashed_at, made, opened
from tests.training_jobs import weights_of as adapter
from training.attention import register
from training.batches import Rows
from training.checkpoint import Origin
from training.course import Course
from training.gradients import gradients
from training.loop import Loop
from training.meter import Silent
from training.model import PackedModel, build
from training.objective import PairRows, Preference
from training.train import train
from training.world import World

if TYPE_CHECKING:
    from configs.job import Job


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, tiny_base) -> Path:
    folder = tmp_path_factory.mktemp("phases")
    made(folder, tiny_base)
    return folder


@pytest.fixture
def at(corpus, tmp_path):
    """Open the recipe with other settings, in a run folder of its own over the same corpus."""

    def opener(*sets: str) -> Job:
        job = opened(corpus, *sets, runs=str(tmp_path / "runs"))
        job.folder.root.mkdir(parents=True, exist_ok=True)
        if not job.folder.corpus.exists():
            job.folder.corpus.symlink_to(corpus / "runs" / "t" / "corpus")
        return job

    return opener


def rows_of(job: Job) -> tuple[Rows, Corpus]:
    record = Corpus.read(job.folder.corpus / "corpus.json")
    return Rows(job.folder.corpus, record), record


def test_each_phase_sees_only_its_own_sources_and_replay_stays_until_preference(at):
    job = at(PHASES)
    rows, record = rows_of(job)
    course = Course(job.recipe, record, rows)
    names = [source.name for source in record.sources]
    seen = [{names[source] for source in it.rows.segments[:, 3]} for it in course.stretches]
    assert seen == [{"notes", "replay"}, {"asked", "liked", "replay"}, {"liked"}]
    assert course.steps == sum(it.schedule.steps for it in course.stretches)
    assert course.at(course.stretches[1].first).begins
    assert course.at(course.stretches[2].first).stretch.phase.objective == "preference"


def test_before_the_first_step_the_fullest_micro_batch_of_each_phase_that_is_left_is_gone_through(at):
    """On a GPU; a phase that comes later may need the most memory, as the preference phase does, which asks twice."""
    job = at(PHASES, "train.micro_batch_tokens=400")
    _, record = rows_of(job)
    loop = Loop.begin(job, record, Origin({}, {}), World.here())
    found = list(loop.fullest())
    assert [it.stretch.number for it in found] == [0, 1, 2]
    for it in found:
        lengths = it.stretch.rows.length[: it.stretch.rows.train]
        assert len(it.rows) == 400 // max(lengths)
        assert sorted(lengths[it.rows]) == sorted(lengths)[-len(it.rows) :]
        assert np.isfinite(gradients(loop, it, Silent(Track("", 0, "")))[0])
    liked = found[-1].stretch.objective
    gradients(loop, found[-1], Silent(Track("", 0, "")))  # again, as after a lack of memory: no pair counts twice
    assert sum(float(it[0]) for it in liked.seen) == liked.weight(found[-1].stretch.rows, found[-1].rows)
    loop.state.step = loop.course.stretches[1].first
    assert [it.stretch.number for it in loop.fullest()] == [1, 2]
    loop.state.step = loop.course.steps
    assert list(loop.fullest()) == []


def test_rows_of_some_sources_hold_every_training_token_of_theirs_and_stay_within_a_row(at):
    rows, _ = rows_of(at())
    own = rows.only((2,))
    train = rows.segments[(rows.segments[:, 0] < rows.train) & (rows.segments[:, 3] == 2)]
    assert own.length.sum() == train[:, 2].sum()
    assert own.length.max() <= 192
    assert own.train <= len(np.unique(train[:, 0]))  # neighbours are joined where they fit


def test_a_pair_is_two_documents_with_the_same_prompt_and_the_two_answers(at):
    job = at()
    rows, record = rows_of(job)
    place = [source.name for source in record.sources].index("liked")
    pairs = PairRows(rows.only((place,)))
    batch = pairs.batch([0])
    tokenizer = load_tokenizer(Path(job.recipe.base))
    texts = [tokenizer.decode(batch.tokens_T[a:b]) for a, b in zip(batch.bounds[:-1], batch.bounds[1:], strict=True)]
    number = texts[0].split("rate ")[1].split(" ")[0]
    assert texts[0] == f"Is rate {number} of the bank a good rate? Yes, rate {number} is good.<|endoftext|>"
    assert texts[1] == f"Is rate {number} of the bank a good rate? No, {number} is not.<|endoftext|>"
    learnt = tokenizer.decode(batch.target_S[batch.documents() == 1])
    assert learnt == f" No, {number} is not.<|endoftext|>"
    assert record.sources[place].rejected == len(np.fromfile(job.folder.corpus / "rejected.bin", record.token_dtype))


def test_the_preference_loss_equals_the_formula_on_each_answer_alone_with_the_adapter_disabled_as_reference(at):
    """-log sigmoid(0.1 ((log p(c) - log r(c)) - (log p(r) - log r(r)))), four forward passes of the plain model a pair."""
    job = at()
    rows, record = rows_of(job)
    place = [source.name for source in record.sources].index("liked")
    pairs = PairRows(rows.only((place,)))
    model, wrapper = build(job, torch.device("cpu"))
    objective = Preference(0.1)
    objective.begin(model.trainable())
    torch.manual_seed(1)
    with torch.no_grad():
        for name, value in model.trainable().items():
            if "lora_B" in name:
                value.normal_(std=0.3)
    batch = pairs.batch([0])
    model.eval()
    loss = objective.loss(model, batch)
    loss.backward()
    loss = loss.detach()

    def likelihoods() -> list[float]:
        found = []
        for number, (start, end) in enumerate(zip(batch.bounds[:-1].tolist(), batch.bounds[1:].tolist(), strict=True)):
            ids, bounds = batch.tokens_T[start:end][None], torch.tensor([0, end - start])
            logp = torch.log_softmax(model.causal(ids, use_cache=False, cu_seq_lens_q=bounds).logits[0], -1)
            at_S = batch.scored_S[batch.documents() == number] - start
            found.append(float(logp[at_S, ids[0, at_S + 1]].sum()))
        return found

    with torch.no_grad():
        policy = torch.tensor(likelihoods())
        with wrapper.disable_adapter():
            reference = torch.tensor(likelihoods())
    gained = policy - reference
    expected = -logsigmoid(0.1 * (gained[0::2] - gained[1::2])).sum()
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)
    margins = (0.1 * (gained[0::2] - gained[1::2])).tolist()
    told = objective.told(World.here())
    assert told["margin"] == pytest.approx(sum(margins) / len(margins), rel=1e-3, abs=1e-5)
    assert told["preferred"] == sum(it > 0 for it in margins) / len(margins)
    objective.forget()
    assert objective.told(World.here()) == {"preferred": 0.0, "margin": 0.0}
    assert all(value.grad is not None for value in model.trainable().values())


def test_preference_training_makes_the_chosen_answers_likelier_than_the_rejected_ones(at):
    """At the start every pair costs log 2 = 0.6931; after 40 passes the held-in loss is less than half of that."""
    job = at("train.phases=[{objective: preference, epochs: 40, learning_rate: 2e-2}]")
    run = train(job)
    assert run.loss_first == pytest.approx(0.6931, abs=1e-3)
    assert run.loss_last < 0.35
    lines = [json.loads(line) for line in (job.folder.run / "metrics.jsonl").read_text("utf-8").splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert {line["phase"] for line in steps} == {"1 (preference)"}
    assert (steps[0]["preferred"], steps[0]["margin"]) == (0.0, 0.0)  # the model is its own reference
    assert steps[-1]["preferred"] == 1.0 and steps[-1]["margin"] > 0.5


def test_three_phases_stopped_in_the_second_and_the_third_end_with_the_weights_of_an_unbroken_run(at, tmp_path):
    """Killed in the second step of each: the third phase then needs the weights that it began with."""
    unbroken = at(PHASES)
    train(unbroken)
    expected = adapter(unbroken)
    steps = [json.loads(line) for line in (unbroken.folder.run / "metrics.jsonl").read_text().splitlines()]
    begins = [line["step"] for line in steps if line.get("event") == "phase"]
    assert len(begins) == 2
    (tmp_path / "runs" / "t" / "run").rename(tmp_path / "unbroken")
    resumed = 0
    for dies_in in (begins[0] + 1, begins[1] + 1):
        crashed_at(f"train.step:{dies_in - resumed}", lambda: train(at(PHASES, "train.checkpoint_every=1")))
        resumed = dies_in - 1
    run = train(at(PHASES))
    assert (run.steps, run.segments) == (max(line["step"] for line in steps), 3)
    for name, value in adapter(at(PHASES)).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize(
    ("sets", "grows"),
    [
        (["train.rslora=true"], 1),
        (["train.dora=true"], 1),
        (["train.init=gaussian"], 1),
        (["train.init=orthogonal"], 1),
        (["train.init=pissa"], 2),
        (["train.init=olora", "train.rslora=true"], 2),
        (["train.lora_plus=16"], 1),
        (["train.targets=[q_proj, v_proj]"], 1),
        (["train.checkpoint_activations=on"], 1),
    ],
)
def test_each_kind_of_adapter_learns_and_its_saved_form_gives_the_trained_loss_on_the_plain_base(at, sets, grows):
    """The last look of the run is asked again of base + saved adapter, loaded by PEFT: equal to 1e-4 nats per token."""
    from peft import PeftModel

    job = at(*sets)
    run = train(job)
    assert run.loss_last < run.loss_first
    causal = load_weights(Path(job.recipe.base), dtype=torch.float32, attention=register())
    PeftModel.from_pretrained(causal, job.folder.run / "adapter")
    rows, record = rows_of(job)
    model = PackedModel(causal, torch.float32).eval()
    for channel, own in rows.channels(record).items():
        batch = rows.batch(own)
        with torch.no_grad():
            again = float(model(batch)) / len(batch.target_S)
        assert again == pytest.approx(run.curve[-1].losses[channel], abs=1e-4), channel
    config = json.loads((job.folder.run / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 4 * grows
    assert not any("/" in str(config[key]) for key in ("revision", "init_lora_weights"))


def test_a_run_goes_on_from_an_earlier_adapter_and_refuses_another_shape(at, tmp_path):
    first = at()
    train(first)
    (tmp_path / "runs" / "t" / "run").rename(tmp_path / "runs" / "earlier")
    run = train(at(f"train.start={tmp_path / 'runs' / 'earlier'}", "train.max_steps=1"))
    assert "adapter to start from" in run.inputs
    earlier = json.loads((tmp_path / "runs" / "earlier" / "run.json").read_text())
    assert run.curve[0].losses["sector"] == pytest.approx(earlier["curve"][-1]["losses"]["sector"], abs=1e-5)
    with pytest.raises(RecipeError, match="another shape") as refused:
        train(at(f"train.start={tmp_path / 'runs' / 'earlier'}", "train.rank=8"))
    assert "--set train.rank=4" in str(refused.value)
    with pytest.raises(DataError, match="no adapter_model"):
        train(at("train.start=nowhere"))


def test_activations_that_are_computed_again_give_the_same_weights_bit_for_bit(at, tmp_path):
    train(at("train.max_steps=3"))
    kept = adapter(at())
    (tmp_path / "runs" / "t" / "run").rename(tmp_path / "kept")
    train(at("train.max_steps=3", "train.checkpoint_activations=on"))
    for name, value in adapter(at()).items():
        assert torch.equal(value, kept[name])


def test_adapter_keys_without_an_adapter_are_refused(at):
    for key in ("rslora=true", "dora=true", "init=pissa", "lora_plus=4", "quantise=nf4"):
        with pytest.raises(RecipeError, match="no effect with method: full"):
            at("train.method=full", f"train.{key}")


def test_a_phase_without_any_source_of_its_kind_is_refused_when_the_recipe_is_read(corpus):
    with pytest.raises(RecipeError, match=r"phases\[0\] has no source: none of notes holds preference"):
        opened(corpus, "train.phases=[{objective: preference, sources: [notes]}]")


def test_a_pair_is_no_duplicate_of_the_answer_it_grew_from_nor_of_a_pair_with_another_rejected_answer(
    tmp_path, tiny_base
):
    """10 answers, the same 10 with a rejected one beside them, and those with another: 30 documents, on one side by tens."""
    rows = [{"q": f"Is rate {n} of the bank a good rate?", "good": f"Yes, rate {n} is good."} for n in range(10)]
    pairs = [row | {"bad": f"No, {n} is not."} for n, row in enumerate(rows)]
    others = [row | {"bad": f"Rate {n} is bad."} for n, row in enumerate(rows)]
    (tmp_path / "asked.jsonl").write_text(lines([{"q": row["q"], "a": row["good"]} for row in rows]))
    (tmp_path / "liked.jsonl").write_text(lines([*pairs, *others, pairs[0]]))
    (tmp_path / "notes.jsonl").write_text(lines([{"body": prose(n, 2)} for n in range(24)]))
    (tmp_path / "replay.jsonl").write_text(lines([{"body": prose(n, 2)} for n in range(100, 112)]))
    (tmp_path / "r.yaml").write_text(RECIPE.format(base=tiny_base, data=tiny_base.parent))
    job = opened(tmp_path)
    record = prepare(job)
    kept = {source.name: (source.documents, source.dropped) for source in record.sources}
    assert kept["asked"] == (10, {})
    assert kept["liked"] == (20, {"duplicate": 1})
    table = pq.read_table(job.folder.corpus / "documents.parquet").to_pylist()
    sides: dict[int, set[str]] = {}
    for row in table:
        if row["source"] in ("asked", "liked"):
            number = (int(row["where"].rsplit(":", 1)[1]) - 1) % 10
            sides.setdefault(number, set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
