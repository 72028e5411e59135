"""The verb `retrieve` as a family offers it: a picture and words ask for other pictures."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgen.data.triplets.examples import square
from jaxgen.task import Nets
from jaxgen.verbs.features import Features, unit_range


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Retrieve(Features):
    """Features of pictures, and of what a picture and a text ask for; see `Features`.

    queries: (nets, x, tokens (b, t) int32, mask (b, t) bool) -> (b, width) float32, of length 1.
    """

    queries: Callable[[Nets, jax.Array, jax.Array, jax.Array], jax.Array]
    fit: Callable[[np.ndarray, int], np.ndarray] = square

    def says(self) -> str:
        """See `jaxgen.verbs.Verb`."""
        return f"Search by a picture and words, {self.width} features"

    def example(self, name: str, prompt: str) -> tuple[str, str]:
        """See `jaxgen.verbs.Verb`."""
        return (
            f'likeness = model.retrieve([array], ["{prompt}"]) @ model.retrieve.pictures(arrays).T',
            f'jaxgen search INDEX --image q.png --text "{prompt}"  # of: '
            f"jaxgen index FOLDER -o INDEX --model {name}",
        )

    def trace(self, nets: Nets) -> None:
        """See `jaxgen.verbs.Verb`."""
        picture, tokens, mask = self.shapes()
        jax.eval_shape(self.pictures, nets, picture)
        jax.eval_shape(self.queries, nets, picture, tokens, mask)

    @functools.cached_property
    def queries_program(self) -> Callable[[Nets, Any, Any, Any], jax.Array]:
        """`queries`, jitted, of uint8."""

        @jax.jit
        def program(nets, x, tokens, mask):
            return self.queries(nets, unit_range(x), tokens, mask)

        return program
