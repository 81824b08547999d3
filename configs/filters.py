"""What a task says about generated texts: when they end, and how an answer is read from them.

The keys are those of lm-evaluation-harness; what would run code, sample or guess an answer is not among them.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from configs.part import Part


class Step(Part):
    """One step from a generated text to an answer; the functions and keys of lm-evaluation-harness."""

    function: Literal["regex", "take_first", "strip", "remove_whitespace", "lowercase", "map"]
    """`regex` takes what a pattern finds, `take_first` the first text (we ask for one), `strip` and `remove_whitespace`
    the text without spaces at its ends, `map` what a text stands for."""
    regex_pattern: str | None = None
    """`regex`: of several groups the first that holds something."""
    group_select: int = 0
    """`regex`: which of the finds, from 0; -1 is the last."""
    fallback: str = "[invalid]"
    """`regex`: where nothing is found the answer is invalid, whatever stands here: a fallback would be a guess."""
    mapping_dict: dict[str, str | int] = Field(default_factory=dict)
    """`map`: text to answer; any other text is invalid."""
    default_value: str | int | None = None
    """`map`: as `fallback`, never an answer."""

    @model_validator(mode="after")
    def _own(self) -> Step:
        if self.function == "regex":
            if self.regex_pattern is None:
                raise ValueError("the function regex needs regex_pattern")
            compiled(self.regex_pattern)
        owners = {"regex_pattern": "regex", "group_select": "regex", "fallback": "regex"}
        owners |= {"mapping_dict": "map", "default_value": "map"}
        for name in self.model_dump(exclude={"function"}, exclude_defaults=True):
            if owners[name] != self.function:
                raise ValueError(f"{name} belongs to the function {owners[name]}, not to {self.function}")
        return self


def compiled(pattern: str) -> None:
    """Refuse a pattern that is no regular expression.

    Raises:
        ValueError: it is none.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error


class Filters(Part):
    """How an answer is read from a generated text."""

    name: str = "none"
    """lm-evaluation-harness' name of the way; it stands in no score."""
    filter: tuple[Step, ...] = Field(min_length=1)
    """The steps in their order."""


class Generation(Part):
    """`generation_kwargs` as lm-evaluation-harness writes them; decoding is always greedy."""

    until: tuple[str, ...] | str | None = None
    """As the task's own `until`."""
    max_gen_toks: int | None = Field(default=None, ge=1, le=4096)
    """As the task's own `max_gen_toks`."""
    do_sample: bool = False
    """Only false: answers must come out the same again."""
    temperature: float = 0.0
    """Only 0."""

    @model_validator(mode="after")
    def _greedy(self) -> Generation:
        if self.do_sample or self.temperature:
            raise ValueError("answers are not sampled: do_sample must be false and temperature 0")
        return self
