"""Detectors: where the attention lies, what trains it, what is drawn at random; average precision
by hand.
"""

import contextlib
import hashlib
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from fusionlib.datasets.scenes import CLASSES, scene
from fusionlib.detectors import (
    Boxes,
    Detectors,
    average_precision,
    bootstrap,
    detect,
    download_imagenet,
    evaluation,
    faster_rcnn,
    load_imagenet,
    to_frame,
)
from fusionlib.detectors.faster_rcnn import STRIDE, Attention, AttentionFasterRCNN


@pytest.fixture(scope="module")
def detectors():
    return Detectors(CLASSES, "small", seed=3)


def batch(seeds=(0, 1), size=(48, 64)):
    """Images and targets of generated scenes."""
    made = [scene(seed, size) for seed in seeds]
    gray = [
        torch.from_numpy(np.stack([one.infrared if kind else one.visible[..., 1] for one in made]))[
            :, None
        ]
        / 255.0
        for kind in (True, False)
    ]
    targets = [
        {
            "boxes": (
                torch.from_numpy(
                    np.c_[one.boxes[:, :2], one.boxes[:, :2] + one.boxes[:, 2:]]
                ).float()
            ),
            "labels": torch.tensor([CLASSES.index(label) + 1 for label in one.labels]),
        }
        for one in made
    ]
    return *gray, targets


def generators(keys):
    return [torch.Generator().manual_seed(key) for key in keys]


# ---- attention -----------------------------------------------------------------------------------


def brightness_detector():
    """A detector whose attention is high where the image is bright: every kernel averages, level 0
    alone is read.
    """
    detector = AttentionFasterRCNN(1, "small").eval()
    with torch.no_grad():
        for name, module in detector.backbone.named_modules():
            if isinstance(module, nn.Conv2d):
                module.weight.fill_(1 / module.weight[0].numel())
                if module.bias is not None:
                    module.bias.zero_()
            if (
                "inner_blocks" in name
                and isinstance(module, nn.Conv2d)
                and "inner_blocks.0" not in name
            ):
                module.weight.zero_()
        for conv, gain in ((detector.attention.reduce[0], 1.0), (detector.attention.score[0], 8.0)):
            conv.weight.fill_(gain / conv.weight.shape[1])
        detector.attention.score[1].bias.fill_(-6)
    return detector


