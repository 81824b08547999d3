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
from typing import TYPE_CHECKING

import pytest

from configs.hub import EXPORT, HUB, hub_path
from configs.load import load_recipe
from configs.recipe import SECTORS
from configs.records import Corpus
from configs.sector import load_sector
from configs.store import HOUSE
from tests.hub_server import COMMIT, Repository, State
from tests.hub_server import hub as served
from tests.public_data import NEVER, benchmarks, corpora, hub_tasks, parquet

if TYPE_CHECKING:
    from pathlib import Path

RECIPES = HOUSE / "configs" / "recipes"
FIXED, MOVED = "f" * 40, "e" * 40
ASK = """
import json, sys
from itertools import islice
from pathlib import Path
from configs.errors import SectorLMError
from configs.hub import HubPath, hub_split
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

def shape(path, text):
    seen = preview(Source(name="s", licence="MIT", path=path, text=text), (HOUSE,), 2)
    return {"rows": seen.reading.rows, "trouble": seen.trouble}

def rows(name, config, revision, split):
    return list(hub_split(HubPath(name, config, revision), split))

def task(name):
    it, _ = load_task(name, (HOUSE,))
    found = {}
    for split in {it.test_split, it.fewshot_split} - {None}:
        items, refused = read_items(it, split, (HOUSE / "tests",))
        found[split] = [[[item.text, item.target, item.subject] for item in items], dict(refused)]
    return found | {"from": origin(it, (HOUSE / "tests",))}

for work, *given in map(json.loads, sys.stdin):
    print(json.dumps(told(lambda: {"source": source, "shape": shape, "task": task, "rows": rows}[work](*given))), flush=True)
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
    "BAAI/IndustryCorpus2_medicine": 8,
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
    packs = [path for sector in SECTORS for it in load_sector(sector).corpora for path in it.paths]
    assert {hub_path(path).name for path in packs if path.startswith(HUB)} <= named
    assert named == corpora().keys()
    assert {task.dataset_path for task in hub_tasks()} == benchmarks()[0].keys()


def shape(path: str, text: str = "{{ text }}") -> tuple[object, ...]:
    return "shape", path, text


LOCKED = {"acme/gated": 403, "acme/locked": 401, "acme/busy": 429, "acme/down": 503}
REFUSED: dict[tuple[object, ...], tuple[str, str]] = {
    shape(f"hf:QCRI/HumAID-all@{MOVED}"): ("DataError", "Check its name and revision"),
    shape("hf:QCRI/HumAID-all@v9"): ("DataError", "Check its name and revision"),
    shape(f"hf:allenai/peS2o@{MOVED}!data/v2/train-*.json.gz"): ("DataError", "Check its name and revision"),
    shape("hf:allenai/peS2o!data/v9/*.json.gz"): ("DataError", "Check the names of its files"),
    shape("hf:allenai/peS2o"): ("UnsafeArtefactError", "Name its files"),
    shape("hf:HuggingFaceFW/fineweb-edu:sample-11BT"): ("DataError", "Name a configuration"),
    shape("hf:acme/gone"): ("DataError", "Check its name and revision"),
    ("rows", "haonan-li/cmmlu", "botany", EXPORT, "test"): ("DataError", "Check its configurations and splits"),
    ("rows", "cais/mmlu", "botany", None, "test"): ("DataError", "Name a configuration"),
    ("rows", "cais/mmlu", None, MOVED, "test"): ("DataError", "Check its name and revision"),
    **{
        shape(f"hf:{name}{tail}"): ("StorageError", hint)
        for name, hint in {
            "acme/gated": "Accept its terms",
            "acme/locked": "Accept its terms",
            "acme/busy": "again in a few minutes",
            "acme/down": "Check the network",
        }.items()
        for tail in ("", f"@{COMMIT}", f"@{COMMIT}!data/*.json")
    },
    ("rows", "acme/gated", None, None, "train"): ("StorageError", "Accept its terms"),
    ("rows", "acme/busy", None, EXPORT, "train"): ("StorageError", "again in a few minutes"),
    ("rows", "acme/down", None, COMMIT, "train"): ("StorageError", "Check the network"),
}
"""What is asked for, and the kind and the remedy of the refusal."""
TASKS = hub_tasks()
OTHERS = (
    shape("hf:QCRI/HumAID-all", "{{ tweet }}"),
    ("rows", "acme/converted", None, EXPORT, "train"),
    ("rows", "acme/plain", None, EXPORT, "train"),
)


@pytest.fixture(scope="module")
def state():
    """What the hub of this file holds."""
    held, exports = benchmarks()
    plain = {"data/train.json": b'{"text": "plain"}\n'}
    held |= dict.fromkeys(("acme/gated", "acme/plain"), plain)
    held["acme/converted"] = {"converted.py": b"raise SystemExit"}
    exports["acme/converted"] = {"default/train/0000.parquet": parquet([{"text": "converted"}])}
    return State(datasets=corpora() | held, exports=exports, status=dict(LOCKED))


@pytest.fixture(scope="module")
def public(state):
    """Its address."""
    with served(state) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def answers(public, tmp_path_factory):
    """The answers to all requests of this file, asked in one process."""
    asked = [*(("source", *place) for place in SOURCES.values()), *(("task", task.task) for task in TASKS)]
    asked += [*REFUSED, *OTHERS]
    found = ask(tmp_path_factory.mktemp("hub"), public, *asked)
    return {json.dumps(request): it for request, it in zip(asked, found, strict=True)}


def test_every_source_of_every_public_recipe_is_read_and_rendered_and_nothing_beside_it(answers) -> None:
    for paths, place in SOURCES.items():
        it = answers[json.dumps(("source", *place))]
        assert "rows" in it, it
        assert it["rows"] == next(count for name, count in ROWS.items() if paths.startswith(f"{HUB}{name}")), paths
        assert it["trouble"] == ""
        assert len(it["texts"]) >= 2, paths
        assert all(len(text) > 40 for text in it["texts"]), paths
        assert NEVER not in json.dumps(it), paths
        assert f"@{COMMIT[:12]}:" in it["where"]


def test_every_task_of_the_hub_is_read_from_its_split_configurations_and_revision(answers) -> None:
    """CMMLU: 3 test and 2 worked questions a subject, from the hub's conversion; MMLU: 3 a subject; MedMCQA: 4."""
    assert len(TASKS) >= 16
    for task in TASKS:
        it = answers[json.dumps(("task", task.task))]
        assert it["from"].startswith(f"the hub's {task.dataset_path}"), it
        assert NEVER not in json.dumps(it)
        names = task.dataset_name if isinstance(task.dataset_name, tuple) else ("",)
        items, refused = it[task.test_split]
        assert (len(items), refused) == (4 if task.task == "medmcqa" else 3 * len(names), {})
        assert [target for _, target, _ in items[:3]] == ["A", "B", "C"]
        if task.fewshot_split:
            assert len(it[task.fewshot_split][0]) == 2 * len(names)
            assert all(" dev " in text for text, _, _ in it[task.fewshot_split][0])
        if task.subject and names != ("",):
            assert {subject for _, _, subject in items} == set(names)


