"""Leaks, the judgement: names are no evidence, whole items always are; what is cut, counted and told."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from configs.items import Item
from data_prep.decontaminate import Benchmark, LeakIndex, find_leaks, index_of
from data_prep.leaks import (
    SENTENCE,
    Leaks,
    SourceLeaks,
    coverage,
    judge,
    occurrences,
    passage_of,
    tell_source,
    tell_tasks,
    without,
)
from data_prep.units import texts_of, units_of

WORDS = [f"w{number}" for number in range(40)]
PASSAGE = " ".join(WORDS[:20])  # 20 words: eight runs of 13


def item(passage: str, cluster: str = "") -> Item:
    return Item(passage, 0, passage, (), "", None, cluster or passage, passage)


def index(*passages: str) -> LeakIndex:
    return index_of([Benchmark("t", [item(passage) for passage in passages])], 13)


def judged(texts: list[str], found: LeakIndex) -> Leaks:
    hits = find_leaks(units_of(texts_of(texts)), found)
    return judge(hits, occurrences(hits, found), found)


def words(first: int, last: int) -> str:
    return " ".join(WORDS[first:last])


def test_a_name_that_stands_eleven_times_is_no_evidence_and_ten_times_it_is() -> None:
    found = index(f"{words(0, 13)} and much more that only this one item says in so many words as these")
    assert len(judged([f"see {words(0, 13)}"] * 11, found).tasks) == 0
    assert judged([f"see {words(0, 13)}"] * 10, found).tasks.tolist() == [[text, 0] for text in range(10)]
    one = " or ".join([words(0, 13)] * 11)  # in a single text as well
    assert len(judged([one], found).tasks) == 0


def test_a_text_that_holds_four_fifths_of_an_item_leaks_it_however_many_do() -> None:
    """16 of 20 words are 80 %; 15 are not."""
    found = index(PASSAGE)
    assert len(judged([words(0, 16)] * 50, found).tasks) == 50
    assert len(judged([words(0, 15)] * 50, found).tasks) == 0
    few = judged([words(0, 15)] * 50 + [PASSAGE], found)
    assert few.tasks.tolist() == [[50, 0]]
    assert few.spans.tolist() == [[50, 0, 20]]


def test_what_names_are_counted_over_is_the_sum_of_the_shards() -> None:
    found = index(f"{words(0, 13)} and much more that only this one item says in so many words as these")
    shards = [find_leaks(units_of(texts_of([words(0, 13)] * 6)), found) for _ in range(2)]
    often = sum((occurrences(hits, found) for hits in shards), np.zeros(len(found.hash_R), int))
    assert often.max() == 12
    assert [len(judge(hits, often, found).tasks) for hits in shards] == [0, 0]
    assert [len(judge(hits, occurrences(hits, found), found).tasks) for hits in shards] == [6, 6]


def test_judging_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine texts with hits of 14 to 40 units, at once and in blocks that one text fills."""
    found = index(PASSAGE, words(10, 30))
    texts = [PASSAGE, "nothing", words(12, 26)] * 4 + [f"{PASSAGE} x {words(10, 30)}"]
    once = judged(texts, found)
    monkeypatch.setattr("data_prep.leaks.BLOCK", 20)
    assert all((one == two).all() for one, two in zip(once, judged(texts, found), strict=True))
    assert len(once.spans) == 10


def test_the_coverage_of_an_item_is_the_part_of_its_words_that_all_documents_hold_together() -> None:
    """Words 0-13 of 20 are 70 %; with words 5-19 of another document it is the whole of it."""
    found = index(PASSAGE, words(20, 40))
    one, two = (judged([text], found).places for text in (words(0, 14), words(5, 20)))
    assert coverage([one], found) == {"t": {PASSAGE: 0.7}}
    assert coverage([two], found) == {"t": {PASSAGE: 0.75}}
    assert coverage([one, two], found) == {"t": {PASSAGE: 1.0}}
    assert coverage([], found) == {"t": {}}


def test_the_prompt_does_not_count_as_a_part_of_the_item() -> None:
    """The 14 words of the prompt are in 12 items; of the 16 own words of one, a text holds 13."""
    prompt, own = words(0, 14), [[f"n{n}x{at}" for at in range(16)] for n in range(12)]
    passages = [f"{prompt} {' '.join(text)}" for text in own]
    found = index(*passages)
    assert coverage([judged([" ".join(own[7][:13])], found).places], found) == {"t": {passages[7]: 0.8125}}


