"""The printed numbers: complete, in the schema, as printed; bad files and questions refused in one
sentence.
"""

import numpy as np
import pandas as pd
import pytest

from fusionlib import audit, published

COUNTS = {
    ("moe-fusion", "1"): 240,
    ("moe-fusion", "2"): 96,
    ("moe-fusion", "3"): 48,
    ("moe-fusion", "text"): 9,
    ("multi-focus", "1"): 11,
    ("multi-focus", "A-1"): 60,
    ("multi-focus", "A-2"): 60,
    ("multi-focus", "A-3"): 48,
}

# Read from the page by eye: paper, table, dataset, method, variant, metric, as printed.
BY_EYE = """
moe-fusion 1 M3FD DenseFuse - EN 6.4134
moe-fusion 1 M3FD PIAFusion - SD 10.1228
moe-fusion 1 M3FD TarDAL - SCD 1.5334
moe-fusion 1 M3FD MoE-Fusion - VIF 1.0034
moe-fusion 1 FLIR-aligned DIDFuse - SF 0.0670
moe-fusion 1 FLIR-aligned YDTR - Qabf 0.3333
moe-fusion 1 FLIR-aligned MoE-Fusion - MI 3.1209
moe-fusion 1 LLVIP SwinFuse - AG 3.7344
moe-fusion 1 LLVIP AUIF - SCD 1.2840
moe-fusion 1 LLVIP MoE-Fusion - Qabf 0.5932
moe-fusion 2 M3FD MoE-Fusion w/o_MoGE AG 5.6521
moe-fusion 2 FLIR-aligned MoE-Fusion w/o_MoLE SCD 1.0976
moe-fusion 2 LLVIP MoE-Fusion Att-Local EN 7.2528
moe-fusion 2 LLVIP MoE-Fusion full SF 0.0862
moe-fusion 3 FLIR-aligned Infrared - mAP 48.40
moe-fusion 3 FLIR-aligned AUIF - AP_bicycle 29.60
moe-fusion 3 FLIR-aligned MoE-Fusion - AP_person 55.00
multi-focus 1 - BA - loudness 0.25
multi-focus 1 - PSO - c2 2
multi-focus A-1 lab CvT - Qabf 0.8190
multi-focus A-1 lab CvT+BA - Qabf 0.897
multi-focus A-1 lab LP+PSO - w2 0.48
multi-focus A-1 lab LP - seconds 4.4250
multi-focus A-2 leopard LP+BA - EN 7.44718
multi-focus A-2 leopard LP - CC 1
multi-focus A-2 leopard CvT+PSO - seconds 861.270
multi-focus A-3 all LP+BA - PSNR 189.76
multi-focus A-3 all CvT+PSO - SSIM 0.96
"""