def test_what_the_hub_refuses_or_has_not_is_an_error_of_its_kind_with_a_remedy(answers) -> None:
    for request, (kind, hint) in REFUSED.items():
        it = answers[json.dumps(request)]
        assert (it.get("kind"), hint in it.get("hint", "")) == (kind, True), (request, it)
        assert str(HOUSE) not in json.dumps(it)


def test_a_column_that_is_not_there_is_told_with_the_columns_that_are(answers) -> None:
    it = answers[json.dumps(OTHERS[0])]
    assert "no column tweet" in it["trouble"]
    assert "tweet_id, tweet_text, class_label" in it["trouble"]


def test_the_hubs_conversion_is_read_and_where_there_is_none_the_data_set_itself(answers) -> None:
    assert [answers[json.dumps(it)] for it in OTHERS[1:]] == [[{"text": "converted"}], [{"text": "plain"}]]


WHOLE = {
    "finance": ("[cmmlu_finance]", {"finance-text-zh": 4, "finance-text": 7, "replay-en": 6, "replay-zh": 6}),
    "healthcare": (
        "[medmcqa, mmlu_med, cmmlu_medicine]",
        {"encyclopaedia-questions": 6, "medicine-text": 8, "replay-en": 6, "replay-zh": 6},
    ),
}
"""Tasks that the hub has, and rows of each source."""
PANEL = "[general_knowledge_en, general_knowledge_zh, general_reasoning_zh, general_pairs, general_text]"


