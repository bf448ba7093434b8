"""The report: one self-contained page from whatever a profile's folder holds.

It only reads: ``nodes.json`` (what was to run), each node's ``run.json``, ``results.csv``,
``figures/`` and ``log.txt``, and the printed numbers. Nothing is computed here that a notebook or
:mod:`fusionlib.results` has not computed.
"""

from __future__ import annotations

import contextlib
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fusionlib import audit, expectations, images, places, results, runs
from fusionlib.report import layout
from fusionlib.report.layout import PAPERS, TABLES, table
from fusionlib.report.rows import SIGNS, Section, sections
from fusionlib.report.shelf import Shelf, drawn, of_nodes

if TYPE_CHECKING:
    from jinja2 import Template

# Every figure and table of both papers by the word that nodes provide and ONLY understands.
# "" as word: a drawing of a procedure or a list of settings, with no result to reproduce.
ARTEFACTS = [
    ("figure-1", "moe-fusion", "Figure 1", "Three compared methods and MoE-Fusion with detections"),
    ("figure-2", "moe-fusion", "Figure 2", "The network, drawn from its forward pass"),
    ("figure-3", "moe-fusion", "Figure 3", "Fused images, first data set (M3FD in print)"),
    ("figure-4", "moe-fusion", "Figure 4", "Fused images, second data set (FLIR in print)"),
    ("figure-5", "moe-fusion", "Figure 5", "Fused images, third data set (LLVIP in print)"),
    ("figure-6", "moe-fusion", "Figure 6", "What each local expert learns"),
    ("figure-7", "moe-fusion", "Figure 7", "Numbers of experts"),
    ("figure-8", "moe-fusion", "Figure 8", "Weight alpha of the loss"),
    ("table-1", "moe-fusion", "Table 1", TABLES["table-1"].title),
    ("table-2", "moe-fusion", "Table 2", TABLES["table-2"].title),
    ("table-3", "moe-fusion", "Table 3", TABLES["table-3"].title),
    ("", "multi-focus", "Figure 1", "Frame of a multi-scale fusion: a drawing"),
    ("figure-2-pyramid", "multi-focus", "Figure 2", "The Laplacian pyramid of a pair"),
    ("figure-3-curvelet", "multi-focus", "Figure 3", "The curvelet transform"),
    ("", "multi-focus", "Figures 4, 5", "Steps of the optimised fusion: drawings"),
    ("figure-B-1", "multi-focus", "Figure B-1", "Fused images, first pair (Lab in print)"),
    ("figure-B-2", "multi-focus", "Figure B-2", "Differences, first pair (Lab in print)"),
    ("figure-B-3", "multi-focus", "Figure B-3", "Fused images, second pair (Leopard in print)"),
    ("figure-B-4", "multi-focus", "Figure B-4", "Differences, second pair (Leopard in print)"),
    (
        "",
        "multi-focus",
        "Table 1",
        "Settings of the two searches, the defaults of fusionlib.optimizers",
    ),
    *(
        (key, "multi-focus", f"Table {TABLES[key].number}", TABLES[key].title)
        for key in ("table-A-1", "table-A-2", "table-A-3")
    ),
]
EMBEDDED = 8_000_000  # bytes of figures inside the page; further ones are linked
COMPARED = 2_000_000  # bytes of images for the comparer, likewise


def assumptions() -> list[dict]:
    """Return every ``ASSUMPTION:`` sentence of the library with the file and line it stands in."""
    listed = []
    for path in sorted((runs.root() / "fusionlib").rglob("*.py")):
        if path == Path(__file__).resolve():
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        for index, line in enumerate(lines):
            if "ASSUMPTION:" in line:
                where = f"{path.relative_to(runs.root()).as_posix()}:{index + 1}"
                listed.append({"where": where, "text": _sentence(lines[index:])})
    return listed


def _sentence(lines: list[str]) -> str:
    """Return the sentence that begins behind ``ASSUMPTION:`` in the first of some lines."""
    parts = [lines[0].split("ASSUMPTION:", 1)[1]]
    for line in lines[1:]:
        text = line.strip().lstrip("#").strip()
        is_complete = parts[-1].rstrip().endswith((".", '."""'))
        if is_complete or not text or text.startswith(('"""', "ASSUMPTION:")):
            break
        parts.append(text)
    return " ".join(part.strip() for part in parts).rstrip('"')


def left_out(run: dict) -> list[str]:
    """Return what a finished run had to leave out: unreadable files, and methods that failed."""
    status = run.get("status", {})
    reasons = status.items() if isinstance(status, dict) else []
    failed = [f"{name} {reason}" for name, reason in reasons if reason.startswith("failed")]
    return [*run.get("problems", []), *failed]


