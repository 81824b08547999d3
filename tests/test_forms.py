"""What two scorecards must share before they are held against each other: form, options, and answers that make the value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from configs.errors import DataError
from configs.records import Corpus, Scorecard
from configs.store import RunFolder
from eval.compare import compare, compare_scorecards
from tests.recipes import sectorlm
from tests.test_compare import choice, corpus, job, pair, scorecard

if TYPE_CHECKING:
    from pathlib import Path


def changed(folder: Path, **keys: Any) -> None:
    path = folder / "scorecard.json"
    Scorecard.read(path).model_copy(update=keys).write(path)


def test_questions_with_other_worked_examples_or_from_another_task_file_are_told(tmp_path, capsys):
    marks = {"m": choice("m", "+-" * 10)}
    base, tuned = pair(tmp_path, marks, marks)
    compare_scorecards(base, tuned)
    assert "same form" not in capsys.readouterr().err
    settings = Scorecard.read(tuned / "scorecard.json").settings | {"evaluate.shots": 5}
    changed(tuned, settings=settings, inputs={"task m": "other"})
    compare_scorecards(base, tuned)
    told = "m: the two were not asked in the same form (task file, worked examples)"
    assert told in capsys.readouterr().err


def test_answers_that_were_counted_with_another_tolerance_are_refused(tmp_path):
    lines = [line | {"answer": "1.005", "target": "1"} for line in choice("m", "++++")]
    wide = [line | {"options": {"number_match": {"tolerance": 0.01}}} for line in lines]
    base = scorecard(tmp_path / "base", {"m": lines}, metric="number_match")
    tuned = scorecard(tmp_path / "tuned", {"m": wide}, metric="number_match")
    assert [Scorecard.read(it / "scorecard.json").scores[0].value for it in (base, tuned)] == [0.0, 1.0]
    with pytest.raises(DataError, match=r"m: counted with \{\} and with .*0.01"):
        compare_scorecards(base, tuned)


def test_a_value_that_the_answers_do_not_make_is_refused(tmp_path):
    """3 of 4 right, and a record that says 75 as another library might."""
    marks = {"m": choice("m", "+++-")}
    base, tuned = pair(tmp_path, marks, marks)
    [score] = Scorecard.read(tuned / "scorecard.json").scores
    changed(tuned, scores=(score.model_copy(update={"value": 75.0}),))
    with pytest.raises(DataError, match=r"m: its answers make 0.75 acc, its scorecard says 75"):
        compare_scorecards(base, tuned)


@pytest.mark.parametrize(
    ("label", "known"), [("task m", True), ("task m", False), ("m: rows.jsonl", True), ("m: rows.jsonl", False)]
)
def test_after_a_task_changed_its_items_do_not_pass_for_clean(tmp_path, capsys, label: str, known: bool):
    """The third of four items was found in the corpus, under the digest that it had then."""
    marks = {"m": choice("m", "++--")}
    _, tuned = pair(tmp_path, marks, marks)
    folder = RunFolder(tmp_path).corpus
    corpus(folder, {"m": (marks["m"][2]["item"],)}, {"m": 4})
    there = {"task m": "1", "file of task m: rows.jsonl": "1"}
    Corpus.read(folder / "corpus.json").model_copy(update={"inputs": there}).write(folder / "corpus.json")
    changed(tuned, inputs={"task m": "1", label: "1" if known else "2"})
    [row] = compare(job(tmp_path)).differences
    assert row.clean_n == (3 if known else None)
    assert ("m: changed since the corpus was compared with it" in capsys.readouterr().err) is not known


def test_one_scorecard_alone_is_not_taken_for_a_recipe(tmp_path):
    folder = scorecard(tmp_path / "base", {"m": choice("m", "+-")})
    done = sectorlm("compare", folder)
    assert done.code == 2
    assert f"got one scorecard, {folder}: give one recipe, or two scorecard folders or more" in done.err


def test_scorecards_of_one_name_are_told_apart_by_their_folders(tmp_path):
    marks = {"m": choice("m", "+-" * 10)}
    a, b = (scorecard(tmp_path / run / "tuned", marks) for run in ("a", "b"))
    shown = sectorlm("compare", a, b).out.replace("\n", "")
    assert f"{b} (tuned) against {a} (base)" in shown or f"{b}(tuned)against{a}(base)" in shown.replace(" ", "")
