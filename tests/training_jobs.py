"""Small trainings for tests: a corpus packed by hand, one that prepare made, and ways to stop a run and to start several."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import training.train as page
from configs.errors import SectorLMError, StoppedError
from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.recipe import Recipe
from configs.records import Corpus, Made, SourceLedger
from configs.store import HOUSE, RunFolder, digest_json, files_of
from data_prep.prepare import prepare
from tests.recipes import lines, prose
from training.batches import Rows
from training.meter import Meter
from training.train import train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# ---------------------------------------------------------------- a corpus packed by hand

LENGTHS = (5, 9, 12, 3, 30, 7, 16, 11, 21, 14, 6, 26)  # tokens of 12 documents; all fit rows of 32


def write_corpus(folder: Path) -> Corpus:
    """12 documents of random tokens, packed by hand into 8 training rows and 2 validation rows of 32."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, 300, sum(LENGTHS)).astype("uint16")
    supervised = np.ones(len(tokens), np.uint8)
    supervised[:20] = 0
    starts = np.concatenate([[0], np.cumsum(LENGTHS)])[:-1]
    placed = [(0, 0), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (3, 6), (4, 7), (5, 8), (6, 9), (8, 10), (9, 11)]
    placed.append((7, 2))  # document 2 a second time
    placed.sort()
    rows = [(row, int(starts[doc]), LENGTHS[doc], 0 if row != 9 else 1) for row, doc in placed]
    folder.mkdir(parents=True)
    tokens.tofile(folder / "tokens.bin")
    supervised.tofile(folder / "supervised.bin")
    np.save(folder / "segments.npy", np.array(rows, np.int64))
    made = Made(sectorlm="0", code="0", packages={}, python="3", machine="", finished="", seconds=0)
    record = Corpus(
        name="t",
        settings={},
        inputs={},
        files=files_of(folder),
        made=made,
        sector="finance",
        tokenizer="",
        vocabulary=320,
        token_dtype="uint16",
        sequence_length=32,
        sources=(
            SourceLedger(name="a", channel="sector", licence="CC0-1.0"),
            SourceLedger(name="b", channel="general", licence="CC0-1.0"),
        ),
        documents=12,
        tokens=len(tokens),
        rows_train=8,
        rows_validation=2,
        tokens_train=0,
        supervised_train=0,
        padding_train=0.0,
    )
    record.write(folder / "corpus.json")
    return record


def make_job(root: Path, base: Path, **train_settings) -> Job:
    settings = {
        "epochs": 3.0,
        "batch_tokens": 64,
        "micro_batch_tokens": 64,
        "learning_rate": 1e-2,
        "checkpoint_every": 3,
    }
    settings["precision"] = "float32"
    recipe = Recipe.model_validate_json(
        json.dumps(
            {
                "name": "t",
                "sector": "finance",
                "base": str(base),
                "corpora": [{"name": "a", "path": "a.txt", "licence": "CC0-1.0", "text": "{{text}}"}],
                "train": settings | {"validate_every": 4} | train_settings,
                "evaluate": {"tasks": ["finance_topics"]},
            }
        )
    )
    job = Job(recipe, (root, HOUSE), RunFolder(root / "runs" / "t"))
    if not job.folder.corpus.exists():
        write_corpus(job.folder.corpus)
    return job


def weights_of(job: Job) -> dict[str, torch.Tensor]:
    """The finished adapter."""
    return load_file(job.folder.run / "adapter" / "adapter_model.safetensors")


def metrics_of(job: Job) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (job.folder.run / "metrics.jsonl").read_text("utf-8").splitlines()]


def losses_of(job: Job) -> list[float]:
    """The loss of each step."""
    return [line["loss"] for line in metrics_of(job) if "loss" in line]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two adapters are the same bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def farthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference between two adapters' weights."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def with_weights(base: Path, folder: Path, change) -> Path:
    """A copy of a base whose embedding and head are apart, after `change` to its weights by name."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    config = model.config
    config.tie_word_embeddings = False
    apart = type(model)(config)
    apart.load_state_dict(model.state_dict())
    with torch.no_grad():
        change(apart)
    apart.save_pretrained(folder)
    for file in base.glob("tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def rows_with(job: Job, token: int) -> list[int]:
    """Training rows of the corpus that hold a token."""
    rows = Rows(job.folder.corpus, Corpus.read(job.folder.corpus / "corpus.json"))
    return [row for row in range(rows.train) if token in rows.batch([row]).tokens_T]


def poisoned(base: Path, folder: Path, *tokens: int) -> Path:
    """A base that gives NaN wherever one of these tokens is read."""
    ids = torch.tensor(tokens)
    return with_weights(base, folder, lambda it: it.get_input_embeddings().weight.index_fill_(0, ids, float("nan")))


# ---------------------------------------------------------------- a corpus that prepare made

RECIPE = """
name: t
sector: finance
base: {base}
data: [{data}]
corpora:
  - {{name: notes, path: notes.jsonl, text: "{{{{ body }}}}", licence: CC0-1.0}}
  - {{name: asked, path: asked.jsonl, prompt: "{{{{ q }}}}", answer: "{{{{ a }}}}", licence: CC0-1.0}}
  - name: liked
    path: liked.jsonl
    prompt: "{{{{ q }}}}"
    chosen: "{{{{ good }}}}"
    rejected: "{{{{ bad }}}}"
    licence: CC0-1.0
  - {{name: replay, path: replay.jsonl, text: "{{{{ body }}}}", licence: CC0-1.0, channel: general}}
