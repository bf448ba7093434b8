"""What each ingredient of the general model gives: short trainings that add one after the other.

    python -m benchmarks.ingredients OUT [--epochs 12] [--seeds 0]

Scored on the held-out pairs of ``ivif/general``; OUT gets the trainings, which go on after a kill,
``ingredients.csv`` and ``ingredients.svg``. Needs ``fusionlib data get general``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from fusionlib import figures
from fusionlib.experiments import model_quality
from fusionlib.training import PRESETS, TrainingConfig, open_pairs, train
from fusionlib.training.config import AugmentationConfig

GENERAL, PAPER = PRESETS["general"], PRESETS["general-paper"]
RANGE = replace(PAPER.optimization, range_loss=GENERAL.optimization.range_loss)
INGREDIENTS = {
    "equation (5)": replace(PAPER, augmentation=AugmentationConfig()),
    "+ augmentation": PAPER,
    "+ range loss": replace(PAPER, optimization=RANGE),
    "+ signed gradient": replace(PAPER, optimization=GENERAL.optimization),
    "+ knee": GENERAL,
}
SHOWN = ("clipped %", "black %", "Qabf", "paper loss", "deepest dent")


def score(settings: TrainingConfig, folder: Path) -> dict[str, float]:
    """Train, or take what is trained, and return the means of what is shown."""
    model = train(settings, folder, device="cpu", held_out=[])
    rows = model_quality.score(model.fuse, open_pairs(settings, held_out=True))
    dent = model_quality.dents(model_quality.responses(model.fuse)).max()
    return rows.mean().to_dict() | {"deepest dent": dent}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    options = parser.parse_args()
    rows = []
    for name, preset in INGREDIENTS.items():
        for seed in options.seeds:
            changes = {"optimization.epochs": options.epochs, "run.seed": seed}
            settings = TrainingConfig.from_dict(changes, preset)
            folder = options.out / f"{name.strip('+ ')} {seed}"
            rows.append({"ingredient": name, "seed": seed, **score(settings, folder)})
            print(rows[-1], flush=True)
    frame = pd.DataFrame(rows)
    frame.to_csv(options.out / "ingredients.csv", index=False)
    figures.style()
    draw(frame).savefig(options.out / "ingredients.svg")


def draw(frame: pd.DataFrame) -> plt.Figure:
    """Return a panel for each measure: a point a training, the mean as a line."""
    names = list(frame["ingredient"].unique())
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(12, 2.6), sharey=True, layout="tight")
    for axis, measure in zip(axes, SHOWN, strict=True):
        means = frame.groupby("ingredient", sort=False)[measure].mean()
        axis.plot(means, range(len(names)), color="0.6")
        axis.plot(frame[measure], frame["ingredient"].map(names.index), "o", color="C0")
        axis.set(title=measure, xlim=(min(0, axis.get_xlim()[0]), None))
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    return figure


if __name__ == "__main__":
    main()
