"""Each gate refuses a release with its figures; what is known and meant is accepted with a reason; all failures at once."""

from __future__ import annotations

import pytest

from configs.errors import GateError, RecipeError
from configs.load import load_recipe
from configs.memorisation import Continuations, Exposure, Memorisation
from configs.records import Comparison, Corpus, Panel, Scorecard
from training.gates import Evidence, accepted_reasons, check_gates


@pytest.fixture
def evidence(finished):
    """The finished story: one finance task of 24 items, general text, two sources under CC0-1.0 and graded general."""
    root = finished / "runs" / "story"
    learnt = Continuations(documents=50, long_enough=50, tuned=1, base=0)
    canaries = tuple(Exposure(canary="State ...", split=split, tuned=bits, base=1.0) for split, bits in PLANTED)
    return Evidence(
        recipe=load_recipe(finished / "story.yaml"),
        corpus=Corpus.read(root / "corpus" / "corpus.json"),
        comparison=Comparison.read(root / "report" / "comparison.json"),
        tuned=Scorecard.read(root / "scorecards" / "tuned" / "scorecard.json"),
        memorised=Memorisation(
            prompt=50,
            continuation=50,
            learnt=learnt,
            held_out=learnt.model_copy(update={"tuned": 0}),
            personal={"email": 2, "phone": 1},
            candidates=255,
            canaries=canaries,
        ),
    )


PLANTED = (("train", 8.0), ("train", 5.0), ("validation", 1.0))


def asking(evidence: Evidence, **gates) -> Evidence:
    recipe = evidence.recipe
    return evidence._replace(recipe=recipe.model_copy(update={"gates": type(recipe.gates)(**gates)}))


def changed(evidence: Evidence, part: str, **fields) -> Evidence:
    return evidence._replace(**{part: getattr(evidence, part).model_copy(update=fields)})


def sourced(evidence: Evidence, **fields) -> Evidence:
    """With the first of the two sources changed."""
    first, *others = evidence.corpus.sources
    return changed(evidence, "corpus", sources=(first.model_copy(update=fields), *others))


def touched(evidence: Evidence, items: int, policy: str) -> Evidence:
    settings = evidence.corpus.settings | {"prepare.decontaminate": policy}
    return changed(evidence, "corpus", settings=settings, touched={"finance_topics": ("a",) * items})


def unreadable(evidence: Evidence, share: float) -> Evidence:
    first, *others = evidence.tuned.scores
    return changed(evidence, "tuned", scores=(first.model_copy(update={"invalid": share}), *others))


def panel(evidence: Evidence, verdict: str) -> Evidence:
    found = Panel(verdict=verdict, margin=0.02, margin_text=0.05, reasons=("general_text rose by 9 %",))
    return changed(evidence, "comparison", panel=found)


def worse(evidence: Evidence) -> Evidence:
    rows = tuple(row.model_copy(update={"low": -0.1}) for row in evidence.comparison.differences)
    return changed(evidence, "comparison", differences=rows)


def risen(evidence: Evidence) -> Evidence:
    """General text from 2.0 to 2.4 bits per byte."""
    [row] = evidence.comparison.general
    return changed(evidence, "comparison", general=(row.model_copy(update={"base": 2.0, "difference": 0.4}),))


REFUSED = {
    "significant_gain": (True, worse, "no sector task is better"),
    "max_general_loss": (0.05, risen, r"general_text rose by \+20.0 % \(allowed 5.0 %\)"),
    "not_inferior": (True, lambda it: panel(it, "undecided"), "panel is undecided: general_text rose by 9 %"),
    "max_contamination": (
        0.01,
        lambda it: touched(it, 3, "report"),
        r"finance_topics 3 of 200 items .*\(allowed 1.0 %\)",
    ),
    "max_invalid": (0.1, lambda it: unreadable(it, 0.25), r"finance_topics 25.0 % of 24 answers unreadable"),
    "licences": (
        True,
        lambda it: sourced(it, licence="CC-BY-NC-4.0"),
        "apache-2.0, which allows more than CC-BY-NC-4.0",
    ),
    "grades": (
        ("general",),
        lambda it: sourced(it, grade="important"),
        r"topics is graded important \(allowed: general\)",
    ),
    "max_memorised": (0.01, lambda it: it, r"1 of 50 training documents reproduced \(allowed 1.0 %\)"),
    "max_exposure": (6.0, lambda it: it, r"mean exposure 6.50 bits \(allowed 6\)"),
    "max_personal": (0, lambda it: it, r"2 email, 1 phone said by heart \(allowed 0\)"),
}
"""Gate to its setting, what breaks it, and what is told."""


