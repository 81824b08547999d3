"""Is this release what was published? Its files, its signature, and the chain of records back to corpus and recipe.

Nothing of the run folder is needed: the records travel with the release. What of the chain lies on this machine is said.
"""

from __future__ import annotations

import fnmatch
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.base import PICKLES
from configs.errors import DataError, SectorLMError, UnsafeArtefactError
from configs.job import find_files
from configs.records import Comparison, Corpus, Record, Release, Run, Scorecard
from configs.store import HOUSE, digest_file
from training.signing import CACHES, SIGNATURE, check_signature

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CODE = ("*.py", "*.pyc", "*.so", "*.sh")
"""What could run, beside the pickles: none of it belongs to weights."""
SUMS = "SHA256SUMS"
SOURCE = "corpus file "
"""Stands before the labels of source files."""
CHAIN: dict[str, tuple[str, type[Record]]] = {
    "run": ("run.json", Run),
    "corpus": ("records/corpus.json", Corpus),
    "comparison": ("records/comparison.json", Comparison),
    "scorecard base": ("records/base/scorecard.json", Scorecard),
    "scorecard tuned": ("records/tuned/scorecard.json", Scorecard),
}
"""What later records call an earlier one, and where it lies in a release."""


class Check(NamedTuple):
    """One thing that was looked at."""

    what: str
    found: str


def verify(folder: Path, key: Path | None = None, roots: Sequence[Path] = (HOUSE,)) -> list[Check]:
    """Compare a release with what it vouches for, with its signature, and its records with one another.

    `roots` are folders in which the files that it was made from may lie.

    Raises:
        DataError: no release, a file is missing, changed or not vouched for, or a record is not the one that is named.
        UnsafeArtefactError: something that could run code, or the signature does not hold.
        RecipeError, StorageError: the key or the library for signatures cannot be used.
    """
    release = Release.read(folder / "release.json")
    checks = [_files(folder, release)]
    if key is not None:
        checks.append(Check("signature", check_signature(folder, key)))
    elif (folder / SIGNATURE).is_file():
        checks.append(Check("signature", f"there is one, not checked: give the public key with --key ({SIGNATURE})"))
    else:
        checks.append(Check("signature", "none: the hashes show damage, not who made the release"))
    checks += _chain(folder, release)
    checks += [_sources(folder, roots), _recipe(folder)]
    if release.accepted:
        checks.append(Check("gates", f"accepted although not met: {', '.join(release.accepted)}"))
    return checks


def _files(folder: Path, release: Release) -> Check:
    """Raises: DataError, UnsafeArtefactError: as `verify`; all that is wrong in one message."""
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() or path.is_symlink()}
    own = {"release.json", SIGNATURE}
    strange = {name for name in there - release.files.keys() - own if name.partition("/")[0] not in CACHES}
    unsafe = sorted(name for name in strange if any(fnmatch.fnmatch(name, kind) for kind in (*PICKLES, *CODE)))
    if unsafe:
        raise UnsafeArtefactError(
            f"{unsafe[0]} could run code when it is opened, and the release does not vouch for it",
            where=str(folder),
            hint="Do not load this folder. Remove the file, or fetch the release again.",
        )
    wrong = [f"{name} is missing" for name in release.files if name not in there]
    wrong += [
        f"{name}: bytes differ from the sha256 in release.json"
        for name, digest in release.files.items()
        if name in there and digest_file(folder / name) != digest
    ]
    wrong += [f"{name} is not part of the release" for name in sorted(strange)]
    wrong += _sums(folder, release)
    if wrong:
        raise DataError(
            "this is not the release that was published:\n    " + "\n    ".join(wrong),
            where=str(folder),
            hint="Fetch it again from where it was published.",
        )
    return Check("files", f"all {len(release.files)} are as release.json says")


