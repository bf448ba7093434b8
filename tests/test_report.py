"""The report: what is there, what is missing and why, and the tables beside the printed ones."""

import html
import json
import re
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import yaml

from fusionlib import audit, figures, published, report, results, runs
from fusionlib.report import contribution, layout
from workflow import graph

PRINTED = published.table("moe-fusion", 1)
METRICS = list(dict.fromkeys(PRINTED["metric"]))
METHODS = list(dict.fromkeys(PRINTED["method"]))


def scores(
    dataset,
    methods,
    value=lambda method, metric, image: 1.0,
    table="1",
    images=3,
    seed=0,
    variant="",
):
    return results.rows(
        pd.DataFrame(
            [
                {
                    "method": method,
                    "metric": metric,
                    "image": str(image),
                    "value": value(method, metric, image),
                }
                for method in methods
                for metric in METRICS
                for image in range(images)
            ]
        ),
        paper="moe-fusion",
        table=table,
        dataset=dataset,
        n_images=1,
        convention="moe-fusion",
        seed=seed,
        variant=variant,
    )


def node(folder, name, provides, rows=None, drawn=(), wanted=True, error=""):
    """Leave behind what a node leaves, and return its plan; without ``rows``, ``drawn`` and
    ``error`` it has not run.
    """
    if rows is not None or drawn:
        run = runs.Run(name, folder / name, {})
        for word in drawn:
            figure, axis = plt.subplots(figsize=(2, 1))
            axis.plot(np.arange(3))
            axis.set_title(word)  # no two pictures are the same
            figures.save(figure, run.folder, word, f"caption of {word}")
            plt.close(figure)
        run.finish(rows)
    if error:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "run.json").unlink(missing_ok=True)
        (folder / name / "log.txt").write_text(f"Traceback\n{error}\n")
    return {"name": name, "notebook": f"{name}.ipynb", "provides": provides, "wanted": wanted}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports") / "smoke"
    folder.mkdir()
    rng = np.random.default_rng(0)
    random = scores(
        "scenes", [*METHODS[:8], "MoE-Fusion", "average"], lambda *_: float(rng.uniform(0, 9))
    )
    plan = [
        node(folder, "comparison", ["table-1"], random, ["ranks"]),
        node(
            folder,
            "ablations",
            ["table-2"],
            scores("scenes", ["MoE-Fusion"], table="2", variant="full"),
        ),
        node(folder, "detection", ["table-3"]),
        node(folder, "gallery", ["figure-1", "figure-3"], drawn=["figure-1"]),
        node(folder, "sweeps", ["figure-7", "figure-8"], drawn=["figure-7", "figure-8"]),
        node(
            folder,
            "experts",
            ["figure-6"],
            drawn=["figure-6"],
            error="experts: cell 2 failed: ValueError: <no> gate",
        ),
        node(folder, "later", ["figure-B-1"], wanted=False),
    ]
    (folder / "nodes.json").write_text(json.dumps(plan))
    report.write(folder)
    return folder


@pytest.fixture(scope="module")
def state(folder):
    every = report.nodes(folder)
    return {
        entry["word"]: entry for entry in report.artefacts(every, report.tables_of(folder, every))
    }


def test_the_page_of_an_archive_says_that_it_keeps_no_pictures(folder, tmp_path):
    contribution.archive(folder, tmp_path / "archive")
    every = report.nodes(tmp_path / "archive")
    listed = report.artefacts(every, report.tables_of(tmp_path / "archive", every))
    (figure,) = [entry for entry in listed if entry["word"] == "figure-1"]
    assert figure["status"] == "not run"
    assert figure["reason"] == "gallery finished; an archive keeps no pictures"


def test_metrics_that_no_row_has_or_that_are_undefined_everywhere_keep_their_column(tmp_path):
    some = scores("scenes", ["MoE-Fusion", "average"])
    some = some[some["metric"].isin(METRICS[:3])]
    some.loc[some["method"] == "average", "value"] = np.nan
    node(tmp_path, "comparison", ["table-1"], some)
    report.write(tmp_path)
    grid = layout.table("table-1", results.load(tmp_path))["grids"][-1]
    cells = {line["name"]: [cell["text"] for cell in line["cells"]] for line in grid.lines}
    assert cells["average"] == ["–"] * len(METRICS)
    assert cells["MoE-Fusion"][3:] == ["–"] * (len(METRICS) - 3)
    assert "–" not in cells["MoE-Fusion"][:3]


