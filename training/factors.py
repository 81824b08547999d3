"""Low-rank changes as factors: several stacked into one exactly, a stack cut to a lower rank, and what that loses.

An adapter changes a weight by `scale * B A`. A weighted sum of such changes is again one of them: the A's below one
another, the B's side by side, each B times its weight and scale. The mean of the A's and the mean of the B's are
something else, since `mean(B) mean(A)` also holds every B_i A_j of two different sites (Sun et al. 2024, "Improving LoRA
in Privacy-preserving Federated Learning", section 3). No change is ever formed as a matrix of the weight's size.
"""

# O outputs, I inputs of a layer, R rank, K the least of O, I and R

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence


class Factors(NamedTuple):
    """A layer's change, `scale * b_OR @ a_RI`."""

    b_OR: torch.Tensor
    a_RI: torch.Tensor
    scale: float = 1.0

    @property
    def rank(self) -> int:
        """Columns of B and rows of A."""
        return int(self.a_RI.shape[0])


def stacked(parts: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """The weighted sum of changes, of rank the sum of theirs, in float64; weights and scales go into B.

    A keeps the size that training gave it, as a fresh adapter's A has it, so that the next round starts well.
    """
    b_OR = torch.cat(
        [weight * part.scale * part.b_OR.double() for part, weight in zip(parts, weights, strict=True)], dim=1
    )
    return Factors(b_OR, torch.cat([part.a_RI.double() for part in parts]))


def averaged(parts: Sequence[Factors], weights: Sequence[float]) -> Factors | None:
    """What the weighted means of the factors give, to be measured and never used; None where ranks or scales differ."""
    if len({(part.rank, part.scale) for part in parts}) != 1:
        return None
    b_OR = sum(weight * part.b_OR.double() for part, weight in zip(parts, weights, strict=True))
    a_RI = sum(weight * part.a_RI.double() for part, weight in zip(parts, weights, strict=True))
    return Factors(torch.as_tensor(b_OR), torch.as_tensor(a_RI), parts[0].scale)


def cut(change: Factors, rank: int) -> tuple[Factors, float]:
    """The nearest change of at most `rank` (Eckart and Young 1936), and the Frobenius norm of what it lacks.

    With `B = Q_B R_B` and `A.T = Q_A R_A` the singular values of `B A` are those of the small `R_B R_A.T`. Each factor
    gets the root of them.
    """
    q_OK, left_KR = torch.linalg.qr(change.scale * change.b_OR.double())
    p_IK, right_KR = torch.linalg.qr(change.a_RI.double().T)
    u_KK, s_K, v_KK = torch.linalg.svd(left_KR @ right_KR.T, full_matrices=False)
    rank = min(rank, len(s_K))
    root_R = s_K[:rank].sqrt()
    nearest = Factors(q_OK @ u_KK[:, :rank] * root_R, root_R[:, None] * (v_KK[:rank] @ p_IK.T))
    return nearest, float(torch.linalg.vector_norm(s_K[rank:]))


def size(change: Factors) -> float:
    """The Frobenius norm of a change."""
    left_KR = torch.linalg.qr(change.scale * change.b_OR.double()).R
    right_KR = torch.linalg.qr(change.a_RI.double().T).R
    return float(torch.linalg.matrix_norm(left_KR @ right_KR.T))


def distance(one: Factors, other: Factors) -> float:
    """The Frobenius norm of the difference of two changes, without the rounding that a difference of norms has."""
    return size(stacked([one, other], [1.0, -1.0]))
