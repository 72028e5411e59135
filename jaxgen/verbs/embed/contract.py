"""The verb `embed` as a family offers it: pictures and texts as features of one space."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxgen.task import Nets
from jaxgen.verbs.features import Features


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Embed(Features):
    """Features whose inner products say how well a picture and a text go together; see `Features`.

    texts: (nets, tokens (b, t) int32, mask (b, t) bool) -> (b, width) float32, of length 1.
    scale: nets -> what their products are multiplied by before a softmax over texts.
    """

    texts: Callable[[Nets, jax.Array, jax.Array], jax.Array]
    scale: Callable[[Nets], jax.Array]

    def says(self) -> str:
        """See `jaxgen.verbs.Verb`."""
        return f"Pictures and texts as {self.width} features of one space"

    def example(self, name: str, prompt: str) -> tuple[str, str]:
        """See `jaxgen.verbs.Verb`."""
        return (
            f'likeness = model.embed.pictures([array]) @ model.embed.texts(["{prompt}"]).T',
            f"jaxgen embed photo.png --model {name} -o features.npz",
        )

    def trace(self, nets: Nets) -> None:
        """See `jaxgen.verbs.Verb`."""
        picture, tokens, mask = self.shapes()
        jax.eval_shape(self.pictures, nets, picture)
        jax.eval_shape(self.texts, nets, tokens, mask)

    @functools.cached_property
    def texts_program(self) -> Callable[[Nets, Any, Any], jax.Array]:
        """`texts`, jitted."""
        return jax.jit(self.texts)
