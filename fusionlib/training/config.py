"""Training configuration: typed groups of settings, checked where they are written.

A configuration is read from the nested form, ``{"network": {"width": 8}}``, from dotted keys,
``{"network.width": 8}``, and from the flat names of earlier versions, which old checkpoints hold.
What is absent or switched off is ``None`` everywhere.
"""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from fusionlib import datasets, losses
from fusionlib.datasets import HELD_OUT_SEED, Pair, catalog
from fusionlib.detectors import KINDS
from fusionlib.networks.configuration import MoEFusionConfig
from fusionlib.training.sources import JoinedPairs, SourceConfig, as_sources, select

# ---- checks --------------------------------------------------------------------------------------

Natural = int
Count = int
NonNegative = float
Positive = float
Share = float
Counts = tuple[int, int]
Size = tuple[int, int]  # height, width
Names = tuple[str, ...]
Epochs = tuple[int, ...]


def is_whole(value: Any, least: int = 0) -> bool:
    """Tell whether a value is a whole number of at least ``least``; True and False are none."""
    return type(value) is int and value >= least


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number of at least 0."""
    return type(value) in (int, float) and 0 <= value < math.inf


def is_tuple(value: Any, of: Callable[[Any], bool], length: int | None = None) -> bool:
    """Tell whether a value is a tuple whose entries fulfil ``of``."""
    return isinstance(value, tuple) and length in (None, len(value)) and all(map(of, value))


# What is expected of a field, by its type, in words and as a test.
RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "None": ("None", lambda v: v is None),
    "bool": ("true or false", lambda v: type(v) is bool),
    "str": ("a text that is not empty", lambda v: type(v) is str and v != ""),
    "Natural": ("a whole number of at least 0", is_whole),
    "Count": ("a whole number of at least 1", lambda v: is_whole(v, 1)),
    "NonNegative": ("a number of at least 0", is_number),
    "Positive": ("a number above 0", lambda v: is_number(v) and v > 0),
    "Share": ("a number from 0 to 1", lambda v: is_number(v) and v <= 1),
    "Counts": ("two whole numbers of at least 0", lambda v: is_tuple(v, is_whole, 2)),
    # a single line of pixels cannot be mirrored
    "Size": (
        "height and width of at least 2 pixels",
        lambda v: is_tuple(v, lambda side: is_whole(side, 2), 2),
    ),
    "Names": (
        "different names, at least one",
        lambda v: is_tuple(v, RULES["str"][1]) and 0 < len(v) == len(set(v)),
    ),
    "Epochs": ("whole numbers of at least 0", lambda v: is_tuple(v, is_whole)),
}


def choice(*choices: str | None) -> Any:
    """Return a field with these choices, the first by default."""
    return field(default=choices[0], metadata={"choices": choices})


def one_of(choices: Iterable) -> str:
    """Return choices in words."""
    return f"one of {', '.join(map(repr, choices))}"


def check(config: Any, group: str) -> None:
    """Check the fields of a frozen dataclass by their choices or types; lists become tuples.

    Raises
    ------
    ValueError
        One sentence: the field, what was expected, what came.
    """
    for entry in fields(config):
        value = to_tuples(getattr(config, entry.name))
        object.__setattr__(config, entry.name, value)
        kinds, choices = str(entry.type).split(" | "), entry.metadata.get("choices")
        if choices:
            expected, fits = one_of(choices), value in choices
        elif all(kind in RULES for kind in kinds):
            expected = " or ".join(RULES[kind][0] for kind in kinds)
            fits = any(RULES[kind][1](value) for kind in kinds)
        else:
            continue  # checked by its own class
        if not fits:
            raise ValueError(f"{group}.{entry.name}: expected {expected}, got {value!r}")


def to_tuples(value: Any) -> Any:
    """Return lists as tuples, inner ones too, as a frozen dataclass needs to be hashable."""
    return tuple(map(to_tuples, value)) if isinstance(value, (list, tuple)) else value


# ---- groups --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataConfig:
    """Pairs to train on, and what is done to them."""

    folder: str | None = None  # of pairs; None for generated scenes
    # its name in the catalogue, whose layouts are then known; None: {ir,vi}/NAME with COCO boxes
    dataset: str | None = None
    split: str | None = "train"
    # several folders in place of the one, each with its share; objects as SourceConfig has them
    sources: tuple[SourceConfig, ...] = ()
    held_out: str | None = "val"  # split that the box AP is measured on
    annotations: str = "annotations.json"
    scenes: Counts = (64, 16)  # generated ones to train on, and to hold out
    classes: Names = ("person", "bicycle", "car")
    # ASSUMPTION: the size of the training images is not given; they are resized to 640x480, as in
    # the official code, and the boxes with them.
    size: Size | None = (480, 640)  # None leaves images as they are
    crop: Size | None = None  # random part, except while the detectors are trained alone
    flip: bool = False  # mirror every second sample

    def __post_init__(self):
        check(self, "data")
        object.__setattr__(self, "sources", as_sources(self.sources))

    @property
    def generated(self) -> bool:
        """Whether the pairs are generated scenes."""
        return not (self.folder or self.sources)

    @property
    def title(self) -> str:
        """What is trained on, in words, such as "roadscene, m3fd of general (train)"; or
        "generated scenes".
        """
        if self.generated:
            return "generated scenes"
        if not self.sources:
            return _named("", self.folder or "", self.split or "")
        patterns: dict[str, list[str]] = {}
        for part in self.sources:
            whole = _named(part.dataset, part.folder, part.split)
            patterns.setdefault(whole, []).append(part.names.rstrip("*_"))
        words = [
            f"{', '.join(names)} of {whole}" if all(names) else whole
            for whole, names in patterns.items()
        ]
        return ", ".join(words)


def _named(dataset: str, folder: str, split: str) -> str:
    return f"{dataset or Path(folder).name} ({split or 'all'})"


@dataclass(frozen=True)
class AugmentationConfig:
    """Augmentation, see :mod:`.augmentation`; ours, not the paper's, and off by default."""

    gamma: NonNegative = 0.0  # standard deviation of the logarithm of the exponent
    contrast: NonNegative = 0.0  # that of the logarithm of a factor about mid-gray
    offset: NonNegative = 0.0  # standard deviation, images in [0, 1]
    inverted: Share = 0.0  # share of the samples with an inverted infrared image
    flat: Share = 0.0  # share of the images of either kind that become one level of gray
    reduced: Share = 0.0  # share of the samples at half their size, where the crop allows it

    def __post_init__(self):
        check(self, "augmentation")


