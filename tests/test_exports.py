"""What is written beside a corpus: texts that were left out, the records of a standard; and what `show` and `check` print."""

from __future__ import annotations

import datetime
import decimal
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.load import load_recipe
from data_prep.standard import validate_tc609
from tests.recipes import balances, corpus, digest, documents, lines, notes, prose, read_lines, recipe, sectorlm, source

PAIRS = {"prompt": "{{ q }}", "answer": "{{ a }}"}
BOILER = "All rights are kept by the central company of the land, and nothing may be copied."
DROPPED = "runs/small/dropped-texts.jsonl"
RECORDS = "runs/small/tc609/records.jsonl"
KEYS = {"sequence_length": 512, "near_duplicates": None}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mixed(tiny_base: Path) -> list[dict]:
    """Five sources that lose documents in every way: copies, no answer, personal data, boilerplate, too long, a request.

    Two files have one name and the same first row; rows 21 and 22 of `boiler` become equal when the boilerplate is cut.
    """
    for year, start in (("2023", 0), ("2024", 100)):
        Path(year).mkdir()
        Path(year, "d.jsonl").write_text(notes(0, 1) + notes(start + 1, start + 20))
    asked = [{"q": prose(200 + n, 1), "a": prose(300 + n, 1 if n else 60) if n % 5 != 1 else ""} for n in range(20)]
    Path("pairs.jsonl").write_text(lines(asked))
    marks = [" Write to jane.doe@bank.com." if n % 4 == 0 else "" for n in range(20)]
    Path("private.jsonl").write_text(lines([{"body": prose(400 + n) + mark} for n, mark in enumerate(marks)]))
    same = f"{BOILER}\n\n{BOILER.upper()}"
    rows = [f"{BOILER}\n\n{prose(900 + n)}" for n in range(20)] + [f"{same}\n\n{prose(919)}"]
    Path("boiler.jsonl").write_text(lines([{"body": body} for body in [*rows, BOILER]]))
    Path("chosen~1.jsonl").write_text(
        lines([{"q": prose(600 + n, 1), "c": prose(700 + n, 1), "r": prose(800 + n, 1)} for n in range(10)])
    )
    sources = [
        source(["2023/d.jsonl", "2024/d.jsonl"], name="years", time="2023/2024", origin="A bank"),
        source("pairs.jsonl", **PAIRS, time="2020", origin="A bank"),
        source("private.jsonl", personal="drop", time="2020", origin="A bank"),
        source("boiler.jsonl", time="2020", origin="A bank"),
        source("chosen~1.jsonl", name="chosen", prompt="{{ q }}", chosen="{{ c }}", rejected="{{ r }}", time="2020"),
    ]
    recipe(tiny_base, *sources, **KEYS, exclude=[f"text:^{prose(110)[:30]}"])
    return sources


def test_every_document_that_was_read_and_left_out_is_kept_with_its_text_and_reason(mixed):
    done = sectorlm("prepare", "r.yaml", "--keep-dropped")
    assert (done.code, f"dropped texts: {DROPPED}" in done.err) == (0, True), done.err
    assert balances()
    counted = {it.name: dict(it.dropped) for it in corpus().sources}
    assert counted["years"] == {"duplicate": 1, "excluded": 1}
    assert counted["pairs"] == {"longer than a row": 1, "no answer": 4}
    assert counted["private"] == {"personal data": 5}
    assert counted["boiler"] == {"duplicate after cutting": 1, "only boilerplate": 1}
    kept = read_lines(DROPPED)
    for name in ("years", "private"):
        counted[name] = {reason: n for reason, n in counted[name].items() if reason == "duplicate"}
    expected = Counter({(name, reason): n for name, own in counted.items() for reason, n in own.items()})
    assert Counter((it["source"], it["reason"]) for it in kept) == expected
    texts = Path(DROPPED).read_text("utf-8")
    assert "jane.doe" not in texts and prose(110)[:30] not in texts
    copy = next(it for it in kept if it["source"] == "years")
    assert (copy["text"], copy["where"]) == (prose(0), "2024/d.jsonl: d.jsonl:1")
    silent = next(it for it in kept if it["reason"] == "no answer")
    assert silent["messages"] == [{"role": "user", "content": prose(201, 1)}, {"role": "assistant", "content": ""}]


