"""Scoring folders as a new user would: mixed suffixes and sizes, colour, 16 bits, damage and
gaps.
"""

import math
import os
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fusionlib import images, metrics
from fusionlib.metrics.memory import NEEDS, needs
from fusionlib.scoring import COLUMNS, score_folder


def picture(seed: int, shape=(50, 60)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    waves = 127 + 90 * np.sin(y / 7 + seed) + 30 * np.cos(x / 4)
    return np.clip(waves + rng.integers(-9, 9, shape), 0, 255).astype(np.uint8)


@pytest.fixture
def folders(tmp_path):
    """Three folders of four images: sources a and b, and their mean."""
    for i, shape in enumerate([(50, 60), (41, 77), (64, 48), (50, 60)]):
        a, b = picture(2 * i, shape), picture(2 * i + 1, shape)
        images.write(tmp_path / "a" / f"n{i}.png", a)
        images.write(tmp_path / "b" / f"n{i}.bmp", b)
        images.write(tmp_path / "fused" / f"n{i}.tif", ((a.astype(int) + b) // 2).astype(np.uint8))
    return tmp_path


def score(root, **options):
    return score_folder(root / "fused", root / "a", root / "b", progress=False, **options)


def test_values_are_those_of_evaluate_whatever_the_suffix(folders):
    frame, problems = score(folders)
    assert problems == [] and tuple(frame.columns) == COLUMNS
    assert list(frame["image"].unique()) == ["n0", "n1", "n2", "n3"]
    a, b, fused = (images.read(folders / name) for name in ("a/n1.png", "b/n1.bmp", "fused/n1.tif"))
    rows = frame[frame["image"] == "n1"].set_index("metric")["value"]
    assert rows.to_dict() == metrics.evaluate(fused, a, b)
    assert (frame["reason"] == "").all() and set(frame["against"]) == {"sources"}


def test_several_conventions_several_processes_and_a_reference(folders):
    options = {"convention": ["moe-fusion", "multi-focus"], "reference": folders / "a"}
    one, _ = score(folders, **options)
    two, _ = score(folders, processes=2, **options)
    assert one.equals(two)
    against = one[one["against"] == "reference"]
    assert set(against["convention"]) == {"multi-focus"}
    assert set(against["metric"]) == {"CC", "MSE", "RMSE", "PSNR", "SSIM"}
    both = one.query("convention == 'multi-focus' and metric == 'CC' and image == 'n0'").set_index(
        "against"
    )["value"]
    assert both["reference"] != both["sources"]


def test_each_convention_gives_the_names_it_has(folders):
    frame, _ = score(folders, names=["EN", "VIF"], convention=["standard", "vifb"])
    counts = frame.groupby(["convention", "metric"]).size().to_dict()
    assert counts == {("standard", "EN"): 4, ("standard", "VIF"): 4, ("vifb", "EN"): 4}


def test_undefined_values_keep_their_reason(folders):
    images.write(folders / "fused" / "n0.tif", images.read(folders / "a" / "n0.png"))
    frame, problems = score(folders, names="SCD", processes=2)
    first = frame.set_index("image").loc["n0"]
    assert math.isnan(first["value"]) and "source a" in first["reason"] and problems == []
    assert frame["value"].notna().sum() == 3


def test_everything_that_cannot_be_scored_is_named_and_the_rest_goes_on(folders):
    fused = folders / "fused"
    gray = picture(40)
    for stem in (
        "rgba",
        "sixteen",
        "palette",
        "colour",
        "corrupt",
        "small",
        "empty",
        "twice",
        "alone",
        "float",
    ):
        if stem != "alone":
            images.write(folders / "a" / f"{stem}.png", gray)
            images.write(folders / "b" / f"{stem}.png", 255 - gray)
    rgb = np.stack([gray, gray[::-1], 255 - gray], axis=-1)
    Image.fromarray(np.dstack([rgb, np.full_like(gray, 128)])).save(fused / "rgba.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(fused / "sixteen.png")
    Image.fromarray(gray).convert("P").save(fused / "palette.gif")
    images.write(fused / "colour.png", rgb)
    images.write(fused / "corrupt.png", gray)
    data = (fused / "corrupt.png").read_bytes()
    (fused / "corrupt.png").write_bytes(data[: len(data) // 2])
    images.write(fused / "small.png", gray[:-1])
    (fused / "empty.png").write_bytes(b"")
    Image.fromarray(gray.astype(np.float32)).save(fused / "float.tiff")
    images.write(fused / "twice.png", gray)
    images.write(fused / "twice.jpg", gray)
    images.write(fused / "alone.png", gray)
    os.unlink(fused / "n3.tif")

    for processes in (1, 2):
        frame, problems = score(folders, names=["EN", "Qabf"], processes=processes)
        assert sorted(frame["image"].unique()) == [
            "colour",
            "n0",
            "n1",
            "n2",
            "palette",
            "rgba",
            "sixteen",
        ]
        for stem in ("corrupt", "small", "empty", "twice", "alone", "n3", "float"):
            assert sum(stem in sentence for sentence in problems) >= 1, stem
        assert all("\n" not in sentence and str(folders) in sentence for sentence in problems)
        assert not any(
            stem in sentence
            for sentence in problems
            for stem in ("rgba", "sixteen", "palette", "colour")
        )
    entropy = frame[frame["metric"] == "EN"].set_index("image")["value"]
    assert entropy["rgba"] == entropy["colour"] == metrics.entropy(images.luma(rgb))
    assert entropy["sixteen"] == entropy["palette"] == metrics.entropy(gray)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"names": ["QABF"]}, ["'QABF'", "did you mean 'Qabf'?"]),
        ({"names": ["VIF"], "convention": ["vifb", "multi-focus"]}, ["'VIF'", "exists in"]),
        ({"names": ["SSIM"], "convention": "multi-focus"}, ["'SSIM'", "against a reference only"]),
        ({"convention": ["standard", "standart"]}, ["'standart'", "did you mean 'standard'?"]),
        ({"convention": []}, ["at least one"]),
        ({"processes": 0}, ["processes", "0"]),
        ({"processes": 1.5}, ["processes", "1.5"]),
    ],
)
def test_what_nobody_defines_is_refused_before_any_image_is_read(folders, options, words):
    for name in ("a", "b", "fused"):
        for path in (folders / name).iterdir():
            path.write_bytes(b"not read")
    with pytest.raises(ValueError) as error:
        score(folders, **options)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_convention_without_reference_metrics_refuses_a_reference(folders):
    with pytest.raises(ValueError, match="against a reference"):
        score(folders, convention="moe-fusion", reference=folders / "a")


def test_folders_that_are_missing_or_share_no_name(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        score_folder(folders / "nowhere", folders / "a", folders / "b")
    with pytest.raises(ValueError, match="got a file"):
        score_folder(folders / "fused" / "n0.tif", folders / "a", folders / "b")
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="same name") as error:
        score_folder(tmp_path / "none", folders / "a", folders / "b")
    assert "none (0 images)" in str(error.value) and "a (4 images)" in str(error.value)


def test_memory_is_that_of_all_processes_and_what_does_not_fit_is_said(folders, capsys):
    alone, _ = score(folders, names=["EN", "Qcv"], convention="standard")
    together, _ = score(
        folders, names=["EN", "Qcv"], convention="standard", processes=3, memory=0.45
    )
    pd.testing.assert_frame_equal(alone, together)
    assert "2 of 3 processes, to stay within 0.5 GB" in capsys.readouterr().err
    large = np.zeros((2000, 3000), np.uint8)
    for folder in ("fused", "a", "b"):
        images.write(folders / folder / "large.png", large)
    with pytest.raises(ValueError, match=r"large.png: expected 0.8 GB for Qcv.* --memory 0.9"):
        score(folders, names=["EN", "Qcv"], convention="standard", memory=0.6)
    frame, _ = score(folders, names=["EN"], convention="standard", memory=0.6)
    assert "large" in set(frame["image"])


@pytest.mark.parametrize(
    "name", [*NEEDS, "FMI-wavelet", "FMI-dct", "MS-SSIM", "VIF", "Qabf", "EI", "MI"]
)
def test_a_metric_takes_no_more_memory_a_pixel_than_it_is_said_to(name):
    peaks = []
    for height in (40, 400, 800):  # the first imports; strips of a fixed size are in both others
        triple = np.random.default_rng(0).integers(0, 256, (3, height, 801), dtype=np.uint8)
        tracemalloc.start()
        for convention in ("standard", "moe-fusion"):  # FMI-dct takes more in the second
            chosen = set(metrics.serving(convention, "sources", "all")) & {name}
            metrics.evaluate(*triple, chosen, convention)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    said = needs(["EN", name])[0]
    assert (0.6 * said if name in NEEDS else 0) < (peaks[2] - peaks[1]) / (400 * 801) < said
