"""What a model knows by heart of its training documents: the figures of an audit, as a release's record keeps them."""

from __future__ import annotations

import math

from pydantic import Field

from configs.part import Part

CHANCE = 1 / math.log(2)
"""Mean exposure, in bits, of a secret that was never seen: its rank is uniform, and -log2 of a uniform number has this mean."""


class Continuations(Part):
    """Documents of which the model was given a stretch, and whether it went on word for word."""

    documents: int
    """Documents that were continued."""
    long_enough: int
    """Documents of the split that have `prompt` + `continuation` tokens."""
    tuned: int
    """Those that the tuned model reproduced exactly."""
    base: int | None
    """Those that the base reproduced; None where there is no base to ask."""


class Exposure(Part):
    """How far a planted secret stands out among random ones (Carlini et al. 2019, section 4.2): log2 of the candidates,
    itself among them, less log2 of its rank by log-perplexity."""

    canary: str
    """Its prompt."""
    split: str
    """`train`, or `validation` for one that was never learnt."""
    tuned: float
    """In bits."""
    base: float | None


class Memorisation(Part):
    """An audit of one run."""

    prompt: int
    """Tokens of a document that were given."""
    continuation: int
    """Tokens that had to follow exactly."""
    learnt: Continuations
    """On training documents."""
    held_out: Continuations
    """On documents that were kept from training: what can be guessed without having learnt it."""
    personal: dict[str, int] | None = None
    """Pieces of personal data, by kind, that the tuned model's continuations of training documents hold, that stand in the
    training documents and not in what it was given; None where nobody looked."""
    candidates: int = 0
    """Random secrets that each canary was ranked among."""
    canaries: tuple[Exposure, ...] = Field(default=())

    @property
    def share(self) -> float | None:
        """Part of the training documents that the tuned model reproduced; None where none was long enough."""
        return self.learnt.tuned / self.learnt.documents if self.learnt.documents else None

    @property
    def exposure(self) -> float | None:
        """Mean exposure of the canaries that were learnt, in bits; None where none was planted."""
        found = [it.tuned for it in self.canaries if it.split == "train"]
        return sum(found) / len(found) if found else None


def told(found: Memorisation) -> list[str]:
    """An audit in sentences, for the card and for a terminal."""
    lines = []
    for what, part in (("training", found.learnt), ("held-out", found.held_out)):
        if not part.documents:
            lines.append(f"No {what} document has the {found.prompt + found.continuation} tokens that are needed.")
            continue
        base = "" if part.base is None else f", its base {part.base}"
        lines.append(
            f"Given {found.prompt} tokens of a {what} document, the model went on with its next {found.continuation} "
            f"exactly in {part.tuned} of {part.documents}{base} ({part.long_enough:,} documents were long enough)."
        )
    if found.personal is not None:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.personal.items()))
        lines.append(f"Personal data of training documents in these continuations: {kinds or 'none'}.")
    if found.canaries:
        most = math.log2(found.candidates + 1)
        for split, what in (("train", "planted"), ("validation", "held out")):
            own = [it for it in found.canaries if it.split == split]
            bases = [it.base for it in own if it.base is not None]
            if own:
                base = f", its base {sum(bases) / len(bases):.2f}" if bases else ""
                lines.append(
                    f"Mean exposure of {len(own)} canaries ({what}): {sum(it.tuned for it in own) / len(own):.2f} bits{base}; "
                    f"by chance {CHANCE:.2f}, at most {most:g}."
                )
    return lines
