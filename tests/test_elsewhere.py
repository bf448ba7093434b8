"""Notebooks away from a checkout, in an environment that stands for Colab's or Kaggle's: torch and
Jupyter are there, the suite is a wheel in the working folder.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from workflow import badges

ROOT = Path(__file__).parents[1]
PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
# Executes a notebook that the kernel does not find under its name.
EXECUTE = """
import sys, nbformat
from fusionlib_kernel import kernel
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
with kernel() as manager:
    NotebookClient(notebook, km=manager, timeout=600).execute()
nbformat.write(notebook, sys.argv[1])
"""
KERNEL = """
import contextlib, tempfile
from jupyter_client.manager import KernelManager
@contextlib.contextmanager
def kernel():
    with tempfile.TemporaryDirectory(prefix="k-") as folder:
        manager = KernelManager(kernel_name="python3", transport="ipc", ip=folder + "/k")
        yield manager
        manager.shutdown_kernel(now=True)
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder with a wheel, and the Python of an environment that sees all packages but ours."""
    home = tmp_path_factory.mktemp("elsewhere")
    source = home / "source"
    shutil.copytree(ROOT / "fusionlib", source / "fusionlib", symlinks=False)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", home / "work"]
    subprocess.run([sys.executable, *PIP, "wheel", *options, source], check=True)
    venv.create(home / "environment", with_pip=True)
    python = home / "environment" / "bin" / "python"
    variables = {"base": str(home / "environment")}
    packages = sysconfig.get_path("purelib", vars=variables)
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        ours = "fusion" in path.name.lower() or "pip" in path.name
        if not ours and not Path(packages, path.name).exists():
            Path(packages, path.name).symlink_to(path)
    (home / "work" / "fusionlib_kernel.py").write_text(KERNEL)
    return home / "work", python


def test_a_notebook_sets_itself_up_and_keeps_the_hosts_torch(elsewhere):
    work, python = elsewhere
    outside = os.environ | {"PIP_NO_INDEX": "1", "FUSION_DATA": "none", "FUSION_WEIGHTS": "none"}
    outside.pop("PYTHONPATH", None)
    torch = "import torch; print(torch.__version__, torch.__file__)"
    asked = [python, "-c", torch]
    before = subprocess.run(asked, env=outside, cwd=work, capture_output=True, text=True).stdout
    missing = subprocess.run([python, "-c", "import fusionlib"], env=outside, cwd=work)
    assert missing.returncode and "torch" in before
    content = json.loads((ROOT / "notebooks" / "00-start.ipynb").read_text())
    (work / "untitled.ipynb").write_text(json.dumps(content))
    subprocess.run([python, "-c", EXECUTE, "untitled.ipynb"], env=outside, cwd=work, check=True)
    record = json.loads((work / "reports/local/00-start/run.json").read_text())
    assert record["parameters"]["seed"] == 0 and record["answer"]
    assert record["environment"]["git"] == "unknown"
    after = subprocess.run(asked, env=outside, cwd=work, capture_output=True, text=True).stdout
    assert after == before


def test_links_of_a_repository_are_written_once(tmp_path):
    path = Path(shutil.copy(ROOT / "notebooks" / "00-start.ipynb", tmp_path))
    before = json.loads(path.read_text())["cells"]
    for repository in ("someone/old", "someone/suite"):
        badges.link(path, repository)
    first, *others = json.loads(path.read_text())["cells"]
    text = "".join(first["source"])
    place = "github/someone/suite/blob/main/notebooks/00-start.ipynb"
    assert place in text and "someone/old" not in text and others == before[1:]
    line = next(line for line in text.splitlines() if place in line)
    assert text.replace(line + "\n\n", "") == "".join(before[0]["source"])
    with pytest.raises(ValueError, match="expected OWNER/NAME, got 'suite'"):
        badges.link(path, "suite")
