"""Adapters of several sites become one that changes the base by exactly the weighted sum of their changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from configs.base import base_digest, load_weights
from configs.errors import DataError, PolicyError, RecipeError, StorageError
from configs.lineage import trace
from configs.records import CurvePoint, Made, Release, Run
from configs.store import HOUSE, digest_folder, files_of
from configs.taint import mark_tainted
from tests.recipes import sectorlm
from training.combine import combine, summary
from training.factors import Factors, cut, size, stacked

if TYPE_CHECKING:
    from pathlib import Path

IDS = torch.tensor([[5, 17, 101, 44, 260, 9, 33, 71]])
MADE = Made(sectorlm="0", code="0", packages={}, python="3", machine="", finished="", seconds=0)


def adapter(folder: Path, base: Path, seed: int, **keys) -> None:
    """A LoRA adapter on the tiny base whose B's are drawn too, as after training: norms near those of a real one."""
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"} | keys
    model = get_peft_model(load_weights(base, dtype=torch.float32), LoraConfig(task_type="CAUSAL_LM", **settings))
    for name, value in model.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:
            torch.nn.init.normal_(value.data, std=0.02)
    model.peft_config["default"].base_model_name_or_path = "tiny"
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text("utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config), "utf-8")


def record(root: Path, base: Path, tokens: int, **keys) -> Run:
    """run.json beside the adapter, as training writes it."""
    figures = {"steps": 10, "epochs": 1.0, "seconds_training": 2.0, "tokens_per_second": 50.0, "segments": 1}
    losses = {"loss_first": 5.0, "loss_last": 4.0, "curve": (CurvePoint(step=0, tokens=0, losses={"sector": 5.0}),)}
    made = {"trainable_parameters": 100, "total_parameters": 30_000, "peak_memory_bytes": 1000, "tokens": tokens}
    which = {"base": str(base), "base_digest": base_digest(base), "method": "lora", "weights": "adapter"}
    whole = {
        "name": root.parent.name,
        "settings": {"train.method": "lora", "train.rank": 4, "seed": tokens},
        "inputs": {"corpus": "c" * 64},
        "files": files_of(root / "adapter", prefix="adapter"),
        "weights_digest": digest_folder(root / "adapter"),
    }
    run = Run(**(whole | figures | losses | made | which | {"made": MADE} | keys))
    run.write(root / "run.json")
    return run


def site(runs: Path, base: Path, name: str, tokens: int = 100, **keys) -> Path:
    """The run folder of one site."""
    adapter(runs / name / "run" / "adapter", base, seed=len(name) + tokens, **keys)
    record(runs / name / "run", base, tokens)
    return runs / name


def changes(base: Path, folder: Path) -> dict[str, torch.Tensor]:
    """What PEFT itself adds to each weight when it merges an adapter, in float64."""
    plain = load_weights(base, dtype=torch.float64).state_dict()
    tuned = PeftModel.from_pretrained(load_weights(base, dtype=torch.float64), folder).merge_and_unload().state_dict()
    return {name: tuned[name] - plain[name] for name in plain}


def weighted(base: Path, folders: list[Path], weights: list[float]) -> dict[str, torch.Tensor]:
    found = [changes(base, folder) for folder in folders]
    return {name: sum(w * it[name] for w, it in zip(weights, found, strict=True)) for name in found[0]}


def logits(base: Path, change: dict[str, torch.Tensor]) -> torch.Tensor:
    model = load_weights(base, dtype=torch.float64)
    model.load_state_dict({name: value + change[name] for name, value in model.state_dict().items()})
    with torch.inference_mode():
        return model(IDS).logits


def norm(change: dict[str, torch.Tensor]) -> float:
    return float(sum(value.square().sum() for value in change.values())) ** 0.5


@pytest.fixture
def three(tmp_path, tiny_base) -> list[Path]:
    """Sites of 100, 300 and 600 tokens; the first is rsLoRA of rank 2, the second has another rank in some modules."""
    runs = tmp_path / "runs"
    return [
        site(runs, tiny_base, "north", 100, r=2, lora_alpha=6, use_rslora=True),
        site(runs, tiny_base, "south", 300, rank_pattern={"q_proj": 3}, alpha_pattern={"layers.1.mlp.up_proj": 20}),
        site(runs, tiny_base, "west", 600, lora_alpha=5),
    ]


@pytest.fixture
def alike(tmp_path, tiny_base) -> list[Path]:
    return [site(tmp_path / "runs", tiny_base, name, tokens) for name, tokens in (("north", 100), ("south", 300))]


def test_the_merged_adapter_is_the_weighted_sum_on_every_layer_and_in_logits(tmp_path, tiny_base, three):
    out = tmp_path / "runs" / "all" / "run"
    made = combine(three, out)
    expected = weighted(tiny_base, [it / "run" / "adapter" for it in three], [0.1, 0.3, 0.6])  # by tokens
    found = changes(tiny_base, out / "adapter")
    assert norm(expected) > 0.1
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6)
    wanted, alone = logits(tiny_base, expected), logits(tiny_base, changes(tiny_base, three[2] / "run/adapter"))
    assert (logits(tiny_base, found) - wanted).abs().max() < 1e-6
    assert (alone - wanted).abs().max() > 1e-3
    config = json.loads((out / "adapter/adapter_config.json").read_text("utf-8"))
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (10, 10, False)  # 2 + 4 + 4, scale 1
    assert set(config["rank_pattern"].values()) == {9} and len(config["rank_pattern"]) == 2  # 2 + 3 + 4 on two q_proj
    assert config["base_model_name_or_path"] == "tiny"
    assert (made.tokens, made.steps, made.name) == (1000, 30, "all")
    assert summary(out)[1][3] == "stacked to rank 10 on 14 layers: nothing is lost"


