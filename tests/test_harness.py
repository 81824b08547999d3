"""lm-evaluation-harness as a second engine of `sectorlm evaluate`: the recipe's tasks, and tasks of its own."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from configs.errors import DataError, RecipeError, UnsafeArtefactError
from configs.records import Scorecard
from eval.answers import read_answers
from eval.compare import compare_scorecards
from eval.evaluate import evaluate
from eval.harness import ENGINE, evaluate_by_lm_eval
from eval.render import render
from tests.recipes import sectorlm
from tests.test_evaluate import made

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from configs.job import Job

OWN = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/own.jsonl, train: {folder}/own.jsonl}}}}
test_split: test
fewshot_split: train
num_fewshot: 2
{keys}
"""
CHOICE = """output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: c
doc_to_target: a
metric_list:
  - {metric: mcc, aggregation: matthews_corrcoef, higher_is_better: true}
  - {metric: acc, aggregation: mean, higher_is_better: true}"""
WORD = """output_type: loglikelihood
doc_to_text: "{{q}}"
doc_to_target: " {{c[0]}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}"""
WRITTEN = """output_type: generate_until
doc_to_text: "{{q}}"
doc_to_target: "{{c[0]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]"""
PASSAGE = """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{q}}"
metric_list: [{metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}]"""
KINDS = {"own_choice": CHOICE, "own_word": WORD, "own_written": WRITTEN, "own_passage": PASSAGE}


