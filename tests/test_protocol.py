"""Sizes at which methods run, resuming, and the finder of what is behind printed numbers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from oracles.vectors import triplets

from fusionlib import images, methods, metrics, report, scoring
from fusionlib.datasets import Pair, open_pairs
from fusionlib.datasets.scenes import scene, write_scenes
from fusionlib.experiments import protocol

ORACLE = json.loads(
    (Path(__file__).parent / "oracles" / "metrics_vectors.json").read_text(encoding="utf-8")
)
EIGHT = ("EN", "SF", "SD", "MI", "VIF", "AG", "SCD", "Qabf")


def printed(values, method="fusion", decimals=4):
    """Rows as a paper prints them."""
    text = {name: f"{value:.{decimals}f}" for name, value in values.items()}
    return pd.DataFrame(
        [
            {"method": method, "metric": name, "value": float(number), "printed": number}
            for name, number in text.items()
        ]
    )


def candidate(folder, fused, a, b, **labels):
    for kind, pictures in (("fused", fused), ("a", a), ("b", b)):
        for name, picture in pictures.items():
            images.write(folder / kind / f"{name}.png", picture)
    known = {"method": "fusion", "variant": "", "resolution": "native"} | labels
    return protocol.Candidate(
        **known, fused=folder / "fused", infrared=folder / "a", visible=folder / "b"
    )


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """The synthetic triplets with defined values, as a folder, and the means of the values that
    evaluators gave.
    """
    chosen = ("v0_small", "v1_odd_max", "v3_flat_regions")
    made = {name: three for name, three in triplets().items() if name in chosen}
    folders = [{name: three[i] for name, three in made.items()} for i in (2, 0, 1)]
    found = ORACLE["triplets"]
    given = {
        evaluator: {
            metric: np.mean([float(found[name]["values"][evaluator][metric]) for name in chosen])
            for metric in EIGHT
            if metric in found[chosen[0]]["values"][evaluator]
        }
        for evaluator in ("moe_table_convention", "cddfuse_py_float64", "vifb_octave")
    }
    return candidate(tmp_path_factory.mktemp("vectors"), *folders), given


@pytest.fixture(scope="module")
def pairs():
    return [
        Pair(f"scene-{seed}", one.infrared, one.visible)
        for seed in (0, 2)
        for one in [scene(seed, (72, 96))]
    ]


# ---- the finder ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "evaluator, convention",
    [
        ("moe_table_convention", "moe-fusion"),
        ("cddfuse_py_float64", "cddfuse"),
        ("vifb_octave", "vifb"),
    ],
)
def test_it_finds_the_convention_of_other_evaluators_numbers(vectors, evaluator, convention):
    folder, given = vectors
    found = protocol.find(printed(given[evaluator]), [folder], progress=False)
    assert (
        found.loc[0, "convention"] == convention
        and found.loc[0, "agree"] == 1
        and found.loc[0, "gap"] < 1e-2
    )
    assert (
        (found["agree"][1:] < 1).all()
        and len(found) == len(metrics.CONVENTIONS)
        and found.loc[0, "n_images"] == 3
    )
    assert protocol.together(found).loc[0, "convention"] == convention


def test_without_agreement_the_smallest_gap_comes_first(vectors):
    """Other images: nothing agrees to four decimals, the convention still shows by its size."""
    folder, given = vectors
    off = {name: 1.02 * value for name, value in given["moe_table_convention"].items()}
    found = protocol.find(
        printed(off), [folder], ["standard", "moe-fusion", "multi-focus"], progress=False
    )
    assert list(found["agree"]) == [0, 0, 0] and found.loc[0, "convention"] == "moe-fusion"
    assert found.loc[0, "gap"] == pytest.approx(0.0196, abs=1e-3)
    assert found.iloc[-1]["convention"] == "multi-focus" and found.iloc[-1]["lacking"] > 0
    assert found.set_index("convention").loc["standard", "worst"] == "SF"  # 255 times the printed


@pytest.mark.parametrize("true", range(4))
def test_it_finds_variant_and_resolution(tmp_path, pairs, true):
    lp = [methods.get("LP", variant) for variant in ("", "region-gradient")]
    candidates = protocol.candidates(lp, pairs, tmp_path, ["native", "resize-back"], progress=False)
    assert len(candidates) == 4
    folder = candidates[true]
    scores = [
        metrics.evaluate(
            *(
                images.read(home / f"{pair.name}.png")
                for home in (folder.fused, folder.infrared, folder.visible)
            ),
            names=EIGHT,
        )
        for pair in pairs
    ]
    rows = printed(pd.DataFrame(scores).mean(), "LP")
    best = protocol.find(rows, candidates, ["standard", "moe-fusion"], progress=False).iloc[0]
    assert (best["variant"], best["resolution"], best["convention"]) == (
        folder.variant,
        folder.resolution,
        "moe-fusion",
    )
    assert best["agree"] == 1


def test_it_finds_the_variant_of_densefuse(tmp_path, pairs, fusion_weights):
    """The images of two variants with official weights; the row is that of the second."""
    pytest.importorskip("torch")
    two = [
        methods.get("DenseFuse", variant, str(fusion_weights), "cpu")
        for variant in ("tensorflow-1e2-addition", "tensorflow-1e2-l1")
    ]
    candidates = protocol.candidates(two, pairs, tmp_path, ["native"], progress=False)
    for row, wanted in enumerate(two):
        scores = [
            metrics.evaluate(
                wanted.fuse(pair.infrared, images.luma(pair.visible)),
                pair.infrared,
                images.luma(pair.visible),
                EIGHT,
            )
            for pair in pairs
        ]
        found = protocol.find(
            printed(pd.DataFrame(scores).mean(), "DenseFuse"), candidates, progress=False
        )
        assert found.loc[0, "variant"] == wanted.variant == candidates[row].variant
        assert (
            found.loc[0, "convention"] == "moe-fusion"
            and found.loc[0, "agree"] == 1
            and found.loc[1, "agree"] < 1
        )


def test_all_rows_of_a_paper_share_convention_and_resolution():
    found = pd.DataFrame(
        [
            {
                "method": "A",
                "convention": "x",
                "resolution": "native",
                "variant": "1",
                "values": 8,
                "lacking": 0,
                "agree": 1.0,
                "gap": 0.0,
            },
            {
                "method": "A",
                "convention": "y",
                "resolution": "native",
                "variant": "1",
                "values": 8,
                "lacking": 0,
                "agree": 0.5,
                "gap": 0.1,
            },
            {
                "method": "A",
                "convention": "y",
                "resolution": "native",
                "variant": "2",
                "values": 8,
                "lacking": 0,
                "agree": 0.0,
                "gap": 0.9,
            },
            {
                "method": "B",
                "convention": "y",
                "resolution": "native",
                "variant": "2",
                "values": 8,
                "lacking": 0,
                "agree": 1.0,
                "gap": 0.0,
            },
            {
                "method": "B",
                "convention": "x",
                "resolution": "native",
                "variant": "2",
                "values": 8,
                "lacking": 0,
                "agree": 0.125,
                "gap": 0.3,
            },
        ]
    )
    both = protocol.together(found)
    assert (
        list(both["convention"]) == ["y", "x"]
        and both.loc[0, "agree"] == 0.75
        and both.loc[0, "variants"] == "A 1, B 2"
    )
    assert both.loc[0, "gap"] == 0.1  # of the variants that were chosen


def test_bad_input_is_one_sentence(vectors):
    folder, given = vectors
    rows = printed(given["moe_table_convention"])
    with pytest.raises(ValueError, match="got no printed"):
        protocol.find(rows.drop(columns="printed"), [folder])
    with pytest.raises(ValueError, match="one EN of fusion, got several"):
        protocol.find(pd.concat([rows, rows]), [folder])
    with pytest.raises(ValueError, match="expected some of other, got fusion"):
        protocol.find(rows.assign(method="other"), [folder])
    with pytest.raises(
        ValueError, match="expected one of native, 640x480, resize-back, got 'full'"
    ):
        protocol.write_sources([], folder.fused, "full")


# ---- resolutions and resuming --------------------------------------------------------------------


@pytest.mark.parametrize(
    "resolution, scored", [("native", (72, 96)), ("640x480", (480, 640)), ("resize-back", (72, 96))]
)
def test_size_of_what_is_scored(tmp_path, pairs, resolution, scored):
    sources = protocol.write_sources(pairs[:1], tmp_path / "sources", resolution)
    assert protocol.fuse(
        methods.get("average"), pairs[:1], sources, tmp_path / "average", resolution, progress=False
    )
    name = sources.names[0]
    gray = images.read(tmp_path / "average" / "gray" / f"{name}.png")
    a, b = (
        images.read(folder / f"{name}.png").astype(float)
        for folder in (sources.infrared, sources.visible)
    )
    assert gray.shape == a.shape == b.shape == scored
    assert images.read(tmp_path / "average" / "color" / f"{name}.png").shape == (*scored, 3)
    # An average of resized sources is theirs wherever it is taken, but for rounding, and what
    # resizing twice loses.
    off = np.abs(gray - (a + b) / 2)
    assert off.max() <= 0.5 if resolution != "resize-back" else 0 < off.mean() < 4


def test_the_gray_image_is_what_the_method_gives(tmp_path, pairs):
    """The coloured image clips; its luma is another image, and would be scored as one."""
    sources = protocol.write_sources(pairs, tmp_path / "sources")
    protocol.fuse(methods.get("infrared"), pairs, sources, tmp_path / "infrared", progress=False)
    for pair in pairs:
        gray, colour = (
            images.read(tmp_path / "infrared" / kind / f"{pair.name}.png")
            for kind in ("gray", "color")
        )
        assert (gray == pair.infrared).all() and (images.luma(colour) != gray).any()


def test_fused_again_only_where_something_changed(tmp_path, pairs):
    sources = protocol.write_sources(pairs, tmp_path / "sources")
    method, folder = methods.get("LP"), tmp_path / "LP"

    def fuse(method=method, sources=sources, resolution="native"):
        return protocol.fuse(method, pairs, sources, folder, resolution, progress=False)

    assert fuse() and not fuse()
    assert fuse(replace(method, parameters=method.parameters | {"weight": 0.7}))
    assert fuse() and fuse(resolution="resize-back") and fuse()
    brighter = [Pair(pair.name, pair.infrared // 2, pair.visible) for pair in pairs]
    assert fuse(sources=protocol.write_sources(brighter, tmp_path / "sources"))
    # Without a record nobody knows what the images are of: none of them stays.
    fuse()
    (folder / "made_from.json").unlink()
    images.write(folder / "gray" / "left-over.png", pairs[0].infrared)
    assert fuse() and not (folder / "gray" / "left-over.png").exists()


def test_an_interrupted_call_goes_on_image_by_image(tmp_path, pairs):
    sources = protocol.write_sources(pairs, tmp_path / "sources")
    fused, stop_at = [], 1

    def average(a, b):
        if len(fused) == stop_at:
            raise KeyboardInterrupt
        fused.append(a)
        return (a + b) / 2

    method, folder = methods.Method("mine", average), tmp_path / "mine"
    with pytest.raises(KeyboardInterrupt):
        protocol.fuse(method, pairs, sources, folder, progress=False)
    (folder / "color" / f"{pairs[0].name}.png").unlink()  # killed between the two images of a pair
    stop_at = 9
    assert protocol.fuse(method, pairs, sources, folder, progress=False) and len(fused) == 3
    (folder / "gray" / f"{pairs[1].name}.png").unlink()
    assert protocol.fuse(method, pairs, sources, folder, progress=False) and len(fused) == 4
    assert not protocol.fuse(method, pairs, sources, folder, progress=False)
    assert len(images.list_images(folder / "gray")) == len(pairs)


def test_scores_are_kept_image_by_image(tmp_path, pairs, monkeypatch):
    sources = protocol.write_sources(pairs, tmp_path / "sources")
    folders = [sources.visible, sources.infrared, sources.visible]
    scored, one = [], scoring._values

    def counted(stem, *arguments):
        scored.append(stem)
        return one(stem, *arguments)

    monkeypatch.setattr(scoring, "_values", counted)
    kept = tmp_path / "scores.jsonl"

    def score(convention="moe-fusion"):
        scored.clear()
        options = {"convention": convention, "progress": False, "kept": kept}
        frame = scoring.score_folder(*folders, EIGHT, **options).frame
        return frame, len(scored)

    first, count = score()
    again, none = score()
    assert (count, none) == (2, 0) and first["value"].isna().any()  # a copy has no SCD
    pd.testing.assert_frame_equal(first, again)
    kept.write_text(kept.read_text()[:-30])  # what a kill leaves of the last line
    assert score()[1] == 1 and score()[1] == 0
    pd.testing.assert_frame_equal(score()[0], first)
    assert score("standard")[1] == 2 and score()[1] == 0
    images.write(sources.infrared / f"{pairs[0].name}.png", pairs[1].infrared)
    assert score()[1] == 1


def test_weights_count_by_their_content(tmp_path, pairs):
    torch = pytest.importorskip("torch")

    class Network(torch.nn.Linear):
        def fuse(self, a, b):
            return a

    class Function:
        def __init__(self, network):
            self.network = network

        def __call__(self, a, b):
            return a

    network = Network(1, 1)
    sources = protocol.write_sources(pairs, tmp_path / "sources")
    method = methods.Method("net", Function(network))
    assert protocol.fuse(method, pairs, sources, tmp_path / "net", progress=False)
    assert not protocol.fuse(method, pairs, sources, tmp_path / "net", progress=False)
    with torch.no_grad():
        network.weight += 1
    assert protocol.fuse(method, pairs, sources, tmp_path / "net", progress=False)


def test_a_folder_of_pairs_is_read_as_often_as_needed(tmp_path):
    from fusionlib.datasets.scenes import write_scenes

    data = write_scenes(tmp_path / "data", [0, 1, 2], (40, 48))
    pairs = open_pairs(data, limit=2)
    assert [pair.name for pair in pairs] == [pair.name for pair in pairs] and len(list(pairs)) == 2
    # a set of the catalogue, in this project's own layout
    listed = open_pairs(data, "M3FD", "val", limit=1)
    assert [pair.name for pair in listed] == ["00002_night"]


def test_unreadable_pairs_are_left_out_and_named(tmp_path):
    """The rest is fused, in its order; nothing was decoded beforehand to find out."""
    data = write_scenes(tmp_path / "data", range(4), (32, 48))
    files = sorted((data / "ir").iterdir())
    files[1].write_bytes(b"")
    files[2].write_bytes(files[2].read_bytes()[:200])
    pairs = open_pairs(data)
    sources = protocol.write_sources(pairs, tmp_path / "sources")
    assert sources.names == (files[0].stem, files[3].stem) and sources.numbers == (0, 3)
    assert len(sources.problems) == 2
    for path, problem in zip(files[1:3], sources.problems, strict=True):
        assert path.name in problem
    protocol.fuse(methods.get("visible"), pairs, sources, tmp_path / "fused", progress=False)
    fused = sorted((tmp_path / "fused" / "color").iterdir())
    assert [path.stem for path in fused] == list(sources.names)
    assert (images.read(fused[1]) == pairs[3].visible).mean() > 0.9
    with pytest.raises(ValueError, match="got none: .*" + files[1].name):
        protocol.write_sources(pairs.only(pairs.names[1:3]), tmp_path / "sources")


def test_the_report_names_what_was_left_out():
    run = {
        "problems": ["a.png: expected an image"],
        "status": {"LP": "", "Mine": "failed: no image", "YDTR": "no weights: get them"},
    }
    assert report.left_out(run) == ["a.png: expected an image", "Mine failed: no image"]
    assert report.left_out({"status": "draft"}) == []
