"""Reading: every form of the sectors' files, and every way in which a file can be wrong."""

import gzip
import io
import json
import pickle
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.errors import DataError, UnsafeArtefactError
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


def test_a_wrong_path_of_records_names_the_nearest_key(put):
    with pytest.raises(DataError, match=r"no dta in the record. Did you mean data\?"):
        rows_of(put("a.json", '{"data": []}'), records="dta[]")


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
        ("gb.txt", chinese.encode("gb18030"), "gb18030"),
        ("latin.txt", french.encode("latin-1"), "cp1252"),
    ]:
        rows, reading = rows_of(put(name, content))
        assert rows[0].fields["text"] == (french if name == "latin.txt" else chinese)
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


def test_a_binary_file_is_no_corpus(put):
    with pytest.raises(DataError, match="not a text file"):
        rows_of(put("photo.txt", bytes(range(256)) * 100))


# ---------------------------------------------------------------- damaged records


def test_malformed_lines_are_counted_with_line_and_column(put):
    rows, reading = rows_of(put("a.jsonl", '{"a": 1}\n{"a": }\n{"a": 3}\n{"a": 4'))
    assert [row.fields["a"] for row in rows] == [1, 3]
    assert reading.refused == {"malformed JSON": 1, "last line looks cut off": 1}
    assert reading.rows == 4
    assert reading.examples[0] == "a.jsonl:2: malformed JSON: column 7: Expecting value"


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


def test_a_json_file_that_ends_early_looks_cut_off(put):
    with pytest.raises(DataError, match="looks cut off"):
        rows_of(put("a.json", '[{"a": 1}, {"a": '))


def test_an_empty_file_gives_no_rows(put):
    assert rows_of(put("a.jsonl", ""))[1].rows == 0


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
