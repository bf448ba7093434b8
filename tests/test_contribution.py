"""A finished run handed in: what is taken, what is refused, and that nothing is written then."""

import json
import subprocess

import pandas as pd
import pytest
from test_report import METHODS, scores
from test_runs import FINISH, notebook

from fusionlib import report, results, runs
from fusionlib.report import contribution

PROFILE = """jobs: 1
threads: 1
seed: 3
device: cuda
multi_focus: [builtin]
infrared_visible: [Campus]
parameters:
  compare: {split: test}
"""
PARAMETERS = {"data": "/disk/Campus", "dataset": "Campus", "split": "test", "seed": 3}
CELL = "data: str = ''\ndataset: str = ''\nsplit: str = ''\nseed: int = 0\noutput: str = ''"
GPU = "NVIDIA H100 80GB HBM3"


def git(root, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(root), *identity, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def root(tmp_path):
    """A checkout with one profile of one node."""
    root = tmp_path / "checkout"
    (root / "workflow/profiles").mkdir(parents=True)
    (root / "workflow/profiles/campus.yaml").write_text(PROFILE)
    (root / "workflow/nodes.yaml").write_text(
        "table-1: {notebook: compare.ipynb, provides: [table-1], for_each: infrared_visible}\n"
    )
    notebook(root / "notebooks/compare.ipynb", FINISH, parameters=CELL)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "a profile")
    return root


@pytest.fixture
def finished(root, monkeypatch):
    """A finished run of the profile, with a picture."""
    kept = runs.environment
    found = {"git": git(root, "rev-parse", "HEAD"), "gpu": GPU}
    monkeypatch.setattr(runs, "environment", lambda: kept() | found)
    folder = root / "reports/campus"
    rows = scores("Campus", METHODS)
    run = runs.Run("compare", folder / "table-1-Campus", PARAMETERS)
    run.finish(rows)
    (run.folder / "figures").mkdir()
    (run.folder / "figures/faces.png").write_bytes(b"a picture")
    node = {"name": "table-1-Campus", "notebook": "compare.ipynb", "wanted": True}
    plan = [node | {"provides": ["table-1"], "needs": []}]
    (folder / "nodes.json").write_text(json.dumps(plan))
    return folder


def edit(folder, change):
    path = folder / "table-1-Campus/run.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_numbers_and_records_are_taken_and_pictures_are_not(root, finished, synced):
    target = contribution.contribute(finished, root=root)
    assert target == root / "reports/contributed/NVIDIA-H100-80GB-HBM3/campus"
    assert target in synced
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert files == {"nodes.json", "table-1-Campus/run.json", "table-1-Campus/results.csv"}
    assert "/disk" not in (target / "table-1-Campus/run.json").read_text()
    pd.testing.assert_frame_equal(results.load(target), results.load(finished))
    every = report.nodes(finished)
    tables = report.tables_of(finished, every)
    before = len(tables[0]["grids"])
    report.add_contributed(tables, root / "reports/contributed")
    added = tables[0]["grids"][before:]
    label = "Campus, 3 pairs, contributed: NVIDIA-H100-80GB-HBM3, campus"
    assert [(grid.title, grid.printed) for grid in added] == [(label, False)]
    with pytest.raises(ValueError, match="expected nothing there, found an earlier contribution"):
        contribution.contribute(finished, root=root)


def test_a_run_on_a_processor_has_its_name(root, finished):
    edit(finished, lambda run: run["environment"].update(gpu="", system="Linux x86_64"))
    assert contribution.contribute(finished, root=root).parent.name == "Linux-x86_64"


def change_numbers(folder):
    path = folder / "table-1-Campus/results.csv"
    path.write_text(path.read_text().replace("1.0", "2.0"))


REFUSED = {
    "other numbers": (change_numbers, "results.csv: expected the file that the run wrote"),
    "no checksum": (
        lambda folder: edit(folder, lambda run: run.update(files={})),
        "results.csv: expected its checksum in run.json",
    ),
    "no run": (
        lambda folder: (folder / "table-1-Campus/run.json").unlink(),
        "table-1-Campus is not run",
    ),
    "a changed file": (
        lambda folder: edit(folder, lambda run: run["environment"].update(git="0" * 40 + "+")),
        r"unchanged commit of this repository, it ran at 0+\+ \(files changed\)",
    ),
    "a commit of nobody": (
        lambda folder: edit(folder, lambda run: run["environment"].update(git="1" * 40)),
        "unchanged commit of this repository, it ran at 1+$",
    ),
    "another split": (
        lambda folder: edit(folder, lambda run: run["parameters"].update(split="train")),
        "table-1-Campus: split: expected 'test' as in the profile, this run had 'train'",
    ),
    "another seed": (
        lambda folder: edit(folder, lambda run: run["parameters"].update(seed=4)),
        "table-1-Campus: seed: expected 3",
    ),
    "other images": (
        lambda folder: edit(folder, lambda run: run["parameters"].update(dataset="Yard")),
        "table-1-Campus: dataset: expected 'Campus'",
    ),
    "no profile": (
        lambda folder: folder.rename(folder.with_name("yard")),
        "expected the name of a profile",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_wrong_is_one_sentence_and_nothing_is_written(why, root, finished):
    change, sentence = REFUSED[why]
    change(finished)
    folder = finished if finished.is_dir() else finished.with_name("yard")
    with pytest.raises((ValueError, FileNotFoundError), match=sentence) as caught:
        contribution.contribute(folder, root=root)
    assert "\n" not in str(caught.value) and not (root / "reports/contributed").exists()
