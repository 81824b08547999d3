"""A benchmark is data: a task file of 8 to 15 lines with the keys of lm-evaluation-harness' YAML.

task: finance_topics
dataset_path: json
dataset_kwargs: {data_files: {train: ../../assets/samples/finance/topics_train.jsonl, test: ...}}
fewshot_split: train
test_split: test
output_type: multiple_choice
doc_to_text: "{{text}}\\nTopic:"
doc_to_choice: [banking, insurance]
doc_to_target: "{{topic}}"
metric_list: [{metric: acc}]
metadata: {sector: finance, language: [en, zh], licence: CC0-1.0, source: written for SectorLM}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from configs.part import Part

if TYPE_CHECKING:
    from pathlib import Path


class Metric(Part):
    """One metric of a task, as lm-evaluation-harness writes it."""

    metric: Literal["acc", "acc_norm", "macro_f1", "mcc", "exact_match", "token_f1", "bits_per_byte"]
    """`acc` takes the choice with the highest log-likelihood, `acc_norm` the highest per byte."""


class DataKwargs(Part):
    """The `dataset_kwargs` that we accept: files by split; no code, no remote scripts."""

    data_files: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    """Split name to files, looked for beside the task file, then in the recipe's `data` folders, then in SectorLM."""


class Fewshot(Part):
    """How worked examples are chosen."""

    sampler: Literal["first_n", "hashed"] = "hashed"
    """`first_n` takes the first rows of the split, `hashed` the rows with the smallest hash of (seed, task, row)."""


class About(Part):
    """What a reader must know before quoting a number of this task."""

    sector: str
    """One of the twelve sectors, or `general`."""
    language: tuple[str, ...]
    """Languages of the items."""
    licence: str
    """Licence of the items."""
    source: str
    """Who made them, and where they are published."""
    proxy: bool = False
    """True when the task only stands in for a sector benchmark that does not exist in the open."""
    sha256: dict[str, str] = Field(default_factory=dict)
    """File name to sha256; a file that differs is refused."""


class Task(Part):
    """A benchmark: items, prompt, metric, source and licence."""

    task: str = Field(pattern=r"^[a-z0-9_]+$")
    """Name; the file is called the same."""
    dataset_path: str
    """`json`, `csv`, `parquet` (files of any of our forms), or a Hugging Face data set id."""
    dataset_name: str | None = None
    """Configuration of a hub data set."""
    revision: str | None = None
    """Pinned revision of a hub data set."""
    dataset_kwargs: DataKwargs = DataKwargs()
    """Files by split."""
    test_split: str
    """The split that is scored."""
    fewshot_split: str | None = None
    """The split that worked examples and the trained plain baseline come from; never the test split."""
    num_fewshot: int = Field(default=0, ge=0, le=32)
    """Worked examples before each question."""
    fewshot_config: Fewshot = Fewshot()
    """How they are chosen."""
    output_type: Literal["multiple_choice", "generate_until", "loglikelihood_rolling"]
    """What the model is asked for: a choice, a text, or the likelihood of a passage."""
    description: str = ""
    """Text before the first example."""
    doc_to_text: str
    """Jinja template of the question; for `loglikelihood_rolling` the whole passage."""
    doc_to_choice: str | tuple[str, ...] | None = None
    """The choices, or a Jinja template that renders a JSON list of them."""
    doc_to_target: str = ""
    """Jinja template of the gold: the choice's text, its index, or its letter; for generation the expected text."""
    target_delimiter: str = " "
    """Between question and answer."""
    fewshot_delimiter: str = "\n\n"
    """Between worked examples."""
    until: tuple[str, ...] = ("\n",)
    """A generation ends before the first of these."""
    max_gen_toks: int = Field(default=64, ge=1, le=4096)
    """Longest generation, in tokens."""
    doc_to_decontamination_query: str | None = None
    """Jinja template of the text that would be a leak, where the question holds stock phrases that training data may
    share rightly; left out: the question, its own choices and, for generation, the answer."""
    metric_list: tuple[Metric, ...] = Field(min_length=1)
    """What is reported; the first one is compared between models."""
    metadata: About
    """Sector, language, licence, source."""
    # Ours, beyond lm-evaluation-harness' keys; it ignores none of them, so they are stripped on export.
    columns: tuple[str, ...] | None = None
    """Column names of a table without a header row."""
    records: str = ""
    """Where the records lie inside nested data; as in a recipe's source."""
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Score only rows whose field has one of the values."""
    keys: dict[str, str] = Field(default_factory=dict)
    """Split to a JSON file that lists the `_key`s of its rows (a list, or an object by key): an official test split."""
    cluster: str | None = None
    """Jinja template of a key: rows with the same key are one independent observation (same sentence under ten prompts)."""
    subject: str | None = None
    """Jinja template of the subject that a row belongs to; the report breaks the task down by it."""

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        if self.output_type == "multiple_choice" and self.doc_to_choice is None:
            raise ValueError("multiple_choice needs doc_to_choice")
        if self.output_type != "loglikelihood_rolling" and not self.doc_to_target:
            raise ValueError(f"{self.output_type} needs doc_to_target")
        if self.fewshot_split == self.test_split:
            raise ValueError("fewshot_split is the test_split: worked examples would leak the answers")
        by_class = [entry.metric for entry in self.metric_list if entry.metric in ("macro_f1", "mcc")]
        if by_class and not isinstance(self.doc_to_choice, tuple):
            raise ValueError(f"metric {by_class[0]} counts by class: it needs doc_to_choice as a list")
        rolling = {"bits_per_byte"}
        choice, text = {"acc", "acc_norm", "macro_f1", "mcc"}, {"exact_match", "token_f1", "macro_f1", "acc"}
        allowed = {"multiple_choice": choice, "generate_until": text, "loglikelihood_rolling": rolling}[
            self.output_type
        ]
        wrong = [entry.metric for entry in self.metric_list if entry.metric not in allowed]
        if wrong:
            raise ValueError(
                f"metric {wrong[0]} does not fit {self.output_type}: use one of {', '.join(sorted(allowed))}"
            )
        return self


def task_files(folder: Path) -> dict[str, Path]:
    """The tasks that SectorLM ships, by name."""
    return {path.stem: path for path in sorted((folder / "configs" / "tasks").glob("*.yaml"))}
