"""Corpus -> Run: one loop for every method and objective.

    rows of a step -> packed micro-batches -> summed loss over supervised tokens -> gradient -> AdamW -> the next step

The step's loss is divided by the number of supervised tokens of the whole global batch, so the result does not depend on
the micro-batch size. Data order and learning rate are functions of the step, so a run resumes exactly.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator

from configs.base import base_digest, base_folder
from configs.errors import DataError, DivergedError, MemoryExhaustedError
from configs.progress import say, track
from configs.records import Corpus, CurvePoint, Run, flat, made_by, stale
from configs.store import (
    crash_point,
    digest_file,
    digest_folder,
    files_of,
    remove_folder,
    staged,
    verify_files,
)
from training import checkpoint
from training.batches import Rows, Schedule, derived_seed, epochs_of
from training.checkpoint import State
from training.guard import Guard, release_memory
from training.meter import Meter, peak_memory_bytes
from training.model import PackedModel, build, check_fits

if TYPE_CHECKING:
    from configs.job import Job

BETAS = (0.9, 0.95)
"""AdamW's decay rates of language-model training (Brown et al. 2020, appendix B)."""


def train(job: Job) -> Run:
    """Tune the base on the prepared corpus; keep the old run if nothing that matters changed.

    Raises:
        DataError: the corpus or the base is missing or damaged.
        RecipeError: the recipe does not fit the base, or an unfinished run was started from another recipe.
        DivergedError: three steps in a row were not finite.
        MemoryExhaustedError: the micro-batch does not fit.
        StoppedError: Ctrl-C or SIGTERM; a checkpoint was written.
    """
    started = time.monotonic()
    corpus = Corpus.read(job.folder.corpus / "corpus.json")
    settings, inputs = _made_from(job, corpus)
    done = Run.read_if_there(job.folder.run / "run.json")
    if done is not None:
        reasons = stale(done, job.folder.run, settings, inputs)
        if not reasons:
            say("train: unchanged, kept")
            return done
        say(f"train again: {'; '.join(reasons)}")
    verify_files(job.folder.corpus, corpus.files)
    check_fits(job, corpus.sequence_length)
    if done is not None:
        remove_folder(job.folder.run)

    loop = Loop.begin(job, corpus, settings | inputs)
    with loop.guard.watching(), track("train", loop.schedule.steps, "steps") as bar:
        bar.resume(loop.state.step)
        meter = Meter(job.folder.run / "metrics.jsonl", loop.state, bar)
        while loop.state.step < loop.schedule.steps:
            loop.look(meter)
            loop.step(meter)
            loop.keep()
        loop.look(meter)
        if loop.guard.asked_by:  # during that last look
            loop.keep()
    return _finish(job, loop, settings, inputs, started)


