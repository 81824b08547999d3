"""The worst batch of a corpus on the real device with the real model: what it takes, and how long a run will be.

Memory is that of the micro-batch with the most tokens and, among those, the longest documents. Time is that of micro-batches
as the run will have them, taken from its own schedule at even distances.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from configs.errors import MemoryExhaustedError
from configs.progress import say
from training.batches import Batch, Rows, Schedule
from training.fit import held, status
from training.memory import Living
from training.meter import peak_memory_bytes
from training.model import build
from training.objective import Supervised

if TYPE_CHECKING:
    from configs.job import Job
    from configs.records import Corpus
    from training.course import Course, Stretch
    from training.legs import Leg
    from training.memory import Memory
    from training.model import PackedModel
    from training.objective import Objective

WORST_STEPS = 3
"""Steps over the worst batch: one in which the libraries find their way, and two that are measured."""
SAMPLES = 6
"""Micro-batches of the schedule that are timed."""
CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Probed:
    """What was measured."""

    tensor_bytes: int
    """The most that tensors took at once: as the GPU's allocator counts it, or on a CPU as they were made and freed."""
    process_bytes: int
    """The most that was held at once beyond what there was before the model: on a CPU the growth of the resident set,
    with the holes that the C library keeps."""
    worst_seconds_per_token: float
    seconds_per_token: float
    """Forward and backward of a micro-batch as the schedule has them."""
    optimizer_seconds: float
    """Clipping and the optimiser's step."""
    validation_seconds_per_token: float

    def run_seconds(self, tokens: float, steps: int) -> float:
        """Seconds of the training steps of a run."""
        return tokens * self.seconds_per_token + steps * self.optimizer_seconds


def probe(job: Job, corpus: Corpus, foreseen: tuple[Course, list[Leg]], device: torch.device) -> Probed:
    """Train a few steps on the worst batch and on batches of each phase's schedule; nothing of it is kept.

    Raises:
        MemoryExhaustedError: the worst batch does not fit.
        DataError: the base or the corpus is damaged.
    """
    (course, legs), train = foreseen, job.recipe.train
    stretch, worst = max(zip(course.stretches, (leg.worst for leg in legs), strict=True), key=lambda it: it[1].tokens)
    gc.collect()
    before = held(device)
    model, _ = build(job, device)
    optimizer = torch.optim.AdamW(model.trainable().values(), lr=0.0, fused=True)
    gc.collect()
    peak = Peak(device)
    say(f"probe: {worst.tokens:,} tokens in {worst.documents} documents of up to {worst.longest:,} on {device}")
    bench = Bench(model, optimizer, device, train.clip)
    bench.begin(stretch.objective)
    try:
        batch = stretch.rows.batch(worst.rows).to(device)
        # Two micro-batches a step: the second finds the gradients of the first, as in a run.
        worst_times = [bench.micro_batch(batch) for _ in range(2 * WORST_STEPS + 1) if bench.maybe_step(2)]
        tensors = bench.tensors(batch) if device.type == "cpu" else 0
    except torch.OutOfMemoryError as error:
        raise MemoryExhaustedError(
            f"the worst micro-batch of {worst.tokens:,} tokens does not fit",
            where="train.micro_batch_tokens",
            hint="`sectorlm plan` without --probe says what would.",
        ) from error
    paces = [_pace(bench, it, train.micro_batch_tokens) for it in course.stretches]
    bench.step()
    most = peak.bytes() - before
    rows = Rows(job.folder.corpus, corpus)
    looks = [
        rows.batch(part).to(device) for part in rows.micro_batches(list(rows.validation), train.micro_batch_tokens)
    ]
    looked = [(bench.look(batch), len(batch.tokens_T)) for batch in looks[:3]]
    return Probed(
        tensor_bytes=tensors or most,
        process_bytes=most,
        worst_seconds_per_token=statistics.median(worst_times[2:]) / worst.tokens,
        seconds_per_token=sum(leg.seen * pace for leg, pace in zip(legs, paces, strict=True))
        / sum(leg.seen for leg in legs),
        optimizer_seconds=statistics.median(bench.steps[1:]),
        validation_seconds_per_token=_per_token(looked),
    )


def _pace(bench: Bench, stretch: Stretch, most_tokens: int) -> float:
    """Seconds for a token of a phase, from micro-batches of its schedule."""
    bench.begin(stretch.objective)
    parts = _spread(stretch.rows, stretch.schedule, most_tokens)
    sampled = [stretch.rows.batch(part).to(bench.device) for part in parts]
    return _per_token([(bench.micro_batch(it), len(it.tokens_T)) for it in sampled if bench.maybe_step(2)])


