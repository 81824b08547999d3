"""The two passes over all shards: what each shard's work depends on, and who does it."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from configs.base import tokenizer_digest
from configs.progress import say
from configs.records import packages
from configs.speed import fast_wanted
from configs.store import HOUSE, crash_point, digest_file, digest_json, only_one, staged
from configs.vocabulary import base_of
from data_prep.decontaminate import LeakIndex, index_of, read_benchmarks
from data_prep.engine import work_through
from data_prep.ledger import Ledger
from data_prep.library import Library
from data_prep.read import ReadWork, first_kinds, read_settings
from data_prep.settle import Settled, settle
from data_prep.shards import folder_of, is_complete, key_of_work, page_of, plan_shards, remove_beyond, sign
from data_prep.tokenise import TokenWork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.job import Job
    from configs.spread import How
    from data_prep.engine import Work
    from data_prep.shards import Shard


READING = (
    "ftfy",
    "opencc-python-reimplemented",
    "pypdfium2",
    "python-docx",
    "openpyxl",
    "pyarrow",
    "datasets",
    "numpy",
)
"""Packages whose versions can change what is read."""
TOKENISING = ("transformers", "tokenizers", "jinja2", "numpy")
"""Packages whose versions can change what becomes of it; gigatoken gives the same ids or is not used."""


class Worked(NamedTuple):
    """Everything between the raw files and the corpus."""

    library: Library
    ledger: Ledger
    """With the figures of the first pass."""
    settled: Settled
    tokens: list[TokenWork]


class PartDoneError(Exception):
    """This process did its share of a pass, and others have not done theirs."""


def leak_index(job: Job, inputs: dict[str, str]) -> LeakIndex | None:
    """The index of all test items of the recipe's tasks, made once and mapped into memory by every process.

    Raises:
        DataError: a task's files are missing or damaged.
    """
    prepare, folder = job.recipe.prepare, job.folder.shards / "leaks"
    if prepare.decontaminate == "off":
        return None
    tasks = {label: digest for label, digest in inputs.items() if label.startswith(("task ", "file of task "))}
    key = digest_json([tasks, prepare.ngram, _code()])
    with only_one(folder):
        if not is_complete(folder, key):
            with staged(folder) as staging:
                index_of(read_benchmarks(job), prepare.ngram).save(staging)
                sign(staging, key, {})
    return LeakIndex.load(folder)


def work(job: Job, inputs: dict[str, str], how: How) -> Worked:
    """Read, settle and tokenise; what is done already is not done again.

    Raises:
        PartDoneError: this process did its part of a pass, and others have not done theirs.
        SectorLMError: whatever a shard raises, or a source has too many rows that cannot be used; finished shards stay.
    """
    if how.part is None:
        return _work(job, inputs, how)
    with only_one(job.folder.shards / f"part-{how.part[0]}"):  # a part that was started twice waits for itself
        return _work(job, inputs, how)


def _work(job: Job, inputs: dict[str, str], how: How) -> Worked:
    recipe = job.recipe
    shards = plan_shards(recipe.corpora, job.roots)
    if how.part is None:
        remove_beyond(job.folder.shards, len(shards))
    index = leak_index(job, inputs)
    library = read_pass(job, shards, how, leaks=index is not None)
    ledger = Ledger(recipe.corpora)
    ledger.add(library.sources, library.pages)
    ledger.check_rows(recipe.prepare.max_bad_rows)
    settled = settle(recipe, library, index)
    return Worked(library, ledger, settled, token_pass(job, shards, library, settled, how))


def read_pass(job: Job, shards: Sequence[Shard], how: How, *, leaks: bool) -> Library:
    """Read all shards that are not read yet.

    Raises:
        PartDoneError: other processes still have shards to read.
        SectorLMError: whatever a shard raises; finished shards stay.
    """
    recipe, root = job.recipe, job.folder.shards
    sources = {source.name: source for source in recipe.corpora}
    index = root / "leaks" if leaks else None
    index_key = page_of(index)["key"] if index else ""
    kinds: dict[str, dict[str, bool]] = {}
    works = []
    program = [packages(READING), unicodedata.unidata_version, _code()]
    for shard in shards:
        source = sources[shard.source]
        if shard.source not in kinds:
            kinds[shard.source] = first_kinds(
                source, [it for it in shards if it.source == shard.source], recipe.prepare
            )
        settings = [read_settings(source, recipe.prepare, recipe.seed), kinds[shard.source], index_key, program]
        target, key = folder_of(root, "read", shard), key_of_work(shard, settings)
        works.append(ReadWork(shard, source, recipe.prepare, recipe.seed, kinds[shard.source], index, target, key))
    _through("reading", works, how)
    names = list(sources)
    return Library([work.target for work in works], [names.index(shard.source) for shard in shards])


def token_pass(job: Job, shards: Sequence[Shard], library: Library, settled: Settled, how: How) -> list[TokenWork]:
    """Tokenise all shards that are not tokenised yet.

    Raises:
        PartDoneError: other processes still have shards to tokenise.
        SectorLMError: whatever a shard raises; finished shards stay.
    """
    recipe, root = job.recipe, job.folder.shards
    sources = {source.name: source for source in recipe.corpora}
    tokenizer = base_of(job, weights=False)
    prepare = recipe.prepare
    wanted = [prepare.form, prepare.sequence_length, prepare.overlong, prepare.min_chars, prepare.decontaminate]
    settings = [wanted, tokenizer_digest(tokenizer), packages(TOKENISING), _code()]
    works = []
    for place, shard in enumerate(shards):
        verdicts, read = settled.shards[place], library.folders[place]
        made_from = [settings, page_of(read)["key"], verdicts.digest()]
        target = folder_of(root, "tokens", shard)
        key = key_of_work(shard, made_from)
        source = sources[shard.source]
        works.append(
            TokenWork(shard, source, prepare, recipe.base, tokenizer, read, verdicts, len(shards), target, key)
        )
    _through("tokenising", works, how)
    reasons = sorted({page_of(work.target)["slow"] for work in works} - {""})
    if reasons and fast_wanted():
        say(f"  tokenised by `tokenizers`: {'; '.join(reasons)}")
    return works


def _through(what: str, works: Sequence[Work], how: How) -> None:
    if not work_through(what, works, how):
        number, of = how.part or (0, 1)
        say(f"{what}: part {number} of {of} is done; others are not")
        raise PartDoneError
    crash_point(f"prepare.{what}")


@cache
def _code() -> str:
    """The program that makes shards: another version of it makes them again."""
    files = sorted(path for folder in ("configs", "data_prep") for path in (HOUSE / folder).glob("*.py"))
    return digest_json({f"{path.parent.name}/{path.name}": digest_file(path) for path in files})
