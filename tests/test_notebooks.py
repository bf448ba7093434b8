"""What every notebook promises: parameters, size, committed outputs, and no secrets of a
machine.
"""

import ast
import base64
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from nbformat import v4
from PIL import Image

from fusionlib import images, runs
from fusionlib.datasets.scenes import write_scenes
from fusionlib.figures import inline
from workflow import first_screens, graph

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind="code"):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


@each
def test_opening(path):
    first = json.loads(path.read_text())["cells"][0]
    assert first["cell_type"] == "markdown" and source(first).startswith("# ")
    for word in ("**Question.**", "**Gives.**", "**Time.**", "**Read before.**"):
        assert word in source(first)
    assert cells(path)[0]["metadata"].get("tags") == ["parameters"]


@each
def test_first_screen_has_the_measured_time_and_the_expected_picture(path):
    first = json.loads(path.read_text())["cells"][0]
    assert first_screens.time(path.stem) in source(first)
    if path.stem == "91-report":  # its tables are those of the other notebooks
        return
    figure = first_screens.PICTURE.search(source(first))[1]
    (content,) = first["attachments"][f"{figure}.jpg"].values()
    picture = base64.b64decode(content)
    assert len(picture) <= first_screens.LIMIT
    assert Image.open(io.BytesIO(picture)).width >= 400


def test_first_screen_is_filled_from_a_run(tmp_path):
    node = tmp_path / "run" / "walk"
    (node / "figures").mkdir(parents=True)
    (node / "run.json").write_text('{"name": "20-network-walk", "seconds": 1}')
    Image.effect_noise((1200, 300), 200).save(node / "figures" / "figure-2.png")
    notebook = tmp_path / "20-network-walk.ipynb"
    text = "**Time.** ages on two cores. Rest.\n\n![that](attachment:figure-2.jpg)"
    nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell(text)]), notebook)
    first_screens.fill(notebook, tmp_path / "run")
    (cell,) = json.loads(notebook.read_text())["cells"]
    assert source(cell) == text.replace(
        "**Time.** ages on two cores.", first_screens.time(notebook.stem)
    )
    picture = base64.b64decode(cell["attachments"]["figure-2.jpg"]["image/jpeg"])
    assert Image.open(io.BytesIO(picture)).size == (800, 200)
    with pytest.raises(FileNotFoundError, match="expected a finished node of 21-train"):
        first_screens.node_of(tmp_path / "run", "21-train")


@each
def test_parameters_are_typed_commented_assignments_a_line(path):
    lines = source(cells(path)[0]).splitlines()
    assert len(ast.parse("\n".join(lines)).body) == len(lines)
    for line in lines:
        assert re.fullmatch(r"\w+: (str|int|float|bool|list|dict) = .+  # .+", line), line
    assert "output" in runs.parameters_of(path)


@each
def test_thin(path):
    assert len(cells(path)) <= 29  # of them two that set up, and the answer
    for cell in cells(path):
        # parameters are a list to look up, not a step to understand
        most = 20 if "parameters" in cell["metadata"].get("tags", []) else 15
        assert len(source(cell).splitlines()) <= most, source(cell)
        assert "os.environ" not in source(cell) and "getenv" not in source(cell)


def test_all_set_up_alike():
    assert len({source(cells(path)[1]) for path in NOTEBOOKS}) == 1


@each
def test_committed_executed_and_small(path):
    assert all(cell["execution_count"] for cell in cells(path))
    for output in (output for cell in cells(path) for output in cell["outputs"]):
        assert output["output_type"] != "error" and output.get("name") != "stderr"
        for kind, data in output.get("data", {}).items():
            if kind.startswith("image/"):
                assert len(base64.b64decode("".join(data))) <= inline.OF_PHOTOGRAPHS, (
                    f"a figure of {path.name} is too large"
                )
    assert path.stat().st_size <= 1_500_000


@each
def test_no_path_of_a_machine_in_what_is_committed(path):
    text = path.read_text()
    assert (
        str(runs.root()) not in text and str(Path.home()) + "/" not in text and "/tmp/" not in text
    )


@pytest.mark.parametrize("profile", graph.profiles())
def test_workflow_passes_only_what_notebooks_have(profile, tmp_path):
    for node in graph.expand(profile, tmp_path, dry=True):
        runs.check_parameters(node.notebook, node.parameters)
        if profile == "smoke":
            of_others = {
                name for name, value in node.parameters.items() if str(tmp_path) in str(value)
            }
            assert set(node.parameters) - of_others <= {
                "seed",
                "device",
                "threads",
                "data",
                "weights",
                "dataset",
            }


def test_every_notebook_is_in_the_workflow():
    named = {node.notebook.name for node in graph.expand("smoke", Path("x"))}
    assert named == {path.name for path in NOTEBOOKS}


