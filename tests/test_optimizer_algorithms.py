"""Algorithms 1 (particle swarm) and 2 (bat) of Abas and Baykan 2021 as plain loops over particles
and coordinates, on the same random numbers: equal positions, values and history in every iteration.
"""

import inspect
import math

import numpy as np
import pytest

from fusionlib.optimizers import bat, particle_swarm
from fusionlib.optimizers.result import Candidates

POPULATION, ITERATIONS = 6, 7
BOXES = [((0.0, 1.0),), ((0.0, 1.0), (-2.0, 1.5))]


def rugged(x):
    """A smooth slope to the border under many small hills, so that bests change hands often."""
    x = x.reshape(len(x), -1)
    hills = np.sin(37 * x + 3 * x[:, :1]).sum(axis=1)
    return hills + 2 * x.sum(axis=1)


def inner(x):
    """A single hill inside the box."""
    return -((x.reshape(len(x), -1) - 0.31) ** 2).sum(axis=1)


def terraces(x):
    """A hill in few steps: candidates are equally good as often as not."""
    return np.round(4 * inner(x))


def evaluate(f, x):
    points = np.array(x)
    return [float(v) for v in f(points[:, 0] if points.shape[1] == 1 else points)]


def start(random, bounds):
    unit = random.random((POPULATION, len(bounds)))
    return [
        [low + (high - low) * u for u, (low, high) in zip(row, bounds, strict=True)] for row in unit
    ]


def put_back(value, low, high):
    return low if value < low else high if value > high else value


def plain_particle_swarm(f, bounds, seed, form, inertia=0.1, c1=2.0, c2=2.0):
    random = np.random.default_rng(seed)
    x = start(random, bounds)
    dimensions = range(len(bounds))
    v = [[0.0 for _ in dimensions] for _ in x]
    own_best = [list(row) for row in x]
    own_value = evaluate(f, x)
    best = max(range(POPULATION), key=lambda i: own_value[i])
    global_best, global_value = list(x[best]), own_value[best]
    positions, history = [[list(row) for row in x]], [global_value]
    for _ in range(ITERATIONS):
        r1 = random.random((POPULATION, len(bounds)))
        r2 = random.random((POPULATION, len(bounds))) if form == "repaired" else r1
        for i in range(POPULATION):
            for d in dimensions:
                to_own = c1 * r1[i, d] * (own_best[i][d] - x[i][d])
                to_global = c2 * r2[i, d] * (global_best[d] - x[i][d])
                v[i][d] = inertia * v[i][d] + to_own + to_global  # eq. (6)
                moved = x[i][d] + v[i][d]  # eq. (7)
                x[i][d] = put_back(moved, *bounds[d])
                if x[i][d] != moved:
                    v[i][d] = 0.0
        values = evaluate(f, x)
        for i in range(POPULATION):
            better = values[i] > own_value[i] if form == "repaired" else values[i] < own_value[i]
            if better:
                own_best[i], own_value[i] = list(x[i]), values[i]
        pick = max if form == "repaired" else min
        best = pick(range(POPULATION), key=lambda i: values[i])
        if values[best] > global_value if form == "repaired" else values[best] < global_value:
            global_best, global_value = list(x[best]), values[best]
        positions.append([list(row) for row in x])
        history.append(global_value)
    return positions, history, global_best


def plain_bat(
    f,
    bounds,
    seed,
    form,
    frequencies=(0.0, 2.0),
    pulse_rate=0.5,
    loudness=0.25,
    alpha=0.9,
    gamma=0.9,
):
    random = np.random.default_rng(seed)
    x = start(random, bounds)
    printed, dimensions = form == "printed", range(len(bounds))
    v = [[0.0 for _ in dimensions] for _ in x]
    values = evaluate(f, x)
    rates, loud = [pulse_rate] * POPULATION, [loudness] * POPULATION
    pick = min if printed else max
    best = pick(range(POPULATION), key=lambda i: values[i])
    best_x, best_value = list(x[best]), values[best]
    positions, history = [[list(row) for row in x]], [best_value]
    for t in range(1, ITERATIONS + 1):
        beta = random.random((POPULATION, 1))
        pulse = random.random(POPULATION)
        epsilon = random.uniform(-1, 1, (POPULATION, len(bounds)))
        mean_loudness = sum(loud) / POPULATION
        asked = []
        for i in range(POPULATION):
            frequency = frequencies[0] + (frequencies[1] - frequencies[0]) * beta[i, 0]  # eq. (8)
            point = []
            for d in dimensions:
                away = x[i][d] - best_x[d]
                v[i][d] = v[i][d] + (away if printed else -away) * frequency  # eq. (9)
                moved = x[i][d] + v[i][d]  # eq. (10)
                if pulse[i] > rates[i]:
                    moved = best_x[d] + epsilon[i, d] * mean_loudness
                if printed:
                    moved = moved + epsilon[i, d] * loud[i] ** (-t)
                point.append(put_back(moved, *bounds[d]))
            asked.append(point)
        new_values = evaluate(f, asked)
        chance = random.random(POPULATION)
        for i in range(POPULATION):
            better = new_values[i] < best_value if printed else new_values[i] > values[i]
            if chance[i] < loud[i] and better:
                x[i], values[i] = list(asked[i]), new_values[i]
                rates[i] = pulse_rate * (1 - math.exp(-gamma * t))
                loud[i] = alpha * loud[i]
        if printed:
            best = min(range(POPULATION), key=lambda i: values[i])
            best_x, best_value = list(x[best]), values[best]
        else:
            best = max(range(POPULATION), key=lambda i: new_values[i])
            if new_values[best] > best_value:
                best_x, best_value = list(asked[best]), new_values[best]
        positions.append(asked)
        history.append(best_value)
    return positions, history, best_x


