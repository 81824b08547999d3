"""Rows to items: what is asked, what is right, and what cannot be scored rightly."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import pytest

from configs.errors import DataError, RecipeError, UnsafeArtefactError
from configs.items import read_items, split_files
from configs.load import load_task
from configs.store import HOUSE
from configs.task import Task, task_files
from tests.conftest import SHARED, needs_shared

if TYPE_CHECKING:
    from pathlib import Path

ABOUT = {"sector": "finance", "language": ["en"], "licence": "CC0-1.0", "source": "test"}


def task(folder: Path, rows: list[dict[str, Any]], **keys: Any) -> Task:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    base = {
        "task": "t",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": ["yes", "no"],
        "doc_to_target": "{{a}}",
        "metric_list": [{"metric": "acc"}],
        "metadata": ABOUT,
    }
    return Task.model_validate_json(json.dumps(base | keys))


def read(folder: Path, rows: list[dict[str, Any]], **keys: Any) -> tuple[list[Any], Counter[str]]:
    return read_items(task(folder, rows, **keys), "test", (folder,))


def test_gold_may_be_the_text_the_index_or_the_letter_of_a_choice(tmp_path):
    for answers in (["no", "yes"], [1, 0], ["B", "A"]):
        rows = [{"q": f"q{n}", "a": answer} for n, answer in enumerate(answers)]
        items, refused = read(tmp_path, rows)
        assert [item.gold for item in items] == [1, 0]
        assert [item.target for item in items] == ["no", "yes"]
        assert not refused


def test_one_reading_of_gold_holds_for_all_rows(tmp_path):
    """Letters name the position, also in the row whose choices are the letters B A D C themselves: D is the fourth, C."""
    rows = [
        {"q": "1", "c": ["w", "x", "y", "z"], "a": "B"},
        {"q": "2", "c": ["w", "x", "y", "z"], "a": "C"},
        {"q": "3", "c": ["B", "A", "D", "C"], "a": "D"},
    ]
    items, _ = read(tmp_path, rows, doc_to_choice="{{c}}")
    assert [item.target for item in items] == ["x", "y", "C"]


def test_four_bad_rows_of_six_are_refused_each_with_its_reason(tmp_path):
    rows = [
        {"q": "good", "c": ["a", "b"], "a": "a"},
        {"q": "gold outside", "c": ["a", "b"], "a": "maybe"},
        {"q": "empty", "c": ["a", " "], "a": "a"},
        {"q": "twice", "c": ["a", "a"], "a": "a"},
        {"q": "good", "c": ["a", "b"], "a": "a"},
        {"q": "also good", "c": ["a", "b"], "a": "b"},
    ]
    items, refused = read(tmp_path, rows, doc_to_choice="{{c}}")
    assert [item.row for item in items] == [0, 5]
    assert refused == {"gold outside the choices": 1, "empty choices": 1, "repeated choices": 1, "duplicate item": 1}


def test_python_lists_are_read_as_lm_evaluation_harness_writes_them(tmp_path):
    items, _ = read(tmp_path, [{"q": "1", "c": "['it', 'she']", "a": 1}], doc_to_choice="{{c}}")
    assert items[0].choices == ("it", "she")


def test_a_missing_column_is_an_error_that_names_the_nearest_one(tmp_path):
    with pytest.raises(DataError, match="no column answr") as caught:
        read(tmp_path, [{"q": "1", "answer": "yes"}], doc_to_target="{{answr}}")
    assert "Did you mean answer?" in caught.value.hint
    assert caught.value.where == "t: doc_to_target, row 1"


def test_a_row_that_no_template_fits_is_named_by_its_task_key_and_place(tmp_path):
    """The third row has no column `c`, and a template is left open: neither message repeats the template."""
    rows = [{"q": "1", "c": ["x", "y"], "a": 0}, {"q": "2", "c": ["x", "y"], "a": 1}, {"q": "3", "a": 0}]
    with pytest.raises(DataError, match=r"^t: doc_to_choice, row 3: no column c"):
        read(tmp_path, rows, doc_to_choice="{{c}}")
    with pytest.raises(RecipeError, match=r"^t: doc_to_text, row 1: not a valid template"):
        read(tmp_path, rows, doc_to_text="{{q\nAnswer:")


def test_no_items_left_is_an_error_with_the_reasons(tmp_path):
    with pytest.raises(DataError, match=r"no items .*gold outside the choices: 2"):
        read(tmp_path, [{"q": "1", "a": "?"}, {"q": "2", "a": "!"}])


def test_keys_that_no_row_has_leave_no_items(tmp_path):
    (tmp_path / "ids.json").write_text('["k7"]', "utf-8")
    with pytest.raises(DataError, match=r"no items .*not selected: 2"):
        read(tmp_path, [{"q": "1", "a": "yes"}, {"q": "2", "a": "no"}], keys={"test": "ids.json"})


def test_a_generated_answer_may_be_one_of_several_and_must_not_be_empty(tmp_path):
    """Accepted ones as a JSON list, the first of which is shown; a list of none and an empty text are refused."""
    keys = {"output_type": "generate_until", "doc_to_choice": None, "metric_list": [{"metric": "token_f1"}]}
    rows = [
        {"q": "1", "a": ["the rate", "3.5 %"]},
        {"q": "2", "a": "[sic] one"},
        {"q": "3", "a": []},
        {"q": "4", "a": ""},
    ]
    items, refused = read(tmp_path, rows, **keys)
    assert [(item.target, item.accepted) for item in items] == [("the rate", ("the rate", "3.5 %")), ("[sic] one", ())]
    assert refused == {"empty answer": 2}
    assert items[0].passage() == "1\nthe rate\n3.5 %"


def test_a_list_is_the_set_itself_for_letters_and_spans(tmp_path):
    """As one of several right answers the letter A alone would be right where A and C are asked for."""
    keys = {"output_type": "generate_until", "doc_to_choice": None}
    rows = [{"q": "1", "a": ["A", "C"]}, {"q": "2", "a": []}]
    items, refused = read(tmp_path, rows, **keys, metric_list=[{"metric": "letters_match"}])
    assert [(item.target, item.accepted) for item in items] == [("A, C", ())]
    assert refused == {"empty answer": 1}
    rows = [{"q": "1", "a": ["org: A", "loc: B"]}, {"q": "2", "a": []}]
    items, _ = read(tmp_path, rows, **keys, metric_list=[{"metric": "span_f1"}])
    assert [item.target for item in items] == ["org: A; loc: B", "none"]


def test_an_unknown_split_is_an_error_that_names_the_nearest_one(tmp_path):
    with pytest.raises(DataError, match="no split tset") as caught:
        read_items(task(tmp_path, [{"q": "1", "a": "yes"}]), "tset", (tmp_path,))
    assert "test" in caught.value.hint


def test_a_file_that_changed_since_its_sha256_is_refused(tmp_path):
    rows = [{"q": "1", "a": "yes"}]
    task(tmp_path, rows)
    digest = hashlib.sha256((tmp_path / "rows.jsonl").read_bytes()).hexdigest()
    items, _ = read(tmp_path, rows, metadata=ABOUT | {"sha256": {"rows.jsonl": digest}})
    assert len(items) == 1
    with pytest.raises(DataError, match="bytes differ from the sha256"):
        read(tmp_path, [{"q": "2", "a": "yes"}], metadata=ABOUT | {"sha256": {"rows.jsonl": digest}})


def test_a_file_may_be_pinned_packed_and_plain_and_only_the_form_that_lies_there_counts(tmp_path):
    text = b'{"q": "1", "a": "yes"}\n'
    packed = gzip.compress(text)
    pins = {"rows.jsonl": hashlib.sha256(text).hexdigest(), "rows.jsonl.gz": hashlib.sha256(packed).hexdigest()}
    for name, content in (("rows.jsonl", text), ("rows.jsonl.gz", packed)):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_bytes(content)
        away = tmp_path / f"task of {name}"
        away.mkdir()
        asked = {"data_files": {"test": "rows.jsonl.gz"}}
        found = task(away, [], metadata=ABOUT | {"sha256": pins}, dataset_kwargs=asked)
        assert len(read_items(found, "test", (folder,))[0]) == 1


def test_a_sha256_of_a_file_that_the_task_does_not_have_is_refused(tmp_path):
    """It would pin nothing. While another file of the task is missing, the name may be that one's."""
    about = ABOUT | {"sha256": {"rowz.jsonl": "0" * 64}}
    with pytest.raises(DataError, match=r"no file of task t is called rowz\.jsonl") as caught:
        read(tmp_path, [{"q": "1", "a": "yes"}], metadata=about)
    assert "Did you mean rows.jsonl?" in caught.value.hint
    files = {"data_files": {"test": "rows.jsonl", "train": "rowz.jsonl"}}
    assert len(read(tmp_path, [{"q": "1", "a": "yes"}], metadata=about, dataset_kwargs=files)[0]) == 1


