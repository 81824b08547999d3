"""How numbers and findings read: values in percent or bits, signed differences, intervals, verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.wording import ENGLISH

if TYPE_CHECKING:
    from configs.records import Apart, Difference, Pooled, Score
    from eval.wording import Wording

NAMES = {
    "acc": "accuracy",
    "acc_norm": "accuracy per byte",
    "macro_f1": "macro F1",
    "mcc": "Matthews correlation",
    "exact_match": "exact match",
    "number_match": "numbers matched",
    "letters_match": "letters matched",
    "token_f1": "token F1",
    "span_f1": "span F1",
    "char_f1": "character F1",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF",
    "bits_per_byte": "bits per byte, lower is better",
    "byte_perplexity": "perplexity per byte, lower is better",
    "word_perplexity": "perplexity per word, lower is better",
}
LIKELIHOOD = frozenset({"bits_per_byte", "byte_perplexity", "word_perplexity"})
"""Metrics of passages, without a right answer."""
OUT_OF_HUNDRED = frozenset(NAMES) - LIKELIHOOD - {"mcc"}
"""Metrics that are shown in percent, and their differences in points."""
PLAUSIBLE = 0.2
"""A difference above a fifth of the scale, or of the base's bits, is more than tuning plausibly makes where its effect is
not plain to see: continued pretraining in three sectors gained less than ten points on average (Cheng et al. 2024,
"Adapting Large Language Models via Reading Comprehension"). Our own limit."""
FEW = 20
"""Independent items below which an interval may be too narrow, and no verdict on general ability is given."""
MUCH = 0.05
"""Rise of the expected calibration error that is worth a sentence. Our own limit."""

VERDICTS = ("better", "worse", "not distinguishable")


def shown(metric: str, value: float) -> str:
    """A value as a reader wants it: percent, or three decimals.

    >>> shown("acc", 0.125), shown("bits_per_byte", 1.8512)
    ('12.5', '1.851')
    """
    return f"{100 * value:.1f}" if metric in OUT_OF_HUNDRED else f"{value:.3f}"


def signed(metric: str, value: float) -> str:
    """A difference with its sign, in points or in the metric's own unit.

    >>> signed("acc", -0.031)
    '−3.1'
    """
    text = shown(metric, abs(value))
    return text if float(text) == 0 else ("−" if value < 0 else "+") + text


def interval(row: Difference, tell: Wording = ENGLISH) -> str:
    """The 95 % interval of a difference; words where it has no width because the two models answered alike."""
    return ends(row.metric, row, tell)


def ends(metric: str, it: Difference | Apart | Pooled, tell: Wording = ENGLISH) -> str:
    """The same for a part of a task, or for several."""
    if it.low == it.high == 0:
        return tell("no answer changed") if metric not in LIKELIHOOD else tell("no change")
    if it.low == it.high and it.n == 1:
        return tell("no interval")
    return span(signed(metric, it.low), signed(metric, it.high), tell)


def span(low: str, high: str, tell: Wording = ENGLISH) -> str:
    """From one value to another."""
    return tell("{low} to {high}", low=low, high=high)


def kind(metric: str, tell: Wording = ENGLISH) -> str:
    """A metric's name without what must be known of it."""
    return tell(NAMES.get(metric, metric)).partition(",")[0].partition("，")[0]


def with_unit(metric: str, value: str, tell: Wording = ENGLISH) -> str:
    """A difference with what it is counted in.

    >>> with_unit("acc", "+3.1"), with_unit("mcc", "+0.031")
    ('+3.1 points', '+0.031')
    """
    return tell("{value} points", value=value) if metric in OUT_OF_HUNDRED else value


def measurable(row: Difference) -> bool:
    """Whether a gain that tuning plausibly makes could have been seen at all."""
    scale = row.base if row.metric in LIKELIHOOD else 1.0
    return row.detectable is None or row.detectable <= PLAUSIBLE * scale


def verdict(row: Difference, tell: Wording = ENGLISH) -> str:
    """The verdict as a reader needs it: that nothing was found says nothing where nothing could be found."""
    if row.verdict != VERDICTS[-1]:
        found = tell(row.verdict)
        return tell("{verdict}, within noise", verdict=found) if within_noise(row) else found
    return tell(row.verdict) if measurable(row) else tell("not measurable with n = {n}", n=f"{row.clusters:,}")


def within_noise(row: Difference) -> bool:
    """Whether another shape of the batches may change as much by itself."""
    return bool(row.noise) and abs(row.difference) <= (row.noise or 0.0)


def seen_from(row: Difference) -> str:
    """The smallest true difference that could be seen, as it turned out; in brackets as it was foreseen."""
    after = shown(row.metric, row.detectable) if row.detectable is not None else "–"
    return after if row.foreseen is None else f"{after} ({shown(row.metric, row.foreseen)})"


def calibration(score: Score, tell: Wording = ENGLISH) -> str:
    """How sure a model was and how right: `83.2 % sure, 61.0 % right, ECE 0.222, Brier 0.512`; empty where unknown."""
    found = score.calibration
    if found is None:
        return ""
    n = sum(it.n for it in found.bins)
    measures = f"ECE {found.ece:.3f}{tell(', ')}Brier {found.brier:.3f}"
    if not n:
        return measures
    sure = sum(it.n * it.confidence for it in found.bins) / n
    right = sum(it.n * it.right for it in found.bins) / n
    return tell(
        "{sure} % sure, {right} % right, {measures}",
        sure=f"{100 * sure:.1f}",
        right=f"{100 * right:.1f}",
        measures=measures,
    )


def noise(score: Score, tell: Wording = ENGLISH) -> str:
    """What another shape of the batches changed: `1 of 64 answers, −1.6 points, up to 0.0003 nats`; empty where unknown."""
    found = score.noise
    if found is None:
        return ""
    return tell(
        "{changed} of {items} answers, {difference}, up to {nats} nats",
        changed=f"{found.changed:,}",
        items=f"{found.items:,}",
        difference=with_unit(score.metric, signed(score.metric, found.difference), tell),
        nats=f"{found.largest:.2g}",
    )


def baselines(row: Difference, tell: Wording = ENGLISH) -> str:
    """The plain baselines of a task in one line."""
    return " · ".join(f"{baseline(name, tell)} {shown(row.metric, value)}" for name, value in row.baselines.items())


def baseline(name: str, tell: Wording = ENGLISH) -> str:
    """A plain baseline as a reader knows it."""
    return {"majority": tell("majority"), "random": tell("random"), "tfidf": "TF-IDF"}.get(name, name)


def items(row: Difference, tell: Wording = ENGLISH) -> str:
    """How many items, and how many independent observations where these are fewer."""
    n, clusters = f"{row.n:,}", f"{row.clusters:,}"
    return n if n == clusters else tell("{n} in {clusters} clusters", n=n, clusters=clusters)


def p_value(p: float) -> str:
    """A p-value with the digits that mean something."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
