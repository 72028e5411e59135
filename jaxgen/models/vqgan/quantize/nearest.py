"""Codebooks whose nearest vector is the code: trained by gradient, by averages, or a linear map."""

from __future__ import annotations

import abc
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgen.losses import vq as losses
from jaxgen.losses.vq import EXACT
from jaxgen.metrics import codebook as health
from jaxgen.models.vqgan.quantize import search
from jaxgen.models.vqgan.quantize.contract import (
    Quantiser,
    Quantized,
    rotated,
    straight_through,
    unit,
)


def uniform(limit: float) -> nn.initializers.Initializer:
    """Uniform in [-limit, limit]."""

    def init(rng: jax.Array, shape: Any, dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(rng, shape, dtype, -limit, limit)

    return init


class Nearest(Quantiser):
    """What the forms of this file share; see `jaxgen.models.vqgan.quantize.make`.

    With `train`, and where the collection "codebook" is mutable, running statistics are updated:
    over the global batch. The output and the loss are always those of the codebook before.

    Attributes:
      dim: channels of the codebook, with a learned projection before and behind; 0: `width`.
      normalize: compare directions only: unit vectors on both sides.
      rotation: gradient by the rotation trick instead of straight through.
      entropy: weight of MaskGIT's entropy loss, which wants each choice sharp and all codes used;
        0: none.
      entropy_temperature: of the softmax over distances in it.
    """

    dim: int = 0
    normalize: bool = False
    rotation: bool = False
    entropy: float = 0.0
    entropy_temperature: float = 0.01

    def setup(self) -> None:
        size = self.dim or self.width
        self.project(size)
        self.make_codebook(size)

    def quantised(self, z: jax.Array, train: bool) -> Quantized:
        """See `Quantiser`."""
        flat = z.reshape(-1, z.shape[-1])
        if self.normalize:
            flat = unit(flat)
        updated = train and self.is_mutable_collection("codebook") and not self.is_initializing()
        if updated:
            self.start(jax.lax.stop_gradient(flat))
        codebook = jnp.asarray(self.embedding())
        codes = search.nearest(flat, codebook)
        chosen = codebook[codes]
        loss, parts = self.losses(flat, chosen)
        if self.entropy:
            parts["entropy"] = losses.entropy_loss(flat, codebook, self.entropy_temperature)
            loss = loss + self.entropy * parts["entropy"]
        found = (rotated if self.rotation else straight_through)(flat, chosen)
        if updated:
            self.update(jax.lax.stop_gradient(flat), codes)
        return Quantized(found.reshape(z.shape), codes.reshape(z.shape[:-1]), loss, parts)

    def values(self, codes: jax.Array) -> jax.Array:
        """See `Quantiser`."""
        return jnp.asarray(self.embedding())[codes]

    @abc.abstractmethod
    def make_codebook(self, size: int) -> None:
        """Declares the variables."""

    @abc.abstractmethod
    def embedding(self) -> jax.Array:
        """(codes, dim): the vectors that are compared."""

    @abc.abstractmethod
    def losses(self, flat: jax.Array, chosen: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(loss, parts) of vectors (n, d) and their codes' vectors."""

    def start(self, flat: jax.Array) -> None:
        """May place the codebook before a batch's search: vectors (n, d)."""

    def update(self, flat: jax.Array, codes: jax.Array) -> None:
        """Changes the running statistics after a batch: vectors (n, d), codes (n,)."""


class Restarted(Nearest):
    """What codebooks share that can be placed anew: at the start, or code by code.

    Attributes:
      kmeans: iterations of k-means by which the first training batch makes the codebook; 0: the
        codebook starts at random.
      revive: a code with fewer vectors per batch, in the running mean, moves to a random vector of
        the batch; 0: never.
      decay: of running means, per update.
    """

    kmeans: int = 0
    revive: float = 0.0
    decay: float = 0.99

    def make_flag(self) -> None:
        """Declares whether k-means was done; a float, as the trainer's averages need."""
        if self.kmeans:
            self.started = self.variable("codebook", "started", jnp.zeros, ())

    def first_means(
        self, flat: jax.Array, kept: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """(codebook, uses of each code) by k-means at the first batch, and `kept` after it."""
        rng, started = self.make_rng("quantize"), self.started.value > 0
        self.started.value = jnp.ones(())

        def fresh() -> tuple[jax.Array, jax.Array]:
            means = search.picks(rng, flat, self.codes)
            return search.kmeans(flat, means, self.kmeans, self.normalize)

        return jax.lax.cond(started, lambda: kept, fresh)

    def picked(self, flat: jax.Array) -> jax.Array:
        """Random vectors of the batch, one per code."""
        return search.picks(self.make_rng("quantize"), flat, self.codes)


class Learned(Restarted):
    """A codebook trained by gradient: VQ-VAE's and VQGAN's.

    A forward pass can't change parameters. So where codes are placed anew, the codebook is the
    parameter plus a shift that is none, `moved`.

    Attributes:
      beta: weight of the commitment.
      legacy: that weight on the codebook's part instead, as taming-transformers trained.
    """

    beta: float = 0.25
    legacy: bool = False

    def make_codebook(self, size: int) -> None:
        """See `Nearest`."""
        shape = (self.codes, size)
        self.table = self.param("embedding", uniform(1.0 / self.codes), shape)
        if self.kmeans or self.revive:
            self.moved = self.variable("codebook", "moved", jnp.zeros, shape)
        if self.revive:
            self.uses = self.variable("codebook", "uses", jnp.zeros, (self.codes,))
            self.updates = self.variable("codebook", "updates", jnp.zeros, ())
        self.make_flag()

    def embedding(self) -> jax.Array:
        """See `Nearest`."""
        table = self.table + self.moved.value if self.kmeans or self.revive else self.table
        return unit(table) if self.normalize else table

    def losses(self, flat: jax.Array, chosen: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """See `Nearest`."""
        loss = losses.codebook_loss(flat, chosen, self.beta, self.legacy)
        return loss, {"distance": losses.squared_error(flat, chosen)}

    def start(self, flat: jax.Array) -> None:
        """See `Nearest`."""
        if self.kmeans:
            table = jax.lax.stop_gradient(self.table)
            kept = (table + self.moved.value, jnp.zeros(self.codes))
            self.moved.value = self.first_means(flat, kept)[0] - table

    def update(self, flat: jax.Array, codes: jax.Array) -> None:
        """See `Nearest`."""
        if not self.revive:
            return
        counts = health.histogram(codes, self.codes)
        uses = self.decay * self.uses.value + (1.0 - self.decay) * counts
        self.updates.value = self.updates.value + 1.0
        least = self.revive * (1.0 - self.decay**self.updates.value)
        dead = uses < least
        shift = self.picked(flat) - jax.lax.stop_gradient(self.table)
        self.moved.value = jnp.where(dead[:, None], shift, self.moved.value)
        # As if it had been used just enough, so that it has time to be found.
        self.uses.value = jnp.where(dead, least, uses)


class Linear(Nearest):
    """SimVQ (Zhu et al. 2024): random vectors that stay, and a learned linear map of all of them.

    One step moves every code, so none is left behind.

    Attributes:
      beta: weight of the commitment.
    """

    beta: float = 0.25

    def make_codebook(self, size: int) -> None:
        """See `Nearest`."""

        def random() -> jax.Array:
            return jax.random.normal(self.make_rng("params"), (self.codes, size)) * size**-0.5

        self.frozen = self.variable("codebook", "frozen", random)
        self.map = self.param("map", nn.initializers.lecun_normal(), (size, size))

    def embedding(self) -> jax.Array:
        """See `Nearest`."""
        table = jnp.dot(self.frozen.value, self.map, precision=EXACT)
        return unit(table) if self.normalize else table

    def losses(self, flat: jax.Array, chosen: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """See `Nearest`."""
        loss = losses.codebook_loss(flat, chosen, self.beta)
        return loss, {"distance": losses.squared_error(flat, chosen)}
