"""Prepare: from files to a corpus whose ledger accounts for every row and every token."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from configs.errors import DataError, PolicyError, RecipeError, StorageError
from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.records import Corpus
from configs.store import RunFolder, digest_folder, verify_files
from data_prep.prepare import prepare

HOUSE = Path(__file__).resolve().parent.parent
TASK = """
task: questions
dataset_path: json
dataset_kwargs: {data_files: {test: test.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{ q }}"
doc_to_target: "{{ a }}"
metric_list: [{metric: exact_match}]
metadata: {sector: finance, language: [en], licence: CC0-1.0, source: written for this test}
"""
LEAK = "why did the bank raise its interest rate in march of that dry year"


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def work(tmp_path, tiny_base):
    """A folder with a recipe, two sources, a task; `job(KEY=VALUE)` gives the job, with overrides."""
    notes = [
        {"title": f"Note {n}", "body": " ".join(f"Bank {n}{k} changed rate {k + n}." for k in range(n % 7 + 1))}
        for n in range(40)
    ]
    notes[7] = notes[3]  # a duplicate
    notes[9] = {"title": "Leak", "body": f"They asked: {LEAK}?"}
    notes[11] = {"title": "", "body": "x"}
    pairs = [{"q": f"What is item {n}?", "a": f"Item {n} is a rate.", "lang": "en"} for n in range(30)]
    pairs[4]["a"] = ""
    pairs[5]["lang"] = "fr"
    (tmp_path / "notes.jsonl").write_text(lines(notes))
    (tmp_path / "pairs.jsonl").write_text(lines(pairs) + "not json\n")
    (tmp_path / "test.jsonl").write_text(lines([{"q": LEAK, "a": "inflation"}, {"q": "Short?", "a": "yes"}]))
    (tmp_path / "questions.yaml").write_text(TASK)
    (tmp_path / "recipe.yaml").write_text(
        f"""
name: small
sector: finance
base: {tiny_base}
corpora:
  - {{name: notes, path: notes.jsonl, text: "{{{{ title }}}}\\n{{{{ body }}}}", licence: CC0-1.0}}
  - name: pairs
    path: pairs.jsonl
    prompt: "{{{{ q }}}}"
    answer: "{{{{ a }}}}"
    where: {{lang: [en]}}
    licence: MIT
    channel: general
prepare: {{sequence_length: 64, validation: 0.1, max_bad_rows: 0.05}}
evaluate: {{tasks: [questions.yaml], general: []}}
"""
    )

    def job(*overrides):
        path = tmp_path / "recipe.yaml"
        recipe = load_recipe(path, overrides)
        return Job(recipe, (*roots_of(recipe, path), tiny_base.parent), RunFolder(tmp_path / "runs" / recipe.name))

    return tmp_path, job


def test_every_row_of_every_source_is_kept_dropped_or_refused(work):
    folder, job = work
    corpus = prepare(job())
    notes, pairs = corpus.sources
    assert (notes.rows, notes.documents, notes.refused) == (40, 37, {})
    assert notes.dropped == {"duplicate": 1, "leak:questions": 1, "too short": 1}
    assert (pairs.rows, pairs.documents, pairs.refused) == (31, 28, {"malformed JSON": 1})
    assert pairs.dropped == {"no answer": 1, "not selected": 1}
    dropped = [json.loads(line) for line in (folder / "runs/small/corpus/dropped.jsonl").open()]
    assert {(line["where"], line["reason"]) for line in dropped} == {
        ("notes.jsonl:8", "duplicate"),
        ("notes.jsonl:10", "leak:questions"),
        ("notes.jsonl:12", "too short"),
        ("pairs.jsonl:5", "no answer"),
        ("pairs.jsonl:6", "not selected"),
        ("pairs.jsonl:31", "malformed JSON"),
    }


def test_the_files_hold_what_the_record_says(work):
    folder, job = work
    corpus = prepare(job())
    place = folder / "runs/small/corpus"
    verify_files(place, corpus.files)
    tokens = np.fromfile(place / "tokens.bin", corpus.token_dtype)
    supervised = np.fromfile(place / "supervised.bin", np.uint8)
    assert len(tokens) == len(supervised) == corpus.tokens == sum(source.tokens for source in corpus.sources)
    assert supervised.sum() == sum(source.supervised for source in corpus.sources)
    documents = pq.read_table(place / "documents.parquet").to_pylist()
    assert len(documents) == corpus.documents == 65
    ends = [document["start"] + document["tokens"] for document in documents]
    assert [document["start"] for document in documents] == [0, *ends[:-1]]
    assert ends[-1] == corpus.tokens
    for document in documents:
        own = supervised[document["start"] :][: document["tokens"]]
        assert (own[0], own.sum()) == (0, document["supervised"])


def test_rows_hold_every_target_once_and_validation_rows_one_channel(work):
    folder, job = work
    corpus = prepare(job())
    segments = np.load(folder / "runs/small/corpus/segments.npy")
    supervised = np.fromfile(folder / "runs/small/corpus/supervised.bin", np.uint8)
    used = np.zeros(corpus.tokens, int)
    room = np.zeros(corpus.rows_train + corpus.rows_validation, int)
    for row, start, length, _ in segments:
        used[start + 1 : start + length] += 1
        room[row] += length
    assert (used[supervised == 1] == 1).all()
    assert (room > 0).all()
    assert room.max() <= 64
    assert segments[:, 0].tolist() == sorted(segments[:, 0])
    assert room[: corpus.rows_train].sum() == corpus.tokens_train
    assert corpus.padding_train == pytest.approx(1 - corpus.tokens_train / (64 * corpus.rows_train), abs=1e-6)
    for row in range(corpus.rows_train, len(room)):
        assert len({corpus.sources[source].channel for source in segments[segments[:, 0] == row, 3]}) == 1
    assert all(source.tokens_validation > 0 for source in corpus.sources)


def test_the_ledger_names_the_test_items_that_were_touched(work):
    _, job = work
    corpus = prepare(job())
    assert corpus.checked == {"questions": 1}  # "Short?" is too short to tell
    assert len(corpus.touched["questions"]) == 1
    reported = prepare(job("prepare.decontaminate=report"))
    assert reported.touched == corpus.touched
    assert reported.sources[0].documents == corpus.sources[0].documents + 1
    assert prepare(job("prepare.decontaminate=off")).touched == {}


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_another_split(work, tmp_path):
    folder, job = work
    place = folder / "runs/small/corpus"
    patterns = ("*.bin", "*.npy", "*.parquet", "*.jsonl")
    prepare(job())
    first = digest_folder(place, patterns)
    (place / "corpus.json").unlink()
    prepare(job())
    assert digest_folder(place, patterns) == first
    prepare(job("seed=18"))
    assert digest_folder(place, patterns) != first


def test_an_unchanged_corpus_is_kept_and_a_change_is_named(work, capsys):
    folder, job = work
    place = folder / "runs/small/corpus/corpus.json"
    prepare(job())
    before = place.stat().st_mtime_ns
    capsys.readouterr()
    prepare(job("train.rank=8"))  # nothing that prepare depends on
    assert capsys.readouterr().err == "corpus: unchanged, kept\n"
    assert place.stat().st_mtime_ns == before
    with (folder / "notes.jsonl").open("a") as file:
        file.write(lines([{"title": "New", "body": "Another note about the rate."}]))
    prepare(job("prepare.min_chars=11"))
    assert "prepare again: prepare.min_chars 10 -> 11; corpus file notes.jsonl changed" in capsys.readouterr().err
    (folder / "test.jsonl").write_text(lines([{"q": LEAK, "a": "growth"}]))
    prepare(job("prepare.min_chars=11"))
    assert "prepare again: file of task questions.yaml: test.jsonl changed" in capsys.readouterr().err
    (folder / "runs/small/corpus/tokens.bin").write_bytes(b"")
    prepare(job("prepare.min_chars=11"))
    assert "tokens.bin: bytes differ" in capsys.readouterr().err


def test_two_tasks_whose_files_have_one_name_are_both_watched(work, capsys):
    folder, job = work
    (folder / "other").mkdir()
    (folder / "other/more.yaml").write_text(TASK.replace("task: questions", "task: more"))
    (folder / "other/test.jsonl").write_text(lines([{"q": "Why is it so in all of these years?", "a": "no"}]))
    wish = "evaluate.tasks=[questions.yaml, other/more.yaml]"
    prepare(job(wish))
    (folder / "test.jsonl").write_text(lines([{"q": LEAK, "a": "growth"}]))
    prepare(job(wish))
    assert "file of task questions.yaml: test.jsonl changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "override", "message"),
    [
        ("notes.jsonl", "", "", "0 rows in notes.jsonl"),
        ("notes.jsonl", bytes(range(256)) * 50, "", "not a text file"),
        ("notes.jsonl", '{"title": "a", "bdy": "b"}\n', "", "no column body"),
        ("notes.jsonl", '{"title": "a", "body": "b"}\n{"titl', "", "1 of 2 rows cannot be used"),
        ("pairs.jsonl", '{"q": "a", "a": "b"}\n', "", "no column lang to select by"),
        (
            "notes.jsonl",
            '{"title": "a", "body": "b"}\n{"title": "a", "body": ["b"]}\n',
            "",
            "a column changes its type",
        ),
        ("notes.jsonl", '{"title": "a", "body": "b"}\n', "prepare.min_chars=9999", "nothing is left to train on"),
    ],
)
def test_what_is_wrong_with_a_source_is_said(work, name, content, override, message):
    folder, job = work
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        prepare(job(*([override] if override else [])))
    assert message in str(caught.value)
    assert not (folder / "runs/small/corpus").exists()


def test_a_missing_file_names_the_places_that_were_looked_at(work):
    folder, job = work
    (folder / "notes.jsonl").unlink()
    with pytest.raises(DataError, match=r"notes.jsonl: no such file\n  Looked in: "):
        prepare(job())


def test_a_licence_that_forbids_the_use_stops_before_any_work(work):
    folder, job = work
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("CC0-1.0", "CC-BY-NC-4.0"))
    with pytest.raises(PolicyError, match="notes is under CC-BY-NC"):
        prepare(job("use=commercial"))


def test_conversations_in_either_form_are_read_and_a_strange_role_is_refused(work):
    folder, job = work
    talks = [
        {"talk": [{"from": "human", "value": f"q{n} of the rate"}, {"from": "gpt", "value": "a"}]} for n in range(20)
    ]
    talks += [{"talk": [{"role": "user", "content": "q of the bank"}, {"role": "assistant", "content": "a"}]}]
    talks += [{"talk": [{"role": "narrator", "content": "once"}]}]
    (folder / "talks.jsonl").write_text(lines(talks))
    recipe = folder / "recipe.yaml"
    text = recipe.read_text()
    start = text.index("  - {name: notes")
    recipe.write_text(
        text[:start]
        + "  - {name: talks, path: talks.jsonl, messages: talk, licence: MIT}\n"
        + text[text.index("prepare:") :]
    )
    (talks_ledger,) = prepare(job()).sources
    assert (talks_ledger.rows, talks_ledger.documents) == (22, 21)
    assert talks_ledger.refused == {"unknown role": 1}


def test_repairs_are_made_and_counted(work):
    folder, job = work
    notes = [{"title": f"N{n}", "body": f"rate {n} rose\r\nin e\u0301t\u00e9\x00"} for n in range(10)]
    (folder / "notes.jsonl").write_text(lines(notes))
    assert prepare(job()).sources[0].mended == {"control characters": 10, "line ends": 10, "not in NFC": 10}


def test_a_protected_code_is_no_telephone_number_and_the_same_digits_elsewhere_are(work):
    """Ten orders with a part number of eleven digits, which a mobile number has too, and one mobile number each."""
    folder, job = work
    notes = [{"title": f"N{n}", "body": f"Part PN-13800138{n:03} was changed; call 13912345{n:03}."} for n in range(10)]
    (folder / "notes.jsonl").write_text(lines(notes))
    assert prepare(job()).sources[0].personal["phone_cn"] == 20
    assert prepare(job("prepare.protect=['PN-[0-9]+']")).sources[0].personal["phone_cn"] == 10
    with pytest.raises(RecipeError, match="holds in every place"):
        job("prepare.protect=['x*']")


def test_what_is_dropped_stands_in_the_order_of_the_rows_though_rows_are_read_ahead(work):
    """Lines 1 and 3 hold an address, 2 is no JSON, 4 is a plain note."""
    folder, job = work
    rows = [{"title": "", "body": f"Write to note{n}@bank.org about the rate."} for n in range(2)]
    first, second = lines(rows).splitlines(keepends=True)
    (folder / "notes.jsonl").write_text(f"{first}not json\n{second}" + lines([{"title": "", "body": "The rate rose."}]))
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("path: notes.jsonl,", "path: notes.jsonl, personal: drop,"))
    made = job("prepare.max_bad_rows=0.5")
    prepare(made)
    found = [json.loads(line) for line in (made.folder.corpus / "dropped.jsonl").read_text().splitlines()]
    own = [(line["where"], line["reason"]) for line in found if line["where"].startswith("notes.jsonl")]
    assert own[:3] == [
        ("notes.jsonl:1", "personal data"),
        ("notes.jsonl:2", "malformed JSON"),
        ("notes.jsonl:3", "personal data"),
    ]


def test_a_full_disk_leaves_nothing_behind_and_says_so(work, monkeypatch):
    folder, job = work

    def fail(operation, path):
        if operation == "fsync":
            raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("configs.store._fault", fail)
    with pytest.raises(StorageError, match="the disk is full"):
        prepare(job())
    assert [
        path.name for path in (folder / "runs/small").rglob("*") if path.is_file() and path.name != ".leaks.lock"
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize("point", ["prepare.tokens", "store.before_rename"])
def test_a_hard_stop_leaves_no_half_corpus_and_the_next_run_makes_the_same(work, point):
    folder, job = work
    code = f"""
from pathlib import Path
from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.store import RunFolder
from data_prep.prepare import prepare
path = Path({str(folder / "recipe.yaml")!r})
recipe = load_recipe(path)
prepare(Job(recipe, (*roots_of(recipe, path), Path(recipe.base).parent), RunFolder(path.parent / "runs" / "small")))
"""
    environment = {**os.environ, "SECTORLM_CRASH_AT": point}
    stopped = subprocess.run([sys.executable, "-c", code], cwd=HOUSE, env=environment, check=False, capture_output=True)
    assert stopped.returncode == 137
    place = folder / "runs/small/corpus"
    assert not place.exists()
    prepare(job())
    verify_files(place, Corpus.read(place / "corpus.json").files)
    assert sorted(path.name for path in place.parent.iterdir()) == ["corpus", "shards"]


@pytest.mark.slow
def test_a_sentence_under_ten_prompts_stays_on_one_side_of_the_split(shared, tiny_base, tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        f"""
name: fiqa
sector: finance
base: {tiny_base}
data: [{shared}]
corpora:
  - name: fiqa
    path: finance/pixiu-sentiment/fiqasa/train.jsonl.gz
    messages: conversations
    group: "{{{{ conversations[0].value.split('Text: ')[1] }}}}"
    licence: public-domain
prepare: {{sequence_length: 512, validation: 0.1}}
evaluate: {{tasks: [fiqa_sa], general: []}}
"""
    )
    recipe = load_recipe(tmp_path / "recipe.yaml")
    roots = (*roots_of(recipe, tmp_path / "recipe.yaml"), tiny_base.parent)
    corpus = prepare(Job(recipe, roots, RunFolder(tmp_path / "run")))
    assert corpus.sources[0].rows == 7_500
    assert corpus.sources[0].dropped == {"duplicate": 210, "leak:fiqa_sa": 170}
    with gzip.open(shared / "finance/pixiu-sentiment/fiqasa/train.jsonl.gz", "rt") as file:
        talks = [json.loads(line)["conversations"] for line in file]
    sides: dict[str, set[str]] = {}
    for document in pq.read_table(tmp_path / "run/corpus/documents.parquet").to_pylist():
        sentence = talks[int(document["where"].rpartition(":")[2]) - 1][0]["value"].split("Text: ")[1]
        sides.setdefault(sentence, set()).add(document["split"])
    assert len(sides) > 700
    assert all(len(side) == 1 for side in sides.values())
