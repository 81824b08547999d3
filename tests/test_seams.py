"""Texts that begin alike are tokenised once up to their last seam, and come out as if each had been tokenised whole."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from configs.base import load_tokenizer
from configs.chat import ChatTokenizer
from configs.prompts import Encoder
from configs.seams import Seams
from configs.store import HOUSE
from tests.conftest import SENTENCES

if TYPE_CHECKING:
    from collections.abc import Callable

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEXT = [
    *SENTENCES,
    "Rate: 3.5 %\n\nWhy?\nA. yes\nB. no\n",
    "don't, won't  \n",
    "甲\n乙 丙。\n",
    "1234567 and 89",
    "é à ü",
] * 4
OWN = {"special_tokens": ["<|endoftext|>"], "vocab_size": 420, "show_progress": False}


def trained(pre: Any, normal: Any = None, **more: Any) -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE(**more))
    raw.pre_tokenizer, raw.normalizer = pre, normal
    letters = pre_tokenizers.ByteLevel.alphabet() if pre is not None else []
    raw.train_from_iterator(TEXT, trainers.BpeTrainer(**OWN, initial_alphabet=letters))
    if pre is not None:
        raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|endoftext|>")


def gpt2() -> PreTrainedTokenizerFast:
    return trained(pre_tokenizers.ByteLevel(add_prefix_space=False))


def qwen() -> PreTrainedTokenizerFast:
    split = pre_tokenizers.Split(Regex(QWEN), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return trained(pre_tokenizers.Sequence([split, level]), normalizers.NFC())


def deepseek() -> PreTrainedTokenizerFast:
    splits = [pre_tokenizers.Split(Regex(one), "isolated") for one in (r"\p{N}{1,3}", "[一-龥]+", QWEN)]
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return trained(pre_tokenizers.Sequence([*splits, level]))


def whole_text() -> PreTrainedTokenizerFast:
    """As Llama 2's: spaces are marks, one stands before every text, and merges run over the whole text. Its pieces may
    span a letter and a mark after it, since nothing splits words in its training here."""
    normal = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return trained(None, normal, unk_token="<|endoftext|>", fuse_unk=True)


def looking_back() -> PreTrainedTokenizerFast:
    split = pre_tokenizers.Split(Regex(r"(?<=a) |\S+|\s+"), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return trained(pre_tokenizers.Sequence([split, level]))


def seams(tokenizer: Any) -> Seams:
    return Seams(ChatTokenizer(tokenizer, "test"))


@pytest.mark.parametrize(
    ("make", "there"), [(gpt2, True), (qwen, True), (deepseek, True), (whole_text, False), (looking_back, False)]
)
def test_seams_are_used_only_where_they_hold_by_the_tokenizers_own_description(
    make: Callable[[], PreTrainedTokenizerFast], there: bool
) -> None:
    assert seams(make()).there is there


def test_an_added_token_that_swallows_the_space_after_it_forbids_seams(tiny_base: Any) -> None:
    from tokenizers import AddedToken

    tokenizer = load_tokenizer(tiny_base)
    assert seams(tokenizer).there
    tokenizer.add_tokens([AddedToken("bank", rstrip=True, special=False)])
    assert not seams(tokenizer).there


def test_the_last_seam_stands_between_a_letter_and_the_space_after_it(tiny_base: Any) -> None:
    """`Rates rose.\\nTone:` is cut after `Rates`, 5 letters: the line end stands after a full stop."""
    found = seams(load_tokenizer(tiny_base))
    assert found.last("Rates rose.\nTone:") == 5
    assert found.last("Rates rose.\nTone:", start=9) == 9
    assert found.last("利率下调。") == 0


@pytest.mark.parametrize("make", [gpt2, qwen, deepseek, whole_text, lambda: load_tokenizer(HOUSE / "assets" / "base")])
def test_tokens_are_those_of_the_whole_texts_on_800_drawn_ones(make: Callable[[], Any]) -> None:
    """Blocks, questions and answers of words, numbers, marks, Chinese and runs of spaces, drawn with seed 0."""
    tokenizer, drawn = make(), random.Random(0)
    words = [
        *" ".join(TEXT).split(" "),
        "\n",
        "\n\n",
        "  ",
        "don't",
        "3.5",
        "%",
        "利率",
        "。",
        "it's",
        "'ll",
        "(a)",
        "é",
    ]

    def text(most: int) -> str:
        return "".join(drawn.choice(words) + drawn.choice(["", " ", "\n", " "]) for _ in range(drawn.randint(0, most)))

    for _ in range(8):
        before = text(20)
        questions = [before + text(8) for _ in range(100)]
        answers = [[text(3) or "x", " yes"] for _ in questions]
        encode, plain = Encoder(tokenizer, before), Encoder(tokenizer)
        plain.seams.there = False
        assert encode.begun(questions) == plain.begun(questions) == plain.plain(questions)
        assert encode.pairs(questions, answers) == plain.pairs(questions, answers)
