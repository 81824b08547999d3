"""A release is pushed by the real client to a hub on this machine: one commit, compared, taken up again, private, no secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from configs.errors import SectorLMError
from configs.records import Release
from configs.store import HOUSE, files_of
from tests.hub_server import TOKEN, State, hub
from training.push import push_release

PUSH = """
import sys
from pathlib import Path
from configs.records import Release
from training.push import push_release
folder = Path(sys.argv[1])
push_release(folder, Release.read(folder / "release.json"), "acme/story")
"""
MADE = {"sectorlm": "0", "code": "", "packages": {}, "python": "", "machine": "", "finished": "", "seconds": 0}


@pytest.fixture
def release(tmp_path):
    """A release of three files, one of them large enough for the hub to take it another way."""
    folder = tmp_path / "release"
    folder.mkdir()
    write(folder, {"README.md": "# story\n", "adapter_model.safetensors": "w" * 1000, "recipe.json": "{}"})
    return folder


def write(folder, files):
    for name, text in files.items():
        (folder / name).write_text(text)
    record = {
        "name": "story",
        "settings": {},
        "inputs": {},
        "made": MADE,
        "sector": "finance",
        "base": "b",
        "checks": {},
        "gates": {},
    }
    (folder / "release.json").unlink(missing_ok=True)
    (folder / "release.json").write_text(json.dumps({**record, "files": files_of(folder)}))
    Release.read(folder / "release.json")


@pytest.fixture
def state():
    return State()


@pytest.fixture
def push(monkeypatch, capsys, tmp_path):
    """Push with the client in this process, which the other tests keep off the network; gives the commit or the error, and
    everything that was printed."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("training.push.WAITS", (0.01, 0.02, 0.03))
    monkeypatch.chdir(tmp_path)

    def pushed(folder, endpoint, target="acme/story", **environment):
        for name, value in (environment_of(endpoint) | environment).items():
            monkeypatch.setenv(name, value)
        try:
            found = push_release(folder, Release.read(folder / "release.json"), target)
        except SectorLMError as error:
            found = error.as_json()
        told = capsys.readouterr()
        assert TOKEN not in told.out + told.err + json.dumps(found)
        return found, told.out + told.err

    return pushed


def environment_of(endpoint):
    return {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}


def held(state, target="acme/story"):
    """The files that a visitor of the hub sees."""
    found = state.models.get(target)
    return {name: content.decode() for name, content in found.tree("main").items()} if found else {}


def test_a_push_is_one_commit_to_a_private_repository_and_the_same_again_is_none(push, release, state):
    with hub(state) as endpoint:
        commit, said = push(release, endpoint)
        assert held(state) == {path.name: path.read_text() for path in release.iterdir()}
        repository = state.models["acme/story"]
        assert repository.private and repository.titles == ["SectorLM release story"] and repository.head == commit
        assert "4 of 4 files, listed again and compared" in said
        again, said = push(release, endpoint)
        assert again == commit and "holds this release already" in said and len(repository.commits) == 2
        assert state.count("PUT /large/") == 1


def test_a_new_release_replaces_what_the_old_one_brought_and_nothing_else(push, release, state):
    with hub(state) as endpoint:
        push(release, endpoint)
        repository = state.models["acme/story"]
        head, files = repository.commits[-1]
        repository.commits[-1] = (head, files | {"discussion.md": b"of a reader"})
        (release / "recipe.json").unlink()
        write(release, {"README.md": "# another\n"})
        push(release, endpoint)
    assert held(state).keys() == {"README.md", "adapter_model.safetensors", "release.json", "discussion.md"}
    assert held(state)["README.md"] == "# another\n" and len(repository.commits) == 3
    assert state.count("PUT /large/") == 1  # the weights stayed