def test_an_unchanged_corpus_is_exported_without_being_made_again(mixed):
    assert sectorlm("prepare", "r.yaml", "--keep-dropped", "--standard", "tc609").code == 0
    first = Path(DROPPED).read_bytes(), Path(RECORDS).read_bytes()
    record = Path("runs/small/corpus/corpus.json").read_bytes()
    Path(DROPPED).unlink()
    Path(RECORDS).unlink()
    done = sectorlm("prepare", "r.yaml", "--keep-dropped", "--standard", "tc609")
    assert "corpus: unchanged, kept" in done.err
    assert (Path(DROPPED).read_bytes(), Path(RECORDS).read_bytes()) == first
    assert Path("runs/small/corpus/corpus.json").read_bytes() == record


def test_the_records_of_the_standard_are_the_documents_of_the_corpus_in_its_order(mixed):
    """`chosen` states no origin, but every record names file and line; so nothing is lacking anywhere."""
    done = sectorlm("prepare", "r.yaml", "--standard", "tc609")
    found = read_lines(RECORDS)
    assert f"tc609: {len(found)} records in {RECORDS}" in done.err
    assert [it["id"] for it in found] == [it["id"] for it in documents()]
    assert [problem for it in found for problem in validate_tc609(it)] == []
    assert {it["generated_data_indicator"] for it in found} == {0}  # `chosen~1.jsonl` is a name, not an exercise
    assert {it["version"] for it in found} == {corpus().content()}


def test_what_the_recipe_does_not_state_is_counted_and_is_all_that_the_records_lack(tiny_base):
    Path("notes.jsonl").write_text(notes(0, 20))
    recipe(tiny_base, source("notes.jsonl"))
    done = sectorlm("prepare", "r.yaml", "--standard", "tc609")
    assert "20 records: notes: original_time: is empty" in done.err
    assert {problem for it in read_lines(RECORDS) for problem in validate_tc609(it)} == {"original_time: is empty"}


def test_records_read_back_as_sources_give_the_same_documents(mixed, tiny_base):
    """Plain text, pairs and preferred answers: the texts, the tokens and the order are those of before."""
    assert sectorlm("prepare", "r.yaml", "--standard", "tc609").code == 0
    before = [(it["digest"], it["tokens"], it["characters"]) for it in documents()]
    Path("back.jsonl").write_bytes(Path(RECORDS).read_bytes())
    text, question = "{{ data_content[0].content }}", {"prompt": "{{ data_content[0].content }}"}
    shapes = {
        "years": {"text": text},
        "pairs": {**question, "answer": "{{ annotation.label[0].answer }}"},
        "private": {"text": text},
        "boiler": {"text": text},
        "chosen": {
            **question,
            "chosen": "{{ annotation.label[0].answer }}",
            "rejected": "{{ annotation.label[0].rejected }}",
        },
    }
    sources = [
        source("back.jsonl", **shape) | {"name": name, "where": {"source": [name]}} for name, shape in shapes.items()
    ]
    recipe(tiny_base, *sources, **KEYS)
    assert sectorlm("prepare", "r.yaml").code == 0
    assert [(it["digest"], it["tokens"], it["characters"]) for it in documents()] == before


def test_a_dropped_text_can_be_a_source_again(mixed, tiny_base):
    """The conversation that was longer than a row of 512 tokens fits into one of 8,192."""
    assert sectorlm("prepare", "r.yaml", "--keep-dropped").code == 0
    Path("back.jsonl").write_bytes(Path(DROPPED).read_bytes())
    recipe(
        tiny_base,
        source("back.jsonl", messages="messages", where={"reason": ["longer than a row"]}),
        sequence_length=8192,
    )
    assert sectorlm("prepare", "r.yaml").code == 0
    assert (corpus().documents, corpus().sources[0].supervised > 500) == (1, True)


