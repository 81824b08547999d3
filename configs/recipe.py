"""The recipe: what a person asks for, in 15 to 25 lines of YAML.

Every field below has a sentence with its meaning, unit and, where there is one, the evidence for its default;
`sectorlm schema` hands the same sentences to editors. Defaults live here, for training in configs/tuning.py, and for
releases in configs/releasing.py.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from configs.part import Part
from configs.releasing import Gates, Grade, Publish
from configs.trials import Pilot, Sweep, Worth, with_settings
from configs.tuning import Phase, Train

Sector = Literal[
    "manufacturing",
    "agriculture",
    "commerce",
    "transport",
    "finance",
    "science",
    "culture_tourism",
    "healthcare",
    "emergency",
    "meteorology",
    "urban_governance",
    "green",
]
SECTORS: tuple[str, ...] = get_args(Sector)
"""The twelve sectors of the plan "Data Factor of Production x" (2024-2026), in its order."""
Format = Literal[
    "auto",
    "json",
    "jsonl",
    "csv",
    "tsv",
    "text",
    "markdown",
    "rst",
    "html",
    "xml",
    "parquet",
    "arrow",
    "xlsx",
    "pdf",
    "docx",
]
Share = Annotated[float, Field(gt=0, le=1)]
Span = Annotated[str, Field(pattern=r"^(\d{4}(-\d\d){0,2}(/\d{4}(-\d\d){0,2})?)?$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Source(Part):
    """One corpus of the mixture: where its files are, what a record becomes, and under which terms it may be used."""

    name: Name
    """Short name; it stands in every record, ledger and report."""
    path: str | tuple[str, ...]
    """Files, folders or globs, looked for beside the recipe, then in the folders of `data`, then in SectorLM itself.
    `archive.zip!inner/*.json` selects files inside an archive. `hf:org/name[:config][@revision]` is a data set of the
    Hugging Face hub, streamed; pin its revision. `hf:org/name!english/*.parquet` reads some of its files."""
    licence: str
    """SPDX identifier (`CC-BY-4.0`) or one of the names that `sectorlm check` lists (`public-domain`, `research-only`)."""
    format: Format = "auto"
    """Form of the files; `auto` goes by the name and then by the content."""
    encoding: str = "auto"
    """Text encoding; `auto` tries UTF-8, UTF-16 by its mark, GB18030 and Latin-1, and the ledger says which it was."""
    columns: tuple[str, ...] | None = None
    """Column names of a table without a header row."""
    records: str = ""
    """Where the records lie inside nested data: `data[].paragraphs[]`; `*` for an object whose values are the records;
    `lines` or `blocks` (parted by blank lines) of a text file."""
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Keep only records whose field has one of the values: `{label: [yes, no]}`; others are counted as not selected."""
    where_not: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Leave out records whose field has one of the values."""
    text: str | None = None
    """Jinja template of a plain document, `{{ title }}\\n{{ body }}`: every token is supervised."""
    prompt: str | None = None
    """Jinja template of the question; with `answer`. Only the answer's tokens are supervised."""
    answer: str | None = None
    """Jinja template of the answer; the end mark after it is supervised too."""
    chosen: str | None = None
    """Jinja template of the preferred answer, with `prompt` and `rejected`: it is learnt like an answer."""
    rejected: str | None = None
    """Jinja template of the answer that `chosen` is preferred to; kept beside it, never learnt."""
    messages: str | None = None
    """Name of the field that holds a conversation: a list of {role, content}, {from, value} or plain texts in turn."""
    compose: tuple[Literal["reading", "articles", "table"], ...] = ()
    """Exercises that are made from each document by rules and follow it: `reading` (comprehension tasks after Cheng et
    al. 2024, "Adapting Large Language Models via Reading Comprehension"), `articles` (questions on the articles of a
    law), `table` (questions on the columns of a record)."""
    group: str | None = None
    """Jinja template of a key: records with the same key never stand on both sides of the validation split."""
    channel: Literal["sector", "general"] = "sector"
    """`general` marks replay: text that keeps old abilities alive, reported apart."""
    share: Share | None = None
    """Part of the training tokens that this source shall have; sources without one keep their natural size."""
    max_repeats: float = Field(default=4.0, ge=1, le=16)
    """How often a source may be repeated to reach its share. Four is where repetition starts to lose value
    (Muennighoff et al. 2023, "Scaling Data-Constrained Language Models", section 5)."""
    max_rows: int | None = Field(default=None, ge=1)
    """For data sets of the hub: read the first rows only, this many. Some are far too large to read whole."""
    max_documents: int | None = Field(default=None, ge=1)
    """Take at most this many documents, chosen by the hash of (seed, source, id)."""
    origin: str = ""
    """Who published it, where and when."""
    language: tuple[Literal["en", "zh", "other"], ...] = ()
    """Languages as declared."""
    grade: Grade = "general"
    """Data grade after GB/T 43697-2024; `core` is never used for training, `important` never for a commercial release."""
    time: Span = ""
    """When the data was made, as a year, a date or a span (ISO 8601): `"2019"`, `2024-03-20`, `1996/2024`."""
    purpose: tuple[Literal["research", "commercial"], ...] = ()
    """What its holder allows it to be used for, where that is narrower than the licence."""
    consent: str = ""
    """How the persons that the data is about agreed to its use, or why they need not."""
    generated: bool = False
    """Whether a model or a program wrote the texts; the records of TC609-5-2025-02 say it of every one."""
    personal: Literal["mask", "drop", "report", "off"] = "mask"
    """What happens to personal data: a mark of its kind stands in its place, the document is left out, or it is only
    counted; `off` does not look."""
    rules: dict[str, float | bool] = Field(default_factory=dict)
    """Thresholds of this source that differ from `prepare.rules`; `false` turns a rule off."""

    @property
    def shape(self) -> Literal["text", "answers", "preference"]:
        """What its documents are: plain text, prompts with answers, or pairs of answers."""
        return "text" if self.text is not None else "preference" if self.chosen is not None else "answers"

    @property
    def paths(self) -> tuple[str, ...]:
        """Its paths, one or several."""
        return (self.path,) if isinstance(self.path, str) else self.path

    @model_validator(mode="after")
    def _one_shape(self) -> Source:
        pair = self.chosen is not None or self.rejected is not None
        asked = self.prompt is not None or self.answer is not None or pair
        if self.max_rows and not all(path.startswith("hf:") for path in self.paths):
            raise ValueError("max_rows is for data sets of the hub (hf:); max_documents takes a sample of any source")
        if sum([self.text is not None, asked, self.messages is not None]) != 1:
            raise ValueError("give exactly one of: text | prompt and answer | prompt, chosen and rejected | messages")
        if asked and not pair and (self.prompt is None or self.answer is None):
            raise ValueError("prompt and answer belong together: one of them is missing")
        if pair and (self.prompt is None or self.chosen is None or self.rejected is None or self.answer is not None):
            raise ValueError("prompt, chosen and rejected belong together, without answer")
        return self


