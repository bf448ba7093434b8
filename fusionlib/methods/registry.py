"""The table of methods, and how a function becomes one: :func:`register`, in the package or in a
file of one's own that :func:`load_plugins` runs.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusionlib import images
from fusionlib.methods.method import Lean, Method
from fusionlib.methods.strips import Reach
from fusionlib.networks import COMPARED

MOE_FUSION = "MoE-Fusion"
GROUPS = ("compared", "newer")  # names for many compared networks, see methods.expand
METHODS: dict[str, dict[str, Method]] = {}  # of each name the variants, the default first


def register(
    name: str,
    variants: Mapping[str, Mapping[str, object]] | None = None,
    parameters: Mapping[str, object] | None = None,
    summary: str = "",
    reach: Callable[[Mapping], Reach] | None = None,
    needs: float = 0.0,
    lean: Lean | None = None,
) -> Callable[[Callable], Callable]:
    """Return a decorator that makes a function the method ``name``::

        @register("mine")
        def mine(a, b, weight=0.5):
            return weight * a + (1 - weight) * b

    The function gets the lumas of infrared and visible image, (H, W) float64 on 0..255, and returns
    the fused plane alike, or a :class:`~fusionlib.methods.Decision`.

    Parameters
    ----------
    name : str
        Not that of another method; images are written into a folder of this name.
    variants : mapping, optional
        ``{variant: parameters that differ}`` beside the default, which is called "".
    parameters : mapping, optional
        Names and defaults; those in the signature where None.
    summary : str
        A line for the list of methods; the first of the docstring where empty.
    reach, needs, lean : optional
        What it takes in memory, see :class:`~fusionlib.methods.Method`.

    Raises
    ------
    TypeError
        No name, no function, or one that cannot be called with two images.
    ValueError
        The name is taken.
    """
    if not images.is_name(name):
        raise TypeError(
            f'register: expected a name, without "/", as in @register("mine"), got {name!r:.60}'
        )
    if name in (*METHODS, *COMPARED, MOE_FUSION, *GROUPS):
        raise ValueError(f"register: expected a new name, got {name!r}, which another method has")

    def add(function: Callable) -> Callable:
        if not callable(function):
            raise TypeError(f"register: expected a function for {name!r}, got {function!r:.60}")
        options = defaults(function) if parameters is None else parameters
        try:
            inspect.signature(function).bind(None, None, **options)
        except TypeError as error:
            raise TypeError(
                f"register: expected a function (a, b) for {name!r} whose further parameters have"
                f" defaults: {error}"
            ) from None
        line = summary or next(iter((inspect.getdoc(function) or "").splitlines()), "")
        changes = {"": {}, **(variants or {})}
        METHODS[name] = {
            variant: Method(
                name,
                function,
                variant,
                tuple(changes),
                {**options, **change},
                summary=line,
                reach=reach,
                needs=needs,
                lean=lean,
            )
            for variant, change in changes.items()
        }
        return function

    return add


def defaults(function: Callable) -> dict[str, Any]:
    """Return ``{name: default}`` of the parameters of ``function`` that have one."""
    return {
        key: parameter.default
        for key, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


def load_plugins(files: str | Path | Iterable[str | Path]) -> None:
    """Run Python files that register methods; one that is loaded again replaces its methods.

    Modules beside a file can be imported by it.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A file cannot be run, takes a name that another method has, or registers nothing; then all
        methods are as before.
    """
    for file in [files] if isinstance(files, (str, Path)) else files:
        path, before = Path(file).expanduser().resolve(), dict(METHODS)
        if not path.is_file():
            raise FileNotFoundError(f"{file}: expected a Python file with methods, found nothing")
        sys.path.append(str(path.parent))
        for name, variants in before.items():
            if variants[""].plugin.startswith(f"{path} "):
                del METHODS[name]
        others, code = set(METHODS), path.read_bytes()
        try:
            exec(compile(code, path, "exec"), {"__name__": path.stem, "__file__": str(path)})
            if METHODS.keys() == others:
                raise ValueError('expected at least one function under @register("name"), got none')
        except Exception as error:
            METHODS.clear()
            METHODS.update(before)
            raise ValueError(f"{file}: {type(error).__name__}: {error}") from error
        plugin = f"{path} {hashlib.sha256(code).hexdigest()}"
        for name in METHODS.keys() - others:
            for variant, method in METHODS[name].items():
                METHODS[name][variant] = replace(method, plugin=plugin)
