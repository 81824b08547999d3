"""Leaks, the search: every planted item is found, whatever was done to its letters, and nothing that is not there."""

from __future__ import annotations

import random
import re
import time
import tracemalloc
import unicodedata
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import opencc
import pytest

from configs.items import Item, read_items
from configs.load import load_task
from data_prep.decontaminate import Benchmark, LeakIndex, find_leaks, index_of
from data_prep.leaks import coverage, judge
from data_prep.units import texts_of, units_of

if TYPE_CHECKING:
    from collections.abc import Callable

HOUSE = Path(__file__).resolve().parent.parent
PASSAGE = "a b c d e f g h i j k l m n"  # 14 words: two runs of 13
MARKS = "，。；：!?…—()[]“”、;:,.~*#|•"


def item(passage: str, cluster: str = "") -> Item:
    return Item(passage, 0, passage, (), "", None, cluster or passage, passage)


def index(*passages: str, ngram: int = 13) -> LeakIndex:
    return index_of([Benchmark("t", [item(passage) for passage in passages])], ngram)


def hits(texts: list[str], found: LeakIndex) -> list[list[int]]:
    """[text, first unit, units, first run] of each hit."""
    return find_leaks(units_of(texts_of(texts)), found).tolist()


def missed(texts: list[str], items: list[Item], found: LeakIndex) -> list[tuple[str, str]]:
    """Items of which text k, that holds item k, shows not one run."""
    shown = find_leaks(units_of(texts_of(texts)), found)
    gone = []
    for number, (text, own) in enumerate(zip(texts, items, strict=True)):
        places = judge(shown[shown[:, 0] == number], np.zeros(len(found.hash_R), np.int64), found).places
        if not any(own.digest in parts for parts in coverage([places], found).values()):
            gone.append((own.text, text))
    return gone


def test_one_cluster_with_a_long_name_costs_its_own_length_once() -> None:
    """200 items, one of them of a cluster named by a page of 100,000 characters: 80 MB if every name had its width."""
    items = [item(f"{PASSAGE} {number}", cluster=str(number)) for number in range(199)]
    index_of([Benchmark("t", items)], 13)  # loads what it needs
    tracemalloc.start()
    index_of([Benchmark("t", [*items, item(PASSAGE, cluster="p" * 100_000)])], 13)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_thirteen_words_in_a_row_are_a_hit_and_twelve_are_not() -> None:
    """Words 1 to 12 of the text are those of the item, and one less in the second text."""
    found = index(PASSAGE)
    assert hits(["x a b c d e f g h i j k l m y", "x a b c d e f g h i j k l y"], found) == [[0, 1, 13, 0]]
    assert hits([f"x x {PASSAGE} x"], found) == [[0, 2, 14, 0]]
    assert found.checked() == {"t": 1}


def test_a_hit_stands_at_the_borders_of_a_text_and_never_across_them() -> None:
    found = index(PASSAGE)
    assert hits([PASSAGE, f"x {PASSAGE}", "", f"{PASSAGE} x"], found) == [[0, 0, 14, 0], [1, 1, 14, 0], [3, 0, 14, 0]]
    assert hits(["a b c d e f g", "h i j k l m n", "a b c d e f g h i j k l", "m n"], found) == []
    assert hits(["", "", ""], found) == []
    assert hits([], found) == []


def test_thirteen_chinese_characters_are_a_hit() -> None:
    found = index("高血压患者可以吃党参吗请医生解答")
    assert hits(["他说：高血压患者，可以吃党参吗？请医……"], found) == [[0, 2, 13, 0]]
    assert hits(["他说：高血压患者，可以吃党参吗？请……"], found) == []


def test_a_short_item_counts_as_a_whole_if_it_says_enough() -> None:
    """Five words, or eight characters; "the rate" could stand anywhere."""
    found = index("what is the base rate", "是货币政策工具呢", "the rate", "货币政策工具呢")
    texts = ["x what is the base rate y", "什么是货币政策工具呢", "what is the base", "the rate"]
    assert [(text, first, units) for text, first, units, _ in hits(texts, found)] == [(0, 1, 5), (1, 2, 8)]
    assert found.checked() == {"t": 2}