@pytest.mark.slow
@pytest.mark.parametrize("sector", WHOLE)
def test_a_whole_public_recipe_is_prepared_from_the_hub(sector, public, tmp_path) -> None:
    """Every row is kept but the one that holds a question of MedMCQA."""
    tasks, rows = WHOLE[sector]
    sets = ["base=assets/base", "prepare.sequence_length=256", "prepare.validation=0.2"]
    sets += [f"evaluate.tasks={tasks}", f"evaluate.general={PANEL}"]
    command = [sys.executable, "sectorlm.py", "prepare", str(RECIPES / f"{sector}.yaml"), "--runs", str(tmp_path)]
    command += [word for it in sets for word in ("--set", it)]
    done = subprocess.run(
        command, cwd=HOUSE, env=surroundings(tmp_path / "hf", public), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    record = Corpus.read(tmp_path / sector / "corpus/corpus.json")
    assert {it.name: it.rows for it in record.sources} == rows
    left = {it.name: it.dropped for it in record.sources if it.dropped}
    assert left == ({"medicine-text": {"leak:medmcqa": 1}} if sector == "healthcare" else {})
    assert record.documents == sum(rows.values()) - len(left)
    assert record.tokens_train > 1500


def test_a_base_is_downloaded_by_name_and_revision_without_programs(state, public, tiny_base, tmp_path) -> None:
    files = {path.name: path.read_bytes() for path in tiny_base.iterdir()}
    more = {"pytorch_model.bin": b"pickled", "modeling_tiny.py": b"raise SystemExit", "onnx/model.onnx": b"graph"}
    old = files | {"generation_config.json": b'{"eos_token_id": 0, "temperature": 0.5}'}
    state.models["acme/tiny-base"] = Repository(False, [(FIXED, old | more), ("d" * 40, files | more)])
    state.status["acme/closed-base"] = 401
    script = """
import json, sys
from configs.base import base_folder
from configs.errors import SectorLMError
for base in sys.argv[1:]:
    try:
        print(json.dumps({path.name: path.stat().st_size for path in base_folder(base, ()).iterdir()}))
    except SectorLMError as error:
        print(json.dumps(error.as_json()))
"""
    bases = ["acme/tiny-base", f"acme/tiny-base@{FIXED}", f"acme/tiny-base@{MOVED}", "acme/tiny-base@v9", "acme/none"]
    done = subprocess.run(
        [sys.executable, "-c", script, *bases],
        env=surroundings(tmp_path, public), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    new, pinned, *refused = map(json.loads, done.stdout.splitlines())
    assert new == {name: len(content) for name, content in files.items()}
    assert pinned == {name: len(content) for name, content in old.items()}
    assert [(it["kind"], it["where"]) for it in refused[:2]] == [("DataError", bases[2]), ("DataError", bases[3])]
    assert refused[2]["kind"] == "StorageError"  # the hub says 401 of what is not there and of what is private alike
    asked = {path.rpartition("/")[2] for _, path in state.asked if "/acme/tiny-base/resolve/" in path}
    assert asked == files.keys()
