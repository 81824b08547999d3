"""Rows to documents: the recipe's templates applied, and an id given; what has not the declared shape is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from configs.chat import Message
from configs.errors import DataError, did_you_mean
from configs.store import digest_bytes
from configs.template import printed_bare, template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from configs.read import Row
    from configs.recipe import Source
    from data_prep.ledger import Account

SPEAKERS = {
    "system": ("system",),
    "user": ("user", "human", "usr", "customer", "client", "patient", "prompter", "question", "instruction"),
    "assistant": ("assistant", "agent", "gpt", "chatgpt", "bot", "model", "sys", "doctor", "answer", "response"),
}
"""What chat templates call the speakers, and what data sets do (OpenAI, ShareGPT, PIXIU, Gemma, CrossWOZ, OASST, MedDialog)."""
ROLES = {name: role for role, names in SPEAKERS.items() for name in names}
ROLE_KEYS = ("role", "from", "speaker", "author")
CONTENT_KEYS = ("content", "value", "text", "utterance")


class Document(NamedTuple):
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
        return content_of(self.text, self.messages)


def content_of(text: str, messages: Sequence[Message]) -> str:
    """All text of a document, the turns of a conversation one below the other."""
    return "\n".join(message.content for message in messages) if messages else text


class _UnusableError(Exception):
    """A row that has not the shape that the recipe declares; (reason, detail)."""


class _Shape(NamedTuple):
    """What a row becomes."""

    text: str = ""
    messages: tuple[Message, ...] = ()
    rejected: str = ""


def first_row_kinds(source: Source, row: Row) -> dict[str, bool]:
    """Check a source's first row; for each column that is printed as it is, whether it holds a list or an object.

    A column without a value says nothing, and is not among them; nor does a row that is not selected. Columns that a
    template takes apart are its own business. The answer is the same for all parts of a source.

    Raises:
        DataError: the row lacks a column, a template cannot be filled, or `messages` is no conversation.
    """
    if not is_selected(source, row):
        return {}
    try:
        _renderer(source)(row.fields)
    except _UnusableError as error:
        reason, detail = error.args
        raise DataError(f"{reason}: {detail}", where=f"{source.name}, {row.where}") from error
    except DataError as error:
        raise DataError(error.message, where=f"{source.name}, {row.where}", hint=error.hint) from error
    values = {column: row.fields.get(column) for column in _columns(source)}
    return {column: isinstance(value, list | dict) for column, value in values.items() if value is not None}


def documents_of(
    source: Source, rows: Iterable[Row], account: Account, kinds: Mapping[str, bool]
) -> Iterator[Document]:
    """Select and render; a row that has not the shape of the first one (`kinds`) is refused, counted in `account`."""
    render = _renderer(source)
    group = template(source.group) if source.group else None
    selects = bool(source.where or source.where_not)
    for row in rows:
        if selects and not is_selected(source, row):
            account.drop("not selected", row.where)
            continue
        try:
            _check_kinds(row, kinds)
            shape = render(row.fields)
            key = group(row.fields) if group else ""
        except _UnusableError as error:
            account.reading.take_back(str(error.args[0]), row.where, str(error.args[1]))
        except DataError as error:
            account.reading.take_back("template cannot be filled", row.where, error.message)
        else:
            text, messages, rejected = shape
            said = "\x1e".join([f"{role}\x1f{content}" for role, content in messages]) if messages else ""
            told = "\x1d".join((source.name, text, said, rejected) if source.rejected else (source.name, text, said))
            identity = digest_bytes(told.encode("utf-8", "surrogatepass"))[:16]
            yield Document(identity, source.name, row.where, text, messages, rejected, key)


def _columns(source: Source) -> list[str]:
    """The columns that the templates print as they are."""
    given = (source.text, source.prompt, source.answer, source.chosen, source.rejected, source.group)
    return sorted({column for text in given if text for column in printed_bare(text)})


def is_selected(source: Source, row: Row) -> bool:
    """The filters `where` and `where_not`; values are compared as text.

    Raises:
        DataError: the row lacks a column to select by.
    """
    for column in (*source.where, *source.where_not):
        if column not in row.fields:
            raise DataError(
                f"no column {column} to select by",
                where=f"{source.name}, {row.where}",
                hint=_there_are(column, row.fields),
            )
    return all(str(row.fields[column]) in values for column, values in source.where.items()) and not any(
        str(row.fields[column]) in values for column, values in source.where_not.items()
    )


def _there_are(column: str, fields: Mapping[str, Any]) -> str:
    return did_you_mean(column, map(str, fields)) or f"It has: {', '.join(map(str, fields))}."


def _check_kinds(row: Row, kinds: Mapping[str, bool]) -> None:
    """A column that holds text must not hold a list in another row, nor the other way round."""
    for column, nested in kinds.items():
        value = row.fields.get(column)
        if value is not None and isinstance(value, list | dict) != nested:
            raise _UnusableError("a column changes its type", f"{column} holds a {type(value).__name__}")


# ---------------------------------------------------------------- shapes


def _renderer(source: Source) -> Callable[[Mapping[str, Any]], _Shape]:
    """The function from a row's fields to what it becomes."""
    if source.text is not None:
        text = template(source.text)
        return lambda fields: _Shape(text=text(fields))
    if source.prompt is not None:
        prompt = template(source.prompt)
        answer = template(source.answer or source.chosen or "")
        rejected = template(source.rejected or "")

        def pair(fields: Mapping[str, Any]) -> _Shape:
            turns = Message("user", prompt(fields).strip()), Message("assistant", answer(fields).strip())
            return _Shape(messages=turns, rejected=rejected(fields).strip())

        return pair
    field = source.messages or ""

    def conversation(fields: Mapping[str, Any]) -> _Shape:
        if field not in fields:
            raise DataError(f"no column {field}", hint=_there_are(field, fields))
        return _Shape(messages=messages_of(fields[field]))

    return conversation


def messages_of(value: Any) -> tuple[Message, ...]:
    """A conversation as messages: a list of turns, of plain texts in turn (the user begins), or of question-answer pairs.

    A turn is an object that names its speaker (`role`, `from`, `speaker`, `author`) and its words (`content`, `value`,
    `text`, `utterance`); other keys are passed over.

    >>> messages_of([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]) == messages_of(["Hi", "Hello"])
    True
    """
    if not isinstance(value, list) or not value:
        raise _UnusableError("not a conversation", f"a list of turns is expected, got {type(value).__name__}")
    if all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        value = [text for pair in value for text in pair]
    if all(isinstance(text, str) for text in value):
        return tuple(Message(("user", "assistant")[number % 2], text.strip()) for number, text in enumerate(value))
    return tuple(_turn(turn) for turn in value)


def _turn(turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise _UnusableError("not a conversation", f"a turn is a {type(turn).__name__}, not an object")
    role = next((turn[key] for key in ROLE_KEYS if key in turn), None)
    content = next((turn[key] for key in CONTENT_KEYS if key in turn), None)
    if not isinstance(content, str):
        raise _UnusableError("not a conversation", "a turn needs role and content, or from and value, as text")
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise _UnusableError("unknown role", f"{role!r}; known: {', '.join(ROLES)}")
    return Message(ROLES[role.lower()], content.strip())
