"""Views of one picture as CLIP judges it by: many, random, in bounded memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxgen.edit import augment
from jaxgen.edit.clamp import clamp_with_gradient
from jaxgen.edit.resample import resample_boxes

STYLES = ("crops", "pooled")


@dataclasses.dataclass(frozen=True)
class Cutouts:
    """How views are made.

    size: their side, as the judge takes it.
    count: of them.
    style: crops: random squares of at least `size` where the picture has them (Crowson's
      notebooks); pooled: the whole picture, mean and maximum of its regions halved
      (nerdyrodent's "latest").
    power: of crops: above 1 smaller ones, below 1 larger ones.
    changes: of `augment.KINDS`; they come in that order.
    noise: standard deviation of the noise, at most; each view's is uniform below it.
    chunk: views that are computed at once. Memory grows with it; results don't change, but for
      rounding.
    """

    size: int = 224
    count: int = 32
    style: str = "pooled"
    power: float = 1.0
    changes: tuple[str, ...] = augment.KINDS
    noise: float = 0.1
    chunk: int = 32

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ValueError(f"style {self.style!r} is none of {STYLES}")
        if unknown := set(self.changes) - set(augment.KINDS):
            raise ValueError(f"changes {sorted(unknown)} are none of {augment.KINDS}")


def features(
    cutouts: Cutouts,
    judge: Callable[[jax.Array], jax.Array],
    x: jax.Array,
    key: jax.Array,
    mesh: Mesh | None = None,
) -> jax.Array:
    """Features of a picture's views; if they are several chunks, its gradient computes each again.

    Args:
      judge: pictures (b, size, size, c) about [-1, 1] -> (b, d).
      x: (h, w, c) in [0, 1].
      key: all randomness comes from it, that of view i whatever count and chunk are.
      mesh: of one axis, "batch": each of its devices sees its share of the views.

    Returns: (count, d).
    """
    if mesh is None or mesh.size == 1:
        return _features(cutouts, judge, x, key, jnp.arange(cutouts.count))
    # As many for each device; those beyond the count are left out again.
    indices = jnp.arange(-(-cutouts.count // mesh.size) * mesh.size)

    def share(x: jax.Array, key: jax.Array, indices: jax.Array) -> jax.Array:
        return _features(cutouts, judge, x, key, indices)

    split = jax.shard_map(
        share, mesh=mesh, in_specs=(P(), P(), P("batch")), out_specs=P("batch"), check_vma=False
    )
    return split(x, key, indices)[: cutouts.count]


def _features(
    cutouts: Cutouts,
    judge: Callable[[jax.Array], jax.Array],
    x: jax.Array,
    key: jax.Array,
    indices: jax.Array,
) -> jax.Array:
    """Features of the views of these numbers."""
    shared, own = jax.random.split(key)
    order, rectangle = jax.random.split(shared)
    base = pooled(x, cutouts.size) if cutouts.style == "pooled" else x
    order = jax.random.permutation(order, 4)
    kept = augment.erase(rectangle, cutouts.size)

    def view(index: jax.Array) -> jax.Array:
        crop, change, noise = jax.random.split(jax.random.fold_in(own, index), 3)
        seen = base
        if cutouts.style == "crops":
            boxes = draw_boxes(crop, 1, (x.shape[0], x.shape[1]), cutouts.size, cutouts.power)
            seen = clamp_with_gradient(resample_boxes(x, *boxes, cutouts.size))[0]
        seen = _change(cutouts, change, order, kept, seen)
        if cutouts.noise:
            level, grain = jax.random.split(noise)
            level = jax.random.uniform(level, maxval=cutouts.noise)
            seen += level * jax.random.normal(grain, seen.shape)
        return seen

    def judged(indices: jax.Array) -> jax.Array:
        return judge(jax.vmap(view)(indices) * 2 - 1)

    count = len(indices)
    chunk = min(cutouts.chunk, count)
    if chunk == count:
        return judged(indices)
    judged = jax.checkpoint(judged)
    whole = count // chunk * chunk
    found = jax.lax.map(judged, indices[:whole].reshape(-1, chunk))
    found = found.reshape(whole, found.shape[-1])
    if whole < count:
        found = jnp.concatenate([found, judged(indices[whole:])])
    return found


def _change(
    cutouts: Cutouts, key: jax.Array, order: jax.Array, kept: jax.Array, view: jax.Array
) -> jax.Array:
    """`view` (s, s, c) after the changes that are asked for."""
    shape, turn, colour = jax.random.split(key, 3)
    if {"affine", "perspective"} & set(cutouts.changes):
        still = jnp.eye(3)
        first = augment.affine(shape, cutouts.size) if "affine" in cutouts.changes else still
        far = "perspective" in cutouts.changes
        second = augment.perspective(turn, cutouts.size) if far else still
        view = augment.warp(view, first, second)
    if "jitter" in cutouts.changes:
        view = augment.jitter(colour, order, view)
    if "erase" in cutouts.changes:
        view *= kept[..., None]
    return view


def draw_boxes(
    key: jax.Array, count: int, sides: tuple[int, int], size: int, power: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(tops, lefts, sides), each (count,) int32, of random squares of a picture of `sides`."""
    scale, top, left = jax.random.split(key, 3)
    squares = box_sides(jax.random.uniform(scale, (count,)), sides, size, power)
    tops = jax.random.randint(top, (count,), 0, sides[0] - squares + 1)
    lefts = jax.random.randint(left, (count,), 0, sides[1] - squares + 1)
    return tops, lefts, squares


def box_sides(uniforms: jax.Array, sides: tuple[int, int], size: int, power: float) -> jax.Array:
    """Sides of crops of numbers in [0, 1): from min(size, short side) to below the short side."""
    most = min(sides)
    least = min(most, size)
    return jnp.floor(uniforms**power * (most - least) + least).astype(jnp.int32)


def pooled(x: jax.Array, size: int) -> jax.Array:
    """(h, w, c) -> (size, size, c): mean and maximum of each of size x size regions, halved."""
    rows, columns = _means(x.shape[0], size), _means(x.shape[1], size)
    mean = jnp.einsum("yh,hwc,xw->yxc", rows, x, columns)
    peak = x[_regions(x.shape[0], size)].max(axis=1)
    peak = peak[:, _regions(x.shape[1], size)].max(axis=2)
    return (mean + peak) / 2


def _edges(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First and one after the last of each region, as PyTorch's adaptive pooling has them."""
    index = np.arange(size)
    return index * length // size, -(-(index + 1) * length // size)


def _regions(length: int, size: int) -> np.ndarray:
    """(size, longest): the places of each region, its last one repeated."""
    first, end = _edges(length, size)
    places = first[:, None] + np.arange((end - first).max())[None]
    return np.minimum(places, end[:, None] - 1)


def _means(length: int, size: int) -> jax.Array:
    """(size, length): each region's mean."""
    first, end = _edges(length, size)
    places = np.arange(length)[None]
    inside = (places >= first[:, None]) & (places < end[:, None])
    return jnp.asarray(inside / (end - first)[:, None], jnp.float32)
