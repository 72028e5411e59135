"""XLA's own 2-D convolution and its two gradients, padded on both sides alike as PyTorch pads.

A convolution, its gradient with respect to the input and that with respect to the kernel are each
bilinear, and the derivatives of each are the other two. Shapes below: x (b, h, w, c), kernel
(kh, kw, c / groups, n), the result and its gradient g (b, h', w', n).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Form(NamedTuple):
    """What a convolution is beside its arrays.

    pads: rows above and below, columns on the left and on the right.
    groups: 1, or all channels (depthwise).
    """

    strides: tuple[int, int]
    pads: tuple[int, int]
    groups: int = 1


def conv(xs: list[jax.Array], kernel: jax.Array, form: Form) -> jax.Array:
    """Cross-correlates `xs`, taken as concatenated along channels, with `kernel`."""
    x = xs[0] if len(xs) == 1 else jnp.concatenate(xs, axis=3)
    return lax.conv_general_dilated(
        x,
        kernel,
        form.strides,
        [(pad, pad) for pad in form.pads],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=form.groups,
    )


def input_gradient(g: jax.Array, kernel: jax.Array, form: Form, size: tuple[int, int]) -> jax.Array:
    """d <g, conv(x, kernel)> / dx for a picture of `size`: (b, *size, c)."""
    zero = jnp.zeros((g.shape[0], *size, kernel.shape[2] * form.groups), g.dtype)
    return jax.linear_transpose(lambda x: conv([x], kernel, form), zero)(g)[0]


def kernel_gradient(
    xs: list[jax.Array], g: jax.Array, form: Form, size: tuple[int, int]
) -> jax.Array:
    """d <g, conv(xs, kernel)> / dkernel for a kernel of `size`: (*size, c / groups, n)."""
    channels = sum(x.shape[3] for x in xs)
    zero = jnp.zeros((*size, channels // form.groups, g.shape[3]), g.dtype)
    return jax.linear_transpose(lambda kernel: conv(xs, kernel, form), zero)(g)[0]
