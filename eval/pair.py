"""Base and tuned model: what each scorecard depends on, and how they are opened on as few copies of weights as can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.base import base_digest, base_folder, tokenizer_digest
from configs.errors import DataError
from configs.items import split_files
from configs.load import load_task
from configs.progress import say
from configs.read import digest_files
from configs.records import Corpus, Scorecard, flat, stale
from configs.splits import origin
from configs.store import digest_json
from configs.vocabulary import base_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from configs.job import Job
    from configs.recipe import Evaluate
    from configs.records import Run


@dataclass(frozen=True)
class Model:
    """A model that is asked, and what its scorecard depends on."""

    which: str
    """`base` or `tuned`, or the name of a model given on the command line."""
    folder: Path
    """Where its scorecard goes."""
    digest: str
    """Fingerprint of all its weights."""
    settings: dict[str, Any]
    inputs: dict[str, str]
    side: str = ""
    """How its engine is asked, `base` or `tuned`, where that is not its name."""

    @property
    def card(self) -> Path:
        """The record of this model."""
        return self.folder / "scorecard.json"

    def kept(self) -> bool:
        """Whether its scorecard is there and still holds."""
        record = Scorecard.read_if_there(self.card)
        if record is None:
            return False
        reasons = stale(record, self.folder, self.settings, self.inputs)
        why = f"evaluate {self.which} again: {'; '.join(reasons)}"
        say(why if reasons else f"evaluate {self.which}: unchanged, kept")
        return not reasons

    def earlier(self) -> list[Path]:
        """The answers of its last scorecard, if they are the ones that it vouches for."""
        record = Scorecard.read_if_there(self.card)
        if record is None or stale(record, self.folder, record.settings, record.inputs):
            return []
        return [self.folder / name for name in sorted(record.files)]


class Session(NamedTuple):
    """Models that are asked together, on one copy of the weights."""

    models: list[Model]
    folder: Path
    adapter: Path | None
    seed: int


def models_of(job: Job, run: Run) -> list[Model]:
    """Base and tuned, with their fingerprints.

    Raises:
        DataError: the run was trained on another base or tokenizer than the recipe's.
    """
    recipe = job.recipe
    folder = base_of(job, weights=run.method != "scratch")
    base, tokenizer = base_digest(folder), tokenizer_digest(folder)
    corpus = Corpus.read_if_there(job.folder.corpus / "corpus.json")
    if base != run.base_digest or (corpus is not None and corpus.tokenizer != tokenizer):
        raise DataError(
            f"the run was trained on {run.base} as it was then: its weights or its tokenizer differ now",
            where=str(folder),
            hint="Run `sectorlm train` again.",
        )
    # Questions are asked in the form that the recipe's own questions were trained in.
    chat = recipe.prepare.form == "chat" and any(source.text is None for source in recipe.corpora)
    settings = flat(recipe.evaluate, "evaluate") | {"seed": recipe.seed, "chat": chat}
    tasks = task_inputs(recipe.evaluate, job.roots)
    inputs = {f"base {recipe.base}": base, "tokenizer": tokenizer} | tasks
    tuned = digest_json([base, run.weights_digest])
    cards = job.folder.scorecards
    before = inputs
    if (published := _published(job, run)) != folder:  # the base is asked as it is published, without the new tokens
        base = base_digest(published)
        before = {f"published base {recipe.base}": base, "published tokenizer": tokenizer_digest(published)} | tasks
    return [
        Model("base", cards / "base", base, settings, before),
        Model("tuned", cards / "tuned", tuned, settings, inputs | {"tuned weights": run.weights_digest}),
    ]


def sessions(job: Job, run: Run, models: Sequence[Model]) -> Iterator[Session]:
    """The models with their weights: with an adapter both share one copy, unless the vocabulary grew."""
    published, folder = _published(job, run), base_of(job, weights=run.method != "scratch")
    weights, seed = job.folder.run / run.weights, job.recipe.seed
    adapts = run.weights == "adapter"
    if adapts and published == folder:
        yield Session(list(models), folder, weights, seed)
        return
    for model in models:
        if model.which == "base":
            yield Session([model], published, None, seed)
        else:
            yield Session([model], folder if adapts else weights, weights if adapts else None, seed)


def _published(job: Job, run: Run) -> Path:
    """The base as the recipe names it, without new tokens."""
    return base_folder(job.recipe.base, job.roots, weights=run.method != "scratch")


def task_inputs(wish: Evaluate, roots: tuple[Path, ...]) -> dict[str, str]:
    """The digests of every task and of its files."""
    inputs = {}
    for name in (*wish.tasks, *wish.general):
        task, places = load_task(name, roots)
        inputs[f"task {task.task}"] = digest_json(task.model_dump(mode="json"))
        inputs |= {f"rows of {task.task}": rows} if (rows := origin(task, places)) else {}
        for split in (task.test_split, task.fewshot_split):
            files = split_files(task, split, places) if split else []
            inputs |= {f"{task.task}: {label}": digest for label, digest in digest_files(files, places).items()}
    return inputs
