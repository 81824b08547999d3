"""`sectorlm score`: any model on any task, a scorecard each, kept, resumed, and compared like those of a recipe."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from configs.records import Run, Scorecard
from configs.store import HOUSE, RunFolder
from eval.answers import read_answers
from eval.models import Given, given
from tests.recipes import sectorlm
from tests.test_evaluate import made, train_nothing

TASKS = "moods.yaml,written.yaml,passages.yaml"


@pytest.fixture(scope="module")
def here(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three tasks, and runs/test with a random adapter."""
    folder = tmp_path_factory.mktemp("scored")
    made(folder, tiny_base)
    return folder


@pytest.fixture(autouse=True)
def _stand_there(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def test_a_base_and_its_adapter_get_the_answers_of_a_recipe(here, tiny_base):
    """The same keys, so the same answers to the last digit: only the names of the models differ."""
    from eval.evaluate import evaluate

    adapter = here / "runs/test/run/adapter"
    told = sectorlm("score", tiny_base, "--adapter", adapter, "--tasks", TASKS, "--out", "a")
    assert told.code == 0, told.err
    job = made(here, tiny_base)
    evaluate(job)
    names = {"base": tiny_base.name, "tuned": f"{tiny_base.name}+test"}
    for which, name in names.items():
        ours, theirs = (
            Scorecard.read(folder / "scorecard.json") for folder in (Path("a") / name, job.folder.scorecards / which)
        )
        assert ours.model == name
        assert ours.model_digest == theirs.model_digest
        for one, other in zip(ours.scores, theirs.scores, strict=True):
            assert (one.task, one.value, one.invalid) == (other.task, other.value, other.invalid)
        lines = [
            read_answers(folder / "answers.jsonl")["moods"]
            for folder in (Path("a") / name, job.folder.scorecards / which)
        ]
        assert [line["loglikelihoods"] for line in lines[0]] == [line["loglikelihoods"] for line in lines[1]]
    assert f"next: sectorlm compare a/{names['base']} a/{names['tuned']}" in told.out.replace("\n", " ")


def test_the_pair_in_one_word_is_the_same_model_and_is_kept(here, tiny_base):
    pair = f"{tiny_base}+{here / 'runs/test/run/adapter'}"
    told = sectorlm("score", tiny_base, pair, "--tasks", TASKS, "--out", "a")
    assert told.code == 0, told.err
    assert told.err.count("unchanged, kept") == 2


def test_tasks_of_general_ability_are_the_panel_and_a_limit_is_a_setting(tiny_base):
    told = sectorlm("score", tiny_base, "--tasks", "passages.yaml,moods.yaml", "--limit", "5", "--out", "b")
    assert told.code == 0, told.err
    card = Scorecard.read(Path("b") / tiny_base.name / "scorecard.json")
    assert (card.settings["evaluate.tasks"], card.settings["evaluate.general"]) == (["moods.yaml"], ["passages.yaml"])
    assert [(score.task, score.n) for score in card.scores] == [("moods", 5), ("passages", 5)]


def test_compare_takes_any_two_scorecards(here, tiny_base):
    sectorlm("score", tiny_base, "--adapter", here / "runs/test/run/adapter", "--tasks", TASKS, "--out", "a")
    told = sectorlm("--json", "compare", f"a/{tiny_base.name}", f"a/{tiny_base.name}+test")
    assert told.code == 0, told.err


def test_a_model_with_another_tokenizer_of_as_many_tokens_gets_prompts_of_its_own(here, tiny_base):
    """Two letters change places in the vocabulary: the same size, other token ids, so other answers, by its own tokens."""
    other = here / "other"
    shutil.copytree(tiny_base, other)
    page = json.loads((other / "tokenizer.json").read_text("utf-8"))
    vocabulary = page["model"]["vocab"]
    vocabulary["q"], vocabulary["x"] = vocabulary["x"], vocabulary["q"]
    e, t = vocabulary["e"], vocabulary["t"]
    vocabulary["e"], vocabulary["t"] = t, e
    (other / "tokenizer.json").write_text(json.dumps(page), "utf-8")
    both = sectorlm("score", tiny_base, other, "--tasks", "moods.yaml", "--out", "c")
    alone = sectorlm("score", other, "--tasks", "moods.yaml", "--out", "d")
    assert (both.code, alone.code) == (0, 0), both.err + alone.err
    assert (Path("c/other/answers.jsonl")).read_bytes() == Path("d/other/answers.jsonl").read_bytes()
    assert Path("c/other/answers.jsonl").read_bytes() != (Path("c") / tiny_base.name / "answers.jsonl").read_bytes()


@pytest.mark.slow
def test_killed_in_the_second_model_and_run_again_the_bytes_are_the_same(here, tiny_base):
    words = ["score", str(tiny_base), "--adapter", str(here / "runs/test/run/adapter"), "--tasks", TASKS]
    command = [sys.executable, str(HOUSE / "sectorlm.py"), *words, "--out", "killed"]
    env = os.environ | {"PYTHONPATH": str(HOUSE), "SECTORLM_CRASH_AT": "evaluate.before_record:2"}
    assert subprocess.run(command, env=env, capture_output=True, check=False).returncode == 137
    assert sorted(path.name for path in Path("killed").glob("*/scorecard.json")) == ["scorecard.json"]
    assert sectorlm(*words, "--out", "killed").code == 0
    assert sectorlm(*words, "--out", "whole").code == 0
    for name in (tiny_base.name, f"{tiny_base.name}+test"):
        assert Path("killed", name, "answers.jsonl").read_bytes() == Path("whole", name, "answers.jsonl").read_bytes()


def test_a_run_folder_is_its_base_with_its_adapter(tiny_base, finished, monkeypatch):
    monkeypatch.chdir(finished)
    run = Run.read(finished / "runs/story/run/run.json")
    [one] = given(["runs/story"], [], (finished, HOUSE))
    [pair] = given([f"{tiny_base}+runs/story/run/adapter"], [], (finished, HOUSE))
    assert isinstance(one, Given)
    assert (one.name, pair.name) == ("story", f"{tiny_base.name}+story")
    assert one.digest == pair.digest
    card = Scorecard.read(finished / "runs/story/scorecards/tuned/scorecard.json")
    assert one.digest == card.model_digest
    assert run.weights == "adapter"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["BASE", "--tasks", ""], 2, "no task to score on"),
        (["BASE", "--tasks", "mods"], 2, "no such task"),
        (["BASE", "BASE", "--tasks", "moods.yaml"], 2, "two models would have the scorecard"),
        (
            ["BASE", "other-name", "--adapter", "runs/test/run/adapter", "--tasks", "moods.yaml"],
            2,
            "--adapter goes with one model",
        ),
        (["runs/test/run/adapter", "--tasks", "moods.yaml"], 3, "an adapter alone answers nothing"),
        (["nowhere", "--tasks", "moods.yaml"], 3, "no such base model"),
        (["BASE+nowhere", "--tasks", "moods.yaml"], 3, "no such adapter"),
        (["BASE", "--adapter", "nowhere", "--tasks", "moods.yaml"], 3, "no such adapter"),
        (["BASE+pickled", "--tasks", "moods.yaml"], 6, "no adapter_model.safetensors"),
        (["BASE", "--tasks", "moods.yaml", "--engine", "fast"], 2, "no engine 'fast'. Known: here, vllm"),
        (["BASE", "--tasks", "moods.yaml", "--engine", "vllm"], 5, "pip install -e '.[vllm]'"),
        (["http://", "--tasks", "moods.yaml"], 2, "no host in this URL"),
        (["http://me:secret@host/v1#m", "--tasks", "moods.yaml"], 2, "SECTORLM_API_KEY"),
    ],
    ids=lambda it: it if isinstance(it, str) else None,
)
def test_what_cannot_be_scored_is_refused_with_a_remedy(words, code, told, tiny_base):
    Path("pickled").mkdir(exist_ok=True)
    done = sectorlm("score", *[word.replace("BASE", str(tiny_base)) for word in words], "--out", "refused")
    assert done.code == code, done.err
    assert told in done.err.replace("\n  ", ". ").replace("..", ".")
    assert "secret" not in done.err


