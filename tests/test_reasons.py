"""Every word that a ledger may hold is there in Chinese: why something was refused or left out, what was mended or found."""

from __future__ import annotations

import ast
import importlib
from typing import TYPE_CHECKING, get_args

import pytest

from configs.governance import GRADES, KINDS, USES
from configs.recipe import Source
from configs.store import HOUSE
from configs.wording import wording
from data_prep import personal
from data_prep.clean import REPAIRS, SPARED
from data_prep.language import LANGUAGES
from data_prep.quality import RULES
from data_prep.wordings import ARTICLES, QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

TABLES = wording("zh").tables
CALLS = {"refuse": 0, "take_back": 0, "drop": 0, "_UnusableError": 0, "_refused": 2, "_is_enough": 2}
"""Functions that are given a reason, and at which place."""
JUDGES = {"trouble_of": None, "_row_flaw": 0, "_flaw": None, "_malformed": 0, "unusable": None}
"""Functions that return a reason, alone or at a place of a tuple."""


def modules() -> Iterator[tuple[ModuleType, ast.Module]]:
    for folder in ("configs", "data_prep"):
        for path in sorted((HOUSE / folder).glob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            yield importlib.import_module(f"{folder}.{path.stem}"), tree


def value_of(node: ast.expr | None, module: ModuleType) -> Iterator[str]:
    """A reason as it is written: a text, a constant of the module, either of two; a value filled in is `{of}`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Name) and isinstance(getattr(module, node.id, None), str):
        yield getattr(module, node.id)
    elif isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "{of}" for part in node.values)
        yield "".join(map(str, parts)).replace("{of} cut out", "leak:{of} cut out")
    elif isinstance(node, ast.IfExp):
        yield from value_of(node.body, module)
        yield from value_of(node.orelse, module)
    elif isinstance(node, ast.Tuple):
        for part in node.elts:
            yield from value_of(part, module)


def written() -> dict[str, str]:
    """Every reason that the code writes down, and a module that does; a damaged archive is an error and in no ledger."""
    found: dict[str, str] = {}
    for module, tree in modules():
        for node in ast.walk(tree):
            told: list[ast.expr | None] = []
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                place = CALLS.get(name)
                told += [node.args[place]] if place is not None and len(node.args) > place else []
                told += [each.value for each in node.keywords if each.arg == "reason"]
            elif isinstance(node, ast.FunctionDef) and node.name in JUDGES:
                place = JUDGES[node.name]
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Return):
                        whole = inner.value
                        told.append(whole.elts[place] if isinstance(whole, ast.Tuple) and place is not None else whole)
            elif isinstance(node, ast.Assign):
                names = {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
                told += [node.value] if names & {"reason", "reasons"} and module.__name__ != "configs.archives" else []
            found |= {reason: module.__name__ for part in told for reason in value_of(part, module) if reason}
    return found


def test_the_search_finds_reasons_of_every_kind():
    """A text, a constant, a value that is filled in, what a judge returns, an assigned one, a keyword."""
    kinds = ("not selected", "excluded", "the rejected answer {of}", "duplicate key", "changed by the chat template")
    assert {*kinds, "longer than a row", "leak:{of} cut out"} <= written().keys()


def test_every_reason_that_the_code_writes_down_is_there_in_chinese():
    assert {reason: module for reason, module in written().items() if reason not in TABLES["reasons"]} == {}


def test_every_quality_rule_and_every_repair_is_there_in_chinese():
    rows = {row.name for row in (*RULES, *REPAIRS)} | {SPARED, "personal data masked", "leak:{of}"}
    assert rows - TABLES["reasons"].keys() == set()


def test_no_reason_is_there_that_nothing_gives():
    rows = {row.name for row in (*RULES, *REPAIRS)} | {SPARED, "personal data masked", "leak:{of}"}
    assert TABLES["reasons"].keys() - rows - written().keys() == set()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("licences", KINDS),
        ("grades", GRADES),
        ("uses", USES),
        ("languages", {*LANGUAGES, *get_args(get_args(Source.model_fields["language"].annotation)[0])}),
        ("personal", personal.KINDS),
    ],
)
def test_every_word_of_a_table_is_there_and_no_other(table, words):
    assert set(TABLES[table]) == set(words)


def test_every_kind_of_exercise_is_there_and_no_other():
    reading = {f"reading:{kind}" for asked in QUESTIONS.values() for kind in asked}
    articles = {f"articles:{kind}" for asked in ARTICLES.values() for kind in asked}
    assert set(TABLES["exercises"]) == {"table"} | reading | articles


def test_a_reason_that_holds_a_task_or_another_reason_is_said_whole():
    tell = wording("zh")
    assert tell.reason("leak:fpb") == "与测试题重合：fpb"
    assert tell.reason("leak:fpb cut out") == "剪掉与测试题重合的句子：fpb"
    assert tell.reason("the rejected answer longer than a row") == "落选答案：超过一行的长度"
    assert tell.reason("of tomorrow") == "of tomorrow"
