"""Starter recipes: what `sectorlm init SECTOR` writes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from configs.emit import to_yaml
from configs.errors import DataError, RecipeError
from configs.items import split_files
from configs.load import load_task
from configs.recipe import Prepare
from configs.sector import Benchmark, SectorPack, load_sector
from configs.store import HOUSE, write_atomic
from configs.task import task_files
from configs.wording import ENGLISH, wording

if TYPE_CHECKING:
    from pathlib import Path

    from configs.wording import Wording

BASE = "Qwen/Qwen3-0.6B-Base"
"""A small base for English and Chinese under Apache-2.0; any causal model in Hugging Face format does."""
REPLAY = """\
  - name: general-replay   # {why}
    path: assets/samples/general/text_replay.jsonl
    licence: CC0-1.0
    channel: general
    text: "{{{{ text }}}}"
    share: 0.05
"""
TASK = """\
# {what}
# {fill}
task: {sector}_items
dataset_path: json
dataset_kwargs: {{data_files: {{test: {sector}_test.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{ question }}}}\\nAnswer:"
doc_to_choice: "{{{{ choices }}}}"
doc_to_target: "{{{{ answer }}}}"
metric_list: [{{metric: acc}}]
metadata: {{sector: {sector}, language: [en, zh], licence: other, source: our own questions}}
"""


def starter_files(sector: str, lang: str = "en") -> dict[str, str]:
    """File name to text: a commented recipe, and a task file where SectorLM ships no task for the sector.

    Where an embedded sample exists the recipe runs at once; elsewhere the places to decide are marked FILL IN (待填).
    Comments are in the language asked for, and so are the reports of a recipe in Chinese; what packs say of corpora and
    benchmarks stays as it is.

    Raises:
        RecipeError: there is no such sector or language.
    """
    pack, tell = load_sector(sector), wording(lang)
    sample = HOUSE / "configs" / "recipes" / f"quickstart-{sector}.yaml"
    if sample.is_file():
        return {f"{sector}.yaml": _renamed(sample, sector, tell)}
    tasks = [name for name in task_files(HOUSE) if _ready(name, sector)]
    files = {f"{sector}.yaml": _recipe(pack, tasks or [f"{sector}_items.yaml"], tell)}
    if not tasks:
        files[f"{sector}_items.yaml"] = TASK.format(
            sector=sector,
            what=tell(
                "A benchmark of your own: JSON Lines with `question`, `choices` (a list) and `answer` (the right choice's text)."
            ),
            fill=tell("FILL IN: the test file, and its licence and source below."),
        )
    return files


def write_starter(sector: str, folder: Path, *, lang: str = "en", force: bool = False) -> list[Path]:
    """Write the starter files of a sector into `folder`; the recipe comes first.

    Raises:
        RecipeError: there is no such sector or language, or a file is there already and `force` is not given.
        StorageError: the folder cannot be written.
    """
    files = {folder / name: text for name, text in starter_files(sector, lang).items()}
    there = [str(path) for path in files if path.exists()]
    if there and not force:
        raise RecipeError("is there already", where=", ".join(there), hint="Replace it with --force.")
    for path, text in files.items():
        write_atomic(path, text)
    return list(files)


def _ready(name: str, sector: str = "") -> bool:
    """Whether a shipped task is one of this sector, where one is named, and its items are embedded too."""
    task, roots = load_task(name, (HOUSE,))
    with suppress(DataError):
        return task.metadata.sector in (sector or task.metadata.sector,) and bool(
            split_files(task, task.test_split, roots)
        )
    return False


def _renamed(sample: Path, sector: str, tell: Wording) -> str:
    """The embedded quickstart recipe under a name of its own."""
    lines = []
    for line in sample.read_text("utf-8").splitlines():
        if line.startswith("name:"):
            lines += [f"name: my-{sector}", *_language(tell)]
            continue
        head, sign, comment = line.partition("# ")
        lines.append(f"{head}{sign}{tell.term('quickstart', comment)}")
    return "\n".join(lines) + "\n"


def _language(tell: Wording) -> list[str]:
    """The line of a recipe that asks for reports in another language than English."""
    return [f"lang: {tell.lang}   # {tell('language of the report')}"] if tell is not ENGLISH else []


def _recipe(pack: SectorPack, tasks: list[str], tell: Wording) -> str:
    corpora = [it.as_source().model_dump(mode="json", exclude_defaults=True) for it in pack.corpora]
    own = f", {tell('FILL IN: your own')}" if tasks[0].endswith(".yaml") else ""
    file = f"{pack.sector}.yaml"
    lines = [
        f"# {tell('Starter recipe for {en} ({zh}).', en=pack.en, zh=pack.zh)}",
        f"# {tell('Decide the places marked FILL IN, then:')}  sectorlm check {file}  {tell('and')}  sectorlm run {file}",
        f"# {tell('All keys with their meaning:')} sectorlm schema. "
        f"{tell('What will be used, defaults included:')} sectorlm show {file}",
        f"name: my-{pack.sector}",
        *_language(tell),
        f"sector: {pack.sector}",
        f"base: {BASE}   # "
        + tell("FILL IN: a folder in Hugging Face format or a hub id; assets/base is a tiny one for trials"),
        f"use: research   # {tell('or commercial: sources whose licence forbids it are then refused')}",
        f"data: [data]   # {tell('folders that paths are looked for in, beside this file')}",
        "# "
        + tell(
            "FILL IN: your corpora. These are public ones; `hf:` is read from the hub, the others are to be downloaded into "
            "data/."
        ),
        "# "
        + tell(
            "Licences are as their publishers state them, and column names as on their cards: read both before use."
        ),
        "# "
        + tell(
            "A source may also state: time, purpose, consent, personal (mask, drop, report, off), rules, and others."
        ),
        to_yaml({"corpora": corpora})
        + REPLAY.format(
            why=tell("old abilities fade without some general text; yours may replace this sample")
        ).rstrip(),
        *_preparation(pack, tell),
        "train:",
        f"  rank: 16   # {tell('64 for continued pretraining on much text')}",
        *_probes(pack, tell),
        "evaluate:",
        f"  tasks: [{', '.join(tasks)}]   # {tell('benchmarks')}{own}",
        *_pointers(pack, tell),
    ]
    return "\n".join(lines) + "\n"


def _preparation(pack: SectorPack, tell: Wording) -> list[str]:
    """The sector's own rules, and some defaults to know of."""
    usual, domain = Prepare(), pack.domain
    near = tell("overlap from which two texts count as one; null: only where they are equal")
    passages = tell("a passage in more documents is boilerplate and cut out; null: none is")
    leaks = tell("what shares a passage with a test item; cut: only the sentences, for long texts")
    return [
        "# " + tell("How the data is prepared: the sector's own rules, then defaults (docs/preparation.md)."),
        to_yaml({"prepare": {"protect": list(domain.protect), "rules": dict(domain.rules)}}).rstrip(),
        f"#   near_duplicates: {usual.near_duplicates}   # {near}",
        f"#   repeated_passages: {usual.repeated_passages}   # {passages}",
        f"#   decontaminate: {usual.decontaminate}   # {leaks}",
        f"#   receipt: {{}}   # {tell('limits that stop the stage')}: max_dropped: 0.2, min_tokens: 1000000",
    ]


def _probes(pack: SectorPack, tell: Wording) -> list[str]:
    probes = pack.domain.probes
    mark = "" if all(map(_ready, probes)) else "# "  # whose items are yet to be fetched
    why = tell("quick tasks that are asked while training, to see forgetting early")
    return [f"  {mark}probes: [{', '.join(probes)}]   # {why}"] if probes else []


def _pointers(pack: SectorPack, tell: Wording) -> list[str]:
    lines = [f"# {tell('Public benchmarks of this sector:')}", *(_pointer(it, tell) for it in pack.benchmarks)]
    return lines + ([f"# {tell('Not available in the open:')} {pack.gaps}"] if pack.gaps else [])


def _pointer(benchmark: Benchmark, tell: Wording) -> str:
    proxy = tell(", a proxy only") if benchmark.proxy else ""
    note = f"; {benchmark.note}" if benchmark.note else ""
    return f"#   {benchmark.id} ({benchmark.host}, {benchmark.licence}{proxy}): {benchmark.metric}{note}"
