"""Several processes, one training: what they have to tell each other. Alone, every function here
does nothing.

Processes compute equal parts of a batch. Load and importance of the experts are added up where they
become a loss (``losses.over_processes``), statistics of normalisation layers in
``detectors.faster_rcnn.BatchNorm``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as processes
from torch import nn


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
    joined = torch.cat([gradient.flatten() for gradient in gradients])
    processes.all_reduce(joined)
    parts = (joined / rank_and_world()[1]).split([p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter)


def mean(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Return the means of numbers over the processes; all have the same names."""
    world = rank_and_world()[1]
    if world == 1:
        return values
    joined = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    processes.all_reduce(joined)
    return dict(zip(values, (joined / world).tolist(), strict=True))


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
