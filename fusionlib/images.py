"""The image contract, and the only place where images are read, rounded and written.

An image is a ``uint8`` array, gray ``(H, W)`` or colour ``(H, W, 3)`` in RGB order. Numbers are
rounded to 8 bits once, in :func:`to_uint8`. Every other module may use this one; this one uses
:mod:`.decoding` alone.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import re
import shutil
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fusionlib import decoding

WRITING = ".writing-"  # how the name of a file begins until it is whole
# seconds without a byte; no file takes a day to write, and clocks of two machines differ by less
ABANDONED = 86400
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".ppm", ".pgm"}
SUFFIXES |= {".jfif"}
# pictures that are not read, and told rather than left out
UNREAD = {".jp2", ".j2k", ".jpx", ".jxl", ".avif", ".heic", ".heif"}
# How names of one scene end in folders of several modalities: FLIR_00001_PreviewData, 07-rgb.
ENDING = re.compile(
    r"[-_. ](ir|inf|infrared|thermal|previewdata|vi|vis|visible|rgb|fused)$", re.IGNORECASE
)
LOSSY = {".jpg", ".jpeg", ".jfif", ".gif"}  # suffixes of files that do not keep every gray level
# percentiles of the gray levels of a folder that become 0 and 255
STRETCHES = {"none": None, "minmax": (0.0, 100.0), "percentile": (0.5, 99.5)}
FEW = 255 / 5  # levels of a file of more than 8 bits that are worth a note
STDOUT = 1  # number of the file that a process has open from its start
ROWS = 256  # that are counted at a time, to need little memory
_FEW_IN: set[Path] = set()  # folders that were told of


def describe(value: object) -> str:
    """Describe ``value`` in a few words, for an error sentence."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    return f"{type(value).__name__} {value!r:.60}"