def _sums(folder: Path, release: Release) -> list[str]:
    """SHA256SUMS says the same as release.json, of every file but itself."""
    path = folder / SUMS
    if not path.is_file():
        return []
    listed = {
        name: digest for digest, _, name in (line.partition("  ") for line in path.read_text("utf-8").splitlines())
    }
    expected = {name: digest for name, digest in release.files.items() if name != SUMS}
    return [] if listed == expected else [f"{SUMS} and release.json say different things"]


def _chain(folder: Path, release: Release) -> list[Check]:
    """From the release to the corpus: each record is the one that a later one names by its content.

    Raises:
        DataError: one is not.
    """
    records: dict[str, Record] = {"release": release}
    for name, (place, kind) in CHAIN.items():
        if (folder / place).is_file():
            records[name] = kind.read(folder / place)
    digests = {name: record.content() for name, record in records.items()}
    found = []
    for name, record in records.items():
        for label, digest in record.inputs.items():
            if label in digests and digests[label] != digest:
                raise DataError(
                    f"the {label} that {name} was made from ({digest[:12]}) is not the one in this release "
                    f"({digests[label][:12]})",
                    where=str(folder),
                    hint="The records were mixed up: fetch the release again, or publish it again.",
                )
        named = [label for label in record.inputs if label in digests]
        if named:
            found.append(Check(f"{name} was made from", ", ".join(f"{label} {digests[label][:12]}" for label in named)))
    missing = [name for name in CHAIN if name not in records]
    if missing:
        found.append(Check("not in this release", ", ".join(missing)))
    found += _weights(folder, release, records)
    return found


def _weights(folder: Path, release: Release, records: dict[str, Record]) -> list[Check]:
    """The weights are those that the run made, and the scores are about them.

    Raises:
        DataError: they are others.
    """
    run, tuned = records.get("run"), records.get("scorecard tuned")
    if not isinstance(run, Run):
        return []
    weights = {
        name.partition("/")[2]: digest for name, digest in run.files.items() if name.startswith(f"{run.weights}/")
    }
    others = [name for name, digest in weights.items() if release.files.get(name) != digest]
    if others:
        raise DataError(f"{others[0]} is not what the run made", where=str(folder), hint="Publish the run again.")
    measured = tuned.inputs.get("tuned weights") if tuned else run.weights_digest
    if measured != run.weights_digest:
        raise DataError(
            f"the scores are of other weights ({str(measured)[:12]}) than the run's ({run.weights_digest[:12]})",
            where=str(folder / CHAIN["scorecard tuned"][0]),
        )
    return [Check("weights", f"those of the run, and of the scores ({run.weights_digest[:12]})")]


def sources(folder: Path, roots: Sequence[Path]) -> dict[str, tuple[str, str]]:
    """The source files of a release's corpus: each with what is known of it here, `matches`, `changed` or `not here`, and
    its path.
    """
    corpus = Corpus.read_if_there(folder / CHAIN["corpus"][0])
    found = {}
    for label, digest in (corpus.inputs if corpus else {}).items():
        if not label.startswith(SOURCE):
            continue
        name = label.removeprefix(SOURCE)
        state, place = "not here", ""
        for root in roots:
            with suppress(SectorLMError, OSError, ValueError):
                path = find_files(name, (root,))[0]
                state, place = ("matches" if digest_file(path) == digest else "changed"), str(path)
            if state == "matches":
                break
        found[name] = (state, place)
    return found


def _sources(folder: Path, roots: Sequence[Path]) -> Check:
    found = sources(folder, roots)
    told = ", ".join(
        f"{count} {state}"
        for state in ("matches", "changed", "not here")
        if (count := sum(it[0] == state for it in found.values()))
    )
    return Check("source files", f"{len(found)}, each named with its sha256; on this machine: {told or 'none'}")


def _recipe(folder: Path) -> Check:
    """Raises: DataError: the recipe in the release cannot be read."""
    path = folder / "recipe.json"
    try:
        tree: dict[str, Any] = json.loads(path.read_bytes())
        return Check(
            "recipe", f"{tree['name']}: {len(tree['corpora'])} sources, base {tree['base']}, seed {tree['seed']}"
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("there is no recipe in this release", where=str(path)) from error
