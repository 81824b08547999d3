"""Records of TC609-5-2025-02: what is written reads back the same, and what is wrong with a row is said by field."""

import json

import pytest

from configs.chat import Message
from configs.errors import StorageError
from configs.read import read_rows
from configs.recipe import Source
from configs.template import template
from data_prep.standard import Edition, StandardDocument, tc609_row, validate_tc609, write_tc609

EDITION = Edition(version="1.2.0", modified="2026-11-23T10:00:00Z")
MINUTES = Source(
    name="minutes",
    path="m.txt",
    text="{{ text }}",
    licence="cc by 4.0",
    origin="Federal Reserve, 1996 to 2024",
    time="1996/2024",
)
QUESTIONS = Source(name="questions", path="q.csv", prompt="{{ q }}", answer="{{ a }}", licence="MIT", time="2025")
TALKS = Source(name="talks", path="t.jsonl", messages="turns", licence="CC0-1.0", time="2026-03-01", generated=True)
DOCUMENTS = [
    StandardDocument("a1", "m.txt:1", MINUTES, "Rates rose.\nThey fell again. 利率上升。"),
    StandardDocument("b2", "q.csv:2", QUESTIONS, messages=(Message("user", "2+2?"), Message("assistant", "4"))),
    StandardDocument(
        "c3",
        "t.jsonl:3",
        TALKS,
        messages=(
            Message("system", "Be brief."),
            Message("user", "你好"),
            Message("assistant", "你好！"),
            Message("user", "再见"),
            Message("assistant", "再见。"),
        ),
    ),
]


def test_a_record_has_the_eleven_fields_of_the_standard_in_its_order():
    row = tc609_row(DOCUMENTS[0], EDITION)
    assert row == {
        "id": "a1",
        "rid": [],
        "data_content": [{"media_type": "text", "content": "Rates rose.\nThey fell again. 利率上升。"}],
        "annotation": None,
        "original_time": "1996/2024",
        "last_modified_time": "2026-11-23T10:00:00Z",
        "version": "1.2.0",
        "license": "CC-BY-4.0",
        "source": "minutes",
        "source_details": "Federal Reserve, 1996 to 2024; m.txt:1",
        "generated_data_indicator": 0,
    }
    assert list(row)[:4] == ["id", "rid", "data_content", "annotation"]


def test_an_answer_is_the_annotation_of_its_question_and_nobody_is_made_up_as_its_annotator():
    row = tc609_row(DOCUMENTS[1], EDITION)
    assert row["data_content"] == [{"media_type": "text", "content": "2+2?"}]
    assert row["annotation"] == {"label": [{"answer": "4"}], "annotation_method": None, "annotator": None}
    preferred = tc609_row(DOCUMENTS[1]._replace(rejected="5"), EDITION)
    assert preferred["annotation"]["label"] == [{"answer": "4", "rejected": "5"}]


def test_generated_texts_and_what_a_document_was_made_from_are_marked():
    assert tc609_row(DOCUMENTS[2], EDITION)["generated_data_indicator"] == 1
    exercise = tc609_row(DOCUMENTS[0]._replace(id="a1-1", related=("a1",), generated=True), EDITION)
    assert (exercise["rid"], exercise["generated_data_indicator"]) == (["a1"], 1)


def test_what_is_written_is_valid_and_reads_back_equal(tmp_path):
    written = write_tc609(tmp_path, iter(DOCUMENTS), EDITION)
    rows = [json.loads(line) for line in written.path.read_text("utf-8").splitlines()]
    assert written.path == tmp_path / "tc609" / "records.jsonl"
    assert (written.records, written.problems) == (3, {})
    assert rows == [tc609_row(document, EDITION) for document in DOCUMENTS]
    assert [validate_tc609(row) for row in rows] == [[], [], []]


