"""Text and conversations as token ids: the one place that both training and evaluation ask, so that they never differ.

A conversation goes through the model's own chat template, rendered around place holders that tell where each turn
stands. Template text and content are tokenised apart: a turn's borders are token borders, and the name of a control
token that stands literally in a content stays plain text.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedTokenizerBase

TODAY = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"
"""What templates that write the date are told, or a corpus would differ from day to day: Llama 3's own default."""
GUARD = "\n"
"""Stands before a text that follows another one, where a tokenizer begins every text with a mark of its own."""
MARK = re.compile(r"<[|｜].+[|｜]>|\[/?[A-Z][A-Z_]*\]|</?s>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>")
"""The shapes of control tokens' names: `<|im_end|>` (OpenAI, Qwen, Llama 3, Phi; DeepSeek with full-width bars), `[INST]`
(Mistral, BERT), `</s>` (Llama 2), `<end_of_turn>` (Gemma)."""


class Message(NamedTuple):
    """One turn of a conversation."""

    role: str
    content: str


class Piece(NamedTuple):
    """A piece of a rendered conversation: the template's own text, or the place of message number `message`."""

    text: str
    tokens: tuple[int, ...]
    learnt: bool
    """Whether the model writes it itself: an answer, what it says before one, and the mark that ends its turn."""
    message: int = -1


class LeftOutError(DataError):
    """The chat template leaves a turn of such a conversation out."""


