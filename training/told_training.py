"""The course of a run, for the model card: what was asked, how it was trained, what it drew, and its curve as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import yaml

from configs.public import public_value
from training.curves import read_curves
from training.footprint import footprint

if TYPE_CHECKING:
    from configs.job import Job
    from configs.records import Run
    from configs.tuning import Train

ROWS = 12
"""Looks at held-out text that the card shows; of more, about equally many steps apart."""


class _Plain(yaml.SafeDumper):
    """Writes a text of several lines as recipes do, in quotes with its line ends as `\\n`."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\n" in text else None)


_Plain.add_representer(str, _text)


def training_told(job: Job, run: Run) -> list[str]:
    """The sections of the card about training: in a sentence, as a curve, and the recipe that asked for it."""
    return [_training(job, run), *_curve(job, run), _recipe(job)]


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


def _curve(job: Job, run: Run) -> list[str]:
    """Loss over tokens: the moving mean of training, and what was held out, by channel; none of a run that never looked."""
    if not run.curve:
        return []
    curves = read_curves(job.folder.run / "metrics.jsonl")
    steps, means = curves.column("step"), curves.mean("loss")
    names = list(dict.fromkeys(name for look in run.curve for name in look.losses))
    shown = np.unique(np.linspace(0, len(run.curve) - 1, ROWS).round().astype(int))
    lines = [
        f"| step | tokens | training | {' | '.join(f'held out: {name}' for name in names)} |",
        f"|---:|---:|---:|{'---:|' * len(names)}",
    ]
    for look in (run.curve[at] for at in shown):
        own = means[steps == look.step]
        cells = [f"{own[-1]:.3f}" if own.size and np.isfinite(own[-1]) else "-"]
        cells += [f"{look.losses[name]:.3f}" if name in look.losses else "-" for name in names]
        lines.append(f"| {look.step:,} | {look.tokens:,} | {' | '.join(cells)} |")
    told = "Loss in nats per token; of training, the moving mean. `report.html` draws it."
    return [f"### Curve\n\n{told}\n\n" + "\n".join(lines)]


def _recipe(job: Job) -> str:
    """What the recipe states, without what it leaves to the defaults; `recipe.json` has those too."""
    stated = public_value(job.recipe.model_dump(mode="json", exclude_unset=True))
    text = yaml.dump(stated, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    return f"### Recipe\n\n```yaml\n{text}```"
