"""Worker processes that end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

DEFAULT_MEMORY = 2.0  # GB a process
PROGRAM = 0.2e9  # bytes: Python and its libraries


def end_with_parent(how: int = signal.SIGTERM) -> None:
    """Ask Linux to send this process a signal when the one that started it ends; elsewhere do
    nothing.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, how)  # 1 = PR_SET_PDEATHSIG


def start(processes: int = 0) -> None:
    """Let a worker process end with its parent, however that ends, and leave signals to it: one
    that dies by itself would leave the parent waiting for what it was to do.

    Parameters
    ----------
    processes : int
        How many share the cores, 0 where that does not matter.
    """
    end_with_parent(signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # it ended before the line above
        os._exit(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if processes:  # read by libraries that are not yet imported here
        cores = os.cpu_count() or 1
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))


def default_memory(processes: int = 1) -> float:
    """Return the smaller of 2 GB a process and half of what is free, 2 a process where the system
    does not say.
    """
    most = DEFAULT_MEMORY * processes
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return most
    free = next((int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable")), None)
    return most if free is None else min(most, free / 2e9)


# radon C: alone or in processes, whose results come in any order
def run(
    function: Callable[..., Any], tasks: dict[str, tuple], processes: int
) -> Generator[tuple[str, Any]]:
    """Yield (name, ``function(*arguments)``) of each task as they come, this process doing its
    share.

    Parameters
    ----------
    function : callable
        Of a module; arguments and results are pickled where there are several processes.
    tasks : dict
        ``{name: arguments}``.
    processes : int
        This one included. In place of a result comes the BrokenProcessPool where a worker died.
    """
    if processes == 1 or len(tasks) < 2:
        for name, arguments in tasks.items():
            yield name, function(*arguments)
        return
    # A fresh interpreter for each worker: a fork would copy whatever threads and locks the caller's
    # libraries hold. This process is one of them: while the others start, it takes the last tasks
    # off the queue.
    context, others = multiprocessing.get_context("spawn"), multiprocessing.active_children()
    count = min(processes, len(tasks))
    pool = ProcessPoolExecutor(count - 1, context, start, (count,))
    try:
        queued = {name: pool.submit(function, *arguments) for name, arguments in tasks.items()}
        for name in reversed(tasks):
            if name in queued and queued[name].cancel():
                del queued[name]
                yield name, function(*tasks[name])
            for finished in [name for name, job in queued.items() if job.done()]:
                yield finished, _result(queued.pop(finished))
        for name, job in queued.items():
            yield name, _result(job)
    except BaseException:
        # leaving the pool would wait for all that is queued
        for worker in set(multiprocessing.active_children()) - set(others):
            worker.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _result(job: Future) -> Any:
    try:
        return job.result()
    except BrokenProcessPool as error:
        return error
