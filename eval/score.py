"""The metrics: pure functions of sums over items; the same function serves the value, its interval and its test.

An answer that cannot be read is an outcome of its own (`invalid`, column K of the confusion matrix): it is never right
and never counted as the majority class.

C clusters, N items, K classes, D summed quantities
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from configs.errors import DataError
from eval.amounts import TOLERANCE, read_number, same_number
from eval.spans import letters_of, lists_spans, shared_spans
from eval.texts import char_f1, normal, rouge_l, same_text, shared_runs, token_f1

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from eval.stats import Floats, Statistic

    Options = Mapping[str, Any]
    """What a task sets for a metric beside its name, `tolerance` and the like."""
    Counts = Callable[[str, str, Options], Sequence[float]]
    """What one given text and one right text add to the sums."""

LOWER_IS_BETTER = frozenset({"bits_per_byte", "byte_perplexity", "word_perplexity"})
RIGHT_OR_WRONG = frozenset({"acc", "acc_norm", "exact_match", "number_match", "letters_match"})
"""Metrics whose value per item is 0 or 1: Wilson interval and exact McNemar where items are independent."""
BY_CLASS = frozenset({"macro_f1", "mcc"})
"""Metrics of a confusion matrix."""
BETA = 2
"""chrF: recall counts twice as much as precision (Popovic 2015; chrF2, the default of sacrebleu)."""


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
    accepted: tuple[tuple[str, ...], ...] = ()
    """All right answers, where a task knows several."""
    words: tuple[int, ...] = ()
    """The passage's length in words."""
    options: Mapping[str, Options] = MappingProxyType({})
    """Metric to its options, the same for all items."""
    values: tuple[Mapping[str, float], ...] = ()
    """What another library counted for each item, by its own name of the metric; its value is their mean."""

    def golds(self) -> list[tuple[str, ...]]:
        """The right answers of each item."""
        several = self.accepted or ((),) * len(self.gold)
        return [all_of_it or (gold,) for gold, all_of_it in zip(self.gold, several, strict=True)]


def mean(sums: Floats) -> Floats:
    """Sum over count: sums [..., 2] = (total, n)."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def bits_per_byte(sums: Floats) -> Floats:
    """Bits that the model needs per byte of text: sums [..., 2] = (nats, bytes).

    Independent of the tokenizer. Source: Gao et al. 2020, "The Pile", section 3.1.
    """
    return np.asarray(sums[..., 0] / sums[..., 1] / math.log(2))


def perplexity(sums: Floats) -> Floats:
    """The exponential of nats per unit: sums [..., 2] = (nats, words or bytes).

    lm-evaluation-harness' `word_perplexity` (words are what spaces part) and `byte_perplexity`, weighted by length.
    Source: Merity et al. 2017 ("Pointer Sentinel Mixture Models", WikiText) for words.
    """
    return np.asarray(np.exp(sums[..., 0] / sums[..., 1]))


def micro_f1(sums: Floats) -> Floats:
    """F1 over all spans of all items: sums [..., 3] = (shared, given, gold); 1 where there was and is nothing to find.

    Source: Tjong Kim Sang and De Meulder 2003 (CoNLL-2003), section 3.2.
    """
    both = sums[..., 1] + sums[..., 2]
    return np.asarray(np.where(both > 0, 2 * sums[..., 0] / np.where(both > 0, both, 1), 1.0))


def chrf(sums: Floats) -> Floats:
    """F of shared runs of characters, 0 to 1: sums [..., 18] = (given, gold, shared) for runs of 1 to 6.

    Precision and recall are means over the lengths that both sides have. Source: Popovic 2015; over a corpus, as here,
    it is sacrebleu's `chrF2` divided by 100.
    """
    given, gold, shared = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)
    there = (given > 0) & (gold > 0)
    orders = np.maximum(there.sum(axis=-1), 1)
    precision = np.where(there, shared / np.maximum(given, 1), 0).sum(axis=-1) / orders
    recall = np.where(there, shared / np.maximum(gold, 1), 0).sum(axis=-1) / orders
    weighed = BETA**2 * precision + recall
    return np.asarray(np.where(weighed > 0, (1 + BETA**2) * precision * recall / np.where(weighed > 0, weighed, 1), 0))


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


class Statistics(dict[str, "Statistic"]):
    """Metric to its statistic; a metric of another library's is the mean of what it counted for each item."""

    def __missing__(self, metric: str) -> Statistic:
        """The mean."""
        return mean


STATISTICS = Statistics(
    {
        "acc": mean,
        "acc_norm": mean,
        "exact_match": mean,
        "number_match": mean,
        "letters_match": mean,
        "token_f1": mean,
        "char_f1": mean,
        "rouge_l": mean,
        "span_f1": micro_f1,
        "chrf": chrf,
        "macro_f1": macro_f1,
        "mcc": mcc,
        "bits_per_byte": bits_per_byte,
        "byte_perplexity": perplexity,
        "word_perplexity": perplexity,
    }
)
COUNTS: dict[str, Counts] = {
    "exact_match": lambda given, gold, options: (same_text(given, gold, options), 1),
    "number_match": lambda given, gold, options: (_number_match(given, gold, options), 1),
    "letters_match": lambda given, gold, _: (letters_of(given) == letters_of(gold) is not None, 1),
    "token_f1": lambda given, gold, _: (token_f1(given, gold), 1),
    "char_f1": lambda given, gold, _: (char_f1(given, gold), 1),
    "rouge_l": lambda given, gold, _: (rouge_l(given, gold), 1),
    "span_f1": lambda given, gold, _: shared_spans(given, gold),
    "chrf": lambda given, gold, _: shared_runs(given, gold),
}
"""What a generated text adds to the sums, beside one right text; an invalid answer adds what the empty text does, and is
never right."""
READABLE: dict[str, Callable[[str, str], bool]] = {
    "number_match": lambda given, gold: read_number(given) is not None or read_number(gold) is None,
    "letters_match": lambda given, _: letters_of(given) is not None,
    "span_f1": lists_spans,
}
"""Whether a text can be read as an answer at all; any text can be where a metric does not stand here."""


