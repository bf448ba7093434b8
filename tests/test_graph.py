"""Lists of data sets in the run graph: one node each, or one for all."""

from pathlib import Path

import pytest
from test_runs import FINISH, notebook

from workflow import graph

PROFILE = (
    "jobs: 1\nthreads: 1\nseed: 0\ndevice: cpu\nmulti_focus: [builtin]\ninfrared_visible:"
    " [builtin]\n"
)


@pytest.fixture
def tiny(tmp_path):
    home = tmp_path / "workflow"
    (home / "profiles").mkdir(parents=True)
    (home / "profiles" / "smoke.yaml").write_text(PROFILE)
    (home / "profiles" / "sample.yaml").write_text(
        PROFILE + "multi_focus_paper: [one, two]\nmulti_focus_reference: [builtin, two]\n"
    )
    (home / "nodes.yaml").write_text(
        "each: {notebook: each.ipynb, provides: [e], for_each: multi_focus_paper}\n"
        "all: {notebook: all.ipynb, provides: [a], for_all: multi_focus_reference}\n"
    )
    for name, kind in (("each", "str = ''"), ("all", "list = []")):
        notebook(
            tmp_path / "notebooks" / f"{name}.ipynb",
            FINISH,
            parameters=f"output: str = ''\ndata: {kind}\ndataset: {kind}",
        )
    for name in ("one", "two"):
        (tmp_path / "data" / "mfif" / name).mkdir(parents=True)
    return tmp_path


def test_lists_of_a_profile(tiny):
    folder = tiny / "data" / "mfif"
    nodes = {
        node.name: node
        for node in graph.expand("sample", tiny, data=str(tiny / "data"), here=tiny / "workflow")
    }
    assert list(nodes) == ["each-one", "each-two", "all"]
    assert nodes["each-two"].parameters == {"dataset": "two", "data": str(folder / "two")}
    assert nodes["all"].parameters == {
        "dataset": ["built-in", "two"],
        "data": ["", str(folder / "two")],
    }


def test_a_list_that_is_left_out_is_the_built_in_data(tiny):
    nodes = graph.expand("smoke", tiny, here=tiny / "workflow")
    assert [(node.name, node.parameters) for node in nodes] == [("each", {}), ("all", {})]


def test_one_missing_data_set_is_told_and_stops_no_other(tiny, capsys):
    (tiny / "data" / "mfif" / "two").rmdir()
    nodes = graph.expand("sample", tiny, data=str(tiny / "data"), here=tiny / "workflow")
    assert [node.name for node in nodes if node.wanted] == ["each-one", "each-two", "all"]
    said = capsys.readouterr().err
    assert said.count("expected the data set two at") == 1 and "the rest runs" in said
    assert nodes[-1].parameters == {}, "what is left is the built-in data"
    assert [Path(f).name for f in nodes[-1].without] == ["two"]
    (tiny / "data" / "mfif" / "one").rmdir()
    with pytest.raises(ValueError, match="FUSION_DATA: expected the data set one at .*PROFILE"):
        graph.expand("sample", tiny, data=str(tiny / "data"), here=tiny / "workflow")


def test_what_needs_all_or_the_first_of_a_node_takes_those_that_can_run(tiny):
    (tiny / "data" / "mfif" / "one").rmdir()
    table = tiny / "workflow" / "nodes.yaml"
    more = "needs: {every: {node: each, take: all}, start: {node: each, take: first}}"
    table.write_text(table.read_text().replace("provides: [a],", f"provides: [a], {more},"))
    notebook(
        tiny / "notebooks" / "all.ipynb",
        FINISH,
        parameters="output: str = ''\ndata: list = []\ndataset: list = []\nevery: list = []\n"
        "start: str = ''",
    )
    data = str(tiny / "data")
    node = graph.expand("sample", tiny, data=data, here=tiny / "workflow")[-1]
    assert node.needs == [tiny / "each-two"] * 2
    assert node.parameters["every"] == [node.parameters["start"]] == [str(tiny / "each-two")]
    assert node.without == [str(tiny / "data" / "mfif" / "one")]


