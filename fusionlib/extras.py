"""Extras of the distribution: which packages each brings, and the sentence where one is missing."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec

DISTRIBUTION = "fusion-reproducibility"
# extra: the modules that are imported somewhere in this package; pyproject.toml has their versions
EXTRAS = {
    "report": ("matplotlib", "seaborn", "jinja2", "skimage"),
    "torch": ("torch", "torchvision", "pycocotools", "safetensors", "psutil"),
    "notebooks": ("papermill", "nbformat", "nbconvert", "jupyter_client", "IPython"),
    "workflow": ("snakemake", "jsonschema"),
}
_EXTRA = {module: extra for extra, modules in EXTRAS.items() for module in modules}


class Missing(ModuleNotFoundError):
    """A package of an extra is not installed; the sentence has the command."""


def command(extra: str) -> str:
    """Return what installs an extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def missing() -> dict[str, list[str]]:
    """Return the modules of each extra that are not installed; extras that are whole are left
    out.
    """
    lacking = {
        extra: [module for module in modules if not _is_there(module)]
        for extra, modules in EXTRAS.items()
    }
    return {extra: modules for extra, modules in lacking.items() if modules}


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except Missing:
        return False


def name_missing() -> None:
    """Let an import of a missing package, made by a module of this one, name the extra with it."""
    if not any(isinstance(finder, _Last) for finder in sys.meta_path):
        sys.meta_path.append(_Last())


class _Last:
    """The finder that is asked when no other has found a module."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        """Raise :class:`Missing` for a package of an extra that this package imports."""
        if name in _EXTRA and _importer().startswith(f"{__package__}."):
            extra = _EXTRA[name]
            raise Missing(
                f"{name}: expected it installed, it comes with the extra {extra}: {command(extra)}",
                name=name,
            )
        return None


def _importer() -> str:
    """Return the name of the module whose import statement is being carried out."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("importlib"):
        frame = frame.f_back
    return frame.f_globals.get("__name__", "")
