"""What a corpus is worth: as many tokens with it as without it, the same questions, kept, resumed, and on its card."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.datasheet import datasheet
from configs.errors import RecipeError
from configs.indicators import indicators_at
from configs.records import Corpus, Run, Scorecard
from configs.stages import open_job
from configs.store import HOUSE, RunFolder
from configs.worth import Valuation
from eval.worth import General, same_tokens
from tests.recipes import lines, prose, sectorlm

TINY = {
    "name": "small",
    "sector": "finance",
    "prepare": {"sequence_length": 64, "validation": 0.1, "form": "plain", "decontaminate": "off"},
    "train": {"rank": 2, "epochs": 0.15, "batch_tokens": 256, "validate_every": 100, "learning_rate": 1e-2},
    "evaluate": {"tasks": ["general_pairs"], "general": ["general_text"], "limit": 8, "resamples": 1000},
    "worth": {"seeds": 2},
}


def write(folder: Path, base: Path, general: int = 6, **more: Any) -> None:
    """r.yaml with 40 texts of the sector and some of general text, each of about 80 words."""
    (folder / "sector.jsonl").write_text(lines([{"body": prose(n)} for n in range(40)]), "utf-8")
    (folder / "general.jsonl").write_text(lines([{"body": prose(1000 + n)} for n in range(general)]), "utf-8")
    shape = {"text": "{{ body }}", "licence": "CC0-1.0"}
    sources = [{"name": "sector", "path": "sector.jsonl", **shape}]
    if general:
        sources.append({"name": "general", "path": "general.jsonl", "channel": "general", "share": 0.05, **shape})
    recipe = TINY | {"base": str(base), "data": [str(base.parent)], "corpora": sources} | more
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")


@pytest.fixture(scope="module")
def valued(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with r.yaml and runs/small, valued over two seeds."""
    folder = tmp_path_factory.mktemp("valued")
    write(folder, tiny_base)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        told = sectorlm("worth", "r.yaml")
    assert told.code == 0, told.err
    (folder / "told.txt").write_text(told.out, "utf-8")
    return folder


def test_both_sides_see_as_many_tokens_the_same_questions_and_start_from_the_same_base(valued):
    folder = valued / "runs/small/worth"
    runs = {name: Run.read(folder / name / "run/run.json") for name in ("with,seed=1", "without,seed=1", "with,seed=2")}
    assert runs["without,seed=1"].tokens == pytest.approx(
        runs["with,seed=1"].tokens, rel=0.15
    )  # within half a step of about 7
    assert runs["with,seed=1"].settings["seed"] != runs["with,seed=2"].settings["seed"]
    assert len({run.base_digest for run in runs.values()}) == 1
    assert len({run.weights_digest for run in runs.values()}) == 3
    cards = [Scorecard.read(folder / name / "scorecards/tuned/scorecard.json") for name in runs]
    assert all(card.settings == cards[0].settings for card in cards)
    assert [score.n for score in cards[0].scores] == [8, 8]
    sources = Corpus.read(folder / "general/corpus/corpus.json").sources
    assert [(it.name, it.channel) for it in sources] == [("general", "general")]


def test_the_record_says_how_much_over_items_and_over_seeds(valued):
    record = Valuation.read(valued / "runs/small/worth/worth.json")
    [pairs], [text] = record.effects, record.general
    assert (pairs.task, pairs.metric, pairs.n) == ("general_pairs", "acc", 8)
    assert pairs.difference == pytest.approx(pairs.with_corpus - pairs.without_corpus)
    assert pairs.with_corpus == pytest.approx(sum(pairs.seeds_with) / 2)
    assert (text.higher_is_better, len(text.seeds_without)) == (False, 2)
    assert text.low <= text.low_items or text.high >= text.high_items  # both together are no narrower
    page = (valued / "runs/small/worth/worth.md").read_text("utf-8")
    assert "| general pairs, accuracy |" in page and "| with,seed=2 |" in page
    assert "over seeds" in (valued / "told.txt").read_text("utf-8")


