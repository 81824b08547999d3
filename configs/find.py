"""Where is this text, and which runs saw it? From a passage or a document's id to its source, its rows and its runs.

Nothing is looked up in an index: the tokens of the corpus are turned back into text, document by document, so that what
is found is what the model saw, masks and repairs included.
"""

from __future__ import annotations

import json
import unicodedata
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.errors import RecipeError
from configs.progress import track
from configs.sample import corpus_folder, open_corpus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.text import Text

    from configs.sample import OpenCorpus

CONTEXT = 60
"""Characters that are shown on each side of what was found."""
BATCH_DOCUMENTS, BATCH_TOKENS = 1024, 1 << 20
"""Documents read, and tokens turned into text, at once."""
COLUMNS = ["id", "source", "split", "where", "start", "tokens"]


class Hit(NamedTuple):
    """A document of a corpus in which something was found."""

    document: str
    """Its id."""
    source: str
    where: str
    """File and line."""
    split: str
    """`train` or `validation`."""
    rows: tuple[int, ...]
    """Packed rows that hold the passage, or of a document asked for by its id any piece: `show CORPUS --rows`."""
    before: str
    found: str
    """The passage as the model saw it; the beginning of the document where it was asked for by id."""
    after: str


class LeftOut(NamedTuple):
    """A document that was read and left out of a corpus."""

    document: str
    """Its id."""
    source: str
    where: str
    """File and line."""
    reason: str


def find_in_corpus(folder: Path, wanted: str, limit: int = 20) -> list[Hit]:
    """The documents that have the id `wanted`, or else hold the text `wanted`, at most `limit`, in the corpus' order.

    Texts are compared in compatibility form (NFKC), case folded, all white space alike. One pass over the tokens, about
    a second per million; memory does not depend on the size of the corpus.

    Raises:
        RecipeError: there is nothing to look for.
        DataError: no corpus at `folder`, its files were changed, or its tokenizer is not the one of the recipe's base.
    """
    needle = normalised(wanted).strip()
    if not needle:
        raise RecipeError("nothing to look for", where="--find", hint="Give a text, or the id of a document.")
    corpus = open_corpus(folder)
    found = list(_by_id(corpus, wanted.strip()))
    if not found and not left_out(folder, wanted):
        found = list(_by_text(corpus, needle, limit))
    return found[:limit]


def left_out(folder: Path, identity: str) -> list[LeftOut]:
    """What became of the documents with this id that were left out of the corpus at `folder`, each time one was.

    One pass over the lines of dropped.jsonl; one at a time is held in memory.
    """
    path, wanted = corpus_folder(folder) / "dropped.jsonl", identity.strip()
    if not wanted or not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        lines = [line for text in file if wanted in text and (line := json.loads(text))["id"] == wanted]
    return [LeftOut(wanted, line["source"], line["where"], line["reason"]) for line in lines]


def normalised(text: str) -> str:
    """The form in which texts are compared.

    >>> normalised("Ｒate\\n RISES")
    'rate rises'
    """
    return " ".join(f".{unicodedata.normalize('NFKC', text).casefold()}.".split())[1:-1]


def _by_id(corpus: OpenCorpus, identity: str) -> Iterator[Hit]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(corpus.folder / "documents.parquet").iter_batches(BATCH_DOCUMENTS, columns=COLUMNS):
        for line in batch.filter(pc.equal(batch["id"], identity)).to_pylist():
            head = corpus.text(line["start"], min(line["tokens"], 2 * CONTEXT))
            rows = _rows(corpus, line["start"], line["start"] + line["tokens"])
            yield _hit(line, rows, head, slice(0, 2 * CONTEXT))


