"""The README and its Chinese twin say the same: sections, commands, numbers, names and links."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from configs.store import HOUSE

ENGLISH, CHINESE = ((HOUSE / name).read_text("utf-8") for name in ("README.md", "README.zh.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"(^|\s+)# .*$", re.MULTILINE)
NUMBER = re.compile(r"[+−]?\d[\d.,]*\d|[+−]?\d")
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
TWINS = {"README.md", "README.zh.md"}


def blocks(page: str) -> list[tuple[str, str]]:
    """Code blocks with their language, without the comments, which may be in another language."""
    return [(language, COMMENT.sub("", code)) for language, code in FENCE.findall(page)]


def prose(page: str) -> str:
    return FENCE.sub("", page)


def rows(page: str) -> list[list[str]]:
    """The numbers of each line of a table."""
    return [NUMBER.findall(line) for line in prose(page).splitlines() if line.startswith("|")]


def inline(page: str) -> Counter[str]:
    return Counter(re.findall(r"`([^`\n]+)`", prose(page)))


def test_a_comment_is_stripped_and_a_sign_inside_a_word_is_not():
    page = "```sh\n# all\nscore http://h/v1#NAME --to x   # any model\n```\n"
    assert blocks(page) == [("sh", "\nscore http://h/v1#NAME --to x\n")]


def test_the_twins_have_the_same_sections():
    levels = [re.findall(r"^(#+) ", prose(page), re.MULTILINE) for page in (ENGLISH, CHINESE)]
    assert levels[0] == levels[1]


def test_the_twins_have_the_same_commands_and_recipes():
    for english, chinese in zip(blocks(ENGLISH), blocks(CHINESE), strict=True):
        assert english == chinese


def test_the_twins_have_the_same_numbers_in_their_tables():
    assert rows(ENGLISH) == rows(CHINESE)
    assert ["12.5", "23.0", "+10.5"] in [row[:3] for row in rows(CHINESE)]


def test_the_twins_name_the_same_files_keys_and_options():
    assert inline(ENGLISH) == inline(CHINESE)


def test_the_exit_codes_are_the_same():
    codes = [re.search(r"(?:Exit codes: |退出码：)(.*?)\n\n", page, re.DOTALL) for page in (ENGLISH, CHINESE)]
    found = [NUMBER.findall(told[1]) for told in codes if told]
    assert len(found) == 2 and found[0] == found[1]


def test_the_twins_link_to_each_other_and_to_the_same_pages():
    there = [LINK.findall(page) for page in (ENGLISH, CHINESE)]
    assert "README.zh.md" in there[0] and "README.md" in there[1]
    assert [link for link in there[0] if link not in TWINS] == [link for link in there[1] if link not in TWINS]


@pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_every_link_leads_to_a_file(page):
    missing = [link for link in LINK.findall(page) if ":" not in link and not (HOUSE / link).is_file()]
    assert missing == []
