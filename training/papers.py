"""The papers of a release beside its card: dataset metadata, bill of materials, the public summary of training content."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from configs.records import Scorecard
from configs.results import hub_entries, results_of
from configs.store import write_atomic
from training.bom import bill_of_materials
from training.croissant import croissant
from training.footprint import footprint
from training.public_summary import public_summary

if TYPE_CHECKING:
    from pathlib import Path

    from configs.job import Job
    from configs.records import Comparison, Corpus, Run
    from configs.results import Result

CROISSANT, BILL, SUMMARY = "croissant.json", "bom.cdx.json", "training-content.md"
"""Their names in a release: Croissant, CycloneDX (the ending that its tools look for), the EU AI Act's summary."""

RESULTS = ".eval_results"
"""Where the hub looks for results (huggingface.co/docs/hub/eval-results)."""


def write_papers(folder: Path, job: Job, corpus: Corpus, run: Run, comparison: Comparison) -> None:
    """Write the papers of a release into `folder`, every figure from a record.

    Raises:
        StorageError: the disk is full, read-only or not there.
    """
    drawn = footprint(run, job.recipe.publish)
    write_atomic(folder / CROISSANT, _text(croissant(job, corpus)))
    write_atomic(folder / BILL, _text(bill_of_materials(job, corpus, run, comparison, drawn)))
    write_atomic(folder / SUMMARY, public_summary(job, corpus, run))
    _write_results(folder, job, comparison)


def tuned_results(job: Job) -> list[Result]:
    """What the tuned model scored, the first metric of each task with its own 95 % interval, and what the base had."""
    tuned, base = (
        Scorecard.read_if_there(job.folder.scorecards / model / "scorecard.json") for model in ("tuned", "base")
    )
    return results_of(tuned.scores if tuned else (), job.roots, base.scores if base else ())


def _write_results(folder: Path, job: Job, comparison: Comparison) -> None:
    """The hub's newer form of results beside the card's model-index: one file for each task whose data set is on the hub."""
    from huggingface_hub import eval_result_entries_to_yaml

    made = comparison.made
    for task, entries in hub_entries(tuned_results(job), made.finished, f"SectorLM {made.sectorlm}").items():
        text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True, width=120)
        write_atomic(folder / RESULTS / f"{task}.yaml", text)


def _text(tree: dict[str, Any]) -> str:
    return json.dumps(tree, indent=1, ensure_ascii=False) + "\n"
