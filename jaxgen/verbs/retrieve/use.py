"""`model.retrieve`: pictures and texts in, features out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgen.errors import UserError
from jaxgen.verbs.prompts import read_aloud
from jaxgen.verbs.retrieve.contract import Retrieve
from jaxgen.verbs.use import Use
from jaxgen.weights.digests import fingerprint

BATCH = 64


class Retriever(Use[Retrieve]):
    """A trained model's verb `retrieve`; see `Use`."""

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hex of the weights: compare features of one model alone."""
        return fingerprint(self.variables)

    def pictures(self, images: Sequence[Any]) -> np.ndarray:
        """Features of pictures.

        Args: images: each uint8 (h, w, 3), or gray (h, w); the middle square is looked at.

        Returns: float32 (n, width), rows of length 1; n may be 0.

        Raises:
          UserError: no such pictures.
        """
        rows = [self._fitted(image) for image in images]
        found = [np.zeros((0, self.verb.width), np.float32)]
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            batch = np.stack(part + part[-1:] * (BATCH - len(part)))
            found.append(np.asarray(self.verb.pictures_program(self.variables, batch))[: len(part)])
        return np.concatenate(found)

    def __call__(self, images: Sequence[Any], texts: Sequence[str]) -> np.ndarray:
        """Features of what each picture with its text asks for.

        Words that the model does not know are named in a warning.

        Returns: float32 (n, width), rows of length 1; their inner products with `pictures` say how
          well those fit.

        Raises:
          UserError: no such pictures, or another number of texts.
        """
        if len(images) != len(texts):
            raise UserError(f"{len(images)} pictures with {len(texts)} texts: give one for each")
        known: dict[str, Any] = {}
        for text in texts:
            if text not in known:
                known[text] = read_aloud(self.verb.read, text)
        rows = [self._fitted(image) for image in images]
        found = [np.zeros((0, self.verb.width), np.float32)]
        for start in range(0, len(rows), BATCH):
            part, said = rows[start : start + BATCH], texts[start : start + BATCH]
            more = BATCH - len(part)
            prompts = [known[text] for text in [*said, *[said[-1]] * more]]
            batch = (
                np.stack(part + part[-1:] * more),
                np.stack([prompt.tokens for prompt in prompts]),
                np.stack([prompt.mask for prompt in prompts]),
            )
            made = self.verb.queries_program(self.variables, *batch)
            found.append(np.asarray(made)[: len(part)])
        return np.concatenate(found)

    def _fitted(self, image: Any) -> np.ndarray:
        picture = np.asarray(image)
        if picture.ndim == 2:
            picture = np.repeat(picture[..., None], 3, axis=-1)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise UserError(
                f"retrieve takes pictures as uint8 (h, w, 3), not {picture.dtype} {picture.shape}"
            )
        return self.verb.fit(picture, self.verb.size)


bind = Retriever