def test_plain_recipe_keys_read_the_documents_back(tmp_path):
    """One source of each shape: the three templates of the page give the three documents again."""
    path = write_tc609(tmp_path, DOCUMENTS, EDITION).path
    plain, asked, talk = (row.fields for row in read_rows([path]))
    assert template("{{ data_content[0].content }}")(plain) == DOCUMENTS[0].text
    assert template("{{ data_content[0].content }}")(asked) == "2+2?"
    assert template("{{ annotation.label[0].answer }}")(asked) == "4"
    turns = [Message(turn["role"], turn["content"]) for turn in talk["data_content"]]
    assert tuple(turns) == DOCUMENTS[2].messages
    assert [row["source"] for row in (plain, asked, talk)] == ["minutes", "questions", "talks"]


def test_what_the_recipe_does_not_state_stays_empty_and_is_counted(tmp_path):
    silent = MINUTES.model_copy(update={"time": "", "origin": ""})
    written = write_tc609(tmp_path, [DOCUMENTS[0]._replace(source=silent)] * 4, EDITION)
    row = json.loads(written.path.read_text("utf-8").splitlines()[0])
    assert (row["original_time"], row["source_details"]) == ("", "m.txt:1")
    assert written.problems == {"minutes: original_time: is empty": 4}


def test_a_stop_in_the_middle_leaves_the_file_of_before(tmp_path):
    before = write_tc609(tmp_path, DOCUMENTS, EDITION).path.read_bytes()

    def broken():
        yield DOCUMENTS[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError):
        write_tc609(tmp_path, broken(), EDITION)
    assert (tmp_path / "tc609" / "records.jsonl").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["tc609"]


GOOD = tc609_row(DOCUMENTS[1], EDITION)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"id": ""}, "id: is empty"),
        ({"id": 7}, "id: is a text, not a number"),
        ({"rid": "a1"}, "rid: is a list of ids or null, not a text"),
        ({"rid": ["a1", None]}, "rid[1]: is a text, not null"),
        ({"data_content": "text"}, "data_content: is a list of parts, not a text"),
        ({"data_content": []}, "data_content: is empty"),
        ({"data_content": [{"content": "x"}]}, "data_content[0].media_type: is missing"),
        ({"data_content": [{"media_type": "text", "content": " "}]}, "data_content[0].content: is empty"),
        ({"data_content": ["x"]}, "data_content[0]: is an object, not a text"),
        ({"annotation": []}, "annotation: is an object or null, not a list"),
        ({"original_time": "2024-02-30"}, "original_time: is '2024-02-30', no time of ISO 8601 (2024-03-20)"),
        ({"original_time": "2024-1/2025"}, "original_time: is '2024-1/2025', no time of ISO 8601 (2024-03-20)"),
        ({"last_modified_time": None}, "last_modified_time: is a text, not null"),
        ({"version": 1.0}, "version: is a text, not a number"),
        ({"generated_data_indicator": True}, "generated_data_indicator: is 0 or 1, not true"),
        ({"generated_data_indicator": "0"}, 'generated_data_indicator: is 0 or 1, not "0"'),
    ],
)
def test_each_wrong_field_is_named_with_what_is_wrong(change, problem):
    assert validate_tc609(GOOD | change) == [problem]


def test_an_annotation_needs_labels_a_method_and_an_annotator_of_the_lists():
    whole = {"label": ["4"], "annotation_method": "人工标注", "annotator": "行业领域专家"}
    assert validate_tc609(GOOD | {"annotation": whole}) == []
    assert validate_tc609(GOOD | {"annotation": {"label": [], "annotation_method": "by hand"}}) == [
        "annotation.label: is a list of at least one label",
        "annotation.annotation_method: is 'by hand'; allowed: null, 人工标注, 自动标注, 半自动标注, 其他",
        "annotation.annotator: is missing",
    ]


def test_a_misspelt_field_is_told_from_a_missing_one_and_further_fields_are_let_through():
    row = {name: value for name, value in GOOD.items() if name != "license"}
    assert validate_tc609(row | {"licence": "MIT"}) == ["license: is missing; licence is no field"]
    assert validate_tc609(GOOD | {"project_extension": {"split": "train"}}) == []


def test_what_is_no_object_is_no_record():
    assert validate_tc609(["id"]) == ["a record is an object, not a list"]
    assert len(validate_tc609({})) == 11
