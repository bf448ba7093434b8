"""Every metric in every convention against the values of other evaluators, and what bad input
gets.
"""

import json
import math
import os
import pickle
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from oracles.vectors import triplets
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from fusionlib import metrics

ORACLE = json.loads(
    (Path(__file__).parent / "oracles" / "metrics_vectors.json").read_text(encoding="utf-8")
)
TRIPLETS = triplets()
TEXTBOOK = ("EN", "SF", "SD", "VIF", "AG", "SCD", "Qabf", "CC")


def expected(vector: str, convention: str) -> dict[str, float]:
    """The values of a convention, from the evaluators that define it."""
    values = {
        evaluator: {name: float(value) for name, value in found.items()}
        for evaluator, found in ORACLE["triplets"][vector]["values"].items()
    }
    moe, lft, cdd = (
        values[k]
        for k in ("moe_table_convention", "lft_2023_float_convention", "cddfuse_py_float64")
    )
    vifb, other = values["vifb_octave"], values["other_variants"]
    if convention == "moe-fusion":
        return moe
    if convention == "vifb":
        return vifb
    if convention == "cddfuse":
        shared = {name: value for name, value in cdd.items() if not name.startswith("SSIM")}
        return shared | {"SSIM": cdd["SSIM_data_range_255"]}
    errors = {
        "MSE": cdd["MSE"],
        "RMSE": math.sqrt(cdd["MSE"]),
        "PSNR": other["PSNR_peak255_mean_mse"],
    }
    if convention == "standard":
        return (
            {name: lft[name] for name in TEXTBOOK}
            | errors
            | {"MI": other["MI_bits_no_merge"], "SSIM": vifb["SSIM"] / 2}
        )
    return {"EN": lft["EN"], "MI": other["MI_bits_no_merge"], "CC": lft["CC"]}


def tolerance(name: str, convention: str) -> float:
    if name == "Qabf" and convention == "moe-fusion":
        return 1e-12
    return ORACLE["tolerances"].get(name, ORACLE["tolerances"]["default"])


@pytest.mark.parametrize("vector", TRIPLETS)
def test_the_generator_makes_the_images_of_the_values(vector):
    sums = {
        k: f"{zlib.crc32(x.tobytes()):08x}" for k, x in zip("ABF", TRIPLETS[vector], strict=True)
    }
    assert sums == ORACLE["triplets"][vector]["crc32"]


@pytest.mark.parametrize("convention", [c for c in metrics.CONVENTIONS if c != "toolbox"])
@pytest.mark.parametrize("vector", TRIPLETS)
def test_every_value_of_every_convention(vector, convention):
    a, b, fused = TRIPLETS[vector]
    wanted = expected(vector, convention)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = metrics.evaluate(fused, a, b, convention=convention)
    if convention != "multi-focus":
        assert set(got) == set(wanted)
    for name, value in wanted.items():
        limit = tolerance(name, convention)
        assert got[name] == pytest.approx(value, abs=limit, rel=0, nan_ok=True), (
            name,
            got[name] - value,
        )


VARIANTS = [
    ("other_variants", "SD_ddof1", lambda f, a, b: metrics.standard_deviation(f, ddof=1)),
    (
        "other_variants",
        "MI_nats_no_merge",
        lambda f, a, b: metrics.mutual_information(f, a, b, base=math.e),
    ),
    (
        "other_variants",
        "AG_mean_over_all_pixels",
        lambda f, a, b: metrics.average_gradient(f, divisor="pixels"),
    ),
    (
        "other_variants",
        "AG_forward_diff_div_r1c1",
        lambda f, a, b: metrics.average_gradient(f, differences="forward"),
    ),
    (
        "objev_octave",
        "AG",
        lambda f, a, b: metrics.average_gradient(f, differences="forward", divisor="pixels"),
    ),
    ("objev_octave", "SF", lambda f, a, b: metrics.spatial_frequency(f, divisor="pixels")),
    (
        "other_variants",
        "Qabf_equal_gradients_one",
        lambda f, a, b: metrics.qabf_xydeas(f, a, b, ties="one"),
    ),
    ("other_variants", "VIF_per_source_A", lambda f, a, b: metrics.vif(f, a)),
    ("other_variants", "VIF_per_source_B", lambda f, a, b: metrics.vif(f, b)),
    (
        "cddfuse_py_float64",
        "SSIM_data_range_2",
        lambda f, a, b: metrics.ssim(f, a, b, window="uniform", over="sum", data_range=2),
    ),
]


