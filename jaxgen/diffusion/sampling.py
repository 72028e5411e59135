"""The one loop of all samplers: a net is called, and a table's row says what becomes of x."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.diffusion.table import Plan

# (x (b, ...), times (b,) float32) -> what the net says, shaped as x.
Denoise = Callable[[jax.Array, jax.Array], jax.Array]
# (index of a call) -> noise shaped as x.
Draw = Callable[[jax.Array], jax.Array]


class State(NamedTuple):
    """A picture under way: x (b, ...) float32, the solver's memory (tuple of the same), and the
    picture that the net had in mind at the last call."""

    x: jax.Array
    memory: tuple[jax.Array, ...]
    x0: jax.Array


class Held(NamedTuple):
    """What must not change: inpainting and outpainting.

    Attributes:
      source: (b, ...) clean, as x.
      mask: broadcasts to x; 1 where to draw anew, 0 where the source stays.
      noise: (b, ...) the run's first noise.
    """

    source: jax.Array
    mask: jax.Array
    noise: jax.Array


def first_noise(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """(b, *shape) standard normal noise: each picture's by its own key alone.

    Args:
      keys: (b,) typed keys, one for each picture. As a picture's noise depends on nothing else, it
        is the same in any batch and on any number of devices.
      shape: of one picture.
    """
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 0), shape))(keys)


def noise_of(keys: jax.Array, shape: tuple[int, ...]) -> Draw:
    """Noise for each call of a sampler, as `first_noise` draws the first."""
    return lambda call: jax.vmap(
        lambda key: jax.random.normal(jax.random.fold_in(key, call + 1), shape)
    )(keys)


def begin(plan: Plan, noise: jax.Array, source: jax.Array | None = None) -> State:
    """Before the first call: pure noise (b, ...), or noise on a source (img2img)."""
    if source is None:
        x = jnp.asarray(plan.pure) * noise
    else:
        alpha, sigma = jnp.asarray(plan.start)
        x = alpha * source + sigma * noise
    return State(x, (jnp.zeros_like(x),) * plan.memory, jnp.zeros_like(x))


def advance(
    denoise: Denoise,
    plan: Plan,
    state: State,
    first: jax.Array | int,
    last: jax.Array | int,
    draw: Draw | None = None,
    held: Held | None = None,
) -> State:
    """Calls first ... last - 1 of a plan.

    The bounds are traced: one compiled program does any part of any plan of the same kind, so a
    host that wants a progress bar, or the pictures on the way (`state.x0`), goes in parts.

    Args:
      denoise: the net; times are those of the plan, the same for all pictures.
      draw: noise of a call (`noise_of`); must be given where `plan.noisy`.
      held: what is put back after each call; exact after the last.
    """
    times, levels = jnp.asarray(plan.times), jnp.asarray(plan.levels)
    if plan.noisy and draw is None:
        raise ValueError(f"sampler {plan.sampler} draws noise: give `draw`")

    def call(i: jax.Array, state: State) -> State:
        x = state.x
        out = denoise(x, jnp.broadcast_to(times[i], x.shape[:1])).astype(x.dtype)
        noise = draw(i) if plan.noisy and draw is not None else None
        new = after(plan, i, state, out, noise)
        if held is not None:
            alpha, sigma = levels[i]
            known = alpha * held.source + sigma * held.noise
            new = new._replace(x=held.mask * new.x + (1 - held.mask) * known)
        return new

    return jax.lax.fori_loop(first, last, call, state)


def after(
    plan: Plan, i: jax.Array, state: State, out: jax.Array, noise: jax.Array | None = None
) -> State:
    """What becomes of x by what the net said of it at call i; noise where `plan.noisy`."""
    factors, to_x0 = jnp.asarray(plan.factors), jnp.asarray(plan.x0)
    seen = (state.x, out, noise, *state.memory)
    new, *memory = (_weighted(row, seen) for row in factors[i])
    return State(new, tuple(memory), to_x0[i, 0] * state.x + to_x0[i, 1] * out)


def sample(
    denoise: Denoise,
    plan: Plan,
    noise: jax.Array,
    source: jax.Array | None = None,
    draw: Draw | None = None,
    held: Held | None = None,
) -> jax.Array:
    """All calls of a plan: (b, ...) pictures or latents. See `begin` and `advance`."""
    return advance(
        denoise, plan, begin(plan, noise, source), 0, jnp.asarray(plan.calls), draw, held
    ).x


def _weighted(row: jax.Array, seen: tuple[jax.Array | None, ...]) -> jax.Array:
    # A sum of products, not a matrix product: those are not float32 on every accelerator.
    return sum(row[k] * array for k, array in enumerate(seen) if array is not None)  # type: ignore
