"""Evaluation on a real tiny model and a random adapter: two scorecards, every answer on disk, and a stop anywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from configs.base import base_digest
from configs.errors import DataError
from configs.job import Job
from configs.recipe import Evaluate, Recipe, Source
from configs.records import Run, Scorecard, made_by
from configs.store import HOUSE, RunFolder, digest_folder, files_of
from eval.answers import read_answers
from eval.evaluate import evaluate

if TYPE_CHECKING:
    from pathlib import Path

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {name}.jsonl}}}}
test_split: test
output_type: {kind}
{keys}
metadata: {{sector: {sector}, language: [en], licence: CC0-1.0, source: written for this test}}
"""
CHOICE = """doc_to_text: "{{text}}\\nMood:"
doc_to_choice: [good, quite bad]
doc_to_target: "{{mood}}"
metric_list: [{metric: acc}, {metric: macro_f1}]"""
WRITE = """doc_to_text: "{{text}}\\nMood:"
doc_to_choice: [good, quite bad]
doc_to_target: "{{mood}}"
max_gen_toks: 6
metric_list: [{metric: exact_match}]"""
PASSAGE = """doc_to_text: "{{text}}"
metric_list: [{metric: bits_per_byte}]"""


@pytest.fixture
def job(tiny_base: Path, tmp_path: Path) -> Job:
    """24 questions, 24 texts to write, 24 passages; a finished run with a random adapter."""
    return made(tmp_path, tiny_base)


def made(root: Path, base: Path, **wish: Any) -> Job:
    words = ["bank", "clinic", "rate", "利率", "loan", "nurse"]
    rows = [
        {"text": f"The {words[n % 6]} said {n} times yes.", "mood": ["good", "quite bad"][n % 2]} for n in range(24)
    ]
    for name, kind, keys, sector in (
        ("moods", "multiple_choice", CHOICE, "finance"),
        ("written", "generate_until", WRITE, "finance"),
        ("passages", "loglikelihood_rolling", PASSAGE, "general"),
    ):
        (root / f"{name}.yaml").write_text(TASK.format(name=name, kind=kind, keys=keys, sector=sector), "utf-8")
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    tasks = {
        "tasks": ("moods.yaml", "written.yaml"),
        "general": ("passages.yaml",),
        "resamples": 1000,
        "batch_tokens": 256,
    }
    recipe = Recipe(
        name="test",
        sector="finance",
        base=str(base),
        corpora=(Source(name="rows", path="moods.jsonl", licence="CC0-1.0", text="{{text}}"),),
        evaluate=Evaluate(**(tasks | wish)),
    )
    folder = RunFolder(root / "runs" / "test")
    if not (folder.run / "run.json").exists():
        train_nothing(folder, base)
    return Job(recipe, (root, HOUSE), folder)


def train_nothing(folder: RunFolder, base: Path, seed: int = 1) -> None:
    """A run record beside a random adapter that peft itself saved."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=64, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder.run / "adapter")
    Run(
        name="test",
        settings={},
        inputs={},
        files=files_of(folder.run / "adapter", "adapter"),
        made=made_by("training", time.monotonic()),
        base=str(base),
        base_digest=base_digest(base),
        method="lora",
        weights="adapter",
        weights_digest=digest_folder(folder.run / "adapter", ("*.safetensors", "adapter_config.json")),
        trainable_parameters=1,
        total_parameters=2,
        steps=1,
        epochs=1.0,
        tokens=1,
        seconds_training=1.0,
        tokens_per_second=1.0,
        peak_memory_bytes=1,
        loss_first=1.0,
        loss_last=1.0,
        curve=(),
    ).write(folder.run / "run.json")


def run_until(point: str, root: Path, base: Path) -> subprocess.CompletedProcess[bytes]:
    """Evaluate in a process that dies at a point."""
    code = f"""
