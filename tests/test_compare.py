"""Two scorecards written by hand, joined item by item: every number below can be counted on the fingers."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from configs.errors import DataError
from configs.job import Job
from configs.recipe import Evaluate, Recipe, Source
from configs.records import Comparison, Corpus, Score, Scorecard, SourceLedger, made_by
from configs.store import HOUSE, RunFolder, digest_bytes, digest_file
from eval.compare import compare, compare_scorecards
from eval.score import STATISTICS, classes_of, columns, sums_of

if TYPE_CHECKING:
    from pathlib import Path

Lines = dict[str, list[dict[str, Any]]]


def choice(task: str, right: str, clusters: str = "") -> list[dict[str, Any]]:
    """One line per letter of `right`: + for a right answer, - for a wrong one, ? for none."""
    given = {"+": "good", "-": "bad", "?": None}
    return [
        {
            "task": task,
            "row": row,
            "item": digest_bytes(f"{task} {row}".encode()),
            "cluster": clusters[row] if clusters else str(row),
            "question": f"Question {row}?",
            "choices": ["good", "bad"],
            "target": "good",
            "answer": given[mark],
            "norm": given[mark],
            "truncated": False,
            "prompt": f"p{row}",
            "batch": "b",
            "batch_tokens": 1,
        }
        for row, mark in enumerate(right)
    ]


def passages(task: str, nats: list[float], size: int = 100) -> list[dict[str, Any]]:
    lines = choice(task, "?" * len(nats))
    own = ({"nats": value, "bytes": size, "choices": [], "target": ""} for value in nats)
    return [
        {key: value for key, value in line.items() if key not in ("answer", "norm")} | more
        for line, more in zip(lines, own, strict=True)
    ]


def scorecard(folder: Path, lines: Lines, general: tuple[str, ...] = (), metric: str = "acc") -> Path:
    folder.mkdir(parents=True)
    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for some in lines.values() for line in some), "utf-8")
    scores = []
    for task, some in lines.items():
        rolling = "nats" in some[0]
        counted = "bits_per_byte" if rolling else metric
        sums_CD, _ = sums_of(counted, columns(some), classes_of(some))
        value = float(STATISTICS[counted](sums_CD.sum(axis=0)))
        scores.append(
            Score(task=task, metric=counted, value=value, low=0.0, high=1.0, n=len(some),
                  clusters=len(some), sector="general" if task in general else "finance", higher_is_better=not rolling,
                  baselines={} if rolling else {"majority": 0.5})
        )  # fmt: skip
    Scorecard(
        name="test",
        settings={"evaluate.resamples": 2000, "seed": 17, "evaluate.general": list(general)},
        inputs={},
        files={"answers.jsonl": digest_file(path)},
        made=made_by("eval", time.monotonic()),
        model=folder.name,
        model_digest=folder.name,
        scores=tuple(scores),
        tokens=1,
        seconds=1.0,
    ).write(folder / "scorecard.json")
    return folder


def corpus(folder: Path, touched: dict[str, tuple[str, ...]], checked: dict[str, int]) -> None:
    source = SourceLedger(
        name="<b>rows</b>", channel="sector", licence="CC0-1.0", rows=10, dropped={"too short": 3}, documents=7,
        tokens=700, tokens_train=600,
    )  # fmt: skip
    Corpus(
        name="test", settings={}, inputs={}, files={}, made=made_by("data_prep", time.monotonic()), sector="finance",
        tokenizer="t", vocabulary=320, token_dtype="uint16", sequence_length=64, sources=(source,), documents=7,
        tokens=700, rows_train=10, rows_validation=1, tokens_train=600, supervised_train=600, padding_train=0.0,
        touched=touched, checked=checked,
    ).write(folder / "corpus.json")  # fmt: skip


def job(root: Path) -> Job:
    recipe = Recipe(
        name="test",
        sector="finance",
        base="base",
        corpora=(Source(name="rows", path="rows.jsonl", licence="CC0-1.0", text="{{text}}"),),
        evaluate=Evaluate(tasks=("moods",), general=("pairs",), resamples=2000),
    )
    return Job(recipe, (root, HOUSE), RunFolder(root))


def pair(root: Path, base: Lines, tuned: Lines, general: tuple[str, ...] = ()) -> tuple[Path, Path]:
    cards = RunFolder(root).scorecards
    return scorecard(cards / "base", base, general), scorecard(cards / "tuned", tuned, general)


def test_6_gained_and_1_lost_of_10_is_plus_50_points_with_an_exact_p_of_0_125(tmp_path):
    """2 * (1 + 7) / 2 to the 7th."""
    folders = pair(tmp_path, {"m": choice("m", "+--------+")}, {"m": choice("m", "-++++++--+")})
    [row] = compare_scorecards(*folders)
    assert (row.gained, row.lost, row.n, row.clusters) == (6, 1, 10, 10)
    assert row.difference == pytest.approx(0.5)
    assert row.p == pytest.approx(0.125)
    assert row.low < 0.5 < row.high
    assert row.verdict == "not distinguishable"


def test_20_of_20_gained_is_better_but_not_certain(tmp_path):
    """(20 - z^2) / (20 + z^2) is the lower end of Tango's interval; a bootstrap would say +100 to +100."""
    [row] = compare_scorecards(*pair(tmp_path, {"m": choice("m", "-" * 20)}, {"m": choice("m", "+" * 20)}))
    assert (row.difference, row.low, row.high) == pytest.approx((1.0, 0.6778, 1.0), abs=1e-4)
    assert row.verdict == "better"


