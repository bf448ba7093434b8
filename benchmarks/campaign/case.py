"""A case of the campaign: one input, what is meant by it, and what the library made of it.

Each case runs in a process of its own, held against :data:`SECONDS` of computing, :data:`WAIT` of
waiting, and :data:`BYTES`.
"""

from __future__ import annotations

import dis
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
OWN = tuple(str(ROOT / name) + os.sep for name in ("fusionlib", "workflow"))
EXPECTED = (ValueError, TypeError, OSError, RuntimeError)  # a command makes a sentence of these
# CPU seconds that a case may take; by the clock it may wait, on a busy machine
SECONDS, WAIT, BYTES = 20.0, 300.0, 2 * 2**30
HARD_LIMIT = 6 * 2**30  # of address space beyond what is taken already, to spare the machine

# What is meant by an input, beside a value.
REFUSE = "must be refused"
UNKNOWN = "may be taken or refused"

RIGHT, OWN_SENTENCE, TAKEN = "right", "own sentence", "taken, no truth"
UNDETECTABLE, VALID_REFUSED = "undetectable", "valid refused"
FOREIGN, TRACEBACK, SLOW, LARGE, WRONG = (
    "foreign sentence",
    "traceback",
    "over 20 s",
    "over 2 GB",
    "wrong value",
)
OUTCOMES = (RIGHT, OWN_SENTENCE, TAKEN, UNDETECTABLE, VALID_REFUSED)
OUTCOMES += (FOREIGN, TRACEBACK, SLOW, LARGE, WRONG)
FAULTS = (FOREIGN, TRACEBACK, SLOW, LARGE, WRONG)


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes
    ----------
    recipe : str
        How the input was made, in words.
    call : callable
        Hands the input to the library and returns what came.
    names : sequence of str
        File or setting names, one of which a sentence must hold.
    truth : object
        What the input means, :data:`REFUSE` or :data:`UNKNOWN`.
    is_damaged : bool
        Refusing is right as well as returning the truth.
    is_checked : bool
        The format has a checksum: damage that changes the value can be noticed.
    tolerance : float
        Of numbers, for lossy formats.
    """

    recipe: str
    call: Callable[[], object]
    names: Sequence[str]
    truth: object = UNKNOWN
    is_damaged: bool = False
    is_checked: bool = True
    tolerance: float = 0.0


def judge(case: Case) -> tuple[str, str]:
    """Run a case here and return its outcome and what came, in words."""
    try:
        value = case.call()
    except MemoryError:
        return LARGE, "MemoryError"
    except EXPECTED as error:
        sentence = " ".join(str(error).split())
        is_own = _is_raised_by_us(error) and any(name in sentence for name in case.names)
        if not is_own:
            return FOREIGN, f"{type(error).__name__}: {sentence}"
        is_valid = case.truth is not UNKNOWN and case.truth is not REFUSE and not case.is_damaged
        return VALID_REFUSED if is_valid else OWN_SENTENCE, sentence
    except Exception:
        return TRACEBACK, traceback.format_exc()
    if case.truth is UNKNOWN:
        return TAKEN, ""
    if case.truth is not REFUSE and same(value, case.truth, case.tolerance):
        return RIGHT, ""
    came = f"expected {case.truth!r:.300}, came {value!r:.300}"
    return WRONG if case.is_checked or not case.is_damaged else UNDETECTABLE, came


def _is_raised_by_us(error: BaseException) -> bool:
    """Tell whether a ``raise`` of this project made the exception, not a library or a slip."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    frame: FrameType = trace.tb_frame
    if not frame.f_code.co_filename.startswith(OWN):
        return False
    operation = frame.f_code.co_code[trace.tb_lasti]
    return dis.opname[operation] == "RAISE_VARARGS"


def same(value: object, truth: object, tolerance: float = 0.0) -> bool:
    """Tell whether two values agree: arrays by shape and numbers, containers by their parts."""
    if isinstance(truth, dict):
        if not isinstance(value, dict) or value.keys() != truth.keys():
            return False
        return all(same(value[key], truth[key], tolerance) for key in truth)
    if isinstance(truth, (list, tuple)):
        if not isinstance(value, (list, tuple)) or len(value) != len(truth):
            return False
        return all(same(a, b, tolerance) for a, b in zip(value, truth, strict=True))
    if isinstance(truth, np.ndarray):
        value = np.asarray(value)
        if value.shape != truth.shape:
            return False
        apart = np.abs(value.astype(np.float64) - truth.astype(np.float64))
        return bool(apart.mean() <= tolerance) if truth.size else True
    if isinstance(truth, float):
        return isinstance(value, (int, float)) and abs(value - truth) <= max(tolerance, 1e-9)
    return bool(value == truth)


# radon C: what a process does, how long it may, and how it ended
def run(make: Callable[[], Case]) -> tuple[str, str, str]:
    """Make a case and judge it in a process of its own.

    Returns
    -------
    (str, str, str)
        Recipe, outcome, what came.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        _child(make, reading, writing)
    os.close(writing)
    content, deadline = b"", time.monotonic() + WAIT
    while True:
        left = deadline - time.monotonic()
        ready = select.select([reading], [], [], max(left, 0))[0]
        piece = os.read(reading, 2**16) if ready else b""
        if not piece:
            break
        content += piece
    if not ready:
        os.kill(process, signal.SIGKILL)
    os.close(reading)
    _, status, used = os.wait4(process, 0)
    lines = content.decode(errors="replace").splitlines()
    recipe = json.loads(lines[0]) if lines else "not made"
    if not ready:
        return recipe, SLOW, f"killed after {WAIT:.0f} s"
    if len(lines) < 2:
        return recipe, TRACEBACK, f"the process ended with status {status}"
    outcome, came, seconds = json.loads(lines[1])
    if used.ru_maxrss * 1024 > BYTES:
        return recipe, LARGE, f"{used.ru_maxrss / 2**20:.1f} GiB; {came}"
    if seconds > SECONDS:
        return recipe, SLOW, f"{seconds:.0f} s; {came}"
    return recipe, outcome, came


def _child(make: Callable[[], Case], reading: int, writing: int) -> None:
    """Judge a case, write recipe and outcome as two lines, and end the process."""
    try:
        os.close(reading)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (taken + HARD_LIMIT,) * 2)
        case = make()
        os.write(writing, json.dumps(case.recipe).encode() + b"\n")
        started = time.process_time()  # other work on the machine does not count
        outcome, came = judge(case)
        seconds = time.process_time() - started
        os.write(writing, json.dumps([outcome, came[:2000], seconds]).encode() + b"\n")
    except BaseException:  # of the campaign itself
        problem = json.dumps([TRACEBACK, "the campaign: " + traceback.format_exc()[-1500:], 0])
        os.write(writing, b'"not made"\n' + problem.encode() + b"\n")
    finally:
        os._exit(0)