def reasons(every: list[dict]) -> dict[str, str]:
    """Return ``{method: why a finished run has no row of it}``, without the paths."""
    status: dict[str, str] = {}
    for node in every:
        told = node["run"].get("status", {})
        status |= told if isinstance(told, dict) else {}
    return {name: reason.split(":")[0] for name, reason in status.items() if reason}


def without_weights(every: list[dict]) -> list[str]:
    """Return the methods that a finished run has no row of for want of weights."""
    return [name for name, reason in reasons(every).items() if reason == "no weights"]


def subject(every: list[dict], compared: int) -> str:
    """Return what the numbers of a run can show: "nothing" where none was finished, "compared"
    where some are of the paper's own images, else "generated" or "other images".
    """
    data = [node["run"]["parameters"].get("data") for node in every if node["run"]]
    if not data or compared:
        return "compared" if compared else "nothing"
    is_real = any(given and "".join(given) for given in data)  # a path, or a list of them
    return "other images" if is_real else "generated"


def add_contributed(tables: list[dict], home: Path) -> None:
    """Add the grids of numbers that others handed in (``home/GPU-NAME/PROFILE``), labelled."""
    for plan in sorted(home.glob("*/*/nodes.json")):
        frame = results.load(plan.parent)
        for entry in tables:
            for grid in table(entry["key"], frame).get("grids", []):
                if not grid.printed:
                    grid.title += f", contributed: {plan.parent.parent.name}, {plan.parent.name}"
                    entry["grids"].append(grid)


def nodes(folder: Path) -> list[dict]:
    """Return what became of each node: finished, failed (with its error) or not run.

    Raises
    ------
    ValueError
        ``nodes.json`` is of an older version.
    """
    planned = results.plan(folder)
    if planned and any("provides" not in node for node in planned):
        raise ValueError(
            f"{folder / 'nodes.json'}: expected what each node provides and needs, it was written"
            " by an older version; run make reproduce again"
        )
    refused = results.read(folder)[1]
    if planned is None:
        planned = [
            {"name": path.parent.name, "notebook": "", "provides": [], "wanted": True}
            for path in sorted(folder.glob("*/run.json"))
        ]
    every = [
        node | outcome(folder / node["name"], refused.get(node["name"], "")) for node in planned
    ]
    for node in every:
        if node["status"] == "finished":
            node["left_out"] += _without(node)
    return every


def _without(node: dict) -> list[str]:
    """Return a sentence for each data set that a node would have run on, were it there."""
    return [f"{name}: finished without it, it is not there" for name in node.get("without", [])]


def outcome(home: Path, refusal: str = "") -> dict:
    """Return what a node left in its folder: status, error, seconds, run, links, pictures,
    left_out; ``refusal`` says why its results do not count, see :func:`.results.read`.
    """
    result: dict = {
        "status": "not run",
        "error": "",
        "seconds": None,
        "run": {},
        "pictures": [],
        "left_out": [],
        "links": [
            f"{home.name}/{name}"
            for name in ("notebook.html", "notebook.ipynb", "results.csv", "log.txt")
            if (home / name).is_file()
        ],
    }
    if (home / "run.json").is_file():
        if refusal:
            return result | {"status": "failed", "error": refusal}
        run = runs.load(home)
        # What an unfinished run drew may be of an earlier one.
        return result | {
            "status": "finished",
            "seconds": run["seconds"],
            "run": run,
            "pictures": pictures(home),
            "left_out": left_out(run),
        }
    if (home / "log.txt").is_file():
        log = (home / "log.txt").read_text(encoding="utf-8", errors="replace")
        last = log.strip().splitlines()[-1:] or ["stopped before its first cell"]
        return result | {"status": "failed", "error": last[0]}
    return result


def artefacts(every: list[dict], tables: list[dict]) -> list[dict]:
    """Return of each figure and table of both papers whether it is there, and if not, why.

    Parameters
    ----------
    every : list of dict
        From :func:`nodes`, each with its ``pictures``.
    tables : list of dict
        From :func:`tables_of`.

    Returns
    -------
    list of dict
        word, paper, number, title, status ("present", "failed", "not run", "nothing to run"),
        reason, link ("" or an anchor of the page)
    """
    entries = []
    for word, paper, label, title in ARTEFACTS:
        entry = {"word": word, "paper": PAPERS[paper], "number": label, "title": title, "link": ""}
        if word:
            status = _artefact_status(word, every, tables)
        else:
            status = {"status": "nothing to run", "reason": "no numbers or images in it"}
        entries.append(entry | status)
    return entries