def _made_from(job: Job, corpus: Corpus) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings and inputs that decide whether a run must be done again."""
    recipe = job.recipe
    settings = flat(recipe.train, "train") | {"seed": recipe.seed}
    for cadence in ("train.validate_every", "train.checkpoint_every"):  # they change what is seen, not what is learnt
        settings.pop(cadence)
    folder = base_folder(recipe.base, job.roots, weights=recipe.train.method != "scratch")
    inputs = {
        "corpus": corpus.content(),
        f"base {recipe.base}": base_digest(folder),
    }
    return settings, inputs


@dataclass
class Loop:
    """Everything that one step of training touches."""

    job: Job
    corpus: Corpus
    made_from: dict[str, Any]
    accelerator: Accelerator
    model: PackedModel
    wrapper: Any
    optimizer: torch.optim.Optimizer
    rows: Rows
    schedule: Schedule
    guard: Guard
    state: State

    @classmethod
    def begin(cls, job: Job, corpus: Corpus, made_from: dict[str, Any]) -> Loop:
        """Build the model, the optimiser and the schedule, and resume where the newest good checkpoint stands."""
        recipe = job.recipe.train
        accelerator = Accelerator()
        model, wrapper = build(job, accelerator.device)
        decayed = [value for value in model.trainable().values() if value.ndim >= 2]
        plain = [value for value in model.trainable().values() if value.ndim < 2]
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=recipe.learning_rate,
            betas=BETAS,
            fused=True,
        )
        rows = Rows(job.folder.corpus, corpus)
        per_step = max(1, recipe.batch_tokens // corpus.sequence_length)
        schedule = Schedule(rows.train, per_step, epochs_of(recipe, corpus), job.recipe.seed, recipe.max_steps)
        if rows.train == 0:
            raise DataError("the corpus has no training rows", where=str(job.folder.corpus))
        state = checkpoint.load_newest(job.folder.run / "checkpoints", model, optimizer, made_from)
        if state is not None:
            state.segments += 1
            say(f"  resuming at step {state.step} of {schedule.steps}")
        return cls(
            job=job,
            corpus=corpus,
            made_from=made_from,
            accelerator=accelerator,
            model=model,
            wrapper=wrapper,
            optimizer=optimizer,
            rows=rows,
            schedule=schedule,
            guard=Guard(),
            state=state or State(),
        )

    def step(self, meter: Meter) -> None:
        """One optimiser step: gradients of every micro-batch of the global batch, clip, apply."""
        recipe, state = self.job.recipe.train, self.state
        started = time.monotonic()
        self.model.train()
        torch.manual_seed(derived_seed(self.job.recipe.seed, "dropout", state.step))
        rows = self.schedule.at(state.step)
        targets = max(1, self.rows.supervised_targets(rows))
        loss, tokens = 0.0, 0
        for part in self.rows.micro_batches(rows, recipe.micro_batch_tokens):
            batch = self.rows.batch(part).to(self.accelerator.device)
            summed = _within_memory(self.model, batch)
            self.accelerator.backward(summed / targets)
            loss += float(summed.detach())
            tokens += len(batch.tokens_T)
        grad_norm = float(torch.nn.utils.clip_grad_norm_(self.model.trainable().values(), recipe.clip))
        rate = learning_rate(state.step, self.schedule.steps, recipe.learning_rate, recipe.warmup, recipe.final)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        mean = loss / targets
        if self.guard.refuses(mean, grad_norm, state.step + 1, rows):
            state.skipped += 1
        else:
            self.optimizer.step()
            state.loss_last = mean
            state.loss_first = mean if state.loss_first is None else state.loss_first
        self.optimizer.zero_grad(set_to_none=True)
        crash_point("train.step")
        release_memory(state.step)
        seconds = time.monotonic() - started
        state.step += 1
        state.tokens += tokens
        state.seconds += seconds
        figures = {"loss": round(mean, 6), "learning_rate": rate, "grad_norm": round(grad_norm, 6)}
        speed = {"tokens_per_second": round(tokens / seconds, 1), "seconds": round(seconds, 4)}
        meter.write(step=state.step, tokens=state.tokens, **figures, **speed)
        meter.show(loss=f"{mean:.3f}", **{"tokens/s": f"{tokens / seconds:,.0f}"})

    def look(self, meter: Meter) -> None:
        """Before the first step, every `validate_every` steps, and at the end: held-out loss of each channel."""
        state = self.state
        due = state.step % self.job.recipe.train.validate_every == 0 or state.step == self.schedule.steps
        if not due or (state.curve and state.curve[-1]["step"] == state.step):
            return
        losses = {name: self.held_out(rows) for name, rows in self.rows.channels(self.corpus).items()}
        state.curve.append({"step": state.step, "tokens": state.tokens, "losses": losses})
        meter.write(step=state.step, tokens=state.tokens, validation=losses)

    def held_out(self, rows: list[int]) -> float:
        """Mean loss over the supervised tokens of `rows`, in nats per token."""
        self.model.eval()
        total, targets = 0.0, 0
        with torch.inference_mode():
            for part in self.rows.micro_batches(rows, self.job.recipe.train.micro_batch_tokens):
                batch = self.rows.batch(part).to(self.accelerator.device)
                total += float(self.model(batch))
                targets += len(batch.target_S)
        return total / max(targets, 1)

    def keep(self) -> None:
        """Write a checkpoint every `checkpoint_every` steps, and when asked to stop."""
        state = self.state
        if self.guard.asked_by or state.step % self.job.recipe.train.checkpoint_every == 0:
            folder = self.job.folder.run / "checkpoints"
            checkpoint.save(folder, self.model, self.optimizer, state, self.made_from)
        if self.guard.asked_by:
            raise self.guard.stop(state.step)


def _within_memory(model: PackedModel, batch: Any) -> torch.Tensor:
    try:
        loss: torch.Tensor = model(batch)
    except torch.OutOfMemoryError as error:
        raise MemoryExhaustedError(
            f"a micro-batch of {len(batch.tokens_T)} tokens does not fit",
            where="train.micro_batch_tokens",
            hint="Halve train.micro_batch_tokens (same result), shorten prepare.sequence_length, or take a smaller base.",
        ) from error
    return loss


def learning_rate(step: int, steps: int, peak: float, warmup: float, final: float) -> float:
    """Linear warm-up, then a cosine to `final * peak` (Loshchilov and Hutter 2017, SGDR, equation 5, one cycle).

    >>> [round(learning_rate(step, 100, 1.0, 0.1, 0.1), 2) for step in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.55, 0.1]
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return peak * (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))


