"""RRDBNet, the generator of ESRGAN and Real-ESRGAN: residual in residual dense blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.conv import Conv
from jaxgen.nn.resample import pixel_unshuffle, upsample_bicubic, upsample_nearest

# What each residual branch is multiplied by (ESRGAN §3.1, residual scaling).
RESIDUAL = 0.2
# He's normal initialisation times 0.1 (ESRGAN §3.1, smaller initialisation); the variance is 0.01
# of it.
SMALL_INIT = nn.initializers.variance_scaling(2.0 * 0.1**2, "fan_in", "normal")
# The other layers start as PyTorch's do: uniform within 1 / sqrt(fan in).
OUTER_INIT = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


class ResidualDenseBlock(nn.Module):
    """Five 3x3 convolutions, each of which sees the input and all outputs before it.

    With 64 features and growth 32: 239,808 parameters. (b, h, w, features) -> the same.
    plus: the further residual connections of ESRGAN+ (Rakotonirina and Rasoanaivo 2020, figure 3).
    """

    features: int
    growth: int
    dtype: Any = jnp.float32
    plus: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        seen = [x]  # in all (b, h, w, features + (k - 1) * growth)
        for k in range(1, 5):
            y = Conv(
                self.growth, 3, dtype=self.dtype, kernel_init=SMALL_INIT, name=f"conv{k}"
            )(seen)  # fmt: skip
            y = nn.leaky_relu(y, 0.2)
            if self.plus and k == 2:
                y = y + Conv(
                    self.growth, 1, use_bias=False, dtype=self.dtype, kernel_init=SMALL_INIT,
                    name="conv1x1",
                )(x)  # fmt: skip
            if self.plus and k == 4:
                y = y + seen[2]
            seen.append(y)
        y = Conv(self.features, 3, dtype=self.dtype, kernel_init=SMALL_INIT, name="conv5")(seen)
        return x + RESIDUAL * y


class RRDB(nn.Module):
    """Three dense blocks inside one more residual connection (ESRGAN, figure 4)."""

    features: int
    growth: int
    dtype: Any = jnp.float32
    plus: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(b, h, w, features) -> the same shape."""
        y = x
        for j in range(1, 4):
            y = ResidualDenseBlock(
                self.features, self.growth, self.dtype, self.plus, name=f"rdb{j}"
            )(y)
        return x + RESIDUAL * y


def repeat(block: nn.Module, x: jax.Array, times: int, loop: bool) -> jax.Array:
    """Applies `block` to x `times` times, each with its own parameters.

    As a loop, 23 RRDBs compile nearly as fast as one; without `loop` they are written out. The
    loop needs the parameters stacked; in the tree every block has its own: "<name of block>/0/...",
    "<name of block>/1/...".
    """
    if not times:
        return x
    # Initial values need no speed, and a loop is quicker to trace.
    unroll = not loop and not block.is_initializing()
    scan = nn.scan(
        lambda module, y, _: (module(y), None),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=times,
        unroll=times if unroll else 1,
    )
    return nn.map_variables(
        lambda module, y: scan(module, y, None)[0],
        "params",
        trans_in_fn=_stack,
        trans_out_fn=_unstack,
        init=block.is_initializing(),
    )(block, x)


def _stack(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """{"params": {"0": tree, "1": tree}} -> {"params": tree with a leading axis of blocks}."""
    blocks = variables.get("params", {})
    if not blocks:
        return variables
    trees = [blocks[str(i)] for i in range(len(blocks))]
    return {"params": jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)}


