"""2-D convolution with PyTorch's padding: what networks are built of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.cpu.conv import convolve
from jaxgen.nn.plain_conv import Form


def conv2d(
    x: jax.Array | Sequence[jax.Array],
    kernel: jax.Array,
    strides: int | tuple[int, int] = 1,
    padding: str | int | tuple[int, int] = "SAME",
) -> jax.Array:
    """Cross-correlates `x` (b, h, w, c) with `kernel` (kh, kw, c, n); returns (b, h', w', n).

    x: or several arrays, taken as concatenated along channels. On CPUs that is faster than the
      concatenation for layers that share inputs, as in dense blocks.
    padding: "SAME" pads k//2 on each side for every stride, as PyTorch's `padding=k//2` does
      (XLA's own SAME pads less at the top than at the bottom for stride 2); "VALID" pads nothing;
      a number or a pair (rows, columns) pads that much on each side.

    Differentiable any number of times in reverse mode; it has no forward mode (`jax.jvp`).
    """
    if padding == "SAME":
        pads = (kernel.shape[0] // 2, kernel.shape[1] // 2)
    elif padding == "VALID":
        pads = (0, 0)
    elif isinstance(padding, str):
        raise ValueError(f"padding must be SAME, VALID or numbers, not {padding!r}")
    else:
        pads = _pair(padding)
    # `plain_conv.conv` computes the same, by XLA's convolution everywhere.
    return convolve(_listed(x), kernel, Form(_pair(strides), pads))


def _listed(x: jax.Array | Sequence[jax.Array]) -> list[jax.Array]:
    """One array or several (a list or tuple) as a list."""
    return cast(list[jax.Array], list(x) if isinstance(x, list | tuple) else [x])


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


class Conv(nn.Module):
    """Convolution layer, (b, h, w, c) -> (b, h', w', features). Parameters: kernel (HWIO), bias.

    padding: as in `conv2d`: "SAME" is PyTorch's symmetric k//2. Called with several arrays it takes
    them as concatenated along channels.
    """

    features: int
    kernel_size: int
    strides: int = 1
    padding: str | int = "SAME"
    use_bias: bool = True
    dtype: jnp.dtype | None = None
    param_dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array | Sequence[jax.Array]) -> jax.Array:
        k = self.kernel_size
        xs = _listed(x)
        shape = (k, k, sum(x.shape[-1] for x in xs), self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        kernel, bias, *xs = nn.dtypes.promote_dtype(kernel, bias, *xs, dtype=self.dtype)
        y = conv2d(xs, kernel, self.strides, self.padding)
        return y if bias is None else y + bias.reshape(1, 1, 1, -1)
