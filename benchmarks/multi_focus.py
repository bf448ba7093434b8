"""Time and memory of the multi-focus search, transforms and swarms, beside the paper's way and
beside other libraries.

    python benchmarks/multi_focus.py [--sizes 512 1024] [--rounds 5] [--data FOLDER]

Everything in one run on one processor thread, in CPU time (best round), on a photograph blurred
once on each side:

search     40 particles, 40 iterations: the paper's way decomposes, fuses, rebuilds and measures for
each candidate (a
           few candidates are timed and scaled to all of them) against ours with everything it needs
           beforehand
sweep      1001 weights, and the exact optimum, both with everything they need beforehand
curvelets  forward and inverse, and the bare Fourier transforms with the same shapes
pyramid    against the same levels with OpenCV's pyrDown and pyrUp, on 64-bit numbers as ours
swarms     the same objective given to NiaPy and PySwarms
memory     peak of all arrays alive together

With ``--data FOLDER`` (of ``a/NAME`` and ``b/NAME``) the swarms run with 20 seeds on every pair
with both transforms; no result may exceed the exact optimum by more than 1e-6. The exit code is 1
if a target is missed. Libraries that are not installed are named.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter, zoom
from skimage.data import camera

from fusionlib import images, metrics
from fusionlib.optimizers import LowPassObjective, bat, particle_swarm, sweep
from fusionlib.optimizers.steps import steps
from fusionlib.transforms import Curvelet, LaplacianPyramid
from fusionlib.transforms.curvelet import FINEST
from fusionlib.transforms.wrapping import plan

CANDIDATES = 40 * 41
failures: list[str] = []


def cpu(work: Callable, rounds: int) -> float:
    """Return the CPU seconds of the fastest round."""

    def once() -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    gc.collect()
    return min(once() for _ in range(rounds))


def megabytes(work: Callable) -> float:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def say(what: str, seconds: float, note: str = "") -> None:
    print(f"  {what:<46}{seconds * 1e3:>12.2f} ms   {note}", flush=True)


def target(name: str, value: float, limit: float, least: bool = False) -> str:
    """Say whether a target is met and remember where it is not."""
    met = value >= limit if least else value <= limit
    if not met:
        failures.append(f"{name}: {value:.4g}, target {'>=' if least else '<='} {limit:g}")
    return f"{value:.3g} (target {'>=' if least else '<='} {limit:g}: {'met' if met else 'MISSED'})"


def peer(name: str) -> ModuleType | None:
    try:
        with warnings.catch_warnings(), TemporaryDirectory() as folder, contextlib.chdir(folder):
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError:
        print(f"  {name} is not installed: not compared (pip install -e '.[bench]')")
        return None


def pair(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two images of one photograph, blurred on the left and on the right, the second a
    little brighter.
    """
    sharp = camera().astype(np.float64)
    if size != sharp.shape[0]:
        sharp = zoom(sharp, size / sharp.shape[0], order=1)[:size, :size]
    blurred = gaussian_filter(sharp, 3 * size / 512)
    left = np.arange(size) < size // 2
    return images.to_uint8(np.where(left, sharp, blurred)), images.to_uint8(
        np.where(left, blurred, sharp) * 0.98 + 4
    )


def paper_style(a: np.ndarray, b: np.ndarray, transform, w: float) -> float:
    """Evaluate one candidate as algorithms 3 and 4 of the paper do: the whole fusion, then CC, EN
    and RMSE.
    """
    bands_a, bands_b = transform.forward(a), transform.forward(b)
    return score(
        images.to_uint8(
            transform.inverse(transform.fuse(bands_a, bands_b, base="weighted", weight=w))
        ),
        a,
        b,
    )


