"""What stands in a generated street: persons, bicycles, cars, trees and lamps, built from simple
shapes in metres.

Every part of an object has a colour for the visible image, a temperature for the infrared one, and
maybe a light.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


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


# A row for each field of a climate, a column for each condition.
_CLIMATES = (
    ((0.55, 0.58, 0.62), (0.13, 0.115, 0.13), (0.009, 0.010, 0.014), (0.42, 0.42, 0.42)),  # ambient
    (0.6, 0.0, 0.0, 0.12),  # sun
    ((0.16, 0.36, 0.75), (0.05, 0.07, 0.16), (0.004, 0.005, 0.010), (0.45, 0.46, 0.47)),  # zenith
    ((0.62, 0.74, 0.85), (0.55, 0.27, 0.12), (0.020, 0.018, 0.020), (0.52, 0.52, 0.52)),  # horizon
    (0.0, 0.55, 1.0, 0.0),  # lamps
    (0.002, 0.004, 0.004, 0.035),  # haze
    (0.010, 0.022, 0.045, 0.014),  # noise
    (33, 20, 9, 16),  # road
    (31, 18, 9, 15),  # wall
    (26, 14, 6, 13),  # green
    (-8, -14, -22, -4),  # sky
    (31.5, 25, 22, 24),  # clothes
    (34, 18, 7, 15),  # metal
    ((4, 48), (2, 38), (-8, 34), (2, 36)),  # span
)
CONDITIONS = ("day", "dusk", "night", "smoke")
CLIMATES = dict(zip(CONDITIONS, map(Climate._make, zip(*_CLIMATES, strict=True)), strict=True))


class Part(NamedTuple):
    """A piece of an object: a shape in metres (x to the right, y up from the ground) and what it is
    made of.

    ``shape`` is a capsule ((x0, y0), (x1, y1), radius), a ring ((x, y), (x, y), half thickness,
    radius), or a convex quadrilateral of four corners (x, y) in counter-clockwise order.
    """

    shape: tuple
    colour: tuple[float, ...]  # reflected share of red, green and blue
    warmth: float  # degrees Celsius
    # light of its own, before the lamps' strength
    glow: tuple[float, float, float] = (0.0, 0.0, 0.0)


def distances(parts: list[Part], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distances (parts, H, W) in metres, negative inside; x (W,), y (H,)."""
    out = np.empty((len(parts), len(y), len(x)), np.float32)
    quads = [part.shape for part in parts if isinstance(part.shape[2], tuple)]
    flat = np.array([isinstance(part.shape[2], tuple) for part in parts])
    lines = [
        (*a, *b, *rest, 0.0)[:6] for (a, b, *rest), *_ in parts if not isinstance(rest[0], tuple)
    ]
    px, py = x[None, None, :], y[None, :, None]
    if lines:
        ax, ay, bx, by, radius, ring = np.array(lines, np.float32).T[..., None, None]
        length = np.hypot(bx - ax, by - ay)
        point = length == 0
        dx, dy = np.where(point, 1, bx - ax) / (length + point), (by - ay) / (length + point)
        along = (px - ax) * dx + (py - ay) * dy
        along -= np.minimum(np.maximum(along, 0), length)  # how far beyond an end
        across = (px - ax) * dy - (py - ay) * dx
        out[~flat] = np.abs(np.sqrt(along * along + across * across) - ring) - radius
    if quads:
        corners = np.array(quads, np.float32)
        edges = np.roll(corners, -1, axis=1) - corners
        edges /= np.hypot(edges[..., 0], edges[..., 1])[..., None]
        ax, ay, dx, dy = np.concatenate([corners, edges], axis=2).transpose(2, 1, 0)[
            ..., None, None
        ]
        out[flat] = ((px - ax) * dy - (py - ay) * dx).max(axis=0)
    return out


def _block(x0: float, y0: float, x1: float, y1: float) -> tuple:
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


COATS = (
    (0.02, 0.02, 0.03),
    (0.55, 0.04, 0.03),
    (0.75, 0.72, 0.66),
    (0.03, 0.06, 0.22),
    (0.70, 0.45, 0.04),
    (0.02, 0.10, 0.05),
    (0.80, 0.80, 0.82),
    (0.05, 0.03, 0.02),
)
PAINTS = (
    (0.02, 0.02, 0.02),
    (0.55, 0.02, 0.02),
    (0.78, 0.78, 0.78),
    (0.04, 0.10, 0.35),
    (0.35, 0.36, 0.38),
    (0.60, 0.45, 0.05),
)
SKIN, RUBBER, GLASS = (0.42, 0.25, 0.17), (0.015, 0.015, 0.015), (0.04, 0.05, 0.06)


