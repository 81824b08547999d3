"""The metrics: pure functions of sums over items; the same function serves the value, its interval and its test.

An answer that cannot be read is an outcome of its own (`invalid`, column K of the confusion matrix): it is never right
and never counted as the majority class.

C clusters, N items, K classes, D summed quantities
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.stats import Floats, Statistic

LOWER_IS_BETTER = frozenset({"bits_per_byte"})
RIGHT_OR_WRONG = frozenset({"acc", "acc_norm", "exact_match"})
"""Metrics whose value per item is 0 or 1: Wilson interval and exact McNemar where items are independent."""
CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Kana and Han: scripts written without spaces."""


class Answers(NamedTuple):
    """The answers of one model to one task, in columns. Missing columns are empty."""

    clusters: tuple[str, ...]
    gold: tuple[str, ...]
    """The right answer, as text."""
    answer: tuple[str | None, ...]
    """The given answer, as text; None is invalid."""
    norm: tuple[str | None, ...]
    """The answer with the highest log-likelihood per byte."""
    nats: tuple[float, ...]
    """Negative log-likelihood of the passage."""
    size: tuple[int, ...]
    """Its length in bytes of UTF-8."""


def mean(sums: Floats) -> Floats:
    """Sum over count: sums [..., 2] = (total, n)."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def bits_per_byte(sums: Floats) -> Floats:
    """Bits that the model needs per byte of text: sums [..., 2] = (nats, bytes).

    Independent of the tokenizer. Source: Gao et al. 2020, "The Pile", section 3.1.
    """
    return np.asarray(sums[..., 0] / sums[..., 1] / math.log(2))


def macro_f1(sums: Floats) -> Floats:
    """Mean over the classes of each one's F1: sums [..., K * (K + 1)], a confusion matrix with invalid as last column.

    Classes that neither occur nor are answered do not count. Source: the averaged form in Opitz and Burst 2019,
    "Macro F1 and Macro F1".
    """
    confusion = _matrix(sums)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    both = confusion.sum(axis=-1) + confusion[..., :-1].sum(axis=-2)
    there = both > 0
    f1 = np.where(there, 2 * right / np.where(there, both, 1), 0)
    return np.asarray(f1.sum(axis=-1) / np.maximum(there.sum(axis=-1), 1))


def mcc(sums: Floats) -> Floats:
    """Matthews correlation for K classes: sums [..., K * (K + 1)]; invalid is a class that is never right.

    Source: Gorodkin 2004, Comput. Biol. Chem. 28:367, R_K. Zero where one side is constant.
    """
    confusion = _matrix(sums)
    right = np.trace(confusion[..., :-1], axis1=-2, axis2=-1)
    gold, given = confusion.sum(axis=-1), confusion.sum(axis=-2)
    n = gold.sum(axis=-1)
    covariance = right * n - (gold * given[..., :-1]).sum(axis=-1)
    spread = (n * n - (gold**2).sum(axis=-1)) * (n * n - (given**2).sum(axis=-1))
    return np.asarray(np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1)), 0))


def _matrix(sums: Floats) -> Floats:
    """Flat sums [..., K * (K + 1)] as a confusion matrix [..., K, K + 1]."""
    classes = int((math.sqrt(1 + 4 * sums.shape[-1]) - 1) / 2)
    return sums.reshape(*sums.shape[:-1], classes, classes + 1)


STATISTICS: dict[str, Statistic] = {
    "acc": mean,
    "acc_norm": mean,
    "exact_match": mean,
    "token_f1": mean,
    "macro_f1": macro_f1,
    "mcc": mcc,
    "bits_per_byte": bits_per_byte,
}


# ---------------------------------------------------------------- from answers to sums


def sums_of(metric: str, answers: Answers, classes: Sequence[str]) -> tuple[Floats, list[str]]:
    """What the metric's statistic sums, by cluster [C, D], and the clusters' names in order."""
    if metric in ("macro_f1", "mcc"):
        items_ND = _one_hot(answers, classes)
    elif metric == "bits_per_byte":
        items_ND = np.array([answers.nats, answers.size], dtype=np.float64).T
    else:
        values = item_values(metric, answers)
        items_ND = np.array([values, [1.0] * len(values)]).T
    names = sorted(set(answers.clusters))
    place = {name: position for position, name in enumerate(names)}
    sums_CD = np.zeros((len(names), items_ND.shape[1]))
    np.add.at(sums_CD, [place[name] for name in answers.clusters], items_ND)
    return sums_CD, names


def item_values(metric: str, answers: Answers) -> list[float]:
    """The metric of each item, 0 to 1; an invalid answer is 0."""
    if metric == "token_f1":
        pairs = zip(answers.answer, answers.gold, strict=True)
        return [0.0 if given is None else token_f1(given, gold) for given, gold in pairs]
    if metric == "exact_match":
        pairs = zip(answers.answer, answers.gold, strict=True)
        return [float(given is not None and normal(given) == normal(gold)) for given, gold in pairs]
    given = answers.norm if metric == "acc_norm" else answers.answer
    return [float(one == gold) for one, gold in zip(given, answers.gold, strict=True)]


def _one_hot(answers: Answers, classes: Sequence[str]) -> Floats:
    place = {name: position for position, name in enumerate(classes)}
    invalid = len(classes)
    items = np.zeros((len(answers.gold), len(classes), len(classes) + 1))
    for row, (gold, given) in enumerate(zip(answers.gold, answers.answer, strict=True)):
        items[row, place[gold], place.get(given, invalid) if given is not None else invalid] = 1
    return items.reshape(len(items), -1)


def normal(text: str) -> str:
    """A text for comparison: NFKC, lower case, single spaces, no full stop at the end.

    >>> normal(" Ｙｅｓ. ")
    'yes'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".。")


