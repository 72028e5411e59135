"""`model.embed`: pictures and texts in, features out."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxgen.encoders.clip.preprocess import fit
from jaxgen.errors import UserError
from jaxgen.verbs.embed.contract import Embed
from jaxgen.verbs.prompts import read_aloud
from jaxgen.verbs.use import Use
from jaxgen.weights.digests import fingerprint

BATCH = 32


class Embedder(Use[Embed]):
    """A trained model's verb `embed`; see `Use`."""

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
        rows = []
        for image in images:
            picture = np.asarray(image)
            if picture.ndim == 2:
                picture = np.repeat(picture[..., None], 3, axis=-1)
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise UserError(
                    f"embed takes pictures as uint8 (h, w, 3), not {picture.dtype} {picture.shape}"
                )
            rows.append(fit(picture, self.verb.size))
        found = [
            np.asarray(self.verb.pictures_program(self.variables, batch))[:count]
            for (batch,), count in _batches(rows)
        ]
        return np.concatenate([np.zeros((0, self.verb.width), np.float32), *found])

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features of texts; words that the model does not know are named in a warning.

        Returns: float32 (n, width), rows of length 1; n may be 0.

        Raises:
          UserError: a model without a tokenizer.
        """
        prompts = [read_aloud(self.verb.read, text) for text in texts]
        found = [
            np.asarray(self.verb.texts_program(self.variables, tokens, mask))[:count]
            for (tokens, mask), count in _batches(
                [prompt.tokens for prompt in prompts], [prompt.mask for prompt in prompts]
            )
        ]
        return np.concatenate([np.zeros((0, self.verb.width), np.float32), *found])

    def classify(
        self, images: Sequence[Any], names: Sequence[str], templates: Sequence[str] = ("{}",)
    ) -> np.ndarray:
        """How likely each name is for each picture: zero-shot classification.

        Args:
          images: as for `pictures`.
          names: of the classes.
          templates: texts with {} for the name; a class is the mean of its texts' features.

        Returns: float32 (n, names), rows that sum to 1.

        Raises:
          UserError: no names or templates, or a template without {}.
        """
        classes = self.classes(names, templates)
        logits = float(self.verb.scale(self.variables)) * (self.pictures(images) @ classes.T)
        chance = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        return chance / chance.sum(axis=1, keepdims=True)

    def classes(self, names: Sequence[str], templates: Sequence[str]) -> np.ndarray:
        """A feature for each class, float32 (names, width) of length 1; see `classify`."""
        if not names or not templates or any("{}" not in one for one in templates):
            raise UserError('classify needs names, and templates such as "a photo of a {}"')
        said = [one.replace("{}", name) for name in names for one in templates]
        found = self.texts(said).reshape(len(names), len(templates), -1).mean(axis=1)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def _batches(*columns: list[np.ndarray]) -> Iterator[tuple[list[np.ndarray], int]]:
    """(arrays of BATCH rows each, the last ones repeated; how many count)."""
    for start in range(0, len(columns[0]), BATCH):
        parts = [column[start : start + BATCH] for column in columns]
        count = len(parts[0])
        yield [np.stack(part + part[-1:] * (BATCH - count)) for part in parts], count


bind = Embedder
