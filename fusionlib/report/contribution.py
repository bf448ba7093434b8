"""A finished run of a profile, handed in: checked, then its numbers are put under
``reports/contributed/GPU-NAME/PROFILE``; no pictures of anybody's images.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from fusionlib import images, report, runs

# where something lies is the business of one machine
ABSOLUTE = re.compile(r"(?<![\w./])/(?:[\w.+-]+/)*([\w.+-]+)")
FREE = {"output", "data", "weights", "device", "threads"}  # of the machine, not of the profile


def archive(source: Path, target: Path, tables: bool = True) -> list[Path]:
    """Copy ``results.csv`` and ``run.json`` of every finished node, the list of nodes and the
    tables; return the files.

    What an earlier call archived of nodes goes; other files in ``target`` (trained models) stay.
    Checksums of figures stay in ``run.json``, under ``figures``: they are not copied.
    """
    for old in (
        *target.glob("*/run.json"),
        *target.glob("*/results.csv"),
        *target.glob("tables/*"),
    ):
        old.unlink()
    files = [source / "nodes.json", *(sorted(source.glob("tables/[!.]*.csv")) if tables else ())]
    for record in sorted(source.glob("*/run.json")):
        files += [path for path in (record, record.with_name("results.csv")) if path.is_file()]
    for path in files:
        copy = target / path.relative_to(source)
        if path.suffix == ".json":
            content = json.loads(ABSOLUTE.sub(r"\1", path.read_text(encoding="utf-8")))
            if path.name == "run.json":
                content["figures"] = content["files"]
                results = content["figures"].pop("results.csv", None)
                content["files"] = {"results.csv": results} if results else {}
            images.write_text(copy, json.dumps(content, indent=1))
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return files


# radon C: each condition of a contribution, in the order in which it is asked
def contribute(folder: str | Path, home: Path | None = None, root: Path | None = None) -> Path:
    """Check a finished run of a profile and archive its numbers; return where.

    Parameters
    ----------
    folder : path
        ``reports/PROFILE`` as ``make reproduce`` leaves it.
    home : path, optional
        ``reports/contributed`` of this checkout by default.
    root : path, optional
        Checkout that holds the profile and its notebooks; this one by default.

    Raises
    ------
    FileNotFoundError, ValueError
        No such profile; a node that was asked for and is not finished; numbers that are not those
        of its record; a revision that is not of this repository, or with changes; another setting
        than the profile's; a contribution of that name. One sentence, and nothing is written.
    """
    folder, root = Path(folder).resolve(), root or runs.root()
    path = root / "workflow" / "profiles" / f"{folder.name}.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: expected the name of a profile, found none at {path}")
    every = [node for node in report.nodes(folder) if node["wanted"] or node["run"]]
    if not every:
        raise ValueError(f"{folder}: expected a finished run, found no nodes.json there")
    for node in every:
        if node["status"] != "finished":
            raise ValueError(
                f"{folder}: expected every node finished, {node['name']} is {node['status']}"
                f" {node['error']}".rstrip()
            )
        results = folder / node["name"] / "results.csv"
        if results.is_file() and results.name not in node["run"]["files"]:
            raise ValueError(f"{results}: expected its checksum in run.json, found none")
        _check_revision(node, root)
        _check_settings(node, yaml.safe_load(path.read_text(encoding="utf-8")), root)
    devices = {node["run"]["environment"].get("gpu", "") for node in every} - {""}
    name = " ".join(sorted(devices)) or every[-1]["run"]["environment"]["system"]
    target = (home or root / "reports" / "contributed") / re.sub(r"[^\w.]+", "-", name) / path.stem
    if target.exists():
        raise ValueError(f"{target}: expected nothing there, found an earlier contribution")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as temporary:
        archive(folder, Path(temporary) / path.stem, tables=False)
        images.rename(Path(temporary) / path.stem, target)
    return target


def _check_revision(node: dict, root: Path) -> None:
    """Raise ValueError unless a node ran at a commit of this repository, no file changed."""
    revision = node["run"]["environment"]["git"]
    command = ["git", "-C", str(root), "merge-base", "--is-ancestor", revision, "HEAD"]
    known = (
        re.fullmatch("[0-9a-f]{40}", revision)
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )
    if not known:
        raise ValueError(
            f"{node['name']}: expected a run of an unchanged commit of this repository, it ran at"
            f" {revision}" + " (files changed)" * revision.endswith("+")
        )


def _check_settings(node: dict, profile: dict, root: Path) -> None:
    """Raise ValueError where a parameter is not what profile and notebook say; those that are of a
    machine, or the folders of other nodes, may be anything.
    """
    entries = yaml.safe_load((root / "workflow" / "nodes.yaml").read_text(encoding="utf-8"))
    keys = [key for key in entries if f"{node['name']}-".startswith(f"{key}-")]
    if not keys:
        raise ValueError(
            f"{node['name']}: expected a node of nodes.yaml, there is none of the name"
        )
    entry, item = entries[max(keys, key=len)], node["name"][len(max(keys, key=len)) + 1 :]
    wanted = runs.parameters_of(root / "notebooks" / entry["notebook"])
    wanted |= profile.get("parameters", {}).get(Path(entry["notebook"]).stem, {})
    wanted |= {"seed": profile["seed"]} if "seed" in wanted else {}
    wanted |= {"dataset": item} if item else {}
    others = {*entry.get("needs", {}), entry.get("finally")}
    others |= {"dataset"} if "for_all" in entry else set()
    for name in wanted.keys() - FREE - others:
        if (got := node["run"]["parameters"].get(name)) != wanted[name]:
            raise ValueError(
                f"{node['name']}: {name}: expected {wanted[name]!r} as in the profile, this run had"
                f" {got!r}"
            )
