"""Drawing in parts, for models that call their net many times for one picture.

A host that wants a progress bar, or the pictures on the way, goes in parts; the programs, and so
the picture to the last bit, are the same however many these are.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import devices
from jaxgen.errors import UserError
from jaxgen.task import Nets, PyTree


class Watch(NamedTuple):
    """Who looks on while pictures are drawn.

    parts: in how many parts of about equal length; 0: after each call.
    seen: called after each part as seen(calls done, calls in all, look), where look() is what the
      net has in mind at this moment, uint8 (b, h, w, 3), of each picture of the batch.
    """

    parts: int
    seen: Callable[[int, int, Callable[[], np.ndarray]], None]


@dataclasses.dataclass(frozen=True, eq=False)
class Stepwise:
    """Pure, jit-able; nets, features, z and `given` as of `Generate.draw`.

    calls: (given) -> how many there are, an integer, traced where `given` is.
    begin: (nets, features, z, given) -> state, a pytree of arrays (b, ...).
    advance: (nets, features, z, given, state, first, last) -> state after the calls first ... last
      - 1, both traced.
    look: (nets, state) -> pictures (b, h, w, 3) float32 that the net has in mind.
    end: (nets, state, given) -> pictures (b, h, w, 3) float32 in [-1, 1].
    """

    calls: Callable[[PyTree], Any]
    begin: Callable[[Nets, PyTree, jax.Array, PyTree], PyTree]
    advance: Callable[[Nets, PyTree, jax.Array, PyTree, PyTree, Any, Any], PyTree]
    look: Callable[[Nets, PyTree], jax.Array]
    end: Callable[[Nets, PyTree, PyTree], jax.Array]

    def draw(self, nets: Nets, features: PyTree, z: jax.Array, given: PyTree) -> jax.Array:
        """All of it; as `Generate.draw`, without masks."""
        state = self.begin(nets, features, z, given)
        state = self.advance(nets, features, z, given, state, 0, self.calls(given))
        return self.end(nets, state, given)

    def pictures(
        self,
        nets: Nets,
        features: PyTree,
        z: jax.Array,
        given: PyTree,
        watch: Watch | None = None,
        room: Callable[[int], None] = lambda largest: None,
    ) -> np.ndarray:
        """Draws a batch on the device: uint8 (b, h, w, 3).

        Args: room: called with the bytes of the largest picture-like array, before the programs
          that make it are compiled.

        Raises:
          UserError: a picture is not finite.
        """
        begin, advance, look, end = self._programs
        calls = int(self.calls(given))
        state = begin(nets, features, z, given)
        ends = np.int32(0), np.int32(calls)
        # By what the programs are called with: they are traced once.
        room(devices.largest_activation(advance, nets, features, z, given, state, *ends))
        room(devices.largest_activation(end, nets, state, given))
        if watch is None:
            bounds = [calls]
        else:
            parts = min(watch.parts or calls, calls)
            bounds = [calls * (i + 1) // parts for i in range(parts)]
        done = 0
        for bound in bounds:
            state = advance(nets, features, z, given, state, np.int32(done), np.int32(bound))
            done = bound
            if watch is not None:
                jax.block_until_ready(state)
                watch.seen(done, calls, functools.partial(_array, look, nets, state))
        return checked(*end(nets, state, given))

    @functools.cached_property
    def _programs(self) -> tuple[Callable[..., Any], ...]:
        def look(nets, state):
            return levels(self.look(nets, state))

        def end(nets, state, given):
            pictures = self.end(nets, state, given)
            return levels(pictures), finite(pictures)

        return jax.jit(self.begin), jax.jit(self.advance), jax.jit(look), jax.jit(end)


def levels(pictures: jax.Array) -> jax.Array:
    """float32 [-1, 1] -> uint8 [0, 255]."""
    return jnp.clip(jnp.round((pictures + 1.0) * 127.5), 0, 255).astype(jnp.uint8)


def finite(pictures: jax.Array) -> jax.Array:
    """(b, ...) -> (b,) bool: as `levels`, what is none would be black."""
    return jnp.isfinite(pictures).all(axis=tuple(range(1, pictures.ndim)))


def checked(pictures: Any, whole: Any) -> np.ndarray:
    """The pictures, where all of them are `finite`. Raises UserError."""
    if not np.asarray(whole).all():
        raise UserError(
            "the numbers have grown beyond all bounds and give no picture: take smaller guidance, "
            "weights of words or rates"
        )
    return np.asarray(pictures)


def _array(look: Callable[..., Any], nets: Nets, state: PyTree) -> np.ndarray:
    return np.asarray(look(nets, state))
