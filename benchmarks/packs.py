"""The tables of docs/sectors.md, from the sector packs and the task files: `python -m benchmarks.packs` prints them.

With `--write` they are put into docs/sectors.md, between its marks. A test holds the page against them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from configs.errors import DataError, RecipeError
from configs.hub import HUB, hub_path
from configs.licences import licence_kind
from configs.load import load_recipe, load_task
from configs.recipe import SECTORS
from configs.sector import load_sector
from configs.store import HOUSE, write_atomic
from configs.task import LOCAL, task_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from configs.sector import Facts, PublicCorpus
    from configs.task import Task

PAGE = HOUSE / "docs" / "sectors.md"
EMBEDDED = "../../assets/"
"""Where the files of tasks lie that SectorLM brings along."""


def table(heads: str, rows: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a Markdown table."""
    width = heads.count("|") + 1
    return [f"| {heads} |", "|" + "---|" * width, *("| " + " | ".join(row) + " |" for row in rows)]


def licence_class(licence: str) -> str:
    """Its kind in the table of licences; `unknown` for words that are in none, as those with a condition added.

    >>> licence_class("CC-BY-NC-4.0"), licence_class("MIT as claimed")
    ('noncommercial', 'unknown')
    """
    try:
        return licence_kind(licence)
    except RecipeError:
        return "unknown"


def sectors() -> list[str]:
    """The twelve sectors: names, counts, what is missing."""
    packs = [load_sector(sector) for sector in SECTORS]
    rows = [
        (
            f"`{it.sector}`",
            it.en,
            it.zh,
            f"{len(it.corpora)}",
            f"{len(it.benchmarks)} ({sum(one.proxy for one in it.benchmarks)})",
            f"{len({name for one in it.benchmarks for name in one.tasks})}",
            it.gaps or "-",
        )
        for it in packs
    ]
    return table("sector | English | 中文 | corpora | benchmarks (proxies) | tasks | gaps", rows)


def _facts(facts: Facts, *notes: str) -> tuple[str, ...]:
    columns = ", ".join(f"`{name}`" for name in facts.columns) or "-"
    note = "; ".join(dict.fromkeys(it for it in (facts.note, *notes) if it)) or "-"
    return facts.size, columns, facts.revision[:7] or "none", ", ".join(facts.verified), note


def _place(corpus: PublicCorpus) -> tuple[str, str]:
    """What a corpus is called and where it is: its name on the hub, or its origin and its files below `data`."""
    if corpus.paths[0].startswith(HUB):
        wanted = [hub_path(path) for path in corpus.paths]
        files = ", ".join(f"`{it.files}`" for it in wanted if it.files)
        return wanted[0].name + (f" ({files})" if files else ""), "hub"
    return f"{corpus.origin.partition(',')[0]} (`{corpus.paths[0]}`)", "other"


def data_sets() -> list[str]:
    """One row for every corpus and every benchmark."""
    rows: list[tuple[str, ...]] = []
    for sector in SECTORS:
        pack = load_sector(sector)
        for corpus in pack.corpora:
            name, host = _place(corpus)
            terms = corpus.licence, licence_class(corpus.licence)
            languages = ", ".join(corpus.language)
            rows.append((sector, "corpus", name, host, languages, *terms, *_facts(corpus.facts), "-", "-"))
        for it in pack.benchmarks:
            terms = it.licence, licence_class(it.licence)
            tasks = ", ".join(f"`{name}`" for name in it.tasks) or "-"
            own = (sector, "benchmark", it.id, it.host, ", ".join(it.language), *terms, *_facts(it.facts, it.note))
            rows.append((*own, "yes" if it.proxy else "no", tasks))
    heads = "sector | kind | data set | host | language | licence | class | size | columns | revision | verified | note"
    return table(f"{heads} | proxy | tasks", rows)


def replay() -> list[str]:
    """General text that the public recipes mix in; no pack has it."""
    found = {}
    for sector in SECTORS:
        for it in load_recipe(HOUSE / "configs" / "recipes" / f"{sector}.yaml").corpora:
            if it.channel == "general":
                rows = f"{it.max_rows:,}" if it.max_rows else "all"
                found[it.paths] = (" ".join(it.paths), it.licence, licence_class(it.licence), rows, f"{it.share:.0%}")
    return table("path | licence | class | rows read | share of the tokens", found.values())


def _paths(task: Task) -> Iterator[str]:
    files = (
        task.dataset_kwargs.data_files if task.dataset_path in LOCAL else task.local.data_files if task.local else {}
    )
    for paths in files.values():
        yield from (paths,) if isinstance(paths, str) else paths
    yield from (task.keys if task.dataset_path in LOCAL else task.local.keys if task.local else {}).values()


def places() -> list[str]:
    """Folder below `data` to the tasks that read it, their files, and where these are from."""
    folders: dict[str, dict[str, set[str]]] = {}
    for name in task_files(HOUSE):
        task, _ = load_task(name, (HOUSE,))
        for path in _paths(task):
            if path.startswith(EMBEDDED):
                continue
            parts = path.split("/")
            held = folders.setdefault("/".join(parts[:2]), {"files": set(), "source": set(), "tasks": set()})
            held["files"].add("/".join(parts[2:]))
            held["source"].add(task.metadata.source)
            held["tasks"].add(name + ("*" if task.dataset_path not in LOCAL else ""))
    rows = [
        (
            f"`{folder}`",
            ", ".join(f"`{it}`" for it in sorted(held["files"])),
            "; ".join(sorted(held["source"])),
            ", ".join(f"`{it}`" for it in sorted(held["tasks"])),
        )
        for folder, held in sorted(folders.items())
    ]
    return table(
        "folder below `data` | files | from | tasks (*: read from the hub where the files are not there)", rows
    )


TABLES = {"sectors": sectors, "data sets": data_sets, "replay": replay, "places": places}


def page(text: str) -> str:
    """A page with every table between its marks made anew.

    Raises:
        DataError: a mark is missing.
    """
    for name, made in TABLES.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, begun, rest = text.partition(start)
        _, ended, after = rest.partition(end)
        if not (begun and ended):
            raise DataError(f"no {end if begun else start}", where=str(PAGE))
        text = "\n".join([before + start, *made(), end + after])
    return text


def main(words: list[str]) -> int:
    """Print the tables, or put them into the page."""
    if "--write" in words:
        write_atomic(PAGE, page(PAGE.read_text("utf-8")))
        return 0
    print("\n\n".join("\n".join(made()) for made in TABLES.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