class Receipt(Part):
    """What a source may lose before the stage fails, before any GPU hour; an unset limit is not checked."""

    max_dropped: float | None = Field(default=None, ge=0, le=1)
    """Part of a source's rows that may be dropped or refused; rows that are not selected do not count."""
    max_truncated: float | None = Field(default=None, ge=0, le=1)
    """Part of a source's tokens that `overlong: truncate` may cost."""
    min_supervised: float | None = Field(default=None, ge=0, le=1)
    """Part of the training tokens that must be targets of the loss."""
    max_padding: float | None = Field(default=None, ge=0, le=1)
    """Part of the training rows that may stay empty."""
    min_tokens: int | None = Field(default=None, ge=1)
    """Training tokens that there must be, over all sources."""


class Prepare(Part):
    """How documents become tokens."""

    sequence_length: int = Field(default=2048, ge=32, le=131072)
    """Tokens per packed row; long text is split, never cut. 2048 suits instructions, 4096 continued pretraining."""
    form: Literal["chat", "plain"] = "chat"
    """How questions and answers are joined, in training and in evaluation alike: by the tokenizer's chat template, or
    `plain`: the prompt, a space, the answer, the end mark. A small base that never saw a chat learns `plain` sooner."""
    validation: float = Field(default=0.02, gt=0, lt=0.5)
    """Part of the documents kept from training, chosen by the hash of their normalised content."""
    overlong: Literal["split", "drop", "truncate"] = "split"
    """Conversations longer than a row: `split` refuses to cut an answer and drops the conversation with its reason,
    counted; `truncate` keeps the beginning and counts the tokens lost. Plain text is always split without loss."""
    min_chars: int = Field(default=10, ge=1)
    """Shorter documents are dropped and counted."""
    max_bad_rows: float = Field(default=0.001, ge=0, le=1)
    """Part of a source's rows that may be unreadable before the stage fails."""
    max_record_bytes: int = Field(default=10_000_000, ge=1000)
    """Larger records are refused and counted."""
    decontaminate: Literal["drop", "cut", "report", "off"] = "drop"
    """What happens to training documents that share a run of `ngram` with an item of a task of this recipe. `cut` takes
    the sentences that hold the run out of plain text, and drops conversations: for long reports that a benchmark's
    sentences were drawn from (Brown et al. 2020, appendix C, cuts out 200 characters on each side)."""
    ngram: int = Field(default=13, ge=5, le=50)
    """Words (English) or characters (Chinese) in a row that count as a leak; 13 after Brown et al. 2020 (GPT-3), appendix C."""
    near_duplicates: float | None = Field(default=0.8, ge=0.5, lt=1)
    """Plain documents whose sets of five-unit shingles (words, or Chinese characters) overlap by this much (Jaccard) count
    as one; the first stays. Conversations, which share their instructions, must be equal. `null`: equal ones only."""
    repeated_passages: int | None = Field(default=8, ge=2)
    """A paragraph that stands in more than this many documents of plain text is boilerplate: the first keeps it, it is
    cut out of the others. `null` cuts nothing."""
    rules: dict[str, float | bool] = Field(default_factory=dict)
    """Thresholds of the quality rules by name; `false` turns one off. data_prep/quality.py has the table."""
    protect: tuple[str, ...] = ()
    """Patterns (Python's `re`) of terms that cleaning and masking must not touch: doses, norms, codes, emergency numbers. A
    repair that would lose one is left out for that text and counted, and nothing of them is masked as personal data."""
    exclude: tuple[str, ...] = ()
    """Removal requests: ids of documents, or patterns of their text after `text:`; what matches is left out and counted."""
    receipt: Receipt = Receipt()
    """Limits that fail the stage."""

    @field_validator("protect")
    @classmethod
    def _patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                empty = re.search(pattern, "") is not None
            except re.error as error:
                raise ValueError(rf"{pattern} is no pattern ({error}): write signs with a meaning as in \+") from error
            if empty:
                raise ValueError(f"{pattern} holds in every place: a pattern must need at least one character")
        return patterns


