"""The MoE-Fusion network: the official code's numbers, and what must hold for any gate, batch and
size.
"""

import json
import math
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import test_moe_frozen as frozen
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from fusionlib.networks import inference, moe_names
from fusionlib.networks import mixture as mixture_module
from fusionlib.networks.inspection import count_parameters_and_flops
from fusionlib.networks.mixture import Expert, MixtureOfExperts, NoisyTopKGate
from fusionlib.networks.moe_fusion import MoEFusion
from fusionlib.networks.moe_names import official_name

ORACLE = Path(__file__).parent / "oracles" / "moe_official_64x80.npz"
GATES = {"foreground": "fg", "background": "bg", "global": "global"}
TINY = {"width": 4, "gate_grid": ((6, 8), (4, 5))}


def inputs(batch=2, height=32, width=40, visible_channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = (
        (batch, 1, height, width),
        (batch, visible_channels, height, width),
        (batch, 2, height // 4, width // 4),
    )
    return tuple(torch.rand(size, generator=generator) for size in sizes)


# ---- the official code ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def oracle():
    with np.load(ORACLE) as stored:
        return {name: stored[name] for name in stored}


@pytest.fixture(scope="module")
def official_weights(oracle):
    """Generate the weights by the rule the oracle was made with."""
    state = {}
    for name, shape, total in zip(oracle["names"], oracle["shapes"], oracle["sums"], strict=True):
        shape = json.loads(str(shape))
        z = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF).standard_normal(shape)
        scale = (
            0.01
            if name.endswith(("w_gate", "w_noise"))
            else 0.05
            if name.endswith("bias")
            else None
        )
        values = (z * scale if scale else z / math.sqrt(math.prod(shape[1:]))).astype(np.float32)
        assert values.astype(np.float64).sum() == pytest.approx(total, abs=1e-9)
        state[str(name)] = torch.from_numpy(values)
    return state


def oracle_inputs(oracle):
    attention = np.concatenate([oracle["att_infrared"], oracle["att_visible"]], axis=1)
    return [torch.from_numpy(x) for x in (oracle["infrared"], oracle["visible"], attention)]


@pytest.mark.parametrize("gradients", [False, True])
def test_official_forward(oracle, official_weights, gradients):
    model = MoEFusion.from_official(official_weights, image_size=(64, 80)).eval()
    with torch.set_grad_enabled(gradients):
        out = model(*oracle_inputs(oracle), details=True)
    assert np.abs(out.fused.detach().numpy() - oracle["eval_fused"]).max() < 1e-5
    parts = [
        out.dense_features["visible"],
        out.dense_features["infrared"],
        *out.local_features.values(),
    ]
    x_f = torch.cat(parts, dim=1)[:, :, 20:23, 24:27].detach().numpy()
    assert np.abs(x_f - oracle["eval_enc_crop"]).max() < 1e-5
    for name, short in GATES.items():
        assert np.abs(out.gates[name].detach().numpy() - oracle[f"eval_gates_{short}"]).max() < 1e-5
        assert np.array_equal(out.loads[name].detach().numpy(), oracle[f"eval_load_{short}"])


def test_official_training(oracle, official_weights, monkeypatch):
    """Noise, loads, and the norm and sum of every gradient of the official total loss."""
    from fusionlib.losses import fusion_loss

    model = MoEFusion.from_official(official_weights, image_size=(64, 80)).train()
    draws = iter(torch.from_numpy(oracle[f"train_noise_{short}"]) for short in GATES.values())
    monkeypatch.setattr(mixture_module.torch, "randn", lambda *_, **__: next(draws))
    infrared, visible, attention = oracle_inputs(oracle)
    out = model(infrared, visible, attention)
    assert np.abs(out.fused.detach().numpy() - oracle["train_fused"]).max() < 1e-5
    for name, short in GATES.items():
        assert (
            np.abs(out.gates[name].detach().numpy() - oracle[f"train_gates_{short}"]).max() < 1e-5
        )
        assert np.abs(out.loads[name].detach().numpy() - oracle[f"train_load_{short}"]).max() < 1e-5
    loss = fusion_loss(
        out.fused,
        infrared,
        visible,
        out.loads,
        out.importances,
        [torch.from_numpy(oracle[f"boxes{i}"]) for i in range(2)],
        reading="official",
    )
    assert loss.total.item() == pytest.approx(float(oracle["train_total"]), abs=1e-5)
    loss.total.backward()
    expected = dict(zip(oracle["names"], oracle["gradients"], strict=True))
    for name, parameter in model.named_parameters():
        norm, total = expected[official_name(name)]
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert gradient.double().norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), name
        assert gradient.double().sum().item() == pytest.approx(
            total, rel=2e-3, abs=2e-3 * max(norm, 1e-3)
        ), name