SEARCHES = {
    "swarm": (particle_swarm, plain_particle_swarm, {}),
    "heavy swarm": (particle_swarm, plain_particle_swarm, {"inertia": 0.7, "c1": 1.2, "c2": 1.9}),
    "bat": (bat, plain_bat, {}),
    "loud bat": (
        bat,
        plain_bat,
        {
            "frequencies": (0.3, 1.1),
            "pulse_rate": 0.6,
            "loudness": 0.95,
            "alpha": 0.8,
            "gamma": 0.4,
        },
    ),
}


@pytest.mark.parametrize("f", [rugged, inner, terraces])
@pytest.mark.parametrize("bounds", BOXES)
@pytest.mark.parametrize("form", ["repaired", "printed"])
@pytest.mark.parametrize("name", SEARCHES)
def test_every_iteration_is_that_of_the_plain_loop(name, form, bounds, f):
    search, plain, options = SEARCHES[name]
    for seed in (0, 7, 12):
        asked = []

        def recorded(x, asked=asked):
            asked.append(x.copy())
            return f(x)

        result = search(recorded, bounds, POPULATION, ITERATIONS, seed, form, **options)
        positions, history, best = plain(f, bounds, seed, form, **options)
        shape = (ITERATIONS + 1, POPULATION, len(bounds))
        np.testing.assert_allclose(np.reshape(asked, shape), positions, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(result.positions, np.reshape(asked, shape))
        np.testing.assert_allclose(result.history, history, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(np.atleast_1d(result.x), best, rtol=1e-9, atol=1e-12)
        assert result.value == result.history[-1]
        assert result.evaluations == POPULATION * (ITERATIONS + 1)


def test_the_defaults_are_table_1():
    """Table 1 of the paper, and Yang's 0.9 and 0.9."""
    common = {"population": 40, "iterations": 40, "seed": 0, "form": "repaired"}
    common["bounds"] = ((0, 1),)
    swarm = common | {"inertia": 0.1, "c1": 2.0, "c2": 2.0}
    bats = common | {"frequencies": (0.0, 2.0), "pulse_rate": 0.5, "loudness": 0.25}
    for search, expected in ((particle_swarm, swarm), (bat, bats | {"alpha": 0.9, "gamma": 0.9})):
        parameters = inspect.signature(search).parameters.values()
        assert {p.name: p.default for p in parameters if p.name != "f"} == expected


def test_the_start_and_the_smallest_sizes():
    candidates = Candidates(inner, [(2, 4), (-3, -1)], 5, 0, 8)
    unit = np.random.default_rng(8).random((5, 2))
    np.testing.assert_allclose(candidates.start, [2, -3] + 2 * unit, rtol=1e-15)
    for search in (particle_swarm, bat):
        result = search(inner, population=1, iterations=0)
        assert result.evaluations == 1 and result.history.shape == (1,)
        assert result.positions.shape == (1, 1, 1)
        for sizes in ({"population": 0}, {"iterations": -1}, {"population": True}):
            with pytest.raises(ValueError, match="expected an integer of at least [01]"):
                search(inner, **sizes)
        bad = (((1, 1),), ((0, np.inf),), ((0, 1, 2),), (0, 1), ((0, 1), (2, 1)))
        for bounds in bad:
            with pytest.raises(ValueError, match="bounds: expected a sequence of pairs"):
                search(inner, bounds=bounds)


def test_an_objective_that_is_not_finite_names_the_first_bad_candidate():
    with pytest.raises(ValueError, match=r"got nan at \[0\.2697"):
        first = np.random.default_rng(0).random(3)  # 0.637, 0.270, 0.041
        particle_swarm(lambda x: np.where(x < first[1] + 1e-9, np.nan, 1.0), population=3)
    with pytest.raises(ValueError, match=r"expected 3 values for 3 candidates, got shape \(1,\)"):
        bat(lambda x: x[:1], population=3)
