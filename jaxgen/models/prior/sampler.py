"""The prior's verbs: pictures of a condition, and pictures completed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from jaxgen.data.text.prompt import Prompt
from jaxgen.errors import UserError
from jaxgen.log import log
from jaxgen.models.prior import decode, maskgit, window
from jaxgen.models.prior.layout import TEXT, Sequence, Stage
from jaxgen.models.prior.losses import PriorLosses
from jaxgen.nn.transformer import joined, vectors
from jaxgen.verbs import Option
from jaxgen.verbs.complete.contract import Complete
from jaxgen.verbs.generate.contract import Generate


class Sampler:
    """Draws codes with a config's transformer, and pictures of them with its first stage.

    Args: losses: of the config, which know the networks and the layout.
    """

    def __init__(self, losses: PriorLosses, config: ConfigDict):
        self.losses, self.config = losses, config
        self.sequence: Sequence = losses.sequence
        self.transformer: Any = losses.transformer
        self.masked = config.model.form == "maskgit"
        text = (TEXT,) if self.sequence.encoder is not None else ()
        self.nets = (*self.sequence.stage.nets, "g", *text)

    # ---- what may be asked for -------------------------------------------------------------------

    @property
    def options(self) -> dict[str, Option]:
        """The verb's options; their defaults are those of `config.model.sampling`."""
        at = self.config.model.sampling
        found = {
            "temperature": Option(
                float(at.temperature),
                "below 1: more usual, less varied",
                least=1e-4,
                most=1000.0,
            )
        }
        if self.masked:
            found |= {
                "steps": Option(int(at.steps), "in so many all codes are drawn", least=1,
                                most=1_000_000),
                "choice_temperature": Option(
                    float(at.choice_temperature), "how freely the codes to keep are chosen",
                    least=0.0, most=1000.0,
                ),
            }  # fmt: skip
        else:
            found |= {
                "top_k": Option(int(at.top_k), "of the k most probable codes; 0: of all", least=0),
                "top_p": Option(
                    float(at.top_p), "of the most probable codes with so much probability together",
                    least=0.0, most=1.0,
                ),
            }  # fmt: skip
        if self.config.model.drop_condition:
            found["guidance"] = Option(
                float(at.guidance),
                "above 1: what was asked for counts more",
                least=0.0,
                most=1000.0,
            )
        return found

    def give(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Options as traced numbers. Without guidance half of the work is left out."""
        kinds = {"top_k": np.int32, "steps": np.int32}
        return {
            name: kinds.get(name, np.float32)(value)
            for name, value in settings.items()
            if name != "guidance" or value != 1.0
        }

    def read(self, text: str) -> Prompt:
        """A prompt of what the transformer is conditioned on.

        Raises:
          UserError: a class that there is not.
        """
        sequence = self.sequence
        if sequence.read is not None:
            return sequence.read(text)
        if sequence.condition != "class":
            return Prompt(np.zeros(1, np.int32), np.ones(1, bool), ())
        classes = self.config.model.classes
        number = int(text) if text.strip().isdecimal() else -1
        if text.strip() and not 0 <= number < classes:
            raise UserError(f"the class must be a number from 0 to {classes - 1}, not {text!r}")
        return Prompt(
            np.array([max(number, 0)], np.int32), np.ones(1, bool), (str(max(number, 0)),)
        )

    # ---- drawing ---------------------------------------------------------------------------------

    def embed(self, nets, tokens, mask) -> dict[str, jax.Array]:
        """The condition's vectors."""
        return {"prefix": self.losses.prefix(nets["g"], nets.get(TEXT), tokens, mask)}

    def front(self, nets, prefix, given) -> jax.Array:
        """The vectors in front: under guidance also those where nothing is asked for."""
        if "guidance" not in given:
            return prefix
        nothing = jnp.asarray(self.sequence.nothing)[None]
        mask = jnp.arange(nothing.shape[1])[None] < 1
        free = self.losses.prefix(nets["g"], nets.get(TEXT), nothing, mask)
        return jnp.concatenate([prefix, jnp.broadcast_to(free, prefix.shape)])

    def codes(self, nets, front, known, keep, z, given) -> jax.Array:
        """Codes (b, H, W) of any grid from the training's on.

        Args:
          front: (row, column) of a window -> the vectors in front of its codes, see `front`.
          known: (b, H, W) int32; keep: (H, W) bool, which of them stay.
          z: (b, 2) uint32, a key for each picture.
        """
        sequence, g = self.sequence, nets["g"]
        grid = known.shape[1:]
        numbers = decode.uniforms(z, grid[0] * grid[1])
        if grid != sequence.grid:
            return window.slid(
                self.transformer, g, front, known, keep, numbers, sequence.grid, given
            )
        front = front(0, 0)
        if self.masked:
            return self._in_parallel(g, front, known, keep, z, given)
        drawn = decode.continued(
            self.transformer, g, front, sequence.to_sequence(known),
            sequence.to_sequence(keep[None])[0], sequence.to_sequence(numbers.reshape(-1, *grid)),
            given,
        )  # fmt: skip
        return sequence.to_grid(drawn)

    def _in_parallel(self, g, front, known, keep, z, given):
        mask_id, codes = self.transformer.ids - 1, self.sequence.stage.verb.codes
        kept = self.sequence.to_sequence(keep[None])
        tokens = jnp.where(kept, self.sequence.to_sequence(known), mask_id)

        def logits_of(tokens):
            x = joined([front, vectors(g, decode.both(tokens, given))])
            logits = self.transformer.apply(g, x)[:, front.shape[1] :, :codes]
            return decode.guided(logits, given) / given["temperature"]

        def noise(step):
            return maskgit.row_noise(z, step, tokens.shape[1], codes)

        drawn = maskgit.decoded(
            logits_of, tokens, mask_id, given["steps"], noise, given["choice_temperature"]
        )
        return self.sequence.to_grid(drawn)

    def picture(self, nets, codes) -> jax.Array:
        """Codes -> pictures in [-1, 1]."""
        stage = self.sequence.stage
        return stage.verb.decode(_own(nets, stage), codes).astype(jnp.float32)

    # ---- the verbs -------------------------------------------------------------------------------

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """Cells of a picture, rounded down as the originals do, and said.

        Raises:
          UserError: a picture that is too small, or a form that draws one size alone.
        """
        grid = self.sequence.stage.grid(height, width)
        factor, own = self.sequence.stage.verb.factor, self.sequence.grid
        least = f"{own[0] * factor} x {own[1] * factor}"
        if grid[0] < own[0] or grid[1] < own[1]:
            raise UserError(f"{height} x {width} is too small: at least {least} pixels")
        second = self.sequence.second_grid
        if grid != own and second is not None and second != own:
            raise UserError(
                "a condition with another number of codes than the picture has draws pictures of "
                f"{least} alone"
            )
        if grid != own and (self.masked or self.config.model.order != "rows"):
            how = "model.form=maskgit" if self.masked else f"model.order={self.config.model.order}"
            raise UserError(f"a prior of {how} draws pictures of {least} alone")
        if (height, width) != (grid[0] * factor, grid[1] * factor):
            log.warning(
                "%d x %d is drawn as %d x %d: a code has %d pixels",
                height, width, grid[0] * factor, grid[1] * factor, factor,
            )  # fmt: skip
        return grid

    def generate(self, grid: tuple[int, int] | None = None) -> Generate:
        """The verb for pictures of `grid` cells; None: of the training's."""
        grid = grid or self.sequence.grid
        factor = self.sequence.stage.verb.factor

        def draw(nets, features, z, given):
            known = jnp.zeros((len(z), *grid), jnp.int32)
            front = self.front(nets, features["prefix"], given)
            keep = jnp.zeros(grid, bool)
            codes = self.codes(nets, lambda row, column: front, known, keep, z, given)
            return self.picture(nets, codes), ()

        return Generate(
            nets=self.nets,
            size=round(float(np.sqrt(grid[0] * grid[1])) * factor),
            noise=(2,),
            read=self.read,
            embed=self.embed,
            draw=draw,
            options=self.options,
            give=self.give,
            numbers=jax.random.key_data,
            sized=lambda height, width: self.generate(self.grid_of(height, width)),
        )

    def complete(self) -> Complete:
        """The verb that keeps the beginning of a picture and draws the rest."""
        sequence = self.sequence
        second, own_grid = sequence.second, sequence.second_grid or ()
        nets = (*self.nets, *(second.nets if second is not None else ()))

        def draw(nets, features, picture, keep, z, given):
            known = sequence.stage.codes(_own(nets, sequence.stage), picture)
            if second is None:
                same = self.front(nets, features["prefix"], given)

                def front(row, column):
                    return same
            else:
                codes = second.codes(_own(nets, second), picture)

                def front(row, column):
                    size = (len(codes), *own_grid)
                    crop = lax.dynamic_slice(codes, (0, row, column), size)
                    prefix = self.losses.prefix(nets["g"], None, crop.reshape(len(codes), -1))
                    return self.front(nets, prefix, given)

            return self.picture(nets, self.codes(nets, front, known, keep, z, given))

        return Complete(
            nets=nets,
            factor=sequence.stage.verb.factor,
            grid=sequence.grid,
            cells=self.grid_of,
            read=self.read,
            embed=self.embed,
            draw=draw,
            options=self.options,
            give=self.give,
        )

    def verbs(self) -> dict[str, Any]:
        """{"generate": ..., "complete": ...}; a condition that is a picture is only completed."""
        complete = {"complete": self.complete()}
        if self.sequence.condition == "image":
            return complete
        return {"generate": self.generate(), **complete}


def _own(nets: Mapping[str, Any], stage: Stage) -> dict[str, Any]:
    """A first stage's nets among a verb's, which are named "part/net"."""
    return {net: nets[f"{stage.part}/{net}"] for net in stage.verb.nets}