def test_the_corpus_shows_indicator_0305_afterwards_and_only_this_corpus(valued, tmp_path, monkeypatch):
    [shown] = [it for it in indicators_at(valued / "runs/small/corpus") if it.code == "0305"]
    record = Valuation.read(valued / "runs/small/worth/worth.json")
    assert shown.value == record.effects[0].difference
    assert "general_pairs acc" in shown.how and "2 trainings each" in shown.how
    monkeypatch.chdir(valued)
    assert "0305" in sectorlm("check", "runs/small/corpus").out
    corpus = Corpus.read(valued / "runs/small/corpus/corpus.json")
    assert "general_pairs acc" in datasheet(corpus, valued / "runs/small/corpus")["Worth"]
    assert "Worth" not in datasheet(corpus)
    (tmp_path / "worth").mkdir()
    record.model_copy(update={"corpus": "0" * 64}).write(tmp_path / "worth/worth.json")
    (tmp_path / "corpus").symlink_to(valued / "runs/small/corpus")
    from configs.worth import valuation_beside

    found, why = valuation_beside(Corpus.read(tmp_path / "corpus/corpus.json"), valued / "runs/small/corpus")
    assert (found, why) == (record, "")
    other = Corpus.read(valued / "runs/small/worth/general/corpus/corpus.json")
    assert "another corpus" in valuation_beside(other, valued / "runs/small/corpus")[1]


def test_given_the_corpus_instead_of_its_recipe_nothing_is_done_twice(valued, monkeypatch):
    monkeypatch.chdir(valued)
    before = (valued / "runs/small/worth/worth.json").read_bytes()
    told = sectorlm("worth", "runs/small/corpus")
    assert told.code == 0, told.err
    assert "worth: unchanged, kept" in told.err
    assert "train: " not in told.err.replace("train: unchanged, kept", "")
    assert (valued / "runs/small/worth/worth.json").read_bytes() == before


def test_one_seed_has_no_interval_over_seeds_and_says_so_and_the_runs_own_recipe_stays(valued, tmp_path, monkeypatch):
    shutil.copytree(valued, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    before = Path("runs/small/recipe.yaml").read_bytes()
    told = sectorlm("worth", "runs/small/corpus", "--set", "worth.seeds=1")
    assert told.code == 0, told.err
    record = Valuation.read(Path("runs/small/worth/worth.json"))
    assert (len(record.arms_with), record.effects[0].low_seeds) == (1, None)
    assert any("One seed" in note for note in record.notes)
    assert Path("runs/small/recipe.yaml").read_bytes() == before
    assert "seeds: 1" in Path("runs/small/worth/with,seed=1/recipe.yaml").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("point", ["train.step:5", "evaluate.batch:3", "worth.before_record"])
def test_killed_anywhere_and_run_again_it_says_the_same(point, valued, tiny_base, tmp_path):
    write(tmp_path, tiny_base)
    command = [sys.executable, str(HOUSE / "sectorlm.py"), "worth", "r.yaml"]
    env = os.environ | {"PYTHONPATH": str(HOUSE)}
    killed = subprocess.run(
        command, cwd=tmp_path, env=env | {"SECTORLM_CRASH_AT": point}, capture_output=True, check=False
    )
    assert killed.returncode == 137, killed.stderr.decode()
    assert not (tmp_path / "runs/small/worth/worth.json").exists()
    again = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False)
    assert again.returncode == 0, again.stderr.decode()
    ours, theirs = (json.loads((at / "runs/small/worth/worth.json").read_text()) for at in (tmp_path, valued))
    assert all(ours[key] == theirs[key] for key in ("effects", "general", "arms_with", "arms_without"))


def test_a_recipe_without_general_text_is_refused_with_what_to_add(tiny_base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, tiny_base, general=0)
    told = sectorlm("worth", "r.yaml")
    assert told.code == 2
    assert "no general text to put in the corpus' place" in told.err and "channel: general" in told.err


def test_general_text_that_would_be_read_over_a_hundred_times_is_too_little(valued, monkeypatch):
    monkeypatch.chdir(valued)
    job = open_job(Path("r.yaml"), [], Path("runs"))
    general = General(RunFolder(job.folder.root / "worth/general"), [])
    run = Run.read(job.folder.root / "worth/with,seed=1/run/run.json")
    many = 1000 * Corpus.read(general.folder.corpus / "corpus.json").tokens_train
    with pytest.raises(RecipeError, match="it would be read 1,000 times"):
        same_tokens(job, general, run.model_copy(update={"tokens": many}))


def test_a_corpus_whose_recipe_is_gone_asks_for_the_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lone/corpus").mkdir(parents=True)
    Path("lone/corpus/corpus.json").write_text("{}")
    told = sectorlm("worth", "lone/corpus")
    assert (told.code, "Give the recipe instead" in told.err) == (3, True)
