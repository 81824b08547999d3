"""The packed attention, block by block: windows, soft caps, which kernel is chosen, and what is refused."""

from __future__ import annotations

import pytest
import torch

from configs.errors import RecipeError
from configs.tuning import Train
from training import kernels as page
from training.attention import packed_attention, packed_mask, path_of
from training.kernels import blocks, is_ampere, visible
from training.model import precision_of

HALF, FULL = torch.bfloat16, torch.float32


def plain(query, key, value, scale, softcap, window):
    """Attention of one document by its definition: every score, then the mask, then the softmax."""
    shared, length = query.shape[1] // key.shape[1], query.shape[2]
    key, value = (part.repeat_interleave(shared, 1) for part in (key, value))
    scores = query @ key.transpose(2, 3) * scale
    scores = softcap * torch.tanh(scores / softcap) if softcap else scores
    ahead = torch.arange(length)[None] - torch.arange(length)[:, None]
    hidden = (ahead > 0) | (ahead <= -window if window else ahead > 0)
    return torch.softmax(scores.masked_fill(hidden, -torch.inf), -1) @ value


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 1, 3, 7, 40])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)])
def test_windows_and_soft_caps_equal_attention_by_its_definition_to_1e_5(monkeypatch, softcap, window, heads):
    monkeypatch.setattr(page, "BLOCK", 5)  # documents of 19 tokens in blocks of 5 or of the window
    monkeypatch.setattr(page, "SCORE_ELEMENTS", 4 * heads[0] * 19)  # and of 4 queries under a soft cap
    lengths, torch_seed = (2, 19, 1, 11), 3
    torch.manual_seed(torch_seed)
    parts = [torch.randn(1, count, sum(lengths), 8, requires_grad=True) for count in (heads[0], heads[1], heads[1])]
    bounds = torch.tensor([0, *lengths]).cumsum(0).int()
    module = torch.nn.Identity()
    out, _ = packed_attention(
        module, *parts, None, scaling=0.5, cu_seq_lens_q=bounds, sliding_window=window, softcap=softcap
    )
    alone = [
        plain(*pieces, 0.5, softcap, window) for pieces in zip(*(part.split(lengths, 2) for part in parts), strict=True)
    ]
    expected = torch.cat(alone, 2).transpose(1, 2)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    slope = torch.randn_like(out)
    ours = torch.autograd.grad(out, parts, slope)
    theirs = torch.autograd.grad(expected, parts, slope)
    for mine, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
def test_half_precision_is_as_near_to_attention_by_its_definition_as_rounding_allows(monkeypatch, heads):
    monkeypatch.setattr(page, "WIDE", 15)  # the backward pass of 19 tokens in bfloat16, of 2 and 11 in float32
    torch.manual_seed(0)
    lengths = (2, 19, 11)
    parts = [torch.randn(1, count, 32, 16, dtype=HALF, requires_grad=True) for count in (heads[0], heads[1], heads[1])]
    bounds = torch.tensor([0, *lengths]).cumsum(0).int()
    out, _ = packed_attention(torch.nn.Identity(), *parts, None, cu_seq_lens_q=bounds)
    pieces = zip(*(part.double().split(lengths, 2) for part in parts), strict=True)
    expected = torch.cat([plain(*piece, 0.25, None, None) for piece in pieces], 2).transpose(1, 2)
    slope = torch.randn(out.shape)
    ours = (out, *torch.autograd.grad(out, parts, slope.to(HALF)))
    theirs = (expected, *torch.autograd.grad(expected, parts, slope.double()))
    for mine, right in zip(ours, theirs, strict=True):
        assert (mine.double() - right.double()).norm() / right.double().norm() < 2**-7


def test_a_window_of_2_over_10_tokens_in_blocks_of_4_reads_4_plus_5_plus_3_keys():
    assert [stop - low for low, _, stop in blocks(10, 4, 2)] == [4, 5, 3]


def test_the_last_of_4_tokens_sees_three_under_a_window_of_3():
    assert visible(1, 4, 3, torch.device("cpu")).tolist() == [[False, True, True, True]]


def test_masks_are_kept_while_they_are_within_the_bound_and_the_oldest_goes_first(monkeypatch):
    """Room for 20 elements: masks of 2 x 4 and 3 x 4 stay, one of 1 x 2 more pushes out the one that was used least."""
    monkeypatch.setattr(page, "MASK_ELEMENTS", 20)
    monkeypatch.setattr(page, "_masks", {})
    cpu = torch.device("cpu")
    two, three = visible(2, 4, None, cpu), visible(3, 4, None, cpu)
    assert visible(2, 4, None, cpu) is two
    visible(1, 2, None, cpu)
    assert visible(2, 4, None, cpu) is two and visible(3, 4, None, cpu) is not three
    assert visible(5, 5, None, cpu).sum() == 15 and sum(it.numel() for it in page._masks.values()) <= 20


def test_a_masks_window_is_what_counts_where_the_model_builds_masks():
    torch.manual_seed(0)
    parts = [torch.randn(1, 2, 6, 8) for _ in range(3)]
    bounds, module = torch.tensor([0, 6], dtype=torch.int32), torch.nn.Identity()

    def out(mask, window):
        return packed_attention(module, *parts, mask, cu_seq_lens_q=bounds, sliding_window=window)[0]

    assert torch.equal(out(packed_mask(local_size=3), None), out(None, 3))
    assert torch.equal(out(packed_mask(), 3), out(None, None))
    assert not torch.equal(out(None, 3), out(None, None))


