"""Training of MoE-Fusion: fusion network and detectors together, on one device or several.

The recipe is section 4.1 of Cao et al., ICCV 2023, here "Cao": Adam with 1e-4, 24 epochs, batches
of 4, alpha 10; one model per data set, and the last epoch is used. Where a run departs from it, its
settings say so, and they stay with the weights. The folder of a training holds ``state.pt``
(everything needed to go on; not an output that a workflow may delete), ``log.csv`` (a line an
epoch) and in the end ``model.safetensors`` and ``model.json``, which :func:`load` reads.

A run that is killed and resumed, or shared out among processes, computes the same
(:mod:`fusionlib.training.samples`)::

    torchrun --nproc-per-node 2 -m fusionlib.training --config settings.json --output FOLDER
    python -m fusionlib.training --preset general --seed 1 --output FOLDER
"""

from fusionlib.training.config import TrainingConfig, catalogued, open_pairs
from fusionlib.training.loop import train
from fusionlib.training.model import Model, attention_maps, load
from fusionlib.training.presets import PRESETS

__all__ = [
    "PRESETS",
    "Model",
    "TrainingConfig",
    "attention_maps",
    "catalogued",
    "load",
    "open_pairs",
    "train",
]
