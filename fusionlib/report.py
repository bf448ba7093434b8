"""The report: one self-contained page from whatever a profile's folder holds.

It only reads: ``nodes.json`` (what was to run), each node's ``run.json``, ``results.csv``, ``figures/`` and ``log.txt``,
and the printed numbers. Nothing is computed here that a notebook or :mod:`fusionlib.results` has not computed.
"""

from __future__ import annotations

import base64
import io
import json
import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fusionlib import images, published, results, runs

TABLES = {
    "table-A-1": ("multi-focus", "A-1", "Lab", "One pair, real photographs; the person moves between the shots."),
    "table-A-2": ("multi-focus", "A-2", "Leopard", "One pair, artificially blurred."),
    "table-A-3": ("multi-focus", "A-3", "Mean over the data set", "93 images in the paper, which were not published."),
}
PAPERS = {"multi-focus": "Abas & Baykan 2021", "moe-fusion": "Cao et al. 2023"}
ARROWS = {"MI": "↑", "Qabf": "↑", "EN": "↑", "CC": "↑", "SSIM": "↑", "RMSE": "↓", "PSNR": "↑"}


def assumptions() -> list[dict]:
    """Return every ``ASSUMPTION:`` sentence of the library with the file and line it stands in."""
    found = []
    for path in sorted((runs.root() / "fusionlib").rglob("*.py")):
        if path.name == Path(__file__).name:
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if "ASSUMPTION:" not in line:
                continue
            parts = [line.split("ASSUMPTION:", 1)[1]]
            following = number + 1
            while not parts[-1].rstrip().endswith(('.', '."""')) and following < len(lines):
                text = lines[following].strip().lstrip("#").strip()
                if not text or text.startswith(('"""', "ASSUMPTION:")):
                    break
                parts.append(text)
                following += 1
            sentence = " ".join(part.strip() for part in parts).rstrip('"')
            found.append({"where": f"{path.relative_to(runs.root()).as_posix()}:{number + 1}", "text": sentence})
    return found