def test_scores_under_a_soft_cap_never_exist_all_at_once(monkeypatch):
    monkeypatch.setattr(page, "SCORE_ELEMENTS", 2**12)
    largest = Largest()
    parts = [torch.randn(1, 2, 256, 4, requires_grad=True) for _ in range(3)]
    bounds = torch.tensor([0, 256], dtype=torch.int32)
    with largest:
        out, _ = packed_attention(torch.nn.Identity(), *parts, None, cu_seq_lens_q=bounds, softcap=5.0)
        out.sum().backward()
    assert largest.elements == 2**12  # 8 queries of 2 heads to 256 keys; all scores would be 2**17


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation made, backward included."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for made in torch.utils._pytree.tree_leaves(result):
            if isinstance(made, torch.Tensor):
                self.elements = max(self.elements, made.numel())
        return result


@pytest.mark.parametrize(
    ("device", "dtype", "softcap", "dropout", "widths", "path"),
    [
        ("cuda", HALF, None, 0.0, (128, 128), "varlen"),
        ("cuda", torch.float16, None, 0.0, (64, 64), "varlen"),
        ("cuda", FULL, None, 0.0, (128, 128), "sdpa"),
        ("cuda", HALF, None, 0.1, (128, 128), "sdpa"),
        ("cuda", HALF, None, 0.0, (192, 128), "sdpa"),
        ("cuda", HALF, None, 0.0, (20, 20), "sdpa"),
        ("cuda", HALF, None, 0.0, (512, 512), "sdpa"),
        ("cuda", HALF, 50.0, 0.0, (128, 128), "scores"),
        ("cpu", HALF, None, 0.0, (64, 64), "flash"),
        ("cpu", HALF, None, 0.1, (64, 64), "sdpa"),
        ("cpu", FULL, None, 0.0, (64, 64), "sdpa"),
        ("cpu", FULL, 50.0, 0.0, (64, 64), "scores"),
        ("mps", HALF, None, 0.0, (64, 64), "sdpa"),
    ],
)
def test_the_kernel_is_chosen_by_device_format_soft_cap_dropout_and_widths(
    device, dtype, softcap, dropout, widths, path
):
    assert path_of(device, dtype, softcap, dropout, widths) == path


def test_gpus_before_ampere_get_float32_and_torchs_own_kernel(monkeypatch):
    """V100 is 7.0, T4 is 7.5, A100 is 8.0: bfloat16 and FlashAttention-2 begin there."""
    for capability, dtype, path in (((7, 0), FULL, "sdpa"), ((7, 5), FULL, "sdpa"), ((8, 0), HALF, "varlen")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda it=capability: it)
        is_ampere.cache_clear()
        assert precision_of(Train(), torch.device("cuda")) == dtype
        assert path_of("cuda", HALF, None, 0.0, (128, 128), recent=is_ampere()) == path
    is_ampere.cache_clear()


@pytest.mark.parametrize(("heads", "window", "asked"), [((4, 4), None, (-1, 0)), ((4, 2), 8, (7, 0))])
def test_the_variable_length_kernel_is_asked_for_causal_documents_and_a_window_without_the_token_itself(
    heads, window, asked
):
    """The real operator of torch, on tensors without data: argument names, shapes and the window are checked, no GPU needed."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True), Asked() as operators:
        parts = [torch.empty(count, 33, 64, dtype=HALF).transpose(0, 1) for count in (heads[0], heads[1], heads[1])]
        bounds = torch.empty(3, dtype=torch.int32)
        out = page.all_at_once(*parts, bounds=bounds, longest=20, scale=0.125, window=window)
    assert out.shape == (33, heads[0], 64)
    [arguments] = [given for name, given in operators.seen if name == "torch_attn::_varlen_attn"]
    causal, scale, sides = arguments[7:10]
    assert (causal, scale, tuple(sides)) == (window is None, 0.125, asked)


class Asked(torch.utils._python_dispatch.TorchDispatchMode):
    """Remembers which operators were called with what."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append((func._schema.name, args))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ({"s_aux": torch.zeros(4)}, "takes s_aux"),
        ({"position_bias": torch.zeros(1)}, "takes position_bias"),
        ({"is_causal": False}, "looks ahead"),
        ({"cu_seq_lens_q": None}, "bounds"),
    ],
)
def test_what_would_change_the_result_is_refused_by_name(others, reason):
    parts = [torch.randn(1, 2, 6, 8) for _ in range(3)]
    given = {"cu_seq_lens_q": torch.tensor([0, 6], dtype=torch.int32)} | others
    with pytest.raises(RecipeError, match=reason):
        packed_attention(torch.nn.Identity(), *parts, None, **given)


def test_a_mask_of_the_models_own_is_refused():
    parts = [torch.randn(1, 2, 6, 8) for _ in range(3)]
    with pytest.raises(RecipeError, match="mask of its own"):
        packed_attention(
            torch.nn.Identity(), *parts, torch.zeros(1, 1, 6, 6), cu_seq_lens_q=torch.tensor([0, 6], dtype=torch.int32)
        )
