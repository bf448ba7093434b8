"""What must hold for every image: symmetry, bounds, identical images, growing noise, odd and tiny
sizes.
"""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionlib import metrics

MANY = settings(max_examples=40, deadline=None)
FEW = settings(max_examples=20, deadline=None)
# of the others see test_further_metrics.py
FIRST_THIRTEEN = [convention for convention in metrics.CONVENTIONS if convention != "toolbox"]
EDGE_SENSITIVE = {"Qabf"}  # its angle of pi / 2 where s_x is 0 belongs to the axes


def image(rng: np.random.Generator, shape: tuple[int, int], kind: str) -> np.ndarray:
    """Gray images of the kinds that break metrics: noise, two levels, dark, saturated, smooth,
    constant.
    """
    if kind == "constant":
        return np.full(shape, rng.integers(0, 256), np.uint8)
    if kind == "smooth":
        y, x = np.mgrid[: shape[0], : shape[1]]
        return (127 + 120 * np.sin(y / rng.uniform(2, 9) + x / rng.uniform(2, 9))).astype(np.uint8)
    low, high = {"noise": (0, 256), "two": (0, 2), "dark": (0, 17), "saturated": (250, 256)}[kind]
    levels = rng.integers(low, high, shape)
    return (levels * 255 if kind == "two" else levels).astype(np.uint8)


KINDS = st.sampled_from(["noise", "noise", "smooth", "two", "dark", "saturated", "constant"])


