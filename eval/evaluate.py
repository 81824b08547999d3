"""Run -> Scorecards: base and tuned model on the same items, every answer kept.

items -> prompts -> batches -> answers of both models in turn, appended to disk -> scores -> scorecards
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.records import Run, Scorecard
from configs.store import verify_files
from eval.answering import answer
from eval.ask import ask
from eval.pair import models_of, sessions

if TYPE_CHECKING:
    from configs.job import Job


def evaluate(job: Job) -> list[Scorecard]:
    """Score the base and the tuned model; a scorecard is kept if nothing that matters to it changed.

    Raises:
        DataError: run, base, task or data are missing or damaged, or the adapter belongs to another base.
        UnsafeArtefactError: weights are not in safetensors.
        MemoryExhaustedError: a single item does not fit into memory.
    """
    run = Run.read(job.folder.run / "run.json")
    models = models_of(job, run)
    wanted = [model for model in models if not model.kept()]
    if wanted:
        verify_files(job.folder.run, run.files)
        wish = job.recipe.evaluate
        names = dict.fromkeys((*wish.tasks, *wish.general))
        asked = [ask(name, job.roots, wish, job.recipe.seed) for name in names]
        for session in sessions(job, run, wanted):
            from eval.weights import load_scorer, reading

            tokenizer, room = reading(session.folder)
            for one in asked:  # before the weights are loaded, so that the first batch follows at once
                one.fit(tokenizer, room, chat=wanted[0].settings["chat"], budget=wish.batch_tokens)
            scorer = load_scorer(session.folder, session.adapter, seed=session.seed)
            answer(job.recipe.name, session.models, scorer, asked)
    return [Scorecard.read(model.card) for model in models]
