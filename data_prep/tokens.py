"""Documents to tokens, with an exact mask of what is to be learnt.

Plain text: its tokens and the end mark, all supervised. Conversations: the model's own chat template, rendered around
place holders, tells where each turn stands; template text and content are tokenised apart, so that a turn's borders are
token borders. Supervised is what the model would write itself: the answer, and the mark that ends its turn. A control
token that stands literally in a document is encoded as plain text and never becomes a control token.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from configs.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from data_prep.read import Document, Message

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


class _Slot(NamedTuple):
    """A piece of a rendered conversation: the template's own tokens, or the place of message number `message`."""

    tokens: list[int]
    supervised: list[int]
    message: int = -1


class Encoder:
    """A tokenizer with its chat template, ready for documents."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        self.tokenizer, self.folder = tokenizer, folder
        self.backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        if self.backend is not None:
            self.backend.no_truncation()
            self.backend.no_padding()
        self.vocabulary = len(tokenizer)
        self.dtype = np.uint16 if self.vocabulary <= 1 << 16 else np.uint32
        begin = tokenizer("")["input_ids"]
        self.begin: list[int] = [token for token in begin if token == tokenizer.bos_token_id]
        self.end: int = tokenizer.eos_token_id
        controls = sorted((added.content for added in tokenizer.added_tokens_decoder.values()), key=len, reverse=True)
        self.control = re.compile("|".join(map(re.escape, controls)) or r"(?!)")
        self.shapes: dict[tuple[str, ...], list[_Slot]] = {}

    def encode(self, documents: Iterable[Document]) -> Iterator[Encoded]:
        """Tokenise documents in their order.

        Raises:
            DataError: the chat template does not render a conversation turn by turn.
        """
        for batch in _batches(documents):
            texts = [text for document in batch for text in _texts(document)]
            ids = iter(self._encode_all(texts, control=False))
            for document in batch:
                own = [next(ids) for _ in _texts(document)]
                yield self._conversation(document, own) if document.messages else self._plain(document, own[0])

    def _encode_all(self, texts: Sequence[str], *, control: bool) -> list[list[int]]:
        """Token ids; with `control`, the names of control tokens in the text become control tokens."""
        if self.backend is None:
            return [
                self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=not control)
                for text in texts
            ]
        self.backend.encode_special_tokens = not control
        return [found.ids for found in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _plain(self, document: Document, ids: list[int]) -> Encoded:
        tokens_T = np.array([*self.begin, *ids, self.end], self.dtype)
        supervised_T = np.ones(len(tokens_T), np.uint8)
        supervised_T[0] = 0
        return Encoded(document, tokens_T, supervised_T)

    # ------------------------------------------------------------ conversations

    def _conversation(self, document: Document, ids: list[list[int]]) -> Encoded:
        from jinja2 import TemplateError

        nothing = np.empty(0, self.dtype), np.empty(0, np.uint8)
        try:
            slots = self._shape(tuple(message.role for message in document.messages))
            if self._joined(slots, document.messages) != self._render(document.messages):
                return Encoded(document, *nothing, reason="changed by the chat template")
        except TemplateError:
            return Encoded(document, *nothing, reason="refused by the chat template")
        tokens: list[int] = []
        supervised: list[int] = []
        for slot in slots:
            own = ids[slot.message] if slot.message >= 0 else slot.tokens
            learnt = document.messages[slot.message].role == "assistant" if slot.message >= 0 else False
            tokens += own
            supervised += [int(learnt)] * len(own) if slot.message >= 0 else slot.supervised
        supervised_T = np.array(supervised, np.uint8)
        supervised_T[0] = 0
        return Encoded(document, np.array(tokens, self.dtype), supervised_T)
