"""The command line as a stranger types it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from fusionlib import images, metrics, published, table_rows


def fusionlib(*words):
    return subprocess.run(
        [sys.executable, "-m", "fusionlib", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def pairs(tmp_path):
    rng = np.random.default_rng(0)
    for name, shape in {"one": (40, 50), "two": (33, 47, 3)}.items():
        for side in "ab":
            images.write(
                tmp_path / side / f"{name}.png", rng.integers(0, 256, shape).astype(np.uint8)
            )
    return tmp_path


def refuses(done, *words):
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_doctor_and_methods():
    assert fusionlib("doctor").stdout.strip().endswith("all is well")
    assert "LP" in fusionlib("methods").stdout


def test_fuse_and_score_folders(pairs):
    done = fusionlib(
        "fuse", "--method", "LP", "--set", "weight=0.4", pairs / "a", pairs / "b", pairs / "out"
    )
    assert done.returncode == 0 and "2 pairs" in done.stdout
    assert images.read(pairs / "out" / "color" / "two.png").shape == (33, 47, 3)
    scored = fusionlib(
        "score", pairs / "out" / "gray", pairs / "a", pairs / "b", "--csv", pairs / "s.csv"
    )
    assert scored.returncode == 0, scored.stderr
    assert "Qabf" in scored.stdout and (pairs / "s.csv").read_text().count("\n") > 16
    (pairs / "out" / "gray" / "one.png").write_bytes(b"broken")
    scored = fusionlib("score", pairs / "out" / "gray", pairs / "a", pairs / "b")
    assert (
        scored.returncode == 1 and "one.png" in scored.stderr and "1 images scored" in scored.stdout
    )


def test_score_finds_what_a_fusion_left_and_gives_a_row_to_paste(pairs):
    out, rng = pairs / "out", np.random.default_rng(1)
    for path in [pairs / side / f"{name}.png" for side in "ab" for name in ("one", "two")]:
        images.write(path, rng.integers(0, 256, (80, 96)).astype(np.uint8))  # VIF needs 41 pixels
    fusionlib("fuse", "--method", "average", pairs / "a", pairs / "b", out)
    words = ("score", out, pairs / "a", pairs / "b", "--convention", "cddfuse")
    done = fusionlib(*words)
    assert f"{out / 'gray'}: scored, since {out} holds no images itself" in done.stdout
    means = dict.fromkeys(table_rows.ORDER, 0.0)
    for name in ("one", "two"):
        gray = [images.luma(images.read(pairs / s / f"{name}.png")) for s in ("a", "b")]
        fused = images.read(out / "gray" / f"{name}.png")
        values = metrics.evaluate(fused, *gray, convention="cddfuse")
        means = {key: value + values[key] / 2 for key, value in means.items()}
    row = " & ".join(f"{value:.2f}" for value in means.values())
    title = "to paste, cddfuse, EN SD SF MI SCD VIF Qabf SSIM:"
    assert f"{title}\n  {row}\n" in done.stdout
    beside = fusionlib(*words, "--beside", "table-1").stdout
    printed = published.table("moe-fusion", 1)
    lines = [line.split() for line in beside.splitlines()]
    for method in printed["method"].unique():
        assert len([line for line in lines if line[:1] == [method]]) == 3, "a row a data set"
    assert len([line for line in lines if line[:1] == ["(yours)"] and len(line) == 9]) == 3
    refuses(fusionlib(*words, "--beside", "table-9"), "beside", "table-A-3", "'table-9'")


def test_score_against_references_beside_a_printed_table(pairs):
    """The multi-focus tables print CC, RMSE and SSIM against references."""
    words = ("score", pairs / "a", pairs / "a", pairs / "b", "--beside", "table-A-3")
    done = fusionlib(*words, "--reference", pairs / "a")
    heads, rows = (
        [words for words in map(str.split, done.stdout.splitlines()) if words[:1] == [first]]
        for first in ("MI", "(yours)")
    )
    own = dict(zip(heads[0], rows[0][1:], strict=True))
    assert float(own["RMSE"]) == 0 and float(own["CC"]) == float(own["SSIM"]) == 1


def test_fuse_two_files(pairs):
    assert (
        fusionlib(
            "fuse", "--method", "average", pairs / "a/one.png", pairs / "b/one.png", pairs / "f.png"
        ).returncode
        == 0
    )
    assert images.read(pairs / "f.png").shape == (40, 50)


def test_fuse_by_weights_of_ones_own(pairs):
    """Saved by PyTorch under this suite's names; the folder says whose weights they were not."""
    import torch

    from fusionlib.networks import COMPARED

    torch.save(COMPARED["AUIF"].build(seed=4).state_dict(), pairs / "mine.pth")
    words = ("fuse", "--method", "AUIF", "--checkpoint", pairs / "mine.pth")
    sources = (pairs / "a", pairs / "b", pairs / "out")
    done = fusionlib(*words, "--unverified", *sources)
    assert done.returncode == 0, done.stderr
    record = json.loads((pairs / "out/run.json").read_text())
    assert record["method"] == "AUIF (unverified)"
    assert record["checkpoint"] == str(pairs / "mine.pth")
    files = [pairs / "a/one.png", pairs / "b/one.png", pairs / "x.png"]
    refuses(fusionlib(*words, *files), "mine.pth", "--unverified")
    refuses(fusionlib("fuse", "--method", "LP", "--unverified", *files), "unverified", "LP")


