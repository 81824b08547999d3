"""`kill -9` at random moments of a small `sectorlm train`, started again each time: does it always resume, to the same weights?

    python -m benchmarks.kills [--kills 50] [--seed 0] [--processes 1]

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
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from configs.store import HOUSE, digest_file

if TYPE_CHECKING:
    from collections.abc import Sequence

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
PATIENCE = 120.0
"""Seconds until a process that does not get on counts as failed."""


class Counted(NamedTuple):
    """What the kills came to."""

    kills: int
    failed: list[str]
    """For each resume that failed what was seen."""
    processes: int
    """Processes that worked on the run, as run.json counts: those that were killed before they resumed do not."""
    equal: bool
    """Whether the final weights are those of the unbroken run, byte for byte."""
    moments: dict[str, int]
    """How many kills came while the folder looked so."""


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


def door(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """A `sectorlm` of its own session, so that a kill takes its processes too."""
    environment = os.environ | {"PYTHONPATH": str(HOUSE), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (folder / "stderr.txt").open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, str(HOUSE / "sectorlm.py"), *words],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )


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


def resumed(folder: Path, run: Path, process: subprocess.Popen[bytes], before: int) -> str:
    """Wait until a process has taken up the run; what went wrong, or nothing."""
    begin, stamp = time.monotonic(), _stamp(run)
    while time.monotonic() - begin < PATIENCE:
        if process.poll() is not None:
            return "" if process.returncode == 0 else f"exit {process.returncode}: {_told(folder)}"
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


def kill(process: subprocess.Popen[bytes]) -> None:
    """`kill -9` a process with all that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def attack(folder: Path, kills: int, seed: int, words: Sequence[str], pace: float) -> Counted:
    """Train, kill and start again until so many kills are done, then to the end; `pace` is seconds a step."""
    run, failed, moments = folder / "runs" / "killed" / "run", [], {"while it started": 0}
    for number in range(kills):
        draw = random.Random(f"{seed}:kill:{number}")
        before, process = state_of(run)[0], door(folder, *words)
        if draw.random() < 0.1:  # one of ten before it has begun
            time.sleep(draw.uniform(0, 3))
            moments["while it started"] += 1
        else:
            if wrong := resumed(folder, run, process, before):
                failed.append(f"kill {number}: {wrong}")
            time.sleep(draw.uniform(0, 8 * pace))
            moments[look(run)] = moments.get(look(run), 0) + 1
        if process.poll() is not None and process.returncode != 0:
            failed.append(f"kill {number}: exit {process.returncode}: {_told(folder)}")
        if process.poll() is not None:
            break
        kill(process)
        if any(path.name.startswith("damaged") for path in run.glob("checkpoints/*")):
            failed.append(f"kill {number}: a checkpoint was damaged")
    done = number + 1 if process.returncode < 0 else number
    if door(folder, *words).wait() != 0:
        failed.append(f"the end: {_told(folder)}")
        return Counted(done, failed, 0, False, moments)
    weights = [
        digest_file(folder / runs / "killed/run/adapter/adapter_model.safetensors") for runs in ("runs", "whole")
    ]
    segments = json.loads((run / "run.json").read_text())["segments"]
    return Counted(done, failed, segments, weights[0] == weights[1], moments)


def measured(folder: Path, kills: int, seed: int, processes: int) -> Counted:
    """Prepare, train once undisturbed for the weights and the pace, then attack.

    Raises:
        SystemExit: the undisturbed run failed.
    """
    write_inputs(folder, steps=max(4, kills))
    words = ["train", "r.yaml"] + (["--processes", str(processes)] if processes > 1 else [])
    for line in (["prepare", "r.yaml"], ["prepare", "r.yaml", "--runs", "whole"], [*words, "--runs", "whole"]):
        if door(folder, *line).wait() != 0:
            raise SystemExit(f"sectorlm {' '.join(line)} failed: {_told(folder)}")
    record = json.loads((folder / "whole/killed/run/run.json").read_text())
    return attack(folder, kills, seed, words, record["seconds_training"] / record["steps"])


def main() -> None:
    """Print what the kills came to, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    begin, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="kills-"))
    found = measured(folder, asked.kills, asked.seed, asked.processes)
    print("| kills | processes | resumes that failed | final weights equal the unbroken run's | segments | minutes |")
    print("|---|---|---|---|---|---|")
    equal, minutes = "yes" if found.equal else "NO", (time.monotonic() - begin) / 60
    print(
        f"| {found.kills} | {asked.processes} | {len(found.failed)} | {equal} | {found.processes} | {minutes:.1f} |\n"
    )
    print("Killed " + ", ".join(f"{what}: {count}" for what, count in found.moments.items()))
    print(f"seed {asked.seed}, {platform.machine()}, Python {platform.python_version()}")
    for line in found.failed:
        print(f"- {line}")
    shutil.rmtree(folder)
    sys.exit(1 if found.failed or not found.equal else 0)


if __name__ == "__main__":
    main()
