"""The twelve sector packs: what the open world offers a sector, and what its model card must say."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.errors import RecipeError, did_you_mean
from configs.load import validated
from configs.part import Part
from configs.recipe import SECTORS, Sector, Source
from configs.store import HOUSE
from configs.yaml_nodes import read_yaml


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


class Safety(Part):
    """The note that the model card of this sector carries."""

    en: str
    """In English."""
    zh: str
    """In Chinese."""


class SectorPack(Part):
    """One sector: names, two corpora as recipe sources, two benchmarks, the safety note, and what is missing."""

    sector: Sector
    """The key that recipes use."""
    en: str
    """Name in English."""
    zh: str
    """Name in Chinese, as in the plan of 2024-2026."""
    corpora: tuple[Source, ...] = Field(min_length=2)
    """Public corpora, ready to stand in a recipe. Those with a path that is no `hf:` id must be downloaded first."""
    benchmarks: tuple[Benchmark, ...] = Field(min_length=2)
    """Public benchmarks."""
    glossary: tuple[str, ...] = ()
    """Terms of the sector; `sectorlm fitness` says how the base's tokenizer spells them."""
    safety: Safety
    """What the model card says about use."""
    gaps: str = ""
    """What the open world does not have for this sector."""

    @model_validator(mode="after")
    def _languages(self) -> SectorPack:
        if not any("zh" in corpus.language for corpus in self.corpora) and not self.gaps:
            raise ValueError("no Chinese corpus: say so under gaps")
        return self


def load_sector(sector: str) -> SectorPack:
    """The pack of one sector.

    Raises:
        RecipeError: there is no such sector.
    """
    if sector not in SECTORS:
        hint = f"{did_you_mean(sector, SECTORS)} Sectors: {', '.join(SECTORS)}.".strip()
        raise RecipeError("no such sector", where=sector, hint=hint)
    return validated(SectorPack, read_yaml(HOUSE / "configs" / "sectors" / f"{sector}.yaml"))