def check(image: object, name: str = "image") -> np.ndarray:
    """Return ``image`` if it keeps the contract, gray where its three channels are equal.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) uint8
        Gray or RGB, both sides at least 1 pixel.
    name : str
        What the caller calls the image; errors name it.

    Raises
    ------
    TypeError
        Not an array, or not ``uint8``. Floats are refused rather than guessed at: [0, 1] and 0..255
        look alike.
    ValueError
        Wrong number of dimensions or channels, empty, or NaN.
    """
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"{name}: expected a uint8 array (H, W) or (H, W, 3), got {describe(image)}"
        )
    if image.dtype != np.uint8:
        raise TypeError(f"{name}: expected uint8, got {describe(image)}{_float_hint(image)}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or image.size == 0:
        raise ValueError(
            f"{name}: expected shape (H, W) or (H, W, 3), neither side 0, got {describe(image)}"
        )
    if image.ndim == 3 and (image == image[..., :1]).all():
        return image[..., 0].copy()
    return image


def _float_hint(image: np.ndarray) -> str:
    """Return what an error sentence adds on an image of floats; empty for other types."""
    if not np.issubdtype(image.dtype, np.floating) or not image.size:
        return ""
    if not np.isfinite(image).all():
        return f"; it holds {int((~np.isfinite(image)).sum())} NaN or infinite values"
    return (
        f"; its values run from {image.min():g} to {image.max():g}, use images.to_uint8 to round"
        " 0..255"
    )


def check_pair(
    a: object, b: object, names: tuple[str, str] = ("a", "b")
) -> tuple[np.ndarray, np.ndarray]:
    """Return both images checked, of one height and width.

    Parameters
    ----------
    a, b : (H, W) or (H, W, 3) uint8
    names : (str, str)
        What the caller calls them; errors name them.

    Raises
    ------
    TypeError, ValueError
        As :func:`check`; sizes differ.
    """
    a, b = check(a, names[0]), check(b, names[1])
    if a.shape[:2] != b.shape[:2]:
        raise ValueError(
            f"{names[0]} and {names[1]}: expected one size, got {a.shape[0]}x{a.shape[1]} and "
            f"{b.shape[0]}x{b.shape[1]} (height x width)"
        )
    return a, b


def check_size(size: object, least: int = 1) -> tuple[int, int]:
    """Return a height and a width in pixels.

    Raises
    ------
    ValueError
        They are not two whole numbers of at least ``least``.
    """
    sides: Sequence = size if isinstance(size, list | tuple) else ()
    try:
        height, width = map(operator.index, sides)
    except (TypeError, ValueError):
        height = width = least - 1
    if min(height, width) < least:
        raise ValueError(f"size: expected height and width of at least {least}, got {size!r}")
    return height, width


def to_uint8(values: np.ndarray, name: str = "image") -> np.ndarray:
    """Round gray levels to 8 bits: half away from zero, clipped to 0..255 (as MATLAB's ``uint8``).

    Parameters
    ----------
    values : float or integer array on the 0..255 scale
    name : str
        What the caller calls the image; errors name it.

    Raises
    ------
    ValueError
        A value is NaN or infinite.
    """
    values = np.asarray(values)
    if values.dtype == np.uint8:
        return values
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name}: expected finite gray levels, got {int((~np.isfinite(values)).sum())} NaN or"
            " infinite"
        )
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def from_unit(values: np.ndarray, name: str = "image") -> np.ndarray:
    """Round an image on the [0, 1] scale to 8 bits; values outside are refused, not clipped.

    Raises
    ------
    ValueError
        A value is NaN, infinite, below 0 or above 1.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.size and not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"{name}: expected values in [0, 1], got {np.nanmin(values):g} to {np.nanmax(values):g}"
            + ("" if np.isfinite(values).all() else " with NaN or infinite values")
        )
    return to_uint8(values * 255.0, name)


# ---- colour (ITU-R BT.601, full range, as in JPEG) -----------------------------------------------


def is_colour(image: np.ndarray) -> bool:
    """Return whether ``image`` has three channels that are not all equal."""
    return image.ndim == 3 and not (image == image[..., :1]).all()


def as_infrared_visible(
    a: np.ndarray, b: np.ndarray, name: str, told: bool = False
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return a pair as an infrared and a visible image, and whether its colours were told of.

    Of two coloured images the first becomes its Y, as infrared images are read everywhere here.
    ASSUMPTION: a coloured infrared file is gray in three channels (JPEG) or a palette, whose Y is
    no temperature, but nothing else is there.

    Parameters
    ----------
    a, b : (H, W) or (H, W, 3) uint8
    name : str
        Of the pair, in the note on stderr.
    told : bool
        Nothing more is told.
    """
    note = ""
    if is_colour(a) and not is_colour(b):
        note = "infrared first? the first image is coloured, the second is not"
    elif is_colour(a):
        a = luma(a)
        note = (
            "both images are coloured: of the first, infrared, only its Y is fused (that of a"
            " palette is no temperature); --keep-both-colours keeps both, for multi-focus"
        )
    if note and not told:
        print(f"{name}: {note}", file=sys.stderr)
    return a, b, told or bool(note)


def luma(image: np.ndarray) -> np.ndarray:
    """Return Y = 0.299 R + 0.587 G + 0.114 B rounded to 8 bits; gray images stay as they are."""
    if image.ndim == 2:
        return image
    if not is_colour(image):
        return image[..., 0]
    return to_uint8(thousandths(image) / 1000)


def thousandths(image: np.ndarray) -> np.ndarray:
    """Return 299 R + 587 G + 114 B of an RGB image of whole gray levels, (H, W) float64.

    Exact on every processor: with 0.299 and its like the processor's order of additions decides
    where Y lies half way between two gray levels.
    """
    return image.astype(np.float64) @ np.array([299.0, 587.0, 114.0])


def chroma(image: np.ndarray) -> np.ndarray:
    """Return Cb, Cr of an RGB image, (H, W, 2) float64 in about +-127.5, zero for gray."""
    if image.ndim == 2:
        return np.zeros((*image.shape, 2))
    red, green, blue = np.moveaxis(image.astype(np.float64), -1, 0)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    return np.stack([(blue - y) / 1.772, (red - y) / 1.402], axis=-1)


def with_chroma(y: np.ndarray, cbcr: np.ndarray) -> np.ndarray:
    """Return the RGB image, uint8, of luma ``y`` (H, W) and chroma (H, W, 2), clipped, rounded."""
    y = y.astype(np.float64)
    cb, cr = cbcr[..., 0], cbcr[..., 1]
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    return to_uint8(rgb)


# ---- files ---------------------------------------------------------------------------------------


