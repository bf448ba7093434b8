"""Image files mean what their tags say, or are refused in one sentence with the file."""

import itertools
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from fusionlib import decoding, images
from fusionlib.datasets import checking

RNG = np.random.default_rng(0)
RAMP16 = np.linspace(0, 65535, 24 * 36).astype(np.uint16).reshape(24, 36)
COLOUR16 = RNG.integers(0, 65536, (24, 36, 3)).astype(np.uint16)


def rounded(values, levels=65535):
    """Return 8 bits from the whole range: half up, computed in integers."""
    return ((values.astype(np.int64) * 510 + levels) // (2 * levels)).astype(np.uint8)


def packed(values, width=12):
    """Return rows of numbers of some bits, the high ones first."""
    bits = (values[..., None] >> np.arange(width - 1, -1, -1)) & 1
    return np.packbits(bits.reshape(len(values), -1).astype(np.uint8), axis=1)


def tiff_of(path, shape, data, bits, order="<", **tags):
    """Write a gray TIFF of one strip by hand."""
    numbers = {256: shape[1], 257: shape[0], 258: bits, 262: tags.get("photometric", 1)}
    numbers[259] = tags.get("compression", 1)
    numbers |= {273: 0, 277: 1, 278: shape[0], 279: len(data), 339: tags.get("format", 1)}
    numbers[273] = 8 + 2 + 12 * len(numbers) + 4
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(numbers.items())
    )
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    directory = struct.pack(f"{order}H", len(numbers)) + entries + struct.pack(f"{order}I", 0)
    path.write_bytes(head + directory + data)


def write_tiff(path, values, **options):
    tifffile.imwrite(path, values, **options)


def packbits(rows):
    """Return rows by PackBits, without any saving."""
    return b"".join(bytes([len(row) - 1]) + row.tobytes() for row in rows)


RIGHT = {
    "12 bits by PackBits": (
        lambda path: tiff_of(path, (24, 36), packbits(packed(RAMP16 >> 4)), 12, compression=32773),
        rounded(RAMP16 >> 4, 4095),
    ),
    "16 bits": (lambda path: write_tiff(path, RAMP16), rounded(RAMP16)),
    "16 bits, big-endian": (lambda path: write_tiff(path, RAMP16, byteorder=">"), rounded(RAMP16)),
    "16 bits, white is zero": (
        lambda path: write_tiff(path, RAMP16, photometric="miniswhite"),
        rounded(65535 - RAMP16),
    ),
    "8 bits, white is zero": (
        lambda path: write_tiff(path, (RAMP16 >> 8).astype(np.uint8), photometric="miniswhite"),
        255 - (RAMP16 >> 8).astype(np.uint8),
    ),
    "16 bits in colour": (
        lambda path: write_tiff(path, COLOUR16, photometric="rgb"),
        rounded(COLOUR16),
    ),
    "16 bits in colour, plane by plane": (
        lambda path: write_tiff(
            path, np.moveaxis(COLOUR16, -1, 0), photometric="rgb", planarconfig="separate"
        ),
        rounded(COLOUR16),
    ),
    "8 bits in colour, plane by plane": (
        lambda path: write_tiff(
            path,
            np.moveaxis((COLOUR16 >> 8).astype(np.uint8), -1, 0),
            photometric="rgb",
            planarconfig="separate",
        ),
        (COLOUR16 >> 8).astype(np.uint8),
    ),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_a_tiff_means_what_its_tags_say(kind, tmp_path):
    write, expected = RIGHT[kind]
    path = tmp_path / "x.tif"
    write(path)
    assert np.array_equal(images.read(path), expected)
    assert decoding.shape(path) == expected.shape[:2]


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15])
@pytest.mark.parametrize("order", "<>")
def test_packed_levels_of_either_order_mean_the_same(order, bits, photometric, tmp_path):
    path, largest = tmp_path / "x.tif", 2**bits - 1
    values = RNG.integers(0, largest + 1, (300, 37))  # whose rows do not fill their last byte
    data = packed(values, bits).tobytes()
    tiff_of(path, values.shape, data, bits, order, photometric=photometric)
    meant = values if photometric else largest - values
    assert np.array_equal(images.read(path), rounded(meant, largest))
    assert decoding.shape(path) == values.shape
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"x.tif: the image is damaged .*pixels are missing"):
        images.read(path)


