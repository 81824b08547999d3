"""The chunked cross-entropy is the plain one: same value, same gradients, capped and scaled logits included."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from training import loss as loss_page
from training.loss import cross_entropy_sum


@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.5, None), (1.0, 5.0), (0.25, 3.0)])
def test_chunked_loss_and_gradients_equal_plain_cross_entropy_to_1e_5(monkeypatch, scale, softcap):
    monkeypatch.setattr(loss_page, "CHUNK_ELEMENTS", 3 * 101)  # 7 positions in chunks of 3
    torch.manual_seed(0)
    hidden, head = torch.randn(7, 16), torch.randn(101, 16)
    target = torch.tensor([0, 100, 5, 5, 7, 50, 99])

    def both(fused):
        hidden_, head_ = hidden.clone().requires_grad_(), head.clone().requires_grad_()
        if fused:
            value = cross_entropy_sum(hidden_, head_, target, scale=scale, softcap=softcap)
        else:
            logits = hidden_ @ head_.T * scale
            logits = softcap * torch.tanh(logits / softcap) if softcap else logits
            value = cross_entropy(logits, target, reduction="sum")
        (value / 7).backward()
        return value.detach(), hidden_.grad, head_.grad

    for ours, plain in zip(both(True), both(False), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)


def test_two_equal_logits_cost_log_two():
    assert float(cross_entropy_sum(torch.zeros(1, 4), torch.ones(2, 4), torch.tensor([1]))) == pytest.approx(
        0.693147, abs=1e-6
    )
