"""What a corpus is worth: the same base trained with it and with general text in its place, over several seeds.

the corpus -> one of general text -> for each seed a training with and one without -> answers of all -> worth.json

Everything else is equal: base, settings, number of tokens, seeds, questions, worked examples, and the form in which they
are asked. After indicator 0305 of TC609-5-2025-04, whose text was not at hand: the design here is this project's own.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.errors import DataError, RecipeError
from configs.job import Job
from configs.progress import say
from configs.records import Corpus, Run, Scorecard, flat, made_by, stale
from configs.sample import corpus_folder
from configs.store import RunFolder, crash_point, digest_file, hashed, staged, storage_error, verify_files, write_atomic
from configs.worth import Arm, Effect, Valuation
from eval.answers import Line, read_answers
from eval.seeds import two_ways
from eval.stats import holm
from eval.worth_page import worth_markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from configs.recipe import Recipe

MOST_PASSES = 100
"""What `train.epochs` allows: general text that would be read more often than this is too little."""
MANY_PASSES = 4
"""Where repetition starts to lose value (Muennighoff et al. 2023, "Scaling Data-Constrained Language Models", section 5)."""


class Stages(NamedTuple):
    """What the front door hands in, since stages do not import one another; the words are what `--set` would say."""

    derive: Callable[[list[str]], Recipe]
    """The recipe with other values."""
    prepare: Callable[[Job, list[str]], Any]
    train: Callable[[Job, list[str]], Any]
    evaluate: Callable[[Job], Any]


class Way(NamedTuple):
    """One of the two ways of training: its name, the folder of what it learns, and how its recipe differs."""

    name: str
    shared: RunFolder
    sets: list[str]


def recipe_at(target: Path, runs: Path) -> tuple[Path, Path]:
    """The recipe that `target` means, and the folder of its runs: a recipe, or a corpus in a run folder.

    Raises:
        DataError: the corpus is not in a run folder with its recipe.
    """
    if not target.is_dir() and target.suffix != ".json":
        return target, runs
    folder = corpus_folder(target).resolve().parent
    if not (folder / "recipe.yaml").is_file():
        raise DataError(
            "no recipe.yaml beside this corpus, which says how it is trained on",
            where=str(target),
            hint="Give the recipe instead.",
        )
    return folder / "recipe.yaml", folder.parent


def worth(job: Job, stages: Stages) -> Valuation:
    """Train with the prepared corpus and without it under every seed, and compare; what is finished is kept.

    Raises:
        RecipeError: the recipe has no general text, or far too little of it, to put in the corpus' place.
        SectorLMError: whatever stops one of the stages; the same command goes on from there.
    """
    started, folder = time.monotonic(), job.folder.root / "worth"
    corpus = Corpus.read(job.folder.corpus / "corpus.json")
    own = ["train.max_general_loss_increase=null"] * (job.recipe.train.max_general_loss_increase is not None)
    general = _general(job, stages, folder)
    seeds = [job.recipe.seed]
    seeds += [hashed(job.recipe.seed, "worth seed", number) % 2**31 for number in range(1, job.recipe.worth.seeds)]
    pairs: list[tuple[Job, Job]] = []
    for number, seed in enumerate(seeds, 1):
        say(f"worth: seed {number} of {len(seeds)}")
        ours = _trained(job, Way("with", job.folder, own), (number, seed), stages)
        if not pairs:
            swapped = own + same_tokens(job, general, Run.read(ours.folder.run / "run.json"))
        theirs = _trained(job, Way("without", general.folder, [*general.sets, *swapped]), (number, seed), stages)
        pairs.append((ours, theirs))
        for one in pairs[-1]:
            _lend_base(pairs[0][0], one)
            stages.evaluate(one)
    return _valued(job, corpus, pairs, started)


class General(NamedTuple):
    """The corpus of general text alone: where it is, and how its recipe differs."""

    folder: RunFolder
    sets: list[str]


def _general(job: Job, stages: Stages, folder: Path) -> General:
    """The corpus of the recipe's general text alone, as much of it as there is."""
    sources = [source for source in job.recipe.corpora if source.channel == "general"]
    if not sources:
        raise RecipeError(
            "the recipe has no general text to put in the corpus' place",
            where="corpora",
            hint="Add a source with `channel: general`, and a `share` if the corpus is to have little of it.",
        )
    told = [source.model_dump(mode="json", exclude_defaults=True, exclude={"share"}) for source in sources]
    told = [one | {"channel": "general"} for one in told]
    sets = [f"corpora={json.dumps(told, ensure_ascii=False)}", "train.phases=[]"]
    apart = RunFolder(folder / "general")
    stages.prepare(Job(stages.derive(sets), job.roots, apart), sets)
    return General(apart, sets)


