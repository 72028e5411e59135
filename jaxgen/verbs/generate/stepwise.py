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
        self, nets: Nets, features: PyTree, z: jax.Array, given: PyTree, watch: Watch | None = None
    ) -> np.ndarray:
        """Draws a batch on the device: uint8 (b, h, w, 3)."""
        begin, advance, look, end = self._programs
        calls = int(self.calls(given))
        state = begin(nets, features, z, given)
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
        return np.asarray(end(nets, state, given))

    @functools.cached_property
    def _programs(self) -> tuple[Callable[..., Any], ...]:
        def look(nets, state):
            return levels(self.look(nets, state))

        def end(nets, state, given):
            return levels(self.end(nets, state, given))

        return jax.jit(self.begin), jax.jit(self.advance), jax.jit(look), jax.jit(end)


def levels(pictures: jax.Array) -> jax.Array:
    """float32 [-1, 1] -> uint8 [0, 255]."""
    return jnp.clip(jnp.round((pictures + 1.0) * 127.5), 0, 255).astype(jnp.uint8)


def _array(look: Callable[..., Any], nets: Nets, state: PyTree) -> np.ndarray:
    return np.asarray(look(nets, state))
