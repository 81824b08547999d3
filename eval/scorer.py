"""The scorer: one copy of the weights for base and tuned model, log-likelihoods and greedy texts in batches.

The question is read once for all of its answers (its keys and values stay in the cache), the head is applied only where
a token is scored, and log-probabilities are always taken in float32: in bfloat16 they would be quantised to half a nat
and ties would go to the first choice. Rows are padded on the right and padding is masked, so no real token sees it.
"""

# B rows, T tokens, S scored positions, E width, V vocabulary

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from configs.errors import MemoryExhaustedError
from configs.progress import say
from configs.prompts import Branch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEAD_ELEMENTS = 2**26
"""Logits held at once, 256 MB in float32."""
ALIKE = 1e-2
"""Largest difference, in nats, between a shortcut and the plain forward pass in the probe: room for bfloat16."""


class Rows(NamedTuple):
    """Padded token ids, and which of their positions are scored for which next token."""

    ids_BT: Tensor
    mask_BT: Tensor
    row_S: list[int]
    at_S: list[int]
    target_S: list[int]


class Scorer:
    """A loaded model, and its adapter where there is one; `using` says which of the two answers."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, wrapper: Any = None) -> None:
        self.model, self.tokenizer, self.wrapper = model.eval(), tokenizer, wrapper
        self.device, self.decoder = model.device, model.get_decoder()
        self.tokens = 0
        """Tokens forwarded so far."""
        config = model.config.get_text_config()
        self.room = _room(config, tokenizer)
        """Tokens of context that the model can read."""
        self.vocabulary = int(config.vocab_size)
        self.scale = float(getattr(config, "logit_scale", None) or 1) / float(getattr(config, "logits_scaling", 0) or 1)
        self.cap = getattr(config, "final_logit_softcapping", None)
        self.stops = _stops(model, tokenizer)
        self._probe(config)

    @property
    def engine(self) -> str:
        """What computes: number format and kind of device."""
        return f"{str(self.model.dtype).removeprefix('torch.')} on {self.device.type}"

    @contextmanager
    def using(self, which: str) -> Iterator[Scorer]:
        """Answer as `base` (the adapter is switched off) or as `tuned`."""
        off = self.wrapper.disable_adapter() if self.wrapper is not None and which == "base" else nullcontext()
        with off, torch.inference_mode():
            yield self

    # ------------------------------------------------------------ log-likelihoods

    def loglikelihoods(self, branches: Sequence[Branch], budget: int = 16384) -> list[list[float]]:
        """The log-likelihood, in nats, of every follower of every branch, given the branch's context.

        At most `budget` tokens go through the model at once, padding included, unless one branch alone is longer.

        Raises:
            MemoryExhaustedError: one branch alone does not fit into memory.
        """
        spared = sum(len(branch.context) * (len(branch.followers) - 1) for branch in branches)
        answers = sum(len(follower) for branch in branches for follower in branch.followers)
        shared = self.shares and spared > answers
        way = self._shared if shared else partial(self._plain, score=self.score)
        costs = [_cost(branch, shared=shared) for branch in branches]
        parts = [[branches[at] for at in part] for part in by_budget(costs, budget)]
        return [values for part in parts for values in self._halving(way, part)]

    def _plain(self, branches: Sequence[Branch], score: Callable[[Rows], Tensor]) -> list[list[float]]:
        """One forward pass of context + follower for every follower."""
        whole = [(branch.context + follower, len(follower)) for branch in branches for follower in branch.followers]
        row_S, at_S, target_S = list[int](), list[int](), list[int]()
        for row, (ids, scored) in enumerate(whole):
            row_S += [row] * scored
            at_S += range(len(ids) - scored - 1, len(ids) - 1)
            target_S += ids[-scored:]
        values_S = score(Rows(*self._padded([ids[:-1] for ids, _ in whole]), row_S, at_S, target_S))
        sums = torch.zeros(len(whole), dtype=torch.float64).index_add_(0, torch.tensor(row_S), values_S).tolist()
        self.tokens += sum(len(ids) - 1 for ids, _ in whole)
        found = iter(sums)
        return [[next(found) for _ in branch.followers] for branch in branches]

    def _gathered(self, rows: Rows) -> Tensor:
        """Log-probabilities of the targets; the head sees only the scored positions."""
        out = self.decoder(input_ids=rows.ids_BT, attention_mask=rows.mask_BT, use_cache=False)
        return self._scored(out.last_hidden_state[rows.row_S, rows.at_S], rows.target_S)

    def _whole(self, rows: Rows) -> Tensor:
        """The same by the model's own logits at every position: for families with heads that we do not know."""
        logits_BTV = self.model(input_ids=rows.ids_BT, attention_mask=rows.mask_BT, use_cache=False).logits
        return _picked(logits_BTV[rows.row_S, rows.at_S], torch.tensor(rows.target_S, device=self.device))

    def _shared(self, branches: Sequence[Branch]) -> list[list[float]]:
        """One forward pass of the contexts, then one of each answer's tokens after the first, over the kept cache."""
        contexts = [branch.context for branch in branches]
        hidden_BE, cache, mask_BT = self._read(contexts)
        firsts = [[(row, follower[0]) for follower in branch.followers] for row, branch in enumerate(branches)]
        row_S, target_S = zip(*(pair for pairs in firsts for pair in pairs), strict=True)
        first = iter(self._scored(hidden_BE[list(row_S)], target_S).tolist())
        sums = [[next(first) for _ in branch.followers] for branch in branches]
        lengths = torch.tensor([len(context) for context in contexts], device=self.device)
        for choice in range(max(len(branch.followers) for branch in branches)):
            rests = [branch.followers[choice][:-1] if choice < len(branch.followers) else [] for branch in branches]
            width = max(map(len, rests))
            if not width:
                continue
            hidden_BTE = self._go_on(rests, lengths, mask_BT, cache)
            cache.crop(-width)
            at = [(row, position) for row, rest in enumerate(rests) for position in range(len(rest))]
            targets = [branches[row].followers[choice][position + 1] for row, position in at]
            row_S, at_S = zip(*at, strict=True)
            values = self._scored(hidden_BTE[list(row_S), list(at_S)], targets).tolist()
            for row, value in zip(row_S, values, strict=True):
                sums[row][choice] += value
        return sums

    def _read(self, contexts: Sequence[list[int]]) -> tuple[Tensor, Any, Tensor]:
        """Forward the contexts: the hidden state after each one's last token, the cache, the mask of real tokens."""
        ids_BT, mask_BT = self._padded(contexts)
        out = self.decoder(input_ids=ids_BT, attention_mask=mask_BT, position_ids=_positions(mask_BT), use_cache=True)
        last_B = [len(context) - 1 for context in contexts]
        self.tokens += sum(map(len, contexts))
        return out.last_hidden_state[range(len(contexts)), last_B], out.past_key_values, mask_BT

    def _go_on(self, rests: Sequence[list[int]], lengths_B: Tensor, mask_BT: Tensor, cache: Any) -> Tensor:
        """Forward more tokens of every row after its context; the cache grows by their padded width."""
        ids_BT, more_BT = self._padded(rests)
        positions_BT = lengths_B[:, None] + torch.arange(ids_BT.shape[1], device=self.device)
        out = self.decoder(
            input_ids=ids_BT,
            attention_mask=torch.cat([mask_BT, more_BT], dim=1),
            position_ids=positions_BT,
            past_key_values=cache,
            use_cache=True,
        )
        self.tokens += sum(map(len, rests))
        hidden_BTE: Tensor = out.last_hidden_state
        return hidden_BTE

    def _padded(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Rows of ids as [B, T], padded on the right, and 1 where a token is real."""
        width = max(map(len, rows))
        ids = [row + [0] * (width - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)

    def _scored(self, hidden_SE: Tensor, targets: Sequence[int]) -> Tensor:
        """Log-probability of each target after its hidden state, float64 on the CPU; the head goes in pieces."""
        head = self.model.get_output_embeddings()
        target_S = torch.tensor(targets, device=self.device)
        step = max(1, HEAD_ELEMENTS // self.vocabulary)
        pieces = zip(hidden_SE.split(step), target_S.split(step), strict=True)
        return torch.cat([_picked(self._capped(head(hidden_E)), target) for hidden_E, target in pieces])

    def _capped(self, logits: Tensor) -> Tensor:
        """Logits with the factor and the soft cap of families that have them (Cohere, Granite, Gemma)."""
        scaled = logits.float() * self.scale
        return scaled if self.cap is None else torch.tanh(scaled / self.cap) * self.cap

    # ------------------------------------------------------------ texts

    def texts(self, contexts: Sequence[list[int]], until: Sequence[str], most: int) -> list[str]:
        """The greedy continuation of every context, up to the end mark, the first of `until`, or `most` tokens.

        Raises:
            MemoryExhaustedError: one context alone does not fit into memory.
        """
        way = self._generate if self.shares else self._generate_alone
        return self._halving(partial(way, until=until, most=most), contexts)

    def _generate_alone(self, contexts: Sequence[list[int]], until: Sequence[str], most: int) -> list[str]:
        """One text after another, by the model's own `generate`."""
        texts = []
        for context in contexts:
            ids_1T = torch.tensor([context], device=self.device)
            out = self.model.generate(ids_1T, do_sample=False, max_new_tokens=most, eos_token_id=list(self.stops))
            texts.append(_cut(str(self.tokenizer.decode(out[0, len(context) :], skip_special_tokens=True)), until))
            self.tokens += int(out.shape[1]) - 1
        return texts

    def _generate(self, contexts: Sequence[list[int]], until: Sequence[str], most: int) -> list[str]:
        hidden_BE, cache, mask_BT = self._read(contexts)
        lengths_B = torch.tensor([len(context) for context in contexts], device=self.device)
        texts, grown = [""] * len(contexts), [list[int]() for _ in contexts]  # finished rows leave the batch
        alive = list(range(len(contexts)))
        for step in range(most):
            chosen = self._capped(self.model.get_output_embeddings()(hidden_BE)).argmax(-1).tolist()
            kept = []
            for position, (row, token) in enumerate(zip(alive, chosen, strict=True)):
                if token in self.stops:
                    continue
                grown[row].append(token)
                texts[row] = str(self.tokenizer.decode(grown[row], skip_special_tokens=True))
                if not any(stop in texts[row] for stop in until):
                    kept.append(position)
            alive = [alive[position] for position in kept]
            if not alive or step == most - 1:
                break
            if len(kept) < len(chosen):
                keep = torch.tensor(kept, device=self.device)
                cache.batch_select_indices(keep)
                mask_BT, lengths_B = mask_BT[keep], lengths_B[keep]
            hidden_BE = self._go_on([grown[row][-1:] for row in alive], lengths_B + step, mask_BT, cache)[:, -1]
            mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(alive), 1)], dim=1)
        return [_cut(text, until) for text in texts]

    # ------------------------------------------------------------ safety

    def _halving(self, work: Callable[[Any], list[Any]], batch: Sequence[Any]) -> list[Any]:
        """Do a batch, in halves where memory does not suffice."""
        try:
            return work(batch)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise MemoryExhaustedError(
                    "out of memory while scoring a single item",
                    hint="Use a smaller base, shorter prompts (evaluate.shots), or a machine with more memory.",
                ) from error
        half = len(batch) // 2
        return self._halving(work, batch[:half]) + self._halving(work, batch[half:])

    def _probe(self, config: Any) -> None:
        """Compare the shortcuts with the plain forward pass on a small batch; what differs is not used, and said."""
        ids = [(17 * position + 3) % self.vocabulary for position in range(16)]
        probe = [Branch(ids[:9], [ids[9:12], ids[12:13]]), Branch(ids[2:6], [ids[6:8], ids[8:12]])]
        with torch.inference_mode():
            plain = self._plain(probe, self._whole)
            gathers = _agree(partial(self._plain, probe, self._gathered), plain)
            self.score = self._gathered if gathers else self._whole
            sliding = "sliding_attention" in (getattr(config, "layer_types", None) or ())
            self.shares = gathers and not sliding and _agree(partial(self._shared, probe), plain)
        if not self.shares:
            say(f"  {config.model_type}: every answer is read with its whole prompt (the cache of this family differs)")
        self.tokens = 0


