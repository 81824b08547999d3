"""A guess at how a recipe names a file that no recipe names yet, by the names and the values of its columns.

entry_of(Path("filings.csv"), {"question": "Q", "answer": "A"})     # lines of YAML, to be pasted under `corpora:`
"""

from __future__ import annotations

import json
from collections import deque
from keyword import iskeyword
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

from data_prep.documents import CONTENT_KEYS, ROLE_KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PAIRS = (
    ("question", "answer"),
    ("question", "answers"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("prompt", "completion"),
    ("query", "response"),
    ("ask", "answer"),
    ("input", "output"),
    ("q", "a"),
    ("问题", "答案"),
    ("问", "答"),
)
TEXTS = ("text", "content", "body", "document", "article", "abstract", "paragraphs", "segment", "sentence")
TALKS = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "utterances", "talk", "chat")
RESERVED = frozenset({"true", "false", "none", "row", "self", "loop"})
"""Words of Jinja that are none of Python's, and the names that templates have beside the columns."""
DEPTH = 6
"""Steps of the longest path that is looked for."""


def records_of(fields: Mapping[str, Any], *, single: bool) -> str:
    """Where the records may lie inside the first value of a file; `single`: it is the only one.

    Records with a question and an answer are looked for first; the only value of a file may also be an object keyed by
    ids, or hold its records in its only list of objects.

    >>> records_of({"table": [[1]], "questions": [{"question": "Q", "answer": "A"}]}, single=False)
    'questions[]'
    """
    if _direct(fields):
        return ""
    before = ["*"] if single and _keyed(fields) else []
    inner = next(iter(fields.values())) if before else fields
    steps: list[str] = []
    if not _direct(inner):
        steps = _path_to_pairs(inner) or (_only_lists(inner) if single else [])
    return ".".join([*before, *steps])


def placeholders(count: int) -> list[str]:
    """Names for the columns of a table without a header: a, b, c ..."""
    return [ascii_lowercase[place] if place < 26 else f"column_{place + 1}" for place in range(count)]


def entry_of(path: Path, fields: Mapping[str, Any], records: str = "", columns: Sequence[str] = ()) -> str:
    """Lines of YAML for `corpora:`; `columns` are placeholders for the names of a table without a header."""
    name = "".join(
        char if char.isascii() and (char.isalnum() or char in "_-") else "-" for char in path.name.split(".")[0]
    )
    given: dict[str, Any] = {"name": name.strip("-_")[:64] or "corpus", "path": path.name}
    given |= {"columns": list(columns)} if columns else {}
    given |= {"records": records} if records else {}
    given |= {"text": _column(_longest(fields))} if columns else _shape(fields)
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in given.items()]
    lines.append("licence: unknown    # SPDX identifier, or a name that `sectorlm check` lists")
    return "\n".join(("  - " if number == 0 else "    ") + line for number, line in enumerate(lines))


# ---------------------------------------------------------------- where the records lie


def _direct(fields: Mapping[str, Any]) -> bool:
    """Whether an object is a record with a question and an answer, or a conversation."""
    return _pair(fields) is not None or any(_is_talk(str(name), value) for name, value in fields.items())


def _keyed(fields: Mapping[str, Any]) -> bool:
    """Whether an object's keys are ids: its values are objects with keys in common."""
    values = list(fields.values())
    return len(values) > 1 and all(isinstance(value, dict) for value in values) and bool(values[0].keys() & values[1])


def _path_to_pairs(fields: Mapping[str, Any]) -> list[str]:
    """The shortest path to objects that are records with a question and an answer."""
    waiting: deque[tuple[Mapping[str, Any], list[str]]] = deque([(fields, [])])
    while waiting:
        value, steps = waiting.popleft()
        if steps and _pair(value) is not None:
            return [*steps[:-1], steps[-1].removesuffix("[]") + "[]"]
        if len(steps) < DEPTH:
            waiting += [(inner, [*steps, step]) for step, inner in _inner(value)]
    return []


