"""Run a profile: lock it, let Snakemake run what is out of date, write the report, exit with
Snakemake's status.

    python -m workflow.reproduce [--profile smoke] [--only "table-A-1 multi-focus"] [--dry-run]
    [--cluster slurm]

FUSION_DATA and FUSION_WEIGHTS are read here and nowhere else; notebooks get them as parameters.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from fusionlib import images, report, runs
from workflow import graph

INTERRUPTED = 130  # exit status after Ctrl-C, as shells give it


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--only", default="")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument(
        "--cluster",
        default="",
        help="a folder of workflow/ with Snakemake's settings for a cluster",
    )
    parser.add_argument("--reports", type=Path, default=runs.root() / "reports")
    parser.add_argument(
        "--workflow", type=Path, default=graph.HERE, help="folder with nodes.yaml and profiles/"
    )
    parser.add_argument(
        "--with-parent",
        action="store_true",
        help="end with the program that started this, such as make",
    )
    options = parser.parse_args()
    # asked politely, it would go on until its notebooks are done, and refuse the next start
    if options.with_parent:
        runs.end_with_parent(signal.SIGKILL)
    try:
        folder = options.reports.resolve() / options.profile
        paths = {
            name.lower().removeprefix("fusion_"): str(Path(os.environ[name]).resolve())
            for name in ("FUSION_DATA", "FUSION_WEIGHTS")
            if os.environ.get(name)
        }
        nodes = graph.expand(
            options.profile,
            folder,
            options.only.split(),
            **paths,
            here=options.workflow.resolve(),
            dry=options.dry_run,
        )
        with runs.lock(folder, f"profile {options.profile} ({folder})"):
            if options.dry_run:
                status = snakemake(options, folder, paths)
                print(f"\n{graph.listing(nodes)}")
                return status
            images.write_text(
                folder / "nodes.json",
                json.dumps(
                    [
                        {
                            "name": node.name,
                            "notebook": node.notebook.name,
                            "gives": node.gives,
                            "wanted": node.wanted,
                            "after": [before.name for before in node.after],
                        }
                        for node in nodes
                    ],
                    indent=1,
                ),
            )
            status = snakemake(options, folder, paths)
            for node in (
                node for node in nodes if node.last and node.wanted and status != INTERRUPTED
            ):
                status = run(node) or status
            print(f"\nreport: {report.write(folder)}")
            return status
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(node: graph.Node) -> int:
    """Run one node as the Snakefile does, but now, whatever became of the others."""
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "fusionlib",
            "run",
            str(node.notebook),
            str(node.folder),
            "--with-parent",
            "--threads",
            str(node.threads),
            "--parameters",
            json.dumps(node.parameters),
        ],
        check=False,
    ).returncode


def snakemake(options: argparse.Namespace, folder: Path, paths: dict[str, str]) -> int:
    """Call Snakemake with -k; a lock that a killed run left in its state folder is taken away
    first.
    """
    settings = graph.load_profile(options.profile, options.workflow.resolve())
    state = folder / ".snakemake-state"
    state.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(graph.HERE / "Snakefile"),
        "--directory",
        str(state),
        "--cores",
        str(settings["jobs"] * settings["threads"]),
    ]
    if "gpus" in settings:
        command += ["--resources", f"gpu={settings['gpus']}"]
    if options.cluster and not options.dry_run:
        command += ["--profile", str(cluster(options.cluster)), "--jobs", str(settings["jobs"])]
    values = {
        "profile": options.profile,
        "only": options.only,
        "reports": folder,
        "workflow": options.workflow.resolve(),
        **paths,
        "dry": "yes" if options.dry_run else "",
    }
    # an empty value reads as None
    config = ["--config", *(f"{name}={value}" for name, value in values.items() if value)]
    # The lock of the folder is held here, so a lock of Snakemake's own can only be a dead run's.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(runs.root()), os.environ.get("PYTHONPATH", "")]),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    if (state / ".snakemake" / "locks").is_dir() and any(
        (state / ".snakemake" / "locks").iterdir()
    ):
        subprocess.run(
            [*command, "--unlock", *config], env=environment, check=False, capture_output=True
        )
    process = subprocess.Popen(
        [
            *command,
            "--keep-going",
            "--rerun-incomplete",
            "--show-failed-logs",
            "--quiet",
            "host",
            *(["--dry-run"] if options.dry_run else []),
            *config,
        ],
        env=environment,
        # Asked to end, Snakemake would first wait for its notebooks, and the next start would run
        # beside it.
        preexec_fn=functools.partial(runs.end_with_parent, signal.SIGKILL),
    )

    def stop(*_) -> None:
        process.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # Snakemake got the same Ctrl-C and stops its notebooks; the report still says what is
        # there.
        process.wait()
        return INTERRUPTED


def cluster(name: str) -> Path:
    """Return the folder with Snakemake's settings for a cluster, and refuse one whose executor is
    not installed.
    """
    folder = graph.HERE / name
    if not (folder / "config.yaml").is_file():
        raise ValueError(
            f"--cluster: expected a folder of {graph.HERE} with config.yaml, such as slurm, got"
            f" {name!r}"
        )
    plugin = f"snakemake_executor_plugin_{name}"
    if importlib.util.find_spec(plugin) is None:
        raise ValueError(
            f"--cluster: {name} needs the package {plugin.replace('_', '-')}, it is not installed"
        )
    return folder


if __name__ == "__main__":
    sys.exit(main())
