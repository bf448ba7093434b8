"""Figures in a notebook: sharp, small, captioned, shown once; explorers that stand still where
nobody looks on.
"""

import io

import IPython.display
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from fusionlib import figures
from fusionlib.figures import explorer, inline

pytestmark = pytest.mark.usefixtures("figures_closed")


@pytest.mark.parametrize("photographs", [True, False])
def test_whatever_is_drawn_keeps_to_the_bytes_of_an_output(photographs):
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3)).astype(np.uint8)
    limit = 100_000 if photographs else 50_000
    data = inline.encoded(Image.fromarray(noise), photographs, limit)
    assert len(data) <= limit
    width, height = Image.open(io.BytesIO(data)).size
    assert width * 600 == height * 800, "the whole picture"


def test_a_drawing_stays_free_of_fringes():
    page = np.full((400, 900), 255, np.uint8)
    page[100:102] = 0
    data = inline.encoded(Image.fromarray(page).convert("RGB"), False, 120_000)
    assert Image.open(io.BytesIO(data)).format == "PNG"
    assert (np.asarray(Image.open(io.BytesIO(data)).convert("L")) == page).all()


def test_a_notebook_shows_a_saved_figure_once_over_its_caption(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(inline, "here", lambda: True)
    monkeypatch.setattr(IPython.display, "display", shown.append)
    pictures = {f"a title of many words, number {i}": np.zeros((48, 64), np.uint8) for i in "12345"}
    figures.save(figures.sheet(pictures), tmp_path, "name", "w < 0.5 & a caption")
    picture, caption = shown
    with Image.open(io.BytesIO(picture.data)) as file:
        assert file.width >= 900 and abs(picture.width - file.width / 2) <= 1
    assert caption.data.count("w &lt; 0.5 &amp; a caption") == 1
    assert not plt.get_fignums(), "the notebook would show what is left open again"


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5])
def test_no_sheet_is_wider_than_the_column(columns):
    pictures = dict.fromkeys(map(str, range(columns)), np.zeros((48, 64), np.uint8))
    width, _ = figures.sheet(pictures, columns).get_size_inches()
    assert width <= figures.WIDTH + 1e-9


def plot(power=2, colour="red"):
    figure, axis = plt.subplots()
    axis.plot([x**power for x in range(5)], color=colour)
    return figure


def explored(monkeypatch, **environment):
    """Return what an explorer of ``plot`` displays in a kernel with this environment."""
    shown = []
    monkeypatch.setattr(inline, "here", lambda: True)
    monkeypatch.setattr(IPython.display, "display", shown.append)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    explorer.explore(plot, "powers", power=[1, 2, 3], colour=["blue", "red"])
    assert not plt.get_fignums()
    return shown


def test_an_explorer_is_a_picture_where_nobody_looks_on(monkeypatch):
    picture, caption = explored(monkeypatch)
    assert isinstance(picture, IPython.display.Image)
    assert "powers" in caption.data and "power, colour" in caption.data


def test_an_explorer_is_a_picture_without_ipywidgets(monkeypatch):
    find = explorer.importlib.util.find_spec
    lacking = lambda name: None if name == "ipywidgets" else find(name)  # noqa: E731
    monkeypatch.setattr(explorer.importlib.util, "find_spec", lacking)
    picture, _ = explored(monkeypatch, JPY_SESSION_NAME="a.ipynb")
    assert isinstance(picture, IPython.display.Image)


def test_the_figure_follows_the_controls(monkeypatch):
    [box] = explored(monkeypatch, JPY_SESSION_NAME="a.ipynb")
    power, colour, picture, _ = box.children
    assert isinstance(power, ipywidgets.SelectionSlider) and power.value == 2
    assert isinstance(colour, ipywidgets.Dropdown) and colour.value == "red"
    before = picture.value
    power.value = 3
    cubes = picture.value
    colour.value = "blue"
    assert len({before, cubes, picture.value}) == 3
    power.value, colour.value = 2, "red"
    assert picture.value == before and not plt.get_fignums()
