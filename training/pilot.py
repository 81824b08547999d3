"""A pilot: training on small parts of the rows, to say what the whole run buys before it is paid for.

Every part is a run of its own whose learning rate falls over its own steps, on rows that lie in the larger parts too. The
base's loss, measured before the first step, is where every curve begins. training/power.py has the law and its noise.

    runs/NAME/pilot/pilot.json    every part, the predictions, and how far off they were where the whole run is there
"""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.errors import DataError
from configs.records import Run, flat
from configs.store import hashed, write_atomic
from configs.view import table
from training.advice import FEW_STEPS
from training.batches import Rows
from training.course import Course
from training.members import Member, Outcome, member, outcome, prepared, train_all
from training.power import Prediction, predicted

if TYPE_CHECKING:
    from configs.job import Job
    from configs.records import Corpus
    from training.members import Trained

BESIDE = ("train.part", "train.max_general_loss_increase", "train.validate_every", "train.checkpoint_every")
"""Settings in which the whole run may differ from its pilot and still be what that predicts at its last step."""


class Piloted(NamedTuple):
    """What a pilot says."""

    outcomes: dict[float, list[Outcome]]
    """Part to its runs; of the smallest there is one for each seed."""
    tokens: int
    """Those that the whole run trains on, over all its passes."""
    predictions: dict[str, dict[float, Prediction]]
    """Channel to part to held-out loss."""
    base: dict[str, float]
    hours: tuple[float, float, float]
    """Of the whole run's steps: at the median, the highest and the lowest speed of the parts."""
    measured: dict[str, float]
    """The whole run's own losses at its last step; empty where it was not trained."""
    warnings: list[str]

    def shown(self) -> list[Any]:
        """What a person sees: the table, and what it says in sentences."""
        return [table("pilot", table_rows(self), wide=True), *told(self)]

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {
            "parts": [{"part": part} | one._asdict() for part, runs in self.outcomes.items() for one in runs],
            "tokens": self.tokens,
            "base": self.base,
            "predictions": {
                channel: [{"part": part} | one._asdict() for part, one in found.items()]
                for channel, found in self.predictions.items()
            },
            "hours": dict(zip(("median", "least", "most"), self.hours, strict=True)),
            "measured": self.measured,
            "off_by": {name: self.predictions[name][1.0].value - value for name, value in self.measured.items()},
            "warnings": self.warnings,
        }


def pilot(job: Job, train: Trained) -> Piloted:
    """Train on the parts of `pilot:` and predict the whole; what is finished is kept, what was stopped goes on.

    Raises:
        DataError: nothing of the sector is held out, or a part did not finish.
        SectorLMError: see `train_all`.
    """
    corpus = prepared(job)
    parts = _members(job)
    train_all(job, [one for members in parts.values() for one in members], train)
    found = _predict(job, corpus, {part: [outcome(one) for one in members] for part, members in parts.items()})
    text = json.dumps(found.as_json(), indent=1, ensure_ascii=False) + "\n"
    write_atomic(job.folder.root / "pilot" / "pilot.json", text)
    return found


def _members(job: Job) -> dict[float, list[Member]]:
    """The runs of each part, and those with other seeds on the smallest."""
    wanted, recipe = job.recipe.pilot, job.recipe
    found = {}
    for part in wanted.parts:
        settings = _settings(job, part)
        found[part] = [member(job, "pilot", settings, f"part={part:g}")]
    smallest = wanted.parts[0]
    for number in range(1, wanted.seeds):
        seed = hashed(recipe.seed, "pilot seed", number) % 2**31
        settings = _settings(job, smallest) | {"seed": seed}
        found[smallest].append(member(job, "pilot", settings, f"part={smallest:g},seed={number}"))
    return found


def _settings(job: Job, part: float) -> dict[str, Any]:
    """What a part's recipe differs in: its rows, no budget that would end it early, and as many fewer steps at the most."""
    train = job.recipe.train
    settings: dict[str, Any] = {"train.part": part, "train.max_general_loss_increase": None}
    if train.max_steps is not None:
        settings["train.max_steps"] = max(1, round(part * train.max_steps))
    if any(phase.max_steps is not None for phase in train.phases):
        phases = [phase.model_dump(mode="json") for phase in train.phases]
        for phase in phases:
            phase["max_steps"] = phase["max_steps"] and max(1, round(part * phase["max_steps"]))
        settings["train.phases"] = phases
    return settings


def _predict(job: Job, corpus: Corpus, outcomes: dict[float, list[Outcome]]) -> Piloted:
    every = [one for runs in outcomes.values() for one in runs]
    for one in every:
        if one.state != "finished":
            raise DataError(f"{one.name} is {one.state}: {one.reason or 'no reason is known'}", where="pilot")
    course = Course(job.recipe, corpus, Rows(job.folder.corpus, corpus))
    tokens = sum(
        round(float(it.rows.length[: it.rows.train].mean()) * it.schedule.seen(it.schedule.steps))
        for it in course.stretches
    )
    beyond = [part for part in (0.5, 1.0) if part > max(outcomes)]
    base, predictions = {}, {}
    for channel in ("sector", "general"):
        start = getattr(every[0], f"base_{channel}")
        losses = {part: [getattr(one, channel) for one in runs] for part, runs in outcomes.items()}
        if start is None:
            continue
        points = [(runs[0].tokens, statistics.fmean(losses[part])) for part, runs in outcomes.items()]
        ahead = predicted(start, points, losses[min(outcomes)], [part * tokens for part in beyond], job.recipe.seed)
        base[channel], predictions[channel] = start, dict(zip(beyond, ahead, strict=True))
    speeds = [one.tokens_per_second for one in every]
    hours = [tokens / speed / 3600 for speed in (statistics.median(speeds), max(speeds), min(speeds))]
    return Piloted(
        outcomes=outcomes,
        tokens=tokens,
        predictions=predictions,
        base=base,
        hours=(hours[0], hours[1], hours[2]),
        measured=_measured(job, corpus),
        warnings=_warnings(job, outcomes, predictions, base),
    )


