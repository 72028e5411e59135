"""The verb `retrieve` as a family offers it: a picture and words ask for other pictures."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxgen.data.text.prompt import Prompt
from jaxgen.data.triplets.examples import square
from jaxgen.task import Nets
from jaxgen.verbs import Option


@dataclasses.dataclass(frozen=True, eq=False)
class Retrieve:
    """Features of pictures, and of what a picture and a text ask for, in one space.

    size: side of the pictures that the functions take. width: of the features.
    read: text -> Prompt.
    pictures: (nets, x (b, size, size, 3) float32 in [-1, 1]) -> (b, width) float32, of length 1.
    queries: (nets, x, tokens (b, t) int32, mask (b, t) bool) -> (b, width) float32, of length 1.
    length: t.
    fit: (uint8 (h, w, 3), size) -> uint8 (size, size, 3): how a picture is looked at.
    """

    nets: tuple[str, ...]
    size: int
    width: int
    length: int
    read: Callable[[str], Prompt]
    pictures: Callable[[Nets, jax.Array], jax.Array]
    queries: Callable[[Nets, jax.Array, jax.Array, jax.Array], jax.Array]
    fit: Callable[[np.ndarray, int], np.ndarray] = square
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """See `jaxgen.verbs.Verb`."""
        return {"features": self.width, "size": self.size}

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
        picture = jax.ShapeDtypeStruct((1, self.size, self.size, 3), np.float32)
        tokens = jax.ShapeDtypeStruct((1, self.length), np.int32)
        mask = jax.ShapeDtypeStruct((1, self.length), np.bool_)
        jax.eval_shape(self.pictures, nets, picture)
        jax.eval_shape(self.queries, nets, picture, tokens, mask)

    @functools.cached_property
    def pictures_program(self) -> Callable[[Nets, Any], jax.Array]:
        """`pictures`, jitted, of uint8."""

        @jax.jit
        def program(nets, x):
            return self.pictures(nets, x.astype("float32") / 127.5 - 1.0)

        return program

    @functools.cached_property
    def queries_program(self) -> Callable[[Nets, Any, Any, Any], jax.Array]:
        """`queries`, jitted, of uint8."""

        @jax.jit
        def program(nets, x, tokens, mask):
            return self.queries(nets, x.astype("float32") / 127.5 - 1.0, tokens, mask)

        return program
