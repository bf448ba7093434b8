"""Run one node of the plan in the working directory; Snakemake and workflow.reproduce call this.

python workflow/run_node.py NAME
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fusionlib import runs


def planned(name: str) -> dict:
    """Return a node of the plan in the working directory."""
    nodes = json.loads(Path("plan.json").read_text(encoding="utf-8"))
    return {node["name"]: node for node in nodes}[name]


def run_node(name: str) -> None:
    """Execute the notebook of a node into its folder, beside the folder of the plan."""
    node = planned(name)
    notebook = Path("notebooks") / node["notebook"]
    runs.execute(notebook, Path("..") / name, node["parameters"], node["threads"])


if __name__ == "__main__":
    runs.end_with_parent()  # a killed Snakemake would leave it running beside the next start
    try:
        run_node(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
