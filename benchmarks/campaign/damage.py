"""Random damage to the bytes of a file, as broken downloads, disks and programs leave it."""

from __future__ import annotations

import numpy as np

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%064x\nsize 12345\n"
HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Sign in</body></html>\n"


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    """Return the beginning of a file."""
    return content[: rng.integers(len(content))]


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with 1 to 20 flipped bits."""
    changed = bytearray(content)
    for position in rng.integers(len(content), size=rng.integers(1, 21)):
        changed[position] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def zero_tail(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a file whose end is zeros, as a crash leaves it."""
    keep = int(rng.integers(len(content) // 10, len(content)))
    return content[:keep] + bytes(len(content) - keep)


def drop(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a file that lacks up to 40 bytes somewhere."""
    start = int(rng.integers(len(content)))
    return content[:start] + content[start + int(rng.integers(1, 41)) :]


def insert(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with up to 40 random bytes more somewhere."""
    start = int(rng.integers(len(content)))
    return content[:start] + rng.bytes(int(rng.integers(1, 41))) + content[start:]


def as_text(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a file whose line ends were changed in transfer as text."""
    if b"\r\n" in content:
        return content.replace(b"\r\n", b"\n")
    return content.replace(b"\n", b"\r\n")


def foreign(rng: np.random.Generator) -> tuple[str, bytes]:
    """Return something else that has got the name of the file: what it is, and its bytes."""
    kinds = {
        "nothing": b"",
        "a git LFS pointer": LFS % int(rng.integers(2**62)),
        "a web page": HTML,
        "random bytes": rng.bytes(int(rng.integers(1, 3000))),
        "zeros": bytes(int(rng.integers(1, 3000))),
        "text": b"nothing of the kind\n" * int(rng.integers(1, 50)),
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n",
        "PDF": b"%PDF-1.7\n" + rng.bytes(300),
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "a zip archive": b"PK\x05\x06" + bytes(18),
        "a gzip file": b"\x1f\x8b\x08\0" + rng.bytes(200),
        "a program": b"\x7fELF" + rng.bytes(500),
        "Photoshop": b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\5\0\0\0\5\0\x08\0\3" + rng.bytes(90),
        "FITS": b"SIMPLE  =                    T".ljust(80) * 36,
        "TGA": bytes([0, 0, 2]) + bytes(9) + b"\4\0\4\0\x18\0" + rng.bytes(48),
        "a pickle": b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
    }
    name = str(rng.choice(list(kinds)))
    return name, kinds[name]


RANDOM = (cut, flip, zero_tail, drop, insert, as_text)
