"""Low-rank adapters: how they begin, and how they are saved, always as a plain adapter for the unchanged base."""

# R rank, I inputs of a layer, O outputs

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from configs.base import base_digest
from configs.errors import DataError, PolicyError, RecipeError, SectorLMError, UnsafeArtefactError
from configs.progress import say
from configs.records import Run
from configs.store import digest_folder, verify_files
from configs.taint import taint_of, taint_told
from configs.vocabulary import base_of
from training.tokens import refuse_uneven, trained_tables

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from configs.job import Job
    from configs.tuning import Train

ADAPTER = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
"""The same as PEFT once wrote it."""
TAKES_FROM_BASE = ("pissa", "olora")
"""Ways to begin that move a part of the base's weights into the factors."""
FILES = ("*.safetensors", "adapter_config.json", "config.json")
"""What a folder of weights is known by."""


def start_folder(job: Job) -> Path | None:
    """The folder of the adapter to start from, below a root of the recipe or the runs folder; None where it starts afresh.

    Raises:
        DataError: there is no adapter, its bytes are not those of its record, or it was trained on another base.
        UnsafeArtefactError: it lies outside of these folders, or its weights are pickled.
        PolicyError: it learnt from documents that must be forgotten.
    """
    start = job.recipe.train.start
    if start is None:
        return None
    places = [root / start / inner for root in (Path(), *job.roots) for inner in ("", "adapter", "run/adapter")]
    found = next((place for place in places if (place / ADAPTER).is_file()), None)
    if found is None:
        raise _no_adapter(start, places)
    allowed = [root.resolve() for root in (*job.roots, job.runs)]
    for file in (found / ADAPTER, found / "adapter_config.json"):
        if not any(file.resolve().is_relative_to(root) for root in allowed):
            raise UnsafeArtefactError(
                f"{file} lies outside of the folders that this recipe may read",
                where=f"train.start: {start}",
                hint="Add its folder to `data: [FOLDER]` in the recipe if it is meant.",
            )
    found = found.resolve()
    _vouched(found, job)
    return found


def _no_adapter(start: str, places: list[Path]) -> SectorLMError:
    if any((place / PICKLED).is_file() for place in places):
        return UnsafeArtefactError(
            f"weights are pickled ({PICKLED}): opening them could run code",
            where=f"train.start: {start}",
            hint="Ask for the adapter in safetensors form.",
        )
    return DataError(
        f"no {ADAPTER} in {start}",
        where="train.start",
        hint="Give the folder that `sectorlm merge` wrote, or that of an earlier run, runs/NAME.",
    )


def _record_of(folder: Path) -> Path | None:
    """The folder of the record of an adapter: above adapter/, or in a release the same."""
    return next((it for it in (folder.parent, folder) if (it / "run.json").is_file()), None)


def _vouched(folder: Path, job: Job) -> None:
    """See that an adapter is what its record says, where it has one."""
    where = f"train.start: {job.recipe.train.start}"
    for inner in (folder, folder.parent):
        if taint := taint_of(inner):
            hint = "Start from another adapter, or train that run again without these documents."
            raise PolicyError(f"refused: this run {taint_told(taint)}", where=where, hint=hint)
    place = _record_of(folder)
    if place is None:
        return
    record = Run.read(place / "run.json")
    if record.base_digest != base_digest(base_of(job)):
        raise DataError(f"it was trained on {record.base}, not on this base", where=where, hint=_likely(record, job))
    own = {name.removeprefix("adapter/"): it for name, it in record.files.items() if name.startswith("adapter/")}
    verify_files(folder, {ADAPTER: "", "adapter_config.json": ""} | own)


def _likely(record: Run, job: Job) -> str:
    """Why the base is likely another one, where one of the two runs has new tokens: they change its fingerprint."""
    theirs, ours = record.settings.get("train.new_tokens") or (), job.recipe.train.new_tokens
    if list(theirs) == list(ours):
        return ""
    told = [
        f"{whose} {', '.join([it] if isinstance(it, str) else it) or 'none'}"
        for whose, it in (("the adapter to start from:", theirs), ("this recipe:", ours))
    ]
    return f"The likely difference is train.new_tokens ({'; '.join(told)}): give both runs the same."


def start_digest(folder: Path) -> str:
    """sha256 of the weights and config of the adapter to start from; says so where no record vouches for them."""
    if _record_of(folder) is None:
        say(f"  note: no run.json lies beside {folder}: its bytes, base and data are not vouched for")
    return digest_folder(folder, FILES)


def adapter_config(train: Train, base: str | None = None, tokens: dict[str, list[int]] | None = None) -> Any:
    """PEFT's configuration of the adapters that a recipe asks for; `tokens` are rows to train whole, by module."""
    from peft import LoraConfig

    everywhere = train.targets == ("all-linear",)
    return LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        r=train.rank,
        lora_alpha=train.alpha,
        lora_dropout=train.dropout,
        target_modules="all-linear" if everywhere else list(train.targets),
        use_rslora=train.rslora,
        use_dora=train.dora,
        init_lora_weights=True if train.init == "zero" else train.init,
        trainable_token_indices=tokens or None,
    )


