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

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from configs.filters import Filters, Generation, compiled
from configs.part import Part

if TYPE_CHECKING:
    from pathlib import Path


LOCAL = ("json", "csv", "parquet")
"""Values of `dataset_path` that mean: the files of `dataset_kwargs.data_files`, in any of our forms."""
BY_CLASS = ("macro_f1", "mcc")
"""Metrics of a confusion matrix: all items share their choices."""
FITS: dict[str, frozenset[str]] = {
    "multiple_choice": frozenset({"acc", "acc_norm", *BY_CLASS}),
    "generate_until": frozenset(
        {"acc", *BY_CLASS, "exact_match", "number_match", "letters_match", "token_f1", "char_f1", "span_f1"}
        | {"rouge_l", "chrf"}
    ),
    "loglikelihood_rolling": frozenset({"bits_per_byte", "byte_perplexity", "word_perplexity"}),
}
"""What each output type can be measured by."""
AGGREGATION = {
    **{"mcc": "matthews_corrcoef", "macro_f1": "f1", "chrf": "chrf", "span_f1": "f1"},
    **{"bits_per_byte": "bits_per_byte", "byte_perplexity": "weighted_perplexity"},
    **{"word_perplexity": "weighted_perplexity"},
}
"""lm-evaluation-harness' name for how a metric's items become one value; `mean` for the others."""


class Metric(Part):
    """One metric of a task, as lm-evaluation-harness writes it."""

    metric: Literal[
        "acc",
        "acc_norm",
        "macro_f1",
        "mcc",
        "exact_match",
        "number_match",
        "letters_match",
        "token_f1",
        "char_f1",
        "span_f1",
        "rouge_l",
        "chrf",
        "bits_per_byte",
        "byte_perplexity",
        "word_perplexity",
    ]
    """`acc` takes the choice with the highest log-likelihood, `acc_norm` the highest per byte. For generated texts:
    `exact_match` the same text, `number_match` the same number within `tolerance`, `letters_match` the same set of
    letters, `token_f1` and `char_f1` shared words or characters, `span_f1` spans listed as `type: text; type: text`,
    `rouge_l` and `chrf` likeness to the expected text."""
    tolerance: float | None = Field(default=None, ge=0, lt=1)
    """`number_match`: part of the gold's size by which an answer may differ; left out: 0.001."""
    ignore_case: bool = False
    """`exact_match`, as in lm-evaluation-harness: compare in lower case. With any of the `ignore` and `regexes` keys the
    texts are compared as there; without them width, case, runs of spaces and a full stop at the end do not count."""
    ignore_punctuation: bool = False
    """`exact_match`: compare without ASCII punctuation."""
    ignore_numbers: bool = False
    """`exact_match`: compare without digits."""
    regexes_to_ignore: tuple[str, ...] = ()
    """`exact_match`: what these patterns find is taken out first, in this order."""
    aggregation: str | None = None
    """How items become one value. Every metric has one way: another is refused."""
    higher_is_better: bool | None = None
    """Which end is good. Every metric has one: another is refused."""

    @model_validator(mode="after")
    def _own(self) -> Metric:
        for owner, names in (("number_match", {"tolerance"}), ("exact_match", EXACTLY)):
            if self.metric != owner and (foreign := names & self.options().keys()):
                raise ValueError(f"{min(foreign)} belongs to {owner}, not to {self.metric}")
        own = AGGREGATION.get(self.metric, "mean")
        if self.aggregation not in (None, own):
            raise ValueError(f"{self.metric} is aggregated by {own}, not by {self.aggregation}")
        higher = self.metric not in FITS["loglikelihood_rolling"]
        if self.higher_is_better not in (None, higher):
            raise ValueError(f"{'higher' if higher else 'lower'} is better for {self.metric}")
        for pattern in self.regexes_to_ignore:
            compiled(pattern)
        return self

    def options(self) -> dict[str, Any]:
        """What is set beside the name and changes the value; it stands beside every answer in answers.jsonl."""
        return self.model_dump(
            mode="json", exclude={"metric", "aggregation", "higher_is_better"}, exclude_defaults=True
        )


EXACTLY = frozenset({"ignore_case", "ignore_punctuation", "ignore_numbers", "regexes_to_ignore"})
"""Options of `exact_match`."""


class DataKwargs(Part):
    """The `dataset_kwargs` that we accept: files by split; no code, no remote scripts."""

    data_files: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    """Split name to files, looked for beside the task file, then in the recipe's `data` folders, then in SectorLM."""


class Local(Part):
    """Files that stand in for a data set of the hub where they are found: the same rows in another form."""

    data_files: dict[str, str | tuple[str, ...]] = Field(min_length=1)
    """Split name to files, as in `dataset_kwargs`. All of the task's splits or none must be there."""
    columns: tuple[str, ...] | None = None
    """Column names of a table without a header row."""
    records: str = ""
    """Where the records lie inside nested data."""
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Only rows whose field of the file has one of the values; instead of the task's own `where`."""
    keys: dict[str, str] = Field(default_factory=dict)
    """Split to a JSON file that lists the `_key`s of its rows; instead of the task's own `keys`."""
    rename: dict[str, str] = Field(default_factory=dict)
    """Field of the files to the hub's column, for the templates."""


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
    made_by: str = ""
    """Who wrote this task file, where that is not who made the items."""
    sha256: dict[str, str] = Field(default_factory=dict)
    """File name to sha256; a file that differs is refused."""


