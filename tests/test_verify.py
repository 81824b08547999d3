"""A release is checked anywhere: its files, what does not belong to it, its records, its signature; and made again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from configs.errors import DataError, RecipeError, StorageError, UnsafeArtefactError
from configs.records import Corpus, Release, Run
from configs.store import digest_file, files_of
from tests.recipes import sectorlm
from training.reproduce import compared, reproduce
from training.verify import sources, verify


@pytest.fixture
def release(finished, tmp_path):
    """The release of the finished story, carried to a machine that has nothing else."""
    return shutil.copytree(finished / "runs" / "story" / "release", tmp_path / "elsewhere" / "story")


def vouched(release, **fields):
    """Make release.json vouch for what is in the folder now, as somebody would who changed it on purpose."""
    record = Release.read(release / "release.json")
    files = {name: digest for name, digest in files_of(release).items() if name not in ("release.json", "model.sig")}
    sums = "".join(f"{digest}  {name}\n" for name, digest in files.items() if name != "SHA256SUMS")
    (release / "SHA256SUMS").write_text(sums)
    files["SHA256SUMS"] = digest_file(release / "SHA256SUMS")
    record.model_copy(update={"files": files, **fields}).write(release / "release.json")


def test_a_release_is_verified_without_the_run_folder_and_back_to_its_corpus(release):
    found = {check.what: check.found for check in verify(release)}
    assert found["files"] == f"all {len(Release.read(release / 'release.json').files)} are as release.json says"
    assert found["signature"].startswith("none")
    run = Run.read(release / "run.json")
    assert found["run was made from"] == f"corpus {run.inputs['corpus'][:12]}"
    assert "scorecard tuned" in found["comparison was made from"]
    assert found["weights"] == f"those of the run, and of the scores ({run.weights_digest[:12]})"
    assert found["source files"] == "2, each named with its sha256; on this machine: 2 matches"
    assert found["recipe"] == "story: 2 sources, base tiny-base0, seed 17"


def test_everything_that_is_wrong_with_the_files_is_told_at_once(release):
    weights = bytearray((release / "adapter_model.safetensors").read_bytes())
    weights[-1] ^= 1
    (release / "adapter_model.safetensors").write_bytes(weights)
    (release / "DATA.md").unlink()
    (release / "notes.txt").write_text("mine")
    (release / ".cache").mkdir()
    (release / ".cache" / "x").write_text("of the hub's client")
    with pytest.raises(DataError) as refused:
        verify(release)
    assert str(refused.value).splitlines()[1:4] == [
        "    DATA.md is missing",
        "    adapter_model.safetensors: bytes differ from the sha256 in release.json",
        "    notes.txt is not part of the release",
    ]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "merged/modeling_story.py"])
def test_what_could_run_code_and_was_put_beside_the_release_is_exit_6(release, name):
    (release / name).write_bytes(b"x")
    with pytest.raises(UnsafeArtefactError, match=f"{name} could run code") as refused:
        verify(release)
    assert refused.value.code == 6


def test_weights_and_records_of_another_run_are_found_although_every_hash_fits(release):
    """Whoever changes a file and its hashes still has to forge the records that name it."""
    shutil.copytree(release, other := release.with_name("other"))
    config = json.loads((release / "adapter_config.json").read_text("utf-8"))
    (release / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 64}))
    vouched(release)
    with pytest.raises(DataError, match=r"adapter_config\.json is not what the run made"):
        verify(release)
    run = Run.read(other / "run.json")
    run.model_copy(update={"loss_last": 0.1}).write(other / "run.json")
    vouched(other)
    with pytest.raises(DataError, match=r"the run that release was made from .* is not the one in this release"):
        verify(other)


def test_show_trace_follows_the_records_of_a_release_that_stands_alone(release):
    tree = sectorlm("show", release, "--trace").out
    assert "Corpus" in tree and "assets/samples/finance/topics_train.jsonl" in tree
    assert tree.count("Scorecard") == 2


def test_a_release_that_needs_what_is_not_here_is_not_reproduced_and_all_of_it_is_named(release, tmp_path):
    recipe = json.loads((release / "recipe.json").read_text("utf-8"))
    recipe["prepare"]["exclude"] = ["sha256:" + "0" * 64]
    (release / "recipe.json").write_text(json.dumps(recipe))
    corpus = json.loads((release / "records" / "corpus.json").read_text("utf-8"))
    corpus["inputs"]["corpus file mine.jsonl"] = "0" * 64
    (release / "records" / "corpus.json").write_text(json.dumps(corpus))
    assert sources(release, [tmp_path])["mine.jsonl"] == ("not here", "")
    with pytest.raises(DataError, match=r"recipe\.json: bytes differ"):
        reproduce(release, [], tmp_path / "again")
    made = Corpus.read(release / "records" / "corpus.json").content()
    run = Run.read(release / "run.json")
    run = run.model_copy(update={"inputs": run.inputs | {"corpus": made}})
    run.write(release / "run.json")
    for path in (release / "records" / "comparison.json", *(release / "records").glob("*/scorecard.json")):
        path.unlink()
    vouched(release, inputs={"corpus": made, "run": run.content()})
    with pytest.raises(DataError) as refused:
        reproduce(release, [], tmp_path / "again")
    told = str(refused.value)
    assert "mine.jsonl: not here" in told
    assert "prepare.exclude: 1 removal requests, of which a release tells hashes only" in told
    assert "base tiny-base0: no such base model" in told
    assert not (tmp_path / "again").exists()


def test_what_came_out_differently_is_told_field_by_field(finished, release):
    root = finished / "runs" / "story"
    same = compared(release, root)
    assert not same.differing and same.compared > 300 and same.as_json()["same"]
    run = Run.read(release / "run.json")
    other = run.model_copy(update={"weights_digest": "0" * 64, "steps": 99})
    other.write(release / "run.json")
    found = compared(release, root)
    assert [(it.record, it.field, it.released) for it in found.differing] == [
        ("run", "steps", 99),
        ("run", "weights_digest", "0" * 64),
    ]
    assert found.shown()[0].startswith(f"2 of {same.compared} fields differ")


@pytest.mark.slow
def test_a_release_is_made_again_to_the_last_bit_where_base_and_data_lie(release, tiny_base, tmp_path):
    found = reproduce(release, [tiny_base.parent], tmp_path / "again")
    assert found.differing == [] and found.packages == {}
    assert Run.read(found.folder / "run" / "run.json").weights_digest == Run.read(release / "run.json").weights_digest


# ---------------------------------------------------------------- signatures


@pytest.fixture
def keys(tmp_path):
    """A key of the curve P-256, its public half, and a stranger's."""
    pytest.importorskip("model_signing")
    for name in ("own", "stranger"):
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(tmp_path / f"{name}.key"))
        openssl("ec", "-in", str(tmp_path / f"{name}.key"), "-pubout", "-out", str(tmp_path / f"{name}.pub"))
    return tmp_path


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def test_a_signed_release_is_that_of_its_owner_and_a_changed_one_is_not_although_its_hashes_fit(release, keys):
    from training.signing import sign, signer

    sign(release, signer(keys / "own.key"))
    assert ("signature", "signed by the owner of own.pub") in verify(release, keys / "own.pub")
    with pytest.raises(UnsafeArtefactError, match="the signature does not hold") as refused:
        verify(release, keys / "stranger.pub")
    assert refused.value.code == 6
    (release / "DATA.md").write_text("other data")
    vouched(release)
    assert verify(release)[1].found.startswith("there is one, not checked")
    with pytest.raises(UnsafeArtefactError, match=r"Signature mismatch.*DATA\.md"):
        verify(release, keys / "own.pub")


