"""VQGAN-CLIP (Crowson et al. 2022): a first stage's vectors follow what a CLIP sees in them.

z (b, h, w, d) is optimised: the nearest vectors of the codebook are painted, CLIP looks at random
views of the picture, and the gradient of their distance from the prompts passes through the
quantiser as if it were not there. All functions are pure; randomness is each row's seed's and the
iteration's alone, and each row is computed by itself, so a picture does not depend on its batch and
a run that goes on from a saved `State` is the run that was not stopped.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxgen.edit.clamp import clamp_with_gradient
from jaxgen.edit.cutouts import Cutouts, features
from jaxgen.task import Nets

ANCHORS = ("start", "zero")
START, VIEWS, LOOK = range(3)  # what a row draws: its start, each step's views, those of prompts


class Prompts(NamedTuple):
    """What each of b rows is guided by; weight 0 fills up rows of fewer than p.

    A picture as a prompt is each of its views' features, with its weight divided by their number.

    features: (b, p, d), of any length but 0. weights, stops: (b, p) float32; see `prompts.Wish`.
    """

    features: jax.Array
    weights: jax.Array
    stops: jax.Array


class State(NamedTuple):
    """All that a run goes on from.

    step: () int32, iterations done. seeds: (b, 3) uint32, any three numbers for each row.
    z: (b, h, w, d), what is optimised. start: its first value.
    adam: the optimizer's. average: running mean of z from zero, not yet corrected for that.
    """

    step: jax.Array
    seeds: jax.Array
    z: jax.Array
    start: jax.Array
    adam: Any
    average: jax.Array


@dataclasses.dataclass(frozen=True)
class Settings:
    """How z moves.

    cutouts: the views.
    rate: of Adam.
    anchor: "start": z is held near its start; "zero": near 0, ever less (by 1 / (2 i + 1)).
    anchor_weight: how much; 0: not.
    smoothing: decay of the running mean of z whose picture is shown; 0: z itself.
    """

    cutouts: Cutouts
    rate: float = 0.1
    anchor: str = "start"
    anchor_weight: float = 0.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.anchor not in ANCHORS:
            raise ValueError(f"anchor {self.anchor!r} is none of {ANCHORS}")


@dataclasses.dataclass(frozen=True, eq=False)
class VQGANCLIP:
    """A first stage under a CLIP's guidance.

    vectors: nets -> the codebook (codes, d) float32.
    paint: (nets, z (b, h, w, d)) -> pictures (b, h * f, w * f, 3), about [-1, 1].
    judge: (nets, pictures (b, size, size, 3) about [-1, 1]) -> features (b, width).
    mesh: of one axis, "batch", over whose devices each picture's views are spread; None: one.
    """

    vectors: Callable[[Nets], jax.Array]
    paint: Callable[[Nets, jax.Array], jax.Array]
    judge: Callable[[Nets, jax.Array], jax.Array]
    settings: Settings
    mesh: Mesh | None = None

    def random(self, nets: Nets, seeds: jax.Array, height: int, width: int) -> State:
        """A start from a random code per cell: seeds (b, 3) -> rows of height x width cells."""
        seeds = jnp.asarray(seeds, jnp.uint32)
        count = self.vectors(nets).shape[0]

        def one(seed: jax.Array) -> jax.Array:
            return jax.random.randint(row_key(seed, START), (height, width), 0, count)

        return self.start(nets, seeds, jax.vmap(one)(seeds))

    def start(self, nets: Nets, seeds: jax.Array, codes: jax.Array) -> State:
        """A start from codes (b, h, w) int32, of a first stage or drawn by a prior."""
        z = self.vectors(nets)[codes]
        seeds = jnp.asarray(seeds, jnp.uint32)
        return State(jnp.int32(0), seeds, z, z, self._adam().init(z), jnp.zeros_like(z))

    def codes(self, nets: Nets, state: State) -> jax.Array:
        """(b, h, w) int32: the codes that a state shows."""
        vectors = self.vectors(nets)
        return _each(lambda z: nearest(z, vectors), (self._shown(state),), state.step)

    def pictures(self, nets: Nets, state: State) -> jax.Array:
        """(b, h * f, w * f, 3) float32 in [-1, 1]: what a state shows."""
        vectors = self.vectors(nets)

        def one(z: jax.Array) -> jax.Array:
            return jnp.clip(self.paint(nets, quantise(z, vectors)[None])[0], -1, 1)

        return _each(one, (self._shown(state),), state.step)

    def look(self, nets: Nets, picture: jax.Array, seed: jax.Array, number: int) -> jax.Array:
        """A picture (h, w, 3) in [0, 1] as a prompt: its views' features (n, width).

        Args: seed: (3,) of the row. number: of the picture among those of the prompt.
        """
        key = jax.random.fold_in(row_key(seed, LOOK), number)
        return features(self.settings.cutouts, functools.partial(self.judge, nets), picture, key)

    def advance(
        self, nets: Nets, state: State, prompts: Prompts, iterations: jax.Array | int
    ) -> tuple[State, jax.Array]:
        """`iterations` steps (may be traced) -> (state, the prompts' mean loss in them, (b,))."""
        vectors = self.vectors(nets)
        low, high = (bound(vectors, axis=0)[None, None, None] for bound in (jnp.min, jnp.max))

        def step(_: jax.Array, carried: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
            state, total = carried
            loss = functools.partial(self._loss, nets, vectors, state.step)
            rows = (state.z, state.start, state.seeds, prompts)
            gradient, found = _each(jax.grad(loss, has_aux=True), rows, state.step)
            change, adam = self._adam().update(gradient, state.adam)
            z = jnp.clip(state.z + change, low, high)
            decay = self.settings.smoothing
            average = decay * state.average + (1 - decay) * z
            state = State(state.step + 1, state.seeds, z, state.start, adam, average)
            return state, total + found

        # A scan of a single step would be compiled as part of what is around it, rounded otherwise.
        total = jnp.zeros(len(state.seeds))
        state, total = jax.lax.fori_loop(0, iterations, step, (state, total))
        return state, total / iterations

    @functools.cached_property
    def advance_program(
        self,
    ) -> Callable[[Nets, State, Prompts, jax.Array | int], tuple[State, jax.Array]]:
        """`advance`, jitted: one program whatever the number of iterations."""
        return jax.jit(self.advance)

    @functools.cached_property
    def pictures_program(self) -> Callable[[Nets, State], jax.Array]:
        """`pictures`, jitted."""
        return jax.jit(self.pictures)

    @functools.cached_property
    def look_program(self) -> Callable[[Nets, jax.Array, jax.Array, int], jax.Array]:
        """`look`, jitted."""
        return jax.jit(self.look)

    def _loss(
        self,
        nets: Nets,
        vectors: jax.Array,
        step: jax.Array,
        z: jax.Array,
        start: jax.Array,
        seed: jax.Array,
        prompts: Prompts,
    ) -> tuple[jax.Array, jax.Array]:
        """(what one row's z descends, the prompts' part of it)."""
        key = jax.random.fold_in(row_key(seed, VIEWS), step)
        painted = self.paint(nets, quantise(z, vectors)[None])[0]
        picture = clamp_with_gradient((painted + 1) / 2)
        judge = functools.partial(self.judge, nets)
        seen = features(self.settings.cutouts, judge, picture, key, self.mesh)
        found = prompt_loss(seen, *prompts)
        return found + self._anchor(z, start, step), found

    def _anchor(self, z: jax.Array, start: jax.Array, step: jax.Array) -> jax.Array:
        weight = self.settings.anchor_weight / 2
        if self.settings.anchor == "zero":
            return weight * jnp.mean(z**2) / (2 * step + 1)
        return weight * jnp.mean((z - start) ** 2)

    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.settings.rate)

    def _shown(self, state: State) -> jax.Array:
        """z, or its running mean with the start from zero corrected."""
        decay = self.settings.smoothing
        if not decay:
            return state.z
        steps = jnp.maximum(state.step, 1)
        return jnp.where(state.step > 0, state.average / (1 - decay**steps), state.z)


def row_key(seed: jax.Array, what: int) -> jax.Array:
    """The key of one row's seed (3,) uint32 for `what` it draws."""
    key = jax.random.key(seed[0])
    for number in (seed[1], seed[2], what):
        key = jax.random.fold_in(key, number)
    return key


def _each(function: Callable[..., Any], rows: tuple[Any, ...], step: jax.Array) -> Any:
    """`function` of each row by itself, with the same rounding however many there are.

    Args: step: any number of the caller's that is not below 0.
    """
    count = len(jax.tree.leaves(rows)[0])

    def take(i: jax.Array | int) -> Any:
        row = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), rows)
        return jax.lax.optimization_barrier(row)

    def put(i: jax.Array, found: Any) -> Any:
        one = jax.lax.optimization_barrier(function(*take(i)))
        return jax.tree.map(
            lambda all, x: jax.lax.dynamic_update_index_in_dim(all, x, i, 0), found, one
        )

    shapes = jax.eval_shape(lambda: function(*take(0)))
    empty = jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype), shapes)
    # A bound that the compiler can't know: it would inline a loop over a single row, and fuse it
    # with what is around.
    return jax.lax.fori_loop(0, jnp.minimum(count, step + count), put, empty)


