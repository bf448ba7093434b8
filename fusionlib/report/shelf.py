"""Pictures of the page: figures by paper and number, and fused images to compare, inside the page
while its budget lasts, else linked.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from fusionlib import decoding, images

COMPARED = 4  # images of each set that the comparer shows
SOURCES = ("infrared", "visible")  # shown first where a run has kept them


def embedded(path: Path) -> str:
    """Return a picture as a data URI: the PNG itself, or a JPEG where that is smaller
    (photographs).
    """
    encoded = io.BytesIO()
    Image.fromarray(images.read(path)).save(encoded, "JPEG", quality=85, optimize=True)
    data = encoded.getvalue()
    if path.suffix.lower() == ".png":
        data = min(path.read_bytes(), data, key=len)
    return _uri(data)


def drawn(path: Path) -> str:
    """Return a figure as a data URI, in the bytes that a drawing has in a notebook."""
    from fusionlib.figures import inline  # a leaderboard does without matplotlib

    pixels = Image.fromarray(images.read(path)).convert("RGB")
    # 256 colours take a quarter of the bytes at best: no need to try that with photographs
    photographs = path.stat().st_size > 4 * inline.OF_A_PLOT
    return _uri(inline.encoded(pixels, photographs, inline.OF_A_PLOT))


def _uri(data: bytes) -> str:
    kind = decoding.format_of(data).lower()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def linked(path: Path, folder: Path) -> str:
    """Return the address of a file as a page in ``folder`` names it."""
    return quote(Path(os.path.relpath(path, folder)).as_posix())


class Shelf:
    """Pictures that a page holds, each once, until ``budget`` bytes are used; then addresses."""

    def __init__(self, folder: Path, budget: int) -> None:
        self.folder, self.budget = folder, budget
        self.sources: list[str] = []
        self._places: dict[str, int] = {}

    def number(self, path: Path) -> int:
        """Return where in ``sources`` a picture is; ValueError or OSError where it is none."""
        source = embedded(path)
        if source not in self._places:
            self._places[source] = len(self.sources)
            fits = len(source) <= self.budget
            self.budget -= len(source) if fits else 0
            self.sources.append(source if fits else linked(path, self.folder))
        return self._places[source]


# radon C: what may be missing of a set of images
def comparable(
    title: str, folders: Mapping[str, Path], shelf: Shelf, most: int = COMPARED
) -> dict | None:
    """Return one set for the comparer: the images that at least two folders have by name.

    Parameters
    ----------
    title : str
    folders : mapping of str to path
        A folder of images for each source and method, in the order in which they are shown.
    shelf : Shelf
        Gets the pictures.
    most : int
        Images shown, the first by name.

    Returns
    -------
    dict or None
        title; ``images``: name and ``shown``, ``{source or method: number on the shelf}``. None
        where no name is in two folders.
    """
    paths_by_stem = {name: images.by_stem(folder, []) for name, folder in folders.items()}
    stems = [stem for stems in paths_by_stem.values() for stem in stems]
    shared = sorted({stem for stem in stems if stems.count(stem) > 1})[:most]
    listed = []
    for stem in shared:
        paths = {name: stems[stem] for name, stems in paths_by_stem.items() if stem in stems}
        shown = _placed(paths, shelf)
        if len(shown) > 1:
            listed.append({"name": stem, "shown": shown})
    return {"title": title, "images": listed} if listed else None


def _placed(paths: Mapping[str, Path], shelf: Shelf) -> dict[str, int]:
    """Return the place of each picture on the shelf, without those that cannot be read: the scores
    name them.
    """
    places = {}
    for name, path in paths.items():
        with contextlib.suppress(ValueError, OSError):
            places[name] = shelf.number(path)
    return places


def of_nodes(every: Iterable[dict], folder: Path, shelf: Shelf) -> list[dict]:
    """Return a set for the comparer of each node that left fused images; those with their sources
    come first, and the sources come first in them.
    """
    sets = []
    for node in every:
        if node["status"] != "finished":
            continue
        homes = {path.name: path for path in sorted((folder / node["name"] / "fused").glob("*"))}
        folders = {name: shown_folder(homes[name]) for name in sorted(homes, key=_order)}
        with_images = {name: path for name, path in folders.items() if path is not None}
        if entry := comparable(node["name"], with_images, shelf):
            sets.append(entry)
    return sorted(sets, key=lambda entry: SOURCES[0] not in entry["images"][0]["shown"])


def _order(name: str) -> tuple:
    return (SOURCES.index(name) if name in SOURCES else len(SOURCES), name.casefold())


def shown_folder(home: Path) -> Path | None:
    """Return the folder of the images for the eye in that of a method, None where it has none."""
    choices = (home, home / "color", home / "gray")
    return next((path for path in choices if path.is_dir() and images.by_stem(path, [])), None)
