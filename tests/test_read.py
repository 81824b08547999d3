"""Reading: every form of the sectors' files, and every way in which a file can be wrong."""

import gzip
import io
import json
import pickle
import sys
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.errors import DataError, UnsafeArtefactError
from configs.job import find_files
from configs.read import Reading, digest_files, read_rows


def rows_of(path, inside="", **how):
    reading = Reading()
    rows = list(read_rows(path if isinstance(path, list) else [path], inside, reading=reading, **how))
    return rows, reading


@pytest.fixture
def put(tmp_path):
    """Write a file below tmp_path and give its path back."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


# ---------------------------------------------------------------- forms


def test_jsonl_gives_one_row_per_line_with_its_number(put):
    rows, reading = rows_of(put("a.jsonl", '{"a": 1}\n\n{"a": 2}\n'))
    assert [(row.fields, row.where) for row in rows] == [({"a": 1}, "a.jsonl:1"), ({"a": 2}, "a.jsonl:3")]
    assert (reading.files, reading.rows, reading.encodings) == (1, 2, {"utf-8": 1})


def test_jsonl_under_the_name_json_is_recognised(put):
    assert len(rows_of(put("a.json", '{"a": 1}\n{"a": 2}\n'))[0]) == 2


def test_a_json_list_gives_its_elements_and_an_object_itself(put):
    assert [row.fields["a"] for row in rows_of(put("a.json", '[{"a": 1}, {"a": 2}]'))[0]] == [1, 2]
    assert rows_of(put("b.json", '{"a": {"b": 1}}'))[0][0].fields == {"a": {"b": 1}}


def test_records_of_an_object_keyed_by_id_carry_their_key(put):
    rows, _ = rows_of(put("a.json", '{"7": {"q": "x"}, "9": {"q": "y"}}'), records="*")
    assert [row.fields for row in rows] == [{"_key": "7", "q": "x"}, {"_key": "9", "q": "y"}]


def test_nested_records_carry_the_plain_fields_around_them(put):
    tree = {"version": 1, "data": [{"title": "T", "paragraphs": [{"context": "C"}, {"context": "D", "title": "own"}]}]}
    rows, _ = rows_of(put("a.json", json.dumps(tree)), records="data[].paragraphs[]")
    assert [row.fields for row in rows] == [
        {"version": 1, "title": "T", "context": "C"},
        {"version": 1, "title": "own", "context": "D"},
    ]
    assert [row.where for row in rows] == ["a.json#1", "a.json#2"]


def test_a_plus_carries_a_table_down_to_the_questions_about_it(put):
    """Lists and objects on the way stay behind, but for those that a step names: the cells belong to every question."""
    report = [{"year": 2019, "cells": [["a", 1]], "notes": ["x"], "questions": [{"q": "how much?"}, {"q": "when?"}]}]
    rows, _ = rows_of(put("a.json", json.dumps(report)), records="questions[]+cells")
    assert [row.fields for row in rows] == [
        {"year": 2019, "cells": [["a", 1]], "q": "how much?"},
        {"year": 2019, "cells": [["a", 1]], "q": "when?"},
    ]
    rows, _ = rows_of(put("b.json", json.dumps(report)), records="questions[]")
    assert set(rows[0].fields) == {"year", "q"}


def test_a_wrong_path_of_records_names_the_nearest_key(put):
    with pytest.raises(DataError, match=r"no dta in the record. Did you mean data\?"):
        rows_of(put("a.json", '{"data": []}'), records="dta[]")


@pytest.mark.parametrize("path", ["[].questions[]", "data..rows[]", "questions[]."])
def test_a_step_of_records_without_a_name_says_what_a_step_looks_like(put, path):
    with pytest.raises(DataError, match=r"a step without a name in .*\n.*NAME, NAME\[\] or \*"):
        rows_of(put("a.json", '[{"questions": [{"q": 1}]}]'), records=path)


def test_csv_has_a_header_or_is_given_its_columns(put):
    headed, _ = rows_of(put("a.csv", ',q,a\n0,"x, y",B\n'))
    assert headed[0].fields == {"column_1": "0", "q": "x, y", "a": "B"}
    bare, _ = rows_of(put("b.csv", "x,B\ny,C\n"), columns=("q", "a"))
    assert [row.fields["a"] for row in bare] == ["B", "C"]


def test_a_headerless_csv_without_columns_is_noticed_when_its_first_row_repeats_itself(put):
    with pytest.raises(DataError, match="two columns are called '5'"):
        rows_of(put("a.csv", "q,5,5,6\nr,1,2,3\n"))


def test_cells_may_hold_line_breaks_and_the_separator_is_found(put):
    rows, _ = rows_of(put("a.csv", 'q;a\n"two\nlines";1\nx;2\n'))
    assert [(row.fields["q"], row.where) for row in rows] == [("two\nlines", "a.csv:3"), ("x", "a.csv:4")]
    assert rows_of(put("b.csv", "q\ta\nx\t1\n"))[0][0].fields == {"q": "x", "a": "1"}
    assert rows_of(put("c.csv", 'id, "the text"\n1, "a, b"\n'))[0][0].fields == {"id": "1", "the text": "a, b"}


def test_a_row_with_too_many_cells_is_counted_and_passed_over(put):
    rows, reading = rows_of(put("a.csv", "q,a\nx,1\ny,2,3\nz,4\n"))
    assert [row.fields["q"] for row in rows] == ["x", "z"]
    assert reading.refused == {"wrong number of cells": 1}
    assert reading.examples == ["a.csv:3: wrong number of cells: 3 instead of 2"]


def test_a_quote_that_never_closes_does_not_swallow_the_rest(put):
    with pytest.raises(DataError, match="never closed"):
        rows_of(put("a.csv", 'q,a\n"x,1\ny,2\n'))


def test_text_is_one_record_with_its_title(put):
    rows, _ = rows_of(put("minutes.txt", "Rates rose.\r\n"))
    assert rows[0] == ({"text": "Rates rose.\r\n", "title": "minutes", "file": "minutes.txt"}, "minutes.txt")


def test_xml_gives_children_attributes_and_repeated_elements(put):
    xml = '<?xml version="1.0" encoding="UTF-8"?><D id="7"><P><Q t="a">one</Q><A>1</A></P><P><Q t="b">two</Q></P></D>'
    rows, _ = rows_of(put("a.xml", xml), records="P[]")
    assert [row.fields for row in rows] == [
        {"id": "7", "Q_t": "a", "Q": "one", "A": "1"},
        {"id": "7", "Q_t": "b", "Q": "two"},
    ]


def test_an_xml_entity_bomb_is_refused_not_expanded(put):
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 20}">' for n in range(1, 9))
    bomb = f'<!DOCTYPE d [<!ENTITY e0 "{"x" * 1000}">{entities}]><d>&e8;</d>'
    rows, reading = rows_of(put("a.xml", bomb))
    assert (rows, reading.refused) == ([], {"malformed XML": 1})


def test_parquet_and_xlsx_are_tables(put, tmp_path):
    from openpyxl import Workbook

    pq.write_table(pa.table({"q": ["x", "y"], "n": [1, 2]}), tmp_path / "a.parquet")
    assert [row.fields for row in rows_of(tmp_path / "a.parquet")[0]] == [{"q": "x", "n": 1}, {"q": "y", "n": 2}]
    book = Workbook()
    book.active.append(["q", "n"])
    book.active.append(["x", 1])
    book.save(tmp_path / "a.xlsx")
    assert rows_of(tmp_path / "a.xlsx")[0] == [({"q": "x", "n": 1}, "a.xlsx:2")]
    book.create_sheet("more").append(["z"])
    book.save(tmp_path / "b.xlsx")
    with pytest.raises(DataError, match="several sheets"):
        rows_of(tmp_path / "b.xlsx")
    assert len(rows_of(tmp_path / "b.xlsx", records="Sheet")[0]) == 1


def test_arrow_files_and_streams_are_tables(tmp_path):
    table = pa.table({"q": ["x", "y"], "n": [1, 2]})
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_stream(tmp_path / "b.arrow", table.schema) as writer:  # what `datasets` caches
        writer.write_table(table, max_chunksize=1)
    for name in ("a.arrow", "b.arrow"):
        rows, reading = rows_of(tmp_path / name)
        assert [(row.fields["q"], row.where) for row in rows] == [("x", f"{name}:1"), ("y", f"{name}:2")]
        assert reading.forms == {"arrow": 1}


def test_the_separator_is_the_one_that_cuts_all_rows_alike_and_it_is_said(put):
    for content, mark in [
        ("id;price\n1;2,5\n2;3,5\n", "semicolon"),
        ("name, first\tage\nSmith, A\t7\nLi\t8\n", "tab"),
        ("a|b\n1|x, y\n2|z\n", "bar"),
        ("text\none, two\n", "comma"),
    ]:
        reading = rows_of(put("a.csv", content))[1]
        assert reading.dialects == {mark: 1}
    assert reading.refused == {"wrong number of cells": 1}  # one column, and a comma that no quotes protect


def test_a_first_row_that_looks_like_data_is_noted(put):
    reading = rows_of(
        put("a.csv", "Which nerve is compressed at the stylomastoid foramen, and what follows?,A\nx,B\n")
    )[1]
    assert reading.dialects == {"comma": 1}
    reading = rows_of(put("a.csv", f'"{"A question that is much too long for a name. " * 2}",A\nx,B\n'))[1]
    assert list(reading.notes) == ["the first row looks like data, not like names"]


def test_lines_and_blocks_of_a_text_can_be_records(put):
    path = put("a.log", "one\r\n\ntwo\nthree\n")
    assert [(row.fields["text"], row.where) for row in rows_of(path, records="lines")[0]] == [
        ("one", "a.log:1"),
        ("two", "a.log:3"),
        ("three", "a.log:4"),
    ]
    blocks = rows_of(path, records="blocks")[0]
    assert [(row.fields["text"], row.where) for row in blocks] == [("one", "a.log:1"), ("two\nthree", "a.log:3")]
    with pytest.raises(DataError, match=r"records: lines"):
        rows_of(path, records="data[]")


def test_numbered_files_of_one_record_are_read_in_order_with_title_and_file(put):
    files = [put(f"laws/{number:05d}.txt", f"Article {number}.") for number in (0, 1, 10)]
    rows, reading = rows_of(files)
    assert [row.fields["title"] for row in rows] == ["00000", "00001", "00010"]
    assert [row.where for row in rows] == ["00000.txt", "00001.txt", "00010.txt"]
    assert reading.files == 3


def test_restructured_text_loses_comments_targets_and_directives_without_words(put):
    text = (
        "PEP: 8\nTitle\n=====\n\n.. _top: https://x\n.. contents::\n   :local:\n\nSee :pep:`7`.\n\n"
        ".. image:: a.png\n\n.. note:: Mind.\n\n.. [1] A footnote.\n\n..\n   Local Variables:\n   mode: text\n"
    )
    kept = rows_of(put("a.rst", text))[0][0].fields["text"]
    assert " ".join(kept.split()) == "PEP: 8 Title ===== See :pep:`7`. .. note:: Mind. .. [1] A footnote."


def test_a_pdf_gives_its_pages_and_a_docx_its_paragraphs_and_tables(put, tmp_path):
    import docx

    document = docx.Document()
    document.core_properties.title = "Minutes"
    document.add_heading("Rates", 1)
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip(
        [cell for row in table.rows for cell in row.cells], ["Year", "Rate", "2024", "4.5"], strict=True
    ):
        cell.text = text
    document.add_paragraph("They rose.")
    document.save(tmp_path / "a.docx")
    fields = rows_of(tmp_path / "a.docx")[0][0].fields
    assert fields == {"text": "Rates\n\nYear | Rate\n2024 | 4.5\n\nThey rose.", "title": "Minutes", "file": "a.docx"}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.docx", "x/a.docx")
        archive.writestr("x/b.pdf", pdf("Rates rose."))
    assert [row.fields["text"] for row in rows_of(tmp_path / "a.zip")[0]] == [fields["text"], "Rates rose."]
    rows, reading = rows_of(put("scan.pdf", pdf("")))
    assert (rows, reading.refused) == ([], {"no text in it (scanned pages?)": 1})
    for name in ("b.pdf", "b.docx"):
        with pytest.raises(DataError, match=r"not a readable|damaged"):
            rows_of(put(name, b"%PDF-1.4 this is none"))


def test_a_pdf_without_its_reader_names_the_extra(put, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdfium2", None)  # as if it were not installed
    with pytest.raises(DataError, match=r"reading PDF needs pypdfium2\n  pip install 'sectorlm\[documents\]'"):
        rows_of(put("a.pdf", pdf("x")))


def pdf(text):
    """A PDF of one page, by hand: five objects and their table."""
    stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    content, places = b"%PDF-1.4\n", []
    for number, made in enumerate(objects, 1):
        places.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, made)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return content + b"xref\n0 6\n0000000000 65535 f \n%strailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        table,
        len(content),
    )


def test_a_readme_among_tables_is_not_a_record(put):
    files = [put("d/a.csv", "q\nx\n"), put("d/README.md", "hello")]
    with pytest.raises(DataError, match=r"files of different forms: a.csv is csv, README.md is text"):
        rows_of(files)


# ---------------------------------------------------------------- archives


def test_gz_zst_zip_and_tar_are_read_without_unpacking(put, tmp_path):
    line = b'{"a": 1}\n'
    assert len(rows_of(put("a.jsonl.gz", gzip.compress(line)))[0]) == 1
    assert len(rows_of(put("a.jsonl.zst", pa.compress(line, "zstd", asbytes=True)))[0]) == 1
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("x/1.jsonl", "x/2.jsonl", "x/note.md", ".git/3.jsonl", "__MACOSX/x/1.jsonl"):
            archive.writestr(name, line)
    rows, reading = rows_of(tmp_path / "a.zip", "x/*.jsonl")
    assert [row.where for row in rows] == ["a.zip!x/1.jsonl:1", "a.zip!x/2.jsonl:1"]
    assert reading.files == 2
    for name in ("a.tar", "a.tar.gz"):
        with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as archive:
            info = tarfile.TarInfo("x/1.jsonl")
            info.size = len(line)
            archive.addfile(info, io.BytesIO(line))
        assert len(rows_of(tmp_path / name)[0]) == 1
    packed = pa.compress((tmp_path / "a.tar").read_bytes(), "zstd", asbytes=True)
    assert len(rows_of(put("b.tar.zst", packed), "*.jsonl")[0]) == 1


def test_a_glob_that_matches_nothing_in_the_archive_says_so(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.jsonl", "{}")
    with pytest.raises(DataError, match=r"a.zip!\*.csv: no file in the archive matches"):
        rows_of(tmp_path / "a.zip", "*.csv")


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "C:\\evil.txt", "a/../../evil.txt"])
def test_a_path_that_leaves_the_archive_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(UnsafeArtefactError, match="leaves it"):
        rows_of(tmp_path / "a.zip")


def test_a_link_in_a_tar_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("passwords.txt")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(UnsafeArtefactError, match="a link or a device"):
        rows_of(tmp_path / "a.tar")


def test_a_bomb_is_stopped_after_its_budget(put, monkeypatch):
    monkeypatch.setattr("configs.archives.FREE_BYTES", 100_000)
    bomb = put("a.jsonl.gz", gzip.compress(b" " * 10_000_000))  # 1:1000
    with pytest.raises(UnsafeArtefactError, match="decompression bomb"):
        rows_of(bomb)
    fair = put("b.jsonl.gz", gzip.compress("".join(f'{{"a": {n}}}\n' for n in range(20_000)).encode()))
    assert len(rows_of(fair)[0]) == 20_000


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt.zst", "a.zip", "a.tar.zst"])
def test_an_archive_that_is_cut_off_is_never_taken_for_a_whole_one(put, tmp_path, name):
    import random

    content = json.dumps([random.Random(0).random() for _ in range(50_000)]).encode()
    if name == "a.zip":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("a.txt", content)
        packed = (tmp_path / name).read_bytes()
    elif name == "a.tar.zst":
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            info = tarfile.TarInfo("a.txt")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        packed = pa.compress((tmp_path / "a.tar").read_bytes(), "zstd", asbytes=True)
    else:
        packed = gzip.compress(content) if name.endswith("gz") else pa.compress(content, "zstd", asbytes=True)
    with pytest.raises(DataError, match=r"cut off|damaged"):
        rows_of(put(name, packed[: len(packed) // 2]))


@pytest.mark.parametrize("name", ["weights.bin", "rows.pkl", "rows.jsonl"])
def test_a_pickle_is_never_opened(put, name):
    with pytest.raises(UnsafeArtefactError, match="pickle"):
        rows_of(put(name, pickle.dumps({"a": 1})))


# ---------------------------------------------------------------- encodings


def test_encodings_are_found_and_counted(put):
    chinese, french = "我有高血压，可以吃党参吗？\n" * 20, "Les taux ont été relevés à Genève, hélas.\n" * 20
    for name, content, encoding in [
        ("utf-8.txt", chinese.encode(), "utf-8"),
        ("mark.txt", b"\xef\xbb\xbf" + chinese.encode(), "utf-8"),
        ("utf-16.txt", chinese.encode("utf-16"), "utf-16"),
        ("little.txt", chinese.encode("utf-16-le"), "utf-16-le"),
        ("big.txt", french.encode("utf-16-be"), "utf-16-be"),
        ("gb.txt", chinese.encode("gb18030"), "gb18030"),
        ("latin.txt", french.encode("latin-1"), "cp1252"),
    ]:
        rows, reading = rows_of(put(name, content))
        assert rows[0].fields["text"] == (french if name in ("latin.txt", "big.txt") else chinese)
        assert reading.encodings == {encoding: 1}


def test_a_few_broken_bytes_do_not_turn_a_utf8_file_into_another_encoding(put):
    lines = ['{"a": "利率上升了，银行说。"}'.encode()] * 9 + [b'{"a": "\xff"}']
    rows, reading = rows_of(put("a.jsonl", b"\n".join(lines)))
    assert len(rows) == 9
    assert reading.refused == {"bytes not in the file's encoding": 1}
    assert reading.encodings == {"utf-8": 1}


def test_a_wrong_declared_encoding_names_the_byte_and_the_likely_one(put):
    path = put("a.csv", "q,a\n高血压患者能吃党参吗,可以\n".encode("gb18030"))
    with pytest.raises(DataError) as caught:
        rows_of(path, encoding="utf-8")
    assert caught.value.message == "not utf-8 at byte 4"
    assert "encoding: gb18030" in caught.value.hint


def test_a_page_that_names_its_encoding_is_read_in_it(put):
    page = '<html><head><meta charset="big5"></head><body><p>臺灣的銀行利率上升</p></body></html>'
    rows, reading = rows_of(put("a.html", page.encode("big5")))
    assert (rows[0].fields["text"], reading.encodings) == ("臺灣的銀行利率上升", {"big5": 1})


def test_lines_of_another_encoding_in_one_file_are_refused_whichever_way_round(put):
    good, other = '{"a": "高血压患者能吃党参吗"}\n', '{"a": "冠心病的症状有哪些"}\n'
    for own, foreign in [("utf-8", "gb18030"), ("gb18030", "utf-8")]:
        content = good.encode(own) * 50 + other.encode(foreign) * 2 + good.encode(own)
        rows, reading = rows_of(put("a.jsonl", content))
        assert (len(rows), reading.refused, reading.encodings) == (
            51,
            {"bytes not in the file's encoding": 2},
            {own: 1},
        )
        assert reading.examples[0].startswith("a.jsonl:51: bytes not in the file's encoding")
        rows, reading = rows_of(put("a.csv", content.replace(b'{"a": ', b"").replace(b"}", b"")), columns=["a"])
        assert (len(rows), reading.refused) == (51, {"bytes not in the file's encoding": 2})
    french = '{"a": "relevés à Genève"}\n'
    rows, reading = rows_of(put("a.jsonl", french.encode("latin-1") * 20 + french.encode()))
    assert (len(rows), reading.refused) == (20, {"bytes not in the file's encoding": 1})


def test_a_refused_line_says_which_byte_and_what_it_looks_like(put):
    content = b'{"a": "x"}\n' * 20 + '{"a": "高血压患者能吃党参吗"}\n'.encode("gb18030")
    examples = rows_of(put("a.jsonl", b"\xef\xbb\xbf" + content))[1].examples
    assert examples == ["a.jsonl:21: bytes not in the file's encoding: byte 8, not utf-8; the line looks like gb18030"]


def test_marks_at_the_beginning_of_joined_files_are_taken_off(put):
    part = '\ufeff{"a": 1}\n'
    assert len(rows_of(put("a.jsonl", part * 3))[0]) == 3


def test_a_utf_16_file_that_ends_in_half_a_character_is_an_error_not_a_crash(put):
    with pytest.raises(DataError, match="not utf-16"):
        rows_of(put("a.jsonl", '{"a": "利率"}\n'.encode("utf-16") + b"\x41"))


def test_a_binary_file_is_no_corpus(put):
    with pytest.raises(DataError, match="not a text file"):
        rows_of(put("photo.txt", bytes(range(256)) * 100))


def test_nul_bytes_in_a_short_text_are_taken_out_and_counted(put):
    rows, reading = rows_of(put("a.txt", "Rates\0 rose.\0\n\0\nIn May."))
    assert (rows[0].fields["text"], reading.left_out) == ("Rates rose.\n\nIn May.", {"NUL bytes": 3})
    rows, reading = rows_of(put("a.txt", "Rates\0 rose.\n\0\nIn May."), records="lines")
    assert ([row.fields["text"] for row in rows], reading.left_out) == (["Rates rose.", "In May."], {"NUL bytes": 2})


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\nabc", b"PK\x03\x04 abc", b"\x7fELFabc", b"%PDF-1.7 abc", b"\0" * 9]
)
def test_a_short_file_that_begins_like_a_binary_one_is_none(put, content):
    with pytest.raises(DataError, match="not a text file"):
        rows_of(put("a.txt", content))


# ---------------------------------------------------------------- damaged records


def test_malformed_lines_are_counted_with_line_and_column(put):
    rows, reading = rows_of(put("a.jsonl", '{"a": 1}\n{"a": }\n{"a": 3}\n{"a": 4'))
    assert [row.fields["a"] for row in rows] == [1, 3]
    assert reading.refused == {"malformed JSON": 1, "last line looks cut off": 1}
    assert reading.rows == 4
    assert reading.examples[0] == "a.jsonl:2: malformed JSON: column 7: Expecting value"


def test_a_reason_of_the_json_decoder_that_ends_in_the_middle_is_made_whole(put):
    _, reading = rows_of(put("a.jsonl", '{"a": "tab\there"}\n{"a": "open}\n{"a": 3}\n'))
    assert reading.examples == [
        "a.jsonl:1: malformed JSON: column 11: Invalid control character",
        "a.jsonl:2: malformed JSON: column 13: Invalid control character",
    ]
    with pytest.raises(DataError, match=r"column 12: Invalid control character$"):
        rows_of(put("b.json", '[{"a": "tab\there, and more that follows"}]'))


def test_duplicate_keys_and_lone_surrogates_are_refused_wherever_they_stand(put):
    lines = '{"a": {"b": 1, "b": 2}}\n{"a": ["\\ud800"]}\n{"a": "\\ud83d\\ude00"}\n'
    for name, content in [("a.jsonl", lines), ("b.json", "[" + ",".join(lines.split("\n")[:3]) + "]")]:
        rows, reading = rows_of(put(name, content))
        assert [row.fields["a"] for row in rows] == ["😀"]
        assert reading.refused == {"duplicate key": 1, "lone surrogate": 1}


def test_a_huge_line_is_refused_and_the_next_one_read(put):
    content = '{"a": "' + "x" * 5000 + '"}\n{"a": 2}\n'
    rows, reading = rows_of(put("a.jsonl", content), max_record_bytes=1000)
    assert [row.fields["a"] for row in rows] == [2]
    assert reading.refused == {"larger than max_record_bytes": 1}


def test_one_broken_line_of_ten_thousand_costs_one_row(put):
    lines = [f'{{"n": {number}}}' for number in range(1, 10_001)]
    lines[6] = '{"n": 7,}'
    rows, reading = rows_of(put("a.jsonl", "\n".join(lines) + "\n"))
    assert len(rows) == 9_999
    assert reading.refused == {"malformed JSON": 1}
    assert reading.examples[0].startswith("a.jsonl:7: malformed JSON: column ")


def test_a_line_of_ten_megabytes_is_refused_in_bounded_memory(put):
    import tracemalloc

    path = put("a.jsonl", '{"a": 1}\n{"a": "' + "x" * 10_000_000 + '"}\n{"a": 3}')
    tracemalloc.start()
    rows, reading = rows_of(path, max_record_bytes=100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ([row.where for row in rows], reading.refused) == (
        ["a.jsonl:1", "a.jsonl:3"],
        {"larger than max_record_bytes": 1},
    )
    assert peak < 6_000_000


def test_nul_bytes_are_told_from_other_damage(put):
    rows, reading = rows_of(put("a.jsonl", '{"a": 1}\n' * 500 + "\0\0\0\n" + '{"a": "\\u0000"}\n'))
    assert (len(rows), reading.refused) == (501, {"NUL bytes": 1})
    assert reading.examples == ["a.jsonl:501: NUL bytes: column 1"]


def test_an_archive_of_deep_paths_and_programs_is_not_run(tmp_path, put):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("data/rows.jsonl", '{"a": 1}\n')
        archive.writestr("data/data.py", "import os")
    assert len(rows_of(tmp_path / "a.zip", "*.jsonl")[0]) == 1
    with pytest.raises(UnsafeArtefactError, match="is a program"):
        rows_of(tmp_path / "a.zip")
    with pytest.raises(UnsafeArtefactError, match="is a script"):
        rows_of(put("rows.jsonl", "#!/bin/sh\nrm -r x\n"))


def test_a_large_list_is_read_element_by_element(put, monkeypatch):
    monkeypatch.setattr("configs.nested.CHUNK", 50)
    elements = [{"n": number, "t": "利率" * (number % 40), "deep": [[number]]} for number in range(300)]
    content = json.dumps([*elements, 12345678901234567890], ensure_ascii=False, indent=1)
    rows, reading = rows_of(put("a.json", content))
    assert [row.fields for row in rows] == elements
    assert rows[-1].where == "a.json:300"
    assert reading.refused == {"not an object": 1}
    line = content.partition('"n": 30,')[0].count("\n") + 1
    with pytest.raises(DataError, match=f"a.json:{line}: the file is not JSON: column"):
        rows_of(put("a.json", content.replace('"n": 30,', '"n"; 30,')))
    with pytest.raises(DataError, match="looks cut off"):
        rows_of(put("a.json", content[:-20]))
    with pytest.raises(DataError, match="Extra data"):
        rows_of(put("a.json", content + "{}"))


def test_an_element_of_a_list_that_is_too_large_or_flawed_costs_only_itself(put):
    content = json.dumps([{"a": 1}, {"a": "x" * 2000}, {"a": "é" * 400}, {"a": 4}])
    rows, reading = rows_of(put("a.json", content), max_record_bytes=1000)
    assert ([row.where for row in rows], reading.refused) == (
        ["a.json:1", "a.json:4"],
        {"larger than max_record_bytes": 2},
    )


def test_a_json_file_that_ends_early_looks_cut_off(put):
    with pytest.raises(DataError, match="looks cut off"):
        rows_of(put("a.json", '[{"a": 1}, {"a": '))


def test_an_empty_file_gives_no_rows(put):
    for name in ("a.jsonl", "a.json", "a.csv", "a.txt", "a.xml", "a.html", "a.rst"):
        rows, reading = rows_of(put(name, ""))
        assert (rows, reading.rows, reading.left_out) == ([], 0, {"empty file": 1})


def test_numbered_files_and_members_come_as_people_count(put, tmp_path):
    names = ["1.txt", "2.txt", "02b.txt", "10.txt", "a/9.txt", "a/11.txt", "b1.txt"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in sorted(names):
            archive.writestr(name, name)
            put(f"folder/{name}", name)
    assert [row.fields["text"] for row in rows_of(tmp_path / "a.zip")[0]] == names
    files = find_files("folder", (tmp_path,))
    assert [file.relative_to(tmp_path / "folder").as_posix() for file in files] == names
    assert [file.name for file in find_files("folder/*.txt", (tmp_path,))] == [
        "1.txt",
        "2.txt",
        "02b.txt",
        "10.txt",
        "b1.txt",
    ]


def test_digests_are_labelled_by_the_path_below_the_root(put, tmp_path):
    path = put("data/a.txt", "x")
    assert list(digest_files([path], [tmp_path, tmp_path / "data"])) == ["a.txt"]


def test_two_files_below_different_roots_never_share_a_label(put, tmp_path):
    files = [put("data/a.txt", "x"), put("a.txt", "y")]
    assert len(digest_files(files, [tmp_path, tmp_path / "data"])) == 2


def test_words_between_xml_elements_are_not_lost(put):
    path = put("a.xml", "<R><P>Take <b>one</b> daily.</P><Q><A>x</A></Q></R>")
    assert rows_of(path)[0][0].fields == {"P": "Take one daily.", "Q": {"A": "x"}}


# ---------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("path", "inside", "how", "count", "column"),
    [
        ("finance/edgar-10k/10-K.zip", "*.json", {}, 62, "item_1"),
        ("finance/fomc/fomc.tar.zst", "meeting_minutes/*.txt", {}, 230, "text"),
        ("finance/fomc/fomc.tar.zst", "press_conference/*.csv", {}, 26_646, "sentence"),
        ("finance/fomc-stance/lab-manual-combine-test-5768.xlsx", "", {}, 476, "label"),
        ("finance/pixiu-sentiment/fiqasa/train.jsonl.gz", "", {}, 7_500, "conversations"),
        ("medicine/pubmedqa/ori_pqal.json.gz", "", {"records": "*"}, 1_000, "final_decision"),
        ("medicine/mmlu-med/anatomy_test.csv", "", {"columns": tuple("qABCDa")}, 135, "q"),
        ("medicine/cmmlu/test/virology.csv", "", {}, 169, "Question"),
        ("medicine/medmcqa-dev/dev.json.zst", "", {}, 4_183, "exp"),
        ("urban/cn-laws-core/cn-laws-core.tar.zst", "*.md", {}, 212, "text"),
        ("general/cmrc2018/cmrc2018_dev.json.gz", "", {"records": "data[].paragraphs[].qas[]"}, 3_219, "question"),
        ("tourism/crosswoz/attraction_db.json", "", {"records": "1"}, 465, "名称"),
        ("green/climatex/ipcc_statements_dataset.tsv.gz", "", {}, 8_094, "statement"),
        ("emergency/safenet/safenet.tar.zst", "*.csv", {}, 1_089, "SAFENET ID"),
    ],
)
def test_real_files_give_the_rows_that_their_publishers_count(shared, path, inside, how, count, column):
    rows, reading = rows_of(shared / path, inside, **how)
    assert len(rows) == reading.rows == count
    assert all(column in row.fields for row in rows)


def test_the_chinese_dialogue_is_read_from_gb18030(shared):
    rows, reading = rows_of(next((shared / "medicine/cn-medical-dialogue").glob("*.csv.gz")))
    assert (len(rows), reading.encodings) == (7_644, {"gb18030": 1})
    assert rows[0].fields["department"] == "心血管科"


@pytest.mark.slow
def test_medquad_gives_14814_answered_questions(shared):
    rows, reading = rows_of(shared / "medicine/medquad/medquad.tar.zst", "*.xml", records="QAPairs.QAPair[]")
    assert len(rows) == 14_814
    assert reading.refused == {"no such path of `records`": 4}
    assert {"Focus", "Question", "Question_qtype", "Answer"} <= rows[0].fields.keys()
