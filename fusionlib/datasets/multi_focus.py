"""Multi-focus pairs: the built-in photographs, and any folder ``{a,b[,ref]}/NAME``."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from fusionlib import images
from fusionlib.datasets import defocus


@dataclass(frozen=True)
class Pair:
    """Two photographs of one scene, focused differently.

    Attributes
    ----------
    name : str
    a, b : (H, W) or (H, W, 3) uint8
    reference : the all-in-focus image or None
    reference_kind : "exact", "constructed" or ""
        Exact: the photograph the pair was made from. Constructed: pasted together from the sharper
        source per region.
    """

    name: str
    a: np.ndarray
    b: np.ndarray
    reference: np.ndarray | None = None
    reference_kind: str = ""

    @cached_property
    def printed_as(self) -> str:
        """ "lab" or "leopard" if these are the very pixels of that pair of the paper, else ""."""
        return PRINTED_PAIRS.get((fingerprint(self.a), fingerprint(self.b)), "")

    @property
    def sources(self) -> tuple[np.ndarray, np.ndarray]:
        """Both images in the order in which they are fused.

        ASSUMPTION: the first source of the paper's own pairs is the image usually numbered 2 (b,
        a); in this order all three printed mutual informations of Leopard are met to 4 decimals.
        """
        return (self.b, self.a) if self.printed_as else (self.a, self.b)


# The pairs that the paper prints a table for, by the checksum of the pixels: a file that is merely
# named "lab" is another image.
PRINTED_PAIRS = {(0x732E3F16, 0x4AE958EB): "lab", (0x043D9BE9, 0x43D9D60F): "leopard"}


def fingerprint(image: np.ndarray) -> int:
    """Return the CRC-32 of an image's size and pixels."""
    return zlib.crc32(image.tobytes(), zlib.crc32(repr(image.shape).encode()))


def checksums(pairs: Iterable[Pair]) -> dict[str, list[str]]:
    """Return ``{name: [fingerprint of a, of b]}`` in hexadecimal, for the record of a run."""
    return {
        pair.name: [f"{fingerprint(pair.a):08x}", f"{fingerprint(pair.b):08x}"] for pair in pairs
    }


class MultiFocus:
    """The pairs of a folder ``{a,b[,ref | masks]}/NAME``, in the order of their names.

    Parameters
    ----------
    folder : path
        Files of one pair share their stem; suffixes may differ. ``ref`` holds exact references,
        ``masks`` makes constructed ones: a where a mask is white, b where it is black. Either may
        miss some names.
    names : list of str, optional
        Only these.
    files, references : dict, optional
        ``{name: (a, b)}`` and ``{name: reference}`` of another layout, as :mod:`.catalog` finds
        them, instead.

    Raises
    ------
    FileNotFoundError, ValueError
        The folder or its ``a`` or ``b`` is missing, it has no pairs, a name has no partner, a
        wanted name is not there.
    """

    def __init__(
        self,
        folder: str | Path,
        names: list[str] | None = None,
        files: dict[str, tuple[Path, Path]] | None = None,
        references: dict[str, Path] | None = None,
    ):
        self.folder = Path(folder)
        self.name = self.folder.resolve().name
        if files is not None:
            self._files, self._references = dict(sorted(files.items())), {"exact": references or {}}
        else:
            self._files, self._references = self._scan()
        self.names = list(self._files) if names is None else list(names)
        unknown = [name for name in self.names if name not in self._files]
        if unknown:
            raise ValueError(
                f"{self.folder}: no pair named {', '.join(unknown)}; there are"
                f" {', '.join(self._files)}"
            )

    def _scan(self) -> tuple[dict, dict]:
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"{self.folder}: expected a folder with a/ and b/, found nothing there"
            )
        missing = [side for side in "ab" if not (self.folder / side).is_dir()]
        if missing:
            raise FileNotFoundError(
                f"{self.folder}: expected the folders a and b, {' and '.join(missing)} missing"
            )
        references = {
            kind: images.list_images(self.folder / sub) if (self.folder / sub).is_dir() else {}
            for kind, sub in (("exact", "ref"), ("constructed", "masks"))
        }
        return images.list_pairs(self.folder / "a", self.folder / "b"), references

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Pair]:
        return map(self.load, self.names)

    def load(self, name: str) -> Pair:
        """Read one pair; raise ValueError naming both files if their sizes differ."""
        a, b = images.read_pair(*self._files[name])
        for kind, files in self._references.items():
            if name in files:
                reference = images.read(files[name])
                images.check_pair(a, reference, names=(str(self._files[name][0]), str(files[name])))
                if kind == "constructed":
                    reference = composed(a, b, reference, str(files[name]))
                return Pair(name, a, b, reference, kind)
        return Pair(name, a, b)


