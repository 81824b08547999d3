"""Scorecards in the forms of others, each read back by its own reader."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
import yaml

from configs.errors import DataError, RecipeError
from configs.records import Scorecard
from configs.results import hub_entries, model_index, results_of
from configs.scores import Score
from configs.store import HOUSE
from eval.answers import read_answers
from eval.compare import compare
from eval.evaluate import evaluate
from eval.exports import export
from tests.test_evaluate import made

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def run(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with two scorecards of 24 questions, 24 texts and 24 passages, and their comparison."""
    job = made(tmp_path_factory.mktemp("exports"), tiny_base)
    evaluate(job)
    compare(job)
    return job.folder.root


def values(run: Path, which: str) -> dict[str, float]:
    record = Scorecard.read(run / "scorecards" / which / "scorecard.json")
    return {score.task: score.value for score in record.scores}


def test_lm_evals_own_reader_prints_our_results(run: Path, tmp_path: Path) -> None:
    """Its table has a row for each metric, with our values; its file finders and `datasets` find and read the samples."""
    from datasets import load_dataset
    from lm_eval.utils import (
        get_file_task_name,
        get_latest_filename,
        get_results_filenames,
        get_sample_results_filenames,
        make_table,
    )

    paths = [str(path) for path in export([run], "lm-eval", tmp_path)]
    ours = [path for path in paths if "/test-tuned/" in path]
    results = get_latest_filename(get_results_filenames(ours))
    found = json.loads((tmp_path / results).read_text("utf-8"))
    table = make_table(found)
    cells = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    [row] = [row for row in cells if row[1:2] == ["moods"]]
    assert row[5:8] == ["acc", "↑", f"{values(run, 'tuned')['moods']:.4f}"]
    assert found["results"]["moods"]["acc,none"] == values(run, "tuned")["moods"]
    assert found["results"]["passages"]["bits_per_byte,none"] == values(run, "tuned")["passages"]
    samples = get_sample_results_filenames(ours)
    assert sorted(get_file_task_name(path.rpartition("/")[2]) for path in samples) == ["moods", "passages", "written"]
    path = next(path for path in samples if "moods" in path)
    rows = load_dataset("json", data_files=path, split="train", cache_dir=str(tmp_path / "cache"))
    lines = read_answers(run / "scorecards" / "tuned" / "answers.jsonl")["moods"]
    assert [float(row["resps"][1][0][0]) for row in rows] == [line["loglikelihoods"][1] for line in lines]
    assert sum(row["acc"] for row in rows) / 24 == values(run, "tuned")["moods"]


def test_a_standard_error_is_that_of_the_items(run: Path, tmp_path: Path) -> None:
    """12 of 24 right: the square root of 0.5 * 0.5 / 23 is 0.1043, as lm-eval's own mean_stderr says."""
    from lm_eval.api.metrics import mean_stderr

    [path] = [path for path in export([run / "scorecards" / "base"], "lm-eval", tmp_path) if "results_" in path.name]
    lines = read_answers(run / "scorecards" / "base" / "answers.jsonl")["moods"]
    right = [float(line["answer"] == line["target"]) for line in lines]
    stated = json.loads(path.read_text("utf-8"))["results"]["moods"]["acc_stderr,none"]
    assert stated == pytest.approx(mean_stderr(right))


