"""Other names of MoE-Fusion's parameters: of the official code, of former versions of the suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

ANCHOR = "encoder.Conv1.conv_r.weight"  # an entry that every official state dict has
FORMER_ANCHOR = "encode_visible.layers.0.weight"  # an entry that every former state dict has
FORMER = {
    "encode_visible": "visible_encoder",
    "encode_infrared": "infrared_encoder",
    "attention": "attention_fusion",
    "local_parts": "local_mixtures",
    "decode": "decoder",
}


def from_official(
    state_dict: Mapping[str, Any], expected: Mapping[str, Tensor], image_size: tuple[int, int]
) -> dict[str, Tensor]:
    """Pick the parameters of the official reading out of an official state dict.

    Parameters
    ----------
    state_dict : mapping of str to tensor
        The official names with any prefix, perhaps under "state_dict"; other entries (detectors,
        buffers of the gates) are ignored.
    expected : mapping of str to tensor
        The state dict to be replaced: the names and shapes to pick.
    image_size : (int, int)
        Height and width the official gates were made for.

    Raises
    ------
    ValueError
        An entry is missing or has another shape.
    """
    state_dict = state_dict.get("state_dict", state_dict)
    prefix = next((key.removesuffix(ANCHOR) for key in state_dict if key.endswith(ANCHOR)), None)
    if prefix is None:
        raise ValueError(
            f"state_dict: expected the official fusion head, found no entry {ANCHOR!r}"
        )
    picked = {}
    for name, like in expected.items():
        key = prefix + official_name(name)
        if key not in state_dict:
            raise ValueError(f"state_dict: expected an entry {key!r}, found none")
        if state_dict[key].shape != like.shape:
            raise ValueError(
                f"state_dict: expected {official_name(name)!r} of shape {tuple(like.shape)} for "
                f"images of {image_size[0]}x{image_size[1]}, got {tuple(state_dict[key].shape)}"
            )
        picked[name] = state_dict[key]
    return picked


def official_name(name: str) -> str:
    """Return the official name of a parameter; there _r is visible, _i infrared."""
    owner, *path = name.split(".")
    if owner.endswith("_encoder"):
        layer = "Conv1" if path[1] == "0" else f"DenseConv{path[1]}"
        return f"encoder.{layer}.conv_{'r' if owner == 'visible_encoder' else 'i'}.{path[2]}"
    if owner == "local_mixtures":
        owner = f"encoder.moe_{'fg' if path.pop(0) == 'foreground' else 'bg'}"
        layer, offset = "conv", 1
    else:
        owner, layer, offset = "DecoderMoE", "decoder_Conv", 2
    if path[0] == "gate":
        return f"{owner}.{path[1]}"
    return f"{owner}.experts.{path[1]}.{layer}{int(path[3]) + offset}.{path[4]}"


def current(state_dict: Mapping[str, Any], prefix: str | None = None) -> dict[str, Any]:
    """Return a state dict with today's names where it has those of a former version of the suite.

    Parameters
    ----------
    prefix : str, optional
        Prefix of the names of the fusion network; by default that of the first known name.
    """
    if prefix is None:
        anchors = (key for key in state_dict if key.endswith(FORMER_ANCHOR))
        prefix = next(anchors, FORMER_ANCHOR).removesuffix(FORMER_ANCHOR)
    if prefix + FORMER_ANCHOR not in state_dict:
        return dict(state_dict)
    renamed = {}
    for key, value in state_dict.items():
        owner, dot, path = key.removeprefix(prefix).partition(".")
        if key.startswith(prefix) and owner in FORMER:
            key = f"{prefix}{FORMER[owner]}{dot}{path}"
        renamed[key] = value
    return renamed


def accept_former_names(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: object
) -> None:
    """Rename a state dict of a former version in place, before ``load_state_dict`` reads it.

    Parameters
    ----------
    module : Module
        Not used; hooks get it.
    state_dict : dict
    prefix : str
        Of the module's names in it.
    """
    renamed = current(state_dict, prefix)
    state_dict.clear()
    state_dict.update(renamed)
