"""The compared networks: the official outputs, equal faster forms, any size, the contract of
``fuse``.
"""

import base64
import io
import json
import os
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from fusionlib import images
from fusionlib.networks import REGISTRY
from fusionlib.networks.compared import auif, layers, piafusion, rfn_nest, swinfuse, tardal, ydtr
from fusionlib.networks.weights import CHECKPOINTS, Checkpoint, fill, load_checkpoint

STORED = json.loads((Path(__file__).parent / "oracles" / "networks.json").read_text())
STEP = STORED["step"]
# Whole photographs, minutes in all; crops of them and small images are always checked.
full_size = pytest.mark.skipif(
    os.environ.get("FUSION_FULL_SIZE") != "1", reason="full-size images: set FUSION_FULL_SIZE=1"
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stored_input(name: str) -> np.ndarray:
    """Return a synthetic input image of the committed oracle file."""
    return np.array(Image.open(io.BytesIO(base64.b85decode(STORED["inputs"][name]))))


def plane(image: np.ndarray, scale: float = 255) -> Tensor:
    return torch.from_numpy(image)[None, None].float() / scale


def grid(output: Tensor) -> np.ndarray:
    return output.numpy().squeeze()[::STEP, ::STEP]


def largest(a, b) -> float:
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())


def pair(h: int, w: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return tuple(draw.integers(0, 256, (h, w), dtype=np.uint8) for _ in range(2))


# ---- generated weights: the official programs were run with them, so structure and names are prove
# ----


def by_name(shapes: dict[str, tuple], weight: float = 1.0) -> dict[str, Tensor]:
    """Draw each tensor from its official name; ``weight`` is the variance times the fan-in."""
    state = {}
    for name, shape in shapes.items():
        z = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        fan_in = np.prod(shape[:-1]) if name.endswith("kernel") else np.prod(shape[1:])
        if name.endswith("bias"):
            z = 0.05 * z
        elif name.endswith("bias_table"):
            z = 0.2 * z
        elif len(shape) == 1:
            z = 1 + 0.1 * z
        else:
            z = z * np.sqrt(weight / fan_in)
        state[name] = torch.from_numpy(z.astype(np.float32))
    return state


def rfn_nest_generated() -> rfn_nest.RFNNest:
    def block(name, i, o):
        return {
            f"{name}.denseblock.0.conv2d.weight": (i // 2, i, 3, 3),
            f"{name}.denseblock.0.conv2d.bias": (i // 2,),
            f"{name}.denseblock.1.conv2d.weight": (o, i // 2, 1, 1),
            f"{name}.denseblock.1.conv2d.bias": (o,),
        }

    encoder = {
        "conv0.conv2d.weight": (16, 1, 1, 1),
        "conv0.conv2d.bias": (16,),
        "conv_out.conv2d.weight": (1, 64, 1, 1),
        "conv_out.conv2d.bias": (1,),
    }
    for name, i, o in [
        ("DB1_0", 16, 64),
        ("DB2_0", 64, 112),
        ("DB3_0", 112, 160),
        ("DB4_0", 160, 208),
        ("DB1_1", 176, 64),
        ("DB2_1", 272, 112),
        ("DB3_1", 368, 160),
        ("DB1_2", 240, 64),
        ("DB2_2", 384, 112),
        ("DB1_3", 304, 64),
    ]:
        encoder |= block(name, i, o)
    fusion = {}
    for n, c in enumerate((64, 112, 160, 208), 1):
        for name, i, k in [
            ("conv_fusion", 2 * c, 3),
            ("conv_ir", c, 3),
            ("conv_vi", c, 3),
            ("bottelblock.0", 2 * c, 1),
            ("bottelblock.1", c, 3),
            ("bottelblock.2", c, 3),
        ]:
            fusion |= {
                f"fusion_block{n}.{name}.conv2d.weight": (c, i, k, k),
                f"fusion_block{n}.{name}.conv2d.bias": (c,),
            }

    def fill_sorted(shapes, seed):
        state = {}
        for i, name in enumerate(sorted(shapes)):
            shape = shapes[name]
            scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.01
            z = np.random.RandomState(seed + i).standard_normal(shape) * scale
            state[name] = torch.from_numpy(
                (np.abs(z) if name == "conv_out.conv2d.weight" else z).astype(np.float32)
            )
        return state

    state = rfn_nest.from_torch(fill_sorted(encoder, 1000), fill_sorted(fusion, 5000))
    return fill(rfn_nest.RFNNest(), Checkpoint(state, "generated", {}, False)).eval()


def piafusion_generated(flavour: str) -> piafusion.PIAFusion:
    widths, decoder = (16, 16, 32, 64, 128), ((256, 256), (256, 128), (128, 64), (64, 32))
    shapes: dict[str, tuple] = {}
    if flavour == "tensorflow":

        def layer(name, k, i, o):
            shapes.update(
                {f"PIAFusion/{name}/kernel": (k, k, i, o), f"PIAFusion/{name}/bias": (o,)}
            )

        for modality in ("ir", "vi"):
            layer(f"encoder/conv5x5_{modality}", 1, 1, 16)
        for k in range(4):
            layer(f"encoder/Conv{k + 1}/conv3x3", 3, widths[k], widths[k + 1])
            layer(f"decoder/conv{k + 1}", 3, *decoder[k])
        layer("decoder/conv1x1", 1, 32, 1)
        # the authors' file holds more than the network
        shapes["classifier/Classifier/dense/bias"] = (128,)
        state = piafusion.from_tensorflow(by_name(shapes))
    else:

        def layer(name, k, i, o):
            shapes.update({f"{name}.weight": (o, i, k, k), f"{name}.bias": (o,)})

        for modality in ("vi", "ir"):
            layer(f"encoder.{modality}_conv1", 1, 1, 16)
            for k in range(4):
                layer(f"encoder.{modality}_conv{k + 2}.conv.1", 3, widths[k], widths[k + 1])
        for k in range(4):
            layer(f"decoder.conv{k + 1}.conv.1", 3, *decoder[k])
        layer("decoder.conv5", 1, 32, 1)
        state = piafusion.from_torch(by_name(shapes, weight=2.0))
    return fill(piafusion.PIAFusion(flavour), Checkpoint(state, "generated", {}, False)).eval()


def swinfuse_generated() -> swinfuse.SwinFuse:
    def pair_of(name, *weight):
        return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}

    shapes = (
        pair_of("patch_embed.proj", 96, 1, 1, 1)
        | pair_of("patch_embed.norm", 96)
        | pair_of("norm", 96)
    )
    shapes |= pair_of("conv", 1, 96, 1, 1) | pair_of("norm_up", 192)
    for s, heads in ((1, 1), (2, 2), (3, 4)):
        for b in (0, 1):  # the second block never runs; the file holds six
            name = f"EN{s}_0.blocks.{b}"
            shapes |= (
                pair_of(f"{name}.norm1", 96)
                | pair_of(f"{name}.norm2", 96)
                | pair_of(f"{name}.attn.qkv", 288, 96)
            )
            shapes |= (
                pair_of(f"{name}.attn.proj", 96, 96)
                | pair_of(f"{name}.mlp.fc1", 384, 96)
                | pair_of(f"{name}.mlp.fc2", 96, 384)
            )
            shapes[f"{name}.attn.relative_position_bias_table"] = (169, heads)
    state = by_name(shapes) | {"prelu.weight": torch.zeros(1)}
    state |= {f"EN1_0.blocks.{b}.attn.relative_position_index": torch.zeros(49, 49) for b in (0, 1)}
    state["EN1_0.blocks.1.attn_mask"] = torch.zeros(4, 49, 49)
    return fill(
        swinfuse.SwinFuse(), Checkpoint(swinfuse.from_torch(state), "generated", {}, False)
    ).eval()


@pytest.fixture(scope="module")
def rfn():
    return rfn_nest_generated()


@pytest.mark.parametrize("name", ["synth", "synthodd"])
@torch.inference_mode()
def test_rfn_nest_with_generated_weights(rfn, name):
    infrared, visible = (stored_input(f"{name}_{m}") for m in ("ir", "vi"))
    assert (
        largest(grid(rfn(plane(infrared, 1), plane(visible, 1))), STORED[f"rfn_{name}"])
        <= STORED["tolerance"]["rfn"]
    )
    assert largest(rfn.fuse(infrared, visible)[::STEP, ::STEP], STORED[f"rfn_{name}_u8"]) <= 1


@torch.inference_mode()
def test_rfn_nest_intermediates_with_generated_weights(rfn):
    infrared, visible = (rfn.encode(plane(stored_input(f"synth_{m}"), 1)) for m in ("ir", "vi"))
    for n in range(4):
        assert_statistics(infrared[n], STORED["rfn_statistics"][f"enc_ir{n + 1}"], 1e-4)
        assert_statistics(
            rfn.fusion[n](infrared[n], visible[n]), STORED["rfn_statistics"][f"rfn{n + 1}"], 1e-4
        )


@pytest.mark.parametrize("flavour", ["tensorflow", "torch"])
@torch.inference_mode()
def test_piafusion_with_generated_weights(flavour):
    network = piafusion_generated(flavour)
    infrared, visible = (stored_input(f"piafusion_{m}") for m in ("ir", "vi"))
    luma = plane(visible) * 0.919 + 16 / 255 if flavour == "tensorflow" else plane(visible)
    if flavour == "tensorflow":
        assert largest(grid(luma), STORED["piafusion_luma"]) < 1e-6
    output = network(plane(infrared), luma)
    assert largest(grid(output), STORED[f"piafusion_{flavour}"]) <= STORED["tolerance"]["piafusion"]
    y = output.numpy().squeeze().astype(np.float64)
    expected = (
        np.round((y - 16 / 255) * 1.164 * 255).clip(0, 255)
        if flavour == "tensorflow"
        else np.floor(y.clip(0, 1) * 255)
    )
    assert largest(network.fuse(infrared, visible), expected) <= 1


@torch.inference_mode()
def test_swinfuse_with_generated_weights():
    network = swinfuse_generated()
    infrared, visible = (
        (plane(stored_input(f"synth224_{m}"), 1) - 127.5) / 127.5 for m in ("ir", "vi")
    )
    a, b = network.encode(infrared), network.encode(visible)
    fused, alone = network.decode(network.merge(a, b), (224, 224)), network.decode(b, (224, 224))
    assert largest(grid(fused), STORED["swinfuse_fused"]) <= STORED["tolerance"]["swinfuse"]
    assert largest(grid(alone), STORED["swinfuse_visible"]) <= STORED["tolerance"]["swinfuse"]


# ---- real weights --------------------------------------------------------------------------------

CASES = {  # of index A: method, variant, scale of the input
    "densefuse_gray": ("DenseFuse", "torch-gray", 1),
    "densefuse_tf_1e2_addition": ("DenseFuse", "tensorflow-1e2-addition", 1),
    "densefuse_tf_1e2_l1": ("DenseFuse", "tensorflow-1e2-l1", 1),
    "ifcnn_max": ("IFCNN", "max", 255),
    "ifcnn_max_imagenet": ("IFCNN", "max-imagenet", 255),
    "didfuse_sum": ("DIDFuse", "sum", 255),
    "auif_sum": ("AUIF", "sum", 255),
}
TARDAL = {
    "dt_train": "dt",
    "dt_eval": "dt-stored",
    "tt_train": "tt-batch",
    "tt_eval": "tt",
    "ct_train": "ct-batch",
    "ct_eval": "ct",
}
# The re-derivations of index B agreed to 1.8e-7 (YDTR), 5.4e-7 and 6e-8 (PIAFusion), 1.5e-5
# (SwinFuse): ten times that, at least.
TOLERANCE_B = {"ydtr": 2e-6, "tardal": 5e-6, "piafusion": 5e-6, "swinfuse": 1.5e-4 * 255 / 2}


@pytest.fixture(scope="module")
def index(oracles):
    return {name: json.loads((oracles / f"index-{name}.json").read_text()) for name in "AB"}


@pytest.fixture(scope="module")
def tno(fusion_data, index):
    """Return a function that gives the pair ``tnoNN`` after checking that it is the oracle's."""
    import hashlib

    def read(name: str) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for modality in ("ir", "vi"):
            path = fusion_data / "ivif" / "tno" / modality / f"{name[3:5]}.png"
            if not path.is_file():
                pytest.skip(f"{path.name} of TNO is not among the data")
            assert (
                hashlib.sha256(path.read_bytes()).hexdigest()
                == index["A"]["sources"][name][f"{modality}_png_sha256"]
            )
            found.append(images.read(path))
        return tuple(found)

    return read


def raw(
    network, method: str, infrared: np.ndarray, visible: np.ndarray, scale: float
) -> np.ndarray:
    """Return what the network gives before any rounding."""
    a, b = plane(infrared, scale), plane(visible, scale)
    if method == "IFCNN":
        a, b = a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1)
    with torch.inference_mode():
        return network(a, b).numpy().squeeze()


def assert_statistics(value: Tensor | np.ndarray, expected: dict, tolerance: float) -> None:
    value = np.asarray(value, np.float64)
    assert (
        list(value.shape) == expected["shape"] or list(value.squeeze().shape) == expected["shape"]
    )
    found = {
        "mean": value.mean(),
        "std": value.std(),
        "l1": np.abs(value).mean(),
        "min": value.min(),
        "max": value.max(),
    }
    for name in found.keys() & expected.keys():
        assert found[name] == pytest.approx(expected[name], abs=tolerance, rel=1e-5), name


def official(method: str, variant: str | None, folder: Path) -> torch.nn.Module:
    """Return a network as :mod:`fusionlib.methods` fuses with it."""
    return layers.channels_last(REGISTRY[method].load(variant, folder))


@pytest.mark.parametrize("image", ["synth", "synthodd", "tno01c", "tno12c", "tno25c"])
@pytest.mark.parametrize("case", CASES)
def test_index_a_small_images(case, image, fusion_weights, oracles, index):
    method, variant, scale = CASES[case]
    network = official(method, variant, fusion_weights)
    inputs, expected = np.load(oracles / "inputs.npz"), np.load(oracles / f"{case}.npz")
    infrared, visible = inputs[f"{image}_ir"], inputs[f"{image}_vi"]
    assert (
        largest(raw(network, method, infrared, visible, scale), expected[image])
        <= index["A"]["tolerances_max_abs"][case]
    )
    assert largest(network.fuse(infrared, visible), expected[f"{image}_u8"]) <= 1


@pytest.mark.parametrize("image", ["tno01", "tno12", "tno25"])
@pytest.mark.parametrize("case", CASES)
def test_index_a_crops_of_full_images(case, image, fusion_weights, oracles, index, tno):
    """The crop of the full output depends on its neighbourhood only: 8 pixels around for most, 31
    for AUIF.
    """
    method, variant, scale = CASES[case]
    network, expected = (
        official(method, variant, fusion_weights),
        np.load(oracles / f"{case}.npz"),
    )
    y, x, h, w = index["A"]["sources"][image]["crop_yxhw"]
    m = 32 if method == "AUIF" else 9
    cut = [source[y - m : y + h + m, x - m : x + w + m] for source in tno(image)]
    output = raw(network, method, *cut, scale)[..., m:-m, m:-m]
    assert largest(output, expected[f"{image}_crop"]) <= index["A"]["tolerances_max_abs"][case]


@full_size
@pytest.mark.parametrize("image", ["tno01", "tno12", "tno25"])
@pytest.mark.parametrize("case", CASES)
def test_index_a_full_images(case, image, fusion_weights, oracles, index, tno):
    method, variant, scale = CASES[case]
    network, expected = (
        official(method, variant, fusion_weights),
        np.load(oracles / f"{case}.npz"),
    )
    y, x, h, w = index["A"]["sources"][image]["crop_yxhw"]
    recorded = index["A"]["cases"][case]["outputs"][image]
    assert_statistics(
        raw(network, method, *tno(image), scale), recorded, index["A"]["tolerances_max_abs"][case]
    )
    fused = network.fuse(*tno(image))
    assert largest(fused[y : y + h, x : x + w], expected[f"{image}_crop_u8"]) <= 1
    assert fused.mean() == pytest.approx(recorded["u8_mean"], abs=1e-3)


def test_index_a_intermediates(fusion_weights, oracles, index):
    inputs, cases = np.load(oracles / "inputs.npz"), index["A"]["cases"]
    with torch.inference_mode():
        for case, names in {
            "densefuse_gray": None,
            "didfuse_sum": ("f1", "f2", "base", "detail"),
            "auif_sum": ("base", "detail"),
        }.items():
            method, variant, scale = CASES[case]
            network, recorded = (
                official(method, variant, fusion_weights),
                cases[case]["synth_intermediates"],
            )
            both = {m: network.encode(plane(inputs[f"synth_{m}"], scale)) for m in ("ir", "vi")}
            for modality, features in both.items():
                for name, value in zip(
                    names or ("enc",), features if names else (features,), strict=True
                ):
                    assert_statistics(
                        value,
                        recorded[f"{name}_{modality}"],
                        index["A"]["tolerances_max_abs"][case],
                    )
            if names is None:
                assert_statistics(
                    network.merge(both["ir"], both["vi"]), recorded["fused_feat"], 1e-3
                )


@pytest.mark.parametrize("form", ["fast", "naive"])
def test_ydtr_synthetic(form, fusion_weights, oracles):
    expected = np.load(oracles / "ydtr_official.npz")
    network = (
        official("YDTR", None, fusion_weights) if form == "fast" else ydtr_naive(fusion_weights)
    )
    output = raw(network, "YDTR", expected["synth_ir"], expected["synth_vi"], 255)
    assert largest(output, expected["synth_out"]) <= TOLERANCE_B["ydtr"]
    assert (
        largest(
            network.fuse(expected["synth_ir"], expected["synth_vi"]),
            np.floor(expected["synth_out"] * 255),
        )
        <= 1
    )


def ydtr_naive(folder: Path) -> ydtr.YDTR:
    state = torch.load(folder / "ydtr" / "model_10.pth", map_location="cpu", weights_only=True)
    return fill(
        ydtr.YDTR("window"), Checkpoint(ydtr.from_torch_naive(state), "ydtr", {}, True)
    ).eval()


@full_size
@pytest.mark.parametrize("image", ["tno01", "tno12", "tno25"])
def test_ydtr_full_image(image, fusion_weights, oracles, index, tno):
    recorded = index["B"]["cases"]["ydtr_official.npz"]["stats"][image]
    output = raw(official("YDTR", None, fusion_weights), "YDTR", *tno(image), 255)
    y, x = recorded["crop_yx"]
    assert (
        largest(
            output[y : y + 64, x : x + 64], np.load(oracles / "ydtr_official.npz")[f"{image}_crop"]
        )
        <= TOLERANCE_B["ydtr"]
    )
    assert_statistics(output, recorded, TOLERANCE_B["ydtr"])
    assert int((output < 0).sum()) == recorded["negative_pixels"] == 0


@pytest.mark.parametrize("case", TARDAL)
def test_tardal_synthetic(case, fusion_weights, oracles, index):
    expected = np.load(oracles / "tardal_official.npz")
    network = official("TarDAL", TARDAL[case], fusion_weights)
    output = raw(network, "TarDAL", expected["synth_ir"], expected["synth_vi"], 255)
    assert largest(output, expected[f"{case}_synth"]) <= TOLERANCE_B["tardal"]
    assert_statistics(
        output,
        index["B"]["cases"]["tardal_official.npz"]["stats"][case]["synth"],
        TOLERANCE_B["tardal"],
    )
    assert (
        largest(
            network.fuse(expected["synth_ir"], expected["synth_vi"]),
            np.round(expected[f"{case}_synth"].clip(0, 1) * 255),
        )
        <= 1
    )


@pytest.mark.parametrize("image", ["tno01", "tno12", "tno25"])
@pytest.mark.parametrize("case", ["dt_eval", "tt_eval", "ct_eval"])
def test_tardal_crops_of_full_images(case, image, fusion_weights, oracles, index, tno):
    """With stored statistics a pixel sees 8 pixels around it."""
    y, x = index["B"]["cases"]["tardal_official.npz"]["stats"][case][image]["crop_yx"]
    cut = [source[y - 9 : y + 73, x - 9 : x + 73] for source in tno(image)]
    output = raw(official("TarDAL", TARDAL[case], fusion_weights), "TarDAL", *cut, 255)[9:-9, 9:-9]
    assert (
        largest(output, np.load(oracles / "tardal_official.npz")[f"{case}_{image}_crop"])
        <= TOLERANCE_B["tardal"]
    )


@pytest.mark.parametrize(
    ("case", "image"),
    [
        pytest.param(case, image, marks=() if (case, image) == ("dt_train", "tno25") else full_size)
        for case in TARDAL
        for image in ("tno01", "tno12", "tno25")
    ],
)
def test_tardal_full_images(case, image, fusion_weights, oracles, index, tno):
    recorded = index["B"]["cases"]["tardal_official.npz"]["stats"][case][image]
    output = raw(official("TarDAL", TARDAL[case], fusion_weights), "TarDAL", *tno(image), 255)
    y, x = recorded["crop_yx"]
    crop = np.load(oracles / "tardal_official.npz")[f"{case}_{image}_crop"]
    assert largest(output[y : y + 64, x : x + 64], crop) <= TOLERANCE_B["tardal"]
    assert_statistics(output, recorded, 1e-5)
    assert int((output < 0).sum()) == pytest.approx(recorded["negative_pixels"], abs=2)


@pytest.mark.parametrize("kind", ["tensorflow", "torch"])
def test_piafusion_classifier(kind, fusion_weights, oracles):
    expected = np.load(oracles / "piafusion_official.npz")
    network = piafusion.Illumination(kind)
    fill(network, load_checkpoint(f"piafusion-illumination-{kind}", fusion_weights))
    tiles = torch.from_numpy(expected["cls_tiles"])[:, None].expand(-1, 3, -1, -1).float() / 255
    with torch.inference_mode():
        assert (
            largest(
                network(tiles), expected["cls_tf_out" if kind == "tensorflow" else "cls_port_out"]
            )
            <= 6e-5
        )


@full_size
@pytest.mark.parametrize("flavour", ["tensorflow", "torch"])
def test_piafusion_full_image(flavour, oracles, index, tno):
    infrared, visible = tno("tno25")
    network, key = (
        piafusion_generated(flavour),
        {"tensorflow": "tf_tno25", "torch": "port_tno25"}[flavour],
    )
    recorded = index["B"]["cases"]["piafusion_official.npz"]["stats"][key]
    with torch.inference_mode():
        luma = plane(visible) * 0.919 + 16 / 255 if flavour == "tensorflow" else plane(visible)
        output = network(plane(infrared), luma).numpy().squeeze()
    y, x = recorded["crop_yx"]
    expected = np.load(oracles / "piafusion_official.npz")[f"{key}_crop"]
    assert largest(output[y : y + 64, x : x + 64], expected) <= TOLERANCE_B["piafusion"]
    assert_statistics(output, recorded, TOLERANCE_B["piafusion"])


@pytest.mark.parametrize("image", ["tno12", "tno25"])
def test_swinfuse_tile_of_a_full_image(image, oracles, index, tno):
    """The crop lies in one tile, which is fused alone."""
    network, recorded = (
        swinfuse_generated(),
        index["B"]["cases"]["swinfuse_official.npz"]["stats"][image],
    )
    y, x = recorded["crop_yx"]
    top, left = y // 224 * 224, x // 224 * 224
    cut = [
        (plane(source, 1)[..., top : top + 224, left : left + 224] - 127.5) / 127.5
        for source in tno(image)
    ]
    with torch.inference_mode():
        output = (
            ((network.tiled(*cut) / 2 + 0.5) * 255)
            .numpy()
            .squeeze()[y - top : y - top + 64, x - left :]
        )
    expected = np.load(oracles / "swinfuse_official.npz")[f"{image}_crop"][:, : output.shape[1]]
    assert largest(output[:, :64], expected) <= TOLERANCE_B["swinfuse"]


@full_size
def test_swinfuse_full_image(oracles, index, tno):
    recorded = index["B"]["cases"]["swinfuse_official.npz"]["stats"]["tno25"]
    with torch.inference_mode():
        output = (
            swinfuse_generated().tiled(*((plane(x, 1) - 127.5) / 127.5 for x in tno("tno25"))) / 2
            + 0.5
        ) * 255
    assert_statistics(output, recorded, TOLERANCE_B["swinfuse"])


@pytest.mark.parametrize("image", ["tno01c", "tno12c", "tno25c"])
def test_rfn_nest_small_images(rfn, image, oracles, index):
    inputs, expected = np.load(oracles / "inputs.npz"), np.load(oracles / "rfn_nest_structural.npz")
    infrared, visible = inputs[f"{image}_ir"], inputs[f"{image}_vi"]
    assert (
        largest(raw(rfn, "RFN-Nest", infrared, visible, 1), expected[image])
        <= index["A"]["tolerances_max_abs"]["rfn_nest_structural"]
    )
    assert largest(rfn.fuse(infrared, visible), expected[f"{image}_u8"]) <= 1


@full_size
def test_rfn_nest_tiled_as_the_authors_do(rfn, oracles, index, tno):
    infrared, visible = tno("tno25")
    expected, (y, x, h, w) = (
        np.load(oracles / "rfn_nest_structural.npz"),
        index["A"]["sources"]["tno25"]["crop_yxhw"],
    )
    with torch.inference_mode():
        output = rfn.tiled(plane(infrared, 1), plane(visible, 1))
    tolerance = index["A"]["tolerances_max_abs"]["rfn_nest_structural"]
    assert (
        largest(output.numpy().squeeze()[y : y + h, x : x + w], expected["tno25_tiled_crop"])
        <= tolerance
    )
    assert_statistics(
        output, index["A"]["cases"]["rfn_nest_structural"]["outputs"]["tno25_tiled"], tolerance
    )
    rounded = layers.to_uint8_floor(layers.min_max_scale(output, margin=1e-5))
    assert largest(rounded[y : y + h, x : x + w], expected["tno25_tiled_crop_u8"]) <= 1


# ---- equal forms, sizes, tiles -------------------------------------------------------------------


@given(h=st.integers(10, 33), w=st.integers(10, 33), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_auif_one_filter_equals_two(h, w, seed):
    draw = torch.Generator().manual_seed(seed)
    x, kernel = (
        torch.randn(2, 1, h, w, generator=draw).double(),
        torch.randn(64, 1, 3, 3, generator=draw).double(),
    )
    both, once = (
        auif.apply_kernel_and_adjoint(x, kernel),
        auif.kernel_and_adjoint_at_once(x, kernel),
    )
    assert torch.allclose(both, once, rtol=0, atol=1e-11 * float(both.abs().max()))


@given(h=st.integers(1, 20), w=st.integers(1, 20), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_ydtr_without_keys_equals_naive(h, w, seed):
    torch.manual_seed(seed)
    naive = ydtr.YDTR("window").eval()
    fast = fill(
        ydtr.YDTR("value"),
        Checkpoint(ydtr.without_keys(naive.state_dict() | {}), "naive", {}, False),
    ).eval()
    a, b = (plane(x) for x in pair(h, w, seed))
    with torch.inference_mode():
        assert torch.allclose(naive(a, b), fast(a, b), atol=2e-6)
        assert torch.allclose(fast(a, b), fast(b, a), atol=2e-6)


def test_ydtr_queries_and_keys_have_no_gradient():
    network = REGISTRY["YDTR"].build()
    naive = ydtr.YDTR("window")
    naive(*(plane(x) for x in pair(8, 9))).sum().backward()
    attention = naive.blocks[0].attn
    # Softmax over one key: only rounding is left of the gradient.
    assert (
        float(attention.qkv.weight.grad[:128].abs().max())
        < 1e-6
        < float(attention.qkv.weight.grad[128:].abs().max())
    )
    assert not any("qkv" in name or "table" in name for name, _ in network.named_parameters())


@given(h=st.integers(1, 5), w=st.integers(1, 5), size=st.integers(1, 7), b=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_windows_there_and_back(h, w, size, b):
    x = torch.arange(b * 3 * h * w * size * size, dtype=torch.float32).reshape(
        b, 3, h * size, w * size
    )
    tokens = layers.to_windows(x, size)
    assert tokens.shape == (b * h * w, size * size, 3)
    assert torch.equal(tokens[0, :, 0], x[0, 0, :size, :size].flatten())
    assert torch.equal(layers.from_windows(tokens, size, (h * size, w * size)), x)


@pytest.mark.parametrize(("name", "reach"), [("DenseFuse", 8), ("DIDFuse", 6), ("IFCNN", 5)])
@pytest.mark.parametrize("shape", [(61, 20), (24, 33), (17, 5)])
def test_bands_change_nothing(name, reach, shape, monkeypatch):
    network = REGISTRY[name].build()
    whole = network.fuse(*pair(*shape))
    a, b = (plane(x).expand(-1, 3 if name == "IFCNN" else 1, -1, -1) for x in pair(*shape))
    monkeypatch.setattr(layers, "BAND_PIXELS", 8 * shape[1])
    with torch.inference_mode():
        assert torch.allclose(layers.in_bands(network, a, b, reach), network(a, b), atol=1e-6)
    assert largest(network.fuse(*pair(*shape)), whole) <= 1


@pytest.mark.parametrize(("name", "reach"), [("DenseFuse", 8), ("DIDFuse", 6), ("IFCNN", 5)])
def test_reach_is_what_a_network_sees(name, reach, monkeypatch):
    """A changed pixel changes the output ``reach`` pixels away at most, and that far where every
    weight counts; the bands overlap by as much.
    """
    network = REGISTRY[name].build()
    overlaps = []

    def in_bands(network, a, b, reach):
        overlaps.append(reach)
        return network(a, b)

    monkeypatch.setattr(sys.modules[type(network).__module__], "in_bands", in_bands)
    network.fuse(*pair(41, 41))
    assert overlaps == [reach]
    a, b = (plane(x).expand(-1, 3 if name == "IFCNN" else 1, -1, -1) for x in pair(41, 41))
    changed = a.clone()
    changed[..., 20, 20] += 1
    with torch.inference_mode():
        rows = (network(a, b) != network(changed, b))[0, 0].any(dim=1).nonzero().flatten()
    assert int(rows.min()) == 20 - reach and int(rows.max()) == 20 + reach


@pytest.mark.parametrize("variant", REGISTRY["IFCNN"].variants)
def test_ifcnn_cuts_each_channel_before_it_reads_gray(variant):
    """A red above white and a green below black count as white and black, not beyond."""
    network = REGISTRY["IFCNN"].build(variant)
    with torch.no_grad():
        network.conv4.weight.zero_()
        network.conv4.bias.copy_(torch.tensor([10.0, -10.0, 0.0]))
    blue = np.floor(255 * float(network.mean.flatten()[2]))
    expected = np.floor(0.299 * 255 + 0.114 * blue + 0.5)
    assert (network.fuse(*pair(9, 12)) == expected).all()


@pytest.mark.parametrize("shape", [(14, 14), (14, 28), (15, 29), (1, 1), (13, 40)])
def test_swinfuse_tiles_of_any_size(shape):
    network = REGISTRY["SwinFuse"].build()
    network.tile = 14
    a, b = ((plane(x, 1) - 127.5) / 127.5 for x in pair(*shape))
    with torch.inference_mode():
        output = network.tiled(a, b)
        assert output.shape == a.shape
        for y in range(0, shape[0], 14):
            for x in range(0, shape[1], 14):
                tile = [torch.zeros(1, 1, 14, 14), torch.zeros(1, 1, 14, 14)]
                part = [source[..., y : y + 14, x : x + 14] for source in (a, b)]
                h, w = part[0].shape[-2:]
                for whole, piece in zip(tile, part, strict=True):
                    whole[..., :h, :w] = piece
                assert torch.allclose(
                    output[..., y : y + 14, x : x + 14], network(*tile)[..., :h, :w], atol=1e-5
                )


def test_rfn_nest_tiles_overlap_and_average(rfn):
    a, b = (plane(x, 1) for x in pair(41, 50))
    with torch.inference_mode():
        output = rfn.tiled(a, b)
        tiles = {
            (y, x): rfn(a[..., y[0] : y[1], x[0] : x[1]], b[..., y[0] : y[1], x[0] : x[1]])
            for y in ((0, 23), (18, 41))
            for x in ((0, 28), (23, 50))
        }
    total, count = torch.zeros(41, 50), torch.zeros(41, 50)
    for (y, x), tile in tiles.items():
        total[y[0] : y[1], x[0] : x[1]] += tile[0, 0]
        count[y[0] : y[1], x[0] : x[1]] += 1
    assert count.max() == 4 and (count == 2).sum() == 5 * 45 + 5 * 36
    assert torch.allclose(output[0, 0], total / count, atol=1e-4)
    small = rfn_nest.RFNNest(tile_above=40)
    small.load_state_dict(rfn.state_dict())
    infrared, visible = pair(41, 50)
    assert np.array_equal(
        small.fuse(infrared, visible), layers.to_uint8_floor(layers.min_max_scale(output, 1e-5))
    )
    assert not np.array_equal(small.fuse(infrared, visible), rfn.fuse(infrared, visible))
    assert not np.array_equal(rfn.fuse(visible, infrared), rfn.fuse(infrared, visible))


def test_tardal_batch_statistics_are_of_one_image():
    torch.manual_seed(0)
    unit = tardal.ImageNorm(3).eval()
    x = torch.randn(1, 3, 8, 9) * 4 + 2
    y = unit(x)
    y = y.detach()
    assert float(y.mean((0, 2, 3)).abs().max()) < 1e-6 and torch.allclose(
        y.var((0, 2, 3), correction=0), torch.ones(3), atol=1e-3
    )
    assert torch.equal(unit.running_mean, torch.zeros(3)), (
        "fusing must not change the stored statistics"
    )


def test_densefuse_l1_weights_where_both_features_are_zero():
    network = REGISTRY["DenseFuse"].build("tensorflow-1e2-l1")
    zero = torch.zeros(1, 64, 4, 5)
    assert torch.equal(network.merge(zero, zero), zero)
    other = torch.rand(1, 64, 4, 5) + 0.1
    assert torch.allclose(network.merge(zero, other), other) and torch.allclose(
        network.merge(other, other), other, atol=1e-6
    )


def test_piafusion_colour():
    for flavour in ("tensorflow", "torch"):
        network = REGISTRY["PIAFusion"].build(flavour)
        infrared, visible = pair(20, 23)
        gray = network.fuse(infrared, visible)
        assert np.array_equal(
            network.fuse(infrared, np.repeat(visible[..., None], 3, axis=2)), gray
        )
        colour = np.random.default_rng(1).integers(0, 256, (20, 23, 3), dtype=np.uint8)
        fused = network.fuse(infrared, colour)
        assert fused.shape == colour.shape and fused.dtype == np.uint8
        # Chroma is the visible image's: where no channel was clipped, R - B moves with its own R -
        # B.
        free = ((fused > 0) & (fused < 255)).all(axis=2)
        difference = [x[..., 0].astype(float) - x[..., 2] for x in (fused, colour)]
        assert np.corrcoef(difference[0][free], difference[1][free])[0, 1] > 0.95


# ---- the contract of every method ----------------------------------------------------------------

SMALL = {"EMMA": (39, 43)}  # what a small image is for a network that needs larger ones
EVERY = [(name, variant) for name, method in REGISTRY.items() for variant in method.variants]


def test_registry_names_and_defaults():
    assert list(REGISTRY) == [
        "DenseFuse",
        "RFN-Nest",
        "IFCNN",
        "PIAFusion",
        "DIDFuse",
        "AUIF",
        "SwinFuse",
        "YDTR",
        "TarDAL",
        "SeAFusion",
        "DATFuse",
        "U2Fusion",
        "SDNet",
        "LRRNet",
        "GIFNet",
        "CDDFuse",
        "EMMA",
    ]
    defaults = {name: method.variant() for name, method in REGISTRY.items()}
    assert (
        defaults["DenseFuse"] == "tensorflow-1e2-addition" and defaults["IFCNN"] == "max-imagenet"
    )
    assert defaults["DIDFuse"] == defaults["AUIF"] == "sum" and defaults["TarDAL"] == "dt"
    for name, variant in EVERY:
        entry = CHECKPOINTS[REGISTRY[name].variants[variant].checkpoint]
        assert entry.method == name and REGISTRY[name].variants[variant].description
    for name, method in REGISTRY.items():
        first = next(key for key, entry in CHECKPOINTS.items() if entry.method == name)
        assert first == method.variants[method.variant()].checkpoint, (
            "the method's name means the default's checkpoint"
        )


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("DenseFuse", 74193),
        ("RFN-Nest", 7524249),
        ("IFCNN", 83587),
        ("PIAFusion", 1076785),
        ("DIDFuse", 260935),
        ("AUIF", 11631),
        ("SwinFuse", 337376),
        ("TarDAL", 296577),
        ("SeAFusion", 166657),
        ("DATFuse", 8920),
        ("U2Fusion", 659217),
        ("SDNet", 28705),
        ("LRRNet", 49204),
        ("GIFNet", 652676),
        ("CDDFuse", 1188272),
        ("EMMA", 1517657),
    ],
)
def test_parameters_in_use(name, count):
    assert sum(p.numel() for p in REGISTRY[name].build().parameters()) == count


def test_parameters_in_use_of_other_flavours():
    def count(network):
        return sum(p.numel() for p in network.parameters())

    assert count(REGISTRY["PIAFusion"].build("torch")) == 1176097
    assert count(REGISTRY["DenseFuse"].build("torch-rgb")) == 74771
    naive = ydtr.YDTR("window")
    dead = 2 * (2 * 64 * 65 + ydtr.HEADS)  # queries, keys and the position table of two blocks
    assert count(naive) - dead == 89946
    assert count(REGISTRY["YDTR"].build()) == 89946 - 2 * 64 * 65  # V and proj are one matrix


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_fuse_keeps_the_contract(name, variant):
    network = REGISTRY[name].build(variant)
    if name == "SwinFuse" and network.tile:
        network.tile = 21
    infrared, visible = pair(*SMALL.get(name, (19, 23)))
    before = infrared.copy(), visible.copy()
    network.train()
    fused = network.fuse(infrared, visible)
    assert fused.dtype == np.uint8 and fused.shape == infrared.shape
    assert network.training, "fuse leaves the mode as it was"
    assert np.array_equal(before[0], infrared) and np.array_equal(before[1], visible)
    assert np.array_equal(network.fuse(np.repeat(infrared[..., None], 3, 2), visible), fused), (
        "three equal channels are gray"
    )
    again = REGISTRY[name].build(variant)
    assert all(
        torch.equal(value, again.state_dict()[key]) for key, value in network.state_dict().items()
    ), "same seed, same weights"


@pytest.mark.parametrize("name", REGISTRY)
def test_tensors_are_plain_and_channels_last_fuses_the_same(name):
    """Other libraries save no tensor that lies otherwise (safetensors refuses it)."""
    network = REGISTRY[name].build(seed=3)
    if name == "SwinFuse":
        network.tile = 21
    assert all(value.is_contiguous() for value in network.state_dict().values())
    infrared, visible = pair(*SMALL.get(name, (16, 21)))
    plain = network.fuse(infrared, visible)
    assert layers.channels_last(network) is network
    assert largest(network.fuse(infrared, visible), plain) <= 1


@pytest.mark.parametrize("name", REGISTRY)
def test_fuse_of_constant_images_is_finite(name):
    network = REGISTRY[name].build()
    if name == "SwinFuse":
        network.tile = 21
    shape = SMALL.get(name, (16, 21))
    for a, b in [(0, 0), (255, 255), (0, 255)]:
        fused = network.fuse(np.full(shape, a, np.uint8), np.full(shape, b, np.uint8))
        assert fused.shape == shape


@pytest.mark.parametrize("name", REGISTRY)
def test_bad_input_is_refused_in_one_sentence(name):
    network = REGISTRY[name].build()
    infrared, visible = pair(40, 44)
    colour = np.random.default_rng(2).integers(0, 256, (40, 44, 3), dtype=np.uint8)
    for a, b, kind, sentence in [
        (infrared / 255, visible, TypeError, "infrared"),
        (infrared, visible[:, :20], ValueError, "40x20"),
        (colour, visible, ValueError, "infrared"),
        (infrared, None, TypeError, "visible"),
    ]:
        with pytest.raises(kind, match=sentence) as refused:
            network.fuse(a, b)
        assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="variant"):
        REGISTRY[name].build("no such variant")
    if not REGISTRY[name].colour:
        with pytest.raises(ValueError, match="visible.*gray"):
            network.fuse(infrared, colour)


@pytest.mark.parametrize(
    ("name", "smallest"),
    [
        ("DenseFuse", 2),
        ("RFN-Nest", 16),
        ("IFCNN", 1),
        ("PIAFusion", 2),
        ("DIDFuse", 2),
        ("AUIF", 10),
        ("SwinFuse", 1),
        ("YDTR", 1),
        ("TarDAL", 1),
        ("SeAFusion", 1),
        ("DATFuse", 1),
        ("U2Fusion", 2),
        ("SDNet", 1),
        ("LRRNet", 2),
        ("GIFNet", 5),
        ("CDDFuse", 2),
        ("EMMA", 32),
    ],
)
def test_smallest_image(name, smallest):
    network = REGISTRY[name].build()
    if name == "SwinFuse":
        network.tile = 7
    if name == "TarDAL":
        # statistics of a single pixel do not exist
        assert network.fuse(*pair(1, 2)).shape == (1, 2)
    else:
        assert network.fuse(*pair(smallest, smallest)).shape == (smallest, smallest)
    if smallest > 1:
        with pytest.raises(ValueError, match=f"at least {smallest} pixels"):
            network.fuse(*pair(smallest - 1, smallest + 5))


def test_subnormal_weights_become_zero():
    network = torch.nn.Linear(3, 1)
    weights = torch.tensor([[1e-39, -1e-44, 2e-38]])
    fill(network, Checkpoint({"weight": weights, "bias": torch.zeros(1)}, "generated", {}, True))
    assert network.weight.tolist() == [[0, 0, weights[0, 2].item()]]
    assert weights[0, 0] != 0, "the checkpoint itself stays"
