"""Merged weights for llama.cpp and Ollama: one GGUF file and its Modelfile, for families whose layout is known here.

llama.cpp's own converter is a script of that project and knows many families; this page writes Llama, Qwen2 and Qwen3 with
byte-level BPE, through the package `gguf` of that project, and reads the file back in two ways: every tensor by `gguf`, and
the whole model by transformers, whose log-probabilities must be those of the merged weights. llama.cpp itself is not run.
"""

# T tokens, V vocabulary

from __future__ import annotations

import json
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from configs.base import load_tokenizer, load_weights, read_config
from configs.errors import GateError, RecipeError, StorageError
from configs.store import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from configs.job import Job

FAMILIES = ("llama", "qwen2", "qwen3")
"""Values of `model_type` whose tensors are laid out here."""
SPLIT = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BEFORE = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
PATTERNS = {BEFORE + SPLIT % "{1,3}": "llama-bpe", BEFORE + SPLIT % "": "qwen2"}
"""How a tokenizer splits text before its merges, as its tokenizer.json says, to llama.cpp's name for that."""
TALK = "The committee met on Tuesday, 14 March 2023. 委员会于周二开会。"
CHATML = (
    '"""{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"""'
)
"""ChatML in the language of Ollama's templates."""
COMMAND = "python convert_hf_to_gguf.py RELEASE/merged --outtype {} --outfile {}"
"""llama.cpp's own converter, of its repository."""


def check_gguf(job: Job) -> None:
    """Find before any work whether the merged weights can be converted.

    Raises:
        RecipeError: there will be no merged weights.
        StorageError: the package is not installed.
    """
    if job.recipe.train.method == "lora" and not job.recipe.publish.merged:
        raise RecipeError("a GGUF file holds merged weights", where="publish.gguf", hint="Set publish.merged: true.")
    _package()


def add_gguf(staging: Path, job: Job, place: Path, stops: list[str]) -> str:
    """Convert the weights in `place`, write the Modelfile, read both back; returns what was verified.

    Raises:
        RecipeError: a family, a tokenizer or a rotary embedding that this page does not know.
        GateError: what was written is not what was read.
    """
    kind = job.recipe.publish.gguf
    name = f"{job.recipe.name}-{kind}.gguf"
    config, tokenizer = read_config(place), load_tokenizer(place)
    _refuse_unknown(config, place, COMMAND.format(kind, name))
    (folder := staging / "gguf").mkdir()  # apart from an adapter_config.json, which transformers would follow
    _write(place, folder / name, job, config, tokenizer)
    write_atomic(folder / "Modelfile", modelfile(name, tokenizer, stops, job.recipe.prepare.form))
    count = _compare_tensors(place, folder / name, config, kind)
    divergence = _compare_models(place, folder, name)
    if divergence > job.recipe.publish.max_merge_kl:
        raise GateError(
            f"the GGUF file is not the merged model: {divergence:.4f} nats per token apart",
            where="publish.max_merge_kl",
        )
    return (
        f"{name}: {count} tensors read back as written, {divergence:.1e} nats per token from the merged weights when "
        "transformers reads it; llama.cpp itself was not run"
    )


def modelfile(name: str, tokenizer: PreTrainedTokenizerBase, stops: list[str], form: str) -> str:
    """Ollama's recipe for the file: where it is, how a conversation is written, where to stop."""
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a"}], tokenize=False, add_generation_prompt=True
    )
    lines = [f"FROM ./{name}"]
    if form == "plain":
        lines.append('TEMPLATE """{{ .Prompt }}"""')
    elif asked == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n":
        lines.append(f"TEMPLATE {CHATML}")
    else:
        lines.append(
            "# The chat template is in the file; where Ollama does not know it, TEMPLATE must say it in its language."
        )
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops]
    return "\n".join([*lines, "PARAMETER temperature 0", ""])


def _package() -> Any:
    try:
        return import_module("gguf")
    except ImportError as error:
        raise StorageError(
            f"gguf cannot be used ({error})", where="publish.gguf", hint="pip install -e '.[gguf]'"
        ) from error


def _refuse_unknown(config: dict[str, Any], place: Path, command: str) -> None:
    told = ""
    if config.get("model_type") not in FAMILIES:
        told = f"the family {config.get('model_type')!r} is not laid out here (only {', '.join(FAMILIES)})"
    elif rope(config).get("rope_type", "default") != "default":
        told = f"rotary embeddings of the kind {rope(config)['rope_type']!r} are not laid out here"
    elif config.get("sliding_window") and config.get("use_sliding_window"):
        told = "a sliding window is not laid out here"
    elif pre_tokenizer(place) is None:
        told = "its tokenizer splits text in a way that is not known here"
    if told:
        raise RecipeError(
            told, where="publish.gguf", hint=f"Set publish.gguf: no, and use llama.cpp's converter: {command}"
        )


def rope(config: dict[str, Any]) -> dict[str, Any]:
    """The rotary embedding's settings, in the form of transformers 5 or of before."""
    old = {"rope_theta": config.get("rope_theta", 10000.0), **(config.get("rope_scaling") or {})}
    return dict(config.get("rope_parameters") or old)


