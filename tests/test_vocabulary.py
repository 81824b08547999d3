"""New tokens: how their rows begin, that texts use them, that they alone are trained, and that all stages go on with them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from configs.base import base_digest, load_tokenizer, load_weights, tokenizer_digest
from configs.errors import DataError, RecipeError
from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.records import Corpus, Run, Scorecard
from configs.store import HOUSE, RunFolder
from configs.vocabulary import base_of, new_tokens, rows_of, spellings, vocabulary_of
from data_prep.prepare import prepare
from tests.conftest import STORY
from tests.recipes import lines, prose
from training.adapters import adapter_config
from training.batches import Rows
from training.loss import cross_entropies
from training.model import build
from training.tokens import trained_tables
from training.train import train

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = ("sukuk", "逆回购")
TEXT = "A sukuk is paid in {n} years; 央行开展逆回购操作。"


@pytest.fixture(scope="module")
def untied_base(tmp_path_factory, tiny_base) -> Path:
    """The tiny base with an output head of its own."""
    folder = tmp_path_factory.mktemp("untied") / "base"
    shutil.copytree(tiny_base, folder)
    model = load_weights(folder, dtype=torch.float32)
    model.config.tie_word_embeddings = False
    torch.manual_seed(1)
    model.lm_head.weight = torch.nn.Parameter(0.02 * torch.randn(320, 32))
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def opened(tmp_path):
    """A recipe over 24 notes that hold both terms, and 8 that do not."""

    def opener(base: Path, *sets: str, tokens: str = "[sukuk, 逆回购]") -> Job:
        path = tmp_path / "r.yaml"
        rows = [{"body": TEXT.format(n=n) + " " + prose(n, 1)} for n in range(24)]
        (tmp_path / "notes.jsonl").write_text(lines(rows + [{"body": prose(n, 2)} for n in range(50, 58)]), "utf-8")
        path.write_text(
            f"name: t\nsector: finance\nbase: {base}\ndata: [{base.parent}]\ncorpora:\n"
            '  - {name: notes, path: notes.jsonl, text: "{{ body }}", licence: CC0-1.0}\n'
            'prepare: {sequence_length: 192, form: plain, validation: 0.2, decontaminate: "off"}\n'
            f"train: {{rank: 4, learning_rate: 1e-2, epochs: 2, batch_tokens: 768, precision: float32, new_tokens: {tokens}}}\n"
            "evaluate: {tasks: [finance_topics], general: []}\n",
            "utf-8",
        )
        recipe = load_recipe(path, list(sets))
        return Job(recipe, roots_of(recipe, path), RunFolder(tmp_path / "runs" / recipe.name))

    return opener


@pytest.fixture(params=["tied", "untied"])
def base(request, tiny_base, untied_base) -> Path:
    return tiny_base if request.param == "tied" else untied_base


# ---------------------------------------------------------------- the tokenizer


def test_a_word_has_a_form_after_a_space_and_one_elsewhere_and_a_chinese_term_has_one():
    assert [form.text for form in spellings("sukuk")] == ["sukuk", " sukuk"]
    assert [form.text for form in spellings("逆回购")] == ["逆回购"]
    assert [form.text for form in spellings("A股")] == ["A股", " A股"]


def test_a_text_has_one_token_for_a_term_and_texts_without_terms_have_the_same_ids(opened, tiny_base):
    old, new = load_tokenizer(tiny_base), load_tokenizer(base_of(opened(tiny_base)))
    assert len(new) == len(old) + 3
    ids = new.encode("A sukuk (sukuk) pays; 央行开展逆回购操作。", add_special_tokens=False)
    added = new.convert_tokens_to_ids([" sukuk", "sukuk", "逆回购"])
    assert [token for token in ids if token >= len(old)] == added
    assert new.decode(ids) == "A sukuk (sukuk) pays; 央行开展逆回购操作。"
    for text in ("The bank raised its rate.", "xsukuk", "央行回购", "", "  \n\n <|im_end|> 3.14"):
        assert new.encode(text) == old.encode(text)


def test_words_that_cannot_be_new_tokens_are_refused_with_their_reason(opened, tiny_base, tmp_path, capsys):
    with pytest.raises(RecipeError, match="'the' is a token of the base already"):
        base_of(opened(HOUSE / "assets" / "base", tokens="[sukuk, the]"))
    assert "extending" not in capsys.readouterr().err
    with pytest.raises(RecipeError, match=r"'assistant' is a word of the base's chat template"):
        base_of(opened(tiny_base, tokens="[assistant]"))
    with pytest.raises(RecipeError, match="names 'sukuk' twice"):
        opened(tiny_base, tokens="[sukuk, sukuk]")
    with pytest.raises(RecipeError, match="without spaces"):
        opened(tiny_base, tokens="[' sukuk']")
    with pytest.raises(RecipeError, match="fsdp"):
        opened(tiny_base, "train.parallel=fsdp")
    (tmp_path / "words.txt").write_text("sukuk\nsukuk\n")
    with pytest.raises(RecipeError, match="'sukuk' stands there twice"):
        base_of(opened(tiny_base, tokens="words.txt"))


def test_a_file_with_one_word_a_line_is_the_same_as_a_list(opened, tiny_base, tmp_path):
    (tmp_path / "words.txt").write_text("# of the sector\nsukuk\n\n逆回购\n", "utf-8")
    by_file = opened(tiny_base, tokens="words.txt")
    assert new_tokens(by_file.recipe, by_file.roots) == TOKENS
    digest = base_digest(base_of(by_file))
    assert base_digest(base_of(opened(tiny_base, "name=other"))) == digest


# ---------------------------------------------------------------- the weights


def test_new_rows_of_embedding_and_head_are_the_mean_of_their_pieces_and_all_others_stay(opened, base):
    folder = base_of(opened(base))
    old, new = load_weights(base, dtype=torch.float32), load_weights(folder, dtype=torch.float32)
    pieces = load_tokenizer(base).encode("逆回购", add_special_tokens=False)
    assert len(pieces) > 2
    row = load_tokenizer(folder).convert_tokens_to_ids("逆回购")
    tables = zip(*([model.get_input_embeddings(), model.get_output_embeddings()] for model in (old, new)), strict=True)
    for before, after in tables:
        assert before.weight.shape == (320, 32)
        assert after.weight.shape == (len(load_tokenizer(folder)), 32)
        torch.testing.assert_close(after.weight[row], before.weight[pieces].mean(0))
        assert torch.equal(after.weight[:320], before.weight)
    tied = new.get_input_embeddings().weight is new.get_output_embeddings().weight
    assert tied == (old.get_input_embeddings().weight is old.get_output_embeddings().weight)
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == vocabulary_of(folder) == 323


def test_a_base_with_spare_rows_keeps_its_size(opened, tiny_base, tmp_path):
    roomy = tmp_path / "roomy" / "base"
    shutil.copytree(tiny_base, roomy)
    model = load_weights(roomy, dtype=torch.bfloat16)
    model.resize_token_embeddings(384, mean_resizing=False)
    model.save_pretrained(roomy)
    folder = base_of(opened(roomy))
    weight = load_weights(folder, dtype=torch.bfloat16).get_input_embeddings().weight
    assert weight.shape == (384, 32)
    pieces = load_tokenizer(roomy).encode("逆回购", add_special_tokens=False)
    row = load_tokenizer(folder).convert_tokens_to_ids("逆回购")
    assert torch.equal(weight[row], weight[pieces].float().mean(0).bfloat16())


def test_the_extension_is_kept_until_its_tokens_its_base_or_its_files_change(opened, tiny_base, tmp_path, capsys):
    copy = tmp_path / "mine" / "base"
    shutil.copytree(tiny_base, copy)

    def told(tokens: str = "[sukuk]") -> str:
        base_of(opened(copy, tokens=tokens))
        return capsys.readouterr().err

    assert "extending the base by 1 word, 2 rows\n" in told()
    assert told() == ""
    assert "by 2 words, 3 rows again: the tokens changed" in told("[sukuk, 逆回购]")
    model = load_weights(copy, dtype=torch.float32)
    with torch.no_grad():
        model.get_input_embeddings().weight[5] += 1
    model.save_pretrained(copy)
    assert "again: the base changed" in told("[sukuk, 逆回购]")
    damaged = bytearray((tmp_path / "runs/t/base/model.safetensors").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "runs/t/base/model.safetensors").write_bytes(damaged)
    assert "again: its files were changed" in told("[sukuk, 逆回购]")


def test_a_recipe_without_new_tokens_has_no_folder_of_its_own(opened, tiny_base):
    job = opened(tiny_base, tokens="[]")
    assert base_of(job) == tiny_base
    assert not job.folder.base.exists()


# ---------------------------------------------------------------- training


def prepared(job: Job) -> Rows:
    return Rows(job.folder.corpus, prepare(job))


def plain_loss(causal, rows: Rows, picked: list[int]) -> torch.Tensor:
    """Each document by itself through transformers' model and its full logits, summed."""
    total = torch.zeros(())
    for _, start, length, _ in rows.pieces(picked).tolist():
        ids = torch.from_numpy(rows.tokens[start : start + length].astype("int64"))
        total = total + cross_entropy(causal(input_ids=ids[None]).logits[0, :-1].float(), ids[1:], reduction="sum")
    return total


