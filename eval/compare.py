"""Two Scorecards -> report: tuned minus base, item by item, with its interval, its test and its cost in general ability.

Nothing here loads a model: the answers on disk are enough.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from configs.errors import DataError
from configs.progress import say
from configs.records import Comparison, Corpus, Difference, Run, Scorecard, made_by, stale
from configs.store import crash_point, digest_file, staged, verify_files
from eval.answers import Line, read_answers
from eval.report import gather, html, markdown
from eval.score import RIGHT_OR_WRONG, STATISTICS, classes_of, columns, right, sums_of
from eval.stats import detectable, generator, holm, mcnemar, paired_bootstrap, paired_score, swap_test

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from configs.job import Job
    from configs.records import Record, Score


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
    settings = {"evaluate.resamples": job.recipe.evaluate.resamples, "seed": job.recipe.seed}
    old = Comparison.read_if_there(folder.report / "comparison.json")
    reasons = stale(old, folder.report, settings, inputs) if old is not None else []
    if old is not None and not reasons:
        say("compare: unchanged, kept")
        return old
    if reasons:
        say(f"compare again: {'; '.join(reasons)}")
    rows, panel = _differences(folder.scorecards / "base", folder.scorecards / "tuned", corpus)
    comparison = Comparison(
        name=job.recipe.name,
        settings=settings,
        inputs=inputs,
        files={},
        made=made_by("eval", started),
        sector=job.recipe.sector,
        differences=rows,
        general=panel,
    )
    with staged(folder.report) as staging:
        report = gather(comparison, folder)
        (staging / "report.md").write_text(markdown(report), "utf-8")
        (staging / "report.html").write_text(html(report), "utf-8")
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
    rows, panel = _differences(base_folder, tuned_folder, None)
    return [*rows, *panel]


def _differences(
    base_folder: Path, tuned_folder: Path, corpus: Corpus | None
) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """Sector tasks and general panel, each with its own correction for several tasks."""
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
    rows = []
    for task in shared:
        pair = _joined(task, before[task], after[task])
        rows.append(_difference(ours[task], theirs[task], pair, _touched(corpus, task), (seed, resamples)))
    panel = _panel(tuned)
    return _corrected([r for r in rows if r.task not in panel]), _corrected([r for r in rows if r.task in panel])


def _panel(card: Scorecard) -> frozenset[str]:
    """The general tasks of a scorecard: its last ones, since the settings may name a task by the path of its file."""
    tasks = card.settings.get("evaluate.tasks", ())
    general = [name for name in dict.fromkeys(card.settings["evaluate.general"]) if name not in tasks]
    return frozenset(score.task for score in card.scores[len(card.scores) - len(general) :])


def _read(folder: Path) -> Scorecard:
    card = Scorecard.read(folder / "scorecard.json")
    verify_files(folder, card.files)
    return card


def _touched(corpus: Corpus | None, task: str) -> frozenset[str] | None:
    """The items of a task that a training document touches; None where the corpus was not compared with it."""
    if corpus is None or task not in corpus.checked:
        return None
    return frozenset(corpus.touched.get(task, ()))


def _difference(
    base: Score,
    tuned: Score,
    pair: tuple[Sequence[Line], Sequence[Line]],
    touched: frozenset[str] | None,
    draws: tuple[int, int],
) -> Difference:
    """Tuned minus base on one task, paired by item; `draws` are seed and resamples. Holm's correction comes later."""
    if base.metric != tuned.metric:
        raise DataError(f"{base.task} was scored by {base.metric} and by {tuned.metric}", where=base.task)
    (before, after), (seed, resamples) = pair, draws
    metric, statistic = tuned.metric, STATISTICS[tuned.metric]
    classes = classes_of(after)
    base_CD, tuned_CD = (sums_of(metric, columns(side), classes)[0] for side in (before, after))
    was, now = right(metric, before), right(metric, after)
    gained = sum(new and not old for old, new in zip(was, now, strict=True))
    lost = sum(old and not new for old, new in zip(was, now, strict=True))
    independent = len(base_CD) == len(before)
    if metric in RIGHT_OR_WRONG and (independent or not gained + lost):
        interval = paired_score(gained, lost, len(base_CD))
    else:
        interval = paired_bootstrap(base_CD, tuned_CD, statistic, resamples, generator(seed, f"difference {base.task}"))
    if metric in RIGHT_OR_WRONG and independent:
        p = mcnemar(gained, lost)
    else:
        p = swap_test(base_CD, tuned_CD, statistic, resamples, generator(seed, f"test {base.task}"))
    clean, clean_n = _clean(metric, before, after, touched)
    return Difference(
        task=base.task,
        metric=metric,
        sector=tuned.sector,
        base=base.value,
        tuned=tuned.value,
        difference=interval.value,
        low=interval.low,
        high=interval.high,
        p=p,
        p_holm=p,
        n=len(before),
        clusters=len(base_CD),
        detectable=detectable(interval) or None,
        gained=gained,
        lost=lost,
        higher_is_better=tuned.higher_is_better,
        baselines=tuned.baselines,
        clean=clean,
        clean_n=clean_n,
    )


def _joined(task: str, base: Sequence[Line], tuned: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """The answers of both models to the same items, in the same order."""
    ours, theirs = ({line["item"]: line for line in lines} for lines in (base, tuned))
    if ours.keys() != theirs.keys():
        raise DataError(
            f"{task}: the scorecards hold different items ({len(ours.keys() - theirs.keys())} only in the first, "
            f"{len(theirs.keys() - ours.keys())} only in the second)",
            where=task,
            hint="Score both models with the same task file, data and evaluate.limit.",
        )
    order = sorted(ours, key=lambda item: (theirs[item]["row"], item))
    return [ours[item] for item in order], [theirs[item] for item in order]


def _clean(
    metric: str, before: Sequence[Line], after: Sequence[Line], touched: frozenset[str] | None
) -> tuple[float | None, int | None]:
    """The difference on the items that no training document touches, and their number."""
    if touched is None:
        return None, None
    kept = [[line for line in side if line["item"] not in touched] for side in (before, after)]
    if not kept[0]:
        return None, 0
    values = [float(STATISTICS[metric](sums_of(metric, columns(s), classes_of(after))[0].sum(axis=0))) for s in kept]
    return values[1] - values[0], len(kept[0])


def _corrected(rows: Sequence[Difference]) -> tuple[Difference, ...]:
    """The rows with Holm's correction over all of them."""
    adjusted = holm([row.p for row in rows])
    return tuple(row.model_copy(update={"p_holm": p}) for row, p in zip(rows, adjusted, strict=True))
