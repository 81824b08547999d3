"""Small recipes for tests: texts that no rule drops, a recipe file, and the command line in this process."""

from __future__ import annotations

import io
import json
import random
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import yaml

from configs import progress
from configs.answer import answered
from configs.exits import understood
from configs.records import Corpus
from configs.store import digest_folder

WORDS = (  # noqa: SIM905 - a list of words reads worse
    "the bank of a rate and loan in market for year with growth by price from law to risk on capital that trade was debt "
    "is paid when court or fund as rule at index not share but yield which fee has cost this tax were bond its firm"
).split()


class Told(NamedTuple):
    """What a command line came to."""

    code: int
    out: str
    err: str


def sectorlm(*words: str | Path) -> Told:
    """The front door without a process of its own: the verb, its output, and its exit code."""
    from sectorlm import app

    out, err, code = io.StringIO(), io.StringIO(), 0
    progress._quiet = False
    with redirect_stdout(out), redirect_stderr(err):
        try:
            answered(app, [str(word) for word in words])
        except BaseException as error:
            found = understood(error, [])
            code = found.code
            print(f"sectorlm: {found}", file=err)
    return Told(code, out.getvalue(), err.getvalue())


def prose(number: int, sentences: int = 6) -> str:
    """Sentences of twelve words that no other number gives."""
    draw = random.Random(number)
    return " ".join(" ".join(draw.choices(WORDS, k=12)).capitalize() + "." for _ in range(sentences))


def lines(rows: list[dict[str, Any]]) -> str:
    """Rows as JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def notes(start: int, stop: int, sentences: int = 6) -> str:
    """JSON Lines with one text each, `body`."""
    return lines([{"body": prose(number, sentences)} for number in range(start, stop)])


def source(path: Any, **more: Any) -> dict[str, Any]:
    """A source of the recipe; plain text of the column `body` unless a shape is given."""
    shape = {} if {"text", "prompt", "messages"} & more.keys() else {"text": "{{ body }}"}
    name = path if isinstance(path, str) else path[0]
    return {"name": name.split(".")[0].replace("/", "-"), "path": path, "licence": "CC0-1.0", **shape, **more}


def recipe(base: Path, *sources: dict[str, Any], **prepare: Any) -> None:
    """Write r.yaml into the folder where the test stands."""
    settings = {"sequence_length": 64, "validation": 0.1, "decontaminate": "off", **prepare}
    asked = {"name": "small", "sector": "finance", "base": str(base), "corpora": list(sources), "prepare": settings}
    asked["data"] = [str(base.parent)]
    asked["evaluate"] = {"tasks": ["finance_topics"], "general": []}
    Path("r.yaml").write_text(yaml.safe_dump(asked, allow_unicode=True), "utf-8")


def corpus(run: str = "runs/small") -> Corpus:
    """The record of the corpus in a run folder."""
    return Corpus.read(Path(run) / "corpus/corpus.json")


def documents(run: str = "runs/small") -> list[dict[str, Any]]:
    """The lines of documents.parquet."""
    return list(pq.read_table(Path(run) / "corpus/documents.parquet").to_pylist())


def read_lines(path: str) -> list[dict[str, Any]]:
    """JSON Lines as objects."""
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def tokens(run: str = "runs/small") -> np.ndarray:
    """tokens.bin."""
    return np.fromfile(Path(run) / "corpus/tokens.bin", corpus(run).token_dtype)


def digest(run: str = "runs/small") -> str:
    """Of all that a corpus holds but its record, which has the time in it."""
    return digest_folder(Path(run) / "corpus", ("*.bin", "*.npy", "*.parquet", "*.jsonl"))


def balances(run: str = "runs/small") -> bool:
    """Whether every row and every composed document of every source was kept, dropped or refused, and every token is there."""
    record, found = corpus(run), documents(run)
    for it in record.sources:
        own = [document for document in found if document["source"] == it.name]
        ends = sum(it.dropped.values()) + sum(it.refused.values()) + it.documents
        if it.rows + sum(it.composed.values()) != ends or it.documents != len(own):
            return False
        if any(getattr(it, name) != sum(one[name] for one in own) for name in ("tokens", "supervised")):
            return False
    return record.tokens == sum(document["tokens"] for document in found) == len(tokens(run))
