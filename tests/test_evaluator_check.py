"""The table by which anybody checks a copy: complete, as computed here, equal to the originals."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from oracles.vectors import triplets
from typer.testing import CliRunner

from fusionlib import metrics
from fusionlib.__main__ import app
from fusionlib.experiments import evaluator_check

ORACLES = Path(__file__).parent / "oracles"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return evaluator_check.check()


def test_this_copy_gives_the_stored_values_of_every_metric(table):
    assert table["same"].all(), table[~table["same"]]
    entries = {
        (convention, name)
        for convention, found in metrics.CONVENTIONS.items()
        for name, metric in found.items()
        if metric.serves("sources")
    }
    for _, part in table.groupby("pair"):
        assert set(zip(part["convention"], part["metric"], strict=True)) == entries


def test_the_values_are_those_of_the_originals(table):
    known = table.dropna(subset="original")
    assert len(known) > 100 and set(known["convention"]) == set(metrics.CONVENTIONS) - {
        "multi-focus"
    }
    assert known["evaluator"].notna().all()
    single = known["evaluator"].str.contains("single precision")
    off = (known["computed"] - known["original"]).abs() / known["original"].abs().clip(lower=1)
    vif = known["metric"] == "VIF"
    assert off[single].max() < 1e-6 and off[vif].max() < 1e-8 and off[~single & ~vif].max() < 1e-9


def test_the_originals_are_those_of_the_oracles(table):
    values = json.loads((ORACLES / "further_metrics.json").read_text())["values"]
    first = json.loads((ORACLES / "metrics_vectors.json").read_text())["triplets"]["v0_small"]
    originals = table.set_index(["pair", "convention", "metric"])["original"]
    assert originals["large", "vifb", "Qcv"] == values["vifb_octave"]["Qcv"]["n9_large"]
    swapped = values["lft_octave"]["Nabf_as_called_swapped"]["n6_sharpened"]
    assert originals["sharpened", "moe-fusion", "Nabf"] == swapped
    for name, value in first["values"]["moe_table_convention"].items():
        assert originals["small", "moe-fusion", name] == float(value)


def test_the_small_pair_is_that_of_the_first_thirteen():
    a, b, fused = triplets()["v0_small"]
    for made, known in zip(evaluator_check.triples()["small"], (fused, a, b), strict=True):
        assert np.array_equal(made, known)


def test_a_copy_that_differs_is_told(table, tmp_path, monkeypatch):
    stored = pd.read_csv(evaluator_check.STORED)
    stored.loc[3, "value"] *= 1 + 1e-6
    stored.to_csv(tmp_path / "evaluators.csv", index=False)
    monkeypatch.setattr(evaluator_check, "STORED", tmp_path / "evaluators.csv")
    computed = table[["pair", "metric", "convention", "computed"]]
    monkeypatch.setattr(evaluator_check, "scores", lambda _: computed)
    done = CliRunner().invoke(app, ["check-metrics"])
    row = stored.loc[3]
    assert done.exit_code == 1
    assert f"{row['metric']} ({row['convention']}, {row['pair']}): expected" in done.output
    assert f"{len(table) - 1} of {len(table)} values" in done.output
