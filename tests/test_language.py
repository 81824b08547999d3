"""Languages: told by script, by characters that only one Chinese script has, and by function words."""

import gzip
import json

import numpy as np
import pytest

from data_prep.language import LANGUAGES, WORDS, languages_of, word_counts, word_table
from data_prep.units import texts_of, units_of


def told(said):
    texts = texts_of(said)
    return [LANGUAGES[code] for code in languages_of(texts, units_of(texts))]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The bank raised its rate in March.", "en"),
        ("中国人民银行决定下调贷款利率。", "zh-Hans"),
        ("中國人民銀行決定下調貸款利率。", "zh-Hant"),
        ("利率", "zh-Hans"),
        ("日本銀行は金利を引き上げた。", "ja"),
        ("한국은행이 금리를 인상했다.", "ko"),
        ("El banco subió los tipos de interés en marzo.", "es"),
        ("O banco não subiu os juros em março.", "pt"),
        ("La banque a relevé ses taux dans le pays.", "fr"),
        ("Die Bank hat den Zins nicht erhöht.", "de"),
        ("La banca ha alzato il tasso di interesse nel paese.", "it"),
        ("De bank heeft de rente niet verhoogd.", "other"),
        ("Банк повысил ставку.", "other"),
        ("رفع البنك سعر الفائدة", "other"),
        ("2024-03-01 +5.25 %", "none"),
        ("", "none"),
        ("Metro-North", "none"),
    ],
)
def test_a_sentence_tells_its_language(text, language):
    assert told([text]) == [language]


def test_listings_and_addresses_do_not_make_a_chinese_page_english():
    page = "使用以下语句查看结果，然后关闭连接：\nSELECT count FROM orders WHERE rate > 5;\n参见 https://docs.example.org/stable/orders"
    assert told([page]) == ["zh-Hans"]
    assert told(["The word 利率 is the Chinese for the rate of interest on a loan."]) == ["en"]


def test_a_text_is_told_alone_as_in_a_batch():
    said = ["The rate of it", "", "利率和貸款", "ノート", "de la que el"]
    assert told(said) == [told([text])[0] for text in said]


def test_every_function_word_is_found_under_its_own_languages():
    table = word_table()
    slots = (table.values[1:] >> np.uint64(table.shift)).astype(np.uint16)
    assert len(set(slots.tolist())) == len(table.values) - 1
    for bit, words in enumerate(WORDS.values()):
        units = units_of(texts_of([words]))
        counts = word_counts(units)[0]
        assert counts.sum() == len(words.split()) == len(units.values_U)
        assert counts[table.masks >> bit & 1 == 1].sum() == counts.sum()


@pytest.mark.parametrize(
    ("name", "language", "share"),
    [("cmrc2018/cmrc2018_dev.json.gz", "zh-Hans", 0.995), ("drcd/DRCD_dev.json.gz", "zh-Hant", 0.995)],
)
def test_the_two_chinese_scripts_are_told_apart_on_real_articles(shared, name, language, share):
    data = json.loads(gzip.decompress((shared / "general" / name).read_bytes()))
    said = list({paragraph["context"] for article in data["data"] for paragraph in article["paragraphs"]})
    assert len(said) > 800
    assert told(said).count(language) >= share * len(said)
