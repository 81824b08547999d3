"""Near-duplicates planted in real texts, with the overlap that a plain count of shingles gives them."""

from __future__ import annotations

import gzip
import json
import random
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUSE = Path(__file__).resolve().parent.parent
SHARED = HOUSE.parent / "shared" / "data"
WORD = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")
DUPLICATES, OTHERS = (0.8, 0.99), (0.3, 0.7)
"""Overlaps of planted pairs that count as one, and that do not."""


class Planted(NamedTuple):
    """Documents in which every text stands twice, once edited."""

    texts: list[str]
    pairs: list[tuple[int, int, float]]
    """Earlier document, later document, overlap."""


def shingles(text: str) -> set[tuple[str, ...]]:
    """Runs of five words, or Chinese characters."""
    units = WORD.findall(text.casefold())
    return {tuple(units[place : place + 5]) for place in range(max(len(units) - 4, 1))}


def overlap(one: str, other: str) -> float:
    """Jaccard overlap of the sets of shingles, counted in plain Python."""
    first, second = shingles(one), shingles(other)
    return len(first & second) / len(first | second)


def plant(language: str, count: int, seed: int = 0) -> Planted:
    """`count` texts of 60 to 600 words or characters and an edited copy of each, shuffled.

    Three of five copies overlap by 0.8 to 0.99, the others by 0.3 to 0.7: words are replaced, put in and left out one by
    one until the overlap is where it was drawn.
    """
    rng = random.Random(seed)
    entries: list[tuple[str, int]] = []
    overlaps = []
    for text in pieces(language, rng):
        copy, found = _edited(text, rng.uniform(*(DUPLICATES if rng.random() < 0.6 else OTHERS)), language, rng)
        if any(low <= found <= high for low, high in (DUPLICATES, OTHERS)):
            entries += [(text, len(overlaps)), (copy, len(overlaps))]
            overlaps.append(found)
        if len(overlaps) == count:
            break
    rng.shuffle(entries)
    places: dict[int, list[int]] = {}
    for place, (_, number) in enumerate(entries):
        places.setdefault(number, []).append(place)
    pairs = [(*places[number], found) for number, found in enumerate(overlaps)]
    return Planted([text for text, _ in entries], [(one, other, found) for one, other, found in pairs])


def _edited(text: str, target: float, language: str, rng: random.Random) -> tuple[str, float]:
    parts = text.split() if language == "en" else list(text)
    joint = " " if language == "en" else ""
    words = list(parts)
    rate = 1 - (2 * target / (1 + target)) ** 0.2  # a shingle stays whole when none of its five units is edited
    for place in range(len(words)):
        if rng.random() < rate:
            words[place] = rng.choice(("", rng.choice(parts), f"{words[place]}{joint}{rng.choice(parts)}"))
    copy = joint.join(words)
    return copy, overlap(text, copy)


def pieces(language: str, rng: random.Random) -> Iterator[str]:
    """Pieces of real texts that share nothing, 60 to 600 words or characters long."""
    for text in sources(language):
        parts = text.split() if language == "en" else list(text)
        place = 0
        while len(parts) - place >= 60:
            size = rng.choice((60, 120, 300, 600))
            piece = parts[place : place + size]
            if len(piece) >= 60:
                yield (" " if language == "en" else "").join(piece)
            place += size


def sources(language: str) -> Iterator[str]:
    """Annual reports and encyclopaedic texts of the shared sector data, or the embedded samples where it is not here."""
    reports, articles = SHARED / "finance/edgar-10k/10-K.zip", SHARED / "general/cmrc2018/cmrc2018_dev.json.gz"
    if language == "en" and reports.is_file():
        with zipfile.ZipFile(reports) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".json"):
                    yield json.loads(archive.read(name))["item_1"]
    elif language == "zh" and articles.is_file():
        for article in json.loads(gzip.decompress(articles.read_bytes()))["data"]:
            yield from (paragraph["context"] for paragraph in article["paragraphs"])
    else:
        for path in sorted((HOUSE / "assets/samples").glob("*/*_train.jsonl")):
            for line in path.read_text("utf-8").splitlines():
                row = json.loads(line)
                if row.get("language") == language:
                    yield row.get("text", "")
