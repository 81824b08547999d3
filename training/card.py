"""The model card: Hugging Face metadata and a page of prose and tables, every number taken from a record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from configs.base import local_folder, public_name
from configs.datasheet import datasheet, findings
from configs.hub import HUB, hub_path
from configs.memorisation import told
from configs.store import HOUSE
from configs.vocabulary import base_there, rows_of, vocabulary_of
from training.card_zh import chinese_section
from training.footprint import footprint

if TYPE_CHECKING:
    from pathlib import Path

    from huggingface_hub import EvalResult

    from configs.job import Job
    from configs.records import Comparison, Corpus, Difference, Release, Run, SourceLedger
    from configs.tuning import Train


def model_card(job: Job, corpus: Corpus, run: Run, comparison: Comparison, release: Release) -> str:
    """README.md of a release: YAML metadata, then what it is, how to load it, what it can, what made it."""
    from huggingface_hub import ModelCardData

    languages = sorted({language for source in corpus.sources for language in source.language if language != "other"})
    on_hub = local_folder(job.recipe.base, job.roots) is None
    relation = "adapter" if run.weights == "adapter" else "finetune"
    data = ModelCardData(
        model_name=job.recipe.name,
        base_model=job.recipe.base.partition("@")[0] if on_hub else None,
        base_model_relation=relation if on_hub else None,
        library_name="peft" if run.weights == "adapter" else "transformers",
        pipeline_tag="text-generation",
        language=languages or None,
        license=job.recipe.publish.licence,
        datasets=_hub_datasets(job) or None,
        tags=["sectorlm", job.recipe.sector],
        eval_results=_results(comparison),
    )
    pieces = [
        f"---\n{data.to_yaml()}\n---\n",
        _head(job, run),
        *chinese_section(job, corpus, run, comparison, release.accepted),
        _usage(job, run),
        "## Results\n\nTuned minus base, item by item; 95 % intervals.\n\n" + _table(comparison.differences),
        "## General ability\n\nWhat the tuning cost.\n\n" + _table(comparison.general),
        _ledger(corpus, job.folder.corpus),
        _training(job, run),
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


def _results(comparison: Comparison) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=row.task,
            dataset_name=row.task,
            metric_type=row.metric,
            metric_value=round(row.tuned, 4),
            metric_name=f"{row.metric} (base {row.base:.4f}, n {row.n})",
        )
        for row in (*comparison.differences, *comparison.general)
    ]


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


def _training(job: Job, run: Run) -> str:
    train = job.recipe.train
    if weights := run.settings.get("merge.weights"):
        return (
            f"## Training\n\nThe weighted sum of {len(weights)} adapters that were trained at as many sites, each on its own "
            f"data, which is not the data above: weights {', '.join(weights)}, {run.tokens:,} tokens in all. The records "
            f"of the sites are named under Trace. {run.trainable_parameters:,} of {run.total_parameters:,} parameters."
        )
    lines = [
        f"## Training\n\n{run.method}: {_shape(train) if run.method == 'lora' else ''}{run.trainable_parameters:,} of "
        f"{run.total_parameters:,} parameters, {run.steps} steps, {run.tokens:,} tokens, {run.epochs:g} epochs, peak learning "
        f"rate {train.learning_rate:g}, seed {job.recipe.seed}. {run.seconds_training:,.0f} s on {run.made.machine}. "
        f"Loss {run.loss_first:.3f} -> {run.loss_last:.3f}. Steps not applied: {run.skipped_steps}.",
        footprint(run, job.recipe.publish).sentence(),
    ]
    if train.phases:
        lines.append(f"Phases, one after another: {', '.join(phase.objective for phase in train.phases)}.")
    if train.start is not None:
        lines.append("It went on from an earlier adapter, which is named under Trace.")
    if train.max_general_loss_increase is not None:
        early = ", where the run stopped early" if run.stopped_early else ""
        lines.append(
            f"Forgetting budget: the held-out loss of general text may rise by {100 * train.max_general_loss_increase:g} %; "
            f"these are the weights of step {run.best_step}, the best within it{early}."
        )
    return " ".join(lines)


def _shape(train: Train) -> str:
    """Rank, alpha, and what differs from plain LoRA."""
    kinds = {
        "rslora": train.rslora,
        "dora": train.dora,
        "LoRA+": train.lora_plus != 1,
        "4-bit base": train.quantise != "none",
    }
    more = [name for name, there in kinds.items() if there] + ([train.init] if train.init != "zero" else [])
    return f"rank {train.rank}, alpha {train.alpha:g}, {''.join(f'{name}, ' for name in more)}"


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
        "- `recipe.json`, `run.json`: what was asked for, and the record of the run"
    )


def _trace(run: Run, comparison: Comparison) -> str:
    lines = ["## Trace\n", f"- base weights: sha256 {run.base_digest}", f"- weights: sha256 {run.weights_digest}"]
    lines += [
        f"- {label}: sha256 {digest}"
        for label, digest in (*run.inputs.items(), *comparison.inputs.items())
        if not label.startswith("base ")  # named above; its label may hold a path of this machine
    ]
    packages = ", ".join(f"{name} {version}" for name, version in run.made.packages.items())
    return "\n".join([*lines, f"- made with SectorLM {run.made.sectorlm}, Python {run.made.python}, {packages}"])
