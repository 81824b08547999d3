"""A release made again from its own recipe: the same stages, and what comes out differently, field by field."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.base import base_digest, base_folder
from configs.errors import DataError, SectorLMError
from configs.load import load_task
from configs.progress import say
from configs.public import HASHED
from configs.record import MEASURED
from configs.records import Corpus, Record, Run
from configs.stages import STAGES, open_job, stage_of, working
from configs.store import HOUSE, digest_json, write_atomic
from training.verify import CHAIN, sources, verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from configs.job import Job

CASCADES = {*MEASURED, "inputs", "files", "made_in", "format"}
"""Fields that are not compared: how long it took, and digests of what is compared itself."""
HERE = {
    "corpus": "corpus/corpus.json",
    "run": "run/run.json",
    "scorecard base": "scorecards/base/scorecard.json",
    "scorecard tuned": "scorecards/tuned/scorecard.json",
    "comparison": "report/comparison.json",
}
"""Where the records of a run folder lie, by the names that they have in a release."""
SHOWN = 30


class Differing(NamedTuple):
    """A field that came out differently."""

    record: str
    field: str
    released: Any
    here: Any


@dataclass(frozen=True)
class Reproduced:
    """What came out of making a release again."""

    folder: Path
    compared: int
    """Fields that were compared."""
    differing: list[Differing]
    packages: dict[str, tuple[str, str]]
    """Packages of other versions: the release's, and those here."""

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "same": not self.differing,
            "folder": str(self.folder),
            "compared": self.compared,
            "differing": [it._asdict() for it in self.differing],
            "packages": self.packages,
        }

    def shown(self) -> list[str]:
        """The same in lines."""
        lines = [f"{name} {ours} here, {theirs} when it was released" for name, (theirs, ours) in self.packages.items()]
        if not self.differing:
            return [*lines, f"reproduced: all {self.compared:,} fields are the same, weights included ({self.folder})"]
        lines.append(f"{len(self.differing)} of {self.compared:,} fields differ ({self.folder}):")
        lines += [f"  {it.record} {it.field}: {it.released} -> {it.here}" for it in self.differing[:SHOWN]]
        more = len(self.differing) - SHOWN
        return [*lines, f"  and {more} more; --json has all"] if more > 0 else lines


def reproduce(folder: Path, data: Sequence[Path], runs: Path) -> Reproduced:
    """Do the stages of a release again, but for publishing, and compare the records.

    `data` are folders in which the base and the source files lie.

    Raises:
        DataError: the release is damaged, or something that it was made from is not here; all of it is named.
        SectorLMError: whatever the stages raise.
    """
    verify(folder)
    roots = (*(place.resolve() for place in data), Path.cwd(), HOUSE)
    tree = json.loads((folder / "recipe.json").read_bytes()) | {"data": [str(root) for root in roots[:-1]]}
    recipe = runs / f"{tree['name']}.json"
    _refuse_missing(folder, tree, roots)
    write_atomic(recipe, json.dumps(tree, indent=1, ensure_ascii=False) + "\n")
    job = open_job(recipe, [], runs)
    _refuse_other_inputs(folder, job)
    with working(job, "prepare", recipe, []):
        for stage in list(STAGES)[:-1]:
            stage_of(stage)(job)
    return compared(folder, job.folder.root)


def compared(release: Path, root: Path) -> Reproduced:
    """The records of a release and those of a run folder, field by field.

    Raises:
        DataError: a record is missing.
    """
    count, differing, packages = 0, list[Differing](), dict[str, tuple[str, str]]()
    for name, place in HERE.items():
        theirs, ours = (CHAIN[name][1].read(path) for path in (release / CHAIN[name][0], root / place))
        before, now = (dict(_leaves(_said(record))) for record in (theirs, ours))
        count += len(before.keys() | now.keys())
        differing += [
            Differing(name, field, before.get(field, "unset"), now.get(field, "unset"))
            for field in sorted(before.keys() | now.keys())
            if before.get(field, "unset") != now.get(field, "unset")
        ]
        versions = {
            package: (version, ours.made.packages.get(package, "none"))
            for package, version in theirs.made.packages.items()
        }
        packages |= {package: pair for package, pair in versions.items() if pair[0] != pair[1]}
    return Reproduced(root, count, differing, packages)


def _said(record: Record) -> dict[str, Any]:
    tree = record.public().model_dump(mode="json", exclude=CASCADES)
    settings = {key: value for key, value in tree["settings"].items() if not key.startswith("data")}
    return tree | {"settings": settings}


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            named = inner.get("name") or inner.get("task") if isinstance(inner, dict) else None
            yield from _leaves(inner, f"{key}[{named or place}]")
    else:
        yield key, value


# ---------------------------------------------------------------- what must be here


def _refuse_missing(folder: Path, tree: dict[str, Any], roots: Sequence[Path]) -> None:
    """Raises: DataError: with everything that is missing."""
    run = Run.read(folder / "run.json")
    missing = [f"{name}: {state}" for name, (state, _) in sources(folder, roots).items() if state != "matches"]
    requests = [it for it in tree["prepare"]["exclude"] if it.startswith(HASHED)]
    if requests:
        missing.append(f"prepare.exclude: {len(requests)} removal requests, of which a release tells hashes only")
    missing += [f"{label}: the adapters of sites do not travel" for label in run.inputs if label.startswith("site ")]
    missing += [f"{label}: an adapter that it went on from" for label in run.inputs if label.startswith("adapter ")]
    try:
        base = base_folder(tree["base"], tuple(roots), weights=tree["train"]["method"] != "scratch")
        if base_digest(base) != run.base_digest:
            missing.append(f"base {tree['base']}: changed, the one here has other weights")
    except SectorLMError as error:
        missing.append(f"base {tree['base']}: {error.message}")
    if missing:
        raise DataError(
            "the release cannot be reproduced here:\n    " + "\n    ".join(missing),
            where=str(folder),
            hint="Give the folders in which these lie with --data DIR.",
        )
    if any(str(path).startswith("hf:") for source in tree["corpora"] for path in _paths(source)):
        say("  sources on the hub are read again: they are the same only where their revision is pinned")


def _paths(source: dict[str, Any]) -> list[str]:
    return [source["path"]] if isinstance(source["path"], str) else list(source["path"])


def _refuse_other_inputs(folder: Path, job: Job) -> None:
    """The tasks are part of SectorLM or lie beside the recipe: they must say what they said.

    Raises:
        DataError: one does not.
    """
    corpus = Corpus.read(folder / CHAIN["corpus"][0])
    changed = []
    for name in (*job.recipe.evaluate.tasks, *job.recipe.evaluate.general):
        with suppress(SectorLMError):
            task, _ = load_task(name, job.roots)
            known = corpus.inputs.get(f"task {task.task}")
            if known and known != digest_json(task.model_dump(mode="json")):
                changed.append(task.task)
    if changed:
        say(f"  tasks that say something else here than when it was released: {', '.join(changed)}")
