"""Corpus -> Run: the stage's page. The loop is in training/loop.py."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from configs.base import base_digest, load_tokenizer, tokenizer_digest
from configs.errors import DataError, DivergedError
from configs.progress import be_quiet, say, track
from configs.records import Corpus, CurvePoint, Run, flat, made_by, packages, stale
from configs.store import crash_point, digest_file, digest_folder, files_of, remove_folder, staged, verify_files
from configs.vocabulary import base_of
from training import checkpoint
from training.adapters import FILES, save_adapter, start_digest, start_folder
from training.checkpoint import Origin
from training.fit import useful_of
from training.loop import Loop
from training.meter import Meter, Silent, peak_memory_bytes
from training.model import check_fits
from training.page import write_page
from training.trackers import Trackers
from training.world import World, gathered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from configs.job import Job
    from configs.progress import Track

SEEN = ("train.validate_every", "train.checkpoint_every", "train.probes", "train.probe_items", "train.trackers")
"""Settings that change what is seen of a run and not what is learnt, unless a budget chooses among what is seen."""
FITTED = ("train.micro_batch_tokens", "train.checkpoint_activations", "train.parallel")
"""Settings that fit a run to a machine: its weights differ by rounding at the most (and by what dropout draws)."""
FREE = SEEN + FITTED
"""Settings that may change at a stop, and that make no finished run anew."""


def train(job: Job, *, weights_only: bool = False) -> Run:
    """Tune the base on the prepared corpus; keep the old run if nothing that matters changed.

    Every process of a run calls it; the main one writes. `weights_only` goes on from a checkpoint that lost its optimiser.

    Raises:
        DataError: the corpus or the base is missing or damaged.
        RecipeError: the recipe does not fit the base, or an unfinished run was started from another recipe.
        DivergedError: steps stayed not finite although the weights were set back.
        GateError: the forgetting budget was never kept.
        MemoryExhaustedError: the smallest micro-batch does not fit.
        StorageError: the disk is full, or the processes do not find, or lose, one another.
        StoppedError: Ctrl-C or SIGTERM; a checkpoint was written.
    """
    started = time.monotonic()
    world = World.here()
    if not world.is_main:
        be_quiet()
    corpus = Corpus.read(job.folder.corpus / "corpus.json")
    origin, inputs = _origin(job, corpus)
    _refuse_other_tokenizer(job, corpus)
    if world.same(_is_kept(job, origin, inputs) if world.is_main else None):
        return Run.read(job.folder.run / "run.json")
    verify_files(job.folder.corpus, corpus.files)
    check_fits(job, corpus.sequence_length)
    with world.together():
        loop = Loop.begin(job, corpus, origin, world, weights_only=weights_only)
        _train(loop)
        crash_point("train.before_save")
        record = _finish(loop, inputs, started)
        if world.is_main:
            record.write(job.folder.run / "run.json")
            remove_folder(loop.checkpoints)
            say(f"  curves: {write_page(job.folder.run, job.recipe.name)}")
        world.wait()
    return record


def _origin(job: Job, corpus: Corpus) -> tuple[Origin, dict[str, str]]:
    """The settings and inputs that decide whether a run must be done again."""
    recipe = job.recipe
    settings = flat(recipe.train, "train") | {"seed": recipe.seed}
    chosen_by_looks = recipe.train.max_general_loss_increase is not None
    free = {key: settings.pop(key) for key in FREE if not (chosen_by_looks and key == "train.validate_every")}
    folder = base_of(job, weights=recipe.train.method != "scratch")
    inputs = {"corpus": corpus.content(), f"base {recipe.base}": base_digest(folder)}
    start = start_folder(job)
    if start is not None:
        inputs["adapter to start from"] = start_digest(start)
    return Origin(settings | inputs, free), inputs


def _refuse_other_tokenizer(job: Job, corpus: Corpus) -> None:
    """Refuse tokens that the base's tokenizer with `train.new_tokens`, or its chat template, would not have made."""
    folder = base_of(job, weights=False)
    now = tokenizer_digest(folder)
    if corpus.tokenizer not in ("", now):
        raise DataError(
            f"the corpus was made with another tokenizer or chat template ({corpus.tokenizer[:12]}, now {now[:12]})",
            where=str(folder),
            hint="Run `sectorlm prepare` again, or bring the tokenizer's files back.",
        )


