"""Run -> Scorecards: base and tuned model on the same items, every answer kept.

items -> prompts -> batches -> answers, appended to disk -> scores -> scorecard
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.base import base_digest, base_folder, tokenizer_digest
from configs.errors import DataError
from configs.items import read_items, split_files
from configs.load import load_task
from configs.progress import say, track
from configs.prompts import Prompt, block, examples, prompts, unasked
from configs.read import digest_files
from configs.records import Corpus, Run, Scorecard, flat, made_by, stale
from configs.splits import origin
from configs.store import crash_point, digest_file, digest_json, remove_folder, staged, verify_files
from configs.vocabulary import base_of
from eval.answers import AnswerLog, Line, write_answers
from eval.baselines import baselines
from eval.paired import foreseen_note
from eval.reading import answer_of, best_choice, sizes
from eval.tally import tally

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from configs.items import Item
    from configs.job import Job
    from configs.task import Task
    from eval.scorer import Scorer

SHOWN = 2000
"""Characters of a question that answers.jsonl keeps: its beginning and its end."""


def evaluate(job: Job) -> list[Scorecard]:
    """Score the base and the tuned model; a scorecard is kept if nothing that matters to it changed.

    Raises:
        DataError: run, base, task or data are missing or damaged, or the adapter belongs to another base.
        UnsafeArtefactError: weights are not in safetensors.
        MemoryExhaustedError: a single item does not fit into memory.
    """
    run = Run.read(job.folder.run / "run.json")
    models = _models(job, run)
    stale = [model for model in models if not model.kept()]
    if stale:
        verify_files(job.folder.run, run.files)
        names = dict.fromkeys((*job.recipe.evaluate.tasks, *job.recipe.evaluate.general))
        asked = [_ask(job, name) for name in names]
        for scorer, model in _opened(job, run, stale):
            _score(job, model, scorer, asked)
    return [Scorecard.read(model.card) for model in models]


@dataclass(frozen=True)
class Model:
    """One of the two models, and what its scorecard depends on."""

    which: str
    """`base` or `tuned`."""
    folder: Path
    """Where its scorecard goes."""
    digest: str
    settings: dict[str, Any]
    inputs: dict[str, str]

    @property
    def card(self) -> Path:
        """The record of this model."""
        return self.folder / "scorecard.json"

    def kept(self) -> bool:
        """Whether its scorecard is there and still holds."""
        record = Scorecard.read_if_there(self.card)
        if record is None:
            return False
        reasons = stale(record, self.folder, self.settings, self.inputs)
        say(
            f"evaluate {self.which} again: {'; '.join(reasons)}"
            if reasons
            else f"evaluate {self.which}: unchanged, kept"
        )
        return not reasons

    def earlier(self) -> Path | None:
        """The answers of its last scorecard, if they are the ones that it vouches for."""
        record = Scorecard.read_if_there(self.card)
        whole = record is not None and not stale(record, self.folder, record.settings, record.inputs)
        return self.folder / "answers.jsonl" if whole else None


def _models(job: Job, run: Run) -> list[Model]:
    """Base and tuned, with their fingerprints.

    Raises:
        DataError: the run was trained on another base or tokenizer than the recipe's.
    """
    recipe = job.recipe
    folder = base_of(job, weights=run.method != "scratch")
    base, tokenizer = base_digest(folder), tokenizer_digest(folder)
    corpus = Corpus.read_if_there(job.folder.corpus / "corpus.json")
    if base != run.base_digest or (corpus is not None and corpus.tokenizer != tokenizer):
        raise DataError(
            f"the run was trained on {run.base} as it was then: its weights or its tokenizer differ now",
            where=str(folder),
            hint="Run `sectorlm train` again.",
        )
    # Questions are asked in the form that the recipe's own questions were trained in.
    chat = recipe.prepare.form == "chat" and any(source.text is None for source in recipe.corpora)
    settings = flat(recipe.evaluate, "evaluate") | {"seed": recipe.seed, "chat": chat}
    inputs = {f"base {recipe.base}": base, "tokenizer": tokenizer} | _task_inputs(job)
    tuned = digest_json([base, run.weights_digest])
    cards = job.folder.scorecards
    before = inputs
    if (published := _published(job, run)) != folder:  # the base is asked as it is published, without the new tokens
        base = base_digest(published)
        before = {f"published base {recipe.base}": base, "published tokenizer": tokenizer_digest(published)}
        before |= _task_inputs(job)
    return [
        Model("base", cards / "base", base, settings, before),
        Model("tuned", cards / "tuned", tuned, settings, inputs | {"tuned weights": run.weights_digest}),
    ]


def _published(job: Job, run: Run) -> Path:
    """The base as the recipe names it, without new tokens."""
    return base_folder(job.recipe.base, job.roots, weights=run.method != "scratch")


def _task_inputs(job: Job) -> dict[str, str]:
    """The digests of every task and of its files."""
    inputs = {}
    for name in (*job.recipe.evaluate.tasks, *job.recipe.evaluate.general):
        task, roots = load_task(name, job.roots)
        inputs[f"task {task.task}"] = digest_json(task.model_dump(mode="json"))
        inputs |= {f"rows of {task.task}": rows} if (rows := origin(task, roots)) else {}
        for split in (task.test_split, task.fewshot_split):
            files = split_files(task, split, roots) if split else []
            inputs |= {f"{task.task}: {label}": digest for label, digest in digest_files(files, roots).items()}
    return inputs


def _opened(job: Job, run: Run, models: Sequence[Model]) -> Iterator[tuple[Scorer, Model]]:
    """Each model ready to answer; with an adapter both share one copy of the weights, unless the vocabulary grew."""
    from eval.weights import load_scorer

    published, folder = _published(job, run), base_of(job, weights=run.method != "scratch")
    weights = job.folder.run / run.weights
    if run.weights == "adapter":
        if published != folder:
            for model in models:
                yield load_scorer(published) if model.which == "base" else load_scorer(folder, weights), model
            return
        scorer = load_scorer(folder, weights)
        for model in models:
            yield scorer, model
        return
    for model in models:
        yield load_scorer(published if model.which == "base" else weights, seed=job.recipe.seed), model


# ---------------------------------------------------------------- one task


@dataclass
class Asked:
    """A task with its items, before any model has seen them."""

    task: Task
    items: list[Item]
    before: str
    """Description and worked examples."""
    baselines: dict[str, float]
    prompts: list[Prompt]
    """Built with the first model's tokenizer, and again for one with more tokens."""
    vocabulary: int = 0
    """Tokens of that tokenizer."""


