"""Decode image files: what the content and its tags mean, or one sentence that names the file.

Pillow decodes all but 16 bits in colour (PNG by torchvision, TIFF by tifffile: Pillow cuts them to
their high bytes) and gray levels of an unusual number of bits.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

# Other decoders of Pillow stay out: one of them starts a program.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM")
LIMIT = "FUSION_MAX_PIXELS"  # variable with the largest size, inherited by worker processes
PIXELS = 64_000_000
BITS, PHOTOMETRIC, ORIENTATION, PLANES, SAMPLE_FORMAT = 258, 262, 274, 284, 339  # tags of TIFF
WHITE_IS_ZERO, UNSIGNED, SEPARATE = 0, 1, 2
_LOCK = threading.Lock()  # Pillow's limit is one for all threads


class Refusal(ValueError):
    """An image file that is not read, in one sentence."""


def decode(path: Path) -> np.ndarray:
    """Return the gray levels of a file as they are meant, scaled to 0..255, not rounded.

    Returns
    -------
    (H, W) or (H, W, 3) array
        uint8 where the file has at most 8 bits a channel, else float64; alpha is left out.

    Raises
    ------
    Refusal
        Not an image, damaged, too large, or of a kind whose gray levels are not 0..2^n - 1.
    """
    with _picture(path) as picture:
        if picture.format == "PNG":
            array = _png(picture, path)
        elif picture.format == "TIFF":
            array = _tiff(picture, path)
        elif picture.format == "PPM" and picture.mode.startswith("I"):
            array = _pgm(path)
        else:
            array = _array(picture, path)
        orientation = picture.getexif().get(ORIENTATION, 1)
    return np.ascontiguousarray(_turned(array, orientation))


def shape(path: Path) -> tuple[int, int]:
    """Return height and width of a whole image file; raises as :func:`decode`."""
    with _picture(path) as picture:
        width, height = picture.size
        if picture.format != "PNG":  # the checksums of a PNG were compared
            picture.draft(None, (1, 1))  # a JPEG is decoded at an eighth of its size
            picture.load()
        turned = picture.getexif().get(ORIENTATION, 1) >= 5
    return (width, height) if turned else (height, width)


def limit() -> int:
    """Return how many pixels an image may have: ``FUSION_MAX_PIXELS``, by default 64 million."""
    value = os.environ.get(LIMIT, "")
    if value and not value.isdecimal():
        raise ValueError(f"{LIMIT}: expected a number of pixels, got {value!r}")
    return int(value or PIXELS)


@contextlib.contextmanager
def _picture(path: Path) -> Iterator[Image.Image]:
    """Yield a file opened by Pillow, a PNG after its checksums; whatever the decoder raises becomes
    a refusal.
    """
    try:
        # given a path, Pillow maps TIFF into memory and turns rows of another width
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about sizes and tags
            picture = _open(file, path)
            if picture.format == "PNG":
                picture.verify()  # on loading Pillow skips the checksums of the pixels
                picture = _open(file, path)
            count = getattr(picture, "n_frames", 1)
            if count > 1 and picture.format != "MPO":  # a JPEG with a preview
                print(f"{path}: the first of {count} pictures is taken", file=sys.stderr)
            yield picture
    except Refusal:
        raise
    except UnidentifiedImageError:
        raise Refusal(
            f"{path}: expected an image file (PNG, JPEG, BMP, TIFF, ...), its content is none of"
            " them"
        ) from None
    except Exception as error:  # whatever a decoder raises on damaged files
        reason = str(error) or type(error).__name__
        raise Refusal(f"{path}: the image is damaged or truncated ({reason})") from None


def _open(file, path: Path) -> Image.Image:
    """Return an image file opened by Pillow; Refusal where it has too many pixels."""
    file.seek(0)
    with _LOCK:
        of_pillow, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            picture = Image.open(file, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = of_pillow
    width, height = picture.size
    if width * height > limit():
        raise Refusal(
            f"{path}: expected at most {limit()} pixels, got {height}x{width} = {width * height};"
            f" --max-pixels or {LIMIT} allows more"
        )
    return picture


def _array(picture: Image.Image, path: Path) -> np.ndarray:
    """Return the pixels of any picture of at most 8 bits, and of 16-bit gray."""
    if picture.mode in ("L", "RGB"):
        return np.array(picture)
    if picture.mode in ("1", "LA", "La"):
        return np.array(picture.convert("L"))
    if picture.mode in ("P", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"):
        # convert("RGB") drops alpha and keeps the colours under it; a blend would invent gray
        # levels.
        return np.array(picture.convert("RGB"))
    if picture.mode.startswith("I"):
        values = np.array(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Refusal(
                f"{path}: expected 8 or 16 bits a channel, got values {values.min()} to"
                f" {values.max()}"
            )
        return _scaled(values, 16)
    raise Refusal(
        f"{path}: expected 8 or 16 bits a channel, got Pillow mode {picture.mode!r}; convert it to"
        " 8 bits first"
    )


def _scaled(values: np.ndarray, bits: int) -> np.ndarray:
    # ASSUMPTION: files use the whole range of their bits; 65535 / 257 = 255 maps black and white
    # exactly.
    return values * (255.0 / (2**bits - 1)) if bits != 16 else values / 257.0


def _png(picture: Image.Image, path: Path) -> np.ndarray:
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
    return _scaled(channels[0] if len(channels) < 3 else np.moveaxis(channels[:3], 0, -1), 16)


# radon C: a condition for each tag
def _tiff(picture: Image.Image, path: Path) -> np.ndarray:
    """Return the pixels of a TIFF as its tags mean them."""
    tags: Mapping = picture.tag_v2  # type: ignore[attr-defined]
    bits = tags.get(BITS, (1,))
    bits = bits if isinstance(bits, tuple) else (bits,)
    formats = tags.get(SAMPLE_FORMAT, (UNSIGNED,))
    formats = formats if isinstance(formats, tuple) else (formats,)
    if set(formats) != {UNSIGNED} or len(set(bits)) > 1 or bits[0] > 16:
        raise Refusal(
            f"{path}: expected 8 or 16 bits a channel without sign, got {'+'.join(map(str, bits))}"
            f" bits of sample format {'+'.join(map(str, formats))}; convert it to 8 bits first"
        )
    if bits[0] <= 8:
        return _array(picture, path)
    if len(bits) > 1:
        import tifffile

        values = tifffile.imread(path, key=0)
        if tags.get(PLANES) == SEPARATE:
            values = np.moveaxis(values, 0, -1)
        if tags.get(PHOTOMETRIC) == 2 and values.shape == (*picture.size[::-1], len(bits)):
            return _scaled(values[..., :3], bits[0])
        raise Refusal(f"{path}: expected RGB where a channel has 16 bits, got another colour space")
    values = np.array(picture).astype(np.int64)
    levels = 2 ** bits[0] - 1
    if values.max() > levels:
        raise Refusal(f"{path}: expected gray levels up to {levels}, got {values.max()}")
    return _scaled(levels - values if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else values, bits[0])


def _pgm(path: Path) -> np.ndarray:
    """Return the pixels of a gray PGM of more than 8 bits (P5, or P2 in text)."""
    content = path.read_bytes()
    header = rb"(P[25])" + 3 * rb"(?:\s|#[^\n]*\n)+(\d+)" + rb"\s"
    match = re.match(header, content)
    if not match:
        raise Refusal(f"{path}: expected the header of a PGM file, got another")
    width, height, largest = (int(match[i]) for i in (2, 3, 4))
    if match[1] == b"P5":
        values = np.frombuffer(content, ">u2", width * height, match.end())
    else:
        words = re.sub(rb"#[^\n]*", b"", content[match.end() :]).split()
        values = np.array(words[: width * height], dtype=np.int64)
    values = values.reshape(height, width).astype(np.float64)
    if values.max() > largest:
        raise Refusal(f"{path}: expected gray levels up to {largest}, got {values.max():g}")
    return values / 257.0 if largest == 65535 else values * (255.0 / largest)


def _turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image upright by the orientation 1 to 8 that a camera recorded."""
    if orientation in (2, 4, 5, 7):
        array = array[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: -1, 7: -1, 8: 1}
    return np.rot90(array, turns.get(orientation, 0))
