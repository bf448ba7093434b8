"""Archive of a profile's numbers under reports/reference, to be committed: results, run records,
tables; no pictures.

    python workflow/archive_results.py reports/smoke reports/reference/smoke
"""

from __future__ import annotations

from pathlib import Path

import typer

from fusionlib.report.contribution import archive


def main(source: Path, target: Path) -> None:
    """Archive the numbers of the folder SOURCE in the folder TARGET."""
    files = archive(source, target)
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{len(files)} files, {size:.1f} MB, archived in {target}")


if __name__ == "__main__":
    typer.run(main)
