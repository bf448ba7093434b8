"""The weights that come with the suite: known by checksum, small, the default, and behaving as
their card says on images of every brightness.
"""

import re

import numpy as np
import pytest
from test_own_files import call, home  # noqa: F401  (a fixture)

from fusionlib import images, methods
from fusionlib.datasets import open_pairs
from fusionlib.experiments import comparison, model_quality
from fusionlib.metrics import exposure

NAMES = [name for name in methods.OWN_WEIGHTS if name != "scenes"]


@pytest.fixture(scope="module", params=NAMES)
def method(request):
    return methods.get("MoE-Fusion", request.param, device="cpu")


def test_general_is_the_default_and_scenes_is_said(home, monkeypatch, capsys):  # noqa: F811
    assert methods.get("MoE-Fusion").variants == ("general", "scenes")
    assert methods.get("MoE-Fusion").variant == "general"
    words = ("fuse", "--method", "MoE-Fusion", home / "ir", home / "vi")
    code, said = call(monkeypatch, capsys, *words, home / "out")
    assert code == 0 and "generated scenes" not in said
    assert methods.folders.lost_pixels(home / "out").startswith("clipped ")
    code, said = call(monkeypatch, capsys, *words, home / "other", "--variant", "scenes")
    assert code == 0 and "trained for a minute on generated scenes" in said
    assert '"variant": "scenes"' in (home / "other/run.json").read_text()


def test_a_checkpoint_takes_the_place_of_a_variant(tmp_path):
    named = methods.get("MoE-Fusion", checkpoint=tmp_path)
    assert named.variant == "" and named.checkpoint == str(tmp_path)
    with pytest.raises(ValueError, match="expected a variant or a checkpoint, got both"):
        methods.get("MoE-Fusion", "general", checkpoint=tmp_path)
    assert comparison.get("MoE-Fusion scenes").variant == "scenes"
    assert comparison.get("MoE-Fusion", checkpoint="scenes").variant == "scenes"
    assert comparison.own_weights("") == "scenes" and comparison.own_weights("x") == "general"


def test_weights_are_small_and_those_of_the_card(method):
    folder = methods.OWN_WEIGHTS[method.variant]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 3e6
    card = (methods.OWN_WEIGHTS["general"] / "CARD.md").read_text(encoding="utf-8")
    assert re.search(rf"\b{method.variant}\b.*{method.function.weights}", card)
    assert (
        comparison.weights_of(method)
        == "trained here on msrs128, roadscene, m3fd of general (train)"
    )


def test_curves_of_brightness(method):
    """What leaves the network for constant images: the goals of the general model hold for it; the
    other is held to what its card admits.
    """
    curves = model_quality.responses(method.fuse)
    ends = curves.iloc[-1]
    assert ends["f(x, x)"] >= 242 and ends["f(0, v)"] >= 217
    assert (model_quality.dents(curves) <= DENTS[method.variant]).all()


DENTS = {"general": 13}  # gray levels; the goal is 0


def test_nights_of_generated_scenes_stay_visible():
    pairs = open_pairs("", limit=12, scene_size=(96, 128))
    general, scenes = (methods.get("MoE-Fusion", name) for name in ("general", "scenes"))
    black = {}
    for chosen in (general, scenes):
        shares = []
        for pair in pairs:
            sources = pair.infrared, images.luma(pair.visible)
            shares.append(exposure.black_share(chosen.fuse(*sources), *sources))
        black[chosen.variant] = np.mean(shares)
    assert black["general"] < 0.001 <= black["scenes"]
