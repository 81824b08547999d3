"""A tokenizer whose tokens are the bytes of UTF-8: for models behind a server whose own tokenizer is not here.

Prompts are built from token ids; those of this one turn back into exactly the text, or the conversation, that was meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.base import CHATML

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

END, TURN, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"


def byte_tokenizer() -> PreTrainedTokenizerBase:
    """256 bytes and three control tokens, with ChatML as its template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = [END, TURN, TURN_END]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({token: at for at, token in enumerate([*special, *alphabet])}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=END, name_or_path="bytes")
    tokenizer.chat_template = CHATML
    return tokenizer


def plain_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of token ids; the mark that stands before a text with nothing before it is no part of it."""
    bare = ids[1:] if ids and ids[0] == tokenizer.eos_token_id else ids
    return str(tokenizer.decode(list(bare), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def messages_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[dict[str, str]]:
    """The conversation behind token ids in ChatML's form, without the turn that is to be written.

    A control token's name inside of a question is plain bytes there, and stays text.
    """
    turn, end = (tokenizer.convert_tokens_to_ids(token) for token in (TURN, TURN_END))
    messages, begun = list[dict[str, str]](), list[int]()
    for token in ids:
        if token == turn:
            begun = []
        elif token == end:
            role, _, content = plain_text(tokenizer, begun).partition("\n")
            messages.append({"role": role, "content": content})
        else:
            begun.append(token)
    if not messages:  # a task without a question, or a plain prompt for a server that only chats
        return [{"role": "user", "content": plain_text(tokenizer, ids)}]
    return messages
