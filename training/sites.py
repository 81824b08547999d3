"""The adapters of several sites, each with its record: read, checked against their sha256, and compared with one another."""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError, safe_open

from configs.errors import DataError, PolicyError, RecipeError
from configs.progress import say
from configs.records import Release, Run
from configs.store import verify_files
from configs.taint import taint_of, taint_told
from training.adapters import ADAPTER
from training.factors import Factors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

CONFIG = "adapter_config.json"
HEAD = "base_model.model."
"""What PEFT puts before the name of a module."""
PAIRS = ((".lora_A.weight", ".lora_B.weight"), (".lora_embedding_A", ".lora_embedding_B"))
"""How PEFT names the two factors of a linear layer, and of an embedding, whose change is transposed: the sum is the same."""
STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Starts of an adapter that leave the base as it is (`init_lora_weights`)."""
HARMLESS = frozenset(
    "peft_type task_type auto_mapping peft_version base_model_name_or_path revision inference_mode r lora_alpha lora_dropout "  # noqa: SIM905
    "target_modules exclude_modules layers_to_transform layers_pattern rank_pattern alpha_pattern use_rslora fan_in_fan_out "
    "init_lora_weights modules_to_save trainable_token_indices megatron_core qalora_group_size runtime_config eva_config "
    "loftq_config corda_config lora_ga_config ensure_weight_tying".split()
)
"""Keys of adapter_config.json that are handled here, or that say nothing about what the tensors mean."""
REASONS = {
    "use_dora": "DoRA divides by the norm of the changed weight, so the changes of two sites do not add up",
    "bias": "biases were trained beside the factors, and every site has its own",
    "lora_bias": "biases were trained beside the factors, and every site has its own",
}
ALIKE = ("peft_type", "task_type", "target_modules", "fan_in_fan_out", "modules_to_save", "trainable_token_indices")
"""Keys of adapter_config.json that must be the same at every site."""
MATTER = ("train.method", "train.target")
"""Beginnings of the recipe's keys that must be the same at every site."""


