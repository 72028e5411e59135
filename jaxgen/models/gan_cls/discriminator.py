"""The discriminator of GAN-CLS and GAN-INT-CLS (Reed et al. 2016)."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.conv import Conv
from jaxgen.nn.dcgan import SMALL, Bottleneck, leaky, norm, tile
from jaxgen.nn.text import Judgement


class Discriminator(nn.Module):
    """Strided convolutions to 4 x 4, where the projected sentence is joined to every place.

    At 64 px, 64 features and 1,024-wide sentences 4,032,321 parameters; with 196 features
    36,190,557. Each sentence is judged on its own, so BatchNorm's statistics in the joint layers
    are over one kind of pair, and move once for each of `sentences`, in their order.

    Attributes:
      size: side of the pictures, a power of two, 8 or more.
      features: channels of the first convolution; doubled in each further one.
      condition: width of the sentence's projection.
      dtype: of the computation; parameters and logits are float32.
    """

    size: int = 64
    features: int = 64
    condition: int = 128
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, sentences: tuple[jax.Array, ...], train: bool = False
    ) -> tuple[Judgement, ...]:
        """x (b, size, size, 3) in [-1, 1], sentences each (b, e) -> a Judgement for each."""

        def conv(features, kernel, name, **settings):
            return Conv(
                features, kernel, dtype=self.dtype, kernel_init=SMALL, name=name, **settings
            )

        stages = int(math.log2(self.size)) - 2
        y = x.astype(self.dtype)
        for i in range(stages):
            y = conv(self.features * 2**i, 4, f"down_{i}", strides=2, padding=1)(y)
            if i:
                y = norm(train, self.dtype, f"down_{i}_norm")(y)
            # The last two have no activation, as in the original: the bottleneck's comes next.
            if i == 0 or i < stages - 2:
                y = leaky(y)
        y = leaky(Bottleneck(leaky, True, self.dtype, name="bottleneck")(y, train))
        # (b, 4, 4, channels)
        channels = y.shape[-1]
        project = nn.Dense(self.condition, dtype=self.dtype, kernel_init=SMALL, name="sentence")
        project_norm = norm(train, self.dtype, "sentence_norm")
        joint = conv(channels, 1, "joint")
        joint_norm = norm(train, self.dtype, "joint_norm")
        logit = Conv(1, 4, padding="VALID", dtype=jnp.float32, kernel_init=SMALL, name="logit")
        found = []
        for sentence in sentences:
            seen = tile(leaky(project_norm(project(sentence))), y)
            h = leaky(joint_norm(joint([y, seen])))
            found.append(Judgement(pair=logit(h.astype(jnp.float32)).reshape(-1)))
        return tuple(found)
