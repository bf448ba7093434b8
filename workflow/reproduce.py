"""Run a profile: lock it, let Snakemake run what is out of date, write the report, exit with Snakemake's status.

    python -m workflow.reproduce [--profile smoke] [--only "table-A-1 multi-focus"] [--dry-run]

FUSION_DATA and FUSION_WEIGHTS are read here and nowhere else; notebooks get them as parameters.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from fusionlib import images, report, runs
from workflow import graph


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--only", default="")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--reports", type=Path, default=runs.root() / "reports")
    parser.add_argument("--workflow", type=Path, default=graph.HERE, help="folder with nodes.yaml and profiles/")
    options = parser.parse_args()
    runs.end_with_parent()
    try:
        folder = options.reports.resolve() / options.profile
        paths = {name.lower().removeprefix("fusion_"): str(Path(os.environ[name]).resolve())
                 for name in ("FUSION_DATA", "FUSION_WEIGHTS") if os.environ.get(name)}
        nodes = graph.expand(options.profile, folder, options.only.split(), **paths, here=options.workflow.resolve())
        with runs.lock(folder, f"profile {options.profile} ({folder})"):
            images.write_text(folder / "nodes.json", json.dumps([
                {"name": node.name, "notebook": node.notebook.name, "gives": node.gives, "wanted": node.wanted}
                for node in nodes], indent=1))
            status = snakemake(options, folder, paths)
            if not options.dry_run:
                print(f"\nreport: {report.write(folder)}")
            return status
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def snakemake(options: argparse.Namespace, folder: Path, paths: dict[str, str]) -> int:
    """Call Snakemake with -k; a lock that a killed run left in its state folder is taken away first."""
    settings = graph.load_profile(options.profile, options.workflow.resolve())
    state = folder / ".snakemake-state"
    state.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(graph.HERE / "Snakefile"), "--directory", str(state),
               "--cores", str(settings["jobs"] * settings["threads"])]
    values = {"profile": options.profile, "only": options.only, "reports": folder,
              "workflow": options.workflow.resolve(), **paths}
    config = ["--config", *(f"{name}={value}" for name, value in values.items() if value)]  # an empty value reads as None
    # The lock of the folder is held here, so a lock of Snakemake's own can only be a dead run's.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(runs.root()), os.environ.get("PYTHONPATH", "")]),
                   "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    if (state / ".snakemake" / "locks").is_dir() and any((state / ".snakemake" / "locks").iterdir()):
        subprocess.run([*command, "--unlock", *config], env=environment, check=False, capture_output=True)
    process = subprocess.Popen(
        [*command, "--keep-going", "--rerun-incomplete", "--show-failed-logs", "--quiet", "host",
         *(["--dry-run"] if options.dry_run else []), *config], env=environment)

    def stop(*_) -> None:
        process.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # Snakemake got the same Ctrl-C and stops its notebooks; the report still says what is there.
        return process.wait() or 130


if __name__ == "__main__":
    sys.exit(main())
