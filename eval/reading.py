"""From what a model gave to its answer: the likeliest choice, or what a generated text says; None is invalid."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from eval.texts import CJK, normal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.filters import Step
    from configs.task import Task


def best_choice(loglikelihoods: Sequence[float], choices: Sequence[str], *, per_byte: bool = False) -> str | None:
    """The choice with the highest log-likelihood, in all or per byte of UTF-8; the first of equals; None without any.

    lm-evaluation-harness' `acc_norm` divides by characters: the same for ASCII.
    """
    if not loglikelihoods:
        return None
    sizes = [len(choice.encode()) if per_byte else 1 for choice in choices]
    scores = [value / size for value, size in zip(loglikelihoods, sizes, strict=True)]
    return choices[scores.index(max(scores))]


def sizes(passage: str) -> dict[str, int]:
    """What a passage's likelihood is divided by: bytes of UTF-8, and words as lm-evaluation-harness counts them.

    >>> sizes("利率 rose.")
    {'bytes': 12, 'words': 2}
    """
    return {"bytes": len(passage.encode()), "words": len(re.split(r"\s+", passage))}


def answer_of(task: Task, generated: str, choices: Sequence[str]) -> str | None:
    """What a generated text answers, after the task's filters; None is invalid."""
    text: str | None = generated
    for filters in task.filter_list:
        for step in filters.filter:
            text = None if text is None else filtered(text, step)
    return None if text is None else read_answer(text, choices)


def filtered(text: str, step: Step) -> str | None:
    """A text after one step of a filter; None where the step finds nothing, whatever its fallback.

    The functions are those of lm-evaluation-harness (`lm_eval/filters`), which goes on with the fallback as the answer.
    """
    if step.function == "regex":
        return _found(text, step)
    if step.function == "map":
        meant = step.mapping_dict.get(text)
        return None if meant is None else str(meant)
    if step.function == "lowercase":
        return text.lower()
    return text if step.function == "take_first" else text.strip()


def _found(text: str, step: Step) -> str | None:
    finds = re.findall(step.regex_pattern or "", text)
    if not -len(finds) <= step.group_select < len(finds):
        return None
    found = finds[step.group_select]
    if isinstance(found, tuple):
        found = next((group for group in found if group), None)
    return None if found is None else str(found).strip()


def read_answer(generated: str, choices: Sequence[str]) -> str | None:
    """What a generated text answers: itself, or the only one of the choices that it names; None is invalid.

    >>> read_answer("It is positive.", ["positive", "negative"])
    'positive'
    >>> read_answer("positive or negative", ["positive", "negative"]) is None
    True
    """
    text = generated.strip()
    if not choices or not text:
        return text or None
    exact = [choice for choice in choices if normal(choice) == normal(text)]
    named = exact or [choice for choice in choices if _names(text, choice)]
    return named[0] if len(named) == 1 else None


def _names(text: str, choice: str) -> bool:
    """Whether a choice stands in a text, as whole words where its script has words."""
    edge = rf"[^\W{CJK}]"
    pattern = rf"(?<!{edge}){re.escape(normal(choice))}(?!{edge})"
    return re.search(pattern, normal(text)) is not None
