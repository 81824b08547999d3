"""`train.start`: an adapter is read from where it may be, is what its record says, and is what the recipe asks for."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from configs.errors import DataError, PolicyError, RecipeError, UnsafeArtefactError
from configs.job import Job
from configs.store import RunFolder
from configs.taint import mark_tainted
from tests.training_jobs import make_job
from training.adapters import _refuse_other_shape, adapter_config, start_digest, start_folder
from training.train import train


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_base) -> Path:
    """The run/ folder of one step."""
    job = make_job(tmp_path_factory.mktemp("first"), tiny_base, max_steps=1)
    train(job)
    return job.folder.run


@pytest.fixture
def earlier(finished, tmp_path) -> Path:
    """A copy of it among the runs of the job that starts from it."""
    return Path(shutil.copytree(finished, tmp_path / "work" / "runs" / "earlier" / "run"))


@pytest.fixture
def starting(tmp_path, tiny_base):
    """A job in tmp_path/work that starts from a folder."""
    return lambda start, **more: make_job(tmp_path / "work", tiny_base, start=str(start), max_steps=1, **more)


def test_a_run_starts_from_the_run_its_adapter_or_a_path_below_a_root(earlier, starting, finished):
    for start in ("runs/earlier", "runs/earlier/run", "runs/earlier/run/adapter", earlier, earlier / "adapter"):
        assert start_folder(starting(start)) == (earlier / "adapter").resolve()
    run = train(starting("runs/earlier/run"))
    assert run.inputs["adapter to start from"] == start_digest(finished / "adapter")


def test_one_flipped_byte_of_the_weights_or_their_settings_is_found_by_the_record(earlier, starting):
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        path = earlier / "adapter" / name
        before = path.read_bytes()
        path.write_bytes(before[:-2] + bytes([before[-2] ^ 1]) + before[-1:])
        with pytest.raises(DataError, match="bytes differ from the sha256 in the record") as refused:
            start_folder(starting("runs/earlier/run"))
        assert name in refused.value.where
        path.write_bytes(before)
    assert start_folder(starting("runs/earlier/run")) is not None


def test_without_a_record_it_is_said_that_nothing_vouches_for_the_bytes(earlier, starting, capsys):
    (earlier / "run.json").unlink()
    found = start_folder(starting("runs/earlier/run"))
    start_digest(found)
    assert capsys.readouterr().err.count("no run.json lies beside") == 1


def test_a_release_is_started_from_and_verified_by_the_record_it_holds(earlier, starting, tmp_path):
    release = tmp_path / "work" / "release"
    shutil.copytree(earlier / "adapter", release)
    shutil.copy(earlier / "run.json", release)
    assert start_folder(starting("release")) == release.resolve()
    (release / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(DataError, match="bytes differ"):
        start_folder(starting("release"))


def test_another_base_is_refused_and_new_tokens_are_named_where_only_one_of_the_runs_has_them(earlier, starting):
    with pytest.raises(DataError, match="not on this base") as refused:
        start_folder(starting("runs/earlier", new_tokens=["sukuk", "zakat"]))
    told = "train.new_tokens (the adapter to start from: none; this recipe: sukuk, zakat)"
    assert told in refused.value.hint
    record = json.loads((earlier / "run.json").read_text())
    (earlier / "run.json").write_text(json.dumps(record | {"base_digest": "0" * 64}))
    with pytest.raises(DataError, match="not on this base") as refused:
        start_folder(starting("runs/earlier"))
    assert refused.value.hint == ""


def test_a_run_that_learnt_what_must_be_forgotten_is_refused_with_4(earlier, starting):
    mark_tainted({earlier: ["a" * 16]}, ["text:Jane Doe"])
    with pytest.raises(PolicyError, match="learnt from 1 document that must be forgotten") as refused:
        start_folder(starting("runs/earlier/run"))
    assert refused.value.code == 4


def test_paths_and_links_that_lead_out_of_the_roots_are_refused_with_6_and_the_remedy(earlier, starting, tmp_path):
    outside = Path(shutil.copytree(earlier, tmp_path / "outside"))
    (tmp_path / "work" / "link").symlink_to(outside)
    for start in (outside, "../outside", "link", os.path.relpath(outside)):
        with pytest.raises(UnsafeArtefactError, match="outside of the folders") as refused:
            start_folder(starting(start))
        assert "data: [FOLDER]" in refused.value.hint and refused.value.code == 6
    job = starting(outside)
    allowed = Job(job.recipe, (*job.roots, outside), job.folder)
    assert start_folder(allowed) == outside / "adapter"


def test_the_runs_folder_may_be_read_wherever_it_is_also_by_a_run_of_a_sweep(finished, starting, tmp_path):
    elsewhere = tmp_path / "disk" / "runs"
    shutil.copytree(finished, elsewhere / "earlier" / "run")
    job = starting(elsewhere / "earlier" / "run")
    with pytest.raises(UnsafeArtefactError):
        start_folder(job)
    assert start_folder(Job(job.recipe, job.roots, RunFolder(elsewhere / "t"))) is not None
    one = RunFolder(elsewhere / "t" / "sweep" / "rank=8")
    one.root.mkdir(parents=True)
    one.corpus.symlink_to(job.folder.corpus)
    assert start_folder(Job(job.recipe, job.roots, one)) is not None


def test_a_pickled_adapter_is_refused_with_6_and_never_opened(earlier, starting):
    (earlier / "adapter" / "adapter_model.safetensors").unlink()
    torch.save({}, earlier / "adapter" / "adapter_model.bin")
    for start in ("runs/earlier/run", "runs/earlier/run/adapter"):
        with pytest.raises(UnsafeArtefactError, match=r"pickled \(adapter_model\.bin\)") as refused:
            start_folder(starting(start))
        assert refused.value.code == 6
    with pytest.raises(DataError, match="no adapter_model"):
        start_folder(starting("nowhere"))


@pytest.mark.parametrize(
    ("theirs", "ours", "told"),
    [
        ({"dropout": 0.1}, {}, "--set train.dropout=0.1"),
        ({}, {"dropout": 0.1}, "--set train.dropout=0.0"),
        ({"rslora": True}, {}, "--set train.rslora=true"),
        ({"rank": 8, "alpha": 4}, {}, "--set train.rank=8 --set train.alpha=4"),
        ({"targets": ["q_proj"]}, {"targets": ["v_proj", "q_proj"]}, """--set 'train.targets=["q_proj"]'"""),
        ({"dora": True}, {}, "is a DoRA one"),
    ],
)
def test_an_adapter_of_another_kind_than_the_recipes_is_refused_with_what_to_set(starting, theirs, ours, told):
    found, asked = (starting("x").recipe.train.model_validate_json(json.dumps(it)) for it in (theirs, ours))
    with pytest.raises(RecipeError) as refused:
        _refuse_other_shape(adapter_config(found), asked, {})
    assert told in str(refused.value)


def test_targets_are_compared_only_where_the_recipe_names_them_and_in_any_order(starting):
    train = starting("x").recipe.train
    two = train.model_validate_json('{"targets": ["v_proj", "q_proj"]}')
    for found, asked in ((two, train.model_validate_json("{}")), (two, two)):
        _refuse_other_shape(adapter_config(found), asked, {})