class Site(NamedTuple):
    """An adapter with its record."""

    place: Path
    """As it was given."""
    run: Run
    folder: Path
    """Where the adapter's files lie."""
    config: dict[str, Any]

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors of the adapter, memory-mapped.

        Raises:
            DataError: the file is damaged.
        """
        try:
            with safe_open(self.folder / ADAPTER, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it has no iterator
        except (SafetensorError, OSError) as error:
            raise DataError(f"the adapter cannot be read ({error})", where=str(self.folder / ADAPTER)) from error


def read_site(place: Path) -> Site:
    """The adapter of a run folder (`runs/NAME`), of a `run/` folder in it, or of a release; its files are verified.

    Raises:
        DataError: there is none, or it is not what its record vouches for.
        RecipeError: it is no adapter, or of a kind whose changes do not add up.
        PolicyError: it learnt from documents that must be forgotten.
    """
    root = next((it for it in (place, place / "run") if (it / "run.json").is_file()), None)
    if root is None:
        told = "this release has no run.json" if (place / "release.json").is_file() else "no run and no release is here"
        hint = "Give runs/NAME, its run/ folder, or a release that this version of SectorLM made."
        raise DataError(told, where=str(place), hint=hint)
    run, release = Run.read(root / "run.json"), Release.read_if_there(root / "release.json")
    if run.weights != "adapter":
        told = f"a run of train.method {run.method} has no adapter: only changes of low rank can be stacked"
        raise RecipeError(told, where=str(place), hint="Train the sites with train.method: lora.")
    if taint := taint_of(root):
        hint = "Train that site again without these documents."
        raise PolicyError(f"refused: this run {taint_told(taint)}", where=str(root), hint=hint)
    if release is not None:
        verify_files(root, {name: release.files.get(name, "") for name in ("run.json", ADAPTER, CONFIG)})
    else:
        verify_files(root, {name: digest for name, digest in run.files.items() if name.startswith("adapter/")})
    folder = root if release is not None else root / "adapter"
    try:
        config = dict(json.loads((folder / CONFIG).read_bytes()))
    except (ValueError, TypeError, OSError) as error:
        raise DataError(f"not the settings of an adapter ({error})", where=str(folder / CONFIG)) from error
    if reason := _unlike_a_sum(config):
        raise RecipeError(f"adapters of this kind cannot be merged: {reason}", where=str(place))
    return Site(place, run, folder, config)


def _unlike_a_sum(config: dict[str, Any]) -> str:
    """Why the tensors of an adapter are not the factors of a change to the base; nothing where they are."""
    if config.get("peft_type") != "LORA":
        return f"peft_type is {config.get('peft_type')}, not LORA"
    if config.get("init_lora_weights", True) not in STARTS:
        return (
            f"init_lora_weights is {config['init_lora_weights']}, which changes the base itself at the start; "
            "convert it to plain LoRA when saving (PEFT: path_initial_model_for_weight_conversion)"
        )
    for key, value in config.items():
        if key not in HARMLESS and value and value != "none":
            return f"{key} is {value}: {REASONS.get(key, 'what it does to the change is not known here')}"
    return ""


def refuse_different(sites: Sequence[Site]) -> None:
    """See that the adapters are changes to the same base, of the same kind, and of different runs.

    Raises:
        RecipeError: they are not; every difference has a line.
    """
    if len(sites) < 2:
        raise RecipeError(f"got {len(sites)} adapter: merging takes two or more", where="merge")
    digests = [site.run.weights_digest for site in sites]
    for number, digest in enumerate(digests):
        if digest in digests[:number]:
            before, here = sites[digests.index(digest)].place, sites[number].place
            raise RecipeError(f"{before} and {here} are the same adapter", where="merge", hint="Give each site once.")
    lines = []
    first = _what_matters(sites[0])
    for site in sites[1:]:
        found = _what_matters(site)
        lines += [
            f"{key}: {_short(first.get(key))} in {sites[0].place}, {_short(found.get(key))} in {site.place}"
            for key in dict.fromkeys((*first, *found))
            if first.get(key) != found.get(key)
        ]
    if lines:
        told = "these adapters do not belong together:\n    " + "\n    ".join(lines)
        raise RecipeError(
            told, where="merge", hint="Train every site on the same base with the same method and modules."
        )


def tell_different_starts(sites: Sequence[Site]) -> None:
    """Say where sites began with different adapters: their sum is exact, but it is no round of averaging."""
    starts = [{digest for label, digest in site.run.inputs.items() if label.startswith("adapter ")} for site in sites]
    for site, start in zip(sites, starts, strict=True):
        if start != starts[0]:
            say(f"  note: {site.place} did not start from the adapter that {sites[0].place} started from (train.start)")


def _what_matters(site: Site) -> dict[str, Any]:
    """What must be the same everywhere, by the name that a message gives it."""
    asked = {key: value for key, value in site.run.settings.items() if key.startswith(MATTER)}
    alike = {key: site.config.get(key) or None for key in ALIKE}
    if isinstance(alike["target_modules"], list):
        alike["target_modules"] = sorted(alike["target_modules"])
    return {"base": site.run.base_digest, "method": site.run.method} | asked | alike


def _short(value: Any) -> str:
    """A value in a message: of many modules their number, and what the last words of their names are."""
    if isinstance(value, list) and len(value) > 3:
        return f"{len(value)} ({', '.join(dict.fromkeys(str(it).rpartition('.')[2] for it in value))})"
    return "unset" if value is None else str(value)


def shares(asked: str, sites: Sequence[Site]) -> list[Fraction]:
    """The weight of each site: by its training tokens, equal, or as given (`0.2,0.3,0.5`, `1/3,2/3`); they add up to 1.

    By tokens is the weighting of McMahan et al. 2017 (FedAvg, algorithm 1), with tokens for examples.

    Raises:
        RecipeError: it is none of these, or the numbers do not fit.
    """
    if asked == "equal":
        return [Fraction(1, len(sites))] * len(sites)
    if asked == "tokens":
        tokens = [site.run.tokens for site in sites]
        for site in sites:
            if site.run.tokens <= 0:
                raise RecipeError("its record counts no training tokens", where=str(site.place), hint="--weights equal")
        return [Fraction(count, sum(tokens)) for count in tokens]
    try:
        given = [Fraction(word.strip()) for word in asked.split(",")]
    except (ValueError, ZeroDivisionError) as error:
        hint = "tokens, equal, or one number for each site: --weights 0.2,0.3,0.5"
        raise RecipeError(f"{asked!r} is no list of weights", where="--weights", hint=hint) from error
    if len(given) != len(sites):
        raise RecipeError(f"{len(given)} weights for {len(sites)} adapters", where="--weights")
    if min(given) <= 0:
        raise RecipeError(f"{float(min(given)):g} is not above zero", where="--weights", hint="Leave that site out.")
    if sum(given) != 1:
        hint = "Fractions are exact: 1/3,1/3,1/3."
        raise RecipeError(f"the weights add up to {float(sum(given)):g}, not to 1", where="--weights", hint=hint)
    return given


def changes_of(site: Site, tensors: dict[str, torch.Tensor]) -> tuple[dict[str, Factors], dict[str, torch.Tensor]]:
    """The change of each module by its name in the adapter's file, and the tensors that are no factors.

    A module's name ends as its A's does, so that it says which kind of layer it is. The scale is `alpha / r`, for
    rsLoRA `alpha / sqrt(r)` (Kalajdzievski 2023); `rank_pattern` and `alpha_pattern` may say otherwise of a module.

    Raises:
        DataError: a factor has no other half, or its shape is not what the settings say.
    """
    found: dict[str, Factors] = {}
    rest = dict(tensors)
    for a_end, b_end in PAIRS:
        for name in [name for name in tensors if name.endswith(a_end)]:
            a_RI, b_OR = rest.pop(name), rest.pop(name.removesuffix(a_end) + b_end, None)
            rank, alpha = rank_and_alpha(site.config, module_of(name))
            if b_OR is None or (a_RI.ndim, b_OR.ndim) != (2, 2) or not a_RI.shape[0] == b_OR.shape[1] == rank:
                shapes = f"A {list(a_RI.shape)}, B {list(b_OR.shape) if b_OR is not None else 'missing'}"
                told = f"{name}: these are no two factors of rank {rank} ({shapes})"
                raise DataError(told, where=str(site.folder / ADAPTER))
            root = math.sqrt(rank) if site.config.get("use_rslora") else rank
            found[name] = Factors(b_OR, a_RI, alpha / root)
    return found, rest


def module_of(name: str) -> str:
    """The module in the base whose factor A is called `name`.

    >>> module_of("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight")
    'model.layers.0.mlp.up_proj'
    """
    for a_end, _ in PAIRS:
        name = name.removesuffix(a_end)
    return name.removeprefix(HEAD)


def rank_and_alpha(config: dict[str, Any], module: str) -> tuple[int, float]:
    """What an adapter's settings say of one module; a key of a pattern is an expression that its name ends with.

    >>> rank_and_alpha({"r": 8, "lora_alpha": 16, "rank_pattern": {"q_proj": 4}}, "layers.0.q_proj")
    (4, 16)
    """
    found = []
    for pattern, usual in (("rank_pattern", config["r"]), ("alpha_pattern", config["lora_alpha"])):
        keys: dict[str, Any] = config.get(pattern) or {}
        found.append(next((it for key, it in keys.items() if re.match(rf"(.*\.)?({key})$", module)), usual))
    return found[0], found[1]
