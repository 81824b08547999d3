"""What a small hub holds in place of every data set that a public recipe or a task names: the same layout, a few rows of our own.

Layout, form and columns are as the packs' facts, the recipes' templates and the tasks state them. Beside the files that are
asked for lie some that must never be read: programs, other languages, other qualities, other splits.
"""

from __future__ import annotations

import gzip
import io
import json
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from configs.hub import EXPORT
from configs.load import load_task
from configs.store import HOUSE
from configs.task import LOCAL, Task, task_files
from tests.recipes import prose

NEVER = "THIS MUST NEVER BE READ"
PROGRAM = b"raise SystemExit('a program of a data set must never run')\n"
CORPORA = (
    "agriculture_forestry_animal_husbandry_fishery",
    "current_affairs_government_administration",
    "electric_power_energy",
    "finance_economics",
    "fire_safety_food_safety",
    "mathematics_statistics",
    "medicine_health_psychology_traditional_chinese_medicine",
    "other_manufacturing",
    "water_resources_ocean",
)
"""Parts of BAAI/IndustryCorpus2_*."""
COMMON = (
    "人大上中国我这为们个和地出道也时年得就那要下以生会自着去之过家学对可里后小么心多天能好都然没日于起还发成事只作当想看文开手"
    "十用主行方又如前所本见经头面公同三已老从动两长知民样现分将外但身些与高意进把法此实回二理美点月明其种声全工己话儿者向情部"
    "正名定女问力机给等几很业最间新什打便位因重被走电四第门相次东政海口使教西再平真听世气信北少关并内加化由却代军产入先山五太"
)
"""Characters that are common in Chinese texts."""


def chinese(number: int, sentences: int = 12) -> str:
    """Sentences of twenty Chinese characters that no other number gives; they mean nothing."""
    draw = random.Random(number)
    return "".join("".join(draw.choices(COMMON, k=18)) + "的了。" for _ in range(sentences))


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """Rows as a Parquet file."""
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def lines(rows: list[dict[str, Any]]) -> bytes:
    """Rows as JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def leaked() -> str:
    """A text that holds a question of a benchmark: it must not be trained on."""
    return f"{questions('medmcqa', 'validation', 1)[0][0]} {prose(30000)}"


def texts(start: int, count: int, zh: bool = False) -> list[dict[str, Any]]:
    """Rows with a text each."""
    return [{"text": chinese(number) if zh else prose(number)} for number in range(start, start + count)]


def pairs(start: int, count: int, zh: bool = True) -> list[dict[str, Any]]:
    """Rows in the form of Alpaca."""
    write = chinese if zh else prose
    return [
        {"instruction": write(number, 2), "input": f"No. {number}", "output": write(number + 5000, 3)}
        for number in range(start, start + count)
    ]


def card(*configs: tuple[str, dict[str, str]]) -> bytes:
    """A README.md that names the files of each configuration's splits."""
    listed = [
        {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in files.items()]}
        for name, files in configs
    ]
    return f"---\nconfigs: {json.dumps(listed)}\n---\n".encode()


