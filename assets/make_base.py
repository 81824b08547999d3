"""Make the embedded base model anew: tokenizer, then pretraining by SectorLM's own loop, then bfloat16 weights.

    python assets/make_base.py ../shared/data          # about an hour and a half on two cores
    python assets/make_base.py ../shared/data --only tokenizer

DATA is a folder that holds the sources named in assets/base/recipe.yaml.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

HOUSE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOUSE))

from configs.base import CHATML  # noqa: E402 - the house is not installed when this runs from a bare clone
from configs.exits import get_ready  # noqa: E402
from configs.job import Job, find_files, roots_of  # noqa: E402
from configs.load import load_recipe  # noqa: E402
from configs.progress import say  # noqa: E402
from configs.read import read_rows  # noqa: E402
from configs.store import RunFolder  # noqa: E402
from configs.template import template  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from configs.recipe import Recipe

BASE = HOUSE / "assets" / "base"
VOCABULARY = 6144
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""Words with their leading space, numbers in threes, punctuation, line ends: the split of GPT-4's tokenizer (cl100k)."""
SHAPE = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "tie_word_embeddings": True,
    "initializer_range": 0.02,
}
"""Llama, 2.8 million parameters, 5.6 MB in bfloat16."""
SAMPLE = 400_000
"""Characters of each source that the tokenizer learns from: English and Chinese get a like share."""


def texts(recipe: Recipe, roots: tuple[Path, ...]) -> Iterator[str]:
    """The beginning of every source, a document at a time, SAMPLE characters and a share for its size."""
    for source in recipe.corpora:
        paths = [source.path] if isinstance(source.path, str) else list(source.path)
        taken, most = 0, SAMPLE * (6 if source.name == "novels" else 4 if source.name == "laws" else 1)
        for path in paths:
            files = find_files(path, roots)
            for row in read_rows(files, path.partition("!")[2]):
                text = template(source.text or "")(row.fields)[:20_000]
                taken += len(text)
                yield text
                if taken > most:
                    break


def make_tokenizer(recipe: Recipe, roots: tuple[Path, ...]) -> None:
    """Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019) with ChatML turns, into assets/base."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts(recipe, roots), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=SPECIAL[0], pad_token=SPECIAL[0])
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(BASE)


def make_config() -> None:
    """config.json: a Llama of SHAPE."""
    from transformers import LlamaConfig

    config = LlamaConfig(vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=0, pad_token_id=0, **SHAPE)
    config.architectures = ["LlamaForCausalLM"]
    config.dtype = "bfloat16"
    config.save_pretrained(BASE)


def take_weights(folder: RunFolder) -> None:
    """Store the trained weights in bfloat16, the format that they were trained for."""
    import torch

    from configs.base import load_weights

    model = load_weights(folder.run / "model", dtype=torch.bfloat16)
    model.save_pretrained(BASE)
    make_config()
    run = json.loads((folder.run / "run.json").read_text("utf-8"))
    held_out = run["curve"][-1]["losses"]
    say(f"{run['tokens']:,} tokens, {run['seconds_training']:,.0f} s, loss {run['loss_last']:.3f}, held out {held_out}")


def main() -> None:
    """Make the tokenizer, train, and store the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the sources of assets/base/recipe.yaml")
    parser.add_argument("--only", choices=["tokenizer", "weights"], help="make one part")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the run folder goes")
    asked = parser.parse_args()
    get_ready()
    path = BASE / "recipe.yaml"
    recipe = load_recipe(path, [f"data=[{asked.data.resolve()}]"])
    roots = roots_of(recipe, path)
    if asked.only != "weights":
        make_tokenizer(recipe, roots)
        make_config()
    if asked.only != "tokenizer":
        from data_prep.prepare import prepare
        from training.train import train

        job = Job(recipe, roots, RunFolder(asked.runs / recipe.name))
        with job.folder.lock():
            prepare(job)
            train(job)
        take_weights(job.folder)


if __name__ == "__main__":
    main()