def test_one_text_touches_all_of_its_items_and_a_conversation_is_one_text() -> None:
    other = "n o p q r s t u v w x y z"
    found = index_of([Benchmark("t", [item(PASSAGE)]), Benchmark("u", [item(other)])], 13)
    shown = find_leaks(units_of(texts_of([f"{PASSAGE}\n{other}"])), found)
    assert judge(shown, np.zeros(len(found.hash_R), int), found).tasks.tolist() == [[0, 0], [0, 1]]


def test_the_prompt_that_every_item_shares_is_no_evidence() -> None:
    """Fourteen words of prompt stand in 12 items, more than 10; twelve of them and the next word are one item's own."""
    prompt = "what is the sentiment of the following financial post positive negative or neutral text"
    found = index(*[f"{prompt} number{n} word{n}" for n in range(12)])
    assert hits([f"{prompt} something else"], found) == []
    assert [units for _, _, units, _ in hits([f"{prompt} number7"], found)] == [13]
    ten = index(*[f"{prompt} number{n} word{n}" for n in range(10)])
    assert hits([f"{prompt} something else"], ten) == [[0, 0, 14, 0]]


def test_hits_are_those_of_a_plain_comparison_of_all_runs() -> None:
    """Three letters, 40 texts of 60 words, 30 items of 5 to 12 words: each run of 7 (or a whole short item) by hand."""
    draw = random.Random(3)
    word = lambda count: [draw.choice("abc") for _ in range(count)]  # noqa: E731
    texts, passages = [word(60) for _ in range(40)], [word(draw.randint(5, 12)) for _ in range(30)]
    expected = set()
    for passage, (number, text) in product(passages, enumerate(texts)):
        length = min(len(passage), 7)
        runs = {tuple(passage[at : at + length]) for at in range(len(passage) - length + 1)}
        expected |= {(number, at, length) for at in range(60 - length + 1) if tuple(text[at : at + length]) in runs}
    found = index_of([Benchmark("t", [item(" ".join(words)) for words in passages])], 7)
    shown = find_leaks(units_of(texts_of([" ".join(words) for words in texts])), found)
    lengths = found.lengths_of(shown[:, 3])
    single = {
        (text, first + step, int(length))
        for (text, first, units, _), length in zip(shown.tolist(), lengths, strict=True)
        for step in range(units - length + 1)
    }
    assert single == expected
    assert len(expected) > 100


def test_an_index_is_the_same_bytes_each_time_and_after_loading(tmp_path: Path) -> None:
    benchmarks = [Benchmark("t", [item(PASSAGE), item("是货币政策工具呢")])]
    for name in ("one", "two"):
        index_of(benchmarks, 13).save(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert [(tmp_path / "one" / name).read_bytes() for name in files] == [
        (tmp_path / "two" / name).read_bytes() for name in files
    ]
    loaded = LeakIndex.load(tmp_path / "one")
    assert isinstance(loaded.hash_R, np.memmap)
    assert hits([PASSAGE], loaded) == hits([PASSAGE], index_of(benchmarks, 13)) == [[0, 0, 14, 0]]
    assert (loaded.tasks, loaded.checked()) == (("t",), {"t": 2})


def test_no_tasks_no_hits(tmp_path: Path) -> None:
    index_of([], 13).save(tmp_path)
    assert hits([PASSAGE], LeakIndex.load(tmp_path)) == []
    assert hits([PASSAGE], index("too short")) == []


# ---------------------------------------------------------------- planted items


def _full(text: str) -> str:
    return "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in text)


def _other_marks(text: str) -> str:
    draw = random.Random(text)
    return "".join(letter if letter.isalnum() or letter.isspace() else draw.choice(MARKS) for letter in text)


def _other_spaces(text: str) -> str:
    draw = random.Random(text)
    text = re.sub(r"\s+", lambda _: draw.choice(["  ", "\n", "\t ", "\u00a0", "\r\n\r\n", "\u3000"]), text)
    return re.sub("(?<=[\u4e00-\u9fff])(?=[\u4e00-\u9fff])", lambda _: draw.choice(["", "", " ", "\n"]), text)


CHANGES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "upper case": str.upper,
    "lower case": str.lower,
    "title case": str.title,
    "full width": _full,
    "half width": lambda text: unicodedata.normalize("NFKC", text),
    "other marks": _other_marks,
    "marks as spaces": lambda text: re.sub(r"[^\w\s]", " ", text),
    "no marks": lambda text: re.sub(r"[^\w\s]|_", "", text),
    "other spaces": _other_spaces,
    "no spaces between characters": lambda text: re.sub("(?<=[\u4e00-\u9fff]) +(?=[\u4e00-\u9fff])", "", text),
    "traditional": opencc.OpenCC("s2t").convert,
    "traditional, Taiwan": opencc.OpenCC("s2tw").convert,
    "traditional, Hong Kong": opencc.OpenCC("s2hk").convert,
    "simplified": opencc.OpenCC("t2s").convert,
}
CHANGES["all together"] = lambda text: _other_spaces(_full(_other_marks(CHANGES["traditional, Taiwan"](text).upper())))


