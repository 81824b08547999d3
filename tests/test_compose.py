"""Exercises from raw text: right by construction, in English and in Chinese, and the same on every machine."""

from collections import Counter

import pytest

from configs.recipe import Source
from configs.store import digest_bytes
from data_prep.articles import questions_on_articles
from data_prep.cells import cells_of
from data_prep.compose import PORTION, compose
from data_prep.documents import Document
from data_prep.reading_tasks import exercises_of
from data_prep.sentences import language_of, sentences_of
from data_prep.wordings import QUESTIONS, RELATIONS

ENGLISH = """# Rates in the northern region

The bank raised its rates in March because demand for housing had risen sharply. Growth in the whole region then slowed down.
As a result, lenders closed seven of their forty branches. However, deposits kept growing through the summer.
In other words, households went on saving more than they had done before.

The reserve ratio is defined as reserves held at the bank over all deposits of its clients.
"""
CHINESE = """# 中华人民共和国水井法

2001年5月1日 全国人民代表大会常务委员会通过

2019年8月26日 《关于修改〈中华人民共和国水井法〉的决定》第二次修正

## 第一章 总则

第一条 为了保护地下水源，合理开发水井，制定本法。

第二条 本法所称水井，是指从地下取水的各种竖井。由于地下水位逐年下降，各地应当限制开采总量。

打井应当报告水位、含水量、出水量、水温。但是，农户自用的浅水井除外。

## 第二章 罚则

第三条 违反本法规定的，处一千元罚款。
第四条 短。
"""


def source(*forms):
    return Source(name="notes", path="x", text="{{ text }}", licence="CC0-1.0", compose=forms)


def document(text, **more):
    return Document(digest_bytes(text.encode())[:16], "notes", "notes.md:1", text, **more)


def found(text, kind, language=None):
    language = language or language_of(text)
    exercises = exercises_of(list(sentences_of(text, language)), language)
    return [(*it.given, it.answer) for it in exercises if it.kind == kind]


# ---------------------------------------------------------------- sentences


def test_sentences_keep_titles_of_persons_and_months_whole_and_stand_so_in_the_text():
    text = "Mr. Li met Dr. Wu on 3 Jan. 2020 in the bank. They agreed.\n\nThe rate\nrose."
    made = list(sentences_of(text, "en"))
    assert [it.text for it in made[:2]] == ["Mr. Li met Dr. Wu on 3 Jan. 2020 in the bank.", "They agreed."]
    assert all(" ".join(text[it.start : it.end].split()) == it.text for it in made)
    assert [it.paragraph for it in made] == [0, 0, 1, 1]


def test_lines_wrapped_by_hand_are_one_sentence():
    """Three lines of 60 to 68 characters: no sentence ends at a line's end."""
    text = (
        "The committee met for the whole of the day in the old town hall\n"
        "of New Harbour and agreed after a long debate to raise the rates\n"
        "on all loans. The members left the hall late in the evening and\n"
    )
    assert next(iter(sentences_of(text, "en"))).text.endswith(
        "hall of New Harbour and agreed after a long debate to raise the rates on all loans."
    )


def test_the_number_of_an_article_is_no_part_of_its_first_sentence():
    made = [it.text for it in sentences_of("第十二条之一 国家保护水源。违者罚款。", "zh")]
    assert made == ["国家保护水源。", "违者罚款。"]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Der Ausschuss hat den Zinssatz im März deutlich erhöht.", None),
        ("委員会は金利を引き上げました。", None),
        ("銀行提高了利率。", "zh"),
        ("The committee raised the rate in March.", "en"),
        ("", None),
    ],
)
def test_exercises_are_made_in_english_and_chinese_only(text, language):
    assert language_of(text) == language


# ---------------------------------------------------------------- reading


def test_english_connectives_become_exercises_answered_in_the_texts_own_words():
    assert found(ENGLISH, "cause") == [
        ("The bank raised its rates in March", "because demand for housing had risen sharply")
    ]
    assert found(ENGLISH, "effect") == [
        ("Growth in the whole region then slowed down.", "lenders closed seven of their forty branches.")
    ]
    assert [it[-1] for it in found(ENGLISH, "relation")] == ["follows", "contrasts"]
    assert found(ENGLISH, "restatement") == [
        (
            "However, deposits kept growing through the summer.",
            "households went on saving more than they had done before.",
        )
    ]
    assert found(ENGLISH, "definition") == [
        ("reserve ratio", "reserves held at the bank over all deposits of its clients")
    ]


