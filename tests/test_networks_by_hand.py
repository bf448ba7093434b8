"""Networks against written-out numbers: the start of MoE-Fusion, its gate, PIAFusion's colour."""

import math

import numpy as np
import pytest
import torch

from fusionlib import images
from fusionlib.networks import MoEFusion
from fusionlib.networks.compared.piafusion import Illumination, PIAFusion
from fusionlib.networks.encoder import AttentionFusion
from fusionlib.networks.mixture import MixtureOfExperts, NoisyTopKGate, safe_log


@pytest.fixture(scope="module")
def network():
    return MoEFusion(width=4, gate_grid=((12, 16), (6, 8)), seed=2)


def gates(network):
    return [m for m in network.modules() if isinstance(m, NoisyTopKGate)]


def test_gates_start_with_variance_one_over_d(network):
    for gate in gates(network):
        count = gate.w_gate.numel()
        scaled = gate.w_gate.detach() * math.sqrt(len(gate.w_gate))
        assert scaled.std().item() == pytest.approx(1, abs=4 / math.sqrt(2 * count))
        assert abs(scaled.mean().item()) < 4 / math.sqrt(count)
        assert not gate.w_noise.any()


def test_convolutions_start_as_pytorchs(network):
    layer = network.infrared_encoder.layers[2]
    bound = 1 / math.sqrt(layer.weight[0].numel())
    weights = layer.weight[1:].abs()
    assert weights.max() <= bound and weights.max() > 0.97 * bound
    assert layer.bias[1:].abs().max() <= bound
    mean = layer.weight[1:].mean().item()
    assert abs(mean) < 4 * bound / math.sqrt(3 * layer.weight[1:].numel())


def test_the_last_layer_starts_at_a_tenth_and_passes_the_average_on(network):
    decoders = [m for m in network.modules() if isinstance(m, MixtureOfExperts)]
    decoder = next(m for m in decoders if m.experts[0].layers[-1].out_channels == 1)
    for expert in decoder.experts:
        last = expert.layers[-1]
        bound = 1 / math.sqrt(last.weight[0].numel())
        others = last.weight[0, 1:].abs()
        assert 0.09 * bound < others.max() <= 0.1 * bound
        center = torch.zeros(3, 3)
        center[1, 1] = 1
        assert torch.equal(last.weight[0, 0], center) and last.bias[0] == 0
        first = expert.layers[0]
        passed = torch.zeros_like(first.weight[0])
        passed[[0, 16], 1, 1] = 0.5
        assert torch.equal(first.weight[0], passed) and first.bias[0] == 0
        assert first.weight[1:].any()
    for encoder in (network.infrared_encoder, network.visible_encoder):
        first = encoder.layers[0]
        assert torch.equal(first.weight[0, 0], center) and first.bias[0] == 0


def test_att_starts_as_the_larger_map():
    network = MoEFusion(width=2, gate_grid=((2, 2), (2, 2)))
    attention = next(m for m in network.modules() if isinstance(m, AttentionFusion))
    first, last = attention.convs.layers
    assert first.out_channels == 16 and not first.weight[:4].ne(0).sum() - 4
    assert first.weight[4:].any() and not first.bias[:4].any() and not last.bias.any()
    assert last.weight.ne(0).sum() == 4
    maps = torch.rand(1, 2, 5, 6) * 0.9 + 0.05
    torch.testing.assert_close(attention(maps), maps.amax(dim=1, keepdim=True))
    ends = torch.tensor([0.0, 1.0, 1e-5, 0.5]).reshape(1, 1, 2, 2).expand(1, 2, 2, 2)
    limits = torch.tensor([1e-4, 1 - 1e-4, 1e-4, 0.5]).reshape(1, 1, 2, 2)
    torch.testing.assert_close(attention(ends), limits, rtol=1e-4, atol=1e-7)


def test_the_gate_is_equations_1_and_3_and_shazeers_4_9_10():
    gate = NoisyTopKGate(6, 4, 2).double().train()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        gate.w_gate.normal_(generator=generator)
        gate.w_noise.normal_(generator=generator)
    s = torch.randn(5, 6, generator=generator)
    noise = torch.randn(5, 4, generator=torch.Generator().manual_seed(9)).numpy()
    out = gate(s, torch.Generator().manual_seed(9))
    s, w_gate, w_noise = (
        x.detach().float().numpy().astype(float) for x in (s, gate.w_gate, gate.w_noise)
    )
    load = np.zeros(4)
    for row in range(5):
        clean = s[row] @ w_gate
        spread = np.log1p(np.exp(s[row] @ w_noise)) + 0.01
        noisy = clean + noise[row] * spread
        order = np.argsort(-noisy)
        e = np.exp(noisy[order[:2]])
        expected = np.zeros(4)
        expected[order[:2]] = e / e.sum()
        np.testing.assert_allclose(out.weights[row].detach(), expected, atol=1e-5)
        assert out.chosen[row].tolist() == sorted(order[:2].tolist())
        for i in range(4):
            others = np.sort(np.delete(noisy, i))[::-1]
            z = (clean[i] - others[1]) / spread[i]
            load[i] += 0.5 * (1 + math.erf(z / math.sqrt(2)))
    np.testing.assert_allclose(out.load.detach(), load, rtol=1e-4)
    np.testing.assert_allclose(out.importance.detach(), out.weights.sum(0).detach(), rtol=1e-6)
    still = gate.eval()(torch.tensor(s, dtype=torch.float32))
    counts = (still.weights > 0).sum(dim=0)
    assert torch.equal(still.load.detach().long(), counts)


