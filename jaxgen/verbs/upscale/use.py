"""`model.upscale`: pictures in, larger pictures out."""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np

from jaxgen.data.picture_frames import read_single
from jaxgen.data.text.prompt import Prompt
from jaxgen.data.transparency import spread_colours
from jaxgen.errors import UserError
from jaxgen.task import Nets, PyTree
from jaxgen.verbs import settings
from jaxgen.verbs.prompts import read_aloud
from jaxgen.verbs.upscale import tiling
from jaxgen.verbs.upscale.attention import attention_maps
from jaxgen.verbs.upscale.contract import Upscale
from jaxgen.verbs.use import Use


class Upscaler(Use[Upscale]):
    """A trained model's verb `upscale`; see `Use`."""

    def __init__(self, verb: Upscale, nets: Nets, name: str):
        super().__init__(verb, nets, name)
        self._given: PyTree = None
        self._words: tuple[str, ...] = ()

    @property
    def scale(self) -> int:
        """Output pixels per input pixel along each axis."""
        return self.verb.scale

    def __call__(
        self,
        image: Any,
        tile: int | None = None,
        *,
        prompt: str | Prompt | None = None,
        batch: int = 1,
        progress: tiling.Progress | None = None,
        **options: Any,
    ) -> Any:
        """Upscales one picture by `scale`.

        Args:
          image: uint8 or uint16, colour (h, w, 3), gray (h, w), or with alpha (h, w, 4); alpha is
            enlarged by bicubic interpolation, and colour that it hides is not seen. Or a picture
            file's path, which gives such an array. Or a list of pictures of one shape, without
            alpha, whose tiles share the batches: frames of a video. A list is returned then.
          tile: side of the tiles in low-resolution pixels; None: as large as memory allows. The
            result is the same.
          prompt: what the picture shows, for a model that takes one; None: what `asking` set,
            else the empty prompt.
          batch: tiles per device at a time.
          progress: called as progress(tiles done, tiles in all).
          options: of the model, see `verb.options`; such as the prompt's strength.

        Returns: of the picture's type, (scale*h, scale*w) with its channels.

        Raises:
          UserError: a prompt or option that the model does not take, no such picture, or a file of
            several frames.
        """
        if isinstance(image, (str, os.PathLike)):
            image = _from_file(image)
        if prompt is not None or options:
            return self.asking(prompt, **options)(image, tile, batch=batch, progress=progress)
        verb, nets, given = self.verb, self.variables, self._given
        if isinstance(image, list):
            frames = [np.asarray(frame) for frame in image]
            return tiling.upscale_images(verb, nets, frames, given, tile, batch, progress)
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[2] != 4 or image.dtype not in tiling.DTYPES:
            return tiling.upscale_image(verb, nets, image, given, tile, batch, progress)
        height, width = image.shape[:2]
        result = np.empty((height * verb.scale, width * verb.scale, 4), image.dtype)
        color, out = spread_colours(image[..., :3], image[..., 3]), result[..., :3]
        tiling.upscale_image(verb, nets, color, given, tile, batch, progress, out=out)
        result[..., 3] = tiling.upscale_alpha(image[..., 3], verb.scale)
        return result

    def read(self, text: str) -> Prompt:
        """The text as the model reads it: its words, and which of them it does not know.

        Raises:
          UserError: the model takes no prompt.
        """
        self._check_takes_prompt()
        assert self.verb.read is not None
        return self.verb.read(text)

    def asking(self, prompt: str | Prompt | None = None, **options: Any) -> Upscaler:
        """This verb with a prompt and options set for all that it upscales; shares the weights.

        Args:
          prompt: a text, or what `read` gives. Of a text, unknown words are named in a warning,
            with the nearest known ones. None: the empty prompt.
          options: see `verb.options`; those left out have their defaults.

        Raises:
          UserError: a prompt or option that the model does not take, or a value out of range.
        """
        if prompt is not None:
            self._check_takes_prompt()
        asked = None if prompt is None else read_aloud(self.read, prompt)
        wanted = settings(self.verb.options, options, self.name)
        other = copy.copy(self)
        if self.verb.give is not None:
            other._given = self.verb.give(asked, wanted)
        other._words = asked.words if asked is not None else ()
        return other

    def attention(
        self, image: np.ndarray, prompt: str | Prompt | None = None
    ) -> tuple[tuple[str, ...], np.ndarray]:
        """Where each word of a prompt acted.

        Args:
          image: uint8 (h, w, 3) or gray (h, w).
          prompt: None: what `asking` set.

        Returns: (words, maps (h, w, words) float32): the share of each low-resolution pixel's
          attention that went to the word, mean over heads and layers. What is left of one went to
          the prompt's start.

        Raises:
          UserError: the model takes no prompt or has no attention, or no prompt was given.
        """
        if prompt is not None:
            return self.asking(prompt).attention(image)
        self.check_attention()
        if not self._words:
            raise UserError("attention needs a prompt")
        maps = attention_maps(self.verb, self.variables, np.asarray(image), self._given)
        return self._words, maps[..., 1 : 1 + len(self._words)]

    def check_attention(self) -> None:
        """Raises UserError if the model has no attention to show."""
        self._check_takes_prompt()
        if self.verb.attend is None:
            raise UserError(
                f"{self.name} has no attention to show: it was trained with another guidance "
                "(model.generator.guidance)"
            )

    def frames_at_once(
        self, size: tuple[int, int], tile: int | None = None, batch: int | None = None
    ) -> tuple[int, int]:
        """(frames, batch) for pictures (h, w); see `tiling.frames_at_once`."""
        return tiling.frames_at_once(self.verb, self.variables, size, self._given, tile, batch)

    def _check_takes_prompt(self) -> None:
        if self.verb.read is None:
            raise UserError(
                f"{self.name} takes no prompt; use a model that does, such as prompt_srgan_x4"
            )


def _from_file(path: str | os.PathLike) -> np.ndarray:
    """uint8 or uint16 (h, w), (h, w, 3) or (h, w, 4), upright."""
    rgb, alpha, gray, _ = read_single(path)
    if alpha is not None:
        return np.dstack([rgb, alpha])
    return np.ascontiguousarray(rgb[..., 0]) if gray else rgb


bind = Upscaler
