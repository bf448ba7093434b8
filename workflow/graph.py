"""The nodes of a profile, read from ``nodes.yaml`` and ``profiles/NAME.yaml``."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from fusionlib import places, runs, text_files
from fusionlib.datasets import get

HERE = Path(__file__).resolve().parent
BUILT_IN = "builtin"  # the word of profiles for data that needs no FUSION_DATA


@dataclass
class Node:
    """One papermill call: a notebook, its parameters, where its results go and what it needs.

    Attributes
    ----------
    folder : Path
        Where its results go.
    provides : list of str
        The words of ``ONLY`` that ask for it.
    needs : list of Path
        Folders of the nodes that must have run before.
    wanted : bool
        Asked for; what a wanted node needs runs too.
    is_final : bool
        Run after all others, whether they succeeded or not, and every time: it reads what they
        left.
    without : list of str
        Folders of the data sets that it would run on too, were they there.
    hours : float
        By the costs that the profile states, of a GPU where it is told to run on one; an estimate,
        0 without any.
    basis : str
        How that was estimated.
    gigabytes, seconds : float
        What it took where it was measured, see :func:`measured`; 0 seconds elsewhere.
    """

    name: str
    notebook: Path
    folder: Path
    parameters: dict
    threads: int
    provides: list[str]
    needs: list[Path] = field(default_factory=list)
    wanted: bool = True
    is_final: bool = False
    without: list[str] = field(default_factory=list)
    hours: float = 0.0
    basis: str = ""
    gigabytes: float = 5.0
    seconds: float = 0.0

    @property
    def gpu(self) -> bool:
        """Whether it is told to run on a GPU."""
        return self.parameters.get("device") == "cuda"

    @property
    def minutes(self) -> int:
        """Longest time to ask a cluster for: a quarter of an hour and three times what was
        measured; where nothing was, an hour and three times the estimate.
        """
        return 15 + math.ceil(self.seconds / 20) if self.seconds else 60 + int(180 * self.hours)

    @property
    def megabytes(self) -> int:
        """Memory to ask a cluster for: half as much again as was measured, for other machines, and
        0.5 GB a thread for what starts the notebook and for processes that it starts.
        """
        return math.ceil(1000 * (1.5 * self.gigabytes + 0.5 * self.threads))


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
    content = text_files.read_yaml(path)
    schema = yaml.safe_load((HERE / "profile.schema.yaml").read_text())
    # JSON Schema takes 2.0 for an integer, and NaN for any number
    checker = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: type(value) is int,
            "number": lambda _, value: (
                type(value) is int or (type(value) is float and math.isfinite(value))
            ),
        }
    )
    validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=checker)(
        schema
    )
    refused = jsonschema.exceptions.best_match(validator.iter_errors(content))
    if refused:
        where = "/".join(map(str, refused.absolute_path)) or "top level"
        raise ValueError(f"{path}: {where}: {refused.message}")
    return content


# radon C: one call makes all nodes; each kind of parameter has its own function
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
    profile : str
        Name of a file in ``profiles``.
    reports : path
        Folder of this profile's results; a node's folder is ``reports/NODE``.
    only : list of str
        Words such as "table-A-1", "multi-focus" or, of one data set, "table-1-tno"; empty: all.
    data, weights : str
        Folders to look in before those of :func:`fusionlib.places.folders`.
    here : path
        Folder with ``nodes.yaml`` and ``profiles``; notebooks are looked for in ``notebooks``
        beside it.
    dry : bool
        Nothing will run, so data need not be there.

    Raises
    ------
    ValueError
        An unknown word in ``only`` or in the profile's costs; a notebook or parameter that there is
        not, or a value of another type; a data set of a node that will run is nowhere.
    """
    settings, entries = load_graph(profile, only, here)
    folders_of_weights = [
        folder for folder in places.folders("weights", weights) if folder.is_dir()
    ]
    weights = str(next(iter(folders_of_weights), "")) if profile != "smoke" else places.NOWHERE
    lacking = {} if dry else missing_sets(settings, data)
    nodes = []
    folders: dict[str, dict[str | None, Path]] = {}
    for key, entry in entries.items():
        known = runs.parameters_of(entry["notebook"])
        folders[key] = {}
        for item in items_of(entry, settings):
            name = node_name(key, item)
            folders[key][item] = reports / name
            needs = {
                parameter: chosen_folders(f"{name}: {parameter}", need, folders, item, lacking)
                for parameter, need in entry.get("needs", {}).items()
            }
            whole = settings.get(entry.get("for_all"), [BUILT_IN])
            present = [other for other in whole if other not in lacking] or whole
            asked = dict.fromkeys([*whole, *taken_whole(entry, item, folders)])
            parameters = {
                **settings.get("parameters", {}).get(entry["notebook"].stem, {}),
                **data_parameters(entry, item, present, settings, data, known),
                **common_parameters(settings, weights, known),
                **need_parameters(needs, known),
                **({entry["finally"]: str(reports)} if "finally" in entry else {}),
            }
            runs.check_parameters(entry["notebook"], parameters)
            hours, basis = estimate(settings, entry, item)
            nodes.append(
                Node(
                    name=name,
                    notebook=entry["notebook"],
                    folder=reports / name,
                    parameters=parameters,
                    threads=settings["threads"],
                    provides=entry["provides"],
                    needs=[folder for chosen in needs.values() for folder in chosen],
                    wanted=not only or bool(set(only) & words_of(key, entry, item)),
                    is_final="finally" in entry,
                    without=[lacking[name] for name in asked if name in lacking],
                    hours=hours,
                    basis=basis,
                    **measured(profile, node_name(key, item), here),
                )
            )
    if not dry:
        check_data(nodes)
    return nodes


