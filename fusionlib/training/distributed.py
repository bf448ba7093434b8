"""Gradient and metric reduction for data-parallel training, and the processes it runs in.

Processes compute equal parts of a batch. Load and importance of the experts are added up where they
become a loss (``losses.over_processes``), statistics of normalisation layers in
``detectors.faster_rcnn.BatchNorm``. In a single process the reductions do nothing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
import torch.distributed as processes
from torch import nn

from fusionlib import runs


def rank_and_world() -> tuple[int, int]:
    """Return the number of this process and how many there are."""
    if processes.is_available() and processes.is_initialized():
        return processes.get_rank(), processes.get_world_size()
    return 0, 1


def start() -> None:
    """Join the processes that torchrun started, one a GPU where there are GPUs."""
    if processes.is_torchelastic_launched():
        if torch.cuda.is_available():
            torch.cuda.set_device(processes.get_node_local_rank())
        processes.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


# radon C: parameters that some, all or no processes used
def average_gradients(model: nn.Module) -> None:
    """Replace gradients by their mean over the processes.

    A parameter that no process used keeps no gradient, as in a single process: the optimiser then
    leaves it alone.
    """
    if rank_and_world()[1] == 1:
        return
    parameters = [p for p in model.parameters() if p.requires_grad]
    used = torch.tensor(
        [p.grad is not None for p in parameters], dtype=torch.int32, device=parameters[0].device
    )
    processes.all_reduce(used)
    parameters = [p for p, count in zip(parameters, used.tolist(), strict=True) if count]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    processes.all_reduce(flat)
    parts = (flat / rank_and_world()[1]).split([p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter)


def mean(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Return the means of numbers over the processes; all have the same names."""
    world = rank_and_world()[1]
    if world == 1:
        return values
    totals = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    processes.all_reduce(totals)
    return dict(zip(values, (totals / world).tolist(), strict=True))


def gather(part: list) -> list[Any]:
    """Return the lists of all processes, dealt out like cards (``everything[rank::world]``), as one
    list.
    """
    world = rank_and_world()[1]
    if world == 1:
        return part
    parts: list = [None] * world
    processes.all_gather_object(parts, part)
    return [parts[i % world][i // world] for i in range(sum(map(len, parts)))]


# ---- starting processes --------------------------------------------------------------------------


def count(wanted: int, device: str) -> int:
    """Return how many processes run at a time; 0 stands for one a GPU, or one on a processor.

    Raises
    ------
    ValueError
        Not a whole number of at least 0, or more than there are GPUs.
    """
    gpus = torch.cuda.device_count() if runs.device_name(device).startswith("cuda") else None
    if type(wanted) is not int or wanted < 0 or (gpus is not None and wanted > max(gpus, 1)):
        limit = "" if gpus is None else f", one a GPU of {gpus}"
        raise ValueError(f"processes: expected a whole number of at least 0{limit}, got {wanted!r}")
    return wanted or gpus or 1


@contextlib.contextmanager
def pool(size: int, device: str) -> Iterator[ProcessPoolExecutor]:
    """Yield ``size`` new processes, each with a GPU of its own where the device is one, that share
    the threads of this one and end with it.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    gpus = context.Queue()
    for number in range(size):
        gpus.put(number if runs.device_name(device) == "cuda" else None)
    threads = max(1, torch.get_num_threads() // size)
    with ProcessPoolExecutor(size, context, _start_worker, (gpus, threads)) as executor:
        yield executor


def _start_worker(gpus: multiprocessing.Queue, threads: int) -> None:
    torch.set_num_threads(threads)
    gpu = gpus.get()
    if gpu is not None:
        torch.cuda.set_device(gpu)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def run_together(function: Callable, arguments: tuple, size: int, device: str) -> None:
    """Call a function in ``size`` processes that belong together, and raise what one of them
    raises.

    Parameters
    ----------
    function, arguments
        As pickle can hold them.
    size : int
    device : str
        "auto", "cpu" or "cuda": gloo on a processor, NCCL between GPUs.
    """
    backend = "nccl" if runs.device_name(device).startswith("cuda") else "gloo"
    with tempfile.TemporaryDirectory() as folder, pool(size, device) as executor:
        meeting = (Path(folder) / "meeting").as_uri()
        members = [
            executor.submit(_run_member, function, arguments, backend, meeting, rank, size)
            for rank in range(size)
        ]
        # the first to end otherwise than well is the cause; the others then miss it
        for member in as_completed(members):
            member.result()


def _run_member(
    function: Callable, arguments: tuple, backend: str, meeting: str, rank: int, size: int
) -> None:
    processes.init_process_group(backend, init_method=meeting, rank=rank, world_size=size)
    try:
        function(*arguments)
    finally:
        processes.destroy_process_group()
