"""Every family is computed as plain transformers does it, one document at a time: same loss, same gradients, no leaks."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch.nn.functional import cross_entropy

from configs.errors import RecipeError
from tests.families import FAMILIES, REFUSED, tiny
from training.attention import register
from training.batches import Batch
from training.families import prove
from training.merge import log_probabilities
from training.model import PackedModel

LENGTHS = (5, 21, 3, 12)  # two of them longer than the windows of 8


def batch_of(lengths=LENGTHS, seed=1):
    """Documents of random tokens; all but the first token of each are supervised, and the third document has two of three."""
    torch.manual_seed(seed)
    tokens = torch.randint(3, 320, (sum(lengths),))
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    positions = torch.cat([torch.arange(length) for length in lengths])
    target = torch.tensor([place for place in range(len(tokens)) if positions[place] > 0 and place != bounds[2] + 1])
    return Batch(tokens, positions, bounds.int(), target - 1, tokens[target], rows=(0,))


def plain_loss(causal, batch):
    """What transformers says of each document alone, summed: its own attention, its own logits."""
    total = 0.0
    wanted = torch.zeros(len(batch.tokens_T), dtype=torch.bool)
    wanted[batch.scored_S + 1] = True
    for start, stop in zip(batch.bounds[:-1].tolist(), batch.bounds[1:].tolist(), strict=True):
        logits = causal(batch.tokens_T[None, start:stop], use_cache=False).logits[0].float()
        scored = wanted[start + 1 : stop]
        total = total + cross_entropy(logits[:-1][scored], batch.tokens_T[start + 1 : stop][scored], reduction="sum")
    return total


@pytest.mark.parametrize("family", ["llama", "gemma2", "cohere", "granite", "gptj", "phi"])
def test_merged_weights_are_compared_by_the_familys_own_distribution_cap_factor_and_bias_included(family):
    ours, plain = (tiny(*FAMILIES[family], name).eval() for name in (register(), "eager"))
    batch = batch_of()
    with torch.no_grad():
        logits = [plain(ids[None], use_cache=False).logits[0] for ids in batch.tokens_T.split(LENGTHS)]
    expected = torch.log_softmax(torch.cat(logits).float(), -1)[batch.scored_S]
    torch.testing.assert_close(log_probabilities(ours, batch), expected, rtol=1e-4, atol=1e-4)


def adapted(causal, seed=2):
    """LoRA by PEFT on all linear layers, with factors that are not zero; the rest is frozen."""
    torch.manual_seed(seed)
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM"), causal)
    for name, parameter in causal.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return causal


def both(family, method):
    """Two copies of a model with the same weights: one that packs, one that is transformers' own."""
    model_type, settings = FAMILIES[family]
    pair = [tiny(model_type, settings, name).eval() for name in (register(), "eager")]
    ours, plain = [adapted(causal) if method == "lora" else causal for causal in pair]
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    return PackedModel(ours, torch.float32), plain


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_loss_and_gradients_are_those_of_transformers_to_1e_5(family, method):
    packed, plain = both(family, method)
    batch = batch_of()
    ours, theirs = packed(batch), plain_loss(plain, batch)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    ours.backward(), theirs.backward()
    wanted = {name: parameter.grad for name, parameter in plain.named_parameters()}
    trained = packed.trainable()
    assert len(trained) >= (4 if method == "lora" else 8)
    # A bias on keys has no gradient but rounding, so that an error is measured against the largest gradient too.
    least = 1e-3 * max(float(grad.norm()) for grad in wanted.values() if grad is not None)
    for name, parameter in trained.items():
        if wanted[name] is None:
            assert parameter.grad is None or not parameter.grad.any(), name
        else:
            error = (parameter.grad - wanted[name]).norm() / wanted[name].norm().clamp(min=least)
            assert error < 1e-5, (name, float(error))


@pytest.mark.parametrize("family", FAMILIES)
def test_another_first_document_changes_nothing_in_the_second(family):
    model_type, settings = FAMILIES[family]
    packed = PackedModel(tiny(model_type, settings, register()).eval(), torch.float32)
    batch = batch_of((13, 17))
    second = batch.scored_S >= 13
    only = replace(batch, scored_S=batch.scored_S[second], target_S=batch.target_S[second])
    other = only.tokens_T.clone()
    other[:13] = other[:13].flip(0)
    with torch.inference_mode():
        before, after = float(packed(only)), float(packed(replace(only, tokens_T=other)))
        assert before == pytest.approx(after, rel=1e-6)
        moved = replace(only, tokens_T=only.tokens_T.index_fill(0, torch.tensor([14]), 7))
        assert float(packed(moved)) != pytest.approx(before, rel=1e-6)  # its own tokens do matter


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_proof_before_the_first_step_accepts_every_family_that_is_computed_rightly(family, precision):
    packed = PackedModel(tiny(*FAMILIES[family], register()).to(precision), precision).train()
    prove(packed)
    assert packed.training
    assert packed.causal.config._attn_implementation == register()


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_that_packing_would_compute_wrongly_is_refused_with_the_reason(family):
    model_type, settings, reason = REFUSED[family]
    with pytest.raises(RecipeError, match=reason):
        prove(PackedModel(tiny(model_type, settings, register()), torch.float32))


def test_a_factor_on_the_logits_that_is_left_out_is_noticed_before_the_first_step():
    packed = PackedModel(tiny(*FAMILIES["granite"], register()), torch.float32)
    packed.scale = 1.0
    with pytest.raises(RecipeError, match="the loss is"):
        prove(packed)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_bounds_that_are_off_by_one_are_noticed_before_the_first_step(monkeypatch, precision):
    packed = PackedModel(tiny(*FAMILIES["llama"], register()).to(precision), precision)
    right = packed.causal.base_model.forward

    def shifted(*, cu_seq_lens_q=None, **others):
        bounds = None if cu_seq_lens_q is None else cu_seq_lens_q + torch.tensor([0, 1, 0])
        return right(cu_seq_lens_q=bounds, **others)

    shifted.__signature__ = inspect.signature(right)
    monkeypatch.setattr(packed.causal.base_model, "forward", shifted)
    with pytest.raises(RecipeError, match="hidden states differ"):
        prove(packed)
