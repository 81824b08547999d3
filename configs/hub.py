"""Data sets of the Hugging Face hub, streamed: `hf:org/name[:config][@revision][!files]`. Plain data only, never their code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.errors import DataError, RecipeError, SectorLMError, StorageError, UnsafeArtefactError
from configs.progress import say
from configs.read import Row, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from configs.reading import Reading

HUB = "hf:"
PATH = re.compile(r"(?:hf:)?([\w.-]+/[\w.-]+|[\w.-]+)(?::([\w.+-]+))?(?:@([\w./-]+))?(?:!(.+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
EXPORT = "refs/convert/parquet"
"""The branch where the hub keeps its own conversion of a data set, CONFIG/SPLIT/*.parquet; it has no configurations."""
FORMS: dict[str, tuple[str, dict[str, str]]] = {
    "parquet": ("parquet", {}),
    "json": ("json", {}),
    "jsonl": ("json", {}),
    "csv": ("csv", {}),
    "tsv": ("csv", {"delimiter": "\t"}),
    "txt": ("text", {}),
}
"""Ending of a file to the loader of `datasets` for it, and what the loader is told."""
PACKED = (".gz", ".zst", ".bz2", ".xz")
RETRIES, RETRY_SECONDS = 4, 2
"""How often and after what pause a broken stream is taken up again; `datasets` would wait 20 times 5 seconds."""


class HubPath(NamedTuple):
    """The parts of a path on the hub."""

    name: str
    config: str | None
    revision: str | None
    files: str | None = None
    """Glob of the files that are read, where the data set holds more or a program beside them: `english/high/*.parquet`."""


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
        stream = _opened(wanted._replace(revision=commit), "train", streaming=True)
        reading.files += 1
        label = f"{HUB}{wanted.name}{f':{wanted.config}' if wanted.config else ''}@{commit[:12]}"
        for number, fields in enumerate(stream, 1):
            reading.rows += 1
            yield Row(fields, f"{label}:{number}")
    except SectorLMError:
        raise
    except Exception as error:  # datasets, fsspec, httpx and huggingface_hub each raise their own kinds
        raise refusal(error, path) from error


def hub_split(wanted: HubPath, split: str) -> Iterator[dict[str, Any]]:
    """The rows of one split, whole: what a benchmark is read from.

    With the revision `refs/convert/parquet`, the hub's own conversion is read by the names of its files; where the hub
    keeps none, the data set itself, if it is plain data by now.

    Raises:
        StorageError: there is no network, the hub does not answer, or it wants a log-in.
        DataError: there is no such data set, revision, configuration or split.
        UnsafeArtefactError: the data set needs code of its own to be read.
    """
    try:
        rows = _converted(wanted, split) if wanted.revision == EXPORT else None
        if rows is None:
            plain = wanted._replace(revision=None) if wanted.revision == EXPORT else wanted
            _knock(plain)
            rows = iter(_opened(plain, split, streaming=False))
        yield from rows
    except SectorLMError:
        raise
    except Exception as error:  # as above
        raise refusal(error, f"{HUB}{wanted.name}{f':{wanted.config}' if wanted.config else ''}") from error


def _converted(wanted: HubPath, split: str) -> Iterator[dict[str, Any]] | None:
    """The rows of a split in the hub's conversion, which stays in the cache; None where the hub keeps no conversion.

    Raises:
        DataError: the conversion has no such configuration or split.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RevisionNotFoundError

    part = f"{wanted.config or 'default'}/{split}"
    try:
        folder = snapshot_download(
            wanted.name, repo_type="dataset", revision=EXPORT, allow_patterns=f"{part}/*.parquet"
        )
    except RevisionNotFoundError:
        say(f"note: the hub keeps no conversion of {wanted.name} any more; the data set itself is read")
        return None
    files = sorted(Path(folder, part).glob("*.parquet"))
    if not files:
        hint = "Check its configurations and splits on its page."
        raise DataError(f"no {part} in the hub's conversion of the data set", where=f"{HUB}{wanted.name}", hint=hint)
    return (row.fields for row in read_rows(files))


def _knock(wanted: HubPath) -> None:
    """Ask the hub for a data set, so that one that refuses says so at once: `datasets` would try for half a minute.

    Without a network nothing is raised: what is in the cache may do.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().dataset_info(wanted.name, revision=wanted.revision, timeout=20)
    except HfHubHTTPError:
        raise
    except Exception:  # a folder, no network, offline: each its own kind
        return


def _opened(wanted: HubPath, split: str, *, streaming: bool) -> Iterable[dict[str, Any]]:
    """A split as `datasets` opens it. Files that are named are read as what they are, whatever else lies beside them."""
    import datasets

    ending = (wanted.files or "").removesuffix(next((it for it in PACKED if (wanted.files or "").endswith(it)), ""))
    form, how = FORMS.get(ending.rpartition(".")[2], ("", {}))
    if form and wanted.config is None:
        _listed(wanted)
        files = f"hf://datasets/{wanted.name}@{wanted.revision}/{wanted.files}"
        return datasets.load_dataset(form, data_files={split: files}, split=split, streaming=streaming, **how)  # type: ignore[no-any-return]
    place: dict[str, Any] = {"data_files": {split: wanted.files} if wanted.files else None, "revision": wanted.revision}
    return datasets.load_dataset(wanted.name, wanted.config, split=split, streaming=streaming, **place)  # type: ignore[no-any-return]


def _listed(wanted: HubPath) -> None:
    """See that the data set has files of the names that are asked for; `datasets` says nothing of use where it has none.

    Raises:
        DataError: it has none.
    """
    from fsspec.utils import glob_translate  # type: ignore[import-untyped]
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError

    glob = wanted.files or ""
    folder = re.split(r"[*?\[{]", glob)[0].rpartition("/")[0]
    try:
        listed = HfApi().list_repo_tree(
            wanted.name, folder or None, recursive=True, revision=wanted.revision, repo_type="dataset"
        )
        if any(re.match(glob_translate(glob), it.path) for it in listed):
            return
    except EntryNotFoundError:
        pass  # no such folder
    raise DataError(
        f"the data set has no file {glob}",
        where=f"{HUB}{wanted.name}@{wanted.revision}",
        hint="Check the names of its files on its page.",
    )


def _commit(wanted: HubPath) -> str:
    """The commit that a revision means, asked of the hub; what is no commit already may change, which is said."""
    from huggingface_hub import HfApi

    commit = str(HfApi().dataset_info(wanted.name, revision=wanted.revision, timeout=20).sha)
    if wanted.revision and COMMIT.fullmatch(wanted.revision):
        return wanted.revision
    given = f"{wanted.revision} is no fixed revision" if wanted.revision else "no revision is given"
    config, files = (f":{wanted.config}" if wanted.config else ""), (f"!{wanted.files}" if wanted.files else "")
    say(
        f"warning: {HUB}{wanted.name}: {given}, so that the data may change from run to run; this run reads "
        f"{commit}. Pin it in the recipe: path: {HUB}{wanted.name}{config}@{commit}{files}"
    )
    return commit


def refusal(error: BaseException, path: str, what: str = "the data set") -> SectorLMError:
    """Our error for what the hub's clients raise, told by status or by name: their classes differ from place to place."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    told = f"{what} cannot be read from the hub ({reason})"
    chain = list(_chain(error))
    statuses = [getattr(getattr(each, "response", None), "status_code", None) for each in chain]
    status = next((each for each in statuses if each is not None), None)
    kinds = {type(each).__name__ for each in chain}
    if "script" in reason and "no longer supported" in reason:
        return UnsafeArtefactError(
            "the data set needs code of its own to be read, which is never run",
            where=path,
            hint="Name its files, hf:org/name!data/*.json.gz, or convert it to parquet.",
        )
    if status in (401, 403) or "GatedRepoError" in kinds or "gated dataset" in reason:
        return StorageError(told, where=path, hint="Accept its terms on the hub and log in: `hf auth login`.")
    if status == 429:
        return StorageError(told, where=path, hint="The hub asks to wait: run the same command again in a few minutes.")
    if status is None and any("Offline" in kind for kind in kinds):
        return StorageError(told, where=path, hint="Unset HF_HUB_OFFLINE, or download the files and give their path.")
    if status == 404 or kinds & {"DatasetNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError"}:
        return DataError(told, where=path, hint="Check its name and revision; a private one needs `hf auth login`.")
    if "LocalEntryNotFoundError" in kinds:
        return StorageError(told, where=path, hint="It is not in the cache. Check the network with `sectorlm doctor`.")
    if isinstance(error, ValueError) or any("Config" in kind or "DataFiles" in kind for kind in kinds):
        return DataError(told, where=path, hint="Name a configuration, hf:org/name:CONFIG, that has a train split.")
    return StorageError(told, where=path, hint="Check the network with `sectorlm doctor`, or give local files.")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from: `datasets` says of a locked door only that there is no house."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
