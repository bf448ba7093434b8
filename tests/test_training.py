"""Training: what it computes does not depend on interruptions or processes, bad input is one
sentence, and it learns.
"""

import errno
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fusionlib import detectors, images
from fusionlib.datasets.infrared_visible import Pair
from fusionlib.datasets.scenes import CLASSES, scene, write_scenes
from fusionlib.detectors import Boxes
from fusionlib.experiments import held_out
from fusionlib.methods.learned import ARTEFACT
from fusionlib.networks import MoEFusion, load_checkpoint, mixture, save_checkpoint
from fusionlib.training import (
    TrainingConfig,
    attention_maps,
    load,
    loop,
    open_pairs,
    optimization,
    samples,
    train,
)
from fusionlib.training import __main__ as command_line
from fusionlib.training.model import Model
from fusionlib.training.presets import OFFICIAL, PRESETS, SMOKE

TINY = TrainingConfig.from_dict(
    {
        "data": {"scenes": [6, 2], "size": [32, 48]},
        "network": {"width": 2, "gate_grid": [[2, 3], [2, 3]]},
        "detectors": {"size": "small"},
        "optimization": {"batch": 2, "epochs": 2, "detector_epochs": 1, "lr": 1e-3},
        "run": {"save_every": 2},
    }
)
REPOSITORY = Path(__file__).parents[1]
TIMES = ["seconds", "data_seconds", "step_seconds", "images_per_second"]


def vary(base, **changes):
    """Return a configuration with some settings changed, by their short names."""
    return TrainingConfig.from_dict(changes, base)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pairs():
    return open_pairs(TINY)


@pytest.fixture(scope="module")
def packed(pairs):
    """The pairs as files are read, and as processes are sent them: the luma of an image in another
    order of memory may be rounded to the next gray level.
    """
    return [replace(pair, visible=np.ascontiguousarray(pair.visible)) for pair in pairs]


@pytest.fixture(scope="module")
def unbroken(pairs, tmp_path_factory):
    """A finished joint training, its model and its log."""
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, train(TINY, folder, pairs, progress=False), pd.read_csv(folder / "log.csv")


def same(one, two):
    mine, theirs = one.state_dict(), two.state_dict()
    return mine.keys() == theirs.keys() and all(
        torch.equal(mine[name], theirs[name]) for name in mine
    )


# ---- settings ------------------------------------------------------------------------------------


def test_defaults_are_the_papers_recipe():
    """Section 4.1: Adam, 1e-4, 24 epochs, batch 4, alpha 10; the official extras are a preset."""
    paper, official = TrainingConfig().optimization, OFFICIAL.optimization
    assert (paper.lr, paper.epochs, paper.batch, paper.alpha, paper.repeat) == (1e-4, 24, 4, 10, 1)
    assert (paper.weight_decay, paper.clip, paper.lr_steps, paper.decay) == (0, None, (), "steps")
    assert (paper.detector_epochs, paper.warm_up) == (0, 0)
    assert TrainingConfig().detectors.attention == "joint"
    assert TrainingConfig().run.precision == "float32"
    assert TrainingConfig().network == MoEFusion().config
    assert (official.weight_decay, official.lr_steps) == (1e-4, (16, 22))
    assert (official.clip, official.repeat) == (35, 3)


@pytest.mark.parametrize("settings", [*PRESETS.values(), TINY])
def test_settings_survive_json_and_are_keys(settings):
    again = TrainingConfig.from_dict(json.loads(json.dumps(settings.to_dict())))
    assert again == settings and len({again, settings}) == 1