def test_loss_and_gradients_equal_those_of_transformers_and_peft(opened, base):
    job = opened(base)
    rows = prepared(job)
    packed, _ = build(job, torch.device("cpu"))
    plain = load_weights(base_of(job), dtype=torch.float32)
    names = trained_tables(plain, rows_of(base_of(job)))
    wrapper = get_peft_model(plain, adapter_config(job.recipe.train, "t", names))
    ours, theirs = packed.trainable(), {n: v for n, v in plain.named_parameters() if v.requires_grad}
    assert ours.keys() == theirs.keys()
    assert sum("token_adapter" in name for name in ours) == len(names)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, value in ours.items():
            value.add_(0.1 * torch.randn_like(value))
            theirs[name].copy_(value)
    loss = packed(rows.batch([0, 1, 2]))
    expected = plain_loss(wrapper, rows, [0, 1, 2])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    (loss / 100).backward()
    (expected / 100).backward()
    for name, value in ours.items():
        assert value.grad.abs().max() > 0
        torch.testing.assert_close(value.grad, theirs[name].grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.5, 3.0)])
def test_rows_trained_in_a_frozen_head_get_the_gradient_of_full_cross_entropy_also_when_positions_weigh_differently(
    scale, softcap, monkeypatch
):
    """Preference weighs each answer differently, so the gradient of a row is a weighted sum over positions."""
    monkeypatch.setattr("training.loss.CHUNK_BYTES", {"cpu": 4 * 30 * 4})  # 11 positions in chunks of 4
    monkeypatch.setattr("training.loss.LEAST_ROWS", 1)
    torch.manual_seed(0)
    hidden, head, values = torch.randn(11, 8), torch.randn(30, 8), torch.randn(2, 8)
    rows, target, weight = torch.tensor([28, 3]), torch.arange(11) * 3 % 30, torch.linspace(-1, 2, 11)

    def both(fused: bool) -> list[torch.Tensor]:
        hidden_, values_ = hidden.clone().requires_grad_(), values.clone().requires_grad_()
        if fused:
            loss_S = cross_entropies(hidden_, head, target, trained=(rows, values_), scale=scale, softcap=softcap)
        else:
            logits = hidden_ @ head.index_copy(0, rows, values_).T * scale
            logits = softcap * torch.tanh(logits / softcap) if softcap else logits
            loss_S = cross_entropy(logits, target, reduction="none")
        (loss_S * weight).sum().backward()
        return [loss_S.detach(), hidden_.grad, values_.grad]

    for ours, plain in zip(both(True), both(False), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)