def test_exercises_name_the_document_that_they_were_made_from(tiny_base):
    rows = [{"name": f"Firm {n}", "body": prose(n), "seat": prose(500 + n, 1), "town": n % 3} for n in range(20)]
    Path("table.jsonl").write_text(lines(rows))
    recipe(tiny_base, source("table.jsonl", compose=["table"], group="{{ town }}", time="2020"), sequence_length=512)
    assert sectorlm("prepare", "r.yaml", "--standard", "tc609").code == 0
    found = read_lines(RECORDS)
    ids = {it["source_details"].rpartition("; ")[2]: it["id"] for it in found}
    made = [it for it in found if "~table" in it["source_details"]]
    assert len(made) == corpus().sources[0].composed["table"] >= 20
    for it in made:
        assert it["rid"] == [ids[it["source_details"].split("~")[0]]]
        assert it["generated_data_indicator"] == 1
    assert all(it["rid"] == [] for it in found if it not in made)


def test_a_full_disk_while_exporting_leaves_the_corpus_and_the_export_of_before(mixed, monkeypatch):
    assert sectorlm("prepare", "r.yaml", "--keep-dropped").code == 0
    before = digest(), Path(DROPPED).read_bytes()

    def fail(operation: str, path: Path) -> None:
        if operation == "fsync" and "dropped-texts" in path.name:
            raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("configs.store._fault", fail)
    done = sectorlm("prepare", "r.yaml", "--keep-dropped")
    assert (done.code, "disk is full" in done.err) == (5, True), done.err
    assert (digest(), Path(DROPPED).read_bytes()) == before
    assert [path.name for path in Path("runs/small").iterdir() if path.name.endswith(".part")] == []


# ---------------------------------------------------------------- looking


def shown(*words: str) -> object:
    """The JSON of a verb, strict: NaN is none; the same words without --json print something."""
    told = sectorlm("--json", *words)
    assert told.code == 0, told.err
    found = json.loads(told.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    plain = sectorlm(*words)
    assert (plain.code, bool(plain.out.strip())) == (0, True), plain.err
    return found


def test_a_source_a_corpus_and_its_indicators_are_shown_as_text_and_as_json(mixed):
    assert sectorlm("prepare", "r.yaml").code == 0
    for it in load_recipe(Path("r.yaml"), []).corpora:
        assert len(shown("show", "r.yaml", "--source", it.name)["documents"]) == 3
    assert {it["code"] for it in shown("check", "runs/small/corpus")} >= {"0101", "0201", "0301"}
    assert shown("check", "runs/small/corpus/corpus.json") == shown("check", "runs/small/corpus")
    assert len(shown("show", "runs/small", "--sample", "2")) == 2
    assert shown("show", "runs/small/corpus")
    assert sectorlm("show", "r.yaml", "--source", "nobody").code == 2


def test_a_file_of_any_form_is_shown_with_its_odd_values(tiny_base):
    """Dates, decimals, bytes and NaN have no JSON of their own: they are told as text, and never as invalid JSON."""
    values = {
        "text": [prose(1), None],
        "day": [datetime.date(2024, 3, 20), None],
        "at": [datetime.datetime(2024, 3, 20, 12, tzinfo=datetime.UTC), None],
        "price": [decimal.Decimal("1.50"), None],
        "raw": [b"\xff\x00", b""],
        "part": [float("nan"), float("inf")],
        "deep": [[{"a": [1.5]}], []],
    }
    pq.write_table(pa.table(values), "odd.parquet")
    Path("odd.csv").write_text("a,b\n1,\n")
    Path("nan.jsonl").write_text('{"text": "a", "x": NaN}\n{"text": "b", "x": 1}\n')
    Path("empty.jsonl").write_text("")
    Path("odd.txt").write_text(prose(2))
    for name in ("odd.parquet", "odd.csv", "odd.txt", "nan.jsonl", "empty.jsonl"):
        assert "rows" in shown("show", name), name
    recipe(tiny_base, source("odd.parquet", text="{{ text }}", where={"text": [prose(1)]}))
    assert shown("show", "r.yaml", "--source", "odd")["documents"][0]["text"] == prose(1)


@pytest.mark.parametrize("words", [("show", "none.csv"), ("show", "none"), ("check", "none"), ("show", "a.pkl")])
def test_what_is_not_there_or_not_safe_is_an_error_in_both_forms(words):
    Path("a.pkl").write_bytes(b"\x80\x04K\x01.")
    told = sectorlm(*words)
    assert told.code in (2, 3, 6) and told.err.startswith("sectorlm: "), told
