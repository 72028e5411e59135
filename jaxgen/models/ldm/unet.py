"""The UNet of latent diffusion (Rombach et al., CVPR 2022), that of Stable Diffusion 1 and 2.

SD 1.x: 859,520,964 parameters; channels 320, 640, 1280, 1280, context 768, 8 heads
SD 2.x: 865,910,724; context 1024, heads of 64, dense layers around the transformers
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.errors import UserError
from jaxgen.models.ldm.blocks import (
    ZEROS,
    SpatialTransformer,
    TimedResnetBlock,
    attended,
)
from jaxgen.nn.control import Control, Layer
from jaxgen.nn.conv import Conv
from jaxgen.nn.resample import pixel_shuffle, pixel_unshuffle, upsample_nearest
from jaxgen.nn.time_embedding import TimeEmbedding
from jaxgen.nn.unet_blocks import Norm


class UNet(nn.Module):
    """A noisy picture or latent and its time -> what the training's target is.

    Attributes:
      out: channels of the result.
      channels: of the levels; from one to the next the side halves.
      blocks: residual blocks of a level; on the way up there is one more.
      attention: levels, counted from 0, with a transformer after each block.
      middle_attention: whether the middle has one, too.
      depth: blocks of each transformer.
      heads: of attention, at every level.
      head_width: their width in place of their number; 0: `heads` says it.
      linear: dense layers around the transformers (SD 2) in place of 1x1 convolutions (SD 1).
      groups: of the normalisations.
      context: width of the vectors that are attended to (a text's tokens); 0: none.
      classes: of pictures, for a condition by class; 0: none.
      pooled: width of one vector for the whole picture (a sentence's); 0: none.
      patch: side of the pixels that become one place: 2 for pictures, 1 for latents.
      coordinates: two more channels say where a place is, from -1 to 1 across and down (CoordConv,
        Liu et al. 2018). No published UNet has them.
      dropout: rate in residual blocks, in training.
      remat: compute blocks anew in the backward pass, for less memory.
      dtype: of the computation; norms, softmax and time embedding are float32.
    """

    out: int = 4
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks: int = 2
    attention: tuple[int, ...] = (0, 1, 2)
    middle_attention: bool = True
    depth: int = 1
    heads: int = 8
    head_width: int = 0
    linear: bool = False
    groups: int = 32
    context: int = 768
    classes: int = 0
    pooled: int = 0
    patch: int = 1
    coordinates: bool = False
    dropout: float = 0.0
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

        Args:
          x: the picture or latent.
          t: (b,) times, as a number of steps, fractions too (0 ... 999 of published models).
          context: (b, l, `context`), which the attention looks at; needed if `context` is not 0.
          mask: (b, l) bool, which of them count; None: all.
          label: (b,) int class or (b, pooled) embedding; None: no class.
          control: alters the layers (`jaxgen.nn.control`); then nothing is computed anew.
          train: dropout; needs the rng "dropout" where its rate is not 0.
        """
        widths = self.channels
        net = _Layers(self, train, control, attended(self, context), mask)
        net.time = TimeEmbedding(
            widths[0], 4 * widths[0], self.classes, self.pooled, name="time_embed"
        )(t, label)
        x = pixel_unshuffle(x, self.patch) if self.patch > 1 else x
        x = _located(x) if self.coordinates else x
        x = Conv(widths[0], 3, dtype=self.dtype, name="conv_in")(x.astype(self.dtype))
        skips = [x]
        for level, width in enumerate(widths):
            for i in range(self.blocks):
                x = net.resnet(x, width, f"down_{level}", i)
                if level in self.attention:
                    x = net.transformer(x, f"down_{level}", i)
                skips.append(x)
            if level < len(widths) - 1:
                down = Conv(width, 3, 2, dtype=self.dtype, name=f"down_{level}_downsample")
                x = down(x)
                skips.append(x)
        x = net.resnet(x, widths[-1], "mid", 0)
        if self.middle_attention:
            x = net.transformer(x, "mid", 0)
        x = net.resnet(x, widths[-1], "mid", 1)
        # Named from the deepest level on, in the order of their computation.
        for number, level in enumerate(reversed(range(len(widths)))):
            for i in range(self.blocks + 1):
                x = jnp.concatenate([x, skips.pop()], axis=-1)
                x = net.resnet(x, widths[level], f"up_{number}", i)
                if level in self.attention:
                    x = net.transformer(x, f"up_{number}", i)
            if level:
                # An odd side was rounded up on the way down.
                x = upsample_nearest(x, 2)[:, : skips[-1].shape[1], : skips[-1].shape[2]]
                x = Conv(widths[level], 3, dtype=self.dtype, name=f"up_{number}_upsample")(x)
        x = nn.swish(Norm(self.groups, 1e-5, self.dtype, name="norm_out")(x))
        last = Conv(
            self.out * self.patch**2, 3, dtype=self.dtype, kernel_init=ZEROS, name="conv_out"
        )
        x = last(x).astype(jnp.float32)
        return pixel_shuffle(x, self.patch) if self.patch > 1 else x


def _located(x: jax.Array) -> jax.Array:
    """(b, h, w, c) -> (b, h, w, c + 2)."""
    b, h, w, _ = x.shape
    down, across = jnp.meshgrid(jnp.linspace(-1, 1, h), jnp.linspace(-1, 1, w), indexing="ij")
    where = jnp.broadcast_to(jnp.stack([across, down], axis=-1), (b, h, w, 2))
    return jnp.concatenate([x, where.astype(x.dtype)], axis=-1)


class _Layers:
    """Makes a UNet's blocks within its `__call__`, and numbers the layers that a control sees."""

    time: jax.Array

    def __init__(
        self,
        net: UNet,
        train: bool,
        control: Control | None,
        context: jax.Array | None,
        mask: jax.Array | None,
    ):
        self.net, self.train, self.control = net, train, control
        self.context, self.mask = context, mask
        self.attentions = self.residuals = 0
        anew = net.remat and control is None
        # What is no array: train, layer and control; layers and control.
        self.ResnetBlock: Any = (
            nn.remat(TimedResnetBlock, static_argnums=(3, 4, 5)) if anew else TimedResnetBlock
        )
        self.Transformer: Any = (
            nn.remat(SpatialTransformer, static_argnums=(2, 5)) if anew else SpatialTransformer
        )

    def resnet(self, x: jax.Array, width: int, where: str, i: int) -> jax.Array:
        net, name = self.net, f"{where}_resnet_{i}"
        layer = _layer(name, self.residuals, "residual", where, x)
        self.residuals += 1
        block = self.ResnetBlock(width, net.groups, net.dropout, dtype=net.dtype, name=name)
        y: jax.Array = block(x, self.time, self.train, layer, self.control)
        return y

    def transformer(self, x: jax.Array, where: str, i: int) -> jax.Array:
        net, name = self.net, f"{where}_attn_{i}"
        kinds = ("self",) if self.context is None else ("self", "cross")
        layers = []
        for block in range(net.depth):
            for number, kind in enumerate(kinds, start=1):
                path = f"{name}/block_{block}/attn{number}"
                layers.append(_layer(path, self.attentions, kind, where, x))
                self.attentions += 1
        heads = x.shape[-1] // net.head_width if net.head_width else net.heads
        made = self.Transformer(
            heads, net.depth, net.linear, net.groups, dtype=net.dtype, name=name
        )
        y: jax.Array = made(x, tuple(layers), self.context, self.mask, self.control)
        return y


def _layer(name: str, index: int, kind: str, where: str, x: jax.Array) -> Layer:
    return Layer(name, index, kind, where.split("_")[0], (x.shape[1], x.shape[2]))


def check(net: UNet, section: str) -> None:
    """Whether the settings go together.

    Args: section: of the config, for the message.

    Raises:
      UserError: says what to change.
    """
    attended = {len(net.channels) - 1} if net.middle_attention else set()
    for level, width in enumerate(net.channels):
        if width % net.groups:
            raise UserError(
                f"{section}.channels: level {level} has {width}, no multiple of "
                f"{section}.groups={net.groups}"
            )
        by = "head_width" if net.head_width else "heads"
        if level in attended | set(net.attention) and width % getattr(net, by):
            raise UserError(
                f"{section}.channels: level {level} has {width}, no multiple of "
                f"{section}.{by}={getattr(net, by)}"
            )
    if unknown := [level for level in net.attention if level >= len(net.channels)]:
        raise UserError(
            f"{section}.attention={unknown[0]}: there are levels 0 to {len(net.channels) - 1}"
        )
    if net.classes and net.pooled:
        raise UserError(f"{section}.classes and {section}.pooled do not go together; set one to 0")
