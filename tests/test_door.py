"""The front door: what each mistake prints and returns, and that nobody ever meets a traceback."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from configs.errors import MemoryExhaustedError, SectorLMError, StorageError
from configs.exits import understood
from configs.load import load_recipe
from configs.recipe import SECTORS
from configs.records import Run, made_by
from configs.starter import starter_files
from configs.store import RunFolder
from configs.taint import mark_tainted

HOUSE = Path(__file__).resolve().parent.parent
RECIPE = """\
name: small
sector: finance
base: BASE
corpora:
  - name: notes
    path: notes.jsonl
    licence: MIT
    prompt: "{{ text }}\\nTopic:"
    answer: "{{ topic }}"
prepare: {sequence_length: 64, validation: 0.2}
train: {rank: 4}
evaluate: {tasks: [topics.yaml], general: []}
"""
TASK = """\
task: topics
dataset_path: json
dataset_kwargs: {data_files: {test: test.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{ text }}\\nTopic:"
doc_to_choice: [rates, trade]
doc_to_target: "{{ topic }}"
metric_list: [{metric: acc}]
metadata: {sector: finance, language: [en], licence: MIT, source: this test}
"""


def door(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would; no traceback is ever allowed."""
    command = [sys.executable, str(HOUSE / "sectorlm.py"), *map(str, words)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | environment)
    assert "Traceback" not in done.stderr + done.stdout
    return done


def rows(count: int, start: int = 0) -> str:
    topics = ("rates", "trade")
    lines = [
        {"text": f"Sentence number {n} of the central bank.", "topic": topics[n % 2]}
        for n in range(start, start + count)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


@pytest.fixture
def here(tmp_path: Path, tiny_base: Path) -> Path:
    """A recipe with 20 notes, a task with 6 items, and the tiny base."""
    (tmp_path / "r.yaml").write_text(RECIPE.replace("BASE", str(tiny_base)))
    (tmp_path / "topics.yaml").write_text(TASK)
    (tmp_path / "notes.jsonl").write_text(rows(20))
    (tmp_path / "test.jsonl").write_text(rows(6, start=100))
    return tmp_path


TERMS = (
    "note: r.yaml:4 corpora: Strictest licence: permissive. Highest grade: general (GB/T 43697-2024). "
    "Allowed: research and commercial. MIT: keep the copyright notice with copies of the text.\n"
)
SEEN = "note: r.yaml:12 evaluate.tasks[0]: topics: not measurable with n = 6: only a difference above 57 points could be seen\n"


def test_check_of_a_good_recipe_finds_nothing_and_tells_the_terms_and_what_could_be_seen(here: Path) -> None:
    """2.80 sqrt(0.25 / 6) = 0.572."""
    done = door("check", "r.yaml", cwd=here)
    assert (done.returncode, done.stdout, done.stderr) == (0, "r.yaml: no problems found\n", TERMS + SEEN)


def test_check_tells_to_pin_a_data_set_of_the_hub_unless_a_commit_of_40_digits_is_given(here: Path) -> None:
    """Neither is read; `main` moves, a commit does not."""
    commit = "0123456789" * 4
    for path, loose in (("hf:org/name", True), ("hf:org/name@main", True), (f"hf:org/name@{commit}", False)):
        done = door("check", "r.yaml", "--set", f"corpora.notes.path={path}", cwd=here)
        assert (done.returncode, f"{path} is read from the hub" in done.stderr) == (0, True), done.stderr
        assert ("pin it" in done.stderr) == loose


WRONG = {
    "unknown key": (2, ("rank: 4", "rnak: 4"), "r.yaml:11 train.rnak: unknown key (value 4). Did you mean rank?"),
    "wrong type": (2, ("rank: 4", "rank: four"), 'r.yaml:11 train.rank: expected a whole number, got "four"'),
    "out of range": (2, ("rank: 4", "rank: 0"), "r.yaml:11 train.rank: must be at least 1 and at most 512, got 0"),
    "unknown sector": (2, ("finance", "finances"), "r.yaml:2 sector: got "),
    "missing file": (3, ("notes.jsonl", "note.jsonl"), "r.yaml:6 corpora[notes].path: note.jsonl: no such file"),
    "missing column": (3, ("{{ topic }}", "{{ topik }}"), "no column topik\n  Did you mean topic?"),
    "unknown licence": (2, ("MIT", "MIIT"), "r.yaml:7 corpora[notes].licence: unknown licence 'MIIT'\n  Did you mean MIT?"),
    "forbidden use": (4, ("licence: MIT", "licence: CC-BY-NC-4.0\nuse: commercial"), "(noncommercial)"),
    "no base": (3, ("base: ", "base: nowhere"), "no such base model"),
    "no task": (2, ("topics.yaml", "fiqa_sb"), "evaluate.tasks[0]: fiqa_sb: no such task\n  Did you mean fiqa_sa?"),
    "trained on the test": (3, ("notes.jsonl", "test.jsonl"), "corpus notes trains on test.jsonl"),
    "row too long": (2, ("sequence_length: 64", "sequence_length: 1024"), "do not fit the base model's context of 512"),
}  # fmt: skip


def test_check_refuses_unknown_rules_and_requests_that_mean_nothing_all_at_once(here: Path) -> None:
    """Two wrong rules, two wrong requests and a wrong time, each with its line; what is right is not named."""
    text = (here / "r.yaml").read_text()
    rules = "rules: {max_simbols: 0.2, min_letters: 0.2}, exclude: [Jane Doe, 'text:(', 00c0ffee00c0ffee]"
    text = text.replace("validation: 0.2", f"validation: 0.2, {rules}").replace(
        "    licence: MIT", "    licence: MIT\n    rules: {HTML remain: false}"
    )
    (here / "r.yaml").write_text(text)
    done = door("check", "r.yaml", cwd=here)
    assert done.returncode == 2
    for message in (
        "r.yaml:11 prepare.rules.max_simbols: max_simbols: no quality rule and no repair has this name\n"
        "  Did you mean max_symbols?",
        "r.yaml:8 corpora[notes].rules.HTML remain: HTML remain: no quality rule and no repair has this name",
        "r.yaml:11 prepare.exclude[0]: neither the id of a document nor a pattern: 'Jane Doe'",
        "r.yaml:11 prepare.exclude[1]: not a regular expression: 'text:('",
    ):
        assert message in done.stderr, done.stderr
    assert "min_letters:" not in done.stderr and "exclude[2]" not in done.stderr
    (here / "r.yaml").write_text(text.replace("    licence: MIT", "    licence: MIT\n    time: last year"))
    done = door("check", "r.yaml", cwd=here)
    told = 'r.yaml:8 corpora[notes].time: got "last year"; it must be a year, a date or a span: 2019, 2024-03-20, 1996/2024'
    assert told in done.stderr and "max_simbols" in done.stderr


def test_check_looks_for_the_adapter_to_start_from_the_probes_and_the_text_of_the_budget(here: Path) -> None:
    """An adapter that is nowhere, a task that is nowhere, one without shots, and a budget without general text."""
    text = (here / "r.yaml").read_text()
    asked = "start: runs/old, probes: [nope, topics.yaml, finance_topics], max_general_loss_increase: 0.05"
    (here / "r.yaml").write_text(text.replace("rank: 4", f"rank: 4, {asked}"))
    done = door("check", "r.yaml", cwd=here)
    assert done.returncode == 3
    for message in (
        "r.yaml:11 train.start: runs/old: no such folder\n  Give the folder that",
        "r.yaml:11 train.probes[0]: nope: no such task",
        "r.yaml:11 train.probes[1]: topics.yaml is no multiple-choice task with a fewshot_split\n  Probes take",
        "r.yaml:11 train.max_general_loss_increase: there is no text of the general channel",
    ):
        assert message in done.stderr, done.stderr
    assert "probes[2]" not in done.stderr
    adapter = here / "runs/old/run/adapter"
    adapter.mkdir(parents=True)
    done = door("check", "r.yaml", cwd=here)
    assert "r.yaml:11 train.start: no adapter_model.safetensors in runs/old" in done.stderr
    (adapter / "adapter_model.bin").touch()
    assert "train.start: runs/old: weights are pickled" in door("check", "r.yaml", cwd=here).stderr
    (adapter / "adapter_model.safetensors").touch()
    general = text.replace("    licence: MIT", "    licence: MIT\n    channel: general")
    (here / "r.yaml").write_text(
        general.replace("rank: 4", "rank: 4, start: runs/old, max_general_loss_increase: 0.05")
    )
    done = door("check", "r.yaml", cwd=here)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("case", WRONG)
def test_check_names_the_mistake_and_leaves_with_its_code(here: Path, case: str) -> None:
    code, (old, new), message = WRONG[case]
    text = (here / "r.yaml").read_text()
    if case == "forbidden use":
        text = text.replace("licence: MIT", "licence: CC-BY-NC-4.0") + "use: commercial\n"
    elif case == "missing column":
        text = text.replace(old, new)
    else:
        text = text.replace(old, new, 1)
    (here / "r.yaml").write_text(text)
    done = door("check", "r.yaml", cwd=here)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr


def test_check_refuses_a_new_token_that_the_base_has_already(here: Path) -> None:
    words = ("check", "r.yaml", "--set", "base=assets/base", "--set")
    done = door(*words, "train.new_tokens=[sukuk, the]", cwd=here)
    assert (done.returncode, "train.new_tokens: 'the' is a token of the base already" in done.stderr) == (2, True)
    assert door(*words, "train.new_tokens=[sukuk]", cwd=here).returncode == 0
    assert not (here / "runs").exists()


FILES = {
    "empty file": (b"", "0 rows in notes.jsonl"),
    "binary file": (bytes(range(256)) * 40, "notes.jsonl"),
    "rows cut off": (b'{"text": "a", "topic": "rates"', "notes.jsonl"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_corpus_that_cannot_be_read_is_a_data_error(here: Path, case: str) -> None:
    data, message = FILES[case]
    (here / "notes.jsonl").write_bytes(data)
    done = door("check", "r.yaml", cwd=here)
    assert (done.returncode, message in done.stderr) == (3, True), done.stderr


def test_a_task_without_its_answer_column_is_a_data_error(here: Path) -> None:
    (here / "test.jsonl").write_text(rows(6).replace("topic", "label"))
    done = door("check", "r.yaml", cwd=here)
    assert done.returncode == 3
    assert "r.yaml:12 evaluate.tasks[0]: topics: doc_to_target, row 1: no column topic" in done.stderr


def test_pickled_weights_are_never_opened(here: Path, tmp_path: Path) -> None:
    base = tmp_path / "pickled"
    base.mkdir()
    (base / "config.json").write_text("{}")
    (base / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    done = door("check", "r.yaml", "--set", "base=pickled", cwd=here)
    assert (done.returncode, "weights are pickled (pytorch_model.bin)" in done.stderr) == (6, True)


def test_check_reports_the_problems_of_all_blocks_at_once(here: Path) -> None:
    """One unknown key, one missing file, one missing task: three problems, one run."""
    text = (here / "r.yaml").read_text()
    (here / "r.yaml").write_text(
        text.replace("rank: 4", "rnak: 4").replace("notes.jsonl", "x.jsonl").replace("[topics.yaml]", "[nope]")
    )
    done = door("check", "r.yaml", cwd=here)
    assert done.returncode == 2
    assert all(
        text in done.stderr for text in ("train.rnak: unknown key", "x.jsonl: no such file", "nope: no such task")
    )


def test_with_json_an_error_is_one_object_on_stdout_wherever_the_switch_stands(here: Path) -> None:
    for words in (("--json", "check", "nothing.yaml"), ("check", "nothing.yaml", "--json")):
        done = door(*words, cwd=here)
        found = {"code": 2, "kind": "RecipeError", "message": "no such file", "where": "nothing.yaml", "hint": ""}
        assert (json.loads(done.stdout), done.stderr, done.returncode) == (found, "", 2)
    usage = json.loads(door("--json", "chekc", cwd=here).stdout)
    assert (usage["code"], usage["kind"]) == (2, "RecipeError")


def test_a_run_folder_in_use_is_refused_with_its_holder(here: Path) -> None:
    with RunFolder(here / "runs" / "small").lock():
        done = door("prepare", "r.yaml", cwd=here)
    assert done.returncode == 9
    assert f"run folder in use by pid {os.getpid()}" in done.stderr


def test_a_stage_says_which_stage_before_it_is_missing(here: Path) -> None:
    done = door("train", "r.yaml", cwd=here)
    assert done.returncode == 3
    assert "train needs the stage prepare, which is not complete" in done.stderr
    assert "sectorlm prepare r.yaml" in done.stderr


def test_a_stage_alone_refuses_records_of_another_recipe(here: Path) -> None:
    assert door("prepare", "r.yaml", cwd=here).returncode == 0
    done = door("train", "r.yaml", "--set", "prepare.sequence_length=32", cwd=here)
    assert done.returncode == 2
    assert "prepare was done here with another recipe:\n    prepare.sequence_length: 64 -> 32\n" in done.stderr


def test_prepared_rows_records_and_their_sources_can_be_looked_at(here: Path) -> None:
    """20 notes of which some are validation; the answer's tokens are supervised, the prompt's are not."""
    assert door("prepare", "r.yaml", cwd=here).returncode == 0
    assert load_recipe(here / "runs/small/recipe.yaml").train.rank == 4
    shown = json.loads(door("show", "runs/small", "--sample", "1", "--json", cwd=here).stdout)
    pieces = shown["0"]
    assert {piece["source"] for piece in pieces} == {"notes"}
    assert all(re.fullmatch(r"notes\.jsonl:\d+", piece["where"]) for piece in pieces)
    supervised = "".join(piece["text"] for piece in pieces if piece["supervised"])
    assert ("rates" in supervised or "trade" in supervised) and "Sentence" not in supervised
    traced = json.loads(door("show", "--trace", "runs/small/corpus/corpus.json", "--json", cwd=here).stdout)
    states = {step["label"]: step["state"] for step in traced["made_from"]}
    assert states["corpus file notes.jsonl"] == "matches"
    (here / "notes.jsonl").write_text(rows(19))
    traced = json.loads(door("show", "--trace", "runs/small", "--json", cwd=here).stdout)
    assert {step["label"]: step["state"] for step in traced["made_from"]}["corpus file notes.jsonl"] == "changed"
    listed = json.loads(door("runs", "--json", cwd=here).stdout)
    assert [(row["name"], row["sector"], row["stage"]) for row in listed] == [("small", "finance", "prepare")]
    table = door("show", "runs/small/corpus", cwd=here, LC_ALL="C", PYTHONUTF8="0")
    assert (table.returncode, "documents" in table.stdout) == (0, True)


def test_a_tainted_run_is_marked_where_runs_are_listed_and_shown(here: Path) -> None:
    """A run record, with the mark beside it that a removal request leaves which takes out one document."""
    (here / "runs/small/run").mkdir(parents=True)
    Run(
        name="small", settings={}, inputs={}, files={}, made=made_by("training", 0.0), base="tiny", base_digest="0",
        method="lora", weights="adapter", weights_digest="0", trainable_parameters=1, total_parameters=2, steps=1,
        epochs=1.0, tokens=1, seconds_training=1.0, tokens_per_second=1.0, peak_memory_bytes=1, loss_first=1.0,
        loss_last=1.0, curve=(),
    ).write(here / "runs/small/run/run.json")  # fmt: skip
    assert json.loads(door("runs", "--json", cwd=here).stdout)[0]["tainted"] == ""
    mark_tainted({here / "runs/small/run": ("a" * 16,)}, ["text:[Jj]ane"])
    told = "learnt from 1 document that must be forgotten (text:[Jj]ane): train again"
    [listed] = json.loads(door("runs", "--json", cwd=here).stdout)
    assert (listed["stage"], listed["tainted"]) == ("train", told)
    shown = door("show", "runs/small/run", cwd=here).stdout
    assert [line.split(maxsplit=1)[1].strip() for line in shown.splitlines() if "tainted" in line] == [told]
    (here / "runs/small/run/tainted.json").write_text("{")
    assert json.loads(door("runs", "--json", cwd=here).stdout)[0]["stage"] == "damaged"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_work_and_prints_the_command_that_goes_on(here: Path, number: int, code: int) -> None:
    (here / "notes.jsonl").write_text(rows(100_000))
    command = [sys.executable, str(HOUSE / "sectorlm.py"), "prepare", "r.yaml"]
    running = subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (here / "runs/small/recipe.yaml").exists() and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(number)
    _, told = running.communicate(timeout=30)
    assert running.returncode == code, told
    assert "The same command goes on: sectorlm prepare r.yaml" in told
    assert not (here / "runs/small/corpus/corpus.json").exists()


def test_a_reader_that_leaves_early_and_a_closed_stdout_disturb_nobody(here: Path) -> None:
    for tail in ("| head -1", ">&-", "| true"):
        line = f"{sys.executable} {HOUSE / 'sectorlm.py'} schema {tail}"
        done = subprocess.run(["bash", "-c", line], cwd=here, capture_output=True, text=True, check=False)
        assert done.stderr == "", done.stderr


def test_with_all_streams_closed_the_work_is_done_and_its_files_hold_nothing_else(here: Path) -> None:
    line = f"{sys.executable} {HOUSE / 'sectorlm.py'} prepare r.yaml <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", line], cwd=here, check=False).returncode == 0
    assert (here / "runs/small/.lock").read_text().count("\n") == 1
    assert door("show", "runs/small/corpus", cwd=here).returncode == 0


def test_json_in_an_ascii_locale_loses_no_character(here: Path) -> None:
    done = door("--json", "check", "医.yaml", cwd=here, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert os.fsencode(json.loads(done.stdout)["where"]).decode() == "医.yaml"


def test_a_full_disk_under_stdout_is_code_5(here: Path) -> None:
    line = f"{sys.executable} {HOUSE / 'sectorlm.py'} schema > /dev/full"
    done = subprocess.run(["bash", "-c", line], cwd=here, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (5, "sectorlm: no space left on device\n")


def test_the_schema_describes_every_key_of_a_recipe(here: Path) -> None:
    schema = json.loads(door("schema", cwd=here).stdout)
    blocks = [schema, *schema["$defs"].values()]
    assert not [key for block in blocks for key, entry in block["properties"].items() if "description" not in entry]
    assert schema["$defs"]["Train"]["properties"]["rank"]["maximum"] == 512


def test_the_shell_completes_verbs_and_sectors(here: Path) -> None:
    words = {"_SECTORLM_COMPLETE": "complete_bash", "COMP_CWORD": "2", "COMP_WORDS": "sectorlm init he"}
    assert door(cwd=here, **words).stdout.split() == ["healthcare"]


def test_every_sector_has_a_starter_recipe_that_loads(tmp_path: Path) -> None:
    for sector in SECTORS:
        for name, text in starter_files(sector).items():
            (tmp_path / name).write_text(text, "utf-8")
        assert load_recipe(tmp_path / f"{sector}.yaml").sector == sector


def test_init_writes_a_starter_and_replaces_nothing_unasked(here: Path) -> None:
    assert door("init", "green", cwd=here).stdout.startswith("wrote green.yaml\n")
    (here / "green.yaml").write_text("mine")
    again = door("init", "green", cwd=here)
    assert (again.returncode, (here / "green.yaml").read_text()) == (2, "mine")
    assert door("init", "green", "--force", cwd=here).returncode == 0
    assert load_recipe(here / "green.yaml").sector == "green"
    wrong = door("init", "helthcare", cwd=here)
    assert (wrong.returncode, "Did you mean healthcare?" in wrong.stderr) == (2, True)


def test_every_verb_has_an_example_in_its_help(here: Path) -> None:
    text = door("--help", cwd=here).stdout
    verbs = ["init", "check", "plan", "run", "prepare", "train", "evaluate", "compare", "publish", "show", "runs"]
    assert [verb for verb in (*verbs, "doctor", "schema") if f" {verb} " not in text] == []
    assert "Example: sectorlm publish" in door("publish", "--help", cwd=here).stdout


def test_what_the_system_refuses_and_what_is_our_bug_have_their_own_codes(tmp_path: Path) -> None:
    full = understood(OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x")), [])
    assert (type(full), full.code) == (StorageError, 5)
    assert (type(understood(MemoryError(), [])), MemoryExhaustedError.code) == (MemoryExhaustedError, 8)
    told = understood(RuntimeError("Error while serializing: No space left on device (os error 28)"), [])
    assert (type(told), told.message) == (StorageError, "no space left on device")
    for told in ("CUDA out of memory. Tried to allocate", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"):
        assert type(understood(RuntimeError(told), [])) is MemoryExhaustedError
    bug = understood(KeyError("surprise"), [])
    assert (type(bug), bug.code, bug.message) == (SectorLMError, 1, "this is our bug: KeyError: 'surprise'")
    report = Path(bug.hint.split()[4].rstrip(","))
    assert "KeyError: 'surprise'" in report.read_text()
    report.unlink()