def test_the_hub_reads_our_model_index_and_its_values(run: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard_data import model_index_to_eval_results

    export([run], "model-index", tmp_path)
    text = (tmp_path / "test-tuned" / "model-index.yaml").read_text("utf-8")
    name, results = model_index_to_eval_results(yaml.safe_load(text)["model-index"])
    assert name == "test-tuned"
    assert {
        it.dataset_type: it.metric_value for it in results if it.metric_type in ("acc", "exact_match", "bits_per_byte")
    } == {task: round(value, 4) for task, value in values(run, "tuned").items()}
    card = ModelCard(f"---\n{text}---\n# A model\n")
    assert card.data.eval_results is not None
    assert len(card.data.eval_results) == len(results) == 4
    [told] = [it.metric_name for it in results if it.metric_type == "acc"]
    assert told.startswith("acc (95 % interval 0.")
    assert f"base {values(run, 'base')['moods']:.4f})" in told


SCORE = Score(
    task="pubmedqa", metric="acc", value=0.512, low=0.47, high=0.56, n=500, clusters=500, metrics={"macro_f1": 0.3}
)


def test_a_result_on_a_hub_data_set_goes_to_eval_results(tmp_path: Path) -> None:
    """One entry for each task, its first metric; tasks whose data set is on no hub have none."""
    from huggingface_hub import eval_result_entries_to_yaml, parse_eval_result_entries

    task = (HOUSE / "configs" / "tasks" / "finance_text.yaml").read_text("utf-8")
    task = task.replace("finance_text", "pubmedqa").replace("dataset_path: json", "dataset_path: org/pubmedqa")
    lines = [line for line in task.splitlines() if "data_files" not in line]
    (tmp_path / "pubmedqa.yaml").write_text(
        "\n".join([*lines, "revision: 5503434ddd753f426f4b38109466949a1217c2bb"]), "utf-8"
    )
    results = results_of([SCORE, SCORE.model_copy(update={"task": "mine"})], (tmp_path, HOUSE))
    found = hub_entries(results, "2026-11-26T10:00:00Z", "SectorLM")
    assert list(found) == ["pubmedqa"]
    [entry] = parse_eval_result_entries(yaml.safe_load(yaml.safe_dump(eval_result_entries_to_yaml(found["pubmedqa"]))))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("org/pubmedqa", "default", 0.512)
    assert entry.dataset_revision == "5503434ddd753f426f4b38109466949a1217c2bb"
    assert entry.notes == "acc (95 % interval 0.4700 to 0.5600, n 500); SectorLM"
    assert [it.metric_type for it in model_index(results)] == ["acc", "macro_f1", "acc", "macro_f1"]


def test_csv_and_parquet_hold_a_row_for_each_item_and_model(run: Path, tmp_path: Path) -> None:
    """2 models x 72 items; both forms say the same, and items of one digest stand beside one another."""
    assert [path.name for path in export([run], "csv", tmp_path)] == ["items.csv", "scores.csv", "differences.csv"]
    export([run], "parquet", tmp_path)
    with (tmp_path / "items.csv").open(encoding="utf-8", newline="") as file:
        plain = list(csv.DictReader(file))
    typed: list[dict[str, Any]] = pq.read_table(tmp_path / "items.parquet").to_pylist()
    assert len(plain) == len(typed) == 144
    assert [row["answer"] for row in plain] == [row["answer"] or "" for row in typed]
    assert json.loads(plain[0]["choices"]) == typed[0]["choices"] == ["good", "quite bad"]
    assert [row["item"] for row in typed[:72]] == [row["item"] for row in typed[72:]]
    scores = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert {
        row["task"]: row["value"] for row in scores if row["model"] == "test-base" and row["low"] is not None
    } == values(run, "base")
    differences = pq.read_table(tmp_path / "differences.parquet").to_pylist()
    assert [row["task"] for row in differences] == ["moods", "written", "passages"]
    assert differences[0]["difference"] == pytest.approx(values(run, "tuned")["moods"] - values(run, "base")["moods"])
    assert differences[0]["ece_tuned"] > 0
    assert differences[1]["ece_tuned"] is None


def test_what_cannot_be_exported_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such form: excel"):
        export([run], "excel", tmp_path)
    with pytest.raises(DataError, match="there is no scorecard"):
        export([tmp_path], "csv", tmp_path / "out")
    answers = run / "scorecards" / "tuned" / "answers.jsonl"
    whole = answers.read_bytes()
    answers.write_bytes(whole.replace(b'"answer": "good"', b'"answer": "bad!"'))
    try:
        with pytest.raises(DataError, match="bytes differ"):
            export([run], "csv", tmp_path / "out")
    finally:
        answers.write_bytes(whole)