def _is_kept(job: Job, origin: Origin, inputs: dict[str, str]) -> bool:
    """Whether the run that is there still holds; one that does not is removed."""
    done = Run.read_if_there(job.folder.run / "run.json")
    if done is None:
        return False
    settings = {key: value for key, value in origin.settled.items() if key not in inputs}
    reasons = stale(done, job.folder.run, settings, inputs)
    say(f"train again: {'; '.join(reasons)}" if reasons else "train: unchanged, kept")
    # Checkpoints stay where a stop came between the record and their removal.
    remove_folder(job.folder.run if reasons else job.folder.run / "checkpoints")
    return not reasons


def _train(loop: Loop) -> None:
    """Steps and looks until the course, or the forgetting budget, is at its end."""
    state, steps = loop.state, loop.course.steps
    with loop.guard.watching(), track("train", steps, "steps") as bar, _meter(loop, bar) as meter:
        bar.resume(state.step)
        if state.step:
            state.segments += 1
            say(f"  resuming at step {state.step} of {steps}")
            meter.event(state.step, "resumed", message=f"process {state.segments} of this run")
        state.made.append({"step": state.step, "packages": packages()})
        loop.rehearse(meter)
        while loop.look(meter) and loop.state.step < steps:
            loop.step(meter)
            loop.keep()
        loop.keep(due=False)  # asked to stop during that last look


@contextmanager
def _meter(loop: Loop, bar: Track) -> Iterator[Meter]:
    """The meter of this process; its trackers are told of the end, however it comes."""
    if not loop.world.is_main:
        yield Silent(bar)
        return
    folder, recipe = loop.job.folder.run, loop.job.recipe
    trackers = Trackers(recipe.train.trackers, recipe.name, folder / "trackers", loop.origin.settled)
    try:
        meter = Meter(folder / "metrics.jsonl", recipe.name, loop.state, bar, trackers)
        meter.useful = useful_of(loop.job, loop.corpus, loop.world.device, loop.world.size)
        yield meter
    finally:
        trackers.close()


def _finish(loop: Loop, inputs: dict[str, str], started: float) -> Run:
    """Save the weights, the best within the forgetting budget where there is one, and make the record."""
    job, state, train = loop.job, loop.state, loop.job.recipe.train
    if state.loss_first is None:
        raise DivergedError(f"not one of {state.step} steps had a finite loss", hint="Lower train.learning_rate.")
    loop.budget.refuse(state.curve)
    best = checkpoint.best_of(state)
    if best is not None:
        checkpoint.load_best(loop.checkpoints, loop.model, best)
        say(f"  best sector loss within the forgetting budget: step {best}")
    folder, weights = job.folder.run, "model" if loop.wrapper is None else "adapter"
    _save(loop, folder / weights)
    crash_point("train.before_record")
    loop.world.wait()
    return Run(
        name=job.recipe.name,
        settings={key: value for key, value in loop.origin.settled.items() if key not in inputs},
        inputs=inputs,
        files=files_of(folder / weights, prefix=weights) | {"metrics.jsonl": digest_file(folder / "metrics.jsonl")},
        made=made_by("training", started),
        base=job.recipe.base,
        base_digest=inputs[f"base {job.recipe.base}"],
        method=train.method,
        weights=weights,
        weights_digest=digest_folder(folder / weights, FILES),
        trainable_parameters=sum(value.numel() for value in loop.model.trainable().values()),
        total_parameters=loop.model.size,
        steps=state.step,
        epochs=round(loop.course.passes(state.step), 4),
        tokens=state.tokens,
        seconds_training=round(state.seconds, 3),
        tokens_per_second=round(state.tokens / max(state.seconds, 1e-9), 1),
        peak_memory_bytes=peak_memory_bytes(),
        loss_first=state.loss_first,
        loss_last=state.loss_last,
        curve=tuple(CurvePoint(**{key: it for key, it in point.items() if key != "lost"}) for point in state.curve),
        best_step=best,
        stopped_early=state.step < loop.course.steps,
        segments=state.segments,
        skipped_steps=state.skipped,
        spikes=state.spikes,
        rewinds=state.rewinds,
        processes=loop.world.size,
        device=loop.world.device_name,
        made_in=tuple(state.made),
    )


def _save(loop: Loop, target: Path) -> None:
    """The adapter, or all weights and the tokenizer; parted ones as they are put together, which takes every process."""
    values = gathered(loop.model.trainable(), keep=loop.world.is_main)
    if not loop.world.is_main:
        return
    with staged(target) as staging:
        if loop.wrapper is not None:
            save_adapter(loop.wrapper, values, loop.before, staging)
            return
        parted = loop.job.recipe.train.parallel == "fsdp"
        loop.model.causal.save_pretrained(staging, state_dict=values if parted else None, safe_serialization=True)
        load_tokenizer(base_of(loop.job, weights=False)).save_pretrained(staging)
