"""The report as one HTML page that opens from disk: no network, light and dark, on paper too, whole without its script.

Every text passes through Jinja's autoescape or `eval.shell.embedded`; the templates lie beside this file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from configs.datasheet import datasheet, findings
from configs.figures import Series, curve
from eval.answered import MARKS, OUTCOMES, everything, outcome, pairs, samples
from eval.reliability import reliability
from eval.rows import noise, parts, tables
from eval.score import LOWER_IS_BETTER
from eval.sentences import cost, headline, panel_verdict, reason, remarks
from eval.shell import embedded, page
from eval.wording import wording
from eval.words import shown, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from configs.records import Comparison, Corpus, Difference, Made, Record, Scorecard, SourceLedger
    from eval.report import Report
    from eval.wording import Wording

SCRIPTS = ("said.js", "table.js", "items.js")


def html(report: Report, lang: str = "en") -> str:
    """The whole page, in English or Chinese."""
    comparison, tell = report.comparison, wording(lang)
    rows = (*comparison.differences, *comparison.general)
    read = [(row, found) for row in rows if (found := pairs(row, report.answers))]
    return page(
        "report.html",
        SCRIPTS,
        tell,
        comparison=comparison,
        sector=tell.name(comparison.sector),
        headline=headline(comparison, tell),
        cost=cost(comparison, tell),
        shown=shown,
        signed=signed,
        tables=tables(comparison, tell),
        verdict=_verdict(comparison, tell),
        subjects=parts(rows, "subjects", tell),
        touched=parts(rows, "parts", tell),
        untouched=_untouched(rows, tell),
        calibrated=_calibrated(report, tell),
        noise=noise(rows, report.cards),
        spent=[_spent(card, tell) for card in report.cards],
        notes=_notes(report, rows, tell),
        samples=[samples(row, found) for row, found in read],
        items=embedded(everything(read, report.corpus)),
        outcomes=[kind for kind in OUTCOMES if any(outcome(pair) == kind for _, found in read for pair in found)],
        marks=MARKS,
        curve=_curve(report, tell),
        run=report.run,
        corpus=report.corpus,
        **_data(report.corpus, tell),
        packed=report.packed,
        provenance=_provenance(report, tell),
        settings=_settings(report),
    )


# ---------------------------------------------------------------- numbers


def _verdict(comparison: Comparison, tell: Wording) -> dict[str, Any]:
    """Whether the tuned model is not worse in general ability, in a sentence, with the reason of each task."""
    panel = comparison.panel
    if panel is None:
        return {}
    told = tell("{verdict}.", verdict=panel_verdict(panel.verdict, tell))
    margin = tell(
        "Accepted loss: {points} points of accuracy, {percent} % of bits per byte.",
        points=f"{100 * panel.margin:.3g}", percent=f"{100 * panel.margin_text:.3g}",
    )  # fmt: skip
    return {
        "kind": panel.verdict.replace(" ", "-"),
        "told": told,
        "margin": margin,
        "reasons": [reason(it, tell) for it in panel.reasons],
    }


def _untouched(rows: Sequence[Difference], tell: Wording) -> list[str]:
    """What is known of contamination where no parts can be compared, a sentence for each case."""
    clean = [row.task for row in rows if row.clean_n is not None and row.clean_n == row.n]
    unknown = [row.task for row in rows if row.clean_n is None]
    told = []
    if clean:
        told.append(tell("No training document touches an item of: {tasks}.", tasks=_listed(clean, tell)))
    if unknown:
        told.append(tell("Not compared with the corpus: {tasks}.", tasks=_listed(unknown, tell)))
    return told


def _listed(tasks: Sequence[str], tell: Wording) -> str:
    return tell(", ").join(task.replace("_", " ") for task in tasks)


def _calibrated(report: Report, tell: Wording) -> list[dict[str, Any]]:
    """Calibration of both models on each task that has it, with its diagram."""
    found: dict[str, list[Any]] = {}
    for side, card in enumerate(report.cards):
        for score in card.scores:
            if score.calibration is not None:
                found.setdefault(score.task, [None, None])[side] = score.calibration
    names = (tell("confidence, %"), tell("right, %"))
    return [
        {
            "task": task,
            "base": base,
            "tuned": tuned,
            "figure": reliability(
                [("base", base), ("tuned", tuned)], names, tell("{task}: part right over confidence", task=task)
            ),
        }
        for task, (base, tuned) in found.items()
    ]


def _spent(card: Scorecard, tell: Wording) -> dict[str, Any]:
    """What scoring one model took."""
    items = sum(score.n for score in card.scores)
    return {
        "name": tell(card.model) if card.model in ("base", "tuned") else card.model,
        "asked": items,
        "tokens": card.tokens,
        "saved": max(0, card.tokens_whole - card.tokens) if card.tokens_whole else None,
        "each": card.tokens / items if items else 0.0,
        "seconds": card.seconds,
        "engine": card.engine,
    }


def _notes(report: Report, rows: Sequence[Difference], tell: Wording) -> list[str]:
    """What a reader must know before quoting a number."""
    notes = []
    tuned = report.cards[1]
    limit = tuned.settings.get("evaluate.limit")
    if limit:
        notes.append(tell("Only {count} items of each task were scored (evaluate.limit).", count=f"{limit:,}"))
    for score in tuned.scores:
        if score.invalid:
            percent = f"{100 * score.invalid:.1f}"
            notes.append(
                tell(
                    "{task}: {percent} % of the tuned model's answers could not be read.",
                    task=score.task,
                    percent=percent,
                )
            )
        if score.truncated:
            single = tell("{task}: 1 prompt lost its beginning to fit the context.", task=score.task)
            several = tell(
                "{task}: {count} prompts lost their beginning to fit the context.",
                task=score.task,
                count=f"{score.truncated:,}",
            )
            notes.append(several if score.truncated != 1 else single)
    for row in rows:
        checked = report.corpus is not None and row.task in report.corpus.checked
        if checked and row.clean_n is not None and row.clean_n < row.n:
            shared = row.n - row.clean_n
            single = tell("{task}: 1 item shares a passage with a document of the corpus.", task=row.task)
            several = tell(
                "{task}: {count} items share a passage with a document of the corpus.",
                task=row.task,
                count=f"{shared:,}",
            )
            notes.append(several if shared != 1 else single)
        given = {line.get("answer") for line in report.answers[1].get(row.task, ())}
        if row.n > 1 and row.metric not in LOWER_IS_BETTER and len(given) == 1 and None not in given:
            answer = repr(given.pop())
            notes.append(tell("{task}: the tuned model answers {answer} to every item.", task=row.task, answer=answer))
    return [*notes, *remarks(rows, tell)]


# ---------------------------------------------------------------- training and data


def _curve(report: Report, tell: Wording) -> Markup:
    """Training loss, and the held-out loss of each channel, over tokens; a preference phase has its loss by pair."""
    trained = [
        (line["tokens"], line["loss"])
        for line in report.metrics
        if line.get("loss") is not None and "preference" not in str(line.get("phase"))
    ]
    looks = report.run.curve if report.run else ()
    channels = sorted({channel for look in looks for channel in look.losses})
    held = [
        Series(
            tell("held out: {name}", name=tell(name)),
            name,
            [(p.tokens, p.losses[name]) for p in looks if name in p.losses],
            dots=True,
        )
        for name in channels
    ]
    training = Series(tell("training"), "training", trained, dots=False)
    return curve([training, *held], tell("tokens"), tell("loss, nats per token"))


def _data(corpus: Corpus | None, tell: Wording) -> dict[str, Any]:
    """The ledger, the data sheet, and the columns of what was found in each source."""
    if corpus is None:
        return {"ledger": [], "datasheet": {}, "columns": []}
    ledger = [_source(corpus, source, tell) for source in corpus.sources]
    columns = list(dict.fromkeys(name for entry in ledger for name in entry["found"]))
    return {"ledger": ledger, "datasheet": datasheet(corpus, tell=tell), "columns": columns}


def _source(corpus: Corpus, source: SourceLedger, tell: Wording) -> dict[str, Any]:
    total = sum(other.tokens_train for other in corpus.sources)
    reasons = sorted((source.refused | source.dropped).items(), key=lambda pair: -pair[1])
    return {
        "source": source,
        "lost": sum(count for _, count in reasons),
        "reasons": " · ".join(f"{tell.reason(reason)} {count:,}" for reason, count in reasons),
        "share": 100 * source.tokens_train / total if total else 0.0,
        "found": findings(corpus, source, tell),
    }


def _provenance(report: Report, tell: Wording) -> list[dict[str, Any]]:
    """Who made each record, and from what."""
    base, tuned = report.cards
    records: list[tuple[str, Record | None]] = [
        (tell("corpus"), report.corpus),
        (tell("run"), report.run),
        (tell("scorecard, base"), base),
        (tell("scorecard, tuned"), tuned),
        (tell("comparison"), report.comparison),
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
