"""Score a folder of fused images: every image, every metric, in one convention or several.

Files of the folders belong together by stem, whatever their suffix; colour is scored on its luma Y.
What cannot be scored is named and left out, the rest goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Generator, Iterable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tqdm.auto import tqdm

from fusionlib import decoding, images, metrics, workers
from fusionlib.metrics.memory import needs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

COLUMNS = ("image", "metric", "convention", "against", "value", "reason")
AGAINST = ("sources", "reference")
DIED = "not scored, a worker process died (out of memory?); try again with processes=1"


class Scores(NamedTuple):
    """A long frame, one row a value, and one sentence for every file that was left out."""

    frame: pd.DataFrame
    problems: list[str]


# radon C: each argument is checked before the first image
def score_folder(
    fused: str | os.PathLike,
    a: str | os.PathLike,
    b: str | os.PathLike,
    names: Iterable[str] | str | None = None,
    convention: str | Iterable[str] = "moe-fusion",
    reference: str | os.PathLike | None = None,
    processes: int = 1,
    progress: bool = True,
    kept: str | os.PathLike | None = None,
    stretch: str = "none",
    memory: float | None = None,
) -> Scores:
    """Score every image of ``fused`` against the images of the same name in ``a`` and ``b``.

    Parameters
    ----------
    fused, a, b : path
        Folders of images.
    names : iterable of str, optional
        Which metrics; those of the first thirteen that the conventions have where None, further
        ones too where "all". With several conventions each gives those it has.
    convention : str or iterable of str
        Keys of ``metrics.CONVENTIONS``. Colour is scored on its luma Y, in ``vifb`` channel by
        channel.
    reference : path, optional
        Folder of references; metrics that a convention defines against one are added, ``against``
        says which is which.
    processes : int
        How many share the work, this one included, each of one thread: the metrics start no
        threads. With more than 1 a script of one's own must be guarded by ``if __name__ ==
        "__main__"``, as for any use of multiprocessing.
    progress : bool
        Show a bar.
    kept : path, optional
        File that gets the values of each image as they come, a line each; an interrupted call with
        the same file goes on where it was. Images, metrics and conventions that changed are scored
        again.
    stretch : str
        How the gray levels of ``a`` and of ``b`` are spread, as for the fusion, see
        :func:`images.stretch_levels`.
    memory : float, optional
        GB that all processes together stay within, by fewer of them where needed; no bound where
        None.

    Returns
    -------
    Scores
        ``frame`` with the columns image (the stem), metric, convention, against ("sources" or
        "reference"), value, reason (why a value is NaN, else empty), sorted by image; ``problems``,
        a sentence for every unmatched, unreadable or ill-sized file.

    Raises
    ------
    FileNotFoundError, ValueError
        A folder is missing or no folder, no name is in all of them, an unknown metric or
        convention, fewer than one process, an image that needs more than ``memory``: one sentence.
    Interrupted
        By Ctrl-C; holds the scores of the images that were done.
    """
    import pandas as pd

    if not isinstance(processes, int) or processes < 1:
        raise ValueError(f"processes: expected a whole number from 1 on, got {processes!r}")
    plan = _plan(names, convention, reference is not None)
    folders = {"fused": fused, "a": a, "b": b} | (
        {} if reference is None else {"reference": reference}
    )
    files, problems = _match({name: Path(folder) for name, folder in folders.items()})
    levels = [None, *(images.stretch_levels(folder, stretch) for folder in (a, b)), None]
    results: dict[str, list[tuple] | str] = {}
    if memory is not None:
        processes = _that_fit(files, plan, processes, memory)
    if kept is None:
        scored = _run(files, plan, processes, levels)
    else:
        scored = _resumed(files, plan, processes, Path(kept), levels)
    options = {"total": len(files), "desc": "score", "unit": "image", "disable": not progress}
    interrupted = False
    try:
        with contextlib.closing(scored):
            results.update(tqdm(scored, **options))
    except KeyboardInterrupt:
        interrupted = True
    ordered = [results[stem] for stem in sorted(results)]
    problems += [result for result in ordered if isinstance(result, str)]
    rows = [row for result in ordered if not isinstance(result, str) for row in result]
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"value": "float64"})
    if interrupted:
        raise Interrupted(Scores(frame, problems), len(files))
    return Scores(frame, problems)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while images are scored; ``scores`` holds what was done."""

    def __init__(self, scores: Scores, total: int):
        super().__init__(f"{scores.frame['image'].nunique()} of {total} images are scored")
        self.scores = scores


def gray_folder(folder: str | os.PathLike) -> Path:
    """Return ``folder``, or the ``gray`` in it where a fusion left one and no image beside it."""
    path = Path(folder)
    inner = path / "gray"
    has_images = path.is_dir() and bool(images.by_stem(path, []))
    return inner if inner.is_dir() and not has_images else path


