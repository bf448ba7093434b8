"""Table 3 of MoE-Fusion: AP of one detector, trained on the source images, on fused images.

Cao et al., ICCV 2023, section 4.6: "we first train the object detection model using infrared images
and visible images", then give it the fused images of each method. The training is
:func:`fusionlib.training.train` with a shared detector; here is what it trains on, and what is
measured afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from fusionlib import groups, images, methods, runs
from fusionlib.datasets.infrared_visible import Pair
from fusionlib.detectors import (
    Boxes,
    Detector,
    average_precision,
    bootstrap,
    percentiles,
    resampled,
)
from fusionlib.experiments.fused_folders import picture
from fusionlib.experiments.protocol import resized
from fusionlib.networks.configuration import MoEFusionConfig
from fusionlib.training.config import TrainingConfig
from fusionlib.training.model import Model
from fusionlib.training.model import load as load_model
from fusionlib.training.samples import ground_truth

UNION = "union"
MARGIN = 1.0  # ASSUMPTION: below one point of mAP two rows are alike; the paper states no margin.
SOURCES = ("Visible", "Infrared")  # the first rows of the table, by the names that are printed
# Mode of detectors.evaluation -> name in the column "convention" of results. The first is held
# against the printed table.
CONVENTIONS = {"area": "moe-fusion", "11-point": "voc-11-point", "coco": "coco-ap50"}
# A training also builds a fusion network. No epoch of it is trained here, so it is as small as can
# be.
FUSION = MoEFusionConfig(width=2, experts=2, k=1, gate_grid=((1, 1), (1, 1)))


def recipe(detector: str = "resnet50", epochs: int = 24, **changes) -> TrainingConfig:
    """Return the settings of a training of one detector for both modalities.

    ASSUMPTION: how the detector of table 3 was trained is not given; the defaults are those of the
    auxiliary detectors: Adam with 1e-4, 24 epochs, batches of 4, one detector that sees each image
    of either modality once an epoch.

    Parameters
    ----------
    detector : str
        Its size, "resnet50" or "small".
    epochs : int
    **changes
        Groups of a TrainingConfig, such as ``data={"size": None}``.
    """
    values = {
        "detectors": {"size": detector, "shared": True, "attention": "frozen"},
        "optimization": {"epochs": 0, "detector_epochs": epochs},
        "run.ap_every": max(epochs, 1),
    }
    base = TrainingConfig(network=FUSION)
    return TrainingConfig.from_dict(changes, TrainingConfig.from_dict(values, base))


# "paper": the method's size; ImageNet weights by detectors.imagenet. "small": half a minute on one
# core, for generated scenes.
PRESETS = {
    "paper": recipe(),
    "small": recipe(
        "small",
        10,
        data={"scenes": (200, 48), "size": (96, 128), "flip": True},
        optimization={"lr": 3e-3, "detector_attention_lr": 2e-2, "warm_up": 10, "decay": "cosine"},
    ),
}


# below the folder of the package: preset "small", as notebook 27 leaves it
ARTEFACT = "fusionlib/included/models/detector"


def load(folder: str | os.PathLike = "", device: str = "auto") -> Model:
    """Return the finished training of a shared detector; "" is the small one that comes with the
    suite.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`fusionlib.training.model.load`; also where the detectors of that training are not
        one.
    """
    model = load_model(folder or runs.root() / ARTEFACT, device)
    if model.detectors is None or not model.detectors.shared:
        raise ValueError(
            f"detector: expected the training of one detector for both modalities, got {folder},"
            f" which has {'none' if model.detectors is None else 'one for each'}"
        )
    return model


def describe_detector(model: Model, trained_on: str = UNION) -> str:
    """Describe the training of a detector in a few words, for the column ``status`` of results."""
    start = model.record["backbones"]
    return (
        f"detector {model.settings.detectors.size},"
        f" {start if isinstance(start, str) else 'from ImageNet'},"
        f" {model.settings.optimization.detector_epochs} epochs on {trained_on} of"
        f" {model.record['data']['pairs']} pairs"
    )


class TrainedOn(Sequence):
    """The pairs as the detector is to see them; both of its modalities get the same image unless
    that is the union.

    Parameters
    ----------
    pairs : sequence of Pair
    what : str
        "union": infrared and visible images; else the name of a method, whose fused images are
        taken; "infrared" and "visible" are such names.
    method : Method, optional
        The method, where it needs weights of its own.
    folder : path, optional
        Where fused images are kept from one epoch to the next; the sources need none.

    Raises
    ------
    ValueError
        No such method, or pairs in which nobody has looked for objects.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        what: str = UNION,
        method: methods.Method | None = None,
        folder: str | os.PathLike | None = None,
    ):
        if not len(pairs) or pairs[0].boxes is None:
            raise ValueError(
                "pairs: expected pairs with boxes (annotations.json) to train a detector on, got "
                f"{len(pairs)} without"
            )
        self.pairs, self.folder = pairs, None if folder is None else Path(folder)
        self.method = None if what == UNION else method or methods.get(what)
        # Part of the names, so that a training never goes on with images of another kind.
        self.names = [
            f"{name} ({what})"
            for name in getattr(pairs, "names", None) or (pair.name for pair in pairs)
        ]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> Pair:  # type: ignore[override]  # no slices
        pair = self.pairs[number]
        if self.method is None:
            return pair
        path = None if self.folder is None else self.folder / f"{pair.name}.png"
        if path is not None and path.exists():
            image = images.read(path)
        else:
            image = self.method.fuse(images.luma(pair.infrared), images.luma(pair.visible))
            if path is not None:
                images.write(path, image)
        return replace(pair, infrared=image, visible=image)


