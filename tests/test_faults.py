"""Preparation under attack: stopped, killed, without space, given nonsense; the bytes that come out are the same."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from itertools import count
from pathlib import Path

import pytest

from configs.store import RunFolder, verify_files
from data_prep import engine, shards
from data_prep.shards import page_of
from tests.recipes import balances, corpus, digest, documents, lines, notes, prose, read_lines, recipe, sectorlm, source

HOUSE = Path(__file__).resolve().parent.parent
READ, TOKENS = Path("runs/small/shards/read"), Path("runs/small/shards/tokens")
SMALL = 20_000
DOOR = f"""
import sys
from data_prep import engine, shards
shards.SHARD_BYTES, engine.SMALL = {SMALL}, 0
import sectorlm
sectorlm.main()
"""
"""The command line with shards of 20 kB, so that little text is many of them."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def many(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """480 notes in four files, some thirty shards; the digest of their corpus, prepared undisturbed under `whole`."""
    monkeypatch.setattr(shards, "SHARD_BYTES", SMALL)
    monkeypatch.setattr(engine, "SMALL", 0)
    Path("data").mkdir()
    for number in range(4):
        Path(f"data/{number}.jsonl").write_text(notes(120 * number, 120 * number + 120, sentences=16))
    recipe(tiny_base, source("data", name="notes"))
    assert sectorlm("prepare", "r.yaml", "--runs", "whole", "--workers", "1").code == 0
    return digest("whole/small")


def door(*words: str, **more: str) -> subprocess.Popen[str]:
    """A preparation in processes of its own, in a session of its own as below a terminal."""
    environment = {**os.environ, "PYTHONPATH": str(HOUSE), **more}
    command = [sys.executable, "-c", DOOR, "prepare", "r.yaml", *words]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **streams)


def workers_of(session: int) -> list[int]:
    """The living processes that a process has started, its resource tracker apart."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            told = (stat.parent / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == session and fields[0] != "Z" and b"spawn_main" in told:
            found.append(int(stat.parent.name))
    return found


def wait_until(holds, running: subprocess.Popen[str]) -> None:
    for _ in range(6000):
        if holds():
            return
        assert running.poll() is None, running.communicate()
        time.sleep(0.01)
    raise AssertionError("nothing happened for a minute")


def finished(place: Path) -> dict[Path, int]:
    """The shards that are complete, and since when."""
    return {page: page.stat().st_mtime_ns for page in place.glob("[0-9]*/shard.json")}


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="processes are looked for in /proc")


# ---------------------------------------------------------------- stopped and killed


@needs_proc
@pytest.mark.slow
def test_stopped_in_every_way_one_after_the_other_it_goes_on_and_the_bytes_are_the_same(many):
    """SIGTERM, Ctrl-C while processes start, kill -9 of the parent, kill -9 of a worker: the fifth hand finishes."""
    running = door("--workers", "2")
    wait_until(lambda: len(finished(READ)) >= 3, running)
    running.send_signal(signal.SIGTERM)
    _, told = running.communicate(timeout=60)
    assert (running.returncode, told.endswith(stopped("SIGTERM"))) == (143, True), told
    assert workers_of(running.pid) == []
    done = finished(READ)

    running = door("--workers", "2")
    wait_until(lambda: workers_of(running.pid), running)
    os.killpg(running.pid, signal.SIGINT)  # a terminal sends it to all of them
    _, told = running.communicate(timeout=60)
    assert (running.returncode, told) == (130, stopped("SIGINT"))
    assert workers_of(running.pid) == []

    running = door("--workers", "2")
    wait_until(lambda: len(finished(READ)) >= len(done) + 3, running)
    running.kill()
    running.wait()
    wait_until(lambda: not workers_of(running.pid), subprocess.Popen(["sleep", "60"]))
    left = finished(READ)
    time.sleep(0.3)
    assert finished(READ) == left  # nobody writes there any more
    assert done.items() <= left.items()

    running = door("--workers", "2")
    wait_until(lambda: finished(TOKENS), running)
    os.kill(workers_of(running.pid)[0], signal.SIGKILL)
    _, told = running.communicate(timeout=120)
    assert running.returncode == 0, told
    assert left.items() <= finished(READ).items()
    assert digest() == many
    assert not [path for path in Path("runs/small").rglob(".*") if not path.name.endswith("lock")]


