"""The low-pass objective against the naive evaluation, swarms against the exact sweep, degenerate
images, bad input.
"""

import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from conftest import REAL
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from fusionlib import images, metrics
from fusionlib.optimizers import LowPassObjective, bat, particle_swarm, sweep
from fusionlib.optimizers.cells import cells, entropies, histogram
from fusionlib.transforms import Curvelet, LaplacianPyramid

WEIGHTS = [0.0, 0.137, 0.37, 0.5, 0.52, 0.861, 1.0]
DATA = REAL["FUSION_DATA"]
needs_data = pytest.mark.skipif(
    not DATA, reason="FUSION_DATA is not set: no real multi-focus pairs"
)


def scene(shape=(72, 81), seed=0) -> tuple[np.ndarray, np.ndarray]:
    """Return two half-blurred pictures of one random scene, one a little darker."""
    rng = np.random.default_rng(seed)
    sharp = gaussian_filter(rng.normal(size=shape), 1) * 90 + np.linspace(40, 190, shape[1])
    blurred = gaussian_filter(sharp, 3)
    left = np.arange(shape[1]) < shape[1] // 2
    return images.to_uint8(np.where(left, sharp, blurred)), images.to_uint8(
        np.where(left, blurred, sharp) - 7.3
    )


def real_pair(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a pair in the paper's order, the second file first."""
    folder = Path(DATA) / "mfif" / "gray_classic"
    return tuple(images.read(images.list_images(folder / side)[name]) for side in "ba")


def transforms(shape):
    return [
        LaplacianPyramid(3),
        LaplacianPyramid(2, "reflect"),
        Curvelet(shape),
        Curvelet(shape, finest="wavelets"),
        Curvelet(shape, real=False),
    ]


def naive(image, a, b) -> dict[str, float]:
    """Write eqs. (14) to (16) down directly; the entropy of the image rounded to 8 bits."""
    counts = np.bincount(images.to_uint8(image).ravel(), minlength=256)
    p = counts[counts > 0] / image.size
    return {
        "CC": np.mean([np.corrcoef(source.ravel(), image.ravel())[0, 1] for source in (a, b)]),
        "EN": -(p * np.log2(p)).sum(),
        "RMSE": np.mean(
            [
                np.sqrt(((source - image) ** 2).mean())
                for source in (a.astype(float), b.astype(float))
            ]
        ),
    }


def value(terms) -> float:
    return 0.25 * terms["CC"] + 0.25 * terms["EN"] + 0.5 / terms["RMSE"]


def fuse(transform, a, b, w, **options) -> np.ndarray:
    bands_a, bands_b = transform.forward(a), transform.forward(b)
    return np.real(
        transform.inverse(transform.fuse(bands_a, bands_b, base="weighted", weight=w, **options))
    )


# ---- the objective -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", range(5))
def test_the_objective_equals_the_naive_evaluation(kind):
    a, b = scene()
    transform = transforms(a.shape)[kind]
    objective = LowPassObjective(a, b, transform)
    for w in WEIGHTS:
        image = fuse(transform, a, b, w)
        np.testing.assert_allclose(objective.image(w), image, atol=1e-11)
        expected, got = naive(image, a, b), objective.terms(w)
        for name in ("CC", "RMSE"):
            assert got[name] == pytest.approx(expected[name], abs=1e-10)
        # The same pixels in the same bins, but for those that lie on a half level up to rounding
        # error (w = 0, 0.5, 1).
        close = int((np.abs(image % 1 - 0.5) < 1e-11).sum())
        assert got["EN"] == pytest.approx(expected["EN"], abs=1e-10 + close * 20 / image.size)
        assert w in (0, 0.5, 1) or close == 0
        assert objective(w) == pytest.approx(value(expected), abs=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"rule": 1},
        {"rule": "salience", "area": 5},
        {"rule": 3, "area": 5},
        {"rule": lambda a, b: np.full(a.shape, 0.3)},
    ],
)
def test_rule_and_area_reach_the_transform(options):
    a, b = scene()
    transform = LaplacianPyramid(2)
    image = LowPassObjective(a, b, transform, **options).image(0.3)
    np.testing.assert_allclose(image, fuse(transform, a, b, 0.3, **options), atol=1e-11)
    assert not np.allclose(image, LowPassObjective(a, b, transform, rule="signed").image(0.3))


