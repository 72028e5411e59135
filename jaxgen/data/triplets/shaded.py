"""The second renderer of CSS's scenes: shaded bodies on a plane, seen from above at an angle.

It stands in for the published set's Blender pictures, which nobody can make again: cubes, spheres
and cylinders that hide one another, lit from one side. Camera and light differ a little from
picture to picture, so that two pictures of one scene are never equal. Each pixel's ray is met with
each body in closed form.
"""

from __future__ import annotations

import numpy as np

from jaxgen.data.triplets.css2d import COLOURS
from jaxgen.data.triplets.scenes import Scene

RADIUS = {"small": 0.17, "large": 0.3}  # of a body; cells are 1 apart
_FAR = 1e9
_AMBIENT = 0.45
_GROUND = 0.72


def draw(scene: Scene, rng: np.random.Generator, size: int = 64) -> np.ndarray:
    """The picture: uint8 (size, size, 3). `rng` moves the camera, the light and the bodies."""
    turn, height, near = rng.uniform(-0.12, 0.12), rng.uniform(2.7, 3.1), rng.uniform(3.1, 3.4)
    eye = np.array([near * np.sin(turn), -near * np.cos(turn), height])
    rays = _rays(eye, size)
    light = np.array([rng.uniform(-0.7, -0.3), rng.uniform(-0.7, -0.3), 1.0])
    light /= np.linalg.norm(light)

    down = -eye[2] / np.minimum(rays[..., 2], -1e-6)
    ground = eye + down[..., None] * rays
    shade = _GROUND - 0.06 * np.hypot(ground[..., 0], ground[..., 1])
    picture = np.clip(shade, 0, 1)[..., None] * np.ones(3)
    depth = np.full(rays.shape[:2], _FAR)
    for thing in scene:
        shift, spin = rng.uniform(-0.05, 0.05, 2), rng.uniform(0, np.pi / 2)
        centre = np.array([thing.cell % 3 - 1 + shift[0], 1 - thing.cell // 3 + shift[1], 0.0])
        picture *= 1 - 0.25 * _shadow(ground, centre, RADIUS[thing.size], depth)[..., None]
        distance, normal = _MEET[thing.shape](eye - centre, rays, RADIUS[thing.size], spin)
        seen = distance < depth
        lit = _AMBIENT + (1 - _AMBIENT) * np.clip(normal @ light, 0, 1)
        colour = np.array(COLOURS[thing.colour]) / 255.0
        picture = np.where(seen[..., None], lit[..., None] * colour, picture)
        depth = np.where(seen, distance, depth)
    return np.floor(np.clip(picture, 0, 1) * 255.0 + 0.5).astype(np.uint8)


def _rays(eye: np.ndarray, size: int) -> np.ndarray:
    """(size, size, 3): each pixel's direction, towards the grid's middle."""
    forward = np.array([0.0, 0.05, 0.0]) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    steps = (2 * (np.arange(size) + 0.5) / size - 1) * 0.38
    rays = forward + steps[None, :, None] * right - steps[:, None, None] * up
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def _shadow(ground: np.ndarray, centre: np.ndarray, radius: float, depth: np.ndarray):
    """(n, n) in [0, 1]: how much of the light a body takes from the bare ground around it."""
    away = np.hypot(
        ground[..., 0] - centre[0] - 0.4 * radius, ground[..., 1] - centre[1] - 0.4 * radius
    )
    return np.clip(1.5 - away / radius, 0, 1) * (depth >= _FAR)


def _sphere(eye, rays, radius, spin):
    """Distances (n, n), _FAR where a ray misses, and normals (n, n, 3); as all of these."""
    del spin
    start = eye - np.array([0.0, 0.0, radius])
    along = rays @ start
    inside = along**2 - (start @ start - radius**2)
    distance = np.where(inside >= 0, -along - np.sqrt(np.maximum(inside, 0)), _FAR)
    return distance, (start + distance[..., None] * rays) / radius


def _box(eye, rays, radius, spin):
    half = 0.85 * radius
    cos, sin = np.cos(spin), np.sin(spin)
    turned = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    start, ways = turned @ (eye - np.array([0.0, 0.0, half])), rays @ turned.T
    ways = np.where(np.abs(ways) < 1e-9, 1e-9, ways)
    first, second = (-half - start) / ways, (half - start) / ways
    enter = np.minimum(first, second)
    distance, leave = enter.max(axis=-1), np.maximum(first, second).min(axis=-1)
    side = np.eye(3)[enter.argmax(axis=-1)] * -np.sign(ways)
    return np.where((distance < leave) & (distance > 0), distance, _FAR), side @ turned


def _cylinder(eye, rays, radius, spin):
    del spin
    wide, tall = 0.9 * radius, 1.8 * radius
    a = np.maximum((rays[..., :2] ** 2).sum(-1), 1e-9)
    b = rays[..., :2] @ eye[:2]
    inside = b**2 - a * (eye[:2] @ eye[:2] - wide**2)
    wall = (-b - np.sqrt(np.maximum(inside, 0))) / a
    z = eye[2] + wall * rays[..., 2]
    wall = np.where((inside >= 0) & (z >= 0) & (z <= tall), wall, _FAR)
    top = (tall - eye[2]) / np.minimum(rays[..., 2], -1e-6)
    place = eye[:2] + top[..., None] * rays[..., :2]
    top = np.where((place**2).sum(-1) <= wide**2, top, _FAR)
    out = eye + wall[..., None] * rays
    round_ = np.concatenate([out[..., :2] / wide, np.zeros_like(out[..., :1])], axis=-1)
    normal = np.where((top < wall)[..., None], np.array([0.0, 0.0, 1.0]), round_)
    return np.minimum(top, wall), normal


_MEET = {"rectangle": _box, "circle": _sphere, "triangle": _cylinder}
