"""What a phase learns: one function from a model and a batch to a summed loss, and what the sum is divided by."""

# S supervised positions of a micro-batch, N documents, P pairs of answers

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from configs.errors import DataError
from training.batches import Batch, Rows, packed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from training.model import PackedModel
    from training.world import World


class Objective(Protocol):
    """What is learnt from the rows of a phase."""

    def weight(self, rows: Rows, picked: list[int]) -> int:
        """What the loss of these rows, summed, is divided by."""

    def loss(self, model: PackedModel, batch: Batch) -> torch.Tensor:
        """The summed loss of a micro-batch, in nats, with its gradient."""

    def begin(self, values: Mapping[str, torch.Tensor]) -> None:
        """Take note of the weights that the phase begins with."""

    def told(self, world: World) -> dict[str, float]:
        """Figures of the step beside its loss, over all processes, which must all ask."""

    def forget(self) -> None:
        """Leave out of them what was seen so far: the step begins, or begins again with smaller micro-batches."""

    @property
    def reference(self) -> dict[str, torch.Tensor] | None:
        """The weights that must survive a stop for the phase to go on, by name."""


class Supervised:
    """Next tokens, where they are supervised: text, or answers."""

    reference = None

    def weight(self, rows: Rows, picked: list[int]) -> int:
        """The supervised tokens."""
        return rows.supervised_targets(picked)

    def loss(self, model: PackedModel, batch: Batch) -> torch.Tensor:
        """Their cross-entropy."""
        loss: torch.Tensor = model(batch)
        return loss

    def begin(self, values: Mapping[str, torch.Tensor]) -> None:
        """Nothing to remember."""

    def told(self, world: World) -> dict[str, float]:
        """The loss says all."""
        return {}

    def forget(self) -> None:
        """Nothing was kept."""


class Preference:
    """`chosen` over `rejected`: direct preference optimisation (Rafailov et al. 2023, equation 7).

    -log sigmoid(beta ((log p(chosen) - log r(chosen)) - (log p(rejected) - log r(rejected)))), where r is the model with
    the weights that the phase began with. In a first phase with fresh factors that is the base, the adapter disabled.
    """

    def __init__(self, beta: float) -> None:
        self.beta = beta
        self.reference: dict[str, torch.Tensor] | None = None
        self.seen: list[torch.Tensor] = []
        """Of each micro-batch of the step, [pairs, pairs with a margin above 0, sum of margins]."""

    def begin(self, values: Mapping[str, torch.Tensor]) -> None:
        """Keep a copy of the weights as the reference."""
        self.reference = {name: value.detach().clone() for name, value in values.items()}

    def weight(self, rows: Rows, picked: list[int]) -> int:
        """The pairs: their chosen answers are the segments of the rows."""
        return len(rows.pieces(picked))

    def forget(self) -> None:
        """No micro-batch was seen."""
        self.seen = []

    def told(self, world: World) -> dict[str, float]:
        """`preferred`, the share of pairs whose margin is above 0, and `margin`, the mean of beta times the difference."""
        own = torch.stack(self.seen).sum(0).tolist() if self.seen else [0.0, 0.0, 0.0]
        pairs, preferred, margin = world.sums(*own)
        return {"preferred": preferred / max(1, pairs), "margin": margin / max(1, pairs)}

    def loss(self, model: PackedModel, batch: Batch) -> torch.Tensor:
        """The pairs' summed loss; the reference is asked first, since afterwards the weights must stay as they are."""
        now, learns = model.trainable(), model.training
        kept = {name: value.detach().clone() for name, value in now.items()}
        _put(now, self.reference or kept)
        try:
            with torch.no_grad():
                expected_N = by_document(model.eval()(batch, each=True), batch)  # dropout is the policy's alone
        finally:  # also where memory ran out, since the step is then tried again
            _put(now, kept)
            model.train(learns)
        gained_N = expected_N - by_document(model(batch, each=True), batch)  # log p - log r
        margin_P = self.beta * (gained_N[0::2] - gained_N[1::2])
        if len(batch.target_S):  # the spare batch of parted weights has none
            known_P = margin_P.detach().float()
            self.seen.append(torch.stack([torch.ones_like(known_P), (known_P > 0).float(), known_P]).sum(1))
        return -logsigmoid(margin_P).sum()


def _put(now: dict[str, torch.nn.Parameter], values: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, value in now.items():
            value.copy_(values[name])


def by_document(loss_S: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Negative log-likelihoods summed over each document, float32 [N]."""
    total_N = loss_S.new_zeros(len(batch.bounds) - 1)
    return total_N.index_add(0, batch.documents(), loss_S)


class PairRows(Rows):
    """Rows of pairs: behind each chosen conversation stands the same prompt with the rejected answer."""

    def __init__(self, rows: Rows) -> None:
        """Add the rejected answers to `rows`.

        Raises:
            DataError: the corpus has none.
        """
        vars(self).update(vars(rows))
        path = rows.folder / "rejected.npy"
        if not path.is_file():
            raise DataError(
                "the corpus holds no preference pairs: all were left out when it was prepared",
                where=str(path),
                hint="dropped.jsonl beside it has the reason of each.",
            )
        self.answers = np.memmap(rows.folder / "rejected.bin", dtype=rows.tokens.dtype, mode="r")
        self.place = {int(start): (int(first), int(length)) for start, first, length in np.load(path)}
        sizes = [sum(map(len, self._pair(*it))) for it in self.segments[:, 1:3].tolist()]
        self.length = np.add.reduceat(sizes, self.first[:-1]) if sizes else np.zeros(0, int)

    def _pair(self, start: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of the chosen and of the rejected conversation."""
        chosen = self.tokens[start : start + length]
        first, size = self.place[start]
        return chosen, np.concatenate([chosen[: self._prompt(start, length)], self.answers[first : first + size]])

    def _prompt(self, start: int, length: int) -> int:
        return int(np.argmax(self.supervised[start : start + length]))

    def batch(self, rows: list[int]) -> Batch:
        """Chosen and rejected in turn, two documents for each pair."""
        documents = []
        for _, start, length, _ in self.pieces(rows).tolist():
            prompt = self._prompt(start, length)
            documents += [(tokens, np.arange(len(tokens)) >= prompt) for tokens in self._pair(start, length)]
        return packed(documents, rows)
