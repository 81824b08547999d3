"""A release loads alone, its merged weights are the evaluated model, its card is valid, and a failed gate refuses it."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from configs.base import load_tokenizer, load_weights
from configs.errors import DataError, GateError, PolicyError, RecipeError, StorageError, UnsafeArtefactError
from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.records import Corpus, Release, Run
from configs.releasing import Wishes
from configs.store import HOUSE, RunFolder
from configs.taint import mark_tainted
from data_prep.privacy import find
from tests.recipes import sectorlm
from training.attention import register
from training.batches import Rows
from training.layout import add_tokenizer, check_vocabulary, serving, stop_tokens
from training.merge import _save_as, held_out, log_probabilities
from training.publish import publish


@pytest.fixture
def job(finished, tmp_path):
    """The finished story, in a folder of its own that a test may damage."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    recipe = load_recipe(finished / "story.yaml")
    return Job(recipe, roots_of(recipe, finished / "story.yaml"), RunFolder(tmp_path / "runs" / "story"))


def with_gates(job: Job, **gates) -> Job:
    recipe = job.recipe.model_copy(update={"gates": type(job.recipe.gates)(**gates)})
    return Job(recipe, job.roots, job.folder)


def test_merged_weights_give_the_logits_of_base_and_adapter(job, tiny_base):
    from peft import PeftModel

    rows = Rows(job.folder.corpus, Corpus.read(job.folder.corpus / "corpus.json"))
    batch = held_out(rows)
    base = load_weights(tiny_base, dtype=torch.float32, attention=register())
    plain = log_probabilities(base, batch)
    tuned = PeftModel.from_pretrained(base, job.folder.release)
    expected = log_probabilities(tuned.get_base_model(), batch)
    merged = log_probabilities(
        load_weights(job.folder.release / "merged", dtype=torch.float32, attention=register()), batch
    )
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-4)
    assert (plain - expected).abs().max() > 0.01  # the adapter does something


def test_the_release_has_the_record_of_its_run_without_paths_of_this_machine(job, tiny_base):
    release, run = (Release.read(job.folder.release / "release.json"), Run.read(job.folder.release / "run.json"))
    made = Run.read(job.folder.run / "run.json")
    assert (run.tokens, run.base_digest, run.base) == (made.tokens, made.base_digest, "tiny-base0")
    assert made.base == str(tiny_base) and made.content() == run.content()
    for path in job.folder.release.rglob("*"):
        assert not path.is_file() or str(tiny_base.parent).encode() not in path.read_bytes(), path
    assert release.inputs["run"] == made.content() and "run.json" in release.files


def test_the_release_states_that_it_loaded_in_a_fresh_process(job):
    release = Release.read(job.folder.release / "release.json")
    assert release.checks["fresh process"].startswith("adapter on its base and merged weights loaded and generated")
    assert "KL" in release.checks["merged against base + adapter"]


def test_the_card_has_metadata_that_the_hub_reads_and_names_no_folder_of_this_machine(job, finished):
    text = (job.folder.release / "README.md").read_text("utf-8")
    data = ModelCard(text).data
    assert data.library_name == "peft"
    assert data.license == "apache-2.0"
    assert sorted(data.language) == ["en", "zh"]
    assert {result.dataset_name for result in data.eval_results} == {"finance_topics", "general_text"}
    assert "Not investment" in text
    assert "60" in text
    assert str(finished) not in text


def test_the_card_tells_terms_personal_data_duplicates_and_leaks(job):
    """The story's sources are both under CC0-1.0; its tasks are `finance_topics` with 200 items, `general_text` with 48."""
    card = re.sub(r"\s+", " ", (job.folder.release / "README.md").read_text("utf-8"))
    assert "Strictest licence: public-domain. Highest grade: general (GB/T 43697-2024)." in card
    assert "overlap by 0.8 or more (Jaccard)" in card
    assert "finance_topics 0 of 200; general_text 0 of 48." in card
    assert "- **replay.** Languages: en 45, zh-Hans 27. Personal data: none found." in card


def test_the_checks_of_a_release_say_what_was_found(job):
    """The tiny model learnt 37 steps: it does not end its answers yet, and the record says so."""
    checks = Release.read(job.folder.release / "release.json").checks
    assert checks["vocabulary"] == "320 rows for 320 tokens, embedding and head are one"
    assert checks["chat template"].endswith("as in training; training did not use it (prepare.form: plain)")
    assert re.fullmatch(
        r"\d of 8 answers to questions of the corpus ended by themselves within 32 tokens", checks["stop token"]
    )
    assert checks["vLLM"].endswith("--enable-lora --max-lora-rank 16 --lora-modules story=RELEASE")
    assert "of which storage costs" in checks["merged against base + adapter"]


