"""What is verified of a release before it gets its name: a fresh process uses it as a stranger would."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jinja2 import TemplateError

from configs.base import base_folder, load_tokenizer
from configs.chat import ChatTokenizer, Message
from configs.errors import DataError, GateError
from configs.store import hashed
from configs.vocabulary import base_of, vocabulary_of
from training.batches import Rows

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from configs.job import Job
    from configs.records import Corpus, Run

PROMPTS = 8
"""Questions of the corpus that the release answers."""
MOST_PROMPT, LEAST_ANSWER, MOST_ANSWER = 512, 32, 256
"""Tokens of a question that are given, its last ones; and the limits of an answer's length."""
TALK = (Message("user", "Hello, 你好"), Message("assistant", "Good morning. 早上好。"))

FRESH = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
ask = json.load(sys.stdin)
release = ask["release"]
tokenizer = AutoTokenizer.from_pretrained(release, local_files_only=True)
config = GenerationConfig.from_pretrained(release, local_files_only=True)
text = tokenizer.apply_chat_template(ask["talk"], tokenize=False)
talk = tokenizer(text, add_special_tokens=False).input_ids
model = AutoModelForCausalLM.from_pretrained(ask["base"] or release, dtype=torch.float32, local_files_only=True)
if ask["grown"]:
    model.resize_token_embeddings(ask["grown"], mean_resizing=False)
if ask["base"]:
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, release)
asked = tokenizer.apply_chat_template(ask["talk"][:1], tokenize=False, add_generation_prompt=True)
prompts = ask["prompts"] or [tokenizer(asked, add_special_tokens=False).input_ids]
longest = max(map(len, prompts))
ids = torch.tensor([[config.pad_token_id] * (longest - len(own)) + own for own in prompts])
mask = torch.tensor([[0] * (longest - len(own)) + [1] * len(own) for own in prompts])
config.max_new_tokens = ask["limit"]
out = model.eval().generate(ids, attention_mask=mask, generation_config=config)[:, longest:]
ends = sum(bool(set(row) & set(config.eos_token_id)) for row in out.tolist())
if ask["merged"]:
    alone = AutoModelForCausalLM.from_pretrained(release + "/merged", dtype=torch.float32, local_files_only=True)
    alone.generate(ids[:1], attention_mask=mask[:1], max_new_tokens=4)
