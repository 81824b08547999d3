"""Which documents made this number? From a record back to the source files, by their hashes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.base import base_digest, base_folder, tokenizer_digest
from configs.errors import SectorLMError
from configs.job import find_files, roots_of
from configs.load import load_recipe
from configs.store import digest_file, digest_json
from configs.view import Found, records_at

if TYPE_CHECKING:
    from rich.tree import Tree

DISTANCE = {"base": 2, "tuned": 2}
"""Folders of a record that lie deeper than one below the run folder (`scorecards/tuned`)."""


class Step(NamedTuple):
    """Something that a record was made from, or a record itself."""

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
    depth = DISTANCE.get(last.path.resolve().parent.name, 1)
    return _Walk(last.path.resolve().parents[depth]).record(last)


class _Walk:
    """The records of one run folder by their digests, and the roots that its recipe reads from."""

    def __init__(self, root: Path) -> None:
        try:
            self.records = {digest: found for found in records_at(root) for digest in _digests(found)}
        except SectorLMError:  # a release that was copied elsewhere stands alone
            self.records = {}
        try:
            recipe = load_recipe(root / "recipe.yaml")
            self.roots: tuple[Path, ...] = roots_of(recipe, root / "recipe.yaml")
        except SectorLMError:
            self.roots = ()

    def record(self, found: Found) -> Step:
        """A record, whether its own files are as it vouches, and what it was made from."""
        folder = found.path.parent
        wrong = [name for name, digest in found.record.files.items() if _digest_at(folder / name) != digest]
        state = f"changed: {wrong[0]}" if wrong else f"matches, {len(found.record.files)} files"
        steps = tuple(self.input(label, digest) for label, digest in sorted(found.record.inputs.items()))
        return Step(type(found.record).__name__, digest_file(found.path), state, str(found.path), steps)

    def input(self, label: str, digest: str) -> Step:
        """One input: an earlier record, a base model, or a file below one of the roots."""
        if digest in self.records:
            return self.record(self.records[digest])
        place, there = self.on_disk(label)
        state = "not here" if there is None else "matches" if digest in there else "changed"
        return Step(label, digest, state, place)

    def on_disk(self, label: str) -> tuple[str, set[str] | None]:
        """Where the input is on this disk, and the digests that it may be known by."""
        for name in (label, label.partition(" ")[2], label.partition(": ")[2]):
            folder = next((root / name for root in (Path.cwd(), *self.roots) if name and (root / name).is_dir()), None)
            try:
                if folder is not None and (folder / "config.json").is_file():
                    model = base_folder(str(folder), weights=False)
                    return str(model), {base_digest(model), tokenizer_digest(model)}
                if name and folder is None:
                    file = find_files(name, self.roots)[0]
                    return str(file), {digest_file(file)}
            except (SectorLMError, OSError):
                continue
        return "", None


def _digests(found: Found) -> set[str]:
    """The two ways in which a later record names an earlier one: by its bytes, and by its content without the clock."""
    return {digest_file(found.path), digest_json(found.record.model_dump(mode="json", exclude={"made"}))}


def _digest_at(path: Path) -> str:
    return digest_file(path) if path.is_file() else ""


def trace_view(step: Step) -> Tree:
    """The walk as a tree on a terminal."""
    from rich.markup import escape
    from rich.tree import Tree

    colour = "green" if step.state.startswith("matches") else "red" if step.state.startswith("changed") else "yellow"
    named = f"[bold]{escape(step.label)}[/bold]  [dim]{step.digest[:12]}[/dim]"
    tree = Tree(f"{named}  [{colour}]{escape(step.state)}[/{colour}]  {escape(step.path)}")
    for inner in step.made_from:
        tree.children.append(trace_view(inner))
    return tree
