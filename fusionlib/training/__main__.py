"""Command line of a training, alone or under torchrun; see :mod:`fusionlib.training`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from fusionlib.networks.weights.checkpoint import fingerprint
from fusionlib.training import PRESETS, TrainingConfig, distributed, train


def main(arguments: Sequence[str] | None = None) -> None:
    """Train by a settings file; under torchrun, together with the other processes."""
    parser = argparse.ArgumentParser(
        prog="python -m fusionlib.training", description="Train MoE-Fusion."
    )
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--config", help="JSON file of settings")
    chosen.add_argument("--preset", choices=list(PRESETS), help="settings by name")
    parser.add_argument("--seed", type=int, help="in place of that of the settings")
    parser.add_argument(
        "--output", help="folder of the training; by default that of the settings file"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    options = parser.parse_args(arguments)
    if options.preset and not options.output:
        parser.error("--preset expects an --output, got none")
    try:
        settings = read(Path(options.config)) if options.config else PRESETS[options.preset]
        if options.seed is not None:
            settings = TrainingConfig.from_dict({"run.seed": options.seed}, settings)
        distributed.start()
        model = train(
            settings, options.output or Path(options.config).parent, device=options.device
        )
        print(f"SHA-256 of the tensors: {fingerprint(model.state_dict())}")
    except (ValueError, TypeError, OSError, RuntimeError, ArithmeticError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt as error:
        sys.exit(str(error) or "interrupted")


def read(path: Path) -> TrainingConfig:
    """Return the settings of a JSON file; FileNotFoundError or ValueError says what is wrong."""
    if not path.is_file():
        raise FileNotFoundError(f"config: expected a JSON file of settings, found none at {path}")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"config: {path} is not a JSON object of settings ({error})") from None
    return TrainingConfig.from_dict(settings)


if __name__ == "__main__":
    main()
