"""The models that a command line names.

FOLDER or ORG/NAME[@REVISION]      a model in Hugging Face format
MODEL+FOLDER                       the same with an adapter
runs/NAME                          what a run made of its base
http://HOST/v1#NAME                a model behind an OpenAI-compatible server (eval/endpoint.py)
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from configs.base import base_digest, base_folder, local_folder, public_name, tokenizer_digest
from configs.errors import DataError, RecipeError, UnsafeArtefactError
from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.progress import say
from configs.records import Corpus, Run
from configs.store import RunFolder, digest_folder, digest_json, verify_files
from configs.vocabulary import base_there

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eval.engine import Engine

ADAPTER_FILES = ("*.safetensors", "adapter_config.json")
"""What an adapter is known by, as in a run's record."""


class Given(NamedTuple):
    """A model that a command line names: what it is, and how it is opened."""

    name: str
    """Name of its scorecard's folder."""
    digest: str
    """What its answers are kept under; the same as in the scorecards of a run."""
    inputs: dict[str, str]
    open: Callable[[], Engine]
    likely: bool = True
    """Whether it can say how likely a text is, and not only write."""
    base: Path | None = None
    """Folder of its weights, where they are loaded here, so that a base is asked beside its adapter."""
    adapter: Path | None = None


def given(words: Sequence[str], adapters: Sequence[Path], roots: tuple[Path, ...], engine: str = "") -> list[Given]:
    """The local models that a command line names, in order, each once; `adapters` are those of the only model.

    Raises:
        RecipeError: adapters for several models, or two models whose scorecards would have the same name.
        DataError, UnsafeArtefactError, StorageError: as `configs.base.base_folder`, and an adapter of another base.
    """
    if adapters and len(words) != 1:
        raise RecipeError(
            f"--adapter goes with one model, got {len(words)}",
            where="score",
            hint="Write each pair as one word: BASE+ADAPTER.",
        )
    pairs = [_split(word, roots) for word in words]
    pairs += [(words[0], adapter) for adapter in adapters]
    found = [_local(word, adapter, roots, engine) for word, adapter in pairs]
    refuse_same_names([one.name for one in found])
    return found


def refuse_same_names(names: Sequence[str]) -> None:
    """Two scorecards cannot lie in one folder.

    Raises:
        RecipeError: two models have the same name.
    """
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RecipeError(
            f"two models would have the scorecard {twice[0]}",
            where="score",
            hint="Score them one after another with different --out, or rename a folder.",
        )


def _split(word: str, roots: tuple[Path, ...]) -> tuple[str, Path | None]:
    """Model and adapter of `MODEL+ADAPTER`; a folder whose own name has a plus sign is one model."""
    if local_folder(word, roots) is not None:
        return word, None
    for place in (at for at, letter in enumerate(word) if letter == "+"):
        adapter = local_folder(word[place + 1 :], roots)
        if adapter is not None:
            return word[:place], adapter
    if "+" in word:
        raise DataError(
            "no such adapter", where=word, hint="MODEL+FOLDER, with the folder of adapter_model.safetensors."
        )
    return word, None


def _local(word: str, adapter: Path | None, roots: tuple[Path, ...], engine: str) -> Given:
    folder = local_folder(word, roots)
    run = folder and next((it for it in (folder / "run", folder) if (it / "run.json").is_file()), None)
    if run is not None and adapter is None:
        return _of_run(run, engine)
    if folder is not None and not (folder / "config.json").is_file() and (folder / "adapter_config.json").is_file():
        raise DataError("an adapter alone answers nothing", where=word, hint=f"Give its base too: BASE+{word}")
    base = base_folder(word, roots)
    if adapter is not None:
        _check_adapter(base, word, adapter)
    return _opened_here(_name(word, adapter), base, adapter, engine)


