"""Several runs instead of one: the parts `sweep`, `pilot` and `worth` of a recipe.

Every field has a sentence with its meaning, unit and, where there is one, the evidence for its default.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator

from configs.errors import did_you_mean
from configs.part import Part
from configs.problems import catalogue, explain
from configs.store import digest_json, hashed
from configs.tuning import Train
from configs.yaml_nodes import Place, Tree

FIXED = ("train.part", "train.phases", "train.new_tokens")
"""A pilot's own business, a list of blocks, and what the corpus that all runs share was made with."""
SETTINGS = (*(key for key in catalogue(Train, "train.") if key.count(".") == 1 and key not in FIXED), "seed")
"""What may vary between the runs of a sweep: all else below `train`, and the seed of row order, first factors and dropout."""
MOST = 1000
"""Runs of a sweep; of more a sample must be taken."""
LONGEST = 120
"""Characters of a run's name in a sweep; file systems allow 255 bytes."""


def _setting(key: str) -> str:
    """A key of a sweep, or a ValueError that names the nearest one."""
    if key in SETTINGS:
        return key
    hint = (
        f"Write whole keys: `train.rank: [8, 16]`, or --set 'sweep={{{key}.rank: [8, 16]}}'." if key == "train" else ""
    )
    near = hint or did_you_mean(key, (*SETTINGS, *Sweep.model_fields))
    raise ValueError(f"no setting that a sweep can vary; those are the keys below train. and seed. {near}".rstrip())


Value = bool | int | float | str | tuple[str, ...] | None
Values = Annotated[tuple[Value, ...], Field(min_length=1)]
Setting = Annotated[str, AfterValidator(_setting)]


class Sweep(Part):
    """Settings with the values to try, `train.rank: [8, 16]`: `sectorlm sweep` trains every combination on one corpus."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    __pydantic_extra__: dict[Setting, Values] = Field(init=False)

    sample: int | None = Field(default=None, ge=1, le=MOST)
    """Train this many of the combinations, chosen by the hash of (seed, "sweep", combination); left out: all."""

    @property
    def values(self) -> dict[str, tuple[Value, ...]]:
        """What varies, in the order of the recipe: dotted key to its values."""
        return dict(self.__pydantic_extra__)

    @model_validator(mode="after")
    def _settings_differ(self) -> Sweep:
        if not self.values:
            raise ValueError("nothing varies: give a key with its values, such as train.rank: [8, 16]")
        for key, values in self.values.items():
            names = [shown(value) for value in values]
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ValueError(f"{key} has the value {twice[0]} twice")
        for seed in self.values.get("seed", ()):
            if type(seed) is not int or not 0 <= seed < 2**31:
                raise ValueError(
                    f"seed must be a whole number of at least 0 and less than 2147483648, got {shown(seed)}"
                )
        count = math.prod(len(values) for values in self.values.values())
        if count > MOST and self.sample is None:
            raise ValueError(f"{count:,} combinations, at most {MOST:,}: take a sample of them with `sample: 100`")
        return self

    def combinations(self, seed: int) -> list[dict[str, Value]]:
        """The settings of each run, in the order of the recipe; of a sample, those with the smallest hashes."""
        keys = list(self.values)
        every = [dict(zip(keys, chosen, strict=True)) for chosen in itertools.product(*self.values.values())]
        if self.sample is None or self.sample >= len(every):
            return every
        chosen_by = sorted(every, key=lambda settings: hashed(seed, "sweep", label(settings)))[: self.sample]
        return [settings for settings in every if settings in chosen_by]


class Pilot(Part):
    """Training on parts of the data first, to say what the whole would buy: `sectorlm pilot`."""

    parts: tuple[float, ...] = Field(default=(0.05, 0.1, 0.25), min_length=2)
    """Parts of the training rows, each trained with a learning rate that falls over its own steps: a run that was cut
    short of a longer schedule says too little (Hoffmann et al. 2022, section 3.2 and figure A1)."""
    seeds: int = Field(default=3, ge=2, le=32)
    """Runs on the smallest part, each with rows and first factors of its own: how much they differ is the noise of
    the prediction."""

    @model_validator(mode="after")
    def _parts_rise(self) -> Pilot:
        if list(self.parts) != sorted(set(self.parts)):
            raise ValueError("the parts must rise: 0.05, 0.1, 0.25")
        if self.parts[0] <= 0 or self.parts[-1] >= 1:
            raise ValueError(f"each part must be more than 0 and less than 1, got {list(self.parts)}")
        return self


class Worth(Part):
    """What the corpus is worth: training with it, and with general text in its place, by `sectorlm worth`."""

    seeds: int = Field(default=3, ge=1, le=32)
    """Trainings of each kind, each with row order and first factors of its own: how much they differ is what another
    training would change."""


def shown(value: Value | list[str]) -> str:
    """A value as a person writes it, short.

    >>> shown(1e-4), shown(16), shown(True), shown(("q_proj", "v_proj")), shown(None)
    ('0.0001', '16', 'true', 'q_proj+v_proj', 'null')
    """
    if isinstance(value, tuple | list):
        return "+".join(value)
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return value if isinstance(value, str) else json.dumps(value)


def label(settings: dict[str, Value]) -> str:
    """What varies as a name for a folder; where that would be long or hold odd characters, the end of a hash tells.

    >>> label({"train.learning_rate": 2e-4, "train.rank": 8, "seed": 3})
    'learning_rate=0.0002,rank=8,seed=3'
    """
    name = ",".join(f"{key.removeprefix('train.')}={shown(value)}" for key, value in settings.items())
    safe = re.sub(r"[^A-Za-z0-9._=+,-]", "-", name)
    if safe == name and len(name) <= LONGEST:
        return name
    return f"{safe[: LONGEST - 9]}-{digest_json({key: shown(value) for key, value in settings.items()})[:8]}"


def with_settings(train: Train, settings: dict[str, Any]) -> Train:
    """The part `train` with other values; keys are dotted, and those that are not below `train.` are left to others.

    Raises:
        ValueError: a value is not allowed, or not with the others; the message names key and value.
    """
    new = {key.removeprefix("train."): value for key, value in settings.items() if key.startswith("train.")}
    tree = train.model_dump(mode="json") | {key: list(it) if isinstance(it, tuple) else it for key, it in new.items()}
    try:
        return Train.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        first = explain(Train, Tree(tree, {(): Place("")}), error)[0].removeprefix(": ").strip()
        raise ValueError(f"sweep: {label(settings)}: {first}") from error
