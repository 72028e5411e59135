"""Inception Score (Salimans et al. 2016): exp of the mean KL(p(y|x) || p(y)), by splits."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax, logsumexp

from jaxgen.errors import UserError

SPLITS, SEED = 10, 2020


def inception_score(
    logits: np.ndarray, splits: int = SPLITS, shuffle_seed: int | None = SEED
) -> tuple[float, float]:
    """Mean and standard deviation (ddof 0) over splits.

    Args:
      logits: (n, classes), of the FID's Inception without the classifier's bias
        ("logits_unbiased"), as the original code has it.
      splits: parts that are scored on their own; papers use 10 parts of 5,000 pictures. A score
        falls with the size of a part.
      shuffle_seed: the order before splitting. The default is torch-fidelity's; None keeps the
        order, as the first code did, where classes in a row give other scores.

    Raises:
      UserError: fewer pictures than splits.
    """
    n = len(logits)
    check_splits(n, splits)
    if shuffle_seed is not None:
        logits = logits[np.random.RandomState(shuffle_seed).permutation(n)]
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    scores = []
    for i in range(splits):
        part = log_p[i * n // splits : (i + 1) * n // splits]
        log_marginal = logsumexp(part, axis=0) - np.log(len(part))
        divergence = (np.exp(part) * (part - log_marginal)).sum(axis=1)
        scores.append(np.exp(divergence.mean()))
    return float(np.mean(scores)), float(np.std(scores))


def check_splits(n: int, splits: int) -> None:
    """Raises UserError where `n` pictures don't make `splits` parts."""
    if not 1 <= splits <= n:
        raise UserError(
            f"an Inception Score of {n} pictures in {splits} splits: lower the splits (--splits)"
        )