def made_items() -> list[Item]:
    """400 items, half of them Chinese; a quarter of each is shorter than 13 units and counts as a whole."""
    english = [
        f"The Turku-based {what}'s {figure} {moved} to EUR {number}.{number % 7}m in {when}{more}"
        for what, figure, moved, number, (when, more) in product(
            ("mill", "bank", "shipyard", "bakery", "carrier"),
            ("net sales", "operating loss"),
            ("rose", "fell", "came back", "shrank", "ran up"),
            (12, 3),
            (
                ("May", "."),
                ("June", ", as its long-awaited report said on Monday; nobody in the market was surprised."),
            ),
        )
    ]
    chinese = [
        f"{who}{moved}{figure}{number}.{number % 7}万元{more}"
        for who, figure, moved, number, more in product(
            ("县医院", "渔业公司", "铁路局", "气象台", "博物馆"),
            ("预算外收入", "设备维护费"),
            ("去年增加了", "今年减少了", "三月里收回", "按规定支付", "计划投入了"),
            (12, 3),
            ("。", "，其中大部分来自两个新开的项目；负责人说“这在预料之中”。下列说法正确的是哪一项？"),
        )
    ]
    return [item(passage) for passage in (*english, *chinese)]


def planted(items: list[Item], change: Callable[[str], str]) -> list[str]:
    """Each changed item at the beginning, at the end, in the middle of a long text, alone, or as two turns."""
    around = "Rain fell on the hills that night, and nobody came. " * 20 + "河水慢慢涨了起来，村里的人都睡了。" * 20
    texts = []
    for number, own in enumerate(items):
        copy = unicodedata.normalize("NFC", change(own.text))
        forms = (f"{copy}\n{around}", f"{around} {copy}", f"{around}\n{copy}\n{around}", copy, f"{copy}\n答案 is this")
        texts.append(forms[number % 5])
    return texts


@pytest.mark.parametrize("change", CHANGES)
def test_all_of_400_planted_items_are_found_after_each_change(change: str) -> None:
    items = made_items()
    found = index_of([Benchmark("t", items)], 13)
    assert found.checked() == {"t": 400}
    assert missed(planted(items, CHANGES[change]), items, found) == []


def test_all_of_2267_real_items_are_found_after_each_change(shared: Path) -> None:
    """FOMC stance, CMMLU law and MMLU medicine; all of them as they are, and one in eleven after each change."""
    benchmarks = []
    for name in ("fomc_stance", "cmmlu_law", "mmlu_med"):
        task, roots = load_task(name, (shared, HOUSE))
        benchmarks.append(Benchmark(name, read_items(task, task.test_split, roots)[0]))
    found = index_of(benchmarks, 13)
    items = [own for benchmark in benchmarks for own in benchmark.items]
    assert found.checked() == {"fomc_stance": 474, "cmmlu_law": 782, "mmlu_med": 1011}
    for number, change in enumerate(CHANGES.values()):
        some = items if number == 0 else items[number::11]
        copies = [item(own.passage()) for own in some]
        gone = missed(planted(copies, change), some, found)
        assert gone == []


# ---------------------------------------------------------------- speed


def test_twenty_megabytes_take_less_than_a_second_of_one_processor() -> None:
    """Against 2,000 items of 50 words; 80 to 200 MB/s were measured, and 20 are asked for."""
    draw = random.Random(1)
    words = [f"word{number}" for number in range(5000)]
    text = " ".join(draw.choices(words, k=100_000))
    found = index(*[" ".join(draw.choices(words, k=50)) for _ in range(2000)])
    units = units_of(texts_of([text] * 4))
    size = 4 * len(text)
    started = time.process_time()
    for _ in range(3):
        assert len(find_leaks(units, found)) == 0
    assert 3 * size / (time.process_time() - started) > 20e6
