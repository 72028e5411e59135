"""The true receptive field of a verb, found from its gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.verbs.upscale.contract import Upscale


def lively(shapes, seed=0):
    """Random variables of these shapes, in which no gate is shut and nothing saturates.

    Kernels keep the size of what goes through them; variances and scales are near one.
    """
    rng = np.random.default_rng(seed)

    def draw(path, a):
        if not jnp.issubdtype(a.dtype, jnp.floating):
            return jnp.zeros(a.shape, a.dtype)
        name = str(getattr(path[-1], "key", path[-1]))
        noise = rng.normal(size=a.shape)
        if len(a.shape) > 1:
            noise /= np.sqrt(np.prod(a.shape[:-1]))
        else:
            noise = (1.0 if name in ("scale", "var") else 0.0) + 0.1 * noise
        return jnp.asarray(noise, a.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def true_radius(verb: Upscale, nets, limit: int = 600, channels: int = 3) -> int:
    """How far, in low-resolution pixels, any output pixel looks along either axis.

    The picture is a narrow strip, so that a radius of hundreds costs little; the gradient of the
    pixels in its middle is not zero exactly where they look. The strip grows until that is well
    inside. With `multiple` m, the middle takes all m phases.
    """
    return max(_reach(verb, nets, axis, limit, channels) for axis in (0, 1))


def _reach(verb: Upscale, nets, axis: int, limit: int, channels: int) -> int:
    m, s = verb.multiple, verb.scale
    narrow = -(-8 // m) * m
    half = -(-(verb.radius + 4) // m) * m
    rng = np.random.default_rng(axis)
    while True:
        length = 2 * half + m
        shape = (length, narrow) if axis == 0 else (narrow, length)
        x = jnp.asarray(rng.uniform(-0.5, 0.5, (1, *shape, channels)), jnp.float32)
        y = jax.eval_shape(verb.apply, nets, x, None)
        assert y.shape[:3] == (1, s * shape[0], s * shape[1])
        pull = jax.jit(
            lambda x, weights: jax.vjp(lambda x: verb.apply(nets, x, None), x)[1](weights)[0]
        )
        reach = 0
        for place in range(half, half + m):
            weights = np.zeros(y.shape, np.float32)
            rows = slice(place * s, (place + 1) * s)
            part = weights[:, rows] if axis == 0 else weights[:, :, rows]
            part[...] = rng.normal(size=part.shape)
            gradient = np.asarray(pull(x, jnp.asarray(weights, y.dtype)))
            seen = np.abs(gradient).max(axis=(0, 2 - axis, 3)) > 0
            looked = np.flatnonzero(seen)
            assert looked.size, "no gradient at all: saturated, or all gates closed"
            reach = max(reach, place - int(looked[0]), int(looked[-1]) - place)
        if reach < half - 1:
            return reach
        half *= 2
        assert half <= limit, f"an output pixel looks further than {limit} pixels"
