"""What a recipe asks of its release: the gates it must pass, what the folder holds, and how memorisation is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from configs.part import Part

if TYPE_CHECKING:
    from pathlib import Path

Spot = Callable[[str], Sequence[tuple[str, int, int]]]
"""Finds personal data in a text: kind, start and end of each piece."""
Grade = Literal["general", "important", "core"]


class Gates(Part):
    """What must hold before a release is made; an unset gate is not checked. The margins stop nothing, they are judged by."""

    significant_gain: bool = False
    """At least one sector task must gain with a 95 % interval above zero after Holm's correction."""
    max_general_loss: float | None = Field(default=None, ge=0)
    """Largest allowed relative rise of general bits per byte: 0.05 allows 5 %."""
    margin: float = Field(default=0.02, gt=0, lt=1)
    """Loss on a general task that still counts as not inferior, as part of its scale: 0.02 is 2 points. The comparison's
    verdict on the general panel holds the lower end of the 95 % interval against it (docs/statistics.md)."""
    margin_text: float | None = Field(default=None, gt=0)
    """The same for general text, as a relative rise of bits per byte; left out: `max_general_loss`, else 0.05."""
    not_inferior: bool = False
    """The general panel must be shown to be not worse than the base's by more than its margin; undecided is a failure."""
    max_contamination: float | None = Field(default=None, ge=0, le=1)
    """Largest allowed part of a sector task's items that share a long passage with a document which was trained on."""
    max_invalid: float | None = Field(default=None, ge=0, le=1)
    """Largest allowed part of a task's items that the tuned model answered in no readable form."""
    licences: bool = False
    """Licence, grade and purpose of every source, and the base's licence where it is known, must allow the stated use;
    and the release's own licence must not allow more than theirs."""
    grades: tuple[Grade, ...] | None = None
    """Data grades (GB/T 43697-2024) that sources of a release may have."""
    max_memorised: float | None = Field(default=None, ge=0, le=1)
    """Largest allowed part of sampled training documents whose continuation the tuned model reproduces word for word."""
    max_exposure: float | None = Field(default=None, ge=0)
    """Largest allowed mean exposure of the planted canaries, in bits; a model that never saw them has 1.44 on average."""
    max_personal: int | None = Field(default=None, ge=0)
    """Largest allowed number of pieces of personal data of the training documents in the sampled continuations."""


class Audit(Part):
    """How it is measured what the tuned model knows by heart."""

    documents: int = Field(default=100, ge=0, le=100_000)
    """Training documents to continue, chosen by the hash of (seed, id), and as many held-out ones; 0 measures nothing."""
    prompt: int = Field(default=50, ge=1, le=4096)
    """Tokens of a document that the model is given: 50 as in Carlini et al. 2023, "Quantifying Memorization Across Neural
    Language Models", section 3."""
    continuation: int = Field(default=50, ge=1, le=4096)
    """Tokens that it must then reproduce, greedily and exactly, to count: 50 as there."""
    canaries: str = ""
    """Name of the source that holds canaries (`sectorlm canaries` writes them); their exposure is measured (Carlini et al.
    2019, "The Secret Sharer", section 4)."""
    candidates: int = Field(default=255, ge=1, le=65_535)
    """Random secrets that each canary is ranked among: with 255 an exposure is at most log2(256) = 8 bits."""


class Publish(Part):
    """What the release holds."""

    merged: bool = False
    """Also write the merged weights; verified against base + adapter."""
    max_merge_kl: float = Field(default=0.01, gt=0)
    """Largest mean Kullback-Leibler divergence, in nats per token, of merged from base + adapter on held-out rows."""
    min_merge_top1: float = Field(default=0.95, ge=0, le=1)
    """Least part of held-out positions at which merged and base + adapter rank the same token first."""
    gguf: Literal["no", "f32", "f16", "bf16"] = "no"
    """Also convert the merged weights for llama.cpp and Ollama, in this number format; needs `pip install -e '.[gguf]'`."""
    push_to: str | None = None
    """Hub repository; pushed only by `sectorlm publish --push`, private by default."""
    provider: str = ""
    """Who publishes it, for the card and the EU AI Act's public summary."""
    contact: str = ""
    """How the provider is reached."""
    watts: float | None = Field(default=None, gt=0)
    """What one device draws in training, for the estimate of energy; left out: the most that its data sheet allows."""
    grid: float = Field(default=473.0, ge=0)
    """Grams of CO2 equivalents per kWh where it ran; the mean of the world in 2024 (Ember 2025, Global Electricity Review)."""
    licence: str = "other"
    """Licence of the released weights (Hugging Face licence id)."""
    base_licence: str = ""
    """Licence of the base; left out: what the card in its folder says."""
    audit: Audit = Audit()
    """How it is measured what the tuned model knows by heart."""


class Wishes(NamedTuple):
    """What the command line asks of a release beside the recipe."""

    push: bool = False
    accept: Sequence[str] = ()
    """`GATE=REASON`: a gate that need not be met, and why."""
    key: Path | None = None
    """Private key to sign with."""
    spot: Spot | None = None
    """Finds personal data in a text; the front door passes the one of data preparation."""


NO_WISHES = Wishes()
