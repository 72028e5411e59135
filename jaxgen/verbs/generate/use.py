"""What a text-to-image model does: pictures of texts, and the ways between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxgen.data.text.prompt import Prompt
from jaxgen.errors import UserError
from jaxgen.runs.base import BaseModel
from jaxgen.task import Generate
from jaxgen.verbs.offered import traced_masks


class GeneratingModel(BaseModel):
    """The verb `generate`; a model without it refuses in one line."""

    def generate(
        self,
        prompts: str | Prompt | Sequence[str | Prompt],
        n: int = 1,
        *,
        seed: int = 0,
        first: int = 0,
        same_noise: bool = False,
        truncation: float = 1.0,
        batch: int | None = None,
        progress: Any = None,
    ) -> np.ndarray:
        """Draws `n` pictures of each text.

        Picture i of a text is a function of the seed, the text and i alone: not of n, of the other
        texts or of the batch (but for rounding).

        Args:
          prompts: one text or several, or what `read_prompt` gives. Of a text, unknown words are
            named in a warning, with the nearest known ones.
          seed: 0 to 2**32 - 1.
          first: number of the first picture: n=1, first=3 draws the fourth of n=4 again.
          same_noise: picture i has the same noise whatever the text, to compare texts.
          truncation: 1: noise as in training; less: nearer to the mean, more usual and less varied
            (see `jaxgen.verbs.generate.draw.noise`).
          batch: pictures at a time; None: as suits their size.
          progress: called as progress(pictures done, pictures in all).

        Returns: uint8, (n, size, size, 3) for one text, (texts, n, size, size, 3) for several.

        Raises:
          UserError: the model does not generate, no texts, or a setting out of range.
        """
        return self.generate_with_masks(
            prompts, n, seed=seed, first=first, same_noise=same_noise, truncation=truncation,
            batch=batch, progress=progress,
        )[0]  # fmt: skip

    def generate_with_masks(
        self,
        prompts: str | Prompt | Sequence[str | Prompt],
        n: int = 1,
        *,
        seed: int = 0,
        first: int = 0,
        same_noise: bool = False,
        truncation: float = 1.0,
        batch: int | None = None,
        progress: Any = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """As `generate`, and where the text acted.

        Returns: (pictures, masks): each of the masks is float32 in [0, 1], (n, h, w) for one text,
          (texts, n, h, w) for several, coarse to fine; there are none for most families.
        """
        from jaxgen.verbs.generate.draw import check_draws

        texts = [prompts] if isinstance(prompts, str | Prompt) else list(prompts)
        if not texts:
            raise UserError("generate needs at least one text")
        check_draws(seed, first, n, truncation)
        asked = [self._read_aloud(text) for text in texts]
        jobs = [(prompt, first + i) for prompt in asked for i in range(n)]
        drawn = list(
            self.draw(
                jobs, seed=seed, same_noise=same_noise, truncation=truncation, batch=batch,
                progress=progress,
            )
        )  # fmt: skip
        shape = (n,) if isinstance(prompts, str | Prompt) else (len(texts), n)
        pictures = np.stack([picture for picture, _ in drawn])
        levels = [np.stack(level) for level in zip(*(masks for _, masks in drawn), strict=True)]
        pictures = pictures.reshape(*shape, *pictures.shape[1:])
        return pictures, tuple(level.reshape(*shape, *level.shape[1:]) for level in levels)

    def draw(
        self,
        jobs: Sequence[tuple[Prompt, int]],
        *,
        seed: int = 0,
        same_noise: bool = False,
        truncation: float = 1.0,
        batch: int | None = None,
        progress: Any = None,
    ) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
        """Draws any pictures, one after the other, for more of them than memory holds.

        Args:
          jobs: (text, number of the picture) of each; the rest as for `generate`.

        Yields: (picture uint8 (size, size, 3), its masks, each (h, w) float32 in [0, 1]).
        """
        from jaxgen.verbs.generate import draw as generate

        verb, nets = self._generating()

        def rows() -> Iterator[tuple[generate.Features, np.ndarray]]:
            last = None
            for prompt, number in jobs:
                if prompt is not last:
                    last, features = prompt, generate.embed(verb, nets, prompt)
                text = 0 if same_noise else generate.text_number(prompt)
                yield features, generate.noise(verb, generate.Draw(seed, text, number), truncation)

        yield from generate.draw(verb, nets, rows(), len(jobs), batch, progress)

    def interpolate(
        self,
        start: str | Prompt,
        end: str | Prompt | None = None,
        steps: int = 8,
        *,
        seed: int = 0,
        first: int = 0,
        truncation: float = 1.0,
        batch: int | None = None,
        progress: Any = None,
    ) -> np.ndarray:
        """The way between two pictures, both included.

        With two texts the noise stays that of `start`'s picture `first`, and the texts' features
        go straight from one to the other. With one text its features stay, and the noise goes on
        a sphere from its picture `first` to the next.

        Returns: uint8 (steps, size, size, 3); the first one is generate(start, first=first)[0].

        Raises:
          UserError: as `generate`, or fewer than two steps.
        """
        from jaxgen.verbs.generate import draw as generate

        generate.check_draws(seed, first, 2, truncation)
        weights_between = generate.weights_between(steps)
        verb, nets = self._generating()
        asked = self._read_aloud(start)
        text = generate.text_number(asked)
        z = [
            generate.noise(verb, generate.Draw(seed, text, first + i), truncation) for i in range(2)
        ]
        a = generate.embed(verb, nets, asked)
        if end is None:
            rows = [(a, generate.between_noises(z[0], z[1], w)) for w in weights_between]
        else:
            b = generate.embed(verb, nets, self._read_aloud(end))
            rows = [(a.towards(b, w), z[0]) for w in weights_between]
        return np.stack([p for p, _ in generate.draw(verb, nets, rows, steps, batch, progress)])

    def check_masks(self) -> None:
        """Raises UserError if the model gives no masks beside its pictures."""
        if not traced_masks(self._verb("generate"), self.nets):
            raise UserError(
                f"{self.name} (family {self.family}) has no masks to show; a model of the family "
                "ssagan has"
            )

    def _generating(self) -> tuple[Generate, dict[str, Any]]:
        """The verb `generate` and the variables of its nets."""
        verb = self._verb("generate")
        return verb, {net: self._variables(net) for net in verb.nets}
