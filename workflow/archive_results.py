"""Archive of a profile's numbers under reports/reference, to be committed: results, run records,
tables; no pictures.

    python workflow/archive_results.py reports/smoke reports/reference/smoke
"""

import json
import re
import shutil
from pathlib import Path

import typer

from fusionlib import images

# where something lies is the business of one machine
ABSOLUTE = re.compile(r"(?<![\w./])/(?:[\w.+-]+/)*([\w.+-]+)")


def archive(source: Path, target: Path) -> list[Path]:
    """Copy ``results.csv`` and ``run.json`` of every finished node, the list of nodes and the
    tables; return the files.

    What an earlier call archived of nodes goes; other files in ``target`` (trained models) stay.
    """
    for old in (
        *target.glob("*/run.json"),
        *target.glob("*/results.csv"),
        *target.glob("tables/*"),
    ):
        old.unlink()
    files = [source / "nodes.json", *sorted(source.glob("tables/[!.]*.csv"))]
    for record in sorted(source.glob("*/run.json")):
        files += [path for path in (record, record.with_name("results.csv")) if path.is_file()]
    for path in files:
        copy = target / path.relative_to(source)
        if path.suffix == ".json":
            text = json.loads(ABSOLUTE.sub(r"\1", path.read_text(encoding="utf-8")))
            images.write_text(copy, json.dumps(text, indent=1))
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return files


def main(source: Path, target: Path) -> None:
    """Archive the numbers of the folder SOURCE in the folder TARGET."""
    files = archive(source, target)
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{len(files)} files, {size:.1f} MB, archived in {target}")


if __name__ == "__main__":
    typer.run(main)
