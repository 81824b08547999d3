"""Memory from the config alone against the tensors of a real step, and the arithmetic on top of it by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, GPT2Config, Qwen3Config, Qwen3MoeConfig

from configs.job import Job
from configs.recipe import Recipe
from configs.store import HOUSE, RunFolder
from tests.training_jobs import with_weights
from training.advice import Room, largest, remedies
from training.batches import Batch
from training.memory import FOUR_BIT, Living, Load, memory_of
from training.model import build
from training.shape import Shape

T = 256
SMALL = {"vocab_size": 512, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
FAMILIES = {
    "qwen3": Qwen3Config(
        **SMALL,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
    ),
    "gpt2": GPT2Config(**SMALL, n_embd=48, n_layer=3, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0),
}


def job_of(folder, **train):
    tree = {
        "name": "m",
        "sector": "finance",
        "base": str(folder),
        "corpora": [{"name": "a", "path": "a.txt", "licence": "CC0-1.0", "text": "{{text}}"}],
        "train": {"rank": 4, "precision": "float32"} | train,
        "evaluate": {"tasks": ["finance_topics"]},
    }
    return Job(Recipe.model_validate_json(json.dumps(tree)), (HOUSE,), RunFolder(folder / "runs"))


def one_document(tokens=T):
    place = torch.arange(tokens)
    bounds = torch.tensor([0, tokens], dtype=torch.int32)
    return Batch(place % 300, place, bounds, place[:-1], place[1:] % 300, rows=(0,))


def saved(config, tmp_path):
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def base(request, tmp_path, tiny_base):
    return tiny_base if request.param == "llama" else saved(FAMILIES[request.param], tmp_path)


def real_peak(job):
    """Bytes of tensors that a real micro-batch makes, at the most, beyond weights and gradients."""
    model, _ = build(job, torch.device("cpu"))
    model.train()
    (model(one_document()) / T).backward()  # gradients are there, as in the second micro-batch of a step
    with Living() as living:
        (model(one_document()) / T).backward()
    return living.peak


@pytest.mark.parametrize("base", ["llama", "qwen3", "gpt2"], indirect=True)
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_memory_foreseen_is_that_of_a_real_step_within_five_percent(base, method, precision):
    """No constant was fitted, to these shapes or to any."""
    job = job_of(base, method=method, precision=precision)
    load = Load(T, T - 1, getattr(torch, precision), device="cpu")
    foreseen = memory_of(Shape.of(job), load)
    assert foreseen.followed
    assert foreseen.activations + foreseen.loss + foreseen.workspace == pytest.approx(real_peak(job), rel=0.05)


def test_a_mixture_of_experts_is_followed_or_says_that_it_is_not(tmp_path):
    """Four experts of which a token meets two: half of their weights count in the FLOPs, all of them in the memory."""
    config = Qwen3MoeConfig(
        **SMALL,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
    )
    shape = Shape.of(job_of(saved(config, tmp_path), method="full"))
    experts = 2 * 4 * 3 * 32 * 48
    others = 2 * (4 * 32 * 32 + 4 * 32)  # attention and the router
    assert shape.flops(1, 0, 0) == 6 * (experts / 2 + others)
    assert memory_of(shape, Load(T, T, torch.float32)).activations > 0


def test_activations_grow_with_the_tokens_and_recomputing_keeps_one_hidden_state_a_layer(tiny_base):
    shape = Shape.of(job_of(tiny_base))
    one, two = (memory_of(shape, Load(tokens, tokens, torch.float32)) for tokens in (T, 2 * T))
    assert two.activations == pytest.approx(2 * one.activations, rel=0.01)
    again = memory_of(shape, Load(T, T, torch.float32, checkpointing=True))
    assert 2 * T * 32 * 4 <= again.activations < 0.2 * one.activations  # 2 layers, width 32, 4 bytes


def test_weights_gradients_and_moments_are_counted_by_hand(tiny_base):
    """float32: 4 bytes a weight; trained ones 4 more for the gradient and 8 for the moments; a quarter of each on four."""
    shape, load = Shape.of(job_of(tiny_base)), Load(T, T, torch.float32)
    memory = memory_of(shape, load)
    assert (memory.weights, memory.gradients, memory.optimizer) == (
        4 * (shape.total + shape.trainable),
        4 * shape.trainable,
        8 * shape.trainable,
    )
    spread = memory_of(shape, replace(load, processes=4, sharded=True))
    assert (spread.weights, spread.optimizer) == (memory.weights / 4, memory.optimizer / 4)
    assert memory_of(shape, replace(load, processes=4)).communication == memory.gradients


def test_four_bits_are_for_frozen_linear_layers_only(tiny_base):
    """Not for the embedding, 320 x 32, nor for the five norms of width 32."""
    shape = Shape.of(job_of(tiny_base))
    linear = shape.total - 320 * 32 - 5 * 32
    memory = memory_of(shape, Load(T, T, torch.bfloat16, four_bit=True))
    assert memory.weights == pytest.approx(4 * shape.trainable + 2 * (320 * 32 + 5 * 32) + FOUR_BIT * linear)


def test_flops_are_what_torch_counts_in_a_real_step(tiny_base):
    """torch counts no attention on a CPU, no gradient for the input of the first layer, and unasked no product in place."""
    job = job_of(tiny_base)
    model, _ = build(job, torch.device("cpu"))
    in_place = {torch.ops.aten.addmm_: lambda _, a, b, **more: 2 * a[0] * a[1] * b[1]}
    with FlopCounterMode(display=False, custom_mapping=in_place) as counted:
        (model(one_document()) / T).backward()
    assert Shape.of(job).flops(T, T - 1, 0) == pytest.approx(counted.get_total_flops(), rel=0.05)


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_are_rows_that_are_trained_and_a_longer_vocabulary(tmp_path, tiny_base, tied):
    """Two forms of `sukuk`, one of the Chinese word: 3 rows of width 32, twice where the head has rows of its own."""
    base = tiny_base if tied else with_weights(tiny_base, tmp_path / "untied", lambda _: None)
    plain, more = (Shape.of(job_of(base, **it)) for it in ({}, {"new_tokens": ["sukuk", "逆回购"]}))
    assert more.trainable - plain.trainable == 3 * 32 * (1 if tied else 2)
    assert more.total - plain.total == (more.vocabulary - 320) * 32 * (1 if tied else 2)
    assert (more.vocabulary, more.linear) == (323, plain.linear)
    assert more.flops(1, 1, 0) - plain.flops(1, 1, 0) == 4 * 3 * 32  # a longer head, nothing else
    job = job_of(base, new_tokens=["sukuk", "逆回购"])
    memory = memory_of(more, Load(T, T - 1, torch.float32, device="cpu"))
    assert memory.followed
    job = Job(job.recipe, job.roots, RunFolder(tmp_path / "runs"))
    assert memory.activations + memory.loss + memory.workspace == pytest.approx(real_peak(job), rel=0.05)


def test_what_does_not_fit_is_told_with_remedies_that_hold(tiny_base):
    shape, load = Shape.of(job_of(tiny_base)), Load(8 * T, 8 * T, torch.float32)
    whole = memory_of(shape, load).total
    room = Room(whole / 2, 0.0, 0.0)
    found = remedies(shape, load, room, T)
    tokens = largest(shape, load, room, T)
    assert tokens is not None and tokens % T == 0
    assert found[0].startswith(f"train.micro_batch_tokens: {tokens}:")
    assert memory_of(shape, replace(load, tokens=tokens, scored=tokens)).total <= room.bytes * 1.02
    assert any("checkpoint_activations: on" in line for line in found)
    assert remedies(shape, load, Room(1.0, 0.0, 0.0), T)[0].startswith("shorten")
