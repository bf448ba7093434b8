"""Links by which Colab and Kaggle open the notebooks, under each title.

python workflow/badges.py OWNER/NAME [NOTEBOOK...]    # where the repository lies on GitHub
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
LINKS = (
    "[Open in Colab](https://colab.research.google.com/github/{place}) · "
    "[in Kaggle](https://kaggle.com/kernels/welcome?src=https://github.com/{place})"
)


def link(path: Path, repository: str) -> None:
    """Put the links under the title of a notebook, in place of older ones.

    Parameters
    ----------
    path : Path
    repository : "OWNER/NAME"

    Raises
    ------
    ValueError
        Not an owner and a name.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"repository: expected OWNER/NAME, got {repository!r}")
    notebook = nbformat.read(path, as_version=4)
    title, _, rest = notebook.cells[0].source.partition("\n\n")
    links = LINKS.format(place=f"{repository}/blob/main/notebooks/{path.name}")
    older = re.match(r"\[Open in Colab\][^\n]*\n\n", rest)
    rest = rest[older.end() :] if older else rest
    notebook.cells[0].source = f"{title}\n\n{links}\n\n{rest}"
    nbformat.write(notebook, path)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("error: expected OWNER/NAME of the repository on GitHub")
    for path in [Path(name) for name in sys.argv[2:]] or sorted(FOLDER.glob("*.ipynb")):
        try:
            link(path, sys.argv[1])
        except ValueError as error:
            sys.exit(f"error: {error}")
