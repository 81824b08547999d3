"""A release on a hub: one commit, seen whole or not at all, listed again and compared.

What is there already is not sent again, so a push that was interrupted is taken up by the same command: large files that
arrived are kept by the hub, unseen, until a commit names them. The token is read from the environment and nowhere else,
and is written nowhere. The local release is complete before anything is sent.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from configs.errors import DataError, PolicyError, SectorLMError, StorageError
from configs.progress import say
from configs.store import crash_point, verify_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from huggingface_hub import HfApi

    from configs.records import Release

T = TypeVar("T")
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Where the token is looked for: the client's names, its file of a log-in left aside."""
WAITS = (1.0, 4.0, 15.0)
"""Seconds before a request that the hub was too busy for is tried again; what the hub asks for counts up to the last."""
BUSY = (429, 500, 502, 503, 504)
SECRET = re.compile(rb"\bhf_[A-Za-z0-9]{20,}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----")
"""Tokens of the hub, and private keys (RFC 7468)."""
RECORD = "release.json"
SIGNATURE = "model.sig"


class Entry(NamedTuple):
    """A file as the hub knows it: its size, and the sha256 of a large file or git's sha1 of another."""

    size: int
    digest: str


def push_release(folder: Path, release: Release, target: str) -> str:
    """Upload what the release vouches for in one commit; a repository that is not there yet is made, private.

    Returns the commit.

    Raises:
        StorageError: there is no token or no network, the hub refuses or does not answer, or holds something else
            afterwards; the local release is complete and the same command goes on.
        DataError: the hub has no such repository or owner, or a file of the release was changed.
        PolicyError: a file of the release holds what looks like a secret.
    """
    token = next((os.environ[name] for name in TOKENS if os.environ.get(name)), "")
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        raise StorageError("the network is turned off", where=target, hint=f"Unset HF_HUB_OFFLINE. {AGAIN}")
    if not token:
        raise StorageError("there is no token for the hub", where=target, hint=f"export HF_TOKEN=... {AGAIN}")
    verify_files(folder, release.files)
    names = [*release.files, RECORD, *([SIGNATURE] if (folder / SIGNATURE).is_file() else [])]
    _refuse_secrets(folder, names, token)
    try:
        return _pushed(folder, names, target, token)
    except SectorLMError:
        raise
    except Exception as error:  # the hub's client, its network library and the disk each raise their own kinds
        raise _refusal(error, target, token) from None  # the chain below may hold the request with its token


AGAIN = "The local release is complete; run the same command again."


def _pushed(folder: Path, names: list[str], target: str, token: str) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)
    _patiently(lambda: api.create_repo(target, private=True, exist_ok=True))
    head = str(_patiently(lambda: api.repo_info(target)).sha)
    there = _listed(api, target, head)
    stale = _vouched_before(api, target, head, there) - {*names}
    changed = [name for name in names if not _is_there(folder / name, there.get(name))]
    if not changed and not stale:
        say(f"{target} holds this release already ({head[:12]})")
        return head
    additions = [CommitOperationAdd(name, folder / name) for name in changed]
    _patiently(lambda: api.preupload_lfs_files(target, additions, free_memory=False))
    crash_point("publish.before_commit")
    operations: list[Any] = [*additions, *(CommitOperationDelete(name) for name in sorted(stale))]
    title = f"SectorLM release {json.loads((folder / RECORD).read_bytes())['name']}"
    commit = _patiently(lambda: api.create_commit(target, operations, commit_message=title, parent_commit=head))
    found = _listed(api, target, commit.oid)
    wrong = [name for name in names if not _is_there(folder / name, found.get(name))]
    if wrong:
        raise StorageError(
            f"the hub does not hold what was pushed: {wrong[0]}" + (f" and {len(wrong) - 1} more" if wrong[1:] else ""),
            where=f"{target}@{commit.oid[:12]}",
            hint=AGAIN,
        )
    say(f"pushed to {target} ({commit.oid[:12]}): {len(changed)} of {len(names)} files, listed again and compared")
    return str(commit.oid)


def _listed(api: HfApi, target: str, commit: str) -> dict[str, Entry]:
    """Every file of a commit."""
    from huggingface_hub.hf_api import RepoFile

    tree = _patiently(lambda: list(api.list_repo_tree(target, recursive=True, revision=commit)))
    return {it.path: Entry(it.size, it.lfs.sha256 if it.lfs else it.blob_id) for it in tree if isinstance(it, RepoFile)}


def _vouched_before(api: HfApi, target: str, commit: str, there: dict[str, Entry]) -> set[str]:
    """Files there that an earlier release brought; what others added to the repository stays."""
    if RECORD not in there:
        return set()
    with TemporaryDirectory() as place:
        path = _patiently(lambda: api.hf_hub_download(target, RECORD, revision=commit, cache_dir=place))
        try:
            return {*json.loads(Path(path).read_bytes())["files"], SIGNATURE} & there.keys()
        except (OSError, ValueError, KeyError):
            return set()


def _is_there(path: Path, entry: Entry | None) -> bool:
    if entry is None or entry.size != path.stat().st_size:
        return False
    if len(entry.digest) == 64:  # sha256: a large file
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.digest
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == entry.digest


def _patiently(request: Callable[[], T]) -> T:
    """Ask; where the hub is too busy, ask again after a while, a few times."""
    for wait in (*WAITS, None):
        try:
            return request()
        except Exception as error:
            response = getattr(error, "response", None)
            busy = getattr(response, "status_code", None) in BUSY or (response is None and _is_of_network(error))
            if wait is None or not busy:
                raise
            asked = str(response.headers.get("Retry-After", "")) if response is not None else ""
            time.sleep(min(float(asked), WAITS[-1]) if asked.isdigit() else wait)
    raise AssertionError  # the last turn returns or raises


def _is_of_network(error: Exception) -> bool:
    return isinstance(error, ConnectionError | TimeoutError) or any(
        kind.__name__ in ("TransportError", "NetworkError", "TimeoutException") for kind in type(error).__mro__
    )


def _refuse_secrets(folder: Path, names: list[str], token: str) -> None:
    """Nothing that looks like a token or a private key leaves this machine.

    Raises:
        PolicyError: a file holds one.
    """
    for name in names:
        path = folder / name
        if path.suffix in (".safetensors", ".gguf"):
            continue
        content = path.read_bytes()
        if token.encode() in content or SECRET.search(content):
            raise PolicyError(
                f"{name} holds what looks like a token or a private key: nothing was pushed",
                where=str(folder),
                hint="Take it out of the recipe or the data, revoke it, and publish again.",
            )


def _refusal(error: Exception, target: str, token: str) -> SectorLMError:
    """Our error for what the hub's client raises, by status; the token stands in none of them."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0].replace(token, "***")
    said = f"the push failed ({type(error).__name__}: {first})"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        hint = f"HF_TOKEN is not valid there, or may not write: make one with write access. {AGAIN}"
        return StorageError(said, where=target, hint=hint)
    if status == 404:
        return DataError(said, where=target, hint=f"Check publish.push_to: ORG/NAME. {AGAIN}")
    if status in (409, 412):
        return StorageError(said, where=target, hint=f"Somebody else wrote there meanwhile. {AGAIN}")
    if status == 429:
        return StorageError(said, where=target, hint=f"The hub asks to wait some minutes. {AGAIN}")
    return StorageError(said, where=target, hint=f"Check the network with `sectorlm doctor`. {AGAIN}")
