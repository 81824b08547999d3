"""Small real things for the tests: a random Llama of 30,000 parameters with its tokenizer, saved and loaded from disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent
SHARED = HOUSE.parent / "shared" / "data"

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # matrices this small do not gain from a second thread

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the real sector data (../shared/data) is not here")

SENTENCES = [
    "The bank raised its interest rate in March.",
    "A patient with a fever came to the clinic.",
    "中国人民银行决定下调贷款利率。",
    "医生建议患者多喝水，注意休息。",
]


@pytest.fixture(autouse=True)
def told() -> None:
    """Progress is told in every test, also after one that asked for quiet."""
    from configs import progress

    progress._quiet = False


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real sector data, or a skip."""
    if not SHARED.is_dir():
        pytest.skip("the real sector data (../shared/data) is not here")
    return SHARED


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Hugging Face format: Llama, 2 layers, width 32, vocabulary 320, random weights, seed 0."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-base")
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


STORY = """
name: story
sector: finance
base: {base}
corpora:
  - name: topics
    path: assets/samples/finance/topics_train.jsonl
    prompt: "{{{{ text }}}}\\nTopic:"
    answer: "{{{{ topic }}}}"
    licence: CC0-1.0
    language: [en, zh]
    max_documents: 60
  - {{name: replay, path: assets/samples/general/text_replay.jsonl, text: "{{{{ text }}}}", licence: CC0-1.0, channel: general}}
prepare: {{sequence_length: 256, form: plain, validation: 0.1}}
train: {{rank: 4, learning_rate: 1e-2, epochs: 1, batch_tokens: 1024, validate_every: 5}}
evaluate: {{tasks: [finance_topics], general: [general_text], limit: 24, resamples: 1000}}
publish: {{merged: true, licence: apache-2.0}}
"""


@pytest.fixture(scope="session")
def finished(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `story.yaml` and `runs/story`, all five stages done on the tiny base through the front door."""
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("finished")
    (folder / "story.yaml").write_text(STORY.format(base=tiny_base), "utf-8")
    done = subprocess.run(
        [sys.executable, str(HOUSE / "sectorlm.py"), "run", "story.yaml"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(HOUSE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout, "utf-8")
    (folder / "stderr.txt").write_text(done.stderr, "utf-8")
    return folder
