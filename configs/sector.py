"""The twelve sector packs: what the open world offers a sector, and what its model card must say."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.errors import RecipeError, did_you_mean
from configs.licences import Kind, licence_kind
from configs.load import validated
from configs.part import Part
from configs.recipe import SECTORS, Sector, Source
from configs.store import HOUSE
from configs.yaml_nodes import read_yaml


class Facts(Part):
    """What is known of a public data set, and how."""

    size: str
    """Rows or texts; `not counted` where nobody here did."""
    loads: Literal["parquet", "json", "csv", "text", ""] = ""
    """Form of its files."""
    columns: tuple[str, ...] = ()
    """Its columns, as far as they matter here."""
    revision: str = ""
    """The commit that was looked at; empty: none is pinned, and the record of a run says what it got."""
    verified: tuple[Literal["file", "card", "readme", "harness", "opencompass", "memory"], ...] = Field(min_length=1)
    """How: the data file was opened, the hub's page or the project's own was read, the task of lm-evaluation-harness or
    OpenCompass that reads it was read; `memory`: it was not, look before you use it."""
    note: str = ""
    """What a reader must know besides."""


class PublicCorpus(Source):
    """A public corpus, ready to stand in a recipe, and what is known of it."""

    facts: Facts
    """Size, columns, revision, and how they were verified."""

    def as_source(self) -> Source:
        """The same as a recipe has it, without the facts."""
        return Source.model_validate(self.model_dump(exclude={"facts"}, exclude_defaults=True))


class Benchmark(Part):
    """A public benchmark of a sector, as a pointer: nothing of it is shipped."""

    id: str
    """Hub id, or OWNER/REPOSITORY."""
    host: Literal["hub", "github"]
    """Where it is published."""
    language: tuple[Literal["en", "zh", "other"], ...]
    """Languages of the items."""
    licence: str
    """Licence as its publisher states it; `none stated` where there is none."""
    metric: str
    """What is measured, and on how many items where that is known."""
    proxy: bool = False
    """True when it only stands in for a sector benchmark that does not exist in the open."""
    note: str = ""
    """What a reader must know before quoting a number."""
    tasks: tuple[str, ...] = ()
    """Task files of SectorLM that read it."""
    facts: Facts
    """Size, columns, revision, and how they were verified."""


class Domain(Part):
    """What is special about a sector's text; `sectorlm init` writes it into the starter recipe, where it can be changed."""

    protect: tuple[str, ...] = ()
    """Patterns of terms that cleaning and masking must not touch: doses, norms, codes."""
    personal: tuple[str, ...] = ()
    """Kinds of personal data that matter here, the most delicate first; data_prep/personal.py has the kinds."""
    rules: dict[str, float | bool] = Field(default_factory=dict)
    """Thresholds of quality rules that differ from the defaults."""
    licences: tuple[Kind, ...] = ()
    """Kinds of licence that a release is allowed by default."""
    probes: tuple[str, ...] = ()
    """Quick tasks that are asked while training, to see forgetting early."""


class Safety(Part):
    """The note that the model card of this sector carries."""

    en: str
    """In English."""
    zh: str
    """In Chinese."""


class SectorPack(Part):
    """One sector: names, two corpora as recipe sources, two benchmarks, its own rules, the safety note, what is missing."""

    sector: Sector
    """The key that recipes use."""
    en: str
    """Name in English."""
    zh: str
    """Name in Chinese, as in the plan of 2024-2026."""
    corpora: tuple[PublicCorpus, ...] = Field(min_length=2)
    """Public corpora, ready to stand in a recipe. Those with a path that is no `hf:` id must be downloaded first."""
    benchmarks: tuple[Benchmark, ...] = Field(min_length=2)
    """Public benchmarks."""
    domain: Domain
    """Its own rules."""
    glossary: tuple[str, ...] = Field(min_length=20)
    """Terms of the sector in both languages; `sectorlm fitness` says how the base's tokenizer spells them."""
    safety: Safety
    """What the model card says about use."""
    gaps: str = ""
    """What the open world does not have for this sector."""

    @model_validator(mode="after")
    def _languages(self) -> SectorPack:
        if not any("zh" in corpus.language for corpus in self.corpora) and not self.gaps:
            raise ValueError("no Chinese corpus: say so under gaps")
        return self


def beside_the_pack(source: Source, pack: SectorPack) -> list[tuple[str, str]]:
    """What of a source a sector's pack would not have expected: the key, and a sentence."""
    found, kind = [], licence_kind(source.licence)
    if pack.domain.licences and kind not in pack.domain.licences:
        usual = ", ".join(pack.domain.licences)
        found.append(
            ("licence", f"{source.licence} is {kind}; releases of this sector are usually made of {usual} data")
        )
    if source.personal == "off" and pack.domain.personal:
        found.append(("personal", f"off, but texts of this sector hold {', '.join(pack.domain.personal)}"))
    return found


def load_sector(sector: str) -> SectorPack:
    """The pack of one sector.

    Raises:
        RecipeError: there is no such sector.
    """
    if sector not in SECTORS:
        hint = f"{did_you_mean(sector, SECTORS)} Sectors: {', '.join(SECTORS)}.".strip()
        raise RecipeError("no such sector", where=sector, hint=hint)
    return validated(SectorPack, read_yaml(HOUSE / "configs" / "sectors" / f"{sector}.yaml"))
