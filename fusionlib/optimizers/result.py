"""What every search returns, and how it asks for values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

FORMS = ("repaired", "printed")


@dataclass(frozen=True)
class Result:
    """The outcome of a search.

    Attributes
    ----------
    x : float, or (d,) array for d > 1 bounds
        Where the best value was found.
    value : float
        The objective there.
    history : (iterations + 1,) array
        Best value after the start and after each iteration.
    evaluations : int
        How many candidates were evaluated.
    seconds : float
        Wall time.
    positions : (iterations + 1, population, d) array or None
        The candidates evaluated at each iteration, for a picture of the swarm.
    """

    x: float | np.ndarray
    value: float
    history: np.ndarray
    evaluations: int
    seconds: float
    positions: np.ndarray | None = field(default=None, repr=False)


class Candidates:
    """Evaluates populations (n, d) with a callable of (n,) or (n, d) and keeps what it saw."""

    def __init__(
        self,
        f: Callable,
        bounds: Sequence[tuple[float, float]],
        population: int,
        iterations: int,
        seed: int,
        form: str = "repaired",
    ):
        if form not in FORMS:
            raise ValueError(f"form: expected one of {', '.join(FORMS)}, got {form!r}")
        whole = {"population": (population, 1), "iterations": (iterations, 0), "seed": (seed, 0)}
        for name, (value, least) in whole.items():
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")
        box = np.asarray(bounds, dtype=np.float64)
        if (
            box.ndim != 2
            or box.shape[1] != 2
            or not (np.isfinite(box).all() and (box[:, 0] < box[:, 1]).all())
        ):
            raise ValueError(
                f"bounds: expected a sequence of pairs (low, high) with low < high, got {bounds!r}"
            )
        self.f, (self.low, self.high) = f, box.T
        self.random = np.random.default_rng(seed)
        self.seen: list[np.ndarray] = []
        self.start = self.low + (self.high - self.low) * self.random.random((population, len(box)))

    def inside(self, x: np.ndarray) -> np.ndarray:
        return np.clip(x, self.low, self.high)

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        """Return the objective of each row of ``x``; raise ValueError where it is not a finite
        number.
        """
        values = np.asarray(self.f(x[:, 0] if x.shape[1] == 1 else x), dtype=np.float64)
        if values.shape != (len(x),):
            raise ValueError(
                f"f: expected {len(x)} values for {len(x)} candidates, got shape {values.shape}"
            )
        if not np.isfinite(values).all():
            worst = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(
                f"f: expected finite values, got {values[worst]} at {x[worst].tolist()}"
            )
        self.seen.append(x.copy())
        return values

    def result(self, x: np.ndarray, value: float, history: list[float], seconds: float) -> Result:
        return Result(
            float(x[0]) if x.size == 1 else x.copy(),
            float(value),
            np.array(history),
            sum(len(each) for each in self.seen),
            seconds,
            np.stack(self.seen),
        )
