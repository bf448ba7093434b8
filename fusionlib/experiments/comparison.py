"""Many methods over one set of pairs: fuse each once, score from disk, and say what became of each.

A method without weights and one that crashes are named in a status and the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from torch.utils.data import Subset

from fusionlib import methods, scoring
from fusionlib.datasets import catalog
from fusionlib.datasets.infrared_visible import InfraredVisible, Pair
from fusionlib.datasets.scenes import scene
from fusionlib.experiments import protocol
from fusionlib.experiments.protocol import Sources
from fusionlib.methods.learned import MOE_FUSION
from fusionlib.networks import COMPARED
from fusionlib.training.settings import HELD_OUT_SEED

TRIVIAL = ("infrared", "visible", "average", "maximum")
TRAINED_ON = {name: network.trained_on for name, network in COMPARED.items()}
# By the first letters of a data set's name, lower case. RoadScene is made of FLIR's frames.
FAMILIES = {
    "m3fd": "M3FD",
    "flir": "FLIR",
    "roadscene": "FLIR",
    "llvip": "LLVIP",
    "msrs": "MSRS",
    "tno": "TNO",
    "kaist": "KAIST",
}
GENERATED = "generated scenes"
# the parts that MoE-Fusion is evaluated on, by the published lists
EVALUATED = {("FLIR-aligned", "test"), ("LLVIP", "test")}


def pairs(
    data: str = "",
    limit: int = 0,
    split: str = "",
    dataset: str = "",
    size: tuple[int, int] = (96, 128),
) -> Iterable[Pair]:
    """Return the first ``limit`` pairs of a folder (0: all), read when asked for, again at each
    pass.

    Parameters
    ----------
    data : path
        In the layout that the catalogue knows for ``dataset``, else ``{ir,vi}/NAME``. "" for
        generated scenes that no training here has seen, of ``size``, 8 of them where ``limit`` is
        0.
    split : str
        "" for all.
    """
    if not data:
        made = [
            (seed, scene(seed, size)) for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + (limit or 8))
        ]
        return [
            Pair(f"scene-{seed}", one.infrared, one.visible, one.boxes, one.labels)
            for seed, one in made
        ]

    def opened(**options):
        if catalog.known(dataset):
            return catalog.open_pairs(dataset, data, split or None, **options)
        return InfraredVisible(data, split or None, **options)

    return opened(names=opened().names[:limit]) if limit else opened()


def readable(pairs: Sequence[Pair]) -> tuple[Sequence[Pair], list[str]]:
    """Return the pairs that can be read, still read when asked for, and a sentence for each that
    cannot.
    """
    good, problems = [], []
    for number in range(len(pairs)):
        try:
            pairs[number]
            good.append(number)
        except (OSError, ValueError) as error:
            problems.append(str(error))
    return Subset(pairs, good) if problems else pairs, problems


def split_of(dataset: str, split: str) -> str:
    """Return what the results call a split: "evaluation" where it is the one of the printed tables,
    image by image.

    The 300 pairs of M3FD were never published, so no part of it carries the name.
    """
    return "evaluation" if (dataset, split) in EVALUATED else split


def get(name: str, weights: str = "", checkpoint: str = "", device: str = "auto") -> methods.Method:
    """Return a method with the weights that are meant for it: the official ones, or a training of
    MoE-Fusion.
    """
    meant = {MOE_FUSION: checkpoint or None, **dict.fromkeys(COMPARED, weights or None)}
    return methods.get(name, checkpoint=meant.get(name), device=device)


def fuse(
    chosen: Mapping[str, methods.Method],
    pairs: Iterable[Pair],
    sources: Sources,
    folder: str | Path,
    resolution: str = "native",
    progress: bool = True,
) -> dict[str, str]:
    """Fuse by every method into ``folder/METHOD``; images that are there already and the same are
    kept.

    Returns
    -------
    dict
        ``{name: status}``: "" where all pairs were fused, else why there are no images: no weights,
        or the error.
    """
    status = {}
    for name, method in chosen.items():
        try:
            reason = methods.missing_weights(method)
            if not reason:
                protocol.fuse(method, pairs, sources, Path(folder) / name, resolution, progress)
            status[name] = f"no weights: {reason}" if reason else ""
        except Exception as error:  # whatever one method does, the rows of the others stand
            status[name] = f"failed: {type(error).__name__}: {error}"
    return status


def import_fused_folders(
    folders: Mapping[str, str | Path], sources: Sources, folder: str | Path
) -> dict[str, str]:
    """Take somebody's fused images, one named as each pair, as the rows ``{name: their folder}``;
    status as :func:`fuse`.
    """
    status = {}
    for name, source in folders.items():
        try:
            methods.import_fused_folder(name, source, sources.names, Path(folder) / name)
            status[name] = ""
        except (OSError, ValueError) as error:
            status[name] = f"failed: {error}"
    return status


def score(
    names: Iterable[str],
    sources: Sources,
    folder: str | Path,
    metrics: Iterable[str],
    conventions: Iterable[str],
    processes: int = 1,
    progress: bool = True,
) -> tuple[pd.DataFrame, list[str]]:
    """Score the gray images of ``folder/METHOD``.

    Returns
    -------
    DataFrame, list of str
        Rows of :func:`fusionlib.scoring.score_folder` with ``method`` added; a sentence for each
        file left out.
    """
    frames, problems = [], []
    for name in names:
        found = scoring.score_folder(
            Path(folder) / name / "gray",
            sources.infrared,
            sources.visible,
            metrics,
            conventions,
            processes=processes,
            progress=progress,
        )
        frames.append(found.frame.assign(method=name))
        problems += found.problems
    columns = ["method", *scoring.COLUMNS]
    return (
        pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
    ), problems


def trained_on(method: methods.Method) -> str:
    """Return what the weights of a method were trained on; "nothing" where there are none, "" where
    nobody says.

    Raises
    ------
    FileNotFoundError
        MoE-Fusion without weights: what it was trained on is written beside them.
    """
    if method.name == MOE_FUSION:
        settings = method.function.network.record["settings"]
        return (
            f"{Path(settings['data']).name} ({settings['split']})"
            if settings["data"]
            else GENERATED
        )
    return TRAINED_ON.get(method.name, "nothing")


def weights_of(method: methods.Method) -> str:
    """Say whose weights a method has, for the column ``checkpoint`` of results; "" where it needs
    none.
    """
    if method.name in COMPARED:
        return "official"
    return f"trained here on {trained_on(method)}" if method.name == MOE_FUSION else ""


def family(dataset: str) -> str:
    """Return the data set that images belong to by the name of theirs: "FLIR" for "roadscene"; ""
    if unknown.
    """
    return next((name for start, name in FAMILIES.items() if dataset.lower().startswith(start)), "")


def overlap(chosen: Mapping[str, methods.Method], dataset: str) -> pd.DataFrame:
    """Say which methods were trained on images of the data set that they are compared on.

    Returns
    -------
    DataFrame indexed by method
        trained_on, and overlap: "same data set" (its training part at least), "none known", "not
        known" where nobody says what it was trained on.
    """
    rows = []
    for name, method in chosen.items():
        source = trained_on(method)
        same = bool(family(dataset)) and family(dataset) in {
            family(part) for part in source.split(", ")
        }
        said = "same data set" if same else "none known" if source else "not known"
        rows.append({"method": name, "trained_on": source or "not said", "overlap": said})
    return pd.DataFrame(rows, columns=["method", "trained_on", "overlap"]).set_index("method")
