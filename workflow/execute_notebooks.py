"""Execution of notebooks in place, as they are committed: outputs kept, times and machine details
left out.

    python workflow/execute_notebooks.py notebooks/00-start.ipynb ...
"""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import typer
from nbclient import NotebookClient

from fusionlib import places, runs

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def execute_in_place(path: Path) -> None:
    """Run ``path`` in its own folder and write it back only if every cell succeeded."""
    notebook = nbformat.read(path, as_version=4)
    os.environ |= {"FUSION_DATA": places.NOWHERE, "FUSION_WEIGHTS": places.NOWHERE}
    with runs.local_kernel() as manager:
        NotebookClient(
            notebook, km=manager, timeout=1200, resources={"metadata": {"path": str(path.parent)}}
        ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            # Progress bars and warnings hold times, and a widget's state is gone with its kernel.
            cell.outputs = [
                output
                for output in cell.outputs
                if output.get("name") != "stderr"
                and "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
            ]
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    nbformat.write(notebook, path)


def main(notebooks: list[Path]) -> None:
    """Execute NOTEBOOKS in place, one after the other."""
    for notebook in notebooks:
        execute_in_place(notebook)


if __name__ == "__main__":
    typer.run(main)
