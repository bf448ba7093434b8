"""Decode image files: what the content and its tags mean, or one sentence that names the file.

Pillow decodes what it keeps whole. PNG of 16 bits in colour come by torchvision, TIFF without
compression or by deflate by tifffile, PGM and PPM by hand: Pillow cuts or rounds their levels.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

if TYPE_CHECKING:
    from tifffile import TiffPage

# Other decoders of Pillow stay out: one of them starts a program.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM")
LIMIT = "FUSION_MAX_PIXELS"  # variable with the largest size, inherited by worker processes
PIXELS = 64_000_000
ORIENTATION = 274  # the tag of TIFF and Exif
STARTS = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG"}  # how files begin
STARTS |= dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF")
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2  # photometric interpretations of TIFF
UNSIGNED, SEPARATE = 1, 2  # sample format and planar configuration of TIFF
WHOLE = (1, 8, 32946)  # compressions of TIFF where tifffile notices what is cut: none, deflate
ROWS = 256  # of packed levels that are taken apart at a time, to need little memory
_LOCK = threading.Lock()  # Pillow's limit is one for all threads


class Refusal(ValueError):
    """An image file that is not read, in one sentence."""


class Levels(NamedTuple):
    """The gray levels of a file, from 0 to ``largest`` as its kind has them.

    ``values`` are (H, W) or (H, W, 3), uint8 or uint16; alpha is left out.
    """

    values: np.ndarray
    largest: int


def decode(path: Path) -> Levels:
    """Return the gray levels of a file as they are meant, upright, neither scaled nor rounded.

    Raises
    ------
    FileNotFoundError
        No such file.
    Refusal
        A folder, empty, not an image, damaged, too large, or of a kind whose gray levels are not
        0..2^n - 1.
    """
    with _refusals(path):
        if _start(path) == "TIFF":
            return _tiff(path)
        with _picture(path) as picture:
            if picture.format == "PNG":
                levels = _png(picture, path)
            elif picture.format == "PPM":
                levels = _netpbm(picture, path)
            else:
                levels = _array(picture, path)
            return _turned(levels, picture.getexif().get(ORIENTATION, 1))


def shape(path: Path) -> tuple[int, int]:
    """Return height and width of a whole image file; raises as :func:`decode`."""
    with _refusals(path):
        if _start(path) not in ("PNG", "JPEG"):
            height, width = decode(path).values.shape[:2]
            return height, width
        with _picture(path) as picture:
            width, height = picture.size
            if picture.format != "PNG":  # the checksums of a PNG were compared
                picture.draft(None, (1, 1))  # a JPEG is decoded at an eighth of its size
                picture.load()
            turned = picture.getexif().get(ORIENTATION, 1) >= 5
    return (width, height) if turned else (height, width)


def pixels(path: Path) -> int:
    """Return how many pixels the head of a file says it has, 0 where it does not say."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
            return picture.width * picture.height
    except (OSError, ValueError, Image.DecompressionBombError):
        return 0


def _start(path: Path) -> str:
    """Return the format that the first bytes of a file show: PNG, JPEG, TIFF, or nothing.

    Raises
    ------
    FileNotFoundError, Refusal
        No such file; a folder, or an empty file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected an image file, found nothing there")
    if path.is_dir():
        raise Refusal(f"{path}: expected an image file, got a folder")
    if path.stat().st_size == 0:
        raise Refusal(f"{path}: expected an image file, got an empty file (0 bytes)")
    with open(path, "rb") as file:
        return format_of(file.read(4))


def format_of(content: bytes) -> str:
    """Return the format that the first bytes of an image show: PNG, JPEG, TIFF, or nothing."""
    return next((name for start, name in STARTS.items() if content.startswith(start)), "")


def limit() -> int:
    """Return how many pixels an image may have: ``FUSION_MAX_PIXELS``, by default 64 million."""
    value = os.environ.get(LIMIT, "")
    if value and not value.isdecimal():
        raise Refusal(f"{LIMIT}: expected a number of pixels, got {value!r}")
    return int(value or PIXELS)


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into a refusal that names the file."""
    try:
        yield
    except (Refusal, FileNotFoundError):
        raise
    except UnidentifiedImageError:
        raise Refusal(
            f"{path}: expected an image file (PNG, JPEG, BMP, TIFF, ...), its content is none of"
            " them"
        ) from None
    except MemoryError:
        raise Refusal(
            f"{path}: expected an image that fits into memory, got a larger one"
        ) from None
    except Exception as error:  # whatever a decoder raises on damaged files
        if isinstance(error, OSError) and error.errno:  # of the system, not of a decoder
            raise Refusal(f"{path}: cannot be read ({error.strerror})") from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refusal(f"{path}: the image is damaged or truncated ({reason})") from None


@contextlib.contextmanager
def _picture(path: Path) -> Iterator[Image.Image]:
    """Yield a file opened by Pillow, a PNG after its checksums."""
    # given a path, Pillow maps TIFF into memory and turns rows of another width
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about sizes and tags
        picture = _open(file, path)
        if picture.format == "PNG":
            picture.verify()  # on loading Pillow skips the checksums of the pixels
            picture = _open(file, path)
        if picture.format not in ("MPO", "TIFF"):  # a JPEG with a preview; told by its tags
            _say_first(path, getattr(picture, "n_frames", 1))
        yield picture


