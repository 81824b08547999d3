"""Packs, recipes, tasks and the page about them say the same."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections import defaultdict
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from benchmarks.packs import PAGE, licence_class, page
from configs.check import check_recipe
from configs.errors import DataError
from configs.hub import HUB
from configs.items import read_items
from configs.job import find_files
from configs.licences import licence_kind
from configs.load import load_recipe, load_task
from configs.recipe import SECTORS
from configs.sector import load_sector
from configs.splits import split_files
from configs.starter import write_starter
from configs.store import HOUSE
from configs.task import LOCAL, task_files
from tests.conftest import SHARED, needs_shared

if TYPE_CHECKING:
    from pathlib import Path

RECIPES = HOUSE / "configs" / "recipes"
TASKS = set(task_files(HOUSE))


@pytest.mark.parametrize("sector", SECTORS)
def test_a_public_recipe_has_the_corpora_of_its_pack_word_for_word_and_only_general_text_besides(sector) -> None:
    sources = {it.name: it for it in load_recipe(RECIPES / f"{sector}.yaml").corpora}
    pack = {it.name: it.as_source() for it in load_sector(sector).corpora}
    assert {name: sources[name] for name in pack} == pack
    assert {it.channel for name, it in sources.items() if name not in pack} == {"general"}


@pytest.mark.parametrize("sector", SECTORS)
def test_what_was_not_looked_at_is_said_beside_it_in_the_recipe(sector) -> None:
    """Facts from memory, and general text, of which no pack has the facts."""
    text = (RECIPES / f"{sector}.yaml").read_text("utf-8")
    pack = {it.name: it for it in load_sector(sector).corpora}
    for source in load_recipe(RECIPES / f"{sector}.yaml").corpora:
        line = re.search(rf"^  - name: {source.name}\b.*$", text, re.MULTILINE)[0]
        unseen = source.name not in pack or "memory" in pack[source.name].facts.verified
        assert ("from memory" in line) == unseen, line


@pytest.mark.parametrize("sector", SECTORS)
def test_tasks_that_pack_and_recipes_name_are_there_and_under_the_same_licence(sector) -> None:
    for it in load_sector(sector).benchmarks:
        assert set(it.tasks) <= TASKS
        for name in it.tasks:
            task, _ = load_task(name, (HOUSE,))
            assert task.metadata.sector == sector
            assert task.metadata.proxy == it.proxy, name
            if task.dataset_path not in LOCAL:
                assert it.host == "hub"
                assert it.id.split()[0] == task.dataset_path
    for name in (sector, f"{sector}-real"):
        asked = load_recipe(RECIPES / f"{name}.yaml").evaluate
        assert {*asked.tasks, *asked.general} <= TASKS


@pytest.mark.parametrize("sector", SECTORS)
def test_the_probes_of_a_pack_are_choices_with_questions_that_are_not_the_tests(sector, tmp_path) -> None:
    probes = [load_task(name, (HOUSE,))[0] for name in load_sector(sector).domain.probes]
    assert any(task.metadata.sector == "general" for task in probes)
    assert {task.metadata.sector for task in probes} <= {"general", sector}
    for task in probes:
        assert (task.output_type, task.fewshot_split) == ("multiple_choice", task.fewshot_split or "one")
        assert task.fewshot_split != task.test_split
    starter = write_starter(sector, tmp_path)[0].read_text("utf-8")
    if not (RECIPES / f"quickstart-{sector}.yaml").is_file():
        assert f"probes: [{', '.join(task.task for task in probes)}]" in starter


def test_one_data_set_has_one_licence_wherever_it_is_named() -> None:
    stated = defaultdict(set)
    for sector in SECTORS:
        pack = load_sector(sector)
        for it in pack.benchmarks:
            stated[it.id.split()[0]].add(it.licence)
        for it in pack.corpora:
            licence_kind(it.licence)
            if it.paths[0].startswith(HUB):
                stated[it.paths[0].removeprefix(HUB).split("!")[0]].add(it.licence)
    assert {name: found for name, found in stated.items() if len(found) > 1} == {}


def test_a_licence_with_a_condition_of_its_own_is_of_no_known_class() -> None:
    assert [licence_class(it) for it in ("MIT", "CC-BY-NC-4.0", "MIT as claimed", "none stated")] == [
        "permissive",
        "noncommercial",
        "unknown",
        "unknown",
    ]


@pytest.mark.parametrize("sector", SECTORS)
def test_check_reads_every_starter_and_misses_nothing_but_files(sector, tmp_path) -> None:
    checked = check_recipe(write_starter(sector, tmp_path)[0])
    assert all(isinstance(it, DataError) and "no such file" in str(it) for it in checked.problems), checked.problems


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize("sector", SECTORS)
def test_every_recipe_on_local_files_is_without_problems(sector) -> None:
    assert [str(it) for it in check_recipe(RECIPES / f"{sector}-real.yaml").problems] == []


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize("sector", SECTORS)
def test_a_public_recipe_with_its_files_at_hand_does_not_train_on_what_it_is_scored_on(sector) -> None:
    """The same folders as of the tasks: what is missing are corpora that are not here."""
    checked = check_recipe(RECIPES / f"{sector}.yaml", ["data=[../../../shared/data]"])
    assert all("no such file" in str(it) or "cannot be read from the hub" in str(it) for it in checked.problems), (
        checked.problems
    )


def test_the_page_has_the_tables_of_packs_recipes_and_tasks() -> None:
    text = PAGE.read_text("utf-8")
    assert page(text) == text, "python -m benchmarks.packs --write"
    assert all(text.count(f"| `{sector}` |") == 1 for sector in SECTORS)
    with pytest.raises(DataError, match="no <!-- end of places -->"):
        page(text.replace("<!-- end of places -->", ""))


def test_what_was_in_a_packed_file_is_found_in_its_place(tmp_path) -> None:
    """`a.json` for `a.json.gz`, files of a folder for an archive; another archive's members and hidden files are not."""
    for name in ("rows.tsv", "set/one/a.csv", "set/b.csv", "set/b.md", "set/.c.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a\n1\n", "utf-8")
    assert find_files("rows.tsv.gz", (tmp_path,)) == [tmp_path / "rows.tsv"]
    inside = find_files("set/set.tar.zst!*.csv", (tmp_path,))
    assert [file.relative_to(tmp_path).as_posix() for file in inside] == ["set/b.csv", "set/one/a.csv"]
    for gone in ("rows.csv.gz", "set/set.tar.zst", "other/set.zip!*.csv"):
        with pytest.raises(DataError, match="no such file"):
            find_files(gone, (tmp_path,))