@pytest.mark.parametrize("lacking", [0, 1])
def test_packed_levels_in_several_strips(lacking, tmp_path):
    path, values = tmp_path / "x.tif", RNG.integers(0, 4096, (10, 37))
    rows = packed(values)
    tiff_of(path, values.shape, b"", 12, ">")
    content, sizes = path.read_bytes(), [rows[i : i + 4].nbytes for i in (0, 4, 8)]
    starts = len(content) + 24 + np.cumsum([0, *sizes[:2]])
    sizes[1] -= lacking
    for tag, numbers in ((278, [4]), (273, starts), (279, sizes)):
        place = content.index(struct.pack(">HHI", tag, 4, 1)) + 4
        value = numbers[0] if tag == 278 else len(content)
        entry = struct.pack(">II", len(numbers), value)
        content = content[:place] + entry + content[place + 8 :]
        content += struct.pack(">3I", *numbers) if tag != 278 else b""
    path.write_bytes(content + rows.tobytes())
    if lacking:
        with pytest.raises(ValueError, match="pixels are missing"):
            images.read(path)
    else:
        assert np.array_equal(images.read(path), rounded(values, 4095))


UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: np.swapaxes(stored, 0, 1),
    6: lambda stored: np.swapaxes(stored[::-1], 0, 1),
    7: lambda stored: np.swapaxes(stored[::-1, ::-1], 0, 1),
    8: lambda stored: np.swapaxes(stored, 0, 1)[::-1],
}
KINDS = [("minisblack", 1), ("miniswhite", 1), ("minisblack", 2), ("miniswhite", 2)]
KINDS += [("rgb", 3), ("rgb", 4)]
LAYOUTS = [{}, {"tile": (16, 16)}, {"rowsperstrip": 8}, {"compression": "zlib"}]
LAYOUTS += [{"compression": "zlib", "predictor": True}, {"bigtiff": True}]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_layout_of_a_tiff_means_the_same(kind, dtype, order, tmp_path):
    (photometric, channels), levels = kind, np.iinfo(dtype).max
    values = RNG.integers(0, levels + 1, (20, 37, channels)).astype(dtype)
    meant = values[..., :3] if photometric == "rgb" else values[..., 0]
    meant = rounded(levels - meant if photometric == "miniswhite" else meant, levels)
    path = tmp_path / "x.tif"
    options = {"photometric": photometric, "byteorder": order}
    if channels in (2, 4):
        options["extrasamples"] = ["unassalpha"]
    for number, (layout, planes) in enumerate(
        itertools.product(LAYOUTS, ["contig", "separate"] if channels > 1 else [None])
    ):
        turn = number % 8 + 1
        write_tiff(
            path,
            np.moveaxis(values, -1, 0) if planes == "separate" else np.squeeze(values),
            planarconfig=planes,
            extratags=[(274, 3, 1, turn, True)],
            **options,
            **layout,
        )
        assert np.array_equal(images.read(path), UPRIGHT[turn](meant)), (layout, planes, turn)
        assert decoding.shape(path) == UPRIGHT[turn](meant).shape[:2]


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("rows", [None, 8])
@pytest.mark.parametrize("values", [RAMP16, COLOUR16], ids=["gray", "colour"])
def test_a_tiff_that_lacks_its_end_is_refused(values, rows, compression, tmp_path):
    path = tmp_path / "x.tif"
    photometric = "rgb" if values.ndim == 3 else "minisblack"
    write_tiff(path, values, photometric=photometric, compression=compression, rowsperstrip=rows)
    content = path.read_bytes()
    for cut in RNG.integers(1, len(content), 30):
        path.write_bytes(content[:cut])
        for call in (images.read, decoding.shape):
            with pytest.raises(ValueError) as refused:
                call(path)
            assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)


def test_a_tiff_whose_width_is_a_list_is_refused(tmp_path):
    path = tmp_path / "x.tif"
    tiff_of(path, (4, 4), bytes(16), 8)
    content = bytearray(path.read_bytes())
    count = content.index(struct.pack("<HHI", 256, 4, 1)) + 4
    content[count : count + 4] = struct.pack("<I", 2)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="x.tif: the image is damaged"):
        images.read(path)


