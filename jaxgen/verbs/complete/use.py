"""`model.complete`: a picture in, pictures that begin like it out."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxgen import devices
from jaxgen.data.text.prompt import Prompt
from jaxgen.errors import UserError
from jaxgen.verbs import settings
from jaxgen.verbs.complete.contract import Complete
from jaxgen.verbs.generate.draw import check_draws, default_batch
from jaxgen.verbs.memory import check_batch, check_holds
from jaxgen.verbs.prompts import read_aloud
from jaxgen.verbs.use import Use


class Completer(Use[Complete]):
    """A trained model's verb `complete`; see `Use`."""

    def __call__(
        self,
        image: np.ndarray,
        keep: float = 0.5,
        n: int = 1,
        *,
        prompt: str | Prompt = "",
        seed: int = 0,
        first: int = 0,
        batch: int | None = None,
        **options: Any,
    ) -> np.ndarray:
        """Keeps the upper part of a picture and draws the rest anew.

        Picture i is a function of the picture, what is kept, the prompt, the seed and i alone.

        Args:
          image: uint8 (h, w, 3); cut at the right and below to whole cells of the model, with a
            warning. Of other sizes than the training's a window slides over it.
          keep: share of its rows of cells that stay, from 0 to 1, rounded down.
          n: pictures to draw.
          prompt: what it shows, for a model that takes texts or classes.
          seed: 0 to 2**32 - 1. first: number of the first picture.
          batch: pictures at a time; None: as suits their size.
          options: of the model, see `verb.options`.

        Returns: uint8 (n, h', w', 3); what is kept is shown as the first stage decodes it.

        Raises:
          UserError: a picture that is too small, or a setting out of range.
        """
        check_keep(keep)
        check_draws(seed, first, n)
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(
                f"complete takes a picture of uint8 (h, w, 3), not {image.dtype} {image.shape}"
            )
        verb, nets = self.verb, self.variables
        given = verb.give(settings(verb.options, options, self.name))
        grid = verb.cells(*image.shape[:2])
        height, width = (cells * verb.factor for cells in grid)
        read = read_aloud(verb.read, prompt)
        features = verb.embed_program(nets, read.tokens[None], read.mask[None])
        kept = np.zeros(grid, bool)
        kept[: int(keep * grid[0])] = True
        size = default_batch(round((height * width) ** 0.5)) if batch is None else batch
        size = min(check_batch(size), n)
        pictures = np.repeat(image[None, :height, :width], size, axis=0)
        features = jax.tree.map(lambda a: np.repeat(np.asarray(a), size, axis=0), features)
        drawn = []
        seeds = np.zeros((size, 2), np.uint32)
        check_holds(
            devices.largest_activation(
                verb.draw_program, nets, features, pictures, kept, seeds, given
            ),
            f"{height} x {width} pixels, {size} at a time, need",
        )
        for start in range(0, n, size):
            numbers = [(seed, first + min(start + i, n - 1)) for i in range(size)]
            seeds = np.array(numbers, np.uint32)
            try:
                part = verb.draw_program(nets, features, pictures, kept, seeds, given)
                drawn += list(np.asarray(part))[: n - start]
            except jax.errors.JaxRuntimeError as error:
                if not devices.out_of_memory(error):
                    raise
                raise UserError(
                    f"{height} x {width} pixels, {size} at a time, do not fit in the device's "
                    "memory: give a smaller batch, or a smaller picture"
                ) from None
        return np.stack(drawn)

    def check(self, options: Any) -> None:
        """Raises UserError for an option that the model does not take, or a value out of range."""
        settings(self.verb.options, options, self.name)


def check_keep(keep: float) -> None:
    """Raises UserError for a share that is none."""
    if not 0 <= keep <= 1:
        raise UserError(f"the share to keep must be from 0 to 1, not {keep:g}")


bind = Completer
