"""Optimiser of a training: its parameter groups and the course of the learning rates."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.optim.lr_scheduler import LambdaLR

from fusionlib.training.config import OptimizationConfig
from fusionlib.training.model import Model


class Phase(NamedTuple):
    """Consecutive epochs that train the same parts: "detectors", "joint", "frozen", "uniform"."""

    name: str
    first: int  # epoch, from 0
    end: int  # the epoch after the last


def phases(recipe: OptimizationConfig, attention: str) -> list[Phase]:
    """Return what is trained one after the other; nothing but the fusion network where the
    attention is uniform.
    """
    alone = 0 if attention == "uniform" else recipe.detector_epochs
    planned = [Phase("detectors", 0, alone), Phase(attention, alone, alone + recipe.epochs)]
    return [phase for phase in planned if phase.first < phase.end]


# radon C: five groups, each with the rate that it falls back to
def parameter_groups(model: Model, recipe: OptimizationConfig) -> list[dict]:
    """Return the optimiser's groups with their learning rates: fusion network, gates, Att,
    detectors, their attention.
    """
    detector_lr = recipe.lr if recipe.detector_lr is None else recipe.detector_lr
    groups: dict[str, tuple[list, float | None]] = {
        "fusion": ([], recipe.lr),
        "gates": ([], recipe.gate_lr),
        "Att": ([], recipe.attention_fusion_lr),
        "detectors": ([], detector_lr),
        "attention": (
            [],
            detector_lr if recipe.detector_attention_lr is None else recipe.detector_attention_lr,
        ),
    }
    for name, parameter in model.named_parameters():
        if name.startswith("detectors."):
            group = "attention" if ".attention." in name else "detectors"
        elif ".gate." in name:
            group = "gates"
        else:
            group = "Att" if name.startswith("fusion.attention_fusion.") else "fusion"
        groups[group][0].append(parameter)
    return [
        {"params": parameters, "lr": recipe.lr if lr is None else lr}
        for parameters, lr in groups.values()
        if parameters
    ]


def rate_factor(recipe: OptimizationConfig, phase: Phase, done: int, steps: int) -> float:
    """Return what the learning rates are multiplied with.

    Parameters
    ----------
    phase : Phase
        Each has its own course.
    done : int
        Steps of the phase that were taken before.
    steps : int
        Steps of an epoch.
    """
    factor = min(1.0, (done + 1) / max(recipe.warm_up, 1))
    if recipe.decay == "cosine":
        whole = (phase.end - phase.first) * steps
        return factor * (0.05 + 0.95 * (1 + math.cos(math.pi * done / whole)) / 2)
    return factor * 0.1 ** sum(done // steps >= epoch for epoch in recipe.lr_steps)


def schedule_rates(
    optimizer: torch.optim.Optimizer,
    recipe: OptimizationConfig,
    phase: Phase,
    done: int,
    steps: int,
) -> LambdaLR:
    """Return the scheduler of a phase, at its ``done``-th step, with the rates of that step set.

    It is made anew for each phase and after each interruption, so a checkpoint need not hold it.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    recipe : OptimizationConfig
    phase : Phase
    done, steps : int
        Steps of the phase: taken already, and in all.
    """
    return LambdaLR(
        optimizer, lambda number: rate_factor(recipe, phase, number, steps), last_epoch=done - 1
    )