def person(rng: np.random.Generator, climate: Climate, riding: bool = False) -> list[Part]:
    """A walking, standing or riding person of 1.55 to 1.9 m, seen from the side or from behind."""
    coat, trousers = (COATS[i] for i in rng.choice(len(COATS), 2, replace=False))
    skin = tuple(np.array(SKIN) * rng.uniform(0.4, 1.3))
    hair = tuple(np.array((0.06, 0.04, 0.02)) * rng.uniform(0.3, 3))
    warm, face = climate.clothes + rng.uniform(-1, 1.5), 33.0
    s, stride, swing = rng.uniform(0.9, 1.08), rng.uniform(0, 0.28), rng.uniform(0.05, 0.28)

    def limb(a: tuple, b: tuple, radius: float, colour: tuple, warmth: float) -> Part:
        return Part((tuple(s * c for c in a), tuple(s * c for c in b), s * radius), colour, warmth)

    if riding:
        hip, shoulder, knee, foot, hand = (
            (-0.22, 0.98),
            (0.12, 1.45),
            (0.14, 0.78),
            (0.02, 0.32),
            (0.46, 1.05),
        )
        return [
            limb(hip, (0.2, 0.7), 0.07, trousers, warm),
            limb((0.2, 0.7), (0.06, 0.45), 0.06, trousers, warm - 1),
            limb(hip, shoulder, 0.15, coat, warm),
            limb(hip, knee, 0.085, trousers, warm),
            limb(knee, foot, 0.065, trousers, warm - 1),
            limb(shoulder, hand, 0.055, coat, warm - 1),
            limb(hand, hand, 0.05, skin, face - 3),
            limb((0.2, 1.66), (0.2, 1.72), 0.1, skin, face),
            limb((0.17, 1.75), (0.19, 1.78), 0.09, hair, warm + 1),
        ]
    return [
        limb((0.05, 0.85), (stride, 0.08), 0.075, trousers, warm - 1.5),
        limb((-0.05, 0.85), (-stride, 0.08), 0.075, trousers, warm - 1.5),
        limb((stride, 0.05), (stride + 0.1, 0.05), 0.05, RUBBER, warm - 4),
        limb((-stride, 0.05), (-stride + 0.1, 0.05), 0.05, RUBBER, warm - 4),
        limb((0.14, 1.38), (0.16 + swing, 0.88), 0.055, coat, warm - 1),
        limb((-0.14, 1.38), (-0.16 - swing, 0.88), 0.055, coat, warm - 1),
        limb((0, 0.95), (0, 1.33), 0.185, coat, warm),
        limb((0.17 + swing, 0.82), (0.17 + swing, 0.84), 0.05, skin, face - 3),
        limb((-0.17 - swing, 0.82), (-0.17 - swing, 0.84), 0.05, skin, face - 3),
        limb((0, 1.5), (0.01, 1.64), 0.1, skin, face),
        limb((0, 1.68), (0, 1.7), 0.095, hair, warm + 2),
    ]


def bicycle(rng: np.random.Generator, climate: Climate) -> list[Part]:
    """A bicycle from the side, 1.75 m long."""
    paint, metal = PAINTS[rng.integers(len(PAINTS))], climate.metal
    tyre = climate.road + 1.5
    rear, front, crank = (-0.53, 0.34), (0.53, 0.34), (-0.08, 0.3)
    seat, head, bar = (-0.22, 0.9), (0.38, 0.9), (0.42, 1.05)
    tubes = (
        (rear, crank),
        (rear, seat),
        (crank, seat),
        (crank, head),
        (seat, head),
        (head, front),
        (head, bar),
    )
    return [
        *(Part(((x, 0.34), (x, 0.34), 0.035, 0.32), RUBBER, tyre) for x in (-0.53, 0.53)),
        *(Part((a, b, 0.028), paint, metal) for a, b in tubes),
        Part(((-0.32, 0.94), (-0.14, 0.94), 0.04), RUBBER, metal),
        Part((bar, (0.5, 1.02), 0.03), RUBBER, metal),
        Part(((0.55, 0.85), (0.57, 0.85), 0.03), (0.8, 0.8, 0.8), metal, (1.5, 1.5, 1.3)),
    ]