def test_nested_dotted_and_former_names_say_the_same():
    nested = {
        "network": {"width": 8},
        "data": {"crop": [40, 40], "folder": "d"},
        "run": {"seed": 3},
    }
    dotted = {"network.width": 8, "data.crop": (40, 40), "data.folder": "d", "run.seed": 3}
    former = {"model": {"width": 8}, "crop": [40, 40], "data": "d", "seed": 3, "imagenet": ""}
    made = [TrainingConfig.from_dict(values) for values in (nested, dotted, former)]
    assert made[0] == made[1] == made[2]
    assert made[0].network.seed == 3 and made[0].detectors.imagenet is None
    changed = TrainingConfig.from_dict({"network.k": 1}, made[0])
    assert (changed.network.width, changed.network.k, changed.data) == (8, 1, made[0].data)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rat": 1}, "got 'learning_rat'; nearest: '"),
        ({"lr_step": [1]}, "got 'lr_step'; nearest: 'optimization.lr_steps'"),
        ({"network": {"expert": 4}}, "got 'network.expert'; nearest: 'network.experts'"),
        ({"model": {"expert": 4}}, "got 'network.expert'; nearest: 'network.experts'"),
        ({"network.seed": 1}, "got 'network.seed'; nearest: 'run.seed'"),
        ({"batch": 0}, "optimization.batch: expected a whole number of at least 1, got 0"),
        ({"epochs": 2.5}, "optimization.epochs: expected a whole number of at least 0, got 2.5"),
        ({"epochs": True}, "optimization.epochs: expected a whole number of at least 0, got True"),
        ({"lr": float("nan")}, "optimization.lr: expected a number of at least 0, got nan"),
        ({"alpha": "10"}, "optimization.alpha: expected a number of at least 0, got '10'"),
        ({"clip": -1}, "optimization.clip: expected a number above 0 or None, got -1"),
        ({"clip": 0.0}, "optimization.clip: expected a number above 0 or None, got 0.0"),
        ({"gate_lr": "fast"}, "optimization.gate_lr: expected a number .* or None, got 'fast'"),
        (
            {"data.size": "big"},
            "data.size: expected height and width of at least 2 pixels or None, got 'big'",
        ),
        (
            {"crop": (0, 0)},
            r"data.crop: expected height and width of at least 2 .* or None, got \(0, 0\)",
        ),
        ({"scenes": (4,)}, r"data.scenes: expected two whole numbers of at least 0, got \(4,\)"),
        ({"flip": "no"}, "data.flip: expected true or false, got 'no'"),
        (
            {"classes": "person"},
            "data.classes: expected different names, at least one, got 'person'",
        ),
        ({"classes": []}, r"data.classes: expected different names, at least one, got \(\)"),
        ({"data.folder": ""}, "data.folder: expected a text that is not empty or None, got ''"),
        (
            {"detectors.size": "big"},
            "detectors.size: expected one of 'resnet50', 'small', got 'big'",
        ),
        ({"detectors.kind": "yolo"}, "detectors.kind: expected one of 'faster-rcnn', got 'yolo'"),
        ({"network.noise": "no"}, "network.noise: expected true or false, got 'no'"),
        ({"network.k": 9}, "k: expected 1 to 4 selected experts"),
        ({"network": 4}, "got 'network'; nearest: "),
        (
            {"precision": "half"},
            "run.precision: expected one of 'float32', 'bfloat16', 'float16', got 'half'",
        ),
        ({"attention": "frozen"}, "detectors.attention: 'frozen' expects trained detectors"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(ValueError, match=message) as caught:
        TrainingConfig.from_dict(values)
    assert "\n" not in str(caught.value)


def test_groups_have_their_types():
    with pytest.raises(ValueError, match="data: expected a DataConfig, got {'crop': None}"):
        TrainingConfig(data={"crop": None})


# As an earlier version wrote them.
FORMER = {
    **{"data": "", "dataset": "", "split": "train", "held_out": "val", "size": [32, 48]},
    **{"annotations": "annotations.json", "scenes": [6, 2], "crop": None, "flip": False},
    **{"classes": ["person", "bicycle", "car"], "detector": {"size": "small"}, "imagenet": ""},
    **{"model": {"width": 2, "gate_grid": [[2, 3], [2, 3]]}, "detectors_from": "", "batch": 2},
    **{"attention": "joint", "epochs": 2, "detector_epochs": 1, "repeat": 1, "lr": 1e-3},
    **{"gate_lr": None, "att_lr": None, "detector_lr": None, "attention_lr": None, "warm_up": 0},
    **{"decay": "steps", "lr_steps": [], "weight_decay": 0.0, "clip": None, "alpha": 10.0},
    **{"pixel_loss": "", "importance_loss": None, "precision": "float32", "seed": 0},
}


def test_a_former_checkpoint_goes_on(unbroken, pairs, tmp_path):
    """The flat settings of earlier versions, and their optimiser's groups, in the middle of an
    epoch; then the same weights.
    """
    with pytest.raises(KeyboardInterrupt):
        stop = Trap(pairs, 16, lambda: os.kill(os.getpid(), signal.SIGTERM))
        train(TINY, tmp_path, stop, progress=False)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert 0 < state["step"] < 3
    state["settings"] = FORMER
    for group in state["optimizer"]["param_groups"]:
        group["base"] = group.pop("initial_lr")
    for name in ("data_seconds", "step_seconds"):
        del state["sums"][name]
    torch.save(state, tmp_path / "state.pt")
    assert same(train(TINY, tmp_path, pairs, progress=False), unbroken[1])


def test_the_suites_own_checkpoint_opens():
    settings = load(ARTEFACT, "cpu").settings
    assert vary(settings, workers=None) == SMOKE


def test_learning_rates():
    def course(recipe, name, epochs):
        phase = {p.name: p for p in optimization.phases(recipe, "joint")}[name]
        optimizer = torch.optim.Adam([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 2.0}])
        rates = optimization.schedule_rates(optimizer, recipe, phase, 0, 10)
        values = []
        for _ in range(10 * epochs):
            values.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            rates.step()
        again = optimization.schedule_rates(optimizer, recipe, phase, 13, 10)  # a resumed training
        assert again.get_last_lr() == values[13:14] or epochs == 1
        return values

    steps = vary(OFFICIAL, detector_epochs=2).optimization
    assert set(course(steps, "detectors", 2)) == {2}
    assert course(steps, "joint", 24)[::10] == pytest.approx([2] * 16 + [0.2] * 6 + [0.02] * 2)
    half = optimization.OptimizationConfig(decay="cosine", epochs=4, detector_epochs=1, warm_up=5)
    rates = course(half, "joint", 4)
    assert rates[:5] == sorted(rates[:5]) and rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[0] == pytest.approx(0.4) and rates[-1] < 0.11
    assert course(half, "detectors", 1)[-1] < 0.15


RATES = {"lr": 1.0, "gate_lr": 2.0, "attention_fusion_lr": 3.0, "detector_lr": 4.0}
RATES |= {"detector_attention_lr": 5.0}
ROOMS = ("fusion", "gates", "Att", "detectors", "attention")


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (RATES, [1, 2, 3, 4, 5]),
        ({"lr": 1.0}, [1, 1, 1, 1, 1]),
        ({"lr": 1.0, "detector_lr": 4.0}, [1, 1, 1, 4, 4]),
        ({"lr": 1.0, "detector_attention_lr": 5.0}, [1, 1, 1, 1, 5]),
        ({"lr": 1.0, "gate_lr": 2.0}, [1, 2, 1, 1, 1]),
        ({"lr": 1.0, "attention_fusion_lr": 3.0}, [1, 1, 3, 1, 1]),
    ],
)
def test_each_room_of_the_model_has_its_rate_or_the_one_it_falls_back_to(stated, expected):
    settings = vary(TINY, **(dict.fromkeys(RATES) | stated))
    model = Model(settings, "joint")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = optimization.parameter_groups(model, settings.optimization)
    rates = {}
    for group in groups:
        for parameter in group["params"]:
            rates[names[id(parameter)]] = group["lr"]
    assert rates.keys() == set(names.values())
    of_room = dict(zip(ROOMS, expected, strict=True))
    for name, rate in rates.items():
        if name.startswith("detectors."):
            room = "attention" if ".attention." in name else "detectors"
        else:
            room = "gates" if ".gate." in name else "fusion"
            room = "Att" if "attention_fusion" in name else room
        assert rate == of_room[room], name


