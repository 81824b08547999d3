"""Questions for the benchmark of scoring: one YAML and its rows for each case, read alike by both sides.

Of the real sector data where they are there, else of the embedded samples (assets/samples, CC0).
"""

from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks.train_base import TEST, TRAIN, documents, sentences

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SAMPLES = Path(__file__).resolve().parent.parent / "assets" / "samples"
SHOTS = 5
LETTERS = "ABCD"
ABOUT = {"sector": "general", "language": ["en"], "licence": "MIT", "source": "benchmark"}
CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{gold}}",
    "metric_list": [{"metric": "acc"}],
}
WRITE = {
    "output_type": "generate_until",
    "doc_to_target": "{{target}}",
    "until": ["\n"],
    "max_gen_toks": 16,
    "metric_list": [{"metric": "exact_match"}],
}
ROLL = {"output_type": "loglikelihood_rolling", "doc_to_target": "", "metric_list": [{"metric": "bits_per_byte"}]}

Row = dict[str, Any]
CASES = {
    "choices": "5 worked examples, answers of several tokens",
    "letters": "5 worked examples, single letters",
    "writing": "5 worked examples, up to 16 tokens to write",
    "passages": "no examples, several questions about a long passage",
    "rolling": "likelihood of whole texts",
}


def make(folder: Path, shared: Path | None, count: int) -> None:
    """Write all cases into a folder, `count` questions each."""
    train, test = _questions(shared, count)
    asked = {
        "choices": ([_choice(*one) for one in train], [_choice(*one) for one in test], CHOICE),
        "letters": ([_letter(*one) for one in train], [_letter(*one) for one in test], CHOICE),
        "writing": ([_choice(*one) for one in train], [_choice(*one) for one in test], WRITE),
        "passages": ([], list(_passages(shared, count)), CHOICE),
        "rolling": ([], [{"text": text} for text in documents(max(4, count // 4), TEST, 3)], ROLL),
    }
    for name, (shown, rows, keys) in asked.items():
        files = {"test": f"{name}_test.jsonl"} | ({"train": f"{name}_train.jsonl"} if shown else {})
        few = (
            {"fewshot_split": "train", "num_fewshot": SHOTS, "fewshot_config": {"sampler": "first_n"}} if shown else {}
        )
        task = {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test"}
        task |= {"doc_to_text": "{{text}}", "metadata": ABOUT} | keys | few
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task, allow_unicode=True), "utf-8")
        for split, part in (("train", shown), ("test", rows)):
            if part:
                lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
                (folder / f"{name}_{split}.jsonl").write_text(lines, "utf-8")


def _questions(
    shared: Path | None, count: int
) -> tuple[list[tuple[str, list[str], int]], list[tuple[str, list[str], int]]]:
    """Examples and questions: text, options, and the position of the right one."""
    found = list(_mmlu(shared / "medicine" / "mmlu-med") if shared else _topics())
    random.Random(1).shuffle(found)
    if len(found) < SHOTS + count:
        raise SystemExit(f"--questions {count}: there are {len(found) - SHOTS}")
    return found[:SHOTS], found[SHOTS : SHOTS + count]


def _mmlu(folder: Path) -> Iterator[tuple[str, list[str], int]]:
    """Hendrycks et al. 2021, the medical subjects; each question once."""
    seen = set()
    for path in sorted(folder.glob("*_test.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for question, *options, letter in csv.reader(file):
                if len(set(options)) == len(LETTERS) and all(options) and question not in seen:
                    seen.add(question)
                    yield question.strip(), [option.strip() for option in options], LETTERS.index(letter)


def _topics() -> Iterator[tuple[str, list[str], int]]:
    """The embedded questions on finance, with four of their topics."""
    rows = [json.loads(line) for line in (SAMPLES / "finance" / "topics_train.jsonl").read_text("utf-8").splitlines()]
    names = sorted({row["topic"] for row in rows})
    for number, row in enumerate(rows):
        options = random.Random(number).sample([name for name in names if name != row["topic"]], len(LETTERS) - 1)
        options.insert(number % len(LETTERS), row["topic"])
        yield row["text"], options, number % len(LETTERS)


def _choice(question: str, options: list[str], gold: int) -> Row:
    return {"text": f"Question: {question}\nAnswer:", "choices": options, "gold": gold, "target": options[gold]}


def _letter(question: str, options: list[str], gold: int) -> Row:
    listed = "".join(f"{letter}. {option}\n" for letter, option in zip(LETTERS, options, strict=True))
    return {"text": f"{question}\n{listed}Answer:", "choices": list(LETTERS), "gold": gold}


def _passages(shared: Path | None, count: int) -> Iterator[Row]:
    """Questions about passages, with the answers to other questions of the passage as the other options."""
    made = 0
    for number, (passage, pairs) in enumerate(_cmrc(shared) if shared else _clozes(count)):
        answers = sorted({answer for _, answer in pairs})
        if len(answers) < len(LETTERS):
            continue
        for question, answer in pairs:
            options = random.Random(number).sample([one for one in answers if one != answer], len(LETTERS) - 1)
            options.insert(made % len(LETTERS), answer)
            text = f"{passage}\n\nQuestion: {question}\nAnswer:"
            yield {"text": text, "choices": options, "gold": made % len(LETTERS)}
            made += 1
            if made == count:
                return


def _cmrc(shared: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Cui et al. 2019, CMRC 2018, development set: passages with questions and answers."""
    with gzip.open(shared / "general" / "cmrc2018" / "cmrc2018_dev.json.gz", "rt", encoding="utf-8") as file:
        for entry in json.load(file)["data"]:
            for paragraph in entry["paragraphs"]:
                pairs = [(one["question"], one["answers"][0]["text"]) for one in paragraph["qas"]]
                yield paragraph["context"], pairs


def _clozes(count: int) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Sentences of the samples, and which one comes after which."""
    pool, drawn = sentences(TRAIN), random.Random(2)
    for _ in range(count):
        chosen: Sequence[str] = drawn.sample(pool, 30)
        pairs = [(f"What comes after: {chosen[at]}", chosen[at + 1]) for at in range(0, 24, 4)]
        yield " ".join(chosen), pairs
