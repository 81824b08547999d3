"""Quick low-rank layers are PEFT's: same loss, same gradients, same files; what is not plain LoRA stays PEFT's own."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

from tests.families import FAMILIES, tiny
from tests.test_families import batch_of
from training.attention import register
from training.lora import quicken
from training.model import PackedModel


def made(family="llama", **settings):
    """PEFT's model with factors that are not zero, everything else frozen."""
    causal = tiny(*FAMILIES[family], register())
    given = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | settings
    wrapped = get_peft_model(causal, LoraConfig(**given))
    torch.manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return wrapped


def stepped(wrapped, quick, precision=torch.float32):
    """Loss and gradients of one batch; a packed model has quick layers from its start, which are taken away again."""
    packed = PackedModel(wrapped.get_base_model(), precision).train()
    taken = [part.__dict__.pop("forward", None) is not None for part in packed.modules() if not quick]
    assert quick or any(taken)
    loss = packed(batch_of())
    loss.backward()
    return float(loss.detach()), {name: part.grad for name, part in packed.trainable().items()}


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {}),
        ("llama-biased", {}),
        ("llama", {"use_rslora": True}),
        ("phi3", {}),
        ("qwen3", {}),
        ("gpt-neox", {}),
    ],
)
def test_loss_and_gradients_are_those_of_peft_to_1e_6(family, settings):
    assert (
        quicken(made(family, **settings))
        == {"llama": 14, "llama-biased": 14, "phi3": 8, "qwen3": 14, "gpt-neox": 8}[family]
    )
    (loss, grads), (ours, mine) = (stepped(made(family, **settings), quick) for quick in (False, True))
    assert ours == pytest.approx(loss, rel=1e-6)
    assert mine.keys() == grads.keys()
    assert max(relative(mine[name], grads[name]) for name in grads) < 1e-6


def test_in_bfloat16_both_ways_are_equally_near_to_float32():
    """Rounding differs, so that neither can be asked to equal the other: the quick way may not be the rougher one."""
    expected = stepped(made(), quick=False)[1]
    errors = []
    for quick in (False, True):
        wrapped = made()
        for parameter in wrapped.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.bfloat16()
        found = stepped(wrapped, quick, torch.bfloat16)[1]
        errors.append(sum(relative(found[name], expected[name]) for name in expected) / len(expected))
    assert errors[1] < 1.1 * errors[0]
    assert errors[1] < 0.1


@pytest.mark.parametrize(
    ("settings", "family"),
    [({"use_dora": True}, "llama"), ({"lora_dropout": 0.1}, "llama"), ({"lora_bias": True}, "llama"), ({}, "gpt2")],
)
def test_what_is_not_plain_lora_on_a_linear_layer_keeps_the_forward_of_peft(settings, family):
    assert quicken(made(family, **settings)) == 0


def test_switching_off_merging_and_saving_are_untouched():
    wrapped, quick = made(), made()
    quicken(quick)
    ids = torch.arange(3, 12)[None]
    with torch.no_grad(), wrapped.disable_adapter(), quick.disable_adapter():
        plain = {"cu_seq_lens_q": torch.tensor([0, 9], dtype=torch.int32)}
        assert torch.equal(wrapped(ids, **plain).logits, quick(ids, **plain).logits)
    ours, theirs = get_peft_model_state_dict(quick), get_peft_model_state_dict(wrapped)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with torch.no_grad():
        before = quick(ids, **plain).logits
        merged = quick.merge_and_unload()(ids, **plain).logits
    torch.testing.assert_close(merged, before, rtol=1e-4, atol=1e-4)


def test_x_and_the_narrow_product_are_all_that_is_kept_for_the_backward_pass():
    wrapped, quick = made(), made()
    quicken(quick)
    kept = []
    for model in (wrapped, quick):
        layer = model.get_base_model().model.layers[0].mlp.up_proj
        inner = {part.data_ptr() for part in layer.parameters()}
        seen = {}

        def keep(part, seen=seen, inner=inner):
            if part.data_ptr() not in inner:
                seen[part.data_ptr()] = part.numel()
            return part

        x = torch.randn(1, 50, 32, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda part: part):
            layer(x)
        kept.append(sum(seen.values()))
    assert kept[1] == 50 * 32 + 50 * 4
    assert kept[0] >= kept[1]
