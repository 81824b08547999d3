"""Everything that can be known about a recipe before any compute, all problems at once.

A recipe with a mistake in one block is still checked in all others: each source, task and path is looked at by itself.
"""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from configs.base import base_folder, local_folder, read_config
from configs.errors import DataError, PolicyError, RecipeError, SectorLMError, UnsafeArtefactError
from configs.governance import strictest
from configs.hub import COMMIT, HUB, hub_path
from configs.items import read_items
from configs.job import Job, find_files
from configs.licences import licence_problem
from configs.load import load_recipe, load_task, problems, read_recipe
from configs.overlap import check_apart
from configs.problems import at_place
from configs.progress import say
from configs.recipe import SECTORS, Evaluate, Prepare, Recipe, Source
from configs.sector import beside_the_pack, load_sector
from configs.splits import files_of, origin, split_files
from configs.store import HOUSE, RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from configs.items import Item
    from configs.task import Task
    from configs.yaml_nodes import KeyPath, Tree

    Judge = Callable[[Iterable[str]], object]
    """Raises RecipeError for words that mean nothing."""
    Foresee = Callable[[Task, Sequence[Item]], str | None]
    """What the items of a task can show at all."""

FIRST_ROWS = 20
"""Records of each source, and items of each task, that are read and rendered."""
ADAPTER, PICKLED = "adapter_model.safetensors", "adapter_model.bin"
"""An adapter's weights as PEFT writes them, and as it once wrote them."""
START = "Give the folder that `sectorlm merge` wrote, or that of an earlier run, runs/NAME."
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len")


