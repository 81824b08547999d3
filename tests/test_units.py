"""Texts as units: what is one, what it is equal to, and that blocks and batches change nothing."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from data_prep.units import BASE, BLOCK, digests_of, rolling, room_of, strings, tables, texts_of, units_of

SIMPLE = {chr(point): chr(tables().folded[point]) for point in range(0x4E00, 0xA000)}


def units(text: str) -> list[int]:
    return [int(value) for value in units_of(texts_of([text])).values_U]


def spelt(text: str) -> list[str]:
    """Units by the book, one character after another: folded, then runs of letters, and Han and kana one by one."""
    found, word = [], ""
    for letter in text:
        form = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", letter).casefold())
        for part in SIMPLE.get(form, form):
            alone = "\u3040" <= part <= "\u30ff" or "\u3400" <= part <= "\u9fff"
            if alone or not part.isalnum():
                found += [word] * bool(word) + [part] * (alone and part.isalnum())
                word = ""
            else:
                word += part
    return found + [word] * bool(word)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("The Fed's rate rose 0.25%.", 7),
        ("中国人民银行下调利率0.5个百分点", 16),
        ("贷款LPR为3.45％。", 6),
        ("カタカナ", 4),
        ("... -- !", 0),
        ("snake_case", 2),
        ("Straße ½ ™", 4),
    ],
)
def test_a_word_is_a_unit_and_so_is_a_chinese_character(text: str, count: int) -> None:
    """`The Fed s rate rose 0 25` are 7; ½ is 1 and 2, ™ is tm."""
    assert len(units(text)) == len(spelt(text)) == count


def test_case_width_punctuation_spacing_and_script_do_not_matter_and_letters_do() -> None:
    assert units("THE FED, 2％") == units("ｔｈｅ\u3000fed 2%") == units("the\nfed (2)")
    assert units("臺灣銀行貸款") == units("台湾银行贷款")
    assert units("Straße") == units("STRASSE")
    assert units("ab c") != units("a bc") and units("ab") != units("ba")


def test_units_are_equal_exactly_where_their_letters_are() -> None:
    """Of 3,000 words with letters of one to nine, as many hashes as spellings."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcé利率가я"), rng.integers(1, 10))) for _ in range(3000)]
    spellings = [part for word in words for part in spelt(word)]
    hashes = units(" ".join(words))
    assert len(hashes) == len(spellings)
    assert len(set(hashes)) == len(set(spellings)) == len(set(zip(hashes, spellings, strict=True)))


def test_a_texts_units_do_not_depend_on_the_texts_beside_it() -> None:
    """Also where a block of 32,768 code points ends inside it, and in a word longer than a block."""
    long = "x" * (BLOCK - 3) + "yz1 " + "word " * BLOCK + "q" * 3 * BLOCK
    texts = ["", "one two", long, "™" * 10, "", "利率 rate", "one two"]
    together = units_of(texts_of(texts))
    for number, text in enumerate(texts):
        own = slice(together.starts[number], together.starts[number + 1])
        assert together.values_U[own].tolist() == units(text)
    assert len(units(long)) == 1 + BLOCK + 1


def test_a_digest_is_of_the_letters_and_marks_whatever_the_spaces_case_and_width() -> None:
    same = ["Rate rises 2%.", "  ＲＡＴＥ\u3000rises\r\n\t2％．  ", "rate rises 2%."]
    assert len(set(digests_of(texts_of(same)))) == 1
    other = ["rate rises 2%", "raterises 2%.", "rate rises 3%.", "", "rate rises 2%.."]
    assert len(set(digests_of(texts_of([*same, *other])))) == 6
    assert digests_of(texts_of(["   ", "", "\u3000"])) == digests_of(texts_of(["\n"])) * 3
    assert len(digests_of(texts_of(["a"]))[0]) == 32


def test_half_a_surrogate_pair_and_code_points_beyond_the_tables_are_no_letters() -> None:
    """They come through as they are: a digest tells them apart, units leave them out."""
    odd = ["a \ud800 b", "a \U000e0041 b", "a \U0010fffd b", "a b"]
    assert strings(texts_of(odd)) == odd
    assert len({tuple(units(text)) for text in odd}) == 1
    assert len(set(digests_of(texts_of(odd)))) == 4


def test_rolling_hashes_are_the_sum_that_their_docstring_states() -> None:
    values = np.array([3, 5, 7, 11], np.uint64)
    assert rolling(values, 2).tolist() == [(one * BASE + two) % 2**64 for one, two in ((3, 5), (5, 7), (7, 11))]
    assert rolling(values, 5).tolist() == []
    assert room_of(np.array([0, 2, 2, 5])).tolist() == [2, 1, 3, 2, 1]
