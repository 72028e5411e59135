"""What the denoisers are built of: residual block, transformer block.

Layer order and epsilons are those of CompVis's latent diffusion, so that published weights fit.
Layers that end a residual branch begin at zero, as published: a fresh block is the identity.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.control import Control, Layer, attend, residual
from jaxgen.nn.conv import Conv
from jaxgen.nn.unet_blocks import Norm

ZEROS = nn.initializers.zeros
# float32 whatever the dtype of the rest.
LayerNorm = partial(nn.LayerNorm, epsilon=1e-5, dtype=jnp.float32)


def attended(net: Any, context: jax.Array | None) -> jax.Array | None:
    """The context in a denoiser's dtype.

    Raises: ValueError: there is none and `net.context` is not 0, or the other way round.
    """
    if (context is None) != (net.context == 0):
        raise ValueError(f"a {type(net).__name__} with context={net.context} was given {context}")
    return None if context is None else context.astype(net.dtype)


class TimedResnetBlock(nn.Module):
    """(b, h, w, c) -> (b, h, w, features): norm, swish, 3x3 convolution, plus the time, and again.

    Attributes:
      features: channels out; where the input has others, a 1x1 convolution brings it there.
      groups: of the normalisation, whose epsilon is 1e-5.
      dropout: rate before the second convolution, in training.
      dtype: of the computation.
    """

    features: int
    groups: int = 32
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        time: jax.Array,
        train: bool = False,
        layer: Layer | None = None,
        control: Control | None = None,
    ) -> jax.Array:
        """time: (b, e) float32. control: see `jaxgen.nn.control`; called with `layer`."""
        norm = partial(Norm, self.groups, 1e-5, self.dtype)
        y = nn.swish(norm(name="norm1")(x))
        y = Conv(self.features, 3, dtype=self.dtype, name="conv1")(y)
        shift = nn.Dense(self.features, dtype=self.dtype, name="time")(nn.silu(time))
        y = nn.swish(norm(name="norm2")(y + shift[:, None, None]))
        if self.dropout:
            y = nn.Dropout(self.dropout, deterministic=not train)(y)
        y = Conv(self.features, 3, dtype=self.dtype, kernel_init=ZEROS, name="conv2")(y)
        if x.shape[-1] != self.features:
            x = Conv(self.features, 1, dtype=self.dtype, name="shortcut")(x)
        return x + (y if layer is None else residual(self, control, layer, y))


class Attention(nn.Module):
    """Attention of x (b, n, c) to itself or to a context (b, m, d), heads side by side.

    Attributes: heads: c is a multiple of them. bias: of q, k and v. zero: the result begins as
      zeros. dtype: of the computation; the softmax is float32.
    """

    heads: int
    bias: bool = False
    zero: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        layer: Layer,
        context: jax.Array | None = None,
        mask: jax.Array | None = None,
        control: Control | None = None,
    ) -> jax.Array:
        """mask (b, m): which of the context counts -> (b, n, c)."""
        source = x if context is None else context
        width = x.shape[-1]

        def split(x: jax.Array, name: str) -> jax.Array:
            y = nn.Dense(width, use_bias=self.bias, dtype=self.dtype, name=name)(x)
            return y.reshape(*y.shape[:2], self.heads, -1)

        q, k, v = split(x, "to_q"), split(source, "to_k"), split(source, "to_v")
        y = attend(self, control, layer, q, k, v, mask).reshape(x.shape)
        init = ZEROS if self.zero else nn.initializers.lecun_normal()
        return nn.Dense(width, dtype=self.dtype, kernel_init=init, name="to_out")(y)


class TransformerBlock(nn.Module):
    """Self-attention, attention to the context, gated MLP; each after a norm, and added.

    Attributes: heads: of both. dtype: of the computation; norms and softmax are float32.
    """

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        layers: tuple[Layer, ...],
        context: jax.Array | None = None,
        mask: jax.Array | None = None,
        control: Control | None = None,
    ) -> jax.Array:
        """x (b, n, c), context (b, m, d) or None: there is no second attention. layers: of both."""
        width = x.shape[-1]

        def normed(name: str) -> jax.Array:
            return LayerNorm(name=name)(x).astype(self.dtype)

        attention = partial(Attention, self.heads, dtype=self.dtype)
        x = x + attention(name="attn1")(normed("norm1"), layers[0], control=control)
        if context is not None:
            y = normed("norm2")
            x = x + attention(name="attn2")(y, layers[1], context, mask, control)
        y = nn.Dense(8 * width, dtype=self.dtype, name="ff_in")(normed("norm3"))
        y, gate = jnp.split(y, 2, axis=-1)
        y = y * nn.gelu(gate, approximate=False)
        return x + nn.Dense(width, dtype=self.dtype, name="ff_out")(y)


class SpatialTransformer(nn.Module):
    """Transformer blocks over a map's places, (b, h, w, c) -> the same, plus the input.

    Attributes:
      heads: of attention.
      depth: transformer blocks.
      linear: whether the layers in and out are dense (SD 2) or 1x1 convolutions (SD 1): the same
        computation, but other shapes of their kernels.
      groups: of the normalisation, whose epsilon is 1e-6.
      dtype: of the computation.
    """

    heads: int
    depth: int = 1
    linear: bool = False
    groups: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        layers: tuple[Layer, ...],
        context: jax.Array | None = None,
        mask: jax.Array | None = None,
        control: Control | None = None,
    ) -> jax.Array:
        """layers: of all blocks' attentions, in their order."""
        b, h, w, c = x.shape

        def project(y: jax.Array, name: str, init: Any) -> jax.Array:
            if self.linear:
                return nn.Dense(c, dtype=self.dtype, kernel_init=init, name=name)(y)
            return Conv(c, 1, dtype=self.dtype, kernel_init=init, name=name)(y)

        y = Norm(self.groups, 1e-6, self.dtype, name="norm")(x)
        y = project(y, "proj_in", nn.initializers.lecun_normal()).reshape(b, h * w, c)
        each = len(layers) // self.depth
        for i in range(self.depth):
            block = TransformerBlock(self.heads, self.dtype, name=f"block_{i}")
            y = block(y, layers[i * each : (i + 1) * each], context, mask, control)
        return x + project(y.reshape(b, h, w, c), "proj_out", ZEROS)