def read(path: str | os.PathLike, levels: tuple[float, float] | None = None) -> np.ndarray:
    """Read an image file as uint8, gray (H, W) or RGB (H, W, 3).

    The content decides, not the suffix. A palette is resolved, an alpha channel is dropped (the
    colours below it are kept), 16-bit is divided by 257 (65535 becomes 255), one-bit becomes 0 and
    255, three equal channels become gray, the orientation that a camera recorded is applied. See
    :mod:`fusionlib.decoding`.

    Parameters
    ----------
    path : path
    levels : (float, float), optional
        Gray levels on the scale 0..255 that become 0 and 255, as :func:`stretch_levels` gives them.
        Without, a note on stderr tells of more than 8 bits that use less than a fifth of them.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A folder, an empty file, not an image, damaged, too large, or of signed or floating levels.
    """
    path = Path(path)
    values, largest = decoding.decode(path)
    if levels is None:
        if largest == 255:
            return check(values, str(path))
        _say_few(values, largest, path)
    low, high = levels or (0.0, 255.0)
    # half away from zero is exact where the division comes last
    table = np.arange(largest + 1) * 255.0 / largest - low
    table = to_uint8(table if levels is None else table * 255.0 / (high - low))
    return check(table[values], str(path))


def _say_few(values: np.ndarray, largest: int, path: Path) -> None:
    """Tell, once for a folder, of a file of more than 8 bits that uses few of its gray levels."""
    low, high = (int(level) * 255 / largest for level in (values.min(), values.max()))
    if largest > 255 and 0 < high - low < FEW and path.parent not in _FEW_IN:
        _FEW_IN.add(path.parent)
        print(
            f"{path}: its levels become {low:.0f} to {high:.0f} of 255; --stretch minmax or"
            " percentile spreads them",
            file=sys.stderr,
        )


def stretch_levels(source: str | os.PathLike, stretch: str) -> tuple[float, float] | None:
    """Return the gray levels of a file, or of all images of a folder, that become 0 and 255.

    Parameters
    ----------
    source : path
        File or folder; what cannot be read is left out, whoever reads it says so.
    stretch : str
        ``none``, ``minmax``, or ``percentile``: 0.5 % of all pixels below, 0.5 % above.

    Returns
    -------
    (float, float) or None
        On the scale 0..255, for :func:`read`; None for ``none``.

    Raises
    ------
    FileNotFoundError, ValueError
        Another word; one gray level alone; no such folder.
    """
    if stretch not in STRETCHES:
        raise ValueError(f"stretch: expected {', '.join(STRETCHES)}, got {stretch!r}")
    if (shares := STRETCHES[stretch]) is None:
        return None
    source = Path(source)
    counts = np.zeros(65536, dtype=np.int64)  # of each level of 16 bits
    for path in by_stem(source, []).values() if source.is_dir() else [source]:
        with contextlib.suppress(ValueError, OSError):
            values, largest = decoding.decode(path)
            bins = np.rint(np.arange(largest + 1) * (65535 / largest)).astype(np.int64)
            for start in range(0, len(values), ROWS):
                part = values[start : start + ROWS].ravel()
                np.add.at(counts, bins, np.bincount(part, minlength=largest + 1))
    below = np.cumsum(counts)
    low, high = (np.searchsorted(below, max(below[-1] * share / 100, 1)) for share in shares)
    if low >= high:
        raise ValueError(f"{source}: expected several gray levels to stretch, found one or none")
    return float(low) / 257, float(high) / 257


def write(path: str | os.PathLike, image: np.ndarray) -> Path:
    """Write a uint8 image, whole or not at all.

    The format follows the suffix (PNG is the project's own, and what a stream gets). Raises what
    :func:`check` raises, and OSError with one sentence where the folder cannot be written.
    """
    path = check_suffix(path)
    image = check(image, str(path))

    def save(temporary: str) -> None:
        file_format = Image.registered_extensions().get(path.suffix.lower(), "PNG")
        # Level 1 writes a PNG four times as fast as the default, for a tenth more bytes.
        options = {"compress_level": 1} if file_format == "PNG" else {}
        if file_format in ("JPEG", "WEBP"):  # at their defaults gray levels are off by up to 33
            options = {"lossless": True} if file_format == "WEBP" else {"quality": 95}
            options |= {"subsampling": 0} if file_format == "JPEG" else {}
        Image.fromarray(image).save(temporary, format=file_format, **options)

    return write_atomically(path, save)


