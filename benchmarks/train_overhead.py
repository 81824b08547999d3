"""How much of a step of SectorLM is neither forward, backward, clipping nor the optimiser: guards, budget, log, batches.

    python -m benchmarks.train_overhead RECIPE RUNS [KEY=VALUE ...]

The clock stands at torch's own doors (global hooks on modules and optimisers, `torch.autograd.backward`,
`clip_grad_norm_`), so that it knows nothing of how the loop is written. Counted are the steps after the first one.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ("forward", "backward", "clip", "optimizer")


class Clock:
    """Sums what passes between its outermost start and stop."""

    def __init__(self) -> None:
        self.depth = 0
        self.begin = (0.0, 0.0)
        self.spans: list[tuple[str, float, float, float]] = []
        """Kind, wall second of its end, wall and CPU seconds that it took."""

    def start(self, *_: Any, **__: Any) -> None:
        """Something begins; only the outermost counts."""
        self.depth += 1
        if self.depth == 1:
            self.begin = time.perf_counter(), time.process_time()

    def stop(self, kind: str) -> None:
        """What was begun last is over."""
        self.depth -= 1
        if self.depth == 0:
            wall, cpu = time.perf_counter(), time.process_time()
            self.spans.append((kind, wall, wall - self.begin[0], cpu - self.begin[1]))

    def around(self, kind: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function with the clock at its door."""

        def timed(*args: Any, **named: Any) -> Any:
            self.start()
            try:
                return work(*args, **named)
            finally:
                self.stop(kind)

        return timed


def watch(clock: Clock) -> None:
    """Put the clock at torch's doors; an optimiser's step ends a step of training."""
    import torch
    from torch.nn.modules import module
    from torch.optim import optimizer

    module.register_module_forward_pre_hook(clock.start)
    module.register_module_forward_hook(lambda *_: clock.stop("forward"), always_call=True)
    torch.autograd.backward = clock.around("backward", torch.autograd.backward)
    torch.nn.utils.clip_grad_norm_ = clock.around("clip", torch.nn.utils.clip_grad_norm_)
    optimizer.register_optimizer_step_pre_hook(clock.start)
    optimizer.register_optimizer_step_post_hook(lambda *_: clock.stop("optimizer"))


def main() -> None:
    """Train once, and print one sentence with the shares."""
    from configs.progress import be_quiet
    from configs.stages import open_job, working

    recipe, runs, sets = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    be_quiet()
    clock, begin = Clock(), (time.perf_counter(), time.process_time())
    watch(clock)
    job = open_job(recipe, sets, runs)
    with working(job, "train", recipe, sets):
        from training.train import train

        train(job)
    ends = [wall for kind, wall, _, _ in clock.spans if kind == "optimizer"]
    if len(ends) < 3:
        raise SystemExit(f"{len(ends)} steps: at least three are needed")
    whole = ends[-1] - ends[0]
    spans = [span for span in clock.spans if ends[0] < span[1] <= ends[-1]]
    by_kind = {kind: sum(span[2] for span in spans if span[0] == kind) for kind in KINDS}
    rest = whole - sum(by_kind.values())
    steps = len(ends) - 1
    shares = ", ".join(f"{kind} {100 * spent / whole:.1f} %" for kind, spent in by_kind.items())
    print(
        f"Of our steps {shares}; all else (guards, budget, log, batches) {100 * rest / whole:.2f} %, "
        f"{1000 * rest / steps:.1f} ms of {1000 * whole / steps:,.0f} ms a step, over {steps} steps; "
        f"{ends[0] - begin[0]:.1f} s to the end of the first."
    )


if __name__ == "__main__":
    main()
