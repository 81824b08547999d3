"""Prepare: raw files to a Corpus, in which every row and every token is accounted for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from configs.base import base_folder, load_tokenizer, tokenizer_digest
from configs.items import split_files
from configs.licences import check_licences
from configs.load import load_task
from configs.progress import say
from configs.read import digest_files
from configs.records import Corpus, flat, made_by, stale
from configs.store import crash_point, digest_json, files_of, staged
from data_prep.clean import clean
from data_prep.decontaminate import Leaks, find_leaks, read_benchmarks
from data_prep.dedup import drop_duplicates
from data_prep.ledger import Ledger, tell
from data_prep.read import read_sources, source_files
from data_prep.rows import write_documents, write_dropped, write_rows, write_tokens
from data_prep.split import limited, split
from data_prep.tokens import Encoder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from configs.job import Job
    from data_prep.documents import Document

SHOWN = 5
"""Reasons for doing the stage again that are printed."""


def prepare(job: Job) -> Corpus:
    """Read, clean, drop duplicates and leaks, split, tokenise, mix and pack; or keep the corpus if nothing changed.

    Raises:
        PolicyError: a licence or a grade forbids the recipe's use.
        DataError: a source is missing, empty, damaged or not as declared, or nothing is left to train on.
        UnsafeArtefactError: an archive or a file that is not safe to open.
        StorageError: the disk is full or read-only.
    """
    started, recipe, target = time.monotonic(), job.recipe, job.folder.corpus
    check_licences(recipe)
    settings, inputs = _fingerprint(job)
    kept = _kept(job, settings, inputs)
    if kept is not None:
        return kept
    ledger = Ledger(recipe.corpora)
    documents = ledger.keep(clean(read_sources(job, ledger), recipe.prepare, ledger))
    documents = ledger.keep(drop_duplicates(documents))
    leaks = _leaks(job, documents)
    documents = ledger.keep(leaks.settle(documents, recipe.prepare, ledger))
    documents = ledger.keep(limited(documents, recipe.corpora, recipe.seed))
    held = split(documents, recipe.corpora, recipe.prepare.validation, recipe.seed)
    encoder = Encoder(load_tokenizer(_tokenizer(job)), recipe.base, recipe.prepare.form)
    with staged(target) as staging:
        stored = write_tokens(staging, documents, encoder, recipe, ledger)
        crash_point("prepare.tokens")
        layout = write_rows(staging, stored, held, recipe, ledger)
        write_documents(staging, stored, held)
        write_dropped(staging, ledger)
        corpus = Corpus(
            name=recipe.name,
            settings=settings,
            inputs=inputs,
            files=files_of(staging),
            made=made_by("data_prep", started),
            sector=recipe.sector,
            tokenizer=tokenizer_digest(_tokenizer(job)),
            vocabulary=encoder.vocabulary,
            token_dtype=encoder.dtype,
            sequence_length=recipe.prepare.sequence_length,
            sources=ledger.close(),
            touched=leaks.touched,
            checked=leaks.checked,
            **layout._asdict(),
        )
        corpus.write(staging / "corpus.json")
    tell(corpus)
    return corpus


def _tokenizer(job: Job) -> Path:
    return base_folder(job.recipe.base, job.roots, weights=False)


def _leaks(job: Job, documents: Sequence[Document]) -> Leaks:
    if job.recipe.prepare.decontaminate == "off":
        return Leaks()
    leaks = find_leaks(documents, read_benchmarks(job), job.recipe.prepare.ngram)
    leaks.tell(documents, job.recipe.prepare)
    return leaks


def _fingerprint(job: Job) -> tuple[dict[str, Any], dict[str, str]]:
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
