"""MoE-Fusion taken apart: what each stage of a forward pass read and gave, what it costs, and
copies that differ in one decision.

Nothing is written down twice here: shapes and gates are noted while the network runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .mixture import MixtureOfExperts, NoisyTopKGate
from .moe_fusion import MoEFusion, MoEFusionOutput


class StageTrace(NamedTuple):
    """One stage of the network.

    Attributes
    ----------
    reads : tuple of str
        The stages whose output it reads.
    shapes : dict of symbol to shape
        What came in and went out, in the order of the computation; the last one is its output.
    weights : tuple of float
        Of a mixture: what its gate gave each expert for the first image.
    inputs : tuple of str
        Of a mixture: "visible", "infrared" or "both", what each expert reads.
    """

    reads: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    weights: tuple[float, ...] = ()
    inputs: tuple[str, ...] = ()


class ForwardTrace(NamedTuple):
    """A forward pass: its output with details, its stages by name, the input s of each gate."""

    output: MoEFusionOutput
    stages: dict[str, StageTrace]
    gate_inputs: dict[str, Tensor]


def stages(model: MoEFusion) -> dict[str, nn.Module]:
    """Return the modules that are stages of their own, by name, in the order in which they run."""
    found = {"visible encoder": model.visible_encoder, "infrared encoder": model.infrared_encoder}
    if model.attention_fusion is not None:
        found["attention"] = model.attention_fusion
    return {**found, **model.local_mixtures, "global": model.decoder}


def trace(
    model: MoEFusion, infrared: Tensor, visible: Tensor, attention: Tensor | None = None
) -> ForwardTrace:
    """Run the network once in evaluation, as it is, and note what each stage reads and gives.

    Parameters
    ----------
    infrared, visible, attention : tensors
        As :meth:`MoEFusion.forward` takes them.
    """
    called: dict[str, tuple[Any, Any]] = {}

    def note(name: str):
        def hook(module: nn.Module, given: Any, made: Any) -> None:
            called[name] = given, made

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in stages(model).items()]
    was_training = model.training
    try:
        with torch.no_grad():
            output = model.eval()(infrared, visible, attention, details=True)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    found = {
        "infrared image": StageTrace((), {"I_I": tuple(infrared.shape)}),
        "visible image": StageTrace((), {"I_V": tuple(visible.shape)}),
    }
    for name in ("visible", "infrared"):
        x_dense = called[f"{name} encoder"][1]
        x_enc = x_dense[:, -model.config.width :]
        shapes = {"x_enc": tuple(x_enc.shape), "x_dense": tuple(x_dense.shape)}
        found[f"{name} encoder"] = StageTrace((f"{name} image",), shapes)
    encoders = ("visible encoder", "infrared encoder")
    if output.attention is not None:
        found["attention maps"] = StageTrace((), {"Att_I, Att_V": tuple(attention.shape)})
        shapes = {"Att": tuple(output.attention.shape)}
        found["attention"] = StageTrace(("attention maps",), shapes)
    gate_inputs = {}
    for name in (*model.config.regions, "global"):
        is_global = name == "global"
        x, y, s = ("x_f", "I_F", "s_f") if is_global else ("x_local", "y_local", "s_local")
        reads = (*encoders, *(model.config.regions if is_global else ("attention",)))
        module, (given, made) = stages(model)[name], called[name]
        if not isinstance(module, MixtureOfExperts):
            found[name] = StageTrace(reads, {x: tuple(given[0].shape), y: tuple(made.shape)})
            continue
        gate_inputs[name], maps = given[:2]
        experts = output.expert_outputs[name]
        shapes = {
            x: tuple(torch.cat(tuple(maps), dim=1).shape),
            s: tuple(gate_inputs[name].shape),
            "E_i": (len(experts), *experts.shape[2:]),
            y: tuple(made[0].shape),
        }
        names = ("both",) if is_global else ("visible", "infrared")
        inputs = tuple(names[i] for i in module.input_of_expert)
        found[name] = StageTrace(reads, shapes, tuple(output.gates[name][0].tolist()), inputs)
    return ForwardTrace(output, found, gate_inputs)


def count_parameters_and_flops(
    model: MoEFusion, height: int = 480, width: int = 640
) -> dict[str, tuple[int, int]]:
    """Return ``{part: (parameters, operations)}`` of a network.

    Operations are those of one image in evaluation, an addition or a multiplication each, K of N
    experts counted; biases, ReLU and resizing left out.
    """
    parts = {"visible encoder": model.visible_encoder, "infrared encoder": model.infrared_encoder}
    if model.attention_fusion is not None:
        parts["attention"] = model.attention_fusion
    shares: dict[str, float] = {}
    for name, module in (*model.local_mixtures.items(), ("global", model.decoder)):
        if isinstance(module, MixtureOfExperts):
            parts[f"{name} experts"], parts[f"{name} gate"] = module.experts, module.gate
            shares[f"{name} experts"] = module.gate.k / len(module.experts)
        else:
            parts["decoder" if name == "global" else f"{name} projection"] = module
    counts = {}
    for name, module in parts.items():
        convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
        operations = sum(layer.weight.numel() for layer in convolutions) * height * width
        if isinstance(module, NoisyTopKGate):
            operations = module.w_gate.numel()
        parameters = sum(p.numel() for p in module.parameters())
        counts[name] = parameters, round(2 * shares.get(name, 1) * operations)
    return counts


def copy_with_options(model: MoEFusion, combine: str | None = None, **options) -> MoEFusion:
    """Return a network with other options and the weights of ``model`` where they mean the same.

    Fewer channels or experts take the first ones. The matrix of a gate on another grid stays as
    initialised: its rows belong to other pixels.

    Parameters
    ----------
    combine : "sum" or "log-sum-exp", optional
        How mixtures combine their experts; by default as the reading says.
    **options
        For :class:`MoEFusion`.
    """
    other, given = MoEFusion(**options), model.state_dict()
    old, new = model.config, other.config
    state = other.state_dict()
    for name, value in state.items():
        is_global = name.startswith("decoder")
        grids = (old.local_grid, new.local_grid)
        if is_global:
            grids = (old.global_grid, new.global_grid)
        of_gate = name.endswith(("w_gate", "w_noise"))
        if name not in given or (of_gate and grids[0] != grids[1]):
            continue
        overlap = tuple(map(slice, map(min, value.shape, given[name].shape)))
        value[overlap] = given[name][overlap]
    other.load_state_dict(state)
    for module in other.modules():
        if combine is not None and isinstance(module, MixtureOfExperts):
            module.combine = combine
    return other.train(model.training)


def reaches(term: Tensor, parameters: Iterable[Tensor]) -> bool:
    """Tell whether the gradient of a scalar reaches any parameter with a number other than zero."""
    if not term.requires_grad:
        return False
    gradients = torch.autograd.grad(term, list(parameters), retain_graph=True, allow_unused=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


def chosen(output: MoEFusionOutput, sample: int = 0) -> str:
    """Say which experts the gates selected for an image, numbered from 1 as in the paper."""
    said = []
    for name, gate in output.gates.items():
        numbers = (gate[sample].nonzero().flatten() + 1).tolist()
        said.append(f"{name} {' '.join(map(str, numbers))}")
    return "; ".join(said)
