"""All 69 sets of the shared sector data read right: how each one is read, and that its rows are those its manifest counts."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NamedTuple

import pytest

from configs.read import Reading, read_rows
from tests.conftest import SHARED, needs_shared

pytestmark = needs_shared


class Way(NamedTuple):
    """How some files of a set are read: a glob, what a recipe says, and columns that the first row must have."""

    files: str
    has: tuple[str, ...]
    inside: str = ""
    how: dict[str, Any] = {}  # noqa: RUF012


CHOICE = (Way("*/*.csv", ("Question", "A", "B", "C", "D", "Answer")),)
LAWS = (Way("*.tar.zst", ("text", "title", "file")),)
ALPACA = ("instruction", "input", "output")
PASSAGES = {"records": "data[]"}
TWEETS = ("Tweet ID", "Tweet Text", "Informativeness")

WAYS: dict[str, tuple[Way, ...]] = {
    "finance/tat-qa": (Way("*.json.gz", ("table", "paragraphs", "questions")),),
    "finance/pixiu-finqa": (Way("*.jsonl.zst", ("id", "conversations")),),
    "finance/pixiu-sentiment": (Way("*/*.jsonl*", ("id", "conversations")),),
    "finance/pixiu-ner": (Way("*.jsonl.gz", ("id", "conversations", "label", "text")),),
    "finance/edgar-10k": (Way("10-K.zip", ("company", "item_1", "item_7"), "*.json"),),
    "finance/edgar-8k-raw": (Way("8-K.zip", ("text", "title", "file")),),
    "finance/fomc": (
        Way("fomc.tar.zst", ("text", "title"), "*.txt"),
        Way("fomc.tar.zst", ("speaker", "sentence"), "*.csv"),
    ),
    "finance/fomc-stance": (Way("*.xlsx", ("sentence", "year", "label")),),
    "finance/cflue": (
        Way("application.json", ("instruction", "output")),
        Way("knowledge.json.gz", ("question", "choices", "answer", "analysis")),
    ),
    "finance/disc-finllm": (
        Way("*_part.json", ALPACA),
        Way("computing_eval.json", ALPACA),
        Way("r*_eval.json", ("question",)),
    ),
    "finance/cmmlu": CHOICE,
    "medicine/pubmedqa": (
        Way("ori_pqal.json.gz", ("_key", "QUESTION", "CONTEXTS", "final_decision"), how={"records": "*"}),
        Way("test_ground_truth.json", ("_key", "text"), how={"records": "*"}),
    ),
    "medicine/medquad": (
        Way(
            "medquad.tar.zst",
            ("Focus", "Question", "Question_qtype", "Answer"),
            "*.xml",
            {"records": "QAPairs.QAPair[]"},
        ),
    ),
    "medicine/medmcqa-dev": (Way("dev.json.zst", ("question", "opa", "opd", "cop", "exp")),),
    "medicine/mmlu-med": (
        Way("*.csv", ("question", "A", "D", "answer"), how={"columns": ("question", *"ABCD", "answer")}),
    ),
    "medicine/mesh": (Way("terms.tsv", ("mesh_id", "mesh_name")), Way("tree*.tsv.gz", ("mesh_id", "mesh_tree_number"))),
    "medicine/huatuo-instruct": (Way("*.json.gz", ALPACA),),
    "medicine/genmedgpt-5k": (Way("*.json.gz", ALPACA), Way("*.csv", ("disease", "Symptom"))),
    "medicine/cn-medical-dialogue": (Way("*.csv.gz", ("department", "title", "ask", "answer")),),
    "medicine/cmmlu": CHOICE,
    "agriculture/seedbench": (
        Way("base_model_eval/*.json", ("question", "answer")),
        Way("corpus/*.json", ("subcategory", "segment")),
        Way("sft_model_eval/zero-shot/*.json*", ("instruction", "question", "answer", "task_type")),
    ),
    "agriculture/cmmlu": CHOICE,
    "agriculture/cn-regulations": LAWS,
    "manufacturing/maintie": (
        Way("gold*.json", ("text", "tokens", "entities")),
        Way("scheme.json", ("entity", "relation")),
    ),
    "manufacturing/maintnorm": (Way("*.norm", ("text",), how={"records": "blocks"}),),
    "manufacturing/mwo-sample": (Way("*.csv", ("ShortText", "WorkCentre")),),
    "manufacturing/loghub-2k": (
        Way("*.log", ("text",), how={"records": "lines"}),
        Way("*.csv", ("Content", "EventId", "Level")),
        Way("LICENSE", ("text",)),
    ),
    "manufacturing/cmmlu": CHOICE,
    "manufacturing/cn-regulations": LAWS,
    "commerce/harmonized-system": (Way("*.csv", ("hscode", "description")),),
    "commerce/product-reviews": (Way("*.zip", ("text", "title")),),
    "commerce/cmmlu": CHOICE,
    "commerce/cn-regulations": LAWS,
    "transport/highway-code": LAWS,
    "transport/crosswoz-metro": (Way("*.json", ("领域",), how={"records": "1"}),),
    "transport/cmmlu": CHOICE,
    "transport/cn-regulations": LAWS,
    "weather/atmossci-bench": (Way("*.jsonl", ("id", "problem", "answer", "type")),),
    "weather/cmmlu": CHOICE,
    "weather/cn-regulations": LAWS,
    "emergency/crisislex-t26": (
        Way("*.tar.gz", TWEETS, "*.csv"),
        Way("*.tar.gz", ("text",), "*.md"),
    ),
    "emergency/safenet": (Way("safenet.tar.zst", ("SAFENET ID", "Narrative", "Immediate Action Taken")),),
    "emergency/cmmlu": CHOICE,
    "emergency/cn-regulations": LAWS,
    "tourism/crosswoz": (
        Way("attraction_db.json", ("名称", "地址"), how={"records": "1"}),
        Way("val.json.zip", ("_key", "messages", "goal"), how={"records": "*"}),
    ),
    "tourism/travelplanner": (Way("*.jsonl.zst", ("messages",)),),
    "tourism/chinese-poetry": (
        Way("ci.song.*.json", ("author", "paragraphs", "rhythmic")),
        Way("yuanqu.json.gz", ("author", "paragraphs", "title")),
        Way("lunyu.json", ("chapter", "paragraphs")),
        Way("shijing.json", ("title", "content")),
    ),
    "tourism/cmmlu": CHOICE,
    "tourism/cn-regulations": LAWS,
    "urban/cn-laws-core": LAWS,
    "urban/cn-regulations": LAWS,
    "urban/disc-law-eval": (
        Way("mcq_*.csv", ("input", "output", "A", "D")),
        Way("qa_*.json", ("input", "output", "id")),
    ),
    "urban/cmmlu": CHOICE,
    "green/climatex": (Way("*.tsv.gz", ("statement", "confidence", "split")),),
    "green/climate-finance-bench": (Way("*.json", ("Question", "Answer")), Way("*.xlsx", ("Question", "Answer"))),
    "green/cn-regulations": LAWS,
    "science/scibench": (Way("*.json", ("problem_text", "answer_number", "unit")),),
    "science/d2l-zh": LAWS,
    "science/cmmlu": CHOICE,
    "general/english-novels": LAWS,
    "general/peps": LAWS,
    "general/tidb-docs-zh": LAWS,
    "general/linux-command-zh": LAWS,
    "general/wikitext-2": (Way("*.txt.gz", ("text", "title")),),
    "general/cmrc2018": (Way("*.json*", ("title", "paragraphs"), how=PASSAGES),),
    "general/drcd": (Way("*.json.gz", ("title", "paragraphs"), how=PASSAGES),),
    "general/us-speeches": (Way("*.zip", ("text", "title")),),
    "general/self-instruct": (Way("*.jsonl", ("id", "instruction", "instances")),),
    "general/gpt2-tokenizer": (Way("*.txt", ("text",)), Way("*.json", ("!",))),
}
"""Where a set holds files of several forms, each form is a source of its own."""

DIFFERENCES: dict[tuple[str, str], tuple[int, str]] = {
    ("finance/edgar-8k-raw", "8-K.zip"): (108, "58 filings hold 2 to 11 documents, one record each"),
    ("medicine/pubmedqa", "test_ground_truth.json"): (
        499,
        "500 answers keyed by id, which the manifest counts as one object",
    ),
    ("medicine/medquad", "medquad.tar.zst"): (
        14_814 - 5_303,
        "5,302 files hold 14,814 answered questions; readme.txt is left",
    ),
    **{
        ("medicine/mmlu-med", f"{name}_test.csv"): (
            1,
            "there is no header: the manifest takes the first question for one",
        )
        for name in (
            "anatomy",
            "clinical_knowledge",
            "college_biology",
            "college_medicine",
            "medical_genetics",
            "professional_medicine",
        )
    },
    ("general/tidb-docs-zh", "tidb-docs-zh.tar.zst"): (
        -16,
        "hidden folders (.github, .agents, .vaunt) are passed over",
    ),
}
"""Rows beyond those of the manifest, and why."""
REFUSED = {"medicine/medquad": {"no such path of `records`": 4}}
"""Records that cannot be used: four files have no QAPairs."""
ENCODINGS = {
    "medicine/cn-medical-dialogue": {"gb18030"},
    "general/us-speeches": {"utf-8", "cp1252"},
}
"""Sets that are not UTF-8 throughout."""

MANIFEST = json.loads((SHARED / "manifest.json").read_bytes()) if SHARED.is_dir() else []
SETS = {f"{each['sector']}/{each['name']}": each for each in MANIFEST}


def test_all_69_sets_have_a_way():
    assert len(SETS) == 69
    assert WAYS.keys() == SETS.keys()


@pytest.mark.parametrize("name", WAYS)
def test_rows_are_those_of_the_manifest(name: str):
    """Each file gives the rows that its manifest counts, or the stated difference; its first row has the columns."""
    reading, found = Reading(), Counter[str]()
    for way in WAYS[name]:
        files = sorted((SHARED / name).glob(way.files))
        assert files, way
        for file in files:
            first = None
            for row in read_rows([file], way.inside, reading=reading, **way.how):
                first = first or row
                found[file.relative_to(SHARED / name).as_posix()] += 1
            assert first is not None, file
            assert set(way.has) <= first.fields.keys(), first
    expected = {
        file: each["rows"] + DIFFERENCES.get((name, file), (0, ""))[0] for file, each in SETS[name]["files"].items()
    }
    assert found == expected
    assert reading.refused == REFUSED.get(name, {})
    assert set(reading.encodings) <= ENCODINGS.get(name, {"utf-8"})


def test_filings_become_text_without_tags_and_with_their_tables():
    """553 filings of 22.5 MB hold 661 documents: no tag, no script, no XBRL header is left, rows of tables are lines."""
    rows = list(read_rows([SHARED / "finance/edgar-8k-raw/8-K.zip"]))
    texts = [row.fields["text"] for row in rows]
    assert not [
        row.where for row, text in zip(rows, texts, strict=True) if "</" in text or "xbrli:" in text or "&nbsp;" in text
    ]
    assert 7_000_000 < sum(map(len, texts)) < 8_000_000
    assert sum(" | " in text for text in texts) > 400
    assert min(map(len, texts)) > 100
