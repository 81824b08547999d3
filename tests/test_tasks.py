"""The shipped tasks on the real sector data: their items, what some of them ask, and that the gold answer scores 1."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest

from configs.items import Item, read_items
from configs.load import load_task
from configs.recipe import SECTORS
from configs.store import HOUSE
from configs.task import Task, task_files
from eval.reading import answer_of
from eval.score import COUNTS, READABLE, STATISTICS
from tests.conftest import SHARED, needs_shared

if TYPE_CHECKING:
    from collections import Counter

LEFT = "not selected"
TWICE = "duplicate item"
OUTSIDE = "gold outside the choices"
ITEMS: dict[str, tuple[int, dict[str, int]]] = {
    "atmossci": (670, {}),
    "cflue_answers": (25, {LEFT: 100}),
    "cflue_knowledge": (2_693, {LEFT: 1_171}),
    "cflue_labels": (40, {LEFT: 85}),
    "cflue_multiple": (1_171, {LEFT: 2_693}),
    "cflue_writing": (25, {LEFT: 100}),
    "climate_finance_bench": (183, {LEFT: 147}),
    "climatex": (300, {LEFT: 7_794}),
    "cmmlu_agronomy": (169, {}),
    "cmmlu_commerce": (389, {}),
    "cmmlu_computing": (326, {}),
    "cmmlu_culture": (296, {}),
    "cmmlu_driving": (131, {}),
    "cmmlu_electrical": (172, {}),
    "cmmlu_finance": (334, {}),
    "cmmlu_geography": (283, {}),
    "cmmlu_law": (782, {}),
    "cmmlu_medicine": (1_073, {}),
    "cmmlu_security": (135, {}),
    "cmrc2018": (3_219, {}),
    "crisislex_informative": (13_613, {OUTSIDE: 254, TWICE: 1_130}),
    "crisislex_type": (11_638, {OUTSIDE: 2_528, TWICE: 831}),
    "crosswoz_request": (2_539, {LEFT: 4_229, OUTSIDE: 1_521, TWICE: 169}),
    "crosswoz_route": (148, {"empty text": 4_081, LEFT: 4_229}),
    "culture_poetry": (305, {}),
    "disc_fin_computing": (100, {}),
    "disc_law_multiple": (944, {TWICE: 2}),
    "disc_law_short": (298, {TWICE: 2}),
    "disc_law_single": (1_615, {TWICE: 2}),
    "drcd": (3_493, {}),
    "finance_ner": (98, {TWICE: 882}),
    "finqa": (876, {TWICE: 7}),
    "fiqa_sa": (2_330, {TWICE: 20}),
    "fomc_stance": (474, {TWICE: 2}),
    "fpb": (7_740, {}),
    "general_knowledge_en": (144, {}),
    "general_knowledge_zh": (783, {}),
    "general_reading_en": (349, {LEFT: 1_314}),
    "general_reasoning_en": (164, {}),
    "general_reasoning_zh": (160, {}),
    "general_text_en": (1_166, {TWICE: 154}),
    "general_text_zh": (256, {}),
    "hs_section": (5_607, {LEFT: 1_327, TWICE: 5, OUTSIDE: 1}),
    "loghub_alert": (1_373, {TWICE: 627}),
    "loghub_template": (734, {TWICE: 1_266}),
    "maintie": (1_075, {TWICE: 1}),
    "maintnorm": (1_200, {}),
    "medmcqa": (4_183, {}),
    "mmlu_med": (1_011, {TWICE: 78}),
    "pubmedqa": (500, {LEFT: 500}),
    "review_pros_cons": (41_712, {TWICE: 4_163}),
    "review_sentiment": (3_753, {OUTSIDE: 5_218, TWICE: 4}),
    "safenet_factor": (541, {LEFT: 543, TWICE: 5}),
    "scibench": (580, {}),
    "seedbench_1_1": (354, {}),
    "seedbench_1_2": (291, {}),
    "seedbench_1_3": (426, {}),
    "seedbench_1_4": (403, {}),
    "seedbench_2_1": (638, {}),
    "seedbench_2_2": (638, {}),
    "seedbench_3_1": (268, {}),
    "seedbench_3_2": (212, {}),
    "seedbench_3_3": (424, {}),
    "seedbench_3_4": (403, {}),
    "seedbench_3_5": (279, {}),
    "tatqa": (739, {LEFT: 924}),
    "tatqa_spans": (924, {LEFT: 739}),
    "transport_highway_code": (31, {}),
}
"""Task to its items, and the rows that are none, by reason."""
SAMPLES = frozenset(
    {"finance_text", "finance_topics", "general_pairs", "general_text", "healthcare_departments", "healthcare_text"}
)
"""Tasks on SectorLM's own samples: tests/test_items.py counts them."""
LONG = frozenset(
    {"cmrc2018", "crisislex_informative", "crisislex_type", "crosswoz_request", "crosswoz_route", "drcd", "fpb"}
    | {"hs_section", "medmcqa", "review_pros_cons", "review_sentiment", "seedbench_2_1", "seedbench_2_2"}
)
"""Tasks that take a quarter of a second or more to read or to score."""
WRITTEN = sorted(name for name in ITEMS if load_task(name, (HOUSE,))[0].output_type == "generate_until")


