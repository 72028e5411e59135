"""StackGAN's generators: conditioning augmentation, stage I from noise, stage II from a picture.

Two forms: "tf" is the paper's (its TensorFlow code), with bottlenecks in stage I; "pytorch" is the
authors' later and plainer StackGAN-PyTorch.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.conv import Conv
from jaxgen.nn.dcgan import SMALL, Bottleneck, leaky, norm, tile
from jaxgen.nn.resample import upsample_nearest
from jaxgen.nn.text import Drawn, Text

FORMS = ("tf", "pytorch")


class ConditioningAugmentation(nn.Module):
    """A sample of N(mu(sentence), sigma(sentence)^2) in place of the sentence (section 3.2).

    "tf": LeakyReLU on [mu, log sigma]. "pytorch": ReLU on [mu, log variance], so that neither is
    below zero. float32 throughout.

    Attributes:
      size: of mu and sigma, 128 there.
      form: "tf" or "pytorch".
    """

    size: int = 128
    form: str = "tf"

    @nn.compact
    def __call__(
        self, sentence: jax.Array, eps: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """sentence (b, e), eps (b, size) from N(0, I) -> (sample (b, size), mu (b, size), kl ()).

        kl: divergence from N(0, I), mean over the batch and over the dimensions.
        """
        both = nn.Dense(2 * self.size, kernel_init=SMALL, name="fc")(sentence.astype(jnp.float32))
        both = leaky(both) if self.form == "tf" else nn.relu(both)
        mu, log_variance = jnp.split(both, 2, axis=-1)
        if self.form == "tf":
            log_variance = 2.0 * log_variance
        kl = -0.5 * jnp.mean(1.0 + log_variance - jnp.square(mu) - jnp.exp(log_variance))
        return mu + jnp.exp(0.5 * log_variance) * eps.astype(jnp.float32), mu, kl


class StageOne(nn.Module):
    """Noise and sentence to a small picture: dense to 4 x 4, then nearest x2 and 3x3 each.

    At 64 px and 1,024-wide sentences in the form "pytorch" 20,020,832 parameters with 192 features
    and 10,301,248 with 128; in the form "tf" 14,247,811 with 128. A smaller picture has fewer
    stages, the widest first ones left out.

    Attributes:
      size: side of the pictures, a power of two, 8 or more.
      features: channels of the stage before the last.
      z: length of the noise, without the conditioning augmentation's.
      condition: size of the conditioning augmentation.
      form: "tf" or "pytorch".
      dtype: of the computation; parameters are float32.
    """

    size: int = 64
    features: int = 128
    z: int = 100
    condition: int = 128
    form: str = "tf"
    dtype: Any = jnp.float32

    @property
    def noise(self) -> tuple[int, ...]:
        """Shape of one picture's noise: z, then the conditioning augmentation's."""
        return (self.z + self.condition,)

    @nn.compact
    def __call__(self, z: jax.Array, text: Text, train: bool = False) -> Drawn:
        """z (b, *noise) from N(0, I) -> pictures (b, size, size, 3) in [-1, 1], float32; kl."""
        augment = ConditioningAugmentation(self.condition, self.form, name="ca_net")
        sample, _, kl = augment(text.sentence, z[:, self.z :])
        seed = jnp.concatenate([z[:, : self.z], sample], axis=-1).astype(self.dtype)
        stages = int(math.log2(self.size)) - 2
        channels = self.features * 2 ** (stages - 1)
        y = nn.Dense(
            16 * channels, use_bias=False, dtype=self.dtype, kernel_init=SMALL, name="first"
        )(seed)
        y = norm(train, self.dtype, "first_norm")(y)  # for each place and channel
        y = self._rest(y.reshape(-1, 4, 4, channels), 0, train)
        for i in range(1, stages + 1):
            y = upsample_nearest(y, 2)  # (b, 2**(i+2), 2**(i+2), ...)
            if i == stages and self.form == "tf":
                break
            y = conv3x3(max(channels // 2**i, 1), self.dtype, f"up_{i}")(y)
            y = self._rest(norm(train, self.dtype, f"up_{i}_norm")(y), i, train)
        return Drawn(image=_picture(y, self.form), kl=kl)

    def _rest(self, y, stage, train):
        """What follows a stage's BatchNorm: at 4 x 4 and 8 x 8 a bottleneck, where there are."""
        if self.form == "tf" and stage < 2:
            y = Bottleneck(nn.relu, dtype=self.dtype, name=f"bottleneck_{stage}")(y, train)
        return nn.relu(y)


