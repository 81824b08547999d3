"""How numbers and findings read: values in percent or bits, signed differences, and the comparison in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.records import Apart, Comparison, Difference, Pooled, Score

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


def interval(row: Difference) -> str:
    """The 95 % interval of a difference; words where it has no width because the two models answered alike."""
    return ends(row.metric, row)


def ends(metric: str, it: Difference | Apart | Pooled) -> str:
    """The same for a part of a task, or for several."""
    if it.low == it.high == 0:
        return "no answer changed" if metric not in LIKELIHOOD else "no change"
    return f"{signed(metric, it.low)} to {signed(metric, it.high)}"


def unit(metric: str) -> str:
    """What stands behind a difference.

    >>> unit("acc"), unit("mcc")
    (' points', '')
    """
    return " points" if metric in OUT_OF_HUNDRED else ""


def measurable(row: Difference) -> bool:
    """Whether a gain that tuning plausibly makes could have been seen at all."""
    scale = row.base if row.metric in LIKELIHOOD else 1.0
    return row.detectable is None or row.detectable <= PLAUSIBLE * scale


def verdict(row: Difference) -> str:
    """The verdict as a reader needs it: that nothing was found says nothing where nothing could be found."""
    if row.verdict != VERDICTS[-1]:
        return f"{row.verdict}, within noise" if within_noise(row) else row.verdict
    return row.verdict if measurable(row) else f"not measurable with n = {row.clusters:,}"


def within_noise(row: Difference) -> bool:
    """Whether another shape of the batches may change as much by itself."""
    return bool(row.noise) and abs(row.difference) <= (row.noise or 0.0)


def seen_from(row: Difference) -> str:
    """The smallest true difference that could be seen, as it turned out; in brackets as it was foreseen."""
    after = shown(row.metric, row.detectable) if row.detectable is not None else "–"
    return after if row.foreseen is None else f"{after} ({shown(row.metric, row.foreseen)})"


def beforehand(task: str, n: int, clusters: int, foreseen: float) -> str:
    """What so many items can show, before any model is asked.

    >>> beforehand("fpb", 97, 97, 0.1422)
    'fpb: 97 items: only a difference above 14 points could be seen'
    >>> beforehand("tiny", 31, 31, 0.2516)
    'tiny: not measurable with n = 31: only a difference above 25 points could be seen'
    """
    items = f"{n:,} items" if n == clusters else f"{n:,} items in {clusters:,} clusters"
    what = items if foreseen <= PLAUSIBLE else f"not measurable with n = {clusters:,}"
    points = f"{100 * foreseen:.0f}" if foreseen >= 0.1 else f"{100 * foreseen:.1f}"
    return f"{task}: {what}: only a difference above {points} points could be seen"


def remarks(rows: Sequence[Difference]) -> list[str]:
    """What a reader must know before quoting a difference, one sentence for each finding."""
    told = []
    for row in rows:
        name, sign = row.task.replace("_", " "), unit(row.metric)
        if row.verdict == VERDICTS[-1] and not measurable(row) and row.detectable is not None:
            told.append(
                f"{name}: {verdict(row)}: only a difference above {shown(row.metric, row.detectable)}{sign} could be seen."
            )
        if row.clusters < FEW:
            told.append(f"{name}: {row.clusters} independent items are few: its interval may be too narrow.")
        if within_noise(row) and row.noise:
            told.append(
                f"{name}: the difference is not above what another shape of the batches may change by itself, "
                f"{shown(row.metric, row.noise)}{sign}."
            )
        if row.parts:
            told.append(f"{name}: {', '.join(apart(row.metric, part) for part in row.parts)}.")
        if row.ece is not None and row.ece[1] - row.ece[0] > MUCH:
            told.append(
                f"{name}: the tuned model knows less well when it is right: its expected calibration error rose from "
                f"{row.ece[0]:.3f} to {row.ece[1]:.3f}."
            )
    return told


def apart(metric: str, part: Apart) -> str:
    """The difference on a part of the items: `clean +3.1 points (+1.0 to +5.2; 40.0 to 43.1, n = 180)`."""
    values = f"{shown(metric, part.base)} to {shown(metric, part.tuned)}"
    return (
        f"{part.name} {signed(metric, part.difference)}{unit(metric)} ({ends(metric, part)}; {values}, n = {part.n:,})"
    )


def pooled(it: Pooled) -> str:
    """Tasks taken together, in a sentence."""
    metric = it.metric
    kind = NAMES[metric].partition(",")[0]
    return (
        f"{it.name.replace('_', ' ').capitalize()}, {_count(it.tasks)} tasks taken together by {kind}: "
        f"{shown(metric, it.base)} to {shown(metric, it.tuned)}, {signed(metric, it.difference)}{unit(metric)} "
        f"(95 % interval {signed(metric, it.low)} to {signed(metric, it.high)}, {it.n:,} items)."
    )


def general(comparison: Comparison) -> str:
    """The verdict on the general panel, with its reasons; empty where there is none."""
    panel = comparison.panel
    if panel is None:
        return ""
    verdicts = {
        "not inferior": "The tuned model is not inferior to its base in general ability",
        "inferior": "The tuned model is inferior to its base in general ability",
        "undecided": "Whether the tuned model is inferior to its base in general ability is undecided",
    }
    return f"{verdicts[panel.verdict]} (95 % intervals against the margin): {'; '.join(panel.reasons)}."


def calibration(score: Score) -> str:
    """How sure a model was and how right: `83.2 % sure, 61.0 % right, ECE 0.222, Brier 0.512`; empty where unknown."""
    found = score.calibration
    if found is None:
        return ""
    n = sum(it.n for it in found.bins)
    measures = f"ECE {found.ece:.3f}, Brier {found.brier:.3f}"
    if not n:
        return measures
    sure, right = (sum(it.n * value for it, value in zip(found.bins, values, strict=True)) / n for values in (
        [it.confidence for it in found.bins], [it.right for it in found.bins]))  # fmt: skip
    return f"{100 * sure:.1f} % sure, {100 * right:.1f} % right, {measures}"


def noise(score: Score) -> str:
    """What another shape of the batches changed: `1 of 64 answers, −1.6 points, up to 0.0003 nats`; empty where unknown."""
    found = score.noise
    if found is None:
        return ""
    changed = f"{found.changed:,} of {found.items:,} answers"
    return f"{changed}, {signed(score.metric, found.difference)}{unit(score.metric)}, up to {found.largest:.2g} nats"


def baselines(row: Difference) -> str:
    """The plain baselines of a task in one line."""
    names = {"majority": "majority", "random": "random", "tfidf": "TF-IDF"}
    return " · ".join(f"{names.get(name, name)} {shown(row.metric, value)}" for name, value in row.baselines.items())


def items(row: Difference) -> str:
    """How many items, and how many independent observations where these are fewer."""
    return f"{row.n:,}" if row.n == row.clusters else f"{row.n:,} in {row.clusters:,} clusters"


def p_value(p: float) -> str:
    """A p-value with the digits that mean something."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def headline(comparison: Comparison) -> str:
    """The comparison in a sentence."""
    rows = comparison.differences
    found = {verdict: [row for row in rows if row.verdict == verdict] for verdict in VERDICTS}
    there = {verdict: some for verdict, some in found.items() if some}
    subject = f"On {_count(len(rows))} {comparison.sector.replace('_', ' ')} task{'s' if len(rows) != 1 else ''}"
    if len(there) == 1:
        [verdict] = there
        everywhere = {1: "", 2: " on both"}.get(len(rows), f" on all {_count(len(rows))}")
        told = f"{verdict}{' from its base' if verdict == VERDICTS[-1] else ''}{everywhere}"
    else:
        *parts, last = (f"{verdict} on {_count(len(some))}" for verdict, some in there.items())
        told = f"{', '.join(parts)} and {last}"
    changed = [row for row in rows if row.verdict != VERDICTS[-1]] or (rows if len(rows) == 1 else [])
    if not changed:
        return f"{subject} the tuned model is {told}."
    clearest = max(changed, key=_relative)
    return (
        f"{subject} the tuned model is {told}{':' if len(rows) == 1 else '; the clearest change is'} "
        f"{clearest.task.replace('_', ' ')}, {NAMES[clearest.metric].partition(',')[0]} from "
        f"{shown(clearest.metric, clearest.base)} to {shown(clearest.metric, clearest.tuned)} "
        f"({signed(clearest.metric, clearest.difference)}{unit(clearest.metric)}, 95 % interval {interval(clearest)})."
    )


def cost(comparison: Comparison) -> str:
    """What tuning cost in general ability, in a sentence."""
    told = {"better": "rose", "worse": "fell", "not distinguishable": "did not change measurably"}
    parts = []
    for row in comparison.general:
        name, verb = row.task.replace("_", " "), told[row.verdict]
        if not row.higher_is_better and row.verdict != "not distinguishable":
            verb = "improved" if row.verdict == "better" else "worsened"
        relative = f" ({100 * row.difference / row.base:+.1f} %)" if row.base and not row.higher_is_better else ""
        values = f"{shown(row.metric, row.base)} to {shown(row.metric, row.tuned)}{relative}"
        parts.append(f"{name} {verb}, {values.replace('-', '−')}")
    if not parts:
        return "General ability was not measured."
    return f"General ability: {'; '.join(parts)}. {general(comparison)}".rstrip()


def _relative(row: Difference) -> float:
    """How many times the half-width of its interval a difference is."""
    return abs(row.difference) / max((row.high - row.low) / 2, 1e-12)


def _count(number: int) -> str:
    words = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return words[number] if number < len(words) else str(number)