@pytest.fixture(scope="module")
def job(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """Our 24 questions, texts and passages, and 12 rows with a task file of lm-eval's form for each of its output types."""
    import datasets

    root = tmp_path_factory.mktemp("harness")
    made_job = made(root, tiny_base)
    rows = [{"q": f"What comes after {n}?", "c": [str(n + 1), str(n), str(n + 2)], "a": n % 3} for n in range(12)]
    (root / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    for name, keys in KINDS.items():
        (root / f"{name}.yaml").write_text(OWN.format(name=name, folder=root, keys=keys), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", root / "datasets")
        yield made_job


def test_the_recipes_tasks_come_out_as_by_us_and_are_kept(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    """The same prompts to the last token, the same answers, the same intervals; scorecards that compare can read."""
    for ours, theirs in zip(evaluate(job), evaluate_by_lm_eval(job), strict=True):
        assert theirs.engine == f"{ENGINE}, float32 on cpu"
        assert theirs.model_digest == ours.model_digest
        for score, other in zip(ours.scores, theirs.scores, strict=True):
            assert (other.value, other.low, other.high) == pytest.approx((score.value, score.low, score.high), rel=1e-6)
            assert (other.task, other.n, other.invalid, other.baselines) == (
                score.task,
                score.n,
                score.invalid,
                score.baselines,
            )
        folders = (job.folder.scorecards / ours.model, job.folder.root / "lm-eval" / ours.model)
        lines, others = (read_answers(folder / "answers.jsonl") for folder in folders)
        for task in ("moods", "written", "passages"):
            for line, other in zip(lines[task], others[task], strict=True):
                same = line.keys() & other.keys() - {"loglikelihoods", "nats"}
                assert {key: line[key] for key in same} == {key: other[key] for key in same}
                assert {"prompt", "question", "target", "truncated", "item"} <= same
    ours, theirs = (
        compare_scorecards(folder / "base", folder / "tuned")
        for folder in (job.folder.scorecards, job.folder.root / "lm-eval")
    )
    assert [row.difference for row in theirs] == pytest.approx([row.difference for row in ours], abs=1e-6)
    capsys.readouterr()
    evaluate_by_lm_eval(job)
    assert capsys.readouterr().err.splitlines() == ["evaluate base: unchanged, kept", "evaluate tuned: unchanged, kept"]


def test_tasks_of_its_own_are_counted_item_by_item(job: Job) -> None:
    """Of each task the first metric that has a value for every item stands for it; bits per byte by nats and bytes."""
    files = [f"{name}.yaml" for name in KINDS]
    base, tuned = evaluate_by_lm_eval(job, files)
    assert [(score.task, score.metric, score.n) for score in tuned.scores] == [
        ("own_choice", "acc", 12),
        ("own_word", "acc", 12),
        ("own_written", "exact_match", 12),
        ("own_passage", "bits_per_byte", 12),
    ]
    assert base.scores[3].higher_is_better is False
    assert set(base.scores[0].metrics) == {"mcc", "acc"}
    folder = job.folder.root / "lm-eval-own"
    lines = read_answers(folder / "base" / "answers.jsonl")
    right = [line["answer"] == line["target"] for line in lines["own_choice"]]
    assert base.scores[0].value == sum(right) / 12
    rows = compare_scorecards(folder / "base", folder / "tuned")
    assert [row.difference for row in rows] == pytest.approx(
        [new.value - old.value for old, new in zip(base.scores, tuned.scores, strict=True)]
    )
    assert Scorecard.read(folder / "base" / "scorecard.json").settings["evaluate.tasks"] == files


def test_a_metric_of_its_own_that_is_no_number_for_each_item_is_not_taken_for_ours(job: Job, tmp_path: Path) -> None:
    """Its chrF goes from 0 to 100 and is known of all texts together: no pairs, and no column of differences."""
    files = ["own_written.yaml", "own_chrf.yaml"]
    (job.roots[0] / "own_chrf.yaml").write_text(
        OWN.format(
            name="own_chrf", folder=job.roots[0], keys=WRITTEN.replace("exact_match, aggregation: mean", "chrf")
        ),
        "utf-8",
    )
    _, tuned = evaluate_by_lm_eval(job, files)
    assert [score.metric for score in tuned.scores] == ["exact_match", "chrf of lm-eval"]
    folder = job.folder.root / "lm-eval-own"
    with pytest.raises(DataError, match=r"^chrf of lm-eval is not counted item by item"):
        compare_scorecards(folder / "base", folder / "tuned")
    render([folder], tmp_path / "board.html")
    assert "chrf of lm-eval" in (tmp_path / "board.html").read_text("utf-8")


def test_whether_an_answer_is_the_greedy_one_is_what_stock_lm_eval_says(job: Job, tiny_base: Path) -> None:
    """Of 12 prompts each with the three tokens that the model would write, and with others."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from eval.harness_model import OurModel
    from eval.weights import load_scorer

    scorer = load_scorer(tiny_base)
    with scorer.using("base"):
        contexts = [f"The bank said {n}" for n in range(12)]
        written = scorer.texts([scorer.tokenizer.encode(context) for context in contexts], (), 3)
        asked = [
            Instance("loglikelihood", {}, (context, answer), 0, ("t", place, 1))
            for place, context in enumerate(contexts)
            for answer in (written[place], " yes")
        ]
        ours = OurModel(scorer, greedy=True).loglikelihood(asked)
    theirs = HFLM(pretrained=scorer.model, tokenizer=scorer.tokenizer, batch_size=1).loglikelihood(
        asked, disable_tqdm=True
    )
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in theirs], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("none.yaml", RecipeError, "no such file"),
        ("own_code.yaml", UnsafeArtefactError, "would run Python code"),
        ("own_included.yaml", UnsafeArtefactError, "own_code.yaml: doc_to_choice utils.choices"),
        ("own_drawn.yaml", DataError, "draws its texts at random"),
        ("own_lost.yaml", DataError, "cannot load the task"),
        ("own_odd.yaml", DataError, "lm-eval stopped"),
    ],
)
def test_a_task_that_cannot_be_asked_says_why(name: str, kind: type[Exception], said: str, job: Job) -> None:
    root = job.roots[0]
    whole = (root / "own_choice.yaml").read_text("utf-8")
    (root / "own_code.yaml").write_text(
        whole.replace("doc_to_choice: c", "doc_to_choice: !function utils.choices"), "utf-8"
    )
    (root / "own_included.yaml").write_text("include: own_code.yaml\ntask: own_included\n", "utf-8")
    drawn = (
        (root / "own_written.yaml").read_text("utf-8").replace("max_gen_toks: 4", "do_sample: true, temperature: 0.7")
    )
    (root / "own_drawn.yaml").write_text(drawn, "utf-8")
    odd = whole.replace("aggregation: matthews_corrcoef", "aggregation: middling")
    (root / "own_odd.yaml").write_text(odd, "utf-8")
    (root / "own_lost.yaml").write_text(whole.replace("own.jsonl", "lost.jsonl"), "utf-8")
    with pytest.raises(kind, match=said):
        evaluate_by_lm_eval(job, [name])


def test_code_that_is_allowed_by_name_runs(job: Job) -> None:
    root = job.roots[0]
    whole = (root / "own_choice.yaml").read_text("utf-8").replace("own_choice", "own_allowed")
    (root / "own_allowed.yaml").write_text(
        whole.replace("doc_to_choice: c", "doc_to_choice: !function own_utils.choices"), "utf-8"
    )
    (root / "own_utils.py").write_text("def choices(doc):\n    return doc['c']\n", "utf-8")
    base, _ = evaluate_by_lm_eval(job, ["own_allowed.yaml"], ["own_allowed"])
    assert [(score.task, score.n) for score in base.scores] == [("own_allowed", 12)]


@pytest.mark.slow
def test_its_tasks_by_name_fail_clearly_without_a_network(job: Job) -> None:
    """Marked slow: lm-eval reads its 14,683 task files to know their names."""
    with pytest.raises(DataError, match="lm-eval cannot load the task"):
        evaluate_by_lm_eval(job, ["hellaswag"])
    with pytest.raises(RecipeError, match="lm-eval has no such task") as found:
        evaluate_by_lm_eval(job, ["helaswag"])
    assert "Did you mean hellaswag?" in found.value.hint


def test_an_engine_or_a_version_that_is_not_there_is_refused(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    from eval import harness
    from eval.verbs import by_lm_eval

    with pytest.raises(RecipeError, match="no such engine: lm_eval"):
        by_lm_eval(job.roots[0] / "recipe.yaml", [], job.roots[0], "lm_eval", [], [])
    monkeypatch.setattr(harness, "VERSION", "0.4.12")
    with pytest.raises(RecipeError, match=r"lm_eval 0\.4\.13 is installed"):
        evaluate_by_lm_eval(job)


@pytest.mark.slow
def test_the_command_line_evaluates_by_lm_eval_and_exports(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The story's run: 24 items of each of its two tasks by lm-eval, and its tasks as files for stock lm-eval."""
    shutil.copytree(finished, tmp_path / "story")
    monkeypatch.chdir(tmp_path / "story")
    told = sectorlm("--json", "evaluate", "story.yaml", "--engine", "lm-eval")
    assert told.code == 0, told.err
    assert [(score["task"], score["n"]) for score in json.loads(told.out)[1]["scores"]] == [
        ("finance_topics", 24),
        ("general_text", 24),
    ]
    told = sectorlm("--json", "export", "story.yaml", "--to", "tasks", "--out", "there")
    assert [path.rpartition("/")[2] for path in json.loads(told.out)["files"]] == [
        "finance_topics_test.jsonl",
        "finance_topics.yaml",
        "general_text_test.jsonl",
        "general_text.yaml",
    ]
    told = sectorlm("export", "runs/story", "--to", "csv", "--out", "tables")
    assert told.out.splitlines()[0] == "wrote tables/items.csv"
    assert sectorlm("evaluate", "story.yaml", "--engine", "vllm").code == 2