def same_tokens(job: Job, general: General, run: Run) -> list[str]:
    """How long the general text is read so that a run sees as many tokens of it as `run` saw of the corpus.

    Raises:
        RecipeError: it would be read more than a hundred times.
    """
    record = Corpus.read(general.folder.corpus / "corpus.json")
    rows_per_step = max(1, job.recipe.train.batch_tokens // record.sequence_length)
    per_step = rows_per_step * record.tokens_train / record.rows_train
    steps = max(1, round(run.tokens / per_step))
    passes = steps * rows_per_step / record.rows_train
    if passes > MOST_PASSES:
        raise RecipeError(
            f"{record.tokens_train:,} tokens of general text in place of {run.tokens:,}: it would be read {passes:,.0f} times",
            where="corpora",
            hint="Add more general text; a `share` keeps the corpus' own part of it as it is.",
        )
    return ["train.max_steps=null", f"train.epochs={passes!r}"]


def _trained(job: Job, way: Way, seed: tuple[int, int], stages: Stages) -> Job:
    """A run of one way under (number, seed), and its job as it is to be evaluated: asked as the recipe itself would be."""
    own = RunFolder(job.folder.root / "worth" / f"{way.name},seed={seed[0]}")
    sets = [*way.sets, f"seed={seed[1]}"]
    pairs = [(way.shared.corpus, own.corpus)] + [(way.shared.base, own.base)] * bool(job.recipe.train.new_tokens)
    for target, link in pairs:
        try:
            own.root.mkdir(parents=True, exist_ok=True)
            if not (link.exists() or link.is_symlink()):
                link.symlink_to(os.path.relpath(target, own.root), target_is_directory=True)
        except OSError as error:
            raise storage_error(error, link) from error
    stages.train(Job(stages.derive(sets), job.roots, own), sets)
    gc.collect()  # a model is a circle of references, and the next one needs its memory
    return Job(job.recipe, job.roots, own)


def _lend_base(first: Job, other: Job) -> None:
    """Every run has the same base: its answers are taken from the first one that asked it."""
    there, here = first.folder.scorecards / "base", other.folder.scorecards / "base"
    if (there / "scorecard.json").is_file() and not here.exists():
        with staged(here) as staging:
            shutil.copytree(there, staging, dirs_exist_ok=True)


# ---------------------------------------------------------------- what came of it


def _valued(job: Job, corpus: Corpus, pairs: Sequence[tuple[Job, Job]], started: float) -> Valuation:
    """Compare all answers and write the record, last; or keep the one that is there."""
    recipe, folder = job.recipe, job.folder.root / "worth"
    cards = [[_card(one, "tuned") for one in side] for side in zip(*pairs, strict=True)]
    settings = flat(recipe.worth, "worth") | {"seed": recipe.seed, "evaluate.resamples": recipe.evaluate.resamples}
    inputs = {"corpus": corpus.content(), "base": _card(pairs[0][0], "base").content()}
    inputs |= {
        f"scorecard {one.folder.root.name}": card.content()
        for side, found in zip(zip(*pairs, strict=True), cards, strict=True)
        for one, card in zip(side, found, strict=True)
    }
    old = Valuation.read_if_there(folder / "worth.json")
    if old is not None and not stale(old, folder, settings, inputs):
        say("worth: unchanged, kept")
        return old
    arms = [tuple(_arm(one) for one in side) for side in zip(*pairs, strict=True)]
    effects = _effects(job, pairs)
    general = set(recipe.evaluate.general) - set(recipe.evaluate.tasks)
    last = len(effects) - len(general)
    record = Valuation(
        name=recipe.name,
        settings=settings,
        inputs=inputs,
        files={},
        made=made_by("eval", started),
        sector=recipe.sector,
        base=recipe.base,
        corpus=corpus.content(),
        arms_with=arms[0],
        arms_without=arms[1],
        effects=_corrected(effects[:last]),
        general=_corrected(effects[last:]),
        notes=tuple(_notes(corpus, arms[0], arms[1])),
    )
    write_atomic(folder / "worth.md", worth_markdown(record))
    record = record.model_copy(update={"files": {"worth.md": digest_file(folder / "worth.md")}})
    crash_point("worth.before_record")
    record.write(folder / "worth.json")
    return record


def _card(job: Job, which: str) -> Scorecard:
    return Scorecard.read(job.folder.scorecards / which / "scorecard.json")


def _arm(job: Job) -> Arm:
    run = Run.read(job.folder.run / "run.json")
    seed = int(run.settings["seed"])
    return Arm(name=job.folder.root.name, seed=seed, steps=run.steps, tokens=run.tokens, passes=run.epochs)


def _effects(job: Job, pairs: Sequence[tuple[Job, Job]]) -> list[Effect]:
    """Every task, in the order of the scorecards: sector first, then general."""
    ours, theirs = ([_answers(one, "tuned") for one in side] for side in zip(*pairs, strict=True))
    base = _card(pairs[0][0], "base")
    found = []
    for score in base.scores:
        sides = [[_in_order(run[score.task], ours[0][score.task]) for run in side] for side in (ours, theirs)]
        draw = (job.recipe.seed, f"worth {score.task}")
        seen = two_ways(score.metric, sides[0], sides[1], job.recipe.evaluate.resamples, draw)
        found.append(
            Effect(
                **score.model_dump(include={"task", "metric", "sector", "higher_is_better", "n", "clusters"}),
                base=score.value,
                without_corpus=sum(seen.theirs) / len(seen.theirs),
                with_corpus=sum(seen.ours) / len(seen.ours),
                difference=seen.difference,
                low=seen.both.low,
                high=seen.both.high,
                low_items=seen.items.low,
                high_items=seen.items.high,
                low_seeds=seen.seeds and seen.seeds.low,
                high_seeds=seen.seeds and seen.seeds.high,
                p=seen.p,
                p_holm=seen.p,
                seeds_without=seen.theirs,
                seeds_with=seen.ours,
            )
        )
    return found


def _answers(job: Job, which: str) -> dict[str, list[Line]]:
    folder = job.folder.scorecards / which
    verify_files(folder, _card(job, which).files)
    return read_answers(folder / "answers.jsonl")


def _in_order(lines: Sequence[Line], like: Sequence[Line]) -> list[Line]:
    """The lines in the order of the items of `like`."""
    place = {line["item"]: line for line in lines}
    if place.keys() != {line["item"] for line in like}:
        raise DataError(
            "two of the runs answered different items", where=like[0]["task"], hint="Delete worth/ in the run."
        )
    return [place[line["item"]] for line in like]


def _corrected(effects: Sequence[Effect]) -> tuple[Effect, ...]:
    adjusted = holm([one.p for one in effects])
    return tuple(one.model_copy(update={"p_holm": p}) for one, p in zip(effects, adjusted, strict=True))


def _notes(corpus: Corpus, ours: Sequence[Arm], theirs: Sequence[Arm]) -> list[str]:
    """What limits the comparison, in sentences."""
    notes = []
    if len(ours) == 1:
        notes.append(
            "One seed: what another training would change is not known, and the intervals are over items alone."
        )
    if theirs[0].passes > max(MANY_PASSES, ours[0].passes):
        notes.append(
            f"The general text was read {theirs[0].passes:.0f} times, the corpus {ours[0].passes:.0f} times. From about four "
            "readings on repetition loses value, so the side without the corpus may look worse than more general text would."
        )
    apart = abs(theirs[0].tokens / ours[0].tokens - 1)
    if apart > 0.01:
        notes.append(f"The numbers of tokens differ by {100 * apart:.1f} %: a run is made of whole steps.")
    touched = sum(len(items) for items in corpus.touched.values())
    if touched:
        notes.append(f"{touched:,} test items share a passage with a document of the corpus as it was read.")
    return notes