def test_the_map_names_each_notebook_and_the_words_that_run_it():
    start = next(path for path in NOTEBOOKS if path.stem == "00-start")
    text = "\n".join(source(cell) for cell in cells(start, "markdown"))
    rows = re.findall(r"^\| `(\d\d-[\w-]+)` \|.*\| (`.*`) \| .* \|$", text, re.MULTILINE)
    named = {stem: set(re.findall(r"`([\w-]+)`", words)) for stem, words in rows}
    provided = {node.notebook.stem: set(node.provides) for node in graph.expand("smoke", Path("x"))}
    assert named == {stem: words - {"multi-focus"} for stem, words in provided.items()}
    further = set(re.findall(r"`(\d\d-[\w-]+)`", text))
    assert further == set(named)


def test_figure_1_names_a_method_whose_images_lie_in_fused_for_another_figure_only():
    path = next(path for path in NOTEBOOKS if path.stem == "28-figures-1-3-5")
    cell = next(cell for cell in cells(path) if cell["id"] == "cell-08")
    pair = SimpleNamespace(name="first", boxes=None)
    sources = {"infrared": "infrared image", "visible": "visible image"}
    namespace = {
        "detection_table": SimpleNamespace(
            load=lambda *options: None, detections_above=lambda model, image, least: f"in {image}"
        ),
        "detector": "",
        "device": "cpu",
        "least": 0.5,
        "chosen": {1: pair, 3: pair},
        "detected": ["elsewhere"],
        "gray": {1: sources, 3: sources | {"elsewhere": "fused image"}},
        "shown": {1: sources, 3: sources},
        "lacking": [],
    }
    exec(source(cell), namespace)
    assert namespace["panels"] == {
        "infrared": ("infrared image", "in infrared image", None),
        "visible": ("visible image", "in visible image", None),
        "elsewhere": "no weights",
    }


def test_comparison_with_tolerance():
    import importlib.util

    spec = importlib.util.spec_from_file_location(
        "notebook_conftest", NOTEBOOKS[0].parent / "conftest.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.same("a  1.00000 b 2e3", "a 1.0005 b 2000")
    assert module.same("a 0.65 1.0", "a 0.66 1.1"), (
        "one value may be rounded to either side on another processor"
    )
    assert (
        not module.same("a 1.0", "a 1.2")
        and not module.same("a 1.00", "a 1.02")
        and not module.same("a 1.0", "b 1.0")
    )
    assert not module.same("a 10", "a 11")
    assert not module.same("1 2", "1 2 3")
    reference = [{"data": {"text/plain": "x 1.0"}}, {"text": "y"}]
    assert module.adopt(reference, [{"data": {"text/plain": "x   1.0001"}}, {"text": "z"}]) == [
        {"data": {"text/plain": "x 1.0"}},
        {"text": "z"},
    ]


def test_table_1_of_ones_own_folders_names_the_data_and_the_missing_and_keeps_nothing_old(tmp_path):
    """Twice into one folder: a row that lacks an image, then other pairs."""
    outputs = {}
    for yard, count in (("yard", 3), ("field", 2)):
        write_scenes(tmp_path / yard, range(len(yard), len(yard) + count), (48, 64))
        files = sorted(images.list_images(tmp_path / yard / "ir").values())
        for path in files[1:]:
            images.write(tmp_path / f"mine of {yard}" / path.name, images.read(path))
        parameters = {
            "data": str(tmp_path / yard),
            "methods": ["average", "maximum"],
            "folders": {"Mine": str(tmp_path / f"mine of {yard}"), "No": str(tmp_path)},
            "weights": "none",
            "device": "cpu",
        }
        path = next(path for path in NOTEBOOKS if path.stem == "25-table-1")
        runs.execute(path, tmp_path / "out", parameters)
        rows = pd.read_csv(tmp_path / "out" / "results.csv")
        assert set(rows["dataset"]) == {yard}
        assert rows.groupby("method")["image"].nunique().to_dict() == {
            "average": count,
            "maximum": count,
            "Mine": count - 1,
        }
        text = json.dumps([cell["outputs"] for cell in cells(tmp_path / "out" / "notebook.ipynb")])
        assert f"Mine has no image of {files[0].stem}" in text
        assert f"the tables are over the {count - 1} pairs that every row has" in text
        assert "expected images of No named as the pairs" in text, "the whole reason"
        outputs[yard] = {path.stem for path in (tmp_path / "out/fused/Mine/gray").iterdir()}
        assert outputs[yard] == {path.stem for path in files[1:]}
        record = json.loads((tmp_path / "out" / "run.json").read_text())
        assert record["lacking"] == {"Mine": [files[0].stem]}


@each
def test_no_notebook_calls_real_images_by_the_name_of_built_in_ones(path):
    """A default name would be recorded for whatever folder is given."""
    assert runs.parameters_of(path).get("dataset", "") in ("", [""])


@each
def test_ends_with_an_answer(path):
    title, answer = json.loads(path.read_text())["cells"][-2:]
    assert title["cell_type"] == "markdown" and source(title) == "## Answer"
    assert "run.answer(" in source(answer)
    text = "".join("".join(output["text"]) for output in answer["outputs"])
    sentences = re.findall(r"[.:](?:\s|$)", text)
    assert len(sentences) >= 2 and "nan" not in text.split()
