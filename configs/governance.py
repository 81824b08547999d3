"""What holds for a mixture: the strictest terms of its sources, and what they ask of whoever passes it on.

A corpus is as restricted as its most restricted document (GB/T 43697-2024, clause 4, principle "the higher, the
stricter"), so licence, grade and allowed uses are taken together over all sources. Nothing here is legal advice: it
names what the licences say, so that a person can look.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from configs.errors import DataError
from configs.licences import Governed, Kind, licence_kind, licence_name, licence_problem
from configs.wording import ENGLISH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from configs.wording import Wording

KINDS: tuple[Kind, ...] = (
    "public-domain",
    "permissive",
    "share-alike",
    "copyleft",
    "noncommercial",
    "research-only",
    "unknown",
)
"""Kinds of licence from the freest to the strictest."""
GRADES = ("general", "important", "core")
"""Grades of data from the lowest to the highest (GB/T 43697-2024, clause 6.1)."""
USES = ("research", "commercial")
DUTIES = (
    "name the authors and say what was changed.",
    "keep the copyright notice with copies of the text.",
    "share-alike: adapted material that is passed on stays under the same licence.",
    "copyleft: works derived from it that are passed on stay under the same licence, with their source.",
    "no derivatives: adapted material must not be passed on.",
    "no commercial use.",
    "nothing shows what is allowed: ask the holder before anything is passed on.",
)
"""What licences ask for: attribution, notices, share-alike, copyleft, no derivatives, no commercial use, unclear ones."""
BINDING = "{names} each ask for their own licence: one work may not be able to obey."


class Terms(NamedTuple):
    """The terms of a mixture."""

    kind: Kind
    """The strictest kind of licence among the sources."""
    grade: str
    """The highest grade among them."""
    uses: tuple[str, ...]
    """The uses that no source forbids."""
    licences: dict[str, tuple[str, ...]]
    """Licence to the sources under it."""
    obligations: tuple[str, ...]
    """What passing the corpus or a work made from it on asks for, a sentence each."""

    def sentences(self, tell: Wording = ENGLISH) -> list[str]:
        """The terms in words, for a card, a page or a terminal."""
        told = tell(
            "Strictest licence: {kind}. Highest grade: {grade} (GB/T 43697-2024). Allowed: {allowed}.",
            kind=tell.term("licences", self.kind),
            grade=tell.term("grades", self.grade),
            allowed=tell(" and ").join(tell.term("uses", use) for use in self.uses) or tell("no use"),
        )
        return [told, *_obligations(self.licences, tell)]


def strictest(sources: Sequence[Governed]) -> Terms:
    """The terms of a mixture of `sources`: strictest licence, highest grade, the uses that all of them allow.

    Sources of a recipe and accounts of a corpus record both do.

    Raises:
        DataError: there are no sources.
        RecipeError: a licence is not in the table.
    """
    if not sources:
        raise DataError("a mixture of no sources has no terms")
    licences: dict[str, list[str]] = {}
    for source in sources:
        licences.setdefault(licence_name(source.licence), []).append(source.name)
    return Terms(
        kind=max((licence_kind(name) for name in licences), key=KINDS.index),
        grade=max((source.grade for source in sources), key=GRADES.index),
        uses=tuple(use for use in USES if not any(licence_problem(source, use) for source in sources)),
        licences={name: tuple(under) for name, under in licences.items()},
        obligations=tuple(_obligations(licences)),
    )


def _obligations(licences: Iterable[str], tell: Wording = ENGLISH) -> list[str]:
    """What the licences ask for, the names of those that ask for it with each."""
    licences = list(licences)
    attributed = [name for name in licences if re.match("(CC-BY|ODC-By|ODbL|GFDL|OGL|CDLA|DL-DE-BY|etalab|NLOD)", name)]
    noticed = [name for name in licences if licence_kind(name) == "permissive" and name not in (*attributed, "own")]
    alike = [name for name in licences if licence_kind(name) == "share-alike" or "-SA-" in name]
    copyleft = [name for name in licences if licence_kind(name) == "copyleft"]
    unchanged = [name for name in licences if "-ND-" in name]
    unpaid = [name for name in licences if licence_kind(name) in ("noncommercial", "research-only")]
    unclear = [name for name in licences if licence_kind(name) == "unknown" and name not in unchanged]
    found = zip((attributed, noticed, alike, copyleft, unchanged, unpaid, unclear), DUTIES, strict=True)
    lines = [f"{tell(', ').join(names)}{tell(': ')}{tell(duty)}" for names, duty in found if names]
    if len(binding := {_family(name) for name in (*alike, *copyleft)}) > 1:
        lines.append(tell(BINDING, names=tell(" and ").join(sorted(binding))))
    return lines


def _family(licence: str) -> str:
    """A licence that asks for itself, without what does not matter to that: the version of Creative Commons licences,
    whose later versions may stand for earlier ones (CC BY-SA 3.0, section 4b), and the tail of the GNU ones.

    >>> _family("CC-BY-SA-3.0"), _family("GPL-3.0-only")
    ('CC-BY-SA', 'GPL-3.0')
    """
    return re.sub(r"(?<=-SA)-\d.*|-only$|-or-later$", "", licence)


def years(time: str) -> tuple[int, int] | None:
    """First and last year of a source's `time`; None where it states none.

    >>> years("1996-07/2024")
    (1996, 2024)
    """
    found = [int(part[:4]) for part in time.split("/") if re.match(r"\d{4}", part)]
    return (min(found), max(found)) if found else None