# --- What is there --------------------------------------------------------------------------------


def test_the_list_is_complete():
    words = [word for word, *_ in report.ARTEFACTS if word]
    assert len(words) == len(set(words))
    assert {f"figure-{k}" for k in range(1, 9)} | {
        f"table-{k}" for k in (1, 2, 3, "A-1", "A-2", "A-3")
    } | {f"figure-B-{k}" for k in range(1, 5)} | {"figure-2-pyramid", "figure-3-curvelet"} == set(
        words
    )
    given = {
        word
        for entry in yaml.safe_load((graph.HERE / "nodes.yaml").read_text()).values()
        for word in entry["provides"]
    }
    assert {word for word in given if re.match("(table|figure)-", word)} <= set(words), (
        "a node gives what the report omits"
    )


@pytest.mark.parametrize(
    ("word", "status", "reason"),
    [
        ("table-1", "present", ""),
        ("table-2", "present", ""),
        ("table-3", "not run", "detection did not run"),
        ("figure-1", "present", ""),
        ("figure-3", "not run", "gallery finished without it"),
        ("figure-7", "present", ""),
        ("figure-6", "failed", "ValueError: <no> gate"),
        ("figure-B-1", "not run", "ONLY did not ask"),
        ("figure-2", "not run", "no notebook of this profile provides it"),
    ],
)
def test_each_says_whether_it_is_there(state, word, status, reason):
    assert state[word]["status"] == status and reason in state[word]["reason"]


def test_what_waited_for_a_failed_node_says_so(tmp_path):
    plan = [
        node(tmp_path, "training", ["training"], error="boom"),
        node(tmp_path, "table-1", ["table-1"]) | {"needs": ["training"]},
    ]
    (tmp_path / "nodes.json").write_text(json.dumps(plan))
    entry = next(
        one for one in report.artefacts(report.nodes(tmp_path), []) if one["word"] == "table-1"
    )
    assert (entry["status"], entry["reason"]) == (
        "not run",
        "table-1 did not run: it needs training, which failed",
    )


def test_one_failed_node_of_several_is_named(tmp_path):
    plan = [
        node(tmp_path, "one", ["figure-7"], drawn=["figure-7"]),
        node(tmp_path, "two", ["figure-7"], error="boom"),
    ]
    (tmp_path / "nodes.json").write_text(json.dumps(plan))
    entry = next(
        one for one in report.artefacts(report.nodes(tmp_path), []) if one["word"] == "figure-7"
    )
    assert entry["status"] == "present" and entry["reason"] == "without two, which failed"


def test_a_notebook_that_was_cut_off_does_not_stop_the_report(tmp_path):
    plan = [
        node(tmp_path, "one", ["figure-7"], drawn=["figure-7"]),
        node(tmp_path, "two", ["figure-8"], error="No space left"),
    ]
    (tmp_path / "nodes.json").write_text(json.dumps(plan))
    (tmp_path / "two" / "notebook.ipynb").write_text('{\n "cells": [\n  {\n   "cell_type": "m')
    page = report.write(tmp_path).read_text()
    assert "No space left" in page and not (tmp_path / "two" / "notebook.html").exists()


def test_one_node_that_is_not_whole_gives_no_numbers_and_stops_nothing(tmp_path):
    plan = [
        node(tmp_path, "comparison", ["table-1"], scores("scenes", ["CBF"], lambda *_: 7.0)),
        node(tmp_path, "other", ["table-1"], scores("other", ["CBF"], lambda *_: 3.0)),
    ]
    (tmp_path / "nodes.json").write_text(json.dumps(plan))
    shutil.copytree(tmp_path / "other", tmp_path / "other.bak")
    path = tmp_path / "comparison" / "results.csv"
    path.write_text(path.read_text().replace("7.0", "123456.0"))
    page = report.write(tmp_path).read_text()
    assert "comparison failed." in page and "missing or was changed since" in page
    assert "other.bak: left out, it is no node of" in page and "123456" not in page
    table = (tmp_path / "tables" / "table-1.csv").read_text()
    assert "123456" not in table
    assert "CBF ours other 3 3.0000" in text_of(page.replace("<", " <"))


