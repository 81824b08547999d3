"""The papers of a release beside its card: dataset metadata, bill of materials, the public summary of training content."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from configs.store import write_atomic
from training.bom import bill_of_materials
from training.croissant import croissant
from training.footprint import footprint
from training.public_summary import public_summary

if TYPE_CHECKING:
    from pathlib import Path

    from configs.job import Job
    from configs.records import Comparison, Corpus, Run

CROISSANT, BILL, SUMMARY = "croissant.json", "bom.cdx.json", "training-content.md"
"""Their names in a release: Croissant, CycloneDX (the ending that its tools look for), the EU AI Act's summary."""


def write_papers(folder: Path, job: Job, corpus: Corpus, run: Run, comparison: Comparison) -> None:
    """Write the papers of a release into `folder`, every figure from a record.

    Raises:
        StorageError: the disk is full, read-only or not there.
    """
    drawn = footprint(run, job.recipe.publish)
    write_atomic(folder / CROISSANT, _text(croissant(job, corpus)))
    write_atomic(folder / BILL, _text(bill_of_materials(job, corpus, run, comparison, drawn)))
    write_atomic(folder / SUMMARY, public_summary(job, corpus, run))


def _text(tree: dict[str, Any]) -> str:
    return json.dumps(tree, indent=1, ensure_ascii=False) + "\n"