def by_budget(costs: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Positions in groups, in order, so that a group's size times its largest cost stays within the budget.

    >>> list(by_budget([3, 3, 5, 9], 10))
    [[0, 1], [2], [3]]
    """
    group, largest = list[int](), 0
    for position, cost in enumerate(costs):
        if group and (len(group) + 1) * max(largest, cost) > budget:
            yield group
            group, largest = [], 0
        group.append(position)
        largest = max(largest, cost)
    if group:
        yield group


def _cost(branch: Branch, *, shared: bool) -> int:
    """Tokens of a branch that go through the model, its context once or once per follower."""
    times = 1 if shared else len(branch.followers)
    return times * len(branch.context) + sum(map(len, branch.followers))


def _positions(mask_BT: Tensor) -> Tensor:
    return (mask_BT.cumsum(dim=1) - 1).clamp(min=0)


def _picked(logits_SV: Tensor, target_S: Tensor) -> Tensor:
    """Log-probability of each target: float32 softmax, float64 on the CPU for the sums."""
    logits_SV = logits_SV.float()
    value_S = logits_SV.gather(1, target_S[:, None])[:, 0] - logits_SV.logsumexp(dim=1)
    return value_S.double().cpu()


def _agree(way: Callable[[], list[list[float]]], plain: list[list[float]]) -> bool:
    """Whether a shortcut gives the plain values; one that this family refuses does not."""
    try:
        values = way()
    except (TypeError, ValueError, AttributeError, NotImplementedError, RuntimeError):
        return False
    ours, theirs = ([value for row in rows for value in row] for rows in (values, plain))
    return all(abs(our - their) < ALIKE for our, their in zip(ours, theirs, strict=True))


def _cut(text: str, until: Sequence[str]) -> str:
    """The text before the first of `until`."""
    return text[: min((text.find(stop) for stop in until if stop in text), default=len(text))]


def _room(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that a model can read at once; 2048 where neither config nor tokenizer says."""
    named = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "n_ctx")]
    stated = next((int(value) for value in named if value), None)
    if stated is None and tokenizer.model_max_length < 10**9:
        stated = int(tokenizer.model_max_length)
    return stated or 2048


def _stops(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The token ids that end a text: the tokenizer's and the model's own."""
    own = model.generation_config.eos_token_id if model.generation_config is not None else None
    several = own if isinstance(own, list) else [own]
    return frozenset(int(stop) for stop in (*several, tokenizer.eos_token_id) if stop is not None)