@pytest.mark.parametrize(
    ("evaluator", "name", "value"), VARIANTS, ids=[name for _, name, _ in VARIANTS]
)
@pytest.mark.parametrize("vector", TRIPLETS)
def test_single_choices_are_keywords(vector, evaluator, name, value):
    a, b, fused = TRIPLETS[vector]
    wanted = float(ORACLE["triplets"][vector]["values"][evaluator][name])
    assert value(fused, a, b) == pytest.approx(
        wanted, abs=1e-8 if name.startswith("VIF") else 1e-9, rel=0, nan_ok=True
    )


def petrovic_by_loops(fused, *sources):
    """Petrovic's Qabf pixel by pixel, straight from its definition."""

    def gradient(image, y, x):
        def at(row, column):  # reflected about the edge pixel
            height, width = image.shape
            row = -row if row < 0 else 2 * (height - 1) - row if row >= height else row
            column = (
                -column if column < 0 else 2 * (width - 1) - column if column >= width else column
            )
            return float(image[row, column])

        gv = (
            sum(k * (at(y + d, x + 1) - at(y + d, x - 1)) for d, k in ((-1, 1), (0, 2), (1, 1))) / 8
        )
        gh = (
            sum(k * (at(y + 1, x + d) - at(y - 1, x + d)) for d, k in ((-1, 1), (0, 2), (1, 1))) / 8
        )
        angle = (
            0.0 if gv == gh == 0 else math.atan(gv / gh) if gh else math.copysign(math.pi / 2, gv)
        )
        return math.hypot(gv, gh), angle

    total = weights = 0.0
    for y in range(fused.shape[0]):
        for x in range(fused.shape[1]):
            g_f, a_f = gradient(fused, y, x)
            for source in sources:
                g, angle = gradient(source, y, x)
                ratio = 0.0 if 0 in (g, g_f) else min(g, g_f) / max(g, g_f)
                turn = abs(abs(angle - a_f) - math.pi / 2) * 2 / math.pi
                strength = 0.9999 / (1 + math.exp(-19 * (ratio - 0.5)))
                orientation = 0.9995 / (1 + math.exp(-22 * (turn - 0.5)))
                weight = g**1.5 if g >= 2 else 0.001
                total += math.sqrt(strength * orientation) * weight
                weights += weight
    return total / weights


@pytest.mark.parametrize("vector", ["v0_small", "v3_flat_regions", "v4_identical", "v6_dark_copyA"])
def test_petrovic_s_qabf_is_its_definition(vector):
    a, b, fused = (image[:40, :37] for image in TRIPLETS[vector])
    wanted = petrovic_by_loops(fused, a, b)
    assert metrics.qabf_petrovic(fused, a, b) == pytest.approx(wanted, abs=1e-12)
    assert metrics.evaluate(fused, a, b, "Qabf", "multi-focus") == {
        "Qabf": pytest.approx(wanted, abs=1e-12)
    }


def test_the_two_qabf_are_not_the_same():
    a, b, fused = TRIPLETS["v0_small"]
    assert abs(metrics.qabf_petrovic(fused, a, b) - metrics.qabf_xydeas(fused, a, b)) > 0.1


