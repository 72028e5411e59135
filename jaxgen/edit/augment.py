"""Random changes of square views, with the parameters that VQGAN-CLIP's defaults have.

Affine, perspective, colour jitter and erasing, in this order, each with probability 0.7 per view
(nerdyrodent's VQGAN-CLIP on kornia 0.9, whose drawn distributions these are: a translation given as
one number moves along y alone, a shear along x alone; erasing takes one rectangle for all views, or
for none). Both warps are one bilinear reading, so a view is blurred once; pixel centres stay where
they are, where kornia's reading shrinks by a pixel.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

KINDS = ("affine", "perspective", "jitter", "erase")
CHANCE = 0.7
ANGLE = 15.0  # degrees to either side
SHIFT = 0.1  # of the side, along y
SHEAR = 5.0  # degrees, along x
DISTORTION = 0.7  # of half the side: how far a corner moves inwards
JITTER = 0.1  # of brightness, contrast, saturation about 1, of hue in turns about 0
AREA = (0.1, 0.4)  # of a view, erased
RATIO = (0.3, 3.3)  # of its height over its width
_GREY = (0.299, 0.587, 0.114)


def affine(key: jax.Array, side: int) -> jax.Array:
    """(3, 3): from a changed view's pixel (x, y, 1) to the view's own."""
    on, turn, shift, shear = jax.random.split(key, 4)
    angle = _between(turn, -ANGLE, ANGLE) * (math.pi / 180)
    slope = jnp.tan(_between(shear, -SHEAR, SHEAR) * (math.pi / 180))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    # Of what sheared first, then turned about the middle, then moved: the way back.
    linear = jnp.array([[1.0, 0.0], [0.0, 1.0]]) + jnp.array([[0.0, 1.0], [0.0, 0.0]]) * slope
    linear = linear @ jnp.stack([jnp.stack([cos, sin]), jnp.stack([-sin, cos])])
    middle = jnp.full(2, (side - 1) / 2)
    moved = middle + jnp.array([0.0, 1.0]) * _between(shift, -SHIFT, SHIFT) * side
    offset = middle - linear @ moved
    matrix = jnp.concatenate([linear, offset[:, None]], axis=1)
    matrix = jnp.concatenate([matrix, jnp.array([[0.0, 0.0, 1.0]])])
    return jnp.where(_chance(on), matrix, jnp.eye(3))


def perspective(key: jax.Array, side: int) -> jax.Array:
    """(3, 3): as `affine`, in homogeneous coordinates; corners move inwards."""
    on, draw = jax.random.split(key)
    last = side - 1.0
    corners = jnp.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    moves = jax.random.uniform(draw, (4, 2)) * (DISTORTION * side / 2)
    back = _square_of(corners * last + (1 - 2 * corners) * moves)
    scale = jnp.diag(jnp.array([last, last, 1.0]))
    return jnp.where(_chance(on), scale @ back, jnp.eye(3))


def _square_of(corners: jax.Array) -> jax.Array:
    """(3, 3) from a convex quadrangle (4, 2) to the unit square, corners in the same order.

    Heckbert (1989), section 2.2.3: the square's map onto the quadrangle in closed form, and its
    adjugate, which is the inverse as far as homogeneous coordinates go.
    """
    p0, p1, p2, p3 = corners
    u, v, rest = p1 - p2, p3 - p2, p0 - p1 + p2 - p3
    area = u[0] * v[1] - u[1] * v[0]
    g = (rest[0] * v[1] - rest[1] * v[0]) / area
    h = (u[0] * rest[1] - u[1] * rest[0]) / area
    columns = jnp.stack([p1 - p0 + g * p1, p3 - p0 + h * p3, p0], axis=1)
    rows = jnp.concatenate([columns, jnp.stack([g, h, jnp.ones_like(g)])[None]])
    sides = (jnp.cross(rows[1], rows[2]), jnp.cross(rows[2], rows[0]), jnp.cross(rows[0], rows[1]))
    return jnp.stack(sides, axis=1)


def warp(x: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """A view warped by two maps in turn, read once; 0 outside of it.

    Args:
      x: (s, s, c) float.
      first, second: (3, 3), from a warped pixel to the one it shows; what `first` moved out of the
        frame does not come back by `second`.

    Returns: (s, s, c).
    """
    side, channels = x.shape[0], x.shape[2]
    steps = jnp.arange(side, dtype=jnp.float32)
    columns, rows = jnp.meshgrid(steps, steps)
    pixels = jnp.stack([columns.ravel(), rows.ravel(), jnp.ones(side * side)])
    between = _project(second, pixels)
    at = _project(first, jnp.concatenate([between, jnp.ones((1, side * side))]))
    inside = jnp.clip(between + 1, 0, 1) * jnp.clip(side - between, 0, 1)
    share = inside[0] * inside[1]
    low = jnp.floor(at)
    part = at - low
    flat, total = x.reshape(side * side, channels), jnp.zeros((side * side, channels), x.dtype)
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = low[0] + dx, low[1] + dy
            there = (column >= 0) & (column < side) & (row >= 0) & (row < side)
            weight = jnp.abs(1 - dx - part[0]) * jnp.abs(1 - dy - part[1]) * share * there
            index = jnp.where(there, row * side + column, 0).astype(jnp.int32)
            total += flat[index] * weight[:, None]
    return total.reshape(x.shape)


def _project(matrix: jax.Array, points: jax.Array) -> jax.Array:
    """Homogeneous (3, n) -> (2, n), kept within a range whose indices are exact."""
    x, y, depth = matrix @ points
    ahead = depth > 0
    found = jnp.stack([x, y]) / jnp.where(ahead, depth, 1.0)[None]
    return jnp.clip(jnp.where(ahead[None], found, -8.0), -8.0, 8192.0)


def jitter(key: jax.Array, order: jax.Array, x: jax.Array) -> jax.Array:
    """Brightness, contrast, saturation and hue changed a little.

    Args:
      order: (4,) int32 permutation, in which they come.
      x: (s, s, 3), about [0, 1].
    """
    on, *draws = jax.random.split(key, 5)
    factors = [1 + _between(draw, -JITTER, JITTER) for draw in draws]
    changes = [
        lambda x: jnp.clip(x * factors[0], 0, 1),
        lambda x: jnp.clip(_towards(_grey(x).mean()[None, None, None], x, factors[1]), 0, 1),
        lambda x: jnp.clip(_towards(_grey(x), x, factors[2]), 0, 1),
        lambda x: _turn_hue(x, factors[3] - 1),
    ]
    changed = x
    for place in range(4):
        changed = jax.lax.switch(order[place], changes, changed)
    return jnp.where(_chance(on), changed, x)


def _grey(x: jax.Array) -> jax.Array:
    return (x * jnp.array(_GREY)[None, None]).sum(-1, keepdims=True)


def _towards(base: jax.Array, x: jax.Array, factor: jax.Array) -> jax.Array:
    base = jnp.broadcast_to(base, x.shape)
    return base + (x - base) * factor


def _turn_hue(x: jax.Array, turns: jax.Array) -> jax.Array:
    """The colour circle turned, value and chroma kept (hexcone of HSV)."""
    r, g, b = x[..., 0], x[..., 1], x[..., 2]
    value = x.max(-1)
    chroma = value - x.min(-1)
    divisor = jnp.where(chroma > 0, chroma, 1.0)  # grey has no hue, and needs none
    sector = jnp.where(
        value == r,
        (g - b) / divisor,
        jnp.where(value == g, 2 + (b - r) / divisor, 4 + (r - g) / divisor),
    )
    offsets = [(n + sector + 6 * turns) % 6 for n in (5, 3, 1)]
    return jnp.stack([value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1) for k in offsets], -1)


def erase(key: jax.Array, side: int) -> jax.Array:
    """(side, side) float32: 0 in a random rectangle, 1 elsewhere."""
    on, area, which, ratio, left, top = jax.random.split(key, 6)
    pixels = _between(area, *AREA) * side**2
    # Tall and wide ones are equally likely.
    low = jnp.where(jax.random.bernoulli(which), RATIO[0], 1.0)
    high = jnp.where(low < 1, 1.0, RATIO[1])
    slope = low + (high - low) * jax.random.uniform(ratio)
    height = jnp.clip(jnp.round(jnp.sqrt(pixels * slope)), 1, side)
    width = jnp.clip(jnp.round(jnp.sqrt(pixels / slope)), 1, side)
    x = jnp.floor(jax.random.uniform(left) * (side - width + 1))
    y = jnp.floor(jax.random.uniform(top) * (side - height + 1))
    steps = jnp.arange(side, dtype=jnp.float32)
    rows, columns = (steps >= y) & (steps < y + height), (steps >= x) & (steps < x + width)
    return 1.0 - (rows[:, None] & columns[None] & _chance(on))


def _chance(key: jax.Array) -> jax.Array:
    return jax.random.bernoulli(key, CHANCE)


def _between(key: jax.Array, low: float, high: float) -> jax.Array:
    return jax.random.uniform(key, minval=low, maxval=high)
