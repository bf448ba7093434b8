"""Every method from outside: one call, gray or colour, any size; and the numbers of the multi-focus
paper.
"""

import subprocess
import sys

import numpy as np
import pytest

from fusionlib import images, methods, metrics, published
from fusionlib.datasets.multi_focus import BuiltIn, MultiFocus
from fusionlib.methods import (
    Decision,
    fuse_pairs,
    get,
    import_fused_folder,
    load_plugins,
    names,
    register,
)
from fusionlib.networks import COMPARED, save_checkpoint
from fusionlib.networks.compared import Compared, Variant

CLASSICAL = ["average", "maximum", "LP", "CvT", "LP+PSO", "LP+BA", "LP+exact", "CvT+exact"]


def pair(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, shape).astype(np.uint8), rng.integers(0, 256, shape).astype(
        np.uint8
    )


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("shape", [(64, 80), (97, 131), (61, 64, 3)])
def test_same_kind_out(name, shape):
    a, b = pair(shape)
    fused = get(name).fuse(a, b)
    assert fused.shape == shape and fused.dtype == np.uint8
    assert np.array_equal(fused, get(name).fuse(infrared=a, visible=b))


@pytest.mark.parametrize("name", CLASSICAL)
def test_fusing_an_image_with_itself_gives_it_back(name):
    a, _ = pair((80, 96, 3))
    inner = np.s_[8:-8, 8:-8]
    assert np.abs(get(name).fuse(a, a)[inner].astype(int) - a[inner]).max() <= 1


