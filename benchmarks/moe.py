"""Time and memory of the MoE-Fusion network at 640x480, beside its floor and beside the data flow of the official code.

    python benchmarks/moe.py [--batch 1 4] [--rounds 3] [--forward-only]

Four columns, measured by turns in one run on one processor thread, in CPU seconds of the best round (one round with
backward):

floor      the bare 3x3 convolutions with the shapes of the network's, on ready inputs, in the faster memory layout
paper      ``MoEFusion("paper")``
official   ``MoEFusion("official")``, the same shapes
flow       the same parameters in the official order of work: batches gathered by index for each expert, each global
           expert reading the 160 channels for itself, sums through copies in and out of the exponential

Memory is the growth of the peak resident size during one forward pass, each column in a process of its own. The exit
code is 1 if the paper's reading misses a target. Where there is a GPU, images per second follow.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionlib.networks.moe_fusion import MoEFusion

HEIGHT, WIDTH = 480, 640
TIME_TARGET, MEMORY_TARGET = 1.15, 0.7  # forward / floor, memory / memory of the official flow
COLUMNS = ("floor", "paper", "official", "flow")


def batch_of(size: int, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    shapes = ((size, 1, HEIGHT, WIDTH), (size, 1, HEIGHT, WIDTH), (size, 2, HEIGHT // 4, WIDTH // 4))
    return tuple(torch.rand(shape, generator=generator).to(device) for shape in shapes)


# ---- the floor ------------------------------------------------------------------------------------------------

def shapes(model: MoEFusion, size: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (batch, inputs, outputs, groups) of every 3x3 convolution of the network on ``batch_of(size)``: experts of
    one image that read the same features side by side."""
    for chain in (model.encode_visible, model.encode_infrared, model.attention.convs):
        yield from ((size, layer.in_channels, layer.out_channels, 1) for layer in chain.layers)
    with torch.no_grad():
        gates = model(*batch_of(size, next(model.parameters()).device)).gates
    for name, part in (*model.local_parts.items(), ("global", model.decode)):
        k, layers = part.gate.k, part.experts[0].layers
        for gate in gates[name]:
            for together in Counter(part.reads[e] for e in gate.nonzero()).values():
                yield 1, layers[0].in_channels, together * layers[0].out_channels, 1
            yield from ((1, k * layer.in_channels, k * layer.out_channels, k) for layer in layers[1:-1])
            yield 1, k * layers[-1].in_channels, layers[-1].out_channels, 1


