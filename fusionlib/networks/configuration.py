"""The configuration of MoE-Fusion: two readings of Cao et al., ICCV 2023, and their choices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, NamedTuple

from torch import Tensor

GATE_GRID = ((120, 160), (60, 80))
Border = Literal["reflect", "zeros"]  # how a convolution goes on beyond the image


class InterpretationOptions(NamedTuple):
    """The choices in which the two readings of the network differ; the losses have their own."""

    border: Border  # of the 3x3 convolutions
    dense_relu: bool  # ReLU after every convolution of the encoders, or after the first alone
    combine: str  # of the experts
    attention_convs: bool  # two convolutions before the maximum of the attention maps
    random_gates: bool  # start of the gates: random, or zero


READINGS = {
    # ASSUMPTION: the paper names no padding; its encoders follow DenseFuse, which mirrors the
    # border, and here every 3x3 convolution does.
    "paper": InterpretationOptions(
        border="reflect", dense_relu=True, combine="sum", attention_convs=True, random_gates=True
    ),
    "official": InterpretationOptions(
        border="zeros",
        dense_relu=False,
        combine="log-sum-exp",
        attention_convs=False,
        random_gates=False,
    ),
}

CHOICES: dict[str, tuple[object, ...]] = {
    "reading": tuple(READINGS),
    "local": ("mole", "attention", "none"),
    "decoder": ("moge", "single", "wide"),
    "visible_channels": (1, 3),
    "start": (None, "average", "random"),
}


@dataclass(frozen=True)
class MoEFusionConfig:
    """The options of a :class:`MoEFusion`.

    Attributes
    ----------
    reading : "paper" or "official"
        Equations and text with the gaps filled as the ASSUMPTION lines say, or what the published
        code does.
    experts, k : int
        N experts in every mixture, even, the first half of the local ones for the visible image; K
        selected.
    width : int
        Channels C of a feature map, even. The paper's network has 16; experts shrink with it.
    gate_grid : ((h, w), (h, w)) or "full"
        Size to which the local and the global gate resize their features; "full" is ``image_size``
        for both.
    local : "mole", "attention" or "none"
        Local mixtures; "Att-Local", one 1x1 convolution of the attended features; "w/o MoLE", no
        local features.
    decoder : "moge", "single" or "wide"
        Global mixture; "w/o MoGE", one decoder that is built like one expert; or one whose hidden
        layers are widened until it takes the operations of K experts.
    background : bool
        Second local mixture on 1 - Att; without it there is equation (2) alone.
    noise : bool
        Noise on the gates' logits in training.
    visible_channels : 1 or 3
        Channels of the visible image that enter its encoder.
    image_size : (int, int), optional
        Height and width for ``gate_grid="full"``.
    knee : float in (0, 1), optional
        Bend the fused image above this value towards 1, :func:`.output.soft_knee`; ours, not the
        paper's.
    start : "average" or "random", optional
        Untrained, fuse to about the average of both images, or to nothing in particular; by default
        the paper's reading starts from the average, the official one at random.
    seed : int
        Seed of the initial parameters; nothing global is seeded.

    Raises
    ------
    ValueError
        A value outside what is described above; one sentence each.
    """

    # ASSUMPTION: the paper feeds H x W x 3 visible pixels and returns one channel; by default Y is
    # fed alone.
    # ASSUMPTION: one gate over all N experts; the first half of the local experts reads the visible
    # features, the second half the infrared ones, so that top-K may take all experts from one
    # modality (always with K = 1).
    # ASSUMPTION: equation (2) has one y_local, section 4.6 and figure 6 have foreground and
    # background experts; both mixtures exist, each with a gate, and both enter the global mixture.
    # ASSUMPTION: equation (1) has no noise, but the load loss it is trained with needs one: on in
    # training by default.
    # ASSUMPTION: equations (1) and (3) flatten whole feature maps, 39 million weights a local gate
    # at 640x480; by default the maps are first resized to 120x160 (local) and 60x80 (global), as
    # the official code does.
    # ASSUMPTION: the number of experts changes in local and global mixtures together (E2, E4, E6,
    # E8 of figure 7).

    reading: str = "paper"
    experts: int = 4
    k: int = 2
    width: int = 16
    gate_grid: Sequence[tuple[int, int]] | str = GATE_GRID
    _: KW_ONLY
    local: str = "mole"
    decoder: str = "moge"
    background: bool = True
    noise: bool = True
    visible_channels: int = 1
    image_size: tuple[int, int] | None = None
    start: str | None = None
    seed: int = 0
    knee: float | None = None

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: expected one of {allowed}, got {getattr(self, name)!r}")
        self._check_counts()
        self._grids()
        knee = self.knee
        if knee is not None and not (isinstance(knee, float) and 0 < knee < 1):
            raise ValueError(f"knee: expected None or a number between 0 and 1, got {knee!r}")

    @property
    def local_grid(self) -> tuple[int, int]:
        """Size to which the local gates resize their features."""
        return self._grids()[0]

    @property
    def global_grid(self) -> tuple[int, int]:
        """Size to which the global gate resizes its features."""
        return self._grids()[1]

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the regions with local features."""
        if self.local == "none":
            return ()
        return ("foreground", "background") if self.background else ("foreground",)

    def _check_counts(self) -> None:
        for name in ("experts", "k", "width"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name}: expected a whole number, got {getattr(self, name)!r}")
        if self.experts < 2 or self.experts % 2:
            raise ValueError(
                "experts: expected an even number, half of it for each modality, got "
                f"{self.experts}"
            )
        if not 1 <= self.k <= self.experts:
            raise ValueError(
                f"k: expected 1 to {self.experts} selected experts "
                f"(experts={self.experts}), got {self.k}"
            )
        if self.width < 2 or self.width % 2:
            raise ValueError(f"width: expected an even number of channels, got {self.width}")

    def _grids(self) -> list[tuple[int, int]]:
        """Return the grids of the local and of the global gate."""
        sizes = self.gate_grid
        if sizes == "full":
            if self.image_size is None:
                raise ValueError(
                    'image_size: expected (height, width) with gate_grid="full", got None'
                )
            sizes = (self.image_size, self.image_size)
        try:
            pairs = () if isinstance(sizes, str) else sizes
            grids = [(int(height), int(width)) for height, width in pairs]
        except (TypeError, ValueError):
            grids = []
        if len(grids) != 2 or min(min(grid) for grid in grids) < 1:
            raise ValueError(
                'gate_grid: expected ((h, w), (h, w)), local and global, or "full", '
                f"got {self.gate_grid!r}"
            )
        return grids


