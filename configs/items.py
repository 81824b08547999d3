"""A task's rows become items: rendered, checked and known by a digest. Corpus (for leaks) and scorer read the same ones.

A row that cannot be scored rightly is refused and counted with its reason; nothing is guessed in silence.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.errors import DataError, RecipeError
from configs.splits import LOCAL, rows_of, split_files
from configs.store import digest_json, hashed
from configs.template import template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from configs.task import Task

__all__ = ["LOCAL", "Item", "read_items", "split_files"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


SETS = {"letters_match": ", ", "span_f1": "; "}
"""Metrics of sets, with what stands between the members of one answer."""


@dataclass(frozen=True)
class Item:
    """One question: what the model sees, what it may answer, and what is right."""

    digest: str
    """sha256 of text, choices and target."""
    row: int
    """Position among the rows of its split, refused ones included."""
    text: str
    choices: tuple[str, ...]
    target: str
    """The right answer as text; the right choice's text where there are choices."""
    gold: int | None
    """Position of the right choice."""
    cluster: str
    """Items with the same cluster are one independent observation."""
    leak: str = ""
    """What a training document must not hold."""
    subject: str = ""
    """The part of the task that it belongs to; empty where the task names none."""
    accepted: tuple[str, ...] = ()
    """All right answers, the target first, where there are several."""

    def passage(self) -> str:
        """All text of the item that would be a leak."""
        return self.leak


class _Draft(NamedTuple):
    row: int
    text: str
    choices: tuple[str, ...]
    target: str
    cluster: str
    leak: str
    subject: str
    accepted: tuple[str, ...]


def read_items(
    task: Task, split: str, roots: tuple[Path, ...], *, limit: int | None = None, seed: int = 0
) -> tuple[list[Item], Counter[str]]:
    """The items of a split in the order of its rows, and how many rows were refused for which reason.

    With `limit`, the items with the smallest hash of (seed, task, digest) are taken.

    Raises:
        DataError: no such split, a missing column, a file that differs from its sha256, or no items left.
        UnsafeArtefactError: a file lies outside of the roots.
    """
    refused: Counter[str] = Counter()
    drafts = []
    for row, fields in enumerate(rows_of(task, split, roots, refused)):
        draft = _draft(task, row, fields)
        if isinstance(draft, str):
            refused[draft] += 1
        else:
            drafts.append(draft)
    items = _distinct(_items(task, drafts, refused), refused)
    if not items:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in refused.most_common()) or "the files hold no rows"
        raise DataError(f"task {task.task} has no items in its split {split} ({reasons})", where=task.task)
    if limit is not None and limit < len(items):
        chosen = sorted(items, key=lambda item: hashed(seed, f"limit {task.task}", item.digest))[:limit]
        items = sorted(chosen, key=lambda item: item.row)
    return items, refused


# ---------------------------------------------------------------- items


def _draft(task: Task, row: int, fields: Mapping[str, Any]) -> _Draft | str:
    """A rendered row whose gold is not resolved yet, or the reason why it cannot be one."""
    text = _filled(task, "doc_to_text", row, fields)
    choices: tuple[str, ...] = ()
    if isinstance(task.doc_to_choice, str):
        listed = _listed(_filled(task, "doc_to_choice", row, fields))
        if listed is None:
            return "choices are not a list"
        choices = listed
    elif task.doc_to_choice:
        choices = task.doc_to_choice
    if task.output_type == "multiple_choice":
        if len(choices) < 2 or not all(choice.strip() for choice in choices):
            return "empty choices"
        if len(set(choices)) < len(choices):
            return "repeated choices"
    elif not text.strip():
        return "empty text"
    target = _filled(task, "doc_to_target", row, fields)
    accepted: tuple[str, ...] = ()
    if task.output_type == "generate_until" and task.doc_to_choice is None:
        target, accepted = _expected(task, target)
        if not target.strip():
            return "empty answer"
    cluster = _filled(task, "cluster", row, fields) if task.cluster else digest_json([text, choices])
    if task.doc_to_decontamination_query:
        leak = _filled(task, "doc_to_decontamination_query", row, fields)
    else:
        own = choices if isinstance(task.doc_to_choice, str) else ()
        answer = (accepted or (target,)) if task.output_type == "generate_until" else ()
        leak = "\n".join((text, *own, *answer))
    subject = _filled(task, "subject", row, fields).strip()
    return _Draft(row, text, choices, target, cluster, leak, subject, accepted)


