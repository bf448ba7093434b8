"""Worker processes that end with the process that started them."""

from __future__ import annotations

import signal
import sys


def end_with_parent(how: int = signal.SIGTERM) -> None:
    """Ask Linux to send this process a signal when the one that started it ends; elsewhere do
    nothing.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, how)  # 1 = PR_SET_PDEATHSIG


def start() -> None:
    """Let a worker process end with its parent, however that ends, and leave signals to it: one
    that dies by itself would leave the parent waiting for what it was to do.
    """
    end_with_parent(signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
