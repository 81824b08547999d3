"""The base model is opened safely: safetensors only, whole, and without code of its own."""

from __future__ import annotations

import json
import shutil

import pytest

from configs.base import base_digest, base_folder, public_name
from configs.errors import DataError, UnsafeArtefactError


@pytest.fixture
def copy(tiny_base, tmp_path):
    """The tiny base, in a folder that a test may damage."""
    return shutil.copytree(tiny_base, tmp_path / "base")


def test_a_whole_base_is_found_below_a_root_and_by_its_own_path(copy):
    assert base_folder("base", (copy.parent,)) == copy
    assert base_folder(str(copy), ()) == copy


def test_weights_cut_off_after_100_bytes_are_refused_by_name(copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(DataError, match="not a safetensors file, or cut off") as refused:
        base_folder(str(copy), ())
    assert refused.value.where == str(weights)


def test_pickled_weights_are_never_opened(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(UnsafeArtefactError, match="pickled") as refused:
        base_folder(str(copy), ())
    assert refused.value.code == 6


def test_a_model_that_wants_to_run_its_own_code_is_refused(copy):
    config = json.loads((copy / "config.json").read_text("utf-8"))
    (copy / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "mine.Model"}}), "utf-8")
    with pytest.raises(UnsafeArtefactError, match="its own code"):
        base_folder(str(copy), ())


def test_one_changed_byte_of_the_weights_changes_the_fingerprint(copy):
    before = base_digest(copy)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert base_digest(copy) != before


def test_only_the_last_part_of_an_absolute_path_leaves_this_machine():
    assert public_name("/models/mine/tiny") == "tiny"
    assert public_name("org/name@abc") == "org/name@abc"