def stopped(name: str) -> str:
    return f"sectorlm: stopped by {name}\n  The same command goes on: sectorlm prepare r.yaml --workers 2\n"


@pytest.mark.slow
def test_parts_of_an_array_that_run_together_or_twice_do_not_disturb_one_another(tiny_base, monkeypatch):
    """Two parts read, the first of them started twice; and two parts that both find all done put one corpus together."""
    monkeypatch.setattr(shards, "SHARD_BYTES", SMALL)
    Path("data").mkdir()
    for number in range(2):
        Path(f"data/{number}.jsonl").write_text(notes(200 * number, 200 * number + 100))
    recipe(tiny_base, source("data", name="notes"))
    at_once("0/2", "0/2", "1/2")
    before = finished(READ)
    assert sectorlm("prepare", "r.yaml", "--workers", "1").code == 0
    assert (len(before), finished(READ)) == (4, before)
    whole = digest()
    shutil.rmtree("runs/small/corpus")
    at_once("0/2", "1/2")
    assert (digest(), balances()) == (whole, True)


def at_once(*parts: str) -> None:
    """These parts of an array job, all at the same time."""
    together = [door("--workers", "1", "--part", part, "--keep-dropped") for part in parts]
    told = [running.communicate(timeout=120) for running in together]
    assert [running.returncode for running in together] == [0] * len(parts), told


def test_a_second_process_in_the_run_folder_is_refused_with_the_name_of_the_first(tiny_base):
    Path("notes.jsonl").write_text(notes(0, 20))
    recipe(tiny_base, source("notes.jsonl"))
    with RunFolder(Path("runs/small")).lock():
        whole, part = sectorlm("prepare", "r.yaml"), sectorlm("prepare", "r.yaml", "--part", "0/2")
    assert (whole.code, part.code) == (9, 9)
    assert f"run folder in use by pid {os.getpid()}" in whole.err
    with RunFolder(Path("runs/small")).lock(shared=True):
        assert sectorlm("prepare", "r.yaml").code == 9
        assert sectorlm("prepare", "r.yaml", "--part", "0/2").code == 0


# ---------------------------------------------------------------- no space, no permission, nobody to read


def test_whichever_call_to_the_disk_fails_what_is_there_is_whole_and_it_goes_on(tiny_base, monkeypatch):
    """The disk is full at the 1st, 2nd, 3rd ... call until none is left; the corpus of before stands all the time."""
    Path("notes.jsonl").write_text(notes(0, 40))
    recipe(tiny_base, source("notes.jsonl"))
    assert sectorlm("prepare", "r.yaml").code == 0
    before, record = digest(), corpus()
    recipe(tiny_base, source("notes.jsonl"), validation=0.2, min_chars=11)
    shutil.rmtree("runs/small/shards")
    for failing in count(1):
        calls = 0

        def fail(operation: str, path: Path, failing: int = failing) -> None:
            nonlocal calls
            calls += 1
            if calls == failing:
                raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr("configs.store._fault", fail)
        done = sectorlm("prepare", "r.yaml")
        if not done.code:
            break
        assert (done.code, "the disk is full while writing" in done.err) == (5, True), done.err
        assert "runs" in done.err.splitlines()[-2]
        for page in (*finished(READ), *finished(TOKENS)):
            verify_files(page.parent, page_of(page.parent)["files"])
        if corpus() == record:
            assert digest() == before
    monkeypatch.setattr("configs.store._fault", None)
    assert failing > 20
    assert sectorlm("prepare", "r.yaml", "--runs", "whole").code == 0
    assert digest() == digest("whole/small") != before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_on_a_real_disk_that_is_full_or_read_only_the_folder_is_named_and_it_goes_on(many):
    """A disk of 300 kB, then 2 MB, then enough; and one that may only be read."""
    Path("disk").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", "disk"], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        done = 0
        for size in ("300k", "2m", "50m"):
            subprocess.run(["mount", "-o", f"remount,size={size}", "disk"], check=True)
            told = sectorlm("prepare", "r.yaml", "--runs", "disk", "--workers", "1")
            whole = len(list(Path("disk").rglob("shard.json")))
            assert (told.code, whole > done) == ((0, True) if size == "50m" else (5, True)), told.err
            assert told.code == 0 or ("disk/small" in told.err and "the disk is full" in told.err)
            assert not [path for path in Path("disk").rglob(".*") if path.name.endswith(("staging", "part"))]
            done = whole
        assert digest("disk/small") == many
        subprocess.run(["mount", "-o", "remount,ro", "disk"], check=True)
        told = sectorlm("prepare", "r.yaml", "--runs", "disk")
        assert (told.code, "disk/small: no permission to write" in told.err) == (5, True), told.err
    finally:
        subprocess.run(["umount", "disk"], check=True)