@dataclass
class Checked:
    """What was found: problems stop a run, notes only inform."""

    tree: Tree
    problems: list[SectorLMError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    foresee: Foresee | None = None

    @contextmanager
    def at(self, *key: str | int) -> Iterator[None]:
        """Collect an error of the block as a problem at this key of the recipe."""
        try:
            yield
        except SectorLMError as error:
            what = f"{error.where}: {error.message}" if error.where else error.message
            self.problems.append(type(error)(at_place(self.tree, key, what), hint=error.hint))
        except OSError as error:
            what = f"{error.filename or 'a file'} cannot be read ({error.strerror or error})"
            self.problems.append(DataError(at_place(self.tree, key, what)))

    def tell_notes(self) -> None:
        """Print what is worth knowing."""
        for note in self.notes:
            say(f"note: {note}")

    def refuse(self) -> None:
        """Raise all problems as one error, of the kind of the first.

        Raises:
            SectorLMError: there are problems.
        """
        if self.problems:
            raise type(self.problems[0])("\n".join(str(problem) for problem in self.problems))

    def note(self, *key: str | int, text: str) -> None:
        """Keep something worth knowing at this key of the recipe."""
        self.notes.append(at_place(self.tree, key, text))


def check_recipe(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    rules: Judge | None = None,
    requests: Judge | None = None,
    foresee: Foresee | None = None,
) -> Checked:
    """Look at keys, files, first records, licences, tasks, splits and the base model; nothing is computed or written.

    `rules` and `requests` judge the names of quality rules and the removal requests, as the stage does that obeys them;
    `foresee` says what a task's items could show.

    Raises:
        RecipeError: the file is not strict YAML, so there is nothing to look at.
    """
    tree = read_recipe(path, overrides)
    found = Checked(tree, [RecipeError(line) for line in problems(Recipe, tree)], foresee=foresee)
    roots = _roots(tree, path)
    sources = _sources(tree)
    for position, source in sources.items():
        with found.at("corpora", position):
            _check_source(found, position, source, roots)
        _check_words(found, ("corpora", position, "rules"), source.rules, rules)
    _note_terms(found, list(sources.values()))
    block = tree.value.get("prepare")
    block = block if isinstance(block, dict) else {}
    _check_words(found, ("prepare", "rules"), block.get("rules"), rules)
    _check_words(found, ("prepare", "exclude"), block.get("exclude"), requests)
    tasks = {}
    for key, name in _task_names(tree):
        with found.at(*key):
            task, task_roots = load_task(name, roots)
            _check_task(found, key, task, task_roots)
            tasks[key] = (task, task_roots)
    for key, (task, task_roots) in tasks.items():
        for source in sources.values():
            with found.at(*key):
                check_apart(task, task_roots, source, roots)
    with found.at("base"):
        _check_base(found, roots)
    _check_train(found, sources, roots)
    if not found.problems:
        with found.at("train", "new_tokens"):
            _check_new_tokens(load_recipe(path, overrides), roots)
    return found


# ---------------------------------------------------------------- the pieces that can be looked at by themselves


def _roots(tree: Tree, path: Path) -> tuple[Path, ...]:
    beside = path.resolve().parent
    folders = tree.value.get("data", [])
    given = [folder for folder in folders if isinstance(folder, str)] if isinstance(folders, list) else []
    return (beside, *((beside / folder).resolve() for folder in given), HOUSE)


def _sources(tree: Tree) -> dict[int, Source]:
    """The corpora that are right by themselves, by their position."""
    members = tree.value.get("corpora")
    found = {}
    for position, member in enumerate(members if isinstance(members, list) else ()):
        try:
            found[position] = Source.model_validate_json(json.dumps(member))
        except ValidationError:
            continue  # already among the problems of the tree
    return found


def _task_names(tree: Tree) -> list[tuple[KeyPath, str]]:
    block = tree.value.get("evaluate")
    block = block if isinstance(block, dict) else {}
    names: list[tuple[KeyPath, str]] = []
    for key in ("tasks", "general"):
        given = block.get(key, Evaluate.model_fields[key].get_default() if key == "general" else ())
        listed = given if isinstance(given, list | tuple) else ()
        names += [(("evaluate", key, place), name) for place, name in enumerate(listed) if isinstance(name, str)]
    return names


# ---------------------------------------------------------------- sources


def _check_source(found: Checked, position: int, source: Source, roots: tuple[Path, ...]) -> None:
    """Licence allows the use, files are there, the first records can be read and rendered."""
    use = found.tree.value.get("use", Recipe.model_fields["use"].default)
    with found.at("corpora", position, "licence"):
        forbidden = licence_problem(source, use)
        if forbidden:
            raise PolicyError(forbidden)
    if (sector := found.tree.value.get("sector")) in SECTORS:
        for key, told in beside_the_pack(source, load_sector(sector)):
            found.note("corpora", position, key, text=told)
    for path in source.paths:
        if path.startswith(HUB):
            with found.at("corpora", position, "path"):
                pinned = COMMIT.fullmatch(hub_path(path).revision or "")
                loose = "" if pinned else "; its rows may change: pin it, with @ and the 40 digits of a commit"
                found.note("corpora", position, "path", text=f"{path} is read from the hub; not looked at here{loose}")
            continue
        with found.at("corpora", position, "path"):
            _render_first(source, find_files(path, roots), path.partition("!")[2])


def _note_terms(found: Checked, sources: Sequence[Source]) -> None:
    """The terms of the mixture; where a licence is not known there are none, and that is a problem already."""
    with suppress(SectorLMError):
        found.note("corpora", text=" ".join(strictest(sources).sentences()))


def _check_words(found: Checked, key: KeyPath, block: Any, judge: Judge | None) -> None:
    """Judge each word of a block by itself: the names of a mapping, or the members of a list."""
    words: list[tuple[str | int, Any]] = []
    if isinstance(block, dict):
        words = [(name, name) for name in block]
    elif isinstance(block, list):
        words = list(enumerate(block))
    for step, word in words:
        if judge is not None and isinstance(word, str):
            with found.at(*key, step):
                try:
                    judge([word])
                except RecipeError as error:  # its own place is the key in general
                    raise RecipeError(error.message, hint=error.hint) from error


def _render_first(source: Source, files: list[Path], inside: str) -> None:
    from configs.read import Reading, read_rows
    from configs.template import template

    reading = Reading()
    rows = read_rows(
        files,
        inside,
        format=source.format,
        encoding=source.encoding,
        columns=source.columns,
        records=source.records,
        reading=reading,
    )
    renders = [template(text) for text in (source.text, source.prompt, source.answer, source.group) if text]
    read = 0
    for row in islice(rows, FIRST_ROWS):
        read += 1
        for name in (*source.where, *source.where_not, *([source.messages] if source.messages else [])):
            if name not in row.fields:
                raise DataError(f"no column {name}; there are: {', '.join(map(str, row.fields))}", where=row.where)
        for render in renders:
            render(row.fields)
    if not read:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in reading.refused.most_common())
        raise DataError(f"0 rows in {', '.join(file.name for file in files[:3])} ({reasons or 'nothing there'})")


# ---------------------------------------------------------------- tasks


def _check_task(found: Checked, key: KeyPath, task: Task, roots: tuple[Path, ...]) -> None:
    """The splits are there, apart from each other, and their items render."""
    files = files_of(task, roots)
    if files is None:
        found.note(*key, text=f"{task.task}: {origin(task, roots)}; not looked at here")
        return
    items, refused = read_items(task, task.test_split, roots)
    if refused:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in refused.most_common())
        found.note(*key, text=f"{task.task}: {len(items)} items; rows left out: {reasons}")
    block = found.tree.value.get("evaluate")
    limit = block.get("limit") if isinstance(block, dict) else None
    if found.foresee is not None and (told := found.foresee(task, items[: limit if isinstance(limit, int) else None])):
        found.note(*key, text=told)
    if task.fewshot_split is None:
        return
    test, shots = (set(split_files(task, split, roots)) for split in (task.test_split, task.fewshot_split))
    if test & shots and not files.keys and files.split_column is None:
        both = sorted(test & shots)[0]
        raise DataError(
            f"task {task.task}: {both.name} is both its {task.test_split} and its {task.fewshot_split} split"
        )
    read_items(task, task.fewshot_split, roots)


