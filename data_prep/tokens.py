"""Documents to tokens, with an exact mask of what is to be learnt.

Plain text: its tokens and the end mark, all supervised. Conversations: the model's own chat template, rendered around
place holders, tells where each turn stands; template text and content are tokenised apart, so that a turn's borders are
token borders. Supervised is what the model writes itself: the answer, and the mark that ends its turn. What follows the
last answer teaches nothing and is left off. A control token that stands literally in a document stays plain text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from configs.errors import DataError
from data_prep.read import Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from transformers import PreTrainedTokenizerBase

    from data_prep.read import Document

BATCH_CHARACTERS = 1 << 20
"""Text that is tokenised at once."""


class Encoded(NamedTuple):
    """A document as tokens T; `reason` says why it has none."""

    document: Document
    tokens_T: np.ndarray
    supervised_T: np.ndarray
    """uint8, 1 where the token is a target of the loss; never the first one."""
    truncated: int = 0
    reason: str = ""


class _Piece(NamedTuple):
    """A piece of a rendered conversation: the template's own text, or the place of message number `message`."""

    text: str
    tokens: tuple[int, ...]
    learnt: bool
    message: int = -1


class Encoder:
    """A tokenizer with its chat template, ready for documents."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str, form: str) -> None:
        self.tokenizer, self.name, self.form = tokenizer, name, form
        self.backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        if self.backend is not None:
            self.backend.no_truncation()
            self.backend.no_padding()
        self.vocabulary = len(tokenizer)
        self.dtype: Literal["uint16", "uint32"] = "uint16" if self.vocabulary <= 1 << 16 else "uint32"
        self.begin = [token for token in tokenizer("")["input_ids"] if token == tokenizer.bos_token_id]
        """The mark that this model expects before a text, if any."""
        special = [added.content for added in tokenizer.added_tokens_decoder.values() if added.special]
        self.control = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")
        self.shapes: dict[tuple[str, ...], list[_Piece]] = {}

    def encode(self, documents: Iterable[Document]) -> Iterator[Encoded]:
        """Tokenise documents in their order.

        Raises:
            DataError: the chat template does not show where an assistant's turn begins and ends.
        """
        for batch in _batches(documents):
            texts = [text for document in batch for text in self._texts(document)]
            ids = iter(self._ids(texts, control=False))
            for document in batch:
                own = [next(ids) for _ in self._texts(document)]
                if document.messages and self.form == "chat":
                    yield self._chat(document, own)
                else:
                    yield self._plain(document, own)

    def _ids(self, texts: Sequence[str], *, control: bool) -> list[list[int]]:
        """Token ids of each text; the names of control tokens in it become control tokens only with `control`."""
        if self.backend is None:
            plain = {"add_special_tokens": False, "split_special_tokens": not control}
            return [self.tokenizer.encode(text, **plain) for text in texts]
        self.backend.encode_special_tokens = not control
        return [found.ids for found in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _texts(self, document: Document) -> list[str]:
        """What is tokenised by itself. In plain form a space stands before an answer and a line end before a question."""
        said = [message.content for message in document.messages] or [document.text]
        if self.form == "chat" or not document.messages:
            return said
        before = [" " if message.role == "assistant" else "\n" for message in document.messages]
        return [said[0], *(mark + text for mark, text in zip(before[1:], said[1:], strict=True))]

    def _plain(self, document: Document, ids: list[list[int]]) -> Encoded:
        """The texts one after the other, with the end mark after a text or an answer."""
        roles = [message.role for message in document.messages] or ["assistant"]
        tokens, supervised = list(self.begin), [0] * len(self.begin)
        for role, own in zip(roles, ids, strict=True):
            learnt = int(role == "assistant")
            tokens += [*own, self.tokenizer.eos_token_id] if learnt else own
            supervised += [learnt] * (len(own) + learnt)
        return self._encoded(document, tokens, supervised)

    def _chat(self, document: Document, ids: list[list[int]]) -> Encoded:
        from jinja2 import TemplateError

        said = [message.content for message in document.messages]
        try:
            pieces = self._shape(tuple(message.role for message in document.messages))
            joined = "".join(piece.text if piece.message < 0 else said[piece.message] for piece in pieces)
            reason = "" if joined == self._render(document.messages) else "changed by the chat template"
        except TemplateError:
            pieces, reason = [], "refused by the chat template"
        if reason:
            return Encoded(document, np.empty(0, self.dtype), np.empty(0, np.uint8), reason=reason)
        tokens: list[int] = []
        supervised: list[int] = []
        for piece in pieces:
            own = piece.tokens if piece.message < 0 else ids[piece.message]
            tokens += own
            supervised += [int(piece.learnt)] * len(own)
        return self._encoded(document, tokens, supervised)

    def _encoded(self, document: Document, tokens: list[int], supervised: list[int]) -> Encoded:
        supervised_T = np.array(supervised, np.uint8)
        end = int(np.flatnonzero(supervised_T)[-1]) + 1  # clean.py lets nothing pass that has no answer
        supervised_T[0] = 0
        return Encoded(document, np.array(tokens[:end], self.dtype), supervised_T[:end])

    def _shape(self, roles: tuple[str, ...]) -> list[_Piece]:
        """The pieces of a conversation with these roles; the same for all such conversations."""
        if roles in self.shapes:
            return self.shapes[roles]
        marks = [Message(role, f"\ue000{number}\ue001") for number, role in enumerate(roles)]
        whole, cursor, pieces = self._render(marks), 0, []
        for number, mark in enumerate(marks):
            place, end = whole.find(mark.content, cursor), 0
            if place < 0:
                raise self._unfit(f"leaves out the {mark.role}'s message")
            if mark.role == "assistant":
                before = self._render(marks[:number], ask=True)
                if not whole.startswith(before) or not cursor <= len(before) <= place:
                    raise self._unfit("writes another beginning when it asks for an answer than when it has one")
                pieces.append(self._template(whole[cursor : len(before)], learnt=False))
                cursor, end = len(before), self._turn_end(marks[: number + 1])
            pieces.append(self._template(whole[cursor:place], learnt=mark.role == "assistant"))
            pieces.append(_Piece("", (), mark.role == "assistant", number))
            cursor = place + len(mark.content)
            pieces.append(self._template(whole[cursor : cursor + end], learnt=True))
            cursor += end
        pieces.append(self._template(whole[cursor:], learnt=False))
        self.shapes[roles] = [piece for piece in pieces if piece.text or piece.message >= 0]
        return self.shapes[roles]

    def _template(self, text: str, *, learnt: bool) -> _Piece:
        return _Piece(text, tuple(self._ids([text], control=True)[0]), learnt)

    def _turn_end(self, marks: list[Message]) -> int:
        """Characters after the last message's content that end its turn: up to the first control token."""
        rendered = self._render(marks)
        tail = rendered[rendered.rindex(marks[-1].content) + len(marks[-1].content) :]
        control = self.control.search(tail)
        length = control.end() if control else len(tail.rstrip())
        if not length:
            raise self._unfit("does not mark the end of the assistant's turn")
        return length

    def _render(self, messages: Sequence[Message], *, ask: bool = False) -> str:
        turns = [{"role": role, "content": content} for role, content in messages]
        rendered = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=ask)
        return str(rendered)

    def _unfit(self, what: str) -> DataError:
        return DataError(
            f"the chat template {what}: the tokens to be learnt cannot be told apart",
            where=f"chat template of {self.name}",
            hint="Use a base with another template, or put a chat_template.jinja in ChatML form into its folder.",
        )


def fit(encoded: Encoded, length: int, overlong: str) -> Encoded:
    """Conversations must fit into a row of `length` tokens: cut with `truncate`, else left out. Text is split later."""
    if not encoded.document.messages or len(encoded.tokens_T) <= length:
        return encoded
    if overlong != "truncate":
        return encoded._replace(reason="longer than a row")
    lost = len(encoded.tokens_T) - length
    cut = encoded._replace(tokens_T=encoded.tokens_T[:length], supervised_T=encoded.supervised_T[:length])
    return cut._replace(truncated=lost) if cut.supervised_T.any() else cut._replace(reason="answer beyond a row")


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.content)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
