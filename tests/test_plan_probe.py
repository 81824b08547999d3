"""The probe takes the worst batch of a real corpus, and what was foreseen from the config is what it measures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.recipes import corpus, notes, recipe, sectorlm, source
from training.batches import Rows
from training.legs import Worst

STEPS = ["--set", "train.max_steps=6", "--set", "train.batch_tokens=256", "--set", "train.micro_batch_tokens=128"]


@pytest.fixture
def prepared(tmp_path, tiny_base, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notes.jsonl").write_text(notes(0, 60, sentences=3), "utf-8")
    recipe(tiny_base, source("notes.jsonl"))
    assert sectorlm("prepare", "r.yaml").code == 0
    return corpus()


def test_the_worst_batch_has_the_most_tokens_that_fit(prepared):
    """Rows of 64 tokens and micro-batches of 128: two of the fullest rows."""
    rows = Rows(Path("runs/small/corpus"), prepared)
    worst = Worst.of(rows, 128)
    longest = np.sort(rows.length[: rows.train])[::-1]
    assert len(worst.rows) == 2 and worst.tokens == longest[:2].sum() <= 128
    assert worst.longest == max(
        int(rows.segments[rows.first[row] : rows.first[row + 1], 2].max()) for row in worst.rows
    )


def test_the_probe_finds_the_memory_that_was_foreseen(prepared):
    told = sectorlm("--json", "plan", "r.yaml", "--probe", *STEPS)
    assert told.code == 0, told.err
    made = json.loads(told.out)
    compared = made["probe"]["compared"]
    assert 0.85 < compared["tensors, GB"]["ratio"] < 1.15
    assert compared["hours of training"]["measured"] > 0
    assert made["fits"]["answer"] == "fits"
    assert made["data"]["sources"]["notes"]["epochs"] == pytest.approx(made["training"]["epochs"], abs=0.01)


def test_a_probe_without_a_corpus_says_what_to_do(tmp_path, tiny_base, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notes.jsonl").write_text(notes(0, 60), "utf-8")
    recipe(tiny_base, source("notes.jsonl"))
    told = sectorlm("plan", "r.yaml", "--probe")
    assert told.code == 3 and "sectorlm prepare" in told.err


def test_many_passes_over_one_source_are_warned_about(prepared):
    told = sectorlm("plan", "r.yaml", "--set", "train.epochs=5", *STEPS[2:])
    assert "notes: 5.0 passes over the same text" in told.out
