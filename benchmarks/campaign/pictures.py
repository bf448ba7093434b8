"""Image files: every kind that cameras and programs write, whole, damaged, and what is no image.

What a file means is computed from the pixels it was made of: ``floor(255 v / largest + 1/2)``.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
import torchvision.io  # noqa: F401  (once, before a case is timed)
from PIL import Image

from fusionlib import decoding, images, methods

from . import damage
from .case import REFUSE, UNKNOWN, Case

SUFFIX = {"png": ".png", "tiff": ".tif", "jpeg": ".jpg", "bmp": ".bmp", "gif": ".gif"}
SUFFIX |= {"webp": ".webp", "netpbm": ".ppm"}
JPEG_ERROR = 3.0  # gray levels, on average, of a smooth image at quality 95
DENSE_BYTES = 60_000_000
# Pixels of the file by orientation of the tag: stored = STORED[o](upright)
STORED = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, 1),  # a quarter to the right makes it upright
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}


class File(NamedTuple):
    """The content of an image file, and the image (uint8) that it means."""

    kind: str
    recipe: str
    content: bytes
    truth: object
    tolerance: float = 0.0


def meant(values: np.ndarray, largest: int) -> np.ndarray:
    """Return gray levels on 0..255, half up, in integers; gray where the channels are equal."""
    image = ((values.astype(np.int64) * 510 + largest) // (2 * largest)).astype(np.uint8)
    if image.ndim == 3 and (image == image[..., :1]).all():
        return image[..., 0]
    return image


def random_values(rng: np.random.Generator, channels: int, largest: int) -> np.ndarray:
    """Return (H, W, channels) values 0..largest, of any size from 1x1 to 40x50."""
    height, width = int(rng.integers(1, 41)), int(rng.integers(1, 51))
    return rng.integers(0, largest + 1, (height, width, channels))


# ---- PNG, by its specification -------------------------------------------------------------------

PNG_KINDS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2))
ADAM7 += ((0, 1, 2, 2), (1, 0, 2, 1))  # first row and column, steps down and across


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG with length and checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def scanlines(values: np.ndarray, bits: int) -> bytes:
    """Return the rows of (H, W, C) values, each after filter 0."""
    rows = values.reshape(len(values), -1)
    if bits == 16:
        packed = rows.astype(">u2").view(np.uint8).reshape(len(rows), -1)
    elif bits == 8:
        packed = rows.astype(np.uint8)
    else:
        single = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
        packed = np.packbits(single.reshape(len(rows), -1).astype(np.uint8), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in packed)


def png(rng: np.random.Generator) -> File:
    """Return a PNG: any colour type and depth, interlaced or not, turned, with text."""
    colour = int(rng.choice(list(PNG_KINDS)))
    bits = int(rng.choice(PNG_KINDS[colour]))
    upright = random_values(rng, CHANNELS[colour], 2**bits - 1)
    turn = int(rng.integers(1, 9)) if rng.random() < 0.3 else 1
    interlaced = bool(rng.random() < 0.3)
    stored = np.ascontiguousarray(STORED[turn](upright))
    height, width = stored.shape[:2]
    chunks = [
        chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))
    ]
    palette = rng.integers(0, 256, (2**bits, 3)) if colour == 3 else None
    if rng.random() < 0.3:
        chunks.append(chunk(b"tEXt", b"Comment\0" + b"x" * int(rng.integers(1, 200))))
    if palette is not None:
        chunks.append(chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
    if colour in (0, 2, 3) and rng.random() < 0.3:  # transparency
        size = {0: 2, 2: 6, 3: int(rng.integers(1, 2**bits + 1))}[colour]
        data = bytes(size) if colour != 3 else rng.bytes(size)
        chunks.append(chunk(b"tRNS", data))
    if turn > 1:
        exif = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, turn, 0, 0)
        chunks.append(chunk(b"eXIf", exif))
    passes = [(0, 0, 1, 1)] if not interlaced else ADAM7
    parts = [stored[row::down, column::across] for row, column, down, across in passes]
    data = zlib.compress(b"".join(scanlines(part, bits) for part in parts if part.size))
    middle = int(rng.integers(len(data) + 1)) if rng.random() < 0.3 else len(data)
    chunks += [chunk(b"IDAT", part) for part in (data[:middle], data[middle:]) if part]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")
    if palette is not None:
        truth = meant(palette[upright[..., 0]], 255)
    else:
        kept = upright[..., :3] if colour in (2, 6) else upright[..., 0]
        truth = meant(kept, 2**bits - 1)
    recipe = f"PNG {height}x{width}, colour {colour}, {bits} bits, turn {turn}"
    return File("png", recipe + (", interlaced" if interlaced else ""), content, truth)


# ---- TIFF ----------------------------------------------------------------------------------------


def tiff(rng: np.random.Generator) -> File:
    """Return a TIFF of 8 or 16 bits in any layout, or of a kind that is no picture of 0..2^n-1."""
    if rng.random() < 0.25:
        return odd_tiff(rng)
    photometric = str(rng.choice(["minisblack", "miniswhite", "rgb"]))
    kept = 3 if photometric == "rgb" else 1
    channels = kept + int(rng.random() < 0.3)
    dtype = np.dtype(rng.choice(["u1", "u2"]))
    largest = int(np.iinfo(dtype).max)
    upright = random_values(rng, channels, largest).astype(dtype)
    turn = int(rng.integers(1, 9)) if rng.random() < 0.4 else 1
    stored = np.ascontiguousarray(STORED[turn](upright))
    options: dict = {"photometric": photometric, "byteorder": str(rng.choice(["<", ">"]))}
    options["planarconfig"] = "contig"
    if channels > 1 and rng.random() < 0.3:
        stored, options["planarconfig"] = np.moveaxis(stored, -1, 0).copy(), "separate"
    elif channels == 1:
        stored = stored[..., 0]
        del options["planarconfig"]
    layout = int(rng.integers(5))
    options |= [{}, {"tile": (16, 16)}, {"rowsperstrip": 3}, {}, {"bigtiff": True}][layout]
    if rng.random() < 0.3:
        options |= {"compression": "zlib", "predictor": bool(rng.random() < 0.5)}
    if channels > kept:
        options["extrasamples"] = ["unassalpha"]
    if turn > 1:
        options["extratags"] = [(274, 3, 1, turn, True)]
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stored, **options)
    values = upright[..., :3] if kept == 3 else upright[..., 0]
    values = largest - values if photometric == "miniswhite" else values
    recipe = f"TIFF {stored.shape} {dtype}, turn {turn}, {options}"
    return File("tiff", recipe, buffer.getvalue(), meant(values, largest))


def odd_tiff(rng: np.random.Generator) -> File:
    """Return a TIFF whose levels are signed, floating or wider than 16 bits: to be refused, or, of
    12 bits and by Pillow, right.
    """
    which = int(rng.integers(4))
    buffer = io.BytesIO()
    if which == 0:
        dtype = str(rng.choice(["i1", "i2", "i4", "u4", "u8", "f4", "f8", "c8", "f2"]))
        values = random_values(rng, 1, 100)[..., 0].astype(dtype)
        tifffile.imwrite(buffer, values)
        return File("tiff", f"TIFF {values.shape} of {dtype}", buffer.getvalue(), REFUSE)
    if which == 1:
        mode = str(rng.choice(["L", "RGB", "P", "CMYK"]))
        method = str(rng.choice(["tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg"]))
        gray = random_values(rng, 3, 255).astype(np.uint8)
        picture = Image.fromarray(gray).convert(mode)
        truth: object = meant(np.array(picture.convert("L" if mode == "L" else "RGB")), 255)
        method = "tiff_lzw" if method == "jpeg" and mode in ("P", "CMYK") else method
        picture.save(buffer, "TIFF", compression=method)
        truth = UNKNOWN if method == "jpeg" else truth  # lossy on noise
        return File("tiff", f"TIFF {gray.shape} {mode} {method}", buffer.getvalue(), truth)
    values = random_values(rng, 1, 4095)[..., 0]
    bits = ((values[..., None] >> np.arange(11, -1, -1)) & 1).reshape(len(values), -1)
    data = np.packbits(bits.astype(np.uint8), axis=1).tobytes()
    order = "<" if which == 2 else ">"
    tags = {256: values.shape[1], 257: values.shape[0], 258: 12, 259: 1, 262: 1, 273: 0, 277: 1}
    tags |= {278: values.shape[0], 279: len(data), 339: 1}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack(f"{order}HHII", t, 4, 1, v) for t, v in sorted(tags.items()))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    recipe = f"TIFF {values.shape} of 12 bits, order {order}"
    return File("tiff", recipe, head + directory + data, meant(values, 4095))


# ---- other formats -------------------------------------------------------------------------------


def by_pillow(rng: np.random.Generator) -> File:
    """Return a BMP, GIF, WebP or JPEG."""
    kind = str(rng.choice(["bmp", "gif", "webp", "jpeg"]))
    mode = str(
        rng.choice({"bmp": ["L", "RGB", "P", "1"], "gif": ["L", "P"]}.get(kind, ["L", "RGB"]))
    )
    values = random_values(rng, 3, 255).astype(np.uint8)
    if kind == "jpeg":  # a slope, which is nearly kept
        height, width = values.shape[:2]
        slope = np.add.outer(np.arange(height), np.arange(width)) * 2 + int(rng.integers(60))
        values = np.stack([slope, slope[::-1], slope[:, ::-1]], axis=-1).clip(0, 255).astype("u1")
    picture = Image.fromarray(values).convert(mode)
    upright = np.array(picture.convert("L" if mode in ("L", "1") else "RGB"))
    options: dict = {"webp": {"lossless": True}, "jpeg": {"quality": 95}}.get(kind, {})
    options |= {"subsampling": 0} if kind == "jpeg" else {}
    turn = int(rng.integers(2, 9)) if kind in ("jpeg", "webp") and rng.random() < 0.3 else 1
    if turn > 1:
        picture = Image.fromarray(np.ascontiguousarray(STORED[turn](np.array(picture))))
        exif = Image.Exif()
        exif[274] = turn
        options["exif"] = exif
    buffer = io.BytesIO()
    picture.save(buffer, kind.upper(), **options)
    recipe = f"{kind.upper()} {upright.shape[0]}x{upright.shape[1]} {mode}, turn {turn}"
    tolerance = JPEG_ERROR if kind == "jpeg" else 0.0
    return File(kind, recipe, buffer.getvalue(), meant(upright, 255), tolerance)


def netpbm(rng: np.random.Generator) -> File:
    """Return a PBM, PGM or PPM, as text or as bytes, with any largest level."""
    number = int(rng.integers(1, 7))
    channels = 3 if number in (3, 6) else 1
    largest = 1 if number in (1, 4) else int(rng.choice([1, 7, 100, 255, 256, 1023, 4095, 65535]))
    values = random_values(rng, channels, largest)
    height, width = values.shape[:2]
    comment = "# made by a camera\n" if rng.random() < 0.3 else ""
    head = f"P{number}\n{comment}{width} {height}\n"
    head += "" if number in (1, 4) else f"{largest}\n"
    if number <= 3:
        data = "\n".join(" ".join(map(str, row.ravel())) for row in values).encode() + b"\n"
    elif number == 4:
        data = np.packbits(values[..., 0].astype(np.uint8), axis=1).tobytes()
    else:
        data = values.astype(">u2" if largest > 255 else "u1").tobytes()
    image = values[..., 0] if channels == 1 else values
    truth = meant(1 - image if number in (1, 4) else image, largest)  # 1 is black in a bitmap
    recipe = f"P{number} {height}x{width}, largest {largest}"
    return File("netpbm", recipe, head.encode() + data, truth)


MAKERS = (png, png, png, tiff, tiff, tiff, by_pillow, by_pillow, netpbm)
LARGE_KINDS = ("png", "deep png", "colour png", "text", "gif", "tiff", "jpeg", "pgm", "tiles")


def large(rng: np.random.Generator) -> File:
    """Return a small file that states, or unpacks to, very many pixels."""
    kind = str(rng.choice(LARGE_KINDS))
    side = int(rng.choice([8_500, 20_000, 60_000, 2**31 - 1]))
    if kind.endswith("png"):
        bits, colour = (16, 0) if kind == "deep png" else (8, 2 if kind == "colour png" else 0)
        if side < 20_000 and rng.random() < 0.5:  # with all its pixels
            compress = zlib.compressobj(9)
            row = bytes(1 + side * bits // 8 * (3 if colour else 1))
            data = b"".join(compress.compress(row) for _ in range(side)) + compress.flush()
        else:
            data = zlib.compress(bytes(1000))
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0))
        content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    elif kind == "text":
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0))
        text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(DENSE_BYTES), 9))
        data = chunk(b"IDAT", zlib.compress(bytes(6)))
        content = b"\x89PNG\r\n\x1a\n" + header + text + data + chunk(b"IEND", b"")
        return File("png", "PNG of 2x2 with 60 MB of text", content, UNKNOWN)
    elif kind == "gif":
        content = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6)
        content += b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\0;"
    elif kind == "jpeg":
        buffer = io.BytesIO()
        Image.new("L", (8, 8)).save(buffer, "JPEG")
        content = buffer.getvalue()
        start = content.index(b"\xff\xc0") + 5
        content = content[:start] + struct.pack(">HH", 65500, 65500) + content[start + 4 :]
    elif kind == "pgm":
        content = f"P5 {side} {side} 255\n".encode() + bytes(100)
    else:
        buffer = io.BytesIO()
        tile = {"tile": (16, 16)} if kind == "tiles" else {}
        tifffile.imwrite(buffer, np.zeros((16, 16), np.uint8), **tile)
        content = buffer.getvalue()
        for tag in (256, 257):
            start = content.index(struct.pack("<H", tag), 8)
            content = (
                content[:start] + struct.pack("<HHII", tag, 4, 1, side) + content[start + 12 :]
            )
    return File("large", f"{kind} that states {side}x{side} or more", content, REFUSE)


# radon C: valid, damaged, foreign, large and tiny ones
def case(rng: np.random.Generator, folder: Path) -> Case:
    """Return an image file in ``folder``, read and measured."""
    chance = rng.random()
    if chance < 0.03:
        return tiny(rng)
    is_damaged, is_checked = False, True
    if chance < 0.09:
        recipe, content = damage.foreign(rng)
        file = File("foreign", recipe, content, REFUSE)
        suffix = str(rng.choice(list(SUFFIX.values())))
    elif chance < 0.11:
        file = large(rng)
        suffix = str(rng.choice(list(SUFFIX.values())))
    else:
        file = MAKERS[rng.integers(len(MAKERS))](rng)
        suffix = SUFFIX[file.kind]
        if chance < 0.5:
            harm = damage.RANDOM[rng.integers(len(damage.RANDOM))]
            content = harm(file.content, rng)
            is_damaged = content != file.content
            is_checked = file.kind == "png"
            file = file._replace(content=content, recipe=f"{file.recipe}, {harm.__name__}")
    if chance > 0.9:
        suffix = str(rng.choice(list(SUFFIX.values())))  # a wrong one: the content decides
    path = folder / f"picture{suffix}"
    path.write_bytes(file.content)

    def call() -> object:
        image = images.read(path)
        size = decoding.shape(path)
        return image if size == image.shape[:2] else f"the shape {size}, but {image.shape} pixels"

    truth = file.truth
    if is_damaged and truth is REFUSE:
        truth = UNKNOWN
    return Case(file.recipe, call, [path.name], truth, is_damaged, is_checked, file.tolerance)


def tiny(rng: np.random.Generator) -> Case:
    """Return a pair of few pixels, fused: an image of their size, or a sentence."""
    height, width = rng.integers(1, 12, size=2) if rng.random() < 0.9 else (1, 600)
    pair = [rng.integers(0, 256, (height, width)).astype(np.uint8) for _ in range(2)]
    method = str(rng.choice(["average", "maximum", "LP", "CvT", "MoE-Fusion"]))

    def call() -> object:
        return methods.get(method).fuse(*pair).shape

    recipe = f"{method} of {height}x{width}"
    return Case(recipe, call, ["expected"], (int(height), int(width)), is_damaged=True)
