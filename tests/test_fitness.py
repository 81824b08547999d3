"""How a tokenizer fits a sector: figures that can be counted by hand, terms by likelihood ratio, savings as measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.base import load_tokenizer
from configs.errors import DataError
from data_prep.fitness import fitness
from data_prep.terms import find_terms, log_likelihood
from tests.recipes import lines, prose, recipe, sectorlm, source

SECTOR = "The sukuk {n} of the bank is sold. 央行开展逆回购操作，规模为{n}亿元。"


@pytest.fixture
def here(tmp_path, monkeypatch, tiny_base) -> Path:
    """A recipe over 20 notes with two terms, and 20 general texts without them."""
    monkeypatch.chdir(tmp_path)
    Path("notes.jsonl").write_text(lines([{"body": SECTOR.format(n=n)} for n in range(20)]), "utf-8")
    Path("plain.jsonl").write_text(lines([{"body": prose(n, 2)} for n in range(20)]), "utf-8")
    recipe(tiny_base, source("notes.jsonl"), source("plain.jsonl", channel="general"))
    return tmp_path / "r.yaml"


def test_the_ratio_is_that_of_the_formula():
    """2 (10 ln(10 / 5)) = 13.863 for 10 of 1,000 against none of 1,000; equal rates give 0."""
    assert log_likelihood(10, 0, 1000, 1000) == pytest.approx(13.863, abs=1e-3)
    assert log_likelihood(7, 70, 1000, 10_000) == pytest.approx(0, abs=1e-9)


def test_a_chinese_term_is_the_longest_run_that_stands_together_and_common_words_are_none():
    sector = [f"第{n}期：央行开展逆回购。the bank issues sukuk" for n in "一二三四五六七八"]
    found = {it.text for it in find_terms(sector, ["the bank issues loans. 今天天气很好，大家去公园散步。"] * 40)}
    assert {"央行开展逆回购"[1:], "sukuk"} <= found  # six characters are the most
    assert not found & {"逆回购", "回购", "the", "bank", "issues"}


def test_figures_of_each_channel_and_language_are_those_of_its_texts(here, tiny_base):
    found = fitness(here)
    texts = [SECTOR.format(n=n) for n in range(20)]
    tokenizer = load_tokenizer(tiny_base)
    [fit] = [it for it in found.fits if it.channel == "sector"]
    assert fit.language == "zh"
    tokens = sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts)
    assert (fit.documents, fit.characters, fit.tokens) == (20, sum(map(len, texts)), tokens)
    assert fit.characters_per_token == pytest.approx(fit.characters / tokens)
    assert fit.bytes == sum(len(text.encode()) for text in texts)
    assert fit.broken > 0.3  # most Chinese characters are bytes to this tokenizer
    plain = {it.language: it for it in found.fits if it.channel == "general"}
    assert plain["other"].broken < 0.01 < plain["zh"].broken
    assert {it.unknown for it in found.fits} == {0}


def test_what_is_saved_is_what_the_extended_tokenizer_saves(here, tiny_base, tmp_path):
    """`sukuk` stands once in each of 20 documents: a token of its own saves 20 * (pieces - 1)."""
    Path("words.txt").write_text("sukuk\n逆回购\nnowhere\n", "utf-8")
    found = fitness(here, terms=Path("words.txt"), count=2)
    tokenizer = load_tokenizer(tiny_base)
    pieces = {text: len(tokenizer.encode(text, add_special_tokens=False)) for text in (" sukuk", " nowhere")}
    assert found.terms["sukuk"] == pieces[" sukuk"]
    assert found.terms["nowhere"] == pieces[" nowhere"]
    before = sum(it.tokens for it in found.fits if it.channel == "sector")
    assert sum(it.saved for it in found.suggested) == pytest.approx(found.saved)
    assert len(found.suggested) == 2
    [alone] = fitness(here, ["train.new_tokens=[sukuk]"], count=1).suggested
    assert (alone.text, alone.origin, alone.count) == ("sukuk", "recipe", 20)
    assert alone.saved == pytest.approx(20 * (alone.pieces - 1) / before)


def test_the_command_prints_tables_and_json_and_says_what_the_sample_is(here, tiny_base):
    told = sectorlm("fitness", here, "--count", "3")
    assert told.code == 0, told.err
    assert "20 sector and 92 general documents: of each source up to 400 by hash" in told.out  # 72 of them are shipped
    assert "suggested for train.new_tokens" in told.out
    data = json.loads(sectorlm("--json", "fitness", here).out)
    assert data["vocabulary"] == len(load_tokenizer(tiny_base))
    assert {"fits", "suggested", "saved", "terms", "general_terms"} <= data.keys()
    assert fitness(here) == fitness(here)


def test_without_general_sources_the_shipped_samples_stand_in(here, tiny_base):
    recipe(tiny_base, source("notes.jsonl"))
    general = [it for it in fitness(here).fits if it.channel == "general"]
    assert {it.language for it in general} == {"other", "zh"}


def test_a_file_of_terms_that_is_not_there_is_said(here):
    with pytest.raises(DataError, match="cannot be read as UTF-8 text"):
        fitness(here, terms=Path("nowhere.txt"))
