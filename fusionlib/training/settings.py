"""What a training of MoE-Fusion is: one set of settings, its presets, and the pairs it means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields

from fusionlib import datasets, losses
from fusionlib.datasets import HELD_OUT_SEED, Pair, catalog

CHOICES = {
    "attention": ("joint", "frozen", "uniform"),
    "precision": ("float32", "bfloat16", "float16"),
    "decay": ("steps", "cosine"),
    "pixel_loss": ("", *losses.READINGS),
}
LEAST = {
    "batch": 1,
    "repeat": 1,
    "ap_every": 1,
    "epochs": 0,
    "detector_epochs": 0,
    "seed": 0,
    "warm_up": 0,
    "save_every": 0,
    "workers": 0,
    "lr": 0.0,
    "alpha": 0.0,
    "weight_decay": 0.0,
}


@dataclass(frozen=True)
class Settings:
    """What a training is; the defaults are the paper's recipe, and the official code's where the
    paper is silent.
    """

    # data
    data: str = ""  # a folder of pairs; "" for generated scenes
    # its name in the catalogue, whose layouts are then known; "": {ir,vi}/NAME with COCO boxes
    dataset: str = ""
    split: str = "train"
    held_out: str = "val"  # split that the box AP is measured on; "" for none
    annotations: str = "annotations.json"
    scenes: tuple[int, int] = (64, 16)  # how many generated scenes to train on, and to hold out
    classes: tuple[str, ...] = ("person", "bicycle", "car")
    # ASSUMPTION: the size of the training images is not given; they are resized to 640x480, as in
    # the official code, and the boxes with them.
    size: tuple[int, int] | None = (480, 640)  # height, width; None leaves images as they are
    # random part of that size, except while the detectors are trained alone
    crop: tuple[int, int] | None = None
    flip: bool = False  # mirror every second sample
    # networks
    model: dict = field(default_factory=dict)  # arguments of networks.MoEFusion
    detector: dict = field(default_factory=dict)  # arguments of detectors.Detectors
    imagenet: str = ""  # torchvision's ResNet-50 file; "" starts from scratch
    detectors_from: str = ""  # folder of an earlier training whose detectors are taken over
    # detectors are trained along; "frozen": they stay; "uniform": there are none
    attention: str = "joint"
    # recipe
    epochs: int = 24
    detector_epochs: int = 0  # of the detectors alone, before
    batch: int = 4  # over all processes
    repeat: int = 1  # times that an epoch shows every pair
    lr: float = 1e-4
    gate_lr: float | None = None  # of the gates; None: as lr
    att_lr: float | None = None  # of the convolutions behind Att; None: as lr
    detector_lr: float | None = None  # None: as lr
    attention_lr: float | None = None  # of the detectors' attention; None: as detector_lr
    warm_up: int = 0  # steps over which lr grows
    # lr falls to a tenth at each of lr_steps; "cosine": half a cosine to a twentieth
    decay: str = "steps"
    lr_steps: tuple[int, ...] = ()  # epochs
    weight_decay: float = 0.0
    clip: float | None = None  # largest norm of all gradients together
    alpha: float = losses.ALPHA
    pixel_loss: str = ""  # reading of the pixel loss; "": the network's
    importance_loss: bool | None = None  # None: as in the network's reading
    precision: str = "float32"  # of the forward pass
    seed: int = 0
    # without influence on the result
    save_every: int = 0  # steps between checkpoints inside an epoch; 0 for none
    ap_every: int = 1  # epochs between measurements of the box AP; the last is always measured
    workers: int = 0  # processes that read images

    def __post_init__(self):
        for one in fields(self):
            if isinstance(value := getattr(self, one.name), list):
                object.__setattr__(self, one.name, tuple(value))
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ValueError(
                    f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}"
                )
        for name, least in LEAST.items():
            value, kinds = getattr(self, name), (int,) if isinstance(least, int) else (int, float)
            if type(value) not in kinds or not value >= least:
                kind = "a whole number" if kinds == (int,) else "a number"
                raise ValueError(f"{name}: expected {kind} of at least {least}, got {value!r}")
        if self.attention == "frozen" and not (self.detectors_from or self.detector_epochs):
            raise ValueError(
                "attention: 'frozen' expects trained detectors, by detectors_from or"
                " detector_epochs, got neither"
            )

    @classmethod
    def of(cls, values: dict) -> Settings:
        """Build settings from a dict, such as a JSON file holds; raise ValueError for a key that is
        none of them.
        """
        if not isinstance(values, dict):
            raise ValueError(f"settings: expected a JSON object, got {type(values).__name__}")
        known = [one.name for one in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(
                f"settings: expected keys out of {', '.join(known)}, got {unknown[0]!r}"
            )
        return cls(**values)

    def dict(self, everything: bool = True) -> dict:
        """Return the settings as JSON holds them, on request without those that have no influence
        on the result.
        """
        left_out = () if everything else ("save_every", "ap_every", "workers")
        return {k: v for k, v in json.loads(json.dumps(asdict(self))).items() if k not in left_out}


# What the official code does beyond the paper.
OFFICIAL = Settings(
    model={"reading": "official"}, weight_decay=1e-4, lr_steps=(16, 22), clip=35.0, repeat=3
)
# Two processor cores, a minute: a small network, detectors first and then kept, parts of images,
# larger steps. The detectors' attention learns faster than the rest of them: f (1 + a) gives it so
# little gradient that it would stay where it started. The convolutions behind Att learn slowly: no
# term of the loss tells foreground from background, so larger steps may well exchange the two.
SMOKE = Settings(
    scenes=(48, 16),
    size=None,
    crop=(40, 40),
    model={"width": 8, "gate_grid": [[8, 10], [8, 10]]},
    detector={"size": "small"},
    attention="frozen",
    detector_epochs=16,
    epochs=60,
    lr=1e-3,
    detector_lr=2e-3,
    attention_lr=2e-2,
    att_lr=1e-4,
    warm_up=10,
    decay="cosine",
)


def catalogued(dataset: str, folder: str = "") -> dict:
    """Return the settings that come with a data set of the catalogue, or of ``dataset.yaml`` in its
    folder: its name and its classes; {} for any other.
    """
    name = catalog.known(dataset, directory=folder)
    return {"dataset": name, "classes": catalog.classes(name, folder)} if name else {}


def open_pairs(settings: Settings, held_out: bool = False, **options) -> Sequence[Pair]:
    """Return the pairs to train on, or those held out (none where no split is named).

    Parameters
    ----------
    settings : Settings
    held_out : bool
    **options
        Of :func:`fusionlib.datasets.open_pairs`, in place of what the settings say.
    """
    options = {"classes": settings.classes, "size": settings.size} | options
    if settings.data:
        split = settings.held_out if held_out else settings.split
        options |= {"dataset": settings.dataset, "split": split}
        options |= {"annotations": settings.annotations}
        none = held_out and not split
    else:
        count = options.get("limit") or settings.scenes[held_out]
        options |= {"seed": HELD_OUT_SEED if held_out else 0, "limit": count}
        none = count == 0
    return [] if none else datasets.open_pairs(settings.data, **options)