def _inner(fields: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The steps that lead on from an object, and the first object behind each."""
    found = []
    for name, value in fields.items():
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, dict) and "." not in name and not _is_talk(name, value):
            found.append((f"{name}[]" if isinstance(value, list) else name, first))
    return found


def _only_lists(fields: Mapping[str, Any]) -> list[str]:
    """The path through the only list of objects in an object, and in its first element, and so on."""
    steps: list[str] = []
    while len(steps) < DEPTH:
        lists = [(step, first) for step, first in _inner(fields) if step.endswith("[]")]
        if len(lists) != 1:
            break
        steps.append(lists[0][0])
        fields = lists[0][1]
    return steps


# ---------------------------------------------------------------- what a record becomes


def _shape(fields: Mapping[str, Any]) -> dict[str, str]:
    lower = {str(name).lower(): str(name) for name in fields}
    talk = next((str(name) for name, value in fields.items() if _is_talk(str(name), value)), None)
    if talk is not None:
        return {"messages": talk}
    if {"chosen", "rejected", "prompt"} <= lower.keys():
        return {key: _column(lower[key]) for key in ("prompt", "chosen", "rejected")}
    if (pair := _pair(fields)) is not None:
        asked, answered = pair
        before = _printed(fields, lower["context"]) + "\n" if "context" in lower else ""
        after = "\n" + _column(lower["input"]) if asked.lower() == "instruction" and "input" in lower else ""
        return {"prompt": before + _column(asked) + after, "answer": _printed(fields, answered)}
    known = next((lower[name] for name in TEXTS if name in lower and _is_text(fields[lower[name]])), None)
    if known is not None:
        return {"text": _printed(fields, known)}
    strings = any(isinstance(value, str) for value in fields.values())
    said = next((str(name) for name, value in fields.items() if not strings and _is_said(value)), None)
    return {"messages": said} if said is not None else {"text": _column(_longest(fields))}


def _pair(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """The columns that hold a question and its answer."""
    lower = {str(name).lower(): str(name) for name in fields}
    found = ((lower[asked], lower[answered]) for asked, answered in PAIRS if asked in lower and answered in lower)
    return next((pair for pair in found if isinstance(fields[pair[0]], str)), None)


def _is_talk(name: str, value: Any) -> bool:
    """A list of turns: objects that name a speaker and what was said, or plain texts in a column that is called so."""
    if not isinstance(value, list) or not value:
        return False
    if isinstance(value[0], dict):
        return any(key in value[0] for key in ROLE_KEYS) and any(key in value[0] for key in CONTENT_KEYS)
    return name.lower() in TALKS and _is_said(value)


def _is_said(value: Any) -> bool:
    """Two texts or more in turn, or pairs of texts."""
    if not isinstance(value, list) or not value:
        return False
    pairs = all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(it, str) for it in pair) for pair in value)
    return pairs or (len(value) > 1 and all(isinstance(text, str) for text in value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(part, str) for part in value))


def _longest(fields: Mapping[str, Any]) -> str:
    """The column with the longest text, or the first one."""
    texts = {str(name): value for name, value in fields.items() if isinstance(value, str)}
    return max(texts, key=lambda name: len(texts[name])) if texts else str(next(iter(fields)))


def _printed(fields: Mapping[str, Any], column: str) -> str:
    """A template for a column that holds a text, a list of texts, or answers as SQuAD has them."""
    value, name = fields[column], _name(column)
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        return f"{{{{ {name}.text[0] }}}}"
    if not isinstance(value, list):
        return _column(column)
    if value and isinstance(value[0], dict) and "text" in value[0]:
        return f"{{{{ {name}[0].text }}}}"
    return f"{{{{ {name} | join('\\n') if {name} is iterable and {name} is not string else {name} }}}}"


def _column(column: str) -> str:
    return f"{{{{ {_name(column)} }}}}"


def _name(column: str) -> str:
    """A column in a template: by its name where it is a word, else by `row`."""
    word = column.isidentifier() and not iskeyword(column) and column.lower() not in RESERVED
    return column if word else f"row[{json.dumps(column, ensure_ascii=False)}]"
