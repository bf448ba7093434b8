"""First screens of the notebooks: the picture to expect, and the seconds of the committed runs.

    python -m workflow.first_screens reports/smoke

The first cell of a notebook names its picture as ``![..](attachment:FIGURE.jpg)`` and begins its
time with ``**Time.** .. on two cores.``; both are filled in here, at each new reference.
"""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import nbformat
import typer
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "reports" / "reference"
PICTURE = re.compile(r"!\[.*?\]\(attachment:([\w-]+)\.jpg\)", re.DOTALL)
TIME = re.compile(r"\*\*Time\.\*\* .*?on two cores\.", re.DOTALL)
WIDTH, LIMIT = 800, 60_000  # pixels, bytes


def seconds(notebook: str, profile: str) -> list[float]:
    """Return the seconds that each node of a notebook took in the committed run of a profile."""
    records = sorted((REFERENCE / profile).glob("*/run.json"))
    read = [json.loads(path.read_text(encoding="utf-8")) for path in records]
    return [record["seconds"] for record in read if record["name"] == notebook]


def time(notebook: str) -> str:
    """Return the sentence on the time of a notebook, from the committed runs."""
    parts = []
    for profile in ("smoke", "sample"):
        taken = [round(value) for value in seconds(notebook, profile)]
        if not taken:
            continue
        low, high = min(taken), max(taken)
        spread = f"{low}" if len(taken) == 1 else f"{low} to {high}"
        sets = "" if len(taken) == 1 else f" for each of {len(taken)} data sets"
        parts.append(f"{spread} s at {profile}{sets}")
    return f"**Time.** {', '.join(parts)}, measured on two cores."


def jpeg(picture: Path) -> bytes:
    """Return a figure at a notebook's width as the best JPEG of at most ``LIMIT`` bytes."""
    with Image.open(picture) as opened:
        pixels = opened.convert("RGB")
    if pixels.width > WIDTH:
        pixels = pixels.resize((WIDTH, round(pixels.height * WIDTH / pixels.width)))
    for quality in range(85, 10, -10):
        file = io.BytesIO()
        pixels.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= LIMIT:
            break
    return file.getvalue()


def node_of(run: Path, notebook: str) -> Path:
    """Return the folder of a notebook's node in a run; FileNotFoundError where it has none."""
    for record in sorted(run.glob("*/run.json")):
        if json.loads(record.read_text(encoding="utf-8"))["name"] == notebook:
            return record.parent
    raise FileNotFoundError(f"{run}: expected a finished node of {notebook}, found none")


def fill(path: Path, run: Path) -> None:
    """Write picture and time into the first cell of the notebook ``path``."""
    notebook = nbformat.read(path, as_version=4)
    cell = notebook.cells[0]
    cell.source = TIME.sub(lambda _: time(path.stem), cell.source)
    pictured = PICTURE.search(cell.source)
    if pictured:
        figure = node_of(run, path.stem) / "figures" / f"{pictured[1]}.png"
        content = base64.b64encode(jpeg(figure)).decode()
        cell.attachments = {f"{pictured[1]}.jpg": {"image/jpeg": content}}
    nbformat.write(notebook, path)


def main(run: Path) -> None:
    """Fill the first cells of all notebooks from RUN, a finished run of the smoke profile."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        fill(path, run)


if __name__ == "__main__":
    typer.run(main)
