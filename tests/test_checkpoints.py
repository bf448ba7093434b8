"""Weights on disk: own format, official files, damage, foreign code, downloads from a server on
127.0.0.1.
"""

import contextlib
import hashlib
import io
import json
import pickle
import shutil
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fusionlib import methods
from fusionlib.experiments import comparison
from fusionlib.networks import REGISTRY, download, load_checkpoint, save_checkpoint
from fusionlib.networks.compared import ydtr
from fusionlib.networks.weights import CHECKPOINTS, files, own
from fusionlib.networks.weights import checkpoint as checkpoints
from fusionlib.networks.weights import tensorflow_bundle as bundle
from fusionlib.networks.weights.official import File


@contextlib.contextmanager
def one_sentence(kind, *words):
    """Expect ``kind`` with a message of one line that holds all ``words``."""
    with pytest.raises(kind) as raised:
        yield
    message = str(raised.value)
    assert "\n" not in message and "Traceback" not in message and len(message) < 600, message
    for word in words:
        assert str(word) in message, f"{word!r} not in {message!r}"


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---- our own format ------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    network = REGISTRY["AUIF"].build(seed=3)
    return network, save_checkpoint(
        tmp_path / "tiny.safetensors", network, {"width": 16, "reading": "paper", "sizes": [1, 2]}
    )


def test_own_format_gives_back_tensors_and_configuration(saved):
    network, path = saved
    loaded = load_checkpoint(path)
    assert loaded.config == {"width": 16, "reading": "paper", "sizes": [1, 2]} and loaded.verified
    assert loaded.keys() == network.state_dict().keys()
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())
    assert files_below(path.parent) == ["tiny.json", "tiny.safetensors"]
    assert all(
        torch.equal(load_checkpoint(str(path))[name], value) for name, value in loaded.items()
    )


def test_own_format_saves_what_shares_memory(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    path = save_checkpoint(
        tmp_path / "views.safetensors", {"a": base, "b": base.T, "c": base[0]}, {}
    )
    assert torch.equal(load_checkpoint(path)["b"], base.T)


def test_own_format_overwrites_as_a_whole(saved):
    _, path = saved
    save_checkpoint(path, {"x": torch.ones(2)}, {"n": 2})
    loaded = load_checkpoint(path)
    assert list(loaded) == ["x"] and loaded.config == {"n": 2}


def change_one_byte(path: Path, at: int = -5) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_own_format_damage(saved, tmp_path):
    _, path = saved
    sidecar = path.with_suffix(".json")
    good, text = path.read_bytes(), sidecar.read_text()

    change_one_byte(path)
    with one_sentence(ValueError, path.name, "sha256"):
        load_checkpoint(path)
    path.write_bytes(good[:-100])
    with one_sentence(ValueError, path.name, "sha256"):
        load_checkpoint(path)
    path.write_bytes(good)

    record = json.loads(text)
    sidecar.write_text(json.dumps(record | {"config": {"width": 17}}))
    with one_sentence(ValueError, sidecar.name, "configuration"):
        load_checkpoint(path)
    sidecar.write_text(json.dumps(record | {"format": "another 7"}))
    with one_sentence(ValueError, sidecar.name, "another 7"):
        load_checkpoint(path)
    for broken in ("", "{", "[1, 2]", json.dumps({"format": record["format"]})):
        sidecar.write_text(broken)
        with one_sentence(ValueError, sidecar.name):
            load_checkpoint(path)
    sidecar.unlink()
    with one_sentence(FileNotFoundError, sidecar.name):
        load_checkpoint(path)
    with one_sentence(FileNotFoundError, "nothing.safetensors"):
        load_checkpoint(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": 5},
        {"config": None},
        {"config": [1]},
        {"config_sha256": 7},
        {"tensors": 5},
        {"tensors": {"x": 5}},
        {"tensors": {"x": {}}},
        {"format": {}},
    ],
)
def test_own_format_of_wrong_kinds(saved, change):
    _, path = saved
    sidecar = path.with_suffix(".json")
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | change))
    with one_sentence(ValueError, sidecar, "expected"):
        load_checkpoint(path)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_own_weights_that_are_not_finite(number, tmp_path):
    tensors = {"a.weight": torch.ones(2), "b.weight": torch.tensor([1.0, number])}
    path = save_checkpoint(tmp_path / "bad.safetensors", tensors, {})
    with one_sentence(ValueError, path, "b.weight", "NaN"):
        load_checkpoint(path)


def test_a_checkpoint_without_tensors(tmp_path):
    path = save_checkpoint(tmp_path / "empty.safetensors", {}, {})
    with one_sentence(ValueError, path, "got none"):
        load_checkpoint(path)


