"""Training by phase: which attention maps enter the fusion network, what a step's loss is the sum
of, in which epochs the box AP is measured, and which samples are mirrored.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import test_training
import torch

from fusionlib import losses
from fusionlib.datasets.infrared_visible import Pair
from fusionlib.training import Model, open_pairs, train
from fusionlib.training.loop import step_loss
from fusionlib.training.samples import Samples, collate

TINY = test_training.TINY
change = getattr(test_training, "vary", replace)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def batch():
    """Two random images with a box each, and random attention maps as the last two planes."""
    generator = torch.Generator().manual_seed(5)
    target = {"boxes": torch.tensor([[4.0, 4.0, 20.0, 28.0]]), "labels": torch.tensor([1])}
    return {
        "name": ["a", "b"],
        "key": [(0, 0, 0, 0), (0, 0, 0, 1)],
        "planes": torch.rand(2, 4, 32, 48, generator=generator),
        "target": [target, target],
    }


class Spy:
    """Keeps the maps and images that enter a fusion network, and what comes out."""

    def __init__(self, fusion: torch.nn.Module):
        self.forward, fusion.forward = fusion.forward, self

    def __call__(self, infrared, visible, attention, **options):
        self.infrared, self.visible, self.attention = infrared, visible, attention
        if attention.requires_grad:
            attention.retain_grad()
        self.out = self.forward(infrared, visible, attention, **options)
        return self.out


def spied(batch, phase, **changes):
    settings = change(TINY, **changes)
    model = Model(settings, "joint").train()
    spy = Spy(model.fusion)
    return model, spy, step_loss(model, batch, phase, settings)


def test_frozen_takes_the_stored_maps_and_uniform_takes_one_half(batch):
    _, spy, (loss, logged) = spied(batch, "frozen")
    assert torch.equal(spy.attention, batch["planes"][:, 2:])
    assert torch.equal(spy.infrared, batch["planes"][:, :1])
    assert torch.equal(spy.visible, batch["planes"][:, 1:2])
    assert logged["loss"] == pytest.approx(loss.item()) == pytest.approx(logged["fusion"])
    assert not any(name.startswith("detection_") for name in logged)
    _, spy, _ = spied(batch, "uniform")
    assert torch.equal(spy.attention, torch.full((2, 2, 32, 48), 0.5))


def test_joint_takes_the_detectors_maps_without_their_gradient(batch):
    made = []
    settings = TINY
    model = Model(settings, "joint").train()
    spy = Spy(model.fusion)
    model.detectors.register_forward_hook(lambda module, given, out: made.append(out))
    loss, logged = step_loss(model, batch, "joint", settings)
    ((detection, maps),) = made
    assert torch.equal(spy.attention, maps)
    assert not torch.equal(maps, torch.full_like(maps, 0.5))
    parts = sum(value.item() for value in detection.values()) + logged["fusion"]
    assert loss.item() == pytest.approx(parts, rel=1e-5)
    loss.backward()
    assert spy.attention.grad is None  # nothing of the fusion loss reaches the detectors
    assert any(p.grad is not None and p.grad.any() for p in model.detectors.parameters())


def test_the_detectors_alone_do_not_run_the_fusion(batch):
    _, spy, (loss, logged) = spied(batch, "detectors")
    assert not hasattr(spy, "attention")
    detection = [value for name, value in logged.items() if name.startswith("detection_")]
    assert len(detection) == len(logged) - 1 >= 2
    assert loss.item() == pytest.approx(sum(detection), rel=1e-5)


@pytest.mark.parametrize(
    "changes", [{}, {"alpha": 3.0}, {"pixel_loss": "official"}, {"importance_loss": True}], ids=str
)
def test_the_fusion_loss_is_that_of_the_settings(batch, changes):
    _, spy, (loss, logged) = spied(batch, "frozen", **changes)
    expected = losses.fusion_loss(
        spy.out.fused,
        batch["planes"][:, :1],
        batch["planes"][:, 1:2],
        spy.out.loads,
        spy.out.importances,
        [target["boxes"] for target in batch["target"]],
        alpha=changes.get("alpha", 10.0),
        pixel_reading=changes.get("pixel_loss"),
        balance_importance=changes.get("importance_loss"),
    )
    assert loss.item() == pytest.approx(expected.total.item(), rel=1e-6)
    for name in ("pixel", "gradient", "load", "importance"):
        assert logged[name] == pytest.approx(getattr(expected, name).item(), rel=1e-6), name


def test_the_log_says_how_the_gates_were_used(batch):
    _, spy, (_, logged) = spied(batch, "frozen")
    single = spy.out.single_modality()
    for name, gate in spy.out.gates.items():
        weights = gate.detach().double().numpy()
        for i in range(weights.shape[1]):
            assert logged[f"{name}_load_{i}"] == pytest.approx((weights[:, i] > 0).mean())
        positive = np.where(weights > 0, weights, 1.0)
        entropy = -(weights * np.log(positive)).sum(axis=1).mean()
        assert logged[f"{name}_entropy"] == pytest.approx(entropy, abs=1e-6)
        assert (f"{name}_visible" in logged) == (name in single)
        if name in single:
            half = weights.shape[1] // 2
            visible = weights[:, :half].sum(axis=1).mean()
            assert logged[f"{name}_visible"] == pytest.approx(visible, abs=1e-6)
            alone = single[name].double().mean().item()
            assert logged[f"{name}_one_modality"] == pytest.approx(alone)


def test_box_ap_is_measured_every_second_epoch_and_last_in_a_phase(tmp_path):
    settings = change(TINY, scenes=(2, 2), epochs=4, detector_epochs=2, ap_every=3)
    train(settings, tmp_path, open_pairs(settings), progress=False)
    log = pd.read_csv(tmp_path / "log.csv")
    assert log["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert log["phase"].tolist() == ["detectors"] * 2 + ["joint"] * 4
    measured = {"ap_infrared", "ap_visible"}
    assert measured <= set(log)
    for name in measured:
        assert log[name].notna().tolist() == [False, True, True, False, False, True]


# ---- samples -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(4)
    infrared, visible = rng.integers(0, 256, (2, 12, 16), dtype=np.uint8)
    return Pair("p", infrared, visible, np.array([[2, 3, 4, 5.0]]), ("person",))


def test_half_of_the_samples_are_mirrored_as_their_key_draws(pair):
    samples = Samples([pair], ["person"], annotated=True, flip=True)
    plain = Samples([pair], ["person"], annotated=True)[0, (0, 0, 0, 0)]
    mirrored = 0
    for place in range(80):
        sample = samples[0, (0, 0, 0, place)]
        # the second purpose of the keyed generators: which part of a pair, and whether mirrored
        flip = np.random.default_rng([2, 0, 0, 0, place]).random() < 0.5
        mirrored += flip
        planes, boxes = plain["planes"], plain["target"]["boxes"]
        if flip:
            x0, y0, x1, y1 = boxes[0].tolist()
            planes, boxes = planes.flip(-1), torch.tensor([[16 - x1, y0, 16 - x0, y1]])
        assert torch.equal(sample["planes"], planes)
        assert torch.equal(sample["target"]["boxes"], boxes)
    assert 20 < mirrored < 60


@pytest.mark.parametrize(("width", "kept"), [(1, False), (2, True), (3, True)])
def test_a_cut_box_stays_if_at_least_four_tenths_are_inside(pair, width, kept):
    # the crop of ten columns that starts at column 0 keeps `width` of the box's five
    box = np.array([[10.0 - width, 2, 5, 5]])
    sample = Pair("p", pair.infrared, pair.visible, box, ("person",))
    samples = Samples([sample], ["person"], annotated=True, crop=(12, 10))
    corner = None
    for place in range(200):
        rng = np.random.default_rng([2, 0, 0, 0, place])
        if (rng.integers(1), rng.integers(7))[1] == 0:
            corner = samples[0, (0, 0, 0, place)]
            break
    assert torch.equal(corner["planes"][0] * 255, torch.tensor(pair.infrared[:, :10]).float())
    assert len(corner["target"]["boxes"]) == len(corner["target"]["labels"]) == kept
    if kept:
        assert corner["target"]["boxes"].tolist() == [[10.0 - width, 2, 10, 7]]


def test_planes_are_infrared_luma_colour_and_maps(pair):
    rng = np.random.default_rng(1)
    colour = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    sample = Pair("p", pair.infrared, colour, None, ())
    maps = [torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))]
    key = (0, 0, 0, 0)
    item = Samples([sample], ["person"], annotated=False, colour=True, maps=maps)[0, key]
    assert item["planes"].shape == (7, 12, 16)
    assert torch.equal(item["planes"][0], torch.tensor(pair.infrared).float() / 255)
    assert torch.equal(item["planes"][2:5], torch.tensor(colour).permute(2, 0, 1).float() / 255)
    gray = Samples([pair], ["person"], annotated=False, colour=True)[0, key]["planes"]
    assert gray.shape == (5, 12, 16)
    assert all(torch.equal(gray[i], gray[1]) for i in (2, 3, 4))
    both = collate([item, item])
    assert both["planes"].shape == (2, 7, 12, 16) and both["name"] == ["p", "p"]
    assert both["key"] == [key, key]