def test_chinese_connectives_become_exercises_too():
    assert found(CHINESE, "purpose") == [("制定本法", "为了保护地下水源，合理开发水井")]
    assert found(CHINESE, "definition") == [("水井", "从地下取水的各种竖井")]
    assert found(CHINESE, "cause") == [("各地应当限制开采总量", "由于地下水位逐年下降")]
    assert found(CHINESE, "words") == [("含水量", "出水量", "打井应当报告水位、含水量、出水量、水温。")]
    assert found(CHINESE, "relation") == [
        ("打井应当报告水位、含水量、出水量、水温。", "农户自用的浅水井除外。", "contrasts")
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "Prices did not rise because demand for housing had risen sharply.",  # what was not because?
        "They said that prices rose because demand had been high all year.",  # who gives the reason?
        "Losses that occurred due to fire are paid by the insurance company.",  # the verb stands behind
        "The loans are due to expire at the end of the coming calendar year.",  # no cause at all
        "Housing prices rose mainly because of demand in the northern region.",  # a part of the cause
        "Prices rose because wages rose, while exports fell in all the regions.",  # where does it end?
    ],
)
def test_a_sentence_that_can_be_read_in_two_ways_is_passed_over(sentence):
    assert found(sentence, "cause", "en") == []


def test_reading_puts_the_exercises_after_the_text_in_the_same_document():
    exercises = Counter()
    parent = document(ENGLISH)
    [made] = compose(parent, {}, source("reading"), 17, None, exercises)
    assert made.text.startswith(ENGLISH.strip())
    assert made.id == parent.id and made.where == "notes.md:1~reading" and made.group == ""
    assert exercises["reading:title"] == exercises["reading:cause"] == exercises["reading:definition"] == 1
    after = made.text.removeprefix(ENGLISH.strip())
    assert after.count("\n\n") == exercises.total()  # a block each
    assert "Because demand for housing had risen sharply." in after and "Rates in the northern region" in after


def test_every_quoted_passage_and_every_answer_stands_in_the_text():
    """All but the answers about the relation of two sentences, which are words of ours."""
    for text in (ENGLISH, CHINESE):
        language = language_of(text)
        flat = " ".join(text.split())
        for exercise in exercises_of(list(sentences_of(text, language)), language):
            answer = () if exercise.kind == "relation" else (exercise.answer,)
            assert all(passage in flat for passage in (*exercise.given, *answer)), exercise


def test_a_long_text_is_interrupted_so_that_exercises_stand_near_what_they_ask_about():
    """A paragraph of 30,000 characters: four portions of up to 9,000, each with its own exercises; no word is lost."""
    words = [f"The bank numbered {number} closed its old branch in the harbour of the town." for number in range(420)]
    text = " ".join(words)
    exercises = Counter()
    [made] = compose(document(text), {}, source("reading"), 17, None, exercises)
    assert 1.5 * PORTION["en"] * 3 < len(text) < 1.5 * PORTION["en"] * 4
    assert exercises["reading:completion"] == 4
    position = 0
    for sentence in words:
        position = made.text.index(sentence, position)


def test_composing_is_deterministic_and_depends_on_the_seed():
    once, again, other = (compose(document(CHINESE), {}, source("reading", "articles"), seed) for seed in (1, 1, 2))
    assert once == again
    assert once != other and len(once) == len(other)


def test_a_conversation_and_a_text_without_exercises_stay_as_they_are():
    from configs.chat import Message

    talk = Document("0" * 16, "notes", "a:1", messages=(Message("user", "Hi"), Message("assistant", "Hello")))
    for parent in (talk, document("Der Ausschuss hat den Zinssatz erhöht."), document("")):
        assert compose(parent, {}, source("reading", "articles"), 17) == [parent]


def test_every_wording_takes_what_its_kind_gives():
    """No kind is without three wordings in English or two in Chinese, and none keeps a place holder."""
    for language, kinds in QUESTIONS.items():
        assert kinds.keys() == QUESTIONS["en"].keys() and RELATIONS[language].keys() == RELATIONS["en"].keys()
        for kind, wordings in kinds.items():
            assert len(set(wordings)) >= 2, (language, kind)
            for wording in wordings:
                assert "{" not in wording.format("A", "B", "C", choices="(x)")


# ---------------------------------------------------------------- articles


