"""Inspection of MoE-Fusion: inputs and outputs of each stage, costs, copies with other options.

Nothing is written down twice here: shapes and gates are noted while the network runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
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
    modules = {"visible encoder": model.visible_encoder, "infrared encoder": model.infrared_encoder}
    if model.attention_fusion is not None:
        modules["attention"] = model.attention_fusion
    return {**modules, **dict(model.local_mixtures.items()), "global": model.decoder}


def trace(
    model: MoEFusion, infrared: Tensor, visible: Tensor, attention: Tensor | None = None
) -> ForwardTrace:
    """Run the network once in evaluation and note the inputs and the output of each stage.

    Parameters
    ----------
    infrared, visible, attention : tensors
        As :meth:`MoEFusion.forward` takes them.
    """
    output, called = _run_with_hooks(model, infrared, visible, attention)
    traces = {
        "infrared image": StageTrace((), {"I_I": tuple(infrared.shape)}),
        "visible image": StageTrace((), {"I_V": tuple(visible.shape)}),
    }
    for name in ("visible", "infrared"):
        x_dense = called[f"{name} encoder"][1]
        x_enc = x_dense[:, -model.config.width :]
        shapes = {"x_enc": tuple(x_enc.shape), "x_dense": tuple(x_dense.shape)}
        traces[f"{name} encoder"] = StageTrace((f"{name} image",), shapes)
    encoders = ("visible encoder", "infrared encoder")
    if output.attention is not None and attention is not None:
        traces["attention maps"] = StageTrace((), {"Att_I, Att_V": tuple(attention.shape)})
        shapes = {"Att": tuple(output.attention.shape)}
        traces["attention"] = StageTrace(("attention maps",), shapes)
    gate_inputs = {}
    for name in (*model.config.regions, "global"):
        is_global = name == "global"
        x, y, s = ("x_f", "I_F", "s_f") if is_global else ("x_local", "y_local", "s_local")
        reads = (*encoders, *(model.config.regions if is_global else ("attention",)))
        module, (inputs, result) = stages(model)[name], called[name]
        if not isinstance(module, MixtureOfExperts):
            traces[name] = StageTrace(reads, {x: tuple(inputs[0].shape), y: tuple(result.shape)})
            continue
        gate_inputs[name], maps = inputs[:2]
        experts = output.expert_outputs[name]
        shapes = {
            x: tuple(torch.cat(tuple(maps), dim=1).shape),
            s: tuple(gate_inputs[name].shape),
            "E_i": (len(experts), *experts.shape[2:]),
            y: tuple(result[0].shape),
        }
        names = ("both",) if is_global else ("visible", "infrared")
        sources = tuple(names[i] for i in module.input_of_expert)
        traces[name] = StageTrace(reads, shapes, tuple(output.gates[name][0].tolist()), sources)
    return ForwardTrace(output, traces, gate_inputs)


def _run_with_hooks(
    model: MoEFusion, infrared: Tensor, visible: Tensor, attention: Tensor | None
) -> tuple[MoEFusionOutput, dict[str, tuple[Any, Any]]]:
    """Return the output of a network in evaluation, and inputs and output of each stage."""
    called = {}

    def note(name: str, module: nn.Module, inputs: Any, result: Any) -> None:
        called[name] = inputs, result

    hooks = [
        module.register_forward_hook(partial(note, name)) for name, module in stages(model).items()
    ]
    was_training = model.training
    try:
        with torch.no_grad():
            return model.eval()(infrared, visible, attention, details=True), called
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()


# radon C: a part is a mixture, a gate, a projection or a decoder
def count_parameters_and_flops(
    model: MoEFusion, height: int = 480, width: int = 640
) -> dict[str, tuple[int, int]]:
    """Return ``{part: (parameters, operations)}`` of a network.

    Operations are those of one image in evaluation, an addition or a multiplication each, K of N
    experts counted; biases, ReLU and resizing left out.

    Parameters
    ----------
    height, width : int
        Of the image, in pixels.
    """
    parts: dict[str, nn.Module] = {}
    shares = {}
    for name, module in stages(model).items():
        if isinstance(module, MixtureOfExperts):
            parts[f"{name} experts"] = nn.ModuleList(module.experts)
            parts[f"{name} gate"] = module.gate
            shares[f"{name} experts"] = module.gate.k / len(module.experts)
        elif name in model.local_mixtures:
            parts[f"{name} projection"] = module
        else:
            parts["decoder" if name == "global" else name] = module
    counts = {}
    for name, module in parts.items():
        convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
        operations = sum(layer.weight.numel() for layer in convolutions) * height * width
        if isinstance(module, NoisyTopKGate):
            operations = module.w_gate.numel()
        parameters = sum(p.numel() for p in module.parameters())
        counts[name] = parameters, round(2 * shares.get(name, 1) * operations)
    return counts


def copy_with_options(model: MoEFusion, combine: str | None = None, **options) -> MoEFusion:
    """Return a network with other options and the weights of ``model`` as far as they fit.

    Fewer channels or experts take the first ones. The matrix of a gate on another grid stays as
    initialised: its rows belong to other pixels.

    Parameters
    ----------
    combine : "sum" or "log-sum-exp", optional
        How mixtures combine their experts; by default as the reading says.
    **options
        For :class:`MoEFusion`.
    """
    copy, weights = MoEFusion(**options), model.state_dict()
    old, new = model.config, copy.config
    state = copy.state_dict()
    for name, value in state.items():
        grid = "global_grid" if name.startswith("decoder") else "local_grid"
        regridded = getattr(old, grid) != getattr(new, grid)
        if name not in weights or (regridded and name.endswith(("w_gate", "w_noise"))):
            continue
        overlap = tuple(map(slice, map(min, value.shape, weights[name].shape)))
        value[overlap] = weights[name][overlap]
    copy.load_state_dict(state)
    for module in copy.modules():
        if combine is not None and isinstance(module, MixtureOfExperts):
            module.combine = combine
    return copy.train(model.training)


def reaches(term: Tensor, parameters: Iterable[Tensor]) -> bool:
    """Return whether the gradient of a scalar is not zero for any of the parameters."""
    if not term.requires_grad:
        return False
    gradients = torch.autograd.grad(term, list(parameters), retain_graph=True, allow_unused=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


def chosen(output: MoEFusionOutput, sample: int = 0) -> str:
    """Describe the experts that the gates selected for an image, numbered from 1 as in the paper.

    Parameters
    ----------
    sample : int
        Index of the image in the batch.
    """
    selections = []
    for name, gate in output.gates.items():
        numbers = (gate[sample].nonzero().flatten() + 1).tolist()
        selections.append(f"{name} {' '.join(map(str, numbers))}")
    return "; ".join(selections)