class Task(Part):
    """A benchmark: items, prompt, metric, source and licence."""

    task: str = Field(pattern=r"^[a-z0-9_]+$")
    """Name; the file is called the same."""
    dataset_path: str
    """`json`, `csv`, `parquet` (files of any of our forms), or a Hugging Face data set id."""
    dataset_name: str | tuple[str, ...] | None = None
    """Configuration of a hub data set, or several whose rows are taken together; it is the field `_file` of its rows."""
    revision: str | None = None
    """Pinned revision of a hub data set."""
    dataset_kwargs: DataKwargs = DataKwargs()
    """Files by split."""
    local: Local | None = None
    """Files that are read instead of the hub's data set where they are found."""
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
    """Jinja template of the gold: the choice's text, its index, or its letter; for generation the expected text, or a
    JSON list of texts that are all right (the first one stands in worked examples); for `letters_match` and `span_f1` a
    list is the set itself, and an empty one of spans is `none`."""
    target_delimiter: str = " "
    """Between question and answer."""
    fewshot_delimiter: str = "\n\n"
    """Between worked examples."""
    until: tuple[str, ...] = ("\n",)
    """A generation ends before the first of these."""
    max_gen_toks: int = Field(default=64, ge=1, le=4096)
    """Longest generation, in tokens."""
    generation_kwargs: Generation | None = Field(default=None, exclude=True)
    """The same two keys as lm-evaluation-harness writes them; they are kept under their own names."""
    filter_list: tuple[Filters, ...] = ()
    """How an answer is read from a generated text; one way, since every item has one answer."""
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
    split_column: str | None = None
    """Column that names a row's split, where all splits stand in one file."""
    cluster: str | None = None
    """Jinja template of a key: rows with the same key are one independent observation (same sentence under ten prompts)."""
    subject: str | None = None
    """Jinja template of the subject that a row belongs to; the report breaks the task down by it. The field `_file` is the
    name of the row's file without its ending."""

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        if self.output_type == "multiple_choice" and self.doc_to_choice is None:
            raise ValueError("multiple_choice needs doc_to_choice")
        if self.output_type != "loglikelihood_rolling" and not self.doc_to_target:
            raise ValueError(f"{self.output_type} needs doc_to_target")
        if self.fewshot_split == self.test_split:
            raise ValueError("fewshot_split is the test_split: worked examples would leak the answers")
        if self.num_fewshot and self.fewshot_split is None:
            raise ValueError(f"num_fewshot is {self.num_fewshot}, but no fewshot_split says where examples come from")
        by_class = [entry.metric for entry in self.metric_list if entry.metric in BY_CLASS]
        if by_class and not isinstance(self.doc_to_choice, tuple):
            raise ValueError(f"metric {by_class[0]} counts by class: it needs doc_to_choice as a list")
        allowed = FITS[self.output_type]
        wrong = [entry.metric for entry in self.metric_list if entry.metric not in allowed]
        if wrong:
            raise ValueError(
                f"metric {wrong[0]} does not fit {self.output_type}: use one of {', '.join(sorted(allowed))}"
            )
        if self.filter_list and self.output_type != "generate_until":
            raise ValueError(f"filter_list reads generated texts; {self.output_type} has none")
        if len(self.filter_list) > 1:
            several = ", ".join(each.name for each in self.filter_list)
            raise ValueError(f"filter_list has {len(self.filter_list)} ways to read an answer ({several}): keep one")
        if self.local is not None and self.dataset_path in LOCAL:
            raise ValueError(f"local stands in for a data set of the hub, but dataset_path is {self.dataset_path}")
        return self

    @model_validator(mode="after")
    def _generation(self) -> Task:
        """One meaning, one place: what `generation_kwargs` says becomes `until` and `max_gen_toks`."""
        given = {} if self.generation_kwargs is None else self.generation_kwargs.model_dump(exclude_none=True)
        for name in ("until", "max_gen_toks"):
            if name not in given:
                continue
            if name in self.model_fields_set:
                raise ValueError(f"{name} is given twice, once in generation_kwargs")
            value = (given[name],) if isinstance(given[name], str) else given[name]
            object.__setattr__(self, name, value)  # frozen for everybody else
        return self

    def options(self) -> dict[str, dict[str, Any]]:
        """Metric to what is set for it, where something is."""
        return {entry.metric: entry.options() for entry in self.metric_list if entry.options()}


def task_files(folder: Path) -> dict[str, Path]:
    """The tasks that SectorLM ships, by name."""
    return {path.stem: path for path in sorted((folder / "configs" / "tasks").glob("*.yaml"))}