def _unstack(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    stacked = variables.get("params", {})
    if not stacked:
        return variables
    count = jax.tree.leaves(stacked)[0].shape[0]
    return {"params": {str(i): jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(count)}}


class RRDBNet(nn.Module):
    """RRDBNet (Wang et al., ESRGAN, 2018; for scales 2 and 1 Wang et al., Real-ESRGAN, 2021).

    The trunk's picture is enlarged by a nearest and a convolution, each time by two (by three for
    an enlargement of three). For scales 2 and 1 the original folds the input into channels first,
    by a pixel unshuffle of 2 or 4, so that the trunk's picture is enlarged four times, too; the
    input's sides must be multiples of that. Parameters with the defaults: 16,697,987 at x4,
    16,703,171 at x2, 16,723,907 at x1; with 6 blocks ("anime 6B") 4,467,779 at x4.

    The published weights work on pictures in [0, 1]; this module converts from [-1, 1] and back.

    Attributes:
      scale: 1, 2, 3, 4, 8 or 16.
      features: channels of the trunk.
      blocks: RRDBs.
      growth: channels that each convolution in a dense block adds.
      skip: adds the bicubically upsampled input to the output; the last layer then starts at zero,
        so that training begins at the bicubic picture. For small budgets; published weights have
        none.
      remat: computes each RRDB's activations again in the backward pass instead of keeping them;
        on CPUs it is also several times slower.
      unshuffle: side of the squares of pixels that are folded into channels; 0: 4 / scale, or 1
        from x4 on.
      plus: ESRGAN+'s residual connections within the dense blocks.
      channels: of the input.
      out_channels: of the output.
      dtype: of the computation; parameters are float32.
    """

    scale: int = 4
    features: int = 64
    blocks: int = 23
    growth: int = 32
    skip: bool = False
    remat: bool = False
    unshuffle: int = 0
    plus: bool = False
    channels: int = 3
    out_channels: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x (b, h, w, channels) in [-1, 1] -> (b, scale*h, scale*w, out_channels), not clipped.

        float32; h and w: multiples of `multiple()`. `train` makes no difference: there is no state.
        """
        del train

        def conv(name, features=self.features, init=OUTER_INIT):
            return Conv(features, 3, dtype=self.dtype, kernel_init=init, name=name)

        x = (x.astype(jnp.float32) + 1.0) / 2.0
        folded = pixel_unshuffle(x, self.multiple()) if self.multiple() > 1 else x
        first = conv("conv_first")(folded)
        # XLA's convolutions for CPUs are several times slower inside a loop. But only in a loop
        # does it leave the second computation unmerged with the first.
        loop = self.remat or jax.default_backend() != "cpu"
        block = nn.remat(RRDB, prevent_cse=False) if self.remat else RRDB
        body = block(self.features, self.growth, self.dtype, self.plus, name="body")
        # (b, h / multiple, w / multiple, features)
        y = first + conv("conv_body")(repeat(body, first, self.blocks, loop))
        for i, factor in enumerate(self.factors(), 1):
            y = nn.leaky_relu(conv(f"conv_up{i}")(upsample_nearest(y, factor)), 0.2)
        y = nn.leaky_relu(conv("conv_hr")(y), 0.2)  # (b, scale*h, scale*w, features)
        last = nn.initializers.zeros if self.skip else OUTER_INIT
        y = conv("conv_last", self.out_channels, last)(y).astype(jnp.float32)
        if self.skip:
            y = y + (upsample_bicubic(x, self.scale) if self.scale > 1 else x)
        return 2.0 * y - 1.0

    def multiple(self) -> int:
        """Sides of the input must be multiples of this: the factor of the pixel unshuffle."""
        return self.unshuffle or max(1, 4 // self.scale)

    def factors(self) -> tuple[int, ...]:
        """By how much each up-convolution enlarges the trunk's picture.

        Raises:
          ValueError: no such network: the enlargement is neither 3 nor a power of two up to 64.
        """
        enlargement = self.scale * self.multiple()
        if enlargement == 3:
            return (3,)
        if enlargement not in (1, 2, 4, 8, 16, 32, 64):
            raise ValueError(f"no up-convolutions enlarge by {enlargement}")
        return (2,) * (enlargement.bit_length() - 1)

    def radius(self) -> int:
        """Receptive-field radius in low-resolution pixels."""
        # The last two convolutions, at the highest resolution, and each up-convolution below; from
        # the outermost output pixel of a trunk pixel, in whole pixels of each resolution.
        reach = 2
        for factor in reversed(self.factors()):
            reach = -(-(reach + 1) // factor)
        # Trunk pixels: first and body convolution, 15 per RRDB. The bicubic skip reaches two
        # pixels, less than any trunk.
        trunk = 15 * self.blocks + 2 + reach
        # Only the outermost output pixels of a trunk pixel reach that far, so the distance in
        # folded pixels is a whole number of them.
        return self.multiple() * trunk
