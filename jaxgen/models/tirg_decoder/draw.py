"""Drawing what pictures and words ask for, with trained nets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.models.tirg_decoder.losses import make_decoder
from jaxgen.models.tirg_decoder.retrieval import Retrieval
from jaxgen.task import Nets
from jaxgen.verbs.features import unit_range
from jaxgen.verbs.generate.stepwise import levels

_BATCH = 64


class Drawing:
    """A config's decoder over its retrieval model.

    Attributes: nets: names of the nets whose variables the functions get.
    """

    def __init__(self, config: ConfigDict):
        self.retrieval = Retrieval(config)
        self.decoder = make_decoder(config)
        self.nets = ("decoder", self.retrieval.name)

    def draw(
        self, nets: Nets, x: jax.Array, tokens: jax.Array, mask: jax.Array, z: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Pictures (n, s, s, 3) float32 in [-1, 1] with texts (n, t) and noise -> see `Decoder`."""
        asked = self.retrieval.asked(nets, x, tokens, mask)
        found: Any = self.decoder.apply(nets["decoder"], asked, z)
        return found

    @functools.cached_property
    def program(self) -> Callable[..., tuple[jax.Array, jax.Array]]:
        """`draw`, jitted, of uint8 pictures, with (seed, numbers (n,)) for the noise."""

        @jax.jit
        def program(nets, x, tokens, mask, seed, numbers):
            key = jax.random.key(seed)
            z = jax.vmap(
                lambda number: jax.random.normal(
                    jax.random.fold_in(key, number), (self.decoder.noise,)
                )
            )(numbers)
            pictures, masks = self.draw(nets, unit_range(x), tokens, mask, z)
            return levels(pictures), masks.astype(jnp.float32)

        return program

    def __call__(
        self, nets: Nets, pictures: Sequence[np.ndarray], texts: Sequence[str], seed: int
    ) -> np.ndarray:
        """What is drawn of each picture (s, s, 3) uint8 with its text, uint8 (n, s, s, 3)."""
        words = [self.retrieval.words.fill(text) for text in texts]
        own = {net: nets[net] for net in self.nets}
        drawn = []
        for start in range(0, len(texts), _BATCH):
            rows = [min(i, len(texts) - 1) for i in range(start, start + _BATCH)]
            tokens, mask = (np.stack([words[i][part] for i in rows]) for part in (0, 1))
            x = np.stack([pictures[i] for i in rows])
            numbers = np.array(rows, np.uint32)
            found, _ = self.program(own, x, tokens, mask, np.uint32(seed), numbers)
            drawn.append(np.asarray(found)[: len(texts) - start])
        return np.concatenate(drawn)
