"""What a run is expected to give: exact numbers, bands of trained ones, and the sentences about
what differs.
"""

from __future__ import annotations

import html
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fusionlib import expectations, report, runs
from workflow import check_results

REFERENCE = runs.root() / "reports" / "reference" / "smoke"
SMALL = ("start", "fuse-and-look", "training", "table-3")


def copied(target, nodes=None):
    """Copy the numbers of the committed run; records of no files, so that tables may be varied."""
    for path in (REFERENCE / "nodes.json", *REFERENCE.glob("*/r*.*")):
        if path.parent == REFERENCE or nodes is None or path.parent.name in nodes:
            copy = target / path.relative_to(REFERENCE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            if path.name == "run.json":
                record = json.loads(path.read_text()) | {"files": {}}
                copy.write_text(json.dumps(record))
    return target


def change(folder, node, edit):
    """Put ``edit(table)`` in the place of a table and return it."""
    path = folder / node / "results.csv"
    table = edit(pd.read_csv(path, dtype={"variant": str, "table": str}, keep_default_na=False))
    table.to_csv(path, index=False)
    return table


def other_course(target, seed, nodes=None):
    """Copy the committed run as another training would have made it: all that it touches moves."""
    copied(target, nodes)
    draw = np.random.default_rng(seed)

    def move(table):
        touched = (table["method"] == "MoE-Fusion") | table["status"].str.contains("from scratch")
        keys = ["method", "variant", "metric"]
        shift = table.groupby(keys)["metric"].transform(lambda _: draw.normal(1, 0.02))
        for name in [name for name in expectations.NUMBERS if name in table]:
            values = pd.to_numeric(table[name])
            table[name] = values.where(~touched, values * shift * draw.normal(1, 0.01, len(table)))
        return table

    for node in expectations.trained(target):
        if (target / node / "results.csv").is_file():
            change(target, node, move)
    return target


@pytest.fixture(scope="module")
def banded(tmp_path_factory):
    """The committed run with bands over four courses of its trainings."""
    home = tmp_path_factory.mktemp("banded")
    courses = [other_course(home / str(seed), seed) for seed in range(3)]
    reference = copied(home / "reference")
    frame = expectations.bands([reference, *courses])
    frame.to_csv(reference / expectations.BANDS, index=False)
    return reference


def small(reference, target):
    """Copy some tables of a reference with its bands of them."""
    copied(target, SMALL)
    frame = expectations.read_bands(reference)
    frame[frame["node"].isin(SMALL)].to_csv(target / expectations.BANDS, index=False)
    return target


def test_a_planted_change_of_five_percent_is_named_in_every_table(banded, tmp_path):
    run, draw, planted = copied(tmp_path / "run"), np.random.default_rng(0), {}
    for path in sorted(run.glob("*/results.csv")):

        def plant(table, node=path.parent.name):
            values = pd.to_numeric(table["value"])
            sizeable = table.index[(values.abs() > 1e-6) & (table["metric"] != "seconds")]
            index = draw.choice(sizeable)
            planted[node] = table.loc[index].to_dict()
            table["value"] = values.where(table.index != index, values * 1.05)
            return table

        change(run, path.parent.name, plant)
    comparison = expectations.compare(run, banded)
    assert len(planted) == len(comparison.differing) == len(list(banded.glob("*/results.csv")))
    for (node, row), told in zip(planted.items(), comparison.differing, strict=True):
        value = float(row["value"])
        assert told.startswith(f"{node}: ")
        assert f"method {row['method']}," in told and f"metric {row['metric']}" in told
        assert told.endswith(f": value: expected {value:.6g}, came {1.05 * value:.6g}")
    assert comparison.equal > 10000 and comparison.within == 0


def test_another_course_lies_within_the_bands_and_a_mean_outside_is_named(banded, tmp_path):
    reference = small(banded, tmp_path / "reference")
    run = other_course(tmp_path / "run", 7, SMALL)
    comparison = expectations.compare(run, reference)
    assert comparison.differing == []
    assert comparison.within > 100
    # Plain methods beside the trained model stay exact.
    tables = [pd.read_csv(run / node / "results.csv") for node in SMALL if node != "table-3"]
    assert comparison.equal == sum((table["method"] != "MoE-Fusion").sum() for table in tables)

    def outside(table):
        chosen = (table["method"] == "MoE-Fusion") & (table["metric"] == "VIF")
        table.loc[chosen, "value"] = table.loc[chosen, "value"].astype(float) * 3
        return table

    mean = change(run, "training", outside).query("method == 'MoE-Fusion' and metric == 'VIF'")
    again = expectations.compare(run, reference)
    (told,) = again.differing
    band = expectations.read_bands(reference).query(
        "node == 'training' and method == 'MoE-Fusion' and metric == 'VIF'"
    )
    low, high = band[["low", "high"]].iloc[0]
    assert told.startswith("training: mean of ") and "metric VIF" in told
    came = mean["value"].astype(float).mean()
    assert told.endswith(f"expected {low:.6g} to {high:.6g}, came {came:.6g}")
    assert again.within == comparison.within - 1


def test_the_committed_bands_cover_every_trained_row():
    bands = expectations.read_bands(REFERENCE)
    there = expectations.trained(REFERENCE)
    assert {"training", "table-1", "table-2", "table-3", "figures-7-8"} <= set(there)
    assert not {"start", "metric-rewards", "multi-focus-tables"} & set(there)
    for node in there:
        rows = expectations.numbers(REFERENCE / node / "results.csv")[expectations.GROUP]
        covered = bands.loc[bands["node"] == node, expectations.GROUP]
        assert set(rows.itertuples(index=False)) == set(covered.itertuples(index=False)), node
    known = bands["low"].notna()
    assert (bands["low"] <= bands["high"])[known].all()
    # In one of the runs a gate never chose some expert, whose ratios are therefore unknown.
    of_experts = bands["metric"].str.contains("inside/outside")
    assert known[~of_experts].all() or bands["runs"].str.startswith("1: ").all()


def test_a_band_is_unknown_where_a_run_has_no_number(tmp_path):
    homes = [copied(tmp_path / str(k), SMALL) for k in range(3)]
    table = homes[1] / "training" / "results.csv"
    frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    of_vif = (frame["method"] == "MoE-Fusion") & (frame["metric"] == "VIF")
    frame.loc[of_vif, "value"] = ""
    frame.to_csv(table, index=False)
    bands = expectations.bands(homes)
    unknown = bands["low"].isna()
    assert unknown.any() and set(bands["metric"][unknown]) == {"VIF"}
    frame[~of_vif].to_csv(table, index=False)
    with pytest.raises(ValueError, match="1/training: expected a row .*VIF.* as in other runs"):
        expectations.bands(homes)


def test_what_is_missing_or_extra_is_named(tmp_path):
    reference = copied(tmp_path / "reference", SMALL)
    run = copied(tmp_path / "run", SMALL)
    expectations.bands([reference]).to_csv(reference / expectations.BANDS, index=False)
    assert expectations.compare(run, reference).differing == []
    change(run, "start", lambda table: table[1:])
    change(run, "table-3", lambda table: pd.concat([table, table[:1].assign(method="mine")]))
    (run / "training").rename(run / "mine")
    told = expectations.compare(run, reference).differing
    assert told[:2] == [
        "training: the table is missing",
        "mine: a table that the reference has not",
    ]
    assert "method average" in told[2] and told[2].endswith(": value: the row is missing")
    assert "method mine" in told[3] and told[3].endswith(": a row that the reference has not")


@pytest.mark.parametrize("metric, share, differs", [("EN", 1e-4, 0), ("EN", 5e-3, 1)])
def test_a_gray_level_that_rounds_the_other_way_is_no_difference(tmp_path, metric, share, differs):
    reference, run = (copied(tmp_path / name, ["start"]) for name in ("reference", "run"))

    def nudge(table):
        chosen = (table["metric"] == metric) & (table["method"] == "LP")
        table.loc[chosen, "value"] *= 1 + share
        return table

    change(run, "start", nudge)
    assert len(expectations.compare(run, reference).differing) == differs


def test_times_are_not_compared(tmp_path):
    nodes = ["optimisers"]
    reference, run = (copied(tmp_path / name, nodes) for name in ("reference", "run"))
    seconds = change(
        run,
        "optimisers",
        lambda table: table.assign(value=table["value"].where(table["metric"] != "seconds", 1.0)),
    )
    comparison = expectations.compare(run, reference)
    assert comparison.differing == []
    assert comparison.equal == (seconds["metric"] != "seconds").sum()


def test_of_one_run_another_course_is_not_judged_and_the_committed_one_exactly(tmp_path):
    reference, run = (copied(tmp_path / name, ["training"]) for name in ("reference", "run"))

    def plant(table):
        table.loc[0, "value"] *= 1.05
        return table

    change(run, "training", plant)
    (told,) = expectations.compare(run, reference).differing
    assert "method MoE-Fusion" in told
    comparison = expectations.compare(other_course(run, 0, ["training"]), reference)
    assert comparison.differing == []
    assert (
        "0 within their bands, 5 trained ones have no band yet, 0 differ" in comparison.sentence()
    )


@pytest.mark.parametrize("damage", ["metric,value\nEN,1\n", "", "\0", "much"])
def test_a_damaged_table_is_a_difference(tmp_path, damage):
    reference, run = (copied(tmp_path / name, ["start"]) for name in ("reference", "run"))
    table = run / "start" / "results.csv"
    if damage == "much":
        change(run, "start", lambda table: table.assign(value="much"))
    else:
        table.write_text(damage)
    (told,) = expectations.compare(run, reference).differing
    assert told.startswith(f"start: {table}: expected a table of results (")


def test_the_page_shows_what_was_expected_and_what_came(banded, tmp_path, monkeypatch):
    monkeypatch.setattr(expectations.places, "reports", lambda: tmp_path)
    small(banded, tmp_path / "reference" / "smoke")
    run = other_course(tmp_path / "smoke", 7, SMALL)
    change(run, "start", lambda table: table.assign(value=table["value"] * 1.05))
    comparison = expectations.compare(run, tmp_path / "reference" / "smoke")
    page = report.write(run).read_text()
    section = page.partition('<section id="expected">')[2].partition("</section>")[0]
    assert comparison.sentence() in html.unescape(page)
    assert f"{comparison.sentence(0)}." in section and comparison.sentence(0).endswith(" 18 differ")
    assert comparison.differing[17] in section and "start: " in comparison.differing[17]
    line = comparison.means.iloc[0]
    assert f"{line.low:.4g} to {line.high:.4g}" in section and f"{line.came:.4g}" in section


def test_the_command_says_no_run_equal_or_what_differs(tmp_path, monkeypatch):
    runner, app = CliRunner(), check_results.typer.Typer()
    app.command()(check_results.main)
    monkeypatch.setattr(expectations.places, "reports", lambda: tmp_path)
    reference = copied(tmp_path / "reference" / "smoke", SMALL)
    run = tmp_path / "smoke"
    assert "no run to check yet" in runner.invoke(app, [str(run)]).output
    copied(run, SMALL)
    bands = [str(reference), "--bands", "--to", str(reference / expectations.BANDS)]
    assert "over 1: seeds 0, threads 1" in runner.invoke(app, bands).output
    equal = runner.invoke(app, [str(run)])
    assert equal.exit_code == 0 and ", 0 differ" in equal.output
    change(run, "start", lambda table: table.assign(value=table["value"] * 1.05))
    differs = runner.invoke(app, [str(run)])
    assert differs.exit_code == 1 and "18 differ: start: " in differs.output
    assert runner.invoke(app, [str(run), "--bands"]).exit_code != 0
