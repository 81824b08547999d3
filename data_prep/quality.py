"""Quality: statistics of every document as columns, and a table of rules over them. A new rule is one row.

Statistics are kept, so that a threshold can be changed without reading the corpus again. The rules of the field were
made for English web pages; where they count words, stop words or word lengths they drop every Chinese document. Such a
rule has two rows here: one for texts whose words stand apart, one that counts characters.

    D documents, C classes of characters
"""

from __future__ import annotations

from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from configs.errors import RecipeError, did_you_mean
from configs.reading import encodes
from data_prep.clean import REPAIRS
from data_prep.language import totals, unspaced, word_counts
from data_prep.lines import (
    BRACE,
    DIGIT,
    FUNCTION,
    HAN,
    HANGUL,
    HASH,
    LATIN,
    LOST,
    SPACE,
    SYMBOL,
    UPPER,
    line_columns,
    lines_of,
    share,
    sums,
)
from data_prep.repetition import repeated_runs, top_run
from data_prep.units import Units, texts_of, units_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from configs.recipe import Prepare, Source
    from data_prep.documents import Document
    from data_prep.units import Texts

PROSE = 200
"""Visible width from which a text is judged as prose: about 40 English words or 100 Chinese characters. Gopher drops what
is shorter than 50 words; the records of a sector are often one sentence, and a sentence has no statistics."""
LONG, NOTE = 600, 100
"""Widths from which one run can stand out by chance no more, and from which text that repeats itself is seen."""
SPACED, UNSPACED = 1, 2
"""Scripts of a text: Latin letters with spaces between words; Han characters and kana. Others are 0: only the rules that
know no script are held against them."""
Columns = dict[str, np.ndarray]


class Rule(NamedTuple):
    """Something that leaves a document out: a statistic below `low` or above `high`."""

    name: str
    """The reason that the ledger gives."""
    statistic: str
    source: str
    low: float | None = None
    """Its threshold has the name `min_STATISTIC` in a recipe."""
    high: float | None = None
    """Its threshold has the name `max_STATISTIC` in a recipe; inf: off until a recipe gives one."""
    applies: Literal["all", "spaced", "unspaced"] = "all"
    least: int = PROSE
    """Visible width from which it applies."""
    talks: bool = False
    """Whether it is held against conversations too, whose short answers are no prose."""


class Thresholds(NamedTuple):
    """The limits of RULES for one source; nan where a limit is off."""

    low: np.ndarray
    """float32 [rules]."""
    high: np.ndarray
    """float32 [rules]."""


GOPHER = "Rae et al. 2021, Scaling Language Models (Gopher), section A1.1"
REPEATS = "Rae et al. 2021, Scaling Language Models (Gopher), table A1"
C4 = "Raffel et al. 2020, Exploring the Limits of Transfer Learning (C4), section 2.2"
FINEWEB = "Penedo et al. 2024, The FineWeb Datasets, section 3.6"
OWN = "measured: docs/quality-rules.md"
RULES = (
    Rule("too short", "chars", "the recipe's min_chars", low=10, least=0, talks=True),
    Rule("unreadable", "replacement", OWN, high=0.01, least=0, talks=True),
    Rule("lorem ipsum", "lorem_ipsum", C4, high=0.002, least=0),
    Rule("few letters", "letters", OWN, low=0.3),
    Rule("many braces", "braces", C4, high=0.1),
    Rule("repeated lines", "duplicate_lines", REPEATS, high=0.4, talks=True),
    Rule("repeated paragraphs", "duplicate_paragraphs", REPEATS, high=0.3, talks=True),
    Rule("one run of two words", "top_2_words", REPEATS, high=0.2, applies="spaced", least=LONG),
    Rule("one run of three words", "top_3_words", REPEATS, high=0.18, applies="spaced", least=LONG),
    Rule("one run of four words", "top_4_words", REPEATS, high=0.16, applies="spaced", least=LONG),
    Rule("one run of four characters", "top_4_characters", REPEATS, high=0.25, applies="unspaced"),
    Rule("runs of five words", "repeated_5_words", REPEATS, high=0.4, applies="spaced", least=NOTE),
    Rule("runs of ten words", "repeated_10_words", REPEATS, high=0.3, applies="spaced", least=NOTE),
    Rule("runs of characters", "repeated_16_characters", REPEATS, high=0.4, applies="unspaced", least=NOTE),
    Rule("list of bullets", "bullet_lines", GOPHER, high=0.9),
    Rule("ends in ellipses", "ellipsis_lines", GOPHER, high=0.3),
    Rule("short lines without end", "fragment_lines", FINEWEB, high=0.7),
    Rule("lines without end", "unended_lines", FINEWEB, high=inf),
    Rule("short lines", "short_lines", FINEWEB, high=inf),
    Rule("capitals", "capitals", OWN, high=inf),
    Rule("digits", "digits", OWN, high=inf),
    Rule("word length", "mean_word_length", GOPHER, low=3, high=10, applies="spaced"),
    Rule("words without letters", "lettered_words", GOPHER, low=0.6, applies="spaced"),
    Rule("hash signs", "hash_signs", GOPHER, high=0.1, applies="spaced"),
    Rule("symbols", "symbols", GOPHER, high=0.18, applies="unspaced"),
    Rule("few function words", "function_words", GOPHER, low=0.08, applies="spaced"),
    Rule("few function characters", "function_characters", GOPHER, low=0.04, applies="unspaced"),
)
"""The first rule that holds is the reason. Where a threshold is not its source's, docs/quality-rules.md says why."""


