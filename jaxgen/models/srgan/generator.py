"""SRGAN's generators: the two Keras forms of seed 004's counts; the paper's is SRResNet."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.activation import PReLU
from jaxgen.nn.conv import Conv
from jaxgen.nn.inception import BLOCK35, BLOCK35_SCALE, ConvNorm, ResidualBranches
from jaxgen.nn.resample import upsample_nearest
from jaxgen.nn.sr_resnet import SRResNet, staged_radius


class KerasGenerator(nn.Module):
    """The generator whose counts seed 004 reports: 2,039,555 trainable at x4.

    The paper's trunk; each up-stage is a 256-channel convolution, nearest x2 and LeakyReLU 0.2;
    tanh at the end. BatchNorm as Keras' (momentum 0.5, epsilon 1e-3), PReLU slopes start at 0.

    With inception blocks, the seed's other variant: Keras' block35 (Inception-ResNet-A) on the
    trunk's channels in place of each residual block, 1,897,987 trainable. Its convolutions have no
    bias and its BatchNorms no gain, momentum 0.99 and epsilon 1e-3, as in Keras' conv2d_bn.

    Attributes: as of `SRResNet`, and
      inception: whether the blocks are block35s.
    """

    scale: int = 4
    features: int = 64
    blocks: int = 16
    edge_kernel: int = 9
    inception: bool = False
    output: str = "tanh"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """x (b, h, w, 3) in [-1, 1] -> (b, scale*h, scale*w, 3) float32."""

        glorot = nn.initializers.glorot_uniform()

        def conv(features, kernel, name):
            return Conv(features, kernel, dtype=self.dtype, kernel_init=glorot, name=name)

        def norm(y, name):
            return nn.BatchNorm(
                not train, momentum=0.5, epsilon=1e-3, dtype=self.dtype, name=name
            )(y)  # fmt: skip

        def block35(y, name):
            branch_conv = partial(
                ConvNorm, width=self.features / 64, gain=False, kernel_init=glorot, dtype=self.dtype
            )
            y = ResidualBranches(
                BLOCK35, BLOCK35_SCALE, branch_conv, glorot, self.dtype, name=name
            )(y, train)  # fmt: skip
            return nn.relu(y)

        first = PReLU(0.0, name="prelu_in")(conv(self.features, self.edge_kernel, "conv_in")(x))
        y = first  # (b, h, w, features)
        for i in range(self.blocks):
            if self.inception:
                y = block35(y, f"block_{i}")
                continue
            r = norm(conv(self.features, 3, f"block_{i}_conv_0")(y), f"block_{i}_norm_0")
            r = PReLU(0.0, name=f"block_{i}_prelu")(r)
            y = y + norm(conv(self.features, 3, f"block_{i}_conv_1")(r), f"block_{i}_norm_1")
        y = first + norm(conv(self.features, 3, "conv_trunk")(y), "norm_trunk")
        for i in range(int(math.log2(self.scale))):
            y = upsample_nearest(conv(4 * self.features, 3, f"up_{i}_conv")(y), 2)
            y = nn.leaky_relu(y, 0.2)  # (b, 2**(i+1) h, 2**(i+1) w, 4 * features)
        y = conv(3, self.edge_kernel, "conv_out")(y).astype(jnp.float32)
        return jnp.tanh(y) if self.output == "tanh" else y

    def radius(self) -> int:
        """Receptive-field radius in low-resolution pixels; a block35 has two 3x3 in a row too."""
        return staged_radius(self.scale, self.blocks, self.edge_kernel)


FORMS = {
    "srresnet": SRResNet,
    "keras": KerasGenerator,
    "inception": partial(KerasGenerator, inception=True),
}
