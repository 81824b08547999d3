"""The plan counts what can be counted by hand on the tiny base: Llama, 2 layers, width 32, 4 heads of 8, 2 key-value heads."""

from __future__ import annotations

import json

from configs.job import Job
from configs.recipe import Recipe
from configs.store import HOUSE, RunFolder
from training.plan import plan

EMBEDDING = 320 * 32
LAYER = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64 + 2 * 32  # q, k and v, o, gate/up/down, two norms
LORA = 4 * ((32 + 32) * 2 + (32 + 16) * 2 + (32 + 64) * 3)  # rank 4 on q and o, k and v, gate/up/down


def make_job(root, base, **train):
    (root / "a.txt").write_text("word " * 7000, "utf-8")  # 35,000 bytes: 10,000 tokens at 3.5 bytes each
    tree = {
        "name": "p",
        "sector": "finance",
        "base": str(base),
        "corpora": [{"name": "a", "path": "a.txt", "licence": "CC0-1.0", "text": "{{text}}"}],
        "prepare": {"sequence_length": 100},
        "train": {"rank": 4, "epochs": 2, "batch_tokens": 1000, "micro_batch_tokens": 500} | train,
        "evaluate": {"tasks": ["finance_topics"]},
    }
    return Job(Recipe.model_validate_json(json.dumps(tree)), (root, HOUSE), RunFolder(root / "runs" / "p"))


def test_parameters_and_steps_are_those_counted_by_hand(tmp_path, tiny_base):
    made = plan(make_job(tmp_path, tiny_base))
    assert made["training"]["total_parameters"] == EMBEDDING + 2 * LAYER + 32
    assert made["training"]["trainable_parameters"] == 2 * LORA
    assert made["data"] == {
        "tokens": 10_000,
        "documents": None,
        "estimated": True,
        "sources": {"a": {"documents": None, "tokens": 10_000, "repeats": None}},
    }
    assert made["training"]["steps"] == 20  # 100 rows x 2 epochs / 10 rows a step
    assert made["training"]["tokens"] == 20_000


def test_lora_with_more_text_than_twice_its_parameters_is_warned_about(tmp_path, tiny_base):
    # 2 x 2 x 1,824 = 7,296 is below 20,000 tokens; a rank of 64 has 16 times the parameters
    assert any("raise train.rank" in line for line in plan(make_job(tmp_path, tiny_base))["warnings"])
    assert not any("raise train.rank" in line for line in plan(make_job(tmp_path, tiny_base, rank=64))["warnings"])


def test_a_lora_learning_rate_of_full_tuning_is_warned_about(tmp_path, tiny_base):
    assert any("ten times" in line for line in plan(make_job(tmp_path, tiny_base, learning_rate=2e-5))["warnings"])


def test_a_disk_with_less_room_than_the_run_may_take_is_warned_about(tmp_path, tiny_base, monkeypatch):
    """3 checkpoints of 3 numbers for each of 2 x 1,824 parameters, twice the weights, and 3 bytes for a token."""
    disk = plan(make_job(tmp_path, tiny_base))["disk_gb"]
    assert disk["checkpoints"] == round(3 * 3 * 4 * 2 * LORA / 1e9, 3)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 0}))
    monkeypatch.setattr("training.plan._disk", lambda *_: {"total": 1.2})
    assert any("1.20 GB needed in" in line for line in plan(make_job(tmp_path, tiny_base))["warnings"])
