"""Fusion metrics on one 480 x 640 pair, beside other libraries; then folder scoring over processes.

    python benchmarks/metrics.py [--rounds 5] [--images 361] [--processes 2]

peers      each metric that another library has too, in the definition that library documents: both
values, their
           difference, CPU seconds of one thread (fastest round) and their ratio. Where the
           library's definition is none of ours the row says in what it differs
eight      the metrics of MoE-Fusion's table 1 in convention ``moe-fusion``, one by one and in one
call
further    the metrics beyond the first thirteen in convention ``standard``, one by one, beside the
CPU seconds that their original evaluators took in Octave on images of this size
batch      the eight by ``evaluate_batch``, images a second, on each device that there is
folder     a folder with one process and with several, by the clock and in CPU seconds

The exit code is 1 if the eight take more than 0.15 s or the quick ones of the further metrics more
than 0.5 s, a value that should agree does not, or two processes are less than 1.8 times as fast as
one (not asked of a machine with one core). Libraries that are not installed are named.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import numpy as np
from skimage import data

from fusionlib import images, metrics
from fusionlib.scoring import score_folder

SHAPE = (480, 640)
TABLE_1 = ("EN", "SF", "SD", "MI", "VIF", "AG", "SCD", "Qabf")
QUICK = ("EI", "CE", "Qcb", "Qcv", "Qy", "Nabf")
# CPU seconds of the originals in Octave 7.3 on one 480 x 640 pair, on another machine, one
# measurement each; MATLAB compiles loops and is faster. FMI by a window's cost times its windows.
ORIGINALS = {
    **{"EI": 3.1, "CE": 3.8, "Qcb": 1.35, "Qcv": 0.5, "Qy": 0.11, "Qncie": 4.8, "Nabf": 31.0},
    **{"VIFF": 0.28, "MEF-SSIM": 54.0, "FMI-edge": 330.0, "FMI-pixel": 1400.0},
    **{"FMI-dct": 1400.0, "FMI-wavelet": 2300.0},
}
QUICK_TARGET = 0.5
EIGHT_TARGET, SPEED_UP_TARGET = 0.15, 1.8  # seconds; one process against two
failures: list[str] = []


def photographs(shift: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return two photographs as sources, enlarged by reflection and shifted, and their rounded
    mean.
    """
    a, b = (
        np.roll(
            np.pad(x[: SHAPE[0]], ((0, 0), (0, SHAPE[1] - 512)), mode="reflect"), 13 * shift, axis=1
        )
        for x in (data.camera(), data.moon())
    )
    return images.to_uint8((a.astype(float) + b) / 2), a, b


def cpu(work: Callable, rounds: int) -> float:
    """Return the CPU seconds of the fastest round, after one for nothing."""

    def once() -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    work()
    gc.collect()
    return min(once() for _ in range(rounds))


