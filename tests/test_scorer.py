"""The scorer against the plainest thing there is: one full forward pass per answer, float64 sums of float32 softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from configs.errors import DataError, UnsafeArtefactError
from configs.prompts import Branch
from eval.scorer import Scorer
from eval.weights import load_scorer
from eval.writing import write_alone

if TYPE_CHECKING:
    from pathlib import Path

BRANCHES = [
    Branch(list(range(5, 60)), [[7], [8], [9, 10]]),
    Branch(list(range(100, 117)), [[3, 4, 5, 6], [200], [11, 12]]),
    Branch([0], [[40, 41, 42], [43, 44, 45, 46, 47], [1]]),
]


def plainly(model: Any, branch: Branch) -> list[float]:
    import torch

    sums = []
    for follower in branch.followers:
        ids = torch.tensor([branch.context + follower])
        with torch.inference_mode():
            logs = torch.log_softmax(model(ids).logits.float(), dim=-1)[0]
        start = len(branch.context) - 1
        sums.append(sum(float(logs[start + step, token]) for step, token in enumerate(follower)))
    return sums


@pytest.fixture(scope="module")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter whose factors are random, not zero: it changes the answers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    wrapper = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=64, target_modules="all-linear", init_lora_weights=False)
    )
    folder = tmp_path_factory.mktemp("adapter")
    wrapper.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def scorer(tiny_base: Path, adapter: Path) -> Scorer:
    return load_scorer(tiny_base, adapter)


def test_shared_prompts_score_as_full_passes_do_to_1e_4(scorer: Scorer) -> None:
    """Answers of 1 to 5 tokens after contexts of 1 to 55 tokens; base and tuned."""
    assert scorer.shares and scorer.gathers and scorer.fused
    for which in ("base", "tuned"):
        with scorer.using(which):
            expected = [value for branch in BRANCHES for value in plainly(scorer.model, branch)]
            shared = [value for values in scorer.loglikelihoods(BRANCHES) for value in values]
            plain = [value for values in scorer.loglikelihoods(BRANCHES[2:]) for value in values]
        assert shared == pytest.approx(expected, abs=1e-4)
        assert plain == pytest.approx(expected[-3:], abs=1e-4)


def test_with_the_adapter_off_the_scores_are_those_of_a_fresh_base(scorer: Scorer, tiny_base: Path) -> None:
    fresh = load_scorer(tiny_base)
    with scorer.using("base"):
        off = scorer.loglikelihoods(BRANCHES[:2])
    with scorer.using("tuned"):
        on = scorer.loglikelihoods(BRANCHES[:2])
    with fresh.using("base"):
        assert fresh.loglikelihoods(BRANCHES[:2]) == off
    apart = [abs(a - b) for ours, theirs in zip(on, off, strict=True) for a, b in zip(ours, theirs, strict=True)]
    assert min(apart) > 1e-3


def test_an_adapter_that_cannot_be_switched_off_is_refused(tmp_path: Path) -> None:
    """LoRA that trains the base's own biases: they stay as they were trained, adapter or not."""
    import torch
    from peft import LoraConfig, get_peft_model

    from configs.store import HOUSE
    from tests.families import FAMILIES, tiny

    tiny(*FAMILIES["llama-biased"], "sdpa").save_pretrained(tmp_path / "base")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "base" / name).write_bytes((HOUSE / "assets" / "base" / name).read_bytes())
    wrapper = get_peft_model(
        tiny(*FAMILIES["llama-biased"], "sdpa"), LoraConfig(r=2, target_modules="all-linear", bias="all")
    )
    with torch.no_grad():
        for name, parameter in wrapper.named_parameters():
            if name.endswith("bias"):
                parameter.add_(0.1)
    wrapper.save_pretrained(tmp_path / "adapter")
    with pytest.raises(DataError, match="changes the base even where it is switched off"):
        load_scorer(tmp_path / "base", tmp_path / "adapter")


def test_sharing_forwards_the_context_once(scorer: Scorer) -> None:
    """A context of 55 tokens with answers of 1, 1 and 2 tokens: 55 + 1 tokens, not 55 + 55 + 56."""
    before = scorer.tokens
    with scorer.using("base"):
        scorer.loglikelihoods(BRANCHES[:1])
    assert scorer.tokens - before == 56


def test_texts_are_those_of_plain_greedy_search(scorer: Scorer) -> None:
    """Three contexts of different lengths in one batch; each alone by the model's own generate gives the same text."""
    contexts = [branch.context for branch in BRANCHES]
    with scorer.using("tuned"):
        batched = scorer.texts(contexts, (), 12)
        alone = write_alone(scorer, contexts, (), 12)
    assert batched == alone
    assert batched[0] and batched[1]


def test_a_text_ends_before_the_first_stop(scorer: Scorer) -> None:
    with scorer.using("tuned"):
        whole = scorer.texts([[5, 6, 7]], (), 8)[0]
        assert scorer.texts([[5, 6, 7]], (whole[2:4],), 8)[0] == whole[:2]


@pytest.mark.parametrize("family", ["gpt2", "cohere", "granite", "gemma2", "mamba", "bloom"])
def test_families_with_other_heads_and_caches_score_as_full_passes_do(family: str, tiny_base: Path) -> None:
    """Learned positions, scaled and soft-capped logits, sliding windows, state spaces, ALiBi: random models of each."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from configs.base import load_tokenizer

    small = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    own: dict[str, dict[str, Any]] = {
        "gpt2": {},
        "cohere": {"intermediate_size": 64, "num_key_value_heads": 2, "logit_scale": 0.25},
        "granite": {"intermediate_size": 64, "num_key_value_heads": 2, "logits_scaling": 8.0},
        "gemma2": {"intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 8, "final_logit_softcapping": 2.0},
        "mamba": {"state_size": 8},
        "bloom": {},
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **small, **own[family], bos_token_id=0, eos_token_id=0, pad_token_id=0)
    scorer = Scorer(AutoModelForCausalLM.from_config(config), load_tokenizer(tiny_base))
    expected = [value for branch in BRANCHES for value in plainly(scorer.model, branch)]
    with scorer.using("base"):
        found = [value for values in scorer.loglikelihoods(BRANCHES) for value in values]
        assert len(scorer.texts([branch.context for branch in BRANCHES], ("\n",), 3)) == 3
    assert found == pytest.approx(expected, abs=1e-4)
    assert scorer.shares == (family in ("gpt2", "cohere", "granite", "gemma2"))


def test_an_adapter_without_safetensors_is_never_opened(tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04pickle")
    with pytest.raises(UnsafeArtefactError, match="never opened"):
        load_scorer(tiny_base, tmp_path)


def test_an_adapter_of_another_base_is_refused(tiny_base: Path, adapter: Path, tmp_path: Path) -> None:
    """The adapter's factors are 32 wide, the other base is 48 wide."""
    import shutil

    from transformers import AutoConfig, AutoModelForCausalLM

    other = tmp_path / "other"
    shutil.copytree(tiny_base, other)
    config = AutoConfig.from_pretrained(tiny_base)
    config.hidden_size, config.head_dim = 48, 12
    AutoModelForCausalLM.from_config(config).save_pretrained(other)
    with pytest.raises(DataError, match="does not fit this base"):
        load_scorer(other, adapter)
