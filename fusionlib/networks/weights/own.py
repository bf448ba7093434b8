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

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ... import images
from ..moe_names import current
from .checkpoint import Checkpoint, sha256

FORMAT = "fusionlib checkpoint 1"


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


# radon C: every field of the file is checked where it is read
def read_own(path: Path) -> Checkpoint:
    """Read and check both files of the suite's own format.

    Raises
    ------
    FileNotFoundError, ValueError
        One of them is missing; damaged, changed or of another save.
    """
    sidecar = path.with_suffix(".json")
    for file in (path, sidecar):
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: expected a checkpoint's {file.suffix} file, found none there"
            )
    try:
        record = json.loads(sidecar.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"{sidecar}: expected format {FORMAT!r}, got {record['format']!r}")
        config, expected, described = record["config"], record["sha256"], record["tensors"]
        config_sum = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
        if config_sum != record["config_sha256"]:
            raise ValueError(
                f"{sidecar}: its configuration was changed after it was saved (checksum)"
            )
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(
            f"{sidecar}: expected the JSON that belongs to a checkpoint, its content is not"
        ) from None
    digest = sha256(path)
    if digest != expected:
        raise ValueError(
            f"{path}: expected sha256 {expected[:12]} as {sidecar.name} says, got {digest[:12]}:"
            " damaged, or of another save"
        )
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from None
    shapes = {name: list(value.shape) for name, value in tensors.items()}
    if shapes != {name: entry["shape"] for name, entry in described.items()}:
        raise ValueError(f"{path}: its tensors are not those that {sidecar.name} lists")
    return Checkpoint(
        current(tensors), str(path), {path.name: digest}, verified=True, config=config
    )
