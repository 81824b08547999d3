"""The options that verbs of the command line share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _sectors(typed: str) -> list[str]:
    from configs.recipe import SECTORS

    return [sector for sector in SECTORS if sector.startswith(typed)]


SectorName = Annotated[str, typer.Argument(help="One of the twelve sectors.", autocompletion=_sectors)]
RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe: a YAML file.", show_default=False)]
Sets = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable.")
]
Targets = Annotated[
    list[Path], typer.Argument(metavar="RECIPE | BASE TUNED", help="A recipe, or two scorecard folders.")
]
Push = Annotated[bool, typer.Option("--push", help="Also push to publish.push_to, private by default.")]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where run folders are.")]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Processes; 0 is one for each core.")]
Engine = Annotated[str, typer.Option("--engine", help="processes, or ray: a cluster, or a local one.")]
PartOf = Annotated[str, typer.Option("--part", metavar="I/N", help="Do part I of N, counted from 0, in an array job.")]
KeepDropped = Annotated[bool, typer.Option("--keep-dropped", help="Write the texts that were left out.")]
Standard = Annotated[str, typer.Option("--standard", help="tc609: also write records of TC609-5-2025-02.")]
Trace = Annotated[bool, typer.Option("--trace", help="Walk back to the source files by their hashes.")]
Sample = Annotated[int, typer.Option("--sample", min=0, help="Show this many packed rows of a corpus.")]
Rows = Annotated[str, typer.Option("--rows", help="Show these packed rows of a corpus: 3,17.")]
Find = Annotated[str, typer.Option("--find", help="Where a text or a document is, and which runs saw it.")]
SourceName = Annotated[str, typer.Option("--source", help="Show a source's first records as the model sees them.")]
Processes = Annotated[int, typer.Option("--processes", min=1, help="Processes that train together on this machine.")]
WeightsOnly = Annotated[
    bool, typer.Option("--weights-only", help="Go on from a checkpoint that lost its optimiser state.")
]
Terms = Annotated[Path | None, typer.Option("--terms", metavar="FILE", help="Terms of the sector, one a line.")]
Count = Annotated[int, typer.Option("--count", min=0, help="New tokens to suggest at most.")]