def test_half_a_picture_does_not_stop_the_report(tmp_path):
    (tmp_path / "nodes.json").write_text(
        json.dumps([node(tmp_path, "one", ["figure-7"], drawn=["figure-7", "other"])])
    )
    home, record = tmp_path / "one" / "figures", tmp_path / "one" / "run.json"
    # records did not always hold checksums of figures
    record.write_text(json.dumps(json.loads(record.read_text()) | {"files": {}}))
    half = (home / "other.png").read_bytes()[:500]
    (home / "other.png").write_bytes(half)
    # what a kill -9 leaves of a file that is being written
    (home / ".figure-7-x1y2.png").write_bytes(half)
    page = report.write(tmp_path).read_text()
    assert (
        page.count("data:image") == 1
        and "other.png: the image is damaged or truncated (" in page
        and "x1y2" not in page
    )


# --- The page -------------------------------------------------------------------------------------


def test_the_page_stands_alone_and_its_links_lead_somewhere(folder):
    page = (folder / "index.html").read_text()
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    anchors = set(re.findall(r' id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= anchors
    for link in re.findall(r'href="(?!#|data:)([^"]+)"', page):
        assert (folder / link).is_file(), link
    assert "&lt;no&gt; gate" in page, "an error is text, not markup"
    assert page.count("data:image") == 4, "the figures of finished nodes"


def test_the_audit_stands_on_the_page_claims_apart_from_conditions_of_ours(folder):
    page = (folder / "index.html").read_text()
    section = page[page.index('id="audit"') : page.index('id="runs"')]
    claims = audit.audit()
    for (paper, kind), row in audit.counts(claims).iterrows():
        label = f"{layout.PAPERS[paper]}, {row.sum()} {audit.SPOKEN[kind]}"
        line = f"{label}{''.join(f'{count}' for count in row)}".replace("&", "&amp;")
        assert line in re.sub(r"<[^>]+>", "", section)
    for claim in claims["claim"]:
        assert html.escape(claim, quote=False) in section.replace("&#39;", "'").replace(
            "&#34;", '"'
        )


def text_of(page):
    return " ".join(re.sub(r"<[^>]+>", "", page).split())


@pytest.mark.parametrize(
    ("data", "dataset", "images", "sentences"),
    [
        (
            "",
            "scenes",
            3,
            [
                "The images of this run are generated: no printed number can agree or differ here.",
                "make data, then make reproduce PROFILE=sample.",
                "Of 240 printed numbers 0 compared, 72 beside other images, 168 not run.",
            ],
        ),
        ("/disk", "yard", 3, ["images of this run are real, but not the papers'", "PROFILE=flir"]),
        ("/disk", "FLIR-aligned", 1013, ["24 printed numbers stand beside ours", "24 differs"]),
    ],
)
def test_the_first_lines_say_what_the_run_can_show(tmp_path, data, dataset, images, sentences):
    status = dict.fromkeys(METHODS[:3], "") | dict.fromkeys(METHODS[3:5], "no weights: none found")
    run = runs.Run("table-1", tmp_path / "table-1", {"data": data})
    run.finish(
        scores(dataset, METHODS[:3], images=images).assign(split="evaluation"), status=status
    )
    node = {"name": "table-1", "notebook": "", "provides": ["table-1"], "wanted": True}
    (tmp_path / "nodes.json").write_text(json.dumps([node]))
    page = text_of(report.write(tmp_path).read_text())
    first = page[page.index("Summary", page.index("Assumptions")) :][:600]
    assert all(sentence in first for sentence in sentences), first
    assert f"Without weights, hence without a row: {METHODS[3]}, {METHODS[4]}." in first
    assert f"Not run: {', '.join(METHODS[3:])}." in page


def test_nothing_finished_says_so(tmp_path):
    (tmp_path / "nodes.json").write_text(json.dumps([node(tmp_path, "one", ["table-1"])]))
    assert "Nothing has finished yet." in text_of(report.write(tmp_path).read_text())


def test_pictures_beyond_the_budget_are_linked(folder):
    every = report.nodes(folder)
    report.embed(every, folder, budget=0)
    sources = [picture["source"] for one in every for picture in one["pictures"]]
    assert len(sources) == 4 and all((folder / source).is_file() for source in sources)
    size = len(report.drawn(folder / "gallery" / "figures" / "figure-1.png"))
    report.embed(every, folder, budget=3 * size + size // 2)
    inside = {
        picture["name"]: picture["source"].startswith("data:")
        for one in every
        for picture in one["pictures"]
    }
    assert not inside["ranks"] and inside["figure-1"], "figures of the papers come first"


def test_a_plan_of_an_older_version_is_refused(tmp_path):
    (tmp_path / "nodes.json").write_text(json.dumps([{"name": "a", "gives": [], "wanted": True}]))
    with pytest.raises(ValueError, match="nodes.json: expected what each node provides"):
        report.write(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="run make reproduce first"):
        report.write(tmp_path)


# --- The tables -----------------------------------------------------------------------------------


def test_printed_grids_mark_what_the_paper_marks():
    for number in (1, 2, 3):
        printed = published.table("moe-fusion", number)
        entry = layout.table(
            f"table-{number}", results.rows(pd.DataFrame({"metric": [], "value": []}))
        )
        row = layout.TABLES[f"table-{number}"].row
        assert [grid.printed for grid in entry["grids"]] == [True] * printed["dataset"].nunique()
        cells = {
            (grid.title.split(",")[0], line["name"], metric): cell
            for grid in entry["grids"]
            for line in grid.lines
            for metric, cell in zip(grid.metrics, line["cells"], strict=True)
        }
        assert len(cells) == len(printed)
        for one in printed.itertuples():
            cell = cells[one.dataset, getattr(one, row), one.metric]
            assert cell["text"] == one.printed
            if number == 1:
                assert cell["rank"] == (0 if pd.isna(one.rank) else one.rank)


def test_our_grid(folder):
    entry = layout.table("table-1", results.load(folder))
    grid = entry["grids"][-1]
    assert not grid.printed and grid.title == "scenes, 3 pairs"
    assert [line["name"] for line in grid.lines] == [*METHODS[:8], METHODS[9], "average"], (
        "the order of print, then what print lacks"
    )
    assert grid.absent == [METHODS[8]], "no row without numbers"
    extra = {line["name"] for line in grid.lines if line["extra"]}
    assert extra == {"average"}


def test_marks_of_every_column_are_over_all_rows(folder):
    """Recomputed from the results alone, for the grid of the page and of 91, and for LaTeX."""
    frame = results.load(folder).query("paper == 'moe-fusion' and table == '1'")
    means = frame.groupby(["metric", "method"])["value"].mean()
    entry = layout.table("table-1", results.load(folder))
    grid = entry["grids"][-1]
    block = layout.latex(entry).split("scenes, 3 pairs, reproduced")[1].splitlines()
    rows = {
        row.split(" & ")[0]: row.removesuffix(r" \\").split(" & ")[1:]
        for row in block
        if " & " in row
    }
    commands = ("", r"\textbf", r"\underline", r"\textit")
    for column, metric in enumerate(grid.metrics):
        best = sorted(means[metric], reverse=True)[:3]
        for line in grid.lines:
            mean, cell = means[metric][line["name"]], line["cells"][column]
            expected = best.index(mean) + 1 if mean in best else 0
            assert cell["rank"] == expected
            latex = rows[line["name"]][column]
            assert latex.startswith(commands[expected])
            assert latex.startswith("\\") == bool(expected)
            shown = layout.grid_to_frame(grid).loc[line["name"], metric]
            assert shown.endswith(f"({expected})") == bool(expected)


def test_a_mean_over_fewer_images_says_so_and_infinite_ones_are_counted():
    frame = scores("scenes", [METHODS[0], METHODS[1]])
    first = (frame["method"] == METHODS[0]) & (frame["image"] == frame["image"].iloc[0])
    frame.loc[first & (frame["metric"] == "EN"), "value"] = np.inf
    frame.loc[first & (frame["metric"] == "SCD"), "value"] = np.nan
    averaged = results.mean(frame).set_index(["method", "metric"])
    assert np.isfinite(averaged["value"]).all()
    assert averaged.loc[(METHODS[0], "EN"), "status"] == "infinite for 1, not averaged"
    assert averaged.loc[METHODS[0], "n_images"][["EN", "SCD", "SF"]].tolist() == [2, 2, 3]
    seeds = pd.concat([frame, frame.assign(seed=1)])
    again = results.mean(seeds).set_index(["method", "metric"])
    assert again.loc[(METHODS[0], "EN"), "status"] == "infinite for 2, not averaged"
    cells = layout.grid_to_frame(layout.table("table-1", frame)["grids"][-1]).loc[METHODS[0]]
    assert " over 2" in cells["EN"] and " over 2" in cells["SCD"] and "over" not in cells["SF"]


def test_the_same_images_get_a_difference_and_others_none():
    same = (
        PRINTED[PRINTED["dataset"] == "LLVIP"].drop(columns=["printed", "rank"]).assign(status="")
    )
    other = scores("scenes", METHODS)
    joined = layout.table("table-1", pd.concat([same, other]))["joined"]
    joined = joined.set_index("dataset")
    assert (joined.loc["LLVIP", "verdict"] == "equal").all() and (
        joined.loc["LLVIP", "difference"] == 0
    ).all()
    assert (joined.loc["M3FD", "verdict"] == "other images").all() and joined.loc[
        "M3FD", "difference"
    ].isna().all()
    fewer = layout.table("table-1", same.assign(n_images=3462))["joined"]
    assert set(fewer["verdict"]) == {"other images"}


def test_six_methods_on_the_evaluation_pairs_of_flir_have_48_differences():
    """As notebook 25 writes them in profile flir: trivial rows and other sizes beside them."""
    six = ["DenseFuse", "IFCNN", "DIDFuse", "AUIF", "YDTR", "TarDAL"]
    rows = [scores("FLIR-aligned", [*six, "average"], images=1013, variant="default")]
    size = scores("FLIR-aligned", six, images=1, variant="default, 640x480")
    rows.append(size.assign(n_images=1013, value=2.0))
    frame = pd.concat(rows).assign(split="evaluation")
    entry = layout.table("table-1", frame)
    joined = entry["joined"].query("dataset == 'FLIR-aligned' and variant == 'default'")
    assert len(joined) == 48 == joined["difference"].notna().sum()
    assert set(joined["method"]) == set(six) and set(joined["n_images"]) == {1013}
    counts = layout.counts([entry])
    assert layout.in_short(counts)["compared"] == 48, counts
    assert (entry["joined"].query("variant == 'default, 640x480'")["ours"] == 2).sum() == 48 + 96
    fewer = layout.table("table-1", frame[frame["image"] != "7"])["joined"]
    assert not fewer.query("variant == 'default'")["difference"].notna().any()


def test_rows_of_another_table_or_convention_do_not_mix_in():
    other = scores("scenes", METHODS, lambda *_: 5.0, table="variants")
    assert set(layout.table("table-1", other)["joined"]["verdict"]) == {"not run"}
    textbook = scores("scenes", METHODS).assign(convention="standard")
    assert set(layout.table("table-1", textbook)["joined"]["verdict"]) == {"not run"}
    mixed = layout.table("table-1", pd.concat([other, scores("scenes", METHODS)]))["joined"]
    assert set(mixed["ours"]) == {1.0}


def multi_focus_rows():
    """Scores of six built-in pairs, one with a constructed reference, and of one at the printed
    weight.
    """
    lines = []
    for number in range(6):
        kind = results.CONSTRUCTED if number == 0 else "exact"
        for metric, value in (("MI", 7.0), ("RMSE", 100.0 if number == 0 else 2.0)):
            line = {"image": str(number), "metric": metric, "value": value, "variant": ""}
            lines.append(line | {"reference_kind": kind if metric == "RMSE" else ""})
    lines += [line | {"variant": results.AT_PRINTED, "value": 9.0} for line in lines[2:4]]
    labels = {"paper": "multi-focus", "dataset": "built-in", "n_images": 1, "method": "LP+PSO"}
    return results.rows(pd.DataFrame(lines), convention="multi-focus", seed=0, **labels)


@pytest.mark.parametrize("key", ["table-A-1", "table-A-2", "table-A-3"])
def test_rows_of_one_table_are_over_the_same_images_and_say_which(key, tmp_path):
    entry = layout.table(key, multi_focus_rows())
    ours = entry["joined"].dropna(subset=["ours"])
    assert set(ours["variant"]) == {""}, "two pairs at the printed weight are no mean of a set"
    values = ours.set_index("metric")[["ours", "n_images"]]
    assert values.loc["RMSE"].tolist() == [2.0, 5], "exact references are not mixed with others"
    assert values.loc["MI"].tolist() == [7.0, 6]
    node(tmp_path, "multi", [key], multi_focus_rows())
    page = report.write(tmp_path).read_text()
    text, spaced = text_of(page), text_of(page.replace("<", " <"))
    assert "Ours: means over other images (built-in), none of them of this table." in text
    assert "LP+PSO ours built-in 6 7.0000" in spaced and "2.0000 over 5" in spaced


def test_a_row_that_was_asked_for_says_why_it_is_not_there(tmp_path):
    run = runs.Run("t", tmp_path / "table", {})
    status = {
        "DenseFuse": "no weights: none at /home",
        "IFCNN": "failed: OSError: x",
        "average": "",
    }
    run.finish(scores("scenes", ["average"]), status=status)
    plan = [{"name": "table", "notebook": "", "provides": ["table-1"], "wanted": True}]
    (tmp_path / "nodes.json").write_text(json.dumps(plan))
    report.write(tmp_path)
    notes = pd.read_csv(tmp_path / "tables" / "table-1.csv").set_index("method")["note"]
    for method, note in (
        ("DenseFuse", "no weights"),
        ("IFCNN", "failed"),
        ("TarDAL", "no run has a row of this method"),
    ):
        assert set(notes[method]) == {note}


def test_seeds_are_averaged_and_are_not_images():
    frame = pd.concat(
        [scores("scenes", METHODS, lambda *_, s=seed: float(s), seed=seed) for seed in (1, 2)]
    )
    mean = results.select_for_table(frame, PRINTED)
    assert set(mean["n_images"]) == {3} and set(mean["value"]) == {1.5}


def test_a_row_may_stand_for_a_whole_data_set():
    printed = published.table("moe-fusion", 3)
    rows = printed.drop(columns=["printed", "rank"]).assign(status="")
    assert set(
        results.join_published(printed, results.select_for_table(rows, printed))["verdict"]
    ) == {"equal"}


def test_counts_are_of_printed_numbers(folder):
    every = report.nodes(folder)
    tables = report.tables_of(folder, every)
    assert sum(layout.counts(tables).values()) == sum(
        len(published.table(layout.TABLES[entry["key"]].paper, entry["number"])) for entry in tables
    )
    two = pd.concat([scores("scenes", METHODS), scores("streets", METHODS)])
    assert layout.counts([layout.table("table-1", two)]) == {"other images": len(PRINTED)}


@pytest.mark.parametrize("key", layout.TABLES)
def test_latex_is_a_table_of_booktabs(folder, key):
    text = layout.latex(layout.table(key, results.load(folder)))
    columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1])
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert all(line.count("&") == columns - 1 for line in lines if "multicolumn" not in line)
    assert [text.count(rule) for rule in (r"\toprule", r"\bottomrule", r"\end{tabular}")] == [
        1,
        1,
        1,
    ]
    assert (
        text.count("{") == text.count("}") and "–" not in text and not re.search(r"(?<!\\)_", text)
    )


def test_csv_holds_the_comparison(folder):
    read = pd.read_csv(folder / "tables" / "table-1.csv", dtype={"printed": str})
    assert len(read) == len(PRINTED) and list(read["printed"]) == list(PRINTED["printed"])
    assert set(read["verdict"]) == {"other images", "not run"}