def _per_token(timed: list[tuple[float, int]]) -> float:
    return sum(seconds for seconds, _ in timed) / max(1, sum(tokens for _, tokens in timed))


def _spread(rows: Rows, schedule: Schedule, most_tokens: int) -> list[list[int]]:
    """Micro-batches of steps at even distances over the run."""
    steps = sorted({schedule.steps * index // SAMPLES for index in range(SAMPLES)})
    parts = [part for step in steps for part in rows.micro_batches(schedule.at(step), most_tokens)]
    stride = max(1, len(parts) // SAMPLES)
    return parts[::stride][: 2 * SAMPLES]


@dataclass
class Bench:
    """Does the parts of a training step and times each."""

    model: PackedModel
    optimizer: torch.optim.Optimizer
    device: torch.device
    clip: float

    def __post_init__(self) -> None:
        self.steps: list[float] = []
        self.since = 0
        self.objective: Objective = Supervised()

    def begin(self, objective: Objective) -> None:
        """Go on with another objective, which may keep a copy of the trained weights."""
        objective.begin(self.model.trainable())
        self.objective = objective

    def micro_batch(self, batch: Batch) -> float:
        """Seconds of one micro-batch forward and backward."""
        self.model.train()
        started = self._now()
        loss = self.objective.loss(self.model, batch)
        (loss / max(1, len(batch.target_S))).backward()
        self.since += 1
        return self._now() - started

    def maybe_step(self, every: int) -> bool:
        """Take the optimiser's step after `every` micro-batches; always true, so that it can stand in a comprehension."""
        if self.since >= every:
            self.step()
        return True

    def step(self) -> None:
        """Clip the gradients and let the optimiser move; with a rate of zero, since nothing shall be learnt."""
        started = self._now()
        torch.nn.utils.clip_grad_norm_(self.model.trainable().values(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.since = 0
        self.steps.append(self._now() - started)

    def tensors(self, batch: Batch) -> int:
        """The most bytes of tensors during a micro-batch: what stays, and what is made and freed meanwhile."""
        kept = [value for group in self.optimizer.param_groups for value in group["params"]]
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        gradients = [value.grad for value in kept if value.grad is not None]
        reference = (self.objective.reference or {}).values()
        staying = [*self.model.parameters(), *gradients, *moments, *reference]
        with Living() as living:
            self.micro_batch(batch)
        return int(living.peak + sum(value.numel() * value.element_size() for value in staying))

    def look(self, batch: Batch) -> float:
        """Seconds of one micro-batch forward, as for the held-out loss."""
        self.model.eval()
        started = self._now()
        with torch.inference_mode():
            float(self.model(batch))
        return self._now() - started

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class Peak:
    """The most memory that is held from its making on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with suppress(OSError):
                CLEAR.write_text("5", "ascii")  # sets the peak of the resident set back (proc(5))

    def bytes(self) -> int:
        """Bytes at the fullest moment."""
        if self.device.type == "cpu" and (found := status("VmHWM")) is not None:
            return found
        return peak_memory_bytes()


def compared(
    probed: Probed, memory: Memory, steps: dict[str, Any], foreseen: dict[str, Any], made: tuple[Job, Corpus]
) -> dict[str, Any]:
    """Predicted against measured, and the hours that follow from what was measured."""
    job, corpus = made
    seconds = probed.run_seconds(steps["tokens"], steps["steps"])
    looks = 1 + math.ceil(steps["steps"] / job.recipe.train.validate_every)
    looking = looks * sum(it.tokens_validation for it in corpus.sources) * probed.validation_seconds_per_token
    rows = {
        "tensors, GB": (memory.total / 1e9, probed.tensor_bytes / 1e9),
        "tokens per second": (foreseen["tokens_per_second"], steps["tokens"] / seconds),
        "hours of training": (foreseen["hours"], seconds / 3600),
    }
    return {
        "compared": {name: _row(*pair) for name, pair in rows.items()},
        "process_gb": round(probed.process_bytes / 1e9, 3),
        "worst_batch_tokens_per_second": round(1 / probed.worst_seconds_per_token, 1),
        "optimizer_seconds": round(probed.optimizer_seconds, 4),
        "validation_hours": float(f"{looking / 3600:.4g}"),
        "efficiency": round(foreseen["flops"] / seconds / (foreseen["peak_tflops"] * 1e12), 4),
    }


def _row(predicted: float, measured: float) -> dict[str, float]:
    ratio = round(predicted / measured, 3)
    return {"predicted": float(f"{predicted:.4g}"), "measured": float(f"{measured:.4g}"), "ratio": ratio}
