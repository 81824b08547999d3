"""The verdict on general ability, by a margin stated beforehand; and tasks taken together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from configs.releasing import Gates
from configs.store import RunFolder
from eval.compare import compare, compared, margins_of
from eval.panel import judged, pooled
from eval.sentences import cost, general
from eval.sentences import pooled as pooled_words
from eval.stats import Interval
from tests.test_compare import choice, job, pair, passages
from tests.test_report import row

if TYPE_CHECKING:
    from pathlib import Path

    from configs.records import Comparison


def found(root: Path, base: str, tuned: str, nats: float = 100.0, gates: Gates | None = None) -> Comparison:
    """A comparison whose panel has a task of right and wrong answers, and 40 passages of 100 and `nats` nats."""
    before = {"m": choice("m", "-"), "g": choice("g", base), "t": passages("t", [100.0] * 40)}
    after = {"m": choice("m", "+"), "g": choice("g", tuned), "t": passages("t", [nats] * 40)}
    pair(root, before, after, general=("g", "t"))
    asked = job(root)
    return compare(replace(asked, recipe=asked.recipe.model_copy(update={"gates": gates or Gates()})))


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [
        ((0.0, -0.01, 0.019), "not inferior"),
        ((0.015, 0.011, 0.019), "not inferior"),  # surely worse, but by less than the margin
        ((0.0, -0.03, 0.03), "undecided"),
        ((0.03, 0.01, 0.05), "undecided"),  # surely worse, perhaps by more
        ((0.04, 0.021, 0.06), "inferior"),
    ],
)
def test_the_end_of_the_interval_is_held_against_the_margin(loss, verdict):
    """The five cases of Piaggio et al. 2012, figure 1, that a margin of 2 points tells apart."""
    assert judged(Interval(*loss), 0.02) == verdict


def test_nothing_changed_in_400_answers_and_40_passages_is_not_inferior(tmp_path):
    """z² / (400 + z²) = 0.95 points may still be lost, less than 2; bits rose by 1 %, less than 5."""
    panel = found(tmp_path, "+-" * 200, "+-" * 200, 101.0).panel
    assert panel is not None
    assert (panel.verdict, panel.margin, panel.margin_text) == ("not inferior", 0.02, 0.05)
    assert panel.reasons == (
        "g: not inferior, −1.0 at worst, −2.0 accepted",
        "t: not inferior, +1.0 % bits at worst, +5.0 % accepted",
    )


def test_nothing_changed_in_100_answers_is_undecided_and_says_how_many_would_do(tmp_path):
    """z² / (100 + z²) = 3.7 points; 100 * (3.7 / 2)² = 342, and so 350."""
    panel = found(tmp_path, "+-" * 50, "+-" * 50).panel
    assert panel is not None
    assert panel.verdict == "undecided"
    assert panel.reasons[0] == (
        "g: undecided, −3.7 at worst, −2.0 accepted; with nothing lost, about 350 independent items would decide it"
    )


def test_a_rise_of_every_passage_by_6_percent_is_inferior_and_so_is_the_whole_panel(tmp_path):
    panel = found(tmp_path, "+-" * 200, "+-" * 200, 106.0).panel
    assert panel is not None
    assert panel.verdict == "inferior"
    assert panel.reasons[1] == "t: inferior, +6.0 % bits at worst, +5.0 % accepted"


def test_19_items_decide_nothing(tmp_path):
    panel = found(tmp_path, "+" * 19, "+" * 19).panel
    assert panel is not None
    assert panel.reasons[0] == "g: undecided, 19 independent items are too few"


def test_without_a_panel_there_is_no_verdict(tmp_path):
    folders = pair(tmp_path, {"m": choice("m", "+-")}, {"m": choice("m", "+-")})
    assert compared(*folders).panel is None


def test_the_gate_on_general_text_is_its_margin_unless_one_is_given():
    gates = (Gates(), Gates(max_general_loss=0.1), Gates(max_general_loss=0.1, margin_text=0.02))
    assert [margins_of(it).text for it in gates] == [0.05, 0.1, 0.02]


def test_another_margin_is_another_comparison_of_the_same_scorecards(tmp_path, capsys):
    assert found(tmp_path, "+-" * 50, "+-" * 50).panel.verdict == "undecided"
    asked = job(tmp_path)
    wider = replace(asked, recipe=asked.recipe.model_copy(update={"gates": Gates(margin=0.05)}))
    assert compare(wider).panel.verdict == "not inferior"
    assert "compare again: gates.margin" in capsys.readouterr().err


def test_the_verdict_is_told_with_the_cost(tmp_path):
    comparison = found(tmp_path, "+-" * 200, "+-" * 200, 106.0)
    told = general(comparison.panel)
    assert told.startswith(
        "The tuned model is inferior to its base in general ability (95 % intervals against the margin): g:"
    )
    assert cost(comparison).endswith(told)
    assert told in (RunFolder(tmp_path).report / "report.md").read_text("utf-8")


def test_what_no_task_can_tell_alone_three_may_tell_together(tmp_path):
    """100 unchanged answers may have lost 3.7 points; the mean of three such tasks 3.7 / sqrt(3) = 2.1, of four 1.8."""
    marks = {task: choice(task, "+-" * 50) for task in ("g", "h", "i", "j")}
    panel = compared(*pair(tmp_path, marks, marks, general=("g", "h", "i", "j"))).panel
    assert panel is not None
    assert panel.verdict == "undecided"
    assert panel.reasons[-1] == "4 tasks by accuracy taken together: not inferior, −1.8 at worst"


# ---------------------------------------------------------------- tasks taken together


def test_two_tasks_of_one_kind_weigh_the_same_however_many_items_they_have():
    """0.3 - sqrt(0.3² + 0.4²) / 2 and 0.3 + sqrt(0.2² + 0.3²) / 2."""
    rows = [
        row(task="a", n=1000, base=0.2, tuned=0.7, difference=0.5, low=0.2, high=0.7),
        row(task="b", n=10, metric="exact_match", base=0.4, tuned=0.5, difference=0.1, low=-0.3, high=0.4),
        row(task="c", metric="macro_f1"),
    ]
    [it] = pooled("finance", rows)
    assert (it.tasks, it.n, it.metric) == (2, 1010, "acc")
    assert (it.base, it.tuned, it.difference, it.low, it.high) == pytest.approx(
        (0.3, 0.6, 0.3, 0.05, 0.3 + 0.13**0.5 / 2)
    )
    assert pooled_words(it) == (
        "Finance, two tasks taken together by accuracy: 30.0 to 60.0, +30.0 points (95 % interval +5.0 to +48.0, 1,010 items)."
    )


def test_sectors_are_pooled_apart_and_the_general_panel_too(tmp_path):
    marks = dict.fromkeys(("a", "b", "g", "h"), ("-" * 20, "+" * 5 + "-" * 15))
    base, tuned = ({task: choice(task, both[side]) for task, both in marks.items()} for side in (0, 1))
    it = compared(*pair(tmp_path, base, tuned, general=("g", "h")))
    assert [(one.name, one.tasks, one.difference) for one in it.pooled] == [("finance", 2, 0.25), ("general", 2, 0.25)]
    assert it.pooled[0].low > it.differences[0].low  # two tasks are surer than one


def test_a_task_alone_is_not_called_pooled():
    assert pooled("finance", [row()]) == ()