@pytest.mark.parametrize("kind", [0, 2])
def test_against_the_metrics_of_the_rounded_image(kind):
    a, b = scene()
    transform = transforms(a.shape)[kind]
    plain, quantized = (
        LowPassObjective(a, b, transform),
        LowPassObjective(a, b, transform, quantize=True),
    )
    for w in WEIGHTS:
        scores = metrics.evaluate(plain.fused(w), a, b, ["CC", "EN", "RMSE"], "multi-focus")
        assert quantized(w) == pytest.approx(value(scores), abs=1e-11)
        assert quantized.terms(w) == pytest.approx(scores, abs=1e-11)
        assert plain.terms(w)["EN"] == pytest.approx(scores["EN"], abs=1e-11)
        # Rounding adds 1/12 to the squared error of a few gray levels, and hardly anything to the
        # correlation.
        assert plain(w) == pytest.approx(value(scores), abs=3e-4)
    assert np.array_equal(quantized(np.array([0.2, 0.4])), [quantized(0.2), quantized(0.4)])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(0, 1), st.sampled_from([0.01, 1, 30, 400]))
def test_the_entropy_is_exact_at_any_weight(seed, w, spread):
    rng = np.random.default_rng(seed)
    objective = LowPassObjective(*scene((24, 24), seed), LaplacianPyramid(2))
    # Other lines than those of real pictures: steep ones, clipped ones.
    objective.p, objective.d = rng.uniform(-40, 290, (24, 24)), rng.normal(0, spread, (24, 24))
    expected = naive(objective.p + w * objective.d, *objective.sources)["EN"]
    assert objective.entropy(w) == pytest.approx(expected, abs=1e-11)


def test_half_levels_round_up_on_both_sides_of_a_step():
    objective = LowPassObjective(*scene((24, 24)), LaplacianPyramid(2))
    objective.p = np.tile([10.0, 11.0, 30.0, 40.5], (24, 6))
    # half a level exactly at w = 0.5, 0.5, never, 0
    objective.d = np.tile([1.0, -1.0, 0.0, -1.0], (24, 6))
    for w in (0, 1e-9, 0.5 - 1e-9, 0.5, 0.5 + 1e-9, 1):
        expected = naive(objective.p + w * objective.d, *objective.sources)["EN"]
        assert objective.entropy(w) == pytest.approx(expected, abs=1e-12)


def test_large_events_are_handled_in_parts(monkeypatch):
    from fusionlib.optimizers import steps as module

    p, d = np.random.default_rng(0).normal(100, 50, (2, 30, 40))
    others = tuple(np.random.default_rng(1).integers(0, 256, (2, 30, 40), dtype=np.uint8))
    monkeypatch.setattr(module, "AT_ONCE", 10**9)
    whole = module.steps(p, d, others)
    monkeypatch.setattr(module, "AT_ONCE", 300)  # here half the pixels: 600
    again = module.steps(p, d, others)
    assert len(whole.weights) > 10_000
    assert np.array_equal(whole.weights, again.weights)
    assert np.array_equal(whole.sums, again.sums)
    np.testing.assert_allclose(whole.entropies, again.entropies, atol=1e-12)


def test_vectors_pairs_and_the_count_of_evaluations():
    objective = LowPassObjective(*scene(), LaplacianPyramid(3))
    w = np.array([0.1, 0.5, 0.9])
    values = objective(w)
    assert values.shape == (3,)
    assert objective.evaluations == 3
    assert values.tolist() == [objective(each) for each in w]
    pairs = np.array([[0.05, 0.45], [0.5, 0.5], [0.9, 0.1], [0, 0]])
    np.testing.assert_allclose(objective(pairs), [*values, objective(0.5)], rtol=1e-14)
    assert isinstance(objective(0.5), float)
    assert [objective.weight(x) for x in (0.3, [0.3], [0.2, 0.6], [0, 0])] == [
        0.3,
        0.3,
        pytest.approx(0.25),
        0.5,
    ]


def test_other_alphas_share_the_work():
    objective = LowPassObjective(*scene(), LaplacianPyramid(3))
    only_entropy = objective.with_alphas((0, 1, 0))
    assert only_entropy(0.3) == objective.terms(0.3)["EN"]
    assert only_entropy.steps is objective.steps
    assert objective.alphas == (0.25, 0.25, 0.5)