@pytest.fixture
def folder(tmp_path):
    """A copy of the published folder that a test may break."""
    for path in published.FOLDER.glob("*.csv"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(("paper", "number"), COUNTS)
def test_every_printed_number_is_there(paper, number):
    rows = published.table(paper, number)
    assert len(rows) == COUNTS[paper, number]
    assert tuple(rows.columns) == published.COLUMNS
    assert set(rows["paper"]) == {paper} and set(rows["table"]) == {number}
    assert rows["value"].dtype == np.float64 and np.isfinite(rows["value"]).all()


@pytest.mark.parametrize("paper", published.PAPERS)
def test_all_is_the_sum_of_the_tables(paper):
    assert len(published.table(paper, "all")) == sum(
        n for (p, _), n in COUNTS.items() if p == paper
    )


@pytest.mark.parametrize("line", BY_EYE.strip().splitlines())
def test_numbers_read_by_eye(line):
    paper, number, dataset, method, variant, metric, printed = (
        "" if word == "-" else word.replace("_", " ") for word in line.split()
    )
    rows = published.table(paper, number)
    cell = rows[
        (rows["dataset"] == dataset)
        & (rows["method"] == method)
        & (rows["variant"] == variant)
        & (rows["metric"] == metric)
    ]
    assert list(cell["printed"]) == [printed]
    assert list(cell["value"]) == [float(printed)]


def test_number_may_be_an_integer():
    pd.testing.assert_frame_equal(
        published.table("moe-fusion", 3), published.table("moe-fusion", "3")
    )


def test_grids_are_full():
    one = published.table("moe-fusion", 1)
    assert one.groupby(["dataset", "method"]).size().eq(8).all() and one["method"].nunique() == 10
    assert dict(one.groupby("dataset")["n_images"].first()) == {
        "M3FD": 300,
        "FLIR-aligned": 1013,
        "LLVIP": 3463,
    }
    two = published.table("moe-fusion", 2)
    assert set(two["variant"]) == {"full", "w/o MoLE", "w/o MoGE", "Att-Local"} and set(
        two["method"]
    ) == {"MoE-Fusion"}
    three = published.table("moe-fusion", 3)
    assert {"Visible", "Infrared"} | set(one["method"]) == set(three["method"])
    for number, n_images in (("A-1", 1), ("A-2", 1), ("A-3", 93)):
        rows = published.table("multi-focus", number)
        assert set(rows["method"]) == {"CvT", "CvT+PSO", "CvT+BA", "LP", "LP+PSO", "LP+BA"}
        assert set(rows["n_images"]) == {n_images}


def test_marked_numbers_are_the_largest_and_in_order():
    for number, depth in ((1, 3), (2, 1), (3, 1)):
        for _, column in published.table("moe-fusion", number).groupby(["dataset", "metric"]):
            best = column.sort_values("value", ascending=False)
            assert list(best["rank"].iloc[:depth]) == list(range(1, depth + 1))
            assert best["rank"].iloc[depth:].isna().all()
    assert published.table("multi-focus", "all")["rank"].isna().all()


@pytest.mark.parametrize("paper", published.PAPERS)
def test_refuted_numbers_are_what_the_audit_computes(paper):
    rows = published.table(paper, "all")
    assert list(rows["refuted_by"]) == audit.refutations(rows)
    assert set(rows["refuted_by"]) - {""} <= set(published.claims()["id"])


def test_refuted_numbers():
    rows = published.table("multi-focus", "all")
    assert set(rows[rows["refuted_by"] == "mf-psnr-equation"]["metric"]) == {"PSNR"}
    assert rows[rows["metric"] == "PSNR"]["refuted_by"].eq("mf-psnr-equation").all()
    assert rows[rows["refuted_by"] != ""]["status"].str.startswith("contradicts mf-").all()
    rows = published.table("moe-fusion", "all")
    assert (rows["refuted_by"] == "").all() and (rows["status"] == "printed").all()


@pytest.mark.parametrize(
    ("printed", "places", "half"), [("0.897", 3, 5e-4), ("0.8970", 4, 5e-5), ("1", 0, 0.5)]
)
def test_precision_of_print(printed, places, half):
    assert published.decimals(printed) == places
    assert published.half_unit(printed) == pytest.approx(half)


def test_claims_are_complete():
    claims = published.claims()
    assert tuple(claims.columns) == published.CLAIM_COLUMNS
    assert set(claims["kind"]) == set(published.KINDS)
    assert set(claims["settled_by"]) == set(published.SETTLED_BY) and set(claims["paper"]) == set(
        published.PAPERS
    )
    assert claims["id"].is_unique and len(claims) >= 70


def test_claimed():
    assert published.claimed("first=7;metrics=SF SD") == {"first": "7", "metrics": "SF SD"}
    assert published.claimed("") == {}
    with pytest.raises(ValueError, match="claimed: expected name=value"):
        published.claimed("first")


@pytest.mark.parametrize(
    ("paper", "number", "message"),
    [
        ("moe", 1, "paper: expected one of moe-fusion, multi-focus, got 'moe'"),
        ("moe-fusion", 4, "table: moe-fusion has the tables 1, 2, 3, text, got 4"),
        ("multi-focus", "A-4", "table: multi-focus has the tables 1, A-1, A-2, A-3, got 'A-4'"),
    ],
)
def test_unknown_paper_or_table(paper, number, message):
    with pytest.raises(ValueError, match=message):
        published.table(paper, number)


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the file .*moe-fusion.csv, got none"):
        published.table("moe-fusion", 1, tmp_path)


FIRST = "moe-fusion,1,M3FD,evaluation,300,DenseFuse,,EN,moe-fusion,6.4134,,,,printed,,6.4134\n"


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (
            FIRST.replace("printed,,6.4134", "printed,,6.4143"),
            "line 2: value: expected the printed 6.4143, got 6.4134",
        ),
        (FIRST.replace("6.4134,,,,", "x,,,,"), "line 2: value: expected a number"),
        (
            FIRST.replace("printed,,6.4134", "printed,,-"),
            "line 2: printed: expected a decimal number, got '-'",
        ),
        (FIRST.replace("6.4134,,", "6.4134,4,"), "line 2: rank: expected 1, 2, 3"),
        (FIRST.replace("300", "many"), "line 2: n_images: expected a whole number"),
        (FIRST.replace(",printed,", ",wrong,"), "line 2: status: expected 'printed', got 'wrong'"),
        (
            FIRST.replace("printed,,", "printed,moe-marks,"),
            "line 2: status: expected 'contradicts moe-marks', got 'printed'",
        ),
        (FIRST.replace(",EN,", ",,"), "line 2: metric: expected a text"),
        (FIRST.replace("moe-fusion,1", "multi-focus,1"), "line 2: paper: expected moe-fusion"),
        (FIRST + FIRST, "line 3: this printed number is entered a second time"),
    ],
)
def test_schema_refuses(folder, new, message):
    path = folder / "moe-fusion.csv"
    text = path.read_text(encoding="utf-8")
    assert text.count(FIRST) == 1 and new != FIRST
    path.write_text(text.replace(FIRST, new), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        published.table("moe-fusion", 1, folder)


@pytest.mark.parametrize("content", ["", "paper,table\n", 'paper,table\n"', "\0\0"])
def test_broken_file(folder, content):
    (folder / "multi-focus.csv").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"multi-focus\.csv: expected"):
        published.table("multi-focus", "A-1", folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("moe-marks,moe-fusion", "moe-marks,other", "'moe-marks', paper: expected .* got 'other'"),
        ("moe-marks,", "moe-spread,", "expected one row per id"),
        (",tables,marks,", ",tables,,", "needs an id, a claim, and a check or a note"),
        (
            ",claim,tables,marks,",
            ",sure,tables,marks,",
            "kind: expected one of claim, consistency, got",
        ),
        (
            ",tables,marks,",
            ",proof,marks,",
            "settled_by: expected one of tables, run, nothing, got 'proof'",
        ),
    ],
)
def test_broken_claims(folder, old, new, message):
    path = folder / "claims.csv"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        published.claims(folder)
