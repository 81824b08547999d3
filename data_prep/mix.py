"""The mixture: how often each source is seen, so that it has its share of the training tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from configs.errors import RecipeError
from configs.progress import say
from configs.store import hashed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from configs.recipe import Source


def repeats_for(sources: Sequence[Source], natural: Mapping[str, int]) -> dict[str, float]:
    """Passes over each source per pass over the training rows, from its `share` and its natural number of tokens.

    Sources without a share are seen once and fill what the shares leave. Where every source has a share, the one that
    is largest for its share is seen once. `max_repeats` caps; the shares that result are then printed.

    Raises:
        RecipeError: the shares leave nothing for the sources without one.
    """
    shared = {source.name: source.share for source in sources if source.share and natural[source.name]}
    if not shared:
        return {source.name: 1.0 for source in sources}
    rest = sum(natural[source.name] for source in sources if source.name not in shared)
    total_share = sum(shared.values())
    if rest and total_share >= 1 - 1e-9:
        raise RecipeError(
            f"the shares add up to {total_share:g} and leave nothing for the sources without a share",
            where="corpora",
            hint="Lower a share, or give every source one.",
        )
    total = rest / (1 - total_share) if rest else max(natural[name] * total_share / shared[name] for name in shared)
    parts = {name: share if rest else share / total_share for name, share in shared.items()}
    wanted = {name: parts[name] * total / natural[name] for name in shared}
    caps = {source.name: source.max_repeats for source in sources}
    repeats = {source.name: min(wanted.get(source.name, 1.0), caps[source.name]) for source in sources}
    _tell_caps(wanted, repeats, natural, parts)
    return repeats


def _tell_caps(
    wanted: Mapping[str, float], repeats: Mapping[str, float], natural: Mapping[str, int], parts: Mapping[str, float]
) -> None:
    mixed = sum(repeats[name] * natural[name] for name in repeats)
    for name, want in wanted.items():
        if want > repeats[name] * (1 + 1e-9):
            share = repeats[name] * natural[name] / mixed
            say(
                f"  {name}: a share of {parts[name]:.1%} would need {want:.1f} passes; max_repeats allows "
                f"{repeats[name]:g}, which makes {share:.1%}"
            )


def repeat(pieces: np.ndarray, names: Iterable[str], times: float, seed: int) -> np.ndarray:
    """The pieces of one source `times` over: whole passes, and for the rest those with the smallest hash.

    `pieces` is [P, ...] with lengths in column 2; `names` say which piece each is, in every run. The rest is filled up to
    the wanted number of tokens.
    """
    whole, part = int(times), times - int(times)
    chosen = [pieces] * whole
    wanted = part * int(pieces[:, 2].sum())
    if wanted >= 1:
        draw = np.array([hashed(seed, "repeat", name) for name in names], np.uint64)
        order = np.argsort(draw, kind="stable")
        before = np.cumsum(pieces[order, 2]) - pieces[order, 2]
        chosen.append(pieces[order[before < wanted]])
    return np.concatenate([pieces[:0], *chosen])
