"""Leaks: which documents share a run with a test item, found without stopping early."""

import time

import pytest

from configs.chat import Message
from configs.items import Item
from configs.recipe import Prepare, Source
from data_prep.decontaminate import Benchmark, find_leaks, units_of, without
from data_prep.documents import Document
from data_prep.ledger import Ledger

PASSAGE = "a b c d e f g h i j k l m n"  # 14 words: two runs of 13


def item(passage, cluster="", digest=""):
    return Item(digest or passage, 0, passage, (), "", None, cluster or passage, passage)


def leaks(texts, passages, ngram=13):
    documents = [Document(str(number), "s", "w", text=text) for number, text in enumerate(texts)]
    return find_leaks(documents, [Benchmark("t", [item(passage) for passage in passages])], ngram)


def test_thirteen_words_in_a_row_are_a_leak_and_twelve_are_not():
    found = leaks(["x a b c d e f g h i j k l m y", "x a b c d e f g h i j k l y"], [PASSAGE])
    assert found.by_document == {"0": ["t"]}
    assert (found.touched, found.checked) == ({"t": (PASSAGE,)}, {"t": 1})


def test_case_punctuation_width_and_line_breaks_do_not_hide_a_leak():
    found = leaks(["A, b; C.\nD (e) f-g/h i j k l Ｍ!"], [PASSAGE])
    assert found.by_document == {"0": ["t"]}


def test_thirteen_chinese_characters_are_a_leak():
    passage = "高血压患者可以吃党参吗请医生解答"
    assert leaks(["他说：高血压患者，可以吃党参吗？请医……"], [passage]).by_document == {"0": ["t"]}
    assert leaks(["他说：高血压患者，可以吃党参吗？请……"], [passage]).by_document == {}


def test_a_short_item_counts_as_a_whole_if_it_says_enough():
    found = leaks(
        ["x what is the base rate y", "什么是货币政策工具呢"], ["what is the base rate", "是货币政策工具呢", "the rate"]
    )
    assert found.by_document == {"0": ["t"], "1": ["t"]}
    assert found.checked == {"t": 2}  # "the rate" could stand anywhere


def test_one_document_touches_all_of_its_items_and_a_conversation_counts_as_one_text():
    other = "n o p q r s t u v w x y z"
    document = Document("0", "s", "w", messages=(Message("user", PASSAGE), Message("assistant", other)))
    found = find_leaks([document], [Benchmark("t", [item(PASSAGE)]), Benchmark("u", [item(other)])], 13)
    assert found.by_document == {"0": ["t", "u"]}
    assert found.touched == {"t": (PASSAGE,), "u": (other,)}


def test_the_prompt_that_every_item_shares_is_no_evidence():
    prompt = "what is the sentiment of the following financial post positive negative or neutral text"
    found = leaks([f"{prompt} something else"], [f"{prompt} number{n} word{n}" for n in range(12)])
    assert found.by_document == {}
    assert leaks([f"{prompt} number7"], [f"{prompt} number{n} word{n}" for n in range(12)]).by_document == {"0": ["t"]}


def test_a_run_does_not_cross_from_one_document_to_the_next():
    assert leaks(["a b c d e f g", "h i j k l m n"], [PASSAGE]).by_document == {}


def test_cutting_takes_out_the_sentence_and_keeps_the_rest():
    text = f"Growth was slow. He said: {PASSAGE}. Nobody listened, and growth stayed slow."
    document = Document("0", "s", "w", text=text, digest="old")
    found = find_leaks([document], [Benchmark("t", [item(PASSAGE)])], 13)
    source = Source(name="s", path="x", text="x", licence="MIT")
    for policy, rest, reason in [
        ("report", text, ""),
        ("drop", text, "leak:t"),
        ("cut", "Growth was slow. Nobody listened, and growth stayed slow.", ""),
    ]:
        ledger = Ledger([source])
        (verdict,) = found.settle([document], Prepare(decontaminate=policy), ledger)
        assert (verdict.document.text, verdict.reason) == (rest, reason)
    assert ledger.accounts["s"].mended == {"leak:t cut out": 1}
    assert find_leaks([verdict.document], [Benchmark("t", [item(PASSAGE)])], 13).by_document == {}


def test_what_leaks_is_told_with_its_part_of_the_text_and_a_passage(capsys):
    """One of two documents, 33 of 66 characters: 6 are `said. `, the other 27 the 14 words with their spaces."""
    texts = [f"said. {PASSAGE}", "y" * 33]
    documents = [Document(str(number), "s", f"f:{number}", text=text) for number, text in enumerate(texts)]
    found = find_leaks(documents, [Benchmark("t", [item(PASSAGE)])], 13)
    told = "  s: 1 of 2 documents, 50.0% of its text, share a passage with test items (t 1): "
    passage = '    f:0: "a b c d e f g h i j k l m"'
    for policy, lines in [
        (
            "drop",
            [f"{told}left out, 33 characters", passage, "    `prepare: {decontaminate: cut}` takes out only the "],
        ),
        ("cut", [f"{told}the sentences are cut out, 28 of 33 characters", passage]),
        ("report", [f"{told}kept, as the recipe says", passage]),
    ]:
        found.tell(documents, Prepare(decontaminate=policy))
        said = capsys.readouterr().err.splitlines()
        assert len(said) == len(lines)
        assert all(one.startswith(begin) for one, begin in zip(said, lines, strict=True))


@pytest.mark.parametrize("text", ["One. Two three? 四五。六!七\nEight a_b", "a_b. c_d. e", "x. é_y. z"])
def test_sentences_have_the_same_units_as_their_text(text):
    units = units_of(text)
    assert "".join(units_of(without(text, set()))) == "".join(units)
    kept = without(text, {0})
    assert units_of(kept) == units[len(units) - len(units_of(kept)) :]


def test_ten_megabytes_take_seconds():
    words = [f"w{number * 7919 % 5003}" for number in range(200_000)]
    texts = [" ".join(words[start : start + 2000]) for start in range(0, 200_000, 2000)] * 8
    passages = [" ".join(words[start : start + 20]) + f" own{start}" for start in range(1000, 200_000, 2000)]
    started = time.monotonic()
    found = leaks(texts, passages)
    assert len(found.by_document) == 800
    assert time.monotonic() - started < 15  # about 3 s on one core
