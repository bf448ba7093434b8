"""Kills of long work: `kill -9` at random moments, started again until done, held against a run
that was left alone.

    python benchmarks/kills.py SEED [--what fuse many training general reproduce] [--kills 20]
        [--only WORDS]

Of each: kills, what was lost (done before a kill, and done again), what differs in the end, what
was left behind (half files, processes). Exit code 1 where there is any.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fusionlib import images
from fusionlib.methods import folders
from fusionlib.networks import load_checkpoint
from fusionlib.networks.weights.checkpoint import fingerprint
from fusionlib.networks.weights.files import sha256
from fusionlib.training import PRESETS, TrainingConfig

PAIRS, SIZE = 600, (240, 320)
MANY, SMALL_SIZE, JOBS = 2000, (128, 128), 2  # of LP
STEP = 0.05  # seconds between two looks
LATE, EARLY = 2.0, 12.0  # longest wait before a kill, in seconds
END = 5.0  # seconds after which no process of a killed command may be there
UNTIMED = {"seconds"}  # metrics that no two runs have in common
TIMES = ["seconds", "data_seconds", "step_seconds", "images_per_second"]
SMALL = {  # settings of a training: 30 epochs of a second
    "data": {"scenes": [16, 2], "size": [64, 96]},
    "network": {"width": 4, "gate_grid": [[2, 3], [2, 3]]},
    "detectors": {"size": "small"},
    "optimization": {"batch": 2, "epochs": 28, "detector_epochs": 2},
    "run": {"save_every": 3},
}


@dataclass
class Work:
    """A long command.

    Attributes
    ----------
    command : list of str
        ``{out}`` stands for its folder.
    done : callable
        What is done in a folder: name to something that changes where it is done again.
    result : callable
        What the folder holds in the end, comparable.
    """

    command: Sequence[str]
    done: Callable[[Path], dict[str, object]]
    result: Callable[[Path], dict[str, object]]

    def start(self, out: Path) -> subprocess.Popen:
        """Start it in a process group of its own, which a kill of the command leaves alone."""
        words = [word.format(out=out) for word in self.command]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(words, start_new_session=True, **quiet)


def stamps(paths: Sequence[Path], below: Path) -> dict[str, object]:
    """Return the time of writing of each file."""
    return {str(path.relative_to(below)): path.stat().st_mtime_ns for path in paths}


def processes_of(out: Path) -> list[str]:
    """Return the command lines of processes that work in a folder."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(out) in line and int(entry.parent.name) != os.getpid():
            lines.append(line)
    return lines


def half_files(out: Path) -> list[str]:
    """Return files that have not got their name yet."""
    return [str(path) for path in out.rglob(f"{images.WRITING}*")]


def kill_until_done(work: Work, out: Path, kills: int, chance: random.Random) -> dict[str, list]:
    """Kill a command so often, after its first result, and let it end.

    Returns
    -------
    dict of str to list
        kills (how much was done at each), lost, left: processes and half files.
    """
    report: dict[str, list] = {"kills": [], "lost": [], "left": []}
    while True:
        before = work.done(out)
        process = work.start(out)
        # every second one at any moment, also while it starts; the others leave it to go on
        is_early = len(before) > 0 and len(report["kills"]) % 2 == 1
        wanted = len(before) + (0 if is_early else 1)
        while process.poll() is None and len(report["kills"]) < kills:
            if len(work.done(out)) >= wanted:
                time.sleep(chance.uniform(0, EARLY if is_early else LATE))
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(STEP)
        process.wait()
        now = work.done(out)
        report["lost"] += [name for name, stamp in before.items() if now.get(name) != stamp]
        if process.returncode != -signal.SIGKILL:
            report["left"] += half_files(out)
            if process.returncode:
                report["left"].append(f"exit code {process.returncode}")
            return report
        report["kills"].append(len(now))
        time.sleep(END)
        report["left"] += processes_of(out)


# ---- the three kinds of work ---------------------------------------------------------------------


def many(folder: Path) -> Work:
    """Fuse thousands of small pairs by several processes."""
    return fuse(folder, MANY, SMALL_SIZE, ("LP", "--jobs", str(JOBS)))


