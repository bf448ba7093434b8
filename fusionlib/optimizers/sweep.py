"""The exact optimum of the low-pass weight: of all weights at which a pixel changes its gray level,
those that may be the best are run through.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar

from .cells import Cells, cells, changes, entropies
from .result import Result
from .steps import steps

if TYPE_CHECKING:
    from .objective import LowPassObjective

GRID = 1024  # cells of the first look; a power of two, see cells()
MOST_CELLS = 4 * GRID
ENOUGH = 2**20  # steps that are sorted together, or an eighth of the pixels
MARGIN = 1e-6


def sweep(objective: LowPassObjective) -> Result:
    """Return the exact maximum of ``objective`` over w in [0, 1].

    The entropy is a step function of w (:mod:`.steps`), the rest of the objective is smooth and
    known in closed form, or a step function too where the objective quantizes. The maximum lies at
    a step, just before one, or where the smooth part has its own. Cells of weights that cannot hold
    it (:mod:`.cells`) are left out, the rest is divided again and at last sorted: memory is that of
    the image, however many steps there are, unless the objective quantizes.

    Parameters
    ----------
    objective : LowPassObjective

    Returns
    -------
    Result
        ``history`` holds the best value at the edges of the cells, at the steps, and after the last
        refinement. Where several weights are equally good (identical sources: all), the one nearest
        to 0.5.
    """
    began = time.perf_counter()
    maxima = [_best(objective, edges) for edges in _promising(objective)]
    history = np.array([values for _, values, _ in maxima]).max(axis=0)
    w = min((w for w, values, _ in maxima if values[-1] == history[-1]), key=lambda w: abs(w - 0.5))
    evaluations = sum(count for *_, count in maxima)
    objective.evaluations += evaluations
    return Result(w, float(history[-1]), history, evaluations, time.perf_counter() - began)


def _promising(objective: LowPassObjective) -> Iterator[np.ndarray]:
    """Yield the edges of cells side by side that may hold the maximum, as many as are sorted
    together.
    """
    grid, share = np.linspace(0, 1, GRID + 1), objective.alphas[1]
    enough = max(ENOUGH, objective.p.size // 8)
    # rounded images are sorted at once with their sums; a small entropy has no bound here
    if objective.quantize or share < 0 or changes(objective.p, objective.d) <= enough:
        yield grid
        return
    low, high, number, best = 0.0, 1.0, GRID, -np.inf
    while True:
        looked = cells(objective.p, objective.d, low, high, number)
        fidelity = objective.fidelity(looked.edges)
        best = max(best, float((fidelity + share * entropies(looked.counts)).max()))
        # within a cell the smooth part exceeds the larger of its ends by less than MARGIN
        ceilings = np.maximum(fidelity[:-1], fidelity[1:]) + MARGIN + share * looked.ceilings()
        kept = np.flatnonzero(ceilings >= best)
        first, last = int(kept[0]), int(kept[-1]) + 1
        finer = 2 ** int(np.log2(MOST_CELLS / (last - first)))
        if finer < 2 or looked.steps[kept].sum() <= enough:
            break
        low, high, number = *looked.edges[[first, last]], finer * (last - first)
    yield from _together(looked, kept, enough)


def _together(looked: Cells, kept: np.ndarray, enough: int) -> Iterator[np.ndarray]:
    """Yield the edges of cells side by side, until each of ``kept`` was among them: of at most
    ``enough`` steps, or one cell.
    """
    passed = np.concatenate([[0], looked.steps.cumsum()])
    while kept.size:
        first = kept[0]
        end = np.searchsorted(passed, passed[first] + enough, side="right") - 1
        here = kept[kept < max(end, first + 1)]
        yield looked.edges[first : here[-1] + 2]
        kept = kept[here.size :]


def _best(objective: LowPassObjective, edges: np.ndarray) -> tuple[float, list[float], int]:
    """Return the best weight between the first and the last of ``edges``, the best values (at the
    edges, at the steps, in the end), and how many weights were looked at.
    """
    low, high = float(edges[0]), float(edges[-1])
    if objective.quantize:
        plateaus = objective.steps
    else:
        plateaus = steps(objective.p, objective.d, start=low, end=high)
    x = np.concatenate([edges, plateaus.weights, np.nextafter(plateaus.weights, 0)])
    values = objective.alphas[1] * plateaus.entropies[plateaus.index(x)] + objective.fidelity(x)
    history = [float(values[: len(edges)].max()), float(values.max())]
    best = x[values == history[-1]]
    w = float(best[np.abs(best - 0.5).argmin()])
    # A maximum of the smooth part inside the step.
    step, count = int(plateaus.index(w)), len(plateaus.weights)
    low = max(w - 1 / GRID, plateaus.weights[step - 1] if step > 0 else low)
    high = min(w + 1 / GRID, np.nextafter(plateaus.weights[step], 0) if step < count else high)
    if low < high:
        inside = minimize_scalar(
            lambda t: -objective.fidelity(t), bounds=(low, high), method="bounded"
        )
        value = objective.alphas[1] * plateaus.entropies[step] - float(inside.fun)
        if value > history[-1]:
            return float(inside.x), [*history, value], len(x) + inside.nfev
    return w, [*history, history[-1]], len(x)