def _ask(job: Job, name: str) -> Asked:
    """Read a task's items and its worked examples."""
    wish, seed = job.recipe.evaluate, job.recipe.seed
    task, roots = load_task(name, job.roots)
    items, refused = read_items(task, task.test_split, roots, limit=wish.limit, seed=seed)
    everything = items if wish.limit is None else read_items(task, task.test_split, roots)[0]
    pool = read_items(task, task.fewshot_split, roots)[0] if task.fewshot_split else []
    free = unasked(pool, everything)
    shots = task.num_fewshot if wish.shots is None else wish.shots
    shown = examples(task, free, shots, seed) if task.output_type != "loglikelihood_rolling" else []
    reasons = "".join(f", {count} {reason}" for reason, count in sorted(refused.items()))
    rows = f" of {place}" if (place := origin(task, roots)) else ""
    say(f"  {task.task}: {len(items)} items{rows}, {len(shown)} worked examples{reasons}")
    if told := foreseen_note(task, items):
        say(f"  {told}")
    return Asked(task, items, block(task, shown), baselines(task, items, free, seed), [])


def _score(job: Job, model: Model, scorer: Scorer, asked: Sequence[Asked]) -> None:
    """Answer every task and write the scorecard, record last."""
    started, wish = time.monotonic(), job.recipe.evaluate
    working = model.folder.with_name(f".{model.which}.answers")
    log = AnswerLog(working / "answers.jsonl", model.earlier())
    scores, lines = [], list[Line]()
    for ask in asked:
        chat = model.settings["chat"]
        if ask.vocabulary != len(scorer.tokenizer):
            ask.prompts = prompts(ask.task, ask.items, ask.before, scorer.tokenizer, scorer.room, chat=chat)
            ask.vocabulary = len(scorer.tokenizer)
        answered = _answer(ask, model, scorer, log, wish.batch_tokens)
        scores.append(tally(ask.task, answered, ask.baselines, seed=job.recipe.seed, resamples=wish.resamples))
        lines += answered
    forwarded = {line["batch"]: line["batch_tokens"] for line in lines}
    with staged(model.folder) as staging:
        write_answers(staging / "answers.jsonl", lines)
        crash_point("evaluate.before_record")
        record = Scorecard(
            name=job.recipe.name,
            settings=model.settings,
            inputs=model.inputs,
            files={"answers.jsonl": digest_file(staging / "answers.jsonl")},
            made=made_by("eval", started),
            model=model.which,
            model_digest=model.digest,
            engine=scorer.engine,
            scores=tuple(scores),
            tokens=sum(forwarded.values()),
            seconds=round(time.monotonic() - started, 3),
        )
        record.write(staging / "scorecard.json")
    remove_folder(working)


