"""Sources to documents: rows are selected, rendered by the recipe's templates, and given an id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.chat import Message
from configs.errors import DataError, StorageError, did_you_mean
from configs.job import find_files
from configs.progress import track
from configs.read import Row, read_rows
from configs.store import crash_point, digest_bytes
from configs.template import columns_of, template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from configs.job import Job
    from configs.recipe import Prepare, Source
    from data_prep.ledger import Account, Ledger

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
HUB = "hf:"


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


def read_sources(job: Job, ledger: Ledger) -> Iterator[Document]:
    """The documents of all sources in the recipe's order; what cannot be used is booked in the ledger.

    Raises:
        DataError: a file is missing or damaged, a source has no rows, a column is not there, or more than
            `max_bad_rows` of a source's rows cannot be used.
        UnsafeArtefactError: an archive or a file that is not safe to open.
    """
    with track("reading", len(job.recipe.corpora), "sources") as bar:
        for source in job.recipe.corpora:
            account = ledger.accounts[source.name]
            yield from _documents(source, _rows(source, job, account), account)
            _check_rows(source, account, job.recipe.prepare)
            crash_point("prepare.source")
            bar.advance()


def source_files(source: Source, roots: tuple[Path, ...]) -> list[Path]:
    """The local files of a source, in the order they are read.

    Raises:
        DataError: a path matches nothing.
        UnsafeArtefactError: a file lies outside of the roots.
    """
    return [file for path in _paths(source) if not path.startswith(HUB) for file in find_files(path, roots)]


def _paths(source: Source) -> tuple[str, ...]:
    return (source.path,) if isinstance(source.path, str) else source.path


def _rows(source: Source, job: Job, account: Account) -> Iterator[Row]:
    for path in _paths(source):
        if path.startswith(HUB):
            yield from _hub_rows(path.removeprefix(HUB), account)
            continue
        yield from read_rows(
            find_files(path, job.roots),
            path.partition("!")[2],
            format=source.format,
            encoding=source.encoding,
            columns=source.columns,
            records=source.records,
            max_record_bytes=job.recipe.prepare.max_record_bytes,
            reading=account.reading,
        )


def _hub_rows(name: str, account: Account) -> Iterator[Row]:
    """The training split of a hub data set, streamed: plain data only, never its code (`org/name@revision`)."""
    from datasets import load_dataset

    name, _, revision = name.partition("@")
    try:
        stream = load_dataset(name, split="train", revision=revision or None, streaming=True)
        for number, fields in enumerate(stream, 1):
            account.reading.rows += 1
            yield Row(fields, f"{HUB}{name}:{number}")
    except Exception as error:  # datasets, fsspec and huggingface_hub each raise their own kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = "Check the network with `sectorlm doctor`, or give local files."
        raise StorageError(f"the data set cannot be read from the hub ({reason})", where=name, hint=hint) from error


def _documents(source: Source, rows: Iterator[Row], account: Account) -> Iterator[Document]:
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
    return Document(identity, source.name, row.where, text, messages, group)


def _check_rows(source: Source, account: Account, prepare: Prepare) -> None:
    reading = account.reading
    files = ", ".join(_paths(source))
    bad = reading.refused.total()
    if bad > prepare.max_bad_rows * reading.rows:
        raise DataError(
            f"{bad:,} of {reading.rows:,} rows cannot be used, more than max_bad_rows ({prepare.max_bad_rows:.2%}):\n  "
            + "\n  ".join(reading.examples),
            where=source.name,
            hint="Mend the file, or allow more with `prepare: {max_bad_rows: ...}`; all of them are counted.",
        )
    if reading.rows == 0:
        raise DataError(f"0 rows in {files}", where=source.name, hint="Is it the right file, and complete?")
