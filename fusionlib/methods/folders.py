"""Folders of fused images: ``gray/NAME.png`` (scored), ``color/NAME.png`` (shown), and ``run.json``
that says what fused them. Nothing of anybody else is overwritten; an interrupted call goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from fusionlib import images, runs, workers
from fusionlib.methods.method import Method
from fusionlib.metrics import exposure

KINDS = ("gray", "color")
FAILURES = (ValueError, TypeError, OSError, RuntimeError)  # of a pair, which stop no other
NO_STRETCH = {"stretch": "none", "levels": [None, None]}  # of a record that does not say
MADE_FROM = "made_from.json"  # what images that a run may keep were made from
DIED = "not fused, a worker process died (out of memory?); try again with one process"
UNFINISHED = ".fused.jsonl"  # what is being fused, then a line for each pair that is done


def fuse_pairs(
    method: Method, pairs: Iterable, folder: str | Path, progress: bool = True, **parameters
) -> dict:
    """Fuse many pairs into ``folder/gray/NAME.png`` (scored) and ``folder/color/NAME.png`` (shown),
    with ``run.json``.

    Parameters
    ----------
    method : Method
    pairs : iterable of (name, a, b)
        A pair is written before the next is asked for.
    folder : path
    progress : bool
        Show a bar.
    **parameters
        Of the method.

    Returns
    -------
    dict
        ``{name: info}``: what the method found out about each pair, with ``seconds`` and the
        shares of clipped and black pixels.

    Raises
    ------
    ValueError
        The method refuses a pair; names it.
    """
    folder, info = Path(folder), {}
    (folder / "run.json").unlink(missing_ok=True)  # it would name the old method for new images
    for name, a, b in tqdm(pairs, desc=method.name, disable=not progress, mininterval=2):
        try:
            fused = _fuse(method, a, b, parameters)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ValueError(f"{name}: {error}") from error
        info[name] = _write(folder, name, fused)
    record = _identity(method, parameters) | {"images": info}
    images.write_text(folder / "run.json", json.dumps(record, indent=1, default=float))
    return info


def _fuse(method: Method, a: np.ndarray, b: np.ndarray, parameters: dict) -> tuple:
    started = time.perf_counter()
    gray, shown, facts = method.fuse_both(a, b, **parameters)
    seconds = time.perf_counter() - started
    facts = {**facts, "seconds": seconds}
    if gray.shape == a.shape[:2]:  # not where a protocol fuses at another size
        facts |= exposure.shares(gray, images.luma(a), images.luma(b))
    return gray, shown, facts


def _write(folder: Path, name: str, fused: tuple) -> dict:
    gray, shown, facts = fused
    images.write(folder / "gray" / f"{name}.png", gray)
    images.write(folder / "color" / f"{name}.png", shown)
    return facts


def _identity(method: Method, parameters: dict) -> dict:
    return {
        "method": method.name,
        "variant": method.variant,
        "checkpoint": method.checkpoint,
        "weights": getattr(method.function, "weights", ""),
        "plugin": method.plugin,
        "parameters": {**method.parameters, **parameters},
    }


# radon C: each thing that may be wrong with a folder has its own sentence
def import_fused_folder(
    name: str, source: str | Path, pairs: Iterable[str], folder: str | Path
) -> list[str]:
    """Copy somebody's fused images as those of a method whose variant is "images"; return the names
    of the pairs that have none.

    Parameters
    ----------
    name : str
        Of the method.
    source : path
        Folder of images named as the pairs.
    pairs : iterable of str
        The names of the pairs.
    folder : path
        Gets ``gray/NAME.png``, ``color/NAME.png`` and ``run.json``, and loses what it had of them.

    Raises
    ------
    ValueError
        No name has an image, or the images lie in ``folder`` itself.
    """
    files, folder = images.list_images(source), Path(folder)
    names = {pair: images.composed(pair) in files for pair in pairs}
    present = [pair for pair, is_there in names.items() if is_there]
    if not present:
        raise ValueError(
            f"{source}: expected images of {name} named as the pairs, such as {next(iter(names))},"
            f" found none among its {len(files)} images"
        )
    check_outputs([folder / kind for kind in KINDS], [source])
    for kind in KINDS:  # an image of an earlier call would be taken for one of this
        shutil.rmtree(folder / kind, ignore_errors=True)
    for old in ("run.json", MADE_FROM):
        (folder / old).unlink(missing_ok=True)
    for pair in present:
        fused = images.read(files[images.composed(pair)])
        _write(folder, pair, (images.luma(fused), fused, {}))
    record = {
        "method": name,
        "variant": "images",
        "source": str(source),
        "images": dict.fromkeys(present, {}),
    }
    images.write_text(folder / "run.json", json.dumps(record, indent=1))
    return [pair for pair, is_there in names.items() if not is_there]


# ---- two folders of files ------------------------------------------------------------------------


# radon C: each pair is kept, fused or named with its failure
def fuse_folders(
    method: Method,
    a: str | Path,
    b: str | Path,
    out: str | Path,
    overwrite: bool = False,
    progress: bool = True,
    stretch: str = "none",
    both_colours: bool = True,
    processes: int = 1,
    **parameters,
) -> tuple[int, list[str]]:
    """Fuse the pairs of two folders, matched by name, into ``out`` as :func:`fuse_pairs` does.

    The same call again, after an interruption or not, fuses only the pairs that are not done or
    whose files have changed. A pair that fails stops no other.

    Parameters
    ----------
    method : Method
    a, b, out : path
    overwrite : bool
        Fuse all anew, in place of what is in ``out``, by whatever method it was made.
    progress : bool
        Show a bar.
    stretch : str
        How the gray levels of ``a`` and of ``b`` are spread, see :func:`images.stretch_levels`.
    both_colours : bool
        Keep the colours of both where both are coloured (multi-focus); False: see
        :func:`images.as_infrared_visible`.
    processes : int
        How many share the pairs, this one included; with more than 1 a script of one's own must be
        guarded by ``if __name__ == "__main__"``.
    **parameters
        Of the method.

    Returns
    -------
    int, list of str
        Pairs that are fused, and a sentence for each that is not.

    Raises
    ------
    FileNotFoundError, ValueError
        No pairs; ``out`` is a folder of sources or holds something else.
    KeyboardInterrupt
        Interrupted; says what is done.
    OSError, RuntimeError
        ``out`` cannot be written, or another process fuses into it.
    """
    out = Path(out)
    method.check_parameters(parameters)
    problems: list[str] = []
    files = _readable_pairs(a, b, problems)
    check_outputs([out, *(out / kind for kind in KINDS)], [a, b])
    outputs = [out / kind / f"{name}.png" for kind in KINDS for name in files]
    check_outputs(outputs, [path for paths in files.values() for path in paths])
    levels = [images.stretch_levels(folder, stretch) for folder in (a, b)]
    wanted = _identity(method, parameters) | {"stretch": stretch, "levels": levels}
    wanted["both_colours"] = both_colours
    wanted = json.loads(json.dumps({**wanted, "pairs": list(files)}, default=float))
    _told.discard(out)
    task = _Task(method, out, levels, both_colours, parameters)
    info, sources = {}, {}
    with runs.lock(out, f"the folder {out}"):
        images.sweep(*(out / kind for kind in KINDS))
        done = _make_room(out, wanted, overwrite)
        tasks = {name: (task, name, paths, done.get(name)) for name, paths in files.items()}
        results = workers.run(_fuse_files, tasks, processes)
        bar = {"total": len(files), "desc": method.name, "unit": "pair", "disable": not progress}
        with open(out / UNFINISHED, "a", encoding="utf-8") as stream, contextlib.closing(results):
            try:
                for name, result in tqdm(results, mininterval=2, **bar):
                    if isinstance(result, BrokenProcessPool):
                        result = f"{name}: {DIED}"
                    if isinstance(result, str):
                        problems.append(result)
                        continue
                    sources[name], info[name] = result
                    if done.get(name) != list(result):
                        line = json.dumps([name, *result], default=float)
                        print(f"\n{line}", file=stream, end="", flush=True)
            except KeyboardInterrupt:
                done_by_now = f"{len(info)} of {len(files)} pairs are fused in {out}"
                raise KeyboardInterrupt(f"{done_by_now}; the same command goes on") from None
        info, sources = (
            {name: each[name] for name in files if name in each} for each in (info, sources)
        )
        if problems:
            return len(info), problems
        record = {**wanted, "images": info, "sources": sources}
        images.write_text(out / "run.json", json.dumps(record, indent=1, default=float))
        (out / UNFINISHED).unlink()
    return len(info), problems


class _Task(NamedTuple):
    """What is the same for all pairs of two folders: the arguments of :func:`fuse_folders`."""

    method: Method
    out: Path
    levels: list
    both_colours: bool
    parameters: dict


_told: set[Path] = set()  # folders whose colours this process has told of


def _fuse_files(
    task: _Task, name: str, paths: tuple[Path, Path], before: list | None
) -> tuple[str, dict] | str:
    """Fuse one pair of files into its folder; return the SHA-256 of the files and its facts, those
    ``before`` where the files are the same, or the sentence that says why there are none.
    """
    # a method of one's own may fail in any way
    failures = (Exception,) if task.method.plugin else FAILURES
    key = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    if before is not None and before[0] == key:
        return key, before[1]
    try:
        pair = images.read_pair(paths[0], paths[1], task.levels)
        if not task.both_colours:
            *both, told = images.as_infrared_visible(*pair, name, task.out in _told)
            pair = both[0], both[1]
            _told.update({task.out} if told else ())
        fused = _fuse(task.method, *pair, task.parameters)
    except failures as error:
        return f"{name}: {error or type(error).__name__}"
    return key, _write(task.out, name, fused)


def lost_pixels(out: Path) -> str:
    """Return the mean shares of clipped and black pixels in a folder of fused images, and the image
    with the most, in words; "" where they are not recorded.
    """
    facts = {name: entry[1] for name, entry in _recorded(out)[1].items()}
    known = {name: fact for name, fact in facts.items() if "black %" in fact}
    if not known:
        return ""
    keys = ("clipped %", "black %")
    mean = {key: float(np.mean([fact[key] for fact in known.values()])) for key in keys}
    worst = max(known, key=lambda name: sum(known[name][key] for key in keys))
    return f"{exposure.in_words(mean)}; most: {worst}, {exposure.in_words(known[worst])}"


def _readable_pairs(
    a: str | Path, b: str | Path, problems: list[str]
) -> dict[str, tuple[Path, Path]]:
    """Return the pairs of two folders; ``problems`` gets a sentence for each file that is left out.

    Raises
    ------
    FileNotFoundError, ValueError
        A folder is missing, or there is no pair at all.
    """
    errors: list[Exception] = []
    folders = [images.by_stem(folder, errors) for folder in (a, b)]
    first, second = images.without_endings(folders)
    problems += map(str, errors)
    for name in sorted(set(first) ^ set(second)):
        folder = b if name in first else a
        problems.append(
            f"{name}: expected an image in both folders, found none to read in {folder}"
        )
    if not set(first) & set(second):
        raise ValueError(
            f"{a} and {b}: expected image pairs, found none{': ' if problems else ''}"
            f"{'; '.join(problems[:3])}"
        )
    return {name: (first[name], second[name]) for name in first if name in second}


def check_outputs(outputs: Sequence[str | Path], sources: Sequence[str | Path]) -> None:
    """Raise ValueError where a file or folder that is to be written is one of the sources, links
    resolved.
    """
    known = {images.file_id(path): path for path in sources if os.path.exists(path)}
    for output in outputs:
        if os.path.exists(output) and (source := known.get(images.file_id(output))):
            raise ValueError(
                f"{output}: expected an output that is no source, it is {source}; nothing was"
                " written"
            )


# radon C: a folder may be new, ours, of others, of another call or half done
def _make_room(out: Path, wanted: dict, overwrite: bool) -> dict[str, list]:
    """Prepare a folder for what is wanted; return key and facts of the pairs that are done.

    Raises
    ------
    ValueError
        It holds something else, and may not be overwritten or is not known to be ours.
    """
    old, done = _recorded(out)
    images_there = [path for kind in KINDS for path in (out / kind).glob("[!.]*")]
    if old is None and (images_there or (out / "run.json").exists()):
        raise ValueError(
            f"{out}: expected a new folder or one that this command made, got one with"
            f" {len(images_there)} images and no record of what fused them; name another folder"
        )
    if old is not None:
        old = _comparable(old, wanted, done if (out / UNFINISHED).is_file() else {})
        begun = (out / UNFINISHED).is_file() and not images_there  # nothing to lose
        if old != wanted:
            _replace(out, old, wanted, overwrite or begun)
    if overwrite:
        done = {}
    lines = [wanted, *([name, *fact] for name, fact in done.items())]
    # first the one, then the other: killed in between, the folder still knows what it is
    images.write_text(out / UNFINISHED, "\n".join(map(json.dumps, lines)))
    (out / "run.json").unlink(missing_ok=True)
    return {
        name: fact
        for name, fact in done.items()
        if all((out / kind / f"{name}.png").is_file() for kind in KINDS)
    }


def _comparable(old: dict, wanted: dict, unfinished: dict) -> dict:
    """Return a record as it compares with what is wanted.

    Parameters
    ----------
    old, wanted : dict
    unfinished : dict
        The pairs that are done in a folder that is not finished.
    """
    defaults = {key: wanted[key] for key in ("weights", "both_colours")}  # older records lack them
    if unfinished and set(unfinished) <= set(wanted["pairs"]):
        # files may have been mended meanwhile: pairs more or less, none of them fused yet
        old = old | {"pairs": wanted["pairs"]}
    return defaults | old


def _replace(out: Path, old: dict, wanted: dict, allowed: bool) -> None:
    """Remove the images of another method, parameters or pairs; ValueError unless allowed."""
    if not allowed:
        differs = ", ".join(key for key in wanted if old.get(key) != wanted[key])
        raise ValueError(
            f"{out}: expected the same method, parameters and pairs as before (by"
            f" {old.get('method')}), got another {differs}; name another folder, or --overwrite"
        )
    for kind in KINDS:
        for pair in old["pairs"]:
            (out / kind / f"{pair}.png").unlink(missing_ok=True)
    (out / UNFINISHED).unlink(missing_ok=True)


def _recorded(out: Path) -> tuple[dict | None, dict[str, list]]:
    """Return what a folder was fused by, None where nothing says so, and of its finished pairs the
    SHA-256 of their files and their facts.
    """
    try:
        if (out / UNFINISHED).is_file():
            lines = (out / UNFINISHED).read_text(encoding="utf-8").splitlines()
            entries = [_line(line) for line in lines[1:]]
            return NO_STRETCH | json.loads(lines[0]), {
                entry[0]: entry[1:] for entry in entries if entry
            }
        record = json.loads((out / "run.json").read_text(encoding="utf-8"))
        facts, sources = record.pop("images"), record.pop("sources", {})
        record.setdefault("pairs", sorted(facts))
        return NO_STRETCH | record, {name: [sources[name], facts[name]] for name in sources}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None, {}


def _line(line: str) -> list:
    try:
        return json.loads(line)
    except ValueError:  # the half line of a killed call
        return []
