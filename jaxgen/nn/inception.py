"""Inception-ResNet's parts (Szegedy et al. 2016): parallel branches of convolutions, concatenated.

A branch is a tuple of steps, one after the other; a module is a tuple of branches. Such tables
describe the encoder (`jaxgen.encoders.inception_resnet_v2`) and SRGAN's inception blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.conv import conv2d
from jaxgen.nn.pool import max_pool


class Step(NamedTuple):
    """A convolution with BatchNorm and ReLU: channels, kernel (square, or rows x columns)."""

    channels: int
    kernel: int | tuple[int, int]
    stride: int = 1
    padding: str = "SAME"


# A step may also be one of these: 3x3 average with stride 1 over the pixels that exist, 3x3
# maximum with stride 2 and no padding.
AVG_POOL, MAX_POOL = "avg_pool", "max_pool"
Branch = tuple[Step | str, ...]

# Inception-ResNet-A. Keras calls it block35, for the 35x35 pixels of its features.
BLOCK35: tuple[Branch, ...] = (
    (Step(32, 1),),
    (Step(32, 1), Step(32, 3)),
    (Step(32, 1), Step(48, 3), Step(64, 3)),
)
BLOCK35_SCALE = 0.17


def step_names(branches: tuple[Branch, ...]) -> tuple[tuple[str, Step], ...]:
    """Names of the convolutions in the order of computation.

    "branch0" where a branch is one convolution and nothing else, else "branch1_0", "branch1_1",
    ... by the step's place, pools counted (as the PyTorch port counts).
    """
    return tuple(
        (f"branch{b}" if len(branch) == 1 else f"branch{b}_{i}", step)
        for b, branch in enumerate(branches)
        for i, step in enumerate(branch)
        if isinstance(step, Step)
    )


def widened(channels: int, width: float) -> int:
    """Channels at a width factor, one at least."""
    return max(1, round(channels * width))


class ConvNorm(nn.Module):
    """Convolution without bias, then BatchNorm: Keras' conv2d_bn without its activation.

    Attributes:
      step: channels (before `width`), kernel, stride, padding.
      width: factor on the channels.
      gain: whether BatchNorm has a gain; Keras' has none (scale=False), the PyTorch port's has.
      momentum, epsilon: BatchNorm's; Keras' default and the paper's code: 0.99, 1e-3.
      kernel_init: of the convolution.
      dtype: of the computation; parameters are float32.
    """

    step: Step
    width: float = 1.0
    gain: bool = True
    momentum: float = 0.99
    epsilon: float = 1e-3
    kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x (b, h, w, c) -> (b, h', w', channels), before any activation."""
        channels, kernel, stride, padding = self.step
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        shape = (rows, columns, x.shape[-1], widened(channels, self.width))
        weights = self.param("kernel", self.kernel_init, shape)
        y = conv2d(x.astype(self.dtype), weights.astype(self.dtype), stride, padding)
        return nn.BatchNorm(
            not train,
            momentum=self.momentum,
            epsilon=self.epsilon,
            use_scale=self.gain,
            dtype=self.dtype,
            name="norm",
        )(y)


class Branches(nn.Module):
    """Parallel branches on one input, concatenated along the channels.

    Attributes:
      branches: the table.
      conv: makes the convolutions: `ConvNorm`, or a partial of it.
    """

    branches: tuple[Branch, ...]
    conv: Callable[..., ConvNorm] = ConvNorm

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x (b, h, w, c) -> (b, h', w', sum of the branches' last channels)."""
        return _join(x, self.branches, self.conv, train)


class ResidualBranches(nn.Module):
    """x + scale * (1x1 convolution of the branches), then ReLU: an Inception-ResNet block.

    Small residual scales keep wide residual networks from dying (paper, section 3.3).

    Attributes:
      branches: e.g. `BLOCK35`.
      scale: of the residual.
      conv: makes the branches' convolutions: `ConvNorm`, or a partial of it.
      kernel_init: of the last convolution, which is linear, with bias.
      dtype: of the computation.
    """

    branches: tuple[Branch, ...]
    scale: float
    conv: Callable[..., ConvNorm] = ConvNorm
    kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x (b, h, w, c) -> the same shape, before the last ReLU, which is the caller's."""
        y = _join(x, self.branches, self.conv, train)
        kernel = self.param("kernel", self.kernel_init, (1, 1, y.shape[-1], x.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        y = conv2d(y, kernel.astype(self.dtype)) + bias.astype(self.dtype).reshape(1, 1, 1, -1)
        return x + self.scale * y


def _join(
    x: jax.Array, branches: tuple[Branch, ...], conv: Callable[..., ConvNorm], train: bool
) -> jax.Array:
    """Runs the branches on x and concatenates them; to be called inside a compact module."""
    names = iter(step_names(branches))
    ends = []
    for branch in branches:
        y = x
        for step in branch:
            if isinstance(step, Step):
                y = nn.relu(conv(step, name=next(names)[0])(y, train))
            else:
                y = pool(y, step)
        ends.append(y)
    return jnp.concatenate(ends, axis=-1)


def pool(x: jax.Array, kind: str) -> jax.Array:
    """AVG_POOL: (b, h, w, c) -> the same shape; MAX_POOL: (b, (h-3)//2+1, (w-3)//2+1, c)."""
    if kind == MAX_POOL:
        return max_pool(x, 3, 2)
    return nn.avg_pool(x, (3, 3), strides=(1, 1), padding="SAME", count_include_pad=False)
