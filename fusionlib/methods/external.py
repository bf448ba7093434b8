"""Programs that others use for the same task, called where they are installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from fusionlib import images

# Only contrast counts, and each pixel comes from one source: the setting that its manual gives for
# focus stacks.
ENFUSE = ("--contrast-weight=1", "--exposure-weight=0", "--saturation-weight=0", "--hard-mask")


def installed(program: str) -> bool:
    """Tell whether a program is on the search path."""
    return shutil.which(program) is not None


def enfuse(
    a: np.ndarray, b: np.ndarray, options: tuple[str, ...] = ENFUSE, seconds: float = 120
) -> np.ndarray:
    """Fuse two images of one size by the program enfuse, (H, W) or (H, W, 3) uint8.

    Parameters
    ----------
    options : tuple of str
        Arguments of the command.
    seconds : float
        The program is stopped after this time.

    Raises
    ------
    FileNotFoundError
        enfuse is not installed.
    RuntimeError
        It failed, took too long, or returned an image of another size.
    """
    a, b = images.check_pair(a, b)
    if not installed("enfuse"):
        raise FileNotFoundError(
            "enfuse: expected the program on the search path, found none; distributions package it "
            "as enfuse or within hugin"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = [
            images.write(folder / f"{side}.png", image) for side, image in (("a", a), ("b", b))
        ]
        out = folder / "fused.png"
        try:
            done = subprocess.run(
                ["enfuse", *options, "-o", str(out), *map(str, sources)],
                capture_output=True,
                text=True,
                timeout=seconds,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(
                f"enfuse: expected a result within {seconds:g} s, got none"
            ) from None
        if done.returncode or not out.is_file():
            reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise RuntimeError(
                f"enfuse: expected a fused image, got exit code {done.returncode}: {reason}"
            )
        fused = images.read(out)
    if fused.shape != a.shape:
        # Fully transparent margins are cut off by the program; sources without alpha have none.
        raise RuntimeError(f"enfuse: expected an image of shape {a.shape}, got {fused.shape}")
    return fused