def with_adapters(
    causal: PreTrainedModel, train: Train, base: str, start: Path | None, rows: tuple[int, ...] = ()
) -> Any:
    """Put factors beside the layers of `causal`, and make `rows` of its embedding and head trainable; returns PEFT's
    wrapper around it.

    Raises:
        RecipeError: no layer fits, the way to begin does not fit the layers, or the recipe's adapter is not that of
            `train.start`.
    """
    from peft import PeftModel, get_peft_model

    tokens = trained_tables(causal, rows)
    if start is None:
        try:
            wrapper = get_peft_model(causal, adapter_config(train, causal.name_or_path, tokens))
        except (ValueError, TypeError) as error:
            told = (str(error).splitlines() or [""])[0]
            raise RecipeError(
                f"these adapters do not fit the base ({told})",
                where="train",
                hint="Look at train.targets, train.init and train.quantise; method: full needs no adapters.",
            ) from error
    else:
        wrapper = PeftModel.from_pretrained(causal, start, is_trainable=True)
        _refuse_other_shape(wrapper.peft_config["default"], train, tokens)
    refuse_uneven(causal, rows)
    config: Any = wrapper.peft_config["default"]
    config.base_model_name_or_path = base  # PEFT would write the path of this machine
    config.target_modules = sorted(config.target_modules)  # a set's order would change from run to run
    return wrapper


def _refuse_other_shape(found: Any, train: Train, tokens: dict[str, list[int]]) -> None:
    if (found.trainable_token_indices or {}) != tokens:
        raise RecipeError("the adapter to start from has other new tokens than the recipe", where="train.new_tokens")
    if found.use_dora and not train.dora:
        raise RecipeError("the adapter to start from is a DoRA one, which no run starts from", where="train.start")
    pairs: dict[str, tuple[Any, Any]] = {
        "rank": (found.r, train.rank),
        "alpha": (found.lora_alpha, train.alpha),
        "rslora": (bool(found.use_rslora), train.rslora),
        "dora": (bool(found.use_dora), train.dora),
        "dropout": (found.lora_dropout, train.dropout),
    }
    if train.targets != ("all-linear",):
        theirs = found.target_modules
        pairs["targets"] = (sorted({theirs} if isinstance(theirs, str) else theirs), sorted(train.targets))
    differing = [
        shlex.quote(f"train.{name}={json.dumps(theirs)}") for name, (theirs, ours) in pairs.items() if theirs != ours
    ]
    if differing:
        raise RecipeError(
            "the adapter to start from has another shape than the recipe's",
            where="train.start",
            hint=f"--set {' --set '.join(differing)}",
        )


def begun(causal: PreTrainedModel, train: Train) -> dict[str, torch.Tensor]:
    """Copies of the factors as they began, where they took a part of the base's weights with them; else nothing."""
    if train.method != "lora" or train.init not in TAKES_FROM_BASE:
        return {}
    factors = {name: value for name, value in causal.named_parameters() if value.requires_grad and ".lora_" in name}
    return {name: value.detach().cpu().clone() for name, value in factors.items()}


def save_adapter(wrapper: Any, values: dict[str, torch.Tensor], before: dict[str, torch.Tensor], target: Path) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`, as PEFT and vLLM read them.

    Factors that began with a part of the base's weights (`before`: B0 A0) are saved side by side with it, [A; A0] and
    [B, -B0]: their product B A - B0 A0 is what training changed, at twice the rank, and the base stays the published one
    (Meng et al. 2024, PiSSA, appendix C).
    """
    from peft import get_peft_model_state_dict

    config = wrapper.peft_config["default"]
    scaling, rank = next(iter(_scalings(wrapper))), config.r
    if before:
        values = {name: _side_by_side(name, value, before.get(name)) for name, value in values.items()}
    named = {f"base_model.model.{name}": value for name, value in values.items()}
    state = get_peft_model_state_dict(wrapper, state_dict=named, save_embedding_layers=False)
    save_file({name: value.contiguous() for name, value in state.items()}, target / ADAPTER, metadata={"format": "pt"})
    changed = {"inference_mode": True}
    if before:
        changed |= {"r": 2 * rank, "lora_alpha": scaling * 2 * rank, "use_rslora": False, "init_lora_weights": True}
    kept = {name: getattr(config, name) for name in changed}
    vars(config).update(changed)
    config.save_pretrained(target)
    vars(config).update(kept)


def _side_by_side(name: str, value: torch.Tensor, before: torch.Tensor | None) -> torch.Tensor:
    if before is None:  # a token's row, saved whole
        return value
    return torch.cat([value, before], 0) if ".lora_A." in name else torch.cat([value, -before], 1)


def _scalings(wrapper: Any) -> set[float]:
    """The factors on B A, alpha / rank or alpha / sqrt(rank); the same in all layers of one recipe."""
    return {
        float(module.scaling["default"])
        for module in wrapper.modules()
        if isinstance(getattr(module, "scaling", None), dict) and "default" in module.scaling
    }