def summarize(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the means of :func:`score_folder`, conventions x metrics, and a sentence for each
    metric that is not a mean over all images: undefined for some, or infinite and not averaged.
    """
    import numpy as np

    frame = frame.assign(
        metric=frame["metric"] + frame["against"].map({"reference": " (reference)"}).fillna("")
    )
    finite = frame["value"].where(np.isfinite(frame["value"]))
    table = frame.assign(value=finite).pivot_table(
        index="convention", columns="metric", values="value", sort=False, dropna=False
    )
    sentences = []
    for (convention, metric), part in frame.groupby(["convention", "metric"], sort=False):
        for word, chosen in (
            ("undefined", part["value"].isna()),
            ("infinite", np.isinf(part["value"])),
        ):
            if chosen.any():
                first = part[chosen].iloc[0]
                reason = f": {first['reason']}" if first["reason"] else ""
                sentences.append(
                    f"{metric} ({convention}): {word} for {chosen.sum()} of {len(part)} images"
                    f" ({first['image']}{reason})"
                )
    return table, sentences


def score_images(
    items: Iterable[tuple],
    convention: str | Iterable[str] = "moe-fusion",
    names: Iterable[str] | str | None = None,
) -> pd.DataFrame:
    """Score images in memory.

    Parameters
    ----------
    items : iterable of (name, fused, a, b, reference)
        Gray uint8 of one size each, in ``vifb`` coloured ones too; ``reference`` may be None, then
        metrics against a reference are left out.
    convention, names
        As for :func:`score_folder`.

    Returns
    -------
    DataFrame
        As ``frame`` of :func:`score_folder`, in the order of ``items``.
    """
    import pandas as pd

    items = list(items)
    plan = _plan(
        names, convention, with_reference=any(reference is not None for *_, reference in items)
    )
    rows = []
    for name, fused, a, b, reference in items:
        rows += _values(name, [fused, a, b, *([] if reference is None else [reference])], plan)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"value": "float64"})


# ---- which metrics, which files ------------------------------------------------------------------


# radon C: conventions x kinds of reference, and what none of them defines
def _plan(
    names: Iterable[str] | str | None, convention: str | Iterable[str], with_reference: bool
) -> list[tuple[str, str, list[str]]]:
    """Return (convention, "sources" or "reference", metric names); raise ValueError for what nobody
    defines.
    """
    conventions = _listed(convention)
    if not conventions:
        raise ValueError(
            f"convention: expected at least one of {', '.join(metrics.CONVENTIONS)}, got none"
        )
    wanted = names if names is None or names == "all" else _listed(names)
    kinds = AGAINST if with_reference else AGAINST[:1]
    plan = []
    for key in conventions:
        metrics.choose(None, key)  # refuses an unknown convention
        for kind in kinds:
            if chosen := _served(key, kind, wanted):
                plan.append((key, kind, chosen))
    defined = {name for _, _, chosen in plan for name in chosen}
    for name in wanted if isinstance(wanted, list) else ():
        if name not in defined:
            metrics.choose([name], conventions[0])  # says what there is
    if with_reference and "reference" not in {kind for _, kind, _ in plan}:
        metrics.choose(wanted, conventions[0], "reference")
    return plan


def _listed(words: Iterable[str] | str) -> list[str]:
    return [words] if isinstance(words, str) else list(words)


def _served(convention: str, kind: str, wanted: list[str] | str | None) -> list[str]:
    """Return the metrics that a convention defines against ``kind``, of those that are wanted."""
    if not isinstance(wanted, list):
        return list(metrics.serving(convention, kind, wanted))
    return [name for name in metrics.serving(convention, kind, "all") if name in wanted]


# radon C: names with and without a partner, and none at all
def _match(folders: dict[str, Path]) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the files of every stem that all folders have, in the order of the folders, and what
    lacks a partner.
    """
    left_out: list[Exception] = []
    listed = [images.by_stem(folder, left_out) for folder in folders.values()]
    by_stem = dict(zip(folders, images.without_endings(listed), strict=True))
    problems = [str(problem) for problem in left_out]
    files = {}
    for stem in sorted(set().union(*by_stem.values())):
        missing = [str(folders[name]) for name, stems in by_stem.items() if stem not in stems]
        if not missing:
            files[stem] = [stems[stem] for stems in by_stem.values()]
        else:
            path = next(stems[stem] for stems in by_stem.values() if stem in stems)
            problems.append(
                f"{path}: expected an image named {stem!r} in every folder, found none in "
                f"{' and '.join(missing)}"
            )
    if not files:
        sizes = ", ".join(
            f"{folder} ({len(by_stem[name])} images)" for name, folder in folders.items()
        )
        raise ValueError(
            "expected images of the same name (whatever the suffix) in all folders, found none:"
            f" {sizes}"
        )
    return files, problems


def _that_fit(files: dict[str, list[Path]], plan: list, processes: int, memory: float) -> int:
    """Return how many processes ``memory`` GB are enough for, at most ``processes``; say so where
    they are fewer.

    Raises
    ------
    ValueError
        Not even one; says what is needed.
    """
    bytes_a_pixel, metric = needs(name for _, _, names in plan for name in names)
    pixels, path = max((decoding.pixels(paths[0]), paths[0]) for paths in files.values())
    needed = (workers.PROGRAM + bytes_a_pixel * pixels) / 1e9
    if needed > memory:
        raise ValueError(
            f"{path}: expected {needed:.1f} GB for {metric} of {pixels / 1e6:.1f} megapixels, got"
            f" {memory:.1f}; --memory {needed + 0.1:.1f}"
        )
    fitting = min(processes, int(memory / needed))
    if fitting < min(processes, len(files)):
        print(
            f"{fitting} of {processes} processes, to stay within {memory:.1f} GB (--memory)",
            file=sys.stderr,
        )
    return fitting


# ---- the work ------------------------------------------------------------------------------------


def _run(
    files: dict[str, list[Path]], plan: list, processes: int, levels: list
) -> Generator[tuple[str, list[tuple] | str]]:
    """Yield (stem, rows or problem) as they come."""
    tasks = {stem: (stem, paths, plan, levels) for stem, paths in files.items()}
    with contextlib.closing(workers.run(_score, tasks, processes)) as results:
        for stem, result in results:
            if isinstance(result, BrokenProcessPool):
                result = f"{files[stem][0]}: {DIED}"
            yield stem, result


# radon C: what was scored before, what waits, and a killed run's half line
def _resumed(
    files: dict[str, list[Path]], plan: list, processes: int, kept: Path, levels: list
) -> Generator[tuple[str, list[tuple] | str]]:
    """Yield as :func:`_run` does, from the file where the same was scored before."""
    code = b"".join(
        path.read_bytes() for path in sorted(Path(metrics.__file__).parent.glob("*.py"))
    )
    keys, known = {}, {}
    for stem, paths in files.items():
        key = hashlib.sha256(f"{stem} {plan} {levels}".encode() + code)
        for path in paths:
            key.update(path.read_bytes())
        keys[stem] = key.hexdigest()
    for line in kept.read_text(encoding="utf-8").splitlines() if kept.is_file() else ():
        with contextlib.suppress(ValueError):  # half a line is what a killed run was writing
            key, rows = json.loads(line)
            known[key] = [tuple(row) for row in rows]
    yield from ((stem, known[key]) for stem, key in keys.items() if key in known)
    waiting = {stem: paths for stem, paths in files.items() if keys[stem] not in known}
    with open(kept, "a", encoding="utf-8") as stream:
        for stem, result in _run(waiting, plan, processes, levels):
            if not isinstance(result, str):
                print(f"\n{json.dumps([keys[stem], result])}", file=stream, end="", flush=True)
            yield stem, result


def _score(stem: str, paths: list[Path], plan: list, levels: list) -> list[tuple] | str:
    """Return the rows of one image, or the sentence that says why there are none."""
    try:
        arrays = [images.read(*item) for item in zip(paths, levels, strict=False)]
        return _values(stem, [images.luma(array) for array in arrays], plan, arrays)
    except (ValueError, OSError) as error:
        # images.read names the file itself; a size that differs is known by array names only
        sentence = str(error)
        names_a_file = any(str(path) in sentence for path in paths)
        return sentence if names_a_file else f"{paths[0]}: {sentence}"


def _values(
    stem: str, arrays: list[np.ndarray], plan: list, in_colour: list[np.ndarray] | None = None
) -> list[tuple]:
    """Return the rows of one image from [fused, a, b] or [fused, a, b, reference].

    ``in_colour`` has the same images for conventions that take colour.
    """
    rows: list[tuple] = []
    if isinstance(stem, str):  # of other bytes than UTF-8 it is no text that a table can hold
        stem = os.fsencode(stem).decode("utf-8", "backslashreplace")
    for convention, against, names in plan:
        chosen = in_colour if in_colour and convention in metrics.IN_COLOUR else arrays
        fused, a, b, *reference = chosen
        if against == "reference" and not reference:
            continue
        reasons: dict[str, str] = {}
        if against == "sources":
            values = metrics.evaluate(fused, a, b, names, convention, reasons)
        else:
            values = metrics.compare(fused, reference[0], names, convention, reasons)
        rows += [
            (stem, name, convention, against, float(value), reasons.get(name, ""))
            for name, value in values.items()
        ]
    return rows
