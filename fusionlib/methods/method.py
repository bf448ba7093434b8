"""A fusion method as all others use it: from two images to the fused one, gray or colour."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fusionlib import images
from fusionlib.methods.strips import Reach, rows_at_once, strips

Plane = np.ndarray  # (H, W) gray levels 0..255


class Decision(NamedTuple):
    """The fused luma, with what colour images need beside it.

    Attributes
    ----------
    fused : (H, W) array
        Gray levels 0..255, not rounded.
    apply : callable, optional
        Fuses another pair of planes, a colour channel, as was decided on the luma. None: two
        coloured images get the chroma of both.
    info : dict
        What the method found out, such as the weight.
    """

    fused: Plane
    apply: Callable[[Plane, Plane], Plane] | None = None
    info: Mapping[str, object] = {}


class Lean(NamedTuple):
    """A function to the same result in less memory and more time.

    Attributes
    ----------
    function : callable
    needs : (float, float)
        As of :class:`Method`.
    words : str
        How it goes about it.
    """

    function: Callable
    needs: tuple[float, float]
    words: str


@dataclass(frozen=True)
class Method:
    """A fusion method ready to use.

    Attributes
    ----------
    name, variant : str
    function : callable
        Called with the two luma planes, (H, W), and the parameters; gives the fused plane or a
        :class:`Decision`.
    variants : tuple of str
        All variants of the method, default first; ("",) where there is only one.
    parameters : dict
        The parameters that :meth:`fuse` accepts, with the values used by default.
    checkpoint : str
        Folder of the weights, "" where there are none or none is named.
    summary : str
        What it does, in a line.
    plugin : str
        Path and SHA-256 of the file outside the package that registered it, else "".
    dtype : type
        Of the planes that ``function`` is called with: float64, or uint8 (networks), all 0..255.
    fuse_colour : callable, optional
        Called instead with a gray infrared and a coloured visible image, as they are.
    reach : callable, optional
        Called with the parameters, says how far the function looks; None: over the whole image.
    needs : (float, float)
        Bytes a pixel of a function that looks over the whole image, and where both are coloured; 0
        where they are not known.
    lean : Lean, optional
        Called in place of ``function`` where that needs too much.
    memory : float, optional
        GB to stay within, by strips or ``lean`` where there are; None: the image at once.
    recipe : callable, optional
        Makes the method anew, and what a worker process gets in its place: networks and the
        functions of plugins cannot be sent. It knows of ``memory``, of no other change.
    """

    name: str
    function: Callable = field(repr=False)
    variant: str = ""
    variants: tuple[str, ...] = ("",)
    parameters: dict = field(default_factory=dict)
    checkpoint: str = ""
    summary: str = ""
    plugin: str = ""
    dtype: type = np.float64
    fuse_colour: Callable | None = field(default=None, repr=False)
    reach: Callable[[Mapping], Reach] | None = field(default=None, repr=False)
    needs: tuple[float, float] = (0.0, 0.0)
    lean: Lean | None = field(default=None, repr=False)
    memory: float | None = None
    recipe: Callable[[], Method] | None = field(default=None, repr=False, compare=False)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.recipe is None:
            return super().__reduce_ex__(protocol)
        return _again, (self.recipe, self.memory)

    def fuse(
        self,
        a: np.ndarray | None = None,
        b: np.ndarray | None = None,
        *,
        infrared: np.ndarray | None = None,
        visible: np.ndarray | None = None,
        **parameters,
    ) -> np.ndarray:
        """Fuse two images: a or infrared first, b or visible second.

        Parameters
        ----------
        a, b, infrared, visible : (H, W) or (H, W, 3) uint8
            Each image under one of its two names; one size. Exactly one coloured: its Y is fused
            and its Cb, Cr are kept. Both coloured: one weight and one selection from Y, applied to
            all channels.
        **parameters
            See :attr:`parameters`.

        Returns
        -------
        (H, W) uint8, or (H, W, 3) if a source is coloured

        Raises
        ------
        TypeError, ValueError
            An image is missing, given twice or breaks the contract of :mod:`fusionlib.images`,
            sizes differ, an unknown parameter, a function that returns no plane.
        """
        for first, name, second in ((a, "infrared", infrared), (b, "visible", visible)):
            if first is not None and second is not None:
                raise TypeError(f"{name}: expected one image, got a second under another name")
        pair = images.check_pair(infrared if a is None else a, visible if b is None else b)
        return self.fuse_with_info(*pair, **parameters)[0]

    def fuse_with_info(self, a: np.ndarray, b: np.ndarray, **parameters) -> tuple[np.ndarray, dict]:
        """Like :meth:`fuse`, with what the method found out (such as the weight) as a second
        value.
        """
        _, shown, info = self.fuse_both(a, b, **parameters)
        return shown, info

    def check_parameters(self, names: Iterable[str]) -> None:
        """Raise ValueError for a name that is none of :attr:`parameters`."""
        if unknown := sorted(set(names) - set(self.parameters)):
            raise ValueError(
                f"{self.name}: no parameter named {', '.join(unknown)}; "
                f"there are {', '.join(self.parameters) or 'none'}"
            )

    def fuse_both(
        self, a: np.ndarray, b: np.ndarray, **parameters
    ) -> tuple[np.ndarray, np.ndarray, dict]:
        """Return the fused image twice, gray as it is scored and in colour as it is shown, and what
        was found out.

        Where exactly one source is coloured the gray one is what was fused, before chroma is put
        back: that clips. In strips or lean where :attr:`memory` asks for it; ``info`` then has the
        number of strips under "strips", or the words for it under "lean".

        Raises
        ------
        ValueError
            More than :attr:`memory` is needed.
        """
        self.check_parameters(parameters)
        a, b = images.check_pair(a, b)
        coloured = [images.is_colour(image) for image in (a, b)]
        parameters = {**self.parameters, **parameters}
        size = a.shape[:2]
        if self.memory is None or self.reach is None:
            return self._fitting(size, all(coloured))._fuse_whole(a, b, coloured, parameters)
        reach = self.reach(parameters)
        rows = rows_at_once(size, any(coloured), reach, self.memory)
        if rows == size[0]:
            return self._fuse_whole(a, b, coloured, parameters)
        gray = np.empty(size, np.uint8)
        shown = np.empty((*size, 3), np.uint8) if any(coloured) else gray
        for strip in strips(size[0], rows, reach):
            pair = a[strip.around], b[strip.around]
            *fused, info = self._fuse_whole(*pair, coloured, parameters)
            for whole, part in zip((gray, shown), fused, strict=True):
                whole[strip.target] = part[strip.inner]
        return gray, shown, {**info, "strips": -(-size[0] // rows)}

    def _fitting(self, size: tuple[int, int], both: bool) -> Method:
        """Return what fits :attr:`memory`, the method or a lean one; ValueError where none does."""
        needed = self.needs[both] * size[0] * size[1] / 1e9
        if self.memory is None or needed <= self.memory:
            return self
        if self.lean is None:
            raise ValueError(
                f"{self.name}: expected {needed:.1f} GB for images of {size[1]}x{size[0]}, got"
                f" {self.memory:.1f}; --memory {needed + 0.1:.1f}"
            )
        function, needs, words = self.lean

        def told(*planes: Plane, **parameters) -> Decision:
            decision = function(*planes, **parameters)
            return decision._replace(info={**decision.info, "lean": words})

        return replace(self, function=told, needs=needs, lean=None)._fitting(size, both)

    # radon C: none, one or both sources coloured, each fused by its own rule
    def _fuse_whole(
        self, a: np.ndarray, b: np.ndarray, coloured: list[bool], parameters: dict
    ) -> tuple[np.ndarray, np.ndarray, dict]:
        if self.fuse_colour is not None and coloured == [False, True]:
            shown = self.fuse_colour(a, b)
            return images.luma(shown), shown, {}
        # a network's copies in double precision would be wasted
        ya: Plane = images.luma(a).astype(self.dtype, copy=False)
        yb: Plane = images.luma(b).astype(self.dtype, copy=False)
        result = self.function(ya, yb, **parameters)
        decision = result if isinstance(result, Decision) else Decision(result)
        fused = decision.fused
        is_plane = isinstance(fused, np.ndarray) and fused.shape == ya.shape
        if not is_plane or fused.dtype.kind not in "iuf":
            raise ValueError(
                f"{self.name}: expected its function to return a plane of numbers of shape"
                f" {ya.shape}, got {images.describe(fused)}"
            )
        if all(coloured) and decision.apply is not None:
            channels = [
                decision.apply(a[..., c].astype(np.float64), b[..., c].astype(np.float64))
                for c in range(3)
            ]
            shown = images.to_uint8(np.stack(channels, axis=-1), self.name)
            return images.luma(shown), shown, dict(decision.info)
        gray = images.to_uint8(fused, self.name)
        shown = images.with_chroma(gray, mixed_chroma(a, b)) if any(coloured) else gray
        return gray, shown, dict(decision.info)


@lru_cache(maxsize=1)
def _again(recipe: Callable[[], Method], memory: float | None) -> Method:
    """Return the method in a worker process, the same for all its pairs."""
    return replace(recipe(), memory=memory)


def mixed_chroma(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the chroma of the fused image: that of the coloured source.

    ASSUMPTION: where both sources are coloured and a method fuses the luma alone (networks), each
    chroma value is the mean of both, weighted by their distance from gray.
    """
    chroma_a, chroma_b = images.chroma(a), images.chroma(b)
    weight_a, weight_b = np.abs(chroma_a), np.abs(chroma_b)
    total = weight_a + weight_b
    return (chroma_a * weight_a + chroma_b * weight_b) / np.where(total > 0, total, 1)