def statistics_of(texts: Texts, units: Units, words_DS: np.ndarray | None = None) -> Columns:
    """All statistics of a batch of documents: one column each, in the documents' order.

    `words_DS` are the `word_counts` of the units, if they are known.

    Shares are float32 in 0 to 1; a share of nothing is 0. Integers are counted first, and divided at the very end.
    """
    counts_DC, lines = lines_of(texts)
    characters = np.diff(texts.starts)
    visible = characters - counts_DC[:, SPACE]
    letters = counts_DC[:, LATIN:DIGIT].sum(1)
    east = counts_DC[:, HAN] + counts_DC[:, FUNCTION]
    words_D, lettered_D = (sums(lines.text_L, column, len(letters)) for column in (lines.words_L, lines.lettered_L))
    spoken_D = (word_counts(units) if words_DS is None else words_DS).sum(1)
    apart = unspaced(east, letters, spoken_D)
    latin = counts_DC[:, LATIN] + counts_DC[:, UPPER]
    script = np.where(apart, UNSPACED, np.where(2 * latin > letters, SPACED, 0))
    unspaced_units = np.diff(np.concatenate([[0], np.cumsum(units.single_U)])[units.starts])
    columns = {
        "characters": characters.astype(np.int32),
        "chars": (visible + east + counts_DC[:, HANGUL]).astype(np.int32),
        "units": np.diff(units.starts).astype(np.int32),
        "script": script.astype(np.int8),
        "replacement": share(counts_DC[:, LOST], characters),
        "letters": share(letters, visible),
        "digits": share(counts_DC[:, DIGIT], visible),
        "symbols": share(counts_DC[:, SYMBOL] + counts_DC[:, HASH], visible),
        "capitals": share(counts_DC[:, UPPER], latin),
        "han": share(east, letters),
        "braces": share(counts_DC[:, BRACE], visible),
        "hash_signs": share(counts_DC[:, HASH], words_D),
        "mean_word_length": share(visible, words_D),
        "lettered_words": share(lettered_D, words_D),
        "function_words": share(spoken_D, np.diff(units.starts) - unspaced_units),
        "function_characters": share(counts_DC[:, FUNCTION], east),
        "lorem_ipsum": share(_lorem_ipsum(units), np.diff(units.starts)),
    }
    return columns | line_columns(lines, len(letters)) | _repeated(units, apart)


def _repeated(units: Units, apart: np.ndarray) -> Columns:
    """Shares of runs: of words where they stand apart, of characters elsewhere. A Chinese word has about 1.6 characters."""
    words, characters = _only(units, ~apart), _only(units, apart)
    every = np.diff(units.starts)
    found = {f"top_{length}_words": top_run(words, length) for length in (2, 3, 4)}
    found |= {f"repeated_{length}_words": repeated_runs(words, length) for length in (5, 10)}
    found["top_4_characters"] = top_run(characters, 4)
    found["repeated_16_characters"] = repeated_runs(characters, 16)
    return {name: share(covered, every) for name, covered in found.items()}


