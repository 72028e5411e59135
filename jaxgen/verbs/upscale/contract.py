"""The verb `upscale` as a super-resolution family offers it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.data.text.prompt import Prompt
from jaxgen.task import Nets, PyTree
from jaxgen.verbs import Option

# BT.601 luma, by which the network's answer to a gray picture becomes gray again.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Upscale:
    """Pictures made larger by a whole factor.

    apply: (nets, x, given) -> y; x (b, h, w, 3) float32 in [-1, 1] at low resolution, y
      (b, scale*h, scale*w, 3) float32 in [-1, 1]. `given` is what `give` made of the options and
      the prompt, traced; None: nothing was asked for. Pure, jit-able.
    scale: output pixels per input pixel along each axis.
    radius: receptive-field radius in low-resolution pixels: output that lies further than this
      from a cut is not changed by the cut. Tiles padded by it equal the whole picture.
    multiple: height and width that `apply` takes must be multiples of this.
    channels: 3, or 1: `apply` takes and gives pictures of one channel. Gray pictures are given to
      it as they are, of others each channel by itself.
    options: that a user may set, see `jaxgen.verbs.Option`.
    give: (prompt or None, every option's value) -> `given`, a pytree whose shapes do not depend on
      them. None: the model takes neither.
    read: text -> Prompt; None: the model takes no prompt.
    attend: (nets, x (b, h, w, 3), given) -> (b, h, w, t) float32: how much each place looked at
      each token of the prompt; sums to one over the tokens. None for a model without attention.
    """

    nets: tuple[str, ...]
    apply: Callable[[Nets, jax.Array, PyTree], jax.Array]
    scale: int
    radius: int
    multiple: int = 1
    channels: int = 3
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    give: Callable[[Prompt | None, Mapping[str, Any]], PyTree] | None = None
    read: Callable[[str], Prompt] | None = None
    attend: Callable[[Nets, jax.Array, PyTree], jax.Array] | None = None

    def facts(self) -> dict[str, Any]:
        """See `jaxgen.verbs.Verb`."""
        return {"scale": self.scale}

    def says(self) -> str:
        """See `jaxgen.verbs.Verb`."""
        return f"Super-resolution x{self.scale}"

    def example(self, name: str, prompt: str) -> tuple[str, str]:
        """See `jaxgen.verbs.Verb`."""
        del name, prompt
        return "large = model.upscale(array)  # uint8 (h, w, 3)", ""

    def trace(self, nets: Nets) -> None:
        """See `jaxgen.verbs.Verb`."""
        jax.eval_shape(self.apply, nets, self.picture(8 * self.multiple), None)

    def picture(self, side: int) -> jax.ShapeDtypeStruct:
        """What `apply` is given of one colour picture of this side, as a shape."""
        return jax.ShapeDtypeStruct((3 // self.channels, side, side, self.channels), "float32")

    @functools.cached_property
    def program(self) -> Callable[[Nets, Any, PyTree], jax.Array]:
        """Jitted (nets, windows, given) -> windows: 8 or 16 bits or float32, 1 or 3 channels."""

        @jax.jit
        def program(nets, x, given):  # (b, h, w, c) -> (b, s*h, s*w, c)
            dtype, gray = x.dtype, x.shape[-1] == 1
            half = {"uint8": 127.5, "uint16": 32767.5}.get(dtype.name)
            if half:
                x = x.astype(jnp.float32) / half - 1.0
            if self.channels == 1:
                y = self._each_channel(nets, x, given)
            else:
                if gray:
                    x = jnp.repeat(x, 3, axis=-1)
                y = self.apply(nets, x, given).astype(jnp.float32)
            if gray and self.channels == 3:
                y = (y * LUMA.reshape(1, 1, 1, 3)).sum(axis=-1, keepdims=True)
            if half:
                y = jnp.clip(jnp.round((y + 1.0) * half), 0.0, 2.0 * half).astype(dtype)
            return y

        return program

    def _each_channel(self, nets: Nets, x: jax.Array, given: PyTree) -> jax.Array:
        """(b, h, w, c) -> (b, s*h, s*w, c) by a network of one channel."""
        b, h, w, c = x.shape
        planes = x.transpose(0, 3, 1, 2).reshape(b * c, h, w, 1)
        y = self.apply(nets, planes, given).astype(jnp.float32)
        return y.reshape(b, c, *y.shape[1:3]).transpose(0, 2, 3, 1)

    @functools.cached_property
    def attention_program(self) -> Callable[[Nets, Any, PyTree], jax.Array]:
        """Jitted `attend` of uint8 windows (b, h, w, 3)."""
        attend = self.attend
        assert attend is not None

        @jax.jit
        def program(nets, x, given):
            return attend(nets, x.astype(jnp.float32) / 127.5 - 1.0, given)

        return program

    @functools.cached_property
    def activations(self) -> dict[Any, float]:
        """Bytes per low-resolution pixel of the largest activation, by the nets' shapes."""
        return {}
