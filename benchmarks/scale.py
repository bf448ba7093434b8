"""Growth: seconds and memory against pixels and pairs, reading alone, and what `paper` costs.

    python benchmarks/scale.py [--largest 24] [--pairs 2000] [--minutes 10] [--csv FILE]
        [--parts pixels pairs rates reading paper]

pixels    one pair from 256x256 to ``--largest`` million pixels: LP and all metrics at every size,
          every other method that has its weights up to what its share of ``--minutes`` allows
pairs     `fusionlib fuse` with LP on 10 to ``--pairs`` pairs of 128x128
rates     `fusionlib fuse` on 2,000 pairs of 640x480 with LP and 100 with MoE-Fusion, beside the
          method alone and beside reading, fusing and writing one after the other
reading   pairs of 640x480 per second through the loader of a training, PNG and JPEG, by workers
paper     hours of the profile on 1, 4 and 16 GPUs, by the rates that it states

A case has a process of its own on one core; seconds are the processor's (of rates and reading, the
clock's), memory is what it holds at its peak beyond what it held before. An exponent is the slope
of log-log regression over the largest four sizes with its 95 % interval. Exit code 1: one lies
above linear, FFTs' n log n included, and nothing says why; or reading is slower than the training
it is for. The whole takes about 20 minutes on a quiet core.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from scipy import ndimage, stats

from fusionlib import images, metrics, runs
from fusionlib.datasets import infrared_visible, open_pairs
from fusionlib.methods import get, names
from fusionlib.training import samples
from workflow import graph

SIZES = ((256, 256), (512, 512), (1024, 1024), (2048, 2048), (3000, 4000), (4000, 6000))
COUNTS = (10, 30, 100, 300, 1000, 2000)
LIMIT = 1.1  # n log n grows like n to the 1.06 between 1 and 24 million
WHOLE = ("LP", "metrics")  # at every size, whatever it takes
MORE_THAN_LINEAR: dict[str, str] = {}  # method: reason
Row = dict[str, object]
# The command, which says at its end what processor time and memory it took.
MEASURED = """
import atexit, time
from fusionlib import runs
from fusionlib.__main__ import main
atexit.register(lambda: print(time.process_time(), runs.peak_memory()))
main()
"""


def pair(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first generated scene, stretched to a size: infrared and visible, gray."""
    scene = open_pairs("")[0]
    planes = images.luma(scene.infrared), images.luma(scene.visible)
    zooms = [np.divide(shape, plane.shape) for plane in planes]
    large = [
        ndimage.zoom(plane, factor, order=1, output=np.float32)
        for plane, factor in zip(planes, zooms, strict=True)
    ]
    noise = np.random.default_rng(0).normal(0, 4, shape).astype(np.float32)
    infrared, visible = (np.clip(plane + noise, 0, 255).astype(np.uint8) for plane in large)
    return infrared, visible