def load_graph(profile: str, only: Sequence[str], here: Path) -> tuple[dict, dict[str, dict]]:
    """Read a profile and ``nodes.yaml``, check each against the other and against the notebooks.

    Parameters
    ----------
    profile, only, here
        As for :func:`expand`.

    Returns
    -------
    settings : dict
        The profile.
    entries : dict
        Those of ``nodes.yaml``, ``notebook`` made a path.

    Raises
    ------
    ValueError
        As for :func:`expand`, but for the data.
    """
    settings = load_profile(profile, here)
    entries = yaml.safe_load((here / "nodes.yaml").read_text())
    check_words(profile, settings, entries, only)
    for entry in entries.values():
        entry["notebook"] = here.parent / "notebooks" / entry["notebook"]
    notebooks = [entry["notebook"] for entry in entries.values()]
    check_profile_parameters(here / "profiles" / f"{profile}.yaml", settings, notebooks)
    return settings, entries


def measured(profile: str, node: str, here: Path = HERE) -> dict[str, float]:
    """Return ``gigabytes`` and ``seconds`` that a node of a profile took: ``measured.csv`` beside
    the graph, of ``run.json`` of one run. Empty where it was not measured: a job that asked for
    too little is sent again with twice as much.
    """
    path = here / "measured.csv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = {(row["profile"], row["node"]): row for row in csv.DictReader(file)}
    row = rows.get((profile, node), {})
    return {name: float(row[name]) for name in ("gigabytes", "seconds") if row.get(name)}


def node_name(key: str, item: str | None) -> str:
    """Return the name of a node: of an entry, and of its data set where that is no built-in one."""
    return key if item in (None, BUILT_IN) else f"{key}-{item}"


def words_of(key: str, entry: dict, item: str | None) -> set[str]:
    """Return the words of ONLY that mean a node: its own name, what it provides, and that for its
    data set alone, such as "table-1-tno".
    """
    provides = entry["provides"]
    return {node_name(key, item), *provides, *(node_name(word, item) for word in provides)}


def check_words(profile: str, settings: dict, entries: dict, only: Sequence[str]) -> None:
    """Raise ValueError where ``only`` or the profile's costs name what no node provides, or its
    splits a data set that it does not have.
    """
    words = {word for entry in entries.values() for word in entry["provides"]}
    known = ", ".join(sorted(words))
    names = set[str]().union(
        *(
            words_of(key, entry, item)
            for key, entry in entries.items()
            for item in items_of(entry, settings)
        )
    )
    if unknown := sorted(set(only) - names):
        raise ValueError(f"ONLY: no table or figure named {', '.join(unknown)}; there are {known}")
    if unknown := sorted(set(settings.get("costs", {})) - words):
        raise ValueError(
            f"profile {profile}: costs: no node provides {', '.join(unknown)}; there are {known}"
        )
    datasets = set().union(*(value for value in settings.values() if isinstance(value, list)))
    if unknown := sorted(set(settings.get("splits", {})) - datasets):
        raise ValueError(
            f"profile {profile}: splits: no data set named {', '.join(unknown)}; there are"
            f" {', '.join(sorted(datasets))}"
        )


