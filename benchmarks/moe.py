"""Time and memory of the MoE-Fusion network beside the bare convolutions it needs.

    python benchmarks/moe.py [--rounds 3] [--beside CHECKOUT] [--large 960x1280 4000x6000]

Every measurement is a process of its own with one thread; columns take turns, the best round
counts:

floor      the bare 3x3 convolutions of the network's shapes on ready inputs, in the faster layout
plain      ``MoEFusion.forward``: the equations as printed
gathered   the same with gathered kernels, as on a GPU and when compiling
quick      ``inference.fuse``, the way without gradients on a processor
beside     ``MoEFusion.forward`` of another revision, given by its checkout

forward is one pair of 640x480; step is a training step on four pairs of 160x128: forward, loss,
backward, Adam. Memory is ``ru_maxrss`` of the process, all of it. ``--large`` measures quick on
larger pairs within ``--memory`` GB. Where there is a GPU, images per second follow. Exit code 1:
quick takes more than 1.35 times, or step more than 1.4 times, of the other revision.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionlib.losses import fusion_loss
from fusionlib.networks import MoEFusion

SIZE, STEP_SIZE, STEP_BATCH = (480, 640), (128, 160), 4
QUICK_TARGET, STEP_TARGET = 1.35, 1.4  # of the other revision


def batch_of(batch: int, size: tuple[int, int], device: str = "cpu") -> list[Tensor]:
    """Return an infrared, a visible and an attention batch."""
    generator, (height, width) = torch.Generator().manual_seed(batch), size
    shapes = (
        (batch, 1, height, width),
        (batch, 1, height, width),
        (batch, 2, -(-height // 4), -(-width // 4)),
    )
    return [torch.rand(shape, generator=generator).to(device) for shape in shapes]


def shapes(model: MoEFusion, batch: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (batch, inputs, outputs, groups) of every 3x3 convolution, K chosen experts grouped."""
    for chain in (model.visible_encoder, model.infrared_encoder, model.attention_fusion.convs):
        yield from ((batch, layer.in_channels, layer.out_channels, 1) for layer in chain.layers)
    for mixture in (*model.local_mixtures.values(), model.decoder):
        k, layers = mixture.gate.k, mixture.experts[0].layers
        inputs = k if mixture is not model.decoder else 1
        for _ in range(batch):
            first = layers[0]
            yield 1, inputs * first.in_channels, k * first.out_channels, inputs
            yield from ((1, k * x.in_channels, k * x.out_channels, k) for x in layers[1:-1])
            yield 1, k * layers[-1].in_channels, layers[-1].out_channels, 1


def convolutions(
    model: MoEFusion, batch: int, size: tuple[int, int], layout: torch.memory_format, backward: bool
) -> float:
    """Return the processor seconds of the bare convolutions."""
    seconds = 0.0
    for count, inputs, outputs, groups in shapes(model, batch):
        x = torch.rand(count, inputs, *size).contiguous(memory_format=layout)
        x.requires_grad_(backward and inputs > 1)  # the images need no gradient
        weight = torch.rand(outputs, inputs // groups, 3, 3, requires_grad=backward)
        start = time.process_time()
        y = F.conv2d(x, weight, padding=1, groups=groups)
        if backward:
            y.backward(torch.ones_like(y))
        seconds += time.process_time() - start
    return seconds


def step(model: MoEFusion) -> Callable[[], None]:
    """Return a call that takes one step of training."""
    optimizer = torch.optim.Adam(model.train().parameters(), 1e-4)
    infrared, visible, maps = batch_of(STEP_BATCH, STEP_SIZE)

    def run() -> None:
        out = model(infrared, visible, maps, generator=torch.Generator().manual_seed(0))
        loss = fusion_loss(out.fused, infrared, visible, out.loads, out.importances)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()

    return run


def measure(
    column: str, task: str, size: tuple[int, int], memory: float | None
) -> dict[str, float]:
    """Return the best processor seconds of a column's task in this process, and its peak in GB."""
    torch.set_num_threads(1)
    grids = ((15, 20), (15, 20)) if task == "step" else ((120, 160), (60, 80))
    model = MoEFusion(gate_grid=grids).eval()
    context = contextlib.nullcontext()
    if column == "gathered":
        context = mock.patch("fusionlib.networks.mixture.prefers_gathered", lambda x: True)
    repeats, seconds = 1 if task == "large" else 4, []
    with context, torch.set_grad_enabled(task == "step"):
        if column == "floor":
            batch, backward = (STEP_BATCH, True) if task == "step" else (1, False)
            layouts = torch.channels_last, torch.contiguous_format
            seconds = [convolutions(model, batch, size, layout, backward) for layout in layouts * 2]
        elif task == "step":
            call = step(model)
        elif column == "quick":
            from fusionlib.networks import inference

            data = batch_of(1, size)
            call = lambda: inference.fuse(model, *data, memory=memory)  # noqa: E731
        else:
            data = batch_of(1, size)
            call = lambda: model(*data)  # noqa: E731
        for _ in range(0 if column == "floor" else repeats):
            start = time.process_time()
            call()
            seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"seconds": min(seconds), "peak": peak}


