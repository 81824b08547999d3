"""All twelve sectors on local files: run each recipe, and print the table of docs/results.md from the records.

    python -m benchmarks.sectors                    # runs what is not there yet, then prints the table
    python -m benchmarks.sectors green finance      # these only
    python -m benchmarks.sectors --table            # runs nothing

The recipes are configs/recipes/SECTOR-real.yaml; they read the data sets below `data`. A release that its gates refuse is a
result too, and stands in the table.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from configs.licences import licence_kind
from configs.load import load_recipe
from configs.recipe import SECTORS
from configs.records import Comparison, Corpus, Release, Run
from configs.sector import load_sector
from configs.store import HOUSE, RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from configs.records import Difference

RECIPES = HOUSE / "configs" / "recipes"
REFUSED = 10
"""Exit code of a release that a gate refused."""
OF_HUNDRED = frozenset({"acc", "acc_norm", "macro_f1", "exact_match", "number_match", "token_f1", "span_f1", "rouge_l"})
OF_HUNDRED |= {"letters_match", "char_f1", "chrf"}


def run(sector: str, runs: Path) -> int:
    """Run a sector's local recipe; its exit code."""
    command = [sys.executable, "-m", "sectorlm", "run", str(RECIPES / f"{sector}-real.yaml"), "--runs", str(runs)]
    started = time.monotonic()
    code = subprocess.run(command, check=False).returncode
    print(f"{sector}: exit {code} after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return code


def shown(row: Difference) -> str:
    """The cells of one task: base, tuned, difference, interval, p, n."""
    hundred = row.metric in OF_HUNDRED
    scale, places = (100.0, 1) if hundred else (1.0, 3)
    values = [f"{scale * value:.{places}f}" for value in (row.base, row.tuned)]
    apart = [f"{scale * value:+.{places}f}" for value in (row.difference, row.low, row.high)]
    n = f"{row.n}" if row.clusters == row.n else f"{row.n} ({row.clusters})"
    p = "<0.001" if row.p_holm < 0.001 else f"{row.p_holm:.3f}"
    plain = " ".join(f"{name} {scale * value:.{places}f}" for name, value in sorted(row.baselines.items()))
    cells = [row.task, row.metric, *values, apart[0], f"{apart[1]} to {apart[2]}", p, n, plain or "-", row.verdict]
    return " | ".join(cells)


def table(sectors: Iterable[str], runs: Path) -> list[str]:
    """Every task of every sector that was run."""
    lines = [
        "| sector | task | metric | base | tuned | difference | 95 % interval | p | n (apart) | plain baselines | verdict |",
        "|---|---|---|---:|---:|---:|---|---:|---:|---|---|",
    ]
    for sector in sectors:
        comparison = Comparison.read_if_there(RunFolder(runs / f"{sector}-real").report / "comparison.json")
        if comparison is None:
            lines.append(f"| {sector} | not run |" + " |" * 9)
            continue
        lines += [f"| {sector} | {shown(row)} |" for row in (*comparison.differences, *comparison.general)]
    return lines


def overview(sectors: Iterable[str], runs: Path) -> list[str]:
    """One line for each sector: what there is, what was run, what it took."""
    lines = [
        "| sector | public corpora | benchmarks (proxies) | licences | local sources | tokens | steps | training | release |",
        "|---|---:|---:|---|---:|---:|---:|---:|---|",
    ]
    for sector in sectors:
        pack, folder = load_sector(sector), RunFolder(runs / f"{sector}-real")
        corpus = Corpus.read_if_there(folder.corpus / "corpus.json")
        made = Run.read_if_there(folder.run / "run.json")
        recipe = load_recipe(RECIPES / f"{sector}.yaml")
        kinds = sorted({licence_kind(source.licence) for source in recipe.corpora})
        proxies = sum(it.proxy for it in pack.benchmarks)
        cells = [sector, f"{len(pack.corpora)}", f"{len(pack.benchmarks)} ({proxies})", ", ".join(kinds)]
        if corpus is None or made is None:
            cells += ["not run", "", "", "", ""]
        else:
            released = Release.read_if_there(folder.release / "release.json") is not None
            cells += [f"{len(corpus.sources)}", f"{corpus.tokens_train:,}", f"{made.steps}"]
            cells += [f"{made.seconds_training:.0f} s", "made" if released else "refused by its gates"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main(words: list[str]) -> int:
    """Run the sectors named, or all, and print the two tables."""
    named = [word for word in words if not word.startswith("--")]
    runs = HOUSE / "runs"
    wrong = [sector for sector in named if sector not in SECTORS]
    if wrong:
        print(f"no such sector: {', '.join(wrong)}; there are {', '.join(SECTORS)}", file=sys.stderr)
        return 2
    sectors = named or list(SECTORS)
    codes = {} if "--table" in words else {sector: run(sector, runs) for sector in sectors}
    print("\n".join([*overview(sectors, runs), "", *table(sectors, runs)]))
    failed = [sector for sector, code in codes.items() if code not in (0, REFUSED)]
    if failed:
        print(f"did not end well: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
