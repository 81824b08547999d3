"""What is written beside a corpus: it agrees with the corpus, also where texts became equal only by what was cut."""

import json

from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.store import RunFolder
from data_prep.prepare import prepare
from data_prep.rows import LATE

FIRST = "All of this may be copied, changed and sold by anyone for any purpose."
SECOND = "Nobody answers for what is written here, whatever may come of reading it."


def notes():
    """Twelve texts, each with one of two notices that stand in six of them; texts 5 and 11 are equal but for theirs."""
    own = [f"Bank {number} raised its rate to {number + 2} percent in spring." for number in range(12)]
    own[11] = own[5]
    return [f"{text}\n{FIRST if number < 6 else SECOND}\n" for number, text in enumerate(own)]


def test_a_text_that_became_a_copy_by_cutting_is_no_record_and_among_the_dropped(tmp_path, tiny_base):
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in notes()))
    (tmp_path / "recipe.yaml").write_text(
        f"""
name: small
sector: finance
base: {tiny_base}
corpora: [{{name: notes, path: notes.jsonl, text: "{{{{ body }}}}", licence: CC0-1.0}}]
prepare: {{sequence_length: 64, decontaminate: "off", near_duplicates: null, repeated_passages: 5}}
evaluate: {{tasks: [finance_topics], general: []}}
"""
    )
    recipe = load_recipe(tmp_path / "recipe.yaml")
    job = Job(recipe, (*roots_of(recipe, tmp_path / "recipe.yaml"), tiny_base.parent), RunFolder(tmp_path / "run"))
    (ledger,) = prepare(job, keep_dropped=True, standard="tc609").sources
    assert (ledger.rows, ledger.documents, ledger.dropped) == (12, 11, {LATE: 1})
    assert ledger.mended == {"repeated passages cut out": 10}
    (dropped,) = map(json.loads, (tmp_path / "run/dropped-texts.jsonl").open(encoding="utf-8"))
    assert (dropped["where"], dropped["reason"], dropped["text"]) == ("notes.jsonl:12", LATE, notes()[11])
    assert len((tmp_path / "run/tc609/records.jsonl").read_text("utf-8").splitlines()) == 11
