"""Answers of one model or of several on the same weights: batch by batch in turn, each written down before the next.

batches -> likelihoods or texts -> lines, appended to disk -> scores -> scorecard
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from configs.progress import track
from configs.records import Score, Scorecard, made_by
from configs.store import crash_point, digest_file, digest_json, remove_folder, staged
from eval.answers import AnswerLog, Line, write_answers
from eval.noise import noise
from eval.reading import answer_of, best_choice, sizes
from eval.tally import tally

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from configs.prompts import Prompt
    from configs.task import Task
    from eval.ask import Asked, Batch
    from eval.engine import Engine
    from eval.pair import Model

SHOWN = 2000
"""Characters of a question that answers.jsonl keeps: its beginning and its end."""
FORM = 2
"""Of how batches are computed; raised where the same batch may come out otherwise, so that old answers are asked again."""


@dataclass
class Sheet:
    """The answers of one model while they are being given."""

    model: Model
    log: AnswerLog
    lines: list[Line] = field(default_factory=list)
    again: list[Line] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    tokens: int = 0
    whole: int = 0
    seconds: float = 0.0


def answer(name: str, models: Sequence[Model], engine: Engine, asked: Sequence[Asked]) -> None:
    """Ask models that share an engine all tasks, in turn for every batch, and write their scorecards, each record last.

    `name` is that of the recipe; all models have the same settings. What is on disk is not asked again.

    Raises:
        MemoryExhaustedError: a single item does not fit into memory.
        StorageError: the disk is full, read-only or not there.
    """
    settings = models[0].settings
    sheets = [Sheet(model, AnswerLog(_working(model) / "answers.jsonl", model.earlier())) for model in models]
    for ask in asked:
        budget = settings["evaluate.batch_tokens"]
        ask.fit(engine.tokenizer, engine.room, chat=settings["chat"], budget=budget)
        found = _answers(ask, sheets, engine, budget)
        for sheet, (lines, again) in zip(sheets, found, strict=True):
            started = time.monotonic()
            resamples, seed = settings["evaluate.resamples"], settings["seed"]
            score = tally(ask.task, lines, ask.baselines, seed=seed, resamples=resamples)
            sheet.scores.append(score.model_copy(update={"noise": noise(ask.task, lines, again)}))
            sheet.lines += lines
            sheet.again += again
            sheet.seconds += time.monotonic() - started
    for sheet in sheets:
        _write(name, sheet, engine)


def _working(model: Model) -> Path:
    """Where answers stand until the scorecard is whole."""
    return model.folder.with_name(f".{model.which}.answers")


def _answers(ask: Asked, sheets: Sequence[Sheet], engine: Engine, budget: int) -> list[tuple[list[Line], list[Line]]]:
    """For each model the answers to one task in the order of its items, and the second answers to some of them."""
    what = [FORM, engine.engine, budget, ask.task.model_dump(mode="json")]
    found = [(list[Line](), list[Line]()) for _ in sheets]
    names = ", ".join(sheet.model.which for sheet in sheets)
    with track(f"{ask.task.task} ({names})", sum(len(batch.prompts) for batch in ask.batches), "items") as bar:
        for turn, batches in enumerate((ask.batches, ask.again)):
            for batch in batches:
                shared = batch.shared if engine.may_share(batch.longest) else 0
                of_batch = digest_json([what, turn, shared, [prompt.digest for prompt in batch.prompts]])
                for sheet, lines in zip(sheets, found, strict=True):
                    lines[turn].extend(_lines(ask.task, batch, sheet, engine, (of_batch, shared, budget)))
                bar.advance(len(batch.prompts) if not turn else 0)
    for sheet, _ in zip(sheets, found, strict=True):
        sheet.tokens += ask.shared if any(engine.may_share(batch.longest) for batch in ask.batches) else 0
        sheet.whole += sum(batch.whole for batch in ask.batches)
    return [(_by_row(lines), _by_row(again)) for lines, again in found]


def _by_row(lines: list[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: int(line["row"]))


def _lines(task: Task, batch: Batch, sheet: Sheet, engine: Engine, how: tuple[str, int, int]) -> list[Line]:
    """One model's answers to a batch: those on disk, or asked now; `how` is the batch's digest, shared tokens, budget.

    Of a line on disk only what the model gave is taken: the item's row, cluster and subject may have changed since.
    """
    of_batch, shared, budget = how
    names = [prompt.digest for prompt in batch.prompts]
    key = digest_json([sheet.model.digest, of_batch])[:16]
    known = sheet.log.find(key, names)
    if known is not None:
        return [line | _line(task, prompt) for line, prompt in zip(known, batch.prompts, strict=True)]
    started, before = time.monotonic(), engine.tokens
    with engine.using(sheet.model.side or sheet.model.which):
        if task.output_type == "generate_until":
            outcomes = _written(task, batch, engine, shared, budget)
        else:
            values = engine.loglikelihoods(batch.branches, budget, shared) if batch.branches else []
            outcomes = _likely(task, batch, values)
    spent = engine.tokens - before
    lines = [
        _line(task, prompt) | outcome | {"prompt": prompt.digest, "batch": key, "batch_tokens": spent}
        for prompt, outcome in zip(batch.prompts, outcomes, strict=True)
    ]
    sheet.log.append(lines)
    sheet.seconds += time.monotonic() - started
    return lines


def _line(task: Task, prompt: Prompt) -> Line:
    """What a line says of the item."""
    item, options = prompt.item, task.options()
    short = item.text if len(item.text) <= SHOWN else f"{item.text[: SHOWN // 2]} […] {item.text[-SHOWN // 2 :]}"
    return {
        "task": task.task,
        "row": item.row,
        "item": item.digest,
        "cluster": item.cluster,
        "subject": item.subject,
        "question": short,
        "choices": list(item.choices),
        "target": item.target,
        **({"accepted": list(item.accepted)} if item.accepted else {}),
        **({"options": options} if (options := task.options()) else {}),
        "truncated": prompt.truncated,
    }


def _written(task: Task, batch: Batch, engine: Engine, shared: int, budget: int) -> list[Line]:
    """Texts, and what they answer; a prompt without a branch did not fit and gets no text."""
    contexts = [branch.context for branch in batch.branches]
    found = iter(engine.texts(contexts, task.until, task.max_gen_toks, shared, budget) if contexts else ())
    written = [next(found) if prompt.branches else "" for prompt in batch.prompts]
    return [
        {"answer": answer_of(task, text, prompt.item.choices), "text": text}
        for text, prompt in zip(written, batch.prompts, strict=True)
    ]


def _likely(task: Task, batch: Batch, found: Sequence[list[float]]) -> list[Line]:
    """Log-likelihoods, and the choice they mean; rounded to a millionth of a nat, as they are written."""
    values = iter(found)
    by_prompt = [[next(values) for _ in prompt.branches] for prompt in batch.prompts]
    if task.output_type == "loglikelihood_rolling":
        nats = [round(-sum(value for [value] in windows), 6) for windows in by_prompt]
        return [{"nats": nat, **sizes(prompt.item.text)} for nat, prompt in zip(nats, batch.prompts, strict=True)]
    outcomes = []
    for prompt, of_branches in zip(batch.prompts, by_prompt, strict=True):
        likely = [round(value, 6) for of_branch in of_branches for value in of_branch]
        choices = prompt.item.choices
        best, norm = best_choice(likely, choices), best_choice(likely, choices, per_byte=True)
        outcomes.append({"answer": best, "norm": norm, "loglikelihoods": likely})
    return outcomes


def _write(name: str, sheet: Sheet, engine: Engine) -> None:
    """The scorecard of a model, record last."""
    model, started = sheet.model, time.monotonic() - sheet.seconds
    forwarded = {line["batch"]: line["batch_tokens"] for line in (*sheet.lines, *sheet.again)}
    with staged(model.folder) as staging:
        write_answers(staging / "answers.jsonl", sheet.lines)
        write_answers(staging / "again.jsonl", sheet.again)
        crash_point("evaluate.before_record")
        record = Scorecard(
            name=name,
            settings=model.settings,
            inputs=model.inputs,
            files={file: digest_file(staging / file) for file in ("again.jsonl", "answers.jsonl")},
            made=made_by("eval", started),
            model=model.which,
            model_digest=model.digest,
            engine=engine.engine,
            scores=tuple(sheet.scores),
            tokens=sum(forwarded.values()) + sheet.tokens,
            tokens_whole=sheet.whole,
            seconds=round(sheet.seconds, 3),
        )
        record.write(staging / "scorecard.json")
    remove_folder(_working(model))
