"""The papers of a release: each valid by its own validator, each figure that of a record, nothing invented."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.records import Comparison, Corpus, Run, Scorecard
from configs.store import RunFolder
from training.footprint import footprint
from training.papers import BILL, CROISSANT, SUMMARY, write_papers

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def job(finished: Path) -> Job:
    recipe = load_recipe(finished / "story.yaml")
    return Job(recipe, roots_of(recipe, finished / "story.yaml"), RunFolder(finished / "runs" / "story"))


@pytest.fixture(scope="module")
def records(job: Job) -> tuple[Corpus, Run, Comparison]:
    folder = job.folder
    corpus = Corpus.read(folder.corpus / "corpus.json")
    # What a source may hold, so that no validator sees only empty fields.
    told = {"personal": {"email": 3}, "languages": {"en": 5}, "time": "1996/2024", "origin": "a bank, in its archive"}
    first = corpus.sources[0].model_copy(update=told)
    corpus = corpus.model_copy(update={"sources": (first, *corpus.sources[1:])})
    return corpus, Run.read(folder.run / "run.json"), Comparison.read(folder.report / "comparison.json")


@pytest.fixture(scope="module")
def papers(job: Job, records: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("papers")
    write_papers(folder, job, *records)
    return folder


def test_croissant_is_valid_by_mlcroissant_and_names_every_file_of_the_corpus_by_hash(
    papers: Path, records: Any
) -> None:
    croissant = pytest.importorskip("mlcroissant")
    found = croissant.Dataset(jsonld=json.loads((papers / CROISSANT).read_text("utf-8")))
    assert not found.metadata.ctx.issues.errors
    assert {it.name: it.sha256 for it in found.metadata.distribution} == records[0].files
    assert len(found.metadata.record_sets[0].fields) == 11


def test_the_columns_that_croissant_tells_are_those_of_the_list_of_documents(papers: Path, job: Job) -> None:
    from pyarrow.parquet import read_schema

    fields = json.loads((papers / CROISSANT).read_text("utf-8"))["recordSet"][0]["field"]
    told = [field["source"]["extract"]["column"] for field in fields]
    assert told == read_schema(job.folder.corpus / "documents.parquet").names


def test_the_bill_of_materials_is_valid_by_the_strict_schema_of_cyclonedx_1_6(papers: Path, records: Any) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    text = (papers / BILL).read_text("utf-8")
    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    corpus, run, comparison = records
    assert bill["metadata"]["component"]["hashes"][0]["content"] == run.weights_digest
    assert sum(it["type"] == "data" for it in bill["components"]) == len(corpus.sources)
    metrics = bill["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert len(metrics) == len(comparison.differences) + len(comparison.general)


def test_the_public_summary_has_every_section_of_the_template_and_marks_what_only_a_person_knows(papers: Path) -> None:
    text = (papers / SUMMARY).read_text("utf-8")
    sections = [line.split()[1] for line in text.splitlines() if line.startswith(("## ", "### "))]
    assert sections == ["1.", "2.", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "3.", "3.1", "3.2", "3.3"]
    assert "Personal data met: email 3" in text and "| Provider | _To be stated by the provider._ |" in text
    assert "less than 1 billion tokens" in text


def test_two_hours_on_four_cards_of_700_watts_are_8_7_kilowatt_hours(records: Any, job: Job) -> None:
    """2 h x 4 x 0.7 kW = 5.6 kWh; times 1.56 for the data centre 8.736; at 500 g per kWh 4.368 kg."""
    run = records[1].model_copy(update={"seconds_training": 7200.0, "processes": 4, "device": "NVIDIA H100 80GB HBM3"})
    drawn = footprint(run, job.recipe.publish.model_copy(update={"grid": 500.0}))
    assert (round(drawn.kilowatt_hours, 3), round(drawn.kilograms, 3)) == (8.736, 4.368)
    named = footprint(run, job.recipe.publish.model_copy(update={"watts": 350.0}))
    assert round(named.kilowatt_hours, 3) == 4.368 and "as the recipe says" in named.sentence()


def test_no_paper_names_a_folder_of_this_machine(papers: Path, job: Job) -> None:
    for path in papers.iterdir():
        assert str(job.folder.root.parent) not in path.read_text("utf-8"), path.name


def test_a_score_on_a_data_set_of_the_hub_is_told_in_the_hubs_own_form_too(
    job: Job, records: Any, papers: Path, tmp_path: Path
) -> None:
    """The story's own tasks lie on disk; were its first one `medmcqa`, the hub would show it on that data set's board."""
    assert not (papers / ".eval_results").exists()
    root = shutil.copytree(job.folder.root, tmp_path / "story")
    card = Scorecard.read(root / "scorecards" / "tuned" / "scorecard.json")
    first = card.scores[0].model_copy(update={"task": "medmcqa", "value": 0.25, "metrics": {"acc": 0.25}})
    card.model_copy(update={"scores": (first,)}).write(root / "scorecards" / "tuned" / "scorecard.json")
    write_papers(tmp_path / "release", Job(job.recipe, job.roots, RunFolder(root)), *records)
    [entry] = yaml.safe_load((tmp_path / "release" / ".eval_results" / "medmcqa.yaml").read_text("utf-8"))
    assert entry["dataset"]["id"] == "openlifescienceai/medmcqa" and entry["value"] == 0.25
    assert "95 % interval" in entry["notes"] and "n 24" in entry["notes"]
