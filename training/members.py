"""Runs that are trained one after another on one corpus, each in a run folder of its own: those of a sweep or a pilot.

runs/NAME/sweep/learning_rate=0.0002,rank=8/    corpus -> ../../corpus, [base -> ../../base], recipe.yaml, run/, failed.json
"""

from __future__ import annotations

import gc
import json
import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from configs.base import base_digest, base_folder
from configs.errors import (
    DataError,
    DivergedError,
    GateError,
    LockedError,
    RecipeError,
    SectorLMError,
    StoppedError,
    StorageError,
)
from configs.exits import understood
from configs.job import Job
from configs.progress import say
from configs.records import Corpus, Run, flat
from configs.spread import processes
from configs.store import RunFolder, digest_json, storage_error, write_atomic
from configs.trials import label, with_settings
from training.curves import read_curves

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from configs.trials import Value

    Trained = Callable[[Job, list[str]], Run]
    """Trains a job; the words are what `--set` would have to say to make its recipe from the one that was given."""

FATAL = (StoppedError, StorageError, LockedError)
"""What ends all runs: a person's wish, and a machine on which the next would fail as well."""
LASTING = (DivergedError.__name__, GateError.__name__)
"""Failures that the same recipe would meet again; others, such as a lack of memory, are tried again."""


class Member(NamedTuple):
    """One of several runs: its name, what differs from the recipe, and its job."""

    name: str
    settings: dict[str, Value]
    job: Job

    @property
    def sets(self) -> list[str]:
        """What differs, as `--set` takes it."""
        return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in self.settings.items()]


class Outcome(NamedTuple):
    """What came of a run. Losses are held-out ones, in nats per supervised token, of the weights that were kept."""

    name: str
    settings: dict[str, Any]
    state: Literal["finished", "failed", "unfinished", "not begun"]
    reason: str = ""
    steps: int = 0
    tokens: int = 0
    sector: float | None = None
    general: float | None = None
    rise: float | None = None
    """Of the general loss above the base's, as a part of it."""
    best_step: int | None = None
    """The step that the forgetting budget chose; None: the last."""
    stopped_early: bool = False
    seconds: float = 0.0
    tokens_per_second: float = 0.0
    base_sector: float | None = None
    base_general: float | None = None


def member(job: Job, kind: str, settings: dict[str, Value], name: str = "") -> Member:
    """A run of `kind` (`sweep`, `pilot`) whose recipe differs from the job's by `settings`."""
    recipe = job.recipe
    changed = {"train": with_settings(recipe.train, settings), "seed": settings.get("seed", recipe.seed), "sweep": None}
    name = name or label(settings)
    folder = RunFolder(job.folder.root / kind / name)
    return Member(name, settings, Job(recipe.model_copy(update=changed), job.roots, folder))


def train_all(job: Job, members: Sequence[Member], train: Trained, told: Callable[[], object] = lambda: None) -> None:
    """Train every member that is not finished; one that fails is recorded with its reason, and the next begins.

    `told` is called after each one, and before a wish to stop is passed on.

    Raises:
        RecipeError: several processes were started together.
        StoppedError: Ctrl-C or SIGTERM; the same command goes on with the run that was stopped.
        StorageError: the disk is full.
        SectorLMError: every run failed; this is why the last one did.
    """
    if processes() > 1:
        raise RecipeError(f"got {processes()} processes: these runs are trained one after another, by one process")
    failures = []
    for number, one in enumerate(members, 1):
        say(f"run {number} of {len(members)}: {one.name}")
        try:
            error = _trained(job, one, train)
        except StoppedError:
            told()
            raise
        gc.collect()  # a model is a circle of references, and the next one needs its memory
        if error is not None:
            failures.append(error)
            say(f"  failed: {error}")
        told()
    if len(failures) == len(members):
        raise failures[-1]


def _trained(job: Job, one: Member, train: Trained) -> SectorLMError | None:
    """Train a member, or tell why that failed, now or before."""
    folder, made_from = one.job.folder, _made_from(one)
    path = folder.root / "failed.json"
    if path.is_file():
        failed = _read(path)
        if failed.get("made_from") == made_from and failed.get("kind") in LASTING:
            return _known(failed)
    _share(job, folder)
    try:
        train(one.job, one.sets)
    except Exception as error:
        found = understood(error, [])
        if isinstance(found, FATAL):
            raise
        write_atomic(path, json.dumps(found.as_json() | {"made_from": made_from}, indent=1) + "\n")
        return found
    path.unlink(missing_ok=True)
    return None


