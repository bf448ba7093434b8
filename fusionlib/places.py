"""The one rule where files are looked for.

Images and weights of others: a folder that is named, then the one of the environment
(``FUSION_DATA``, ``FUSION_WEIGHTS``), the checkout's, the user's cache. What comes with the
package, as a wheel or a checkout: :data:`INCLUDED`. What runs write: ``reports`` of the checkout,
or of the working folder where there is none.

Command line, make, workflow, notebooks and Python all ask here. :data:`NOWHERE` in place of a
folder, named or in the environment, looks at none: results then do not depend on what lies on a
machine, as the smoke profile and the committed notebooks need it.
"""

from __future__ import annotations

import os
from pathlib import Path

NOWHERE = "none"
PACKAGE = Path(__file__).resolve().parent
INCLUDED = PACKAGE / "included"  # printed numbers and two small models
# kind: variable of the environment, folder of the checkout (ignored by git)
KINDS = {"data": ("FUSION_DATA", "data/downloaded"), "weights": ("FUSION_WEIGHTS", "data/weights")}


def checkout() -> Path | None:
    """Return the folder of the repository that this package runs from, None for a wheel."""
    return PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").is_file() else None


def reports() -> Path:
    """Return the folder below which runs write."""
    return (checkout() or Path.cwd()) / "reports"


def folders(kind: str, named: str | os.PathLike | None = None) -> list[Path]:
    """Return the folders to look in, in this order; the first is where downloads go.

    Parameters
    ----------
    kind : str
        "data" (below it ``ivif/NAME`` and ``mfif/NAME``) or "weights".
    named : path, optional
        By the caller.
    """
    import pooch

    variable, below = KINDS[kind]
    looked: list[Path] = []
    for path in (str(named or ""), os.environ.get(variable, "")):
        if path == NOWHERE:
            return looked
        looked += [Path(path).expanduser().resolve()] if path else []
    if repository := checkout():
        looked.append(repository / below)
    return [*looked, Path(pooch.os_cache("fusionlib")) / kind]


def check_named(kind: str, named: str | os.PathLike | None) -> None:
    """Raise FileNotFoundError where a folder that somebody named to read from is none: what lies
    elsewhere is not taken in its place.
    """
    path = str(named or "")
    if path and path != NOWHERE and not Path(path).expanduser().is_dir():
        raise FileNotFoundError(f"{kind}: expected a folder, found none at {path}")


def find(kind: str, name: str, named: str | os.PathLike | None = None) -> Path | None:
    """Return the first of :func:`folders` joined with ``name`` that is a folder, None where none
    is.

    Parameters
    ----------
    kind : "data" or "weights"
    name : str
        Below the folder.
    named : path, optional
        A folder that somebody named; it is looked in first.

    Raises
    ------
    FileNotFoundError
        The named folder is none.
    """
    check_named(kind, named)
    return next((path for folder in folders(kind, named) if (path := folder / name).is_dir()), None)
