"""The verb `generate` of a diffusion model: a sampler's plan, guidance, a picture to begin with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.text.prompt import Prompt
from jaxgen.diffusion import sampling
from jaxgen.diffusion.guidance import guided
from jaxgen.diffusion.plans import FLOW_SAMPLERS, SAMPLERS, make_plan
from jaxgen.diffusion.sampling import Held, State
from jaxgen.diffusion.timesteps import SPACINGS
from jaxgen.errors import UserError
from jaxgen.log import log
from jaxgen.models.ldm.condition import TEXT
from jaxgen.models.ldm.losses import LDMLosses
from jaxgen.tasks.common import to_float
from jaxgen.verbs import Option
from jaxgen.verbs.generate.begin import fit
from jaxgen.verbs.generate.contract import Generate
from jaxgen.verbs.generate.stepwise import Stepwise

# How far img2img and inpainting go where nobody says it.
STRENGTH, MASKED_STRENGTH = 0.8, 1.0


class Sampler:
    """Draws with a config's denoiser.

    Args:
      losses: of the config, which know the networks and the space.
      config: with its parts filled in.
      size: (height, width) of the pictures; None: the training's.
    """

    def __init__(self, losses: LDMLosses, config: ConfigDict, size: tuple[int, int] | None = None):
        self.losses, self.config = losses, config
        self.space, self.condition = losses.space, losses.condition
        self.schedule, self.net = losses.schedule, losses.net
        self.size = size or (config.data.size, config.data.size)
        self.shape = self.space.shape(*self.size)
        self.guided = losses.guided

    # ---- what may be asked for -------------------------------------------------------------------

    @property
    def options(self) -> dict[str, Option]:
        """The verb's options; their defaults are those of `config.model.sampling`."""
        at, flow = self.config.model.sampling, self.schedule.flow
        found = {
            "steps": Option(int(at.steps), "of the sampler, from noise to the picture", least=1,
                            most=self.schedule.steps),
            "sampler": Option(str(at.sampler), "how a step is taken",
                              choices=FLOW_SAMPLERS if flow else _drawing(SAMPLERS)),
            "spacing": Option(str(at.spacing), 'of the steps\' times; "": as suits the sampler',
                              choices=("", *SPACINGS)),
        }  # fmt: skip
        if not flow:
            found |= {
                "karras": Option(0, "1: sigmas spaced as Karras et al. 2022", least=0, most=1),
                "eta": Option(0.0, "ddim: share of fresh noise", least=0.0, most=1.0),
            }
        if self.guided:
            found |= {
                "guidance": Option(float(at.guidance), "above 1: what was asked for counts more",
                                   least=0.0, most=1000.0),
                "negative": Option("", "what to lead away from, in words"),
                "rescale": Option(0.0, "guidance back to the spread it found (published 0.7)",
                                  least=0.0, most=1.0),
                "guidance_from": Option(0.0, "guide from this share of noise on", least=0.0,
                                        most=1.0),
                "guidance_to": Option(1.0, "guide up to this share of noise", least=0.0, most=1.0),
            }  # fmt: skip
        return found | {
            "strength": Option(
                0.0,
                f"how far to go from a picture to begin with; 0: {STRENGTH}, {MASKED_STRENGTH:g} "
                "with a mask",
                least=0.0, most=1.0,
            )
        }  # fmt: skip

    def give(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Options as traced numbers, from noise alone.

        Raises:
          UserError: options that do not go together.
        """
        if settings["strength"]:
            raise UserError("the strength is of a picture to begin with: give init")
        return self._given(settings, None)

    def begin(
        self, settings: Mapping[str, Any], picture: np.ndarray, mask: np.ndarray | None
    ) -> dict[str, Any]:
        """Options as traced numbers, and the picture to begin with; see `Generate.begin`."""
        picture, where = fit(picture, mask, *self.size)
        usual = STRENGTH if where is None else MASKED_STRENGTH
        given = self._given(settings, settings["strength"] or usual)
        given["source"] = picture
        if where is not None:
            given["mask"] = where
        return given

    def _given(self, settings: Mapping[str, Any], strength: float | None) -> dict[str, Any]:
        plan = make_plan(
            self.schedule, self.config.model.target, settings["sampler"], settings["steps"],
            spacing=settings["spacing"] or None, karras=bool(settings.get("karras", 0)),
            eta=settings.get("eta", 0.0), strength=strength,
        )  # fmt: skip
        given: dict[str, Any] = {"plan": plan}
        if not self.guided:
            return given
        if settings["guidance"] == 1.0:  # half of the work is left out
            if settings["negative"]:
                raise UserError("a negative prompt acts by guidance: set it to another than 1")
            return given
        low, high = settings["guidance_from"], settings["guidance_to"]
        if low > high:
            raise UserError(f"guidance_from={low} is above guidance_to={high}")
        negative = self.read(settings["negative"])
        return given | {
            "guidance": np.float32(settings["guidance"]),
            "rescale": np.float32(settings["rescale"]),
            "interval": np.array([low, high], np.float32) * self.schedule.steps,
            "negative": (negative.tokens, negative.mask),
        }

    def read(self, text: str) -> Prompt:
        """A prompt of what the denoiser is conditioned on; "" asks for nothing."""
        return self.condition.read(text)

    # ---- drawing ---------------------------------------------------------------------------------

    def embed(self, nets, tokens, mask) -> dict[str, jax.Array]:
        """What the denoiser takes beside x and time."""
        return self.condition.embed(self.losses.changed(nets).get(TEXT), tokens, mask)

    def denoise(self, nets, features, given) -> sampling.Denoise:
        """The net, guided where that was asked for."""
        nets = self.losses.changed(nets)

        def predict(x, t, asked):
            return self.net.apply(nets["g"], x, t, **asked)

        if "guidance" not in given:
            return lambda x, t: predict(x, t, features)
        tokens, mask = given["negative"]
        free = self.embed(nets, tokens[None], mask[None])
        features, free = self.condition.level(nets.get(TEXT), features, free)
        count = jax.tree.leaves(features)[0].shape[0]
        free = jax.tree.map(lambda a: jnp.broadcast_to(a, (count, *a.shape[1:])), free)
        least, most = given["interval"]
        return guided(
            predict, features, free, given["guidance"], amount=given["rescale"],
            interval=(least, most),
        )  # fmt: skip

    def start(self, nets, features, z, given) -> tuple[State, Any]:
        """(x before the first call, what begins: x of the source, or None)."""
        del features
        noise = sampling.first_noise(_keys(z), self.shape)
        if "source" not in given:
            return sampling.begin(given["plan"], noise), None
        source = self.space.usual(nets, to_float(given["source"])[None])
        source = jnp.broadcast_to(source, noise.shape)
        return sampling.begin(given["plan"], noise, source), source

    def advance(self, nets, features, z, given, state, first, last):
        """Calls first ... last - 1."""
        under_way, source = state
        held = None
        if "mask" in given:
            place = _coarse(given["mask"], self.space.factor)
            held = Held(source, place[None], sampling.first_noise(_keys(z), self.shape))
        moved = sampling.advance(
            self.denoise(nets, features, given), given["plan"], under_way, first, last,
            sampling.noise_of(_keys(z), self.shape), held,
        )  # fmt: skip
        return moved, source

    def look(self, nets, state) -> jax.Array:
        """The picture that the net has in mind."""
        return self.space.pictures(nets, state[0].x0)

    def end(self, nets, state, given) -> jax.Array:
        """The picture; outside of a mask the source's own pixels."""
        drawn = self.space.pictures(nets, state[0].x)
        if "mask" not in given:
            return drawn
        return jnp.where(given["mask"][None, ..., None], drawn, to_float(given["source"])[None])

    # ---- the verb --------------------------------------------------------------------------------

    def sized(self, height: int, width: int) -> Generate:
        """The verb for pictures of another size, rounded down to whole places, and said.

        Raises:
          UserError: a size of no place at all.
        """
        unit = self.space.factor * self.config.model.denoiser.patch
        fitted = height // unit * unit, width // unit * unit
        if not all(fitted):
            raise UserError(f"{height} x {width} is too small: at least {unit} x {unit} pixels")
        if fitted != (height, width):
            log.warning(
                "%d x %d is drawn as %d x %d: a place has %d pixels", height, width, *fitted, unit
            )
        return Sampler(self.losses, self.config, fitted).generate()

    def generate(self) -> Generate:
        """The verb for pictures of `size`."""
        steps = Stepwise(
            calls=lambda given: given["plan"].calls,
            begin=self.start,
            advance=self.advance,
            look=self.look,
            end=self.end,
        )
        return Generate(
            nets=self.losses.nets,
            size=round(float(np.sqrt(self.size[0] * self.size[1]))),
            noise=(2,),
            read=self.read,
            embed=self.embed,
            draw=lambda *arguments: (steps.draw(*arguments), ()),
            options=self.options,
            give=self.give,
            numbers=jax.random.key_data,
            sized=self.sized,
            begin=self.begin,
            stepwise=steps,
        )


def _keys(z: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(z)


def _drawing(samplers: tuple[str, ...]) -> tuple[str, ...]:
    """Without those that go from a picture to its noise."""
    return tuple(name for name in samplers if not name.startswith("inverse"))


def _coarse(mask: jax.Array, factor: int) -> jax.Array:
    """(h, w) bool -> (h / factor, w / factor, 1) float32: 1 where any pixel is to be drawn."""
    height, width = mask.shape
    cells = mask.reshape(height // factor, factor, width // factor, factor)
    return cells.any(axis=(1, 3))[..., None].astype(jnp.float32)
