"""Time and memory of the compared networks on one 640 x 480 pair, beside their bare convolutions.

    python benchmarks/methods.py [--weights FOLDER] [--only DenseFuse YDTR ...]

Each network runs in a process of its own on one thread. Its convolutions, matrix products and
attentions are recorded with their shapes, which gives the multiply-adds, and run again alone on
random numbers, whole images at a time, maps channels last: the bare stack, what the library needs
for the arithmetic alone. Seconds are CPU seconds, the least of the runs; memory is what the process
held at most beyond what it held before. A network above 1.6 times its bare stack prints the reason.
Exit code 1 if YDTR takes more than 0.85 of its naive form, or a network more than 1.6 of its bare
stack without one.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from fusionlib.networks import REGISTRY
from fusionlib.networks.compared import auif, layers, ydtr

HEIGHT, WIDTH, SEED = 480, 640, 0
MOST_OF_BARE, MOST_OF_NAIVE = 1.6, 0.85

# What else takes time in those above the limit, as PyTorch's profiler shares it out.
REASONS = {
    "DenseFuse": (
        "mirrored borders take a seventh of its time, joining the maps of its dense block a twelfth"
    ),
    "TarDAL": (
        "statistics of every map over the whole image come between its convolutions, a tenth of its"
        " time, and so does joining the maps of its dense block"
    ),
    "SDNet": (
        "joining the few maps of its dense block takes two fifths of its time: in each band, for"
        " convolutions to 16 maps"
    ),
    "RFN-Nest": (
        "mirrored borders of 244 maps take a sixth of its time, joining and pooling the nested maps"
        " an eighth; tiles of 256 pixels convolve no faster than whole images"
    ),
    "PIAFusion": (
        "mirrored copies of maps as wide as 256 channels take a tenth of its time, and so does new"
        " memory for every map of a whole image, which the bare stack asks for once"
    ),
    "SwinFuse": (
        "exact GELU, layer norms and the copies into and out of windows take an eighth of its time,"
        " and the products of single windows run slower than those of whole images"
    ),
    "AUIF": (
        "with one filter of 25 multiply-adds a pixel for each layer, little is left to multiply;"
        " the rest is memory traffic of reflection, border strips and the learned steps"
    ),
    "DATFuse": (
        "as in YDTR, exact GELU, layer norms and residual sums take as long as its convolutions to"
        " 16 maps, and mirrored borders a tenth"
    ),
    "LRRNet": (
        "256 maps are read and written for a few products a pixel; shrinking them takes as long as"
        " the products, and bands overlap by eleven rows at each side"
    ),
    "GIFNet": (
        "copies into and out of windows take a sixth of its time, moments over whole images a"
        " twentieth, and the products of strips run slower than those of whole images"
    ),
    "CDDFuse": (
        "channel norms and gates are no products; attention among channels, not counted in the bare"
        " stack, is summed band by band and then applied, so borders are computed twice"
    ),
    "EMMA": (
        "the products of attention among channels and its norms are not counted in the bare stack"
    ),
    "YDTR": (
        "the exact GELU of 256 values a token, layer norms and residual sums are no matrix"
        " products, and those are small (64 x 64 and 64 x 256)"
    ),
}


class Recorder(TorchFunctionMode):
    """Note the shapes of every convolution, matrix product and attention that runs inside."""

    NAMES = {
        F.conv2d: "conv2d",
        F.conv_transpose2d: "conv_transpose2d",
        F.linear: "linear",
        F.scaled_dot_product_attention: "attention",
        torch.baddbmm: "baddbmm",
    }
    CONVOLUTION = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if name := self.NAMES.get(function):
            if name == "conv2d":  # its settings by their places
                named = self.CONVOLUTION | kwargs
                args += tuple(named.values())[len(args) - 2 :]
                kwargs = {}
            tensors = [x for x in (*args, kwargs.get("attn_mask")) if isinstance(x, torch.Tensor)]
            settings = tuple(x for x in args if not isinstance(x, torch.Tensor) and x is not None)
            self.calls[name, tuple(tuple(x.shape) for x in tensors), settings] += 1
        return function(*args, **kwargs)

    def multiply_adds(self) -> int:
        """Count multiply-adds of all calls."""
        total = 0
        for (name, shapes, settings), n in self.calls.items():
            first, second = shapes[:2]
            if name == "attention":  # Q K' and the product with V
                operations = 2 * math.prod(first) * second[-2]
            elif name == "linear":
                operations = math.prod(first) * second[0]
            elif name == "baddbmm":
                operations = math.prod(shapes[1]) * shapes[2][-1]
            elif name == "conv_transpose2d":  # each pixel times all weights of its channel
                operations = math.prod(first) * math.prod(second[1:])
            else:
                stride, padding = (settings + (1, 0))[:2] if settings else (1, 0)
                (dy, dx), (py, px) = (
                    x if isinstance(x, tuple) else (x, x) for x in (stride, padding)
                )
                h, w = (
                    (first[2] + 2 * py - second[2]) // dy + 1,
                    (first[3] + 2 * px - second[3]) // dx + 1,
                )
                operations = first[0] * h * w * math.prod(second)
            total += n * operations
        return total

    def bare(self) -> Callable[[], None]:
        """Return a function that runs the recorded calls alone, on random numbers of the same
        shapes.
        """
        runs, numbers = (
            [],
            torch.randn(max(math.prod(shape) for _, shapes, _ in self.calls for shape in shapes)),
        )
        for (name, shapes, settings), n in self.calls.items():
            tensors = [numbers[: math.prod(shape)].view(shape) for shape in shapes]
            if name.startswith("conv"):  # channels last, as the networks are
                tensors = [
                    numbers[: math.prod((b, c, h, w))].view(b, h, w, c).permute(0, 3, 1, 2)
                    for b, c, h, w in shapes[:2]
                ] + tensors[2:]
            function = next(f for f, called in self.NAMES.items() if called == name)
            bias = () if len(tensors) > 2 or not settings else (None,)  # settings follow the bias
            runs.append((function, (*tensors, *bias, *settings), n))

        def run() -> None:
            with torch.inference_mode():
                for function, arguments, n in runs:
                    for _ in range(n):
                        function(*arguments)

        return run


def cpu_seconds(*runs: Callable[[], object], limit: float = 20.0) -> list[float]:
    """Return the least CPU seconds of each, three rounds by turns, or ``limit`` seconds."""
    rounds: list[list[float]] = []
    while len(rounds) < 3 and sum(map(sum, rounds)) < limit:
        rounds.append([])
        for run in runs:
            start = time.process_time()
            run()
            rounds[-1].append(time.process_time() - start)
    return [min(times) for times in zip(*rounds, strict=True)]


def pair() -> tuple[np.ndarray, np.ndarray]:
    """Return two seeded gray images with coarse structure and noise."""
    draw = np.random.default_rng(SEED)
    coarse = (
        draw.integers(40, 200, (2, HEIGHT // 32, WIDTH // 32)).repeat(32, axis=1).repeat(32, axis=2)
    )
    infrared, visible = (coarse + draw.integers(-20, 21, (2, HEIGHT, WIDTH))).astype(np.uint8)
    return infrared, visible


def measure(name: str, weights: str | None) -> dict:
    """Measure one method in this process."""
    torch.set_num_threads(1)
    method, random = REGISTRY[name], "random"
    network = method.build(seed=SEED)
    if weights is not None:
        try:
            network, random = method.load(folder=weights), "official"
        except FileNotFoundError:
            pass  # without weights the time is the same; the table says "random"
    layers.channels_last(network)  # as fusionlib.methods has it
    infrared, visible = pair()
    network.fuse(infrared[:32, :32], visible[:32, :32])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    network.fuse(infrared, visible)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
    # The bare stack is that of whole images: bands of rows, which some networks take, do not count
    # for it.
    layers.BAND_PIXELS, bands = HEIGHT * WIDTH, layers.BAND_PIXELS
    with Recorder() as recorded:
        network.fuse(infrared, visible)
    layers.BAND_PIXELS = bands
    row = {
        "method": name,
        "variant": method.variant(),
        "weights": random,
        "memory": memory,
        "parameters": sum(p.numel() for p in network.parameters()),
        "multiply_adds": recorded.multiply_adds(),
    }
    row["seconds"], row["bare"] = cpu_seconds(
        lambda: network.fuse(infrared, visible), recorded.bare()
    )
    if slower := {
        "YDTR": lambda: ydtr.YDTR("window"),
        "AUIF": lambda: auif.AUIF(at_once=False),
    }.get(name):
        naive = slower().eval()
        (row["naive"],) = cpu_seconds(lambda: naive.fuse(infrared, visible))
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--weights", help="folder of official weights; without, all weights are random"
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(REGISTRY), default=list(REGISTRY), metavar="METHOD"
    )
    parser.add_argument("--one", choices=list(REGISTRY), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.weights)))
        return 0

    print(
        f"one pair of {WIDTH} x {HEIGHT}, torch {torch.__version__}, one thread; random weights:"
        f" seed {SEED}\n"
    )
    columns = "{:10} {:24} {:8} {:>10} {:>11} {:>9} {:>7} {:>6} {:>9}".format
    print(
        columns(
            "method",
            "variant",
            "weights",
            "parameters",
            "G mult-adds",
            "seconds",
            "bare",
            "ratio",
            "memory MB",
        )
    )
    notes, failed = [], False
    for name in options.only:
        command = [sys.executable, __file__, "--one", name]
        command += ["--weights", options.weights] if options.weights else []
        row = json.loads(
            subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True
            ).stdout.splitlines()[-1]
        )
        ratio = row["seconds"] / row["bare"]
        print(
            columns(
                name,
                row["variant"],
                row["weights"],
                f"{row['parameters']:,}",
                f"{row['multiply_adds'] / 1e9:.1f}",
                f"{row['seconds']:.2f}",
                f"{row['bare']:.2f}",
                f"{ratio:.2f}",
                f"{row['memory'] / 1e6:.0f}",
            ),
            flush=True,
        )
        if ratio > MOST_OF_BARE:
            failed |= name not in REASONS
            notes.append(
                f"{name}: {ratio:.2f} times its bare stack: {REASONS.get(name, 'no reason known')}"
            )
        if "naive" in row:
            ratio_to_naive = row["seconds"] / row["naive"]
            failed |= name == "YDTR" and ratio_to_naive > MOST_OF_NAIVE
            notes.append(
                f"{name}: {ratio_to_naive:.2f} of its naive form as released ({row['naive']:.2f} s)"
            )
    print("", *notes, sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
