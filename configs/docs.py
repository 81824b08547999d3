"""The sentences under the fields of our models, for editors, `schema` and the starter recipe.

pydantic can collect them itself (`use_attribute_docstrings`), at the price of reading every source file on each import;
here the source is parsed only when somebody asks.
"""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING, Any

from configs.problems import models_of
from configs.recipe import Recipe

if TYPE_CHECKING:
    from pydantic import BaseModel

DIALECT = "https://json-schema.org/draft/2020-12/schema"
EXTENDS = "Relative path of a recipe that this one is laid over: blocks are merged, lists and single values replaced."


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Field name to the docstring below it, on one line.

    >>> from configs.trials import Pilot
    >>> list(field_docs(Pilot))
    ['parts', 'seeds']
    """
    body = ast.parse(inspect.getsource(model)).body[0]
    if not isinstance(body, ast.ClassDef):
        raise TypeError(f"{model} is not a class")
    found = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[field.target.id] = " ".join(str(below.value.value).split())
    return found


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a model, with every field described; for recipes `extends` is allowed too."""
    schema = model.model_json_schema()
    _describe(schema, model)
    parts = schema.get("$defs", {})
    for part in parts_of(model):
        if part.__name__ in parts:
            _describe(parts[part.__name__], part)
    if model is Recipe:
        schema["properties"]["extends"] = {"type": "string", "description": EXTENDS}
        schema["anyOf"] = [{"required": schema.pop("required")}, {"required": ["extends"]}]
    return {"$schema": DIALECT, **schema}


def parts_of(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The models inside a model, each once, outer before inner."""
    found: list[type[BaseModel]] = []
    for field in model.model_fields.values():
        for part, _ in models_of(field.annotation):
            found += [inner for inner in (part, *parts_of(part)) if inner not in found]
    return found


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    docs = field_docs(model)
    for name, entry in schema.get("properties", {}).items():
        entry.pop("title", None)
        if name in docs:
            entry["description"] = docs[name]
