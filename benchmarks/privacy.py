"""Personal data: precision and recall on planted values beside other projects' patterns, and counts on real text.

    python -m benchmarks.privacy [FILE OR FOLDER ...]

The planted values and the near misses are those of tests/test_privacy.py. A value counts as found if some finding covers
all its digits (or, of an address, all of it), whatever its kind: that is the easier test, and fairer to the peers. A
text counts as a false alarm if anything is found in it. Presidio's pattern recognisers take part if it is installed.
"""

from __future__ import annotations

import importlib.util
import io
import re
import sys
import tarfile
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.privacy import find
from tests.test_privacy import NEAR_MISSES, PLANTED, cases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Spans = list[tuple[int, int]]
USUAL = tuple(
    re.compile(pattern)
    for pattern in (
        r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}\b",
        r"\b1[3-9]\d{9}\b",
        r"\b0\d{2,3}-\d{7,8}\b",
        r"\b(?:\+?1[-. ]?)?\(?\d{3}\)?[-. ]?\d{3}[-. ]?\d{4}\b",
        r"\b\d{17}[\dXx]\b",
        r"\b(?:\d[ -]*?){13,19}\b",
        r"\b\d{3}-\d{2}-\d{4}\b",
        r"\b(?:\d{1,3}\.){3}\d{1,3}\b",
        r"\b[EG]\d{8}\b",
    )
)
"""The patterns that answers on the web and most pipelines use."""


def ours(text: str) -> Spans:
    """Return the spans that SectorLM finds."""
    return [(start, end) for _, start, end in find(text)]


def usual(text: str) -> Spans:
    """Return the spans that the usual patterns find."""
    return [match.span() for pattern in USUAL for match in pattern.finditer(text)]


def presidio() -> Callable[[str], Spans]:
    """Return the finder made of Presidio's recognisers that need no language model, Chinese phones included."""
    from presidio_analyzer import predefined_recognizers as rows

    names = (
        "EmailRecognizer",
        "CreditCardRecognizer",
        "UsSsnRecognizer",
        "IpRecognizer",
        "UsPassportRecognizer",
    )
    recognisers = [
        *(getattr(rows, name)() for name in names),
        rows.PhoneRecognizer(supported_regions=("US", "GB", "CN")),
    ]

    def finder(text: str) -> Spans:
        results = [one for row in recognisers for one in row.analyze(text, row.supported_entities, None)]
        return [(one.start, one.end) for one in results if one.score >= 0.3]

    return finder


def covered(text: str, value: str, spans: Spans) -> bool:
    """Whether one span takes the value, but for marks at its ends such as `+` and `(`."""
    left = text.rindex(value)
    while not value[0].isalnum():
        value, left = value[1:], left + 1
    return any(start <= left and left + len(value) <= end for start, end in spans)


def table(finders: dict[str, Callable[[str], Spans]]) -> Iterator[str]:
    """Yield the rows of recall by kind and language, of false alarms, and of speed on text without findings."""
    yield "| recall | language | " + " | ".join(finders) + " |\n|---|---|" + "---:|" * len(finders)
    right: Counter[str] = Counter()
    for planted in PLANTED:
        for chinese in (False, True):
            texts = cases(planted.kind, chinese)
            hits = {name: sum(covered(t, v, run(t)) for t, v in texts) for name, run in finders.items()}
            right.update(hits)
            cells = " | ".join(f"{count / len(texts):.3f}" for count in hits.values())
            yield f"| {planted.kind} | {'zh' if chinese else 'en'} | {cells} |"
    alarms = {name: sum(bool(run(text)) for text in NEAR_MISSES) for name, run in finders.items()}
    yield f"| false alarms of {len(NEAR_MISSES)} near misses | both | " + " | ".join(map(str, alarms.values())) + " |"
    precision = (f"{right[name] / (right[name] + alarms[name]):.3f}" for name in finders)
    yield "| precision on all of these | both | " + " | ".join(precision) + " |"
    prose = "It was the best of times, it was the worst of times, in 1859 and after; he paid 12 pounds. " * 2000
    yield (
        "| MB per CPU second of prose | en | "
        + " | ".join(f"{speed(run, [prose]):,.1f}" for run in finders.values())
        + " |"
    )


def speed(run: Callable[[str], Spans], texts: list[str]) -> float:
    """Return megabytes of UTF-8 per CPU second."""
    size = sum(len(text.encode()) for text in texts)
    begin = time.process_time()
    for text in texts:
        run(text)
    return size / 1e6 / max(time.process_time() - begin, 1e-9)


def texts_of(path: Path) -> Iterator[str]:
    """Yield the texts of a file, of an archive or of all files of a folder; what is no text is left out."""
    import pyarrow as pa

    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if not file.is_file() or file.suffix in {".xlsx", ".parquet"}:
            continue
        name = file.name.removesuffix(".gz").removesuffix(".zst")
        with pa.input_stream(file) as stream:
            content = stream.read()
        if name.endswith(".zip"):
            archive = zipfile.ZipFile(io.BytesIO(content))
            yield from (archive.read(member).decode(errors="replace") for member in archive.namelist())
        elif name.endswith(".tar"):
            with tarfile.open(fileobj=io.BytesIO(content)) as members:
                opened = (members.extractfile(one) for one in members)
                yield from (one.read().decode(errors="replace") for one in opened if one)
        else:
            yield content.decode(errors="replace")


def main() -> None:
    """Print the table, then findings by kind and speed for every path that is given."""
    finders = {"SectorLM": ours, "usual patterns": usual}
    if importlib.util.find_spec("presidio_analyzer"):
        finders["Presidio"] = presidio()
    print("\n".join(table(finders)))
    for argument in sys.argv[1:]:
        texts = list(texts_of(Path(argument)))
        kinds = Counter(found.kind for text in texts for found in find(text))
        said = ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common()) or "nothing"
        rates = ", ".join(
            f"{name} {speed(run, texts):,.0f} MB/s" for name, run in finders.items() if name != "Presidio"
        )
        print(f"{argument}: {said}; {rates}")


if __name__ == "__main__":
    main()
