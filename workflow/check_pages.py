"""Check of the built pages: every public name is there, no link is broken, nothing is asked of a
network.

    python -m workflow.check_pages docs/_build/html
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag

MODULES = [
    f"fusionlib.{name}"
    for name in (
        "metrics metrics.conventions metrics.exposure scoring ranking results published audit"
        " methods transforms transforms.rules optimizers networks networks.compared detectors"
        " training training.config losses datasets datasets.catalog datasets.scenes"
        " datasets.multi_focus images places download groups runs figures report"
        " experiments.comparison experiments.protocol experiments.whose"
        " experiments.evaluator_check experiments.metric_rewards experiments.ablations"
        " experiments.detection_table experiments.expert_use experiments.gate_controls"
        " experiments.held_out experiments.low_pass experiments.model_quality experiments.zoom"
    ).split()
]
# What a browser fetches by itself: scripts, styles, pictures, fonts; not a link that one clicks.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]*\ssrc=["'](https?:|//)"""
    r"""|<link[^>]*rel=["'](?:stylesheet|preload|icon)["'][^>]*href=["'](https?:|//)"""
    r"""|@import\s+url\(["']?(https?:|//)|src:\s*url\(["']?(https?:|//)"""
)


def public(module: str) -> dict[str, str]:
    """Return the public functions and classes of a module, {name: "function" or "class"}: those of
    ``__all__``, else those that are defined there.
    """
    loaded = importlib.import_module(module)
    names = getattr(loaded, "__all__", None)
    kinds = {}
    for name in names if names is not None else sorted(vars(loaded)):
        value = getattr(loaded, name)
        here = names is not None or getattr(value, "__module__", "") == module
        if name.startswith("_") or not here:
            continue
        if inspect.isclass(value):
            kinds[name] = "class"
        elif inspect.isroutine(value):
            kinds[name] = "function"
    return kinds


def missing_names(site: Path) -> list[str]:
    """Return a sentence for each public name without docstring, or that is not on its page."""
    sentences = []
    for module in MODULES:
        page = (site / "api" / f"{module}.html").read_text(encoding="utf-8")
        for name in public(module):
            if not inspect.getdoc(getattr(importlib.import_module(module), name)):
                sentences.append(f"{module}.{name}: no docstring")
            if f'id="{module}.{name}"' not in page:
                sentences.append(f"{module}.{name}: not on its page")
    return sentences


# radon C: a link may be broken in three ways
def broken_links(site: Path) -> list[str]:
    """Return a sentence for each link to nothing, and each page that fetches from a network."""
    pages = {
        path.resolve(): path.read_text(encoding="utf-8")
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.parts
    }
    ids = {path: set(re.findall(r'\sid="([^"]+)"', text)) for path, text in pages.items()}
    sentences = []
    for path, text in pages.items():
        name = path.relative_to(site.resolve())
        if match := FETCHED.search(text):
            sentences.append(f"{name}: fetches {match.group(0)[:80]}")
        links = re.findall(r'<(?:a|img)[^>]*\s(?:href|src)="([^"]+)"', text)
        for link in (link for link in links if not re.match(r"[a-z]+:", link)):
            target, fragment = urldefrag(unquote(link))
            goal = (path.parent / target).resolve() if target else path
            if not goal.exists():
                sentences.append(f"{name}: no {link}")
            elif fragment and fragment not in ids.get(goal, {fragment}):
                sentences.append(f"{name}: nothing called {link}")
    return sentences


def main() -> None:
    """Run the command."""
    site = Path(sys.argv[1])
    sentences = [*missing_names(site), *broken_links(site)]
    print("\n".join(sentences), file=sys.stderr)
    count = sum(len(public(module)) for module in MODULES)
    print(f"{count} public names of {len(MODULES)} modules, {len(sentences)} problems")
    raise SystemExit(bool(sentences))


if __name__ == "__main__":
    main()
