"""Scorecards in the forms of others: lm-evaluation-harness' results, the hub's, and tables of items and scores.

Nothing is computed again but what a form wants beside our own values; every number is that of the scorecard.
"""

from __future__ import annotations

import csv
import json
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from configs.errors import DataError, RecipeError
from configs.records import Comparison, Scorecard
from configs.results import hub_entries, model_index, results_of
from configs.store import HOUSE, verify_files, write_atomic
from eval.answers import read_answers
from eval.exports_lm_eval import results_file, samples_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from eval.answers import Line

Row = dict[str, Any]


class Card(NamedTuple):
    """A scorecard with its answers."""

    name: str
    """What its model is called among the others."""
    record: Scorecard
    answers: dict[str, list[Line]]


def export(targets: Sequence[Path], form: str, out: Path) -> list[Path]:
    """Write the scorecards of run folders, or single ones, into `out`; returns the files.

    Raises:
        RecipeError: no such form.
        DataError: there is no scorecard, or it is damaged.
        StorageError: the folder cannot be written.
    """
    if form not in FORMS:
        raise RecipeError(
            f"no such form: {form}", where="--to", hint=f"There are: {', '.join(FORMS)}; of a recipe: tasks."
        )
    cards = [card for target in targets for card in _cards(target)]
    names = [card.name for card in cards]
    if len(set(names)) < len(names):
        cards = [card._replace(name=f"{place}-{card.name}") for place, card in enumerate(cards, start=1)]
    written = []
    for name, content in FORMS[form](cards):
        write_atomic(out / name, content)
        written.append(out / name)
    comparisons = [target / "report" / "comparison.json" for target in targets]
    found = [Comparison.read(path) for path in comparisons if path.is_file()]
    if found and form in TABLES:
        name, content = next(iter(TABLES[form]({"differences": _differences(found)})))
        write_atomic(out / name, content)
        written.append(out / name)
    return written


def _cards(target: Path) -> list[Card]:
    """The scorecards that a folder holds: itself, or those of a run.

    Raises:
        DataError: there is none, or its answers are not the ones that it vouches for.
    """
    places = [target, *sorted((target / "scorecards").glob("*")), *sorted(target.glob("*"))]
    folders = [place for place in places if (place / "scorecard.json").is_file() and not place.name.startswith(".")]
    if not folders:
        raise DataError(
            "there is no scorecard",
            where=str(target),
            hint="Give a run folder (runs/NAME) or a scorecard folder (runs/NAME/scorecards/tuned).",
        )
    found = []
    for folder in folders:
        record = Scorecard.read(folder / "scorecard.json")
        verify_files(folder, record.files)
        found.append(Card(f"{record.name}-{record.model}", record, read_answers(folder / "answers.jsonl")))
    return found


# ---------------------------------------------------------------- tables


def _items(cards: Sequence[Card]) -> list[Row]:
    """A row for each item and model: what was asked, what was right, what was answered."""
    return [_item_row(card, line) for card in cards for lines in card.answers.values() for line in lines]


def _item_row(card: Card, line: Line) -> Row:
    empty: Row = dict.fromkeys(("answer", "norm", "text", "nats", "bytes"))
    asked = {key: line.get(key, "") for key in ("task", "row", "item", "cluster", "subject", "question", "target")}
    given = empty | {key: line[key] for key in empty if key in line}
    return {
        "model": card.name,
        **asked,
        "accepted": list(line.get("accepted", ())),
        "choices": list(line.get("choices", ())),
        **given,
        "loglikelihoods": list(line.get("loglikelihoods", ())),
        "truncated": bool(line.get("truncated")),
    }


def _scores(cards: Sequence[Card]) -> list[Row]:
    """A row for each metric of each task and model; the first metric of a task has the interval."""
    rows = []
    for card in cards:
        for score in card.record.scores:
            for metric, value in ({score.metric: score.value} | score.metrics).items():
                first = metric == score.metric
                rows.append(
                    {
                        "model": card.name,
                        "task": score.task,
                        "sector": score.sector,
                        "metric": metric,
                        "value": value,
                        "low": score.low if first else None,
                        "high": score.high if first else None,
                        "n": score.n,
                        "clusters": score.clusters,
                        "invalid": score.invalid,
                        "truncated": score.truncated,
                        "engine": card.record.engine,
                        "model_digest": card.record.model_digest,
                    }
                )
    return rows