def nearest(z: jax.Array, vectors: jax.Array) -> jax.Array:
    """(..., d) -> (...) int32: the codebook's (codes, d) nearest vectors."""
    # TF32's or bfloat16's products would choose others.
    products = jnp.matmul(z, vectors.T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.sum(vectors**2, axis=-1).reshape((1,) * (z.ndim - 1) + (-1,))
    return jnp.argmin(squares - 2 * products, axis=-1).astype(jnp.int32)


def quantise(z: jax.Array, vectors: jax.Array) -> jax.Array:
    """The nearest vectors' values with z's gradient (straight through)."""
    found = jax.lax.stop_gradient(vectors[nearest(z, vectors)])
    return found + (z - jax.lax.stop_gradient(z))


def spherical_distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """2 arcsin(|u - v| / 2)^2 of the directions u, v of (n, d) and (p, d): (n, p) to pi^2 / 2."""
    u, v = (x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12) for x in (a, b))
    square = jnp.sum((u[:, None] - v[None]) ** 2, axis=-1)
    # Without a NaN as the gradient at equal or opposite directions.
    chord = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return 2 * jnp.arcsin(jnp.minimum(chord / 2, 1 - 1e-7)) ** 2


def prompt_loss(
    seen: jax.Array, wanted: jax.Array, weights: jax.Array, stops: jax.Array
) -> jax.Array:
    """Sum over prompts of |weight| * mean over views of sign(weight) * distance.

    A view whose signed distance is below a prompt's stop counts, but gives no gradient.

    Args: seen: (n, d) views' features. wanted: (p, d). weights, stops: (p,).
    """
    signed = spherical_distance(seen, wanted) * jnp.sign(weights)[None]
    signed = jnp.where(signed > stops[None], signed, jax.lax.stop_gradient(signed))
    return jnp.sum(jnp.abs(weights) * signed.mean(axis=0))
