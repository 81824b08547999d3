"""What report and leaderboard have in common: one file each, its own style and script in it, and nothing else may run.

Texts of data sets and models stand on these pages. Each passes through Jinja's autoescape, or through `embedded`; and the
page's policy lets only the script with our hash run and nothing be fetched (W3C, Content Security Policy Level 3).
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from configs.frame import template
from eval.wording import HERE, of_scripts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.wording import Wording

UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")
"""What may end a script element, begin a comment in it, or is no text."""


def page(name: str, scripts: Sequence[str], tell: Wording, **values: Any) -> str:
    """A page from its template beside this file, with the scripts that it runs."""
    script = "".join((HERE / file).read_text("utf-8") for file in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return template(HERE / name).render(
        _=tell,
        policy=policy,
        script=Markup(script),
        words=embedded(of_scripts(script, tell)),
        **values,
    )


def embedded(value: Any) -> Markup:
    """JSON for a `<script type="application/json">`: no text in it can leave the element.

    >>> embedded({"a": "</script>"})
    Markup('{"a":"\\\\u003c/script\\\\u003e"}')
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def number(value: float | None, digits: int = 4) -> float | None:
    """A number as JSON has it: rounded, and nothing where it is not finite."""
    return None if value is None or not math.isfinite(value) else round(value, digits)