def test_runs_that_cannot_be_a_folder_are_code_5(tiny_base):
    Path("notes.jsonl").write_text(notes(0, 20))
    Path("file").write_text("x")
    recipe(tiny_base, source("notes.jsonl"))
    for runs in ("file", "file/below", "/proc/none"):
        told = sectorlm("prepare", "r.yaml", "--runs", runs)
        assert (told.code, told.err.startswith(f"sectorlm: {runs}/small: ")) == (5, True), told.err


def test_with_stdout_closed_in_an_ascii_locale_chinese_names_are_prepared_and_told(tiny_base):
    Path("利率.jsonl").write_text(notes(0, 20) + "{\n", "utf-8")
    recipe(tiny_base, source("利率.jsonl", name="rates"), max_bad_rows=0.01)
    line = f"{sys.executable} {HOUSE / 'sectorlm.py'} prepare r.yaml >&-"
    locale = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    told = subprocess.run(["bash", "-c", line], env=locale, capture_output=True, check=False)
    assert told.returncode == 3, told
    assert b"Traceback" not in told.stderr
    assert b"??.jsonl:21: malformed JSON" in told.stderr
    assert "利率.jsonl:21" in next(READ.glob("*/dropped.jsonl")).read_text("utf-8")


# ---------------------------------------------------------------- words that mean nothing


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "xyz"], "--engine: no engine 'xyz'\n  Known: processes, ray."),
        (["--standard", "xyz"], "--standard: no standard 'xyz'\n  Known: tc609."),
        *(
            (["--part", part], "--part: expected NUMBER/OF, counted from 0")
            for part in ("3/3", "x", "1/", "0/0", "-1/2", "1/2/3")
        ),
        (["--workers", "-1"], "Invalid value for '--workers'"),
        (
            ["--set", "prepare.rules={max_symbol: 0.2}"],
            "max_symbol: no quality rule and no repair has this name\n  Did you mean",
        ),
        (["--set", "corpora.notes.rules={max_symbol: 0.2}"], "max_symbol: no quality rule"),
        (["--set", "prepare.rules={mojibake: 0.5}"], "mojibake: 0.5 is no threshold"),
        (["--set", "prepare.exclude=[hello]"], "prepare.exclude: neither the id of a document nor a pattern: 'hello'"),
        (["--set", "prepare.exclude=['text:(']"], "prepare.exclude: not a regular expression: 'text:('"),
        (["--set", "prepare.exclude=['text:.*']"], "prepare.exclude: matches every document"),
    ],
)
def test_a_word_that_means_nothing_is_code_2_before_any_work(tiny_base, words, message):
    Path("notes.jsonl").write_text(notes(0, 20))
    recipe(tiny_base, source("notes.jsonl"))
    told = sectorlm("prepare", "r.yaml", *words)
    assert (told.code, message in told.err) == (2, True), told.err
    assert not READ.exists()


