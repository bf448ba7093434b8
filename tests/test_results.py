"""The results table and its join with printed numbers."""

import numpy as np
import pandas as pd
import pytest

from fusionlib import published, results, runs


def printed(**changes):
    row = {
        "paper": "p",
        "table": "1",
        "dataset": "leopard",
        "split": "",
        "n_images": 1,
        "method": "LP",
        "variant": "",
        "metric": "MI",
        "convention": "c",
        "value": 10.3981,
        "printed": "10.3981",
        "status": "printed",
        "refuted_by": "",
    }
    return pd.DataFrame([{**row, **changes}])


def ours(value, **changes):
    frame = pd.DataFrame([{"metric": "MI", "value": value}])
    return results.rows(frame, **{"dataset": "leopard", "n_images": 1, "method": "LP", **changes})


@pytest.mark.parametrize(
    "value, verdict, difference",
    [(10.39806, "equal", 0.0), (10.4, "close", 0.0019), (10.8, "differs", 0.4019)],
)
def test_same_images_get_a_difference(value, verdict, difference):
    line = results.join_published(printed(), ours(value)).iloc[0]
    assert line["verdict"] == verdict and line["difference"] == pytest.approx(difference, abs=1e-9)


@pytest.mark.parametrize("changes", [{"dataset": "mine"}, {"n_images": 2}, {"split": "test"}])
def test_other_images_get_none(changes):
    line = results.join_published(printed(), ours(10.3981, **changes)).iloc[0]
    assert (
        line["verdict"] == "other images"
        and np.isnan(line["difference"])
        and line["ours"] == 10.3981
    )


def test_other_verdicts():
    assert (
        results.join_published(printed(), ours(1.0, method="CvT")).iloc[0]["verdict"] == "not run"
    )
    assert results.join_published(printed(), ours(np.nan)).iloc[0]["verdict"] == "not checkable"
    assert (
        results.join_published(printed(), ours(10.0, reference_kind=results.CONSTRUCTED)).iloc[0][
            "verdict"
        ]
        == "approximate"
    )
    assert (
        results.join_published(printed(metric="seconds"), ours(3.0).assign(metric="seconds")).iloc[
            0
        ]["verdict"]
        == "other machine"
    )
    line = results.join_published(printed(refuted_by="mf-psnr"), ours(42.0)).iloc[0]
    assert line["verdict"] == "contradiction" and np.isnan(line["difference"])


def test_no_verdict_is_read_from_a_sentence():
    said = ours(10.3981, status=f"not a {results.APPROXIMATE}")
    line = results.join_published(printed(status="contradicts nothing"), said).iloc[0]
    assert (line["verdict"], line["refuted_by"]) == ("equal", "")


def test_results_from_before_the_kind_of_the_reference_was_a_column(tmp_path):
    for name, frame in (
        ("old", ours(10.0, status=results.APPROXIMATE).drop(columns="reference_kind")),
        ("new", ours(10.0, reference_kind="exact", status=f"no {results.APPROXIMATE}")),
    ):
        runs.Run(name, tmp_path / name, {}).finish(frame)
    assert results.load(tmp_path)["reference_kind"].tolist() == ["exact", results.CONSTRUCTED]


def test_a_printed_number_is_met_at_its_own_precision():
    line = results.join_published(printed(value=0.999, printed="0.999"), ours(0.99942)).iloc[0]
    assert line["verdict"] == "equal"


def test_mean_counts_what_is_defined_and_keeps_the_reason():
    frame = results.rows(
        pd.DataFrame(
            {
                "metric": "MI",
                "value": [1.0, 2.0, np.nan],
                "image": list("abc"),
                "status": ["", "constructed reference", ""],
                "reference_kind": ["exact", "constructed", "exact"],
            }
        ),
        method="LP",
        dataset="d",
    )
    mean = results.mean(frame).iloc[0]
    assert (mean["value"], mean["n_images"], mean["status"]) == (1.5, 2, "constructed reference")
    assert mean["reference_kind"] == "constructed", "as approximate as its least certain image"


def test_interval_covers_the_mean_and_shrinks():
    values = np.random.default_rng(0).normal(5, 1, 400)
    low, high = results.interval(values)
    assert low < values.mean() < high and high - low == pytest.approx(4 / 20, rel=0.15)
    assert results.interval([np.nan]) == (pytest.approx(np.nan, nan_ok=True),) * 2
    assert results.interval(values, seed=3) == results.interval(values, seed=3)


def test_rows_of_the_papers_own_pair_stand_for_its_table():
    frame = pd.concat(
        [
            ours(10.0, paper="multi-focus", dataset="classic").assign(printed_as="leopard"),
            ours(2.0, paper="multi-focus", dataset="classic").assign(printed_as=""),
        ]
    )
    leopard = results.select_for_table(frame, published.table("multi-focus", "A-2"))
    assert leopard["dataset"].tolist() == ["leopard"] and leopard["value"].tolist() == [10.0]
    everything = results.select_for_table(frame, published.table("multi-focus", "A-3"))
    assert everything["value"].tolist() == [6.0] and everything["n_images"].tolist() == [2]


def test_unknown_label_is_refused():
    with pytest.raises(ValueError, match="expected labels among .*, got methd"):
        results.rows(pd.DataFrame({"metric": [], "value": []}), methd="LP")
