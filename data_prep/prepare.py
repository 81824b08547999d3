"""Prepare: raw files to a Corpus, in which every row and every token is accounted for.

Two passes over shards, which any number of processes share, and a decision over all documents between them; the same
bytes come out however the work is spread and however often it is stopped.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from configs.base import tokenizer_digest
from configs.items import split_files
from configs.licences import check_licences
from configs.load import load_task
from configs.progress import say
from configs.read import digest_files
from configs.records import Corpus, flat, made_by, stale
from configs.spread import How
from configs.store import crash_point, digest_json, files_of, only_one, staged
from configs.taint import mark_tainted, tainted_runs, tell_tainted
from configs.vocabulary import base_of
from data_prep.exclude import exclusion
from data_prep.exports import check_standard, export
from data_prep.ledger import check_receipt, excluded_ids, tell
from data_prep.passes import PartDoneError, Worked, work
from data_prep.quality import check_rules
from data_prep.rows import merge
from data_prep.shards import page_of, source_files

if TYPE_CHECKING:
    from pathlib import Path

    from configs.job import Job

SHOWN = 5
"""Reasons for doing the stage again that are printed."""


def prepare(
    job: Job,
    *,
    how: How = How(),  # noqa: B008 - it is frozen
    keep_dropped: bool = False,
    standard: str = "",
) -> Corpus | None:
    """Read, clean, drop duplicates and leaks, split, tokenise, mix and pack; or keep the corpus if nothing changed.

    None where this process is one part of an array job and other parts are still at work. `keep_dropped` and `standard`
    write files beside the corpus (data_prep/exports.py).

    Raises:
        PolicyError: a licence or a grade forbids the recipe's use.
        DataError: a source is missing, empty, damaged or not as declared, nothing is left to train on, or a limit of
            the receipt is broken.
        UnsafeArtefactError: an archive or a file that is not safe to open.
        StorageError: the disk is full or read-only, or a worker process died twice.
        RecipeError: a rule has no such name, a removal request means nothing, or `standard` is not known.
    """
    started = time.monotonic()
    check_licences(job.recipe)
    check_rules([*job.recipe.prepare.rules, *(name for source in job.recipe.corpora for name in source.rules)])
    check_standard(standard)
    exclusion(job.recipe.prepare.exclude)
    settings, inputs = fingerprint(job)
    corpus = _kept(job, settings, inputs)
    if corpus is not None and not (keep_dropped or standard):
        return corpus
    try:
        worked = work(job, inputs, how)
    except PartDoneError:
        return None
    with only_one(job.folder.shards / "corpus"):  # the last parts of an array job may come here together
        corpus = corpus or (_kept(job, settings, inputs) if how.part else None)
        corpus = corpus or _merged(job, worked, started, settings, inputs)
        for line in export(job.folder.root, worked.tokens, corpus, keep_dropped=keep_dropped, standard=standard):
            say(line)
    return corpus


def _merged(job: Job, worked: Worked, started: float, settings: dict[str, Any], inputs: dict[str, str]) -> Corpus:
    """The corpus folder, with its record last."""
    recipe, ledger = job.recipe, worked.ledger
    tokenizer = _tokenizer(job)
    vocabulary = page_of(worked.tokens[0].target)["vocabulary"]
    with staged(job.folder.corpus) as staging:
        crash_point("prepare.tokens")
        layout = merge(staging, [shard.target for shard in worked.tokens], worked.library, recipe, ledger)
        corpus = Corpus(
            name=recipe.name,
            settings=settings,
            inputs=inputs,
            files=files_of(staging),
            made=made_by("data_prep", started),
            sector=recipe.sector,
            tokenizer=tokenizer_digest(tokenizer),
            vocabulary=vocabulary,
            token_dtype="uint16" if vocabulary <= 1 << 16 else "uint32",
            sequence_length=recipe.prepare.sequence_length,
            sources=ledger.close(),
            near_duplicates=recipe.prepare.near_duplicates,
            **worked.settled.touched._asdict(),
            **layout._asdict(),
        )
        tell(corpus)
        check_receipt(corpus, recipe.prepare.receipt)
        _mark_runs(job, staging)
        corpus.write(staging / "corpus.json")
    return corpus


def _mark_runs(job: Job, staging: Path) -> None:
    """Runs that learnt what is now excluded are marked before the corpus that shows it is replaced."""
    if job.recipe.prepare.exclude and (job.folder.corpus / "corpus.json").is_file():
        found = tainted_runs(job.folder.corpus, excluded_ids(staging / "dropped.jsonl"))
        mark_tainted(found, job.recipe.prepare.exclude)
        tell_tainted(found)


def _tokenizer(job: Job) -> Path:
    return base_of(job, weights=False)


def fingerprint(job: Job) -> tuple[dict[str, Any], dict[str, str]]:
    """What the corpus depends on: the recipe's words, and the digests of everything that is read."""
    recipe = job.recipe
    settings = {
        "sector": recipe.sector,
        "seed": recipe.seed,
        "use": recipe.use,
        "corpora": [source.name for source in recipe.corpora],
        "evaluate.tasks": list(recipe.evaluate.tasks),
        "evaluate.general": list(recipe.evaluate.general),
        **flat(recipe.prepare, "prepare"),
    }
    inputs = {f"tokenizer of {recipe.base}": tokenizer_digest(_tokenizer(job))}
    for source in recipe.corpora:
        settings |= flat(source, f"corpora[{source.name}]")
    files = [file for source in recipe.corpora for file in source_files(source, job.roots)]
    inputs |= {f"corpus file {label}": digest for label, digest in digest_files(files, job.roots).items()}
    for name in (*recipe.evaluate.tasks, *recipe.evaluate.general):
        task, roots = load_task(name, job.roots)
        inputs[f"task {name}"] = digest_json(task.model_dump(mode="json"))
        digests = digest_files(split_files(task, task.test_split, roots), roots)
        inputs |= {f"file of task {name}: {label}": digest for label, digest in digests.items()}
    return settings, inputs


def _kept(job: Job, settings: dict[str, Any], inputs: dict[str, str]) -> Corpus | None:
    """The corpus that is there, if it was made from the same and its files are whole."""
    corpus = Corpus.read_if_there(job.folder.corpus / "corpus.json")
    if corpus is None:
        return None
    reasons = stale(corpus, job.folder.corpus, settings, inputs)
    if not reasons:
        say("corpus: unchanged, kept")
        return corpus
    more = f"; and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
    say(f"prepare again: {'; '.join(reasons[:SHOWN])}{more}")
    return None
