"""The receipt: limits that stop the stage, removal requests that taint runs, exercises that stay with their text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from configs.taint import taint_of
from tests.recipes import (
    balances,
    corpus,
    digest,
    documents,
    lines,
    notes,
    prose,
    read_lines,
    recipe,
    sectorlm,
    source,
    tokens,
)

PAIRS = {"prompt": "{{ q }}", "answer": "{{ a }}"}
LAW = """# Market Rules Act 2020

Article 1. {0}

Article 2. {1}

Article 3. {2}

Article 4. {3}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pairs(count: int, answer: int = 1) -> str:
    return lines([{"q": prose(10_000 + n, 1), "a": prose(20_000 + n, answer)} for n in range(count)])


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"max_dropped": 0.2}, "notes: dropped 25.00%, more than 20.00%"),
        ({"max_truncated": 0.01}, "pairs: truncated"),
        ({"min_supervised": 0.99}, "supervised "),
        ({"max_padding": 0.001}, "padding "),
        ({"min_tokens": 1_000_000}, "training tokens, fewer than min_tokens (1,000,000)"),
    ],
)
def test_a_broken_limit_is_named_with_its_value_and_the_corpus_of_before_stays(tiny_base, limit, told):
    """Of 24 notes 6 are copies: a quarter. Answers of four sentences are cut at 128 tokens."""
    Path("notes.jsonl").write_text(notes(0, 18) + notes(0, 6))
    Path("pairs.jsonl").write_text(pairs(20, answer=4))
    both = source("notes.jsonl"), source("pairs.jsonl", **PAIRS)
    settings = {"sequence_length": 128, "overlong": "truncate"}
    recipe(tiny_base, *both, **settings)
    assert sectorlm("prepare", "r.yaml").code == 0
    before = digest(), corpus()
    recipe(tiny_base, *both, **settings, receipt=limit, validation=0.2)
    done = sectorlm("prepare", "r.yaml")
    assert (done.code, done.err.count("than")) == (3, 1), done.err
    assert told in done.err
    assert (digest(), corpus()) == before
    recipe(tiny_base, *both, **settings, receipt=dict.fromkeys(limit))
    assert sectorlm("prepare", "r.yaml").code == 0
    assert balances()


def test_all_broken_limits_are_named_at_once(tiny_base):
    Path("notes.jsonl").write_text(notes(0, 18) + notes(0, 6))
    recipe(tiny_base, source("notes.jsonl"), receipt={"max_dropped": 0, "max_padding": 0, "min_tokens": 10**9})
    done = sectorlm("prepare", "r.yaml")
    assert done.code == 3
    assert [word in done.err for word in ("notes: dropped 25.00%", "padding ", "min_tokens")] == [True] * 3


def test_rows_that_are_not_selected_do_not_count_as_dropped(tiny_base):
    rows = [{"body": prose(n), "lang": "en" if n % 2 else "fr"} for n in range(30)]
    Path("notes.jsonl").write_text(lines(rows))
    recipe(tiny_base, source("notes.jsonl", where={"lang": ["en"]}), receipt={"max_dropped": 0})
    assert sectorlm("prepare", "r.yaml").code == 0
    assert corpus().sources[0].dropped == {"not selected": 15}


# ---------------------------------------------------------------- no token without a line


def test_the_tokens_of_plain_text_decode_to_the_texts_that_were_kept(tiny_base):
    """20 texts, some longer than a row, some in Chinese, one with a control token written out: nothing is lost or added."""
    texts = [prose(n, 1 + n) for n in range(18)] + [
        "中国人民银行决定下调贷款利率，以支持实体经济。" * 9,
        "An <|endoftext|> mark. " + prose(99),
    ]
    Path("notes.jsonl").write_text(lines([{"body": text} for text in texts]))
    recipe(tiny_base, source("notes.jsonl", rules={"max_repeated_16_characters": False}), sequence_length=32)
    assert sectorlm("prepare", "r.yaml").code == 0
    found, ids = documents(), tokens()
    lost = {int(line["where"].split(":")[1]) for line in read_lines("runs/small/corpus/dropped.jsonl")}
    kept = [text for number, text in enumerate(texts, 1) if number not in lost]
    assert balances()
    assert len(kept) == len(found) >= 18
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    said = [tokenizer.decode(ids[it["start"] : it["start"] + it["tokens"] - 1]) for it in found]
    assert said == kept
    assert [ids[it["start"] + it["tokens"] - 1] for it in found] == [tokenizer.eos_token_id] * len(found)


