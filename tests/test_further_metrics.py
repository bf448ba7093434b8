"""The metrics beyond the first thirteen: the values of their evaluators, published numbers, and
what must hold for every image.
"""

import csv
import itertools
import json
import math
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.further import triples
from test_metrics_properties import image, images, same

from fusionlib import images as files
from fusionlib import metrics, ranking, scoring

ORACLE = json.loads(
    (Path(__file__).parent / "oracles" / "further_metrics.json").read_text(encoding="utf-8")
)
TRIPLES = triples()
MANY = settings(max_examples=15, deadline=None)
VARYING = st.sampled_from(["noise", "smooth", "dark", "saturated"])

VALUES = [  # convention, metric, evaluator, its name for it
    *(("standard", n, "own_numpy", n) for n in ("EI", "CE", "Qcb", "Qcv", "Qy", "Qncie", "VIFF")),
    ("standard", "VIFF", "han_octave", "VIFF"),
    ("standard", "Nabf", "kumar_octave", "Nabf_Kumar"),
    ("standard", "MS-SSIM", "own_numpy", "MS_SSIM_mean"),
    ("standard", "MEF-SSIM", "own_numpy", "MEF_SSIM_three_scales"),
    ("standard", "FMI-pixel", "own_numpy", "FMI_none"),
    *(
        ("standard", f"FMI-{feature}", evaluator, f"FMI_{feature}")
        for feature in ("edge", "dct", "wavelet")
        for evaluator in ("own_numpy", "haghighat_lft_octave")
    ),
    *(("toolbox", n, "liu_octave", n) for n in ("Qcb", "Qcv", "Qy", "Qncie")),
    *(("vifb", n, "vifb_octave", n) for n in ("EI", "CE", "Qcb", "Qcv")),
    ("moe-fusion", "Nabf", "lft_octave", "Nabf_as_called_swapped"),
    ("moe-fusion", "MEF-SSIM", "lft_octave", "MS_SSIM_is_MEF_SSIM_three_scales"),
    ("moe-fusion", "FMI-edge", "haghighat_lft_octave", "FMI_edge"),
    ("cddfuse", "VIFF", "cddfuse_python_float32", "VIFF_is_sum_of_two_vifp"),
]
# The oracle's own values hang on the last bit: features of flat areas through truncated filters.
ROUNDING = {("FMI-wavelet", "n3_flat_parts")}
TOLERANCES = {
    "FMI-wavelet": 3e-11,  # taps from the spectrum, not from a table of 14 decimals
    "cddfuse": 1e-6,  # single precision
}


def score(vector: str, name: str, convention: str) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return metrics.evaluate(*TRIPLES[vector], name, convention)[name]


@pytest.mark.parametrize("vector", TRIPLES)
def test_the_generator_makes_the_images_of_the_values(vector):
    sums = {
        key: f"{zlib.crc32(x.tobytes()):08x}" for key, x in zip("fab", TRIPLES[vector], strict=True)
    }
    assert sums == ORACLE["images"][vector]["crc32"]


@pytest.mark.parametrize(
    ("convention", "name", "evaluator", "called"),
    VALUES,
    ids=[f"{c}-{n}-{e}" for c, n, e, _ in VALUES],
)
def test_the_values_of_the_evaluators(convention, name, evaluator, called):
    tolerance = TOLERANCES.get(convention, TOLERANCES.get(name, 1e-12))
    for vector, wanted in ORACLE["values"][evaluator][called].items():
        if (name, vector) in ROUNDING:
            continue
        got = score(vector, name, convention)
        if isinstance(wanted, str):  # NaN, or the error that the evaluator stopped with
            assert isinstance(got, metrics.Undefined), (vector, got)
        else:
            assert got == pytest.approx(wanted, rel=tolerance, abs=tolerance), vector


def test_single_choices_are_keywords():
    for vector, (fused, a, b) in TRIPLES.items():
        petrovic = metrics.artefacts(fused, a, b, form="petrovic")
        one_scale = metrics.exposure_fusion_ssim(fused, a, b, scales=1)
        values = ORACLE["values"]
        assert petrovic == pytest.approx(values["kumar_octave"]["Nabf_Petrovic"][vector], abs=1e-13)
        assert one_scale == pytest.approx(
            values["lft_octave"]["MEF_SSIM_one_scale"][vector], rel=1e-12
        )


