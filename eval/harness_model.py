"""Any engine of ours as the model of lm-evaluation-harness.

Requests that share a context are one branch, and contexts begin with the same worked examples, so that what our scorer
spares is spared here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lm_eval.api.model import LM

from configs.errors import DataError
from configs.prompts import Branch, Encoder, fitted, windows
from eval.engine import BUDGET
from eval.sharing import beginning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lm_eval.api.instance import Instance

    from eval.engine import Engine

LENGTH = 256
"""Tokens that lm-eval lets a task generate where it does not say (`HFLM.max_gen_toks`, 0.4.13)."""


class Asked(NamedTuple):
    """What a model was asked for one row."""

    branches: list[Branch]
    truncated: bool


class OurModel(LM):  # type: ignore[misc]
    """An engine of ours, as lm-eval asks a model."""

    def __init__(self, engine: Engine, *, budget: int = BUDGET, chat: bool = False, greedy: bool = False) -> None:
        super().__init__()
        self.engine, self.budget, self.chat, self.greedy = engine, budget, chat, greedy
        self.encode = Encoder(engine.tokenizer)
        self.asked: dict[tuple[str, int], Asked] = {}
        """What was asked, by task and row."""

    @property
    def tokenizer_name(self) -> str:
        """Part of the key of lm-eval's cache, which is never used here."""
        return str(self.engine.tokenizer.name_or_path)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The question as it is: the template comes around its tokens, as it does in training."""
        return "".join(turn["content"] for turn in chat_history)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The log-likelihood of every continuation, and with `greedy` whether the model would write it itself."""
        groups: dict[tuple[str, int, str], list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault((*_row(request), request.args[0]), []).append(place)
        contexts = [context for _, _, context in groups]
        answers = [[requests[place].args[1] for place in places] for places in groups.values()]
        branches = self.encode.turns(contexts, answers) if self.chat else self.encode.pairs(contexts, answers)
        fit = [fitted(branch, self.engine.room) for branch in branches]
        for (task, row, _), (kept, cut) in zip(groups, fit, strict=True):
            before = self.asked.get((task, row), Asked([], truncated=False))
            self.asked[task, row] = Asked(before.branches + kept, before.truncated or cut)
        values = self._scored([(branch, cut) for kept, cut in fit for branch in kept])
        found = [(float("-inf"), False)] * len(requests)
        scored = iter(values)
        for places, (kept, _) in zip(groups.values(), fit, strict=True):
            for branch in kept:
                likely = next(scored)
                greedy = self._greedy(branch) if self.greedy else [False] * len(likely)
                for place, value, chosen in zip(places, likely, greedy, strict=True):
                    found[place] = (value, chosen)
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of every whole text, in windows of the model's context."""
        ids = self.encode.plain([request.args[0] for request in requests])
        cut = [windows(own, self.encode.start, self.engine.room) if own else [] for own in ids]
        for request, branches in zip(requests, cut, strict=True):
            self.asked[_row(request)] = Asked(branches, truncated=False)
        values = iter(self._scored([(branch, len(branches) > 1) for branches in cut for branch in branches]))
        return [sum(sum(next(values)) for _ in branches) for branches in cut]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The greedy continuation of every context.

        Raises:
            DataError: a task wants texts that are drawn at random.
        """
        contexts = [request.args[0] for request in requests]
        if self.chat:
            plain = [branch.context for branch in self.encode.turns(contexts, [()] * len(contexts))]
        else:
            plain = [self.encode.front + ids or [self.encode.start] for ids in self.encode.plain(contexts)]
        batches: dict[tuple[tuple[str, ...], int], list[tuple[int, list[int]]]] = {}
        for place, (request, ids) in enumerate(zip(requests, plain, strict=True)):
            until, most = _generation(request)
            kept, cut = fitted(Branch(ids, []), self.engine.room - most)
            self.asked[_row(request)] = Asked(kept, cut)
            batches.setdefault((until, most), []).extend((place, branch.context) for branch in kept)
        texts = [""] * len(requests)
        for (until, most), batch in batches.items():
            given = [context for _, context in batch]
            written = self.engine.texts(given, until, most, beginning(given), self.budget) if given else []
            for (place, _), text in zip(batch, written, strict=True):
                texts[place] = text
        return texts

    def _scored(self, branches: Sequence[tuple[Branch, bool]]) -> list[list[float]]:
        """Log-likelihoods of branches; those that were cut apart, since they begin with nothing that others do."""
        found: list[list[float]] = [[] for _ in branches]
        for part in (False, True):
            places = [place for place, (_, cut) in enumerate(branches) if cut == part]
            given = [branches[place][0] for place in places]
            shared = beginning([branch.context for branch in given])
            values = self.engine.loglikelihoods(given, self.budget, shared) if given else []
            for place, value in zip(places, values, strict=True):
                found[place] = value
        return found

    def _greedy(self, branch: Branch) -> list[bool]:
        """Whether the model, left alone, would write each follower."""
        told = []
        for follower in branch.followers:
            [text] = self.engine.texts([branch.context], (), len(follower))
            told.append(text == str(self.engine.tokenizer.decode(follower, skip_special_tokens=True)))
        return told


def _row(request: Instance) -> tuple[str, int]:
    return str(request.task_name), int(request.doc_id or 0)


def _generation(request: Instance) -> tuple[tuple[str, ...], int]:
    """Where a text ends and how many tokens it may have; lm-eval's names for the latter, in its order."""
    asked: Mapping[str, Any] = request.args[1]
    if asked.get("do_sample") or (asked.get("do_sample") is None and float(asked.get("temperature") or 0) > 0):
        raise DataError(
            f"the task draws its texts at random ({', '.join(f'{key}: {asked[key]}' for key in sorted(asked))})",
            where=str(request.task_name),
            hint="Our scorer writes greedily. Run this task by lm-eval's own model.",
        )
    until = asked.get("until") or ()
    names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
    most = next((int(asked[name]) for name in names if asked.get(name) is not None), LENGTH)
    return ((until,) if isinstance(until, str) else tuple(stop for stop in until if stop)), most