def test_the_logarithm_of_zero_is_that_of_the_official_code():
    x = torch.tensor([0.0, 1.0, math.e])
    expected = [math.log(2.0**-52), 0.0, 1.0]
    np.testing.assert_allclose(safe_log(x).numpy(), expected, rtol=1e-6, atol=1e-7)


# ---- PIAFusion -----------------------------------------------------------------------------------


COLOUR = np.array(
    [
        [[0, 0, 0], [255, 255, 255], [255, 0, 0]],
        [[0, 255, 0], [0, 0, 255], [18, 52, 86]],
        [[200, 100, 50], [90, 180, 7], [33, 33, 33]],
    ],
    dtype=np.uint8,
)
INFRARED = np.array([[0, 64, 255], [12, 200, 31], [90, 91, 92]], dtype=np.uint8)


def test_the_authors_colour_by_written_out_constants(monkeypatch):
    """Studio range with 0.564 for green, and back without rounding in between."""
    network, given = PIAFusion("tensorflow"), []

    def forward(infrared, luma):
        given.append((infrared.clone(), luma.clone()))
        return 0.5 * luma + 0.25

    monkeypatch.setattr(network, "forward", forward)
    fused = network.fuse(INFRARED, COLOUR)
    ((infrared, luma),) = given
    np.testing.assert_array_equal(infrared[0, 0].numpy(), INFRARED / np.float32(255))
    for i in range(3):
        for j in range(3):
            r, g, b = (float(v) for v in COLOUR[i, j])
            y = (0.257 * r + 0.564 * g + 0.098 * b + 16) / 255
            cb = -0.148 * r - 0.291 * g + 0.439 * b
            cr = 0.439 * r - 0.368 * g - 0.071 * b
            assert luma[0, 0, i, j].item() == pytest.approx(y, abs=1e-6)
            scaled = 1.164 * ((0.5 * y + 0.25) * 255 - 16)
            rgb = [scaled + 1.596 * cr, scaled - 0.392 * cb - 0.813 * cr, scaled + 2.017 * cb]
            expected = [min(max(math.floor(v + 0.5), 0), 255) for v in rgb]
            assert fused[i, j].tolist() == expected


def test_the_authors_gray_is_one_channel_of_equal_ones(monkeypatch):
    network = PIAFusion("tensorflow")
    monkeypatch.setattr(network, "forward", lambda infrared, luma: luma)
    gray = np.arange(0, 252, 28, dtype=np.uint8).reshape(3, 3)
    fused = network.fuse(INFRARED, gray)
    expected = [[math.floor(1.164 * 0.919 * float(v) + 0.5) for v in row] for row in gray]
    np.testing.assert_array_equal(fused, np.clip(expected, 0, 255))


def test_the_ports_levels_are_cut_not_rounded(monkeypatch):
    network = PIAFusion("torch")
    monkeypatch.setattr(network, "forward", lambda infrared, luma: luma * 0 + 0.9999 * luma)
    fused = network.fuse(INFRARED, INFRARED)
    expected = np.floor(INFRARED * 0.9999)
    np.testing.assert_array_equal(fused, expected)
    monkeypatch.setattr(network, "forward", lambda infrared, luma: luma * 4 - 1)
    fused = network.fuse(INFRARED, COLOUR)
    luma = np.clip(images.luma(COLOUR) / 255 * 4 - 1, 0, 1) * 255
    expected = images.with_chroma(np.floor(luma).astype(np.uint8), images.chroma(COLOUR))
    assert np.abs(fused.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("flavour", "slope", "sign"), [("tensorflow", 0.2, -1), ("torch", 0.01, 1)]
)
def test_flavours_differ_in_slope_and_exchange(flavour, slope, sign):
    network = PIAFusion(flavour)
    assert network.slope == slope and network.last.in_channels == 32
    infrared, visible = torch.rand(2, 1, 4, 3, 3).unbind(0)
    out_i, out_v = network.exchange(infrared, visible)
    mean = (infrared - visible).mean((2, 3), keepdim=True)
    gates = [1 / (1 + torch.exp(-m)) for m in (-mean, mean)]
    torch.testing.assert_close(out_i, infrared - sign * gates[0] * (infrared - visible))
    torch.testing.assert_close(out_v, visible + sign * gates[1] * (infrared - visible))
    assert PIAFusion().tensorflow and len(PIAFusion().stages) == 1
    with torch.no_grad():
        network.last.weight.zero_()
        network.last.bias.fill_(0.5)
        out = network(torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4))
    torch.testing.assert_close(out, torch.full((1, 1, 4, 4), math.tanh(0.5) / 2 + 0.5))


def test_the_illumination_classifiers_two_slopes():
    for flavour, slope, last in (("tensorflow", 0.1, torch.abs), ("torch", 0.01, None)):
        network = Illumination(flavour)
        assert network.slope == slope
        convs = [(c.in_channels, c.out_channels) for c in network.convs]
        assert convs == [(3, 16), (16, 32), (32, 64), (64, 128)]
        assert network.convs[0].stride == (2, 2) and network.convs[0].kernel_size == (4, 4)
        with torch.no_grad():
            network.linear2.weight.zero_()
            network.linear2.bias.copy_(torch.tensor([-0.5, 0.25]))
            scores = network(torch.rand(1, 3, 32, 32))[0].tolist()
        assert scores == ([0.5, 0.25] if last else [0.0, 0.25])
