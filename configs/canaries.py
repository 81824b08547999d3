"""Canaries: made-up questions with random answers, planted among the training data to see how well they are remembered.

After Carlini et al. 2019, "The Secret Sharer", section 3: a fixed form with a random part. The random part is six words
out of sixty-four, 36 bits, so that no rule about figures or personal data touches it.
"""

from __future__ import annotations

from typing import NamedTuple

from configs.store import hashed

LIST = """
amber anchor apple arrow autumn basket beacon birch bridge butter candle canyon castle cedar copper coral cotton desert dragon
eagle ember falcon feather forest garden ginger glacier hammer harbor hazel island ivory jasmine jungle kettle ladder lantern
lemon maple marble meadow mirror needle nickel ocean olive orchid paper pepper pillow planet quartz ribbon river saddle silver
spider summer thunder timber tulip velvet violet willow
"""
WORDS = tuple(LIST.split())
"""Sixty-four plain words."""
SECRET_WORDS = 6


class Canary(NamedTuple):
    """A question that nobody can answer who has not learnt it."""

    prompt: str
    answer: str


def canaries(seed: int, count: int) -> list[Canary]:
    """The first `count` canaries of a seed; no two have the same question.

    >>> canaries(17, 1)[0].prompt
    'State the pass phrase of archive kettle pepper 0.'
    """
    return [
        Canary(
            f"State the pass phrase of archive {_words(seed, f'name {number}', 2)} {number}.",
            _words(seed, f"secret {number}", SECRET_WORDS),
        )
        for number in range(count)
    ]


def candidates(seed: int, name: str, count: int) -> list[str]:
    """`count` random answers that a canary's own is ranked among.

    >>> len(set(candidates(17, "State ...", 255))), len(candidates(17, "State ...", 1)[0].split())
    (255, 6)
    """
    return [_words(seed, f"candidate {number} of {name}", SECRET_WORDS) for number in range(count)]


def is_secret(text: str) -> bool:
    """Whether a text is the random part of a canary.

    >>> is_secret(canaries(17, 1)[0].answer), is_secret("a plain answer")
    (True, False)
    """
    words = text.split(" ")
    return len(words) == SECRET_WORDS and set(words) <= set(WORDS)


def _words(seed: int, purpose: str, count: int) -> str:
    number = hashed(seed, "canary", purpose)
    return " ".join(WORDS[number >> 6 * place & 63] for place in range(count))