def nodes(folder: Path) -> list[dict]:
    """Return what became of each node: finished, failed (with its error) or not run."""
    try:
        planned = json.loads((folder / "nodes.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        planned = []
    names = [node["name"] for node in planned]
    planned += [{"name": path.parent.name, "notebook": "", "gives": [], "wanted": True}
                for path in sorted(folder.glob("*/run.json")) if path.parent.name not in names]
    for node in planned:
        home = folder / node["name"]
        node |= {"status": "not run", "error": "", "seconds": None, "run": {}, "links": []}
        if (home / "run.json").is_file():
            try:
                node["run"] = runs.load(home)
                node |= {"status": "finished", "seconds": node["run"]["seconds"]}
            except ValueError as error:
                node |= {"status": "failed", "error": str(error)}
        elif (home / "log.txt").is_file():
            lines = (home / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            node |= {"status": "failed", "error": lines[-1] if lines else "stopped before its first cell"}
        node["links"] = [f"{node['name']}/{name}" for name in ("notebook.html", "notebook.ipynb", "results.csv", "log.txt")
                         if (home / name).is_file()]
    return planned


def table(key: str, frame: pd.DataFrame) -> dict:
    """Lay out one printed table beside what was reproduced, for the page and for ``tables/KEY.{csv,tex}``."""
    paper, number, title, caption = TABLES[key]
    printed = published.table(paper, number)
    joined = results.beside(printed, results.comparable(frame, printed))
    for claim in published.claims().itertuples():
        joined["note"] = joined["note"].str.replace(f"contradicts {claim.id}", f"refuted by the table itself: {claim.claim}")
    metrics = list(dict.fromkeys(joined["metric"]))
    lines = []
    for (method, variant), part in joined.groupby(["method", "variant"], sort=False):
        cells = {row.metric: row for row in part.itertuples()}
        lines.append({"method": method, "variant": variant, "cells": [cells.get(metric) for metric in metrics]})
    return {"key": key, "paper": PAPERS[paper], "number": number, "title": title, "caption": caption,
            "metrics": [f"{metric} {ARROWS.get(metric, '')}".strip() for metric in metrics], "lines": lines,
            "joined": joined}


def figures(home: Path) -> list[dict]:
    """Return the figures of one node, embedded, in the order of their names."""
    found = []
    for path in sorted((home / "figures").glob("*.png")):
        caption = path.with_suffix(".txt")
        found.append({"name": path.stem, "caption": caption.read_text(encoding="utf-8") if caption.is_file() else "",
                      "data": embedded(path)})
    return found


def embedded(path: Path) -> str:
    """Return a picture as a data URI: the PNG itself, or a JPEG where that is smaller (photographs)."""
    encoded = io.BytesIO()
    Image.open(path).convert("RGB").save(encoded, "JPEG", quality=85, optimize=True)
    kind, data = min(("png", path.read_bytes()), ("jpeg", encoded.getvalue()), key=lambda item: len(item[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def notebook_page(home: Path) -> None:
    """Write ``notebook.html`` beside an executed notebook: embedded images, nothing fetched from elsewhere."""
    import nbformat
    from nbconvert import HTMLExporter

    source, target = home / "notebook.ipynb", home / "notebook.html"
    if not source.is_file() or (target.is_file() and target.stat().st_mtime >= source.stat().st_mtime):
        return
    exporter = HTMLExporter(embed_images=True, mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url="",
                            jupyter_widgets_base_url="", html_manager_semver_range="")
    page, _ = exporter.from_notebook_node(nbformat.read(source, as_version=4))
    # What is left of the template's references to other hosts serves widgets only; offline they are errors.
    page = re.sub(r'<script[^>]*src="[^"]*"[^>]*>\s*</script>', "", page)
    images.write_text(target, page)


def write(folder: str | Path) -> Path:
    """Write ``index.html`` and ``tables/`` into a profile's folder and return the page's path.

    Raises
    ------
    FileNotFoundError
        No such folder.
    ValueError
        Nothing was planned or run there.
    """
    from jinja2 import Environment, PackageLoader

    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected the folder of a profile's results, found nothing there")
    every = nodes(folder)
    if not every:
        raise ValueError(f"{folder}: expected nodes.json or finished runs, found neither; run make reproduce first")
    for node in every:
        notebook_page(folder / node["name"])
        node["links"] = sorted({*node["links"], *([f"{node['name']}/notebook.html"] if (
            folder / node["name"] / "notebook.html").is_file() else [])})
        node["figures"] = figures(folder / node["name"])
    frame = results.load(folder)
    asked = {word for node in every for word in node["gives"]}
    tables = [table(key, frame) for key in TABLES if key in asked]
    for entry in tables:
        shown = entry["joined"]
        images.write_text(folder / "tables" / f"{entry['key']}.csv", shown.to_csv(index=False))
        images.write_text(folder / "tables" / f"{entry['key']}.tex", latex(shown))
    counts = pd.concat([entry["joined"]["verdict"] for entry in tables]).value_counts() if tables else {}
    finished = [node["run"] for node in every if node["status"] == "finished"]
    template = Environment(loader=PackageLoader("fusionlib", "."), autoescape=True, trim_blocks=True,
                           lstrip_blocks=True).get_template("report.html")
    page = template.render(profile=folder.name, made=datetime.now().strftime("%Y-%m-%d %H:%M"), nodes=every, tables=tables,
                           counts=dict(counts), verdicts=results.VERDICTS, assumptions=assumptions(),
                           environment=finished[-1]["environment"] if finished else runs.environment(), number=number)
    return images.write_text(folder / "index.html", page)


def number(value: float, printed: str = "") -> str:
    """Format a value with the decimals of its printed partner (at most 6, 4 without one)."""
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:.{min(published.decimals(printed), 6) if printed else 4}f}"


def latex(joined: pd.DataFrame) -> str:
    """Return the comparison as a LaTeX table: printed / ours per metric, a row per method and variant."""
    cells = joined.assign(cell=[f"{row.printed} / {number(row.ours, row.printed)}" for row in joined.itertuples()])
    wide = cells.pivot_table(index=["method", "variant"], columns="metric", values="cell", aggfunc="first", sort=False)
    header = " & ".join(["method", "variant", *wide.columns])
    body = [" & ".join([*index, *row]).replace("_", r"\_").replace("–", "--") + r" \\"
            for index, row in zip(wide.index, wide.fillna("--").to_numpy(), strict=True)]
    return "\n".join([rf"\begin{{tabular}}{{ll{'c' * wide.shape[1]}}}", r"\hline", header + r" \\", r"\hline", *body,
                      r"\hline", r"\end{tabular}", ""])