def test_an_adapter_of_another_base_is_refused(here, tiny_base):
    other = here / "changed"
    shutil.copytree(tiny_base, other, dirs_exist_ok=True)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    told = sectorlm("score", f"{other}+{here / 'runs/test/run/adapter'}", "--tasks", "moods.yaml", "--out", "refused")
    assert told.code == 3
    assert "whose weights are not those of" in told.err


def test_an_adapter_whose_base_has_another_tokenizer_now_is_refused(tiny_base, finished, tmp_path):
    """The weights are the same, two tokens of the vocabulary have changed places: every prompt would be other words."""
    other = tmp_path / "other"
    shutil.copytree(tiny_base, other)
    tokenizer = json.loads((other / "tokenizer.json").read_text("utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    one, two = list(vocabulary)[-2:]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    adapter = finished / "runs/story/run/adapter"
    told = sectorlm("score", f"{other}+{adapter}", "--tasks", "finance_topics", "--out", "refused")
    assert told.code == 3
    assert "another tokenizer than that of" in told.err


@pytest.mark.parametrize(
    ("config", "rank"),
    [({"r": 4}, 8), ({"r": 16}, 16), ({"r": 16, "rank_pattern": {"q_proj": 40}}, 64), ({"r": 1}, 1)],
)
def test_vllm_is_asked_for_the_next_rank_that_it_knows(config, rank, tmp_path):
    from eval.vllm import lora_rank

    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert lora_rank(tmp_path) == rank


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"r": 8, "use_dora": True}, "DoRA"),
        ({"r": 8, "modules_to_save": ["embed_tokens"]}, "modules_to_save"),
        ({"r": 8, "trainable_token_indices": {"embed_tokens": [1]}}, "trainable_token_indices"),
        ({"r": 1024}, "rank 1024, at most 512"),
        ({}, "not the config of a LoRA adapter"),
    ],
)
def test_an_adapter_that_vllm_does_not_serve_is_refused_before_it_is_loaded(config, told, tmp_path):
    from configs.errors import DataError
    from eval.vllm import lora_rank

    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=told):
        lora_rank(tmp_path)


