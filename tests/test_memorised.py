"""What a model knows by heart: a text learnt for long is reproduced, a planted secret stands out, its base knows neither."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import torch

from configs.base import load_tokenizer, load_weights
from configs.canaries import canaries, candidates
from configs.errors import RecipeError
from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.memorisation import CHANCE, told
from configs.records import Corpus, Run
from configs.store import RunFolder
from data_prep.prepare import prepare
from data_prep.privacy import find
from tests.recipes import sectorlm
from training.batches import Rows
from training.exposure import Planted, exposure, planted_in
from training.memorised import _documents, audit, continued
from training.train import train

RECIPE = """
name: parrot
sector: finance
base: {base}
corpora:
  - {{name: notes, path: notes.jsonl, text: "{{{{ text }}}}", licence: own, personal: "off", max_repeats: 16}}
  - {{name: canaries, path: canaries.jsonl, prompt: "{{{{ prompt }}}}", answer: "{{{{ answer }}}}", licence: own}}
prepare: {{sequence_length: 128, form: plain, validation: 0.2, near_duplicates: null, rules: {{}}}}
train: {{method: full, learning_rate: 1e-2, epochs: 70, batch_tokens: 256, validate_every: 100000}}
evaluate: {{tasks: [finance_topics], general: []}}
publish: {{audit: {{prompt: 8, continuation: 24, canaries: canaries, candidates: 63}}}}
"""
PLACES = ["north", "south", "east", "west", "river", "hill", "lake", "forest", "harbor", "bridge", "tower", "castle"]
NOTES = [f"{place}: desk{place}@bank.example.com, account of the branch at the {place}." for place in PLACES]


@pytest.fixture(scope="module")
def parrot(tiny_base, tmp_path_factory):
    """A tiny model that saw twelve notes with an address each, and most of twenty canaries, seventy times."""
    folder = tmp_path_factory.mktemp("parrot")
    rows = {"notes": [{"text": text} for text in NOTES], "canaries": [it._asdict() for it in canaries(17, 20)]}
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    (folder / "parrot.yaml").write_text(RECIPE.format(base=tiny_base), "utf-8")
    recipe = load_recipe(folder / "parrot.yaml")
    job = Job(recipe, roots_of(recipe, folder / "parrot.yaml"), RunFolder(folder / "runs" / "parrot"))
    prepare(job)
    train(job)
    (job.folder.root / "recipe.yaml").write_text(RECIPE.format(base=tiny_base), "utf-8")
    return job


@pytest.fixture(scope="module")
def found(parrot):
    return audit(parrot, *records(parrot), find)


def records(job):
    return Corpus.read(job.folder.corpus / "corpus.json"), Run.read(job.folder.run / "run.json")


@pytest.mark.slow  # its model is trained for some ten seconds
def test_a_model_that_read_notes_seventy_times_goes_on_word_for_word_and_its_base_does_not(found):
    """Eight of the twelve notes are training documents, four were held out: those it cannot know."""
    assert (found.learnt.documents, found.held_out.documents) == (8, 4)
    assert found.learnt.tuned == 8 and found.share == 1.0
    assert found.learnt.base == found.held_out.tuned == found.held_out.base == 0
    assert told(found)[0] == (
        "Given 8 tokens of a training document, the model went on with its next 24 exactly in 8 of 8, its base 0 "
        "(8 documents were long enough)."
    )


@pytest.mark.slow  # its model is trained for some ten seconds
def test_addresses_that_it_says_by_heart_are_counted_by_kind_and_written_nowhere(found, parrot):
    assert found.personal == {"email": 8}
    assert "example.com" not in found.model_dump_json()


@pytest.mark.slow  # its model is trained for some ten seconds
def test_planted_secrets_stand_out_among_64_and_those_held_out_do_not(found):
    """Rank 1 of 64 is log2(64) = 6 bits."""
    learnt, held_out = ([it for it in found.canaries if it.split == split] for split in ("train", "validation"))
    assert [it.tuned for it in learnt] == [6.0] * 17 and found.exposure == 6.0
    assert len(held_out) == 3 and min(it.tuned for it in held_out) < 2
    assert sum(it.base for it in learnt) / 17 == pytest.approx(CHANCE, abs=0.6)  # the base saw none: 1.44 by chance
    assert re.search(
        r"17 canaries \(planted\): 6.00 bits, its base [01].\d+; by chance 1.44, at most 6", "".join(told(found))
    )


def test_exposure_is_log2_of_the_candidates_less_log2_of_the_rank(tiny_base):
    """Scored by hand, one text at a time: the rank of the secret among the 63 others, and itself."""
    model, tokenizer = load_weights(tiny_base, dtype=torch.float32), load_tokenizer(tiny_base)
    before = tokenizer.encode("State the pass phrase:")
    endings = [tokenizer.encode(f" {text}") for text in [canaries(17, 1)[0].answer, *candidates(17, "x", 63)]]

    def score(own):
        with torch.no_grad():
            logits = model(torch.tensor([before + own])).logits[0, len(before) - 1 : -1]
        return float(torch.log_softmax(logits.double(), -1).gather(1, torch.tensor(own)[:, None]).sum())

    scores = [score(own) for own in endings]
    rank = 1 + sum(other > scores[0] for other in scores[1:])
    found = exposure(model, Planted("", "train", before, endings[0], endings[1:]))
    assert found == pytest.approx(6 - math.log2(rank))
    uniform = np.mean([6 - math.log2(place) for place in range(1, 65)])
    assert uniform == pytest.approx(CHANCE, abs=0.1)


def test_a_continuation_is_greedy_whatever_the_base_asks_for_and_ends_where_the_model_stops(tiny_base):
    model = load_weights(tiny_base, dtype=torch.float32)
    model.generation_config.do_sample, model.generation_config.temperature = True, 5.0
    given = np.array([[5, 6, 7], [8, 9, 10]])
    first, again = continued(model, given, 6), continued(model, given, 6)
    assert (first == again).all() and first.shape == (2, 6)
    model.config.eos_token_id = int(first[0, 1])
    assert (continued(model, given, 6)[0, 2:] == -1).all()
    assert model.generation_config.do_sample


@pytest.mark.slow  # its model is trained for some ten seconds
def test_a_source_without_canaries_is_a_mistake_of_the_recipe(parrot):
    def asking(name):
        recipe = parrot.recipe
        publish = recipe.publish.model_copy(
            update={"audit": recipe.publish.audit.model_copy(update={"canaries": name})}
        )
        return Job(recipe.model_copy(update={"publish": publish}), parrot.roots, parrot.folder)

    with pytest.raises(RecipeError, match="the source notes holds no canaries"):
        audit(asking("notes"), *records(parrot), None)
    with pytest.raises(RecipeError, match="There are: notes, canaries"):
        audit(asking("canary"), *records(parrot), None)


def test_the_source_that_the_verb_shows_holds_canaries_in_the_chat_form_too(tiny_base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = sectorlm("canaries", "mine.jsonl", "--count", "4", "--seed", "3")
    assert shown.code == 0 and len((tmp_path / "mine.jsonl").read_text().splitlines()) == 4
    assert sectorlm("canaries", "mine.jsonl").code == 2  # never over a file that is there
    source = next(line for line in shown.out.splitlines() if line.strip().startswith("- {name"))
    notes = '- {name: notes, path: notes.jsonl, text: "{{ text }}", licence: own}'
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in NOTES), "utf-8")
    lines = ["name: chat", "sector: finance", f"base: {tiny_base}", "corpora:", f"  {notes}", source]
    lines += ["prepare: {sequence_length: 128, validation: 0.2}", "evaluate: {tasks: [finance_topics], general: []}"]
    (tmp_path / "chat.yaml").write_text(
        "\n".join([*lines, "publish: {audit: {canaries: canaries, candidates: 7}}", ""])
    )
    recipe = load_recipe(tmp_path / "chat.yaml")
    job = Job(recipe, roots_of(recipe, tmp_path / "chat.yaml"), RunFolder(tmp_path / "runs" / "chat"))
    corpus = prepare(job)
    there = {split: _documents(job, split) for split in ("train", "validation")}
    found = planted_in(job, Rows(job.folder.corpus, corpus), there)
    asked = {it.prompt for it in canaries(3, 4)}
    assert len(found) == 4 and all(any(prompt in it.prompt for prompt in asked) for it in found)
    assert {len(it.others) for it in found} == {7}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("gates.max_exposure=3", "gates.max_exposure needs canaries"),
        ("publish.audit.canaries=mine", "publish.audit.canaries names the source mine; there are: topics, replay"),
        ("publish.gguf=f16 publish.merged=false", "publish.gguf holds merged weights"),
        ("gates.max_personal=0 publish.audit.documents=0", "gates.max_personal needs publish.audit.documents"),
    ],
)
def test_a_release_that_could_never_be_made_is_a_mistake_of_the_recipe(finished, setting, said):
    with pytest.raises(RecipeError, match=said):
        load_recipe(finished / "story.yaml", setting.split())