def test_training_moves_the_new_rows_and_the_factors_and_nothing_else(opened, base):
    job = opened(base)
    rows = prepared(job)
    ids = set(rows_of(base_of(job)))
    assert ids & set(rows.tokens.tolist()) == ids - {load_tokenizer(base_of(job)).convert_tokens_to_ids("sukuk")}
    run = train(job)
    assert run.loss_last < run.loss_first
    saved = load_file(job.folder.run / "adapter" / "adapter_model.safetensors")
    own = {name: value for name, value in saved.items() if "token_adapter" in name}
    assert saved.keys() - own.keys() == {name for name in saved if ".lora_A." in name or ".lora_B." in name}
    began = load_weights(base_of(job), dtype=torch.float32)
    tied = began.get_input_embeddings().weight is began.get_output_embeddings().weight
    assert len(own) == (1 if tied else 2)
    for name, value in own.items():
        table = began.get_output_embeddings() if "lm_head" in name else began.get_input_embeddings()
        assert value.shape == (3, 32)
        assert (value - table.weight[list(rows_of(base_of(job)))]).abs().max() > 1e-3
    assert run.trainable_parameters == sum(value.numel() for value in saved.values())


def test_the_saved_adapter_has_the_same_loss_with_plain_peft_on_the_extended_and_on_the_published_base(opened, base):
    """What is saved are the rows, not their change: the published base with more rows, however they begin, will do."""
    job = opened(base)
    rows = prepared(job)
    run = train(job)
    held_out = list(rows.validation)
    expected = run.curve[-1].losses["sector"] * rows.supervised_targets(held_out)
    extended = AutoModelForCausalLM.from_pretrained(base_of(job), dtype=torch.float32)
    published = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    published.resize_token_embeddings(vocabulary_of(base_of(job)), mean_resizing=False)
    for causal in (extended, published):
        with torch.no_grad():
            tuned = PeftModel.from_pretrained(causal, job.folder.run / "adapter").eval()
            assert float(plain_loss(tuned, rows, held_out)) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(
    "sets", ["train.init=pissa", "train.dora=true", "train.method=full", "train.checkpoint_every=1"]
)
def test_other_kinds_of_tuning_take_new_tokens_too(opened, tiny_base, sets):
    job = opened(tiny_base, sets, "train.learning_rate=1e-3")
    rows = prepared(job)
    run = train(job)
    assert run.loss_last < run.loss_first
    held_out = list(rows.validation)
    if run.weights == "adapter":
        tuned = PeftModel.from_pretrained(load_weights(base_of(job), dtype=torch.float32), job.folder.run / "adapter")
    else:
        tuned = load_weights(job.folder.run / "model", dtype=torch.float32)
        assert len(AutoTokenizer.from_pretrained(job.folder.run / "model")) == 323
    with torch.no_grad():
        found = float(plain_loss(tuned, rows, held_out)) / rows.supervised_targets(held_out)
    assert found == pytest.approx(run.curve[-1].losses["sector"], rel=1e-4)