import sys; sys.path.insert(0, {str(HOUSE)!r})
from pathlib import Path
from tests.test_evaluate import made
from eval.evaluate import evaluate
evaluate(made(Path({str(root)!r}), Path({str(base)!r})))
"""
    environment = os.environ | {"SECTORLM_CRASH_AT": point}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)


def batches(root: Path, which: str) -> int:
    """Batches of a model that a stopped evaluation has left."""
    log = RunFolder(root / "runs" / "test").scorecards / f".{which}.answers" / "answers.jsonl"
    return len({json.loads(line)["batch"] for line in log.read_text("utf-8").splitlines()})


def answers(job: Job, which: str) -> bytes:
    return (job.folder.scorecards / which / "answers.jsonl").read_bytes()


def test_two_scorecards_with_every_answer(job: Job) -> None:
    base, tuned = evaluate(job)
    assert [(score.task, score.metric, score.n) for score in base.scores] == [
        ("moods", "acc", 24),
        ("written", "exact_match", 24),
        ("passages", "bits_per_byte", 24),
    ]
    lines = read_answers(job.folder.scorecards / "tuned" / "answers.jsonl")
    right = [line["answer"] == line["target"] for line in lines["moods"]]
    assert [line["row"] for line in lines["moods"]] == list(range(24))
    assert tuned.scores[0].value == sum(right) / 24
    assert tuned.scores[0].baselines == {"majority": 0.5, "random": 0.5}
    assert (tuned.scores[2].higher_is_better, tuned.scores[0].higher_is_better) == (False, True)
    assert base.model_digest != tuned.model_digest
    assert answers(job, "base") != answers(job, "tuned")


def test_some_items_are_asked_again_in_batches_of_another_shape(job: Job) -> None:
    """4 of 24 items; in float32 the likelihoods move by less than a ten-thousandth of a nat, and no answer changes."""
    for card in evaluate(job):
        for score in card.scores:
            assert score.noise is not None
            assert (score.noise.items, score.noise.changed, score.noise.largest < 1e-4) == (4, 0, True)
            assert abs(score.noise.difference) < 1e-4
    first, again = (read_answers(job.folder.scorecards / "tuned" / f"{name}.jsonl") for name in ("answers", "again"))
    for task, lines in again.items():
        batches = {line["batch"] for line in first[task]}
        assert len(lines) == 4 and not batches & {line["batch"] for line in lines}


def test_random_texts_that_name_no_choice_are_invalid_and_wrong(job: Job) -> None:
    _, tuned = evaluate(job)
    written = tuned.scores[1]
    assert (written.value, written.invalid) == (0.0, 1.0)
    assert written.baselines == {"majority": 0.5, "random": 0.5}  # of 24 golds each of the two choices is 12


def test_the_second_time_nothing_is_done(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    first = evaluate(job)
    capsys.readouterr()
    assert evaluate(job) == first
    assert capsys.readouterr().err.splitlines() == ["evaluate base: unchanged, kept", "evaluate tuned: unchanged, kept"]


def test_a_new_adapter_leaves_the_bases_scorecard_as_it_is(
    job: Job, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(job)
    before, old = answers(job, "base"), answers(job, "tuned")
    train_nothing(job.folder, tiny_base, seed=2)
    capsys.readouterr()
    evaluate(job)
    said = capsys.readouterr().err
    assert "evaluate base: unchanged, kept" in said
    assert "evaluate tuned again: tuned weights changed" in said
    assert answers(job, "base") == before
    assert answers(job, "tuned") != old


def test_a_task_more_asks_only_the_new_task(job: Job, tiny_base: Path, tmp_path: Path) -> None:
    """The answers to the two old tasks are found by their batches, so they come out byte for byte the same."""
    fewer = made(tmp_path, tiny_base, tasks=("moods.yaml",))
    evaluate(fewer)
    old = answers(fewer, "tuned").decode().splitlines()
    evaluate(job)
    assert set(old) <= set(answers(job, "tuned").decode().splitlines())
    assert len(answers(job, "tuned").splitlines()) == 72


@pytest.mark.parametrize("point", ["evaluate.batch:7", "evaluate.before_record:2"])
def test_killed_at_any_point_the_same_command_gives_the_same_bytes(
    point: str, job: Job, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("killed")
    shutil.copytree(job.folder.run, RunFolder(other / "runs" / "test").run)
    evaluate(job)
    killed = run_until(point, other, tiny_base)
    assert killed.returncode == 137, killed.stderr.decode()
    if point == "evaluate.batch:7":  # base and tuned are asked in turn
        assert [batches(other, which) for which in ("base", "tuned")] == [4, 3]
    again = made(other, tiny_base)
    evaluate(again)
    for which in ("base", "tuned"):
        assert answers(again, which) == answers(job, which)
    assert not list(again.folder.scorecards.glob(".*"))


def test_a_torn_last_line_is_asked_again(job: Job) -> None:
    """A half-written batch, as a full disk or a power cut leaves it."""
    evaluate(job)
    whole = answers(job, "base")
    working = job.folder.scorecards / ".base.answers"
    working.mkdir()
    (working / "answers.jsonl").write_bytes(whole[: len(whole) // 2])
    (job.folder.scorecards / "base" / "scorecard.json").unlink()
    (job.folder.scorecards / "base" / "answers.jsonl").unlink()
    evaluate(job)
    assert answers(job, "base") == whole


def test_answers_that_were_changed_by_hand_are_asked_again(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(job)
    whole = answers(job, "base")
    path = job.folder.scorecards / "base" / "answers.jsonl"
    path.write_bytes(whole.replace(b'"answer": "good"', b'"answer": "quite bad"'))
    evaluate(job)
    assert "evaluate base again: " in capsys.readouterr().err
    assert answers(job, "base") == whole


def test_a_limit_of_5_scores_5_items_of_each_task(tiny_base: Path, tmp_path: Path) -> None:
    base, _ = evaluate(made(tmp_path, tiny_base, limit=5))
    assert [score.n for score in base.scores] == [5, 5, 5]


def test_flipped_bytes_in_the_adapter_are_noticed(job: Job) -> None:
    path = job.folder.run / "adapter" / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="bytes differ"):
        evaluate(job)


def test_a_base_that_changed_after_training_is_refused(job: Job, tiny_base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_base, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    changed = Job(job.recipe.model_copy(update={"base": str(other)}), job.roots, job.folder)
    with pytest.raises(DataError, match="differ now"):
        evaluate(changed)


def test_without_a_run_the_error_says_which_stage_is_missing(job: Job) -> None:
    (job.folder.run / "run.json").unlink()
    with pytest.raises(DataError, match="there is no such record"):
        evaluate(job)


def test_scorecards_vouch_for_their_answers(job: Job) -> None:
    from configs.store import verify_files

    evaluate(job)
    for which in ("base", "tuned"):
        folder = job.folder.scorecards / which
        verify_files(folder, Scorecard.read(folder / "scorecard.json").files)


def test_answers_are_kept_where_only_the_cluster_of_their_items_changed(tiny_base: Path, tmp_path: Path) -> None:
    """24 questions by themselves, then two and two about one passage: the same answers, and 12 observations."""
    job = made(tmp_path, tiny_base, tasks=("moods.yaml",), general=())
    task = (tmp_path / "moods.yaml").read_text("utf-8") + 'cluster: "{{passage}}"\nsubject: "{{passage}}"\n'
    (tmp_path / "moods.yaml").write_text(task, "utf-8")
    rows = [json.loads(line) for line in (tmp_path / "moods.jsonl").read_text("utf-8").splitlines()]
    found = []
    for width in (1, 2):
        shared = [row | {"passage": n // width} for n, row in enumerate(rows)]
        (tmp_path / "moods.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shared), "utf-8")
        _, tuned = evaluate(job)
        assert tuned.scores[0].clusters == 24 // width
        lines = read_answers(job.folder.scorecards / "tuned" / "answers.jsonl")["moods"]
        assert [(line["cluster"], line["subject"]) for line in lines] == [(str(n // width),) * 2 for n in range(24)]
        found.append([(line["batch"], line["loglikelihoods"]) for line in lines])
    assert found[0] == found[1]


FAR = """
task: far
dataset_path: acme/rates
revision: abc
local: {data_files: {test: far.jsonl}, rename: {text: question}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}} Bank rate?"
doc_to_target: "{{ ['12', '0.12'] if n == 0 else '12' }}"
max_gen_toks: 4
filter_list: [{name: way, filter: [{function: regex, regex_pattern: "[0-9].*"}]}]
metric_list: [{metric: number_match, tolerance: 0.01}, {metric: exact_match, ignore_case: true}]
metadata: {sector: finance, language: [en], licence: CC0-1.0, source: written for this test}
"""


def test_a_scorecard_says_which_rows_it_scored_and_how_they_were_compared(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of four questions two have more tokens than the context of 512 holds beside an answer: they are cut and counted."""
    (tmp_path / "far.yaml").write_text(FAR, "utf-8")
    rows = [{"text": "q" * length, "n": n} for n, length in enumerate((3, 5, 600, 700))]
    (tmp_path / "far.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    job = made(tmp_path, tiny_base, tasks=("far.yaml",), general=())
    base, _ = evaluate(job)
    place = "local files in place of the hub's acme/rates@abc"
    assert base.inputs["rows of far"] == place
    assert f"far: 4 items of {place}" in capsys.readouterr().err
    lines = read_answers(job.folder.scorecards / "base" / "answers.jsonl")["far"]
    assert [line.get("accepted") for line in lines] == [["12", "0.12"], None, None, None]
    assert {json.dumps(line["options"]) for line in lines} == {
        '{"number_match": {"tolerance": 0.01}, "exact_match": {"ignore_case": true}}'
    }
    unread = sum(line["answer"] is None for line in lines)
    assert (base.scores[0].truncated, base.scores[0].invalid) == (2, unread / 4)
