"""A corpus in words: its terms, what was found in it and what was done about it, for the model card and the report.

As much of a data sheet (Gebru et al. 2021, "Datasheets for Datasets") as the record of a corpus can fill.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from configs.governance import strictest
from configs.wording import ENGLISH
from configs.worth import valuation_beside, valuation_told

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from configs.records import Corpus, SourceLedger
    from configs.wording import Wording

WHOLE = 0.8
"""Part of a test item from which on it counts as found in whole, as in data_prep/leaks.py."""
PERSONAL = {
    "mask": "a mark stands in their place",
    "drop": "their documents were left out",
    "report": "they stay as they are",
}
"""What `personal` of a source did with what was found."""
LEAKING = {
    "drop": "Those documents were left out.",
    "cut": "Those sentences were cut out of texts; conversations that hold some were left out.",
    "report": "Those documents were kept, as the recipe says.",
    "off": "",
}
"""What `prepare.decontaminate` did."""


class Leak(NamedTuple):
    """What the documents share with the test items of a task."""

    task: str
    checked: int
    """Items that were compared."""
    touched: int
    """Those that share a passage with a document."""
    whole: int
    """Those of which the documents hold 80 % or more."""


def datasheet(corpus: Corpus, folder: Path | None = None, tell: Wording = ENGLISH) -> dict[str, str]:
    """What holds for the whole corpus, under a word for each: terms, near-duplicates, leaks; and what it was found to be
    worth, where its `folder` is given and `sectorlm worth` measured it.

    The words are keys and stay English; what is said under them is in the language of `tell`, its worth in English.
    """
    found = valuation_beside(corpus, folder)[0] if folder is not None else None
    return {
        "Terms": tell(" ").join(strictest(corpus.sources).sentences(tell)),
        "Duplicates": _duplicates(corpus, tell),
        "Leaks": _leaks(corpus, tell),
    } | ({"Worth": " ".join((f"{valuation_told(found)}.", *found.notes))} if found is not None else {})


def findings(corpus: Corpus, source: SourceLedger, tell: Wording = ENGLISH) -> dict[str, str]:
    """What was met in the documents of one source, under a word for each; what there was nothing of is left out."""
    found = {
        "Languages": _named(source.languages, "languages", tell),
        "Mended": counted({tell.reason(name): count for name, count in source.mended.items()}, tell),
        "Personal data": _personal(corpus, source, tell),
        "Exercises": _named(source.exercises, "exercises", tell),
    }
    return {name: told for name, told in found.items() if told}


def leaks(corpus: Corpus) -> list[Leak]:
    """What the documents share with the items of each task that the recipe reports."""
    return [
        Leak(
            task,
            checked,
            len(corpus.touched.get(task, ())),
            sum(part >= WHOLE for part in corpus.coverage.get(task, {}).values()),
        )
        for task, checked in corpus.checked.items()
    ]


def counted(counts: Mapping[str, int], tell: Wording = ENGLISH) -> str:
    """Counts in words, the largest first.

    >>> counted({"en": 2, "zh-Hans": 1200})
    'zh-Hans 1,200, en 2'
    """
    return tell(", ").join(
        f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    )


def _named(counts: Mapping[str, int], table: str, tell: Wording) -> str:
    return counted({tell.term(table, name): count for name, count in counts.items()}, tell)


def _duplicates(corpus: Corpus, tell: Wording) -> str:
    if corpus.near_duplicates is None:
        return tell("Documents with the same content count as one.")
    return tell(
        "Documents with the same content count as one; so do plain texts whose runs of five words or Chinese characters "
        "overlap by {share} or more (Jaccard).",
        share=f"{corpus.near_duplicates:g}",
    )


def _leaks(corpus: Corpus, tell: Wording) -> str:
    found = leaks(corpus)
    if not found:
        return tell("Test items were not looked for.")
    told = tell("; ").join(
        tell("{task} {touched} of {checked}", task=leak.task, touched=f"{leak.touched:,}", checked=f"{leak.checked:,}")
        + (tell(" ({count} in whole)", count=f"{leak.whole:,}") if leak.touched else "")
        for leak in found
    )
    done = LEAKING[corpus.settings.get("prepare.decontaminate", "off")] if any(leak.touched for leak in found) else ""
    told = tell("Test items that share a long passage with a document as it was read: {told}.", told=told)
    return f"{told}{tell(' ')}{tell(done)}" if done else told


def _personal(corpus: Corpus, source: SourceLedger, tell: Wording) -> str:
    policy = corpus.settings.get(f"corpora[{source.name}].personal", "off")
    if policy == "off":
        return tell("not looked for")
    found = _named(source.personal, "personal", tell)
    return f"{found}{tell('; ')}{tell(PERSONAL[policy])}" if found else tell("none found")