def _measured(job: Job, corpus: Corpus) -> dict[str, float]:
    """The losses of the whole run, if it is there, ran to its end, and is the one that was piloted."""
    run = Run.read_if_there(job.folder.run / "run.json")
    if run is None or run.stopped_early or not run.curve or run.inputs.get("corpus") != corpus.content():
        return {}
    asked = flat(job.recipe.train, "train") | {"seed": job.recipe.seed}
    if any(asked.get(key) != value for key, value in run.settings.items() if key not in BESIDE):
        return {}
    return {name: value for name, value in run.curve[-1].losses.items() if name in ("sector", "general")}


def _warnings(
    job: Job,
    outcomes: dict[float, list[Outcome]],
    predictions: dict[str, dict[float, Prediction]],
    base: dict[str, float],
) -> list[str]:
    """What makes the prediction doubtful, or the whole run."""
    smallest = outcomes[min(outcomes)][0]
    found = []
    if smallest.steps < FEW_STEPS:
        taken = "1 step" if smallest.steps == 1 else f"{smallest.steps} steps"
        found.append(
            f"{smallest.name} has {taken}: losses of fewer than {FEW_STEPS} say little about more data. "
            "Larger parts, or a smaller train.batch_tokens, say more."
        )
    sector = predictions.get("sector", {}).get(1.0)
    last = outcomes[max(outcomes)][0].sector
    if sector is not None and last is not None and sector.high >= last:
        found.append(f"the whole may not be better on the sector than part={max(outcomes):g} is ({last:.3f})")
    limit, general = job.recipe.train.max_general_loss_increase, predictions.get("general", {}).get(1.0)
    if limit is not None and general is not None and general.value / base["general"] - 1 > limit:
        rise = 100 * (general.value / base["general"] - 1)
        found.append(f"general loss is predicted to rise by {rise:.1f} %, beyond the budget of {100 * limit:g} %")
    return found


# ---------------------------------------------------------------- what a person sees


def table_rows(found: Piloted) -> list[dict[str, Any]]:
    """The base, each part, and the predictions, for a terminal."""
    rows = [_row("base", 0, 0, {name: f"{value:.4f}" for name, value in found.base.items()}, "measured")]
    for part, runs in found.outcomes.items():
        for one in runs:
            losses = {name: f"{getattr(one, name):.4f}" for name in found.base}
            told = "measured" if "seed" not in one.settings else "measured, other seed"
            rows.append(_row(f"{100 * part:g} %", one.steps, one.tokens, losses, told))
    for part in found.predictions["sector"]:
        losses = {name: _interval(ahead[part]) for name, ahead in found.predictions.items()}
        rows.append(_row(f"{100 * part:g} %", 0, round(part * found.tokens), losses, "predicted, 90 % interval"))
    if found.measured:
        losses = {name: f"{value:.4f}" for name, value in found.measured.items()}
        rows.append(_row("100 %", 0, found.tokens, losses, "measured"))
    return rows


def _row(part: str, steps: int, tokens: int, losses: dict[str, str], how: str) -> dict[str, Any]:
    row: dict[str, Any] = {"part": part, "steps": steps or "-", "tokens": tokens}
    return row | {f"{name} loss": losses.get(name, "-") for name in ("sector", "general")} | {"": how}


def _interval(one: Prediction) -> str:
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def told(found: Piloted) -> list[str]:
    """What the whole run buys and costs, in sentences."""
    sector, largest = found.predictions["sector"][1.0], max(found.outcomes)
    last = found.outcomes[largest][0].sector or 0.0
    lines = [
        f"The whole run: sector loss {_interval(sector)}, {last - sector.value:+.3f} nats per token better than "
        f"{100 * largest:g} % of the rows, for {_time(found.hours[0])} of steps ({_time(found.hours[1])} to "
        f"{_time(found.hours[2])} at the speeds that the parts had; looks at held-out rows come on top)."
    ]
    if "general" in found.predictions:
        general, start = found.predictions["general"][1.0], found.base["general"]
        low, value, high = (100 * (it / start - 1) for it in (general.low, general.value, general.high))
        lines.append(f"General loss is predicted to move by {value:+.1f} % ({low:+.1f} to {high:+.1f} %).")
    for name, value in found.measured.items():
        one = found.predictions[name][1.0]
        inside = "inside" if one.low <= value <= one.high else "outside"
        lines.append(
            f"The whole run is there: {name} loss {value:.4f}, {inside} the interval; the prediction was off by "
            f"{one.value - value:+.4f}."
        )
    return lines + [f"note: {it}" for it in found.warnings]


def _time(hours: float) -> str:
    """A time in the unit that gives it digits.

    >>> [_time(hours) for hours in (2, 0.5, 0.001)]
    ['2.0 hours', '30.0 minutes', '3.6 seconds']
    """
    if hours >= 1:
        return f"{hours:.1f} hours"
    return f"{60 * hours:.1f} minutes" if hours >= 1 / 60 else f"{3600 * hours:.1f} seconds"
