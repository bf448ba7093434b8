"""The nodes of a profile, read from ``nodes.yaml`` and ``profiles/NAME.yaml``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent


@dataclass
class Node:
    """One papermill call: a notebook, its parameters, where its results go and what must have run before."""

    name: str
    notebook: Path
    folder: Path
    parameters: dict
    threads: int
    gives: list[str]
    after: list[Path] = field(default_factory=list)
    wanted: bool = True


def profiles(here: Path = HERE) -> list[str]:
    """Return the names of all profiles."""
    return sorted(path.stem for path in (here / "profiles").glob("*.yaml"))


def load_profile(name: str, here: Path = HERE) -> dict:
    """Read a profile and check it against the schema.

    Raises
    ------
    ValueError
        No such profile, or an entry that the schema refuses; the sentence names it.
    """
    import jsonschema

    if name not in profiles(here):
        raise ValueError(f"PROFILE: expected one of {', '.join(profiles(here))}, got {name!r}")
    path = here / "profiles" / f"{name}.yaml"
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML, got a damaged file ({str(error).splitlines()[0]})") from None
    schema = yaml.safe_load((HERE / "profile.schema.yaml").read_text())
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(content))
    if error:
        raise ValueError(f"{path}: {'/'.join(map(str, error.absolute_path)) or 'top level'}: {error.message}")
    return content


def expand(profile: str, reports: Path, only: Sequence[str] = (), data: str = "", weights: str = "",
           here: Path = HERE) -> list[Node]:
    """Return the nodes of a profile; those that ``only`` does not ask for are not ``wanted`` (but may be needed).

    Parameters
    ----------
    reports : path
        Folder of this profile's results; a node's folder is ``reports/NODE``.
    only : list of str
        Words such as "table-A-1" or "multi-focus"; empty means all.
    data, weights : str
        Absolute paths of FUSION_DATA and FUSION_WEIGHTS, or "".
    here : path
        Folder with ``nodes.yaml`` and ``profiles``; notebooks are looked for in ``notebooks`` beside it.

    Raises
    ------
    ValueError
        An unknown word in ``only``, or a data set that needs FUSION_DATA where it is not set.
    """
    settings = load_profile(profile, here)
    table = yaml.safe_load((here / "nodes.yaml").read_text())
    words = {word for entry in table.values() for word in entry["gives"]}
    unknown = sorted(set(only) - words)
    if unknown:
        raise ValueError(f"ONLY: no table or figure named {', '.join(unknown)}; there are {', '.join(sorted(words))}")
    nodes: list[Node] = []
    folders: dict[str, list[Path]] = {}
    for key, entry in table.items():
        items = settings.get(entry["over"], ["builtin"]) if "over" in entry else [None]
        folders[key] = []
        for item in items:
            name = key if item in (None, "builtin") else f"{key}-{item}"
            notebook = here.parent / "notebooks" / entry["notebook"]
            known = parameters_of(notebook)
            parameters = dict(settings.get("parameters", {}).get(notebook.stem, {}))
            if item not in (None, "builtin"):
                parameters |= {"dataset": item, "data": data_folder(data, entry["over"], item)}
            together = settings.get(entry.get("together"), ["builtin"])
            if together != ["builtin"]:
                parameters |= {"dataset": ["built-in" if item == "builtin" else item for item in together],
                               "data": ["" if item == "builtin" else data_folder(data, entry["together"], item)
                                        for item in together]}
            offered = {"seed": settings["seed"], "device": settings["device"], "threads": settings["threads"],
                       "weights": weights if profile != "smoke" else ""}
            parameters |= {name: value for name, value in offered.items() if name in known}
            after = []
            for other, parameter in entry.get("after", {}).items():
                after += folders[other]
                parameters[parameter] = list(map(str, folders[other])) if len(folders[other]) > 1 or isinstance(
                    known[parameter], list) else str(folders[other][0])
            nodes.append(Node(name, notebook, reports / name, parameters, settings["threads"], entry["gives"], after,
                              not only or bool(set(only) & set(entry["gives"]))))
            folders[key].append(reports / name)
    return nodes


def data_folder(data: str, kind: str, item: str) -> str:
    """Return the folder of one data set below FUSION_DATA."""
    below = "mfif" if kind.startswith("multi_focus") else "ivif"
    if not data:
        raise ValueError(f"FUSION_DATA: the data set {item} needs it; set it to the folder that holds {below}/{item}, "
                         "or use PROFILE=smoke")
    folder = Path(data) / below / item
    if not folder.is_dir():
        raise ValueError(f"FUSION_DATA: expected the data set {item} at {folder}, found nothing there")
    return str(folder)


def parameters_of(notebook: Path) -> dict:
    """Return the parameters of a notebook with their defaults."""
    import ast
    import json

    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            tree = ast.parse("".join(cell["source"]))
            return {statement.targets[0].id if isinstance(statement, ast.Assign) else statement.target.id:
                    ast.literal_eval(statement.value) for statement in tree.body}
    raise ValueError(f"{notebook}: expected a cell tagged parameters, found none")