def test_without_detectors_the_rates_start_with_the_fusion_network(pairs, tmp_path):
    """Epochs of detectors that are not trained take no part of the fusion network's course."""
    settings = vary(TINY, attention="uniform", detector_epochs=5, lr_steps=[1])
    train(settings, tmp_path, pairs, progress=False)
    assert pd.read_csv(tmp_path / "log.csv")["lr"].tolist() == pytest.approx([1e-3, 1e-4])


# ---- samples -------------------------------------------------------------------------------------


@hypothesis_settings(max_examples=50, deadline=None)
@given(
    count=st.integers(1, 30),
    batch=st.integers(1, 8),
    repeat=st.integers(1, 3),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 9),
)
def test_every_pair_has_its_turn(count, batch, repeat, seed, epoch):
    batches = samples.batch_schedule(range(count), batch, repeat, seed, epoch)
    assert all(len(one) == batch for one in batches) and len(batches) == -(-count * repeat // batch)
    counts = np.bincount([number for one in batches for number, _ in one], minlength=count)
    assert counts.min() >= repeat and counts.sum() - count * repeat < batch
    keys = [key for one in batches for _, key in one]
    assert len(set(keys)) == len(keys) and batches == samples.batch_schedule(
        range(count), batch, repeat, seed, epoch
    )


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    x=st.integers(0, 40),
    y=st.integers(0, 20),
    w=st.integers(2, 20),
    h=st.integers(2, 20),
    key=st.integers(0, 10**6),
)
def test_boxes_follow_their_pixels(x, y, w, h, key):
    """Wherever a crop and a flip put an object, its box is around it; cut to pieces, it is
    dropped.
    """
    image = np.zeros((40, 60), np.uint8)
    image[y : y + h, x : x + w] = 255
    pair = Pair(
        "p",
        image,
        np.dstack([image, image // 2, image // 3]),
        np.array([[x, y, w, h]], float),
        ["car"],
    )
    maps = [torch.full((2, 10, 15), 0.25)]
    sample = samples.Samples([pair], CLASSES, True, True, (25, 33), True, maps)[0, (key,)]
    assert sample["planes"].shape == (7, 25, 33) and torch.equal(
        sample["planes"][0], sample["planes"][2]
    )
    assert (sample["planes"][-2:] == 0.25).all()
    rows, columns = np.nonzero(sample["planes"][0].numpy())
    boxes = sample["target"]["boxes"]
    # in whole numbers: 0.4 w h is not always what it should be
    assert len(boxes) == len(sample["target"]["labels"]) == (5 * len(rows) >= 2 * w * h)
    if len(boxes):
        assert boxes[0].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert sample["target"]["labels"].tolist() == [3]


def test_noise_belongs_to_the_sample():
    """Gates and box samplers draw from a generator of the sample, the same in any batch and
    process.
    """
    keys = [(0, 1, 2, place) for place in range(4)]
    draws = [torch.randn(3, generator=samples.noise(key)) for key in keys]
    assert all(
        torch.equal(torch.randn(3, generator=samples.noise(key)), draw)
        for key, draw in zip(keys, draws, strict=True)
    )
    assert len({tuple(draw.tolist()) for draw in draws}) == 4


# ---- a training ----------------------------------------------------------------------------------


def test_log_has_a_line_an_epoch(unbroken):
    _, model, log = unbroken
    assert log["phase"].tolist() == ["detectors", "joint", "joint"] and log["epoch"].tolist() == [
        1,
        2,
        3,
    ]
    joint = log.iloc[1:]
    for name in (
        "loss",
        "fusion",
        "pixel",
        "gradient",
        "load",
        "importance",
        "detection_infrared",
        "detection_visible",
        "ap_infrared",
        "ap_visible",
        "seconds",
        "images_per_second",
    ):
        assert np.isfinite(joint[name]).all(), name
    for gate in ("foreground", "background", "global"):
        # two of four
        assert joint[[f"{gate}_load_{i}" for i in range(4)]].sum(
            axis=1
        ).to_numpy() == pytest.approx(2)
        assert joint[f"{gate}_entropy"].between(0, np.log(2) + 1e-9).all()
    for name in ("visible", "one_modality"):
        assert joint[[f"foreground_{name}", f"background_{name}"]].stack().between(0, 1).all()
    expected = joint["pixel"] + 10 * joint["gradient"] + joint["load"]
    assert joint["fusion"].to_numpy() == pytest.approx(expected.to_numpy())
    both = joint["fusion"] + joint["detection_infrared"] + joint["detection_visible"]
    assert joint["loss"].to_numpy() == pytest.approx(both.to_numpy())
    assert model.record["attention"] == "joint" and model.record["backbones"] == "from scratch"
    assert model.record["settings"] == TINY.to_dict() and model.record["data"]["pairs"] == 6


def test_nothing_global_is_drawn(unbroken, pairs, tmp_path):
    """Same settings, same weights, whatever the state of global generators, which stays
    untouched.
    """
    torch.manual_seed(99)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    again = train(vary(TINY, save_every=0, workers=2), tmp_path, pairs, progress=False)
    assert (
        torch.equal(before, torch.get_rng_state())
        and (numpy_before == np.random.get_state()[1]).all()
    )
    assert same(again, unbroken[1])


def test_finished_training_is_loaded(unbroken, pairs):
    folder, model, _ = unbroken
    assert same(train(TINY, folder, pairs, progress=False), model)
    assert same(load(folder), model) and same(
        load(folder / "model.safetensors", device="cpu"), model
    )
    assert sum(path.stat().st_size for path in folder.glob("model.*")) < 3e6


@pytest.mark.parametrize("size", [(97, 131), (33, 40), (2, 3), (64, 48)])
def test_fuse_any_size(unbroken, size):
    model = unbroken[1]
    rng = np.random.default_rng(1)
    infrared, colour = (
        rng.integers(0, 256, size, np.uint8),
        rng.integers(0, 256, (*size, 3), np.uint8),
    )
    fused = model.fuse(infrared, images.luma(colour))
    assert fused.shape == size and fused.dtype == np.uint8
    assert np.array_equal(fused, model.fuse(infrared, colour)) and np.array_equal(
        fused, model.fuse(infrared, images.luma(colour))
    )
    result, maps = model.predict_pair(infrared, colour)
    assert maps.shape == (1, 2, *size) and result.expert_outputs["foreground"].shape == (
        1,
        4,
        2,
        *size,
    )
    assert np.array_equal(fused, images.to_uint8(result.fused[0, 0].double().numpy() * 255))


def test_frozen_detectors_stay(unbroken, pairs, tmp_path):
    """Detectors of an earlier training, looked up once, handed over or not: the same fusion
    network.
    """
    folder, joint, _ = unbroken
    frozen = vary(
        TINY,
        detectors_from=str(folder),
        attention="frozen",
        detector_epochs=0,
        epochs=1,
        crop=(24, 32),
        flip=True,
    )
    maps = attention_maps(load(folder), pairs)
    one = train(frozen, tmp_path / "one", pairs, progress=False)
    two = train(frozen, tmp_path / "two", pairs, maps=maps, progress=False)
    assert (
        same(one, two)
        and same(one.detectors, joint.detectors)
        and not same(one.fusion, joint.fusion)
    )
    assert maps[0].shape == (2, 8, 12) and one.record["backbones"] == {"detectors": str(folder)}
    assert set(pd.read_csv(tmp_path / "one" / "log.csv")["phase"]) == {"frozen"}


@pytest.mark.parametrize(
    "change",
    [
        {
            "model": {"width": 2, "gate_grid": [[2, 3], [2, 3]], "reading": "official"},
            "weight_decay": 1e-4,
            "clip": 0.5,
        },
        {
            "model": {
                "width": 2,
                "gate_grid": [[2, 3], [2, 3]],
                "local": "none",
                "decoder": "single",
            }
        },
        {"model": {"width": 2, "gate_grid": [[2, 3], [2, 3]], "visible_channels": 3}},
        {
            "pixel_loss": "official",
            "importance_loss": True,
            "gate_lr": 1e-5,
            "detector": {"size": "small", "shared": True},
        },
        {"precision": "bfloat16", "decay": "cosine", "warm_up": 2},
    ],
)
def test_variants_train(change, pairs, tmp_path):
    """Every variant takes its steps, is saved, and comes back."""
    settings = vary(TINY, detector_epochs=0, epochs=1, ap_every=9, **change)
    model = train(settings, tmp_path, pairs[:2], held_out=[], progress=False)
    log = pd.read_csv(tmp_path / "log.csv")
    assert (
        np.isfinite(log[["loss", "fusion", "detection_infrared"]]).all(axis=None)
        and "ap_infrared" not in log
    )
    infrared, visible = pairs[0].infrared, pairs[0].visible
    assert np.array_equal(
        load(tmp_path, "cpu").fuse(infrared, visible), model.fuse(infrared, visible)
    )


def test_no_boxes_says_what_happens_instead(pairs, tmp_path, capsys):
    bare = [Pair(pair.name, pair.infrared, pair.visible) for pair in pairs[:2]]
    model = train(vary(TINY, epochs=1), tmp_path / "uniform", bare, progress=False)
    output = capsys.readouterr().out
    assert "no boxes, so no detector is trained, and the attention is 0.5 everywhere" in output
    assert (
        model.record["note"] in output
        and model.detectors is None
        and model.record["attention"] == "uniform"
    )
    _, maps = load(tmp_path / "uniform").predict_pair(bare[0].infrared, bare[0].visible)
    assert (maps == 0.5).all()


def test_scenes_in_a_folder_train_like_those_in_memory(packed, tmp_path):
    write_scenes(tmp_path / "data", range(6), (32, 48), evaluation=1 / 3)
    settings = vary(TINY, data=str(tmp_path / "data"), size=None, epochs=1, detector_epochs=0)
    train(settings, tmp_path / "a", progress=False)
    train(vary(settings, data=""), tmp_path / "b", packed[:4], packed[4:], progress=False)
    one, two = (pd.read_csv(tmp_path / name / "log.csv").drop(columns=TIMES) for name in "ab")
    pd.testing.assert_frame_equal(one, two)


# ---- interruptions -------------------------------------------------------------------------------


class Trap(list):
    """Pairs that do something when they are read for the n-th time."""

    def __init__(self, pairs, n, action):
        super().__init__(pairs)
        self.left, self.action = n, action

    def __getitem__(self, which):
        self.left -= 1
        if self.left == 0:
            self.action()
        return super().__getitem__(which)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_loses_nothing(number, unbroken, pairs, tmp_path):
    trapped = Trap(pairs, 10, lambda: os.kill(os.getpid(), number))
    with pytest.raises(
        KeyboardInterrupt,
        match="epoch 2, step .*: stopped as asked; all is saved, train again to go on",
    ):
        train(TINY, tmp_path, trapped, progress=False)
    assert not (tmp_path / "model.safetensors").exists()
    with pytest.raises(FileNotFoundError, match="model.safetensors: expected a checkpoint"):
        load(tmp_path)
    before = signal.getsignal(number)
    assert same(train(TINY, tmp_path, pairs, progress=False), unbroken[1])
    assert signal.getsignal(number) is before


def test_full_disk_leaves_the_checkpoint_before(unbroken, pairs, tmp_path, monkeypatch):
    write, calls = Path.write_bytes, itertools.count()

    def full(path, content):
        if next(calls) == 3:
            write(path, bytes(content)[:1000])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="state.pt: cannot be written .No space left on device."):
        train(TINY, tmp_path, pairs, progress=False)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".state")]
    assert torch.load(tmp_path / "state.pt", weights_only=True)["epoch"] == 1
    assert same(train(TINY, tmp_path, pairs, progress=False), unbroken[1])