@needs_shared
@pytest.mark.parametrize("name", ["climatex", "finqa", "safenet_factor", "transport_highway_code"])
def test_a_task_is_the_same_from_files_as_their_makers_publish_them(name, tmp_path) -> None:
    """Unpacked: a table, JSON Lines, and two archives of many files. A changed byte is refused."""
    task, roots = load_task(name, (HOUSE, SHARED))
    packed = split_files(task, task.test_split, roots)[0]
    place = tmp_path / packed.relative_to(SHARED).parent
    place.mkdir(parents=True)
    if packed.name.endswith(".tar.zst"):
        with tarfile.open(fileobj=io.BytesIO(unpacked(packed))) as archive:
            archive.extractall(place, filter="data")
    else:
        (place / packed.name.rpartition(".")[0]).write_bytes(unpacked(packed))
    items, refused = read_items(task, task.test_split, roots)
    plain, refused_too = read_items(task, task.test_split, (HOUSE, tmp_path))
    assert {it.digest for it in plain} == {it.digest for it in items}
    assert refused_too == refused
    if not packed.name.endswith(".tar.zst"):
        with next(place.iterdir()).open("ab") as file:
            file.write(b"\n")
        with pytest.raises(DataError, match="bytes differ from the sha256"):
            read_items(task, task.test_split, (HOUSE, tmp_path))


def unpacked(file: Path) -> bytes:
    """What is in a file of gzip or zstd."""
    if file.suffix == ".gz":
        return gzip.decompress(file.read_bytes())
    with pa.CompressedInputStream(pa.OSFile(str(file)), "zstd") as stream:
        return bytes(stream.read())
