"""What all ways to edit with a diffusion model share: its net, texts, steps and pictures."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.diffusion import sampling
from jaxgen.diffusion.guidance import guide
from jaxgen.diffusion.plans import make_plan
from jaxgen.diffusion.sampling import State
from jaxgen.diffusion.table import Plan
from jaxgen.edit.words import Spelled, spell
from jaxgen.errors import UserError, shown
from jaxgen.models.ldm.condition import TEXT
from jaxgen.models.ldm.losses import LDMLosses
from jaxgen.nn.control import KEPT, Control, Layer, kept
from jaxgen.tasks.common import to_float
from jaxgen.verbs import Option
from jaxgen.verbs.edit.contract import Method, Outcome, Prepared, Request
from jaxgen.verbs.generate.draw import text_number

SOURCE_GUIDANCE = "source_guidance"
Asked = dict[str, jax.Array]  # what a denoiser takes beside x and time, arrays (n, ...)


class Editing:
    """A config's denoiser as the methods of editing use it.

    Attributes:
      size: (height, width) of the pictures. shape: of x. nets: names of all that is used.
      instruct: whether it sees the picture beside x, and reads instructions (InstructPix2Pix).
      lead: how many of a prompt's first tokens the denoiser does not attend to (0 or 1).
      tokens: that it attends to, of one prompt.
    """

    def __init__(self, losses: LDMLosses, config: ConfigDict):
        self.config, self.space, self.condition = config, losses.space, losses.condition
        self.schedule, self.net = losses.schedule, losses.net
        self.size = (config.data.size, config.data.size)
        self.shape = self.space.shape(*self.size)
        self.guided, self.nets = losses.guided, losses.nets
        self.instruct = losses.instruct

    # ---- what a model can do -----------------------------------------------------------------

    @functools.cached_property
    def layers(self) -> tuple[Layer, ...]:
        """All of the denoiser's layers, in the order of their calls."""
        found: list[Layer] = []

        def record(layer: Layer, *arrays: jax.Array) -> None:
            del arrays
            found.append(layer)

        x, t = jnp.zeros((1, *self.shape)), jnp.zeros(1)
        asked = {} if self.condition.kind == "class" else self.blank(1)
        jax.eval_shape(
            lambda: self.net.init(jax.random.key(0), x, t, **asked, control=record)
        )  # fmt: skip
        return tuple(found)

    def blank(self, count: int) -> Asked:
        """Zeros shaped as what `count` prompts ask for."""
        shapes = jax.eval_shape(
            lambda: self.condition.embed(
                self.condition.init(jax.random.key(0)).get(TEXT), *self.condition.empty(count)
            )
        )
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    @functools.cached_property
    def tokens(self) -> int:
        return int(self.blank(1)["context"].shape[1])

    @property
    def lead(self) -> int:
        return len(self.condition.nothing) - self.tokens

    @property
    def texts(self) -> str:
        """Why it reads no texts; "" where it does."""
        if self.condition.kind != "text":
            return f"it is asked for by {self.condition.kind}, not by texts; take a model of texts"
        if self.instruct:
            return "it reads instructions, not captions: take --method instruct"
        return ""

    @property
    def crosses(self) -> str:
        """Why there are no maps of words; "" where there are."""
        if self.texts:
            return self.texts
        if not any(layer.kind == "cross" for layer in self.layers):
            return (
                "its denoiser attends to no words: train one with model.denoiser.attention or "
                "middle_attention"
            )
        return ""

    # ---- methods and their options -----------------------------------------------------------

    def method(
        self,
        says: str,
        prepare: Callable[[Editing, Request, Mapping[str, Any]], Prepared],
        run: Callable[[Editing, Any, Any, Any], Outcome],
        options: Mapping[str, Option],
        **kinds: Any,
    ) -> Method:
        """A way to edit with this model, which refuses where there are no texts.

        Args: prepare, run: the method's, of this first. options: beside those of the steps, or in
          their place. kinds: what else a `Method` says of itself.
        """
        return Method(
            says=says,
            options={**self.options(), **options},
            prepare=functools.partial(prepare, self),
            run=functools.partial(run, self),
            **{"refusal": lambda: self.texts, **kinds},
        )

    def options(self) -> dict[str, Option]:
        """Of the steps, as every method has them."""
        at = self.config.model.sampling
        found = {
            "steps": Option(int(at.steps), "of the sampler, from noise to the picture", least=1,
                            most=self.schedule.steps),
        }  # fmt: skip
        if self.guided:
            found |= {
                "guidance": Option(
                    float(at.guidance), "above 1: the words count more", least=0.0, most=1000.0
                ),
                "negative": Option("", "what to lead away from, in words"),
            }
        return found

    def steps(self, settings: Mapping[str, Any], sampler: str = "") -> dict[str, Any]:
        """What `options` say, as arrays for `shared`: "plan" and where it guides the rest."""
        sampler = sampler or ("euler" if self.schedule.flow else "ddim")
        plan = make_plan(self.schedule, self.config.model.target, sampler, settings["steps"])
        found: dict[str, Any] = {"plan": plan}
        scales = {
            name: np.float32(settings[name])
            for name in ("guidance", SOURCE_GUIDANCE)
            if name in settings
        }
        if any(scale != 1 for scale in scales.values()):
            found |= {**scales, "negative": self.read(settings["negative"])}
        return found

    # ---- texts -------------------------------------------------------------------------------

    def read(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """(tokens, mask) of a prompt. Raises UserError: it is longer than the encoder reads."""
        found = self.condition.read(text)
        length = len(self.condition.nothing)
        if len(found.tokens) > length or found.cut:
            raise UserError(
                f"{shown(text)} is longer than the {length} tokens that are read at once: shorten "
                "it to edit by it"
            )
        if found.mask.dtype != bool:
            raise UserError(f"{shown(text)}: leave out brackets, and give words weights by weight")
        return found.tokens, found.mask

    def spelled(self, text: str) -> Spelled:
        """A prompt's words and the places of their tokens."""
        words = [word for word in text.split() if self.condition.read(word).words]
        counts = [len(self.condition.read(word).words) for word in words]
        tokens, mask = self.read(text)
        if sum(counts) > int(mask.sum()) - 1:
            raise UserError(f"{shown(text)}: its words are read otherwise alone; write it plainer")
        return spell(words, counts, tokens[mask])

    def request(self, request: Request) -> dict[str, Any]:
        """What each edit's program takes of a request: texts, the picture or the noise, and what
        was found of it before."""
        pairs = [self.read(text) for text in (request.source, *request.targets)]
        source = self.condition.read(request.source)
        found: dict[str, Any] = {
            "tokens": np.stack([tokens for tokens, _ in pairs]),
            "mask": np.stack([mask for _, mask in pairs]),
            "noise": np.array([request.seed, text_number(source), request.number], np.uint32),
        }
        if request.picture is not None:
            found["picture"] = request.picture
        if request.mask is not None:
            found["where"] = request.mask
        if request.found is not None:
            found["found"] = request.found.arrays
        return found

    # ---- within a program --------------------------------------------------------------------

    def embed(self, nets: Any, tokens: jax.Array, mask: jax.Array) -> Asked:
        """Of tokens (..., l): arrays (n, ...), n all of their rows."""
        rows = (-1, tokens.shape[-1])
        return self.condition.embed(nets.get(TEXT), tokens.reshape(rows), mask.reshape(rows))

    def unasked(self, nets: Any, shared: Mapping[str, Any], count: int) -> Asked | None:
        """What guidance leads away from, for so many rows; None without guidance."""
        if "guidance" not in shared:
            return None
        tokens, mask = shared["negative"]
        one = self.embed(nets, jnp.asarray(tokens), jnp.asarray(mask))
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (count, *a.shape[1:])), one)

    def keys(self, each: Mapping[str, jax.Array]) -> jax.Array:
        """(b,) typed keys: those of the pictures that `generate` draws of these seeds."""

        def key_of(numbers: jax.Array) -> jax.Array:
            key = jax.random.fold_in(jax.random.key(numbers[0]), numbers[1])
            return jax.random.fold_in(key, numbers[2])

        return jax.vmap(key_of)(each["noise"])

    def first_noise(self, each: Mapping[str, jax.Array]) -> jax.Array:
        """(b, *shape), of their `keys`."""
        return sampling.first_noise(self.keys(each), self.shape)

    def clean(self, nets: Any, each: Mapping[str, jax.Array]) -> jax.Array:
        """(b, *shape): x of the pictures."""
        return self.space.usual(nets, to_float(each["picture"]))

    def pictures(self, nets: Any, x: jax.Array) -> jax.Array:
        """x (b, r, ...) -> (b, r, h, w, 3)."""
        drawn = self.space.pictures(nets, x.reshape(-1, *x.shape[2:]))
        return drawn.reshape(*x.shape[:2], *drawn.shape[1:])

    def predict(
        self,
        nets: Any,
        x: jax.Array,
        t: jax.Array,
        asked: Asked,
        unasked: Asked | None = None,
        scale: jax.Array | float = 1.0,
        control: Control | None = None,
        lead: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    ) -> tuple[jax.Array, dict[str, Any]]:
        """(what the net says of x (n, ...) at the time t, what its control kept).

        Args: unasked: None: without guidance, one pass of n rows. control: see `nn.control`; sees
          the unasked rows first. lead: (asked, unasked) -> guided, in place of the scale.
        """
        if unasked is not None:
            asked = jax.tree.map(lambda u, a: jnp.concatenate([u, a]), unasked, asked)
            x = jnp.concatenate([x, x])
        times = jnp.broadcast_to(t, x.shape[:1])
        said, state = self.net.apply(
            nets["g"], x, times, **asked, control=control, mutable=[KEPT]
        )  # fmt: skip
        if unasked is not None:
            free, led = jnp.split(said, 2)
            said = lead(led, free) if lead else guide(led, free, jnp.asarray(scale, said.dtype))
        return said, kept(state)

    def finished(
        self, nets: Any, x: jax.Array, each: Mapping[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """The outcome of x (b, 1 + targets, ...), whose first row is the source's."""
        drawn = self.pictures(nets, x)
        first, edits = drawn[:, 0], self.within(drawn[:, 1:], each)
        return {"edits": edits, ("reconstruction" if "picture" in each else "source"): first}

    def within(self, edits: jax.Array, each: Mapping[str, jax.Array]) -> jax.Array:
        """Edits (b, targets, h, w, 3) with the picture's own pixels outside of a mask."""
        if "where" not in each:
            return edits
        return jnp.where(
            each["where"][:, None, ..., None], edits, to_float(each["picture"])[:, None]
        )

    def where(self, each: Mapping[str, jax.Array]) -> jax.Array | None:
        """(b, 1, h', w', 1) float32 of x, 1 where any pixel may change; None without masks."""
        if "where" not in each:
            return None
        b, h, w = each["where"].shape
        f = self.space.factor
        cells = each["where"].reshape(b, h // f, f, w // f, f).any(axis=(2, 4))
        return cells[:, None, ..., None].astype(jnp.float32)


# (index of a step, x (b, r, ...) before it, time, carry) -> (what the net says, carry).
Call = Callable[[jax.Array, jax.Array, jax.Array, Any], tuple[jax.Array, Any]]
# (index of a step, x after it, carry) -> (x, carry).
After = Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]]


def walk(
    plan: Plan,
    x: jax.Array,
    call: Call,
    then: After,
    carry: Any,
    noises: jax.Array | None = None,
) -> tuple[jax.Array, Any]:
    """All steps of a plan from x (b, r, ...); `then` may change x after each.

    Args: noises: (steps, b, ...) of a plan that draws them, the same for a picture's rows.

    Returns: (x at last, carry).
    """
    times = jnp.asarray(plan.times)

    def step(i: jax.Array, now: tuple[State, Any]) -> tuple[State, Any]:
        state, carry = now
        out, carry = call(i, state.x, times[i], carry)
        noise = None if noises is None else noises[i][:, None]
        new = sampling.after(plan, i, state, out.astype(state.x.dtype), noise)
        x, carry = then(i, new.x, carry)
        return new._replace(x=x), carry

    begun = State(x, (jnp.zeros_like(x),) * plan.memory, jnp.zeros_like(x))
    state, carry = jax.lax.fori_loop(0, jnp.asarray(plan.calls), step, (begun, carry))
    return state.x, carry
