"""Which convention made a number: by recomputation with images, by bounds and ranges without."""

import subprocess
import sys

import numpy as np
import pytest
from oracles.further import triples
from oracles.vectors import triplets

from fusionlib import images, metrics, published
from fusionlib.experiments import whose

A, B, FUSED = triplets()["v0_small"]
# README of MMIF-CDDFuse; its SSIM is the sum over both sources
CDDFUSE = {
    "TNO": "EN=7.12 SD=46.00 SF=13.15 MI=2.19 SCD=1.76 VIF=0.77 Qabf=0.54 SSIM=1.03",
    "RoadScene": "EN=7.44 SD=54.67 SF=16.36 MI=2.30 SCD=1.81 VIF=0.69 Qabf=0.52 SSIM=0.98",
}


def left(frame) -> list[str]:
    return list(frame.loc[frame["possible"], "convention"])


def printed_row(convention: str, triple=(FUSED, A, B), names=None, digits=4) -> dict[str, str]:
    values = metrics.evaluate(*triple, names, convention)
    return {name: f"{value:.{digits}f}" for name, value in values.items() if np.isfinite(value)}


@pytest.mark.parametrize("convention", [c for c in metrics.CONVENTIONS if c != "toolbox"])
@pytest.mark.parametrize("vector", ["v0_small", "v1_odd_max", "v3_flat_regions"])
def test_the_images_name_the_convention(vector, convention):
    a, b, fused = triplets()[vector]
    frame = whose.possible(printed_row(convention, (fused, a, b)), (fused, a, b))
    assert left(frame) == [convention]
    assert whose.sentence(frame).startswith(f"{convention}: ")
    assert all(frame["reason"].str.len() > 10)


def test_where_conventions_agree_it_is_undecided():
    triple = triples()["n0_mean"]
    frame = whose.possible(printed_row("toolbox", triple), triple)
    assert left(frame) == ["standard", "toolbox"]
    assert "undecided: standard, toolbox" in whose.sentence(frame)
    assert "undecided" in whose.sentence(whose.possible({"EN": "6.8"}))
    # a black fused image has a Qcv in the toolbox only, and in vifb
    black = triples()["n8_black_fused"]
    assert left(whose.possible(printed_row("toolbox", black, ["Qcv"]), black)) == [
        "vifb",
        "toolbox",
    ]


def test_a_digit_off_is_none_of_them():
    row = printed_row("moe-fusion")
    row["SD"] = f"{float(row['SD']) + 0.0001:.4f}"
    frame = whose.possible(row, (FUSED, A, B))
    assert left(frame) == [] and "no convention" in whose.sentence(frame)
    reason = frame.set_index("convention").loc["moe-fusion", "reason"]
    assert reason.startswith(f"1 of {len(row)} not met: SD {row['SD']} is ")


def test_every_row_of_table_1_by_its_numbers_alone():
    rows = published.table("moe-fusion", 1)
    for key, row in rows.groupby(["dataset", "method"]):
        frame = whose.possible(dict(zip(row["metric"], row["printed"], strict=True)))
        assert left(frame) == ["moe-fusion"], key


@pytest.mark.parametrize("dataset", CDDFUSE)
def test_the_rows_of_cddfuse_by_their_numbers_alone(dataset):
    frame = whose.possible(dict(word.split("=") for word in CDDFUSE[dataset].split()))
    assert left(frame) == ["cddfuse"]
    reasons = frame.set_index("convention")["reason"]
    assert "15.97" in reasons["standard"] + reasons["moe-fusion"] or "SSIM" in reasons["moe-fusion"]
    assert "a mean over two sources" in reasons["standard"]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"SD": "46.0"}, {"standard", "cddfuse", "vifb"}),
        ({"PSNR": "61.2"}, {"moe-fusion", "vifb"}),
        ({"PSNR": "18.9"}, {"standard", "cddfuse"}),
        ({"SF": "0.045"}, {"moe-fusion"}),
        ({"RMSE": "0.19"}, {"vifb"}),
        ({"Qabf": "0.98"}, {"multi-focus"}),
        ({"Nabf": "1.2"}, set()),
    ],
)
def test_single_numbers(numbers, expected):
    assert set(left(whose.possible(numbers))) == expected


def test_the_ranges_hold_what_the_conventions_give():
    """No convention may be left out by a value of its own on varied images."""
    ordinary = ("n0_mean", "n1_odd_max", "n2_saturated", "n6_sharpened", "n9_large")
    for vector in ordinary:
        triple = triples()[vector]
        for convention in metrics.CONVENTIONS:
            row = printed_row(convention, triple, "all", digits=6)
            frame = whose.possible(row)
            assert convention in left(frame), (vector, convention, frame["reason"].tolist())


def test_the_command_line(tmp_path):
    def run(*words):
        command = [sys.executable, "-m", "fusionlib", "whose", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True)

    done = run("EN=6.8", "SD=9.6", "SF=0.045", "VIF=0.87")
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("moe-fusion: ")
    paths = [tmp_path / f"{name}.png" for name in "fab"]
    for path, image in zip(paths, (FUSED, A, B), strict=True):
        images.write(path, image)
    row = [f"{name}={text}" for name, text in printed_row("cddfuse").items()]
    done = run(*row, "--images", *paths)
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("cddfuse: "), done
    for words, said in (
        (["EN"], "expected NAME=NUMBER"),
        (["EM=1"], "got 'EM'"),
        (["EN=x"], "expected a number as printed"),
    ):
        done = run(*words)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr
