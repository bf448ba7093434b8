"""One Faster R-CNN per modality, with spatial attention between feature pyramid and heads.

Source: section 3.2 of Cao et al., "Multi-modal Gated Mixture of Local-to-Global Experts for Dynamic
Image Fusion", ICCV 2023, here "Cao": the detectors are the auxiliary network whose attention maps
tell the local experts where to look. Everything but the attention is torchvision's. Images are gray
(B, 1, H, W) float in [0, 1], boxes x0, y0, x1, y1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.distributed as processes
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from .. import download
from .evaluation import Boxes, detect

STRIDE = 4  # pixels between two columns of level 0 of either pyramid
Generators = Sequence[torch.Generator]


class Size(NamedTuple):
    """How large a detector is; levels are counted from the finest, one anchor size a level."""

    anchors: tuple[int, ...]  # pixels
    levels: int  # that the box head reads
    pool: int  # side of the grid an RoI is read on
    head: int  # width of the box head
    rois: int  # sampled from an image in training
    proposals: tuple[int, int]  # kept of an image in training and in use


# ASSUMPTION: of its Faster R-CNN the paper says no more; paper size is torchvision's with ResNet-50
# and a pyramid of 256 channels, and images enter at their own size, as in the official code, not
# enlarged to 800 pixels.
SIZES = {
    "resnet50": Size((32, 64, 128, 256, 512), 4, 7, 1024, 512, (2000, 1000)),
    "small": Size((8, 16, 32, 64), 3, 5, 128, 64, (200, 100)),
}


class Detected(NamedTuple):
    """Losses by torchvision's names (training only), boxes, labels and scores of each image,
    attention (B, 1, H, W).
    """

    losses: dict[str, Tensor]
    boxes: list[dict[str, Tensor]]
    attention: Tensor


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the images of all processes, which have equally many, on any
    device.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and processes.is_available() and processes.is_initialized()):
            return super().forward(x)
        from torch.distributed.nn.functional import all_reduce

        def mean_over_all(values: Tensor) -> Tensor:
            return all_reduce(values.mean(dim=(0, 2, 3))) / processes.get_world_size()

        with torch.autocast(x.device.type, enabled=False):
            wide = x.float()
            mean = mean_over_all(wide)
            centred = wide - mean[:, None, None]
            variance = mean_over_all(centred.square())
            with torch.no_grad():
                n = x.numel() / len(mean) * processes.get_world_size()
                cast(Tensor, self.running_mean).lerp_(mean, cast(float, self.momentum))
                unbiased = variance * n / (n - 1)
                cast(Tensor, self.running_var).lerp_(unbiased, cast(float, self.momentum))
                cast(Tensor, self.num_batches_tracked).add_(1)
            scale = self.weight * (variance + self.eps).rsqrt()
            return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class Attention(nn.Module):
    """Spatial attention of one modality, shared by all levels of the pyramid."""

    def __init__(self, channels: int):
        super().__init__()
        # Cao, section 3.2: "a Conv(1x1)-BN-ReLU layer and a Conv(1x1)-BN-Sigmoid layer".
        # ASSUMPTION: the channels between the two attention convolutions are half of the pyramid's,
        # as in the official code.
        half = channels // 2
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, half, 1, bias=False), BatchNorm(half), nn.ReLU()
        )
        self.score = nn.Sequential(nn.Conv2d(half, 1, 1, bias=False), BatchNorm(1), nn.Sigmoid())
        # ASSUMPTION: the start of the attention is not given. Heads can read objects that are
        # damped as well as objects that are lifted, so the sign of random weights decides which;
        # positive weights over rectified features let it start high where features are strong.
        with torch.no_grad():
            cast(nn.Conv2d, self.score[0]).weight.abs_()

    def forward(self, features: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the attended features of every level and the map of the finest, (B, 1, h, w)."""
        maps = {level: self.map(f) for level, f in features.items()}
        # ASSUMPTION: the paper does not say how the attention enters the detector; f (1 + a) as in
        # the official code, so that the detection loss trains it. The map of the finest level goes
        # to the fusion network.
        return {level: f * (1 + maps[level]) for level, f in features.items()}, maps["0"]

    def map(self, features: Tensor) -> Tensor:
        """Return the map (B, 1, h, w) of one level's features (B, C, h, w)."""
        return self.score(self.reduce(features))


