"""The training loop: packed equals separate, micro-batches do not matter, and a killed run ends as an unbroken one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from configs.base import load_weights
from configs.errors import DataError, DivergedError, RecipeError, StoppedError
from configs.job import Job
from configs.recipe import Recipe
from configs.records import Corpus, Made, Run, SourceLedger
from configs.store import HOUSE, RunFolder, files_of
from training.attention import buckets, register
from training.batches import Rows, Schedule
from training.model import PackedModel
from training.optimizer import learning_rate
from training.train import train

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = (5, 9, 12, 3, 30, 7, 16, 11, 21, 14, 6, 26)  # tokens of 12 documents; all fit rows of 32


def write_corpus(folder: Path) -> Corpus:
    """12 documents of random tokens, packed by hand into 8 training rows and 2 validation rows of 32."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, 300, sum(LENGTHS)).astype("uint16")
    supervised = np.ones(len(tokens), np.uint8)
    supervised[:20] = 0
    starts = np.concatenate([[0], np.cumsum(LENGTHS)])[:-1]
    placed = [(0, 0), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (3, 6), (4, 7), (5, 8), (6, 9), (8, 10), (9, 11)]
    placed.append((7, 2))  # document 2 a second time
    placed.sort()
    rows = [(row, int(starts[doc]), LENGTHS[doc], 0 if row != 9 else 1) for row, doc in placed]
    folder.mkdir(parents=True)
    tokens.tofile(folder / "tokens.bin")
    supervised.tofile(folder / "supervised.bin")
    np.save(folder / "segments.npy", np.array(rows, np.int64))
    made = Made(sectorlm="0", code="0", packages={}, python="3", machine="", finished="", seconds=0)
    record = Corpus(
        name="t",
        settings={},
        inputs={},
        files=files_of(folder),
        made=made,
        sector="finance",
        tokenizer="",
        vocabulary=320,
        token_dtype="uint16",
        sequence_length=32,
        sources=(
            SourceLedger(name="a", channel="sector", licence="CC0-1.0"),
            SourceLedger(name="b", channel="general", licence="CC0-1.0"),
        ),
        documents=12,
        tokens=len(tokens),
        rows_train=8,
        rows_validation=2,
        tokens_train=0,
        supervised_train=0,
        padding_train=0.0,
    )
    record.write(folder / "corpus.json")
    return record


def make_job(root: Path, base: Path, **train_settings) -> Job:
    settings = {
        "epochs": 3.0,
        "batch_tokens": 64,
        "micro_batch_tokens": 64,
        "learning_rate": 1e-2,
        "checkpoint_every": 3,
    }
    settings["precision"] = "float32"
    recipe = Recipe.model_validate_json(
        json.dumps(
            {
                "name": "t",
                "sector": "finance",
                "base": str(base),
                "corpora": [{"name": "a", "path": "a.txt", "licence": "CC0-1.0", "text": "{{text}}"}],
                "train": settings | {"validate_every": 4} | train_settings,
                "evaluate": {"tasks": ["finance_topics"]},
            }
        )
    )
    job = Job(recipe, (root, HOUSE), RunFolder(root / "runs" / "t"))
    if not job.folder.corpus.exists():
        write_corpus(job.folder.corpus)
    return job


def weights_of(job: Job) -> dict[str, torch.Tensor]:
    return load_file(job.folder.run / "adapter" / "adapter_model.safetensors")


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


def test_documents_of_4_5_and_100_tokens_are_attended_in_two_buckets():
    assert [tuple(index.shape) for index, _ in buckets((4, 100, 5))] == [(2, 5), (1, 100)]


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "point", ["train.step:5", "train.checkpoint:2", "store.before_rename:2", "train.before_record"]
)
def test_a_run_killed_at_any_point_ends_bit_for_bit_like_an_unbroken_one(tmp_path, tiny_base, point):
    unbroken, killed = (
        make_job(tmp_path / "a", tiny_base, dropout=0.1),
        make_job(tmp_path / "b", tiny_base, dropout=0.1),
    )
    train(unbroken)
    (tmp_path / "recipe.json").write_text(killed.recipe.model_dump_json())
    code = (
        "import sys; from pathlib import Path; from configs.job import Job; from configs.recipe import Recipe\n"
        "from configs.store import HOUSE, RunFolder; from training.train import train\n"
        "root = Path(sys.argv[1]); recipe = Recipe.model_validate_json(Path(sys.argv[2]).read_bytes())\n"
        "train(Job(recipe, (root, HOUSE), RunFolder(root / 'runs' / 't')))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "b"), str(tmp_path / "recipe.json")]
    died = subprocess.run(
        command, cwd=HOUSE, env=os.environ | {"SECTORLM_CRASH_AT": point}, capture_output=True, check=False
    )
    assert died.returncode == 137, died.stderr.decode()
    assert not (killed.folder.run / "run.json").exists()
    resumed = train(killed)
    assert resumed.steps == 12
    for name, value in weights_of(unbroken).items():
        assert torch.equal(weights_of(killed)[name], value)
    steps = [json.loads(line) for line in (killed.folder.run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if "loss" in line] == list(range(1, 13))


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


def stop_at(job: Job, step: int) -> None:
    """Train in this process and send it SIGTERM when metrics.jsonl reaches `step`."""
    from training.meter import Meter

    class Stopper(Meter):
        def write(self, **figures):
            super().write(**figures)
            if figures.get("step") == step and "loss" in figures:
                os.kill(os.getpid(), signal.SIGTERM)

    import training.train as page

    original, page.Meter = page.Meter, Stopper
    try:
        with pytest.raises(StoppedError) as stopped:
            train(job)
    finally:
        page.Meter = original
    assert stopped.value.code == 143


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


def with_weights(base: Path, folder: Path, change) -> Path:
    """A copy of a base whose embedding and head are apart, after `change` to its weights by name."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    config = model.config
    config.tie_word_embeddings = False
    apart = type(model)(config)
    apart.load_state_dict(model.state_dict())
    with torch.no_grad():
        change(apart)
    apart.save_pretrained(folder)
    for file in base.glob("tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def rows_with(job: Job, token: int) -> list[int]:
    """Training rows of the corpus that hold a token."""
    rows = Rows(job.folder.corpus, Corpus.read(job.folder.corpus / "corpus.json"))
    return [row for row in range(rows.train) if token in rows.batch([row]).tokens_T]


def poisoned(base: Path, folder: Path, *tokens: int) -> Path:
    """A base that gives NaN wherever one of these tokens is read."""
    ids = torch.tensor(tokens)
    return with_weights(base, folder, lambda it: it.get_input_embeddings().weight.index_fill_(0, ids, float("nan")))


def test_weights_that_give_nan_stop_the_run_after_three_steps_and_no_record_is_written(tmp_path, tiny_base):
    broken = with_weights(tiny_base, tmp_path / "broken", lambda it: it.model.norm.weight[0].fill_(float("nan")))
    job = make_job(tmp_path, broken, checkpoint_every=100)
    with pytest.raises(DivergedError, match="3 steps in a row"):
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
    state = job.folder.run / "checkpoints" / "step-000003" / "state.json"
    content = json.loads(state.read_text())
    content["state"]["made"][-1]["packages"]["torch"] = "1.0"
    state.write_text(json.dumps(content))
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