@pytest.mark.parametrize(
    "fault",
    [("PUT /large/", 403, {}), ("POST .*/commit/", 500, {}), ("POST .*/commit/", 400, {})],
    ids=["while large files go", "at the commit", "refused"],
)
def test_a_push_that_is_interrupted_leaves_nothing_half_published_and_the_next_one_goes_on(push, release, state, fault):
    with hub(state) as endpoint:
        state.faults = [fault] * 4
        error, _ = push(release, endpoint)
        assert error["code"] == 5 and "The local release is complete; run the same command again." in error["hint"]
        assert held(state) == {}
        state.faults.clear()
        push(release, endpoint)
    assert len(held(state)) == 4 and len(state.models["acme/story"].commits) == 2
    assert state.count("PUT /large/") == (2 if "PUT" in fault[0] else 1)


def test_a_process_that_is_killed_before_the_commit_has_published_nothing_and_sends_nothing_twice(push, release, state):
    with hub(state) as endpoint:
        given = environment_of(endpoint) | {"SECTORLM_CRASH_AT": "publish.before_commit", "PYTHONPATH": str(HOUSE)}
        command = [sys.executable, "-c", PUSH, str(release)]
        done = subprocess.run(command, env=os.environ | given, capture_output=True, timeout=120, check=False)
        assert done.returncode == 137 and held(state) == {} and len(state.large) == 1
        push(release, endpoint)
    assert len(held(state)) == 4 and state.count("PUT /large/") == 1


def test_a_busy_hub_is_asked_again_a_few_times_and_no_more(push, release, state):
    with hub(state) as endpoint:
        state.faults = [
            ("/api/repos/create", 429, {"Retry-After": "0"}),
            ("/api/repos/create", 503, {}),
            ("/commit/", 0, {}),
        ]
        push(release, endpoint)
        assert len(held(state)) == 4 and state.count("/api/repos/create") == 3
        state.asked.clear()
        state.faults = [("/api/repos/create", 429, {})] * 9
        error, _ = push(release, endpoint)
    assert state.count("/api/repos/create") == 4
    assert (error["kind"], error["code"]) == ("StorageError", 5) and "asks to wait" in error["hint"]


def test_what_the_hub_holds_afterwards_is_compared(push, release, state):
    class Forgetful(dict):
        def __getitem__(self, oid):
            return b"other bytes"

    with hub(state) as endpoint:
        state.large = Forgetful()
        error, _ = push(release, endpoint)
    assert error["message"] == "the hub does not hold what was pushed: adapter_model.safetensors"


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"HF_TOKEN": "hf_" + "a" * 30}, "StorageError", "may not write"),
        ({"HF_TOKEN": ""}, "StorageError", "export HF_TOKEN"),
        ({"HF_HUB_OFFLINE": "1"}, "StorageError", "Unset HF_HUB_OFFLINE"),
        ({"target": "nobody/story"}, "DataError", "Check publish.push_to"),
    ],
    ids=["401", "no token", "offline", "404"],
)
def test_every_refusal_has_its_kind_and_its_remedy(push, release, state, given, kind, said):
    with hub(state) as endpoint:
        error, _ = push(release, endpoint, **given)
    assert error["kind"] == kind and said in error["hint"] and held(state) == {}
    assert "aaaa" not in json.dumps(error)


def test_without_a_hub_the_error_comes_soon_and_the_local_release_is_complete(push, release):
    before = files_of(release)
    error, _ = push(release, "http://127.0.0.1:9")
    assert error["code"] == 5 and "sectorlm doctor" in error["hint"] and files_of(release) == before


def test_a_secret_in_a_file_of_the_release_is_never_sent(push, release, state):
    with hub(state) as endpoint:
        for secret in (TOKEN, "hf_" + "Z" * 34, "-----BEGIN EC PRIVATE KEY-----"):
            write(release, {"recipe.json": json.dumps({"note": secret})})
            error, _ = push(release, endpoint)
            assert error["kind"] == "PolicyError" and "recipe.json holds what looks like" in error["message"]
            assert secret not in json.dumps(error)
    assert state.asked == []


def test_a_file_that_was_changed_after_publishing_is_not_pushed(push, release, state):
    (release / "README.md").write_text("mine")
    with hub(state) as endpoint:
        error, _ = push(release, endpoint)
    assert error["kind"] == "DataError" and state.asked == []
