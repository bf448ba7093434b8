"""Execute notebooks in place, as they are committed: outputs kept, times and machine details left
out.

    python workflow/refresh.py notebooks/00-start.ipynb ...
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from fusionlib import runs

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def refresh(path: Path) -> None:
    """Run ``path`` in its own folder and write it back only if every cell succeeded."""
    notebook = nbformat.read(path, as_version=4)
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


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        refresh(Path(argument))
