"""Repairs: what is mended, what stays as it is, and that each can be switched off by its name."""

import re

import pytest

from data_prep.clean import REPAIRS, SPARED, repair

NAMES = [row.name for row in REPAIRS]


def only(name):
    """All repairs but one, as the switch wants them."""
    return frozenset(NAMES) - {name}


@pytest.mark.parametrize(
    ("name", "text", "mended"),
    [
        ("mojibake", "The bankâ€™s cafÃ©", "The bank’s café"),
        ("mojibake", "ä¸\xadæ–‡ rates", "中文 rates"),
        ("line ends", "a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("control characters", "ra\x00te\ufeff", "rate"),
        ("invisible characters", "利\u200b率 and ra\xadte", "利率 and rate"),
        ("invisible characters", "利\u200d率", "利率"),
        ("invisible characters", "September 15–\u200d16", "September 15–16"),
        ("private characters", "\uf0b7 first\n\ue123", "• first\n\ufffd"),
        ("not in NFC", "cafe\u0301", "café"),
        ("HTML remains", "Rates &amp; <b>bonds</b>&nbsp;rose", "Rates & bonds rose"),
        ("HTML remains", "one<br>two<!-- three -->", "one\ntwo"),
        ("HTML remains", "利率 &lt; 3&#37;", "利率 < 3%"),
        ("Markdown links", 'see [Rule 97](/pages/rule.md#97){:target="_blank"}.', "see Rule 97."),
        ("Markdown links", "[![logo](../img/a.png)](https://a.org/b_(c))", "logo"),
        ("Markdown links", "参见[利率](https://a.org '说明')。", "参见利率。"),
        ("page numbers", "end\nPage 3 of 12\nnext\n第 3 页 共 12 页\n- 7 -\nlast", "end\nnext\nlast"),
        ("dot leaders", "Contents\n1. Risk factors ........ 12\n第一章 总则………… 3\nText", "Contents\nText"),
        ("cookie notices", "We use cookies to improve our site.\nRates rose.\n本网站使用Cookie。", "Rates rose."),
        ("script notices", "Please enable JavaScript to continue.\nRates rose.", "Rates rose."),
        ("script notices", "a\nThis page requires JavaScript to work.\nRates rose.", "a\nRates rose."),
        ("script notices", "JavaScript is turned off in your browser. Please turn it on.\nRates rose.", "Rates rose."),
        ("script notices", "It looks like JavaScript is disabled.\nYou need to enable JavaScript to run it.\na", "a"),
        ("script notices", "请启用JavaScript后继续浏览\n您的浏览器不支持 JavaScript。\n利率", "利率"),
        ("navigation lines", "Back to top\nRates rose.\n上一页\n下一页", "Rates rose."),
    ],
)
def test_each_repair_mends_its_fault_and_is_switched_off_by_its_name(name, text, mended):
    assert repair(text, only(name)) == (mended, (name,))
    assert name not in repair(text, frozenset({name}))[1]


@pytest.mark.parametrize(
    "text",
    [
        "Rates rose by 2%.\nThey fell (by 3%) in May; see [1], [2](a) and f[x](y).",
        "利率上升了。\n他说：“不会再降……”",
        "`<b>bold</b>` and ``&amp;`` are HTML",
        "```html\n<p>one</p>\n[a](http://b.org)\n```",
        "    <p>indented &amp; kept</p>",
        "$a<b>c</b>$ and \\(x &lt; y\\)",
        "$$\n\\begin{aligned}a &amp; b\\end{aligned}\n$$",
        "H<sub>2</sub>O, 10<sup>-3</sup>, List<String>, cp <a> <b>, if a<b and b>c",
        "Copyright (c) 2020 Example Corp. All rights reserved.",
        "Page 3 shows the balance.\nThe site said that we use cookies for tea.",
        "Heading\n........\n1/3 = 0.3333333333.......\nWait ......",
        "می\u200cخواهم",
        "👩\u200d🔬 works",
        "Our framework requires JavaScript and Node.\nThis page requires JavaScript knowledge.",
        "JavaScript is disabled in sandboxed frames by default.\nTurn on JavaScript debugging in the editor.",
        "请打开浏览器的 JavaScript 控制台。\n请启用 JavaScript 调试器。",
        "Home",
        "Voilà» dit-il. Ünïcödé naïve façade £5 – “so”",
        "",
    ],
)
def test_what_a_writer_meant_stays(text):
    assert repair(text) == (text, ())


def test_a_private_character_that_is_not_known_counts_as_unreadable():
    assert repair("\ue0ff" * 3) == ("\ufffd" * 3, ("private characters",))


def test_repairs_are_named_in_their_order_and_lone_surrogates_pass():
    mended, names = repair("\ud800 &amp;\r\n")
    assert (mended, names) == ("\ud800 &\n", ("line ends", "HTML remains"))


def test_an_unclosed_fence_protects_to_the_end_and_a_closed_one_only_its_block():
    assert repair("```\n<b>a</b>\n```\n<b>b</b>")[0] == "```\n<b>a</b>\n```\nb"
    assert repair("```\n<b>a</b>\n<b>b</b>")[0] == "```\n<b>a</b>\n<b>b</b>"


def test_a_repair_that_would_lose_a_protected_term_is_left_out_for_that_text() -> None:
    """`<b>` is markup; in a sheet of part numbers it may be a code."""
    term = re.compile("<b>[0-9]+")
    assert repair("<b>12</b> and <i>so</i>")[0] == "12 and so"
    assert repair("<b>12</b> and <i>so</i>", protected=term) == ("<b>12</b> and <i>so</i>", (SPARED,))
    assert repair("<i>so</i>", protected=term)[0] == "so"
