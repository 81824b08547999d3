"""One corpus for all comparisons: the public texts of the sector data as JSON Lines, `{"text": ...}`, English and Chinese.

    python -m benchmarks.corpus SHARED_DATA OUT.jsonl [MEGABYTES]

About 200 MB. Texts stand in the order of their hashes, so a corpus of fewer MEGABYTES is a sample of the same make-up. Where more
are asked for the texts come again, with a word of the same text put in after every tenth: of five-word shingles such a
copy shares 0.4 with its original (Jaccard), far from a near-duplicate.
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from configs.read import read_rows
from configs.template import template

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 20_000
"""Characters of the longest text."""
WORD = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")
EVERY = 10
"""Words between two that are put into a copy."""


class Texts(NamedTuple):
    """Some files of the shared data, and what of a row is the text."""

    files: str
    inside: str = ""
    text: str = "{{ text }}"
    records: str = ""


ALPACA = "{{ instruction }}\n{{ input }}\n{{ output }}"
ITEMS = "{% for name in row if name.startswith('item_') %}{{ row[name] }}\n{% endfor %}"
ABSTRACT = "{{ QUESTION }}\n{{ CONTEXTS | join('\n') }}\n{{ LONG_ANSWER }}"
CHOICES = "{{ question }}\n{{ opa }}\n{{ opb }}\n{{ opc }}\n{{ opd }}\n{{ exp }}"
VERSES = "{{ (row.get('paragraphs') or row.get('content') or []) | join('\n') }}"
SOURCES = (
    Texts("general/english-novels/*.tar.zst"),
    Texts("general/peps/*.tar.zst"),
    Texts("general/tidb-docs-zh/*.tar.zst"),
    Texts("general/linux-command-zh/*.tar.zst"),
    Texts("general/wikitext-2/*.txt.gz"),
    Texts("general/us-speeches/*.zip"),
    Texts("general/cmrc2018/*.json*", records="data[].paragraphs[]", text="{{ context }}"),
    Texts("general/drcd/*.json.gz", records="data[].paragraphs[]", text="{{ context }}"),
    Texts("finance/fomc/fomc.tar.zst", "*.txt"),
    Texts("finance/edgar-10k/10-K.zip", text=ITEMS),
    Texts("finance/edgar-8k-raw/8-K.zip"),
    Texts("finance/cflue/knowledge.json.gz", text="{{ question }}\n{{ choices }}\n{{ analysis }}"),
    Texts("finance/pixiu-finqa/*.jsonl.zst", text="{{ conversations[0].value }}"),
    Texts("medicine/medquad/medquad.tar.zst", "*.xml", "{{ Question }}\n{{ Answer }}", "QAPairs.QAPair[]"),
    Texts("medicine/pubmedqa/ori_pqal.json.gz", records="*", text=ABSTRACT),
    Texts("medicine/medmcqa-dev/*.zst", text=CHOICES),
    Texts("medicine/huatuo-instruct/*.json.gz", text=ALPACA),
    Texts("medicine/genmedgpt-5k/*.json.gz", text=ALPACA),
    Texts("medicine/cn-medical-dialogue/*.csv.gz", text="{{ title }}\n{{ ask }}\n{{ answer }}"),
    Texts("agriculture/seedbench/corpus/*.json", text="{{ segment }}"),
    Texts("emergency/safenet/*.tar.zst", text="{{ Narrative }}\n{{ row['Immediate Action Taken'] }}"),
    Texts("emergency/crisislex-t26/*.tar.gz", "*.csv", "{{ row['Tweet Text'] }}"),
    Texts("green/climatex/*.tsv.gz", text="{{ statement }}"),
    Texts("science/d2l-zh/*.tar.zst"),
    Texts("tourism/chinese-poetry/*.json*", text=VERSES),
    Texts("transport/highway-code/*.tar.zst"),
    Texts("urban/cn-laws-core/*.tar.zst"),
    Texts("*/cn-regulations/*.tar.zst"),
)


def texts_of(shared: Path) -> Iterator[str]:
    """All texts of the table; the longest are cut at paragraphs, as web corpora are into pages."""
    for source in SOURCES:
        render = template(source.text)
        files = sorted(shared.glob(source.files))
        if not files:
            raise SystemExit(f"{shared} has no {source.files}")
        for row in read_rows(files, source.inside, records=source.records):
            text = render(row.fields).strip()
            while len(text) > LONGEST:
                cut = text.rfind("\n\n", LONGEST // 2, LONGEST)
                cut = cut if cut > 0 else LONGEST
                yield text[:cut]
                text = text[cut:].strip()
            if text:
                yield text


def varied(text: str, number: int) -> str:
    """The text with one of its words put in after every tenth: copy `number`, unlike the others.

    >>> varied("one two three four five six seven eight nine ten", 1)
    'one two three four five six seven eight nine ten seven'
    """
    words = WORD.findall(text)
    draw = random.Random(f"{number} {text[:100]}")
    parts, begin = [], 0
    for place, word in enumerate(WORD.finditer(text), 1):
        if place % EVERY == 0:
            parts += [text[begin : word.end()], draw.choice(words)]
            begin = word.end()
    return " ".join(parts) + text[begin:]


def corpus(shared: Path, wanted: float) -> Iterator[bytes]:
    """The lines of a corpus of at least `wanted` bytes, or of all texts once for an infinite number."""
    texts = sorted(texts_of(shared), key=lambda text: (xxhash.xxh3_64_intdigest(text.encode()), text))
    size = number = 0
    while size < wanted:
        for text in texts:
            line = json.dumps({"text": varied(text, number) if number else text}, ensure_ascii=False).encode() + b"\n"
            yield line
            size += len(line)
            if size >= wanted:
                return
        if wanted == float("inf"):
            return
        number += 1


def main() -> None:
    """Write the corpus."""
    shared, out = Path(sys.argv[1]), Path(sys.argv[2])
    wanted = float(sys.argv[3]) * 1e6 if len(sys.argv) > 3 else float("inf")
    size = count = 0
    with out.open("wb") as file:
        for line in corpus(shared, wanted):
            file.write(line)
            size += len(line)
            count += 1
    print(f"{count:,} texts, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