def corpora() -> dict[str, dict[str, bytes]]:
    """The corpora: data set to its files."""
    never = [{"text": NEVER}]
    held: dict[str, dict[str, bytes]] = {
        f"BAAI/IndustryCorpus2_{name}": {
            "chinese/high/rank_00001.parquet": parquet(texts(1000 * place, 4, zh=True)),
            "chinese/low/rank_00002.parquet": parquet(never),
            "english/high/rank_00003.parquet": parquet(texts(1000 * place, 3)),
            "english/middle/rank_00004.parquet": parquet(never),
        }
        for place, name in enumerate(CORPORA)
    }
    asked = [{"questions": [[chinese(n, 1), "另一问法"]], "answers": [chinese(n + 9000, 3)]} for n in range(6)]
    tweets = [{"tweet_id": n, "tweet_text": prose(n, 2), "class_label": "rescue_efforts"} for n in range(20000, 20004)]
    paper = {"added": "2023", "created": "2020", "id": "1", "source": "s2orc", "version": "v2"}
    papers = [{**paper, **row} for row in texts(21000, 3)]
    held["BAAI/IndustryCorpus2_" + CORPORA[6]]["english/high/rank_00005.parquet"] = parquet([{"text": leaked()}])
    held |= {
        "BAAI/IndustryCorpus_travel": {
            "zh/rank_00001.jsonl.gz": gzip.compress(lines(texts(22000, 3, zh=True))),
            "en/rank_00001.jsonl.gz": gzip.compress(lines(texts(22000, 2))),
        },
        "Duxiaoman-DI/FinCorpus": {
            "data/announcement_data.jsonl.gz": gzip.compress(lines(texts(23000, 4, zh=True))),
            "data/fin_exam.jsonl.gz": gzip.compress(lines(never)),
        },
        "FreedomIntelligence/huatuo_encyclopedia_qa": {
            "huatuo_encyclopedia_qa.py": PROGRAM,
            "train_datasets.jsonl": lines(asked),
            "test_datasets.jsonl": lines([{"questions": [[NEVER]], "answers": [NEVER]}]),
        },
        "allenai/peS2o": {
            "peS2o.py": PROGRAM,
            "data/v2/train-00000-of-00020.json.gz": gzip.compress(lines(papers)),
            "data/v2/validation-00000-of-00002.json.gz": gzip.compress(lines([{**paper, "text": NEVER}])),
        },
        "AI4Agr/CROP-dataset": {"CROP-dataset.json": json.dumps(pairs(24000, 4)).encode()},
        "NingLab/ECInstruct": {
            "train.json": json.dumps(pairs(25000, 5, zh=False)).encode(),
            "test.json": json.dumps([{"instruction": NEVER, "input": "", "output": NEVER}]).encode(),
        },
        "QCRI/HumAID-all": {
            "data/train-00000-of-00001.parquet": parquet(tweets),
            "data/test-00000-of-00001.parquet": parquet([{**tweets[0], "tweet_text": NEVER}]),
        },
        "DUOMO-Lab/TransGPT-pt": {
            "TransGPT-pt.txt": "\n".join(row["text"] for row in texts(26000, 3, zh=True)).encode()
        },
        "DUOMO-Lab/Transgpt_sft_v2": {"Transgpt_sft_v2.jsonl": lines(pairs(27000, 3))},
        "HuggingFaceFW/fineweb-edu": {
            "README.md": card(("default", {"train": "data/*/*"}), ("sample-10BT", {"train": "sample/10BT/*"})),
            "data/CC-MAIN-2024-10/train-00000.parquet": parquet(never),
            "sample/10BT/000_00000.parquet": parquet(texts(28000, 6)),
        },
        "opencsg/chinese-fineweb-edu": {"data/00000.parquet": parquet(texts(29000, 6, zh=True))},
    }
    return held


def questions(config: str, split: str, count: int) -> list[tuple[str, list[str]]]:
    """Questions of one configuration and split, each with four answers."""
    return [(f"{config} {split} {n}: {prose(n, 1)}", [f"{n}{sign}" for sign in "abcd"]) for n in range(count)]


def hub_tasks() -> list[Task]:
    """The tasks that SectorLM brings along and that name a data set of the hub."""
    tasks = [load_task(name, (HOUSE,))[0] for name in task_files(HOUSE)]
    return [task for task in tasks if task.dataset_path not in LOCAL]


def benchmarks() -> tuple[dict[str, dict[str, bytes]], dict[str, dict[str, bytes]]]:
    """What the tasks read: the data sets, and the hub's own conversions of those that are programs."""
    configs: dict[str, set[str]] = {}
    for task in hub_tasks():
        names = task.dataset_name if isinstance(task.dataset_name, tuple) else (task.dataset_name,)
        configs.setdefault(f"{task.dataset_path}@{task.revision}", set()).update(name for name in names if name)
    cmmlu: dict[str, bytes] = {}
    for config in sorted(configs[f"haonan-li/cmmlu@{EXPORT}"]):
        for split, count in (("dev", 2), ("test", 3)):
            rows = [
                {"Question": asked, **dict(zip("ABCD", four, strict=True)), "Answer": "ABCD"[place % 4]}
                for place, (asked, four) in enumerate(questions(config, split, count))
            ]
            cmmlu[f"{config}/{split}/0000.parquet"] = parquet(rows)
    mmlu: dict[str, bytes] = {}
    files = []
    for config in sorted(configs["cais/mmlu@None"]):
        rows = [
            {"question": asked, "subject": config, "choices": four, "answer": place % 4}
            for place, (asked, four) in enumerate(questions(config, "test", 3))
        ]
        mmlu[f"{config}/test-00000-of-00001.parquet"] = parquet(rows)
        mmlu[f"{config}/dev-00000-of-00001.parquet"] = parquet([{**rows[0], "question": NEVER}])
        files.append((config, {"test": f"{config}/test-*", "dev": f"{config}/dev-*"}))
    exam = [
        {"id": f"{n}", "question": asked, **dict(zip(("opa", "opb", "opc", "opd"), four, strict=True)), "cop": n % 4,
         "subject_name": "Surgery"}
        for n, (asked, four) in enumerate(questions("medmcqa", "validation", 4))
    ]  # fmt: skip
    held = {
        "haonan-li/cmmlu": {"cmmlu.py": PROGRAM},
        "cais/mmlu": {"README.md": card(*files), **mmlu},
        "openlifescienceai/medmcqa": {
            "data/validation-00000-of-00001.parquet": parquet(exam),
            "data/test-00000-of-00001.parquet": parquet([{**exam[0], "cop": -1}]),
        },
    }
    return held, {"haonan-li/cmmlu": cmmlu}
