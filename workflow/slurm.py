"""Run one node of the plan as a SLURM job; Snakemake calls this with ``--cluster slurm``.

    python workflow/slurm.py NAME

It waits for the job and exits as the job does. Account, partition and the like come from SLURM's
own variables (``SBATCH_ACCOUNT``, ``SBATCH_PARTITION``, ...). The controller alone is asked, so no
accounting is needed. A job that outlived a killed command is found again, and so is the end of one.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from fusionlib import runs
from workflow.run_node import planned

PROGRAMS = ("sbatch", "squeue", "scontrol", "scancel")
TRIES = 3
SLOWEST = 10  # seconds between two looks at a job; the first come sooner
ALIVE = "PENDING,CONFIGURING,RUNNING,SUSPENDED,REQUEUED,REQUEUE_HOLD,REQUEUE_FED"
# What a cluster does to a job; all else that ends one is the notebook's own doing.
TOO_SMALL = {"OUT_OF_MEMORY", "TIMEOUT", "KILLED"}
ENDED_EARLY = {"CANCELLED", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "LOST"} | TOO_SMALL
ENDED = {"COMPLETED", "FAILED"} | ENDED_EARLY


def ask(*command: str, script: str | None = None) -> str:
    """Call a program of SLURM and return what it prints; raise RuntimeError with its complaint."""
    done = subprocess.run(command, input=script, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


def mark(node: dict) -> str:
    """Return what tells a job of this notebook, with these parameters, this library and what it
    needs as it is now, from any other.
    """
    read = [Path("..", name, "run.json") for name in node["needs"]]
    read.append(Path("notebooks", node["notebook"]))
    text = json.dumps([node["parameters"], node["library"]], sort_keys=True)
    whole = hashlib.sha256(text.encode())
    for path in read:
        whole.update(path.read_bytes())
    return whole.hexdigest()[:16]


def finished(node: dict) -> Path:
    """Return where a job leaves a copy of its ``run.json``: Snakemake removes that of a job whose
    end it did not see.
    """
    return Path("..", node["name"], f".finished-{mark(node)}.json")


def forget(folder: Path) -> None:
    """Remove such copies from the folder of a node."""
    for copy in folder.glob(".finished-*.json"):
        copy.unlink()


def submit(node: dict, scale: int) -> str:
    """Send a node to the queue and return the number of its job.

    Parameters
    ----------
    node : dict
        Of ``plan.json``.
    scale : int
        How many times its memory and minutes to ask for.

    Raises
    ------
    RuntimeError
        SLURM refuses it; the sentence holds what was asked for.
    """
    forget(Path("..", node["name"]))
    memory, minutes = scale * node["megabytes"], scale * node["minutes"]
    options = [f"--job-name={node['name']}", f"--comment={mark(node)}"]
    options += [f"--cpus-per-task={node['threads']}", f"--mem={memory}M", f"--time={minutes}"]
    options += [f"--gres=gpu:{node['gpu']}"] if node["gpu"] else []
    program = [sys.executable, str(Path(__file__).with_name("run_node.py")), node["name"]]
    copy = ["cp", f"../{node['name']}/run.json", str(finished(node))]
    script = f"#!/bin/sh\n{shlex.join(program)} && {shlex.join(copy)}\n"
    try:
        return ask(
            "sbatch", "--parsable", *options, f"--output=../{node['name']}/slurm.txt", script=script
        ).split(";")[0]
    except RuntimeError as error:
        raise RuntimeError(
            f"{node['name']}: {node['threads']} processors, {memory} MB, {minutes} minutes and"
            f" {node['gpu']} GPUs were refused: {error}"
        ) from None


def left_over(node: dict) -> str | None:
    """Return the job that an earlier, killed command sent for this node, if it is still alive; one
    with other parameters is cancelled.
    """
    alive = None
    wanted = [f"--name={node['name']}", f"--states={ALIVE}", "--format=%i|%k|%Z"]
    for line in ask("squeue", "--me", "--noheader", *wanted).splitlines():
        job, comment, folder = line.split("|", 2)
        if folder == str(Path.cwd()) and comment == mark(node) and alive is None:
            alive = job
        elif folder == str(Path.cwd()):
            ask("scancel", job)
    return alive


def state(job: str, name: str) -> str:
    """Return the state of a job in SLURM's words, "KILLED" where it failed by a signal, as without
    control groups for its memory; of one that SLURM has forgotten, what its record says:
    "COMPLETED" or "LOST".
    """
    try:
        said = ask("scontrol", "--oneliner", "show", "job", job)
    except RuntimeError as error:
        if "Invalid job id" not in str(error):
            return "UNKNOWN"  # the controller does not answer: it will again
        return "COMPLETED" if Path("..", name, "run.json").is_file() else "LOST"
    facts = dict(re.findall(r" (JobState|ExitCode)=(\S+)", said))
    status, number = map(int, facts["ExitCode"].split(":"))
    by_signal = facts["JobState"] == "FAILED" and (number or status > 128)
    return "KILLED" if by_signal else facts["JobState"]


def wait(job: str, name: str) -> str:
    """Follow a job to its end, a line for each change, and return how it ended."""
    pause, before = 1.0, ""
    while (now := state(job, name)) not in ENDED:
        if now != before:
            print(f"[{name}] job {job}: {now.lower()}", file=sys.stderr, flush=True)
        time.sleep(pause)
        pause, before = min(SLOWEST, 1.2 * pause), now
    print(f"[{name}] job {job}: {now.lower()}", file=sys.stderr, flush=True)
    return now


def run(node: dict) -> int:
    """Run a node as a job and return 0, or 1 where its notebook failed; one that the cluster ended
    early goes on from its own checkpoint in the next, twice as large where it was too small.
    """
    scale, record = 1, Path("..", node["name"], "run.json")
    if finished(node).is_file():
        shutil.copyfile(finished(node), record)
        return 0
    for _ in range(TRIES):
        ended = wait(left_over(node) or submit(node, scale), node["name"])
        if ended not in ENDED_EARLY:
            break
        scale *= 2 if ended in TOO_SMALL else 1
    if ended != "COMPLETED":
        said = Path("..", node["name"], "slurm.txt")
        print(said.read_text(errors="replace")[-4000:] if said.is_file() else "", file=sys.stderr)
    return int(ended != "COMPLETED")


def main(name: str) -> int:
    """Run a node of the plan in the working directory; Ctrl-C and SIGTERM cancel its job."""
    # Not SIGTERM, which would cancel the job: a killed command finds it again.
    runs.end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    node = planned(name)
    try:
        return run(node)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Asked by name: the signal may have come before sbatch said the number.
        if job := left_over(node):
            ask("scancel", job)
        return 130


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
