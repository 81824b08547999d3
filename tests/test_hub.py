"""Data sets of the hub: the real clients against a small server that speaks the hub's API, and no network at all."""

import json
import os
import subprocess
import sys

import pytest

from configs.errors import RecipeError
from configs.hub import hub_path
from configs.store import HOUSE
from tests.hub_server import COMMIT, State
from tests.hub_server import hub as served

ROWS = "".join(json.dumps({"q": f"Q{number}", "a": "A"}) + "\n" for number in range(3)).encode()
REPOSITORIES = {
    "acme/rates": {"train.jsonl": ROWS},
    "acme/tests": {"test.jsonl": ROWS},
    "acme/program": {"program.py": b"raise SystemExit('this must never run')"},
}
STATUS = {"acme/locked": 401, "acme/gone": 404, "acme/busy": 429, "acme/down": 503}


ASK = """
import json, sys
from configs.errors import SectorLMError
from configs.hub import hub_rows
from configs.reading import Reading
for path in sys.argv[1:]:
    reading = Reading()
    try:
        print(json.dumps([[row.fields, row.where] for row in hub_rows(path, reading)] + [reading.rows]))
    except SectorLMError as error:
        print(json.dumps(error.as_json()))
"""


def ask(tmp_path, endpoint, *paths, offline=False):
    """What `hub_rows` gives for each path in a process of its own, and what it says on stderr."""
    given = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": str(int(offline)),
        "PYTHONPATH": str(HOUSE),
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK, *paths],
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.fixture
def hub():
    with served(State(datasets=REPOSITORIES, status=STATUS)) as endpoint:
        yield endpoint


def test_rows_are_streamed_from_a_commit_and_every_refusal_has_its_kind_and_remedy(hub, tmp_path):
    pinned = f"hf:acme/rates@{COMMIT}"
    names = ["locked", "gone", "busy", "down", "tests", "program"]
    (loose, fixed, *refused), said = ask(tmp_path, hub, "hf:acme/rates", pinned, *(f"hf:acme/{name}" for name in names))
    rows = [[{"q": f"Q{number}", "a": "A"}, f"hf:acme/rates@0123456789ab:{number + 1}"] for number in range(3)]
    assert (loose, fixed) == ([*rows, 3], [*rows, 3])
    assert said.count("warning: hf:acme/rates: no revision is given") == 1
    assert f"path: {pinned}" in said
    assert [(each["kind"], each["where"]) for each in refused] == [
        ("StorageError", "hf:acme/locked"),
        ("DataError", "hf:acme/gone"),
        ("StorageError", "hf:acme/busy"),
        ("StorageError", "hf:acme/down"),
        ("DataError", "hf:acme/tests"),
        ("UnsafeArtefactError", "hf:acme/program"),
    ]
    assert "hf auth login" in refused[0]["hint"]
    assert "again in a few minutes" in refused[2]["hint"]


def test_without_a_network_the_error_comes_at_once_and_says_what_to_do(tmp_path):
    (told,), _ = ask(tmp_path, "http://127.0.0.1:9", "hf:acme/rates", offline=True)
    assert (told["kind"], told["code"]) == ("StorageError", 5)
    assert "HF_HUB_OFFLINE" in told["hint"]


@pytest.mark.parametrize("path", ["hf:", "hf:a/b/c", "hf:org/name:", "hf:org/name@"])
def test_a_path_of_another_form_is_a_mistake_in_the_recipe(path):
    with pytest.raises(RecipeError, match=r"hf:org/name\[:config\]\[@revision\]"):
        hub_path(path)