# radon C: what may have become of a figure or table, in order
def _artefact_status(word: str, every: list[dict], tables: list[dict]) -> dict:
    """Return status, reason and, where it is present, link of one figure or table."""
    providers = [node for node in every if word in node["provides"]]
    failed = [node for node in providers if node["status"] == "failed"]
    if link := _link_to(word, providers, tables):
        names = ", ".join(node["name"] for node in failed)
        reason = f"without {names}, which failed" if failed else ""
        lost = [sentence for node in providers for sentence in _without(node)]
        reason = "; ".join(filter(None, [reason, *lost]))
        if entry := next((entry for entry in tables if entry["key"] == word), None):
            reason = "; ".join(filter(None, [_compared(entry), reason]))
        return {"status": "present", "reason": reason, "link": link}
    if failed:
        return {"status": "failed", "reason": failed[0]["error"]}
    return {"status": "not run", "reason": _why_not_run(providers, every)}


def _compared(entry: dict) -> str:
    """Return how many printed numbers of a table stand beside ours on the paper's own images."""
    short = layout.in_short(layout.counts([entry]))
    if not short["compared"]:
        return "our numbers, none of them compared with print"
    return f"{short['compared']} of {short['in all']} printed numbers compared"


def _link_to(word: str, providers: list[dict], tables: list[dict]) -> str:
    """Return the anchor of a table with numbers of ours or of a figure, "" where there is none."""
    by_key = {entry["key"]: entry for entry in tables}
    if word in by_key and by_key[word]["joined"]["ours"].notna().any():
        return word
    for node in providers:
        for picture in node["pictures"]:
            if _shows(picture, word):
                return word if word in by_key else picture["anchor"]
    return ""


# radon C: each reason has its own sentence
def _why_not_run(providers: list[dict], every: list[dict]) -> str:
    """Return why none of the nodes that provide an artefact has left it, where none failed."""
    if not providers:
        return "no notebook of this profile provides it"
    first = providers[0]
    if "figures" in first["run"]:
        return f"{first['name']} finished; an archive keeps no pictures"
    if any(node["status"] == "finished" for node in providers):
        lost = "; ".join(sentence for node in providers for sentence in _without(node))
        return f"{first['name']} finished without it; {lost or 'its notebook says why'}"
    if not any(node["wanted"] for node in providers):
        return "ONLY did not ask for it"
    for node in every:
        if node["status"] == "failed" and node["name"] in first.get("needs", []):
            return f"{first['name']} did not run: it needs {node['name']}, which failed"
    return f"{first['name']} did not run"


def _shows(picture: dict, word: str) -> bool:
    """Tell whether a picture is of a figure: the longest word that its name begins with is it."""
    words = [
        beginning
        for beginning, *_ in ARTEFACTS
        if re.fullmatch(rf"{re.escape(beginning)}([-_].*)?", picture["name"])
    ]
    return bool(word) and word == max(words, key=len, default="")


def tables_of(folder: Path, every: list[dict]) -> list[dict]:
    """Return the printed tables that a node was to give, or that results are there for, beside
    those results.
    """
    frame = results.load(folder)
    asked = {word for node in every for word in node["provides"]}
    laid_out, why = [table(key, frame) for key in TABLES], reasons(every)
    for joined in (entry["joined"] for entry in laid_out):
        for line in joined[joined["verdict"] == "not run"].itertuples():
            joined.loc[line.Index, "note"] = why.get(line.method, line.note)
    return [
        entry
        for entry in laid_out
        if entry["key"] in asked or entry["joined"]["ours"].notna().any()
    ]


def pictures(home: Path) -> list[dict]:
    """Return the figures of one node in the order of their names: name, caption, path, anchor."""
    listed = []
    # a hidden one is half of what a killed run was writing
    for path in sorted((home / "figures").glob("[!.]*.png")):
        caption = path.with_suffix(".txt")
        listed.append(
            {
                "name": path.stem,
                "path": path,
                "anchor": f"{home.name}-{path.stem}",
                "caption": caption.read_text(encoding="utf-8") if caption.is_file() else "",
            }
        )
    return listed


def embed(every: list[dict], folder: Path, budget: int = EMBEDDED) -> None:
    """Set the ``source`` of each picture: a data URI while the budget lasts, figures of the papers
    first, else its path.
    """
    words = [word for word, *_ in ARTEFACTS]
    pictured = [picture for node in every for picture in node["pictures"]]

    def is_extra(picture: dict) -> bool:
        return not any(_shows(picture, word) for word in words)

    for picture in sorted(pictured, key=is_extra):
        picture["source"] = picture["path"].relative_to(folder).as_posix()
        try:
            source = drawn(picture["path"])
        except (ValueError, OSError) as error:
            picture["caption"] = f"{error}. {picture['caption']}"
            continue
        budget -= len(source)
        if budget >= 0:
            picture["source"] = source


