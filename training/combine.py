"""Adapters of several sites -> one adapter and its Run record: no data travels, only low-rank changes and records.

    the change of a layer = sum over sites of weight * (alpha / r) * B A

which stacked factors are exactly, with no loss but float32's rounding; `rank` cuts the stack to its nearest change of
that rank and says what is lost. The folder is an ordinary run: it can be evaluated, published, and merged again.

    OUT/adapter/    adapter_model.safetensors  adapter_config.json
    OUT/sites/N/run.json    the record of each site
    OUT/sites.json  weights, ranks and errors
    OUT/run.json    tokens, steps and seconds are sums over the sites; losses are means of the sites' own, by weight
"""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors.torch import save_file

from configs.errors import RecipeError
from configs.progress import say, track
from configs.records import Run, made_by, stale
from configs.store import RunFolder, crash_point, digest_folder, files_of, only_one, staged, write_atomic
from training.adapters import ADAPTER, FILES
from training.factors import Factors, averaged, cut, distance, size, stacked
from training.sites import (
    CONFIG,
    Site,
    changes_of,
    module_of,
    read_site,
    refuse_different,
    shares,
    tell_different_starts,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


class Errors(NamedTuple):
    """Sizes of what was made and of what would have been lost, as Frobenius norms of one layer."""

    size: float
    """Of the exact change."""
    cut: float
    """Of what cutting the rank took away."""
    averaged: float | None
    """Of the distance to the product of averaged factors; None where ranks or scales differ, so that they have no mean."""


def combine(places: Sequence[Path], out: Path, rank: int | None = None, weights: str = "tokens") -> Run:
    """Combine the adapters at `places` into the folder `out`; keep it if it was made of the same ones in the same way.

    `weights` is `tokens`, `equal`, or a number for each.

    Raises:
        RecipeError: the adapters do not belong together, or are of a kind whose changes do not add up.
        DataError: an adapter or its record is missing or damaged.
        PolicyError: one learnt from documents that must be forgotten.
        StorageError: the disk is full; what was at `out` before is untouched.
    """
    started = time.monotonic()
    sites = [read_site(place) for place in places]
    refuse_different(sites)
    tell_different_starts(sites)
    parts = shares(weights, sites)
    settings = _common(sites) | {"merge.rank": rank, "merge.weights": [str(part) for part in parts]}
    inputs = {f"site {number}: {site.run.name}": site.run.content() for number, site in enumerate(sites, 1)}
    inputs[f"base {sites[0].run.base}"] = sites[0].run.base_digest
    with _held(out):
        done = _earlier(out, places)
        if done is not None and not (reasons := stale(done, out, settings, inputs)):
            say("merge: unchanged, kept")
            return done
        if done is not None:
            say(f"merge again: {'; '.join(reasons)}")
        with staged(out) as staging:
            tensors, errors = _merged(sites, parts, rank)
            _write_adapter(staging / "adapter", sites, tensors)
            _write_sites(staging, sites, parts, errors)
            crash_point("merge.before_record")
            name = out.resolve().parent.name if out.name == "run" else out.resolve().name
            record = Run(
                name=name,
                settings=settings,
                inputs=inputs,
                files=files_of(staging),
                made=made_by("training", started),
                **_sums(sites, parts, tensors, staging),
            )
            record.write(staging / "run.json")
    return record


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Work on `out` alone: as the run of a run folder under its lock, else under one of its own."""
    with RunFolder(out.parent).lock() if out.name == "run" else only_one(out):
        yield


def _earlier(out: Path, places: Sequence[Path]) -> Run | None:
    """The merge that stands at `out`.

    Raises:
        RecipeError: something else stands there, or one of the sites does.
    """
    here = out.resolve()
    for place in places:
        if here in (place.resolve(), (place / "run").resolve(), *place.resolve().parents):
            raise RecipeError(f"{out} would take the place of {place}", where="--out", hint="Choose another folder.")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    found = Run.read(out / "run.json") if (out / "run.json").is_file() else None
    if found is None or "merge.weights" not in found.settings:
        told = "something else is there, and it would be replaced"
        raise RecipeError(told, where=str(out), hint="Choose another folder, or remove this one.")
    return found


def _merged(
    sites: Sequence[Site], parts: Sequence[Fraction], rank: int | None
) -> tuple[dict[str, torch.Tensor], dict[str, Errors]]:
    """The tensors of the merged adapter, by PEFT's names, and the errors of each module."""
    read = [changes_of(site, site.tensors()) for site in sites]
    tensors = _same_everywhere(sites, [rest for _, rest in read])
    names = list(dict.fromkeys(name for changes, _ in read for name in changes))
    most = max(sum(changes[name].rank for changes, _ in read if name in changes) for name in names)
    if rank is not None and not 1 <= rank <= most:
        hint = "Leave --rank out to lose nothing."
        raise RecipeError(f"{rank} is not from 1 to {most}, the rank of the exact sum", where="--rank", hint=hint)
    errors = {}
    with track("merge", len(names), "layers") as bar:
        for name in names:
            there = [number for number, (changes, _) in enumerate(read) if name in changes]
            one, errors[module_of(name)] = _layer(
                [read[number][0][name] for number in there], [float(parts[number]) for number in there], rank
            )
            tensors[name] = one.a_RI.float().contiguous()
            tensors[name.replace("lora_A", "lora_B").replace("embedding_A", "embedding_B")] = (
                one.b_OR.float().contiguous()
            )
            bar.advance()
    return tensors, errors


def _layer(changes: list[Factors], weights: list[float], rank: int | None) -> tuple[Factors, Errors]:
    """The sum of one layer's changes. A site without this layer changes nothing there: its weight meets a zero."""
    exact = stacked(changes, weights)
    nearest, lost = cut(exact, rank) if rank is not None and rank < exact.rank else (exact, 0.0)
    mean = averaged(changes, weights)
    return nearest, Errors(size(exact), lost, None if mean is None else distance(exact, mean))


def _same_everywhere(sites: Sequence[Site], rests: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Tensors beside the factors (whole modules, rows of new tokens), if every site has the same.

    Raises:
        RecipeError: they differ.
    """
    for site, rest in zip(sites, rests, strict=True):
        for name in sorted(rest.keys() | rests[0].keys()):
            if name not in rest or name not in rests[0] or not torch.equal(rest[name], rests[0][name]):
                raise RecipeError(
                    f"{name} is not the same in {sites[0].place} and {site.place}",
                    where="merge",
                    hint="Whole modules and new tokens have no low-rank change to stack: train them at one site, and "
                    "let the others start from them frozen.",
                )
    return dict(rests[0])


# ---------------------------------------------------------------- what is written


def _write_adapter(folder: Path, sites: Sequence[Site], tensors: Mapping[str, torch.Tensor]) -> None:
    """The adapter in PEFT's form; `alpha` is the rank everywhere, so that the scale is 1."""
    ranks = {
        module_of(name): len(value) for name, value in tensors.items() if "lora_A" in name or "embedding_A" in name
    }
    usual = Counter(ranks.values()).most_common(1)[0][0]
    pattern = {module: rank for module, rank in sorted(ranks.items()) if rank != usual}
    config = sites[0].config | {
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": pattern,
        "alpha_pattern": dict(pattern),
    }
    config |= {"use_rslora": False, "init_lora_weights": True, "inference_mode": True}
    shapes = [(it.config.get("layers_to_transform"), it.config.get("exclude_modules")) for it in sites]
    if any(shape != shapes[0] for shape in shapes):  # no rule describes the union; its names do
        config |= {"target_modules": sorted(ranks), "layers_to_transform": None, "layers_pattern": None}
        config |= {"exclude_modules": None}
    folder.mkdir()
    save_file(dict(sorted(tensors.items())), folder / ADAPTER, metadata={"format": "pt"})
    write_atomic(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def _write_sites(staging: Path, sites: Sequence[Site], parts: Sequence[Fraction], errors: Mapping[str, Errors]) -> None:
    """The record of each site, and what was combined how."""
    for number, site in enumerate(sites, 1):
        site.run.write(staging / "sites" / str(number) / "run.json")
    told = [
        {"name": site.run.name, "tokens": site.run.tokens, "weight": float(part), "rank": site.config["r"]}
        for site, part in zip(sites, parts, strict=True)
    ]
    write_atomic(staging / "sites.json", json.dumps({"sites": told, "errors": _told(errors)}, indent=1) + "\n")


def _told(errors: Mapping[str, Errors]) -> dict[str, Any]:
    """Relative errors: over all layers together, and of the worst one."""
    whole = sum(it.size**2 for it in errors.values()) ** 0.5
    found: dict[str, Any] = {"layers": len(errors)}
    for kind in ("cut", "averaged"):
        lost = {name: getattr(it, kind) for name, it in errors.items()}
        if None in lost.values() or whole == 0:
            continue
        relative = {name: value / errors[name].size if errors[name].size else 0.0 for name, value in lost.items()}
        worst = max(relative, key=lambda name: relative[name])
        total = sum(value**2 for value in lost.values()) ** 0.5 / whole
        found[kind] = {"total": total, "worst": relative[worst], "worst_layer": worst}
    return found


def _common(sites: Sequence[Site]) -> dict[str, Any]:
    """The settings that all sites share; what they were merged with before is theirs."""
    first, *others = (site.run.settings for site in sites)
    return {
        key: value
        for key, value in first.items()
        if not key.startswith("merge.") and all(key in other and other[key] == value for other in others)
    }


def _sums(
    sites: Sequence[Site], parts: Sequence[Fraction], tensors: Mapping[str, torch.Tensor], staging: Path
) -> dict[str, Any]:
    """The figures of the record: sums over the sites, or means by weight."""
    runs, first = [site.run for site in sites], sites[0].run
    trained = sum(value.numel() for value in tensors.values())

    def mean(key: str) -> float:
        return float(sum(part * Fraction(getattr(run, key)) for run, part in zip(runs, parts, strict=True)))

    tokens, seconds = sum(run.tokens for run in runs), sum(run.seconds_training for run in runs)
    return {
        "base": first.base,
        "base_digest": first.base_digest,
        "method": first.method,
        "weights": "adapter",
        "weights_digest": digest_folder(staging / "adapter", FILES),
        "trainable_parameters": trained,
        "total_parameters": first.total_parameters - first.trainable_parameters + trained,
        "steps": sum(run.steps for run in runs),
        "epochs": round(mean("epochs"), 4),
        "tokens": tokens,
        "seconds_training": round(seconds, 3),
        "tokens_per_second": round(tokens / max(seconds, 1e-9), 1),
        "peak_memory_bytes": max(run.peak_memory_bytes for run in runs),
        "loss_first": mean("loss_first"),
        "loss_last": mean("loss_last"),
        "curve": (),
        "segments": sum(run.segments for run in runs),
        "skipped_steps": sum(run.skipped_steps for run in runs),
    }


def summary(out: Path) -> tuple[dict[str, Any], list[str]]:
    """What sites.json says, as data and as sentences."""
    told = json.loads((out / "sites.json").read_bytes())
    errors, ranks = told["errors"], [site["rank"] for site in told["sites"]]
    rank = json.loads((out / "adapter" / CONFIG).read_bytes())["r"]
    lines = [
        f"{site['name']}: {site['tokens']:,} tokens, weight {site['weight']:.4g}, rank {site['rank']}"
        for site in told["sites"]
    ]
    lost = errors.get("cut", {}).get("total", 0)
    if lost:
        lines.append(
            f"cut to rank {rank} of {sum(ranks)}: relative error {lost:.3%} over {errors['layers']} layers, "
            f"at most {errors['cut']['worst']:.3%} ({errors['cut']['worst_layer']})"
        )
    else:
        lines.append(f"stacked to rank {rank} on {errors['layers']} layers: nothing is lost")
    if "averaged" in errors:
        lines.append(
            f"averaging the factors, which is refused, would be off by {errors['averaged']['total']:.1%}: "
            "mean(B) mean(A) also multiplies the factors of different sites"
        )
    return told, lines
