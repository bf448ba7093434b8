"""The network taken apart: every arrow of its diagram is a dependence that exists, and no other
does.
"""

import pytest
import torch

from fusionlib.networks import MoEFusion
from fusionlib.networks.inspection import chosen, copy_with_options, reaches, stages, trace

TINY = {"width": 4, "gate_grid": ((6, 8), (4, 5)), "seed": 3}
VARIANTS = [
    {},
    {"reading": "official"},
    {"background": False},
    {"local": "none"},
    {"local": "attention"},
    {"decoder": "single"},
    {"experts": 6, "k": 6},
    {"k": 1},
]


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.rand(size, generator=generator)
        for size in ((1, 1, 32, 40), (1, 1, 32, 40), (1, 2, 8, 10))
    )


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_walk_is_the_forward_pass(options):
    model, images = MoEFusion(**TINY, **options), inputs()
    found = trace(model, *images)
    with torch.inference_mode():
        plain = model.eval()(*images)
    assert torch.equal(found.output.fused, plain.fused)
    assert set(found.stages) >= {"visible encoder", "infrared encoder", "global"} | set(
        model.local_mixtures
    )
    assert not any(module._forward_hooks for module in model.modules())
    for name, gate in plain.gates.items():
        part = found.stages[name]
        assert part.weights == tuple(gate[0].tolist()) and len(part.inputs) == len(part.weights)
        assert found.gate_inputs[name].shape[1] == stages(model)[name].gate.w_gate.shape[0]
    assert found.stages["global"].shapes["I_F"] == tuple(images[0].shape)
    assert list(found.stages["global"].shapes.values())[0][1] == (8 + len(model.local_mixtures)) * 4


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_arrows_are_the_dependences(options):
    """Disturb the output of a part: what changes is exactly what can be reached along the arrows.

    All experts are selected here; otherwise a mixture may leave one of the modalities it is offered
    aside.
    """
    model, images = MoEFusion(**TINY, **options | {"k": options.get("experts", 4)}).eval(), inputs()
    parts = trace(model, *images).stages
    below = {name: {name} for name in parts}
    for _ in parts:
        for name, part in parts.items():
            for source in part.reads:
                below[source] |= below[name]

    def outputs(disturbed=None):
        given = {
            name: x
            for name, x in zip(
                ("infrared image", "visible image", "attention maps"), images, strict=True
            )
        }
        if disturbed in given:
            given[disturbed] = given[disturbed].flip(-1)
        made = {}

        def note(name):
            def hook(_, __, out):
                if name == disturbed:
                    out = _scaled(out)
                made[name] = out
                return out

            return hook

        hooks = [module.register_forward_hook(note(name)) for name, module in stages(model).items()]
        with torch.no_grad():
            fusion = model(*given.values())
        for hook in hooks:
            hook.remove()
        if "attention maps" in parts:
            made["attention"] = fusion.attention
        return {**{name: given[name] for name in given if name in parts}, **made}

    plain = outputs()
    for name in plain:
        if name == "attention" and model.attention_fusion is None:
            continue  # no module to disturb: the official code takes a maximum
        changed = {
            other for other, value in outputs(name).items() if not _same(value, plain[other])
        }
        assert changed == below[name], name


def _scaled(out):
    if isinstance(out, list):
        return [x * 1.5 for x in out]
    return (out[0] * 1.5, out[1]) if isinstance(out, tuple) else out * 0.5


def _same(a, b):
    if isinstance(a, list | tuple):
        return all(
            torch.equal(x, y) for x, y in zip(a, b, strict=True) if isinstance(x, torch.Tensor)
        )
    return torch.equal(a, b)


def test_twin_of_equal_options_is_equal():
    model, images = MoEFusion(**TINY).eval(), inputs()
    other = copy_with_options(model, **TINY | {"seed": 99})
    assert torch.equal(model(*images).fused, other(*images).fused) and not other.training
    assert not torch.equal(
        model(*images).fused, copy_with_options(model, combine="log-sum-exp", **TINY)(*images).fused
    )


def test_twin_without_background_is_the_model_with_its_background_weights_at_zero():
    model, images = MoEFusion(**TINY).eval(), inputs()
    other = copy_with_options(model, **TINY, background=False)
    with torch.no_grad():
        for expert in model.decoder.experts:
            expert.layers[0].weight[:, -4:] = 0
        model.decoder.gate.w_gate[-4 * 20 :] = 0
    assert torch.allclose(model(*images).fused, other(*images).fused, atol=1e-6)


def test_twin_on_another_grid_has_its_own_gates_and_the_same_experts():
    model = MoEFusion(**TINY)
    options = TINY | {"gate_grid": ((12, 16), (4, 5))}
    fresh, other = MoEFusion(**options), copy_with_options(model, **options)
    local_gate, global_gate = (
        f"{name}.gate.w_gate" for name in ("local_mixtures.foreground", "decoder")
    )
    assert torch.equal(other.state_dict()[local_gate], fresh.state_dict()[local_gate])
    assert torch.equal(other.state_dict()[global_gate], model.state_dict()[global_gate])
    given = model.state_dict()
    assert all(
        torch.equal(value, given[name])
        for name, value in other.state_dict().items()
        if "gate" not in name
    )


@pytest.mark.parametrize(
    ("options", "image", "load"),
    [
        ({}, True, True),
        ({"k": 1}, False, True),
        ({"k": 4}, True, False),
        ({"noise": False}, True, False),
    ],
    ids=str,
)
def test_what_reaches_the_gate(options, image, load):
    """The softmax of one is constant; a load is a count without noise, and everybody's with K =
    N.
    """
    model, images = MoEFusion(**TINY, **options).train(), inputs()
    out = model(*images, generator=torch.Generator().manual_seed(0))
    gates = [p for name, p in model.named_parameters() if name.endswith("w_gate")]
    assert reaches(out.fused.square().mean(), gates) is image
    assert reaches(out.loads["foreground"].var() + out.loads["global"].var(), gates) is load


def test_chosen_counts_from_one():
    out = trace(MoEFusion(**TINY, k=4), *inputs()).output
    assert chosen(out) == "foreground 1 2 3 4; background 1 2 3 4; global 1 2 3 4"