class Evaluate(Part):
    """How base and tuned model are compared."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Sector benchmarks: names under configs/tasks, or paths of task files beside the recipe."""
    general: tuple[str, ...] = ("general_pairs", "general_text")
    """The general-ability panel: what tuning may have cost."""
    shots: int | None = Field(default=None, ge=0, le=32)
    """Worked examples before each question; left out: what the task says."""
    limit: int | None = Field(default=None, ge=1)
    """Take at most this many items per task, chosen by the hash of (seed, task, item); the report says so."""
    resamples: int = Field(default=10_000, ge=1000, le=1_000_000)
    """Bootstrap resamples of each interval (Efron and Tibshirani 1993, chapter 13)."""
    batch_tokens: int = Field(default=16384, ge=256)
    """Tokens of one forward pass of the scorer."""


class Recipe(Part):
    """The whole request. `sectorlm run` turns it into a corpus, a run, scorecards, a report and a release."""

    name: Name
    """Name of the run folder under `--runs`."""
    sector: Sector
    """One of the twelve sectors."""
    base: str
    """Base model: a local directory in Hugging Face format, or a hub id `org/name` (`@revision` pins it)."""
    seed: int = Field(default=17, ge=0, lt=2**31)
    """The only source of randomness; every random draw is derived from (seed, purpose, id)."""
    use: Literal["research", "commercial"] = "research"
    """What the result is for; sources whose licence forbids it are refused."""
    lang: Literal["en", "zh"] = "en"
    """Language of the report; with `zh` the model card has a Chinese section too. `sectorlm report --lang` writes another."""
    data: tuple[str, ...] = ()
    """Folders that paths are resolved in, relative to the recipe. Paths outside of all roots are refused."""
    corpora: tuple[Source, ...] = Field(min_length=1)
    """The sources of the mixture."""
    prepare: Prepare = Prepare()
    """How documents become tokens."""
    train: Train = Train()
    """How the base becomes the tuned model."""
    sweep: Sweep | None = None
    """Settings to try side by side, by `sectorlm sweep`."""
    pilot: Pilot = Pilot()
    """Parts of the data to train on first, by `sectorlm pilot`."""
    worth: Worth = Worth()
    """Trainings with and without the corpus, by `sectorlm worth`."""
    evaluate: Evaluate
    """How base and tuned are compared."""
    gates: Gates = Gates()
    """What must hold before a release is made."""
    publish: Publish = Publish()
    """What the release holds."""

    @model_validator(mode="after")
    def _names_differ(self) -> Recipe:
        names = [source.name for source in self.corpora]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"corpora share the name {twice[0]}: each source needs its own")
        shares = sum(source.share or 0 for source in self.corpora)
        if shares > 1 + 1e-9:
            raise ValueError(f"the shares of the corpora add up to {shares:g}: at most 1")
        return self

    @model_validator(mode="after")
    def _phases_have_sources(self) -> Recipe:
        names = [source.name for source in self.corpora]
        for number, phase in enumerate(self.train.phases):
            unknown = [name for name in phase.sources if name not in names]
            if unknown:
                raise ValueError(f"train.phases[{number}] names the source {unknown[0]}; there are: {', '.join(names)}")
            if not self.sources_of(phase):
                asked = ", ".join(phase.sources) or "the corpora"
                raise ValueError(f"train.phases[{number}] has no source: none of {asked} holds {phase.objective}")
        return self

    @model_validator(mode="after")
    def _sweep_is_right(self) -> Recipe:
        for settings in self.sweep.combinations(self.seed) if self.sweep else ():
            with_settings(self.train, settings)
        return self

    @model_validator(mode="after")
    def _release_is_possible(self) -> Recipe:
        """What would refuse every release is found before the first GPU hour, not after the last."""
        asked, names = self.publish.audit, [source.name for source in self.corpora]
        if asked.canaries and asked.canaries not in names:
            raise ValueError(f"publish.audit.canaries names the source {asked.canaries}; there are: {', '.join(names)}")
        if self.gates.max_exposure is not None and not asked.canaries:
            raise ValueError("gates.max_exposure needs canaries: publish.audit.canaries, and `sectorlm canaries FILE`")
        by_heart = [name for name in ("max_memorised", "max_personal") if getattr(self.gates, name) is not None]
        if by_heart and not asked.documents:
            raise ValueError(f"gates.{by_heart[0]} needs publish.audit.documents, which is 0")
        if self.publish.gguf != "no" and self.train.method == "lora" and not self.publish.merged:
            raise ValueError("publish.gguf holds merged weights: set publish.merged: true")
        return self

    def sources_of(self, phase: Phase) -> tuple[int, ...]:
        """Places, among the corpora, of the sources that a phase learns from."""
        return tuple(
            place
            for place, source in enumerate(self.corpora)
            if (not phase.sources or source.name in phase.sources)
            and (
                phase.objective in ("all", source.shape)
                or (phase.objective == "answers" and source.shape == "preference")
                or (phase.objective in ("text", "answers") and source.channel == "general")
            )
        )
