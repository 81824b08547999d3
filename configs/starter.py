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

if TYPE_CHECKING:
    from pathlib import Path

BASE = "Qwen/Qwen3-0.6B-Base"
"""A small base for English and Chinese under Apache-2.0; any causal model in Hugging Face format does."""
REPLAY = """\
  - name: general-replay   # old abilities fade without some general text; yours may replace this sample
    path: assets/samples/general/text_replay.jsonl
    licence: CC0-1.0
    channel: general
    text: "{{ text }}"
    share: 0.05
"""
TASK = """\
# A benchmark of your own: JSON Lines with `question`, `choices` (a list) and `answer` (the right choice's text).
# FILL IN: the test file, and its licence and source below.
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


def starter_files(sector: str) -> dict[str, str]:
    """File name to text: a commented recipe, and a task file where SectorLM ships no task for the sector.

    Where an embedded sample exists the recipe runs at once; elsewhere the places to decide are marked FILL IN.

    Raises:
        RecipeError: there is no such sector.
    """
    pack = load_sector(sector)
    sample = HOUSE / "configs" / "recipes" / f"quickstart-{sector}.yaml"
    if sample.is_file():
        return {f"{sector}.yaml": _renamed(sample, sector)}
    tasks = [name for name in task_files(HOUSE) if _ready(name, sector)]
    files = {f"{sector}.yaml": _recipe(pack, tasks or [f"{sector}_items.yaml"])}
    if not tasks:
        files[f"{sector}_items.yaml"] = TASK.format(sector=sector)
    return files


def write_starter(sector: str, folder: Path, *, force: bool = False) -> list[Path]:
    """Write the starter files of a sector into `folder`; the recipe comes first.

    Raises:
        RecipeError: there is no such sector, or a file is there already and `force` is not given.
        StorageError: the folder cannot be written.
    """
    files = {folder / name: text for name, text in starter_files(sector).items()}
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


def _renamed(sample: Path, sector: str) -> str:
    """The embedded quickstart recipe under a name of its own."""
    lines = sample.read_text("utf-8").splitlines(keepends=True)
    return "".join(f"name: my-{sector}\n" if line.startswith("name:") else line for line in lines)


def _recipe(pack: SectorPack, tasks: list[str]) -> str:
    corpora = [it.as_source().model_dump(mode="json", exclude_defaults=True) for it in pack.corpora]
    domain = pack.domain
    prepare = to_yaml({"prepare": {"protect": list(domain.protect), "rules": dict(domain.rules)}}).rstrip()
    mark = "" if all(map(_ready, domain.probes)) else "# "  # whose items are yet to be fetched
    probes = (
        f"  {mark}probes: [{', '.join(domain.probes)}]   # quick tasks that are asked while training, to see forgetting early\n"
        if domain.probes
        else ""
    )
    usual = Prepare()
    own = ", FILL IN: your own" if tasks[0].endswith(".yaml") else ""
    return f"""\
# Starter recipe for {pack.en} ({pack.zh}).
# Decide the places marked FILL IN, then:  sectorlm check {pack.sector}.yaml  and  sectorlm run {pack.sector}.yaml
# All keys with their meaning: sectorlm schema. What will be used, defaults included: sectorlm show {pack.sector}.yaml
name: my-{pack.sector}
sector: {pack.sector}
base: {BASE}   # FILL IN: a folder in Hugging Face format or a hub id; assets/base is a tiny one for trials
use: research   # or commercial: sources whose licence forbids it are then refused
data: [data]   # folders that paths are looked for in, beside this file
# FILL IN: your corpora. These are public ones; `hf:` is read from the hub, the others are to be downloaded into data/.
# Licences are as their publishers state them, and column names as on their cards: read both before use.
# A source may also state: time, purpose, consent, personal (mask, drop, report, off), rules, and others.
{to_yaml({"corpora": corpora})}{REPLAY}# How the data is prepared: the sector's own rules, then defaults (docs/preparation.md).
{prepare}
#   near_duplicates: {usual.near_duplicates}   # overlap from which two texts count as one; null: only where they are equal
#   repeated_passages: {usual.repeated_passages}   # a passage in more documents is boilerplate and cut out; null: none is
#   decontaminate: {usual.decontaminate}   # what shares a passage with a test item; cut: only the sentences, for long texts
#   receipt: {{}}   # limits that stop the stage: max_dropped: 0.2, min_tokens: 1000000
train:
  rank: 16   # 64 for continued pretraining on much text
{probes}evaluate:
  tasks: [{", ".join(tasks)}]   # benchmarks{own}
{_pointers(pack)}"""


def _pointers(pack: SectorPack) -> str:
    lines = ["# Public benchmarks of this sector:", *(_pointer(benchmark) for benchmark in pack.benchmarks)]
    lines += [f"# Not available in the open: {pack.gaps}"] if pack.gaps else []
    return "\n".join(lines) + "\n"


def _pointer(benchmark: Benchmark) -> str:
    proxy = ", a proxy only" if benchmark.proxy else ""
    note = f"; {benchmark.note}" if benchmark.note else ""
    return f"#   {benchmark.id} ({benchmark.host}, {benchmark.licence}{proxy}): {benchmark.metric}{note}"
