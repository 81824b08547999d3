"""What evaluation writes down: scores of one model, differences of two, and the two records that hold them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs.part import Part
from configs.record import Record


class Bin(Part):
    """The answers that a model gave with about the same confidence."""

    n: int
    confidence: float
    """Mean probability that it gave to the answer it chose."""
    right: float
    """Part of them that were right."""


class Calibration(Part):
    """How far a model's confidence is its accuracy, on a multiple-choice task."""

    ece: float
    """Expected calibration error: the mean distance of confidence and accuracy over the bins."""
    brier: float
    """Mean squared distance of the probabilities of all choices from the truth."""
    bins: tuple[Bin, ...] = ()


class Noise(Part):
    """The same model asked twice, in batches of another shape: what rounding alone changes."""

    items: int
    """Items asked twice."""
    changed: int
    """Items whose answer changed."""
    difference: float
    """The metric's change on these items."""
    largest: float
    """Largest change of a log-likelihood, in nats; 0 for generated texts."""


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
    interval: Literal["wilson", "bootstrap"] = "bootstrap"
    """How the interval was made."""
    calibration: Calibration | None = None
    noise: Noise | None = None


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
    tokens_whole: int = 0
    """Tokens of all prompts if each answer were read behind its whole context, and nothing written; 0 where unknown."""
    seconds: float


class Apart(Part):
    """The difference on a part of a task's items: one subject, the clean ones, the touched ones."""

    name: str
    n: int
    base: float
    tuned: float
    difference: float
    low: float
    high: float


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
    parts: tuple[Apart, ...] = ()
    """The same on `clean` and on `touched` items, where the corpus was compared with the task and both are there."""
    subjects: tuple[Apart, ...] = ()
    """The same by subject, where the task names one."""
    method: Literal["score", "bootstrap"] = "bootstrap"
    """How the interval was made: Tango's score interval, or a paired bootstrap over clusters."""
    foreseen: float | None = None
    """The smallest true difference that n items could show with 80 % power, known before any model answered."""
    noise: float | None = None
    """Difference that batches of another shape alone made, the larger of the two models' (in the metric's unit)."""
    ece: tuple[float, float] | None = None
    """Expected calibration error of base and tuned, where both have one."""

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `not distinguishable`, by the corrected test and the interval together."""
        if self.p_holm >= 0.05 or self.low <= 0 <= self.high:
            return "not distinguishable"
        return "better" if (self.difference > 0) == self.higher_is_better else "worse"


class Pooled(Part):
    """Tasks of one kind of metric taken together: each task weighs the same."""

    name: str
    """A sector, or `general`."""
    metric: str
    tasks: int
    n: int
    base: float
    tuned: float
    difference: float
    low: float
    high: float


class Panel(Part):
    """Whether the tuned model is not worse than its base in general ability, by more than a stated margin."""

    verdict: Literal["not inferior", "inferior", "undecided"]
    margin: float
    """Loss that is still accepted: part of the accuracy scale (0.02 is 2 points)."""
    margin_text: float
    """The same for bits per byte, relative to the base."""
    reasons: tuple[str, ...] = ()
    """One sentence for each task of the panel, and for those of one kind taken together."""


class Comparison(Record):
    """Base against tuned on every task, and on the general panel."""

    sector: str
    differences: tuple[Difference, ...]
    general: tuple[Difference, ...]
    pooled: tuple[Pooled, ...] = ()
    panel: Panel | None = None
