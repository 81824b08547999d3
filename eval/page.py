"""The report as one HTML page that opens from disk: no network, no scripts, light and dark, on paper too.

Every text passes through Jinja's autoescape; the template lies beside this file.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.datasheet import datasheet, findings
from configs.figures import Series, curve
from configs.frame import template
from configs.store import hashed
from eval.forest import forest
from eval.score import right
from eval.words import NAMES, OUT_OF_HUNDRED, cost, headline, interval, p_value, shown, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from configs.records import Corpus, Difference, Made, Record, SourceLedger
    from eval.answers import Line
    from eval.report import Report

KINDS = ("gained", "lost", "right before and after", "wrong before and after")
SHOWN = 3
"""How many items of each kind are shown per task."""


def html(report: Report) -> str:
    """The whole page."""
    comparison = report.comparison
    rows = (*comparison.differences, *comparison.general)
    return template(Path(__file__).with_name("report.html")).render(
        comparison=comparison,
        headline=headline(comparison),
        cost=cost(comparison),
        names=NAMES,
        shown=shown,
        signed=signed,
        interval=interval,
        tables=[
            ("tasks", f"{comparison.sector.replace('_', ' ').capitalize()} tasks", _rows(comparison.differences, rows)),
            ("general", "General ability", _rows(comparison.general, rows)),
        ],
        scales=[f"{shown(row.metric, _scale(row, rows))} {_unit(row)}" for row in _one_per_unit(rows)],
        notes=_notes(report, rows),
        samples=[_samples(report, row) for row in rows if row.task in report.answers[0]],
        curve=_curve(report),
        run=report.run,
        corpus=report.corpus,
        **_data(report.corpus),
        packed=report.packed,
        provenance=_provenance(report),
        settings=_settings(report),
    )


# ---------------------------------------------------------------- numbers


def _rows(rows: Sequence[Difference], everything: Sequence[Difference]) -> list[dict[str, Any]]:
    """The rows of a table; rows of one unit share the scale of their figures."""
    return [{"row": row, "forest": _forest(row, everything), "told": _told(row)} for row in rows]


def _forest(row: Difference, everything: Sequence[Difference]) -> Markup:
    sign = 1 if row.higher_is_better else -1
    low, high = sorted((sign * row.low, sign * row.high))
    label = f"{row.task}: difference {signed(row.metric, row.difference)}, 95 % interval {interval(row)}"
    return forest((sign * row.difference, low, high), _scale(row, everything), row.verdict, label)


def _scale(row: Difference, everything: Sequence[Difference]) -> float:
    """The largest end of an interval among the rows of the same unit."""
    alike = [other for other in everything if _unit(other) == _unit(row)]
    return max(max(abs(other.low), abs(other.high)) for other in alike)


def _unit(row: Difference) -> str:
    units = {"bits_per_byte": "bits per byte", "mcc": "of correlation"}
    return "points" if row.metric in OUT_OF_HUNDRED else units[row.metric]


def _one_per_unit(rows: Sequence[Difference]) -> list[Difference]:
    return list({_unit(row): row for row in rows}.values())


def _told(row: Difference) -> str:
    """What stands in small print under a row's interval."""
    told = [f"p {p_value(row.p_holm)}"]
    if row.detectable is not None:
        told.append(f"could show {shown(row.metric, row.detectable)}")
    if row.clean is not None and row.clean_n is not None and row.clean_n < row.n:
        told.append(f"{signed(row.metric, row.clean)} on the {row.clean_n:,} untouched")
    return " · ".join(told)


def _notes(report: Report, rows: Sequence[Difference]) -> list[str]:
    """What a reader must know before quoting a number."""
    notes = []
    tuned = report.cards[1]
    limit = tuned.settings.get("evaluate.limit")
    if limit:
        notes.append(f"Only {limit:,} items of each task were scored (evaluate.limit).")
    for score in tuned.scores:
        if score.invalid:
            notes.append(f"{score.task}: {100 * score.invalid:.1f} % of the tuned model's answers could not be read.")
        if score.truncated:
            notes.append(f"{score.task}: {score.truncated:,} prompts lost their beginning to fit the context.")
    for row in rows:
        checked = report.corpus is not None and row.task in report.corpus.checked
        if checked and row.clean_n is not None and row.clean_n < row.n:
            shared = row.n - row.clean_n
            told = f"{shared:,} items share" if shared != 1 else "1 item shares"
            notes.append(f"{row.task}: {told} a passage with a document of the corpus.")
        given = {line.get("answer") for line in report.answers[1].get(row.task, ())}
        if row.n > 1 and row.metric != "bits_per_byte" and len(given) == 1 and None not in given:
            notes.append(f"{row.task}: the tuned model answers {given.pop()!r} to every item.")
        if row.clusters < 20:
            notes.append(f"{row.task}: with {row.clusters} independent items its interval is too narrow.")
    return notes


