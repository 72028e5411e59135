"""Compositions: a picture's feature and a text's become the feature of the picture asked for.

Each is a module called with a `View` of the picture and the text's feature. Those that work on maps
give a map of the picture's own shape, of which its encoder makes the feature; others the feature
itself, not normalised.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.nn.conv import Conv


class View(NamedTuple):
    """A picture as an encoder sees it.

    vector: (b, e). map: (b, h, w, c), what it is made of.
    """

    vector: jax.Array
    map: jax.Array


class ImageOnly(nn.Module):
    """The picture as it is: what a text adds must be seen against it."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, view: View, text: jax.Array, train: bool = False) -> jax.Array:
        """(b, e)."""
        return view.vector


class TextOnly(nn.Module):
    """The text alone."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, view: View, text: jax.Array, train: bool = False) -> jax.Array:
        """(b, e)."""
        return text


class Sum(nn.Module):
    """The sum of both, as they are: CLIP4Cir's baseline."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, view: View, text: jax.Array, train: bool = False) -> jax.Array:
        """(b, e)."""
        return view.vector + text


class Concat(nn.Module):
    """Both features, one after the other, through two layers.

    Attributes:
      dropout: before the last layer, in training.
    """

    dropout: float = 0.1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, view: View, text: jax.Array, train: bool = False) -> jax.Array:
        """(b, e)."""
        x = jnp.concatenate([view.vector, text], axis=-1)
        x = nn.relu(_norm(train, self.dtype, "norm1")(x))
        x = nn.Dense(x.shape[-1], dtype=self.dtype, name="hidden")(x)
        x = nn.relu(_norm(train, self.dtype, "norm2")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(view.vector.shape[-1], dtype=self.dtype, name="out")(x)


class TIRG(nn.Module):
    """Text-image residual gating of the feature vectors (Vo et al., CVPR 2019, equation 2).

    a[0] * sigmoid(gate) * picture + a[1] * residual, with `a` learned from (1, 10). As published
    the gate has one layer here and not two, and `a` two more numbers that nothing uses.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, view: View, text: jax.Array, train: bool = False) -> jax.Array:
        """(b, e)."""
        image = view.vector
        x = jnp.concatenate([image, text], axis=-1)
        gate = nn.relu(_norm(train, self.dtype, "gate_norm")(x))
        gate = nn.Dense(image.shape[-1], dtype=self.dtype, name="gate_out")(gate)
        rest = nn.relu(_norm(train, self.dtype, "rest_norm")(x))
        rest = nn.relu(nn.Dense(x.shape[-1], dtype=self.dtype, name="rest_hidden")(rest))
        rest = nn.Dense(image.shape[-1], dtype=self.dtype, name="rest_out")(rest)
        a = self.param("a", _weights)
        return a[0] * nn.sigmoid(gate) * image + a[1] * rest


class TIRGLastConv(nn.Module):
    """The same on the last map, the text at every place."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, view: View, text: jax.Array, train: bool = False) -> jax.Array:
        """(b, h, w, c)."""
        x = _with_text(view.map, text)
        a = self.param("a", _weights)
        gate, rest = (self._branch(x, view.map.shape[-1], name, train) for name in ("gate", "rest"))
        return a[0] * nn.sigmoid(gate) * view.map + a[1] * rest

    def _branch(self, x: jax.Array, channels: int, name: str, train: bool) -> jax.Array:
        y = _norm(train, self.dtype, f"{name}_norm")(x)
        y = nn.relu(Conv(x.shape[-1], 3, dtype=self.dtype, name=f"{name}_hidden")(y))
        return Conv(channels, 3, dtype=self.dtype, name=f"{name}_out")(y)


class FiLM(nn.Module):
    """A residual block on the last map whose channels the text scales and shifts (Perez 2018).

    Attributes:
      blocks: one after the other.
    """

    blocks: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, view: View, text: jax.Array, train: bool = False) -> jax.Array:
        """(b, h, w, c)."""
        x = view.map
        channels = x.shape[-1]
        for i in range(self.blocks):
            x = nn.relu(Conv(channels, 1, dtype=self.dtype, name=f"in_{i}")(x))
            y = Conv(channels, 3, dtype=self.dtype, name=f"conv_{i}")(x)
            y = _norm(train, self.dtype, f"norm_{i}", affine=False)(y)
            film = nn.Dense(2 * channels, dtype=self.dtype, name=f"film_{i}")(text)
            scale, shift = jnp.split(film[:, None, None, :], 2, axis=-1)
            x = x + nn.relu((1.0 + scale) * y + shift)
        return x


