"""A task's rows become items: rendered, checked and known by a digest. Corpus (for leaks) and scorer read the same ones.

A row that cannot be scored rightly is refused and counted with its reason; nothing is guessed in silence.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.errors import DataError, did_you_mean
from configs.job import find_files
from configs.store import digest_file, digest_json, hashed
from configs.template import template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from configs.task import Task

LOCAL = ("json", "csv", "parquet")
"""Values of `dataset_path` that mean: the files of `dataset_kwargs.data_files`, in any of our forms."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


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
    for row, fields in enumerate(_rows(task, split, roots, refused)):
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


def split_files(task: Task, split: str, roots: tuple[Path, ...]) -> list[Path]:
    """The local files that a split is made of; none for a data set of the hub.

    Raises:
        DataError: no such split or file.
    """
    paths = _paths(task, split) if task.dataset_path in LOCAL else ()
    keys = (task.keys[split],) if split in task.keys else ()
    return [file for path in (*paths, *keys) for file in find_files(path, roots)]


def _paths(task: Task, split: str) -> tuple[str, ...]:
    known = task.dataset_kwargs.data_files
    if split not in known:
        raise DataError(
            f"task {task.task} has no split {split}",
            where=f"{task.task}: dataset_kwargs.data_files",
            hint=did_you_mean(split, known) or f"It has: {', '.join(known) or 'none'}.",
        )
    paths = known[split]
    return (paths,) if isinstance(paths, str) else paths


# ---------------------------------------------------------------- rows


def _rows(task: Task, split: str, roots: tuple[Path, ...], refused: Counter[str]) -> Iterator[Mapping[str, Any]]:
    """The rows of a split that the task selects, as fields."""
    allowed = _keys(task, split, roots)
    found = _local_rows(task, split, roots, refused) if task.dataset_path in LOCAL else _hub_rows(task, split)
    for fields in found:
        for name in task.where:
            if name not in fields:
                hint = did_you_mean(name, fields) or f"It has: {', '.join(map(str, fields))}."
                raise DataError(f"no column {name} in the rows of {task.task}", where=f"{task.task}: where", hint=hint)
        chosen = all(str(fields[name]) in values for name, values in task.where.items())
        if chosen and (allowed is None or str(fields.get("_key")) in allowed):
            yield fields
        else:
            refused["not selected"] += 1


def _keys(task: Task, split: str, roots: tuple[Path, ...]) -> frozenset[str] | None:
    """The keys that belong to a split, or None for all rows."""
    if split not in task.keys:
        return None
    file = find_files(task.keys[split], roots)[0]
    _check_digest(task, file)
    try:
        return frozenset(map(str, json.loads(file.read_text("utf-8"))))
    except (ValueError, TypeError) as error:
        raise DataError("not a JSON list or object of row keys", where=str(file)) from error


def _local_rows(task: Task, split: str, roots: tuple[Path, ...], refused: Counter[str]) -> Iterator[Mapping[str, Any]]:
    from configs.read import Reading, read_rows

    reading = Reading()
    for path in _paths(task, split):
        files = find_files(path, roots)
        for file in files:
            _check_digest(task, file)
        rows = read_rows(files, path.partition("!")[2], columns=task.columns, records=task.records, reading=reading)
        for row in rows:
            yield row.fields
    refused.update(reading.refused)


def _hub_rows(task: Task, split: str) -> Iterator[Mapping[str, Any]]:
    """Rows of a Hugging Face data set: plain data only, never its code."""
    from datasets import load_dataset

    try:
        found = load_dataset(task.dataset_path, task.dataset_name, split=split, revision=task.revision)
    except Exception as error:  # datasets, fsspec and huggingface_hub each raise their own kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"the data set of task {task.task} cannot be read ({lines[0]})",
            where=task.dataset_path,
            hint="Check the network with `sectorlm doctor`, or give local files in a task file of your own.",
        ) from error
    yield from found


def _check_digest(task: Task, file: Path) -> None:
    """Compare a file with the sha256 that the task's metadata gives for its name."""
    for name, expected in task.metadata.sha256.items():
        if f"/{file.as_posix()}".endswith(f"/{name}") and digest_file(file) != expected:
            raise DataError(
                f"bytes differ from the sha256 in task {task.task}",
                where=str(file),
                hint="Get the file again from its source, or correct metadata.sha256 if the change is meant.",
            )


# ---------------------------------------------------------------- items


def _draft(task: Task, row: int, fields: Mapping[str, Any]) -> _Draft | str:
    """A rendered row whose gold is not resolved yet, or the reason why it cannot be one."""
    text = template(task.doc_to_text)(fields)
    choices: tuple[str, ...] = ()
    if isinstance(task.doc_to_choice, str):
        listed = _listed(template(task.doc_to_choice)(fields))
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
    target = template(task.doc_to_target)(fields) if task.doc_to_target else ""
    accepted: tuple[str, ...] = ()
    if task.output_type == "generate_until" and task.doc_to_choice is None:
        accepted = (_listed(target) or ()) if target.lstrip().startswith("[") else ()
        target = accepted[0] if accepted else target
        if not target.strip() or target.strip() == "[]":
            return "empty answer"
    cluster = template(task.cluster)(fields) if task.cluster else digest_json([text, choices])
    if task.doc_to_decontamination_query:
        leak = template(task.doc_to_decontamination_query)(fields)
    else:
        own = choices if isinstance(task.doc_to_choice, str) else ()
        answer = (accepted or (target,)) if task.output_type == "generate_until" else ()
        leak = "\n".join((text, *own, *answer))
    subject = template(task.subject)(fields).strip() if task.subject else ""
    return _Draft(row, text, choices, target, cluster, leak, subject, accepted)


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
