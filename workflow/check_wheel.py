"""The wheel in a bare environment, away from the checkout: its core, then what an extra lacks.

    python workflow/check_wheel.py dist/NAME.whl [--extra report]

Prints size and seconds of the installation and a line for each thing tried; exit code 1 where one
did not do what it should.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Annotated

import typer

MOST = 400e6  # bytes of the core with what it needs

IMAGES = """
import numpy as np
from fusionlib import images
rng = np.random.default_rng(0)
for folder in ("ir", "vi"):
    for name in ("1", "2"):
        images.write(f"{folder}/{name}.png", rng.integers(0, 256, (96, 128)).astype(np.uint8))
"""
LIBRARY = """
from fusionlib import images, metrics, published, audit, transforms, optimizers, scoring
a, b = images.read("ir/1.png"), images.read("vi/1.png")
assert metrics.evaluate(a, a, b)["EN"] > 7
assert len(published.table("moe-fusion", 1)) == 240
assert set(audit.audit()["verdict"]) >= {"true", "false"}
"""
NO_TORCH = """
try:
    from fusionlib.networks import MoEFusion
except ModuleNotFoundError as error:
    assert "[torch]" in str(error), error
else:
    raise SystemExit("torch was there")
"""


def steps(bare: bool) -> list[tuple[str, list[str], int, str]]:
    """Return what is tried: a name, words behind python, the exit code, a part of what it says."""
    command = ["-m", "fusionlib"]
    score = [*command, "score", "out", "ir", "vi"]
    core = [
        ("images", ["-c", IMAGES], 0, ""),
        ("library", ["-c", LIBRARY], 0, ""),
        ("version", [*command, "--version"], 0, "fusion-reproducibility"),
        ("doctor", [*command, "doctor"], 0, "all is well"),
        ("methods", [*command, "methods"], 0, "MoE-Fusion"),
        ("fuse", [*command, "fuse", "--method", "LP+exact", "ir", "vi", "out"], 0, "2 pairs"),
        ("score", [*score, "--convention", "cddfuse"], 0, "EN SD SF MI SCD VIF Qabf SSIM"),
        ("score beside", [*score, "--beside", "table-1"], 0, "DenseFuse"),
        ("data", [*command, "data"], 0, "MSRS"),
        ("data weights", [*command, "data", "weights"], 0, "licence"),
        ("data get", [*command, "data", "get", "tno", "--mirror", ".", "--yes"], 1, "error: "),
    ]
    lacking = [
        ("torch in Python", ["-c", NO_TORCH], 0, ""),
        (
            "torch in a command",
            [*command, "fuse", "--method", "MoE-Fusion", "ir/1.png", "vi/1.png", "f.png"],
            1,
            "error: torch: expected it installed",
        ),
        ("report", [*command, "report", "."], 1, "[report]"),
    ]
    return core + lacking if bare else core


def outside() -> dict[str, str]:
    """Return the environment without what would let the checkout be imported."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check(python: Path, home: Path, bare: bool) -> list[str]:
    """Try every step in the folder ``home``; return the names of those that failed."""
    variables = outside() | {"FUSION_DATA": "", "FUSION_WEIGHTS": "", "XDG_CACHE_HOME": "cache"}
    failed = []
    for name, words, code, part in steps(bare):
        done = subprocess.run(
            [python, *words], cwd=home, env=variables, capture_output=True, text=True
        )
        said = done.stdout + done.stderr
        is_right = done.returncode == code and part in said and "Traceback" not in said
        print(f"{name:20} {'as it should' if is_right else f'exit code {done.returncode}: {said}'}")
        failed += [] if is_right else [name]
    return failed


def main(
    wheel: Path, extra: Annotated[list[str] | None, typer.Option(help="installed with it")] = None
) -> None:
    """Install WHEEL into a new environment and try what it promises."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        venv.create(Path(folder) / "bare", with_pip=True)
        python = Path(folder) / "bare" / "bin" / "python"
        before, started = size_of(Path(folder)), time.monotonic()
        named = f"{wheel.resolve()}[{','.join(extra)}]" if extra else str(wheel.resolve())
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", named],
            check=True,
            env=outside(),
        )
        size = size_of(Path(folder)) - before
        print(f"installed: {size / 1e6:.0f} MB in {time.monotonic() - started:.0f} s")
        failed = check(python, home, not extra)
    if not extra and size > MOST:
        failed.append(f"size: expected at most {MOST / 1e6:.0f} MB")
    if failed:
        print(f"error: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
