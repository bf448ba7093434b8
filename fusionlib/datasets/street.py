"""A generated street: its layout in metres, the maps of what each pixel of one pinhole camera
shows, and two cameras.

The maps are what a surface reflects, what light it gives off, how warm it is, and where it is. The
visible camera lights them, the infrared one reads the temperatures.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from .. import images
from .street_objects import Climate, Part, bicycle, car, distances, lamp, person, tree

CAMERA_HEIGHT = 1.9  # metres above the road
FAR = 90.0  # metres at which haze stops counting
PLASTER = np.array(
    [(0.42, 0.20, 0.13), (0.60, 0.54, 0.44), (0.50, 0.36, 0.22), (0.38, 0.38, 0.40)], np.float32
)


# ---- textures ------------------------------------------------------------------------------------


@functools.cache
def _pyramid(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all halvings of a photograph behind each other, relative to its mean, with their
    offsets and sizes.
    """
    from skimage import data

    level = getattr(data, name)()[:512, :512].astype(np.float32)
    level /= level.mean()
    levels = []
    while len(level) >= 4:
        levels.append(level)
        level = level.reshape(len(level) // 2, 2, -1, 2).mean(axis=(1, 3))
    sizes = np.array([len(level) for level in levels], np.int32)
    offsets = np.r_[0, np.cumsum(sizes**2)[:-1]].astype(np.int32)
    return np.concatenate([level.ravel() for level in levels]), offsets, sizes


def texture(
    name: str, u: np.ndarray, v: np.ndarray, footprint: np.ndarray | np.floating
) -> np.ndarray:
    """Sample a photograph at u, v (in its widths, repeated), averaged over ``footprint`` widths."""
    flat, offsets, sizes = _pyramid(name)
    level = np.clip(np.log2(footprint * np.float32(sizes[0])), 0, len(sizes) - 1).astype(np.int32)
    n = sizes[level]  # a power of two
    row, column = (np.floor(c * n).astype(np.int32) & (n - 1) for c in (v, u))
    return flat[offsets[level] + row * n + column]


def cloud(rng: np.random.Generator, shape: tuple[int, int], cells: int = 4) -> np.ndarray:
    """Return smooth noise from 0 to 1 with structures of 1/cells of the width and finer."""
    total = np.zeros(shape, np.float32)
    for n in (cells, 2 * cells, 4 * cells):
        # linear interpolation as two matrices
        rows, columns = (
            np.maximum(
                0, 1 - np.abs(np.linspace(0, n, s, dtype=np.float32)[:, None] - np.arange(n + 1))
            )
            for s in shape
        )
        total += (rows @ rng.standard_normal((n + 1, n + 1)) @ columns.T / n).astype(np.float32)
    total -= total.min()
    return total / max(float(total.max()), 1e-6)


def colour(values: tuple[float, ...]) -> np.ndarray:
    """Return a colour as (3, 1, 1), to be spread over a map."""
    return np.array(values, np.float32)[:, None, None]


# ---- layout --------------------------------------------------------------------------------------


class Placed(NamedTuple):
    """An object at x metres to the right and z metres ahead; ``half`` and ``height`` bound it in
    metres.
    """

    label: str | None
    x: float
    z: float
    half: float
    height: float
    mirrored: bool
    parts: list[Part]


def layout(rng: np.random.Generator, climate: Climate, view: float) -> list[Placed]:
    """Lay out persons, bicycles, cars, lamps and trees, the nearest first.

    Parameters
    ----------
    rng : numpy.random.Generator
        What is drawn does not depend on the climate.
    climate : Climate
    view : float
        Half the image's width in focal lengths.
    """
    road = Road(rng, view)

    def walker() -> list[tuple[str, list[Part]]]:
        return [("person", person(rng, climate))]

    def cyclist() -> list[tuple[str, list[Part]]]:
        objects = [("bicycle", bicycle(rng, climate))]
        if rng.random() < 0.7:
            objects.append(("person", person(rng, climate, riding=True)))
        return objects

    road.put((5.0, 9.0), 3.0, 0.4, 1.8, walker)
    for _ in range(rng.integers(1, 4)):
        _put_car(road, climate)
    for _ in range(rng.integers(0, 3)):
        road.put((5.5, 12), 3.5, 0.9, 1.75, cyclist)
    for _ in range(rng.integers(1, 5)):
        road.put((6, 18), 6.0, 0.4, 1.8, walker)
    placed = road.placed
    for side in (-1, 1):
        for z in np.arange(rng.uniform(7, 14), 42, 14):
            placed.append(Placed(None, side * 4.3, z, 1.2, 5.5, False, lamp(climate, side)))
        for z in rng.uniform(14, 45, rng.integers(0, 4)):
            x = side * rng.uniform(5.5, 7)
            placed.append(Placed(None, x, z, 2.2, 7.5, False, tree(rng, climate)))
    return sorted(placed, key=lambda o: o.z)


def _put_car(road: Road, climate: Climate) -> None:
    """Put a car on its lane, seen from ahead or behind, or across the road, seen from the side."""
    rng = road.rng
    view_of = str(rng.choice(["front", "front", "rear", "side"]))
    lane = {"front": -1.8, "rear": 1.8, "side": None}[view_of]
    depths, half = ((12, 22), 2.15) if view_of == "side" else ((8, 26), 0.92)
    road.put(depths, 3.0, half, 1.5, lambda: [("car", car(rng, climate, view_of))], lane)


class Road:
    """Objects that stand in view without hiding each other by more than half.

    Parameters
    ----------
    rng : numpy.random.Generator
    view : float
        Half the image's width in focal lengths.
    """

    def __init__(self, rng: np.random.Generator, view: float):
        self.rng, self.view = rng, view
        self.placed: list[Placed] = []

    def is_free(self, x: float, z: float, half: float) -> bool:
        """Tell whether another object shares at most half of a position, as the camera sees it."""
        for other in self.placed:
            centre, width = other.x / other.z * z, other.half / other.z * z
            shared = min(x + half, centre + width) - max(x - half, centre - width)
            if shared > min(half, width):
                return False
        return True

    def put(
        self,
        depths: tuple[float, float],
        reach: float,
        half: float,
        height: float,
        make: Callable[[], list[tuple[str, list[Part]]]],
        lane: float | None = None,
    ) -> None:
        """Put an object at a random free position, or nowhere after twelve tries.

        Parameters
        ----------
        depths : (float, float)
            Nearest and farthest, in metres, as all lengths here.
        reach : float
            Largest distance from the middle of the road.
        half, height : float
            Half its width, and its height.
        make : callable
            Draws its labels and parts.
        lane : float, optional
            Where it stands across the road, about; anywhere within ``reach`` where None.
        """
        rng, view = self.rng, self.view
        for _ in range(12):
            z, across = rng.uniform(*depths), rng.uniform(-1, 1)
            x = across * min(reach, 0.92 * view * z) if lane is None else lane + 0.3 * across
            if abs(x) < view * z and self.is_free(x, z, half):
                mirrored = bool(rng.random() < 0.5)
                for label, parts in make():
                    # a rider sits before the bicycle
                    depth = z - 0.01 * (label == "person")
                    self.placed.append(Placed(label, x, depth, half, height, mirrored, parts))
                return


# ---- the view ------------------------------------------------------------------------------------


class Street:
    """Maps (H, W), colours (3, H, W), of one view.

    Attributes
    ----------
    albedo, glow : (3, H, W)
        Reflected share and light given off.
    warmth : (H, W)
        Degrees Celsius.
    depth, x, y : (H, W)
        Metres ahead, to the right, above the road.
    owner : (H, W) int
        Number of the object seen, -1 for none.
    """

    def __init__(self, rng: np.random.Generator, climate: Climate, height: int, width: int):
        self.climate, self.size = climate, (height, width)
        self.focal = 0.95 * math.sqrt(4 / 3 * height * width)
        self.row, self.column = height * rng.uniform(0.38, 0.45), width * rng.uniform(0.46, 0.54)
        self.owner = np.full(self.size, -1)
        self.shade = np.ones(self.size, np.float32)
        self.lights: list[tuple[float, float, float, tuple[float, ...], int]] = []
        self._background(rng)

    def _background(self, rng: np.random.Generator) -> None:
        c, (height, width) = self.climate, self.size
        down, right = np.meshgrid(
            (np.arange(height, dtype=np.float32) + 0.5 - self.row) / self.focal,
            (np.arange(width, dtype=np.float32) + 0.5 - self.column) / self.focal,
            indexing="ij",
        )
        self.off_axis = right**2 + down**2

        # What a ray meets first: ground, a house to the left (0) or right (1), or nothing.
        side = (right > 0).astype(np.intp)
        distance, gap = rng.uniform(7.2, 9, 2).astype(np.float32)[side], rng.uniform(9, 14)
        ground = np.where(down > 1e-3, CAMERA_HEIGHT / np.maximum(down, 1e-3), np.float32(np.inf))
        wall = distance / np.maximum(np.abs(right), 1e-4)
        house = np.minimum(wall / gap, 6).astype(np.intp)
        tall = (rng.uniform(5.5, 11, (2, 7)) * (rng.random((2, 7)) < 0.85)).astype(np.float32)
        level = CAMERA_HEIGHT - down * wall
        is_wall = (wall < ground) & (level < tall[side, house]) & (wall < 7 * gap)
        z = np.where(is_wall, wall, ground)
        is_sky = ~np.isfinite(z)
        self.depth = z = np.where(is_sky, np.float32(FAR), z)
        self.x, self.y = right * z, np.maximum(CAMERA_HEIGHT - down * z, 0)
        # metres a pixel covers
        slant = z * z / self.focal / np.where(is_wall, distance, np.float32(CAMERA_HEIGHT))

        slabs = texture(
            "brick", np.where(is_wall, wall, self.x) / 3, np.where(is_wall, level, z) / 3, slant / 3
        )
        albedo, warmth = self._ground(rng, slabs, slant)

        in_window = (np.abs(level % 3 - 1.7) < 0.7) & (np.abs(wall % 2.6 - 1.3) < 0.5)
        window = in_window & (level > 0.9) & is_wall
        number = np.floor(level / 3) * 12.9 + np.floor(wall / 2.6) * 78.2 + 37.7 * house + side
        face, heat, lit = self._houses(rng, (side, house), slabs, window, number)
        self.albedo = np.where(is_wall, face, albedo)
        self.warmth = np.where(is_wall, c.wall + heat, warmth)
        self.glow = lit * colour((0.42, 0.27, 0.10)) * np.float32(c.lamps)

        # The sun stands to one side: houses there shade the street, those across are bright and
        # warm.
        sun = int(rng.integers(2))
        self.sun_left = sun == 0
        shaded = (
            self.x * (2 * sun - 1)
            > distance - 0.45 * tall[sun, np.minimum(z / gap, 6).astype(np.intp)]
        )
        self.sunny = np.where(is_wall, side != sun, ~shaded).astype(np.float32)
        self.warmth += 6 * c.sun * (self.sunny - 0.5)

        self._sky(rng, down, is_sky)

    @staticmethod
    def _houses(
        rng: np.random.Generator,
        house: tuple[np.ndarray, np.ndarray],
        slabs: np.ndarray,
        window: np.ndarray,
        number: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return albedo (3, H, W) and extra warmth of houses, and which windows are lit, (H, W).

        Parameters
        ----------
        rng : numpy.random.Generator
        house : two (H, W)
            Side of the street and number of the house that a ray meets.
        slabs : (H, W)
            Texture of the walls.
        window : (H, W) bool
            Where windows are; some are lit after dark.
        number : (H, W)
            Of the window, from which chance decides whether it is lit.
        """
        face = PLASTER.T[:, rng.integers(0, 4, (2, 7))[house]] * (0.3 + 0.7 * slabs)
        lit = window & ((np.sin(number) * 43758.5 + rng.random()) % 1 < 0.3)
        face = np.where(window, colour((0.05, 0.06, 0.08)), face)
        warmth = rng.uniform(-2, 2, (2, 7)).astype(np.float32)[house]
        return face, warmth + 0.8 * (slabs - 1) - 3 * window + 7 * lit, lit

    def _ground(
        self, rng: np.random.Generator, slabs: np.ndarray, slant: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return albedo (3, H, W) and warmth (H, W) of the ground: road with markings and a
        crossing, kerb, pavement, grass.

        Parameters
        ----------
        rng : numpy.random.Generator
        slabs : (H, W)
            Texture of the pavement.
        slant : (H, W)
            Metres that a pixel covers.
        """
        c, z = self.climate, self.depth
        stone = texture("gravel", self.x / 3, z / 3, slant / 3)
        grass = texture("grass", self.x / 4, z / 4, slant / 4)
        across, crossing = np.abs(self.x), rng.uniform(9, 18)
        paint = ((across < 0.09) & (z % 6 < 3)) | (np.abs(across - 3.25) < 0.07)
        paint |= (np.abs(z - crossing) < 1.5) & (self.x % 1.1 < 0.55) & (across < 3.1)
        road, paved = across < 3.6, across < 6
        gray = np.select(
            [paint, road, across < 3.8], np.array([0.62, 0.13, 0.42], np.float32), np.float32(0.27)
        )
        gray *= np.where(road, 0.55 + 0.45 * stone, slabs**1.4)
        albedo = np.where(paved, gray, grass * colour((0.11, 0.17, 0.04)))
        warmth = np.where(
            road,
            c.road + 1.2 * (stone - 1) - paint,
            np.where(paved, c.road - 2 + slabs, c.green + 2 * (grass - 1)),
        )
        return albedo, warmth

    def _sky(self, rng: np.random.Generator, down: np.ndarray, is_sky: np.ndarray) -> None:
        """Paint the sky with clouds over a line of far trees, where ``is_sky`` (H, W); ``down`` as
        in :meth:`_background`.
        """
        c = self.climate
        elevation = np.maximum(-down * self.focal / self.row, 0)
        wool = np.clip(2.2 * cloud(rng, self.size) - 1, 0, 1) * np.minimum(elevation * 3, 1)
        share = elevation**0.6
        sky = colour(c.horizon) * (1 - share) + colour(c.zenith) * share
        self.sky = sky + 0.6 * wool * (max(c.horizon) - sky)
        cold = c.sky + (c.green - c.sky) * (0.75 * np.exp(-4 * elevation) + 0.25 * wool)
        trees = is_sky & (-down < 0.04 + 0.09 * cloud(rng, (1, self.size[1]), 12))
        self.is_sky = is_sky & ~trees
        self.albedo = np.where(trees, colour((0.04, 0.07, 0.03)), self.albedo)
        self.warmth = np.where(self.is_sky, cold, np.where(trees, np.float32(c.green), self.warmth))

    # radon C: an object may lie off the image on any side, and parts may give light
    def draw(self, number: int, o: Placed) -> int:
        """Paint an object over what is farther; return how many pixels it would cover alone, also
        off the image.
        """
        scale, sign = self.focal / o.z, -1 if o.mirrored else 1
        foot, middle = self.row + CAMERA_HEIGHT * scale, self.column + o.x * scale
        if o.label is not None:
            self._shadow(o, middle, scale)
        reach = (o.half + 0.4) * scale
        top, left = math.floor(foot - (o.height + 0.3) * scale), math.floor(middle - reach)
        rows = np.arange(top, math.ceil(foot + 1))
        columns = np.arange(left, math.ceil(middle + reach))
        x = (sign * (columns + 0.5 - middle) / scale).astype(np.float32)
        y = ((foot - rows - 0.5) / scale).astype(np.float32)
        cover = np.clip(0.5 - distances(o.parts, x, y) * np.float32(scale), 0, 1)
        solid = cover.max(axis=0) > 0.5
        covered = int(solid.sum())
        spans = [
            (start, max(start, 0), min(start + n, size))
            for start, n, size in zip((top, left), solid.shape, self.size, strict=True)
        ]
        if any(first >= end for _, first, end in spans):
            return covered
        here = tuple(slice(first, end) for _, first, end in spans)
        inside = tuple(slice(first - start, end - start) for start, first, end in spans)
        cover, solid, x, y = cover[:, *inside], solid[inside], x[inside[1]], y[inside[0], None]
        # Parts stand before each other in their order: each is seen through what the later ones
        # leave open.
        gaps = np.cumprod(1 - cover[::-1], axis=0)[::-1]
        cover[:-1] *= gaps[1:]
        made = np.array([(*part.colour, part.warmth, *part.glow) for part in o.parts], np.float32)
        mixed = (made.T @ cover.reshape(len(made), -1)).reshape(7, *solid.shape)
        cloth = 0.75 + 0.25 * texture("gravel", x / 2, y / 2, np.float32(0.5 / scale))
        cloth *= 1 + np.float32((0.25 if self.sun_left else -0.25) / o.half * sign) * x
        self.albedo[:, *here] = self.albedo[:, *here] * gaps[0] + mixed[:3] * cloth
        self.warmth[here] = self.warmth[here] * gaps[0] + mixed[3]
        self.glow[:, *here] = self.glow[:, *here] * gaps[0] + mixed[4:] * np.float32(
            self.climate.lamps
        )
        for plane, value in (
            (self.owner, number),
            (self.depth, o.z),
            (self.x, o.x),
            (self.y, y),
            (self.sunny, 0.8),
            (self.shade, 1.0),
            (self.is_sky, False),
        ):
            plane[here] = np.where(solid, value, plane[here])
        for part in o.parts:
            if max(part.glow) > 0:
                (ax, ay), (bx, by), radius = part.shape
                at = middle + sign * (ax + bx) / 2 * scale, foot - (ay + by) / 2 * scale
                self.lights.append((*at, radius * scale, part.glow, number))
        return covered

    def _shadow(self, o: Placed, middle: float, scale: float) -> None:
        """Darken the ground around an object's foot."""
        far, near = (self.row + CAMERA_HEIGHT * self.focal / max(o.z + d, 1) for d in (1.5, -1.5))
        reach = 2.5 * o.half * scale
        here = (
            slice(max(math.floor(far), 0), max(math.ceil(near), 0)),
            slice(max(math.floor(middle - reach), 0), max(math.ceil(middle + reach), 0)),
        )
        away = ((self.x[here] - o.x) / (1.15 * o.half)) ** 2 + (
            (self.depth[here] - o.z) / max(0.6 * o.half, 0.3)
        ) ** 2
        ground = (self.owner[here] < 0) & (self.y[here] < 0.05)
        self.shade[here] *= np.where(ground, 1 - 0.6 * np.exp(-away), 1)

    # ---- the cameras -----------------------------------------------------------------------------

    def visible(
        self, rng: np.random.Generator, lamps: list[Placed], passed: np.ndarray
    ) -> np.ndarray:
        """Light the maps and photograph them: glare, haze, lens, shot noise, gamma.

        ``passed`` (H, W) is the share of light that haze and smoke let through; returns (H, W, 3)
        uint8.
        """
        c = self.climate
        light = self.shade * (
            colour(c.ambient) + colour((1.0, 0.96, 0.88)) * (np.float32(c.sun) * self.sunny)
        )
        if c.lamps:
            yellow = np.zeros(self.size, np.float32)
            for o in lamps:
                yellow += 3 / (
                    (self.x - 0.8 * o.x) ** 2 + (self.y - 5.3) ** 2 + (self.depth - o.z) ** 2 + 3
                )
            # the head lights of the camera's own car
            beam = (self.x / (0.28 * self.depth + 0.8)) ** 2 + (
                (self.y - 0.2) / (0.035 * self.depth + 0.5)
            ) ** 2
            white = 7 * np.exp(-beam) / (self.depth**2 + 20)
            light += (
                c.lamps
                * self.shade
                * (colour((1.0, 0.78, 0.48)) * yellow + colour((1.0, 0.95, 0.85)) * white)
            )
        radiance = np.where(self.is_sky, self.sky, self.albedo * light + self.glow)
        radiance = radiance * passed + (1 - passed) * colour(c.horizon)
        rows, columns = (np.arange(n, dtype=np.float32) + 0.5 for n in self.size)
        for column, row, radius, glow, number in self.lights if c.lamps else ():
            at = min(max(int(row), 0), self.size[0] - 1), min(max(int(column), 0), self.size[1] - 1)
            if self.owner[at] == number:  # not hidden by something nearer
                reach = max(radius, 0.006 * self.size[1])
                away = ((rows[:, None] - row) ** 2 + (columns - column) ** 2) / np.float32(reach**2)
                radiance += colour(glow) * (
                    0.4 * c.lamps * (np.exp(-away / 8) + 0.16 / (1 + away / 20))
                )
        radiance = ndimage.gaussian_filter(radiance, (0, 0.45, 0.45))
        grain = rng.standard_normal(radiance.shape, dtype=np.float32)
        radiance += c.noise * np.sqrt(np.clip(radiance, 0, 1) + 0.012) * grain
        return images.to_uint8(
            255 * np.moveaxis(np.clip(radiance, 0, 1) ** np.float32(1 / 2.2), 0, -1)
        )

    def infrared(self, rng: np.random.Generator, passed: np.ndarray) -> np.ndarray:
        """Map temperature to gray as a thermal camera does: softer lens, column stripes, noise; (H,
        W) uint8.
        """
        low, high = self.climate.span
        passed = passed**0.08  # long waves pass between the grains of smoke
        warmth = self.warmth * passed + self.climate.green * (1 - passed)
        level = ndimage.gaussian_filter((warmth - low) / (high - low), 0.7) - 0.04 * self.off_axis
        level += 0.006 * rng.standard_normal(
            self.size, dtype=np.float32
        ) + 0.004 * rng.standard_normal(self.size[1])
        return images.to_uint8(255 * np.clip(level, 0, 1))
