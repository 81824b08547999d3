"""Tokenise and pack: SectorLM beside TRL, LLaMA-Factory and the bare tokenizer, on one corpus, the same cores.

    python benchmarks/corpus.py SHARED_DATA corpus.jsonl 64
    python -m benchmarks.tokens corpus.jsonl SHARED_DATA/general/gpt2-tokenizer --trl PYTHON --llamafactory PYTHON

A peer runs in the Python of an environment of its own (`pip install trl`, `pip install llamafactory`). Each way is a
process of its own and does the same: read JSON Lines, tokenise, pack into rows of 2,048 tokens, leave files on disk.
CPU seconds are those of the process and its children from the first line read to the last byte written; imports are not
counted (but in our worker processes), nor is a peer's tokenizer made within that time. Without --trl or --llamafactory
that peer is left out. LLaMA-Factory 0.9.5 imports torchaudio: an empty module serves where there is no wheel. In chat
form 200 characters of a text are a question, the next 600 its answer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROW = 2048
MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUESTION, ANSWER = 200, 600


class Job(NamedTuple):
    """What one way is to do."""

    corpus: Path
    tokenizer: Path
    form: str
    processes: int
    work: Path


class Way(NamedTuple):
    """What is measured, and what is counted afterwards: tokens in rows, and a remark."""

    go: Callable[[], Any]
    count: Callable[[Any], tuple[int, str]]


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """Questions and answers of a text."""
    for start in range(0, len(text), QUESTION + ANSWER):
        asked, said = text[start : start + QUESTION].strip(), text[start + QUESTION : start + QUESTION + ANSWER].strip()
        if asked and said:
            yield asked, said


# ------------------------------------------------------------------------------------------------ ours


def documents(job: Job, share: int) -> Iterator[Any]:
    """Every `processes`-th line of the corpus."""
    from configs.chat import Message
    from data_prep.documents import Document

    with job.corpus.open("rb") as lines:
        for number, line in enumerate(lines):
            if number % job.processes != share:
                continue
            text = json.loads(line)["text"]
            if job.form == "plain":
                yield Document(str(number), "s", "w", text)
                continue
            for place, (asked, said) in enumerate(pairs(text)):
                turns = (Message("user", asked), Message("assistant", said))
                yield Document(f"{number}.{place}", "s", "w", messages=turns)


def our_share(job: Job, share: int) -> tuple[Any, str]:
    """One process's part, as the stage does a shard: gate, tokens and mask to flat files, pieces that fit a row."""
    import numpy as np

    from data_prep.gigatokens import sampled
    from data_prep.pack import cut
    from data_prep.tokens import Encoder, fit

    encoder = Encoder(job.tokenizer, "benchmark", job.form)
    slow = "switched off"
    if os.environ.get("SECTORLM_FAST") != "off":
        ids = [document.id for document in documents(job, share)]
        wanted = {ids[place] for place in sampled(ids)}
        slow = encoder.hasten(document for document in documents(job, share) if document.id in wanted)
    pieces = [np.empty(0, np.int64)]
    with (job.work / f"{share}.tokens").open("wb") as tokens, (job.work / f"{share}.mask").open("wb") as mask:
        for encoded in encoder.encode(documents(job, share)):
            found = fit(encoded, ROW, "split")
            if not found.reason:
                tokens.write(found.tokens_T.tobytes())
                mask.write(found.supervised_T.tobytes())
                pieces.append(cut(len(found.tokens_T), ROW)[1])
    return np.concatenate(pieces), slow


def ours(job: Job) -> Way:
    """SectorLM's encoder, one process or a pool."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from configs.base import one_of_many

    one_of_many()
    import numpy as np
    from transformers import AutoTokenizer  # noqa: F401 - counted for no way

    from data_prep.pack import pack

    def go() -> str:
        if job.processes == 1:
            parts = [our_share(job, 0)]
        else:
            with ProcessPoolExecutor(job.processes, get_context("spawn"), one_of_many) as pool:
                parts = list(pool.map(our_share, [job] * job.processes, range(job.processes)))
        np.save(job.work / "rows.npy", pack(np.concatenate([lengths for lengths, _ in parts]), ROW))
        return parts[0][1]

    def count(slow: str) -> tuple[int, str]:
        return sum(mask.stat().st_size for mask in job.work.glob("*.mask")), slow or "gigatoken"

    return Way(go, count)


def bare(job: Job) -> Way:
    """`encode_batch_fast` alone: texts are in memory, the ids are not even looked at. One process."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(job.tokenizer / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    texts = [json.loads(line)["text"] for line in job.corpus.open("rb")]
    if job.form == "chat":
        texts = [said for text in texts for pair in pairs(text) for said in pair]

    def go() -> int:
        count = 0
        for start in range(0, len(texts), 64):
            count += sum(map(len, tokenizer.encode_batch_fast(texts[start : start + 64], add_special_tokens=False)))
        return count

    return Way(go, lambda count: (count, "contents alone"))


