"""Training samples: the pairs of each step, their crops and flips, and the detectors' targets.

Every choice is drawn from the key (seed, epoch, step, position in the batch), so it does not depend
on what ran before, on the number of processes, or on who reads the images.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fusionlib import images
from fusionlib.datasets.infrared_visible import Pair
from fusionlib.detectors import Boxes, to_frame
from fusionlib.training import augmentation
from fusionlib.training.config import AugmentationConfig
from fusionlib.training.sources import JoinedPairs, draw

Key = tuple[int, ...]
ORDER, CROP, NOISE, AUGMENT = 1, 2, 3, 4  # purposes that never share random numbers
MIN_VISIBLE_SHARE = 0.4  # of a box that a crop cuts


def keyed_rng(purpose: int, *key: int) -> np.random.Generator:
    """Return the generator of a purpose and a key."""
    return np.random.default_rng([purpose, *key])


def noise(key: Key) -> torch.Generator:
    """Return the generator of a sample's noise: of its gates, and of the boxes its detectors train
    on.
    """
    return torch.Generator().manual_seed(int(keyed_rng(NOISE, *key).integers(2**63)))


def batch_schedule(
    pairs: Sequence[Pair], batch: int, repeat: int, seed: int, epoch: int
) -> list[list[tuple[int, Key]]]:
    """Return the batches of an epoch: of each sample the number of its pair and its key.

    Parameters
    ----------
    pairs : sequence of Pair
        Those of several sources, :class:`.sources.JoinedPairs`, come by their shares.
    batch : int
        Samples in a batch.
    repeat : int
        Times that every pair comes; the last batch is filled up from the beginning.
    seed, epoch : int
        What the order is drawn from.
    """
    rng = keyed_rng(ORDER, seed, epoch)
    if isinstance(pairs, JoinedPairs):
        numbers = draw(pairs.counts, pairs.shares, len(pairs) * repeat, rng)
    else:
        numbers = np.concatenate([rng.permutation(len(pairs)) for _ in range(repeat)])
    rows = np.resize(numbers, (-(-len(numbers) // batch), batch)).tolist()
    return [
        [(number, (seed, epoch, step, position)) for position, number in enumerate(row)]
        for step, row in enumerate(rows)
    ]


def target(pair: Pair, classes: Sequence[str]) -> dict[str, Tensor]:
    """Return the objects' boxes as corners x0, y0, x1, y1 and labels as numbers from 1; what a pair
    says to ignore is no target.

    Raises
    ------
    ValueError
        A box outside the image or without area, or an unknown class; the sentence names the pair.
    """
    boxes = np.asarray(() if pair.boxes is None else pair.boxes, np.float64).reshape(-1, 4)
    corners = np.c_[boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]
    height, width = pair.infrared.shape[:2]
    if unknown := sorted(set(pair.labels) - set(classes)):
        raise ValueError(
            f"{pair.name}: expected classes out of {', '.join(classes)}, got {unknown[0]!r}"
        )
    limits = np.array([width, height] * 2)
    for box, corner in zip(boxes, corners, strict=True):
        outside = (corner < -1e-6).any() or (corner > limits + 1e-6).any()
        if not (box[2:] > 0).all() or outside:
            raise ValueError(
                f"{pair.name}: expected boxes x, y, width, height inside {height}x{width} (height x"
                f" width), got {box.tolist()}"
            )
    labels = torch.tensor([classes.index(label) + 1 for label in pair.labels], dtype=torch.int64)
    return {"boxes": torch.from_numpy(corners).float(), "labels": labels}


def ground_truth(pair: Pair, classes: Sequence[str]) -> Boxes:
    """Return what detections in a pair are scored against: its objects, and what is ignored of
    these classes; raises as :func:`target`.
    """
    objects = target(pair, classes)["boxes"].numpy()
    boxes, labels, kinds = pair.ignored
    chosen = [i for i, label in enumerate(labels) if label in classes]
    corners = np.c_[boxes[:, :2], boxes[:, :2] + boxes[:, 2:]][chosen]
    return Boxes(
        np.r_[objects, corners],
        [*pair.labels, *(labels[i] for i in chosen)],
        kinds=["object"] * len(objects) + [kinds[i] for i in chosen],
    )


class Samples(torch.utils.data.Dataset):
    """The pairs as samples, read when asked for.

    Parameters
    ----------
    pairs : sequence of Pair
    classes : sequence of str
    annotated : bool
        Whether every pair must have been looked at for boxes.
    colour : bool
        Also give the visible image in three channels.
    crop : (int, int), optional
        Height and width of a random part.
    flip : bool
        Mirror every second sample, left to right.
    maps : sequence of (2, h, w), optional
        Attention maps of each pair at a quarter of its size, to go with the images.
    augmented : AugmentationConfig, optional
        What is changed about the images; nothing by default.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        classes: Sequence[str],
        annotated: bool,
        colour: bool = False,
        crop: tuple[int, int] | None = None,
        flip: bool = False,
        maps: Sequence[Tensor] | None = None,
        augmented: AugmentationConfig | None = None,
    ):
        self.pairs, self.classes, self.annotated, self.colour = pairs, classes, annotated, colour
        self.crop, self.flip, self.maps = crop, flip, maps
        self.augmented = AugmentationConfig() if augmented is None else augmented

    # radon C: what belongs to a sample, each part if it was asked for
    def __getitem__(self, item: tuple[int, Key]) -> dict:
        """Return name, key, target and planes (C, H, W) in [0, 1]: infrared, Y, if asked for R, G,
        B and two maps.
        """
        number, key = item
        pair, rng = self.pairs[number], keyed_rng(CROP, *key)
        names = f"{pair.name} infrared", f"{pair.name} visible"
        infrared, visible = images.check_pair(pair.infrared, pair.visible, names)
        if self.annotated and pair.boxes is None:
            raise ValueError(
                f"{pair.name}: expected an annotation, as the first pair has (an empty one if there"
                " is no object), got none"
            )
        planes = [images.luma(infrared), images.luma(visible)]
        goal = target(pair, self.classes)
        if self.colour:
            planes += list(np.moveaxis(visible, -1, 0)) if visible.ndim == 3 else [visible] * 3
        sample = torch.from_numpy(np.stack(planes)).float() / 255
        chance = keyed_rng(AUGMENT, *key)
        if self.maps is not None:
            sample = torch.cat([sample, to_frame(self.maps[number][None], sample.shape[1:])[0]])
        if chance.random() < self.augmented.reduced:
            sample, goal = augmentation.reduce(sample, goal, self.crop or (0, 0))
        if self.crop:
            sample, goal = random_crop(sample, goal, self.crop, rng, pair.name)
        if self.flip and rng.random() < 0.5:
            x0, y0, x1, y1 = goal["boxes"].unbind(1)
            width = sample.shape[-1]
            sample = sample.flip(-1)
            goal["boxes"] = torch.stack([width - x1, y0, width - x0, y1], dim=1)
        if self.augmented != AugmentationConfig():
            sample = augmentation.change_exposure(sample, self.augmented, chance, len(planes))
        return {"name": pair.name, "key": key, "planes": sample, "target": goal}