def _opened_here(name: str, base: Path, adapter: Path | None, engine: str) -> Given:
    """A model on this machine."""
    digest = base_digest(base)
    inputs = {"model": digest, "tokenizer": tokenizer_digest(base)}
    if adapter is not None:
        own = digest_folder(adapter, ADAPTER_FILES)
        digest, inputs = digest_json([digest, own]), inputs | {"adapter": own}

    if engine == "vllm":
        from eval.vllm import VllmEngine, check_installed, lora_rank

        check_installed()
        rank = lora_rank(adapter) if adapter is not None else 0
        opened: Callable[[], Engine] = partial(VllmEngine, base, adapter, rank)
        return Given(name, digest, inputs | {"engine": engine}, opened, likely=False)

    def here() -> Engine:
        from eval.weights import load_scorer

        return load_scorer(base, adapter)

    return Given(name, digest, inputs, here, base=base, adapter=adapter)


def _of_run(folder: Path, engine: str) -> Given:
    """What a run made: its adapter on its base, or its own weights."""
    run = Run.read(folder / "run.json")
    verify_files(folder, run.files)
    name = _name(str(folder.resolve().parent), None)
    if run.weights != "adapter":
        return _opened_here(name, base_folder(str(folder / run.weights)), None, engine)
    recipe_path = folder.parent / "recipe.yaml"
    if not recipe_path.is_file():
        raise DataError(
            "no recipe.yaml beside this run, which says where its base is",
            where=str(folder),
            hint=f"Give the pair: BASE+{folder / run.weights}",
        )
    recipe = load_recipe(recipe_path)
    base = base_there(Job(recipe, roots_of(recipe, recipe_path), RunFolder(folder.parent)))
    _check_adapter(base, recipe.base, folder / run.weights)
    return _opened_here(name, base, folder / run.weights, engine)


def _check_adapter(base: Path, word: str, adapter: Path) -> None:
    """An adapter whose run is beside it fits its own base alone; of others their config tells a name, which is said.

    Raises:
        DataError: it was trained on another base or with another tokenizer, or its files are not those of its run.
        UnsafeArtefactError: it is not in safetensors.
    """
    if not adapter.is_dir():
        raise DataError("no such adapter", where=str(adapter), hint="Give the folder of adapter_model.safetensors.")
    if not (adapter / "adapter_model.safetensors").is_file():
        raise UnsafeArtefactError(
            "no adapter_model.safetensors: other formats could run code and are never opened", where=str(adapter)
        )
    run = Run.read_if_there(adapter.parent / "run.json")
    if run is not None and run.weights == adapter.name:
        if run.base_digest != base_digest(base):
            raise DataError(
                f"this adapter was trained on {run.base}, whose weights are not those of {word}",
                where=str(adapter),
                hint="Give the base that it was trained on.",
            )
        corpus = Corpus.read_if_there(RunFolder(adapter.parent.parent).corpus / "corpus.json")
        if corpus is not None and corpus.tokenizer != tokenizer_digest(base):
            raise DataError(
                f"this adapter was trained on the tokens of another tokenizer than that of {word}",
                where=str(adapter),
                hint="Give the base as it was then: the tokenizer is a part of it.",
            )
        return
    try:
        named = str(
            json.loads((adapter / "adapter_config.json").read_text("utf-8")).get("base_model_name_or_path") or ""
        )
    except (OSError, ValueError) as error:
        raise DataError(f"its adapter_config.json cannot be read ({error})", where=str(adapter)) from error
    if named and Path(named).name.partition("@")[0] != Path(word).name.partition("@")[0]:
        say(f"  {adapter}: its config names the base {public_name(named)}, here it is put on {public_name(word)}")


def _name(word: str, adapter: Path | None) -> str:
    """The folder of a model's scorecard: the end of its path, or its hub id; and the adapter's.

    >>> _name("Qwen/Qwen3-0.6B-Base", Path("runs/fin/run/adapter"))
    'Qwen--Qwen3-0.6B-Base+fin'
    """
    local = Path(word).is_dir()
    base = Path(word).resolve().name if local else word.replace("/", "--")
    parts = [base]
    if adapter is not None:
        generic = ("adapter", "run", "release")
        parts.append(next(part for part in (*reversed(adapter.parts), adapter.name) if part not in generic))
    return re.sub(r"[^A-Za-z0-9._@+=,-]", "-", "+".join(parts))