# ---------------------------------------------------------------- sources that are hardly any


def prepared(base: Path, *sources: dict, **more: object) -> list:
    """The ledger of a preparation that must go well."""
    recipe(base, *sources, **more)
    told = sectorlm("prepare", "r.yaml")
    assert told.code == 0, told.err
    assert balances()
    return list(corpus().sources)


def test_a_source_of_which_nothing_is_left_is_counted_and_harms_no_other(tiny_base):
    """All too short; all copies of the first source; none selected; each beside 30 good notes, with a share or without."""
    Path("notes.jsonl").write_text(notes(0, 30))
    Path("short.jsonl").write_text(lines([{"body": f"x{n}"} for n in range(10)]))
    Path("copy.jsonl").write_text(notes(0, 30))
    for empty, reason in (
        (source("short.jsonl"), {"too short": 10}),
        (source("copy.jsonl"), {"duplicate": 30}),
        (source("copy.jsonl", where={"body": ["none"]}), {"not selected": 30}),
    ):
        for more in ({}, {"share": 0.3}, {"channel": "general", "share": 0.5}):
            whole, lost = prepared(tiny_base, source("notes.jsonl"), empty | more)
            assert (whole.documents, lost.documents, lost.dropped) == (30, 0, reason)
    recipe(tiny_base, source("short.jsonl"))
    told = sectorlm("prepare", "r.yaml")
    assert (told.code, "nothing is left to train on (too short: 10)" in told.err) == (3, True)


def test_empty_files_and_empty_members_are_counted_and_only_an_empty_source_is_refused(tiny_base):
    Path("data").mkdir()
    Path("data/0.jsonl").write_text("")
    Path("data/1.jsonl").write_text(notes(0, 10))
    with zipfile.ZipFile("a.zip", "w") as archive:
        for name, content in (("0.jsonl", ""), ("1.jsonl", notes(20, 30)), ("2.jsonl", "")):
            archive.writestr(name, content)
    folder, packed = prepared(tiny_base, source("data"), source("a.zip"))
    assert (folder.documents, folder.left_out, folder.files) == (10, {"empty file": 1}, 2)
    assert (packed.documents, packed.left_out, packed.files) == (10, {"empty file": 2}, 3)
    (unselected,) = [
        it for it in prepared(tiny_base, source("data", where={"body": ["x"]}), source("a.zip")) if it.name == "data"
    ]
    assert unselected.dropped == {"not selected": 10}
    for content in (b"", b"\n\n  \n", b"\xef\xbb\xbf"):
        Path("empty.jsonl").write_bytes(content)
        recipe(tiny_base, source("empty.jsonl"))
        told = sectorlm("prepare", "r.yaml")
        assert (told.code, "empty: 0 rows in empty.jsonl" in told.err) == (3, True), told.err


def test_one_two_and_five_documents_are_split_as_far_as_they_go(tiny_base):
    """One trains; of two or of five at least one trains; one group of five cannot be split; one of 30 is taken."""
    Path("one.jsonl").write_text(notes(0, 1))
    Path("two.jsonl").write_text(notes(0, 2))
    Path("five.jsonl").write_text(notes(0, 5))
    sides = []
    for asked in (source("one.jsonl"), source("two.jsonl"), source("five.jsonl"), source("five.jsonl", group="same")):
        prepared(tiny_base, asked, validation=0.49)
        sides.append([it["split"] for it in documents()].count("train"))
    assert (sides[0], sides[3]) == (1, 5)
    assert 1 <= sides[1] <= 2 and 1 <= sides[2] <= 4
    Path("many.jsonl").write_text(notes(0, 30))
    for most, kept in ((1, 1), (29, 29), (1000, 30)):
        (found,) = prepared(tiny_base, source("many.jsonl", max_documents=most))
        assert found.documents == kept
        assert found.dropped == ({} if kept == 30 else {"over max_documents": 30 - kept})