# ---------------------------------------------------------------- base model


def _check_base(found: Checked, roots: tuple[Path, ...]) -> None:
    """The base model is there, safe to open, and its context holds a packed row."""
    base = found.tree.value.get("base")
    if not isinstance(base, str):
        return
    local = any((root / base).is_dir() for root in (Path.cwd(), *roots))
    if not local and base.count("/") == 1 and not base.startswith((".", "/")):
        found.note("base", text=f"{base} is read from the hub; not looked at here")
        return
    train: Any = found.tree.value.get("train")
    scratch = isinstance(train, dict) and train.get("method") == "scratch"
    config = read_config(base_folder(base, roots, weights=not scratch))
    context = next((config[key] for key in CONTEXT_KEYS if isinstance(config.get(key), int)), None)
    prepare = found.tree.value.get("prepare")
    default = Prepare.model_fields["sequence_length"].default
    length = prepare.get("sequence_length", default) if isinstance(prepare, dict) else default
    if isinstance(length, int) and context is not None and length > context:
        with found.at("prepare", "sequence_length"):
            raise RecipeError(f"rows of {length} tokens do not fit the base model's context of {context}")


# ---------------------------------------------------------------- training


def _check_train(found: Checked, sources: dict[int, Source], roots: tuple[Path, ...]) -> None:
    """The adapter to start from is there, probes can be asked, and there is general text to measure forgetting on."""
    train = found.tree.value.get("train")
    if not isinstance(train, dict):
        return
    if isinstance(start := train.get("start"), str):
        with found.at("train", "start"):
            _check_start(start, roots)
    probes = train.get("probes")
    for place, name in enumerate(probes if isinstance(probes, list) else ()):
        if isinstance(name, str):
            with found.at("train", "probes", place):
                _check_probe(name, roots)
    listed = found.tree.value.get("corpora")
    whole = isinstance(listed, list) and len(sources) == len(listed)  # else the source may be one with a mistake
    budget = train.get("max_general_loss_increase")
    if budget is not None and whole and all(source.channel != "general" for source in sources.values()):
        with found.at("train", "max_general_loss_increase"):
            raise RecipeError(
                "there is no text of the general channel to measure forgetting on",
                hint="Add a source with `channel: general`.",
            )


def _check_start(start: str, roots: tuple[Path, ...]) -> None:
    """Whether an adapter lies where training will look; training itself sees whose it is.

    Raises:
        DataError: there is none.
        UnsafeArtefactError: its weights are pickled.
    """
    folders = [root / start for root in (Path(), *roots)]
    if not any(folder.is_dir() for folder in folders):
        raise DataError(f"{start}: no such folder", hint=START)
    places = [folder / inner for folder in folders for inner in ("", "adapter", "run/adapter")]
    if any((place / ADAPTER).is_file() for place in places):
        return
    if any((place / PICKLED).is_file() for place in places):
        raise UnsafeArtefactError(f"{start}: weights are pickled ({PICKLED})", hint="Ask for them in safetensors form.")
    raise DataError(f"no {ADAPTER} in {start}", hint=START)


def _check_probe(name: str, roots: tuple[Path, ...]) -> None:
    """Raises RecipeError for a task that training cannot ask; its items are read where they lie on this machine."""
    task, task_roots = load_task(name, roots)
    if task.output_type != "multiple_choice" or task.fewshot_split is None:
        raise RecipeError(
            f"{name} is no multiple-choice task with a fewshot_split",
            hint="Probes take their items from that split, so that the test stays unseen.",
        )
    if files_of(task, task_roots) is not None:
        read_items(task, task.fewshot_split, task_roots)


def _check_new_tokens(recipe: Recipe, roots: tuple[Path, ...]) -> None:
    """Raises RecipeError for a new token that the base has already; a base of the hub is not looked at."""
    if not recipe.train.new_tokens or local_folder(recipe.base, roots) is None:
        return
    from configs.vocabulary import foreseen

    try:
        foreseen(Job(recipe, roots, RunFolder(Path(recipe.name))))
    except RecipeError as error:  # its own place is the key in general
        raise RecipeError(error.message, hint=error.hint) from error