@pytest.mark.parametrize(
    ("weights", "parts"), [("equal", [0.5, 0.5]), ("0.2,0.8", [0.2, 0.8]), ("1/3,2/3", [1 / 3, 2 / 3])]
)
def test_weights_are_equal_or_as_given(tmp_path, tiny_base, alike, weights, parts):
    combine(alike, tmp_path / "out", weights=weights)
    expected = weighted(tiny_base, [it / "run" / "adapter" for it in alike], parts)
    found = changes(tiny_base, tmp_path / "out" / "adapter")
    assert norm({name: found[name] - expected[name] for name in found}) < 1e-6 * norm(expected)


def test_modules_that_a_site_does_not_have_change_by_the_others_alone(tmp_path, tiny_base):
    runs = tmp_path / "runs"
    names = {"target_modules": ["q_proj", "up_proj"]}
    places = [
        site(runs, tiny_base, "one", 1, **names, layers_to_transform=[0]),
        site(runs, tiny_base, "other", 1, **names),
    ]
    combine(places, tmp_path / "out")
    found = changes(tiny_base, tmp_path / "out" / "adapter")
    expected = weighted(tiny_base, [it / "run" / "adapter" for it in places], [0.5, 0.5])
    assert norm({name: found[name] - expected[name] for name in found}) < 1e-6 * norm(expected)
    half = changes(tiny_base, places[1] / "run/adapter")["model.layers.1.mlp.up_proj.weight"] / 2
    torch.testing.assert_close(found["model.layers.1.mlp.up_proj.weight"], half, rtol=1e-5, atol=1e-9)