@dataclass(frozen=True)
class DetectorConfig:
    """Detectors whose attention maps guide the fusion network."""

    kind: str = "faster-rcnn"  # of detectors.KINDS
    size: str = "resnet50"  # of those that the kind offers
    shared: bool = False  # one detector for both modalities
    # detectors are trained along; "frozen": they stay; "uniform": there are none
    attention: str = choice("joint", "frozen", "uniform")
    imagenet: str | None = None  # torchvision's ResNet-50 file; None starts from scratch
    checkpoint: str | None = None  # folder of an earlier training whose detectors are taken over

    def __post_init__(self):
        check(self, "detectors")
        for name, choices in (
            ("kind", KINDS),
            ("size", getattr(KINDS.get(self.kind), "SIZES", ())),
        ):
            if (value := getattr(self, name)) not in choices:
                raise ValueError(
                    f"detectors.{name}: expected one of {', '.join(map(repr, choices))},"
                    f" got {value!r}"
                )


@dataclass(frozen=True)
class OptimizationConfig:
    """Recipe: steps, learning rates, losses."""

    epochs: Natural = 24
    detector_epochs: Natural = 0  # of the detectors alone, before
    batch: Count = 4  # over all processes
    repeat: Count = 1  # times that an epoch shows every pair
    lr: NonNegative = 1e-4
    gate_lr: NonNegative | None = None  # of the gates; None: as lr
    attention_fusion_lr: NonNegative | None = None  # of the convolutions behind Att; None: as lr
    detector_lr: NonNegative | None = None  # None: as lr
    detector_attention_lr: NonNegative | None = None  # None: as detector_lr
    warm_up: Natural = 0  # steps over which lr grows
    # lr falls to a tenth at each of lr_steps; "cosine": half a cosine to a twentieth
    decay: str = choice("steps", "cosine")
    lr_steps: Epochs = ()  # epochs
    weight_decay: NonNegative = 0.0
    clip: Positive | None = None  # largest norm of all gradients together
    alpha: NonNegative = losses.ALPHA
    pixel_loss: str | None = choice(None, *losses.READINGS)  # None: the network's reading
    importance_loss: bool | None = None  # None: as in the network's reading
    # ours, not the paper's: gradients with their sign, and a weight of what lies outside [0, 1]
    gradient: str = choice(*losses.GRADIENTS)
    range_loss: NonNegative = 0.0

    def __post_init__(self):
        check(self, "optimization")


