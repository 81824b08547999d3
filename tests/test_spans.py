"""Cutting files: whatever the cut, the rows, the refusals and the places are those of the whole file."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.read import Reading, labels_of, read_rows
from configs.spans import Span, spans_of


def read(files, **how):
    reading = Reading()
    return list(read_rows(files, reading=reading, **how)), reading


def lines(count):
    """Lines of 20 to 60 bytes; every tenth is empty, every seventh broken, and the last has no end."""
    made = []
    for number in range(1, count + 1):
        line = json.dumps({"n": number, "text": "利率上升。" * (number % 5)}, ensure_ascii=False)
        made.append("" if number % 10 == 0 else line[:-2] if number % 7 == 0 else line)
    return "\n".join(made)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("size", [1, 30, 64, 500, 3000, 10**6])
def test_any_cut_of_json_lines_gives_the_rows_of_the_whole_file(tmp_path, size, mark):
    path = tmp_path / "a.jsonl"
    path.write_bytes(mark + lines(201).encode())
    whole, counts = read([path])
    spans = spans_of(path, "auto", "auto", size)
    assert [span.stop for span in spans][:-1] == [span.start for span in spans][1:]
    assert (spans[0].start, spans[-1].stop) == (0, path.stat().st_size)
    together, summed = [], Reading()
    for span in spans:  # each as another worker would read it
        rows, part = read([span], labels=labels_of([path]))
        together += rows
        summed.add(part)
    assert (together, summed) == (whole, counts)
    assert len(whole) == 201 - 20 - 28 + 2  # 70 and 140 are empty, not broken
    assert len(spans) == 1 if size == 10**6 else len(spans) > 1


def test_a_chinese_file_of_another_encoding_is_cut_at_its_line_ends(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes("\n".join(f'{{"n": {n}, "text": "高血压患者能吃党参吗"}}' for n in range(50)).encode("gb18030"))
    spans = spans_of(path, "auto", "auto", 300)
    assert len(spans) > 4
    assert [row.fields["n"] for row in read(spans)[0]] == list(range(50))
    assert read(spans)[1].encodings == {"gb18030": 1}


def test_utf_16_and_compressed_files_and_lists_stay_whole(tmp_path):
    rows = "\n".join('{"a": "' + "x" * 90 + '"}' for _ in range(20))
    for name, content in [
        ("a.jsonl", rows.encode("utf-16")),
        ("a.jsonl.zst", pa.compress(rows.encode(), "zstd", asbytes=True)),
        ("a.json", b"[1, 2]" + b" " * 500),
        ("a.txt", rows.encode()),
    ]:
        (tmp_path / name).write_bytes(content)
        size = len(content)
        assert spans_of(tmp_path / name, "auto", "auto", 50) == [Span(tmp_path / name, 0, size, 1, size)]


def test_json_lines_under_the_name_json_are_cut_too(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("\n".join(f'{{"n": {n}}}' for n in range(30)))
    assert len(spans_of(path, "auto", "auto", 100)) == 3


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_parquet_and_arrow_are_cut_between_groups_of_rows(tmp_path, form):
    table, path = pa.table({"n": list(range(95))}), tmp_path / f"a.{form}"
    if form == "parquet":
        pq.write_table(table, path, row_group_size=10)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=10)
    spans = spans_of(path, "auto", "auto", path.stat().st_size // 4)
    assert [(span.start, span.stop, span.line) for span in spans] == [
        (0, 2, 1),
        (2, 4, 21),
        (4, 6, 41),
        (6, 8, 61),
        (8, 10, 81),
    ]
    rows, reading = read(spans)
    assert rows == read([path])[0]
    assert [(row.fields["n"], row.where) for row in rows[-1:]] == [(94, f"a.{form}:95")]
    assert reading.files == 1


def test_an_empty_file_and_an_empty_table_are_one_span(tmp_path):
    (tmp_path / "a.jsonl").touch()
    assert spans_of(tmp_path / "a.jsonl", "auto", "auto", 10) == [Span(tmp_path / "a.jsonl", 0, 0, 1, 0)]
    pq.write_table(pa.table({"n": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    assert read(spans_of(tmp_path / "a.parquet", "auto", "auto", 1))[0] == []