def work_of(name: str, shape: tuple[int, int]) -> Callable[[], object]:
    """Return what is measured: a method that fuses a pair, or all metrics of a fused image."""
    infrared, visible = pair(shape)
    if name == "metrics":
        fused = ((infrared.astype(np.uint16) + visible) // 2).astype(np.uint8)
        return lambda: metrics.evaluate(fused, infrared, visible)
    method = get(name, device="cpu")
    method.fuse(*pair((64, 64)))  # weights are read, and the time of that is not the method's
    return lambda: method.fuse(infrared, visible)


def measure(name: str, shape: tuple[int, int], sender) -> None:
    """Send seconds and gigabytes of a case, or the reason why there are none."""
    runs.end_with_parent()
    torch.set_num_threads(1)
    try:
        work = work_of(name, shape)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak begins anew
        before, began = memory("VmRSS"), time.process_time()
        work()
        sender.send((time.process_time() - began, memory("VmHWM") - before))
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        sender.send(str(error) or type(error).__name__)


def memory(what: str) -> float:
    """Return an entry of this process's memory, GB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024e-9 for line in lines if line.startswith(what))


def case(name: str, shape: tuple[int, int], seconds: float) -> tuple[float, float] | str:
    """Run :func:`measure` in a process of its own, ended after so many seconds."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(name, shape, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(seconds) else f"more than {seconds:.0f} s"
    except EOFError:
        return "ended without a word, as where memory is short"
    finally:
        process.kill()
        process.join()


def growth(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return the slope of log y over log x and half the width of its 95 % interval."""
    fit = stats.linregress(np.log(x), np.log(y))
    return fit.slope, stats.t.ppf(0.975, max(len(x) - 2, 1)) * fit.stderr


def exponents(what: str, rows: Sequence[Row], size: str) -> int:
    """Print how seconds and gigabytes grow over the largest four sizes; return 1 where one is above
    linear and nothing says why.
    """
    unexplained = 0
    for unit in ("seconds", "gigabytes"):
        kept = [row for row in rows if row[unit] > 0.001][-4:]
        if len(kept) < 3:
            continue
        slope, half = growth([row[size] for row in kept], [row[unit] for row in kept])
        reason = MORE_THAN_LINEAR.get(what, "")
        above = slope - half > LIMIT
        note = f"above linear: {reason or 'no reason known'}" if above else ""
        print(f"  {what:12} {unit:10} ~ {size}^{slope:.2f} +- {half:.2f}  {note}", flush=True)
        unexplained += above and not reason
    return unexplained


def against_pixels(options: argparse.Namespace, rows: list[Row]) -> int:
    """Measure every method at growing sizes; return how many exponents nothing explains."""
    sizes = [shape for shape in SIZES if shape[0] * shape[1] <= 1.001e6 * options.largest]
    asked = [*WHOLE, *(name for name in names() if name not in WHOLE)]
    share, unexplained = 60 * options.minutes / (len(asked) - len(WHOLE)), 0
    print(f"pixels: one pair, one core; all but {' and '.join(WHOLE)} within {share:.0f} s")
    for name in asked:
        mine: list[Row] = []
        left = 3600.0 if name in WHOLE else share
        for shape in sizes:
            began, pixels = time.perf_counter(), shape[0] * shape[1]
            came = case(name, shape, left)
            left -= time.perf_counter() - began
            if isinstance(came, str):
                print(f"  {name:12} {shape[0]}x{shape[1]}: {came.splitlines()[0][:80]}")
                break
            row: Row = dict(part="pixels", what=name, pixels=pixels, seconds=came[0])
            mine.append(row | {"gigabytes": came[1]})
            print(f"  {name:12} {pixels / 1e6:6.2f} M {came[0]:9.3f} s {came[1]:7.3f} GB")
        unexplained += exponents(name, mine, "pixels")
        rows += mine
    return unexplained


def folders(home: Path, count: int, shape: tuple[int, int], suffix: str = "png") -> None:
    """Write pairs of files into ``home/ir`` and ``home/vi``, ten of them different."""
    for folder, plane in zip(("ir", "vi"), pair((shape[0] + 10, shape[1])), strict=True):
        (home / folder).mkdir(parents=True)
        for number in range(count):
            path = home / folder / f"{number:05}.{suffix}"
            if number >= 10:
                os.link(home / folder / f"{number % 10:05}.{suffix}", path)
            elif suffix == "png":
                images.write(path, plane[number : number + shape[0]])
            else:
                Image.fromarray(plane[number : number + shape[0]]).save(path, quality=90)


def against_pairs(options: argparse.Namespace, rows: list[Row]) -> int:
    """Measure the command on growing folders; the time of the smallest, which is that of the start,
    is taken off the others.
    """
    print("pairs: fusionlib fuse --method LP, 128x128, the whole command")
    mine: list[Row] = []
    for count in (count for count in COUNTS if count <= options.pairs):
        with TemporaryDirectory() as folder:
            home = Path(folder)
            folders(home, count, (128, 128))
            command = [sys.executable, "-c", MEASURED, "fuse", "--method", "LP"]
            done = subprocess.run(
                [*command, home / "ir", home / "vi", home / "fused"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            seconds, gigabytes = map(float, done.stdout.split()[-2:])
            written = len(list((home / "fused" / "gray").glob("*.png")))
        if done.returncode or written != count:
            raise RuntimeError(f"fuse: expected {count} images, got {written}")
        row: Row = dict(part="pairs", what="fuse LP", pairs=count, seconds=seconds)
        mine.append(row | {"gigabytes": gigabytes})
        print(f"  {count:6} pairs {seconds:9.2f} s {gigabytes:7.3f} GB", flush=True)
    rows += mine
    first = mine[0]
    beyond = [
        {name: row[name] - first[name] for name in ("pairs", "seconds", "gigabytes")}
        for row in mine[1:]
    ]
    return exponents("fuse LP", beyond, "pairs")


def against_the_method(options: argparse.Namespace, rows: list[Row]) -> int:
    """Measure pairs per second of the command beside those of its method."""
    print("rates: gray pairs of 640x480 a second, by the clock, one thread a process")
    torch.set_num_threads(1)
    for name, most in (("LP", 2000), ("MoE-Fusion", 100)):
        count = min(most, options.pairs)
        with TemporaryDirectory() as folder:
            home = Path(folder)
            folders(home, count, (480, 640))
            seconds = {
                "the method alone": one_after_the_other(name, home, count, files=False),
                "one after the other": one_after_the_other(name, home, count),
                "fuse --jobs 1": command_seconds(name, home, 1),
                "fuse --jobs 2": command_seconds(name, home, 2),
            }
        for what, took in seconds.items():
            print(f"  {name:12} {what:20} {count / took:7.2f}", flush=True)
            rows.append(dict(part="rates", what=f"{name}: {what}", pairs=count, rate=count / took))
    return 0


def one_after_the_other(name: str, home: Path, count: int, files: bool = True) -> float:
    """Return the seconds of a loop over the pairs; without files, over ten that are in memory and
    whose results are dropped, for all.
    """
    method = get(name, device="cpu")
    names = [f"{number:05}.png" for number in range(count if files else min(count, 10))]
    pairs = {x: [images.read(home / side / x) for side in ("ir", "vi")] for x in names[:10]}
    method.fuse(*pairs[names[0]])
    (home / "alone").mkdir(exist_ok=True)
    began = time.perf_counter()
    for x in names:
        pair = [images.read(home / side / x) for side in ("ir", "vi")] if files else pairs[x]
        fused = method.fuse(*pair)
        if files:
            images.write(home / "alone" / x, fused)
    return (time.perf_counter() - began) * count / len(names)


def command_seconds(name: str, home: Path, jobs: int) -> float:
    """Return the seconds of the whole command on all pairs."""
    output = home / f"jobs-{jobs}"
    command = [sys.executable, "-m", "fusionlib", "fuse", "--method", name, "--jobs", str(jobs)]
    began = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [*command, home / "ir", home / "vi", output]
    subprocess.run(words, check=True, capture_output=True, env=environment)
    return time.perf_counter() - began


def against_workers(options: argparse.Namespace, rows: list[Row]) -> int:
    """Measure the loader of a training alone; return 1 where it is slower than the training that
    the profile `paper` counts with.
    """
    claimed = graph.load_profile("paper")["costs"]["training"]["pairs_per_second"]
    print(f"reading: gray pairs of 640x480; the profile paper trains {claimed} a second")
    fastest = 0.0
    for suffix in ("png", "jpg"):
        with TemporaryDirectory() as folder:
            folders(Path(folder), 200, (480, 640), suffix)
            for workers in sorted({0, 1, 2, 4, min(8, os.cpu_count() or 1)}):
                rate = reading_rate(Path(folder), workers)
                fastest = max(rate, fastest)
                print(f"  {suffix} {workers} workers {rate:7.1f} pairs per second", flush=True)
                rows.append(dict(part="reading", what=suffix, workers=workers, rate=rate))
    verdict = "faster" if fastest > claimed else "SLOWER"
    print(f"  {verdict} than that training, on {os.cpu_count()} cores")
    return int(fastest <= claimed)


def reading_rate(folder: Path, workers: int) -> float:
    """Return how many pairs a second come in the second epoch; in the first, workers start."""
    infrared_visible.KEPT_BYTES = 0  # or the second epoch would decode nothing
    dataset = samples.Samples(open_pairs(folder), classes=[], annotated=False)
    schedule: list[list] = []
    loader = samples.make_loader(dataset, schedule, workers, torch.device("cpu"))
    seconds = 0.0
    for epoch in range(2):
        schedule[:] = samples.batch_schedule(dataset.pairs, 4, 1, 0, epoch)
        began = time.perf_counter()
        for _ in loader:
            pass
        seconds = time.perf_counter() - began
    return len(dataset.pairs) / seconds


def finished_after(nodes: Sequence[graph.Node], gpus: int) -> float:
    """Return the hours until all nodes are done, the longest that can start first."""
    known, left, done = {node.folder for node in nodes}, list(nodes), set[Path]()
    running: list[tuple[float, Path]] = []
    now = 0.0
    while left or running:
        ready = [node for node in left if not (known & set(node.needs)) - done]
        for node in sorted(ready, key=lambda node: -node.hours)[: gpus - len(running)]:
            left.remove(node)
            running.append((now + node.hours, node.folder))
        running.sort()
        now, folder = running.pop(0)
        done.add(folder)
    return now


def paper(_options: argparse.Namespace, rows: list[Row]) -> int:
    """Print hours of the profile `paper` by its own rates: lower bounds, what has no cost is left
    out.
    """
    nodes = [node for node in graph.expand("paper", Path("reports/paper"), dry=True) if node.hours]
    print("paper: hours by the rates of the profile; one node a GPU")
    for gpus in (1, 4, 16):
        hours = finished_after(nodes, gpus)
        print(f"  {gpus:3} GPUs {hours:8.1f} h", flush=True)
        rows.append(dict(part="paper", what="hours", gpus=gpus, seconds=3600 * hours))
    return 0


PARTS = {
    "pixels": against_pixels,
    "pairs": against_pairs,
    "rates": against_the_method,
    "reading": against_workers,
    "paper": paper,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--largest", type=float, default=24, help="million pixels")
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=10, help="for the other methods together")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    rows: list[Row] = []
    failed = sum(PARTS[part](options, rows) for part in options.parts)
    if options.csv:
        columns = ["part", "what", "pixels", "pairs", "workers", "gpus", "seconds", "gigabytes"]
        with options.csv.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [*columns, "rate"])
            writer.writeheader()
            writer.writerows(rows)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