@pytest.mark.parametrize(
    "transform", [LaplacianPyramid(3), LaplacianPyramid(3, "reflect"), Curvelet((40, 48))]
)
def test_identical_and_constant_images_are_defined(transform):
    a = scene((40, 48))[0]
    flat, other = np.full((40, 48), 50, np.uint8), np.full((40, 48), 90, np.uint8)
    pairs = (a, a), (flat, flat), (flat, other), (a, flat), (np.zeros_like(a), np.full_like(a, 255))
    for pair, quantize in product(pairs, (False, True)):
        objective = LowPassObjective(*pair, transform, quantize=quantize)
        values = objective(np.linspace(0, 1, 11))
        assert np.isfinite(values).all()
        best, found = sweep(objective), (particle_swarm(objective), bat(objective))
        assert max(result.value for result in found) <= best.value + 1e-6
        if pair[0] is pair[1]:
            np.testing.assert_allclose(values, values[0], rtol=1e-9)
            assert best.x == pytest.approx(0.5, abs=1e-3)
            assert np.array_equal(objective.fused(best.x), pair[0])
    assert (LowPassObjective(flat, other, transform).terms(np.array([0.2, 0.6]))["CC"] == 0).all()


# ---- the searches --------------------------------------------------------------------------------


@pytest.mark.parametrize("search", [particle_swarm, bat])
def test_a_smooth_maximum_is_found_in_one_and_two_dimensions(search):
    result = search(lambda w: -((w - 0.3) ** 2), seed=1)
    assert result.x == pytest.approx(0.3, abs=5e-3)
    assert result.evaluations == 40 * 41
    assert result.history.shape == (41,)
    assert (np.diff(result.history) >= 0).all()
    assert result.value == result.history[-1] == -((result.x - 0.3) ** 2)
    assert result.positions.shape == (41, 40, 1)
    two = search(
        lambda x: -((x - [1.5, -2]) ** 2).sum(axis=1),
        bounds=((0, 2), (-3, 0)),
        iterations=80,
        seed=2,
    )
    np.testing.assert_allclose(two.x, [1.5, -2], atol=0.1)
    low, high = two.positions.min(axis=(0, 1)), two.positions.max(axis=(0, 1))
    assert (low >= [0, -3]).all()
    assert (high <= [2, 0]).all()


@pytest.mark.parametrize("form", ["repaired", "printed"])
@pytest.mark.parametrize("search", [particle_swarm, bat])
def test_the_seed_decides(search, form):
    def f(w):
        return np.sin(9 * w)

    first, again, other = (search(f, seed=seed, form=form) for seed in (7, 7, 8))
    assert (first.x, first.value) == (again.x, again.value)
    assert np.array_equal(first.positions, again.positions)
    assert not np.array_equal(first.positions, other.positions)


@pytest.mark.parametrize("search", [particle_swarm, bat])
def test_the_printed_form_walks_to_the_minimum(search):
    objective = LowPassObjective(*scene(), LaplacianPyramid(3))
    grid = objective(np.linspace(0, 1, 1001))
    box = ((0, 1), (0, 1))
    repaired = search(objective, bounds=box)
    printed = search(objective, bounds=box, form="printed")
    assert repaired.value > grid.max() - 1e-3
    assert printed.value < grid.min() + 0.2 * np.ptp(grid)
    assert (np.diff(printed.history) <= 0).all()


def test_printed_bats_end_in_the_corners():
    printed = bat(lambda x: x.sum(axis=1), bounds=((0, 1), (0, 1)), form="printed")
    last = printed.positions[-1]
    assert ((last == 0) | (last == 1)).mean() > 0.9


@pytest.mark.parametrize("quantize", [False, True])
@pytest.mark.parametrize("kind", [0, 2])
def test_the_sweep_is_the_maximum_over_weights(kind, quantize):
    a, b = scene()
    objective = LowPassObjective(a, b, transforms(a.shape)[kind], quantize=quantize)
    best = sweep(objective)
    assert best.value == objective(best.x)
    dense = objective(np.linspace(0, 1, 200_001))
    assert dense.max() <= best.value + 1e-9
    assert (np.diff(best.history) >= 0).all()
    for seed in range(20):
        for search in (particle_swarm, bat):
            assert search(objective, seed=seed).value <= best.value + 1e-6


