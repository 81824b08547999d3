"""Chat templates and control tokens: the mask is exact whatever the template, and no document speaks a control token."""

import random

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from configs.base import CHATML, load_tokenizer
from configs.chat import Message
from data_prep.documents import Document
from data_prep.tokens import Encoder

LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + "
    "m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles') }}{% endif %}{% endfor %}"
)
ZEPHYR = (  # marks are plain text, the end mark is the tokenizer's
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] + eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
FORGETFUL = CHATML.replace("in messages", "in messages[-2:]")
"""Writes the last question and answer only."""
ENDS = {"chatml": (CHATML, "<|im_end|>"), "llama": (LLAMA, "<|eot_id|>"), "gemma": (GEMMA, "<end_of_turn>")}
ENDS |= {"mistral": (MISTRAL, "</s>"), "zephyr": (ZEPHYR, "</s>")}
MARKS = ["<s>", "</s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>"]
MARKS += ["<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]"]
WORDS = ["利率", "rose", " ", "\n", "  x", "1,024.5", "👩‍🔬", "é", "。", "\t", "{{ m }}", "assistant", "user\n", *MARKS]


def folder_of(path, template, *, special=True):
    """A byte-level BPE tokenizer, trained on four words, with MARKS as added tokens: special ones, or not."""
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(["rates rose 利率 assistant user"], trainers.BpeTrainer(initial_alphabet=alphabet))
    raw.add_tokens([AddedToken(mark, special=special, normalized=not special) for mark in MARKS])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(path)
    return path


def conversations(count):
    """Random dialogues of one to three questions and answers over WORDS, stripped as the reader strips them."""
    draw = random.Random(17)
    for number in range(count):
        turns = []
        for _ in range(draw.randint(1, 3)):
            for role in ("user", "assistant"):
                said = "".join(draw.choices(WORDS, k=draw.randint(1, 12))).strip() or "x"
                turns.append(Message(role, said))
        yield Document(str(number), "s", "w", messages=tuple(turns))


@pytest.mark.parametrize("special", [True, False], ids=["special", "added"])
@pytest.mark.parametrize("name", ENDS)
def test_in_200_random_conversations_just_the_answers_and_their_end_marks_are_supervised(tmp_path, name, special):
    template, end = ENDS[name]
    encoder = Encoder(folder_of(tmp_path, template, special=special), name, "chat")
    decode = encoder.tokenizer.decode
    mark = encoder.tokenizer.convert_tokens_to_ids(end)
    for document in conversations(200):
        (encoded,) = encoder.encode([document])
        answers = [message.content for message in document.messages if message.role == "assistant"]
        before = " " if name == "mistral" else ""  # its template writes a space between [/INST] and the answer
        assert decode(encoded.tokens_T[encoded.supervised_T == 1]) == "".join(f"{before}{one}{end}" for one in answers)
        assert encoder.chat.render(document.messages).startswith(decode(encoded.tokens_T))
        assert encoded.tokens_T[-1] == mark
        assert (encoded.tokens_T[encoded.supervised_T == 1] == mark).sum() == len(answers)


def test_a_system_turn_is_refused_by_a_template_without_one_and_counted(tmp_path):
    asked = (Message("system", "Be brief."), Message("user", "Rates?"), Message("assistant", "up"))
    (encoded,) = Encoder(folder_of(tmp_path, GEMMA), "gemma", "chat").encode([Document("1", "s", "w", messages=asked)])
    assert (encoded.reason, encoded.tokens_T.tolist()) == ("refused by the chat template", [])
    assert encoded.lost > 0


def test_a_template_that_strips_changes_a_turn_that_ends_in_spaces(tmp_path):
    encoder = Encoder(folder_of(tmp_path, LLAMA), "llama", "chat")
    for answer, reason in [("up", ""), ("up  ", "changed by the chat template")]:
        said = (Message("user", "Rates?"), Message("assistant", answer))
        (encoded,) = encoder.encode([Document("1", "s", "w", messages=said)])
        assert encoded.reason == reason


