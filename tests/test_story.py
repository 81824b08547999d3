"""The whole story through the front door: raw text, corpus, tuned model, scorecards, report, release - and back again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from configs.records import Comparison, Corpus, Release, Run, Scorecard
from configs.store import HOUSE, digest_file, verify_files

if TYPE_CHECKING:
    from pathlib import Path


def sectorlm(folder: Path, *words: str, crash: str = "") -> subprocess.CompletedProcess[str]:
    """Run the front door in `folder` as a user would."""
    environment = os.environ | {"PYTHONPATH": str(HOUSE), "SECTORLM_CRASH_AT": crash}
    command = [sys.executable, str(HOUSE / "sectorlm.py"), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_one_command_leaves_five_records_whose_files_have_the_hashes_they_state(finished):
    root = finished / "runs" / "story"
    records = [
        (root / "corpus", Corpus.read(root / "corpus" / "corpus.json")),
        (root / "run", Run.read(root / "run" / "run.json")),
        (root / "scorecards" / "base", Scorecard.read(root / "scorecards" / "base" / "scorecard.json")),
        (root / "scorecards" / "tuned", Scorecard.read(root / "scorecards" / "tuned" / "scorecard.json")),
        (root / "report", Comparison.read(root / "report" / "comparison.json")),
        (root / "release", Release.read(root / "release" / "release.json")),
    ]
    for folder, record in records:
        assert record.files
        verify_files(folder, record.files)


def test_60_of_960_topics_and_all_72_replay_texts_are_in_the_ledger(finished):
    topics, replay = Corpus.read(finished / "runs" / "story" / "corpus" / "corpus.json").sources
    assert (topics.rows, topics.documents, topics.dropped) == (960, 60, {"over max_documents": 900})
    assert (replay.rows, replay.documents, replay.channel) == (72, 72, "general")


def test_the_table_on_stdout_names_both_tasks_with_n_24(finished):
    table = (finished / "stdout.txt").read_text("utf-8")
    assert "finance_topics" in table
    assert "general_text" in table
    comparison = Comparison.read(finished / "runs" / "story" / "report" / "comparison.json")
    assert [row.n for row in (*comparison.differences, *comparison.general)] == [24, 24]


def test_libraries_print_no_bars_and_no_warnings_of_their_own(finished):
    told = (finished / "stderr.txt").read_text("utf-8")
    assert [word for word in ("it/s", "Loading weights", "Writing model", "Warning") if word in told] == []


def test_the_report_is_one_page_that_needs_no_network(finished):
    page = (finished / "runs" / "story" / "report" / "report.html").read_text("utf-8")
    for word in ("finance_topics", "general_text", "topics", "replay", "<svg"):
        assert word in page
    for link in ('src="http', 'href="http', "@import", "url(http"):
        assert link not in page


def test_the_same_command_again_keeps_every_stage_and_every_byte(finished):
    root = finished / "runs" / "story"
    before = {path: digest_file(path) for path in root.rglob("*.json*")}
    again = sectorlm(finished, "run", "story.yaml")
    assert again.returncode == 0
    assert again.stderr.count("unchanged, kept") >= 5
    assert {path: digest_file(path) for path in root.rglob("*.json*")} == before
    assert again.stdout == (finished / "stdout.txt").read_text("utf-8")


@pytest.mark.slow
def test_two_runs_of_one_recipe_give_the_same_weights_answers_and_numbers(finished):
    assert sectorlm(finished, "run", "story.yaml", "--runs", "again").returncode == 0
    for name in ("run/adapter/adapter_model.safetensors", "corpus/tokens.bin", "scorecards/tuned/answers.jsonl"):
        assert digest_file(finished / "runs" / "story" / name) == digest_file(finished / "again" / "story" / name)
    one, two = (
        json.loads((finished / runs / "story" / "report" / "comparison.json").read_text("utf-8"))
        for runs in ("runs", "again")
    )
    assert one["differences"] == two["differences"]
    assert one["general"] == two["general"]


@pytest.mark.slow
def test_killed_in_every_stage_the_same_command_completes_with_the_same_numbers(finished):
    points = ("prepare.tokens", "train.step:3", "evaluate.batch:2", "compare.before_record", "publish.before_record")
    for point in points:
        died = sectorlm(finished, "run", "story.yaml", "--runs", "killed", crash=point)
        assert died.returncode == 137, (point, died.stderr)
        assert "Traceback" not in died.stderr
    assert sectorlm(finished, "run", "story.yaml", "--runs", "killed").returncode == 0
    answers = "scorecards/tuned/answers.jsonl"
    assert digest_file(finished / "killed" / "story" / answers) == digest_file(finished / "runs" / "story" / answers)
    left = [
        path.name
        for path in (finished / "killed" / "story").rglob(".*")
        if path.suffix != ".lock" and path.name != ".lock"
    ]
    assert left == []


def test_trace_leads_from_the_scorecard_back_to_the_source_files(finished):
    shown = sectorlm(finished, "show", "runs/story/scorecards/tuned", "--trace")
    assert shown.returncode == 0, shown.stderr
    assert "assets/samples/finance/topics_train.jsonl" in shown.stdout.replace("\n", "")