def test_three_scorecards_are_two_comparisons_with_the_first_and_holm_counts_the_tasks_of_both(here, tiny_base):
    """Two sector tasks and two models are four tests: each p is multiplied as in one family of four."""
    from eval.compare import compare_several
    from eval.stats import holm

    (here / "second").mkdir(exist_ok=True)
    made(here / "second", tiny_base)
    train_nothing(RunFolder(here / "second/runs/test"), tiny_base, seed=5)
    pair = f"{tiny_base}+{here / 'second/runs/test/run/adapter'}"
    adapter = here / "runs/test/run/adapter"
    assert sectorlm("score", tiny_base, "--adapter", adapter, "--tasks", TASKS, "--out", "a").code == 0
    assert sectorlm("score", pair, "--tasks", TASKS, "--out", "e").code == 0
    names = ["a/" + tiny_base.name, f"a/{tiny_base.name}+test", f"e/{tiny_base.name}+test"]
    found = compare_several(Path(names[0]), [Path(name) for name in names[1:]])
    rows = [row for one in found for row in one.differences]
    assert len(rows) == 4
    assert [row.p_holm for row in rows] == holm([row.p for row in rows])
    told = sectorlm("--json", "compare", *names)
    assert told.code == 0, told.err
    assert [it["model"] for it in json.loads(told.out)] == names[1:]
    shown = sectorlm("compare", *names).out
    assert f"{tiny_base.name}+test (tuned) against {tiny_base.name} (base)" in shown.replace("\n", " ")