@pytest.mark.parametrize("alphas", [(1, 0, 0), (0, 0, 1), (0, 1, 0), (0.9, 0, 0.1)])
def test_the_sweep_finds_smooth_maxima_too(alphas):
    objective = LowPassObjective(*scene(), LaplacianPyramid(3), alphas=alphas)
    assert sweep(objective).value >= objective(np.linspace(0, 1, 200_001)).max() - 1e-9


@settings(deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 10_000),
    alphas=st.sampled_from([(0.25, 0.25, 0.5), (0, 1, 0), (1, 0.3, 0), (0.5, -0.5, 1)]),
    enough=st.sampled_from([1, 200, 3000]),
    whole_numbers=st.booleans(),
)
def test_the_sweep_of_the_promising_cells_is_that_of_all_steps(seed, alphas, enough, whole_numbers):
    module = sys.modules[sweep.__module__]
    rng = np.random.default_rng(seed)
    objective = LowPassObjective(*scene((24, 24), seed), LaplacianPyramid(2), alphas=alphas)
    objective.p, objective.d = rng.normal(110, 60, (24, 24)), rng.normal(0, 40, (24, 24))
    if whole_numbers:  # many pixels change at one weight, on the edges of cells too
        objective.p, objective.d = objective.p.round(), objective.d.round()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ENOUGH", 10**9)
        whole = sweep(objective)
        patch.setattr(module, "ENOUGH", enough)
        patch.setattr(module, "MOST_CELLS", 2 * module.GRID)
        parts = sweep(objective)
    assert parts.x == pytest.approx(whole.x, abs=1e-6)  # the place of a smooth maximum is not finer
    assert parts.value == pytest.approx(whole.value, abs=1e-12)
    assert parts.value == pytest.approx(objective(parts.x), abs=1e-11)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), low=st.integers(0, 7), number=st.sampled_from([1, 4, 32]))
def test_a_cell_knows_its_edges_and_what_the_entropy_does_not_exceed(seed, low, number):
    rng = np.random.default_rng(seed)
    # half a level on an edge, without rounding errors
    p, d = rng.normal(220, 120, (2, 30, 40)).round() / 2
    looked = cells(p, d, low / 8, (low + 1) / 8, number)
    for edge, counts in zip(looked.edges, looked.counts, strict=True):
        assert np.array_equal(counts, histogram(p, d, edge))
    ceilings = looked.ceilings()
    w = rng.uniform(low / 8, (low + 1) / 8, 50)
    counted = entropies(np.stack([histogram(p, d, each) for each in w]))
    assert (counted <= ceilings[((w - low / 8) * 8 * number).astype(int)] + 1e-12).all()


def test_steps_that_are_too_many_to_keep_are_counted_at_each_weight(monkeypatch):
    w = np.array([[0.1, 0.3], [0.5, 0.2], [0, 1]])
    kept = LowPassObjective(*scene(), LaplacianPyramid(3))
    expected, found = kept(w), particle_swarm(kept, iterations=5)
    monkeypatch.setattr(sys.modules[LowPassObjective.__module__], "MOST_STEPS", 10)
    counted = LowPassObjective(*scene(), LaplacianPyramid(3))
    np.testing.assert_allclose(counted(w), expected, atol=1e-11)
    again = particle_swarm(counted.with_alphas(counted.alphas), iterations=5)
    assert (again.x, again.value) == pytest.approx((found.x, found.value), abs=1e-9)
    assert "steps" not in vars(counted)


@needs_data
@pytest.mark.parametrize("name", ["leopard", "balloon", "clock"])
def test_no_swarm_exceeds_the_sweep_on_real_pairs(name):
    a, b = real_pair(name)
    objective = LowPassObjective(a, b, LaplacianPyramid())
    best = sweep(objective).value
    gaps = [
        best - search(objective, seed=seed).value
        for seed in range(5)
        for search in (particle_swarm, bat)
    ]
    assert min(gaps) >= -1e-6
    assert max(gaps) < 1e-3