def test_the_oracle_is_the_stored_one(oracle, oracles):
    with np.load(oracles / "moe_official_64x80.npz") as original:
        for name in original:
            expected = original[name][:, :, :3, :3] if name == "eval_enc_crop" else original[name]
            assert np.array_equal(oracle[name], expected), name


def test_official_state_dict_of_a_whole_model(official_weights):
    whole = {f"fusion.{name}": value for name, value in official_weights.items()} | {
        "backbone.x": torch.zeros(1)
    }
    a, b = (MoEFusion.from_official(s, (64, 80)).state_dict() for s in (official_weights, whole))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_official_state_dict_errors(official_weights):
    with pytest.raises(ValueError, match="found no entry 'encoder.Conv1"):
        MoEFusion.from_official({})
    lacking = {
        name: value for name, value in official_weights.items() if name != "DecoderMoE.w_gate"
    }
    with pytest.raises(ValueError, match="expected an entry 'DecoderMoE.w_gate', found none"):
        MoEFusion.from_official(lacking, (64, 80))
    with pytest.raises(ValueError, match="for images of 96x80"):
        MoEFusion.from_official(official_weights, (96, 80))


@pytest.mark.parametrize("prefix", ["", "fusion."])
def test_former_names_are_read(prefix):
    """Weights that an earlier version saved, of the network or of a training, open under today's
    names.
    """
    model = MoEFusion(seed=3, **TINY)
    former = {new: old for old, new in moe_names.FORMER.items()}
    old = {}
    for name, value in model.state_dict().items():
        owner, rest = name.split(".", 1)
        old[f"{prefix}{former[owner]}.{rest}"] = value
    holder = (
        torch.nn.ModuleDict({"fusion": MoEFusion(seed=4, **TINY)})
        if prefix
        else MoEFusion(seed=4, **TINY)
    )
    holder.load_state_dict(old)
    found = moe_names.current(old)
    for name, value in model.state_dict().items():
        assert torch.equal(holder.state_dict()[prefix + name], value) and found[
            prefix + name
        ] is old_value(old, former, prefix, name)
    assert moe_names.current(found) == found


def old_value(old, former, prefix, name):
    owner, rest = name.split(".", 1)
    return old[f"{prefix}{former[owner]}.{rest}"]


# ---- the gate ------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    half=st.integers(1, 4),
    data=st.data(),
    batch=st.integers(1, 5),
    training=st.booleans(),
    seed=st.integers(0, 99),
)
def test_gates_sum_to_one_with_k_nonzero(half, data, batch, training, seed):
    k = data.draw(st.integers(1, 2 * half))
    generator = torch.Generator().manual_seed(seed)
    gate = NoisyTopKGate(12, 2 * half, k).train(training)
    torch.nn.init.normal_(gate.w_gate, generator=generator)
    gating = gate(torch.randn(batch, 12, generator=generator), generator)
    assert torch.allclose(gating.weights.sum(dim=1), torch.ones(batch), atol=1e-6)
    assert ((gating.weights > 0).sum(dim=1) == k).all()
    assert torch.equal(gating.chosen, (gating.weights > 0).nonzero()[:, 1].reshape(batch, k))
    assert torch.allclose(gating.importance, gating.weights.sum(dim=0))
    if not training or k == 2 * half:
        assert torch.equal(gating.load, (gating.weights > 0).float().sum(dim=0))
    else:
        assert ((gating.load >= 0) & (gating.load <= batch)).all()


def test_load_is_the_probability_of_being_chosen():
    """The smooth load against counting: draw one expert's noise again and again, the others'
    fixed.
    """
    generator = torch.Generator().manual_seed(3)
    gate = NoisyTopKGate(6, 4, 2).train()
    torch.nn.init.normal_(gate.w_gate, std=0.4, generator=generator)
    s = torch.randn(1, 6, generator=generator)
    state = generator.get_state()
    load = gate(s, generator).load
    draw = torch.randn(1, 4, generator=torch.Generator().set_state(state))
    spread = math.log(2) + 0.01
    clean = s @ gate.w_gate
    noisy = clean + spread * draw
    for expert in range(4):
        others = torch.cat([noisy[0, :expert], noisy[0, expert + 1 :]])
        again = clean[0, expert] + spread * torch.randn(200_000, generator=generator)
        frequency = (again > others.topk(2).values[1]).float().mean()
        assert load[expert].item() == pytest.approx(frequency.item(), abs=0.005)