def test_ten_prompts_of_which_no_answer_changed_are_as_sure_as_their_20_sentences(tmp_path):
    """z^2 / (20 + z^2) = 3.84 / 23.84, not the 3.84 / 203.84 of 200 independent items."""
    lines = choice("m", "+-" * 100, "abcdefghijklmnopqrst" * 10)
    [row] = compare_scorecards(*pair(tmp_path, {"m": lines}, {"m": lines}))
    assert (row.difference, row.low, row.high) == pytest.approx((0.0, -0.1611, 0.1611), abs=1e-4)


def test_a_general_task_that_is_named_by_its_path_is_in_the_general_panel(tmp_path):
    marks = {"m": choice("m", "--"), "g": choice("g", "++")}
    folders = pair(tmp_path, marks, marks)
    for folder in folders:
        card = Scorecard.read(folder / "scorecard.json")
        settings = card.settings | {"evaluate.tasks": ["m"], "evaluate.general": ["tasks/g.yaml"]}
        card.model_copy(update={"settings": settings}).write(folder / "scorecard.json")
    found = compare(job(tmp_path))
    assert ([row.task for row in found.differences], [row.task for row in found.general]) == (["m"], ["g"])


def test_a_report_that_was_changed_by_hand_is_written_again(tmp_path, capsys):
    pair(tmp_path, {"m": choice("m", "--")}, {"m": choice("m", "++")})
    compare(job(tmp_path))
    page = RunFolder(tmp_path).report / "report.html"
    page.write_text("nothing")
    compare(job(tmp_path))
    assert "report.html: bytes differ" in capsys.readouterr().err
    assert "<!doctype html>" in page.read_text("utf-8")


def test_ten_prompts_of_two_sentences_are_two_observations_and_prove_nothing(tmp_path):
    """All 10 items gained, but in 2 clusters: McNemar on items would say p = 0.002, swapping clusters says about 0.5."""
    base, tuned = choice("m", "-" * 10, "aaaaabbbbb"), choice("m", "+" * 10, "aaaaabbbbb")
    [row] = compare_scorecards(*pair(tmp_path, {"m": base}, {"m": tuned}))
    assert (row.n, row.clusters, row.gained) == (10, 2, 10)
    assert 0.4 < row.p < 0.6


def test_answers_are_joined_by_item_not_by_row(tmp_path):
    base, tuned = choice("m", "+-+-"), choice("m", "+-+-")
    for line, row in zip(tuned, (3, 2, 1, 0), strict=True):
        line["row"] = row
    [row] = compare_scorecards(*pair(tmp_path, {"m": base}, {"m": tuned[::-1]}))
    assert (row.gained, row.lost, row.difference) == (0, 0, 0)