def test_conversations_alone_are_a_corpus_and_only_validation_is_none(tiny_base):
    """30 talks of some 150 tokens. Then all that trained become longer than a row: what is left is held out."""
    turns = [
        [{"role": "user", "content": prose(n, 1)}, {"role": "assistant", "content": prose(100 + n, 1)}]
        for n in range(30)
    ]
    talks = source("talks.jsonl", messages="talk")
    Path("talks.jsonl").write_text(lines([{"talk": talk} for talk in turns]))
    (found,) = prepared(tiny_base, talks, sequence_length=512)
    assert (found.documents, 0 < found.supervised < found.tokens / 2) == (30, True)
    held = {int(it["where"].split(":")[1]) - 1 for it in documents() if it["split"] == "validation"}
    for number in set(range(30)) - held:
        turns[number][1]["content"] = prose(number, 40)
    Path("talks.jsonl").write_text(lines([{"talk": talk} for talk in turns]))
    recipe(tiny_base, talks, sequence_length=512)
    told = sectorlm("prepare", "r.yaml")
    assert (told.code, f"nothing is left to train on (longer than a row: {30 - len(held)})" in told.err) == (3, True), (
        told.err
    )


def test_a_text_of_nothing_but_boilerplate_goes_and_the_others_lose_only_that(tiny_base):
    """Twenty notes share a paragraph; two have nothing else of their own but a few letters."""
    same = "All rights are kept by the central company of the land, and nothing may be copied or sold."
    bodies = [f"{same}\n\n{prose(n)}" for n in range(20)] + [same, f"{same}\n\nAs above."]
    Path("notes.jsonl").write_text(lines([{"body": body} for body in bodies]))
    (found,) = prepared(tiny_base, source("notes.jsonl"), near_duplicates=None)
    assert (found.documents, found.dropped) == (20, {"only boilerplate": 2})
    assert found.mended["repeated passages cut out"] == 19  # the first note keeps it


def test_a_text_of_five_megabytes_is_split_into_rows_and_no_token_is_lost(tiny_base):
    Path("notes.jsonl").write_text(notes(0, 3) + lines([{"body": prose(3, 85_000)}]) + notes(4, 8))
    assert Path("notes.jsonl").stat().st_size > 4_500_000
    (found,) = prepared(tiny_base, source("notes.jsonl", max_repeats=1), sequence_length=2048)
    long = max(documents(), key=lambda it: it["characters"])
    assert found.documents == 8
    assert long["characters"] == len(prose(3, 85_000))
    assert long["supervised"] == long["tokens"] - 1


def test_files_of_one_name_in_two_folders_are_told_apart(tiny_base):
    """The first rows are equal: the copy is named by the folder that it lies in."""
    for year in ("2023", "2024"):
        Path(year).mkdir()
        Path(year, "d.jsonl").write_text(notes(0, 1) + notes(10 * int(year), 10 * int(year) + 5))
    prepared(tiny_base, source(["2023/d.jsonl", "2024/d.jsonl"], name="years"))
    (dropped,) = read_lines("runs/small/corpus/dropped.jsonl")
    assert (dropped["where"], dropped["reason"]) == ("2024/d.jsonl: d.jsonl:1", "duplicate")
    places = [it["where"] for it in documents()]
    assert len(places) == len(set(places))


# ---------------------------------------------------------------- files that are not what they seem

DEEP = '{"body": ' + "[" * 100_000 + "]" * 100_000 + "}\n"
ODD = '{"body": ' + "[" * 600 + '"\\ud83d\\ude00"' + "]" * 600 + "}\n"


