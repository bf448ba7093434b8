"""Training configuration: typed groups of settings, checked where they are written, and presets.

A configuration is read from the nested form, ``{"network": {"width": 8}}``, from dotted keys,
``{"network.width": 8}``, and from the flat names of earlier versions, which old checkpoints hold.
What is absent or switched off is ``None`` everywhere.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from fusionlib import losses
from fusionlib.datasets import catalog
from fusionlib.datasets.infrared_visible import InfraredVisible, Pair
from fusionlib.datasets.scenes import scene
from fusionlib.detectors import KINDS
from fusionlib.networks.configuration import MoEFusionConfig

HELD_OUT_SEED = 1000  # scenes from this seed on are never trained on


# ---- checks --------------------------------------------------------------------------------------


class Range(NamedTuple):
    """Smallest value of a number; ``open`` excludes the value itself."""

    least: float
    open: bool = False


Natural = Annotated[int, Range(0)]
Count = Annotated[int, Range(1)]
Side = Annotated[int, Range(2)]  # pixels; a single line of them cannot be mirrored
NonNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, open=True)]
Size = tuple[Side, Side]  # height, width


def check(config: Any, group: str) -> None:
    """Check the fields of a frozen dataclass by their type hints; lists become tuples.

    Raises
    ------
    ValueError
        One sentence: the field, what was expected, what came.
    """
    hints = get_type_hints(type(config), include_extras=True)
    for name in (entry.name for entry in fields(config)):
        value = to_tuples(getattr(config, name))
        object.__setattr__(config, name, value)
        if not fits(value, hints[name]):
            raise ValueError(f"{group}{name}: expected {description(hints[name])}, got {value!r}")


def to_tuples(value: Any) -> Any:
    """Return lists as tuples, inner ones too, as a frozen dataclass needs to be hashable."""
    return tuple(map(to_tuples, value)) if isinstance(value, (list, tuple)) else value


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a value has the type, the range or the choices of a type hint."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limit = arguments[1]
        if not fits(value, arguments[0]):
            return False
        return value > limit.least if limit.open else value >= limit.least
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin in (Union, UnionType):
        return any(fits(value, choice) for choice in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        inner = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return len(inner) == len(value) and all(map(fits, value, inner))
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if hint is str:
        return type(value) is str and value != ""
    return type(value) is hint if isinstance(hint, type) else True


def one_of(choices: Iterable) -> str:
    """Return the choices in words."""
    return f"one of {', '.join(map(repr, choices))}"


def description(hint: Any) -> str:
    """Return in words what :func:`fits` expects."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limit = "above" if arguments[1].open else "of at least"
        return f"{description(arguments[0])} {limit} {arguments[1].least}"
    if origin is Literal:
        return one_of(arguments)
    if origin in (Union, UnionType):
        return " or ".join(map(description, arguments))
    if origin is tuple:
        count = "any number of values" if arguments[-1] is Ellipsis else f"{len(arguments)} values"
        return f"{count}, each {description(arguments[0])}"
    words = {int: "a whole number", float: "a number", str: "a text that is not empty"}
    words |= {bool: "true or false", type(None): "None"}
    return words.get(hint) or f"a {getattr(hint, '__name__', hint)}"


# ---- groups --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataConfig:
    """Pairs to train on, and what is done to them."""

    folder: str | None = None  # of pairs; None for generated scenes
    # its name in the catalogue, whose layouts are then known; None: {ir,vi}/NAME with COCO boxes
    dataset: str | None = None
    split: str | None = "train"
    held_out: str | None = "val"  # split that the box AP is measured on
    annotations: str = "annotations.json"
    scenes: tuple[Natural, Natural] = (64, 16)  # generated ones to train on, and to hold out
    classes: tuple[str, ...] = ("person", "bicycle", "car")
    # ASSUMPTION: the size of the training images is not given; they are resized to 640x480, as in
    # the official code, and the boxes with them.
    size: Size | None = (480, 640)  # None leaves images as they are
    crop: Size | None = None  # random part, except while the detectors are trained alone
    flip: bool = False  # mirror every second sample

    def __post_init__(self):
        check(self, "data.")
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(
                f"data.classes: expected different names, at least one, got {self.classes}"
            )


