"""Bat algorithm: eqs. (8) to (10) and algorithm 2 of Abas and Baykan 2021, after Yang 2010."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from .result import Candidates, Result


def bat(
    f: Callable,
    bounds: Sequence[tuple[float, float]] = ((0, 1),),
    population: int = 40,
    iterations: int = 40,
    seed: int = 0,
    form: str = "repaired",
    frequencies: tuple[float, float] = (0.0, 2.0),
    pulse_rate: float = 0.5,
    loudness: float = 0.25,
    alpha: float = 0.9,
    gamma: float = 0.9,
) -> Result:
    """Maximise ``f`` with the bat algorithm.

    Parameters
    ----------
    f, bounds
        As for :func:`.particle_swarm`.
    population, iterations, frequencies, pulse_rate, loudness
        Table 1 of the paper. With a loudness of 0.25 three of four improvements are refused at the
        start, more later.
    alpha, gamma : float
        Decay of the loudness and growth of the pulse rate. ASSUMPTION: alpha and gamma of the bat
        algorithm are not given; Yang's 0.9 and 0.9 are taken.
    seed : int
    form : "repaired" or "printed"
        "printed" is algorithm 2 to the letter: eq. (9) drives bats away from the best, line 11
        replaces the local solution by a flight whose step A^(-t) grows without limit, and line 12
        keeps a bat only where f is smaller than at the best. Bats end up in the corners of the box
        and a minimum is returned.

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        An unknown form, bad bounds or sizes, or an objective that is not finite.

    Notes
    -----
    ASSUMPTION: eq. (9) as printed (and in Yang 2010) accelerates a bat away from the best;
    repaired, it flies to it. ASSUMPTION: line 11 of algorithm 2 scales the random flight by A^(-t),
    which grows; repaired, it is the local step of lines 8 and 9 only, around the best, of the mean
    loudness times a uniform number in [-1, 1]. ASSUMPTION: line 12 of algorithm 2 keeps smaller
    values and compares with the best of all bats; repaired, a bat keeps a larger value than its
    own. ASSUMPTION: the best solution ever evaluated by the repaired bat algorithm is kept even
    where its bat, by its loudness, refuses it. ASSUMPTION: no rule is given for bats that leave the
    box [0, 1] of the weights; they are put back on its border, in both forms. ASSUMPTION: initial
    velocities of the bats are not given; they are 0.
    """
    began = time.perf_counter()
    bats = Candidates(f, bounds, population, iterations, seed, form)
    random, printed = bats.random, form == "printed"
    x, v = bats.start, np.zeros_like(bats.start)
    values = bats.evaluate(x)
    rate, loud = np.full(population, pulse_rate), np.full(population, loudness)
    best = int(values.argmin() if printed else values.argmax())
    x_star, best_value = x[best].copy(), values[best]
    history = [best_value]
    f_min, f_max = frequencies
    for t in range(1, iterations + 1):
        # Eq. (8): f_i = f_min + (f_max - f_min) beta
        frequency = f_min + (f_max - f_min) * random.random((population, 1))
        # Eq. (9): v = v + (x - x*) f; repaired: v = v + (x* - x) f
        v = v + (x - x_star if printed else x_star - x) * frequency
        # Eq. (10): x = x + v
        new = x + v
        local = random.random(population) > rate
        epsilon = random.uniform(-1, 1, x.shape)
        new[local] = (x_star + epsilon * loud.mean())[local]
        if printed:  # line 11
            with np.errstate(over="ignore"):
                new = new + epsilon * loud[:, None] ** -t
        new = bats.inside(new)
        new_values = bats.evaluate(new)
        better = new_values < best_value if printed else new_values > values
        accepted = (random.random(population) < loud) & better
        x[accepted], values[accepted] = new[accepted], new_values[accepted]
        rate[accepted] = pulse_rate * (1 - np.exp(-gamma * t))
        loud[accepted] *= alpha
        # Line 16: rank the bats and find the best.
        best = int(values.argmin() if printed else new_values.argmax())
        if printed:
            x_star, best_value = x[best].copy(), values[best]
        elif new_values[best] > best_value:
            x_star, best_value = new[best].copy(), new_values[best]
        history.append(best_value)
    return bats.result(x_star, best_value, history, time.perf_counter() - began)
