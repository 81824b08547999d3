"""Rows to documents: the recipe's templates applied, and an id given; what has not the declared shape is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.chat import Message
from configs.errors import DataError, did_you_mean
from configs.store import digest_bytes
from configs.template import columns_of, template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from configs.read import Row
    from configs.recipe import Source
    from data_prep.ledger import Account

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "agent": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
"""What data sets call the speakers (ShareGPT, PIXIU, OpenAI, Gemma), and what chat templates call them."""


@dataclass(frozen=True, slots=True)
class Document:
    """One record of a source after rendering: plain text, or a conversation."""

    id: str
    """Digest of the source's name and the content: stable from run to run."""
    source: str
    where: str
    """File and line it came from."""
    text: str = ""
    messages: tuple[Message, ...] = ()
    rejected: str = ""
    """The answer that the last message is preferred to; kept beside it, never learnt."""
    group: str = ""
    """Documents with the same key never stand on both sides of the validation split."""
    digest: str = ""
    """Digest of the normalised content; set by the search for duplicates."""

    @property
    def content(self) -> str:
        """All its text, the turns of a conversation one below the other."""
        return "\n".join(message.content for message in self.messages) if self.messages else self.text


class _UnusableError(Exception):
    """A row that has not the shape that the recipe declares; (reason, detail)."""


def documents_of(source: Source, rows: Iterator[Row], account: Account) -> Iterator[Document]:
    """Select and render; the first row decides which columns there are, and what kind of value they hold."""
    render = _renderer(source)
    kinds: dict[str, bool] = {}
    used = [text for text in (source.text, source.prompt, source.answer, source.group) if text]
    columns = sorted({column for text in used for column in columns_of(text)})
    first = True
    for row in rows:
        if not _selected(source, row):
            account.drop("not selected", row.where)
            continue
        try:
            _check_kinds(row, columns, kinds)
            yield render(row)
        except _UnusableError as error:
            account.reading.take_back(str(error.args[0]), row.where, str(error.args[1]))
        except DataError as error:
            if first:
                raise DataError(error.message, where=f"{source.name}, {row.where}", hint=error.hint) from error
            account.reading.take_back("template cannot be filled", row.where, error.message)
        first = False


def _selected(source: Source, row: Row) -> bool:
    """The filters `where` and `where_not`; values are compared as text."""
    for column in (*source.where, *source.where_not):
        if column not in row.fields:
            hint = did_you_mean(column, map(str, row.fields)) or f"It has: {', '.join(map(str, row.fields))}."
            raise DataError(f"no column {column} to select by", where=f"{source.name}, {row.where}", hint=hint)
    return all(str(row.fields[column]) in values for column, values in source.where.items()) and not any(
        str(row.fields[column]) in values for column, values in source.where_not.items()
    )


def _check_kinds(row: Row, columns: list[str], kinds: dict[str, bool]) -> None:
    """A column that holds text must not hold a list in another row, nor the other way round."""
    for column in columns:
        value = row.fields.get(column)
        if value is not None and kinds.setdefault(column, isinstance(value, list | dict)) != isinstance(
            value, list | dict
        ):
            raise _UnusableError("a column changes its type", f"{column} holds a {type(value).__name__}")


def _renderer(source: Source) -> Callable[[Row], Document]:
    """The function from a row to a document of this source's shape."""
    group = template(source.group) if source.group else lambda _fields: ""
    if source.text is not None:
        text = template(source.text)

        def plain(row: Row) -> Document:
            return _document(source, row, text(row.fields), (), group(row.fields))

        return plain
    if source.prompt is not None and source.answer is not None:
        prompt, answer = template(source.prompt), template(source.answer)

        def pair(row: Row) -> Document:
            turns = Message("user", prompt(row.fields).strip()), Message("assistant", answer(row.fields).strip())
            return _document(source, row, "", turns, group(row.fields))

        return pair
    field = source.messages or ""

    def conversation(row: Row) -> Document:
        if field not in row.fields:
            hint = did_you_mean(field, map(str, row.fields)) or f"It has: {', '.join(map(str, row.fields))}."
            raise DataError(f"no column {field}", hint=hint)
        return _document(source, row, "", _turns(row.fields[field]), group(row.fields))

    return conversation


def _turns(value: Any) -> tuple[Message, ...]:
    """A list of {role, content} or {from, value} as messages."""
    if not isinstance(value, list) or not value:
        raise _UnusableError("not a conversation", f"a list of turns is expected, got {type(value).__name__}")
    turns = []
    for turn in value:
        role = turn.get("role", turn.get("from")) if isinstance(turn, dict) else None
        content = turn.get("content", turn.get("value")) if isinstance(turn, dict) else None
        if not isinstance(content, str):
            raise _UnusableError("not a conversation", "a turn needs role and content, or from and value, as text")
        if role not in ROLES:
            raise _UnusableError("unknown role", f"{role!r}; known: {', '.join(ROLES)}")
        turns.append(Message(ROLES[role], content.strip()))
    return tuple(turns)


def _document(source: Source, row: Row, text: str, messages: tuple[Message, ...], group: str) -> Document:
    said = "\x1e".join(f"{role}\x1f{content}" for role, content in messages)
    identity = digest_bytes(f"{source.name}\x1d{text}\x1d{said}".encode("utf-8", "surrogatepass"))[:16]
    return Document(identity, source.name, row.where, text, messages, group=group)