PARTS = {"parts", "subjects", "baselines", "ece"}
"""Of a difference what is no single figure."""


def _differences(comparisons: Iterable[Comparison]) -> list[Row]:
    """A row for each task of each comparison: its plain figures, the same ones in every row."""
    return [
        {"run": it.name, "panel": panel}
        | row.model_dump(mode="json", exclude=PARTS)
        | dict(zip(("ece_base", "ece_tuned"), row.ece or (None, None), strict=True))
        | {"verdict": row.verdict}
        for it in comparisons
        for panel, rows in (("sector", it.differences), ("general", it.general))
        for row in rows
    ]


def _as_csv(tables: dict[str, list[Row]]) -> Iterable[tuple[str, bytes]]:
    """Tables as comma-separated text, UTF-8; lists are JSON."""
    for name, rows in tables.items():
        text = StringIO()
        writer = csv.DictWriter(text, list(rows[0] if rows else ()), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _cell(value) for key, value in row.items()})
        yield f"{name}.csv", text.getvalue().encode()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _as_parquet(tables: dict[str, list[Row]]) -> Iterable[tuple[str, bytes]]:
    """Tables as Parquet, with their types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = dict.fromkeys(("choices", "accepted"), pa.list_(pa.string())) | {"loglikelihoods": pa.list_(pa.float64())}
    kinds |= dict.fromkeys(("answer", "norm", "text"), pa.string()) | {"nats": pa.float64(), "bytes": pa.int64()}
    numbers = ("low", "high", "detectable", "clean", "foreseen", "noise", "ece_base", "ece_tuned")
    kinds |= dict.fromkeys(numbers, pa.float64())
    kinds |= {"clean_n": pa.int64()}
    for name, rows in tables.items():
        columns = {
            key: pa.array([row[key] for row in rows], type=kinds.get(key)) for key in list(rows[0] if rows else ())
        }
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink, compression="zstd")
        yield f"{name}.parquet", sink.getvalue().to_pybytes()


TABLES: dict[str, Callable[[dict[str, list[Row]]], Iterable[tuple[str, bytes]]]] = {
    "csv": _as_csv,
    "parquet": _as_parquet,
}


# ---------------------------------------------------------------- the hub, lm-eval


def _hub(cards: Sequence[Card]) -> Iterable[tuple[str, bytes]]:
    """For each model its front matter, and the files of `.eval_results`; a tuned model's say what its base had."""
    from huggingface_hub import eval_result_entries_to_yaml
    from huggingface_hub.repocard_data import eval_results_to_model_index

    for card in cards:
        record = card.record
        bases = [it.record for it in cards if it.record.name == record.name and it.record.model == "base"]
        base = bases[0].scores if bases and record.model == "tuned" else ()
        results = results_of(record.scores, (HOUSE,), base)
        found = {"model-index": eval_results_to_model_index(card.name, model_index(results))}
        yield f"{card.name}/model-index.yaml", _yaml(found)
        told = f"SectorLM {record.made.sectorlm}, {record.engine}"
        for task, entries in hub_entries(results, record.made.finished, told).items():
            yield f"{card.name}/.eval_results/{task}.yaml", _yaml(eval_result_entries_to_yaml(entries))


def _yaml(value: Any) -> bytes:
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)).encode()


def _lm_eval(cards: Sequence[Card]) -> Iterable[tuple[str, bytes]]:
    """For each model the files that lm-eval's `--output_path` and `--log_samples` write."""
    for card in cards:
        yield results_file(card.name, card.record, card.answers)
        yield from samples_files(card.name, card.record, card.answers)


FORMS: dict[str, Callable[[Sequence[Card]], Iterable[tuple[str, bytes]]]] = {
    "lm-eval": _lm_eval,
    "model-index": _hub,
    **{
        name: lambda cards, write=write: write({"items": _items(cards), "scores": _scores(cards)})  # type: ignore[misc]
        for name, write in TABLES.items()
    },
}
"""What scorecards can be written as."""
