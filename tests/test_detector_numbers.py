"""Numbers of the detectors: sizes, limits, attention, running statistics, sampling, scores by
hand.
"""

import numpy as np
import pytest
import torch
import torch.distributed as processes
import torch.nn.functional as F

from fusionlib.detectors import Boxes, Detectors, average_precision, evaluation, faster_rcnn


@pytest.fixture(scope="module")
def small():
    return Detectors(["person", "car"], "small", seed=3)


def crowd(count, scored):
    """``count`` boxes far apart in one image."""
    corners = np.array([[20.0 * i, 0, 20 * i + 10, 10] for i in range(count)])
    scores = np.linspace(0.9, 0.1, count) if scored else None
    return Boxes(corners, ["person"] * count, scores)


def test_coco_counts_a_hundred_detections_of_an_image():
    # of 105 objects the best 100 detections count: recall up to 100 / 105 = 0.952, so 96 of the
    # 101 recalls 0, 0.01, ..., 1 have precision 1
    score = average_precision([crowd(105, True)], [crowd(105, False)], ["person"], "coco")
    assert score.ap["person"] == pytest.approx(96 / 101)
    full = average_precision([crowd(100, True)], [crowd(100, False)], ["person"], "coco")
    assert full.ap["person"] == pytest.approx(1.0)


@pytest.mark.parametrize("mode", evaluation.MODES)
@pytest.mark.parametrize(("bottom", "hit"), [(5.0, True), (4.9, False)])
def test_a_hit_is_an_overlap_of_at_least_one_half(mode, bottom, hit):
    truth = [Boxes(np.array([[0, 0, 10, 10.0]]), ["person"])]
    found = [Boxes(np.array([[0, 0, 10, bottom]]), ["person"], np.array([0.7]))]
    score = average_precision(found, truth, ["person"], mode)
    assert score.ap["person"] == pytest.approx(float(hit), abs=1e-12)


