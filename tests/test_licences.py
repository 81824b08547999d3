"""Licences: which use they allow."""

import json
from pathlib import Path

import pytest

from configs.errors import PolicyError, RecipeError
from configs.licences import NAMES, WORDS, check_licences, hub_licence, licence_kind, licence_problem, spdx_id
from configs.recipe import Evaluate, Recipe, Source


def source(licence, **more):
    return Source(name="s", path="x.txt", text="{{ text }}", licence=licence, **more)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("CC0-1.0", "public-domain"),
        ("mit", "permissive"),
        ("CC BY 4.0", "permissive"),
        ("cc-by-sa-3.0", "share-alike"),
        ("cc_by_nc_sa_4.0", "noncommercial"),
        ("GPL-3.0", "copyleft"),
        ("research-only", "research-only"),
        ("other", "unknown"),
    ],
)
def test_names_are_found_in_any_case_and_with_blanks(name, kind):
    assert licence_kind(name) == kind


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(RecipeError) as caught:
        licence_kind("CC-BY-4")
    assert caught.value.hint.startswith("Did you mean CC-BY-4.0?")


def test_a_commercial_use_meets_only_licences_that_allow_it():
    assert licence_problem(source("CC-BY-NC-4.0"), "research") == ""
    assert "noncommercial" in licence_problem(source("CC-BY-NC-4.0"), "commercial")
    assert "nothing shows" in licence_problem(source("other"), "commercial")
    assert licence_problem(source("CC-BY-SA-4.0"), "commercial") == ""


def test_core_data_is_never_used_and_all_such_sources_are_named_at_once():
    sources = (source("MIT", grade="core"), source("CC-BY-NC-4.0").model_copy(update={"name": "t"}))
    recipe = Recipe(
        name="r", sector="finance", base="b", use="commercial", corpora=sources, evaluate=Evaluate(tasks=("t",))
    )
    with pytest.raises(PolicyError) as caught:
        check_licences(recipe)
    assert caught.value.code == 4
    assert "s is graded core data" in caught.value.message
    assert "t is under CC-BY-NC-4.0" in caught.value.message


def test_important_data_never_go_into_a_commercial_release():
    assert licence_problem(source("MIT", grade="important"), "research") == ""
    assert "important data (GB/T 43697-2024)" in licence_problem(source("MIT", grade="important"), "commercial")


def test_a_purpose_that_is_narrower_than_the_licence_decides():
    narrow = source("MIT", purpose=("research",))
    assert licence_problem(narrow, "research") == ""
    assert "allows it for research only, and the recipe says `use: commercial`" in licence_problem(narrow, "commercial")


def test_all_reasons_of_one_source_are_said_at_once():
    """Graded core, noncommercial licence, purpose research: three reasons; important, unclear, research: three others."""
    core = licence_problem(source("CC-BY-NC-4.0", grade="core", purpose=("research",)), "commercial")
    important = licence_problem(source("other", grade="important", purpose=("research",)), "commercial")
    assert [len(core.split("; ")), len(important.split("; "))] == [3, 3]


@pytest.mark.parametrize(
    ("licence", "grade", "hint"),
    [
        ("CC-BY-NC-4.0", "general", "Leave out s, or say `use: research` if that is what it is for."),
        ("MIT", "core", "Leave out s."),
    ],
)
def test_the_hint_offers_another_use_only_where_it_would_be_allowed(licence, grade, hint):
    recipe = Recipe(
        name="r",
        sector="finance",
        base="b",
        use="commercial",
        corpora=(source(licence, grade=grade),),
        evaluate=Evaluate(tasks=("t",)),
    )
    with pytest.raises(PolicyError) as caught:
        check_licences(recipe)
    assert caught.value.hint == hint


def test_a_licence_has_the_names_of_spdx_and_of_the_hub_where_they_have_one():
    assert [spdx_id(name) for name in ("apache-2.0", "cc by 4.0", "GFDL", "proprietary", "llama3.1")] == [
        "Apache-2.0",
        "CC-BY-4.0",
        "",
        "",
        "",
    ]
    assert [
        hub_licence(name) for name in ("ODbL-1.0", "AGPL-3.0-only", "CC-BY-SA-4.0", "gemma", "NASA-1.3", "own")
    ] == [
        "odbl",
        "agpl-3.0",
        "cc-by-sa-4.0",
        "gemma",
        "other",
        "other",
    ]


def test_what_spdx_knows_is_what_the_schema_of_cyclonedx_knows():
    schema = pytest.importorskip("cyclonedx.schema")
    [path] = Path(schema.__file__).parent.rglob("spdx*.json")
    known = set(json.loads(path.read_text("utf-8"))["enum"])
    assert {name for name in NAMES.values() if name not in known} == WORDS
