"""GPUs by their public figures, what an hour of each costs by rough public rates, and how much of a peak training reaches.

Peaks are those of dense matrix products with float32 sums, in bfloat16 where a card has it, else in float16: vendors print
twice as much for sparse ones, which training does not use.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    import torch

EFFICIENCY = 0.4
"""Part of a GPU's peak that useful FLOPs of tuning reach, until `--probe` measures it: an assumption. Published LoRA and full
tuning of 7 to 8 billion parameters on an A100 or H100 reports 0.35 to 0.45; far smaller models reach far less."""
CPU_EFFICIENCY = 0.4
"""The same on a CPU, against a matrix product that is measured when the plan is made."""
PRICES_FROM = "2026-11"
"""When the prices below were typical of on-demand offers; they move, so give your own with --price."""


class Gpu(NamedTuple):
    """One card: what it is called, how fast, how large, how much an hour of it costs."""

    title: str
    peak: float
    """Dense FLOP/s in 16 bits."""
    memory: float
    """Bytes."""
    bandwidth: float
    """Bytes per second of its memory."""
    bfloat16: bool
    price: float
    """US dollars per hour: an indication (`PRICES_FROM`), no vendor's quotation."""
    sky: str
    """What SkyPilot calls it."""


def _gpu(title: str, figures: tuple[float, float, float], price: float, sky: str, *, bf16: bool = True) -> Gpu:
    """From figures as data sheets print them: TFLOPS, gigabytes, gigabytes per second."""
    tflops, gigabytes, per_second = figures
    return Gpu(title, tflops * 1e12, gigabytes * 1e9, per_second * 1e9, bf16, price, sky)


GPUS: dict[str, Gpu] = {
    # NVIDIA A100 Tensor Core GPU datasheet (2021): 312 TFLOPS; 1,555 and 2,039 GB/s (SXM)
    "a100-40": _gpu("A100 40 GB", (312, 40, 1555), 1.3, "A100"),
    "a100-80": _gpu("A100 80 GB SXM", (312, 80, 2039), 1.6, "A100-80GB"),
    # NVIDIA H100 Tensor Core GPU datasheet: 1,979 and 1,513 TFLOPS with sparsity (SXM, PCIe)
    "h100": _gpu("H100 80 GB SXM", (989.4, 80, 3350), 2.5, "H100"),
    "h100-pcie": _gpu("H100 80 GB PCIe", (756, 80, 2000), 2.2, "H100"),
    # NVIDIA H200 Tensor Core GPU datasheet: 1,979 TFLOPS with sparsity, 141 GB, 4.8 TB/s
    "h200": _gpu("H200 141 GB SXM", (989.4, 141, 4800), 3.3, "H200"),
    # NVIDIA HGX B200 datasheet: 36 PFLOPS with sparsity and 1.44 TB over eight cards, 8 TB/s each
    "b200": _gpu("B200 180 GB", (2250, 180, 8000), 5.0, "B200"),
    # NVIDIA L4 datasheet: 242 TFLOPS with sparsity
    "l4": _gpu("L4", (121, 24, 300), 0.7, "L4"),
    # NVIDIA L40S datasheet: 362 TFLOPS, 864 GB/s
    "l40s": _gpu("L40S", (362, 48, 864), 1.0, "L40S"),
    # NVIDIA Ada GPU architecture whitepaper, appendix A: 165.2 TFLOPS with float32 sums
    "rtx4090": _gpu("GeForce RTX 4090", (165.2, 24, 1008), 0.4, "RTX4090"),
    # NVIDIA Ampere GA102 whitepaper, appendix A: 71 TFLOPS with float32 sums
    "rtx3090": _gpu("GeForce RTX 3090", (71, 24, 936), 0.25, "RTX3090"),
    # NVIDIA A10 datasheet: 125 TFLOPS, 600 GB/s
    "a10": _gpu("A10", (125, 24, 600), 0.75, "A10"),
    # NVIDIA V100 datasheet (SXM2): 125 TFLOPS in float16, no bfloat16
    "v100": _gpu("V100 32 GB", (125, 32, 900), 0.6, "V100-32GB", bf16=False),
    # NVIDIA T4 datasheet: 65 TFLOPS in float16, no bfloat16
    "t4": _gpu("T4", (65, 16, 300), 0.35, "T4", bf16=False),
    # AMD Instinct MI300X datasheet: 1,307.4 TFLOPS, 192 GB, 5.3 TB/s
    "mi300x": _gpu("MI300X", (1307.4, 192, 5300), 2.2, "MI300X"),
    # Ascend 910B is left out: public figures run from 256 to 320 TFLOPS, and its maker has no data sheet with one.
}


