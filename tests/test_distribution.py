"""The package as others install it: what it imports, what it lacks and says so, what it carries."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import fusionlib
from fusionlib import extras, images

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HEAVY = {"torch", "torchvision", "matplotlib", "seaborn", "skimage", "papermill", "snakemake"}
# Runs a command line in this process and prints the top-level modules that it imported.
TRACED = """
import sys, json, contextlib, io
sys.argv = ["fusionlib", *json.loads(sys.argv[1])]
from fusionlib.__main__ import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
# Hides packages as if they were not installed, then runs a command line or a statement.
WITHOUT = """
import sys, json
import fusionlib
hidden = set(json.loads(sys.argv[1]))
class Hiding:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        hides = name.partition(".")[0] in hidden
        return None if hides else self.finder.find_spec(name, path, target)
sys.meta_path[:-1] = map(Hiding, sys.meta_path[:-1])
"""


def python(code, *words, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120, **options
    )


def imported(code, *words):
    done = python(code, *words)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def without(modules, code, *words):
    """Run code where some packages are not installed."""
    return python(WITHOUT + code, json.dumps(modules), *words)


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["score", "--help"], ["methods"], ["data"], ["data", "msrs"]]
    + [["data", "weights"], ["data", "get", "--help"], ["fuse", "--help"]],
)
def test_commands_import_what_they_need(words):
    modules = imported(TRACED, json.dumps(words))
    assert not modules & HEAVY
    if words[-1] in ("--help", "--version"):
        assert not modules & {"numpy", "pandas", "scipy", "PIL", "rich"}


def test_metrics_import_numpy_and_pillow_alone():
    code = "import sys, json; import fusionlib.metrics; print(json.dumps(sorted(sys.modules)))"
    modules = {name.partition(".")[0] for name in imported(code)}
    assert not modules & (HEAVY | {"pandas", "scipy", "typer", "yaml", "pooch", "tqdm"})


def test_the_package_itself_imports_nothing():
    code = "import sys, json; import fusionlib; print(json.dumps(sorted(sys.modules)))"
    names = {name for name in imported(code) if name.startswith("fusionlib")}
    assert names == {"fusionlib", "fusionlib.extras"}


@pytest.mark.parametrize("module", ["networks.moe_fusion", "detectors", "losses", "training"])
def test_a_missing_extra_is_a_sentence_in_python(module):
    done = without(["torch"], f"import fusionlib.{module}")
    last = done.stderr.splitlines()[-1]
    assert last.endswith(f"torch: {extras.command('torch')}"), done.stderr


@pytest.mark.parametrize(
    "hidden, words",
    [
        ("torch", ["fuse", "--method", "MoE-Fusion", "a.png", "a.png", "out.png"]),
        ("torch", ["fuse", "--method", "YDTR", "a.png", "a.png", "out.png"]),
        ("jinja2", ["report", "runs"]),
        ("papermill", ["run", "a.ipynb", "out"]),
    ],
)
def test_a_missing_extra_is_a_sentence_on_the_command_line(hidden, words, tmp_path):
    images.write(tmp_path / "a.png", np.zeros((16, 16), np.uint8))
    (tmp_path / "runs").mkdir()
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": ["output = ''"]}
    content = {"cells": [cell | {"outputs": [], "execution_count": None, "id": "a"}]}
    content |= {"nbformat": 4, "nbformat_minor": 5, "metadata": {}}
    (tmp_path / "a.ipynb").write_text(json.dumps(content))
    code = "sys.argv = ['fusionlib', *sys.argv[2:]]\nfrom fusionlib.__main__ import main; main()"
    arguments = [WITHOUT + code, json.dumps([hidden]), *words]
    done = python(*arguments, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    extra = next(extra for extra, modules in extras.EXTRAS.items() if hidden in modules)
    assert done.stderr.endswith(f"{extras.command(extra)}\n")


def test_other_packages_may_look_for_what_is_missing():
    code = "import importlib.util as u; assert u.find_spec('torch') is None\nimport torch"
    done = without(["torch"], code)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'torch'"


def test_extras_hold_what_the_package_imports():
    """Each package of an extra is one of its requirements, under the name of the distribution."""
    renamed = {"skimage": "scikit-image", "jupyter_client": "ipykernel", "IPython": "ipykernel"}
    for extra, modules in extras.EXTRAS.items():
        required = " ".join(PROJECT["optional-dependencies"][extra])
        for module in modules:
            assert renamed.get(module, module) in required, f"{extra}: {module}"
    assert PROJECT["name"] == extras.DISTRIBUTION


def test_the_version_stands_in_one_place():
    assert "version" in PROJECT["dynamic"] and "version" not in PROJECT
    done = subprocess.run(
        [sys.executable, "-m", "fusionlib", "--version"], capture_output=True, text=True
    )
    assert done.stdout == f"{extras.DISTRIBUTION} {fusionlib.__version__}\n"