def check_profile_parameters(path: Path, settings: dict, notebooks: Iterable[Path]) -> None:
    """Raise ValueError where a profile names a notebook or parameter that there is not, or a value
    has another type than the notebook's default.
    """
    known = {notebook.stem: notebook for notebook in notebooks}
    for name, values in settings.get("parameters", {}).items():
        if name not in known:
            raise ValueError(
                f"{path}: parameters: no notebook named {name}{runs.nearest(name, known)}"
            )
        try:
            runs.check_parameters(known[name], values)
        except ValueError as error:
            raise ValueError(f"{path}: parameters: {error}") from None


def items_of(entry: dict, settings: dict) -> Sequence[str | None]:
    """Return the data sets that an entry has one node for each of; [None] for a single node."""
    return settings.get(entry["for_each"], [BUILT_IN]) if "for_each" in entry else [None]


# radon C: one data set, several, or none
def data_parameters(
    entry: dict,
    item: str | None,
    items: Sequence[str],
    settings: dict,
    data: str,
    known: Collection[str],
) -> dict:
    """Return ``dataset``, ``data`` and, where the notebook knows it and the profile states it,
    ``split`` of a node of one data set, ``item``, or of several, ``items``; nothing where it runs
    on built-in data alone.
    """
    splits = settings.get("splits", {}) if "split" in known else {}
    if item not in (None, BUILT_IN):
        split = {"split": splits[item]} if item in splits else {}
        return {"dataset": item, "data": data_folder(data, entry["for_each"], item), **split}
    if items == [BUILT_IN]:
        return {}
    return {
        "dataset": ["built-in" if name == BUILT_IN else name for name in items],
        "data": [
            "" if name == BUILT_IN else data_folder(data, entry["for_all"], name) for name in items
        ],
        **({"split": [splits.get(name, "") for name in items]} if splits else {}),
    }


def common_parameters(settings: dict, weights: str, known: dict) -> dict:
    """Return what every notebook gets that has a parameter of the name."""
    offered = {name: settings[name] for name in ("seed", "device", "threads")}
    offered["weights"] = weights
    return {name: value for name, value in offered.items() if name in known}


def chosen_folders(
    where: str,
    need: dict,
    folders: dict[str, dict[str | None, Path]],
    item: str | None,
    lacking: Collection[str] = (),
) -> list[Path]:
    """Return the folders of another node that a node needs.

    Parameters
    ----------
    where : str
        Node and parameter, for the error sentence.
    need : dict
        ``node``, the key of the other node, and ``take``, which of its folders.
    folders : dict
        Key of a node -> its data sets -> their folders.
    item : str or None
        The data set of the node that asks.
    lacking : collection of str
        Data sets that are not there: "all" and "first" are of the others, as far as there are any.

    Raises
    ------
    ValueError
        ``take`` is no such word, or "same" where there is none of the same data set.
    """
    candidates, (preferred, _, otherwise) = folders[need["node"]], need["take"].partition(" or ")
    if preferred == "same" and item in candidates:
        return [candidates[item]]
    present = [folder for name, folder in candidates.items() if name not in lacking]
    every = present or list(candidates.values())
    match otherwise or preferred:
        case "all":
            return every
        case "first":
            return every[:1]
    raise ValueError(
        f"nodes.yaml: {where}: expected {need['node']} for the data set {item} (take:"
        f" {need['take']}), the profile has it for {', '.join(map(str, candidates))}"
    )


def taken_whole(
    entry: dict, item: str | None, folders: dict[str, dict[str | None, Path]]
) -> list[str | None]:
    """Return the data sets of the nodes of which :func:`chosen_folders` takes all."""
    return [
        name
        for need in entry.get("needs", {}).values()
        if need["take"].endswith("all")
        and not (need["take"].startswith("same") and item in folders[need["node"]])
        for name in folders[need["node"]]
    ]


def need_parameters(needs: dict[str, list[Path]], known: dict) -> dict:
    """Return the folders of needed nodes as text: a list for ``all`` and for a list parameter."""
    parameters = {}
    for name, chosen in needs.items():
        is_list = isinstance(known.get(name), list) or len(chosen) > 1
        parameters[name] = list(map(str, chosen)) if is_list else str(chosen[0])
    return parameters


