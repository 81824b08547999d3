"""Shards: the same bytes from any number of processes, and nothing that is done is done again."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pytest

from configs.errors import DataError, StorageError
from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.records import Corpus
from configs.spread import How, how_to_spread
from configs.store import RunFolder, digest_folder, hashed
from data_prep import engine, shards
from data_prep.prepare import prepare
from data_prep.shards import page_of

HOUSE = Path(__file__).resolve().parent.parent
ONE = How(workers=1)


def text(number: int) -> str:
    """Ten sentences that no other text has."""
    return " ".join(
        f"In year {hashed(number, 'year', step) % 9973} the rate of bank {hashed(number, 'bank', step) % 9973} was raised."
        for step in range(10)
    )


@pytest.fixture
def folder(tmp_path, tiny_base, monkeypatch):
    """A recipe of 100 documents in five files, each a shard."""
    (tmp_path / "data").mkdir()
    for number in range(5):
        rows = [{"body": text(20 * number + line), "n": line} for line in range(20)]
        (tmp_path / f"data/{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.yaml").write_text(
        f"""
name: small
sector: finance
base: {tiny_base}
corpora: [{{name: notes, path: data, text: "{{{{ body }}}}", licence: CC0-1.0}}]
prepare: {{sequence_length: 64, validation: 0.1, decontaminate: "off"}}
evaluate: {{tasks: [finance_topics], general: []}}
"""
    )
    monkeypatch.setattr(shards, "SHARD_BYTES", 15_000)
    monkeypatch.setattr(engine, "SMALL", 0)
    return tmp_path


def prepared(folder: Path, runs: str, how: How = ONE, *overrides: str) -> Path:
    """The run folder after a preparation in this process."""
    recipe = load_recipe(folder / "recipe.yaml", overrides)
    job = Job(recipe, (*roots_of(recipe, folder / "recipe.yaml"), Path(recipe.base).parent), RunFolder(folder / runs))
    with job.folder.lock(shared=how.part is not None):
        prepare(job, how=how)
    return job.folder.root


def killed(folder: Path, runs: str, point: str) -> None:
    """A preparation in a process of its own that dies at a point, as if by kill -9."""
    code = "import sys; from data_prep import engine, shards; shards.SHARD_BYTES, engine.SMALL = 15_000, 0; "
    code += (
        "from pathlib import Path; from tests.test_shards import prepared; prepared(Path('.').resolve(), sys.argv[1])"
    )
    environment = {**os.environ, "PYTHONPATH": str(HOUSE), "SECTORLM_CRASH_AT": point}
    done = subprocess.run([sys.executable, "-c", code, runs], cwd=folder, env=environment, check=False)
    assert done.returncode == 137


def digest(run: Path) -> str:
    return digest_folder(run / "corpus", ("*.bin", "*.npy", "*.parquet", "*.jsonl"))


def test_one_process_two_and_an_array_of_three_parts_give_the_same_bytes(folder, capsys):
    one, two = prepared(folder, "one"), prepared(folder, "two", How(workers=2))
    assert len(list((one / "shards/read").iterdir())) == 5
    for part in (0, 1, 2, 0):
        prepared(folder, "parts", How(workers=1, part=(part, 3)))
        assert not (folder / "parts/corpus").exists()
    prepared(folder, "parts", How(workers=1, part=(1, 3)))  # the last share of the second pass
    assert "reading: part 0 of 3 is done; others are not" in capsys.readouterr().err
    assert digest(one) == digest(two) == digest(folder / "parts")
    assert (
        Corpus.read(one / "corpus/corpus.json").content() == Corpus.read(folder / "parts/corpus/corpus.json").content()
    )


@pytest.mark.slow
def test_a_ray_cluster_of_two_workers_gives_the_same_bytes(folder):
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    try:
        many = prepared(folder, "many", How(engine="ray", workers=2))
    finally:
        ray.shutdown()
    assert digest(prepared(folder, "one")) == digest(many)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["prepare.source:3", "prepare.settled", "prepare.tokenising"])
def test_a_hard_stop_keeps_the_shards_that_are_done_and_the_bytes_come_out_the_same(folder, point):
    killed(folder, "broken", point)
    done = {path: path.stat().st_mtime_ns for path in (folder / "broken/shards").rglob("shard.json")}
    assert len(done) >= 2
    assert digest(prepared(folder, "broken")) == digest(prepared(folder, "whole"))
    assert {path: path.stat().st_mtime_ns for path in done} == done


def test_a_damaged_shard_is_made_again_and_only_that_one(folder):
    run = prepared(folder, "runs")
    before = digest(run)
    pages = sorted((run / "shards/read").glob("*/shard.json"))
    times = [page.stat().st_mtime_ns for page in pages]
    (pages[2].parent / "texts.arrow").write_bytes(b"cut off")
    (run / "corpus/corpus.json").unlink()
    prepared(folder, "runs")
    assert [page.stat().st_mtime_ns == then for page, then in zip(pages, times, strict=True)] == [
        True,
        True,
        False,
        True,
        True,
    ]
    assert digest(run) == before


def test_a_threshold_that_changes_reads_nothing_again(folder):
    run = prepared(folder, "runs")
    read = {page: page.stat().st_mtime_ns for page in (run / "shards/read").glob("*/shard.json")}
    prepared(folder, "runs", ONE, "prepare.near_duplicates=null", "prepare.validation=0.2")
    assert {page: page.stat().st_mtime_ns for page in read} == read


def test_a_new_row_in_one_file_reads_only_its_shard_again(folder):
    run = prepared(folder, "runs")
    pages = sorted((run / "shards/read").glob("*/shard.json"))
    times = [page.stat().st_mtime_ns for page in pages]
    with (folder / "data/4.jsonl").open("a") as file:
        file.write(json.dumps({"body": text(1000), "n": 1000}) + "\n")
    prepared(folder, "runs")
    assert [page.stat().st_mtime_ns == then for page, then in zip(pages, times, strict=True)] == [True] * 4 + [False]
    assert Corpus.read(run / "corpus/corpus.json").documents == 101


def test_fewer_files_leave_no_shards_of_the_older_plan_behind(folder):
    prepared(folder, "runs")
    (folder / "data/0.jsonl").unlink()
    (folder / "data/1.jsonl").unlink()
    run = prepared(folder, "runs")
    assert sorted(path.name for path in (run / "shards").glob("*/[0-9]*")) == [
        "00000",
        "00000",
        "00001",
        "00001",
        "00002",
        "00002",
    ]
    assert digest(run) == digest(prepared(folder, "fresh"))


def test_another_ftfy_reads_again_another_torch_does_nothing(folder, monkeypatch):
    run = prepared(folder, "runs")
    for package, again in (("torch", False), ("ftfy", True)):
        times = {page: page.stat().st_mtime_ns for page in (run / "shards").glob("*/0*/shard.json")}
        monkeypatch.setattr(
            "configs.record.version", lambda name, newer=package: "99" if name == newer else version(name)
        )
        (run / "corpus/corpus.json").unlink()
        prepared(folder, "runs")
        assert len(times) == 10
        assert {page.stat().st_mtime_ns != then for page, then in times.items()} == {again}


def test_the_lines_of_documents_are_written_seven_at_a_time_and_the_corpus_is_the_same(folder, monkeypatch):
    whole = prepared(folder, "whole")
    monkeypatch.setattr("data_prep.tokenise.LINES", 7)
    assert digest(prepared(folder, "sevens")) == digest(whole)


def test_two_parts_that_end_at_the_same_moment_write_one_corpus(folder):
    whole = prepared(folder, "whole")
    prepared(folder, "parts", How(workers=1))
    for path in (folder / "parts/corpus").iterdir():
        path.unlink()
    with ThreadPoolExecutor(2) as both:
        done = [both.submit(prepared, folder, "parts", How(workers=1, part=(part, 2))) for part in (0, 1)]
        assert {future.result() for future in done} == {folder / "parts"}
    assert digest(folder / "parts") == digest(whole)


def test_without_the_compiled_ways_the_bytes_are_the_same(folder, monkeypatch):
    fast = prepared(folder, "fast")
    monkeypatch.setenv("SECTORLM_FAST", "off")
    assert digest(prepared(folder, "plain")) == digest(fast)


class Deadly:
    """Work whose process dies."""

    size, name = 1, "shard 7 (notes)"

    def is_done(self):
        return False

    def do(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Fine(Deadly):
    """Work that leaves a file."""

    def __init__(self, path):
        self.path, self.name = path, str(path)

    def is_done(self):
        return self.path.exists()

    def do(self):
        time.sleep(0.05)
        self.path.touch()


def test_a_shard_that_kills_its_process_twice_is_named_and_the_others_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "SMALL", 0)
    fine = [Fine(tmp_path / str(number)) for number in range(4)]
    with pytest.raises(StorageError, match="died twice") as caught:
        engine.work_through("testing", [*fine, Deadly()], How(workers=2))
    assert caught.value.where == "shard 7 (notes)"
    assert all(work.is_done() for work in fine)


class Wrong(Deadly):
    def do(self):
        raise DataError("no column body", where="notes.jsonl:3", hint="Did you mean text?")


def test_an_error_of_a_worker_arrives_with_its_place_and_its_hint(monkeypatch):
    monkeypatch.setattr(engine, "SMALL", 0)
    with pytest.raises(DataError) as caught:
        engine.work_through("testing", [Wrong(), Wrong()], How(workers=2))
    assert str(caught.value) == "notes.jsonl:3: no column body\n  Did you mean text?"


def test_parts_are_counted_from_zero_and_wrong_ones_are_refused():
    assert how_to_spread(0, "processes", "15/16").part == (15, 16)
    for wrong in ("16/16", "1", "a/b", "-1/2"):
        with pytest.raises(Exception, match="NUMBER/OF"):
            how_to_spread(0, "processes", wrong)


def test_a_shard_without_its_page_is_not_complete(tmp_path):
    with pytest.raises(DataError, match="not complete"):
        page_of(tmp_path)
    assert not shards.is_complete(tmp_path, "key")