def test_ms_ssim_and_mef_ssim_are_told_apart():
    """What an evaluator prints as MS_SSIM is not MS-SSIM, and a sum over sources is twice the
    mean.
    """
    got = metrics.evaluate(*TRIPLES["n9_large"], ["MS-SSIM", "MEF-SSIM"], "standard")
    assert got["MS-SSIM"] == pytest.approx(0.42172604625981197, rel=1e-12)
    assert got["MEF-SSIM"] == pytest.approx(0.36555550142429943, rel=1e-12)
    with pytest.raises(ValueError, match="MS-SSIM exists in standard"):
        metrics.evaluate(*TRIPLES["n9_large"], ["MS-SSIM"], "moe-fusion")


# ---- VIFB ----------------------------------------------------------------------------------------


@pytest.fixture
def vifb(oracles) -> Path:
    folder = oracles / "vifb_sample"
    if not folder.is_dir():
        pytest.skip("the sample of published VIFB values is not here")
    return folder


def test_the_published_numbers_of_vifb(vifb):
    """All 13 metrics of 12 fused images in colour, to the five digits that are printed."""
    from PIL import Image

    count = 0
    for row in csv.DictReader((vifb / "published.csv").open()):
        fused, a, b = (
            np.array(Image.open(vifb / row[k])) for k in ("fused", "infrared", "visible")
        )
        for name, value in metrics.evaluate(fused, a, b, "all", "vifb").items():
            assert float(f"{value:.5g}") == float(row[name]), (row["pair"], row["method"], name)
            count += 1
    assert count == 156


def test_a_folder_in_colour_gets_the_published_numbers(vifb, tmp_path):
    for pair, (kind, folder) in itertools.product(
        ("walking", "fight"), (("GFCE", "fused"), ("IR", "a"), ("VI", "b"))
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        source = vifb / f"{pair}_{kind}.jpg"
        (tmp_path / folder / f"{pair}.jpg").write_bytes(source.read_bytes())
    frame, problems = scoring.score_folder(
        *(tmp_path / folder for folder in ("fused", "a", "b")), "all", "vifb", progress=False
    )
    printed = {
        (row["pair"], name): float(value)
        for row in csv.DictReader((vifb / "published.csv").open())
        if row["method"] == "GFCE"
        for name, value in list(row.items())[5:]
    }
    assert not problems and len(frame) == 26
    for row in frame.itertuples():
        assert float(f"{row.value:.5g}") == printed[row.image, row.metric]


def colourful(seed: int, shape=(48, 52)) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.stack([image(rng, shape, "smooth") for _ in range(3)], axis=-1) for _ in range(3)]


def test_colour_is_scored_channel_by_channel():
    fused, a, b = colourful(0)
    got = metrics.evaluate(fused, a, b, "all", "vifb")
    each = [metrics.evaluate(*(x[..., k] for x in (fused, a, b)), "all", "vifb") for k in range(3)]
    for name in set(got) - {"SF"}:
        assert got[name] == pytest.approx(np.mean([values[name] for values in each])), name
    beside = np.hstack([fused[..., k] for k in range(3)])
    assert got["SF"] == metrics.spatial_frequency(beside, divisor="pixels")
    mixed = metrics.evaluate(fused, a[..., 1], b, "Qabf", "vifb")["Qabf"]
    assert mixed == pytest.approx(
        np.mean([metrics.qabf_xydeas(fused[..., k], a[..., 1], b[..., k]) for k in range(3)])
    )


def test_gray_as_three_equal_channels_is_gray_but_for_the_seams_of_sf():
    gray = [x[..., 0] for x in colourful(1)]
    tripled = [np.stack([x] * 3, axis=-1) for x in gray]
    plain = metrics.evaluate(*gray, "all", "vifb")
    for mixture in (tripled, [gray[0], *tripled[1:]], [tripled[0], *gray[1:]]):
        got = metrics.evaluate(*mixture, "all", "vifb")
        for name in set(plain) - {"SF"}:
            assert got[name] == pytest.approx(plain[name], rel=1e-14), name
        assert (got["SF"] == plain["SF"]) is (mixture[0].ndim == 2)


def test_a_channel_without_meaning_is_told(tmp_path):
    fused, a, b = colourful(2)
    a[..., 2] = 7
    reasons = {}
    got = metrics.evaluate(fused, a, b, ["Qcb", "EN"], "vifb", reasons)
    assert math.isnan(got["Qcb"]) and "source a is constant" in reasons["Qcb"] and got["EN"] > 0