def template(name: str) -> Template:
    """Return one of the templates beside this file; jinja2 may be missing, so it is asked first."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("fusionlib.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # the order is the reader's
    environment.globals["signs"] = SIGNS
    return environment.get_template(name)


def gallery(every: list[dict]) -> list[dict]:
    """Return the pictures of the papers' figures in the order of the papers; of each node those
    left are put under ``further``, each once though two nodes drew it.
    """
    seen: set[bytes] = set()
    figures = []
    for word, paper, label, title in ARTEFACTS:
        shown = [
            picture | {"node": node}
            for node in every
            for picture in node["pictures"]
            if _shows(picture, word)
        ]
        seen |= {picture["path"].read_bytes() for picture in shown}
        if shown:
            entry = {"paper": PAPERS[paper], "number": label, "title": title, "pictures": shown}
            makers = {picture["node"]["name"]: picture["node"] for picture in shown}
            figures.append(entry | {"nodes": list(makers.values())})
    for node in every:
        node["further"] = _further(node, seen)
    return figures


def _further(node: dict, seen: set[bytes]) -> list[dict]:
    """Return the pictures of a node that are none of ``seen``, and add them."""
    further = []
    for picture in node["pictures"]:
        content = picture["path"].read_bytes()
        if content not in seen:
            seen.add(content)
            further.append(picture | {"node": node})
    return further


def _with_makers(listed: list[Section], every: list[dict]) -> list[Section]:
    """Set the ``nodes`` of each section: those that were finished and provide it."""
    done = [node for node in every if node["status"] == "finished"]
    for section in listed:
        section.nodes = [node for node in done if set(section.keys) & set(node["provides"])]
    return listed


def notebook_page(home: Path) -> None:
    """Write ``notebook.html`` beside an executed notebook: embedded images, nothing fetched from
    elsewhere.

    A notebook that was cut off while it was written (a full disk, a power failure) gets none, and
    neither does one whose folder has no room for it: the page with all results must not fail for
    that.
    """
    import nbformat
    from nbconvert import HTMLExporter

    source, target = home / "notebook.ipynb", home / "notebook.html"
    if not source.is_file() or (
        target.is_file() and target.stat().st_mtime >= source.stat().st_mtime
    ):
        return
    exporter = HTMLExporter(
        embed_images=True,
        mathjax_url="",
        require_js_url="",
        jquery_url="",
        mermaid_js_url="",
        jupyter_widgets_base_url="",
        html_manager_semver_range="",
    )
    try:
        content = nbformat.read(source, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError):
        return
    page, _ = exporter.from_notebook_node(content)
    # What is left of the template's references to other hosts serves widgets only; offline they are
    # errors.
    page = re.sub(r'<script[^>]*src="[^"]*"[^>]*>\s*</script>', "", page)
    with contextlib.suppress(OSError):
        images.write_text(target, page)


# radon C: the parts of the page, collected in one place
def write(folder: str | Path) -> Path:
    """Write ``index.html`` and ``tables/`` into a profile's folder and return the page's path.

    Raises
    ------
    FileNotFoundError
        No such folder.
    ValueError
        Nothing was planned or run there.
    """
    page, folder = template("page.html"), Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: expected the folder of a profile's results, found nothing there"
        )
    for path in folder.glob("*/notebook.ipynb"):
        notebook_page(path.parent)
    every = nodes(folder)
    if not every:
        raise ValueError(
            f"{folder}: expected nodes.json or finished runs, found neither; run make reproduce"
            " first"
        )
    embed(every, folder)
    tables = tables_of(folder, every)
    for entry in tables:
        images.write_text(
            folder / "tables" / f"{entry['key']}.csv", entry["joined"].to_csv(index=False)
        )
        images.write_text(folder / "tables" / f"{entry['key']}.tex", layout.latex(entry))
    verdicts = layout.counts(tables)
    short = layout.in_short(verdicts)
    add_contributed(tables, places.reports() / "contributed")
    finished = [node["run"] for node in every if node["status"] == "finished"]
    claims = audit.audit()
    reference = expectations.reference_of(folder)
    shelf = Shelf(folder, COMPARED)
    text = page.render(
        profile=folder.name,
        made=datetime.now().strftime("%Y-%m-%d %H:%M"),
        nodes=every,
        sections=_with_makers(sections(tables), every),
        figures=gallery(every),
        sets=of_nodes(every, folder, shelf),
        sources=shelf.sources,
        artefacts=artefacts(every, tables),
        comparison=expectations.compare(folder, reference) if reference else None,
        strays=[
            sentence
            for name, sentence in results.read(folder)[1].items()
            if name not in {node["name"] for node in every}
        ],
        counts=verdicts,
        short=short,
        compared=layout.COMPARED,
        subject=subject(every, short["compared"]),
        without_weights=without_weights(every),
        verdicts=results.VERDICTS,
        claims=claims.to_dict("records"),
        claim_counts=audit.counts(claims),
        spoken=audit.SPOKEN,
        papers=PAPERS,
        assumptions=assumptions(),
        environment=finished[-1]["environment"] if finished else runs.environment(),
    )
    return images.write_text(folder / "index.html", text)
