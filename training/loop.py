"""The loop: one for every method, objective and number of processes.

    rows of a step -> packed micro-batches -> summed loss -> gradient -> judged -> AdamW -> the next step

The step's loss is divided by the weight of the whole global batch (its supervised tokens, or its pairs), so the result
depends neither on the micro-batch size nor on the number of processes. Data order and learning rate are functions of the
step, so a run resumes exactly.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from configs.errors import DivergedError
from configs.progress import say
from configs.store import crash_point
from training import checkpoint
from training.adapters import begun
from training.batches import Rows
from training.budget import Budget
from training.checkpoint import Origin, State
from training.course import Course
from training.gradients import gradients
from training.guard import REWINDS, Guard, release_memory, shown
from training.held_out import look_at
from training.meter import Taken
from training.model import PackedModel, build
from training.optimizer import optimizer_of, set_rate
from training.probes import Probe, probes
from training.resume import newest_good
from training.world import World, shard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from configs.job import Job
    from configs.records import Corpus
    from training.course import At
    from training.guard import Verdict
    from training.meter import Meter


@dataclass
class Loop:
    """Everything that one step of training touches."""

    job: Job
    corpus: Corpus
    origin: Origin
    world: World
    model: PackedModel
    wrapper: Any
    before: dict[str, torch.Tensor]
    """Factors as they began, where they took a part of the base with them."""
    optimizer: torch.optim.Optimizer
    rows: Rows
    course: Course
    budget: Budget
    probes: list[Probe]
    guard: Guard
    state: State

    @classmethod
    def begin(cls, job: Job, corpus: Corpus, origin: Origin, world: World, *, weights_only: bool = False) -> Loop:
        """Build the model, the optimiser and the course, and resume where the newest good checkpoint stands."""
        train = job.recipe.train
        rows = Rows(job.folder.corpus, corpus)
        course, budget = Course(job.recipe, corpus, rows), Budget.of(train, corpus)
        model, wrapper = build(job, world.device)
        before = begun(model.causal, train)
        parted = train.parallel == "fsdp"
        if parted:
            shard(model, world)
        loop = cls(
            job=job,
            corpus=corpus,
            origin=origin,
            world=world,
            model=model,
            wrapper=wrapper,
            before=before,
            optimizer=optimizer_of(model, train, fused=not parted),
            rows=rows,
            course=course,
            budget=budget,
            probes=probes(job),
            guard=Guard(train.on_spike, alone=world.size == 1),
            state=State(),
        )
        loop.restore(weights_only=weights_only)
        return loop

    @property
    def is_parted(self) -> bool:
        """Whether the weights are parted among the processes."""
        return self.job.recipe.train.parallel == "fsdp"

    @property
    def micro_batch_tokens(self) -> int:
        """Tokens of one forward pass: the recipe's, or fewer where memory ran out."""
        asked = self.job.recipe.train.micro_batch_tokens
        return min(asked, self.state.micro_batch_tokens or asked)

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.job.folder.run / "checkpoints"

    def restore(self, *, weights_only: bool = False, steady: bool = False) -> bool:
        """Go to the newest good checkpoint, with `steady` one whose last step was applied; False if there is none."""
        found = None
        if self.world.is_main:
            found = newest_good(self.checkpoints, self.origin, weights_only=weights_only, steady=steady)
        found = self.world.same(found)
        if found is None:
            return False
        self.state, reference = checkpoint.load(found, self.model, self.optimizer, weights_only=weights_only)
        if reference:
            now = self.model.trainable()
            at = self.course.at(min(self.state.step, self.course.steps - 1))
            at.stretch.objective.begin({name: checkpoint.like(it, now[name]) for name, it in reference.items()})
        return True

    # ---------------------------------------------------------------- a step

    def step(self, meter: Meter) -> None:
        """One optimiser step: gradients of every micro-batch of the global batch, judged, clipped, applied."""
        state, started = self.state, time.monotonic()
        at = self.course.at(state.step)
        if at.begins and at.stretch.number:
            self.optimizer.state.clear()  # another objective: old moments would pull the old way,
            state.recent = []  # and its losses are of another size
            meter.event(state.step + 1, "phase", message=f"phase {at.stretch.name} begins")
        if at.begins:
            at.stretch.objective.begin(self.model.trainable())
        mean, tokens = gradients(self, at, meter)
        more = at.stretch.objective.told(self.world)
        norm = self._clipped()
        verdict = self.guard.judge(mean, norm, state)
        rate = self.course.rate(at)
        if self.guard.applies(verdict):
            set_rate(self.optimizer, rate)
            self.optimizer.step()
            state.loss_last = mean
            state.loss_first = mean if state.loss_first is None else state.loss_first
        else:
            state.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)
        crash_point("train.step")
        if self.world.device.type == "cpu":
            release_memory(state.step)
        seconds = time.monotonic() - started
        state.step += 1
        state.tokens += tokens
        state.seconds += seconds
        meter.step(state, at.stretch, Taken(mean, rate, norm, tokens, seconds, more))
        if verdict != "apply":
            self._refused(verdict, at, mean, norm, meter)

    def _clipped(self) -> float:
        """The norm of the gradient, before it is clipped to `train.clip`."""
        norm = torch.nn.utils.clip_grad_norm_(self.model.trainable().values(), self.job.recipe.train.clip)
        gather = getattr(norm, "full_tensor", None)
        return float(gather() if gather is not None else norm)

    # ---------------------------------------------------------------- when a step goes wrong

    def _refused(self, verdict: Verdict, at: At, loss: float, norm: float, meter: Meter) -> None:
        """Tell of a step that was not applied, or of a spike; set the run back after several.

        Raises:
            DivergedError: setting back did not help, or there is nothing to go back to.
        """
        state = self.state
        done = "applied" if self.guard.applies(verdict) else "not applied"
        told = f"loss {loss:.6g}, gradient norm {norm:.6g}: {done} (rows {shown(at.rows)})"
        say(f"  step {state.step}: {'loss spike, ' if verdict == 'spike' else ''}{told}")
        state.spikes += verdict == "spike"
        meter.event(state.step, "spike" if verdict == "spike" else "not finite", rows=at.rows, message=told)
        if verdict != "rewind":
            return
        reached = State(**vars(state))
        if state.rewinds >= REWINDS or not self.restore(steady=True):
            kept = "is kept" if any(self.checkpoints.glob("step-*")) else "would have been kept, and there was none yet"
            raise DivergedError(
                f"{state.in_a_row} steps in a row had no finite loss or gradient (the last was step {state.step}, "
                f"rows {shown(at.rows)})",
                hint="Lower train.learning_rate (as a run of another name: --set name=OTHER), or look at the rows with "
                f"`sectorlm show CORPUS --rows`. The last good checkpoint {kept}.",
            )
        # The weights go back; the data goes on, or the same rows would come again.
        told = f"weights set back to those of step {self.state.step}; the data goes on"
        if self.state.step <= at.stretch.first:
            self.optimizer.state.clear()  # the moments are those of the phase before
        reached.rewinds += 1
        self.state = reached
        say(f"  step {reached.step}: {told}")
        meter.event(reached.step, "rewind", message=told)

    # ---------------------------------------------------------------- between steps

    def look(self, meter: Meter) -> bool:
        """Before the first step, every `validate_every` steps and at the end: held-out loss of each channel and source.

        False when the forgetting budget is spent, and the run ends here.
        """
        state = self.state
        due = state.step % self.job.recipe.train.validate_every == 0 or state.step == self.course.steps
        if due and not (state.curve and state.curve[-1]["step"] == state.step):
            point = look_at(self) | {"step": state.step, "tokens": state.tokens}
            state.curve.append(point)
            if state.step and self.budget.best(state.curve) == state.step:
                point["best"] = True
                checkpoint.save_best(self.checkpoints, self.model, state, writes=self.world.is_main)
            meter.look(point, self.budget, state.curve)
        if self.budget.is_spent(state.curve):
            meter.event(state.step, "early stop", message="the forgetting budget is spent")
            return False
        return True

    def keep(self, *, due: bool = True) -> None:
        """Write a checkpoint every `checkpoint_every` steps, and when any process was asked to stop: all do at the same step.

        In the midst of steps that were not applied none is due: the one before is what the run would be set back to.

        Raises:
            StoppedError: asked to stop; the checkpoint is written.
        """
        state = self.state
        asked = self.world.most(self.guard.asked_by)
        due = due and state.step % self.job.recipe.train.checkpoint_every == 0 and not state.in_a_row
        if due or asked:
            at = self.course.at(min(state.step, self.course.steps - 1))
            checkpoint.save(
                self.checkpoints,
                self.model,
                self.optimizer,
                state,
                self.origin,
                reference=None if at.begins else at.stretch.objective.reference,
                writes=self.world.is_main,
            )
        if asked:
            raise self.guard.stop(state.step, asked)

    def rehearse(self, meter: Meter) -> None:
        """On a GPU, go through the fullest micro-batch of each phase that is left, so that memory fails in minute one and
        not in hour nine.

        Packed rows have no padding, so on a CPU, where memory is counted otherwise, the first step is as full as any.
        """
        if self.world.device.type != "cuda":
            return
        for at in self.fullest():
            gradients(self, at, meter)
            self.optimizer.zero_grad(set_to_none=True)

    def fullest(self) -> Iterator[At]:
        """The first step of each phase that is not over, with the rows that fill a micro-batch of every process most."""
        for stretch in self.course.stretches:
            if self.state.step < stretch.first + stretch.schedule.steps:
                lengths = stretch.rows.length[: stretch.rows.train]
                rows = sorted(range(stretch.rows.train), key=lambda row: -int(lengths[row]))
                count = max(1, self.world.size * self.micro_batch_tokens // int(lengths[rows[0]]))
                yield self.course.at(stretch.first)._replace(rows=rows[:count])
