"""jaxgen.nn.attention: in blocks of queries as at once, in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import devices
from jaxgen.nn import attention as room
from jaxgen.nn.attention import attention
from jaxgen.nn.cpu import attention as on_cpu


@pytest.mark.parametrize("queries", [4, 5, 13])
def test_blocks_equal_the_whole_with_gradients(queries, monkeypatch):
    q, k, v = (
        jax.random.normal(jax.random.key(i), (2, n, 3, 8)) for i, n in enumerate((queries, 7, 7))
    )

    def both(*arrays):
        y, back = jax.vjp(attention, *arrays)
        return y, back(jnp.cos(y))

    whole = both(q, k, v)
    monkeypatch.setattr(room, "_WHOLE", 16)
    monkeypatch.setattr(room, "_BLOCK", 4)
    for a, b in zip(jax.tree.leaves(both(q, k, v)), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_many_places_need_a_block_s_memory():
    """60,000 places, of a picture of a megapixel: their scores at once would be 14 GB."""
    place = jax.ShapeDtypeStruct((1, 60_000, 1, 64), jnp.float32)
    assert devices.largest_activation(attention, place, place, place) < 300 << 20


@pytest.mark.parametrize(("b", "n", "m", "heads"), [(2, 11, 7, 3), (1, 8, 9, 3)])
def test_head_by_head_equals_the_whole_with_gradients(b, n, m, heads, monkeypatch):
    """Pairs of heads and single ones, a last block of queries that is not full."""
    monkeypatch.setattr(on_cpu, "QUERIES", 4)
    shapes = [(b, rows, heads, 8) for rows in (n, m, m)]
    q, k, v = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes))

    def both(attend):
        y, back = jax.vjp(jax.jit(attend), q, k, v)
        return y, *back(jnp.cos(y))

    def by_heads(q, k, v):
        return on_cpu.attend(q, k, v, room._unmasked)

    for a, b in zip(both(by_heads), both(room._unmasked), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)


def test_many_places_on_a_lone_cpu_go_head_by_head(monkeypatch):
    """Also for the gradient, which then keeps no scores."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    place = jax.ShapeDtypeStruct((1, 4096, 8, 16), jnp.float32)

    def slopes(q, k, v):
        return jax.grad(lambda *a: attention(*a).sum(), argnums=(0, 1, 2))(q, k, v)

    compiled = jax.jit(slopes).lower(place, place, place).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 64 << 20  # the scores: 512 MiB
    few = jax.ShapeDtypeStruct((1, 64, 8, 16), jnp.float32)
    assert not on_cpu.takes(few, few)
    assert not on_cpu.takes(*[jax.ShapeDtypeStruct(place.shape, jnp.bfloat16)] * 2)
