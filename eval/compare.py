"""Two Scorecards -> report: tuned minus base, item by item, with its interval, its test and its cost in general ability.

Nothing here loads a model: the answers on disk are enough.
"""

from __future__ import annotations

import time
from math import isclose
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.errors import DataError
from configs.progress import say
from configs.records import Comparison, Corpus, Difference, Run, Scorecard, made_by, stale
from configs.releasing import Gates
from configs.store import crash_point, digest_file, staged, verify_files
from eval.answers import Line, read_answers
from eval.forms import form_note, still_compared
from eval.paired import Paired, foreseen_of
from eval.panel import MARGIN_TEXT, Margins, panel, pooled
from eval.report import gather, html, markdown
from eval.stats import detectable, flipped, holm
from eval.wording import wording
from eval.words import LIKELIHOOD

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from configs.job import Job
    from configs.records import Panel, Pooled, Record, Score


def compare(job: Job) -> Comparison:
    """Compare the two scorecards of a job and write its report; keep the old one if nothing changed.

    Raises:
        DataError: a record is missing or damaged, or the scorecards hold different items.
    """
    started, folder = time.monotonic(), job.folder
    corpus = Corpus.read_if_there(folder.corpus / "corpus.json")
    run = Run.read_if_there(folder.run / "run.json")
    base, tuned = (Scorecard.read(folder.scorecards / which / "scorecard.json") for which in ("base", "tuned"))
    records: dict[str, Record | None] = {"corpus": corpus, "run": run, "scorecard base": base, "scorecard tuned": tuned}
    inputs = {label: record.content() for label, record in records.items() if record is not None}
    margins = margins_of(job.recipe.gates)
    settings: dict[str, Any] = {"evaluate.resamples": job.recipe.evaluate.resamples, "seed": job.recipe.seed}
    gates = job.recipe.gates  # as the recipe has them, and what they come to: a stage alone compares the former
    settings |= {
        "gates.margin": gates.margin,
        "gates.margin_text": gates.margin_text,
        "panel.margin_text": margins.text,
        "lang": job.recipe.lang,
    }
    old = Comparison.read_if_there(folder.report / "comparison.json")
    reasons = stale(old, folder.report, settings, inputs) if old is not None else []
    if old is not None and not reasons:
        say("compare: unchanged, kept")
        return old
    if reasons:
        say(f"compare again: {'; '.join(reasons)}")
    found = compared(folder.scorecards / "base", folder.scorecards / "tuned", corpus, margins)
    comparison = Comparison(
        name=job.recipe.name,
        settings=settings,
        inputs=inputs,
        files={},
        made=made_by("eval", started),
        sector=job.recipe.sector,
        **found._asdict(),
    )
    with staged(folder.report) as staging:
        report = gather(comparison, folder)
        (staging / "report.md").write_text(markdown(report, wording(job.recipe.lang)), "utf-8")
        (staging / "report.html").write_text(html(report, job.recipe.lang), "utf-8")
        files = {name: digest_file(staging / name) for name in ("report.html", "report.md")}
        comparison = comparison.model_copy(update={"files": files, "made": made_by("eval", started)})
        crash_point("compare.before_record")
        comparison.write(staging / "comparison.json")
    return comparison


def compare_scorecards(base_folder: Path, tuned_folder: Path) -> list[Difference]:
    """Compare any two scorecards on the tasks that they share: second minus first, sector tasks before the general panel.

    Raises:
        DataError: a scorecard is missing or damaged, they share no task, or a task's items or metric differ.
    """
    found = compared(base_folder, tuned_folder)
    return [*found.differences, *found.general]


def compare_several(base_folder: Path, others: Sequence[Path]) -> list[Compared]:
    """Compare each of several scorecards with the first; Holm's correction is over all tasks and all models together.

    Sector tasks and the general panel are corrected apart, as in any comparison.

    Raises:
        DataError: as `compared`.
    """
    found = [compared(base_folder, other) for other in others]
    sector = iter(_corrected([row for it in found for row in it.differences]))
    general = iter(_corrected([row for it in found for row in it.general]))
    return [
        it._replace(
            differences=tuple(next(sector) for _ in it.differences), general=tuple(next(general) for _ in it.general)
        )
        for it in found
    ]


class Compared(NamedTuple):
    """What two scorecards say together."""

    differences: tuple[Difference, ...]
    """Sector tasks, and apart from them the general panel; each with its own correction for several tasks."""
    general: tuple[Difference, ...]
    pooled: tuple[Pooled, ...]
    panel: Panel | None


def margins_of(gates: Gates) -> Margins:
    """The losses in general ability that a recipe accepts; the gate on general text says it too, where it is set."""
    text = gates.margin_text or gates.max_general_loss or MARGIN_TEXT
    return Margins(gates.margin, text)


