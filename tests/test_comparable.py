"""Every task that is shipped, asked three ways: by us, by lm-evaluation-harness with our scorer, and by stock
lm-evaluation-harness with its own Hugging Face model: the same token ids, likelihoods, texts and scores.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from configs.errors import DataError
from configs.load import load_task
from configs.recipe import Evaluate
from configs.records import Scorecard
from configs.store import HOUSE
from configs.task import task_files
from eval.answering import answer
from eval.answers import read_answers
from eval.ask import ask
from eval.exports_tasks import write_task
from eval.harness import ask_ours, run_there
from eval.native import NATIVE
from eval.pair import Model
from eval.translate import gather
from eval.weights import load_scorer
from tests.conftest import SHARED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from configs.scores import Score
    from eval.answers import Line
    from eval.scorer import Scorer

ITEMS, PASSAGES, TOKENS, SEED = 6, 2, 6, 0
"""Items of each task, of one whose items are whole pages, tokens of each generated text."""
SETTINGS = {"seed": SEED, "chat": False, "evaluate.batch_tokens": 16384, "evaluate.resamples": 1000}
EMBEDDED = [name for name, path in task_files(HOUSE).items() if "assets/samples" in path.read_text("utf-8")]
OTHERS = [name for name in task_files(HOUSE) if name not in EMBEDDED]


class Models(NamedTuple):
    """One model in memory, behind our scorer and behind lm-eval's own class."""

    ours: Scorer
    stock: Any
    seen: list[tuple[list[int], list[int]]]
    """Context and continuation of every request that the latter got, as token ids."""


@pytest.fixture(scope="module")
def models(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    """The tiny base with room for whole prompts: what is cut is cut differently."""
    import datasets
    from lm_eval.models.huggingface import HFLM

    folder = tmp_path_factory.mktemp("wide") / "base"
    shutil.copytree(tiny_base, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 65536}))
    ours = load_scorer(folder)
    seen: list[tuple[list[int], list[int]]] = []

    class Stock(HFLM):  # type: ignore[misc]
        def _loglikelihood_tokens(self, requests: Any, **how: Any) -> Any:
            requests = list(requests)
            seen.extend((context, continuation) for _, context, continuation in requests)
            return super()._loglikelihood_tokens(requests, **how)

        def tok_batch_encode(self, strings: Any, **how: Any) -> Any:
            found = super().tok_batch_encode(strings, **how)
            seen.extend((ids, []) for ids in found[0].tolist())
            return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder.parent / "datasets")
        yield Models(ours, Stock(pretrained=ours.model, tokenizer=ours.tokenizer, batch_size=1), seen)


class Asked(NamedTuple):
    """One way's answers."""

    score: Score | None
    lines: list[Line]
    metrics: dict[str, float]


def three_ways(name: str, models: Models, folder: Path) -> tuple[Asked, Asked, Asked, list[list[int]]]:
    """Our answers, those of lm-eval with our scorer, those of stock lm-eval; and the token ids of our prompts."""
    roots = (SHARED, HOUSE)
    task = load_task(name, roots)[0]
    items = PASSAGES if task.output_type == "loglikelihood_rolling" else ITEMS
    wish = Evaluate(tasks=(name,), limit=items, shots=max(2, task.num_fewshot), resamples=1000)
    asked = ask(name, roots, wish, SEED)
    asked.task = asked.task.model_copy(update={"max_gen_toks": TOKENS})
    gathered = gather(name, asked, roots)
    model = Model("base", folder / "base", "digest", SETTINGS, {})
    answer("ways", [model], models.ours, [asked])
    [score] = Scorecard.read(model.card).scores
    ours = Asked(score, read_answers(folder / "base" / "answers.jsonl")[name], score.metrics)
    with models.ours.using("base"):
        [(theirs, lines)] = ask_ours(gathered, SETTINGS, models.ours)
    write_task(gathered, folder / "tasks")
    prompts = sorted((p for batch in asked.batches for p in batch.prompts), key=lambda prompt: prompt.item.row)
    ids = [b.context + follower for p in prompts for b in p.branches for follower in b.followers or [[]]]
    return ours, Asked(theirs, lines, theirs.metrics), stock(name, models, folder / "tasks"), ids


def stock(name: str, models: Models, folder: Path) -> Asked:
    """What lm-eval itself finds on the exported files, by its own model class."""
    from lm_eval.tasks import TaskManager

    loaded = TaskManager(include_defaults=False, include_path=str(folder)).load([name])
    loaded["tasks"][name].set_fewshot_seed(seed=1234)
    models.seen.clear()
    found = run_there(models.stock, loaded)
    lines = [{"resps": [responses[0] for responses in sample["resps"]]} for sample in found["samples"][name]]
    return Asked(None, lines, {key.partition(",")[0]: value for key, value in found["results"][name].items()})


def agree(name: str, models: Models, folder: Path) -> None:
    task = load_task(name, (SHARED, HOUSE))[0]
    ours, theirs, alone, ids = three_ways(name, models, folder)
    assert 1 <= len(ours.lines) == len(theirs.lines) == len(alone.lines) <= ITEMS
    assert [line["prompt"] for line in ours.lines] == [line["prompt"] for line in theirs.lines]  # digests of all ids
    seen = [context + continuation for context, continuation in models.seen]
    assert (
        sorted(seen) == sorted(ids) if task.output_type == "generate_until" else seen == ids
    )  # it writes long ones first
    assert not any(line["truncated"] for line in ours.lines)
    for line, other, third in zip(ours.lines, theirs.lines, alone.lines, strict=True):
        if task.output_type == "multiple_choice":
            likely = [value for value, _ in third["resps"]]
            assert line["loglikelihoods"] == pytest.approx(likely, abs=1e-4)
            assert line["loglikelihoods"] == pytest.approx(other["loglikelihoods"], abs=1e-4)
            assert (line["answer"], line["norm"]) == (other["answer"], other["norm"])
        elif task.output_type == "generate_until":
            assert line["text"] == other["text"] == third["resps"][0]
            assert line["answer"] == other["answer"]
        else:
            assert line["nats"] == pytest.approx(-third["resps"][0], rel=1e-6, abs=1e-4)
            assert line["nats"] == pytest.approx(other["nats"], rel=1e-6, abs=1e-4)
    assert ours.metrics == pytest.approx(theirs.metrics, rel=1e-6)
    assert ours.score is not None
    assert theirs.score is not None
    assert (ours.score.low, ours.score.high) == pytest.approx((theirs.score.low, theirs.score.high), rel=1e-6)
    for metric, native in NATIVE.get(task.output_type, {}).items():
        if metric in ours.metrics:
            assert ours.metrics[metric] == pytest.approx(alone.metrics[native.metric], rel=1e-6)


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_task_on_embedded_samples_comes_out_the_same_three_ways(name: str, models: Models, tmp_path: Path) -> None:
    agree(name, models, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_a_task_on_sector_data_comes_out_the_same_three_ways(
    name: str, models: Models, shared: Path, tmp_path: Path
) -> None:
    try:
        agree(name, models, tmp_path)
    except DataError as error:
        if "the hub" not in str(error) and "no such file" not in str(error):
            raise
        pytest.skip(f"its data are not among the sector data: {error.message}")
