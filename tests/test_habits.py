"""What others rely on beside the code: workflow files, forms and descriptions of a release."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

import fusionlib

ROOT = Path(__file__).parents[1]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def commands(path):
    """All commands of a workflow file."""
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_make_alone(path):
    assert commands(path)
    for command in commands(path):
        program, target, *settings = command.split()
        assert program == "make" and target in TARGETS, command
        assert all("=" in setting for setting in settings), command


def test_dockerfile_uses_make():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert len(lines) <= 10
    assert {"install", "reproduce"} <= TARGETS
    assert "RUN make install" in lines and 'CMD ["make", "reproduce"]' in lines


def test_every_description_has_this_release():
    version = fusionlib.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()
    deposit = json.loads((ROOT / ".zenodo.json").read_text())
    assert deposit["title"] == citation["title"] and deposit["license"] == citation["license"]
    assert deposit["creators"] == citation["authors"] and "version" not in deposit


def test_the_issue_form_asks_for_what_decides_a_number():
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/my-number-differs.yml").read_text())
    asked = {entry["id"]: entry for entry in form["body"] if "id" in entry}
    assert {"paper", "numbers", "convention", "files", "versions"} <= asked.keys()
    assert all(entry["validations"]["required"] for entry in asked.values())


def test_hooks_use_the_tools_of_the_environment():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [entry["repo"] for entry in hooks] == ["local"]
    makefile = (ROOT / "Makefile").read_text()
    for hook in hooks[0]["hooks"]:
        assert hook["entry"].split()[0].replace(".venv", "$(BIN)").replace("/bin", "") in makefile


def hard_functions():
    """Yield (place, complexity, the three lines above) of functions that radon ranks C or worse."""
    cc = pytest.importorskip("radon.complexity")
    for folder in ("fusionlib", "workflow"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            lines = text.splitlines()
            blocks = cc.cc_visit(text)
            methods = [m for block in blocks for m in getattr(block, "methods", [])]
            for block in [b for b in blocks if not hasattr(b, "methods")] + methods:
                first = block.lineno - 1
                while lines[first - 1].strip().startswith("@"):
                    first -= 1
                if block.complexity > 10:
                    above = "\n".join(lines[max(first - 3, 0) : first])
                    yield f"{path.name}: {block.name}", block.complexity, above


def test_a_function_of_many_branches_has_its_reason_above_it():
    assert not [place for place, _, above in hard_functions() if "# radon C: " not in above]
    assert not [place for place, complexity, _ in hard_functions() if complexity > 20]


def names_given(path):
    """Every name that a file of code defines or binds, bare of underscores."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name.strip("_")
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield (node.id if isinstance(node, ast.Name) else node.attr).strip("_")


@pytest.mark.parametrize("folder", ["fusionlib", "workflow", "benchmarks"])
def test_names_are_nouns_of_the_field(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    vague = {"one", "found", "there", "place"}
    assert files and not [(p.name, name) for p in files for name in vague & {*names_given(p)}]
