"""Whether two scorecards may be held against each other: how each task was put, and what its corpus was compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from configs.records import Corpus, Scorecard


def form_of(card: Scorecard, task: str) -> dict[str, Any]:
    """How a task was put to a model, by what may differ while the items are the same."""
    settings = card.settings
    return {
        "task file": card.inputs.get(f"task {task}", ""),
        "worked examples": settings.get("evaluate.shots"),
        "chat": settings.get("chat", False),
    }


def form_note(base: Scorecard, tuned: Scorecard, task: str) -> str:
    """What differs in how two models were asked a task, in words; empty where nothing does."""
    ours, theirs = form_of(base, task), form_of(tuned, task)
    differ = [name for name, value in ours.items() if value != theirs[name]]
    return f"{task}: the two were not asked in the same form ({', '.join(differ)})" if differ else ""


def still_compared(corpus: Corpus, card: Scorecard, task: str) -> bool:
    """Whether a scorecard's items are those that the corpus was compared with: the same task file, the same rows.

    Leaks are known by the items' digests. After a change of the task all of its items would pass for clean.
    """
    file = card.inputs.get(f"task {task}")
    if file is not None and file not in corpus.inputs.values():
        return False
    known = {
        label.partition(": ")[2]: digest for label, digest in corpus.inputs.items() if label.startswith("file of task ")
    }
    rows = {label.removeprefix(f"{task}: "): it for label, it in card.inputs.items() if label.startswith(f"{task}: ")}
    return all(known.get(label, digest) == digest for label, digest in rows.items())