@st.composite
def images(draw, count=3, sides=(1, 60), kinds=KINDS):
    shape = tuple(draw(st.integers(*sides)) for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return [image(rng, shape, draw(kinds)) for _ in range(count)]


def everything(fused, a, b):
    """Every metric of every convention, from the sources and against the first source."""
    got = {}
    for convention in FIRST_THIRTEEN:
        for name, value in metrics.evaluate(fused, a, b, convention=convention).items():
            got[convention, name, "sources"] = value
    for convention in ("standard", "multi-focus"):
        for name, value in metrics.compare(fused, a, convention=convention).items():
            got[convention, name, "reference"] = value
    return got


def same(x: float, y: float, tolerance: float = 1e-9) -> bool:
    return x == y or (math.isnan(x) and math.isnan(y)) or abs(x - y) <= tolerance * max(1, abs(x))


@MANY
@given(images())
def test_any_size_and_content_gives_a_number_or_a_reason(triple):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = everything(*triple)
    for key, value in got.items():
        assert isinstance(value, float), key
        if math.isnan(value):
            assert isinstance(value, metrics.Undefined) and value.reason, key
        elif math.isinf(value):
            assert key[1] == "PSNR" and value > 0, key


@MANY
@given(images())
def test_equal_floats_and_integers_count_as_uint8(triple):
    whole = everything(*triple)
    assert all(
        same(whole[key], value, 0)
        for key, value in everything(*(x.astype(float) for x in triple)).items()
    )
    assert all(
        same(whole[key], value, 0)
        for key, value in everything(*(x.astype(np.int32) for x in triple)).items()
    )


@MANY
@given(images(kinds=st.sampled_from(["noise", "smooth", "dark", "saturated"])))
def test_pure_functions_take_floats_too(triple):
    fused, a, b = triple
    for convention in FIRST_THIRTEEN:
        for name in set(metrics.CONVENTIONS[convention]) - set(metrics.FURTHER):
            metric = metrics.CONVENTIONS[convention][name]
            sources = (a,) if metric.images == "reference" else (a, b)
            as_float = metric(fused.astype(float), *(x.astype(float) for x in sources))
            assert same(metric(fused, *sources), as_float), name


@MANY
@given(images())
def test_the_order_of_the_sources_does_not_matter(triple):
    fused, a, b = triple
    for convention in FIRST_THIRTEEN:
        one, other = (
            metrics.evaluate(fused, a, b, convention=convention),
            metrics.evaluate(fused, b, a, convention=convention),
        )
        assert all(same(one[name], other[name]) for name in one), convention


@MANY
@given(images(count=2))
def test_a_full_reference_metric_is_symmetric(couple):
    fused, reference = couple
    one, other = metrics.compare(fused, reference), metrics.compare(reference, fused)
    assert all(same(one[name], other[name]) for name in ("MSE", "RMSE", "PSNR", "SSIM", "CC"))
    assert same(
        metrics.mutual_information(fused, reference), metrics.mutual_information(reference, fused)
    )


@MANY
@given(images(sides=(1, 90)))
def test_transposing_or_mirroring_all_images_changes_nothing(triple):
    got = everything(*triple)
    for turn in (np.transpose, np.flipud, np.fliplr):
        turned = everything(*(np.ascontiguousarray(turn(x)) for x in triple))
        for key, value in turned.items():
            if key[1] in EDGE_SENSITIVE:
                continue
            # Every second sample of an even side starts at the other end when mirrored.
            if key[1] == "VIF" and turn is not np.transpose:
                continue
            assert same(got[key], value, 1e-8), (key, turn.__name__)
    for turn in (np.flipud, np.fliplr):
        assert same(metrics.qabf_petrovic(*triple), metrics.qabf_petrovic(*map(turn, triple)))


@pytest.mark.parametrize("shape", [(45, 3000), (3000, 45), (700, 300)])
def test_large_images_are_cut_into_strips_without_a_trace(shape):
    rng = np.random.default_rng(3)
    y, x = np.mgrid[: shape[0], : shape[1]]
    # dark blobs on a bright ground: the 8-bit VIF computes its first scale inside the blobs only
    ground = np.where(np.sin(y / 31) * np.sin(x / 47) > 0.6, 0, 150)
    fused, a, b = ((image(rng, shape, "noise") // 18 + ground).astype(np.uint8) for _ in range(3))
    one, other = everything(fused, a, b), everything(fused.T.copy(), a.T.copy(), b.T.copy())
    assert all(same(one[key], other[key]) for key in one if key[1] not in EDGE_SENSITIVE)
    gy, gx = np.gradient(fused.astype(float))
    wanted = np.sqrt((gx**2 + gy**2) / 2).sum() / ((shape[0] - 1) * (shape[1] - 1))
    assert metrics.average_gradient(fused) == pytest.approx(wanted, rel=1e-12)


@MANY
@given(images())
def test_bounds(triple):
    got = everything(*triple)
    upper = {
        "EN": 8,
        "SD": 127.5,
        "SCD": 2,
        "CC": 1,
        "Qabf": 0.9998,
        "SF": 255 * math.sqrt(2),
        "AG": 255 * 2,
    }
    lower = {"SCD": -2, "CC": -1, "PSNR": -math.inf, "SSIM": -2}
    for key, value in got.items():
        if math.isnan(value):
            continue
        convention, name, _ = key
        top = upper.get(name, math.inf)
        if name == "SSIM":
            top = 2 if convention in ("cddfuse", "vifb") else 1
        if convention == "moe-fusion" and name == "SD":
            top = math.sqrt(255)
        assert lower.get(name, 0) - 1e-9 <= value <= top * (1 + 1e-12), (key, value)
    fused, a, b = triple
    information = metrics.mutual_information(fused, a, b)
    assert information <= 2 * metrics.entropy(fused) + 1e-9
    assert information <= metrics.entropy(a) + metrics.entropy(b) + 1e-9
    assert 0 <= metrics.mutual_information(fused, a, b, merge_top=True) - information + 1e-9


@MANY
@given(images(count=1, kinds=st.sampled_from(["noise", "smooth", "two", "dark", "saturated"])))
def test_three_times_the_same_image(single):
    (x,) = single
    got = everything(x, x, x)
    for (convention, name, against), value in got.items():
        if name == "SCD":
            assert math.isnan(value)
        elif name in ("MSE", "RMSE"):
            assert value == 0
        elif name == "PSNR":
            assert value == math.inf
        elif math.isnan(value):
            continue
        elif name == "CC":
            assert value == pytest.approx(1, abs=1e-12)
        elif name == "SSIM":
            assert value == pytest.approx(2 if convention in ("cddfuse", "vifb") else 1, abs=1e-9)
        elif name == "VIF":
            # The noise floor of 1e-10 takes its share where an image hardly varies.
            assert value == pytest.approx(1 if against == "reference" else 2, abs=1e-3)
        elif name == "Qabf" and convention in ("standard", "cddfuse", "vifb"):
            # strong edges only: a tie counts as its own gradient
            assert value <= 0.97533277
    assert metrics.mutual_information(x, x, x) == pytest.approx(2 * metrics.entropy(x), abs=1e-9)
    best = metrics.qabf_xydeas(x, x, x, ties="one")
    assert math.isnan(best) or best == pytest.approx(0.9747936, abs=1e-6)
    best = metrics.qabf_petrovic(x, x, x)
    assert math.isnan(best) or best < 0.9998
    # without strong edges the least weights of flat pixels count as nothing kept
    if min(x.shape) > 8 and x.std() > 40:
        assert best > 0.99


@FEW
@given(st.integers(0, 2**32 - 1), st.integers(48, 80), st.integers(48, 80))
def test_growing_noise_makes_every_full_reference_metric_worse(seed, height, width):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    reference = (
        127 + 50 * np.sin(y / 5 + rng.uniform(0, 6)) + 20 * np.cos(x / 3 + rng.uniform(0, 6))
    ).astype(np.uint8)
    noise = rng.uniform(-1, 1, (height, width))
    scores = [
        metrics.compare(
            np.clip(np.rint(reference + strength * noise), 0, 255).astype(np.uint8), reference
        )
        for strength in (0, 4, 10, 20, 40)
    ]
    for weaker, stronger in zip(scores, scores[1:], strict=False):
        for name in ("MSE", "RMSE"):
            assert weaker[name] < stronger[name]
        for name in ("PSNR", "SSIM", "CC", "VIF"):
            assert weaker[name] > stronger[name], name


@FEW
@given(
    images(count=1, sides=(41, 60), kinds=st.sampled_from(["noise", "smooth"])),
    st.integers(0, 2**32 - 1),
)
def test_exact_copying_is_punished_on_unit_range_only(single, seed):
    """The tie rule: on [0, 1] a copied gradient counts as itself, at most sqrt(32); on 0..255 it
    saturates.
    """
    (x,) = single
    assert metrics.qabf_xydeas(x, x, x, white=1.0) < metrics.qabf_xydeas(x, x, x)
    rng = np.random.default_rng(seed)
    other = image(rng, x.shape, "noise")
    mixed = ((x.astype(int) + other) // 2).astype(np.uint8)
    assert metrics.qabf_xydeas(mixed, x, other, ties="one") == pytest.approx(
        metrics.qabf_xydeas(mixed, x, other, ties="one", white=1.0), abs=0.05
    )
