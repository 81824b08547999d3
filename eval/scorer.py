"""The scorer: one copy of the weights for base and tuned model, log-likelihoods and greedy texts in batches.

What prompts share is read once: the worked examples once for a task and model, a passage once for its questions, a
question once for its answers, all answers of a batch in one forward pass. The head is applied only where a token is
scored, and log-probabilities are always taken in float32: in bfloat16 they would be quantised to half a nat and ties
would go to the first choice. Rows are padded on the right, so no real token sees padding.
"""

# B rows, T tokens, U scored positions, S scored tokens, E width, V vocabulary

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from configs.errors import MemoryExhaustedError
from configs.progress import say
from configs.prompts import Branch
from eval.attention import Layers, Pass, attending, opened
from eval.engine import BUDGET
from eval.family import logit_shape, room_of, stops_of, window_of
from eval.sharing import Group, Plan, Rows, by_budget, groups_of
from eval.writing import Growth, write, write_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


HEAD_ELEMENTS = 2**26
"""Logits held at once, 256 MB in float32."""
ALIGNED = 16
"""Columns that the rows of a mask are padded to, for the kernels of GPUs."""


class Kept(NamedTuple):
    """A beginning that has been read."""

    ids: list[int]
    layers: Layers


class Scorer:
    """A loaded model, and its adapter where there is one; `using` says which of the two answers."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, wrapper: Any = None) -> None:
        from eval.probe import ways

        self.model, self.tokenizer, self.wrapper = model.eval(), tokenizer, wrapper
        self.device, self.decoder = model.device, model.get_decoder()
        config = model.config.get_text_config()
        self.room, self.window = room_of(config, tokenizer), window_of(config)
        """Tokens of context that the model can read, and how many of them each layer sees."""
        self.vocabulary = int(config.vocab_size)
        self.scale, self.cap = logit_shape(config)
        self.stops = stops_of(model, tokenizer)
        self.which = "tuned"
        self.kept: dict[str, Kept] = {}
        """The beginning that each of the two models has read last."""
        self.plan: Plan | None = None
        self.told = False
        self.tokens = 0
        """Tokens forwarded so far, those of kept beginnings left out."""
        self.gathers = self.shares = self.fused = True
        """Whether the head may be applied apart, whether rows may share, and by which kernels."""
        self.gathers, self.shares, self.fused = ways(self)
        self.tokens, self.plan = 0, None
        self.kept.clear()
        if not self.shares:
            self._tell("its layers do not let prompts share what they have read")

    @property
    def engine(self) -> str:
        """What computes: number format and kind of device."""
        return f"{str(self.model.dtype).removeprefix('torch.')} on {self.device.type}"

    @contextmanager
    def using(self, which: str) -> Iterator[Scorer]:
        """Answer as `base` (the adapter is switched off) or as `tuned`."""
        off = self.wrapper.disable_adapter() if self.wrapper is not None and which == "base" else nullcontext()
        before, self.which = self.which, which
        try:
            with off, torch.inference_mode():
                yield self
        finally:
            self.which = before

    # ------------------------------------------------------------ log-likelihoods

    def loglikelihoods(self, branches: Sequence[Branch], budget: int = BUDGET, shared: int = 0) -> list[list[float]]:
        """The log-likelihood, in nats, of every follower of every branch, given the branch's context.

        All contexts begin with the same `shared` tokens, which are read once and kept. At most `budget` tokens are held
        at once, padding and beginning included, unless one row alone is longer.

        Raises:
            MemoryExhaustedError: one branch alone does not fit into memory.
        """
        longest = max((len(b.context) + max(map(len, b.followers)) - 1 for b in branches), default=0)
        together = self.may_share(longest)
        kept = self.read(branches[0].context[:shared]) if branches and together else None
        sums = torch.zeros(sum(len(branch.followers) for branch in branches), dtype=torch.float64)
        if self.plan is None or not self.plan.holds(branches, budget, shared, together=together):
            self.plan = Plan(branches, budget, shared, together=together)
        with attending(self.model) if together else nullcontext():
            for part in self.plan.parts:
                for rows, values_S in self._halving(partial(self._score, self.plan, kept), part):
                    sums.index_add_(0, torch.tensor(rows.owner_S), values_S)
        found = iter(sums.tolist())
        return [[next(found) for _ in branch.followers] for branch in branches]

    def _score(self, plan: Plan, kept: Layers | None, groups: list[Group]) -> list[tuple[Rows, Tensor]]:
        """Log-probabilities of the scored tokens of some groups."""
        rows = plan.rows(groups)
        self.tokens += rows.tokens
        if not self.gathers:  # families with heads that we do not know
            asked = {"input_ids": rows.ids_BT.to(self.device), "attention_mask": rows.real_BT.to(self.device)}
            logits_UV = self.model(**asked, use_cache=False).logits[rows.row_U, rows.at_U]
            return [(rows, _picked(logits_UV, rows.place_S, rows.target_S))]
        if plan.together:
            with opened(Pass(kept, self.added(rows.seen_BTT), fused=self.fused)):
                hidden_BTE = self.forward(rows.ids_BT, rows.positions_BT)
        else:
            hidden_BTE = self.forward(rows.ids_BT, mask_BT=rows.real_BT)
        return [(rows, self.picked(hidden_BTE[rows.row_U, rows.at_U], rows.place_S, rows.target_S))]

    def forward(self, ids_BT: Tensor, positions_BT: Tensor | None = None, mask_BT: Tensor | None = None) -> Tensor:
        """The last hidden states, [B, T, E]."""
        given = {"position_ids": positions_BT, "attention_mask": mask_BT}
        asked = {name: value.to(self.device) for name, value in given.items() if value is not None}
        hidden_BTE: Tensor = self.decoder(input_ids=ids_BT.to(self.device), **asked, use_cache=False).last_hidden_state
        return hidden_BTE

    def added(self, seen_BTW: Tensor | None) -> Tensor | None:
        """What is added to the scores of tokens that see only some others, [B, 1, T, W] in the model's format."""
        if seen_BTW is None:
            return None
        rows, tokens, wide = seen_BTW.shape
        room = -(-wide // ALIGNED) * ALIGNED
        mask = torch.zeros(rows, 1, tokens, room, dtype=self.model.dtype, device=self.device)[..., :wide]
        return mask.masked_fill_(~seen_BTW.to(self.device)[:, None], -torch.inf)

    def picked(self, hidden_UE: Tensor, place_S: list[int], target_S: list[int]) -> Tensor:
        """Log-probability of each target after the state at its place, float64 on the CPU; the head goes in pieces."""
        step = max(1, HEAD_ELEMENTS // self.vocabulary)
        if len(hidden_UE) <= step:
            return _picked(self.logits(hidden_UE), place_S, target_S)
        order = sorted(range(len(place_S)), key=place_S.__getitem__)
        values_S, done = torch.empty(len(place_S), dtype=torch.float64), 0
        for start in range(0, len(hidden_UE), step):
            end = done
            while end < len(order) and place_S[order[end]] < start + step:
                end += 1
            mine, done = order[done:end], end
            places = [place_S[at] - start for at in mine]
            values_S[mine] = _picked(
                self.logits(hidden_UE[start : start + step]), places, [target_S[at] for at in mine]
            )
        return values_S

    def logits(self, hidden_UE: Tensor) -> Tensor:
        """Logits in float32, with the factor and the soft cap of families that have them."""
        scaled: Tensor = self.model.get_output_embeddings()(hidden_UE).float() * self.scale
        return scaled if self.cap is None else torch.tanh(scaled / self.cap) * self.cap

    def next_tokens(self, hidden_BE: Tensor) -> list[int]:
        """The likeliest token after each state."""
        tokens: list[int] = self.logits(hidden_BE).argmax(-1).tolist()
        return tokens

    # ------------------------------------------------------------ texts

    def texts(
        self, contexts: Sequence[list[int]], until: Sequence[str], most: int, shared: int = 0, budget: int = BUDGET
    ) -> list[str]:
        """The greedy continuation of every context, up to the end mark, the first of `until`, or `most` tokens.

        All contexts begin with the same `shared` tokens; at most `budget` tokens are held at once, as above.

        Raises:
            MemoryExhaustedError: one context alone does not fit into memory.
        """
        if not self.may_share(max(map(len, contexts), default=0) + most):
            return self._halving(partial(write_alone, self, until=until, most=most), contexts)
        groups = groups_of([Branch(context, []) for context in contexts], shared)
        costs = [sum(len(contexts[member]) - shared + most for member in group.members) for group in groups]
        found = [""] * len(contexts)
        with attending(self.model):
            for part in by_budget(costs, max(1, budget - shared)):
                grow = partial(self._write, contexts, shared, until, most)
                for member, text in self._halving(grow, [groups[at] for at in part]):
                    found[member] = text
        return found

    def _write(
        self, contexts: Sequence[list[int]], shared: int, until: Sequence[str], most: int, groups: list[Group]
    ) -> list[tuple[int, str]]:
        growth = Growth(self, contexts, groups, shared, most)
        return list(zip(growth.members, write(growth, until, most), strict=True))

    # ------------------------------------------------------------ what is kept, and safety

    def may_share(self, longest: int) -> bool:
        """Whether prompts of so many tokens can share what has been read; where not, that is said once."""
        if self.shares and longest > self.window:
            self._tell(f"its layers see {self.window} tokens, and prompts are longer")
        return self.shares and longest <= self.window

    def read(self, ids: list[int]) -> Layers | None:
        """Keys and values of a beginning, read at most once for each of the two models; None for no tokens.

        Raises:
            MemoryExhaustedError: it does not fit into memory.
        """
        if not ids:
            return None
        known = self.kept.get(self.which)
        if known is None or known.ids != ids:
            self.kept.pop(self.which, None)
            with attending(self.model):
                [layers] = self._halving(self._read, [ids])
            known = self.kept[self.which] = Kept(ids, layers)
        return known.layers

    def _read(self, beginnings: list[list[int]]) -> list[Layers]:
        found = []
        for ids in beginnings:
            with opened(Pass(fused=self.fused)) as current:
                self.forward(torch.tensor([ids]), torch.arange(len(ids))[None])
            found.append(current.read)
        return found

    def _halving(self, work: Callable[[Any], list[Any]], batch: Sequence[Any]) -> list[Any]:
        """Do a batch, in halves where memory does not suffice."""
        try:
            return work(batch)
        except torch.OutOfMemoryError as error:
            halves = _halves(batch)
            if halves is None:
                raise MemoryExhaustedError(
                    "out of memory while scoring a single item",
                    hint="Use a smaller base, shorter prompts (evaluate.shots), or a machine with more memory.",
                ) from error
        return [one for half in halves for one in self._halving(work, half)]

    def _tell(self, reason: str) -> None:
        if not self.told:
            say(f"  {self.model.config.model_type}: every answer is read with its whole prompt ({reason})")
        self.told = True


def _halves(batch: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]] | None:
    """Two smaller batches, the last group of which is cut too; None for a single branch."""
    if len(batch) > 1:
        return batch[: len(batch) // 2], batch[len(batch) // 2 :]
    [group] = batch
    if not isinstance(group, Group) or len(group.members) == 1:
        return None
    middle = len(group.members) // 2
    return [group._replace(members=group.members[:middle])], [group._replace(members=group.members[middle:])]


def _picked(logits_UV: Tensor, place_S: list[int], target_S: list[int]) -> Tensor:
    """Log-probability of each target: float32 softmax, float64 on the CPU for the sums."""
    logits_UV = logits_UV.float()
    values_S = logits_UV[place_S, target_S] - logits_UV.logsumexp(dim=1)[place_S]
    return values_S.double().cpu()
