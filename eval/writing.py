"""Greedy texts in batches: what contexts share is read once, and a text that is finished leaves the batch.

Keys and values of a text's own tokens stand in one block of memory for each layer, with room for all that may come.
"""

# B texts, T tokens, K key-value heads, W columns, D head width, E width

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from configs.prompts import Branch
from eval.attention import Layers, Pass, opened
from eval.sharing import Group, by_width, columns_of, packed, width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from eval.scorer import Scorer

FINISHED = 0.25
"""Part of a batch that must be finished before the others are moved together, which costs about a step."""


class Growth:
    """Texts that grow side by side, one token each at a time."""

    def __init__(
        self, scorer: Scorer, contexts: Sequence[list[int]], groups: list[Group], shared: int, most: int
    ) -> None:
        self.scorer, self.shared = scorer, shared
        self.kept = scorer.read(contexts[0][:shared])
        bare = [Branch(context, []) for context in contexts]
        longest = max(len(contexts[member]) for group in groups for member in group.members) - shared
        found = []
        costs = [width(bare, group, shared) for group in groups]
        for part in by_width(costs, len(costs) * max(costs)):
            found.append(self._begin(bare, [groups[at] for at in part], longest + most))
        self.members = [member for members, *_ in found for member in members]
        """Which of the contexts these are."""
        self.at_B = torch.tensor([len(contexts[member]) - shared for member in self.members], device=scorer.device)
        """Tokens of each text, and so the column of its next one."""
        self.hidden_BE = torch.cat([hidden_BE for _, hidden_BE, _ in found])
        """State after the last token of each text."""
        self.layers = [_side_by_side(parts) for parts in zip(*(layers for *_, layers in found), strict=True)]

    def _begin(self, bare: Sequence[Branch], groups: list[Group], wide: int) -> tuple[list[int], Tensor, Layers]:
        """Read the contexts of some groups: which they are, the state after each, and their keys and values."""
        scorer, shared = self.scorer, self.shared
        rows = packed(bare, groups, shared)
        with opened(Pass(self.kept, scorer.added(rows.seen_BTT), fused=scorer.fused)) as current:
            hidden_BTE = scorer.forward(rows.ids_BT, rows.positions_BT)
        scorer.tokens += rows.tokens
        places = columns_of(groups, [branch.context for branch in bare], shared)
        hidden_BE = hidden_BTE[[row for _, row, _ in places], [columns[-1] for *_, columns in places]]
        return [member for member, _, _ in places], hidden_BE, _apart(current.read, places, wide)

    def step(self, tokens: Sequence[int]) -> None:
        """Append a token to every text."""
        device, wide = self.scorer.device, int(self.at_B.max()) + 1
        unseen_BW = torch.arange(wide, device=device) > self.at_B[:, None]
        mask = self.scorer.added(~unseen_BW[:, None])
        ids_B1, positions_B1 = torch.tensor(tokens, device=device)[:, None], (self.shared + self.at_B)[:, None]
        with opened(Pass(self.kept, mask, self.layers, self.at_B, fused=self.scorer.fused)):
            self.hidden_BE = self.scorer.forward(ids_B1, positions_B1)[:, -1]
        self.scorer.tokens += len(tokens)
        self.at_B = self.at_B + 1

    def keep(self, positions: Sequence[int]) -> None:
        """Only these texts go on."""
        chosen = torch.tensor(positions, device=self.scorer.device)
        self.layers = [(keys[chosen], values[chosen]) for keys, values in self.layers]
        self.at_B, self.hidden_BE = self.at_B[chosen], self.hidden_BE[chosen]


def _apart(read: Layers, places: Sequence[tuple[int, int, list[int]]], wide: int) -> Layers:
    """Keys and values of rows that hold several contexts as one block for each context, [B, K, W, D]."""
    device, longest = read[0][0].device, max(len(columns) for *_, columns in places)
    rows_B1 = torch.tensor([row for _, row, _ in places], device=device)[:, None]
    columns_BT = torch.tensor([columns + [0] * (longest - len(columns)) for *_, columns in places], device=device)

    def block(part: Tensor) -> Tensor:
        room = part.new_zeros(len(places), part.shape[1], wide, part.shape[-1])
        room[:, :, :longest] = part.transpose(1, 2)[rows_B1, columns_BT].transpose(1, 2)
        return room

    return [(block(keys), block(values)) for keys, values in read]


def _side_by_side(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """One layer's keys and values of all parts."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat([keys for keys, _ in parts]), torch.cat([values for _, values in parts])


def write(growth: Growth, until: Sequence[str], most: int) -> list[str]:
    """The greedy continuation of every context, up to the end mark, the first of `until`, or `most` tokens."""
    scorer, count = growth.scorer, len(growth.at_B)
    texts, grown = [""] * count, [list[int]() for _ in range(count)]
    batch, alive = list(range(count)), set(range(count))
    for step in range(most):
        for text, token in zip(batch, scorer.next_tokens(growth.hidden_BE), strict=True):
            if text not in alive:
                continue
            if token in scorer.stops:
                alive.discard(text)
                continue
            grown[text].append(token)
            texts[text] = str(scorer.tokenizer.decode(grown[text], skip_special_tokens=True))
            if any(stop in texts[text] for stop in until):
                alive.discard(text)
        if not alive or step == most - 1:
            break
        if len(alive) <= (1 - FINISHED) * len(batch):
            growth.keep([position for position, text in enumerate(batch) if text in alive])
            batch = [text for text in batch if text in alive]
        growth.step([grown[text][-1] if grown[text] else 0 for text in batch])
    return [cut(text, until) for text in texts]


def write_alone(scorer: Scorer, contexts: Sequence[list[int]], until: Sequence[str], most: int) -> list[str]:
    """One text after another, by the model's own `generate`."""
    texts = []
    for context in contexts:
        ids_1T = torch.tensor([context], device=scorer.device)
        out = scorer.model.generate(
            ids_1T,
            attention_mask=torch.ones_like(ids_1T),
            do_sample=False,
            max_new_tokens=most,
            eos_token_id=list(scorer.stops),
        )
        texts.append(cut(str(scorer.tokenizer.decode(out[0, len(context) :], skip_special_tokens=True)), until))
        scorer.tokens += int(out.shape[1]) - 1
    return texts


def cut(text: str, until: Sequence[str]) -> str:
    """The text before the first of `until`."""
    return text[: min((text.find(stop) for stop in until if stop in text), default=len(text))]