def test_own_format_refuses_before_writing(tmp_path):
    with one_sentence(TypeError, "config"):
        save_checkpoint(tmp_path / "a.safetensors", {"x": torch.ones(1)}, {"f": print})
    with one_sentence(TypeError, "config"):
        save_checkpoint(tmp_path / "a.safetensors", {"x": torch.ones(1)}, {"f": float("nan")})
    with one_sentence(ValueError, "a.pt", ".safetensors"):
        save_checkpoint(tmp_path / "a.pt", {"x": torch.ones(1)}, {})
    assert files_below(tmp_path) == []


def test_own_format_leaves_the_old_pair_when_writing_fails(saved, monkeypatch):
    network, path = saved

    def full_disk(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(own, "save_file", full_disk)
    with one_sentence(OSError, path.name, "No space left"):
        save_checkpoint(path, {"x": torch.ones(2)}, {})
    assert files_below(path.parent) == ["tiny.json", "tiny.safetensors"]
    assert load_checkpoint(path).keys() == network.state_dict().keys()


# ---- official files ------------------------------------------------------------------------------


def official_state() -> dict[str, torch.Tensor]:
    """Return random tensors under the names of YDTR's official file."""
    ours = ydtr.YDTR("window").state_dict()
    names = {
        "stem.0": "convInput.conv",
        "stem.1": "convInput.bn",
        "output": "convolutional_out.conv",
        "dynamic.spatial": "DDF.spatial_branch.body",
        "dynamic.channel": "DDF.channel_branch.fc",
        "blocks": "basicLayer.blocks",
    }
    return {
        theirs + name[len(prefix) :]: value
        for name, value in ours.items()
        for prefix, theirs in names.items()
        if name.startswith(prefix + ".")
    }


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """Register YDTR's checkpoint as a file made here, so that no official file is needed."""
    path = tmp_path / "weights" / "ydtr" / "model_10.pth"
    path.parent.mkdir(parents=True)
    torch.save(official_state(), path)
    file = File(
        "model_10.pth",
        path.stat().st_size,
        hashlib.sha256(path.read_bytes()).hexdigest(),
        at=("owner/name", "abc", "m/model_10.pth"),
    )
    monkeypatch.setitem(CHECKPOINTS, "ydtr", CHECKPOINTS["ydtr"]._replace(files=(file,)))
    monkeypatch.setenv("FUSION_WEIGHTS", str(tmp_path / "cache"))
    return path


def test_folder_first_then_cache(made_up, tmp_path):
    loaded = load_checkpoint("YDTR", tmp_path / "weights")
    assert loaded.verified and loaded.name == "ydtr" and list(loaded.files) == ["model_10.pth"]
    assert loaded.licence == "none stated"
    empty = tmp_path / "empty"
    empty.mkdir()
    with one_sentence(
        FileNotFoundError,
        "YDTR",
        "model_10.pth",
        "owner/name on GitHub",
        str(empty),
        "fusionlib data weights ydtr",
    ):
        load_checkpoint("YDTR", empty)
    with one_sentence(FileNotFoundError, "YDTR", str(tmp_path / "cache")):
        load_checkpoint("YDTR")
    shutil.copytree(tmp_path / "weights", tmp_path / "cache")
    for folder in (None, empty):
        assert load_checkpoint("YDTR", folder).files == loaded.files
    network = REGISTRY["YDTR"].load(folder=tmp_path / "weights")
    assert network.provenance["variant"] == "released" and network.provenance["verified"]
    with one_sentence(FileNotFoundError, made_up, "--unverified"):
        REGISTRY["YDTR"].load(folder=made_up)
    with one_sentence(FileNotFoundError, "missing"):
        load_checkpoint("YDTR", tmp_path / "missing")


def test_renamed_file_is_known_by_its_content(made_up, tmp_path):
    made_up.rename(made_up.parent / "download (1).bin")
    assert list(load_checkpoint("YDTR", tmp_path / "weights").files) == ["download (1).bin"]


def test_known_by_its_git_id(made_up, tmp_path, monkeypatch):
    assert (
        files.git_blob(made_up)
        == hashlib.sha1(
            f"blob {made_up.stat().st_size}\0".encode() + made_up.read_bytes()
        ).hexdigest()
    )
    (tmp_path / "hello").write_bytes(b"hello\n")
    as_git_says = "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object hello
    assert files.git_blob(tmp_path / "hello") == as_git_says
    file = File("model_10.pth", blob=files.git_blob(made_up))
    monkeypatch.setitem(CHECKPOINTS, "ydtr", CHECKPOINTS["ydtr"]._replace(files=(file,)))
    assert load_checkpoint("YDTR", tmp_path / "weights").verified
    change_one_byte(made_up)
    with one_sentence(ValueError, "model_10.pth", "git id"):
        load_checkpoint("YDTR", tmp_path / "weights")


def test_damaged_official_files(made_up, tmp_path):
    good = made_up.read_bytes()
    change_one_byte(made_up, 1000)
    with one_sentence(ValueError, made_up, "sha256", "damaged"):
        load_checkpoint("YDTR", tmp_path / "weights")
    made_up.write_bytes(good[:5000])
    with one_sentence(ValueError, made_up, "truncated"):
        load_checkpoint("YDTR", tmp_path / "weights")
    made_up.write_bytes(b"")
    with one_sentence(ValueError, made_up, "truncated"):
        load_checkpoint("YDTR", tmp_path / "weights")


def unchecked(monkeypatch, name="ydtr"):
    """Forget the checksums, as for files whose checksums nobody knows."""
    files = tuple(File(file.name) for file in CHECKPOINTS[name].files)
    monkeypatch.setitem(CHECKPOINTS, name, CHECKPOINTS[name]._replace(files=files))


class Foreign:
    """Code in a pickle: it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("legacy", [True, False])
def test_foreign_code_never_runs(made_up, tmp_path, monkeypatch, legacy):
    unchecked(monkeypatch)
    proof = tmp_path / "ran"
    for content in ({"convInput.conv.weight": Foreign(proof)}, Foreign(proof)):
        torch.save(content, made_up, _use_new_zipfile_serialization=not legacy)
        with one_sentence(ValueError, made_up, "code"):
            load_checkpoint("YDTR", tmp_path / "weights")
    made_up.write_bytes(pickle.dumps(Foreign(proof)))
    with one_sentence(ValueError, made_up):
        load_checkpoint("YDTR", tmp_path / "weights")
    assert not proof.exists()


def test_unchecked_files_are_judged_by_their_tensors(made_up, tmp_path, monkeypatch):
    unchecked(monkeypatch)
    state = torch.load(made_up, weights_only=True)
    assert not load_checkpoint("YDTR", tmp_path / "weights").verified

    for broken, words in [
        (
            {name: value for name, value in state.items() if name != "convInput.bn.weight"},
            ["1 missing", "stem.1.weight"],
        ),
        (state | {"another.weight": torch.ones(1)}, ["YDTR", "another.weight"]),
        (
            state | {"convInput.conv.weight": torch.ones(32, 1, 3, 3)},
            ["of another shape", "stem.0.weight"],
        ),
        (state | {"convInput.conv.bias": torch.full((64,), float("nan"))}, ["NaN", "stem.0.bias"]),
        ([1, 2], ["state dict"]),
    ]:
        torch.save(broken, made_up)
        with one_sentence(ValueError, *words):
            REGISTRY["YDTR"].load(folder=tmp_path / "weights")
    whole = made_up.read_bytes()
    for content in (b"", b"not a pickle", whole[: len(whole) // 2], b"\x80\x02." * 40):
        made_up.write_bytes(content)
        with one_sentence(ValueError, made_up):
            load_checkpoint("YDTR", tmp_path / "weights")


def test_double_and_half_precision_become_float32(made_up, tmp_path, monkeypatch):
    unchecked(monkeypatch)
    torch.save(
        {name: value.double() for name, value in torch.load(made_up, weights_only=True).items()},
        made_up,
    )
    assert {
        value.dtype
        for value in load_checkpoint("YDTR", tmp_path / "weights").values()
        if value.is_floating_point()
    } == {torch.float32}


def test_unknown_name():
    with one_sentence(ValueError, "U2Fusion", "DenseFuse"):
        load_checkpoint("U2Fusion")


def test_missing_weights_without_an_address_name_no_command(tmp_path):
    with one_sentence(FileNotFoundError, "SwinFuse", "Zhishe-Wang/SwinFuse") as _:
        load_checkpoint("SwinFuse", tmp_path, cache=tmp_path)
    with pytest.raises(FileNotFoundError) as raised:
        load_checkpoint("SwinFuse", tmp_path, cache=tmp_path)
    assert "fusionlib data" not in str(raised.value)
    for name in REGISTRY:
        with one_sentence(FileNotFoundError, name, "licence", str(tmp_path)):
            load_checkpoint(name, tmp_path, cache=tmp_path)


# ---- weights of one's own for a compared network ------------------------------------------------


def fused_by(network) -> np.ndarray:
    a, b = np.random.default_rng(1).integers(0, 256, (2, 24, 31), dtype=np.uint8)
    return network.fuse(a, b)


WRAPPED = {
    "as it is": lambda state: state,
    "a training's file": lambda state: {
        "epoch": 5,
        "state_dict": state,
        "optimizer": {"state": {}},
    },
    "of DataParallel": lambda state: {f"module.{name}": value for name, value in state.items()},
    "in double precision": lambda state: {name: value.double() for name, value in state.items()},
    "both": lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
}


@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize("names", ["theirs", "ours"])
def test_unverified_weights_fuse_like_the_same_tensors(wrap, names, made_up, tmp_path):
    reference = REGISTRY["YDTR"].load(folder=tmp_path / "weights")
    theirs = torch.load(made_up, weights_only=True)
    state = theirs if names == "theirs" else reference.state_dict()
    path = tmp_path / "mine.ckpt"
    torch.save(WRAPPED[wrap](state), path)
    network = REGISTRY["YDTR"].load(folder=path, unverified=True)
    assert np.array_equal(fused_by(network), fused_by(reference))
    assert not network.provenance["verified"] and network.provenance["files"].keys() == {path.name}


def test_unverified_weights_in_half_precision_and_as_safetensors(made_up, tmp_path):
    reference = REGISTRY["YDTR"].load(folder=tmp_path / "weights").state_dict()
    half = {name: value.half() for name, value in reference.items()}
    save_file(half, tmp_path / "mine.safetensors")
    loaded = REGISTRY["YDTR"].load(folder=tmp_path / "mine.safetensors", unverified=True)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, half[name].to(value.dtype)) and value.dtype != torch.float16


def test_unverified_weights_of_several_files_and_of_tensorflow(tmp_path):
    index, data = write_bundle(piafusion_variables())
    (tmp_path / "mine.index").write_bytes(index)
    with one_sentence(ValueError, "mine.index", "mine.data-00000-of-00001 beside it"):
        REGISTRY["PIAFusion"].load(folder=tmp_path / "mine.index", unverified=True)
    (tmp_path / "mine.data-00000-of-00001").write_bytes(data)
    np.savez(tmp_path / "mine.npz", **read_bundle(index, data))
    both = [
        REGISTRY["PIAFusion"].load(folder=tmp_path / name, unverified=True)
        for name in ("mine.index", "mine.npz")
    ]
    assert np.array_equal(*map(fused_by, both))
    network = REGISTRY["DIDFuse"].build(seed=2)
    torch.save(network.state_dict(), tmp_path / "both.pth")
    one = REGISTRY["DIDFuse"].load(folder=tmp_path / "both.pth", unverified=True)
    assert np.array_equal(fused_by(one), fused_by(network))
    with one_sentence(FileNotFoundError, tmp_path, "Encoder_weight_IJCAI.pkl", "none there"):
        REGISTRY["DIDFuse"].load(folder=tmp_path, unverified=True)
    torch.save({"cov1.cov1.1.weight": torch.ones(2)}, tmp_path / "part.pth")
    with one_sentence(ValueError, "part.pth", "a folder with Encoder", "Decoder"):
        REGISTRY["DIDFuse"].load(folder=tmp_path / "part.pth", unverified=True)


def test_unverified_weights_are_checked(made_up, tmp_path):
    ours = REGISTRY["YDTR"].load(folder=tmp_path / "weights").state_dict()
    path, theirs = tmp_path / "mine.pth", official_state()
    for state, words in [
        ({}, ["got none"]),
        ({name: value for name, value in ours.items() if name != "stem.0.bias"}, ["1 missing"]),
        (ours | {"stem.0.bias": torch.ones(3)}, ["1 of another shape", "stem.0.bias"]),
        (ours | {"more": torch.ones(3)}, ["1 unknown", "more"]),
        (ours | {"stem.0.bias": ours["stem.0.bias"] * float("nan")}, ["NaN", "stem.0.bias"]),
        (theirs | {"convInput.conv.bias": torch.ones(3)}, ["1 of another shape", "stem.0.bias"]),
        (REGISTRY["AUIF"].build().state_dict(), ["not the weights of YDTR"]),
        ({"stem.0.bias": Foreign(tmp_path / "ran")}, ["code"]),
        (5, ["a state dict, got int"]),
    ]:
        torch.save(state, path)
        with one_sentence(ValueError, path, *words):
            REGISTRY["YDTR"].load(folder=path, unverified=True)
    path.unlink()
    with one_sentence(FileNotFoundError, path):
        REGISTRY["YDTR"].load(folder=path, unverified=True)
    assert not (tmp_path / "ran").exists()


def test_a_row_of_unverified_weights_says_so(made_up, tmp_path):
    method = methods.get("YDTR", checkpoint=str(made_up), device="cpu", unverified=True)
    official = methods.get("YDTR", checkpoint=str(tmp_path / "weights"), device="cpu")
    assert method.name == "YDTR (unverified)" and comparison.weights_of(method) == "unverified"
    assert comparison.weights_of(official) == "official"
    pairs = [("p", *np.random.default_rng(2).integers(0, 256, (2, 20, 22), dtype=np.uint8))]
    methods.fuse_pairs(method, pairs, tmp_path / "fused", progress=False)
    record = json.loads((tmp_path / "fused" / "run.json").read_text())
    assert (record["method"], record["checkpoint"]) == (method.name, str(made_up))
    with one_sentence(ValueError, "unverified", "YDTR", "LP"):
        methods.get("LP", unverified=True)
    with one_sentence(ValueError, "unverified", "None for YDTR"):
        methods.get("YDTR", unverified=True)


def test_weights_of_another_variant_are_named(tmp_path, monkeypatch):
    unchecked(monkeypatch, "densefuse-torch-gray")
    torch.save({"x": torch.ones(1)}, tmp_path / "densefuse_gray.model")
    monkeypatch.setenv("FUSION_WEIGHTS", "none")
    with one_sentence(
        FileNotFoundError, "densefuse_gray.zip", "densefuse_gray.model is of the variant torch-gray"
    ):
        REGISTRY["DenseFuse"].load(folder=tmp_path)


# ---- TensorFlow without TensorFlow
# ------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def write_bundle(tensors: dict[str, np.ndarray]) -> tuple[bytes, bytes]:
    """Write index and data of a bundle as the format's description says: one data block, keys
    sharing prefixes.
    """

    def block(entries):
        out, last = b"", b""
        for key, value in entries:
            shared = next(
                (i for i, (x, y) in enumerate(zip(key, last, strict=False)) if x != y),
                min(len(key), len(last)),
            )
            out += (
                varint(shared)
                + varint(len(key) - shared)
                + varint(len(value))
                + key[shared:]
                + value
            )
            last = key
        return out + bytes(4) + (1).to_bytes(4, "little")

    def trailer(content):
        return content + b"\0" + bundle.masked_crc32c(content + b"\0").to_bytes(4, "little")

    data, entries = b"", [(b"", b"\x08\x01")]
    for name, value in sorted(tensors.items()):
        dimensions = b"".join(
            b"\x12" + varint(len(d)) + d for d in (b"\x08" + varint(n) for n in value.shape)
        )
        kind = {"f": b"\x01", "i": {4: b"\x03", 8: b"\x09"}.get(value.itemsize)}[value.dtype.kind]
        message = (
            b"\x08"
            + kind
            + b"\x12"
            + varint(len(dimensions))
            + dimensions
            + b"\x20"
            + varint(len(data))
            + b"\x28"
            + varint(value.nbytes)
        )
        message += b"\x35" + bundle.masked_crc32c(value.tobytes()).to_bytes(4, "little")
        entries.append((name.encode(), message))
        data += value.tobytes()
    first = block(entries)
    second = block([(b"~", varint(0) + varint(len(first)))])
    index = trailer(first) + trailer(second)
    footer = varint(0) + varint(0) + varint(len(first) + 5) + varint(len(second))
    return index + footer.ljust(40, b"\0") + bundle.MAGIC, data


def read_bundle(index: bytes, data: bytes) -> dict[str, np.ndarray]:
    return bundle.read_data(bundle.read_index(index), data)


def densefuse_variables() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(5)
    shapes = {
        "encoder/conv1_1": (3, 3, 1, 16),
        "decoder/conv2_1": (3, 3, 64, 64),
        "decoder/conv2_2": (3, 3, 64, 32),
        "decoder/conv2_3": (3, 3, 32, 16),
        "decoder/conv2_4": (3, 3, 16, 1),
        **{f"encoder/dense_block_conv{i}": (3, 3, 16 * i, 16) for i in (1, 2, 3)},
    }
    tensors = {
        f"{name}/kernel": draw.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    tensors |= {
        f"{name}/bias": draw.normal(size=shape[-1:]).astype(np.float32)
        for name, shape in shapes.items()
    }
    return tensors | {
        "encoder/conv1_1/bias/Adam": np.zeros(16, np.float32),
        "beta1_power": np.float32(0.9).reshape(()),
    }


def test_crc32c_of_its_standard_examples():
    # RFC 3720, B.4, before LevelDB's rotation and constant.
    for content, crc in [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ]:
        assert bundle.masked_crc32c(content) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_bundle_there_and_back():
    tensors = densefuse_variables()
    found = read_bundle(*write_bundle(tensors))
    assert tensors.keys() - found.keys() == {"encoder/conv1_1/bias/Adam", "beta1_power"}, (
        "the optimiser's are passed over"
    )
    assert all(
        np.array_equal(value, tensors[name]) and value.shape == tensors[name].shape
        for name, value in found.items()
    )
    counter = read_bundle(
        *write_bundle(
            {
                "global_step": np.int64(29).reshape(()),
                "pair": np.arange(6, dtype=np.int32).reshape(2, 3),
            }
        )
    )
    assert counter["global_step"] == 29 and counter["pair"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_damaged_bundles():
    index, data = write_bundle(densefuse_variables())
    flipped = bytearray(index)
    flipped[20] ^= 1
    spoiled = bytearray(data)
    spoiled[-3] ^= 1
    for broken in [
        (index[:-1], data),
        (index[:100], data),
        (b"", data),
        (bytes(flipped), data),
        (index, data[:-1]),
        (index, bytes(spoiled)),
    ]:
        with one_sentence(ValueError):
            read_bundle(*broken)


def test_densefuse_from_archive_and_npz(tmp_path, monkeypatch):
    unchecked(monkeypatch, "densefuse-tensorflow-1e2")
    entry = CHECKPOINTS["densefuse-tensorflow-1e2"]
    monkeypatch.setitem(CHECKPOINTS, "densefuse-tensorflow-1e2", entry._replace(fingerprint=""))
    tensors = densefuse_variables()
    index, data = write_bundle(tensors)
    folders = {kind: tmp_path / kind for kind in ("zip", "npz")}
    for folder in folders.values():
        folder.mkdir()
    with zipfile.ZipFile(
        folders["zip"] / "densefuse_gray.zip", "w", zipfile.ZIP_DEFLATED
    ) as archive:
        archive.writestr(f"{entry.member}.index", index)
        archive.writestr(f"{entry.member}.data-00000-of-00001", data)
    np.savez(folders["npz"] / "densefuse_tf_1e2.npz", **read_bundle(index, data))
    loaded = {
        kind: load_checkpoint("DenseFuse", folder, cache=tmp_path / "none")
        for kind, folder in folders.items()
    }
    assert checkpoints.fingerprint(loaded["zip"]) == checkpoints.fingerprint(loaded["npz"])
    assert torch.equal(
        loaded["zip"]["conv5.weight"],
        torch.from_numpy(tensors["decoder/conv2_4/kernel"]).permute(3, 2, 0, 1),
    )
    known = entry._replace(fingerprint=checkpoints.fingerprint(loaded["zip"]))
    monkeypatch.setitem(CHECKPOINTS, "densefuse-tensorflow-1e2", known)
    assert load_checkpoint("DenseFuse", folders["npz"]).verified
    np.savez(
        folders["npz"] / "densefuse_tf_1e2.npz",
        **read_bundle(index, data) | {"decoder/conv2_4/bias": np.ones(1, np.float32)},
    )
    with one_sentence(ValueError, "densefuse_tf_1e2.npz", "others"):
        load_checkpoint("DenseFuse", folders["npz"])
    np.savez(
        folders["npz"] / "densefuse_tf_1e2.npz",
        objects=np.array([Foreign(tmp_path / "ran")], dtype=object),
    )
    with one_sentence(ValueError, "densefuse_tf_1e2.npz"):
        load_checkpoint("DenseFuse", folders["npz"])
    assert not (tmp_path / "ran").exists()
    for content in (b"PK\x03\x04 broken", io.BytesIO().getvalue()):
        (folders["zip"] / "densefuse_gray.zip").write_bytes(content)
        with one_sentence(ValueError, "densefuse_gray.zip"):
            load_checkpoint("DenseFuse", folders["zip"])


def piafusion_variables() -> dict[str, np.ndarray]:
    """Return random tensors under the names of PIAFusion's TensorFlow checkpoint."""
    network, names = REGISTRY["PIAFusion"].build(), {"weight": "kernel", "bias": "bias"}
    theirs = {
        "first.infrared": "encoder/conv5x5_ir",
        "first.visible": "encoder/conv5x5_vi",
        "last": "decoder/conv1x1",
        **{f"stages.shared.{k}": f"encoder/Conv{k + 1}/conv3x3" for k in range(4)},
        **{f"decoder.{k}": f"decoder/conv{k + 1}" for k in range(4)},
    }
    return {
        f"PIAFusion/{theirs[name]}/{names[kind]}": (
            value.permute(2, 3, 1, 0) if value.ndim == 4 else value
        ).numpy()
        for key, value in network.state_dict().items()
        for name, _, kind in [key.rpartition(".")]
    }


def deflated(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays as an .npz whose members are compressed, a block of them at a time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                header = np.lib.format.header_data_from_array_1_0(array)
                np.lib.format.write_array_header_1_0(stream, header)
                for _ in range(0, array.nbytes, 2**24):
                    stream.write(bytes(min(2**24, array.nbytes)))


@pytest.mark.parametrize("name", ["PIAFusion/encoder/conv5x5_ir/kernel", "step"])
def test_an_archive_is_judged_before_it_is_unpacked(tmp_path, name):
    """80 MB of zeros in 80 kB, in place of a tensor of PIAFusion or beside its tensors."""
    path, large = tmp_path / "piafusion_tf.npz", np.broadcast_to(np.float32(0), (20, 2**20))
    np.savez(path, **piafusion_variables())
    assert not REGISTRY["PIAFusion"].load(folder=tmp_path).provenance["verified"]
    deflated(path, piafusion_variables() | {name: large})
    with one_sentence(ValueError, path, "at most 67 MB, got 88 MB"):
        REGISTRY["PIAFusion"].load(folder=tmp_path)
    deflated(path, piafusion_variables() | {"PIAFusion/decoder/conv1/bias": large[:4]})
    tracemalloc.start()
    with one_sentence(ValueError, path, "1 of another shape", "decoder.0.bias"):
        REGISTRY["PIAFusion"].load(folder=tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6, "nothing of 17 MB was unpacked"


def test_an_archive_that_lies_about_its_members(tmp_path):
    path, small = tmp_path / "piafusion_tf.npz", np.zeros(3, np.float32)
    with zipfile.ZipFile(path, "w") as archive, archive.open("x.npy", "w") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (2**40,)}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(small.tobytes())
    with one_sentence(ValueError, path, "x.npy does not have the bytes of its shape"):
        load_checkpoint("PIAFusion", tmp_path)


def test_a_shape_that_repeats_few_numbers(made_up, tmp_path, monkeypatch):
    unchecked(monkeypatch)
    large = torch.zeros(1).expand(2**36)
    torch.save(official_state() | {"conv64.weight": large}, made_up)
    with one_sentence(ValueError, made_up, "at most 67 MB"):
        load_checkpoint("YDTR", tmp_path / "weights")


class Zeros:
    """What PyTorch lets a pickle make of a number: 3 GB."""

    def __reduce__(self):
        return bytearray, (3_000_000_000,)


REFUSED_EARLY = {
    "of another network": ({"x": torch.ones(15_000_000)}, "not the weights of YDTR"),
    "zeros": ({"x": Zeros()}, "its pickle makes a bytearray"),
}
PEAK = """
import re
from pathlib import Path
from fusionlib.networks.weights import unverified

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

unverified.tensors_of("ydtr")
Path("/proc/self/clear_refs").write_text("5")
before = peak()
try:
    unverified.load_unverified(PATH, "ydtr")
except ValueError as error:
    print(error)
print((peak() - before) / 1000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is told by Linux")
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", REFUSED_EARLY)
def test_a_pytorch_file_is_judged_before_its_numbers_are_read(kind, legacy, tmp_path):
    (state, words), path = REFUSED_EARLY[kind], tmp_path / "mine.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    code = PEAK.replace("PATH", repr(str(path)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    *said, megabytes = done.stdout.splitlines()
    assert words in " ".join(said), done
    # an old pickle tells nothing before its numbers, and has no more of them than bytes
    assert float(megabytes) < (150 if legacy else 30)


@pytest.mark.parametrize(
    "content, kind",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"\n <!DOCTYPE html><html>log in</html>", "a web page"),
    ],
)
def test_what_was_sent_in_place_of_weights_is_named(content, kind, made_up, tmp_path, monkeypatch):
    made_up.write_bytes(content)
    with one_sentence(ValueError, made_up, kind):
        load_checkpoint("YDTR", tmp_path / "weights")
    unchecked(monkeypatch)
    with one_sentence(ValueError, made_up, kind):
        load_checkpoint("YDTR", tmp_path / "weights")


def test_whole_numbers_are_no_weights(made_up, tmp_path, monkeypatch):
    unchecked(monkeypatch)
    state = official_state()
    torch.save(state | {"convInput.conv.bias": state["convInput.conv.bias"].int()}, made_up)
    with one_sentence(ValueError, made_up, "1 of another kind of numbers", "stem.0.bias"):
        load_checkpoint("YDTR", tmp_path / "weights")


# ---- the real files, where they are
# -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_real_files(name, fusion_weights, tmp_path):
    try:
        loaded = load_checkpoint(name, fusion_weights, cache=tmp_path)
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    assert loaded.verified == all(file.sha256 or file.blob for file in CHECKPOINTS[name].files)
    if not name.startswith("piafusion-illumination"):
        method = REGISTRY[CHECKPOINTS[name].method]
        variant = next(
            key for key, variant in method.variants.items() if variant.checkpoint == name
        )
        assert (
            method.load(variant, fusion_weights, cache=tmp_path).provenance["files"] == loaded.files
        )


@pytest.mark.parametrize(
    "name", [name for name, entry in CHECKPOINTS.items() if entry.npz and entry.fingerprint]
)
def test_real_bundle_equals_its_npz(name, fusion_weights, tmp_path):
    entry = CHECKPOINTS[name]
    shutil.copy(next(fusion_weights.rglob(entry.npz)), tmp_path)
    loaded = load_checkpoint(name, tmp_path, cache=tmp_path / "none")
    assert loaded.verified and list(loaded.files) == [entry.npz]
    assert checkpoints.fingerprint(
        load_checkpoint(name, fusion_weights)
    ) == checkpoints.fingerprint(loaded)


def test_tardal_dt_of_the_second_release(fusion_weights, tmp_path):
    shutil.copy(fusion_weights / "tardal" / "tardal-dt.pth", tmp_path)
    other = load_checkpoint("TarDAL", tmp_path, cache=tmp_path / "none")
    assert checkpoints.fingerprint(other) == checkpoints.fingerprint(
        load_checkpoint("TarDAL", fusion_weights)
    )


def test_one_official_file_under_the_name_of_another(fusion_weights, tmp_path):
    shutil.copy(fusion_weights / "tardal" / "tardal+.pt", tmp_path / "tardal++.pt")
    with one_sentence(ValueError, "tardal++.pt", "which is tardal+.pt of tardal-tt"):
        load_checkpoint("tardal-ct", tmp_path, cache=tmp_path / "none")
    assert load_checkpoint("tardal-tt", tmp_path, cache=tmp_path / "none").verified


# ---- download
# --------------------------------------------------------------------------------------------------


class Server(BaseHTTPRequestHandler):
    content: dict[str, bytes] = {}
    short: bool = False

    def do_GET(self):
        content = self.content.get(self.path)
        self.send_response(200 if content is not None else 404)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write((content or b"")[: 1000 if self.short else None])

    def log_message(self, *_args):
        pass


@pytest.fixture
def server():
    """Serve the files of a dict on 127.0.0.1; ``short`` breaks off after 1000 bytes."""
    handler = type("Handler", (Server,), {"content": {}, "short": False})
    with HTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield handler, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


def test_download_a_good_file(made_up, server, tmp_path):
    handler, address = server
    handler.content["/files/model_10.pth"] = made_up.read_bytes()
    for url, cache in (
        (address + "files/", tmp_path / "one"),
        (address + "files/model_10.pth", tmp_path / "two"),
    ):
        paths = download("YDTR", url, cache=cache)
        assert [path.read_bytes() for path in paths] == [made_up.read_bytes()]
        assert files_below(cache) == ["ydtr/model_10.pth"]
        assert load_checkpoint("YDTR", cache=cache).verified
    handler.content.clear()
    assert download("YDTR", address, cache=tmp_path / "one"), (
        "what is there and right is not fetched again"
    )


def test_a_file_without_checksum_is_only_taken_if_it_opens(made_up, server, tmp_path, monkeypatch):
    handler, address = server
    files = (File("x.index", at=("o", "c", "x.index")),)
    monkeypatch.setitem(CHECKPOINTS, "ydtr", CHECKPOINTS["ydtr"]._replace(files=files))
    index = write_bundle(densefuse_variables())[0]
    for content in (b'{"message": "rate limit"}', index[:-9], b""):
        handler.content["/x.index"] = content
        with one_sentence(ValueError, "x.index", "another or a damaged file", "nothing was kept"):
            download("YDTR", address, cache=tmp_path / "cache")
    handler.content["/x.index"] = index
    assert [path.read_bytes() for path in download("YDTR", address, cache=tmp_path / "cache")] == [
        index
    ]


def test_download_failures_leave_nothing(made_up, server, tmp_path):
    handler, address = server
    cache = tmp_path / "cache"
    handler.content["/model_10.pth"] = made_up.read_bytes()[::-1]
    with one_sentence(ValueError, "sha256", "nothing was kept"):
        download("YDTR", address, cache=cache)
    handler.content["/model_10.pth"] = made_up.read_bytes()[:-9]
    with one_sentence(ValueError, "truncated"):
        download("YDTR", address, cache=cache)
    handler.content["/model_10.pth"], handler.short = made_up.read_bytes(), True
    with one_sentence((ConnectionError, ValueError), "model_10.pth"):
        download("YDTR", address, cache=cache)
    handler.short = False
    with one_sentence(ConnectionError, "status 404"):
        download("YDTR", address + "elsewhere/", cache=cache)
    assert list(cache.rglob("*.pth")) == [] and files_below(cache) == []


def test_download_without_network(made_up, tmp_path):
    with HTTPServer(("127.0.0.1", 0), Server) as closed:
        port = closed.server_port
    with one_sentence(ConnectionError, "model_10.pth", f"127.0.0.1:{port}"):
        download("YDTR", f"http://127.0.0.1:{port}/", cache=tmp_path / "cache")
    assert files_below(tmp_path / "cache") == []


def test_download_interrupted_by_the_user(made_up, server, tmp_path, monkeypatch):
    import pooch

    handler, address = server
    handler.content["/model_10.pth"] = made_up.read_bytes()

    def interrupt(self, url, output_file, pooch_object, **_options):
        output_file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download("YDTR", address, cache=tmp_path / "cache")
    assert files_below(tmp_path / "cache") == []


def test_download_without_an_address(tmp_path):
    with one_sentence(ValueError, "swinfuse", "Zhishe-Wang/SwinFuse"):
        download("SwinFuse", cache=tmp_path / "cache")
    assert files_below(tmp_path) == []


def test_addresses_of_the_registry():
    for name, entry in CHECKPOINTS.items():
        for file in (*entry.files, *(f for copy in entry.copies for f in copy)):
            assert (
                file.url is None
                or file.url.startswith("https://github.com/")
                and " " not in file.url
            )
            assert file.sha256 or file.blob or name in ("swinfuse", "piafusion-tensorflow"), (
                "no others lack a checksum"
            )
            assert len(file.sha256) in (0, 64) and len(file.blob) in (0, 40)
            assert file.origin and entry.licence


def test_official_sizes_are_those_of_the_files_with_their_checksum(fusion_weights):
    from hashlib import sha256

    from fusionlib.networks.weights.official import CHECKPOINTS

    stated = {}
    for entry in CHECKPOINTS.values():
        for file in (*entry.files, *(f for group in entry.copies for f in group)):
            if file.sha256:
                stated[file.sha256] = file.size
    met = set()
    for path in fusion_weights.rglob("*"):
        if path.is_file() and path.stat().st_size < 50e6:
            content = path.read_bytes()
            key = sha256(content).hexdigest()
            if key in stated:
                assert stated[key] == len(content), path.name
                met.add(key)
    assert met
