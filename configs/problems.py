"""What is wrong with a recipe or a task, in plain words: place, key, value, what is allowed, the nearest name.

pydantic finds the mistakes; this page says them. Nothing of pydantic's own wording reaches a person.
"""

from __future__ import annotations

import json
import re
import types
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from configs.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import ValidationError

    from configs.yaml_nodes import KeyPath, Tree

EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a block of `key: value` lines",
    "model_type": "a block of `key: value` lines",
    "model_attributes_type": "a block of `key: value` lines",
    "finite_number": "a finite number",
    "none_required": "nothing",
}
BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
FORMS = {"time": "a year, a date or a span: 2019, 2024-03-20, 1996/2024"}
"""What a text of a certain form looks like, by the last word of its key."""
YAML_11 = {"yes", "no", "on", "off", "y", "n"}
LONGEST_VALUE = 60


def explain(model: type[BaseModel], tree: Tree, error: ValidationError) -> list[str]:
    """One line for each key that pydantic refused, in the order of the file's lines."""
    keys = catalogue(model)
    found: dict[KeyPath, list[Any]] = {}
    for detail in error.errors(include_url=False):
        if not _echo(detail):
            found.setdefault(_real_path(tree.value, detail), []).append(detail)
    ordered = sorted(found.items(), key=lambda item: _order(tree, item[0]))
    return [at_place(tree, at, _what(at, tree, details, keys)) for at, details in ordered]


def at_place(tree: Tree, at: KeyPath, what: str) -> str:
    """`finance.yaml:14 train.learning_rat: what`."""
    place = next((tree.places[at[:end]] for end in range(len(at), -1, -1) if at[:end] in tree.places), None)
    key = key_text(tree.value, at)
    return f"{place} {key}: {what}" if key else f"{place}: {what}"


def key_text(value: Any, at: KeyPath) -> str:
    """A key path as people write it; members of a list by their name: `corpora[tenk].share`.

    >>> key_text({"corpora": [{"name": "tenk"}]}, ("corpora", 0, "share"))
    'corpora[tenk].share'
    """
    text = ""
    for step in at:
        inner = _child(value, step)
        if isinstance(step, int):
            name = inner.get("name") if isinstance(inner, dict) else None
            text += f"[{name if isinstance(name, str) else step}]"
        else:
            text += f".{step}" if text else step
        value = inner
    return text