def _number_match(given: str, gold: str, options: Options) -> bool:
    """Numbers within the tolerance; a gold that is no number (yes, no) as a text, as FinQA's own script has it.

    Source: Chen et al. 2021, "FinQA", section 4, execution accuracy.
    """
    ours, right = read_number(given), read_number(gold)
    if right is None:
        return normal(given) == normal(gold)
    return ours is not None and same_number(ours, right, options.get("tolerance", TOLERANCE))


# ---------------------------------------------------------------- from answers to sums


def sums_of(metric: str, answers: Answers, classes: Sequence[str]) -> tuple[Floats, list[str]]:
    """What the metric's statistic sums, by cluster [C, D], and the clusters' names in order."""
    items_ND = _items(metric, answers, classes)
    names = sorted(set(answers.clusters))
    place = {name: position for position, name in enumerate(names)}
    sums_CD = np.zeros((len(names), items_ND.shape[1]))
    np.add.at(sums_CD, [place[name] for name in answers.clusters], items_ND)
    return sums_CD, names


def item_values(metric: str, answers: Answers) -> list[float]:
    """The metric of each item by itself; an invalid answer is 0. Of a metric by class: whether the class is right."""
    if metric in BY_CLASS:
        metric = "acc"
    if not answers.gold:
        return []
    values: list[float] = STATISTICS[metric](_items(metric, answers, ())).tolist()
    return values


def unreadable(metric: str, answers: Answers) -> list[bool]:
    """Whether each item's answer is invalid: there is none, or the metric cannot read it."""
    readable = READABLE.get(metric)
    pairs = zip(answers.answer, answers.golds(), strict=True)
    return [given is None or (readable is not None and not readable(given, golds[0])) for given, golds in pairs]


def counted_by_item(metric: str, lines: Sequence[dict[str, Any]]) -> bool:
    """Whether two models can be paired on a metric: it is ours, or another library counted it for each item."""
    return metric in STATISTICS or all(metric in line.get("values", ()) for line in lines)


def _items(metric: str, answers: Answers, classes: Sequence[str]) -> Floats:
    """What each item adds to the sums, [N, D].

    Raises:
        DataError: another library's metric was not counted item by item.
    """
    if answers.values and all(metric in own for own in answers.values):
        return np.array([(own[metric], 1) for own in answers.values], np.float64)
    if metric not in STATISTICS:
        raise DataError(f"{metric} is not counted item by item: two models cannot be compared on it")
    if metric in BY_CLASS:
        return _one_hot(answers, classes)
    if metric in LOWER_IS_BETTER:
        return np.array([answers.nats, answers.words if metric == "word_perplexity" else answers.size], np.float64).T
    if metric not in COUNTS:
        chosen = answers.norm if metric == "acc_norm" else answers.answer
        return np.array([(one == gold, 1) for one, gold in zip(chosen, answers.gold, strict=True)], np.float64)
    count, statistic, options = COUNTS[metric], STATISTICS[metric], answers.options.get(metric, {})
    rows = []
    for given, golds, invalid in zip(answers.answer, answers.golds(), unreadable(metric, answers), strict=True):
        text = "" if given is None or invalid else given
        found_GD = np.array([count(text, gold, options) for gold in golds], np.float64)
        best_D = found_GD[int(statistic(found_GD).argmax())]
        if invalid and statistic(best_D) > 0:  # nothing was asked for and nothing said, but not in a form to be read
            best_D = np.array([0, 1, *best_D[2:]])
        rows.append(best_D)
    return np.array(rows)


def _one_hot(answers: Answers, classes: Sequence[str]) -> Floats:
    place = {name: position for position, name in enumerate(classes)}
    invalid = len(classes)
    items = np.zeros((len(answers.gold), len(classes), len(classes) + 1))
    for row, (gold, given) in enumerate(zip(answers.gold, answers.answer, strict=True)):
        items[row, place[gold], place.get(given, invalid) if given is not None else invalid] = 1
    return items.reshape(len(items), -1)


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
        accepted=tuple(tuple(line.get("accepted", ())) for line in lines),
        words=tuple(line.get("words", 0) for line in lines),
        options=lines[0].get("options", {}) if lines else {},
        values=tuple(line["values"] for line in lines if "values" in line),
    )


def right(metric: str, lines: Sequence[dict[str, Any]]) -> list[bool]:
    """Whether each line's answer is right, by the metric that a reader would count with."""
    if metric in LOWER_IS_BETTER:
        return [False] * len(lines)
    return [value == 1 for value in item_values(metric, columns(lines))]
