"""The common head of all records, and when a stage must be done again.

Every record says what it was made from (`settings`, `inputs`), what it vouches for (`files`), and what made it (`made`).
A stage is skipped when a new record would have the same settings and inputs; `changes` names what differs.
"""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import ValidationError

from configs.errors import DataError
from configs.part import Part
from configs.public import public_record
from configs.store import HOUSE, digest_file, digest_json, verify_files, write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

VERSION = "0.1.0"
PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "safetensors", "numpy")
BY_HAND = "It was written by another version or changed by hand. Delete it and run the stage again."
MEASURED = {"made", "seconds", "seconds_training", "tokens_per_second", "peak_memory_bytes"}
"""Fields of records that differ from one making to the next although nothing else does."""


class Made(Part):
    """What made a record: tool, code and packages; stored, never compared when deciding to skip a stage."""

    sectorlm: str
    """Version of SectorLM."""
    code: str
    """sha256 over the stage's source files."""
    packages: dict[str, str]
    """Versions of the packages that can change numbers."""
    python: str
    """Version of Python."""
    machine: str
    """Operating system and processor kind; no host name."""
    finished: str
    """UTC time stamp, ISO 8601."""
    seconds: float
    """Monotonic duration of the stage."""


class Record(Part):
    """The common head of all records."""

    format: Literal[1] = 1
    """Version of this layout."""
    name: str
    """Name of the recipe."""
    settings: dict[str, Any]
    """The part of the recipe that this stage depends on, flat: `train.rank` to 16."""
    inputs: dict[str, str]
    """Everything that was read, label to sha256: source files, base model, the record before."""
    files: dict[str, str]
    """Everything that this record vouches for, relative path to sha256."""
    made: Made
    """What made it."""

    def write(self, path: Path) -> None:
        """Write this record atomically; call it last.

        Raises:
            StorageError: the disk is full, read-only or not there.
        """
        write_atomic(path, self.model_dump_json(indent=1) + "\n")

    def content(self) -> str:
        """sha256 of what this record says, however fast and wherever it was made: how later records name it."""
        return digest_json(public_record(self.model_dump(mode="json", exclude=MEASURED)))

    def public(self) -> Self:
        """The same record without absolute paths of this machine and words of removal requests; its content is the same."""
        return type(self).model_validate_json(json.dumps(public_record(self.model_dump(mode="json"))))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record.

        Raises:
            DataError: there is none, or it is not one of this kind.
        """
        if not path.is_file():
            raise DataError("there is no such record", where=str(path), hint="Run the stage that makes it first.")
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise DataError(
                f"not a {cls.__name__.lower()} record: {key}: {first['msg']}",
                where=str(path),
                hint=BY_HAND,
            ) from error

    @classmethod
    def settings_at(cls, path: Path) -> dict[str, Any]:
        """The settings of any kind of record.

        Raises:
            DataError: it is damaged.
        """
        try:
            return dict(json.loads(path.read_bytes())["settings"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError("not a record of SectorLM", where=str(path), hint=BY_HAND) from error

    @classmethod
    def read_if_there(cls, path: Path) -> Self | None:
        """The record, or None if this stage has not been completed."""
        return cls.read(path) if path.is_file() else None


def made_by(stage: str, started: float) -> Made:
    """What makes this record: call it at the end, with `time.monotonic()` of the start."""
    sources = sorted((HOUSE / stage).glob("*.py"))
    return Made(
        sectorlm=VERSION,
        code=digest_json({path.name: digest_file(path) for path in sources}),
        packages=packages(),
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        seconds=round(time.monotonic() - started, 3),
    )


def packages(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of those packages that are installed; by default of all that can change numbers."""
    return {name: found for name in names if (found := _version(name))}


def stale(record: Record, folder: Path, settings: dict[str, Any], inputs: dict[str, str]) -> list[str]:
    """Why the stage behind `record` must be done again: what it was made from changed, or what it vouches for did."""
    reasons = changes(record, settings, inputs)
    if not reasons:
        try:
            verify_files(folder, record.files)
        except DataError as error:
            reasons = [f"{error.where}: {error.message}"]
    return reasons


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def flat(part: Part, prefix: str) -> dict[str, Any]:
    """A recipe or a part of it as dotted keys: {"train.rank": 16, ...}; members of lists by their name or position."""
    leaves: dict[str, Any] = {}

    def walk(value: Any, key: str) -> None:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                walk(inner, f"{key}.{name}" if key else name)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for position, inner in enumerate(value):
                walk(inner, f"{key}[{inner.get('name', position)}]")
        else:
            leaves[key] = value

    walk(part.model_dump(mode="json"), prefix)
    return leaves


def changes(record: Record, settings: dict[str, Any], inputs: dict[str, str]) -> list[str]:
    """Why a stage must be done again, in words; empty when nothing that matters differs."""
    reasons = []
    for key in sorted(settings.keys() | record.settings.keys()):
        old, new = record.settings.get(key, "unset"), settings.get(key, "unset")
        if old != new:
            reasons.append(f"{key} {old} -> {new}")
    for label in sorted(inputs.keys() | record.inputs.keys()):
        if label not in inputs:
            reasons.append(f"{label} no longer used")
        elif label not in record.inputs:
            reasons.append(f"{label} is new")
        elif inputs[label] != record.inputs[label]:
            reasons.append(f"{label} changed")
    return reasons