def test_a_key_with_a_password_needs_it_from_the_environment(release, keys, monkeypatch):
    from training.signing import sign, signer

    openssl(
        "ec", "-in", str(keys / "own.key"), "-aes256", "-passout", "pass:open sesame", "-out", str(keys / "locked.key")
    )
    with pytest.raises(RecipeError, match="the private key cannot be used"):
        signer(keys / "locked.key")
    monkeypatch.setenv("SECTORLM_KEY_PASSWORD", "open sesame")
    sign(release, signer(keys / "locked.key"))
    assert verify(release, keys / "own.pub")[1].found == "signed by the owner of own.pub"
    assert b"open sesame" not in b"".join(path.read_bytes() for path in release.rglob("*") if path.is_file())


def test_a_release_without_a_signature_is_refused_where_a_key_is_given(release, keys):
    with pytest.raises(UnsafeArtefactError, match="the release is not signed"):
        verify(release, keys / "own.pub")


def test_without_the_library_it_is_said_how_to_get_it(release, tmp_path, monkeypatch):
    from training.signing import signer

    monkeypatch.setitem(sys.modules, "model_signing", None)
    monkeypatch.setitem(sys.modules, "model_signing.signing", None)
    (tmp_path / "a.key").write_text("x")
    with pytest.raises(StorageError, match=r"pip install -e '\.\[signing\]'"):
        signer(tmp_path / "a.key")
    with pytest.raises(RecipeError, match="no such key"):
        signer(tmp_path / "b.key")
