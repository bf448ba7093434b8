"""The newer compared networks: the outputs of their authors' programs, batches, bands, colour."""

import hashlib
import json
import os
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from fusionlib import images, methods
from fusionlib.experiments import comparison
from fusionlib.networks import COMPARED
from fusionlib.networks.compared import cddfuse, emma, gifnet, layers
from fusionlib.networks.weights import Checkpoint, fill

# Whole photographs, minutes in all; crops of them and small images are always checked.
full_size = pytest.mark.skipif(
    os.environ.get("FUSION_FULL_SIZE") != "1", reason="full-size images: set FUSION_FULL_SIZE=1"
)


def unit(x: Tensor) -> Tensor:
    return x / 255


def signed(x: Tensor) -> Tensor:
    return (x - 127.5) / 127.5


def signed_of_rgb(x: Tensor) -> Tensor:
    """Take one from the levels that PIL's conversion of a gray RGB image to YCbCr lowers."""
    lowered = torch.tensor(
        [11, 18, 25, 32, 55, 62, 69, 76, 99, 106, 113]
        + [136, 143, 150, 157, 180, 187, 194, 201, 224, 231, 238]
    )
    return signed(x - torch.isin(x, lowered).float())


def stretched(x: Tensor) -> Tensor:
    return (x - x.min()) / (x.max() - x.min() + 1e-5)


@dataclass(frozen=True)
class Case:
    """One flow of an official program: where it is stored and how a network is run like it."""

    method: str
    variant: str
    scale: Callable[[Tensor], Tensor] = unit  # of gray levels, for ``forward``
    suffix: str = ""  # of the stored arrays' names
    small: tuple[str, ...] = ("synth", "synthodd", "tno01c", "tno12c", "tno25c")  # that are stored
    reach: int | None = None  # pixels around an output that it depends on; None: the whole image


CASES = {
    "seafusion": Case("SeAFusion", "stretched", reach=9),
    "datfuse": Case("DATFuse", "released"),
    "u2fusion": Case("U2Fusion", "benchmark", reach=10),
    "u2fusion-author": Case("U2Fusion", "author", unit, "_vifirst", ("synthodd", "tno25c"), 10),
    "sdnet": Case("SDNet", "gray", scale=signed, reach=5),
    "sdnet-rgb": Case("SDNet", "rgb", signed_of_rgb, "_rgbfile", (), 5),
    "lrrnet": Case("LRRNet", "released", scale=stretched, reach=11),
    "gifnet": Case("GIFNet", "released"),
}
LOCAL = [name for name, case in CASES.items() if case.reach]


@pytest.fixture(scope="module")
def index(oracles):
    return json.loads((oracles / "index-C.json").read_text())


@pytest.fixture(scope="module")
def stored(oracles):
    """Return a function that gives a stored array of a case by the name of its image."""

    def read(name: str, image: str, kind: str = "") -> np.ndarray:
        archive = np.load(oracles / f"{name.split('-')[0]}_official.npz")
        return archive[image + CASES[name].suffix + kind]

    return read


@pytest.fixture(scope="module")
def small(oracles):
    """Return a function that gives an input pair of the stored file."""
    inputs = np.load(oracles / "inputs.npz")
    return lambda image: (inputs[f"{image}_ir"], inputs[f"{image}_vi"])


@pytest.fixture(scope="module")
def tno(fusion_data, index):
    """Return a function that gives a pair of TNO after checking that it is the oracle's."""

    def read(image: str) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for modality in ("ir", "vi"):
            path = fusion_data / "ivif" / "tno" / modality / f"{image[3:]}.png"
            if not path.is_file():
                pytest.skip(f"{path.name} of TNO is not among the data")
            known = index["sources"][image][f"{modality}_png_sha256"]
            assert hashlib.sha256(path.read_bytes()).hexdigest() == known
            found.append(images.read(path))
        return found[0], found[1]

    return read


def network_of(name: str, folder) -> torch.nn.Module:
    return layers.channels_last(COMPARED[CASES[name].method].load(CASES[name].variant, folder))


def scaled(name: str, pair) -> list[Tensor]:
    """Return a pair of gray images as ``forward`` takes them."""
    return [CASES[name].scale(torch.from_numpy(image)[None, None].float()) for image in pair]