# ---------------------------------------------------------------- removal requests


def trained(run: str = "runs/small") -> None:
    """A run record that names the corpus that is there."""
    place = Path(run) / "run/run.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"inputs": {"corpus": corpus().content()}}))


def shard_times() -> list[int]:
    return [page.stat().st_mtime_ns for page in sorted(Path("runs/small/shards/read").glob("*/shard.json"))]


def test_an_id_is_taken_out_without_reading_again_and_the_run_that_learnt_it_is_marked(tiny_base):
    Path("notes.jsonl").write_text(notes(0, 30))
    recipe(tiny_base, source("notes.jsonl"))
    assert sectorlm("prepare", "r.yaml").code == 0
    trained()
    gone = next(it for it in documents() if it["split"] == "train")
    words = " ".join(prose(int(gone["where"].split(":")[1]) - 1).split()[:8])
    for asked in (gone["id"], words):
        hit = json.loads(sectorlm("--json", "show", "runs/small", "--find", asked).out)
        assert [it["document"] for it in hit["documents"]] == [gone["id"]]
        assert hit["runs"] == [str(Path("runs/small/run").resolve())]
    before = shard_times()
    recipe(tiny_base, source("notes.jsonl"), exclude=[gone["id"], "0123456789abcdef"])
    done = sectorlm("prepare", "r.yaml")
    assert "1 of 2 ids are of no document" in done.err and "0123456789abcdef" in done.err
    assert f"tainted: {Path('runs/small/run').resolve()} was trained on {gone['id']}" in done.err
    assert shard_times() == before
    assert taint_of(Path("runs/small/run"))["documents"] == [gone["id"]]
    assert corpus().sources[0].dropped == {"excluded": 1}
    assert balances()
    for asked in (gone["id"], words):
        assert json.loads(sectorlm("--json", "show", "runs/small", "--find", asked).out)["documents"] == []
    assert sectorlm("show", "runs/small", "--find", words).code == 0


def test_a_pattern_takes_out_every_document_that_holds_it_with_all_that_was_made_of_it(tiny_base):
    """Two laws of thirty name Jane Doe; the questions on their articles go too, and their answers taint the run."""
    laws = [LAW.format(*(prose(100 * n + k, 2) for k in range(4))) for n in range(30)]
    laws[4] = laws[4].replace("Article 3. ", "Article 3. Jane Doe shall keep the register. ")
    laws[7] = laws[7].replace("Article 1. ", "Article 1. Jane Doe may appeal. ")
    Path("laws.jsonl").write_text(lines([{"body": law} for law in laws]))
    told = source("laws.jsonl", compose=["articles"])
    recipe(tiny_base, told, sequence_length=512)
    assert sectorlm("prepare", "r.yaml").code == 0
    trained()
    both = [it for it in documents() if it["where"].split("~")[0] in ("laws.jsonl:5", "laws.jsonl:8")]
    family, learnt = {it["id"] for it in both}, {it["id"] for it in both if it["split"] == "train"}
    assert len(learnt) > 4
    recipe(tiny_base, told, sequence_length=512, exclude=["text:Jane Doe"])
    assert sectorlm("prepare", "r.yaml").code == 0
    record = corpus().sources[0]
    assert record.dropped == {"excluded": len(family)}
    assert not family & {it["id"] for it in documents()}
    assert balances()
    assert set(taint_of(Path("runs/small/run"))["documents"]) == learnt


