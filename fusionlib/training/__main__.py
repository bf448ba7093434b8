"""Command line of a training, alone or under torchrun; see :mod:`fusionlib.training`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from fusionlib.training import TrainingConfig, distributed, train


def main(arguments: Sequence[str] | None = None) -> None:
    """Train by a settings file; under torchrun, together with the other processes."""
    parser = argparse.ArgumentParser(
        prog="python -m fusionlib.training", description="Train MoE-Fusion."
    )
    parser.add_argument("--config", required=True, help="JSON file of settings")
    parser.add_argument(
        "--output", help="folder of the training; by default that of the settings file"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    options = parser.parse_args(arguments)
    path = Path(options.config)
    try:
        if not path.is_file():
            raise FileNotFoundError(
                f"config: expected a JSON file of settings, found none at {path}"
            )
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"config: {path} is not a JSON object of settings ({error})") from None
        settings = TrainingConfig.from_dict(settings)
        distributed.start()
        train(settings, options.output or path.parent, device=options.device)
    except (ValueError, TypeError, OSError, RuntimeError, ArithmeticError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt as error:
        sys.exit(str(error) or "interrupted")


if __name__ == "__main__":
    main()
