"""Run a profile: lock it, let Snakemake run what is out of date, write the report, exit with
Snakemake's status.

    python -m workflow.reproduce [--profile smoke] [--only "table-A-1 multi-focus"] [--dry-run]
    [--cluster slurm]

Notebooks get the folders of data and weights, where fusionlib.places finds them, as parameters.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fusionlib import images, report, results, runs
from workflow import check_results, graph

REPORTS = runs.root() / "reports"
INTERRUPTED = 130  # exit status after Ctrl-C, as shells give it
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=(__doc__ or "").split("\n\n")[0])
def main(
    profile: str = "smoke",
    only: Annotated[str, typer.Option(help="words of nodes.yaml; empty means all")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
    cluster: Annotated[
        str, typer.Option(help="a folder of workflow/ with Snakemake's settings for a cluster")
    ] = "",
    reports: Path = REPORTS,
    workflow: Annotated[
        Path, typer.Option(help="folder with nodes.yaml and profiles/")
    ] = graph.HERE,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="end with the program that started this")
    ] = False,
) -> None:
    # asked politely, it would go on until its notebooks are done, and refuse the next start
    if with_parent:
        runs.end_with_parent(signal.SIGKILL)
    folder, workflow = reports.resolve() / profile, workflow.resolve()
    try:
        settings = graph.load_profile(profile, workflow)
        words = only.split() or settings.get("only", [])
        nodes = graph.expand(profile, folder, words, here=workflow, dry=dry_run)
        options = snakemake_options(settings, "" if dry_run else cluster)
        with runs.lock(folder, f"profile {profile} ({folder})"):
            state = write_plan(folder, nodes, workflow.parent / "notebooks")
            if dry_run:
                status = snakemake(state, [*options, "--dry-run"])
                print(f"\n{graph.listing(nodes)}")
            else:
                status = reproduce(folder, state, nodes, options)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    raise typer.Exit(status)


# radon C: signals, Snakemake, final nodes and report in their order
def reproduce(
    folder: Path, state: Path, nodes: Sequence[graph.Node], options: Sequence[str]
) -> int:
    """Run all nodes, then the final ones and the report; return the exit status.

    Parameters
    ----------
    folder : Path
        Of the profile's results.
    state : Path
        From :func:`write_plan`.
    nodes : list of Node
    options : list of str
        Of Snakemake's command line.
    """
    listed = [
        {
            "name": node.name,
            "notebook": node.notebook.name,
            "provides": node.provides,
            "wanted": node.wanted,
            "needs": [needed.name for needed in node.needs],
            "without": [Path(folder).name for folder in node.without],
        }
        for node in nodes
    ]
    images.write_text(folder / "nodes.json", json.dumps(listed, indent=1))
    for name, reason in results.read(folder)[1].items():
        if name in {node.name for node in nodes}:
            print(f"{name} runs again: {reason}", flush=True)
            (folder / name / "run.json").unlink()
    status = snakemake(state, options)
    # Snakemake's onsuccess and onerror would run in its own process: not at all where it is killed
    # or ends before its first job, and they know no exit status.
    for node in nodes:
        if node.is_final and node.wanted and status != INTERRUPTED:
            script = graph.HERE / "run_node.py"
            done = subprocess.run([sys.executable, script, node.name], cwd=state, env=environment())
            status = done.returncode or status
    print(f"\nreport: {report.write(folder)}")
    check_results.check([folder])
    whole = {node["name"] for node in report.nodes(folder) if node["status"] == "finished"}
    if lacking := [node.name for node in nodes if node.wanted and node.name not in whole]:
        print(f"not finished: {', '.join(lacking)}", file=sys.stderr)
    return status or int(bool(lacking))


def write_plan(folder: Path, nodes: Sequence[graph.Node], notebooks: Path) -> Path:
    """Write what the Snakefile reads and return the folder that it stands in: ``plan.json``, and
    ``notebooks``, a link.
    """
    state = folder / ".snakemake-state"
    state.mkdir(parents=True, exist_ok=True)
    link = state / "notebooks"
    link.unlink(missing_ok=True)
    link.symlink_to(notebooks, target_is_directory=True)
    plan = [
        {
            "name": node.name,
            "notebook": node.notebook.name,
            "parameters": node.parameters,
            "library": runs.library_hash(node.notebook),
            "needs": [needed.name for needed in node.needs],
            "wanted": node.wanted,
            "is_final": node.is_final,
            # What many wait for runs first, then what had to wait itself: short independent ones
            # fill the gaps at the end.
            "priority": 2 * sum(node.folder in other.needs for other in nodes) + bool(node.needs),
            "threads": node.threads,
            "gpu": int(node.gpu),
            "minutes": node.minutes,
        }
        for node in nodes
    ]
    images.write_text(state / "plan.json", json.dumps(plan, indent=1))
    return state


def snakemake_options(settings: dict, cluster: str) -> list[str]:
    """Return how many jobs Snakemake runs at once, and where.

    Raises
    ------
    ValueError
        No such cluster, or its executor is not installed.
    """
    options = ["--cores", str(settings["jobs"] * settings["threads"])]
    if "gpus" in settings:
        options += ["--resources", f"gpu={settings['gpus']}"]
    if cluster:
        options += ["--profile", str(cluster_folder(cluster)), "--jobs", str(settings["jobs"])]
    return options


def environment() -> dict[str, str]:
    """Return the environment of a process that imports this project, installed or not."""
    path = os.pathsep.join([str(runs.root()), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


def snakemake(state: Path, options: Sequence[str]) -> int:
    """Call Snakemake in the folder of the plan and return its exit status; a failed node stops
    only those that need it.
    """
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(graph.HERE / "Snakefile")]
    command += ["--directory", str(state), *options, "--keep-going", "--rerun-incomplete"]
    # runs.lock holds the folder, and lets go when this process is killed; Snakemake's own lock
    # would stay, and takes braces in the path of its folder for wildcards.
    command += ["--nolock", "--show-failed-logs", "--quiet", "host"]
    process = subprocess.Popen(
        command,
        env=environment(),
        # Asked to end, Snakemake would first wait for its notebooks, and the next start would run
        # beside it.
        preexec_fn=functools.partial(runs.end_with_parent, signal.SIGKILL),
    )
    signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGTERM))
    try:
        return process.wait()
    except KeyboardInterrupt:
        # Snakemake got the same Ctrl-C and stops its notebooks; the report still says what is
        # there.
        process.wait()
        return INTERRUPTED


def cluster_folder(name: str) -> Path:
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
    app()
