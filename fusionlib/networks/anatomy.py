"""MoE-Fusion taken apart: what each stage of one forward pass read and gave, and twins that differ in one decision.

Nothing is written down twice here: shapes and gates are noted while the network runs, and its parts are those it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .experts import Mixture
from .moe_fusion import Fusion, MoEFusion


class Part(NamedTuple):
    """One stage of the network.

    Attributes
    ----------
    reads : tuple of str
        The parts whose output it reads.
    shapes : dict of symbol to shape
        What came in and went out, in the order of the computation; the last one is its output.
    weights : tuple of float
        Of a mixture: what its gate gave each expert for the first sample.
    sources : tuple of str
        Of a mixture: "visible", "infrared" or "both", what each expert reads.
    """

    reads: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    weights: tuple[float, ...] = ()
    sources: tuple[str, ...] = ()


class Walk(NamedTuple):
    """A forward pass with everything it left: its result with details, its parts by name, the input s of each gate."""

    fusion: Fusion
    parts: dict[str, Part]
    gate_inputs: dict[str, Tensor]


def stages(model: MoEFusion) -> dict[str, nn.Module]:
    """Return the modules that are stages of their own, by name, in the order in which they run."""
    return {"visible encoder": model.encode_visible, "infrared encoder": model.encode_infrared,
            **({} if model.attention is None else {"attention": model.attention}), **model.local_parts,
            "global": model.decode}


def walk(model: MoEFusion, infrared: Tensor, visible: Tensor, attention: Tensor | None = None) -> Walk:
    """Run the network once in evaluation, as it is, and note what each stage reads and gives.

    Parameters
    ----------
    infrared, visible, attention : tensors
        As :meth:`MoEFusion.forward` takes them.
    """
    seen: dict[str, tuple[Any, Any]] = {}
    hooks = [module.register_forward_hook(lambda _, given, made, name=name: seen.update({name: (given, made)}))
             for name, module in stages(model).items()]
    was_training = model.training
    try:
        with torch.no_grad():
            fusion = model.eval()(infrared, visible, attention, details=True)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    parts = {"infrared image": Part((), {"I_I": tuple(infrared.shape)}),
             "visible image": Part((), {"I_V": tuple(visible.shape)})}
    for name in ("visible", "infrared"):
        pieces = seen[f"{name} encoder"][1]
        shapes = {"x_enc": tuple(pieces[-1].shape), "x_dense": _joined(pieces)}
        parts[f"{name} encoder"] = Part((f"{name} image",), shapes)
    encoders = ("visible encoder", "infrared encoder")
    if fusion.attention is not None:
        parts["attention maps"] = Part((), {"Att_I, Att_V": tuple(attention.shape)})
        parts["attention"] = Part(("attention maps",), {"Att": tuple(fusion.attention.shape)})
    gate_inputs = {}
    for name in (*model.local_parts, "global"):
        world = name == "global"
        entry, result, s = ("x_f", "I_F", "s_f") if world else ("x_local", "y_local", "s_local")
        reads = (*encoders, *model.local_parts) if world else (*encoders, "attention")
        module, (given, made) = stages(model)[name], seen[name]
        if isinstance(module, Mixture):
            gate_inputs[name] = given[0]
            outputs = fusion.expert_outputs[name]
            shapes = {entry: _joined([x for pieces in given[1] for x in pieces]), s: tuple(given[0].shape),
                      "E_i": (len(outputs), *outputs.shape[2:]), result: tuple(made[0].shape)}
            sources = tuple("both" if world else ("visible", "infrared")[read] for read in module.reads)
            parts[name] = Part(reads, shapes, tuple(fusion.gates[name][0].tolist()), sources)
        else:
            parts[name] = Part(reads, {entry: tuple(given[0].shape), result: tuple(made.shape)})
    return Walk(fusion, parts, gate_inputs)


def _joined(pieces: Iterable[Tensor]) -> tuple[int, ...]:
    """Return the shape of feature maps standing behind each other as channels."""
    shapes = [tuple(piece.shape) for piece in pieces]
    return (shapes[0][0], sum(shape[1] for shape in shapes), *shapes[0][2:])


def twin(model: MoEFusion, combine: str | None = None, **options) -> MoEFusion:
    """Return a network with other options that has the weights of ``model`` wherever they mean the same.

    Fewer channels or experts take the first ones. The matrix of a gate on another grid stays as initialised: its rows
    belong to other pixels.

    Parameters
    ----------
    combine : "sum" or "log-sum-exp", optional
        How mixtures combine their experts; by default as the reading says.
    **options
        For :class:`MoEFusion`.
    """
    other, given = MoEFusion(**options), model.state_dict()
    state = other.state_dict()
    for name, own in state.items():
        mine = given.get(name)
        grid = 1 if name.startswith("decode") else 0
        if mine is None or name.endswith(("w_gate", "w_noise")) and model.grids[grid] != other.grids[grid]:
            continue
        overlap = tuple(slice(min(a, b)) for a, b in zip(own.shape, mine.shape, strict=True))
        own[overlap] = mine[overlap]
    other.load_state_dict(state)
    for module in other.modules():
        if combine is not None and isinstance(module, Mixture):
            module.combine = combine
    return other.train(model.training)


def reaches(term: Tensor, parameters: Iterable[Tensor]) -> bool:
    """Tell whether the gradient of a scalar reaches any of the parameters with a number other than zero."""
    if not term.requires_grad:
        return False
    gradients = torch.autograd.grad(term, list(parameters), retain_graph=True, allow_unused=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


def chosen(fusion: Fusion, sample: int = 0) -> str:
    """Say which experts the gates selected for a sample, numbered from 1 as in the paper."""
    return "; ".join(f"{name} " + " ".join(str(number + 1) for number in gate[sample].nonzero().flatten().tolist())
                     for name, gate in fusion.gates.items())
