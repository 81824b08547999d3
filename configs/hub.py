"""Data sets of the Hugging Face hub, streamed: `hf:org/name[:config][@revision][!files]`. Plain data only, never their code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from configs.errors import DataError, RecipeError, SectorLMError, StorageError, UnsafeArtefactError
from configs.progress import say
from configs.read import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from configs.reading import Reading

HUB = "hf:"
PATH = re.compile(r"(?:hf:)?([\w.-]+/[\w.-]+|[\w.-]+)(?::([\w.+-]+))?(?:@([\w./-]+))?(?:!(.+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
RETRIES, RETRY_SECONDS = 4, 2
"""How often and after what pause a broken stream is taken up again; `datasets` would wait 20 times 5 seconds."""


class HubPath(NamedTuple):
    """The parts of a path on the hub."""

    name: str
    config: str | None
    revision: str | None
    files: str | None = None
    """Glob of the files that are read, where the data set holds more: `english/high/*.parquet`."""


def hub_path(path: str) -> HubPath:
    """Take a path on the hub apart.

    >>> hub_path("hf:org/name:en@v1.0")
    HubPath(name='org/name', config='en', revision='v1.0', files=None)

    Raises:
        RecipeError: it is no such path.
    """
    found = PATH.fullmatch(path)
    if found is None:
        raise RecipeError(
            "not a data set of the hub", where=path, hint="The form is hf:org/name[:config][@revision][!files]."
        )
    return HubPath(*found.groups())


def hub_rows(path: str, reading: Reading) -> Iterator[Row]:
    """The rows of a data set's training split, or of the files named, one at a time.

    `where` is `hf:org/name@revision:NUMBER`.

    A revision that is not a commit may change: the commit that it means now is said, to be written down.

    Raises:
        RecipeError: `path` has not the form `hf:org/name[:config][@revision][!files]`.
        StorageError: there is no network, the hub does not answer, or it wants a log-in.
        DataError: there is no such data set, configuration or split.
        UnsafeArtefactError: the data set needs code of its own to be read.
    """
    import datasets

    wanted = hub_path(path)
    datasets.config.STREAMING_READ_MAX_RETRIES, datasets.config.STREAMING_READ_RETRY_INTERVAL = RETRIES, RETRY_SECONDS
    try:
        commit = _commit(wanted)
        files = {"train": wanted.files} if wanted.files else None
        stream = datasets.load_dataset(
            wanted.name, wanted.config, data_files=files, split="train", revision=commit, streaming=True
        )
        reading.files += 1
        label = f"{HUB}{wanted.name}{f':{wanted.config}' if wanted.config else ''}@{commit[:12]}"
        for number, fields in enumerate(stream, 1):
            reading.rows += 1
            yield Row(fields, f"{label}:{number}")
    except SectorLMError:
        raise
    except Exception as error:  # datasets, fsspec, httpx and huggingface_hub each raise their own kinds
        raise _refusal(error, path) from error


def _commit(wanted: HubPath) -> str:
    """The commit that a revision means, asked of the hub unless it is one already."""
    from huggingface_hub import HfApi

    if wanted.revision and COMMIT.fullmatch(wanted.revision):
        return wanted.revision
    commit = str(HfApi().dataset_info(wanted.name, revision=wanted.revision, timeout=20).sha)
    given = f"{wanted.revision} is no fixed revision" if wanted.revision else "no revision is given"
    say(
        f"warning: {HUB}{wanted.name}: {given}, so that the data may change from run to run; this run reads "
        f"{commit}. Pin it in the recipe: path: {HUB}{wanted.name}{f':{wanted.config}' if wanted.config else ''}@{commit}"
    )
    return commit


def _refusal(error: Exception, path: str) -> SectorLMError:
    """Our error for what the hub's clients raise, told by status or by name: their classes differ from place to place."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    told = f"the data set cannot be read from the hub ({reason})"
    status = getattr(getattr(error, "response", None), "status_code", None)
    kind = type(error).__name__
    if "script" in reason and "no longer supported" in reason:
        return UnsafeArtefactError(
            "the data set needs code of its own to be read, which is never run",
            where=path,
            hint="Convert it to parquet.",
        )
    if status in (401, 403) or kind == "GatedRepoError":
        return StorageError(told, where=path, hint="Accept its terms on the hub and log in: `hf auth login`.")
    if status == 429:
        return StorageError(told, where=path, hint="The hub asks to wait: run the same command again in a few minutes.")
    if status is None and "Offline" in kind:
        return StorageError(told, where=path, hint="Unset HF_HUB_OFFLINE, or download the files and give their path.")
    if status == 404 or kind in ("DatasetNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError"):
        return DataError(told, where=path, hint="Check its name and revision; a private one needs `hf auth login`.")
    if isinstance(error, ValueError) or "Config" in kind or "DataFiles" in kind:
        return DataError(told, where=path, hint="Name a configuration, hf:org/name:CONFIG, that has a train split.")
    return StorageError(told, where=path, hint="Check the network with `sectorlm doctor`, or give local files.")