class Machine(NamedTuple):
    """What a plan is made for: a number of cards, or this machine as it is (`gpu` None)."""

    gpu: Gpu | None = None
    cards: int = 1
    price: float | None = None
    """US dollars per hour of one card, as the user says."""

    @property
    def dollars(self) -> float | None:
        """Price of an hour of one card; None where nobody named one."""
        return self.price if self.price is not None else self.gpu.price if self.gpu else None


def machine_of(name: str = "", count: int = 1, price: float | None = None) -> Machine:
    """The machine that options of the command line name.

    Raises:
        RecipeError: no such card is known.
    """
    if not name:
        return Machine(None, count, price)
    wanted = name.lower().replace("_", "-").replace(" ", "")
    if wanted not in GPUS:
        hint = f"{did_you_mean(wanted, GPUS)} Known: {', '.join(GPUS)}.".strip()
        raise RecipeError(f"no figures for the GPU {name!r}", where="--gpu", hint=hint)
    return Machine(GPUS[wanted], count, price)


def cost(machine: Machine, seconds: float) -> dict[str, Any]:
    """What so many seconds of a machine cost, and whose price that is; nothing where nobody named one."""
    if machine.dollars is None:
        return {}
    whose = "yours" if machine.price is not None else f"an indication of {PRICES_FROM}: give yours with --price"
    total = machine.dollars * machine.cards * seconds / 3600
    return {"usd_per_gpu_hour": machine.dollars, "price_is": whose, "usd": round(total, 2)}


class Useful(NamedTuple):
    """What a run's model FLOPs utilisation is made of (Chowdhery et al. 2022, "PaLM", appendix B)."""

    flops: tuple[float, ...]
    """Of a token, by phase; recomputation does not count."""
    peak: float
    """FLOP/s of all cards together."""

    def part(self, phase: int, tokens_per_second: float) -> float:
        """The part of the peak that so many tokens a second are.

        >>> Useful((6e9,), 8 * 1e15).part(0, 400_000)
        0.3
        """
        return self.flops[phase] * tokens_per_second / self.peak


def gpu_named(name: str) -> Gpu | None:
    """The card that a driver calls `name`, `NVIDIA H100 80GB HBM3`; None where the table has none like it.

    >>> gpu_named("NVIDIA H100 80GB HBM3").title, gpu_named("NVIDIA H100 PCIe").title, gpu_named("Tesla T4").title
    ('H100 80 GB SXM', 'H100 80 GB PCIe', 'T4')
    """
    words = name.upper().replace("-", " ").split()
    if "RTX" in words:
        words = [f"RTX{word}" for word in words]
    short = {key: key.upper().split("-") for key in GPUS}
    fitting = {
        key: sum(any(word.startswith(part) for word in words) for part in parts)
        for key, parts in short.items()
        if parts[0] in words
    }
    return GPUS[max(fitting, key=lambda key: (fitting[key], -len(short[key])))] if fitting else None


def matrix_rate(device: torch.device, precision: torch.dtype) -> float:
    """FLOP/s of a 1024 x 1024 product in the run's number format on this device, over at least 0.2 seconds."""
    import torch

    left = torch.ones(1024, 1024, device=device, dtype=precision)
    (left @ left).sum().item()
    started, products = time.perf_counter(), 0
    while time.perf_counter() - started < 0.2:
        (left @ left).sum().item()
        products += 1
    return products * 2 * 1024**3 / (time.perf_counter() - started)
