"""Fused images of many methods, taken from folders where they lie already, else fused here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fusionlib import images
from fusionlib.datasets import Pair
from fusionlib.experiments import comparison, protocol

Folders = dict[str, dict[str, Path]]
COPIES = ("infrared", "visible")  # methods that are the sources themselves


def given(nodes: Iterable[str | os.PathLike], names: Iterable[str]) -> Folders:
    """Return the methods below ``NODE/fused/METHOD/gray`` that have an image for each of the names.

    Parameters
    ----------
    nodes : paths
        Folders of notebook 25, or any with that layout; of a method that several have, the first is
        taken.
    names : iterable of str
        Of pairs, as the stems of the files.

    Returns
    -------
    {method: {name: path}}, without :data:`COPIES`

    Raises
    ------
    FileNotFoundError
        A node has no folder ``fused``.
    """
    folders: Folders = {}
    names = list(names)
    for node in map(Path, nodes):
        if not (node / "fused").is_dir():
            raise FileNotFoundError(
                f"fused: expected a folder with fused/METHOD/gray/NAME.png at {node}, found none"
            )
        for folder in sorted((node / "fused").glob("*/gray")):
            files = images.list_images(folder)
            paths = {name: files.get(images.composed(name)) for name in names}
            known = {name: path for name, path in paths.items() if path}
            if folder.parent.name not in (*folders, *COPIES) and len(known) == len(paths):
                folders[folder.parent.name] = known
    return folders


def picture(path: str | os.PathLike, shape: tuple[int, int]) -> np.ndarray:
    """Read a fused image as gray (H, W) uint8, resized where it has another size than ``shape``."""
    image = images.luma(images.read(path))
    return image if image.shape == tuple(shape) else protocol.resized(image, shape)


# radon C: what lies there, what is fused here, what cannot be
def gather(
    methods: Sequence[str],
    pairs: Sequence[Pair],
    nodes: Iterable[str | os.PathLike],
    folder: str | os.PathLike,
    weights: str = "",
    checkpoint: str = "",
    device: str = "auto",
    progress: bool = True,
) -> tuple[Folders, dict[str, str]]:
    """Return the fused images of the methods asked for and of all others that the nodes hold.

    Parameters
    ----------
    methods : sequence of str
        In the order of the result; what no node has is fused into ``folder/fused/METHOD``.
    nodes, weights, checkpoint, device
        As for :func:`given` and :func:`fusionlib.experiments.comparison.get`.

    Returns
    -------
    {method: {name: path}}, {method: reason}
        The second: what could not be fused, and why.
    """
    names = [pair.name for pair in pairs]
    available = given(nodes, names)
    chosen = {
        name: comparison.get(name, weights, checkpoint, device)
        for name in methods
        if name not in available
    }
    status = {}
    if chosen:
        home = Path(folder)
        sources = protocol.write_sources(pairs, home / "sources")
        status = comparison.fuse(chosen, pairs, sources, home / "fused", progress=progress)
        available |= {
            method: {name: home / "fused" / method / "gray" / f"{name}.png" for name in names}
            for method, reason in status.items()
            if not reason
        }
    order = [
        *(name for name in methods if name in available),
        *(name for name in available if name not in methods),
    ]
    return {name: available[name] for name in order}, {
        name: reason for name, reason in status.items() if reason
    }
