"""A base with a longer vocabulary: new tokens of a sector, which stands in for the recipe's base in every stage.

`train.new_tokens` names words that the base's tokenizer splits. The folder base/ of the run folder then holds the base
with one token for each of them: tokenizer, config, and weights whose new rows are the mean of the rows of the pieces that
the word was split into (Sachidananda et al. 2021, "Efficient Domain Adaptation of Language Models via Adaptive
Tokenization", section 3.3). It is made once, by whichever stage asks first, and anew when the base or the tokens change.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.base import base_digest, base_folder, load_tokenizer, load_weights, read_config, tokenizer_digest
from configs.chat import ChatTokenizer
from configs.errors import DataError, RecipeError
from configs.job import find_files
from configs.progress import say
from configs.store import digest_json, only_one, staged, write_atomic

if TYPE_CHECKING:
    from collections.abc import Sized
    from pathlib import Path

    import torch
    from transformers import PreTrainedTokenizerBase

    from configs.job import Job
    from configs.recipe import Recipe

RECORD = "extension.json"
"""Lies in an extended base's folder: what it was made from, its fingerprint, and the new rows."""
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Characters of scripts that part words by nothing: Thai and Lao, Burmese, Khmer, kana, Chinese characters (Unicode 17)."""
SHARD = "4GB"
"""Size of the files that the weights are written in: stated, since their fingerprint must not move with a library."""


class Spelling(NamedTuple):
    """A form of a new token that gets a row of its own."""

    text: str
    whole_word: bool
    """Only where no letter or figure touches it."""


def new_tokens(recipe: Recipe, roots: tuple[Path, ...]) -> tuple[str, ...]:
    """The tokens that a recipe adds, from its list or from the lines of its file.

    Raises:
        RecipeError: the file repeats one, or holds none.
        DataError: there is no such file, or it is not UTF-8.
    """
    wanted = recipe.train.new_tokens
    if not isinstance(wanted, str):
        return wanted
    return read_terms(find_files(wanted, roots)[0], "train.new_tokens") if wanted else ()


def read_terms(path: Path, where: str) -> tuple[str, ...]:
    """The lines of a text file, one term each; empty ones and those that begin with `# ` are left out.

    Raises:
        RecipeError: a line stands there twice, or there is none.
        DataError: the file is not UTF-8 or cannot be read.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as UTF-8 text ({error})", where=str(path)) from error
    terms = [line for line in lines if line and not line.startswith("# ")]
    twice = next((term for place, term in enumerate(terms) if term in terms[:place]), None)
    if twice is not None or not terms:
        told = f"{twice!r} stands there twice" if twice is not None else "holds no line"
        raise RecipeError(f"{path.name}: {told}", where=where, hint="Write one term a line.")
    return tuple(terms)


# ---------------------------------------------------------------- which folder


def base_of(job: Job, *, weights: bool = True) -> Path:
    """The folder of the model that a job starts from: the recipe's base, or, with new tokens, its extension.

    Every process may ask; one makes it and the others wait.

    Raises:
        DataError, UnsafeArtefactError, StorageError: as `configs.base.base_folder`.
        RecipeError: a token is one of the base's already, or this tokenizer cannot carry it.
    """
    base = base_folder(job.recipe.base, job.roots, weights=weights)
    tokens = new_tokens(job.recipe, job.roots)
    if not tokens:
        return base
    target = job.folder.base.resolve()
    made_from = {"base": _fingerprint(base, _stamp(base)), "tokens": list(tokens)}
    with only_one(target):
        reason = _reason(target, made_from)
        if reason is not None:
            with staged(target) as staging:
                page = _extend(base, tokens, staging, reason) | {"made_from": made_from, "digest": _digest(staging)}
                write_atomic(staging / RECORD, json.dumps(page, indent=1, ensure_ascii=False) + "\n")
    return target


def base_there(job: Job) -> Path:
    """The same folder for whoever only reads: an extension that is not there is not made.

    Raises:
        DataError: the base has not been extended yet.
    """
    if not job.recipe.train.new_tokens:
        return base_folder(job.recipe.base, job.roots, weights=False)
    if not (job.folder.base / RECORD).is_file():
        raise DataError(
            "the base with the new tokens is not there", where=str(job.folder.base), hint="Run `sectorlm prepare`."
        )
    return job.folder.base.resolve()


