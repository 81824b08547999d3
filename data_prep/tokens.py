"""Documents to tokens, with an exact mask of what is to be learnt.

Plain text: its tokens and the end mark, all supervised. Conversations: the pieces that configs/chat.py makes of them.
Supervised is what the model writes itself: the answer, and the mark that ends its turn. What follows the last answer
teaches nothing and is left off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from configs.chat import ChatTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from transformers import PreTrainedTokenizerBase

    from data_prep.documents import Document

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


class Encoder:
    """A tokenizer with its chat template, ready for documents."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str, form: str) -> None:
        self.tokenizer, self.form = tokenizer, form
        self.chat = ChatTokenizer(tokenizer, name)
        self.vocabulary = len(tokenizer)
        self.dtype: Literal["uint16", "uint32"] = "uint16" if self.vocabulary <= 1 << 16 else "uint32"

    def encode(self, documents: Iterable[Document]) -> Iterator[Encoded]:
        """Tokenise documents in their order.

        Raises:
            DataError: the chat template does not show where an assistant's turn begins and ends.
        """
        for batch in _batches(documents):
            ids = iter(self.chat.ids_after([text for document in batch for text in self._texts(document)]))
            for document in batch:
                own = [next(ids) for _ in self._texts(document)]
                if document.messages and self.form == "chat":
                    yield self._chat(document, own)
                else:
                    yield self._plain(document, own)

    def _texts(self, document: Document) -> list[str]:
        """What is tokenised by itself. In plain form a space stands before an answer and a line end before a question."""
        said = [message.content for message in document.messages] or [document.text]
        if self.form == "chat" or not document.messages:
            return said
        before = [" " if message.role == "assistant" else "\n" for message in document.messages]
        return [said[0], *(mark + text for mark, text in zip(before[1:], said[1:], strict=True))]

    def _plain(self, document: Document, ids: list[list[int]]) -> Encoded:
        """The texts one after the other, with the end mark after a text or an answer."""
        if self.chat.marks_beginnings:
            ids[0] = self.chat.ids(self._texts(document)[:1])[0]
        roles = [message.role for message in document.messages] or ["assistant"]
        tokens, supervised = list(self.chat.begin), [0] * len(self.chat.begin)
        for role, own in zip(roles, ids, strict=True):
            learnt = int(role == "assistant")
            tokens += [*own, self.tokenizer.eos_token_id] if learnt else own
            supervised += [learnt] * (len(own) + learnt)
        return self._encoded(document, tokens, supervised)

    def _chat(self, document: Document, ids: list[list[int]]) -> Encoded:
        from jinja2 import TemplateError

        said = [message.content for message in document.messages]
        try:
            pieces = self.chat.pieces(tuple(message.role for message in document.messages))
            joined = "".join(piece.text if piece.message < 0 else said[piece.message] for piece in pieces)
            reason = "" if joined == self.chat.render(document.messages) else "changed by the chat template"
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