@pytest.mark.parametrize(
    "error, sentence",
    [(PermissionError(13, "Permission denied"), "cannot be read"), (MemoryError(), "into memory")],
)
def test_what_the_system_refuses_is_not_called_damage(error, sentence, tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    Image.new("L", (4, 4)).save(path)

    def fail(*_):
        raise error

    monkeypatch.setattr(decoding, "_open", fail)
    for call in (images.read, decoding.shape):
        with pytest.raises(ValueError, match=f"x.png: .*{sentence}"):
            call(path)


REFUSED = {
    "signed 8 bits": lambda path: tiff_of(path, (4, 4), bytes(16), 8, format=2),
    "signed 16 bits": lambda path: tiff_of(path, (4, 4), bytes(32), 16, format=2),
    "32-bit integers": lambda path: write_tiff(path, np.ones((4, 4), np.uint32)),
    "floats": lambda path: write_tiff(path, np.ones((4, 4), np.float32)),
    "64-bit floats": lambda path: write_tiff(path, np.ones((4, 4), np.float64)),
    "12 bits in gray by PackBits, big-endian": lambda path: tiff_of(
        path, (24, 36), packbits(packed(RAMP16 >> 4)), 12, ">", compression=32773
    ),
    "17 bits in gray": lambda path: tiff_of(path, (4, 4), bytes(36), 17),
    "signed 12 bits in gray": lambda path: tiff_of(path, (4, 4), bytes(24), 12, format=2),
    "signed bits in colour": lambda path: write_tiff(
        path, COLOUR16.astype(np.int16), photometric="rgb"
    ),
    "floats in colour": lambda path: write_tiff(
        path, COLOUR16.astype(np.float32), photometric="rgb"
    ),
    "16 bits as CMYK": lambda path: write_tiff(
        path, np.ones((4, 4, 4), np.uint16), photometric="separated"
    ),
    "8 bits in a volume": lambda path: write_tiff(
        path, np.ones((16, 16, 16), np.uint8), volumetric=True, tile=(16, 16, 16)
    ),
    "8 bits in three grays": lambda path: write_tiff(
        path, COLOUR16.astype(np.uint8), photometric="minisblack", planarconfig="contig"
    ),
    "a program": lambda path: path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n"
    ),
    "half a PGM": lambda path: path.write_bytes(b"P5\n40 40\n255\n" + bytes(100)),
    "half a 16-bit PGM": lambda path: path.write_bytes(b"P5\n40 40\n4095\n" + bytes(100)),
    "words in a PGM": lambda path: path.write_bytes(b"P2\n4 4\n4095\none two"),
    "half a BMP": lambda path: path.write_bytes(b"BM" + struct.pack("<IHHI", 900, 0, 0, 54)),
    "a text of 80 MB": lambda path: path.write_bytes(png_with_text(80_000_000)),
}


def write_lzw(path):
    """Write a TIFF whose tags say 16 bits in colour by LZW, which neither reader has whole."""
    write_tiff(path, COLOUR16, photometric="rgb", metadata=None)
    tag = struct.pack("<HHI", 259, 3, 1)
    path.write_bytes(path.read_bytes().replace(tag + b"\1", tag + b"\5"))


REFUSED["16 bits in colour by LZW"] = write_lzw


def png_with_text(size):
    chunk = b"zTXt" + b"a\0\0" + zlib.compress(bytes(size))
    text = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    header = b"IHDR" + struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header
    return start + struct.pack(">I", zlib.crc32(header)) + text


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_what_is_refused_is_one_sentence_with_the_file(kind, suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    REFUSED[kind](path)
    for call in (images.read, decoding.shape):
        with pytest.raises(ValueError) as refused:
            call(path)
        assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)
        if any(word in kind for word in ("bits in", "bits as", "signed", "float", "32-bit")):
            assert "expected 8 or 16 bits" in str(refused.value)  # neither damaged nor no image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_the_reader_and_the_check_agree_on_every_orientation(orientation, suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3).repeat(16, 0).repeat(16, 1) * 40
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(stored).convert("RGB").save(path, exif=exif, **options)
    upright = UPRIGHT[orientation](stored)
    got = images.read(path)
    assert decoding.shape(path) == got.shape == upright.shape
    assert np.abs(got.astype(int) - upright).max() <= (40 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "P"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_png_whose_tail_is_zeros_is_refused(mode, share, tmp_path):
    levels = 65536 if mode == "I;16" else 256
    values = RNG.integers(0, levels, (60, 80, 3)[: 3 if mode == "RGB" else 2])
    values = values.astype(np.uint16 if mode == "I;16" else np.uint8)
    picture = Image.fromarray(values) if mode != "P" else Image.fromarray(values).convert("P")
    path = tmp_path / "x.png"
    picture.save(path)
    content = path.read_bytes()
    cut = int(len(content) * share)
    path.write_bytes(content[:cut] + bytes(len(content) - cut))
    for call in (images.read, decoding.shape):
        with pytest.raises(ValueError, match="x.png: the image is damaged or truncated"):
            call(path)


def test_every_flipped_bit_of_a_png_is_noticed(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(RNG.integers(0, 40, (20, 30)).astype(np.uint8)).save(path)
    content, pixels = path.read_bytes(), images.read(path)
    for position in RNG.integers(8, len(content), 60):
        damaged = bytearray(content)
        damaged[position] ^= 1 << RNG.integers(8)
        path.write_bytes(damaged)
        try:
            assert np.array_equal(images.read(path), pixels)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")


def write_png(path, width, height, colour, data):
    """Write a 16-bit PNG by hand from its compressed rows."""
    content = b"\x89PNG\r\n\x1a\n"
    for name, chunk in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)),
        (b"IDAT", data),
        (b"IEND", b""),
    ):
        check = zlib.crc32(name + chunk)
        content += struct.pack(">I", len(chunk)) + name + chunk + struct.pack(">I", check)
    path.write_bytes(content)


