"""The whole MoE-Fusion model: fusion network and detectors, from images to a fused image and on
disk.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from fusionlib import images, runs
from fusionlib.datasets.infrared_visible import Pair
from fusionlib.detectors import KINDS, Detectors, average_precision
from fusionlib.networks import MoEFusion, load_checkpoint
from fusionlib.networks import inference as quick
from fusionlib.networks.compared.layers import inference
from fusionlib.networks.moe_fusion import MoEFusionOutput
from fusionlib.networks.weights import check_fits, fill
from fusionlib.training import distributed
from fusionlib.training.config import TrainingConfig
from fusionlib.training.samples import ground_truth

UNIFORM = 0.5  # attention of a model without detectors


class Model(nn.Module):
    """The fusion network with its detectors; what a training makes and :func:`load` returns.

    Attributes
    ----------
    fusion : MoEFusion
    detectors : fusionlib.detectors.Detector or None
        None where the attention is :data:`UNIFORM`.
    record : dict
        What it was trained on and how; empty while untrained.
    """

    def __init__(self, settings: TrainingConfig, attention: str):
        super().__init__()
        self.settings = settings
        self.record: dict = {}
        # layers draw a start of their own before they get that of the seed
        with torch.random.fork_rng(devices=[]):
            self.fusion = MoEFusion(**asdict(settings.network))
        self.detectors = None
        if attention != "uniform":
            chosen = settings.detectors
            self.detectors = KINDS[chosen.kind](
                settings.data.classes,
                chosen.size,
                shared=chosen.shared,
                pretrained=chosen.imagenet is not None,
                seed=settings.run.seed,
            )

    def trained_detectors(self) -> Detectors:
        """Return the detectors; ValueError where the attention is uniform and there are none."""
        if self.detectors is None:
            raise ValueError("detectors: expected a model with detectors, got uniform attention")
        return self.detectors

    @inference
    def predict_pair(
        self, infrared: np.ndarray, visible: np.ndarray, *, details: bool = True
    ) -> tuple[MoEFusionOutput, Tensor]:
        """Return all that the network makes of a pair of uint8 images of any size, and the maps (1,
        2, H, W).

        Parameters
        ----------
        infrared, visible : (H, W) uint8
        details : bool
            Also return encoder features and the output of every expert.
        """
        sources, maps = self.inputs(infrared, visible)
        return self.fusion(*sources, maps, details=details), maps

    @inference
    def fuse(
        self, infrared: np.ndarray, visible: np.ndarray, *, memory: float | None = None
    ) -> np.ndarray:
        """Fuse uint8 images (H, W), or the visible one (H, W, 3), of any size from 2x2, to a gray
        (H, W) uint8.

        Parameters
        ----------
        memory : float, optional
            GB that the process may hold while the fusion network runs on a processor, as
            :func:`fusionlib.networks.inference.fuse` takes it; the detectors before it are not
            bounded.
        """
        sources, maps = self.inputs(infrared, visible)
        if sources[0].device.type == "cpu":
            fused = quick.fuse(self.fusion, *sources, maps, memory=memory).fused
        else:
            fused = self.fusion(*sources, maps).fused
        del sources, maps
        return images.to_uint8(cast(Tensor, fused)[0, 0].double().cpu().numpy() * 255, "fused")

    def inputs(
        self, infrared: np.ndarray, visible: np.ndarray
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Return a pair as the fusion network takes it, infrared first, and the detectors' maps (1,
        2, H, W).
        """
        infrared, visible = images.check_pair(infrared, visible, ("infrared", "visible"))
        gray = [self.tensor(images.luma(image)) for image in (infrared, visible)]
        if self.detectors is None:
            maps = gray[0].new_full((1, 2, *gray[0].shape[2:]), UNIFORM)
        else:
            maps = self.detectors.attention(*gray)
        if self.fusion.config.visible_channels == 3:
            gray[1] = self.tensor(visible) if visible.ndim == 3 else gray[1].expand(-1, 3, -1, -1)
        return (gray[0], gray[1]), maps

    def tensor(self, image: np.ndarray) -> Tensor:
        """Return a uint8 image (H, W) or (H, W, 3) as (1, C, H, W) in [0, 1] on the model's
        device.
        """
        planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
        return (
            torch.from_numpy(np.ascontiguousarray(planes))
            .to(next(self.parameters()).device)[None]
            .float()
            .div_(255)
        )


def load(path: str | os.PathLike, device: str = "auto") -> Model:
    """Return the finished model of a training's folder (or of its model.safetensors), ready to
    ``fuse``.

    Raises
    ------
    FileNotFoundError, ValueError
        Not there, damaged, or not written by :func:`train`.
    """
    path = Path(path)
    # the folder of a training, or that of the notebook that holds one
    if path.suffix != ".safetensors":
        below = path / "model" / "model.safetensors"
        path = below if below.exists() else path / "model.safetensors"
    checkpoint = load_checkpoint(path)
    if not {"settings", "attention"} <= checkpoint.config.keys():
        raise ValueError(
            f"{path}: expected a checkpoint of fusionlib.training, its configuration is of"
            " something else"
        )
    try:
        settings = TrainingConfig.from_dict(checkpoint.config["settings"])
        with torch.device("meta"):  # settings may ask for more than the memory holds
            outline = Model(settings, checkpoint.config["attention"])
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path.with_suffix('.json')}: {error}") from None
    check_fits(outline, checkpoint)
    model = Model(settings, checkpoint.config["attention"])
    fill(model, checkpoint)
    model.record = checkpoint.config
    return model.eval().to(runs.device_name(device))


@torch.no_grad()
def attention_maps(model: Model, pairs: Sequence[Pair]) -> list[Tensor]:
    """Return the maps (2, ceil(H/4), ceil(W/4)) of each pair, in half precision: what a frozen
    training looks up.
    """
    detectors = model.trained_detectors().eval()
    maps = []
    for pair in pairs:
        infrared, visible = (model.tensor(images.luma(x)) for x in (pair.infrared, pair.visible))
        maps.append(detectors.level0(infrared, visible)[0].half().cpu())
    return maps


def box_ap(model: Model, pairs: Sequence[Pair]) -> dict[str, float]:
    """Return the mAP (VOC area) of either detector on pairs with boxes; processes share the
    work.
    """
    if not len(pairs) or pairs[0].boxes is None:
        return {}
    rank, world = distributed.rank_and_world()
    detectors = model.trained_detectors()
    rows = []
    for pair in (pairs[i] for i in range(rank, len(pairs), world)):
        infrared = detectors.boxes(pair.infrared, "infrared")
        visible = detectors.boxes(pair.visible, "visible")
        rows.append((ground_truth(pair, detectors.classes), infrared, visible))
    truths, *detected = zip(*distributed.gather(rows), strict=True)
    ap = [average_precision(boxes, truths, detectors.classes).mean for boxes in detected]
    return dict(zip(("ap_infrared", "ap_visible"), ap, strict=True))