def compared(
    base_folder: Path, tuned_folder: Path, corpus: Corpus | None = None, margins: Margins | None = None
) -> Compared:
    """Compare two scorecards on the tasks that they share: second minus first.

    Raises:
        DataError: a scorecard is missing or damaged, they share no task, or a task's items or metric differ.
    """
    base, tuned = _read(base_folder), _read(tuned_folder)
    ours, theirs = ({score.task: score for score in card.scores} for card in (base, tuned))
    shared = [task for task in theirs if task in ours]
    if not shared:
        told = f"{', '.join(ours)} against {', '.join(theirs)}"
        raise DataError(f"the scorecards share no task ({told})", where=str(tuned_folder))
    for task in sorted(ours.keys() ^ theirs.keys()):
        say(f"  {task}: left out, only one of the scorecards has it")
    before, after = (read_answers(folder / "answers.jsonl") for folder in (base_folder, tuned_folder))
    seed, resamples = int(tuned.settings["seed"]), int(tuned.settings["evaluate.resamples"])
    rows, pairs = [], {}
    for task in shared:
        ours_there, theirs_there = ours[task], theirs[task]
        if ours_there.metric != theirs_there.metric:
            raise DataError(f"{task} was scored by {ours_there.metric} and by {theirs_there.metric}", where=task)
        if told := form_note(base, tuned, task):
            say(f"  {told}")
        lines = _joined(task, before[task], after[task])
        pairs[task] = Paired(task, theirs_there.metric, lines, (seed, resamples))
        rows.append(_difference(ours_there, theirs_there, pairs[task], _touched(corpus, tuned, task)))
    general = _general(tuned)
    sector = _corrected([row for row in rows if row.task not in general])
    rest = _corrected([row for row in rows if row.task in general])
    sectors = dict.fromkeys(row.sector for row in sector)
    together = [it for name in sectors for it in pooled(name, [row for row in sector if row.sector == name])]
    verdict = panel(rest, pairs, margins or margins_of(Gates()))
    return Compared(sector, rest, (*together, *pooled("general", rest)), verdict)


def _general(card: Scorecard) -> frozenset[str]:
    """The general tasks of a scorecard: its last ones, since the settings may name a task by the path of its file."""
    tasks = card.settings.get("evaluate.tasks", ())
    general = [name for name in dict.fromkeys(card.settings["evaluate.general"]) if name not in tasks]
    return frozenset(score.task for score in card.scores[len(card.scores) - len(general) :])


def _read(folder: Path) -> Scorecard:
    card = Scorecard.read(folder / "scorecard.json")
    verify_files(folder, card.files)
    return card


def _touched(corpus: Corpus | None, card: Scorecard, task: str) -> frozenset[str] | None:
    """The items of a task that a training document touches; None where the corpus was not compared with them."""
    if corpus is None or task not in corpus.checked:
        return None
    if not still_compared(corpus, card, task):
        say(
            f"  {task}: changed since the corpus was compared with it, so that nothing is known of leaks: prepare again"
        )
        return None
    return frozenset(corpus.touched.get(task, ()))


def _difference(base: Score, tuned: Score, pair: Paired, touched: frozenset[str] | None) -> Difference:
    """Tuned minus base on one task, paired by item. Holm's correction comes later."""
    found, p = pair.measured(), pair.p()
    for score, value in ((base, found.base), (tuned, found.tuned)):
        if not isclose(score.value, value, rel_tol=1e-4, abs_tol=1e-6):
            raise DataError(
                f"its answers make {value:.6g} {score.metric}, its scorecard says {score.value:.6g}",
                where=base.task,
                hint="Score it again.",
            )
    parts = pair.parts(touched)
    whole = len(pair.lines)
    clean, clean_n = (None, None) if touched is None else (found.interval.value, whole)
    if parts:
        clean, clean_n = parts[0].difference, parts[0].n
    elif touched and touched >= {line["item"] for line in pair.lines}:
        clean, clean_n = None, 0
    sure = [score.calibration for score in (base, tuned)]
    return Difference(
        task=base.task,
        metric=pair.metric,
        sector=tuned.sector,
        base=base.value,
        tuned=tuned.value,
        difference=found.interval.value,
        low=found.interval.low,
        high=found.interval.high,
        p=p,
        p_holm=p,
        n=whole,
        clusters=found.clusters,
        detectable=detectable(found.interval) or None,
        gained=found.gained,
        lost=found.lost,
        higher_is_better=tuned.higher_is_better,
        baselines=tuned.baselines,
        clean=clean,
        clean_n=clean_n,
        parts=parts,
        subjects=pair.subjects(),
        method=found.method,
        foreseen=foreseen_of(
            pair.metric, [line["cluster"] for line in pair.lines], [line["target"] for line in pair.lines]
        ),
        noise=max((it for score in (base, tuned) if (it := _noise(score, whole)) is not None), default=None),
        ece=(sure[0].ece, sure[1].ece) if sure[0] is not None and sure[1] is not None else None,
    )


def _noise(score: Score, n: int) -> float | None:
    """What another shape of the batches changes of a model's value on n items.

    As it was observed where all of them were asked twice, and for likelihoods; for answers also what so many changed
    ones would make by chance, since gains and losses may have cancelled or the items asked twice be few.
    """
    found = score.noise
    if found is None:
        return None
    seen = abs(found.difference) if found.items >= n or score.metric in LIKELIHOOD else 0.0
    return seen if score.metric in LIKELIHOOD else max(seen, flipped(found.changed, found.items, n))


def _joined(task: str, base: Sequence[Line], tuned: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """The answers of both models to the same items, in the same order."""
    ours, theirs = ({line["item"]: line for line in lines} for lines in (base, tuned))
    if ours.keys() != theirs.keys():
        raise DataError(
            f"the scorecards hold different items ({len(ours.keys() - theirs.keys())} only in the first, "
            f"{len(theirs.keys() - ours.keys())} only in the second)",
            where=task,
            hint="Score both models with the same task file, data and evaluate.limit.",
        )
    options = [side[0].get("options", {}) for side in (base, tuned) if side]
    if options[:1] != options[1:]:
        raise DataError(f"counted with {options[0]} and with {options[1]}", where=task, hint="Score both alike.")
    order = sorted(ours, key=lambda item: (theirs[item]["row"], item))
    return [ours[item] for item in order], [theirs[item] for item in order]


def _corrected(rows: Sequence[Difference]) -> tuple[Difference, ...]:
    """The rows with Holm's correction over all of them."""
    adjusted = holm([row.p for row in rows])
    return tuple(row.model_copy(update={"p_holm": p}) for row, p in zip(rows, adjusted, strict=True))
