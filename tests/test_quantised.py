"""QLoRA: a base in four bits trains to the gradients of its own dequantised weights, resumes, and gives a plain adapter."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from configs.base import load_weights
from configs.errors import RecipeError, StorageError
from configs.records import Corpus
from configs.store import HOUSE
from eval.weights import load_scorer
from tests.test_train import make_job, weights_of
from training.adapters import with_adapters
from training.attention import register
from training.batches import Rows
from training.model import PackedModel, build
from training.train import train

if TYPE_CHECKING:
    from pathlib import Path

    from configs.job import Job

there = importlib.util.find_spec("bitsandbytes") is not None
needs_bitsandbytes = pytest.mark.skipif(not there, reason="bitsandbytes (extra `quantised`) is not installed")


def rows_of(job: Job) -> Rows:
    return Rows(job.folder.corpus, Corpus.read(job.folder.corpus / "corpus.json"))


@pytest.mark.skipif(there, reason="bitsandbytes is installed")
def test_without_bitsandbytes_the_message_says_what_to_install(tmp_path, tiny_base):
    with pytest.raises(StorageError, match="bitsandbytes cannot be used") as refused:
        train(make_job(tmp_path, tiny_base, quantise="nf4"))
    assert "quantised" in refused.value.hint


def test_four_bits_and_parted_weights_are_refused_together(tmp_path, tiny_base):
    with pytest.raises(ValueError, match="four bits are not parted"):
        make_job(tmp_path, tiny_base, quantise="nf4", parallel="fsdp")


def dequantised(packed: PackedModel, job: Job, base: Path) -> PackedModel:
    """A plain model with the very weights that the four bits stand for, and the same factors."""
    from bitsandbytes.functional import dequantize_4bit

    causal = load_weights(base, dtype=torch.float32, attention=register())
    with_adapters(causal, job.recipe.train, "t", None)
    plain, quantised = dict(causal.named_parameters()), dict(packed.causal.named_parameters())
    with torch.no_grad():
        for name, value in quantised.items():
            state = getattr(value, "quant_state", None)
            plain[name].copy_(value if state is None else dequantize_4bit(value.data, state))
    return PackedModel(causal, torch.float32)


@needs_bitsandbytes
def test_loss_and_gradients_are_those_of_the_dequantised_weights_also_after_a_look_at_held_out_rows(
    tmp_path, tiny_base
):
    """bitsandbytes 0.50 would pack the layers anew in evaluation, and lose their gradients to the layers below."""
    job = make_job(tmp_path, tiny_base, quantise="nf4", rank=4)
    batch = rows_of(job).batch([0, 3, 7])
    packed, _ = build(job, torch.device("cpu"))
    torch.manual_seed(2)
    with torch.no_grad():
        for value in packed.trainable().values():
            value.add_(0.1 * torch.randn_like(value))
    plain = dequantised(packed, job, tiny_base)
    packed.eval()
    with torch.no_grad():
        looked = float(packed(batch))
    found = {}
    for name, model in (("packed", packed.train()), ("plain", plain.train())):
        loss = model(batch)
        (loss / 50).backward()
        found[name] = loss.item()
    assert found["packed"] == pytest.approx(found["plain"], rel=1e-5)
    assert looked == pytest.approx(found["plain"], rel=1e-5)
    ours, theirs = packed.trainable(), plain.trainable()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value.grad.abs().max() > 0
        torch.testing.assert_close(value.grad, theirs[name].grad, rtol=1e-4, atol=1e-6)


@needs_bitsandbytes
def test_training_in_four_bits_learns_nearly_what_it_learns_in_full_and_counts_the_same_parameters(tmp_path, tiny_base):
    full = train(make_job(tmp_path / "full", tiny_base))
    four = train(make_job(tmp_path / "four", tiny_base, quantise="nf4"))
    assert four.loss_last < four.loss_first - 0.1
    assert four.loss_last == pytest.approx(full.loss_last, rel=0.02)
    assert (four.total_parameters, four.trainable_parameters) == (full.total_parameters, full.trainable_parameters)


@needs_bitsandbytes
def test_a_run_killed_in_four_bits_ends_like_an_unbroken_one_and_its_adapter_is_a_plain_one(tmp_path, tiny_base):
    whole = make_job(tmp_path / "whole", tiny_base, quantise="nf4", new_tokens=["sukuk"], rank=4)
    broken = make_job(tmp_path / "broken", tiny_base, quantise="nf4", new_tokens=["sukuk"], rank=4)
    train(whole)
    code = (
        "import sys, pathlib; from tests.test_train import make_job; from training.train import train\n"
        f"train(make_job(pathlib.Path({str(tmp_path / 'broken')!r}), pathlib.Path({str(tiny_base)!r}), "
        "quantise='nf4', new_tokens=['sukuk'], rank=4))"
    )
    environment = os.environ | {"SECTORLM_CRASH_AT": "train.step:8"}
    path = os.pathsep.join([str(HOUSE), os.environ.get("PYTHONPATH", "")])
    died = subprocess.run(
        [sys.executable, "-c", code],
        cwd=HOUSE,
        env=environment | {"PYTHONPATH": path},
        capture_output=True,
        check=False,
    )
    assert died.returncode == 137, died.stderr
    assert train(broken).segments == 2
    ours, theirs = weights_of(broken), weights_of(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    config = json.loads((whole.folder.run / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 4 and "quantization" not in json.dumps(config)


@needs_bitsandbytes
def test_evaluation_puts_the_adapter_on_the_base_as_it_is_published(tmp_path, tiny_base):
    job = make_job(tmp_path, tiny_base, quantise="nf4")
    train(job)
    scorer = load_scorer(tiny_base, job.folder.run / "adapter")
    assert {value.dtype for value in scorer.model.parameters()} == {torch.float32}
    plain = PeftModel.from_pretrained(load_weights(tiny_base, dtype=torch.float32), job.folder.run / "adapter").eval()
    ids = torch.arange(30)[None]
    with torch.no_grad():
        assert torch.equal(plain(ids).logits, scorer.model(ids).logits)
    assert load_file(job.folder.run / "adapter" / "adapter_model.safetensors").keys() == weights_of(job).keys()


@needs_bitsandbytes
def test_factors_that_take_a_part_of_the_base_need_its_full_weights(tmp_path, tiny_base):
    with pytest.raises(RecipeError, match="do not fit the base"):
        train(make_job(tmp_path, tiny_base, quantise="nf4", init="pissa"))
