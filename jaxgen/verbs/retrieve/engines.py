"""What finds the nearest rows: exactly, or by a library for many of them or for many machines.

All have one small interface, `Engine`; rows are those of the index.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.errors import UserError, pip_install

_BLOCK = 2**14  # rows of a call
_TILE = 2**8  # rows that are widened at once: half a MB of 512 features stays in the cache
_ALONE = 1024  # rows that one thread adds to an empty graph
_WIDER = 8  # an approximate engine is asked for so many times more where results are filtered


class Engine(Protocol):
    """Finds rows."""

    def search(
        self, query: np.ndarray, k: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(rows int64, cosines float32) of the k most alike, the most alike first.

        Args: query: (width,), of length 1. allowed: bool, of each row.
        """


class Exact:
    """The product with every row, of a matrix that may lie on disk; no further dependency.

    Of equal likeness the lower row comes first. A million rows of 512 are 1 GB on disk, of which a
    block is in memory at a time.
    """

    def __init__(self, vectors: np.ndarray):
        self.vectors = vectors

    def search(
        self, query: np.ndarray, k: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Engine`."""
        scores = np.full(len(self.vectors), -np.inf, np.float32)
        for rows in _blocks(len(scores)):
            if allowed[rows].any():
                scores[rows] = cosines(self.vectors[rows], query)
        scores[~allowed] = -np.inf
        return _top(scores, k)


def cosines(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """float32 (n,): products of rows (n, width) with a query (width,), both of length 1.

    Equal rows have equal products, to the last bit, wherever they are.
    """
    count = len(rows)
    short = -count % _TILE
    if short:  # kernels sum rows that fill no vector in another order
        rows = np.concatenate([rows, np.zeros((short, rows.shape[1]), rows.dtype)])
    there = jax.device_put(np.asarray(query, np.float32), _host())
    return np.asarray(_products(rows, there))[:count]


@jax.jit
def _products(rows: jax.Array, query: jax.Array) -> jax.Array:
    def product(tile: jax.Array) -> jax.Array:
        return jnp.matmul(tile.astype(jnp.float32), query, precision="highest")

    # numpy's widening takes ten times as long as this whole program.
    return jax.lax.map(product, rows.reshape(-1, _TILE, rows.shape[1])).reshape(-1)


def _host() -> jax.Device:
    """What multiplies: the CPU, beside which the rows lie, if this process has it."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # the platform is set to accelerators alone
        return jax.local_devices()[0]


def _blocks(count: int) -> Iterator[slice]:
    """Slices that cover `count` rows, all but the last one of whole tiles."""
    start = 0
    while start < count:
        whole = (count - start) // _TILE * _TILE
        size = min(_BLOCK, whole or count - start)
        yield slice(start, start + size)
        start += size


def _top(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.flatnonzero(scores > -np.inf)
    if len(rows) > k:
        least = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores[rows] >= least]
    order = np.argsort(-scores[rows], kind="stable")[:k]
    return rows[order], scores[rows[order]]


class Ann:
    """usearch's graph over the rows (float16, HNSW), kept beside the index.

    Approximate: `recall` tells how much of the exact answer it finds.
    """

    def __init__(self, vectors: np.ndarray, file: Path | None = None):
        """Opens the graph in `file` and adds the rows that it lacks; None: made anew.

        Raises:
          UserError: usearch is not installed.
        """
        try:
            from usearch.index import Index as Graph
        except ImportError:
            raise UserError(f"--engine ann needs usearch: {pip_install('ann')}") from None
        self.vectors = vectors
        self.graph = Graph(ndim=vectors.shape[1], metric="cos", dtype="f16")
        if file is not None and file.is_file():
            with contextlib.suppress(Exception):  # a damaged graph is made anew
                self.graph.load(str(file))
        if len(self.graph) > len(vectors) or self.graph.ndim != vectors.shape[1]:
            self.graph = Graph(ndim=vectors.shape[1], metric="cos", dtype="f16")
        known = len(self.graph)
        # Threads that meet a nearly empty graph miss each other's rows (up to a tenth of them could
        # never be found again): the first ones are added by one thread.
        begun = min(max(known, _ALONE), len(vectors))
        for start, end, threads in ((known, begun, 1), (begun, len(vectors), 0)):
            if start < end:
                rows = np.asarray(vectors[start:end])
                self.graph.add(np.arange(start, end), rows, threads=threads)
        if known < len(vectors) and file is not None:
            self.graph.save(str(file))

    def search(
        self, query: np.ndarray, k: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Engine`; where most rows are not allowed, fewer than k may be found."""
        wanted = k if allowed.all() else min(_WIDER * k + 8, len(allowed))
        rows: np.ndarray = np.asarray(self.graph.search(query, wanted).keys).astype(np.int64)
        scores = np.full(len(self.vectors), -np.inf, np.float32)
        # The library's distances are of float16 sums: of the few rows, exact.
        scores[rows] = cosines(self.vectors[rows], query)
        scores[~allowed] = -np.inf
        return _top(scores, k)

    def recall(self, k: int = 20, queries: int = 100) -> float:
        """The share of the exact k nearest rows that are found, over rows as queries."""
        exact, every = Exact(self.vectors), np.ones(len(self.vectors), bool)
        step = max(1, len(self.vectors) // queries)
        shares = []
        for row in range(0, len(self.vectors), step):
            query = np.asarray(self.vectors[row], np.float32)
            right = exact.search(query, k, every)[0]
            shares.append(np.isin(right, self.search(query, k, every)[0]).mean())
        return float(np.mean(shares)) if shares else 1.0


class Qdrant:
    """Rows in a collection of Qdrant: a server, a cluster, a folder, or memory (":memory:").

    For what one machine does not hold. Only rows that the collection lacks are sent.
    """

    def __init__(self, vectors: np.ndarray, where: str, name: str = "jaxgen"):
        """Raises UserError where the client is not installed or nobody answers."""
        try:
            from qdrant_client import QdrantClient, models
        except ImportError:
            raise UserError(f"--engine qdrant needs its client: {pip_install('qdrant')}") from None
        self.models: Any = models
        self.name, self.count = name, len(vectors)
        try:
            if where == ":memory:":
                self.client = QdrantClient(where)
            elif "://" in where:
                self.client = QdrantClient(url=where)
            else:
                self.client = QdrantClient(path=where)
            self._send(vectors)
        except Exception as error:  # of many kinds, by the way it is reached
            raise UserError(f"{where} does not answer as Qdrant does: {error}") from None

    def _send(self, vectors: np.ndarray) -> None:
        models = self.models
        if not self.client.collection_exists(self.name):
            about = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
            self.client.create_collection(self.name, vectors_config=about)
        known = self.client.count(self.name).count
        for start in range(known, len(vectors), 1024):
            rows = range(start, min(start + 1024, len(vectors)))
            points = [
                models.PointStruct(id=row, vector=np.asarray(vectors[row], np.float32).tolist())
                for row in rows
            ]
            self.client.upsert(self.name, points)

    def search(
        self, query: np.ndarray, k: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Engine`."""
        wanted = k if allowed.all() else min(_WIDER * k + 8, self.count)
        found = self.client.query_points(self.name, query=query.tolist(), limit=wanted).points
        pairs = sorted((-p.score, int(p.id)) for p in found if allowed[int(p.id)])[:k]
        rows = np.array([row for _, row in pairs], np.int64)
        return rows, np.array([-score for score, _ in pairs], np.float32)