def _known(failed: dict[str, Any]) -> SectorLMError:
    kind = DivergedError if failed["kind"] == DivergedError.__name__ else GateError
    return kind(
        str(failed["message"]), where=str(failed.get("where", "")), hint="It failed before, and is not repeated."
    )


def _read(path: Any) -> dict[str, Any]:
    """What failed.json says; a damaged one says nothing."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _made_from(one: Member) -> str:
    """Everything that decides how a member ends: its recipe, the corpus and the base."""
    recipe = one.job.recipe
    corpus = Corpus.read(one.job.folder.root.parent.parent / "corpus" / "corpus.json")
    folder = base_folder(recipe.base, one.job.roots, weights=recipe.train.method != "scratch")
    return digest_json([flat(recipe.train, "train"), recipe.seed, corpus.content(), base_digest(folder)])


def _share(job: Job, own: RunFolder) -> None:
    """Point a member's corpus, and its base where tokens were added to it, at those that all share, so that its run folder
    is one like any other.
    """
    shared = job.folder
    pairs = [(shared.corpus, own.corpus)] + [(shared.base, own.base)] * bool(job.recipe.train.new_tokens)
    for theirs, link in pairs:
        try:
            own.root.mkdir(parents=True, exist_ok=True)
            if not (
                link.exists() or link.is_symlink()
            ):  # the base may be gone, and is then made again where all find it
                link.symlink_to(os.path.relpath(theirs, own.root), target_is_directory=True)
        except OSError as error:
            raise storage_error(error, link) from error


def outcome(one: Member) -> Outcome:
    """How a member stands on disk."""
    folder = one.job.folder
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in one.settings.items()}
    failed = _read(folder.root / "failed.json") if (folder.root / "failed.json").is_file() else {}
    run = None if failed else Run.read_if_there(folder.run / "run.json")
    if run is None:
        return _unfinished(one, plain, failed)
    kept = next((it for it in run.curve if it.step == run.best_step), run.curve[-1] if run.curve else None)
    losses, first = (kept.losses if kept else {}), (run.curve[0].losses if run.curve else {})
    return Outcome(
        name=one.name,
        settings=plain,
        state="finished",
        steps=run.steps,
        tokens=run.tokens,
        sector=losses.get("sector"),
        general=losses.get("general"),
        rise=_rise(losses, first),
        best_step=run.best_step,
        stopped_early=run.stopped_early,
        seconds=run.seconds_training,
        tokens_per_second=run.tokens_per_second,
        base_sector=first.get("sector"),
        base_general=first.get("general"),
    )


def _unfinished(one: Member, settings: dict[str, Any], failed: dict[str, Any]) -> Outcome:
    """What metrics.jsonl tells of a run that was stopped, failed, or never began."""
    curves = read_curves(one.job.folder.run / "metrics.jsonl")
    looks = [look["validation"] for look in curves.looks if isinstance(look.get("validation"), dict)]
    last: dict[str, Any] = curves.steps[-1] if curves.steps else {}
    losses, first = (looks[-1] if looks else {}), (looks[0] if looks else {})
    return Outcome(
        name=one.name,
        settings=settings,
        state="failed" if failed else "unfinished" if looks else "not begun",
        reason=f"{failed['kind']}: {failed['message']}" if failed else "",
        steps=int(last.get("step", 0)),
        tokens=int(last.get("tokens", 0)),
        sector=losses.get("sector"),
        general=losses.get("general"),
        rise=_rise(losses, first),
        base_sector=first.get("sector"),
        base_general=first.get("general"),
    )


def _rise(losses: dict[str, float], base: dict[str, float]) -> float | None:
    now, before = losses.get("general"), base.get("general")
    return now / before - 1 if now is not None and before else None


def prepared(job: Job) -> Corpus:
    """The corpus that all members share.

    Raises:
        DataError: it has no held-out rows of the sector to compare runs by.
    """
    corpus = Corpus.read(job.folder.corpus / "corpus.json")
    if not any(it.channel == "sector" and it.tokens_validation for it in corpus.sources):
        raise DataError(
            "no held-out text of the sector to compare runs by",
            where=str(job.folder.corpus),
            hint="Raise prepare.validation, or add sources of the sector.",
        )
    return corpus
