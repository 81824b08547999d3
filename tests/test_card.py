"""The card of a release: metadata that the hub reads, and every figure that of a record."""

from __future__ import annotations

import re

import pytest
import yaml
from huggingface_hub import ModelCard

from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.records import Comparison, Corpus, Release, Run, Scorecard
from configs.store import RunFolder
from training.card import model_card


@pytest.fixture(scope="module")
def job(finished):
    """The finished story, with its release."""
    recipe = load_recipe(finished / "story.yaml")
    return Job(recipe, roots_of(recipe, finished / "story.yaml"), RunFolder(finished / "runs" / "story"))


def test_the_card_has_metadata_that_the_hub_reads_and_names_no_folder_of_this_machine(job, finished):
    text = (job.folder.release / "README.md").read_text("utf-8")
    data = ModelCard(text).data
    assert data.library_name == "peft"
    assert data.license == "apache-2.0"
    assert sorted(data.language) == ["en", "zh"]
    assert {result.dataset_name for result in data.eval_results} == {"finance_topics", "general_text"}
    assert "Not investment" in text
    assert "60" in text
    assert str(finished) not in text


def test_the_card_gives_each_result_with_its_interval_and_what_the_base_had(job):
    score = Scorecard.read(job.folder.scorecards / "tuned" / "scorecard.json").scores[0]
    card = ModelCard((job.folder.release / "README.md").read_text("utf-8"))
    first = card.data.eval_results[0]
    assert (first.metric_type, first.metric_value) == ("acc", round(score.value, 4))
    assert first.metric_name.startswith(f"acc (95 % interval {score.low:.4f} to {score.high:.4f}, n 24, base 0.")


def test_the_card_has_the_curve_the_recipe_and_the_verdict_on_general_ability(job):
    run, text = Run.read(job.folder.run / "run.json"), (job.folder.release / "README.md").read_text("utf-8")
    curve = text.partition("### Curve")[2].partition("### Recipe")[0]
    last = run.curve[-1]
    assert f"| {last.step} | {last.tokens:,} | " in curve and f" | {last.losses['sector']:.3f} |" in curve
    recipe = yaml.safe_load(text.partition("### Recipe\n\n```yaml\n")[2].partition("```")[0])
    assert recipe["name"] == "story" and recipe["base"] == "tiny-base0" and "seed" not in recipe
    assert (
        '"{{ text }}\\nTopic:"' in text
        and "Plain baselines on the same items: finance_topics (acc): majority 0." in text
    )
    assert "The general panel is " in text and text.count("- corpus: sha256") == 1


def test_a_licence_that_the_hub_does_not_list_is_other_and_says_where_it_stands(job):
    recipe = job.recipe.model_copy(update={"publish": job.recipe.publish.model_copy(update={"licence": "other"})})
    records = (Corpus, Run, Comparison)
    places = (job.folder.corpus / "corpus.json", job.folder.run / "run.json", job.folder.report / "comparison.json")
    found = [kind.read(place) for kind, place in zip(records, places, strict=True)]
    text = model_card(Job(recipe, job.roots, job.folder), *found, Release.read(job.folder.release / "release.json"))
    assert "license: other\nlicense_name: see-licences\nlicense_link: LICENCES.md" in text


def test_the_card_tells_terms_personal_data_duplicates_and_leaks(job):
    """The story's sources are both under CC0-1.0; its tasks are `finance_topics` with 200 items, `general_text` with 48."""
    card = re.sub(r"\s+", " ", (job.folder.release / "README.md").read_text("utf-8"))
    assert "Strictest licence: public-domain. Highest grade: general (GB/T 43697-2024)." in card
    assert "overlap by 0.8 or more (Jaccard)" in card
    assert "finance_topics 0 of 200; general_text 0 of 48." in card
    assert "- **replay.** Languages: en 45, zh-Hans 27. Personal data: none found." in card
