"""What the general model is trained with beyond the paper: several folders with shares, other
exposures, a loss of what leaves the range, gradients with their sign, a knee at the output.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionlib import images, losses, methods, metrics
from fusionlib.datasets import open_pairs as open_scenes
from fusionlib.datasets.infrared_visible import Pair
from fusionlib.experiments import comparison, model_quality, protocol
from fusionlib.metrics import exposure
from fusionlib.networks import MoEFusion, inference
from fusionlib.networks.output import soft_knee
from fusionlib.networks.weights.checkpoint import fingerprint
from fusionlib.training import TrainingConfig, augmentation, loop, samples, train
from fusionlib.training.config import AugmentationConfig, open_pairs
from fusionlib.training.sources import draw

STRONG = AugmentationConfig(gamma=0.45, contrast=0.25, offset=0.1, inverted=0.5, reduced=0.5)


def pictures(seed=0, shape=(2, 1, 9, 11)):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(3)]


# ---- losses --------------------------------------------------------------------------------------


def test_signed_gradient_by_hand():
    fused, infrared, visible = (image.numpy()[:, 0] for image in pictures())
    rows = []
    for image in (fused, infrared, visible):
        p = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="reflect")
        smooth = p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]
        across = p[:, :, :-2] + 2 * p[:, :, 1:-1] + p[:, :, 2:]
        rows.append((smooth[:, :, 2:] - smooth[:, :, :-2], across[:, 2:] - across[:, :-2]))
    total = 0
    for f, i, v in zip(*rows, strict=True):
        total = total + np.abs(f - np.where(np.abs(i) > np.abs(v), i, v))
    found = losses.gradient_loss(*pictures(), gradient="signed").item()
    assert found == pytest.approx(total.mean(), abs=1e-6)


def test_a_negative_costs_only_with_signs():
    _, infrared, visible = pictures(3)
    visible = torch.full_like(visible, 0.5)
    negative = 1 - infrared
    for gradient, costs in (("magnitude", False), ("signed", True)):
        assert losses.gradient_loss(infrared, infrared, visible, gradient=gradient).item() == 0
        loss = losses.gradient_loss(negative, infrared, visible, gradient=gradient).item()
        assert (loss > 0.1) == costs
    with pytest.raises(ValueError, match=r"gradient: expected one of .*signed.*, got 'sign'"):
        losses.gradient_loss(negative, infrared, visible, gradient="sign")


def test_range_loss_is_what_a_file_cannot_hold():
    fused = torch.tensor([[-0.25, 0.0, 0.5, 1.0, 1.5]])
    assert losses.range_loss(fused).item() == pytest.approx(0.75 / 5)
    fused, infrared, visible = pictures()
    fused = 2 * fused - 0.5
    plain = losses.fusion_loss(fused, infrared, visible)
    ours = losses.fusion_loss(fused, infrared, visible, range_weight=20.0)
    assert plain.range == ours.range > 0 and plain.gradient == ours.gradient
    assert ours.total.item() == pytest.approx((plain.total + 20 * plain.range).item())


# ---- output --------------------------------------------------------------------------------------


@given(start=st.floats(0.05, 0.95), seed=st.integers(0, 99))
def test_the_knee_bends_highlights_alone(start, seed):
    x = torch.linspace(-1, 4, 2001, dtype=torch.float64)
    y = soft_knee(x, start)
    assert torch.equal(y[x <= start], x[x <= start]) and y.max() <= 1
    slope = y.diff() / x.diff()
    assert (slope >= 0).all() and (slope <= 1 + 1e-9).all()
    assert (slope.diff().abs() < 0.2).all(), "no corner"


@pytest.mark.parametrize("tile", [None, (7, 9)])
def test_quick_and_plain_inference_bend_alike(tile):
    model = MoEFusion(width=4, gate_grid=((2, 3), (2, 3)), knee=0.3).eval()
    infrared, visible = (torch.rand(1, 1, 23, 31) for _ in range(2))
    attention = torch.full((1, 2, 6, 8), 0.5)
    with torch.inference_mode():
        plain = model(infrared, visible, attention).fused
    quick = inference.fuse(model, infrared, visible, attention, tile=tile).fused
    assert torch.allclose(plain, quick, atol=1e-5) and plain.max() > 0.3
    straight = MoEFusion(width=4, gate_grid=((2, 3), (2, 3))).eval()
    with torch.inference_mode():
        assert torch.equal(plain, soft_knee(straight(infrared, visible, attention).fused, 0.3))


@pytest.mark.parametrize("knee", [0, 1.0, -0.1, "0.8", True, float("nan")])
def test_a_knee_outside_the_range_is_refused(knee):
    with pytest.raises(ValueError, match="knee: expected None or a number between 0 and 1, got"):
        MoEFusion(knee=knee)


# ---- augmentation --------------------------------------------------------------------------------


def a_pair(height=40, width=60, name="p"):
    rng = np.random.default_rng(height)
    infrared, visible = rng.integers(0, 256, (2, height, width)).astype(np.uint8)
    return Pair(name, infrared, visible, np.array([[8, 6, 20, 16]], float), ["car"])


def planes(augmented, key=(3,), pair=None, **options):
    made = samples.Samples([pair or a_pair()], ("car",), True, augmented=augmented, **options)
    return made[0, key]


def test_augmentation_is_off_by_default_and_drawn_from_the_samples_key():
    pair = a_pair()
    plain = planes(None)["planes"]
    stacked = np.stack([pair.infrared, pair.visible]) / np.float32(255)
    assert torch.equal(plain, torch.from_numpy(stacked.astype(np.float32)))
    assert torch.equal(planes(AugmentationConfig())["planes"], plain)
    first = planes(STRONG)["planes"]
    assert torch.equal(first, planes(STRONG)["planes"]) and not torch.equal(first, plain)
    assert not torch.equal(first, planes(STRONG, key=(4,))["planes"])
    # the crop is drawn apart: it is the same with and without
    part = planes(replace(STRONG, reduced=0.0), crop=(11, 13))["target"]["boxes"]
    assert torch.equal(part, planes(None, crop=(11, 13))["target"]["boxes"])


@pytest.mark.parametrize("channels", [2, 5])
def test_each_modality_gets_one_rising_curve(channels):
    ramp = torch.linspace(0, 1, 50).expand(channels + 2, 1, 50)
    for seed in range(30):
        changed = augmentation.change_exposure(ramp, STRONG, np.random.default_rng(seed), channels)
        assert 0 <= changed.min() and changed.max() <= 1
        assert torch.equal(changed[channels:], ramp[channels:]), "attention maps stay"
        assert torch.allclose(changed[1:channels], changed[1:2].expand(channels - 1, -1, -1))
        assert (changed[1].diff(dim=1) >= -1e-6).all()
        rises = changed[0].diff(dim=1)
        assert (rises >= -1e-6).all() or (rises <= 1e-6).all()
    inverted = augmentation.change_exposure(
        ramp, AugmentationConfig(inverted=1.0), np.random.default_rng(0), channels
    )
    assert torch.allclose(inverted[0], 1 - ramp[0], atol=1e-6)
    assert torch.allclose(inverted[1:], ramp[1:], atol=1e-6)


def test_flat_images_are_of_one_level():
    kept = []
    for seed in range(200):
        changed = augmentation.change_exposure(
            torch.rand(4, 6, 7), AugmentationConfig(flat=0.5), np.random.default_rng(seed), 2
        )
        kept.append([bool(plane.std() > 1e-3) for plane in changed])
    shares = np.mean(kept, axis=0)
    assert (abs(shares[:2] - 0.5) < 0.1).all() and (shares[2:] == 1).all(), "maps stay"
    both = np.array(kept)[:, :2]
    assert {tuple(pair) for pair in both.tolist()} == {(a, b) for a in (0, 1) for b in (0, 1)}


def test_reduced_frames_keep_their_boxes_and_small_frames_their_size():
    settings = AugmentationConfig(reduced=1.0)
    half = planes(settings, crop=None)
    pair = a_pair()
    expected = pair.infrared.reshape(20, 2, 30, 2).mean(axis=(1, 3)) / 255
    assert torch.allclose(half["planes"][0], torch.from_numpy(expected).float(), atol=1e-6)
    assert half["target"]["boxes"].tolist() == [[4, 3, 14, 11]]
    assert planes(settings, crop=(20, 13))["planes"].shape == (2, 20, 13)
    sample, goal = torch.rand(2, 40, 60), {"boxes": torch.zeros(0, 4)}
    assert augmentation.reduce(sample, goal, (20, 30))[0] is sample


# ---- several folders -----------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    samples_=st.integers(1, 90),
    seed=st.integers(0, 9),
)
def test_sources_give_their_shares(counts, samples_, seed):
    shares = np.random.default_rng(seed).dirichlet(np.ones(len(counts)))
    numbers = draw(counts, shares, samples_, np.random.default_rng(seed))
    assert len(numbers) == samples_
    start = 0
    for count, share in zip(counts, shares, strict=True):
        times = np.bincount(numbers, minlength=sum(counts))[start : start + count]
        assert abs(times.sum() - share * samples_) <= 1 and np.ptp(times) <= 1
        start += count


@pytest.fixture
def two_folders(tmp_path):
    """A folder of six pairs in two splits, named by two cameras, and one of three without."""
    for name, stems in (("one", [f"{c}{i}" for c in "ab" for i in range(3)]), ("two", "xyz")):
        for side in ("ir", "vi"):
            for number, stem in enumerate(stems):
                image = np.random.default_rng(number).integers(0, 256, (24, 30)).astype(np.uint8)
                images.write(tmp_path / name / side / f"{stem}.png", image)
    (tmp_path / "one/splits.json").write_text(
        json.dumps({"train": ["a0", "a1", "b0", "b1"], "val": ["a2", "b2"]})
    )
    return tmp_path


def test_training_on_several_folders(two_folders):
    one, two = str(two_folders / "one"), str(two_folders / "two")
    config = TrainingConfig.from_dict(
        {
            "data.sources": [
                {"folder": one, "split": "train", "names": "a*", "share": 3},
                {"folder": two, "split": "", "share": 1},
            ],
            "data.size": None,
            "data.crop": [16, 16],
            "network": {"width": 2, "gate_grid": [[2, 2], [2, 2]], "knee": 0.8},
            "detectors.attention": "uniform",
            "optimization": {"epochs": 1, "range_loss": 5, "gradient": "signed"},
            "augmentation": {"gamma": 0.4, "reduced": 0.5},
        }
    )
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.data.title == "a of one (train), two (all)"
    pairs = open_pairs(config)
    assert pairs.names == ["a0", "a1", "x", "y", "z"] and pairs.shares == [0.75, 0.25]
    assert [pair.name for pair in pairs] == pairs.names and pairs[4].name == "z"
    with pytest.raises(ValueError, match="split"):
        open_pairs(config, held_out=True)  # "two" has none
    model = train(config, two_folders / "out", held_out=[], device="cpu", progress=False)
    assert model.record["data"]["pairs"] == 5
    log = (two_folders / "out/log.csv").read_text().splitlines()[0]
    assert ",range," in log


def test_held_out_pairs_of_sources_come_once(two_folders):
    one = {"folder": str(two_folders / "one"), "split": "train"}
    sources = [{**one, "names": "a*"}, {**one, "names": "b*"}]
    config = TrainingConfig.from_dict({"data.sources": sources, "data.size": None})
    assert open_pairs(config, held_out=True).names == ["a2", "b2"]
    without = TrainingConfig.from_dict({"data.sources": sources, "data.held_out": None})
    assert len(open_pairs(without, held_out=True)) == 0


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"data.sources": 3}, "data.sources: expected a list, got 3"),
        ({"data.sources": [{"folders": "x"}]}, "expected objects with folder, dataset, split"),
        ({"data.sources": [{"folder": "x", "share": 0}]}, "share: expected a number above 0"),
        ({"data.sources": [{"folder": 5}]}, "folder: expected a text, got 5"),
        ({"data.sources": [{}]}, "expected a folder or a dataset, got neither"),
        ({"augmentation.inverted": 1.5}, "augmentation.inverted: expected a number from 0 to 1"),
        ({"augmentation.gama": 1}, "nearest: 'augmentation.gamma'"),
        ({"optimization.gradient": "sign"}, "expected one of 'magnitude', 'signed'"),
        ({"optimization.range_loss": -1}, "range_loss: expected a number of at least 0"),
        ({"network.knee": 2}, "knee: expected None or a number between 0 and 1"),
    ],
)
def test_settings_that_do_not_fit(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        TrainingConfig.from_dict(values)


def test_a_pattern_that_fits_no_name(two_folders):
    source = {"folder": str(two_folders / "one"), "names": "c*"}
    with pytest.raises(ValueError, match=r"names: expected some of .*one, got 'c\*'"):
        open_pairs(TrainingConfig.from_dict({"data.sources": [source]}))


# ---- exposure ------------------------------------------------------------------------------------


def test_shares_by_hand():
    infrared = np.array([[0, 0, 30, 255, 100, 10]], np.uint8)
    visible = np.array([[5, 0, 10, 255, 250, 10]], np.uint8)
    fused = np.array([[0, 0, 0, 255, 255, 2]], np.uint8)
    assert exposure.clipped_share(fused, infrared, visible) == pytest.approx(2 / 6)
    assert exposure.black_share(fused, infrared, visible) == pytest.approx(1 / 6)
    assert exposure.extreme_share(fused, infrared, visible) == pytest.approx(2 / 6 + 1 / 6)
    assert exposure.extreme_share(infrared, infrared, visible) == 0


def test_responses_and_dents():
    curves = model_quality.responses(lambda a, b: np.maximum(a, b), [0, 100, 255])
    assert curves.loc[100].tolist() == [100, 100, 100] and (model_quality.dents(curves) == 0).all()
    dented = model_quality.responses(lambda a, b: np.where(a > 120, a - 60, a), [0, 105, 125])
    assert model_quality.dents(dented)["f(i, 0)"] == 40


def test_an_interrupted_training_on_several_folders_ends_as_one_left_alone(two_folders):
    source = {"folder": str(two_folders / "one"), "split": "train"}
    config = TrainingConfig.from_dict(
        {
            "data": {
                "sources": [{**source, "names": "a*", "share": 2}, {**source, "names": "b*"}],
                "size": None,
                "crop": [10, 12],
                "flip": True,
                "held_out": None,
            },
            "network": {"width": 2, "gate_grid": [[2, 2], [2, 2]], "knee": 0.8},
            "detectors.attention": "uniform",
            "optimization": {"epochs": 4, "batch": 2, "gradient": "signed", "range_loss": 5},
            "augmentation": {"gamma": 0.4, "contrast": 0.2, "offset": 0.1, "inverted": 0.3},
            "run": {"save_every": 1},
        }
    )
    whole = train(config, two_folders / "whole", device="cpu", progress=False)
    steps = 0

    def stop_in_the_third(*arguments):
        nonlocal steps
        steps += 1
        if steps == 4:
            raise KeyboardInterrupt
        return step_loss(*arguments)

    step_loss = loop.step_loss
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "step_loss", stop_in_the_third)
        with pytest.raises(KeyboardInterrupt):
            train(config, two_folders / "killed", device="cpu", progress=False)
    resumed = train(config, two_folders / "killed", device="cpu", progress=False)
    assert fingerprint(resumed.state_dict()) == fingerprint(whole.state_dict())


def test_scores_of_a_model_by_hand():
    pairs = open_scenes("", limit=2, scene_size=(72, 80))
    frame = model_quality.score(lambda a, b: np.maximum(a, b) // 64 * 64, pairs)
    assert list(frame.index) == pairs.names
    infrared, visible = pairs[1].infrared, images.luma(pairs[1].visible)
    fused = np.maximum(infrared, visible) // 64 * 64
    row = frame.iloc[1]
    values = metrics.evaluate(fused, infrared, visible, ["Qabf", "VIF"], "standard")
    assert row[["Qabf", "VIF"]].to_dict() == pytest.approx(values, nan_ok=True)
    dark = np.maximum(infrared, visible) < 64
    assert row["dark %"] == pytest.approx(100 * dark.mean())
    seen = dark & (np.maximum(infrared, visible) >= 20)
    assert row["black %"] == pytest.approx(100 * seen.mean())
    tensors = [torch.from_numpy(x)[None, None] / 255 for x in (fused, infrared, visible)]
    expected = losses.pixel_loss(*tensors) + 10 * losses.gradient_loss(*tensors)
    assert row["paper loss"] == pytest.approx(float(expected), rel=1e-6)


def test_lost_pixels_of_fused_folders(tmp_path):
    pairs = open_scenes("", limit=3, scene_size=(40, 48))
    sources = protocol.write_sources(pairs, tmp_path / "sources")
    chosen = {name: methods.get(name) for name in ("average", "LP")}
    comparison.fuse(chosen, pairs, sources, tmp_path, progress=False)
    table = comparison.lost_pixels(chosen, sources, tmp_path)
    shares = []
    for pair in pairs:
        pair_luma = pair.infrared, images.luma(pair.visible)
        shares.append(exposure.shares(chosen["LP"].fuse(*pair_luma), *pair_luma))
    for name in ("clipped %", "black %"):
        assert table.loc["LP", name] == pytest.approx(np.mean([one[name] for one in shares]))
        assert table.loc["average", name] == 0
    for side in ("infrared", "visible"):
        assert len(images.list_images(tmp_path / "sources" / side)) == 3
    folders = tmp_path / "sources/infrared", tmp_path / "sources/visible"
    methods.fuse_folders(chosen["LP"], *folders, tmp_path / "out", progress=False)
    said = methods.folders.lost_pixels(tmp_path / "out")
    assert said.startswith(f"clipped {table.loc['LP', 'clipped %']:.2f} % of the pixels, black")
    assert methods.folders.lost_pixels(tmp_path / "sources") == ""
