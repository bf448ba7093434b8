"""Weight files: our own pairs, and others' of PyTorch, numpy and safetensors, whole, of another
kind, damaged, or that unpack to gigabytes.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from fusionlib.networks import COMPARED
from fusionlib.networks.weights import load_checkpoint, load_unverified, save_checkpoint

from . import damage
from .case import REFUSE, UNKNOWN, Case
from .labelled import put_odd

# Method and variant of checkpoints that are one file.
NETWORKS = {"densefuse-torch-gray": ("DenseFuse", "torch-gray"), "ifcnn-max": ("IFCNN", "max")}
State = dict[str, torch.Tensor]


class Code:
    """What runs a program where a pickle of it is opened without care."""

    def __reduce__(self) -> tuple[Callable, tuple]:
        return exec, ("raise SystemExit('code was run')",)


@cache
def shapes_of(key: str) -> dict[str, torch.Size]:
    """Return names and shapes of a network's tensors."""
    method, variant = NETWORKS[key]
    network: Any = COMPARED[method].build(variant)
    return {name: value.shape for name, value in network.state_dict().items()}


def drawn(rng: np.random.Generator, key: str) -> State:
    """Return random tensors of a network."""
    return {
        name: torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
        for name, shape in shapes_of(key).items()
    }


def arrays(state: State) -> dict[str, np.ndarray]:
    """Return tensors as arrays, the truth of a file."""
    return {name: value.float().numpy() for name, value in state.items()}


# ---- what a state dict may be instead ------------------------------------------------------------


def another_shape(state: State, rng: np.random.Generator) -> None:
    name = str(rng.choice(list(state)))
    state[name] = torch.zeros(*state[name].shape, 2)


def missing(state: State, rng: np.random.Generator) -> None:
    # files of the authors lack the counters of batches, numbers without a dimension
    del state[str(rng.choice([name for name, value in state.items() if value.ndim]))]


def unknown(state: State, rng: np.random.Generator) -> None:
    state["another.weight"] = torch.zeros(3)


def not_finite(state: State, rng: np.random.Generator) -> None:
    value = state[str(rng.choice(list(state)))]
    value.view(-1)[int(rng.integers(value.numel()))] = float(rng.choice([np.nan, np.inf, -np.inf]))


def empty(state: State, rng: np.random.Generator) -> None:
    state.clear()


def whole_numbers(state: State, rng: np.random.Generator) -> None:
    for name, value in state.items():
        state[name] = value.to(torch.int64)


SPOILED = (another_shape, missing, unknown, not_finite, empty, whole_numbers)


# ---- formats -------------------------------------------------------------------------------------


def of_torch(state: State, rng: np.random.Generator) -> bytes:
    """Return a file of PyTorch: new or old, with a prefix, a wrapper or half precision."""
    content: Any = dict(state)
    if rng.random() < 0.3:
        content = {f"module.{name}": value for name, value in content.items()}
    if rng.random() < 0.3:
        content = {"epoch": 3, "state_dict": content}
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=bool(rng.random() < 0.6))
    return buffer.getvalue()


def of_numpy(state: State, rng: np.random.Generator) -> bytes:
    """Return a numpy archive."""
    buffer = io.BytesIO()
    store = np.savez_compressed if rng.random() < 0.5 else np.savez
    store(buffer, **{name: value.numpy() for name, value in state.items()})
    return buffer.getvalue()


def of_safetensors(state: State, rng: np.random.Generator) -> bytes:
    """Return a file of safetensors."""
    return save({name: value.contiguous() for name, value in state.items()})


FORMATS = {".pth": of_torch, ".npz": of_numpy, ".safetensors": of_safetensors}


def large(suffix: str, state: State) -> bytes:
    """Return a small file that unpacks to gigabytes, or states tensors of that size."""
    name = min(state)
    if suffix == ".npz":
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": (2**28, 3)}
        )
        buffer = io.BytesIO()
        with (
            zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open(f"{name}.npy", "w") as member,
        ):
            member.write(header.getvalue())
            for _ in range(300):
                member.write(bytes(2**20))
        return buffer.getvalue()
    if suffix == ".pth":
        buffer = io.BytesIO()
        torch.save({name: torch.zeros(1).expand(2**30)}, buffer)
        return buffer.getvalue()
    entry = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
    header_text = json.dumps({name: entry}).encode()
    return len(header_text).to_bytes(8, "little") + header_text


