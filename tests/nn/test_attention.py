"""jaxgen.nn.attention: in blocks of queries as at once, in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn import attention as room
from jaxgen.nn.attention import attention
from jaxgen.verbs.memory import largest_activation


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
    assert largest_activation(attention, place, place, place) < 300 << 20