def rows_of(folder: Path) -> tuple[int, ...]:
    """The rows that were added to the base in `folder`; none where it was not extended."""
    return tuple(_page(folder).get("rows", {}).values())


def vocabulary_of(folder: Path) -> int:
    """Rows of embedding and head of the extended base in `folder`; 0 where it was not extended."""
    return int(_page(folder).get("vocabulary", 0))


def _page(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return found


def _reason(target: Path, made_from: dict[str, Any]) -> str | None:
    """Why the extension must be made (empty for the first time); None where it stands."""
    try:
        page = json.loads((target / RECORD).read_text("utf-8"))
        found, digest = page["made_from"], page["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    changed = [name for name in made_from if found.get(name) != made_from[name]]
    if changed:
        return f" again: the {' and the '.join(changed)} changed"
    return None if digest == _fingerprint(target, _stamp(target)) else " again: its files were changed"


def _digest(folder: Path) -> str:
    return digest_json([base_digest(folder), tokenizer_digest(folder)])


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of the files: while these stay, nothing is hashed a second time in one process."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)


@lru_cache(maxsize=8)
def _fingerprint(folder: Path, stamp: tuple[tuple[str, int, int], ...]) -> str:
    return _digest(folder)


# ---------------------------------------------------------------- tokenizer


def spellings(token: str) -> tuple[Spelling, ...]:
    """The forms of a token. Where words stand apart, a word has two: after a space, which is a part of the token as in
    the base's own vocabulary, and elsewhere.

    >>> [it.text for it in spellings("sukuk")], [it.text for it in spellings("逆回购")]
    (['sukuk', ' sukuk'], ['逆回购'])
    """
    apart = [char.isalnum() and not UNSPACED.match(char) for char in (token[0], token[-1])]
    if not apart[0]:
        return (Spelling(token, whole_word=False),)
    return (Spelling(token, whole_word=apart[1]), Spelling(f" {token}", whole_word=False))


def _extend(base: Path, tokens: tuple[str, ...], target: Path, reason: str) -> dict[str, Any]:
    """Write the extended base into `target`, and tell it with the `reason` once the tokens have proved to be new; returns
    the `rows` of the new forms by text, and the `vocabulary`'s size."""
    tokenizer = load_tokenizer(base)
    pieces = _pieces(tokenizer, base, tokens)
    numbers = add_forms(tokenizer, list(pieces))
    _prove(tokenizer, numbers, base)
    say(f"extending the base by {_counted(tokens, 'word')}, {_counted(numbers, 'row')}{reason}")
    tokenizer.save_pretrained(target)
    config = read_config(base)
    holder, size = _grown(config, numbers)
    if any(base.glob("*.safetensors")):
        _grow(base, target, {numbers[form.text]: own for form, own in pieces.items()}, size)
    holder["vocab_size"] = size
    # The base's own config and nothing else, so that the fingerprint depends on the base and the tokens alone.
    write_atomic(target / "config.json", json.dumps(config, indent=2) + "\n")
    return {"rows": numbers, "vocabulary": size}


def _counted(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _grown(config: dict[str, Any], numbers: dict[str, int]) -> tuple[dict[str, Any], int]:
    """The part of the config that holds `vocab_size`, and what it must be; some bases have more rows than tokens."""
    inner = config.get("text_config") if "vocab_size" not in config else None
    holder = inner if isinstance(inner, dict) else config
    return holder, max(int(holder.get("vocab_size") or 0), 1 + max(numbers.values()))


def foreseen(job: Job) -> tuple[tuple[int, ...], int]:
    """The new rows and the vocabulary that the base will have with `train.new_tokens`, without making it; (), 0 for none.

    Raises:
        DataError: the base, or the file of the tokens, cannot be read.
        RecipeError: a token is one of the base's already.
    """
    tokens = new_tokens(job.recipe, job.roots)
    if not tokens:
        return (), 0
    base = base_folder(job.recipe.base, job.roots, weights=False)
    tokenizer = load_tokenizer(base)
    numbers = add_forms(tokenizer, list(_pieces(tokenizer, base, tokens)))
    return tuple(numbers.values()), _grown(read_config(base), numbers)[1]


def _pieces(tokenizer: PreTrainedTokenizerBase, base: Path, tokens: tuple[str, ...]) -> dict[Spelling, list[int]]:
    """Each form that the base's tokenizer splits, with the pieces that it splits it into.

    Raises:
        RecipeError: a token is one of the base's in all of its forms.
    """
    chat, vocabulary = ChatTokenizer(tokenizer, base.name), tokenizer.get_vocab()
    found = dict[Spelling, list[int]]()
    for token in tokens:
        forms = spellings(token)
        split = zip(forms, chat.ids([form.text for form in forms]), strict=True)
        new = {form: ids for form, ids in split if len(ids) > 1 and form.text not in vocabulary}
        if not new:
            raise RecipeError(
                f"{token!r} is a token of the base already", where="train.new_tokens", hint="Leave it out of the list."
            )
        found |= new
    return found


def add_forms(tokenizer: PreTrainedTokenizerBase, forms: list[Spelling]) -> dict[str, int]:
    """Make the forms tokens, plain ones that every text uses which holds them; returns their numbers."""
    from transformers import AddedToken

    make: Any = AddedToken
    tokenizer.add_tokens(
        [make(form.text, single_word=form.whole_word, normalized=False, special=False) for form in forms]
    )
    return {form.text: int(tokenizer.convert_tokens_to_ids(form.text)) for form in forms}  # type: ignore[arg-type]


def _prove(tokenizer: PreTrainedTokenizerBase, numbers: dict[str, int], base: Path) -> None:
    """Each token stands for its text in the middle of a text, leaves its neighbours as they are, and can be read back.

    Raises:
        RecipeError: one does not, as with tokenizers that begin every stretch of text with a mark of its own, or it is
            a word of the chat template, and so a mark that no document may speak.
    """
    chat = ChatTokenizer(tokenizer, base.name)
    spoken = next((text for text in numbers if text in chat.control), None)
    if spoken is not None:
        raise RecipeError(
            f"{spoken!r} is a word of the base's chat template, where it must stay what it is",
            where="train.new_tokens",
            hint="Leave it out of the list.",
        )
    for text, number in numbers.items():
        before = "x" if text[0] == " " else "("
        whole, left, right = chat.ids([f"{before}{text} y", before, " y"])
        read = tokenizer.decode(whole, clean_up_tokenization_spaces=False)
        if whole != [*left, number, *right] or read != f"{before}{text} y":
            raise RecipeError(
                f"with {text!r} as a token the base's tokenizer reads {read!r} for {f'{before}{text} y'!r}",
                where="train.new_tokens",
                hint="This tokenizer cannot carry words of its own in the middle of a text: leave train.new_tokens out.",
            )


# ---------------------------------------------------------------- weights


def _grow(base: Path, target: Path, rows: dict[int, list[int]], size: int) -> None:
    """Write the base's weights with `size` rows of embedding and head, each new row the mean of its pieces' rows."""
    import torch

    config = read_config(base)
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    causal = load_weights(base, dtype=getattr(torch, stored))
    tables = [causal.get_input_embeddings(), causal.get_output_embeddings()]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        if len(tables[0].weight) < size:  # some bases have more rows than tokens
            causal.resize_token_embeddings(size, mean_resizing=False)
            tables = [causal.get_input_embeddings(), causal.get_output_embeddings()]
        for value in _tables(tables):
            for row, pieces in rows.items():
                value[row] = value[pieces].float().mean(0).to(value.dtype)
    causal.save_pretrained(target, max_shard_size=SHARD)


def _tables(modules: list[Any]) -> list[torch.Tensor]:
    """Embedding, head and the head's bias, each once: tied ones are the same tensor."""
    found: dict[int, torch.Tensor] = {}
    for module in modules:
        for name in ("weight", "bias"):
            value = getattr(module, name, None)
            if value is not None:
                found.setdefault(value.data_ptr(), value)
    return list(found.values())