@pytest.mark.parametrize("name", CLASSICAL)
def test_one_coloured_source_keeps_its_chroma(name):
    gray, _ = pair((64, 80))
    colour = np.clip(pair((64, 80, 3), 1)[0] // 4 + 90, 0, 255).astype(np.uint8)
    fused = get(name).fuse(gray // 4 + 90, colour)
    expected = images.with_chroma(
        get(name).fuse(gray // 4 + 90, images.luma(colour)), images.chroma(colour)
    )
    assert np.array_equal(fused, expected)
    assert images.is_colour(get(name).fuse(colour, gray))


def test_both_coloured_share_one_selection():
    photograph = BuiltIn().load("astronaut")
    a, b = photograph.a, photograph.b
    swapped = get("LP").fuse(a[..., ::-1], b[..., ::-1], rule=1)
    # The luma of a swapped image differs, its selection hardly: channels fused alone would shift
    # hues at edges.
    assert np.abs(swapped[..., ::-1].astype(int) - get("LP").fuse(a, b, rule=1)).mean() < 1
    gray = np.dstack([images.luma(a)] * 3), np.dstack([images.luma(b)] * 3)
    assert get("LP").fuse(*gray).ndim == 2, "three equal channels are gray"


def test_transforms_are_near_the_truth_where_the_mean_is_not():
    photograph = BuiltIn().load("camera")
    error = {
        name: metrics.compare(
            get(name).fuse(photograph.a, photograph.b), photograph.reference, ["RMSE"]
        )["RMSE"]
        for name in ("average", "maximum", "LP", "CvT")
    }
    assert max(error["LP"], error["CvT"]) < 0.35 * min(error["average"], error["maximum"])


def test_a_search_finds_the_weight_that_fuses_best_by_its_own_objective():
    photograph = BuiltIn().load("brick")
    found = {
        search: get(f"LP+{search}").fuse_with_info(photograph.a, photograph.b)[1]
        for search in ("PSO", "BA", "exact")
    }
    for search in ("PSO", "BA"):
        assert found[search]["objective"] <= found["exact"]["objective"] + 1e-6
        assert found[search]["objective"] > found["exact"]["objective"] - 1e-3
        assert found[search]["evaluations"] == 1640
    same = get("LP").fuse(photograph.a, photograph.b, weight=found["exact"]["weight"])
    searched = get("LP+exact").fuse(photograph.a, photograph.b)
    assert np.abs(same.astype(int) - searched).max() <= 1, (
        "P + w D is the fusion at w but for rounding"
    )


def test_printed_form_searches_two_numbers():
    a, b = pair((64, 80))
    info = get("LP+PSO").fuse_with_info(a, b, form="printed", seed=4)[1]
    assert 0 <= info["weight"] <= 1


def test_curvelets_on_leopard_are_within_one_percent(fusion_data):
    leopard = MultiFocus(fusion_data / "mfif" / "gray_classic").load("leopard")
    scores = metrics.evaluate(
        get("CvT").fuse(*leopard.sources), *leopard.sources, convention="multi-focus"
    )
    printed = (
        published.table("multi-focus", "A-2").query("method == 'CvT'").set_index("metric")["value"]
    )
    for name in ("MI", "EN", "Qabf"):
        assert abs(scores[name] / printed[name] - 1) < 0.01, name


def test_sentences_for_wrong_names_and_parameters():
    with pytest.raises(ValueError, match="did you mean LP"):
        get("lp")
    with pytest.raises(ValueError, match="expected one of the variants"):
        get("LP", "nonsense")
    with pytest.raises(ValueError, match="LP: no parameter named alpha; there are levels, border"):
        get("LP").fuse(*pair((64, 64)), alpha=1)
    with pytest.raises(ValueError, match="has no weights"):
        get("LP", checkpoint="x.pt")
    with pytest.raises(ValueError, match="weight: expected"):
        get("LP").fuse(*pair((64, 64)), weight=1.5)
    with pytest.raises(ValueError, match="one size"):
        get("LP").fuse(pair((64, 64))[0], pair((64, 65))[0])
    with pytest.raises(TypeError, match="b: expected a uint8 array"):
        get("average").fuse(pair((8, 8))[0], None)
    assert set(CLASSICAL) <= set(names())


def test_folder_of_fused_images_is_the_interface(tmp_path):
    a, b = pair((64, 64, 3))
    info = fuse_pairs(get("LP"), [("x", a, b)], tmp_path, progress=False, weight=0.25)
    assert info["x"]["weight"] == 0.25
    colour = images.read(tmp_path / "color" / "x.png")
    assert np.array_equal(images.read(tmp_path / "gray" / "x.png"), images.luma(colour))
    assert (tmp_path / "run.json").is_file()


# Leopard: the paper's Table A-2. MI of all three LP rows, EN of the first, Qabf of the first are
# the printed digits.
@pytest.mark.parametrize(
    "weight, mi, en", [(0.50, 10.3981, 7.4207), (0.52, 10.3814, 7.4207), (0.37, 10.5334, 7.4218)]
)
def test_leopard_cells_to_four_decimals(fusion_data, weight, mi, en):
    leopard = MultiFocus(fusion_data / "mfif" / "gray_classic").load("leopard")
    fused = get("LP").fuse(*leopard.sources, weight=weight)
    scores = metrics.evaluate(
        fused, *leopard.sources, names=["MI", "EN", "Qabf"], convention="multi-focus"
    )
    assert (round(scores["MI"], 4), round(scores["EN"], 4)) == (mi, en)
    if weight == 0.5:
        assert round(scores["Qabf"], 4) == 0.9313


def test_lab_edge_measure_to_four_decimals(fusion_data):
    lab = MultiFocus(fusion_data / "mfif" / "gray_classic").load("lab")
    fused = get("LP").fuse(*lab.sources)
    assert (
        round(
            metrics.evaluate(fused, *lab.sources, names=["Qabf"], convention="multi-focus")["Qabf"],
            4,
        )
        == 0.8978
    )


def test_gray_is_what_was_fused(tmp_path):
    """Chroma clips: the scored image is the fused Y, not the luma of what is shown."""
    rng = np.random.default_rng(5)
    infrared, visible = (
        rng.integers(0, 256, (40, 50)).astype(np.uint8),
        rng.integers(0, 256, (40, 50, 3)).astype(np.uint8),
    )
    fuse_pairs(get("maximum"), [("one", infrared, visible)], tmp_path, progress=False)
    gray, shown = (
        images.read(tmp_path / "gray" / "one.png"),
        images.read(tmp_path / "color" / "one.png"),
    )
    assert np.array_equal(gray, np.maximum(infrared, images.luma(visible)))
    assert np.array_equal(shown, get("maximum").fuse(infrared, visible)) and not np.array_equal(
        gray, images.luma(shown)
    )


def test_compared_stands_for_the_papers_networks_and_newer_for_the_rest():
    printed = set(published.table("moe-fusion", 1)["method"]) - {"MoE-Fusion"}
    compared, newer = methods.expand(["compared"]), methods.expand(["newer"])
    assert set(compared) == printed and compared + newer == list(COMPARED)
    assert methods.expand(["LP", "newer", "MoE-Fusion"]) == ["LP", *newer, "MoE-Fusion"]
    with pytest.raises(ValueError, match="register: expected a new name, got 'newer'"):
        register("newer")


def test_listing_methods_does_not_import_torch():
    code = "import sys, fusionlib.methods as m; m.names(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_memory_changes_nothing_but_the_way():
    """MoE-Fusion with as good as no memory, tile by tile, fuses to the same gray values but for the
    edge between two.
    """
    a, b = pair((211, 173))
    method = get("MoE-Fusion", device="cpu")
    difference = np.abs(method.fuse(a, b).astype(int) - method.fuse(a, b, memory=1e-3))
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3
    with pytest.raises(ValueError, match="memory: expected a positive number of GB, got -1"):
        method.fuse(a, b, memory=-1)


def test_an_image_is_given_once():
    a, b = pair((8, 9))
    fuse = get("average").fuse
    with pytest.raises(TypeError, match="infrared: expected one image, got a second"):
        fuse(a, b, infrared=b)
    with pytest.raises(TypeError, match="visible: expected one image, got a second"):
        fuse(a, b=b, visible=b)
    with pytest.raises(TypeError, match="a: expected a uint8 array"):
        fuse(visible=b)
    assert np.array_equal(fuse(a, visible=b), fuse(a, b))
    assert np.array_equal(fuse(a=a, b=b), fuse(infrared=a, visible=b))


def test_fused_images_of_somebody_are_imported_by_name(tmp_path):
    colour = pair((12, 10, 3))[0]
    images.write(tmp_path / "theirs" / "x.png", colour)
    import_fused_folder("Theirs", tmp_path / "theirs", ["x"], tmp_path / "out")
    assert np.array_equal(images.read(tmp_path / "out" / "color" / "x.png"), colour)
    assert np.array_equal(images.read(tmp_path / "out" / "gray" / "x.png"), images.luma(colour))
    lacking = import_fused_folder("Theirs", tmp_path / "theirs", ["w", "x", "y"], tmp_path / "out")
    assert lacking == ["w", "y"], "the images that are there make the row"
    with pytest.raises(ValueError, match="named as the pairs, such as y, found none among its 1"):
        import_fused_folder("Theirs", tmp_path / "theirs", ["y"], tmp_path / "out")


def test_imported_images_replace_those_of_an_earlier_call_but_never_their_own_source(tmp_path):
    for folder, name in (("one", "x"), ("two", "y")):
        images.write(tmp_path / folder / f"{name}.png", pair((8, 9))[0])
        import_fused_folder("Theirs", tmp_path / folder, [name], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "gray").iterdir()] == ["y.png"]
    assert [path.name for path in (tmp_path / "out" / "color").iterdir()] == ["y.png"]
    with pytest.raises(ValueError, match="expected an output that is no source"):
        import_fused_folder("Theirs", tmp_path / "out" / "gray", ["y"], tmp_path / "out")
    assert (tmp_path / "out" / "gray" / "y.png").is_file()


# ---- methods from outside the package ------------------------------------------------------------

MINE = """from fusionlib.methods import Decision, register

@register("mine", variants={"light": {"weight": 0.25}})
def mine(a, b, weight=0.5):
    \"\"\"A weighted mean.\"\"\"
    return weight * a + (1 - weight) * b

@register("darker")
def darker(a, b):
    first = a < b
    select = lambda a, b: a * first + b * ~first
    return Decision(select(a, b), select, {"share": first.mean()})
"""


@pytest.fixture
def plugin(tmp_path):
    """Return a function that loads a file with a text; its methods go after the test."""
    before = dict(methods.METHODS)

    def load(text, name="my_method.py"):
        (tmp_path / name).write_text(text)
        load_plugins([tmp_path / name])

    yield load
    methods.METHODS.clear()
    methods.METHODS.update(before)


def test_a_file_outside_the_package_adds_methods(plugin, tmp_path):
    plugin(MINE)
    a, b = pair((20, 30))
    assert {"mine", "darker"} <= set(names())
    assert np.array_equal(get("mine").fuse(a, b), get("average").fuse(a, b))
    light = get("mine", "light")
    assert np.array_equal(light.fuse(a, b), images.to_uint8(0.25 * a + 0.75 * b))
    assert np.array_equal(light.fuse(a, b, weight=1), a) and light.variants == ("", "light")
    assert get("mine").summary == "A weighted mean." and get("darker").summary == ""
    fuse_pairs(get("mine"), [("x", a, b)], tmp_path / "out", progress=False)
    assert get("mine").plugin in (tmp_path / "out" / "run.json").read_text()


def test_colour_by_the_decision_or_by_chroma(plugin):
    plugin(MINE)
    a, b = pair((20, 30, 3))
    first = (images.luma(a) < images.luma(b))[..., None]
    fused, info = get("darker").fuse_with_info(a, b)
    assert np.array_equal(fused, np.where(first, a, b)) and info == {"share": first.mean()}
    gray, shown, _ = get("mine").fuse_both(a, b)
    assert np.array_equal(gray, get("average").fuse(images.luma(a), images.luma(b)))
    assert np.array_equal(shown, images.with_chroma(gray, methods.mixed_chroma(a, b)))


def test_a_file_loaded_again_replaces_its_methods_and_a_broken_one_changes_nothing(plugin):
    plugin(MINE)
    first = get("mine").plugin
    plugin(MINE.replace("weight=0.5", "weight=0.75"))
    assert get("mine").parameters == {"weight": 0.75} and get("mine").plugin != first
    with pytest.raises(ValueError, match="my_method.py: NameError: name 'oops' is not defined"):
        plugin(MINE.replace("weight=0.5", "weight=1") + "oops")
    assert get("mine").parameters == {"weight": 0.75} and "darker" in names()
    plugin(MINE.partition('@register("darker")')[0])
    assert "mine" in names() and "darker" not in names()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (MINE.replace('"mine"', '"LP"'), "a new name, got 'LP', which another method has"),
        (MINE.replace('"mine"', '"DenseFuse"'), "got 'DenseFuse', which another method has"),
        (MINE.replace('"mine"', '"compared"'), "got 'compared', which another method has"),
        (MINE.replace('"mine"', '"a/b"'), "expected a name, without"),
        (MINE + "register('other')(5)", "expected a function for 'other', got 5"),
        (MINE + "@register\ndef other(a, b): return a", "expected a name"),
        (MINE + "@register('other')\ndef other(a): return a", "expected a function .a, b."),
        ("x = 1", "expected at least one function under @register"),
        ("def", "SyntaxError"),
    ],
)
def test_a_plugin_that_cannot_be_used_says_why(plugin, text, sentence):
    before = names()
    with pytest.raises(ValueError, match=f"my_method.py: .*{sentence}"):
        plugin(text)
    assert names() == before
    with pytest.raises(FileNotFoundError, match="none.py: expected a Python file with methods"):
        load_plugins("none.py")


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (
            None,
            "expected its function to return a plane of numbers of shape .8, 9., got NoneType None",
        ),
        (np.zeros((8, 9), complex), "got an array of shape .8, 9. and type complex128"),
        (np.zeros((9, 8)), r"of shape .8, 9., got an array of shape .9, 8."),
        (Decision(np.zeros((8, 9, 3))), r"of shape .8, 9., got an array of shape .8, 9, 3."),
        (np.full((8, 9), np.nan), "expected finite gray levels, got 72 NaN"),
    ],
)
def test_what_a_function_returns_is_checked(plugin, returned, sentence):
    register("wrong")(lambda a, b: returned)
    with pytest.raises(ValueError, match=f"wrong: .*{sentence}"):
        get("wrong").fuse(*pair((8, 9)))


def test_a_compared_network_is_its_file_and_its_entry(tmp_path, monkeypatch):
    """Weights in the suite's own format lie in the folder that is named."""
    entry = Compared("Mine", "ifcnn:IFCNN", "", {"": Variant("mine.safetensors", "a test")})
    network = entry.build(seed=3)
    monkeypatch.setitem(COMPARED, "Mine", entry)
    save_checkpoint(tmp_path / "mine.safetensors", network.state_dict(), {})
    a, b = pair((40, 50))
    fused = get("Mine", checkpoint=tmp_path, device="cpu").fuse(a, b)
    assert np.array_equal(fused, network.fuse(a, b)) and "Mine" in methods.expand(["compared"])
    empty = tmp_path / "empty"
    empty.mkdir()
    reason = methods.missing_weights(get("Mine", checkpoint=empty))
    assert "empty/mine.safetensors: expected a checkpoint" in reason


def test_scales_that_do_not_fit_are_refused_and_not_cut():
    a, b = pair((64, 64))
    method = get("CvT")
    assert np.isfinite(method.fuse(a, b)).all()  # the default takes what fits
    with pytest.raises(ValueError, match="large enough for 99 scales .*, got 64x64"):
        method.fuse(a, b, scales=99)
