"""Every notebook that takes ``data``, on copies of the published layouts: its own cells, from the
parameters to the last one, on a few small pairs.
"""

import json
import warnings
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from published_copies import LAYOUTS, TEST, TRAIN, copy

from fusionlib import images, runs

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NETWORK = {"width": 2, "gate_grid": [[2, 3], [2, 3]]}
TINY = {"size": [64, 80], "batch": 2, "epochs": 1, "detector": {"size": "small"}}
FEW = ["average", "maximum"]
# What makes each notebook small; data, dataset, checkpoint and output are the workflow's.
PARAMETERS = {
    "10-infrared-visible-data": {},
    "20-network-walk": {"pair": 1, "pairs_gated": 2, "size": [32, 40], "gate_grid": [[2, 3]] * 2},
    "21-train": {"preset": "paper", "changes": TINY | {"held_out": "test", "model": NETWORK}},
    "22-fuse-and-look": {"cut": [31, 37]},
    "23-experts": {},
    "24-compared-methods": {"methods": ["average", "DenseFuse"], "cost_size": [32, 40]},
    "25-table-1": {"split": "test", "methods": [*FEW, "MoE-Fusion"]},
    "26-table-2": {"split": "test", "epochs": 1, "seeds": [0]},
    "27-table-3": {
        "preset": "paper",
        "changes": TINY
        | {"detector": {"size": "small", "shared": True}, "detector_epochs": 1}
        | {"epochs": 0},
        "held_out": "test",
        "methods": FEW,
    },
    "28-figures-1-3-5": {"methods": FEW, "detected": FEW},
    "29-figures-7-8": {"split": "test", "epochs": 1, "seeds": [0]},
    "40-metric-conventions": {"methods": FEW, "images_used": 1},
    "41-what-metrics-reward": {"methods": FEW, "images_used": 2, "metrics": ["EN", "CE"]},
}


def run(name: str, folder: Path, **parameters) -> None:
    """Run a notebook's own code cells in this process."""
    path = NOTEBOOKS / f"{name}.ipynb"
    known = runs.parameters_of(path)
    given = PARAMETERS[name] | {"output": str(folder / name), "device": "cpu"} | parameters
    given = {key: value for key, value in given.items() if key in known}
    namespace = {"__name__": "__main__", "display": lambda *shown: None}
    for number, cell in enumerate(json.loads(path.read_text())["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{name}[{number}]", "exec"), namespace)
            if cell["metadata"].get("tags") == ["parameters"]:
                namespace |= given
    return namespace


@pytest.fixture(scope="module", params=LAYOUTS)
def published(request, tmp_path_factory):
    """A data set's name, a copy of it, and the folder of a training on it."""
    folder = tmp_path_factory.mktemp(request.param)
    data = str(copy(folder / request.param, request.param))
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        reads = count_reads(patch, data)
        run("21-train", folder, data=data, dataset=request.param)
    assert set(reads.values()) == {1} and len(reads) == 2 * (TRAIN + TEST), reads
    return request.param, data, folder


def count_reads(patch: pytest.MonkeyPatch, data: str) -> Counter:
    """Count from now on how often each image of a folder is decoded."""
    reads, read = Counter(), images.read

    def counted(path, *arguments):
        if str(path).startswith(data):
            reads[str(path)] += 1
        return read(path, *arguments)

    patch.setattr(images, "read", counted)
    return reads


def test_every_notebook_with_data_is_here():
    takes_pairs = {
        path.stem
        for path in NOTEBOOKS.glob("*.ipynb")
        if "data" in runs.parameters_of(path) and path.stem[0] in "124"
    }
    assert takes_pairs == set(PARAMETERS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in PARAMETERS if name != "21-train"])
def test_notebook_on_published_layout(name, published, figures_closed, monkeypatch):
    """It ends, its results are those of this data set, and no image was decoded twice."""
    dataset, data, folder = published
    reads = count_reads(monkeypatch, data)
    where = {"data": data, "dataset": dataset}
    if name.startswith("28"):
        where = {key: [value] for key, value in where.items()}
        where["detector"] = str(folder / "27-table-3")
    if name != "20-network-walk":  # it takes a network alone
        where["checkpoint"] = str(folder / "21-train")
    run(name, folder, **where)
    assert reads and set(reads.values()) == {1}, reads
    results = pd.read_csv(folder / name / "results.csv")
    assert set(results["dataset"]) == {dataset} and results["value"].notna().any()
    if name in ("25-table-1", "26-table-2", "27-table-3"):  # else no number meets the printed one
        assert set(results["split"]) == {"test" if dataset == "M3FD" else "evaluation"}
