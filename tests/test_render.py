"""`sectorlm report` from what is on disk: a run's page, and a leaderboard that never ranks what was not asked alike."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from configs.answer import answered
from configs.errors import DataError, RecipeError
from configs.records import Scorecard
from configs.store import RunFolder, digest_file
from eval.compare import compare
from eval.leaderboard import cell, languages
from eval.render import board, render
from tests.test_compare import choice, job, pair, scorecard

if TYPE_CHECKING:
    from pathlib import Path

    from configs.record import Record


def run(root: Path, base: str = "--+-" * 8, tuned: str = "+++-" * 8) -> Path:
    """A run folder with both scorecards and their comparison on one task."""
    pair(root, {"m": choice("m", base)}, {"m": choice("m", tuned)})
    compare(job(root))
    return root


def changed(folder: Path, record: type[Record], **keys: Any) -> None:
    path = folder / "scorecard.json"
    record.read(path).model_copy(update=keys).write(path)


def test_a_runs_page_is_written_again_in_another_language_and_the_runs_own_stays(tmp_path):
    root = run(tmp_path / "a")
    own = digest_file(RunFolder(root).report / "report.html")
    for target in (root, root / "report", root / "report" / "comparison.json"):
        found = render([target], tmp_path / "page.html", lang="zh")
        assert (found.kind, found.rows) == ("comparison", ["test"])
    assert '<html lang="zh-Hans">' in (tmp_path / "page.html").read_text("utf-8")
    assert digest_file(RunFolder(root).report / "report.html") == own


def test_a_name_in_md_gets_markdown(tmp_path):
    render([run(tmp_path / "a")], tmp_path / "page.md", lang="zh")
    assert (tmp_path / "page.md").read_text("utf-8").startswith("# test：微调后与基座的比较")


def test_a_comparison_of_older_scorecards_is_refused(tmp_path):
    root = run(tmp_path / "a")
    changed(RunFolder(root).scorecards / "tuned", Scorecard, tokens=2)
    with pytest.raises(DataError, match="made from another scorecard of the tuned model"):
        render([root], tmp_path / "page.html")


def test_answers_that_were_changed_by_hand_are_refused(tmp_path):
    root = run(tmp_path / "a")
    with (RunFolder(root).scorecards / "tuned" / "answers.jsonl").open("a") as file:
        file.write("\n")
    for targets in ([root], [root / "scorecards" / "tuned"]):
        with pytest.raises(DataError, match="bytes differ"):
            render(targets, tmp_path / "page.html")


def test_a_file_that_is_not_ours_is_replaced_only_by_force(tmp_path):
    root, page = run(tmp_path / "a"), tmp_path / "page.html"
    page.write_text("<p>mine</p>")
    with pytest.raises(RecipeError, match="no report of ours"):
        render([root], page)
    assert page.read_text() == "<p>mine</p>"
    render([root], page, force=True)
    render([root], page)
    assert page.read_text("utf-8").startswith("<!doctype html>")
    with pytest.raises(RecipeError, match=r"ends in \.html or \.md"):
        render([root], tmp_path / "page.pdf")


def test_what_holds_no_scorecard_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no scorecard"):
        render([tmp_path], tmp_path / "page.html")


def test_a_leaderboard_has_one_row_for_a_base_that_two_runs_share(tmp_path):
    """Both runs scored the same base; their tuned models have the same digest here but not the same answers."""
    for name, tuned in (("a", "+++-" * 8), ("b", "++++" * 8)):
        run(tmp_path / "runs" / name, tuned=tuned)
    rows = board([tmp_path / "runs"])
    assert [row.name for row in rows] == ["test/base", "test/tuned (tuned)", "test/tuned (tuned) 3"]
    found = render([tmp_path / "runs"], tmp_path / "board.html", baseline="test/base")
    assert (found.kind, len(found.rows)) == ("leaderboard", 3)
    page = (tmp_path / "board.html").read_text("utf-8")
    assert page.count("<tr data-row=") == 3


def test_a_baseline_that_is_no_row_is_told_with_the_nearest(tmp_path):
    run(tmp_path / "runs" / "a")
    with pytest.raises(RecipeError, match="no row is called 'test/bas'") as caught:
        render([tmp_path / "runs"], tmp_path / "board.html", baseline="test/bas")
    assert "Did you mean test/base?" in str(caught.value)


def test_the_same_task_with_other_items_or_another_metric_is_another_question(tmp_path):
    """32 items; 16 of them; the same 32 by another metric; the same 32 with five worked examples: asked alike, put otherwise."""
    lines = choice("m", "+-" * 16)
    scorecard(tmp_path / "all", {"m": lines})
    scorecard(tmp_path / "half", {"m": lines[:16]})
    scorecard(tmp_path / "norm", {"m": lines}, metric="acc_norm")
    scorecard(tmp_path / "shots", {"m": lines})
    settings = Scorecard.read(tmp_path / "shots" / "scorecard.json").settings | {"evaluate.shots": 5}
    changed(tmp_path / "shots", Scorecard, settings=settings)
    cells = [cell(row, "m") for row in board([tmp_path / name for name in ("all", "half", "norm", "shots")])]
    asked, put = [it.asked for it in cells if it], [it.put for it in cells if it]
    assert (len(set(asked)), asked[0] == asked[3]) == (3, True)
    assert (len(set(put)), put[0] == put[3]) == (2, False)
    render([tmp_path], tmp_path / "board.html")
    page = (tmp_path / "board.html").read_text("utf-8")
    assert "m: these rows were asked other items or counted otherwise: all, shots; half; norm." in page
    assert "m: not all rows were asked in the same form" in page


def test_the_language_of_a_task_is_that_of_its_items():
    """One Chinese item of 20 is 5 %."""
    english = [{"question": "What is the rate?"}] * 19
    assert languages(english) == ["en"]
    assert languages([*english, {"question": "贷款利率是多少？A. 3% B. 4%"}]) == ["en", "zh"]


def test_the_verb_says_what_it_wrote(tmp_path, monkeypatch, capsys):
    from sectorlm import app

    root = run(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    answered(app, ["--json", "report", str(root)])
    assert json.loads(capsys.readouterr().out) == {"file": "report.html", "kind": "comparison", "rows": ["test"]}
    shown = CliRunner().invoke(app, ["report", "--help"]).output
    assert re.search("--lang.*en|zh", shown)
    shutil.rmtree(root)