def test_data_that_nobody_asked_for_need_not_be_there(tiny, capsys):
    (tiny / "data" / "mfif" / "one").rmdir()
    here, data = tiny / "workflow", str(tiny / "data")
    nodes = graph.expand("sample", tiny, only=["a"], data=data, here=here)
    assert [node.name for node in nodes if node.wanted] == ["all"]
    assert not capsys.readouterr().err
    graph.expand("sample", tiny, only=["e"], data=data, here=here)
    assert "FUSION_DATA: expected the data set one at" in capsys.readouterr().err
    table = here / "nodes.yaml"
    table.write_text(
        table.read_text().replace(
            "provides: [a],", "provides: [a], needs: {before: {node: each, take: all}},"
        )
    )
    notebook(
        tiny / "notebooks" / "all.ipynb",
        FINISH,
        parameters="output: str = ''\ndata: list = []\ndataset: list = []\nbefore: list = []",
    )
    graph.expand("sample", tiny, only=["a"], data=data, here=here)
    assert "FUSION_DATA: expected the data set one at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("take", "kind", "expected"),
    [
        ("same or all", "list = []", ["each-one", "each-two"]),
        ("all", "list = []", ["each-one", "each-two"]),
        ("same or first", "str = ''", ["each-one"]),
        ("first", "list = []", ["each-one"]),
    ],
)
def test_which_folders_a_node_takes_stands_in_its_entry(tiny, take, kind, expected):
    here = tiny / "workflow"
    need = f"provides: [a], needs: {{before: {{node: each, take: {take}}}}},"
    (here / "nodes.yaml").write_text(
        (here / "nodes.yaml").read_text().replace("provides: [a],", need)
    )
    parameters = f"output: str = ''\ndata: list = []\ndataset: list = []\nbefore: {kind}"
    notebook(tiny / "notebooks" / "all.ipynb", FINISH, parameters=parameters)
    node = graph.expand("sample", tiny, here=here, dry=True)[-1]
    paths = [str(tiny / name) for name in expected]
    assert node.parameters["before"] == (paths if kind.startswith("list") else paths[0])


@pytest.mark.parametrize(
    ("take", "sentence"),
    [
        ("same", "all: before: expected each for the data set None .take: same., the profile has"),
        ("all", "parameter before: expected str like '', got list"),
    ],
)
def test_folders_that_do_not_fit_are_refused(tiny, take, sentence):
    here = tiny / "workflow"
    need = f"provides: [a], needs: {{before: {{node: each, take: {take}}}}},"
    (here / "nodes.yaml").write_text(
        (here / "nodes.yaml").read_text().replace("provides: [a],", need)
    )
    parameters = "output: str = ''\ndata: list = []\ndataset: list = []\nbefore: str = ''"
    notebook(tiny / "notebooks" / "all.ipynb", FINISH, parameters=parameters)
    with pytest.raises(ValueError, match=sentence):
        graph.expand("sample", tiny, here=here, dry=True)


def test_splits_reach_the_notebooks_that_know_them(tiny):
    profile = tiny / "workflow" / "profiles" / "sample.yaml"
    profile.write_text(profile.read_text() + "splits: {one: val}\n")
    kinds = {"each": "str = ''", "all": "list = []"}

    def parameters(known):
        for name, kind in kinds.items():
            lines = (f"{key}: {kind}" for key in known)
            notebook(tiny / "notebooks" / f"{name}.ipynb", FINISH, parameters="\n".join(lines))
        folder, here = str(tiny / "data"), tiny / "workflow"
        nodes = graph.expand("sample", tiny / "reports", data=folder, here=here)
        return {node.name: node.parameters.get("split") for node in nodes}

    known = ["output", "data", "dataset"]
    assert parameters(known) == {"each-one": None, "each-two": None, "all": None}
    assert parameters([*known, "split"]) == {"each-one": "val", "each-two": None, "all": ["", ""]}
    profile.write_text(profile.read_text().replace("{one: val}", "{none: val}"))
    with pytest.raises(ValueError, match="splits: no data set named none; there are builtin, one"):
        parameters(known)


def test_the_sample_tables_leave_out_what_was_trained_on(tmp_path):
    nodes = graph.expand("sample", tmp_path, data="", weights="", dry=True)
    splits = {node.name: node.parameters.get("split") for node in nodes}
    assert splits["table-1-msrs"] == splits["table-2-msrs"] == splits["figures-7-8-msrs"] == "val"
    assert splits["figures-1-3-5"] == ["val", "val", "", "", "test"]


@pytest.mark.parametrize(
    "word, wanted",
    [
        ("e", ["each-one", "each-two"]),
        ("e-two", ["each-two"]),
        ("each-one", ["each-one"]),
        ("a", ["all"]),
    ],
)
def test_a_word_with_a_data_set_asks_for_its_node_alone(tiny, word, wanted):
    nodes = graph.expand("sample", tiny, only=[word], here=tiny / "workflow", dry=True)
    assert [node.name for node in nodes if node.wanted] == wanted


def test_a_data_set_that_a_node_has_not_is_no_word(tiny):
    with pytest.raises(ValueError, match="no table or figure named e-three; there are a, e"):
        graph.expand("sample", tiny, only=["e-three"], here=tiny / "workflow", dry=True)
