"""The one switch for the faster, optional ways of doing the same: the extra `fast`, numba and gigatoken."""

from __future__ import annotations

import os

from configs.errors import RecipeError

SWITCH = "SECTORLM_FAST"


def fast_wanted() -> bool:
    """Whether compiled ways may be used where they are installed and give the same bytes: `SECTORLM_FAST` is not `off`.

    Raises:
        RecipeError: the switch is neither `auto` (the default) nor `off`.
    """
    value = os.environ.get(SWITCH, "auto")
    if value not in ("auto", "off"):
        raise RecipeError(f"expected auto or off, got {value!r}", where=SWITCH)
    return value == "auto"
