"""Built-in street scenes: a visible photograph, an infrared one, and the boxes of persons, bicycles and cars.

A street is laid out in metres and rendered twice by one pinhole camera from the same maps: what a surface reflects and
where lamps stand give the visible image, what temperature it has gives the infrared one. So a box means the same in
both, and where one image fails (night, glare, smoke; sun-warmed ground by day) the other shows why fusion helps.
Surfaces are textured with the brick, grass and gravel photographs that ship with scikit-image.

ASSUMPTION: the papers' data sets cannot be shipped; these generated scenes stand in for them at smoke size, and no
number measured on them is compared with a printed one.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from .. import images

CONDITIONS = ("day", "dusk", "night", "smoke")
CLASSES = ("person", "bicycle", "car")
CAMERA_HEIGHT = 1.9  # metres above the road
VISIBLE_SHARE, SMALLEST = 0.4, 4  # an object is annotated if so much of it is seen, and at least so many pixels wide


class Climate(NamedTuple):
    """Light (linear, 1 is white) and temperatures (degrees Celsius) of a condition."""

    ambient: tuple[float, float, float]
    sun: float
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    lamps: float  # strength of street lamps, windows and head lights
    haze: float  # extinction per metre in the visible image
    noise: float  # of the visible camera: its gain
    road: float
    wall: float
    green: float
    sky: float
    clothes: float
    metal: float
    span: tuple[float, float]  # temperatures of black and white in the infrared image


CLIMATES = {
    "day": Climate((0.55, 0.58, 0.62), 0.6, (0.16, 0.36, 0.75), (0.62, 0.74, 0.85), 0.0, 0.002, 0.010,
                   33, 31, 26, -8, 31.5, 34, (4, 48)),
    "dusk": Climate((0.13, 0.115, 0.13), 0.0, (0.05, 0.07, 0.16), (0.55, 0.27, 0.12), 0.55, 0.004, 0.022,
                    20, 18, 14, -14, 25, 18, (2, 38)),
    "night": Climate((0.009, 0.010, 0.014), 0.0, (0.004, 0.005, 0.010), (0.020, 0.018, 0.020), 1.0, 0.004, 0.045,
                     9, 9, 6, -22, 22, 7, (-8, 34)),
    "smoke": Climate((0.42, 0.42, 0.42), 0.12, (0.45, 0.46, 0.47), (0.52, 0.52, 0.52), 0.0, 0.035, 0.014,
                     16, 15, 13, -4, 24, 15, (2, 36)),
}


@dataclass
class Scene:
    """One pair with its annotation.

    Attributes
    ----------
    infrared : (H, W) uint8
        Warm is bright.
    visible : (H, W, 3) uint8
    boxes : (n, 4) float64
        x, y, width, height in pixels of what is seen of each object, from the nearest to the farthest.
    labels : list of str
        "person", "bicycle" or "car", one a box.
    condition : str
    """

    infrared: np.ndarray
    visible: np.ndarray
    boxes: np.ndarray
    labels: list[str]
    condition: str


# ---- textures and shapes --------------------------------------------------------------------------------------

@functools.cache
def _pyramid(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all halvings of a photograph behind each other, relative to its mean, with their offsets and sizes."""
    from skimage import data

    level = getattr(data, name)().astype(np.float32)
    level = level[:512, :512] / level.mean()
    levels = []
    while len(level) >= 4:
        levels.append(level)
        level = level.reshape(len(level) // 2, 2, -1, 2).mean(axis=(1, 3))
    sizes = np.array([len(level) for level in levels])
    return np.concatenate([level.ravel() for level in levels]), np.r_[0, np.cumsum(sizes**2)[:-1]], sizes


def _texture(name: str, u: np.ndarray, v: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Sample a photograph at u, v (in its widths, repeated), averaged over ``footprint`` widths."""
    flat, offsets, sizes = _pyramid(name)
    level = np.clip(np.log2(np.maximum(footprint, 1e-6) * sizes[0]), 0, len(sizes) - 1).astype(np.int64)
    n = sizes[level]
    return flat[offsets[level] + np.floor(v % 1 * n).astype(np.int64) % n * n + np.floor(u % 1 * n).astype(np.int64) % n]


def _cloud(rng: np.random.Generator, shape: tuple[int, int], cells: int = 4) -> np.ndarray:
    """Return smooth noise from 0 to 1 with structures of 1/cells of the width and finer."""
    total = np.zeros(shape, np.float32)
    for n in (cells, 2 * cells, 4 * cells):
        rows, columns = (np.maximum(0, 1 - np.abs(np.linspace(0, n, s, dtype=np.float32)[:, None] - np.arange(n + 1)))
                         for s in shape)  # linear interpolation as two matrices
        total += (rows @ rng.standard_normal((n + 1, n + 1)) @ columns.T / n).astype(np.float32)
    total -= total.min()
    return total / max(total.max(), 1e-6)


class Part(NamedTuple):
    """A piece of an object: a shape in metres (x to the right, y up from the ground) and what it is made of.

    ``shape`` is a capsule ((x0, y0), (x1, y1), radius), a ring ((x, y), (x, y), half thickness, radius), or a convex
    quadrilateral of four corners (x, y) in counter-clockwise order.
    """

    shape: tuple
    colour: tuple[float, float, float]  # reflected share
    warmth: float  # degrees Celsius
    glow: tuple[float, float, float] = (0.0, 0.0, 0.0)  # light of its own, before the lamps' strength


def _distances(parts: list[Part], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distances (parts, H, W) in metres, negative inside; x (W,), y (H,)."""
    out = np.empty((len(parts), len(y), len(x)), np.float32)
    flat = np.array([isinstance(part.shape[2], tuple) for part in parts])
    px, py = x[None, None, :], y[None, :, None]
    if not flat.all():
        lines = [(*a, *b, *rest, 0.0)[:6] for (a, b, *rest), *_ in (p for p, quad in zip(parts, flat, strict=True) if not quad)]
        ax, ay, bx, by, radius, ring = np.array(lines, np.float32).T[..., None, None]
        dx, dy = bx - ax, by - ay
        t = np.clip(((px - ax) * dx + (py - ay) * dy) / np.maximum(dx * dx + dy * dy, 1e-9), 0, 1)
        out[~flat] = np.abs(np.sqrt((px - ax - t * dx) ** 2 + (py - ay - t * dy) ** 2) - ring) - radius
    if flat.any():
        corners = np.array([part.shape for part, quad in zip(parts, flat, strict=True) if quad], np.float32)
        edges = np.roll(corners, -1, axis=1) - corners
        edges /= np.hypot(edges[..., 0], edges[..., 1])[..., None]
        ax, ay, dx, dy = np.concatenate([corners, edges], axis=2).transpose(2, 1, 0)[..., None, None]
        out[flat] = ((px - ax) * dy - (py - ay) * dx).max(axis=0)
    return out


def _block(x0: float, y0: float, x1: float, y1: float) -> tuple:
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


# ---- objects --------------------------------------------------------------------------------------------------

COATS = ((0.02, 0.02, 0.03), (0.55, 0.04, 0.03), (0.75, 0.72, 0.66), (0.03, 0.06, 0.22), (0.70, 0.45, 0.04),
         (0.02, 0.10, 0.05), (0.80, 0.80, 0.82), (0.05, 0.03, 0.02))
PAINTS = ((0.02, 0.02, 0.02), (0.55, 0.02, 0.02), (0.78, 0.78, 0.78), (0.04, 0.10, 0.35), (0.35, 0.36, 0.38),
          (0.60, 0.45, 0.05))
SKIN, RUBBER, GLASS = (0.42, 0.25, 0.17), (0.015, 0.015, 0.015), (0.04, 0.05, 0.06)


def _person(rng: np.random.Generator, climate: Climate, riding: bool = False) -> list[Part]:
    """A walking, standing or riding person of 1.55 to 1.9 m, seen from the side or from behind."""
    coat, trousers = (COATS[i] for i in rng.choice(len(COATS), 2, replace=False))
    skin, hair = tuple(np.array(SKIN) * rng.uniform(0.4, 1.3)), tuple(np.array((0.06, 0.04, 0.02)) * rng.uniform(0.3, 3))
    warm, face = climate.clothes + rng.uniform(-1, 1.5), 33.0
    s, stride, swing = rng.uniform(0.9, 1.08), rng.uniform(0, 0.28), rng.uniform(0.05, 0.28)

    def limb(a: tuple, b: tuple, radius: float, colour: tuple, warmth: float) -> Part:
        return Part((tuple(s * c for c in a), tuple(s * c for c in b), s * radius), colour, warmth)

    if riding:
        hip, shoulder, knee, foot, hand = (-0.22, 0.98), (0.12, 1.45), (0.14, 0.78), (0.02, 0.32), (0.46, 1.05)
        return [limb(hip, (0.2, 0.7), 0.07, trousers, warm), limb((0.2, 0.7), (0.06, 0.45), 0.06, trousers, warm - 1),
                limb(hip, shoulder, 0.15, coat, warm), limb(hip, knee, 0.085, trousers, warm),
                limb(knee, foot, 0.065, trousers, warm - 1), limb(shoulder, hand, 0.055, coat, warm - 1),
                limb(hand, hand, 0.05, skin, face - 3), limb((0.2, 1.66), (0.2, 1.72), 0.1, skin, face),
                limb((0.17, 1.75), (0.19, 1.78), 0.09, hair, warm + 1)]
    return [limb((0.05, 0.85), (stride, 0.08), 0.075, trousers, warm - 1.5),
            limb((-0.05, 0.85), (-stride, 0.08), 0.075, trousers, warm - 1.5),
            limb((stride, 0.05), (stride + 0.1, 0.05), 0.05, RUBBER, warm - 4),
            limb((-stride, 0.05), (-stride + 0.1, 0.05), 0.05, RUBBER, warm - 4),
            limb((0.14, 1.38), (0.16 + swing, 0.88), 0.055, coat, warm - 1),
            limb((-0.14, 1.38), (-0.16 - swing, 0.88), 0.055, coat, warm - 1),
            limb((0, 0.95), (0, 1.33), 0.185, coat, warm),
            limb((0.17 + swing, 0.82), (0.17 + swing, 0.84), 0.05, skin, face - 3),
            limb((-0.17 - swing, 0.82), (-0.17 - swing, 0.84), 0.05, skin, face - 3),
            limb((0, 1.5), (0.01, 1.64), 0.1, skin, face), limb((0, 1.68), (0, 1.7), 0.095, hair, warm + 2)]


def _bicycle(rng: np.random.Generator, climate: Climate) -> list[Part]:
    """A bicycle from the side, 1.75 m long."""
    paint, metal = PAINTS[rng.integers(len(PAINTS))], climate.metal
    tyre = climate.road + 1.5
    rear, front, crank, seat, head, bar = (-0.53, 0.34), (0.53, 0.34), (-0.08, 0.3), (-0.22, 0.9), (0.38, 0.9), (0.42, 1.05)
    tubes = ((rear, crank), (rear, seat), (crank, seat), (crank, head), (seat, head), (head, front), (head, bar))
    return [*(Part(((x, 0.34), (x, 0.34), 0.035, 0.32), RUBBER, tyre) for x in (-0.53, 0.53)),
            *(Part((a, b, 0.028), paint, metal) for a, b in tubes),
            Part(((-0.32, 0.94), (-0.14, 0.94), 0.04), RUBBER, metal), Part((bar, (0.5, 1.02), 0.03), RUBBER, metal),
            Part(((0.55, 0.85), (0.57, 0.85), 0.03), (0.8, 0.8, 0.8), metal, (1.5, 1.5, 1.3))]


def _car(rng: np.random.Generator, climate: Climate, view: str) -> list[Part]:
    """A car from the "front", the "rear" or the "side"; its engine has run: bonnet, wheels and exhaust are warm."""
    paint = PAINTS[rng.integers(len(PAINTS))]
    dark = tuple(0.55 * c for c in paint)
    body, glass, tyre = climate.metal + 1, climate.metal - 4, climate.road + 9
    engine, red, white = climate.metal + 16, (1.2, 0.03, 0.01), (6.0, 5.6, 4.6)
    if view == "side":
        return [Part(_block(-1.9, 0.28, 1.9, 0.6), dark, body + 1), Part(((-2.0, 0.62), (1.9, 0.6), 0.2), paint, body),
                Part(((1.0, 0.72), (1.75, 0.66), 0.16), paint, engine),
                Part(((-1.75, 0.78), (1.05, 0.78), (0.35, 1.42), (-1.35, 1.42)), paint, body - 1),
                Part(((-1.5, 0.86), (-0.45, 0.86), (-0.45, 1.33), (-1.22, 1.33)), GLASS, glass),
                Part(((-0.35, 0.86), (0.82, 0.86), (0.28, 1.33), (-0.35, 1.33)), GLASS, glass),
                *(Part(((x, 0.32), (x, 0.32), 0.33), RUBBER, tyre) for x in (-1.25, 1.25)),
                *(Part(((x, 0.32), (x, 0.32), 0.17), (0.3, 0.3, 0.32), tyre + 6) for x in (-1.25, 1.25)),
                Part(((2.02, 0.66), (2.05, 0.66), 0.06), (0.8, 0.8, 0.75), body, white),
                Part(((-2.12, 0.7), (-2.14, 0.7), 0.06), (0.5, 0.02, 0.02), body, red)]
    front = view == "front"
    wheels = [Part(_block(x - 0.12, 0.0, x + 0.12, 0.4), RUBBER, tyre) for x in (-0.7, 0.7)]
    lights = [Part(((x - 0.1, 0.7), (x + 0.1, 0.7), 0.07), (0.8, 0.8, 0.75) if front else (0.5, 0.02, 0.02), body + 3,
                   white if front else red) for x in (-0.66, 0.66)]
    return [*wheels, Part(_block(-0.8, 0.22, 0.8, 0.55), dark, engine - 6 if front else body + 3),
            Part(((-0.72, 0.66), (0.72, 0.66), 0.2), paint, engine if front else body),
            Part(((-0.86, 0.8), (0.86, 0.8), (0.62, 1.45), (-0.62, 1.45)), paint, body - 1),
            Part(((-0.74, 0.88), (0.74, 0.88), (0.56, 1.37), (-0.56, 1.37)), GLASS, glass), *lights,
            Part(_block(-0.26, 0.5, 0.26, 0.62), (0.7, 0.7, 0.66), body),
            Part(((0.45, 0.24), (0.5, 0.24), 0.05), RUBBER, body + 4 if front else 45.0)]


def _tree(rng: np.random.Generator, climate: Climate) -> list[Part]:
    height, leaf = rng.uniform(3.5, 6), (0.05, 0.11 * rng.uniform(0.8, 1.3), 0.03)
    crown = [((x, height + y), (x, height + y), r) for x, y, r in
             ((0, 0, 1.3), (-0.9, -0.5, 0.9), (0.9, -0.4, 1.0), (0.2, 0.9, 0.9), (-0.5, 0.7, 0.8))]
    return [Part(((0, 0), (0, height), 0.13), (0.07, 0.05, 0.035), climate.green + 1),
            *(Part(shape, tuple(c * rng.uniform(0.7, 1.3) for c in leaf), climate.green) for shape in crown)]


def _lamp(climate: Climate, side: float) -> list[Part]:
    """A street lamp whose arm reaches over the road."""
    return [Part(((0, 0), (0, 5.2), 0.06), (0.12, 0.12, 0.13), climate.metal),
            Part(((0, 5.2), (-side * 0.9, 5.35), 0.05), (0.12, 0.12, 0.13), climate.metal),
            Part(((-side * 0.7, 5.3), (-side * 1.1, 5.3), 0.09), (0.5, 0.5, 0.45), climate.metal + 6, (3.0, 2.5, 1.6))]


class _Placed(NamedTuple):
    """An object at x metres to the right and z metres ahead; ``half`` and ``height`` bound it in metres."""

    label: str | None
    x: float
    z: float
    half: float
    height: float
    mirrored: bool
    parts: list[Part]


def _layout(rng: np.random.Generator, climate: Climate, view: float) -> list[_Placed]:
    """Lay out the street, nearest object first; ``view`` is half the image's width in focal lengths."""
    placed: list[_Placed] = []

    def free(x: float, z: float, half: float, height: float) -> bool:
        """Not more than half hidden by, or hiding, another object, seen from the camera."""
        for o in placed:
            wide = min(x + half, o.x / o.z * z + o.half / o.z * z) - max(x - half, o.x / o.z * z - o.half / o.z * z)
            if wide > 0.5 * min(2 * half, 2 * o.half / o.z * z) and o.label is not None:
                return False
        return True

    def put(label: str, depths: tuple[float, float], reach: float, half: float, height: float, make, lane=None) -> None:
        for _ in range(12):
            z = rng.uniform(*depths)
            x = lane + rng.uniform(-0.3, 0.3) if lane is not None else rng.uniform(-1, 1) * min(reach, 0.92 * view * z)
            if abs(x) < view * z and free(x, z, half, height):
                mirrored = bool(rng.random() < 0.5)
                for name, parts in make():
                    placed.append(_Placed(name, x, z - 0.01 * (name == "person"), half, height, mirrored, parts))
                return

    def rider() -> list[tuple[str, list[Part]]]:
        bicycle = [("bicycle", _bicycle(rng, climate))]
        return bicycle + [("person", _person(rng, climate, riding=True))] * (rng.random() < 0.7)

    put("person", (5.0, 9.0), 3.0, 0.4, 1.8, lambda: [("person", _person(rng, climate))])
    for _ in range(rng.integers(1, 4)):
        view_of = rng.choice(["front", "front", "rear", "side"])
        lane = {"front": -1.8, "rear": 1.8, "side": None}[view_of]
        half = 2.15 if view_of == "side" else 0.92
        put("car", (12, 22) if view_of == "side" else (8, 26), 3.0, half, 1.5,
            lambda view_of=view_of: [("car", _car(rng, climate, view_of))], lane)
    for _ in range(rng.integers(0, 3)):
        put("bicycle", (5.5, 12), 3.5, 0.9, 1.75, rider)
    for _ in range(rng.integers(1, 5)):
        put("person", (6, 18), 6.0, 0.4, 1.8, lambda: [("person", _person(rng, climate))])
    for side in (-1, 1):
        for z in np.arange(rng.uniform(7, 14), 50, 14):
            placed.append(_Placed(None, side * 4.3, z, 1.2, 5.5, False, _lamp(climate, side)))
        for z in rng.uniform(14, 45, rng.integers(0, 4)):
            placed.append(_Placed(None, side * rng.uniform(5.5, 7), z, 2.2, 7.5, False, _tree(rng, climate)))
    return sorted(placed, key=lambda o: o.z)


# ---- rendering ------------------------------------------------------------------------------------------------

class _Street:
    """Maps of one view: what each pixel shows, before light and cameras."""

    def __init__(self, rng: np.random.Generator, climate: Climate, height: int, width: int):
        self.climate, self.size = climate, (height, width)
        self.focal = 0.95 * math.sqrt(4 / 3 * height * width)
        self.row, self.column = height * rng.uniform(0.38, 0.45), width * rng.uniform(0.46, 0.54)
        rows, columns = np.mgrid[:height, :width].astype(np.float32) + 0.5
        self.right, self.down = (columns - self.column) / self.focal, (rows - self.row) / self.focal
        self.owner = np.full(self.size, -1)
        self.lights: list[tuple[float, float, float, np.ndarray, int]] = []
        self._background(rng)

    def _background(self, rng: np.random.Generator) -> None:
        c, right, down = self.climate, self.right, self.down
        side = np.where(right > 0, 1, 0)
        distance, gap = rng.uniform(7.2, 9, 2).astype(np.float32)[side], rng.uniform(9, 14)
        ground = np.where(down > 1e-3, CAMERA_HEIGHT / np.maximum(down, 1e-3), np.inf)
        wall = distance / np.maximum(np.abs(right), 1e-4)
        house = np.clip(wall / gap, 0, 6).astype(int)
        tall = (rng.uniform(5.5, 11, (2, 7)) * (rng.random((2, 7)) < 0.85)).astype(np.float32)
        level = CAMERA_HEIGHT - down * wall
        is_wall = (wall < ground) & (level < tall[side, house]) & (wall < 7 * gap)
        self.depth = np.where(is_wall, wall, ground)
        is_sky = ~np.isfinite(self.depth)
        z = np.where(is_sky, 90, self.depth)
        x, y = right * z, CAMERA_HEIGHT - down * z
        self.depth, self.x, self.y = z, x, np.maximum(y, 0)
        foot = z / self.focal  # metres a pixel covers across the line of sight
        slant = np.where(is_wall, z * foot / distance, z * foot / CAMERA_HEIGHT)

        # Ground: road, kerb, pavement, grass; markings.
        stone = _texture("gravel", x / 3, z / 3, slant / 3)
        brick = _texture("brick", x / 2.5, z / 2.5, slant / 2.5)
        grass = _texture("grass", x / 4, z / 4, slant / 4)
        across, crossing = np.abs(x), rng.uniform(9, 18)
        paint = ((across < 0.09) & (z % 6 < 3)) | (np.abs(across - 3.25) < 0.07)
        paint |= (np.abs(z - crossing) < 1.5) & (x % 1.1 < 0.55) & (across < 3.1)
        road, pavement = across < 3.6, across < 6
        gray = np.where(paint, 0.62, np.where(road, 0.13, np.where(across < 3.8, 0.42, 0.27)))
        gray = gray * np.where(road, 0.55 + 0.45 * stone, brick**1.4)
        albedo = np.where(pavement[..., None], gray[..., None], grass[..., None] * np.float32((0.11, 0.17, 0.04)))
        warmth = np.where(road, c.road + 1.2 * (stone - 1) - 1.0 * paint, np.where(pavement, c.road - 2 + brick, c.green))
        warmth = warmth + np.where(pavement, 0, 2.0 * (grass - 1))

        # Walls of houses with windows; some are lit after dark.
        colours = np.array([(0.42, 0.20, 0.13), (0.60, 0.54, 0.44), (0.50, 0.36, 0.22), (0.38, 0.38, 0.40)], np.float32)
        stones = _texture("brick", wall / 3, level / 3, slant / 3)
        face = colours[rng.integers(0, 4, (2, 7))[side, house]] * (0.3 + 0.7 * stones)[..., None]
        floor, bay = np.floor(level / 3), np.floor(wall / 2.6)
        window = (np.abs(level % 3 - 1.7) < 0.7) & (np.abs(wall % 2.6 - 1.3) < 0.5) & (level > 0.9)
        window &= (level % 3 - 1.7 > -0.62) | (wall % 2.6 > 1.3)
        lit = (np.sin(floor * 12.9 + bay * 78.2 + house * 37.7 + side * 9.1 + rng.uniform(0, 6)) * 43758.5) % 1 < 0.3
        face = np.where(window[..., None], (0.05, 0.06, 0.08), face)
        heat = c.wall + rng.uniform(-2, 2, (2, 7)).astype(np.float32)[side, house] + 0.8 * (stones - 1) + np.where(window, np.where(lit, 4, -3), 0)
        self.albedo = np.where(is_wall[..., None], face, albedo)
        self.warmth = np.where(is_wall, heat, warmth)
        self.glow = (is_wall & window & lit)[..., None] * np.float32((0.42, 0.27, 0.10)) * c.lamps

        # The sun stands to one side: its houses shade the street, the others' walls are bright and warm.
        sun = rng.choice([0, 1])
        toward = x * (2 * sun - 1)
        shade = toward > distance - 0.45 * tall[sun, np.clip(z / gap, 0, 6).astype(int)]
        self.sunny = np.where(is_wall, side != sun, ~shade).astype(np.float32)
        self.sun_left = sun == 0
        self.warmth = self.warmth + 6 * c.sun * (self.sunny - 0.5)
        self.shade = np.ones(self.size, np.float32)

        # Sky with clouds over a dark line of far trees.
        elevation = -down / max(self.row / self.focal, 1e-3)
        cloud = np.clip(2.2 * _cloud(rng, self.size) - 1.0, 0, 1) * np.clip(elevation * 3, 0, 1)
        share = np.clip(elevation, 0, 1)[..., None] ** 0.6
        sky = np.float32(c.horizon) * (1 - share) + np.float32(c.zenith) * share
        self.sky = sky * (1 - 0.6 * cloud[..., None]) + 0.6 * cloud[..., None] * max(c.horizon)
        trees = 0.04 + 0.09 * _cloud(rng, (1, self.size[1]), 12)
        is_trees = is_sky & (-down < trees)
        self.is_sky = is_sky & ~is_trees
        self.albedo[is_trees] = np.array((0.04, 0.07, 0.03))
        self.warmth[is_trees] = c.green
        self.warmth[self.is_sky] = (c.sky + (c.green - c.sky) * (0.75 * np.exp(-4 * elevation) + 0.25 * cloud))[self.is_sky]
        self.sunny[is_trees] = 0.5

    def draw(self, number: int, o: _Placed) -> int:
        """Paint an object over what is farther; return how many pixels it would cover alone, also off the image."""
        scale, sign = self.focal / o.z, -1 if o.mirrored else 1
        foot, middle = self.row + CAMERA_HEIGHT * scale, self.column + o.x * scale
        if o.label is not None:
            self._shadow(o, middle, scale)
        top, left = math.floor(foot - (o.height + 0.3) * scale), math.floor(middle - (o.half + 0.4) * scale)
        rows, columns = np.arange(top, math.ceil(foot + 1)), np.arange(left, math.ceil(middle + (o.half + 0.4) * scale))
        x = (sign * (columns + 0.5 - middle) / scale).astype(np.float32)
        y = ((foot - rows - 0.5) / scale).astype(np.float32)
        cover = np.clip(0.5 - _distances(o.parts, x, y) * scale, 0, 1)
        solid = cover.max(axis=0) > 0.5
        covered = int(solid.sum())
        spans = [(max(start, 0), min(start + len(n), size)) for start, n, size in zip((top, left), (rows, columns), self.size)]
        if any(start >= end for start, end in spans):
            return covered
        here = tuple(slice(*span) for span in spans)
        inside = tuple(slice(span[0] - start, span[1] - start) for span, start in zip(spans, (top, left)))
        cover, solid, x, y = cover[:, *inside], solid[inside], x[inside[1]], y[inside[0], None]
        # Parts stand in front of each other in their order: each is seen through what the later ones leave open.
        open_ = np.cumprod(1 - cover[::-1], axis=0)[::-1]
        cover[:-1] *= open_[1:]
        made = np.array([(*part.colour, part.warmth, *part.glow) for part in o.parts], np.float32)
        mixed = (cover.reshape(len(made), -1).T @ made).reshape(*solid.shape, 7)
        cloth = 0.75 + 0.25 * _texture("gravel", x / 2, y / 2, np.float32(0.5 / scale))
        cloth = cloth * (1 + (0.25 if self.sun_left else -0.25) / o.half * sign * x)
        open_ = open_[0, ..., None]
        self.albedo[here] = self.albedo[here] * open_ + mixed[..., :3] * cloth[..., None]
        self.warmth[here] = self.warmth[here] * open_[..., 0] + mixed[..., 3]
        self.glow[here] = self.glow[here] * open_ + mixed[..., 4:] * self.climate.lamps
        for part in o.parts:
            if max(part.glow) > 0 and self.climate.lamps > 0:
                (ax, ay), (bx, by), radius = part.shape
                at = middle + sign * (ax + bx) / 2 * scale, foot - (ay + by) / 2 * scale
                self.lights.append((*at, radius * scale, np.array(part.glow, np.float32), number))
        for plane, value in ((self.owner, number), (self.depth, o.z), (self.x, o.x), (self.sunny, 0.8), (self.shade, 1.0),
                             (self.is_sky, False), (self.y, y)):
            plane[here] = np.where(solid, value, plane[here])
        return covered

    def _shadow(self, o: _Placed, middle: float, scale: float) -> None:
        """Darken the ground around an object's foot."""
        far, near = (self.row + CAMERA_HEIGHT * self.focal / max(o.z + d, 1) for d in (1.5, -1.5))
        rows = slice(max(math.floor(far), 0), max(math.ceil(near), 0))
        columns = slice(max(math.floor(middle - 2.5 * o.half * scale), 0), max(math.ceil(middle + 2.5 * o.half * scale), 0))
        here = rows, columns
        away = ((self.x[here] - o.x) / (1.15 * o.half)) ** 2 + ((self.depth[here] - o.z) / max(0.6 * o.half, 0.3)) ** 2
        ground = (self.owner[here] < 0) & (self.y[here] < 0.05)
        self.shade[here] *= np.where(ground, 1 - 0.6 * np.exp(-away), 1)

    def visible(self, rng: np.random.Generator, lamps: list[_Placed], smoke: np.ndarray) -> np.ndarray:
        """Light the maps and photograph them: glare, haze, lens, shot noise, gamma; (H, W, 3) uint8."""
        c = self.climate
        light = self.shade[..., None] * (np.float32(c.ambient) + c.sun * self.sunny[..., None] * np.float32((1.0, 0.96, 0.88)))
        if c.lamps:
            for lamp in lamps:
                away = (self.x - 0.8 * lamp.x) ** 2 + (self.y - 5.3) ** 2 + (self.depth - lamp.z) ** 2
                light += c.lamps * (8 / (away + 3) * self.shade)[..., None] * np.float32((1.0, 0.78, 0.48))
            beam = np.exp(-((self.x / (0.28 * self.depth + 0.8)) ** 2) - ((self.y - 0.2) / (0.035 * self.depth + 0.5)) ** 2)
            light += c.lamps * (16 * beam / (self.depth**2 + 20) * self.shade)[..., None] * np.float32((1.0, 0.95, 0.85))
        seen = np.where(self.is_sky[..., None], self.sky, self.albedo * light + self.glow)
        seen = seen * smoke[..., None] + (1 - smoke[..., None]) * np.float32(c.horizon)
        rows, columns = (np.arange(n, dtype=np.float32) + 0.5 for n in self.size)
        for column, row, radius, glow, number in self.lights:
            at = min(max(int(row), 0), self.size[0] - 1), min(max(int(column), 0), self.size[1] - 1)
            if self.owner[at] == number:  # not hidden by something nearer
                reach = max(radius, 0.006 * self.size[1])
                away = ((rows[:, None] - row) ** 2 + (columns - column) ** 2) / reach**2
                halo = np.exp(-away / 8) + 0.12 / (1 + away / 20)
                seen = seen + c.lamps * 0.35 * halo[..., None] * glow
        seen = ndimage.gaussian_filter(seen, (0.45, 0.45, 0))
        seen = seen + c.noise * np.sqrt(np.clip(seen, 0, 1) + 0.012) * rng.standard_normal(seen.shape, dtype=np.float32)
        return images.to_uint8(255 * np.clip(seen, 0, 1) ** (1 / 2.2))

    def infrared(self, rng: np.random.Generator, smoke: np.ndarray) -> np.ndarray:
        """Map temperature to gray as a thermal camera does: softer lens, stripes of its columns, noise; (H, W) uint8."""
        low, high = self.climate.span
        passed = smoke**0.08  # long waves pass between the grains of smoke
        warmth = self.warmth * passed + self.climate.green * (1 - passed)
        level = ndimage.gaussian_filter((warmth - low) / (high - low), 0.7)
        level = level + 0.006 * rng.standard_normal(self.size, dtype=np.float32) + 0.004 * rng.standard_normal((1, self.size[1]))
        return images.to_uint8(255 * np.clip(level - 0.04 * (self.right**2 + self.down**2), 0, 1))


def scene(seed: int, size: tuple[int, int] = (96, 128), condition: str | None = None) -> Scene:
    """Render a street scene.

    Parameters
    ----------
    seed : int
        Not negative. Decides everything; two conditions of one seed show the same street.
    size : (int, int)
        Height and width in pixels, at least 32 each.
    condition : "day", "dusk", "night" or "smoke", optional
        By default they take turns with the seed.

    Raises
    ------
    ValueError
        A negative seed, a size below 32, an unknown condition.
    """
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")
    if min(size) < 32:
        raise ValueError(f"size: expected height and width of at least 32, got {tuple(size)}")
    condition = CONDITIONS[seed % len(CONDITIONS)] if condition is None else condition
    if condition not in CONDITIONS:
        raise ValueError(f"condition: expected one of {CONDITIONS}, got {condition!r}")
    climate, (height, width) = CLIMATES[condition], size
    street = _Street(np.random.default_rng([seed, 0]), climate, height, width)
    objects = _layout(np.random.default_rng([seed, 1]), climate, width / 2 / street.focal)
    areas = [street.draw(number, o) for number, o in reversed(list(enumerate(objects)))][::-1]
    rng = np.random.default_rng([seed, 2, CONDITIONS.index(condition)])
    smoke = np.exp(-climate.haze * np.minimum(street.depth, 90))
    if condition == "smoke":
        column, row = width * rng.uniform(0.25, 0.75), street.row + 0.1 * height
        rows, columns = np.mgrid[:height, :width]
        plume = np.exp(-(((columns - column) / (0.32 * width)) ** 2) - ((rows - row) / (0.3 * height)) ** 2)
        smoke = smoke * np.exp(-6 * plume * _cloud(rng, size, 3) * np.clip((street.depth - 4) / 6, 0, 1))
    lamps = [o for o in objects if o.label is None and o.half < 2]
    boxes, labels = [], []
    seen = np.bincount(street.owner.ravel() + 1, minlength=len(objects) + 1)[1:]
    for number, extent in enumerate(ndimage.find_objects(street.owner + 1, len(objects))):
        if objects[number].label is None or extent is None or seen[number] < VISIBLE_SHARE * areas[number]:
            continue
        (y, x), (h, w) = (e.start for e in extent), (e.stop - e.start for e in extent)
        if min(w, h) >= SMALLEST:
            boxes.append((x, y, w, h))
            labels.append(objects[number].label)
    return Scene(street.infrared(rng, smoke), street.visible(rng, lamps, smoke),
                 np.array(boxes, np.float64).reshape(-1, 4), labels, condition)


def write_scenes(folder: str | os.PathLike, seeds: Iterable[int], size: tuple[int, int] = (96, 128),
                 evaluation: float = 0.25) -> Path:
    """Write scenes as a data set: ``{ir,vi}/NAME.png``, COCO ``annotations.json`` and ``splits.json``.

    Parameters
    ----------
    folder : path
        Made where missing.
    seeds : iterable of int
        One scene each.
    size : (int, int)
        Height and width.
    evaluation : float
        Share of the scenes, the last ones, that form the split "val"; the others are "train".

    Returns
    -------
    Path
        The folder.
    """
    folder, seeds = Path(folder), list(seeds)
    first = round(len(seeds) * (1 - evaluation))
    coco: dict[str, list] = {"images": [], "annotations": [],
                             "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]}
    for number, seed in enumerate(seeds):
        made = scene(seed, size)
        name = f"{seed:05d}_{made.condition}.png"
        images.write(folder / "ir" / name, made.infrared)
        images.write(folder / "vi" / name, made.visible)
        coco["images"].append({"id": number + 1, "file_name": name, "height": size[0], "width": size[1],
                               "split": "val" if number >= first else "train", "time": made.condition})
        for box, label in zip(made.boxes.tolist(), made.labels, strict=True):
            coco["annotations"].append({"id": len(coco["annotations"]) + 1, "image_id": number + 1, "bbox": box,
                                        "category_id": CLASSES.index(label) + 1, "area": box[2] * box[3], "iscrowd": 0})
    splits = {split: [Path(i["file_name"]).stem for i in coco["images"] if i["split"] == split] for split in ("train", "val")}
    images.write_text(folder / "splits.json", json.dumps(splits, indent=1) + "\n")
    images.write_text(folder / "annotations.json", json.dumps(coco, indent=1) + "\n")
    return folder
