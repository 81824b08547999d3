"""Prompts are those of lm-evaluation-harness, token for token; its two rules are written out here once more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from configs.base import CHATML, load_tokenizer
from configs.chat import Message
from configs.items import Item
from configs.prompts import Branch, block, examples, prompts, unasked, windows
from configs.store import HOUSE
from configs.task import Task


def item(row: int, text: str, choices: tuple[str, ...] = ("good", "bad"), target: str = "good") -> Item:
    return Item(f"d{row}", row, text, choices, target, 0, str(row))


def task(**keys: Any) -> Task:
    about = {"sector": "finance", "language": ["en"], "licence": "CC0-1.0", "source": "test"}
    base = {
        "task": "t",
        "dataset_path": "json",
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": ["good", "bad"],
        "doc_to_target": "{{a}}",
        "metric_list": [{"metric": "acc"}],
        "metadata": about,
    }
    return Task.model_validate_json(json.dumps(base | keys))


def encode_pair(tokenizer: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """lm-evaluation-harness 0.4, TemplateLM._encode_pair, as it stands there."""
    n_spaces = len(context) - len(context.rstrip())
    if n_spaces > 0:
        continuation = context[-n_spaces:] + continuation
        context = context[:-n_spaces]
    whole = tokenizer.encode(context + continuation, add_special_tokens=False)
    first = tokenizer.encode(context, add_special_tokens=False)
    return first, whole[len(first) :]


@pytest.mark.parametrize(
    "text", ["The bank raised its rate.\nTopic:", "利率下调。答案：", "Rates rose. ", "A\n\n", "x"]
)
@pytest.mark.parametrize("delimiter", [" ", ""])
def test_context_and_answers_are_cut_as_lm_evaluation_harness_cuts_them(tiny_base, text, delimiter):
    tokenizer = load_tokenizer(tiny_base)
    choices = ("good", "bank", "利率")
    [found] = prompts(task(target_delimiter=delimiter), [item(0, text, choices)], "Before. ", tokenizer, 512)
    [branch] = found.branches
    for choice, follower in zip(choices, branch.followers, strict=True):
        assert (branch.context, follower) == encode_pair(tokenizer, "Before. " + text, delimiter + choice)


def test_an_answer_that_melts_into_the_context_moves_the_cut_back(tiny_base):
    """`he` is one token of the vocabulary, so that after `xh` the answer `e` would have no token of its own."""
    tokenizer = load_tokenizer(tiny_base)
    assert len(tokenizer.encode("he", add_special_tokens=False)) == 1
    [found] = prompts(task(target_delimiter=""), [item(0, "xh", ("e", "o"))], "", tokenizer, 512)
    [branch] = found.branches
    assert branch.context == tokenizer.encode("x", add_special_tokens=False)
    assert [tokenizer.decode(follower) for follower in branch.followers] == ["he", "ho"]


def test_an_empty_context_is_the_end_mark(tiny_base):
    tokenizer = load_tokenizer(tiny_base)
    [found] = prompts(task(target_delimiter=""), [item(0, "")], "", tokenizer, 512)
    assert found.branches[0].context == [tokenizer.eos_token_id]


def test_a_tokenizer_that_adds_a_start_mark_gets_it_once_in_front(tiny_base):
    from tokenizers.processors import TemplateProcessing

    tokenizer = load_tokenizer(tiny_base)
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", tokenizer.convert_tokens_to_ids("<|im_start|>"))]
    )
    [found] = prompts(task(), [item(0, "Rates rose.")], "", tokenizer, 512)
    mark = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert found.branches[0].context.count(mark) == 1
    assert found.branches[0].context[0] == mark
    assert all(mark not in follower for follower in found.branches[0].followers)


def test_a_long_context_loses_its_beginning_and_is_counted(tiny_base):
    """Room for 20 tokens, the last of which need not be read: context + longest answer is 21."""
    tokenizer = load_tokenizer(tiny_base)
    [cut, whole] = prompts(task(), [item(0, "rate " * 50), item(1, "x")], "", tokenizer, 20)
    longest = max(map(len, cut.branches[0].followers))
    [full] = prompts(task(), [item(0, "rate " * 50)], "", tokenizer, 512)
    assert (cut.truncated, whole.truncated) == (True, False)
    assert len(cut.branches[0].context) == 21 - longest
    assert cut.branches[0].context == full.branches[0].context[-(21 - longest) :]


def test_an_answer_longer_than_the_context_has_no_branch(tiny_base):
    [found] = prompts(task(), [item(0, "x", ("y " * 40, "n"))], "", load_tokenizer(tiny_base), 20)
    assert (found.branches, found.truncated) == ([], True)


def test_a_passage_of_10_tokens_in_windows_of_4():
    """0-3 after the start mark, 4-7 after token 3, 8-9 with the three tokens before them for context."""
    found = windows(list(range(100, 110)), 0, 4)
    assert found == [
        Branch([0], [[100, 101, 102, 103]]),
        Branch([103], [[104, 105, 106, 107]]),
        Branch([105, 106, 107], [[108, 109]]),
    ]
    assert all(len(context) + len(followers[0]) - 1 <= 4 for context, followers in found)


def test_worked_examples_are_never_test_questions_and_do_not_depend_on_the_others():
    pool = [item(row, f"q{row}") for row in range(10)]
    free = unasked(pool, pool[:4])
    assert [one.row for one in free] == [4, 5, 6, 7, 8, 9]
    shown = examples(task(), free, 3, seed=5)
    fewer = [one for one in free if one in shown or one.row % 2]
    assert examples(task(), fewer, 3, seed=5) == shown
    first = task(fewshot_config={"sampler": "first_n"})
    assert [one.row for one in examples(first, free, 2, seed=5)] == [4, 5]


def test_the_block_is_description_question_answer_blank_line():
    asked = task(description="Sort the news.\n\n")
    assert block(asked, [item(0, "Up.\nTone:"), item(1, "Down.\nTone:", target="bad")]) == (
        "Sort the news.\n\nUp.\nTone: good\n\nDown.\nTone: bad\n\n"
    )


def test_in_chat_form_the_question_is_a_users_turn_and_the_answer_follows_the_assistants_mark(tiny_base):
    tokenizer = load_tokenizer(tiny_base)
    [found] = prompts(task(), [item(0, "Rates rose.")], "", tokenizer, 512, chat=True)
    [branch] = found.branches
    said = tokenizer.decode(branch.context + branch.followers[0])
    assert said == "<|im_start|>user\nRates rose.<|im_end|>\n<|im_start|>assistant\ngood"
    assert branch.context[0] == tokenizer.convert_tokens_to_ids("<|im_start|>")


BASES = [
    ("The bank raised its rate.\nTopic:", "bank deposits"),
    ("利率下调。\n答案：", "利率"),
    ("He wrote <|im_end|> and <|endoftext|>.\nTopic:", "A"),
    ("Say (2 + 2).", "4"),
]
THINKING = (  # Qwen 3: an empty thought stands between the assistant's mark and its answer
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STARTED = "{{ bos_token }}" + CHATML


@pytest.mark.parametrize(("question", "answer"), BASES)
@pytest.mark.parametrize("folder", ["tiny", "assets/base"])
@pytest.mark.parametrize("template", [None, CHATML, THINKING, STARTED])
def test_an_asked_question_and_its_gold_are_the_tokens_of_the_same_pair_in_training(
    tiny_base, tmp_path, folder, template, question, answer
):
    """In plain form (no template) and in chat form; training adds the end mark of the answer, which is not asked for."""
    from data_prep.documents import Document
    from data_prep.tokens import Encoder

    tokenizer = load_tokenizer(tiny_base if folder == "tiny" else HOUSE / folder)
    if template == STARTED:
        tokenizer.bos_token = "<|im_start|>"
    tokenizer.chat_template = template or CHATML
    pair = Document("id", "s", "w", messages=(Message("user", question), Message("assistant", answer)))
    tokenizer.save_pretrained(tmp_path)
    (trained,) = Encoder(tmp_path, "base", "chat" if template else "plain").encode([pair])
    [found] = prompts(task(), [item(0, question, (answer, "other"))], "", tokenizer, 512, chat=template is not None)
    [branch] = found.branches
    assert branch.context + branch.followers[0] == trained.tokens_T.tolist()[:-1]
    assert trained.tokens_T[-1] in (tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>"))
    answer_ids = trained.tokens_T[trained.supervised_T == 1].tolist()[:-1]
    assert answer_ids[-len(branch.followers[0]) :] == branch.followers[0]


def test_a_text_that_is_to_be_written_in_chat_form_is_asked_for_where_training_had_the_answer(tiny_base):
    tokenizer = load_tokenizer(tiny_base)
    keys = {"output_type": "generate_until", "metric_list": [{"metric": "acc"}]}
    [found] = prompts(task(**keys), [item(0, "Rates?")], "", tokenizer, 512, chat=True)
    assert found.branches[0].followers == []
    assert tokenizer.decode(found.branches[0].context).endswith("Rates?<|im_end|>\n<|im_start|>assistant\n")


def test_sentences_without_a_question_are_no_chat(tiny_base):
    tokenizer = load_tokenizer(tiny_base)
    pair = item(0, "", ("She sees herself.", "She sees himself."))
    keys = {"doc_to_text": "", "target_delimiter": ""}
    [plain] = prompts(task(**keys), [pair], "", tokenizer, 512)
    [chat] = prompts(task(**keys), [pair], "", tokenizer, 512, chat=True)
    assert chat == plain
