"""The gates of a release: one row each, from the records to a sentence. All failures are told at once.

A gate that is not met refuses the release, unless its failure is accepted with a reason; both then stand in the release's
record and on its card.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from configs.errors import GateError, RecipeError, did_you_mean
from configs.licences import licence_kind, licence_name, licence_problem
from configs.records import Accepted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from configs.recipe import Recipe
    from configs.records import Comparison, Corpus, Memorisation, Scorecard
    from configs.releasing import Gates

CLOSED = ("noncommercial", "research-only")
"""Kinds of licences that forbid commercial use."""
MEASURED = ("max_memorised", "max_exposure", "max_personal")
"""Gates that need the audit of memorisation."""


class Evidence(NamedTuple):
    """What gates are judged by."""

    recipe: Recipe
    corpus: Corpus
    comparison: Comparison
    tuned: Scorecard
    memorised: Memorisation | None = None
    base_licence: str = ""
    """As the recipe or the base's card says; empty where neither does."""


class Finding(NamedTuple):
    """What one gate found."""

    met: bool
    told: str


class Verdict(NamedTuple):
    """All gates of a recipe."""

    met: dict[str, str]
    accepted: dict[str, Accepted]


def accepted_reasons(words: Sequence[str]) -> dict[str, str]:
    """The reasons given as `GATE=REASON`.

    >>> accepted_reasons(["max_invalid=known, see issue 12"])
    {'max_invalid': 'known, see issue 12'}

    Raises:
        RecipeError: no reason, or no such gate.
    """
    found = {}
    for word in words:
        gate, _, reason = word.partition("=")
        if gate not in TABLE:
            hint = f"{did_you_mean(gate, TABLE)} Gates: {', '.join(TABLE)}.".strip()
            raise RecipeError(f"no gate is called {gate!r}", where="--accept", hint=hint)
        if not reason.strip():
            raise RecipeError(f"no reason is given for {gate}", where="--accept", hint=f'--accept "{gate}=WHY"')
        found[gate] = reason.strip()
    return found


def check_gates(evidence: Evidence, reasons: dict[str, str] | None = None) -> Verdict:
    """Each gate of the recipe and how it was met, or why its failure was accepted.

    Raises:
        GateError: one or more were not met, and not accepted; the message is the table of all of them.
    """
    gates, reasons = evidence.recipe.gates, reasons or {}
    asked = [
        name for name in TABLE if getattr(gates, name) is not None and getattr(gates, name) is not False
    ]  # 0 counts
    found = {name: TABLE[name](evidence) for name in asked}
    accepted = {
        name: Accepted(found=it.told, reason=reasons[name])
        for name, it in found.items()
        if not it.met and name in reasons
    }
    failed = {name: it.told for name, it in found.items() if not it.met and name not in accepted}
    if failed:
        width = max(map(len, failed))
        raise GateError(
            "the release is refused:\n    "
            + "\n    ".join(f"{f'{name}:':<{width + 1}} {it}" for name, it in failed.items()),
            where=f"gates of {evidence.recipe.name}",
            hint="Read the report, change the training, or loosen the gate in the recipe. What is known and meant is said "
            f'with --accept "{next(iter(failed))}=REASON", which the card will tell.',
        )
    return Verdict({name: it.told for name, it in found.items() if it.met}, accepted)


def needs_audit(gates: Gates) -> bool:
    """Whether one of the recipe's gates is about memorisation."""
    return any(getattr(gates, name) is not None for name in MEASURED)


# ---------------------------------------------------------------- what tuning gained and cost


def _significant_gain(evidence: Evidence) -> Finding:
    better = [row.task for row in evidence.comparison.differences if row.verdict == "better"]
    if better:
        return Finding(True, f"better on {', '.join(better)}")
    return Finding(False, "no sector task is better with an interval above zero after Holm's correction")


def _general_loss(evidence: Evidence) -> Finding:
    allowed = evidence.recipe.gates.max_general_loss or 0.0
    text = [row for row in evidence.comparison.general if row.metric == "bits_per_byte"]
    if not text:
        return Finding(False, "the general panel has no bits_per_byte task to measure it on")
    rises = {row.task: row.difference / row.base for row in text}
    told = ", ".join(f"{task} rose by {100 * rise:+.1f} %" for task, rise in rises.items())
    return Finding(all(rise <= allowed for rise in rises.values()), f"{told} (allowed {100 * allowed:.1f} %)")


def _not_inferior(evidence: Evidence) -> Finding:
    panel = evidence.comparison.panel
    if panel is None:
        return Finding(False, "the comparison has no verdict on the general panel: run `sectorlm compare` again")
    reasons = f": {'; '.join(panel.reasons)}" if panel.reasons else ""
    return Finding(panel.verdict == "not inferior", f"the general panel is {panel.verdict}{reasons}")


