"""Plain text and Markdown: a file is one record, or each line or each block of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from configs.reading import Ask, Found, Reading, as_text, encoding_of, lines_of, trouble_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from configs.archives import Member


def about(member: Member) -> dict[str, Any]:
    """The fields that every text file has beside its `text`: `title` (its name without the ending) and `file`."""
    name = member.where.rpartition("!")[2]
    return {"title": name.rpartition("/")[2].rpartition(".")[0] or name, "file": name}


def read_text(member: Member, ask: Ask, reading: Reading) -> Found:
    """The whole file is one record; with `records: lines` each line, with `records: blocks` what empty lines part.

    NUL bytes, which damage leaves behind, are taken out and counted.

    Raises:
        DataError: `records` is something else.
    """
    if ask.records:
        yield from _pieces(member, ask, reading)
        return
    encoding = encoding_of(member, ask, reading)
    content = as_text(member, encoding).read(ask.max_record_bytes + 1)
    if (trouble := trouble_of(content, ask, encoding)) is not None:
        reading.refuse(trouble, member.where)
    elif content := _without_nul(content, reading):
        yield {"text": content, **about(member)}, 0


def _without_nul(text: str, reading: Reading) -> str:
    if "\0" not in text:
        return text
    reading.left_out["NUL bytes"] += text.count("\0")
    return text.replace("\0", "")


def _pieces(member: Member, ask: Ask, reading: Reading) -> Found:
    if ask.records not in ("lines", "blocks"):
        raise DataError(
            f"a text file has no {ask.records!r}", where=member.where, hint="Use `records: lines` or `records: blocks`."
        )
    found = _blocks(lines_of(member, ask, reading)) if ask.records == "blocks" else lines_of(member, ask, reading)
    for line, number in found:
        if (text := _without_nul(line, reading)).strip():
            yield {"text": text.rstrip("\r\n"), **about(member)}, number


def _blocks(lines: Iterator[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Lines up to the next empty one as one text, with the number of the first."""
    block: list[str] = []
    first = 1
    for line, number in lines:
        if line.strip():
            first = first if block else number
            block.append(line)
        elif block:
            yield "".join(block), first
            block = []
    if block:
        yield "".join(block), first
