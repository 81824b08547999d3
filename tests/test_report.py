"""The report says what the numbers say, in a sentence, a table, Markdown and one page that needs no network."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from configs.figures import Series, curve, short, ticks
from configs.records import Comparison, Difference, made_by
from configs.sample import Piece
from configs.store import RunFolder
from eval.compare import compare
from eval.forest import forest
from eval.page import _curve
from eval.report import Report, difference_table, gather, html
from eval.sentences import cost, headline
from eval.wording import wording
from eval.words import interval, p_value, shown, signed
from tests.test_compare import choice, corpus, job, pair, passages

if TYPE_CHECKING:
    from pathlib import Path

EVIL = '<script>alert(1)</script> & 利率 \u2028 "quoted"'


def row(**keys: Any) -> Difference:
    base = {
        "task": "moods", "metric": "acc", "sector": "finance", "base": 0.125, "tuned": 0.8, "difference": 0.675,
        "low": 0.6, "high": 0.75, "p": 1e-9, "p_holm": 1e-9, "n": 200, "clusters": 200,
    }  # fmt: skip
    return Difference(**(base | keys))


def comparison(rows: tuple[Difference, ...], general: tuple[Difference, ...] = ()) -> Comparison:
    made = made_by("eval", 0.0)
    return Comparison(
        name="test", settings={}, inputs={}, files={}, made=made, sector="finance", differences=rows, general=general
    )


GENERAL = row(
    task="general_text", metric="bits_per_byte", sector="general", base=1.8, tuned=1.89, difference=0.09, low=0.07,
    high=0.11, higher_is_better=False,
)  # fmt: skip
NOTHING = row(task="other", difference=0.01, low=-0.03, high=0.05, p=0.6, p_holm=0.6)


@pytest.fixture
def page(tmp_path: Path) -> str:
    base, tuned = {"m": choice("m", "--+-" * 8)}, {"m": choice("m", "+++?" * 8)}
    for line in (*base["m"], *tuned["m"]):
        line["question"] = EVIL
    for line in tuned["m"][3::4]:
        line["text"] = "an unreadable text"
    base["g"], tuned["g"] = passages("g", [100.0, 90.0]), passages("g", [120.0, 95.0])
    pair(tmp_path, base, tuned, general=("g",))
    corpus(RunFolder(tmp_path).corpus, {"m": (base["m"][0]["item"],)}, {"m": 32})
    compare(job(tmp_path))
    return (RunFolder(tmp_path).report / "report.html").read_text("utf-8")


WORSE = row(task="third", base=0.8, tuned=0.7, difference=-0.1, low=-0.15, high=-0.05)
CLEAREST = "moods, accuracy from 12.5 to 80.0 (+67.5 points, 95 % interval +60.0 to +75.0)."


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ((row(),), f"On one finance task the tuned model is better: {CLEAREST}"),
        (
            (NOTHING,),
            "On one finance task the tuned model is not distinguishable from its base: other, accuracy from 12.5 to 80.0 "
            "(+1.0 points, 95 % interval −3.0 to +5.0).",
        ),
        ((row(), row()), f"On two finance tasks the tuned model is better on both; the clearest change is {CLEAREST}"),
        (
            (row(), NOTHING),
            "On two finance tasks the tuned model is better on one and not distinguishable on one; the clearest change "
            f"is {CLEAREST}",
        ),
        ((NOTHING, NOTHING), "On two finance tasks the tuned model is not distinguishable from its base on both."),
        (
            (row(), row(), WORSE, NOTHING, NOTHING),
            "On five finance tasks the tuned model is better on two, worse on one and not distinguishable on two; the "
            f"clearest change is {CLEAREST}",
        ),
    ],
)
def test_the_headline_tells_what_became_of_every_task(rows, sentence):
    assert headline(comparison(rows)) == sentence


def test_an_interval_without_width_says_why():
    same = {"difference": 0.0, "low": 0.0, "high": 0.0}
    assert interval(row(metric="macro_f1", **same)) == "no answer changed"
    assert interval(row(metric="bits_per_byte", **same)) == "no change"


def test_the_cost_is_told_with_the_relative_rise():
    """1.89 is 5 % above 1.80."""
    assert cost(comparison((row(),), (GENERAL,))) == (
        "General ability: general text worsened, 1.800 to 1.890 (+5.0 %)."
    )


def test_numbers_read_as_percent_or_bits_with_a_true_minus():
    assert [shown("acc", 0.1254), shown("bits_per_byte", 1.85)] == ["12.5", "1.850"]
    assert [signed("acc", -0.031), signed("acc", 0.00001), signed("mcc", 0.2)] == ["−3.1", "0.0", "+0.200"]
    assert [p_value(0.0004), p_value(0.0416)] == ["<0.001", "0.042"]


def test_the_terminal_table_holds_every_task_and_its_verdict():
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(difference_table([row(baselines={"majority": 0.125, "tfidf": 0.95}), GENERAL]))
    text = console.export_text()
    for word in ("moods", "+67.5", "+60.0 to +75.0", "majority 12.5 · TF-IDF 95.0", "better", "general_text", "worse"):
        assert word in text


def test_all_text_of_the_page_is_escaped(page):
    assert re.findall("<script[^>]*>", page) == [
        '<script type="application/json" id="words">',
        '<script type="application/json" id="items">',
        "<script>",
    ]
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; 利率" in page
    assert "&lt;b&gt;rows&lt;/b&gt;" in page


def test_the_page_needs_no_network(page):
    for word in ("http:", "https:", "@import", "url(", "<link", "src="):
        assert word not in page.replace("http-equiv", "")


SHAPES = ("line", "circle", "path", "polyline", "rect")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.ids += [named["id"] or ""] if "id" in named else []
        self.links += [named["href"] or ""] if tag == "a" else []
        if tag not in ("meta", "br", "input", *SHAPES):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in SHAPES:
            assert self.open.pop() == tag


def test_the_page_is_well_formed_and_its_links_lead_somewhere(page):
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert len(tags.ids) == len(set(tags.ids))
    assert {link.removeprefix("#") for link in tags.links} <= set(tags.ids)
    assert page.startswith("<!doctype html>")
    assert '<html lang="en">' in page


def test_the_page_shows_gained_items_the_ledger_and_the_unreadable_answer(page):
    """8 of 32 are right both times, 16 gained, 8 wrong; 3 of 10 rows of the corpus were too short."""
    assert "16 gained" in page
    assert "8 both right" in page
    assert "an unreadable text (cannot be read as an answer)" in re.sub(r"\s+", " ", page)
    assert "too short 3" in page
    assert "1 item shares a passage" in page


def test_the_page_tells_the_terms_the_leaks_and_what_was_found_in_each_source(page):
    """One of the 32 items is touched; the record of this corpus does not say that personal data were looked for."""
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", page))
    assert "Strictest licence: public-domain. Highest grade: general" in text
    assert "as it was read: m 1 of 32 (0 in whole)." in text
    assert "What was found in each source Source Personal data &lt;b&gt;rows&lt;/b&gt; not looked for" in text


def test_supervised_text_is_marked_and_its_document_named_by_file_and_line(tmp_path):
    """One row of two pieces of one document: the answer is a target of the loss, the question is not."""
    pair(tmp_path, {"m": choice("m", "--+-" * 8)}, {"m": choice("m", "+++?" * 8)})
    corpus(RunFolder(tmp_path).corpus, {}, {})
    found = compare(job(tmp_path))
    asked = Piece("rows", "rows.jsonl:7", 1200, "Why <up>?", supervised=False, tokens=3)
    answer = asked._replace(text="Rates & trade", supervised=True)
    page = html(replace(gather(found, RunFolder(tmp_path)), packed={3: [asked, answer]}))
    assert "<h3>Row 3</h3>" in page and "<small>rows, rows.jsonl:7, token 1,200</small>" in page
    assert re.findall('<mark class="learnt">(.*?)</mark>', page.split("<h3>Row 3</h3>")[1]) == ["Rates &amp; trade"]
    assert "Why &lt;up&gt;?" in page


def test_a_model_that_always_says_the_same_is_found_out(tmp_path):
    pair(tmp_path, {"m": choice("m", "-+-+")}, {"m": choice("m", "++++")})
    compare(job(tmp_path))
    assert (
        "m: the tuned model answers &#39;good&#39; to every item."
        in (RunFolder(tmp_path).report / "report.html").read_text()
    )


def test_a_forest_row_stays_inside_its_frame_and_tells_its_verdict_by_shape():
    better, worse = forest((5.0, 4.0, 6.0), 2.0, "better", "x"), forest((-1.0, -2.0, 0.0), 2.0, "worse", "x")
    assert [float(x) for x in re.findall(r'cx="([\d.]+)"', better)] == [212.0]
    assert "<circle" in better
    assert "<path" in worse
    assert "&lt;" in forest((0.0, 0.0, 0.0), 1.0, "better", "<")


def test_a_curve_of_1000_points_is_drawn_with_at_most_240():
    """Bins of 5 points: 200 of them."""
    drawn = curve(
        [Series("training", "training", [(float(x), 3.0) for x in range(1000)], dots=False)], "tokens", "loss"
    )
    [points] = re.findall(r'points="([^"]+)"', drawn)
    assert len(points.split()) == 200
    assert curve([], "tokens", "loss") == ""


def test_ticks_are_round_numbers():
    assert ticks(0, 9) == [0, 2, 4, 6, 8, 10]
    assert ticks(1.62, 4.1) == [1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]
    assert ticks(2.0, 2.0)[0] <= 2.0 <= ticks(2.0, 2.0)[-1]
    assert [short(950), short(1_250_000), short(40_000)] == ["950", "1.25M", "40k"]


def test_the_training_curve_leaves_out_preference_steps_whose_loss_is_by_pair():
    """Two steps of instruction and two of preference: the curve in nats per token has two points."""
    steps = [
        (1, 4.0, "1 (instruction)"),
        (2, 3.0, "1 (instruction)"),
        (3, 0.6, "2 (preference)"),
        (4, 0.5, "2 (preference)"),
    ]
    told = [{"step": at, "tokens": 10 * at, "loss": loss, "phase": phase} for at, loss, phase in steps]
    drawn = _curve(Report(comparison((row(),)), (None, None), ({}, {}), None, None, told), wording("en"))
    [points] = re.findall(r'<polyline class="training" points="([^"]+)"', drawn)
    assert len(points.split()) == 2
