"""A task of ours in the words of lm-evaluation-harness: the same items, the same worked examples, the same templates.

Our reader finds the rows (`columns`, `records`, `where`, `keys` and data found by roots are unknown there), and only rows
that became items are handed over. The task file's own templates go along as they are where lm-eval's Jinja writes the
same for every one of them; this is tried out, not assumed. Where it writes something else (a missing value becomes `None`
there, a list Python's form of it, the letter of an answer stays a letter), a column with the finished text takes the
template's place, and `finished` names the key.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.load import load_task
from configs.splits import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from configs.items import Item
    from configs.task import Task
    from eval.ask import Asked

ITEM, TEXT, CHOICES, TARGET, BEFORE = (
    f"sectorlm_{name}" for name in ("item", "text", "choices", "target", "description")
)
"""Columns of ours among a row's own."""
VERSION = 1.0
"""`metadata.version` that lm-eval prints beside a task; ours have none."""


class Translated(NamedTuple):
    """A task for lm-eval."""

    config: dict[str, Any]
    """Its keys, without data and metrics."""
    asked: list[dict[str, Any]]
    """The rows of the items, in their order."""
    shown: list[dict[str, Any]]
    """The rows of the worked examples, in their order."""
    finished: tuple[str, ...]
    """The keys whose template is replaced by a column of finished text."""


Rows = list[tuple["Item", "Mapping[str, Any]"]]
"""Items with the fields of their rows."""


class Gathered(NamedTuple):
    """A task's items and worked examples with the rows that they were made of."""

    task: Task
    asked: Rows
    shown: Rows
    baselines: dict[str, float]


def gather(name: str, asked: Asked, roots: tuple[Path, ...]) -> Gathered:
    """The items and examples that `eval.ask.ask` found for a task of this name, with their rows.

    Raises:
        RecipeError: there is no such task.
        DataError: its data are missing or damaged.
    """
    task, roots = asked.task, load_task(name, roots)[1]
    items = _with_rows(task, task.test_split, roots, asked.items)
    shown = _with_rows(task, task.fewshot_split, roots, asked.shown) if task.fewshot_split and asked.shown else []
    return Gathered(task, items, shown, asked.baselines)


def _with_rows(task: Task, split: str, roots: tuple[Path, ...], items: Sequence[Item]) -> Rows:
    rows = list(rows_of(task, split, roots, Counter()))
    return [(item, rows[item.row]) for item in items]


def translate(task: Task, asked: Rows, shown: Rows, *, templates: bool = True) -> Translated:
    """The task as lm-eval takes it; without `templates` every text is finished, and rows hold our columns only."""
    rolling = task.output_type == "loglikelihood_rolling"
    wanted: dict[str, tuple[str, Any, Callable[[Item], Any]]] = {
        # lm-eval scores the target of a rolling likelihood, and has no question there
        "doc_to_text": ("", None, lambda _: "") if rolling else (task.doc_to_text, TEXT, lambda item: item.text),
        "doc_to_target": (task.doc_to_text, TARGET, lambda item: item.text)
        if rolling
        else (task.doc_to_target, TARGET, lambda item: item.gold if _picks(task) else item.target),
    }
    config: dict[str, Any] = {"task": task.task, "output_type": task.output_type}
    finished = []
    whole = [*asked, *shown]
    for key, (template, column, value) in wanted.items():
        same = templates and _written_alike(task, key, template, whole, value)
        config[key] = template if same or column is None else column
        if config[key] is column:
            finished.append(key)
    if task.doc_to_choice is not None:
        same = isinstance(task.doc_to_choice, tuple) or (templates and _listed_alike(task.doc_to_choice, whole))
        own = list(task.doc_to_choice) if isinstance(task.doc_to_choice, tuple) else task.doc_to_choice
        config["doc_to_choice"] = own if same else CHOICES
        finished += [] if same else ["doc_to_choice"]
    plain = not task.description or _written_alike(
        task, "description", task.description, whole, lambda _: task.description
    )
    config["description"] = task.description if plain else BEFORE
    finished += [] if plain else ["description"]
    return Translated(
        config | _common(task, len(shown)),
        [_row(task, pair, finished, templates=templates) for pair in asked],
        [_row(task, pair, finished, templates=templates) for pair in shown],
        tuple(finished),
    )


