"""The verbs about releases: is this one what was published, and does it come out again? And the canaries to plant.

A part of the front door, and as light: nothing is imported before a verb needs it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from configs import options as opt
from configs.answer import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer


def of_releases(app: typer.Typer) -> None:
    """Add the verbs about releases."""
    for verb in (verify, reproduce, canaries):
        app.command()(verb)


def verify(release: opt.ReleaseFolder, key: opt.PublicKey = None, data: opt.SourceFolders = opt.NO_FOLDERS) -> Answer:
    """Check a release's files, its signature, and the chain of its records back to corpus and recipe; anywhere.

    Example: sectorlm verify finance-release --key publisher.pub
    """
    from training.verify import verify as looked_at

    found = looked_at(release, key, _roots(data))
    return Answer([it._asdict() for it in found], [f"{it.what}: {it.found}" for it in found])


def reproduce(
    release: opt.ReleaseFolder,
    data: opt.SourceFolders = opt.NO_FOLDERS,
    runs: opt.Reproduced = Path("reproduced"),
) -> Answer:
    """Make a release's corpus, weights and scores again from its recipe, and say what differs, field by field.

    Example: sectorlm reproduce finance-release --data corpora
    """
    from training.reproduce import reproduce as again

    found = again(release, data, runs)
    return Answer(found.as_json(), found.shown())


def canaries(
    file: opt.CanaryFile, count: opt.Canaries = 8, seed: opt.CanarySeed = 17, force: opt.Force = False
) -> Answer:
    """Write canaries, made-up secrets to plant among the training data, and show the source to add to the recipe.

    Example: sectorlm canaries canaries.jsonl --count 8
    """
    from configs.canaries import canaries as made
    from configs.errors import RecipeError
    from configs.store import write_atomic

    if file.exists() and not force:
        raise RecipeError("the file is there already", where=str(file), hint="Give --force to replace it.")
    write_atomic(file, "".join(json.dumps(it._asdict()) + "\n" for it in made(seed, count)))
    source = '- {name: canaries, path: %s, prompt: "{{ prompt }}", answer: "{{ answer }}", licence: own}' % file.name  # noqa: UP031
    told = [f"wrote {count} canaries to {file}", "add to corpora:", f"  {source}", "and to the recipe:"]
    told.append("  publish: {audit: {canaries: canaries}}")
    return Answer({"file": str(file), "source": source}, told)


def _roots(data: Sequence[Path]) -> tuple[Path, ...]:
    """Where files of a release are looked for: the folders that were given, here, and SectorLM itself."""
    from configs.store import HOUSE

    return (*(folder.resolve() for folder in data), Path.cwd(), HOUSE, HOUSE / "configs" / "tasks")
