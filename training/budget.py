"""The forgetting budget: how far general loss may rise, which weights are kept within it, and when to stop early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.errors import DataError, GateError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from configs.records import Corpus
    from configs.tuning import Train

PATIENCE = 2
"""Looks in a row beyond the budget before the run stops: one may be the warm-up's bump (Ibrahim et al. 2024)."""


@dataclass(frozen=True)
class Budget:
    """`limit` is the largest rise of the general loss above the base's, as a part of it; None keeps no budget."""

    limit: float | None

    @classmethod
    def of(cls, train: Train, corpus: Corpus) -> Budget:
        """The budget of a recipe.

        Raises:
            RecipeError: there is one, and nothing to measure it on.
        """
        held = {source.channel for source in corpus.sources if source.tokens_validation}
        missing = [channel for channel in ("sector", "general") if channel not in held]
        if train.max_general_loss_increase is not None and missing:
            raise RecipeError(
                f"no held-out text of the {missing[0]} channel to measure forgetting on",
                where="train.max_general_loss_increase",
                hint="Add a source with `channel: general`, or raise prepare.validation.",
            )
        return cls(train.max_general_loss_increase)

    def spent(self, losses: Mapping[str, float], curve: Sequence[Mapping[str, Any]]) -> float:
        """Rise of the general loss above the base's (the curve's first point), as a part of it."""
        base = float(curve[0]["losses"]["general"])
        return losses["general"] / base - 1

    def _keeps(self, point: Mapping[str, Any], curve: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a look is within the budget; a loss that is not a number never is."""
        if self.limit is None:
            return False
        within: bool = point["losses"]["general"] <= curve[0]["losses"]["general"] * (1 + self.limit)
        return within

    def best(self, curve: Sequence[Mapping[str, Any]]) -> int | None:
        """The step with the lowest sector loss among the looks within the budget; the base itself does not count, nor does
        a look whose weights were lost (`lost`).
        """
        within = [point for point in curve[1:] if self._keeps(point, curve) and not point.get("lost")]
        found = min(within, key=lambda point: (point["losses"]["sector"], point["step"]), default=None)
        return None if found is None else int(found["step"])

    def is_spent(self, curve: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the last looks were all beyond the budget."""
        if self.limit is None or len(curve) <= PATIENCE:
            return False
        return not any(self._keeps(point, curve) for point in curve[-PATIENCE:])

    def refuse(self, curve: Sequence[Mapping[str, Any]]) -> None:
        """Refuse a run that was never within its budget.

        Raises:
            GateError: no look was; the message has the smallest rise.
            DataError: one was, and its weights were lost.
        """
        if self.limit is not None and self.best(curve) is None:
            if any(self._keeps(point, curve) for point in curve[1:]):
                raise DataError(
                    "the best weights were damaged, and no later look was within the forgetting budget",
                    where="train.max_general_loss_increase",
                    hint="Delete the folder checkpoints of the run and run the same command again: it trains anew.",
                )
            least = min(self.spent(point["losses"], curve) for point in curve[1:])
            raise GateError(
                f"the general loss rose by {100 * least:.1f} % at the least, above the budget of {100 * self.limit:.1f} %",
                where="train.max_general_loss_increase",
                hint="Lower train.learning_rate, look more often (train.validate_every), or give general text a larger share.",
            )
