"""Where shards are worked on: in this process, in a pool of processes, in one part of an array job, or on a Ray cluster.

A piece of work is a value that can be pickled, with `do()`; it writes its own folder and returns nothing, so every
engine gives the same bytes. A process that dies is replaced once; a shard that kills two processes is named.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from configs.base import one_of_many
from configs.errors import StorageError
from configs.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from configs.spread import How

SMALL = 8 << 20
"""Bytes below which starting processes costs more than they save."""
DIED = "the process that worked on this shard died twice"
DIED_HINT = "Most often memory ran out: try --workers 1. Finished shards are kept."
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of glibc's malloc.h."""
KEPT = 1 << 24
"""Bytes of the largest array that comes from memory that is kept."""
QUIET_LIBRARIES = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
"""One thread for each process: the cores are taken by shards."""


class Work(Protocol):
    """One shard's share of a pass."""

    @property
    def size(self) -> int:
        """Bytes, for the progress bar."""
        ...

    @property
    def name(self) -> str:
        """Shard and source, for messages."""
        ...

    def is_done(self) -> bool:
        """Whether an earlier process completed it."""
        ...

    def do(self) -> None:
        """Do it."""
        ...


def work_through(what: str, works: Sequence[Work], how: How) -> bool:
    """Do all works that are not done; False where shares of other processes are still open.

    Raises:
        StorageError: a shard's process died twice.
        SectorLMError: whatever a shard raises; the shards that were finished stay.
    """
    open_works = list(_open(works))
    mine = open_works
    if how.part is not None:
        number, of = how.part
        chosen = {id(work) for work in works[number::of]}
        mine = [work for work in open_works if id(work) in chosen]
    if mine:
        done = sum(work.size for work in works) - sum(work.size for work in open_works)
        with track(what, done + sum(work.size for work in mine), "bytes") as bar:
            bar.resume(done)
            for work in _engine(mine, how)(mine, how):
                bar.advance(work.size)
    return len(mine) == len(open_works)


def _open(works: Sequence[Work]) -> Iterator[Work]:
    """Those that are not done; what is done is compared with its digests, which takes a while for a large corpus."""
    with track("looking at finished shards", sum(work.size for work in works), "bytes") as bar:
        for work in works:
            if not work.is_done():
                yield work
            bar.advance(work.size)


def _engine(works: Sequence[Work], how: How) -> Callable[[Sequence[Work], How], Iterator[Work]]:
    if how.engine == "ray":
        return _on_ray
    if how.processes == 1 or len(works) == 1 or sum(work.size for work in works) < SMALL:
        return _here
    return _in_processes


def _here(works: Sequence[Work], _: How) -> Iterator[Work]:
    for work in works:
        work.do()
        yield work


def _do(work: Work) -> None:
    """One shard in a thread of its own: `tokenizers` 0.23 keeps some 8 MB for each tokenizer until its thread ends."""
    from concurrent.futures import ThreadPoolExecutor

    one_of_many()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(work.do).result()
    if (trim := _of_glibc("malloc_trim")) is not None:
        trim(0)


def _get_ready() -> None:
    """A worker process: it uses one core, and ends with its parent, even one that was killed and could say nothing."""
    from threading import Thread

    os.environ.update(QUIET_LIBRARIES)
    _keep_freed_memory()
    Thread(target=_end_with_parent, daemon=True).start()


def _keep_freed_memory() -> None:
    """Let glibc hand freed arrays out again within a shard: by itself it returns them to the kernel and gets them back as
    fresh pages, which is a tenth of the time of the first pass (mallopt(3))."""
    if (mallopt := _of_glibc("mallopt")) is not None:
        mallopt(MMAP_THRESHOLD, KEPT)
        mallopt(TRIM_THRESHOLD, 2 * KEPT)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function that only this C library has; None where there is another one."""
    import ctypes

    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return found


def _end_with_parent() -> None:
    from multiprocessing import parent_process

    if (parent := parent_process()) is not None:
        parent.join()
    os._exit(1)


def _in_processes(works: Sequence[Work], how: How) -> Iterator[Work]:
    """The largest first. Where a process dies, the shards it may have died of are tried alone; the others go on together."""
    from concurrent.futures.process import BrokenProcessPool

    waiting = deque(sorted(works, key=lambda work: -work.size))
    while waiting:
        running: list[Work] = []
        try:
            yield from _pooled(waiting, running, how.processes)
        except BrokenProcessPool:
            for work in running:
                yield from _alone(work)


def _alone(work: Work) -> Iterator[Work]:
    from concurrent.futures.process import BrokenProcessPool

    if work.is_done():
        yield work
        return
    try:
        yield from _pooled(deque([work]), [], 1)
    except BrokenProcessPool as error:
        raise StorageError(DIED, where=work.name, hint=DIED_HINT) from error


def _pooled(waiting: deque[Work], running: list[Work], workers: int) -> Iterator[Work]:
    """Work off `waiting` in a pool of processes; `running` holds what they have in hand."""
    from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
    from multiprocessing import get_context

    context = get_context("spawn")  # a fork would copy locks that tokenizers and numpy hold
    pool = ProcessPoolExecutor(min(workers, len(waiting)), context, _get_ready)
    started: dict[Any, Work] = {}
    try:
        while waiting or started:
            while waiting and len(started) < workers:
                running.append(waiting.popleft())
                with _signals_held():
                    started[pool.submit(_do, running[-1])] = running[-1]
            for future in wait(started, return_when=FIRST_COMPLETED).done:
                future.result()
                work = started.pop(future)
                running.remove(work)
                yield work
    except BaseException:
        for process in list((pool._processes or {}).values()):  # what is half-done is worth nothing: do not wait
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal: those that are started here never hear it, as they inherit this mask."""
    import signal

    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _on_ray(works: Sequence[Work], how: How) -> Iterator[Work]:
    """The cluster that RAY_ADDRESS names, or a local one of `workers`; shards lie on storage that all nodes see."""
    try:
        import ray
    except ImportError as error:
        raise StorageError("ray is not installed", where="--engine ray", hint='pip install "sectorlm[ray]"') from error
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        ray.init(
            address=address,
            num_cpus=None if address else how.processes,
            log_to_driver=False,
            include_dashboard=False,
            runtime_env={"env_vars": QUIET_LIBRARIES},
        )
    remote = ray.remote(num_cpus=1, max_retries=1)(_do)
    started = {remote.remote(work): work for work in works}
    waiting = list(started)
    while waiting:
        (done,), waiting = ray.wait(waiting, num_returns=1)
        try:
            ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except ray.exceptions.WorkerCrashedError as error:
            raise StorageError(DIED, where=started[done].name, hint=DIED_HINT) from error
        yield started[done]
