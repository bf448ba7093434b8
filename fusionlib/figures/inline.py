"""Figures in a notebook: the picture in the size of a committed output, over its caption."""

from __future__ import annotations

import html
import io
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from PIL import Image

DPI = 200  # of the files; shown at half, which is sharp on a fine screen
# Bytes of an output: notebooks are committed executed, and a notebook has at most four grids.
OF_A_PLOT, OF_PHOTOGRAPHS = 120_000, 250_000
# Scale and JPEG quality, the first that fits: blocks disturb more than fewer pixels do.
TRIED = ((1, 90), (1, 80), (1, 70), (0.75, 75), (0.75, 60), (0.5, 70), (0.5, 50), (0.25, 50))


def here() -> bool:
    """Tell whether figures are drawn into a notebook."""
    return "inline" in matplotlib.get_backend()


def show(figure: plt.Figure, file: Path | io.BytesIO, caption: str) -> None:
    """Display a figure at half the resolution of its PNG ``file``, its caption under it; and close
    it, or the notebook would show it a second time.
    """
    from IPython.display import HTML, display
    from IPython.display import Image as Shown

    data, width = picture(figure, file)
    display(Shown(data, width=width, alt=caption))
    display(HTML(f"<p style='max-width: 60em'>{html.escape(caption)}</p>"))
    plt.close(figure)


def picture(figure: plt.Figure, file: Path | io.BytesIO) -> tuple[bytes, int]:
    """Return what stands for a figure's PNG ``file`` in a notebook, and how wide it is there."""
    with Image.open(file) as opened:
        pixels = opened.convert("RGB")
    photographs = any(axis.images for axis in figure.axes)
    limit = OF_PHOTOGRAPHS if photographs else OF_A_PLOT
    return encoded(pixels, photographs, limit), pixels.width // 2


def encoded(pixels: Image.Image, photographs: bool, limit: int) -> bytes:
    """Return a drawing as PNG of 256 colours, and photographs, or a drawing too large for that, as
    the best JPEG of at most ``limit`` bytes.
    """
    file = io.BytesIO()
    if not photographs:
        pixels.quantize(256).save(file, "PNG", optimize=True)
    if photographs or file.tell() > limit:
        # SVG would be sharper, but JupyterLab shows none in a notebook that it does not trust, such
        # as a fresh clone's.
        for scale, quality in TRIED:
            file = io.BytesIO()
            size = round(scale * pixels.width), round(scale * pixels.height)
            pixels.resize(size).save(file, "JPEG", quality=quality, optimize=True)
            if file.tell() <= limit:
                break
    return file.getvalue()