@pytest.mark.parametrize("colour, channels", [(2, 3), (6, 4), (4, 2), (0, 1)])
def test_16_bits_in_colour_are_divided_as_gray_ones(colour, channels, tmp_path):
    values = RNG.integers(0, 65536, (10, 14, channels)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    path = tmp_path / "x.png"
    write_png(path, 14, 10, colour, zlib.compress(rows))
    expected = rounded(values[..., :3] if channels > 2 else values[..., 0])
    assert np.array_equal(images.read(path), expected)


@pytest.mark.parametrize("largest", [1, 50, 100, 255, 300, 1023, 4095, 65535])
@pytest.mark.parametrize("form", ["P5", "P2", "P6", "P3"])
def test_gray_and_colour_maps_are_rounded_once(largest, form, tmp_path):
    values = RNG.integers(0, largest + 1, (7, 9, 3) if form in ("P6", "P3") else (7, 9))
    values[0, 0] = largest
    values.flat[1:3] = 0, largest // 2
    body = (
        values.astype(">u2" if largest > 255 else "u1").tobytes()
        if form in ("P5", "P6")
        else " ".join(map(str, values.flat)).encode()
    )
    path = tmp_path / "x.pgm"
    path.write_bytes(f"{form}\n# a comment\n9 7\n{largest}\n".encode() + body)
    assert np.array_equal(images.read(path), rounded(values, largest))


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    Image.new("L", (15_000, 14_000)).save(path)
    for call in (images.read, decoding.shape):
        with pytest.raises(ValueError, match="at most 64000000 pixels, got 14000x15000 = 21"):
            call(path)
    Image.new("L", (40, 50)).save(path)
    monkeypatch.setenv(decoding.LIMIT, "1999")
    with pytest.raises(ValueError, match="at most 1999 pixels, got 50x40 = 2000; --max-pixels"):
        images.read(path)
    monkeypatch.setenv(decoding.LIMIT, "2000")
    assert images.read(path).shape == (50, 40)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in KiB by Linux")
@pytest.mark.parametrize("colour, limit", [(0, 8), (2, 24)])
def test_a_large_file_needs_no_multiple_of_its_pixels(colour, limit, tmp_path):
    path, side = tmp_path / "x.png", 3000
    row = bytes(1 + side * 2 * (3 if colour else 1))
    write_png(path, side, side, colour, zlib.compress(row * side))
    code = (
        "import resource\nfrom fusionlib import images\nimport torchvision.io, PIL.Image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"images.read({str(path)!r})\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < limit * side**2 + 50e6


def test_no_other_program_is_started(tmp_path):
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    program.chmod(0o755)
    REFUSED["a program"](tmp_path / "x.png")
    code = f"from fusionlib import images\nimages.read({str(tmp_path / 'x.png')!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert "its content is none of them" in done.stderr and not (tmp_path / "started").exists()


def test_several_pictures_are_told(tmp_path, capsys):
    first, second = (Image.new("L", (8, 8), level) for level in (10, 20))
    first.save(tmp_path / "x.tif", save_all=True, append_images=[second])
    assert images.read(tmp_path / "x.tif")[0, 0] == 10
    assert "x.tif: the first of 2 pictures is taken" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["a folder", "an empty file", "nothing there"])
def test_the_check_uses_the_reader(kind, tmp_path):
    assert checking.decoding is decoding is images.decoding
    path = tmp_path / "x.png"
    if kind != "nothing there":
        path.mkdir() if kind == "a folder" else path.touch()
    for call in (images.read, decoding.shape):
        with pytest.raises((ValueError, FileNotFoundError), match=f"x.png: expected .*{kind}"):
            call(path)