def test_other_tokens_make_the_corpus_again_and_training_refuses_a_corpus_of_others(opened, tiny_base):
    before = prepare(opened(tiny_base, tokens="[]"))
    job = opened(tiny_base)
    with pytest.raises(DataError, match="another tokenizer"):
        train(job)
    after = prepare(job)
    assert after.tokenizer == tokenizer_digest(base_of(job)) != before.tokenizer
    assert after.tokens < before.tokens
    assert prepare(job).made == after.made  # kept


# ---------------------------------------------------------------- all stages


@pytest.fixture(scope="module")
def story(tiny_base, tmp_path_factory) -> Path:
    """The story of tests/conftest.py with new tokens, all five stages done through the front door."""
    folder = tmp_path_factory.mktemp("grown")
    text = STORY.format(base=tiny_base).replace("train: {", "train: {new_tokens: [company, 公司], ")
    (folder / "story.yaml").write_text(text, "utf-8")
    command = [sys.executable, str(HOUSE / "sectorlm.py"), "run", "story.yaml"]
    environment = os.environ | {"PYTHONPATH": str(HOUSE)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    again = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert "again" not in again.stderr, again.stderr
    return folder / "runs" / "story"


@pytest.mark.slow
def test_the_base_is_scored_as_it_is_published_and_the_tuned_model_with_its_new_tokens(story, finished, tiny_base):
    base, tuned = (Scorecard.read(story / "scorecards" / which / "scorecard.json") for which in ("base", "tuned"))
    alone = Scorecard.read(finished / "runs/story/scorecards/base/scorecard.json")
    assert base.model_digest == alone.model_digest == base_digest(tiny_base)
    assert [score.value for score in base.scores] == [score.value for score in alone.scores]
    assert (base.tokens, tuned.tokens < base.tokens) == (alone.tokens, True)
    assert Run.read(story / "run/run.json").base_digest == base_digest(story / "base")


@pytest.mark.slow
def test_the_release_has_the_longer_tokenizer_and_loads_on_the_published_base_and_merged(story, tiny_base):
    release = story / "release"
    checks = json.loads((release / "release.json").read_text("utf-8"))["checks"]
    rows = len(load_tokenizer(release))
    assert rows == 323 and "公司" in load_tokenizer(release / "merged").get_vocab()
    assert checks["fresh process"].startswith(f"adapter on its base of {rows} rows and merged weights loaded")
    assert f"model.resize_token_embeddings({rows})  # 3 tokens" in (release / "README.md").read_text("utf-8")
    tuned = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    tuned.resize_token_embeddings(rows, mean_resizing=False)
    tuned = PeftModel.from_pretrained(tuned, release).eval()
    merged = AutoModelForCausalLM.from_pretrained(release / "merged", dtype=torch.float32).eval()
    ids = torch.tensor([load_tokenizer(release).encode("The company pays; 公司公告。")])
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, tuned(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_show_trace_finds_the_extended_and_the_published_base(story):
    from configs.lineage import trace

    found = trace(story / "report" / "comparison.json")
    states = {}

    def walk(step) -> None:
        states[step.label] = step.state
        for inner in step.made_from:
            walk(inner)

    walk(found)
    bases = {label: state for label, state in states.items() if "base " in label or "tokenizer" in label}
    assert len(bases) == 5
    assert set(bases.values()) == {"matches"}
    assert Corpus.read(story / "corpus" / "corpus.json").vocabulary == 323
