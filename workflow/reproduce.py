"""Run a profile: lock it, let Snakemake run what is out of date, write the report, exit with
Snakemake's status.

    python -m workflow.reproduce [--profile smoke] [--only "table-A-1 multi-focus"] [--dry-run]
    [--cluster slurm]

Notebooks get the folders of data and weights, where fusionlib.places finds them, as parameters.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fusionlib import images, report, results, runs
from workflow import check_results, graph, slurm

REPORTS = runs.root() / "reports"
INTERRUPTED = 130  # exit status after Ctrl-C, as shells give it
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=(__doc__ or "").split("\n\n")[0])
def main(
    profile: str = "smoke",
    only: Annotated[str, typer.Option(help="words of nodes.yaml; empty means all")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
    cluster: Annotated[
        str, typer.Option(help="slurm: each notebook is a job of its own, sent from here")
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
        script = script_for("" if dry_run else cluster)
        options = snakemake_options(settings, script)
        with runs.lock(folder, f"profile {profile} ({folder})"):
            state = write_plan(folder, nodes, workflow.parent / "notebooks")
            if dry_run:
                status = snakemake(state, [*options, "--dry-run"])
                print(f"\n{graph.listing(nodes)}")
            else:
                status = reproduce(folder, state, nodes, options, script)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    raise typer.Exit(status)


# radon C: Snakemake, final nodes and report in their order
def reproduce(
    folder: Path, state: Path, nodes: Sequence[graph.Node], options: Sequence[str], script: Path
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
    script : Path
        From :func:`script_for`.
    """
    _begin(folder, nodes)
    status = snakemake(state, options)
    # Snakemake's onsuccess and onerror would run in its own process: not at all where it is killed
    # or ends before its first job, and they know no exit status.
    for node in nodes:
        if node.is_final and node.wanted and status != INTERRUPTED:
            status = supervise([sys.executable, str(script), node.name], state) or status
    print(f"\nreport: {report.write(folder)}")
    check_results.check([folder])
    whole = {node["name"] for node in report.nodes(folder) if node["status"] == "finished"}
    if lacking := [node.name for node in nodes if node.wanted and node.name not in whole]:
        print(f"not finished: {', '.join(lacking)}", file=sys.stderr)
    return status or int(bool(lacking))


def _begin(folder: Path, nodes: Sequence[graph.Node]) -> None:
    """Write ``nodes.json``, and make what was lost run again."""
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
    forget_lost(folder, nodes)


def forget_lost(folder: Path, nodes: Sequence[graph.Node]) -> None:
    """Remove the records of nodes whose results cannot be read, and of those whose record was taken
    away what a job left of it: they run again.
    """
    for name, reason in results.read(folder)[1].items():
        if name in {node.name for node in nodes}:
            print(f"{name} runs again: {reason}", flush=True)
            (folder / name / "run.json").unlink()
    for node in nodes:
        if not (node.folder / "run.json").is_file():
            slurm.forget(node.folder)


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
            "megabytes": node.megabytes,
            "minutes": node.minutes,
        }
        for node in nodes
    ]
    images.write_text(state / "plan.json", json.dumps(plan, indent=1))
    return state


def script_for(cluster: str) -> Path:
    """Return the script that runs a node: here, or as a job of a cluster.

    Raises
    ------
    ValueError
        No such cluster, or its programs are not on this machine.
    """
    if not cluster:
        return graph.HERE / "run_node.py"
    if cluster != "slurm":
        raise ValueError(f"--cluster: expected slurm, got {cluster!r}")
    if lacking := [name for name in slurm.PROGRAMS if shutil.which(name) is None]:
        raise ValueError(
            f"--cluster: slurm needs {', '.join(lacking)} on the PATH of this machine, not found"
        )
    return graph.HERE / "slurm.py"


def snakemake_options(settings: dict, script: Path) -> list[str]:
    """Return how many jobs Snakemake runs at once, and by which script."""
    options = ["--cores", str(settings["jobs"] * settings["threads"])]
    if "gpus" in settings:
        options += ["--resources", f"gpu={settings['gpus']}"]
    # Seconds until a file written by another machine is seen here.
    waiting = ["--latency-wait", "60"] if script.stem == "slurm" else []
    return [*options, *waiting, "--config", f"script={script.name}"]


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
    return supervise(command)


def supervise(command: Sequence[str], folder: Path | None = None) -> int:
    """Run a program, in a folder, and return its exit status; Ctrl-C and SIGTERM reach all that it
    started, as Ctrl-C.
    """
    interrupted = []

    def interrupt(*_):
        interrupted.append(True)
        os.killpg(process.pid, signal.SIGINT)

    # Both signals wait until there is a process to pass them on to.
    signals = (signal.SIGINT, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    process = subprocess.Popen(command, cwd=folder, env=environment(), preexec_fn=_start_alone)
    before = [signal.signal(number, interrupt) for number in signals]
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    status = process.wait()
    for number, handler in zip(signals, before, strict=True):
        signal.signal(number, handler)
    # Snakemake stops its notebooks; the report still says what is there.
    return INTERRUPTED if interrupted else status


def _start_alone() -> None:
    """Put this process into a group of its own, which ends with the one that started it.

    Asked politely to end, Snakemake would first wait for its notebooks, and the next start would
    run beside it.
    """
    os.setpgid(0, 0)
    runs.end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's "&" has it ignored
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))


if __name__ == "__main__":
    app()
