"""Templates: what they render, and what they refuse."""

import pytest

from configs.errors import DataError, RecipeError
from configs.template import columns_of, printed_bare, template


def test_columns_become_text():
    assert template("{{ title }}: {{ body }}")({"title": "Rates", "body": "They rose."}) == "Rates: They rose."


def test_a_missing_value_is_nothing_and_a_list_is_json():
    fields = {"a": None, "b": ["利率", 2], "c": 0}
    assert template("[{{ a }}] {{ b }} {{ c }}")(fields) == '[] ["利率", 2] 0'


def test_a_column_whose_name_is_not_one_word_is_reached_through_row():
    assert template('{{ row["Tweet Text"] }}')({"Tweet Text": "flood"}) == "flood"


def test_a_line_end_at_the_end_stays_as_in_lm_evaluation_harness():
    assert template("{{ q }}\n")({"q": "Up?"}) == "Up?\n"


def test_a_missing_column_names_the_nearest_and_all_others():
    with pytest.raises(DataError) as caught:
        template("{{ sentense }}")({"sentence": "x", "label": 1})
    assert caught.value.message == "no column sentense"
    assert caught.value.hint == "Did you mean sentence? The row has: sentence, label."


def test_a_default_makes_a_column_optional():
    assert template("{{ note | default('none') }}")({}) == "none"


def test_a_template_that_is_not_jinja_is_the_recipes_fault():
    with pytest.raises(RecipeError, match="not a valid template"):
        template("{{ title")


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{% for i in range(999999999) %}x{% endfor %}",
    ],
)
def test_a_template_reaches_nothing_but_the_row(attack):
    with pytest.raises(DataError):
        template(attack)({"title": "x"})


def test_the_columns_of_a_template_are_known_before_any_row():
    assert columns_of("{{ a }} {% for x in b %}{{ x }}{% endfor %} {{ row['c'] }}") == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("{{ a }} {{ b | trim }} {{ c | default('') }} {{ d ~ '!' }}", {"a", "b", "c", "d"}),
        ("{{ a | join(', ') if a is not string else a }}", set()),
        ("{% if a is string %}{{ a }} {{ b }}{% else %}{{ a | join }}{% endif %}", {"b"}),
        ("{% if a %}{{ a }}{% endif %}{{ b if b is not none and b is defined }}", {"a", "b"}),
        (
            "{{ a[0].text }} {{ b.name }} {{ c | length }} {{ d | first | trim }} {% for x in e %}{{ x }}{% endfor %}",
            set(),
        ),
        ("{% for x in e %}{{ x }} of {{ title }}{% endfor %}", {"title"}),
        ("{{ 'many' if a | length > 2 else a }}", set()),
        ("{% if k == '1' %}{{ a }}{% elif a is string %}{{ a }}{% endif %}", {"a"}),
    ],
)
def test_the_columns_that_are_printed_as_they_are_are_told_from_those_that_a_template_looks_into(text, bare):
    assert printed_bare(text) == bare