# ------------------------------------------------------------------------------------------------ peers


def written(job: Job, make: Callable[[str, str], dict[str, Any]]) -> str:
    """The corpus in a peer's own form, written before the clock starts."""
    if job.form == "plain":
        return str(job.corpus)
    path = job.work / "chat.jsonl"
    with job.corpus.open("rb") as lines, path.open("w", encoding="utf-8") as file:
        for line in lines:
            file.writelines(json.dumps(make(*pair)) + "\n" for pair in pairs(json.loads(line)["text"]))
    return str(path)


def tokens_of(data: Any, column: str) -> int:
    """Tokens in all rows that are not padding; `attention_mask` is 0 there."""
    import pyarrow.compute as pc

    return sum(pc.sum(pc.not_equal(chunk.flatten(), 0)).as_py() or 0 for chunk in data.data.column(column).chunks)


def trl(job: Job) -> Way:
    """TRL's SFTTrainer with packing, as far as its constructor prepares the data; the model is one tiny layer."""
    from datasets import load_dataset
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(job.tokenizer)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    small = LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **sizes)
    model = LlamaForCausalLM(small)
    path = written(
        job,
        lambda asked, said: {
            "prompt": [{"role": "user", "content": asked}],
            "completion": [{"role": "assistant", "content": said}],
        },
    )
    workers = job.processes if job.processes > 1 else None
    settings = SFTConfig(
        str(job.work), max_length=ROW, packing=True, dataset_num_proc=workers, report_to=[], use_cpu=True, bf16=False
    )

    def go() -> Any:
        data = load_dataset("json", data_files=path, split="train")
        return SFTTrainer(model, settings, train_dataset=data, processing_class=tokenizer).train_dataset

    def count(data: Any) -> tuple[int, str]:
        return sum(len(chunk.flatten()) for chunk in data.data.column("input_ids").chunks), "packing='bfd' (default)"

    return Way(go, count)


def llamafactory(job: Job) -> Way:
    """LLaMA-Factory's get_dataset with packing, as its trainers call it."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments, ModelArguments
    from transformers import AutoTokenizer, Seq2SeqTrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(job.tokenizer)
    path = written(job, lambda asked, said: {"instruction": asked, "input": "", "output": said})
    plain = job.form == "plain"
    entry = {"file_name": path, **({"columns": {"prompt": "text"}} if plain else {})}
    (job.work / "dataset_info.json").write_text(json.dumps({"corpus": entry}))
    data = DataArguments(
        template="empty" if plain else "chatml",
        dataset="corpus",
        dataset_dir=str(job.work),
        cutoff_len=ROW,
        packing=True,
        neat_packing=not plain,  # documents that do not see each other, as ours
        preprocessing_num_workers=job.processes if job.processes > 1 else None,
        overwrite_cache=True,
    )
    model = ModelArguments(model_name_or_path=str(job.tokenizer), cache_dir=str(job.work))
    training = Seq2SeqTrainingArguments(str(job.work), report_to=[], use_cpu=True)
    template = get_template_and_fix_tokenizer(tokenizer, data)

    def go() -> Any:
        stage = "pt" if plain else "sft"
        return get_dataset(template, model, data, training, stage=stage, tokenizer=tokenizer)["train_dataset"]

    return Way(go, lambda found: (tokens_of(found, "attention_mask"), "packing" if plain else "neat_packing"))


WAYS = {
    "ours": ours,
    "ours, SECTORLM_FAST=off": ours,
    "encode_batch_fast": bare,
    "TRL": trl,
    "LLaMA-Factory": llamafactory,
}
LIBRARIES = {"TRL": ("trl", "datasets"), "LLaMA-Factory": ("llamafactory", "datasets")}


# ------------------------------------------------------------------------------------------------ measuring


def cpu_seconds() -> float:
    """Of this process and the children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def measure(name: str, job: Job) -> dict[str, Any]:
    """One way in this process: CPU and wall seconds, tokens in rows, megabytes on disk."""
    from importlib.metadata import version

    with contextlib.redirect_stdout(sys.stderr):
        way = WAYS[name](job)
        cpu, wall = cpu_seconds(), time.monotonic()
        found = way.go()
        cpu, wall = cpu_seconds() - cpu, time.monotonic() - wall
        tokens, note = way.count(found)
    chat = job.work / "chat.jsonl"
    files = [
        path for path in job.work.rglob("*") if path.is_file() and path not in (chat, job.work / "dataset_info.json")
    ]
    libraries = LIBRARIES.get(name, ("gigatoken",) if note == "gigatoken" else ())
    versions = " ".join(f"{one} {version(one)}" for one in (*libraries, "transformers", "tokenizers"))
    disk = sum(path.stat().st_size for path in files) / 1e6
    return {"cpu": cpu, "wall": wall, "tokens": tokens, "disk": disk, "note": f"{note}; {versions}"}


