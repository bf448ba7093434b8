"""Folders of results: records, tables, figures and lists of nodes, whole, changed, damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from fusionlib import images, report, results, runs

from . import damage
from .case import UNKNOWN, Case
from .labelled import ODD, put_odd

NODES = ("table-1", "table-2", "figure-6")
METRICS = ("EN", "SF", "AG", "SD")


def numbers(rng: np.random.Generator, table: str) -> pd.DataFrame:
    """Return rows of single images of a table."""
    values = [
        {"method": method, "metric": metric, "image": str(image), "value": float(rng.random())}
        for method in ("average", "MoE-Fusion")
        for metric in METRICS
        for image in range(3)
    ]
    labels = {"paper": "moe-fusion", "table": table, "dataset": "scenes", "n_images": 1}
    labels |= {"convention": "moe-fusion", "seed": 0}
    return results.rows(pd.DataFrame(values), **labels)


def written(rng: np.random.Generator, folder: Path) -> dict[str, dict]:
    """Write the finished nodes of a run; return the values of each, by row."""
    truth = {}
    for name in NODES:
        run = runs.Run(name, folder / name, {"seed": 0})
        frame = numbers(rng, name[-1]) if name.startswith("table") else None
        picture = images.write(run.folder / "drawing.png", np.zeros((4, 5), np.uint8))
        assert picture.is_file()
        run.finish(frame)
        if frame is not None:
            truth[name] = by_row(frame)
    plan = [{"name": n, "notebook": f"{n}.ipynb", "provides": [n], "wanted": True} for n in NODES]
    images.write_text(folder / "nodes.json", json.dumps(plan))
    return truth


def by_row(frame: pd.DataFrame) -> dict[str, float]:
    """Return the values of a table by method, metric and image."""
    keys = frame["method"] + " " + frame["metric"] + " " + frame["image"].astype(str)
    return dict(zip(keys, frame["value"].astype(float), strict=True))


def change(home: Path, rng: np.random.Generator) -> str:
    """Change one file of a node so that its record and its numbers no longer agree."""
    table, record = home / "results.csv", home / "run.json"
    which = int(rng.integers(8))
    if which == 0:
        frame = pd.read_csv(table)
        frame["value"] *= 1.05
        frame.to_csv(table, index=False)
        return "numbers 5 % larger"
    if which == 1:
        table.unlink()
        return "no results.csv"
    if which == 2:
        harm = damage.RANDOM[rng.integers(len(damage.RANDOM))]
        content = table.read_bytes()
        changed = harm(content, rng)
        table.write_bytes(changed if changed != content else content[1:])
        return f"results.csv, {harm.__name__}"
    if which == 3:
        record.write_bytes(damage.foreign(rng)[1])
        return "another file as run.json"
    if which == 4:
        content = json.loads(record.read_text())
        content["files"]["results.csv"] = "0" * 64
        record.write_text(json.dumps(content))
        return "another checksum"
    if which == 5:
        content = json.loads(record.read_text())
        content["files"] = ODD[rng.integers(len(ODD))] or 3
        record.write_text(json.dumps(content))
        return f"files is {content['files']!r:.20}"
    if which == 6:
        record.write_bytes(damage.cut(record.read_bytes(), rng))
        return "run.json cut"
    table.write_bytes(damage.foreign(rng)[1] + b"x")
    return "another file as results.csv"


# radon C: whole, changed, copied, and odd
def case(rng: np.random.Generator, folder: Path) -> Case:
    """Return a folder of results that is read, and whose page is written."""
    reports = folder / "smoke"
    reports.mkdir()
    truth: dict[str, object] = dict(written(rng, reports))
    chance, recipe = rng.random(), "as written"
    victim = str(rng.choice(NODES[:2]))
    if 0.1 < chance < 0.6:
        recipe = f"{victim}: {change(reports / victim, rng)}"
        del truth[victim]
    elif chance < 0.75:
        shutil.copytree(reports / victim, reports / f"{victim}.bak")
        recipe = f"a copy of {victim}"
        if rng.random() < 0.5:
            (reports / "nodes.json").unlink()
            del truth[victim]
            recipe += ", no nodes.json"
    elif chance < 0.9:
        path = reports / str(rng.choice([f"{victim}/run.json", "nodes.json"]))
        content = json.loads(path.read_text())
        recipe = f"{path.name}: {put_odd(content, rng)}"
        path.write_text(json.dumps(content))
        return Case(recipe, lambda: read(reports), [path.name, victim], UNKNOWN)
    elif chance > 0.95:
        harm = damage.RANDOM[rng.integers(len(damage.RANDOM))]
        plan = reports / "nodes.json"
        plan.write_bytes(harm(plan.read_bytes(), rng))
        return Case(f"nodes.json, {harm.__name__}", lambda: read(reports), [plan.name], UNKNOWN)
    return Case(recipe, lambda: read(reports), [victim], truth)


def read(reports: Path) -> dict[str, dict]:
    """Return the numbers of each node that counts, after the page was written."""
    page = report.write(reports)
    frames, refused = results.read(reports)
    text = page.read_text(encoding="utf-8")
    if not all(name in text for name in refused):
        raise AssertionError(f"the page does not name what is refused: {refused}")
    return {name: by_row(frame) for name, frame in frames.items()}