@pytest.mark.parametrize(
    ("name", "content", "refused"),
    [
        ("deep.jsonl", DEEP, {"malformed JSON": 1}),
        ("odd.jsonl", ODD, {"malformed JSON": 1}),
        ("digits.jsonl", '{"body": ' + "9" * 5000 + "}\n", {"malformed JSON": 1}),
        ("deep.xml", "<r>" + "<a>" * 20_000 + "</a>" * 20_000 + "</r>", {"malformed XML": 1}),
        ("mixed.jsonl", '[1]\n"x"\nnull\n', {"not an object": 2, "template cannot be filled": 1}),
    ],
)
def test_a_record_that_cannot_be_is_refused_and_counted(tiny_base, name, content, refused):
    """As the second file of a source; `max_bad_rows` lets it pass."""
    Path("data").mkdir()
    first = "<r><body>" + prose(1) + "</body></r>" if name.endswith("xml") else notes(0, 10)
    Path(f"data/0.{name.rpartition('.')[2]}").write_text(first)
    Path("data", name).write_text(content)
    (found,) = prepared(tiny_base, source("data"), max_bad_rows=1)
    assert found.refused == refused


@pytest.mark.parametrize(
    ("name", "content", "more", "code", "message"),
    [
        ("deep.json", DEEP, {}, 3, "deep.json:1: the JSON cannot be read: nested too deeply"),
        ("digits.json", '[{"body": ' + "9" * 5000 + "}]", {}, 3, "a number of more than 4,300 digits"),
        ("a.jsonl", "{}", {"encoding": "rot13"}, 3, "unknown encoding rot13"),
        ("a.jsonl", notes(0, 3), {"encoding": "utf-16"}, 3, "not utf-16 at byte 0"),
        ("a.gz", notes(0, 3), {}, 3, "damaged, or not what its ending says"),
        ("a.parquet", notes(0, 3), {}, 3, "not a readable parquet file"),
        ("a.jsonl", notes(0, 3), {"text": "{{ body"}, 2, "not a valid template"),
        ("a.jsonl", notes(0, 3), {"text": "{{ ''.__class__ }}"}, 3, "is unsafe"),
        ("a.jsonl", notes(0, 3), {"text": "{% for i in range(10**9) %}x{% endfor %}"}, 3, "Range too big"),
        (os.fsdecode(b"\xff.jsonl"), notes(0, 3), {}, 3, "the name of a file is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_is_no_bug_of_ours(tiny_base, name, content, more, code, message):
    Path("data").mkdir()
    Path("data", name).write_text(content)
    recipe(tiny_base, source("data", **more))
    told = sectorlm("prepare", "r.yaml")
    assert (told.code, message in told.err) == (code, True), told.err


def test_a_file_that_leads_out_of_the_folders_is_never_opened(tiny_base):
    Path("inside").mkdir()
    Path("inside/link.txt").symlink_to("/etc/hostname")
    for path in ("inside", "/etc/hostname", "../../../../../../etc/hostname"):
        recipe(tiny_base, source(path, name="out", text="{{ text }}"))
        told = sectorlm("prepare", "r.yaml")
        assert (told.code, "lies outside of the folders" in told.err) == (6, True), told.err


def test_a_damaged_file_stops_the_stage_and_once_it_is_mended_only_its_shard_is_read(tiny_base, monkeypatch):
    """The third of four files is cut off behind its first megabyte: the two before it stay as they are."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    Path("data").mkdir()
    for number in range(4):
        with gzip.open(f"data/{number}.jsonl.gz", "wt") as file:
            file.write(notes(0, 3500) if number == 2 else notes(10_000 + number * 10, 10_010 + number * 10))
    whole = Path("data/2.jsonl.gz").read_bytes()
    Path("data/2.jsonl.gz").write_bytes(whole[:-20])
    recipe(tiny_base, source("data"))
    told = sectorlm("prepare", "r.yaml", "--workers", "1")
    assert (told.code, "2.jsonl.gz: the file looks cut off" in told.err) == (3, True)
    before = finished(READ)
    assert len(before) == 2
    Path("data/2.jsonl.gz").write_bytes(whole)
    assert sectorlm("prepare", "r.yaml", "--workers", "1").code == 0
    assert before.items() <= finished(READ).items()
    assert (corpus().documents, balances()) == (3530, True)
