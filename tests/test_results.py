"""The results table and its join with printed numbers."""

import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats

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
    stated = ours(10.3981, status=f"not a {results.APPROXIMATE}")
    line = results.join_published(printed(status="contradicts nothing"), stated).iloc[0]
    assert (line["verdict"], line["refuted_by"]) == ("equal", "")


def test_results_from_before_the_kind_of_the_reference_was_a_column(tmp_path):
    for name, frame in (
        ("old", ours(10.0, status=results.APPROXIMATE).drop(columns="reference_kind")),
        ("new", ours(10.0, reference_kind="exact", seed=1, status=f"no {results.APPROXIMATE}")),
    ):
        runs.Run(name, tmp_path / name, {}).finish(frame)
    assert results.load(tmp_path)["reference_kind"].tolist() == ["exact", results.CONSTRUCTED]


@pytest.mark.parametrize(
    "values, verdict, where",
    [
        ([10.0, 10.2], "too few trainings", ""),
        ([10.2, 10.3, 10.5], "consistent", "inside"),
        ([10.5, 10.6, 10.7], "consistent", "inside"),
        ([10.9, 10.91, 10.92], "not consistent", "lower"),
        ([9.9, 9.91, 9.92], "not consistent", "higher"),
    ],
)
def test_print_beside_trainings(values, verdict, where):
    frames = [
        ours(value + shift, seed=seed, checkpoint=f"{results.TRAINED}, 4 epochs", n_images=np.nan)
        for seed, value in enumerate(values)
        for shift in (-1.0, 1.0)
    ]
    frame = pd.concat(frames).assign(image=["a", "b"] * len(values))
    line = results.join_published(printed(n_images=2), results.mean(frame)).iloc[0]
    assert (line["verdict"], line["ours"]) == (verdict, pytest.approx(np.mean(values)))
    if where:
        low, high = stats.t.interval(
            0.95, len(values) - 1, np.mean(values), np.std(values, ddof=1) * np.sqrt(4 / 3)
        )
        assert line["note"] == f"a further training: {low:.4f} to {high:.4f}, print is {where}"


@pytest.fixture
def finished(tmp_path):
    """A folder with two finished nodes, ``a`` and ``b``, and one that is not whole."""
    for seed, name in enumerate("ab"):
        runs.Run(name, tmp_path / name, {}).finish(ours(10.0 + seed, seed=seed))
    (tmp_path / "nodes.json").write_text(json.dumps([{"name": "a"}, {"name": "b"}]))
    return tmp_path


DAMAGES = {
    "changed": lambda home: (home / "results.csv").write_text(
        (home / "results.csv").read_text().replace("10.0", "11.0")
    ),
    "missing": lambda home: (home / "results.csv").unlink(),
    "record empty": lambda home: (home / "run.json").write_text(""),
    "record cut": lambda home: (home / "run.json").write_bytes(
        (home / "run.json").read_bytes()[:50]
    ),
    "record of nothing": lambda home: (home / "run.json").write_text("{}"),
    "record of other kinds": lambda home: (home / "run.json").write_text(
        '{"parameters": 5, "files": [1]}'
    ),
    "record of a file elsewhere": lambda home: (home / "run.json").write_text(
        '{"parameters": {}, "files": {"../b/results.csv": ""}}'
    ),
    "empty, with its checksum": lambda home: replace(home, b""),
    "not text, with its checksum": lambda home: replace(home, b"\x87\xff\x00"),
    "no number, with its checksum": lambda home: replace(home, b"metric,value\nEN,abc\n"),
    "no values, with its checksum": lambda home: replace(home, b"metric\nEN\n"),
}


def replace(home, content):
    """Put other results into a folder, and their checksum into its record."""
    (home / "results.csv").write_bytes(content)
    record = json.loads((home / "run.json").read_text())
    record["files"] = {"results.csv": hashlib.sha256(content).hexdigest()}
    (home / "run.json").write_text(json.dumps(record))


@pytest.mark.parametrize("damage", DAMAGES)
def test_results_that_are_not_whole_do_not_count(finished, damage):
    DAMAGES[damage](finished / "a")
    assert results.load(finished)["value"].tolist() == [11.0]
    (name, sentence), *others = results.read(finished)[1].items()
    assert name == "a" and str(finished / "a") in sentence and not others


def test_a_folder_that_is_no_node_does_not_count(finished):
    shutil.copytree(finished / "a", finished / "a.bak")
    assert sorted(results.load(finished)["value"]) == [10.0, 11.0]
    assert "it is no node of" in results.read(finished)[1]["a.bak"]


def test_without_a_list_of_nodes_two_folders_of_the_same_rows_do_not_count(finished):
    shutil.copytree(finished / "a", finished / "a.bak")
    (finished / "nodes.json").unlink()
    assert results.load(finished)["value"].tolist() == [11.0]
    assert "same rows as a.bak" in results.read(finished)[1]["a"]


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


