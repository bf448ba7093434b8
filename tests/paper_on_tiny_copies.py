"""Profiles on published data from end to end on small copies of M3FD, FLIR-aligned and LLVIP, as
``make reproduce PROFILE=NAME`` runs them: of ``paper`` every node but those of the multi-focus
paper; ``flir-gpu`` on a few pairs; ``flir`` on 5,142 tiny pairs, with the networks that
FUSION_WEIGHTS holds.

    python tests/paper_on_tiny_copies.py FOLDER [--profile paper] [--jobs 2] [--only "table-2"]

Too long for every run of the tests (about ten minutes on one core); tests/test_published_layouts.py
sends each notebook over the same copies alone. What is changed of a profile is what makes it
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
from published_copies import SIZE, copy, flir_on_github

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
FLIR = {"25-table-1": {"resolutions": ["native"], "every_variant": False}}  # others are not tiny
ONLY = (
    "infrared-visible-data figure-2 training fuse-and-look figure-6 compared-methods table-1"
    " table-2 table-3 figure-7 figure-1 metric-conventions"
)


def write_profile(folder: Path, name: str, jobs: int) -> list[str]:
    """Write the derived profile beside links to the graph and the notebooks; return its sets."""
    workflow = folder / "workflow"
    (workflow / "profiles").mkdir(parents=True, exist_ok=True)
    for link, target in (
        (workflow / "nodes.yaml", "workflow/nodes.yaml"),
        (folder / "notebooks", "notebooks"),
    ):
        if not link.is_symlink():
            link.symlink_to(ROOT / target)
    profile = yaml.safe_load((ROOT / f"workflow/profiles/{name}.yaml").read_text())
    for notebook, given in profile["parameters"].items():
        changed = (FLIR if name == "flir" else CHANGES).get(notebook, {})
        for key, value in changed.items():
            given[key] = given.get(key, {}) | value if isinstance(value, dict) else value
    profile |= {"device": "cpu", "jobs": jobs, "threads": 1}
    (workflow / "profiles/tiny.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))
    return profile["infrared_visible"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--profile", choices=["paper", "flir", "flir-gpu"], default="paper")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only")
    options = parser.parse_args()
    folder, is_flir = options.folder.resolve(), options.profile == "flir"
    for dataset in write_profile(folder, options.profile, options.jobs):
        if (folder / "data/ivif" / dataset).is_dir():
            continue
        if is_flir:
            flir_on_github(folder / "data/ivif" / dataset)
        else:
            copy(folder / "data/ivif" / dataset, dataset)
    environment = os.environ | {"FUSION_DATA": str(folder / "data")}
    environment |= {} if is_flir else {"FUSION_WEIGHTS": "none"}
    command = [sys.executable, "-m", "workflow.reproduce", "--profile", "tiny"]
    command += ["--workflow", str(folder / "workflow"), "--reports", str(folder / "reports")]
    only = ONLY if options.profile == "paper" else ""  # the others say themselves what runs
    command += ["--only", options.only or only]
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    nodes = json.loads((folder / "reports/tiny/nodes.json").read_text())
    wanted = [node["name"] for node in nodes if node["wanted"]]
    done = [name for name in wanted if (folder / f"reports/tiny/{name}/run.json").exists()]
    print(f"{len(done)} of {len(wanted)} nodes; without: {sorted(set(wanted) - set(done))}")
    return status or len(done) < len(wanted)


if __name__ == "__main__":
    sys.exit(main())