def tokens(text: str) -> list[str]:
    """Words without punctuation and articles; Kana and Han one character each.

    Sources: Rajpurkar et al. 2016 (SQuAD), evaluation script; Cui et al. 2019 (CMRC 2018) for Chinese characters.

    >>> tokens("The rate, 利率")
    ['rate', '利', '率']
    """
    words = re.findall(rf"[{CJK}]|[^\W_{CJK}]+", unicodedata.normalize("NFKC", text).casefold())
    return [word for word in words if word not in ("a", "an", "the")]


def token_f1(given: str, gold: str) -> float:
    """Harmonic mean of precision and recall over tokens (Rajpurkar et al. 2016, section 6.1)."""
    ours, theirs = tokens(given), tokens(gold)
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs))


# ---------------------------------------------------------------- reading one answer


def best_choice(loglikelihoods: Sequence[float], choices: Sequence[str], *, per_byte: bool = False) -> str | None:
    """The choice with the highest log-likelihood, in all or per byte of UTF-8; the first of equals; None without any.

    lm-evaluation-harness' `acc_norm` divides by characters: the same for ASCII.
    """
    if not loglikelihoods:
        return None
    sizes = [len(choice.encode()) if per_byte else 1 for choice in choices]
    scores = [value / size for value, size in zip(loglikelihoods, sizes, strict=True)]
    return choices[scores.index(max(scores))]


def read_answer(generated: str, choices: Sequence[str]) -> str | None:
    """What a generated text answers: itself, or the only one of the choices that it names; None is invalid.

    >>> read_answer("It is positive.", ["positive", "negative"])
    'positive'
    >>> read_answer("positive or negative", ["positive", "negative"]) is None
    True
    """
    text = generated.strip()
    if not choices or not text:
        return text or None
    exact = [choice for choice in choices if normal(choice) == normal(text)]
    named = exact or [choice for choice in choices if _names(text, choice)]
    return named[0] if len(named) == 1 else None


def _names(text: str, choice: str) -> bool:
    """Whether a choice stands in a text, as whole words where its script has words."""
    edge = rf"[^\W{CJK}]"
    pattern = rf"(?<!{edge}){re.escape(normal(choice))}(?!{edge})"
    return re.search(pattern, normal(text)) is not None


def classes_of(lines: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The classes of a task: its choices where all items share them, else the right answers that occur."""
    shared, golds = {tuple(line["choices"]) for line in lines}, {line["target"] for line in lines}
    if len(shared) == 1 and golds <= set(choices := shared.pop()):
        return choices
    return tuple(sorted(golds))


def columns(lines: Sequence[dict[str, Any]]) -> Answers:
    """The lines of answers.jsonl of one task as columns."""
    return Answers(
        clusters=tuple(line["cluster"] for line in lines),
        gold=tuple(line["target"] for line in lines),
        answer=tuple(line.get("answer") for line in lines),
        norm=tuple(line.get("norm") for line in lines),
        nats=tuple(line.get("nats", 0.0) for line in lines),
        size=tuple(line.get("bytes", 0) for line in lines),
    )


def right(metric: str, lines: Sequence[dict[str, Any]]) -> list[bool]:
    """Whether each line's answer is right, by the metric that a reader would count with."""
    answers = columns(lines)
    if metric == "bits_per_byte":
        return [False] * len(lines)
    return [value == 1 for value in item_values("acc" if metric in ("macro_f1", "mcc") else metric, answers)]