def test_overlap_by_hand():
    a = np.array([[0, 0, 4, 2.0], [10, 10, 12, 13]])
    b = np.array([[2, 1, 6, 3.0], [4, 2, 5, 5], [10, 10, 12, 13]])
    expected = [[2 / 14, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(evaluation.overlap(a, b), expected, atol=1e-12)
    assert evaluation.overlap(a, np.empty((0, 4))).shape == (2, 0)
    assert (evaluation.overlap(np.zeros((1, 4)), np.zeros((1, 4))) == 0).all()


def test_percentiles_are_the_middle_of_the_values():
    values = np.r_[np.arange(101.0), np.nan]
    assert evaluation.percentiles(values) == pytest.approx((2.5, 97.5))
    assert evaluation.percentiles(values, 0.8) == pytest.approx((10.0, 90.0))
    assert np.isnan(evaluation.percentiles(np.array([np.nan]))).all()


def test_the_small_detector_by_its_numbers(small):
    detector = small.infrared
    anchors = detector.rpn.anchor_generator
    assert anchors.sizes == [(8,), (16,), (32,), (64,)]
    assert list(anchors.aspect_ratios) == [(0.5, 1.0, 2.0)] * 4
    pool = detector.roi_heads.box_roi_pool
    assert pool.featmap_names == ["0", "1", "2"]
    assert tuple(pool.output_size) == (5, 5) and pool.sampling_ratio == 2
    head = detector.roi_heads.box_head
    assert (head.fc6.in_features, head.fc6.out_features) == (32 * 25, 128)
    assert detector.roi_heads.box_predictor.cls_score.out_features == 3
    assert detector.rpn._pre_nms_top_n == detector.rpn._post_nms_top_n
    assert detector.rpn._pre_nms_top_n == {"training": 200, "testing": 100}
    assert detector.roi_heads.fg_bg_sampler.batch_size_per_image == 64
    body = [m for m in detector.backbone.body.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in body] == [
        (3, 16),
        (16, 32),
        (32, 48),
        (48, 64),
    ]
    assert {(c.kernel_size, c.stride, c.padding) for c in body} == {((3, 3), (2, 2), (1, 1))}
    norms = [m for m in detector.backbone.body.modules() if isinstance(m, torch.nn.GroupNorm)]
    assert [(n.num_groups, n.num_channels) for n in norms] == [(8, 16), (8, 32), (8, 48), (8, 64)]
    assert detector.backbone.out_channels == 32
    reduce, score = detector.attention.reduce, detector.attention.score
    assert (reduce[0].in_channels, reduce[0].out_channels) == (32, 16)
    assert reduce[0].bias is None and score[0].bias is None
    assert (score[0].weight >= 0).all() and score[0].out_channels == 1


def test_the_paper_size_is_torchvisions():
    size = faster_rcnn.SIZES["resnet50"]
    assert size.anchors == (32, 64, 128, 256, 512)
    assert size[1:] == (4, 7, 1024, 512, (2000, 1000))


def test_the_seed_of_the_visible_detector_is_the_next(small):
    again = Detectors(["person", "car"], "small", seed=4)
    mine, theirs = small.visible.state_dict(), again.infrared.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert not torch.equal(*(d.attention.reduce[0].weight for d in (small.infrared, small.visible)))


def test_attended_features_are_the_features_times_one_plus_the_map(small):
    attention = small.infrared.attention.eval()
    features = {"0": torch.rand(1, 32, 4, 5), "1": torch.rand(1, 32, 2, 3)}
    with torch.no_grad():
        attended, finest = attention(features)
        for level, values in features.items():
            expected = values * (1 + attention.map(values))
            assert torch.equal(attended[level], expected)
        assert torch.equal(finest, attention.map(features["0"]))


def test_maps_are_enlarged_from_cells_at_multiples_of_four():
    maps = torch.arange(6.0).reshape(1, 1, 2, 3)
    out = faster_rcnn.to_frame(maps, (7, 11))
    for y in range(7):
        for x in range(11):
            row, column = min(y / 4, 1.0), min(x / 4, 2.0)
            assert out[0, 0, y, x].item() == pytest.approx(3 * row + column, abs=1e-6)


def test_boxes_are_sampled_half_or_a_quarter_positive(small):
    sampler = faster_rcnn.Sampler(8, 0.25)
    matched = torch.tensor([1] * 10 + [0] * 10 + [-1] * 5)
    few = torch.tensor([2] + [0] * 3 + [-1] * 9)
    positives, negatives = sampler([matched, few])
    assert [int(p.sum()) for p in positives] == [2, 1]
    assert [int(n.sum()) for n in negatives] == [6, 3]
    assert not positives[0][10:].any() and not negatives[0][:10].any()
    assert not negatives[0][20:].any() and sampler.drawn == 12
    assert small.infrared.roi_heads.fg_bg_sampler.positive_fraction == 0.25
    assert small.infrared.rpn.fg_bg_sampler.positive_fraction == 0.5


@pytest.fixture
def single_process(tmp_path):
    address = f"file://{tmp_path / 'rendezvous'}"
    processes.init_process_group("gloo", init_method=address, rank=0, world_size=1)
    yield
    processes.destroy_process_group()


def test_batch_norm_over_processes_is_torchs(single_process):
    """Running variance with n / (n - 1), as in PyTorch's own layer."""
    generator = torch.Generator().manual_seed(1)
    ours, plain = faster_rcnn.BatchNorm(3), torch.nn.BatchNorm2d(3)
    with torch.no_grad():
        for layer in (ours, plain):
            layer.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
            layer.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    for _ in range(2):
        x = torch.rand(2, 3, 2, 2, generator=generator) * 3 + 1
        xs = [x.clone().requires_grad_() for _ in range(2)]
        outs = [layer(x) for layer, x in zip((ours, plain), xs, strict=True)]
        torch.testing.assert_close(*outs)
        for out in outs:
            (out**2 * torch.arange(8.0).reshape(2, 1, 2, 2)).sum().backward()
        torch.testing.assert_close(xs[0].grad, xs[1].grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.running_var, plain.running_var)
    torch.testing.assert_close(ours.running_mean, plain.running_mean)
    assert ours.num_batches_tracked == plain.num_batches_tracked == 2
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x))


def test_means_over_boxes_weigh_by_their_number(single_process):
    assert faster_rcnn._shares([3, 0], torch.device("cpu")) == [1.0, 0.0]


def test_a_detector_at_its_own_size_reads_three_equal_channels(small):
    images = torch.rand(2, 1, 32, 64)
    batch = small.infrared._batch(images).tensors
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (images.expand(-1, 3, -1, -1) - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(batch, expected)
    assert F.mse_loss(batch, expected) < 1e-10


def test_a_single_process_weighs_its_losses_with_one(small):
    assert faster_rcnn._shares([3, 5, 0], torch.device("cpu")) == [1.0, 1.0, 1.0]
    detector = small.visible.train()
    target = {"boxes": torch.tensor([[4.0, 4.0, 20.0, 28.0]]), "labels": torch.tensor([1])}
    images = torch.rand(1, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    parts = {}
    detector.rpn.register_forward_hook(lambda module, given, out: parts.update(out[1]))
    detector.roi_heads.register_forward_hook(lambda module, given, out: parts.update(out[1]))
    losses = detector(images, [target], [torch.Generator().manual_seed(1)]).losses
    assert set(losses) == set(parts) and len(losses) == 4
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(parts[name].item(), rel=1e-6), name
