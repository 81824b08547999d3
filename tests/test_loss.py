"""The chunked cross-entropy is the plain one: same value, same gradients, capped and scaled logits included."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from configs.errors import RecipeError
from tests.families import FAMILIES, tiny
from training import loss as page
from training.loss import cross_entropies, output_head


def small_chunks(monkeypatch):
    """Chunks of 3 positions, slices of 2."""
    monkeypatch.setattr(page, "CHUNK_BYTES", {"cpu": 3 * 101 * 4})
    monkeypatch.setattr(page, "LEAST_ROWS", 1)
    monkeypatch.setattr(page, "SLICE_ELEMENTS", {"cpu": 2 * 101})


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.5, None), (1.0, 5.0), (0.25, 3.0)])
def test_chunked_loss_and_gradients_equal_plain_cross_entropy_to_1e_5(monkeypatch, scale, softcap, biased):
    small_chunks(monkeypatch)
    torch.manual_seed(0)
    given = [torch.randn(7, 16), torch.randn(101, 16)] + [torch.randn(101)] * biased
    target = torch.tensor([0, 100, 5, 5, 7, 50, 99])

    def both(fused):
        hidden, head, *bias = parts = [part.clone().requires_grad_() for part in given]
        if fused:
            bias_V = bias[0] if bias else None
            value = cross_entropies(hidden, head, target, bias_V=bias_V, scale=scale, softcap=softcap).sum()
        else:
            logits = (hidden @ head.T + (bias[0] if bias else 0)) * scale
            logits = softcap * torch.tanh(logits / softcap) if softcap else logits
            value = cross_entropy(logits, target, reduction="sum")
        (value / 7).backward()
        return [value.detach(), *(part.grad for part in parts)]

    for ours, plain in zip(both(True), both(False), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)


def test_two_equal_logits_cost_log_two():
    assert float(cross_entropies(torch.zeros(1, 4), torch.ones(2, 4), torch.tensor([1])).sum()) == pytest.approx(
        0.693147, abs=1e-6
    )


def test_no_supervised_position_costs_nothing_and_its_gradient_is_empty():
    hidden, head = torch.zeros(0, 4, requires_grad=True), torch.ones(2, 4, requires_grad=True)
    value = cross_entropies(hidden, head, torch.zeros(0, dtype=torch.int64)).sum()
    value.backward()
    assert float(value.detach()) == 0
    assert not head.grad.any()
    assert hidden.grad.shape == (0, 4)


class Made(TorchDispatchMode):
    """Remembers the elements of every tensor that an operation made anew, the backward pass included."""

    def __init__(self):
        super().__init__()
        self.elements, self.products = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.products += func._schema.name == "aten::mm"
        self.elements += [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        return result


@pytest.mark.parametrize("trained", [False, True])
def test_1000_positions_of_a_vocabulary_of_500_never_exist_as_logits(monkeypatch, trained):
    monkeypatch.setattr(page, "CHUNK_BYTES", {"cpu": 64 * 500 * 4})
    monkeypatch.setattr(page, "LEAST_ROWS", 1)
    hidden, head = torch.randn(1000, 16, requires_grad=True), torch.randn(500, 16, requires_grad=trained)
    with Made() as made:
        cross_entropies(hidden, head, torch.arange(1000) % 500).sum().backward()
    assert max(made.elements) == 64 * 500  # not 500,000
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda part: kept.append(part.numel()) or part, lambda part: part):
        cross_entropies(hidden, head, torch.arange(1000) % 500).sum()
    assert max(kept) == 1000 * 16  # the gradient to the hidden states


def test_validation_computes_no_gradient():
    hidden, head, target = torch.randn(9, 4), torch.randn(5, 4), torch.arange(9) % 5
    with torch.inference_mode(), Made() as made:
        value = cross_entropies(hidden, head, target).sum()
    assert float(value) == pytest.approx(float(cross_entropy(hidden @ head.T, target, reduction="sum")), rel=1e-5)
    assert made.products == 1  # the logits; their gradient would be a second


def test_a_head_with_single_trained_rows_keeps_its_bias_and_one_with_an_adapter_is_refused():
    from peft import LoraConfig, inject_adapter_in_model

    causal = tiny(*FAMILIES["phi"], "eager")
    _, bias, _ = output_head(causal)
    rows = LoraConfig(target_modules=["q_proj"], trainable_token_indices={"lm_head": [3, 5]})
    inject_adapter_in_model(rows, causal)
    weight, same, rows = output_head(causal)
    assert same is bias
    assert weight is causal.get_output_embeddings().token_adapter.base_layer.weight
    assert rows is not None and rows[0].tolist() == [3, 5]
    assert rows[1].requires_grad
    with pytest.raises(RecipeError, match="adapter on its output head"):
        output_head(inject_adapter_in_model(LoraConfig(target_modules=["lm_head"]), tiny(*FAMILIES["llama"], "eager")))
