"""A GPU and the CPU agree: every learned method, the attention, a training. Skipped where there is
no GPU.
"""

import numpy as np
import pandas as pd
import pytest
import torch

from fusionlib import images, methods
from fusionlib.datasets.scenes import scene
from fusionlib.methods import get, missing_weights
from fusionlib.methods.learned import MOE_FUSION
from fusionlib.networks import COMPARED
from fusionlib.training import train
from fusionlib.training.config import TrainingConfig
from fusionlib.training.model import load
from fusionlib.training.presets import SMOKE

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
VARIANTS = [
    (name, variant) for name in (MOE_FUSION, *COMPARED) for variant in methods.variants_of(name)
]


def gray(seed: int = 3, size=(97, 131)):
    one = scene(seed, size)
    return images.luma(one.infrared), images.luma(one.visible)


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_methods_fuse_to_the_same_gray_values(name, variant, request):
    weights = None if name == MOE_FUSION else str(request.getfixturevalue("fusion_weights"))
    on = {device: get(name, variant, weights, device) for device in ("cpu", "cuda")}
    if reason := missing_weights(on["cpu"]):
        pytest.skip(reason)
    a, b = gray()
    difference = np.abs(on["cuda"].fuse(a, b).astype(int) - on["cpu"].fuse(a, b))
    assert difference.max() <= 1, (
        "a value on the edge between two gray levels may fall to either side"
    )
    assert (difference > 0).mean() < 0.01


def test_attention_agrees():
    infrared, visible = gray()
    maps = [
        load(methods.ARTEFACT, device).predict_pair(infrared, visible, details=False)[1].cpu()
        for device in ("cpu", "cuda")
    ]
    assert torch.allclose(*maps, atol=1e-4)


@pytest.mark.parametrize("attention", ["joint", "frozen", "uniform"])
def test_training_starts_alike(attention, tmp_path):
    few = {"scenes": (8, 2), "epochs": 2, "detector_epochs": 2, "attention": attention}
    settings = TrainingConfig.from_dict(few, SMOKE)
    logs = {}
    for device in ("cpu", "cuda"):
        train(settings, tmp_path / device, device=device, progress=False)
        logs[device] = pd.read_csv(tmp_path / device / "log.csv")
    first = {device: log[log["phase"] != "detectors"].iloc[0] for device, log in logs.items()}
    for name in ("loss", "pixel", "gradient"):
        assert first["cuda"][name] == pytest.approx(first["cpu"][name], rel=0.02), name
    model = load(tmp_path / "cuda", "cuda")
    a, b = gray()
    assert model.fuse(a, b).shape == a.shape
    assert model.record["device"].startswith("cuda")
