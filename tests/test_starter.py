"""A starter recipe in Chinese is the English one with other comments; only what packs and benchmarks are called stays."""

from __future__ import annotations

import re

import pytest

from configs.errors import RecipeError
from configs.load import load_recipe
from configs.recipe import SECTORS
from configs.sector import load_sector
from configs.starter import starter_files
from configs.store import HOUSE
from configs.wording import wording

COMMENT = re.compile(r"(?:^|\s)#+ (.+)$", re.MULTILINE)
KEY = re.compile(r"#   (near_duplicates|repeated_passages|decontaminate|receipt): ")


def loaded(folder, sector: str, lang: str):
    for name, text in starter_files(sector, lang).items():
        (folder / name).write_text(text, "utf-8")
    return load_recipe(folder / f"{sector}.yaml")


def test_every_sector_asks_for_the_same_in_both_languages(tmp_path):
    for sector in SECTORS:
        english, chinese = (loaded(tmp_path, sector, lang) for lang in ("en", "zh"))
        assert (english.lang, chinese.lang) == ("en", "zh")
        assert chinese.model_copy(update={"lang": "en"}) == english


def test_every_comment_of_a_chinese_starter_is_chinese():
    """Apart from the lines that point to public benchmarks, which are what their packs say."""
    for sector in SECTORS:
        for text in starter_files(sector, "zh").values():
            for line in text.splitlines():
                pointer = line.startswith("#   ") and not KEY.match(line)
                for comment in [] if pointer else COMMENT.findall(KEY.sub("", line)):
                    assert re.search("[一-龥]", comment), (sector, line)


def test_every_comment_of_the_quickstarts_is_there_in_chinese_and_no_other():
    samples = (HOUSE / "configs" / "recipes").glob("quickstart-*.yaml")
    found = {comment for sample in samples for comment in re.findall("# (.+)", sample.read_text("utf-8"))}
    assert set(wording("zh").tables["quickstart"]) == found


def test_the_sector_is_named_and_the_places_to_decide_are_marked():
    text = starter_files("emergency", "zh")["emergency.yaml"]
    assert text.startswith(f"# {load_sector('emergency').zh}行业（Emergency management）的起步配方。\n")
    assert text.count("待填") == 4 == starter_files("emergency")["emergency.yaml"].count("FILL IN")


def test_another_language_is_refused_by_name():
    with pytest.raises(RecipeError, match="no such language: 'de'"):
        starter_files("finance", "de")
