"""Run -> Release: a folder that loads with plain transformers and peft, and a card that quotes the records."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from configs.base import base_folder, load_tokenizer, public_name
from configs.errors import GateError, PolicyError, RecipeError, StorageError
from configs.progress import say
from configs.records import Comparison, Corpus, Release, Run, flat, made_by, stale
from configs.store import crash_point, files_of, staged, verify_files, write_atomic
from configs.taint import taint_of, taint_told
from configs.vocabulary import base_of, vocabulary_of
from training.card import model_card
from training.papers import write_papers

if TYPE_CHECKING:
    from pathlib import Path

    from configs.job import Job

TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|return|>")
"""End-of-turn marks of the chat templates in use: generation must stop at them as well as at the end mark."""


def publish(job: Job, *, push: bool = False) -> Release:
    """Make the release folder, verify that it loads, and push it where asked to.

    Raises:
        RecipeError: a push was asked for, and the recipe names no repository.
        DataError: a record that the card quotes is missing or does not fit its files.
        PolicyError: the run learnt from documents that must be forgotten.
        GateError: a gate of the recipe was not met, or the release does not reproduce the run.
        StorageError: the hub refused the push; the local folder is complete.
    """
    started = time.monotonic()
    if push and job.recipe.publish.push_to is None:
        raise RecipeError("no repository to push to", where="publish.push_to", hint="Set publish.push_to: ORG/NAME.")
    _refuse_tainted(job)
    corpus = Corpus.read(job.folder.corpus / "corpus.json")
    run = Run.read(job.folder.run / "run.json")
    comparison = Comparison.read(job.folder.report / "comparison.json")
    settings = flat(job.recipe.publish, "publish") | flat(job.recipe.gates, "gates")
    settings.pop("publish.push_to")
    inputs = {"run": run.content(), "comparison": comparison.content()}
    release = Release.read_if_there(job.folder.release / "release.json")
    reasons = stale(release, job.folder.release, settings, inputs) if release else []
    if release is not None and not reasons:
        say("publish: unchanged, kept")
    else:
        if reasons:
            say(f"publish again: {'; '.join(reasons)}")
        verify_files(job.folder.run, run.files)
        verify_files(job.folder.report, comparison.files)
        gates = check_gates(job, comparison)
        with staged(job.folder.release) as staging:
            checks = _fill(staging, job, corpus, run)
            checks["fresh process"] = _reload(staging, job, run)
            write_papers(staging, job, corpus, _public_run(run), comparison)
            write_atomic(staging / "README.md", model_card(job, corpus, _public_run(run), comparison, checks))
            _public_run(run).write(staging / "run.json")  # with it, a release can be merged with those of other sites
            crash_point("publish.before_record")
            release = Release(
                name=job.recipe.name,
                settings=settings,
                inputs=inputs,
                files=files_of(staging),
                made=made_by("training", started),
                sector=job.recipe.sector,
                base=public_name(job.recipe.base),
                checks=checks,
                gates=gates,
            )
            release.write(staging / "release.json")
    if push:
        _push(job, release)
    return release


def _refuse_tainted(job: Job) -> None:
    """No release is made, kept or pushed of a run that learnt what a removal request takes out.

    Raises:
        PolicyError: it did.
    """
    if taint := taint_of(job.folder.run):
        raise PolicyError(
            f"the release is refused: this run {taint_told(taint)}",
            where=str(job.folder.run),
            hint="Train again, `sectorlm run RECIPE`, with a recipe whose prepare.exclude has these requests.",
        )


def check_gates(job: Job, comparison: Comparison) -> dict[str, str]:
    """Each gate of the recipe and how it was met.

    Raises:
        GateError: one or more were not; the message lists every reason.
    """
    gates, met, failed = job.recipe.gates, {}, []
    if gates.significant_gain:
        better = [row.task for row in comparison.differences if row.verdict == "better"]
        if better:
            met["significant_gain"] = f"better on {', '.join(better)}"
        else:
            failed.append(
                "significant_gain: no sector task is better with an interval above zero after Holm's correction"
            )
    if gates.max_general_loss is not None:
        text = [row for row in comparison.general if row.metric == "bits_per_byte"]
        if not text:
            failed.append("max_general_loss: the general panel has no bits_per_byte task to measure it on")
        for row in text:
            rise = row.difference / row.base
            line = f"{row.task} rose by {100 * rise:+.1f} % (allowed {100 * gates.max_general_loss:.1f} %)"
            met["max_general_loss"] = line
            if rise > gates.max_general_loss:
                failed.append(f"max_general_loss: {line}")
    if failed:
        raise GateError(
            "the release is refused:\n    " + "\n    ".join(failed),
            where=f"gates of {job.recipe.name}",
            hint="Read the report, change the training, or loosen the gate in the recipe.",
        )
    return met


def _fill(staging: Path, job: Job, corpus: Corpus, run: Run) -> dict[str, str]:
    """Weights, tokenizer, generation config and report; returns what was verified."""
    from transformers import GenerationConfig

    checks: dict[str, str] = {}
    folder = base_of(job, weights=False)
    for path in (job.folder.run / run.weights).iterdir():
        shutil.copy2(path, staging / path.name)
    tokenizer = load_tokenizer(folder)
    marks = [
        tokenizer.eos_token_id,
        *(tokenizer.convert_tokens_to_ids(mark) for mark in TURN_ENDS if mark in tokenizer.get_vocab()),
    ]
    stops = list(dict.fromkeys(mark for mark in marks if mark is not None))
    generation = GenerationConfig(eos_token_id=stops, pad_token_id=tokenizer.pad_token_id or stops[0], do_sample=False)
    places = [staging]
    if run.weights == "adapter" and job.recipe.publish.merged:
        from training.batches import Rows
        from training.merge import merge

        verify_files(job.folder.corpus, corpus.files)
        (staging / "merged").mkdir()
        found = merge(job, Rows(job.folder.corpus, corpus), staging / "merged")
        checks["merged against base + adapter"] = (
            f"KL {found.kl:.2e} nats per token, same first token at {100 * found.top1:.2f} % of {found.positions} "
            f"held-out positions, stored in {found.dtype}"
        )
        places.append(staging / "merged")
    for place in places:
        tokenizer.save_pretrained(place)
        generation.save_pretrained(place)
    shutil.copy2(job.folder.report / "report.html", staging / "report.html")
    write_atomic(staging / "recipe.json", _public_recipe(job) + "\n")
    checks["stop tokens"] = ", ".join(tokenizer.convert_ids_to_tokens(stops))
    return checks


def _public_recipe(job: Job) -> str:
    """The recipe as JSON, without absolute paths of this machine."""
    tree = job.recipe.model_dump(mode="json")
    named = {"base": public_name(job.recipe.base), "data": [public_name(folder) for folder in job.recipe.data]}
    return json.dumps(tree | named, indent=1, ensure_ascii=False)


def _public_run(run: Run) -> Run:
    """The record of the run without absolute paths of this machine."""
    settings = {key: public_name(value) if isinstance(value, str) else value for key, value in run.settings.items()}
    inputs = {}
    for label, digest in run.inputs.items():
        kind, _, place = label.partition(" ")
        inputs[f"{kind} {public_name(place)}" if kind in ("base", "adapter") else label] = digest
    return run.model_copy(update={"base": public_name(run.base), "settings": settings, "inputs": inputs})


FRESH = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
release, base, adapter, merged, grown = sys.argv[1:6]
tokenizer = AutoTokenizer.from_pretrained(release, local_files_only=True)
text = tokenizer.apply_chat_template([{"role": "user", "content": "Hello, 你好"}], tokenize=False, add_generation_prompt=True)
ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
model = AutoModelForCausalLM.from_pretrained(base if adapter else release, dtype=torch.float32, local_files_only=True)
if grown:
    model.resize_token_embeddings(int(grown), mean_resizing=False)
if adapter:
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, release)
out = model.generate(ids, max_new_tokens=4)
if merged:
    alone = AutoModelForCausalLM.from_pretrained(release + "/merged", dtype=torch.float32, local_files_only=True)
    alone.generate(ids, max_new_tokens=4)
print("loaded", out.shape[1] - ids.shape[1])
"""
"""What a user does, in a process that knows nothing of SectorLM."""