# radon C: front, rear and side are drawn from one list of parts
def car(rng: np.random.Generator, climate: Climate, view: str) -> list[Part]:
    """A car from the "front", the "rear" or the "side"; its engine has run: bonnet, wheels and
    exhaust are warm.
    """
    paint = PAINTS[rng.integers(len(PAINTS))]
    dark = tuple(0.55 * c for c in paint)
    body, glass, tyre = climate.metal + 1, climate.metal - 4, climate.road + 9
    engine, red, white = climate.metal + 16, (1.2, 0.03, 0.01), (9.0, 8.4, 7.0)
    if view == "side":
        return [
            Part(_block(-1.9, 0.28, 1.9, 0.6), dark, body + 1),
            Part(((-2.0, 0.62), (1.9, 0.6), 0.2), paint, body),
            Part(((1.0, 0.72), (1.75, 0.66), 0.16), paint, engine),
            Part(((-1.75, 0.78), (1.05, 0.78), (0.35, 1.42), (-1.35, 1.42)), paint, body - 1),
            Part(((-1.5, 0.86), (-0.45, 0.86), (-0.45, 1.33), (-1.22, 1.33)), GLASS, glass),
            Part(((-0.35, 0.86), (0.82, 0.86), (0.28, 1.33), (-0.35, 1.33)), GLASS, glass),
            *(Part(((x, 0.32), (x, 0.32), 0.33), RUBBER, tyre) for x in (-1.25, 1.25)),
            *(
                Part(((x, 0.32), (x, 0.32), 0.17), (0.3, 0.3, 0.32), tyre + 6)
                for x in (-1.25, 1.25)
            ),
            Part(((2.02, 0.66), (2.05, 0.66), 0.06), (0.8, 0.8, 0.75), body, white),
            Part(((-2.12, 0.7), (-2.14, 0.7), 0.06), (0.5, 0.02, 0.02), body, red),
        ]
    front = view == "front"
    wheels = [Part(_block(x - 0.12, 0.0, x + 0.12, 0.4), RUBBER, tyre) for x in (-0.7, 0.7)]
    lights = [
        Part(
            ((x - 0.1, 0.7), (x + 0.1, 0.7), 0.07),
            (0.8, 0.8, 0.75) if front else (0.5, 0.02, 0.02),
            body + 3,
            white if front else red,
        )
        for x in (-0.66, 0.66)
    ]
    return [
        *wheels,
        Part(_block(-0.8, 0.22, 0.8, 0.55), dark, engine - 6 if front else body + 3),
        Part(((-0.72, 0.66), (0.72, 0.66), 0.2), paint, engine if front else body),
        Part(((-0.86, 0.8), (0.86, 0.8), (0.62, 1.45), (-0.62, 1.45)), paint, body - 1),
        Part(((-0.74, 0.88), (0.74, 0.88), (0.56, 1.37), (-0.56, 1.37)), GLASS, glass),
        *lights,
        Part(_block(-0.26, 0.5, 0.26, 0.62), (0.7, 0.7, 0.66), body),
        Part(((0.45, 0.24), (0.5, 0.24), 0.05), RUBBER, body + 4 if front else 45.0),
    ]


def tree(rng: np.random.Generator, climate: Climate) -> list[Part]:
    height, leaf = rng.uniform(3.5, 6), (0.05, 0.11 * rng.uniform(0.8, 1.3), 0.03)
    crown = [
        ((x, height + y), (x, height + y), r)
        for x, y, r in (
            (0, 0, 1.3),
            (-0.9, -0.5, 0.9),
            (0.9, -0.4, 1.0),
            (0.2, 0.9, 0.9),
            (-0.5, 0.7, 0.8),
        )
    ]
    return [
        Part(((0, 0), (0, height), 0.13), (0.07, 0.05, 0.035), climate.green + 1),
        *(
            Part(shape, tuple(c * rng.uniform(0.7, 1.3) for c in leaf), climate.green)
            for shape in crown
        ),
    ]


def lamp(climate: Climate, side: float) -> list[Part]:
    """A street lamp whose arm reaches over the road."""
    return [
        Part(((0, 0), (0, 5.2), 0.06), (0.12, 0.12, 0.13), climate.metal),
        Part(((0, 5.2), (-side * 0.9, 5.35), 0.05), (0.12, 0.12, 0.13), climate.metal),
        Part(
            ((-side * 0.7, 5.3), (-side * 1.1, 5.3), 0.09),
            (0.5, 0.5, 0.45),
            climate.metal + 6,
            (3.0, 2.5, 1.6),
        ),
    ]
