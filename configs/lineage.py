"""Which documents made this number? From a record back to the source files, by their hashes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.base import base_digest, base_folder, tokenizer_digest
from configs.errors import SectorLMError
from configs.job import Job, find_files, roots_of
from configs.load import load_recipe, load_task
from configs.records import Corpus, Run
from configs.store import HOUSE, RunFolder, digest_file, digest_json
from configs.view import Found, record_class, records_at
from configs.vocabulary import base_there

if TYPE_CHECKING:
    from pathlib import Path

    from rich.tree import Tree

DEEPER = {"base", "tuned"}
"""Record folders that lie two below the run folder: `scorecards/tuned`."""


class Step(NamedTuple):
    """A record, or something that a record was made from."""

    label: str
    digest: str
    state: str
    """`matches` what is on this disk, `changed` there, or `not here`."""
    path: str
    made_from: tuple[Step, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The same with plain dicts."""
        return self._asdict() | {"made_from": [step.as_json() for step in self.made_from]}


def trace(path: Path) -> Step:
    """Walk back from a record, or from the last record of a folder, to the source files.

    Raises:
        DataError: there is no record.
    """
    last = records_at(path)[-1]
    folder = last.path.resolve().parent
    return _Walk(folder.parent.parent if folder.name in DEEPER else folder.parent).record(last)


class _Walk:
    """The records of one run folder by their digests, and what its recipe names by label."""

    def __init__(self, root: Path) -> None:
        self.records: dict[str, Found] = {}
        self.roots: tuple[Path, ...] = (HOUSE, HOUSE / "configs" / "tasks")
        self.named: dict[str, tuple[str, str]] = {}
        with suppress(SectorLMError):  # a release that was copied elsewhere stands alone
            self.records = {digest: found for found in _around(root) for digest in _digests(found)}
            recipe = load_recipe(root / "recipe.yaml")
            self.roots = (*roots_of(recipe, root / "recipe.yaml"), self.roots[-1])
            self.named = dict(_named(Job(recipe, self.roots, RunFolder(root))))

    def record(self, found: Found) -> Step:
        """A record, whether its own files are as it vouches, and what it was made from."""
        folder = found.path.parent
        files = found.record.files
        wrong = [name for name, digest in files.items() if _digest_at(folder / name) != digest]
        state = f"changed: {wrong[0]}" if wrong else f"matches, {len(files)} files"
        if wrong and not any((folder / name).is_file() for name in files):  # a record that travelled alone
            state = f"not here, {len(files)} files"
        steps = tuple(self.input(label, digest) for label, digest in sorted(found.record.inputs.items()))
        return Step(type(found.record).__name__, found.record.content(), state, str(found.path), steps)

    def input(self, label: str, digest: str) -> Step:
        """One input: an earlier record, a base model, a task, or a file below one of the roots."""
        if digest in self.records:
            return self.record(self.records[digest])
        place, there = self.named.get(label) or self.file(label)
        return Step(label, digest, "matches" if there == digest else "changed" if there else "not here", place)

    def file(self, label: str) -> tuple[str, str]:
        """The file that a label ends with (`corpus file reports/10k.jsonl`), and its digest."""
        words = label.split(" ")
        for start in range(len(words)):
            with suppress(SectorLMError, OSError, ValueError):
                found = find_files(" ".join(words[start:]), self.roots)
                return str(found[0].resolve()), digest_file(found[0])
        return "", ""


def _named(job: Job) -> list[tuple[str, tuple[str, str]]]:
    """What labels mean that are no files: the base, its tokenizer, and the tasks, each with its digest now."""
    found, recipe, roots = [], job.recipe, job.roots
    with suppress(SectorLMError):
        published = base_folder(recipe.base, roots, weights=False)
        found += [(f"published base {recipe.base}", (str(published), base_digest(published)))]
        found += [("published tokenizer", (str(published), tokenizer_digest(published)))]
    with suppress(SectorLMError):
        folder = base_there(job)
        tokenizer = (str(folder), tokenizer_digest(folder))
        found += [(f"base {recipe.base}", (str(folder), base_digest(folder)))]
        found += [("tokenizer", tokenizer), (f"tokenizer of {recipe.base}", tokenizer)]
    for name in (*recipe.evaluate.tasks, *recipe.evaluate.general):
        with suppress(SectorLMError):
            task, places = load_task(name, roots)
            found.append((f"task {task.task}", (str(places[0]), digest_json(task.model_dump(mode="json")))))
    return found


def _around(root: Path) -> list[Found]:
    """The records that may have made those of a run folder, itself last: copies that a merge took of its sites' records,
    and the runs that lie beside it.
    """
    folders = (root, root / "run", *root.glob("*/"))
    places = [path for folder in dict.fromkeys(folders) for path in folder.glob("sites/*/run.json")]
    found = []
    for path in (*places, *sorted(root.parent.glob("*/run/run.json"))):
        with suppress(SectorLMError):
            found.append(Found(path, Run.read(path)))
    for path in sorted(root.parent.glob("*/corpus/corpus.json")):
        with suppress(SectorLMError):
            found.append(Found(path, Corpus.read(path)))
    for path in sorted(root.glob("*/records/**/*.json")) + sorted(root.glob("*/run.json")):  # of a release
        with suppress(SectorLMError):
            found.append(Found(path, record_class(path).read(path)))
    with suppress(SectorLMError):  # a release that was copied elsewhere stands alone
        found += records_at(root)
    return found


def _digests(found: Found) -> set[str]:
    """How later records name this one: by its content, or by its weights."""
    return {found.record.content()} | ({found.record.weights_digest} if isinstance(found.record, Run) else set())


def _digest_at(path: Path) -> str:
    return digest_file(path) if path.is_file() else ""


def trace_view(step: Step, above: frozenset[str] = frozenset()) -> Tree:
    """The walk as a tree on a terminal; what a record was made from is shown the first time that it is met."""
    from rich.markup import escape
    from rich.tree import Tree

    colour = "green" if step.state.startswith("matches") else "red" if step.state.startswith("changed") else "yellow"
    named = f"[bold]{escape(step.label)}[/bold]  [dim]{step.digest[:12]}[/dim]"
    tree = Tree(f"{named}  [{colour}]{escape(step.state)}[/{colour}]  {escape(step.path)}")
    for inner in step.made_from:
        known = inner.digest in above
        tree.children.append(trace_view(inner._replace(made_from=()) if known else inner, above))
        above |= _all_digests(inner)
    return tree


def _all_digests(step: Step) -> frozenset[str]:
    return frozenset({step.digest}).union(*(_all_digests(inner) for inner in step.made_from))
