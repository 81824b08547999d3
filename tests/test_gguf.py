"""Merged weights as a GGUF file: what is read back is the model, in each number format and family; what is unknown is refused."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import torch

from configs.base import load_tokenizer, read_config
from configs.errors import GateError, RecipeError, StorageError
from configs.job import Job
from configs.load import load_recipe
from configs.store import RunFolder
from training.gguf_file import _compare_tensors, _interleaved, add_gguf, check_gguf, modelfile, pre_tokenizer


@pytest.fixture
def asking(finished, tmp_path):
    """The finished story's recipe with `publish` changed."""

    def asked(**fields):
        recipe = load_recipe(finished / "story.yaml")
        changed = recipe.model_copy(update={"publish": recipe.publish.model_copy(update=fields)})
        return Job(changed, (), RunFolder(tmp_path / "runs" / "story"))

    return asked


@pytest.fixture
def merged(finished):
    return finished / "runs" / "story" / "release" / "merged"


@pytest.mark.parametrize(("kind", "most"), [("f32", 1e-9), ("f16", 1e-5), ("bf16", 1e-3)])
def test_the_file_is_the_merged_model_when_others_read_it(asking, merged, tmp_path, kind, most):
    gguf = pytest.importorskip("gguf")
    (staging := tmp_path / "release").mkdir()
    told = add_gguf(staging, asking(gguf=kind), merged, ["<|endoftext|>", "<|im_end|>"])
    assert (
        told.startswith(f"story-{kind}.gguf: 20 tensors read back as written")
        and "llama.cpp itself was not run" in told
    )
    assert float(told.split("written, ")[1].split(" nats")[0]) <= most
    reader = gguf.GGUFReader(staging / "gguf" / f"story-{kind}.gguf")
    assert reader.fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    assert reader.fields["tokenizer.ggml.tokens"].contents()[:3] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert reader.fields["tokenizer.ggml.token_type"].contents()[:4] == [3, 3, 3, 1]  # control, then normal
    assert "output.weight" not in {tensor.name for tensor in reader.tensors}  # tied to the embedding


def test_qwen3_keeps_its_order_of_rows_and_its_norms(asking, merged, tmp_path):
    pytest.importorskip("gguf")
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 320, "head_dim": 16}
    config = Qwen3Config(**sizes, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128)
    place, staging = tmp_path / "qwen3", tmp_path / "release"
    Qwen3ForCausalLM(config).save_pretrained(place)
    load_tokenizer(merged).save_pretrained(place)
    staging.mkdir()
    told = add_gguf(staging, asking(gguf="f32"), place, [])
    assert float(told.split("written, ")[1].split(" nats")[0]) <= 1e-9


def test_a_file_that_was_damaged_on_the_way_is_found(asking, merged, tmp_path):
    pytest.importorskip("gguf")
    (staging := tmp_path / "release").mkdir()
    add_gguf(staging, asking(gguf="f16"), merged, [])
    path = staging / "gguf" / "story-f16.gguf"
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)
    with pytest.raises(GateError, match="is not in the file as it was written"):
        _compare_tensors(merged, path, read_config(merged), "f16")


def test_rows_of_a_projection_are_reordered_as_rotary_pairs():
    """One head of width 4: rows 0 1 | 2 3 are two halves of rotations; their pairs are (0, 2) and (1, 3)."""
    assert _interleaved(np.arange(4)[:, None], 1)[:, 0].tolist() == [0, 2, 1, 3]
    assert _interleaved(np.arange(8)[:, None], 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "phi3"}, "the family 'phi3' is not laid out here"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "of the kind 'linear'"),
    ],
)
def test_what_is_not_known_is_refused_with_the_command_of_llama_cpp(asking, merged, tmp_path, change, said):
    place = shutil.copytree(merged, tmp_path / "odd")
    (place / "config.json").write_text(json.dumps(read_config(place) | change))
    with pytest.raises(RecipeError, match=said) as refused:
        add_gguf(tmp_path, asking(gguf="f16"), place, [])
    assert "convert_hf_to_gguf.py RELEASE/merged --outtype f16 --outfile story-f16.gguf" in refused.value.hint


def test_how_a_tokenizer_splits_is_known_by_its_pattern(merged, tmp_path):
    assert pre_tokenizer(merged) == "gpt-2"
    page = json.loads((merged / "tokenizer.json").read_text("utf-8"))
    qwen = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    for pattern, name in ((qwen, "qwen2"), (qwen.replace(r"\p{N}|", r"\p{N}{1,3}|"), "llama-bpe"), ("x", None)):
        steps = [{"type": "Split", "pattern": {"Regex": pattern}}, {"type": "ByteLevel", "use_regex": False}]
        page["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
        (tmp_path / "tokenizer.json").write_text(json.dumps(page))
        assert pre_tokenizer(tmp_path) == name


def test_the_modelfile_writes_a_conversation_as_training_did(merged):
    tokenizer = load_tokenizer(merged)
    chat, plain = (modelfile("s.gguf", tokenizer, ["<|im_end|>"], form) for form in ("chat", "plain"))
    assert chat.startswith('FROM ./s.gguf\nTEMPLATE """{{ range .Messages }}<|im_start|>{{ .Role }}\n')
    assert (
        plain == 'FROM ./s.gguf\nTEMPLATE """{{ .Prompt }}"""\nPARAMETER stop "<|im_end|>"\nPARAMETER temperature 0\n'
    )
    tokenizer.chat_template = "{{ messages[0].content }}"
    assert "TEMPLATE must say it" in modelfile("s.gguf", tokenizer, [], "chat")


def test_a_gguf_file_needs_merged_weights_and_its_package(asking, monkeypatch):
    with pytest.raises(RecipeError, match="a GGUF file holds merged weights"):
        check_gguf(asking(gguf="f16", merged=False))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(StorageError, match=r"pip install -e '\.\[gguf\]'"):
        check_gguf(asking(gguf="f16", merged=True))
