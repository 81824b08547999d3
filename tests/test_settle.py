"""Between the passes: what is decided over all documents, and that exercises go where their texts go."""

import json

import pyarrow.parquet as pq
import pytest

from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.store import RunFolder
from data_prep.prepare import prepare
from data_prep.settle import ORPHAN


def law(number: int) -> str:
    """A law of two articles: a question on the text of each, and perhaps one on its number."""
    return (
        f"# 第{number}号水井管理条例\n\n第一条 为了保护第{number}号地区的地下水源，合理开发水井，制定本条例。\n\n"
        f"第二条 打第{number}号井应当报告水位、含水量、出水量和水温，农户自用的浅水井除外。\n"
    )


@pytest.fixture
def prepared(tmp_path, tiny_base):
    """Ten laws as they are, and the last two of them again in a source of twelve that has questions made from each."""
    for name, numbers in (("plain", range(10)), ("asked", range(8, 20))):
        rows = [json.dumps({"law": law(number)}, ensure_ascii=False) + "\n" for number in numbers]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    (tmp_path / "recipe.yaml").write_text(
        f"""
name: laws
sector: urban_governance
base: {tiny_base}
corpora:
  - {{name: plain, path: plain.jsonl, text: "{{{{ law }}}}", licence: CC0-1.0}}
  - {{name: asked, path: asked.jsonl, text: "{{{{ law }}}}", licence: CC0-1.0, compose: [articles]}}
prepare: {{sequence_length: 512, decontaminate: "off", near_duplicates: null, repeated_passages: null, validation: 0.3}}
evaluate: {{tasks: [finance_topics], general: []}}
"""
    )

    def run(*overrides):
        recipe = load_recipe(tmp_path / "recipe.yaml", overrides)
        roots = (*roots_of(recipe, tmp_path / "recipe.yaml"), tiny_base.parent)
        corpus = prepare(Job(recipe, roots, RunFolder(tmp_path / "run")))
        return corpus, pq.read_table(tmp_path / "run/corpus/documents.parquet").to_pylist()

    return run


def test_questions_on_a_law_that_another_source_has_already_never_stand_on_the_other_side_from_it(prepared):
    corpus, documents = prepared()
    asked = corpus.sources[1]
    each = asked.composed["articles"] // 12
    assert each >= 2
    assert asked.dropped == {"duplicate": 2, ORPHAN: 2 * each}
    assert asked.documents == 10 + 10 * each
    sides = {}
    for document in documents:
        sides.setdefault((document["source"], document["where"].partition("~")[0]), set()).add(document["split"])
    assert len(sides) == 20
    assert all(len(side) == 1 for side in sides.values())
    assert {side for found in sides.values() for side in found} == {"train", "validation"}


def test_a_question_can_be_excluded_by_its_own_id_and_an_id_that_nothing_has_is_told(prepared, capsys):
    _, before = prepared()
    question = next(it for it in before if "~articles" in it["where"])
    corpus, after = prepared(f"prepare.exclude=[{question['id']}, 00c0ffee00c0ffee]")
    assert corpus.sources[1].dropped["excluded"] == 1
    assert {it["id"] for it in before} - {it["id"] for it in after} == {question["id"]}
    assert "prepare.exclude: 1 of 2 ids are of no document here: 00c0ffee00c0ffee" in capsys.readouterr().err


def test_what_is_made_from_an_excluded_law_goes_with_it(prepared):
    _, before = prepared()
    parent = next(it for it in before if it["where"] == "asked.jsonl:12")
    _, after = prepared(f"prepare.exclude=[{parent['id']}]")
    gone = [it["where"] for it in before if it["id"] not in {other["id"] for other in after}]
    assert len(gone) >= 3
    assert all(where.startswith("asked.jsonl:12") for where in gone)