class MRN(nn.Module):
    """Multimodal residual network (Kim et al., NeurIPS 2016): the text is what is added to.

    Attributes:
      blocks: one after the other.
    """

    blocks: int = 2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, view: View, text: jax.Array, train: bool = False) -> jax.Array:
        """(b, e)."""
        size = view.vector.shape[-1]

        def dense(name: str, x: jax.Array) -> jax.Array:
            return nn.Dense(size, dtype=self.dtype, name=name)(x)

        x = text
        for i in range(self.blocks):
            image = nn.tanh(dense(f"image_hidden_{i}", view.vector))
            image = nn.tanh(dense(f"image_out_{i}", image))
            x = dense(f"skip_{i}", x) + nn.tanh(dense(f"text_{i}", x)) * image
        return x


class Relationship(nn.Module):
    """A relation network (Santoro et al., NeurIPS 2017) over all pairs of places of the last map.

    Attributes:
      hidden: width of the layers that look at a pair with the text.
      pool: side of the squares whose mean is one place. Pairs, and with them time and memory, grow
        with the fourth power of the map's side over it.
    """

    hidden: int = 256
    pool: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, view: View, text: jax.Array, train: bool = False) -> jax.Array:
        """(b, e)."""
        if self.pool == 1:
            x = view.map
        else:
            window = self.pool, self.pool
            x = nn.avg_pool(view.map, window, window, "SAME", count_include_pad=False)
        b, h, w, c = x.shape
        # Each place says where it is, as published: a mean over pairs would not tell.
        rows, columns = jnp.meshgrid(jnp.linspace(-1, 1, h), jnp.linspace(-1, 1, w), indexing="ij")
        where = jnp.stack([rows, columns], axis=-1).astype(x.dtype)
        where = jnp.broadcast_to(where, (b, h, w, 2))
        places = jnp.concatenate([x, where], axis=-1).reshape(b, h * w, c + 2)
        # The first layer of a pair is a sum of three: of each place, and of the text.
        one, two = (
            nn.Dense(self.hidden, dtype=self.dtype, name=name)(places) for name in ("one", "two")
        )
        said = nn.Dense(self.hidden, use_bias=False, dtype=self.dtype, name="text")(text)
        x = nn.relu(one[:, :, None] + two[:, None] + said[:, None, None])
        x = nn.relu(nn.Dense(self.hidden, dtype=self.dtype, name="pair")(x)).mean(axis=(1, 2))
        x = nn.relu(nn.Dense(self.hidden, dtype=self.dtype, name="hidden")(x))
        return nn.Dense(view.vector.shape[-1], dtype=self.dtype, name="out")(x)


class Combiner(nn.Module):
    """CLIP4Cir's (Baldrati et al., TOMM 2023): a learned sum of both, and what it lacks.

    lambda * text + (1 - lambda) * picture + output, lambda from both. The features come as they
    are, not normalised: their lengths weigh picture against text.

    Attributes:
      projection: width of each feature's own layer, 2560 as published for features of 640.
      hidden: width of the layers behind both, 5120 there.
      dropout: behind each of them, in training.
    """

    projection: int = 2560
    hidden: int = 5120
    dropout: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, view: View, text: jax.Array, train: bool = False) -> jax.Array:
        """(b, e)."""
        drop = nn.Dropout(self.dropout, deterministic=not train)

        def layer(name: str, width: int, x: jax.Array) -> jax.Array:
            return drop(nn.relu(nn.Dense(width, dtype=self.dtype, name=name)(x)))

        parts = [layer("text", self.projection, text), layer("image", self.projection, view.vector)]
        both = jnp.concatenate(parts, axis=-1)
        rest = nn.Dense(view.vector.shape[-1], dtype=self.dtype, name="out")(
            layer("hidden", self.hidden, both)
        )
        share = layer("share_hidden", self.hidden, both)
        share = nn.sigmoid(nn.Dense(1, dtype=self.dtype, name="share")(share))
        return rest + share * text + (1.0 - share) * view.vector


FORMS: dict[str, type[nn.Module]] = {
    "image": ImageOnly,
    "text": TextOnly,
    "sum": Sum,
    "concat": Concat,
    "tirg": TIRG,
    "tirg_lastconv": TIRGLastConv,
    "film": FiLM,
    "mrn": MRN,
    "relationship": Relationship,
    "combiner": Combiner,
}


def _norm(train: bool, dtype: Any, name: str, affine: bool = True) -> nn.BatchNorm:
    return nn.BatchNorm(
        not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        use_bias=affine,
        use_scale=affine,
        use_fast_variance=False,  # of few rows the fast form loses digits
        name=name,
    )


def _weights(rng: jax.Array) -> jax.Array:
    del rng
    return jnp.array([1.0, 10.0, 1.0, 1.0], jnp.float32)


def _with_text(x: jax.Array, text: jax.Array) -> jax.Array:
    b, h, w, _ = x.shape
    spread = jnp.broadcast_to(text[:, None, None, :].astype(x.dtype), (b, h, w, text.shape[-1]))
    return jnp.concatenate([x, spread], axis=-1)
