"""The output of MoE-Fusion, and what its stages share during a forward pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from .mixture import Noise


@dataclass
class MoEFusionOutput:
    """The output of a forward pass.

    Attributes
    ----------
    fused : (B, 1, H, W)
        The fused image on the scale of the inputs, not clipped.
    gates : dict of (B, N)
        Weights of "foreground", "background" and "global", as far as the variant has them: K
        non-zero a row, sum one.
    loads, importances : dict of (N,)
        Per gate, over the batch; see :class:`fusionlib.networks.mixture.Gating`.
    local_features : dict of (B, C, H, W)
        y_local of "foreground" and "background".
    attention : (B, 1, H, W) or None
        Att in [0, 1]; None without local features.
    dense_features, expert_outputs : dict
        With ``details=True``: "infrared" and "visible" x_dense (B, 4C, H, W), and what each expert,
        selected or not, makes of its input, (B, N, C, H, W), of the global ones (B, N, 1, H, W).
    """

    fused: Tensor
    gates: dict[str, Tensor] = field(default_factory=dict)
    loads: dict[str, Tensor] = field(default_factory=dict)
    importances: dict[str, Tensor] = field(default_factory=dict)
    local_features: dict[str, Tensor] = field(default_factory=dict)
    attention: Tensor | None = None
    dense_features: dict[str, Tensor] = field(default_factory=dict)
    expert_outputs: dict[str, Tensor] = field(default_factory=dict)

    def single_modality(self) -> dict[str, Tensor]:
        """Return for each local gate which images only one modality's experts serve, (B,) bool."""
        single = {}
        for name, gate in self.gates.items():
            if name != "global":
                visible, infrared = (gate > 0).chunk(2, dim=1)
                single[name] = visible.any(dim=1) != infrared.any(dim=1)
        return single


class ForwardPass(NamedTuple):
    """What the stages of one forward pass share, by the names of :meth:`MoEFusion.forward`."""

    out: MoEFusionOutput
    generator: Noise
    details: bool


def soft_knee(fused: Tensor, start: float) -> Tensor:
    """Return a fused image bent towards 1 above ``start``: identity below, never more than 1.

    Ours, not the paper's: where both sources are bright their sum leaves the range of a file; the
    bend keeps what is cut off otherwise. The lower end stays, since a bend there lifts blacks.

    Parameters
    ----------
    fused : tensor of any shape
    start : float in (0, 1)
    """
    room = 1 - start
    bent = start + room * torch.tanh((fused - start) / room)  # slope and bend go on at start
    return torch.where(fused > start, bent, fused)