def _picks(task: Task) -> bool:
    """Whether the gold is named by its position."""
    return task.output_type == "multiple_choice"


def _common(task: Task, shots: int) -> dict[str, Any]:
    """The keys that mean the same in both."""
    keys: dict[str, Any] = {
        "test_split": "test",
        "num_fewshot": shots,
        "target_delimiter": task.target_delimiter,
        "fewshot_delimiter": task.fewshot_delimiter,
        "metadata": {"version": VERSION},
    }
    if shots:
        keys |= {"fewshot_split": "shown", "fewshot_config": {"sampler": "first_n"}}
    if task.output_type == "generate_until":
        keys["generation_kwargs"] = {
            "until": list(task.until),
            "max_gen_toks": task.max_gen_toks,
            "do_sample": False,
        }
    return keys


def _row(
    task: Task, pair: tuple[Item, Mapping[str, Any]], finished: Sequence[str], *, templates: bool
) -> dict[str, Any]:
    item, fields = pair
    ours = {
        "doc_to_text": (TEXT, item.text),
        "doc_to_choice": (CHOICES, list(item.choices)),
        "doc_to_target": (TARGET, item.gold if _picks(task) else item.target or item.text),
        "description": (BEFORE, task.description),
    }
    own = dict(fields) if templates else {}
    return own | {ITEM: item.digest} | dict(ours[key] for key in finished)


# ---------------------------------------------------------------- what lm-eval would make of a template


def _written_alike(task: Task, key: str, template: str, pairs: Rows, value: Callable[[Item], Any]) -> bool:
    """Whether lm-eval reads from every row what we do."""
    compiled = _compiled(template)
    for item, fields in pairs:
        found: Any
        try:
            found = fields[template] if template in fields else compiled(fields)
            if key == "doc_to_target" and template not in fields:
                found = _read_target(found, choices=task.doc_to_choice is not None)
        except Exception:  # its Jinja is not ours: whatever goes wrong there does not concern the finished text
            return False
        if key == "doc_to_text" and task.doc_to_choice is not None and str(found).isdigit():
            return False  # there a number as question means: the choices are contexts
        wanted = value(item)
        if isinstance(found, list) and item.accepted:
            found = found[0]  # the first of several right answers stands in a worked example, there as here
        if key == "doc_to_target" and isinstance(found, str) and isinstance(wanted, int):
            found = item.choices.index(found) if found in item.choices else None
        elif key == "doc_to_target" and isinstance(found, int) and isinstance(wanted, str):
            found = item.choices[found] if 0 <= found < len(item.choices) else None
        if type(found) is not type(wanted) or found != wanted:
            return False
    return True


def _listed_alike(template: str, pairs: Rows) -> bool:
    """Whether lm-eval reads the same choices from every row."""
    compiled = _compiled(template)
    for item, fields in pairs:
        try:
            found = fields[template] if template in fields else ast.literal_eval(compiled(fields))
        except Exception:  # as above
            return False
        if not isinstance(found, list) or found != list(item.choices):
            return False
    return True


def _read_target(text: str, *, choices: bool) -> Any:
    """What lm-eval makes of a written target (`ConfigurableTask.doc_to_target`, 0.4.13)."""
    if text.isdigit() and choices:
        return ast.literal_eval(text)
    if len(text) >= 2 and text[0] == "[" and text[-1] == "]":
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError):
            return text
    return text


def _compiled(template: str) -> Callable[[Mapping[str, Any]], str]:
    """The template in an environment like lm-eval's (`lm_eval.utils.env`, 0.4.13), but in the sandbox."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["regex_replace"] = lambda text, pattern, new, count=0: re.sub(pattern, new, text, count=count)
    compiled = environment.from_string(template)
    return lambda fields: compiled.render(**fields)