def score(fused: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Return Eq. (17) of a rounded image."""
    scores = metrics.evaluate(fused, a, b, ["CC", "EN", "RMSE"], "multi-focus")
    return 0.25 * scores["CC"] + 0.25 * scores["EN"] + 0.5 / scores["RMSE"]


def bench_search(a: np.ndarray, b: np.ndarray, transform, rounds: int) -> None:
    def objective() -> LowPassObjective:
        return LowPassObjective(a, b, transform)

    prepared, grid = objective(), np.linspace(0, 1, 1001)
    name = f"{type(transform).__name__} {a.shape[0]}x{a.shape[1]}"
    print(f"search, {name} ({len(prepared.steps.weights) / a.size:.2f} gray-level changes a pixel)")
    candidate = cpu(lambda: paper_style(a, b, transform, 0.37), 3)
    say("one candidate, the paper's way", candidate)
    say("  of which: metrics", cpu(lambda: score(prepared.fused(0.37), a, b), rounds))
    say(
        "40 x 40 search, the paper's way",
        candidate * CANDIDATES,
        f"{CANDIDATES} x one candidate, scaled",
    )
    for search in (particle_swarm, bat):
        ours = cpu(lambda search=search: search(objective()), rounds)
        say(
            f"40 x 40 search, ours, {search.__name__}",
            ours,
            "ratio "
            + target(
                f"{name} {search.__name__} speed-up", candidate * CANDIDATES / ours, 200, least=True
            ),
        )
    say("  of which: transforms, inner products", cpu(objective, rounds))
    say("  of which: all gray-level changes", cpu(lambda: steps(prepared.p, prepared.d), rounds))
    say("  of which: the swarm", cpu(lambda: particle_swarm(prepared), rounds))
    say(
        "1001 weights",
        cpu(lambda: objective()(grid), rounds),
        f"{cpu(lambda: prepared(grid), rounds) * 1e3:.2f} ms prepared",
    )
    say(
        "the exact optimum",
        cpu(lambda: sweep(objective()), rounds),
        f"{cpu(lambda: sweep(prepared), rounds) * 1e3:.2f} ms prepared",
    )
    print(f"  peak memory of the exact optimum: {megabytes(lambda: sweep(objective())):.0f} MB")


def bench_curvelet(x: np.ndarray, finest: str, rounds: int) -> None:
    side = x.shape[0]
    print(f"curvelets, {side}x{x.shape[1]}, real, finest {finest}")
    plan.cache_clear()
    began = time.process_time()
    transform = Curvelet(x.shape, finest=finest)
    say("plan, once a size", time.process_time() - began)
    bands, spectrum = transform.forward(x), fft.fft2(x)
    groups = plan(transform.shape, transform.scales, transform.angles, finest, True).groups
    stacks = [np.zeros((len(group.places), *group.shape), complex) for group in groups]
    stacks.append(np.zeros(bands.low.shape, complex))

    def bare() -> None:
        fft.fft2(x)
        for stack in stacks:
            fft.ifft2(stack, overwrite_x=True)
            fft.fft2(stack, overwrite_x=True)
        if finest == "wavelets":
            fft.ifft2(spectrum)
            fft.fft2(x)
        fft.ifft2(spectrum)

    forward, inverse = (
        cpu(lambda: transform.forward(x), rounds),
        cpu(lambda: transform.inverse(bands), rounds),
    )
    ffts = cpu(bare, rounds)
    say("forward", forward)
    say("inverse", inverse)
    say("their FFTs alone", ffts)
    note = "ratio to the FFTs " + target(
        f"curvelets {side} {finest} / FFTs", (forward + inverse) / ffts, 3
    )
    if side == 512:
        note += ", seconds " + target(f"curvelets {side} {finest}", forward + inverse, 0.2)
    say("forward + inverse", forward + inverse, note)
    plan.cache_clear()
    print(
        f"  peak memory: plan {megabytes(lambda: Curvelet(x.shape, finest=finest)):.0f} MB, "
        f"forward and inverse {megabytes(lambda: transform.inverse(transform.forward(x))):.0f} MB"
    )


def bench_pyramid(x: np.ndarray, rounds: int) -> None:
    print(f"pyramid, {x.shape[0]}x{x.shape[1]}, 4 levels")
    x, pyramid = x.astype(np.float64), LaplacianPyramid()
    bands = pyramid.forward(x)
    ours = cpu(lambda: pyramid.forward(x), rounds), cpu(lambda: pyramid.inverse(bands), rounds)
    say("forward, ours", ours[0])
    say("inverse, ours", ours[1])
    cv2 = peer("cv2")
    if cv2 is None:
        return
    cv2.setNumThreads(1)

    def forward() -> list[np.ndarray]:
        levels, current = [], x
        for _ in range(4):
            smaller = cv2.pyrDown(current)
            levels.append(current - cv2.pyrUp(smaller, dstsize=current.shape[::-1]))
            current = smaller
        return [*levels, current]

    def inverse(levels: list[np.ndarray]) -> np.ndarray:
        current = levels[-1]
        for level in levels[-2::-1]:
            current = cv2.pyrUp(current, dstsize=level.shape[::-1]) + level
        return current

    levels = forward()
    peer_seconds = cpu(forward, rounds), cpu(lambda: inverse(levels), rounds)
    for name, our_seconds, opencv_seconds in zip(
        ("forward", "inverse"), ours, peer_seconds, strict=True
    ):
        say(f"{name}, OpenCV", opencv_seconds, f"ours / OpenCV {our_seconds / opencv_seconds:.1f}")


def bench_swarms(a: np.ndarray, b: np.ndarray, rounds: int) -> None:
    objective = LowPassObjective(a, b, LaplacianPyramid())
    exact = sweep(objective).value
    print(
        f"swarms on one prepared objective, {a.shape[0]}x{a.shape[1]}, 40 x 40, 5 seeds: worst gap"
        " to the optimum"
    )

    def report(name: str, run: Callable[[int], float]) -> None:
        objective.evaluations = 0
        gap = max(exact - run(seed) for seed in range(5))
        evaluations = objective.evaluations / 5
        say(name, cpu(lambda: run(0), rounds), f"gap {gap:.1e}, {evaluations:.0f} evaluations")

    report("particle_swarm, ours", lambda seed: particle_swarm(objective, seed=seed).value)
    report("bat, ours", lambda seed: bat(objective, seed=seed).value)
    pyswarms = peer("pyswarms")
    if pyswarms is not None:

        def swarm(seed: int) -> float:
            np.random.seed(seed)  # noqa: NPY002  (the library draws from the global generator)
            search = pyswarms.single.GlobalBestPSO(
                40, 1, {"c1": 2.0, "c2": 2.0, "w": 0.1}, bounds=([0.0], [1.0])
            )
            return -search.optimize(
                lambda x: -objective(np.clip(x[:, 0], 0, 1)), 40, verbose=False
            )[0]

        # it writes a log where it runs
        with TemporaryDirectory() as folder, contextlib.chdir(folder):
            report("PySwarms GlobalBestPSO", swarm)
    niapy = peer("niapy")
    if niapy is not None:
        from niapy.algorithms.basic import BatAlgorithm, ParticleSwarmAlgorithm
        from niapy.problems import Problem
        from niapy.task import OptimizationType, Task

        class Fusion(Problem):
            def __init__(self):
                super().__init__(dimension=1, lower=0.0, upper=1.0)

            def _evaluate(self, x):
                return objective(float(np.clip(x[0], 0, 1)))

        def run(algorithm: Callable) -> Callable[[int], float]:
            return lambda seed: algorithm(seed).run(
                Task(
                    Fusion(), max_evals=CANDIDATES, optimization_type=OptimizationType.MAXIMIZATION
                )
            )[1]

        report(
            "NiaPy ParticleSwarmAlgorithm",
            run(
                lambda seed: ParticleSwarmAlgorithm(
                    population_size=40,
                    c1=2.0,
                    c2=2.0,
                    w=0.1,
                    min_velocity=-1.0,
                    max_velocity=1.0,
                    seed=seed,
                )
            ),
        )
        report(
            "NiaPy BatAlgorithm",
            run(
                lambda seed: BatAlgorithm(
                    population_size=40,
                    loudness=0.25,
                    pulse_rate=0.5,
                    alpha=0.9,
                    gamma=0.9,
                    min_frequency=0.0,
                    max_frequency=2.0,
                    seed=seed,
                )
            ),
        )


def check_pairs(folder: Path) -> None:
    """Run both swarms with 20 seeds on every pair and compare with the exact optimum and the naive
    evaluation.
    """
    print(
        f"pairs of {folder.name}: best swarm of 20 seeds minus the exact optimum, worst gap; error"
        " of ours against the naive evaluation unrounded, rounded"
    )
    firsts, seconds = images.list_images(folder / "a"), images.list_images(folder / "b")
    for name in firsts:
        a, b = (images.luma(images.read(files[name])) for files in (firsts, seconds))
        for transform in (LaplacianPyramid(), Curvelet(a.shape)):
            plain, rounded = (
                LowPassObjective(a, b, transform, quantize=kind) for kind in (False, True)
            )
            exact = sweep(plain)
            gains = [
                search(plain, seed=seed).value - exact.value
                for seed in range(20)
                for search in (particle_swarm, bat)
            ]
            bands = transform.forward(a), transform.forward(b)
            errors = []
            for w in np.random.default_rng(0).random(3):
                image = transform.inverse(transform.fuse(*bands, base="weighted", weight=w))
                fused = images.to_uint8(image)
                scores = metrics.evaluate(fused, a, b, ["CC", "EN", "RMSE"], "multi-focus")
                cc = np.mean(
                    [np.corrcoef(source.ravel(), image.ravel())[0, 1] for source in (a, b)]
                )
                rmse = np.mean(
                    [np.sqrt(((source.astype(float) - image) ** 2).mean()) for source in (a, b)]
                )
                f = [
                    0.25 * c + 0.25 * scores["EN"] + 0.5 / e
                    for c, e in ((cc, rmse), (scores["CC"], scores["RMSE"]))
                ]
                errors.append(
                    (
                        abs(f[0] - plain(w)),
                        abs(f[1] - plain(w)),
                        abs(f[1] - rounded(w)),
                        abs(scores["EN"] - plain.terms(w)["EN"]),
                    )
                )
            errors = np.max(errors, axis=0)
            label = f"{name} {type(transform).__name__}"
            target(f"{label}: swarm above the exact optimum", max(gains), 1e-6)
            target(f"{label}: unrounded against naive", errors[0], 1e-6)
            target(f"{label}: rounded (quantize) against metrics", errors[2], 1e-4)
            target(f"{label}: entropy", errors[3], 1e-10)
            print(
                f"  {label:<30} w* {exact.x:.6f} f* {exact.value:.6f}  {max(gains):+.1e} "
                f" {-min(gains):.1e}  {errors[0]:.0e}  {errors[2]:.0e} (quantize=False"
                f" {errors[1]:.0e})  entropy {errors[3]:.0e}",
                flush=True,
            )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[512, 1024])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    for size in options.sizes:
        a, b = pair(size)
        for transform in (LaplacianPyramid(), Curvelet(a.shape, scales=5)):
            bench_search(a, b, transform, options.rounds)
        for finest in FINEST:
            bench_curvelet(a, finest, options.rounds)
        bench_pyramid(a, options.rounds)
        bench_swarms(a, b, options.rounds)
    if options.data:
        check_pairs(options.data)
    for failure in failures:
        print("missed:", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
