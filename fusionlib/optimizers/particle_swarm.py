"""Particle swarm: eqs. (6), (7) and algorithm 1 of Abas and Baykan 2021, after Kennedy and Eberhart
1995.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from .result import Candidates, Result


def particle_swarm(
    f: Callable,
    bounds: Sequence[tuple[float, float]] = ((0, 1),),
    population: int = 40,
    iterations: int = 40,
    seed: int = 0,
    form: str = "repaired",
    inertia: float = 0.1,
    c1: float = 2.0,
    c2: float = 2.0,
) -> Result:
    """Maximise ``f`` with a particle swarm.

    Parameters
    ----------
    f : callable
        Vectorised objective: takes an array (n,) for one pair of bounds, (n, d) for d pairs;
        returns (n,).
    bounds : sequence of pairs
        Box of the search. The paper searches two weights, ``((0, 1), (0, 1))``, of which only the
        ratio matters.
    population, iterations, inertia, c1, c2
        Table 1 of the paper.
    seed : int
    form : "repaired" or "printed"
        "printed" is algorithm 1 to the letter: lines 11 and 14 keep a position when f is smaller,
        although line 3 picks the maximum and the text maximises. The swarm then walks to the worst
        weights: what is returned is a minimum, and the history falls.

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        An unknown form, bad bounds or sizes, or an objective that is not finite.

    Notes
    -----
    ASSUMPTION: algorithm 1 keeps smaller values in lines 11 and 14 but selects the maximum in
    line 3; the repaired particle swarm maximises. ASSUMPTION: eq. (6) writes one symbol rand twice;
    the repaired particle swarm draws two independent numbers for each particle and coordinate, the
    printed form uses one number for both terms. ASSUMPTION: algorithm 1 updates an inertia weight
    whose limits are nowhere given; it stays at the 0.1 of table 1. ASSUMPTION: no rule is given for
    particles that leave the box [0, 1] of the weights; they are put back on its border with
    velocity 0, in both forms. ASSUMPTION: initial velocities are not given; they are 0. ASSUMPTION:
    f(gbest X_i) in algorithm 1 gives each particle a global best of its own; one for the swarm is
    meant.

    Examples
    --------
    >>> result = particle_swarm(lambda w: -((w - 0.3) ** 2))
    >>> round(float(result.x), 6), result.evaluations
    (0.3, 1640)
    """
    began = time.perf_counter()
    swarm = Candidates(f, bounds, population, iterations, seed, form)
    better = np.greater if form == "repaired" else np.less
    x, v = swarm.start, np.zeros_like(swarm.start)
    p_best, p_value = x.copy(), swarm.evaluate(x)
    best = int(p_value.argmax())  # line 3: the maximum, in both forms
    g_best, g_value = x[best].copy(), p_value[best]
    history = [g_value]
    for _ in range(iterations):
        r1 = swarm.random.random(x.shape)
        r2 = swarm.random.random(x.shape) if form == "repaired" else r1
        # Eq. (6): v = w v + c1 rand (p_best - x) + c2 rand (g_best - x)
        v = inertia * v + c1 * r1 * (p_best - x) + c2 * r2 * (g_best - x)
        # Eq. (7): x = x + v
        moved = x + v
        x = swarm.inside(moved)
        v[moved != x] = 0
        values = swarm.evaluate(x)
        improved = better(values, p_value)
        p_best[improved], p_value[improved] = x[improved], values[improved]
        best = int(values.argmax() if form == "repaired" else values.argmin())
        if better(values[best], g_value):
            g_best, g_value = x[best].copy(), values[best]
        history.append(g_value)
    return swarm.result(g_best, g_value, history, time.perf_counter() - began)