def pre_tokenizer(place: Path) -> str | None:
    """llama.cpp's name for how a byte-level BPE splits text before its merges; None for one that is not known."""
    page = json.loads((place / "tokenizer.json").read_text("utf-8"))
    found = page.get("pre_tokenizer") or {}
    steps = found.get("pretokenizers", [found])
    if page["model"].get("type") != "BPE" or not any(step.get("type") == "ByteLevel" for step in steps):
        return None
    splits = [step["pattern"].get("Regex", "") for step in steps if step["type"] == "Split"]
    if not splits and len(steps) == 1 and steps[0].get("use_regex", True) and not steps[0].get("add_prefix_space"):
        return "gpt-2"
    return PATTERNS.get(splits[0]) if len(splits) == 1 else None


# ---------------------------------------------------------------- writing


def _write(place: Path, path: Path, job: Job, config: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> None:
    gguf = _package()
    family, kind = config["model_type"], job.recipe.publish.gguf
    writer = gguf.GGUFWriter(path, family, use_temp_file=True)
    writer.add_name(job.recipe.name)
    writer.add_license(job.recipe.publish.licence)
    writer.add_file_type({"f32": 0, "f16": 1, "bf16": 32}[kind])  # ggml's ftype
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config.get("num_key_value_heads") or config["num_attention_heads"])
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float(rope(config)["rope_theta"]))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    _write_tokenizer(writer, place, config["vocab_size"], tokenizer)
    for name, value in _tensors(place, config):
        stored = "f32" if value.ndim == 1 else kind
        writer.add_tensor(name, _stored(value, stored), raw_dtype=getattr(gguf.GGMLQuantizationType, stored.upper()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_tokenizer(writer: Any, place: Path, size: int, tokenizer: PreTrainedTokenizerBase) -> None:
    kinds = _package().TokenType
    added, names = tokenizer.added_tokens_decoder, {number: text for text, number in tokenizer.get_vocab().items()}
    types = [
        kinds.UNUSED
        if number not in names
        else kinds.NORMAL
        if number not in added
        else kinds.CONTROL
        if added[number].special
        else kinds.USER_DEFINED
        for number in range(size)
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer(place))
    writer.add_token_list([names.get(number, f"[PAD{number}]") for number in range(size)])
    writer.add_token_types(types)
    merges = json.loads((place / "tokenizer.json").read_text("utf-8"))["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(
        tokenizer.bos_token_id is not None and tokenizer("a").input_ids[0] == tokenizer.bos_token_id
    )
    writer.add_chat_template(str(tokenizer.get_chat_template()))


def _tensors(place: Path, config: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Each tensor under llama.cpp's name, in float32 and in its order of rows."""
    gguf = _package()
    names = gguf.get_tensor_name_map(
        getattr(gguf.MODEL_ARCH, config["model_type"].upper()), config["num_hidden_layers"]
    )
    from safetensors import safe_open

    heads = config["num_attention_heads"]
    shared = config.get("num_key_value_heads") or heads
    for path in sorted(place.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for own in file.keys():  # noqa: SIM118 - it is no mapping
                value = file.get_tensor(own).to(torch.float32).numpy()
                found = re.fullmatch(r"(.*)\.(weight|bias)", own)
                name = names.get_name(found[1]) if found else None
                if found is None or name is None:
                    raise RecipeError(f"the tensor {own} is not known to llama.cpp", where="publish.gguf")
                if config["model_type"] == "llama" and own.rpartition(".self_attn.")[2].startswith(
                    ("q_proj", "k_proj")
                ):
                    value = _interleaved(value, heads if ".q_proj" in own else shared)
                yield f"{name}.{found[2]}", value


def _interleaved(value: np.ndarray, heads: int) -> np.ndarray:
    """The rows of a projection in the order of Llama's first code, in which the two halves of a rotation are neighbours."""
    return value.reshape(heads, 2, value.shape[0] // heads // 2, *value.shape[1:]).swapaxes(1, 2).reshape(value.shape)


def _stored(value: np.ndarray, kind: str) -> np.ndarray:
    gguf = _package()
    found: np.ndarray = gguf.quants.quantize(
        np.ascontiguousarray(value), getattr(gguf.GGMLQuantizationType, kind.upper())
    )
    return found


# ---------------------------------------------------------------- reading back


def _compare_tensors(place: Path, path: Path, config: dict[str, Any], kind: str) -> int:
    """Raises: GateError: a tensor is missing, or has other bytes than were meant."""
    there = {tensor.name: tensor.data for tensor in _package().GGUFReader(path).tensors}
    count = 0
    for name, value in _tensors(place, config):
        expected = _stored(value, "f32" if value.ndim == 1 else kind)
        if name not in there or there[name].tobytes() != expected.tobytes():
            raise GateError(f"the tensor {name} is not in the file as it was written", where=str(path))
        count += 1
    return count


def _compare_models(place: Path, folder: Path, name: str) -> float:
    """KL(merged || GGUF) in nats per token on a sentence, both read by transformers in float32."""
    from transformers import AutoConfig, AutoModelForCausalLM

    ids_1T = torch.tensor([load_tokenizer(place)(TALK, add_special_tokens=False).input_ids])
    merged = load_weights(place, dtype=torch.float32)
    config = AutoConfig.from_pretrained(folder, gguf_file=name)
    config.head_dim = getattr(
        merged.config, "head_dim", None
    )  # of Qwen3, transformers does not read attention.key_length
    load: Any = AutoModelForCausalLM.from_pretrained
    read = load(folder, gguf_file=name, config=config, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected_TV, found_TV = (torch.log_softmax(model(ids_1T).logits[0].float(), -1) for model in (merged, read))
    return float((expected_TV.exp() * (expected_TV - found_TV)).sum(-1).mean().clamp(min=0))