def _invalid(evidence: Evidence) -> Finding:
    allowed = evidence.recipe.gates.max_invalid or 0.0
    worst = max(evidence.tuned.scores, key=lambda score: score.invalid)
    above = [it for it in evidence.tuned.scores if it.invalid > allowed] or [worst]
    told = ", ".join(f"{it.task} {100 * it.invalid:.1f} % of {it.n} answers unreadable" for it in above)
    return Finding(worst.invalid <= allowed, f"{told} (allowed {100 * allowed:.1f} %)")


# ---------------------------------------------------------------- what it learnt from


def _contamination(evidence: Evidence) -> Finding:
    """Documents that were taken out, or cut, taught nothing of the items that they touched."""
    allowed, corpus = evidence.recipe.gates.max_contamination or 0.0, evidence.corpus
    taken_out = corpus.settings.get("prepare.decontaminate") in ("drop", "cut")
    tasks = [row.task for row in evidence.comparison.differences]
    missing = [task for task in tasks if not corpus.checked.get(task)]
    if missing:
        return Finding(False, f"the corpus was not compared with {', '.join(missing)} (prepare.decontaminate)")
    told, most = [], 0.0
    for task in tasks:
        met, of = len(corpus.touched.get(task, ())), corpus.checked[task]
        left = 0 if taken_out else met
        most = max(most, left / of)
        told.append(
            f"{task} {left} of {of} items" + (f" ({met} before documents were taken out)" if met > left else "")
        )
    return Finding(most <= allowed, f"{', '.join(told)} touched by training documents (allowed {100 * allowed:.1f} %)")


def _licences(evidence: Evidence) -> Finding:
    recipe = evidence.recipe
    found = [problem for source in evidence.corpus.sources if (problem := licence_problem(source, recipe.use))]
    closed = [it for it in evidence.corpus.sources if licence_kind(it.licence) in (*CLOSED, "unknown")]
    given, kind = recipe.publish.licence, _kind(recipe.publish.licence)
    if kind not in (*CLOSED, "unknown"):
        found += [f"the release is under {given}, which allows more than {it.licence} of {it.name}" for it in closed]
    base = _kind(evidence.base_licence)
    if recipe.use == "commercial" and base in CLOSED:
        found.append(f"the base is under {evidence.base_licence} ({base}), and the recipe says `use: commercial`")
    known = evidence.base_licence or "not known"
    return Finding(
        not found, "; ".join(found) or f"all sources allow {recipe.use} use; base: {known}; release: {given}"
    )


def _kind(licence: str) -> str:
    """The kind of a licence; what the table does not know (a hub licence such as `llama3.1`) is unknown."""
    try:
        return licence_kind(licence_name(licence))
    except RecipeError:
        return "unknown"


def _grades(evidence: Evidence) -> Finding:
    allowed = evidence.recipe.gates.grades or ()
    wrong = [f"{it.name} is graded {it.grade}" for it in evidence.corpus.sources if it.grade not in allowed]
    return Finding(not wrong, f"{', '.join(wrong) or 'all sources are'} (allowed: {', '.join(allowed) or 'none'})")


# ---------------------------------------------------------------- what it knows by heart


def _memorised(evidence: Evidence) -> Finding:
    allowed, found = evidence.recipe.gates.max_memorised or 0.0, evidence.memorised
    if found is None or found.share is None:
        asked = evidence.recipe.publish.audit
        return Finding(
            False, f"no training document of {asked.prompt + asked.continuation} tokens was continued (publish.audit)"
        )
    part = found.learnt
    told = f"{part.tuned} of {part.documents} training documents reproduced (allowed {100 * allowed:.1f} %)"
    return Finding(found.share <= allowed, told)


def _exposure(evidence: Evidence) -> Finding:
    allowed, found = evidence.recipe.gates.max_exposure or 0.0, evidence.memorised
    if found is None or found.exposure is None:
        return Finding(False, "no canary was planted among the training documents (publish.audit.canaries)")
    return Finding(found.exposure <= allowed, f"mean exposure {found.exposure:.2f} bits (allowed {allowed:g})")


def _personal(evidence: Evidence) -> Finding:
    allowed, found = evidence.recipe.gates.max_personal or 0, evidence.memorised
    if found is None or found.personal is None or found.share is None:
        return Finding(False, "no continuation was searched for personal data (publish.audit)")
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.personal.items()))
    return Finding(sum(found.personal.values()) <= allowed, f"{kinds or 'none'} said by heart (allowed {allowed})")


TABLE: dict[str, Callable[[Evidence], Finding]] = {
    "significant_gain": _significant_gain,
    "max_general_loss": _general_loss,
    "not_inferior": _not_inferior,
    "max_contamination": _contamination,
    "max_invalid": _invalid,
    "licences": _licences,
    "grades": _grades,
    "max_memorised": _memorised,
    "max_exposure": _exposure,
    "max_personal": _personal,
}
"""Each gate of `configs.releasing.Gates` and how it is judged."""