def in_process(column: str, task: str, size: tuple[int, int], options: argparse.Namespace) -> dict:
    """Run :func:`measure` in a process of its own, of another revision for "beside"."""
    command = [
        sys.executable,
        __file__,
        "--measure",
        column,
        task,
        f"{size[0]}x{size[1]}",
        "--memory",
        str(options.memory),
    ]
    paths = [options.beside] if column == "beside" else []
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])
    }
    completed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(completed.stdout)


def on_gpu() -> None:
    """Print images per second and the share of what the bare convolutions reach."""

    def rate(call: Callable[[], object], repeats: int = 10) -> float:
        for _ in range(3):
            call()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        torch.cuda.synchronize()
        return repeats / (time.perf_counter() - start)

    model = MoEFusion().eval().cuda().to(memory_format=torch.channels_last)
    for batch in (1, 4):
        data, compiled = batch_of(batch, SIZE, "cuda"), torch.compile(model, fullgraph=True)
        for kind in (torch.float32, torch.bfloat16):
            stack = []
            for count, inputs, outputs, groups in shapes(model, batch):
                x = torch.rand(count, inputs, *SIZE, device="cuda", dtype=kind)
                weight = torch.rand(outputs, inputs // groups, 3, 3, device="cuda", dtype=kind)
                stack.append((x.contiguous(memory_format=torch.channels_last), weight, groups))
            ceiling = batch * rate(
                lambda stack=stack: [F.conv2d(x, w, padding=1, groups=g) for x, w, g in stack]
            )
            low = torch.autocast("cuda", torch.bfloat16, enabled=kind is torch.bfloat16)
            with torch.no_grad(), low:
                for name, network in (("eager", model), ("compiled", compiled)):
                    speed = batch * rate(lambda network=network, data=data: network(*data))
                    print(
                        f"gpu, batch {batch}, {str(kind)[6:]}, {name}: {speed:.1f} images/s, "
                        f"{speed / ceiling:.0%} of the bare convolutions"
                    )


def main() -> int:
    parser = argparse.ArgumentParser(description="MoE-Fusion beside its bare convolutions")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", help="checkout of another revision")
    parser.add_argument("--large", nargs="*", default=["960x1280", "1920x2560"])
    parser.add_argument("--memory", type=float, default=2.5, help="GB, for --large")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.beside and not (Path(options.beside) / "fusionlib").is_dir():
        parser.error(f"--beside: expected a checkout with a folder fusionlib, got {options.beside}")
    if options.measure:
        column, task, size = options.measure
        memory = options.memory if task == "large" else None
        print(json.dumps(measure(column, task, tuple(map(int, size.split("x"))), memory)))
        return 0
    missed = False
    columns = ["floor", "plain", "gathered", *(["beside"] if options.beside else [])]
    for task, size, extra in (("forward", SIZE, ["quick"]), ("step", STEP_SIZE, [])):
        best: dict[str, dict] = {}
        for _ in range(options.rounds):
            for column in columns + extra:
                measured = in_process(column, task, size, options)
                best[column] = min(
                    best.get(column, measured), measured, key=lambda record: record["seconds"]
                )
        print(f"\n{task}, {size[1]}x{size[0]}, processor seconds on one thread")
        for column, measured in best.items():
            ratios = (
                measured["seconds"] / best["floor"]["seconds"],
                measured["seconds"] / best.get("beside", measured)["seconds"],
            )
            print(
                f"  {column:9s}{measured['seconds']:8.2f}   {ratios[0]:5.2f} x floor"
                f"   {ratios[1]:5.2f} x beside   peak {measured['peak']:.2f} GB"
            )
            if options.beside and (column, task) in (("quick", "forward"), ("plain", "step")):
                missed |= ratios[1] > (QUICK_TARGET if task == "forward" else STEP_TARGET)
    print(f"\nquick on larger pairs, memory={options.memory}")
    for text in options.large:
        height, width = map(int, text.split("x"))
        measured = in_process("quick", "large", (height, width), options)
        print(
            f"  {width}x{height}: {measured['seconds']:7.1f} s,"
            f" {measured['seconds'] / height / width * 1e6:.1f} us a pixel, peak"
            f" {measured['peak']:.2f} GB"
        )
    if torch.cuda.is_available():
        on_gpu()
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