def _say_first(path: Path, count: int) -> None:
    if count > 1:
        print(f"{path}: the first of {count} pictures is taken", file=sys.stderr)


def _open(file, path: Path) -> Image.Image:
    """Return an image file opened by Pillow; Refusal where it has too many pixels."""
    file.seek(0)
    with _LOCK:
        of_pillow, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            picture = Image.open(file, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = of_pillow
    _check_size(*picture.size, path)
    return picture


def _check_size(width: int, height: int, path: Path) -> None:
    if width * height > limit():
        raise Refusal(
            f"{path}: expected at most {limit()} pixels, got {height}x{width} = {width * height};"
            f" --max-pixels or {LIMIT} allows more"
        )


def _array(picture: Image.Image, path: Path) -> Levels:
    """Return the pixels of any picture of at most 8 bits, and of 16-bit gray."""
    if picture.mode in ("L", "RGB"):
        return Levels(np.array(picture), 255)
    if picture.mode in ("1", "LA", "La"):
        return Levels(np.array(picture.convert("L")), 255)
    if picture.mode in ("P", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"):
        # convert("RGB") drops alpha and keeps the colours under it; a blend would invent gray
        # levels.
        return Levels(np.array(picture.convert("RGB")), 255)
    if picture.mode.startswith("I"):
        values = np.array(picture)
        if values.min() < 0 or values.max() > 65535:
            raise Refusal(
                f"{path}: expected 8 or 16 bits a channel, got values {values.min()} to"
                f" {values.max()}"
            )
        # ASSUMPTION: files use the whole range of their bits.
        return Levels(values.astype(np.uint16), 65535)
    raise Refusal(
        f"{path}: expected 8 or 16 bits a channel, got Pillow mode {picture.mode!r}; convert it to"
        " 8 bits first"
    )


def _png(picture: Image.Image, path: Path) -> Levels:
    """Return the pixels of a PNG; of 16 bits in colour or with alpha by torchvision."""
    header = path.read_bytes()[:26]
    bits, colour = header[24], header[25]
    if bits < 16 or colour == 0:
        return _array(picture, path)
    import torch
    from torchvision.io import ImageReadMode, decode_png

    picture.load()  # says in words what is damaged
    data = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    channels = decode_png(data, ImageReadMode.UNCHANGED).numpy()
    values = channels[0] if len(channels) < 3 else np.moveaxis(channels[:3], 0, -1)
    return Levels(values, 65535)


def _tiff(path: Path) -> Levels:
    """Return the pixels of a TIFF as its tags mean them, upright."""
    import tifffile

    tifffile.logger().addHandler(logging.NullHandler())  # else it prints on stderr
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        assert isinstance(page, tifffile.TiffPage)
        sizes = page.imagewidth, page.imagelength, page.imagedepth, page.samplesperpixel
        if not all(map(_is_size, sizes)):
            raise ValueError("a size is no number, or 0")
        _check_size(page.imagewidth, page.imagelength, path)
        # ASSUMPTION: what states no sample format, or an undefined one, has no sign.
        if page.sampleformat not in (UNSIGNED, 4) or page.imagedepth > 1:
            raise _tiff_refusal(page, path)
        _say_first(path, len(file.pages))
        by_tags = page.bitspersample in (8, 16) and page.compression in WHOLE
        if _is_packed(page):
            levels = _tiff_packed(page, path)
        elif by_tags and page.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
            levels = _tiff_levels(page, path)
        else:
            levels = _tiff_by_pillow(page, path)
        return _turned(levels, page.tags.valueof(ORIENTATION, 1))


def _is_size(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _tiff_levels(page: TiffPage, path: Path) -> Levels:
    """Return the gray levels of a TIFF of 8 or 16 bits, gray or RGB, by tifffile."""
    channels = 3 if page.photometric == RGB else 1
    if page.samplesperpixel not in (channels, channels + 1):  # with or without alpha
        raise _tiff_refusal(page, path)
    ends = np.add(page.dataoffsets, page.databytecounts)
    if min(page.databytecounts) == 0 or ends.max() > path.stat().st_size:
        raise ValueError("pixels are missing")  # tifffile would take zeros for them
    values = page.asarray(maxworkers=1)
    if page.samplesperpixel > 1:
        values = np.moveaxis(values, 0, -1) if page.planarconfig == SEPARATE else values
        values = values[..., :channels] if channels > 1 else values[..., 0]
    largest = 2**page.bitspersample - 1
    values = values.astype(np.uint8 if largest == 255 else np.uint16, copy=False)  # either order
    return Levels(largest - values if page.photometric == WHITE_IS_ZERO else values, largest)


def _is_packed(page: TiffPage) -> bool:
    """Return whether a TIFF has gray levels of 9 to 15 bits without gaps between them, in strips as
    they are.
    """
    is_gray = page.samplesperpixel == 1 and page.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
    is_plain = page.compression == 1 and page.fillorder == 1 and not page.is_tiled
    return is_gray and is_plain and page.bitspersample in range(9, 16)


def _tiff_packed(page: TiffPage, path: Path) -> Levels:
    """Return the pixels of :func:`_is_packed`: the high bits come first, whichever the order of
    bytes, and a row fills its last byte (TIFF 6.0, section 8).
    """
    height, width, bits = page.imagelength, page.imagewidth, page.bitspersample
    in_row = -(-width * bits // 8)
    values = np.empty((height, width), np.uint16)
    for row, content in _rows(page, path, in_row):
        packed = np.frombuffer(content, np.uint8).reshape(-1, in_row)
        single = np.unpackbits(packed, axis=1, count=width * bits).reshape(-1, width, bits)
        wide = np.pad(single, ((0, 0), (0, 0), (16 - bits, 0)))
        values[row : row + len(wide)] = np.packbits(wide, axis=-1).view(">u2")[..., 0]
    largest = 2**bits - 1
    return Levels(largest - values if page.photometric == WHITE_IS_ZERO else values, largest)


def _rows(page: TiffPage, path: Path, in_row: int) -> Iterator[tuple[int, bytes]]:
    """Yield the number of a row and the bytes of it and some that follow, until all are there."""
    height, content = page.imagelength, path.read_bytes()
    if page.rowsperstrip < 1 or len(page.dataoffsets) * page.rowsperstrip < height:
        raise ValueError("pixels are missing")
    for first, start, size in zip(
        range(0, height, page.rowsperstrip), page.dataoffsets, page.databytecounts, strict=False
    ):
        end = min(first + page.rowsperstrip, height)
        if (end - first) * in_row > min(size, len(content) - start):
            raise ValueError("pixels are missing")
        for row in range(first, end, ROWS):
            begin = start + (row - first) * in_row
            yield row, content[begin : begin + min(ROWS, end - row) * in_row]


def _tiff_by_pillow(page: TiffPage, path: Path) -> Levels:
    """Return the gray levels of a TIFF of another compression, colour space or number of bits."""
    bits = page.bitspersample
    if not isinstance(bits, int) or bits > 16 or (bits > 8 and page.samplesperpixel > 1):
        raise _tiff_refusal(page, path)
    try:
        with _picture(path) as picture:
            values, largest = _array(picture, path)
    except UnidentifiedImageError:
        raise _tiff_refusal(page, path) from None
    if bits <= 8:
        return Levels(values, largest)
    largest = 2**bits - 1
    if values.max() > largest:
        raise Refusal(f"{path}: expected gray levels up to {largest}, got {values.max()}")
    return Levels(largest - values if page.photometric == WHITE_IS_ZERO else values, largest)


def _tiff_refusal(page: TiffPage, path: Path) -> Refusal:
    """Return the sentence that refuses a TIFF by its tags."""
    names = [
        f"{word} {getattr(value, 'name', value)}".lower()
        for word, value in (
            ("sample format", page.sampleformat),
            ("photometric", page.photometric),
            ("compression", page.compression),
        )
    ]
    depth = f", depth {page.imagedepth}" if page.imagedepth > 1 else ""
    return Refusal(
        f"{path}: expected 8 or 16 bits a channel without sign, gray or RGB, or 9 to 15 bits in"
        f" gray without compression, got {page.samplesperpixel} x {page.bitspersample} bits,"
        f" {', '.join(names)}{depth}; convert it to PNG first"
    )


def _netpbm(picture: Image.Image, path: Path) -> Levels:
    """Return the pixels of PGM and PPM; Pillow rounds them well where the largest is 255."""
    content = path.read_bytes()
    header = rb"P([2356])" + 3 * rb"(?:\s|#[^\n]*\n)+(\d+)" + rb"\s"
    match = re.match(header, content)
    if not match or int(match[4]) == 255:
        return _array(picture, path)
    channels = 3 if match[1] in b"36" else 1
    width, height, largest = (int(match[i]) for i in (2, 3, 4))
    count = width * height * channels
    if match[1] in b"56":
        values = np.frombuffer(content, ">u2" if largest > 255 else "u1", count, match.end())
    else:
        words = re.sub(rb"#[^\n]*", b"", content[match.end() :]).split()
        values = np.array(words[:count], dtype=np.int64)
    values = values.reshape((height, width, channels)[: 3 if channels > 1 else 2])
    if values.max() > largest:
        raise Refusal(f"{path}: expected gray levels up to {largest}, got {values.max()}")
    return Levels(values.astype(np.uint16 if largest > 255 else np.uint8), largest)


def _turned(levels: Levels, orientation: int) -> Levels:
    """Return an image upright by the orientation 1 to 8 that a camera recorded."""
    values, largest = levels
    if orientation in (2, 4, 5, 7):
        values = values[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: -1, 7: -1, 8: 1}
    return Levels(np.ascontiguousarray(np.rot90(values, turns.get(orientation, 0))), largest)
