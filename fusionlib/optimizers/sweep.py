"""The exact optimum of the low-pass weight, by running through all weights at which a pixel changes
its gray level.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar

from .result import Result

if TYPE_CHECKING:
    from .objective import LowPassObjective

GRID = 1001
MARGIN = 1e-6


def sweep(objective: LowPassObjective) -> Result:
    """Return the exact maximum of ``objective`` over w in [0, 1].

    The entropy is a step function of w (:mod:`.steps`), the rest of the objective is smooth and
    known in closed form, or a step function too where the objective quantizes. The maximum lies at
    a step, just before one, or where the smooth part has its own.

    Parameters
    ----------
    objective : LowPassObjective

    Returns
    -------
    Result
        ``history`` holds the best value on a grid of 1001 weights, at the steps, and after the last
        refinement. Where several weights are equally good (identical sources: all), the one nearest
        to 0.5.
    """
    began, evaluated = time.perf_counter(), objective.evaluations
    steps = objective.steps
    grid = np.linspace(0, 1, GRID)
    values = np.asarray(objective(grid))
    history = [float(values.max())]
    # Steps that cannot reach the best value of the grid are left out: within a cell of the grid the
    # smooth part exceeds the larger of its ends by less than MARGIN.
    fidelity = objective.fidelity(grid)
    cell = np.minimum((steps.weights * (GRID - 1)).astype(np.int32), GRID - 2)
    ceiling = np.maximum(fidelity[:-1], fidelity[1:]).take(cell) + (
        np.inf if objective.quantize else MARGIN
    )
    at, before = (
        steps.weights[objective.alphas[1] * entropies + ceiling >= history[0]]
        for entropies in (steps.entropies[1:], steps.entropies[:-1])
    )
    x = np.concatenate([grid, at, np.nextafter(before, 0)])
    values = np.asarray(objective(x))
    best = x[values == values.max()]
    w = float(best[np.abs(best - 0.5).argmin()])
    history.append(float(values.max()))
    # A maximum of the smooth part inside the step.
    step = int(steps.index(w))
    low = max(w - 1 / GRID, steps.weights[step - 1] if step > 0 else 0.0)
    high = min(
        w + 1 / GRID, np.nextafter(steps.weights[step], 0) if step < len(steps.weights) else 1.0
    )
    if low < high:
        inner = minimize_scalar(lambda t: -objective(t), bounds=(low, high), method="bounded").x
        w = max(w, float(inner), key=objective)
    value = float(objective(w))
    history.append(value)
    return Result(
        w, value, np.array(history), objective.evaluations - evaluated, time.perf_counter() - began
    )