def loss(path: Path) -> str:
    """Return what to say of a written file that does not keep every gray level; else nothing."""
    if path.suffix.lower() not in LOSSY:
        return ""
    return f" (gray levels may change in a {path.suffix}: score and compare a .png)"


def check_suffix(path: str | os.PathLike) -> Path:
    """Return a path whose suffix names an image format, or a stream; ValueError for another."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES and not is_stream(path):
        raise ValueError(
            f"{path}: expected a suffix of an image format such as .png, got {path.suffix!r}"
        )
    return path


def write_atomically(path: str | os.PathLike, save: Callable[[str], object]) -> Path:
    """Call ``save(temporary_name)`` beside ``path`` and rename the result to ``path``; a stream
    (:func:`is_stream`) is written to, not replaced. What killed writers left in the folder is
    removed.

    Raises
    ------
    OSError
        The reason (read-only, full disk, a file in the way); nothing half-written stays.
    """
    path = Path(path)
    temporary = None
    to_stream = is_stream(path)
    # a name may have 255 bytes; a letter has at most four
    prefix = f"{WRITING}{path.stem[:40]}-"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.gettempdir() if to_stream else path.parent
        _sweep_old(path.parent.absolute())
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=prefix, suffix=path.suffix)
        save(temporary)
        if to_stream:
            number = _descriptor(path)
            target = path if number is None else os.dup(number)  # a name would start it anew
            with open(temporary, "rb") as source, open(target, "wb") as stream:
                shutil.copyfileobj(source, stream)
            return path
        os.chmod(temporary, 0o666 & ~_umask())
        rename(temporary, path)
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary is not None:
            os.close(handle)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    return path


def is_stream(path: str | os.PathLike) -> bool:
    """Return whether a path is a device, a pipe, or what this process has open (``/dev/stdout``,
    ``/dev/fd/3``), whatever that was redirected to.
    """
    path = Path(path)
    is_special = path.exists() and not path.is_file() and not path.is_dir()
    return is_special or _descriptor(path) is not None


def _descriptor(path: Path) -> int | None:
    """Return the number of the open file that a path or its links name, None for other paths."""
    opened = Path("/dev/fd").resolve()
    while path.exists():  # links in a circle do not
        if path.name.isdecimal() and path.parent.resolve() == opened:
            return int(path.name)
        if not path.is_symlink():
            break
        path = path.parent / os.readlink(path)
    return None


def is_stdout(path: str | os.PathLike) -> bool:
    """Return whether a path is the standard output of this process, where nothing else belongs."""
    return _descriptor(Path(path)) == STDOUT


def rename(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Give a file, or a folder with all below it, its name once its content is on the disk: a power
    failure would leave the new name with nothing behind it.
    """
    source = Path(source)
    for path in (source, *source.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with open(path, "rb") as written:
                os.fsync(written.fileno())
    os.replace(source, target)


def sweep(*folders: Path, older: float = 0) -> None:
    """Remove what killed writers left half-written in folders: all of it where nobody else writes
    to them now, or what nobody has touched for ``older`` seconds.
    """
    for folder in folders:
        for path in folder.glob(f"{WRITING}*"):
            with contextlib.suppress(OSError):  # gone, or somebody else's
                if older == 0 or time.time() - path.stat().st_mtime > older:
                    path.unlink()


@functools.cache
def _sweep_old(folder: Path) -> None:
    """Sweep a folder once in a process; a writer is taken for killed after :data:`ABANDONED`."""
    sweep(folder, older=ABANDONED)


def file_id(path: str | os.PathLike) -> tuple[int, int]:
    """Return the numbers of disk and file, equal for a file or folder and every link to it."""
    state = os.stat(path)
    return state.st_dev, state.st_ino


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Write text as UTF-8, whole or not at all; raises as :func:`write_atomically`."""
    # names of files need not be UTF-8: their bytes are written as they are
    options = {"encoding": "utf-8", "errors": "surrogateescape"}
    return write_atomically(path, lambda temporary: Path(temporary).write_text(text, **options))


def list_images(folder: str | os.PathLike) -> dict[str, Path]:
    """Return ``{stem: path}`` of the image files of a folder as :func:`by_stem` does.

    Raises
    ------
    FileNotFoundError, ValueError
        The folder is missing or none; the first problem that :func:`by_stem` names.
    """
    problems: list[Exception] = []
    paths = by_stem(folder, problems)
    if problems:
        raise problems[0]
    return paths


# radon C: what is no image, is not read, leads nowhere or shares its name
def by_stem(folder: str | os.PathLike, problems: list[Exception]) -> dict[str, Path]:
    """Return ``{stem: path}`` of the image files of a folder, sorted, without hidden ones; stems in
    composed Unicode (NFC), however the system spells them.

    Parameters
    ----------
    folder : path
    problems : list of exceptions
        Gets one, with its sentence, for each file that is left out: a link that leads nowhere, as
        where data were not fetched; a picture of a format that is not read; files of one stem
        (``x.png`` and ``x.jpg``), which one is meant cannot be known.

    Raises
    ------
    FileNotFoundError, ValueError
        The folder is missing, or none.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: expected a folder of images, found nothing there")
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder of images, got a file")
    stems: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or suffix not in SUFFIXES | UNREAD:
            continue
        if path.is_symlink() and not path.exists():
            sentence = f"{path}: expected an image file, got a link that leads nowhere"
            problems.append(FileNotFoundError(sentence))
        elif path.is_file() and suffix in UNREAD:
            problems.append(ValueError(f"{path}: expected a format such as .png, got {suffix}"))
        elif path.is_file():
            stems.setdefault(composed(path.stem), []).append(path)
    for paths in stems.values():
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths)
            problems.append(ValueError(f"{folder}: expected one file per name, got {names}"))
    return {name: paths[0] for name, paths in sorted(stems.items()) if len(paths) == 1}


