"""`model.retrieve`: pictures and texts in, features out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgen.errors import UserError
from jaxgen.verbs.features import FeatureUse
from jaxgen.verbs.prompts import read_aloud
from jaxgen.verbs.retrieve.contract import Retrieve


class Retriever(FeatureUse[Retrieve]):
    """A trained model's verb `retrieve`; see `Use`."""

    batch = 64

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
        return self._rows(
            self.verb.queries_program,
            [self._fitted(image) for image in images],
            [known[text].tokens for text in texts],
            [known[text].mask for text in texts],
        )


bind = Retriever