print(json.dumps({"talk": talk, "ends": ends}))
"""
"""What a user does, in a process that knows nothing of SectorLM."""


class Questions(NamedTuple):
    """Questions of the corpus with the tokens that they have in training."""

    prompts: list[list[int]]
    limit: int
    """Tokens that an answer may have: twice the longest of theirs."""
    end: int | None
    """The token that most of their answers end in."""


def questions(job: Job, corpus: Corpus) -> Questions:
    """Some held-out questions of the corpus, or learnt ones where none was held out; none where it is plain text."""
    import pyarrow.parquet as pq

    rows = Rows(job.folder.corpus, corpus)
    table = pq.read_table(
        job.folder.corpus / "documents.parquet", columns=["id", "split", "start", "tokens"]
    ).to_pylist()
    table.sort(key=lambda it: (it["split"] == "train", hashed(job.recipe.seed, "question", it["id"])))
    prompts, longest, ends = list[list[int]](), 1, Counter[int]()
    for it in table:
        ids = rows.tokens[it["start"] : it["start"] + it["tokens"]].tolist()
        learnt = rows.supervised[it["start"] : it["start"] + it["tokens"]]
        if len(prompts) == PROMPTS:
            break
        if learnt.all() or not learnt.any() or learnt[:2].any():  # plain text, but for its first token
            continue
        first = int(learnt.argmax())
        stop = first + int(np.argmin(np.append(learnt[first:], 0)))
        prompts.append(ids[:first][-MOST_PROMPT:])
        longest = max(longest, stop - first)
        ends[ids[stop - 1]] += 1
    limit = min(max(2 * longest, LEAST_ANSWER), MOST_ANSWER)
    return Questions(prompts, limit if prompts else 4, ends.most_common(1)[0][0] if ends else None)


def try_release(staging: Path, job: Job, corpus: Corpus, run: Run) -> dict[str, str]:
    """Load the release in a fresh process with plain transformers and peft, let it answer, and compare its tokens.

    Raises:
        GateError: it does not load there, its tokenizer is not the one of the training, or generation would not stop
            where an answer ends.
    """
    asked = questions(job, corpus)
    checks = {"chat template": _same_tokens(staging, job)}
    stops = json.loads((staging / "generation_config.json").read_text("utf-8"))["eos_token_id"]
    if asked.end is not None and asked.end not in stops:
        mark = load_tokenizer(staging).convert_ids_to_tokens([asked.end])[0]
        raise GateError(
            f"the stop tokens are not right: answers were trained to end in {mark!r}, and generation does not stop there",
            where=str(job.folder.release),
            hint="Use a base whose chat template ends an answer with a control token.",
        )
    found = _fresh(staging, job, run, asked)
    if asked.prompts:
        checks["stop token"] = (
            f"{found['ends']} of {len(asked.prompts)} answers to questions of the corpus ended by themselves within "
            f"{asked.limit} tokens"
        )
    else:
        checks["stop token"] = "not tried: the corpus holds no questions"
    expected = conversation_ids(load_tokenizer(staging))
    if expected and found["talk"] != expected:
        checks["chat template"] += (
            "; but `apply_chat_template` tokenises turns and template together, and gives other tokens where they meet"
        )
    return checks | {"fresh process": found["loaded"]}


def conversation_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """A conversation's tokens as training has them; none where the template cannot be trained with."""
    chat = ChatTokenizer(tokenizer, "release")
    try:
        pieces = chat.pieces(tuple(message.role for message in TALK))
    except (DataError, TemplateError):
        return []
    parts = [
        piece.tokens if piece.message < 0 else chat.ids_after([TALK[piece.message].content])[0] for piece in pieces
    ]
    return [token for part in parts for token in part]


def _same_tokens(staging: Path, job: Job) -> str:
    """The released tokenizer, read back, gives the tokens that training had.

    Raises:
        GateError: it does not.
    """
    trained, released = (load_tokenizer(place) for place in (base_of(job, weights=False), staging))
    expected, contents = conversation_ids(trained), [message.content for message in TALK]
    plain = [ChatTokenizer(tokenizer, "release").ids(contents) for tokenizer in (trained, released)]
    if plain[0] != plain[1] or _template(released) != _template(trained) or conversation_ids(released) != expected:
        raise GateError(
            "the chat template does not survive: the released tokenizer gives other tokens", where=str(staging)
        )
    if not expected:
        return "it does not tell questions and answers apart, and training did not use it (prepare.form: plain)"
    used = "" if job.recipe.prepare.form == "chat" else "; training did not use it (prepare.form: plain)"
    return f"the released tokenizer gives the {len(expected)} tokens of a conversation as in training{used}"


def _template(tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.get_chat_template())


def _fresh(staging: Path, job: Job, run: Run, asked: Questions) -> dict[str, Any]:
    adapter = run.weights == "adapter"
    grown = vocabulary_of(base_of(job, weights=False)) if adapter else 0
    merged = (staging / "merged").exists()
    given = {
        "release": str(staging.resolve()),
        "base": str(base_folder(job.recipe.base, job.roots, weights=False)) if adapter else "",
        "grown": grown,
        "merged": merged,
        "talk": [message._asdict() for message in TALK],
        "prompts": asked.prompts,
        "limit": asked.limit,
    }
    command = [sys.executable, "-P", "-c", FRESH]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, cwd=staging, check=False)
    if done.returncode != 0:
        told = done.stderr.strip().splitlines() or [
            f"it was ended by signal {-done.returncode}, perhaps for want of memory"
        ]
        raise GateError(
            f"the release does not load in a fresh process: {told[-1]}",
            where=str(job.folder.release),
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    loaded = ("adapter on its base" if adapter else "model") + (f" of {grown} rows" if grown else "")
    loaded += " and merged weights" if merged else ""
    return found | {"loaded": f"{loaded} loaded and generated with plain transformers{' and peft' if adapter else ''}"}
