"""Reader of TensorFlow V2 checkpoints, without TensorFlow.

A checkpoint is a bundle of ``NAME.index`` and ``NAME.data-00000-of-00001``.

The index is a sorted string table (LevelDB's format): a footer points to an index block, which
points to data blocks, whose entries share prefixes of their keys. Each value is a small
protocol-buffer message: type, shape, shard, offset, size, checksum. Only what the official files of
the compared networks need is read: uncompressed blocks, one shard, plain numbers; what the
optimiser left is passed over.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

FOOTER, MAGIC = 48, bytes.fromhex("57fb808b247547db")
OPTIMISER = re.compile(r".*/Adam(_1)?|.*beta[12]_power")
# of tensorflow's DataType
TYPES: dict[int, np.dtype] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    9: np.dtype("<i8"),
}


class Variable(NamedTuple):
    """What the index says of a tensor."""

    type: np.dtype
    shape: tuple[int, ...]
    offset: int  # in the data file, in bytes
    size: int
    checksum: int


def read_index(index: bytes) -> dict[str, Variable]:
    """Return what a bundle holds by name, without the optimiser's.

    Raises
    ------
    ValueError
        Not an index, compressed or damaged, or a tensor whose size is not that of its shape.
    """
    try:
        if index[-8:] != MAGIC:
            raise ValueError("the index does not end like a TensorFlow checkpoint's")
        handle = _Reader(index[-FOOTER:])
        handle.varint(), handle.varint()  # the metaindex block is empty
        variables = {}
        for _, position in _entries(_block(index, handle.varint(), handle.varint())):
            block = _Reader(position)
            for key, message in _entries(_block(index, block.varint(), block.varint())):
                name = key.decode()
                if name and not OPTIMISER.fullmatch(name):  # the empty name holds the header
                    variables[name] = _variable(_fields(message), name)
        return variables
    except (IndexError, KeyError, TypeError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"the index is damaged ({type(error).__name__})") from None


def read_data(variables: dict[str, Variable], data: bytes) -> dict[str, np.ndarray]:
    """Return the tensors of a bundle by name, in TensorFlow's layout.

    Parameters
    ----------
    variables : dict
        From :func:`read_index`.
    data : bytes
        The data file.

    Raises
    ------
    ValueError
        Data too short, or a tensor whose checksum does not hold.
    """
    tensors = {}
    for name, variable in variables.items():
        content = data[variable.offset : variable.offset + variable.size]
        if len(content) < variable.size:
            raise ValueError(
                f"tensor {name}: expected {variable.size} bytes at {variable.offset}, the data end"
                f" at {len(data)}"
            )
        if masked_crc32c(content) != variable.checksum:
            raise ValueError(f"tensor {name}: its checksum does not hold")
        tensors[name] = np.frombuffer(content, variable.type).reshape(variable.shape).copy()
    return tensors


class _Reader:
    """Bytes that are read from front to back."""

    def __init__(self, content: bytes):
        self.content, self.position = content, 0

    def varint(self) -> int:
        """Read an integer of seven bits a byte, low bits first."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def take(self, n: int) -> bytes:
        """Read ``n`` bytes; IndexError where fewer are left."""
        taken = self.content[self.position : self.position + n]
        if len(taken) < n:
            raise IndexError
        self.position += n
        return taken

    def ended(self) -> bool:
        """Return whether all is read."""
        return self.position >= len(self.content)


def _block(index: bytes, offset: int, size: int) -> bytes:
    """Return the entries of a block, without its restart points."""
    block, kind = index[offset : offset + size], index[offset + size]
    checksum = struct.unpack_from("<I", index, offset + size + 1)[0]
    if kind != 0:
        raise ValueError("the index is compressed, which no official checkpoint is")
    if masked_crc32c(block + b"\0") != checksum:
        raise ValueError("the checksum of the index does not hold")
    restarts = struct.unpack("<I", block[-4:])[0]
    return block[: -4 * (restarts + 1)]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each entry of a block; a key shares its start with the one before."""
    reader, key = _Reader(block), b""
    while not reader.ended():
        n_shared, n_new, n_value = reader.varint(), reader.varint(), reader.varint()
        key = key[:n_shared] + reader.take(n_new)
        yield key, reader.take(n_value)


def _fields(message: bytes) -> dict[int, list]:
    """Return the fields of a protocol-buffer message by number: lists of integers or bytes."""
    reader = _Reader(message)
    fields: dict[int, list] = {}
    while not reader.ended():
        number, wire = divmod(reader.varint(), 8)
        if wire == 0:
            value: int | bytes = reader.varint()
        elif wire == 2:
            value = reader.take(reader.varint())
        elif wire == 5:
            value = struct.unpack("<I", reader.take(4))[0]
        else:
            value = struct.unpack("<Q", reader.take(8))[0]
        fields.setdefault(number, []).append(value)
    return fields


def _variable(entry: dict[int, list], name: str) -> Variable:
    """Return what an index entry says; its fields are 1 type, 2 shape, 3 shard, 4 offset, 5 size,
    6 checksum. ``name`` is for errors, which are ValueErrors.
    """
    kind, offset, size = entry[1][0], entry.get(4, [0])[0], entry[5][0]
    shard = entry.get(3, [0])[0]
    if kind not in TYPES or shard:
        raise ValueError(
            f"tensor {name}: expected one shard of numbers, got type {kind} in shard {shard}"
        )
    shape = [_fields(dimension).get(1, [0])[0] for dimension in _fields(entry[2][0]).get(2, [])]
    if size != math.prod(shape) * TYPES[kind].itemsize:
        raise ValueError(f"tensor {name}: expected the bytes of its shape {shape}, got {size}")
    return Variable(TYPES[kind], tuple(shape), offset, size, entry[6][0])


def _crc_table() -> list[int]:
    """Return the 256 remainders of the Castagnoli polynomial, bits reversed."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC_TABLE = _crc_table()


def masked_crc32c(content: bytes) -> int:
    """Return the checksum of LevelDB: CRC-32C, rotated by 15 bits, plus a constant."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = CRC_TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