def test_noise_comes_from_the_generator_alone():
    model = MoEFusion(**TINY).train()
    data = inputs()
    first, again, other = (
        model(*data, generator=torch.Generator().manual_seed(seed)).loads["global"]
        for seed in (5, 5, 6)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    state = torch.get_rng_state()
    model(*data, generator=torch.Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), state)
    quiet = MoEFusion(noise=False, **TINY).train()
    assert torch.equal(quiet(*data).fused, quiet(*data).fused)
    assert not quiet(*data).loads["global"].requires_grad


def test_seed_sets_the_weights_and_nothing_else():
    state = torch.get_rng_state()
    a, b, c = MoEFusion(seed=1, **TINY), MoEFusion(seed=1, **TINY), MoEFusion(seed=2, **TINY)
    torch.set_rng_state(state)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(
        a.decoder.experts[0].layers[0].weight, c.decoder.experts[0].layers[0].weight
    )


def test_official_gates_start_at_zero_and_choose_by_tie():
    gates = MoEFusion("official", **TINY).eval()(*inputs(3)).gates
    for gate in gates.values():
        assert torch.equal(gate, gate[:1].expand_as(gate)) and set(gate.unique().tolist()) == {
            0,
            0.5,
        }


# ---- the dispatch --------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    half=st.integers(1, 3),
    data=st.data(),
    seed=st.integers(0, 99),
    border=st.sampled_from(["reflect", "zeros"]),
    grad=st.booleans(),
    combine=st.sampled_from(["sum", "log-sum-exp"]),
    inputs=st.sampled_from([1, 2]),
)
def test_mixture_equals_its_formula(half, data, seed, border, grad, combine, inputs):
    """Equations (2) and (4), expert by expert, against the loop and against gathered kernels."""
    k = data.draw(st.integers(1, 2 * half))
    generator = torch.Generator().manual_seed(seed)
    gate = NoisyTopKGate(7, 2 * half, k).eval()
    torch.nn.init.normal_(gate.w_gate, generator=generator)
    mixture = MixtureOfExperts((4, 6, 3, 2), gate, inputs, combine=combine, border=border)
    maps = [torch.randn(3, 4, 5, 6, generator=generator) for _ in range(inputs)]
    s = torch.randn(3, 7, generator=generator)
    with torch.set_grad_enabled(grad):
        y, gating = mixture(s, maps)
        each = mixture.every_output(maps)
        weights = gating.weights[:, :, None, None, None]
        expected = (
            (weights * each).sum(1) if combine == "sum" else (weights * each.exp()).sum(1).log()
        )
        gathered = mixture.gathered(maps, gating)
    assert torch.allclose(y, expected, atol=1e-5)
    assert torch.allclose(gathered, expected, atol=1e-5)


@pytest.mark.parametrize("channels", [(3, 5), (6, 4)])
@pytest.mark.parametrize("size", [(2, 2), (2, 7), (9, 3), (16, 17)])
def test_mirrored_border(channels, size):
    """A layer of an expert is the convolution of a map padded by its mirror image."""
    x = torch.randn(2, channels[0], *size)
    expert = Expert(channels, "reflect")
    weight, bias = expert.layers[0].weight, expert.layers[0].bias
    padded = torch.nn.functional.conv2d(
        torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect"), weight, bias
    )
    assert torch.equal(expert(x), padded)


def images_of(data):
    """Yield the images of a batch one by one."""
    return (tuple(x[b : b + 1] for x in data) for b in range(len(data[0])))


@pytest.mark.parametrize("reading", ["paper", "official"])
@pytest.mark.parametrize("height", [2, 31, 32, 33, 64, 65, 97, 130])
def test_strips_are_the_whole(reading, height):
    """The quick way computes strips, here of 32 rows: the same values wherever a strip ends."""
    model = MoEFusion(reading, **TINY).eval()
    data = inputs(2, 4 * height, 9)
    data = data[0][:, :, :height], data[1][:, :, :height], data[2]
    whole = model(*data)
    strips = [inference.fuse(model, *one, tile=(32, 9)) for one in images_of(data)]
    assert (torch.cat([out.fused for out in strips]) - whole.fused).abs().max() < 1e-5
    assert (torch.cat([out.attention for out in strips]) - whole.attention).abs().max() < 1e-5


