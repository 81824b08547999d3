"""The run page says what metrics.jsonl says, at the right places, however much there is and whatever is missing."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from configs.figures import Frame, Level, Mark, Series, drawn, thinned, ticks
from training.curves import read_curves, smoothed
from training.page import refresh_page, write_page

if TYPE_CHECKING:
    from pathlib import Path

EVIL = '<script>alert(1)</script> & "quoted" \u2028 利率'


def write(folder: Path, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return folder


def step(number: int, loss: float | None, **keys: Any) -> dict[str, Any]:
    figures = {"learning_rate": 1e-4, "grad_norm": 0.7, "tokens_per_second": 1234.5, "seconds": 0.5}
    return {"step": number, "tokens": number * 10, "loss": loss} | figures | keys


def figures(page: str) -> dict[str, str]:
    """The SVG of each figure by its title."""
    return dict(re.findall(r"<h3>([^<]+)</h3>.*?(<svg class=\"curve\".*?</svg>)", page, re.DOTALL))


def curves(svg: str) -> dict[str, list[list[float]]]:
    """The values that the script reads: name to points."""
    [packed] = re.findall(r'data-curves="([^"]+)"', svg)
    return {name: points for name, _, points in json.loads(packed.replace("&#34;", '"').replace("&amp;", "&"))}


def drawn_points(svg: str, style: str) -> list[tuple[float, float]]:
    [found] = re.findall(rf'<polyline class="{style}" points="([^"]+)"', svg)
    return [tuple(map(float, pair.split(","))) for pair in found.split()]


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """Four steps, looks at 0, 2 and 4, a spike, a step that was not applied, and a resumption."""
    look = {"validation": {"sector": 4.0, "general": 3.0}, "sources": {"reports": 4.2}, "probes": {"moods": 0.2}}
    later = {"validation": {"sector": 3.0, "general": 3.1}, "sources": {"reports": 3.3}, "probes": {"moods": 0.4}}
    last = {"validation": {"sector": 2.0, "general": 3.3}, "budget": {"limit": 0.05, "spent": 0.1}}
    return write(
        tmp_path / "run",
        [
            {"step": 0, "tokens": 0, **look, "budget": {"limit": 0.05, "spent": 0.0}},
            step(1, 5.0),
            step(2, 4.0, phase="reading"),
            {"step": 2, "event": "spike", "message": EVIL, "rows": [3, 17]},
            {"step": 2, "tokens": 20, **later, "budget": {"limit": 0.05, "spent": 0.03}, "best": True},
            step(3, None, phase="reading"),
            {"step": 3, "event": "not finite", "message": "loss is not a number", "rows": [8]},
            {"step": 3, "event": "resumed"},
            step(4, 2.0, phase="answers"),
            {"step": 4, "tokens": 40, **last},
        ],
    )


def test_values_lie_where_the_axes_say():
    """x from 0 to 4 and y from 0 to 8 on a plot from 52 to 752 and from 260 up to 16."""
    frame = Frame("steps", "nats", [Mark(2, "▲", "spike", "step 2")], [Level(4.0, "sector", "base")])
    svg = drawn([Series("sector", "sector", [(0, 8.0), (2, 4.0), (4, 0.0)], dots=True)], frame)
    assert ticks(0, 8) == [0, 2, 4, 6, 8]
    assert drawn_points(svg, "sector") == [(52, 16), (402, 138), (752, 260)]
    assert '<line class="level sector" x1="52" x2="752" y1="138.0" y2="138.0">' in svg
    assert '<g class="mark spike"><line x1="402.0" x2="402.0"' in svg
    assert "data-curves" not in svg  # nobody reads them there


def test_the_page_has_every_number_of_the_lines(story):
    page = write_page(story, "my run").read_text("utf-8")
    found = figures(page)
    assert list(found) == [
        "Held-out loss", "Held-out loss by source", "Quick probes", "Forgetting budget", "Training loss", "Learning rate",
        "Gradient norm", "Tokens per second",
    ]  # fmt: skip
    assert curves(found["Held-out loss"]) == {
        "sector": [[0, 4], [2, 3], [4, 2]],
        "general": [[0, 3], [2, 3.1], [4, 3.3]],
    }
    assert curves(found["Held-out loss by source"]) == {"reports": [[0, 4.2], [2, 3.3]]}
    assert curves(found["Quick probes"]) == {"moods": [[0, 0.2], [2, 0.4]]}
    assert curves(found["Forgetting budget"])["spent"] == [[0, 0], [2, 0.03], [4, 0.1]]
    assert curves(found["Training loss"])["loss"] == [[1, 5], [2, 4], [4, 2]]  # step 3 had none
    assert "of sector text fell from 4.000 to 2.000; on general text it rose from 3.000 to 3.300" in page
    assert "<title>sector, base: 4.0000</title>" in found["Held-out loss"]
    assert "best checkpoint: step 2" in found["Held-out loss"]
    assert 'class="beyond"' in found["Forgetting budget"] and "beyond the limit of 0.05" in page
    assert "Without a finite loss: 1." in page
    assert "step 4: answers" in found["Training loss"]  # where another phase began


def test_events_are_marked_on_the_curve_and_listed_and_nothing_written_becomes_markup(story):
    page = write_page(story, EVIL).read_text("utf-8")
    assert "<script>alert" not in page and page.count("<script>") == 1
    svg = figures(page)["Training loss"]
    assert [svg.count(f'class="mark {kind}"') for kind in ("spike", "not-finite", "resumed", "phase")] == [1, 1, 1, 1]
    cells = r'<tr><td class="number">(\d)</td><td><span[^>]*>(.)</span>([^<]+)</td>.*?<td[^>]*>([^<]*)</td></tr>'
    rows = re.findall(cells, page)
    assert rows == [("2", "▲", "spike", "3, 17"), ("3", "×", "not finite", "8"), ("3", "→", "resumed", "–")]


def test_the_page_needs_no_network_and_every_element_is_closed(story):
    page = write_page(story, "x").read_text("utf-8")
    assert not re.search(r'(src|href)="(?!#)', page) and "http" not in page.replace("http-equiv", "")

    class Balance(HTMLParser):
        open: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attributes: Any) -> None:
            if tag not in ("meta", "br", "line", "circle", "rect"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed(re.sub(r"<(line|circle|polyline|rect)[^>]*/>", "", page).replace("</line>", ""))
    assert parser.open == []
    assert all(f'href="#{name}"' in page and f'id="{name}"' in page for name in ("held", "training", "events", "looks"))


def test_a_run_that_goes_on_shows_its_recipe_and_a_finished_one_its_record(finished, tmp_path):
    shutil.copytree(finished / "runs" / "story", tmp_path / "story")
    folder = tmp_path / "story" / "run"
    done = write_page(folder, "story").read_text("utf-8")
    record = json.loads((folder / "run.json").read_text("utf-8"))
    assert "finished" in done and record["inputs"]["corpus"] in done and "<dt>train.rank</dt><dd>4</dd>" in done
    (folder / "run.json").unlink()
    going = write_page(folder, "story").read_text("utf-8")
    assert "as of its last look" in going and record["inputs"]["corpus"] not in going
    assert "<dt>train.rank</dt><dd>4</dd>" in going
    (folder.parent / "recipe.yaml").unlink()
    assert "train.rank" not in write_page(folder, "story").read_text("utf-8")


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [{"step": 0, "tokens": 0, "validation": {}}],
        [{"step": 1}],
        [{"step": 1, "loss": None}, {"step": 2, "loss": None}],
        [{"step": 1, "loss": "high", "tokens": None, "grad_norm": []}, {"step": 2, "loss": 2.0}],
        [{"loss": 3.0}, {"event": "spike"}, {"step": 3, "event": "something new", "rows": 7}],
        [{"step": 0, "validation": {"sector": None, "general": 2.0}, "budget": {"spent": 0.1}, "probes": None}],
        [{"step": 0, "validation": [1, 2]}, 7, None],
        [{"step": step, "loss": 2.5} for step in range(50)],
    ],
)
def test_nothing_missing_or_odd_breaks_the_page(tmp_path, lines):
    page = write_page(write(tmp_path, lines), "x").read_text("utf-8")
    assert page.rstrip().endswith("</html>") and "nan" not in page.lower()


def test_without_metrics_and_with_a_last_line_that_was_cut_there_is_a_page(tmp_path):
    assert "Nothing was measured yet." in write_page(tmp_path, "x").read_text("utf-8")
    write(tmp_path, [step(1, 3.0), step(2, 2.5)])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert [line["loss"] for line in read_curves(tmp_path / "metrics.jsonl").steps] == [3.0, 2.5]
    (tmp_path / "run.json").write_text("{}", "utf-8")  # a damaged record is no reason to have no page
    assert curves(figures(write_page(tmp_path, "x").read_text("utf-8"))["Training loss"])["loss"] == [[1, 3], [2, 2.5]]


def test_a_step_that_was_taken_again_after_a_rewind_counts_as_it_was_taken_last(tmp_path):
    lines = [step(1, 3.0), step(2, 9.0), {"step": 1, "event": "rewind"}, step(2, 2.8), step(3, 2.7)]
    found = read_curves(write(tmp_path, lines) / "metrics.jsonl")
    assert found.column("loss").tolist() == [3.0, 2.8, 2.7]


def test_a_single_peak_does_not_flatten_the_curve_but_is_told(tmp_path):
    lines = [step(number, 50.0 if number == 70 else 3.0 - number / 100) for number in range(1, 101)]
    page = write_page(write(tmp_path, lines), "x").read_text("utf-8")
    svg = figures(page)["Training loss"]
    assert [70, 50] in curves(svg)["loss"]
    heights = [y for _, y in drawn_points(svg, "training")]
    assert min(heights) == 16.0 and heights[0] - heights[-1] < 0
    assert "Beyond the edge: 1 of 100 steps, up to 50." in page


def test_100_000_steps_stay_below_a_megabyte_and_a_second_and_no_peak_is_lost(tmp_path, capsys):
    draw = random.Random(0)
    lines = [step(number, 2 + math.exp(-number / 2e4) + draw.gauss(0, 0.1)) for number in range(1, 100_001)]
    lines[77_777]["grad_norm"] = 31.0
    events = [{"step": number, "event": "not finite"} for number in range(1, 100_000, 100)]
    looks = [{"step": number, "validation": {"sector": 3 - number / 1e5}} for number in range(0, 100_001, 500)]
    write(tmp_path, [*lines, *events, *looks])
    started = time.process_time()
    page = write_page(tmp_path, "long")
    seconds = time.process_time() - started
    with capsys.disabled():
        print(
            f"\n  run page of 100,000 steps: {seconds:.2f} s of CPU time, {page.stat().st_size / 1e3:,.0f} kB", end=""
        )
    assert page.stat().st_size < 1e6
    assert seconds < 2  # the aim is one
    assert [77_778, 31] in curves(figures(page.read_text("utf-8"))["Gradient norm"])["gradient norm"]
    assert "800 more are in metrics.jsonl" in page.read_text("utf-8")


def test_thinning_keeps_the_least_and_the_greatest_of_every_column():
    xs = np.arange(100_000)
    ys = np.sin(xs / 50)
    found = thinned(xs, ys, 100)
    assert len(found) <= 200 and [x for x, _ in found] == sorted(x for x, _ in found)
    assert max(y for _, y in found) == ys.max() and min(y for _, y in found) == ys.min()
    assert thinned(np.array([0, 1]), np.array([math.nan, 2.0])) == [(1.0, 2.0)]


def test_smoothing_keeps_a_constant_and_skips_what_is_not_finite():
    assert smoothed(np.full(1000, 2.5)).tolist() == [2.5] * 1000
    ys = np.linspace(0, 1, 1001)
    ys[500] = math.nan
    assert abs(smoothed(ys)[500] - 0.5) < 1e-9


def test_during_a_run_the_page_costs_a_small_part_of_the_time(story, monkeypatch):
    first = write_page(story, "x")
    before = first.stat().st_mtime_ns
    monkeypatch.setattr("training.page._written", {story: (time.monotonic(), 10.0)})  # it took ten seconds, just now
    assert refresh_page(story, "x") == first and first.stat().st_mtime_ns == before
    monkeypatch.setattr("training.page._written", {story: (time.monotonic() - 501, 10.0)})  # a 50th of the time since
    assert refresh_page(story, "x").stat().st_mtime_ns > before


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to read the script")
def test_the_script_of_the_page_is_valid(story, tmp_path):
    [script] = re.findall(r"<script>(.*?)</script>", write_page(story, "x").read_text("utf-8"), re.DOTALL)
    (tmp_path / "s.js").write_text(script, "utf-8")
    subprocess.run(["node", "--check", str(tmp_path / "s.js")], check=True)


def test_a_preference_phase_has_its_own_figures_and_its_own_mean(tmp_path):
    """Two steps at 4 and two at 0.5: a mean over all four would lie between; and the 0.5 are nats per pair."""
    liked = {"phase": "2 (preference)", "preferred": 0.75, "margin": 0.2}
    lines = [step(at, 4.0, phase="1 (instruction)") for at in (1, 2)] + [step(at, 0.5, **liked) for at in (3, 4)]
    found = figures(write_page(write(tmp_path / "run", lines), "t").read_text("utf-8"))
    assert curves(found["Training loss"]) == {"loss": [[1, 4], [2, 4]], "mean": [[1, 4], [2, 4]]}
    assert curves(found["Preference loss"]) == {"loss": [[3, 0.5], [4, 0.5]], "mean": [[3, 0.5], [4, 0.5]]}
    assert "nats per pair" in found["Preference loss"] and "nats per pair" not in found["Training loss"]
    assert curves(found["Pairs preferred rightly"])["pairs preferred rightly"] == [[3, 0.75], [4, 0.75]]
    assert curves(found["Margin"])["margin"] == [[3, 0.2], [4, 0.2]]
