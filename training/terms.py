"""What a release says of terms and of data: LICENCES.md and DATA.md, filled from the records."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import yaml

from configs.base import base_folder
from configs.datasheet import datasheet, findings
from configs.errors import RecipeError
from configs.licences import NAMES, licence_kind, licence_name
from configs.public import public_value
from configs.store import HOUSE, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from configs.job import Job
    from configs.records import Corpus

SPDX = "https://spdx.org/licenses/{}.html"
"""Where the texts of licences stand."""
OWN_WORDS = {"public-domain", "US-government-work", "own", "research-only", "academic-use-only", "loghub"}
"""Names of our table that are no identifiers of SPDX."""
IDENTIFIERS = {name for name in NAMES.values() if name not in OWN_WORDS and licence_kind(name) != "unknown"}


def base_licence(job: Job) -> str:
    """The base's licence as the recipe says, else as the card in its folder says; empty where neither does."""
    if job.recipe.publish.base_licence:
        return job.recipe.publish.base_licence
    path = base_folder(job.recipe.base, job.roots, weights=False) / "README.md"
    if not path.is_file():
        return ""
    _, _, rest = path.read_text("utf-8", errors="replace").partition("---\n")
    try:
        head = yaml.safe_load(rest.partition("\n---")[0])
    except yaml.YAMLError:
        return ""
    return str(head.get("license") or "") if isinstance(head, dict) else ""


def add_terms(staging: Path, job: Job, corpus: Corpus) -> None:
    """LICENCES.md: whose terms hold for what, and where their texts stand; and the texts that are at hand.

    Nothing is fetched: the text of the release's own licence is added where it is Apache-2.0, which SectorLM itself is
    under, and the base's where its folder has one.
    """
    recipe, texts = job.recipe, {}
    if known_name(recipe.publish.licence) == "Apache-2.0":
        shutil.copyfile(HOUSE / "LICENSE", staging / "LICENSE")
        texts["this release"] = "LICENSE"
    for path in sorted(base_folder(recipe.base, job.roots, weights=False).glob("LICENSE*")):
        shutil.copyfile(path, staging / f"LICENSE.base{path.suffix}")
        texts["the base"] = f"LICENSE.base{path.suffix}"
    rows = [("this release", recipe.publish.licence), (f"the base, {public_value(recipe.base)}", base_licence(job))]
    rows += [(f"source {it.name}" + (f" ({it.origin})" if it.origin else ""), it.licence) for it in corpus.sources]
    lines = ["# Licences", "", "| what | licence | its text |", "|---|---|---|"]
    for what, licence in rows:
        text = texts.get(what.partition(",")[0]) or where_text(licence)
        lines.append(f"| {what.replace('|', '/')} | {licence or 'not known'} | {text} |")
    lines += ["", f"The recipe states `use: {recipe.use}`. This table is what the records say; it is no legal advice."]
    write_atomic(staging / "LICENCES.md", "\n".join(lines) + "\n")


def known_name(licence: str) -> str:
    """The licence's name in the table of `configs/licences.py`; as it is where it has none, like `llama3.1` of the hub."""
    try:
        return licence_name(licence)
    except RecipeError:
        return licence


def where_text(licence: str) -> str:
    """Where the text of a licence stands, for those with an SPDX identifier.

    >>> where_text("cc-by-4.0"), where_text("research-only")
    ('https://spdx.org/licenses/CC-BY-4.0.html', 'ask its holder')
    """
    name = known_name(licence)
    return SPDX.format(name) if name in IDENTIFIERS else "ask its holder"


def add_data(staging: Path, corpus: Corpus) -> None:
    """DATA.md: what the corpus is made of, source by source, with what was refused, dropped, mended and found."""
    lines = ["# Data", "", f"{corpus.documents:,} documents, {corpus.tokens_train:,} training tokens a pass.", ""]
    lines += [f"- **{name}.** {told}" for name, told in datasheet(corpus).items()]
    for it in corpus.sources:
        lines += ["", f"## {it.name}", ""]
        figures: dict[str, Any] = {
            "Licence": it.licence,
            "Origin": it.origin,
            "Grade (GB/T 43697-2024)": it.grade,
            "Channel": it.channel,
            "Rows": f"{it.rows:,}",
            "Refused": _counts(it.refused),
            "Dropped": _counts(it.dropped),
            "Documents kept": f"{it.documents:,}",
            "Tokens": f"{it.tokens:,}, {it.supervised:,} of them learnt, {it.repeats:g} times a pass",
            **findings(corpus, it),
        }
        lines += [f"- {name}: {value}" for name, value in figures.items() if value]
    write_atomic(staging / "DATA.md", "\n".join(lines) + "\n")


def _counts(reasons: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items())) or "0"
