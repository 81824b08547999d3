"""Language: told by the script, by characters that only one Chinese script has, and by function words.

It is light and exact about what it rests on: no model, one look at each code point and at each word.

    N code points, D texts, U units, S sets of languages, L languages of the word table
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from data_prep.units import BLOCK, TABLE, texts_of, units_of

if TYPE_CHECKING:
    from data_prep.units import Texts, Units

LANGUAGES = ("en", "zh-Hans", "zh-Hant", "ja", "ko", "es", "pt", "fr", "de", "it", "other", "none")
"""What `languages_of` answers, after BCP 47; `none` where no language can be told."""
NOTHING, LATIN, HAN, SIMPLIFIED, TRADITIONAL, KANA, HANGUL, OTHER, CLASSES = range(9)
"""Classes of code points; SIMPLIFIED and TRADITIONAL are Han characters that only one of the scripts has."""
RANGES = (
    (LATIN, "AZ az ªª ºº ÀÖ Øö øɏ Ḁỿ ＡＺ ａｚ"),
    (HAN, "々〇 㐀䶿 一鿿 豈龎 𠀀𳑿"),
    (KANA, "ぁゖ ゝゟ ァヺ ーヿ ㇰㇿ ｦﾟ"),
    (HANGUL, "ᄀᇿ ㄱㆎ 가힣"),
)
"""First and last letters of the blocks that belong to a script (The Unicode Standard, Scripts.txt)."""
MOST = 0.3
"""Part of the letters from which a script other than Latin decides. A Chinese character says as much as two to three Latin
letters, so that at 0.3 about half of what is said is Chinese."""
SOME = 0.1
"""Part that is enough where running text in Latin letters is not more: program listings and addresses are not."""
PER_FUNCTION_WORD = 3.5
"""Chinese characters that say as much as one English function word stands for: nearly half of the words of English prose
are such words, and a Chinese word has 1.6 characters."""
KANA_SHARE = 0.1
"""Part of kana among Han characters and kana from which a text is Japanese: in running Japanese it is above 0.4."""
WORDS = {
    "en": "the of and to in is that for it was with as be on by at this are from or have an which but not were had has "
    "his he they their been its will would there who if more when what you your we our my can do so than then about a i me "
    "s just into after all over no she her him one out up how",
    "es": "de la que el en y a los del se las por un para con no una su al lo como más pero sus le ya o este porque esta "
    "entre cuando muy sin sobre también me hasta hay donde quien desde todo nos es son fue ha está tras",
    "pt": "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu sua "
    "ou ser quando muito há nos já está eu também só pelo pela até isso ela entre são foram pra você",
    "fr": "de la le et les des en un du une que est pour qui dans par plus pas au sur ne se ce il sont avec ou son aux "
    "cette ont ses mais comme on été nous vous leur être elle qu même sans ces à l d c n",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat "
    "dass sie nach wird bei einer um am sind noch wie einem über so zum war kann ich wir oder",
    "it": "di e il la che in un a per è una del non della con si da le i sono al dei come nel più alla ha anche gli ma "
    "delle se lo o su questo era dal nella dopo ci mi sul l dell all",
    "nl": "de het een van en in is dat op te zijn met voor niet aan er die ook als maar om bij dan naar heeft wordt door",
    "sv": "och att det som på är av för till med den inte har om ett han men jag från var så vi kan",
    "pl": "w i na z do nie się że jest jak to o od po za przez dla tak czy ale był przy oraz",
    "tr": "ve bir bu için ile da de olarak daha çok en olan ne gibi sonra kadar ama",
    "id": "yang dan di dengan untuk dari ini itu pada tidak dalam adalah akan ke oleh juga karena sudah saya",
    "vi": "và của là không các có được cho một trong đã với người những này để khi",
    "tl": "ang ng sa na mga ay at ni si kay para hindi ko mo po ito yung naman lang kung pa ba nga nasa may",
}
"""Frequent words that mean nothing by themselves; languages that are no answer of their own count as `other`."""
SLOTS = 16
"""Bits of the index of a word in the look-up table."""


class WordTable(NamedTuple):
    """Function words by a part of their unit's 64 bits."""

    shift: int
    """Where that part begins; chosen so that no two words share it."""
    rows: np.ndarray
    """uint16 [2**SLOTS]: the row of the word that may stand there, 0 for none."""
    values: np.ndarray
    """uint64 [W + 1]: the words as units."""
    sets: np.ndarray
    """uint8 [W + 1]: the set of languages that the word belongs to."""
    masks: np.ndarray
    """uint16 [S]: the sets; bit l is for language l of WORDS."""


def languages_of(texts: Texts, units: Units, words_DS: np.ndarray | None = None) -> np.ndarray:
    """The language of each text, as int8 positions in LANGUAGES; `words_DS` are its `word_counts`, if they are known.

    >>> said = ["The rate of the loan", "贷款利率", "貸款利率", "利率が上がる", "금리 인상", "la tasa del préstamo", "42"]
    >>> texts = texts_of(said)
    >>> [LANGUAGES[code] for code in languages_of(texts, units_of(texts))]
    ['en', 'zh-Hans', 'zh-Hant', 'ja', 'ko', 'es', 'none']
    """
    counts_DC = histogram(texts, script_table(), CLASSES)
    words_DS = word_counts(units) if words_DS is None else words_DS
    letters = counts_DC[:, LATIN:].sum(1)
    kana = counts_DC[:, KANA]
    east = counts_DC[:, [HAN, SIMPLIFIED, TRADITIONAL]].sum(1) + kana
    chinese = np.where(counts_DC[:, TRADITIONAL] > counts_DC[:, SIMPLIFIED], _code("zh-Hant"), _code("zh-Hans"))
    without_spaces = unspaced(east, letters, words_DS.sum(1))
    codes = np.select(
        [
            letters == 0,
            counts_DC[:, HANGUL] > MOST * letters,
            without_spaces & (kana > KANA_SHARE * east),
            without_spaces,
            counts_DC[:, OTHER] > MOST * letters,
        ],
        [_code("none"), _code("ko"), _code("ja"), chinese, _code("other")],
        _latin(words_DS),
    )
    return codes.astype(np.int8)