# radon C: type, shape and size of three tensors, one sentence each
def check_batch(
    config: MoEFusionConfig, infrared: Tensor, visible: Tensor, attention: Tensor | None
) -> None:
    """Check the types and shapes of a batch.

    Parameters
    ----------
    config : MoEFusionConfig
        Of the network that is to take the batch.
    infrared, visible, attention : tensors
        As :meth:`MoEFusion.forward` takes them.

    Raises
    ------
    TypeError, ValueError
        A tensor that a network of ``config`` does not take; the sentence names it.
    """
    expected: dict[str, tuple[Tensor | None, int]]
    expected = {"infrared": (infrared, 1), "visible": (visible, config.visible_channels)}
    if config.regions:
        expected["attention"] = attention, 2
    for name, (x, channels) in expected.items():
        batch = "B" if name == "infrared" else len(infrared)
        shape = f"a float tensor ({batch}, {channels}, height, width)"
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{name}: expected {shape}, got {kind}")
        least = 1 if name == "attention" else 2  # a single line of pixels cannot be mirrored
        fits = x.ndim == 4 and x.shape[1] == channels and len(x) == len(infrared) > 0
        if not fits or min(x.shape[2:]) < least:
            raise ValueError(
                f"{name}: expected {shape}, at least {least}x{least}, got shape {tuple(x.shape)}"
            )
    if infrared.shape[2:] != visible.shape[2:]:
        sizes = (f"{x.shape[2]}x{x.shape[3]}" for x in (infrared, visible))
        raise ValueError("infrared and visible: expected one size, got {} and {}".format(*sizes))


def widened(channels: tuple[int, ...], k: int) -> tuple[int, ...]:
    """Return the channels of a chain of four convolutions with the operations of ``k`` such."""
    inputs, a, b, c, outputs = channels
    # Widened by s, the first and the last kernels grow with s, those between with its square.
    linear, square = inputs * a + c * outputs, a * b + b * c
    s = (math.sqrt(linear**2 + 4 * square * k * (linear + square)) - linear) / (2 * square)
    return (inputs, *(round(s * n) for n in (a, b, c)), outputs)
