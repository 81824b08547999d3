"""The five records. A record is written last, so its existence means: this stage is complete.

Every record says what it was made from (`settings`, `inputs`), what it vouches for (`files`), and what made it (`made`).
A stage is skipped when a new record would have the same settings and inputs; `changes` names what differs.
Following `inputs` backwards from a scorecard answers "which documents made this number?".

    runs/NAME/corpus/corpus.json           tokens.bin supervised.bin segments.npy documents.parquet dropped.jsonl
    runs/NAME/run/run.json                 adapter/ (or model/) metrics.jsonl checkpoints/
    runs/NAME/scorecards/{base,tuned}/scorecard.json    answers.jsonl
    runs/NAME/report/comparison.json       report.html report.md
    runs/NAME/release/release.json         adapter/ merged/ README.md ...

Corpus files, all little-endian and memory-mappable:
    tokens.bin      `token_dtype` (uint16 or uint32), every token of every kept document, end marks included
    supervised.bin  uint8 of the same length, 1 where the token is a target of the loss
    segments.npy    int64 [S, 4] = (row, start, length, source): row r holds its segments side by side; rows
                    0..rows_train-1 are training, the next rows_validation are validation. A segment is one document
                    or a piece of one; its first token is context only. Pieces of a split document overlap by that one
                    token, so that every token but a document's first is a target exactly once per pass.
"""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, ValidationError

from configs.errors import DataError
from configs.recipe import Part
from configs.store import HOUSE, digest_file, digest_json, verify_files, write_atomic

if TYPE_CHECKING:
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
        return digest_json(self.model_dump(mode="json", exclude=MEASURED))

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


class SourceLedger(Part):
    """Every document and token of one source, accounted for: rows = kept + all that was refused, dropped or not selected."""

    name: str
    channel: str
    licence: str
    origin: str = ""
    language: tuple[str, ...] = ()
    grade: str = "general"
    files: int = 0
    encodings: dict[str, int] = Field(default_factory=dict)
    rows: int = 0
    """Records found in the files."""
    refused: dict[str, int] = Field(default_factory=dict)
    """Records that could not be read, by reason."""
    dropped: dict[str, int] = Field(default_factory=dict)
    """Documents that were read and left out, by reason (`duplicate`, `leak:TASK`, `too short`, `not selected` ...)."""
    mended: dict[str, int] = Field(default_factory=dict)
    """Documents that were repaired in place, by what (`line ends`, `control characters`, `not in NFC`)."""
    documents: int = 0
    """Documents kept, training and validation together."""
    characters: int = 0
    tokens: int = 0
    """Tokens kept, training and validation together, each counted once however often it is repeated."""
    supervised: int = 0
    truncated: int = 0
    """Tokens lost to `overlong: truncate`."""
    tokens_train: int = 0
    """Tokens of one pass over the training rows, repeats included."""
    tokens_validation: int = 0
    repeats: float = 1.0
    """Passes over this source per pass over the training rows."""


class Corpus(Record):
    """Prepared tokens, and a ledger in which every document and every token is accounted for."""

    sector: str
    tokenizer: str
    """Fingerprint of the tokenizer (configs.base.tokenizer_digest)."""
    vocabulary: int
    token_dtype: Literal["uint16", "uint32"]
    sequence_length: int
    sources: tuple[SourceLedger, ...]
    documents: int
    tokens: int
    """Length of tokens.bin."""
    rows_train: int
    rows_validation: int
    tokens_train: int
    supervised_train: int
    padding_train: float
    """Part of the training rows' positions that hold no token."""
    touched: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Task to the digests of its test items that share a run of `ngram` with a document as it was read
    (also when the document was then dropped)."""
    checked: dict[str, int] = Field(default_factory=dict)
    """Task to the number of its test items that were compared."""


class CurvePoint(Part):
    """The held-out losses after a step, in nats per token, by channel (`sector`, `general`)."""

    step: int
    tokens: int
    losses: dict[str, float]


class Run(Record):
    """Weights, and what made them."""

    base: str
    """The base as the recipe names it."""
    base_digest: str
    """Fingerprint of the base weights (configs.base.base_digest)."""
    method: str
    weights: str
    """Folder of the weights inside the run: `adapter` or `model`."""
    weights_digest: str
    """sha256 over the names and hashes of the weight files."""
    trainable_parameters: int
    total_parameters: int
    steps: int
    epochs: float
    tokens: int
    """Non-padding tokens processed in training."""
    seconds_training: float
    tokens_per_second: float
    peak_memory_bytes: int
    loss_first: float
    loss_last: float
    curve: tuple[CurvePoint, ...]
    segments: int = 1
    """Processes that worked on it, one after another: 1 for an unbroken run."""
    skipped_steps: int = 0
    """Steps whose loss or gradient was not finite and that were not applied."""


class Score(Part):
    """One task, one model: the value with its interval."""

    task: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    """Items scored."""
    clusters: int
    """Independent observations among them."""
    invalid: float = 0.0
    """Part of the items whose answer could not be read; they count as wrong."""
    truncated: int = 0
    """Items whose prompt lost its beginning to fit the context."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """All metrics of the task."""
    baselines: dict[str, float] = Field(default_factory=dict)
    """Plain baselines on the same items: majority, random, tfidf."""
    sector: str = "general"
    higher_is_better: bool = True


class Scorecard(Record):
    """One model on some tasks: values, intervals, and every answer in answers.jsonl."""

    model: str
    """`base` or `tuned`, or the name of a model given on the command line."""
    model_digest: str
    """Fingerprint of base and adapter together: an adapter never gets its base's answers."""
    engine: str = ""
    """Number format and kind of device that answered."""
    scores: tuple[Score, ...]
    tokens: int
    """Tokens forwarded."""
    seconds: float


class Difference(Part):
    """One task, two models, item by item: tuned minus base."""

    task: str
    metric: str
    sector: str
    base: float
    tuned: float
    difference: float
    low: float
    high: float
    p: float
    """Exact McNemar (right/wrong items) or sign-flip test over clusters."""
    p_holm: float
    """The same after Holm's correction over the tasks of the comparison."""
    n: int
    clusters: int
    detectable: float | None = None
    """The smallest true difference that so noisy a comparison finds with 80 % power; None where it has no noise."""
    gained: int = 0
    """Items that became right."""
    lost: int = 0
    """Items that became wrong."""
    higher_is_better: bool = True
    baselines: dict[str, float] = Field(default_factory=dict)
    clean: float | None = None
    """The difference on items that no training document touches; None where the corpus was not compared."""
    clean_n: int | None = None

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `not distinguishable`, by the corrected test and the interval together."""
        if self.p_holm >= 0.05 or self.low <= 0 <= self.high:
            return "not distinguishable"
        return "better" if (self.difference > 0) == self.higher_is_better else "worse"


class Comparison(Record):
    """Base against tuned on every task, and on the general panel."""

    sector: str
    differences: tuple[Difference, ...]
    general: tuple[Difference, ...]


class Release(Record):
    """A folder that others can trust: weights, card, and the hashes that lead back."""

    sector: str
    base: str
    checks: dict[str, str]
    """What was verified, and with which result."""
    gates: dict[str, str]
    """Each gate of the recipe and how it was met."""


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


def packages() -> dict[str, str]:
    """Versions of the installed packages that can change numbers."""
    return {name: found for name in PACKAGES if (found := _version(name))}


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
