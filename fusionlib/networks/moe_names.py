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
    state_dict: Mapping[str, Tensor], own: Mapping[str, Tensor], image_size: tuple[int, int]
) -> dict[str, Tensor]:
    """Pick the parameters of the official reading out of an official state dict.

    Parameters
    ----------
    state_dict : mapping of str to tensor
        The official names, whatever stands before them; other entries (detectors, buffers of the
        gates) are left aside.
    own : mapping of str to tensor
        The state dict to be replaced: its names and shapes are what is looked for.
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
    found = {}
    for name, like in own.items():
        key = prefix + official_name(name)
        if key not in state_dict:
            raise ValueError(f"state_dict: expected an entry {key!r}, found none")
        if state_dict[key].shape != like.shape:
            raise ValueError(
                f"state_dict: expected {official_name(name)!r} of shape {tuple(like.shape)} for "
                f"images of {image_size[0]}x{image_size[1]}, got {tuple(state_dict[key].shape)}"
            )
        found[name] = state_dict[key]
    return found


def official_name(name: str) -> str:
    """Translate a parameter name into the official one; there _r is visible, _i infrared."""
    owner, *rest = name.split(".")
    if owner.endswith("_encoder"):
        layer = "Conv1" if rest[1] == "0" else f"DenseConv{rest[1]}"
        return f"encoder.{layer}.conv_{'r' if owner == 'visible_encoder' else 'i'}.{rest[2]}"
    if owner == "local_mixtures":
        owner = f"encoder.moe_{'fg' if rest.pop(0) == 'foreground' else 'bg'}"
        layer, first = "conv", 1
    else:
        owner, layer, first = "DecoderMoE", "decoder_Conv", 2
    if rest[0] == "gate":
        return f"{owner}.{rest[1]}"
    return f"{owner}.experts.{rest[1]}.{layer}{int(rest[3]) + first}.{rest[4]}"


def current(state_dict: Mapping[str, Any], prefix: str | None = None) -> dict[str, Any]:
    """Return a state dict with today's names where it has those of a former version of the suite.

    Parameters
    ----------
    prefix : str, optional
        What stands before the names of the fusion network; found by itself where not given.
    """
    if prefix is None:
        anchors = (key for key in state_dict if key.endswith(FORMER_ANCHOR))
        prefix = next(anchors, FORMER_ANCHOR).removesuffix(FORMER_ANCHOR)
    if prefix + FORMER_ANCHOR not in state_dict:
        return dict(state_dict)
    renamed = {}
    for key, value in state_dict.items():
        owner, dot, rest = key.removeprefix(prefix).partition(".")
        ours = key.startswith(prefix) and owner in FORMER
        renamed[f"{prefix}{FORMER[owner]}{dot}{rest}" if ours else key] = value
    return renamed


def accept_former_names(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: object
) -> None:
    """Rename what ``load_state_dict`` is about to load, if it is of a former version."""
    renamed = current(state_dict, prefix)
    state_dict.clear()
    state_dict.update(renamed)
