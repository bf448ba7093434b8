"""The fusion loss: the official code's numbers, definitions by hand, and the balance of the
experts.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionlib import losses

ORACLE = Path(__file__).parent / "oracles" / "moe_official_64x80.npz"


@pytest.fixture(scope="module")
def oracle():
    with np.load(ORACLE) as stored:
        return {
            name: torch.from_numpy(stored[name])
            for name in stored
            if stored[name].dtype.kind == "f"
        }


def images(seed=0, shape=(2, 1, 7, 9)):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(3)]


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_official_losses(oracle, mode):
    sources = oracle["infrared"], oracle["visible"]
    boxes = [oracle["boxes0"], oracle["boxes1"]]
    fused = oracle[f"{mode}_fused"]
    gates = {"foreground": "fg", "background": "bg", "global": "global"}
    loads = {name: oracle[f"{mode}_load_{short}"] for name, short in gates.items()}
    importances = {name: oracle[f"{mode}_gates_{short}"].sum(0) for name, short in gates.items()}
    loss = losses.fusion_loss(fused, *sources, loads, importances, boxes, reading="official")
    assert loss.pixel.item() == pytest.approx(oracle[f"{mode}_pixel_loss"].item(), abs=1e-6)
    assert 10 * loss.gradient.item() == pytest.approx(oracle[f"{mode}_grad_loss"].item(), abs=1e-5)
    assert (loss.load + loss.importance).item() == pytest.approx(
        oracle[f"{mode}_aux"].item(), abs=1e-5
    )
    if mode == "train":
        assert loss.total.item() == pytest.approx(oracle["train_total"].item(), abs=1e-5)
    else:
        local = {name: loads[name] for name in ("foreground", "background")}
        weights = {name: importances[name] for name in local}
        aux = losses.load_loss(local) + losses.importance_loss(weights)
        assert aux.item() == pytest.approx(oracle["eval_aux_local"].item(), abs=1e-5)


def test_boxes_are_not_changed(oracle):
    boxes = [oracle["boxes0"].clone(), oracle["boxes1"].clone()]
    losses.pixel_loss(
        oracle["eval_fused"], oracle["infrared"], oracle["visible"], boxes, "official"
    )
    assert torch.equal(boxes[0], oracle["boxes0"]) and torch.equal(boxes[1], oracle["boxes1"])


def test_paper_terms_by_hand():
    fused, infrared, visible = images()
    brighter = np.maximum(infrared.numpy(), visible.numpy())
    assert losses.pixel_loss(fused, infrared, visible).item() == pytest.approx(
        np.abs(fused.numpy() - brighter).mean()
    )
    # ndimage's "mirror" repeats no edge pixel, like the reflect padding here
    from scipy import ndimage

    def slope(x, mode):
        return np.stack(
            [
                sum(np.abs(ndimage.sobel(p[0], axis, mode=mode)) for axis in (0, 1))
                for p in x.numpy()
            ]
        )

    for reading, mode in (("paper", "mirror"), ("official", "constant")):
        f, i, v = (slope(x, mode) for x in (fused, infrared, visible))
        expected = np.abs(f - np.maximum(i, v)).mean()
        found = losses.gradient_loss(fused, infrared, visible, reading).item()
        assert found == pytest.approx(expected, rel=1e-5)


def test_total_is_equation_5():
    fused, infrared, visible = images()
    loads = {"foreground": torch.tensor([1.0, 3.0]), "global": torch.tensor([2.0, 2.0])}
    importances = {"foreground": torch.tensor([0.2, 1.8])}
    loss = losses.fusion_loss(fused, infrared, visible, loads, importances, alpha=3.0)
    assert loss.total.item() == pytest.approx((loss.pixel + 3 * loss.gradient + loss.load).item())
    assert loss.load.item() == pytest.approx(0.01 * 2 / 4)  # variance 2, mean 2
    both = losses.fusion_loss(
        fused, infrared, visible, loads, importances, alpha=3.0, balance_importance=True
    )
    assert (both.total - loss.total).item() == pytest.approx(loss.importance.item(), rel=1e-4)
    heavy = losses.fusion_loss(
        fused, infrared, visible, loads, weights=dict.fromkeys(losses.GATE_WEIGHTS, 1.0)
    )
    assert heavy.load.item() == pytest.approx(100 * loss.load.item())
    plain = losses.fusion_loss(fused, infrared, visible)
    assert plain.load.item() == plain.importance.item() == 0


def test_pixel_reading_is_an_option():
    fused, infrared, visible = images()
    boxes = [torch.tensor([[1.0, 1.0, 5.0, 4.0]]), torch.zeros(0, 4)]
    mixed = losses.fusion_loss(fused, infrared, visible, boxes=boxes, pixel_reading="official")
    assert (
        mixed.pixel.item() == losses.pixel_loss(fused, infrared, visible, boxes, "official").item()
    )
    assert mixed.gradient.item() == losses.gradient_loss(fused, infrared, visible).item()


def test_box_mask():
    image = torch.zeros(2, 1, 6, 8)
    mask = losses.box_mask(
        [torch.tensor([[1.9, 0.0, 3.9, 2.0], [-4.0, 4.5, 99.0, 99.0]]), torch.zeros(0, 4)], image
    )
    expected = torch.zeros(2, 1, 6, 8, dtype=torch.bool)
    expected[0, 0, 0:2, 1:3] = True
    expected[0, 0, 4:6, :] = True
    assert torch.equal(mask, expected)
    assert not losses.box_mask(None, image).any()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=2, max_size=8), st.floats(0.5, 20))
def test_balance_is_smallest_when_all_have_the_same(amounts, level):
    loads = torch.tensor(amounts, dtype=torch.float64)
    balanced = torch.full_like(loads, level)
    assert losses.load_loss({"global": balanced}).item() < 1e-12
    imbalance = losses.load_loss({"global": loads}).item()
    assert imbalance >= 0
    if loads.max() > loads.min() + 1e-3 and loads.mean() > 0.1:
        assert imbalance > losses.load_loss({"global": balanced}).item()
        halfway = (loads + loads.mean()) / 2
        assert losses.load_loss({"global": halfway}).item() < imbalance


def test_descending_the_load_loss_balances_a_gate():
    from fusionlib.networks.mixture import NoisyTopKGate

    gate = NoisyTopKGate(5, 4, 2).train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        gate.w_gate[:, 0] = 1.0
    s = torch.rand(16, 5, generator=generator)
    before = losses.load_loss({"global": gate(s, generator).load}).item()
    optimiser = torch.optim.Adam(gate.parameters(), 0.05)
    for _ in range(60):
        optimiser.zero_grad()
        losses.load_loss({"global": gate(s, generator).load}).backward()
        optimiser.step()
    assert losses.load_loss({"global": gate(s, generator).load}).item() < before / 5


def _one_of_two(rank, file, queue):
    import torch.distributed as processes

    torch.set_num_threads(1)
    processes.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    load = torch.tensor([[1.0, 2.0], [4.0, 0.5]][rank], requires_grad=True)
    loss = losses.load_loss({"global": load})
    loss.backward()
    queue.put((rank, loss.item(), load.grad.tolist()))
    processes.destroy_process_group()


def test_loads_are_summed_over_processes(tmp_path):
    """Two processes see the loss of the joint batch, and gradients whose mean over processes is its
    gradient.
    """
    context = torch.multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    torch.multiprocessing.spawn(_one_of_two, (str(tmp_path / "meeting"), queue), nprocs=2)
    found = sorted(queue.get() for _ in range(2))
    joint = torch.tensor([5.0, 2.5], requires_grad=True)
    expected = losses.load_loss({"global": joint})
    expected.backward()
    for _, value, gradient in found:
        assert value == pytest.approx(expected.item(), rel=1e-6)
        assert [g / 2 for g in gradient] == pytest.approx(joint.grad.tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, i, v: losses.pixel_loss(f, i, v[..., 1:]), "visible: expected one shape"),
        (
            lambda f, i, v: losses.gradient_loss(f, i, v.expand(-1, 3, -1, -1)),
            "of a colour image use Y",
        ),
        (lambda f, i, v: losses.pixel_loss(f, i, v, reading="both"), "reading: expected one of"),
        (
            lambda f, i, v: losses.pixel_loss(f, i, v, [torch.zeros(0, 4)], "official"),
            "boxes: expected one list per image",
        ),
        (
            lambda f, i, v: losses.fusion_loss(f, i, v, {"local": torch.ones(4)}),
            "loads: expected gates out of .*'local'",
        ),
        (lambda f, i, v: losses.load_loss({}), "got none"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(*images())
