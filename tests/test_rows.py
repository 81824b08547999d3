"""Splitting, packing, mixing: no token is lost, and the same recipe gives the same rows."""

import random

import numpy as np
import pytest
import xxhash

from configs.errors import RecipeError
from configs.recipe import Source
from configs.store import hashed
from data_prep.mix import repeat, repeats_for
from data_prep.pack import cut, pack
from data_prep.split import beyond_limits, held_out


def source(name, **more):
    return Source(name=name, path="x", text="x", licence="MIT", **more)


def test_every_token_but_the_first_is_a_target_exactly_once():
    for length in range(2, 60):
        starts, lengths = cut(length, 8)
        targets = [
            token for start, size in zip(starts, lengths, strict=True) for token in range(start + 1, start + size)
        ]
        assert targets == list(range(1, length))
        assert max(lengths) <= 8


def test_packing_fills_rows_and_loses_nothing():
    draw = random.Random(0)
    lengths = np.array([draw.randint(2, 100) for _ in range(5000)])
    rows = pack(lengths, 100)
    assert np.bincount(rows, lengths).max() <= 100
    assert sorted(set(rows.tolist())) == list(range(rows.max() + 1))
    assert rows.max() + 1 <= lengths.sum() / 100 * 1.02  # at most 2 % of the room stays empty
    assert (rows == pack(lengths, 100)).all()


def test_a_source_gets_its_share_by_being_repeated():
    sources = [source("big"), source("small", share=0.2)]
    repeats = repeats_for(sources, {"big": 8000, "small": 1000})
    assert repeats == {"big": 1.0, "small": 2.0}  # 2 x 1,000 of 10,000


def test_a_large_source_gets_its_share_by_being_thinned():
    assert repeats_for([source("big", share=0.1), source("small")], {"big": 9000, "small": 900}) == {
        "big": pytest.approx(100 / 9000),
        "small": 1.0,
    }


def test_max_repeats_caps_and_the_share_that_results_is_printed(capsys):
    sources = [source("big"), source("small", share=0.5, max_repeats=2.0)]
    assert repeats_for(sources, {"big": 800, "small": 100}) == {"big": 1.0, "small": 2.0}
    assert "would need 8.0 passes; max_repeats allows 2, which makes 20.0%" in capsys.readouterr().err


def test_where_all_sources_have_shares_the_largest_for_its_share_is_seen_once():
    sources = [source("a", share=0.5), source("b", share=0.5)]
    assert repeats_for(sources, {"a": 1000, "b": 500}) == {"a": 1.0, "b": 2.0}


def test_shares_that_leave_nothing_for_the_others_are_refused():
    with pytest.raises(RecipeError, match="leave nothing"):
        repeats_for([source("a", share=1.0), source("b")], {"a": 10, "b": 10})


def test_two_and_a_half_passes_are_two_and_the_half_with_the_smallest_hash():
    pieces = np.array([[0, n * 10, 10, 9] for n in range(100)])
    names = [str(n) for n in range(100)]
    chosen = repeat(pieces, names, 2.5, seed=1)
    assert len(chosen) == 250
    assert set(np.bincount(chosen[:, 1] // 10).tolist()) == {2, 3}
    assert (chosen == repeat(pieces, names, 2.5, seed=1)).all()
    assert (chosen != repeat(pieces, names, 2.5, seed=2)).any()


def held(keys, part, seed, channels=None, alive=None):
    """The keys that are held out, of documents with these keys."""
    numbers = np.array([xxhash.xxh3_64_intdigest(key.encode()) for key in keys], np.uint64)
    places = np.array([hashed(seed, "validation", key) for key in keys], np.uint64)
    channels = np.array(channels or [False] * len(keys))
    found = held_out(numbers, places, channels, np.ones(len(keys), bool) if alive is None else alive, part)
    return {key for key, is_held in zip(keys, found.tolist(), strict=True) if is_held}


def test_about_the_wanted_part_is_held_out_and_adding_documents_moves_none():
    few, many = [f"text {n}" for n in range(2000)], [f"text {n}" for n in range(4000)]
    found = held(few, 0.1, seed=3)
    assert 150 < len(found) < 250
    assert found == held(many, 0.1, seed=3) & set(few)


def test_a_group_stays_on_one_side_whatever_its_size():
    keys = ["group a"] * 50 + [f"text {n}" for n in range(50)]
    numbers = np.array([xxhash.xxh3_64_intdigest(key.encode()) for key in keys], np.uint64)
    for seed in range(20):
        places = np.array([hashed(seed, "validation", key) for key in keys], np.uint64)
        found = held_out(numbers, places, np.zeros(100, bool), np.ones(100, bool), 0.3)
        assert found[:50].all() or not found[:50].any()


def test_each_channel_with_five_documents_has_validation_and_always_something_to_train_on():
    for seed in range(20):
        keys = [f"s {n}" for n in range(5)] + [f"g {n}" for n in range(5)]
        assert {key[0] for key in held(keys, 0.01, seed, [False] * 5 + [True] * 5)} == {"s", "g"}
        assert len(held(["a", "b"], 0.49, seed)) <= 1
        assert held(["a"], 0.49, seed) == set()


def test_documents_that_are_out_already_are_never_held_out():
    alive = np.arange(100) < 50
    assert held([f"text {n}" for n in range(100)], 0.4, 0, alive=alive) <= {f"text {n}" for n in range(50)}


def test_max_documents_keeps_the_same_ones_whatever_the_order():
    parents = np.arange(100).astype(np.uint64)
    sources, alive = [source("s", max_documents=7)], np.ones(100, bool)
    beyond = beyond_limits(sources, np.zeros(100, int), parents, alive, 0)
    again = beyond_limits(sources, np.zeros(100, int), parents[::-1], alive, 0)
    assert (~beyond).sum() == 7
    assert (beyond == again[::-1]).all()
