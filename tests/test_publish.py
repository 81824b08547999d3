"""A release loads alone, its merged weights are the evaluated model, its card is valid, and a failed gate refuses it."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from configs.base import load_tokenizer, load_weights
from configs.errors import DataError, GateError, PolicyError, RecipeError
from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.records import Comparison, Corpus, Release, Run
from configs.store import RunFolder
from configs.taint import mark_tainted
from training.attention import register
from training.batches import Rows
from training.merge import _save_as, held_out, log_probabilities
from training.publish import check_gates, publish


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
    assert made.base == str(tiny_base) and str(tiny_base) not in (job.folder.release / "run.json").read_text("utf-8")
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


def test_generation_stops_at_the_end_mark_and_at_the_end_of_a_turn(job, tiny_base):
    stops = json.loads((job.folder.release / "generation_config.json").read_text("utf-8"))["eos_token_id"]
    assert load_tokenizer(tiny_base).convert_ids_to_tokens(stops) == ["<|endoftext|>", "<|im_end|>"]


def test_no_gain_refuses_the_release_and_names_the_gate(job):
    comparison = Comparison.read(job.folder.report / "comparison.json")
    worse = comparison.model_copy(
        update={"differences": tuple(row.model_copy(update={"low": -0.1}) for row in comparison.differences)}
    )
    with pytest.raises(GateError, match="significant_gain: no sector task") as refused:
        check_gates(with_gates(job, significant_gain=True), worse)
    assert refused.value.code == 10


def test_a_rise_of_20_percent_in_general_bits_per_byte_breaks_a_gate_of_5_percent(job):
    comparison = Comparison.read(job.folder.report / "comparison.json")
    [row] = comparison.general
    risen = comparison.model_copy(update={"general": (row.model_copy(update={"base": 2.0, "difference": 0.4}),)})
    with pytest.raises(GateError, match=r"rose by \+20.0 % \(allowed 5.0 %\)"):
        check_gates(with_gates(job, max_general_loss=0.05), risen)
    assert check_gates(with_gates(job, max_general_loss=0.25), risen)["max_general_loss"].startswith(
        "general_text rose"
    )


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


def test_a_damaged_release_is_made_again(job, capsys):
    digest = Release.read(job.folder.release / "release.json").files["README.md"]
    (job.folder.release / "README.md").write_text("mine")
    assert publish(job).files["README.md"] == digest
    assert "README.md: bytes differ" in capsys.readouterr().err


def test_a_push_without_a_repository_is_a_mistake_of_the_recipe(job):
    with pytest.raises(RecipeError, match="no repository to push to"):
        publish(job, push=True)


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
