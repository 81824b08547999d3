"""The options that verbs of the command line share, each said once, and the switches of all verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NO_SETS: list[str] = []
NO_FOLDERS: list[Path] = []
RUNS = Path("runs")
"""Where run folders are, unless --runs says otherwise."""


def _sectors(typed: str) -> list[str]:
    from configs.recipe import SECTORS

    return [sector for sector in SECTORS if sector.startswith(typed)]


def _version(asked: bool) -> None:
    if asked:
        from configs.answer import put
        from configs.records import VERSION

        put(f"sectorlm {VERSION}")
        raise typer.Exit


SectorName = Annotated[str, typer.Argument(help="One of the twelve sectors.", autocompletion=_sectors)]
RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe: a YAML file.", show_default=False)]
RecipeOrCorpus = Annotated[
    Path, typer.Argument(metavar="RECIPE | CORPUS", help="A recipe, or a corpus in its run folder.", show_default=False)
]
Models = Annotated[
    list[str],
    typer.Argument(metavar="MODEL...", help="Folders, hub ids, BASE+ADAPTER, runs/NAME, or http://HOST/v1#NAME."),
]
Tasks = Annotated[str, typer.Option("--tasks", metavar="A,B", help="Names of tasks, or paths of task files.")]
DataFolders = Annotated[
    list[Path], typer.Option("--data", metavar="DIR", help="Folder of the tasks' files; repeatable.")
]
WithAdapters = Annotated[
    list[Path], typer.Option("--adapter", metavar="DIR", help="Score the model with this adapter too; repeatable.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most this many items of each task, by hash.")]
Shots = Annotated[int | None, typer.Option("--shots", min=0, max=32, help="Worked examples; left out: the task's.")]
Cards = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the scorecards go, a folder for each model.")]
Chat = Annotated[bool, typer.Option("--chat", help="Ask by the model's chat template.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Chooses items, worked examples and resamples.")]
ScoreEngine = Annotated[str, typer.Option("--engine", help="here, or vllm: texts only, on a GPU (extra vllm).")]
TokenizerOf = Annotated[
    str, typer.Option("--tokenizer", metavar="MODEL", help="Folder or hub id of the tokenizer of a server's model.")
]
Sets = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable.")
]
Targets = Annotated[
    list[Path],
    typer.Argument(metavar="RECIPE | BASE TUNED...", help="A recipe, or scorecard folders; the first is the baseline."),
]
Reported = Annotated[
    list[Path],
    typer.Argument(metavar="RUN | SCORECARD ...", help="A run, or many runs, scorecards or folders of runs."),
]
REPORT = Path("report.html")
Page = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="The page; a comparison as Markdown if it ends in .md.")
]
Lang = Annotated[str, typer.Option("--lang", metavar="en|zh", help="Language of the report.")]
Baseline = Annotated[str, typer.Option("--baseline", metavar="ROW", help="Row that a leaderboard compares with.")]
Push = Annotated[bool, typer.Option("--push", help="Also push to publish.push_to, private by default.")]
Accept = Annotated[
    list[str], typer.Option("--accept", metavar="GATE=REASON", help="A gate that need not be met; repeatable.")
]
PrivateKey = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Sign with this key (PEM, EC).")]
PublicKey = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Public key of who signed it (PEM).")]
SourceFolders = Annotated[
    list[Path], typer.Option("--data", metavar="DIR", help="Where source files and the base may lie; repeatable.")
]
Reproduced = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where the reproduction goes.")]
CanaryFile = Annotated[Path, typer.Argument(metavar="FILE", help="The JSON Lines file to write.")]
Canaries = Annotated[int, typer.Option("--count", min=1, max=10_000, help="How many.")]
CanarySeed = Annotated[int, typer.Option("--seed", min=0, help="Other canaries for another number.")]
ReleaseFolder = Annotated[Path, typer.Argument(metavar="RELEASE", help="The folder of a release.")]
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
Adapters = Annotated[
    list[Path], typer.Argument(metavar="A B ...", help="Runs of the sites (runs/NAME, its run/ folder) or releases.")
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the merged run goes, such as runs/NAME/run.")]
Rank = Annotated[int, typer.Option("--rank", min=0, help="Cut the sum to this rank and print the error; 0: exact.")]
Weights = Annotated[str, typer.Option("--weights", help="tokens, equal, or one number for each: 0.2,0.3,0.5.")]
Gpu = Annotated[str, typer.Option("--gpu", help="A card by name (h100, a100-80, l4 ...); left out: this machine.")]
AnyGpu = Annotated[
    str, typer.Option("--gpu", help="A card by name (h100, l4 ...); left out: any card (SkyPilot: H100).")
]
Gpus = Annotated[int, typer.Option("--gpus", min=1, help="Number of cards.")]
Price = Annotated[float | None, typer.Option("--price", min=0, help="US dollars per hour of one card.")]
Probe = Annotated[bool, typer.Option("--probe", help="Train a few steps on the worst batch here, and compare.")]
Target = Annotated[str, typer.Option("--to", help="slurm, kubernetes or skypilot.")]
Nodes = Annotated[int, typer.Option("--nodes", min=1, help="Number of machines.")]
GpusPerNode = Annotated[int, typer.Option("--gpus", min=1, help="Cards in each machine.")]
TimeLimit = Annotated[str, typer.Option("--time", metavar="[D-]HH:MM:SS", help="Longest time of one job.")]
OutFolder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write into.")]
Image = Annotated[str, typer.Option("--image", help="Container image with SectorLM installed.")]
Claim = Annotated[str, typer.Option("--volume", help="Kubernetes: claim of the volume that holds recipe and runs.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, errors included; no progress.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no progress.")]
Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]
Terms = Annotated[Path | None, typer.Option("--terms", metavar="FILE", help="Terms of the sector, one a line.")]
Count = Annotated[int, typer.Option("--count", min=0, help="New tokens to suggest at most.")]
Scorecards = Annotated[
    list[Path],
    typer.Argument(metavar="RUN | SCORECARD ...", help="Run folders or scorecard folders; for tasks: a recipe."),
]
ExportForm = Annotated[str, typer.Option("--to", help="lm-eval, model-index, csv, parquet, or tasks.")]
Judge = Annotated[str, typer.Option("--engine", help="sectorlm, or lm-eval: through lm-evaluation-harness.")]
OwnTasks = Annotated[
    list[str],
    typer.Option("--tasks", metavar="NAME | FILE", help="With lm-eval: tasks of its own instead; repeatable."),
]
AllowedCode = Annotated[
    list[str],
    typer.Option("--allow-code", metavar="TASK", help="Let this task run the Python code it names; repeatable."),
]
