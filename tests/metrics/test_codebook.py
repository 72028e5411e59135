"""Health of a codebook: known histograms, and that of a sharded batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from jaxgen.metrics import codebook, over_hosts
from jaxgen.train import mesh as meshes


@pytest.mark.parametrize(
    ("counts", "usage", "dead", "perplexity"),
    [
        ([5, 5, 5, 5], 1.0, 0, 4.0),
        ([0, 9, 0, 0], 0.25, 3, 1.0),
        ([0, 2, 2, 0], 0.5, 2, 2.0),
        ([1, 1, 2, 0], 0.75, 1, 8**0.5),
    ],
)
def test_known_histograms(counts, usage, dead, perplexity):
    for kind in (np.array(counts), np.array(counts, np.float64), jnp.array(counts)):
        assert codebook.usage(kind) == usage
        assert codebook.dead(kind) == dead
        assert float(codebook.perplexity(kind)) == pytest.approx(perplexity, rel=1e-6)


def test_histogram_is_of_the_global_batch():
    codes = jax.random.randint(jax.random.key(0), (16, 3, 5), 0, 40)
    expected = np.bincount(np.asarray(codes).reshape(-1), minlength=50)
    mesh = meshes.make_mesh({"data": 8, "fsdp": 1, "model": 1})
    cut = jax.device_put(codes, NamedSharding(mesh, PartitionSpec("data")))
    for given in (codes, cut):
        found = jax.jit(lambda c: codebook.histogram(c, 50))(given)
        np.testing.assert_array_equal(found, expected)
    # Batches and hosts add.
    parts = sum(codebook.histogram(part, 50) for part in (codes[:7], codes[7:]))
    np.testing.assert_array_equal(parts, expected)


def test_histograms_of_two_hosts_add(monkeypatch):
    mine, other = np.array([2.0**26 + 1, 0, 3]), np.array([1.0, 0, 2.0**25])
    np.testing.assert_array_equal(over_hosts.sum_over_hosts(mine), mine)
    gathered = []

    def process_allgather(parts):
        gathered.append(parts)
        return np.stack(gathered[-2:])

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "process_allgather", process_allgather)
    over_hosts.sum_over_hosts(other)
    np.testing.assert_array_equal(over_hosts.sum_over_hosts(mine), mine + other)
