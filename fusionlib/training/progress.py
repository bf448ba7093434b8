"""Progress of a training on disk, and stopping: what a killed training goes on from."""

from __future__ import annotations

import contextlib
import io
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fusionlib import images
from fusionlib.networks.weights import load_torch
from fusionlib.training.config import WITHOUT_INFLUENCE, TrainingConfig, dotted

COUNTERS = ("epoch", "step", "sums", "history")
KINDS = {"settings": dict, "data": dict, "epoch": int, "step": int, "sums": dict, "history": list}


class Progress:
    """How far a training is, with everything that its next step depends on.

    Attributes
    ----------
    epoch, step : int
        Finished epochs, and steps of the next one.
    sums : dict of str to float
        Of that epoch: sums over its steps of what the log averages, and of seconds.
    history : list of dict
        The lines of the log.
    """

    def __init__(self, path: Path, settings: TrainingConfig, data: dict, stateful: dict[str, Any]):
        self.path, self.settings, self.data, self.stateful = path, settings, data, stateful
        self.epoch, self.step = 0, 0
        self.sums: dict[str, float] = {}
        self.history: list[dict] = []

    def save(self) -> None:
        """Write the checkpoint; OSError where that fails, and the one before stays."""
        state = {"settings": self.settings.to_dict(), "data": self.data}
        state |= {name: getattr(self, name) for name in COUNTERS}
        state |= {name: entry.state_dict() for name, entry in self.stateful.items()}
        # written at one go: PyTorch's own writer does not say so plainly when a disk is full
        content = io.BytesIO()
        torch.save(state, content)
        images.write_atomically(
            self.path, lambda temporary: Path(temporary).write_bytes(content.getbuffer())
        )

    def resume(self) -> None:
        """Continue from the checkpoint where there is one; ValueError if it is damaged or of
        another training.
        """
        if not self.path.exists():
            return
        state = self._read()
        former = TrainingConfig.from_dict(state["settings"])
        self._compare(influential(former), influential(self.settings))
        self._compare(state["data"], self.data)
        try:
            for name, entry in self.stateful.items():
                entry.load_state_dict(state[name])
        except Exception as error:  # modules and optimisers raise what they come upon
            said = isinstance(error, (RuntimeError, ValueError)) and str(error)
            reason = (said or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"{self.path}: holds a training of a network or an optimiser built otherwise,"
                f" perhaps by another version ({reason:.200}); use another folder,"
                " or remove the file"
            ) from None
        for name in COUNTERS:
            setattr(self, name, state[name])

    def _read(self) -> dict:
        """Return what the checkpoint holds; ValueError where a part is missing or of another
        kind.
        """
        again = "; remove it to train from the beginning"
        try:
            state = load_torch(self.path, self.path.stat().st_size)
        except (OSError, ValueError):
            raise ValueError(
                f"{self.path}: expected the checkpoint of a training, it is truncated or damaged"
                f"{again}"
            ) from None
        if not isinstance(state, dict):
            state = {}
        for name, kind in {**KINDS, **dict.fromkeys(self.stateful, dict)}.items():
            value = state.get(name)
            rows = value if kind is list and isinstance(value, list) else []
            if not isinstance(value, kind) or not all(isinstance(row, dict) for row in rows):
                raise ValueError(
                    f"{self.path}: expected the checkpoint of a training, its {name} is of type"
                    f" {type(value).__name__}{again}"
                )
        try:
            TrainingConfig.from_dict(state["settings"])
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.path}: {error}{again}") from None
        return state

    def _compare(self, kept: dict, wanted: dict) -> None:
        for key in kept | wanted:
            if kept.get(key) != wanted.get(key):
                raise ValueError(
                    f"{self.path}: holds a training with {key} = {kept.get(key)!r}, asked for is"
                    f" {wanted.get(key)!r}; use another folder, or remove the file"
                )


def influential(settings: TrainingConfig) -> dict:
    """Return the settings by dotted name, without those that have no influence on the result."""
    return {n: v for n, v in dotted(settings.to_dict()) if n not in WITHOUT_INFLUENCE}


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C or a request to terminate sets; a second one interrupts at
    once.
    """
    stop_requested = threading.Event()

    def note(number, frame):
        if stop_requested.is_set():
            raise KeyboardInterrupt
        stop_requested.set()

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop_requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
