"""Presets of a training, by the names that notebook 21 and the command line take."""

from __future__ import annotations

from dataclasses import replace

from fusionlib.networks.configuration import MoEFusionConfig
from fusionlib.training.config import (
    AugmentationConfig,
    DataConfig,
    DetectorConfig,
    OptimizationConfig,
    TrainingConfig,
)
from fusionlib.training.sources import SourceConfig

# What the official code does beyond the paper.
OFFICIAL = TrainingConfig(
    network=MoEFusionConfig("official"),
    optimization=OptimizationConfig(weight_decay=1e-4, lr_steps=(16, 22), clip=35.0, repeat=3),
)
# Two processor cores, a minute: a small network, detectors first and then kept, parts of images,
# larger steps. The detectors' attention learns faster than the rest of them: f (1 + a) gives it so
# little gradient that it would stay where it started. The convolutions behind Att learn slowly: no
# term of the loss tells foreground from background, so larger steps may well exchange the two.
SMOKE = TrainingConfig(
    DataConfig(scenes=(48, 16), size=None, crop=(40, 40)),
    MoEFusionConfig(width=8, gate_grid=((8, 10), (8, 10))),
    DetectorConfig(size="small", attention="frozen"),
    OptimizationConfig(
        detector_epochs=16,
        epochs=60,
        lr=1e-3,
        detector_lr=2e-3,
        detector_attention_lr=2e-2,
        attention_fusion_lr=1e-4,
        warm_up=10,
        decay="cosine",
    ),
)
# Ours: two processor cores, at most an hour. ``ivif/general`` holds pairs of three cameras, of
# which few are not of MSRS; shares make up for that. Attention is uniform: detectors moved the
# fused image too little to pay for their half of the time.
CAMERAS = {"msrs128_*": 0.6, "roadscene_*": 0.3, "m3fd_*": 0.1}
GENERAL = TrainingConfig(
    DataConfig(
        sources=tuple(
            SourceConfig(dataset="general", split="train", names=names, share=share)
            for names, share in CAMERAS.items()
        ),
        size=None,
        crop=(64, 64),
        flip=True,
    ),
    MoEFusionConfig(width=8, gate_grid=((8, 10), (8, 10)), knee=0.8),
    DetectorConfig(attention="uniform"),
    OptimizationConfig(
        batch=6,
        epochs=100,
        lr=1e-3,
        warm_up=50,
        decay="cosine",
        clip=1.0,
        alpha=7.0,
        gradient="signed",
        range_loss=20.0,
    ),
    augmentation=AugmentationConfig(
        gamma=0.45, contrast=0.25, offset=0.08, inverted=0.15, flat=0.05, reduced=0.5
    ),
)
# The loss of equation (5) as the paper's reading has it, and its output; only the data are changed.
GENERAL_PAPER = replace(
    GENERAL,
    network=replace(GENERAL.network, knee=None),
    optimization=replace(
        GENERAL.optimization,
        alpha=TrainingConfig().optimization.alpha,
        gradient="magnitude",
        range_loss=0.0,
    ),
)
PRESETS = {
    "smoke": SMOKE,
    "paper": TrainingConfig(),
    "official": OFFICIAL,
    "general": GENERAL,
    "general-paper": GENERAL_PAPER,
}
