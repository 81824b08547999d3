"""Compiled loops: the same bits as numpy, on real and on random texts; and numpy where they are not."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.planted import HOUSE, sources
from data_prep import fast
from data_prep.language import languages_of
from data_prep.lines import LONGEST
from data_prep.passages import passages_of
from data_prep.quality import statistics_of
from data_prep.sketch import signatures_of
from data_prep.units import BLOCK, digests_of, texts_of, units_of

if TYPE_CHECKING:
    from collections.abc import Sequence

POOL = [
    *range(0x20, 0x7F),
    *range(0xA0, 0x250),
    *range(0x3000, 0x3100),
    *range(0x4E00, 0x4E20),
    *map(ord, "™½ßﷺ㍿℃ﬁ臺灣\n\n\n\t```....。。"),
    *(0xD800, 0x1F600, 0x20000, 0x30001, 0xE0001, 0x10FFFD),
]


@pytest.fixture(scope="module")
def compiled() -> fast.Kernels:
    found = fast.kernels()
    if found is None:
        pytest.skip("numba is not installed, or SECTORLM_FAST is off")
    return found


def everything(texts: Sequence[str]) -> list[np.ndarray]:
    points = texts_of(texts)
    units = units_of(points)
    found = [*units, np.array(digests_of(points)), signatures_of(units), *passages_of(points)]
    return [*found, languages_of(points, units), *statistics_of(points, units).values()]


def assert_equal(texts: Sequence[str], compiled: fast.Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values, types and shapes of all results are the same with compiled loops and without."""
    results = []
    for kernels in (compiled, None):
        monkeypatch.setattr(fast, "kernels", lambda kernels=kernels: kernels)
        results.append(everything(texts))
    for one, other in zip(*results, strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other), texts


@pytest.mark.parametrize("language", ["en", "zh"])
def test_compiled_and_numpy_are_equal_on_real_texts(
    language: str, compiled: fast.Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = []
    for text in sources(language):
        texts.append(text)
        if sum(map(len, texts)) > 1_000_000:
            break
    assert_equal(texts, compiled, monkeypatch)


def test_compiled_and_numpy_are_equal_on_300_batches_of_random_code_points(
    compiled: fast.Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        lengths = rng.integers(0, 80, rng.integers(0, 20))
        pool = rng.choice(POOL, 3) if rng.random() < 0.3 else POOL  # of three letters: runs that are repeated
        assert_equal(["".join(map(chr, rng.choice(pool, length))) for length in lengths], compiled, monkeypatch)


def test_compiled_and_numpy_are_equal_at_the_edges(compiled: fast.Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["word " * (LONGEST // 5) + "wo\n" + "x", "y" * LONGEST + "\n" + "z" * (2 * LONGEST + 1), "\n" * 3 + "..."]
    long = ["a" * 3 * BLOCK + " b", "中" * 2 * BLOCK, "x1 " * BLOCK, "ﷺ" * BLOCK, " " * BLOCK, "\n" * BLOCK]
    for texts in (
        [],
        [""],
        ["", "", "a b c d"],
        ["a b c d e", "", "a b c d e f"],
        [" \n", "\n\n x"],
        ["one two"] * 9,
        lines,
        long,
    ):
        assert_equal(texts, compiled, monkeypatch)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=HOUSE,
        env=os.environ | {"PYTHONPATH": str(HOUSE)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


SHOW = "from data_prep.fast import kernels; print(kernels() is None)"


def test_the_switch_turns_compiled_loops_off_and_numba_is_not_even_imported() -> None:
    done = run(SHOW + "; import sys; print('numba' in sys.modules)", SECTORLM_FAST="off")
    assert (done.stdout.split(), done.stderr) == (["True", "False"], "")


def test_without_numba_nothing_is_said_and_with_a_broken_one_one_line() -> None:
    missing = run("import sys; sys.modules['numba'] = None; " + SHOW)
    assert (missing.stdout.strip(), missing.stderr) == ("True", "")
    broken = run("import sys, types; sys.modules['numba'] = types.ModuleType('numba'); " + SHOW)
    assert broken.stdout.strip() == "True"
    assert broken.stderr.count("\n") == 1 and "numba is installed but does not work here" in broken.stderr


def test_numba_is_imported_only_when_it_is_used() -> None:
    done = run(
        "import sys, data_prep.units, data_prep.passages, data_prep.sketch, data_prep.near; print('numba' in sys.modules)"
    )
    assert done.stdout.strip() == "False", done.stderr
