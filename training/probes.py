"""Quick task probes: a few multiple-choice questions answered with the weights in training, at every look.

They show whether a task moves, long before the evaluation; they choose nothing. Items come from a task's `fewshot_split`,
never from its test: a curve that people steer by must not see that. Where the split is among the corpora, a probe shows
what was learnt by heart too.
"""

# N documents (one for each choice), S scored positions

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from configs.base import load_tokenizer
from configs.errors import RecipeError
from configs.items import read_items
from configs.load import load_task
from configs.prompts import prompts
from configs.vocabulary import base_of
from training.batches import Batch, packed
from training.objective import by_document

if TYPE_CHECKING:
    from configs.job import Job
    from configs.prompts import Branch, Prompt
    from training.model import PackedModel


@dataclass(frozen=True)
class Probe:
    """A task's items as packed batches, and where each item's choices stand in them."""

    name: str
    batches: tuple[Batch, ...]
    choices: tuple[tuple[int, ...], ...]
    """For each batch, how many choices each of its items has: they stand in a row."""
    gold: tuple[tuple[int, ...], ...]

    def accuracy(self, model: PackedModel) -> float:
        """Part of the items whose right choice has the highest log-likelihood; call it in evaluation mode."""
        right = total = 0
        device = next(model.parameters()).device
        for batch, sizes, golds in zip(self.batches, self.choices, self.gold, strict=True):
            there = batch.to(device)
            nats_N = by_document(model(there, each=True), there).tolist()
            start = 0
            for size, gold in zip(sizes, golds, strict=True):
                own = nats_N[start : start + size]
                right += min(range(size), key=own.__getitem__) == gold
                total, start = total + 1, start + size
        return right / total


def probes(job: Job) -> list[Probe]:
    """The probes of a recipe.

    Raises:
        RecipeError: a task is not multiple choice, has no split to take items from, or none of them fits a row.
        DataError: its data cannot be read.
    """
    train = job.recipe.train
    if not train.probes:
        return []
    tokenizer = load_tokenizer(base_of(job, weights=False))
    chat = job.recipe.prepare.form == "chat" and any(source.text is None for source in job.recipe.corpora)
    found = []
    for name in train.probes:
        task, roots = load_task(name, job.roots)
        if task.output_type != "multiple_choice" or task.fewshot_split is None:
            raise RecipeError(
                f"{name} is no multiple-choice task with a fewshot_split",
                where="train.probes",
                hint="Probes take their items from that split, so that the test stays unseen.",
            )
        items, _ = read_items(task, task.fewshot_split, roots, limit=train.probe_items, seed=job.recipe.seed)
        asked = prompts(task, items, task.description, tokenizer, job.recipe.prepare.sequence_length, chat=chat)
        fitting = [it for it in asked if it.branches]
        if not fitting:
            raise RecipeError(
                f"none of the {len(items)} items of {name} fits {job.recipe.prepare.sequence_length} tokens",
                where="train.probes",
                hint="Raise prepare.sequence_length, or leave this probe out.",
            )
        found.append(_probe(task.task, fitting, train.micro_batch_tokens))
    return found


def _probe(name: str, asked: list[Prompt], most_tokens: int) -> Probe:
    batches, choices, gold = [], [], []
    group: list[Prompt] = []
    filled = 0
    for prompt in [*asked, None]:
        size = 0 if prompt is None else sum(len(branch.context) + len(it) for branch, it in _answers(prompt))
        if group and (prompt is None or filled + size > most_tokens):
            batches.append(packed([_document(*it) for own in group for it in _answers(own)]))
            choices.append(tuple(len(_answers(own)) for own in group))
            gold.append(tuple(own.item.gold or 0 for own in group))
            group, filled = [], 0
        if prompt is not None:
            group.append(prompt)
            filled += size
    return Probe(name, tuple(batches), tuple(choices), tuple(gold))


def _answers(prompt: Prompt) -> list[tuple[Branch, list[int]]]:
    return [(branch, follower) for branch in prompt.branches for follower in branch.followers]


def _document(branch: Branch, follower: list[int]) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.array([*branch.context, *follower], np.int64)
    return tokens, np.arange(len(tokens)) >= len(branch.context)


def scores(found: list[Probe], model: PackedModel) -> dict[str, float]:
    """The accuracy of each probe."""
    with torch.no_grad():
        return {probe.name: round(probe.accuracy(model), 6) for probe in found}
