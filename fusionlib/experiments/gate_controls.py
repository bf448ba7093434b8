"""Gate controls: a trained MoE-Fusion whose gates are replaced, without training again.

Cao et al., ICCV 2023, hold that the gates adapt the network to each image. If so, gates that do not
see the image, or see another one, must fuse worse.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fusionlib import images
from fusionlib.datasets.infrared_visible import Pair
from fusionlib.methods import Method
from fusionlib.networks import MoEFusion
from fusionlib.networks.mixture import Gating, MixtureOfExperts, Noise, NoisyTopKGate
from fusionlib.training.model import Model

Gates = dict[str, Tensor]  # weights (N,) of each gate


class _FixedGate(NoisyTopKGate):
    """A gate that decides the same for every sample; weights (N,)."""

    def __init__(self, weights: Tensor):
        super().__init__(0, len(weights), int((weights > 0).sum()), noise=False)
        self.weights = weights

    def forward(self, s: Tensor, generator: Noise = None) -> Gating:
        weights = self.weights.to(s.device, torch.float32).expand(len(s), -1)
        chosen = weights[0].nonzero().flatten().expand(len(s), -1)
        return Gating(weights, chosen, (weights > 0).float().sum(dim=0), weights.sum(dim=0))


# radon C: gates are checked, replaced and put back
@contextlib.contextmanager
def fixed_gates(network: MoEFusion, gates: Gates) -> Iterator[None]:
    """Replace gates of a network by fixed weights while the context lasts.

    Parameters
    ----------
    gates : {name: (N,)}
        Gates that are not named stay.

    Raises
    ------
    ValueError
        The network has no such gate, or the weights are not one a gate's expert, not negative, with
        sum one.
    """
    mixtures = {
        name: module
        for name, module in (*network.local_mixtures.items(), ("global", network.decoder))
        if isinstance(module, MixtureOfExperts)
    }
    for name, weights in gates.items():
        if name not in mixtures:
            expected = ", ".join(mixtures) or "none"
            raise ValueError(f"gates: expected some of {expected}, got {name!r}")
        count = len(mixtures[name].experts)
        if weights.shape != (count,) or (weights < 0).any() or abs(float(weights.sum()) - 1) > 1e-4:
            raise ValueError(
                f"gates: expected {count} weights of {name!r}, not negative and with sum one, got "
                f"{weights.tolist()}"
            )
    trained = {name: mixtures[name].gate for name in gates}
    try:
        for name, weights in gates.items():
            mixtures[name].gate = _FixedGate(weights)
        yield
    finally:
        for name, gate in trained.items():
            mixtures[name].gate = gate


def set_by_hand(weights: Tensor, expert: int, weight: float) -> Tensor:
    """Return the weights (N,) of a gate with one expert's set and the others scaled to the rest,
    alike where the gate chose none of them.

    Parameters
    ----------
    expert : int
        Counted from 1.
    weight : float
        In [0, 1].
    """
    others = weights.clone()
    others[expert - 1] = 0
    if not others.any():
        others[:] = 1
        others[expert - 1] = 0
    others *= (1 - weight) / others.sum()
    others[expert - 1] = weight
    return others


def gate_decisions(model: Model, pairs: Iterable[Pair]) -> dict[str, Gates]:
    """Return the decisions of a model's gates, ``{name of the pair: {gate: (N,)}}``."""
    decisions = {}
    for pair in pairs:
        fusion, _ = model.predict_pair(pair.infrared, images.luma(pair.visible), details=False)
        decisions[pair.name] = {gate: weights[0].cpu() for gate, weights in fusion.gates.items()}
    return decisions


def control_decisions(decisions: Mapping[str, Gates]) -> dict[str, dict[str, Gates]]:
    """Return decisions that do not see the image, ``{control: {name of the pair: gates}}``.

    "mean gates": for each pair the mean over all pairs, which uses every expert that any pair uses.
    "uniform gates": 1/N for every expert. "swapped gates": those of the next pair, of the first for
    the last; the generated scenes take turns in their conditions, so the next pair is of another
    one.
    """
    names = list(decisions)
    mean = {}
    uniform = {}
    for gate in decisions[names[0]]:
        mean[gate] = torch.stack([decisions[name][gate] for name in names]).mean(dim=0)
        uniform[gate] = torch.full_like(mean[gate], 1 / len(mean[gate]))
    next_names = names[1:] + names[:1]
    return {
        "mean gates": dict.fromkeys(names, mean),
        "uniform gates": dict.fromkeys(names, uniform),
        "swapped gates": {
            name: decisions[following] for name, following in zip(names, next_names, strict=True)
        },
    }


def variation(decisions: Mapping[str, Gates]) -> pd.DataFrame:
    """Return how much the gates' decisions vary over the pairs.

    Returns
    -------
    DataFrame indexed by gate
        choices (different sets of selected experts), "most frequent" (share of the pairs that have
        the commonest one), "standard deviation" (of a weight over the pairs, averaged over
        experts), pairs.
    """
    rows = {}
    for gate in next(iter(decisions.values())):
        weights = torch.stack([gates[gate] for gates in decisions.values()])
        _, counts = (weights > 0).unique(dim=0, return_counts=True)
        rows[gate] = {
            "choices": len(counts),
            "most frequent": float(counts.max()) / len(weights),
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


class _Trained(Protocol):
    """The function of a trained MoE-Fusion method."""

    network: Model
    device: str


def controlled(
    full: Method, pairs: Sequence[Pair], decisions: Mapping[str, Gates]
) -> dict[str, Method]:
    """Return a trained method under each control of :func:`control_decisions`.

    Parameters
    ----------
    full : Method
        MoE-Fusion.
    pairs : sequence of Pair
        The only ones that the returned methods fuse.
    decisions : {name of the pair: {gate: (N,)}}
        From :func:`gate_decisions`.
    """
    trained = cast(_Trained, full.function)
    pixels = {pair.name: _pixels(pair.infrared, images.luma(pair.visible)) for pair in pairs}
    methods = {}
    for control, decided in control_decisions(decisions).items():
        gates = {pixels[name]: gates for name, gates in decided.items()}
        function = _Controlled(trained.network, gates, trained.device)
        methods[control] = replace(full, variant=f"{full.variant}, {control}", function=function)
    return methods


def _pixels(*gray: np.ndarray) -> bytes:
    """Return the checksum by which a pair is recognised."""
    return hashlib.sha256(b"".join(image.astype(np.uint8).tobytes() for image in gray)).digest()