def composed(a: np.ndarray, b: np.ndarray, mask: np.ndarray, name: str = "mask") -> np.ndarray:
    """Return an image pasted together: ``a`` where a mask is white, ``b`` where it is black.

    Parameters
    ----------
    a, b : (H, W) or (H, W, 3) uint8
    mask : (H, W) uint8
        255 or 0.
    name : str
        Of the mask, for the error sentence.

    Raises
    ------
    ValueError
        The mask is coloured or holds other values.
    """
    if mask.ndim != 2 or not np.isin(mask, (0, 255)).all():
        raise ValueError(f"{name}: expected a mask of black and white, got other values")
    white = mask == 255
    return np.where(white if a.ndim == 2 else white[..., None], a, b)


# ---- built in: scikit-image's photographs --------------------------------------------------------


def _motorcycle() -> Pair:
    from skimage import data

    left, _, disparity = data.stereo_motorcycle()
    near, far = np.quantile(defocus.fill_nearest(disparity), [0.9, 0.1])
    a, b = (
        images.to_uint8(defocus.focus(left, disparity, at, aperture=0.12)) for at in (near, far)
    )
    return Pair("motorcycle", a, b, left, "exact")


def _halves(name: str, split: Callable[[np.ndarray, np.ndarray], np.ndarray], sigma: float) -> Pair:
    from skimage import data

    image = images.check(np.ascontiguousarray(getattr(data, name)()), name)
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    a, b = defocus.halves(image, split(y / height, x / width), sigma)
    return Pair(name, images.to_uint8(a), images.to_uint8(b), image, "exact")


_BUILT_IN: dict[str, Callable[[], Pair]] = {
    "motorcycle": _motorcycle,
    "camera": partial(_halves, "camera", lambda y, x: x + 0.2 * y < 0.58, 3.0),
    "astronaut": partial(
        _halves,
        "astronaut",
        lambda y, x: ((y - 0.3) / 0.34) ** 2 + ((x - 0.45) / 0.28) ** 2 < 1,
        2.5,
    ),
    "chelsea": partial(_halves, "chelsea", lambda y, x: x < 0.5, 2.0),
    "brick": partial(_halves, "brick", lambda y, x: y < 0.5, 3.0),
    "grass": partial(_halves, "grass", lambda y, x: x + y < 1.0, 1.5),
}


class BuiltIn:
    """The built-in pairs with exact references, made from photographs that scikit-image ships; no
    file is needed.

    ``motorcycle`` is rendered from its disparity map; ``camera``, ``astronaut``, ``chelsea``,
    ``brick`` and ``grass`` are blurred on either side of a border. Three of them are in colour.
    """

    folder, name = None, "built-in"

    def __init__(self, names: list[str] | None = None):
        self.names = list(_BUILT_IN) if names is None else list(names)
        unknown = [name for name in self.names if name not in _BUILT_IN]
        if unknown:
            raise ValueError(
                f"built-in pairs: no pair named {', '.join(unknown)}; there are"
                f" {', '.join(_BUILT_IN)}"
            )

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Pair]:
        return map(self.load, self.names)

    def load(self, name: str) -> Pair:
        """Make one pair; a second or two for ``motorcycle``, tens of milliseconds for the
        others.
        """
        return _BUILT_IN[name]()


def pairs(folder: str | Path = "", names: list[str] | None = None) -> MultiFocus | BuiltIn:
    """Return the pairs of ``folder``, or the built-in ones where it is empty."""
    return MultiFocus(folder, names) if str(folder) else BuiltIn(names)
