"""Every word of pages and reports is there in English and in Chinese, with the same values in both."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from configs import datasheet as sheet
from configs import governance
from configs.datasheet import datasheet, findings
from configs.errors import RecipeError
from configs.wording import SHARED
from configs.wording import wording as shared
from configs.yaml_nodes import read_yaml
from eval import answered, markdown, sentences, words
from eval.compare import compared
from eval.page import html
from eval.wording import HERE, SAID, wording
from tests.pages import report
from tests.test_compare import choice, pair

if TYPE_CHECKING:
    from pathlib import Path

VALUE = re.compile(r"\{(\w+)\}")
ELSEWHERE = {"base", "tuned", "clean", "touched", "sector", "general", "en", "zh"}
"""Words that records say."""
SHEET = {"Terms", "Duplicates", "Leaks", "Worth", "Languages", "Mended", "Personal data", "Exercises"}
"""Heads of the data sheet (configs/datasheet.py); one of them stands on the model card alone."""


def told_in(folder: Path) -> set[str]:
    """The sentences that the code in a folder hands to `tell`."""
    found = set[str]()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tell"
            if named and node.args and isinstance(node.args[0], ast.Constant):
                found.add(node.args[0].value)
    return found


def said() -> set[str]:
    """All sentences that code, templates and scripts of the evaluation say."""
    found = told_in(HERE)
    for path in (*HERE.glob("*.html"), *HERE.glob("*.js")):
        found |= set(SAID.findall(path.read_text("utf-8")))
    tables = [words.NAMES, markdown.METHODS]
    found |= {form for _, form in sentences.REASONS} | {"not inferior", "inferior"}
    found |= {value for table in tables for value in table.values()}
    found |= {markdown.HOW, markdown.SEEN, markdown.BY_CHANCE, *words.VERDICTS, *answered.OUTCOMES, *answered.MARKS}
    return found | ELSEWHERE


def said_by_all() -> set[str]:
    """What the data sheet says, on the report and on the model card."""
    tables = {*sheet.PERSONAL.values(), *sheet.LEAKING.values(), *governance.DUTIES, governance.BINDING} - {""}
    return told_in(SHARED.parent) | told_in(SHARED.parent.parent / "training") | tables | SHEET


def test_the_chinese_catalogue_has_every_sentence_and_no_other():
    chinese, everywhere = set(read_yaml(HERE / "wording.yaml").value), set(shared("zh").words)
    assert said() - chinese - everywhere == set()
    assert chinese - said() == set()
    assert chinese & everywhere == set()


def test_the_shared_catalogue_has_every_sentence_and_no_other():
    everywhere = set(shared("zh").words)
    assert said_by_all() - everywhere == set()
    assert everywhere - said_by_all() - said() == set()


def test_both_languages_name_the_same_values():
    reasons = {key: told for table in shared("zh").tables.values() for key, told in table.items()}
    for english, chinese in (wording("zh").words | reasons).items():
        assert sorted(VALUE.findall(english)) == sorted(VALUE.findall(chinese)), english


def test_the_heads_of_the_data_sheet_are_those_of_the_catalogue():
    named = ast.parse((HERE.parent / "configs" / "datasheet.py").read_text("utf-8"))
    functions = {datasheet.__name__, findings.__name__}
    found = {
        key.value
        for function in named.body
        if isinstance(function, ast.FunctionDef) and function.name in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    assert found == SHEET


def test_a_chinese_page_says_what_the_english_one_says_and_is_marked_as_chinese():
    page = html(report(), "zh")
    assert '<html lang="zh-Hans">' in page
    assert "在 2 项金融服务任务上，微调后的模型有 1 项更好、有 1 项无法区分" in page
    for chinese in ("金融服务任务", "通用能力", "科目", "数据污染", "校准", "本底噪声", "逐题阅读", "题目最长的在前"):
        assert chinese in page
    left = re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL)
    for english in ("Difference", "Items", "better", "worse", "interval", "points", "Search", "tuned", "undecided"):
        assert english not in left, english


def test_the_script_of_a_chinese_page_gets_its_sentences():
    page = html(report(), "zh")
    [words_] = re.findall(r'id="words">(.*?)</script>', page)
    assert '"both right":"都对"' in words_
    assert re.findall(r'id="words">(.*?)</script>', html(report())) == ["{}"]


def test_chinese_markdown_has_chinese_heads_and_the_same_numbers():
    """+37.5 points is the difference of moods."""
    english, chinese = markdown.markdown(report()), markdown.markdown(report(), wording("zh"))
    assert "| 任务 | 指标 | 基座 | 微调后 | 差值 | 95% 区间 |" in chinese
    assert english.count("+37.5") == chinese.count("+37.5") > 1


def test_the_reasons_of_a_real_panel_are_known_in_every_form(tmp_path):
    """40 equal answers of 40 are undecided at a margin of 2 points; 20 more right of 40 are not inferior; 4 are few."""
    marks = {"m": ("++--", "++--"), "g": ("+-" * 20, "+-" * 20), "h": ("+-" * 20, "+" * 40), "f": ("++++", "++++")}
    sides = [{task: choice(task, both[side]) for task, both in marks.items()} for side in (0, 1)]
    found = compared(*pair(tmp_path, *sides, general=("g", "h", "f")))
    assert found.panel is not None and len(found.panel.reasons) == 4  # the last one: taken together
    told = [sentences.reason(text, wording("zh")) for text in found.panel.reasons]
    assert [re.sub("[^a-z一-龥]", "", text) for text in told] == [
        "g无法判定最坏可接受若毫无损失约需道独立题目才能判定",
        "h不劣于基座最坏可接受",
        "f无法判定独立题目只有道太少",
        "项准确率任务合并不劣于基座最坏",
    ]


def test_a_language_that_is_not_there_is_refused_with_the_nearest():
    with pytest.raises(RecipeError) as caught:
        wording("zhh")
    assert "Did you mean zh?" in str(caught.value)
