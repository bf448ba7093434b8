"""What a paper leaves open about its numbers: the size of the images, the metrics' convention, a
method's variant.

:func:`fuse` runs a method at one of the :data:`RESOLUTIONS`; :func:`find` tells from printed
numbers and folders of fused images which convention, resolution and variant explain them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from fusionlib import images, metrics, scoring
from fusionlib.datasets import Pair
from fusionlib.methods import Method, fuse_pairs
from fusionlib.methods.folders import MADE_FROM
from fusionlib.published import decimals, half_unit

# ASSUMPTION: MoE-Fusion does not say at which size images were fused and scored; its official
# program resizes all to 640x480. The default here is the size of the sources.
RESOLUTIONS = {
    "native": "fused and scored at the size of the sources",
    "640x480": "sources resized to 640x480 (width x height), fused and scored there",
    "resize-back": (
        "sources resized to 640x480 and fused there, the result resized back and scored at the"
        " sources' size"
    ),
}
SIZE = (480, 640)  # height, width


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a uint8 image at ``size`` (height, width), bilinear."""
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))


class Sources(NamedTuple):
    """The gray sources on disk as they are scored.

    Attributes
    ----------
    infrared, visible : path
        Their folders.
    names : tuple of str
    checksum : str
        Of all their pixels.
    numbers : tuple of int
        Which of the pairs they are.
    problems : tuple of str
        A sentence for each pair that could not be read.
    groups : tuple of str
        The camera, drive or stretch of video of each name, "" where it is not known.
    """

    infrared: Path
    visible: Path
    names: tuple[str, ...]
    checksum: str
    numbers: tuple[int, ...]
    problems: tuple[str, ...]
    groups: tuple[str, ...] = ()


def write_sources(pairs: Sequence[Pair], folder: str | Path, resolution: str = "native") -> Sources:
    """Write ``folder/{infrared,visible}/NAME.png``, the luma of each source at the size that is
    scored; pairs that cannot be read are left out and named.

    Parameters
    ----------
    pairs : sequence of Pair
        Read when asked for, as :func:`fusionlib.datasets.open_pairs` gives them, or in memory.
    folder : path
    resolution : str
        One of :data:`RESOLUTIONS`.

    Raises
    ------
    ValueError
        Unknown resolution, no pair, or none that can be read.
    """
    _check_resolution(resolution)
    folder, checksum = Path(folder), hashlib.sha256()
    names, groups, numbers, problems = [], [], [], []
    _empty(folder, "infrared", "visible")
    for number in range(len(pairs)):
        try:
            pair = pairs[number]
        except (OSError, ValueError) as error:
            problems.append(str(error))
            continue
        names.append(pair.name)
        groups.append(pair.group)
        numbers.append(number)
        for kind, image in zip(("infrared", "visible"), _gray(pair, resolution), strict=True):
            checksum.update(f"{pair.name} {image.shape}".encode() + image.tobytes())
            images.write(folder / kind / f"{pair.name}.png", image)
    if not names:
        why = f": {problems[0]}" if problems else ""
        raise ValueError(f"{folder}: expected at least one pair to fuse, got none{why}")
    parts = tuple(names), checksum.hexdigest(), tuple(numbers), tuple(problems), tuple(groups)
    return Sources(folder / "infrared", folder / "visible", *parts)


def fuse(
    method: Method,
    pairs: Sequence[Pair],
    sources: Sources,
    folder: str | Path,
    resolution: str = "native",
    progress: bool = True,
) -> bool:
    """Fuse pairs into ``folder/{gray,color}/NAME.png`` at a resolution, but for images that are
    there and the same: an interrupted call goes on where it was.

    The gray image is what the method gives for the lumas, and is what is scored: Y of the coloured
    image would not be the same where its colours had to be clipped.

    Parameters
    ----------
    method : Method
    pairs : sequence of Pair
        Those that ``sources`` were written from, at the same resolution.
    sources : Sources
    folder : path
    resolution : str
        One of :data:`RESOLUTIONS`.
    progress : bool
        Show a bar.

    Returns
    -------
    bool
        False where nothing had to be done: method, variant, weights, pixels, resolution and library
        are the same.
    """
    _check_resolution(resolution)
    folder, identity = Path(folder), _identity(method, sources, resolution)
    record = folder / MADE_FROM
    if not record.is_file() or record.read_text(encoding="utf-8") != identity:
        record.unlink(missing_ok=True)
        _empty(folder, "gray", "color")
        images.write_text(record, identity)
    waiting = [
        number
        for number, name in zip(sources.numbers, sources.names, strict=True)
        if not all((folder / kind / f"{name}.png").is_file() for kind in ("gray", "color"))
    ]
    if not waiting:
        return False
    values = {field.name: getattr(method, field.name) for field in fields(method)}
    runner = ResizedMethod(**values, resolution=resolution)
    readable = (pairs[number] for number in waiting)
    named = ((pair.name, pair.infrared, pair.visible) for pair in readable)
    bar = tqdm(named, method.name, len(waiting), disable=not progress, mininterval=2)
    fuse_pairs(runner, bar, folder, progress=False)
    return True


