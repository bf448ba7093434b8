"""Many methods over one set of pairs: fuse each once, score from disk, and say what became of each.

A method without weights and one that crashes are named in a status and the others go on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from fusionlib import images, methods, scoring
from fusionlib.datasets import Pair, catalog
from fusionlib.experiments import protocol
from fusionlib.experiments.protocol import Sources
from fusionlib.methods.learned import MOE_FUSION, ComparedNetwork, MoEFusionMethod
from fusionlib.metrics import exposure
from fusionlib.networks import COMPARED

TRIVIAL = ("infrared", "visible", "average", "maximum")


def split_of(dataset: str, split: str) -> str:
    """Return what the results call a split: "evaluation" where it is the one of the printed tables,
    image by image.

    The 300 pairs of M3FD were never published, so no part of it carries the name.
    """
    return "evaluation" if catalog.is_evaluation(dataset, split) else split


def get(name: str, weights: str = "", checkpoint: str = "", device: str = "auto") -> methods.Method:
    """Return a method with the weights that are meant for it.

    Parameters
    ----------
    name : str
        "NAME VARIANT" for a variant.
    weights : path
        Folder of official weights, for a compared network; "" for :mod:`fusionlib.places`.
    checkpoint : str
        For MoE-Fusion without a variant: folder of a training, or the name of a variant, such as
        :func:`own_weights` gives.
    device : str
        "auto", "cpu" or "cuda".
    """
    plain, _, variant = name.partition(" ")
    if plain != MOE_FUSION:
        folder = weights if plain in COMPARED else ""
        return methods.get(plain, variant or None, folder or None, device)
    if not variant and checkpoint in methods.OWN_WEIGHTS:
        variant = checkpoint
    return methods.get(plain, variant or None, None if variant else checkpoint or None, device)


def own_weights(data: str) -> str:
    """Return which of MoE-Fusion's weights a notebook takes unless told: those of generated scenes
    on generated scenes, where ``data`` is "", the general ones on anybody's images.
    """
    return "general" if data else "scenes"


def fuse(
    chosen: Mapping[str, methods.Method],
    pairs: Sequence[Pair],
    sources: Sources,
    folder: str | Path,
    resolution: str = "native",
    progress: bool = True,
) -> dict[str, str]:
    """Fuse by every method into ``folder/METHOD``; images that are there already and the same are
    kept.

    Parameters
    ----------
    chosen : {name: Method}
    pairs, sources, resolution
        As for :func:`fusionlib.experiments.protocol.fuse`.
    folder : path
    progress : bool
        Show a bar for each method.

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
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Take somebody's fused images, named as the pairs, as the rows ``{name: their folder}``.

    Parameters
    ----------
    folders : mapping of str to path
        Name of a row -> folder of fused images.
    sources : Sources
        The pairs as they are scored.
    folder : path
        Below it the images are taken in, ``NAME/gray``.

    Returns
    -------
    dict, dict
        Status as of :func:`fuse`, and the pairs that a row has no image of, where there are any.

    Raises
    ------
    ValueError
        A name that a method has, or that is no name of a folder; no folder.
    """
    for name, source in folders.items():
        if name in methods.names() or not images.is_name(name):
            raise ValueError(f"folders: expected names of new methods, without /, got {name!r}")
        if not isinstance(source, str | os.PathLike):
            raise ValueError(f"folders: expected the path of {name}'s images, got {source!r:.80}")
    status, lacking = {}, {}
    for name, source in folders.items():
        try:
            home = Path(folder) / name
            if missing := methods.import_fused_folder(name, source, sources.names, home):
                lacking[name] = missing
            status[name] = ""
        except (OSError, ValueError) as error:
            status[name] = f"failed: {error}"
    return status, lacking


def common_images(scores: pd.DataFrame) -> list[str]:
    """Return the images that every method of :func:`score` was scored on, in their order."""
    by_method = scores.groupby("method")["image"].agg(set)
    shared = set.intersection(*by_method) if len(by_method) else set()
    return [image for image in scores["image"].unique() if image in shared]


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

    Parameters
    ----------
    names : iterable of str
        Of the methods.
    sources : Sources
        What they were fused from.
    folder : path
    metrics, conventions : iterable of str
    processes : int
    progress : bool
        Show a bar for each method.

    Returns
    -------
    DataFrame, list of str
        Rows of :func:`fusionlib.scoring.score_folder` with ``method`` and ``group`` added; a
        sentence for each file left out.
    """
    frames, problems = [], []
    groups = dict(zip(sources.names, sources.groups, strict=True))
    for name in names:
        scored = scoring.score_folder(
            Path(folder) / name / "gray",
            sources.infrared,
            sources.visible,
            metrics,
            conventions,
            processes=processes,
            progress=progress,
            kept=Path(folder) / name / "scores.jsonl",
        )
        group = scored.frame["image"].map(groups)
        frames.append(scored.frame.assign(method=name, group=group))
        problems += scored.problems
    columns = ["method", *scoring.COLUMNS, "group"]
    return (
        pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
    ), problems


