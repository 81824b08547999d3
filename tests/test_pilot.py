"""Training on parts of the rows, and what it says about the whole."""

from __future__ import annotations

import numpy as np

from tests.test_train import write_corpus
from training.batches import Rows


def test_half_of_8_rows_are_4_whole_rows_of_the_corpus_and_a_quarter_lies_in_them(tmp_path):
    rows = Rows(tmp_path / "corpus", write_corpus(tmp_path / "corpus"))
    half, quarter = rows.part(0.5, 17), rows.part(0.25, 17)
    assert (half.train, quarter.train) == (4, 2)
    assert len(half.validation) == 0

    def starts(view: Rows) -> list[tuple[int, ...]]:
        return [tuple(view.pieces([row])[:, 1].tolist()) for row in range(view.train)]

    whole = starts(rows)
    assert [it for it in whole if it in starts(half)] == starts(half)
    assert set(starts(quarter)) < set(starts(half))
    assert np.array_equal(half.length, [int(rows.length[whole.index(it)]) for it in starts(half)])


def test_another_seed_chooses_other_rows_and_the_smallest_part_is_one_row(tmp_path):
    rows = Rows(tmp_path / "corpus", write_corpus(tmp_path / "corpus"))
    chosen = {tuple(rows.part(0.5, seed).segments[:, 1].tolist()) for seed in range(8)}
    assert len(chosen) > 1
    assert rows.part(0.001, 17).train == 1
    assert np.array_equal(rows.part(1.0, 17).segments, rows.segments[rows.segments[:, 0] < 8])