def _by_text(corpus: OpenCorpus, needle: str, limit: int) -> Iterator[Hit]:
    import pyarrow.parquet as pq

    left = limit
    with track("looking", corpus.record.tokens, "tokens") as bar:
        for batch in pq.ParquetFile(corpus.folder / "documents.parquet").iter_batches(BATCH_DOCUMENTS, columns=COLUMNS):
            for lines in _portions(batch.to_pylist()):
                texts = corpus.texts([(line["start"], line["tokens"]) for line in lines])
                for line, text in zip(lines, texts, strict=True):
                    place = normalised(text).find(needle)
                    if place >= 0:
                        part = _original(text, place, len(needle))
                        first, last = (_token(corpus, line, end) for end in (part.start + 1, part.stop))
                        yield _hit(line, _rows(corpus, first - 1, last), text, part)
                        left -= 1
                        if not left:
                            return
                bar.advance(sum(line["tokens"] for line in lines))


def _portions(lines: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Neighbouring documents of about BATCH_TOKENS."""
    portion: list[dict[str, Any]] = []
    tokens = 0
    for line in lines:
        portion.append(line)
        tokens += line["tokens"]
        if tokens >= BATCH_TOKENS:
            yield portion
            portion, tokens = [], 0
    if portion:
        yield portion


def _original(text: str, place: int, length: int) -> slice:
    """Where a stretch of the normalised text stands in the text itself: its beginnings only grow longer."""
    edges = range(len(text) + 1)
    start = bisect_left(edges, place + 1, key=lambda end: len(normalised(text[:end]))) - 1
    return slice(start, bisect_left(edges, place + length, key=lambda end: len(normalised(text[:end]))))


def _token(corpus: OpenCorpus, line: dict[str, Any], characters: int) -> int:
    """The place in tokens.bin up to which a document must be read to see so many of its characters."""
    start = int(line["start"])
    counts = range(line["tokens"] + 1)
    return start + bisect_left(counts, characters, key=lambda count: len(corpus.text(start, count)))


def _rows(corpus: OpenCorpus, start: int, end: int) -> tuple[int, ...]:
    """The packed rows with a segment that overlaps these tokens."""
    import numpy as np

    segments = corpus.segments
    holds = (segments[:, 1] < end) & (segments[:, 1] + segments[:, 2] > start)
    return tuple(np.unique(segments[holds, 0]).tolist())


def _hit(line: dict[str, Any], rows: tuple[int, ...], text: str, part: slice) -> Hit:
    before, after = text[max(part.start - CONTEXT, 0) : part.start], text[part.stop : part.stop + CONTEXT]
    passages = (" ".join(f".{it}.".split())[1:-1] for it in (before, text[part], after))
    return Hit(line["id"], line["source"], line["where"], line["split"], rows, *passages)


def find_view(
    hits: Sequence[Hit], runs: Sequence[Path], gone: Sequence[LeftOut] = (), tainted: Sequence[Path] = ()
) -> list[Text]:
    """What was found, three lines for each document, or what became of it where it was left out; and who saw it.

    `runs` were trained on this corpus; `tainted` were trained on one of these documents and must forget it.
    """
    from rich.text import Text

    shown = [_hit_view(hit) for hit in hits]
    for it in gone if not hits else ():
        lines = Text(it.document, style="bold")
        lines.append(f"  {it.source}\n", style="cyan")
        shown.append(lines.append(f"  left out: {it.reason}, {it.where}", style=""))
    if not shown:
        return [Text("not found in this corpus", style="bold")]
    if hits:
        shown.append(Text(f"runs that were trained on this corpus:\n{_paths(runs)}"))
    if tainted or not hits:
        shown.append(Text(f"tainted runs, which saw it before it was left out:\n{_paths(tainted)}"))
    return shown


def _paths(runs: Sequence[Path]) -> str:
    return "\n".join(f"  {run}" for run in runs) or "  none"


def _hit_view(hit: Hit) -> Text:
    from rich.text import Text

    rows = ", ".join(map(str, hit.rows[:10])) + (f" and {len(hit.rows) - 10} more" if len(hit.rows) > 10 else "")
    lines = Text(hit.document, style="bold")
    lines.append(f"  {hit.source}  {hit.where}\n", style="cyan")
    lines.append(f"  {hit.split}, {'row' if len(hit.rows) == 1 else 'rows'} {rows or 'none'}\n", style="")
    lines.append(f"  {hit.before}", style="dim")
    lines.append(hit.found, style="green")
    lines.append(hit.after, style="dim")
    return lines
