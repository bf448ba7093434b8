"""AUIF: base and detail by unrolled gradient steps (Zhao et al., IEEE TCSVT 32(3), 2022).

Each of ten layers takes one learned step of an optimisation for base and for detail: x <- x - eta [
PReLU(BN(K' (K x))) - theta (I - x) ], K' being K turned by half a turn with its channels swapped,
not a second filter. Base starts from an 11 x 11 mean of the image, detail from a 19 x 19 Laplacian.
Both are fused by the **sum** of both images; as in DIDFuse the released script never passes its
other strategies on. eta and theta are free in sign, and some are negative. The detail branch of the
released weights is nearly constant (deviation 0.006 against 0.33 to 0.41 of base), so the fused
image says little about it.

Faster, with the same result: nothing stands between K and K', so together they are one filter of 5
x 5 on one channel, the sum of the 64 autocorrelations (25 multiply-adds a pixel instead of 1152).
Only the outermost pixels differ, where the authors reflect the 64 maps between the two filters;
those one-pixel strips are computed in two steps as written.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import State, conv, inference, planes, renamed, to_uint8_round

LAYERS = 10


def reflected(x: Tensor, n: int) -> Tensor:
    """Reflect ``n`` pixels at each side."""
    return F.pad(x, (n, n, n, n), mode="reflect")


def apply_kernel_and_adjoint(x: Tensor, kernel: Tensor) -> Tensor:
    """K' (K x) in two steps as printed, for x (B, 1, H, W) and K (C, 1, 3, 3)."""
    back = kernel.flip(2, 3).transpose(0, 1)
    return F.conv2d(reflected(F.conv2d(reflected(x, 1), kernel), 1), back)


def kernel_and_adjoint_at_once(x: Tensor, kernel: Tensor) -> Tensor:
    """K' (K x) by one 5 x 5 filter, the outermost pixels by :func:`apply_kernel_and_adjoint`."""
    # K' K as one filter: sum over channels of the autocorrelation of K_c, (1, 1, 5, 5).
    once = F.conv2d(F.pad(kernel.transpose(0, 1), (2, 2, 2, 2)), kernel.transpose(0, 1))
    y = F.conv2d(reflected(x, 2), once)
    # Strips of three pixels at each side, for the outermost one.
    strips = x[..., :3, :], x[..., -3:, :], x[..., :, :3], x[..., :, -3:]
    top, bottom, left, right = (apply_kernel_and_adjoint(strip, kernel) for strip in strips)
    inner = torch.cat([left[..., :1], y[..., 1:-1], right[..., -1:]], dim=3)
    return torch.cat([top[..., :1, :], inner[..., 1:-1, :], bottom[..., -1:, :]], dim=2)


class Step(nn.Module):
    """One unrolled gradient step; ``at_once`` takes the 5 x 5 filter."""

    def __init__(self, at_once: bool = True):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(64, 1, 3, 3) / 24)
        self.eta = nn.Parameter(torch.full((1,), 0.1))
        self.theta = nn.Parameter(torch.full((1,), 0.1))
        self.norm, self.prelu = nn.BatchNorm2d(1), nn.PReLU()
        self.both = kernel_and_adjoint_at_once if at_once else apply_kernel_and_adjoint

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        # Base and detail updates of the unrolled algorithm, BN and PReLU being the learned part.
        prior = self.prelu(self.norm(self.both(x, self.kernel)))
        return x - self.eta * (prior - self.theta * (image - x))


def box(x: Tensor, size: int) -> Tensor:
    """Mean over ``size`` x ``size`` pixels, reflected at the border."""
    columns = F.avg_pool2d(reflected(x, size // 2), (size, 1), stride=1)
    return F.avg_pool2d(columns, (1, size), stride=1)


class AUIF(nn.Module):
    """Two unrolled encoders (base, detail), fusion, one convolution back.

    Parameters
    ----------
    rule : "sum" or "average"
        How bases and details of both images are fused.
    at_once : bool
        Take the faster of two equal ways, see the module's text.
    """

    def __init__(self, rule: str = "sum", at_once: bool = True):
        super().__init__()
        if rule not in ("sum", "average"):
            raise ValueError(f"rule: expected 'sum' or 'average', got {rule!r}")
        self.rule = rule
        self.base = nn.ModuleList([Step(at_once) for _ in range(LAYERS)])
        self.detail = nn.ModuleList([Step(at_once) for _ in range(LAYERS)])
        self.decoder = nn.Sequential(conv(1, 1, bias=False), nn.BatchNorm2d(1), nn.Sigmoid())

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return base and detail (B, 1, H, W) of images (B, 1, H, W) in [0, 1]."""
        base = box(image, 11)
        # Laplacian of ones with -360 in the middle, over 720: (361 mean - 361 x) / 720.
        detail = (box(image, 19) - image) * (361 / 720)
        for step in self.base:
            base = step(base, image)
        for step in self.detail:
            detail = step(detail, image)
        return base, detail

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        base, detail = self.encode(torch.cat([a, b]))
        (base_a, base_b), (detail_a, detail_b) = base.chunk(2), detail.chunk(2)
        fused = (base_a + base_b) + (detail_a + detail_b)
        return self.decoder(fused if self.rule == "sum" else fused / 2)

    @inference
    def fuse(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse two gray uint8 images (H, W), sides of 10 pixels or more, to one."""
        a, b = (planes(self, infrared, visible, smallest=10) / 255).split(1)
        return to_uint8_round(self(a, b) * 255)


def from_torch(base: State, detail: State, decoder: State) -> dict[str, Tensor]:
    """Name the tensors of the three official files as :class:`AUIF` does."""

    def steps(branch: str, official: str) -> dict[str, str]:
        return {
            rf"{official}\.(\d)\.(kernel|eta|theta)": rf"{branch}.\1.\2",
            rf"{official}\.(\d)\.rest\.0\.(\w+)": rf"{branch}.\1.norm.\2",
            rf"{official}\.(\d)\.rest\.1\.weight": rf"{branch}.\1.prelu.weight",
        }

    rules = {r"decoder\.1\.weight": "decoder.0.weight", r"decoder\.2\.(\w+)": r"decoder.1.\1"}
    tensors = renamed(base, steps("base", "conv1")) | renamed(detail, steps("detail", "conv2"))
    return tensors | renamed(decoder, rules)
