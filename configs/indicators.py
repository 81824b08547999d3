"""Indicators of a prepared corpus after TC609-5-2025-04 (SAC/TC609, "High-quality dataset: quality evaluation").

What is known of the standard. Its text was not at hand: no clause is quoted, no score out of 100 is given and no threshold
is held. Codes and Chinese names are those that two public uses of it agree on (Dingo's list of indicators, and a published
evaluation report); the five aspects of each of 0101-0104, and what 0201-0208 look at, are Dingo's reading. Every
formula below is this project's own and stands in `how`. What a record and its documents cannot show has no value, and
`missing` says why. 0305 (model fitness, 模型适配性) needs trained models: `sectorlm worth` measures it.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from configs.governance import years
from configs.licences import licence_kind
from configs.records import Corpus
from configs.sample import corpus_folder
from configs.view import table
from configs.worth import gain, valuation_beside, valuation_told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from configs.records import SourceLedger

REQUIRED = 9
"""Fields that no record of TC609-5-2025-02 may leave empty: all eleven but `rid` and `annotation`."""


class Indicator(NamedTuple):
    """One indicator: its value, how it was computed, and what could not be computed."""

    code: str
    name_en: str
    name_zh: str
    value: float | int | None
    how: str
    missing: str


class _Documents(NamedTuple):
    """What the columns of documents.parquet say; None where there is no such column."""

    rows: int
    digests: int | None
    """Different digests among them, by their first 16 characters (64 bits)."""
    traced: int | None
    """Rows that name a file."""
    clear: Counter[str] | None
    """Rows in which no personal data were found, by source."""


class _Facts(NamedTuple):
    corpus: Corpus
    documents: _Documents | None
    folder: Path

    def share(self, holds: Callable[[SourceLedger], bool]) -> tuple[float | None, str]:
        """Part of the documents whose source `holds`, and the names of the sources that do not."""
        lacking = [source for source in self.corpus.sources if source.documents and not holds(source)]
        total = sum(source.documents for source in self.corpus.sources)
        value = 1 - sum(source.documents for source in lacking) / total if total else None
        return value, ", ".join(source.name for source in lacking)


class _Measured(NamedTuple):
    value: float | int | None
    how: str
    missing: str = ""


def indicators(corpus: Corpus, folder: Path) -> list[Indicator]:
    """The indicators 0101-0104, 0201-0208 and 0301-0305 of a corpus; `folder` holds its documents.parquet.

    Parts lie between 0 and 1. An indicator that cannot be computed has the value None.
    """
    path = folder / "documents.parquet"
    facts = _Facts(corpus, _documents(path) if path.is_file() else None, folder)
    return [Indicator(code, english, chinese, *measure(facts)) for code, english, chinese, measure in INDICATORS]


def indicators_at(target: Path) -> list[Indicator]:
    """The indicators of the corpus at `target`: its folder, its record, or a run folder.

    Raises:
        DataError: there is no corpus.
    """
    folder = corpus_folder(target)
    return indicators(Corpus.read(folder / "corpus.json"), folder)


def indicator_table(found: Sequence[Indicator]) -> RenderableType:
    """Indicators as a table for a terminal."""
    rows = [
        {
            "code": it.code,
            "indicator": f"{it.name_en} {it.name_zh}",
            "value": it.value,
            "how it was computed": it.how,
            "what is missing, and why": it.missing,
        }
        for it in found
    ]
    return table("Indicators after TC609-5-2025-04; the formulas are SectorLM's", rows)


def _documents(path: Path) -> _Documents:
    """Count over documents.parquet, batch by batch; `personal` is the number of finds in a document."""
    import numpy as np
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = [name for name in ("source", "digest", "where", "personal") if name in file.schema_arrow.names]
        digests, traced, clear = [], 0, Counter[str]()
        for batch in file.iter_batches(columns=names):
            column = batch.to_pydict()
            digests.append(np.array(column.get("digest", []), dtype="S16"))
            traced += sum(map(bool, column.get("where", [])))
            found = zip(column.get("source", []), column.get("personal", []), strict=False)
            clear.update(source for source, finds in found if not finds)
        return _Documents(
            rows=file.metadata.num_rows,
            digests=len(np.unique(np.concatenate(digests))) if "digest" in names and digests else None,
            traced=traced if "where" in names else None,
            clear=clear if "personal" in names and "source" in names else None,
        )


# ---------------------------------------------------------------- 01: what the documentation says


def _documented(aspects: dict[str, str]) -> _Measured:
    """Part of five aspects that the record states: aspect to why it is missing, or nothing where it is there."""
    there = [aspect for aspect, why in aspects.items() if not why]
    lacking = [f"{aspect} ({why})" for aspect, why in aspects.items() if why]
    how = f"{len(there)} of {len(aspects)} aspects stand in the record: {', '.join(there) or 'none'}"
    return _Measured(len(there) / len(aspects), how, "; ".join(lacking))


def _origins(facts: _Facts) -> str:
    names = [source.name for source in facts.corpus.sources if not source.origin]
    return f"give `origin` to {', '.join(names)}" if names else ""


def _basic(facts: _Facts) -> _Measured:
    return _documented(
        {
            "scale": "",
            "format": "",
            "file structure": "" if facts.corpus.files else "the record vouches for no file",
            "ways to get it": _origins(facts),
            "technical support": "no record names a person to ask",
        }
    )


def _content(facts: _Facts) -> _Measured:
    languages = any(source.languages for source in facts.corpus.sources)
    return _documented(
        {
            "modality": "",
            "distribution over sources and languages": "" if languages else "the record has no counts of languages",
            "counts of labels": "labels inside answers are not counted",
            "examples": "the record holds none; `sectorlm show CORPUS --sample 5` prints some",
            "limitations": "a person writes them",
        }
    )


def _construction(facts: _Facts) -> _Measured:
    cleaned = any(key.startswith("prepare.") for key in facts.corpus.settings)
    return _documented(
        {
            "sources": _origins(facts),
            "collection": "a recipe does not say how the files were collected",
            "processing": "" if cleaned else "the record has no settings of the preparation",
            "rules of annotation": "a recipe does not state them",
            "versions": "" if facts.corpus.inputs else "the record names no input",
        }
    )


def _application(facts: _Facts) -> _Measured:
    unclear = [source.name for source in facts.corpus.sources if licence_kind(source.licence) == "unknown"]
    return _documented(
        {
            "licence": f"unclear for {', '.join(unclear)}" if unclear else "",
            "target scenario": "" if "use" in facts.corpus.settings else "the record does not state the use",
            "evaluation method": "" if facts.corpus.checked else "no task was compared with the corpus",
            "benchmark results": "they stand in the comparison: `sectorlm compare`",
            "typical cases": "a person writes them",
        }
    )


# ---------------------------------------------------------------- 02: the data themselves


def _format(facts: _Facts) -> _Measured:
    rows = sum(source.rows for source in facts.corpus.sources)
    refused = sum(sum(source.refused.values()) for source in facts.corpus.sources)
    how = f"rows that could be read and had the declared form: {rows - refused:,} of {rows:,}; the others were refused"
    return _Measured(1 - refused / rows if rows else None, how)


def _safety(facts: _Facts) -> _Measured:
    missing = "unlawful or harmful content is not looked for"
    if facts.documents is None or facts.documents.clear is None:
        return _Measured(None, "", f"{missing}; documents.parquet has no count of personal data")
    kept = {source.name: source.documents for source in facts.corpus.sources if source.documents}
    unseen = [name for name in kept if facts.corpus.settings.get(f"corpora[{name}].personal") == "off"]
    missing += f"; personal data are not looked for in {', '.join(unseen)}" if unseen else ""
    rows = sum(kept[name] for name in kept if name not in unseen)
    clear = sum(facts.documents.clear[name] for name in kept if name not in unseen)
    how = f"documents in which no personal data were found: {clear:,} of {rows:,}; `personal` says what became of the finds"
    return _Measured(clear / rows if rows else None, how, missing)


def _structure(facts: _Facts) -> _Measured:
    documents = facts.corpus.documents
    timed, names = facts.share(lambda source: bool(source.time))
    if timed is None:
        return _Measured(None, "", "the corpus holds no documents")
    empty = round((1 - timed) * documents)
    how = (
        f"required fields of the records that are filled: {REQUIRED * documents - empty:,} of {REQUIRED * documents:,}"
    )
    return _Measured(1 - empty / (REQUIRED * documents), how, f"original_time: give `time` to {names}" if names else "")


def _authentic(facts: _Facts) -> _Measured:
    value, names = facts.share(lambda source: bool(source.origin))
    traced = facts.documents.traced if facts.documents else None
    also = f"; {traced:,} name their file and line" if traced is not None else ""
    missing = "whether the texts are true" + (f"; no `origin`: {names}" if names else "")
    return _Measured(value, f"documents whose source states its origin{also}", missing)


def _clean(facts: _Facts) -> _Measured:
    missing = "perplexity, density of knowledge and coherence need a model"
    if facts.documents is None or facts.documents.digests is None:
        return _Measured(None, "", f"{missing}; documents.parquet has no column `digest`")
    digests, rows = facts.documents.digests, facts.documents.rows
    how = (
        f"documents that no other repeats: {digests:,} different ones of {rows:,}; of 0208 only the part on repetition"
    )
    return _Measured(digests / rows if rows else None, how, missing)


# ---------------------------------------------------------------- 03: fitness for a model


def _diverse(facts: _Facts) -> _Measured:
    tokens = [source.tokens_train for source in facts.corpus.sources if source.tokens_train]
    total = sum(tokens)
    missing = "the distribution of the target scenario, to compare with"
    if not total:
        return _Measured(None, "", f"{missing}; there are no training tokens")
    entropy = -sum(count / total * math.log(count / total) for count in tokens)
    how = f"effective number of sources: exp of the entropy of the training tokens over {len(tokens)} sources"
    return _Measured(math.exp(entropy), how, missing)


def _scale(facts: _Facts) -> _Measured:
    how = f"training tokens of one pass, from {facts.corpus.documents:,} documents"
    return _Measured(facts.corpus.tokens_train, how, "the size that the model needs, to compare with")


def _timely(facts: _Facts) -> _Measured:
    made = int(facts.corpus.made.finished[:4])
    spans = [(source.documents, years(source.time)) for source in facts.corpus.sources]
    ages = [(documents, made - span[1]) for documents, span in spans if span and documents]
    _, names = facts.share(lambda source: bool(source.time))
    missing = f"give `time` to {names}" if names else ""
    if not ages:
        return _Measured(None, "", missing or "the corpus holds no documents")
    total = sum(documents for documents, _ in ages)
    how = f"mean age in years over {total:,} documents: from the last year of their source's `time` to {made}"
    return _Measured(sum(documents * age for documents, age in ages) / total, how, missing)


def _fit(facts: _Facts) -> _Measured:
    found, missing = valuation_beside(facts.corpus, facts.folder)
    if found is None:
        return _Measured(None, "", missing)
    value, what = gain(found)
    return _Measured(value, f"{what}: {valuation_told(found)}", " ".join(found.notes))


def _needs(why: str) -> Callable[[_Facts], _Measured]:
    """An indicator that neither the record nor the documents can show."""
    return lambda _: _Measured(None, "", why)


INDICATORS: tuple[tuple[str, str, str, Callable[[_Facts], _Measured]], ...] = (
    ("0101", "basic information", "基本信息完整性", _basic),
    ("0102", "content features", "内容特征完整性", _content),
    ("0103", "construction process", "建设过程完整性", _construction),
    ("0104", "application", "应用说明完整性", _application),
    ("0201", "form", "格式规范性", _format),
    ("0202", "safety", "安全规范性", _safety),
    ("0203", "annotation form", "标注规范性", _needs("no recipe says how and by whom answers were annotated")),
    ("0204", "structure", "结构完整性", _structure),
    ("0205", "authenticity", "内容真实性", _authentic),
    (
        "0206",
        "consistency",
        "内容一致性",
        _needs("whether the texts of a record contradict one another a judge has to read"),
    ),
    ("0207", "type", "类型一致性", _needs("no recipe states a type of TC609-5-2025-03 to compare with")),
    ("0208", "cleanliness", "内容干净性", _clean),
    ("0301", "diversity", "内容多样性", _diverse),
    ("0302", "scale", "规模完整性", _scale),
    ("0303", "timeliness", "内容时效性", _timely),
    (
        "0304",
        "annotation accuracy",
        "标注准确性",
        _needs("people have to check a sample: `sectorlm show CORPUS --sample`"),
    ),
    ("0305", "model fitness", "模型适配性", _fit),
)
"""Code, English and Chinese name, and what computes it."""
