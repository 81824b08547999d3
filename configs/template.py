"""Jinja templates over the fields of a row: compiled once, sandboxed, and strict about missing columns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from configs.errors import DataError, RecipeError, did_you_mean

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.sandbox import SandboxedEnvironment

Render = Callable[[Mapping[str, Any]], str]
BARE = re.compile(r"\{\{ *([A-Za-z_][A-Za-z_0-9]*) *\}\}")
"""A template that prints one column and nothing else."""
TAKES_APART = frozenset(
    {
        *(
            "batch",
            "count",
            "dictsort",
            "first",
            "groupby",
            "items",
            "join",
            "last",
            "length",
            "list",
            "map",
            "max",
            "min",
        ),
        *("random", "reject", "rejectattr", "select", "selectattr", "slice", "sum", "tojson", "unique"),
    }
)
"""Filters of Jinja that make something else of a list; the others keep it a list, or print it as it is."""


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
    alone = BARE.fullmatch(text)
    column = alone[1] if alone and alone[1] in names else None

    def render(fields: Mapping[str, Any]) -> str:
        if column is not None and type(value := fields.get(column)) is str:
            return value  # most templates are one column: Jinja would take ten times as long to say the same
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


@lru_cache(maxsize=512)
def printed_bare(text: str) -> frozenset[str]:
    """The columns that a template prints as they are, so that a list among texts would go unnoticed.

    Where it looks at a column's kind (by a test, an index, a loop, a filter such as join), the template decides. Whether
    there is a value (`if note`, `is defined`, `is none`) says nothing about its kind.

    >>> sorted(printed_bare("{{ title | trim }}: {{ a | join(', ') if a is not string else a }} {{ b[0] }}"))
    ['title']
    """
    found: set[str] = set()
    _printed(_environment().parse(text), frozenset(), found)
    return columns_of(text) & found


def _printed(node: nodes.Node, decided: frozenset[str], found: set[str]) -> None:
    """Add to `found` the names that are printed at and below `node`, but those that conditions around it decide on."""
    from jinja2 import nodes

    match node:
        case nodes.Name():
            found |= {node.name} - decided
            return
        case nodes.Filter() if node.name not in TAKES_APART and node.node is not None:
            _printed(node.node, decided, found)
            return
        case nodes.If() | nodes.CondExpr():
            decided |= _judged(node.test)
    inner = {
        nodes.CondExpr: ("expr1", "expr2"),
        nodes.If: ("body", "elif_", "else_"),
        nodes.For: ("body", "else_"),
    }.get(type(node))
    if inner or isinstance(node, nodes.Template | nodes.Output | nodes.Concat):
        for child in node.iter_child_nodes(only=inner):
            _printed(child, decided, found)


def _judged(test: nodes.Node) -> frozenset[str]:
    """The names that a condition asks more about than whether there is a value."""
    from jinja2 import nodes

    match test:
        case nodes.Name() | nodes.Test(name="defined" | "undefined" | "none"):
            return frozenset()
        case nodes.Not():
            return _judged(test.node)
        case nodes.And() | nodes.Or():
            return _judged(test.left) | _judged(test.right)
    return frozenset(name.name for name in test.find_all(nodes.Name))


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
