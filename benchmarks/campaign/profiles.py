"""Profiles of the run graph and descriptions of one's own data sets, right, odd and damaged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jsonschema  # noqa: F401  (once, before a case is timed)
import numpy as np
import yaml

from fusionlib.datasets import open_pairs
from workflow import graph

from . import damage
from .case import REFUSE, ROOT, UNKNOWN, Case
from .labelled import put_odd

NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
MISSPELT: tuple[dict[str, Any], ...] = (
    {"jobs": 2.0},
    {"jobs": 0},
    {"threads": "two"},
    {"devices": "cpu"},
    {"device": "gpu"},
    {"infrared_visible": "builtin"},
    {"parameters": {"25-tabel-1": {"limit": 3}}},
    {"parameters": {"25-table-1": {"limits": 3}}},
    {"parameters": {"25-table-1": {"limit": "three"}}},
    {"parameters": {"21-train": {"steps": 3.5}}},
    {"costs": {"25-tabel-1": 3}},
    {"parameters": ["25-table-1"]},
)
OWN = {
    "Own": {
        "pairs": 3,
        "classes": {"Person": "person", "car": "car"},
        "numbered": ["Person", "car"],
        "layouts": [{"called": "x", "infrared": "ir/{name}.*", "visible": ["vi/{name}.*"]}],
        "splits": {"train": 2, "test": 1},
        "subsets": {"Own-1": {"pairs": 1, "split": "test"}},
    }
}


def case(rng: np.random.Generator, folder: Path) -> Case:
    """Return a profile that is expanded, or a ``dataset.yaml`` that is read."""
    return own_set(rng, folder) if rng.random() < 0.3 else profile(rng, folder)


def profile(rng: np.random.Generator, folder: Path) -> Case:
    """Return a changed copy of a committed profile, and the nodes that it plans."""
    here = folder / "workflow"
    shutil.copytree(ROOT / "workflow", here, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "notebooks").symlink_to(ROOT / "notebooks")
    name = str(rng.choice(["smoke", "sample", "paper"]))
    path = here / "profiles" / f"{name}.yaml"
    content = yaml.safe_load(path.read_text())
    chance, recipe = rng.random(), name
    truth: object = UNKNOWN
    if chance < 0.4:
        wrong = MISSPELT[rng.integers(len(MISSPELT))]
        content |= wrong
        recipe, truth = f"{name}, {wrong}", REFUSE
    elif chance < 0.7:
        recipe, truth = f"{name}, {put_odd(content, rng)}", UNKNOWN
    elif chance < 0.8:
        truth = [node.name for node in graph.expand(name, folder, dry=True)]
    data = yaml.safe_dump(content).encode()
    if chance > 0.8:
        harm = damage.RANDOM[rng.integers(len(damage.RANDOM))]
        data, truth, recipe = harm(data, rng), UNKNOWN, f"{recipe}, {harm.__name__}"
    path.write_bytes(data)
    names = [path.name, *NOTEBOOKS]

    def call() -> list[str]:
        return [node.name for node in graph.expand(name, folder, here=here, dry=True)]

    return Case(recipe, call, names, truth)


def own_set(rng: np.random.Generator, folder: Path) -> Case:
    """Return a ``dataset.yaml``, and what the catalogue then says of the set."""
    content = yaml.safe_load(yaml.safe_dump(OWN))
    chance, recipe = rng.random(), "dataset.yaml"
    truth: object = 3
    if chance < 0.2:
        recipe, truth = "dataset.yaml, a key that is misspelt", REFUSE
        key = str(rng.choice(list(OWN["Own"])))
        content["Own"][f"{key}x"] = content["Own"].pop(key)
    elif chance < 0.7:
        recipe, truth = f"dataset.yaml, {put_odd(content, rng)}", UNKNOWN
    data = yaml.safe_dump(content).encode()
    if chance > 0.85:
        harm = damage.RANDOM[rng.integers(len(damage.RANDOM))]
        data, truth, recipe = harm(data, rng), UNKNOWN, f"{recipe}, {harm.__name__}"
    (folder / "dataset.yaml").write_bytes(data)
    for name in "abc":
        for kind in ("ir", "vi"):
            (folder / kind).mkdir(exist_ok=True)
            (folder / kind / f"{name}.png").write_bytes(b"")

    def call() -> object:
        return len(open_pairs(folder, "Own").names)

    return Case(recipe, call, ["dataset.yaml", str(folder)], truth)