class ChatTokenizer:
    """A tokenizer with its chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        self.tokenizer, self.name = tokenizer, name
        self.backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        if self.backend is not None:
            self.backend.no_truncation()
            self.backend.no_padding()
        self.begin = [token for token in tokenizer("")["input_ids"] if token == tokenizer.bos_token_id]
        """The mark that this model expects before a text, if any."""
        self.control = self._control_tokens()
        """Names and ids of the tokens that no document may speak."""
        self.control_ids = frozenset(self.control.values())
        names = sorted(self.control, key=len, reverse=True)
        self.control_names = re.compile("|".join(map(re.escape, names)) or "(?!)")
        self.strict: Any = None
        self.shapes: dict[tuple[str, ...], list[Piece]] = {}
        self.guard, alone, after = self.ids([GUARD, "x", f"{GUARD}x"])
        self.marks_beginnings = after != [*self.guard, *alone]
        """True of SentencePiece tokenizers like Llama 2's, which put a space before every text."""

    def ids(self, texts: Sequence[str], *, control: bool = False) -> list[list[int]]:
        """Token ids of each text, without any mark; names of control tokens become such only with `control`.

        A few vocabularies (Unigram models) hold such a name as a piece of text: there it stays a control token, and
        whoever must not have one looks for `control_ids`.
        """
        if self.backend is None:
            plain = {"add_special_tokens": False, "split_special_tokens": not control}
            return [self.tokenizer.encode(text, **plain) for text in texts]
        self.backend.encode_special_tokens = not control
        found = [one.ids for one in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]
        if not control:
            for place, own in enumerate(found):
                if not self.control_ids.isdisjoint(own):
                    found[place] = self._as_text(texts[place])
        return found

    def ids_after(self, texts: Sequence[str], *, control: bool = False) -> list[list[int]]:
        """The same of texts that follow another one."""
        if not self.marks_beginnings:
            return self.ids(texts, control=control)
        guarded = self.ids([GUARD + text for text in texts], control=control)
        return [own[len(self.guard) :] for own in guarded]

    def pieces(self, roles: tuple[str, ...]) -> list[Piece]:
        """The pieces of a conversation with these roles; the same for all such conversations.

        Raises:
            LeftOutError: the template does not write one of the turns.
            DataError: the template does not show where an assistant's turn begins and ends.
            jinja2.TemplateError: the template refuses such a conversation.
        """
        if roles in self.shapes:
            return self.shapes[roles]
        marks = [Message(role, f"\ue000{number}\ue001") for number, role in enumerate(roles)]
        whole, cursor, pieces = self.render(marks), 0, []
        for number, mark in enumerate(marks):
            place, end = whole.find(mark.content, cursor), 0
            if place < 0:
                raise self._unfit(f"leaves out the {mark.role}'s message", LeftOutError)
            if mark.role == "assistant":
                before = self.render(marks[:number], ask=True)
                if not whole.startswith(before) or not cursor <= len(before) <= place:
                    raise self._unfit("writes another beginning when it asks for an answer than when it has one")
                pieces.append(self._template(whole[cursor : len(before)], learnt=False))
                cursor, end = len(before), self._turn_end(marks[: number + 1])
            pieces.append(self._template(whole[cursor:place], learnt=mark.role == "assistant"))
            pieces.append(Piece("", (), mark.role == "assistant", number))
            cursor = place + len(mark.content)
            pieces.append(self._template(whole[cursor : cursor + end], learnt=True))
            cursor += end
        pieces.append(self._template(whole[cursor:], learnt=False))
        self.shapes[roles] = [piece for piece in pieces if piece.text or piece.message >= 0]
        return self.shapes[roles]

    def render(self, messages: Sequence[Message], *, ask: bool = False) -> str:
        """The conversation as the template writes it; with `ask` up to where the assistant begins to speak."""
        turns = [{"role": role, "content": content} for role, content in messages]
        template = TODAY + self.tokenizer.get_chat_template()
        rendered = self.tokenizer.apply_chat_template(
            turns, chat_template=template, tokenize=False, add_generation_prompt=ask
        )
        return str(rendered)

    def _template(self, text: str, *, learnt: bool) -> Piece:
        return Piece(text, tuple(self.ids_after([text], control=True)[0]), learnt)

    def _turn_end(self, marks: list[Message]) -> int:
        """Characters after the last message's content that end its turn: up to the first control token."""
        rendered = self.render(marks)
        tail = rendered[rendered.rindex(marks[-1].content) + len(marks[-1].content) :]
        control = self.control_names.search(tail)
        length = control.end() if control else len(tail.rstrip())
        if not length:
            raise self._unfit("does not mark the end of the assistant's turn")
        return length

    def _control_tokens(self) -> dict[str, int]:
        """The special tokens, and of the other added ones those in the chat template or in the shape of a mark.

        The rule for the template is that of transformers' `sanitize_control_tokens`. What remains is text that got a
        token of its own: runs of spaces (GPT-NeoX), HTML tags (Gemma).
        """
        template = self.tokenizer.get_chat_template() if self.tokenizer.chat_template else ""
        return {
            added.content: number
            for number, added in self.tokenizer.added_tokens_decoder.items()
            if added.special
            or MARK.fullmatch(added.content)
            or (added.content in template and not added.content.isspace())
        }

    def _as_text(self, text: str) -> list[int]:
        """Ids of a text with the name of a control token that is not special, and so is no text to the backend."""
        if self.strict is None:
            from tokenizers import Tokenizer

            marked = with_added_tokens(
                self.backend, lambda added: added | {"special": added["special"] or added["content"] in self.control}
            )
            self.strict = Tokenizer.from_str(marked)
            self.strict.encode_special_tokens = True
        ids: list[int] = self.strict.encode(text, add_special_tokens=False).ids
        return ids

    def _unfit(self, what: str, kind: type[DataError] = DataError) -> DataError:
        return kind(
            f"the chat template {what}: what is asked and what is answered cannot be told apart",
            where=f"chat template of {self.name}",
            hint="Use a base with another template, or put a chat_template.jinja in ChatML form into its folder.",
        )


def with_added_tokens(backend: Any, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> str:
    """The tokenizer.json of a backend with each of its added tokens changed, or left out where `change` gives None.

    Only that list is parsed: the vocabulary below it would be a hundred megabytes of Python objects.
    """
    whole: str = backend.to_str()
    start = whole.index('"added_tokens":') + len('"added_tokens":')
    added, end = json.JSONDecoder().raw_decode(whole, start)
    changed = [token for token in map(change, added) if token is not None]
    return whole[:start] + json.dumps(changed, ensure_ascii=False) + whole[end:]
