"""Data sets: :func:`open_pairs` is the one way to infrared-visible pairs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import places
from . import catalog, get
from .infrared_visible import InfraredVisible, Pair, Pairs

__all__ = ["HELD_OUT_SEED", "Pair", "Pairs", "open_pairs"]

HELD_OUT_SEED = 1000  # generated scenes from this seed on are never trained on
SCENES = 8  # generated where nobody says how many
GENERATED = "scenes"  # how results call those


# radon C: the three kinds of pairs, and one record for all
def open_pairs(
    data: str | os.PathLike = "",
    dataset: str = "",
    split: str = "",
    limit: int = 0,
    *,
    evenly: bool = False,
    classes: Sequence[str] | None = None,
    annotations: str = "annotations.json",
    size: tuple[int, int] | None = None,
    scene_size: tuple[int, int] = (96, 128),
    seed: int | None = None,
) -> Pairs:
    """Open infrared-visible pairs: of a published data set as it came, of a folder, or generated.

    Parameters
    ----------
    data : path
        The folder they lie in; "" for generated street scenes, or, of a ``dataset`` that can be
        fetched or is in the catalogue, the folder where :mod:`fusionlib.places` finds it.
    dataset : str
        A name of the catalogue, or of the file ``dataset.yaml`` in ``data`` that describes a set of
        one's own (see :func:`.catalog.entries`), case ignored: its layouts and classes are known
        then. Any other name, or "": ``data`` is ``{ir,vi}/NAME``, and "" is recorded as the name
        of the folder, :data:`GENERATED` where there is none.
    split : str
        Of the data set, such as ``test``, or a subset that papers name, such as ``FLIR-1013`` (see
        :func:`.catalog.subset`); "" for all pairs.
    limit : int
        How many pairs; 0 for all, or 8 generated scenes.
    evenly : bool
        Whether ``limit`` takes them evenly from all, not the first ones.
    classes : sequence of str, optional
        Keep boxes of these classes alone; all by default.
    annotations : str
        COCO file of boxes in a folder ``{ir,vi}/NAME``; the default name may be missing.
    size : (int, int), optional
        Height and width that every pair is resized to, boxes included; None leaves them as they
        are.
    scene_size : (int, int)
        Height and width of generated scenes where ``size`` is None.
    seed : int, optional
        Of the first generated scene, :data:`HELD_OUT_SEED` where None; of a split that was never
        published and is drawn, 0 where None.

    Returns
    -------
    Pairs
        Read or rendered when asked for, with ``names`` and ``record``: folder, data set, layout,
        split, what a group of pairs is ("" where that is not known), the seed of what is random,
        how many pairs, and the SHA-256 of their names.

    Raises
    ------
    FileNotFoundError
        No such folder, none of the layouts in it, or a data set that is nowhere.
    ValueError
        No pair at all, an unknown data set without a folder, a split of generated scenes, an
        unknown split or class, a name without its partner. One sentence each.

    Examples
    --------
    >>> pairs = open_pairs(limit=2)  # generated street scenes
    >>> pairs.names, pairs[0].infrared.shape, pairs[0].visible.shape
    (['scene-1000', 'scene-1001'], (96, 128), (96, 128, 3))
    """
    pairs: Pairs
    data = data or _find(dataset)
    if not str(data):
        pairs = _scenes(dataset, split, limit, size or scene_size, seed, classes)
    elif catalog.known(dataset, None, data):
        pairs = catalog.pairs(dataset, data, split or None, seed or 0, annotations, classes, size)
    else:
        pairs = InfraredVisible(data, split or None, None, annotations, classes, size)
    count = min(limit or len(pairs), len(pairs))
    chosen = np.linspace(0, len(pairs), count, endpoint=False) if evenly else np.arange(count)
    names = [pairs.names[int(number)] for number in chosen]
    opened = pairs.only(names)
    name = dataset or (Path(data).resolve().name if str(data) else GENERATED)
    general = {"folder": str(data), "dataset": name, "layout": "ir, vi", "split": split}
    general["group"] = opened.grouping.called if opened.grouping else ""
    checksum = hashlib.sha256("\n".join(names).encode()).hexdigest()
    opened.record = general | pairs.record | {"pairs": count, "names_sha256": checksum}
    return opened


def _find(dataset: str) -> Path | str:
    """Return the folder of a data set that has a name in the catalogue or in the table of
    addresses, "" for generated scenes; ValueError for any other name, FileNotFoundError where it is
    nowhere.
    """
    names = dict.fromkeys((dataset, catalog.known(dataset)))
    if dataset in ("", GENERATED):
        return ""
    if not catalog.known(dataset) and f"ivif/{dataset}" not in get.sets():
        raise ValueError(
            "dataset: expected a folder in data, or one of"
            f" {', '.join(catalog.names('infrared-visible'))}, got no folder and the name"
            f" {dataset!r}"
        )
    if folders := [
        path for name in names if name and (path := places.find("data", f"ivif/{name}"))
    ]:
        return folders[0]
    raise FileNotFoundError(
        f"data: expected the folder of {dataset}, it is in none of"
        f" {', '.join(map(str, places.folders('data'))) or 'no folder'}; run: fusionlib data get"
        f" {dataset}"
    )


def _scenes(
    dataset: str,
    split: str,
    limit: int,
    size: tuple[int, int],
    seed: int | None,
    classes: Sequence[str] | None,
) -> Pairs:
    """Return generated scenes, and refuse what only a folder can have."""
    if split:
        raise ValueError(f"split: generated scenes have none, got {split!r}")
    from .scenes import Scenes

    first = HELD_OUT_SEED if seed is None else seed
    pairs = Scenes(range(first, first + (limit or SCENES)), size, classes)
    pairs.record = {"layout": "generated scenes", "seed": first, "size": list(size)}
    return pairs