@needs_data
# clock is clipped
@pytest.mark.parametrize(("name", "rounding"), [("leopard", 1e-4), ("lab", 1e-4), ("clock", 1e-3)])
def test_the_objective_equals_the_metrics_of_the_naive_fusion_on_real_pairs(name, rounding):
    a, b = real_pair(name)
    w = 0.3701
    rounded = images.to_uint8(fuse(LaplacianPyramid(), a, b, w))
    scores = metrics.evaluate(rounded, a, b, ["CC", "EN", "RMSE"], "multi-focus")
    plain, quantized = (
        LowPassObjective(a, b, LaplacianPyramid(), quantize=kind) for kind in (False, True)
    )
    assert plain(w) == pytest.approx(value(scores), abs=rounding)
    assert quantized(w) == pytest.approx(value(scores), abs=1e-11)
    assert plain.terms(w)["EN"] == pytest.approx(scores["EN"], abs=1e-11)


@needs_data
@pytest.mark.parametrize(
    ("w", "mi", "en"), [(0.50, 10.3981, 7.4207), (0.52, 10.3814, 7.4207), (0.37, 10.5334, 7.4218)]
)
def test_the_printed_leopard_cells(w, mi, en):
    a, b = real_pair("leopard")
    fused = LowPassObjective(a, b, LaplacianPyramid()).fused(w)
    scores = metrics.evaluate(fused, a, b, ["MI", "EN"], "multi-focus")
    assert (round(scores["MI"], 4), round(scores["EN"], 4)) == (mi, en)


A, B = scene((32, 32))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: LowPassObjective(A, B[:20], LaplacianPyramid(2)),
            ValueError,
            "a and b: expected one size",
        ),
        (lambda: LowPassObjective(A / 255, B, LaplacianPyramid(2)), TypeError, "a: expected uint8"),
        (
            lambda: LowPassObjective(*2 * [np.dstack([A, B, A])], LaplacianPyramid(2)),
            ValueError,
            "gray image",
        ),
        (
            lambda: LowPassObjective(A, B, LaplacianPyramid(2), alphas=(1, 2)),
            ValueError,
            "alphas: expected three",
        ),
        (
            lambda: LowPassObjective(A, B, LaplacianPyramid(2), rule=7),
            ValueError,
            "rule: expected 1 to 4",
        ),
        (
            lambda: LowPassObjective(A, B, LaplacianPyramid(2))(1.2),
            ValueError,
            r"w: expected weights in \[0, 1\], got 1.2",
        ),
        (
            lambda: LowPassObjective(A, B, LaplacianPyramid(2))(np.nan),
            ValueError,
            "w: expected weights",
        ),
        (
            lambda: LowPassObjective(A, B, LaplacianPyramid(2))(np.zeros((3, 3))),
            ValueError,
            "w: expected a weight",
        ),
        (
            lambda: particle_swarm(np.sin, form="fixed"),
            ValueError,
            "form: expected one of repaired, printed, got 'fixed'",
        ),
        (
            lambda: bat(np.sin, form="fixed"),
            ValueError,
            "form: expected one of repaired, printed, got 'fixed'",
        ),
        (lambda: bat(np.sin, bounds=(0, 1)), ValueError, "bounds: expected a sequence of pairs"),
        (lambda: bat(np.sin, bounds=((1, 1),)), ValueError, "bounds: expected a sequence of pairs"),
        (
            lambda: particle_swarm(np.sin, population=0),
            ValueError,
            "population: expected an integer of at least 1, got 0",
        ),
        *(
            (
                lambda seed=seed: bat(np.sin, seed=seed),
                ValueError,
                "seed: expected an integer of at",
            )
            for seed in (-1, 1.5, "x", None, True)
        ),
        (
            lambda: particle_swarm(np.sin, iterations=-1),
            ValueError,
            "iterations: expected an integer of at least 0",
        ),
        (
            lambda: particle_swarm(lambda w: w * np.nan),
            ValueError,
            "f: expected finite values, got nan at",
        ),
        (
            lambda: bat(lambda w: np.where(w > 0.5, np.inf, w)),
            ValueError,
            "f: expected finite values, got inf at",
        ),
        (
            lambda: bat(lambda w: 1.0),
            ValueError,
            r"f: expected 40 values for 40 candidates, got shape \(\)",
        ),
    ],
)
def test_bad_input_is_one_sentence(make, error, words):
    with pytest.raises(error, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