def detect_in_all(
    detectors: Detector,
    pairs: Iterable[Pair],
    fused: Mapping[str, Mapping[str, Path]],
    progress: bool = True,
) -> tuple[list[Boxes], dict[str, list[Boxes]]]:
    """Detect in the sources and in fused images.

    ASSUMPTION: images are looked at in the size of the pairs, which is that of the training; a
    fused image of another size is resized to it first.

    Parameters
    ----------
    detectors : fusionlib.detectors.Detector
    pairs : iterable of Pair
    fused : {method: {name of a pair: path}}
        From :func:`fusionlib.experiments.fused_folders.gather`.
    progress : bool
        Show a bar.

    Returns
    -------
    list of Boxes, {method: list of Boxes}
        The annotated objects, and the detected ones by row of the table; an entry a pair.
    """
    truth = []
    detected: dict[str, list[Boxes]] = {name: [] for name in (*SOURCES, *fused)}
    for pair in tqdm(pairs, "detect", disable=not progress, mininterval=1):
        truth.append(annotated(pair, detectors.classes))
        shown = {"Visible": images.luma(pair.visible), "Infrared": pair.infrared}
        shown |= {
            name: picture(paths[pair.name], pair.infrared.shape) for name, paths in fused.items()
        }
        for name, image in shown.items():
            detected[name].append(detectors.boxes(image))
    return truth, detected


def annotated(pair: Pair, classes: Sequence[str]) -> Boxes:
    """Return the objects of a pair and what is ignored in it, without those of other classes;
    ValueError for a box outside its image.
    """
    known = [label in classes for label in pair.labels]
    labels = [label for label in pair.labels if label in classes]
    kept = replace(pair, boxes=np.asarray(pair.boxes)[known], labels=labels)
    return ground_truth(kept, classes)


def detections_above(model: Model, image: np.ndarray, least: float = 0.5) -> Boxes:
    """Return the detections in an image of any size with a score of at least ``least``.

    The image is looked at in the size of the training, if that had one; the boxes are those of the
    image as it came.

    Parameters
    ----------
    model : Model
    image : (H, W) or (H, W, 3) uint8
    least : float
        In [0, 1].
    """
    size = model.settings.data.size or image.shape[:2]
    gray = images.luma(image)
    same = gray.shape == tuple(size)
    boxes = model.trained_detectors().boxes(gray if same else resized(gray, size))
    scores = np.asarray(boxes.scores)
    kept = scores >= least
    scale = np.tile(np.divide(gray.shape[::-1], size[::-1]), 2)
    return Boxes(
        boxes.corners[kept] * scale,
        [label for label, keep in zip(boxes.labels, kept, strict=True) if keep],
        scores[kept],
    )


def scores(
    detected: Mapping[str, Sequence[Boxes]],
    truth: Sequence[Boxes],
    classes: Sequence[str],
    draws: int = 1000,
    seed: int = 0,
    groups_of_images: Sequence[Hashable] | None = None,
) -> pd.DataFrame:
    """Score the rows of the table in all three definitions of average precision.

    Parameters
    ----------
    detected : {method: sequence of Boxes}
        From :func:`detect_in_all`.
    truth : sequence of Boxes
    classes : sequence of str
    draws, seed : int
        Repetitions of drawing the images anew, for the 95 % intervals, and what they are drawn
        from.
    groups_of_images : sequence, optional
        A label an image; whole groups are drawn then, as neighbouring frames resemble each other.

    Returns
    -------
    DataFrame
        method, metric ("AP person", ..., "mAP"), convention (:data:`CONVENTIONS`), value, low, high
        in percent (no interval but in the first convention), n_images.
    """
    level, rows = _level(groups_of_images), []
    for method, boxes in detected.items():
        for mode, convention in CONVENTIONS.items():
            ap = average_precision(boxes, truth, classes, mode)
            first, ends = convention == CONVENTIONS["area"], {}
            if first:
                ends = bootstrap(
                    boxes,
                    truth,
                    classes,
                    mode,
                    groups=groups_of_images,
                    samples=draws,
                    level=level,
                    seed=seed,
                )
            for name, value in {**ap.ap, "mAP": ap.mean}.items():
                low, high = ends.get(name, (np.nan, np.nan))
                rows.append(
                    {
                        "method": method,
                        "metric": metric(name),
                        "convention": convention,
                        "value": 100 * value,
                        "low": 100 * low,
                        "high": 100 * high,
                        "n_images": len(truth),
                    }
                )
    return pd.DataFrame(rows)


def _level(groups_of_images: Sequence[Hashable] | None) -> float:
    """Return the level of percentiles that hold 95 %: a higher one over few groups."""
    if groups_of_images is None:
        return 0.95
    return groups.expanded(0.95, len(set(groups_of_images)))


def metric(name: str) -> str:
    """Return the name of a class's AP as ``data/published`` has it."""
    return name if name == "mAP" else f"AP {name}"


def compare_to_baseline(
    detected: Mapping[str, Sequence[Boxes]],
    truth: Sequence[Boxes],
    classes: Sequence[str],
    baseline: str = "Infrared",
    draws: int = 1000,
    seed: int = 0,
    groups_of_images: Sequence[Hashable] | None = None,
    margin: float = 0.0,
) -> pd.DataFrame:
    """Compare the mAP (VOC area) of each row with that of a baseline, both on the same images
    drawn anew.

    Parameters
    ----------
    detected, truth, classes, draws, seed, groups_of_images
        As for :func:`scores`.
    baseline : str
        A row.
    margin : float
        In points of percent; 0: nothing is called equivalent.

    Returns
    -------
    DataFrame indexed by method
        difference in points of percent, low, high (95 %), verdict: "equivalent" where the whole
        interval is inside the margin, else "higher", "lower" or "no difference shown"; "too few
        groups for a verdict" where they are known and few.
    """
    area = {name: average_precision(boxes, truth, classes).mean for name, boxes in detected.items()}
    drawn = {
        name: resampled(boxes, truth, classes, groups=groups_of_images, samples=draws, seed=seed)[
            "mAP"
        ]
        for name, boxes in detected.items()
    }
    few = groups_of_images is not None and len(set(groups_of_images)) < groups.FEWEST
    level, rows = _level(groups_of_images), {}
    for name in detected:
        if name != baseline:
            ends = percentiles(drawn[name] - drawn[baseline], level)
            low, high = (100 * end for end in ends)
            verdict = groups.TOO_FEW if few else _verdict(low, high, margin)
            rows[name] = {
                "difference": 100 * (area[name] - area[baseline]),
                "low": low,
                "high": high,
                "verdict": verdict,
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def _verdict(low: float, high: float, margin: float) -> str:
    """Say what the interval of a difference shows."""
    if -margin < low and high < margin:
        return "equivalent"
    if low > 0 or high < 0:
        return "higher" if low > 0 else "lower"
    return "no difference shown"


def shuffled_baseline(
    detected: Mapping[str, Sequence[Boxes]], truth: Sequence[Boxes], classes: Sequence[str]
) -> pd.DataFrame:
    """Return the AP (VOC area) in percent when each image's detections are held against the objects
    of the next one.

    Parameters
    ----------
    detected : mapping of str to sequence of Boxes
        Row of the table -> detections, an entry an image.
    truth : sequence of Boxes
        Annotated objects of the same images.
    classes : sequence of str

    Returns
    -------
    DataFrame
        A row for each of the table, the columns "AP person", ..., "mAP".
    """
    next_truth = [*truth[1:], truth[0]]
    rows = {}
    for name, boxes in detected.items():
        precision = average_precision(boxes, next_truth, classes)
        values = {**precision.ap, "mAP": precision.mean}
        rows[name] = {metric(kind): 100 * value for kind, value in values.items()}
    return pd.DataFrame(rows).T


def curves(
    detected: Mapping[str, Sequence[Boxes]], truth: Sequence[Boxes], classes: Sequence[str]
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return {class: {row: (recall, precision)}}, a point for each detection by falling score.

    Parameters
    ----------
    detected, truth, classes
        As for :func:`shuffled_baseline`.
    """
    scored = {name: average_precision(boxes, truth, classes) for name, boxes in detected.items()}
    return {name: {row: ap.curves[name] for row, ap in scored.items()} for name in classes}