def test_a_template_that_drops_earlier_turns_keeps_one_question_and_refuses_two(tmp_path):
    encoder = Encoder(folder_of(tmp_path, FORGETFUL), "forgetful", "chat")
    pair = (Message("user", "Rates?"), Message("assistant", "up"))
    found = encoder.encode([Document("1", "s", "w", messages=pair), Document("2", "s", "w", messages=pair + pair)])
    assert [encoded.reason for encoded in found] == ["", "a turn is left out by the chat template"]


@pytest.mark.parametrize("special", [True, False], ids=["special", "added"])
@pytest.mark.parametrize("form", ["plain", "chat"])
def test_control_tokens_that_stand_in_a_document_stay_text(tmp_path, special, form):
    """Twelve marks in a text and in both turns of a conversation: not one of their ids but those of the form itself."""
    encoder = Encoder(folder_of(tmp_path, CHATML, special=special), "marks", form)
    ids = encoder.tokenizer.convert_tokens_to_ids(MARKS)
    attack = "rates" + "rose".join(MARKS)
    pair = (Message("user", attack), Message("assistant", attack))
    own = {"plain": [ids[1]], "chat": [ids[3], ids[4]] * 2}[form]
    for document, marks in [
        (Document("1", "s", "w", text=attack), [ids[1]]),
        (Document("2", "s", "w", messages=pair), own),
    ]:
        (encoded,) = encoder.encode([document])
        assert [token for token in encoded.tokens_T.tolist() if token in ids] == marks
        assert encoder.tokenizer.decode(encoded.tokens_T).count(attack) == max(1, len(document.messages))


def test_the_tokenizer_that_evaluation_decodes_with_is_left_as_it_is(tmp_path):
    """`<|im_start|>` is no special token there, so that `skip_special_tokens` must keep it; `</s>` is the end mark."""
    encoder = Encoder(folder_of(tmp_path, CHATML, special=False), "marks", "chat")
    list(encoder.encode([Document("1", "s", "w", text="<|im_start|>")]))
    ids = encoder.tokenizer.convert_tokens_to_ids(["<|im_start|>", "</s>"])
    assert encoder.tokenizer.decode(ids, skip_special_tokens=True) == "<|im_start|>"


def test_added_tokens_that_are_text_keep_their_ids(tmp_path):
    """GPT-NeoX has runs of spaces and Gemma HTML tags as added tokens: they are text, and the base knows them so."""
    tokenizer = load_tokenizer(folder_of(tmp_path, CHATML))
    tokenizer.add_tokens([AddedToken("    ", normalized=False), AddedToken("<table>", normalized=False)])
    tokenizer.save_pretrained(tmp_path)
    (encoded,) = Encoder(tmp_path, "text", "plain").encode([Document("1", "s", "w", text="<table>    x")])
    assert encoded.tokens_T[:2].tolist() == tokenizer.convert_tokens_to_ids(["<table>", "    "])


def test_a_vocabulary_that_has_a_control_token_as_a_piece_of_text_refuses_the_document(tmp_path):
    """A Unigram model: `</s>` is one of its pieces, and cannot be told apart from the mark."""
    from transformers import PreTrainedTokenizerFast

    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((letter, -3.0) for letter in "rates<>/ \n")]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram(pieces, 0)), eos_token="</s>")
    tokenizer.save_pretrained(tmp_path)
    texts = [Document("1", "s", "w", text="rates"), Document("2", "s", "w", text="rates</s>")]
    kept, refused = Encoder(tmp_path, "unigram", "plain").encode(texts)
    assert (kept.reason, len(kept.tokens_T)) == ("", 6)
    assert (refused.reason, len(refused.tokens_T), refused.lost) == (
        "holds a control token that cannot be written as text",
        0,
        6,
    )
