"""Mean and covariance of features, streamed in float64 on the host, over all hosts, and as files.

A file is an .npz with `mu` (d,) and `sigma` (d, d), as the FID's programs write and read them;
ours adds `about` (JSON text: how the features were made), `n`, and `feats` (n, d), the features
themselves, which distances other than Fréchet's need (clean-fid's files have `feats` too).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen.errors import UserError
from jaxgen.whole import replacing


class Moments(NamedTuple):
    """Of n feature vectors: mean (d,) and scatter (d, d) = sum of (x - mean)(x - mean)^T; float64.

    The scatter is of centred vectors: a sum of x x^T loses its digits to the mean's square.
    """

    n: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """(d, d), divided by n - 1 as numpy.cov does. UserError if n < 2."""
        if self.n < 2:
            raise UserError("a covariance needs two pictures or more")
        return self.scatter / (self.n - 1)


def no_moments(size: int) -> Moments:
    """Of no vectors, for features of length `size`."""
    return Moments(0, np.zeros(size), np.zeros((size, size)))


def add(moments: Moments, features: np.ndarray) -> Moments:
    """Moments with a batch (b, d) added."""
    x = np.asarray(features, np.float64)
    if len(x) == 0:
        return moments
    mean = x.mean(axis=0)
    x = x - mean
    return merge(moments, Moments(len(x), mean, x.T @ x))


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of both sets (Chan, Golub and LeVeque 1979, equation 2.1)."""
    if a.n == 0 or b.n == 0:
        return b if a.n == 0 else a
    n, apart = a.n + b.n, b.mean - a.mean
    mean = a.mean + apart * (b.n / n)
    scatter = a.scatter + b.scatter + np.outer(apart, apart) * (a.n * b.n / n)
    return Moments(n, mean, scatter)


# -------------------------------------------------------------------------------------- all hosts


def over_hosts(moments: Moments) -> Moments:
    """Moments of all hosts' vectors, on every host; exact: no detour through float32."""
    if jax.process_count() == 1:
        return moments
    parts = [_gather_float64(x) for x in (np.array([moments.n], np.float64), *moments[1:])]
    total = no_moments(len(moments.mean))
    for n, mean, scatter in zip(*parts, strict=True):
        total = merge(total, Moments(round(n[0]), mean, scatter))
    return total


def rows_of_hosts(rows: np.ndarray) -> np.ndarray:
    """All hosts' rows (n_host, ...) one host after the other, on every host; any 4-byte dtype."""
    if jax.process_count() == 1:
        return rows
    from jax.experimental import multihost_utils

    counts = np.asarray(multihost_utils.process_allgather(np.array([len(rows)], np.int32))).ravel()
    # Shorter shares are filled up, and the filling cut off again.
    filled = np.zeros((counts.max(), *rows.shape[1:]), rows.dtype)
    filled[: len(rows)] = rows
    shares = np.asarray(multihost_utils.process_allgather(filled))
    shares = shares.reshape(len(counts), *filled.shape)
    return np.concatenate([share[:n] for share, n in zip(shares, counts, strict=True)])


def _gather_float64(x: np.ndarray) -> np.ndarray:
    """(hosts, *shape): bits travel as integers, for JAX has no float64 unless told to."""
    from jax.experimental import multihost_utils

    bits = np.ascontiguousarray(x).view(np.uint32)
    everyone = np.ascontiguousarray(multihost_utils.process_allgather(bits))
    return everyone.reshape(jax.process_count(), *bits.shape).view(np.float64)


# ------------------------------------------------------------------------------------------ files


class Statistics(NamedTuple):
    """What distances need of a set of n pictures; n is 0 where a file does not say it.

    mean (d,) and covariance (d, d), float64; features (n, d) float32, None if they were not kept.
    about: how the features were made, {} where nobody said.
    """

    n: int
    mean: np.ndarray
    covariance: np.ndarray
    features: np.ndarray | None = None
    about: Mapping[str, Any] = MappingProxyType({})


def of_features(features: np.ndarray, about: Mapping[str, Any] | None = None) -> Statistics:
    """Statistics of features (n, d), n >= 2."""
    moments = add(no_moments(features.shape[1]), features)
    return Statistics(len(features), moments.mean, moments.covariance, features, about or {})


def write_statistics(path: str | os.PathLike[str], statistics: Statistics) -> None:
    """Writes an .npz, whole or not at all. UserError if that cannot be."""
    path = Path(path)
    if path.suffix != ".npz":
        raise UserError(f"{path}: statistics end in .npz")
    content: dict[str, Any] = {
        "mu": statistics.mean,
        "sigma": statistics.covariance,
        "n": np.asarray(statistics.n),
        "about": np.asarray(json.dumps(dict(statistics.about))),
    }
    if statistics.features is not None:
        content["feats"] = np.asarray(statistics.features, np.float32)
    with replacing(path) as part, open(part, "wb") as file:
        np.savez(file, **content)


def read_statistics(path: str | os.PathLike[str]) -> Statistics:
    """Reads our files, pytorch-fid's and TTUR's (`mu`, `sigma`) and clean-fid's (also `feats`).

    Raises:
      UserError: no such file, damaged, or nothing of the kind.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {key: file[key] for key in ("mu", "sigma", "n", "about", "feats") if key in file}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # zip, zlib, header and pickle errors share no base class
        raise UserError(f"cannot read statistics from {path}: {error}") from None
    about = _about(path, held)
    features = np.asarray(held["feats"], np.float32) if "feats" in held else None
    if "mu" not in held and features is not None and features.ndim == 2:
        return of_features(features, about)
    mean, sigma = (np.asarray(held.get(key, 0.0), np.float64) for key in ("mu", "sigma"))
    if mean.ndim != 1 or sigma.shape != (len(mean), len(mean)):
        raise UserError(
            f"{path} holds no statistics: needed are mu (d,) and sigma (d, d), or feats (n, d)"
        )
    if not (np.isfinite(mean).all() and np.isfinite(sigma).all()):
        raise UserError(f"{path}: its statistics are not finite; make them again")
    n = int(held["n"]) if "n" in held else 0 if features is None else len(features)
    return Statistics(n, mean, sigma, features, about)


def _about(path: Path, held: Mapping[str, np.ndarray]) -> dict[str, Any]:
    if "about" not in held:
        return {}
    try:
        about = json.loads(str(held["about"]))
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise UserError(f"{path}: its record `about` is not one of ours")
    return about
