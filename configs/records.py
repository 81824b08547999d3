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
    rejected.bin    where there are preference pairs: the rejected answers, as tokens.bin has tokens
    rejected.npy    int64 [A, 3] = (start of the chosen conversation in tokens.bin, start in rejected.bin, length)
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from configs.memorisation import Memorisation
from configs.part import Part
from configs.record import VERSION, Made, Record, changes, flat, made_by, packages, stale
from configs.scores import (
    Apart,
    Bin,
    Calibration,
    Comparison,
    Difference,
    Noise,
    Panel,
    Pooled,
    Score,
    Scorecard,
)

__all__ = [
    "VERSION",
    "Accepted",
    "Apart",
    "Bin",
    "Calibration",
    "Comparison",
    "Corpus",
    "CurvePoint",
    "Difference",
    "Made",
    "Memorisation",
    "Noise",
    "Panel",
    "Pooled",
    "Record",
    "Release",
    "Run",
    "Score",
    "Scorecard",
    "SourceLedger",
    "changes",
    "flat",
    "made_by",
    "packages",
    "stale",
]


class SourceLedger(Part):
    """Every document and token of one source, accounted for: rows = kept + all that was refused, dropped or not selected."""

    name: str
    channel: str
    licence: str
    origin: str = ""
    language: tuple[str, ...] = ()
    grade: str = "general"
    files: int = 0
    forms: dict[str, int] = Field(default_factory=dict)
    """Files by the form they were read as."""
    encodings: dict[str, int] = Field(default_factory=dict)
    dialects: dict[str, int] = Field(default_factory=dict)
    """Tables by what separates their cells."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """Parts of files that are no records: attachments of a filing, empty files."""
    notes: dict[str, str] = Field(default_factory=dict)
    """What looks odd but may be meant, with the first place where it does."""
    rows: int = 0
    """Records found in the files."""
    refused: dict[str, int] = Field(default_factory=dict)
    """Records that could not be read, by reason."""
    dropped: dict[str, int] = Field(default_factory=dict)
    """Documents that were read and left out, by reason (`duplicate`, `leak:TASK`, `too short`, `not selected` ...)."""
    characters_left_out: dict[str, int] = Field(default_factory=dict)
    """Characters of the documents that were dropped, and of what was cut out of others, by reason."""
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
    lost: int = 0
    """Tokens of the documents that were dropped after they were tokenised (longer than a row)."""
    rejected: int = 0
    """Tokens of the answers that others are preferred to; they stand apart, and are not among `tokens`."""
    composed: dict[str, int] = Field(default_factory=dict)
    """Documents that `compose` made from rows, by form: rows + composed = kept + refused + dropped."""
    exercises: dict[str, int] = Field(default_factory=dict)
    """Exercises in them and in the texts, by kind."""
    languages: dict[str, int] = Field(default_factory=dict)
    """Documents read, by the language they look like."""
    personal: dict[str, int] = Field(default_factory=dict)
    """Pieces of personal data met, by kind; the values are written nowhere."""
    tokens_train: int = 0
    """Tokens of one pass over the training rows, repeats included."""
    tokens_validation: int = 0
    repeats: float = 1.0
    """Passes over this source per pass over the training rows."""
    time: str = ""
    purpose: tuple[str, ...] = ()
    consent: str = ""


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
    near_duplicates: float | None = None
    """Jaccard overlap from which documents counted as one; None where only exact ones did."""
    touched: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Task to the digests of its test items that share a run of `ngram` with a document that was still in when leaks
    were looked for, also where that document was then dropped; stock phrases do not count (docs/leaks.md)."""
    coverage: dict[str, dict[str, float]] = Field(default_factory=dict)
    """The same items, each with the part of its units that the documents share, all of them together."""
    checked: dict[str, int] = Field(default_factory=dict)
    """Task to the number of its test items that were compared."""


class CurvePoint(Part):
    """The held-out losses after a step, in nats per token, by channel (`sector`, `general`)."""

    step: int
    tokens: int
    losses: dict[str, float]
    sources: dict[str, float] = Field(default_factory=dict)
    """The same by source."""
    probes: dict[str, float] = Field(default_factory=dict)
    """Accuracy on the quick probes, by task."""
    best: bool = False
    """Whether its weights were the best within the forgetting budget up to then."""


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
    """Steps that were not applied: their loss or gradient was not finite, or they were spikes and `on_spike: skip`."""
    best_step: int | None = None
    """The step whose weights these are, where a forgetting budget chose; None: the last."""
    stopped_early: bool = False
    """Whether the forgetting budget was spent before the course was over."""
    spikes: int = 0
    """Steps whose loss stood far above the ones before."""
    rewinds: int = 0
    """Times that the weights were set back to a checkpoint."""
    processes: int = 1
    """Processes that worked side by side in the end."""
    device: str = ""
    """What each of them computed on: the name of a GPU, or `CPU`."""
    made_in: tuple[dict[str, Any], ...] = ()
    """For each segment, the step it began at and the packages it had."""


class Accepted(Part):
    """A gate that was not met, and why the release was made all the same."""

    found: str
    """What the gate found."""
    reason: str
    """What was given with `--accept GATE=REASON`."""


class Release(Record):
    """A folder that others can trust: weights, card, and the hashes that lead back."""

    sector: str
    base: str
    checks: dict[str, str]
    """What was verified, and with which result."""
    gates: dict[str, str]
    """Each gate of the recipe and how it was met."""
    accepted: dict[str, Accepted] = Field(default_factory=dict)
    """The gates that were not met."""
    memorised: Memorisation | None = None
    """What the tuned model knows by heart; None where it was not measured."""
