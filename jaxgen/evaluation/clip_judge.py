"""Whether pictures fit their captions in the eyes of a CLIP: CLIP-score and R-precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxgen.metrics.clip_score import FOLDS, clip_score, mismatched_candidates, r_precision
from jaxgen.verbs.embed.use import BATCH, Embedder


class ClipJudge:
    """Sees pictures one after the other, and keeps their features alone.

    Args:
      clip: a trained model's `embed`.
      meanings: of the captions that will come, in their order; equal where one may be true of the
        other's picture.

    Raises:
      UserError: too few captions of other meanings for R-precision.
    """

    def __init__(self, clip: Embedder, meanings: Sequence[int]):
        self.clip = clip
        self._candidates = mismatched_candidates(np.asarray(meanings))
        self._texts: list[str] = []
        self._waiting: list[np.ndarray] = []
        self._features: list[np.ndarray] = []

    def see(self, text: str, picture: np.ndarray) -> None:
        """A caption and the picture (h, w, 3) uint8 that was drawn of it."""
        self._texts.append(text)
        self._waiting.append(picture)
        if len(self._waiting) == BATCH:
            self._look()

    def scores(self) -> dict[str, float]:
        """Of all pictures that were seen.

        Returns: "score", the mean cosine of picture and caption, not below 0; "r_precision", the
          share of pictures whose caption is nearer than 99 of other meanings, and its
          "r_precision_std" over 10 parts of them.
        """
        self._look()
        pictures, texts = np.concatenate(self._features), self.clip.texts(self._texts)
        folds = min(FOLDS, len(texts))
        mean, spread = r_precision(pictures, texts, self._candidates, folds)
        return {
            "score": clip_score(pictures, texts),
            "r_precision": mean,
            "r_precision_std": spread,
        }

    def _look(self) -> None:
        self._features.append(self.clip.pictures(self._waiting))
        self._waiting = []
