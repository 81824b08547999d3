"""Shapes: what a row becomes, and what is refused because it has another shape than the first one."""

import json

import pytest

from configs.errors import DataError
from configs.read import Row, read_rows
from configs.recipe import Source
from data_prep.documents import Document, documents_of, first_row_kinds
from data_prep.ledger import Account


def source(**shape):
    return Source(name="s", path="s.jsonl", licence="CC0-1.0", **shape)


def documents(given, *fields):
    """The documents and the account of rows with these fields, the first of which decides."""
    rows = [Row(each, f"s.jsonl:{number}") for number, each in enumerate(fields, 1)]
    account = Account("s")
    account.reading.rows = len(rows)
    return list(documents_of(given, rows, account, first_row_kinds(given, rows[0]))), account


def turns(document):
    return [tuple(message) for message in document.messages]


TWO = [("user", "Hi"), ("assistant", "Hello")]


@pytest.mark.parametrize(
    "value",
    [
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
        [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
        [{"role": "usr", "content": "Hi", "dialog_act": []}, {"role": "sys", "content": "Hello", "sys_state": {}}],
        [{"speaker": "Patient", "text": "Hi"}, {"speaker": "Doctor", "utterance": " Hello\n"}],
        ["Hi", "Hello"],
        [["Hi", "Hello"]],
    ],
)
def test_every_way_of_writing_a_dialogue_gives_the_same_turns(value):
    assert turns(documents(source(messages="talk"), {"talk": value})[0][0]) == TWO


def test_a_text_and_a_pair_are_rendered_by_templates():
    (text,), _ = documents(source(text="{{ title }}\n{{ body }}"), {"title": "Rates", "body": "They rose."})
    assert (text.text, text.content, text.messages) == ("Rates\nThey rose.", "Rates\nThey rose.", ())
    (pair,), _ = documents(source(prompt="{{ q }} ", answer="{{ a }}"), {"q": "Hi", "a": "Hello"})
    assert (turns(pair), pair.content) == (TWO, "Hi\nHello")


def test_a_preference_pair_learns_the_chosen_answer_and_keeps_the_rejected_one_beside_it():
    given = source(prompt="{{ q }}", chosen="{{ good[-1].content }}", rejected="{{ bad }}")
    row = {"q": "Hi", "good": [{"role": "assistant", "content": "Hello"}], "bad": "Go away"}
    (first, second), _ = documents(given, row, row | {"bad": "No"})
    assert (turns(first), first.rejected) == (TWO, "Go away")
    assert first.id != second.id


def test_an_id_depends_on_the_source_and_the_content_only():
    (one, other), _ = documents(source(text="{{ t }}"), {"t": "same", "n": 1}, {"t": "same", "n": 2})
    assert one.id == other.id
    assert one.where != other.where


def test_nested_dict_keyed_and_headerless_records_become_documents(tmp_path):
    tree = {
        "data": [
            {"title": "T", "paragraphs": [{"context": "C", "qas": [{"question": "Q", "answers": [{"text": "A"}]}]}]}
        ]
    }
    (tmp_path / "squad.json").write_text(json.dumps(tree))
    (tmp_path / "keyed.json").write_text('{"7": {"q": "Q", "a": "A"}}')
    (tmp_path / "bare.csv").write_text("Q,A\n")
    for path, how, shape in [
        (
            "squad.json",
            {"records": "data[].paragraphs[].qas[]"},
            {"prompt": "{{ question }}", "answer": "{{ answers[0].text }}"},
        ),
        ("keyed.json", {"records": "*"}, {"prompt": "{{ q }}", "answer": "{{ a }}", "group": "{{ _key }}"}),
        ("bare.csv", {"columns": ("q", "a")}, {"prompt": "{{ q }}", "answer": "{{ a }}"}),
    ]:
        (row,) = read_rows([tmp_path / path], **how)
        (document,), _ = documents(source(**shape), row.fields)
        assert turns(document) == [("user", "Q"), ("assistant", "A")]
        assert document.group == ("7" if path == "keyed.json" else "")


def test_a_row_whose_field_has_another_type_is_refused_with_its_line():
    found, account = documents(source(text="{{ t }}"), {"t": "a"}, {"t": ["b"]}, {"t": 3}, {"t": None}, {"t": "c"})
    assert [document.text for document in found] == ["a", "3", "", "c"]
    assert account.reading.refused == {"a column changes its type": 1}
    assert account.reading.examples == ["s.jsonl:2: a column changes its type: t holds a list"]
    assert account.reading.rows == 5


EITHER = "{{ answer | join(', ') if answer is iterable and answer is not string else answer }}"
"""An answer that is a list in some rows, a text or a number in others."""


def test_a_column_that_a_template_takes_apart_may_be_a_list_or_a_text_or_a_number():
    """Three kinds in four rows: none is refused; printed as it is, the first row's list refuses the other two."""
    rows = [{"q": "Who?", "answer": answer} for answer in (["A", "B"], "C", 4.5, ["D"])]
    found, account = documents(source(prompt="{{ q }}", answer=EITHER), *rows)
    assert [document.messages[1].content for document in found] == ["A, B", "C", "4.5", "D"]
    assert not account.reading.refused
    found, account = documents(source(prompt="{{ q }}", answer="{{ answer }}"), *rows)
    assert (len(found), account.reading.refused) == (2, {"a column changes its type": 2})


def test_all_answers_of_tat_qa_become_documents(shared):
    """918 lists, 718 numbers and 32 texts: 1,668 of 1,668 questions."""
    rows = list(read_rows([shared / "finance/tat-qa/tatqa_dataset_dev.json.gz"], records="questions[]"))
    given, account = source(prompt="{{ question }}", answer=EITHER), Account("s")
    kinds = first_row_kinds(given, rows[0])
    assert kinds == {"question": False}
    assert len(list(documents_of(given, rows, account, kinds))) == 1668
    assert not account.reading.refused


def test_what_the_first_row_decides_is_the_same_for_every_part_of_the_source():
    """A part that begins with an odd row refuses it, instead of the rows that follow."""
    given, account = source(text="{{ t }}"), Account("s")
    account.reading.rows = 2
    kinds = first_row_kinds(given, Row({"t": "a", "other": []}, "s.jsonl:1"))
    assert kinds == {"t": False}
    odd = [Row({"t": ["x"]}, "s.jsonl:50"), Row({"t": "b"}, "s.jsonl:51")]
    assert [document.text for document in documents_of(given, odd, account, kinds)] == ["b"]


def test_a_column_without_a_value_in_the_first_row_decides_nothing():
    assert first_row_kinds(source(text="{{ t }}"), Row({"t": None}, "s.jsonl:1")) == {}
    assert first_row_kinds(source(text="{{ t }}", where={"k": ("1",)}), Row({"k": 2}, "s.jsonl:1")) == {}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"text": "{{ titel }}"}, r"s, s.jsonl:1: no column titel\n  Did you mean title\?"),
        ({"messages": "titles"}, r"s, s.jsonl:1: no column titles\n  Did you mean title\?"),
        ({"messages": "title"}, r"s, s.jsonl:1: not a conversation: a list of turns is expected, got str"),
        ({"text": "{{ title }}", "where": {"lable": ("x",)}}, r"no column lable to select by\n  Did you mean label\?"),
    ],
)
def test_a_wrong_name_in_the_recipe_is_an_error_at_the_first_row(shape, message):
    with pytest.raises(DataError, match=message):
        first_row_kinds(source(**shape), Row({"title": "T", "label": "x"}, "s.jsonl:1"))


def test_later_rows_without_a_column_or_a_shape_are_refused_one_by_one():
    good = {"talk": ["Hi", "Hello"]}
    bad = [
        {"talk": []},
        {"talk": "Hi"},
        {"talk": [{"role": "critic", "content": "x"}]},
        {"talk": [{"role": "user"}]},
        {},
    ]
    found, account = documents(source(messages="talk"), good, *bad, good)
    assert len(found) == 2
    assert account.reading.refused == {"not a conversation": 3, "unknown role": 1, "template cannot be filled": 1}


def test_rows_that_are_not_selected_are_counted_as_such():
    given = source(text="{{ t }}", where={"k": ("1",)}, where_not={"t": ("b",)})
    found, account = documents(given, {"t": "a", "k": 1}, {"t": "b", "k": 1}, {"t": "c", "k": 2})
    assert [document.text for document in found] == ["a"]
    assert account.dropped == {"not selected": 2}


def test_the_content_of_a_conversation_is_its_turns_below_each_other():
    assert (
        Document("1", "s", "w", messages=documents(source(messages="t"), {"t": ["a", "b"]})[0][0].messages).content
        == "a\nb"
    )