@dataclass(frozen=True)
class DetectorConfig:
    """Detectors whose attention maps guide the fusion network."""

    kind: str = "faster-rcnn"  # of detectors.KINDS
    size: str = "resnet50"  # of those that the kind offers
    shared: bool = False  # one detector for both modalities
    # detectors are trained along; "frozen": they stay; "uniform": there are none
    attention: Literal["joint", "frozen", "uniform"] = "joint"
    imagenet: str | None = None  # torchvision's ResNet-50 file; None starts from scratch
    checkpoint: str | None = None  # folder of an earlier training whose detectors are taken over

    def __post_init__(self):
        check(self, "detectors.")
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
    decay: Literal["steps", "cosine"] = "steps"
    lr_steps: tuple[Natural, ...] = ()  # epochs
    weight_decay: NonNegative = 0.0
    clip: Positive | None = None  # largest norm of all gradients together
    alpha: NonNegative = losses.ALPHA
    pixel_loss: Literal["paper", "official"] | None = None  # its reading; None: the network's
    importance_loss: bool | None = None  # None: as in the network's reading

    def __post_init__(self):
        check(self, "optimization.")


@dataclass(frozen=True)
class RunConfig:
    """How a training is run; the last three have no influence on the result."""

    seed: Natural = 0  # of weights, order, crops and noise
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # of the forward pass
    compile: bool = False  # the fusion network by torch.compile
    save_every: Natural = 0  # steps between checkpoints inside an epoch; 0 for none
    ap_every: Count = 1  # epochs between measurements of the box AP; the last is always measured
    # processes that read images; None: up to 4, one a core, on a GPU, none on a processor, where
    # they would only take cores from the training
    workers: Natural | None = None

    def __post_init__(self):
        check(self, "run.")


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

    def __post_init__(self):
        check(self, "")
        check(self.network, "network.")
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
}
NAMES = [f"{group}.{entry.name}" for group, kind in GROUPS.items() for entry in fields(kind)]
NAMES.remove("network.seed")
# Flat names of earlier versions; the former "" for nothing is None.
FORMER = {name.partition(".")[2]: name for name in NAMES if name.startswith(("data", "opt", "run"))}
FORMER |= {"data": "data.folder", "model": "network", "detector": "detectors"}
FORMER |= {name: f"detectors.{name}" for name in ("attention", "imagenet")}
FORMER |= {"detectors_from": "detectors.checkpoint", "att_lr": "optimization.attention_fusion_lr"}
FORMER["attention_lr"] = "optimization.detector_attention_lr"


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


# ---- presets -------------------------------------------------------------------------------------

# What the official code does beyond the paper.
OFFICIAL = TrainingConfig(
    network=MoEFusionConfig("official"),
    optimization=OptimizationConfig(weight_decay=1e-4, lr_steps=(16, 22), clip=35.0, repeat=3),
)
# Two processor cores, a minute: a small network, detectors first and then kept, parts of images,
# larger steps. The detectors' attention learns faster than the rest of them: f (1 + a) gives it so
# little gradient that it would stay where it started. The convolutions behind Att learn slowly: no
# term of the loss tells foreground from background, so larger steps may well exchange the two.
SMOKE = TrainingConfig(
    DataConfig(scenes=(48, 16), size=None, crop=(40, 40)),
    MoEFusionConfig(width=8, gate_grid=((8, 10), (8, 10))),
    DetectorConfig(size="small", attention="frozen"),
    OptimizationConfig(
        detector_epochs=16,
        epochs=60,
        lr=1e-3,
        detector_lr=2e-3,
        detector_attention_lr=2e-2,
        attention_fusion_lr=1e-4,
        warm_up=10,
        decay="cosine",
    ),
)


# ---- pairs ---------------------------------------------------------------------------------------


def catalogued(dataset: str) -> dict:
    """Return the settings that come with a data set of the catalogue, its name and its classes; {}
    for any other.
    """
    name = catalog.known(dataset)
    return {"data.dataset": name, "data.classes": catalog.classes(name)} if name else {}


def open_pairs(settings: TrainingConfig, held_out: bool = False) -> Sequence[Pair]:
    """Return the pairs to train on, or those held out (none where no split is named)."""
    data = settings.data
    if data.folder:
        split = data.held_out if held_out else data.split
        if held_out and not split:
            return []
        if data.dataset:
            pairs = catalog.open_pairs(
                data.dataset, data.folder, split, classes=data.classes, size=data.size
            )
        else:
            pairs = InfraredVisible(
                data.folder,
                split,
                annotations=data.annotations,
                classes=data.classes,
                size=data.size,
            )
        return cast(Sequence[Pair], pairs)
    start = HELD_OUT_SEED if held_out else 0
    streets = []
    for seed in range(start, start + data.scenes[held_out]):
        street = scene(seed, data.size or (96, 128))
        parts = street.infrared, street.visible, street.boxes, street.labels
        streets.append(Pair(f"scene-{seed:04d}", *parts))
    return streets
