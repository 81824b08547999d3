"""What our HTML pages have in common: their style sheet, `frame.css`, the colours of their curves, `palette.css`, and templates
in which every text is escaped.

A page is one file that opens from disk: no network, light and dark, on paper too.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template

ITEMS = re.compile(r'<script type="application/json" id="items">[^<]*</script>\n?')
"""Where a report holds all items of its tasks; no text in there has a `<` (eval/shell.py)."""


@lru_cache(maxsize=4)
def template(path: Path) -> Template:
    """The template in a file; it may include `frame.css` and `palette.css`. A name that it is not given is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader([path.parent, Path(__file__).parent])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(path.name)


def without_items(page: str) -> str:
    """A report without the items of its tasks, for where they may not be published; some samples stay."""
    return ITEMS.sub("", page)