def started(python: str, name: str, job: Job) -> dict[str, Any]:
    """The same in a process of its own, with caches of its own."""
    with tempfile.TemporaryDirectory(dir=job.work) as folder:
        own = job._replace(work=Path(folder))
        environment = {
            **os.environ,
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": "1",
            "HF_DATASETS_CACHE": str(own.work / "cache"),
            "HF_HUB_OFFLINE": "1",
            "DISABLE_VERSION_CHECK": "1",  # LLaMA-Factory's
            "SECTORLM_FAST": "off" if "off" in name else "auto",
        }
        words = [python, __file__, "--way", name, *map(str, own)]
        ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{name}: {ended.stderr[-2000:]}")
    return dict(json.loads(ended.stdout))


def with_marks(folder: Path, work: Path) -> Path:
    """A tokenizer of GPT-2's vocabulary and merges with ChatML's marks; a folder in Hugging Face format as it is."""
    if not (folder / "gpt2-vocab.json").is_file():
        return folder
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE.from_file(str(folder / "gpt2-vocab.json"), str(folder / "gpt2-merges.txt")))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in MARKS])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=MARKS[0], pad_token=MARKS[0])
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(work / "gpt2")
    (work / "gpt2" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return work / "gpt2"


def main() -> None:
    """Measure each way for each form and number of processes, and print a table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("corpus", type=Path)
    asked.add_argument("tokenizer", type=Path)
    asked.add_argument("--trl", help="a Python that has TRL")
    asked.add_argument("--llamafactory", help="a Python that has LLaMA-Factory")
    asked.add_argument("--forms", nargs="+", default=["plain", "chat"])
    asked.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    given = asked.parse_args()
    pythons = {"TRL": given.trl, "LLaMA-Factory": given.llamafactory}
    size = sum(len(json.loads(line)["text"].encode()) for line in given.corpus.open("rb")) / 1e6
    print(f"{size:.1f} MB of text, rows of {ROW} tokens\n")
    print(
        "| form | processes | way | CPU s | MB per CPU s | wall s | tokens in rows | not in rows | MB on disk | with |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        tokenizer = with_marks(given.tokenizer, Path(work)).resolve()
        for form in given.forms:
            for processes in given.processes:
                job = Job(given.corpus.resolve(), tokenizer, form, processes, Path(work))
                whole = 0
                for name in WAYS:
                    python = pythons.get(name, sys.executable)
                    if python is None or (name == "encode_batch_fast" and processes > 1):
                        continue
                    found = started(python, name, job)
                    whole = whole or found["tokens"]
                    # in plain form every way has the same tokens; chat templates differ in their line ends
                    lost = (
                        f"{100 * (1 - found['tokens'] / whole):.1f} %" if form == "plain" and name in LIBRARIES else ""
                    )
                    print(
                        f"| {form} | {processes} | {name} | {found['cpu']:.1f} | {size / found['cpu']:.2f} "
                        f"| {found['wall']:.1f} | {found['tokens']:,} | {lost} | {found['disk']:.0f} | {found['note']} |",
                        flush=True,
                    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--way"]:
        sys.path[0] = str(Path(__file__).resolve().parent.parent)
        way_name, corpus_path, tokenizer_path, form_name, processes_text, work_path = sys.argv[2:]
        asked_job = Job(Path(corpus_path), Path(tokenizer_path), form_name, int(processes_text), Path(work_path))
        print(json.dumps(measure(way_name, asked_job)))
    else:
        main()