@dataclass(frozen=True)
class ResizedMethod(Method):
    """A method on the lumas of a pair at one of the :data:`RESOLUTIONS`; what is shown gets the
    chroma of the visible image.
    """

    resolution: str = "native"

    def fuse_both(
        self, a: np.ndarray, b: np.ndarray, **parameters
    ) -> tuple[np.ndarray, np.ndarray, dict]:
        grays = images.luma(a), images.luma(b)
        if self.resolution != "native":
            grays = resized(grays[0], SIZE), resized(grays[1], SIZE)
        gray, _, info = super().fuse_both(*grays, **parameters)
        if self.resolution == "resize-back":
            gray = resized(gray, a.shape[:2])
        if not images.is_colour(b):
            return gray, gray, info
        chroma = images.chroma(resized(b, gray.shape))
        return gray, images.with_chroma(gray, chroma), info


def _empty(folder: Path, *below: str) -> None:
    """Remove what an earlier run left: an image more would be scored with the others."""
    for name in below:
        shutil.rmtree(folder / name, ignore_errors=True)


def _check_resolution(resolution: str) -> None:
    if resolution not in RESOLUTIONS:
        raise ValueError(
            f"resolution: expected one of {', '.join(RESOLUTIONS)}, got {resolution!r}"
        )


def _gray(pair: Pair, resolution: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the lumas of a pair at the size that is scored; resized after the luma, as programs on
    gray images do.
    """
    grays = images.luma(pair.infrared), images.luma(pair.visible)
    if resolution != "640x480":
        return grays
    return resized(grays[0], SIZE), resized(grays[1], SIZE)


def _identity(method: Method, sources: Sources, resolution: str) -> str:
    """Return what decides the fused images, as text: resuming after a kill must never keep images
    of something else.
    """
    library = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        library.update(path.read_bytes())
    weights = hashlib.sha256()
    if hasattr(method.function, "network"):
        for name, tensor in sorted(method.function.network.state_dict().items()):
            weights.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return json.dumps(
        {
            "method": method.name,
            "variant": method.variant,
            "parameters": method.parameters,
            "plugin": method.plugin,
            "weights": weights.hexdigest(),
            "device": str(getattr(method.function, "device", "cpu")),
            "sources": sources.checksum,
            "resolution": resolution,
            "library": library.hexdigest(),
        },
        indent=1,
        default=str,
    )


# ---- the finder ----------------------------------------------------------------------------------


class Candidate(NamedTuple):
    """Fused images that may be behind a printed row: folders of gray images of the same names."""

    method: str
    variant: str
    resolution: str
    fused: Path
    infrared: Path
    visible: Path


def candidates(
    methods: Sequence[Method],
    pairs: Sequence[Pair],
    folder: str | Path,
    resolutions: Iterable[str] = tuple(RESOLUTIONS),
    progress: bool = True,
) -> list[Candidate]:
    """Fuse pairs by every method (several variants of one, say) at every resolution, below
    ``folder``.

    Parameters
    ----------
    methods : sequence of Method
    pairs : sequence of Pair
    folder : path
    resolutions : iterable of str
        Keys of :data:`RESOLUTIONS`.
    progress : bool
        Show bars.
    """
    made = []
    for resolution in resolutions:
        sources = write_sources(pairs, Path(folder) / resolution / "sources", resolution)
        if sources.problems:
            raise ValueError(sources.problems[0])
        for method in methods:
            home = Path(folder) / resolution / f"{method.name} {method.variant}".strip()
            fuse(method, pairs, sources, home, resolution, progress)
            made.append(
                Candidate(
                    method.name,
                    method.variant,
                    resolution,
                    home / "gray",
                    sources.infrared,
                    sources.visible,
                )
            )
    return made


# radon C: methods x conventions, and one sentence for each wrong input
def find(
    printed: pd.DataFrame,
    candidates: Sequence[Candidate],
    conventions: Iterable[str] | None = None,
    processes: int = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """Rank which convention, resolution and variant explain printed numbers.

    Parameters
    ----------
    printed : DataFrame with method, metric, value, printed
        Means over the candidates' images; ``printed`` the characters in print, which say to how
        many decimals a value must agree. The rows of :func:`fusionlib.published.table` for one data
        set, for example.
    candidates : sequence of Candidate
        Those of methods that ``printed`` names are scored; the images must be the paper's, all of
        them.
    conventions : iterable of str, optional
        All of ``metrics.CONVENTIONS`` where None.

    Returns
    -------
    DataFrame
        One row for each method, convention, resolution and variant, the best explanation of each
        method first: n_images, values (printed ones), lacking (those that the convention does not
        define or that have no value), agree (share of the printed values met to every decimal), gap
        (largest relative difference) and worst (the metric that has it).

    Raises
    ------
    ValueError
        A missing column, a metric printed twice for a method, or no candidate of any printed
        method.
    """
    for column in ("method", "metric", "value", "printed"):
        if column not in printed:
            raise ValueError(
                f"printed: expected the columns method, metric, value, printed, got no {column}"
            )
    if printed.duplicated(["method", "metric"]).any():
        twice = printed[printed.duplicated(["method", "metric"])].iloc[0]
        raise ValueError(
            f"printed: expected one {twice['metric']} of {twice['method']}, got several; take the"
            " rows of one data set"
        )
    conventions, rows = list(conventions or metrics.CONVENTIONS), []
    for candidate in candidates:
        wanted = printed[printed["method"] == candidate.method]
        if not len(wanted):
            continue
        frame = _means(candidate, list(wanted["metric"]), conventions, processes, progress)
        for convention in conventions:
            rows.append(
                {
                    "method": candidate.method,
                    "convention": convention,
                    "resolution": candidate.resolution,
                    "variant": candidate.variant,
                    **_fit(wanted, frame[frame["convention"] == convention]),
                }
            )
    if not rows:
        raise ValueError(
            f"candidates: expected some of {', '.join(dict.fromkeys(printed['method']))}, got "
            f"{', '.join(dict.fromkeys(candidate.method for candidate in candidates)) or 'none'}"
        )
    gaps = pd.DataFrame(rows)
    gaps["order"] = gaps["method"].map(
        {name: number for number, name in enumerate(dict.fromkeys(printed["method"]))}
    )
    gaps = gaps.sort_values(
        ["order", "agree", "lacking", "gap"], ascending=[True, False, True, True], kind="stable"
    )
    return gaps.drop(columns="order").reset_index(drop=True)


def together(gaps: pd.DataFrame) -> pd.DataFrame:
    """Rank the conventions and resolutions over all methods, each method by its best variant.

    A paper has one convention and one resolution for all of its rows, and may have run any variant
    of each method.

    Returns
    -------
    DataFrame with convention, resolution, agree (share over all printed values), gap,
    lacking, variants
    """
    rows = []
    for (convention, resolution), part in gaps.groupby(["convention", "resolution"], sort=False):
        best = part.drop_duplicates("method")  # rows of a method come best first
        variants = ", ".join(f"{row.method} {row.variant}".strip() for row in best.itertuples())
        rows.append(
            {
                "convention": convention,
                "resolution": resolution,
                "agree": float((best["agree"] * best["values"]).sum() / best["values"].sum()),
                "gap": float(best["gap"].max()),
                "lacking": int(best["lacking"].sum()),
                "variants": variants,
            }
        )
    ordered = pd.DataFrame(rows).sort_values(
        ["agree", "lacking", "gap"], ascending=[False, True, True], kind="stable"
    )
    return ordered.reset_index(drop=True)


def tabulate(
    candidates: Sequence[Candidate],
    names: list[str],
    conventions: list[str],
    processes: int = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """Return the means of candidates as rows of results: method, variant ("VARIANT, RESOLUTION"),
    metric, convention, value, n_images. What was scored for :func:`find` is not scored again.

    Parameters
    ----------
    candidates : sequence of Candidate
    names, conventions : list of str
        Metrics, and conventions to compute them in.
    processes : int
        That score.
    progress : bool
        Show bars.
    """
    frames = [
        _means(candidate, names, conventions, processes, progress).assign(
            method=candidate.method,
            variant=", ".join(filter(None, (candidate.variant, candidate.resolution))),
        )
        for candidate in candidates
    ]
    return pd.concat(frames) if frames else pd.DataFrame(columns=["metric", "value"])


def _means(
    candidate: Candidate, names: list[str], conventions: list[str], processes: int, progress: bool
) -> pd.DataFrame:
    """Score a candidate, one mean a metric and convention, with the number of images it is over."""
    defined = {
        name
        for convention in conventions
        for name, metric in metrics.CONVENTIONS[convention].items()
        if metric.serves("sources")
    }
    names = [name for name in names if name in defined]
    if not names:
        return pd.DataFrame(columns=["convention", "metric", "value", "n_images"])
    scored = scoring.score_folder(
        candidate.fused,
        candidate.infrared,
        candidate.visible,
        names,
        conventions,
        processes=processes,
        progress=progress,
        kept=candidate.fused.parent / "scores.jsonl",
    )
    if scored.problems:
        raise ValueError(f"{candidate.method} {candidate.variant}: {scored.problems[0]}")
    grouped = scored.frame.groupby(["convention", "metric"], sort=False)["value"]
    return grouped.agg(value="mean", n_images="count").reset_index()


def _fit(printed: pd.DataFrame, means: pd.DataFrame) -> dict:
    """Hold the means of one convention against the printed values of one method."""
    ours = dict(zip(means["metric"], means["value"], strict=True))
    met, gaps = 0, {}
    for row in printed.itertuples(index=False):
        value = ours.get(row.metric, np.nan)
        if not np.isfinite(value):
            continue
        met += abs(round(float(value), decimals(row.printed)) - row.value) < half_unit(row.printed)
        gaps[row.metric] = abs(value - row.value) / max(abs(row.value), half_unit(row.printed))
    worst = max(gaps, key=lambda name: gaps[name], default="")
    return {
        "n_images": int(means["n_images"].max()) if len(means) else 0,
        "values": len(printed),
        "lacking": len(printed) - len(gaps),
        "agree": met / len(printed),
        "gap": gaps.get(worst, np.nan),
        "worst": worst,
    }