# ---------------------------------------------------------------- samples


def _samples(report: Report, row: Difference) -> dict[str, Any]:
    """Items of a task to read: some of each kind, chosen by hash."""
    before, after = ({line["item"]: line for line in side[row.task]} for side in report.answers)
    pairs = [(before[item], after[item]) for item in sorted(before.keys() & after.keys())]
    pairs.sort(key=lambda pair: hashed(0, "sample", pair[0]["item"]))
    if row.metric == "bits_per_byte":
        return {"row": row, "counts": [(len(pairs), "passages")], "groups": [("passages", _passages(pairs))]}
    was, now = right(row.metric, [b for b, _ in pairs]), right(row.metric, [a for _, a in pairs])
    kinds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for (b, a), old, new in zip(pairs, was, now, strict=True):
        kind = ("right" if old else "wrong") + " before and after" if old == new else "gained" if new else "lost"
        kinds[kind].append(_sample(b, a, old, new, row.metric))
    counts = [(len(found), kind) for kind, found in kinds.items()]
    groups = [(kind, found[:SHOWN]) for kind, found in kinds.items() if found]
    return {"row": row, "counts": counts, "groups": groups}


def _sample(before: Line, after: Line, was: bool, now: bool, metric: str) -> dict[str, Any]:
    key = "norm" if metric == "acc_norm" else "answer"
    answers = [
        {"who": who, "text": line.get("text", line[key]) or "", "right": good, "invalid": line[key] is None}
        for who, line, good in (("base", before, was), ("tuned", after, now))
    ]
    return {
        "question": before["question"],
        "choices": before["choices"],
        "target": before["target"],
        "answers": answers,
    }


def _passages(pairs: Sequence[tuple[Line, Line]]) -> list[dict[str, Any]]:
    """Some passages with both models' bits per byte."""
    return [
        {
            "question": before["question"],
            "choices": [],
            "target": "",
            "answers": [
                {"who": who, "text": f"{line['nats'] / line['bytes'] / math.log(2):.3f} bits per byte", "right": None}
                for who, line in (("base", before), ("tuned", after))
            ],
        }
        for before, after in pairs[:SHOWN]
    ]


# ---------------------------------------------------------------- training and data


def _curve(report: Report) -> Markup:
    """Training loss, and the held-out loss of each channel, over tokens; a preference phase has its loss by pair."""
    trained = [
        (line["tokens"], line["loss"])
        for line in report.metrics
        if line.get("loss") is not None and "preference" not in str(line.get("phase"))
    ]
    looks = report.run.curve if report.run else ()
    channels = sorted({channel for look in looks for channel in look.losses})
    held = [
        Series(f"held out: {name}", name, [(p.tokens, p.losses[name]) for p in looks if name in p.losses], dots=True)
        for name in channels
    ]
    return curve([Series("training", "training", trained, dots=False), *held], "tokens", "loss, nats per token")


def _data(corpus: Corpus | None) -> dict[str, Any]:
    """The ledger, the data sheet, and the columns of what was found in each source."""
    if corpus is None:
        return {"ledger": [], "datasheet": {}, "columns": []}
    ledger = [_source(corpus, source) for source in corpus.sources]
    columns = list(dict.fromkeys(name for entry in ledger for name in entry["found"]))
    return {"ledger": ledger, "datasheet": datasheet(corpus), "columns": columns}


def _source(corpus: Corpus, source: SourceLedger) -> dict[str, Any]:
    total = sum(other.tokens_train for other in corpus.sources)
    reasons = sorted((source.refused | source.dropped).items(), key=lambda pair: -pair[1])
    return {
        "source": source,
        "lost": sum(count for _, count in reasons),
        "reasons": " · ".join(f"{reason} {count:,}" for reason, count in reasons),
        "share": 100 * source.tokens_train / total if total else 0.0,
        "found": findings(corpus, source),
    }


def _provenance(report: Report) -> list[dict[str, Any]]:
    """Who made each record, and from what."""
    base, tuned = report.cards
    records: list[tuple[str, Record | None]] = [
        ("corpus", report.corpus),
        ("run", report.run),
        ("scorecard, base", base),
        ("scorecard, tuned", tuned),
        ("comparison", report.comparison),
    ]
    return [
        {"name": name, "made": _made(record.made), "inputs": record.inputs, "files": record.files}
        for name, record in records
        if record is not None
    ]


def _made(made: Made) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in made.packages.items())
    return (
        f"{made.finished}, {made.seconds:,.1f} s, SectorLM {made.sectorlm} (code {made.code[:12]}), "
        f"Python {made.python}, {made.machine}; {packages}"
    )


def _settings(report: Report) -> dict[str, Any]:
    """The recipe as the records stored it."""
    records = [record for record in (report.corpus, report.run, report.cards[1], report.comparison) if record]
    return dict(sorted((key, value) for record in records for key, value in record.settings.items()))
