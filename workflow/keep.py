"""Keep the numbers of a profile under reports/reference, to be committed: results, what was run,
tables; no pictures.

    python workflow/keep.py reports/smoke reports/reference/smoke
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from fusionlib import images

# where something lies is the business of one machine
ABSOLUTE = re.compile(r"(?<![\w./])/(?:[\w.+-]+/)*([\w.+-]+)")


def keep(source: Path, target: Path) -> list[Path]:
    """Copy ``results.csv`` and ``run.json`` of every finished node, the list of nodes and the
    tables; return the files.

    What an earlier call kept of nodes goes; other files in ``target`` (trained models) stay.
    """
    for old in (
        *target.glob("*/run.json"),
        *target.glob("*/results.csv"),
        *target.glob("tables/*"),
    ):
        old.unlink()
    kept = [source / "nodes.json", *sorted(source.glob("tables/[!.]*.csv"))]
    for record in sorted(source.glob("*/run.json")):
        kept += [path for path in (record, record.with_name("results.csv")) if path.is_file()]
    for path in kept:
        there = target / path.relative_to(source)
        if path.suffix == ".json":
            text = json.loads(ABSOLUTE.sub(r"\1", path.read_text(encoding="utf-8")))
            images.write_text(there, json.dumps(text, indent=1))
        else:
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, there)
    return kept


if __name__ == "__main__":
    files = keep(*map(Path, sys.argv[1:3]))
    print(
        f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB, kept in"
        f" {sys.argv[2]}"
    )