def named(names: list[str]) -> list[object]:
    """Names as parameters, the long ones marked slow."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in names]


@cache
def read(name: str) -> tuple[Task, list[Item], Counter[str]]:
    """A shipped task with the items of its test split."""
    task, roots = load_task(name, (SHARED, HOUSE))
    items, refused = read_items(task, task.test_split, roots)
    return task, items, refused


def at(name: str, row: int) -> Item:
    """The item of a row."""
    return next(item for item in read(name)[1] if item.row == row)


def test_every_shipped_task_is_in_the_table_and_says_what_a_reader_must_know():
    """Sector of the recipe's list, a licence, a source, and every split pinned but where a hub says what it holds."""
    assert ITEMS.keys() == task_files(HOUSE).keys() - SAMPLES
    for name in ITEMS:
        about = load_task(name, (HOUSE,))[0].metadata
        assert about.sector in (*SECTORS, "general"), name
        assert about.licence, name
        assert about.source, name
        assert about.sha256, name


def test_the_table_of_the_documentation_is_that_of_this_test():
    """docs/tasks.md: a row for every task, with its sector, its number of items and whether it is a proxy."""
    page = (HOUSE / "docs" / "tasks.md").read_text("utf-8").partition("## How long")[0]
    rows = {name: rest.split(" | ") for name, rest in re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.MULTILINE)}
    assert rows.keys() == ITEMS.keys()
    for name, (sector, language, items, split, metrics, *_) in rows.items():
        task, _ = load_task(name, (HOUSE,))
        about = task.metadata
        told = (about.sector, ", ".join(about.language), f"{ITEMS[name][0]:,}", task.test_split)
        assert (sector, language, items, split) == told, name
        assert metrics == ", ".join(entry.metric for entry in task.metric_list), name
        assert rows[name][7] == ("yes" if about.proxy else "no"), name


@needs_shared
@pytest.mark.parametrize("name", named(sorted(ITEMS)))
def test_a_task_has_the_items_of_its_table(name: str):
    _, items, refused = read(name)
    assert (len(items), dict(refused)) == ITEMS[name]


@needs_shared
@pytest.mark.parametrize("name", named([name for name in sorted(ITEMS) if load_task(name, (HOUSE,))[0].subject]))
def test_every_item_of_a_task_with_subjects_has_one_of_a_few(name: str):
    _, items, _ = read(name)
    subjects = {item.subject for item in items}
    assert "" not in subjects
    assert 1 < len(subjects) <= 32


@needs_shared
@pytest.mark.parametrize("name", named(WRITTEN))
def test_the_gold_answer_scores_one(name: str):
    """What a model would have to write can be written: it survives `until` and the filters, and every metric gives it 1."""
    task, items, _ = read(name)
    for entry in task.metric_list:
        sums = None
        for item in items:
            for gold in item.accepted or (item.target,):
                written = task.target_delimiter + gold
                written = written[: min((written.find(end) for end in task.until if end in written), default=None)]
                answer = answer_of(task, written.strip(), item.choices)
                assert answer is not None, item
                assert READABLE.get(entry.metric, lambda *_: True)(answer, gold), item
                counts = COUNTS[entry.metric](answer, gold, entry.options())
                sums = list(counts) if sums is None else [a + b for a, b in zip(sums, counts, strict=True)]
        assert STATISTICS[entry.metric](np.asarray(sums, dtype=float)) == pytest.approx(1), entry.metric


