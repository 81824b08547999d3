"""Where a task's rows come from: its own files, local files in place of the hub's data set, or the hub."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from configs.check import Checked, _check_task
from configs.errors import DataError
from configs.items import read_items
from configs.overlap import check_apart
from configs.recipe import Source
from configs.splits import files_of, origin, split_files
from configs.task import Task
from configs.yaml_nodes import Tree

if TYPE_CHECKING:
    from pathlib import Path

ABOUT = {"sector": "finance", "language": ["en"], "licence": "CC0-1.0", "source": "test", "made_by": "a test"}
ROWS = [{"question": f"q{n}", "label": n % 2} for n in range(4)]
LOCAL = {"data_files": {"test": "own/*.jsonl", "dev": "dev.jsonl"}, "rename": {"q": "question", "answer": "label"}}


def task(**keys: Any) -> Task:
    base = {
        "task": "t",
        "dataset_path": "acme/rates",
        "test_split": "test",
        "fewshot_split": "dev",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": ["no", "yes"],
        "doc_to_target": "{{label}}",
        "metric_list": [{"metric": "acc"}],
        "metadata": ABOUT,
    }
    return Task.model_validate_json(json.dumps(base | keys))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A data set as `datasets` downloads it, with two configurations that differ by their questions."""
    folder = tmp_path / "hub"
    for name in ("spring", "autumn"):
        write(folder / name / "test.jsonl", [row | {"question": f"{name} {row['question']}"} for row in ROWS])
        write(folder / name / "dev.jsonl", [{"question": f"{name} shot", "label": 1}])
    files = "\n".join(
        f"- config_name: {name}\n  data_files:\n"
        + "\n".join(f"  - {{split: {split}, path: {name}/{split}.jsonl}}" for split in ("test", "dev"))
        for name in ("spring", "autumn")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{files}\n---\n", "utf-8")
    return folder


@pytest.fixture
def quiet_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def here(folder: Path) -> tuple[Path, ...]:
    return (folder,)


def local_files(folder: Path) -> None:
    """The same rows as the hub's configuration spring, with other names for the columns."""
    write(folder / "own/a.jsonl", [{"q": f"spring {row['question']}", "answer": row["label"]} for row in ROWS[:2]])
    write(folder / "own/b.jsonl", [{"q": f"spring {row['question']}", "answer": row["label"]} for row in ROWS[2:]])
    write(folder / "dev.jsonl", [{"q": "spring shot", "answer": 1}])


@pytest.mark.usefixtures("quiet_cache")
def test_local_files_give_the_same_items_as_the_data_set_that_they_stand_in_for(tmp_path, hub):
    asked = task(dataset_path=str(hub), dataset_name="spring", revision="abc", local=LOCAL)
    assert files_of(asked, here(tmp_path)) is None
    assert origin(asked, here(tmp_path)) == f"the hub's {hub}:spring@abc"
    assert split_files(asked, "test", here(tmp_path)) == []
    far, _ = read_items(asked, "test", here(tmp_path))
    local_files(tmp_path)
    assert origin(asked, here(tmp_path)) == f"local files in place of the hub's {hub}:spring@abc"
    near, refused = read_items(asked, "test", here(tmp_path))
    assert near == far
    assert [item.target for item in near] == ["no", "yes", "no", "yes"]
    assert not refused
    assert [file.name for file in split_files(asked, "test", here(tmp_path))] == ["a.jsonl", "b.jsonl"]


@pytest.mark.usefixtures("quiet_cache")
def test_several_configurations_are_one_split_and_each_row_knows_its_own(tmp_path, hub):
    asked = task(dataset_path=str(hub), dataset_name=["spring", "autumn"], subject="{{ _file }}")
    items, _ = read_items(asked, "test", here(tmp_path))
    assert Counter(item.subject for item in items) == {"spring": 4, "autumn": 4}


@pytest.mark.usefixtures("quiet_cache")
def test_a_data_set_that_cannot_be_read_is_an_error_that_names_the_way_out(tmp_path, hub):
    with pytest.raises(DataError, match="task t: the data set cannot be read") as caught:
        read_items(task(dataset_path=str(hub), dataset_name="winter"), "test", here(tmp_path))
    assert "Local files do as well" in caught.value.hint


def test_rows_of_several_files_know_their_file(tmp_path):
    (tmp_path / "test").mkdir()
    for name in ("virology_test.csv", "anatomy_test.csv"):
        (tmp_path / "test" / name).write_text(f"question,label\n{name} 1,0\n{name} 2,1\n", "utf-8")
    packed = gzip.compress(b'{"question": "packed", "label": 1}\n')
    (tmp_path / "test" / "v1.2.jsonl.gz").write_bytes(packed)
    keys = {"dataset_path": "csv", "fewshot_split": None, "subject": "{{ _file }}"}
    found = task(**keys, dataset_kwargs={"data_files": {"test": "test/*.csv"}})
    items, _ = read_items(found, "test", here(tmp_path))
    assert Counter(item.subject for item in items) == {"anatomy_test": 2, "virology_test": 2}
    found = task(**keys, dataset_kwargs={"data_files": {"test": "test/*.gz"}})
    assert read_items(found, "test", here(tmp_path))[0][0].subject == "v1.2"


def test_a_rows_own_field_of_that_name_wins(tmp_path):
    write(tmp_path / "rows.jsonl", [{"question": "q", "label": 0, "_file": "mine"}])
    keys = {"dataset_path": "json", "fewshot_split": None, "subject": "{{ _file }}"}
    found = task(**keys, dataset_kwargs={"data_files": {"test": "rows.jsonl"}})
    assert read_items(found, "test", here(tmp_path))[0][0].subject == "mine"


def test_half_of_the_local_files_is_an_error_and_not_the_hubs_rows(tmp_path):
    local_files(tmp_path)
    (tmp_path / "dev.jsonl").unlink()
    with pytest.raises(DataError, match=r"some local files of task t are there, but dev\.jsonl is not"):
        read_items(task(local=LOCAL), "test", here(tmp_path))


def test_local_files_are_checked_like_any_others(tmp_path):
    local_files(tmp_path)
    with pytest.raises(DataError, match="no column query in the rows of t") as caught:
        read_items(task(local=LOCAL | {"rename": {"query": "question"}}), "test", here(tmp_path))
    assert "q" in caught.value.hint
    sha = hashlib.sha256((tmp_path / "own/a.jsonl").read_bytes()).hexdigest()
    pinned = task(local=LOCAL, metadata=ABOUT | {"sha256": {"own/a.jsonl": sha}})
    assert len(read_items(pinned, "test", here(tmp_path))[0]) == 4
    write(tmp_path / "own/a.jsonl", [{"q": "changed", "answer": 0}])
    with pytest.raises(DataError, match="bytes differ from the sha256"):
        read_items(pinned, "test", here(tmp_path))


def test_local_filters_take_the_place_of_the_tasks_own(tmp_path):
    local_files(tmp_path)
    found = task(local=LOCAL | {"where": {"answer": ["1"]}}, where={"label": ["0"]})
    items, refused = read_items(found, "test", here(tmp_path))
    assert [item.target for item in items] == ["yes", "yes"]
    assert refused == {"not selected": 2}


def test_a_value_of_where_that_no_row_has_is_an_error_with_those_that_there_are(tmp_path):
    local_files(tmp_path)
    found = task(local=LOCAL | {"where": {"q": ["spring q7"]}})
    with pytest.raises(DataError, match="no row of task t has q spring q7") as caught:
        read_items(found, "test", here(tmp_path))
    assert "The rows have: spring q0, spring q1" in caught.value.hint


def test_checks_look_at_local_files_and_say_so_where_there_are_none(tmp_path):
    found = Checked(Tree({"evaluate": {"tasks": ["t"]}}, {}))
    _check_task(found, ("evaluate", "tasks", 0), task(local=LOCAL), here(tmp_path))
    assert "the hub's acme/rates@newest; not looked at here" in found.notes[0]
    local_files(tmp_path)
    source = Source(name="rows", path="own/*.jsonl", licence="CC0-1.0", text="{{q}}")
    with pytest.raises(DataError, match=r"corpus rows trains on a\.jsonl, which task t is scored on"):
        check_apart(task(local=LOCAL), here(tmp_path), source, here(tmp_path))
    write(tmp_path / "dev.jsonl", [{"q": "shot"}])
    with pytest.raises(DataError, match="no column answer"):
        _check_task(found, ("evaluate", "tasks", 0), task(local=LOCAL), here(tmp_path))


def test_local_belongs_to_a_data_set_of_the_hub():
    with pytest.raises(ValueError, match="local stands in for a data set of the hub, but dataset_path is json"):
        task(dataset_path="json", local=LOCAL)
