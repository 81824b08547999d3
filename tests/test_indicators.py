"""Indicators of a corpus: values that can be checked by hand, and no value where there is nothing to compute it from."""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.indicators import indicator_table, indicators
from configs.records import Corpus, SourceLedger, made_by
from configs.view import drawn

CODES = [*(f"010{n}" for n in range(1, 5)), *(f"020{n}" for n in range(1, 9)), *(f"030{n}" for n in range(1, 6))]


def corpus(*sources):
    made = made_by("data_prep", 0.0).model_copy(update={"finished": "2026-11-23T10:00:00Z"})
    return Corpus(
        name="r",
        settings={"sector": "finance", "use": "research", "prepare.ngram": 13},
        inputs={"a.txt": "0" * 64},
        files={"tokens.bin": "0" * 64},
        made=made,
        sector="finance",
        tokenizer="0" * 64,
        vocabulary=320,
        token_dtype="uint16",
        sequence_length=64,
        sources=sources,
        documents=sum(source.documents for source in sources),
        tokens=2000,
        rows_train=10,
        rows_validation=1,
        tokens_train=sum(source.tokens_train for source in sources),
        supervised_train=1000,
        padding_train=0.1,
        checked={"fomc": 100},
    )


def ledger(name, **more):
    return SourceLedger(name=name, channel="sector", licence="MIT", **more)


MINUTES = ledger(
    "minutes", rows=10, documents=6, tokens_train=600, origin="Federal Reserve", time="1996/2024", languages={"en": 6}
)
FORUM = ledger("forum", rows=10, refused={"malformed": 5}, documents=2, tokens_train=600)


@pytest.fixture
def found(tmp_path):
    """Eight documents, six of them minutes: two with the same digest, three with personal data, one of them a minute."""
    table = pa.table(
        {
            "digest": [f"{n:064x}"[::-1] for n in (1, 2, 3, 4, 5, 6, 7, 7)],
            "where": [f"m.txt:{n}" for n in range(8)],
            "source": ["minutes"] * 6 + ["forum"] * 2,
            "personal": pa.array([0, 0, 2, 0, 0, 0, 1, 3], pa.int32()),
        }
    )
    pq.write_table(table, tmp_path / "documents.parquet")
    return {it.code: it for it in indicators(corpus(MINUTES, FORUM), tmp_path)}


def test_the_seventeen_indicators_come_in_the_order_of_the_standard(found):
    assert list(found) == CODES


def test_each_says_how_it_was_computed_or_what_it_lacks(found):
    assert all(it.how if it.value is not None else it.missing for it in found.values())
    assert [code for code, it in found.items() if it.value is None] == ["0203", "0206", "0207", "0304", "0305"]


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("0101", 3 / 5),  # forum has no origin, and nobody to ask is named
        ("0102", 2 / 5),  # no counts of labels, no examples, no limitations
        ("0103", 2 / 5),  # forum has no origin; how it was collected and annotated nobody says
        ("0104", 3 / 5),  # results and cases stand elsewhere
        ("0201", 15 / 20),  # 5 of 20 rows were malformed
        ("0202", 5 / 8),  # 3 of 8 documents with personal data
        ("0204", 70 / 72),  # nine fields of eight documents, two without original_time
        ("0205", 6 / 8),  # the forum's two documents have no origin
        ("0208", 7 / 8),  # one digest twice
        ("0301", 2.0),  # two sources of 600 tokens each
        ("0302", 1200),
        ("0303", 2.0),  # six documents up to 2024, prepared in 2026; the others have no time
    ],
)
def test_the_values_are_those_that_one_computes_by_hand(found, code, value):
    assert found[code].value == pytest.approx(value)


def test_what_would_fill_a_gap_is_named(found):
    assert "give `origin` to forum" in found["0101"].missing
    assert found["0204"].missing == "original_time: give `time` to forum"
    assert found["0303"].missing == "give `time` to forum"


def test_a_source_in_which_personal_data_are_not_looked_for_is_not_counted_as_free_of_them(found, tmp_path):
    """The forum's two documents leave the count: five of six minutes are clear."""
    whole = corpus(MINUTES, FORUM)
    off = whole.model_copy(update={"settings": whole.settings | {"corpora[forum].personal": "off"}})
    safety = indicators(off, tmp_path)[5]
    assert (safety.code, safety.value) == ("0202", pytest.approx(5 / 6))
    assert safety.missing.endswith("personal data are not looked for in forum")


def test_two_sources_of_600_and_200_tokens_count_as_1_75(tmp_path):
    """exp(0.75 ln(4/3) + 0.25 ln 4) = 1.7548."""
    small = FORUM.model_copy(update={"tokens_train": 200})
    by_code = {it.code: it.value for it in indicators(corpus(MINUTES, small), tmp_path)}
    assert by_code["0301"] == pytest.approx(math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4)))


def test_without_documents_and_columns_there_is_no_value_rather_than_a_guess(tmp_path):
    bare = {it.code: it for it in indicators(corpus(MINUTES), tmp_path)}
    assert (bare["0202"].value, bare["0208"].value) == (None, None)
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "documents.parquet")
    thin = {it.code: it for it in indicators(corpus(MINUTES), tmp_path)}
    assert "no count of personal data" in thin["0202"].missing
    assert "no column `digest`" in thin["0208"].missing


def test_an_empty_corpus_divides_by_nothing(tmp_path):
    values = {it.code: it.value for it in indicators(corpus(ledger("a")), tmp_path)}
    assert [values[code] for code in ("0201", "0204", "0205", "0301", "0303")] == [None] * 5


def test_the_table_shows_codes_names_values_and_reasons(found):
    shown = drawn(indicator_table(list(found.values())))
    assert "内容干净性" in shown
    assert "0.875" in shown
    assert "1,200" in shown
    assert all(code in shown for code in CODES)