KILLED = """
import itertools, json, os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from fusionlib.training.config import TrainingConfig, open_pairs
from fusionlib.training import train  # this process computes nothing itself, so its children may
settings, folder = TrainingConfig.from_dict(json.loads(sys.argv[1])), sys.argv[2]
pairs, chance, kills = open_pairs(settings), random.Random(0), []

def start(name, die_at_rename=None):
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        rename, count = os.replace, itertools.count(1)
        def replace(source, destination):
            number = next(count)
            # between writing a file and giving it its name, or right after
            if number == die_at_rename:
                if chance.random() < 0.5:
                    rename(source, destination)
                os.kill(os.getpid(), signal.SIGKILL)
            rename(source, destination)
        os.replace = replace
        train(settings, f"{folder}/{name}", pairs, [], progress=False)
        code = 0
    except BaseException as error:
        print(type(error).__name__, error, flush=True)
    finally:
        os._exit(code)

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

began = time.monotonic()
assert ended(start("unbroken")) == 0
whole = time.monotonic() - began
for run in itertools.count():
    code = 1
    while code and len(kills) < 10:
        if len(kills) % 5 == 4:
            code = ended(start(f"killed{run}", chance.randint(1, 2)))
        else:
            child = start(f"killed{run}")
            time.sleep(chance.uniform(0.05, 0.35) * whole)
            os.kill(child, signal.SIGKILL)
            code = ended(child)
        if code == -signal.SIGKILL:
            state = f"{folder}/killed{run}/state.pt"
            reached = None
            if os.path.exists(state):
                saved = torch.load(state, weights_only=True)
                reached = [saved["epoch"], saved["step"]]
            kills.append([run, reached])
        else:
            assert code == 0, code
    assert ended(start(f"killed{run}")) == 0
    if len(kills) == 10:
        break
print(json.dumps(kills))
"""


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_kill_before_the_log_is_written_loses_no_line(epoch, tmp_path, monkeypatch):
    """The last moment of an epoch: state and log are two files, and a kill may come between."""
    settings = vary(TINY, epochs=2, detector_epochs=0, attention="uniform")
    write = images.write_text

    def killed(path, text):
        if path.name == "log.csv" and len(text.splitlines()) == epoch + 1:
            raise KeyboardInterrupt
        return write(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(images, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            train(settings, tmp_path, progress=False)
    train(settings, tmp_path, progress=False)
    assert pd.read_csv(tmp_path / "log.csv")["epoch"].tolist() == [1, 2]


def test_ten_kills_change_nothing(tmp_path):
    """SIGKILL at random moments, also inside epochs and around the renaming of a checkpoint; then
    the same weights.
    """
    settings = vary(TINY, epochs=3, save_every=2)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(settings.to_dict()), str(tmp_path)],
        text=True,
        capture_output=True,
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kills = json.loads(done.stdout.splitlines()[-1])
    assert len(kills) == 10
    expected = load(tmp_path / "unbroken")
    log = pd.read_csv(tmp_path / "unbroken" / "log.csv").drop(columns=TIMES)
    for run in range(kills[-1][0] + 1):
        assert same(load(tmp_path / f"killed{run}"), expected)
        found = pd.read_csv(tmp_path / f"killed{run}" / "log.csv").drop(columns=TIMES)
        pd.testing.assert_frame_equal(found, log)


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.mark.parametrize("nodes", [1, 2])
def test_two_processes_compute_what_one_does(pairs, tmp_path, nodes):
    """Two gloo processes, of one node or one of each of two, with half the batch each: the losses
    of one process to 1e-5, its loads, its box AP.
    """
    settings = vary(TINY, batch=4, lr=1e-5, detector_lr=1e-5, clip=1.0, save_every=1)
    config = images.write_text(tmp_path / "settings.json", json.dumps(settings.to_dict()))
    command = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={nodes}"]
    command += [f"--nproc-per-node={2 // nodes}", "--rdzv-backend=c10d", "--rdzv-id=1"]
    command += [f"--rdzv-endpoint=127.0.0.1:{free_port()}", "-m", "fusionlib.training"]
    command += ["--config", str(config), "--output", str(tmp_path / "two"), "--device", "cpu"]
    started = [
        subprocess.Popen(
            command,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=REPOSITORY,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for _ in range(nodes)
    ]
    for process in started:
        complaints = process.communicate(timeout=280)[1]
        assert process.returncode == 0, complaints
    train(settings, tmp_path / "one", pairs, progress=False)
    one, two = (
        pd.read_csv(tmp_path / name / "log.csv").drop(columns=TIMES) for name in ("one", "two")
    )
    pd.testing.assert_frame_equal(one, two, rtol=1e-5, atol=1e-6)


def test_processes_started_here_compute_what_one_does(packed, tmp_path):
    """After 20 steps of joint training: weights and losses of one process to 1e-5; those of the
    detectors to 1e-4, which choose regions by comparing numbers that rounding can swap, and the
    running statistics of their normalisation to 1e-3.
    """
    settings = vary(TINY, batch=4, lr=1e-5, repeat=13, epochs=1, detector_epochs=0)
    states, logs = [], []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        options = {"processes": processes, "device": "cpu", "progress": False}
        states.append(train(settings, folder, packed, [], **options).state_dict())
        optimizer = torch.load(folder / "state.pt", weights_only=True)["optimizer"]
        assert optimizer["state"][0]["step"] == 20
        logs.append(pd.read_csv(folder / "log.csv").drop(columns=TIMES))
    detection = ["loss", "detection_infrared", "detection_visible"]
    pd.testing.assert_frame_equal(*(log[detection] for log in logs), rtol=1e-4)
    logs = [log.drop(columns=detection) for log in logs]
    pd.testing.assert_frame_equal(*logs, rtol=1e-5, atol=1e-6)
    for name, value in states[0].items():
        least = 1e-5 if "fusion" in name else 1e-3 if "running_" in name else 1e-4
        assert torch.allclose(value, states[1][name], rtol=least, atol=least), name


def test_what_one_process_raises_is_raised(pairs, tmp_path):
    wrong = replace(pairs[3], labels=["tram"] * len(pairs[3].labels))
    with pytest.raises(ValueError, match="scene-03: expected classes out of person"):
        both = [*pairs[:3], wrong, *pairs[4:]]
        train(TINY, tmp_path, both, device="cpu", processes=2, progress=False)
    for processes in (-1, 1.5, True):
        with pytest.raises(ValueError, match="processes: expected a whole number of at least 0"):
            train(TINY, tmp_path, pairs, device="cpu", processes=processes, progress=False)
    with pytest.raises(ValueError, match="batch: expected a multiple of the 4 processes, got 2"):
        train(TINY, tmp_path, pairs, device="cpu", processes=4, progress=False)


# ---- throughput ----------------------------------------------------------------------------------


def test_a_slow_loader_is_seen_in_the_log(pairs, tmp_path, monkeypatch):
    """By a clock that only reading, 10 s a pair, and computing, 1 s a step, advance."""
    now, step_loss = [0.0], loop.step_loss

    class Slow(list):
        def __getitem__(self, which):
            now[0] += 10
            return super().__getitem__(which)

    def timed(*arguments):
        now[0] += 1
        return step_loss(*arguments)

    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(loop, "step_loss", timed)
    settings = vary(TINY, attention="uniform", epochs=1, detector_epochs=0)
    for kind, waiting in ((list, 0), (Slow, 60)):
        train(settings, tmp_path / kind.__name__, kind(pairs), progress=False)
        row = pd.read_csv(tmp_path / kind.__name__ / "log.csv").iloc[0]
        assert (row["data_seconds"], row["step_seconds"]) == (waiting, 3)
        assert row["seconds"] == waiting + 3
        assert row["images_per_second"] == pytest.approx(6 / (waiting + 3))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_workers_stay_and_pin_for_a_gpu(device, pairs, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    data = samples.Samples(pairs, CLASSES, False)
    loader = samples.make_loader(data, [], None, torch.device(device))
    gpu = device == "cuda"
    assert (loader.num_workers, loader.pin_memory) == ((2, True) if gpu else (0, False))
    assert loader.persistent_workers is gpu
    assert samples.make_loader(data, [], 2, torch.device(device)).persistent_workers


# ---- another detector, another compiler ----------------------------------------------------------


class Brightness(torch.nn.Module):
    """A detector of another kind: the smallest that a training asks for."""

    SIZES = ("any",)

    def __init__(self, classes, size, *, shared, pretrained, seed):
        super().__init__()
        self.classes, self.shared = tuple(classes), shared
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, infrared, visible, targets, generators=None):
        maps = self.attention(infrared, visible)
        return {"infrared": maps[:, 0].mean(), "visible": maps[:, 1].mean()}, maps

    def level0(self, infrared, visible):
        return torch.nn.functional.avg_pool2d(torch.cat([infrared, visible], 1), 4) * self.scale

    def attention(self, infrared, visible):
        return torch.cat([infrared, visible], 1) * self.scale

    def boxes(self, image, modality="infrared"):
        return Boxes(np.array([[1.0, 2.0, 9.0, 9.0]]), [self.classes[0]], np.array([0.5]))

    def load_pretrained(self, path):
        return {}


def test_another_kind_of_detector_trains(pairs, tmp_path, monkeypatch):
    monkeypatch.setitem(detectors.KINDS, "brightness", Brightness)
    settings = TrainingConfig.from_dict({"detectors": {"kind": "brightness", "size": "any"}}, TINY)
    train(settings, tmp_path, pairs, progress=False)
    log = pd.read_csv(tmp_path / "log.csv")
    assert log["ap_infrared"].notna().all() and log["detection_visible"].is_monotonic_decreasing
    fused = load(tmp_path, "cpu").fuse(pairs[0].infrared, pairs[0].visible)
    assert fused.shape == pairs[0].infrared.shape


def test_a_compiled_network_trains_as_the_plain_one(pairs, tmp_path, monkeypatch):
    """Traced as for a compiler, but run without one; experts that no image chose stay alone."""
    compiled = torch.nn.Module.compile
    calls = []

    def traced(module):
        calls.append(module)
        compiled(module, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    plain = vary(TINY, attention="uniform", weight_decay=0.1, epochs=1, detector_epochs=0)
    plain = TrainingConfig.from_dict({"network.k": 1}, plain)
    one = train(plain, tmp_path / "plain", pairs, progress=False).state_dict()
    two = train(vary(plain, compile=True), tmp_path / "traced", pairs, progress=False).state_dict()
    assert len(calls) == 1 and one.keys() == two.keys()
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-6), name


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: p.__class__(p.name, p.infrared, p.visible[:-1], p.boxes, p.labels),
            "scene-00.*expected one size",
        ),
        (
            lambda p: p.__class__(p.name, p.infrared, p.visible, p.boxes + [0, 0, 99, 0], p.labels),
            "scene-00: expected boxes .* inside 32x48",
        ),
        (
            lambda p: p.__class__(p.name, p.infrared, p.visible, p.boxes * [1, 1, 0, 1], p.labels),
            "scene-00: expected boxes",
        ),
        (
            lambda p: p.__class__(p.name, p.infrared, p.visible, p.boxes, ["tram"] * len(p.labels)),
            "scene-00: expected classes out of person, bicycle, car, got 'tram'",
        ),
        (
            lambda p: p.__class__(
                p.name, p.infrared[:, :40], p.visible[:, :40], np.zeros((0, 4)), []
            ),
            "size: expected images of one size in a batch, got .* set data.size or data.crop",
        ),
    ],
)
def test_bad_pairs_are_named(change, message, pairs, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        train(vary(TINY, batch=6), tmp_path, [change(pairs[0]), *pairs[1:]], progress=False)
    assert "\n" not in str(caught.value)


def test_bad_calls(unbroken, pairs, tmp_path):
    folder = unbroken[0]
    with pytest.raises(
        ValueError,
        match="state.pt: holds a training with optimization.alpha = 10.0, asked for is 20.0; use",
    ):
        train(vary(TINY, alpha=20.0), folder, pairs, progress=False)
    with pytest.raises(
        ValueError, match="state.pt: holds a training with pairs = 6, asked for is 5"
    ):
        train(TINY, folder, pairs[:5], progress=False)
    with pytest.raises(ValueError, match="at least one pair"):
        train(TINY, tmp_path, [], progress=False)
    with pytest.raises(
        ValueError, match="crop: expected at most 32x48, the size of scene-0., got 40x40"
    ):
        train(vary(TINY, crop=(40, 40), detector_epochs=0), tmp_path, pairs, progress=False)
    with pytest.raises(ValueError, match="scene-01: expected an annotation, as the first pair has"):
        train(
            TINY,
            tmp_path,
            [pairs[0], Pair("scene-01", pairs[1].infrared, pairs[1].visible)],
            progress=False,
        )
    with pytest.raises(ValueError, match="'float16' expects a GPU"):
        train(vary(TINY, precision="float16"), tmp_path, pairs, device="cpu", progress=False)
    with pytest.raises(FileNotFoundError, match="boxes.json: expected a COCO annotation file"):
        write_scenes(tmp_path / "data", range(2), (32, 48))
        train(
            vary(TINY, data=str(tmp_path / "data"), annotations="boxes.json"),
            tmp_path,
            progress=False,
        )
    with pytest.raises(
        FloatingPointError, match="step .: the loss is not finite; the last checkpoint stays"
    ):
        train(vary(TINY, lr=1e30), tmp_path / "nan", pairs, progress=False)
    # refusals left it as it was
    assert same(train(TINY, folder, pairs, progress=False), unbroken[1])


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:5000] + b"\0" * 900 + b[5900:]],
)
def test_damaged_checkpoint(damage, unbroken, pairs, tmp_path):
    for name in ("state.pt", "model.safetensors", "model.json"):
        (tmp_path / name).write_bytes((unbroken[0] / name).read_bytes())
    content = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(damage(content))
    with pytest.raises(
        ValueError,
        match="state.pt: expected the checkpoint of a training, it is truncated or damaged",
    ):
        train(TINY, tmp_path, pairs, progress=False)
    (tmp_path / "model.safetensors").write_bytes(
        damage((tmp_path / "model.safetensors").read_bytes())
    )
    with pytest.raises(ValueError, match="model.safetensors"):
        load(tmp_path)


