"""How well pictures fit their captions, by embeddings of both in one space: CLIP's, or DAMSM's.

Functions of embeddings only: which network made them is for the report to say. Numbers of different
networks (ViT-B/32 and L/14, with and without a prompt before the caption) are not comparable.
"""

from __future__ import annotations

import numpy as np

from jaxgen.errors import UserError

CANDIDATES, FOLDS = 99, 10


def cosines(image_embeddings: np.ndarray, text_embeddings: np.ndarray) -> np.ndarray:
    """Cosine of each picture (n, e) with its own text (n, e): (n,) float64 in [-1, 1]."""
    if image_embeddings.shape != text_embeddings.shape:
        raise UserError(
            f"embeddings of pictures {image_embeddings.shape} and of texts {text_embeddings.shape} "
            "do not pair"
        )
    return (_unit(image_embeddings) * _unit(text_embeddings)).sum(axis=1)


def clip_score(
    image_embeddings: np.ndarray, text_embeddings: np.ndarray, weight: float = 1.0
) -> float:
    """Mean of weight * max(cosine, 0).

    Args:
      weight: 1 as papers on generation have it (often times 100); 2.5 is CLIPScore's own (Hessel et
        al. 2021), of captions that begin with "A photo depicts".
    """
    values = np.maximum(cosines(image_embeddings, text_embeddings), 0.0)
    return float(weight * values.mean())


def mismatched_candidates(
    meanings: np.ndarray, count: int = CANDIDATES, seed: int = 0
) -> np.ndarray:
    """For each text, `count` others of another meaning, drawn without replacement.

    Args:
      meanings: (n,) integers, equal where a text may be true of the other's picture.

    Returns: (n, count) int indices into the texts.

    Raises:
      UserError: too few texts of other meanings.
    """
    meanings = np.asarray(meanings)
    rng = np.random.default_rng(seed)
    rows = []
    for meaning in meanings:
        others = np.flatnonzero(meanings != meaning)
        if len(others) < count:
            raise UserError(
                f"R-precision with {count} wrong captions: only {len(others)} have another meaning"
            )
        rows.append(rng.choice(others, count, replace=False))
    return np.stack(rows)


def r_precision(
    image_embeddings: np.ndarray,
    text_embeddings: np.ndarray,
    candidates: np.ndarray,
    folds: int = FOLDS,
) -> tuple[float, float]:
    """Share of pictures whose own text is nearer than all candidates (Xu et al. 2018; R = 1).

    By cosine; a tie is a miss. Chance is 1 / (1 + candidates).

    Args:
      image_embeddings: (n, e).
      text_embeddings: (n, e), the own text of each picture.
      candidates: (n, c) indices of wrong texts, see `mismatched_candidates`.
      folds: the pictures in so many parts, in order.

    Returns: mean and standard deviation (ddof 0) over the folds, in [0, 1].
    """
    own = cosines(image_embeddings, text_embeddings)  # (n,)
    images, texts = _unit(image_embeddings), _unit(text_embeddings)
    if len(candidates) != len(own) or not 1 <= folds <= len(own):
        raise UserError(
            f"R-precision of {len(own)} pictures with candidates for {len(candidates)} in {folds} "
            "folds"
        )
    # Picture by picture: (n, c, e) at once would be large.
    best = np.array([(texts[c] @ x).max() for x, c in zip(images, candidates, strict=True)])
    hit = (own > best).astype(np.float64)
    shares = [part.mean() for part in np.array_split(hit, folds)]
    return float(np.mean(shares)), float(np.std(shares))


def _unit(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
