"""Compare the numbers of a run with the committed ones of its profile; make the bands that trained
numbers are held against.

    python -m workflow.check_results reports/smoke
    python -m workflow.check_results --bands RUN RUN ... --to reports/reference/smoke/bands.csv
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fusionlib import expectations, images


def main(
    folders: list[Path],
    bands: Annotated[bool, typer.Option("--bands", help="make bands from FOLDERS")] = False,
    to: Annotated[Path | None, typer.Option(help="file that the bands go to")] = None,
) -> None:
    """Check the run in FOLDERS, one, against the committed numbers of its name."""
    try:
        differs = make_bands(folders, to) if bands else check(folders)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    raise SystemExit(int(differs))


def make_bands(folders: list[Path], to: Path | None) -> bool:
    """Write the bands of some runs; ValueError where it is not said where."""
    if to is None:
        raise ValueError("--to: expected the file that the bands go to, got none")
    frame = expectations.bands(folders)
    images.write_text(to, frame.to_csv(index=False))
    print(f"{len(frame)} bands over {frame['runs'].iloc[0]}, written to {to}")
    return False


def check(folders: list[Path]) -> bool:
    """Print how each run stands to the reference; return whether a number differs."""
    differs = False
    for folder in folders:
        reference = expectations.reference_of(folder)
        if not (folder / "nodes.json").is_file():
            print(f"{folder}: no run to check yet; make reproduce makes one")
        elif reference is None:
            print(f"{folder}: no numbers of a profile {folder.name} are committed to check against")
        else:
            comparison = expectations.compare(folder, reference)
            print(f"{folder}: {comparison.sentence()}")
            differs |= bool(comparison.differing)
    return differs


if __name__ == "__main__":
    typer.run(main)