def peer(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


# ---- peers ---------------------------------------------------------------------------------------


def rows(
    fused: np.ndarray, a: np.ndarray
) -> list[tuple[str, str, Callable, Callable, float | str]]:
    """Return (metric, peer, our call, their call, largest difference or the other definition)."""
    comparisons: list[tuple[str, str, Callable, Callable, float | str]] = []

    def add(
        metric: str, library: str, ours: Callable, theirs: Callable, difference: float | str = 1e-9
    ) -> None:
        comparisons.append((metric, library, ours, theirs, difference))

    def ssim() -> float:
        return metrics.ssim(fused, a)

    def ssim_uniform() -> float:
        return metrics.ssim(fused, a, window="uniform")

    def psnr() -> float:
        return metrics.psnr(fused, a)

    def mse() -> float:
        return metrics.mse(fused, a)

    def vif() -> float:
        return metrics.vif(fused, a)

    from skimage import measure
    from skimage import metrics as theirs

    add(
        "EN", "scikit-image", lambda: metrics.entropy(fused), lambda: measure.shannon_entropy(fused)
    )
    add("MSE", "scikit-image", mse, lambda: theirs.mean_squared_error(a, fused))
    add(
        "PSNR",
        "scikit-image",
        psnr,
        lambda: theirs.peak_signal_noise_ratio(a, fused, data_range=255),
    )
    add(
        "SSIM 7x7",
        "scikit-image",
        ssim_uniform,
        lambda: theirs.structural_similarity(a, fused, data_range=255),
    )
    add(
        "SSIM",
        "scikit-image",
        ssim,
        lambda: theirs.structural_similarity(
            a, fused, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        ),
    )

    if sewar := peer("sewar"):
        gaussian = {
            "fltr": importlib.import_module("sewar.utils").Filter.GAUSSIAN,
            "sigma": 1.5,
            "ws": 11,
        }
        add("MSE", "sewar", mse, lambda: sewar.mse(a, fused))
        add("RMSE", "sewar", lambda: metrics.rmse(fused, a), lambda: sewar.rmse(a, fused))
        add("PSNR", "sewar", psnr, lambda: sewar.psnr(a, fused))
        add("SSIM", "sewar", ssim, lambda: sewar.ssim(a, fused, fltr_specs=gaussian)[0])
        add("VIF", "sewar", vif, lambda: sewar.vifp(a, fused), 1e-8)

    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    double, single = (
        [torch.from_numpy(x.astype(kind))[None, None] for x in (fused, a)] for kind in ("f8", "f4")
    )
    if piq := peer("piq"):
        add(
            "PSNR",
            "piq",
            psnr,
            lambda: piq.psnr(*double, data_range=255),
            "noise floor 1e-8 in MSE on [0, 1]",
        )
        add("SSIM", "piq", ssim, lambda: piq.ssim(*double, data_range=255, downsample=False))
        # Its constants stand on [0, 1] beside images on 0..255, hence not to the last digit.
        add("VIF", "piq", vif, lambda: piq.vif_p(*double, data_range=255), 1e-6)
        add(
            "MS-SSIM",
            "piq",
            lambda: metrics.multiscale_ssim(fused, a),
            lambda: piq.multi_scale_ssim(*double, data_range=255),
        )
        add("VIF", "piq, 32 bits", vif, lambda: piq.vif_p(*single, data_range=255), "32 bits")
    if image := peer("torchmetrics.functional.image"):
        # It takes the logarithm of 10 in 32 bits.
        add(
            "PSNR",
            "torchmetrics",
            psnr,
            lambda: image.peak_signal_noise_ratio(*double, data_range=255.0),
            1e-6,
        )
        add(
            "SSIM",
            "torchmetrics",
            ssim,
            lambda: image.structural_similarity_index_measure(*double, data_range=255.0),
            "windows reach over the border",
        )
        add("VIF", "torchmetrics", vif, lambda: image.visual_information_fidelity(*double), 1e-8)
        add(
            "VIF",
            "torchmetrics, 32 bits",
            vif,
            lambda: image.visual_information_fidelity(*single),
            "32 bits",
        )
    return comparisons


def compare_with_peers(rounds: int) -> None:
    fused, a, _ = photographs()
    missing = [name for name in ("sewar", "piq", "torchmetrics") if peer(name) is None]
    print(
        f"peers: CPU seconds, one thread, {SHAPE[0]} x {SHAPE[1]}, one source"
        + (f"; not installed: {', '.join(missing)}" if missing else "")
    )
    print(
        f"{'metric':9} {'library':22} {'ours':>13} {'theirs':>13} {'difference':>11} {'ours s':>8}"
        f" {'theirs s':>8} {'ratio':>6}"
    )
    for metric, library, ours, theirs, allowed in rows(fused, a):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other libraries' deprecations
            value, their_value = float(ours()), float(theirs())
            seconds, their_seconds = cpu(ours, rounds), cpu(theirs, rounds)
        difference = abs(value - their_value)
        note = ""
        if isinstance(allowed, str):
            note = f"  differs by definition: {allowed}"
        elif difference > allowed * max(1.0, abs(value)):
            note = "  DISAGREES"
            failures.append(f"{metric}: {value!r}, {library} says {their_value!r}")
        print(
            f"{metric:9} {library:22} {value:13.8f} {their_value:13.8f} {difference:11.1e}"
            f" {seconds:8.4f} {their_seconds:8.4f} {their_seconds / max(seconds, 1e-9):6.1f}{note}"
        )


# ---- the eight of table 1, and a folder ----------------------------------------------------------


def time_the_eight(rounds: int) -> None:
    fused, a, b = photographs()
    print(
        f"\neight metrics of table 1, convention moe-fusion, both sources, {SHAPE[0]} x {SHAPE[1]},"
        " CPU seconds"
    )
    for name in TABLE_1:
        seconds = cpu(lambda name=name: metrics.evaluate(fused, a, b, name), rounds)
        print(f"  {name:6} {seconds:.4f}")
    together = cpu(lambda: metrics.evaluate(fused, a, b, TABLE_1), rounds)
    print(f"  all    {together:.4f}  (target {EIGHT_TARGET})")
    dark = [image // 16 for image in (fused, a, b)]  # nothing of the 8-bit VIF is spared
    print(f"  all, on a dark pair {cpu(lambda: metrics.evaluate(*dark, TABLE_1), rounds):.4f}")
    if together > EIGHT_TARGET:
        failures.append(f"the eight take {together:.3f} s, more than {EIGHT_TARGET}")


def time_the_further(rounds: int) -> None:
    fused, a, b = photographs()
    print(f"\nfurther metrics, convention standard, {SHAPE[0]} x {SHAPE[1]}, CPU seconds")
    print(f"  {'metric':12} {'ours s':>8} {'original s':>11} {'ratio':>8}")
    for name in metrics.FURTHER:
        seconds = cpu(lambda name=name: metrics.evaluate(fused, a, b, name, "standard"), rounds)
        original = ORIGINALS.get(name)
        beside = f"{original:11.2f} {original / seconds:8.1f}" if original else "          -"
        print(f"  {name:12} {seconds:8.4f} {beside}")
    together = cpu(lambda: metrics.evaluate(fused, a, b, QUICK, "standard"), rounds)
    print(f"  {', '.join(QUICK)} together {together:.4f}  (target {QUICK_TARGET})")
    if together > QUICK_TARGET:
        failures.append(f"{', '.join(QUICK)} take {together:.3f} s, more than {QUICK_TARGET}")


def time_a_batch(count: int = 8) -> None:
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    stacked = [
        torch.from_numpy(np.stack(x))
        for x in zip(*(photographs(i) for i in range(count)), strict=True)
    ]
    print(f"\nevaluate_batch, the eight, {count} images of {SHAPE[0]} x {SHAPE[1]}")
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        batch = [x.to(device) for x in stacked]
        clock = []
        for _ in range(3):
            began = time.perf_counter()
            values = metrics.evaluate_batch(*batch)
            values["Qabf"].cpu(), values["VIF"].cpu()  # waits for the device
            clock.append(time.perf_counter() - began)
        print(f"  {device:5} {count / min(clock):.1f} images/s by the clock")


def time_a_folder(count: int, processes: int, busy: float) -> None:
    clock, spent = {}, {}
    with TemporaryDirectory() as folder:
        root = Path(folder)
        for i in range(count):
            for name, image in zip(("fused", "a", "b"), photographs(i), strict=True):
                images.write(root / name / f"{i:03}.png", image)
        for workers in (1, processes) * 2:
            began, used = time.perf_counter(), cpu_of_all()
            frame, problems = score_folder(
                root / "fused",
                root / "a",
                root / "b",
                names=TABLE_1,
                processes=workers,
                progress=False,
            )
            assert len(frame) == count * len(TABLE_1) and not problems
            clock[workers] = min(clock.get(workers, np.inf), time.perf_counter() - began)
            spent[workers] = min(spent.get(workers, np.inf), cpu_of_all() - used)
    ratio, possible = clock[1] / clock[processes], processes * spent[1] / spent[processes]
    print(
        f"\nfolder of {count} images: 1 process {clock[1]:.2f} s by the clock, {processes}"
        f" processes {clock[processes]:.2f} s, {ratio:.2f} times as fast (target {SPEED_UP_TARGET}"
        " for 2)"
    )
    print(
        f"  CPU seconds {spent[1]:.2f} and {spent[processes]:.2f}, so {possible:.2f} times as fast"
        " on idle cores"
    )
    if processes < 2 or (os.cpu_count() or 1) < 2:
        return
    if busy > 0.5:
        print(
            f"  other programs are running (load {busy:.1f}): the CPU seconds are judged, not the"
            " clock"
        )
        ratio = possible
    if ratio < SPEED_UP_TARGET:
        failures.append(
            f"{processes} processes are {ratio:.2f} times as fast as one, less than"
            f" {SPEED_UP_TARGET}"
        )


def cpu_of_all() -> float:
    """Return the CPU seconds of this process and of the workers that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--images", type=int, default=361, help="as many as the test split of MSRS has"
    )
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    busy = os.getloadavg()[0]  # before this script itself makes it so
    compare_with_peers(options.rounds)
    time_the_eight(options.rounds)
    time_the_further(options.rounds)
    time_a_batch()
    time_a_folder(options.images, options.processes, busy)
    for failure in failures:
        print(f"missed: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
