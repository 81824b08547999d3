"""Licences, grades and purposes: what each source allows, and whether a recipe's use is among it.

Names are SPDX identifiers (spdx.org/licenses) in any case, and a few words for what has no identifier. The table says
what a reader of the licence would say in one word; it is no legal advice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, Protocol

from configs.errors import PolicyError, RecipeError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.recipe import Recipe

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
WORDS = {"public-domain", "US-government-work", "own", "GFDL", "research-only", "academic-use-only", "loghub"}
WORDS |= {"unknown", "other", "none-stated", "proprietary"}
"""Names of the table that are no identifiers of SPDX's list."""
PAGE = "https://spdx.org/licenses/{}.html"
"""Where the text of a licence of SPDX's list stands."""
ON_HUB = {"odbl-1.0": "odbl", "odc-by-1.0": "odc-by", "pddl-1.0": "pddl", "gfdl-1.3": "gfdl"}
"""Licences that the hub calls otherwise than SPDX (huggingface.co/docs/hub/repositories-licenses, 2026)."""
OFF_HUB = {"0bsd", "ogl-uk-2.0", "ogl-uk-3.0", "nlod-2.0", "dl-de-by-2.0", "mulanpsl-2.0", "psf-2.0", "nasa-1.3"}
OFF_HUB |= {"cc-by-sa-2.0", "cc-by-sa-2.5"}
"""Identifiers of SPDX in the table that the hub's list lacks."""
OF_HUB = {
    "bigscience-openrail-m",
    "gemma",
    "llama2",
    "llama3",
    "llama3.1",
    "llama3.2",
    "llama3.3",
    "llama4",
    "openrail",
}
OF_HUB |= {"agpl-3.0", "apple-amlr", "bsd", "cc", "gpl", "lgpl", "ofl-1.1", "openmdw-1.0", "unknown", "wtfpl"}
"""Words of the hub's list that the table does not have."""
NAMES = {name.lower(): name for names in TABLE.values() for name in names}


def licence_kind(name: str) -> Kind:
    """What a licence allows, in one word; case, spaces and underscores do not matter.

    >>> licence_kind("cc-by-nc-4.0")
    'noncommercial'

    Raises:
        RecipeError: the name is not in the table.
    """
    return KINDS[licence_name(name).lower()]


def licence_name(name: str) -> str:
    """The name of the table that a licence is meant by.

    >>> licence_name("cc by 4.0")
    'CC-BY-4.0'

    Raises:
        RecipeError: the name is not in the table.
    """
    key = re.sub(r"[\s_]+", "-", name.strip().lower())
    if key in NAMES:
        return NAMES[key]
    near = did_you_mean(key, KINDS)
    hint = re.sub(r"mean (\S+)\?", lambda match: f"mean {NAMES[match[1]]}?", near)
    known = ", ".join(sorted(NAMES.values(), key=str.lower))
    raise RecipeError(f"unknown licence {name!r}", hint=f"{hint} Known: {known}.".strip())


def spdx_id(name: str) -> str:
    """The identifier of SPDX's list (spdx.org/licenses, 3.28) that a licence is meant by; empty where it has none.

    >>> spdx_id("apache-2.0"), spdx_id("research-only"), spdx_id("llama3.1")
    ('Apache-2.0', '', '')
    """
    try:
        known = licence_name(name)
    except RecipeError:
        return ""
    return "" if known in WORDS else known


def hub_licence(name: str) -> str:
    """What the hub calls a licence in the metadata of a card; `other` where it has no word for it.

    >>> hub_licence("Apache-2.0"), hub_licence("GPL-3.0-only"), hub_licence("llama3.1"), hub_licence("own")
    ('apache-2.0', 'gpl-3.0', 'llama3.1', 'other')
    """
    word = name.strip().lower().removesuffix("-only").removesuffix("-or-later")
    word = ON_HUB.get(word, word)
    known = spdx_id(name) and word not in OFF_HUB
    return word if known or word in OF_HUB or word in ON_HUB.values() else "other"


class Governed(Protocol):
    """What has terms of use: a source of a recipe, or its account in the record of a corpus."""

    @property
    def name(self) -> str:
        """Its name in the recipe."""

    @property
    def licence(self) -> str:
        """Its licence, one of the table."""

    @property
    def grade(self) -> str:
        """Its grade after GB/T 43697-2024: `general`, `important` or `core`."""

    @property
    def purpose(self) -> Sequence[str]:
        """What its holder allows it to be used for; empty: whatever the licence allows."""


def licence_problem(source: Governed, use: str) -> str:
    """Why this source must not be used for `use`, every reason in one line, or an empty string.

    Grades after GB/T 43697-2024, clause 6.1: core data may harm the security of the state and are never training data;
    important data never go into a commercial release. The two consequences are this project's own, not the standard's.

    Raises:
        RecipeError: the source's licence is not in the table.
    """
    kind, commercial = licence_kind(source.licence), use == "commercial"
    found = []
    if source.grade == "core":
        found.append(f"{source.name} is graded core data (GB/T 43697-2024), which is never used for training")
    if source.grade == "important" and commercial:
        found.append(f"{source.name} is graded important data (GB/T 43697-2024), and the recipe says `use: commercial`")
    if commercial and kind in ("noncommercial", "research-only"):
        found.append(f"{source.name} is under {source.licence} ({kind}), and the recipe says `use: commercial`")
    if commercial and kind == "unknown":
        found.append(
            f"the licence of {source.name} is {source.licence}: nothing shows that `use: commercial` is allowed"
        )
    if source.purpose and use not in source.purpose:
        allowed = " and ".join(source.purpose)
        found.append(f"the holder of {source.name} allows it for {allowed} only, and the recipe says `use: {use}`")
    return "; ".join(found)


def check_licences(recipe: Recipe) -> None:
    """Refuse a recipe whose stated use a licence, a grade or a purpose of one of its sources forbids.

    Raises:
        PolicyError: the use is forbidden; all such sources are named, each with all its reasons.
        RecipeError: a licence is not in the table.
    """
    found = {source.name: problem for source in recipe.corpora if (problem := licence_problem(source, recipe.use))}
    if not found:
        return
    other = "research" if recipe.use == "commercial" else "commercial"
    cured = all(not licence_problem(source, other) for source in recipe.corpora)
    hint = f"Leave out {', '.join(found)}" + (f", or say `use: {other}` if that is what it is for." if cured else ".")
    raise PolicyError("; ".join(found.values()), where=recipe.name, hint=hint)