def unspaced(east: np.ndarray, letters: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Which texts are written without spaces, by their Han characters and kana, all letters, and function words."""
    return (east > MOST * letters) | ((east > SOME * letters) & (east > PER_FUNCTION_WORD * words))


def word_counts(units: Units) -> np.ndarray:
    """How many function words of each set of languages (`WordTable.sets`) a text has: int64 [D, S].

    >>> word_counts(units_of(texts_of(["The rate of a loan", "42"]))).sum(1).tolist()
    [3, 0]
    """
    from data_prep.fast import kernels

    table = word_table()
    if compiled := kernels():
        kinds = (table.shift, len(table.masks))
        return compiled.word_counts(*units[:2], table.rows, table.values, table.sets, kinds)
    rows_U = table.rows[(units.values_U >> np.uint64(table.shift)).astype(np.uint16)]
    places = np.flatnonzero(rows_U)
    rows = rows_U[places]
    same = table.values[rows] == units.values_U[places]
    texts, sets = len(units.starts) - 1, len(table.masks)
    keys = np.repeat(np.arange(0, texts * sets, sets), totals(places[same], units.starts)) + table.sets[rows[same]]
    return np.bincount(keys, minlength=texts * sets).reshape(texts, sets)


def histogram(texts: Texts, table: np.ndarray, classes: int) -> np.ndarray:
    """How many code points of each class a text has: int64 [D, classes]; `table` is uint8 [TABLE], by code point."""
    from data_prep.fast import kernels

    if compiled := kernels():
        return compiled.histogram(*texts, table, classes)
    points_N, starts = texts
    counts_DC = np.zeros((len(starts) - 1, classes), np.int64)
    for begin in range(0, len(points_N), BLOCK):
        codes = np.take(table, points_N[begin : begin + BLOCK], mode="clip")
        end = begin + len(codes)
        first, last = np.searchsorted(starts, begin, side="right") - 1, np.searchsorted(starts, end)
        if last - first == 1:
            counts_DC[first] += np.bincount(codes, minlength=classes)
            continue
        lengths = np.diff(np.clip(starts[first : last + 1], begin, end))
        keys = np.repeat(np.arange(0, (last - first) * classes, classes), lengths) + codes
        counts_DC[first:last] += np.bincount(keys, minlength=(last - first) * classes).reshape(-1, classes)
    return counts_DC


def totals(places: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """How many of the ascending places lie in each text: int64 [D]."""
    return np.diff(np.searchsorted(places, starts))


@lru_cache(maxsize=1)
def script_table() -> np.ndarray:
    """Class of each code point below TABLE: uint8. What only one Chinese script has follows OpenCC's character tables."""
    table = np.zeros(TABLE, np.uint8)
    table[[point for point in range(TABLE) if chr(point).isalpha()]] = OTHER
    for script, pairs in RANGES:
        for pair in pairs.split():
            table[ord(pair[0]) : ord(pair[-1]) + 1] = script
    sides = []
    for name in ("STCharacters.txt", "TSCharacters.txt"):
        lines = files("opencc").joinpath("dictionary", name).read_text("utf-8").splitlines()
        sides.append({line[0]: set(line[2:].split()) for line in lines if line[1] == "\t"})
    simplified, traditional = sides
    for script, own, other in ((SIMPLIFIED, simplified, traditional), (TRADITIONAL, traditional, simplified)):
        only = {letter for letter in own if letter not in own[letter]} - set(other).union(*own.values())
        table[[ord(letter) for letter in only if ord(letter) < TABLE]] = script
    return table


@lru_cache(maxsize=1)
def word_table() -> WordTable:
    """The look-up table of all function words, made once for a process."""
    masks: dict[str, int] = {}
    for bit, words in enumerate(WORDS.values()):
        for word in words.split():
            masks[word] = masks.get(word, 0) | 1 << bit
    values = units_of(texts_of(list(masks))).values_U
    for shift in range(64 - SLOTS + 1):
        slots = (values >> np.uint64(shift)).astype(np.uint16)
        if len(np.unique(slots)) == len(values):
            break
    rows = np.zeros(1 << SLOTS, np.uint16)
    rows[slots] = np.arange(1, len(values) + 1)
    every, sets = np.unique(np.array([0, *masks.values()], np.uint16), return_inverse=True)
    return WordTable(shift, rows, np.append(np.uint64(0), values), sets.astype(np.uint8), every)


def _latin(words_DS: np.ndarray) -> np.ndarray:
    """The language with most function words; English where it has as many as any other, `none` where there are none."""
    counts_DL = words_DS @ (word_table().masks[:, None] >> np.arange(len(WORDS)) & 1)
    codes_L = np.array([_code(name if name in LANGUAGES else "other") for name in WORDS])
    return np.where(counts_DL.max(1) > 0, codes_L[counts_DL.argmax(1)], _code("none"))


def _code(language: str) -> int:
    return LANGUAGES.index(language)