def _reload(staging: Path, job: Job, run: Run) -> str:
    """Load the release in a fresh process with plain transformers and peft, and generate.

    Raises:
        GateError: it does not load there.
    """
    base = base_folder(job.recipe.base, job.roots, weights=False)
    adapter, merged = "yes" if run.weights == "adapter" else "", "yes" if (staging / "merged").exists() else ""
    grown = str(vocabulary_of(base_of(job, weights=False)) or "") if adapter else ""
    command = [sys.executable, "-P", "-c", FRESH, str(staging.resolve()), str(base), adapter, merged, grown]
    done = subprocess.run(command, capture_output=True, text=True, cwd=staging, check=False)
    if done.returncode != 0:
        told = done.stderr.strip().splitlines() or [
            f"it was ended by signal {-done.returncode}, perhaps for want of memory"
        ]
        raise GateError(
            f"the release does not load in a fresh process: {told[-1]}",
            where=str(job.folder.release),
        )
    loaded = ("adapter on its base" if adapter else "model") + (f" of {grown} rows" if grown else "")
    loaded += " and merged weights" if merged else ""
    return f"{loaded} loaded and generated with plain transformers{' and peft' if adapter else ''}"


def _push(job: Job, release: Release) -> None:
    """Upload what the release vouches for in one commit, to a private repository unless it is there already."""
    from huggingface_hub import HfApi

    api, target = HfApi(), str(job.recipe.publish.push_to)
    try:
        api.create_repo(target, private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=target,
            folder_path=job.folder.release,
            allow_patterns=[*release.files, "release.json"],
            commit_message=f"SectorLM release {job.recipe.name}",
        )
    except Exception as error:  # the hub's client, its network library and the disk each raise their own kinds
        told = (str(error).strip().splitlines() or [""])[0]
        raise StorageError(
            f"the push failed ({type(error).__name__}: {told})",
            where=target,
            hint="The local release is complete; set HF_TOKEN, check the network, and run the same command again.",
        ) from error
    say(f"pushed to {target} ({commit.oid[:12]})")
