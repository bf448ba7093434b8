"""Multi-focus pairs: rendered with an exact reference, or read from folders."""

import numpy as np
import pytest
from PIL import Image

from fusionlib import images
from fusionlib.datasets import defocus, multi_focus


def test_defocus_leaves_the_plane_of_focus_and_blurs_with_distance():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 90)).astype(np.uint8)
    disparity = np.repeat(np.array([10.0, 20.0, 30.0]), 30)[None, :] * np.ones((60, 1))
    seen = defocus.focus(image, disparity, at=10, aperture=0.2, layers=3)
    strips = [
        np.abs(seen[10:-10, x : x + 14] - image[10:-10, x : x + 14]).mean() for x in (4, 38, 70)
    ]
    assert strips[0] < 1e-9 < strips[1] < strips[2]


def test_blurred_foreground_covers_sharp_background_but_not_the_reverse():
    image = np.full((40, 80), 100, np.uint8)
    image[:, 40:] = 200
    disparity = np.where(np.arange(80) < 40, 5.0, 25.0)[None, :] * np.ones((40, 1))
    far_sharp = defocus.focus(image, disparity, at=5, aperture=0.3, layers=2)
    assert far_sharp[20, 37] > 110, (
        "the blurred near half (200) bleeds over the sharp far half (100)"
    )
    near_sharp = defocus.focus(image, disparity, at=25, aperture=0.3, layers=2)
    assert np.allclose(near_sharp[:, 40:], 200), (
        "the sharp near half stops the blur of the far half"
    )


def test_constant_image_stays_constant():
    image = np.full((30, 40, 3), 77, np.uint8)
    disparity = np.random.default_rng(1).uniform(5, 30, (30, 40))
    assert np.allclose(defocus.focus(image, disparity, 10, 0.2), 77, atol=1e-6)


def test_unknown_disparity_takes_the_nearest():
    disparity = np.array([[1.0, np.nan, np.inf, 4.0]])
    assert defocus.fill_nearest(disparity).tolist() == [[1, 1, 4, 4]]
    with pytest.raises(ValueError, match="at least one finite"):
        defocus.fill_nearest(np.full((2, 2), np.nan))


def test_half_blurred_pairs_hold_every_reference_pixel():
    for name in ("camera", "astronaut"):
        pair = multi_focus.BuiltIn().load(name)
        untouched = (pair.a == pair.reference) | (pair.b == pair.reference)
        assert untouched.all() and pair.reference_kind == "exact"
        assert (pair.a != pair.reference).any() and (pair.b != pair.reference).any()


def test_motorcycle_is_sharper_near_in_one_and_far_in_the_other():
    pair = multi_focus.BuiltIn().load("motorcycle")
    error = [
        np.abs(images.luma(x).astype(float) - images.luma(pair.reference)) for x in (pair.a, pair.b)
    ]
    machine, shelves = (slice(230, 360), slice(330, 480)), (slice(20, 130), slice(560, 690))
    assert error[0][machine].mean() < 0.4 * error[1][machine].mean()
    assert error[1][shelves].mean() < 0.4 * error[0][shelves].mean()


def folder(tmp_path, names=("x", "y")):
    image = np.arange(600, dtype=np.uint8).reshape(20, 30)
    for side in "ab":
        for name in names:
            images.write(tmp_path / side / f"{name}.png", image)
    return tmp_path


def test_a_mask_makes_the_reference_white_taking_a(tmp_path):
    white = np.zeros((20, 30), bool)
    white[:, 7:] = True
    (folder(tmp_path) / "masks").mkdir()
    Image.fromarray(white).save(tmp_path / "masks" / "y.png")  # 1 bit
    images.write(tmp_path / "b" / "y.png", np.full((20, 30), 9, np.uint8))
    x, y = multi_focus.MultiFocus(tmp_path)
    assert (x.reference, y.reference_kind) == (None, "constructed")
    assert (y.reference[:, 7:] == y.a[:, 7:]).all() and (y.reference[:, :7] == 9).all()
    assert [pair.name for pair in multi_focus.MultiFocus(tmp_path, ["y"])] == ["y"]


def test_bad_folders_are_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="found nothing"):
        multi_focus.MultiFocus(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="a and b missing"):
        multi_focus.MultiFocus(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match="found none"):
        multi_focus.MultiFocus(tmp_path)
    with pytest.raises(ValueError, match="no pair named z; there are x, y"):
        multi_focus.MultiFocus(folder(tmp_path), ["z"])
    images.write(tmp_path / "b" / "x.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(ValueError, match="x.png and .*x.png: expected one size, got 20x30 and 3x3"):
        multi_focus.MultiFocus(tmp_path).load("x")


def test_a_gray_mask_is_refused(tmp_path):
    images.write(folder(tmp_path) / "masks" / "x.png", np.full((20, 30), 7, np.uint8))
    with pytest.raises(ValueError, match="x.png: expected a mask of black and white"):
        multi_focus.MultiFocus(tmp_path).load("x")


def test_printed_pairs_are_known_by_their_pixels(fusion_data):
    pairs = {
        pair.name: pair for pair in multi_focus.MultiFocus(fusion_data / "mfif" / "gray_classic")
    }
    assert {name for name, pair in pairs.items() if pair.printed_as} == {"lab", "leopard"}
    leopard = pairs["leopard"]
    assert leopard.sources[0] is leopard.b
    copied = multi_focus.Pair("leopard", leopard.a, np.roll(leopard.b, 1))
    assert copied.printed_as == "" and copied.sources[0] is copied.a
