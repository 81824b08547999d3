"""The bill of materials of a release: the model, its base, its data and the packages that made it, as CycloneDX.

Format: CycloneDX 1.6 (ECMA-424), components of type `machine-learning-model` with a model card, and `data`. Its validator is
the JSON schema in `cyclonedx-python-lib[json-validation]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from configs.base import public_name
from configs.licences import licence_kind, spdx_id

if TYPE_CHECKING:
    from configs.job import Job
    from configs.records import Comparison, Corpus, Difference, Run, SourceLedger
    from training.footprint import Footprint


def bill_of_materials(job: Job, corpus: Corpus, run: Run, comparison: Comparison, drawn: Footprint) -> dict[str, Any]:
    """The bill as a JSON object; the same release gives the same serial number."""
    model = _model(job, corpus, run, comparison, drawn)
    base = {
        "type": "machine-learning-model",
        "bom-ref": "base",
        "name": public_name(run.base),
        "hashes": [{"alg": "SHA-256", "content": run.base_digest}],
    }
    data = [_data(source) for source in corpus.sources]
    packages = [
        {
            "type": "library",
            "bom-ref": f"package-{name}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
        }
        for name, version in sorted((name, version.replace("+", "%2B")) for name, version in run.made.packages.items())
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, f'sectorlm:{run.weights_digest}')}",
        "version": 1,
        "metadata": {
            "timestamp": run.made.finished,
            "tools": {"components": [{"type": "application", "name": "SectorLM", "version": run.made.sectorlm}]},
            "component": model,
        },
        "components": [base, *data, *packages],
        "dependencies": [
            {"ref": "model", "dependsOn": ["base", *(it["bom-ref"] for it in (*data, *packages))]},
            *({"ref": it["bom-ref"]} for it in (base, *data, *packages)),
        ],
    }


def _model(job: Job, corpus: Corpus, run: Run, comparison: Comparison, drawn: Footprint) -> dict[str, Any]:
    rows = (*comparison.differences, *comparison.general)
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": run.name,
        "version": run.weights_digest[:12],
        "hashes": [{"alg": "SHA-256", "content": run.weights_digest}],
        "licenses": [_licence(job.recipe.publish.licence)],
        "modelCard": {
            "modelParameters": {
                "approach": {
                    "type": "supervised" if corpus.supervised_train < corpus.tokens_train else "self-supervised"
                },
                "task": "text-generation",
                "architectureFamily": "transformer",
                "datasets": [{"ref": f"data-{source.name}"} for source in corpus.sources],
                "inputs": [{"format": "text"}],
                "outputs": [{"format": "text"}],
            },
            "quantitativeAnalysis": {"performanceMetrics": [_metric(row) for row in rows]},
            "considerations": {
                "environmentalConsiderations": {
                    "energyConsumptions": [
                        {
                            "activity": "training",
                            "energyProviders": [
                                {
                                    "energySource": "unknown",
                                    "energyProvided": {"value": round(drawn.kilowatt_hours, 6), "unit": "kWh"},
                                    "organization": {"name": "not stated"},
                                }
                            ],
                            "activityEnergyCost": {"value": round(drawn.kilowatt_hours, 6), "unit": "kWh"},
                            "co2CostEquivalent": {"value": round(drawn.kilograms / 1000, 9), "unit": "tCO2eq"},
                        }
                    ]
                }
            },
        },
    }


def _metric(row: Difference) -> dict[str, Any]:
    """A score of the tuned model, and the interval of its difference from the base."""
    return {
        "type": row.metric,
        "value": f"{row.tuned:.4f}",
        "slice": f"{row.task}, tuned, n {row.n}; the interval is that of tuned minus base ({row.base:.4f})",
        "confidenceInterval": {"lowerBound": f"{row.low:.4f}", "upperBound": f"{row.high:.4f}"},
    }


def _data(source: SourceLedger) -> dict[str, Any]:
    told = f"{source.documents} documents, {source.tokens} tokens; licence {source.licence} ({licence_kind(source.licence)})"
    sensitive = [f"{kind}: {count}" for kind, count in sorted(source.personal.items())]
    contents: dict[str, Any] = {
        "type": "dataset",
        "name": source.name,
        "classification": source.grade,
        "description": told,
        **({"sensitiveData": sensitive} if sensitive else {}),
    }
    return {
        "type": "data",
        "bom-ref": f"data-{source.name}",
        "name": source.name,
        "description": source.origin or "origin not stated",
        "licenses": [_licence(source.licence)],
        "data": [contents],
    }


def _licence(name: str) -> dict[str, Any]:
    """A licence by its identifier, where SPDX has one, else by its name."""
    known = spdx_id(name)
    return {"license": {"id": known} if known else {"name": name}}
