"""The view of a source before anything is prepared: a wrong guess must be visible."""

import json
import zipfile

import pytest

from configs.errors import DataError
from configs.recipe import Source
from data_prep.preview import file_lines, preview, preview_file, preview_lines


def seen(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return "\n".join(file_lines(preview_file(path, 2)))


def test_a_source_shows_how_it_is_read_and_what_is_supervised(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("问;答\n高血压能吃党参吗？;可以吃。\n冠心病？;坏;行\n".encode("gb18030"))
    source = Source(name="qa", path="a.csv", licence="MIT", prompt='{{ row["问"] }}', answer='{{ row["答"] }}')
    shown = preview(source, (tmp_path,), 5)
    assert (shown.files, shown.reading.rows, shown.columns) == (1, 2, {"问": "text", "答": "text"})
    assert preview_lines(shown) == [
        "qa: 1 files; csv, gb18030, cells parted by semicolon, 2 rows read, 1 refused",
        "columns: 问 (text); 答 (text)",
        "refused: a.csv:3: wrong number of cells: 3 instead of 2",
        "",
        "-- a.csv:2",
        "   user: 高血压能吃党参吗？",
        "   assistant: «可以吃。»",
    ]


def test_only_selected_rows_count_and_a_long_text_is_cut(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"k": n % 2, "t": "x" * 2000}) for n in range(9)))
    source = Source(name="s", path="a.jsonl", licence="MIT", text="{{ t }}", where={"k": ("1",)})
    lines = preview_lines(preview(source, (tmp_path,), 2))
    assert [line for line in lines if line.startswith("--")] == ["-- a.jsonl:2", "-- a.jsonl:4"]
    assert lines[-1] == f"   «{'x' * 1500} ... (500 characters more)»"


def test_a_wrong_column_is_told_beside_the_fields_that_are_there(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"title": "T", "body": "B"}\n')
    source = Source(name="s", path="a.jsonl", licence="MIT", text="{{ bdy }}")
    lines = preview_lines(preview(source, (tmp_path,), 2))
    assert (
        "the first row cannot be used: s, a.jsonl:1: no column bdy\n  Did you mean body? The row has: title, body."
        in lines
    )
    assert lines[-2:] == ["   title: T", "   body: B"]


@pytest.mark.parametrize(
    ("name", "content", "entry"),
    [
        ("a.csv", "question,answer\nQ,A\n", ['prompt: "{{ question }}"', 'answer: "{{ answer }}"']),
        ("a.csv", "id,Narrative\n1,It burnt.\n", ['text: "{{ Narrative }}"']),
        ("a.csv", 'id,"The text"\n1,It burnt.\n', [r'text: "{{ row[\"The text\"] }}"']),
        (
            "a.json",
            '[{"instruction": "Sum", "input": "1", "output": "2"}]',
            [r'prompt: "{{ instruction }}\n{{ input }}"'],
        ),
        ("a.jsonl", '{"talk": [{"from": "human", "value": "Hi"}]}', ['messages: "talk"']),
        (
            "a.jsonl",
            '{"prompt": "a", "chosen": "b", "rejected": "c"}',
            ['chosen: "{{ chosen }}"', 'rejected: "{{ rejected }}"'],
        ),
        ("a.json", '{"7": {"text": "x"}, "8": {"text": "y"}}', ['records: "*"', 'text: "{{ text }}"']),
        (
            "a.json",
            '{"data": [{"paragraphs": [{"context": "C", "qas": [{"question": "Q", "answers": [{"text": "A"}]}]}]}]}',
            ['records: "data[].paragraphs[].qas[]"', 'answer: "{{ answers[0].text }}"'],
        ),
        ("a.html", "<p>Rates rose.</p>", ['text: "{{ text }}"']),
        (
            "a.xml",
            '<D url="http://a.org/a/long/address"><Focus>Flu</Focus><QAPairs><QAPair><Question>Q</Question>'
            "<Answer>A</Answer></QAPair></QAPairs></D>",
            ['records: "QAPairs.QAPair[]"', 'prompt: "{{ Question }}"', 'answer: "{{ Answer }}"'],
        ),
        (
            "a.json",
            '[{"paragraphs": [{"text": "P"}], "questions": [{"question": "Q", "answer": ["A", "B"]}]}, {}]',
            [
                'records: "questions[]"',
                'prompt: "{{ question }}"',
                r"""answer: "{{ answer | join('\\n') if answer is iterable""",
            ],
        ),
        ("a.json", '{"7": {"q": "Q", "a": "A"}, "8": {"q": "R", "a": "B"}}', ['records: "*"', 'answer: "{{ a }}"']),
        ("a.jsonl", '{"id": "7", "dialog": ["Hi", "Hello"]}', ['messages: "dialog"']),
        ("a.jsonl", '{"said": [["Hi", "Hello"]]}', ['messages: "said"']),
        ("a.jsonl", '{"paragraphs": ["One.", "Two."]}', [r"""text: "{{ paragraphs | join('\\n')"""]),
        ("a.csv", f"{'Which rate was it? ' * 5},5,A\nWhat?,x,B\n", ['columns: ["a", "b", "c"]', 'text: "{{ a }}"']),
        ("12.csv", "in,n\n1,2\n", ['name: "12"', r'text: "{{ row[\"in\"] }}"']),
        ("a.jsonl", '{"n": 7}', ['text: "{{ n }}"']),
    ],
)
def test_a_bare_file_shows_its_fields_and_guesses_an_entry_that_loads(tmp_path, name, content, entry):
    import yaml

    lines = seen(tmp_path / name, content)
    assert all(line in lines for line in entry)
    given = yaml.safe_load(lines.partition("corpora:\n")[2])[0]
    source = Source.model_validate_json(json.dumps(given | {"licence": "MIT"}))
    assert len(preview(source, (tmp_path,), 1).documents) == 1


def test_a_file_without_rows_and_a_missing_one(tmp_path):
    assert seen(tmp_path / "a.csv", "q,a\n") == "a.csv: csv, utf-8, cells parted by comma, 0 rows read"
    with pytest.raises(DataError, match="no such file"):
        preview_file(tmp_path / "b.csv", 1)


def test_members_of_an_archive_are_shown_with_their_places(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/1.md", "# One")
        archive.writestr("x/2.md", "# Two")
    lines = file_lines(preview_file(tmp_path / "a.zip", 2))
    assert [line for line in lines if line.startswith("--")] == ["-- a.zip!x/1.md", "-- a.zip!x/2.md"]


def test_what_is_masked_and_composed_is_shown_as_the_model_will_see_it(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"t": "致电13800138000。 第一条 本法自公布之日起施行。"}, ensure_ascii=False) + "\n"
    )
    source = Source(name="s", path="a.jsonl", text="{{ t }}", licence="MIT")
    shown = "\n".join(preview_lines(preview(source, (tmp_path,), 1)))
    assert "[PHONE]" in shown
    assert "13800138000" not in shown
    dropping = preview(source.model_copy(update={"personal": "drop"}), (tmp_path,), 1)
    assert dropping.documents == []
    assert "left out: personal data: 1" in preview_lines(dropping)