@dataclass(frozen=True)
class RunConfig:
    """How a training is run; the last three have no influence on the result."""

    seed: Natural = 0  # of weights, order, crops and noise
    precision: str = choice("float32", "bfloat16", "float16")  # of the forward pass
    compile: bool = False  # the fusion network by torch.compile
    save_every: Natural = 0  # steps between checkpoints inside an epoch; 0 for none
    ap_every: Count = 1  # epochs between measurements of the box AP; the last is always measured
    # processes that read images; None: up to 4, one a core, on a GPU, none on a processor, where
    # they would only take cores from the training
    workers: Natural | None = None

    def __post_init__(self):
        check(self, "run")


WITHOUT_INFLUENCE = ("run.save_every", "run.ap_every", "run.workers")


@dataclass(frozen=True)
class TrainingConfig:
    """What a training is; the defaults are the paper's recipe, and the official code's where the
    paper is silent. The network's seed is always that of the run.
    """

    data: DataConfig = field(default_factory=DataConfig)
    network: MoEFusionConfig = field(default_factory=MoEFusionConfig)
    detectors: DetectorConfig = field(default_factory=DetectorConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    run: RunConfig = field(default_factory=RunConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    def __post_init__(self):
        for name, kind in GROUPS.items():
            if type(value := getattr(self, name)) is not kind:
                raise ValueError(f"{name}: expected a {kind.__name__}, got {value!r}")
        check(self.network, "network")
        object.__setattr__(self, "network", replace(self.network, seed=self.run.seed))
        trained = self.detectors.checkpoint or self.optimization.detector_epochs
        if self.detectors.attention == "frozen" and not trained:
            raise ValueError(
                "detectors.attention: 'frozen' expects trained detectors, by detectors.checkpoint"
                " or optimization.detector_epochs, got neither"
            )

    @classmethod
    def from_dict(cls, values: Mapping, base: TrainingConfig | None = None) -> TrainingConfig:
        """Build a configuration from a dict, such as a JSON file holds.

        Parameters
        ----------
        values : mapping
            Nested, dotted or former flat names; what it leaves out is as in ``base``.
        base : TrainingConfig, optional
            By default the paper's recipe.

        Raises
        ------
        ValueError
            A key that is no setting, with the nearest one; or a value that does not fit.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"settings: expected a JSON object, got {type(values).__name__}")
        base = base or cls()
        changes: dict[str, dict] = {}
        for key, value in dotted(values):
            group, _, name = key.partition(".")
            changes.setdefault(group, {})[name] = value
        return replace(
            base, **{group: replace(getattr(base, group), **new) for group, new in changes.items()}
        )

    def to_dict(self) -> dict:
        """Return the nested form as JSON holds it."""
        nested = json.loads(json.dumps(asdict(self)))
        del nested["network"]["seed"]
        return nested


GROUPS: dict[str, type] = {
    "data": DataConfig,
    "network": MoEFusionConfig,
    "detectors": DetectorConfig,
    "optimization": OptimizationConfig,
    "run": RunConfig,
    "augmentation": AugmentationConfig,
}
NAMES = [f"{group}.{entry.name}" for group, kind in GROUPS.items() for entry in fields(kind)]
NAMES.remove("network.seed")
# Flat names of earlier versions; the former "" for nothing is None.
FORMER = {name.partition(".")[2]: name for name in NAMES if name.startswith(("data", "opt", "run"))}
FORMER |= {"data": "data.folder", "model": "network", "detector": "detectors"}
FORMER |= {name: f"detectors.{name}" for name in ("attention", "imagenet")}
FORMER |= {"detectors_from": "detectors.checkpoint", "att_lr": "optimization.attention_fusion_lr"}
FORMER["attention_lr"] = "optimization.detector_attention_lr"


# radon C: nested, dotted and former flat names in one pass
def dotted(values: Mapping) -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of each setting in any of the forms; ValueError for a key
    that is none.
    """
    for key, value in values.items():
        nested = isinstance(value, Mapping)
        name = key if nested and key == "data" else FORMER.get(key, key)
        if nested and name in GROUPS:
            yield from dotted({f"{name}.{inner}": entry for inner, entry in value.items()})
        elif name in NAMES:
            yield name, None if key in FORMER and value == "" else value
        else:
            short = {known.partition(".")[2]: known for known in NAMES}
            nearest = difflib.get_close_matches(str(key).rpartition(".")[2], short, 1, 0)[0]
            raise ValueError(
                f"settings: expected known names, got {key!r}; nearest: {short[nearest]!r}"
            )


# ---- pairs ---------------------------------------------------------------------------------------


def catalogued(dataset: str, directory: str | os.PathLike = "") -> dict:
    """Return the settings that come with a data set of the catalogue, its name and its classes; {}
    for any other. ``directory`` as for :func:`fusionlib.datasets.catalog.entries`.
    """
    name = catalog.known(dataset, directory=directory)
    if not name:
        return {}
    return {"data.dataset": name, "data.classes": catalog.classes(name, directory)}


# radon C: generated scenes, a folder, several folders
def open_pairs(settings: TrainingConfig, held_out: bool = False, **options) -> Sequence[Pair]:
    """Return the pairs to train on, or those held out (none where no split is named).

    Parameters
    ----------
    settings : TrainingConfig
    held_out : bool
    **options
        Of :func:`fusionlib.datasets.open_pairs`, in place of what the settings say.
    """
    data = settings.data
    options = {"classes": data.classes, "size": data.size} | options
    if data.sources:
        return _open_sources(data, held_out, options)
    if data.folder:
        split = data.held_out if held_out else data.split
        options |= {"dataset": data.dataset or "", "split": split or ""}
        options |= {"annotations": data.annotations}
        none = held_out and not split
    else:
        count = options.get("limit") or data.scenes[held_out]
        options |= {"seed": HELD_OUT_SEED if held_out else 0, "limit": count}
        none = count == 0
    return [] if none else datasets.open_pairs(data.folder or "", **options)


def _open_sources(data: DataConfig, held_out: bool, options: dict) -> Sequence[Pair]:
    """Return the pairs of all sources, by their patterns and shares; held out, the whole split of
    each folder once.
    """
    if not held_out:
        parts = [
            select(
                datasets.open_pairs(part.folder, part.dataset, part.split, **options), part.names
            )
            for part in data.sources
        ]
        return JoinedPairs(parts, [part.share for part in data.sources])
    if not data.held_out:
        return []
    folders = dict.fromkeys((part.folder, part.dataset) for part in data.sources)
    parts = [datasets.open_pairs(*folder, data.held_out, **options) for folder in folders]
    return JoinedPairs(parts, [1.0] * len(parts))
