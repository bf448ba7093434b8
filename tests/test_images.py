"""The image contract: what is read, rounded, refused and written."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from fusionlib import images

RAMP = np.arange(35, dtype=np.uint8).reshape(5, 7) * 7
COLOUR = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)


def test_luma_is_that_of_whole_numbers():
    """Half way between two levels no processor's order of additions decides: Y goes up."""
    every = np.stack(np.meshgrid(*[np.arange(256, dtype=np.uint8)] * 2, [3, 58, 201]), axis=-1)
    colours = every.reshape(256, -1, 3).astype(np.uint8)
    red, green, blue = np.moveaxis(colours.astype(int), -1, 0)
    exact = 299 * red + 587 * green + 114 * blue
    assert (exact % 1000 == 500).sum() > 100
    assert np.array_equal(images.luma(colours), (exact + 500) // 1000)


@pytest.mark.parametrize("image", [RAMP, COLOUR, RAMP[:1, :1], RAMP[:, :1]])
def test_png_keeps_every_pixel(tmp_path, image):
    assert np.array_equal(images.read(images.write(tmp_path / "x.png", image)), image)


def test_content_decides_not_the_suffix(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "x.png")
    os.rename(tmp_path / "x.png", tmp_path / "x.bmp")
    assert np.array_equal(images.read(tmp_path / "x.bmp"), RAMP)


def test_sixteen_bits_map_black_to_black_and_white_to_white(tmp_path):
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / "x.png")
    assert np.array_equal(images.read(tmp_path / "x.png"), RAMP)
    Image.fromarray(np.array([[0, 65535]], dtype=np.uint16)).save(tmp_path / "y.tif")
    assert images.read(tmp_path / "y.tif").tolist() == [[0, 255]]


def test_palette_alpha_and_one_bit(tmp_path):
    Image.fromarray(COLOUR).quantize(35).save(tmp_path / "palette.png")
    assert images.read(tmp_path / "palette.png").shape == (5, 7, 3)
    alpha = np.dstack([COLOUR, np.full((5, 7), 10, np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "rgba.png")
    assert np.array_equal(images.read(tmp_path / "rgba.png"), COLOUR), (
        "the colours below a low alpha are kept"
    )
    Image.fromarray(np.dstack([RAMP, RAMP])).save(tmp_path / "la.png")
    assert np.array_equal(images.read(tmp_path / "la.png"), RAMP)
    Image.fromarray(RAMP > 100).save(tmp_path / "one.png")
    assert set(np.unique(images.read(tmp_path / "one.png"))) == {0, 255}


def test_camera_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RAMP).save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(images.read(tmp_path / "x.png"), np.rot90(RAMP, -1))


def test_three_equal_channels_are_gray(tmp_path):
    Image.fromarray(np.dstack([RAMP] * 3)).save(tmp_path / "x.png")
    assert images.read(tmp_path / "x.png").shape == RAMP.shape


def write_bytes(path, content):
    path.write_bytes(content)
    return path


def test_every_bad_file_is_one_sentence_with_its_name(tmp_path):
    whole = images.write(
        tmp_path / "whole.png", np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8)
    )
    cases = {
        "missing.png": (lambda path: None, FileNotFoundError, "nothing there"),
        "empty.png": (lambda path: write_bytes(path, b""), ValueError, "0 bytes"),
        "text.png": (
            lambda path: write_bytes(path, b"not an image at all"),
            ValueError,
            "none of them",
        ),
        "truncated.png": (
            lambda path: write_bytes(path, whole.read_bytes()[:700]),
            ValueError,
            "truncated",
        ),
        "folder.png": (lambda path: path.mkdir(), ValueError, "folder"),
    }
    for name, (make, error, words) in cases.items():
        make(tmp_path / name)
        with pytest.raises(error, match=words) as caught:
            images.read(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "bad, error, words",
    [
        (RAMP.astype(float), TypeError, "expected uint8"),
        (np.full((3, 3), np.nan), TypeError, "9 NaN"),
        ([[1, 2]], TypeError, "list"),
        (np.zeros((0, 4), np.uint8), ValueError, "neither side 0"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, r"\(4, 4, 4\)"),
        (np.zeros(4, np.uint8), ValueError, r"\(4,\)"),
    ],
)
def test_bad_arrays(bad, error, words):
    with pytest.raises(error, match=words):
        images.check(bad, "x")


def test_sizes_that_differ_name_both():
    with pytest.raises(ValueError, match="left and right: expected one size, got 5x7 and 4x7"):
        images.check_pair(RAMP, RAMP[:4], ("left", "right"))


def test_rounding_is_half_away_from_zero_and_clipped():
    assert images.to_uint8(np.array([[-3, 0.4999, 0.5, 1.5, 254.5, 999]])).tolist() == [
        [0, 0, 1, 2, 255, 255]
    ]
    with pytest.raises(ValueError, match="2 NaN or infinite"):
        images.to_uint8(np.array([[1, np.nan, np.inf]]))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        images.from_unit(np.array([[0.2, 1.2]]))


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
@settings(max_examples=60, deadline=None)
def test_colour_round_trip_is_within_one_level(image):
    rebuilt = images.with_chroma(images.luma(image), images.chroma(image))
    assert np.abs(rebuilt.astype(int) - image).max() <= 1


def test_nothing_half_written_stays(tmp_path):
    def fail(path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    images.write(tmp_path / "x.png", RAMP)
    with pytest.raises(OSError, match="x.png: cannot be written .No space left"):
        images.write_atomically(tmp_path / "x.png", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    assert np.array_equal(images.read(tmp_path / "x.png"), RAMP)


def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    """A process is killed while it writes; a day later the next write into the folder sweeps."""
    words = "import os, sys; from fusionlib import images\n"
    words += "images.write_atomically(sys.argv[1], lambda path: os.kill(os.getpid(), 9))"
    killed = subprocess.run([sys.executable, "-c", words, tmp_path / "killed.png"])
    assert killed.returncode == -9
    (half,) = tmp_path.iterdir()
    yesterday = time.time() - images.ABANDONED - 60
    os.utime(half, (yesterday, yesterday))
    living = tmp_path / f"{images.WRITING}living-12345678.png"
    living.write_bytes(b"half")
    images.write_text(tmp_path / "next.txt", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {living.name, "next.txt"}


def test_a_file_in_the_way_of_a_folder_is_one_sentence(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OSError, match="out/x.png: cannot be written"):
        images.write(tmp_path / "out" / "x.png", RAMP)


def test_pairs_are_matched_by_stem_and_strangers_named(tmp_path):
    images.write(tmp_path / "a" / "one.png", RAMP)
    images.write(tmp_path / "b" / "one.bmp", RAMP)
    assert list(images.list_pairs(tmp_path / "a", tmp_path / "b")) == ["one"]
    images.write(tmp_path / "b" / "two.bmp", RAMP)
    with pytest.raises(ValueError, match="without partner: two"):
        images.list_pairs(tmp_path / "a", tmp_path / "b")
    images.write(tmp_path / "b" / "one.png", RAMP)
    with pytest.raises(ValueError, match="one file per name"):
        images.list_pairs(tmp_path / "a", tmp_path / "b")
