"""What the record of a corpus says of itself, in the words of the card and the report."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from configs.datasheet import WHOLE, counted, datasheet, findings, leaks
from configs.records import Corpus, SourceLedger, made_by
from configs.view import Found, cell, record_view
from data_prep import leaks as judged

FOUND = {"email": 3, "phone": 12}


def corpus(policy: str = "mask", decontaminate: str = "drop", **keys) -> Corpus:
    """Two sources, and a task of 200 items of which two are touched, one of them in whole."""
    reports = SourceLedger(
        name="reports", channel="sector", licence="CC-BY-4.0", languages={"en": 40, "zh-Hans": 2}, personal=FOUND,
        mended={"HTML remains": 7},
    )  # fmt: skip
    books = SourceLedger(name="books", channel="general", licence="CC-BY-NC-SA-4.0", exercises={"table": 1200})
    settings = {
        "prepare.decontaminate": decontaminate,
        "corpora[reports].personal": policy,
        "corpora[books].personal": "off",
    }
    items = {"moods": {"a" * 64: 0.8, "b" * 64: 0.79}, "pairs": {}}
    given = {
        "sources": (reports, books),
        "near_duplicates": 0.7,
        "checked": {"moods": 200, "pairs": 48},
        "touched": {task: tuple(parts) for task, parts in items.items()},
        "coverage": items,
    }
    return Corpus(
        name="test", settings=settings, inputs={}, files={}, made=made_by("data_prep", 0.0), sector="finance",
        tokenizer="t", vocabulary=320, token_dtype="uint16", sequence_length=64, documents=42, tokens=420, rows_train=6,
        rows_validation=1, tokens_train=360, supervised_train=360, padding_train=0.0, **(given | keys),
    )  # fmt: skip


def test_the_terms_of_the_mixture_are_those_of_its_strictest_source():
    assert datasheet(corpus())["Terms"] == (
        "Strictest licence: noncommercial. Highest grade: general (GB/T 43697-2024). Allowed: research. "
        "CC-BY-4.0, CC-BY-NC-SA-4.0: name the authors and say what was changed. CC-BY-NC-SA-4.0: share-alike: adapted "
        "material that is passed on stays under the same licence. CC-BY-NC-SA-4.0: no commercial use."
    )


def test_an_item_is_found_in_whole_from_80_percent_of_its_units_on():
    """0.80 is, 0.79 is not."""
    assert WHOLE == judged.WHOLE
    assert leaks(corpus()) == [("moods", 200, 2, 1), ("pairs", 48, 0, 0)]


@pytest.mark.parametrize(
    ("decontaminate", "told"),
    [
        ("drop", "Those documents were left out."),
        ("cut", "Those sentences were cut out of texts; conversations that hold some were left out."),
        ("report", "Those documents were kept, as the recipe says."),
    ],
)
def test_the_leaks_are_told_task_by_task_with_what_became_of_them(decontaminate, told):
    assert datasheet(corpus(decontaminate=decontaminate))["Leaks"] == (
        "Test items that share a long passage with a document as it was read: moods 2 of 200 (1 in whole); "
        f"pairs 0 of 48. {told}"
    )


def test_where_nothing_was_compared_it_is_said():
    found = datasheet(corpus(decontaminate="off", checked={}, touched={}, coverage={}, near_duplicates=None))
    assert found["Leaks"] == "Test items were not looked for."
    assert found["Duplicates"] == "Documents with the same content count as one."
    assert "overlap by 0.7 or more (Jaccard)" in datasheet(corpus())["Duplicates"]


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("mask", "phone 12, email 3; a mark stands in their place"),
        ("drop", "phone 12, email 3; their documents were left out"),
        ("report", "phone 12, email 3; they stay as they are"),
        ("off", "not looked for"),
    ],
)
def test_personal_data_are_told_by_kind_with_what_was_done(policy, told):
    made = corpus(policy)
    assert findings(made, made.sources[0]) == {
        "Languages": "en 40, zh-Hans 2",
        "Mended": "HTML remains 7",
        "Personal data": told,
    }


def test_what_there_was_nothing_of_is_left_out():
    made = corpus()
    assert findings(made, made.sources[1]) == {"Personal data": "not looked for", "Exercises": "table 1,200"}
    assert findings(made, made.sources[0].model_copy(update={"personal": {}}))["Personal data"] == "none found"
    assert counted({}) == ""


def test_a_terminal_shows_how_many_items_are_touched_and_not_their_digests():
    assert cell(corpus().coverage) == "moods: 2 entries, pairs: 0 entries"


def test_thirteen_sources_fit_on_120_columns_one_row_each():
    """The longest licence and nine-digit counts; of 10 rows 3 are left out and 2 were not selected; 1 of 4 tokens counts."""
    sources = tuple(
        SourceLedger(
            name=f"source_{number:02}", channel="sector", licence="CC-BY-NC-SA-4.0", rows=123_456_789, documents=23_456_789,
            refused={"not UTF-8": 1}, dropped={"duplicate": 2, "not selected": 2}, tokens=4_000_000_000,
            supervised=1_000_000_000, truncated=4, lost=5, repeats=1.25, personal=FOUND,
            languages={"fr": 1, "en": 40, "zh-Hans": 2}, mended={"HTML remains": 7}, encodings={"utf-8": 3},
        )
        for number in range(13)
    )  # fmt: skip
    console = Console(width=120, record=True, file=io.StringIO(), highlight=False)
    console.print(record_view(Found(Path("runs/test/corpus/corpus.json"), corpus(sources=sources))))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 120
    rows = [line.split() for line in lines if line.lstrip().startswith("source_")]
    assert [row[0] for row in rows] == [source.name for source in sources]
    counts = "CC-BY-NC-SA-4.0 123,456,789 23,456,789 3 4,000,000,000 25 % 9 1.25 15 en zh-Hans"
    assert {" ".join(row[1:]) for row in rows} == {counts}
    assert any("--json" in line for line in lines)
