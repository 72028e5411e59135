"""What every `model.generate` has alike: texts in, pictures out."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from jaxgen.data.text.prompt import Prompt
from jaxgen.errors import UserError
from jaxgen.verbs import Verb
from jaxgen.verbs.generate import draw
from jaxgen.verbs.prompts import read_aloud
from jaxgen.verbs.use import Use

Drawing = tuple[np.ndarray, tuple[np.ndarray, ...]]
V = TypeVar("V", bound=Verb)


class TextToImage(Use[V], abc.ABC):
    """A model's verb `generate`; see `Use`."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Side of the pictures in pixels."""

    @abc.abstractmethod
    def read(self, text: str) -> Prompt:
        """The text as the model reads it: its words, and which of them it does not know."""

    @abc.abstractmethod
    def each(
        self,
        jobs: Sequence[tuple[Prompt, int]],
        *,
        seed: int = 0,
        same_noise: bool = False,
        size: tuple[int, int] | None = None,
        batch: int | None = None,
        progress: draw.Progress | None = None,
        **options: Any,
    ) -> Iterator[Drawing]:
        """Draws any pictures, one after the other, for more of them than memory holds.

        Args:
          jobs: (text, number of the picture) of each; the rest as for a call.

        Yields: (picture uint8 (size, size, 3), its masks, each (h, w) float32 in [0, 1]).
        """

    @abc.abstractmethod
    def check(self, options: Mapping[str, Any]) -> None:
        """Raises UserError for an option that the model does not take, or a value out of range."""

    @abc.abstractmethod
    def check_masks(self) -> None:
        """Raises UserError if the model gives no masks beside its pictures."""

    @abc.abstractmethod
    def check_size(self, size: tuple[int, int]) -> None:
        """Raises UserError for a (height, width) that the model does not draw."""

    def __call__(
        self,
        prompts: str | Prompt | Sequence[str | Prompt],
        n: int = 1,
        *,
        seed: int = 0,
        first: int = 0,
        same_noise: bool = False,
        size: tuple[int, int] | None = None,
        batch: int | None = None,
        progress: draw.Progress | None = None,
        **options: Any,
    ) -> np.ndarray:
        """Draws `n` pictures of each text.

        Picture i of a text is a function of the seed, the text and i alone: not of n, of the other
        texts or of the batch (but for rounding).

        Args:
          prompts: one text or several, or what `read` gives. Of a text, unknown words are named in
            a warning, with the nearest known ones.
          seed: 0 to 2**32 - 1.
          first: number of the first picture: n=1, first=3 draws the fourth of n=4 again.
          same_noise: picture i has the same noise whatever the text, to compare texts.
          size: (height, width) in pixels, of a model that draws other sizes, too; rounded down to
            those that it has, with a warning.
          batch: pictures per device at a time; None: as suits their size.
          progress: called as progress(pictures done, pictures in all).
          options: of the model, see `verb.options`; such as `truncation` of a GAN: 1: noise as in
            training; less: nearer to the mean, more usual and less varied. Of a diffusion model
            also those of `Drawer.each`: a picture to begin with, a mask, who looks on.

        Returns: uint8, (n, size, size, 3) for one text, (texts, n, size, size, 3) for several.

        Raises:
          UserError: no texts, or a setting out of range.
        """
        return self.with_masks(
            prompts, n, seed=seed, first=first, same_noise=same_noise, size=size, batch=batch,
            progress=progress, **options,
        )[0]  # fmt: skip

    def with_masks(
        self,
        prompts: str | Prompt | Sequence[str | Prompt],
        n: int = 1,
        *,
        seed: int = 0,
        first: int = 0,
        **how: Any,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """As a call, and where the text acted.

        Returns: (pictures, masks): each of the masks is float32 in [0, 1], (n, h, w) for one text,
          (texts, n, h, w) for several, coarse to fine; there are none for most families.
        """
        texts = [prompts] if isinstance(prompts, str | Prompt) else list(prompts)
        if not texts:
            raise UserError("generate needs at least one text")
        draw.check_draws(seed, first, n)
        asked = [read_aloud(self.read, text) for text in texts]
        drawn = list(
            self.each([(one, first + i) for one in asked for i in range(n)], seed=seed, **how)
        )
        shape = (n,) if isinstance(prompts, str | Prompt) else (len(texts), n)
        pictures = np.stack([picture for picture, _ in drawn])
        levels = [np.stack(level) for level in zip(*(masks for _, masks in drawn), strict=True)]
        pictures = pictures.reshape(*shape, *pictures.shape[1:])
        return pictures, tuple(level.reshape(*shape, *level.shape[1:]) for level in levels)

    def between(
        self,
        start: str | Prompt,
        end: str | Prompt | None = None,
        steps: int = 8,
        **how: Any,
    ) -> np.ndarray:
        """The way between two pictures; see `Drawer.between`.

        Raises:
          UserError: the model has none.
        """
        raise UserError(f"{self.name} has no way between two pictures")
