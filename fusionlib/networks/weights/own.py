"""The suite's own weight files: tensors in NAME.safetensors, their description in NAME.json.

The JSON file holds the configuration of the network, the list of tensors and checksums of both
files; each is checked against the other.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from ... import images
from ..moe_names import current
from .checkpoint import Checkpoint, check_finite
from .files import sha256
from .readers import read_safetensors

FORMAT = "fusionlib checkpoint 1"
KINDS = {"sha256": str, "config_sha256": str, "config": dict, "tensors": dict}


def save_checkpoint(
    path: str | os.PathLike, model: nn.Module | Mapping[str, Tensor], config: dict
) -> Path:
    """Write tensors to ``path`` and the configuration to the .json beside it, whole or not at all.

    Parameters
    ----------
    path : path
        With the suffix .safetensors.
    model : module or state dict
    config : dict
        Everything needed to build the network again; must be writable as JSON.

    Raises
    ------
    ValueError, TypeError, OSError
        Another suffix; a configuration that JSON cannot hold; a folder that cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: expected a name that ends in .safetensors, got {path.suffix!r}")
    try:
        text = json.dumps(config, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"config: expected what JSON can hold, got {error}") from None
    state = model.state_dict() if isinstance(model, nn.Module) else model
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    bound = {"format": FORMAT, "config_sha256": hashlib.sha256(text.encode()).hexdigest()}

    described = {
        name: {"shape": list(value.shape), "type": str(value.dtype)}
        for name, value in tensors.items()
    }

    def save(sidecar: str) -> None:
        images.write_atomically(
            path, lambda temporary: save_file(tensors, temporary, metadata=bound)
        )
        record = bound | {"sha256": sha256(path), "config": json.loads(text), "tensors": described}
        Path(sidecar).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    # The outer write renames right after the inner one: an interruption leaves the old pair or the
    # new one but for an instant.
    images.write_atomically(path.with_suffix(".json"), save)
    return path


def read_own(path: Path) -> Checkpoint:
    """Read and check both files of the suite's own format.

    Raises
    ------
    FileNotFoundError, ValueError
        One of them is missing; damaged, changed, of another save, or without tensors; NaN or
        infinite numbers.
    """
    sidecar = path.with_suffix(".json")
    for file in (path, sidecar):
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: expected a checkpoint's {file.suffix} file, found none there"
            )
    record = _read_record(sidecar)
    digest = sha256(path)
    if digest != record["sha256"]:
        raise ValueError(
            f"{path}: expected sha256 {record['sha256'][:12]} as {sidecar.name} says, got"
            f" {digest[:12]}: damaged, or of another save"
        )
    tensors = read_safetensors(path)
    shapes = {name: list(value.shape) for name, value in tensors.items()}
    if shapes != {name: entry["shape"] for name, entry in record["tensors"].items()}:
        raise ValueError(f"{path}: its tensors are not those that {sidecar.name} lists")
    if not tensors:
        raise ValueError(f"{path}: expected the tensors of a network, got none")
    check_finite(tensors, path)
    return Checkpoint(
        current(tensors), str(path), {path.name: digest}, verified=True, config=record["config"]
    )


# radon C: every field of the file is checked where it is read
def _read_record(path: Path) -> dict:
    """Return the JSON that belongs to a checkpoint; ValueError for one of another kind."""
    foreign = f"{path}: expected the JSON that belongs to a checkpoint, its content is not"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise ValueError(foreign) from None
    if not isinstance(record, dict) or "format" not in record:
        raise ValueError(foreign)
    if record["format"] != FORMAT:
        raise ValueError(f"{path}: expected format {FORMAT!r}, got {record['format']!r:.80}")
    for name, kind in KINDS.items():
        if type(value := record.get(name)) is not kind:
            raise ValueError(f"{path}: expected {name} to be a {kind.__name__}, got {value!r:.80}")
    for name, entry in record["tensors"].items():
        if not isinstance(entry, dict) or "shape" not in entry:
            raise ValueError(f"{path}: expected the shape of tensor {name}, got {entry!r:.80}")
    text = json.dumps(record["config"], sort_keys=True)
    if hashlib.sha256(text.encode()).hexdigest() != record["config_sha256"]:
        raise ValueError(f"{path}: its configuration was changed after it was saved (checksum)")
    return record