def test_sha256sum_finds_every_file_of_the_release_as_it_is_listed(job):
    done = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=job.folder.release, capture_output=True, text=True, check=True
    )
    listed = {line.partition(":")[0] for line in done.stdout.splitlines()}
    there = {
        path.relative_to(job.folder.release).as_posix() for path in job.folder.release.rglob("*") if path.is_file()
    }
    assert there - listed == {"SHA256SUMS", "release.json"}


def test_terms_name_the_licence_of_everything_and_where_its_text_stands(job):
    table = (job.folder.release / "LICENCES.md").read_text("utf-8")
    assert (
        "| this release | apache-2.0 | LICENSE |" in table
        and "| the base, tiny-base0 | not known | ask its holder |" in table
    )
    assert "| source topics | CC0-1.0 | https://spdx.org/licenses/CC0-1.0.html |" in table
    assert (job.folder.release / "LICENSE").read_bytes() == (HOUSE / "LICENSE").read_bytes()
    assert "- Dropped: 900 over max_documents\n- Documents kept: 60" in (job.folder.release / "DATA.md").read_text(
        "utf-8"
    )


@pytest.mark.parametrize("name", ["adapter/pytorch_model.bin", "training_args.pt", "adapter/modeling.py"])
def test_what_could_run_code_in_a_run_stops_the_release(job, name):
    (job.folder.run / name).write_bytes(b"x")
    (job.folder.release / "release.json").unlink()
    with pytest.raises(UnsafeArtefactError, match=f"{name} could run code") as refused:
        publish(job)
    assert refused.value.code == 6 and not (job.folder.release / "release.json").exists()


def test_what_vllm_refuses_is_said_with_what_to_do_instead(job, tmp_path):
    run = Run.read(job.folder.run / "run.json")
    config = json.loads((job.folder.release / "adapter_config.json").read_text("utf-8"))
    odd = config | {"use_dora": True, "r": 600, "trainable_token_indices": {"embed_tokens": [320]}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(odd))
    refused = "it is a DoRA adapter and it has rows of new tokens and its rank is 600"
    assert (
        serving(tmp_path, job, run)
        == f"vLLM does not take this adapter, since {refused}; instead: set publish.merged: true"
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"r": 17}))
    assert "--max-lora-rank 32 " in serving(tmp_path, job, run)


def test_a_vocabulary_that_outgrew_its_rows_and_a_second_head_are_found(job):
    place = job.folder.release / "merged"
    weights = load_file(place / "model.safetensors")
    save_file(weights | {"lm_head.weight": torch.zeros(320, 32)}, place / "model.safetensors")
    with pytest.raises(GateError, match="hold a head of their own"):
        check_vocabulary(place)
    save_file(weights | {"model.embed_tokens.weight": torch.zeros(319, 32)}, place / "model.safetensors")
    with pytest.raises(GateError, match=r"model\.embed_tokens\.weight has 319 rows for 320 tokens"):
        check_vocabulary(place)


def test_the_mark_with_which_a_template_of_another_kind_ends_an_answer_is_a_stop_token(tiny_base):
    tokenizer = load_tokenizer(tiny_base)
    tokenizer.add_tokens(["<|turn|>"], special_tokens=True)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}<|turn|>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    assert tokenizer.convert_ids_to_tokens(stop_tokens(tokenizer, "x")) == ["<|endoftext|>", "<|turn|>", "<|im_end|>"]


def test_answers_that_were_trained_to_end_elsewhere_than_generation_stops_refuse_the_release(job, monkeypatch):
    (job.folder.release / "release.json").unlink()
    monkeypatch.setattr("training.layout.stop_tokens", lambda *_: [2])  # not 0, the end mark of `prepare.form: plain`
    with pytest.raises(GateError, match=r"answers were trained to end in '<\|endoftext\|>'"):
        publish(job)


def test_a_release_whose_tokenizer_changed_on_the_way_is_refused(job, monkeypatch):
    def spoilt(job, places):
        told = add_tokenizer(job, places)
        (places[0] / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}<|im_end|>")
        return told

    (job.folder.release / "release.json").unlink()
    monkeypatch.setattr("training.publish.add_tokenizer", spoilt)
    with pytest.raises(GateError, match="chat template"):
        publish(job)


