"""The questions about the low-pass weight, the focus pick and enfuse, against direct
computation.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionlib import images, metrics
from fusionlib.datasets.multi_focus import Pair, pairs
from fusionlib.experiments import low_pass
from fusionlib.methods import external, get
from fusionlib.optimizers import sweep
from fusionlib.transforms.focus import sharper

GRID = np.linspace(0, 1, 101)


@pytest.fixture(scope="module")
def scene():
    pair = pairs(names=["chelsea"]).load("chelsea")
    crop = (slice(40, 168), slice(120, 280))
    return Pair(
        "crop", *(images.luma(image)[crop] for image in (pair.a, pair.b, pair.reference)), "exact"
    )


@pytest.fixture(scope="module", params=["LP", "CvT"])
def problem(request, scene):
    return request.param, low_pass.objective(request.param, *scene.sources)


def test_the_objective_is_that_of_the_method(problem, scene):
    transform, objective = problem
    fused, info = get(f"{transform}+exact").fuse_with_info(*scene.sources)
    found = sweep(objective)
    assert (info["weight"], info["objective"]) == (found.x, found.value)
    assert (objective.fused(found.x) == fused).all()
    assert (objective.fused(0.5) == get(transform).fuse(*scene.sources)).all()


def test_terms_sum_to_the_objective_and_their_shares_to_one(problem):
    objective = problem[1]
    terms = low_pass.terms(objective, GRID)
    assert np.allclose(terms["f"], objective(GRID), rtol=0, atol=1e-12)
    assert np.allclose(low_pass.shares(terms).sum(), 1)
    assert terms["EN"].iloc[50] == pytest.approx(
        0.25 * metrics.entropy(objective.fused(GRID[50])), abs=1e-9
    )
    assert (
        low_pass.shares(terms.assign(CC=0.2, EN=1.0, **{"1/RMSE": 0.1}, f=1.3))["variation"]
        .isna()
        .all()
    )


@settings(max_examples=20, deadline=None)
@given(w=st.floats(0, 1))
def test_error_is_the_rmse_of_the_image(w):
    random = np.random.default_rng(3)
    a, b, reference = random.integers(0, 256, (3, 32, 40)).astype(np.uint8)
    objective = low_pass.objective("LP", a, b, levels=2)
    error = low_pass.Error(objective, reference)
    assert error(w) == pytest.approx(
        np.sqrt(((objective.image(w) - reference) ** 2).mean()), rel=1e-9
    )
    assert error(error.best) <= error(w) + 1e-9


def test_the_error_to_oneself_is_zero_and_without_a_slope_the_middle_is_best(scene):
    objective = low_pass.objective("LP", scene.a, scene.a)
    error = low_pass.Error(objective, scene.a)
    assert error.best == 0.5 and error(GRID) == pytest.approx(0, abs=1e-9)


def test_the_misprint_of_equation_16(problem, scene):
    objective = problem[1]
    one, two = (np.sqrt(((objective.image(0.3) - source) ** 2).mean()) for source in scene.sources)
    terms = low_pass.terms(objective, np.array([0.3]))
    right = float(terms["f"].iloc[0]) - 0.5 / ((one + two) / 2) + 0.5 / ((one + two**2) / 2)
    assert low_pass.misprinted(objective, np.array([0.3])) == pytest.approx(right, rel=1e-9)


def test_simplex_and_the_best_weights(problem):
    objective = problem[1]
    alphas = low_pass.simplex(4)
    assert len(alphas) == 15 and np.allclose(alphas.sum(axis=1), 1) and (alphas >= 0).all()
    weights = low_pass.best_weights(objective, alphas, GRID)
    for row, w in zip(alphas, weights, strict=True):
        values = objective.with_alphas(tuple(row))(GRID)
        assert values[np.abs(GRID - w).argmin()] >= values.max() - 1e-12


def test_ratio():
    assert low_pass.ratio(0.3) == 0.3
    assert low_pass.ratio(np.array([[0.2, 0.6], [0, 0]])).tolist() == [0.25, 0.5]
    assert low_pass.ratio(np.full((3, 4, 1), 0.7)).shape == (3, 4)


def test_choices(problem, scene, monkeypatch):
    transform, objective = problem
    weights = low_pass.choices(scene, transform, objective)
    assert list(weights) == ["0.5", "found", "best possible"]
    error = low_pass.Error(objective, scene.reference)
    assert error(weights["best possible"]) <= min(error(weights["0.5"]), error(weights["found"]))
    monkeypatch.setattr(Pair, "printed_as", "leopard")
    printed = low_pass.choices(
        Pair("leopard", scene.a, scene.b, scene.reference, "exact"), transform, objective
    )
    assert list(printed)[3:] == ["printed, PSO", "printed, BA"]
    assert transform == "CvT" or (printed["printed, PSO"], printed["printed, BA"]) == (0.52, 0.37)


@pytest.mark.parametrize(
    "name, changes, sentence",
    [
        ("DWT", {}, "transform: expected one of LP, CvT, got 'DWT'"),
        ("LP", {"scales": 3}, "LP: expected parameters among levels"),
        ("LP", {"weight": 0.3}, "LP: expected parameters among levels"),
    ],
)
def test_wrong_words(scene, name, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        low_pass.objective(name, *scene.sources, **changes)


# ---- ways without a weight -----------------------------------------------------------------------


def test_the_focus_pick_finds_the_sharp_half():
    sharp = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    left = np.arange(64) < 32
    a, b = np.where(left, sharp, 128), np.where(left, 128, sharp)
    chosen = sharper(a, b, sigma=2)
    assert chosen[:, :26].all() and not chosen[:, 38:].any()
    assert (sharper(b, a, sigma=2) == ~chosen).all()
    assert not sharper(a, a).any(), "equal sources: the second"


@pytest.mark.parametrize(
    "a, b, sigma",
    [
        (np.zeros((4, 4)), np.zeros((4, 5)), 3),
        (np.zeros(4), np.zeros(4), 3),
        (np.zeros((4, 4)), np.zeros((4, 4)), 0),
    ],
)
def test_the_focus_pick_refuses(a, b, sigma):
    with pytest.raises(ValueError, match="expected"):
        sharper(a, b, sigma)


def test_enfuse_is_named_where_it_is_missing(scene, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert not external.installed("enfuse")
    with pytest.raises(FileNotFoundError, match="enfuse: expected the program on the search path"):
        external.enfuse(*scene.sources)


@pytest.mark.parametrize(
    "script, sentence",
    [
        ("echo broken >&2; exit 3", "got exit code 3: broken"),
        ("sleep 5", "within 0.2 s"),
        ("exit 0", "exit code 0: it said nothing"),
    ],
)
def test_enfuse_that_fails(scene, tmp_path, monkeypatch, script, sentence):
    program = tmp_path / "enfuse"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(RuntimeError, match=sentence):
        external.enfuse(*scene.sources, seconds=0.2 if "sleep" in script else 60)


@pytest.mark.skipif(not external.installed("enfuse"), reason="enfuse is not installed")
def test_enfuse_is_nearer_to_the_truth_than_the_mean(scene):
    a, b = scene.sources
    fused = external.enfuse(a, b)
    assert fused.shape == a.shape and fused.dtype == np.uint8
    error = {
        name: metrics.compare(image, scene.reference, ["RMSE"])["RMSE"]
        for name, image in {"enfuse": fused, "mean": get("average").fuse(a, b)}.items()
    }
    assert error["enfuse"] < error["mean"]
