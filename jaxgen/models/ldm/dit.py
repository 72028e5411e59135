"""DiT (Peebles & Xie, ICCV 2023): a transformer over patches, in place of a UNet.

Published, by class (1,000 and none), for latents of 4 with the variance learned (8 channels out):

    S/2: 12 layers of 384, 6 heads; 32,865,056 parameters
    B/2: 12 layers of 768, 12 heads; 130,315,808
    XL/2: 28 layers of 1152, 16 heads; 674,834,720

as the layers of its code make them; its fixed table of positions, which it also counts, is no
parameter here.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.errors import UserError
from jaxgen.models.ldm.blocks import ZEROS, Attention, attended
from jaxgen.nn.control import Control, Layer
from jaxgen.nn.time_embedding import TimeEmbedding

SINES = 256  # width of the time's sinusoid
_XAVIER = nn.initializers.xavier_uniform()
# Scale and shift are those of adaLN.
_Norm = partial(nn.LayerNorm, epsilon=1e-6, use_bias=False, use_scale=False, dtype=jnp.float32)


class DiT(nn.Module):
    """A noisy picture or latent and its time -> what the training's target is.

    Called as `jaxgen.models.ldm.unet.UNet` is, with the same arguments.

    Attributes:
      out: channels of the result.
      width: of the features, a multiple of `heads` and of 4.
      layers: transformer blocks.
      heads: of attention.
      patch: side of the pixels or latents that become one place.
      context: width of the vectors that are attended to (a text's tokens); 0: none.
      classes: of pictures, for a condition by class; 0: none.
      pooled: width of one vector for the whole picture (a sentence's); 0: none.
      remat: compute blocks anew in the backward pass, for less memory.
      dtype: of the computation; norms, softmax and time embedding are float32.
    """

    out: int = 4
    width: int = 384
    layers: int = 12
    heads: int = 6
    patch: int = 2
    context: int = 0
    classes: int = 0
    pooled: int = 0
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        t: jax.Array,
        context: jax.Array | None = None,
        mask: jax.Array | None = None,
        label: jax.Array | None = None,
        *,
        control: Control | None = None,
        train: bool = False,
    ) -> jax.Array:
        """(b, h, w, c) -> (b, h, w, out) float32; h and w any multiples of `patch`.

        Args: as of `UNet`; `train` changes nothing.
        """
        del train
        context = attended(self, context)
        time = TimeEmbedding(SINES, self.width, self.classes, self.pooled, name="time_embed")
        given = nn.silu(time(t, label))
        b, h, w, _ = x.shape
        rows, columns = h // self.patch, w // self.patch
        dense = partial(nn.Dense, dtype=self.dtype)
        y = dense(self.width, kernel_init=_XAVIER, name="patches")(_patches(x, self.patch))
        y = (y + positions(rows, columns, self.width)[None]).astype(self.dtype)
        block = nn.remat(Block, static_argnums=(5, 6)) if self.remat and not control else Block
        kinds = ("self",) if context is None else ("self", "cross")
        for i in range(self.layers):
            layers = tuple(
                Layer(f"block_{i}/attn{n}", len(kinds) * i + n - 1, kind, "mid", (rows, columns))
                for n, kind in enumerate(kinds, start=1)
            )
            made: Any = block(self.heads, dtype=self.dtype, name=f"block_{i}")
            y = made(y, given, context, mask, layers, control)
        shift, scale = _modulation(given, 2, self.width, "out_modulation")
        y = (_Norm(name="norm_out")(y) * (1 + scale) + shift).astype(self.dtype)
        y = dense(self.patch**2 * self.out, kernel_init=ZEROS, name="out")(y)
        y = y.reshape(b, rows, columns, self.patch, self.patch, self.out)
        return y.transpose(0, 1, 3, 2, 4, 5).reshape(b, h, w, self.out).astype(jnp.float32)


class Block(nn.Module):
    """Self-attention, attention to the context, MLP; the time scales, shifts and gates them.

    The attention to the context, where there is one, is added as it is (PixArt, Chen et al. 2023).
    A fresh block is the identity (adaLN-zero).

    Attributes: heads: of attention. dtype: of the computation; norms and softmax are float32.
    """

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        given: jax.Array,
        context: jax.Array | None,
        mask: jax.Array | None,
        layers: tuple[Layer, ...],
        control: Control | None = None,
    ) -> jax.Array:
        """x (b, n, c), given (b, c) float32 -> (b, n, c)."""
        width = x.shape[-1]
        parts = _modulation(given, 6, width, "modulation")
        attention = partial(Attention, self.heads, bias=True, dtype=self.dtype)
        dense = partial(nn.Dense, dtype=self.dtype, kernel_init=_XAVIER)

        def normed(name: str, shift: jax.Array, scale: jax.Array) -> jax.Array:
            return (_Norm(name=name)(x) * (1 + scale) + shift).astype(self.dtype)

        y = attention(name="attn1")(normed("norm1", *parts[:2]), layers[0], control=control)
        x = x + (parts[2] * y).astype(self.dtype)
        if context is not None:
            cross = attention(zero=True, name="attn2")
            x = x + cross(x, layers[1], context, mask, control)
        y = nn.gelu(dense(4 * width, name="mlp_in")(normed("norm2", *parts[3:5])), approximate=True)
        return x + (parts[5] * dense(width, name="mlp_out")(y)).astype(self.dtype)


def positions(rows: int, columns: int, width: int) -> jax.Array:
    """Sines and cosines of the column, then of the row: (rows * columns, width) float32."""
    half = width // 4
    rates = jnp.exp(-math.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / half)

    def along(count: int) -> jax.Array:
        angles = jnp.arange(count, dtype=jnp.float32)[:, None] * rates[None]
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)

    shape = (rows, columns, width // 2)
    across = jnp.broadcast_to(along(columns)[None], shape)
    down = jnp.broadcast_to(along(rows)[:, None], shape)
    return jnp.concatenate([across, down], axis=-1).reshape(rows * columns, width)


def check(net: DiT, section: str) -> None:
    """Raises UserError, which says what to change, if the settings do not go together.

    Args: section: of the config, for the message.
    """
    for count, what in ((net.heads, f"{section}.heads={net.heads}"), (4, "4")):
        if net.width % count:
            raise UserError(f"{section}.width={net.width} must be a multiple of {what}")


def _modulation(given: jax.Array, count: int, width: int, name: str) -> list[jax.Array]:
    """`count` arrays (b, 1, width) float32, zero at first; within a module."""
    made = nn.Dense(count * width, kernel_init=ZEROS, name=name)(given)
    return jnp.split(made[:, None], count, axis=-1)


def _patches(x: jax.Array, patch: int) -> jax.Array:
    """(b, h, w, c) -> (b, h / patch * w / patch, patch * patch * c)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // patch, patch, w // patch, patch, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, -1, patch * patch * c)