def raw(network, pair: list[Tensor]) -> np.ndarray:
    """Return what a network gives before any stretch and rounding."""
    with torch.inference_mode():
        return network(*pair).numpy()[0, 0]


def largest(a, b) -> float:
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())


@pytest.mark.parametrize(
    ("name", "image"), [(name, image) for name, case in CASES.items() for image in case.small]
)
def test_small_images(name, image, fusion_weights, index, small, stored):
    network = network_of(name, fusion_weights)
    tolerance = index["tolerances_max_abs"][name.split("-")[0]]
    output = raw(network, scaled(name, small(image)))
    assert largest(output, stored(name, image)) <= tolerance
    fused = network.fuse(*small(image))
    assert largest(fused, stored(name, image, "_u8")) <= 1


@pytest.mark.parametrize("image", ["tno01", "tno12", "tno25"])
@pytest.mark.parametrize("name", LOCAL)
def test_crops_of_full_images(name, image, fusion_weights, index, tno, stored):
    """A pixel depends on its neighbourhood only, so a part with that margin gives the same."""
    y, x, h, w = index["sources"][image]["crop_yxhw"]
    m = CASES[name].reach
    cut = [whole[..., y - m : y + h + m, x - m : x + w + m] for whole in scaled(name, tno(image))]
    output = raw(network_of(name, fusion_weights), cut)[m:-m, m:-m]
    tolerance = index["tolerances_max_abs"][name.split("-")[0]]
    assert largest(output, stored(name, f"{image}_crop")) <= tolerance


@full_size
@pytest.mark.parametrize("image", ["tno01", "tno12", "tno25"])
@pytest.mark.parametrize("name", CASES)
def test_full_images(name, image, fusion_weights, index, tno, stored):
    y, x, h, w = index["sources"][image]["crop_yxhw"]
    fused = network_of(name, fusion_weights).fuse(*tno(image))
    assert largest(fused[y : y + h, x : x + w], stored(name, f"{image}_crop", "_u8")) <= 1
    recorded = index["cases"][name.split("-")[0]]["outputs"][image + CASES[name].suffix]
    assert fused.mean() == pytest.approx(recorded["u8_mean"], abs=1e-2)


@pytest.mark.parametrize("name", ["seafusion", "gifnet"])
def test_colour(name, fusion_weights, oracles, stored):
    pair = np.load(oracles / "inputs_colour.npz")
    infrared, visible = (pair[key] for key in pair.files)
    fused = network_of(name, fusion_weights).fuse(infrared, visible)
    assert largest(fused, stored(name, "colour", "_u8")) <= 1


@pytest.mark.parametrize("name", CASES)
def test_a_batch_is_its_single_images(name):
    """No image's result depends on the others."""
    network = COMPARED[CASES[name].method].build(CASES[name].variant)
    draw = torch.Generator().manual_seed(1)
    a, b = torch.rand(2, 3, 1, 37, 43, generator=draw)
    with torch.inference_mode():
        together = network(a, b)
        for k in range(3):
            assert largest(network(a[k : k + 1], b[k : k + 1]), together[k : k + 1]) <= 2e-6


@pytest.mark.parametrize("name", LOCAL)
def test_bands_change_nothing_and_reach_is_what_a_network_sees(name, monkeypatch):
    case = CASES[name]
    network, reached = COMPARED[case.method].build(case.variant), []
    draw = np.random.default_rng(0)
    infrared, visible = draw.integers(0, 256, (2, 61, 45), dtype=np.uint8)
    whole = network.fuse(infrared, visible)
    in_bands = layers.in_bands

    def noted(network, a, b, reach):
        reached.append(reach)
        return in_bands(network, a, b, reach)

    monkeypatch.setattr(sys.modules[type(network).__module__], "in_bands", noted)
    monkeypatch.setattr(layers, "BAND_PIXELS", 8 * 45)
    assert largest(network.fuse(infrared, visible), whole) <= 1 and reached == [case.reach]
    # in doubles, where the last row's change is not rounded away
    network.double()
    a, b = (image.double() for image in scaled(name, (infrared, visible)))
    changed = a.clone()
    changed[..., 30, 20] += 1
    with torch.inference_mode():
        rows = (network(a, b) != network(changed, b))[0, 0].any(dim=1).nonzero().flatten()
    assert int(rows.min()) == 30 - case.reach and int(rows.max()) == 30 + case.reach


