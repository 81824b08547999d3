"""The guard: what it lets pass needs no repair and holds no personal data, compiled and not, on real and on random texts."""

from __future__ import annotations

import random

import pytest

from benchmarks.planted import sources
from data_prep import clean, fast, guard
from data_prep.clean import NAVIGATION, REPAIRS, Repair, repair
from data_prep.guard import WATCHED, likely, needs_of
from data_prep.privacy import find
from data_prep.units import texts_of

PIECES = (
    *("\r\n", "\r", "\x0c", "\u2028", "\n", "\n\n", "  ", "\t", "\u3000", "\xa0", " " * 70),
    *("Ã©", "â€™", "é’", "\x00", "\x7f", "\ufeff", "\xad", "\u200b", "क\u200dष", "a\u200d", "\uf0b7", "\U000f0001"),
    *("e\u0301", "\u1100\u1161", "Å", "\u2126", "臺", "利率。", "word", "Word,", "J", "k", "oo", "ookie", "cookie"),
    *("<", ">", "<p>", "</p>", "<b", "&", "&amp;", "&#39;", "<!--", "](", "[a](http://b.c)", "]", "("),
    *(
        ".....",
        ". . . . .",
        "………",
        "·····",
        " 12",
        "....",
        "Page 3",
        "PAGE 3 of 12",
        "- 7 -",
        "第 3 页",
        "共3页",
        "Page",
    ),
    *("JavaScript", "Please enable JavaScript", "This site uses cookies", "接受所有 cookies"),
    *(
        "a@b.org",
        "＠",
        "x＠y.cn",
        "<joe at b.org>",
        "::1",
        "2001:db8::7",
        ":ab:",
        "12:30:45",
        "138",
        "0013",
        "8000",
        "-",
    ),
    *(
        "192.168.10.20",
        "１３８００１３８０００",
        "110105",
        "19491231",
        "002X",
        ".",
        "tel ",
        "手机",
        "\ud800",
        "\U00020000",
    ),
    *sorted(NAVIGATION)[::9],
)


def random_texts() -> list[str]:
    """3,000 texts of up to twelve pieces each."""
    draw = random.Random(0)
    return ["".join(draw.choices(PIECES, k=draw.randrange(13))) for _ in range(3000)]


def real_texts(language: str) -> list[str]:
    found: list[str] = []
    for text in sources(language):
        found += [text, text.replace("\n", "\r\n")]
        if sum(map(len, found)) > 400_000:
            break
    return found


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kind", ["random", "en", "zh"])
def test_what_the_guard_lets_pass_needs_nothing(kind, compiled, monkeypatch):
    if compiled and fast.kernels() is None:
        pytest.skip("numba is not installed, or SECTORLM_FAST is off")
    if not compiled:
        monkeypatch.setattr(fast, "kernels", lambda: None)
    texts = random_texts() if kind == "random" else real_texts(kind)
    needs = needs_of(texts_of(texts))
    for text, bits, masks, lone in zip(texts, *(column.tolist() for column in needs), strict=True):
        assert repair(text, likely=likely(bits)) == repair(text), text
        assert masks or not find(text), text
        assert lone == any("\ud800" <= letter <= "\udfff" for letter in text)


def test_plain_sentences_need_nothing_at_all():
    needs = needs_of(texts_of(["Rates rose by 2.5% in 2009, he said.\nWho knows why?", "利率上升了 2.5%。", ""]))
    assert not needs.repairs_D.any() and not needs.mask_D.any() and not needs.lone_D.any()


def test_a_repair_is_likely_only_in_the_texts_that_hold_its_marks():
    texts = ["a <b>c</b>", "plain", "x\r\ny", "see [a](b.html)", "x\nPage 3\ny", "x\nBack to top"]
    found = [likely(bits) for bits in needs_of(texts_of(texts)).repairs_D.tolist()]
    assert found == [
        ("HTML remains",),
        (),
        ("line ends",),
        ("Markdown links",),
        ("page numbers",),
        ("navigation lines",),
    ]


def test_a_repair_that_the_guard_does_not_know_is_likely_in_every_text(monkeypatch):
    more = Repair("shouting", str.lower, ("!",))
    for module in (clean, guard):
        monkeypatch.setattr(module, "REPAIRS", (*REPAIRS, more))
    bits = needs_of(texts_of(["Rates rose.", "UP!\r\n"])).repairs_D.tolist()
    assert [likely(own) for own in bits] == [("shouting",), ("line ends", "shouting")]
    assert repair("UP!\r\n", likely=likely(bits[1])) == ("up!\n", ("line ends", "shouting"))


def test_the_guard_knows_every_repair_that_is_here():
    assert [row.name for row in REPAIRS] == list(WATCHED)
