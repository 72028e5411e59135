"""What sees the pictures and reads the texts."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.encoders.resnet import ResNet, prepare
from jaxgen.nn.conv import Conv
from jaxgen.nn.text import lstm


class ResNetTower(nn.Module):
    """A ResNet, the mean of its last map, and a dense layer: TIRG's image encoder.

    ResNet-18 at full width with 512 features has 11,439,168 parameters.

    Attributes:
      embed: of the features.
      arch: resnet18 to resnet152.
      width: factor on the channels of every layer.
    """

    embed: int
    arch: str = "resnet18"
    width: float = 1.0
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.trunk = ResNet(self.arch, width=self.width, dtype=self.dtype)
        self.fc = nn.Dense(self.embed, dtype=self.dtype)

    def map(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(b, h, w, 3) float32 in [-1, 1] -> the last map (b, h / 32, w / 32, c), rounded up."""
        found: jax.Array = self.trunk(prepare(x), ("layer4",), train)["layer4"]
        return found

    def head(self, x: jax.Array) -> jax.Array:
        """The last map -> features (b, embed)."""
        return self.fc(x.mean(axis=(1, 2)))


class GridTower(nn.Module):
    """A few convolutions and a dense layer that sees every place of the last map: small pictures.

    Where a thing stands is told by its place in the map, which a mean would lose.

    Attributes:
      embed: of the features.
      channels: of the layers, each with BatchNorm; all but the last halve the picture.
    """

    embed: int
    channels: tuple[int, ...] = (32, 64, 128, 128)
    dtype: Any = jnp.float32

    def setup(self) -> None:
        last = len(self.channels) - 1
        self.convs = [
            Conv(c, 3, 1 if i == last else 2, use_bias=False, dtype=self.dtype)
            for i, c in enumerate(self.channels)
        ]
        self.norms = [
            nn.BatchNorm(momentum=0.9, epsilon=1e-5, use_fast_variance=False, dtype=self.dtype)
            for _ in self.channels
        ]
        self.fc = nn.Dense(self.embed, dtype=self.dtype)

    def map(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(b, h, w, 3) float32 in [-1, 1] -> the last map."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = nn.relu(norm(conv(x), use_running_average=not train))
        return x

    def head(self, x: jax.Array) -> jax.Array:
        """The last map -> features (b, embed)."""
        return self.fc(x.reshape(len(x), -1))


class WordLSTM(nn.Module):
    """Word vectors, one LSTM layer, and a dense layer on its last state: TIRG's text encoder.

    Attributes:
      size: number of token ids. embed: of the features.
      vector: size of the word vectors. hidden: of the LSTM's state.
      dropout: before the last layer, in training.
    """

    size: int
    embed: int
    vector: int = 512
    hidden: int = 512
    dropout: float = 0.1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, mask: jax.Array, train: bool = False) -> jax.Array:
        """tokens (b, t) int32, mask (b, t) bool, one True at least -> (b, embed)."""
        table = self.param("tokens", nn.initializers.normal(1.0), (self.size, self.vector))
        x = jnp.take(table, tokens, axis=0).astype(self.dtype)
        _, last = lstm(x, mask.sum(axis=1), self.hidden, self.dtype, "forward")
        last = nn.Dropout(self.dropout, deterministic=not train)(last)
        return nn.Dense(self.embed, dtype=self.dtype, name="fc")(last)


FORMS: dict[str, Any] = {"resnet": ResNetTower, "grid": GridTower}
