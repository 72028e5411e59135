"""StackGAN's discriminators, for both stages and both forms."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.models.stackgan.generator import conv3x3, down4x4
from jaxgen.nn.conv import Conv
from jaxgen.nn.dcgan import SMALL, Bottleneck, leaky, norm, tile
from jaxgen.nn.text import Judgement

WIDEST = 8  # times `features`: what wider maps are narrowed to before the sentence is joined


class Discriminator(nn.Module):
    """Strided convolutions to 4 x 4, where the sentence is joined to every place.

    At 64 px this is stage I's, at 256 px stage II's: wider than 8 * features after six strides, and
    narrowed by 3x3 convolutions. As the form "pytorch" has it, with 96 features 12,407,425 and, at
    256 px with the head without text, 159,889,538 parameters; with 64 features 5,715,713 and
    71,269,122. As "tf" has it, with 64 features and 1,024-wide sentences 4,029,825 and 69,575,041.

    Each sentence is judged on its own, so BatchNorm's statistics in the joint layers are over one
    kind of pair, and move once for each of `sentences`, in their order.

    Attributes:
      size: side of the pictures, a power of two, 8 or more.
      features: channels of the first convolution; doubled in each further one.
      condition: width of the sentence's projection ("tf"); 0: it is joined as it comes ("pytorch",
        where it is the conditioning augmentation's mean).
      bottleneck: whether a residual bottleneck ends the picture's layers ("tf").
      image_head: whether pictures are judged without their text, too.
      dtype: of the computation; parameters and logits are float32.
    """

    size: int = 64
    features: int = 64
    condition: int = 128
    bottleneck: bool = True
    image_head: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, sentences: tuple[jax.Array, ...], train: bool = False
    ) -> tuple[Judgement, ...]:
        """x (b, size, size, 3) in [-1, 1], sentences each (b, e) -> a Judgement for each."""

        def then(y, name, activate=True):
            y = norm(train, self.dtype, f"{name}_norm")(y)
            return leaky(y) if activate else y

        downs, narrows = layers(self.size)
        y = leaky(down4x4(self.features, self.dtype, "down_0")(x.astype(self.dtype)))
        for i in range(1, downs):
            name = f"down_{i}"
            y = down4x4(self.features * 2**i, self.dtype, name)(y)
            # Before the bottleneck's sum there is no activation.
            y = then(y, name, not (self.bottleneck and i == downs - 1 and not narrows))
        for i in range(narrows):
            name, channels = f"narrow_{i}", self.features * 2 ** (downs - 2 - i)
            y = conv3x3(channels, self.dtype, name)(y)
            y = then(y, name, not (self.bottleneck and i == narrows - 1))
        if self.bottleneck:
            y = leaky(Bottleneck(leaky, dtype=self.dtype, name="bottleneck")(y, train))
        # (b, 4, 4, channels)
        channels = y.shape[-1]
        project = None
        if self.condition:
            project = nn.Dense(self.condition, dtype=self.dtype, kernel_init=SMALL, name="sentence")
        # The paper's code joins by a 1x1 convolution, StackGAN-PyTorch by a 3x3.
        joint = Conv(
            channels, 1 if self.condition else 3, use_bias=False, dtype=self.dtype,
            kernel_init=SMALL, name="joint",
        )  # fmt: skip
        joint_norm = norm(train, self.dtype, "joint_norm")
        logit = _logit("pair")
        image = _logit("image")(y.astype(jnp.float32)).reshape(-1) if self.image_head else None
        found = []
        for sentence in sentences:
            seen = sentence if project is None else leaky(project(sentence))
            h = leaky(joint_norm(joint([y, tile(seen, y)])))
            pair = logit(h.astype(jnp.float32)).reshape(-1)
            found.append(Judgement(pair=pair, image=image))
        return tuple(found)


def layers(size: int) -> tuple[int, int]:
    """(strided convolutions to 4 x 4, 3x3 convolutions that halve the channels after them)."""
    downs = int(math.log2(size)) - 2
    return downs, max(0, downs - 1 - int(math.log2(WIDEST)))


def _logit(name: str) -> Conv:
    return Conv(1, 4, padding="VALID", dtype=jnp.float32, kernel_init=SMALL, name=name)