def convolutions(model: MoEFusion, size: int, layout: torch.memory_format, backward: bool) -> float:
    """Return the seconds of the bare convolutions."""
    seconds = 0.0
    for batch, inputs, outputs, groups in shapes(model, size):
        x = torch.rand(batch, inputs, HEIGHT, WIDTH).contiguous(memory_format=layout)
        x.requires_grad_(backward and inputs > 1)  # the images need no gradient
        weight = torch.rand(outputs, inputs // groups, 3, 3, requires_grad=backward)
        start = time.process_time()
        y = F.conv2d(x, weight, padding=1, groups=groups)
        seconds += time.process_time() - start
        if backward:
            slope = torch.ones_like(y)
            start = time.process_time()
            y.backward(slope)
            seconds += time.process_time() - start
    return seconds


# ---- the official order of work -------------------------------------------------------------------------------

def official_flow(model: MoEFusion, infrared: Tensor, visible: Tensor, maps: Tensor) -> Tensor:
    """Return what ``model`` (official reading) returns, computed in the order of the official code."""
    mask = F.interpolate(maps.amax(1, keepdim=True), (HEIGHT, WIDTH), mode="bilinear", align_corners=True)
    features = []
    for encoder, image in ((model.encode_visible, visible), (model.encode_infrared, infrared)):
        x = encoder.layers[0](image).relu()
        for layer in encoder.layers[1:]:
            y = layer(x)
            x = torch.cat([x, y], 1)
        features += [(x, y)]
    (seen, last_seen), (warm, last_warm) = features
    local = []
    for mixture, weight in zip(model.local_parts.values(), (mask, 1 - mask), strict=True):
        pair = [last_seen * weight, last_warm * weight]
        gates = mixture.gate(small(torch.cat(pair, 1), model.grids[0])).weights
        local.append(by_index(mixture, gates, pair))
    x = torch.cat([seen, warm, torch.cat(local, 1)], 1)
    return by_index(model.decode, model.decode.gate(small(x, model.grids[1])).weights, [x])


def small(x: Tensor, grid: tuple[int, int]) -> Tensor:
    return F.interpolate(x, grid, mode="bilinear", align_corners=True).flatten(1)


def by_index(mixture: torch.nn.Module, gates: Tensor, sources: list[Tensor]) -> Tensor:
    """Gather, run expert by expert, stitch, weight, add by index: every step a copy."""
    expert, sample = torch.nonzero(gates.T, as_tuple=True)
    parts = torch.bincount(expert, minlength=len(mixture.experts)).tolist()
    inputs = [x[sample].split(parts) for x in sources]
    outputs = []
    for number, chain in enumerate(mixture.experts):
        x = inputs[mixture.reads[number]][number]
        for layer in chain.layers[:-1]:
            x = layer(x).relu()
        outputs.append(chain.layers[-1](x))
    stitched = torch.cat(outputs).exp() * gates[sample, expert][:, None, None, None]
    total = torch.zeros(len(gates), *stitched.shape[1:]).index_add(0, sample, stitched)
    return torch.where(total == 0, torch.finfo(torch.float64).eps, total).log()


# ---- measuring ------------------------------------------------------------------------------------------------

def models() -> dict[str, MoEFusion]:
    found = {reading: MoEFusion(reading).eval() for reading in ("paper", "official")}
    for part in (*found["official"].local_parts.values(), found["official"].decode):  # its gates start at zero
        torch.nn.init.normal_(part.gate.w_gate, std=0.01, generator=torch.Generator().manual_seed(1))
    return found


def runs(size: int) -> dict[str, Callable[[], Tensor]]:
    nets, data = models(), batch_of(size)
    return {"paper": lambda: nets["paper"](*data).fused, "official": lambda: nets["official"](*data).fused,
            "flow": lambda: official_flow(nets["official"], *data)}


def measure(size: int, backward: bool, rounds: int) -> dict[str, float]:
    """Return the CPU seconds of each column's best round: what else the machine does only adds."""
    calls, model, best = runs(size), models()["paper"], dict.fromkeys(COLUMNS, float("inf"))
    # Gradients through channels-last convolutions cost processors more; the floor of training keeps the usual layout.
    layouts = (torch.contiguous_format,) if backward else (torch.channels_last, torch.contiguous_format)
    for _ in range(rounds):
        with torch.set_grad_enabled(backward):
            seconds = {"floor": min(convolutions(model, size, layout, backward) for layout in layouts)}
            for name, call in calls.items():
                if not backward:
                    call()  # as in a folder of images: memory is at hand, not new from the system
                start = time.process_time()
                fused = call()
                if backward:
                    fused.abs().mean().backward()
                seconds[name] = time.process_time() - start
                del fused
        best = {name: min(best[name], seconds[name]) for name in COLUMNS}
    return best


def peak(name: str, size: int) -> float:
    """Return in MiB how far the peak of this process in one forward pass lies above what it held before."""
    call = runs(size)[name]
    before = resident("VmRSS")
    with torch.no_grad():
        call()
    return resident("VmHWM") - before


def resident(entry: str) -> float:
    """Return an entry of Linux' process status in MiB; ``getrusage`` would inherit the peak of the parent process."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(entry)) / 1024


def on_gpu(size: int) -> None:
    """Print images per second and the share of what the bare convolutions reach."""
    def rate(call: Callable[[], object], repeats: int = 10) -> float:
        for _ in range(3):
            call()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        torch.cuda.synchronize()
        return size * repeats / (time.perf_counter() - start)

    model, data = models()["paper"].cuda(), batch_of(size, "cuda")
    compiled = torch.compile(model)
    for kind in (torch.float32, torch.bfloat16):
        stack = [(torch.rand(n, i, HEIGHT, WIDTH, device="cuda", dtype=kind),
                  torch.rand(o, i // g, 3, 3, device="cuda", dtype=kind), g) for n, i, o, g in shapes(model, size)]
        ceiling = rate(lambda stack=stack: [F.conv2d(x, w, padding=1, groups=g) for x, w, g in stack])
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=kind is torch.bfloat16):
            for name, net in (("eager", model), ("compiled", compiled)):
                speed = rate(lambda net=net: net(*data))
                print(f"gpu, batch {size}, {str(kind)[6:]:8s} {name:8s} {speed:8.1f} images/s, "
                      f"{speed / ceiling:.0%} of the ceiling ({ceiling:.1f})")


def main() -> int:
    parser = argparse.ArgumentParser(description="MoE-Fusion beside its floor and the official data flow")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forward-only", action="store_true")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print(json.dumps(peak(options.peak, options.batch[0])))
        return 0
    with torch.no_grad():
        fused = {name: call() for name, call in runs(1).items()}
    difference = (fused["official"] - fused["flow"]).abs().max().item()
    print(f"official reading against the official flow: largest difference {difference:.1e}")
    missed = difference > 1e-4
    for size in options.batch:
        for backward in (False,) if options.forward_only else (False, True):
            best = measure(size, backward, 1 if backward else options.rounds)
            print(f"\nbatch {size}, {'forward and backward' if backward else 'forward'}, CPU seconds on one thread")
            for name in COLUMNS:
                print(f"  {name:9s}{best[name]:8.2f}   {best[name] / best['floor']:5.2f} x floor"
                      f"   {best[name] / best['flow']:5.2f} x flow")
            if not backward:
                missed |= verdict("paper / floor", best["paper"] / best["floor"], TIME_TARGET)
        memory = {name: peak_of(name, size) for name in COLUMNS[1:]}
        print(f"batch {size}, forward, MiB: " + ", ".join(f"{n} {m:.0f}" for n, m in memory.items()))
        missed |= verdict("paper / flow", memory["paper"] / memory["flow"], MEMORY_TARGET)
        if torch.cuda.is_available():
            on_gpu(size)
    return int(missed)


def verdict(what: str, ratio: float, target: float) -> bool:
    missed = ratio > target
    print(f"  {what} {ratio:.2f}, target {target}: {'missed' if missed else 'met'}")
    return missed


def peak_of(name: str, size: int) -> float:
    command = [sys.executable, __file__, "--peak", name, "--batch", str(size)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    sys.exit(main())