def test_checkpoint_of_another_network(unbroken, pairs, tmp_path):
    found = torch.load(unbroken[0] / "state.pt", weights_only=True)
    found["model"].pop("fusion.visible_encoder.layers.0.weight")
    torch.save(found, tmp_path / "state.pt")
    with pytest.raises(
        ValueError, match="state.pt: holds a training of a network or an optimiser built otherwise"
    ) as caught:
        train(TINY, tmp_path, pairs, progress=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"settings": 5}, "its settings is of type int"),
        ({"settings": {"data": {"classes": 5}}}, "data.classes: expected different names"),
        ({"data": None}, "its data is of type NoneType"),
        ({"epoch": "1"}, "its epoch is of type str"),
        ({"sums": [1.0]}, "its sums is of type list"),
        ({"history": [1]}, "its history is of type list"),
        ({"model": 5}, "its model is of type int"),
        ({"optimizer": {}}, "a network or an optimiser built otherwise"),
        ({"optimizer": {"state": 5, "param_groups": 5}}, "an optimiser built otherwise"),
    ],
)
def test_a_checkpoint_of_wrong_kinds(change, words, unbroken, pairs, tmp_path):
    found = torch.load(unbroken[0] / "state.pt", weights_only=True)
    torch.save(found | change, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=f"^{tmp_path}/state.pt: .*{words}") as caught:
        train(TINY, tmp_path, pairs, progress=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings", [5, None, {"data": {"classes": 5}}, {"network": None}, {"network": {"width": "a"}}]
)
def test_a_model_whose_settings_are_of_a_wrong_kind(settings, unbroken, tmp_path):
    tensors = load_checkpoint(unbroken[0] / "model.safetensors")
    save_checkpoint(
        tmp_path / "model.safetensors", tensors, tensors.config | {"settings": settings}
    )
    with pytest.raises(ValueError, match=f"^{tmp_path}/model.json: .*expected"):
        load(tmp_path)


