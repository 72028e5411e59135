"""PyTorch's default initial values, for networks that were published with them."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.conv import Conv

# Uniform in +-1/sqrt(fan in): what kaiming_uniform_(a=sqrt(5)) of torch.nn.Linear and Conv2d gives.
TORCH_KERNEL = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


def torch_bias(fan_in: int) -> nn.initializers.Initializer:
    """Uniform in +-1/sqrt(fan_in), the inputs that one output of the layer has."""
    limit = 1.0 / math.sqrt(fan_in)

    def init(rng: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(rng, shape, dtype, -limit, limit)

    return init


def torch_dense(x: jax.Array, features: int, name: str, dtype: Any) -> jax.Array:
    """A dense layer with these initial values, (..., c) -> (..., features); within a module."""
    bias = torch_bias(x.shape[-1])
    return nn.Dense(features, dtype=dtype, kernel_init=TORCH_KERNEL, bias_init=bias, name=name)(x)


def torch_conv(
    x: jax.Array, features: int, kernel: int, name: str, dtype: Any, **settings: Any
) -> jax.Array:
    """A convolution with these initial values, (b, h, w, c) -> (b, h', w', features).

    Within a module. settings: `strides`, `padding`, `use_bias` of `jaxgen.nn.conv.Conv`.
    """
    bias = torch_bias(kernel * kernel * x.shape[-1])
    return Conv(
        features, kernel, dtype=dtype, kernel_init=TORCH_KERNEL, bias_init=bias, name=name,
        **settings,
    )(x)  # fmt: skip