def _only(units: Units, chosen: np.ndarray) -> Units:
    """The units of the chosen texts; the others have none."""
    lengths = np.diff(units.starts)
    if chosen.all():
        return units
    kept_U = np.repeat(chosen, lengths)
    starts = np.concatenate([[0], np.cumsum(lengths * chosen)])
    return Units(units.values_U[kept_U], starts, units.single_U[kept_U])


def _lorem_ipsum(units: Units) -> np.ndarray:
    """Units of each text that belong to a "lorem ipsum"."""
    lorem, ipsum = _lorem()
    pairs = np.flatnonzero((units.values_U[:-1] == lorem) & (units.values_U[1:] == ipsum))
    return 2 * totals(pairs, units.starts)


@lru_cache(maxsize=1)
def _lorem() -> np.ndarray:
    return units_of(texts_of(["lorem ipsum"])).values_U


def verdicts(columns: Mapping[str, np.ndarray], thresholds: Thresholds) -> np.ndarray:
    """The first rule that holds against each document, as int16: its position in RULES plus one, 0 where none does.

    `columns` are those of `statistics_of`, and `is_text`, bool: whether the document is plain text.
    """
    script, width, plain = columns["script"], columns["chars"], columns["is_text"]
    found = np.zeros(len(width), np.int16)
    for number, rule in enumerate(RULES, 1):
        value = columns[rule.statistic].astype(np.float32)
        holds = (value < thresholds.low[number - 1]) | (value > thresholds.high[number - 1])
        holds &= (width >= rule.least) & (plain | rule.talks)
        if rule.applies != "all":
            holds &= script == (SPACED if rule.applies == "spaced" else UNSPACED)
        found[holds & (found == 0)] = number
    return found


def check_rules(names: Iterable[str]) -> None:
    """Refuse names that are neither a threshold nor a repair.

    Raises:
        RecipeError: an unknown name; the nearest known one is named.
    """
    known = sorted([*limits(), *(row.name for row in REPAIRS)])
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"There are: {', '.join(known)}."
            raise RecipeError(f"{name}: no quality rule and no repair has this name", where="rules", hint=hint)


def limits() -> dict[str, float]:
    """The names of all thresholds and their defaults.

    >>> limits()["max_mean_word_length"], limits()["min_mean_word_length"]
    (10, 3)
    """
    low = {f"min_{rule.statistic}": rule.low for rule in RULES if rule.low is not None}
    return low | {f"max_{rule.statistic}": rule.high for rule in RULES if rule.high is not None}


def thresholds_of(prepare: Prepare, source: Source) -> Thresholds:
    """The limits for a source: defaults, then `prepare.min_chars`, `prepare.rules`, `rules` of the source.

    `false` turns a rule off, `true` gives it its default.
    """
    known = limits() | {"min_chars": prepare.min_chars}
    values = dict(known)
    for name, value in [*prepare.rules.items(), *source.rules.items()]:
        if name in known:
            values[name] = value if not isinstance(value, bool) else known[name] if value else np.nan
    low, high = ([values.get(f"{side}_{rule.statistic}", np.nan) for rule in RULES] for side in ("min", "max"))
    return Thresholds(np.array(low, np.float32), np.array(high, np.float32))


def repairs_off(prepare: Prepare, source: Source) -> frozenset[str]:
    """The repairs that a source does without.

    Raises:
        RecipeError: a repair was given a number.
    """
    wanted = {row.name: True for row in REPAIRS} | prepare.rules | source.rules
    for row in REPAIRS:
        if not isinstance(wanted[row.name], bool):
            raise RecipeError(f"{row.name}: {wanted[row.name]} is no threshold", hint="A repair is true or false.")
    return frozenset(row.name for row in REPAIRS if not wanted[row.name])


def unusable(document: Document) -> str:
    """Why a document can be no sample at all, whatever the rules say; nothing if it can."""
    if not encodes(document.content):
        return "lone surrogate"
    answers = [message.content for message in document.messages if message.role == "assistant"]
    if document.messages and not (answers and all(answer.strip() for answer in answers)):
        return "no answer"
    return ""
