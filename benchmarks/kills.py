"""`kill -9` at random moments of a small `sectorlm train`, started again each time: does it always resume, to the same weights?

    python -m benchmarks.kills [--kills 50] [--seed 0]

The run has three phases (text, answers, preference), dropout, two micro-batches a step and a checkpoint every two steps.
Each process is killed after a time drawn from (seed, kill), between its first look at the run folder and about two
checkpoints later, so that the run gets on and every part of a step is hit. A resume has failed if a process ends otherwise
than by our kill, or if it stands at an earlier step than the newest checkpoint that was there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import sectorlm
from configs.store import digest_file

RECIPE = """
name: killed
sector: finance
base: assets/base
corpora:
  - {{name: notes, path: notes.jsonl, text: "{{{{ body }}}}", licence: CC0-1.0}}
  - {{name: asked, path: asked.jsonl, prompt: "{{{{ q }}}}", answer: "{{{{ a }}}}", licence: CC0-1.0}}
  - name: liked
    path: liked.jsonl
    prompt: "{{{{ q }}}}"
    chosen: "{{{{ good }}}}"
    rejected: "{{{{ bad }}}}"
    licence: CC0-1.0
prepare: {{sequence_length: 64, form: plain, validation: 0.1, decontaminate: "off", rules: {{}}}}
train:
  rank: 4
  dropout: 0.1
  phases: [{{objective: text}}, {{objective: answers}}, {{objective: preference, learning_rate: 1e-3}}]
  epochs: 100
  max_steps: {steps}
  batch_tokens: 128
  micro_batch_tokens: 64
  precision: float32
  checkpoint_every: 2
  validate_every: 5
