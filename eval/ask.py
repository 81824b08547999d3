"""A task as it is asked: its items, its prompts, and the batches that they go to a model in.

Batches are a function of prompts and budget alone: the same for base and tuned, and the same after a stop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from configs.items import read_items
from configs.load import load_task
from configs.progress import say
from configs.prompts import Prompt, block, examples, prompts, unasked
from configs.splits import origin
from configs.store import digest_json, hashed
from eval.baselines import baselines
from eval.paired import foreseen_note

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from configs.items import Item
    from configs.prompts import Branch
    from configs.recipe import Evaluate
    from configs.task import Task

TWICE = 64
"""Items of a task that are asked a second time, at most."""
TWICE_PART = 32
"""Of the tokens of a task so many once more go into it: a few percent of the cost ..."""
TWICE_LEAST = 4
"""... but so many items at least, where there are."""


class Batch(NamedTuple):
    """Prompts that go to a model in one call."""

    prompts: list[Prompt]
    branches: list[Branch]
    """Those of all prompts, in order."""
    shared: int
    """First tokens that all of them share, and may be kept."""
    cost: int
    """Tokens that it holds of its own, a passage counted once."""

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt with its longest answer."""
        return max((len(b.context) + max(map(len, b.followers), default=0) for b in self.branches), default=0)

    @property
    def whole(self) -> int:
        """Tokens to be read where each answer has its whole context before it; an answer's last token need not be."""
        return sum(len(b.context) + max(len(it) - 1, 0) for b in self.branches for it in b.followers or [[]])


@dataclass
class Asked:
    """A task with its items, and the batches for one tokenizer."""

    task: Task
    items: list[Item]
    before: str
    """Description and worked examples."""
    baselines: dict[str, float]
    seed: int
    shown: list[Item] = field(default_factory=list)
    """The worked examples."""
    batches: list[Batch] = field(default_factory=list)
    again: list[Batch] = field(default_factory=list)
    """A small part of the items in batches of another shape."""
    made_for: tuple[str, int, bool, int] | None = None

    def fit(self, tokenizer: PreTrainedTokenizerBase, room: int, *, chat: bool, budget: int) -> None:
        """Make the batches for a tokenizer and a context of `room` tokens, unless they are there already."""
        wish = (fingerprint(tokenizer), room, chat, budget)
        if self.made_for == wish:
            return
        found = prompts(self.task, self.items, self.before, tokenizer, room, chat=chat)
        if cut := sum(prompt.truncated for prompt in found):
            say(
                f"  {self.task.task}: {cut} prompts lose their beginning to fit {room} tokens, and are read by themselves"
            )
        self.batches = batches_of(self.task, found, budget)
        self.again = self._again(found, budget)
        self.made_for = wish

    @property
    def shared(self) -> int:
        """Tokens of the beginning that is read once for the whole task."""
        return max((batch.shared for batch in self.batches), default=0)

    def _again(self, found: Sequence[Prompt], budget: int) -> list[Batch]:
        """Items with the smallest hash, in that order and so of mixed length, in half batches of half the budget."""
        whole = [prompt for prompt in found if prompt.branches and not prompt.truncated]
        order = sorted(whole, key=lambda p: hashed(self.seed, f"again {self.task.task}", p.item.digest))
        left = sum(batch.cost for batch in self.batches) // TWICE_PART
        costs = accumulate(_cost(self.task, prompt, self.shared) for prompt in order)
        many = sum(cost <= left for cost in costs)
        chosen = order[: min(TWICE, max(TWICE_LEAST, many))]
        middle = (len(chosen) + 1) // 2
        halves = [half for half in (chosen[:middle], chosen[middle:]) if half]
        shared = self.shared
        return [batch for half in halves for batch in _in_order(self.task, half, shared, budget // 2)]


def ask(name: str, roots: tuple[Path, ...], wish: Evaluate, seed: int) -> Asked:
    """Read a task's items and its worked examples.

    Raises:
        RecipeError: there is no such task, or its file is wrong.
        DataError: its data are missing, damaged or empty.
    """
    task, roots = load_task(name, roots)
    items, refused = read_items(task, task.test_split, roots, limit=wish.limit, seed=seed)
    everything = items if wish.limit is None else read_items(task, task.test_split, roots)[0]
    pool = read_items(task, task.fewshot_split, roots)[0] if task.fewshot_split else []
    free = unasked(pool, everything)
    shots = task.num_fewshot if wish.shots is None else wish.shots
    if task.output_type == "loglikelihood_rolling":
        shots = 0
    shown = examples(task, free, shots, seed)
    reasons = "".join(f", {count} {reason}" for reason, count in sorted(refused.items()))
    rows = f" of {place}" if (place := origin(task, roots)) else ""
    wished = f" of {shots}" if len(shown) < shots else ""
    say(f"  {task.task}: {len(items)} items{rows}, {len(shown)}{wished} worked examples{reasons}")
    if told := foreseen_note(task, items):
        say(f"  {told}")
    return Asked(task, items, block(task, shown), baselines(task, items, free, seed), seed, shown)


@lru_cache(maxsize=4)
def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """What makes two tokenizers give the same prompts: models of different families may have as many tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    own = backend.to_str() if backend is not None else f"{tokenizer.name_or_path} {len(tokenizer)}"
    return digest_json([own, tokenizer.chat_template, tokenizer.bos_token_id, tokenizer.eos_token_id])


def batches_of(task: Task, found: Sequence[Prompt], budget: int) -> list[Batch]:
    """All prompts in batches: questions about one passage side by side, short ones first; what was cut at its beginning
    shares none, and comes last."""
    from eval.sharing import beginning, groups_of

    alone = [prompt for prompt in found if len(prompt.branches) != 1 or prompt.truncated]
    like = [prompt for prompt in found if len(prompt.branches) == 1 and not prompt.truncated]
    branches = [prompt.branches[0] for prompt in like]
    shared = beginning([branch.context for branch in branches])
    order = [member for group in groups_of(branches, shared) for member in group.members]
    rest = sorted(range(len(alone)), key=lambda at: (_cost(task, alone[at], 0), at))
    return [
        *_in_order(task, [like[at] for at in order], shared, budget),
        *_in_order(task, [alone[at] for at in rest], 0, budget),
    ]


def _in_order(task: Task, found: Sequence[Prompt], shared: int, budget: int) -> list[Batch]:
    """Prompts in batches of at most `budget` tokens, the kept beginning among them."""
    from eval.sharing import by_budget, groups_of, width

    costs = [_cost(task, prompt, shared) for prompt in found]
    batches = []
    for part in by_budget(costs, max(1, budget - shared)):
        branches = [branch for at in part for branch in found[at].branches]
        rows = sum(width(branches, group, shared) for group in groups_of(branches, shared))
        grows = sum(costs[at] for at in part) if task.output_type == "generate_until" else 0
        batches.append(Batch([found[at] for at in part], branches, shared, max(rows, grows)))
    return batches


def _cost(task: Task, prompt: Prompt, shared: int) -> int:
    """Tokens that a prompt holds of its own, with what may be written."""
    grows = task.max_gen_toks if task.output_type == "generate_until" else 0
    return grows + sum(len(one.context) - shared + sum(map(len, one.followers)) for one in prompt.branches)
