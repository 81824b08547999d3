"""Web pages as text: what a reader sees stays, what only a browser needs goes, and no page hangs or swallows words."""

import time

import pytest

from configs.errors import DataError
from configs.markup import typed_text
from configs.read import Reading, read_rows
from configs.webpage import page_text


def text(page):
    return page_text(page)[0]


def test_words_stay_and_scripts_styles_menus_and_hidden_parts_go():
    page = """<!DOCTYPE html><html><head><title>Rates &amp; more</title><style>p {color: red}</style></head><body>
    <nav><ul><li>Home</li></ul></nav><script>if (a<b) { x("</p>"); }</script><!-- <p>old</p> -->
    <div style="display:none">secret</div><h1>Rates</h1><p>They <b>rose</b>&nbsp;by 10<sup>3</sup>.</p>
    <p>Twice.<footer>©</footer>"""
    assert page_text(page) == ("Rates\n\nThey rose by 10^3.\n\nTwice.", "Rates & more")


def test_a_row_of_a_table_is_a_line_and_signs_go_to_their_numbers():
    page = """<table><tr><th>Item<th>2024<th>2023</tr>
    <tr><td>Net sales</td><td>$</td><td>1,234</td><td></td><td>$</td><td>(56</td><td>)</td></tr>
    <tr><td>&#8226;</td><td>Growth</td><td>4.5</td><td>%</td></tr></table>"""
    assert text(page) == "Item | 2024 | 2023\nNet sales | $1,234 | $(56)\n• Growth | 4.5%"


def test_a_table_that_only_sets_the_page_keeps_its_paragraphs():
    page = "<table><tr><td><p>One.</p><p>Two.</p><table><tr><td>a<td>b</table></td></tr></table>after"
    assert text(page) == "One.\n\nTwo.\n\na | b\n\nafter"


def test_typed_text_keeps_its_lines_and_columns():
    assert text("<pre>Year   Rate\n2024    4.5</pre>") == "Year   Rate\n2024    4.5"
    assert typed_text(
        "<TABLE>\n<S>     <C>\nRate    4.5\n</TABLE>\nA &amp; B\n- -----"
    ) == "        \nRate    4.5\n\nA & B\n-----".strip(" \n")


@pytest.mark.parametrize("tag", ["script", "style", "nav", "svg", "button"])
def test_an_element_that_never_ends_does_not_swallow_the_page(tag):
    assert text(f"<p>One.</p><{tag}><p>Two.</p>").endswith("Two.")


def test_broken_markup_loses_no_words():
    assert text("a < b and c > d <b>bold") == "a < b and c > d bold"
    assert text('<a href="x>y">link</a> end') == "link end"
    assert text("<!-- never closed <p>One.") == "One."
    assert text("<p>One <") == "One <"


def test_the_time_is_linear_in_the_length_of_a_hostile_page():
    """Pages of 200,000 and 800,000 characters: four times the length takes less than twelve times as long."""
    for piece in ["<", "<a ", "<!--", '<a "', "<script>", "<td><table>", "<div style='display:none'>", "-->", "&amp"]:
        took = []
        for size in (200_000, 800_000):
            started = time.process_time()
            text(piece * (size // len(piece)))
            took.append(time.process_time() - started)
        assert took[1] < max(12 * took[0], 1.0), piece


FILING = """<SEC-DOCUMENT>0001.txt : 20240102
<SEC-HEADER>CONFORMED SUBMISSION TYPE: 8-K
</SEC-HEADER>
<DOCUMENT>
<TYPE>8-K
<SEQUENCE>1
<DESCRIPTION>CURRENT REPORT
<TEXT>
<html><body><p>Rates rose.</p></body></html>
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>EX-99.1
<TEXT>
<PAGE>
PRESS RELEASE   2024
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>GRAPHIC
<TEXT>
begin 644 logo.jpg
M_]C_X
end
</TEXT>
</DOCUMENT>
<DOCUMENT>
<TYPE>EX-101.INS
<TEXT>
<XBRL><xbrli:xbrl>1</xbrli:xbrl></XBRL>
</TEXT>
</DOCUMENT>
</SEC-DOCUMENT>
"""


def test_a_filing_gives_its_documents_and_counts_its_attachments(tmp_path):
    (tmp_path / "0001.txt").write_text(FILING)
    reading = Reading()
    rows = list(read_rows([tmp_path / "0001.txt"], reading=reading))
    assert [(row.where, row.fields["type"], row.fields["title"], row.fields["text"]) for row in rows] == [
        ("0001.txt:1", "8-K", "CURRENT REPORT", "Rates rose."),
        ("0001.txt:2", "EX-99.1", "0001", "PRESS RELEASE   2024"),
    ]
    assert reading.left_out == {"attachment GRAPHIC": 1, "attachment EX-101.INS": 1}
    assert (reading.rows, reading.forms) == (2, {"html": 1})


def test_a_page_larger_than_a_record_may_be_is_refused(tmp_path):
    (tmp_path / "a.html").write_text("<p>" + "x" * 2000)
    reading = Reading()
    assert list(read_rows([tmp_path / "a.html"], reading=reading, max_record_bytes=1000)) == []
    assert reading.refused == {"larger than max_record_bytes": 1}


def test_bytes_that_are_not_in_a_pages_encoding_are_an_error(tmp_path):
    (tmp_path / "a.html").write_bytes("<p>利率上升了，银行说。".encode() * 30 + b"\xff")
    with pytest.raises(DataError, match="holds bytes that are not in its encoding"):
        list(read_rows([tmp_path / "a.html"]))
