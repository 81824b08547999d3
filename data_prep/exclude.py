"""Removal requests: which documents the recipe's `prepare.exclude` takes out, by their id or by their text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from configs.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TEXT = "text:"
IDENTITY = re.compile("[0-9a-f]{16}")


def exclusion(requests: Iterable[str]) -> Callable[[str, str], bool]:
    """Compile removal requests into a function of a document's id and content: true where it must go.

    Ask it about a document before exercises are made from it (data_prep/compose.py): they go with their text.

    >>> gone = exclusion(["00c0ffee00c0ffee", "text:Jane (Q\\\\. )?Doe"])
    >>> gone("00c0ffee00c0ffee", "x"), gone("1" * 16, "Asked Jane Doe."), gone("1" * 16, "Asked J. Doe.")
    (True, True, False)

    Raises:
        RecipeError: a request is neither an id nor `text:` with a regular expression that finds something.
    """
    identities, patterns = set(), []
    for request in requests:
        if request.startswith(TEXT):
            patterns.append(_compiled(request))
        elif IDENTITY.fullmatch(request):
            identities.add(request)
        else:
            raise RecipeError(
                f"neither the id of a document nor a pattern: {request!r}",
                where="prepare.exclude",
                hint="An id has 16 characters, 0-9 and a-f; `text:PATTERN` is a regular expression on the text.",
            )
    return lambda identity, content: identity in identities or any(it.search(content) for it in patterns)


def _compiled(request: str) -> re.Pattern[str]:
    """The regular expression of a request; one that matches nothing at all would take every document out."""
    try:
        pattern = re.compile(request.removeprefix(TEXT))
    except re.error as error:
        raise RecipeError(
            f"not a regular expression: {request!r} ({error})",
            where="prepare.exclude",
            hint=r"Write \( \) \. for the signs themselves, and quote the line in YAML.",
        ) from error
    if pattern.search(""):
        raise RecipeError(f"matches every document: {request!r}", where="prepare.exclude", hint="Give it some text.")
    return pattern