# ---- generated weights, with which the official programs were run: structure and names are proved


def shapes_of_base(name: str, c: int) -> dict[str, tuple]:
    """Return official names and shapes of a block with full convolutions, of c maps."""
    return {
        f"{name}norm1.body.weight": (c,),
        f"{name}norm1.body.bias": (c,),
        f"{name}attn.scale": (8, 1, 1),
        f"{name}attn.qkv1.weight": (3 * c, c, 1, 1),
        f"{name}attn.qkv2.weight": (3 * c, 3 * c, 3, 3),
        f"{name}attn.proj.weight": (c, c, 1, 1),
        f"{name}norm2.body.weight": (c,),
        f"{name}norm2.body.bias": (c,),
        f"{name}mlp.project_in.weight": (2 * c, c, 1, 1),
        f"{name}mlp.dwconv.weight": (2 * c, 2, 3, 3),
        f"{name}mlp.project_out.weight": (c, c, 1, 1),
    }


def shapes_of_restormer(name: str) -> dict[str, tuple]:
    return {
        f"{name}norm1.body.weight": (64,),
        f"{name}norm1.body.bias": (64,),
        f"{name}attn.temperature": (8, 1, 1),
        f"{name}attn.qkv.weight": (192, 64, 1, 1),
        f"{name}attn.qkv_dwconv.weight": (192, 1, 3, 3),
        f"{name}attn.project_out.weight": (64, 64, 1, 1),
        f"{name}norm2.body.weight": (64,),
        f"{name}norm2.body.bias": (64,),
        f"{name}ffn.project_in.weight": (256, 64, 1, 1),
        f"{name}ffn.dwconv.weight": (256, 1, 3, 3),
        f"{name}ffn.project_out.weight": (64, 128, 1, 1),
    }


def shapes_of_details(name: str) -> dict[str, tuple]:
    shapes = {f"{name}shffleconv.weight": (64, 64, 1, 1), f"{name}shffleconv.bias": (64,)}
    for theta in ("phi", "rho", "eta"):
        layers_of = f"{name}theta_{theta}.bottleneckBlock."
        shapes[f"{layers_of}0.weight"] = (64, 32, 1, 1)
        shapes[f"{layers_of}3.weight"] = (64, 1, 3, 3)
        shapes[f"{layers_of}5.weight"] = (32, 64, 1, 1)
    return shapes


def shapes_of_cddfuse() -> dict[str, tuple]:
    encoder, decoder = "DIDF_Encoder/module.", "DIDF_Decoder/module."
    shapes: dict[str, tuple] = {
        f"{encoder}patch_embed.proj.weight": (64, 1, 3, 3),
        f"{decoder}reduce_channel.weight": (64, 128, 1, 1),
        f"{decoder}output.0.weight": (32, 64, 3, 3),
        f"{decoder}output.2.weight": (1, 32, 3, 3),
    }
    for k in range(4):
        shapes |= shapes_of_restormer(f"{encoder}encoder_level1.{k}.")
        shapes |= shapes_of_restormer(f"{decoder}encoder_level2.{k}.")
    shapes |= shapes_of_base(f"{encoder}baseFeature.", 64)
    shapes |= shapes_of_base("BaseFuseLayer/module.", 64)
    for k in range(3):
        shapes |= shapes_of_details(f"{encoder}detailFeature.net.{k}.")
    return shapes | shapes_of_details("DetailFuseLayer/module.net.0.")


def shapes_of_emma() -> dict[str, tuple]:
    shapes: dict[str, tuple] = {"last.0.weight": (1, 8, 3, 3), "last.0.bias": (1,)}
    widths = (8, 16, 32, 32)
    stages = [("de_4", 32, 32)]
    for n, (before, c) in enumerate(zip((1, *widths), widths, strict=False), 1):
        stages += [(f"{image}_en_{n}", before, c) for image in "IV"] + [(f"f_{n}", 2 * c, c)]
        if n < 4:
            stages.append((f"de_{n}", 2 * c, c))
            shapes |= {f"{image}_down{n}.weight": (c, c, 3, 3) for image in "IV"}
            shapes[f"up{n + 1}.0.weight"] = (widths[n], c, 4, 4)
    for name, before, c in stages:
        shapes[f"{name}.embed.weight"] = (c, before, 3, 3)
        shapes[f"{name}.FFN.weight"] = (c, 2 * c, 3, 3)
        shapes |= shapes_of_base(f"{name}.GlobalFeature.", c)
        for unit_of in (f"{name}.LocalFeature.Extraction.{k}.conv.{i}" for k in "01" for i in "02"):
            shapes |= {f"{unit_of}.weight": (c, c, 3, 3), f"{unit_of}.bias": (c,)}
    return shapes


