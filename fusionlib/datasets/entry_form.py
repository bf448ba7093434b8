"""The form of a data set's entry in ``catalog.yaml`` or a ``dataset.yaml``: which keys there are,
and what each holds.
"""

from __future__ import annotations

import os
from typing import Any

PATTERNS = (str, [str])  # of files, see layouts.py
LAYOUT = {
    "called": str,
    **dict.fromkeys(("infrared", "visible", "a", "b", "reference", "labels", "coco"), PATTERNS),
    **{"lists": {"*": str}, "rest": {"*": str}, "strip": [str]},
}
ENTRY = {
    **dict.fromkeys(("title", "kind", "family", "evaluation", "terms", "get", "difficult"), str),
    **dict.fromkeys(("boxes", "splits", "drawn"), {"*": int}),
    **{"pairs": int, "size": [int], "labels_apart": bool},
    **{"classes": {"*": (str, type(None))}, "numbered": [str]},
    "subsets": {"*": {"pairs": int, "split": str}},
    "clone": {"*": list},
    "group": {"called": str, "name": str, "block": int},
    "layouts": [LAYOUT],
}


# radon C: one branch for each kind of value
def check_form(value: object, form: Any, where: str, path: str | os.PathLike) -> None:
    """Refuse a value of another form.

    Parameters
    ----------
    value : object
        As YAML gives it.
    form : type, tuple, list or dict
        A type; a tuple of forms, one of which fits; a list of items of one form; or keys with the
        form of each, all optional, "*" for any key.
    where : str
        What the value is, for errors.
    path : path
        The file, for errors.

    Raises
    ------
    ValueError
        One sentence: where in the file, what was expected, what came.
    """
    options = form if isinstance(form, tuple) else (form,)
    fitting = [option for option in options if type(value) is _type(option)]
    if not fitting:
        names = " or ".join(_type(option).__name__ for option in options)
        raise ValueError(f"{path}: expected {where} to be {names}, got {value!r:.60}")
    chosen = fitting[0]
    if isinstance(chosen, list):
        for number, item in enumerate(value):  # type: ignore[arg-type, var-annotated]
            check_form(item, chosen[0], f"{where} {number}", path)
    elif isinstance(chosen, dict):
        for key, item in value.items():  # type: ignore[attr-defined]
            if not isinstance(key, str) or not {key, "*"} & chosen.keys():
                known = ", ".join(chosen)
                raise ValueError(f"{path}: expected of {where} some of {known}, got {key!r:.60}")
            check_form(item, chosen.get(key, chosen.get("*")), f"{key} of {where}", path)


def _type(form: Any) -> type:
    return form if isinstance(form, type) else type(form)