@pytest.mark.parametrize("convention", [c for c in metrics.CONVENTIONS if c != "vifb"])
def test_the_other_conventions_ask_for_y(convention):
    fused, a, b = colourful(3)
    with pytest.raises(ValueError, match="images.luma"):
        metrics.evaluate(fused, a, b, convention=convention)


# ---- which metrics, which way --------------------------------------------------------------------


def test_the_first_thirteen_are_the_default_and_the_others_come_by_name():
    gray = TRIPLES["n0_mean"]
    for convention, entries in metrics.CONVENTIONS.items():
        first = metrics.evaluate(*gray, convention=convention)
        everything = metrics.evaluate(*gray, "all", convention)
        served = [name for name, metric in entries.items() if metric.serves("sources")]
        assert list(everything) == served
        if convention == "toolbox":
            assert first == everything and set(first) == {"Qcb", "Qcv", "Qy", "Qncie"}
        else:
            assert list(first) == [name for name in served if name not in metrics.FURTHER]
    assert len(metrics.evaluate(*gray, "all", "vifb")) == 13
    assert set(metrics.FURTHER) <= set(metrics.evaluate(*gray, "all", "standard"))


def test_smaller_is_better_is_said_and_known():
    smaller = {"CE", "Qcv", "Nabf"}
    for entries in metrics.CONVENTIONS.values():
        for name in set(entries) & set(metrics.FURTHER):
            assert entries[name].larger_is_better is (name not in smaller)
            assert ("smaller is better" in entries[name]) is (name in smaller)
            assert ranking.larger_is_better(name) is (name not in smaller)


def test_a_folder_gets_all_metrics(tmp_path):
    for name, x in zip(("fused", "a", "b"), TRIPLES["n0_mean"], strict=True):
        files.write(tmp_path / name / "one.png", x)
    folders = [tmp_path / name for name in ("fused", "a", "b")]
    frame, _ = scoring.score_folder(*folders, "all", ["vifb", "toolbox"], progress=False)
    assert list(frame["metric"][:13]) == list(metrics.CONVENTIONS["vifb"])
    wanted = metrics.evaluate(*TRIPLES["n0_mean"], "all", "toolbox")
    rows = frame[frame["convention"] == "toolbox"]
    assert dict(zip(rows["metric"], rows["value"], strict=True)) == wanted
    some, _ = scoring.score_folder(*folders, ["Nabf", "EN"], "standard", progress=False)
    assert list(some["metric"]) == ["EN", "Nabf"]
    with pytest.raises(ValueError, match="Qy exists in standard, toolbox"):
        scoring.score_folder(*folders, ["Qy"], "vifb", progress=False)


# ---- undefined -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vector", "convention", "name", "words"),
    [
        ("n5_constant", "standard", "Qcb", "the fused image is constant"),
        ("n8_black_fused", "standard", "Qcv", "the fused image is constant"),
        ("n5_constant", "toolbox", "Qncie", "the fused image is constant"),
        ("n7_dark_copy_a", "standard", "CE", "source b shares no gray level"),
        ("n3_flat_parts", "toolbox", "Qy", "do not vary"),
        ("n0_mean", "standard", "MS-SSIM", "161 x 161 pixels, the images have 64 x 80"),
    ],
)
def test_what_has_no_meaning_says_why(vector, convention, name, words):
    assert words in metrics.why_undefined(name, *TRIPLES[vector], convention)


@pytest.mark.parametrize(
    ("name", "side"),
    [("Qy", 7), ("VIFF", 41), ("MEF-SSIM", 44), ("MS-SSIM", 161), ("FMI-pixel", 3)],
)
def test_the_smallest_image_that_has_a_value(name, side):
    rng = np.random.default_rng(0)
    triple = [image(rng, (side, side), "smooth") for _ in range(3)]
    assert math.isfinite(metrics.evaluate(triple[1], *triple[1:], name, "standard")[name])
    smaller = [x[1:] for x in triple]
    assert f"{side} x {side}" in metrics.why_undefined(name, *smaller, "standard")


# ---- properties ----------------------------------------------------------------------------------


DISTINCT = {  # every further metric, once where several conventions share it
    (metric.function, *metric.options.items()): (convention, name)
    for convention, entries in metrics.CONVENTIONS.items()
    for name, metric in entries.items()
    if name in metrics.FURTHER
}


def everything(fused, a, b):
    return {
        (convention, name): metrics.CONVENTIONS[convention][name](fused, a, b)
        for convention, name in DISTINCT.values()
    }