def test_cutting_to_the_full_rank_loses_nothing_and_below_it_what_is_printed(tmp_path, tiny_base, alike):
    expected = weighted(tiny_base, [it / "run" / "adapter" for it in alike], [0.25, 0.75])
    combine(alike, tmp_path / "full", rank=8)
    full = changes(tiny_base, tmp_path / "full" / "adapter")
    assert norm({name: full[name] - expected[name] for name in full}) < 1e-6 * norm(expected)
    combine(alike, tmp_path / "cut", rank=5)
    found = changes(tiny_base, tmp_path / "cut" / "adapter")
    told, lines = summary(tmp_path / "cut")
    true = norm({name: found[name] - expected[name] for name in found}) / norm(expected)
    assert told["errors"]["cut"]["total"] == pytest.approx(true, rel=1e-5) and 0.01 < true < 0.5
    layers = {
        name.removesuffix(".weight"): float((found[name] - value).norm() / value.norm())
        for name, value in expected.items()
        if value.any()
    }
    worst = max(layers, key=lambda name: layers[name])
    assert told["errors"]["cut"]["worst_layer"] == worst
    assert told["errors"]["cut"]["worst"] == pytest.approx(layers[worst], rel=1e-5)
    assert lines[2].startswith(
        f"cut to rank 5 of 8: relative error {true:.3%} over 14 layers, at most {layers[worst]:.3%}"
    )


def test_the_cut_is_that_of_a_plain_singular_value_decomposition():
    torch.manual_seed(0)
    parts = [Factors(torch.randn(30, 4), torch.randn(4, 20), 2.0), Factors(torch.randn(30, 5), torch.randn(5, 20))]
    change = stacked(parts, [0.3, 0.7])
    whole = change.b_OR @ change.a_RI
    u, s, v = torch.linalg.svd(whole, full_matrices=False)
    nearest, lost = cut(change, 3)
    torch.testing.assert_close(nearest.b_OR @ nearest.a_RI, u[:, :3] * s[:3] @ v[:3])
    assert lost == pytest.approx(float(s[3:].square().sum()) ** 0.5) and size(change) == pytest.approx(
        float(whole.norm())
    )
    assert (
        cut(Factors(torch.randn(6, 8), torch.randn(8, 20)), 7)[0].rank == 6
    )  # a layer of 6 outputs has no higher rank


def test_averaging_the_factors_of_the_same_adapters_would_be_off_by_more_than_half(tmp_path, tiny_base, alike):
    """mean(B) mean(A), put together by hand: what is printed is what PEFT makes of it."""
    combine(alike, tmp_path / "out", weights="equal")
    exact = changes(tiny_base, tmp_path / "out" / "adapter")
    shutil.copytree(alike[0] / "run" / "adapter", tmp_path / "naive")
    one, other = (load_file(it / "run" / "adapter" / "adapter_model.safetensors") for it in alike)
    mean = {name: (one[name] + other[name]) / 2 for name in one}
    save_file(mean, tmp_path / "naive" / "adapter_model.safetensors", metadata={"format": "pt"})
    naive = changes(tiny_base, tmp_path / "naive")
    true = norm({name: naive[name] - exact[name] for name in exact}) / norm(exact)
    told, lines = summary(tmp_path / "out")
    assert told["errors"]["averaged"]["total"] == pytest.approx(true, rel=1e-4)
    assert true > 0.5
    assert f"would be off by {true:.1%}" in lines[3]
    assert "--average" not in sectorlm("merge", "--help").out


# ---------------------------------------------------------------- what is refused


def test_another_base_method_or_other_modules_are_named_with_exit_code_2(tmp_path, tiny_base, alike):
    odd = site(tmp_path / "runs", tiny_base, "odd", 7, target_modules=["q_proj"])
    record(odd / "run", tiny_base, 7, base_digest="f" * 64, settings={"train.method": "full"})
    told = sectorlm("merge", *alike, odd, "--out", tmp_path / "out")
    assert told.code == 2 and not (tmp_path / "out").exists()
    assert f"base: {base_digest(tiny_base)} in {alike[0]}, {'f' * 64} in {odd}" in told.err
    assert f"train.method: lora in {alike[0]}, full in {odd}" in told.err
    modules = "14 (down_proj, gate_proj, up_proj, k_proj, o_proj, q_proj, v_proj)"
    assert f"target_modules: {modules} in {alike[0]}, ['q_proj'] in {odd}" in told.err


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"use_dora": True}, "DoRA divides by the norm"),
        ({"bias": "lora_only"}, "biases were trained"),
        ({"init_lora_weights": "pissa"}, "changes the base itself"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens is"),
    ],
)
def test_adapters_whose_changes_do_not_add_up_are_refused_with_the_reason(tmp_path, tiny_base, alike, keys, reason):
    path = alike[1] / "run/adapter/adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | keys), "utf-8")
    record(alike[1] / "run", tiny_base, 300)
    with pytest.raises(RecipeError, match=reason):
        combine(alike, tmp_path / "out")


