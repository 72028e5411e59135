"""DAMSM: how well pictures match texts, within a batch (AttnGAN, Xu et al. 2018, section 3.2).

Two losses of the same form: each picture must be told from the batch's others by its text, and each
text by its picture. One compares whole pictures with sentences; the other lets every word look at
the picture's regions.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.errors import UserError

# Logit of a pair that must not be told apart: finite, so that no softmax is 0 / 0.
MASKED = -1e9
EPSILON = 1e-8  # on the norms in a cosine


def damsm_loss(
    regions: jax.Array | None,
    whole: jax.Array,
    words: jax.Array,
    mask: jax.Array,
    sentence: jax.Array,
    meaning: jax.Array,
    gamma: tuple[float, float, float] = (4.0, 5.0, 10.0),
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The sum of the sentence and the word losses, each in both directions (eq. 7 to 13).

    Pairs of another example's picture and text are left out where their meanings are equal: there
    the text is as true as the picture's own.

    Args:
      regions: (b, r, e) features of each picture's places; None: the sentence loss alone.
      whole: (b, e) of each picture. words: (b, t, e). mask: (b, t) bool, True where there is a
        word, somewhere in each row. sentence: (b, e). meaning: (b,) int32.
      gamma: how sharply a word looks at regions; how much a text's best words count; how sharply
        pairs are told apart. The paper's are 5, 5, 10, its code's 4, 5, 10.

    Returns: (float32 scalar, metrics): `sentence` and `words`, the two losses, and `accuracy`, the
      share of pictures to which their own sentence is the nearest in the batch (chance is 1/b).

    Raises:
      UserError: features of pictures and texts differ in width.
    """
    same = meaning[:, None] == meaning[None, :]
    left_out = same & ~jnp.eye(meaning.shape[0], dtype=bool)
    logits = gamma[2] * sentence_similarity(whole, sentence)
    logits = jnp.where(left_out, MASKED, logits)
    value = contrastive(logits)
    nearest = jnp.argmax(logits, axis=1) == jnp.arange(logits.shape[0])
    metrics = {"sentence": value, "accuracy": jnp.mean(nearest.astype(jnp.float32))}
    if regions is not None:
        logits = gamma[2] * word_similarity(regions, words, mask, gamma[0], gamma[1])
        metrics["words"] = contrastive(jnp.where(left_out, MASKED, logits))
        value = value + metrics["words"]
    return value, metrics


def sentence_similarity(whole: jax.Array, sentence: jax.Array) -> jax.Array:
    """Cosines (b, c) float32 of pictures (b, e) with texts (c, e)."""
    _check_widths(whole, sentence)
    whole, sentence = whole.astype(jnp.float32), sentence.astype(jnp.float32)
    norms = _norm(jnp.sum(whole**2, -1))[:, None] * _norm(jnp.sum(sentence**2, -1))[None, :]
    return whole @ sentence.T / norms


def word_similarity(
    regions: jax.Array, words: jax.Array, mask: jax.Array, gamma1: float, gamma2: float
) -> jax.Array:
    """R(picture, text) of eq. 10, as (b, c) float32: a smooth maximum over the words of the cosine
    of each word with what it sees of the picture.

    Args:
      regions: (b, r, e), of pictures. words: (c, t, e), mask: (c, t), of texts.

    The largest arrays have b*c*t*r elements: a word's view v of a picture, a mix of regions, is
    never formed, for its product with the word mixes the regions' products, and |v|^2 needs the
    regions' products among themselves only.
    """
    _check_widths(regions, words)
    regions, words = regions.astype(jnp.float32), words.astype(jnp.float32)
    products = jnp.einsum("bre,cte->bctr", regions, words)
    there = mask[None, :, :, None]
    # Words compete for each region (eq. 8), then regions for each word (eq. 9).
    shares = jax.nn.softmax(jnp.where(there, products, MASKED), axis=2)
    weights = jax.nn.softmax(gamma1 * shares, axis=3)  # (b, c, t, r)
    gram = jnp.einsum("bre,bse->brs", regions, regions)
    seen = jnp.einsum("bctr,brs->bcts", weights, gram)
    norms = _norm(jnp.sum(weights * seen, -1)) * _norm(jnp.sum(words**2, -1))[None]
    cosines = jnp.sum(weights * products, axis=3) / norms  # (b, c, t)
    return jax.nn.logsumexp(jnp.where(mask[None], gamma2 * cosines, MASKED), axis=2)


def contrastive(logits: jax.Array) -> jax.Array:
    """Cross-entropy of the diagonal of (b, b) logits, along rows plus along columns."""
    own = jnp.diagonal(logits)
    rows = jax.nn.logsumexp(logits, axis=1) - own
    columns = jax.nn.logsumexp(logits, axis=0) - own
    return jnp.mean(rows) + jnp.mean(columns)


def _norm(square: jax.Array) -> jax.Array:
    """The root of a squared norm; its gradient at zero is zero, not infinite."""
    return jnp.sqrt(jnp.maximum(square, EPSILON**2))


def _check_widths(picture: jax.Array, text: jax.Array) -> None:
    if picture.shape[-1] != text.shape[-1]:
        raise UserError(
            f"pictures are matched by {picture.shape[-1]} features and texts by {text.shape[-1]}: "
            "set model.match.width to the text's width"
        )
