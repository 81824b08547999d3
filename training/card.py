"""The model card: Hugging Face metadata and a page of prose and tables, every number taken from a record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from configs.base import local_folder, public_name
from configs.datasheet import datasheet, findings
from configs.hub import HUB, hub_path
from configs.licences import hub_licence
from configs.memorisation import told
from configs.records import Scorecard
from configs.results import model_index
from configs.store import HOUSE
from configs.vocabulary import base_there, rows_of, vocabulary_of
from training.card_zh import chinese_section
from training.papers import tuned_results
from training.told_training import training_told

if TYPE_CHECKING:
    from pathlib import Path

    from configs.job import Job
    from configs.records import Comparison, Corpus, Difference, Release, Run, SourceLedger


def model_card(job: Job, corpus: Corpus, run: Run, comparison: Comparison, release: Release) -> str:
    """README.md of a release: YAML metadata, then what it is, how to load it, what it can, what made it."""
    from huggingface_hub import ModelCardData

    languages = sorted({language for source in corpus.sources for language in source.language if language != "other"})
    on_hub = local_folder(job.recipe.base, job.roots) is None
    relation = "adapter" if run.weights == "adapter" else "finetune"
    tuned = Scorecard.read_if_there(job.folder.scorecards / "tuned" / "scorecard.json")
    licence = hub_licence(job.recipe.publish.licence)
    data = ModelCardData(
        model_name=job.recipe.name,
        base_model=job.recipe.base.partition("@")[0] if on_hub else None,
        base_model_relation=relation if on_hub else None,
        library_name="peft" if run.weights == "adapter" else "transformers",
        pipeline_tag="text-generation",
        language=languages or None,
        license=licence,
        license_name="see-licences" if licence == "other" else None,  # the hub asks for both where its list lacks it
        license_link="LICENCES.md" if licence == "other" else None,
        datasets=_hub_datasets(job) or None,
        tags=["sectorlm", job.recipe.sector],
        eval_results=model_index(tuned_results(job)) or None,
    )
    pieces = [
        f"---\n{data.to_yaml()}\n---\n",
        _head(job, run),
        *chinese_section(job, corpus, run, comparison, release.accepted),
        _usage(job, run),
        "## Results\n\nTuned minus base, item by item; 95 % intervals.\n\n" + _table(comparison.differences),
        *_baselines(tuned),
        _general(comparison),
        _ledger(corpus, job.folder.corpus),
        *training_told(job, run),
        "## Verified\n\n" + "\n".join(f"- {name}: {result}" for name, result in release.checks.items()),
        *_gates(release),
        *_memorised(release),
        _safety(job.recipe.sector),
        _papers(),
        _trace(run, comparison),
    ]
    return "\n\n".join(pieces) + "\n"


def _hub_datasets(job: Job) -> list[str]:
    """Ids of the corpora that come from the hub."""
    paths = [path for it in job.recipe.corpora for path in ([it.path] if isinstance(it.path, str) else it.path)]
    return list(dict.fromkeys(hub_path(path).name for path in paths if path.startswith(HUB)))


def _head(job: Job, run: Run) -> str:
    kind = {
        "lora": "A LoRA adapter for",
        "full": "All weights of",
        "scratch": "Weights trained from scratch in the shape of",
    }
    return (
        f"# {job.recipe.name}\n\n{kind[run.method]} `{public_name(run.base)}`, tuned on the corpora below for the sector "
        f"**{job.recipe.sector.replace('_', ' ')}** with SectorLM. Stated use: {job.recipe.use}."
    )


def _usage(job: Job, run: Run) -> str:
    if run.weights != "adapter":
        code = 'model = AutoModelForCausalLM.from_pretrained("RELEASE")'
    else:
        code = f'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{public_name(run.base)}"), "RELEASE")'
        if rows := rows_of(folder := base_there(job)):
            code = (
                f'model = AutoModelForCausalLM.from_pretrained("{public_name(run.base)}")\n'
                f"model.resize_token_embeddings({vocabulary_of(folder)})  # {len(rows)} tokens of the sector are new; their "
                'rows are in the adapter\nmodel = PeftModel.from_pretrained(model, "RELEASE")'
            )
        if job.recipe.publish.merged:
            code += '\n# or, without peft and without the base:\nmodel = AutoModelForCausalLM.from_pretrained("RELEASE/merged")'
    imports = "from transformers import AutoModelForCausalLM, AutoTokenizer"
    imports = f"from peft import PeftModel\n{imports}" if run.weights == "adapter" else imports
    return f'## Use\n\n```python\n{imports}\n\ntokenizer = AutoTokenizer.from_pretrained("RELEASE")\n{code}\n```'


def _table(rows: tuple[Difference, ...]) -> str:
    lines = [
        "| task | metric | base | tuned | difference | 95 % interval | n | independent | verdict |",
        "|---|---|---:|---:|---:|---|---:|---:|---|",
    ]
    lines += [
        f"| {row.task} | {row.metric} | {row.base:.3f} | {row.tuned:.3f} | {row.difference:+.3f} "
        f"| [{row.low:+.3f}, {row.high:+.3f}] | {row.n} | {row.clusters} | {row.verdict} |"
        for row in rows
    ]
    return "\n".join(lines)


def _baselines(tuned: Scorecard | None) -> list[str]:
    """What needs no language model, on the same items: a tuned model below it is a poor choice for the task."""
    told = [
        f"{score.task} ({score.metric}): {', '.join(f'{name} {value:.3f}' for name, value in score.baselines.items())}"
        for score in (tuned.scores if tuned else ())
        if score.baselines
    ]
    return [f"Plain baselines on the same items: {'; '.join(told)}."] if told else []


def _general(comparison: Comparison) -> str:
    """The general panel, and its verdict where the comparison has one."""
    pieces = ["## General ability", "What the tuning cost.", _table(comparison.general)]
    if comparison.panel is not None:
        reasons = "; ".join(comparison.panel.reasons)
        pieces.append(f"The general panel is {comparison.panel.verdict}{f': {reasons}' if reasons else ''}.")
    return "\n\n".join(pieces)


def _ledger(corpus: Corpus, folder: Path) -> str:
    lines = [
        "## Data\n",
        "| source | licence | origin | rows | refused | dropped | documents | tokens | repeats |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {source.name} | {source.licence} | {source.origin or '-'} | {_rows(source)} | {sum(source.refused.values())} "
        f"| {_reasons(source.dropped)} | {source.documents} | {source.tokens} | {source.repeats:g} |"
        for source in corpus.sources
    ]
    lines += ["", *(f"- **{name}.** {told}" for name, told in datasheet(corpus, folder).items())]
    lines += [f"- **{source.name}.** {_findings(corpus, source)}" for source in corpus.sources]
    return "\n".join(lines)


def _rows(source: SourceLedger) -> str:
    made = sum(source.composed.values())
    return f"{source.rows} and {made} composed" if made else str(source.rows)


def _findings(corpus: Corpus, source: SourceLedger) -> str:
    return " ".join(f"{name}: {told}." for name, told in findings(corpus, source).items())


def _reasons(dropped: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())) or "0"


def _gates(release: Release) -> list[str]:
    """The gates of the recipe; those that were not met come first, each with the reason for which that was accepted."""
    if not release.gates and not release.accepted:
        return []
    lines = ["## Gates\n"]
    lines += [f"- **{gate} was not met:** {it.found}. Accepted: {it.reason}" for gate, it in release.accepted.items()]
    return ["\n".join([*lines, *(f"- {gate}: {found}" for gate, found in release.gates.items())])]


def _memorised(release: Release) -> list[str]:
    if release.memorised is None:
        return []
    return ["## Memorisation\n\n" + "\n".join(f"- {line}" for line in told(release.memorised))]


def _safety(sector: str) -> str:
    path = HOUSE / "configs" / "sectors" / f"{sector}.yaml"
    note = yaml.safe_load(path.read_text("utf-8"))["safety"]
    return f"## Limits\n\n{note['en']}\n\n{note['zh']}"


def _papers() -> str:
    return (
        "## Papers\n\n- `croissant.json`: the corpus, as Croissant metadata\n- `bom.cdx.json`: bill of materials, as CycloneDX\n"
        "- `training-content.md`: public summary of training content (EU AI Act, Article 53(1)(d))\n"
        "- `DATA.md`, `LICENCES.md`: the ledger of the data, and whose terms hold for what\n"
        "- `report.html`: the comparison with its figures; the items of the tasks are not in it, but for a few samples\n"
        "- `recipe.json`, `run.json`: what was asked for, and the record of the run"
    )


def _trace(run: Run, comparison: Comparison) -> str:
    lines = ["## Trace\n", f"- base weights: sha256 {run.base_digest}", f"- weights: sha256 {run.weights_digest}"]
    lines += [
        f"- {label}: sha256 {digest}"
        for label, digest in (run.inputs | comparison.inputs).items()
        if not label.startswith("base ")  # named above; its label may hold a path of this machine
    ]
    packages = ", ".join(f"{name} {version}" for name, version in run.made.packages.items())
    return "\n".join([*lines, f"- made with SectorLM {run.made.sectorlm}, Python {run.made.python}, {packages}"])
