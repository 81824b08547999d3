"""What evaluation asks a model for: likelihoods and texts of token ids, whoever computes them.

`eval.scorer.Scorer` computes here, on weights in memory. A server or another library stands behind the same names,
and lm-evaluation-harness can be given any of them as its model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from transformers import PreTrainedTokenizerBase

    from configs.prompts import Branch

BUDGET = 16384
"""Tokens held at once where nobody says."""


class Engine(Protocol):
    """A model that answers, and its adapter where there is one. All calls stand inside of `using`."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """What makes the token ids of contexts and followers, and the texts that come back."""

    @property
    def room(self) -> int:
        """Tokens of context that the model can read; prompts are cut to it by `configs.prompts`."""

    @property
    def tokens(self) -> int:
        """Tokens forwarded so far. A beginning that is kept for later calls (`shared`) is not among them: whether it was
        read in this call depends on the calls before, and an answer must not."""

    @property
    def engine(self) -> str:
        """What computes, in a few words: number format and kind of device, or the server and its version. Answers of
        different engines are never mixed."""

    def may_share(self, longest: int) -> bool:
        """Whether prompts of up to so many tokens can share a beginning that is kept; False where nothing is kept."""

    def using(self, which: str) -> AbstractContextManager[Engine]:
        """Answer as `base` (the adapter is switched off) or as `tuned`; where there is no adapter both are the model."""

    def loglikelihoods(self, branches: Sequence[Branch], budget: int = BUDGET, shared: int = 0) -> list[list[float]]:
        """The log-likelihood, in nats, of every follower of every branch, given the branch's context.

        All contexts begin with the same `shared` tokens, and are longer: such a beginning may be read once and kept for
        the next calls. At most `budget` tokens are held at once, unless one branch alone has more. Values do not depend
        on earlier calls. The log-softmax is in float32.

        Raises:
            MemoryExhaustedError: one branch alone does not fit into memory.
        """

    def texts(
        self, contexts: Sequence[list[int]], until: Sequence[str], most: int, shared: int = 0, budget: int = BUDGET
    ) -> list[str]:
        """The greedy continuation of every context, up to the end mark, the first of `until`, or `most` tokens.

        `shared` and `budget` as above; the end mark and what follows a member of `until` are not part of the text.

        Raises:
            MemoryExhaustedError: one context alone does not fit into memory.
        """