def test_a_law_becomes_questions_on_its_articles_with_exact_answers():
    """Three articles long enough for a question on their text; `第四条 短。` has two characters, and ten are asked."""
    asked = list(questions_on_articles(CHINESE))
    texts = [it.answer for it in asked if it.kind == "text"]
    assert texts[0] == "为了保护地下水源，合理开发水井，制定本法。"
    assert texts[1].startswith("本法所称水井") and texts[1].endswith("农户自用的浅水井除外。")
    assert texts[2] == "违反本法规定的，处一千元罚款。"
    assert len(texts) == 3
    assert {it.answer for it in asked if it.kind == "number"} <= {"第一条", "第二条", "第三条"}


def test_a_law_is_named_with_the_date_of_its_version_because_others_lie_beside_it():
    question = next(questions_on_articles(CHINESE)).wordings[0]
    assert question == "《中华人民共和国水井法》（2019年8月26日修正）第一条规定了什么？"


def test_articles_of_an_annex_that_begin_to_count_anew_are_passed_over():
    law = "# 甲法\n\n第一条 国家保护一切地下水资源。\n\n第二条 本法自公布之日起立即施行。\n\n第一条 附件另行规定的有关事项。\n"
    assert [it.answer for it in questions_on_articles(law) if it.kind == "text"] == ["本法自公布之日起立即施行。"]


def test_english_rules_have_articles_too():
    rules = (
        "Rules for wells\n===============\n\n### Rule 7\n\nEvery well in the town must be kept closed at night.\n"
        "\n### Rule 8\n\nSee Rule 7 of the town, which says how it is done.\n"
    )
    asked = list(questions_on_articles(rules))
    assert asked[0].answer == "Every well in the town must be kept closed at night."
    assert asked[0].wordings[0] == "What does Rule 7 of “Rules for wells” say?"
    assert [it.answer for it in asked if it.kind == "number"] == ["Rule 7", "Rule 8"]


def test_text_without_a_heading_or_without_articles_gives_no_questions():
    assert list(questions_on_articles("第一条 国家保护水源。")) == []
    assert list(questions_on_articles(ENGLISH)) == []


def test_questions_share_the_group_of_their_text_so_that_no_split_parts_them():
    beside = Counter()
    parent = document(CHINESE)
    made = compose(parent, {}, source("articles"), 17, beside)
    assert {it.group for it in made} == {parent.id}
    assert beside == {"articles": len(made) - 1}
    assert len({it.id for it in made}) == len(made) and all(len(it.id) == 16 for it in made)
    assert made[1].where == "notes.md:1~articles:1"
    assert [it.role for it in made[1].messages] == ["user", "assistant"]
    assert {it.group for it in compose(document(CHINESE, group="laws"), {}, source("articles"), 17)} == {"laws"}


# ---------------------------------------------------------------- table


def test_a_record_is_asked_by_its_name_about_its_other_columns_word_for_word():
    fields = {
        "_id": 7, "领域": "景点", "名称": "水井公园", "门票": 60, "评分": 4.7, "网址": "https://a.example/x", "电话": None,
        "周边": ["北门", "南门"], "开放": True,
    }  # fmt: skip
    assert cells_of(fields) == ("水井公园", [("领域", "景点"), ("门票", "60"), ("评分", "4.7"), ("周边", "北门、南门")])
    made = compose(document("水井公园"), fields, source("table"), 17)
    assert [it.messages[1].content for it in made[1:]] == ["景点", "60", "4.7", "北门、南门"]
    assert all("水井公园" in it.messages[0].content for it in made[1:])


def test_codes_and_classes_are_no_keys_and_a_record_without_a_key_is_not_asked_about():
    assert cells_of({"section": "XVII", "parent": "TOTAL", "description": "Horses; live"})[0] == "Horses; live"
    assert cells_of({"section": "XVII", "code": "0101", "level": 6}) == ("", [])


# ---------------------------------------------------------------- real data


def test_real_laws_yield_articles_whose_text_stands_in_them(shared):
    """The first 20 of 212 laws: every answer is found word for word, and no question has two answers."""
    from configs.read import read_rows

    answers = {}
    rows = read_rows([shared / "urban" / "cn-laws-core" / "cn-laws-core.tar.zst"])
    laws = [row.fields["text"] for _, row in zip(range(30), rows, strict=False)]
    for text in laws:
        for kind, wordings, answer in questions_on_articles(text):
            assert answer in text
            assert answers.setdefault((kind, wordings[0]), answer) == answer
    assert len(answers) > 1000
