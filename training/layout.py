"""The folder of a release: weights, tokenizer, how to generate with it, what it may be used for, what it was made from.

adapter_model.safetensors adapter_config.json     the layout that peft and vLLM's LoRA serving read; or model.safetensors
tokenizer.json chat_template.jinja generation_config.json
merged/                                           the same without an adapter, where the recipe asks for it
README.md DATA.md LICENCES.md LICENSE*            the card, the ledger of the data, terms
recipe.json run.json records/                     what it was made from, without paths of the machine it was made on
SHA256SUMS                                        for `sha256sum -c`; release.json has the same, and model.sig signs all
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from configs.base import PICKLES, load_tokenizer, read_config
from configs.chat import ChatTokenizer
from configs.errors import DataError, GateError, UnsafeArtefactError
from configs.public import absolute_paths, public_path, public_value
from configs.records import Comparison, Scorecard
from configs.store import digest_file, write_atomic
from configs.vocabulary import base_of
from training.advice import SERVED_RANKS
from training.verify import CODE, SUMS

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from configs.job import Job
    from configs.records import Corpus, Run

TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|return|>")
"""End-of-turn marks of the chat templates in use: generation must stop at them as well as at the end mark."""


def refuse_unsafe(folder: Path) -> None:
    """No release is made of a run in which something lies that could run code when it is opened.

    Raises:
        UnsafeArtefactError: a pickle, or code.
    """
    found = sorted(path for pattern in (*PICKLES, *CODE) for path in folder.rglob(pattern))
    if found:
        raise UnsafeArtefactError(
            f"{found[0].relative_to(folder)} could run code when it is opened: a release holds safetensors only",
            where=str(folder),
            hint="SectorLM writes no such file. Find out who did, remove it, and publish again.",
        )


def add_weights(staging: Path, job: Job, run: Run) -> None:
    """The files of the adapter, or of the whole model, that the run's record vouches for."""
    for name in run.files:
        folder, _, inner = name.partition("/")
        if folder == run.weights:
            shutil.copy2(job.folder.run / name, staging / inner)


def add_tokenizer(job: Job, places: list[Path]) -> str:
    """Tokenizer, chat template and generation config into each place; returns the marks that generation stops at."""
    from transformers import GenerationConfig

    folder = base_of(job, weights=False)
    tokenizer = load_tokenizer(folder)
    stops = stop_tokens(tokenizer, folder.name)
    generation = GenerationConfig(
        eos_token_id=stops,
        pad_token_id=stops[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        do_sample=False,
    )
    for place in places:
        tokenizer.save_pretrained(place)
        generation.save_pretrained(place)
    return ", ".join(str(it) for it in tokenizer.convert_ids_to_tokens(stops))


def stop_tokens(tokenizer: PreTrainedTokenizerBase, name: str) -> list[int]:
    """The end mark, the control token with which the chat template ends an answer, and other end-of-turn marks it has."""
    chat = ChatTokenizer(tokenizer, name)
    try:
        pieces = chat.pieces(("user", "assistant"))
    except (DataError, TemplateError):  # a template that training could not have used
        pieces = []
    ends = [token for piece in pieces if piece.learnt and piece.message < 0 for token in piece.tokens[-1:]]
    marks = [
        tokenizer.eos_token_id,
        *(token for token in ends if token in chat.control_ids),
        *(tokenizer.convert_tokens_to_ids(mark) for mark in TURN_ENDS if mark in tokenizer.get_vocab()),
    ]
    return [int(mark) for mark in dict.fromkeys(marks) if mark is not None]  # type: ignore[arg-type]


def add_records(staging: Path, job: Job, corpus: Corpus, run: Run, comparison: Comparison) -> None:
    """The records that lead from the release back to the documents, as they may be told, and the recipe."""
    records = staging / "records"
    corpus.public().write(records / "corpus.json")
    comparison.public().write(records / "comparison.json")
    for model in ("base", "tuned"):
        card = Scorecard.read_if_there(job.folder.scorecards / model / "scorecard.json")
        if card is not None:
            card.public().write(records / model / "scorecard.json")
    run.public().write(staging / "run.json")  # with it, a release can be merged with those of other sites
    write_atomic(staging / "recipe.json", public_recipe(job) + "\n")
    report = (job.folder.report / "report.html").read_text("utf-8")
    for path in absolute_paths(job.recipe.model_dump(mode="json")):  # which the report may show
        report = report.replace(path, public_path(path))
    write_atomic(staging / "report.html", report)


def public_recipe(job: Job) -> str:
    """The recipe as JSON, as it may be told."""
    return json.dumps(public_value(job.recipe.model_dump(mode="json")), indent=1, ensure_ascii=False)


# ---------------------------------------------------------------- servers, sums


def serving(staging: Path, job: Job, run: Run) -> str:
    """How vLLM serves the release, or what of it vLLM refuses."""
    name = job.recipe.name
    if run.weights != "adapter":
        return "vLLM serves it like any model: vllm serve RELEASE"
    config = json.loads((staging / "adapter_config.json").read_text("utf-8"))
    refused = []
    if config.get("use_dora"):
        refused.append("it is a DoRA adapter")
    if config.get("modules_to_save"):
        refused.append(f"it holds whole modules ({', '.join(config['modules_to_save'])})")
    if config.get("trainable_token_indices"):
        refused.append("it has rows of new tokens")
    if config.get("bias", "none") != "none":
        refused.append("it has biases")
    needed = next((rank for rank in SERVED_RANKS if rank >= config["r"]), None)
    if needed is None:
        refused.append(f"its rank is {config['r']}")
    if refused:
        instead = "vllm serve RELEASE/merged" if (staging / "merged").exists() else "set publish.merged: true"
        return f"vLLM does not take this adapter, since {' and '.join(refused)}; instead: {instead}"
    base = public_value(job.recipe.base)
    return f"vllm serve {base} --enable-lora --max-lora-rank {needed} --lora-modules {name}=RELEASE"


def check_vocabulary(place: Path) -> str:
    """That the weights have a row for every token, and that tied weights are stored once.

    Raises:
        GateError: they do not; the release would not be the model that was evaluated.
    """
    from safetensors import safe_open

    shapes: dict[str, list[int]] = {}
    for path in sorted(place.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            shapes |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    tied, size = bool(read_config(place).get("tie_word_embeddings")), len(load_tokenizer(place))
    heads = [name for name in shapes if name.startswith("lm_head.")]
    tables = [name for name in shapes if name.endswith(("embed_tokens.weight", "wte.weight", "embed_in.weight"))]
    if tied and heads:
        raise GateError(
            "the merged weights hold a head of their own, and the config ties it", where=str(place / heads[0])
        )
    short = [name for name in (*tables, *heads) if shapes[name][0] < size]
    if short:
        told = f"{short[0]} has {shapes[short[0]][0]} rows for {size} tokens"
        raise GateError(told, where=str(place), hint="The vocabulary was extended and the weights were not.")
    rows = f"{shapes[tables[0]][0]} rows for {size} tokens" if tables else f"{size} tokens"
    return f"{rows}, {'embedding and head are one' if tied else 'embedding and head apart'}"


def add_sums(staging: Path) -> None:
    """SHA256SUMS over every file there is, in the form of `sha256sum -c`; call it last."""
    paths = sorted(path for path in staging.rglob("*") if path.is_file())
    lines = [f"{digest_file(path)}  {path.relative_to(staging).as_posix()}" for path in paths]
    write_atomic(staging / SUMS, "\n".join(lines) + "\n")