@pytest.fixture
def gathered(monkeypatch):
    """Mixtures compute with gathered kernels, as on a GPU."""
    monkeypatch.setattr(mixture_module, "prefers_gathered", lambda x: True)


SIZES = [(32, 32), (33, 47), (2, 5), (483, 641)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("case", frozen.CASES)
def test_plain_gathered_and_quick_are_equal(case, size, monkeypatch):
    """Forward to 1e-6 of the range, gradients to 1e-6 of their norm; quick in tiles of every kind.
    All in double precision, the gates too, so that the order of a sum does not show.
    """
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    if size == SIZES[-1] and not case.endswith(("plain", "E8K3")):
        pytest.skip("the largest size is tried on two variants of each reading")
    model, data = frozen.build(case).eval(), frozen.inputs(case, size)
    few = size != SIZES[-1]
    outputs, gradients = {}, {}
    for way in ("plain", "gathered"):
        monkeypatch.setattr(
            mixture_module, "prefers_gathered", lambda x, way=way: way == "gathered"
        )
        outputs[way] = model(*data)
        if few:
            model.zero_grad()
            (
                outputs[way].fused.square().mean()
                + sum(i.square().sum() for i in outputs[way].importances.values())
            ).backward()
            gradients[way] = [
                torch.zeros_like(p) if p.grad is None else p.grad.clone()
                for p in model.parameters()
            ]
    plain, scale = outputs["plain"], outputs["plain"].fused.abs().max()
    assert (outputs["gathered"].fused - plain.fused).abs().max() < 1e-6 * scale
    for a, b in zip(*gradients.values(), strict=True) if few else ():
        assert (a - b).norm() <= 1e-6 * a.norm() + 1e-9
    height, width = size
    tiles = (
        [(1, width), (5, width), (7, 3), (height, width), None]
        if few
        else [(64, width), (100, 216), None]
    )
    for b, one in enumerate(images_of(data)):
        for tile in tiles:
            for memory in (None, 1e-9):  # x_f kept whole, or computed again for each tile
                quick = inference.fuse(model, *one, tile=tile, memory=memory)
                assert (quick.fused - plain.fused[b : b + 1]).abs().max() < 1e-6 * scale, (
                    tile,
                    memory,
                )
                for name, gate in plain.gates.items():
                    assert torch.allclose(quick.gates[name], gate[b : b + 1], atol=1e-6)


def test_quick_takes_one_pair_in_evaluation():
    model, data = MoEFusion(**TINY).eval(), inputs(2)
    with pytest.raises(ValueError, match="infrared: expected one pair, got a batch of 2"):
        inference.fuse(model, *data)
    one = [x[:1] for x in data]
    with pytest.raises(ValueError, match="memory: expected a positive number of GB, got 0"):
        inference.fuse(model, *one, memory=0)
    for memory in ("2", math.inf, math.nan):
        with pytest.raises(ValueError, match="memory: expected a positive number of GB"):
            inference.fuse(model, *one, memory=memory)
    for tile in ((0, 5), (-1, 5), (2.5, 3), (4,)):
        with pytest.raises(ValueError, match="tile: expected rows and columns of at least 1"):
            inference.fuse(model, *one, tile=tile)
    with pytest.raises(ValueError, match="model: expected evaluation mode"):
        inference.fuse(model.train(), *one)


@pytest.mark.parametrize("reading", ["paper", "official"])
def test_unselected_experts_are_not_touched(reading):
    """No gradient, and no influence even where their weights are NaN."""
    model = MoEFusion(reading, **TINY).eval()
    data = inputs(1)
    out = model(*data)
    out.fused.mean().backward()
    clean = out.fused.detach()
    for name, mixture in (*model.local_mixtures.items(), ("global", model.decoder)):
        chosen = out.gates[name][0] > 0
        assert chosen.sum() == 2
        for used, expert in zip(chosen, mixture.experts, strict=True):
            assert all((p.grad is not None) == bool(used) for p in expert.parameters())
            if not used:
                for p in expert.parameters():
                    p.data.fill_(math.nan)
    assert torch.equal(model(*data).fused, clean)


@pytest.mark.parametrize(("experts", "k"), [(4, 2), (4, 1), (4, 4), (8, 2)])
def test_operations_are_those_of_the_selected_experts(experts, k):
    """Counted operations equal K experts' share, as ``cost`` says; N does not matter."""
    model = MoEFusion("official", experts=experts, k=k, **TINY).eval()
    with FlopCounterMode(display=False) as counter:
        model(*inputs(1, 32, 40))
    assert counter.get_total_flops() == sum(
        operations for _, operations in count_parameters_and_flops(model, 32, 40).values()
    )


@pytest.mark.parametrize("gradients", [False, True])
def test_calls_of_the_selected_experts(gradients, monkeypatch, gathered):
    """The 160 channels of an image are read by one convolution for both active global experts."""
    model = MoEFusion("paper", **TINY).eval()
    seen, called = [], torch.nn.functional.conv2d

    def counting(x, weight, *rest, **options):
        seen.append((len(x), x.shape[1], weight.shape[0]))
        return called(x, weight, *rest, **options)

    monkeypatch.setattr(mixture_module.F, "conv2d", counting)
    for one in images_of(inputs(3)):
        model(*one) if gradients else inference.fuse(model, *one)
    width = TINY["width"]
    assert [call for call in seen if call[1] == 10 * width] == [(1, 10 * width, 2 * 4 * width)] * 3
    # encoders, attention, local mixtures, global mixture
    assert len(seen) == 3 * (8 + 2 + 2 * 2 + 4)


def test_compiles_whole():
    """No graph break: forward and gradients in one graph, the same numbers."""
    model, data = MoEFusion(**TINY).eval(), inputs()
    expected = model(*data).fused
    torch._dynamo.reset()
    graph = torch.compile(model, fullgraph=True, backend="aot_eager")
    found = graph(*data).fused
    assert (found - expected).abs().max() < 1e-6
    expected.square().mean().backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    model.zero_grad()
    found.square().mean().backward()
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        assert (gradient - (torch.zeros_like(p) if p.grad is None else p.grad)).norm() < 1e-6
    assert torch._dynamo.explain(model)(*data).graph_break_count == 0
    torch.compile(model.train(), fullgraph=True, backend="aot_eager")(*data)


@pytest.mark.parametrize("reading", ["paper", "official"])
def test_runs_on_the_meta_device(reading):
    """Shapes without numbers: nothing asks a tensor for its values."""
    model = MoEFusion(reading, **TINY).to("meta").train()
    out = model(*(x.to("meta") for x in inputs()))
    assert out.fused.shape == (2, 1, 32, 40) and out.fused.is_meta
    (out.fused.mean() + out.loads["global"].var()).backward()
    assert all(
        p.grad.shape == p.shape for name, p in model.named_parameters() if "attention" not in name
    )


@pytest.mark.parametrize("reading", ["paper", "official"])
def test_batch_order_and_batch_mates_do_not_matter(reading):
    data, fade = inputs(5), torch.linspace(0, 1, 5)[:, None, None, None]
    data = data[0] * fade, data[1] * (1 - fade), data[2]
    order = torch.tensor([3, 0, 4, 1, 2])

    def varied(seed):
        """A model whose gates choose differently for different samples; one choice for all would
        show nothing.
        """
        model, generator = MoEFusion(reading, **TINY).eval(), torch.Generator().manual_seed(seed)
        for part in (*model.local_mixtures.values(), model.decoder):
            torch.nn.init.normal_(part.gate.w_gate, generator=generator)
        choices = [
            {tuple(row) for row in (gate > 0).tolist()} for gate in model(*data).gates.values()
        ]
        return model if min(map(len, choices)) > 1 else None

    with torch.no_grad():
        model = next(filter(None, map(varied, range(100))))
        whole = model(*data)
        permuted = model(*(x[order] for x in data))
        alone = [model(*(x[i : i + 1] for x in data)) for i in range(5)]
    assert torch.allclose(permuted.fused, whole.fused[order], atol=1e-6)
    assert torch.allclose(torch.cat([out.fused for out in alone]), whole.fused, atol=1e-6)
    for name in whole.gates:
        assert torch.allclose(permuted.gates[name], whole.gates[name][order], atol=1e-6)
        assert torch.allclose(
            torch.cat([out.gates[name] for out in alone]), whole.gates[name], atol=1e-6
        )


# ---- the network ---------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(
    height=st.integers(32, 71),
    width=st.integers(32, 71),
    reading=st.sampled_from(["paper", "official"]),
)
def test_any_size(height, width, reading):
    model = MoEFusion(reading, **TINY).eval()
    with torch.no_grad():
        out = model(*inputs(1, height, width))
    assert out.fused.shape == (1, 1, height, width) and out.fused.isfinite().all()
    assert out.attention.shape == (1, 1, height, width)


