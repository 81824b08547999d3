"""Governance: the strictest terms of a mixture."""

import pytest
from pydantic import ValidationError

from configs.errors import DataError, RecipeError
from configs.governance import strictest, years
from configs.recipe import Source
from configs.records import SourceLedger


def source(name, licence, **more):
    return Source(name=name, path="x.txt", text="{{ text }}", licence=licence, **more)


def test_one_noncommercial_source_makes_the_whole_mixture_noncommercial():
    terms = strictest([source("a", "CC0-1.0"), source("b", "MIT"), source("c", "CC-BY-NC-4.0")])
    assert (terms.kind, terms.grade, terms.uses) == ("noncommercial", "general", ("research",))


def test_the_highest_grade_and_the_narrowest_purpose_propagate():
    important = [source("a", "MIT"), source("b", "MIT", grade="important")]
    assert (strictest(important).grade, strictest(important).uses) == ("important", ("research",))
    core = [*important, source("c", "MIT", grade="core")]
    assert (strictest(core).grade, strictest(core).uses) == ("core", ())
    assert strictest([source("a", "MIT"), source("b", "MIT", purpose=("commercial",))]).uses == ("commercial",)


def test_two_purposes_that_exclude_each_other_leave_no_use():
    both = [source("a", "MIT", purpose=("research",)), source("b", "MIT", purpose=("commercial",))]
    assert strictest(both).uses == ()
    assert "Allowed: no use." in strictest(both).sentences()[0]


def test_licences_are_named_as_the_table_writes_them_with_their_sources():
    terms = strictest([source("a", "cc by 4.0"), source("b", "mit"), source("c", "CC-BY-4.0")])
    assert terms.licences == {"CC-BY-4.0": ("a", "c"), "MIT": ("b",)}


@pytest.mark.parametrize(
    ("licence", "duty"),
    [
        ("CC-BY-SA-4.0", "share-alike"),
        ("CC-BY-NC-SA-4.0", "share-alike"),
        ("CC-BY-NC-SA-4.0", "no commercial use"),
        ("GPL-3.0", "copyleft"),
        ("CC-BY-NC-ND-4.0", "no derivatives"),
        ("ODbL-1.0", "name the authors"),
        ("Apache-2.0", "keep the copyright notice"),
        ("other", "nothing shows what is allowed"),
    ],
)
def test_what_a_licence_asks_for_is_named_with_it(licence, duty):
    assert any(line.startswith(licence) and duty in line for line in strictest([source("a", licence)]).obligations)


def test_a_mixture_of_public_domain_and_own_texts_asks_for_nothing():
    assert strictest([source("a", "CC0-1.0"), source("b", "own")]).obligations == ()


def test_two_licences_that_each_ask_for_themselves_are_pointed_out():
    """CC BY-SA 3.0 may be passed on under 4.0, GPL 3.0 may not be passed on under CC BY-SA."""
    versions = strictest([source("a", "CC-BY-SA-3.0"), source("b", "CC-BY-SA-4.0")])
    mixed = strictest([source("a", "CC-BY-SA-3.0"), source("b", "GPL-3.0-only")])
    assert not [line for line in versions.obligations if "each ask" in line]
    assert mixed.obligations[-1].startswith("CC-BY-SA and GPL-3.0 each ask for their own licence")


def test_the_record_of_a_corpus_has_the_same_terms_as_the_recipe_it_came_from():
    recipe = [source("a", "CC-BY-NC-4.0", grade="important", purpose=("research",)), source("b", "MIT")]
    record = [
        SourceLedger(name=it.name, channel=it.channel, licence=it.licence, grade=it.grade, purpose=it.purpose)
        for it in recipe
    ]
    assert strictest(record) == strictest(recipe)


def test_no_sources_have_no_terms_and_an_unknown_licence_is_no_licence():
    with pytest.raises(DataError):
        strictest([])
    with pytest.raises(RecipeError):
        strictest([source("a", "CC-BY-9")])


def test_the_time_of_a_source_is_a_year_a_date_or_a_span():
    assert [years(time) for time in ("", "2019", "2024-03-20", "1996-07/2024")] == [
        None,
        (2019, 2019),
        (2024, 2024),
        (1996, 2024),
    ]
    assert source("a", "MIT", time="1996-07/2024").time == "1996-07/2024"
    for wrong in ("last year", "24", "2024/", "2024-3-20"):
        with pytest.raises(ValidationError):
            source("a", "MIT", time=wrong)
