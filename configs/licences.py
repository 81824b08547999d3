"""Licences: what each name allows, and whether a recipe's use is among it.

Names are SPDX identifiers (spdx.org/licenses) in any case, and a few words for what has no identifier. The table says
what a reader of the licence would say in one word; it is no legal advice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from configs.errors import PolicyError, RecipeError, did_you_mean

if TYPE_CHECKING:
    from configs.recipe import Recipe, Source

Kind = Literal["public-domain", "permissive", "share-alike", "copyleft", "noncommercial", "research-only", "unknown"]

TABLE: dict[Kind, tuple[str, ...]] = {
    "public-domain": ("public-domain", "CC0-1.0", "Unlicense", "PDDL-1.0", "US-government-work", "0BSD"),
    "permissive": (
        "MIT",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Zlib",
        "CC-BY-2.0",
        "CC-BY-2.5",
        "CC-BY-3.0",
        "CC-BY-4.0",
        "ODC-By-1.0",
        "OGL-UK-2.0",
        "OGL-UK-3.0",
        "CDLA-Permissive-1.0",
        "CDLA-Permissive-2.0",
        "etalab-2.0",
        "NLOD-2.0",
        "DL-DE-BY-2.0",
        "MulanPSL-2.0",
        "PSF-2.0",
        "NASA-1.3",
        "own",
    ),
    "share-alike": (
        "CC-BY-SA-2.0",
        "CC-BY-SA-2.5",
        "CC-BY-SA-3.0",
        "CC-BY-SA-4.0",
        "ODbL-1.0",
        "GFDL-1.3-only",
        "GFDL",
        "CDLA-Sharing-1.0",
    ),
    "copyleft": (
        "GPL-2.0-only",
        "GPL-2.0-or-later",
        "GPL-3.0",
        "GPL-3.0-only",
        "GPL-3.0-or-later",
        "LGPL-3.0-only",
        "LGPL-3.0-or-later",
        "AGPL-3.0",
        "AGPL-3.0-only",
        "AGPL-3.0-or-later",
        "MPL-2.0",
        "EPL-2.0",
        "EUPL-1.2",
    ),
    "noncommercial": (
        "CC-BY-NC-2.0",
        "CC-BY-NC-3.0",
        "CC-BY-NC-4.0",
        "CC-BY-NC-SA-2.0",
        "CC-BY-NC-SA-3.0",
        "CC-BY-NC-SA-4.0",
        "CC-BY-NC-ND-3.0",
        "CC-BY-NC-ND-4.0",
    ),
    "research-only": ("research-only", "academic-use-only", "loghub"),
    "unknown": ("unknown", "other", "none-stated", "CC-BY-ND-4.0", "proprietary"),
}
"""Kind of licence to the names of its members."""

KINDS: dict[str, Kind] = {name.lower(): kind for kind, names in TABLE.items() for name in names}
NAMES = {name.lower(): name for names in TABLE.values() for name in names}


def licence_kind(name: str) -> Kind:
    """What a licence allows, in one word; case, spaces and underscores do not matter.

    >>> licence_kind("cc-by-nc-4.0")
    'noncommercial'

    Raises:
        RecipeError: the name is not in the table.
    """
    key = re.sub(r"[\s_]+", "-", name.strip().lower())
    kind = KINDS.get(key)
    if kind is not None:
        return kind
    near = did_you_mean(key, KINDS)
    hint = re.sub(r"mean (\S+)\?", lambda match: f"mean {NAMES[match[1]]}?", near)
    known = ", ".join(sorted(NAMES.values(), key=str.lower))
    raise RecipeError(f"unknown licence {name!r}", hint=f"{hint} Known: {known}.".strip())


def licence_problem(source: Source, use: str) -> str:
    """Why this source must not be used for `use`, or an empty string.

    Raises:
        RecipeError: the source's licence is not in the table.
    """
    kind = licence_kind(source.licence)
    if source.grade == "core":
        return f"{source.name} is graded core data (GB/T 43697-2024), which is never used for training"
    if use == "commercial" and kind in ("noncommercial", "research-only"):
        return f"{source.name} is under {source.licence} ({kind}), and the recipe says `use: commercial`"
    if use == "commercial" and kind == "unknown":
        return f"the licence of {source.name} is {source.licence}: nothing shows that `use: commercial` is allowed"
    return ""


def check_licences(recipe: Recipe) -> None:
    """Refuse a recipe whose stated use a licence or a grade of one of its sources forbids.

    Raises:
        PolicyError: the use is forbidden; all such sources are named.
        RecipeError: a licence is not in the table.
    """
    found = [problem for source in recipe.corpora if (problem := licence_problem(source, recipe.use))]
    if found:
        raise PolicyError(
            "; ".join(found),
            where=recipe.name,
            hint="Leave these sources out, or say `use: research` if that is what it is for.",
        )