@MANY
@given(images(sides=(1, 60)))
def test_any_size_and_content_gives_a_number_or_a_reason(triple):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = everything(*triple)
    for key, value in got.items():
        assert math.isfinite(value) or (isinstance(value, metrics.Undefined) and value.reason), key


@MANY
@given(images(sides=(3, 60), kinds=VARYING))
def test_pure_functions_take_floats_too(triple):
    whole, floats = everything(*triple), everything(*(x.astype(float) for x in triple))
    for key, value in whole.items():
        assert same(value, floats[key]), key


@MANY
@given(images(sides=(3, 60)))
def test_the_order_of_the_sources_does_not_matter(triple):
    fused, a, b = triple
    one, other = everything(fused, a, b), everything(fused, b, a)
    for key in set(one) - {("moe-fusion", "Nabf"), ("standard", "VIFF")}:
        assert same(one[key], other[key]), key


@MANY
@given(images(sides=(3, 60)))
def test_transposing_all_images_changes_nothing_but_the_column_order_of_fmi(triple):
    one, other = everything(*triple), everything(*(x.T.copy() for x in triple))
    for key, value in one.items():
        # Nabf to some digits: the angle of a pixel without gradient belongs to the axes
        if not key[1].startswith("FMI"):
            assert same(value, other[key], 1e-2 if key[1] == "Nabf" else 1e-8), key


@MANY
@given(images(sides=(3, 60)), st.sampled_from([np.flipud, np.fliplr]))
def test_mirroring_all_images_changes_no_metric_of_single_pixels(triple, turn):
    """Blocks, samples at every second pixel and column order begin at a corner."""
    one, other = everything(*triple), everything(*(turn(x).copy() for x in triple))
    for key, value in one.items():
        if key[1] in ("EI", "CE", "Qy", "Qncie", "Nabf"):
            assert same(value, other[key], 1e-8), key


@MANY
@given(images(sides=(3, 60)))
def test_bounds(triple):
    lower = {"CE": -16, "Qy": -1, "Qncie": 1 - math.log(3, 256), "MEF-SSIM": -1, "FMI-pixel": -1}
    upper = {"EI": 1140.4, "CE": 16, "Qncie": 1, "Nabf": 1, "Qcb": 1, "Qy": 1, "MEF-SSIM": 1}
    for (convention, name), value in everything(*triple).items():
        if not math.isnan(value):
            low = lower.get("FMI-pixel" if name.startswith("FMI") else name, 0)
            high = upper.get(name, math.inf) if not name.startswith("FMI") else 1
            assert low - 1e-9 <= value <= high + 1e-9, (convention, name)


@MANY
@given(images(count=1, sides=(45, 60), kinds=VARYING))
def test_three_times_the_same_image(single):
    (x,) = single
    for (convention, name), value in everything(x, x, x).items():
        if name in ("CE", "Qcv", "Nabf"):
            assert value == 0, (convention, name)
        elif name not in ("EI", "Qncie") and not math.isnan(value):
            two = (convention, name) == ("cddfuse", "VIFF")
            assert value == pytest.approx(2 if two else 1, abs=2e-3), (convention, name)


@MANY
@given(images(count=2, sides=(4, 60)))
def test_an_average_and_a_copy_have_no_artefacts(couple):
    a, b = couple
    assert metrics.artefacts(a, a, b) == 0
    halves = np.rint((a.astype(float) + b) / 2 - 0.25)
    if (halves * 2 == a.astype(float) + b).all():  # not rounded, which makes edges of its own
        assert metrics.artefacts(halves, a, b) == 0


