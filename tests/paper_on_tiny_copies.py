"""The ``paper`` profile from end to end on small copies of M3FD, FLIR-aligned and LLVIP: every node
but those of the multi-focus paper, as ``make reproduce PROFILE=paper`` runs them.

    python tests/paper_on_tiny_copies.py FOLDER [--jobs 2] [--only "table-2 figure-6"]

Too long for every run of the tests (about ten minutes on one core); tests/test_published_layouts.py
sends each notebook over the same copies alone. What is changed of the profile is what makes it
expensive: pairs, epochs, sizes, seeds, the device. Data sets, wiring and parameters are its own.
Start it again with the same folder to go on. Exit code 0 if every node came to its end.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from published_copies import SIZE, copy

ROOT = Path(__file__).resolve().parents[1]
NETWORK = {"width": 2, "gate_grid": [[2, 3], [2, 3]]}
SMALL = {"size": list(SIZE), "batch": 2, "epochs": 1, "detector": {"size": "small"}}
CHANGES = {
    "21-train": {"changes": SMALL | {"model": NETWORK}},
    "26-table-2": {"epochs": 1, "seeds": [0]},
    "27-table-3": {
        "changes": SMALL
        | {"epochs": 0, "detector_epochs": 1, "detector": {"size": "small", "shared": True}}
    },
    "29-figures-7-8": {"epochs": 1},
}
ONLY = (
    "infrared-visible-data figure-2 training fuse-and-look figure-6 compared-methods table-1"
    " table-2 table-3 figure-7 figure-1 metric-conventions"
)


def write_profile(folder: Path, jobs: int) -> list[str]:
    """Write the derived profile beside links to the graph and the notebooks; return its sets."""
    workflow = folder / "workflow"
    (workflow / "profiles").mkdir(parents=True, exist_ok=True)
    for link, target in (
        (workflow / "nodes.yaml", "workflow/nodes.yaml"),
        (folder / "notebooks", "notebooks"),
    ):
        if not link.is_symlink():
            link.symlink_to(ROOT / target)
    profile = yaml.safe_load((ROOT / "workflow/profiles/paper.yaml").read_text())
    for notebook, changed in CHANGES.items():
        given = profile["parameters"][notebook]
        for name, value in changed.items():
            given[name] = given.get(name, {}) | value if isinstance(value, dict) else value
    profile |= {"device": "cpu", "jobs": jobs, "threads": 1}
    (workflow / "profiles/paper-tiny.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))
    return profile["infrared_visible"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default=ONLY)
    options = parser.parse_args()
    folder = options.folder.resolve()
    for dataset in write_profile(folder, options.jobs):
        if not (folder / "data/ivif" / dataset).is_dir():
            copy(folder / "data/ivif" / dataset, dataset)
    environment = os.environ | {"FUSION_DATA": str(folder / "data"), "FUSION_WEIGHTS": "none"}
    command = [sys.executable, "-m", "workflow.reproduce", "--profile", "paper-tiny"]
    command += ["--workflow", str(folder / "workflow"), "--reports", str(folder / "reports")]
    command += ["--only", options.only]
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    nodes = json.loads((folder / "reports/paper-tiny/nodes.json").read_text())
    wanted = [node["name"] for node in nodes if node["wanted"]]
    done = [name for name in wanted if (folder / f"reports/paper-tiny/{name}/run.json").exists()]
    print(f"{len(done)} of {len(wanted)} nodes; without: {sorted(set(wanted) - set(done))}")
    return status or len(done) < len(wanted)


if __name__ == "__main__":
    sys.exit(main())