prepare: {{sequence_length: 192, form: plain, validation: 0.2, decontaminate: "off", rules: {{}}}}
train:
  {{rank: 4, alpha: 8, learning_rate: 1e-2, epochs: 1, batch_tokens: 768, precision: float32, checkpoint_every: 4}}
evaluate: {{tasks: [finance_topics], general: []}}
"""


def made(folder: Path, base: Path) -> Job:
    """24 notes, 24 questions, 24 pairs and 12 texts of replay, prepared."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "notes.jsonl").write_text(lines([{"body": prose(n, 2)} for n in range(24)]))
    (folder / "replay.jsonl").write_text(lines([{"body": prose(n, 2)} for n in range(100, 112)]))
    asked = [{"q": f"What is said in note {n} of the bank?", "a": prose(n + 200, 1)} for n in range(24)]
    (folder / "asked.jsonl").write_text(lines(asked))
    pairs = [
        {"q": f"Is rate {n} of the bank a good rate?", "good": f"Yes, rate {n} is good.", "bad": f"No, {n} is not."}
        for n in range(24)
    ]
    (folder / "liked.jsonl").write_text(lines(pairs))
    (folder / "r.yaml").write_text(RECIPE.format(base=base, data=base.parent))
    job = opened(folder)
    prepare(job)
    return job


def opened(folder: Path, *sets: str, runs: str = "runs") -> Job:
    recipe = load_recipe(folder / "r.yaml", sets)
    return Job(recipe, roots_of(recipe, folder / "r.yaml"), RunFolder(folder / runs / "t"))


PHASES = "train.phases=[{objective: text}, {objective: answers}, {objective: preference, learning_rate: 1e-3}]"


# ---------------------------------------------------------------- stopping, and several processes


def when(step: int, act: Callable[[], None], work: Callable[[], Any]) -> Any:
    """Do `work`, a training, and `act` as soon as the line of `step` is in metrics.jsonl."""

    class Watched(Meter):
        def write(self, **figures):
            super().write(**figures)
            if figures.get("step") == step and "loss" in figures:
                act()

    original, page.Meter = page.Meter, Watched
    try:
        return work()
    finally:
        page.Meter = original


def stop_at(job: Job, step: int) -> None:
    """Train in this process and send it SIGTERM when metrics.jsonl reaches `step`."""
    with pytest.raises(StoppedError) as stopped:
        when(step, lambda: os.kill(os.getpid(), signal.SIGTERM), lambda: train(job))
    assert stopped.value.code == 143


def checkpoint_of(job: Job, step: int) -> Path:
    return job.folder.run / "checkpoints" / f"step-{step:06d}"


def steps_kept(job: Job) -> list[str]:
    """The names of what lies among the checkpoints."""
    return sorted(path.name for path in (job.folder.run / "checkpoints").iterdir())


def rewrite_state(checkpoint: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a checkpoint's state.json as an earlier run would have written it: with its own sha256."""
    content = json.loads((checkpoint / "state.json").read_text())
    del content["sha256"]
    change(content)
    (checkpoint / "state.json").write_text(json.dumps(content | {"sha256": digest_json(content)}))


def started(work: Callable[[], Any], **environment: str) -> int:
    """Do `work` in a process of its own, a fork that has everything imported; returns its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        from accelerate import PartialState

        os.environ.update(environment)
        PartialState._reset_state()
        work()
        code = 0
    except SectorLMError as error:
        print(error, file=sys.stderr)
        code = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int) -> int:
    """Wait for a process; its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def crashed_at(point: str, work: Callable[[], Any]) -> None:
    """Do `work` in a process that stops hard at a named point."""
    assert ended(started(work, SECTORLM_CRASH_AT=point)) == 137


def together(count: int, work: Callable[[], Any], *more: Callable[[], Any]) -> list[int]:
    """Do `work` in processes that find one another, as torchrun starts them; their exit codes.

    `more[n]` is what process n + 1 does instead.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
    }
    tasks = [work, *more, *[work] * (count - 1 - len(more))]
    pids = [started(it, RANK=str(n), LOCAL_RANK=str(n), **told) for n, it in enumerate(tasks)]
    return [ended(pid) for pid in pids]
