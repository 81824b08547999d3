"""Splitting, packing, mixing: no token is lost, and the same recipe gives the same rows."""

import random

import pytest

from configs.errors import RecipeError
from configs.recipe import Source
from data_prep.documents import Document
from data_prep.mix import repeat, repeats_for
from data_prep.pack import Piece, cut, pack
from data_prep.split import key_of, limited, split


def source(name, **more):
    return Source(name=name, path="x", text="x", licence="MIT", **more)


def documents(count, name="s", group=""):
    return [Document(f"{name}{n}", name, "w", group=group, digest=f"{name} digest {n}") for n in range(count)]


def test_every_token_but_the_first_is_a_target_exactly_once():
    for length in range(2, 60):
        pieces = cut(0, 0, length, 8)
        targets = [token for piece in pieces for token in range(piece.start + 1, piece.start + piece.length)]
        assert targets == list(range(1, length))
        assert max(piece.length for piece in pieces) <= 8


def test_packing_fills_rows_and_loses_nothing():
    draw = random.Random(0)
    lengths = [draw.randint(2, 100) for _ in range(5000)]
    rows = pack(lengths, 100)
    assert sorted(position for row in rows for position in row) == list(range(5000))
    assert max(sum(lengths[position] for position in row) for row in rows) <= 100
    assert len(rows) <= sum(lengths) / 100 * 1.02  # at most 2 % of the room stays empty
    assert rows == pack(lengths, 100)


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
    pieces = [Piece(n, n * 10, 10) for n in range(100)]
    names = [str(n) for n in range(100)]
    chosen = repeat(pieces, names, 2.5, seed=1)
    assert len(chosen) == 250
    assert {chosen.count(piece) for piece in pieces} == {2, 3}
    assert chosen == repeat(pieces, names, 2.5, seed=1)
    assert chosen != repeat(pieces, names, 2.5, seed=2)


def test_about_the_wanted_part_is_held_out_and_adding_documents_moves_none():
    few, many = documents(2000), documents(4000)
    held = split(few, [source("s")], 0.1, seed=3)
    assert 150 < len(held) < 250
    assert held == {key for key in split(many, [source("s")], 0.1, seed=3) if key in {key_of(d) for d in few}}


def test_a_group_stays_on_one_side():
    grouped = [*documents(50, group="sentence 1"), *documents(50, "t", group="sentence 1"), *documents(50, "u")]
    held = split(grouped, [source("s"), source("t"), source("u")], 0.2, seed=0)
    assert len({key_of(document) in held for document in grouped[:100]}) == 1


def test_each_channel_with_five_documents_has_validation_and_always_something_to_train_on():
    sources = [source("s"), source("g", channel="general")]
    for seed in range(20):
        held = split([*documents(5), *documents(5, "g")], sources, 0.01, seed)
        assert {key.partition(" ")[0] for key in held} == {"s", "g"}
        assert len(split(documents(2), [source("s")], 0.49, seed)) <= 1
        assert split(documents(1), [source("s")], 0.49, seed) == set()


def test_max_documents_keeps_the_same_ones_whatever_the_order():
    found = documents(100)
    kept = {v.document.id for v in limited(found, [source("s", max_documents=7)], 0) if not v.reason}
    again = {v.document.id for v in limited(found[::-1], [source("s", max_documents=7)], 0) if not v.reason}
    assert len(kept) == 7
    assert kept == again