class OwnSize(GeneralizedRCNNTransform):
    """torchvision's batching and ImageNet scaling without its enlargement to 800 pixels."""

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


class Sampler:
    """torchvision's choice of training boxes, drawn from a generator per image where there are
    some.

    Parameters
    ----------
    batch_size_per_image : int
        Boxes chosen of an image.
    positive_fraction : float
        Largest share of them that shows objects.
    """

    def __init__(self, batch_size_per_image: int, positive_fraction: float):
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.generators = None
        self.drawn = 0

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        def pick(wanted: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
            indices = wanted.nonzero()[:, 0]
            order = torch.randperm(len(indices), generator=generator)[:count].to(indices.device)
            return torch.zeros_like(wanted, dtype=torch.uint8).index_fill_(0, indices[order], 1)

        positives, negatives = [], []
        most = int(self.batch_size_per_image * self.positive_fraction)
        generators = self.generators or [None] * len(matched_idxs)
        for matched, generator in zip(matched_idxs, generators, strict=True):
            positive = pick(matched >= 1, most, generator)
            rest = self.batch_size_per_image - int(positive.sum())
            positives.append(positive)
            negatives.append(pick(matched == 0, rest, generator))
        self.drawn = int(sum(mask.sum() for mask in (*positives, *negatives)))
        return positives, negatives


def _shares(counts: Sequence[int], device: torch.device) -> list[float]:
    """Return what this process's means over so many boxes weigh in the mean over all processes; 1
    alone.
    """
    if not (processes.is_available() and processes.is_initialized()):
        return [1.0] * len(counts)
    total = torch.tensor(counts, dtype=torch.float64, device=device)
    processes.all_reduce(total)
    return [
        n * processes.get_world_size() / max(t, 1)
        for n, t in zip(counts, total.tolist(), strict=True)
    ]


class AttentionFasterRCNN(FasterRCNN):
    """Faster R-CNN of one modality.

    Parameters
    ----------
    classes : int
        Kinds of objects, background not counted.
    size : "resnet50" or "small"
        See :data:`SIZES`.
    pretrained : bool
        Build a ResNet-50 that is to be filled by :func:`load_imagenet`: its normalisation and first
        stage stay as they are. Otherwise everything is trained from scratch.
    seed : int
        Seed of the initial parameters; nothing global is seeded.
    """

    transform: GeneralizedRCNNTransform

    # ASSUMPTION: with ImageNet weights, normalisation layers and the first stage of the ResNet stay
    # frozen, as in the official code; from scratch everything is trained, with the statistics of
    # the whole batch.

    def __init__(
        self, classes: int, size: str = "resnet50", *, pretrained: bool = False, seed: int = 0
    ):
        if size not in SIZES:
            raise ValueError(f"size: expected one of {', '.join(SIZES)}, got {size!r}")
        if pretrained and size != "resnet50":
            raise ValueError(
                f"pretrained: ImageNet weights exist for size 'resnet50', got {size!r}"
            )
        s = SIZES[size]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            pyramid = (
                _small()
                if size == "small"
                else resnet_fpn_backbone(
                    backbone_name="resnet50",
                    weights=None,
                    norm_layer=FrozenBatchNorm2d if pretrained else BatchNorm,
                    trainable_layers=3 if pretrained else 5,
                )
            )
            super().__init__(
                pyramid,
                rpn_anchor_generator=AnchorGenerator(
                    [(a,) for a in s.anchors], [(0.5, 1.0, 2.0)] * len(s.anchors)
                ),
                box_roi_pool=MultiScaleRoIAlign(
                    [str(level) for level in range(s.levels)], s.pool, sampling_ratio=2
                ),
                box_head=TwoMLPHead(pyramid.out_channels * s.pool**2, s.head),
                box_predictor=FastRCNNPredictor(s.head, classes + 1),
                rpn_pre_nms_top_n_train=s.proposals[0],
                rpn_post_nms_top_n_train=s.proposals[0],
                rpn_pre_nms_top_n_test=s.proposals[1],
                rpn_post_nms_top_n_test=s.proposals[1],
                box_batch_size_per_image=s.rois,
            )
            self.attention = Attention(pyramid.out_channels)
        self.transform = OwnSize(1, 1, self.transform.image_mean, self.transform.image_std)
        for part in (self.rpn, self.roi_heads):
            part.fg_bg_sampler = Sampler(
                part.fg_bg_sampler.batch_size_per_image, part.fg_bg_sampler.positive_fraction
            )

    def forward(
        self,
        images: Tensor,
        targets: list[dict[str, Tensor]] | None = None,
        generators: Generators | None = None,
    ) -> Detected:
        """Look for objects in (B, 1, H, W); to train, with "boxes" and "labels" (from 1) and a
        generator of each.
        """
        samplers = self.rpn.fg_bg_sampler, self.roi_heads.fg_bg_sampler
        for sampler in samplers:
            sampler.generators = generators
        batch, features, attention = self._attend(images)
        proposals, first = self.rpn(batch, features, targets)
        boxes, second = self.roi_heads(features, proposals, batch.image_sizes, targets)
        weights = (
            _shares([sampler.drawn for sampler in samplers], images.device)
            if self.training
            else (1, 1)
        )
        losses = {
            name: weight * loss
            for part, weight in zip((first, second), weights, strict=True)
            for name, loss in part.items()
        }
        return Detected(losses, boxes, to_frame(attention, images.shape[-2:]))

    def level0(self, images: Tensor) -> Tensor:
        """Return the attention (B, 1, ceil(H/4), ceil(W/4)) alone: the pyramid runs, the heads do
        not.
        """
        # Body and pyramid in two steps: the batch is a third of the memory, and ends with the body.
        features = self.backbone.body(self._batch(images).tensors)
        features = self.backbone.fpn(features)["0"]
        return _inside(self.attention.map(features), images)

    def _attend(self, images: Tensor):
        batch = self._batch(images)
        features, attention = self.attention(self.backbone(batch.tensors))
        return batch, features, _inside(attention, images)

    def _batch(self, images: Tensor):
        # ASSUMPTION: the detectors read gray images, Y of a coloured one, replicated to three
        # channels, as in the official code.
        return self.transform(list(images.expand(-1, 3, -1, -1)))[0]


def _inside(attention: Tensor, images: Tensor) -> Tensor:
    """Return the cells of a map whose centre lies in the images: a batch is padded to multiples of
    32 pixels.
    """
    height, width = (-(-n // STRIDE) for n in images.shape[-2:])
    return attention[..., :height, :width]


def to_frame(attention: Tensor, size: Sequence[int]) -> Tensor:
    """Enlarge maps (B, C, ceil(H/4), ceil(W/4)) to ``size`` (H, W): cell i stands where it was
    read, at pixel 4 i.
    """
    height, width = (STRIDE * (n - 1) + 1 for n in attention.shape[-2:])
    maps = F.interpolate(attention.float(), (height, width), mode="bilinear", align_corners=True)
    return F.pad(maps, (0, size[1] - width, 0, size[0] - height), mode="replicate")


class Detectors(nn.Module):
    """The detectors of both modalities, optimised independently of each other and of the fusion.

    Parameters
    ----------
    classes : sequence of str
        Names of the objects; labels are their places, from 1.
    size, pretrained, seed
        As for :class:`AttentionFasterRCNN`.
    shared : bool
        One detector for both modalities, trained on the images of both: the detector that table 3
        of Cao et al. needs.
    """

    SIZES = tuple(SIZES)

    def __init__(
        self,
        classes: Sequence[str],
        size: str = "resnet50",
        *,
        pretrained: bool = False,
        shared: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        if not classes or len(set(classes)) < len(classes):
            raise ValueError(
                f"classes: expected different names, at least one, got {list(classes)}"
            )
        self.classes, self.shared = tuple(classes), shared
        self.infrared = AttentionFasterRCNN(len(classes), size, pretrained=pretrained, seed=seed)
        if shared:  # not registered a second time, or its weights would be saved twice
            object.__setattr__(self, "visible", self.infrared)
        else:
            self.visible = AttentionFasterRCNN(
                len(classes), size, pretrained=pretrained, seed=seed + 1
            )

    def forward(
        self,
        infrared: Tensor,
        visible: Tensor,
        targets: list[dict[str, Tensor]],
        generators: Generators | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the summed detection loss of each modality and the attention maps (B, 2, H, W),
        infrared first.
        """
        results = {
            "infrared": self.infrared(infrared, targets, generators),
            "visible": self.visible(visible, targets, generators),
        }
        return (
            {name: sum(result.losses.values()) for name, result in results.items()},
            torch.cat([result.attention for result in results.values()], dim=1),
        )

    def level0(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Return the maps (B, 2, ceil(H/4), ceil(W/4)); :func:`to_frame` brings them to the
        images.
        """
        return torch.cat([self.infrared.level0(infrared), self.visible.level0(visible)], dim=1)

    def attention(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Return the attention maps (B, 2, H, W) in [0, 1] of images of any size, infrared
        first.
        """
        return to_frame(self.level0(infrared, visible), infrared.shape[-2:])

    def boxes(self, image: np.ndarray, modality: str = "infrared") -> Boxes:
        """Return what the detector of a modality finds in an image (H, W) or (H, W, 3) uint8."""
        return detect(getattr(self, modality), image, self.classes)

    def load_pretrained(self, path: str | os.PathLike) -> dict[str, str]:
        """Fill both ResNets as :func:`load_imagenet` does."""
        return load_imagenet(self, path)


def _small() -> BackboneWithFPN:
    """Return a pyramid of 32 channels at strides 4, 8, 16 and 32 over five convolutions, for
    generated scenes.
    """
    channels = (16, 32, 48, 64)

    def block(i: int, o: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.GroupNorm(8, o), nn.ReLU(inplace=True)
        )

    body = nn.Sequential()
    body.add_module("stem", block(3, channels[0]))
    for level, (i, o) in enumerate(zip(channels[:-1], channels[1:], strict=True)):
        body.add_module(f"stage{level}", block(i, o))
    return BackboneWithFPN(
        body, {f"stage{level}": str(level) for level in range(3)}, list(channels[1:]), 32
    )


# ---- ImageNet weights of the ResNet --------------------------------------------------------------

IMAGENET = ResNet50_Weights.IMAGENET1K_V1
# torchvision's name ends in the first digits of its SHA-256
IMAGENET_FILE = IMAGENET.url.rsplit("/", 1)[-1]
IMAGENET_HASH = re.findall(r"-([0-9a-f]{8,})\.", IMAGENET_FILE)[0]


def imagenet_path(cache: str | os.PathLike | None = None) -> Path:
    """Return where the ImageNet weights are kept once they were fetched; by default in the user's
    cache.
    """
    import pooch

    return Path(cache or Path(pooch.os_cache("fusionlib")) / "weights" / "resnet50") / IMAGENET_FILE


def download_imagenet(cache: str | os.PathLike | None = None, progress: bool = True) -> Path:
    """Fetch torchvision's ImageNet weights of ResNet-50 (98 MB, BSD-3-Clause), checked before the
    file gets its name.

    Raises
    ------
    ConnectionError
        The server cannot be reached, or what came is not the file.
    """
    path = imagenet_path(cache)
    file = download.Wanted(path, IMAGENET.url, None, _imagenet_problem)
    for error in download.bring([file], path.parent, progress=progress).values():
        raise type(error)(f"{IMAGENET_FILE}: could not be fetched from {IMAGENET.url} ({error})")
    return path


def load_imagenet(detectors: Detectors, path: str | os.PathLike) -> dict[str, str]:
    """Fill both ResNets from torchvision's file and return ``{file name: SHA-256}``, for the
    record.

    Raises
    ------
    FileNotFoundError
        No such file; the sentence says how to get it.
    ValueError
        Not this file, or detectors that were not built with ``pretrained=True``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected {IMAGENET_FILE} of torchvision, got none there; run: "
            "fusionlib data resnet50"
        )
    if problem := _imagenet_problem(path):
        raise ValueError(f"{path}: {problem}")
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = {name: value for name, value in state.items() if not name.startswith("fc.")}
    for detector in (detectors.infrared, detectors.visible):
        if not any(isinstance(module, FrozenBatchNorm2d) for module in detector.modules()):
            raise ValueError(
                "detectors: expected ones built with pretrained=True, got ones that start from"
                " scratch"
            )
        detector.backbone.body.load_state_dict(state)
    return {path.name: _sha256(path)}


def _imagenet_problem(path: Path) -> str:
    checksum = _sha256(path)
    if checksum.startswith(IMAGENET_HASH):
        return ""
    return (
        f"expected sha256 {IMAGENET_HASH}... of {IMAGENET_FILE}, got {checksum[:12]}: truncated,"
        " damaged or another file"
    )


def _sha256(path: Path) -> str:
    import hashlib

    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
