"""Quantisers without a codebook: every channel is rounded to a few levels, or to its sign."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.errors import UserError
from jaxgen.losses import vq as losses
from jaxgen.models.vqgan.quantize.contract import Quantiser, Quantized, straight_through, unit

# The paper's levels (Mentzer et al. 2023, table 1) by their product, which comes near a power of 2.
PAPER = ((8, 6, 5), (8, 5, 5, 5), (7, 5, 5, 5, 5), (8, 8, 8, 6, 5), (8, 8, 8, 5, 5, 5))
LEVELS = {math.prod(levels): levels for levels in PAPER}
GRIDS = ("google", "pytorch", "symmetric")
EPSILON = 1e-3


class FSQ(Quantiser):
    """Finite scalar quantisation (Mentzer et al. 2023); the code is a mixed-radix number.

    Attributes:
      codes: the product of the levels. They are the channels between the projections.
      levels: values of each channel, the first one the code's lowest digit; empty: the paper's for
        `codes`.
      grid: where a channel is cut. "google": the authors' notebook; "pytorch":
        vector-quantize-pytorch, which bends the border the other way; "symmetric": its option with
        evenly spaced values from -1 to 1.
    """

    levels: tuple[int, ...] = ()
    grid: str = "google"

    def __post_init__(self) -> None:
        check_levels(self.codes, tuple(self.levels), self.grid)
        super().__post_init__()

    def setup(self) -> None:
        self.per_channel = check_levels(self.codes, tuple(self.levels), self.grid)
        self.project(len(self.per_channel))

    def quantised(self, z: jax.Array, train: bool) -> Quantized:
        """See `Quantiser`; its loss is 0."""
        del train
        digits = round_through(to_digits(z, self.per_channel, self.grid), self.grid)
        codes = join(digits, self.per_channel)
        values = from_digits(digits, self.per_channel, self.grid)
        return Quantized(values, codes, jnp.zeros(()), {})

    def values(self, codes: jax.Array) -> jax.Array:
        """See `Quantiser`."""
        return from_digits(split(codes, self.per_channel), self.per_channel, self.grid)


class LFQ(Quantiser):
    """Lookup-free quantisation (Yu et al. 2023): signs; the first channel is the highest bit.

    Zero counts as minus.

    Attributes:
      codes: a power of two, 2^d; d channels between the projections.
      entropy: weight of (entropy of each choice - diversity * entropy of all choices).
      diversity: of the second in it.
      sharpness: of the chances in it, an inverse temperature.
      beta: weight of the commitment.
      spherical: binary spherical quantisation (Zhao et al. 2024): unit vectors on both sides.
      clamp: bends values softly into [-clamp, clamp] before; 0: not.
    """

    entropy: float = 0.1
    diversity: float = 1.0
    sharpness: float = 100.0
    beta: float = 0.25
    spherical: bool = False
    clamp: float = 0.0

    def __post_init__(self) -> None:
        check_bits(self.codes)
        super().__post_init__()

    def setup(self) -> None:
        self.bits = check_bits(self.codes)
        self.scale = self.bits**-0.5 if self.spherical else 1.0
        self.project(self.bits)

    def quantised(self, z: jax.Array, train: bool) -> Quantized:
        """See `Quantiser`."""
        del train
        if self.clamp:
            z = jnp.tanh(z / self.clamp) * self.clamp
        if self.spherical:
            z = unit(z)
        signs = jnp.where(z > 0, self.scale, -self.scale)
        codes = join((z > 0)[..., ::-1], (2,) * self.bits)
        # |z - s|^2 of a sign s and of its opposite differ by 4 scale z.
        log_odds = 4.0 * self.scale * self.sharpness * z.reshape(-1, self.bits)
        of_choice, of_all = losses.sign_entropies(log_odds)
        distance = losses.squared_error(z, signs)
        parts = {"distance": distance, "choice_entropy": of_choice, "entropy": of_all}
        loss = self.entropy * (of_choice - self.diversity * of_all) + self.beta * distance
        return Quantized(straight_through(z, signs), codes, loss, parts)

    def values(self, codes: jax.Array) -> jax.Array:
        """See `Quantiser`."""
        digits = split(codes, (2,) * self.bits)[..., ::-1]
        return (2.0 * digits - 1.0) * self.scale


def check_bits(codes: int) -> int:
    """d of 2^d codes; a UserError if there is no such."""
    if codes < 2 or codes & (codes - 1):
        raise UserError(
            f"LFQ has a power of two of codes, not {codes}: {2 ** codes.bit_length()} is"
        )
    return codes.bit_length() - 1


def check_levels(codes: int, levels: tuple[int, ...], grid: str) -> tuple[int, ...]:
    """The levels of each channel.

    Raises:
      UserError: they don't multiply to `codes`, there are none for it, or the grid has no such.
    """
    found = levels or LEVELS.get(codes, ())
    if not found:
        raise UserError(
            f"FSQ with {codes} codes needs its levels, whose product that is; "
            f"there are some already for {', '.join(map(str, LEVELS))} codes"
        )
    if min(found) < 2 or math.prod(found) != codes:
        raise UserError(
            f"FSQ levels {found} have {math.prod(found)} codes, not {codes}: each must be 2 or "
            "more, and their product the number of codes"
        )
    if grid == "pytorch" and 2 in found:
        raise UserError(f'FSQ levels {found}: the grid "pytorch" has no level 2, others have')
    return found


def to_digits(z: jax.Array, levels: tuple[int, ...], grid: str) -> jax.Array:
    """Each channel squeezed to about [0, its levels - 1], to be rounded: (..., d) -> (..., d)."""
    if grid == "symmetric":
        return _row([n - 1 for n in levels], z) * (jnp.tanh(z) + 1.0) / 2.0
    # The two differ in sign only, but not in it alone: each has a shift that fits its own border.
    sign = -1.0 if grid == "google" else 1.0
    shift_of = math.tan if grid == "google" else math.atanh
    half = [(n - 1) * (1.0 + sign * EPSILON) / 2.0 for n in levels]
    offset = [0.0 if n % 2 else 0.5 for n in levels]
    shift = [shift_of(o / h) for o, h in zip(offset, half, strict=True)]
    bounded = jnp.tanh(z + _row(shift, z)) * _row(half, z) - _row(offset, z)
    return bounded + _row([n // 2 for n in levels], z)


def from_digits(digits: jax.Array, levels: tuple[int, ...], grid: str) -> jax.Array:
    """Digits (..., d), each in [0, its levels - 1], as values in [-1, 1]."""
    if grid == "symmetric":
        return digits * (2.0 / _row([n - 1 for n in levels], digits)) - 1.0
    half = _row([n // 2 for n in levels], digits)
    return (digits - half) / half


def round_through(x: jax.Array, grid: str) -> jax.Array:
    """The nearest integers, with the gradient of x; a half goes up on the symmetric grid, where a
    channel that is 0 is one if its levels are even, and to the even number on others."""
    return straight_through(x, jnp.floor(x + 0.5) if grid == "symmetric" else jnp.round(x))


def join(digits: jax.Array, levels: tuple[int, ...]) -> jax.Array:
    """Digits (..., d), whole numbers, as codes (...) int32; the first channel is the lowest."""
    places = [math.prod(levels[:i]) for i in range(len(levels))]
    whole = jnp.round(digits.astype(jnp.float32)).astype(jnp.int32)
    return jnp.sum(whole * _row(places, whole), -1)


def split(codes: jax.Array, levels: tuple[int, ...]) -> jax.Array:
    """Codes (...) int32 as digits (..., d) float32."""
    places = [math.prod(levels[:i]) for i in range(len(levels))]
    digits = [(codes // place) % n for place, n in zip(places, levels, strict=True)]
    return jnp.stack(digits, -1).astype(jnp.float32)


def _row(values: Any, like: jax.Array) -> jax.Array:
    """One value per channel, for arrays of `like`'s rank and type."""
    return jnp.asarray(values, like.dtype).reshape((1,) * (like.ndim - 1) + (-1,))