evaluate: {{tasks: [finance_topics], general: []}}
"""
WORDS = (
    "the",
    "bank",
    "of",
    "a",
    "rate",
    "and",
    "loan",
    "in",
    "market",
    "year",
    "growth",
    "price",
    "law",
    "risk",
    "on",
)
TRAIN = ("train", "r.yaml")
STEPS = 12
"""Of each of the three phases."""
FAILURES = 5
"""After so many there is nothing more to learn."""
PATIENCE = 120.0
"""Seconds until a process that does not get on counts as failed."""


class Counted(NamedTuple):
    """What the kills came to."""

    moments: Counter[str]
    """How many kills came while the folder looked so."""
    failed: list[str]
    """For each resume that failed what was seen."""
    runs: int
    """Runs that came to their end."""
    equal: bool
    """Whether the final weights of all of them are those of the undisturbed run, byte for byte."""


def write_inputs(folder: Path, steps: int) -> None:
    """A recipe and its sources: 40 texts, 40 answers, 40 pairs."""
    draw = random.Random(0)
    said = [" ".join(draw.choices(WORDS, k=20)) for _ in range(80)]
    rows = {
        "notes.jsonl": [{"body": text} for text in said[:40]],
        "asked.jsonl": [{"q": f"What of {n}?", "a": text} for n, text in enumerate(said[40:])],
        "liked.jsonl": [{"q": f"Is {n} good?", "good": f"Yes, {n} is.", "bad": f"No, not {n}."} for n in range(40)],
    }
    for name, lines in rows.items():
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    (folder / "r.yaml").write_text(RECIPE.format(steps=steps), "utf-8")


class Door:
    """`sectorlm WORDS` in a process of its own: a fork of this one, which has everything imported, so that it starts at once."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        try:
            os.chdir(folder)
            errors = os.open("stderr.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(errors, 1)
            os.dup2(errors, 2)
            sys.argv = ["sectorlm", *words]
            sectorlm.main()
        except SystemExit as left:
            os._exit(int(left.code or 0))
        finally:
            os._exit(1)

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it lives."""
        if self.code is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if ended else None
        return self.code

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        while self.poll() is None:
            time.sleep(0.01)
        return int(self.code or 0)

    def kill(self) -> None:
        """`kill -9`."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()


def state_of(run: Path) -> tuple[int, int]:
    """Newest checkpoint, and step of the last line of metrics.jsonl; 0 where there is none."""
    found = [path.name[5:] for path in run.glob("checkpoints/step-*")]
    lines = (run / "metrics.jsonl").read_bytes().splitlines() if (run / "metrics.jsonl").exists() else []
    last = 0
    for line in lines:
        try:
            last = max(last, json.loads(line)["step"])
        except ValueError:  # it is being written
            continue
    return max(map(int, found), default=0), last


def look(run: Path) -> str:
    """What a process is at, by what lies in its folder."""
    if any(run.glob("checkpoints/.step-*.staging")):
        return "while a checkpoint was written"
    if (run / "adapter").exists() or any(run.glob(".adapter.*")):
        return "while the adapter was saved"
    return "between"


def resumed(folder: Path, run: Path, process: Door, before: int) -> str:
    """Wait until a process has taken up the run; what went wrong, or nothing."""
    begin, stamp = time.monotonic(), _stamp(run)
    while time.monotonic() - begin < PATIENCE:
        if process.poll() is not None:
            return "" if process.code == 0 else f"exit {process.code}: {_told(folder)}"
        if _stamp(run) != stamp:
            step = state_of(run)[1]
            return f"at step {step} after a checkpoint of step {before}" if step < before else ""
        time.sleep(0.005)
    return f"no step in {PATIENCE:.0f} s: {_told(folder)}"


def _stamp(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.stat().st_mtime_ns if path.exists() else 0


def _told(folder: Path) -> str:
    return (folder / "stderr.txt").read_text("utf-8", "replace").strip()[-300:]


def attack(folder: Path, kills: int, seed: int, pace: float) -> Counted:
    """Train, kill and start again until so many kills are done, then to the end; `pace` is seconds a step.

    A run that ends before is begun once more.
    """
    run = folder / "runs" / "killed" / "run"
    failed: list[str] = []
    moments: Counter[str] = Counter()
    found: list[str] = []
    while moments.total() < kills and len(failed) < FAILURES:
        number = moments.total()
        draw = random.Random(f"{seed}:kill:{number}:{len(found)}")
        before, process = state_of(run)[0], Door(folder, *TRAIN)
        early = draw.random() < 0.1  # one of ten before it has begun
        if not early and (wrong := resumed(folder, run, process, before)):
            failed.append(f"kill {number}: {wrong}")
        time.sleep(draw.uniform(0, 0.5 if early else 8 * pace))
        if process.poll() is None:
            moments["while it started" if early else look(run)] += 1
            process.kill()
        elif process.code == 0:
            found.append(weights_at(run))
            shutil.rmtree(run)
        else:
            failed.append(f"kill {number}: exit {process.code}: {_told(folder)}")
        failed += [f"kill {number}: {path.name}" for path in run.glob("checkpoints/damaged-*")]
    if Door(folder, *TRAIN).wait() != 0:
        failed.append(f"the end: {_told(folder)}")
    else:
        found.append(weights_at(run))
    equal = set(found) == {weights_at(folder / "whole" / "killed" / "run")}
    return Counted(moments, failed, len(found), equal)


def weights_at(run: Path) -> str:
    """sha256 of the adapter that a finished run left."""
    return digest_file(run / "adapter" / "adapter_model.safetensors")


def measured(folder: Path, kills: int, seed: int) -> Counted:
    """Prepare, train once undisturbed for the weights and the pace, then attack.

    Raises:
        SystemExit: the undisturbed run failed.
    """
    for name in ("training.train", "peft", "transformers.models.llama.modeling_llama"):
        import_module(name)  # once, for all the forks
    write_inputs(folder, steps=STEPS)
    for line in (["prepare", "r.yaml"], ["prepare", "r.yaml", "--runs", "whole"], [*TRAIN, "--runs", "whole"]):
        if Door(folder, *line).wait() != 0:
            raise SystemExit(f"sectorlm {' '.join(line)} failed: {_told(folder)}")
    record = json.loads((folder / "whole/killed/run/run.json").read_text())
    return attack(folder, kills, seed, record["seconds_training"] / record["steps"])


def main() -> None:
    """Print what the kills came to, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    begin, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="kills-"))
    found = measured(folder, asked.kills, asked.seed)
    print("| kills | resumes that failed | runs that ended | their weights equal the undisturbed run's | minutes |")
    print("|---|---|---|---|---|")
    equal, minutes = "yes" if found.equal else "NO", (time.monotonic() - begin) / 60
    print(f"| {found.moments.total()} | {len(found.failed)} | {found.runs} | {equal} | {minutes:.1f} |\n")
    print("Killed " + ", ".join(f"{what}: {count}" for what, count in found.moments.most_common()) + ".")
    print(f"Seed {asked.seed}, {platform.machine()}, Python {platform.python_version()}.")
    for line in found.failed:
        print(f"- {line}")
    shutil.rmtree(folder)
    sys.exit(1 if found.failed or not found.equal else 0)


if __name__ == "__main__":
    main()
