"""Is it dynamic? A trained MoE-Fusion whose gates are decided from outside, without training
anything again.

Cao et al., ICCV 2023, hold that the gates adapt the network to each image. If so, gates that do not
see the image, or see another one, must fuse worse.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from fusionlib import images
from fusionlib.datasets.infrared_visible import Pair
from fusionlib.methods import Method
from fusionlib.networks import MoEFusion
from fusionlib.networks.mixture import Gating, MixtureOfExperts
from fusionlib.training.model import Model

Gates = dict[str, Tensor]  # weights (N,) of each gate


class _Fixed(nn.Module):
    """A gate that decides the same for every sample; stands in for a NoisyTopKGate."""

    def __init__(self, weights: Tensor):
        super().__init__()
        self.weights = weights

    def forward(self, s: Tensor, generator=None) -> Gating:
        weights = self.weights.to(s.device, torch.float32).expand(len(s), -1)
        chosen = weights[0].nonzero().flatten().expand(len(s), -1)
        return Gating(weights, chosen, (weights > 0).float().sum(dim=0), weights.sum(dim=0))


@contextlib.contextmanager
def fixed_gates(network: MoEFusion, gates: Gates) -> Iterator[None]:
    """Let the mixtures of a network use these weights, whatever their gates say; those not named
    stay.

    Raises
    ------
    ValueError
        The network has no such gate, or the weights are not one a gate's expert, not negative, with
        sum one.
    """
    parts = {
        name: part
        for name, part in (*network.local_mixtures.items(), ("global", network.decoder))
        if isinstance(part, MixtureOfExperts)
    }
    for name, weights in gates.items():
        if name not in parts:
            raise ValueError(f"gates: expected some of {', '.join(parts) or 'none'}, got {name!r}")
        count = len(parts[name].experts)
        if weights.shape != (count,) or (weights < 0).any() or abs(float(weights.sum()) - 1) > 1e-4:
            raise ValueError(
                f"gates: expected {count} weights of {name!r}, not negative and with sum one, got "
                f"{weights.tolist()}"
            )
    own = {name: parts[name].gate for name in gates}
    try:
        for name, weights in gates.items():
            parts[name].gate = _Fixed(weights)
        yield
    finally:
        for name, gate in own.items():
            parts[name].gate = gate


def own_gates(model: Model, pairs: Iterable[Pair]) -> dict[str, Gates]:
    """Return what the gates of a model decide for each pair, ``{name of the pair: {gate:
    (N,)}}``.
    """
    found = {}
    for pair in pairs:
        fusion, _ = model.predict_pair(pair.infrared, images.luma(pair.visible), details=False)
        found[pair.name] = {gate: weights[0].cpu() for gate, weights in fusion.gates.items()}
    return found


def other_gates(own: Mapping[str, Gates]) -> dict[str, dict[str, Gates]]:
    """Return what gates could decide instead, ``{control: {name of the pair: gates}}``.

    "mean gates": for each pair the mean over all pairs, which uses every expert that any pair uses.
    "uniform gates": 1/N for every expert. "swapped gates": those of the next pair, of the first for
    the last; the generated scenes take turns in their conditions, so the next pair is of another
    one.
    """
    names = list(own)
    mean = {
        gate: torch.stack([own[name][gate] for name in names]).mean(dim=0) for gate in own[names[0]]
    }
    uniform = {gate: torch.full_like(weights, 1 / len(weights)) for gate, weights in mean.items()}
    return {
        "mean gates": dict.fromkeys(names, mean),
        "uniform gates": dict.fromkeys(names, uniform),
        "swapped gates": {
            name: own[after] for name, after in zip(names, names[1:] + names[:1], strict=True)
        },
    }


def spread(own: Mapping[str, Gates]) -> pd.DataFrame:
    """Say how much the gates' decisions vary over the pairs.

    Returns
    -------
    DataFrame indexed by gate
        choices (different sets of selected experts), "most frequent" (share of the pairs that have
        the commonest one), "standard deviation" (of a weight over the pairs, averaged over
        experts), pairs.
    """
    rows = {}
    for gate in next(iter(own.values())):
        weights = torch.stack([gates[gate] for gates in own.values()])
        _, seen = (weights > 0).unique(dim=0, return_counts=True)
        rows[gate] = {
            "choices": len(seen),
            "most frequent": float(seen.max()) / len(weights),
            "standard deviation": float(weights.std(dim=0, correction=0).mean()),
            "pairs": len(weights),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


class _Controlled:
    """A model as the function of a method, its gates decided for each pair from outside."""

    def __init__(self, network: Model, decided: Mapping[bytes, Gates], device: str):
        self.network, self.decided, self.device = network, decided, device

    def __call__(self, ya: np.ndarray, yb: np.ndarray, **options) -> np.ndarray:
        with fixed_gates(self.network.fusion, self.decided[_pixels(ya, yb)]):
            return self.network.fuse(ya.astype(np.uint8), yb.astype(np.uint8), **options)


def controlled(full: Method, pairs: Sequence[Pair], own: Mapping[str, Gates]) -> dict[str, Method]:
    """Return a trained method with its gates replaced as in :func:`other_gates`; for these pairs
    alone.
    """
    pixels = {pair.name: _pixels(pair.infrared, images.luma(pair.visible)) for pair in pairs}
    methods = {}
    for control, decided in other_gates(own).items():
        gates = {pixels[name]: gates for name, gates in decided.items()}
        function = _Controlled(full.function.network, gates, full.function.device)
        methods[control] = replace(full, variant=f"{full.variant}, {control}", function=function)
    return methods


def _pixels(*gray: np.ndarray) -> bytes:
    """Return what a pair is recognised by."""
    return hashlib.sha256(b"".join(image.astype(np.uint8).tobytes() for image in gray)).digest()
