"""From a generated text to an answer: lm-evaluation-harness' filters and generation keys, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.errors import RecipeError, UnsafeArtefactError
from configs.filters import Step
from configs.load import load_task
from configs.task import Task
from eval.reading import answer_of, filtered

TASK = """\
task: mine
dataset_path: json
dataset_kwargs: {data_files: {test: items.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{ question }}"
doc_to_target: "{{ answer }}"
metadata: {sector: finance, language: [en], licence: MIT, source: here}
metric_list: [{metric: exact_match}]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(more: str, text: str = TASK) -> Task:
    Path("mine.yaml").write_text(text + more, "utf-8")
    return load_task("mine.yaml", (Path.cwd(),))[0]


def steps(*filters: dict[str, object]) -> str:
    return f"filter_list: [{{name: way, filter: {json.dumps(filters)}}}]\n"


TEXTS = ["#### 1,200", "so 3 and 4", "nothing", "", "The answer is (B).", "A or B?"]


@pytest.mark.parametrize(
    "how",
    [
        {"regex_pattern": r"#### (\-?[0-9\.\,]+)"},
        {"regex_pattern": "[0-9]+", "group_select": -1},
        {"regex_pattern": r"answer is \(?([A-D])\)?|^([A-D])"},
        {"regex_pattern": "[0-9]+", "group_select": 1},
    ],
)
def test_the_regex_is_lm_evaluation_harness_but_what_is_not_found_is_invalid(how):
    theirs = pytest.importorskip("lm_eval.filters.extraction").RegexFilter(**how)
    step = Step.model_validate({"function": "regex", **how})
    for text in TEXTS:
        try:
            [[found]] = theirs.apply([[text]], [{}])
        except IndexError:  # there, fewer finds than `group_select` end the whole run
            found = "[invalid]"
        assert filtered(text, step) == (None if found == "[invalid]" else found), text


def test_steps_follow_one_another(here):
    task = read(
        steps(
            {"function": "regex", "regex_pattern": "Answer:(.*)"},
            {"function": "take_first"},
            {"function": "lowercase"},
            {"function": "strip"},
            {"function": "map", "mapping_dict": {"up": "rise", "1": 2}},
        )
    )
    texts = ["Answer: UP ", "Answer: 1", "Answer: down", "UP"]
    assert [answer_of(task, text, ()) for text in texts] == ["rise", "2", None, None]


def test_a_fallback_or_a_default_never_becomes_an_answer(here):
    task = read(steps({"function": "regex", "regex_pattern": "[0-9]+", "fallback": "neutral"}))
    assert answer_of(task, "no figure", ["positive", "neutral"]) is None
    task = read(steps({"function": "map", "mapping_dict": {"a": "b"}, "default_value": "neutral"}))
    assert answer_of(task, "z", ["positive", "neutral"]) is None


def test_generation_kwargs_are_until_and_max_gen_toks_under_another_name(here):
    ours = read('until: ["\\n\\n", "Q:"]\nmax_gen_toks: 7\n')
    theirs = read('generation_kwargs: {until: ["\\n\\n", "Q:"], max_gen_toks: 7, do_sample: false, temperature: 0.0}\n')
    assert (theirs.until, theirs.max_gen_toks) == (("\n\n", "Q:"), 7)
    assert theirs.model_dump() == ours.model_dump()
    assert Task.model_validate_json(json.dumps(theirs.model_dump(mode="json"))) == ours
    assert read("generation_kwargs: {until: Q}\n").until == ("Q",)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (steps({"function": "regexp", "regex_pattern": "a"}), 'got "regexp"; allowed: regex, .* Did you mean regex?'),
        (steps({"function": "majority_vote"}), 'got "majority_vote"; allowed: regex, take_first'),
        (steps({"function": "regex", "regex_pattern": "("}), r"'\(' is not a regular expression"),
        (steps({"function": "regex"}), "regex needs regex_pattern"),
        (steps({"function": "strip", "fallback": "x"}), "fallback belongs to the function regex, not to strip"),
        (
            "filter_list: [{name: a, filter: [{function: strip}]}, {name: b, filter: [{function: strip}]}]",
            "2 ways .*a, b",
        ),
        ("generation_kwargs: {do_sample: true, temperature: 0.7}", "answers are not sampled"),
        ("generation_kwargs: {max_gen_toks: 0}", "mine.yaml:10 generation_kwargs.max_gen_toks: must be at least 1"),
        ("until: [a]\ngeneration_kwargs: {until: [b]}", "until is given twice"),
        ("generation_kwargs: {top_k: 3}", "unknown key"),
    ],
)
def test_what_a_task_cannot_say_is_refused_at_its_line(here, more, told):
    with pytest.raises(RecipeError, match=told):
        read(more)


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("{metric: exact_match, tolerance: 0.1}", "tolerance belongs to number_match, not to exact_match"),
        ("{metric: rouge_l, ignore_case: true}", "ignore_case belongs to exact_match, not to rouge_l"),
        ("{metric: number_match, tolerance: 1}", "must be at least 0 and less than 1"),
        ("{metric: exact_match, regexes_to_ignore: ['[']}", "is not a regular expression"),
        ("{metric: chrf, aggregation: mean}", "chrf is aggregated by chrf, not by mean"),
        ("{metric: exact_match, higher_is_better: false}", "higher is better for exact_match"),
        ("{metric: rougeL}", "Did you mean rouge_l?"),
        ("{metric: word_perplexity}", "does not fit generate_until: use one of acc, char_f1"),
    ],
)
def test_a_metric_is_refused_what_is_not_its_own(here, metric, told):
    with pytest.raises(RecipeError, match=told):
        read("", TASK.replace("{metric: exact_match}", metric))


def test_a_metric_may_say_what_it_does_anyway_as_lm_evaluation_harness_writes_it(here):
    entry = (
        "{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true, regexes_to_ignore: [',']}"
    )
    task = read("", TASK.replace("{metric: exact_match}", entry))
    assert task.options() == {"exact_match": {"ignore_case": True, "regexes_to_ignore": [","]}}


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ("process_results: !function utils.process_results\n", "!function"),
        ("process_docs: process_docs\n", "process_docs"),
        ("custom_dataset: mine\n", "custom_dataset"),
        ("unsafe_code: true\n", "unsafe_code"),
    ],
)
def test_a_task_that_is_python_code_is_refused_as_unsafe(here, more, what):
    with pytest.raises(UnsafeArtefactError, match=rf"this task is Python code \({what}\)") as caught:
        read(more)
    assert caught.value.where.endswith("mine.yaml:10")
    assert "--engine lm-eval" in caught.value.hint