def test_an_item_without_the_marks_in_its_words_is_the_same_item() -> None:
    passage = "The Turku-based mill's sales rose to EUR 12.5m in May, its U.S. owner said on Monday, far above the plan"
    found = index(passage)
    plain = "The Turkubased mills sales rose to EUR 125m in May its US owner said on Monday far above the plan"
    assert coverage([judged([plain], found).places], found) == {"t": {passage: 1.0}}
    assert found.checked() == {"t": 1}


def test_spans_are_joined_where_runs_overlap_or_touch() -> None:
    found = index(words(0, 13), words(6, 19), words(19, 32))
    assert judged([f"x {words(0, 32)} y {words(0, 13)}"], found).spans.tolist() == [[0, 1, 32], [0, 34, 13]]


def test_cutting_takes_out_the_sentences_that_leak_and_keeps_the_rest() -> None:
    text = f"Growth was slow. He said: {PASSAGE}. Nobody listened, and growth stayed slow."
    found = index(PASSAGE)
    (_, first, units), *more = judged([text], found).spans.tolist()
    assert (first, units, more) == (5, 20, [])
    rest = without(text, [(first, units)])
    assert rest == "Growth was slow. Nobody listened, and growth stayed slow."
    assert len(judged([rest], found).tasks) == 0


def test_sentences_hold_the_same_units_as_their_text_whatever_the_letters() -> None:
    """500 texts of letters that expand, compose, separate or stand alone; each unit is cut with its sentence."""
    draw = random.Random(5)
    letters = "ab1 .!?。！？\n™½ß㎏ﬁ…e\u0301Éｅ．ｶﾞ가ㅎㅏ利率㈱著着\u200b\u00ad'-_、𠮷😀\u0338İﷺ"
    for _ in range(500):
        text = "".join(draw.choices(letters, k=40))
        units, sentences = units_of(texts_of([text])).values_U, units_of(texts_of(SENTENCE.split(text)))
        assert (sentences.values_U == units).all()
        assert without(text, []) == text
        for begin, end in pairwise(sentences.starts.tolist()):
            for first in range(begin, end):
                rest = units_of(texts_of([without(text, [(first, 1)])])).values_U
                assert (rest == np.delete(units, slice(begin, end))).all()
                assert units[first] in units_of(texts_of([passage_of(text, first, 1)])).values_U


@pytest.mark.parametrize(
    ("text", "first", "units", "passage"),
    [
        ("The Fed's  new 利率，2%\n rose", 3, 3, "new 利率"),
        ("Acme™ said so.", 1, 1, "said"),
        ("Über-größe ½ price", 0, 3, "Über-größe ½"),
    ],
)
def test_a_passage_is_shown_as_it_is_written(text: str, first: int, units: int, passage: str) -> None:
    assert passage_of(text, first, units) == passage


def test_what_leaks_is_told_with_its_part_of_the_text_and_a_passage() -> None:
    """One of two documents, 33 of 66 characters."""
    found = SourceLeaks("s", 2, 1, 66, 33, 33, {"t": 1, "u": 4, "a": 4}, "f:0", "a b c")
    told = "  s: 1 of 2 documents, 50.0% of its text, share a passage with test items (a 4, u 4, t 1): "
    hint = "    `prepare: {decontaminate: cut}` takes out only the sentences that leak"
    assert tell_source(found, "drop") == [f"{told}left out, 33 characters", '    f:0: "a b c"', hint]
    assert tell_source(found._replace(conversations=True), "drop") == tell_source(found, "drop")[:2]
    assert tell_source(found._replace(conversations=True), "cut") == tell_source(found, "drop")[:2]
    cut = tell_source(found._replace(characters_lost=28), "cut")
    assert cut[0] == f"{told}the sentences are cut out, 28 of 33 characters"
    assert tell_source(found, "report")[0] == f"{told}kept, as the recipe says"
    assert tell_source(found._replace(leaking=0), "drop") == []


def test_each_task_is_told_with_its_items_found_in_part_and_in_whole() -> None:
    lines = tell_tasks({"t": {"a": 0.8, "b": 0.7999, "c": 0.1}, "u": {}}, {"t": 1200, "u": 9})
    assert lines == ["  t: 3 of 1,200 test items found in the documents, 1 of them in whole"]