def catalogue(model: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    """Every key of a model's tree, `corpora[].share` like, with its field."""
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        found[f"{prefix}{name}"] = field
        for inner, listed in models_of(field.annotation):
            found |= catalogue(inner, f"{prefix}{name}{'[]' if listed else ''}.")
    return found


def models_of(annotation: Any, listed: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    """The models that an annotation holds, each with whether it stands in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, listed
    for inner in get_args(annotation):
        yield from models_of(inner, listed or get_origin(annotation) is tuple)


def _child(value: Any, step: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None


def _real_path(value: Any, detail: Any) -> KeyPath:
    """pydantic's location without the names that it adds for the branches of a union."""
    at: KeyPath = ()
    for position, step in enumerate(detail["loc"]):
        there = step in value if isinstance(value, dict) else isinstance(value, list) and isinstance(step, int)
        missing = detail["type"] == "missing" and position == len(detail["loc"]) - 1
        if there or missing:
            at = (*at, step)
            value = _child(value, step)
    return at


def _echo(detail: Any) -> bool:
    """A list called too short only because a member of it was refused: the member's own problem is enough."""
    return bool(detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"])


def _order(tree: Tree, at: KeyPath) -> tuple[str, int]:
    place = next((tree.places[at[:end]] for end in range(len(at), -1, -1) if at[:end] in tree.places), None)
    return (place.source, place.line or 0) if place else ("", 0)


class _Mistake(NamedTuple):
    """All that pydantic and the tree know about one refused key."""

    pattern: str
    value: Any
    kinds: list[str]
    context: dict[str, Any]
    keys: dict[str, FieldInfo]

    def bounds(self) -> str:
        return f"must be {' and '.join(_bounds(self.keys.get(self.pattern)))}, got {_shown(self.value)}"

    def choice(self) -> str:
        allowed = re.findall(r"'([^']*)'", self.context["expected"])
        near = did_you_mean(self.value, allowed) if isinstance(self.value, str) else ""
        return f"got {_shown(self.value)}; allowed: {', '.join(allowed)}. {near}".rstrip()

    def form(self) -> str:
        form = FORMS.get(self.pattern.rpartition(".")[2])
        return f"got {_shown(self.value)}; it must " + (f"be {form}" if form else f"match {self.context['pattern']}")

    def wrong_type(self) -> str:
        expected = " or ".join(dict.fromkeys(EXPECTED.get(kind, kind.replace("_", " ")) for kind in self.kinds))
        return f"expected {expected}, got {_shown(self.value)}{_yaml_hint(self.value, expected)}"


SENTENCES: dict[str, Callable[[_Mistake], str]] = {
    "extra_forbidden": lambda it: f"unknown key (value {_shown(it.value)}). {_nearest(it.pattern, it.keys)}".rstrip(),
    "missing": lambda it: "is required and missing",
    "value_error": lambda it: str(it.context["error"]),
    "literal_error": _Mistake.choice,
    "string_pattern_mismatch": _Mistake.form,
    "too_short": lambda it: f"needs at least {it.context['min_length']} of them, got {_shown(it.value)}",
    "greater_than": _Mistake.bounds,
    "greater_than_equal": _Mistake.bounds,
    "less_than": _Mistake.bounds,
    "less_than_equal": _Mistake.bounds,
}
"""pydantic's kind of mistake to our sentence; every other kind is a wrong type."""


def _what(at: KeyPath, tree: Tree, details: list[Any], keys: dict[str, FieldInfo]) -> str:
    """One key's problem in words."""
    value: Any = tree.value
    for step in at:
        value = _child(value, step)
    pattern = "".join("[]" if isinstance(step, int) else f".{step}" for step in at).lstrip(".")
    kinds = [detail["type"] for detail in details]
    mistake = _Mistake(pattern, value, kinds, details[0].get("ctx", {}), keys)
    return SENTENCES.get(kinds[0], _Mistake.wrong_type)(mistake)


def _nearest(pattern: str, keys: dict[str, FieldInfo]) -> str:
    """The sentence that leads from an unknown key to the one that was meant, on this level or another."""
    parent, _, word = pattern.rpartition(".")
    siblings = [key.rpartition(".")[2] for key in keys if key.rpartition(".")[0] == parent]
    elsewhere = [key.rpartition(".")[0] for key in keys if key.rpartition(".")[2] == word]
    if elsewhere:
        places = " or ".join(f"{place.replace('[]', '')}:" if place else "the top level" for place in elsewhere)
        return f"It belongs under {places}." if elsewhere != [""] else "It belongs at the top level."
    near = did_you_mean(word, siblings)
    if near:
        return near
    others = {key.rpartition(".")[2]: key.rpartition(".")[0] for key in keys}
    near = did_you_mean(word, others)
    if not near:
        return f"Known here: {', '.join(siblings)}." if siblings else ""
    meant = near.removeprefix("Did you mean ").removesuffix("?")
    return f"{near} It belongs under {others[meant].replace('[]', '')}:." if others[meant] else near


def _bounds(annotated: Any) -> list[str]:
    """`at least 1`, `at most 512`: the limits written at a field, wherever in its annotation they stand."""
    if annotated is None:
        return []
    if isinstance(annotated, FieldInfo):
        inner = [annotated.annotation, *annotated.metadata]
    elif get_origin(annotated) in (Annotated, Union, types.UnionType):
        inner = list(get_args(annotated))
    else:
        names = [name for name in BOUNDS if getattr(annotated, name, None) is not None]
        return [f"{BOUNDS[name]} {getattr(annotated, name):.10g}" for name in names]
    return [bound for part in inner if get_origin(part) is not Literal for bound in _bounds(part)]


def _shown(value: Any) -> str:
    """A value as YAML flow text, shortened."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def _yaml_hint(value: Any, expected: str) -> str:
    if isinstance(value, str) and value.lower() in YAML_11 and "true or false" in expected:
        return " (in YAML 1.2 only true and false are)"
    if "a text" in expected and isinstance(value, int | float | None.__class__):
        return " (put it in quotes to make it a text)" if value is not None else ""
    return ""
