"""`model.embed`: pictures and texts in, features out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgen.errors import UserError
from jaxgen.verbs.embed.contract import Embed
from jaxgen.verbs.features import FeatureUse
from jaxgen.verbs.prompts import read_aloud

BATCH = 32  # rows at a time


class Embedder(FeatureUse[Embed]):
    """A trained model's verb `embed`; see `Use`."""

    batch = BATCH

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features of texts; words that the model does not know are named in a warning.

        Returns: float32 (n, width), rows of length 1; n may be 0.

        Raises:
          UserError: a model without a tokenizer.
        """
        prompts = [read_aloud(self.verb.read, text) for text in texts]
        return self._rows(
            self.verb.texts_program,
            [prompt.tokens for prompt in prompts],
            [prompt.mask for prompt in prompts],
        )

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


bind = Embedder