def test_worked_examples_need_a_split_that_they_come_from(tmp_path):
    with pytest.raises(ValueError, match="num_fewshot is 3, but no fewshot_split"):
        task(tmp_path, [{"q": "1", "a": "yes"}], num_fewshot=3)


def test_a_path_that_leaves_its_roots_is_refused(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    found = task(tmp_path, [{"q": "1", "a": "yes"}], dataset_kwargs={"data_files": {"test": "../rows.jsonl"}})
    with pytest.raises(UnsafeArtefactError):
        read_items(found, "test", (inner,))


def test_only_rows_of_the_wanted_field_and_of_the_listed_keys_are_scored(tmp_path):
    rows = {
        "k1": {"q": "1", "a": "yes", "s": "x"},
        "k2": {"q": "2", "a": "no", "s": "x"},
        "k3": {"q": "3", "a": "no", "s": "y"},
    }
    found = task(
        tmp_path,
        [],
        dataset_kwargs={"data_files": {"test": "d.json"}},
        records="*",
        where={"s": ["x"]},
        keys={"test": "ids.json"},
    )
    (tmp_path / "d.json").write_text(json.dumps(rows), "utf-8")
    (tmp_path / "ids.json").write_text(json.dumps(["k2", "k3"]), "utf-8")
    items, refused = read_items(found, "test", (tmp_path,))
    assert [item.text for item in items] == ["2"]
    assert refused == {"not selected": 2}
    assert [file.name for file in split_files(found, "test", (tmp_path,))] == ["d.json", "ids.json"]


def test_a_limit_of_3_takes_the_same_items_whatever_stands_around_them(tmp_path):
    """The items with the smallest hashes: leaving out an item that was not chosen changes nothing."""
    rows = [{"q": f"question {n}", "a": "yes"} for n in range(20)]
    chosen, _ = read_items(task(tmp_path, rows), "test", (tmp_path,), limit=3, seed=1)
    taken = {item.text for item in chosen}
    left_out = next(row for row in rows if row["q"] not in taken)
    fewer = [row for row in rows if row != left_out]
    again, _ = read_items(task(tmp_path, fewer), "test", (tmp_path,), limit=3, seed=1)
    other, _ = read_items(task(tmp_path, rows), "test", (tmp_path,), limit=3, seed=2)
    assert {item.text for item in again} == taken
    assert {item.text for item in other} != taken
    assert [item.row for item in chosen] == sorted(item.row for item in chosen)


def test_a_passage_is_the_question_with_its_own_choices_or_what_the_task_names(tmp_path):
    row = {"q": "Stock phrase. What?", "c": ["one thing", "another"], "a": 0, "s": "What?"}
    items, _ = read(tmp_path, [row], doc_to_choice="{{c}}")
    assert items[0].passage() == "Stock phrase. What?\none thing\nanother"
    items, _ = read(tmp_path, [row | {"a": "yes"}])
    assert items[0].passage() == "Stock phrase. What?"
    items, _ = read(tmp_path, [row | {"a": "yes"}], doc_to_decontamination_query="{{s}}")
    assert items[0].passage() == "What?"


@pytest.mark.parametrize(
    ("name", "n"),
    [("finance_topics", 200), ("healthcare_departments", 200), ("finance_text", 16), ("general_pairs", 200)],
)
def test_the_sample_tasks_have_all_their_items(name, n):
    found, roots = load_task(name, (HOUSE,))
    items, refused = read_items(found, found.test_split, roots)
    assert (len(items), dict(refused)) == (n, {})


@pytest.mark.parametrize("name", sorted(task_files(HOUSE)))
def test_every_sha256_of_a_task_is_that_of_one_of_its_files(name):
    """A pin with a slip in its name would never be compared with anything."""
    found, _ = load_task(name, (HOUSE,))
    files = (found.local or found.dataset_kwargs).data_files
    known = [
        path.partition("!")[0] for paths in files.values() for path in ([paths] if isinstance(paths, str) else paths)
    ]
    known += [
        path.rpartition(".")[0] for path in known if path.endswith((".gz", ".zst"))
    ]  # unpacked, they have one too
    for pinned in found.metadata.sha256:
        assert any(
            fnmatch(path, f"*{pinned}") or fnmatch(pinned, path) or fnmatch(pinned, path.rpartition("/")[2])
            for path in known
        )


def test_a_column_may_name_the_split_of_a_row(tmp_path):
    """Two rows of three are for the test, the third for examples; what belongs to no split of the task is not selected."""
    rows = [
        {"q": "1", "a": "yes", "part": "test"},
        {"q": "2", "a": "no", "part": "train"},
        {"q": "3", "a": "no", "part": "test"},
    ]
    both = {"data_files": {"test": "rows.jsonl", "train": "rows.jsonl"}}
    found = task(tmp_path, rows, dataset_kwargs=both, split_column="part", fewshot_split="train")
    asked, left = read_items(found, "test", (tmp_path,))
    assert ([item.text for item in asked], left) == (["1", "3"], {"not selected": 1})
    assert [item.text for item in read_items(found, "train", (tmp_path,))[0]] == ["2"]


def test_the_files_of_the_sample_tasks_are_all_pinned():
    for name in (
        "finance_topics",
        "finance_text",
        "healthcare_departments",
        "healthcare_text",
        "general_pairs",
        "general_text",
    ):
        found, _ = load_task(name, (HOUSE,))
        files = [path.partition("samples/")[2] for path in found.dataset_kwargs.data_files.values()]
        assert sorted(found.metadata.sha256) == sorted(files)


def test_a_text_to_be_written_is_compared_with_the_choice_that_its_gold_means(tmp_path):
    """The row says 1, the model writes `no`: both are the second choice. Gold 7 is none of two."""
    keys = {"output_type": "generate_until", "metric_list": [{"metric": "acc"}]}
    items, refused = read(tmp_path, [{"q": "1", "a": 1}, {"q": "2", "a": 0}, {"q": "3", "a": 7}], **keys)
    assert [item.target for item in items] == ["no", "yes"]
    assert refused == {"gold outside the choices": 1}


def test_a_metric_by_class_needs_classes_that_all_rows_share(tmp_path):
    with pytest.raises(ValueError, match="macro_f1 counts by class"):
        task(tmp_path, [], doc_to_choice="{{c}}", metric_list=[{"metric": "macro_f1"}])


def test_in_half_of_the_pairs_the_right_sentence_stands_first():
    found, roots = load_task("general_pairs", (HOUSE,))
    items, _ = read_items(found, found.test_split, roots)
    assert Counter(item.gold for item in items) == {0: 100, 1: 100}


REAL = {
    "fomc_stance": (474, 474, {"dovish": 127, "hawkish": 123, "neutral": 224}, {"duplicate item": 2}),
    "fiqa_sa": (2330, 233, {"Positive": 1410, "Negative": 740, "Neutral": 180}, {"duplicate item": 20}),
    "fpb": (7740, 774, {"neutral": 4520, "positive": 2260, "negative": 960}, {}),
    "pubmedqa": (500, 500, {"yes": 276, "no": 169, "maybe": 55}, {"not selected": 500}),
    "mmlu_med": (1011, 1011, {"A": 220, "B": 235, "C": 235, "D": 321}, {"duplicate item": 78}),
    "cmmlu_medicine": (1073, 1073, {"A": 269, "B": 264, "C": 275, "D": 265}, {}),
    "cmmlu_law": (782, 782, {"A": 197, "B": 194, "C": 196, "D": 195}, {}),
    "cmmlu_finance": (334, 334, {"A": 83, "B": 84, "C": 83, "D": 84}, {}),
}
"""Items, clusters, golds and refusals, counted apart from this code. MMLU really holds 78 questions in two subjects."""


@needs_shared
@pytest.mark.parametrize("name", REAL)
def test_the_real_tasks_have_the_items_that_were_counted_by_hand(name):
    found, roots = load_task(name, (SHARED,))
    items, refused = read_items(found, found.test_split, roots)
    clusters, golds = len({item.cluster for item in items}), Counter(item.target for item in items)
    assert (len(items), clusters, golds, dict(refused)) == REAL[name]


@needs_shared
def test_the_first_fpb_sentence_is_cut_from_its_ten_prompts():
    found, roots = load_task("fpb", (SHARED,))
    items, _ = read_items(found, found.test_split, roots)
    assert {item.cluster for item in items[:10]} == {"On 25 August 2009 , Sampo 's stake in Nordea was 19.45 % ."}
    assert items[0].passage() == items[0].cluster
