"""Settings of the pages: guides, a page for each module, the executed notebooks; built offline."""

import base64
import json
import re
import shutil
from pathlib import Path

from docutils import nodes
from latex2mathml import converter

import fusionlib
from fusionlib import places
from workflow import checklist
from workflow.check_pages import MODULES, public

HERE = Path(__file__).parent
ROOT = HERE.parent

project = "Fusion reproducibility suite"
author = "The fusion reproducibility suite authors"
release = version = fusionlib.__version__
html_title = f"{project} {release}"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"  # its fonts are the system's and its scripts its own: no page asks a network
html_show_sphinx = False
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
html_math_renderer = "mathml"  # the browser's own; the usual renderer is a script from elsewhere
nb_execution_mode = "off"  # notebooks are committed executed
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the Parameters sections say types, shapes and ranges
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# a name such as Pair is defined by several modules; notebooks carry outputs that pages do not show
suppress_warnings = ["ref.python", "mystnb.unknown_mime_type", "misc.highlighting_failure"]


def copy_with_pictures(notebook: Path, folder: Path) -> None:
    """Copy a notebook, its attached pictures as files: myst-nb reads no attachments."""
    text = notebook.read_text(encoding="utf-8")
    for cell in json.loads(text)["cells"]:
        for name, content in cell.get("attachments", {}).items():
            picture = f"{notebook.stem}-{name}"
            (folder / picture).write_bytes(base64.b64decode(content["image/jpeg"]))
            text = text.replace(f"(attachment:{name})", f"({picture})")
    (folder / notebook.name).write_text(text, encoding="utf-8")


def write_pages() -> None:
    """Write what is made from elsewhere: a page for each module, copies of notebooks and card."""
    api, notebooks = HERE / "api", HERE / "notebooks"
    for folder in (api, notebooks):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for name in MODULES:
        lines = [f"# {name}", "", "```{eval-rst}", f".. automodule:: {name}", "   :no-members:", ""]
        for member, kind in public(name).items():
            lines += [f".. auto{kind}:: {name}.{member}"]
            lines += ["   :members:", ""] if kind == "class" else [""]
        (api / f"{name}.md").write_text("\n".join([*lines, "```", ""]), encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        copy_with_pictures(path, notebooks)
    (HERE / "guides" / "checklist.md").write_text(checklist.page(), encoding="utf-8")
    shutil.copy(ROOT / "CONTRIBUTING.md", HERE / "contributing.md")
    card = (places.INCLUDED / "models" / "general" / "CARD.md").read_text(encoding="utf-8")
    shutil.copy(ROOT / "reports" / "reference" / "general" / "scenes.jpg", HERE / "scenes.jpg")
    card = card.replace("../../../../reports/reference/general/scenes.jpg", "scenes.jpg")
    (HERE / "card.md").write_text(card, encoding="utf-8")


def setup(app) -> None:
    """Let formulas be drawn by the browser."""

    def inline(self, node):
        self.body.append(converter.convert(node.astext()))
        raise nodes.SkipNode

    def display(self, node):
        for line in node.astext().split("$$"):
            text = re.sub(r"\\tag\{(.*?)\}", r"\\qquad (\1)", line)
            self.body.append(converter.convert(text, display="block"))
        raise nodes.SkipNode

    app.add_html_math_renderer("mathml", (inline, None), (display, None))


write_pages()