def test_settings_of_a_larger_network_than_the_memory_holds(unbroken, tmp_path):
    tensors = load_checkpoint(unbroken[0] / "model.safetensors")
    tensors.config["settings"]["network"]["width"] = 10**6
    save_checkpoint(tmp_path / "model.safetensors", tensors, tensors.config)
    with pytest.raises(ValueError, match=f"^{tmp_path}/model.safetensors: .*of another shape"):
        load(tmp_path)


def test_one_training_a_folder(pairs, tmp_path):
    from fusionlib import runs

    with (
        runs.lock(tmp_path, "test"),
        pytest.raises(RuntimeError, match="already being worked on by process"),
    ):
        train(TINY, tmp_path, pairs, progress=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "config: expected a JSON file of settings, found none"),
        ("{", "is not a JSON object of settings"),
        ("[1]", "settings: expected a JSON object, got list"),
        ('{"bach": 2}', "expected known names, got 'bach'; nearest: 'optimization.batch'"),
    ],
)
def test_command_line_refuses_in_a_sentence(content, message, tmp_path):
    path = tmp_path / "settings.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit, match=message):
        command_line.main(["--config", str(path)])


# ---- what it learns ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    return folder, train(SMOKE, folder, progress=False), open_pairs(SMOKE, held_out=True)