def _filled(task: Task, key: str, row: int, fields: Mapping[str, Any]) -> str:
    """What the template under a key of the task makes of a row; nothing without a template.

    Raises:
        RecipeError: it is not valid Jinja.
        DataError: it asks for a column that the row lacks, or cannot be filled.
    """
    text = getattr(task, key)
    try:
        return template(text)(fields) if text else ""
    except (RecipeError, DataError) as error:
        where = f"{task.task}: {key}, row {row + 1}"
        raise type(error)(error.message, where=where, hint=error.hint) from error


def _expected(task: Task, rendered: str) -> tuple[str, tuple[str, ...]]:
    """The text that is shown in worked examples, and all that are right where a list was rendered."""
    listed = _listed(rendered) if rendered.lstrip().startswith("[") else None
    if listed is None:
        return rendered, ()
    between = next((SETS[entry.metric] for entry in task.metric_list if entry.metric in SETS), None)
    if between is not None:  # the members of one answer, not answers to choose from
        return between.join(listed) or ("none" if between == SETS["span_f1"] else ""), ()
    return (listed[0], listed) if listed else ("", ())


def _listed(rendered: str) -> tuple[str, ...] | None:
    """A rendered list: JSON (`{{ choices | tojson }}`), or Python's form as lm-evaluation-harness has it."""
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(rendered)
        except (ValueError, SyntaxError):
            continue
        if isinstance(value, list):
            return tuple("" if choice is None else str(choice) for choice in value)
    return None


def _as_text(target: str, choices: tuple[str, ...]) -> int | None:
    return choices.index(target) if target in choices else None


def _as_index(target: str, choices: tuple[str, ...]) -> int | None:
    return int(target) if target.isascii() and target.isdigit() and int(target) < len(choices) else None


def _as_letter(target: str, choices: tuple[str, ...]) -> int | None:
    position = LETTERS.find(target) if len(target) == 1 else -1
    return position if 0 <= position < len(choices) else None


READINGS: tuple[Callable[[str, tuple[str, ...]], int | None], ...] = (_as_text, _as_index, _as_letter)
"""How a target names the right choice. One reading holds for all rows of a split, the one that resolves the most:
a question whose choices happen to be letters or numbers is never read in its own way."""


def _items(task: Task, drafts: list[_Draft], refused: Counter[str]) -> Iterator[Item]:
    """Resolve the gold of every row, by the same reading for all of them."""
    if task.doc_to_choice is None:
        for draft in drafts:
            yield _item(draft, draft.target, None)
        return
    named = [[reading(draft.target.strip(), draft.choices) for draft in drafts] for reading in READINGS]
    golds = max(named, key=lambda golds: sum(gold is not None for gold in golds))
    for draft, gold in zip(drafts, golds, strict=True):
        if gold is None:
            refused["gold outside the choices"] += 1
        else:
            yield _item(draft, draft.choices[gold], gold)


def _item(draft: _Draft, target: str, gold: int | None) -> Item:
    digest = digest_json([draft.text, draft.choices, *(draft.accepted or (target,))])
    place = (draft.cluster, draft.leak, draft.subject, draft.accepted)
    return Item(digest, draft.row, draft.text, draft.choices, target, gold, *place)


def _distinct(items: Iterator[Item], refused: Counter[str]) -> list[Item]:
    """The first item of each digest; the others are counted."""
    kept: dict[str, Item] = {}
    for item in items:
        if item.digest in kept:
            refused["duplicate item"] += 1
        else:
            kept[item.digest] = item
    return list(kept.values())