def estimate(settings: dict, entry: dict, item: str | None) -> tuple[float, str]:
    """Return the hours of a node by the profile's ``costs``, and how they come about.

    pairs x epochs x times / (pairs per second); the pairs of its data set, or of all where it is
    not of one.

    Raises
    ------
    ValueError
        The profile does not say how many pairs there are.
    """
    items = [item] if "for_each" in entry else settings["infrared_visible"]
    datasets = [name for name in items if name and name != BUILT_IN]
    hours, basis = 0.0, []
    for word in entry["provides"]:
        cost = settings.get("costs", {}).get(word)
        if cost is None:
            continue
        pairs = count_pairs(settings, datasets, cost["split"])
        passes = {name: cost[name] for name in ("epochs", "times") if name in cost}
        hours += pairs * math.prod(passes.values()) / cost["pairs_per_second"] / 3600
        factors = [f"{pairs} pairs", *(f"{count} {name}" for name, count in passes.items())]
        basis.append(f"{' x '.join(factors)} / {cost['pairs_per_second']:g} pairs per second")
    return hours, "; ".join(basis)


def count_pairs(settings: dict, datasets: Sequence[str], split: str) -> int:
    """Return how many pairs the profile states for a split of some data sets; raise ValueError
    where it states none.
    """
    stated = settings.get("pairs", {})
    if missing := [name for name in datasets if split not in stated.get(name, {})]:
        raise ValueError(
            f"profile: pairs: expected how many are in the split {split} of {', '.join(missing)}"
        )
    return sum(stated[name][split] for name in datasets)


def listing(nodes: Sequence[Node]) -> str:
    """Return the jobs of a run as text, with the hours that the profile's costs mean."""
    wanted = [node for node in nodes if node.wanted]
    width = max(len(node.name) for node in wanted)
    hours_of = "GPU hours" if any(node.gpu for node in wanted) else "    hours"
    lines = [f"{'job':{width}}  {hours_of}  estimated from the costs that the profile states"]
    for node in wanted:
        kind = "GPU, no cost stated" if node.gpu else "processor only"
        cost = f"{node.hours:9.2f}  {node.basis}" if node.basis else f"        -  {kind}"
        lines.append(f"{node.name:{width}}  {cost}")
    hours = sum(node.hours for node in wanted)
    lines.append(f"{'together':{width}}  {hours:9.2f}  {len(wanted)} jobs")
    return "\n".join(lines)


def data_folder(data: str, kind: str, item: str) -> str:
    """Return the folder of one data set: where it is, else the first where it could be."""
    name = f"{'mfif' if kind.startswith('multi_focus') else 'ivif'}/{item}"
    first = next(iter(places.folders("data", data)), Path("FUSION_DATA"))
    return str(places.find("data", name, data) or first / name)


def missing_sets(settings: dict, data: str) -> dict[str, str]:
    """Return the data sets of a profile that are not there, with the folder each could be in."""
    folders = {
        item: data_folder(data, kind, item)
        for kind, items in settings.items()
        if kind.startswith(("multi_focus", "infrared_visible", "trained_on"))
        for item in items
        if item != BUILT_IN
    }
    return {item: folder for item, folder in folders.items() if not Path(folder).is_dir()}


# radon C: what runs, what that needs, and where its data is
def check_data(nodes: Sequence[Node]) -> None:
    """Tell on stderr of each data set of nodes that will run that is not there: nodes of it alone
    fail, those of several sets run without it. What nobody asked for need not be there.

    Raises
    ------
    ValueError
        None of the data sets is there.
    """
    running = {node.folder for node in nodes if node.wanted}
    for node in reversed(nodes):  # a node stands behind all that it needs
        running |= set(node.needs) if node.folder in running else set()
    given = [node.parameters.get("data", []) for node in nodes if node.folder in running]
    given += [node.without for node in nodes if node.folder in running]
    folders = dict.fromkeys(
        folder for data in given for folder in ([data] if isinstance(data, str) else data) if folder
    )
    missing = {
        folder: f"FUSION_DATA: expected the data set {Path(folder).name} at {folder}, found nothing"
        f" there; run: make data{get.make_option(folder)}"
        for folder in folders
        if not Path(folder).is_dir()
    }
    if missing and len(missing) == len(folders):
        raise ValueError(f"{next(iter(missing.values()))}, or use PROFILE=smoke")
    for sentence in missing.values():
        print(f"{sentence}; what is of it alone fails, the rest runs", file=sys.stderr)