@pytest.mark.parametrize("gate", REFUSED)
def test_each_gate_refuses_a_release_with_its_figures_and_exit_code_10(evidence, gate):
    setting, breaking, said = REFUSED[gate]
    with pytest.raises(GateError, match=rf"the release is refused:\n    {gate}: +.*{said}") as refused:
        check_gates(asking(breaking(evidence), **{gate: setting}))
    assert refused.value.code == 10
    assert f'--accept "{gate}=REASON"' in refused.value.hint


def test_what_is_within_its_limits_passes_and_says_its_figures(evidence):
    good = panel(touched(evidence, 3, "drop"), "not inferior")
    gates = {
        "max_general_loss": 0.05,
        "not_inferior": True,
        "max_contamination": 0.0,
        "max_invalid": 1.0,
        "licences": True,
        "grades": ("general",),
        "max_memorised": 0.02,
        "max_exposure": 6.5,
        "max_personal": 3,
    }
    verdict = check_gates(asking(good, **gates))
    assert verdict.met.keys() == gates.keys() and not verdict.accepted
    assert "finance_topics 0 of 200 items (3 before documents were taken out)" in verdict.met["max_contamination"]
    assert verdict.met["licences"] == "all sources allow research use; base: not known; release: apache-2.0"
    assert check_gates(asking(good)).met == {}


def test_all_failures_are_listed_at_once_and_an_accepted_one_is_kept_with_its_reason(evidence):
    asked = asking(worse(evidence), significant_gain=True, max_memorised=0.0, max_personal=0)
    with pytest.raises(GateError) as refused:
        check_gates(asked, {"max_personal": "all of it is public"})
    assert [line.split(":")[0].strip() for line in str(refused.value).splitlines()[1:3]] == [
        "significant_gain",
        "max_memorised",
    ]
    verdict = check_gates(asked, {name: f"because of {name}" for name in REFUSED})
    assert verdict.accepted.keys() == {"significant_gain", "max_memorised", "max_personal"}
    assert verdict.accepted["max_personal"].found.startswith("2 email, 1 phone")
    assert verdict.accepted["max_personal"].reason == "because of max_personal"


@pytest.mark.parametrize(
    ("gate", "setting", "part", "said"),
    [
        ("not_inferior", True, {"comparison": {"panel": None}}, "no verdict on the general panel"),
        ("max_contamination", 0.1, {"corpus": {"checked": {}}}, "was not compared with finance_topics"),
        ("max_memorised", 0.1, {"memorised": None}, "no training document of 100 tokens was continued"),
        ("max_exposure", 3.0, {"memorised": {"canaries": ()}}, "no canary was planted"),
        ("max_personal", 0, {"memorised": {"personal": None}}, "no continuation was searched"),
        ("max_general_loss", 0.1, {"comparison": {"general": ()}}, "no bits_per_byte task"),
    ],
)
def test_a_gate_whose_figure_was_never_measured_refuses_too(evidence, gate, setting, part, said):
    for name, fields in part.items():
        evidence = evidence._replace(memorised=None) if fields is None else changed(evidence, name, **fields)
    with pytest.raises(GateError, match=said):
        check_gates(asking(evidence, **{gate: setting}))


def test_commercial_use_needs_a_base_and_sources_that_allow_it(evidence):
    asked = asking(evidence, licences=True)
    recipe = asked.recipe.model_copy(update={"use": "commercial"})
    with pytest.raises(GateError, match=r"the base is under cc-by-nc-4.0 \(noncommercial\)"):
        check_gates(asked._replace(recipe=recipe, base_licence="cc-by-nc-4.0"))
    assert "base: llama3.1" in check_gates(asked._replace(recipe=recipe, base_licence="llama3.1")).met["licences"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("max_invalit=known", "Did you mean max_invalid"),
        ("max_invalid", "no reason is given"),
        ("=why", "no gate is called ''"),
    ],
)
def test_an_acceptance_names_a_gate_and_a_reason(word, said):
    with pytest.raises(RecipeError, match=said):
        accepted_reasons([word])
