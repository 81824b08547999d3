"""The report's page and the leaderboard in a real browser: sorted, filtered, searched, opened, by mouse and by keyboard."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from configs.frame import without_items
from configs.store import HOUSE
from eval.leaderboard import Row, leaderboard
from eval.page import html
from tests.browser import Browser, chromium
from tests.pages import EVIL, card, item, report, score

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = chromium()
needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")
ROWS = "#reader .items > li"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if PROGRAM is None:
        pytest.skip("no Chromium on this machine")
    found = Browser(PROGRAM, tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html(report()), "utf-8")
    return path


@pytest.fixture
def reader(browser: Browser, page: Path) -> Iterator[Browser]:
    """The page, opened; at the end it has said nothing and fetched nothing."""
    browser.open(page)
    yield browser
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("file:")] == []
    assert len(browser.requests) == 1


def outcomes(browser: Browser) -> list[str]:
    return browser.texts(f"{ROWS} .became")


# ---------------------------------------------------------------- answers


def test_all_27_items_are_there_a_page_of_25_at_a_time(reader):
    """8 items of each of three tasks and 3 passages."""
    assert reader.texts("#reader .status") == ["1 to 25 of 27 items (27 in all)"]
    assert len(reader.texts(ROWS)) == 25
    reader.click("#reader .pages button:last-child")
    assert reader.texts("#reader .status") == ["26 to 27 of 27 items (27 in all)"]
    assert reader.look("document.querySelector('#reader .pages button:last-child').disabled")
    assert reader.texts("#samples") == []


def test_items_are_filtered_by_task_outcome_and_mark(reader):
    """Of moods 4 were gained and 1 lost; row 3 is cut, and row 7 has an answer that cannot be read."""
    reader.choose("[name=task]", "0")
    assert outcomes(reader) == ["gained"] * 4 + ["lost", "both right", "both wrong", "both wrong"]
    reader.choose("[name=outcome]", "gained")
    assert outcomes(reader) == ["gained"] * 4
    reader.choose("[name=mark]", "truncated")
    assert reader.texts("#reader .items .question") == ["Question 3 of moods?"]
    reader.choose("[name=outcome]", "")
    reader.choose("[name=mark]", "unreadable answer")
    assert reader.texts("#reader .items .question") == ["Question 7 of moods?"]
    reader.click("#reader [type=reset]")
    reader.wait("document.querySelector('#reader .status').textContent.startsWith('1 to 25 of 27')")


def test_a_search_finds_all_its_words_wherever_they_stand(reader):
    """`利率` stands in one question; `unreadable text` is what one model said; `tax` is a subject of four items."""
    for sought, found in (("利率 quoted", 1), ("UNREADABLE text", 1), ("tax", 4), ("nowhere", 0)):
        reader.write("[name=search]", sought)
        status = f"1 to {found} of {found} items (27 in all)" if found else "No item fits."
        reader.wait(f"document.querySelector('#reader .status').textContent === {json.dumps(status)}")


def test_the_largest_gain_and_the_largest_loss_come_first(reader):
    """The lost items are of moods and general_pairs; a gained item was once right and once wrong."""
    reader.choose("[name=order]", "loss")
    assert outcomes(reader)[:2] == ["lost", "lost"]
    reader.choose("[name=order]", "gain")
    assert outcomes(reader)[:4] == ["gained"] * 4


def test_a_click_on_an_item_shows_both_answers_side_by_side_and_escapes_them(reader):
    reader.click(f"{ROWS}:nth-child(3) > button")
    assert reader.look(f"document.querySelector('{ROWS} .item p.question').textContent") == EVIL
    assert reader.texts(f"{ROWS} .item .side h3") == ["base", "tuned"]
    assert reader.texts(f"{ROWS} .item ol li") == ["goodgoldtuned", "badbase"]
    assert "probability of the right choice: 73.1 %" in reader.texts(f"{ROWS} .item .side")[1]
    assert reader.look("document.scripts.length") == 3
    reader.click(f"{ROWS}:nth-child(3) > button")
    assert reader.texts(f"{ROWS} .item") == []


def test_items_are_read_by_the_keyboard_alone(reader):
    reader.look(f"document.querySelector('{ROWS} > button').focus()")
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "Enter"):
        reader.press(key)
    assert reader.look("document.activeElement.getAttribute('aria-expanded')") == "true"
    assert reader.look("document.activeElement.innerText").endswith("Question 1 of moods?")
    reader.press("Escape")
    assert reader.look("document.activeElement.getAttribute('aria-expanded')") == "false"
    reader.press("End")
    assert reader.look(f"document.activeElement.parentElement === document.querySelector('{ROWS}:last-child')")


def test_a_count_in_the_table_leads_to_its_items(reader):
    reader.click("a[data-task=moods][data-outcome=gained]")
    assert outcomes(reader) == ["gained"] * 4
    assert reader.texts("#reader .status") == ["1 to 4 of 4 items (27 in all)"]


def test_an_opened_item_has_an_address_that_leads_back_to_it(browser, page):
    browser.open(page)
    browser.click("#reader .pages button:last-child")
    browser.click(f"{ROWS}:last-child > button")
    address = browser.look("location.hash")
    browser.open(page, address)
    browser.wait("document.activeElement.parentElement.id === location.hash.slice(1)")
    assert address.startswith("#item-3-")
    assert browser.texts(f"{ROWS} .item h3") == ["base", "tuned"]


def test_a_table_is_sorted_by_click_and_by_key_and_says_so(reader):
    table = "table.scores"
    tasks = f"{table} tbody th"
    assert [text.split("\n")[0] for text in reader.texts(tasks)][:3] == ["moods", "other", "together"]
    head = f"{table} th:nth-child(4)"
    reader.click(f"{head} button")
    assert reader.look(f"document.querySelector('{head}').getAttribute('aria-sort')") == "descending"
    reader.press("Enter")
    assert reader.look(f"document.querySelector('{head}').getAttribute('aria-sort')") == "ascending"
    assert [text.split("\n")[0] for text in reader.texts(tasks)][:3] == ["other", "moods", "together"]


def test_10_000_items_are_filtered_and_searched_in_less_than_half_a_second(browser, tmp_path):
    """Measured in the page; the first search reads all texts, the next ones are quicker."""
    found = report()
    lines = [item("moods", row, "-+" if row % 3 else "++") for row in range(10_000)]
    for side, which in zip(found.answers, (0, 1), strict=True):
        side["moods"] = [pair[which] | {"question": f"{'A long question. ' * 20}{pair[0]['row']}"} for pair in lines]
    path = tmp_path / "large.html"
    path.write_text(html(found), "utf-8")
    started = time.monotonic()
    browser.open(path)
    assert time.monotonic() - started < 10
    browser.choose("[name=task]", "0")
    assert browser.texts("#reader .status") == ["1 to 25 of 10,000 items (10,019 in all)"]
    timed = (
        "(() => { const start = performance.now(), field = document.querySelector('[name=NAME]'); field.value = 'VALUE';"
        "field.form.requestSubmit(); document.body.offsetHeight; return performance.now() - start; })()"
    )
    taken = {
        name: browser.look(timed.replace("NAME", name).replace("VALUE", value))
        for name, value in (("outcome", "gained"), ("search", "long 9999"), ("order", "gain"))
    }
    assert browser.texts("#reader .status") == ["No item fits."]  # item 9,999 was right both times
    assert max(taken.values()) < 500, taken
    assert browser.errors == []


def test_without_scripts_the_tables_and_some_items_are_there_and_nothing_that_does_not_work(browser, page):
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        assert len(browser.texts("table.scores tbody tr")) == 5
        assert browser.texts("#samples h3")[:2] == ["Gained", "Lost"]
        assert browser.texts("#reader, th button") == []
    finally:
        browser.ask("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("name", ["page", "board"])
def test_everything_that_can_be_used_has_a_name_and_a_narrow_page_does_not_spill(browser, name, request):
    """The browser's own accessibility tree; 360 units are a small telephone."""
    browser.ask("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=False)
    try:
        browser.open(request.getfixturevalue(name))
        nodes = [it for it in browser.ask("Accessibility.getFullAXTree")["nodes"] if not it.get("ignored")]
        used = [
            it for it in nodes if it["role"]["value"] in ("button", "link", "searchbox", "combobox", "region", "image")
        ]
        assert len(used) > 10
        assert [it["role"]["value"] for it in used if not it.get("name", {}).get("value")] == []
        assert browser.look("document.documentElement.scrollWidth") <= 360
    finally:
        browser.ask("Emulation.clearDeviceMetricsOverride")


def test_a_page_whose_items_may_not_be_published_shows_the_samples(browser, page, tmp_path):
    text = without_items(page.read_text("utf-8"))
    assert "Question 0 of general_pairs" in page.read_text("utf-8").split('id="items"')[1]
    assert 'id="items"' not in text
    (tmp_path / "bare.html").write_text(text, "utf-8")
    browser.open(tmp_path / "bare.html")
    assert browser.texts("#reader") == []
    assert browser.texts("#samples h3")[:2] == ["Gained", "Lost"]
    assert browser.errors == []


# ---------------------------------------------------------------- without a browser


def test_the_policy_names_our_script_and_nothing_else(page):
    text = page.read_text("utf-8")
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy.replace("&#39;", "'").startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance and contrast ratio."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_colour_of_text_stands_out_4_5_to_1_in_light_and_dark():
    """WCAG 2.2, success criterion 1.4.3."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    style = (HOUSE / "configs" / "frame.css").read_text("utf-8")
    for scheme in re.findall(r":root \{([^}]+)\}", style)[:2]:
        colours = {
            name: "#" + "".join(c * 2 for c in value[1:]) if len(value) == 4 else value
            for name, value in re.findall(r"--(\w+): (#[0-9a-f]{3,6})", scheme)
        }
        for name in ("ink", "soft", "accent", "loss"):
            for ground in ("paper", "panel"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground, colours)


# ---------------------------------------------------------------- the leaderboard

BOARD = "#board tbody tr"


def row(name: str, marks: dict[str, str], **keys: str) -> Row:
    """A model with one sign for each item of each task: + right, - wrong."""
    scores, answers = [], {}
    for task, signs in marks.items():
        answers[task] = [item(task, place, sign * 2)[0] for place, sign in enumerate(signs)]
        scores.append(score(task, signs.count("+") / len(signs), n=len(signs), **keys))
    return Row(name, card(name, tuple(scores)), answers)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models on 20 items of `moods`; a fourth on 10 of them; `laws` is urban and in Chinese."""
    rows = [
        row("first", {"moods": "+" * 8 + "-" * 12, "laws": "+-" * 10}),
        row("second", {"moods": "+" * 18 + "-" * 2, "laws": "-+" * 10}),
        row("third", {"moods": "+" * 4 + "-" * 16}),
        row("short", {"moods": "+" * 10}),
    ]
    for found in rows[:2]:
        for line in found.answers["laws"]:
            line["question"] = "第一条 为了规范"
        scores = tuple(
            it.model_copy(update={"sector": "urban_governance"}) if it.task == "laws" else it
            for it in found.card.scores
        )
        object.__setattr__(found, "card", found.card.model_copy(update={"scores": scores}))
    path = tmp_path_factory.mktemp("board") / "board.html"
    path.write_text(leaderboard(rows), "utf-8")
    return path


def names(browser: Browser) -> list[str]:
    return [text.split("\n")[0] for text in browser.texts(f"{BOARD} th")]


def test_what_answers_other_items_is_marked_and_stays_last_in_every_order(browser, board):
    """`short` has 100 % on 10 of the 20 items: it is neither first nor last by rank, but apart."""
    browser.open(board)
    head = "#board thead th:nth-child(2)"
    browser.click(f"{head} button")
    assert names(browser) == ["second", "first", "third", "short"]
    browser.press("Enter")
    assert names(browser) == ["third", "first", "second", "short"]
    assert browser.texts("#board td.other .why") == ["≠ not comparable: other items"]
    assert browser.texts(".notes li") == [
        "moods: these rows were asked other items or counted otherwise: first, second, third; short."
    ]
    assert browser.errors == [] and len(browser.requests) == 1


def test_differences_follow_the_chosen_baseline(browser, board):
    """18 of 20 against 8 of 20, ten gained: +50 points; seen from the second the first is at -50."""
    browser.open(board)
    apart = f"{BOARD} td:nth-child(2) .apart"
    assert browser.texts(apart)[1].startswith("+50.0 (")
    browser.choose("[name=baseline]", "1")
    assert browser.texts(apart)[0].startswith("−50.0 (")
    assert browser.texts(apart)[1] == ""
    assert browser.texts("#board .reference th")[0].startswith("second")
    browser.choose("[name=baseline]", "3")
    assert len(browser.texts("#board td.other .why")) == 3


def test_columns_are_filtered_by_sector_and_language_and_rows_by_name(browser, board):
    browser.open(board)
    for field, value, shown in (("sector", "urban_governance", "laws"), ("language", "en", "moods")):
        browser.choose(f"[name={field}]", value)
        assert [text.split("\n")[0] for text in browser.texts("#board th[data-task]")] == [shown]
        browser.choose(f"[name={field}]", "")
    browser.write("[name=search]", "second")
    assert names(browser) == ["second"]
    assert browser.texts(".status") == ["1 models, 2 tasks"]
