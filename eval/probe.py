"""Which shortcuts a model allows: each is compared with the plain forward pass on a few tokens, once, when it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from configs.prompts import Branch
from eval.attention import attending
from eval.sharing import LEAST, groups_of
from eval.writing import Growth

if TYPE_CHECKING:
    from eval.scorer import Scorer

ALIKE = 1e-3
"""Largest difference of a log-likelihood from the plain pass, in nats, in float32."""
ALIKE_HALF = 0.2
"""The same in bfloat16, for four tokens: its steps between logits of 8 and more are a sixteenth."""
SHARED = 5
REFUSALS = (TypeError, ValueError, AttributeError, NotImplementedError, RuntimeError, KeyError, IndexError)
"""What families raise where they do not take a shortcut."""


def branches_for(vocabulary: int) -> list[Branch]:
    """Two questions about one passage and one alone, after the same five tokens; answers of one to four tokens."""
    ids = [(17 * position + 3) % vocabulary for position in range(2 * LEAST + 40)]
    start, passage, rest = ids[:SHARED], ids[SHARED : SHARED + LEAST], ids[SHARED + LEAST :]
    return [
        Branch([*start, *passage, *rest[:4]], [rest[4:8], rest[8:9]]),
        Branch([*start, *passage, *rest[9:16]], [rest[16:18], rest[18:20]]),
        Branch([*start, *rest[20:26]], [rest[26:29]]),
    ]


def plainly(scorer: Scorer) -> list[float]:
    """The values of the probe by whole prompts and the model's own logits."""
    scorer.gathers = scorer.shares = False
    return _values(scorer)


def ways(scorer: Scorer) -> tuple[bool, bool, bool]:
    """Whether the head may be applied apart, whether prompts may share, and whether fused kernels do it."""
    with scorer.using("tuned"):
        plain = plainly(scorer)
        scorer.gathers = True
        if not _agree(scorer, plain):
            return False, False, False
        scorer.shares = True
        for scorer.fused in (True, False):
            if _agree(scorer, plain):
                return True, True, scorer.fused
    return True, False, False


def _values(scorer: Scorer) -> list[float]:
    scorer.kept.clear()
    scorer.plan = None
    probe = branches_for(scorer.vocabulary)
    found = [value for values in scorer.loglikelihoods(probe, shared=SHARED) for value in values]
    if not scorer.shares:
        firsts = [Branch(branch.context, [branch.followers[0][:2]]) for branch in probe]
        return found + [value for [value] in scorer.loglikelihoods(firsts)]
    with attending(scorer.model):
        groups = groups_of([Branch(branch.context, []) for branch in probe], SHARED)
        growth = Growth(scorer, [branch.context for branch in probe], groups, SHARED, 2)
        chosen = [probe[member].followers[0] for member in growth.members]
        places = list(range(len(chosen)))
        values = scorer.picked(growth.hidden_BE, places, [follower[0] for follower in chosen])
        growth.step([follower[0] for follower in chosen])
        values += scorer.picked(growth.hidden_BE, places, [follower[1] for follower in chosen])
    by_member = dict(zip(growth.members, values.tolist(), strict=True))
    return found + [by_member[member] for member in range(len(probe))]


def _agree(scorer: Scorer, plain: list[float]) -> bool:
    """Whether the present shortcuts give the plain values; one that this family refuses does not."""
    try:
        values = _values(scorer)
    except torch.OutOfMemoryError:
        raise
    except REFUSALS:
        return False
    half = scorer.model.dtype in (torch.bfloat16, torch.float16)
    near = ALIKE_HALF if half else ALIKE
    return all(abs(ours - theirs) < near for ours, theirs in zip(values, plain, strict=True))