def test_parameters_per_part_at_the_papers_size():
    """Counts of the official head, and the paper's reading with the convolutions of its attention
    on top.
    """
    expected = {
        "visible encoder": 14_032,
        "infrared encoder": 14_032,
        "foreground experts": 9_312,
        "background experts": 9_312,
        "foreground gate": 4_915_200,
        "background gate": 4_915_200,
        "global experts": 461_828,
        "global gate": 6_144_000,
    }
    official, paper = MoEFusion("official"), MoEFusion("paper")
    counts = {
        name: parameters for name, (parameters, _) in count_parameters_and_flops(official).items()
    }
    assert counts == expected
    assert sum(counts.values()) == sum(p.numel() for p in official.parameters()) == 16_482_916
    extra = 2 * 16 * 9 + 16 + 16 * 2 * 9 + 2
    assert {name: n for name, (n, _) in count_parameters_and_flops(paper).items()} == expected | {
        "attention": extra
    }
    operations = {
        name: round(count / 1e9, 1)
        for name, (_, count) in count_parameters_and_flops(official).items()
    }
    assert operations["global experts"] == 141.7
    assert operations["foreground experts"] + operations["background experts"] == pytest.approx(
        5.7, abs=0.11
    )
    assert operations["visible encoder"] + operations["infrared encoder"] == pytest.approx(
        17.2, abs=0.05
    )


