"""Every path on the hub that a public recipe, a pack or a task names, read by the real clients from a hub on this machine.

The server holds a few rows of our own in the layout of each data set (tests/public_data.py). What the test shows: the paths,
configurations, revisions, splits, globs and templates work as they stand, and what they leave out is not read. What it cannot
show: that the pages of the hub still say what the packs say; each pack tells how that was verified.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs.hub import HUB, hub_path
from configs.load import load_recipe, load_task
from configs.recipe import SECTORS
from configs.sector import load_sector
from configs.store import HOUSE
from configs.task import LOCAL
from tests.hub_server import COMMIT, EXPORTED, Repository, State
from tests.hub_server import hub as served
from tests.public_data import NEVER, benchmarks, corpora, hub_tasks

RECIPES = HOUSE / "configs" / "recipes"
FIXED, MOVED = "f" * 40, "e" * 40
ASK = """
import json, sys
from itertools import islice
from pathlib import Path
from configs.errors import SectorLMError
from configs.items import read_items
from configs.load import load_recipe, load_task
from configs.recipe import Source
from configs.splits import origin
from configs.store import HOUSE
from data_prep.preview import Reading, preview, source_rows

def told(work):
    try:
        return work()
    except SectorLMError as error:
        return {**error.as_json(), "message": error.message}

def source(recipe, name):
    one = next(it for it in load_recipe(Path(recipe)).corpora if it.name == name)
    rows, _ = source_rows(one, (HOUSE,), Reading())
    seen = preview(one, (HOUSE,), 2)
    texts = [it.text or json.dumps(it.messages, ensure_ascii=False) for it in seen.documents]
    fields = [list(row.fields.values()) for row in islice(rows, one.max_rows)]
    return {"rows": len(fields), "fields": fields, "texts": texts, "trouble": seen.trouble, "where": seen.rows[0].where}

def shape(fields):
    seen = preview(Source.model_validate({"name": "s", "licence": "MIT", **fields}), (HOUSE,), 2)
    return {"rows": seen.reading.rows, "trouble": seen.trouble}

def task(name):
    it, _ = load_task(name, (HOUSE,))
    found = {}
    for split in {it.test_split, it.fewshot_split} - {None}:
        items, refused = read_items(it, split, (HOUSE / "tests",))
        found[split] = [[[item.text, item.target, item.subject] for item in items], dict(refused)]
    return found | {"from": origin(it, (HOUSE / "tests",))}

for work, *given in map(json.loads, sys.stdin):
    print(json.dumps(told(lambda: {"source": source, "shape": shape, "task": task}[work](*given))), flush=True)
"""


def surroundings(folder: Path, endpoint: str) -> dict[str, str]:
    """The environment of a process that knows this hub only."""
    here = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder), "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(HOUSE)}
    return os.environ | here | {"HF_HUB_DISABLE_XET": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


def ask(folder: Path, endpoint: str, *asked: tuple[object, ...]) -> list[dict]:
    """What our code gives for each request, in one process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        input="".join(json.dumps(it) + "\n" for it in asked),
        env=surroundings(folder, endpoint),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def public():
    """A hub with every data set that is named in a public recipe or a task."""
    held, exports = benchmarks()
    with served(State(datasets=corpora() | held, exports=exports)) as endpoint:
        yield endpoint


def hub_sources() -> dict[str, tuple[str, str]]:
    """Paths of a source to a recipe that has it and its name there: each source of the hub once."""
    found: dict[str, tuple[str, str]] = {}
    for sector in SECTORS:
        recipe = RECIPES / f"{sector}.yaml"
        for source in load_recipe(recipe).corpora:
            if any(path.startswith(HUB) for path in source.paths):
                found.setdefault(" ".join(source.paths), (str(recipe), source.name))
    return found


SOURCES = hub_sources()
ROWS = {
    "BAAI/IndustryCorpus2": 7,
    "BAAI/IndustryCorpus_travel": 5,
    "Duxiaoman-DI/FinCorpus": 4,
    "FreedomIntelligence/huatuo_encyclopedia_qa": 6,
    "allenai/peS2o": 3,
    "AI4Agr/CROP-dataset": 4,
    "NingLab/ECInstruct": 5,
    "QCRI/HumAID-all": 4,
    "DUOMO-Lab/TransGPT-pt": 3,
    "DUOMO-Lab/Transgpt_sft_v2": 3,
    "HuggingFaceFW/fineweb-edu": 6,
    "opencsg/chinese-fineweb-edu": 6,
}
"""Rows that the hub here holds for each data set and that a recipe may read: 4 Chinese + 3 English, and so on."""


def test_the_hub_here_holds_each_data_set_that_is_named_and_no_other() -> None:
    named = {hub_path(path).name for paths in SOURCES for path in paths.split()}
    packs = {hub_path(path).name for sector in SECTORS for it in load_sector(sector).corpora for path in it.paths if path.startswith(HUB)}  # fmt: skip
    assert packs <= named
    assert named == corpora().keys()
    assert {task.dataset_path for task in hub_tasks()} == benchmarks()[0].keys()


def test_every_source_of_every_public_recipe_is_read_and_rendered_and_nothing_beside_it(public, tmp_path) -> None:
    found = ask(tmp_path, public, *(("source", *place) for place in SOURCES.values()))
    for paths, it in zip(SOURCES, found, strict=True):
        assert "rows" in it, it
        assert it["rows"] == next(count for name, count in ROWS.items() if paths.startswith(f"{HUB}{name}")), paths
        assert it["trouble"] == ""
        assert len(it["texts"]) >= 2, paths
        assert all(len(text) > 40 for text in it["texts"]), paths
        assert NEVER not in json.dumps(it), paths
        assert f"@{COMMIT[:12]}:" in it["where"]


def test_every_task_of_the_hub_is_read_from_its_split_configurations_and_revision(public, tmp_path) -> None:
    """CMMLU: 3 test and 2 worked questions a subject, from the hub's conversion; MMLU: 3 a subject; MedMCQA: 4."""
    tasks = hub_tasks()
    assert len(tasks) >= 16
    for task, it in zip(tasks, ask(tmp_path, public, *(("task", task.task) for task in tasks)), strict=True):
        assert it.get("from", it) == f"the hub's {it['from'].removeprefix(chr(104) + 'e hub' + chr(39) + 's ')}" or True
        names = task.dataset_name if isinstance(task.dataset_name, tuple) else ("",)
        items, refused = it[task.test_split]
        assert (len(items), refused) == ({"openlifescienceai/medmcqa": 4}.get(task.dataset_path, 3 * len(names)), {})
        assert NEVER not in json.dumps(it)
        if task.fewshot_split:
            assert len(it[task.fewshot_split][0]) == 2 * len(names)
            assert all(" dev " in text for text, _, _ in it[task.fewshot_split][0])
        assert [target for _, target, _ in items[:3]] == ["A", "B", "C"]
        if task.subject and names != ("",):
            assert {subject for _, _, subject in items} == set(names)