def test_trained_tokens_are_kept_where_they_are_the_same_and_refused_where_they_differ(tmp_path, tiny_base):
    runs = tmp_path / "runs"
    places = [site(runs, tiny_base, name, 5, trainable_token_indices=[1, 2]) for name in ("a", "bb")]
    combine(places, tmp_path / "out")
    expected = weighted(tiny_base, [it / "run" / "adapter" for it in places], [0.5, 0.5])
    found = changes(tiny_base, tmp_path / "out" / "adapter")
    assert norm({name: found[name] - expected[name] for name in found}) < 1e-6
    path = places[1] / "run/adapter/adapter_model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "token" in name)
    save_file(tensors | {name: tensors[name] + 1}, path, metadata={"format": "pt"})
    record(places[1] / "run", tiny_base, 5)
    with pytest.raises(RecipeError, match=r"trainable_tokens_delta is not the same in .*/a and .*/bb"):
        combine(places, tmp_path / "again")


def test_sites_that_trained_other_tokens_do_not_belong_together(tmp_path, tiny_base):
    rows = {"a": [1, 2], "bb": [1, 3]}
    places = [site(tmp_path / "runs", tiny_base, name, 5, trainable_token_indices=it) for name, it in rows.items()]
    with pytest.raises(RecipeError, match=r"trainable_token_indices: \[1, 2\] in .*/a, \[1, 3\] in .*/bb"):
        combine(places, tmp_path / "out")