def lost_pixels(names: Iterable[str], sources: Sources, folder: str | Path) -> pd.DataFrame:
    """Return clipped and black pixels of the gray images of ``folder/METHOD``, in percent, mean
    over the images: a row a method, see :mod:`fusionlib.metrics.exposure`.
    """
    rows = {}
    for name in names:
        folders = Path(folder) / name / "gray", sources.infrared, sources.visible
        files = [images.list_images(path) for path in folders]
        shares = []
        for image in files[0].keys() & set(sources.names):
            triplet = [images.luma(images.read(paths[image])) for paths in files]
            shares.append(exposure.shares(*triplet))
        rows[name] = pd.DataFrame(shares).mean()
    return pd.DataFrame(rows).T


# radon C: variants and resolutions, not both at once
def alternatives(
    done: Mapping[str, methods.Method],
    pairs: Sequence[Pair],
    sources: Sources,
    folder: Path,
    resolution: str,
    resolutions: Sequence[str],
    every_variant: bool = False,
) -> list[protocol.Candidate]:
    """Return what may be behind printed rows: the compared networks as they were fused, then in
    other variants and at other resolutions (not both at once), into ``tried`` beside ``folder``.

    Parameters
    ----------
    done : {name: Method}
        Fused from ``sources`` into ``folder/NAME`` at ``resolution``; other methods are left out.
    pairs, sources, resolution
        As for :func:`fuse`.
    folder : path
    resolutions : sequence of str
        Empty: nothing is tried, and nothing returned.
    every_variant : bool
        At ``resolution``, if it is one of ``resolutions``, all variants that have weights.
    """
    networks = {name: method for name, method in done.items() if name in COMPARED and resolutions}
    made = [
        protocol.Candidate(name, method.variant, resolution, folder / name / "gray", *sources[:2])
        for name, method in networks.items()
    ]
    others = [
        methods.get(
            name, variant, method.checkpoint or None, getattr(method.function, "device", "auto")
        )
        for name, method in networks.items()
        for variant in method.variants
        if every_variant and variant != method.variant
    ]
    others = [method for method in others if not methods.missing_weights(method)]
    for size in resolutions:
        if chosen := others if size == resolution else list(networks.values()):
            made += protocol.candidates(chosen, pairs, folder.parent / "tried", [size])
    return made


def trained_on(method: methods.Method) -> str:
    """Return what the weights of a method were trained on; "nothing" where there are none, "" where
    nobody says.

    Raises
    ------
    FileNotFoundError
        MoE-Fusion without weights: what it was trained on is written beside them.
    """
    if isinstance(method.function, MoEFusionMethod):
        return method.function.network.settings.data.title
    if isinstance(method.function, ComparedNetwork):
        return "" if method.function.unverified else COMPARED[method.name].trained_on
    return "nothing"


def weights_of(method: methods.Method) -> str:
    """Return whose weights a method has, for the column ``checkpoint`` of results; "" where it
    needs none.
    """
    if isinstance(method.function, ComparedNetwork):
        return "unverified" if method.function.unverified else "official"
    return f"trained here on {trained_on(method)}" if method.name == MOE_FUSION else ""


def overlap(chosen: Mapping[str, methods.Method], dataset: str) -> pd.DataFrame:
    """Return which methods were trained on images of the data set that they are compared on.

    Returns
    -------
    DataFrame indexed by method
        trained_on, and overlap: "same data set" (its training part at least), "none known", "not
        known" where nobody says what it was trained on.
    """
    rows = []
    for name, method in chosen.items():
        source = trained_on(method)
        origins = {catalog.family(part) for part in source.split(", ")}
        same = catalog.family(dataset) in origins
        verdict = "none known" if source else "not known"
        verdict = "same data set" if same else verdict
        rows.append({"method": name, "trained_on": source or "not said", "overlap": verdict})
    return pd.DataFrame(rows, columns=["method", "trained_on", "overlap"]).set_index("method")
