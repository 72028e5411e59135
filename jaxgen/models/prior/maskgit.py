"""MaskGIT (Chang et al., CVPR 2022): codes drawn in parallel, the surest ones kept at each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def cosine(ratio: Any) -> Any:
    """The share of cells that stay masked after `ratio` of the steps, in [1e-6, 1]."""
    return jnp.clip(jnp.cos(jnp.pi / 2 * ratio), 1e-6, 1.0)


# step -> Gumbel noise (b, n, codes) of the draw and (b, n) of which draws are kept.
Noise: TypeAlias = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


class Trace(NamedTuple):
    """What each step did: predictions (steps, b, n) int32 of all cells before some were masked
    again, mask (steps, b, n) bool of those, and mask_len (steps, b), their number.
    """

    predictions: jax.Array
    mask: jax.Array
    mask_len: jax.Array


def decode(
    logits_of: Callable[[jax.Array], jax.Array],
    tokens: jax.Array,
    mask_id: int,
    steps: int,
    noise: Noise,
    choice_temperature: Any,
    begin: int = 0,
) -> Trace:
    """Fills masked cells in `steps` steps, and says what each did; its last predictions are the
    result.

    Args:
      logits_of: (b, n) tokens -> (b, n, codes) float32.
      tokens: (b, n) int32, `mask_id` where a cell is to be drawn; the others stay.
      noise: step -> Gumbel noise (b, n, codes) of the draw and (b, n) of the choice.
      choice_temperature: weight of the choice's noise at the first step; it falls linearly to 0.
      begin: step to begin at, to change a picture that is nearly done.
    """
    step = _step(logits_of, tokens, mask_id, steps, noise, choice_temperature)
    return lax.scan(step, tokens, jnp.arange(begin, steps))[1]


def decoded(
    logits_of: Callable[[jax.Array], jax.Array],
    tokens: jax.Array,
    mask_id: int,
    steps: jax.Array,
    noise: Noise,
    choice_temperature: Any,
) -> jax.Array:
    """As `decode` with a traced number of steps: the codes (b, n) int32 alone."""
    step = _step(logits_of, tokens, mask_id, steps, noise, choice_temperature)

    def body(number, carry):
        tokens, trace = step(carry[0], number)
        return tokens, trace.predictions

    return lax.fori_loop(0, steps, body, (tokens, tokens))[1]


def _step(logits_of, tokens, mask_id, steps, noise, choice_temperature):
    at_first = (tokens == mask_id).sum(axis=-1)

    def step(tokens, number):
        logits = logits_of(tokens)
        of_codes, of_choice = noise(number)
        unknown = tokens == mask_id
        drawn = jnp.argmax(logits + of_codes, axis=-1).astype(tokens.dtype)
        drawn = jnp.where(unknown, drawn, tokens)
        ratio = (number + 1) / steps
        # Kept cells may hold tokens that are no codes: any place of theirs will do.
        place = jnp.minimum(drawn, logits.shape[-1] - 1)[..., None]
        sure = jnp.take_along_axis(jax.nn.log_softmax(logits), place, axis=-1)[..., 0]
        sure = jnp.where(unknown, sure, jnp.inf)
        mask_len = jnp.floor(at_first * cosine(ratio)).astype(jnp.int32)
        mask_len = jnp.maximum(1, jnp.minimum(unknown.sum(axis=-1) - 1, mask_len))
        sure = sure + choice_temperature * (1.0 - ratio) * of_choice
        edge = jnp.take_along_axis(jnp.sort(sure, axis=-1), mask_len[:, None], axis=-1)
        masked = sure < edge
        return jnp.where(masked, mask_id, drawn), Trace(drawn, masked, mask_len)

    return step


def row_noise(keys: jax.Array, step: jax.Array, n: int, codes: int) -> tuple[jax.Array, jax.Array]:
    """A step's noise, of each row's own key (b, 2) uint32: ((b, n, codes), (b, n))."""

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        a, b = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(key), step))
        return jax.random.gumbel(a, (n, codes)), jax.random.gumbel(b, (n,))

    return jax.vmap(one)(keys)


def masked(rng: jax.Array, shape: tuple[int, ...], least: float) -> jax.Array:
    """Which cells a training step masks: of each row a share by the cosine, at least `least`.

    Args: shape: (b, n). least: smallest share, in [0, 1].

    Returns: bool (b, n).
    """
    a, b = jax.random.split(rng)
    share = jnp.maximum(cosine(jax.random.uniform(a, (shape[0],))), least)
    count = jnp.ceil(share * shape[1]).astype(jnp.int32)
    ranks = jnp.argsort(jnp.argsort(jax.random.uniform(b, shape), axis=-1), axis=-1)
    return ranks < count[:, None]


def smoothed(logits: jax.Array, codes: jax.Array, smoothing: float) -> jax.Array:
    """Cross-entropy with smoothed labels, (b, n): each other code has smoothing / (codes - 1)."""
    total = logits.shape[-1]
    low = smoothing / (total - 1)
    high = 1.0 - smoothing
    logs = jax.nn.log_softmax(logits)
    own = jnp.take_along_axis(logs, codes[..., None], axis=-1)[..., 0]
    offset = -(high * np.log(high) + (total - 1) * low * np.log(low + 1e-20))
    return -(high - low) * own - low * logs.sum(axis=-1) - offset
