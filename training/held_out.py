"""A look at the held-out rows: loss by source and channel, and the probes, with the weights as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from training.probes import scores

if TYPE_CHECKING:
    from training.loop import Loop


def look_at(loop: Loop) -> dict[str, Any]:
    """Losses in nats per supervised token, by channel and by source, and what the probes score."""
    sources = loop.corpus.sources
    loop.model.eval()
    summed = _by_source(loop, len(sources))
    found: dict[str, Any] = {"losses": {}, "sources": {}, "probes": {}}
    for channel in dict.fromkeys(source.channel for source in sources):
        own = [place for place, source in enumerate(sources) if source.channel == channel]
        nats, targets = (float(part) for part in summed[:, own].sum(axis=1))
        if targets:
            found["losses"][channel] = nats / targets
    for place, source in enumerate(sources):
        if summed[1, place]:
            found["sources"][source.name] = float(summed[0, place] / summed[1, place])
    if loop.probes:  # with parted weights every process must take part
        found["probes"] = scores(loop.probes, loop.model)
    return found


def _by_source(loop: Loop, count: int) -> np.ndarray:
    """float64 [2, sources]: nats, and supervised tokens, over all processes."""
    rows, world = loop.rows, loop.world
    found = np.zeros((2, count))
    parts = rows.micro_batches(list(rows.validation), loop.micro_batch_tokens)
    rounds = -(-len(parts) // world.size) if parts else 0
    with torch.no_grad():
        for turn in range(rounds):
            place = turn * world.size + world.rank
            part = parts[place % len(parts)]
            batch = rows.batch(part).to(world.device)
            nats_S = loop.model(batch, each=True).double().cpu().numpy()
            if place < len(parts):  # the others only keep step with parted weights
                source_S = rows.pieces(part)[batch.documents().cpu().numpy(), 3]
                found[0] += np.bincount(source_S, nats_S, count)
                found[1] += np.bincount(source_S, minlength=count)
    return np.array(world.sums(*found.ravel())).reshape(2, count)
