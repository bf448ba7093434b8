"""Explorers: a figure that follows controls in a live notebook, a picture anywhere else."""

from __future__ import annotations

import importlib.util
import inspect
import io
import os
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt

from fusionlib import decoding
from fusionlib.figures import inline


def explore(draw: Callable[..., plt.Figure], caption: str, **controls: Sequence) -> None:
    """Show ``draw()``; where a notebook is live, under a control for each of its arguments.

    Parameters
    ----------
    draw : callable
        Returns a figure; has a default for each control, one of its choices.
    caption : str
    **controls
        The choices of an argument: numbers get a slider, words a list.
    """
    figure = draw()
    if inline.here() and live():
        _show_controls(draw, figure, caption, controls)
    elif inline.here():
        names = ", ".join(controls)
        inline.show(figure, _file(figure), f"{caption} Run in JupyterLab, this follows: {names}.")


def live() -> bool:
    """Tell whether somebody looks on: a Jupyter server, which papermill and nbval do without, has
    started the kernel, and there are widgets.
    """
    return "JPY_SESSION_NAME" in os.environ and bool(importlib.util.find_spec("ipywidgets"))


def _file(figure: plt.Figure) -> io.BytesIO:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file


def _show_controls(draw: Callable, figure: plt.Figure, caption: str, controls: dict) -> None:
    """Display the controls of ``draw`` over its figure, drawn anew at each change."""
    import ipywidgets
    from IPython.display import display

    shown, widgets = ipywidgets.Image(), {}
    for name, choices in controls.items():
        numbers = not isinstance(choices[0], str)
        kind = ipywidgets.SelectionSlider if numbers else ipywidgets.Dropdown
        default = inspect.signature(draw).parameters[name].default
        options = {"options": list(choices), "value": default, "description": name}
        widgets[name] = kind(**options, **({"continuous_update": False} if numbers else {}))

    def put(figure: plt.Figure) -> None:
        data, shown.width = inline.picture(figure, _file(figure))
        shown.format = decoding.format_of(data).lower()
        shown.value = data
        plt.close(figure)

    def redraw(_: object) -> None:
        put(draw(**{name: widget.value for name, widget in widgets.items()}))

    for widget in widgets.values():
        widget.observe(redraw, "value")
    put(figure)
    display(ipywidgets.VBox([*widgets.values(), shown, ipywidgets.Label(caption)]))
