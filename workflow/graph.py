"""The nodes of a profile, read from ``nodes.yaml`` and ``profiles/NAME.yaml``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from fusionlib import runs

HERE = Path(__file__).resolve().parent


@dataclass
class Node:
    """One papermill call: a notebook, its parameters, where its results go and what must have run
    before.

    Attributes
    ----------
    wanted : bool
        Asked for; what a wanted node needs runs too.
    last : bool
        Run after all others, whether they succeeded or not, and every time: it reads what they
        left.
    hours : float
        GPU hours by the costs that the profile states; an estimate, 0 without any.
    basis : str
        How that was estimated.
    """

    name: str
    notebook: Path
    folder: Path
    parameters: dict
    threads: int
    gives: list[str]
    after: list[Path] = field(default_factory=list)
    wanted: bool = True
    last: bool = False
    hours: float = 0.0
    basis: str = ""

    @property
    def gpu(self) -> bool:
        """Whether it is told to run on a GPU."""
        return self.parameters.get("device") == "cuda"

    @property
    def minutes(self) -> int:
        """Longest time to ask a cluster for: an hour, and three times the estimate."""
        return 60 + int(180 * self.hours)


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
        raise ValueError(
            f"{path}: expected YAML, got a damaged file ({str(error).splitlines()[0]})"
        ) from None
    schema = yaml.safe_load((HERE / "profile.schema.yaml").read_text())
    error = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(schema).iter_errors(content)
    )
    if error:
        raise ValueError(
            f"{path}: {'/'.join(map(str, error.absolute_path)) or 'top level'}: {error.message}"
        )
    return content


def expand(
    profile: str,
    reports: Path,
    only: Sequence[str] = (),
    data: str = "",
    weights: str = "",
    here: Path = HERE,
    dry: bool = False,
) -> list[Node]:
    """Return the nodes of a profile; those that ``only`` does not ask for are not ``wanted`` (but
    may be needed).

    Parameters
    ----------
    reports : path
        Folder of this profile's results; a node's folder is ``reports/NODE``.
    only : list of str
        Words such as "table-A-1" or "multi-focus"; empty means all.
    data, weights : str
        Absolute paths of FUSION_DATA and FUSION_WEIGHTS, or "".
    here : path
        Folder with ``nodes.yaml`` and ``profiles``; notebooks are looked for in ``notebooks``
        beside it.
    dry : bool
        Nothing will run, so data need not be there.

    Raises
    ------
    ValueError
        An unknown word in ``only`` or in the profile's costs; FUSION_DATA does not hold a data set
        of a node that will run, or is not set.
    """
    settings = load_profile(profile, here)
    table = yaml.safe_load((here / "nodes.yaml").read_text())
    words = {word for entry in table.values() for word in entry["gives"]}
    unknown = sorted(set(only) - words)
    if unknown:
        raise ValueError(
            f"ONLY: no table or figure named {', '.join(unknown)}; there are"
            f" {', '.join(sorted(words))}"
        )
    if odd := sorted(set(settings.get("costs", {})) - words):
        raise ValueError(
            f"profile {profile}: costs: no node gives {', '.join(odd)}; there are"
            f" {', '.join(sorted(words))}"
        )
    nodes: list[Node] = []
    folders: dict[str, dict[str | None, Path]] = {}
    for key, entry in table.items():
        items = settings.get(entry["over"], ["builtin"]) if "over" in entry else [None]
        folders[key] = {}
        for item in items:
            name = key if item in (None, "builtin") else f"{key}-{item}"
            notebook = here.parent / "notebooks" / entry["notebook"]
            known = runs.parameters_of(notebook)
            parameters = dict(settings.get("parameters", {}).get(notebook.stem, {}))
            if item not in (None, "builtin"):
                parameters |= {"dataset": item, "data": data_folder(data, entry["over"], item)}
            together = settings.get(entry.get("together"), ["builtin"])
            if together != ["builtin"]:
                parameters |= {
                    "dataset": ["built-in" if item == "builtin" else item for item in together],
                    "data": [
                        "" if item == "builtin" else data_folder(data, entry["together"], item)
                        for item in together
                    ],
                }
            offered = {
                "seed": settings["seed"],
                "device": settings["device"],
                "threads": settings["threads"],
                "weights": weights if profile != "smoke" else "",
            }
            parameters |= {name: value for name, value in offered.items() if name in known}
            after = []
            for other, parameter in entry.get("after", {}).items():
                # A model is scored on its own data set. A node without one of its own takes all
                # there are, or the first where it takes a single one.
                mine = folders[other].get(item) if "over" in entry else None
                before = [mine] if mine else list(folders[other].values())
                many = isinstance(known[parameter], list)
                after += before if many else before[:1]
                parameters[parameter] = list(map(str, before)) if many else str(before[0])
            if "last" in entry:
                parameters[entry["last"]] = str(reports)
            nodes.append(
                Node(
                    name,
                    notebook,
                    reports / name,
                    parameters,
                    settings["threads"],
                    entry["gives"],
                    after,
                    not only or bool(set(only) & set(entry["gives"])),
                    "last" in entry,
                    *estimate(settings, entry, item),
                )
            )
            folders[key][item] = reports / name
    if not dry:
        check_data(nodes, data)
    return nodes


def estimate(settings: dict, entry: dict, item: str | None) -> tuple[float, str]:
    """Return the GPU hours of a node by the profile's ``costs``, and how they come about.

    pairs x epochs x times / (pairs per second); the pairs of its data set, or of all where it is
    not of one.

    Raises
    ------
    ValueError
        The profile does not say how many pairs there are.
    """
    hours, basis = 0.0, []
    for cost in (
        settings["costs"][word] for word in entry["gives"] if word in settings.get("costs", {})
    ):
        items = [item] if "over" in entry else settings["infrared_visible"]
        real = [name for name in items if name != "builtin"]
        if missing := [
            name for name in real if cost["split"] not in settings.get("pairs", {}).get(name, {})
        ]:
            raise ValueError(
                f"profile: pairs: expected how many are in the split {cost['split']} of"
                f" {', '.join(missing)}"
            )
        pairs = sum(settings["pairs"][name][cost["split"]] for name in real)
        passes = {name: cost[name] for name in ("epochs", "times") if name in cost}
        hours += pairs * math.prod(passes.values()) / cost["pairs_per_second"] / 3600
        basis.append(
            " x ".join([f"{pairs} pairs", *(f"{count} {name}" for name, count in passes.items())])
            + f" / {cost['pairs_per_second']:g} pairs per second"
        )
    return hours, "; ".join(basis)


def listing(nodes: Sequence[Node]) -> str:
    """Return the jobs of a run as text, with the GPU hours that the profile's costs mean."""
    wanted = [node for node in nodes if node.wanted]
    width = max(len(node.name) for node in wanted)
    kind = {True: "GPU, no cost stated", False: "processor only"}
    lines = [
        f"{node.name:{width}} "
        f" {f'{node.hours:9.2f}  {node.basis}' if node.basis else f'        -  {kind[node.gpu]}'}"
        for node in wanted
    ]
    total = f"{'together':{width}}  {sum(node.hours for node in wanted):9.2f}  {len(wanted)} jobs"
    return "\n".join(
        [
            f"{'job':{width}}  GPU hours  estimated from the costs that the profile states",
            *lines,
            total,
        ]
    )


def data_folder(data: str, kind: str, item: str) -> str:
    """Return the folder of one data set below FUSION_DATA."""
    return str(
        Path(data or "FUSION_DATA") / ("mfif" if kind.startswith("multi_focus") else "ivif") / item
    )


def check_data(nodes: Sequence[Node], data: str) -> None:
    """Raise ValueError where a data set of a node that will run is not there; what nobody asked for
    need not be.
    """
    running = {node.folder for node in nodes if node.wanted}
    for node in reversed(nodes):  # a node stands behind all that it needs
        running |= set(node.after) if node.folder in running else set()
    for node in (node for node in nodes if node.folder in running):
        given = node.parameters.get("data", [])
        for folder in filter(None, given if isinstance(given, list) else [given]):
            item, below = Path(folder).name, Path(folder).parent.name
            if not data:
                raise ValueError(
                    f"FUSION_DATA: the data set {item} needs it; set it to the folder that holds "
                    f"{below}/{item}, or use PROFILE=smoke"
                )
            if not Path(folder).is_dir():
                raise ValueError(
                    f"FUSION_DATA: expected the data set {item} at {folder}, found nothing there"
                )
