"""Codebooks that are running means of the vectors that chose them: no gradient, no optimizer."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.losses import vq as losses
from jaxgen.models.vqgan.quantize.contract import unit
from jaxgen.models.vqgan.quantize.nearest import Restarted, uniform
from jaxgen.models.vqgan.quantize.search import sums_by_code


class Averaged(Restarted):
    """Each code is the mean of its vectors over past batches (van den Oord 2017, appendix A.1).

    Attributes:
      beta: weight of the commitment, the only loss.
      epsilon: added to each code's uses, so that one without any has a finite vector.
      bias_correction: running means start at zero and are corrected for it (dm-haiku); else uses
        start at one and sums at the codebook (vector-quantize-pytorch). They differ in the first
        1 / (1 - decay) updates; with the correction, a code that the first batch does not use
        becomes zero.
    """

    beta: float = 0.25
    epsilon: float = 1e-5
    bias_correction: bool = True

    def make_codebook(self, size: int) -> None:
        """See `Nearest`."""
        shape = (self.codes, size)

        def random() -> jax.Array:
            # haiku's: variance 1 / size.
            table = uniform((3.0 / size) ** 0.5)(self.make_rng("params"), shape)
            return unit(table) if self.normalize else table

        self.table = self.variable("codebook", "embedding", random)
        if self.bias_correction:
            self.uses = self.variable("codebook", "uses", jnp.zeros, (self.codes,))
            self.sums = self.variable("codebook", "sums", jnp.zeros, shape)
            self.updates = self.variable("codebook", "updates", jnp.zeros, ())
        else:
            self.uses = self.variable("codebook", "uses", jnp.ones, (self.codes,))
            # A copy: the trainer donates its state, and a buffer can stand in it only once.
            self.sums = self.variable("codebook", "sums", lambda: jnp.copy(self.table.value))
        self.make_flag()

    def embedding(self) -> jax.Array:
        """See `Nearest`."""
        return self.table.value

    def losses(self, flat: jax.Array, chosen: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """See `Nearest`."""
        distance = losses.squared_error(flat, jax.lax.stop_gradient(chosen))
        return self.beta * distance, {"distance": distance}

    def start(self, flat: jax.Array) -> None:
        """See `Nearest`."""
        if not self.kmeans:
            return
        first = self.started.value == 0
        self.table.value, uses = self.first_means(flat, (self.table.value, self.uses.value))
        if not self.bias_correction:
            # Sums that agree with the means: the codebook stays where k-means put it.
            self.sums.value = jnp.where(first, self.table.value * uses[:, None], self.sums.value)
            self.uses.value = uses

    def update(self, flat: jax.Array, codes: jax.Array) -> None:
        """See `Nearest`."""
        counts, sums = sums_by_code(flat, codes, self.codes)
        uses = self.decay * self.uses.value + (1.0 - self.decay) * counts
        sums = self.decay * self.sums.value + (1.0 - self.decay) * sums
        correction = jnp.ones(())
        if self.bias_correction:
            self.updates.value = self.updates.value + 1.0
            correction = 1.0 - self.decay**self.updates.value
        mean = uses / correction
        total = jnp.sum(mean)
        smooth = (mean + self.epsilon) / (total + self.codes * self.epsilon) * total
        table = sums / correction / smooth[:, None]
        if self.normalize:
            table = unit(table)
        if self.revive:
            dead, rows, least = mean < self.revive, self.picked(flat), self.revive * correction
            table = jnp.where(dead[:, None], rows, table)
            # As if it had been used just enough, so that it has time to be found.
            sums = jnp.where(dead[:, None], rows * least, sums)
            uses = jnp.where(dead, least, uses)
        self.table.value, self.uses.value, self.sums.value = table, uses, sums


class Cosine(Averaged):
    """Directions in few dimensions, as running means: vector-quantize-pytorch's cosine codebook.

    ViT-VQGAN's and LlamaGen's, trained by gradient, is `vq` with `normalize` and `dim` 8.
    """

    dim: int = 8
    normalize: bool = True
    bias_correction: bool = False
