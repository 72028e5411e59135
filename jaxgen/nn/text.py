"""Text encoders: token ids to word and sentence features, and what networks see of them."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jaxgen.nn.attention import attention


class Text(flax.struct.PyTreeNode):
    """Features of texts: all that generators and discriminators know of a text encoder.

    words: (b, t, w), one vector per token. mask: (b, t) bool, True where there is a token, True
    first. sentence: (b, e), one vector per text.
    """

    words: jax.Array
    mask: jax.Array
    sentence: jax.Array


def lstm(
    x: jax.Array, lengths: jax.Array, features: int, dtype: Any, name: str, reverse: bool = False
) -> tuple[jax.Array, jax.Array]:
    """One direction of an LSTM, made where it is called: within a module's `__call__`.

    Args:
      x: (b, t, w). lengths: (b,), how many of each row's steps are read.
      features: of the state. name: of the cell among the module's parameters.
      reverse: reads from each row's own last step to the first.

    Returns: (states (b, t, features) in x's order, the last one read (b, features)).
    """
    cell = nn.OptimizedLSTMCell(features, dtype=dtype, name=name)
    rnn = nn.RNN(cell, return_carry=True, reverse=reverse, keep_order=True)
    (_, last), states = rnn(x, seq_lengths=lengths)
    return states, last


class LSTMEncoder(nn.Module):
    """Embedding, dropout and one LSTM layer, in both directions or one (AttnGAN, Xu et al. 2018).

    Words are the hidden states, zero where there is no token; the sentence is the last state of
    each direction, [forward, backward]. The reverse direction begins at a text's own last token, so
    padding has no effect. With the defaults 440,320 parameters and `embedding` for each id: the
    layout of AttnGAN's published text encoders.

    Attributes:
      size: number of token ids.
      width: of the features, 256 there; of both directions together.
      embedding: size of the token vectors.
      bidirectional: False: one direction of the whole width.
      dropout: of the token vectors, in training.
      start: False: the first token, <start>, is passed over: published encoders never saw one.
      dtype: of the computation; parameters are float32.
    """

    size: int
    width: int = 256
    embedding: int = 300
    bidirectional: bool = True
    dropout: float = 0.5
    start: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, mask: jax.Array, train: bool = False) -> Text:
        """tokens (b, t) int32, mask (b, t) bool -> Text, words and sentence of size `width`."""
        whole = mask
        if not self.start:
            tokens, mask = tokens[:, 1:], mask[:, 1:]
        table = self.param("tokens", _around_zero, (self.size, self.embedding))
        x = jnp.take(table, tokens, axis=0).astype(self.dtype)  # (b, t, embedding)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        lengths = jnp.maximum(mask.sum(axis=1), 1)  # of an empty text one step is read
        hidden = self.width // 2 if self.bidirectional else self.width

        parts = [lstm(x, lengths, hidden, self.dtype, "forward")]
        if self.bidirectional:
            parts.append(lstm(x, lengths, hidden, self.dtype, "backward", reverse=True))
        words = jnp.concatenate([states for states, _ in parts], axis=-1)  # (b, t, width)
        sentence = jnp.concatenate([last for _, last in parts], axis=-1)
        words = words * mask[..., None].astype(words.dtype)
        if not self.start:
            words = jnp.pad(words, ((0, 0), (1, 0), (0, 0)))
        return Text(words=words, mask=whole, sentence=sentence)


def _around_zero(rng: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    return jax.random.uniform(rng, shape, dtype, -0.1, 0.1)


class TransformerEncoder(nn.Module):
    """A small pre-norm transformer (Vaswani et al. 2017; CLIP's text tower has this form).

    Words are the normalised last features, zero where there is no token; the sentence is a
    projection of their mean.

    Attributes:
      size: number of token ids. length: the longest text, in tokens.
      width: of the features; a multiple of `heads`.
      layers, heads: of attention; the MLPs are four times as wide.
      dropout: after attention and MLP, in training.
      dtype: of the computation; parameters are float32.
    """

    size: int
    length: int
    width: int = 256
    layers: int = 2
    heads: int = 4
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, mask: jax.Array, train: bool = False) -> Text:
        """tokens (b, t) int32, t <= length, mask (b, t) bool -> Text of size `width`."""
        # As large as in Vaswani et al. (vectors times sqrt(width), sines). Of small ones Adam's
        # first steps make nearly the same: words that show late, such as shapes, are told apart
        # no more.
        table = self.param("tokens", nn.initializers.normal(1.0), (self.size, self.width))
        places = self.param("places", nn.initializers.normal(0.7), (self.length, self.width))
        x = (jnp.take(table, tokens, axis=0) + places[None, : tokens.shape[1]]).astype(self.dtype)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        for i in range(self.layers):
            x = x + drop(self._attend(x, mask, f"attention_{i}"))
            y = nn.LayerNorm(dtype=self.dtype, name=f"mlp_{i}_norm")(x)
            y = nn.Dense(4 * self.width, dtype=self.dtype, name=f"mlp_{i}_in")(y)
            y = nn.Dense(self.width, dtype=self.dtype, name=f"mlp_{i}_out")(nn.gelu(y))
            x = x + drop(y)
        x = nn.LayerNorm(dtype=self.dtype, name="norm")(x)
        weight = mask[..., None].astype(x.dtype)
        words = x * weight
        mean = words.sum(axis=1) / jnp.maximum(weight.sum(axis=1), 1)
        sentence = nn.Dense(self.width, dtype=self.dtype, name="sentence")(mean)
        return Text(words=words, mask=mask, sentence=sentence)

    def _attend(self, x, mask, name):
        b, t, _ = x.shape
        y = nn.LayerNorm(dtype=self.dtype, name=f"{name}_norm")(x)
        qkv = nn.Dense(3 * self.width, dtype=self.dtype, name=f"{name}_qkv")(y)
        q, k, v = jnp.split(qkv.reshape(b, t, 3 * self.heads, -1), 3, axis=2)
        y = attention(q, k, v, mask).reshape(b, t, self.width)
        return nn.Dense(self.width, dtype=self.dtype, name=f"{name}_out")(y)


class BagOfWords(nn.Module):
    """Token vectors and their mean: knows which words there are and not their order.

    Enough where no two captions differ in order alone, such as scenes of one object.

    Attributes: size: number of token ids. width: of the features. dtype: of the computation.
    """

    size: int
    width: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, mask: jax.Array, train: bool = False) -> Text:
        """tokens (b, t) int32, mask (b, t) bool -> Text of size `width`."""
        table = self.param("tokens", nn.initializers.normal(1.0), (self.size, self.width))
        weight = mask[..., None].astype(self.dtype)
        words = jnp.take(table, tokens, axis=0).astype(self.dtype) * weight
        sentence = words.sum(axis=1) / jnp.sqrt(jnp.maximum(weight.sum(axis=1), 1))
        return Text(words=words, mask=mask, sentence=sentence)


class Judgement(flax.struct.PyTreeNode):
    """A discriminator's logits, float32, for pictures with their sentences; positive is "real".

    pair: (b,) whether the picture is real and the sentence is true of it.
    image: (b,) whether the picture is real; None for a network without such a head.
    pixels: (b, h, w) the same for each pixel; None but for a U-Net.
    """

    pair: jax.Array
    image: jax.Array | None = None
    pixels: jax.Array | None = None


class Drawn(flax.struct.PyTreeNode):
    """What a text-to-image generator gives.

    image: (b, h, w, 3) in [-1, 1]. kl: () float32, the conditioning augmentation's divergence from
    N(0, I), mean over batch and dimensions; None without one. masks: each (b, h', w'), where the
    text acts, values in [0, 1], coarse to fine; empty for networks without masks.
    """

    image: jax.Array
    kl: jax.Array | None = None
    masks: tuple[jax.Array, ...] = ()