def test_artefacts_grow_with_what_is_added():
    _, a, b = TRIPLES["n0_mean"]
    fused = ((a.astype(int) + b) // 2).astype(np.uint8)
    noise = np.random.default_rng(0).uniform(-1, 1, a.shape)
    values = [
        metrics.artefacts(files.to_uint8(np.clip(fused + strength * noise, 0, 255)), a, b)
        for strength in (0, 10, 20, 40, 80)
    ]
    assert values == sorted(values) and values[0] == 0 < values[-1]


@MANY
@given(images(sides=(16, 60), kinds=VARYING), st.integers(1, 3), st.integers(0, 20))
def test_contrast_and_brightness_of_the_fused_image_do_not_count(triple, gain, offset):
    """Qcb, Qcv and Qncie stretch each image, FMI each window of it."""
    fused, a, b = triple
    changed = (fused // 4 * gain + offset).astype(np.uint8)
    for name in ("Qcb", "Qcv", "Qncie", "FMI-pixel"):
        plain, other = (
            metrics.evaluate(x, a, b, name, "standard")[name] for x in (fused // 4, changed)
        )
        if name != "FMI-pixel" or ((changed != a).all() and (fused // 4 != a).all()):
            assert same(plain, other), name


@MANY
@given(images(count=2, sides=(1, 40)))
def test_identical_histograms_have_no_cross_entropy(couple):
    fused, _ = couple
    shuffled = np.random.default_rng(0).permutation(fused.ravel()).reshape(fused.shape)
    assert metrics.cross_entropy(shuffled, fused, fused) == 0


def test_by_hand():
    step = np.zeros((4, 6), np.uint8)
    step[:, 3:] = 10
    # both columns at the step have gx = 4 * 10
    assert metrics.edge_intensity(step) == pytest.approx(40 * 2 / 6)
    # 3/4 black against 1/2 black: 3/4 log2(3/2) + 1/4 log2(1/2)
    dark = np.array([[0, 0, 0, 255]], np.uint8)
    even = np.array([[0, 0, 255, 255]], np.uint8)
    expected = 0.75 * math.log2(1.5) + 0.25 * math.log2(0.5)
    assert metrics.cross_entropy(even, dark) == pytest.approx(expected)
    # every level once: a correlation of 1 with itself, one eigenvalue of 3
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert metrics.nonlinear_correlation(every, every, every) == pytest.approx(1, abs=1e-12)
    # rows against columns: independent, three eigenvalues of 1
    rows, columns = np.indices((16, 16)).astype(np.uint8)
    third = ((rows + columns) % 16).astype(np.uint8)
    assert metrics.nonlinear_correlation(third, rows, columns) == pytest.approx(
        1 - math.log(3, 256)
    )


def fmi_of_a_window(f: np.ndarray, s: np.ndarray) -> float:
    """FMI of two windows, cell by cell from its definition."""
    p, q = ((x - x.min()) / np.ptp(x) for x in (f.T.ravel(), s.T.ravel()))
    p, q = p / p.sum(), q / q.sum()
    correlation = np.corrcoef(p, q)[0, 1]
    edge_p, edge_q = np.r_[0, np.cumsum(p)], np.r_[0, np.cumsum(q)]
    total = np.add.outer(edge_p, edge_q) - 1
    cumulative = np.minimum.outer(edge_p, edge_q) if correlation >= 0 else np.maximum(total, 0)
    bound = np.diff(np.diff(cumulative, axis=0), axis=1)
    positions = np.arange(1, 10)
    means, spreads = zip(
        *((x @ positions, math.sqrt(x @ positions**2 - (x @ positions) ** 2)) for x in (p, q)),
        strict=True,
    )
    reached = (positions @ bound @ positions - means[0] * means[1]) / (spreads[0] * spreads[1])
    joint = correlation / reached * bound + (1 - correlation / reached) * np.outer(p, q)
    entropies = [-sum(x * math.log2(abs(x)) for x in d.ravel() if x) for d in (p, q, joint)]
    return 2 * (entropies[0] + entropies[1] - entropies[2]) / (entropies[0] + entropies[1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_fmi_is_its_definition(seed):
    f, a, b = np.random.default_rng(seed).integers(0, 256, (3, 3, 3)).astype(np.uint8)
    wanted = (fmi_of_a_window(f.astype(float), a) + fmi_of_a_window(f.astype(float), b)) / 2
    assert metrics.feature_information(f, a, b) == pytest.approx(wanted, abs=1e-9)


def test_large_images_are_cut_into_strips_without_a_trace():
    rng = np.random.default_rng(5)
    triple = [image(rng, (700, 300), "noise") for _ in range(3)]
    one, other = everything(*triple), everything(*(x.T.copy() for x in triple))
    for key, value in one.items():
        if not key[1].startswith("FMI"):
            assert same(value, other[key]), key
    parts = [
        metrics.feature_information(*(x[start : start + 352] for x in triple)) for start in (0, 350)
    ]
    # windows at the seam belong to one part, 350 rows of them to the first and 348 to the second
    both = (350 * parts[0] + 348 * metrics.feature_information(*(x[350:] for x in triple))) / 698
    assert metrics.feature_information(*triple) == pytest.approx(both, rel=1e-12)
