"""Page that answers the questions of reproducibility checklists with the numbers of the runs that
are committed: runs, variation, selection, compute, terms of the data.

    python -m workflow.checklist
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from fusionlib import places, report, results
from fusionlib.datasets import catalog
from fusionlib.published import claims

REFERENCE = places.PACKAGE.parent / "reports" / "reference"


# radon C: five columns, each computed from the records
def profile(folder: Path) -> dict[str, str]:
    """Return what a profile's committed runs say of themselves: notebooks, work, machine, seeds."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*/run.json"))]
    tables = [pd.read_csv(path) for path in sorted(folder.glob("*/results.csv"))]
    seeds = {}
    for table in tables:
        trained = table[table["checkpoint"].astype(str).str.startswith(results.TRAINED)]
        for name, part in trained.dropna(subset="seed").groupby("table"):
            seeds[str(name).replace("figure-", "figure ")] = part["seed"].nunique()
    environments = [record["environment"] for record in records]
    machines = {entry.get("gpu") or f"{entry.get('cores', '?')} cores" for entry in environments}
    return {
        "notebooks": str(len(records)),
        "work, minutes": f"{sum(record['seconds'] for record in records) / 60:.0f}",
        "machine": ", ".join(sorted(machines)),
        "revisions": ", ".join(sorted({entry["git"][:10] for entry in environments})),
        "numbers": str(sum(len(table) for table in tables)),
        "trainings a variant": "; ".join(f"{k}: {n}" for k, n in sorted(seeds.items())) or "none",
    }


def table(rows: dict[str, dict[str, str]]) -> str:
    """Return rows as a table in Markdown."""
    columns = list(next(iter(rows.values())))
    lines = [f"| | {' | '.join(columns)} |", "| --- " * (len(columns) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(row.values())} |" for name, row in rows.items()]
    return "\n".join(lines)


def page() -> str:
    """Return the page in Markdown."""
    folders = [path for path in sorted(REFERENCE.iterdir()) if list(path.glob("*/run.json"))]
    terms = {key: {"terms as found": catalog.entry(key)[1]["terms"]} for key in catalog.names()}
    by_run = int((claims()["settled_by"] == "run").sum())
    return f"""# Reproducibility checklist

Written by `python -m workflow.checklist` from the committed runs, so the numbers are theirs.

## Runs and compute

{table({path.name: profile(path) for path in folders})}

Minutes are those of the notebooks, two at a time on two cores; the machine is the one of the
runs, and a run's record (`run.json`) has versions, revision, parameters, threads and the SHA-256
of its numbers and figures.

## Questions

- **Is every method described whole?** Networks, losses, transforms and searches are code with the
  papers' equation numbers; {len(report.assumptions())} choices where a paper is silent are marked
  `ASSUMPTION:` and listed in the report.
- **Are the claims stated, and what supports each?** `data/published/claims.csv`; notebook 90
  settles what the printed tables can, {by_run} need a run.
- **Are the numbers of runs and the variation given?** Trainings are the sample, not images: below
  three seeds "no verdict", below five "indicative"; intervals by bootstrap over seeds, then
  images or their groups; p adjusted by Holm. The column "trainings a variant" says how many there
  were.
- **How was anything chosen?** The last epoch is used, and nothing is chosen on scored images. The
  weights `general` were chosen on 48 held-out pairs; their card names every earlier look at an
  evaluation set.
- **Which settings were tried?** Those of the presets (`fusionlib.training.PRESETS`) and, for
  `general`, the trials in the card.
- **Are splits and exclusions given?** The catalogue (`fusionlib data NAME`); pairs that cannot be
  read are named in every result.
- **Can the code be run?** `make reproduce`; versions are pinned in `requirements.lock`, seeds are
  parameters, a killed run goes on to the same numbers.
- **On another processor?** Rows without a training agree to rounding; trained rows differ, which
  the guide to the two papers says with both values.

## Terms of the data

{table(terms)}
"""


if __name__ == "__main__":
    print(page())