def fuse(
    folder: Path, pairs: int = PAIRS, size: tuple[int, int] = SIZE, words: Sequence[str] = ("CvT",)
) -> Work:
    """Fuse a folder of pairs, of random levels; ``words`` are a method and options."""
    rng = np.random.default_rng(0)
    for kind in ("ir", "vi"):
        for number in range(pairs):
            image = rng.integers(0, 256, size).astype(np.uint8)
            images.write(folder / "pairs" / kind / f"{number:03}.png", image)
    sources = [str(folder / "pairs" / kind) for kind in ("ir", "vi")]
    start = [sys.executable, "-m", "fusionlib", "fuse", "--method", *words]
    command = [*start, *sources, "{out}"]
    return Work(
        command,
        lambda out: stamps(recorded(out), out),
        lambda out: {path.name: sha256(path) for path in sorted(out.glob("*/[!.]*.png"))},
    )


def recorded(out: Path) -> list[Path]:
    """Return the fused images that a folder's record counts as done."""
    record = out / folders.UNFINISHED
    if not record.is_file():
        return sorted(out.glob("gray/[!.]*.png"))
    names = [line.split('"')[1] for line in record.read_text().splitlines()[1:] if '",' in line]
    return [out / "gray" / f"{name}.png" for name in names]


def training(folder: Path, settings: dict | None = None) -> Work:
    """Train, by default a small network."""
    path = images.write_text(folder / "training.json", json.dumps(settings or SMALL))
    command = [sys.executable, "-m", "fusionlib.training", "--config", str(path)]
    return Work(
        [*command, "--output", "{out}", "--device", "cpu"],
        lambda out: dict.fromkeys(lines(out / "log.csv")),
        lambda out: {
            # the file itself also holds the revision of the code
            "weights": fingerprint(load_checkpoint(out / "model.safetensors")),
            "log": pd.read_csv(out / "log.csv").drop(columns=TIMES).to_csv(),
        },
    )


def general(folder: Path) -> Work:
    """Train the preset "general" for 560 steps; needs its data."""
    short = {"optimization.epochs": 7, "run.save_every": 10}
    return training(folder, TrainingConfig.from_dict(short, PRESETS["general"]).to_dict())


def lines(path: Path) -> list[str]:
    """Return the lines of a file, none where it is not there."""
    return path.read_text().splitlines()[1:] if path.is_file() else []


def reproduce(only: str) -> Work:
    """Run the smoke profile, or part of it."""
    command = [sys.executable, "-m", "workflow.reproduce", "--profile", "smoke", "--only", only]
    return Work(
        [*command, "--reports", "{out}"],
        lambda out: stamps(finished(out), out),
        lambda out: {
            str(path.relative_to(out)): numbers(path)
            for path in sorted(out.glob("smoke/*/results.csv"))
        },
    )


def finished(out: Path) -> list[Path]:
    """Return the records of the nodes that Snakemake counts as finished, not of the one that runs:
    it is done again, although its record may be there just before its notebook is.
    """
    marks = out.glob("smoke/.snakemake-state/.snakemake/incomplete/*")
    running = {Path(urlsafe_b64decode(mark.name).decode()).parent.name for mark in marks}
    return sorted(p for p in out.glob("smoke/*/run.json") if p.parent.name not in running)


def numbers(path: Path) -> str:
    """Return a table of results as text, without what is measured in seconds."""
    frame = pd.read_csv(path)
    return frame[~frame["metric"].isin(UNTIMED)].to_csv(index=False)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("seed", type=int)
    parser.add_argument("--what", nargs="*", default=["fuse", "training", "reproduce"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--only", default="", help="words of nodes.yaml, for reproduce")
    options = parser.parse_args()
    make: dict[str, Callable[[Path], Work]] = {"fuse": fuse, "many": many, "training": training}
    make["general"] = general
    make["reproduce"] = lambda _folder: reproduce(options.only)
    faults = 0
    for what in options.what:
        with tempfile.TemporaryDirectory(prefix="kills-") as name:
            folder = Path(name)
            work = make[what](folder)
            alone, killed = folder / "alone", folder / "killed"
            code = work.start(alone).wait()
            chance = random.Random(f"{options.seed} {what}")
            report = kill_until_done(work, killed, options.kills, chance)
            first, second = work.result(alone), work.result(killed)
            apart = sorted(k for k in first.keys() | second.keys() if first.get(k) != second.get(k))
            print(
                f"{what}: left alone exit {code}, {len(first)} results; {len(report['kills'])}"
                f" kills at {report['kills']}; lost {report['lost']}; different {apart}; left"
                f" behind {report['left']}",
                flush=True,
            )
            faults += code + len(report["lost"]) + len(apart) + len(report["left"])
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
