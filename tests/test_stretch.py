"""Files that use few of their gray levels: told, and spread by --stretch."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from fusionlib import images, methods, scoring
from fusionlib.__main__ import main

RNG = np.random.default_rng(0)


def thermal(folder, count=3, low=29_000, high=31_000):
    """Write raw counts of a camera as 16-bit TIFF, each file with a part of the range."""
    folder.mkdir()
    arrays = []
    for number in range(count):
        span = (high - low) // count
        values = RNG.integers(low + number * span, low + (number + 1) * span, (40, 48))
        arrays.append(values.astype(np.uint16))
        tifffile.imwrite(folder / f"{number}.tif", arrays[-1])
    return np.stack(arrays)


def visible(folder, count=3):
    for number in range(count):
        images.write(folder / f"{number}.png", RNG.integers(0, 256, (40, 48)).astype(np.uint8))


@pytest.fixture
def home(tmp_path):
    counts = thermal(tmp_path / "ir")
    visible(tmp_path / "vi")
    return tmp_path, counts


def call(monkeypatch, capsys, *words):
    """Run the command line here; return exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["fusionlib", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, *capsys.readouterr()


def test_few_levels_are_told_once_a_folder_with_the_remedy(home, capsys):
    folder, _ = home
    for number in range(3):
        images.read(folder / f"ir/{number}.tif")
        images.read(folder / f"vi/{number}.png")
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "0.tif: its levels become 113 to 115 of 255" in told
    assert "--stretch minmax or percentile" in told
    tifffile.imwrite(folder / "wide.tif", np.array([[0, 65535]], np.uint16))
    Image.fromarray(np.array([[7, 9]], np.uint8)).save(folder / "narrow.png")  # all there is
    images.read(folder / "wide.tif"), images.read(folder / "narrow.png")
    assert not capsys.readouterr().err


@pytest.mark.parametrize("stretch", ["minmax", "percentile"])
def test_one_range_for_the_folder(stretch, home, capsys):
    folder, counts = home
    low, high = images.stretch_levels(folder / "ir", stretch)
    ordered = np.sort(counts.ravel()).astype(float)
    shares = (0, 1) if stretch == "minmax" else (0.005, 0.995)
    expected = [ordered[max(int(np.ceil(share * ordered.size)), 1) - 1] for share in shares]
    assert (low * 257, high * 257) == pytest.approx(expected)
    for number, values in enumerate(counts):
        meant = np.clip((values - expected[0]) / (expected[1] - expected[0]) * 255, 0, 255)
        got = images.read(folder / f"ir/{number}.tif", (low, high))
        assert np.abs(got - meant).max() <= 0.5 + 1e-6
    assert not capsys.readouterr().err


def test_the_range_of_8_bits_and_colour_is_over_all_channels(tmp_path):
    values = RNG.integers(60, 90, (20, 30, 3)).astype(np.uint8)
    values[0, 0], values[0, 1] = (50, 70, 70), (70, 70, 100)
    images.write(tmp_path / "x.png", values)
    assert images.stretch_levels(tmp_path / "x.png", "minmax") == (50, 100)
    got = images.read(tmp_path / "x.png", (50, 100))
    assert np.array_equal(got, images.to_uint8((values - 50.0) * 255 / 50))
    assert images.stretch_levels(tmp_path / "x.png", "none") is None


def test_what_cannot_be_stretched_is_one_sentence(tmp_path, monkeypatch, capsys):
    images.write(tmp_path / "ir/0.png", np.full((40, 48), 7, np.uint8))
    visible(tmp_path / "vi", 1)
    words = ["--method", "average", tmp_path / "ir", tmp_path / "vi", tmp_path / "out"]
    code, _, error = call(monkeypatch, capsys, "fuse", "--stretch", "minmax", *words)
    assert code == 1 and f"{tmp_path / 'ir'}: expected several gray levels" in error
    code, _, error = call(monkeypatch, capsys, "fuse", "--stretch", "wide", *words)
    assert code == 1 and "stretch: expected none, minmax, percentile, got 'wide'" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stretch", ["none", "minmax", "percentile"])
def test_fuse_records_the_stretch_and_score_applies_it(stretch, home, monkeypatch, capsys):
    folder, counts = home
    a, b, out = folder / "ir", folder / "vi", folder / "out"
    words = [] if stretch == "none" else ["--stretch", stretch]
    code, *_ = call(monkeypatch, capsys, "fuse", "--method", "average", *words, a, b, out)
    assert code == 0
    record = json.loads((out / "run.json").read_text())
    levels = [images.stretch_levels(path, stretch) for path in (a, b)]
    assert record["stretch"] == stretch
    assert record["levels"] == [None if pair is None else list(pair) for pair in levels]
    table = folder / "scores.csv"
    code, *_ = call(
        monkeypatch, capsys, "score", out / "gray", a, b, *words, "--csv", table, "--jobs", "2"
    )
    assert code == 0
    items = []
    for number in range(3):
        pair = [
            images.read(path, pair)
            for path, pair in zip((a / f"{number}.tif", b / f"{number}.png"), levels, strict=True)
        ]
        fused = images.read(out / f"gray/{number}.png")
        assert np.array_equal(fused, methods.get("average").fuse(*pair))
        items.append((str(number), fused, *pair, None))
    expected = scoring.score_images(items)
    got = pd.read_csv(table)
    assert got["value"].to_numpy() == pytest.approx(expected["value"].to_numpy(), nan_ok=True)


def test_another_stretch_is_another_fusion(home):
    folder, _ = home
    words = methods.get("average"), folder / "ir", folder / "vi", folder / "out"
    methods.fuse_folders(*words, progress=False)
    # a record from before there was a stretch
    record = json.loads((folder / "out/run.json").read_text())
    del record["stretch"], record["levels"]
    (folder / "out/run.json").write_text(json.dumps(record))
    methods.fuse_folders(*words, progress=False)
    with pytest.raises(ValueError, match="got another stretch, levels"):
        methods.fuse_folders(*words, progress=False, stretch="minmax")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif"])
def test_files_that_may_change_levels_are_told(suffix, home, monkeypatch, capsys):
    folder, _ = home
    pair, out = (folder / "ir/0.tif", folder / "vi/0.png"), folder / f"out{suffix}"
    words = ["fuse", "--method", "average", "--stretch", "minmax", *pair, out]
    code, told, _ = call(monkeypatch, capsys, *words)
    assert code == 0 and ("gray levels may change" in told) == (suffix in (".jpg", ".gif"))
    levels = [images.stretch_levels(path, "minmax") for path in pair]
    expected = methods.get("average").fuse(*images.read_pair(*pair, levels))
    assert np.abs(images.read(out).astype(int) - expected).max() <= (12 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("suffix", [".jpg", ".jfif", ".webp"])
def test_written_colour_is_not_subsampled(suffix, tmp_path):
    values = np.zeros((32, 32, 3), np.uint8)
    values[:, ::2] = 200, 40, 40
    values[:, 1::2] = 40, 40, 200
    path = images.write(tmp_path / f"x{suffix}", values)
    assert np.abs(images.read(path).astype(int) - values).max() <= (0 if suffix == ".webp" else 12)