def _answer(ask: Asked, model: Model, scorer: Scorer, log: AnswerLog, budget: int) -> list[Line]:
    """The answers of one model to one task, in the order of its items; what is on disk is not asked again."""
    from eval.scorer import by_budget

    costs = [sum(len(b.context) + sum(map(len, b.followers)) for b in prompt.branches) for prompt in ask.prompts]
    order = sorted(range(len(costs)), key=lambda position: (costs[position], position))
    what = digest_json([model.digest, scorer.engine, budget, ask.task.model_dump(mode="json")])
    lines = list[Line]()
    with track(f"{ask.task.task} ({model.which})", len(order), "items") as bar, scorer.using(model.which):
        for group in by_budget([costs[position] for position in order], budget):
            batch = [ask.prompts[order[position]] for position in group]
            names = [prompt.digest for prompt in batch]
            key = digest_json([what, names])[:16]
            found = log.find(key, names)
            if found is None:
                found = _lines(ask.task, batch, key, scorer, budget)
                log.append(found)
            lines += found
            bar.advance(len(group))
    return sorted(lines, key=lambda line: int(line["row"]))


def _lines(task: Task, batch: Sequence[Prompt], key: str, scorer: Scorer, budget: int) -> list[Line]:
    """Ask a batch and write down its answers."""
    before, options = scorer.tokens, task.options()
    generates = task.output_type == "generate_until"
    outcomes = _generated(task, batch, scorer) if generates else _likely(task, batch, scorer, budget)
    return [
        {
            "task": task.task,
            "row": prompt.item.row,
            "item": prompt.item.digest,
            "cluster": prompt.item.cluster,
            "subject": prompt.item.subject,
            "question": _short(prompt.item.text),
            "choices": list(prompt.item.choices),
            "target": prompt.item.target,
            **({"accepted": list(prompt.item.accepted)} if prompt.item.accepted else {}),
            **({"options": options} if options else {}),
            **outcome,
            "truncated": prompt.truncated,
            "prompt": prompt.digest,
            "batch": key,
            "batch_tokens": scorer.tokens - before,
        }
        for prompt, outcome in zip(batch, outcomes, strict=True)
    ]


def _generated(task: Task, batch: Sequence[Prompt], scorer: Scorer) -> list[Line]:
    """Texts, and what they answer; a prompt without a branch did not fit and gets no text."""
    contexts = [branch.context for prompt in batch for branch in prompt.branches]
    texts = iter(scorer.texts(contexts, task.until, task.max_gen_toks) if contexts else ())
    written = [next(texts) if prompt.branches else "" for prompt in batch]
    return [
        {"answer": answer_of(task, text, prompt.item.choices), "text": text}
        for text, prompt in zip(written, batch, strict=True)
    ]


def _likely(task: Task, batch: Sequence[Prompt], scorer: Scorer, budget: int) -> list[Line]:
    """Log-likelihoods, and the choice they mean; rounded to a millionth of a nat, as they are written."""
    branches = [branch for prompt in batch for branch in prompt.branches]
    values = iter(scorer.loglikelihoods(branches, budget))
    found = [[next(values) for _ in prompt.branches] for prompt in batch]
    if task.output_type == "loglikelihood_rolling":
        nats = [round(-sum(value for [value] in windows), 6) for windows in found]
        return [{"nats": nat, **sizes(prompt.item.text)} for nat, prompt in zip(nats, batch, strict=True)]
    outcomes = []
    for prompt, branches_values in zip(batch, found, strict=True):
        likely = [round(value, 6) for values in branches_values for value in values]
        choices = prompt.item.choices
        answer, norm = best_choice(likely, choices), best_choice(likely, choices, per_byte=True)
        outcomes.append({"answer": answer, "norm": norm, "loglikelihoods": likely})
    return outcomes


def _short(text: str) -> str:
    """The beginning and the end of a long question."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} […] {text[-SHOWN // 2 :]}"
