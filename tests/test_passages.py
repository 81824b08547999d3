"""Repeated passages: what is one, what is cut, and that everything else stays byte for byte."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from data_prep import passages
from data_prep.passages import boilerplate, cut_passages, passages_of
from data_prep.units import texts_of
from tests.conftest import SHARED, needs_shared

NOTICE = "This notice stands at the end of every page of this manual, whatever it is about."
NOTIZ = "本手册每一页的末尾都印有这一段完全相同的说明文字，无论该页讲的是什么内容。"


def passages_in(text: str) -> list[str]:
    """The text of each passage, with the blank lines after it."""
    found = passages_of(texts_of([text]))
    assert found.counts.tolist() == [len(found.hashes_P)]
    return [text[start:end] for start, end in zip(found.starts_P.tolist(), found.ends_P.tolist(), strict=True)]


def shards_of(texts: list[str], size: int) -> list[partial[tuple[np.ndarray, np.ndarray]]]:
    found = [passages_of(texts_of(texts[start : start + size])) for start in range(0, len(texts), size)]
    return [partial(tuple, (it.hashes_P, it.counts)) for it in found]


def cuts_of(texts: list[str], most: int, size: int = 3, alive: list[bool] | None = None) -> list[tuple[int, int]]:
    """(document, hash) over all shards."""
    parts = boilerplate(shards_of(texts, size), np.array([True] * len(texts) if alive is None else alive), most)
    return [(number * size + document, value) for number, part in enumerate(parts) for document, value in part.tolist()]


@pytest.mark.parametrize(
    "text",
    [
        NOTICE,
        NOTIZ,
        "This notice stands at the end of every page of this\nmanual, whatever it is about.",
        "    " + NOTICE,
        "“" + NOTICE + "”",
        "menu home contact " * 30,
    ],
)
def test_a_passage_begins_and_ends_as_a_sentence_or_is_a_very_long_line(text: str) -> None:
    """40 letters or digits, or 20 Chinese characters, and an end mark; or 400 letters without one."""
    assert passages_in(f"# Title\n\n{text}\n\nEnd.\n") == [f"{text}\n\n"]


@pytest.mark.parametrize(
    "text",
    [
        "Short sentences say too little.",
        "这句话太短了。",
        "Notes to the consolidated financial statements of the group",
        "# This heading is a whole sentence of more than forty letters.",
        "- This item of a list is a sentence of more than forty letters.",
        "2. Press the button that is shown in the upper right corner of the page.",
        "b) the button that is shown in the upper right corner of the page is pressed.",
        "三、本条所称的从业人员是指在本行政区域内从事相关工作的全体人员。",
        "第三条　国家工作人员有前款行为的，依照本法的规定给予相应的处分。",
        "| Field | Type of the field | whether it may be empty | what it is for. |",
        "<p>This paragraph of a web page was not taken out of its markup.</p>",
        "```\nprint the words of this line of code and nothing else whatsoever.\n```",
        "```python\nprint the words of this line of code and nothing else whatsoever.\n\n```",
        "-" * 60 + ".",
    ],
)
def test_headings_items_articles_tables_markup_and_code_are_no_passages(text: str) -> None:
    assert passages_in(f"Before.\n\n{text}\n\nAfter.\n") == []


def test_half_a_sentence_is_no_passage() -> None:
    """A line that goes on in small letters does not end at `Inc.`, and what follows a heading or an end mark begins."""
    text = (
        "This report was made by the employees of Example Trading Inc.\nand is told to nobody else.\n"
        "It has a second sentence that is long enough to stand for itself.\nThe third one goes on and on and\nhas no end mark"
    )
    first, second = passages_in(text)
    assert first.endswith("nobody else.\n") and second.startswith("It has") and second.endswith("itself.\n")


def test_what_is_cut_takes_its_blank_lines_along_and_nothing_else_changes() -> None:
    rest = "An own sentence,  with odd  spaces \r\nand ﬁne letters: ½™.\n\n"
    text = f"\ufeffTitle\r\n\r\n{NOTICE}\r\n \t\r\n{rest}{NOTICE.upper()}"
    marked = set(passages_of(texts_of([NOTICE])).hashes_P.tolist())
    left = cut_passages([text, text, "", NOTICE, text], [marked, set(), marked, marked, marked])
    assert left == [f"\ufeffTitle\r\n\r\n{rest}", text, "", "", f"\ufeffTitle\r\n\r\n{rest}"]
    assert cut_passages([], []) == []


def test_numbers_and_signs_of_one_letter_tell_passages_apart() -> None:
    one = "The rate of the loan that is granted to every member is 1½ percent."
    assert len({int(passages_of(texts_of([one.replace("½", sign)])).hashes_P[0]) for sign in "½¼¾5"}) == 4


def test_the_first_document_keeps_what_stands_in_more_than_three() -> None:
    """NOTICE in 5 of 6 documents, NOTIZ in 3: the first is cut out of four, though one of them has it twice."""
    texts = [f"Own text {number}.\n\n{NOTICE}\n" for number in range(5)] + ["Nothing.\n"]
    texts[4] += f"\n{NOTICE}\n"
    for number in (0, 2, 4):
        texts[number] += f"\n{NOTIZ}\n"
    hashed = int(passages_of(texts_of([NOTICE])).hashes_P[0])
    assert cuts_of(texts, 3) == [(number, hashed) for number in (1, 2, 3, 4)]
    assert cuts_of(texts, 5) == []
    assert {number for number, _ in cuts_of(texts, 2)} == {1, 2, 3, 4}
    assert len(cuts_of(texts, 2)) == 6
    assert cuts_of(texts, 3, size=1) == cuts_of(texts, 3, size=6) == cuts_of(texts, 3)
    assert cut_passages([texts[1], texts[4]], [{hashed}] * 2) == [
        "Own text 1.\n\n",
        f"Own text 4.\n\n{NOTIZ}\n",
    ]


def test_documents_that_are_out_neither_count_nor_keep() -> None:
    texts = [f"Own text {number}.\n\n{NOTICE}\n" for number in range(5)]
    assert [number for number, _ in cuts_of(texts, 3, alive=[False, True, True, True, True])] == [2, 3, 4]
    assert cuts_of(texts, 3, alive=[False, True, False, True, True]) == []
    assert boilerplate([], np.empty(0, bool), 8) == []
    assert [part.shape for part in boilerplate(shards_of(["", "a"], 1), np.ones(2, bool), 8)] == [(0, 2), (0, 2)]


def test_counting_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        f"{NOTICE}\n{NOTIZ}\nThis sentence is one of seven that take turns: number {number % 7}.\n"
        for number in range(40)
    ]
    whole = cuts_of(texts, 4)
    monkeypatch.setattr(passages, "AT_ONCE", 9)
    assert cuts_of(texts, 4) == whole
    assert len(whole) == 39 + 39 + 33


def test_a_passage_does_not_depend_on_the_texts_beside_it() -> None:
    texts = ["Unfinished", "", NOTICE, "```", NOTIZ, "\n", f"a line\n{NOTICE}"]
    together = passages_of(texts_of(texts))
    assert together.counts.tolist() == [0, 0, 1, 0, 1, 0, 1]
    alone = [passages_of(texts_of([text])).hashes_P.tolist() for text in texts]
    assert together.hashes_P.tolist() == [value for values in alone for value in values]


@needs_shared
def test_of_python_s_proposals_the_licence_goes_and_of_chinese_laws_nothing() -> None:
    """Of 751 proposals, more than 600 lose the sentence on the public domain; of 212 laws, none loses a character."""
    from configs.read import read_rows

    lost = {}
    for path in ("general/peps/peps.tar.zst", "urban/cn-laws-core/cn-laws-core.tar.zst"):
        texts = [str(row.fields["text"]) for row in read_rows([SHARED / path])]
        cuts = cuts_of(texts, 8, size=200)
        gone = {value for _, value in cuts}
        found = passages_of(texts_of(texts))
        joined = "".join(texts)
        spans = zip(found.hashes_P.tolist(), found.starts_P.tolist(), found.ends_P.tolist(), strict=True)
        lost[path] = len(cuts), {joined[start:end] for value, start, end in spans if value in gone}
    (proposals, sentences), (laws, _) = lost.values()
    assert proposals > 600 and all("public domain" in " ".join(it.lower().split()) for it in sentences)
    assert laws == 0