def generated(shapes: dict[str, tuple], gain: float) -> dict[str, Tensor]:
    """Draw each tensor from its official name, as index C says."""
    state = {}
    for name, shape in shapes.items():
        z = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        if name.endswith(("temperature", "scale")):
            z = 3 + 0.3 * z
        elif len(shape) == 1:
            z = 0.05 * z if name.endswith("bias") else 1 + 0.1 * z
        else:
            z = z * gain / np.sqrt(np.prod(shape[1:]))
        state[name] = torch.from_numpy(z.astype(np.float32))
    return state


GENERATED = {  # network, official shapes, gain
    "cddfuse": ("CDDFuse", cddfuse, shapes_of_cddfuse, 0.7),
    "emma": ("EMMA", emma, shapes_of_emma, 1.0),
}


@pytest.mark.parametrize("image", ["synth", "synthodd", "tno01c", "tno12c", "tno25c"])
@pytest.mark.parametrize("name", GENERATED)
def test_generated_weights(name, image, oracles, index, small):
    method, module, shapes, gain = GENERATED[name]
    state = module.from_torch(generated(shapes(), gain))
    network = fill(COMPARED[method].build(), Checkpoint(state, "generated", {}, False))
    a, b = (unit(torch.from_numpy(x)[None, None].float()) for x in small(image))
    with torch.inference_mode():
        output = network.in_corners(a, b) if name == "emma" else network(a, b)
    expected = np.load(oracles / f"{name}_official.npz")
    assert largest(output[0, 0], expected[image]) <= index["tolerances_max_abs"][name]
    assert largest(network.fuse(*small(image)), expected[f"{image}_u8"]) <= 1


def test_a_file_of_parts_as_cddfuses(tmp_path):
    """The official file is a dict of four state dicts."""
    state, parts = generated(shapes_of_cddfuse(), 0.7), {}
    for name, value in state.items():
        part, _, key = name.partition("/")
        parts.setdefault(part, {})[key] = value
    assert len(parts) == 4
    torch.save(parts, tmp_path / "mine.pth")
    network = COMPARED["CDDFuse"].load(folder=tmp_path / "mine.pth", unverified=True)
    ours = cddfuse.from_torch(state)
    assert all(torch.equal(value, ours[name]) for name, value in network.state_dict().items())


def test_cddfuse_in_bands_is_cddfuse_at_once(monkeypatch):
    network = COMPARED["CDDFuse"].build()
    a, b = torch.rand(2, 2, 1, 29, 23, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        at_once = network(a, b)
        assert largest(network(a[1:], b[1:]), at_once[1:]) <= 2e-6
        monkeypatch.setattr(layers, "BAND_PIXELS", 5 * 23)
        assert largest(network(a, b), at_once) <= 2e-6


@pytest.mark.parametrize("shape", [(5, 5), (41, 30), (64, 48)])
def test_gifnet_in_strips_is_gifnet_at_once(shape, monkeypatch):
    network = COMPARED["GIFNet"].build()
    a, b = torch.rand(2, 1, 1, *shape, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        at_once = network(a, b)
        monkeypatch.setattr(gifnet, "STRIP_PIXELS", 1)
        monkeypatch.setattr(layers, "BAND_PIXELS", 10 * shape[1])
        assert largest(network(a, b), at_once) <= 2e-6


def test_their_rows_are_marked_and_their_training_data_said():
    status = {"YDTR": "", "SDNet": "", "GIFNet": "no weights: none found"}
    remarks = comparison.remarks(status).to_dict()
    assert remarks == {"YDTR": "", "SDNet": "not printed", "GIFNet": "no weights; not printed"}
    chosen = {name: methods.get(name) for name in ("SeAFusion", "LRRNet", "DATFuse")}
    overlap = comparison.overlap(chosen, "msrs_png")["overlap"].to_dict()
    assert overlap == {"SeAFusion": "same data set", "LRRNet": "none known", "DATFuse": "not known"}