def test_fewer_bits_per_byte_are_better(tmp_path):
    """40 passages of 100 bytes, from 100 to 50 nats: -0.5 nats a byte is -0.72 bits."""
    base, tuned = {"t": passages("t", [100.0] * 40)}, {"t": passages("t", [50.0] * 40)}
    [row] = compare_scorecards(*pair(tmp_path, base, tuned))
    assert row.difference == pytest.approx(-0.7213, abs=1e-4)
    assert row.verdict == "better"


def test_scorecards_of_different_items_are_refused(tmp_path):
    folders = pair(tmp_path, {"m": choice("m", "+-+-")}, {"m": choice("m", "+-+-+")})
    with pytest.raises(DataError, match="0 only in the first, 1 only in the second"):
        compare_scorecards(*folders)


def test_scorecards_without_a_shared_task_are_refused_and_a_single_one_is_left_out(tmp_path, capsys):
    m, n = {"m": choice("m", "+-")}, {"n": choice("n", "+-")}
    with pytest.raises(DataError, match="share no task"):
        compare_scorecards(*pair(tmp_path / "1", m, n))
    assert [row.task for row in compare_scorecards(*pair(tmp_path / "2", m | n, m))] == ["m"]
    assert "n: left out" in capsys.readouterr().err


def test_changed_answers_are_noticed(tmp_path):
    folders = pair(tmp_path, {"m": choice("m", "+-")}, {"m": choice("m", "+-")})
    path = folders[1] / "answers.jsonl"
    path.write_text(path.read_text().replace('"bad"', '"good"'))
    with pytest.raises(DataError, match="bytes differ"):
        compare_scorecards(*folders)


def test_the_general_panel_is_corrected_apart(tmp_path):
    """Two sector tasks with p = 1/2^9 are doubled by Holm; the panel's only task is not."""
    marks = {"m": ("-" * 10, "+" * 10), "n": ("-" * 10, "+" * 10), "g": ("-" * 10, "+" * 10)}
    base, tuned = ({task: choice(task, both[side]) for task, both in marks.items()} for side in (0, 1))
    m, n, g = compare_scorecards(*pair(tmp_path, base, tuned, general=("g",)))
    assert (m.p, m.p_holm, n.p_holm, g.p_holm) == pytest.approx((2 / 1024, 4 / 1024, 4 / 1024, 2 / 1024))


def test_the_clean_difference_leaves_out_what_the_corpus_touches(tmp_path):
    """Gained: items 0 and 1, both touched, and item 2: +3/6 in all, +1/4 on the four clean ones."""
    base, tuned = choice("m", "------"), choice("m", "+++---")
    pair(tmp_path, {"m": base}, {"m": tuned})
    corpus(RunFolder(tmp_path).corpus, {"m": (base[0]["item"], base[1]["item"])}, {"m": 6})
    [row] = compare(job(tmp_path)).differences
    assert (row.difference, row.clean, row.clean_n) == pytest.approx((0.5, 0.25, 4))


def test_where_the_corpus_was_not_compared_nothing_is_called_clean(tmp_path):
    pair(tmp_path, {"m": choice("m", "--")}, {"m": choice("m", "++")})
    corpus(RunFolder(tmp_path).corpus, {}, {})
    [row] = compare(job(tmp_path)).differences
    assert (row.clean, row.clean_n) == (None, None)


def test_the_report_is_kept_until_a_scorecard_changes(tmp_path, capsys):
    folders = pair(tmp_path, {"m": choice("m", "--")}, {"m": choice("m", "++")})
    first = compare(job(tmp_path))
    assert compare(job(tmp_path)) == first
    assert "compare: unchanged, kept" in capsys.readouterr().err
    card = Scorecard.read(folders[1] / "scorecard.json")
    card.model_copy(update={"model_digest": "another"}).write(folders[1] / "scorecard.json")
    compare(job(tmp_path))
    assert "compare again: scorecard tuned changed" in capsys.readouterr().err


def test_the_comparison_vouches_for_its_pages(tmp_path):
    pair(tmp_path, {"m": choice("m", "--")}, {"m": choice("m", "++")})
    compare(job(tmp_path))
    folder = RunFolder(tmp_path).report
    record = Comparison.read(folder / "comparison.json")
    assert record.files == {name: digest_file(folder / name) for name in ("report.html", "report.md")}
    assert sorted(path.name for path in folder.iterdir()) == ["comparison.json", "report.html", "report.md"]