def test_a_damaged_a_missing_and_a_misshapen_file_are_named(tmp_path, tiny_base, alike):
    path = alike[1] / "run/adapter/adapter_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match=r"south/run/adapter/adapter_model.safetensors: bytes differ from the sha256"):
        combine(alike, tmp_path / "out")
    path.write_bytes(whole[: len(whole) // 2])
    record(alike[1] / "run", tiny_base, 300)  # a record that vouches for half a file
    with pytest.raises(DataError, match="the adapter cannot be read"):
        combine(alike, tmp_path / "out")
    tensors = load_file(alike[0] / "run/adapter/adapter_model.safetensors")
    save_file({name: value[:3] if "lora_A" in name else value for name, value in tensors.items()}, path)
    record(alike[1] / "run", tiny_base, 300)
    with pytest.raises(DataError, match=r"no two factors of rank 4 \(A \[3, 64\], B \[32, 4\]\)"):
        combine(alike, tmp_path / "out")
    with pytest.raises(DataError, match="no run and no release is here"):
        combine([*alike, tmp_path / "nowhere"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ("0.5,0.6", "add up to 1.1, not to 1"),
        ("0.2,0.3,0.5", "3 weights for 2 adapters"),
        ("1.5,-0.5", "-0.5 is not above zero"),
        ("by size", "'by size' is no list of weights"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, alike, weights, told):
    with pytest.raises(RecipeError, match=told):
        combine(alike, tmp_path / "out", weights=weights)


def test_one_adapter_the_same_twice_a_rank_above_the_sum_and_tainted_runs_are_refused(tmp_path, alike):
    with pytest.raises(RecipeError, match="merging takes two or more"):
        combine(alike[:1], tmp_path / "out")
    with pytest.raises(RecipeError, match="are the same adapter"):
        combine([*alike, alike[0] / "run"], tmp_path / "out")
    with pytest.raises(RecipeError, match="9 is not from 1 to 8"):
        combine(alike, tmp_path / "out", rank=9)
    mark_tainted({alike[0] / "run": ["a" * 16]}, ["text:Jane Doe"])
    with pytest.raises(PolicyError, match="learnt from 1 document that must be forgotten"):
        combine(alike, tmp_path / "out")


def test_what_stands_at_the_place_of_the_result_is_never_replaced(tmp_path, alike):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear", "utf-8")
    with pytest.raises(RecipeError, match="something else is there"):
        combine(alike, tmp_path / "mine")
    for place in (alike[0] / "run", alike[0], tmp_path / "runs"):
        with pytest.raises(RecipeError, match="would take the place of"):
            combine(alike, place)
    assert (tmp_path / "mine" / "letter.txt").is_file() and (alike[0] / "run" / "run.json").is_file()


def test_sites_that_started_from_different_adapters_are_merged_with_a_note(tmp_path, tiny_base, alike, capsys):
    record(alike[1] / "run", tiny_base, 300, inputs={"corpus": "c" * 64, "adapter runs/all/run/adapter": "d" * 64})
    told = sectorlm("merge", *alike, "--out", tmp_path / "out")
    assert told.code == 0 and f"note: {alike[1]} did not start from the adapter that {alike[0]}" in told.err


# ---------------------------------------------------------------- what it is good for


def test_the_same_merge_is_kept_another_replaces_it_and_the_result_can_be_merged_again(tmp_path, tiny_base, three):
    out = tmp_path / "runs" / "pair" / "run"
    first = combine(three[:2], out)
    assert combine(three[:2], out) == first
    assert combine(three[:2], out, weights="equal").settings["merge.weights"] == ["1/2", "1/2"]
    combine(three[:2], out)
    again = combine([tmp_path / "runs" / "pair", three[2]], tmp_path / "runs" / "all" / "run")
    expected = weighted(tiny_base, [it / "run" / "adapter" for it in three], [0.1, 0.3, 0.6])
    found = changes(tiny_base, tmp_path / "runs" / "all" / "run" / "adapter")
    assert again.tokens == 1000 and norm({name: found[name] - expected[name] for name in found}) < 1e-6


def test_the_trace_of_a_merge_leads_to_the_records_of_its_sites_wherever_they_are(tmp_path, tiny_base, alike):
    out = tmp_path / "elsewhere" / "all" / "run"
    combine(alike, out)
    step = trace(out)
    assert step.state.startswith("matches")
    sites = [inner for inner in step.made_from if inner.label == "Run"]
    assert sorted(inner.digest for inner in sites) == sorted(Run.read(it / "run/run.json").content() for it in alike)
    assert {inner.state for inner in sites} == {"not here, 2 files"}  # their records are, in sites/
    shutil.move(out.parent, tmp_path / "runs" / "all")
    beside = [inner for inner in trace(tmp_path / "runs" / "all").made_from if inner.label == "Run"]
    assert {inner.state for inner in beside} == {"matches, 2 files"}


def test_releases_can_be_merged_once_they_hold_the_record_of_their_run(tmp_path, alike):
    places = []
    for it in alike:
        place = tmp_path / f"{it.name}-release"
        shutil.copytree(it / "run" / "adapter", place)
        keys = {"name": it.name, "settings": {}, "inputs": {}, "made": MADE, "sector": "finance", "base": "tiny"}
        Release(**keys, files=files_of(place), checks={}, gates={}).write(place / "release.json")
        places.append(place)
    with pytest.raises(DataError, match=r"this release has no run\.json"):
        combine(places, tmp_path / "out")
    for it, place in zip(alike, places, strict=True):
        shutil.copy(it / "run" / "run.json", place)
        release = Release.read(place / "release.json")
        release.model_copy(update={"files": files_of(place)}).write(place / "release.json")
    combine(places, tmp_path / "out")
    combine(alike, tmp_path / "same")
    one, other = (load_file(tmp_path / name / "adapter/adapter_model.safetensors") for name in ("out", "same"))
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.slow
def test_a_stop_at_any_point_leaves_nothing_half_and_the_same_command_ends_it(tmp_path, alike):
    """The new one is whole before it takes its name, so its place stays empty until then."""
    out = tmp_path / "runs" / "all" / "run"
    words = [sys.executable, str(HOUSE / "sectorlm.py"), "merge", *map(str, alike), "--out", str(out)]
    for point in ("merge.before_record", "store.before_rename", "store.between_renames", "nowhere"):
        done = subprocess.run(words, env=os.environ | {"SECTORLM_CRASH_AT": point}, capture_output=True, check=False)
        assert (done.returncode, out.exists()) == ((0, True) if point == "nowhere" else (137, False))
    assert Run.read(out / "run.json").tokens == 400
    assert sorted(path.name for path in out.parent.iterdir()) == [".lock", "run"]


def test_a_disk_that_fails_while_replacing_an_earlier_merge_leaves_that_one(tmp_path, alike, monkeypatch):
    combine(alike, tmp_path / "out")
    before = files_of(tmp_path / "out")

    def full(operation: str, path: Path) -> None:
        if operation == "fsync" and path.name == "run.json":
            raise OSError(28, "no space")

    monkeypatch.setattr("configs.store._fault", full)
    with pytest.raises(StorageError, match="the disk is full"):
        combine(alike, tmp_path / "out", weights="equal")
    assert files_of(tmp_path / "out") == before


@pytest.mark.slow
def test_a_merged_run_is_evaluated_compared_and_published_like_any_other(finished, tmp_path, monkeypatch):
    shutil.copytree(finished / "runs" / "story", tmp_path / "runs" / "one")
    shutil.copytree(finished / "runs" / "story" / "run", tmp_path / "runs" / "two" / "run")
    path = tmp_path / "runs" / "two" / "run" / "adapter" / "adapter_model.safetensors"
    save_file({name: value * 1.5 for name, value in load_file(path).items()}, path, metadata={"format": "pt"})
    run = Run.read(path.parent.parent / "run.json")
    keys = {
        "files": files_of(path.parent, prefix="adapter"),
        "weights_digest": digest_folder(path.parent),
        "tokens": 77,
    }
    run.model_copy(update=keys).write(path.parent.parent / "run.json")
    shutil.copytree(finished / "runs" / "story" / "corpus", tmp_path / "runs" / "all" / "corpus")
    recipe = (finished / "story.yaml").read_text("utf-8").replace("name: story", "name: all")
    (tmp_path / "all.yaml").write_text(recipe, "utf-8")
    monkeypatch.chdir(tmp_path)
    assert sectorlm("merge", "runs/one", "runs/two", "--out", "runs/all/run").code == 0
    for verb in ("evaluate", "compare", "publish"):
        told = sectorlm(verb, "all.yaml")
        assert told.code == 0, told.err
    card = " ".join((tmp_path / "runs/all/release/README.md").read_text("utf-8").split())
    assert "The weighted sum of 2 adapters that were trained at as many sites" in card
    assert f"{run.tokens + 77:,} tokens in all" in card
    assert "site 1: story" in (tmp_path / "runs/all/release/run.json").read_text("utf-8")
    tree = sectorlm("show", "runs/all/release", "--trace").out
    for place in ("runs/one/run", "runs/two/run", "runs/all/run"):
        digest = Run.read(tmp_path / place / "run.json").content()
        assert f"Run  {digest[:12]}  matches" in tree
    again = sectorlm("merge", "runs/all/release", "runs/two/run", "--out", "next")  # the next round
    assert again.code == 0, again.err
    assert Run.read(tmp_path / "next" / "run.json").tokens == run.tokens + 2 * 77
