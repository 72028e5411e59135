"""`model.generate`: texts in, pictures out, and the ways between two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxgen.data.text.prompt import Prompt
from jaxgen.errors import UserError
from jaxgen.task import Nets
from jaxgen.verbs import settings
from jaxgen.verbs.generate import draw
from jaxgen.verbs.generate.base import Drawing, TextToImage
from jaxgen.verbs.generate.contract import Generate
from jaxgen.verbs.generate.guide import Guide
from jaxgen.verbs.generate.guided import Guided
from jaxgen.verbs.generate.stepwise import Watch
from jaxgen.verbs.prompts import read_aloud


class Drawer(TextToImage[Generate]):
    """A trained model's verb `generate`; see `Use`."""

    def __init__(self, verb: Generate, nets: Nets, name: str):
        super().__init__(verb, nets, name)
        self._sizes: dict[tuple[int, int], Generate] = {}

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return self.verb.size

    def each(
        self,
        jobs: Sequence[tuple[Prompt, int]],
        *,
        seed: int = 0,
        same_noise: bool = False,
        size: tuple[int, int] | None = None,
        batch: int | None = None,
        progress: draw.Progress | None = None,
        init: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        watch: Watch | None = None,
        **options: Any,
    ) -> Iterator[Drawing]:
        """As of every model; see `TextToImage.each`.

        Args:
          init: a picture to begin with, uint8 (h, w, 3), of a model that can (family ldm); the
            option "strength" says how far to go from it. It is fitted to the size that is drawn.
          mask: (h, w) bool or uint8 of the same size, bright where to draw anew; elsewhere the
            picture stays as it is.
          watch: who looks on while a picture is made, of a model that makes it in steps.
        """
        verb = self.verb if size is None else self._sized(*size)
        truncation, given = self._settings(options, verb, init, mask)
        if watch is not None and verb.stepwise is None:
            raise UserError(f"{self.name} draws a picture at once: there are no steps to see")

        if jobs:
            many = draw.check_batch(draw.default_batch(verb.size) if batch is None else batch)
            draw.check_large(verb, self.variables, jobs[0][0], given, many)

        def rows() -> Iterator[tuple[draw.Features, np.ndarray]]:
            last = None
            for prompt, number in jobs:
                if prompt is not last:
                    last, features = prompt, draw.embed(verb, self.variables, prompt)
                text = 0 if same_noise else draw.text_number(prompt)
                yield features, draw.noise(verb, draw.Draw(seed, text, number), truncation)

        yield from draw.draw(verb, self.variables, rows(), len(jobs), given, batch, progress, watch)

    def between(
        self,
        start: str | Prompt,
        end: str | Prompt | None = None,
        steps: int = 8,
        *,
        seed: int = 0,
        first: int = 0,
        batch: int | None = None,
        progress: draw.Progress | None = None,
        **options: Any,
    ) -> np.ndarray:
        """The way between two pictures, both included.

        With two texts the noise stays that of `start`'s picture `first`, and the texts' features
        go straight from one to the other. With one text its features stay, and the noise goes on
        a sphere from its picture `first` to the next.

        Returns: uint8 (steps, size, size, 3); the first one is a call's with n=1 and `first`.

        Raises:
          UserError: as a call, or fewer than two steps.
        """
        draw.check_draws(seed, first, 2)
        truncation, given = self._settings(options)
        verb, nets, shares = self.verb, self.variables, draw.weights_between(steps)
        asked = read_aloud(self.read, start)
        text = draw.text_number(asked)
        if end is None and verb.numbers is not None:
            raise UserError(f"{self.name} has no way between two noises: give two texts")
        z = [draw.noise(verb, draw.Draw(seed, text, first + i), truncation) for i in range(2)]
        a = draw.embed(verb, nets, asked)
        if end is None:
            rows = [(a, draw.between_noises(z[0], z[1], share)) for share in shares]
        else:
            b = draw.embed(verb, nets, read_aloud(self.read, end))
            rows = [(a.towards(b, share), z[0]) for share in shares]
        drawn = draw.draw(verb, nets, rows, steps, given, batch, progress)
        return np.stack([picture for picture, _ in drawn])

    def read(self, text: str) -> Prompt:
        """The text as the model reads it: its words, and which of them it does not know."""
        return self.verb.read(text)

    def check(
        self,
        options: Mapping[str, Any],
        size: tuple[int, int] | None = None,
        init: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> None:
        """Raises UserError for what the model does not take, or options that do not go together."""
        self._settings(options, self.verb if size is None else self._sized(*size), init, mask)

    def check_masks(self) -> None:
        """Raises UserError if the model gives no masks beside its pictures."""
        if not self.verb.trace(self.variables):
            raise UserError(f"{self.name} has no masks to show; a model of the family ssagan has")

    def check_size(self, size: tuple[int, int]) -> None:
        """Raises UserError for a (height, width) that the model does not draw."""
        self._sized(*size)

    def _sized(self, height: int, width: int) -> Generate:
        """The verb for pictures of another size; its programs are kept."""
        if self.verb.sized is None:
            raise UserError(f"{self.name} draws pictures of {self.size} x {self.size} alone")
        if (height, width) not in self._sizes:
            self._sizes[height, width] = self.verb.sized(height, width)
        return self._sizes[height, width]

    def _settings(
        self,
        options: Mapping[str, Any],
        verb: Generate | None = None,
        init: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> tuple[float, Any]:
        """(truncation of the noise, what the verb is given)."""
        verb = verb or self.verb
        wanted = settings(verb.options, options, self.name)
        if init is not None:
            if verb.begin is None:
                raise UserError(f"{self.name} draws from noise alone: it begins with no picture")
            return 1.0, verb.begin(wanted, init, mask)
        if mask is not None:
            raise UserError("a mask needs the picture that it is of: give init")
        given = verb.give(wanted) if verb.give is not None else None
        return wanted.get("truncation", 1.0), given


def bind(offered: Generate | Guided, nets: Nets, name: str) -> TextToImage[Any]:
    """The use of what a family offers, or of two models put together."""
    return (
        Guide(offered, nets, name) if isinstance(offered, Guided) else Drawer(offered, nets, name)
    )
