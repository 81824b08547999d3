"""Recipes from YAML: every mistake with its line, and no surprise of YAML 1.1."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.emit import resolved_yaml, to_yaml
from configs.errors import RecipeError
from configs.load import load_recipe, load_task, read_recipe
from configs.recipe import SECTORS
from configs.sector import beside_the_pack, load_sector
from configs.yaml_nodes import MAX_BYTES, parse_yaml, read_yaml, scalar

GOOD = """\
name: tenk
sector: finance
base: assets/base
corpora:
  - name: filings
    path: filings.jsonl
    licence: public-domain
    text: "{{ text }}"
train:
  rank: 8
evaluate:
  tasks: [fiqa]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, so that messages name files as a person would."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(text: str, *sets: str) -> str:
    Path("r.yaml").write_text(text, "utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(Path("r.yaml"), sets)
    return str(caught.value)


def test_a_recipe_of_twelve_lines_is_read_with_its_lists_as_tuples(here: Path) -> None:
    Path("r.yaml").write_text(GOOD)
    recipe = load_recipe(Path("r.yaml"))
    assert (recipe.train.rank, recipe.train.alpha, recipe.evaluate.tasks) == (8, 32.0, ("fiqa",))


WRONG = [
    (
        "  rank: 8",
        "  learning_rat: 0.1",
        "r.yaml:10 train.learning_rat: unknown key (value 0.1). Did you mean learning_rate?",
    ),
    ("  rank: 8", "  rank: eight", 'r.yaml:10 train.rank: expected a whole number, got "eight"'),
    ("  rank: 8", "  rank: 8.5", "r.yaml:10 train.rank: expected a whole number, got 8.5"),
    ("  rank: 8", "  rank: 0", "r.yaml:10 train.rank: must be at least 1 and at most 512, got 0"),
    ("  rank: 8", "  warmup: 1", "r.yaml:10 train.warmup: must be at least 0 and less than 1, got 1"),
    ("  rank: 8", "  limit: 10", "r.yaml:10 train.limit: unknown key (value 10). It belongs under evaluate:."),
    ("train:", "rank: 4\ntrain:", "r.yaml:9 rank: unknown key (value 4). It belongs under train:."),
    (
        "  rank: 8",
        "  method: Lora",
        'r.yaml:10 train.method: got "Lora"; allowed: lora, full, scratch. Did you mean lora?',
    ),
    (
        "  rank: 8",
        "  precision: no",
        'r.yaml:10 train.precision: got "no"; allowed: auto, float32, bfloat16.',
    ),
    (
        "evaluate:",
        "gates: {significant_gain: yes}\nevaluate:",
        'r.yaml:11 gates.significant_gain: expected true or false, got "yes" (in YAML 1.2 only true and false are)',
    ),
    ("  tasks: [fiqa]", "  tasks: fiqa", 'r.yaml:12 evaluate.tasks: expected a list, got "fiqa"'),
    ("  tasks: [fiqa]", "  tasks: []", "r.yaml:12 evaluate.tasks: needs at least 1 of them, got []"),
    ("    licence: public-domain\n", "", "r.yaml:5 corpora[filings].licence: is required and missing"),
    (
        "path: filings.jsonl",
        "path: 3",
        "r.yaml:6 corpora[filings].path: expected a text or a list, got 3 (put it in quotes to make it a text)",
    ),
    (
        '    text: "{{ text }}"',
        '    prompt: "{{ text }}"',
        "r.yaml:5 corpora[filings]: prompt and answer belong together: one of them is missing",
    ),
    ("name: tenk", "name: a/b", 'r.yaml:1 name: got "a/b"; it must match ^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    ("train:\n  rank: 8", "train: 8", "r.yaml:9 train: expected a block of `key: value` lines, got 8"),
    ("  rank: 8", "  alpha: .inf", "r.yaml:10 train.alpha: is not a finite number"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG, ids=[message.split(" ", 1)[1][:40] for *_, message in WRONG])
def test_a_wrong_key_is_named_with_its_line_its_value_and_what_is_allowed(
    here: Path, old: str, new: str, message: str
) -> None:
    assert told(GOOD.replace(old, new)) == message


def test_all_problems_come_at_once_in_the_order_of_the_lines(here: Path) -> None:
    lines = told(GOOD.replace("rank: 8", "rank: 0\n  seed: 1").replace("finance", "financ")).splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "r.yaml:2 sector",
        "r.yaml:10 train.rank",
        "r.yaml:11 train.seed",
    ]
    assert lines[0].endswith("Did you mean finance?")
    assert lines[2].endswith("It belongs at the top level.")


def test_the_core_schema_of_yaml_1_2_decides_what_a_word_means() -> None:
    texts = ("no", "Yes", "on", "12:30:45", "2026-01-31", "1_000", "0b1", "<<", "=")
    assert [scalar(text) for text in texts] == list(texts)
    numbers = {"1e-4": 0.0001, "2E3": 2000.0, "010": 10, "0o10": 8, "0xff": 255, ".5": 0.5, "7.": 7.0, "-3": -3}
    assert {text: scalar(text) for text in numbers} == numbers
    assert [type(scalar(text)) for text in ("010", "1e-4")] == [int, float]
    assert [scalar(text) for text in ("true", "FALSE", "~", "null", "")] == [True, False, None, None, None]
    assert parse_yaml("'1e-4'", "x").value == "1e-4"


REFUSED = [
    (b"a: 1\nb:\n  c: 1\n  c: 2\n", "r.yaml:4: key 'c' is given twice: first in line 3"),
    (b"a: &x [1]\nb: *x\n", "r.yaml:1: anchors and aliases (&x) are not read\n  Write the value out."),
    (
        b"a: !!python/object:os.system x\n",
        "r.yaml:1: tags (tag:yaml.org,2002:python/object:os.system) are not read: YAML here is data, never code",
    ),
    (b"a: 1\n---\nb: 2\n", "r.yaml:2: a second document starts here; one file holds one document"),
    (
        b"a:\n\t- b\n",
        "r.yaml:2: not YAML: found character '\\t' that cannot start any token\n  Indent with spaces, not tabs.",
    ),
    (
        b"a: b: c\n",
        "r.yaml:1: not YAML: mapping values are not allowed here\n  Put text that contains a colon and a space in quotes.",
    ),
    (b"name: \xb0\xa1\n", "r.yaml: not UTF-8: byte 0xb0 at offset 6\n  Save the file as UTF-8."),
    (b"- 1\n", "r.yaml: holds a list where `key: value` lines are expected"),
    (b"", "r.yaml: holds nothing where `key: value` lines are expected"),
    (b"a: 'x\x01'\n", "r.yaml:1: control character U+0001 is not allowed in YAML"),
    (b"a: {{ b }}\n", 'r.yaml:1: a key must be one word or text\n  Put a template in quotes: "{{ title }}".'),
    (b"? [a]\n: 1\n", "r.yaml:1: a key must be one word or text"),
    (b'a: "\\ud800"\n', "r.yaml:1: half of a surrogate pair is not a character"),
    (b"a: " + b"[" * 40 + b"]" * 40 + b"\n", "r.yaml:1: nested deeper than 32 levels"),
]


@pytest.mark.parametrize(("data", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_what_is_not_strict_yaml_is_refused_with_its_line(here: Path, data: bytes, message: str) -> None:
    Path("r.yaml").write_bytes(data)
    with pytest.raises(RecipeError) as caught:
        read_yaml(Path("r.yaml"))
    assert str(caught.value) == message


def test_an_alias_bomb_of_nine_lines_stops_at_its_first_anchor(here: Path) -> None:
    bomb = 'a0: &a0 ["x"]\n' + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    assert told(bomb).startswith("r.yaml:1: anchors and aliases (&a0) are not read")


def test_a_file_over_one_megabyte_and_a_folder_are_no_recipes(here: Path) -> None:
    assert told("#" * (MAX_BYTES + 1)) == "r.yaml: larger than 1,000,000 bytes: not a recipe or a task"
    with pytest.raises(RecipeError, match="is a folder, not a YAML file"):
        load_recipe(here)
    with pytest.raises(RecipeError, match=r"nothing\.yaml: no such file"):
        load_recipe(Path("nothing.yaml"))


def test_a_recipe_laid_over_another_keeps_the_file_and_line_of_every_value(here: Path) -> None:
    """parent.yaml has rank 8 in line 10; child.yaml changes the tasks and breaks the name, its own line 2."""
    Path("parent.yaml").write_text(GOOD.replace("rank: 8", "rank: 0"))
    lines = told("extends: parent.yaml\nname: ''\nevaluate: {tasks: [a, b]}\n").splitlines()
    assert lines == [
        "parent.yaml:10 train.rank: must be at least 1 and at most 512, got 0",
        'r.yaml:2 name: got ""; it must match ^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$',
    ]
    Path("parent.yaml").write_text(GOOD)
    Path("r.yaml").write_text("extends: parent.yaml\ntrain: {alpha: 16}\nevaluate: {tasks: [a, b]}\n")
    recipe = load_recipe(Path("r.yaml"))
    assert (recipe.train.rank, recipe.train.alpha, recipe.evaluate.tasks) == (8, 16.0, ("a", "b"))


def test_a_parent_in_another_folder_still_finds_its_own_files(here: Path) -> None:
    Path("shared").mkdir()
    Path("shared/parent.yaml").write_text(GOOD.replace("sector:", "data: [raw]\nsector:"))
    Path("r.yaml").write_text("extends: shared/parent.yaml\n")
    assert load_recipe(Path("r.yaml")).data == ("shared", "shared/raw")


def test_extends_runs_in_no_circle_and_names_only_yaml_files_that_are_there(here: Path) -> None:
    Path("other.yaml").write_text("extends: r.yaml\n")
    assert told("extends: other.yaml\n") == "r.yaml: extends runs in a circle: r.yaml -> other.yaml -> r.yaml"
    assert told("a: 1\nextends: nothing.yaml\n").startswith("r.yaml:2: extends: no such file nothing.yaml")
    assert told("extends: /etc/passwd\n").startswith("r.yaml:1: extends: expected the relative path of a .yaml file")


def test_set_reaches_keys_and_members_of_lists_by_name_or_position(here: Path) -> None:
    Path("r.yaml").write_text(GOOD.replace("name: filings", "name: sec.10-k"))
    sets = (
        "train.rank=4",
        "corpora.sec.10-k.share=0.2",
        "corpora[0].language=[en]",
        "evaluate.limit=50",
        "train.epochs=",
    )
    recipe = load_recipe(Path("r.yaml"), sets)
    source = recipe.corpora[0]
    assert (recipe.train.rank, source.share, source.language, recipe.evaluate.limit) == (4, 0.2, ("en",), 50)
    assert load_recipe(Path("r.yaml"), ["corpora[sec.10-k].share=1e-1"]).corpora[0].share == 0.1


def test_a_template_given_by_set_needs_no_quotes_within(here: Path) -> None:
    Path("r.yaml").write_text(GOOD)
    for text in ("{{ txt }}", "News: {{ txt }}", "{% if a %}x{% endif %}"):
        assert load_recipe(Path("r.yaml"), [f"corpora.filings.text={text}"]).corpora[0].text == text
    assert load_recipe(Path("r.yaml"), ['corpora[0].text="{{ a }}\\n"']).corpora[0].text == "{{ a }}\n"


def test_a_wrong_set_is_named_as_it_was_typed(here: Path) -> None:
    assert told(GOOD, "train.rank=x") == '--set train.rank=x train.rank: expected a whole number, got "x"'
    assert (
        told(GOOD, "trian.rank=3") == '--set trian.rank=3 trian: unknown key (value {"rank": 3}). Did you mean train?'
    )
    assert told(GOOD, "corpora.filing.share=1").splitlines() == [
        "--set corpora.filing.share=1: corpora has no member filing; there are: filings",
        "  Did you mean filings?",
    ]
    assert told(GOOD, "train.rank.x=1") == "--set train.rank.x=1: train.rank is a single value: it has no parts to set"
    assert told(GOOD, "rank").startswith("--set rank: expected KEY=VALUE")
    assert told(GOOD, "name=*x").startswith("--set name=*x: anchors and aliases (*x) are not read")


def test_the_resolved_recipe_marks_defaults_and_reads_back_as_the_same(here: Path) -> None:
    Path("r.yaml").write_text(GOOD)
    text = resolved_yaml(Path("r.yaml"), ["train.learning_rate=1e-4"])
    assert "\n  rank: 8\n" in text
    assert "\n  learning_rate: 0.0001  # --set train.learning_rate=1e-4\n" in text
    assert "\n  dropout: 0.0  # default\n" in text
    Path("again.yaml").write_text(text)
    assert load_recipe(Path("again.yaml")) == load_recipe(Path("r.yaml"), ["train.learning_rate=1e-4"])


def test_text_that_looks_like_something_else_survives_writing_and_reading() -> None:
    odd = [
        "1e-4",
        "no",
        "null",
        "a: b",
        "#x",
        " x ",
        "",
        "- a",
        "中文 text",
        "tab\t",
        "line\nbreak",
        "true",
        "0o7",
        "x\u2028y",
    ]
    assert parse_yaml(to_yaml({"odd": odd, "1": {"~": odd[0]}}), "x").value == {"odd": odd, "1": {"~": "1e-4"}}


TASK = """\
task: mine
dataset_path: json
dataset_kwargs: {data_files: {test: items.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{ question }}"
doc_to_choice: [yes, no]
doc_to_target: "{{ answer }}"
metric_list: [{metric: acc}]
metadata: {sector: finance, language: [en], licence: MIT, source: here}
"""


def test_a_task_file_is_read_by_the_same_rules_and_its_folder_comes_first(here: Path) -> None:
    Path("tasks").mkdir()
    Path("tasks/mine.yaml").write_text(TASK)
    task, roots = load_task("tasks/mine.yaml", (here,))
    assert task.doc_to_choice == ("yes", "no")  # words, as YAML 1.2 has it
    assert roots == (here / "tasks", here)
    Path("tasks/mine.yaml").write_text(TASK.replace("acc}", "accuracy}"))
    with pytest.raises(
        RecipeError, match=r'mine.yaml:9 metric_list\[0\].metric: got "accuracy"; allowed: acc, acc_norm'
    ):
        load_task("tasks/mine.yaml", (here,))
    with pytest.raises(RecipeError, match="nowhere: no such task"):
        load_task("nowhere", (here,))


def test_all_twelve_sector_packs_hold_two_corpora_two_benchmarks_and_a_note_in_two_languages() -> None:
    packs = [load_sector(sector) for sector in SECTORS]
    assert [pack.sector for pack in packs] == list(SECTORS)
    assert all(len(pack.corpora) >= 2 and len(pack.benchmarks) >= 2 for pack in packs)
    assert all(len(pack.glossary) >= 20 and pack.domain.protect and pack.domain.personal for pack in packs)
    assert all(pack.safety.en.isascii() and not pack.safety.zh.isascii() for pack in packs)


def test_a_pack_says_what_it_would_not_have_expected_of_a_source() -> None:
    pack = load_sector("healthcare")
    source = pack.corpora[0]
    assert beside_the_pack(source, pack) == []
    unlike = source.model_copy(update={"licence": "CC-BY-NC-4.0", "personal": "off"})
    (licence, told), (personal, why) = beside_the_pack(unlike, pack)
    assert (licence, personal) == ("licence", "personal")
    assert told.startswith("CC-BY-NC-4.0 is noncommercial") and "mrn" in why


def test_places_name_the_line_of_every_key(here: Path) -> None:
    Path("r.yaml").write_text(GOOD)
    places = read_recipe(Path("r.yaml")).places
    assert str(places["corpora", 0, "licence"]) == "r.yaml:7"
    assert str(places["evaluate", "tasks", 0]) == "r.yaml:12"