def test_gate_grids():
    assert (
        count_parameters_and_flops(MoEFusion(gate_grid=((15, 20), (15, 20))))["foreground gate"][0]
        == 2 * 38_400
    )
    full = MoEFusion(width=4, gate_grid="full", image_size=(32, 40), noise=False)
    # equation (1): D = H W C
    assert full.local_mixtures["foreground"].gate.w_gate.shape == (8 * 32 * 40, 4)
    assert full.decoder.gate.w_gate.shape == (40 * 32 * 40, 4)
    data = inputs(1)
    out = full.eval()(*data, details=True)
    x_f = torch.cat(
        [
            out.dense_features["visible"],
            out.dense_features["infrared"],
            *out.local_features.values(),
        ],
        1,
    )
    logits = x_f.flatten(1) @ full.decoder.gate.w_gate
    top = logits.topk(2)
    assert torch.allclose(
        out.gates["global"][0, top.indices[0]], top.values[0].softmax(0), atol=1e-5
    )


def test_attention_starts_as_the_maximum_and_trains_without_reaching_the_detectors():
    model = MoEFusion(start="random", **TINY).train()
    infrared, visible, _ = inputs()
    maps = torch.rand(2, 2, 32, 40, requires_grad=True)
    out = model(infrared, visible, maps, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(
        out.attention, maps.detach().amax(1, keepdim=True).clamp(1e-4, 1 - 1e-4), atol=1e-5
    )
    out.fused.square().mean().backward()
    assert maps.grad is None
    assert all(
        p.grad.abs().sum() > 0
        for layer in model.attention_fusion.convs.layers
        for p in layer.parameters()
    )


@pytest.mark.parametrize("reading", ["paper", "official"])
@pytest.mark.parametrize(
    "options", [{}, {"decoder": "single"}, {"local": "none"}, {"visible_channels": 3}]
)
def test_starts_near_the_average(reading, options):
    infrared, visible, attention = inputs(visible_channels=options.get("visible_channels", 1))
    with torch.no_grad():
        average, random = (
            MoEFusion(reading, start=start, **options, **TINY)
            .eval()(infrared, visible, attention)
            .fused
            for start in ("average", "random")
        )
    expected = (infrared + visible.mean(dim=1, keepdim=True)) / 2
    assert (average - expected).abs().max() < 0.1 < (random - expected).abs().max()
    assert torch.corrcoef(torch.stack([average.flatten(), expected.flatten()]))[0, 1] > 0.98


def test_a_few_steps_of_training_approach_the_target():
    """Equation (5) falls on one small batch, and the result is an image, not its negative."""
    from fusionlib.losses import fusion_loss

    infrared, visible, attention = inputs(2, 32, 32)
    model = MoEFusion(**TINY).train()
    optimiser, generator, totals = (
        torch.optim.Adam(model.parameters(), 3e-3),
        torch.Generator().manual_seed(0),
        [],
    )
    for _ in range(25):
        out = model(infrared, visible, attention, generator=generator)
        loss = fusion_loss(out.fused, infrared, visible, out.loads).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        totals.append(loss.item())
    assert sum(totals[-5:]) < 0.9 * sum(totals[:5])
    target = torch.maximum(infrared, visible)
    with torch.no_grad():
        fused = model.eval()(infrared, visible, attention).fused
    assert torch.corrcoef(torch.stack([fused.flatten(), target.flatten()]))[0, 1] > 0.5


def test_k_one_uses_one_modality_and_leaves_the_gate_to_the_load():
    model = MoEFusion(k=1, **TINY).train()
    out = model(*inputs(3), generator=torch.Generator().manual_seed(0))
    assert all(flags.all() for flags in out.single_modality().values())
    assert all(torch.equal(gate.amax(1), torch.ones(3)) for gate in out.gates.values())
    out.fused.mean().backward(retain_graph=True)
    assert model.decoder.gate.w_gate.grad.abs().max() < 1e-12
    out.loads["global"].var().backward()
    assert model.decoder.gate.w_gate.grad.abs().max() > 0


def test_k_equal_n_uses_all_and_is_balanced():
    from fusionlib.losses import load_loss

    out = MoEFusion(k=4, **TINY).train()(*inputs(3), generator=torch.Generator().manual_seed(0))
    assert all((gate > 0).all() for gate in out.gates.values())
    assert not any(flags.any() for flags in out.single_modality().values())
    assert load_loss(out.loads).item() == 0 and not load_loss(out.loads).requires_grad


def test_experts_read_their_modality():
    """The first half of the local experts sees the visible features, the second half the infrared
    ones.
    """
    model = MoEFusion(**TINY).eval()
    infrared, visible, attention = inputs(1)
    outputs = [
        model(i, v, attention, details=True).expert_outputs["foreground"]
        for i, v in ((infrared, visible), (infrared, 1 - visible), (1 - infrared, visible))
    ]
    assert torch.allclose(outputs[0][:, 2:], outputs[1][:, 2:], atol=1e-6)
    assert torch.allclose(outputs[0][:, :2], outputs[2][:, :2], atol=1e-6)
    assert not torch.allclose(outputs[0][:, :2], outputs[1][:, :2]) and outputs[0].shape == (
        1,
        4,
        4,
        32,
        40,
    )


ABLATIONS = {
    "w/o MoLE": ({"local": "none"}, {"global"}, 8),
    "Att-Local": ({"local": "attention"}, {"global"}, 10),
    "Att-Local, one": ({"local": "attention", "background": False}, {"global"}, 9),
    "w/o MoGE": ({"decoder": "single"}, {"foreground", "background"}, 10),
    "equation (2) alone": ({"background": False}, {"foreground", "global"}, 9),
    "E8K3": ({"experts": 8, "k": 3}, {"foreground", "background", "global"}, 10),
    "E2K2": ({"experts": 2, "k": 2}, {"foreground", "background", "global"}, 10),
    "three channels": ({"visible_channels": 3}, {"foreground", "background", "global"}, 10),
}


@pytest.mark.parametrize("name", ABLATIONS)
@pytest.mark.parametrize("reading", ["paper", "official"])
def test_ablations(name, reading):
    options, gates, channels = ABLATIONS[name]
    model = MoEFusion(reading, **TINY, **options).train()
    data = inputs(2, visible_channels=options.get("visible_channels", 1))
    out = model(*data, generator=torch.Generator().manual_seed(0))
    assert out.fused.shape == data[0].shape and set(out.gates) == gates
    expert = model.decoder if options.get("decoder") == "single" else model.decoder.experts[0]
    assert isinstance(expert, Expert) and expert.layers[0].in_channels == channels * TINY["width"]
    assert sum(n for n, _ in count_parameters_and_flops(model).values()) == sum(
        p.numel() for p in model.parameters()
    )
    out.fused.mean().backward()
    assert model.infrared_encoder.layers[0].weight.grad.abs().sum() > 0
    if name == "w/o MoLE":
        assert out.attention is None and torch.isfinite(model.eval()(*data[:2]).fused).all()
    elif "Att-Local" in name:
        assert out.local_features["foreground"].shape == (2, TINY["width"], 32, 40)


def test_half_precision():
    """bfloat16 keeps 8 bits: stated bound 0.02 on images of range 1, where both choose the same
    experts.
    """
    model = MoEFusion(width=8, gate_grid=((15, 20), (15, 20))).eval()
    data = inputs(2, 32, 40)
    with torch.no_grad():
        exact = model(*data)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(*data)
        cast = model.bfloat16()(*(x.bfloat16() for x in data))
    for half in (rough, cast):
        for name in exact.gates:
            assert torch.equal(half.gates[name] > 0, exact.gates[name] > 0)
        assert (half.fused.float() - exact.fused).abs().max() < 0.02
    assert exact.fused.std() > 0.001  # the bound would be empty for a constant image


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reading": "mine"}, "reading: expected one of"),
        ({"experts": 3}, "experts: expected an even number"),
        ({"k": 5}, "k: expected 1 to 4"),
        ({"k": 1.5}, "k: expected a whole number, got 1.5"),
        ({"experts": "4"}, "experts: expected a whole number, got '4'"),
        ({"k": 0}, "k: expected 1 to 4"),
        ({"width": 5}, "width: expected an even number"),
        ({"local": "mixture"}, "local: expected one of"),
        ({"decoder": None}, "decoder: expected one of"),
        ({"visible_channels": 2}, "visible_channels: expected one of"),
        ({"start": "zero"}, "start: expected one of"),
        ({"gate_grid": "full"}, "image_size: expected"),
        ({"gate_grid": (15, 20)}, "gate_grid: expected"),
        ({"gate_grid": ((0, 1), (1, 1))}, "gate_grid: expected"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        MoEFusion(**options)


def test_bad_inputs():
    model = MoEFusion(**TINY).eval()
    infrared, visible, attention = inputs()
    with pytest.raises(
        TypeError, match="infrared: expected a float tensor .*got a tensor of torch.uint8"
    ):
        model(infrared.byte(), visible, attention)
    with pytest.raises(TypeError, match="attention: expected a float tensor .*got NoneType"):
        model(infrared, visible)
    with pytest.raises(ValueError, match="visible: expected .*got shape .2, 3, 32, 40."):
        model(infrared, visible.expand(-1, 3, -1, -1), attention)
    with pytest.raises(ValueError, match="expected one size, got 32x40 and 32x39"):
        model(infrared, visible[..., 1:], attention)
    with pytest.raises(ValueError, match="attention: expected .*2, 2, height"):
        model(infrared, visible, attention[:1])


@pytest.mark.parametrize("way", ["plain", "gathered"])
def test_autocast_keeps_loss_and_gates(way, monkeypatch):
    """In bfloat16 the loss is within 1 % and the gates choose the same experts."""
    from fusionlib.losses import fusion_loss

    monkeypatch.setattr(mixture_module, "prefers_gathered", lambda x: way == "gathered")
    model, data = MoEFusion(width=8, gate_grid=((15, 20), (15, 20))).train(), inputs(2, 48, 64)
    losses, gates = [], []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = model(*data, generator=torch.Generator().manual_seed(0))
        losses.append(fusion_loss(out.fused.float(), *data[:2], out.loads).total)
        gates.append(out.gates)
        losses[-1].backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.01)
    assert all(torch.equal(gates[0][name] > 0, gates[1][name] > 0) for name in gates[0])


MEASURE = """
import re, sys, torch
from pathlib import Path
from fusionlib.networks import MoEFusion, inference
torch.set_num_threads(1)
model = MoEFusion(width=8, gate_grid=((15, 20), (15, 20))).eval()
data = torch.rand(1, 1, 1200, 1600), torch.rand(1, 1, 1200, 1600), torch.rand(1, 2, 300, 400)
inference.fuse(model, *data, memory=float(sys.argv[1]))
# Not ru_maxrss, which a process inherits from the one that started it.
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e9)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak is read from Linux' /proc"
)
@pytest.mark.parametrize("memory", [0.9, 3.0])
def test_quick_stays_within_its_memory(memory):
    """Feature maps of the whole image, 0.6 GB here, are kept only where they find room."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(memory)], check=True, capture_output=True, text=True
    )
    peak = float(done.stdout)
    assert peak < memory
    assert (peak > 1.1) == (memory == 3.0), "the maps are kept with 3 GB and not with 0.9"


@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler for what Inductor writes")
@pytest.mark.parametrize("reading", ["paper", "official"])
def test_compiles_to_machine_code(reading):
    model, data = MoEFusion(reading, **TINY).eval(), inputs()
    torch._dynamo.reset()
    with torch.no_grad():
        assert (
            torch.compile(model, fullgraph=True)(*data).fused - model(*data).fused
        ).abs().max() < 1e-6