def without_endings(folders: Sequence[Mapping[str, Path]]) -> list[dict[str, Path]]:
    """Return the files of several folders by the names that they share: of a name that not all
    folders have, an ending for the modality (:data:`ENDING`) is left out where the rest is then in
    all of them, so that x_ir and x_vi are x.

    Parameters
    ----------
    folders : sequence of mapping of str to path
        As :func:`by_stem` gives them.
    """
    shared = set.intersection(*map(set, folders))
    shortened = []
    for files in folders:
        bases = {name: name if name in shared else ENDING.sub("", name) for name in files}
        counts = Counter(bases.values())
        shortened.append({name: base for name, base in bases.items() if counts[base] == 1})
    in_all = set.intersection(*(set(bases.values()) for bases in shortened))
    return [
        {bases[name] if bases.get(name) in in_all else name: path for name, path in files.items()}
        for files, bases in zip(folders, shortened, strict=True)
    ]


def is_name(name: object) -> bool:
    """Return whether a folder of this name lies in the one where it is made, and nowhere else."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


def composed(name: str) -> str:
    """Return a name in composed Unicode (NFC), the form of the stems of :func:`by_stem`."""
    return unicodedata.normalize("NFC", name)


def list_pairs(a: str | os.PathLike, b: str | os.PathLike) -> dict[str, tuple[Path, Path]]:
    """Return ``{stem: (path in a, path in b)}`` of two folders, matched by stem.

    Raises
    ------
    FileNotFoundError, ValueError
        A folder is missing, a name has no partner, or there is no pair at all.
    """
    paths_a, paths_b = list_images(a), list_images(b)
    if unmatched := sorted(set(paths_a) ^ set(paths_b)):
        more = f" and {len(unmatched) - 3} more" if len(unmatched) > 3 else ""
        raise ValueError(
            f"{a} and {b}: expected each name in both, without partner:"
            f" {', '.join(unmatched[:3])}{more}"
        )
    if not paths_a:
        raise ValueError(f"{a} and {b}: expected image pairs, found none")
    return {stem: (paths_a[stem], paths_b[stem]) for stem in paths_a}


def read_pair(
    a: str | os.PathLike,
    b: str | os.PathLike,
    levels: Sequence[tuple[float, float] | None] = (None, None),
) -> tuple[np.ndarray, np.ndarray]:
    """Return two images of one size.

    Parameters
    ----------
    a, b : path
    levels : pair of (float, float) or None
        Of each, as for :func:`read`.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`read` and :func:`check_pair`.
    """
    return check_pair(read(a, levels[0]), read(b, levels[1]), (str(a), str(b)))