def test_a_pattern_is_looked_for_in_the_columns_of_a_table_and_in_answers_not_preferred(tiny_base):
    """Row 3's name stands in a question on its columns only, row 5's only in the rejected answer."""
    rows = [{"name": f"Firm {n}", "body": prose(n), "holder": prose(500 + n, 1)} for n in range(20)]
    rows[2]["holder"] = "Jane Doe of the northern town"
    Path("table.jsonl").write_text(lines(rows))
    choices = [{"q": prose(600 + n, 1), "c": prose(700 + n, 1), "r": prose(800 + n, 1)} for n in range(20)]
    choices[4]["r"] = "Ask Jane Doe."
    Path("choices.jsonl").write_text(lines(choices))
    pair = source("choices.jsonl", prompt="{{ q }}", chosen="{{ c }}", rejected="{{ r }}")
    recipe(tiny_base, source("table.jsonl", compose=["table"]), pair, sequence_length=512, exclude=["text:Jane Doe"])
    assert sectorlm("prepare", "r.yaml").code == 0
    table, choice = corpus().sources
    assert (table.dropped, choice.dropped) == ({"excluded": 1}, {"excluded": 1})
    assert balances()
    assert "table.jsonl:3" in {it["where"] for it in documents()}
    assert "choices.jsonl:5" not in {it["where"] for it in documents()}


def test_one_exercise_can_be_taken_out_by_its_own_id(tiny_base):
    laws = [{"body": LAW.format(*(prose(100 * n + k, 2) for k in range(4)))} for n in range(10)]
    Path("laws.jsonl").write_text(lines(laws))
    told = source("laws.jsonl", compose=["articles"])
    recipe(tiny_base, told, sequence_length=512)
    assert sectorlm("prepare", "r.yaml").code == 0
    asked = next(it for it in documents() if "~" in it["where"])
    recipe(tiny_base, told, sequence_length=512, exclude=[asked["id"]])
    assert sectorlm("prepare", "r.yaml").code == 0
    assert corpus().sources[0].dropped == {"excluded": 1}
    assert asked["where"].split("~")[0] in {it["where"] for it in documents()}


# ---------------------------------------------------------------- exercises


def test_a_text_and_its_exercises_stand_on_one_side_of_the_split_and_are_counted_by_form(tiny_base):
    """40 laws with questions on their articles, 40 records with questions on their columns, 40 texts with reading tasks."""
    laws = [{"body": LAW.format(*(prose(100 * n + k, 2) for k in range(4)))} for n in range(40)]
    rows = [{"name": f"Firm {n}", "body": prose(n), "seat": prose(500 + n, 1)} for n in range(40)]
    texts = [
        {"body": f"{prose(7000 + n)} The price of bread rose because {prose(8000 + n, 1).lower()} {prose(9000 + n)}"}
        for n in range(40)
    ]
    for name, content in (("laws", laws), ("table", rows), ("texts", texts)):
        Path(f"{name}.jsonl").write_text(lines(content))
    sources = [
        source(f"{name}.jsonl", compose=[form])
        for name, form in (("laws", "articles"), ("table", "table"), ("texts", "reading"))
    ]
    recipe(tiny_base, *sources, sequence_length=512, validation=0.3)
    assert sectorlm("prepare", "r.yaml").code == 0
    assert balances()
    sides: dict[tuple[str, str], set[str]] = {}
    for it in documents():
        sides.setdefault((it["source"], it["where"].split("~")[0]), set()).add(it["split"])
    assert {side for both in sides.values() for side in both} == {"train", "validation"}
    assert [place for place, both in sides.items() if len(both) > 1] == []
    law, table, text = corpus().sources
    made = [it["where"] for it in documents() if it["source"] == "laws" and "~articles" in it["where"]]
    assert law.composed == {"articles": len(made)}
    assert len(made) >= 40
    assert table.composed["table"] >= 40
    assert text.composed == {}  # their exercises stand in the text itself
    assert sum(text.exercises.values()) >= 20
    assert sum("~reading" in it["where"] for it in documents()) >= 20
