"""Compiled twins of the hottest loops (extra `fast`: numba): the same bits as their numpy originals, some times faster.

`kernels()` gives them where numba is installed and `SECTORLM_FAST` is not `off`; else the originals do the work. numba
keeps what it compiled in `__pycache__` beside loops.py, or in the user's cache folder where that is read-only.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.progress import say
from configs.speed import fast_wanted
from data_prep import guard_loop, loops

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    Arrays = tuple[np.ndarray, ...]


class Kernels(NamedTuple):
    """The functions of loops.py and guard_loop.py, compiled."""

    needs: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Arrays]
    later_copies: Callable[[np.ndarray, np.ndarray], np.ndarray]
    units: Callable[[np.ndarray, np.ndarray, np.ndarray, int], Arrays]
    collapsed: Callable[[np.ndarray, np.ndarray, np.ndarray], Arrays]
    signatures: Callable[[np.ndarray, np.ndarray, np.ndarray, int, int], np.ndarray]
    passage_lines: Callable[[np.ndarray, np.ndarray, np.ndarray], Arrays]
    lines: Callable[[np.ndarray, np.ndarray, np.ndarray, int, int], Arrays]
    histogram: Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
    word_counts: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[int, int]], np.ndarray]
    top_run: Callable[[np.ndarray, np.ndarray, int, int, int], np.ndarray]
    repeated_runs: Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]


@lru_cache(maxsize=1)
def kernels() -> Kernels | None:
    """The compiled loops, tried once in a process; None where they are not wanted or not there."""
    if not fast_wanted():
        return None
    try:
        import numba
    except ImportError:
        return None
    try:
        return _compiled(numba, cache=True)
    except RuntimeError:  # no folder that the cache could be written to
        return _compiled(numba, cache=False)
    except Exception as error:  # numba and llvmlite raise their own kinds
        say(f"numba is installed but does not work here, numpy does its part: {type(error).__name__}: {error}")
        return None


def _compiled(numba: Any, cache: bool) -> Kernels:
    """Compile each loop for the types it is called with; arrays may be read-only."""
    for helper in ("_mixed", "_rolled", "_bits", "_room"):
        numba.extending.register_jitable(getattr(loops, helper))
    for helper in ("_hex_colon", "_mended_at", "_odd_line"):
        numba.extending.register_jitable(getattr(guard_loop, helper))
    number, hashed = numba.int64, numba.uint64
    marks, rows, codes, hashes, places = (
        numba.types.Array(kind, 1, "C", readonly=True)
        for kind in (numba.uint8, numba.uint16, numba.uint32, numba.uint64, numba.int64)
    )
    types = {
        "needs": (codes, places, codes, places),
        "later_copies": (hashes, places),
        "units": (codes, places, codes, hashed),
        "collapsed": (codes, places, codes),
        "signatures": (hashes, places, codes, hashed, number),
        "passage_lines": (codes, places, codes),
        "lines": (codes, places, marks, hashed, number),
        "histogram": (codes, places, marks, number),
        "word_counts": (hashes, places, rows, hashes, marks, numba.types.UniTuple(number, 2)),
        "top_run": (hashes, places, hashed, number, number),
        "repeated_runs": (hashes, places, hashed, number),
    }
    plain = {name: getattr(guard_loop if name == "needs" else loops, name) for name in types}
    return Kernels(**{name: numba.njit(given, cache=cache)(plain[name]) for name, given in types.items()})