@pytest.mark.parametrize(
    "box",
    [
        (10, 20, 34, 52),
        (58, 84, 76, 107),
        (62, 24, 78, 46),
        (24, 90, 42, 107),
        (0, 0, 20, 24),
        (60, 80, 97, 131),
    ],
)
def test_box_lights_its_own_place(box):
    """At 97x131, which the detector pads to 128x160 and reads at a quarter, maps lie on the image.

    To less than a cell of 4 pixels: the pyramid adds coarser levels by repeating cells, which
    shifts them by up to half a coarse cell.
    """
    y0, x0, y1, x1 = box
    image = torch.zeros(1, 1, 97, 131)
    image[..., y0:y1, x0:x1] = 1
    detector = brightness_detector()
    with torch.no_grad():
        light = to_frame(detector.level0(image), (97, 131))[0, 0]
    assert light.shape == (97, 131)
    inside = image[0, 0] > 0
    assert light[inside].mean() > light[~inside].mean() + 0.3
    # the image's border cuts what shines around the box
    if min(y0, x0) == 0 or y1 == 97 or x1 == 131:
        return
    shape = light - light[~inside].median()
    rows, columns = shape.clamp_min(0).sum(1), shape.clamp_min(0).sum(0)
    found = [float((n * torch.arange(len(n))).sum() / n.sum()) for n in (rows, columns)]
    assert found == pytest.approx([(y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2], abs=0.6 * STRIDE)


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_cells_stand_at_multiples_of_four(height, width):
    h, w = -(-height // 4), -(-width // 4)
    ramp = torch.stack(torch.meshgrid(torch.arange(h) * 4.0, torch.arange(w) * 4.0, indexing="ij"))[
        None
    ]
    frame = to_frame(ramp, (height, width))
    expected = torch.stack(
        torch.meshgrid(
            torch.arange(height).clamp_max(4 * h - 4),
            torch.arange(width).clamp_max(4 * w - 4),
            indexing="ij",
        )
    )[None]
    torch.testing.assert_close(frame, expected.float(), rtol=1e-5, atol=1e-3)


def test_attention_equation():
    """Conv 1x1 - BN - ReLU, Conv 1x1 - BN - sigmoid, f (1 + a), one for all levels."""
    torch.manual_seed(0)
    attention = Attention(6).eval()
    for norm in (attention.reduce[1], attention.score[1]):
        (
            nn.init.uniform_(norm.weight),
            nn.init.uniform_(norm.bias),
            nn.init.uniform_(norm.running_mean),
        )
    features = {"0": torch.randn(2, 6, 5, 7), "1": torch.randn(2, 6, 3, 4)}
    attended, finest = attention(features)
    for level, f in features.items():

        def norm(x, layer):
            x = (x - layer.running_mean[:, None, None]) / (
                layer.running_var[:, None, None] + 1e-5
            ).sqrt()
            return x * layer.weight[:, None, None] + layer.bias[:, None, None]

        h = torch.einsum("oi,bihw->bohw", attention.reduce[0].weight[..., 0, 0], f)
        h = norm(h, attention.reduce[1]).clamp_min(0)
        a = norm(
            torch.einsum("oi,bihw->bohw", attention.score[0].weight[..., 0, 0], h),
            attention.score[1],
        )
        a = 1 / (1 + torch.exp(-a))
        torch.testing.assert_close(attended[level], f + f * a)
        if level == "0":
            torch.testing.assert_close(finest, a)


def test_detection_loss_trains_its_own_attention(detectors):
    infrared, visible, targets = batch()
    losses, maps = detectors.train()(infrared, visible, targets, generators(range(2)))
    assert maps.shape == (2, 2, 48, 64) and 0 <= maps.min() and maps.max() <= 1
    detectors.zero_grad()
    losses["infrared"].backward()
    own = [p.grad for p in detectors.infrared.attention.parameters()]
    assert all(g is not None and g.abs().sum() > 0 for g in own)
    assert all(p.grad is None for p in detectors.visible.parameters())
    detectors.zero_grad()


def test_maps_of_use_are_those_of_the_detectors(detectors):
    infrared, visible, _ = batch(size=(97, 131))
    detectors.eval()
    with torch.no_grad():
        maps = detectors.attention(infrared, visible)
        assert maps.shape == (2, 2, 97, 131)
        torch.testing.assert_close(maps[:, 1:], detectors.visible(visible).attention)
        torch.testing.assert_close(
            maps[1:], detectors.attention(infrared[1:], visible[1:]), rtol=1e-4, atol=1e-5
        )


# ---- what is drawn -------------------------------------------------------------------------------


def test_nothing_global_is_drawn_or_seeded():
    before = torch.get_rng_state()
    one, two = Detectors(CLASSES, "small", seed=5), Detectors(CLASSES, "small", seed=5)
    infrared, visible, targets = batch()
    losses = [
        model.train()(infrared, visible, targets, generators((7, 8)))[0] for model in (one, two)
    ]
    assert losses[0] == losses[1]
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(
        one.infrared.backbone.body.stem[0].weight, one.visible.backbone.body.stem[0].weight
    )


def test_boxes_drawn_of_an_image_do_not_depend_on_its_batch():
    sampler = faster_rcnn.Sampler(64, 0.5)
    matched = [
        torch.randint(-1, 4, (300,), generator=torch.Generator().manual_seed(i)) for i in range(3)
    ]
    sampler.generators = generators((1, 2, 3))
    together = sampler(matched)
    for i in range(3):
        sampler.generators = generators([i + 1])
        alone = sampler(matched[i : i + 1])
        assert torch.equal(alone[0][0], together[0][i]) and torch.equal(alone[1][0], together[1][i])
        assert alone[0][0].sum() == 32 and alone[1][0].sum() == 32
        assert (matched[i][alone[0][0] > 0] >= 1).all() and (matched[i][alone[1][0] > 0] == 0).all()
    sampler.generators = generators([1])
    few = torch.tensor([1, 0, -1, 0, 0])
    positive, negative = sampler([few])
    assert positive[0].tolist() == [1, 0, 0, 0, 0] and negative[0].tolist() == [0, 1, 0, 1, 1]


def test_small_detector_is_small(detectors):
    infrared, _, targets = batch()
    one = detectors.infrared.train()
    draws = []
    handle = one.roi_heads.box_head.register_forward_hook(
        lambda _, __, out: draws.append(out.shape)
    )
    one(infrared, targets, generators(range(2)))
    handle.remove()
    assert draws[0][0] <= 2 * 64 and draws[0][1] == 128
    assert max(one.rpn.post_nms_top_n(), one.eval().rpn.post_nms_top_n()) <= 200
    assert one.transform.resize(torch.zeros(3, 97, 131))[0].shape == (3, 97, 131)
    assert sum(p.numel() for p in detectors.parameters()) * 4 < 2e6


def test_shared_detector_learns_from_both_modalities():
    model = Detectors(CLASSES, "small", shared=True)
    assert model.infrared is model.visible
    infrared, visible, targets = batch()
    losses, _ = model.train()(infrared, visible, targets, generators(range(2)))
    assert losses["infrared"] != losses["visible"]
    assert len(list(model.parameters())) == len(list(model.infrared.parameters()))


@pytest.mark.parametrize(
    ("classes", "size", "pretrained", "message"),
    [
        ((), "small", False, "classes: expected different names"),
        (("car", "car"), "small", False, "classes: expected different names"),
        (CLASSES, "large", False, "size: expected one of resnet50, small, got 'large'"),
        (CLASSES, "small", True, "pretrained: ImageNet weights exist for size 'resnet50'"),
    ],
)
def test_bad_detectors(classes, size, pretrained, message):
    with pytest.raises(ValueError, match=message):
        Detectors(classes, size, pretrained=pretrained)


# ---- ResNet-50 -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def paper_detectors():
    return Detectors(("person",), pretrained=True, shared=True)


def test_resnet_levels(paper_detectors):
    """Paper size: 256 channels, stride 4 at level 0, five anchor sizes, frozen first stage and
    statistics.
    """
    detector = paper_detectors.infrared.eval()
    with torch.no_grad():
        assert detector.level0(torch.rand(1, 1, 45, 70)).shape == (1, 1, 12, 18)
    assert detector.attention.reduce[0].weight.shape == (128, 256, 1, 1)
    assert detector.roi_heads.box_head.fc6.weight.shape == (1024, 256 * 49)
    frozen = {name.split(".")[2] for name, p in detector.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "layer1"}
    assert not any("bn1.running_var" in name for name, _ in detector.named_parameters())


def test_imagenet_weights_are_checked_and_recorded(paper_detectors, tmp_path, monkeypatch):
    path = tmp_path / faster_rcnn.IMAGENET_FILE
    with pytest.raises(FileNotFoundError, match="fusionlib data resnet50"):
        load_imagenet(paper_detectors, path)
    body = paper_detectors.infrared.backbone.body
    state = {name: torch.rand_like(value) for name, value in body.state_dict().items()} | {
        "fc.weight": torch.zeros(1)
    }
    torch.save(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=f"expected sha256 0676ba61... .* got {digest[:12]}"):
        load_imagenet(paper_detectors, path)
    monkeypatch.setattr(faster_rcnn, "IMAGENET_HASH", digest[:8])
    assert load_imagenet(paper_detectors, path) == {path.name: digest}
    assert torch.equal(body.state_dict()["layer4.2.conv3.weight"], state["layer4.2.conv3.weight"])
    assert download_imagenet(tmp_path) == path  # there already
    with pytest.raises(ValueError, match="pretrained=True"):
        load_imagenet(Detectors(("person",), "small"), path)


def test_imagenet_weights_come_by_the_one_way_of_downloads(tmp_path, monkeypatch):
    """A mirror that is a folder stands for the server: lacking, of another file, right."""
    there = tmp_path / "mirror.pth"
    monkeypatch.setattr(faster_rcnn, "IMAGENET", SimpleNamespace(url=str(there)))
    name, cache = faster_rcnn.IMAGENET_FILE, tmp_path / "cache"
    with pytest.raises(ConnectionError, match=f"{name}: could not be fetched from {there}"):
        download_imagenet(cache)
    there.write_bytes(b"weights")
    with pytest.raises(ValueError, match=f"{name}: .*expected sha256 .*; nothing was kept"):
        download_imagenet(cache)
    assert not list(cache.rglob("*.pth"))
    monkeypatch.setattr(
        faster_rcnn, "IMAGENET_HASH", hashlib.sha256(there.read_bytes()).hexdigest()[:8]
    )
    assert download_imagenet(cache).read_bytes() == b"weights"


# ---- average precision ---------------------------------------------------------------------------


def boxes(*rows, scored=False):
    corners = np.array([row[:4] for row in rows], float).reshape(-1, 4)
    return Boxes(
        corners,
        [row[4] for row in rows],
        np.array([row[5] for row in rows], float) if scored else None,
    )


def found(*rows):
    return boxes(*rows, scored=True)


A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (40, 40, 60, 60)


@pytest.mark.parametrize(
    ("detections", "area", "eleven"),
    [
        ([found((*A, "car", 0.9), (*B, "car", 0.8))], 1, 1),
        ([found()], 0, 0),
        # right, wrong, right: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1
        (
            [found((*A, "car", 0.9), (*C, "car", 0.8), (*B, "car", 0.7))],
            0.5 + 0.5 * 2 / 3,
            (6 + 5 * 2 / 3) / 11,
        ),
        # a second detection of the same car is wrong; the other car is never found
        ([found((*A, "car", 0.9), (*A, "car", 0.8))], 0.5, 6 / 11),
        # wrong first: precision 0, 1/2, 2/3
        ([found((*C, "car", 0.9), (*A, "car", 0.8), (*B, "car", 0.7))], 2 / 3, 2 / 3),
        # an overlap of exactly one half counts, a little less does not
        ([found((0, 0, 10, 5, "car", 0.9), (20, 0, 30, 4.9, "car", 0.8))], 0.5, 6 / 11),
        # another class does not count
        ([found((*A, "bicycle", 0.9), (*B, "car", 0.8))], 0.5, 6 / 11),
    ],
)
def test_average_precision_by_hand(detections, area, eleven):
    truth = [boxes((*A, "car"), (*B, "car"))]
    classes = ("person", "bicycle", "car")
    for mode, expected in (("area", area), ("11-point", eleven)):
        scored = average_precision(detections, truth, classes, mode)
        assert scored.ap["car"] == pytest.approx(expected)
        assert np.isnan(scored.ap["person"]) and np.isnan(scored.ap["bicycle"])
        assert scored.mean == pytest.approx(expected)  # of the classes that occur


def random_sets(seed, images=12, classes=("person", "car")):
    """Objects, and detections that find most of them, a little off, among false ones."""
    rng = np.random.default_rng(seed)
    truth, guesses = [], []
    for _ in range(images):
        n = rng.integers(0, 5)
        corners = rng.uniform(0, 80, (n, 2))
        corners = np.c_[corners, corners + rng.uniform(8, 20, (n, 2))]
        labels = [classes[i] for i in rng.integers(0, len(classes), n)]
        truth.append(Boxes(corners, labels))
        hit, extra = rng.random(n) < 0.8, rng.integers(0, 3)
        wrong = rng.uniform(0, 80, (extra, 2))
        where = np.r_[corners[hit] + rng.normal(0, 1.2, (hit.sum(), 4)), np.c_[wrong, wrong + 12]]
        names = [label for label, h in zip(labels, hit, strict=True) if h]
        names += [classes[i] for i in rng.integers(0, len(classes), extra)]
        guesses.append(Boxes(where, names, np.r_[rng.beta(4, 2, hit.sum()), rng.beta(2, 4, extra)]))
    return guesses, truth, classes


@pytest.mark.parametrize("mode", evaluation.MODES)
@pytest.mark.parametrize("seed", range(3))
def test_order_scale_and_scores_do_not_matter(mode, seed):
    guesses, truth, classes = random_sets(seed)
    base = average_precision(guesses, truth, classes, mode)
    assert all(0 <= value <= 1 for value in base.ap.values())
    order = np.random.default_rng(seed).permutation(len(truth))
    moved = [
        [
            Boxes(one.corners * 3 + 5, one.labels, None if one.scores is None else one.scores**3)
            for one in (side[i] for i in order)
        ]
        for side in (guesses, truth)
    ]
    assert average_precision(*moved, classes, mode).ap == pytest.approx(base.ap)
    last = [
        one._replace(
            corners=np.r_[one.corners, [[200, 200, 210, 210]]],
            labels=[*one.labels, "car"],
            scores=np.r_[one.scores, 1e-6],
        )
        for one in guesses
    ]
    assert average_precision(last, truth, classes, mode).ap == pytest.approx(base.ap)


def test_modes_agree_in_trend():
    """AP by area and COCO's AP50 differ by little and rank detectors alike; 11 points are
    coarser.
    """
    results = {mode: [] for mode in evaluation.MODES}
    for seed in range(25):
        guesses, truth, classes = random_sets(seed, 20)
        worse = [
            one._replace(
                scores=np.where(
                    np.arange(len(one.labels)) % 4 < seed % 4, 1 - one.scores, one.scores
                )
            )
            for one in guesses
        ]
        for mode, values in results.items():
            values.append(average_precision(worse, truth, classes, mode).mean)
    area, coarse, coco = (np.array(results[mode]) for mode in evaluation.MODES)
    assert np.ptp(area) > 0.1
    assert np.abs(area - coco).max() < 0.04 and np.abs(area - coarse).max() < 0.12
    assert np.corrcoef(area, coco)[0, 1] > 0.98 and np.corrcoef(area, coarse)[0, 1] > 0.9


def test_coco_mode_by_hand():
    """101 recalls; and a detection whose best object is taken may have the next best, which VOC
    calls wrong.
    """
    truth = [boxes((*A, "car"), (*B, "car"))]
    guesses = [found((*A, "car", 0.9), (*C, "car", 0.8), (*B, "car", 0.7))]
    assert average_precision(guesses, truth, ("car",), "coco").mean == pytest.approx(
        (51 + 50 * 2 / 3) / 101
    )
    near = [boxes((0, 0, 10, 10, "car"), (2, 0, 12, 10, "car"))]
    twice = [found((0, 0, 10, 10, "car", 0.9), (0.5, 0, 10.5, 10, "car", 0.8))]
    assert average_precision(twice, near, ("car",), "coco").mean == pytest.approx(1)
    assert average_precision(twice, near, ("car",), "area").mean == pytest.approx(0.5)


def coco_by_itself(guesses, truth, classes):
    """AP50 of each class by pycocotools from its own kind of file, without this project's code."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco, rows = COCO(), []
        coco.dataset = {
            "images": [{"id": i} for i in range(len(truth))],
            "categories": [{"id": i} for i in range(len(classes))],
            "annotations": [],
        }
        for sets, listed in ((truth, coco.dataset["annotations"]), (guesses, rows)):
            for number, one in enumerate(sets):
                for i, (x0, y0, x1, y1) in enumerate(one.corners.tolist()):
                    row = {"id": len(listed) + 1, "image_id": number}
                    row |= {"category_id": classes.index(one.labels[i])}
                    row |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
                    row |= {"score": one.scores[i]} if sets is guesses else {}
                    kind = "object" if one.kinds is None else one.kinds[i]
                    listed.append(row | {"iscrowd": int(kind == "crowd")})
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(rows) if rows else COCO(), "bbox")
        judge.params.iouThrs = np.array([0.5])
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][0, :, :, 0, -1]
    return {
        name: precision[:, k].mean() if (precision[:, k] >= 0).all() else np.nan
        for k, name in enumerate(classes)
    }


def with_crowds(seed):
    """Random sets in which a third of the truth is crowd regions, some of them large."""
    guesses, truth, classes = random_sets(seed, 6)
    rng = np.random.default_rng(seed)
    crowded = []
    for one in truth:
        corners = one.corners + np.outer(rng.random(len(one.labels)) < 0.2, [-30, -30, 30, 30])
        kinds = np.where(rng.random(len(one.labels)) < 0.3, "crowd", "object").tolist()
        crowded.append(Boxes(corners, one.labels, None, kinds))
    return guesses, crowded, classes


def test_crowds_are_those_of_pycocotools():
    differ = 0
    for seed in range(20):
        guesses, truth, classes = with_crowds(seed)
        scored = average_precision(guesses, truth, classes, "coco").ap
        expected = coco_by_itself(guesses, truth, classes)
        assert scored == pytest.approx(expected, abs=1e-9, nan_ok=True)
        plain = [one._replace(kinds=None) for one in truth]
        differ += scored != pytest.approx(
            average_precision(guesses, plain, classes, "coco").ap, nan_ok=True
        )
    assert differ > 10, "crowds must matter in these sets"


IGNORED = (0, 0, 20, 20)  # the detection (0, 0, 20, 10) overlaps it by one half, A by a quarter


@pytest.mark.parametrize(
    ("kind", "detections", "expected"),
    [
        # neither found nor missed
        ("ignored", [(*B, "car", 0.9)], 1),
        # right: it overlaps the ignored object most, again and again
        ("ignored", [(0, 0, 20, 10, "car", 0.9), (0, 0, 20, 19, "car", 0.8), (*B, "car", 0.7)], 1),
        # inside, but too small to be that object: wrong
        ("ignored", [(2, 2, 6, 6, "car", 0.9), (*B, "car", 0.7)], 0.5),
        ("crowd", [(2, 2, 6, 6, "car", 0.9), (*B, "car", 0.7)], 1),
        # half of it inside counts as inside, less does not
        ("crowd", [(16, 2, 24, 6, "car", 0.9), (*B, "car", 0.7)], 1),
        ("crowd", [(17, 2, 25, 6, "car", 0.9), (*B, "car", 0.7)], 0.5),
        # a crowd of another class changes nothing
        ("person", [(2, 2, 6, 6, "car", 0.9), (*B, "car", 0.7)], 0.5),
        # an object in a crowd is found; a second detection of it is one of the crowd
        ("crowd", [(*B, "car", 0.9), (*B, "car", 0.8), (2, 2, 6, 6, "car", 0.7)], 1),
    ],
)
def test_ignored_boxes_in_the_modes_of_voc(kind, detections, expected):
    """VOC's difficult objects by its protocol; crowd regions by the share of the detection."""
    label, kind = ("person", "crowd") if kind == "person" else ("car", kind)
    around = (0, 0, 40, 20) if len(detections) == 3 and kind == "crowd" else IGNORED
    truth = boxes((*around, label), (*B, "car"))._replace(kinds=[kind, "object"])
    for mode in ("area", "11-point"):
        scored = average_precision([found(*detections)], [truth], ("person", "car"), mode)
        assert scored.ap["car"] == pytest.approx(expected)
        assert np.isnan(scored.ap["person"])


@pytest.mark.parametrize("mode", evaluation.MODES)
def test_bootstrap_scores_what_was_drawn(mode):
    """An image drawn twice counts as two images; intervals hold the value, clusters widen or
    collapse them.
    """
    guesses, truth, classes = random_sets(2, 8)
    drawn = np.array([0, 3, 3, 3, 5, 7, 7, 2])
    weighted = evaluation._score(guesses, truth, classes, mode)(drawn)
    literally = average_precision(
        [guesses[i] for i in drawn], [truth[i] for i in drawn], classes, mode
    )
    assert weighted.ap == pytest.approx(literally.ap, abs=1e-9)
    point = average_precision(guesses, truth, classes, mode)
    intervals = bootstrap(guesses, truth, classes, mode, samples=60, seed=1)
    assert intervals == bootstrap(guesses, truth, classes, mode, samples=60, seed=1)
    assert set(intervals) == {*classes, "mAP"}
    low, high = intervals["mAP"]
    assert low <= point.mean <= high and low < high
    low, high = bootstrap(guesses, truth, classes, mode, groups=["scene"] * 8, samples=5)["mAP"]
    assert low == pytest.approx(high) == pytest.approx(point.mean)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g, t, c: (g[1:], t, c), "expected one an image"),
        (lambda g, t, c: ([], [], c), "at least one"),
        (lambda g, t, c: (g, t, c, "voc"), "mode: expected one of area, 11-point, coco, got 'voc'"),
        (lambda g, t, c: (g, t, c[:1]), "labels: expected classes out of person, got 'car'"),
        (
            lambda g, t, c: ([one._replace(scores=None) for one in g], t, c),
            "expected a score for each",
        ),
        (
            lambda g, t, c: (g, [one._replace(kinds=["hard"] * len(one.labels)) for one in t], c),
            "kinds: expected one of object, ignored, crowd a box, got .*'hard'",
        ),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        average_precision(*change(*random_sets(0)))


def test_detect_reads_gray(detectors):
    image = scene(1, (60, 80)).infrared
    one, two = (
        detect(detectors.infrared.train(), picture, CLASSES)
        for picture in (image, np.dstack([image] * 3))
    )
    assert detectors.infrared.training
    assert (
        one.labels == two.labels
        and np.array_equal(one.corners, two.corners)
        and len(one.scores) == len(one.labels)
    )
    assert (
        (one.corners >= 0).all()
        and (one.corners[:, ::2] <= 80).all()
        and (one.corners[:, 1::2] <= 60).all()
    )