@needs_shared
@pytest.mark.parametrize("name", named(WRITTEN))
def test_the_longest_gold_answer_fits_into_the_tokens_that_a_model_may_write(name: str):
    """The fifty with the most bytes, by the embedded base's tokenizer: its 6,144 tokens are shorter than most."""
    from tokenizers import Tokenizer

    task, items, _ = read(name)
    tokenizer = Tokenizer.from_file(str(HOUSE / "assets" / "base" / "tokenizer.json"))
    golds = [task.target_delimiter + gold for item in items for gold in item.accepted or (item.target,)]
    longest = sorted(golds, key=lambda gold: len(gold.encode()))[-50:]
    assert max(len(found.ids) for found in tokenizer.encode_batch(longest)) <= task.max_gen_toks


# ---------------------------------------------------------------- by hand


@needs_shared
def test_tatqa_shows_the_table_above_the_text_and_the_gold_has_its_scale():
    """Row 0: 16.6 of 93.8 is 17.7 percent; the 277 tables are the independent observations."""
    item = at("tatqa", 0)
    lines = item.text.splitlines()
    assert lines[0] == "Current assets | As Reported | Adjustments | Balances without Adoption of Topic 606"
    assert lines[1] == "Receivables, less allowance for doubtful accounts | $831.7 | $8.7 | $840.4"
    assert lines[-2:] == [
        "Question: What is the percentage of adjustment to the balance of as reported prepaid expenses and other current "
        "assets?",
        "Answer:",
    ]
    assert item.target == "17.7 percent"
    assert len({each.cluster for each in read("tatqa")[1]}) == 277


@needs_shared
def test_maintie_names_entities_by_their_upper_type():
    item = at("maintie", 0)
    assert item.text == "Work order: <id> air conditioner thermostat not working\nEntities:"
    assert item.target == "PhysicalObject: air conditioner; PhysicalObject: thermostat; State: not working"


@needs_shared
def test_maintnorm_joins_the_words_and_leaves_out_those_that_melted_into_another():
    item = at("maintnorm", 0)
    assert item.text == "Work order: XH531 M/SITE GLASS CUT & SUPPLY WINDOW\nNormalised:"
    assert item.target == "<id> minesite glass cut and supply window"
    assert not [each.row for each in read("maintnorm")[1] if "  " in each.target or each.target != each.target.strip()]


@needs_shared
def test_cflue_choices_are_taken_from_a_python_literal():
    item = at("cflue_knowledge", 1346)
    assert item.text.endswith("政策的审议。（）\nA. 对\nB. 错\n答案：")
    assert (item.choices, item.gold) == (("A", "B"), 1)
    assert {len(each.choices) for each in read("cflue_knowledge")[1]} == {2, 3, 4, 5}


@needs_shared
@pytest.mark.slow
def test_medmcqa_counts_its_answers_from_one():
    """Row 2091 says 4, which is D, all of the above."""
    item = at("medmcqa", 2091)
    assert item.text.splitlines()[-2] == "D. All of the above"
    assert item.target == "D"


@needs_shared
@pytest.mark.slow
def test_cmrc2018_takes_any_of_its_answers_and_questions_of_a_passage_are_one_observation():
    item = at("cmrc2018", 0)
    assert item.text.endswith("\n问题：《战国无双3》是由哪两个公司合作开发的？\n答案：")
    assert item.target == "光荣和ω-force"
    assert len({each.cluster for each in read("cmrc2018")[1]}) == 848
    assert any(len(each.accepted) == 3 for each in read("cmrc2018")[1])


@needs_shared
def test_atmossci_has_67_questions_with_ten_sets_of_numbers_each():
    items = read("atmossci")[1]
    assert len({item.cluster for item in items}) == 67
    assert (at("atmossci", 0).target, at("atmossci", 0).subject) == ("B", "Hydrology")


@needs_shared
def test_the_examples_of_climatex_are_the_authors_training_part():
    task, roots = load_task("climatex", (SHARED, HOUSE))
    assert task.fewshot_split == "train"
    items, refused = read_items(task, "train", roots)
    assert (len(items), dict(refused)) == (7_674, {LEFT: 300, TWICE: 120})


@needs_shared
@pytest.mark.slow
def test_crosswoz_names_where_from_and_where_to():
    item = at("crosswoz_route", 32)
    assert item.target == "出发地: 北京天伦王朝酒店; 目的地: 北京京仪大酒店"
    assert item.text.startswith("乘客：好的。麻烦您帮我叫一辆出租车，从北京天伦王朝酒店到北京京仪大酒店")
