"""Signatures of releases, with the OpenSSF model-signing library: a key of one's own, no network.

`model.sig` in the release's folder is a Sigstore bundle over the sha256 of every other file. The private key is a PEM file
of an elliptic curve (P-256, P-384 or P-521); its password, if it has one, is read from SECTORLM_KEY_PASSWORD.

    openssl ecparam -name prime256v1 -genkey -noout -out release.key
    openssl ec -in release.key -pubout -out release.pub
"""

from __future__ import annotations

import os
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import RecipeError, StorageError, UnsafeArtefactError
from configs.progress import say
from configs.store import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNATURE = "model.sig"
PASSWORD = "SECTORLM_KEY_PASSWORD"
CACHES = (".cache", ".git", ".gitattributes", ".gitignore")
"""What the hub and its client add to a folder: no part of the release."""


def signer(key: Path) -> Any:
    """Make ready to sign, before any work is done.

    Raises:
        RecipeError: there is no such key, it cannot be read, or it is of another kind.
        StorageError: the library is not installed.
    """
    if not key.is_file():
        raise RecipeError(
            "no such key", where=str(key), hint="`openssl ecparam -name prime256v1 -genkey -noout -out FILE`"
        )
    signing = _library("signing")
    given = os.environ.get(PASSWORD)
    try:
        return signing.Config().use_elliptic_key_signer(private_key=key, password=given.encode() if given else None)
    except Exception as error:  # cryptography raises ValueError, TypeError and kinds of its own
        raise RecipeError(
            f"the private key cannot be used ({_told(error)})",
            where=str(key),
            hint=f"A PEM file of the curves P-256, P-384 or P-521; its password in {PASSWORD}.",
        ) from error


def sign(folder: Path, config: Any) -> None:
    """Sign every file of a release; a signature that is there is replaced in one step.

    Raises:
        StorageError: the signature cannot be written.
    """
    part = folder.with_name(f".{folder.name}.sig.part")
    try:
        config.set_hashing_config(_hashing()).sign(folder, part)
        write_atomic(folder / SIGNATURE, part.read_bytes())
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    say(f"signed: {folder / SIGNATURE}")


def check_signature(folder: Path, key: Path) -> str:
    """Compare a release with its signature.

    Raises:
        RecipeError: the public key cannot be read.
        StorageError: the library is not installed.
        UnsafeArtefactError: there is no signature, it is of another key, or a file is not the one that was signed.
    """
    if not key.is_file():
        raise RecipeError("no such key", where=str(key), hint="Give the public key, a PEM file, of who published it.")
    verifying = _library("verifying")
    if not (folder / SIGNATURE).is_file():
        raise UnsafeArtefactError(
            "the release is not signed",
            where=str(folder),
            hint="Ask who published it for model.sig, or verify without --key.",
        )
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except Exception as error:
        raise RecipeError(f"the public key cannot be used ({_told(error)})", where=str(key)) from error
    try:
        with _silent():
            config.set_hashing_config(_hashing()).verify(folder, folder / SIGNATURE)
    except Exception as error:
        raise UnsafeArtefactError(
            f"the signature does not hold ({_told(error)})",
            where=str(folder / SIGNATURE),
            hint="Do not use this release: it is not what the owner of this key signed.",
        ) from error
    return f"signed by the owner of {key.name}"


def _hashing() -> Any:
    paths = [Path(name) for name in (SIGNATURE, *CACHES)]
    config = _library("hashing").Config().use_file_serialization(hashing_algorithm="sha256")
    return config.set_ignored_paths(paths=paths, ignore_git_paths=False)


def _library(module: str) -> Any:
    try:
        return import_module(f"model_signing.{module}")
    except ImportError as error:
        raise StorageError(
            f"model-signing cannot be used ({_told(error)})", where="--key", hint="pip install -e '.[signing]'"
        ) from error


@contextmanager
def _silent() -> Iterator[None]:
    """The library prints a warning about old signatures on stdout, which is ours."""
    with redirect_stdout(StringIO()):
        yield


def _told(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