def test_a_method_from_a_file_of_ones_own(pairs):
    mine = pairs / "my_method.py"
    mine.write_text(
        "from fusionlib.methods import register\n"
        "import helper\n"
        "@register('mine')\n"
        "def mine(a, b):\n"
        '    """The infrared image upside down."""\n'
        "    return helper.flip(a)\n"
    )
    (pairs / "helper.py").write_text("def flip(a):\n    return a[::-1]\n")
    assert "The infrared image upside down." in fusionlib("methods", "--plugin", mine).stdout
    a, b, out = pairs / "a/one.png", pairs / "b/one.png", pairs / "f.png"
    done = fusionlib("fuse", "--plugin", mine, "--method", "mine", a, b, out)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(images.read(out), images.read(a)[::-1])
    refuses(fusionlib("fuse", "--method", "mine", a, b, out), "method: expected one of", "'mine'")
    mine.write_text(mine.read_text().replace("helper.flip(a)", "a[1:]"))
    refuses(
        fusionlib("fuse", "--plugin", mine, "--method", "mine", a, b, out),
        "mine: expected its function to return a plane of numbers of shape (40, 50), got an array",
    )
    mine.write_text(mine.read_text().replace("'mine'", "'average'"))
    refuses(fusionlib("methods", "--plugin", mine), "my_method.py", "got 'average', which another")
    refuses(fusionlib("methods", "--plugin", pairs / "no.py"), "no.py", "found nothing")


def test_one_sentence_each(pairs):
    a, b, out = pairs / "a/one.png", pairs / "b/one.png", pairs / "f.png"
    refuses(fusionlib("fuse", "--method", "XX", a, b, out), "method: expected one of", "'XX'")
    refuses(
        fusionlib("fuse", "--method", "LP", "--set", "lvls=3", a, b, out), "no parameter named lvls"
    )
    refuses(fusionlib("fuse", "--method", "LP", "--set", "levels=9", a, b, out), "9 levels")
    refuses(
        fusionlib("fuse", "--method", "LP", a, pairs / "b/two.png", out),
        "one.png",
        "two.png",
        "40x50",
        "33x47",
    )
    refuses(
        fusionlib("fuse", "--method", "LP", pairs / "a/none.png", b, out),
        "none.png",
        "found nothing",
    )
    refuses(fusionlib("fuse", "--method", "LP", pairs / "a", b, out), "two files or two folders")
    refuses(
        fusionlib("score", pairs / "a", pairs / "a", pairs / "b", "--convention", "mine"),
        "mine",
        "moe-fusion",
    )
    refuses(fusionlib("report", pairs / "nowhere"), "nowhere", "found nothing")
    refuses(fusionlib("run", pairs / "no.ipynb", pairs / "x"), "no.ipynb", "expected a notebook")
    refuses(fusionlib("fuse", "--method"), "requires an argument")
    (pairs / "b/one.png").write_bytes((pairs / "a/one.png").read_bytes()[:300])
    refuses(fusionlib("fuse", "--method", "LP", a, b, out), "one.png", "truncated")
    (pairs / "file").write_text("in the way")
    refuses(
        fusionlib("fuse", "--method", "LP", a, a, pairs / "file" / "f.png"), "cannot be written"
    )
    assert not out.exists()