def test_generation_stops_at_the_end_mark_and_at_the_end_of_a_turn(job, tiny_base):
    stops = json.loads((job.folder.release / "generation_config.json").read_text("utf-8"))["eos_token_id"]
    assert load_tokenizer(tiny_base).convert_ids_to_tokens(stops) == ["<|endoftext|>", "<|im_end|>"]


def test_a_refused_release_leaves_nothing_behind_and_an_accepted_gate_stands_on_the_card(job):
    """The story gains nothing on 24 items: refused, then released with the reason, then kept without saying it again."""
    asked = with_gates(job, significant_gain=True, max_general_loss=0.05)
    (job.folder.release / "release.json").unlink()
    before = {path.name for path in job.folder.root.iterdir()}
    with pytest.raises(GateError, match="significant_gain: no sector task is better") as refused:
        publish(asked)
    assert refused.value.code == 10 and "max_general_loss" not in refused.value.message
    assert {path.name for path in job.folder.root.iterdir()} == before
    release = publish(asked, Wishes(accept=["significant_gain=a smoke test"]))
    assert release.accepted["significant_gain"].reason == "a smoke test"
    assert release.gates["max_general_loss"].startswith("general_text rose by -")
    card = (job.folder.release / "README.md").read_text("utf-8")
    assert "- **significant_gain was not met:** no sector task is better" in card and "Accepted: a smoke test" in card
    assert publish(asked).made == release.made


def test_a_run_that_learnt_what_must_be_forgotten_is_never_released(job):
    """Neither made nor kept: the release of before stays as it was, and nothing lies beside it."""
    before = {path: path.stat().st_mtime_ns for path in job.folder.root.rglob("*")}
    mark_tainted({job.folder.run: ("a" * 16, "b" * 16)}, ["text:Jane Doe"])
    with pytest.raises(PolicyError) as refused:
        publish(job)
    assert refused.value.code == 4
    assert "learnt from 2 documents that must be forgotten (text:Jane Doe)\n  Train again" in str(refused.value)
    after = {path: path.stat().st_mtime_ns for path in job.folder.root.rglob("*")}
    assert after.keys() - before.keys() == {job.folder.run / "tainted.json"}
    assert all(after[path] == time for path, time in before.items() if path != job.folder.run)


def test_a_full_disk_leaves_the_release_of_before_and_nothing_beside_it(job, monkeypatch):
    def full(operation, path):
        if operation == "write" and ".release.staging" in str(path) and path.name == "DATA.md":
            raise OSError(errno.ENOSPC, "No space left on device")

    (job.folder.release / "LICENCES.md").unlink()  # so that it is made again
    before = {path.name for path in job.folder.release.iterdir()}
    monkeypatch.setattr("configs.store._fault", full)
    with pytest.raises(StorageError, match=r"the disk is full while writing DATA\.md") as refused:
        publish(job)
    assert refused.value.code == 5 and {path.name for path in job.folder.release.iterdir()} == before
    assert not list(job.folder.root.glob(".release.*"))


def test_the_front_door_refuses_with_exit_code_10_and_takes_a_reason(job, finished):
    words = ["publish", finished / "story.yaml", "--runs", job.folder.root.parent, "--set", "gates.grades=[important]"]
    refused = sectorlm(*words)
    assert (
        refused.code == 10
        and "grades: topics is graded general, replay is graded general (allowed: important)" in refused.err
    )
    unknown = sectorlm(*words, "--accept", "grade=known")
    assert unknown.code == 2 and "Did you mean grades?" in unknown.err


def test_a_damaged_release_is_made_again(job, capsys):
    digest = Release.read(job.folder.release / "release.json").files["README.md"]
    (job.folder.release / "README.md").write_text("mine")
    assert publish(job, Wishes(spot=find)).files["README.md"] == digest
    assert "README.md: bytes differ" in capsys.readouterr().err


def test_a_push_without_a_repository_is_a_mistake_of_the_recipe(job):
    with pytest.raises(RecipeError, match="no repository to push to"):
        publish(job, Wishes(push=True))


def test_weights_stored_in_bfloat16_keep_tied_weights_as_one(tmp_path, tiny_base):
    """320 x 32 embeddings serve as the head too: the file has no lm_head.weight."""
    model = load_weights(tiny_base, dtype=torch.float32)
    _save_as(model, torch.bfloat16, tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in saved
    assert {value.dtype for value in saved.values()} == {torch.bfloat16}
    assert load_weights(tmp_path, dtype=torch.float32).config.tie_word_embeddings


def test_a_flipped_byte_in_the_adapter_is_never_published(job):
    path = job.folder.run / "adapter" / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (job.folder.release / "release.json").unlink()
    with pytest.raises(DataError, match="bytes differ"):
        publish(job)