def test_smoke_training_learns(smoke):
    """Losses fall, every expert is used, detectors find something."""
    folder, model, held_out = smoke
    log = pd.read_csv(folder / "log.csv")
    alone, fusion = log[log["phase"] == "detectors"], log[log["phase"] == "frozen"]
    for part, names in (
        (alone, ["detection_infrared", "detection_visible"]),
        (fusion, ["pixel", "gradient", "fusion"]),
    ):
        for name in names:
            assert part[name].iloc[-3:].mean() < part[name].iloc[0], name
    for gate, i in itertools.product(("foreground", "background", "global"), range(4)):
        assert fusion[f"{gate}_load_{i}"].iloc[-5:].mean() > 0.05, (gate, i)
    assert alone[["ap_infrared", "ap_visible"]].iloc[-1].min() > 0.01
    assert sum(path.stat().st_size for path in folder.glob("model.*")) <= 3e6


def test_smoke_beats_average_and_maximum(smoke):
    """On held-out scenes: Qabf, VIF, AG and the gradient loss beside both, inside boxes nearer to
    max(V, I) than the mean.
    """
    table = held_out.means(held_out.score(*smoke[1:]))
    print(table.round(4).to_string())
    fused, average, maximum = (table.loc[name] for name in ("MoE-Fusion", "average", "maximum"))
    for metric in held_out.METRICS:
        assert fused[metric] > max(average[metric], maximum[metric]), metric
    assert fused[held_out.DISTANCE] < average[held_out.DISTANCE]
    assert fused[held_out.GRADIENT] < min(average[held_out.GRADIENT], maximum[held_out.GRADIENT])


