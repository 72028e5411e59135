"""The structure distance of two pictures: how far their parts are alike in another way.

Tumanyan et al. 2022 (Splice, arXiv 2201.00424, eq. 4), as PIE-Bench (Ju et al. 2024, "PnP
Inversion", arXiv 2310.01506) measures edits by it: the keys of the last block of a DINO ViT, all
heads beside each other; the cosine of each two tokens, the picture's own among them; the mean
squared difference of these tables. PIE-Bench's network is ViT-B/8 on 224 pixels; its tables print
the number times 1,000. Distances of different networks do not compare.

PIE-Bench's own code differs from that in what the network sees: pixels of 0..255 where it was
trained on [0, 1], both before ImageNet's mean and deviation, and a resize without antialiasing
(torchvision's of its time). Ours are [0, 1] and antialiased, as torchvision resizes today;
`published` is that code's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.encoders import dino, vgg


def self_similarity(keys: jax.Array) -> jax.Array:
    """Cosines of each two tokens: (b, n, width) -> (b, n, n) float32 in [-1, 1]."""
    length = jnp.sqrt(jnp.sum(jnp.square(keys), axis=-1))
    products = jnp.maximum(length[:, :, None] * length[:, None, :], 1e-8)
    return keys @ jnp.swapaxes(keys, 1, 2) / products


def structure_distance(
    params: Mapping[str, Any], x: jax.Array, y: jax.Array, published: bool = False
) -> jax.Array:
    """Structure distance of pairs; a pure function, differentiable, symmetric in x and y.

    Args:
      params: of `jaxgen.encoders.dino`.
      x, y: (b, h, w, 3) RGB in [-1, 1], of any size; one that is no square is squeezed into one.
      published: as PIE-Bench's code feeds the network.

    Returns: (b,) float32, 0 for equal pictures.
    """
    side = dino.module_of(params).side
    # A metric is the same number everywhere: GPUs and TPUs would round the factors to fewer bits.
    with jax.default_matmul_precision("float32"):
        seen = _seen(jnp.concatenate([x, y]), side, published)
        a, b = jnp.split(self_similarity(dino.features(params, seen)["keys"]), 2)
    return jnp.mean(jnp.square(a - b), axis=(1, 2))


def picture_distance(
    params: Mapping[str, Any], published: bool = False
) -> Callable[[np.ndarray, np.ndarray], float]:
    """Structure distance of two uint8 pictures (h, w, 3), on the host; compiled per shape."""
    params = jax.device_put(params)
    compiled = jax.jit(lambda params, x, y: structure_distance(params, x, y, published))

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        x, y = (np.asarray(one, np.float32)[None] / 127.5 - 1.0 for one in (a, b))
        return float(compiled(params, x, y)[0])

    return distance


def _seen(x: jax.Array, side: int, published: bool) -> jax.Array:
    """(b, h, w, 3) in [-1, 1] -> (b, side, side, 3), what the network sees."""
    x = x.astype(jnp.float32)
    if x.shape[1:3] != (side, side):
        x = jax.image.resize(
            x, (len(x), side, side, 3), "linear", antialias=not published,
            precision=jax.lax.Precision.HIGHEST,
        )  # fmt: skip
    # In [-1, 1] the levels 0..255 taken for [0, 1] are 2 * level - 1.
    return vgg.prepare((x + 1.0) * 255.0 - 1.0 if published else x)
