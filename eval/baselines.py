"""Plain baselines on the same items: what a model must beat before its number means anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.progress import say
from eval.score import BY_CLASS, STATISTICS, Answers, sums_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.items import Item
    from configs.task import Task

BY_CHOICE = frozenset({"acc", "acc_norm", "exact_match", *BY_CLASS})
"""Metrics of answers that are one of the item's choices, chosen or written."""
ENOUGH = 50
"""Training rows below which a trained baseline says nothing."""


def baselines(task: Task, items: Sequence[Item], pool: Sequence[Item], seed: int) -> dict[str, float]:
    """The task's first metric for: the best constant answer, a random one, TF-IDF with logistic regression.

    `majority` always gives the choice (its text, or its position where choices differ by item) that scores best on the
    test items. `random` is the expected accuracy, 1 / number of choices. `tfidf` learns from `pool`, the task's
    fewshot_split without test items; it is left out, with its reason, where that cannot be done.
    """
    metric = task.metric_list[0].metric
    if task.doc_to_choice is None or metric not in BY_CHOICE:
        return {}
    positions = range(min(len(item.choices) for item in items))
    constant = [_value(task, metric, items, [item.choices[position] for item in items]) for position in positions]
    found = {"majority": max(constant)}
    if metric not in BY_CLASS:
        found["random"] = sum(1 / len(item.choices) for item in items) / len(items)
    reason = _without_tfidf(task, pool)
    if reason:
        say(f"  {task.task}: no TF-IDF baseline ({reason})")
    else:
        found["tfidf"] = _value(task, metric, items, tfidf(items, pool, seed))
    return found


def _without_tfidf(task: Task, pool: Sequence[Item]) -> str:
    """Why a trained baseline cannot be had, or nothing."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return "scikit-learn is not installed: pip install 'sectorlm[baselines]'"
    if not isinstance(task.doc_to_choice, tuple):
        return "every question has choices of its own"
    if task.fewshot_split is None:
        return "it has no split for examples to learn from"
    if len(pool) < ENOUGH:
        return f"its split for examples has {len(pool)} rows, fewer than {ENOUGH}"
    if len({item.target for item in pool}) < 2:
        return "its split for examples knows only one answer"
    return ""


def tfidf(items: Sequence[Item], pool: Sequence[Item], seed: int) -> list[str]:
    """The answers of logistic regression on words, word pairs and runs of 1 to 3 characters, learnt from `pool`.

    Runs of characters make it work for Chinese. Source of the weights: Salton and Buckley 1988, "Term-weighting
    approaches in automatic text retrieval", with sublinear term frequency.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, min_df=2)
    model = make_pipeline(make_union(words, characters), LogisticRegression(C=10, max_iter=1000, random_state=seed))
    model.fit([item.text for item in pool], [item.target for item in pool])
    return [str(answer) for answer in model.predict([item.text for item in items])]


def _value(task: Task, metric: str, items: Sequence[Item], given: Sequence[str]) -> float:
    gold = tuple(item.target for item in items)
    answers = Answers(tuple(item.cluster for item in items), gold, tuple(given), tuple(given), (), ())
    classes = task.doc_to_choice if isinstance(task.doc_to_choice, tuple) else tuple(sorted(set(gold)))
    sums_CD, _ = sums_of(metric, answers, classes)
    return float(STATISTICS[metric](sums_CD.sum(axis=0)))