def test_attention_of_the_suites_own_model_lies_on_objects():
    """Inside the boxes of held-out scenes the maps of both detectors, and Att made of them, are
    higher than outside.

    Of the weights that come with the suite: the detection loss says so little of the attention that
    a training with another seed, or on another kind of processor, may end without.
    """
    model = load(ARTEFACT, "cpu")
    means = (
        held_out.attention(model, held_out.pairs(model.settings))
        .groupby("map")[["inside", "outside"]]
        .mean()
    )
    print(means.round(3).to_string())
    assert (
        set(means.index) == {"infrared", "visible", "Att"}
        and (means["inside"] - means["outside"] > 0.05).all()
    )


def test_scenes_held_out_are_new():
    used, reserved = (
        {pair.name for pair in open_pairs(vary(SMOKE, scenes=(3, 3), size=(32, 32)), held_out)}
        for held_out in (False, True)
    )
    assert len(used) == len(reserved) == 3 and not used & reserved
    assert np.array_equal(
        open_pairs(vary(SMOKE, scenes=(1, 0), size=(40, 48)))[0].infrared,
        scene(0, (40, 48)).infrared,
    )


def test_gathered_kernels_train_as_the_loop_does(pairs, tmp_path, monkeypatch):
    """Experts that no image chose keep no gradient, so that weight decay and momentum leave them
    alone, as on a processor.
    """
    settings = vary(
        TINY, attention="uniform", weight_decay=0.1, epochs=1, detector_epochs=0, model={"k": 1}
    )
    trained = {}
    for way in ("loop", "gathered"):
        for module in (mixture, loop):
            monkeypatch.setattr(module, "prefers_gathered", lambda x, way=way: way == "gathered")
        trained[way] = train(settings, tmp_path / way, pairs, progress=False).state_dict()
    for name, value in trained["loop"].items():
        assert torch.allclose(value, trained["gathered"][name], atol=1e-6), name