# ---- cases ---------------------------------------------------------------------------------------


def case(rng: np.random.Generator, folder: Path) -> Case:
    """Return a file of weights that is opened."""
    key = str(rng.choice(list(NETWORKS)))
    state = drawn(rng, key)
    return own(rng, folder, state) if rng.random() < 0.4 else of_others(rng, folder, key, state)


def own(rng: np.random.Generator, folder: Path, state: State) -> Case:
    """Return a pair of our own format, NAME.safetensors and NAME.json."""
    path = folder / "weights.safetensors"
    chance, recipe = rng.random(), "own"
    truth: object = arrays(state)
    if 0.1 < chance < 0.25:
        spoil = SPOILED[3:5][rng.integers(2)]
        spoil(state, rng)
        recipe, truth = f"own, {spoil.__name__}", REFUSE
    save_checkpoint(path, state, {"expert": 4})
    victim = path.with_suffix(str(rng.choice([".json", ".safetensors"])))
    if 0.25 < chance < 0.5:
        content = json.loads(path.with_suffix(".json").read_text())
        recipe, truth = f"own, {put_odd(content, rng)}", UNKNOWN
        path.with_suffix(".json").write_text(json.dumps(content))
    elif 0.5 < chance < 0.6:
        victim.unlink()
        recipe, truth = f"own without {victim.suffix}", REFUSE
    elif 0.6 < chance < 0.7:
        what, content = damage.foreign(rng)
        victim.write_bytes(content)
        recipe, truth = f"own, {victim.suffix} is {what}", REFUSE
    elif chance > 0.7:
        harm = damage.RANDOM[rng.integers(len(damage.RANDOM))]
        before = victim.read_bytes()
        victim.write_bytes(harm(before, rng))
        is_text = victim.suffix == ".json"  # blanks and words in it may change
        truth = truth if victim.read_bytes() == before else UNKNOWN if is_text else REFUSE
        recipe = f"own, {victim.suffix} {harm.__name__}"
    return Case(recipe, lambda: arrays(load_checkpoint(path)), ["weights."], truth)


# radon C: whole, of another kind, too large, foreign, damaged
def of_others(rng: np.random.Generator, folder: Path, key: str, state: State) -> Case:
    """Return a file of somebody's own training of a compared network."""
    suffix = str(rng.choice(list(FORMATS)))
    truth: object = arrays(state)
    chance, recipe, is_damaged = rng.random(), f"{key} {suffix}", False
    if 0.2 < chance < 0.5:
        spoil = SPOILED[rng.integers(len(SPOILED))]
        spoil(state, rng)
        recipe, truth = f"{recipe}, {spoil.__name__}", REFUSE
    content = FORMATS[suffix](state, rng)
    if 0.5 < chance < 0.6:
        content, truth, recipe = large(suffix, drawn(rng, key)), REFUSE, f"{recipe}, large"
    elif 0.6 < chance < 0.7:
        what, content = damage.foreign(rng)
        recipe, truth = f"{recipe} is {what}", REFUSE
    elif 0.7 < chance < 0.75:
        content, truth = pickle.dumps({"weight": Code()}), REFUSE
        recipe += " holds code"
    elif chance > 0.75:
        harm = damage.RANDOM[rng.integers(len(damage.RANDOM))]
        content, is_damaged, recipe = harm(content, rng), True, f"{recipe}, {harm.__name__}"
    path = folder / f"weights{suffix}"
    path.write_bytes(content)
    # an old PyTorch file and safetensors have no checksum, and a zip none of its directory
    return Case(
        recipe,
        lambda: arrays(load_unverified(path, key)),
        [path.name],
        truth,
        is_damaged,
        is_checked=False,
    )