@pytest.mark.parametrize("convention", ["standard", "multi-focus"])
@pytest.mark.parametrize("vector", ["v0_small", "v1_odd_max", "v2_large_sat"])
def test_against_a_reference_as_scikit_image(vector, convention):
    fused, _, reference = TRIPLETS[vector]
    got = metrics.compare(fused, reference, convention=convention)
    d = fused.astype(float) - reference
    assert got["MSE"] == pytest.approx((d**2).mean(), rel=1e-13)
    assert got["RMSE"] == pytest.approx(math.sqrt((d**2).mean()), rel=1e-13)
    assert got["PSNR"] == pytest.approx(
        peak_signal_noise_ratio(reference, fused, data_range=255), abs=1e-10
    )
    assert got["CC"] == pytest.approx(
        np.corrcoef(fused.ravel(), reference.ravel())[0, 1], abs=1e-12
    )
    gaussian = structural_similarity(
        reference,
        fused,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert got["SSIM"] == pytest.approx(gaussian, abs=1e-12)
    uniform = structural_similarity(reference, fused, data_range=255)
    assert metrics.ssim(fused, reference, window="uniform") == pytest.approx(uniform, abs=1e-12)
    assert set(got) - {"VIF"} == {"MSE", "RMSE", "PSNR", "CC", "SSIM"}


def test_the_objective_of_the_multi_focus_paper_averages_both_sources():
    a, b, fused = TRIPLETS["v0_small"]
    got = metrics.evaluate(fused, a, b, ["RMSE", "CC"], "multi-focus")
    to_a, to_b = (metrics.compare(fused, image, ["RMSE", "CC"], "multi-focus") for image in (a, b))
    for name in ("RMSE", "CC"):
        assert got[name] == pytest.approx((to_a[name] + to_b[name]) / 2, rel=1e-14)
    # means of roots, roots of means
    assert got["RMSE"] < metrics.evaluate(fused, a, b, "RMSE", "standard")["RMSE"]


def test_vif_of_a_dark_and_a_bright_image_in_8_bit_arithmetic():
    """Where no window is darker than 16 the first scale vanishes; a brighter copy therefore counts
    as itself.
    """
    _, b, _ = TRIPLETS["v6_dark_copyA"]
    bright = np.clip(b.astype(int) // 2 + 100, 0, 255).astype(np.uint8)
    assert metrics.vif(bright, bright, arithmetic="uint8") == pytest.approx(1, abs=1e-9)
    assert metrics.vif(b, bright, arithmetic="uint8") != pytest.approx(
        metrics.vif(b, bright), abs=1e-3
    )


def test_metrics_start_no_threads():
    """Scoring in several processes must not oversubscribe: whatever is computed is computed by the
    calling thread.
    """
    program = (
        "import sys, time, numpy as np; from fusionlib import metrics; rng ="
        " np.random.default_rng(0)\nf, a, b = (rng.integers(0, 256, (300, 400), dtype=np.uint8) for"
        " _ in range(3))\nwhole, mine = time.process_time(), time.thread_time()\nfor convention in"
        " metrics.CONVENTIONS: metrics.evaluate(f, a, b,"
        " convention=convention)\nprint(time.process_time() - whole, time.thread_time() - mine,"
        " *sys.modules)"
    )
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=free, capture_output=True, text=True, check=True
    )
    whole, mine, *modules = done.stdout.split()
    assert float(whole) < 1.1 * float(mine) + 0.02
    assert not {"torch", "scipy", "pandas"} & set(modules)  # a worker is ready soon


# ---- the table of conventions --------------------------------------------------------------------


def test_every_entry_is_a_sentence_and_says_how_it_is_computed():
    names = [name for entries in metrics.CONVENTIONS.values() for name in entries]
    assert set(names) == set(metrics.NAMES)
    for convention, entries in metrics.CONVENTIONS.items():
        assert [name for name in metrics.NAMES if name in entries] == sorted(
            entries, key=metrics.NAMES.index
        )
        for name, metric in entries.items():
            assert isinstance(metric, str) and str(metric).endswith(".") and len(metric) > 40, (
                convention,
                name,
            )
            assert callable(metric.function)


def test_one_name_with_two_meanings_has_two_sentences():
    for name in metrics.NAMES:
        meanings = {}
        for entries in metrics.CONVENTIONS.values():
            if name in entries:
                metric = entries[name]
                meanings.setdefault((metric.function, tuple(metric.options.items())), set()).add(
                    str(metric)
                )
        sentences = [sentence for group in meanings.values() for sentence in group]
        assert len(sentences) == len(set(sentences)), name


def test_describe_is_the_table():
    frame = metrics.describe()
    assert list(frame.index) == list(metrics.NAMES) and list(frame.columns) == list(
        metrics.CONVENTIONS
    )
    assert frame.loc["SD", "moe-fusion"] == str(metrics.CONVENTIONS["moe-fusion"]["SD"])
    assert frame.loc["VIF", "vifb"] == ""


# ---- no meaning ----------------------------------------------------------------------------------


def test_undefined_values_are_nan_with_a_reason():
    a, b, fused = TRIPLETS["v5_constant"]
    reasons = {}
    got = metrics.evaluate(fused, a, b, convention="moe-fusion", reasons=reasons)
    assert (
        set(reasons)
        == {"VIF", "SCD", "CC"}
        == {name for name, value in got.items() if math.isnan(value)}
    )
    assert "source a" in reasons["VIF"] and "constant" in reasons["CC"]
    a, b, fused = TRIPLETS["v6_dark_copyA"]
    assert "difference of the fused image and source a is constant" in metrics.why_undefined(
        "SCD", fused, a, b
    )
    assert metrics.why_undefined("CC", fused, a, b) is None


def test_a_reason_survives_the_way_from_a_worker():
    value = metrics.scd(*[np.zeros((4, 4), np.uint8)] * 3)
    again = pickle.loads(pickle.dumps(value))
    assert math.isnan(again) and again.reason == value.reason


def test_small_images_say_what_they_are_too_small_for():
    image = np.arange(40 * 40, dtype=np.uint8).reshape(40, 40)
    reasons = {}
    metrics.evaluate(image, image, image, convention="standard", reasons=reasons)
    assert "41 x 41" in reasons["VIF"] and "SSIM" not in reasons
    image = np.arange(41 * 41, dtype=np.uint8).reshape(41, 41)
    assert metrics.compare(image, image, "VIF")["VIF"] == pytest.approx(1, abs=1e-9)
    reasons = {}
    metrics.evaluate(image[:1], image[:1], image[:1], convention="standard", reasons=reasons)
    assert {"SF", "AG", "VIF", "SSIM"} <= set(reasons)


# ---- bad input -----------------------------------------------------------------------------------

GRAY = np.random.default_rng(0).integers(0, 256, (48, 52), dtype=np.uint8)
COLOUR = np.stack([GRAY, GRAY, 255 - GRAY], axis=-1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: metrics.evaluate(COLOUR, GRAY, GRAY), ["fused", "colour", "images.luma"]),
        (lambda: metrics.evaluate(GRAY, GRAY, GRAY[:-1]), ["b", "47x52", "48x52"]),
        (
            lambda: metrics.evaluate(GRAY, GRAY / 255, GRAY),
            ["a", "whole numbers 0..255", "from_unit"],
        ),
        (lambda: metrics.evaluate(GRAY, GRAY + 1.0, GRAY), ["a", "1 to 256"]),
        (lambda: metrics.evaluate(np.full((9, 9), np.nan), GRAY, GRAY), ["fused", "nan"]),
        (lambda: metrics.evaluate(GRAY.astype(np.int64) - 1, GRAY, GRAY), ["fused", "-1"]),
        (lambda: metrics.evaluate(GRAY.tolist(), GRAY, GRAY), ["fused", "list"]),
        (lambda: metrics.evaluate(GRAY[:0], GRAY, GRAY), ["fused", "(0, 52)"]),
        (
            lambda: metrics.evaluate(GRAY, GRAY, GRAY, ["qabf"]),
            ["'qabf'", "did you mean 'Qabf'?", "EN, SF, SD"],
        ),
        (lambda: metrics.evaluate(GRAY, GRAY, GRAY, ["QABFX"], "vifb"), ["'QABFX'", "vifb"]),
        (
            lambda: metrics.evaluate(GRAY, GRAY, GRAY, ["VIF"], "vifb"),
            ["'VIF'", "exists in moe-fusion, standard, cddfuse"],
        ),
        (
            lambda: metrics.evaluate(GRAY, GRAY, GRAY, ["SSIM"], "multi-focus"),
            ["'SSIM'", "against a reference only"],
        ),
        (
            lambda: metrics.evaluate(GRAY, GRAY, GRAY, convention="moe"),
            ["'moe'", "moe-fusion, standard"],
        ),
        (
            lambda: metrics.evaluate(GRAY, GRAY, GRAY, convention="MoE-fusion"),
            ["did you mean 'moe-fusion'?"],
        ),
        (
            lambda: metrics.evaluate(GRAY, GRAY, GRAY, convention=["standard"]),
            ["convention", "['standard']"],
        ),
        (
            lambda: metrics.compare(GRAY, GRAY, convention="vifb"),
            ["against a reference (standard, multi-focus)", "'vifb'"],
        ),
        (lambda: metrics.compare(GRAY, GRAY, ["MI"]), ["'MI'", "from the sources only"]),
        (lambda: metrics.compare(GRAY, COLOUR), ["reference", "colour"]),
        (
            lambda: metrics.ssim(GRAY, GRAY, window="box"),
            ["window", "'gaussian' or 'uniform'", "'box'"],
        ),
        (lambda: metrics.ssim(GRAY, GRAY, over="max"), ["'max'"]),
    ],
)
def test_bad_input_gets_one_sentence(call, words):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    sentence = str(error.value)
    assert "\n" not in sentence and len(sentence) < 320
    for word in words:
        assert word in sentence, sentence


def test_a_name_alone_and_three_equal_channels_are_understood():
    assert metrics.evaluate(GRAY, GRAY, GRAY, "EN") == metrics.evaluate(
        np.stack([GRAY] * 3, -1), GRAY, GRAY, ["EN"]
    )
    assert list(metrics.evaluate(GRAY, GRAY, 255 - GRAY, ("SD", "EN"))) == ["SD", "EN"]
