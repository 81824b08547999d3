"""Documents to tokens, with an exact mask of what is to be learnt.

Plain text: its tokens and the end mark, all supervised. Conversations: the pieces that configs/chat.py makes of them.
Supervised is what the model writes itself: the answer, and the mark that ends its turn. What follows the last answer
teaches nothing and is left off. Legend: T tokens of a document.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import numpy as np

from configs.base import load_tokenizer
from configs.chat import GUARD, ChatTokenizer, LeftOutError
from data_prep.gigatokens import checked_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from data_prep.documents import Document
    from data_prep.gigatokens import Encode

Item = TypeVar("Item")
BATCH_CHARACTERS = 1 << 18
"""Text that is worked on at once."""
AT_ONCE = 1 << 14
"""Text that `tokenizers` is given at once: a token costs it some 300 bytes while it works, which should stay in a cache."""
RENEWED = 1 << 23
"""Characters after which gigatoken is loaded again: it remembers what it has met, 1 to 2 MB for each million."""
LONG = BATCH_CHARACTERS
"""Longer texts are tokenised in parts: 10 MB at once would take a gigabyte."""
REACH = 256
"""Characters on both sides of a cut that must have the same tokens with and without it."""
SEAM = re.compile(r"\w(?=[ \n,，。；：！？、])")
"""Where a long text may be cut: after a word, before a space, a line end or punctuation."""


class Encoded(NamedTuple):
    """A document as tokens T; `reason` says why it has none."""

    document: Document
    tokens_T: np.ndarray
    supervised_T: np.ndarray
    """uint8, 1 where the token is a target of the loss; never the first one."""
    truncated: int = 0
    """Tokens that were cut off, of a document that is kept."""
    reason: str = ""
    lost: int = 0
    """Tokens of a document that is left out; of its contents alone where the chat template refused it."""
    rejected_T: np.ndarray | None = None
    """The tokens that would stand in place of the supervised ones, had the rejected answer been given."""


class Encoder:
    """A tokenizer with its chat template, ready for documents.

    Made anew for each shard: a tokenizer that has seen much text works at half its speed.

    Args:
        folder: the base model's, in Hugging Face format.
        name: what an error calls it.
        form: `chat` or `plain`, as `prepare.form` of the recipe.

    Raises:
        DataError: there is no tokenizer, or it has no end mark.
    """

    def __init__(self, folder: Path, name: str, form: str) -> None:
        self.tokenizer, self.form = load_tokenizer(folder), form
        self.chat = ChatTokenizer(self.tokenizer, name)
        self.vocabulary = 1 + max(self.tokenizer.get_vocab().values())
        self.dtype: Literal["uint16", "uint32"] = "uint16" if self.vocabulary <= 1 << 16 else "uint32"
        self.guard, self.guarded = (GUARD, len(self.chat.guard)) if self.chat.marks_beginnings else ("", 0)
        self.begin, self.end = self._array(self.chat.begin), self._array([self.tokenizer.eos_token_id])
        self.is_control = np.zeros(self.vocabulary, bool)
        self.is_control[list(self.chat.control_ids)] = True
        self.encode_one: Encode | None = None
        """gigatoken's function, where it goes on with that."""
        self.spent = 0
        """Characters that it has met."""
        self.fixed: dict[tuple[int, ...], np.ndarray] = {}
        """Template text as tokens, an array for each."""

    def hasten(self, sample: Iterable[Document]) -> str:
        """Go on with gigatoken, if it is wanted, there, and gives the same ids on this sample; else the reason why not.

        data_prep/gigatokens.py says which documents of a shard to give. The ids are the same in either case.
        """
        texts = (text for document in sample for text in self._texts(document))
        if self.spent > RENEWED:
            self.encode_one, self.spent = None, 0
        self.encode_one, reason = checked_engine(self.chat, texts, self.encode_one)
        return reason

    def encode(self, documents: Iterable[Document]) -> Iterator[Encoded]:
        """Tokenise documents in their order.

        Raises:
            DataError: the chat template does not show where an assistant's turn begins and ends.
        """
        for batch in _batches(documents, lambda document: len(document.content)):
            found = list(self._ids(batch))
            controlled = self.is_control[np.concatenate([ids for own in found for ids in own])].any()
            for document, own in zip(batch, found, strict=True):
                encoded = self._document(document, own, controlled=bool(controlled))
                yield self._with_rejected(encoded) if document.rejected and not encoded.reason else encoded

    def _document(self, document: Document, own: list[np.ndarray], *, controlled: bool = True) -> Encoded:
        """`controlled`: there may be a control token among its ids."""
        if controlled and any(self.is_control[ids].any() for ids in own):
            return self._refused(document, own, "holds a control token that cannot be written as text")
        if document.messages and self.form == "chat":
            return self._chat(document, own)
        return self._plain(document, own)

    def _with_rejected(self, chosen: Encoded) -> Encoded:
        """Put the rejected answer beside the chosen one: the same prompt, and the tokens that follow it."""
        document = chosen.document
        turns = (*document.messages[:-1], document.messages[-1]._replace(content=document.rejected))
        twin = document._replace(messages=turns, rejected="")
        other = self._document(twin, next(self._ids([twin])))
        prompt = int(np.argmax(chosen.supervised_T))
        if other.reason or not np.array_equal(other.tokens_T[:prompt], chosen.tokens_T[:prompt]):
            reason = other.reason or "its prompt has other tokens before the rejected answer"
            return self._refused(document, [chosen.tokens_T], f"the rejected answer {reason}")
        return chosen._replace(rejected_T=other.tokens_T[prompt:])

    def _texts(self, document: Document) -> list[str]:
        """What is tokenised by itself. In plain form a space stands before an answer and a line end before a question."""
        said = [message.content for message in document.messages] or [document.text]
        if self.form == "chat" or not document.messages:
            return said
        before = [" " if message.role == "assistant" else "\n" for message in document.messages]
        return [said[0], *(mark + text for mark, text in zip(before[1:], said[1:], strict=True))]

    def _ids(self, batch: Sequence[Document]) -> Iterator[list[np.ndarray]]:
        """The token ids of each document's texts. Only the first text of the plain form begins with nothing before it."""
        strings: list[str] = []
        guarded: list[int] = []
        sizes: list[list[int]] = []
        for document in batch:
            opens = self.form == "plain" or not document.messages
            sizes.append([])
            for text in self._texts(document):
                parts = [text] if len(text) <= LONG else list(self._parts(text))
                bare = opens and not sizes[-1]
                strings += [part if bare and not place else self.guard + part for place, part in enumerate(parts)]
                guarded += [0 if bare and not place else self.guarded for place in range(len(parts))]
                sizes[-1].append(len(parts))
        self.spent += sum(map(len, strings))
        found = (own for some in _batches(strings, len, AT_ONCE) for own in self._encoded(some))
        ids = iter([own[skip:] for own, skip in zip(found, guarded, strict=True)])
        for own_sizes in sizes:
            yield [next(ids) if size == 1 else np.concatenate([next(ids) for _ in range(size)]) for size in own_sizes]

    def _parts(self, text: str) -> Iterator[str]:
        """A long text, cut where its tokens are the same with and without the cut."""
        start = 0
        while len(text) - start > LONG:
            cut = self._seam(text, start + LONG // 2, start + LONG)
            yield text[start:cut]
            start = cut
        if start < len(text):
            yield text[start:]

    def _seam(self, text: str, start: int, end: int) -> int:
        """The first good place to cut from `start` on; the end of the text if there is none."""
        for found in SEAM.finditer(text, start, end):
            cut = found.end()
            left, right = text[cut - REACH : cut], text[cut : cut + REACH]
            whole, before, after = self.chat.ids_after([left + right, left, right])
            if whole == before + after:
                return cut
        return len(text)

    def _encoded(self, texts: list[str]) -> list[np.ndarray]:
        if self.encode_one is not None:
            return [self.encode_one(text).astype(self.dtype) for text in texts]
        return [self._array(ids) for ids in self.chat.ids(texts)]

    def _array(self, ids: Sequence[int]) -> np.ndarray:
        return np.array(ids, self.dtype)

    def _plain(self, document: Document, own: list[np.ndarray]) -> Encoded:
        """The texts one after the other, with the end mark after a text or an answer."""
        if not document.messages and len(own[0]):
            tokens_T = np.concatenate((self.begin, own[0], self.end))
            supervised_T = np.ones(len(tokens_T), np.uint8)
            supervised_T[: max(len(self.begin), 1)] = 0
            return Encoded(document, tokens_T, supervised_T)
        roles = [message.role for message in document.messages] or ["assistant"]
        parts, learnt = [self.begin], [False]
        for role, ids in zip(roles, own, strict=True):
            answers = role == "assistant"
            parts += [ids, self.end] if answers else [ids]
            learnt += [True, True] if answers else [False]
        return self._joined(document, parts, learnt)

    def _chat(self, document: Document, own: list[np.ndarray]) -> Encoded:
        from jinja2 import TemplateError

        said = [message.content for message in document.messages]
        try:
            pieces = self.chat.pieces(tuple(message.role for message in document.messages))
            joined = "".join(piece.text if piece.message < 0 else said[piece.message] for piece in pieces)
            reason = "" if joined == self.chat.render(document.messages) else "changed by the chat template"
        except LeftOutError:
            pieces, reason = [], "a turn is left out by the chat template"
        except TemplateError:
            pieces, reason = [], "refused by the chat template"
        if reason:
            return self._refused(document, own, reason)
        parts = [self._fixed(piece.tokens) if piece.message < 0 else own[piece.message] for piece in pieces]
        return self._joined(document, parts, [piece.learnt for piece in pieces])

    def _fixed(self, ids: tuple[int, ...]) -> np.ndarray:
        if ids not in self.fixed:
            self.fixed[ids] = self._array(ids)
        return self.fixed[ids]

    def _joined(self, document: Document, parts: list[np.ndarray], learnt: list[bool]) -> Encoded:
        """The parts up to the last one that is learnt."""
        last = max((place for place, part in enumerate(parts) if learnt[place] and len(part)), default=-1)
        if last < 0:
            return self._refused(document, parts, "has no answer to learn")
        sizes = [len(part) for part in parts[: last + 1]]
        supervised_T = np.repeat(np.array(learnt[: last + 1], np.uint8), sizes)
        supervised_T[0] = 0
        return Encoded(document, np.concatenate(parts[: last + 1]), supervised_T)

    def _refused(self, document: Document, own: list[np.ndarray], reason: str) -> Encoded:
        lost = sum(map(len, own))
        return Encoded(document, self._array([]), np.empty(0, np.uint8), reason=reason, lost=lost)


def fit(encoded: Encoded, length: int, overlong: str) -> Encoded:
    """Conversations must fit into a row of `length` tokens: cut with `truncate`, else left out. Text is split later."""
    size = len(encoded.tokens_T)
    if encoded.rejected_T is not None:  # one that is cut would be preferred for its length
        longest = max(size, size - int(encoded.supervised_T.sum()) + len(encoded.rejected_T))
        return encoded if longest <= length else encoded._replace(reason="longer than a row", lost=size)
    if not encoded.document.messages or size <= length:
        return encoded
    if overlong != "truncate":
        return encoded._replace(reason="longer than a row", lost=size)
    if not encoded.supervised_T[:length].any():
        return encoded._replace(reason="answer beyond a row", lost=size)
    return encoded._replace(
        tokens_T=encoded.tokens_T[:length], supervised_T=encoded.supervised_T[:length], truncated=size - length
    )


def _batches(items: Iterable[Item], size: Callable[[Item], int], most: int = BATCH_CHARACTERS) -> Iterator[list[Item]]:
    """Items in lists of about so many characters."""
    batch: list[Item] = []
    total = 0
    for item in items:
        batch.append(item)
        total += size(item)
        if total >= most:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch
