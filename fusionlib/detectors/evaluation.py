"""Detection metrics: average precision at IoU 0.5 in three modes, curves, and intervals over
images.

Table 3 of Cao et al., ICCV 2023, prints AP at IoU 0.5 and does not say which of the three common
definitions it is:

- ``"area"``: Pascal VOC since 2010, the area under the monotone precision-recall curve;
  mmdetection's default and ours;
- ``"11-point"``: Pascal VOC 2007, the mean of that curve at recall 0, 0.1, ..., 1;
- ``"coco"``: COCO's AP50, its mean at 101 recalls, with COCO's own matching, by pycocotools.

ASSUMPTION: of the three definitions of AP at IoU 0.5 table 3 may use, the default is VOC area, as
in mmdetection, with which the official code was written; boxes are continuous, without the extra
pixel of older mmdetection versions.

What a truth says to ignore is neither to be found nor wrong to find. In mode "coco" it is
pycocotools' crowd. In VOC's modes an ignored object is VOC's ``difficult``: a detection that
overlaps it most, by an IoU of at least 0.5, does not count.

ASSUMPTION: VOC has no crowd regions; in its modes, a detection that would be wrong does not count
where at least half of it lies in one, as in COCO. pycocotools reads ``iscrowd`` alone; a box that a
file says to ``ignore``, or that VOC calls difficult, is handed to it as crowd.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from .. import images

MODES = ("area", "11-point", "coco")
KINDS = ("object", "ignored", "crowd")
IOU = 0.5
COCO_LIMIT = 100  # detections of an image that COCO counts


class Boxes(NamedTuple):
    """Objects of one image: ``corners`` (n, 4) x0, y0, x1, y1 in pixels, a label each, if detected
    a score each, and in a truth one of :data:`KINDS` each (None: all are objects).
    """

    corners: np.ndarray
    labels: Sequence[str]
    scores: np.ndarray | None = None
    kinds: Sequence[str] | None = None

    def mask(self, kind: str) -> np.ndarray:
        """Return which of the boxes are of a kind, (n,) bool."""
        kinds = ["object"] * len(self.labels) if self.kinds is None else self.kinds
        return np.array([entry == kind for entry in kinds], bool)


@dataclass(frozen=True)
class Precision:
    """Average precision.

    Attributes
    ----------
    ap : dict of str to float
        By class, in [0, 1]; NaN where no image shows the class.
    mean : float
        mAP over the classes that occur.
    curves : dict of str to (recall, precision)
        Two arrays a class: a point for each detection by falling score, or COCO's 101 points.
    """

    ap: dict[str, float]
    mean: float
    curves: dict[str, tuple[np.ndarray, np.ndarray]]


def average_precision(
    detected: Sequence[Boxes], truth: Sequence[Boxes], classes: Sequence[str], mode: str = "area"
) -> Precision:
    """Score the detections of some images.

    Parameters
    ----------
    detected, truth : sequence of Boxes
        What was detected (with scores) and what is there, one an image, in one order.
    classes : sequence of str
    mode : "area", "11-point" or "coco"

    Raises
    ------
    ValueError
        Other numbers of images, an unknown mode, class or kind, detections without scores.
    """
    return _score(detected, truth, classes, mode)(np.arange(len(truth)))


def bootstrap(
    detected: Sequence[Boxes],
    truth: Sequence[Boxes],
    classes: Sequence[str],
    mode: str = "area",
    *,
    groups: Sequence[Hashable] | None = None,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return percentile intervals of each class's AP and of "mAP" when images are drawn anew.

    Parameters
    ----------
    detected, truth, classes, mode, groups, samples, seed
        As for :func:`resampled`.
    level : float
        Share of the repetitions inside the interval.

    Raises
    ------
    ValueError
        As :func:`average_precision`.
    """
    drawn = resampled(detected, truth, classes, mode, groups=groups, samples=samples, seed=seed)
    return {name: percentiles(values, level) for name, values in drawn.items()}


def resampled(
    detected: Sequence[Boxes],
    truth: Sequence[Boxes],
    classes: Sequence[str],
    mode: str = "area",
    *,
    groups: Sequence[Hashable] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Return each class's AP and "mAP", (samples,) each, when images are drawn anew.

    Equal seeds draw equal images, so two detectors can be compared draw by draw.

    Parameters
    ----------
    detected, truth, classes, mode
        As for :func:`average_precision`; raises as that does.
    groups : sequence, optional
        Scene of each image; scenes are then drawn instead of images, as neighbouring frames
        resemble each other.
    samples : int
        Repetitions; COCO's mode takes some milliseconds each.
    seed : int
    """
    score, rng = _score(detected, truth, classes, mode), np.random.default_rng(seed)
    keys = list(range(len(truth)) if groups is None else groups)
    if len(keys) != len(truth):
        raise ValueError(f"groups: expected one an image, {len(truth)}, got {len(keys)}")
    members: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        members.setdefault(key, []).append(i)
    groups_of_images = [np.array(group) for group in members.values()]
    drawn = []
    for _ in range(samples):
        chosen = rng.integers(len(groups_of_images), size=len(groups_of_images))
        drawn.append(score(np.concatenate([groups_of_images[g] for g in chosen])))
    values = {name: np.array([precision.ap[name] for precision in drawn]) for name in classes}
    return values | {"mAP": np.array([precision.mean for precision in drawn])}


def percentiles(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the interval that holds ``level`` of the values, half of the rest on either side; NaN
    are left out.
    """
    tails = [50 * (1 - level), 50 * (1 + level)]
    return (
        tuple(np.nanpercentile(values, tails).tolist())
        if np.isfinite(values).any()
        else (np.nan, np.nan)
    )


# radon C: three modes of AP on one matching
def _score(detected: Sequence[Boxes], truth: Sequence[Boxes], classes: Sequence[str], mode: str):
    """Match all images once and return the function ``images drawn -> Precision``."""
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    if len(detected) != len(truth) or not len(truth):
        raise ValueError(
            f"detected and truth: expected one an image, at least one, got {len(detected)} and"
            f" {len(truth)}"
        )
    for boxes in (*detected, *truth):
        if unknown := sorted(set(boxes.labels) - set(classes)):
            raise ValueError(
                f"labels: expected classes out of {', '.join(classes)}, got {unknown[0]!r}"
            )
        if sum(boxes.mask(kind).sum() for kind in KINDS) != len(boxes.labels):
            raise ValueError(
                f"kinds: expected one of {', '.join(KINDS)} a box, got {list(boxes.kinds or ())}"
            )
    if any(len(boxes.labels) and boxes.scores is None for boxes in detected):
        raise ValueError("detected: expected a score for each detection, got none")
    if mode == "coco":
        return _coco(detected, truth, classes)
    matched = {name: _match(detected, truth, name) for name in classes}
    return lambda drawn: _summary(
        {
            name: _voc(*matched[name], np.bincount(drawn, minlength=len(truth)), mode)
            for name in classes
        }
    )


def _summary(scored: dict[str, tuple[float, np.ndarray, np.ndarray]]) -> Precision:
    ap = {name: float(value) for name, (value, _, _) in scored.items()}
    known = [value for value in ap.values() if not np.isnan(value)]
    curves = {name: (recall, precision) for name, (_, recall, precision) in scored.items()}
    return Precision(ap, float(np.mean(known)) if known else float("nan"), curves)


# ---- Pascal VOC ----------------------------------------------------------------------------------


def overlap(a: np.ndarray, b: np.ndarray, shared: bool = True) -> np.ndarray:
    """Return the IoU of every box of ``a`` (n, 4) with every one of ``b`` (m, 4), (n, m).

    Parameters
    ----------
    a, b : arrays of corners
        x0, y0, x1, y1.
    shared : bool
        False divides by the area of ``a`` instead of the union.
    """
    a, b = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (a, b))
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    common = np.clip(sides, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    whole = areas[0][:, None] + areas[1][None] - common if shared else areas[0][:, None]
    return common / np.maximum(whole, 1e-12)


def _match(
    detected: Sequence[Boxes], truth: Sequence[Boxes], name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return image and correctness of every detection of a class that counts, by falling score, and
    the objects of each image.
    """
    rows = []
    objects = np.zeros(len(truth), np.int64)
    for number, (boxes, annotated) in enumerate(zip(detected, truth, strict=True)):
        detected_mask = np.array([label == name for label in boxes.labels], bool)
        annotated_mask = np.array([label == name for label in annotated.labels], bool)
        objects[number] = (annotated_mask & annotated.mask("object")).sum()
        if not detected_mask.any():
            continue
        scores = np.asarray(boxes.scores, np.float64)[detected_mask]
        order = np.argsort(-scores, kind="stable")
        corners = np.asarray(boxes.corners)[detected_mask][order]
        correct = _match_image(corners, annotated, annotated_mask)
        rows += [
            (score, number, right == 1)
            for score, right in zip(scores[order], correct, strict=True)
            if not np.isnan(right)
        ]
    rows.sort(key=lambda row: -row[0])
    return (
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], bool),
        objects,
    )


def objects_detected(detected: Boxes, truth: Boxes) -> int:
    """Return how many objects of one image a detection of their class overlaps by an IoU of 0.5."""
    classes = dict.fromkeys(truth.labels)
    return sum(int(_match([detected], [truth], name)[1].sum()) for name in classes)


def _match_image(corners: np.ndarray, annotated: Boxes, mask: np.ndarray) -> np.ndarray:
    """Return 1 for each detection that is right, 0 where it is wrong, NaN where it does not count.

    Parameters
    ----------
    corners : (n, 4)
        Detections of one class in one image, by falling score.
    annotated : Boxes
        All that is annotated in the image.
    mask : (m,) bool
        Which of that is of the class.
    """
    everything = np.asarray(annotated.corners).reshape(-1, 4)
    crowd = everything[mask & annotated.mask("crowd")]
    single = mask & ~annotated.mask("crowd")
    ignored = annotated.mask("ignored")[single]
    iou = overlap(corners, everything[single])
    in_crowd = (overlap(corners, crowd, shared=False) >= IOU).any(axis=1)
    taken = np.zeros(len(ignored), bool)
    correct = np.where(in_crowd, np.nan, 0.0)
    for i in range(len(corners)):
        # VOC: a detection belongs to the object it overlaps most; a second one for the same object
        # is false.
        best = int(iou[i].argmax()) if len(taken) else -1
        if best < 0 or iou[i, best] < IOU:
            continue
        if ignored[best]:
            correct[i] = np.nan
        elif not taken[best]:
            taken[best], correct[i] = True, 1
    return correct


def _voc(
    image: np.ndarray, true_positive: np.ndarray, objects: np.ndarray, times: np.ndarray, mode: str
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return AP, recall and precision when image i counts ``times[i]``-fold."""
    total, count = (objects * times).sum(), times[image]
    true = np.cumsum(count * true_positive)
    false = np.cumsum(count * ~true_positive)
    precision = true / np.maximum(true + false, 1)
    if not total:
        return float("nan"), np.full(len(true), np.nan), precision
    recall = true / total
    # The largest precision at this recall or any higher one.
    best = np.maximum.accumulate(precision[::-1])[::-1]
    if mode == "11-point":
        return (
            np.mean([best[recall >= t - 1e-12].max(initial=0) for t in np.linspace(0, 1, 11)]),
            recall,
            precision,
        )
    return float((np.diff(recall, prepend=0) * best).sum()), recall, precision


# ---- COCO ----------------------------------------------------------------------------------------


def _coco_rows(all_boxes: Sequence[Boxes], classes: Sequence[str]) -> list[dict]:
    """Return boxes as COCO's annotations, or as its detections where they have scores."""
    listed: list[dict] = []
    for number, boxes in enumerate(all_boxes, 1):
        corners = np.asarray(boxes.corners, float).reshape(-1, 4)
        crowd = ~boxes.mask("object")
        for i, (corner, label) in enumerate(zip(corners, boxes.labels, strict=True)):
            (x, y), (w, h) = corner[:2], corner[2:] - corner[:2]
            row = {
                "id": len(listed) + 1,
                "image_id": number,
                "category_id": classes.index(label) + 1,
                "bbox": [x, y, w, h],
                "area": w * h,
                "iscrowd": int(crowd[i]),
            }
            if boxes.scores is not None:
                row["score"] = float(boxes.scores[i])
            listed.append(row)
    return listed


def _coco(detected: Sequence[Boxes], truth: Sequence[Boxes], classes: Sequence[str]):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    classes = list(classes)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        sets = []
        for boxes in (truth, detected):
            coco = COCO()
            coco.dataset = {
                "images": [{"id": i} for i in range(1, len(truth) + 1)],
                "annotations": _coco_rows(boxes, classes),
                "categories": [{"id": i, "name": name} for i, name in enumerate(classes, 1)],
            }
            coco.createIndex()
            sets.append(coco)
        coco_eval = COCOeval(*sets, "bbox")
        coco_eval.params.iouThrs, coco_eval.params.maxDets = np.array([IOU]), [COCO_LIMIT]
        coco_eval.params.areaRng, coco_eval.params.areaRngLbl = [[0, 1e10]], ["all"]
        coco_eval.evaluate()
    matched = np.empty((len(classes), len(truth)), object)
    matched[:] = np.array(coco_eval.evalImgs, object).reshape(matched.shape)

    def score(drawn: np.ndarray) -> Precision:
        # pycocotools keeps a copy of its parameters that only evaluate(), which would match all
        # boxes again, renews
        coco_eval.params.imgIds = coco_eval._paramsEval.imgIds = list(range(len(drawn)))
        coco_eval.evalImgs = list(matched[:, drawn].ravel())
        with contextlib.redirect_stdout(io.StringIO()):
            coco_eval.accumulate()
        # (101, classes), -1 where a class does not occur
        precision = coco_eval.eval["precision"][0, :, :, 0, 0]
        precision = np.where(precision < 0, np.nan, precision)
        recall = coco_eval.params.recThrs
        scored = {}
        for k, name in enumerate(classes):
            scored[name] = float(precision[:, k].mean()), recall, precision[:, k]
        return _summary(scored)

    return score


# ---- running a detector --------------------------------------------------------------------------


@torch.no_grad()
def detect(detector: nn.Module, image: np.ndarray, classes: Sequence[str]) -> Boxes:
    """Return the detections of a torchvision detector in one image, on the device of its
    parameters.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) uint8
        Its Y is used, replicated to three channels.
    classes : sequence of str
        Names of the labels 1, 2, ...
    """
    gray = images.luma(images.check(image))
    device, training = next(detector.parameters()).device, detector.training
    batch = torch.tensor(gray, device=device)[None, None].float() / 255
    try:
        detected = detector.eval()(batch).boxes[0]
    finally:
        detector.train(training)
    return Boxes(
        detected["boxes"].double().cpu().numpy(),
        [classes[i - 1] for i in detected["labels"].tolist()],
        detected["scores"].double().cpu().numpy(),
    )
