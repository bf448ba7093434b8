"""Methods in strips of rows: the same to the last bit, and what does not fit says so."""

import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fusionlib import images, methods
from fusionlib.__main__ import app
from fusionlib.methods import method as module
from fusionlib.methods.strips import Reach, rows_at_once, strips
from fusionlib.optimizers import sweep


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def few_rows(monkeypatch):
    """Let every strip be one step high, whatever memory there is."""
    monkeypatch.setattr(module, "rows_at_once", lambda size, coloured, reach, memory: reach.step)


@given(
    height=st.integers(1, 200),
    steps=st.integers(1, 6),
    reach=st.builds(Reach, st.integers(0, 60), st.sampled_from([1, 2, 16])),
)
def test_strips_hold_every_row_once_and_all_that_is_seen_from_it(height, steps, reach):
    seen = np.zeros(height, int)
    rows = np.arange(height)
    for strip in strips(height, steps * reach.step, reach):
        around = rows[strip.around]
        assert around[0] % reach.step == 0
        assert (around[strip.inner] == rows[strip.target]).all()
        first, last = rows[strip.target][[0, -1]]
        assert around[0] <= max(first - reach.rows, 0)
        assert around[-1] >= min(last + reach.rows, height - 1)
        seen[strip.target] += 1
    assert (seen == 1).all()


@settings(deadline=None, max_examples=12)
@given(
    levels=st.integers(1, 4),
    rule=st.integers(1, 4),
    area=st.sampled_from([1, 3, 5, 7]),
    base=st.sampled_from(["weighted", "gradient"]),
    border=st.sampled_from(["toolbox", "reflect"]),
    height=st.integers(150, 420),
)
def test_pyramids_in_strips_are_the_whole(levels, rule, area, base, border, height):
    settings_ = {"levels": levels, "rule": rule, "area": area, "base": base, "border": border}
    lp = methods.get("LP")
    a, b = noise(1, height, 131), noise(2, height, 131)
    whole = lp.fuse(a, b, **settings_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "rows_at_once", lambda size, coloured, reach, memory: reach.step)
        parts, info = replace(lp, memory=1.0).fuse_with_info(a, b, **settings_)
    assert info["strips"] == -(-height // 2**levels)
    assert np.array_equal(parts, whole)


def test_a_change_is_seen_no_further_than_the_reach_but_further_than_two_base_samples():
    lp, row = methods.get("LP"), 400
    a, b = noise(3, 801, 80), noise(4, 801, 80)
    reach = lp.reach(lp.parameters)
    changed = a.copy()
    changed[row] = 255 - changed[row]
    first, second = (lp.function(x.astype(float), b.astype(float)).fused for x in (a, changed))
    rows = np.flatnonzero((first != second).any(axis=1))
    assert 2 * reach.step < np.abs(rows - row).max() <= reach.rows


@pytest.mark.parametrize("name", ["infrared", "visible", "average", "maximum", "LP"])
@pytest.mark.parametrize("shapes", ["gray", "one", "both"])
def test_colours_in_strips_are_the_whole(name, shapes, few_rows):
    colour = (3,)
    a = noise(5, 230, 70, *(colour if shapes == "both" else ()))
    b = noise(6, 230, 70, *(colour if shapes != "gray" else ()))
    b[:100] = b[:100, :, :1] if b.ndim == 3 else b[:100]  # strips without colour
    method = methods.get(name)
    whole, parts = method.fuse_both(a, b), replace(method, memory=1.0).fuse_both(a, b)
    assert parts[2].pop("strips") > 1
    assert all(np.array_equal(x, y) for x, y in zip(whole[:2], parts[:2], strict=True))
    assert whole[2] == parts[2]


def test_rows_grow_with_memory_and_the_least_is_said():
    reach, size = Reach(112, 16), (4000, 6000)
    rows = [rows_at_once(size, False, reach, memory) for memory in (0.9, 1.0, 2.0, 4.0)]
    assert rows == sorted(rows) and rows[0] < rows[-1] == 4000
    assert not any(count % 16 for count in rows)
    with pytest.raises(ValueError, match=r"at least 0\.\d GB for images of 6000x4000, got 0\.5"):
        rows_at_once(size, False, reach, 0.5)


def test_the_command_takes_strips_or_says_what_is_needed(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        images.write(tmp_path / f"{name}.png", noise(seed, 1500, 800))
    files = [str(tmp_path / name) for name in ("a.png", "b.png", "out.png")]
    run = CliRunner().invoke(app, ["fuse", "--method", "LP", "--memory", "0.3", *files])
    assert run.exit_code == 0, run.output
    assert "strips, to stay within 0.3 GB" in run.output
    whole = methods.get("LP").fuse(noise(1, 1500, 800), noise(2, 1500, 800))
    assert np.array_equal(images.read(files[2]), whole)
    run = CliRunner().invoke(app, ["fuse", "--method", "CvT", "--memory", "0.3", *files])
    assert run.exit_code == 0, run.output
    assert "wedge by wedge, to stay within 0.3 GB" in run.output
    whole = methods.get("CvT").fuse(noise(1, 1500, 800), noise(2, 1500, 800))
    assert np.array_equal(images.read(files[2]), whole)
    for name in ("CvT", "LP+exact"):
        run = CliRunner().invoke(app, ["fuse", "--method", name, "--memory", "0.1", *files])
        assert run.exit_code and "--memory 0.2" in str(run.exception or run.output)


@settings(deadline=None, max_examples=10)
@given(
    shape=st.tuples(st.integers(40, 90), st.integers(40, 90)),
    angles=st.sampled_from([8, 16]),
    finest=st.sampled_from(["curvelets", "wavelets"]),
    rule=st.integers(1, 4),
    base=st.sampled_from(["weighted", "gradient"]),
)
def test_curvelets_wedge_by_wedge_are_the_whole(shape, angles, finest, rule, base):
    settings_ = {"angles": angles, "finest": finest, "rule": rule, "base": base, "weight": 0.3}
    luma, channels = noise(7, 2, *shape).astype(float), noise(8, 2, *shape).astype(float)
    cvt = methods.get("CvT")
    whole = cvt.function(*luma, **settings_)
    lean = cvt.lean.function(*luma, scales=None, area=3, **settings_)
    np.testing.assert_allclose(lean.fused, whole.fused, rtol=0, atol=1e-10)
    np.testing.assert_allclose(lean.apply(*channels), whole.apply(*channels), rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match=r"large enough for 6 scales"):
        cvt.lean.function(*luma, scales=6, area=3, **settings_)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("name", ["CvT", "LP+exact"])
def test_no_method_takes_more_than_it_says_it_needs(name, both, monkeypatch):
    shape = (600, 701)
    pair = [noise(seed, *shape, *((3,) if both else ())) for seed in (1, 2)]
    method = methods.get(name)
    needs = method.needs[both] if method.lean is None else method.lean.needs[both]
    for name in ("ENOUGH", "MOST_CELLS"):  # as little beside the image as at 24 megapixels
        monkeypatch.setattr(sys.modules[sweep.__module__], name, 1024)
    tracemalloc.start()
    replace(method, memory=1.001 * needs * shape[0] * shape[1] / 1e9).fuse_both(*pair)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.5 * needs < peak / (shape[0] * shape[1]) < needs