def _finish(job: Job, loop: Loop, settings: dict[str, Any], inputs: dict[str, str], started: float) -> Run:
    """Save the weights, then the record; drop the checkpoints, which hold the same weights."""
    folder, state = job.folder.run, loop.state
    if state.loss_first is None:
        raise DivergedError(f"not one of {state.step} steps had a finite loss", hint="Lower train.learning_rate.")
    weights = "adapter" if loop.wrapper is not None else "model"
    with staged(folder / weights) as staging:
        if loop.wrapper is not None:
            # all-linear leaves the embeddings alone; PEFT would ask the hub whether they were resized
            loop.wrapper.save_pretrained(staging, safe_serialization=True, save_embedding_layers=False)
            (staging / "README.md").unlink(missing_ok=True)  # PEFT's empty card; the release writes a real one
        else:
            _save_model(job, loop, staging)
    crash_point("train.before_record")
    record = Run(
        name=job.recipe.name,
        settings=settings,
        inputs=inputs,
        files=files_of(folder / weights, prefix=weights) | {"metrics.jsonl": digest_file(folder / "metrics.jsonl")},
        made=made_by("training", started),
        base=job.recipe.base,
        base_digest=inputs[f"base {job.recipe.base}"],
        method=job.recipe.train.method,
        weights=weights,
        weights_digest=digest_folder(folder / weights, ("*.safetensors", "adapter_config.json", "config.json")),
        trainable_parameters=sum(value.numel() for value in loop.model.trainable().values()),
        total_parameters=sum(value.numel() for value in loop.model.parameters()),
        steps=state.step,
        epochs=round(loop.schedule.seen(state.step) / loop.schedule.rows, 4),
        tokens=state.tokens,
        seconds_training=round(state.seconds, 3),
        tokens_per_second=round(state.tokens / max(state.seconds, 1e-9), 1),
        peak_memory_bytes=peak_memory_bytes(loop.accelerator.device),
        loss_first=state.loss_first,
        loss_last=state.loss_last,
        curve=tuple(CurvePoint(**point) for point in state.curve),
        segments=state.segments,
        skipped_steps=state.skipped,
    )
    record.write(folder / "run.json")
    remove_folder(folder / "checkpoints")
    return record


def _save_model(job: Job, loop: Loop, staging: Any) -> None:
    from configs.base import load_tokenizer

    causal = loop.model.causal
    causal.save_pretrained(staging, safe_serialization=True)
    load_tokenizer(base_folder(job.recipe.base, job.roots, weights=False)).save_pretrained(staging)
