"""From a passage or an id to documents, rows and runs; removal requests, and the runs that they taint."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.base import load_tokenizer, tokenizer_digest
from configs.errors import DataError, RecipeError
from configs.find import find_in_corpus, find_view
from configs.records import Corpus, SourceLedger, made_by
from configs.sample import packed_rows, row_view
from configs.show import Asked, show
from configs.store import files_of
from configs.taint import mark_tainted, runs_that_saw, taint_of, tainted_runs, tell_tainted
from configs.view import drawn
from data_prep.exclude import exclusion

TEXTS = {
    "a" * 16: ("The bank raised its\n interest  rate in March.", "train"),
    "b" * 16: ("央行下调了贷款利率，Ｊａｎｅ Doe 说。", "train"),
    "c" * 16: ("A patient came to the clinic in March.", "validation"),
}
ROW = 32
"""Tokens of a packed row."""
RECIPE = """
name: {name}
sector: finance
base: {base}
corpora: [{{name: notes, path: notes.jsonl, text: "{{{{ text }}}}", licence: CC0-1.0}}]
evaluate: {{tasks: [finance_topics]}}
"""


def make_corpus(runs, name, base, texts=TEXTS):
    """A corpus of three documents, cut into rows of 32 tokens, a document to a row where it fits; its folder."""
    folder = runs / name / "corpus"
    folder.mkdir(parents=True)
    (runs / name / "recipe.yaml").write_text(RECIPE.format(name=name, base=base), "utf-8")
    tokenizer = load_tokenizer(base)
    tokens, segments, lines, rows = [], [], [], 0
    for number, (identity, (text, split)) in enumerate(texts.items(), 1):
        ids = [*tokenizer.encode(text), tokenizer.eos_token_id]
        lines.append((identity, "notes", split, f"notes.jsonl:{number}", len(tokens), len(ids)))
        for start in range(0, len(ids), ROW):
            segments.append((rows, len(tokens) + start, min(ROW, len(ids) - start), 0))
            rows += 1
        tokens += ids
    np.array(tokens, np.uint16).tofile(folder / "tokens.bin")
    np.ones(len(tokens), np.uint8).tofile(folder / "supervised.bin")
    np.save(folder / "segments.npy", np.array(segments, np.int64))
    columns = ("id", "source", "split", "where", "start", "tokens")
    table = {column: [line[place] for line in lines] for place, column in enumerate(columns)}
    pq.write_table(pa.table(table), folder / "documents.parquet")
    source = SourceLedger(name="notes", channel="sector", licence="CC0-1.0")
    Corpus(
        name="same", settings={}, inputs={}, files=files_of(folder), made=made_by("data_prep", 0.0), sector="finance",
        tokenizer=tokenizer_digest(base), vocabulary=320, token_dtype="uint16", sequence_length=ROW, sources=(source,),
        documents=len(texts), tokens=len(tokens), rows_train=rows - 1, rows_validation=1, tokens_train=len(tokens),
        supervised_train=1, padding_train=0.0,
    ).write(folder / "corpus.json")  # fmt: skip
    return folder


def make_run(runs, name, corpus):
    """A run record that names a corpus by its content; only its inputs are ever asked for."""
    folder = runs / name / "run"
    folder.mkdir(parents=True)
    digest = Corpus.read(corpus / "corpus.json").content()
    (folder / "run.json").write_text(json.dumps({"inputs": {"corpus": digest, "base x": "0"}}), "utf-8")
    return folder


@pytest.fixture
def corpus(tmp_path, tiny_base):
    return make_corpus(tmp_path / "runs", "first", tiny_base)


# ---------------------------------------------------------------- find


def test_a_text_is_found_whatever_its_case_width_and_spacing(corpus):
    """`THE BANK raised its interest rate` stands in the first document with a line end and two spaces in it."""
    [hit] = find_in_corpus(corpus, "THE  BANK raised its interest rate")
    assert (hit.document, hit.source, hit.where, hit.split) == ("a" * 16, "notes", "notes.jsonl:1", "train")
    assert (hit.before, hit.found, hit.after) == ("", "The bank raised its interest rate", " in March.<|endoftext|>")
    [wide] = find_in_corpus(corpus, "利率,jane doe")
    assert (wide.document, wide.found) == ("b" * 16, "利率，Ｊａｎｅ Doe")


def test_every_document_that_holds_the_text_is_named_up_to_the_limit(corpus):
    assert [hit.split for hit in find_in_corpus(corpus, "in march.")] == ["train", "validation"]
    assert len(find_in_corpus(corpus, "in march.", limit=1)) == 1
    assert find_in_corpus(corpus, "in April") == []


def test_a_document_is_found_by_its_id_with_all_rows_that_hold_a_piece_of_it(corpus):
    [hit] = find_in_corpus(corpus, "b" * 16)
    pieces = packed_rows(corpus, 0, hit.rows)
    assert len(hit.rows) > 1 and list(hit.rows) == list(range(hit.rows[0], hit.rows[-1] + 1))
    assert "".join(piece.text for row in pieces.values() for piece in row).endswith("Doe 说。<|endoftext|>")


def test_of_a_long_document_only_the_row_that_holds_the_text_is_named(tmp_path, tiny_base):
    """60 numbered sentences over many rows: the last one stands in the last row, the first in the first."""
    text = " ".join(f"The bank raised rate {number} in March." for number in range(60))
    long = make_corpus(tmp_path / "runs", "long", tiny_base, {"d" * 16: (text, "train"), **TEXTS})
    [whole] = find_in_corpus(long, "d" * 16)
    [first], [last] = (find_in_corpus(long, f"rate {number} in") for number in (0, 59))
    assert len(whole.rows) > 20
    assert first.rows == (0,) and set(last.rows) <= set(whole.rows[-2:])
    shown = packed_rows(long, 0, last.rows)
    assert "rate 59 in" in "".join(piece.text for pieces in shown.values() for piece in pieces)


def test_looking_for_nothing_or_in_no_corpus_is_refused(corpus, tmp_path):
    with pytest.raises(RecipeError, match="nothing to look for"):
        find_in_corpus(corpus, " \n")
    with pytest.raises(DataError, match="no such record"):
        find_in_corpus(tmp_path / "nowhere", "rate")


def test_the_view_names_document_rows_passage_and_runs(corpus, tmp_path):
    run = make_run(tmp_path / "runs", "first", corpus)
    shown = "\n".join(map(drawn, find_view(find_in_corpus(corpus, "clinic"), runs_that_saw(corpus))))
    for part in ("c" * 16, "notes.jsonl:3", "validation, row 3", "clinic", str(run)):
        assert part in shown.replace("\n", "")
    assert "not found" in drawn(find_view([], [])[0])


GONE = [
    {"source": "notes", "id": "e" * 16, "where": "7.txt", "reason": "excluded"},
    {"source": "notes", "id": "", "where": "8.txt", "reason": "not UTF-8"},
    {"source": "notes", "id": "a" * 16, "where": "notes.jsonl:9", "reason": "duplicate"},
]


def test_a_document_that_was_left_out_is_answered_with_its_reason_and_the_tainted_runs_that_saw_it(corpus, tmp_path):
    """`e` was excluded; of the two runs only `old` learnt from it. `a` is here, whatever became of its second copy."""
    (corpus / "dropped.jsonl").write_text("".join(json.dumps(line) + "\n" for line in GONE))
    old, new = (make_run(tmp_path / "runs", name, corpus) for name in ("old", "new"))
    mark_tainted({old: ("e" * 16,), new: ("f" * 16,)}, ["e" * 16])
    found, [view, runs] = show(corpus, Asked(find="e" * 16), [], list)
    assert found["left_out"] == [{"document": "e" * 16, "source": "notes", "where": "7.txt", "reason": "excluded"}]
    assert (found["documents"], found["tainted"]) == ([], [str(old)])
    assert "left out: excluded, 7.txt" in drawn(view) and "notes" in drawn(view)
    assert runs.plain == f"tainted runs, which saw it before it was left out:\n  {old}"
    found, _ = show(corpus, Asked(find="a" * 16), [], list)
    assert (len(found["documents"]), found["left_out"], found["tainted"]) == (1, [], [])
    found, [view] = show(corpus, Asked(find="d" * 16), [], list)
    assert (found["left_out"], drawn(view)) == ([], "not found in this corpus")


def test_rows_name_file_and_line_of_each_document_on_a_terminal(corpus):
    """The first document fills rows 0 and following alone; a row that starts in its middle names its line too."""
    rows = find_in_corpus(corpus, "b" * 16)[0].rows
    packed = packed_rows(corpus, 0, [0, *rows])
    assert {piece.where for piece in packed[0]} == {"notes.jsonl:1"}
    assert {piece.where for row in rows for piece in packed[row]} == {"notes.jsonl:2"}
    assert "-- notes, notes.jsonl:1, token 0\n" in row_view(0, packed[0], colour=False).plain


# ---------------------------------------------------------------- runs


def test_runs_of_any_name_count_where_their_corpus_is_the_same_by_digest(corpus, tmp_path, tiny_base):
    """`second` has a copy of the corpus, `third` another one."""
    runs = tmp_path / "runs"
    other = make_corpus(runs, "third", tiny_base, dict(list(TEXTS.items())[1:]))
    saw = [make_run(runs, "first", corpus), make_run(runs, "second", corpus)]
    third = make_run(runs, "third", other)
    assert runs_that_saw(corpus) == runs_that_saw(corpus.parent) == saw  # also from its run folder
    assert runs_that_saw(other) == [third]


def test_a_removal_taints_every_run_that_was_trained_on_the_document(corpus, tmp_path, tiny_base, capsys):
    """`a` stands in the first corpus only, `b` in both; `c` was held out for validation, so nobody learnt it."""
    runs = tmp_path / "runs"
    other = make_corpus(runs, "third", tiny_base, dict(list(TEXTS.items())[1:]))
    first, third = make_run(runs, "first", corpus), make_run(runs, "third", other)
    assert tainted_runs(corpus, {"a" * 16}) == {first: ("a" * 16,)}
    assert tainted_runs(corpus, {"b" * 16}) == {first: ("b" * 16,), third: ("b" * 16,)}
    assert tainted_runs(corpus, {"c" * 16, "d" * 16}) == {}
    found = tainted_runs(corpus, lambda identity: identity < "b")
    tell_tainted(found)
    told = capsys.readouterr().err
    assert str(first) in told and "a" * 16 in told and "train these runs again" in told
    assert found == {first: ("a" * 16,)}


def test_a_run_whose_corpus_was_replaced_since_is_named_because_nobody_can_judge_it(corpus, tmp_path, capsys):
    run = make_run(tmp_path / "runs", "first", corpus)
    (run / "run.json").write_text(json.dumps({"inputs": {"corpus": "0" * 64}}))
    assert tainted_runs(corpus, {"a" * 16}) == {}
    assert f"{run}: its corpus is no longer here" in capsys.readouterr().err
    assert tainted_runs(corpus, set()) == {} and capsys.readouterr().err == ""


def test_the_mark_of_a_run_names_the_requests_and_grows_with_the_next_one(corpus, tmp_path):
    run = make_run(tmp_path / "runs", "first", corpus)
    assert taint_of(run) is None
    mark_tainted({run: ("a" * 16,)}, ["a" * 16])
    mark_tainted({run: ("b" * 16,)}, ["text:Jane Doe"])
    assert taint_of(run) == {"requests": ["a" * 16, "text:Jane Doe"], "documents": ["a" * 16, "b" * 16]}
    (run / "tainted.json").write_text("{")
    with pytest.raises(DataError, match="not a mark"):
        taint_of(run)


def test_a_damaged_run_record_is_told_and_does_not_hide_the_others(corpus, tmp_path, capsys):
    run = make_run(tmp_path / "runs", "first", corpus)
    broken = tmp_path / "runs" / "broken" / "run" / "run.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{}")
    assert runs_that_saw(corpus) == [run]
    assert "is not known" in capsys.readouterr().err


# ---------------------------------------------------------------- exclude


def test_requests_are_ids_or_patterns_of_the_text():
    gone = exclusion(["00c0ffee00c0ffee", r"text:张三丰?", r"text:(?i)jane\s+doe"])
    assert gone("00c0ffee00c0ffee", "")
    assert gone("1" * 16, "患者张三，男") and gone("1" * 16, "JANE\nDOE")
    assert not gone("1" * 16, "李四") and not exclusion([])("1" * 16, "x")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("text:(", "not a regular expression"),
        ("text:", "matches every document"),
        ("text:x*", "matches every document"),
        ("Jane Doe", "neither the id of a document nor a pattern"),
        ("00C0FFEE", "neither the id"),
    ],
)
def test_a_request_that_means_nothing_is_refused(request_, message):
    with pytest.raises(RecipeError, match=message):
        exclusion([request_])