def random_crop(
    sample: Tensor,
    goal: dict[str, Tensor],
    size: tuple[int, int],
    rng: np.random.Generator,
    name: str,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return a random part of a sample with what is left of its boxes.

    ASSUMPTION: training on parts of images is not in the paper; where it is asked for, a box that
    is cut stays if at least 40 % of its area is inside.

    Parameters
    ----------
    sample : (C, H, W)
    goal : dict
        From :func:`target`.
    size : (int, int)
        Height and width of the part; ValueError if the sample is smaller.
    name : str
        Of the pair, for that sentence.
    """
    (height, width), (h, w) = sample.shape[1:], size
    if h > height or w > width:
        raise ValueError(
            f"crop: expected at most {height}x{width}, the size of {name}, got {h}x{w}"
        )
    y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    boxes = goal["boxes"] - torch.tensor([x, y, x, y])
    inside = torch.minimum(boxes.clamp_min(0), torch.tensor([w, h, w, h]))
    visible = (inside[:, 2:] - inside[:, :2]).clamp_min(0).prod(1)
    kept = visible / (boxes[:, 2:] - boxes[:, :2]).prod(1) >= MIN_VISIBLE_SHARE
    cropped = {"boxes": inside[kept], "labels": goal["labels"][kept]}
    return sample[:, y : y + h, x : x + w], cropped


def collate(batch: list[dict]) -> dict:
    """Join samples to names, keys, targets and planes (B, C, H, W).

    Raises
    ------
    ValueError
        Images of different sizes.
    """
    sizes = {tuple(sample["planes"].shape[1:]): sample["name"] for sample in batch}
    if len(sizes) > 1:
        met = " and ".join(f"{name} {h}x{w}" for (h, w), name in list(sizes.items())[:2])
        raise ValueError(
            f"size: expected images of one size in a batch, got {met} (height x width); set"
            " data.size or data.crop"
        )
    joined = {name: [sample[name] for sample in batch] for name in ("name", "key", "target")}
    return joined | {"planes": torch.stack([sample["planes"] for sample in batch])}


def make_loader(
    dataset: Samples, schedule: list[list], workers: int | None, device: torch.device
) -> torch.utils.data.DataLoader:
    """Return the loader of batches; workers stay from one epoch to the next.

    Parameters
    ----------
    schedule : list of list
        Batches as :func:`batch_schedule` gives them; it may be filled anew before each epoch.
    workers : int, optional
        Processes that read images. None: one a core, at most 4, for a GPU; none on a processor,
        where they would take cores from the training. What they give does not depend on it.
    device : torch.device
        Of the training; for a GPU batches come in pinned memory.
    """
    gpu = device.type == "cuda"
    if workers is None:
        workers = min(4, os.cpu_count() or 1) if gpu else 0
    return torch.utils.data.DataLoader(
        dataset,
        batch_sampler=schedule,
        num_workers=workers,
        collate_fn=collate,
        # its own: else it would draw from the global one
        generator=torch.Generator(),
        pin_memory=gpu,
        persistent_workers=workers > 0,
    )