@pytest.mark.parametrize(
    "value, verdict, difference",
    [
        (10.004, "equal", 0.0),
        (9.996, "equal", 0.0),
        (10.006, "close", 0.01),
        (9.994, "close", -0.01),
        (10.09, "close", 0.09),
        (9.91, "close", -0.09),
        (10.0999, "close", 0.1),
        (10.11, "differs", 0.11),
        (9.89, "differs", -0.11),
        (10.19, "differs", 0.19),
        (10.3, "differs", 0.3),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_verdicts_at_their_boundaries(value, verdict, difference, sign):
    """Equal: rounds to the printed number; close: within 1 % of it."""
    text = "10.00" if sign > 0 else "-10.00"
    row = printed(value=sign * 10.0, printed=text)
    line = results.join_published(row, ours(sign * value)).iloc[0]
    assert line["verdict"] == verdict
    assert line["difference"] == pytest.approx(sign * difference, abs=1e-9)
    assert line["n_images"] == 1 and line["ours"] == sign * value
    approximate = ours(sign * value, reference_kind=results.CONSTRUCTED)
    line = results.join_published(row, approximate).iloc[0]
    assert line["verdict"] == "approximate"
    assert line["difference"] == pytest.approx(sign * difference, abs=1e-9)


@pytest.mark.parametrize("value, kept", [(10.0, "equal"), (10.05, "close")])
def test_a_refuted_number_may_agree_but_not_differ(value, kept):
    row = printed(value=10.0, printed="10.00", refuted_by="mf-psnr")
    line = results.join_published(row, ours(value)).iloc[0]
    assert line["verdict"] == kept and line["refuted_by"] == "mf-psnr"
    line = results.join_published(row, ours(12.0)).iloc[0]
    assert line["verdict"] == "contradiction" and np.isnan(line["difference"])
    missing = results.join_published(row, ours(1.0, method="CvT")).iloc[0]
    assert missing["verdict"] == "not run" and missing["n_images"] == 0


def test_interval_is_the_percentile_bootstrap():
    values = np.array([1.0, 4.0, 2.0, 8.0, np.nan, 5.0])
    kept = values[np.isfinite(values)]
    draws = np.random.default_rng(3).integers(5, size=(400, 5))
    means = np.sort(kept[draws].mean(axis=1))
    low, high = results.interval(values, level=0.9, samples=400, seed=3)
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.05, 0.95])), abs=1e-12)
    default = np.random.default_rng(0).integers(5, size=(2000, 5))
    bounds = np.quantile(kept[default].mean(axis=1), [0.025, 0.975])
    assert results.interval(values) == pytest.approx(tuple(bounds), abs=1e-12)
    assert np.isnan(results.interval(np.array([np.nan]))).all()


def test_seeds_are_averaged_before_images():
    frames = [
        results.rows(
            pd.DataFrame([{"metric": "EN", "value": value, "image": image}]),
            dataset="d",
            method="m",
            seed=seed,
        )
        for value, image, seed in ((1.0, "a", 0), (3.0, "a", 1), (8.0, "b", 0))
    ]
    line = results.mean(pd.concat(frames)).iloc[0]
    assert (line["value"], line["n_images"]) == (5.0, 2)
    assert line["spread"] == pytest.approx(np.std([2.0, 8.0], ddof=1))


@pytest.mark.parametrize(
    "low, high, p, word",
    [
        (0.1, 0.2, 0.01, "higher"),
        (-0.2, -0.1, 0.01, "lower"),
        (0.0, 0.2, 0.01, "undecided"),
        (-0.2, 0.0, 0.01, "undecided"),
        (0.1, 0.2, 0.05, "undecided"),
        (-0.1, 0.2, 0.05, "no difference shown"),
    ],
)
def test_words_of_a_paired_comparison(low, high, p, word):
    assert results.Paired(0.0, (low, high), p, 9, 1, 2).verdict() == word


def test_paired_counts_and_differences_by_hand():
    from scipy.stats import wilcoxon

    x = np.array([3.0, 1.0, 2.0, 7.0, np.nan, 4.0])
    y = np.array([1.0, 2.0, 2.0, 3.0, 1.0, np.nan])
    outcome = results.paired(x, y)
    assert (outcome.n, outcome.lower, outcome.higher) == (4, 1, 2)
    assert outcome.difference == pytest.approx(5 / 4)
    assert outcome.p == wilcoxon([2.0, -1.0, 0.0, 4.0]).pvalue
    assert outcome.interval == results.interval(np.array([2.0, -1.0, 0.0, 4.0]))
    same = results.paired(np.ones(3), np.ones(3))
    assert (same.p, same.difference, same.lower, same.higher) == (1.0, 0.0, 0, 0)
