"""The verb `embed` as a family offers it: pictures and texts as features of one space."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxgen.data.text.prompt import Prompt
from jaxgen.task import Nets
from jaxgen.verbs import Option


@dataclasses.dataclass(frozen=True, eq=False)
class Embed:
    """Features whose inner products say how well a picture and a text go together.

    size: side of the pictures that `pictures` takes. width: of the features.
    read: text -> Prompt; raises UserError where the model has no tokenizer.
    pictures: (nets, x (b, size, size, 3) float32 in [-1, 1]) -> (b, width) float32, of length 1.
    texts: (nets, tokens (b, t) int32, mask (b, t) bool) -> (b, width) float32, of length 1.
    length: t.
    scale: nets -> what their products are multiplied by before a softmax over texts.
    """

    nets: tuple[str, ...]
    size: int
    width: int
    length: int
    read: Callable[[str], Prompt]
    pictures: Callable[[Nets, jax.Array], jax.Array]
    texts: Callable[[Nets, jax.Array, jax.Array], jax.Array]
    scale: Callable[[Nets], jax.Array]
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """See `jaxgen.verbs.Verb`."""
        return {"features": self.width, "size": self.size}

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
        picture = jax.ShapeDtypeStruct((1, self.size, self.size, 3), np.float32)
        jax.eval_shape(self.pictures, nets, picture)
        tokens = jax.ShapeDtypeStruct((1, self.length), np.int32)
        jax.eval_shape(self.texts, nets, tokens, jax.ShapeDtypeStruct((1, self.length), np.bool_))

    @functools.cached_property
    def pictures_program(self) -> Callable[[Nets, Any], jax.Array]:
        """`pictures`, jitted, of uint8."""

        @jax.jit
        def program(nets, x):
            return self.pictures(nets, x.astype("float32") / 127.5 - 1.0)

        return program

    @functools.cached_property
    def texts_program(self) -> Callable[[Nets, Any, Any], jax.Array]:
        """`texts`, jitted."""
        return jax.jit(self.texts)
