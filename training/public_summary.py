"""The public summary of training content that the EU AI Act asks of providers of general-purpose models.

Sections are those of the template that the European Commission published on 24 July 2025 for Article 53(1)(d) of Regulation
(EU) 2024/1689; the records fill them as far as they can. What no record knows is marked, not invented. It covers what was
done here: the base model's own training content is its provider's to summarise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.base import public_name
from configs.datasheet import counted, datasheet
from configs.hub import HUB
from configs.licences import licence_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.job import Job
    from configs.records import Corpus, Run, SourceLedger

OPEN = "_To be stated by the provider._"
"""Stands where only a person can answer."""
ABOUT = (
    "After the template of the European Commission of 24 July 2025 for Article 53(1)(d) of Regulation (EU) 2024/1689, "
    "filled from the records of the corpus and the run. It covers the tuning; the content that the base was trained on is "
    "its provider's to summarise."
)
CRAWLED = (
    "None by this project: no crawler was used. Data sets of section 2.1 may themselves have been crawled by those who "
    "published them."
)
UNCLEAR = "Sources whose licence does not show that they are public; the provider states how each was obtained."
SIZES = ((1e9, "less than 1 billion tokens"), (1e13, "1 billion to 10 trillion tokens"))
"""Ranges of the template for the size of text, by their upper end."""


def public_summary(job: Job, corpus: Corpus, run: Run) -> str:
    """The summary as Markdown, one heading for each section of the template."""
    synthetic = {source.name for source in job.recipe.corpora if source.generated}
    hub = {source.name for source in job.recipe.corpora if any(path.startswith(HUB) for path in source.paths)}
    made = [it for it in corpus.sources if it.name in synthetic]
    public = [it for it in corpus.sources if it.name not in synthetic and (it.name in hub or _is_open(it))]
    other = [it for it in corpus.sources if it not in made and it not in public]
    sections = {
        f"# Public summary of training content: {run.name}": ABOUT,
        "## 1. General information": _general(job, corpus, run),
        "## 2. List of data sources": "",
        "### 2.1 Publicly available datasets": _sources(public),
        "### 2.2 Private non-publicly available datasets obtained from third parties": _sources(other, UNCLEAR),
        "### 2.3 Data crawled and scraped from online sources": CRAWLED,
        "### 2.4 User data": OPEN,
        "### 2.5 Synthetic data": _sources(made) + _composed(corpus),
        "### 2.6 Other sources of data": "None.",
        "## 3. Relevant data processing aspects": "",
        "### 3.1 Respect of reservation of rights from text and data mining": _rights(job, corpus),
        "### 3.2 Removal of illegal content": f"{OPEN} Personal data met: {_personal(corpus)}.",
        "### 3.3 Other information": _left_out(corpus),
    }
    parts = (f"{heading}\n\n{text}" if text else heading for heading, text in sections.items())
    return "\n\n".join(parts) + "\n"


def _rights(job: Job, corpus: Corpus) -> str:
    return (
        "Every source has a licence; one that forbids the stated use is refused before training. Removal requests of the "
        f"recipe (`prepare.exclude`): {len(job.recipe.prepare.exclude)}. {datasheet(corpus)['Terms']}"
    )


def _general(job: Job, corpus: Corpus, run: Run) -> str:
    publish, tokens = job.recipe.publish, sum(source.tokens for source in corpus.sources)
    size = next((told for most, told in SIZES if tokens < most), "more than 10 trillion tokens")
    languages = sorted({language for source in corpus.sources for language in source.language})
    times = sorted(source.time for source in corpus.sources if source.time)
    rows = [
        ("Provider", publish.provider or OPEN),
        ("Contact", publish.contact or OPEN),
        ("Authorised representative", OPEN),
        ("Versioned model name", f"{run.name}, weights {run.weights_digest[:12]}"),
        ("Model dependencies", f"{public_name(run.base)}, weights {run.base_digest[:12]}"),
        ("Date of placement on the Union market", OPEN),
        ("Modality", "text"),
        ("Training data size", f"{size} ({tokens:,} tokens, {corpus.documents:,} documents)"),
        ("Types of content", f"text of the sector {corpus.sector.replace('_', ' ')}, and general text as replay"),
        ("Latest date of data", times[-1].split("/")[-1] if times else OPEN),
        ("Linguistic characteristics", f"{', '.join(languages) or OPEN}"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {told} |" for name, told in rows)])


def _is_open(source: SourceLedger) -> bool:
    """Whether its licence is one that only published data have."""
    return licence_kind(source.licence) != "unknown" and source.licence != "own"


def _sources(sources: Sequence[SourceLedger], note: str = "") -> str:
    if not sources:
        return "None."
    lines = [
        *([note, ""] if note else []),
        "| data set | from | licence | time | documents | tokens |",
        "|---|---|---|---|---:|---:|",
    ]
    lines += [
        f"| {it.name} | {it.origin or OPEN} | {it.licence} | {it.time or '-'} | {it.documents:,} | {it.tokens:,} |"
        for it in sources
    ]
    return "\n".join(lines)


def _composed(corpus: Corpus) -> str:
    made = sum(sum(source.composed.values()) for source in corpus.sources)
    return f"\n\n{made:,} documents were composed from rows and texts by fixed rules, without a model." if made else ""


def _personal(corpus: Corpus) -> str:
    kinds: dict[str, int] = {}
    for source in corpus.sources:
        for kind, count in source.personal.items():
            kinds[kind] = kinds.get(kind, 0) + count
    return counted(kinds) or "none of the kinds that are looked for"


def _left_out(corpus: Corpus) -> str:
    lines = ["What was left out, by source and reason:", ""]
    lines += [
        f"- {it.name}: {counted({**it.refused, **it.dropped})}" for it in corpus.sources if it.refused or it.dropped
    ]
    return "\n".join(lines) if len(lines) > 2 else "No document was left out."