class StageTwo(nn.Module):
    """A small picture and the sentence to a large picture.

    Two strided convolutions, residual blocks where the sentence is joined to every place, and
    up-stages. With 1,024-wide sentences, 64 to 256 px and two blocks 37,130,480 parameters with 192
    features and 16,848,800 with 128; with four blocks, in the form "tf", 26,290,083.

    Attributes:
      factor: of enlargement, a power of two; two more up-stages than it has doublings.
      features: channels of the first convolution.
      blocks: residual blocks, 4 in the form "tf" and 2 in "pytorch".
      before: length of stage I's noise, which comes first in z.
      condition: size of the conditioning augmentation, this stage's own.
      form: "tf" or "pytorch".
      dtype: of the computation; parameters are float32.
    """

    factor: int = 4
    features: int = 128
    blocks: int = 4
    before: int = 228
    condition: int = 128
    form: str = "tf"
    dtype: Any = jnp.float32

    @property
    def noise(self) -> tuple[int, ...]:
        """Shape of one picture's noise: stage I's, then this conditioning augmentation's."""
        return (self.before + self.condition,)

    @nn.compact
    def __call__(self, z: jax.Array, low: jax.Array, text: Text, train: bool = False) -> Drawn:
        """z (b, *noise) from N(0, I), low (b, n, n, 3) -> pictures (b, factor*n, factor*n, 3); kl.

        Pictures are in [-1, 1], float32.
        """
        augment = ConditioningAugmentation(self.condition, self.form, name="ca_net")
        sample, _, kl = augment(text.sentence, z[:, self.before :])

        def then(y, name):
            return nn.relu(norm(train, self.dtype, f"{name}_norm")(y))

        f = self.features
        y = nn.relu(conv3x3(f, self.dtype, "encoder_0")(low.astype(self.dtype)))
        for i in (1, 2):
            name = f"encoder_{i}"
            y = then(down4x4(f * 2**i, self.dtype, name)(y), name)
        y = then(conv3x3(4 * f, self.dtype, "joint")([y, tile(sample, y)]), "joint")
        for i in range(self.blocks):  # (b, n / 4, n / 4, 4 * features)
            r = then(conv3x3(4 * f, self.dtype, f"block_{i}_0")(y), f"block_{i}_0")
            r = conv3x3(4 * f, self.dtype, f"block_{i}_1")(r)
            y = nn.relu(y + norm(train, self.dtype, f"block_{i}_1_norm")(r))
        for i in range(1, int(math.log2(self.factor)) + 3):
            name, channels = f"up_{i}", max(4 * f // 2**i, 1)
            y = then(conv3x3(channels, self.dtype, name)(upsample_nearest(y, 2)), name)
        return Drawn(image=_picture(y, self.form), kl=kl)


def conv3x3(features: int, dtype: Any, name: str) -> Conv:
    """A 3x3 convolution without bias."""
    return Conv(features, 3, use_bias=False, dtype=dtype, kernel_init=SMALL, name=name)


def down4x4(features: int, dtype: Any, name: str) -> Conv:
    """A 4x4 convolution of stride 2 without bias; halves the side."""
    return Conv(
        features, 4, strides=2, padding=1, use_bias=False, dtype=dtype, kernel_init=SMALL, name=name
    )


def _picture(y: jax.Array, form: str) -> jax.Array:
    """(b, h, w, c) -> (b, h, w, 3) in [-1, 1] by a last convolution, in float32."""
    last = Conv(3, 3, use_bias=form == "tf", dtype=jnp.float32, kernel_init=SMALL, name="image")
    return jnp.tanh(last(y.astype(jnp.float32)))
