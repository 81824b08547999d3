"""Jinja templates over the fields of a row: compiled once, sandboxed, and strict about missing columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from configs.errors import DataError, RecipeError, did_you_mean

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

Render = Callable[[Mapping[str, Any]], str]


@lru_cache(maxsize=512)
def template(text: str) -> Render:
    r"""Compile `text` into a function from a row's fields to a string.

    Every column is a variable; `row["Tweet Text"]` reaches a column whose name is not one word. A missing value (None)
    renders as nothing, a list or an object as JSON. A line end at the template's end stays, as lm-evaluation-harness has
    it. The function raises DataError for a column that the row lacks.

    >>> template("{{ title }}: {{ body }}")({"title": "Rates", "body": "They rose."})
    'Rates: They rose.'

    Raises:
        RecipeError: the template is not valid Jinja.
    """
    from jinja2 import TemplateError, TemplateSyntaxError, UndefinedError, meta

    try:
        tree = _environment().parse(text)
        compiled = _environment().from_string(text)
    except TemplateSyntaxError as error:
        raise RecipeError(f"not a valid template: {error.message}", where=text) from error
    names = meta.find_undeclared_variables(tree) - {"row"}

    def render(fields: Mapping[str, Any]) -> str:
        try:
            return compiled.render({"row": fields, **fields})
        except UndefinedError as error:
            raise _missing(text, sorted(names - fields.keys()), fields, error.message or "") from error
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise DataError(f"the template cannot be filled: {error}", where=text) from error

    return render


def columns_of(text: str) -> frozenset[str]:
    """The columns that a template asks for by name.

    >>> sorted(columns_of("{{ title }}: {{ body }}"))
    ['body', 'title']
    """
    from jinja2 import meta

    return frozenset(meta.find_undeclared_variables(_environment().parse(text)) - {"row"})


@lru_cache(maxsize=1)
def _environment() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, finalize=_plain, autoescape=False, keep_trailing_newline=True
    )


def _plain(value: Any) -> Any:
    """What stands in the text for a value that is not a text: nothing for None, JSON for lists and objects."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False)
    return value


def _missing(text: str, absent: list[str], fields: Mapping[str, Any], reason: str) -> DataError:
    columns = ", ".join(str(name) for name in fields)
    if not absent:
        return DataError(f"the template cannot be filled: {reason}", where=text, hint=f"The row has: {columns}.")
    near = did_you_mean(absent[0], map(str, fields))
    return DataError(f"no column {absent[0]}", where=text, hint=f"{near} The row has: {columns}.".strip())
