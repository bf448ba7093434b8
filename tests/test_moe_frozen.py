"""MoE-Fusion computes what it computed before its code was rewritten: outputs, gates, losses and
gradients, stored.

The numbers of ``oracles/moe_frozen.npz`` come from revision 1409ee2, whose forward pass folded the
gates into kernels and ran strip by strip; ``python tests/test_moe_frozen.py FILE`` writes such a
file with the revision that is installed.
"""

import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from fusionlib.losses import fusion_loss
from fusionlib.networks import MoEFusion

STORED = Path(__file__).parent / "oracles" / "moe_frozen.npz"
TINY = {"width": 4, "gate_grid": ((6, 8), (4, 5)), "seed": 11}
VARIANTS = {
    "plain": {},
    "one region": {"background": False},
    "w/o MoLE": {"local": "none"},
    "Att-Local": {"local": "attention"},
    "w/o MoGE": {"decoder": "single"},
    "wide": {"decoder": "wide"},
    "E4K1": {"k": 1},
    "E4K4": {"k": 4},
    "E8K3": {"experts": 8, "k": 3},
    "E2K2": {"experts": 2},
    "colour": {"visible_channels": 3},
    "quiet": {"noise": False},
}
SIZES = ((32, 32), (33, 47), (9, 6), (2, 5))
CASES = [f"{reading}, {name}" for reading in ("paper", "official") for name in VARIANTS]


def build(case: str) -> MoEFusion:
    """Return a network whose every parameter is far from its start, gates and their noise
    included.
    """
    reading, name = case.split(", ")
    model = MoEFusion(reading, **TINY | VARIANTS[name])
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = (
                parameter.std()
                if parameter.numel() > 8 and parameter.std() > 0
                else torch.tensor(0.1)
            )
            parameter += 0.5 * scale * torch.randn(parameter.shape, generator=generator)
    return model.double()


def inputs(case: str, size: tuple[int, int]) -> list[torch.Tensor]:
    generator, (height, width) = torch.Generator().manual_seed(sum(size)), size
    channels = 3 if case.endswith("colour") else 1
    shapes = (
        (2, 1, height, width),
        (2, channels, height, width),
        (2, 2, -(-height // 4), -(-width // 4)),
    )
    return [torch.rand(shape, generator=generator).double() for shape in shapes]


def measure(case: str, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return what one training pass and one pass without gradients give, all in double precision,
    the gates too, so that the order of a sum, which is free, does not show.
    """
    with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        found = _measure(case, size)
    # Of images of 33x47 every fourth row and every second column, all four borders among them.
    thinned = {
        name: value[..., ::4, ::2] if value.shape[-2:] == (33, 47) else value
        for name, value in found.items()
    }
    return {name: value.detach().float().numpy() for name, value in thinned.items()}


def _measure(case: str, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    model, (infrared, visible, maps) = build(case), inputs(case, size)
    out = model.train()(
        infrared, visible, maps, generator=[torch.Generator().manual_seed(i) for i in (1, 2)]
    )
    boxes = [torch.tensor([[0.0, 1, 4, 5]]), torch.zeros(0, 4)]
    loss = fusion_loss(
        out.fused,
        infrared,
        visible[:, :1],
        out.loads,
        out.importances,
        boxes,
        reading=case.split(", ")[0],
    )
    # Not of the loss itself: the sign of a difference near zero turns with the order of a sum.
    (out.fused.square().mean() + 10 * loss.load + loss.importance).backward()
    # the range term is younger than the frozen numbers
    found = {"fused": out.fused, "loss": torch.stack(loss[:5])}
    found |= {f"gates of {name}": gate for name, gate in out.gates.items()}
    found |= {f"load of {name}": load for name, load in out.loads.items()}
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    found["gradient sums"] = torch.stack([g.double().sum() for g in gradients])
    found["gradient norms"] = torch.stack([g.double().norm() for g in gradients])
    with torch.no_grad():
        out = model.eval()(infrared, visible, maps, details=True)
    found |= {"fused in evaluation": out.fused}
    found |= {f"y_local of {name}": y.mean(dim=1) for name, y in out.local_features.items()}
    found |= {f"experts of {name}": y.mean(dim=(0, 2)) for name, y in out.expert_outputs.items()}
    found |= {f"x_dense of {name}": x.mean(dim=1) for name, x in out.dense_features.items()}
    return found


def everything() -> dict[str, np.ndarray]:
    return {
        f"{case}, {height}x{width}, {name}": value
        for case in CASES
        for height, width in SIZES[1:]
        for name, value in measure(case, (height, width)).items()
        if (height, width) == SIZES[1] or not name.startswith(("experts", "x_dense", "y_local"))
    }


@pytest.fixture(scope="module")
def stored():
    with np.load(STORED) as file:
        return {name: file[name] for name in file}


@pytest.mark.parametrize("case", CASES)
def test_numbers_stay(case, stored, one_thread):
    for size in SIZES[1:]:
        found = measure(case, size)
        expected = {
            name: value
            for name, value in stored.items()
            if name.startswith(f"{case}, {size[0]}x{size[1]}, ")
        }
        assert expected
        for name, value in expected.items():
            assert found[name.split(", ")[-1]] == pytest.approx(value, rel=1e-6, abs=1e-8), name


if __name__ == "__main__":
    torch.set_num_threads(1)
    np.savez_compressed(sys.argv[1], **everything())
